// A C++ program that uses the installed library: two batches through batch norm in training, the running statistics that they
// leave through inference; and the message of a bad call.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <simdnorm/simdnorm.hpp>
#include <vector>

int main() {
  constexpr int64_t kBatch = 8, kChannels = 5, kSpatial = 49;
  const simdnorm::Shape shape{kBatch, kChannels, kSpatial, SIMDNORM_NHWC};
  std::vector<float> x(kBatch * kChannels * kSpatial), y(x.size());
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = 100.0f + static_cast<float>(i % kChannels) + ((i / kChannels) % 2 == 0 ? 2.0f : -2.0f);

  // Each channel holds 100 + c + 2 and 100 + c - 2 equally often: mean 100 + c, standard deviation 2.
  std::vector<float> running_mean(kChannels, 0.0f), running_variance(kChannels, 0.0f);
  simdnorm::BatchNormTrainingParams training;
  training.epsilon = 0.0f;
  training.running_mean = running_mean.data();
  training.running_variance = running_variance.data();
  training.momentum = 0.5f;
  training.running_variance_kind = SIMDNORM_BIASED;
  for (int step = 0; step < 2; ++step) {
    if (auto result = simdnorm::BatchNormTraining(x.data(), y.data(), shape, training); !result) {
      std::puts(result.message());
      return 1;
    }
  }
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::fabs(y[i] - ((i / kChannels) % 2 == 0 ? 1.0f : -1.0f)) > 1e-6f) return 2;
  }
  for (int64_t c = 0; c < kChannels; ++c) {
    if (std::fabs(running_mean[c] - 0.75f * static_cast<float>(100 + c)) > 1e-4f) return 3;
    if (std::fabs(running_variance[c] - 0.75f * 4.0f) > 1e-5f) return 4;
  }

  simdnorm::BatchNormInferenceParams inference{running_mean.data(), running_variance.data()};
  inference.epsilon = 1.0f;  // rstd = 1 / sqrt(3 + 1)
  if (!simdnorm::BatchNormInference(x.data(), x.data(), shape, inference)) return 5;
  if (std::fabs(x[0] - (102.0f - 75.0f) / 2.0f) > 1e-4f) return 6;

  const auto bad = simdnorm::LayerNorm({x.data(), 2, 10, 7}, {y.data(), 2, 10});
  if (bad || std::strstr(bad.message(), "7") == nullptr || std::strstr(bad.message(), "10") == nullptr) return 7;
  return 0;
}
