// What kernels take: plain structs that are the same for every CPU target and dtype, filled in by the entry points.
//
// There are two kinds of kernels, by where the values lie that share statistics: along runs of adjacent elements (SequenceNorm,
// simd/rows-inl.h), or down the rows of channels that lie side by side (ChannelNorm, simd/channels-inl.h). What has more to it
// than the normalization (residuals, activations, quantized results, masks with gaps, most mixtures of dtypes) is staged:
// brought into a small buffer of f32 before, and from one to where it belongs after (simd/stage-inl.h).
#ifndef SIMDNORM_LIB_KERNELS_H_
#define SIMDNORM_LIB_KERNELS_H_

#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <type_traits>

#include "cache.h"
#include "dtype.h"
#include "simdnorm/simdnorm.h"

namespace simdnorm {

// a / b rounded up, of a that is not negative.
constexpr int64_t CeilDiv(int64_t a, int64_t b) { return a / b + (a % b != 0); }

// What is normalized by: mean and variance, or the mean square alone.
enum class Statistics { kMeanAndVariance, kMeanSquare };

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

// But of a batch's planes that are shorter than kShortPlane, if there are four or more, a chunk is several: as many as
// kJoinedElements hold. The lanes of each by itself would take as long to merge as its elements to gather. Measured (AVX2),
// training: 8x512x7x7 takes 0.9 of the time, of bf16 0.65; 256x512x7x7 0.7, 8x512x4x4 0.6. Two or three planes of f32 would
// take 1.05 to 1.17, those of 64 elements 1.06 to 1.1; of bf16 0.88 and 0.94.
constexpr int64_t kShortPlane = 64, kJoinedElements = 512;
constexpr int64_t PlanesPerChunk(int64_t planes, int64_t length) {
  return planes >= 4 && length < kShortPlane ? kJoinedElements / length : 1;
}

// Chunks are merged in sections of neighbours, and sections in order, so that at most this many moments need to be kept when
// threads share a sequence or channel.
constexpr int64_t kMaxSections = 64;

// Items (rows, channels) are worked on 16 at a time, as structs of arrays: the steps in which an item waits for itself (merging
// lanes, square root, division) then run for 16, and rows and channels have the same code for them.
constexpr int64_t kItems = 16;

// Strips of 16 channels that a kernel takes at a time where channels lie side by side: 2 KiB of each row.
constexpr int64_t kTileStrips = 32;
constexpr int64_t kTile = kTileStrips * kItems;

// Groups that a tile has at the most: they have two channels at least.
constexpr int64_t kMaxGroupsOfTile = kTile / 2;

// Channels whose rows are written at a time once the statistics of all of them are known, which is less to keep.
constexpr int64_t kWriteTile = 2 * kTile;

// Where statistics are given, a channel's state is no more than its factors, and parts of rows are better avoided: as many
// channels as there is stack for; but for f32 in the caches, as many as L1 holds the factors of beside x and y. Measured,
// beyond the caches: 768 to 1280 channels take 0.42 to 0.66 of the time that they take by tiles of 512, those of bf16 0.28 to
// 0.35.
constexpr int64_t kGivenTile = 2048, kGivenTileInL1 = 1280;

// How `chunks` chunks fall into sections: a function of the shape alone, or bits would depend on who shares the work.
struct Sections {
  explicit Sections(int64_t chunks_) : chunks(chunks_), size(CeilDiv(chunks, kMaxSections)), count(CeilDiv(chunks, size)) {}
  // Whether a section ends after the first `seen` chunks.
  bool EndsAfter(int64_t seen) const { return size == 1 || seen % size == 0 || seen == chunks; }
  int64_t chunks, size, count;  // `count` sections of `size` chunks, but the last may have fewer
};

// Channels of a block, in blocked layouts; else 0.
constexpr int64_t BlockOf(simdnorm_layout layout) {
  return layout == SIMDNORM_NCHW8C ? 8 : layout == SIMDNORM_NCHW16C ? 16 : 0;
}

// A call's tensor as kernels walk it. Strides count elements.
template <class Void>
struct TensorOf {
  Void* data;  // null: absent
  simdnorm_dtype dtype;
  int64_t stride;        // from one sequence, or one row of channels, to the next
  int64_t outer_stride;  // from one set of those to the next, where there are sets
  int64_t plane_stride;  // from one plane of a sequence, or one sample of channels, to the next

