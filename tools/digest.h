// Digests of the bits that the library computes: of a fixed set of calls, group by group, so that machines that never meet can
// be compared. test/digests.txt holds what they are on every target with fused multiply-add.
#ifndef SIMDNORM_TOOLS_DIGEST_H_
#define SIMDNORM_TOOLS_DIGEST_H_

#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "simdnorm/simdnorm.h"

namespace digest {

// FNV-1a with 64 bits. Each byte's step is a bijection of the state, so bytes that differ in one place never have one hash.
class Hash {
 public:
  void Add(const void* data, size_t bytes) {
    const unsigned char* const begin = static_cast<const unsigned char*>(data);
    for (size_t i = 0; i < bytes; ++i) state_ = (state_ ^ begin[i]) * 0x100000001B3u;
  }
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 0xCBF29CE484222325u;
};

// Called with each of a call's outputs after the call. Outputs are hashed as they lie in memory, gaps and padding too.
using Visit = std::function<void(void* output, size_t bytes)>;

// Calls that have something in common.
struct Group {
  std::string name;  // operation/dtype of x/what is varied
  bool is_large;     // its calls are split over threads
  // Runs the calls; the target and the executor are those of `options`. Throws std::runtime_error if one is refused.
  std::function<void(const simdnorm_options& options, const Visit& visit)> run;
};

const std::vector<Group>& Groups();

// The name, a space and 16 hex digits.
std::string Line(const Group& group, const Hash& hash);
std::string Line(const Group& group, const simdnorm_options& options);

// Whether a target has fused multiply-add, and so the bits that are promised.
inline bool HasFusedMultiplyAdd(const std::string& target) {
  for (const char* without : {"SSE2", "SSSE3", "SSE4", "SCALAR", "EMU128"}) {
    if (target == without) return false;
  }
  return true;
}

}  // namespace digest

#endif  // SIMDNORM_TOOLS_DIGEST_H_
