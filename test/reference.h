// What each operation should give: the formulas of simdnorm.h as they stand there, two passes in long double. Another
// algorithm and more digits than the library has, and none of its code, so that a mistake in one does not hide in the other.
#ifndef SIMDNORM_TEST_REFERENCE_H_
#define SIMDNORM_TEST_REFERENCE_H_

#include <stdint.h>

#include <vector>

#include "simdnorm/simdnorm.h"

namespace simdnorm_test {

using Real = long double;

// An item is a row (layer norm, RMS norm; with inner positions, one of those of a row) or a channel (batch norm).
struct Expected {
  std::vector<Real> y;        // rows: item by item; batch norm: in the order of memory
  std::vector<Real> scaled;   // y before shift is added
  std::vector<Real> scale;    // what it was multiplied by
  std::vector<int64_t> item;  // whose element it is
  // By item. RMS norm's variance is its mean square.
  std::vector<Real> mean, variance, rstd, running_mean, running_variance;
  std::vector<Real> largest;              // of the finite |x - mean| * rstd
  Real momentum = 0, running_factor = 1;  // momentum * variance * running_factor goes into the running variance

  // Of rows. The steps from the normalized values (`scaled` and shift) to y = activated * gate, empty if there are none.
  std::vector<Real> normalized, with_residual, activated, gate;
  simdnorm_activation activation = SIMDNORM_NO_ACTIVATION;
  float activation_slope = 0;
  std::vector<Real> h;  // empty if it is not asked for
};

// What a call with these arguments should write; running statistics are read, nothing is written. y is what it is before it is
// rounded or quantized. `lengths` are not looked at: every row is computed.
Expected Reference(const simdnorm_layer_norm_args& args);
Expected Reference(const simdnorm_rms_norm_args& args);
Expected Reference(const simdnorm_batch_norm_inference_args& args);
Expected Reference(const simdnorm_batch_norm_training_args& args);

struct ExpectedFold {
  std::vector<Real> weight, bias;
  std::vector<Real> terms;  // of each bias: the sum of the magnitudes of what it is the sum of
  Real num_terms = 1;
};
ExpectedFold Reference(const simdnorm_fold_batch_norm_args& args);

// Their limits at infinity.
Real Activated(simdnorm_activation activation, float slope, Real v);

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_REFERENCE_H_
