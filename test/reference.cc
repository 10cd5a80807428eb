// The reference, for reading rather than for speed: gather an item's values, mean, then variance, then y.
#include "reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "dtypes.h"

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
Items Channels(const Args& args) {
  if (args.layout == SIMDNORM_NCHW) {
    return {args.channels, args.batch, args.spatial, args.spatial, args.channels * args.spatial, 1};
  }
  return {args.channels, args.batch, args.spatial, 1, args.spatial * args.channels, args.channels};
}

template <class Args>
std::vector<Real> Gather(const Args& args, const Items& items, int64_t item) {
  std::vector<Real> values;
  values.reserve(static_cast<size_t>(items.Size()));
  for (int64_t j = 0; j < items.Size(); ++j) values.push_back(GetElement(args.x, args.x_dtype, items.At(item, j)));
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

Real At(const void* parameters, simdnorm_dtype dtype, int64_t i, Real absent) {
  return parameters ? static_cast<Real>(GetElement(parameters, dtype, i)) : absent;
}

// An Expected with room for y, and the statistics of items yet to come.
Expected Sized(const Items& y) {
  Expected expected;
  const size_t elements = static_cast<size_t>(y.count * y.Size());
  expected.y.resize(elements);
  expected.scaled.resize(elements);
  expected.scale.resize(elements);
  expected.item.resize(elements);
  return expected;
}

// Adds the statistics of the next item, and its y: (x - mean) * rstd * scale_of(j) + shift_of(j).
template <class Scale, class Shift>
void AddItem(const Items& y, const std::vector<Real>& values, Real mean, Real variance, float epsilon, const Scale& scale_of,
             const Shift& shift_of, Expected& expected) {
  const Real rstd = 1 / std::sqrt(variance + static_cast<Real>(epsilon));
  const int64_t item = static_cast<int64_t>(expected.mean.size());
  Real largest = 0;
  for (int64_t j = 0; j < y.Size(); ++j) {
    const size_t at = static_cast<size_t>(y.At(item, j));
    const Real normalized = (values[static_cast<size_t>(j)] - mean) * rstd;
    if (std::isfinite(normalized)) largest = std::max(largest, std::fabs(normalized));
    expected.scale[at] = scale_of(j);
    expected.scaled[at] = normalized * expected.scale[at];
    expected.y[at] = expected.scaled[at] + shift_of(j);
    expected.item[at] = item;
  }
  expected.largest.push_back(largest);
  expected.mean.push_back(mean);
  expected.variance.push_back(variance);
  expected.rstd.push_back(rstd);
}

// The same of a channel, whose scale and shift are one number each.
template <class Args>
void AddChannel(const Args& args, const Items& items, const std::vector<Real>& values, Real mean, Real variance,
                Expected& expected) {
  const int64_t channel = static_cast<int64_t>(expected.mean.size());
  const Real scale = At(args.scale, args.scale_dtype, channel, 1), shift = At(args.shift, args.scale_dtype, channel, 0);
  AddItem(
      items, values, mean, variance, args.epsilon, [&](int64_t) { return scale; }, [&](int64_t) { return shift; }, expected);
}

// Element (row, c) of a tensor that comes with the rows of x.
float OfRow(const void* tensor, simdnorm_dtype dtype, int64_t row_stride, int64_t cols, int64_t row, int64_t c) {
  return GetElement(tensor, dtype, row * (row_stride != 0 ? row_stride : cols) + c);
}

template <class Args>
Real ResidualAt(const Args& args, int64_t row, int64_t c) {
  return OfRow(args.residual, args.residual_dtype, args.residual_row_stride, args.cols, row, c);
}

// What is normalized, h = (x + residual) + bias: sums in f32, as simdnorm.h defines them.
template <class Args>
std::vector<Real> GatherH(const Args& args, int64_t item, Expected& expected) {
  const int64_t inner = std::max<int64_t>(args.inner, 1), row = item / inner, cols = args.cols;
  const bool default_strides = args.x_col_stride == 0 && args.x_inner_stride == 0;
  const int64_t col_stride = default_strides || inner == 1 ? inner : args.x_col_stride;
  const int64_t inner_stride = default_strides || inner == 1 ? 1 : args.x_inner_stride;
  const int64_t row_stride = args.x_row_stride != 0 ? args.x_row_stride : cols * inner;
  std::vector<Real> values;
  values.reserve(static_cast<size_t>(cols));
  for (int64_t c = 0; c < cols; ++c) {
    float h = GetElement(args.x, args.x_dtype, row * row_stride + c * col_stride + item % inner * inner_stride);
    if (args.residual && args.residual_order == SIMDNORM_RESIDUAL_BEFORE) h += static_cast<float>(ResidualAt(args, row, c));
    if (args.bias) h += GetElement(args.bias, args.bias_dtype, c);
    const float rounded = Rounded(h, args.h_dtype);
    if (args.h) expected.h.push_back(rounded);
    values.push_back(args.h_rounding == SIMDNORM_H_ROUNDED ? rounded : h);
  }
  return values;
}

// From normalized values to y, all of them.
template <class Args>
void AddFollowingSteps(const Args& args, Expected& expected) {
  const bool residual_after = args.residual && args.residual_order == SIMDNORM_RESIDUAL_AFTER;
  if (!residual_after && !args.gate && args.activation == SIMDNORM_NO_ACTIVATION) return;
  expected.activation = args.activation;
  expected.activation_slope = args.activation_slope;
  expected.normalized = expected.y;
  for (size_t i = 0; i < expected.y.size(); ++i) {
    const int64_t row = static_cast<int64_t>(i) / args.cols, c = static_cast<int64_t>(i) % args.cols;
    const Real v = expected.normalized[i] + (residual_after ? ResidualAt(args, row, c) : 0);
    const Real activated = Activated(args.activation, args.activation_slope, v);
    const Real gate =
        args.gate ? Activated(SIMDNORM_SILU, 0, OfRow(args.gate, args.gate_dtype, args.gate_row_stride, args.cols, row, c)) : 1;
    expected.with_residual.push_back(v);
    expected.activated.push_back(activated);
    expected.gate.push_back(gate);
    expected.y[i] = activated * gate;
  }
}

template <class Args>
Expected RowsReference(const Args& args, bool centred, const void* shift) {
  const int64_t inner = std::max<int64_t>(args.inner, 1);
  const int64_t scale_stride = args.scale_row_stride != 0 ? args.scale_row_stride : args.cols;
  const Items y = {args.rows * inner, 1, args.cols, args.cols, 0, 1};
  Expected expected = Sized(y);
  for (int64_t item = 0; item < y.count; ++item) {
    const std::vector<Real> values = GatherH(args, item, expected);
    const Real mean = centred ? MeanOf(values) : 0;
    const int64_t parameters = args.rows_per_scale != 0 ? item / inner / args.rows_per_scale * scale_stride : 0;
    const auto scale_of = [&](int64_t j) -> Real {
      return args.scale ? static_cast<Real>(args.scale_offset) + At(args.scale, args.scale_dtype, parameters + j, 1) : 1;
    };
    const auto shift_of = [&](int64_t j) { return At(shift, args.scale_dtype, parameters + j, 0); };
    AddItem(y, values, mean, MeanSquareAbout(values, mean), args.epsilon, scale_of, shift_of, expected);
  }
  AddFollowingSteps(args, expected);
  return expected;
}

}  // namespace

