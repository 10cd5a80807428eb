// What a ChannelProblem's call should write, and how far from it simdnorm.h allows a result to be: the formulas as they stand
// there, in two passes of long double over values in the problem's order. It knows no layout, no dtype and no code of the
// library.
#ifndef SIMDNORM_TEST_CHANNEL_REFERENCE_H_
#define SIMDNORM_TEST_CHANNEL_REFERENCE_H_

#include <stdint.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "channel_problem.h"
#include "compare.h"

namespace simdnorm_test {

struct Expectation {
  std::vector<Real> value, bound;

  void Add(Real v, Real b) {
    value.push_back(v);
    bound.push_back(b);
  }
};

struct ChannelExpected {
  Expectation y, mean, rstd, running_mean, running_variance;
};

inline ChannelExpected Reference(const ChannelProblem& p) {
  constexpr Real kNaN = std::numeric_limits<Real>::quiet_NaN();
  const auto or_else = [](const std::vector<float>& values, size_t i, Real absent) {
    return values.empty() ? absent : static_cast<Real>(values[i]);
  };
  const auto number = [](size_t n) { return static_cast<Real>(n); };

  // Where the values lie that an item's statistics are over.
  std::vector<std::vector<size_t>> items(static_cast<size_t>(p.Items()));
  p.ForEachElement([&](int64_t n, int64_t c, int64_t s) {
    if (p.Counts(n, s)) items[static_cast<size_t>(p.ItemOf(n, c))].push_back(p.At(n, c, s));
  });

  ChannelExpected expected;
  expected.y.value.resize(p.x.size());
  expected.y.bound.resize(p.x.size());
  for (size_t item = 0; item < items.size(); ++item) {
    const std::vector<size_t>& places = items[item];
    const size_t count = places.size();
    Real mean = 0, variance = 0;
    if (p.op == ChannelOp::kInference) {
      mean = p.given_mean[item];
      variance = p.given_variance[item];
    } else {
      bool finite = true;
      for (const size_t at : places) finite = finite && std::isfinite(p.x[at]);
      for (const size_t at : places) mean += static_cast<Real>(p.x[at]);
      mean = finite && count != 0 ? mean / number(count) : kNaN;
      for (const size_t at : places) variance += (static_cast<Real>(p.x[at]) - mean) * (static_cast<Real>(p.x[at]) - mean);
      variance = count != 0 ? variance / number(count) : kNaN;
    }
    const Real rstd = 1 / std::sqrt(variance + static_cast<Real>(p.epsilon));

    // Normalized values, and the largest of their finite magnitudes before scale and shift.
    std::vector<Real> deviations(count), scales(count), normalized(count);
    Real largest = 0;
    for (size_t i = 0; i < count; ++i) {
      const size_t channel = places[i] / static_cast<size_t>(p.spatial) % static_cast<size_t>(p.channels);
      const Real deviation = (static_cast<Real>(p.x[places[i]]) - mean) * rstd;
      if (std::isfinite(deviation)) largest = std::max(largest, std::fabs(deviation));
      scales[i] = or_else(p.scale, channel, 1);
      deviations[i] = deviation;
      normalized[i] = deviation * scales[i] + or_else(p.shift, channel, 0);
    }
    for (size_t i = 0; i < count; ++i) {
      const Real product_bound = p.op == ChannelOp::kInference ? InferenceError(deviations[i] * scales[i], scales[i])
                                                               : ItemError(largest, rstd, scales[i]);
      const Real normalized_bound = product_bound + LastError(normalized[i]);
      const Real sum = normalized[i] + or_else(p.residual, places[i], 0);
      const Real sum_bound = normalized_bound + (p.residual.empty() ? 0 : kRounding * std::fabs(sum));
      const Real y = Activated(p.activation, p.activation_slope, sum);
      expected.y.value[places[i]] = y;
      expected.y.bound[places[i]] = ActivationError(p.activation, p.activation_slope, y, sum_bound);
    }

    const Real spread = std::sqrt(variance);
    expected.mean.Add(mean, MeanBound(mean, spread));
    expected.rstd.Add(rstd, kRstdBound * rstd);
    if (p.op != ChannelOp::kTraining) continue;
    // Without a value to count the running statistics stay exactly as they are.
    const Real old_mean = or_else(p.running_mean, item, 0), old_variance = or_else(p.running_variance, item, 0);
    if (count == 0) {
      expected.running_mean.Add(old_mean, 0);
      expected.running_variance.Add(old_variance, 0);
      continue;
    }
    const Real momentum = p.momentum;
    const Real running_variance =
        p.running_variance_kind == SIMDNORM_UNBIASED ? variance * number(count) / (number(count) - 1) : variance;
    const Real new_mean = (1 - momentum) * old_mean + momentum * mean;
    const Real new_variance = (1 - momentum) * old_variance + momentum * running_variance;
    expected.running_mean.Add(new_mean, RunningMeanBound(new_mean, momentum, spread));
    expected.running_variance.Add(new_variance, RunningVarianceBound(new_variance, momentum, running_variance));
  }
  return expected;
}

// Checks a problem in f32 against the reference, on every target. The executor changes from one to the next, or all are run.
inline void CheckProblem(const ChannelProblem& p, Executors executors = Executors::kInTurn) {
  static size_t next_executor = 0;
  const ChannelExpected expected = Reference(p);
  ChannelTensors tensors(p);
  ForEachTarget([&](const char* target) {
    ++next_executor;
    for (size_t e = 0; e < (executors == Executors::kAll && !SmallEffort() ? AllExecutors().size() : 1); ++e) {
      const ExecutorCase& executor = AllExecutors()[(next_executor + e) % AllExecutors().size()];
      const Outputs actual = tensors.Run(executor.Options(target));
      const auto errors_of = [](const char* name, const Expectation& should_be, const std::vector<float>& is) {
        return Compare(name, should_be.value, should_be.bound, is);
      };
      const std::string errors = errors_of("y", expected.y, actual.y) + errors_of("mean", expected.mean, actual.mean) +
                                 errors_of("rstd", expected.rstd, actual.rstd) +
                                 errors_of("running_mean", expected.running_mean, actual.running_mean) +
                                 errors_of("running_variance", expected.running_variance, actual.running_variance);
      CHECK_MESSAGE(errors.empty(), errors << Describe(p, target, executor.name));
    }
  });
}

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_CHANNEL_REFERENCE_H_
