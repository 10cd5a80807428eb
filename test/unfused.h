// A call of layer norm or RMS norm taken apart: each thing that it does in its one sweep as a step of its own, in scalar code
// here, round the plain f32 call on dense rows, which is checked against the reference. It has to give the same bits: the f32
// values between the steps are defined by simdnorm.h, but for activations, which are checked against long double.
#ifndef SIMDNORM_TEST_UNFUSED_H_
#define SIMDNORM_TEST_UNFUSED_H_

#include <cmath>
#include <string>
#include <vector>

#include "problem.h"
#include "simdnorm/simdnorm.hpp"

namespace simdnorm_test {

inline float Canonical(float v) { return std::isnan(v) ? FloatOf(kQuietNaN) : v; }

// h = (x + residual) + bias, item by item: what is normalized, and into `saved` what is written.
inline std::vector<float> SumsOf(const Tensors& tensors, std::vector<float>* saved) {
  const Problem& p = tensors.p;
  std::vector<float> sums;
  tensors.ForEachElement([&](int64_t item, int64_t j, int64_t x_at, int64_t /*dense_at*/) {
    float h = tensors.x.Get(x_at);
    if (p.residual && p.residual_order == SIMDNORM_RESIDUAL_BEFORE) {
      h = h + tensors.residual->Get(p.At(p.ResidualStrides(), item, j));
    }
    if (p.bias) h = h + tensors.bias->Get(j);
    const float rounded = Rounded(h, p.h_dtype);
    if (p.h) saved->push_back(rounded);
    sums.push_back(p.h_rounding == SIMDNORM_H_ROUNDED ? rounded : h);
  });
  return sums;
}

// Where value j of an item is in a dense tensor: [rows, cols, inner] if positions lie side by side in x, since that is another
// way to take statistics, else rows as they come.
inline size_t DenseAt(const Problem& p, int64_t item, int64_t j) {
  const bool side_by_side = p.inner != 1 && p.x_view == View::kChannelsFirst;
  return static_cast<size_t>(side_by_side ? (item / p.inner * p.cols + j) * p.inner + item % p.inner : item * p.cols + j);
}

// The plain f32 call on dense rows that have one scale and shift. `parameters` is the set of scale and shift that they have.
inline void NormalizePlain(const Tensors& tensors, int64_t parameters, const char* target, int64_t first_item, int64_t items,
                           const std::vector<float>& h, Outputs* outputs) {
  const Problem& p = tensors.p;
  std::vector<float> scale, shift;
  for (int64_t c = 0; c < p.cols; ++c) {
    const int64_t at = parameters * (p.cols + p.scale_gap) + c;
    if (p.scale) scale.push_back(p.scale_offset + tensors.scale->Get(at));
    if (p.HasShift()) shift.push_back(tensors.shift->Get(at));
  }
  const auto pointer = [](std::vector<float>& values, int64_t at) { return values.empty() ? nullptr : values.data() + at; };
  std::vector<float> x(static_cast<size_t>(items * p.cols)), y(x.size());
  for (int64_t item = 0; item < items; ++item) {
    for (int64_t j = 0; j < p.cols; ++j) x[DenseAt(p, item, j)] = h[static_cast<size_t>((first_item + item) * p.cols + j)];
  }
  simdnorm::RowFusions fusions;
  fusions.inner = p.x_view == View::kChannelsFirst ? p.inner : 1;
  const int64_t rows = items / fusions.inner;
  float* const mean = pointer(outputs->mean, first_item);
  float* const rstd = pointer(outputs->rstd, first_item);
  const simdnorm::Options options = {target, 1};
  const simdnorm::Result result =
      p.op == Op::kRMSNorm
          ? simdnorm::RMSNorm(x.data(), y.data(), rows, p.cols, {pointer(scale, 0), p.epsilon, rstd, fusions}, options)
          : simdnorm::LayerNorm(x.data(), y.data(), rows, p.cols,
                                {pointer(scale, 0), pointer(shift, 0), p.epsilon, mean, rstd, fusions}, options);
  CHECK_MESSAGE(result, std::string(result.message()));
  for (int64_t item = 0; item < items; ++item) {
    for (int64_t j = 0; j < p.cols; ++j) outputs->y.push_back(y[DenseAt(p, item, j)]);
  }
}

// All outputs, y being f32 and what it is before activation and gate.
inline Outputs RunUnfused(const Tensors& tensors, const char* target) {
  const Problem& p = tensors.p;
  Outputs outputs;
  if (p.SavesMean()) outputs.mean.resize(static_cast<size_t>(p.Items()));
  if (p.SavesRstd()) outputs.rstd.resize(static_cast<size_t>(p.Items()));
  const std::vector<float> h = SumsOf(tensors, &outputs.h);
  const int64_t items_per_scale = p.rows_per_scale != 0 ? p.rows_per_scale * p.inner : p.Items();
  for (int64_t item = 0; item < p.Items(); item += items_per_scale) {
    NormalizePlain(tensors, item / items_per_scale, target, item, items_per_scale, h, &outputs);
  }
  if (p.residual && p.residual_order == SIMDNORM_RESIDUAL_AFTER) {
    for (int64_t i = 0; i < p.Elements(); ++i) {
      float& v = outputs.y[static_cast<size_t>(i)];
      v = Canonical(v + tensors.residual->Get(p.At(p.ResidualStrides(), i / p.cols, i % p.cols)));
    }
  }
  return outputs;
}

// y of the call of `tensors`, item by item, but written as f32 and in the place of nothing: what is then rounded or quantized.
inline std::vector<float> RunWithYInF32(const Tensors& tensors, const char* target) {
  const Problem& p = tensors.p;
  std::vector<float> dense(static_cast<size_t>(p.Elements())), y;
  const simdnorm_options options = AllExecutors()[0].Options(target);
  const simdnorm_status status = tensors.WithRowArgs(Tensors::Inputs::kOwn, [&](auto args) {
    const bool heads = p.inner != 1 && p.x_view != View::kChannelsFirst;
    args.y = dense.data();
    args.y_dtype = SIMDNORM_F32;
    args.y_row_stride = 0;
    args.y_col_stride = heads ? 1 : 0;
    args.y_inner_stride = heads ? p.cols : 0;
    args.quant_scale = 0;
    args.zero_point = 0;
    args.quant_scales = nullptr;
    return Call(args, &options);
  });
  CHECK(status == SIMDNORM_OK);
  for (int64_t i = 0; i < p.Elements(); ++i) y.push_back(dense[DenseAt(p, i / p.cols, i % p.cols)]);
  return y;
}

// Whether `y` is activation(v) * silu(gate) of the f32 values v, within the bounds of simdnorm.h: "" or the first that is not.
inline std::string CompareActivated(const Tensors& tensors, const std::vector<float>& v, const std::vector<float>& y) {
  const Problem& p = tensors.p;
  std::vector<Real> expected, bounds;
  for (int64_t i = 0; i < p.Elements(); ++i) {
    const Real activated = Activated(p.activation, p.activation_slope, v[static_cast<size_t>(i)]);
    const Real error = ActivationError(p.activation, p.activation_slope, activated, 0);
    if (!p.gate) {
      expected.push_back(activated);
      bounds.push_back(error);
      continue;
    }
    const Real gate = Activated(SIMDNORM_SILU, 0, tensors.gate->Get(p.At(p.GateStrides(), i / p.cols, i % p.cols)));
    expected.push_back(activated * gate);
    bounds.push_back(GateError(activated, gate, error));
  }
  return Compare("y in f32", expected, bounds, y);
}

inline float ClampedRound(float quotient, int32_t zero_point, double low, double high) {
  const double rounded = std::nearbyint(static_cast<double>(quotient)) + static_cast<double>(zero_point);
  return static_cast<float>(std::min(std::max(rounded, low), high));
}

// The factor of values quantized together; 0 where it rounds to that, NaN where not all are finite.
inline float FactorOf(const float* v, int64_t count) {
  float largest = 0;
  for (int64_t j = 0; j < count; ++j) {
    if (!std::isfinite(v[j])) return FloatOf(kQuietNaN);
    largest = std::max(largest, std::fabs(v[j]));
  }
  return largest / 127;
}

// Rounds or quantizes y as the problem says. y is f32, row by row.
inline void FinishY(const Problem& p, Outputs* outputs) {
  const auto by_factor = [](float v, float factor) { return factor > 0 ? ClampedRound(v / factor, 0, -127, 127) : 0.0f; };
  const auto each = [&](int64_t length, const auto& of_run) {
    for (int64_t begin = 0; begin < p.Elements(); begin += length) of_run(outputs->y.data() + begin);
  };
  if (!IsInteger(p.y_dtype)) {
    for (float& v : outputs->y) v = Rounded(v, p.y_dtype);
  } else if (p.y_dtype == SIMDNORM_Q8_0) {
    each(kBlock, [&](float* block) {
      const float factor = FactorOf(block, kBlock);
      outputs->block_scales.push_back(Rounded(factor, SIMDNORM_F16));
      for (int64_t j = 0; j < kBlock; ++j) block[j] = by_factor(block[j], factor);
    });
  } else if (p.HasQuantScales()) {
    each(p.cols, [&](float* row) {
      const float factor = FactorOf(row, p.cols);
      outputs->quant_scales.push_back(factor);
      for (int64_t j = 0; j < p.cols; ++j) row[j] = by_factor(row[j], factor);
    });
  } else {
    const double low = p.y_dtype == SIMDNORM_I8 ? -128 : 0, high = low + 255;
    for (float& v : outputs->y) {
      v = std::isnan(v) ? static_cast<float>(p.zero_point) : ClampedRound(v / p.quant_scale, p.zero_point, low, high);
    }
  }
}

// Checks on every target that a problem of rows gives the bits of its steps taken one by one. All rows are valid.
inline void CheckTensorsUnfused(Tensors& tensors, Executors executors = Executors::kInTurn) {
  const Problem& p = tensors.p;
  tensors.Seal();
  const bool has_activation = p.activation != SIMDNORM_NO_ACTIVATION || p.gate;
  ForEachTarget([&](const char* target) {
    Outputs expected = RunUnfused(tensors, target);
    if (has_activation) {
      const std::vector<float> activated = RunWithYInF32(tensors, target);
      const std::string errors = CompareActivated(tensors, expected.y, activated);
      CHECK_MESSAGE(errors.empty(), errors << Describe(p, target));
      expected.y = activated;
    }
    FinishY(p, &expected);
    ForExecutors(executors, [&](const ExecutorCase& executor) {
      const std::string errors = Differences(expected, Run(tensors, executor.Options(target)));
      CHECK_MESSAGE(errors.empty(), errors << Describe(p, target, executor.name));
    });
  });
}

inline void CheckUnfused(const Problem& p, Executors executors = Executors::kInTurn) {
  Tensors tensors(p);
  CheckTensorsUnfused(tensors, executors);
}

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_UNFUSED_H_
