// What depends on how much the last-level cache holds: a matter of time, never of bits. The machine is asked once.
#ifndef SIMDNORM_LIB_CACHE_H_
#define SIMDNORM_LIB_CACHE_H_

#include <stdint.h>

#include "executor.h"

namespace simdnorm {

// From how many bytes on an output is better written past the caches, with streaming stores, by so many threads: what is in
// them stays, and memory is not read only to be overwritten. Whoever reads a smaller output next still finds it in the
// last-level cache, and loses more than the writer gains if it is not there.
int64_t StreamingBytes(int64_t threads);

// From how many bytes on a call's inputs and outputs together come from memory and go there, as good as all of them.
int64_t OverflowBytes();

// Below this nobody needs to be asked, either way.
constexpr int64_t kLeastStreamingBytes = int64_t{4} << 20;

inline bool WritesPastCaches(int64_t bytes, const Executor& executor) {
  return bytes >= kLeastStreamingBytes && bytes >= StreamingBytes(NumThreads(executor));
}

inline bool OverflowsCaches(int64_t bytes) { return bytes >= kLeastStreamingBytes && bytes >= OverflowBytes(); }

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_CACHE_H_
