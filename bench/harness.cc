// The benches' buffers, threads, checks and timing; see harness.h. Times are wall clock, taken here: Google Benchmark's
// UseRealTime would do, but adds "/real_time" to the names; its Time column is wall clock in any case.
#include "harness.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#include <hwy/aligned_allocator.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <random>
#include <vector>

#include "memory_bench.h"

namespace simdnorm::bench {
namespace {

bool any_failed = false;

void Fail(benchmark::State& state, const std::string& message) {
  any_failed = true;
  state.SkipWithError(message.c_str());
}

// The largest case: elements of x, and of scale, statistics and whatever else there is one of for each column, channel or row.
constexpr int64_t kMostElements = 4096 * 4096;
constexpr int64_t kMostParams = 65536;

// What lies behind a tensor starts with a cache line of its own, as streaming stores want it.
size_t WholeLines(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Held until the process ends.
uint8_t* Allocate(size_t bytes) { return hwy::AllocateAligned<uint8_t>(WholeLines(bytes)).release(); }

// Element i of a tensor in f32, bf16 or f16.
float ElementAt(const uint8_t* tensor, simdnorm_dtype dtype, size_t i) {
  uint32_t bits = 0;
  std::memcpy(&bits, tensor + i * cases::Bytes(dtype, 1), cases::Bytes(dtype, 1));
  if (dtype == SIMDNORM_BF16) bits <<= 16;
  if (dtype == SIMDNORM_F16) bits = (bits & 0x8000) << 16 | (bits & 0x7FFF) << 13;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return dtype == SIMDNORM_F16 ? value * 0x1p112f : value;  // f16's exponents are 112 less; its Inf becomes 65536
}

// For a value that the dtype holds exactly, and no subnormal of it.
void SetElement(uint8_t* tensor, simdnorm_dtype dtype, size_t i, float value) {
  if (dtype == SIMDNORM_F16) value *= 0x1p-112f;
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if (dtype == SIMDNORM_BF16) bits >>= 16;
  if (dtype == SIMDNORM_F16) bits = (bits >> 16 & 0x8000) | (bits >> 13 & 0x7FFF);
  std::memcpy(tensor + i * cases::Bytes(dtype, 1), &bits, cases::Bytes(dtype, 1));
}

// About normal with the given mean and standard deviation: the sum of four uniform 16-bit numbers, the same everywhere
// (std::normal_distribution's values are the standard library's choice). Multiples of 1/64, of which every dtype holds those
// below 4, so that a case has the same values in each. Held until the process ends.
uint8_t* AllocateFilled(simdnorm_dtype dtype, int64_t count, float mean, float deviation, uint64_t seed) {
  uint8_t* const tensor = Allocate(cases::Bytes(dtype, count));
  std::mt19937_64 random(seed);
  constexpr float kSumMean = 2.0f * 65535.0f;
  constexpr float kSumDeviation = 37836.9f;  // sqrt(4 / 12) * 65536
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    const uint64_t bits = random();
    const auto sum = static_cast<float>((bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48));
    const float value = mean + deviation * ((sum - kSumMean) / kSumDeviation);
    SetElement(tensor, dtype, i, std::nearbyint(value * 64.0f) / 64.0f);
  }
  return tensor;
}

float* AllocateParams(float mean, float deviation, uint64_t seed) {
  return reinterpret_cast<float*>(AllocateFilled(SIMDNORM_F32, kMostParams, mean, deviation, seed));
}

// 0 or 1 at random, evenly. Held until the process ends.
uint8_t* AllocateMask(size_t count, uint64_t seed) {
  uint8_t* const mask = Allocate(count);
  std::mt19937_64 random(seed);
  for (size_t i = 0; i < count; ++i) mask[i] = static_cast<uint8_t>(random() >> 63);
  return mask;
}

// What is read in one dtype; there once a case wants it.
struct Inputs {
  uint8_t* tensors = nullptr;  // x and what lies behind it
  uint8_t* scale = nullptr;
  uint8_t* shift = nullptr;

