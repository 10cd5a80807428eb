// Highway's own HWY_DYNAMIC_DISPATCH goes by a process-wide setting, and a call's target is the call's: so the index into the
// dispatch tables is worked out here, with a ChosenTarget of our own, once for every target.
#include "target.h"

#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#include "hwy/highway.h"
#include "simdnorm/simdnorm.h"

namespace simdnorm {
namespace {

size_t TableIndex(int64_t target) {
  if ((HWY_TARGETS & (HWY_TARGETS - 1)) == 0) return 0;  // compiled for a single target: the table has one entry
  hwy::ChosenTarget chosen;
  chosen.Update(target);
  return chosen.GetIndex();
}

__attribute__((noinline)) TargetList Detect() {
  TargetList targets;
  // Highway numbers a better target lower.
  int64_t remaining = hwy::SupportedTargets() & HWY_TARGETS;
  for (; remaining != 0 && targets.count < TargetList::kMax; remaining &= remaining - 1, ++targets.count) {
    const int64_t target = remaining & -remaining;
    targets.names[targets.count] = hwy::TargetName(target);
    targets.indices[targets.count] = TableIndex(target);
  }
  return targets;
}

// A name that is not the best's. Not inline: calls that name none, or the best, are to be short.
__attribute__((noinline)) bool Find(const TargetList& targets, const char* name, size_t* index) {
  for (size_t i = 0; i < targets.count; ++i) {
    // Most names are those that simdnorm_targets() gave out.
    if (name == targets.names[i] || strcmp(name, targets.names[i]) == 0) {
      *index = targets.indices[i];
      return true;
    }
  }
  return false;
}

// CPUID, leaf 7, subleaf 1, EAX bit 5: AVX512_BF16. Highway 1.0.3 has no target that tells.
bool HasBF16Instructions() {
#if defined(__x86_64__) || defined(__i386__)
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1) != 0;
#else
  return false;
#endif
}

}  // namespace

bool rounds_to_bf16 = HasBF16Instructions();

const TargetList& SupportedTargets() {
  static const TargetList targets = Detect();
  return targets;
}

bool FindTarget(const char* name, size_t* index) {
  const TargetList& targets = SupportedTargets();
  if (name != nullptr && name != targets.names[0]) return Find(targets, name, index);
  *index = targets.indices[0];
  return targets.count != 0;
}

}  // namespace simdnorm

const char* const* simdnorm_targets(void) { return simdnorm::SupportedTargets().names; }
