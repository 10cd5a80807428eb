// What each operation should give: the formulas of simdnorm.h as they stand there, two passes in long double. Another
// algorithm and more digits than the library has, and none of its code, so that a mistake in one does not hide in the other.
#ifndef SIMDNORM_TEST_REFERENCE_H_
#define SIMDNORM_TEST_REFERENCE_H_

#include <stdint.h>

#include <vector>

#include "simdnorm/simdnorm.h"

namespace simdnorm_test {

using Real = long double;

// An item is a row (layer norm, RMS norm) or a channel (batch norm).
struct Expected {
  std::vector<Real> y;        // in the order of memory, gaps between rows left out
  std::vector<Real> scaled;   // y before shift is added
  std::vector<int64_t> item;  // whose element it is
  // By item. RMS norm's variance is its mean square.
  std::vector<Real> mean, variance, rstd, running_mean, running_variance;
};

// What a call with these arguments should write; running statistics are read, nothing is written.
Expected Reference(const simdnorm_layer_norm_args& args);
Expected Reference(const simdnorm_rms_norm_args& args);
Expected Reference(const simdnorm_batch_norm_inference_args& args);
Expected Reference(const simdnorm_batch_norm_training_args& args);

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_REFERENCE_H_
