// simd/quantize-inl.h, on every target, against scalar code: ties, saturation, zero points, NaN and Inf, factors at both ends
// of f32's range and of f16's, spans of every length.
#include <stdint.h>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quantize_test.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "simd/quantize-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm_test {
namespace HWY_NAMESPACE {
using namespace simdnorm::HWY_NAMESPACE;
// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm_test
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <float.h>
#include <math.h>

#include <string>
#include <vector>

#include "all_targets.h"
#include "buffers.h"
#include "doctest/doctest.h"
#include "dtypes.h"
#include "problem.h"
#include "target.h"
#include "unfused.h"
#include "values.h"

namespace simdnorm_test {
namespace {

HWY_EXPORT(MaxAbsBits);
HWY_EXPORT(DynamicScale);
HWY_EXPORT(QuantizeStatic);
HWY_EXPORT(QuantizeDynamic);
HWY_EXPORT(QuantizeQ8_0);

constexpr uint32_t kOneNaN = 0x7FC00000u;
constexpr int64_t kLongest = 70;

// Calls test(index) for each target, index being its place in the tables.
template <class Test>
void ForEachIndex(const Test& test) {
  ForEachTarget([&](const char* target) {
    CAPTURE(std::string(target));
    size_t index = 0;
    REQUIRE(simdnorm::FindTarget(target, &index));
    test(index);
  });
}

// Spans that differ in what is hard about them.
enum Span {
  kNormal,
  kTies,
  kZeros,
  kOneNumber,
  kWithNaN,
  kWithInf,
  kNearFltMax,
  kSubnormal,
  kSmallest,
  kFactorIsInfInF16,
  kFactorIsSubnormalInF16,
  kFactorIsZeroInF16
};
constexpr int kNumSpans = kFactorIsZeroInF16 + 1;

float ValueOf(int span, int64_t i, int64_t n) {
  const float normal = Normal(static_cast<uint64_t>(1000 * span + i));
  switch (span) {
    case kTies:
      return static_cast<float>(i == 0 ? 127 : i % 128 - 64) * 0.5f;
    case kZeros:
      return i % 2 == 0 ? 0.0f : -0.0f;
    case kOneNumber:
      return i == n / 2 ? normal : 0;
    case kWithNaN:
      return i == n - 1 ? FloatOf(kNaNs[n % 6]) : normal;
    case kWithInf:
      return i == n / 3 ? -kInf : normal;
    case kNearFltMax:
      return i % 3 == 0 ? -FLT_MAX : normal * 1e37f;
    case kSubnormal:
      return normal * 1e-40f;
    case kSmallest:  // a 127th of the largest is 1 of the smallest numbers, or 0
      return static_cast<float>(Mix(static_cast<uint64_t>(i)) % (n % 2 == 0 ? 191 : 64)) * 0x1p-149f;
    case kFactorIsInfInF16:
      return normal * 8e6f;
    case kFactorIsSubnormalInF16:
      return normal * 1e-4f;
    case kFactorIsZeroInF16:
      return normal * 1e-6f;
    default:
      return normal;
  }
}

// The span in memory that cannot be written, next to a page that cannot be read.
class Input {
 public:
  Input(int span, int64_t n, bool at_end) : buffer_(n, {at_end, 0}) {
    for (int64_t i = 0; i < n; ++i) buffer_[i] = ValueOf(span, i, n);
    buffer_.MakeReadOnly();
  }
  const float* data() const { return buffer_.data(); }
  float operator[](int64_t i) const { return buffer_[i]; }

