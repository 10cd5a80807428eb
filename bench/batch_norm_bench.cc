// Batch norm with scale and shift: training as a training loop calls it, with running statistics and the outputs that the
// backward pass needs, and inference, alone and at the end of a residual block; and folded into a convolution.
#include "cases.h"
#include "harness.h"

namespace simdnorm::bench {
namespace {

using cases::ChannelsCase;
using cases::FoldCase;
using cases::kBf16;
using cases::kF16;
using cases::kF32;

BatchNormTrainingParams TrainingParams(const Tensors& t) {
  BatchNormTrainingParams params;
  params.scale = t.scale;
  params.shift = t.shift;
  params.mean = t.saved_mean;
  params.rstd = t.saved_rstd;
  params.running_mean = t.running_mean;
  params.running_variance = t.running_variance;
  return params;
}

Result CallTraining(const ChannelsCase& shape, const Tensors& t, const Options& options) {
  return BatchNormTraining(t.x, t.y, shape.AsShape(), TrainingParams(t), options);
}

// y has zeros for what does not count, here and below. The copy beside it moves all of x and y.
Result CallPaddedTraining(const ChannelsCase& shape, const Tensors& t, const Options& options) {
  const std::vector<int64_t> lengths = cases::HalfLengths(shape.batch, shape.height * shape.width);
  BatchNormTrainingParams params = TrainingParams(t);
  params.fusions.lengths = lengths.data();
  return BatchNormTraining(t.x, t.y, shape.AsShape(), params, options);
}

Result CallMaskedTraining(const ChannelsCase& shape, const Tensors& t, const Options& options) {
  BatchNormTrainingParams params = TrainingParams(t);
  params.fusions.mask = t.mask;
  return BatchNormTraining(t.x, t.y, shape.AsShape(), params, options);
}

Result CallInference(const ChannelsCase& shape, const Tensors& t, const Options& options) {
  return BatchNormInference(t.x, t.y, shape.AsShape(), {t.mean, t.variance, t.scale, t.shift}, options);
}

Result CallInferenceAddReLU(const ChannelsCase& shape, const Tensors& t, const Options& options) {
  BatchNormInferenceParams params{t.mean, t.variance, t.scale, t.shift};
  params.fusions.residual = t.other;
  params.fusions.activation = SIMDNORM_RELU;
  return BatchNormInference(t.x, t.y, shape.AsShape(), params, options);
}

// x is the weight and y the folded one; the folded bias goes to h.
Result CallFold(const FoldCase& shape, const Tensors& t, const Options& options) {
  const float* shift = static_cast<const float*>(t.shift.data);
  return FoldBatchNorm(static_cast<const float*>(t.x.data), shift, static_cast<float*>(t.y.data), static_cast<float*>(t.h.data),
                       {shape.out_channels, shape.in_channels, shape.height * shape.width},
                       {t.mean, t.variance, static_cast<const float*>(t.scale.data), shift, 1e-5f, shape.position}, options);
}

// A channel's planes, or a line of channels side by side.
Units ChannelUnits(const ChannelsCase& shape, size_t element_bytes) {
  constexpr size_t kLine = 64;
  const auto batch = static_cast<size_t>(shape.batch), plane = static_cast<size_t>(shape.height * shape.width);
  const size_t image = static_cast<size_t>(shape.Elements()) / batch * element_bytes;
  if (shape.layout == SIMDNORM_NHWC || !shape.HasSpatial()) return {kLine, batch * plane, image / plane, image / plane, 1, 0};
  return {static_cast<size_t>(shape.Block()) * plane * element_bytes, batch, image, image, 1, 0};
}

// With given statistics nothing belongs together; pages are easily shared.
Units PageUnits(const ChannelsCase& shape, size_t element_bytes) {
  Units units = {4096, 1, 0, static_cast<size_t>(shape.Elements()) * element_bytes, 1, 0};
  units.read_once = true;
  return units;
}

constexpr Traffic kPlain = {1, 1}, kAdded = {2, 1}, kSummed = {1, 1, true};

}  // namespace

void RegisterBatchNorm(const Config& config) {
  const Operation<ChannelsCase> table[] = {
      {"BatchNormTraining", {kF32}, cases::kChannelsCases, CallTraining, kPlain, &Peer::batch_norm_training, ChannelUnits},
      {"BatchNormTraining", {kBf16, kF16}, cases::kStageCases, CallTraining, kPlain, &Peer::batch_norm_training, ChannelUnits},
      {"BatchNormTraining",
       {kF32, kBf16},
       cases::kBlockedCases,
       CallTraining,
       kPlain,
       &Peer::batch_norm_training,
       ChannelUnits},
      {"PaddedBatchNormTraining", {kF32, kBf16}, cases::kRecordingStageCases, CallPaddedTraining, kPlain},
      {"MaskedBatchNormTraining", {kF32, kBf16}, cases::kStageCases, CallMaskedTraining, kPlain},
      {"BatchNormInference", {kF32}, cases::kChannelsCases, CallInference, kPlain, &Peer::batch_norm_inference, PageUnits},
      {"BatchNormInference", {kBf16, kF16}, cases::kStageCases, CallInference, kPlain, &Peer::batch_norm_inference, PageUnits},
      {"BatchNormInference>Sum", {kF32}, cases::kSummedStageCases, CallInference, kSummed, &Peer::batch_norm_inference},
      {"BatchNormInference",
       {kF32, kBf16},
       cases::kBlockedCases,
       CallInference,
       kPlain,
       &Peer::batch_norm_inference,
       PageUnits},
      {"BatchNormInference+Add+ReLU", {kF32, kBf16}, cases::kStageCases, CallInferenceAddReLU, kAdded},
      {"BatchNormInference+Add+ReLU", {kF32, kBf16}, cases::kBlockedCases, CallInferenceAddReLU, kAdded},
  };
  Register(table, config);

  // It runs on the calling thread, and the same code on every target.
  const Operation<FoldCase> fold_table[] = {{"FoldBatchNorm", {kF32}, cases::kFoldCases, CallFold, kPlain}};
  Register(fold_table, {{config.targets.front()}, {1}, {}});
}

void RegisterBatchNormScaling(const Config& config) {
  const Operation<ChannelsCase> table[] = {
      {"BatchNormTraining", {kF32}, cases::kGrowingBatchCases, CallTraining, kPlain, &Peer::batch_norm_training, ChannelUnits},
  };
  Register(table, config);
}

}  // namespace simdnorm::bench
