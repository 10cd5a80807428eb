// Folding batch norm into weights: a layer with folded weights gives what the layer and batch norm gave, one after the other,
// both computed here in long double as they are defined. Layers are convolutions along one axis at positions that all taps
// reach; a linear layer has one tap.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "buffers.h"
#include "executors.h"
#include "simdnorm/simdnorm.h"
#include "values.h"

namespace simdnorm_test {
namespace {

struct Layer {
  const char* name;
  int64_t outputs, inputs, groups, taps;
  bool transposed;

  int64_t Weights() const { return outputs * inputs / groups * taps; }
  bool Connects(int64_t output, int64_t input) const { return output / (outputs / groups) == input / (inputs / groups); }
  // Of weight[outputs][inputs / groups][taps], transposed weight[inputs][outputs / groups][taps].
  int64_t WeightAt(int64_t output, int64_t input, int64_t tap) const {
    if (transposed) return (input * (outputs / groups) + output % (outputs / groups)) * taps + tap;
    return (output * (inputs / groups) + input % (inputs / groups)) * taps + tap;
  }
};

constexpr Layer kLayers[] = {
    {"linear", 7, 5, 1, 1, false},
    {"one weight", 1, 1, 1, 1, false},
    {"convolution", 6, 4, 1, 9, false},
    {"grouped", 6, 9, 3, 4, false},
    {"depthwise", 8, 8, 8, 9, false},
    {"depthwise, several outputs each", 12, 4, 4, 3, false},
    {"transposed", 4, 6, 1, 5, true},
    {"transposed linear", 3, 8, 1, 1, true},
    {"transposed grouped", 9, 6, 3, 4, true},
    {"transposed depthwise", 8, 8, 8, 2, true},
};

using Values = std::vector<std::vector<long double>>;  // [channels][positions]

constexpr int64_t kPositions = 5;  // of a layer's output

// A call's tensors in guarded memory, everything given that can be.
struct Problem {
  Layer layer;
  simdnorm_fold_position position;
  GuardedBuffer mean, variance, scale, shift, weight, bias, folded_weight, folded_bias;
  simdnorm_fold_batch_norm_args args = {};

  Problem(const Layer& of_layer, simdnorm_fold_position at)
      : layer(of_layer),
        position(at),
        mean(Channels(), {}),
        variance(Channels(), {}),
        scale(Channels(), {}),
        shift(Channels(), {}),
        weight(layer.Weights(), {}),
        bias(layer.outputs, {}),
        folded_weight(layer.Weights(), {}),
        folded_bias(layer.outputs, {}) {
    int64_t stream = 0;
    for (GuardedBuffer* buffer : {&mean, &variance, &scale, &shift, &weight, &bias}) {
      ++stream;
      for (int64_t i = 0; i < buffer->size(); ++i) (*buffer)[i] = Normal(Seed(stream, i, 0));
    }
    for (int64_t c = 0; c < Channels(); ++c) variance[c] = 0.25f + std::fabs(variance[c]);
    args.struct_size = sizeof(args);
    args.epsilon = 1e-3f;
    args.position = position;
    args.transposed = layer.transposed ? 1 : 0;
    args.mean = mean.data();
    args.variance = variance.data();
    args.scale = scale.data();
    args.shift = shift.data();
    args.weight = weight.data();
    args.bias = bias.data();
    args.folded_weight = folded_weight.data();
    args.folded_bias = folded_bias.data();
    args.out_channels = layer.outputs;
    args.in_channels = layer.inputs;
    args.kernel = layer.taps;
    args.groups = layer.groups;
  }

  int64_t Channels() const { return position == SIMDNORM_FOLD_INTO_PRECEDING ? layer.outputs : layer.inputs; }

  // Folds where weights and bias lie.
  void MakeInPlace() {
    folded_weight.CopyFrom(weight);
    folded_bias.CopyFrom(bias);
    args.weight = args.folded_weight;
    if (args.bias) args.bias = args.folded_bias;
  }

  Values BatchNorm(Values x) const {
    for (int64_t c = 0; c < Channels(); ++c) {
      const auto at = [&](const float* values, float absent) { return static_cast<long double>(values ? values[c] : absent); };
      const long double rstd = 1 / std::sqrt(at(args.variance, 0) + static_cast<long double>(args.epsilon));
      for (long double& v : x[static_cast<size_t>(c)]) {
        v = (v - at(args.mean, 0)) * rstd * at(args.scale, 1) + at(args.shift, 0);
      }
    }
    return x;
  }

  // The layer with weights [Weights()] and bias [outputs]. With `magnitudes`, sums of the terms' magnitudes.
  Values Apply(const float* weights, const float* biases, const Values& x, bool magnitudes = false) const {
    const auto term = [&](long double v) { return magnitudes ? std::fabs(v) : v; };
    Values y;
    for (int64_t o = 0; o < layer.outputs; ++o) {
      y.emplace_back(kPositions, biases ? term(static_cast<long double>(biases[o])) : 0);
      for (int64_t i = 0; i < layer.inputs; ++i) {
        if (!layer.Connects(o, i)) continue;
        for (int64_t p = 0; p < kPositions; ++p) {
          for (int64_t tap = 0; tap < layer.taps; ++tap) {
            const int64_t from = layer.transposed ? p + layer.taps - 1 - tap : p + tap;
            y.back()[static_cast<size_t>(p)] += term(static_cast<long double>(weights[layer.WeightAt(o, i, tap)]) *
                                                     x[static_cast<size_t>(i)][static_cast<size_t>(from)]);
          }
        }
      }
    }
    return y;
  }

