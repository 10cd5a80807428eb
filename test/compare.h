// The error bounds, each with its reason, and the comparison with the reference by them.
#ifndef SIMDNORM_TEST_COMPARE_H_
#define SIMDNORM_TEST_COMPARE_H_

#include <float.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "dtypes.h"
#include "reference.h"

namespace simdnorm_test {

enum class Op { kLayerNorm, kRMSNorm, kBatchNormInference, kBatchNormTraining };
constexpr Op kAllOps[] = {Op::kLayerNorm, Op::kRMSNorm, Op::kBatchNormInference, Op::kBatchNormTraining};

inline const char* OpName(Op op) {
  constexpr const char* kNames[] = {"LayerNorm", "RMSNorm", "BatchNormInference", "BatchNormTraining"};
  return kNames[static_cast<int>(op)];
}

// simdnorm.h promises these; simd/moments-inl.h says where they come from.
constexpr Real kItemBound = 1.5e-6L;       // of |scale| and the item's largest |x - mean| * rstd; RMS norm has its own
constexpr Real kRMSNormBound = 1.6e-6L;    // of |y|
constexpr Real kInferenceBound = 2.4e-7L;  // of |y - shift|
constexpr Real kRstdBound = 1.4e-6L;       // of rstd
constexpr Real kMeanBound = 4e-6L;         // of the standard deviation
constexpr Real kVarianceBound = 2.8e-6L;   // of the variance that goes into a running one: twice that of rstd
// Rounding once to f32: half of the last of 24 bits, and a little for the arithmetic in double before.
constexpr Real kRounding = 6.0e-8L;
// Results that are subnormal are multiples of this.
constexpr Real kSmallest = 1.401298464324817070923729583289916131280e-45L;
// simdnorm.h promises this of activations, and so of silu(gate): of the result, and its least normal number.
constexpr Real kActivationBound = 4e-7L;
constexpr Real kActivationSlack = FLT_MIN;
// Means are reduced in f32: a subnormal one is rounded, by half of this, in each of up to 64 steps.
constexpr Real kSubnormalMean = 32 * kSmallest;

// How far y may be off by the statistics and the multiplications: of layer, group, instance norm and batch norm (training),
// with `largest` as the item's largest |x - mean| * rstd. Below the second number, differences and products are subnormal.
inline Real ItemError(Real largest, Real rstd, Real scale) {
  return kItemBound * std::fabs(scale) * std::max(largest, 0x1p-125L * std::max(rstd, Real{1}));
}
// The same of batch norm (inference), with `scaled` = y - shift.
inline Real InferenceError(Real scaled, Real scale) {
  return kInferenceBound * std::fabs(scaled) + std::fabs(scale) * kSmallest;
}
// What the addition of shift adds to that.
inline Real LastError(Real y) { return kRounding * std::fabs(y) + kSmallest; }

inline Real MeanBound(Real mean, Real spread) { return kRounding * std::fabs(mean) + kMeanBound * spread + kSubnormalMean; }
// Of running statistics that take up such a spread or variance.
inline Real RunningMeanBound(Real running, Real momentum, Real spread) {
  return kRounding * std::fabs(running) + std::fabs(momentum) * (kMeanBound * spread + kSubnormalMean) + kSmallest;
}
inline Real RunningVarianceBound(Real running, Real momentum, Real variance) {
  return kRounding * std::fabs(running) + std::fabs(momentum) * kVarianceBound * variance + kSmallest;
}

// A sum in double of so many terms, of these magnitudes in all, rounded once to f32.
inline Real FoldedBiasBound(Real bias, Real magnitudes, Real num_terms) {
  return kRounding * std::fabs(bias) + 1.2e-16L * (num_terms + 6) * magnitudes + kSmallest;
}

// How far activation(v) may be from `activated` if v itself is off by `error`, which an activation's slope can let grow.
inline Real ActivationError(simdnorm_activation activation, float slope, Real activated, Real error) {
  const Real bound = kActivationBound * std::fabs(activated) + kActivationSlack;
  switch (activation) {
    case SIMDNORM_NO_ACTIVATION:
    case SIMDNORM_RELU:
      return error;
    case SIMDNORM_LEAKY_RELU:
      return std::max(std::fabs(static_cast<Real>(slope)), Real{1}) * error + kRounding * std::fabs(activated) + kSmallest;
    case SIMDNORM_SILU:
      return 1.1L * error + bound;
    case SIMDNORM_GELU:
    case SIMDNORM_GELU_TANH:
      return 1.13L * error + bound;
    default:
      return std::numeric_limits<Real>::quiet_NaN();  // nothing is within it: the slope of a new one has to be found out
  }
}

// How far activated * gate may be from what it is exactly, `activated` being off by `error` and `gate` = silu(what is given).
inline Real GateError(Real activated, Real gate, Real error) {
  const Real gate_error = kActivationBound * std::fabs(gate) + kActivationSlack;
  return error * (std::fabs(gate) + gate_error) + std::fabs(activated) * gate_error + kRounding * std::fabs(activated * gate) +
         kSmallest;
}

// Half the distance between a dtype's numbers near `value`.
inline Real HalfUlp(simdnorm_dtype dtype, Real value) {
  const FloatFormat format = FormatOf(dtype);
  return std::isfinite(value) ? static_cast<Real>(SpacingAt(format, static_cast<double>(value))) / 2 : 0;
}

// How far from the expected value each output may be.
struct Bounds {
  std::vector<Real> y, mean, rstd, running_mean, running_variance, h;
};

// f32's bound, and the rounding to y's dtype if that is another.
inline Bounds BoundsOf(Op op, const Expected& expected, simdnorm_dtype y_dtype = SIMDNORM_F32) {
  const bool steps_follow = !expected.normalized.empty();
  const std::vector<Real>& normalized = steps_follow ? expected.normalized : expected.y;
  const auto bounds = [](const std::vector<Real>& values, const auto& bound) {
    std::vector<Real> result(values.size());
    for (size_t i = 0; i < values.size(); ++i) result[i] = bound(i, std::fabs(values[i]));
    return result;
  };
  const auto normalized_bound = [&](size_t i, Real size) -> Real {
    const size_t item = static_cast<size_t>(expected.item[i]);
    const Real scale = expected.scale[i];
    if (op == Op::kRMSNorm) return kRMSNormBound * size + (1 + std::fabs(scale)) * kSmallest;
    if (op == Op::kBatchNormInference) return InferenceError(expected.scaled[i], scale) + LastError(size);
    return ItemError(expected.largest[item], expected.rstd[item], scale) + LastError(size);
  };
  const auto y_bound = [&](size_t i, Real size) -> Real {
    Real error = normalized_bound(i, std::fabs(normalized[i]));
    if (steps_follow) {
      error += kRounding * std::fabs(expected.with_residual[i]);
      error = ActivationError(expected.activation, expected.activation_slope, expected.activated[i], error);
      if (expected.gate[i] != 1) error = GateError(expected.activated[i], expected.gate[i], error);
    }
    return y_dtype == SIMDNORM_F32 ? error : error + HalfUlp(y_dtype, size + error);
  };
  const auto mean_bound = [&](size_t i, Real size) { return MeanBound(size, std::sqrt(expected.variance[i])); };
  const auto rstd_bound = [](size_t /*i*/, Real size) { return kRstdBound * size; };
  const auto running_mean_bound = [&](size_t i, Real size) {
    return RunningMeanBound(size, expected.momentum, std::sqrt(expected.variance[i]));
  };
  const auto running_variance_bound = [&](size_t i, Real size) {
    return RunningVarianceBound(size, expected.momentum, expected.variance[i] * expected.running_factor);
  };
  const auto exact = [](size_t /*i*/, Real /*size*/) { return Real{0}; };
  return {bounds(expected.y, y_bound),
          bounds(expected.mean, mean_bound),
          bounds(expected.rstd, rstd_bound),
          bounds(expected.running_mean, running_mean_bound),
          bounds(expected.running_variance, running_variance_bound),
          bounds(expected.h, exact)};
}

// Whether the actual value is what it should be: NaN as the one quiet NaN, Inf as it is, anything else within the bound.
inline bool IsWithin(Real expected, float actual, Real bound, simdnorm_dtype dtype = SIMDNORM_F32) {
  const Real difference = std::fabs(expected - static_cast<Real>(actual));
  if (std::isfinite(difference)) return difference <= bound;
  if (std::isnan(expected)) return BitsOf(actual) == kQuietNaN;
  // Inf where it is due, or where the bound is beyond what the dtype can hold.
  return std::isinf(actual) && std::signbit(expected) == std::signbit(actual) &&
         (std::isinf(expected) || std::fabs(expected) + bound > static_cast<Real>(FormatOf(dtype).max));
}

// "" or the first value that is too far off. `actual` is empty if it was not asked for.
inline std::string Compare(const char* name, const std::vector<Real>& expected, const std::vector<Real>& bounds,
                           const std::vector<float>& actual, simdnorm_dtype dtype = SIMDNORM_F32) {
  for (size_t i = 0; i < actual.size(); ++i) {
    if (IsWithin(expected[i], actual[i], bounds[i], dtype)) continue;
    std::ostringstream s;
    s.precision(10);
    s << name << '[' << i << "] is " << actual[i] << ", should be " << expected[i] << " +- " << bounds[i] << "; ";
    return s.str();
  }
  return "";
}

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_COMPARE_H_
