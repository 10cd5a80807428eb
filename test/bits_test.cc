// The same call gives the same bits: on every target with fused multiply-add, for any threads, at any place in memory, in any
// company of other rows or channels. One digest of a fixed set of calls stands in this file, so that machines that never meet
// are compared too.
#include <initializer_list>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "digest.h"
#include "mixed_problem.h"
#include "problem.h"

namespace simdnorm_test {
namespace {

// Of Problems() and MixedProblems(), on every target with fused multiply-add. They change only with the order of arithmetic, on
// purpose; that of MixedProblems() with the draws of mixed_problem.h as well.
constexpr uint64_t kDigest = 0x5AF2A43E735D9298;
constexpr uint64_t kMixedDigest = 0x2BCDE646947ABC56;

std::string Hex(uint64_t value) {
  std::ostringstream s;
  s << "0x" << std::uppercase << std::hex << value;
  return s.str();
}

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

// Layer norm and RMS norm with all that they can do, on shapes as above.
std::vector<Problem> MixedProblems() {
  struct Shape {
    int64_t rows, cols, inner;
  };
  std::vector<Problem> problems;
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const Shape& shape : {Shape{5, 16, 1}, {21, 100, 1}, {16, 768, 1}, {2, 4128, 1}, {3, 30, 40}, {2, 300, 17}}) {
      for (uint64_t way = 0; way < 12; ++way) {
        problems.push_back(MixedProblem(op, shape.rows, shape.cols, shape.inner, way));
        problems.back().data = way % 3 == 2 ? Data::kNonFinite : Data::kNormal;
      }
    }
    problems.push_back(MixedProblem(op, 1, 70000, 1, 0));
  }
  return problems;
}

std::string DigestOf(const std::vector<Problem>& problems, const char* target) {
  Digest digest;
  for (const Problem& p : problems) digest.Add(RunSerial(p, target));
  return Hex(digest.value());
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

TEST_CASE("one digest for every target with fused multiply-add") {
  ForEachTarget([](const char* target) {
    if (!HasFusedMultiplyAdd(target)) return;
    CHECK_MESSAGE(DigestOf(Problems(), target) == Hex(kDigest), std::string(target));
    CHECK_MESSAGE(DigestOf(MixedProblems(), target) == Hex(kMixedDigest), std::string(target));
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
