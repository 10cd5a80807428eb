// Every layer runs as it does in the benches, on other values of x; what is exact is said by the tests' reference, two passes
// in long double.
#include "accuracy.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <random>
#include <string>
#include <vector>

#include "peers/peers.h"
#include "reference.h"

namespace simdnorm::bench {
namespace {

constexpr cases::RowsCase kRows = {64, 1024};
constexpr cases::ChannelsCase kChannels = {8, 16, 16, 16, SIMDNORM_NCHW};

using Random = std::mt19937_64;

// In (0, 1].
double Uniform(Random& random) { return (static_cast<double>(random() >> 40) + 1.0) * 0x1p-24; }

// About normal: the sum of four uniform numbers.
double Normal(Random& random) {
  return (Uniform(random) + Uniform(random) + Uniform(random) + Uniform(random) - 2.0) * std::sqrt(3.0);
}

struct Kind {
  const char* name;
  double (*value)(Random& random, int64_t item, int64_t j);  // the j-th of a row or channel
};

constexpr Kind kKinds[] = {
    {"normal", [](Random& random, int64_t, int64_t) { return Normal(random); }},
    {"heavy tails", [](Random& random, int64_t, int64_t) { return Normal(random) / std::pow(Uniform(random), 2.0); }},
    {"mean 10⁴, std 1", [](Random& random, int64_t, int64_t) { return 1e4 + Normal(random); }},
    {"10⁶ ± 1", [](Random& random, int64_t, int64_t) { return Normal(random) < 0 ? 1e6 - 1.0 : 1e6 + 1.0; }},
    {"constant", [](Random&, int64_t item, int64_t) { return 1234.1 + static_cast<double>(item); }},
    {"outlier of 10⁶ first", [](Random& random, int64_t, int64_t j) { return j == 0 ? 1e6 : Normal(random); }},
    {"\\|x\\| ~ 10³⁰", [](Random& random, int64_t, int64_t) { return 1e30 * Normal(random); }},
    {"\\|x\\| ~ 10⁻²⁰", [](Random& random, int64_t, int64_t) { return 1e-20 * Normal(random); }},
    {"\\|x\\| ~ 10⁻⁴⁰, subnormal", [](Random& random, int64_t, int64_t) { return 1e-40 * Normal(random); }},
};

// The worst error relative to the largest |y|; where all of y should be 0, as it is.
std::string WorstError(const std::vector<long double>& exact, const float* y) {
  long double worst = 0, largest = 0;
  bool any_inf = false;
  for (size_t i = 0; i < exact.size(); ++i) {
    if (std::isnan(y[i])) return "NaN";
    any_inf |= std::isinf(y[i]);
    worst = std::max(worst, std::fabs(static_cast<long double>(y[i]) - exact[i]));
    largest = std::max(largest, std::fabs(exact[i]));
  }
  if (any_inf) return "Inf";
  if (worst == 0) return "0";
  char text[32];
  std::snprintf(text, sizeof(text), "%.0Le", worst / (largest == 0 ? 1 : largest));
  return text;
}

// The error of a peer's layer.
template <class Case>
std::string ErrorOf(PeerLayer<Case> layer, const Case& shape, const Tensors& t, const std::vector<long double>& exact) {
  float* const y = static_cast<float*>(t.y.data);
  try {
    const ReadyLayer ready = layer(shape, t, 1);
    if (!ready.run) return "";
    std::fill_n(y, exact.size(), NAN);
    ready.run();
    if (ready.write_y) ready.write_y();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "simdnorm_bench: %s\n", error.what());
    return "error";
  }
  return WorstError(exact, y);
}

// Those that can compete: layouts of their own give the same numbers.
std::vector<Peer> Libraries(const std::vector<Peer>& peers) {
  std::vector<Peer> libraries;
  std::copy_if(peers.begin(), peers.end(), std::back_inserter(libraries),
               [](const Peer& peer) { return peer.name.find(':') == std::string::npos; });
  return libraries;
}

// The benches' own tensors are what peers work on, some in spite of what they are given.
float* Writable(const Input& input) { return static_cast<float*>(const_cast<void*>(input.data)); }

// A layer norm or batch norm: its rows of the table. make_args(t) gives the C struct of a call, norm(args, options) is the
// call, and item_of(i) the item and the place in it of element i.
template <class Case, class MakeArgs, class Norm, class ItemOf>
void PrintRows(const char* name, const Case& shape, PeerLayer<Case> Peer::*layer, const std::vector<Peer>& peers,
               const MakeArgs& make_args, const Norm& norm, const ItemOf& item_of) {
  const Tensors t = Tensors::Get(cases::kF32, shape.Elements());
  float* const x = Writable(t.x);
  std::fill_n(Writable(t.shift), shape.Params(), 0.0f);  // which would hide errors of small y
  for (const Kind& kind : kKinds) {
    Random random(1);
    for (int64_t i = 0; i < shape.Elements(); ++i) {
      const auto [item, j] = item_of(i);
      x[i] = static_cast<float>(kind.value(random, item, j));
    }
    const auto args = make_args(t);
    const std::vector<long double> exact = simdnorm_test::Reference(args).y;
    norm(&args, nullptr);
    std::printf("| %s, %s | %s |", name, kind.name, WorstError(exact, static_cast<const float*>(t.y.data)).c_str());
    for (const Peer& peer : peers) {
      const bool has_layer = peer.*layer != nullptr && Takes(peer, shape, SIMDNORM_F32);
      std::printf(" %s |", has_layer ? ErrorOf(peer.*layer, shape, t, exact).c_str() : "");
    }
    std::printf("\n");
  }
}

template <class Args>
Args ArgsOf(const Tensors& t) {
  Args args = {};
  args.struct_size = sizeof(args);
  args.epsilon = kPeerEpsilon;
  args.x = t.x.data;
  args.y = t.y.data;
  args.scale = t.scale.data;
  args.shift = t.shift.data;
  return args;
}

}  // namespace

