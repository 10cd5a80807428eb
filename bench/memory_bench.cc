// Loops that move memory, timed. Which one wins depends on where the buffers lie: memcpy or the plain loops within the caches,
// streaming stores, which do not read the destination before overwriting it, beyond them.
#include "memory_bench.h"

#include <benchmark/benchmark.h>
#include <unistd.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "memory_bench.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#ifndef SIMDNORM_BENCH_MEMORY_BENCH_SHARES_
#define SIMDNORM_BENCH_MEMORY_BENCH_SHARES_
namespace simdnorm::bench {

// From begin to before end.
struct Range {
  size_t begin, end;
};

}  // namespace simdnorm::bench
#endif  // SIMDNORM_BENCH_MEMORY_BENCH_SHARES_

HWY_BEFORE_NAMESPACE();
namespace simdnorm::bench {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

struct PlainStore {
  static constexpr bool kAligned = false;
  template <class D, class V>
  HWY_INLINE void operator()(D d, V v, uint8_t* to) const {
    hn::StoreU(v, d, to);
  }
};

struct StreamingStore {
  static constexpr bool kAligned = true;  // is what it needs
  template <class D, class V>
  HWY_INLINE void operator()(D d, V v, uint8_t* to) const {
    hn::Stream(v, d, to);
  }
};

// How many bytes lie before the next address that is a multiple of `alignment`, a power of two.
HWY_INLINE size_t BytesToAligned(const uint8_t* address, size_t alignment) {
  return (~reinterpret_cast<uintptr_t>(address) + 1) & (alignment - 1);
}

// Nothing happens beside a copy.
constexpr auto kNothing = [](size_t /*byte*/) {};

// Four vectors at a time hide the loop's own instructions; loads come before stores so that they do not alternate. The ends
// that do not fill a vector, or an aligned one, are vectors that overlap their neighbours. beside(i) is called for each vector.
template <class Store, class Beside>
HWY_INLINE void CopyRun(Store store, const uint8_t* HWY_RESTRICT from, uint8_t* HWY_RESTRICT to, size_t bytes,
                        const Beside& beside) {
  const hn::ScalableTag<uint8_t> d;
  const size_t N = hn::Lanes(d);
  if (bytes < N) {
    std::memcpy(to, from, bytes);
    return;
  }
  size_t i = Store::kAligned ? BytesToAligned(to, N) : 0;
  if (i > 0) hn::StoreU(hn::LoadU(d, from), d, to);
  for (; i + 4 * N <= bytes; i += 4 * N) {
    const auto v0 = hn::LoadU(d, from + i);
    const auto v1 = hn::LoadU(d, from + i + N);
    const auto v2 = hn::LoadU(d, from + i + 2 * N);
    const auto v3 = hn::LoadU(d, from + i + 3 * N);
    for (size_t k = 0; k < 4; ++k) beside(i + k * N);
    store(d, v0, to + i);
    store(d, v1, to + i + N);
    store(d, v2, to + i + 2 * N);
    store(d, v3, to + i + 3 * N);
  }
  for (; i + N <= bytes; i += N) {
    const auto v = hn::LoadU(d, from + i);
    beside(i);
    store(d, v, to + i);
  }
  if (i < bytes) hn::StoreU(hn::LoadU(d, from + bytes - N), d, to + bytes - N);
}

// The same beside kParameters arrays, of which kRatio bytes are read for each that is copied; or-ed, as in ReadRun.
template <int kParameters, size_t kRatio, class Store>
HWY_NOINLINE uint8_t CopyRunBeside(Store store, const uint8_t* HWY_RESTRICT from, uint8_t* HWY_RESTRICT to, size_t bytes,
                                   const uint8_t* scale, const uint8_t* shift) {
  const hn::ScalableTag<uint8_t> d;
  const size_t N = hn::Lanes(d);
  auto seen0 = hn::Zero(d), seen1 = seen0;
  CopyRun(store, from, to, bytes, [&](size_t i) HWY_ATTR {
    for (size_t r = 0; r < kRatio; ++r) {
      seen0 = hn::Or(seen0, hn::LoadU(d, scale + i * kRatio + r * N));
      if constexpr (kParameters == 2) seen1 = hn::Or(seen1, hn::LoadU(d, shift + i * kRatio + r * N));
    }
  });
  return hn::GetLane(hn::Or(seen0, seen1));
}

// CopyRun, or beside parameters that begin anew with every unit.
template <class Store>
HWY_INLINE uint8_t WriteRun(Store store, const Arrays& arrays, const Units& units, const uint8_t* from, uint8_t* to,
                            size_t bytes) {
  if (units.parameters == 0) {
    CopyRun(store, from, to, bytes, kNothing);
    return 0;
  }
  const bool both = units.parameters == 2, wide = units.element_bytes == Units::kParameterBytes;
  const auto copy = both ? (wide ? CopyRunBeside<2, 1, Store> : CopyRunBeside<2, 2, Store>)
                         : (wide ? CopyRunBeside<1, 1, Store> : CopyRunBeside<1, 2, Store>);
  uint8_t seen = 0;
  for (size_t i = 0; i < bytes; i += units.parameter_run) {
    const size_t n = std::min(units.parameter_run, bytes - i);
    seen = static_cast<uint8_t>(seen | copy(store, from + i, to + i, n, arrays.scale, arrays.shift));
  }
  return seen;
}

template <class Store>
HWY_INLINE void AddCopyRun(Store store, const Arrays& arrays, Range range) {
  const uint8_t* HWY_RESTRICT x = arrays.x;
  const uint8_t* HWY_RESTRICT residual = arrays.residual;
  uint8_t* HWY_RESTRICT y = arrays.y;
  uint8_t* HWY_RESTRICT h = arrays.h;
  const hn::ScalableTag<uint8_t> d;
  const size_t N = hn::Lanes(d);
  size_t i = range.begin;
  for (; i + 2 * N <= range.end; i += 2 * N) {
    const auto sum0 = hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, residual + i));
    const auto sum1 = hn::Add(hn::LoadU(d, x + i + N), hn::LoadU(d, residual + i + N));
    store(d, sum0, h + i);
    store(d, sum1, h + i + N);
    store(d, sum0, y + i);
    store(d, sum1, y + i + N);
  }
  for (; i < range.end; ++i) y[i] = h[i] = static_cast<uint8_t>(x[i] + residual[i]);
}

