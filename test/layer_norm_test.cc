// Layer norm and RMS norm against the reference: every length of tail, every way to call, every kind of data, on every target.
#include <sys/mman.h>

#include <initializer_list>
#include <vector>

#include "problem.h"
#include "simdnorm/simdnorm.hpp"

namespace simdnorm_test {
namespace {

constexpr Op kRowOps[] = {Op::kLayerNorm, Op::kRMSNorm};

// Variants that differ only in what RMS norm does not have.
bool IsRedundant(Op op, unsigned variant) { return op == Op::kRMSNorm && (variant & (32 | 64)) != 0; }

Problem RowProblem(Op op, int64_t rows, int64_t cols) {
  Problem p;
  p.op = op;
  p.rows = rows;
  p.cols = cols;
  return p;
}

TEST_CASE("rows of every length up to 200, called in every way") {
  for (const Op op : kRowOps) {
    for (int64_t cols = 1; cols <= 200; ++cols) {
      for (unsigned variant = 0; variant < kNumVariants; ++variant) {
        if (IsRedundant(op, variant)) continue;
        if (SmallEffort() && variant % 32 != static_cast<unsigned>(cols * 13 % 32)) continue;
        CheckProblem(Variant(RowProblem(op, 1 + (cols + variant) % 4, cols), variant));
      }
    }
  }
}

TEST_CASE("rows longer than a chunk") {
  for (const Op op : kRowOps) {
    for (const int64_t cols : {1000, 4095, 4096, 4097, 8192 + 5, 3 * 4096 + 17, 300000}) {
      if (SmallEffort() && cols > 20000) continue;
      for (unsigned variant = 0; variant < kNumVariants; variant += SmallEffort() ? 41 : cols > 20000 ? 25 : 7) {
        CheckProblem(Variant(RowProblem(op, cols > 20000 ? 1 : 3, cols), variant), Executors::kAll);
      }
    }
  }
}

TEST_CASE("long rows whose ends are outliers keep their mean") {
  for (const Op op : kRowOps) {
    for (const int64_t cols : {100, 1000, 4096, 50000}) {
      Problem p = RowProblem(op, 2, cols);
      p.data = Data::kOutlierEnds;
      CheckProblem(p, Executors::kAll);
    }
  }
}

TEST_CASE("rows of y in the gaps between rows of x give the bits of rows apart") {
  ForEachTarget([](const char* target) {
    constexpr int64_t kRows = 5, kCols = 37, kStride = 2 * kCols;
    std::vector<float> dense(kRows * kCols), expected(dense.size()), woven(kRows * kStride);
    for (size_t i = 0; i < dense.size(); ++i) {
      dense[i] = static_cast<float>(i * i % 91);
      woven[i / kCols * kStride + i % kCols] = dense[i];
    }
    simdnorm::Options options;
    options.target = target;
    REQUIRE(simdnorm::LayerNorm(dense.data(), expected.data(), kRows, kCols, {}, options));
    REQUIRE(
        simdnorm::LayerNorm({woven.data(), kRows, kCols, kStride}, {woven.data() + kCols, kRows, kCols, kStride}, {}, options));
    for (size_t i = 0; i < dense.size(); ++i) {
      CHECK(BitsOf(woven[i / kCols * kStride + kCols + i % kCols]) == BitsOf(expected[i]));
      CHECK(woven[i / kCols * kStride + i % kCols] == dense[i]);
    }
  });
}

TEST_CASE("rows more than 2^31 elements apart") {
  constexpr int64_t kStride = (int64_t{1} << 31) + 7, kCols = 100;
  constexpr size_t kBytes = static_cast<size_t>(kStride + kCols) * sizeof(float);
  void* const mapped = SmallEffort()
                           ? MAP_FAILED
                           : mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    MESSAGE("left out: small effort, or no address space for it");
    return;
  }
  float* const x = static_cast<float*>(mapped);
  std::vector<float> dense(2 * kCols), expected(dense.size());
  for (int64_t i = 0; i < 2 * kCols; ++i) dense[i] = x[i / kCols * kStride + i % kCols] = static_cast<float>(i * i % 91);
  CHECK(simdnorm::LayerNorm(dense.data(), expected.data(), 2, kCols));
  CHECK(simdnorm::LayerNorm({x, 2, kCols, kStride}, {x, 2, kCols, kStride}));
  for (int64_t i = 0; i < 2 * kCols; ++i) CHECK(BitsOf(x[i / kCols * kStride + i % kCols]) == BitsOf(expected[i]));
  munmap(mapped, kBytes);
}

TEST_CASE("one to 40 rows") {
  for (const Op op : kRowOps) {
    for (int64_t rows = 1; rows <= 40; ++rows) {
      for (const int64_t cols : {1, 7, 16, 33, 768}) {
        if (SmallEffort() && (rows % 8 != 1 || cols > 33)) continue;
        CheckProblem(Variant(RowProblem(op, rows, cols), static_cast<unsigned>(rows * 5 + cols)));
      }
    }
  }
}

TEST_CASE("rows at every address and at either edge of memory") {
  for (const Op op : kRowOps) {
    for (const bool at_end : {false, true}) {
      for (int64_t offset = 0; offset < 16; ++offset) {
        for (const int64_t cols : {13, 48, 211}) {
          if (SmallEffort() && cols != 48) continue;
          Problem p = RowProblem(op, 3, cols);
          p.x_gap = offset % 3;
          p.y_gap = offset % 5;
          p.in_place = offset % 4 == 3;
          p.place = {at_end, offset};
          CheckProblem(p);
        }
      }
    }
  }
}

TEST_CASE("rows of every kind of data") {
  for (const Op op : kRowOps) {
    for (int data = 0; data < kNumData; ++data) {
      for (const float epsilon : {1e-5f, 1e-12f, 0.0f, 1e30f}) {
        for (const int64_t cols : {1, 2, 15, 64, 200, 768, 5000}) {
          if (SmallEffort() && cols != 64 && cols != 200) continue;
          Problem p = RowProblem(op, 12, cols);
          p.data = static_cast<Data>(data);
          p.epsilon = epsilon;
          CheckProblem(p);
        }
      }
    }
  }
}

TEST_CASE("a negative epsilon counts, and gives NaN below zero") {
  for (const Op op : kRowOps) {
    for (const float epsilon : {-1e-3f, -0.25f, -100.0f, -FLT_MAX}) {
      Problem p = RowProblem(op, 5, 300);
      p.epsilon = epsilon;
      CheckProblem(p);
    }
  }
}

TEST_CASE("a scale or shift that is not finite concerns its own column") {
  for (const Op op : kRowOps) {
    for (const int64_t cols : {7, 16, 50, 5000}) {
      Tensors tensors(RowProblem(op, 3, cols));
      (*tensors.scale)[0] = kInf;
      (*tensors.scale)[cols / 2] = FloatOf(0xFFC00001u);
      if (tensors.shift) {
        (*tensors.shift)[cols - 1] = FloatOf(0x7F800001u);
        (*tensors.shift)[2] = -kInf;
      }
      CheckTensors(tensors);
    }
  }
}

TEST_CASE("a constant row gives its value as mean, variance 0 and exactly shift") {
  ForEachTarget([](const char* target) {
    for (const int64_t cols : {1, 2, 3, 15, 16, 17, 128, 200, 768, 4097, 20000}) {
      if (SmallEffort() && cols > 768) continue;
      for (const float epsilon : {1e-5f, 1e-30f, FLT_MAX}) {
        Problem p = RowProblem(Op::kLayerNorm, 12, cols);
        p.data = Data::kConstant;
        p.epsilon = epsilon;
        Tensors tensors(p);
        tensors.Seal();
        const Outputs outputs = Run(tensors, AllExecutors()[0].Options(target));
        const float rstd = static_cast<float>(1.0 / std::sqrt(static_cast<double>(epsilon)));
        bool exact = true;
        for (int64_t row = 0; row < p.rows; ++row) {
          exact &= BitsOf(outputs.mean[static_cast<size_t>(row)]) == BitsOf(tensors.x[row * cols]);
          exact &= BitsOf(outputs.rstd[static_cast<size_t>(row)]) == BitsOf(rstd);
          exact &= memcmp(&outputs.y[static_cast<size_t>(row * cols)], tensors.shift->data(),
                          sizeof(float) * static_cast<size_t>(cols)) == 0;
        }
        CHECK_MESSAGE(exact, Describe(p, target));
      }
    }
  });
}

TEST_CASE("NaN and Inf change no other row") {
  ForEachTarget([](const char* target) {
    for (const Op op : kRowOps) {
      for (const int64_t cols : {1, 5, 16, 33, 300, 5000}) {
        if (SmallEffort() && cols > 300) continue;
        Problem p = RowProblem(op, 37, cols);
        const Outputs clean = RunSerial(p, target);
        p.data = Data::kNonFinite;
        const Outputs mixed = RunSerial(p, target);
        bool unchanged = true;
        for (int64_t row = 0; row < p.rows; ++row) {
          const size_t begin = static_cast<size_t>(row * cols);
          const bool same = memcmp(&clean.y[begin], &mixed.y[begin], sizeof(float) * static_cast<size_t>(cols)) == 0 &&
                            BitsOf(clean.rstd[static_cast<size_t>(row)]) == BitsOf(mixed.rstd[static_cast<size_t>(row)]);
          unchanged &= same == (row % 5 % 3 == 0);
        }
        CHECK_MESSAGE(unchanged, Describe(p, target));
      }
    }
  });
}

TEST_CASE("no rows or no columns: nothing is written") {
  for (const Op op : kRowOps) {
    for (const Problem& p : {RowProblem(op, 0, 5), RowProblem(op, 5, 0), RowProblem(op, 0, 0)}) {
      const Outputs outputs = RunSerial(p, nullptr);
      for (const auto* statistics : {&outputs.mean, &outputs.rstd}) {
        for (const float value : *statistics) CHECK(BitsOf(value) == kCanary);
      }
    }
  }
}

}  // namespace
}  // namespace simdnorm_test