  explicit operator bool() const { return data != nullptr; }
  Void* At(int64_t element) const {
    using Byte = std::conditional_t<std::is_const_v<Void>, const unsigned char, unsigned char>;
    return static_cast<Byte*>(data) + Bytes(dtype, element);
  }
};
using InputTensor = TensorOf<const void>;
using OutputTensor = TensorOf<void>;

// Which positions of batch, group and instance norm count. Positions [0, spatial) of each sample.
struct Validity {
  const int64_t* lengths;  // [samples], null: all
  const uint8_t* mask;     // [samples, spatial], null: all
  int64_t spatial;
  simdnorm_padding padding;

  bool All() const { return lengths == nullptr && mask == nullptr; }
  const uint8_t* MaskOf(int64_t sample) const { return mask + sample * spatial; }

  // The end of the run of equal validity, within [position, end), that begins at `position`; *valid is set to which it is.
  int64_t RunEnd(int64_t sample, int64_t position, int64_t end, bool* valid) const {
    *valid = true;
    if (lengths) {
      *valid = position < lengths[sample];
      return *valid ? std::min(end, lengths[sample]) : end;
    }
    if (!mask) return end;
    const uint8_t* const of_sample = MaskOf(sample);
    *valid = of_sample[position] != 0;
    while (++position < end && (of_sample[position] != 0) == *valid) {
    }
    return position;
  }

  // The position of the k-th of a sample that count.
  int64_t Position(int64_t sample, int64_t k) const {
    if (!mask) return k;
    const uint8_t* const of_sample = MaskOf(sample);
    int64_t position = 0;
    for (k += of_sample[0] == 0; k > 0;) k -= of_sample[++position] != 0;
    return position;
  }

  // The end of a stretch of positions, within [position, end), that begins at `position`: by lengths, where counting ends; by a
  // mask, of whole pieces that are alike, or one piece of which some positions count. `counts` is set to which it is.
  enum class Counts { kAll, kSome, kNone };
  static constexpr int64_t kMaskPiece = 256;
  int64_t StretchEnd(int64_t sample, int64_t position, int64_t end, Counts* counts) const {
    if (!mask) {
      bool valid;
      const int64_t next = RunEnd(sample, position, end, &valid);
      *counts = valid ? Counts::kAll : Counts::kNone;
      return next;
    }
    const uint8_t* const of_sample = MaskOf(sample);
    int64_t next = position;
    const auto next_piece = [&] {
      const uint8_t* const piece = of_sample + next;
      const int64_t n = std::min(kMaskPiece, end - next);
      next += n;
      if (piece[0] != 0) return memchr(piece, 0, static_cast<size_t>(n)) == nullptr ? Counts::kAll : Counts::kSome;
      return memcmp(piece, piece + 1, static_cast<size_t>(n - 1)) == 0 ? Counts::kNone : Counts::kSome;
    };
    *counts = next_piece();
    while (*counts != Counts::kSome && next < end) {
      const int64_t before = next;
      if (next_piece() != *counts) return before;
    }
    return next;
  }

  // How many positions of a sample count.
  int64_t Count(int64_t sample) const {
    if (lengths) return lengths[sample];
    return mask ? CountMasked(sample) : spatial;
  }

 private:
  // Not inline: once for all targets.
  [[gnu::noinline]] int64_t CountMasked(int64_t sample) const {
    const uint8_t* const of_sample = MaskOf(sample);
    return spatial - std::count(of_sample, of_sample + spatial, uint8_t{0});
  }
};

// What happens to normalized values on their way to y.
struct Epilogue {
  simdnorm_activation activation;
  float activation_slope;
  float quant_scale;  // y is I8 or U8 with this one factor, or without if 0
  int32_t zero_point;
  float* quant_scales;  // y is I8 with a factor for each sequence, which is written here; null: not
};

// Normalization along runs: a sequence is `planes` runs of `length` adjacent elements. A row of layer norm and a group of group
// norm in NCHW are one plane; a channel of batch norm in NCHW has a plane for each sample.
struct SequenceNorm {
  InputTensor x, residual, gate;
  OutputTensor y, h;
  int64_t inner;  // sequence s lies at s / inner * outer_stride + s % inner * stride
  int64_t planes, length;

  // h = x + residual + bias is what is normalized.
  bool residual_before, round_h;
  const void* bias;  // by position
  simdnorm_dtype bias_dtype;

  // Scale and shift: by position in the run, another for every sequences_per_scale sequences; or by channel.
  const void* scale;  // null: 1
  const void* shift;  // null: 0
  simdnorm_dtype scale_dtype;
  float scale_offset;
  bool by_channel;
  int64_t sequences_per_scale, scale_stride;  // by position; 0: all sequences have the same
  bool planes_are_samples;                    // by channel: sequences are channels; else groups of them, sample by sample
  int64_t sequences_per_sample, channels_per_group, spatial;

