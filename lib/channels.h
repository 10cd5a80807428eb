// Runs channel kernels (simd/channels-inl.h) in one of three ways, which cannot be told from the result: a tile of channels
// after the other, each thread its own; the statistics of some channels, each thread its own, and then their rows; or the same
// with the groups of row chunks shared while statistics are gathered, where there are few channels, or rows are short and come
// from memory.
#ifndef SIMDNORM_LIB_CHANNELS_H_
#define SIMDNORM_LIB_CHANNELS_H_

#include "kernels.h"

namespace simdnorm {

struct CallOptions;

constexpr int64_t kSharedStrips = 8;     // strips of channels whose row chunks are shared at a time, at most
constexpr int64_t kSharedMoments = 128;  // groups of their row chunks times strips, whose moments are kept at a time

// The kernels for a CPU target.
struct ChannelKernels {
  Kernel normalize;    // of a ChannelNorm; unit: UnitChannels channels
  Kernel given;        // of a ChannelNorm with given statistics; unit: a tile of a row. The others: of a SharedChannels
  Kernel normalizers;  // unit: UnitChannels channels
  Kernel moments;      // unit: one of the groups of row chunks; of at most kSharedStrips strips, as finish and save
  Kernel finish;       // one unit: merges their moments, and after the last group finds the normalizers
  Kernel save;         // one unit
  Kernel write;        // unit: a row
};

// Some channels of the one problem there is, a tile or two, whose rows are shared among threads.
struct SharedChannels {
  const ChannelNorm* norm;
  int64_t first, count;
  Normalizers* normalizers;  // of the channels, or of the groups that they make up
  // Where row chunks are shared, some groups of them after the other.
  int64_t first_group = 0, num_groups = 0;
  MomentsOf<kItems>* moments = nullptr;  // [num_groups][strips]
  MomentsOf<kItems>* totals = nullptr;   // of each strip, so far
  bool in_double = false;                // gather again in double, for those channels whose normalizer says so
};

// The least that one task works on.
inline int64_t UnitChannels(const ChannelNorm& norm) { return norm.channels_per_group == 1 ? kItems : norm.channels_per_group; }
inline int64_t UnitsPerOuter(const ChannelNorm& norm) { return (norm.channels + UnitChannels(norm) - 1) / UnitChannels(norm); }

// Normalizes by the channels' (or their groups') own statistics.
void RunChannels(const CallOptions& options, Statistics statistics, const ChannelNorm& norm);

// Normalizes by norm.mean and norm.variance.
void RunGivenChannels(const CallOptions& options, const ChannelNorm& norm);

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_CHANNELS_H_
