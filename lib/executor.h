// Who runs a call's tasks: the calling thread, OpenMP, or the caller's own threads. Threads are in this file's .cc alone.
#ifndef SIMDNORM_LIB_EXECUTOR_H_
#define SIMDNORM_LIB_EXECUTOR_H_

#include <stdint.h>

#include "simdnorm/simdnorm.h"

namespace simdnorm {

// A range [begin, end) of a call's independent units of work; what a unit is, the kernel says.
using Kernel = void (*)(const void* args, int64_t begin, int64_t end);

struct Executor {
  simdnorm_parallel_for parallel_for = nullptr;  // null: OpenMP, or the calling thread in a build without it
  void* pool = nullptr;
  int32_t max_threads = 0;  // 0: no cap
};

// How many tasks of a large call run at a time.
int64_t NumThreads(const Executor& executor);

// Runs kernel(args, begin, end) over ranges that together are [0, units), each once, in parallel if `units` units of
// `elements_per_unit` elements are worth it; returns when all are done. Each range runs with round-to-nearest, subnormals
// kept and exceptions masked, and leaves its thread's floating-point environment as it found it.
void ParallelFor(const Executor& executor, int64_t units, int64_t elements_per_unit, Kernel kernel, const void* args);

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_EXECUTOR_H_
