// What every bench shares: the buffers, the flags, the naming, and the timing beside loops that only move the same bytes.
//
// The benches are tables: a row (Operation) is a name, its dtypes and shapes, and how simdnorm is called. One function
// registers a row for every dtype, shape, target and number of threads.
#ifndef SIMDNORM_BENCH_HARNESS_H_
#define SIMDNORM_BENCH_HARNESS_H_

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "cases.h"
#include "simdnorm/simdnorm.hpp"

namespace simdnorm::bench {

using cases::Dtypes;

// What the calls of a case work on. All cases share buffers that are large enough for each, so that all of them, and the peers
// and copies too, work on the same addresses; and the same values, which are numbers that every dtype holds. x and `other` lie
// one behind the other, and so do y and h. Everything holds data before the first timing; x is close to normal.
struct Tensors {
  Dtypes dtypes;
  size_t x_bytes, y_bytes;  // of x, other and h; of y
  Input x;
  Input other;  // the residual or the gate, as x
  Output y;
  Output h;  // as x
  Input scale;
  Input shift;
  float* mean;              // given statistics, for inference
  float* variance;          // the same; positive
  float* saved_mean;        // outputs of training
  float* saved_rstd;        // the same
  float* running_mean;      // updated by training
  float* running_variance;  // the same
  float* quant_scales;      // out
  const uint8_t* mask;      // which positions count: a random half, as many as x has elements

  static Tensors Get(Dtypes dtypes, int64_t elements);
};

// How many tensors of x's size a call reads (1: x; 2: `other` too) and writes (1: y; 2: h too).
struct Traffic {
  int reads = 1, writes = 1;
};

// A call of another library, everything that can be done once done; empty if it has no such layer. It may throw.
using PeerCall = std::function<void()>;
template <class Case>
using PeerLayer = PeerCall (*)(const Case&, const Tensors&);

// Another library, for comparison on the same cases; null where it has no such operation.
struct Peer {
  const char* name;
  PeerLayer<cases::RowsCase> layer_norm;
  PeerLayer<cases::RowsCase> rms_norm;
  PeerLayer<cases::ChannelsCase> batch_norm_training;
  PeerLayer<cases::ChannelsCase> batch_norm_inference;
};

// What to register.
struct Config {
  std::vector<const char*> targets;  // out of Targets()
  std::vector<int> threads;
  std::vector<Peer> peers;
};

// A row of the table of benches. `call` is what an engine would write there, the making of its arguments included.
template <class Case>
struct Operation {
  const char* name;
  std::initializer_list<Dtypes> dtypes;
  std::initializer_list<Case> shapes;
  Result (*call)(const Case&, const Tensors&, const Options&);
  Traffic traffic;
  PeerLayer<Case> Peer::*peer_layer = nullptr;
};

// A call of simdnorm on one case, ready to be made.
struct Work {
  std::function<Result()> call;
  Traffic traffic;
  const Tensors& tensors;
};

// Makes `threads` what OpenMP's parallel regions have, which the library, the copies and the peers all follow.
void UseThreads(int threads);

// Times the work on one target, once it has been seen to write all of its outputs.
void BenchTarget(benchmark::State& state, const Work& work);

// Times a peer, once its output has been compared with that of the same work by simdnorm.
void BenchPeer(benchmark::State& state, const Work& work, const std::function<PeerCall()>& prepare_peer);

// Whether a benchmark has ended with an error, which also becomes the exit status.
bool AnyFailed();

// Registers one row on one shape in one dtype for every target and number of threads, then the same for every peer that has it.
template <class Case>
void RegisterCase(const Operation<Case>& operation, const Case& shape, Dtypes dtypes, const Config& config) {
  // run(state, work) is the benchmark; target is null for the best.
  const auto add = [&](const std::string& runner, const char* target, int threads, auto run) {
    const std::string name = std::string(operation.name) + "/" + dtypes.Name() + "/" + shape.Name() + "/" + runner +
                             "/threads:" + std::to_string(threads);
    const auto bench = [=, call = operation.call, traffic = operation.traffic](benchmark::State& state) {
      UseThreads(threads);
      const Tensors tensors = Tensors::Get(dtypes, shape.Elements());
      const Options options = {target, threads};
      run(state, Work{[&] { return call(shape, tensors, options); }, traffic, tensors});
    };
    benchmark::RegisterBenchmark(name.c_str(), bench);
  };
  for (const char* const target : config.targets) {
    for (const int threads : config.threads) add(target, target, threads, BenchTarget);
  }
  if (operation.peer_layer == nullptr) return;
  for (const Peer& peer : config.peers) {
    const PeerLayer<Case> layer = peer.*operation.peer_layer;
    if (layer == nullptr) continue;
    for (const int threads : config.threads) {
      add(peer.name, nullptr, threads, [=](benchmark::State& state, const Work& work) {
        BenchPeer(state, work, [&] { return layer(shape, work.tensors); });
      });
    }
  }
}

// Registers a table.
template <class Case, size_t kRows>
void Register(const Operation<Case> (&table)[kRows], const Config& config) {
  for (const Operation<Case>& operation : table) {
    for (const Dtypes dtypes : operation.dtypes) {
      for (const Case& shape : operation.shapes) RegisterCase(operation, shape, dtypes, config);
    }
  }
}

// One per file of benches.
void RegisterLayerNorm(const Config& config);
void RegisterBatchNorm(const Config& config);
void RegisterGroupNorm(const Config& config);

}  // namespace simdnorm::bench

#endif  // SIMDNORM_BENCH_HARNESS_H_
