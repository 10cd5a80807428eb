// The error bounds, each with its reason, and the comparison with the reference by them.
#ifndef SIMDNORM_TEST_COMPARE_H_
#define SIMDNORM_TEST_COMPARE_H_

#include <float.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>
#include <vector>

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
// Means are reduced in f32: a subnormal one is rounded in each of the steps (32 blocks and 4 merges of lanes).
constexpr Real kSubnormalMean = 36 * kSmallest;

// How far from the expected value each output may be.
struct Bounds {
  std::vector<Real> y, mean, rstd, running_mean, running_variance;
};

inline Bounds BoundsOf(Op op, const Expected& expected) {
  // The largest of 1 and of the finite |y| and |scaled| of each item.
  std::vector<Real> magnitudes(expected.mean.size(), 1);
  for (size_t i = 0; i < expected.y.size(); ++i) {
    Real& magnitude = magnitudes[static_cast<size_t>(expected.item[i])];
    for (const Real value : {std::fabs(expected.y[i]), std::fabs(expected.scaled[i])}) {
      if (std::isfinite(value)) magnitude = std::max(magnitude, value);
    }
  }
  const auto bounds = [](const std::vector<Real>& values, const auto& bound) {
    std::vector<Real> result(values.size());
    for (size_t i = 0; i < values.size(); ++i) result[i] = bound(i, std::fabs(values[i]));
    return result;
  };
  const auto y_bound = [&](size_t i, Real size) -> Real {
    if (op == Op::kRMSNorm) return kRMSNormBound * size + kSmallest;
    if (op == Op::kBatchNormInference) return kInferenceBound * (std::fabs(expected.scaled[i]) + size) + kSmallest;
    return kItemBound * magnitudes[static_cast<size_t>(expected.item[i])];
  };
  const auto mean_bound = [&](size_t i, Real size) {
    return kRounding * size + kMeanBound * std::sqrt(expected.variance[i]) + kSubnormalMean;
  };
  const auto rstd_bound = [](size_t /*i*/, Real size) { return kRstdBound * size; };
  const auto running_variance_bound = [&](size_t i, Real size) {
    return kRounding * size + kVarianceBound * expected.variance[i] + kSmallest;
  };
  return {bounds(expected.y, y_bound), bounds(expected.mean, mean_bound), bounds(expected.rstd, rstd_bound),
          bounds(expected.running_mean, mean_bound), bounds(expected.running_variance, running_variance_bound)};
}

// Whether the actual value is what it should be: NaN as the one quiet NaN, Inf as it is, anything else within the bound.
inline bool IsWithin(Real expected, float actual, Real bound) {
  const Real difference = std::fabs(expected - static_cast<Real>(actual));
  if (std::isfinite(difference)) return difference <= bound;
  uint32_t bits;
  memcpy(&bits, &actual, sizeof(bits));
  if (std::isnan(expected)) return bits == 0x7FC00000u;
  // Inf where it is due, or where the bound is beyond what f32 can hold.
  return std::isinf(actual) && std::signbit(expected) == std::signbit(actual) && std::fabs(expected) + bound > FLT_MAX;
}

// "" or the first value that is too far off. `actual` is empty if it was not asked for.
inline std::string Compare(const char* name, const std::vector<Real>& expected, const std::vector<Real>& bounds,
                           const std::vector<float>& actual) {
  for (size_t i = 0; i < actual.size(); ++i) {
    if (IsWithin(expected[i], actual[i], bounds[i])) continue;
    std::ostringstream s;
    s.precision(10);
    s << name << '[' << i << "] is " << actual[i] << ", should be " << expected[i] << " +- " << bounds[i] << "; ";
    return s.str();
  }
  return "";
}

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_COMPARE_H_
