// simd/activations-inl.h, on every target: errors against long double over all of f32, limits, what comes of NaN, spans of
// every length, and the same bits wherever multiply-add is fused.
#include <stdint.h>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "activations_test.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "simd/activations-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm_test {
namespace HWY_NAMESPACE {
using namespace simdnorm::HWY_NAMESPACE;
// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm_test
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <float.h>
#include <math.h>

#include <string>
#include <vector>

#include "all_targets.h"
#include "buffers.h"
#include "compare.h"
#include "digest.h"
#include "doctest/doctest.h"
#include "problem.h"
#include "reference.h"
#include "target.h"
#include "values.h"

namespace simdnorm_test {
namespace {

HWY_EXPORT(Activate);
HWY_EXPORT(MultiplyBySiLU);

constexpr float kSlope = 0.01f;

// Activations of f32 spans on one target.
class SpanFunctions {
 public:
  explicit SpanFunctions(const char* target) {
    size_t index = 0;
    REQUIRE(simdnorm::FindTarget(target, &index));
    activate = HWY_DISPATCH_TABLE(Activate)[index];
    multiply_by_silu = HWY_DISPATCH_TABLE(MultiplyBySiLU)[index];
  }

  std::vector<float> Activated(simdnorm_activation activation, std::vector<float> v, float slope = kSlope) const {
    activate(activation, slope, v.data(), static_cast<int64_t>(v.size()));
    return v;
  }
  std::vector<float> Gated(const std::vector<float>& gate, std::vector<float> v) const {
    multiply_by_silu(gate.data(), v.data(), static_cast<int64_t>(v.size()));
    return v;
  }