  std::vector<uint32_t> FoldedBits() const {
    std::vector<uint32_t> bits;
    for (const GuardedBuffer* buffer : {&folded_weight, &folded_bias}) {
      for (int64_t i = 0; i < buffer->size(); ++i) bits.push_back(BitsOf((*buffer)[i]));
    }
    return bits;
  }

  simdnorm_status Fold(const simdnorm_options* options = nullptr) const { return simdnorm_fold_batch_norm(&args, options); }
};

// A folded weight is rounded once, and so is a folded bias.
void CheckFolded(const Problem& p) {
  Values x;
  for (int64_t i = 0; i < p.layer.inputs; ++i) {
    x.emplace_back();
    for (int64_t j = 0; j < kPositions + p.layer.taps - 1; ++j) {
      x.back().push_back(static_cast<long double>(Normal(Seed(7, i, j))));
    }
  }
  const float* const biases = p.args.bias ? p.bias.data() : nullptr;
  const bool preceding = p.position == SIMDNORM_FOLD_INTO_PRECEDING;
  const Values expected =
      preceding ? p.BatchNorm(p.Apply(p.weight.data(), biases, x)) : p.Apply(p.weight.data(), biases, p.BatchNorm(x));
  const Values actual = p.Apply(p.folded_weight.data(), p.folded_bias.data(), x);
  const Values magnitudes = p.Apply(p.folded_weight.data(), p.folded_bias.data(), x, true);
  for (size_t o = 0; o < expected.size(); ++o) {
    for (size_t j = 0; j < expected[o].size(); ++j) {
      const long double error = std::fabs(actual[o][j] - expected[o][j]), bound = 0x1.001p-24L * magnitudes[o][j];
      CHECK_MESSAGE(error <= bound, "output " << o << " position " << j << ": error " << static_cast<double>(error) << " of "
                                              << static_cast<double>(bound));
    }
  }
}

template <class Visit>
void ForEachProblem(const Visit& visit) {
  for (const Layer& layer : kLayers) {
    for (const simdnorm_fold_position position : {SIMDNORM_FOLD_INTO_PRECEDING, SIMDNORM_FOLD_INTO_FOLLOWING}) {
      CAPTURE(layer.name);
      CAPTURE(position);
      visit(layer, position);
    }
  }
}

TEST_CASE("a layer with folded weights gives what layer and batch norm gave") {
  ForEachProblem([](const Layer& layer, simdnorm_fold_position position) {
    for (unsigned given = 0; given < 8; ++given) {
      CAPTURE(given);
      Problem p(layer, position);
      if ((given & 1) == 0) p.args.scale = nullptr;
      if ((given & 2) == 0) p.args.shift = nullptr;
      if ((given & 4) == 0) p.args.bias = nullptr;
      for (GuardedBuffer* input : {&p.mean, &p.variance, &p.scale, &p.shift, &p.weight, &p.bias}) input->MakeReadOnly();
      CHECK(p.Fold() == SIMDNORM_OK);
      CheckFolded(p);
      CHECK(p.folded_weight.OutsideIsUntouched());
      CHECK(p.folded_bias.OutsideIsUntouched());

      const std::vector<uint32_t> expected = p.FoldedBits();
      p.MakeInPlace();
      CHECK(p.Fold() == SIMDNORM_OK);
      CHECK(p.FoldedBits() == expected);
    }
  });
}

TEST_CASE("a small example by hand") {
  const float weight[] = {1, 2}, bias[] = {3}, mean[] = {1, 2}, variance[] = {3, 63}, scale[] = {4, 4}, shift[] = {10, 20};
  float folded_weight[2] = {}, folded_bias[1] = {};
  simdnorm_fold_batch_norm_args args = {};
  args.struct_size = sizeof(args);
  args.epsilon = 1;
  args.mean = mean, args.variance = variance, args.scale = scale, args.shift = shift;
  args.weight = weight, args.bias = bias;
  args.folded_weight = folded_weight, args.folded_bias = folded_bias;
  args.out_channels = args.kernel = 1;
  args.in_channels = 2;

  args.position = SIMDNORM_FOLD_INTO_PRECEDING;  // of the one output: (x - 1) * 4 / 2 + 10
  CHECK(simdnorm_fold_batch_norm(&args, nullptr) == SIMDNORM_OK);
  CHECK(folded_weight[0] == 2);
  CHECK(folded_weight[1] == 4);
  CHECK(folded_bias[0] == (3 - 1) * 2 + 10);

  args.position = SIMDNORM_FOLD_INTO_FOLLOWING;  // of the first input the same; of the second: (x - 2) * 4 / 8 + 20
  CHECK(simdnorm_fold_batch_norm(&args, nullptr) == SIMDNORM_OK);
  CHECK(folded_weight[0] == 2);
  CHECK(folded_weight[1] == 1);
  CHECK(folded_bias[0] == 3 + 1 * (10 - 1 * 2) + 2 * (20 - 2 * 0.5f));
}

TEST_CASE("the caller's floating-point environment changes nothing and is left alone") {
  ForEachProblem([](const Layer& layer, simdnorm_fold_position position) {
    Problem p(layer, position);
    for (int64_t i = 0; i < p.weight.size(); i += 2) p.weight[i] *= 1e-39f;  // subnormal weights count
    CHECK(p.Fold() == SIMDNORM_OK);
    const std::vector<uint32_t> expected = p.FoldedBits();
    p.folded_weight.FillWithCanaries();
    p.folded_bias.FillWithCanaries();
    bool still_set = false;
    simdnorm_status status = SIMDNORM_INVALID_ARGUMENT;
    {
      const UnusualFloatEnvironment environment;
      status = p.Fold();
      still_set = environment.IsStillSet();
    }
    CHECK(status == SIMDNORM_OK);
    CHECK(still_set);
    CHECK(p.FoldedBits() == expected);
  });
}

TEST_CASE("folding runs on the calling thread") {
  Problem p({"large", 512, 512, 1, 1, false}, SIMDNORM_FOLD_INTO_PRECEDING);
  CountingPool pool;
  simdnorm_options options = {};
  options.struct_size = sizeof(options);
  options.parallel_for = CountingPool::ParallelFor;
  options.pool = &pool;
  CHECK(p.Fold(&options) == SIMDNORM_OK);
  CHECK(pool.calls == 0);
}

TEST_CASE("what is not finite stays where it belongs") {
  const Layer grouped = {"grouped", 4, 6, 2, 3, false};
  SUBCASE("preceding") {
    Problem p(grouped, SIMDNORM_FOLD_INTO_PRECEDING);
    p.variance[1] = -1;
    p.scale[2] = 3e38f, p.weight[2 * 9] = 4, p.weight[2 * 9 + 1] = -4;
    p.variance[3] = 0, p.args.epsilon = 0, p.weight[3 * 9] = 0;  // 0 * Inf
    CHECK(p.Fold() == SIMDNORM_OK);
    for (int64_t i = 9; i < 18; ++i) CHECK(BitsOf(p.folded_weight[i]) == kQuietNaN);
    CHECK(BitsOf(p.folded_bias[1]) == kQuietNaN);
    CHECK(p.folded_weight[2 * 9] == kInf);
    CHECK(p.folded_weight[2 * 9 + 1] == -kInf);
    CHECK(BitsOf(p.folded_weight[3 * 9]) == kQuietNaN);
    for (int64_t i = 0; i < 9; ++i) CHECK(std::isfinite(p.folded_weight[i]));
    CHECK(std::isfinite(p.folded_bias[0]));
  }
  SUBCASE("following") {
    Problem p(grouped, SIMDNORM_FOLD_INTO_FOLLOWING);
    p.mean[1] = FloatOf(0xFFC12345);  // NaN with sign and payload
    p.variance[2] = FloatOf(0x7FA5CA7E);
    CHECK(p.Fold() == SIMDNORM_OK);
    for (int64_t o = 0; o < 4; ++o) {
      for (int64_t j = 0; j < 9; ++j) {  // inputs 0, 1 and 2 of the first two outputs, 3, 4 and 5 of the others
        const bool of_nan_variance = o < 2 && j / 3 == 2;
        if (of_nan_variance) CHECK(BitsOf(p.folded_weight[o * 9 + j]) == kQuietNaN);
        if (!of_nan_variance) CHECK(std::isfinite(p.folded_weight[o * 9 + j]));
      }
      if (o < 2) CHECK(BitsOf(p.folded_bias[o]) == kQuietNaN);
      if (o >= 2) CHECK(std::isfinite(p.folded_bias[o]));
    }
  }
}

TEST_CASE("kernel and groups that are not given are 1") {
  for (const simdnorm_fold_position position : {SIMDNORM_FOLD_INTO_PRECEDING, SIMDNORM_FOLD_INTO_FOLLOWING}) {
    Problem p(kLayers[0], position);
    p.args.kernel = p.args.groups = 0;
    CHECK(p.Fold() == SIMDNORM_OK);
    CheckFolded(p);
  }
}

TEST_CASE("layers without weights: nothing is written") {
  for (int64_t simdnorm_fold_batch_norm_args::*const size :
       {&simdnorm_fold_batch_norm_args::out_channels, &simdnorm_fold_batch_norm_args::in_channels}) {
    Problem p(kLayers[0], SIMDNORM_FOLD_INTO_PRECEDING);
    p.args.*size = 0;
    CHECK(p.Fold() == SIMDNORM_OK);
    CHECK(p.folded_weight.InsideIsUntouched());
    CHECK(p.folded_bias.InsideIsUntouched());
  }
}

}  // namespace
}  // namespace simdnorm_test