  static const Inputs& Get(simdnorm_dtype dtype) {
    static Inputs of_dtypes[3];
    Inputs& inputs = of_dtypes[dtype];
    if (inputs.tensors == nullptr) {
      inputs.tensors = AllocateFilled(dtype, 2 * kMostElements, 0.25f, 1.0f, 1);
      inputs.scale = AllocateFilled(dtype, kMostParams, 1.0f, 0.2f, 2);
      inputs.shift = AllocateFilled(dtype, kMostParams, 0.0f, 0.3f, 3);
    }
    return inputs;
  }
};

std::vector<uint8_t> OutputsOf(const Work& work) {
  const Tensors& t = work.tensors;
  const auto* const y = static_cast<const uint8_t*>(t.y.data);
  const auto* const h = static_cast<const uint8_t*>(t.h.data);
  std::vector<uint8_t> outputs(y, y + t.y_bytes);
  if (work.traffic.writes > 1) outputs.insert(outputs.end(), h, h + t.x_bytes);
  return outputs;
}

// Makes the call over outputs full of one byte. "" if it succeeds, else its message.
std::string CallOver(uint8_t garbage, const Work& work) {
  const Tensors& t = work.tensors;
  std::memset(t.y.data, garbage, t.y_bytes);
  if (work.traffic.writes > 1) std::memset(t.h.data, garbage, t.x_bytes);
  const Result result = work.call();
  return result ? "" : result.message();
}

// "" if the call succeeds and writes every byte of its outputs, which are then the same whatever was there before; else what
// is wrong. That they are right is for the tests to say.
std::string Problem(const Work& work) {
  if (const std::string message = CallOver(0x00, work); !message.empty()) return message;
  const std::vector<uint8_t> outputs = OutputsOf(work);
  if (const std::string message = CallOver(0xFF, work); !message.empty()) return message;
  return outputs == OutputsOf(work) ? "" : "the call leaves a part of its outputs as it was";
}

// "" if y is within 1e-3 of what it was, or two units in the last place of its dtype, which no wrong layer is; else what is
// wrong.
std::string Disagreement(const std::vector<uint8_t>& y, const Tensors& tensors) {
  const simdnorm_dtype dtype = tensors.dtypes.y;
  const float unit = dtype == SIMDNORM_F32 ? 0x1p-23f : dtype == SIMDNORM_F16 ? 0x1p-10f : 0x1p-7f;
  for (size_t i = 0; i < y.size() / cases::Bytes(dtype, 1); ++i) {
    const float a = ElementAt(y.data(), dtype, i);
    const float b = ElementAt(static_cast<const uint8_t*>(tensors.y.data), dtype, i);
    if (!(std::fabs(a - b) <= std::max(1e-3f, 2.0f * unit * std::fabs(a)))) return "the output differs from simdnorm's";
  }
  return "";
}

// Times call(), whose traffic is the work's, and reports the bytes a second and the time over that of the loops that only move
// the same bytes, measured just before and just after, since the machine's speed drifts.
template <class Call>
void TimeBesideMemory(benchmark::State& state, const Work& work, Call&& call) {
  using Clock = std::chrono::steady_clock;
  const Tensors& t = work.tensors;
  const auto [reads, writes] = work.traffic;
  const size_t bytes = static_cast<size_t>(reads + writes - 1) * t.x_bytes + t.y_bytes;
  // Half of the bytes to the other half: from x, and what lies behind it, to y, and what lies behind that.
  const auto copy_seconds = [&] { return FastestCopySeconds(t.x.data, t.y.data, bytes / 2); };
  const bool adds = reads == 2 && writes == 2 && t.x_bytes == t.y_bytes;
  const auto add_copy_seconds = [&] {
    return adds ? FastestAddCopySeconds(t.x.data, t.other.data, t.y.data, t.h.data, t.x_bytes) : 0.0;
  };
  const double copy_before = copy_seconds();
  const double add_copy_before = add_copy_seconds();
  call();  // brings back to the caches what a copy put out of them
  const Clock::time_point start = Clock::now();
  for (auto _ : state) {
    call();
    benchmark::ClobberMemory();
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count() / static_cast<double>(state.iterations());
  const double add_copy = 0.5 * (add_copy_before + add_copy_seconds());
  const double copy = 0.5 * (copy_before + copy_seconds());
  state.counters["bytes_per_second"] =
      benchmark::Counter(static_cast<double>(bytes) / seconds, benchmark::Counter::kDefaults, benchmark::Counter::kIs1024);
  state.counters["copy_ratio"] = seconds / copy;
  if (adds) state.counters["add_copy_ratio"] = seconds / add_copy;
}

}  // namespace

Tensors Tensors::Get(Dtypes dtypes, int64_t elements) {
  if (elements > kMostElements) {
    std::fprintf(stderr, "simdnorm_bench: a case is larger than kMostElements\n");
    std::abort();
  }
  static uint8_t* const outputs = Allocate(2 * sizeof(float) * kMostElements);
  static float* const mean = AllocateParams(0.25f, 0.1f, 4);
  static float* const variance = AllocateParams(1.0f, 0.05f, 5);
  static float* const saved_mean = AllocateParams(0.0f, 0.0f, 6);
  static float* const saved_rstd = AllocateParams(0.0f, 0.0f, 7);
  static float* const running_mean = AllocateParams(0.0f, 0.1f, 8);
  static float* const running_variance = AllocateParams(1.0f, 0.05f, 9);
  static float* const quant_scales = AllocateParams(0.0f, 0.0f, 10);
  static const uint8_t* const mask = AllocateMask(kMostElements, 11);
  const Inputs& inputs = Inputs::Get(dtypes.x);

  Tensors tensors = {};
  tensors.dtypes = dtypes;
  tensors.x_bytes = cases::Bytes(dtypes.x, elements);
  tensors.y_bytes = cases::Bytes(dtypes.y, elements);
  tensors.x = {inputs.tensors, dtypes.x};
  tensors.other = {inputs.tensors + WholeLines(tensors.x_bytes), dtypes.x};
  tensors.y = {outputs, dtypes.y};
  tensors.h = {outputs + WholeLines(tensors.y_bytes), dtypes.x};
  tensors.scale = {inputs.scale, dtypes.x};
  tensors.shift = {inputs.shift, dtypes.x};
  tensors.mean = mean;
  tensors.variance = variance;
  tensors.saved_mean = saved_mean;
  tensors.saved_rstd = saved_rstd;
  tensors.running_mean = running_mean;
  tensors.running_variance = running_variance;
  tensors.quant_scales = quant_scales;
  tensors.mask = mask;
  return tensors;
}

void UseThreads([[maybe_unused]] int threads) {
#ifdef _OPENMP
  omp_set_num_threads(threads);
#endif
}

bool AnyFailed() { return any_failed; }

void BenchTarget(benchmark::State& state, const Work& work) {
  if (const std::string problem = Problem(work); !problem.empty()) return Fail(state, problem);
  bool ok = true;
  TimeBesideMemory(state, work, [&] { ok &= work.call().ok(); });
  if (!ok) Fail(state, "a call failed while it was timed");
}

void BenchPeer(benchmark::State& state, const Work& work, const std::function<PeerCall()>& prepare_peer) {
  if (const std::string problem = Problem(work); !problem.empty()) return Fail(state, problem);
  const std::vector<uint8_t> ours = OutputsOf(work);
  try {
    const PeerCall peer_call = prepare_peer();
    if (!peer_call) return state.SkipWithError("it has no such layer here");
    CallOver(0xFF, {[&] { return peer_call(), Result(); }, work.traffic, work.tensors});
    if (const std::string problem = Disagreement(ours, work.tensors); !problem.empty()) return Fail(state, problem);
    TimeBesideMemory(state, work, peer_call);
  } catch (const std::exception& error) {
    Fail(state, error.what());
  }
}

}  // namespace simdnorm::bench
