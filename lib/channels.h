// Runs channel kernels (simd/channels-inl.h): ranges of channels as the units of parallel work where there are enough of
// them, else the groups of row chunks of some channels at a time. Which of the two cannot be seen in the result.
#ifndef SIMDNORM_LIB_CHANNELS_H_
#define SIMDNORM_LIB_CHANNELS_H_

#include "executor.h"
#include "kernels.h"

namespace simdnorm {

constexpr int64_t kSharedTileStrips = 2;  // strips of channels whose groups' moments are kept at a time

// The kernels for a CPU target and dtypes.
struct ChannelKernels {
  Kernel normalize;  // of a ChannelNorm; unit: a strip of 16 channels. The others: of a SharedChannels
  Kernel moments;    // unit: a group of row chunks
  Kernel finish;     // one unit
  Kernel save;       // one unit
  Kernel write;      // unit: a row
};

// Some channels whose groups of row chunks are shared among threads.
struct SharedChannels {
  const ChannelNorm* norm;
  int64_t first, count;        // count <= kSharedTileStrips * kItems
  MomentsOf<kItems>* moments;  // [groups][kSharedTileStrips]
  Normalizers* normalizers;    // [kSharedTileStrips]
  bool in_double;              // gather again in double, for those channels whose normalizer says so
};

void RunChannels(const Executor& executor, const ChannelKernels& kernels, const ChannelNorm& norm);

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_CHANNELS_H_
