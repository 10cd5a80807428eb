// What every bench shares: the buffers, the flags, the naming, and the timing beside loops that only move the same bytes.
//
// The benches are tables: a row (Operation) is a name, its dtypes and shapes, and how simdnorm is called. One function
// registers a row for every dtype, shape, runner (a target of simdnorm, a peer, the ceiling) and number of threads.
#ifndef SIMDNORM_BENCH_HARNESS_H_
#define SIMDNORM_BENCH_HARNESS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include "cases.h"
#include "memory_bench.h"
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

  // Makes room for x of so many elements, and so many of scale; before the first Get.
  static void Reserve(int64_t elements, int64_t params);
  static Tensors Get(Dtypes dtypes, int64_t elements);
};

// How many tensors of x's size a call reads (1: x; 2: `other` too) and writes (1: y; 2: h too), and whether what is timed also
// reads y again, to sum it.
struct Traffic {
  int reads = 1, writes = 1;
  bool then_sum = false;
};

// A layer ready to run, everything that can be done once done; empty if there is no such layer.
struct ReadyLayer {
  std::function<void()> run;
  std::function<void()> write_y = nullptr;  // puts the output into y, where run() leaves it somewhere else
};

// Readies a layer of another library on so many threads. It may throw, and so may the layer.
template <class Case>
using PeerLayer = ReadyLayer (*)(const Case& shape, const Tensors& tensors, int threads);

// Another library, for comparison on the same cases; null where it has no such operation.
struct Peer {
  std::string name, version;
  std::vector<simdnorm_dtype> dtypes;
  bool (*takes)(const cases::ChannelsCase& shape, simdnorm_dtype dtype);  // in its layout
  PeerLayer<cases::RowsCase> layer_norm = nullptr;
  PeerLayer<cases::RowsCase> add_layer_norm = nullptr;  // h = x + other, y = layer norm of h
  PeerLayer<cases::RowsCase> rms_norm = nullptr;
  PeerLayer<cases::ChannelsCase> batch_norm_training = nullptr;
  PeerLayer<cases::ChannelsCase> batch_norm_inference = nullptr;
  PeerLayer<cases::ChannelsCase> group_norm = nullptr;
  bool own_threads = false;  // and not OpenMP's
};

// Of rows there is one layout.
inline bool Takes(const Peer&, const cases::RowsCase&, simdnorm_dtype) { return true; }
inline bool Takes(const Peer& peer, const cases::ChannelsCase& shape, simdnorm_dtype dtype) { return peer.takes(shape, dtype); }
inline bool Takes(const Peer&, const cases::FoldCase&, simdnorm_dtype) { return false; }

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
  Units (*units)(const Case&, size_t element_bytes) = nullptr;  // how it reads and writes; null: there is no ceiling
};

// A call of simdnorm on one case. It throws what is wrong with it.
struct Work {
  std::function<void()> call;
  Traffic traffic;
  Tensors tensors;
};

// Readies what is timed, checked: it is called once for each benchmark, before its first timing, on the threads that it is to
// use. Throws if something is wrong.
using Runner = std::function<ReadyLayer(const Work& work)>;

// The call itself, seen to write all of its outputs.
ReadyLayer ReadyTarget(const Work& work);

// A peer's layer, seen to give simdnorm's output.
ReadyLayer ReadyPeer(const Work& work, const std::function<ReadyLayer()>& ready_layer);

// The same loads and stores without the arithmetic; stores past the caches where the library's are.
ReadyLayer ReadyCeiling(const Work& work, const Units& units, int threads);

// Registers a benchmark, of a peer's layer where there is a peer.
void RegisterRunner(const std::string& name, int threads, const std::function<Work()>& make_work, const Runner& runner,
                    const Peer* peer = nullptr);

// Whether a benchmark of our own has ended with an error, which also becomes the exit status. Those of peers only show theirs.
bool AnyFailed();

// Registers one row on one shape in one dtype: for every number of threads on every target, then the same for every peer that
// has it, and the ceiling.
template <class Case>
void RegisterCase(const Operation<Case>& operation, const Case& shape, Dtypes dtypes, const Config& config) {
  Tensors::Reserve(shape.Elements(), shape.Params());
  const auto name = [&](const std::string& runner, int threads) {
    return std::string(operation.name) + "/" + dtypes.Name() + "/" + shape.Name() + "/" + runner +
           "/threads:" + std::to_string(threads);
  };
  // `target` is null for the best.
  const auto work_on = [&](const char* target, int threads) {
    return [=, call = operation.call, traffic = operation.traffic, options = Options{target, threads}] {
      const Tensors tensors = Tensors::Get(dtypes, shape.Elements());
      const auto call_or_throw = [=] {
        if (const Result result = call(shape, tensors, options); !result.ok()) throw std::runtime_error(result.message());
      };
      return Work{call_or_throw, traffic, tensors};
    };
  };
  for (const char* const target : config.targets) {
    for (const int threads : config.threads) {
      RegisterRunner(name(target, threads), threads, work_on(target, threads), ReadyTarget);
    }
  }
  for (const Peer& peer : config.peers) {
    const PeerLayer<Case> layer = operation.peer_layer == nullptr ? nullptr : peer.*operation.peer_layer;
    const bool has_dtype = std::count(peer.dtypes.begin(), peer.dtypes.end(), dtypes.x) > 0;
    if (layer == nullptr || !has_dtype || !Takes(peer, shape, dtypes.x)) continue;
    for (const int threads : config.threads) {
      const Runner runner = [=](const Work& work) {
        return ReadyPeer(work, [&] { return layer(shape, work.tensors, threads); });
      };
      RegisterRunner(name(peer.name, threads), threads, work_on(nullptr, threads), runner, &peer);
    }
  }
  if (operation.units == nullptr) return;
  for (const int threads : config.threads) {
    const Units units = operation.units(shape, cases::Bytes(dtypes.x, 1));
    const Runner runner = [=](const Work& work) { return ReadyCeiling(work, units, threads); };
    RegisterRunner(name("ceiling", threads), threads, work_on(nullptr, threads), runner);
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

// How the cost grows with the size: the tables of --scaling.
void RegisterLayerNormScaling(const Config& config);
void RegisterBatchNormScaling(const Config& config);

}  // namespace simdnorm::bench

#endif  // SIMDNORM_BENCH_HARNESS_H_