Expected Reference(const simdnorm_layer_norm_args& args) { return RowsReference(args, true, args.shift); }

Expected Reference(const simdnorm_rms_norm_args& args) { return RowsReference(args, false, nullptr); }

Expected Reference(const simdnorm_batch_norm_inference_args& args) {
  const Items items = Channels(args);
  Expected expected = Sized(items);
  for (int64_t channel = 0; channel < args.channels; ++channel) {
    AddChannel(args, items, Gather(args, items, channel), args.mean[channel], args.variance[channel], expected);
  }
  return expected;
}

Expected Reference(const simdnorm_batch_norm_training_args& args) {
  const Items items = Channels(args);
  const Real momentum = args.momentum, count = static_cast<Real>(items.Size());
  const Real running_factor = args.running_variance_kind == SIMDNORM_UNBIASED ? count / (count - 1) : 1;
  Expected expected = Sized(items);
  expected.momentum = momentum;
  expected.running_factor = running_factor;
  for (int64_t channel = 0; channel < args.channels; ++channel) {
    const std::vector<Real> values = Gather(args, items, channel);
    const Real mean = MeanOf(values), variance = MeanSquareAbout(values, mean);
    AddChannel(args, items, values, mean, variance, expected);
    expected.running_mean.push_back((1 - momentum) * At(args.running_mean, SIMDNORM_F32, channel, 0) + momentum * mean);
    expected.running_variance.push_back((1 - momentum) * At(args.running_variance, SIMDNORM_F32, channel, 0) +
                                        momentum * (variance * running_factor));
  }
  return expected;
}

