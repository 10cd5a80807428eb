// Layer norm and RMS norm: entry points. The mathematics is in simdnorm.h, the kernels are in simd/rows-inl.h; where the
// normalized axis is not the last, in simd/channels-inl.h.
#include "cache.h"
#include "channels.h"
#include "sequences.h"
#include "validate.h"

namespace simdnorm {
namespace {

// What is the same for both kinds of kernels.
template <class Norm, class Args>
Norm FromRowArgs(const Args& args) {
  Norm norm = {};
  if constexpr (kIsLayerNorm<Args>) norm.shift = args.shift, norm.outputs.mean = args.mean;
  norm.scale = args.scale;
  norm.scale_dtype = args.scale_dtype;
  norm.scale_offset = args.scale_offset;
  norm.scale_stride = args.scale_row_stride;
  norm.epsilon = args.epsilon;
  norm.epilogue = {args.activation, args.activation_slope, args.quant_scale, args.zero_point, args.quant_scales};
  norm.outputs.rstd = args.rstd;
  return norm;
}

// Rows of adjacent elements.
template <class Args>
SequenceNorm RowNorm(const Executor& executor, const Args& args) {
  SequenceNorm norm = FromRowArgs<SequenceNorm>(args);
  norm.x = {args.x, args.x_dtype, args.x_row_stride, 0, 0};
  norm.y = {args.y, args.y_dtype, args.y_row_stride, 0, 0};
  norm.inner = args.inner;
  if (args.inner != 1) {
    norm.x = {args.x, args.x_dtype, args.x_inner_stride, args.x_row_stride, 0};
    norm.y = {args.y, args.y_dtype, args.y_inner_stride, args.y_row_stride, 0};
  }
  norm.residual = {args.residual, args.residual_dtype, args.residual_row_stride, 0, 0};
  norm.gate = {args.gate, args.gate_dtype, args.gate_row_stride, 0, 0};
  norm.h = {args.h, args.h_dtype, args.h_row_stride, 0, 0};
  norm.planes = 1;
  norm.length = args.cols;
  norm.residual_before = args.residual && args.residual_order == SIMDNORM_RESIDUAL_BEFORE;
  norm.round_h = args.h_rounding == SIMDNORM_H_ROUNDED;
  norm.bias = args.bias;
  norm.bias_dtype = args.bias_dtype;
  norm.sequences_per_scale = args.rows_per_scale == args.rows ? 0 : args.rows_per_scale * args.inner;
  norm.row_lengths = args.lengths;
  norm.rows_per_sequence = args.rows_per_sequence;
  norm.row_padding = args.padding;
  norm.Classify();
  norm.ChooseByCache(args.rows * args.inner, executor);
  return norm;
}

// Rows whose elements lie apart, with those of other rows beside them: these are the channels.
template <class Args>
ChannelNorm InnerNorm(const Args& args) {
  ChannelNorm norm = FromRowArgs<ChannelNorm>(args);
  norm.x = {args.x, args.x_dtype, args.x_col_stride, args.x_row_stride, 0};
  norm.y = {args.y, args.y_dtype, args.y_col_stride, args.y_row_stride, 0};
  norm.outer = args.rows;
  norm.samples = 1;
  norm.rows = args.cols;
  norm.channels = norm.total_channels = args.inner;
  norm.channels_per_group = 1;
  norm.parameters_by_row = true;
  norm.rows_per_scale = args.rows_per_scale == args.rows ? 0 : args.rows_per_scale;
  norm.first_statistic_stride = args.inner;
  const int64_t elements = args.rows * args.cols * args.inner;
  norm.overflows = OverflowsCaches(Bytes(args.x_dtype, elements) + Bytes(args.y_dtype, elements));
  return norm;
}

template <class Args>
constexpr Statistics kStatistics = kIsLayerNorm<Args> ? Statistics::kMeanAndVariance : Statistics::kMeanSquare;

template <class Args>
void Run(const Args& args, const CallOptions& options) {
  if (args.x_col_stride == 1 && args.y_col_stride == 1) {
    RunSequences(options, kStatistics<Args>, RowNorm(options.executor, args), args.rows * args.inner);
  } else {
    RunChannels(options, kStatistics<Args>, InnerNorm(args));
  }
}

template <class Args>
simdnorm_status RunRows(const Args* given, const simdnorm_options* given_options) {
  PlainRows rows;
  CallOptions options;
  if (!TakePlainRows(given, given_options, &rows, &options)) return RunIfValid(given, given_options, Run<Args>);
  RunPlainRows(options, kStatistics<Args>, rows);
  return SIMDNORM_OK;
}

}  // namespace
}  // namespace simdnorm

simdnorm_status simdnorm_layer_norm(const simdnorm_layer_norm_args* given, const simdnorm_options* given_options) {
  return simdnorm::RunRows(given, given_options);
}

simdnorm_status simdnorm_rms_norm(const simdnorm_rms_norm_args* given, const simdnorm_options* given_options) {
  return simdnorm::RunRows(given, given_options);
}
