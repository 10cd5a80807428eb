// Batch norm with scale and shift: training as a training loop calls it, with running statistics and the outputs that the
// backward pass needs, and inference.
#include "cases.h"
#include "harness.h"

namespace simdnorm::bench {
namespace {

Result CallTraining(const cases::ChannelsCase& shape, const Buffers& b, const Options& options) {
  BatchNormTrainingParams params;
  params.scale = b.scale;
  params.shift = b.shift;
  params.mean = b.saved_mean;
  params.rstd = b.saved_rstd;
  params.running_mean = b.running_mean;
  params.running_variance = b.running_variance;
  return BatchNormTraining(b.x, b.y, shape.AsShape(), params, options);
}

Result CallInference(const cases::ChannelsCase& shape, const Buffers& b, const Options& options) {
  return BatchNormInference(b.x, b.y, shape.AsShape(), {b.mean, b.variance, b.scale, b.shift}, options);
}

}  // namespace

void RegisterBatchNorm(const Config& config) {
  for (const cases::ChannelsCase& shape : cases::kChannelsCases) {
    RegisterCase("BatchNormTraining", shape, config, CallTraining, &Peer::batch_norm_training);
  }
  for (const cases::ChannelsCase& shape : cases::kChannelsCases) {
    RegisterCase("BatchNormInference", shape, config, CallInference, &Peer::batch_norm_inference);
  }
}

}  // namespace simdnorm::bench