 private:
  GuardedBuffer buffer_;
};

// Calls test(span, n, at_end) for spans of all kinds and lengths, at the start and at the end of a page in turn.
template <class Test>
void ForEachSpan(const Test& test) {
  for (int span = 0; span < kNumSpans; ++span) {
    for (int64_t n = 0; n <= kLongest; ++n) {
      CAPTURE(span);
      CAPTURE(n);
      test(span, n, (span + n) % 2 == 0);
    }
  }
}

// How many of the n integers are not expected(i).
template <class Expected>
int64_t Different(const GuardedBuffer& y, const Expected& expected) {
  int64_t different = 0;
  for (int64_t i = 0; i < y.size(); ++i) different += y.Get(i) != expected(i);
  return different;
}

float Static(float v, float scale, int32_t zero_point, simdnorm_dtype dtype) {
  const double low = dtype == SIMDNORM_I8 ? -128 : 0;
  return isnan(v) ? static_cast<float>(zero_point) : ClampedRound(v / scale, zero_point, low, low + 255);
}

float Dynamic(float v, float scale) { return scale > 0 && !isnan(v) ? ClampedRound(v / scale, 0, -127, 127) : 0.0f; }

TEST_CASE("the largest |v|, wherever it is") {
  ForEachIndex([](size_t index) {
    const auto max_abs_bits = HWY_DISPATCH_TABLE(MaxAbsBits)[index];
    for (int64_t n = 0; n <= kLongest; ++n) {
      GuardedBuffer v(n, {n % 2 == 0, 0});
      for (int64_t i = 0; i < n; ++i) v[i] = Normal(static_cast<uint64_t>(i));
      for (int64_t at = 0; at < n; ++at) {
        const float before = v[at];
        v[at] = at % 2 == 0 ? 17.0f : -17.0f;
        CHECK(max_abs_bits(v.data(), n, 0) == BitsOf(17.0f));
        CHECK(max_abs_bits(v.data(), n, BitsOf(16.0f)) == BitsOf(17.0f));
        CHECK(max_abs_bits(v.data(), n, BitsOf(18.0f)) == BitsOf(18.0f));
        v[at] = before;
      }
      CHECK(max_abs_bits(v.data(), n, 0x7FC00000u) == 0x7FC00000u);
    }
    CHECK(max_abs_bits(nullptr, 0, 5) == 5);
    const std::vector<float> zeros = {0, -0.0f}, infinite = {FLT_MAX, -kInf}, nan = {kInf, FloatOf(0xFF800001u)};
    CHECK(max_abs_bits(zeros.data(), 2, 0) == 0);
    CHECK(max_abs_bits(infinite.data(), 2, 0) == BitsOf(kInf));
    CHECK(max_abs_bits(nan.data(), 2, 0) == 0x7F800001u);
  });
}

TEST_CASE("factors") {
  ForEachIndex([](size_t index) {
    const auto factor = [&](uint32_t bits) { return BitsOf(HWY_DISPATCH_TABLE(DynamicScale)[index](bits)); };
    CHECK(factor(0) == 0);
    CHECK(factor(BitsOf(127)) == BitsOf(1));
    CHECK(factor(BitsOf(0.3f)) == BitsOf(0.3f / 127));
    CHECK(factor(BitsOf(FLT_MAX)) == BitsOf(FLT_MAX / 127));
    CHECK(factor(63) == 0);  // subnormal
    CHECK(factor(64) == 1);
    CHECK(factor(BitsOf(kInf)) == kOneNaN);
    for (const uint32_t nan : kNaNs) CHECK(factor(nan & 0x7FFFFFFFu) == kOneNaN);
  });
}

TEST_CASE("one factor and zero point") {
  struct Quantizer {
    simdnorm_dtype dtype;
    float scale;
    int32_t zero_point;
  };
  constexpr Quantizer kQuantizers[] = {
      {SIMDNORM_I8, 0.02f, 0},     {SIMDNORM_I8, 0.5f, -1},   {SIMDNORM_I8, 1, 127},         {SIMDNORM_I8, 0.03f, -128},
      {SIMDNORM_I8, 0x1p-149f, 5}, {SIMDNORM_U8, 0.02f, 128}, {SIMDNORM_U8, FLT_MAX, 3},     {SIMDNORM_U8, 0.25f, 0},
      {SIMDNORM_U8, 0.1f, 255},    {SIMDNORM_I8, 1e5f, 1},    {SIMDNORM_U8, 0x1p-126f, 131},
  };
  ForEachIndex([&](size_t index) {
    const auto quantize = HWY_DISPATCH_TABLE(QuantizeStatic)[index];
    ForEachSpan([&](int span, int64_t n, bool at_end) {
      const Input v(span, n, at_end);
      for (const Quantizer& q : kQuantizers) {
        GuardedBuffer y(n, {at_end, n % 3}, q.dtype);
        quantize(v.data(), y.raw(), q.dtype, q.scale, q.zero_point, n);
        CHECK(Different(y, [&](int64_t i) { return Static(v[i], q.scale, q.zero_point, q.dtype); }) == 0);
        CHECK(y.OutsideIsUntouched());
      }
    });
  });
}

TEST_CASE("ties and their neighbours, whatever the zero point") {
  std::vector<float> v;
  for (int half = -600; half <= 600; ++half) {
    const float tie = static_cast<float>(half) * 0.5f;
    v.insert(v.end(), {nextafterf(tie, -kInf), tie, nextafterf(tie, kInf)});
  }
  const int64_t n = static_cast<int64_t>(v.size());
  ForEachIndex([&](size_t index) {
    for (const simdnorm_dtype dtype : {SIMDNORM_I8, SIMDNORM_U8}) {
      for (int32_t zero_point = dtype == SIMDNORM_I8 ? -128 : 0, end = zero_point + 256; zero_point < end; ++zero_point) {
        if (SmallEffort() && zero_point % 17 != 0) continue;
        CAPTURE(zero_point);
        GuardedBuffer y(n, {true, 0}, dtype);
        HWY_DISPATCH_TABLE(QuantizeStatic)[index](v.data(), y.raw(), dtype, 1, zero_point, n);
        CHECK(Different(y, [&](int64_t i) { return Static(v[static_cast<size_t>(i)], 1, zero_point, dtype); }) == 0);
      }
    }
  });
}

TEST_CASE("a factor for each span") {
  ForEachIndex([](size_t index) {
    ForEachSpan([&](int span, int64_t n, bool at_end) {
      const Input v(span, n, at_end);
      const float scale = HWY_DISPATCH_TABLE(DynamicScale)[index](HWY_DISPATCH_TABLE(MaxAbsBits)[index](v.data(), n, 0));
      CHECK(BitsOf(scale) == BitsOf(FactorOf(v.data(), n)));
      GuardedBuffer y(n, {at_end, n % 3}, SIMDNORM_I8);
      // A span may be a part of what the factor is for, and the rest hold the NaN.
      for (const float factor : {scale, 0.01f, 0.0f, FloatOf(kOneNaN)}) {
        HWY_DISPATCH_TABLE(QuantizeDynamic)[index](v.data(), static_cast<int8_t*>(y.raw()), factor, n);
        CHECK(Different(y, [&](int64_t i) { return Dynamic(v[i], factor); }) == 0);
      }
      CHECK(y.OutsideIsUntouched());
    });
  });
}

TEST_CASE("quotients are rounded as a division, not as a product with the inverse") {
  std::vector<float> v = {0.127f};
  for (int half = -253; half <= 253; ++half) v.push_back(0.001f * 0.5f * static_cast<float>(half));
  const int64_t n = static_cast<int64_t>(v.size());
  const float scale = FactorOf(v.data(), n);
  int64_t products_that_differ = 0;
  for (const float value : v) products_that_differ += nearbyintf(value / scale) != nearbyintf(value * (1 / scale));
  CHECK(products_that_differ > 0);
  ForEachIndex([&](size_t index) {
    GuardedBuffer y(n, {true, 0}, SIMDNORM_I8);
    HWY_DISPATCH_TABLE(QuantizeDynamic)[index](v.data(), static_cast<int8_t*>(y.raw()), scale, n);
    CHECK(Different(y, [&](int64_t i) { return Dynamic(v[static_cast<size_t>(i)], scale); }) == 0);
  });
}

TEST_CASE("Q8_0: blocks of 32, each of another kind") {
  ForEachIndex([](size_t index) {
    for (int64_t blocks = 0; blocks <= 3 * kNumSpans; ++blocks) {
      CAPTURE(blocks);
      const int64_t n = blocks * kBlock;
      const bool at_end = blocks % 2 == 0;
      GuardedBuffer v(n, {at_end, 0}), y(n, {at_end, 1}, SIMDNORM_Q8_0);
      for (int64_t i = 0; i < n; ++i) v[i] = ValueOf(static_cast<int>(i / kBlock) % kNumSpans, i % kBlock, kBlock);
      v.MakeReadOnly();
      HWY_DISPATCH_TABLE(QuantizeQ8_0)[index](v.data(), static_cast<simdnorm_q8_0*>(y.raw()), n);
      CHECK(Different(y, [&](int64_t i) { return Dynamic(v[i], FactorOf(v.data() + i / kBlock * kBlock, kBlock)); }) == 0);
      for (int64_t block = 0; block < blocks; ++block) {
        const float factor = FactorOf(v.data() + block * kBlock, kBlock);
        CHECK(static_cast<const simdnorm_q8_0*>(y.raw())[block].d == ToF16(Rounded(factor, SIMDNORM_F16)));
      }
      CHECK(y.OutsideIsUntouched());
    }
  });
}

}  // namespace
}  // namespace simdnorm_test
#endif  // HWY_ONCE
