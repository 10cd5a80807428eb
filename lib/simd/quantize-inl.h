// Quantization of spans of f32 that are in cache, to what simdnorm.h defines at simdnorm_dtype.
//
// An integer is round(v / quant_scale), to nearest even, by IEEE 754's division: a product with the factor's inverse would
// round some ties the other way. Clamped before it is converted, since what a conversion makes of numbers too large for an
// integer differs between targets; the bounds are integers, so that rounding afterwards cannot leave the range.
//
// The largest |v| is found by bits, as an integer: NaN is above Inf there, which is above all finite numbers, and no order of
// comparisons can change the result.
#if defined(SIMDNORM_LIB_SIMD_QUANTIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIMDNORM_LIB_SIMD_QUANTIZE_INL_H_
#undef SIMDNORM_LIB_SIMD_QUANTIZE_INL_H_
#else
#define SIMDNORM_LIB_SIMD_QUANTIZE_INL_H_
#endif

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"
#include "simd/load_store-inl.h"
#include "simdnorm/simdnorm.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

// The largest of the bit patterns of |v[i]|, i < n, and so_far.
HWY_NOINLINE inline uint32_t MaxAbsBits(const float* v, int64_t n, uint32_t so_far) {
  const StripTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;  // without the sign bit they compare as signed integers do
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto abs_bits = [&](auto vector) HWY_ATTR { return hn::BitCast(di, hn::Abs(vector)); };
  auto max0 = hn::Set(di, static_cast<int32_t>(so_far)), max1 = max0, max2 = max0, max3 = max0;
  int64_t i = 0;
  for (; n - i >= 4 * lanes; i += 4 * lanes) {
    max0 = hn::Max(max0, abs_bits(hn::LoadU(d, v + i)));
    max1 = hn::Max(max1, abs_bits(hn::LoadU(d, v + i + lanes)));
    max2 = hn::Max(max2, abs_bits(hn::LoadU(d, v + i + 2 * lanes)));
    max3 = hn::Max(max3, abs_bits(hn::LoadU(d, v + i + 3 * lanes)));
  }
  for (; n - i >= lanes; i += lanes) max0 = hn::Max(max0, abs_bits(hn::LoadU(d, v + i)));
  if (i < n) max1 = hn::Max(max1, abs_bits(LoadFirst(d, v + i, static_cast<size_t>(n - i))));
  const auto max = hn::Max(hn::Max(max0, max1), hn::Max(max2, max3));
  return static_cast<uint32_t>(hn::GetLane(hn::MaxOfLanes(di, max)));
}

// The factor of values whose largest |v| has these bits: 0 of zeros, the one quiet NaN if a NaN or an Inf is among them.
HWY_INLINE float DynamicScale(uint32_t max_abs_bits) {
  constexpr uint32_t kInfinity = 0x7F800000u;
  float scale;
  memcpy(&scale, max_abs_bits >= kInfinity ? &kQuietNaN : &max_abs_bits, sizeof(scale));
  return scale / 127;
}

// y[i] = clamp(round(v[i] / quant_scale), low, high) + zero_point, of which the low byte is stored. NaN gives zero_point.
HWY_INLINE void Quantize(const float* v, uint8_t* y, float quant_scale, int32_t low, int32_t high, int32_t zero_point,
                         int64_t n) {
  const StripTag<float> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  const auto scale = hn::Set(d, quant_scale);
  const auto smallest = hn::Set(d, static_cast<float>(low)), largest = hn::Set(d, static_cast<float>(high));
  const auto quantize = [&](auto vector) HWY_ATTR {
    auto q = hn::Div(vector, scale);
    q = hn::Min(hn::Max(hn::IfThenElseZero(hn::Eq(q, q), q), smallest), largest);
    // A sum with a number so large that it has no digits after the point, and 0 in its low byte: an integer, to nearest even.
    const auto integer = hn::BitCast(du, hn::Add(q, hn::Set(d, 0x1.8p23f)));
    return hn::TruncateTo(d8, hn::Add(integer, hn::Set(du, static_cast<uint32_t>(zero_point))));
  };
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(quantize(hn::LoadU(d, v + i)), d8, y + i);
  if (i < n) {
    const size_t rest = static_cast<size_t>(n - i);
    alignas(16) uint8_t buffer[kStrip];
    hn::Store(quantize(LoadFirst(d, v + i, rest)), d8, buffer);
    memcpy(y + i, buffer, rest);
  }
}

// y of int8 or uint8, as `dtype` says, with a given factor and zero point.
HWY_NOINLINE inline void QuantizeStatic(const float* v, void* y, simdnorm_dtype dtype, float quant_scale, int32_t zero_point,
                                        int64_t n) {
  const int32_t smallest = dtype == SIMDNORM_I8 ? -128 : 0;
  Quantize(v, static_cast<uint8_t*>(y), quant_scale, smallest - zero_point, smallest + 255 - zero_point, zero_point, n);
}

// y of int8 with a factor of DynamicScale: zeros where that is 0 or NaN.
HWY_NOINLINE inline void QuantizeDynamic(const float* v, int8_t* y, float quant_scale, int64_t n) {
  if (quant_scale > 0) {
    Quantize(v, reinterpret_cast<uint8_t*>(y), quant_scale, -127, 127, 0, n);
  } else {
    memset(y, 0, static_cast<size_t>(n));
  }
}

// Blocks of 32 with a factor each; n is a multiple of 32. The factors of 16 blocks become f16 together.
HWY_NOINLINE inline void QuantizeQ8_0(const float* v, simdnorm_q8_0* y, int64_t n) {
  float scales[kStrip];
  uint16_t halves[kStrip];
  for (int64_t left = n / kQ8Block; left > 0; left -= kStrip) {
    const int64_t blocks = HWY_MIN(left, static_cast<int64_t>(kStrip));
    for (int64_t i = 0; i < blocks; ++i) scales[i] = DynamicScale(MaxAbsBits(v + i * kQ8Block, kQ8Block, 0));
    NarrowSpan(scales, halves, SIMDNORM_F16, blocks);
    for (int64_t i = 0; i < blocks; ++i, ++y, v += kQ8Block) {
      y->d = halves[i];
      QuantizeDynamic(v, y->q, scales[i], kQ8Block);
    }
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_QUANTIZE_INL_H_
