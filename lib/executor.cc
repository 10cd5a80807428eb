#include "executor.h"

#include <algorithm>

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif
#if defined(__SSE2__)
#include <xmmintrin.h>
#else
#include <cfenv>
#endif

namespace simdnorm {
namespace {

// A parallel region costs about half a microsecond, and waking threads can cost more; one thread normalizes some 8 Ki elements
// in that time. Tasks have at least twice that, so that calls of less than 32 Ki elements stay on the calling thread.
constexpr int64_t kMinElementsPerTask = 16384;

// The floating-point environment of a task. Kernels need the default one, or bits and range promises fail; what the caller's
// thread had set comes back when the task ends.
class FloatingPointEnvironment {
 public:
#if defined(__SSE2__)
  FloatingPointEnvironment() : caller_(_mm_getcsr()) {
    if ((caller_ & ~kFlags) != kDefault) _mm_setcsr(kDefault);
  }
  ~FloatingPointEnvironment() {
    if ((caller_ & ~kFlags) != kDefault) _mm_setcsr(caller_);
  }

 private:
  static constexpr unsigned kFlags = 0x3F;      // what has happened so far
  static constexpr unsigned kDefault = 0x1F80;  // all exceptions masked, nearest even, no flushing to zero
  unsigned caller_;
#elif defined(__aarch64__)
  FloatingPointEnvironment() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(caller_));
    if (caller_ != 0) Set(0);
  }
  ~FloatingPointEnvironment() {
    if (caller_ != 0) Set(caller_);
  }

 private:
  static void Set(uint64_t fpcr) { __asm__ volatile("msr fpcr, %0" : : "r"(fpcr)); }
  uint64_t caller_;
#else
  FloatingPointEnvironment() {
    std::fegetenv(&caller_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~FloatingPointEnvironment() { std::fesetenv(&caller_); }

 private:
  std::fenv_t caller_;
#endif
};

// The ranges of a ParallelFor, by number.
struct Ranges {
  Kernel kernel;
  const void* args;
  int64_t units, num_tasks;
};

void Run(Kernel kernel, const void* args, int64_t begin, int64_t end) {
  const FloatingPointEnvironment environment;
  kernel(args, begin, end);
}

void RunRange(void* context, int64_t task) {
  const Ranges& ranges = *static_cast<const Ranges*>(context);
  // The first units % num_tasks tasks have one unit more: no product of the two that could overflow.
  const int64_t size = ranges.units / ranges.num_tasks, longer = ranges.units % ranges.num_tasks;
  const int64_t begin = task * size + std::min(task, longer);
  Run(ranges.kernel, ranges.args, begin, begin + size + (task < longer));
}

// Of the machine; not of the calling thread, which may be pinned while the pool's are not. Asked once: it takes long.
int64_t NumProcessors() {
#if defined(__unix__) || defined(__APPLE__)
  static const long num_processors = sysconf(_SC_NPROCESSORS_ONLN);
  return std::max<int64_t>(1, num_processors);
#else
  return 8;  // more tasks than processors cost little
#endif
}

// Runs the ranges on the caller's threads or OpenMP's. Not inline: calls that share nothing are to be short.
__attribute__((noinline)) void Share(const Executor& executor, Ranges ranges) {
  if (ranges.num_tasks == 1) return RunRange(&ranges, 0);
  if (executor.parallel_for) return executor.parallel_for(executor.pool, ranges.num_tasks, RunRange, &ranges);
#ifdef _OPENMP
#pragma omp parallel for schedule(static) num_threads(static_cast <int>(ranges.num_tasks))
#endif
  for (int64_t task = 0; task < ranges.num_tasks; ++task) RunRange(&ranges, task);
}

}  // namespace

int64_t NumThreads(const Executor& executor) {
  if (executor.max_threads == 1) return 1;
  if (executor.parallel_for) return executor.max_threads > 0 ? executor.max_threads : NumProcessors();
#ifdef _OPENMP
  if (omp_in_parallel()) return 1;
  const int64_t threads = omp_get_max_threads();
  return executor.max_threads > 0 ? std::min<int64_t>(executor.max_threads, threads) : threads;
#else
  return 1;
#endif
}

void ParallelFor(const Executor& executor, int64_t units, int64_t elements_per_unit, Kernel kernel, const void* args) {
  if (units == 1) return Run(kernel, args, 0, 1);
  const double elements = static_cast<double>(units) * static_cast<double>(elements_per_unit);
  if (elements < 2.0 * kMinElementsPerTask) return Run(kernel, args, 0, units);
  const double worthwhile = std::min(elements / kMinElementsPerTask, static_cast<double>(NumThreads(executor)));
  Share(executor, {kernel, args, units, std::min(units, static_cast<int64_t>(worthwhile))});
}

}  // namespace simdnorm

int32_t simdnorm_default_threads(void) { return static_cast<int32_t>(simdnorm::NumThreads(simdnorm::Executor())); }
