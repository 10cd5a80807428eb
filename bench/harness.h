// What every bench shares: the buffers, the flags, the naming, and the timing beside a copy of the same bytes.
//
// Times are wall clock, taken by the harness itself. Google Benchmark's UseRealTime would do, but adds "/real_time" to the
// names; its Time column is wall clock in any case.
#ifndef SIMDNORM_BENCH_HARNESS_H_
#define SIMDNORM_BENCH_HARNESS_H_

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "cases.h"
#include "memory_bench.h"
#include "simdnorm/simdnorm.hpp"

namespace simdnorm::bench {

// One set of buffers for all cases, large enough for each, so that all of them, and the peers and copies too, work on the
// same addresses and values. Everything holds data before the first timing; x is close to normal.
struct Buffers {
  float* x;
  float* y;
  float* scale;
  float* shift;
  float* mean;              // given statistics, for inference
  float* variance;          // the same; positive
  float* saved_mean;        // outputs of training
  float* saved_rstd;        // the same
  float* running_mean;      // updated by training
  float* running_variance;  // the same

  static const Buffers& Get();
};

// Makes `threads` what OpenMP's parallel regions have, which the library, the copies and the peers all follow.
void UseThreads(int threads);

// Ends a benchmark with an error, which also becomes the exit status.
void Fail(benchmark::State& state, const std::string& message);
bool AnyFailed();

// Times call(), which reads `elements` floats of x and writes as many of y, and reports the bytes a second and the time
// over that of the fastest copy, measured just before and just after, since the machine's speed drifts.
template <class Call>
void TimeBesideCopy(benchmark::State& state, int64_t elements, Call&& call) {
  using Clock = std::chrono::steady_clock;
  const Buffers& buffers = Buffers::Get();
  const double copy_before = FastestCopySeconds(buffers.x, buffers.y, static_cast<size_t>(elements));
  call();  // brings back to the caches what a copy put out of them
  const Clock::time_point start = Clock::now();
  for (auto _ : state) {
    call();
    benchmark::ClobberMemory();
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count() / static_cast<double>(state.iterations());
  const double copy_after = FastestCopySeconds(buffers.x, buffers.y, static_cast<size_t>(elements));
  const double bytes = 2.0 * sizeof(float) * static_cast<double>(elements);
  state.counters["bytes_per_second"] =
      benchmark::Counter(bytes / seconds, benchmark::Counter::kDefaults, benchmark::Counter::kIs1024);
  state.counters["copy_ratio"] = seconds / (0.5 * (copy_before + copy_after));
}

// Another library, for comparison on the same cases. A member makes a call ready to run on the buffers, everything that can
// be done once done; null where the library has no such layer. It may throw.
using PeerCall = std::function<void()>;
template <class Case>
using PeerLayer = PeerCall (*)(const Case&, const Buffers&);

struct Peer {
  const char* name;
  PeerLayer<cases::RowsCase> layer_norm;
  PeerLayer<cases::RowsCase> rms_norm;
  PeerLayer<cases::ChannelsCase> batch_norm_training;
  PeerLayer<cases::ChannelsCase> batch_norm_inference;
};

// What to register.
struct Config {
  std::vector<std::string> targets;
  std::vector<int> threads;
  std::vector<Peer> peers;
};

// Null if `other` is within 1e-3 of y everywhere, which no wrong layer is; else what is wrong.
const char* Disagreement(const std::vector<float>& y, const float* other);

// call(shape, buffers, options) calls simdnorm.
template <class Case, class Call>
void BenchTarget(benchmark::State& state, const Case& shape, Call call, const std::string& target, int threads) {
  UseThreads(threads);
  const Buffers& buffers = Buffers::Get();
  const Options options = {target.c_str(), threads};
  if (const Result result = call(shape, buffers, options); !result) return Fail(state, result.message());
  TimeBesideCopy(state, shape.Elements(), [&] {
    bool ok = call(shape, buffers, options).ok();
    benchmark::DoNotOptimize(ok);
  });
}

// A peer is timed only after its output has been compared with simdnorm's.
template <class Case, class Call>
void BenchPeer(benchmark::State& state, const Case& shape, Call call, PeerLayer<Case> layer, int threads) {
  UseThreads(threads);
  const Buffers& buffers = Buffers::Get();
  if (const Result result = call(shape, buffers, {nullptr, threads}); !result) return Fail(state, result.message());
  const std::vector<float> ours(buffers.y, buffers.y + shape.Elements());
  try {
    const PeerCall peer_call = layer(shape, buffers);
    peer_call();
    if (const char* problem = Disagreement(ours, buffers.y)) return Fail(state, problem);
    TimeBesideCopy(state, shape.Elements(), peer_call);
  } catch (const std::exception& error) {
    Fail(state, error.what());
  }
}

// Registers one operation on one case for every target and number of threads, then the same for every peer that has it.
template <class Case, class Call>
void RegisterCase(const std::string& op, const Case& shape, const Config& config, Call call,
                  PeerLayer<Case> Peer::*peer_layer) {
  const auto add = [&](const std::string& runner, int threads, auto bench) {
    const std::string name = op + "/f32/" + shape.Name() + "/" + runner + "/threads:" + std::to_string(threads);
    benchmark::RegisterBenchmark(name.c_str(), bench);
  };
  for (const std::string& target : config.targets) {
    for (const int threads : config.threads) {
      add(target, threads, [=](benchmark::State& state) { BenchTarget(state, shape, call, target, threads); });
    }
  }
  for (const Peer& peer : config.peers) {
    const PeerLayer<Case> layer = peer.*peer_layer;
    if (layer == nullptr) continue;
    for (const int threads : config.threads) {
      add(peer.name, threads, [=](benchmark::State& state) { BenchPeer(state, shape, call, layer, threads); });
    }
  }
}

// One per file of benches.
void RegisterLayerNorm(const Config& config);
void RegisterBatchNorm(const Config& config);

}  // namespace simdnorm::bench

#endif  // SIMDNORM_BENCH_HARNESS_H_
