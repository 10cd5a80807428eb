// Three ways to copy, timed. Which one wins depends on where the buffers lie: memcpy or the plain loop within the caches,
// streaming stores, which do not read the destination before overwriting it, beyond them.
#include "memory_bench.h"

#include <benchmark/benchmark.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "memory_bench.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm::bench {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Four vectors at a time hide the loop's own instructions; loads come before stores so that they do not alternate.
template <class Store>
HWY_INLINE void CopyWith(const float* HWY_RESTRICT from, float* HWY_RESTRICT to, size_t count, Store store) {
  const hn::ScalableTag<float> d;
  const size_t N = hn::Lanes(d);
  size_t i = 0;
  for (; i + 4 * N <= count; i += 4 * N) {
    const auto v0 = hn::LoadU(d, from + i);
    const auto v1 = hn::LoadU(d, from + i + N);
    const auto v2 = hn::LoadU(d, from + i + 2 * N);
    const auto v3 = hn::LoadU(d, from + i + 3 * N);
    store(v0, to + i);
    store(v1, to + i + N);
    store(v2, to + i + 2 * N);
    store(v3, to + i + 3 * N);
  }
  std::copy(from + i, from + count, to + i);
}

void CopyPlain(const float* HWY_RESTRICT from, float* HWY_RESTRICT to, size_t count) {
  const hn::ScalableTag<float> d;
  CopyWith(from, to, count, [d](auto v, float* p) HWY_ATTR { hn::StoreU(v, d, p); });
}

void CopyStreaming(const float* HWY_RESTRICT from, float* HWY_RESTRICT to, size_t count) {
  const hn::ScalableTag<float> d;
  CopyWith(from, to, count, [d](auto v, float* p) HWY_ATTR { hn::Stream(v, d, p); });
  hwy::FlushStream();
}

}  // namespace HWY_NAMESPACE
}  // namespace simdnorm::bench
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace simdnorm::bench {
namespace {

HWY_EXPORT(CopyPlain);
HWY_EXPORT(CopyStreaming);

using Copy = void (*)(const float*, float*, size_t);

void CopyMemcpy(const float* from, float* to, size_t count) { std::memcpy(to, from, count * sizeof(float)); }

// One copy by all threads, a part of whole cache lines each. A single thread pays for no parallel region, as in the library.
void CopyOnThreads(Copy copy, const float* from, float* to, size_t count) {
#ifdef _OPENMP
  if (omp_get_max_threads() > 1) {
#pragma omp parallel
    {
      constexpr size_t kLine = 16;
      const size_t threads = static_cast<size_t>(omp_get_num_threads());
      const size_t part = ((count + threads - 1) / threads + kLine - 1) / kLine * kLine;
      const size_t begin = std::min(count, part * static_cast<size_t>(omp_get_thread_num()));
      copy(from + begin, to + begin, std::min(count, begin + part) - begin);
    }
    return;
  }
#endif
  copy(from, to, count);
}

double PassSeconds(Copy copy, const float* from, float* to, size_t count, int64_t repeats) {
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < repeats; ++i) {
    CopyOnThreads(copy, from, to, count);
    benchmark::ClobberMemory();
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Each way is timed by itself: streaming stores put the destination out of the caches, where the other two want it.
double MedianSeconds(Copy copy, const float* from, float* to, size_t count) {
  constexpr double kLongPass = 1e-4;  // thousands of times the clock's own cost
  constexpr int kPasses = 5;
  int64_t repeats = 1;
  while (PassSeconds(copy, from, to, count, repeats) < kLongPass) repeats *= 2;
  double seconds[kPasses];
  for (double& pass : seconds) pass = PassSeconds(copy, from, to, count, repeats) / static_cast<double>(repeats);
  std::nth_element(seconds, seconds + kPasses / 2, seconds + kPasses);
  return seconds[kPasses / 2];
}

}  // namespace

double FastestCopySeconds(const float* from, float* to, size_t count) {
  // Without an update the pointers would lead through the choice of a target, which shows in a copy of 3 KiB.
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  double fastest = MedianSeconds(CopyMemcpy, from, to, count);
  for (const Copy copy : {&HWY_DYNAMIC_DISPATCH(CopyPlain), &HWY_DYNAMIC_DISPATCH(CopyStreaming)}) {
    fastest = std::min(fastest, MedianSeconds(copy, from, to, count));
  }
  return fastest;
}

}  // namespace simdnorm::bench
#endif  // HWY_ONCE
