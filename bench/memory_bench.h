// The ceilings that benches are measured against: how fast this machine moves the same bytes, now.
//
// Both run on the threads that OpenMP's parallel regions currently have, again and again on the same buffers, as a layer is
// when it is timed, and take about 1 ms for each of their loops, or 6 passes if that is longer. What is written must be 64-byte
// aligned.
#ifndef SIMDNORM_BENCH_MEMORY_BENCH_H_
#define SIMDNORM_BENCH_MEMORY_BENCH_H_

#include <cstddef>

namespace simdnorm::bench {

// Seconds that the fastest of three copies (memcpy, a loop over the widest vectors, the same with streaming stores) takes.
double FastestCopySeconds(const void* from, void* to, size_t bytes);

// Seconds that the faster of two loops (over the widest vectors, with plain and with streaming stores) takes to write
// h = x + residual and y = h, arrays of `bytes` bytes each.
double FastestAddCopySeconds(const void* x, const void* residual, void* y, void* h, size_t bytes);

}  // namespace simdnorm::bench

#endif  // SIMDNORM_BENCH_MEMORY_BENCH_H_
