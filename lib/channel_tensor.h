// What batch, group and instance norm have in common: from their arguments to what kernels take.
#ifndef SIMDNORM_LIB_CHANNEL_TENSOR_H_
#define SIMDNORM_LIB_CHANNEL_TENSOR_H_

#include "kernels.h"

namespace simdnorm {

// x, y and residual in NCHW. A sequence is `channels_per_group` channels of a sample if statistics are each sample's own, else
// a channel of all samples.
template <class Args>
SequenceNorm PlanesOf(const Args& args, int64_t channels_per_group, bool of_each_sample) {
  const int64_t sample = args.channels * args.spatial, group = channels_per_group * args.spatial;
  const auto tensor = [&](auto* data, simdnorm_dtype dtype) {
    using Tensor = TensorOf<std::remove_pointer_t<decltype(data)>>;
    return Tensor{data, dtype, group, 0, of_each_sample ? args.spatial : sample};
  };
  SequenceNorm norm = {};
  norm.x = tensor(args.x, args.x_dtype);
  norm.y = tensor(args.y, args.y_dtype);
  norm.residual = tensor(args.residual, args.residual_dtype);
  norm.inner = 1;
  norm.validity = {args.lengths, args.mask, args.spatial, args.padding};
  norm.planes = args.batch;
  norm.length = args.spatial;
  if (of_each_sample) {
    // One run; but where positions are left out, each channel has its own part of it.
    norm.planes = norm.validity.All() ? 1 : channels_per_group;
    norm.length = norm.validity.All() ? group : args.spatial;
  }
  norm.by_channel = true;
  norm.planes_are_samples = !of_each_sample;
  norm.groups = args.channels / channels_per_group;
  norm.channels_per_group = channels_per_group;
  norm.spatial = args.spatial;
  norm.scale = args.scale;
  norm.shift = args.shift;
  norm.scale_dtype = args.scale_dtype;
  norm.epsilon = args.epsilon;
  norm.epilogue.activation = args.activation;
  norm.epilogue.activation_slope = args.activation_slope;
  norm.Classify();
  return norm;
}

// x, y and residual in NHWC, or in blocks of `block` channels (0: none). Statistics are each sample's own, or of all samples.
template <class Args>
ChannelNorm RowsOf(const Args& args, int64_t block, bool of_each_sample) {
  const int64_t width = block == 0 ? args.channels : block, blocks = (args.channels + width - 1) / width;
  const int64_t rows = width * args.spatial, sample = blocks * rows;
  const auto tensor = [&](auto* data, simdnorm_dtype dtype) {
    using Tensor = TensorOf<std::remove_pointer_t<decltype(data)>>;
    return Tensor{data, dtype, width, of_each_sample ? sample : rows, sample};
  };
  ChannelNorm norm = {};
  norm.x = tensor(args.x, args.x_dtype);
  norm.y = tensor(args.y, args.y_dtype);
  norm.residual = tensor(args.residual, args.residual_dtype);
  norm.outer = of_each_sample ? args.batch : blocks;
  norm.outer_is_sample = of_each_sample;
  norm.samples = of_each_sample ? 1 : args.batch;
  norm.rows = args.spatial;
  norm.validity = {args.lengths, args.mask, args.spatial, args.padding};
  if (!of_each_sample && blocks == 1 && norm.validity.All()) {
    // Rows go on from one sample to the next.
    norm.samples = 1;
    norm.rows = args.batch * args.spatial;
  }
  norm.channels = norm.width = width;
  norm.total_channels = args.channels;
  norm.channels_per_group = 1;
  norm.first_channel_stride = norm.first_statistic_stride = of_each_sample ? 0 : width;
  norm.scale = args.scale;
  norm.shift = args.shift;
  norm.scale_dtype = args.scale_dtype;
  norm.epsilon = args.epsilon;
  norm.epilogue.activation = args.activation;
  norm.epilogue.activation_slope = args.activation_slope;
  return norm;
}

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_CHANNEL_TENSOR_H_
