// Tests run on every CPU target that the library has on this machine, and remember on which: api_test.cc compares with what a
// machine was meant to run, so that a target lost in a build does not pass as tested.
#ifndef SIMDNORM_TEST_ALL_TARGETS_H_
#define SIMDNORM_TEST_ALL_TARGETS_H_

#include <set>
#include <string>

#include "digest.h"
#include "simdnorm/simdnorm.h"

namespace simdnorm_test {

inline std::set<std::string>& TargetsRun() {
  static std::set<std::string> names;
  return names;
}

// Calls test(name) for every target, best first.
template <class Test>
void ForEachTarget(const Test& test) {
  for (const char* const* name = simdnorm_targets(); *name != nullptr; ++name) {
    test(*name);
    TargetsRun().insert(*name);
  }
}

using digest::HasFusedMultiplyAdd;  // whose results are the same bits

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_ALL_TARGETS_H_
