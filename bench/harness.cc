// The benches' buffers, threads, checks and timing; see harness.h. Times are wall clock, taken here: Google Benchmark's
// UseRealTime would do, but adds "/real_time" to the names; its Time column is wall clock in any case.
#include "harness.h"

#include <benchmark/benchmark.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include <hwy/aligned_allocator.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <exception>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "cache.h"

namespace simdnorm::bench {
namespace {

bool any_failed = false;

// The largest case registered: elements of x, and of scale, statistics and whatever else there is one of for each column,
// channel or row.
int64_t most_elements = 0;
int64_t most_params = 65536;

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

// Random elements, the same everywhere, held until the process ends. As much as is asked for is filled in at a time: what is
// reserved for large cases costs nothing where they are not run.
class RandomTensor {
 public:
  RandomTensor(simdnorm_dtype dtype, int64_t capacity, uint64_t seed)
      : dtype_(dtype),
        capacity_(static_cast<size_t>(capacity)),
        elements_(Allocate(cases::Bytes(dtype, capacity))),
        random_(seed) {}

  // About normal: the sum of four uniform 16-bit numbers (std::normal_distribution's values are the standard library's choice).
  // Multiples of 1/64, of which every dtype holds those below 4, so that a case has the same values in each.
  uint8_t* Normal(float mean, float deviation, int64_t count) {
    constexpr float kSumMean = 2.0f * 65535.0f;
    constexpr float kSumDeviation = 37836.9f;  // sqrt(4 / 12) * 65536
    for (; filled_ < std::min(capacity_, static_cast<size_t>(count)); ++filled_) {
      const uint64_t bits = random_();
      const auto sum = static_cast<float>((bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48));
      const float value = mean + deviation * ((sum - kSumMean) / kSumDeviation);
      SetElement(elements_, dtype_, filled_, std::nearbyint(value * 64.0f) / 64.0f);
    }
    return elements_;
  }

  // Bytes of 0 or 1, evenly.
  uint8_t* Mask(int64_t count) {
    for (; filled_ < std::min(capacity_, static_cast<size_t>(count)); ++filled_) {
      elements_[filled_] = static_cast<uint8_t>(random_() >> 63);
    }
    return elements_;
  }

 private:
  simdnorm_dtype dtype_;
  size_t capacity_, filled_ = 0;
  uint8_t* elements_;
  std::mt19937_64 random_;
};

uint8_t* MakeParams(simdnorm_dtype dtype, float mean, float deviation, uint64_t seed) {
  return RandomTensor(dtype, most_params, seed).Normal(mean, deviation, most_params);
}

float* MakeParams(float mean, float deviation, uint64_t seed) {
  return reinterpret_cast<float*>(MakeParams(SIMDNORM_F32, mean, deviation, seed));
}

// What is read in one dtype.
struct Inputs {
  explicit Inputs(simdnorm_dtype dtype)
      : tensors(dtype, 2 * most_elements, 1),
        scale(MakeParams(dtype, 1.0f, 0.2f, 2)),
        shift(MakeParams(dtype, 0.0f, 0.3f, 3)) {}

  static Inputs& Get(simdnorm_dtype dtype) {
    static std::unique_ptr<Inputs> of_dtypes[3];  // there once a case wants it
    std::unique_ptr<Inputs>& inputs = of_dtypes[dtype];
    if (inputs == nullptr) inputs = std::make_unique<Inputs>(dtype);
    return *inputs;
  }

