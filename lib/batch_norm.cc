// Batch norm, inference and training: entry points. The mathematics is in simdnorm.h. In NCHW the values of a channel are
// runs of adjacent elements (simd/rows-inl.h); in NHWC, in blocked layouts and in [batch, features], channels lie side by side
// (simd/channels-inl.h).
#include "channel_tensor.h"
#include "channels.h"
#include "sequences.h"
#include "validate.h"

namespace simdnorm {
namespace {

// With one value for each channel and sample NCHW and NHWC are the same, and lanes of channels are the better use of vectors.
template <class Args>
bool ChannelsAreSideBySide(const Args& args) {
  return args.layout != SIMDNORM_NCHW || args.spatial == 1;
}

}  // namespace
}  // namespace simdnorm

simdnorm_status simdnorm_batch_norm_inference(const simdnorm_batch_norm_inference_args* given,
                                              const simdnorm_options* given_options) {
  using namespace simdnorm;
  return RunIfValid(given, given_options, [](const simdnorm_batch_norm_inference_args& args, const CallOptions& options) {
    if (ChannelsAreSideBySide(args)) {
      ChannelNorm norm = RowsOf(options.executor, args, false);
      norm.mean = args.mean;
      norm.variance = args.variance;
      RunGivenChannels(options, norm);
    } else {
      SequenceNorm norm = PlanesOf(options.executor, args, 1, false);
      norm.mean = args.mean;
      norm.variance = args.variance;
      RunGivenSequences(options, norm);
    }
  });
}

simdnorm_status simdnorm_batch_norm_training(const simdnorm_batch_norm_training_args* given,
                                             const simdnorm_options* given_options) {
  using namespace simdnorm;
  return RunIfValid(given, given_options, [](const simdnorm_batch_norm_training_args& args, const CallOptions& options) {
    const StatisticsOutputs outputs = {args.mean,         args.rstd,
                                       args.running_mean, args.running_variance,
                                       args.momentum,     args.running_variance_kind == SIMDNORM_UNBIASED};
    if (ChannelsAreSideBySide(args)) {
      ChannelNorm norm = RowsOf(options.executor, args, false);
      norm.outputs = outputs;
      RunChannels(options, Statistics::kMeanAndVariance, norm);
    } else {
      SequenceNorm norm = PlanesOf(options.executor, args, 1, false);
      norm.outputs = outputs;
      RunSequences(options, Statistics::kMeanAndVariance, norm, args.channels);
    }
  });
}