void CopyPlain(const Arrays& arrays, Range range) {
  CopyRun(PlainStore(), arrays.x + range.begin, arrays.y + range.begin, range.end - range.begin, kNothing);
}

void CopyStreaming(const Arrays& arrays, Range range) {
  CopyRun(StreamingStore(), arrays.x + range.begin, arrays.y + range.begin, range.end - range.begin, kNothing);
  hwy::FlushStream();
}

void AddCopyPlain(const Arrays& arrays, Range range) { AddCopyRun(PlainStore(), arrays, range); }

void AddCopyStreaming(const Arrays& arrays, Range range) {
  AddCopyRun(StreamingStore(), arrays, range);
  hwy::FlushStream();
}

// Eight sums hide the latency of an addition, 4 cycles on 2 ports.
void SumF32(const Arrays& arrays, Range range) {
  const hn::ScalableTag<float> d;
  const size_t N = hn::Lanes(d);
  const float* const y = reinterpret_cast<const float*>(arrays.y + range.begin);
  const size_t count = (range.end - range.begin) / sizeof(float);
  auto sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0, sum4 = sum0, sum5 = sum0, sum6 = sum0, sum7 = sum0;
  size_t i = 0;
  for (; i + 8 * N <= count; i += 8 * N) {
    sum0 = hn::Add(sum0, hn::LoadU(d, y + i));
    sum1 = hn::Add(sum1, hn::LoadU(d, y + i + N));
    sum2 = hn::Add(sum2, hn::LoadU(d, y + i + 2 * N));
    sum3 = hn::Add(sum3, hn::LoadU(d, y + i + 3 * N));
    sum4 = hn::Add(sum4, hn::LoadU(d, y + i + 4 * N));
    sum5 = hn::Add(sum5, hn::LoadU(d, y + i + 5 * N));
    sum6 = hn::Add(sum6, hn::LoadU(d, y + i + 6 * N));
    sum7 = hn::Add(sum7, hn::LoadU(d, y + i + 7 * N));
  }
  const auto sum =
      hn::Add(hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3)), hn::Add(hn::Add(sum4, sum5), hn::Add(sum6, sum7)));
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < count; ++i) total += y[i];
  benchmark::DoNotOptimize(total);
}

