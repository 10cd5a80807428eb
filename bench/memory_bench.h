// The ceiling that every bench is measured against: how fast this machine copies the same bytes, now.
#ifndef SIMDNORM_BENCH_MEMORY_BENCH_H_
#define SIMDNORM_BENCH_MEMORY_BENCH_H_

#include <cstddef>

namespace simdnorm::bench {

// Seconds that the fastest of three copies (memcpy, a loop over the widest vectors, the same with streaming stores) takes
// for `count` floats, repeated on the same buffers, as a layer is when it is timed. Runs on the threads that OpenMP's
// parallel regions currently have. `to` must be 64-byte aligned. Takes about 3 ms, or 18 copies if that is longer.
double FastestCopySeconds(const float* from, float* to, size_t count);

}  // namespace simdnorm::bench

#endif  // SIMDNORM_BENCH_MEMORY_BENCH_H_
