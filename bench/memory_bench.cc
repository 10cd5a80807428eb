// Loops that move memory, timed. Which one wins depends on where the buffers lie: memcpy or the plain loops within the caches,
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
#include <initializer_list>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "memory_bench.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#ifndef SIMDNORM_BENCH_MEMORY_BENCH_ARRAYS_
#define SIMDNORM_BENCH_MEMORY_BENCH_ARRAYS_
namespace simdnorm::bench {

// What a loop reads and writes; residual and h only if it adds. Bytes, whatever they stand for: an addition takes as long in
// any dtype that vectors can add, and conversions are no part of a ceiling.
struct Arrays {
  const uint8_t* x;
  const uint8_t* residual;
  uint8_t* y;
  uint8_t* h;
};

}  // namespace simdnorm::bench
#endif  // SIMDNORM_BENCH_MEMORY_BENCH_ARRAYS_

HWY_BEFORE_NAMESPACE();
namespace simdnorm::bench {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

struct PlainStore {
  template <class D, class V>
  HWY_INLINE void operator()(D d, V v, uint8_t* to) const {
    hn::StoreU(v, d, to);
  }
};

struct StreamingStore {
  template <class D, class V>
  HWY_INLINE void operator()(D d, V v, uint8_t* to) const {
    hn::Stream(v, d, to);
  }
};

// Four vectors at a time hide the loop's own instructions; loads come before stores so that they do not alternate.
template <class Store>
HWY_INLINE void CopyWith(Store store, const Arrays& arrays, size_t begin, size_t end) {
  const uint8_t* HWY_RESTRICT x = arrays.x;
  uint8_t* HWY_RESTRICT y = arrays.y;
  const hn::ScalableTag<uint8_t> d;
  const size_t N = hn::Lanes(d);
  size_t i = begin;
  for (; i + 4 * N <= end; i += 4 * N) {
    const auto v0 = hn::LoadU(d, x + i);
    const auto v1 = hn::LoadU(d, x + i + N);
    const auto v2 = hn::LoadU(d, x + i + 2 * N);
    const auto v3 = hn::LoadU(d, x + i + 3 * N);
    store(d, v0, y + i);
    store(d, v1, y + i + N);
    store(d, v2, y + i + 2 * N);
    store(d, v3, y + i + 3 * N);
  }
  std::copy(x + i, x + end, y + i);
}

template <class Store>
HWY_INLINE void AddCopyWith(Store store, const Arrays& arrays, size_t begin, size_t end) {
  const uint8_t* HWY_RESTRICT x = arrays.x;
  const uint8_t* HWY_RESTRICT residual = arrays.residual;
  uint8_t* HWY_RESTRICT y = arrays.y;
  uint8_t* HWY_RESTRICT h = arrays.h;
  const hn::ScalableTag<uint8_t> d;
  const size_t N = hn::Lanes(d);
  size_t i = begin;
  for (; i + 2 * N <= end; i += 2 * N) {
    const auto sum0 = hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, residual + i));
    const auto sum1 = hn::Add(hn::LoadU(d, x + i + N), hn::LoadU(d, residual + i + N));
    store(d, sum0, h + i);
    store(d, sum1, h + i + N);
    store(d, sum0, y + i);
    store(d, sum1, y + i + N);
  }
  for (; i < end; ++i) y[i] = h[i] = static_cast<uint8_t>(x[i] + residual[i]);
}

void CopyPlain(const Arrays& arrays, size_t begin, size_t end) { CopyWith(PlainStore(), arrays, begin, end); }

void CopyStreaming(const Arrays& arrays, size_t begin, size_t end) {
  CopyWith(StreamingStore(), arrays, begin, end);
  hwy::FlushStream();
}

void AddCopyPlain(const Arrays& arrays, size_t begin, size_t end) { AddCopyWith(PlainStore(), arrays, begin, end); }

