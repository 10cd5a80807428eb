// One number for the bits of many calls' results, so that a test can hold what they were, and machines that never meet can be
// compared. FNV-1a with 64 bits, over the values' bits from the lowest byte up.
#ifndef SIMDNORM_TEST_DIGEST_H_
#define SIMDNORM_TEST_DIGEST_H_

#include <stdint.h>

#include <vector>

#include "problem.h"

namespace simdnorm_test {

class Digest {
 public:
  void Add(const std::vector<float>& values) {
    for (const float value : values) {
      for (int shift = 0; shift < 32; shift += 8) state_ = (state_ ^ ((BitsOf(value) >> shift) & 0xFF)) * 0x100000001B3u;
    }
  }
  void Add(const Outputs& outputs) {
    for (const std::vector<float>* values : outputs.All()) Add(*values);
  }
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 0xCBF29CE484222325u;
};

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_DIGEST_H_
