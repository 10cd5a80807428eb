// Group norm and instance norm: entry points. The mathematics is in simdnorm.h. In NCHW a group is one run of adjacent elements
// (simd/rows-inl.h); in NHWC its channels lie side by side (simd/channels-inl.h).
#include "channel_tensor.h"
#include "channels.h"
#include "sequences.h"
#include "validate.h"

namespace simdnorm {
namespace {

void Run(const simdnorm_group_norm_args& args, const CallOptions& options) {
  const int64_t channels_per_group = args.channels / args.groups;
  StatisticsOutputs outputs = {};
  outputs.mean = args.mean;
  outputs.rstd = args.rstd;
  if (args.layout == SIMDNORM_NCHW) {
    SequenceNorm norm = PlanesOf(options.executor, args, channels_per_group, true);
    norm.outputs = outputs;
    RunSequences(options, Statistics::kMeanAndVariance, norm, args.batch * args.groups);
  } else {
    ChannelNorm norm = RowsOf(options.executor, args, true);
    norm.channels_per_group = channels_per_group;
    norm.first_statistic_stride = args.groups;
    norm.outputs = outputs;
    RunChannels(options, Statistics::kMeanAndVariance, norm);
  }
}

}  // namespace
}  // namespace simdnorm

simdnorm_status simdnorm_group_norm(const simdnorm_group_norm_args* given, const simdnorm_options* given_options) {
  return simdnorm::RunIfValid(given, given_options, simdnorm::Run, false);
}

simdnorm_status simdnorm_instance_norm(const simdnorm_group_norm_args* given, const simdnorm_options* given_options) {
  return simdnorm::RunIfValid(given, given_options, simdnorm::Run, true);
}
