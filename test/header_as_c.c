/* simdnorm.h alone is valid C99, a C program links, and calls that start from each of the _DEFAULTS give right answers. */
#include <simdnorm/simdnorm.h>

static const float x[4] = {1, 3, 5, 3};
static const float one = 1, two = 2, four = 4;
static float y[4];

static int Rows(void) {
  const float shift[2] = {10, 20};
  float mean[2];
  simdnorm_layer_norm_args layer_norm = {SIMDNORM_LAYER_NORM_DEFAULTS};
  simdnorm_rms_norm_args rms_norm = {SIMDNORM_RMS_NORM_DEFAULTS, .x = &two, .y = y, .rows = 1, .cols = 1, .inner = 1};
  layer_norm.x = x, layer_norm.y = y, layer_norm.rows = 2, layer_norm.cols = 2;
  layer_norm.shift = shift, layer_norm.mean = mean, layer_norm.epsilon = 0;
  if (simdnorm_layer_norm(&layer_norm, NULL) != SIMDNORM_OK) return 0;
  if (mean[0] != 2 || mean[1] != 4 || y[0] != 9 || y[1] != 21 || y[2] != 11 || y[3] != 19) return 0;
  rms_norm.epsilon = 0, rms_norm.residual = &four;
  return simdnorm_rms_norm(&rms_norm, NULL) == SIMDNORM_OK && y[0] == 1;
}

static int Channels(void) {
  simdnorm_batch_norm_inference_args inference = {SIMDNORM_BATCH_NORM_INFERENCE_DEFAULTS, .mean = &one, .variance = &four};
  simdnorm_batch_norm_training_args training = {SIMDNORM_BATCH_NORM_TRAINING_DEFAULTS};
  simdnorm_group_norm_args groups = {SIMDNORM_GROUP_NORM_DEFAULTS, .groups = 1, .activation = SIMDNORM_RELU};
  inference.epsilon = 0, inference.x = x, inference.y = y;
  inference.batch = 2, inference.channels = 1, inference.spatial = 2;
  if (simdnorm_batch_norm_inference(&inference, NULL) != SIMDNORM_OK) return 0;
  if (y[0] != 0 || y[1] != 1 || y[2] != 2 || y[3] != 1) return 0;
  training.epsilon = 0, training.x = x, training.y = y, training.batch = 2, training.channels = 1, training.spatial = 1;
  if (training.momentum != 0.1f || simdnorm_batch_norm_training(&training, NULL) != SIMDNORM_OK) return 0;
  if (y[0] != -1 || y[1] != 1) return 0;
  groups.epsilon = 0, groups.x = x, groups.y = y, groups.batch = 1, groups.channels = 2, groups.spatial = 1;
  if (simdnorm_group_norm(&groups, NULL) != SIMDNORM_OK || y[0] != 0 || y[1] != 1) return 0;
  groups.epsilon = 1, groups.groups = 0, groups.shift = x; /* one value for each */
  return simdnorm_instance_norm(&groups, NULL) == SIMDNORM_OK && y[0] == 1 && y[1] == 3;
}

static int Fold(void) {
  float weight, bias;
  simdnorm_fold_batch_norm_args fold = {SIMDNORM_FOLD_BATCH_NORM_DEFAULTS, .mean = &one, .variance = &four, .weight = &four};
  simdnorm_options options = {SIMDNORM_OPTIONS_DEFAULTS};
  fold.epsilon = 0, fold.folded_weight = &weight, fold.folded_bias = &bias;
  fold.out_channels = fold.in_channels = fold.kernel = 1;
  return simdnorm_fold_batch_norm(&fold, &options) == SIMDNORM_OK && weight == 2 && bias == -0.5f;
}

int main(void) { return Rows() && Channels() && Fold() && sizeof(simdnorm_q8_0) == 34 ? 0 : 1; }