  float epsilon;
  const float* mean;  // given statistics, by channel; null: the sequences' own
  const float* variance;
  Epilogue epilogue;
  StatisticsOutputs outputs;
  Validity validity;           // by channel: a group's planes are then its channels, though chunks run on across them
  const int64_t* row_lengths;  // sequences beyond are padding: row_lengths[s / rows_per_sequence] <= s % rows_per_sequence
  int64_t rows_per_sequence;
  simdnorm_padding row_padding;

  int64_t Elements() const { return planes * length; }
  // Whether the residual is added after the normalization.
  bool AddsAfter() const { return residual && !residual_before; }
  // Whether nothing is read where h goes.
  bool HIsWriteOnly() const { return h.data != x.data && h.data != residual.data; }
  // Of the first element of a sequence's plane.
  template <class Tensor>
  int64_t Offset(const Tensor& tensor, int64_t sequence, int64_t plane) const {
    const int64_t begin =
        inner == 1 ? sequence * tensor.stride : sequence / inner * tensor.outer_stride + sequence % inner * tensor.stride;
    return begin + plane * tensor.plane_stride;
  }
  // Where element `start` of a sequence's plane is.
  template <class Tensor>
  auto* At(const Tensor& tensor, int64_t sequence, int64_t plane, int64_t start = 0) const {
    return tensor.At(Offset(tensor, sequence, plane) + start);
  }

  // By position: which scale and shift a sequence has.
  int64_t ScaleSet(int64_t sequence) const { return sequences_per_scale == 0 ? 0 : sequence / sequences_per_scale; }

  // By channel.
  int64_t Sample(int64_t sequence, int64_t plane) const { return planes_are_samples ? plane : sequence / sequences_per_sample; }
  int64_t Channel(int64_t sequence, int64_t plane, int64_t start) const {
    return planes_are_samples ? sequence : sequence % sequences_per_sample * channels_per_group + plane + start / spatial;
  }

  // What the fields above amount to; Classify sets it, and ChooseByCache the last two.
  bool x_is_h;               // there is nothing to add to x
  bool y_is_write_only;      // nothing is read, after results are known, of what may lie where y does
  bool bare;                 // nothing happens between the normalization and y
  bool plain;                // results that count go from x to y without a stop, as far as it is not for dtypes
  bool channel_by_channel;   // each channel's run has one scale and shift; else, where runs are short, each position has
  int64_t planes_per_chunk;  // whole ones, of a batch; else 1
  bool streams;              // y is written past the caches
  bool overflows;            // the caches do not hold inputs and outputs
  void Classify() {
    x_is_h = !residual_before && !bias && !round_h;
    y_is_write_only = !AddsAfter() && !gate;
    bare = epilogue.activation == SIMDNORM_NO_ACTIVATION && !gate && !AddsAfter();
    channel_by_channel = by_channel && (planes_are_samples || spatial >= 32);
    plain = x_is_h && y_is_write_only && !h && bare && (!by_channel || channel_by_channel);
    planes_per_chunk = planes_are_samples ? PlanesPerChunk(planes, length) : 1;
  }
  void ChooseByCache(int64_t sequences, const Executor& executor) {
    const int64_t elements = sequences * Elements();
    const auto bytes = [=](const auto& tensor) { return tensor ? Bytes(tensor.dtype, elements) : 0; };
    const int64_t of_h = HIsWriteOnly() ? bytes(h) : 0;  // else it lies in the caches
    streams =
        bare && validity.All() && y.data != x.data && y.data != residual.data && WritesPastCaches(bytes(y) + of_h, executor);
    overflows = OverflowsCaches(bytes(x) + bytes(residual) + bytes(gate) + bytes(h) + bytes(y));
  }

  // Whether sequences that fit a stage are better added up where h goes, and normalized from there: if that costs no digits,
  // overwrites no residual that is yet to be added, and h is not to be written past the caches.
  bool AddsIntoH() const {
    const bool keeps_residual = h.data != residual.data || (residual_before && x.dtype == SIMDNORM_F32);
    return h && h.dtype == SIMDNORM_F32 && keeps_residual && !streams;
  }
  // What then remains to be done; y is not written past the caches, either.
  SequenceNorm OfH() const {
    SequenceNorm rest = *this;
    rest.x = {h.data, h.dtype, h.stride, h.outer_stride, h.plane_stride};
    rest.h = {};
    if (residual_before) rest.residual = {};
    rest.bias = nullptr;
    rest.residual_before = rest.round_h = rest.streams = false;
    rest.Classify();
    return rest;
  }