void PrintErrors(const std::vector<Peer>& peers) {
  const std::vector<Peer> libraries = Libraries(peers);
  Tensors::Reserve(std::max(kRows.Elements(), kChannels.Elements()), std::max(kRows.Params(), kChannels.Params()));
  const auto title = [](const std::string& name) {
    return name == "loops" ? "by hand" : name == "ONNXRuntime" ? "ONNX Runtime" : name.c_str();
  };
  std::printf("|  | simdnorm |");
  for (const Peer& peer : libraries) std::printf(" %s |", title(peer.name));
  std::printf("\n|---|---:|");
  for (size_t i = 0; i < libraries.size(); ++i) std::printf("---:|");
  std::printf("\n");

  const auto layer_norm_args = [](const Tensors& t) {
    auto args = ArgsOf<simdnorm_layer_norm_args>(t);
    args.rows = kRows.rows;
    args.cols = kRows.cols;
    return args;
  };
  struct Place {
    int64_t item, j;
  };
  PrintRows("layer norm", kRows, &Peer::layer_norm, libraries, layer_norm_args, simdnorm_layer_norm, [](int64_t i) {
    return Place{i / kRows.cols, i % kRows.cols};
  });

  const Shape shape = kChannels.AsShape();
  const auto batch_norm_args = [&](const Tensors& t) {
    auto args = ArgsOf<simdnorm_batch_norm_training_args>(t);
    args.batch = shape.batch;
    args.channels = shape.channels;
    args.spatial = shape.spatial;
    return args;
  };
  PrintRows("batch norm, training", kChannels, &Peer::batch_norm_training, libraries, batch_norm_args,
            simdnorm_batch_norm_training, [&](int64_t i) {
              const int64_t sample = i / (shape.channels * shape.spatial);
              return Place{i / shape.spatial % shape.channels, sample * shape.spatial + i % shape.spatial};
            });
}

}  // namespace simdnorm::bench
