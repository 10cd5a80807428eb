// The reference, for reading rather than for speed: gather an item's values, mean, then variance, then y.
#include "reference.h"

#include <cmath>
#include <limits>

namespace simdnorm_test {
namespace {

constexpr Real kNaN = std::numeric_limits<Real>::quiet_NaN();

// Where the values of items lie: value j of item i is at i * item_stride + (j / length) * plane_stride + (j % length) * step.
struct Items {
  int64_t count, planes, length;
  int64_t item_stride, plane_stride, step;

  int64_t Size() const { return planes * length; }
  int64_t At(int64_t item, int64_t j) const { return item * item_stride + j / length * plane_stride + j % length * step; }
};

template <class Args>
Items Rows(const Args& args, int64_t row_stride) {
  return {args.rows, 1, args.cols, row_stride != 0 ? row_stride : args.cols, 0, 1};
}

template <class Args>
Items Channels(const Args& args) {
  if (args.layout == SIMDNORM_NCHW) {
    return {args.channels, args.batch, args.spatial, args.spatial, args.channels * args.spatial, 1};
  }
  return {args.channels, args.batch, args.spatial, 1, args.spatial * args.channels, args.channels};
}

std::vector<Real> Gather(const void* x, const Items& items, int64_t item) {
  std::vector<Real> values;
  values.reserve(static_cast<size_t>(items.Size()));
  for (int64_t j = 0; j < items.Size(); ++j) values.push_back(static_cast<const float*>(x)[items.At(item, j)]);
  return values;
}

bool AllFinite(const std::vector<Real>& values) {
  for (const Real value : values) {
    if (!std::isfinite(value)) return false;
  }
  return true;
}

Real MeanOf(const std::vector<Real>& values) {
  Real sum = 0;
  for (const Real value : values) sum += value;
  return AllFinite(values) ? sum / static_cast<Real>(values.size()) : kNaN;
}

Real MeanSquareAbout(const std::vector<Real>& values, Real mean) {
  Real sum = 0;
  for (const Real value : values) sum += (value - mean) * (value - mean);
  return sum / static_cast<Real>(values.size());
}

Real At(const void* parameters, int64_t i, Real absent) {
  return parameters ? static_cast<Real>(static_cast<const float*>(parameters)[i]) : absent;
}

// An Expected with room for y, and the statistics of items yet to come.
Expected Sized(const Items& y) {
  Expected expected;
  const size_t elements = static_cast<size_t>(y.count * y.Size());
  expected.y.resize(elements);
  expected.scaled.resize(elements);
  expected.item.resize(elements);
  return expected;
}

// Adds the statistics of the next item, and its y: (x - mean) * rstd * scale + shift. parameter(j) is the index of value j's
// scale and shift.
template <class Parameter>
void AddItem(const Items& y, const std::vector<Real>& values, Real mean, Real variance, float epsilon, const void* scale,
             const void* shift, const Parameter& parameter, Expected& expected) {
  const Real rstd = 1 / std::sqrt(variance + static_cast<Real>(epsilon));
  const int64_t item = static_cast<int64_t>(expected.mean.size());
  for (int64_t j = 0; j < y.Size(); ++j) {
    const size_t at = static_cast<size_t>(y.At(item, j));
    expected.scaled[at] = (values[static_cast<size_t>(j)] - mean) * rstd * At(scale, parameter(j), 1);
    expected.y[at] = expected.scaled[at] + At(shift, parameter(j), 0);
    expected.item[at] = item;
  }
  expected.mean.push_back(mean);
  expected.variance.push_back(variance);
  expected.rstd.push_back(rstd);
}

}  // namespace

Expected Reference(const simdnorm_layer_norm_args& args) {
  const Items x = Rows(args, args.x_row_stride), y = Rows(args, 0);
  Expected expected = Sized(y);
  for (int64_t row = 0; row < args.rows; ++row) {
    const std::vector<Real> values = Gather(args.x, x, row);
    const Real mean = MeanOf(values);
    AddItem(
        y, values, mean, MeanSquareAbout(values, mean), args.epsilon, args.scale, args.shift, [](int64_t j) { return j; },
        expected);
  }
  return expected;
}

Expected Reference(const simdnorm_rms_norm_args& args) {
  const Items x = Rows(args, args.x_row_stride), y = Rows(args, 0);
  Expected expected = Sized(y);
  for (int64_t row = 0; row < args.rows; ++row) {
    const std::vector<Real> values = Gather(args.x, x, row);
    AddItem(
        y, values, 0, MeanSquareAbout(values, 0), args.epsilon, args.scale, nullptr, [](int64_t j) { return j; }, expected);
  }
  return expected;
}

Expected Reference(const simdnorm_batch_norm_inference_args& args) {
  const Items items = Channels(args);
  Expected expected = Sized(items);
  for (int64_t channel = 0; channel < args.channels; ++channel) {
    AddItem(
        items, Gather(args.x, items, channel), args.mean[channel], args.variance[channel], args.epsilon, args.scale, args.shift,
        [&](int64_t) { return channel; }, expected);
  }
  return expected;
}

Expected Reference(const simdnorm_batch_norm_training_args& args) {
  const Items items = Channels(args);
  const Real momentum = args.momentum, count = static_cast<Real>(items.Size());
  const Real running_factor = args.running_variance_kind == SIMDNORM_UNBIASED ? count / (count - 1) : 1;
  Expected expected = Sized(items);
  for (int64_t channel = 0; channel < args.channels; ++channel) {
    const std::vector<Real> values = Gather(args.x, items, channel);
    const Real mean = MeanOf(values), variance = MeanSquareAbout(values, mean);
    AddItem(
        items, values, mean, variance, args.epsilon, args.scale, args.shift, [&](int64_t) { return channel; }, expected);
    expected.running_mean.push_back((1 - momentum) * At(args.running_mean, channel, 0) + momentum * mean);
    expected.running_variance.push_back((1 - momentum) * At(args.running_variance, channel, 0) +
                                        momentum * (variance * running_factor));
  }
  return expected;
}

}  // namespace simdnorm_test
