// Runs channel kernels (simd/channels-inl.h) in one of three ways, which cannot be told from the result: a tile of channels
// after the other, each thread its own; the statistics of some channels, each thread its own, and then their rows; or the same
// with the sections of the rows (kernels.h) shared while statistics are gathered, where there are few channels, or rows are
// short and come from memory.
#ifndef SIMDNORM_LIB_CHANNELS_H_
#define SIMDNORM_LIB_CHANNELS_H_

#include "executor.h"
#include "kernels.h"

namespace simdnorm {

struct CallOptions;

// Where the sections of the rows are shared while statistics are gathered: of how many strips of channels at a time, at most;
// and of how many strips, times sections, moments are kept at a time.
constexpr int64_t kSharedStrips = 8, kSharedMoments = 128;

// The kernels for a CPU target.
struct ChannelKernels {
  Kernel normalize;    // of a ChannelNorm; unit: UnitChannels channels
  Kernel given;        // of a ChannelNorm with given statistics; unit: a tile of a row. The others: of a SharedChannels
  Kernel normalizers;  // unit: UnitChannels channels
  Kernel moments;      // unit: a section of the rows; of at most kSharedStrips strips, as finish and save
  Kernel finish;       // one unit: merges their moments, and after the last section finds the normalizers
  Kernel save;         // one unit
  Kernel write;        // unit: a row
};

// Some channels of the one problem there is, a tile or two, whose rows are shared among threads.
struct SharedChannels {
  const ChannelNorm* norm;
  int64_t first, count;
  Normalizers* normalizers;  // of the channels, or of the groups that they make up
  // Where the sections of the rows are shared, some of them after the other.
  int64_t first_section = 0, num_sections = 0;
  MomentsOf<kItems>* moments = nullptr;  // [num_sections][strips]
  MomentsOf<kItems>* totals = nullptr;   // of each strip, so far
  bool in_double = false;                // gather again in double, for those channels whose normalizer says so
};

// The least that one task works on.
inline int64_t UnitChannels(const ChannelNorm& norm) { return norm.channels_per_group == 1 ? kItems : norm.channels_per_group; }
inline int64_t UnitsPerOuter(const ChannelNorm& norm) { return CeilDiv(norm.channels, UnitChannels(norm)); }

// Normalizes by the channels' (or their groups') own statistics.
void RunChannels(const CallOptions& options, Statistics statistics, const ChannelNorm& norm);

// Normalizes by norm.mean and norm.variance.
void RunGivenChannels(const CallOptions& options, const ChannelNorm& norm);

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_CHANNELS_H_
