// The weights by which the strips of a chunk are merged (simd/moments-inl.h), in a table: they depend on nothing but how many
// strips went before, and a division for each block of them would keep its vectors waiting.
#ifndef SIMDNORM_LIB_MERGE_WEIGHTS_H_
#define SIMDNORM_LIB_MERGE_WEIGHTS_H_

#include <stdint.h>

#include "kernels.h"

namespace simdnorm {

// What merges kStrips strips with i * kStrips before them, for every i of a chunk: n_b / (n_a + n_b), and n_a times that.
template <class T, int64_t kStrips>
struct MergeWeights {
  static constexpr int64_t kCount = kChunkRows / kStrips;
  struct {
    T weight, weight_m2;
  } at[kCount];
};

template <class T, int64_t kStrips>
constexpr MergeWeights<T, kStrips> MakeMergeWeights() {
  MergeWeights<T, kStrips> weights = {};
  for (int64_t i = 0; i < weights.kCount; ++i) {
    const T before = static_cast<T>(i * kStrips);
    weights.at[i].weight = static_cast<T>(kStrips) / (before + static_cast<T>(kStrips));
    weights.at[i].weight_m2 = before * weights.at[i].weight;
  }
  return weights;
}

template <class T, int64_t kStrips>
inline constexpr MergeWeights<T, kStrips> kMergeWeights = MakeMergeWeights<T, kStrips>();

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_MERGE_WEIGHTS_H_