  void (*activate)(simdnorm_activation, float, float*, int64_t);
  void (*multiply_by_silu)(const float*, float*, int64_t);
};

template <class Test>
void ForEachTargetsFunctions(const Test& test) {
  ForEachTarget([&](const char* target) {
    CAPTURE(std::string(target));
    test(SpanFunctions(target));
  });
}

// Largest relative errors as activations-inl.h has them, and where among all floats they are: with fused multiply-add, and
// without.
struct Accuracy {
  simdnorm_activation activation;
  Real fused, unfused;
  float worst_fused, worst_unfused;
};
constexpr Accuracy kAccuracies[] = {
    {SIMDNORM_SILU, 1.8e-7L, 1.8e-7L, -0x1.0a6c26p+4f, -0x1.0ac1d8p+4f},
    {SIMDNORM_GELU, 3.8e-7L, 4.0e-7L, -0x1.7d4794p+2f, -0x1.18b808p+3f},
    {SIMDNORM_GELU_TANH, 1.7e-7L, 1.8e-7L, -0x1.3ebd0ap+2f, -0x1.3eb47ap+2f},
};
constexpr int kNumExact = 3;  // none, ReLU and leaky ReLU, which have tests of their own
static_assert(sizeof(kAccuracies) / sizeof(kAccuracies[0]) + kNumExact == kNumActivations, "an activation has no bound here");

// Numbers of every exponent, of -40 to 40 densely, and such as kernels see.
std::vector<float> Inputs() {
  std::vector<float> inputs;
  const uint32_t sparse = SmallEffort() ? 32 : 1;
  for (uint32_t i = 0; i < (255u << 8); i += sparse) {
    const uint32_t bits = (i << 15) + (i % 4 == 0 ? 0 : static_cast<uint32_t>(Mix(i)) >> 17);
    inputs.push_back(FloatOf(bits));
    inputs.push_back(FloatOf(bits | 0x80000000u));
  }
  for (uint32_t i = 0; i < 80 * 2048; i += sparse) {
    inputs.push_back(static_cast<float>((i + static_cast<double>(Mix(i) >> 40) * 0x1p-24) / 2048 - 40));
  }
  for (uint32_t i = 0; i < 50000; i += sparse) inputs.push_back(3 * Normal(i));
  for (const Accuracy& accuracy : kAccuracies) inputs.insert(inputs.end(), {accuracy.worst_fused, accuracy.worst_unfused});
  return inputs;
}

TEST_CASE("errors of activations against long double") {
  const std::vector<float> inputs = Inputs();
  for (const Accuracy& accuracy : kAccuracies) {
    std::vector<Real> exact;
    for (const float v : inputs) exact.push_back(Activated(accuracy.activation, 0, v));
    ForEachTarget([&](const char* target) {
      const std::vector<float> actual = SpanFunctions(target).Activated(accuracy.activation, inputs);
      Real worst = 0;
      float worst_at = 0;
      for (size_t i = 0; i < inputs.size(); ++i) {
        const Real error = isfinite(actual[i])
                               ? (fabsl(static_cast<Real>(actual[i]) - exact[i]) - kActivationSlack) / fabsl(exact[i])
                               : Real{kInf};
        if (error > worst) worst = error, worst_at = inputs[i];
      }
      const Real bound = HasFusedMultiplyAdd(target) ? accuracy.fused : accuracy.unfused;
      CHECK(bound <= kActivationBound);
      CHECK_MESSAGE(worst <= bound, "activation " << accuracy.activation << " on " << std::string(target) << " is off by "
                                                  << static_cast<double>(worst) << " at " << worst_at);
    });
  }
}

TEST_CASE("ReLU and leaky ReLU are exact") {
  std::vector<float> inputs = Inputs();
  inputs.insert(inputs.end(), {kInf, -kInf});
  ForEachTargetsFunctions([&](const SpanFunctions& span) {
    for (const float slope : {kSlope, -0.5f, 1e-30f, 3.0f}) {
      const std::vector<float> relu = span.Activated(SIMDNORM_RELU, inputs);
      const std::vector<float> leaky = span.Activated(SIMDNORM_LEAKY_RELU, inputs, slope);
      size_t different = 0;
      for (size_t i = 0; i < inputs.size(); ++i) {
        const float v = inputs[i];
        if (BitsOf(relu[i]) != BitsOf(v > 0 ? v : 0.0f)) ++different;
        if (BitsOf(leaky[i]) != BitsOf(v >= 0 ? v : v * slope)) ++different;
      }
      CHECK(different == 0);
    }
  });
}

TEST_CASE("limits") {
  ForEachTargetsFunctions([&](const SpanFunctions& span) {
    for (const Accuracy& accuracy : kAccuracies) {
      CAPTURE(accuracy.activation);
      const auto at = [&](float v) { return span.Activated(accuracy.activation, {v})[0]; };
      CHECK(at(0) == 0);
      CHECK(at(-0.0f) == 0);
      for (const float v : {100.0f, 1e10f, FLT_MAX, kInf}) {
        CHECK(at(v) == v);
        CHECK(at(-v) == 0);
      }
      CHECK(at(FLT_MIN) == FLT_MIN / 2);
      CHECK(at(-FLT_MIN) == -FLT_MIN / 2);
    }
  });
}

TEST_CASE("of every NaN comes the one quiet NaN") {
  constexpr uint32_t kOne = 0x7FC00000u;
  ForEachTargetsFunctions([&](const SpanFunctions& span) {
    for (const uint32_t nan : kNaNs) {
      CAPTURE(nan);
      const std::vector<float> nans(21, FloatOf(nan)), numbers(21, 1.5f);
      const auto all_one = [](const std::vector<float>& values) {
        for (const float value : values) {
          if (BitsOf(value) != kOne) return false;
        }
        return true;
      };
      for (const simdnorm_activation activation : kActivations) {
        if (activation != SIMDNORM_NO_ACTIVATION) CHECK(all_one(span.Activated(activation, nans)));
      }
      CHECK(all_one(span.Gated(nans, numbers)));
      CHECK(all_one(span.Gated(numbers, nans)));
      CHECK(all_one(span.Gated(nans, nans)));
    }
    CHECK(BitsOf(span.Activated(SIMDNORM_LEAKY_RELU, {-kInf}, 0)[0]) == kOne);
    CHECK(BitsOf(span.Gated({-kInf}, {kInf})[0]) == kOne);
  });
}

TEST_CASE("v * silu(gate) against long double") {
  const std::vector<float> gate = Inputs();
  std::vector<float> v;
  for (size_t i = 0; i < gate.size(); ++i) v.push_back(i % 64 == 0 ? 1e-42f : i % 64 == 1 ? -1e30f : Normal(i));
  std::vector<Real> exact, bounds;
  for (size_t i = 0; i < gate.size(); ++i) {
    const Real silu = Activated(SIMDNORM_SILU, 0, gate[i]);
    exact.push_back(v[i] * silu);
    bounds.push_back(GateError(v[i], silu, 0));
  }
  ForEachTargetsFunctions([&](const SpanFunctions& span) {
    const std::string errors = Compare("gated", exact, bounds, span.Gated(gate, v));
    CHECK_MESSAGE(errors.empty(), errors);
  });
}

TEST_CASE("no activation changes nothing, NaN included") {
  ForEachTargetsFunctions([&](const SpanFunctions& span) {
    GuardedBuffer v(37, {true, 0});  // of signaling NaNs
    span.activate(SIMDNORM_NO_ACTIVATION, kSlope, v.data(), v.size());
    CHECK(v.InsideIsUntouched());
  });
}

TEST_CASE("spans of every length, at both ends of a page") {
  std::vector<float> inputs, gates;
  for (uint64_t i = 0; i < 70; ++i) inputs.push_back(4 * Normal(i)), gates.push_back(4 * Normal(1000 + i));
  ForEachTargetsFunctions([&](const SpanFunctions& span) {
    for (const simdnorm_activation activation : kActivations) {
      // Where an element stands is not to matter: one by one.
      std::vector<float> activated, gated;
      for (size_t i = 0; i < inputs.size(); ++i) {
        activated.push_back(span.Activated(activation, {inputs[i]})[0]);
        gated.push_back(span.Gated({gates[i]}, {inputs[i]})[0]);
      }
      for (int64_t n = 0; n <= 70; ++n) {
        for (const bool at_end : {true, false}) {
          CAPTURE(activation);
          CAPTURE(n);
          const auto check = [&](const std::vector<float>& expected, const auto& run) {
            GuardedBuffer v(n, {at_end, n % 5});
            for (int64_t i = 0; i < n; ++i) v[i] = inputs[static_cast<size_t>(i)];
            run(v.data());
            CHECK(SameBits(std::vector<float>(v.data(), v.data() + n), {expected.begin(), expected.begin() + n}));
            CHECK(v.OutsideIsUntouched());
          };
          check(activated, [&](float* v) { span.activate(activation, kSlope, v, n); });
          if (activation != SIMDNORM_SILU) continue;
          GuardedBuffer gate(n, {at_end, 0});
          for (int64_t i = 0; i < n; ++i) gate[i] = gates[static_cast<size_t>(i)];
          gate.MakeReadOnly();
          check(gated, [&](float* v) { span.multiply_by_silu(gate.data(), v, n); });
        }
      }
    }
  });
}

// 65,536 numbers: every sign, exponent and first 7 digits, NaN too. Another digest than this says that a machine, a compiler, a
// version of Highway or a change of the code gives other bits; if a change was meant to, the new one is in the message.
constexpr uint64_t kDigest = 11775899260300471268u;

TEST_CASE("the same bits on all targets with fused multiply-add") {
  std::vector<float> inputs, other;
  for (uint32_t i = 0; i < 65536; ++i) {
    inputs.push_back(FloatOf((i << 16) + (static_cast<uint32_t>(Mix(i)) & 0xFFFF)));
    other.push_back(FloatOf(((i * 40503u) << 16) + (static_cast<uint32_t>(Mix(i)) >> 16)));
  }
  ForEachTarget([&](const char* target) {
    if (!HasFusedMultiplyAdd(target)) return;
    const SpanFunctions span(target);
    digest::Hash hash;
    const auto add = [&](const std::vector<float>& values) { hash.Add(values.data(), values.size() * sizeof(float)); };
    for (const simdnorm_activation activation : kActivations) {
      if (activation != SIMDNORM_NO_ACTIVATION) add(span.Activated(activation, inputs));
    }
    add(span.Gated(inputs, other));
    CHECK_MESSAGE(hash.value() == kDigest, std::string(target));
  });
}

}  // namespace
}  // namespace simdnorm_test
#endif  // HWY_ONCE
