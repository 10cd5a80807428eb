// Whether an output is written past the caches.
#ifndef SIMDNORM_LIB_CACHE_H_
#define SIMDNORM_LIB_CACHE_H_

#include <stdint.h>

namespace simdnorm {

struct Executor;  // executor.h
int64_t NumThreads(const Executor& executor);

// From how many bytes on an output is better written past the caches, with streaming stores, by so many threads: what is in
// them stays, and memory is not read only to be overwritten. Whoever reads a smaller output next still finds it in the
// last-level cache, and loses more than the writer gains if it is not there. The machine is asked once; it is a matter of time,
// never of bits.
int64_t StreamingBytes(int64_t threads);

// Below this nobody needs to be asked.
constexpr int64_t kLeastStreamingBytes = int64_t{4} << 20;

inline bool WritesPastCaches(int64_t bytes, const Executor& executor) {
  return bytes >= kLeastStreamingBytes && bytes >= StreamingBytes(NumThreads(executor));
}

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_CACHE_H_
