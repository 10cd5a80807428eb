// CPU targets: which ones this build and machine have, and the place of a call's target in Highway's dispatch tables.
#ifndef SIMDNORM_LIB_TARGET_H_
#define SIMDNORM_LIB_TARGET_H_

#include <stddef.h>

namespace simdnorm {

// Targets that were compiled and that this machine supports, best first. Found out once.
struct Targets {
  static constexpr size_t kMax = 16;
  size_t count = 0;
  const char* names[kMax + 1] = {};  // ended by null
  size_t indices[kMax] = {};         // into a table of HWY_EXPORT
};

const Targets& SupportedTargets();

// The table index of the target called `name` (null: the best); false if there is no such target.
bool FindTarget(const char* name, size_t* index);

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_TARGET_H_
