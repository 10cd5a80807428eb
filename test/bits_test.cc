// The same call gives the same bits: on every target with fused multiply-add, for any threads, at any place in memory, in any
// company of other rows or channels. One digest of a fixed set of calls stands in this file, so that machines that never meet
// are compared too.
#include <initializer_list>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "problem.h"

namespace simdnorm_test {
namespace {

// Of Problems(), on every target with fused multiply-add. It changes only with the order of arithmetic, on purpose.
constexpr uint64_t kDigest = 0x5AF2A43E735D9298;

// FNV-1a with 64 bits, over the values' bits from the lowest byte up.
class Digest {
 public:
  void Add(const std::vector<float>& values) {
    for (const float value : values) {
      for (int shift = 0; shift < 32; shift += 8) state_ = (state_ ^ ((BitsOf(value) >> shift) & 0xFF)) * 0x100000001B3u;
    }
  }
  void Add(const Outputs& outputs) {
    for (const auto* values : {&outputs.y, &outputs.mean, &outputs.rstd, &outputs.running_mean, &outputs.running_variance}) {
      Add(*values);
    }
  }
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 0xCBF29CE484222325u;
};

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

// Each way through the library at least once: lengths below and above a vector, a strip, a block, a chunk and a group of
// chunks, few and many items, f32 and the fallback to double.
std::vector<Problem> Problems() {
  return ProblemsOf({Data::kNormal, Data::kMeanMillion, Data::kHuge, Data::kNonFinite, Data::kConstant},
                    {{3, 1}, {5, 16}, {21, 100}, {17, 768}, {3, 4099}, {1, 70000}},
                    {{3, 5, 7}, {2, 17, 49}, {40, 33, 1}, {2, 3, 5000}, {1, 2, 20000}});
}

uint64_t DigestOf(const char* target) {
  Digest digest;
  for (const Problem& p : Problems()) digest.Add(RunSerial(p, target));
  return digest.value();
}

// Large enough that every executor splits them, by rows, channels, chunks of a long row or channel, or rows of channels.
std::vector<Problem> LargeProblems() {
  const std::vector<RowShape> shapes = SmallEffort() ? std::vector<RowShape>{{80, 500}, {1, 40009}}
                                                     : std::vector<RowShape>{{300, 500}, {2, 100003}, {1, 500009}};
  const std::vector<BatchShape> batch_shapes = SmallEffort()
                                                   ? std::vector<BatchShape>{{3, 2, 7001}}
                                                   : std::vector<BatchShape>{{3, 2, 30001}, {1, 1, 300007}, {5, 70, 400}};
  return ProblemsOf({Data::kNormal}, shapes, batch_shapes);
}

TEST_CASE("one digest for every target with fused multiply-add") {
  ForEachTarget([](const char* target) {
    if (!HasFusedMultiplyAdd(target)) return;
    const uint64_t digest = DigestOf(target);
    std::ostringstream gives;
    gives << target << " gives 0x" << std::uppercase << std::hex << digest;
    CHECK_MESSAGE(digest == kDigest, gives.str());
  });
}

TEST_CASE("the digest sees the last bit of a single lane") {
  Problem p;
  p.rows = 3, p.cols = 100;
  Outputs outputs = RunSerial(p, nullptr);
  Digest before;
  before.Add(outputs);
  for (const size_t lane : {0, 16, 99, 100, 299}) {
    Outputs changed = outputs;
    changed.y[lane] = FloatOf(BitsOf(changed.y[lane]) ^ 1);
    Digest after;
    after.Add(changed);
    CHECK(after.value() != before.value());
    CHECK_FALSE(SameBits(changed, outputs));
  }
}

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
    for (const Problem& shape : Problems()) {
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
    for (const Problem& together : Problems()) {
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
