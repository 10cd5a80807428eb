// CPU targets: which ones this build and machine have, and the place of a call's target in Highway's dispatch tables. And what
// a processor may have beyond its target.
#ifndef SIMDNORM_LIB_TARGET_H_
#define SIMDNORM_LIB_TARGET_H_

#include <stddef.h>

namespace simdnorm {

// Targets that were compiled and that this machine supports, best first. Found out once.
struct TargetList {
  static constexpr size_t kMax = 16;
  size_t count = 0;
  const char* names[kMax + 1] = {};  // ended by null
  size_t indices[kMax] = {};         // into a table of HWY_EXPORT
};

const TargetList& SupportedTargets();

// The table index of the target called `name` (null: the best); false if there is no such target.
bool FindTarget(const char* name, size_t* index);

// Whether the processor has an instruction that rounds f32 to bf16 (x86: AVX512_BF16), which AVX-512's kernels use then: a
// matter of time, never of bits. Only tests change it.
extern bool rounds_to_bf16;

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_TARGET_H_
