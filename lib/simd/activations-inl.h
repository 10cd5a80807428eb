// Activations, on spans of f32 that are in cache: what a kernel applies to normalized values before it stores them.
//
// A new activation is a function here, on one vector of values, and a row in the switch of Activate. It need not care what it
// makes of NaN, as long as that is a NaN.
//
// Each has the form that keeps its digits far down the negative tail, where 1 + erf and 1 + tanh have none left:
//
//     SiLU         v / (1 + exp(-v))
//     GELU, tanh   v / (1 + exp(-z))                              z = 2 sqrt(2 / pi) (v + 0.044715 v^3)
//     GELU         max(v, 0) - x exp(-x^2 / 2) P(x) / Q(x)        x = |v|, P(x) / Q(x) = exp(x^2 / 2) erfc(x / sqrt(2)) / 2
//
// The exponents of the GELUs are sums of two floats: one alone is off by its rounding error, at 90 enough to cost the power its
// sixth digit. Where v is so low that the result is within 2^-126 of 0, it is 0: arithmetic on subnormal numbers can take a
// hundred times as long.
//
// The largest errors, relative to the exact result, of all floats (but for those results that are taken for 0):
//
//                  with fused multiply-add    without
//     SiLU         1.8e-7                     1.8e-7
//     GELU, tanh   1.7e-7                     1.8e-7
//     GELU         3.8e-7                     4.0e-7
//
// The polynomials are ours, and from Highway come only the operations that IEEE 754 rounds, and those on bits: so the bits are
// the same on all targets with fused multiply-add, whatever the version of Highway.
#if defined(SIMDNORM_LIB_SIMD_ACTIVATIONS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIMDNORM_LIB_SIMD_ACTIVATIONS_INL_H_
#undef SIMDNORM_LIB_SIMD_ACTIVATIONS_INL_H_
#else
#define SIMDNORM_LIB_SIMD_ACTIVATIONS_INL_H_
#endif

#include <stddef.h>
#include <stdint.h>

#include "simd/load_store-inl.h"
#include "simdnorm/simdnorm.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

// a * b - c, which nearly is 0, rounded once: the digits that the product lost when it was rounded.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ProductLow(D d, V a, V b, V c) {
#if HWY_NATIVE_FMA
  (void)d;
  return hn::MulSub(a, b, c);
#else
  // Dekker 1971: products of halves, of 12 digits each, are exact.
  const hn::RebindToUnsigned<D> du;
  const V high_digits = hn::BitCast(d, hn::Set(du, 0xFFFFF000u));
  const V a_high = hn::And(a, high_digits), a_low = hn::Sub(a, a_high);
  const V b_high = hn::And(b, high_digits), b_low = hn::Sub(b, b_high);
  const V middle = hn::Add(hn::Mul(a_high, b_low), hn::Mul(a_low, b_high));
  return hn::Add(hn::Add(hn::Sub(hn::Mul(a_high, b_high), c), middle), hn::Mul(a_low, b_low));
#endif
}

// a * b + c, with little more than one rounding's error where multiply-add is not fused either.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V MulAddOnce(D d, V a, V b, V c) {
#if HWY_NATIVE_FMA
  (void)d;
  return hn::MulAdd(a, b, c);
#else
  const V product = hn::Mul(a, b);
  return hn::Add(product, hn::Add(c, ProductLow(d, a, b, product)));
#endif
}

// The first part of ln 2 has 15 digits, so that its product with an integer up to 511 is exact.
constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;

// The integer k that is nearest to -z / ln 2; sets power to 2^(k + kShift), which has to be a normal number.
template <int kShift, class D, class V = hn::Vec<D>>
HWY_INLINE V NearestPower(D d, V z, V& power) {
  // In a sum with a number so large that it has no digits after the point, k is the last digits. That number brings along
  // kShift and the bias of f32's exponents: to shift the sum's bits to where exponents are is to raise 2 to their power.
  const V large = hn::Set(d, 0x1.8p23f + kShift + 127);
  const V sum = hn::MulAdd(z, hn::Set(d, -0x1.715476p0f), large);
  power = hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(hn::RebindToUnsigned<D>(), sum)));
  return hn::Sub(sum, large);
}

// exp(-r) for |r| <= ln(2) / 2, to 3.2e-9.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpOfMinus(D d, V r) {
  V p = hn::MulAdd(r, hn::Set(d, 0x1.6a496p-10f), hn::Set(d, -0x1.1239ap-7f));
  p = hn::MulAdd(r, p, hn::Set(d, 0x1.5558b4p-5f));
  p = hn::MulAdd(r, p, hn::Set(d, -0x1.555492p-3f));
  p = hn::MulAdd(r, p, hn::Set(d, 0x1.fffffcp-2f));
  p = hn::MulAdd(r, p, hn::Set(d, -1.0f));
  return hn::MulAdd(r, p, hn::Set(d, 1.0f));
}

// v, or 0 where v is at most `limit`. NaN stays NaN.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ZeroUpTo(D d, V v, float limit) {
  return hn::IfThenZeroElse(hn::Le(v, hn::Set(d, limit)), v);
}

// max(v, 0). Of -0 comes 0.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ReLU(D d, V v) {
  return ZeroUpTo(d, v, 0.0f);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V LeakyReLU(D d, V v, float slope) {
  return hn::IfThenElse(hn::Lt(v, hn::Zero(d)), hn::Mul(v, hn::Set(d, slope)), v);
}