  // A chunk is a part of a plane, or several planes that are short.
  int64_t ChunksPerPlane() const { return CeilDiv(length, kChunkElements); }
  Sections ChunkSections() const { return Sections(CeilDiv(planes, planes_per_chunk) * ChunksPerPlane()); }
};

// Normalization of rows and nothing else, from one floating-point dtype to the same, with scale and shift in f32: what most
// calls of layer and RMS norm are, in few enough words that a row of 16 elements is not lost among them.
struct PlainRows {
  const void* x;
  void* y;
  int64_t rows, cols;  // cols <= kChunkElements
  int64_t x_stride, y_stride;
  const void* scale;  // null: 1
  const void* shift;  // null: 0
  float* mean;        // null: not wanted
  float* rstd;        // null: not wanted
  simdnorm_dtype dtype;
  simdnorm_dtype scale_dtype;  // f32, or that of x and y; f32 where there are none
  float epsilon;
  bool streams;    // y is written past the caches
  bool overflows;  // the caches do not hold x and y

  SequenceNorm AsSequences() const {
    SequenceNorm norm = {};
    norm.x = {x, dtype, x_stride, 0, 0};
    norm.y = {y, dtype, y_stride, 0, 0};
    norm.inner = norm.planes = 1;
    norm.length = cols;
    norm.scale = scale;
    norm.shift = shift;
    norm.scale_dtype = scale_dtype;
    norm.epsilon = epsilon;
    norm.outputs.mean = mean;
    norm.outputs.rstd = rstd;
    norm.Classify();
    norm.streams = streams;
    norm.overflows = overflows;
    return norm;
  }
};

// Normalization of channels that lie side by side. There are `outer` independent problems (samples of group norm, blocks of
// channels of a blocked layout, rows of a strided layer norm), each of `samples` times `rows` rows of adjacent channels.
struct ChannelNorm {
  InputTensor x, residual;
  OutputTensor y;
  int64_t outer, samples, rows;
  int64_t channels;            // that lie side by side in each of the outer; of blocks the last may have fewer, and padding
  int64_t total_channels;      // in all blocks
  int64_t channels_per_group;  // that share statistics; 1: none do
  bool outer_is_sample;

  const void* scale;  // null: 1. By channel, or by row
  const void* shift;  // null: 0
  simdnorm_dtype scale_dtype;
  float scale_offset;
  bool parameters_by_row;
  int64_t rows_per_scale, scale_stride;  // by row: another for every rows_per_scale problems; 0: all have the same
  int64_t first_channel_stride;          // channels (of parameters and statistics) from one outer to the next
  int64_t first_statistic_stride;

  float epsilon;
  const float* mean;  // given statistics
  const float* variance;
  Epilogue epilogue;
  StatisticsOutputs outputs;
  Validity validity;
  bool streams;    // y is written past the caches
  bool overflows;  // the caches do not hold inputs and outputs

  // Whether nothing happens between the normalization and y.
  bool Bare() const { return !residual && epilogue.activation == SIMDNORM_NO_ACTIVATION; }

  int64_t Channels(int64_t o) const { return std::min(channels, total_channels - o * first_channel_stride); }
  int64_t Rows() const { return samples * rows; }

  Sections ChunkSections(int64_t rows_that_count) const { return Sections(CeilDiv(rows_that_count, kChunkRows)); }
  // Tiles of given statistics: how many, and their channels, about as many in each.
  int64_t GivenTilesPerOuter() const {
    const int64_t most = x.dtype == SIMDNORM_F32 && !overflows ? kGivenTileInL1 : kGivenTile;
    return CeilDiv(channels, most);
  }
  int64_t GivenTile() const { return CeilDiv(CeilDiv(channels, GivenTilesPerOuter()), kItems) * kItems; }
};

// Moments of several items, each over `count` values less the item's pivot: their mean, and the sum of squared deviations
// from it.
template <int64_t kCount>
struct MomentsOf {
  double count = 0;  // 0: the others are not set
  double mean[kCount];
  double m2[kCount];
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

  bool AnyInDouble(int64_t count) const {
    bool any = false;
    for (int64_t i = 0; i < count; ++i) any |= in_double[i];
    return any;
  }
};

// Whether any of `count` items is, of which each of `normalizers` has 16.
inline bool AnyInDouble(const Normalizers* normalizers, int64_t count) {
  bool any = false;
  for (int64_t i = 0; i < count; i += kItems) any |= normalizers[i / kItems].AnyInDouble(std::min(kItems, count - i));
  return any;
}

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_KERNELS_H_
