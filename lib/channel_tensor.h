// What batch, group and instance norm have in common: from their arguments to what kernels take.
#ifndef SIMDNORM_LIB_CHANNEL_TENSOR_H_
#define SIMDNORM_LIB_CHANNEL_TENSOR_H_

#include "kernels.h"

namespace simdnorm {

// What is the same for both kinds of kernels; x, y and residual all have these strides.
template <class Norm, class Args>
Norm FromChannelArgs(const Args& args, int64_t stride, int64_t outer_stride, int64_t plane_stride) {
  Norm norm = {};
  norm.x = {args.x, args.x_dtype, stride, outer_stride, plane_stride};
  norm.y = {args.y, args.y_dtype, stride, outer_stride, plane_stride};
  norm.residual = {args.residual, args.residual_dtype, stride, outer_stride, plane_stride};
  norm.scale = args.scale;
  norm.shift = args.shift;
  norm.scale_dtype = args.scale_dtype;
  norm.epsilon = args.epsilon;
  norm.epilogue.activation = args.activation;
  norm.epilogue.activation_slope = args.activation_slope;
  norm.validity = {args.lengths, args.mask, args.spatial, args.padding};
  return norm;
}

// NCHW. A sequence is `channels_per_group` channels of a sample if statistics are each sample's own, else a channel of all
// samples.
template <class Args>
SequenceNorm PlanesOf(const Executor& executor, const Args& args, int64_t channels_per_group, bool of_each_sample) {
  const int64_t group = channels_per_group * args.spatial;
  const int64_t plane_stride = of_each_sample ? args.spatial : args.channels * args.spatial;
  SequenceNorm norm = FromChannelArgs<SequenceNorm>(args, group, 0, plane_stride);
  norm.inner = 1;
  norm.planes = args.batch;
  norm.length = args.spatial;
  if (of_each_sample) {
    // One run; but where positions are left out, each channel has its own part of it.
    norm.planes = norm.validity.All() ? 1 : channels_per_group;
    norm.length = norm.validity.All() ? group : args.spatial;
  }
  norm.by_channel = true;
  norm.planes_are_samples = !of_each_sample;
  norm.sequences_per_sample = args.channels / channels_per_group;
  norm.channels_per_group = channels_per_group;
  norm.spatial = args.spatial;
  norm.Classify();
  norm.ChooseByCache(of_each_sample ? args.batch * norm.sequences_per_sample : args.channels, executor);
  return norm;
}

// NHWC, or blocks of channels. Statistics are each sample's own, or of all samples.
template <class Args>
ChannelNorm RowsOf(const Executor& executor, const Args& args, bool of_each_sample) {
  const int64_t block = BlockOf(args.layout), width = block == 0 ? args.channels : block,
                blocks = CeilDiv(args.channels, width);
  const int64_t rows = width * args.spatial, sample = blocks * rows;
  ChannelNorm norm = FromChannelArgs<ChannelNorm>(args, width, of_each_sample ? sample : rows, sample);
  norm.outer = of_each_sample ? args.batch : blocks;
  norm.outer_is_sample = of_each_sample;
  norm.samples = of_each_sample ? 1 : args.batch;
  norm.rows = args.spatial;
  if (!of_each_sample && blocks == 1 && norm.validity.All()) {
    // Rows go on from one sample to the next.
    norm.samples = 1;
    norm.rows = args.batch * args.spatial;
  }
  norm.channels = width;
  norm.total_channels = args.channels;
  norm.channels_per_group = 1;
  norm.first_channel_stride = norm.first_statistic_stride = of_each_sample ? 0 : width;
  const auto bytes = [&](const auto& tensor) { return tensor ? Bytes(tensor.dtype, args.batch * sample) : 0; };
  norm.streams = args.y != args.x && WritesPastCaches(bytes(norm.y), executor);
  norm.overflows = OverflowsCaches(bytes(norm.x) + bytes(norm.residual) + bytes(norm.y));
  return norm;
}

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_CHANNEL_TENSOR_H_