// The first reading of a run, whose parts are or-ed so that all have to be there.
template <bool kAdds>
HWY_INLINE uint8_t ReadRun(const Arrays& arrays, size_t begin, size_t bytes) {
  const uint8_t* HWY_RESTRICT x = arrays.x + begin;
  const hn::ScalableTag<uint8_t> d;
  const size_t N = hn::Lanes(d);
  const auto read = [&](size_t i) HWY_ATTR {
    if constexpr (kAdds) {
      const auto sum = hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, arrays.residual + begin + i));
      hn::StoreU(sum, d, arrays.h + begin + i);
      return sum;
    } else {
      return hn::LoadU(d, x + i);
    }
  };
  uint8_t seen = 0;
  if (bytes < N) {
    for (size_t i = 0; i < bytes; ++i) {
      const uint8_t sum = static_cast<uint8_t>(x[i] + (kAdds ? arrays.residual[begin + i] : 0));
      if (kAdds) arrays.h[begin + i] = sum;
      seen = static_cast<uint8_t>(seen | sum);
    }
    return seen;
  }
  auto seen0 = hn::Zero(d), seen1 = seen0, seen2 = seen0, seen3 = seen0;
  size_t i = 0;
  for (; i + 4 * N <= bytes; i += 4 * N) {
    seen0 = hn::Or(seen0, read(i));
    seen1 = hn::Or(seen1, read(i + N));
    seen2 = hn::Or(seen2, read(i + 2 * N));
    seen3 = hn::Or(seen3, read(i + 3 * N));
  }
  for (; i + N <= bytes; i += N) seen0 = hn::Or(seen0, read(i));
  if (i < bytes) seen1 = hn::Or(seen1, read(bytes - N));
  return hn::GetLane(hn::Or(hn::Or(seen0, seen1), hn::Or(seen2, seen3)));
}

// Some runs of some units, units being numbered along `width` and then along `outer`.
template <bool kAdds, class Store>
HWY_INLINE void ReadThenWrite(Store store, const Arrays& arrays, const Units& units, Range which, Range runs) {
  size_t outer = 0, offset = 0;
  if (which.begin > 0) {
    const size_t side_by_side = (units.width + units.run - 1) / units.run;
    outer = which.begin / side_by_side * units.outer_stride;
    offset = which.begin % side_by_side * units.run;
  }
  for (size_t unit = which.begin; unit < which.end; ++unit) {
    const size_t begin = outer + offset;
    const size_t bytes = std::min(units.run, units.width - offset);
    uint8_t seen = 0;
    for (size_t r = runs.begin; !units.read_once && r < runs.end; ++r) {
      seen = static_cast<uint8_t>(seen | ReadRun<kAdds>(arrays, begin + r * units.stride, bytes));
    }
    const uint8_t* const from = (kAdds ? arrays.h : arrays.x) + begin;
    for (size_t r = runs.begin; r < runs.end; ++r) {
      const size_t offset_of_run = r * units.stride;
      const uint8_t parameters = WriteRun(store, arrays, units, from + offset_of_run, arrays.y + begin + offset_of_run, bytes);
      seen = static_cast<uint8_t>(seen | parameters);
    }
    benchmark::DoNotOptimize(seen);
    offset += units.run;
    if (offset < units.width) continue;
    offset = 0;
    outer += units.outer_stride;
  }
}