  RandomTensor tensors;  // x and what lies behind it
  uint8_t *scale, *shift;
};

std::vector<uint8_t> OutputsOf(const Work& work) {
  const Tensors& t = work.tensors;
  const auto* const y = static_cast<const uint8_t*>(t.y.data);
  const auto* const h = static_cast<const uint8_t*>(t.h.data);
  std::vector<uint8_t> outputs(y, y + t.y_bytes);
  if (work.traffic.writes > 1) outputs.insert(outputs.end(), h, h + t.x_bytes);
  return outputs;
}

// The outputs that the call leaves where every byte was `garbage`.
std::vector<uint8_t> OutputsOver(uint8_t garbage, const Work& work) {
  const Tensors& t = work.tensors;
  std::memset(t.y.data, garbage, t.y_bytes);
  if (work.traffic.writes > 1) std::memset(t.h.data, garbage, t.x_bytes);
  work.call();
  return OutputsOf(work);
}

// The root mean square of what a peer's outputs differ from ours by, over that of ours.
double Difference(const std::vector<uint8_t>& ours, const std::vector<uint8_t>& peers, simdnorm_dtype dtype) {
  double squares = 0.0, squares_of_differences = 0.0;
  for (size_t i = 0; i < ours.size() / cases::Bytes(dtype, 1); ++i) {
    const double a = ElementAt(ours.data(), dtype, i);
    const double b = ElementAt(peers.data(), dtype, i);
    squares += a * a;
    squares_of_differences += (a - b) * (a - b);
  }
  return std::sqrt(squares_of_differences / squares);
}

// What OpenMP's parallel regions have, which the library, the copies and most peers follow.
void UseThreads([[maybe_unused]] int threads) {
#ifdef _OPENMP
  omp_set_num_threads(threads);
#endif
}

Arrays ArraysOf(const Tensors& t, bool adds) {
  return {static_cast<const uint8_t*>(t.x.data),     adds ? static_cast<const uint8_t*>(t.other.data) : nullptr,
          static_cast<uint8_t*>(t.y.data),           adds ? static_cast<uint8_t*>(t.h.data) : nullptr,
          static_cast<const uint8_t*>(t.scale.data), static_cast<const uint8_t*>(t.shift.data)};
}

using Clock = std::chrono::steady_clock;

// Something readied to be timed beside memory loops that move the same bytes.
class TimedLayer {
 public:
  TimedLayer(const Work& work, ReadyLayer layer, bool settles) : run_(std::move(layer.run)), settles_(settles) {
    const Tensors& t = work.tensors;
    const auto [reads, writes, then_sum] = work.traffic;
    bytes_ = static_cast<size_t>(reads + writes - 1) * t.x_bytes + t.y_bytes;
    // Half of the bytes to the other half: from x, and what lies behind it, to y, and what lies behind that.
    const Arrays plain = ArraysOf(t, false);
    copies_ = std::make_unique<FastestLoop>(then_sum ? CopyAndSumLoops(plain, bytes_ / 2) : CopyLoops(plain, bytes_ / 2));
    if (Adds(work)) add_copies_ = std::make_unique<FastestLoop>(AddCopyLoops(ArraysOf(t, true), t.x_bytes));
    if (then_sum) {
      bytes_ += t.y_bytes;
      run_ = [run = std::move(run_), sum = SumLoop(plain.y, t.y_bytes)] {
        run();
        sum();
      };
    }
  }

  // Whether the work reads a residual and writes the sum.
  static bool Adds(const Work& work) {
    return work.traffic.reads == 2 && work.traffic.writes == 2 && work.tensors.x_bytes == work.tensors.y_bytes;
  }

  // Reports the bytes a second and the time over that of the memory loops, measured just before and just after, since the
  // machine's speed drifts. All are medians of short times, which other processes' turns on the core do not reach; the Time
  // that Google Benchmark itself reports is a mean.
  void Time(benchmark::State& state) {
    const double copy_before = copies_->Seconds();
    const double add_copy_before = add_copies_ ? add_copies_->Seconds() : 0.0;
    Settle();
    if (repeats_ == 0) repeats_ = RepeatsToTime(run_);
    std::vector<double> times;
    while (state.KeepRunningBatch(repeats_)) times.push_back(SecondsEach(run_, repeats_));
    const double seconds = Median(times);
    if (settles_) std::this_thread::sleep_for(kSpin);
    if (add_copies_) state.counters["add_copy_ratio"] = seconds / (0.5 * (add_copy_before + add_copies_->Seconds()));
    const double copy = 0.5 * (copy_before + copies_->Seconds());
    state.counters["bytes_per_second"] =
        benchmark::Counter(static_cast<double>(bytes_) / seconds, benchmark::Counter::kDefaults, benchmark::Counter::kIs1024);
    state.counters["copy_ratio"] = seconds / copy;
    state.counters["copy_s"] = copy;
    state.counters["call_s"] = seconds;
  }

 private:
  // How long threads that wait may spin before they sleep, and take a core from others' threads meanwhile; libgomp's do 20 ms.
  static constexpr std::chrono::milliseconds kSpin{30};

  // Brings back to the caches what a copy has put out of them, and lets threads of other pools fall asleep.
  void Settle() {
    const Clock::time_point start = Clock::now();
    do run_();
    while (settles_ && Clock::now() - start < kSpin);
  }

  std::function<void()> run_;
  bool settles_;
  size_t bytes_;
  int64_t repeats_ = 0;  // RepeatsToTime, once known
  std::unique_ptr<FastestLoop> copies_;
  std::unique_ptr<FastestLoop> add_copies_;  // null unless the work adds
};

// A benchmark. Google Benchmark runs it several times, to find how often to repeat the call and for each repetition.
class Bench {
 public:
  Bench(int threads, std::function<Work()> make_work, Runner runner, const Peer* peer)
      : threads_(threads),
        make_work_(std::move(make_work)),
        runner_(std::move(runner)),
        ours_(peer == nullptr),
        settles_(!ours_ && peer->own_threads && threads > 1) {}

