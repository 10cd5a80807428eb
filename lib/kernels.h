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

// How `chunks` chunks fall into groups: a function of the shape alone, or bits would depend on who shares the work.
struct Grouping {
  explicit Grouping(int64_t chunks_)
      : chunks(chunks_), group_size((chunks + kMaxGroups - 1) / kMaxGroups), groups((chunks + group_size - 1) / group_size) {}
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
};

// Moments of `count` values about an agreed pivot: their mean, and the sum of squared deviations from it.
struct Moments {
  double count = 0, mean = 0, m2 = 0;
};

// What normalizes the values of one item: (x - mean - mean_low) * rstd. Two floats for the mean, or doubles for all.
struct Normalizer {
  double mean, rstd, variance;
  float mean_high;  // mean rounded to f32
  float offset;     // -(mean - mean_high) * rstd
  float rstd_float;
  bool in_double;  // f32's range does not hold these statistics; use mean and rstd
};

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_KERNELS_H_
