// The same call gives the same bits: on every target with fused multiply-add, for any threads, at any place in memory, in any
// company of other rows or channels. digests.txt holds digests of a fixed set of calls (tools/digest.cc), so that machines that
// never meet are compared too.
#include <algorithm>
#include <fstream>
#include <initializer_list>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "channel_problem.h"
#include "digest.h"
#include "mixed_problem.h"
#include "problem.h"

namespace simdnorm_test {
namespace {

struct RowShape {
  int64_t rows, cols;
};
struct BatchShape {
  int64_t batch, channels, spatial;
};

// All operations, in both layouts, on all shapes and kinds of data.
std::vector<Problem> ProblemsOf(const std::vector<Data>& kinds, const std::vector<RowShape>& shapes,
                                const std::vector<BatchShape>& batch_shapes) {
  std::vector<Problem> problems;
  for (const Data data : kinds) {
    for (const Op op : kAllOps) {
      Problem p;
      p.op = op;
      p.data = data;
      if (!p.IsBatchNorm()) {
        for (const RowShape& shape : shapes) {
          p.rows = shape.rows, p.cols = shape.cols;
          problems.push_back(p);
        }
        continue;
      }
      for (const BatchShape& shape : batch_shapes) {
        p.batch = shape.batch, p.channels = shape.channels, p.spatial = shape.spatial;
        for (const simdnorm_layout layout : {SIMDNORM_NCHW, SIMDNORM_NHWC}) {
          p.layout = layout;
          problems.push_back(p);
        }
      }
    }
  }
  return problems;
}

// Each way through the library at least once: lengths below and above a vector, a strip, a block, a chunk and a section
// of chunks, few and many items, f32 and the fallback to double.
std::vector<Problem> Problems() {
  return ProblemsOf({Data::kNormal, Data::kMeanMillion, Data::kHuge, Data::kNonFinite, Data::kConstant},
                    {{3, 1}, {5, 16}, {21, 100}, {17, 768}, {3, 4099}, {1, 70000}},
                    {{3, 5, 7}, {2, 17, 49}, {40, 33, 1}, {2, 3, 5000}, {1, 2, 20000}});
}

// The same, and rows in 16 bits.
std::vector<Problem> ProblemsInAllDtypes() {
  std::vector<Problem> problems = Problems();
  for (const Problem& p : Problems()) {
    for (const simdnorm_dtype dtype : {SIMDNORM_BF16, SIMDNORM_F16}) {
      if (p.IsBatchNorm()) continue;
      problems.push_back(p);
      problems.back().x_dtype = problems.back().y_dtype = dtype;
    }
  }
  return problems;
}

// Large enough that every executor splits them, by rows, channels, chunks of a long row or channel, or rows of channels.
std::vector<Problem> LargeProblems() {
  const std::vector<RowShape> shapes = SmallEffort() ? std::vector<RowShape>{{80, 500}, {1, 40009}}
                                                     : std::vector<RowShape>{{300, 500}, {2, 100003}, {1, 500009}};
  const std::vector<BatchShape> batch_shapes = SmallEffort()
                                                   ? std::vector<BatchShape>{{3, 2, 7001}}
                                                   : std::vector<BatchShape>{{3, 2, 30001}, {1, 1, 300007}, {5, 70, 400}};
  std::vector<Problem> problems = ProblemsOf({Data::kNormal}, shapes, batch_shapes);
  const auto fused = [&](Op op, int64_t rows, int64_t cols, simdnorm_dtype y_dtype, bool after) {
    Problem p;
    p.op = op, p.rows = rows, p.cols = cols;
    p.x_dtype = p.residual_dtype = p.h_dtype = SIMDNORM_BF16;
    p.y_dtype = y_dtype;
    p.residual = p.h = true;
    p.residual_order = after ? SIMDNORM_RESIDUAL_AFTER : SIMDNORM_RESIDUAL_BEFORE;
    p.activation = after ? SIMDNORM_NO_ACTIVATION : SIMDNORM_SILU;
    problems.push_back(p);
  };
  fused(Op::kLayerNorm, 80, 500, SIMDNORM_BF16, true);
  fused(Op::kRMSNorm, 80, 512, SIMDNORM_Q8_0, false);
  fused(Op::kLayerNorm, 1, 70016, SIMDNORM_Q8_0, true);
  fused(Op::kRMSNorm, 1, 70009, SIMDNORM_I8, false);
  problems.push_back(MixedProblem(Op::kLayerNorm, 3, 40, 300, 0));
  return problems;
}

// --- Digests ---

// digests.txt is what `simdnorm digest` prints. It changes only when the order of arithmetic does, on purpose, or the calls.
std::vector<std::string> StoredLines() {
  std::ifstream file(SIMDNORM_TEST_DIGESTS);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::string NameOf(const std::string& line) { return line.substr(0, line.find(' ')); }

// "", or in what these lines are not the stored ones of the same groups.
std::string LineDifferences(const std::vector<std::string>& stored, const std::vector<std::string>& lines) {
  std::string differences;
  for (const std::string& line : lines) {
    const auto same_name = [&](const std::string& other) { return NameOf(other) == NameOf(line); };
    const auto found = std::find_if(stored.begin(), stored.end(), same_name);
    if (found == stored.end()) {
      differences += line + " is not stored; ";
    } else if (*found != line) {
      differences += line + " should be" + found->substr(NameOf(line).size()) + "; ";
    }
  }
  return differences;
}

// The large groups, or the others; in an emulator those that have something of everything. (`simdnorm digest` runs them all.)
std::vector<digest::Group> GroupsToRun(bool large) {
  std::vector<digest::Group> groups;
  for (const digest::Group& group : digest::Groups()) {
    const bool of_the_few = group.name.find("/tails") != std::string::npos || group.name.find("mixed") != std::string::npos;
    if (group.is_large == large && (!SmallEffort() || of_the_few)) groups.push_back(group);
  }
  return groups;
}

template <class Test>
void ForEachTargetWithFusedMultiplyAdd(const Test& test) {
  ForEachTarget([&](const char* target) {
    if (HasFusedMultiplyAdd(target)) test(target);
  });
}

TEST_CASE("digests: a line is stored for each group, in order") {
  std::vector<std::string> stored, names;
  for (const std::string& line : StoredLines()) stored.push_back(NameOf(line));
  for (const digest::Group& group : digest::Groups()) {
    names.push_back(group.name);
    CHECK(group.name.find_first_of(" \n") == std::string::npos);
  }
  CHECK(stored == names);
  std::sort(names.begin(), names.end());
  CHECK(std::adjacent_find(names.begin(), names.end()) == names.end());
}

TEST_CASE("digests: every target with fused multiply-add gives the stored lines") {
  const std::vector<std::string> stored = StoredLines();
  ForEachTargetWithFusedMultiplyAdd([&](const char* target) {
    for (const digest::Group& group : GroupsToRun(false)) {
      const std::string differences = LineDifferences(stored, {digest::Line(group, AllExecutors()[0].Options(target))});
      CHECK_MESSAGE(differences.empty(), std::string(target) << ": " << differences);
    }
  });
}

TEST_CASE("digests: calls that are split give the stored lines for any executor and number of threads") {
#ifdef _OPENMP
  const int threads_before = omp_get_max_threads();
  omp_set_num_threads(8);
#endif
  const std::vector<std::string> stored = StoredLines();
  size_t next = 0;
  ForEachTargetWithFusedMultiplyAdd([&](const char* target) {
    for (const digest::Group& group : GroupsToRun(true)) {
      const auto check = [&](const ExecutorCase& executor, int32_t max_threads) {
        simdnorm_options options = executor.Options(target);
        options.max_threads = max_threads;
        const std::string differences = LineDifferences(stored, {digest::Line(group, options)});
        CHECK_MESSAGE(differences.empty(), std::string(target)
                                               << ", " << executor.name << ", " << max_threads << " threads: " << differences);
      };
      CountingPool counting;
      check({"counting pool", CountingPool::ParallelFor, &counting, 0}, 8);
      CHECK_MESSAGE(counting.most_tasks >= 5, group.name);
      EagerPool eager;
      const ExecutorCase pools[] = {{"late pool", LatePool, nullptr, 0}, {"eager pool", EagerPool::ParallelFor, &eager, 0}};
      constexpr int32_t kThreads[] = {2, 3, 5, 8};
      for (const ExecutorCase& pool : pools) check(pool, kThreads[next++ % 4]);
      if (SmallEffort()) continue;
      for (const int32_t max_threads : {1, 2, 3, 5, 8}) check({"default", nullptr, nullptr, 0}, max_threads);
    }
  });
#ifdef _OPENMP
  omp_set_num_threads(threads_before);
#endif
}

// Their inputs are made of integers, so that the environment has no part in those either.
TEST_CASE("digests: the caller's floating-point environment changes none, and stays") {
  const std::vector<std::string> stored = StoredLines();
  ForEachTargetWithFusedMultiplyAdd([&](const char* target) {
    for (const digest::Group& group : GroupsToRun(false)) {
      std::string line;
      bool stays = false;
      {
        const UnusualFloatEnvironment environment;
        line = digest::Line(group, AllExecutors()[0].Options(target));
        stays = environment.IsStillSet();
      }
      const std::string differences = LineDifferences(stored, {line});
      CHECK_MESSAGE(differences.empty(), std::string(target) << ": " << differences);
      CHECK_MESSAGE(stays, std::string(target) << ": " << group.name);
    }
  });
}

TEST_CASE("digests: the last bit of a single lane of any output changes the line") {
  const std::vector<std::string> stored = StoredLines();
  for (const std::string name :
       {"layer-norm/f32/tails", "rms-norm/bf16/h-rounded", "layer-norm/f16/i8-rows", "rms-norm/f32/q8_0",
        "batch-norm-training/f32/nhwc/chunks", "group-norm/f32/nchw/tails", "fold-batch-norm/f32/following"}) {
    CAPTURE(name);
    const auto of_that_name = [&](const digest::Group& group) { return group.name == name; };
    const auto group = std::find_if(digest::Groups().begin(), digest::Groups().end(), of_that_name);
    REQUIRE(group != digest::Groups().end());
    // The line if the last bit of one output's first or last lane is flipped; no output has the number -1.
    int64_t outputs = 0;
    const auto line_with_flip = [&](int64_t output_to_change, bool last_lane) {
      digest::Hash hash;
      outputs = 0;
      group->run(AllExecutors()[0].Options(nullptr), [&](void* output, size_t bytes) {
        if (outputs++ == output_to_change) static_cast<unsigned char*>(output)[last_lane ? (bytes - 1) / 4 * 4 : 0] ^= 1;
        hash.Add(output, bytes);
      });
      return digest::Line(*group, hash);
    };
    const std::string as_it_is = line_with_flip(-1, false);
    if (HasFusedMultiplyAdd(simdnorm_targets()[0])) CHECK(LineDifferences(stored, {as_it_is}) == "");
    const int64_t count = outputs;
    for (const int64_t output : {int64_t{0}, int64_t{1}, count / 2, count - 1}) {
      for (const bool last_lane : {false, true}) {
        const std::string differences = LineDifferences({as_it_is}, {line_with_flip(output, last_lane)});
        CHECK(differences.find(name) == 0);
      }
    }
  }
}

TEST_CASE("digests: a wrong line or an unknown name is a difference") {
  const std::vector<std::string> stored = {"a/b 0123456789abcdef", "a/bc fedcba9876543210"};
  CHECK(LineDifferences(stored, stored) == "");
  CHECK(LineDifferences(stored, {"a/bc fedcba9876543210"}) == "");
  CHECK(LineDifferences(stored, {"a/b 0123456789abcdee"}) == "a/b 0123456789abcdee should be 0123456789abcdef; ");
  CHECK(LineDifferences(stored, {"a/b fedcba9876543210"}) != "");
  CHECK(LineDifferences(stored, {"a/ 0123456789abcdef"}) == "a/ 0123456789abcdef is not stored; ");
}

// --- The same call in other ways ---

TEST_CASE("bits do not depend on executor or number of threads") {
#ifdef _OPENMP
  const int threads_before = omp_get_max_threads();
  omp_set_num_threads(8);
#endif
  ForEachTarget([](const char* target) {
    for (const Problem& p : LargeProblems()) {
      Tensors tensors(p);
      tensors.Seal();
      const Outputs serial = Run(tensors, AllExecutors()[0].Options(target));
      for (const ExecutorCase& executor : AllExecutors()) {
        for (const int32_t max_threads : {2, 3, 5, 8}) {
          if (SmallEffort() && max_threads != 3) continue;
          simdnorm_options options = executor.Options(target);
          options.max_threads = max_threads;
          CHECK_MESSAGE(SameBits(Run(tensors, options), serial), Describe(p, target, executor.name)
                                                                     << ", " << max_threads << " threads");
        }
      }
    }
  });
#ifdef _OPENMP
  omp_set_num_threads(threads_before);
#endif
}

TEST_CASE("bits do not depend on addresses, strides and working in place") {
  ForEachTarget([](const char* target) {
    for (const Problem& shape : ProblemsInAllDtypes()) {
      if (shape.Elements() > (SmallEffort() ? 1000 : 20000)) continue;
      const Outputs expected = RunSerial(shape, target);
      for (unsigned way = 1; way < 8; ++way) {
        Problem p = shape;
        p.in_place = (way & 1) != 0;
        p.x_gap = (way & 2) != 0 ? 5 : 0;
        p.y_gap = (way & 2) != 0 ? 9 : 0;
        p.place = {(way & 4) != 0, way};
        CHECK_MESSAGE(SameBits(RunSerial(p, target), expected), Describe(p, target));
      }
    }
  });
}

TEST_CASE("outputs that are left out change no bit of the others") {
  ForEachTarget([](const char* target) {
    for (const Problem& shape : Problems()) {
      if (shape.Elements() > (SmallEffort() ? 1000 : 20000)) continue;
      Problem p = shape;
      p.mean = p.rstd = p.running = false;
      CHECK_MESSAGE(SameBits(RunSerial(p, target).y, RunSerial(shape, target).y), Describe(p, target));
    }
  });
}

TEST_CASE("a row or channel alone has the bits it has among others") {
  ForEachTarget([](const char* target) {
    for (const Problem& together : ProblemsInAllDtypes()) {
      if (together.Elements() > (SmallEffort() ? 1000 : 20000)) continue;
      const Outputs all = RunSerial(together, target);
      for (int64_t item = 0; item < together.Items(); ++item) {
        Problem p = together;
        (p.IsBatchNorm() ? p.channels : p.rows) = 1;
        p.first_item = item;
        const Outputs alone = RunSerial(p, target);
        bool same = true;
        const auto same_item = [&](const std::vector<float>& a, const std::vector<float>& b) {
          same &= a.size() == (b.empty() ? 0u : 1u) && (a.empty() || BitsOf(a[0]) == BitsOf(b[static_cast<size_t>(item)]));
        };
        same_item(alone.mean, all.mean);
        same_item(alone.rstd, all.rstd);
        same_item(alone.running_mean, all.running_mean);
        same_item(alone.running_variance, all.running_variance);
        // The alone item's values are in the order of j.
        Tensors(together).ForEachElement([&](int64_t i, int64_t j, int64_t, int64_t at) {
          if (i == item) same &= BitsOf(alone.y[static_cast<size_t>(j)]) == BitsOf(all.y[static_cast<size_t>(at)]);
        });
        CHECK_MESSAGE(same, Describe(p, target) << ", item " << item);
      }
    }
  });
}

// Of a problem, the channels of one group: of one channel, where each has its own statistics.
ChannelProblem OneGroup(const ChannelProblem& p, int64_t group) {
  ChannelProblem one = p;
  one.channels = p.ChannelsPerGroup();
  one.groups = 1;
  const int64_t first = group * one.channels;
  one.x.clear();
  for (int64_t n = 0; n < p.batch; ++n) {
    const auto begin = p.x.begin() + static_cast<int64_t>(p.At(n, first, 0));
    one.x.insert(one.x.end(), begin, begin + one.channels * p.spatial);
  }
  const auto cut = [&](std::vector<float>* values) {
    if (!values->empty()) *values = {values->begin() + first, values->begin() + first + one.channels};
  };
  for (std::vector<float>* values : {&one.scale, &one.shift, &one.given_mean, &one.given_variance, &one.running_mean})
    cut(values);
  cut(&one.running_variance);
  return one;
}

// What OneGroup's call has to write, out of what the whole problem's wrote.
Outputs OneGroup(const Outputs& outputs, const ChannelProblem& p, int64_t group) {
  ChannelProblem y = p;
  y.x = outputs.y;
  Outputs one;
  one.y = OneGroup(y, group).x;
  const auto pick = [&](const std::vector<float>& values, std::vector<float>* picked) {
    for (size_t i = static_cast<size_t>(group); i < values.size(); i += static_cast<size_t>(p.Groups()))
      picked->push_back(values[i]);
  };
  pick(outputs.mean, &one.mean);
  pick(outputs.rstd, &one.rstd);
  pick(outputs.running_mean, &one.running_mean);
  pick(outputs.running_variance, &one.running_variance);
  return one;
}

TEST_CASE("channels and groups of any dtype: the same bits at any address, in place, and alone") {
  ForEachTarget([](const char* target) {
    for (const ChannelOp op : kChannelOps) {
      for (const simdnorm_layout layout : LayoutsOf(op)) {
        for (const simdnorm_dtype dtype : kFloatDtypes) {
          for (const ChannelShape& shape : {ChannelShape{3, 34, 9, 17}, {5, 6, 1, 3}, {2, 20, 300, 4}, {1, 3, 4500, 1}}) {
            if (shape.Elements() > (SmallEffort() ? 1000 : 20000)) continue;
            const ChannelProblem p =
                WithDtypes(MakeProblem(op, shape, layout, shape.spatial == 9 ? Data::kNonFinite : Data::kNormal),
                           {dtype, dtype, SIMDNORM_F32, SIMDNORM_F32});
            const Outputs expected = RunSerial(p, target);
            for (int64_t offset = 1; offset < 8; ++offset) {
              ChannelProblem moved = p;
              moved.place = {offset % 2 == 0, offset};
              if (offset % 3 == 0) moved.onto = Onto::kX;
              CHECK_MESSAGE(SameBits(RunSerial(moved, target), expected), Describe(moved, target));
            }
            for (const int64_t group : {int64_t{0}, p.Groups() / 2, p.Groups() - 1}) {
              const std::string differences = Differences(OneGroup(expected, p, group), RunSerial(OneGroup(p, group), target));
              CHECK_MESSAGE(differences.empty(), differences << Describe(p, target) << ", group " << group << " alone");
            }
          }
        }
      }
    }
  });
}

TEST_CASE("with one value for each sample and channel both layouts give the same bits") {
  ForEachTarget([](const char* target) {
    for (const Op op : {Op::kBatchNormInference, Op::kBatchNormTraining}) {
      for (const int64_t batch : {2, 40, 300, 5000}) {
        Problem p;
        p.op = op;
        p.batch = batch;
        p.channels = 19;
        const Outputs nchw = RunSerial(p, target);
        p.layout = SIMDNORM_NHWC;
        CHECK_MESSAGE(SameBits(RunSerial(p, target), nchw), Describe(p, target));
      }
    }
  });
}

TEST_CASE("the caller's floating-point environment changes nothing and stays") {
  size_t next_executor = 0;
  ForEachTarget([&](const char* target) {
    for (const Data data : {Data::kNormal, Data::kSubnormal}) {
      for (Problem p : LargeProblems()) {
        p.data = data;
        Tensors tensors(p);
        tensors.Seal();
        const Outputs expected = Run(tensors, AllExecutors()[0].Options(target));
        const ExecutorCase& executor = AllExecutors()[next_executor++ % AllExecutors().size()];
        bool stays = false, same = false;
        {
          const UnusualFloatEnvironment environment;
          same = SameBits(Run(tensors, executor.Options(target)), expected);
          stays = environment.IsStillSet();
        }
        CHECK_MESSAGE(same, Describe(p, target, executor.name));
        CHECK_MESSAGE(stays, Describe(p, target, executor.name));
      }
    }
  });
}

}  // namespace
}  // namespace simdnorm_test
