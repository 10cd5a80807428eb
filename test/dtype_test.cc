// Layer norm and RMS norm in every dtype: within f32's error bound and half a unit in the last place, and bit for bit what the
// f32 call gives for x widened before and y rounded after.
#include <initializer_list>

#include "problem.h"
#include "unfused.h"

namespace simdnorm_test {
namespace {

struct Dtypes {
  simdnorm_dtype x, y, scale;
};

std::vector<Dtypes> AllDtypes() {
  std::vector<Dtypes> all;
  for (const simdnorm_dtype x : kFloatDtypes) {
    for (const simdnorm_dtype y : kFloatDtypes) {
      for (const simdnorm_dtype scale : kFloatDtypes) all.push_back({x, y, scale});
    }
  }
  return all;
}

Problem DtypeProblem(Op op, const Dtypes& dtypes, int64_t rows, int64_t cols) {
  Problem p;
  p.op = op;
  p.rows = rows;
  p.cols = cols;
  p.x_dtype = dtypes.x;
  p.y_dtype = dtypes.y;
  p.scale_dtype = dtypes.scale;
  return p;
}

// As Variant, but only dtypes of the same size can be in place.
Problem DtypeVariant(const Problem& problem, unsigned variant) {
  Problem p = Variant(problem, variant);
  p.in_place = p.in_place && UnitBytes(p.x_dtype) == UnitBytes(p.y_dtype);
  return p;
}

void Check(const Problem& p, Executors executors = Executors::kInTurn) {
  CheckProblem(p, executors);
  CheckUnfused(p, executors);
}

TEST_CASE("all 65536 patterns of 16 bits are read and rounded as they stand") {
  for (const simdnorm_dtype dtype : {SIMDNORM_BF16, SIMDNORM_F16}) {
    const GuardedBuffer buffer(1, {}, dtype);
    bool same = true;
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
      const uint16_t pattern = static_cast<uint16_t>(bits);
      memcpy(buffer.raw(), &pattern, sizeof(pattern));
      const float value = buffer.Get(0);
      buffer.Set(0, value);
      same &= std::isnan(value) ? std::isnan(buffer.Get(0))
                                : memcmp(buffer.raw(), &pattern, sizeof(pattern)) == 0 && Rounded(value, dtype) == value;
    }
    CHECK_MESSAGE(same, std::string(DtypeName(dtype)));
  }
  // Ties go to even, and beyond the largest number there is half a step to Inf.
  CHECK(Rounded(1 + 0x1p-8f, SIMDNORM_BF16) == 1);
  CHECK(Rounded(1 + 0x3p-8f, SIMDNORM_BF16) == 1 + 0x2p-7f);
  CHECK(Rounded(65519.99f, SIMDNORM_F16) == 65504);
  CHECK(std::isinf(Rounded(65520, SIMDNORM_F16)));
  CHECK(Rounded(0x1p-25f, SIMDNORM_F16) == 0);
  CHECK(Rounded(0x1.8p-25f, SIMDNORM_F16) == 0x1p-24f);
}

TEST_CASE("rows of every length up to 200 in all dtypes") {
  unsigned variant = 0;
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (int64_t cols = 1; cols <= 200; ++cols) {
      for (const Dtypes& dtypes : AllDtypes()) {
        variant = (variant + 29) % kNumVariants;
        if (SmallEffort() && variant % 27 != static_cast<unsigned>(cols % 27)) continue;
        Check(DtypeVariant(DtypeProblem(op, dtypes, 1 + (cols + variant) % 3, cols), variant));
      }
    }
  }
}

TEST_CASE("rows near the borders of chunks in all dtypes, on all executors") {
  unsigned variant = 0;
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const int64_t cols : {1000, 4095, 4096, 4097, 8191, 8192 + 5, 40000}) {
      if (SmallEffort() && cols != 4097) continue;
      for (const Dtypes& dtypes : AllDtypes()) {
        variant = (variant + 29) % kNumVariants;
        if (variant % (cols > 9000 ? 9 : SmallEffort() ? 13 : 3) != 0) continue;
        Check(DtypeVariant(DtypeProblem(op, dtypes, cols > 9000 ? 1 : 3, cols), variant), Executors::kAll);
      }
    }
  }
}

TEST_CASE("many rows in all dtypes, on all executors") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const Dtypes& dtypes : AllDtypes()) {
      if (SmallEffort() || dtypes.scale != dtypes.x) continue;
      Check(DtypeProblem(op, dtypes, 40, 768), Executors::kAll);
    }
  }
}

TEST_CASE("rows of 16-bit elements at every address and at either edge of memory") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const Dtypes& dtypes :
         {Dtypes{SIMDNORM_BF16, SIMDNORM_F16, SIMDNORM_BF16}, Dtypes{SIMDNORM_F16, SIMDNORM_BF16, SIMDNORM_F16}}) {
      for (const bool at_end : {false, true}) {
        for (int64_t offset = 0; offset < 16; ++offset) {
          for (const int64_t cols : {13, 48, 211}) {
            if (SmallEffort() && cols != 48) continue;
            Problem p = DtypeProblem(op, dtypes, 3, cols);
            p.x_gap = offset % 3;
            p.y_gap = offset % 5;
            p.in_place = offset % 4 == 3;
            p.place = {at_end, offset};
            CheckUnfused(p);
          }
        }
      }
    }
  }
}

TEST_CASE("every kind of data in all dtypes") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (int data = 0; data < kNumData; ++data) {
      for (const Dtypes& dtypes : AllDtypes()) {
        for (const int64_t cols : {15, 64, 300}) {
          if (dtypes.scale != dtypes.y || (SmallEffort() && cols != 64)) continue;
          Problem p = DtypeProblem(op, dtypes, 12, cols);
          p.data = static_cast<Data>(data);
          p.epsilon = cols == 64 ? 1e-12f : 1e-5f;
          Check(p);
        }
      }
    }
  }
}

TEST_CASE("NaN of every sign and payload, of x and of parameters") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const Dtypes& dtypes : AllDtypes()) {
      for (const uint32_t bits : kNaNs) {
        for (const int64_t inner : {1, 20}) {
          Problem p = DtypeProblem(op, dtypes, 3, 70);
          p.inner = inner;
          p.in_place = UnitBytes(dtypes.x) == UnitBytes(dtypes.y);
          Tensors tensors(p);
          tensors.x.Set(100, FloatOf(bits));
          tensors.scale->Set(7, FloatOf(bits));
          tensors.scale->Set(69, FloatOf(bits));
          if (tensors.shift) tensors.shift->Set(33, FloatOf(bits));
          CheckTensorsUnfused(tensors);
        }
      }
    }
  }
}

TEST_CASE("results beyond a dtype's range become Inf, and subnormal ones stay") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const simdnorm_dtype y : {SIMDNORM_BF16, SIMDNORM_F16}) {
      for (const float scale : {0x1.fep127f, 1e5f, 30000.0f, 1e-5f, 1e-7f, 1e-38f, 1e-40f}) {
        Tensors tensors(DtypeProblem(op, {SIMDNORM_F32, y, SIMDNORM_F32}, 4, 100));
        for (int64_t c = 0; c < 100; ++c) (*tensors.scale)[c] = scale * (1 + 0x1p-9f * static_cast<float>(c));
        if (tensors.shift) {
          for (int64_t c = 0; c < 100; ++c) (*tensors.shift)[c] = 0;
        }
        CheckTensorsUnfused(tensors);
      }
    }
  }
}

}  // namespace
}  // namespace simdnorm_test