// Over [outputs][inputs of their group][kernel], wherever those lie.
ExpectedFold Reference(const simdnorm_fold_batch_norm_args& args) {
  const bool preceding = args.position == SIMDNORM_FOLD_INTO_PRECEDING;
  const int64_t groups = std::max<int64_t>(args.groups, 1), kernel = std::max<int64_t>(args.kernel, 1);
  const int64_t group_inputs = args.in_channels / groups, group_outputs = args.out_channels / groups;
  ExpectedFold expected;
  expected.weight.resize(static_cast<size_t>(args.out_channels * group_inputs * kernel));
  if (!preceding) expected.num_terms = static_cast<Real>(group_inputs * kernel);
  for (int64_t o = 0; o < args.out_channels; ++o) {
    const Real bias = At(args.bias, SIMDNORM_F32, o, 0);
    Real sum = preceding ? 0 : bias, magnitudes = preceding ? 0 : std::fabs(bias);
    for (int64_t i = 0; i < group_inputs; ++i) {
      const int64_t input = o / group_outputs * group_inputs + i, c = preceding ? o : input;
      const Real variance = static_cast<Real>(args.variance[c]) + static_cast<Real>(args.epsilon);
      const Real factor = At(args.scale, SIMDNORM_F32, c, 1) / std::sqrt(variance);
      const Real shift = At(args.shift, SIMDNORM_F32, c, 0), mean_term = static_cast<Real>(args.mean[c]) * factor;
      for (int64_t k = 0; k < kernel; ++k) {
        const int64_t at =
            args.transposed ? (input * group_outputs + o % group_outputs) * kernel + k : (o * group_inputs + i) * kernel + k;
        const Real weight = args.weight[at];
        expected.weight[static_cast<size_t>(at)] = weight * factor;
        if (!preceding) {
          sum += weight * (shift - mean_term);
          magnitudes += std::fabs(weight) * (std::fabs(shift) + std::fabs(mean_term));
        }
      }
      if (preceding && i == 0) {
        sum = bias * factor + (shift - mean_term);
        magnitudes = std::fabs(bias * factor) + std::fabs(shift) + std::fabs(mean_term);
      }
    }
    expected.bias.push_back(sum);
    expected.terms.push_back(magnitudes);
  }
  return expected;
}

Real Activated(simdnorm_activation activation, float slope, Real v) {
  if (std::isnan(v)) return v;
  const Real limit = std::signbit(v) ? 0 : v;  // of SiLU and both forms of GELU
  switch (activation) {
    case SIMDNORM_NO_ACTIVATION:
      return v;
    case SIMDNORM_RELU:
      return v > 0 ? v : 0;
    case SIMDNORM_LEAKY_RELU:
      return v >= 0 ? v : v * static_cast<Real>(slope);
    case SIMDNORM_SILU:
      return std::isinf(v) ? limit : v / (1 + std::exp(-v));
    case SIMDNORM_GELU:
      return std::isinf(v) ? limit : v * std::erfc(-v / std::sqrt(Real{2})) / 2;
    case SIMDNORM_GELU_TANH: {
      // (1 + tanh(u)) / 2 = 1 / (1 + exp(-2u)), which keeps its digits where tanh(u) is near -1.
      const Real u = std::sqrt(2 / std::acos(Real{-1})) * (v + 0.044715L * v * v * v);
      return std::isinf(v) ? limit : v / (1 + std::exp(-2 * u));
    }
    default:
      return kNaN;  // so that one without a formula here fails its tests
  }
}

}  // namespace simdnorm_test
