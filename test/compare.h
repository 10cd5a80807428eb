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

// simdnorm.h promises these three.
constexpr Real kItemBound = 4e-6L;       // layer norm, batch norm training: of the item's largest |y| and |scaled|, and of 1
constexpr Real kRMSNormBound = 2e-6L;    // of |y|
constexpr Real kInferenceBound = 4e-7L;  // of |y - shift| + |y|: four roundings and that of the sum
// Of |rstd|. The same error is part of y's, so that it can be no larger than y's in RMS norm.
constexpr Real kRstdBound = 2e-6L;
// Rounding once to f32: half of the last of 24 bits, and a little for the arithmetic in double before.
constexpr Real kRounding = 6.0e-8L;
// Of the standard deviation, on top of rounding: an error of the mean moves y by itself / std, part of y's bound.
constexpr Real kMeanBound = 2e-6L;
// The running variance takes the error of the variance, twice that of rstd.
constexpr Real kVarianceBound = 4e-6L;
// Results that are subnormal are multiples of this.
constexpr Real kSmallest = 1.401298464324817070923729583289916131280e-45L;
// simdnorm.h promises this of activations, and so of silu(gate): of the result, and its least normal number.
constexpr Real kActivationBound = 4e-7L;
constexpr Real kActivationSlack = FLT_MIN;
// Means are reduced in f32: a subnormal one is rounded in each of the steps (32 blocks and 4 merges of lanes).
constexpr Real kSubnormalMean = 36 * kSmallest;

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
  // The largest of 1 and of the finite |normalized| and |scaled| of each item.
  std::vector<Real> magnitudes(expected.mean.size(), 1);
  for (size_t i = 0; i < expected.y.size(); ++i) {
    Real& magnitude = magnitudes[static_cast<size_t>(expected.item[i])];
    for (const Real value : {std::fabs(normalized[i]), std::fabs(expected.scaled[i])}) {
      if (std::isfinite(value)) magnitude = std::max(magnitude, value);
    }
  }
  const auto bounds = [](const std::vector<Real>& values, const auto& bound) {
    std::vector<Real> result(values.size());
    for (size_t i = 0; i < values.size(); ++i) result[i] = bound(i, std::fabs(values[i]));
    return result;
  };
  const auto normalized_bound = [&](size_t i, Real size) -> Real {
    if (op == Op::kRMSNorm) return kRMSNormBound * size + kSmallest;
    if (op == Op::kBatchNormInference) return kInferenceBound * (std::fabs(expected.scaled[i]) + size) + kSmallest;
    return kItemBound * magnitudes[static_cast<size_t>(expected.item[i])];
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
  const auto mean_bound = [&](size_t i, Real size) {
    return kRounding * size + kMeanBound * std::sqrt(expected.variance[i]) + kSubnormalMean;
  };
  const auto rstd_bound = [](size_t /*i*/, Real size) { return kRstdBound * size; };
  const auto running_variance_bound = [&](size_t i, Real size) {
    return kRounding * size + kVarianceBound * expected.variance[i] + kSmallest;
  };
  const auto exact = [](size_t /*i*/, Real /*size*/) { return Real{0}; };
  return {bounds(expected.y, y_bound),
          bounds(expected.mean, mean_bound),
          bounds(expected.rstd, rstd_bound),
          bounds(expected.running_mean, mean_bound),
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
