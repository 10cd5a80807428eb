// What kernels take: plain structs that are the same for every CPU target and dtype, filled in by the entry points.
#ifndef SIMDNORM_LIB_KERNELS_H_
#define SIMDNORM_LIB_KERNELS_H_

#include <stddef.h>
#include <stdint.h>

namespace simdnorm {

// A range [begin, end) of a call's independent units of work; what a unit is, the kernel says.
using Kernel = void (*)(const void* args, int64_t begin, int64_t end);

// Where the statistics of item i (a row, a channel) go besides the normalization; each may be null.
struct StatisticsOutputs {
  float* mean;
  float* rstd;
  float* running_mean;
  float* running_variance;
  float momentum;         // weight of the new value in the running ones
  bool unbiased_running;  // the kind of the running variance
};

// The longest run of adjacent elements (along a sequence) or of rows (down a channel) that is reduced in f32; longer ones
// are reduced chunk by chunk, and chunks are merged in double. 256 strips, so 32 blocks for a lane, either way.
constexpr int64_t kChunkElements = 4096;
constexpr int64_t kChunkRows = 256;

// Chunks are merged in groups of neighbours, and groups in order, so that at most this many moments need to be kept when
// threads share a sequence or channel.
constexpr int64_t kMaxGroups = 64;

// Items (rows, channels) are worked on 16 at a time, as structs of arrays: the steps in which an item waits for itself (merging
// lanes, square root, division) then run for 16, and rows and channels have the same code for them.
constexpr int64_t kItems = 16;

// Strips of 16 channels that a kernel takes at a time where channels lie side by side: 1 KiB of each row.
constexpr int64_t kTileStrips = 16;

// How `chunks` chunks fall into groups: a function of the shape alone, or bits would depend on who shares the work.
struct Grouping {
  explicit Grouping(int64_t chunks_)
      : chunks(chunks_), group_size((chunks + kMaxGroups - 1) / kMaxGroups), groups((chunks + group_size - 1) / group_size) {}
  // Whether the first `seen` chunks end with a whole group.
  bool EndsGroup(int64_t seen) const { return group_size == 1 || seen % group_size == 0 || seen == chunks; }
  int64_t chunks, group_size, groups;
};

// Normalization of sequences by their own statistics: a sequence is `planes` runs of `length` adjacent elements. A row of
// layer norm is one plane; a channel of batch norm in NCHW has a plane for each sample.
struct SequenceNorm {
  const void* x;
  void* y;
  int64_t x_stride, y_stride;  // from one sequence to the next
  int64_t planes;
  int64_t plane_stride;  // of x and y
  int64_t length;
  const void* scale;  // null: 1. By position in the run (layer norm) or by sequence (batch norm), as the kernel says
  const void* shift;  // null: 0
  float epsilon;
  StatisticsOutputs outputs;

  // Of the middle and the last element of a sequence, from its first.
  int64_t MiddleOffset() const { return planes / 2 * plane_stride + (planes % 2 == 0 ? 0 : length / 2); }
  int64_t LastOffset() const { return (planes - 1) * plane_stride + length - 1; }

  int64_t ChunksPerPlane() const { return (length + kChunkElements - 1) / kChunkElements; }
  Grouping Chunks() const { return Grouping(planes * ChunksPerPlane()); }
};

// Normalization of channels that lie side by side: x [rows, channels], contiguous.
struct ChannelNorm {
  const void* x;
  void* y;
  int64_t rows, channels;
  const void* scale;      // [channels], null: 1
  const void* shift;      // [channels], null: 0
  const float* mean;      // [channels], inference only
  const float* variance;  // [channels], inference only
  float epsilon;
  StatisticsOutputs outputs;

  Grouping Chunks() const { return Grouping((rows + kChunkRows - 1) / kChunkRows); }
  int64_t Tiles() const { return (channels + kTileStrips * kItems - 1) / (kTileStrips * kItems); }
};

// Normalization of planes by given statistics: x [batch, channels, spatial], contiguous.
struct PlaneNorm {
  const void* x;
  void* y;
  int64_t channels, spatial;
  const void* scale;  // [channels], null: 1
  const void* shift;  // [channels], null: 0
  const float* mean;
  const float* variance;
  float epsilon;

  int64_t ChunksPerPlane() const { return (spatial + kChunkElements - 1) / kChunkElements; }
};

// Moments of several items, each over `count` values less the item's pivot: their mean, and the sum of squared deviations
// from it.
template <int64_t kCount>
struct MomentsOf {
  double count = 0;
  double mean[kCount] = {};
  double m2[kCount] = {};
};
using Moments = MomentsOf<1>;

// What normalizes the values of 16 items: (x - mean) * rstd, in f32 as (x - mean_high) * rstd + offset.
struct Normalizers {
  alignas(64) double mean[kItems];
  alignas(64) double rstd_double[kItems];
  alignas(64) double variance[kItems];
  alignas(64) float mean_high[kItems];  // mean rounded to f32
  alignas(64) float offset[kItems];     // -(mean - mean_high) * rstd
  alignas(64) float rstd[kItems];
  bool in_double[kItems];  // f32's range does not hold these statistics; use mean and rstd_double
};

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_KERNELS_H_