void CeilingPlain(const Arrays& arrays, const Units& units, Range which, Range runs) {
  ReadThenWrite<false>(PlainStore(), arrays, units, which, runs);
}

void CeilingStreaming(const Arrays& arrays, const Units& units, Range which, Range runs) {
  ReadThenWrite<false>(StreamingStore(), arrays, units, which, runs);
  hwy::FlushStream();
}

void AddCeilingPlain(const Arrays& arrays, const Units& units, Range which, Range runs) {
  ReadThenWrite<true>(PlainStore(), arrays, units, which, runs);
}

void AddCeilingStreaming(const Arrays& arrays, const Units& units, Range which, Range runs) {
  ReadThenWrite<true>(StreamingStore(), arrays, units, which, runs);
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
HWY_EXPORT(SumF32);
HWY_EXPORT(CeilingPlain);
HWY_EXPORT(CeilingStreaming);
HWY_EXPORT(AddCeilingPlain);
HWY_EXPORT(AddCeilingStreaming);

constexpr size_t kLine = 64;

void CopyMemcpy(const Arrays& arrays, Range range) {
  std::memcpy(arrays.y + range.begin, arrays.x + range.begin, range.end - range.begin);
}

size_t RoundUpToLines(size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

// Calls part(i, threads) for each i < threads, at the same time.
template <class Part>
void OnThreads([[maybe_unused]] size_t threads, const Part& part) {
#ifdef _OPENMP
#pragma omp parallel num_threads(static_cast <int>(threads))
  part(static_cast<size_t>(omp_get_thread_num()), threads);
#else
  part(0, 1);
#endif
}

size_t Threads() {
#ifdef _OPENMP
  return static_cast<size_t>(omp_get_max_threads());
#else
  return 1;
#endif
}

// A pass by all threads, a part of whole cache lines each. A single thread pays for no parallel region, as in the library.
MemoryLoop OverLines(void (*loop)(const Arrays& arrays, Range range), const Arrays& arrays, size_t bytes) {
  const size_t threads = Threads();
  if (threads == 1) return [=] { loop(arrays, {0, bytes}); };
  const size_t part = RoundUpToLines((bytes + threads - 1) / threads);
  return [=] {
    OnThreads(threads, [=](size_t thread, size_t) {
      const size_t begin = std::min(bytes, part * thread);
      loop(arrays, {begin, std::min(bytes, begin + part)});
    });
  };
}

using CeilingLoop = void (*)(const Arrays& arrays, const Units& units, Range which, Range runs);

// A pass by all threads, as many units each, or a part of each unit's runs where there are fewer units than threads.
MemoryLoop OverUnits(CeilingLoop loop, const Arrays& arrays, const Units& units) {
  const size_t count = (units.width + units.run - 1) / units.run * units.outer;
  const auto pass = [=](size_t thread, size_t threads) {
    const auto share = [=](size_t all) -> Range { return {all * thread / threads, all * (thread + 1) / threads}; };
    const bool split_units = count < threads && units.runs > 1;
    loop(arrays, units, split_units ? Range{0, count} : share(count), split_units ? share(units.runs) : Range{0, units.runs});
  };
  const size_t threads = Threads();
  if (threads == 1) return [=] { pass(0, 1); };
  return [=] { OnThreads(threads, pass); };
}

size_t L2Bytes() {
  constexpr long kUsual = 1024 * 1024;
#ifdef _SC_LEVEL2_CACHE_SIZE
  if (const long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE); bytes > 0) return static_cast<size_t>(bytes);
#endif
  return kUsual;
}

// Without it a dynamically dispatched pointer would lead through the choice of a target, which shows in a copy of 3 KiB.
void ChooseTarget() { hwy::GetChosenTarget().Update(hwy::SupportedTargets()); }

}  // namespace

double SecondsEach(const std::function<void()>& call, int64_t repeats) {
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < repeats; ++i) {
    call();
    benchmark::ClobberMemory();
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / static_cast<double>(repeats);
}

