// simdnorm.hpp alone is valid C++17 without exceptions and RTTI; the result of a good and of a bad call reach the caller.
#include <simdnorm/simdnorm.hpp>

int main() {
  const float x[3] = {4, 6, 8};
  const float mean = 6;
  const float variance = 4;
  float y[3];
  const simdnorm::BatchNormInferenceParams params = {&mean, &variance, nullptr, nullptr, 0.0f};
  if (!simdnorm::BatchNormInference(x, y, {1, 1, 3}, params)) return 1;
  if (y[0] != -1 || y[1] != 0 || y[2] != 1) return 2;

  simdnorm::RMSNormParams gemma{&variance, 0.0f};
  gemma.fusions.scale_offset = 1;
  gemma.fusions.activation = SIMDNORM_RELU;
  if (!simdnorm::RMSNorm({x, 3, 1}, {y, 3, 1}, gemma)) return 3;
  if (y[0] != 5 || y[1] != 5 || y[2] != 5) return 4;

  const simdnorm::Result result = simdnorm::BatchNormInference(x, y, {-1, 1, 3}, params);
  return result.status() == SIMDNORM_INVALID_ARGUMENT && result.message()[0] != '\0' ? 0 : 5;
}
