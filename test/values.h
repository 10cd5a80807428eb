// What tests fill tensors with: deterministic data without libm: integers, and in floating point only what comes out the same
// whether or not a compiler fuses it (products of two floats in double are exact).
#ifndef SIMDNORM_TEST_VALUES_H_
#define SIMDNORM_TEST_VALUES_H_

#include <float.h>
#include <stdint.h>

#include <cmath>

#include "dtypes.h"

namespace simdnorm_test {

// Every activation; row_fusions_test.cc fails if the library takes one that is missing here.
constexpr simdnorm_activation kActivations[] = {SIMDNORM_NO_ACTIVATION, SIMDNORM_RELU, SIMDNORM_LEAKY_RELU,
                                                SIMDNORM_SILU,          SIMDNORM_GELU, SIMDNORM_GELU_TANH};
constexpr int kNumActivations = sizeof(kActivations) / sizeof(kActivations[0]);

// What the items (rows or channels) of x hold.
enum class Data {
  kNormal,
  kMeanThousand,  // mean / std about 1e3
  kMeanMillion,   // mean / std about 1e6
  kConstant,      // another constant for each item
  kOutlierFirst,  // the first value is a million times the others
  kSorted,
  kSubnormal,
  kHuge,         // about 1e30: squares overflow
  kTiny,         // about 1e-20: squares underflow
  kFltMax,       // FLT_MAX and -FLT_MAX in turn
  kNonFinite,    // NaN or Inf in three of five items
  kOutlierEnds,  // the first and the last value are a million times the others
};
constexpr int kNumData = static_cast<int>(Data::kOutlierEnds) + 1;

inline uint64_t Mix(uint64_t v) {
  v += 0x9E3779B97F4A7C15u;
  v = (v ^ (v >> 30)) * 0xBF58476D1CE4E5B9u;
  v = (v ^ (v >> 27)) * 0x94D049BB133111EBu;
  return v ^ (v >> 31);
}

// Of both signs, quiet and signaling, with payloads of few and of many bits: such that care is needed to keep them NaN.
constexpr uint32_t kNaNs[] = {0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0xFFC12345, 0x7F800001, 0xFFBFFFFF};

// Nearly normal with standard deviation 1: the sum of four uniform numbers, its digits filled up by a factor.
inline float Normal(uint64_t seed) {
  const uint64_t bits = Mix(seed);
  int64_t sum = -(int64_t{2} << 16);
  for (int i = 0; i < 4; ++i) sum += static_cast<int64_t>((bits >> (16 * i)) & 0xFFFF);
  return static_cast<float>(static_cast<double>(sum) * 0x1.bb67aep-16);
}

inline uint64_t Seed(int64_t stream, int64_t item, int64_t j) {
  return Mix(Mix(static_cast<uint64_t>(stream)) + static_cast<uint64_t>(item)) + static_cast<uint64_t>(j);
}

// Value j of `count` of an item.
inline float Value(Data data, int64_t item, int64_t j, int64_t count) {
  const float normal = Normal(Seed(1, item, j));
  switch (data) {
    case Data::kNormal:
      return normal;
    case Data::kMeanThousand:
      return static_cast<float>(1e3 + static_cast<double>(normal));
    case Data::kMeanMillion:
      return static_cast<float>(1e6 + static_cast<double>(normal));
    case Data::kConstant: {
      constexpr float kMagnitudes[] = {1, 1e6f, 1e-20f, 1e30f, 1e-40f, FLT_MAX / 8};
      return Normal(Seed(2, item, 0)) * kMagnitudes[item % 6];
    }
    case Data::kOutlierFirst:
      return j == 0 ? 1e6f : normal;
    case Data::kOutlierEnds:
      return j == 0 || j == count - 1 ? 1e6f : normal;
    case Data::kSorted:
      return static_cast<float>(static_cast<double>(j - count / 3) / static_cast<double>(count));
    case Data::kSubnormal:
      return normal * 1e-40f;
    case Data::kHuge:
      return normal * 1e30f;
    case Data::kTiny:
      return normal * 1e-20f;
    case Data::kFltMax:
      return j % 2 == 0 ? FLT_MAX : -FLT_MAX;
    case Data::kNonFinite: {
      constexpr uint32_t kBits[] = {0, 0xFFC12345u, 0x7F800000u, 0, 0xFF800000u};  // NaN with sign and payload, Inf, -Inf
      const bool special =
          item % 5 % 3 != 0 && j == static_cast<int64_t>(Mix(static_cast<uint64_t>(item)) % static_cast<uint64_t>(count));
      return special ? FloatOf(kBits[item % 5]) : normal;
    }
  }
  return 0;
}

// Batch norm's given mean: one of the values; 0 where x - mean would be beyond f32.
inline float GivenMean(Data data, int64_t item, int64_t count) {
  return data == Data::kFltMax ? 0.0f : Value(data, item, 0, count);
}

// Batch norm's given variance: such that y is of the size that training gives, as far as f32 goes.
inline float GivenVariance(Data data, int64_t item) {
  const bool huge = data == Data::kHuge || data == Data::kFltMax;
  const double spread = data == Data::kSubnormal ? 1e-40 : data == Data::kTiny ? 1e-20 : huge ? 1e19 : 1;
  return static_cast<float>(spread * spread * (0.25 + std::fabs(static_cast<double>(Normal(Seed(3, item, 0))))));
}

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_VALUES_H_