int64_t RepeatsToTime(const std::function<void()>& call) {
  constexpr double kLong = 1e-4;  // thousands of times the clock's own cost
  int64_t repeats = 1;
  while (SecondsEach(call, repeats) * static_cast<double>(repeats) < kLong) repeats *= 2;
  return repeats;
}

double Median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

FastestLoop::FastestLoop(std::vector<MemoryLoop> loops) {
  for (MemoryLoop& loop : loops) contestants_.push_back({std::move(loop), 0, 0.0});
}

// Each loop is timed by itself: streaming stores put the destination out of the caches, where the others want it.
double FastestLoop::Seconds() {
  constexpr double kFarBehind = 1.5;  // more than a disturbance makes of a median
  constexpr size_t kPasses = 5;
  const bool first = contestants_.front().repeats == 0;
  for (Contestant& contestant : contestants_) {
    if (first) contestant.repeats = RepeatsToTime(contestant.loop);
    std::vector<double> passes(kPasses);
    for (double& pass : passes) pass = SecondsEach(contestant.loop, contestant.repeats);
    contestant.seconds = Median(passes);
  }
  std::sort(contestants_.begin(), contestants_.end(),
            [](const Contestant& a, const Contestant& b) { return a.seconds < b.seconds; });
  const double fastest = contestants_.front().seconds;
  while (first && contestants_.back().seconds > kFarBehind * fastest) contestants_.pop_back();
  return fastest;
}

std::vector<MemoryLoop> CopyLoops(const Arrays& arrays, size_t bytes) {
  ChooseTarget();
  return {OverLines(CopyMemcpy, arrays, bytes), OverLines(&HWY_DYNAMIC_DISPATCH(CopyPlain), arrays, bytes),
          OverLines(&HWY_DYNAMIC_DISPATCH(CopyStreaming), arrays, bytes)};
}

MemoryLoop SumLoop(const uint8_t* y, size_t bytes) {
  ChooseTarget();
  return OverLines(&HWY_DYNAMIC_DISPATCH(SumF32), {nullptr, nullptr, const_cast<uint8_t*>(y), nullptr}, bytes);
}

std::vector<MemoryLoop> CopyAndSumLoops(const Arrays& arrays, size_t bytes) {
  std::vector<MemoryLoop> loops = CopyLoops(arrays, bytes);
  for (MemoryLoop& loop : loops) {
    loop = [copy = loop, sum = SumLoop(arrays.y, bytes)] {
      copy();
      sum();
    };
  }
  return loops;
}

std::vector<MemoryLoop> AddCopyLoops(const Arrays& arrays, size_t bytes) {
  ChooseTarget();
  return {OverLines(&HWY_DYNAMIC_DISPATCH(AddCopyPlain), arrays, bytes),
          OverLines(&HWY_DYNAMIC_DISPATCH(AddCopyStreaming), arrays, bytes)};
}

std::vector<MemoryLoop> CeilingLoops(const Arrays& arrays, const Units& units, bool streams) {
  ChooseTarget();
  const CeilingLoop plain = streams ? &HWY_DYNAMIC_DISPATCH(CeilingStreaming) : &HWY_DYNAMIC_DISPATCH(CeilingPlain);
  const CeilingLoop adding = streams ? &HWY_DYNAMIC_DISPATCH(AddCeilingStreaming) : &HWY_DYNAMIC_DISPATCH(AddCeilingPlain);
  const size_t fitting_side_by_side = std::max<size_t>(1, L2Bytes() / 2 / units.runs / units.run);
  std::vector<MemoryLoop> loops;
  size_t last_run = 0;
  for (const size_t run : {units.run, std::min(units.width, fitting_side_by_side * units.run), units.width}) {
    if (run == last_run) continue;
    last_run = run;
    Units wide = units;
    wide.run = run;
    loops.push_back(OverUnits(arrays.residual != nullptr ? adding : plain, arrays, wide));
  }
  return loops;
}

}  // namespace simdnorm::bench
#endif  // HWY_ONCE
