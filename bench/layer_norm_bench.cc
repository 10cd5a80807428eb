// Layer norm and RMS norm as networks call them: with scale (and shift), without the statistics as outputs; alone, and with
// what is done before and after in the same sweep.
#include <cstdint>
#include <vector>

#include "cases.h"
#include "harness.h"

namespace simdnorm::bench {
namespace {

using cases::kBf16;
using cases::kF16;
using cases::kF32;
using cases::RowsCase;

Result CallLayerNorm(const RowsCase& shape, const Tensors& t, const Options& options) {
  return LayerNorm(t.x, t.y, shape.rows, shape.cols, {t.scale, t.shift}, options);
}

template <simdnorm_activation activation>
Result CallLayerNormAndActivation(const RowsCase& shape, const Tensors& t, const Options& options) {
  LayerNormParams params{t.scale, t.shift};
  params.fusions.activation = activation;
  return LayerNorm(t.x, t.y, shape.rows, shape.cols, params, options);
}

Result CallAddLayerNorm(const RowsCase& shape, const Tensors& t, const Options& options) {
  LayerNormParams params{t.scale, t.shift};
  params.fusions.residual = t.other;
  params.fusions.h = t.h;
  return LayerNorm(t.x, t.y, shape.rows, shape.cols, params, options);
}

Result CallPostAddLayerNorm(const RowsCase& shape, const Tensors& t, const Options& options) {
  LayerNormParams params{t.scale, t.shift};
  params.fusions.residual = t.other;
  params.fusions.residual_order = SIMDNORM_RESIDUAL_AFTER;
  return LayerNorm(t.x, t.y, shape.rows, shape.cols, params, options);
}

// A static factor, as calibration finds it: nearly all of y falls within 4.
Result CallLayerNormToI8(const RowsCase& shape, const Tensors& t, const Options& options) {
  LayerNormParams params{t.scale, t.shift};
  params.fusions.quant_scale = 1.0f / 32.0f;
  return LayerNorm(t.x, t.y, shape.rows, shape.cols, params, options);
}

// y has zeros for padding. The copy beside it moves all of x and y.
Result CallPaddedLayerNorm(const RowsCase& shape, const Tensors& t, const Options& options) {
  const std::vector<int64_t> lengths = cases::HalfLengths(shape.rows / cases::kTokensPerSentence, cases::kTokensPerSentence);
  LayerNormParams params{t.scale, t.shift};
  params.fusions.lengths = lengths.data();
  params.fusions.rows_per_sequence = cases::kTokensPerSentence;
  return LayerNorm(t.x, t.y, shape.rows, shape.cols, params, options);
}

Result CallAdaptiveLayerNorm(const RowsCase& shape, const Tensors& t, const Options& options) {
  LayerNormParams params{t.scale, t.shift};
  params.fusions.scale_offset = 1.0f;
  params.fusions.rows_per_scale = cases::kTokensPerImage;
  return LayerNorm(t.x, t.y, shape.rows, shape.cols, params, options);
}

Result CallLayerNormChannelsFirst(const RowsCase& shape, const Tensors& t, const Options& options) {
  LayerNormParams params{t.scale, t.shift};
  params.fusions.inner = shape.inner;
  return LayerNorm(t.x, t.y, shape.rows, shape.cols, params, options);
}

Result CallRMSNorm(const RowsCase& shape, const Tensors& t, const Options& options) {
  return RMSNorm(t.x, t.y, shape.rows, shape.cols, {t.scale}, options);
}

Result CallRMSNormToI8(const RowsCase& shape, const Tensors& t, const Options& options) {
  RMSNormParams params{t.scale};
  params.fusions.quant_scales = t.quant_scales;
  return RMSNorm(t.x, t.y, shape.rows, shape.cols, params, options);
}

Result CallAddRMSNorm(const RowsCase& shape, const Tensors& t, const Options& options) {
  RMSNormParams params{t.scale};
  params.fusions.residual = t.other;
  params.fusions.h = t.h;
  return RMSNorm(t.x, t.y, shape.rows, shape.cols, params, options);
}

Result CallGatedRMSNorm(const RowsCase& shape, const Tensors& t, const Options& options) {
  RMSNormParams params{t.scale};
  params.fusions.gate = t.other;
  return RMSNorm(t.x, t.y, shape.rows, shape.cols, params, options);
}

// Out of packed queries, keys and values, which have as many heads each, to queries alone.
Result CallRMSNormOfHeads(const RowsCase& shape, const Tensors& t, const Options& options) {
  RMSNormParams params{t.scale};
  params.fusions.inner = shape.inner;
  params.fusions.x_col_stride = params.fusions.y_col_stride = 1;
  params.fusions.x_inner_stride = params.fusions.y_inner_stride = shape.cols;
  const int64_t queries = shape.inner * shape.cols;
  return RMSNorm({t.x, shape.rows, shape.cols, 3 * queries}, {t.y, shape.rows, shape.cols, queries}, params, options);
}

template <size_t parameters>
Units RowUnits(const RowsCase& shape, size_t element_bytes) {
  const size_t row = static_cast<size_t>(shape.cols) * element_bytes;
  return {row, 1, 0, static_cast<size_t>(shape.rows) * row, 1, 0, parameters, row, element_bytes};
}

constexpr Traffic kPlain = {1, 1}, kTwoRead = {2, 1}, kAdded = {2, 2}, kSummed = {1, 1, true};

}  // namespace

void RegisterLayerNorm(const Config& config) {
  constexpr Dtypes kF32ToI8 = {SIMDNORM_F32, SIMDNORM_I8}, kBf16ToI8 = {SIMDNORM_BF16, SIMDNORM_I8};
  constexpr Dtypes kF32ToQ8 = {SIMDNORM_F32, SIMDNORM_Q8_0}, kBf16ToQ8 = {SIMDNORM_BF16, SIMDNORM_Q8_0};
  const Operation<RowsCase> table[] = {
      {"LayerNorm", {kF32}, cases::kRowsCases, CallLayerNorm, kPlain, &Peer::layer_norm, RowUnits<2>},
      {"LayerNorm", {kBf16, kF16}, cases::kCacheCases, CallLayerNorm, kPlain, &Peer::layer_norm, RowUnits<2>},
      {"LayerNorm>Sum", {kF32}, cases::kSummedCases, CallLayerNorm, kSummed, &Peer::layer_norm},
      {"LayerNorm", {kF32ToI8, kBf16ToI8}, cases::kFusionCases, CallLayerNormToI8, kPlain},
      {"LayerNorm+SiLU", {kF32, kBf16}, cases::kFusionCases, CallLayerNormAndActivation<SIMDNORM_SILU>, kPlain},
      {"LayerNorm+GELU", {kF32, kBf16}, cases::kFusionCases, CallLayerNormAndActivation<SIMDNORM_GELU>, kPlain},
      {"AddLayerNorm", {kF32, kBf16}, cases::kResidualCases, CallAddLayerNorm, kAdded, &Peer::add_layer_norm, RowUnits<2>},
      {"PostAddLayerNorm", {kF32, kBf16}, cases::kResidualCases, CallPostAddLayerNorm, kTwoRead},
      {"PaddedLayerNorm", {kF32, kBf16}, cases::kPaddedCases, CallPaddedLayerNorm, kPlain},
      {"AdaLN", {kF32, kBf16}, cases::kAdaptiveCases, CallAdaptiveLayerNorm, kPlain},
      {"LayerNormChannelsFirst", {kF32, kBf16}, cases::kChannelsFirstCases, CallLayerNormChannelsFirst, kPlain},
      {"RMSNorm", {kF32}, cases::kRowsCases, CallRMSNorm, kPlain, &Peer::rms_norm, RowUnits<1>},
      {"RMSNorm", {kBf16, kF16}, cases::kCacheCases, CallRMSNorm, kPlain, &Peer::rms_norm, RowUnits<1>},
      {"RMSNorm", {kF32ToI8, kBf16ToI8}, cases::kFusionCases, CallRMSNormToI8, kPlain},
      {"RMSNorm", {kF32ToQ8, kBf16ToQ8}, cases::kFusionCases, CallRMSNorm, kPlain},
      {"AddRMSNorm", {kF32, kBf16}, cases::kResidualCases, CallAddRMSNorm, kAdded, nullptr, RowUnits<1>},
      {"GatedRMSNorm", {kF32, kBf16}, cases::kFusionCases, CallGatedRMSNorm, kTwoRead},
      {"RMSNormOfHeads", {kF32, kBf16}, cases::kHeadsCases, CallRMSNormOfHeads, kPlain},
  };
  Register(table, config);
}

void RegisterLayerNormScaling(const Config& config) {
  const Operation<RowsCase> table[] = {
      {"LayerNorm", {kF32}, cases::kGrowingRowsCases, CallLayerNorm, kPlain, &Peer::layer_norm, RowUnits<2>},
  };
  Register(table, config);
}

}  // namespace simdnorm::bench
