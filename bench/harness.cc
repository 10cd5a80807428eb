// The benches' buffers, threads and errors; see harness.h.
#include "harness.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#include <hwy/aligned_allocator.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace simdnorm::bench {
namespace {

bool any_failed = false;

// About normal with the given mean and standard deviation: the sum of four uniform 16-bit numbers, the same everywhere
// (std::normal_distribution's values are the standard library's choice).
void Fill(float* values, int64_t count, float mean, float deviation, uint64_t seed) {
  std::mt19937_64 random(seed);
  constexpr float kSumMean = 2.0f * 65535.0f;
  constexpr float kSumDeviation = 37836.9f;  // sqrt(4 / 12) * 65536
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t bits = random();
    const auto sum = static_cast<float>((bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48));
    values[i] = mean + deviation * ((sum - kSumMean) / kSumDeviation);
  }
}

// Held until the process ends.
float* AllocateFilled(int64_t count, float mean, float deviation, uint64_t seed) {
  float* values = hwy::AllocateAligned<float>(static_cast<size_t>(count)).release();
  Fill(values, count, mean, deviation, seed);
  return values;
}

Buffers Allocate() {
  int64_t elements = 0;
  int64_t params = 0;  // the most columns or channels
  for (const cases::RowsCase& shape : cases::kRowsCases) {
    elements = std::max(elements, shape.Elements());
    params = std::max(params, shape.cols);
  }
  for (const cases::ChannelsCase& shape : cases::kChannelsCases) {
    elements = std::max(elements, shape.Elements());
    params = std::max(params, shape.channels);
  }
  Buffers buffers;
  buffers.x = AllocateFilled(elements, 0.25f, 1.0f, 1);
  buffers.y = AllocateFilled(elements, 0.0f, 0.0f, 2);
  buffers.scale = AllocateFilled(params, 1.0f, 0.2f, 3);
  buffers.shift = AllocateFilled(params, 0.0f, 0.3f, 4);
  buffers.mean = AllocateFilled(params, 0.25f, 0.1f, 5);
  buffers.variance = AllocateFilled(params, 1.0f, 0.05f, 6);
  buffers.saved_mean = AllocateFilled(params, 0.0f, 0.0f, 7);
  buffers.saved_rstd = AllocateFilled(params, 0.0f, 0.0f, 8);
  buffers.running_mean = AllocateFilled(params, 0.0f, 0.1f, 9);
  buffers.running_variance = AllocateFilled(params, 1.0f, 0.05f, 10);
  return buffers;
}

}  // namespace

const Buffers& Buffers::Get() {
  static const Buffers buffers = Allocate();
  return buffers;
}

void UseThreads([[maybe_unused]] int threads) {
#ifdef _OPENMP
  omp_set_num_threads(threads);
#endif
}

void Fail(benchmark::State& state, const std::string& message) {
  any_failed = true;
  state.SkipWithError(message.c_str());
}

const char* Disagreement(const std::vector<float>& y, const float* other) {
  constexpr float kTolerance = 1e-3f;
  const bool agrees = std::equal(y.begin(), y.end(), other, [](float a, float b) { return std::fabs(a - b) <= kTolerance; });
  return agrees ? nullptr : "the output differs from simdnorm's by more than 1e-3";
}

bool AnyFailed() { return any_failed; }

}  // namespace simdnorm::bench
