// Tests run on every CPU target that the library has on this machine, and remember on which: api_test.cc compares with what a
// machine was meant to run, so that a target lost in a build does not pass as tested.
#ifndef SIMDNORM_TEST_ALL_TARGETS_H_
#define SIMDNORM_TEST_ALL_TARGETS_H_

#include <set>
#include <string>

#include "digest.h"
#include "doctest/doctest.h"
#include "simdnorm/simdnorm.h"
#include "target.h"

namespace simdnorm_test {

inline std::set<std::string>& TargetsRun() {
  static std::set<std::string> names;
  return names;
}

// While this lives, kernels do without the processor's own rounding to bf16.
class WithoutBF16Instructions {
 public:
  WithoutBF16Instructions() { simdnorm::rounds_to_bf16 = false; }
  WithoutBF16Instructions(const WithoutBF16Instructions&) = delete;
  WithoutBF16Instructions& operator=(const WithoutBF16Instructions&) = delete;
  ~WithoutBF16Instructions() { simdnorm::rounds_to_bf16 = before_; }

 private:
  const bool before_ = simdnorm::rounds_to_bf16;
};

// Calls test(name) for every target, best first; a target that may use the processor's own rounding to bf16 twice.
template <class Test>
void ForEachTarget(const Test& test) {
  for (const char* const* name = simdnorm_targets(); *name != nullptr; ++name) {
    test(*name);
    TargetsRun().insert(*name);
    if (simdnorm::rounds_to_bf16 && std::string(*name).rfind("AVX3", 0) == 0) {
      const WithoutBF16Instructions without;
      INFO("without the processor's own rounding to bf16");
      test(*name);
    }
  }
}

using digest::HasFusedMultiplyAdd;  // whose results are the same bits

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_ALL_TARGETS_H_
