// Tests run on every CPU target that the library has on this machine, and remember on which: api_test.cc compares with what a
// machine was meant to run, so that a target lost in a build does not pass as tested.
#ifndef SIMDNORM_TEST_ALL_TARGETS_H_
#define SIMDNORM_TEST_ALL_TARGETS_H_

#include <initializer_list>
#include <set>
#include <string>

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

// Whether results are the same bits as on all other targets that have fused multiply-add.
inline bool HasFusedMultiplyAdd(const std::string& target) {
  for (const char* without : {"SSE2", "SSSE3", "SSE4", "SCALAR", "EMU128"}) {
    if (target == without) return false;
  }
  return true;
}

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_ALL_TARGETS_H_
