// Batch norm, inference and training: entry points. The mathematics is in simdnorm.h. In NCHW the values of a channel are
// runs of adjacent elements (simd/rows-inl.h); in NHWC, and in [batch, features], channels lie side by side
// (simd/channels-inl.h).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "batch_norm.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// The above compiles this file once for every target.
#include "hwy/highway.h"
#include "simd/channels-inl.h"
#include "simd/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

Kernel PlaneInferenceKernel() { return NormalizePlanes<float, float, float>; }
Kernel ChannelInferenceKernel() { return NormalizeRowsOfChannels<float, float, float>; }
SequenceKernels PlaneTrainingKernels() { return MakeSequenceKernels<SequenceTraits<true, false, float, float, float>>(); }
ChannelKernels ChannelTrainingKernels() {
  return {NormalizeChannels<float, float, float>, SharedChannelMoments<float>, SharedChannelFinish<float>,
          SharedChannelSave<float>, SharedChannelWrite<float, float, float>};
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "validate.h"

namespace simdnorm {
namespace {

HWY_EXPORT(PlaneInferenceKernel);
HWY_EXPORT(ChannelInferenceKernel);
HWY_EXPORT(PlaneTrainingKernels);
HWY_EXPORT(ChannelTrainingKernels);

// With one value for each channel and sample the layouts are the same, and lanes of channels are the better use of vectors.
template <class Args>
bool ChannelsAreSideBySide(const Args& args) {
  return args.layout == SIMDNORM_NHWC || args.spatial == 1;
}

template <class Args>
ChannelNorm SideBySide(const Args& args) {
  ChannelNorm norm = {};
  norm.x = args.x;
  norm.y = args.y;
  norm.rows = args.batch * args.spatial;
  norm.channels = args.channels;
  norm.scale = args.scale;
  norm.shift = args.shift;
  norm.epsilon = args.epsilon;
  return norm;
}

StatisticsOutputs Outputs(const simdnorm_batch_norm_training_args& args) {
  return {args.mean,         args.rstd,
          args.running_mean, args.running_variance,
          args.momentum,     args.running_variance_kind == SIMDNORM_UNBIASED};
}

}  // namespace
}  // namespace simdnorm

simdnorm_status simdnorm_batch_norm_inference(const simdnorm_batch_norm_inference_args* given,
                                              const simdnorm_options* given_options) {
  using namespace simdnorm;
  return RunIfValid(given, given_options, [](const simdnorm_batch_norm_inference_args& args, const CallOptions& options) {
    if (ChannelsAreSideBySide(args)) {
      ChannelNorm norm = SideBySide(args);
      norm.mean = args.mean;
      norm.variance = args.variance;
      ParallelFor(options.executor, norm.Tiles() * norm.rows, norm.channels / norm.Tiles(),
                  HWY_DISPATCH_TABLE(ChannelInferenceKernel)[options.target_index](), &norm);
    } else {
      const PlaneNorm norm = {args.x,     args.y,    args.channels, args.spatial, args.scale,
                              args.shift, args.mean, args.variance, args.epsilon};
      ParallelFor(options.executor, args.batch * args.channels * norm.ChunksPerPlane(), args.spatial / norm.ChunksPerPlane(),
                  HWY_DISPATCH_TABLE(PlaneInferenceKernel)[options.target_index](), &norm);
    }
  });
}

simdnorm_status simdnorm_batch_norm_training(const simdnorm_batch_norm_training_args* given,
                                             const simdnorm_options* given_options) {
  using namespace simdnorm;
  return RunIfValid(given, given_options, [](const simdnorm_batch_norm_training_args& args, const CallOptions& options) {
    if (ChannelsAreSideBySide(args)) {
      ChannelNorm norm = SideBySide(args);
      norm.outputs = Outputs(args);
      RunChannels(options.executor, HWY_DISPATCH_TABLE(ChannelTrainingKernels)[options.target_index](), norm);
    } else {
      SequenceNorm norm = {};
      norm.x = args.x;
      norm.y = args.y;
      norm.x_stride = norm.y_stride = args.spatial;
      norm.planes = args.batch;
      norm.plane_stride = args.channels * args.spatial;
      norm.length = args.spatial;
      norm.scale = args.scale;
      norm.shift = args.shift;
      norm.epsilon = args.epsilon;
      norm.outputs = Outputs(args);
      RunSequences(options.executor, HWY_DISPATCH_TABLE(PlaneTrainingKernels)[options.target_index](), norm, args.channels);
    }
  });
}
#endif  // HWY_ONCE