void AddCopyStreaming(const Arrays& arrays, size_t begin, size_t end) {
  AddCopyWith(StreamingStore(), arrays, begin, end);
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
HWY_EXPORT(AddCopyPlain);
HWY_EXPORT(AddCopyStreaming);

using Loop = void (*)(const Arrays& arrays, size_t begin, size_t end);

void CopyMemcpy(const Arrays& arrays, size_t begin, size_t end) {
  std::memcpy(arrays.y + begin, arrays.x + begin, end - begin);
}

// One pass by all threads, a part of whole cache lines each. A single thread pays for no parallel region, as in the library.
void RunOnThreads(Loop loop, const Arrays& arrays, size_t bytes) {
#ifdef _OPENMP
  if (omp_get_max_threads() > 1) {
#pragma omp parallel
    {
      constexpr size_t kLine = 64;
      const size_t threads = static_cast<size_t>(omp_get_num_threads());
      const size_t part = ((bytes + threads - 1) / threads + kLine - 1) / kLine * kLine;
      const size_t begin = std::min(bytes, part * static_cast<size_t>(omp_get_thread_num()));
      loop(arrays, begin, std::min(bytes, begin + part));
    }
    return;
  }
#endif
  loop(arrays, 0, bytes);
}

double PassSeconds(Loop loop, const Arrays& arrays, size_t bytes, int64_t repeats) {
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < repeats; ++i) {
    RunOnThreads(loop, arrays, bytes);
    benchmark::ClobberMemory();
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Each loop is timed by itself: streaming stores put the destination out of the caches, where the others want it.
double MedianSeconds(Loop loop, const Arrays& arrays, size_t bytes) {
  constexpr double kLongPass = 1e-4;  // thousands of times the clock's own cost
  constexpr int kPasses = 5;
  int64_t repeats = 1;
  while (PassSeconds(loop, arrays, bytes, repeats) < kLongPass) repeats *= 2;
  double seconds[kPasses];
  for (double& pass : seconds) pass = PassSeconds(loop, arrays, bytes, repeats) / static_cast<double>(repeats);
  std::nth_element(seconds, seconds + kPasses / 2, seconds + kPasses);
  return seconds[kPasses / 2];
}

double FastestSeconds(std::initializer_list<Loop> loops, const Arrays& arrays, size_t bytes) {
  double fastest = MedianSeconds(*loops.begin(), arrays, bytes);
  for (const Loop* loop = loops.begin() + 1; loop != loops.end(); ++loop) {
    fastest = std::min(fastest, MedianSeconds(*loop, arrays, bytes));
  }
  return fastest;
}

// Without it a dynamically dispatched pointer would lead through the choice of a target, which shows in a copy of 3 KiB.
void ChooseTarget() { hwy::GetChosenTarget().Update(hwy::SupportedTargets()); }

const uint8_t* BytesOf(const void* array) { return static_cast<const uint8_t*>(array); }
uint8_t* BytesOf(void* array) { return static_cast<uint8_t*>(array); }

}  // namespace

double FastestCopySeconds(const void* from, void* to, size_t bytes) {
  ChooseTarget();
  return FastestSeconds({CopyMemcpy, &HWY_DYNAMIC_DISPATCH(CopyPlain), &HWY_DYNAMIC_DISPATCH(CopyStreaming)},
                        {BytesOf(from), nullptr, BytesOf(to), nullptr}, bytes);
}

double FastestAddCopySeconds(const void* x, const void* residual, void* y, void* h, size_t bytes) {
  ChooseTarget();
  return FastestSeconds({&HWY_DYNAMIC_DISPATCH(AddCopyPlain), &HWY_DYNAMIC_DISPATCH(AddCopyStreaming)},
                        {BytesOf(x), BytesOf(residual), BytesOf(y), BytesOf(h)}, bytes);
}

}  // namespace simdnorm::bench
#endif  // HWY_ONCE