  void Run(benchmark::State& state) {
    UseThreads(threads_);
    try {
      if (!layer_ && problem_.empty()) Prepare();
      if (layer_) return layer_->Time(state);
    } catch (const std::exception& error) {
      any_failed |= ours_;
      problem_ = error.what();
    }
    state.SkipWithError(problem_.c_str());
  }

 private:
  void Prepare() {
    const Work work = make_work_();
    ReadyLayer ready = runner_(work);
    if (!ready.run) {
      problem_ = "it has no such layer here";
      return;
    }
    layer_ = std::make_unique<TimedLayer>(work, std::move(ready), settles_);
  }

  int threads_;
  std::function<Work()> make_work_;
  Runner runner_;
  bool ours_, settles_;
  std::unique_ptr<TimedLayer> layer_;
  std::string problem_;
};

}  // namespace

void Tensors::Reserve(int64_t elements, int64_t params) {
  most_elements = std::max(most_elements, elements);
  most_params = std::max(most_params, params);
}

Tensors Tensors::Get(Dtypes dtypes, int64_t elements) {
  static uint8_t* const outputs = Allocate(2 * sizeof(float) * static_cast<size_t>(most_elements));
  static float* const mean = MakeParams(0.25f, 0.1f, 4);
  static float* const variance = MakeParams(1.0f, 0.05f, 5);
  static float* const saved_mean = MakeParams(0.0f, 0.0f, 6);
  static float* const saved_rstd = MakeParams(0.0f, 0.0f, 7);
  static float* const running_mean = MakeParams(0.0f, 0.1f, 8);
  static float* const running_variance = MakeParams(1.0f, 0.05f, 9);
  static float* const quant_scales = MakeParams(0.0f, 0.0f, 10);
  static RandomTensor mask(SIMDNORM_U8, most_elements, 11);
  Inputs& inputs = Inputs::Get(dtypes.x);
  // x and what lies behind it, or x with gaps between its rows.
  const uint8_t* const x = inputs.tensors.Normal(0.25f, 1.0f, 3 * elements);

  Tensors tensors = {};
  tensors.dtypes = dtypes;
  tensors.x_bytes = cases::Bytes(dtypes.x, elements);
  tensors.y_bytes = cases::Bytes(dtypes.y, elements);
  tensors.x = {x, dtypes.x};
  tensors.other = {x + WholeLines(tensors.x_bytes), dtypes.x};
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
  tensors.mask = mask.Mask(elements);
  return tensors;
}

bool AnyFailed() { return any_failed; }

// That the outputs are right is for the tests to say.
ReadyLayer ReadyTarget(const Work& work) {
  if (OutputsOver(0x00, work) != OutputsOver(0xFF, work)) {
    throw std::runtime_error("the call leaves a part of its outputs as it was");
  }
  return {work.call};
}

ReadyLayer ReadyPeer(const Work& work, const std::function<ReadyLayer()>& ready_layer) {
  const ReadyLayer layer = ready_layer();
  if (!layer.run) return {};
  Work theirs = work;
  theirs.call = [&layer] {
    layer.run();
    if (layer.write_y) layer.write_y();
  };
  // What no wrong layer has; some peers compute in bf16 throughout.
  const simdnorm_dtype dtype = work.tensors.dtypes.y;
  const double most = dtype == SIMDNORM_F32 ? 1e-4 : 1e-2;
  const double difference = Difference(OutputsOver(0xFF, work), OutputsOver(0xFF, theirs), dtype);
  if (!(difference <= most)) throw std::runtime_error("the output differs from simdnorm's by " + std::to_string(difference));
  return layer;
}

ReadyLayer ReadyCeiling(const Work& work, const Units& units, int threads) {
  const bool streams = static_cast<int64_t>(work.tensors.y_bytes) >= StreamingBytes(threads);
  FastestLoop loops(CeilingLoops(ArraysOf(work.tensors, TimedLayer::Adds(work)), units, streams));
  loops.Seconds();
  return {loops.Get()};
}

void RegisterRunner(const std::string& name, int threads, const std::function<Work()>& make_work, const Runner& runner,
                    const Peer* peer) {
  const auto bench = std::make_shared<Bench>(threads, make_work, runner, peer);
  benchmark::RegisterBenchmark(name.c_str(), [bench](benchmark::State& state) { bench->Run(state); });
}

}  // namespace simdnorm::bench
