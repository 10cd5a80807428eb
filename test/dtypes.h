// Dtypes, element by element: an implementation of its own, by arithmetic in double and never by the bit tricks of a kernel.
// Right in the default floating-point environment; reading (GetElement) is right in any.
#ifndef SIMDNORM_TEST_DTYPES_H_
#define SIMDNORM_TEST_DTYPES_H_

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "simdnorm/simdnorm.h"

namespace simdnorm_test {

constexpr simdnorm_dtype kFloatDtypes[] = {SIMDNORM_F32, SIMDNORM_BF16, SIMDNORM_F16};
constexpr int64_t kBlock = 32;  // elements of a block of Q8_0
constexpr float kInf = HUGE_VALF;
constexpr uint32_t kQuietNaN = 0x7FC00000;  // the bits of every NaN that comes out as f32

inline uint32_t BitsOf(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float FloatOf(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

inline const char* DtypeName(simdnorm_dtype dtype) {
  constexpr const char* kNames[] = {"f32", "bf16", "f16", "i8", "u8", "q8_0"};
  return kNames[dtype];
}

inline bool IsInteger(simdnorm_dtype dtype) { return dtype >= SIMDNORM_I8; }

// Bytes of the least that is written at a time: an element, or a block of Q8_0.
inline int64_t UnitBytes(simdnorm_dtype dtype) {
  constexpr int64_t kBytes[] = {4, 2, 2, 1, 1, sizeof(simdnorm_q8_0)};
  return kBytes[dtype];
}
inline int64_t UnitElements(simdnorm_dtype dtype) { return dtype == SIMDNORM_Q8_0 ? kBlock : 1; }
inline int64_t BytesOf(simdnorm_dtype dtype, int64_t elements) { return elements / UnitElements(dtype) * UnitBytes(dtype); }

// A floating-point format: bits of the significand below the first, the exponent of the least normal number, the largest
// number.
struct FloatFormat {
  int fraction_bits, min_exponent;
  double max;
};
inline FloatFormat FormatOf(simdnorm_dtype dtype) {
  if (dtype == SIMDNORM_BF16) return {7, -126, 0x1.FEp127};
  if (dtype == SIMDNORM_F16) return {10, -14, 65504};
  return {23, -126, FLT_MAX};
}

// The distance between the numbers of a format near `value`, which is finite.
inline double SpacingAt(const FloatFormat& format, double value) {
  int exponent = format.min_exponent;
  if (fabs(value) >= ldexp(1, exponent)) exponent = ilogb(value);
  return ldexp(1, exponent - format.fraction_bits);
}

// The number of a dtype that is nearest to `value`, the even one of two; Inf beyond the largest, NaN the quiet one.
inline float Rounded(float value, simdnorm_dtype dtype) {
  if (isnan(value)) return FloatOf(kQuietNaN);
  if (isinf(value)) return value;
  const FloatFormat format = FormatOf(dtype);
  const double spacing = SpacingAt(format, static_cast<double>(value));
  const double nearest = nearbyint(static_cast<double>(value) / spacing) * spacing;
  return fabs(nearest) > format.max ? copysignf(kInf, value) : static_cast<float>(nearest);
}

// f16's bits as a number, and back from a number that f16 holds. Of a NaN's payload as much as there is room for is kept, so
// that it stays signaling or quiet.
inline float FromF16(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 0x1F, fraction = bits & 0x3FF;
  if (exponent == 0x1F) return FloatOf(sign | 0x7F800000u | (fraction << 13));
  const double magnitude = exponent == 0 ? fraction * 0x1p-24 : ldexp(1024 + fraction, static_cast<int>(exponent) - 25);
  return FloatOf(sign | BitsOf(static_cast<float>(magnitude)));
}
inline uint16_t ToF16(float value) {
  const uint32_t sign = (BitsOf(value) >> 16) & 0x8000u;
  const double magnitude = fabs(static_cast<double>(value));
  if (isnan(value)) {
    const uint32_t fraction = (BitsOf(value) >> 13) & 0x3FF;
    return static_cast<uint16_t>(sign | 0x7C00u | (fraction != 0 ? fraction : 1));
  }
  if (isinf(value)) return static_cast<uint16_t>(sign | 0x7C00u);
  if (magnitude < 0x1p-14) return static_cast<uint16_t>(sign | static_cast<uint32_t>(magnitude * 0x1p24));
  const int exponent = ilogb(magnitude);
  const uint32_t fraction = static_cast<uint32_t>(ldexp(magnitude, 10 - exponent)) - 1024;
  return static_cast<uint16_t>(sign | static_cast<uint32_t>(exponent + 15) << 10 | fraction);
}

// The same for bf16.
inline uint16_t ToBF16(float value) {
  const uint32_t upper = BitsOf(value) >> 16;
  return static_cast<uint16_t>(isnan(value) && (upper & 0x7F) == 0 ? upper + 1 : upper);
}

// Element `index` of an array as an f32. Different elements give different bits. Of Q8_0 it is the integer.
inline float GetElement(const void* array, simdnorm_dtype dtype, int64_t index) {
  const char* const bytes = static_cast<const char*>(array);
  uint16_t half;
  switch (dtype) {
    case SIMDNORM_F32:
      float value;
      memcpy(&value, bytes + 4 * index, sizeof(value));
      return value;
    case SIMDNORM_BF16:
      memcpy(&half, bytes + 2 * index, sizeof(half));
      return FloatOf(uint32_t{half} << 16);
    case SIMDNORM_F16:
      memcpy(&half, bytes + 2 * index, sizeof(half));
      return FromF16(half);
    case SIMDNORM_I8:
      return static_cast<const int8_t*>(array)[index];
    case SIMDNORM_U8:
      return static_cast<const uint8_t*>(array)[index];
    default:
      return static_cast<const simdnorm_q8_0*>(array)[index / kBlock].q[index % kBlock];
  }
}

// Rounds where it has to, but leaves a NaN its sign and payload. Floating-point dtypes only: nothing else is an input.
inline void SetElement(void* array, simdnorm_dtype dtype, int64_t index, float value) {
  if (dtype == SIMDNORM_F32) {
    static_cast<float*>(array)[index] = value;
    return;
  }
  const float held = isnan(value) ? value : Rounded(value, dtype);
  static_cast<uint16_t*>(array)[index] = dtype == SIMDNORM_F16 ? ToF16(held) : ToBF16(held);
}

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_DTYPES_H_