// v / (1 + exp(-z)), where exp(-z) = 2^8 * power * p: at z = -92 that is beyond f32's range.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V TimesLogistic(D d, V v, V power, V p) {
  const V scale = hn::Set(d, 0x1p-8f);
  return hn::Div(hn::Mul(v, scale), hn::MulAdd(p, power, scale));
}

// Here and below, z need not grow to where exp(-z) no longer changes 1 + exp(-z). (What Min makes of NaN differs between
// targets, and does not matter: x is NaN too.)
template <class D, class V = hn::Vec<D>>
HWY_INLINE V SiLU(D d, V v) {
  const V x = ZeroUpTo(d, v, -91.85678f);
  const V z = hn::Min(x, hn::Set(d, 40.0f));
  V power;
  const V k = NearestPower<-8>(d, z, power);
  const V r = hn::MulAdd(k, hn::Set(d, kLn2Low), hn::MulAdd(k, hn::Set(d, kLn2High), z));
  return TimesLogistic(d, x, power, ExpOfMinus(d, r));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V GELUTanh(D d, V v) {
  const V x = ZeroUpTo(d, v, -10.100637f);
  const V y = hn::Min(x, hn::Set(d, 6.0f));
  // z = y (a + b y^2), everything in two floats. a's first one has 21 digits, so that `sum` less it is exact.
  const V a = hn::Set(d, 0x1.98845p0f), a_low = hn::Set(d, 0x1.9ea1b2p-23f);
  const V b = hn::Set(d, 0x1.2444f2p-4f), b_low = hn::Set(d, 0x1.49b16ap-29f);
  const V square = hn::Mul(y, y), square_low = ProductLow(d, y, y, square);
  const V sum = hn::MulAdd(b, square, a);
  const V sum_low =
      hn::Add(ProductLow(d, b, square, hn::Sub(sum, a)), hn::MulAdd(b, square_low, hn::MulAdd(b_low, square, a_low)));
  V power;
  const V k = NearestPower<-8>(d, hn::Mul(y, sum), power);
  const V r_low = hn::MulAdd(k, hn::Set(d, kLn2Low), hn::Mul(y, sum_low));
  const V r = hn::Add(ProductLow(d, y, sum, hn::Mul(k, hn::Set(d, -kLn2High))), r_low);
  return TimesLogistic(d, x, power, ExpOfMinus(d, r));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V GELU(D d, V v) {
  V x = hn::Abs(v);
  x = hn::IfThenElseZero(hn::Lt(x, hn::Set(d, 13.146247f)), x);
  const V half = hn::Mul(x, hn::Set(d, 0.5f)), z = hn::Mul(x, half);
  V power;
  const V k = NearestPower<0>(d, z, power);
  const V r = hn::MulAdd(k, hn::Set(d, kLn2Low), ProductLow(d, x, half, hn::Mul(k, hn::Set(d, -kLn2High))));
  const V e = hn::Mul(ExpOfMinus(d, r), power);
  // P(x) / Q(x) = erfc(x / sqrt(2)) * exp(x^2 / 2) / 2 to 2.5e-8. All coefficients are positive, so that nothing cancels, and
  // powers of x^2 come as those of z: its rounding error is in P and Q alike.
  V p = hn::MulAdd(x, hn::Set(d, 2 * 0x1.487c2cp-5f), hn::Set(d, 2 * 0x1.740304p-3f));
  p = hn::MulAdd(z, hn::Set(d, 4 * 0x1.0891fap-8f), p);
  p = MulAddOnce(d, z, p, hn::Mul(x, hn::Set(d, 0x1.be9d5ep-2f)));
  V q = hn::MulAdd(x, hn::Set(d, 4 * 0x1.4b95c8p-7f), hn::Set(d, 4 * 0x1.9bb972p-4f));
  q = MulAddOnce(d, z, q, hn::MulAdd(x, hn::Set(d, 2 * 0x1.dc718p-2f), hn::Set(d, 2 * 0x1.32267p0f)));
  q = MulAddOnce(d, z, q, hn::MulAdd(x, hn::Set(d, 0x1.ab90dcp0f), hn::Set(d, 1.0f)));
  return hn::NegMulAdd(e, hn::Div(MulAddOnce(d, x, p, half), q), ReLU(d, v));
}

// v = activation(v), in place. `slope` is leaky ReLU's.
HWY_NOINLINE inline void Activate(simdnorm_activation activation, float slope, float* v, int64_t n) {
  switch (activation) {
    case SIMDNORM_RELU:
      return ForEachVector(v, n, [&](auto d, const auto& load) HWY_ATTR { return ReLU(d, load(v)); });
    case SIMDNORM_LEAKY_RELU:
      return ForEachVector(v, n, [&](auto d, const auto& load) HWY_ATTR { return LeakyReLU(d, load(v), slope); });
    case SIMDNORM_SILU:
      return ForEachVector(v, n, [&](auto d, const auto& load) HWY_ATTR { return SiLU(d, load(v)); });
    case SIMDNORM_GELU:
      return ForEachVector(v, n, [&](auto d, const auto& load) HWY_ATTR { return GELU(d, load(v)); });
    case SIMDNORM_GELU_TANH:
      return ForEachVector(v, n, [&](auto d, const auto& load) HWY_ATTR { return GELUTanh(d, load(v)); });
    default:
      return;
  }
}

// v *= gate / (1 + exp(-gate)), SiLU of the gate being rounded first.
HWY_NOINLINE inline void MultiplyBySiLU(const float* gate, float* v, int64_t n) {
  ForEachVector(v, n, [&](auto d, const auto& load) HWY_ATTR { return hn::Mul(load(v), SiLU(d, load(gate))); });
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_ACTIVATIONS_INL_H_
