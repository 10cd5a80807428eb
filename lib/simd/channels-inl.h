// Kernels over channels that lie side by side: batch norm in NHWC, in blocked layouts and of [batch, features]; group norm in
// NHWC; layer norm over an axis that is not the last. A vector's lanes are channels; statistics run down the rows, so lanes are
// never merged with each other. Where channels share statistics (group norm), those of each are merged at the end, in double.
//
// Work goes in tiles of neighbouring channels and in blocks of rows, so that what is read of a row is adjacent while the
// state of all the tile's channels stays in L1.
#if defined(SIMDNORM_LIB_SIMD_CHANNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIMDNORM_LIB_SIMD_CHANNELS_INL_H_
#undef SIMDNORM_LIB_SIMD_CHANNELS_INL_H_
#else
#define SIMDNORM_LIB_SIMD_CHANNELS_INL_H_
#endif

#include "channels.h"
#include "simd/moments-inl.h"
#include "simd/stage-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

static_assert(kStrip == kItems, "a strip's lanes are 16 channels");

// A tile: channels [first, first + count) of problem `outer`, in at most kTileStrips strips of 16 of which the last may be
// ragged.
struct Tile {
  int64_t outer, first, count;
  int64_t Strips() const { return (count + kItems - 1) / kItems; }
  int64_t Valid(int64_t strip) const { return HWY_MIN(kItems, count - strip * kItems); }
  Tile Strip(int64_t strip) const { return {outer, first + strip * kItems, Valid(strip)}; }
};

// Calls visit(tile) for the tiles of channels [begin, end) of problem `outer`.
template <class Visit>
HWY_INLINE void ForEachTile(int64_t outer, int64_t begin, int64_t end, const Visit& visit) {
  for (int64_t first = begin; first < end; first += kTile) visit(Tile{outer, first, HWY_MIN(kTile, end - first)});
}

// The lanes of a ragged strip that are no channels are worked on and not stored: so that they are not just anything.
HWY_INLINE void ZeroRaggedStrip(const Tile& tile, Normalizers* normalizers) {
  if (tile.count % kItems != 0) normalizers[tile.Strips() - 1] = Normalizers();
}

// ---- Rows: which count, and where they lie.

HWY_INLINE int64_t SampleOf(const ChannelNorm& norm, const Tile& tile, int64_t sample) {
  return norm.outer_is_sample ? tile.outer : sample;
}

// Of the tile's first channel in a row.
template <class Tensor>
HWY_INLINE int64_t RowOffset(const Tensor& tensor, const Tile& tile, int64_t sample, int64_t row) {
  return tile.outer * tensor.outer_stride + sample * tensor.plane_stride + row * tensor.stride + tile.first;
}

// How many rows count for the tile's channels.
HWY_INLINE int64_t CountRows(const ChannelNorm& norm, const Tile& tile) {
  if (norm.validity.All()) return norm.Rows();
  int64_t count = 0;
  for (int64_t sample = 0; sample < norm.samples; ++sample) count += norm.validity.Count(SampleOf(norm, tile, sample));
  return count;
}

// Walks the rows that count, in their order.
class RowCursor {
 public:
  RowCursor(const ChannelNorm& norm, const Tile& tile, int64_t first) : norm_(norm), tile_(tile) {
    if (norm.validity.All()) {
      sample_ = first / norm.rows, row_ = first % norm.rows;
    } else {
      while (first > 0) {
        int64_t sample, row;
        first -= Next(first, &sample, &row);
      }
    }
  }

  // The next run of at most `most` rows that lie in regular distance. -> how many
  int64_t Next(int64_t most, int64_t* sample, int64_t* row) {
    for (;;) {
      if (row_ == norm_.rows) row_ = 0, ++sample_;
      bool valid;
      const int64_t end =
          norm_.validity.RunEnd(SampleOf(norm_, tile_, sample_), row_, HWY_MIN(norm_.rows, row_ + most), &valid);
      *sample = sample_, *row = row_;
      row_ = end;
      if (valid) return end - *row;
    }
  }

 private:
  const ChannelNorm& norm_;
  const Tile& tile_;
  int64_t sample_ = 0, row_ = 0;
};

// Values of a tile, row by row, as f32.
struct RowValues {
  const float* values;
  int64_t stride;
};

// Widens rows of x, `stride` elements apart, to rows of `count` in the stage. -> behind them
HWY_NOINLINE inline float* StageRows(const InputTensor& tensor, int64_t offset, int64_t count, int64_t rows, float* stage) {
  if (count == tensor.stride) count *= rows, rows = 1;
  for (int64_t row = 0; row < rows; ++row, stage += count) {
    WidenSpan(tensor.At(offset + row * tensor.stride), tensor.dtype, stage, count);
  }
  return stage;
}

// The cursor's next `rows` rows: where they are, if they are f32 in regular distance; else in the stage.
HWY_INLINE RowValues SourceRows(const ChannelNorm& norm, const Tile& tile, RowCursor& cursor, int64_t rows, float* stage) {
  int64_t sample, row, n = cursor.Next(rows, &sample, &row);
  int64_t offset = RowOffset(norm.x, tile, sample, row);
  if (HWY_LIKELY(n == rows && norm.XIsDirect())) return {static_cast<const float*>(norm.x.data) + offset, norm.x.stride};
  for (float* end = stage;;) {
    end = StageRows(norm.x, offset, tile.count, n, end);
    if ((rows -= n) == 0) return {stage, tile.count};
    n = cursor.Next(rows, &sample, &row);
    offset = RowOffset(norm.x, tile, sample, row);
  }
}

// ---- Statistics.

// Of each of the tile's channels: first, middle and last of the values that count.
template <class T>
struct TilePivots {
  alignas(64) T of[kTile];
};

template <class T, bool kCentred>
HWY_NOINLINE void FindPivots(const ChannelNorm& norm, const Tile& tile, int64_t count, TilePivots<T>& pivots) {
  for (int64_t c = 0; c < tile.Strips() * kItems; ++c) pivots.of[c] = 0;
  if constexpr (kCentred) {
    float values[3][kTile];
    const int64_t rows[3] = {0, count / 2, count - 1};
    for (int i = 0; i < 3; ++i) {
      int64_t sample, row;
      RowCursor(norm, tile, rows[i]).Next(1, &sample, &row);
      StageRows(norm.x, RowOffset(norm.x, tile, sample, row), tile.count, 1, values[i]);
    }
    for (int64_t c = 0; c < tile.count; ++c) {
      pivots.of[c] = Pivot<T>(values[0][c], values[1][c], values[2][c]);
    }
  }
}

template <bool kCentred, class T>
HWY_INLINE void AddRows(const RowValues& x, int64_t strip, int64_t valid, int64_t before, int64_t count,
                        const TilePivots<T>& pivots, LaneMoments<T>& state) {
  const StripTag<T> d;
  const float* values = x.values + strip * kItems;
  const PivotsOfLanes<T> of_strip = {pivots.of + strip * kItems};
  const size_t lanes = static_cast<size_t>(valid), seen = static_cast<size_t>(before), rows = static_cast<size_t>(count);
  if (valid == kItems) {
    AddStrips<kCentred, true>(d, values, x.stride, lanes, seen, rows, of_strip, state.mean, state.m2);
  } else {
    AddStrips<kCentred, false>(d, values, x.stride, lanes, seen, rows, of_strip, state.mean, state.m2);
  }
}

// Moments of the tile's channels over groups [begin, end) of the chunks of `count` rows: emit(group, strip, moments).
template <class T, bool kCentred, class Emit>
HWY_INLINE void ChannelMoments(const ChannelNorm& norm, const Tile& tile, int64_t count, const TilePivots<T>& pivots,
                               int64_t begin, int64_t end, const Emit& emit) {
  // So many rows at a time that they are still in L1 for the tile's last strip: 32 KiB, or the stage.
  constexpr int64_t kTileStage = 2 * kBlock * kTile;
  const bool direct = norm.XIsDirect() && norm.validity.All() && norm.samples == 1;
  const int64_t block = HWY_MIN(kChunkRows, (direct ? 2 : 1) * kTileStage / tile.count / kBlock * kBlock);
  const Grouping grouping = norm.Chunks(count);
  alignas(64) float stage[kTileStage];
  LaneMoments<T> lanes[kTileStrips];
  RowCursor cursor(norm, tile, begin * grouping.group_size * kChunkRows);
  for (int64_t group = begin; group < end; ++group) {
    MomentsOf<kItems> moments[kTileStrips];
    const int64_t last_chunk = HWY_MIN((group + 1) * grouping.group_size, grouping.chunks);
    for (int64_t chunk = group * grouping.group_size; chunk < last_chunk; ++chunk) {
      const int64_t rows = HWY_MIN(kChunkRows, count - chunk * kChunkRows);
      for (int64_t row = 0; row < rows; row += block) {
        const int64_t n = HWY_MIN(block, rows - row);
        const RowValues x = SourceRows(norm, tile, cursor, n, stage);
        for (int64_t s = 0; s < tile.Strips(); ++s) AddRows<kCentred>(x, s, tile.Valid(s), row, n, pivots, lanes[s]);
      }
      for (int64_t s = 0; s < tile.Strips(); ++s) {
        MergeMoments(
            moments[s], static_cast<double>(rows), tile.Valid(s), [&](int64_t i) { return lanes[s].mean[i]; },
            [&](int64_t i) { return lanes[s].m2[i]; });
      }
    }
    for (int64_t s = 0; s < tile.Strips(); ++s) emit(group, s, moments[s]);
  }
}

// The normalizers of the tile's channels, each by its own statistics, from moments gathered in T; and those moments, which
// begin as none, and their pivots. Not inline: a large frame.
template <class T, bool kCentred>
HWY_NOINLINE void NormalizersOfTile(const ChannelNorm& norm, const Tile& tile, int64_t count, MomentsOf<kItems>* totals,
                                    TilePivots<T>& pivots, Normalizers* normalizers) {
  FindPivots<T, kCentred>(norm, tile, count, pivots);
  ChannelMoments<T, kCentred>(norm, tile, count, pivots, 0, norm.Chunks(count).groups,
                              [&](int64_t /*group*/, int64_t s, const MomentsOf<kItems>& moments)
                                  HWY_ATTR { MergeMoments(totals[s], moments, tile.Valid(s)); });
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    Finish(totals[s], pivots.of + s * kItems, tile.Valid(s), norm.epsilon, normalizers[s], 0);
  }
}

HWY_INLINE bool AnyInDouble(const Normalizers& normalizers, int64_t count) {
  bool any = false;
  for (int64_t i = 0; i < count; ++i) any |= normalizers.in_double[i];
  return any;
}

HWY_INLINE void CopyNormalizer(const Normalizers& from, int64_t i, Normalizers& to, int64_t j) {
  to.mean[j] = from.mean[i];
  to.variance[j] = from.variance[i];
  to.rstd_double[j] = from.rstd_double[i];
  to.mean_high[j] = from.mean_high[i];
  to.offset[j] = from.offset[i];
  to.rstd[j] = from.rstd[i];
  to.in_double[j] = from.in_double[i];
}

// Takes what was gathered again in double for those channels of a strip that asked for it; the others keep what they have.
HWY_INLINE void TakeMended(const Normalizers& mended, int64_t count, Normalizers& normalizers) {
  for (int64_t i = 0; i < count; ++i) {
    if (normalizers.in_double[i]) CopyNormalizer(mended, i, normalizers, i);
  }
}

// The normalizers of the tile's channels; again in double, strip by strip, where a channel asks for it.
template <bool kCentred>
HWY_NOINLINE void NormalizersOfChannels(const ChannelNorm& norm, const Tile& tile, int64_t count, Normalizers* normalizers) {
  {
    MomentsOf<kItems> totals[kTileStrips];
    TilePivots<float> pivots;
    NormalizersOfTile<float, kCentred>(norm, tile, count, totals, pivots, normalizers);
  }
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    if (HWY_LIKELY(!AnyInDouble(normalizers[s], tile.Valid(s)))) continue;
    MomentsOf<kItems> total;
    TilePivots<double> pivots;
    Normalizers mended;
    NormalizersOfTile<double, kCentred>(norm, tile.Strip(s), count, &total, pivots, &mended);
    TakeMended(mended, tile.Valid(s), normalizers[s]);
  }
}

// The normalizers of the groups of channels [first, end) of a problem, at most kTile channels or one group, from moments
// gathered in T: those of each group's channels, merged in double in their order. It is to be trusted if those of all its
// channels are, and f32 holds its own.
template <class T>
HWY_NOINLINE void GatherGroups(const ChannelNorm& norm, int64_t outer, int64_t first, int64_t end, int64_t count,
                               Normalizers* normalizers) {
  constexpr int64_t kMaxGroupsOfTile = kTile / 2;  // groups have 2 channels at least
  Moments groups[kMaxGroupsOfTile];
  bool trusted[kMaxGroupsOfTile];
  const int64_t num_groups = (end - first) / norm.channels_per_group;
  for (int64_t g = 0; g < num_groups; ++g) trusted[g] = true;
  ForEachTile(outer, first, end, [&](const Tile& tile) HWY_ATTR {
    MomentsOf<kItems> totals[kTileStrips];
    TilePivots<T> pivots;
    Normalizers of_channels[kTileStrips];
    NormalizersOfTile<T, true>(norm, tile, count, totals, pivots, of_channels);
    for (int64_t c = 0; c < tile.count; ++c) {
      const int64_t g = (tile.first - first + c) / norm.channels_per_group, l = c % kItems;
      const MomentsOf<kItems>& channel = totals[c / kItems];
      MergeMoments(
          groups[g], channel.count, 1, [&](int64_t /*item*/) { return static_cast<double>(pivots.of[c]) + channel.mean[l]; },
          [&](int64_t /*item*/) { return channel.m2[l]; });
      trusted[g] = trusted[g] && !of_channels[c / kItems].in_double[l];
    }
  });
  for (int64_t g = 0; g < num_groups; ++g) {
    const double pivot = 0;
    Normalizers& strip = normalizers[g / kItems];
    Finish(groups[g], &pivot, 1, norm.epsilon, strip, g % kItems);
    if (sizeof(T) == sizeof(float)) {
      strip.in_double[g % kItems] = !trusted[g] || !FitsFloat(strip.variance[g % kItems], norm.epsilon);
    }
  }
}

// The same; again in double for groups that ask for it, neighbours together.
HWY_INLINE void NormalizersOfGroups(const ChannelNorm& norm, int64_t outer, int64_t first, int64_t end, int64_t count,
                                    Normalizers* normalizers) {
  GatherGroups<float>(norm, outer, first, end, count, normalizers);
  const int64_t size = norm.channels_per_group, num_groups = (end - first) / size;
  const auto asks = [&](int64_t g) { return normalizers[g / kItems].in_double[g % kItems]; };
  for (int64_t g = 0, next; g < num_groups; g = next) {
    next = g + 1;
    if (HWY_LIKELY(!asks(g))) continue;
    while (next < num_groups && asks(next)) ++next;
    Normalizers mended[kTileStrips / 2];
    GatherGroups<double>(norm, outer, first + g * size, first + next * size, count, mended);
    for (int64_t i = g; i < next; ++i) {
      CopyNormalizer(mended[(i - g) / kItems], (i - g) % kItems, normalizers[i / kItems], i % kItems);
    }
  }
}

// ---- Writes.

// Scale and shift of a strip's channels, beyond the last of them 0.
struct StripParameters {
  alignas(64) float scale[kItems] = {};
  alignas(64) float shift[kItems] = {};
};

HWY_INLINE void LoadParameters(const ChannelNorm& norm, const Tile& tile, StripParameters* parameters) {
  const int64_t first = tile.outer * norm.first_channel_stride + tile.first;
  for (int64_t c = 0; c < tile.count; ++c) {
    StripParameters& strip = parameters[c / kItems];
    strip.scale[c % kItems] = ParameterAt(norm.scale, norm.scale_dtype, norm.scale_offset, first + c, 1);
    strip.shift[c % kItems] = ParameterAt(norm.shift, norm.scale_dtype, 0, first + c, 0);
  }
}

// Rows of a strip with channels in double among its own: both ways, and each channel takes its own.
template <bool kCentred>
HWY_NOINLINE void WriteMixedStrip(const RowValues& x, float* y, int64_t y_stride, int64_t rows, int64_t valid,
                                  const Normalizers& norm, const StripParameters* strips, int64_t next_strip) {
  const StripTag<float> d;
  const StripTag<double> dd;
  const auto write = [&](auto tag, const float* from, const auto* mean, const auto* offset, const auto* rstd,
                         const auto* scale_of, const auto* shift_of, float* out) HWY_ATTR {
    for (size_t l = 0; l < static_cast<size_t>(valid); l += hn::Lanes(tag)) {
      const size_t n = HWY_MIN(hn::Lanes(tag), static_cast<size_t>(valid) - l);
      const auto low = offset ? hn::Load(tag, offset + l) : hn::Zero(tag);
      auto v = LoadFirst(tag, from + l, n);
      if constexpr (kCentred) {
        v = hn::MulAdd(hn::Sub(v, hn::Load(tag, mean + l)), hn::Load(tag, rstd + l), low);
      } else {
        v = hn::Mul(v, hn::Load(tag, rstd + l));
      }
      StoreFirst(hn::MulAdd(v, hn::Load(tag, scale_of + l), hn::Load(tag, shift_of + l)), tag, out + l, n);
    }
  };
  // f32's arithmetic on what it cannot hold may be slow as well as wrong.
  bool any_in_float = false;
  for (int64_t i = 0; i < valid; ++i) any_in_float |= !norm.in_double[i];
  for (int64_t row = 0; row < rows; ++row, strips += next_strip) {
    alignas(64) float in_float[kItems] = {}, in_double[kItems];
    alignas(64) double scale[kItems], shift[kItems];
    for (int64_t i = 0; i < kItems; ++i) scale[i] = strips->scale[i], shift[i] = strips->shift[i];
    const float* from = x.values + row * x.stride;
    if (any_in_float) {
      write(d, from, norm.mean_high, norm.offset, norm.rstd, strips->scale, strips->shift, in_float);
    }
    write(dd, from, norm.mean, static_cast<const double*>(nullptr), norm.rstd_double, scale, shift, in_double);
    for (int64_t i = 0; i < valid; ++i) y[row * y_stride + i] = norm.in_double[i] ? in_double[i] : in_float[i];
  }
}

// The same rows of a strip one after the other, its normalizers and parameters in registers. By row, strips[row].scale[0] and
// .shift[0] are those of a row; else strips->scale and ->shift those of the channels.
template <bool kCentred, bool kAllLanes, bool kByRow>
HWY_INLINE void WriteStrip(const RowValues& x, float* y, int64_t y_stride, int64_t rows, int64_t valid, const Normalizers& norm,
                           const StripParameters* strips) {
  const StripTag<float> d;
  const size_t end = kAllLanes ? kStrip : static_cast<size_t>(valid);
  for (size_t l = 0; l < end; l += hn::Lanes(d)) {
    const size_t n = HWY_MIN(hn::Lanes(d), end - l);
    const auto mean = hn::Load(d, norm.mean_high + l), offset = hn::Load(d, norm.offset + l), rstd = hn::Load(d, norm.rstd + l);
    auto scale = hn::Load(d, strips->scale + l), shift = hn::Load(d, strips->shift + l);
    for (int64_t row = 0; row < rows; ++row) {
      const float* from = x.values + row * x.stride + l;
      float* to = y + row * y_stride + l;
      if constexpr (kByRow) scale = hn::Set(d, strips[row].scale[0]), shift = hn::Set(d, strips[row].shift[0]);
      auto v = kAllLanes ? LoadElements(d, from) : LoadFirst(d, from, n);
      if constexpr (kCentred) {
        v = hn::MulAdd(hn::Sub(v, mean), rstd, offset);
      } else {
        v = hn::Mul(v, rstd);
      }
      const auto result = hn::MulAdd(v, scale, shift);
      if constexpr (kAllLanes) {
        StoreElements(result, d, to);
      } else {
        StoreFirst(result, d, to, n);
      }
    }
  }
}

constexpr int64_t kWriteRows = 8;  // of a whole tile; more of a narrower one

// A few rows of a tile, from x to y in f32.
template <bool kCentred>
HWY_INLINE void WriteTile(const RowValues& x, float* y, int64_t y_stride, int64_t rows, const Tile& tile,
                          const Normalizers* normalizers, const bool* mixed, const StripParameters* strips, bool by_row) {
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    const RowValues from = {x.values + s * kItems, x.stride};
    float* to = y + s * kItems;
    const int64_t valid = tile.Valid(s);
    const StripParameters* of_strip = by_row ? strips : strips + s;
    if (HWY_UNLIKELY(mixed[s])) {
      WriteMixedStrip<kCentred>(from, to, y_stride, rows, valid, normalizers[s], of_strip, by_row ? 1 : 0);
    } else if (by_row) {
      if (valid == kItems) {
        WriteStrip<kCentred, true, true>(from, to, y_stride, rows, valid, normalizers[s], of_strip);
      } else {
        WriteStrip<kCentred, false, true>(from, to, y_stride, rows, valid, normalizers[s], of_strip);
      }
    } else if (valid == kItems) {
      WriteStrip<kCentred, true, false>(from, to, y_stride, rows, valid, normalizers[s], of_strip);
    } else {
      WriteStrip<kCentred, false, false>(from, to, y_stride, rows, valid, normalizers[s], of_strip);
    }
  }
}

// Takes `rows` rows of the tile's f32 results to y.
HWY_NOINLINE inline void FinishRows(const ChannelNorm& norm, const Tile& tile, int64_t sample, int64_t row, int64_t rows,
                                    float* values, int64_t stride) {
  const int64_t y_offset = RowOffset(norm.y, tile, sample, row), residual_offset = RowOffset(norm.residual, tile, sample, row);
  int64_t n = tile.count;
  if (stride == n && norm.y.stride == n && (!norm.residual || norm.residual.stride == n)) n *= rows, rows = 1;
  for (int64_t r = 0; r < rows; ++r) {
    const void* residual = norm.residual ? norm.residual.At(residual_offset + r * norm.residual.stride) : nullptr;
    ApplyEpilogue(norm.epilogue, residual, norm.residual.dtype, values + r * stride, n);
    StoreSpan(norm.epilogue, values + r * stride, n, norm.y.At(y_offset + r * norm.y.stride), norm.y.dtype, 0);
  }
}

// Zeros for `count` channels from `first` of the tile's on, in some rows.
HWY_NOINLINE inline void ZeroRows(const ChannelNorm& norm, const Tile& tile, int64_t first, int64_t count, int64_t sample,
                                  int64_t row, int64_t rows) {
  const int64_t offset = RowOffset(norm.y, tile, sample, row) + first;
  for (int64_t r = 0; r < rows; ++r) {
    StoreZeros(norm.epilogue, count, norm.y.At(offset + r * norm.y.stride), norm.y.dtype);
  }
}

// Rows [begin, end) of the tile's channels, counted through all samples.
template <bool kCentred>
HWY_NOINLINE void WriteRows(const ChannelNorm& norm, const Tile& tile, int64_t begin, int64_t end,
                            const Normalizers* normalizers) {
  alignas(64) float source[kWriteRows * kTile], results[kWriteRows * kTile];
  StripParameters parameters[kTileStrips];
  static_assert(kTileStrips >= kWriteRows, "by row, there is one for each row");
  bool mixed[kTileStrips];
  const bool by_row = norm.parameters_by_row;
  const int64_t rows_at_once = by_row ? kWriteRows : kWriteRows * kTile / tile.count;
  const bool at_y = norm.YIsDirect(), plain = at_y && norm.epilogue.activation == SIMDNORM_NO_ACTIVATION;
  const int64_t first_parameter = norm.rows_per_scale == 0 ? 0 : tile.outer / norm.rows_per_scale * norm.scale_stride;
  if (!by_row) LoadParameters(norm, tile, parameters);
  for (int64_t s = 0; s < tile.Strips(); ++s) mixed[s] = AnyInDouble(normalizers[s], tile.Valid(s));
  // The channels that fill up a block are its last tile's.
  const int64_t filling = tile.first + tile.count == norm.Channels(tile.outer) ? norm.width - (tile.first + tile.count) : 0;

  int64_t sample = begin / norm.rows, row = begin % norm.rows, left = end - begin;
  for (int64_t n; left > 0; left -= n, row += n) {
    if (row == norm.rows) row = 0, ++sample;
    bool valid;
    n = norm.validity.RunEnd(SampleOf(norm, tile, sample), row, HWY_MIN(norm.rows, row + left), &valid) - row;
    if (!valid) {
      if (norm.validity.padding == SIMDNORM_PADDING_ZERO) ZeroRows(norm, tile, 0, tile.count + filling, sample, row, n);
      continue;
    }
    for (int64_t at = row; at < row + n; at += rows_at_once) {
      const int64_t rows = HWY_MIN(rows_at_once, row + n - at), x_offset = RowOffset(norm.x, tile, sample, at);
      RowValues x = {static_cast<const float*>(norm.x.data) + x_offset, norm.x.stride};
      if (!norm.XIsDirect()) {
        StageRows(norm.x, x_offset, tile.count, rows, source);
        x = {source, tile.count};
      }
      float* y = at_y ? static_cast<float*>(norm.y.data) + RowOffset(norm.y, tile, sample, at) : results;
      const int64_t y_stride = at_y ? norm.y.stride : tile.count;
      for (int64_t r = 0; by_row && r < rows; ++r) {
        for (int64_t i = 0; i < kItems; ++i) {
          parameters[r].scale[i] = ParameterAt(norm.scale, norm.scale_dtype, norm.scale_offset, first_parameter + at + r, 1);
          parameters[r].shift[i] = ParameterAt(norm.shift, norm.scale_dtype, 0, first_parameter + at + r, 0);
        }
      }
      WriteTile<kCentred>(x, y, y_stride, rows, tile, normalizers, mixed, parameters, by_row);
      if (!plain) FinishRows(norm, tile, sample, at, rows, y, y_stride);
    }
    if (filling != 0) ZeroRows(norm, tile, tile.count, filling, sample, row, n);
  }
}

HWY_INLINE void SaveTile(const ChannelNorm& norm, const Tile& tile, int64_t items, int64_t first, int64_t count,
                         const Normalizers* normalizers) {
  first += tile.outer * norm.first_statistic_stride;
  for (int64_t i = 0; i < items; i += kItems) {
    SaveStatistics(norm.outputs, first + i, HWY_MIN(kItems, items - i), count, normalizers[i / kItems]);
  }
}

// ---- Kernels.

// Channels [first, end) of a problem by statistics of their own.
template <bool kCentred>
HWY_INLINE void NormalizeTiles(const ChannelNorm& norm, int64_t outer, int64_t first, int64_t end) {
  ForEachTile(outer, first, end, [&](const Tile& tile) HWY_ATTR {
    Normalizers normalizers[kTileStrips];
    ZeroRaggedStrip(tile, normalizers);
    const int64_t count = CountRows(norm, tile);
    if (count == 0) {
      for (Normalizers& strip : normalizers) strip = NoValues();
    } else {
      NormalizersOfChannels<kCentred>(norm, tile, count, normalizers);
    }
    SaveTile(norm, tile, tile.count, tile.first, count, normalizers);
    WriteRows<kCentred>(norm, tile, 0, norm.Rows(), normalizers);
  });
}

// Channels [first, end) of a problem, whole groups, by statistics of their groups.
HWY_INLINE void NormalizeGroups(const ChannelNorm& norm, int64_t outer, int64_t first, int64_t end) {
  // Whole groups that fit a tile, or a group of more than one.
  const int64_t step = HWY_MAX(1, kTile / norm.channels_per_group) * norm.channels_per_group;
  for (int64_t begin = first; begin < end; begin += step) {
    const int64_t last = HWY_MIN(end, begin + step), group = begin / norm.channels_per_group;
    Normalizers of_groups[kTileStrips / 2];
    const Tile all = {outer, begin, last - begin};
    const int64_t count = CountRows(norm, all);
    if (count == 0) {
      for (Normalizers& strip : of_groups) strip = NoValues();
    } else {
      NormalizersOfGroups(norm, outer, begin, last, count, of_groups);
    }
    SaveTile(norm, all, (last - begin) / norm.channels_per_group, group, count * norm.channels_per_group, of_groups);
    ForEachTile(outer, begin, last, [&](const Tile& tile) HWY_ATTR {
      Normalizers normalizers[kTileStrips];
      ZeroRaggedStrip(tile, normalizers);
      for (int64_t c = 0; c < tile.count; ++c) {
        const int64_t g = (tile.first + c) / norm.channels_per_group - group;
        CopyNormalizer(of_groups[g / kItems], g % kItems, normalizers[c / kItems], c % kItems);
      }
      WriteRows<true>(norm, tile, 0, norm.Rows(), normalizers);
    });
  }
}

// Kernel of a ChannelNorm: units are UnitChannels(norm) channels, all of their rows; those of the first problem, of the second,
// ...
template <bool kCentred>
void NormalizeChannels(const void* args, int64_t begin, int64_t end) {
  const ChannelNorm& norm = *static_cast<const ChannelNorm*>(args);
  const int64_t unit_channels = UnitChannels(norm), units = UnitsPerOuter(norm);
  for (int64_t unit = begin; unit < end;) {
    const int64_t outer = unit / units, next = HWY_MIN(end, (outer + 1) * units);
    const int64_t first = (unit - outer * units) * unit_channels;
    const int64_t last = HWY_MIN((next - outer * units) * unit_channels, norm.Channels(outer));
    if (norm.channels_per_group == 1) {
      NormalizeTiles<kCentred>(norm, outer, first, last);
    } else if constexpr (kCentred) {
      NormalizeGroups(norm, outer, first, last);
    }
    unit = next;
  }
}

// Gathers groups [begin, end) of the row chunks of a tile that begins at a strip of those that are shared. Not inline: a large
// frame.
template <class T, bool kCentred>
HWY_NOINLINE void GatherShared(const SharedChannels& shared, const Tile& tile, int64_t first_strip, int64_t begin,
                               int64_t end) {
  const ChannelNorm& norm = *shared.norm;
  TilePivots<T> pivots;
  FindPivots<T, kCentred>(norm, tile, norm.Rows(), pivots);
  ChannelMoments<T, kCentred>(norm, tile, norm.Rows(), pivots, begin, end,
                              [&](int64_t group, int64_t s, const MomentsOf<kItems>& moments) {
                                shared.moments[group * kSharedTileStrips + first_strip + s] = moments;
                              });
}

// Kernel of a SharedChannels: unit u is group u of the row chunks.
template <bool kCentred>
void SharedChannelMoments(const void* args, int64_t begin, int64_t end) {
  const SharedChannels& shared = *static_cast<const SharedChannels*>(args);
  const Tile tile = {0, shared.first, shared.count};
  if (!shared.in_double) return GatherShared<float, kCentred>(shared, tile, 0, begin, end);
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    if (AnyInDouble(shared.normalizers[s], tile.Valid(s))) GatherShared<double, kCentred>(shared, tile.Strip(s), s, begin, end);
  }
}

// Kernel of a SharedChannels, one unit: moments become normalizers.
template <bool kCentred>
void SharedChannelFinish(const void* args, int64_t /*begin*/, int64_t /*end*/) {
  const SharedChannels& shared = *static_cast<const SharedChannels*>(args);
  const ChannelNorm& norm = *shared.norm;
  const Tile tile = {0, shared.first, shared.count};
  TilePivots<float> pivots;
  FindPivots<float, kCentred>(norm, tile, norm.Rows(), pivots);
  if (!shared.in_double) ZeroRaggedStrip(tile, shared.normalizers);
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    if (shared.in_double && !AnyInDouble(shared.normalizers[s], tile.Valid(s))) continue;
    MomentsOf<kItems> total;
    for (int64_t group = 0; group < norm.Chunks(norm.Rows()).groups; ++group) {
      MergeMoments(total, shared.moments[group * kSharedTileStrips + s], tile.Valid(s));
    }
    if (!shared.in_double) {
      Finish(total, pivots.of + s * kItems, tile.Valid(s), norm.epsilon, shared.normalizers[s], 0);
    } else {
      double in_double[kItems];
      for (int64_t i = 0; i < tile.Valid(s); ++i) in_double[i] = static_cast<double>(pivots.of[s * kItems + i]);
      Normalizers mended;
      Finish(total, in_double, tile.Valid(s), norm.epsilon, mended, 0);
      TakeMended(mended, tile.Valid(s), shared.normalizers[s]);
    }
  }
}

// Kernel of a SharedChannels, one unit: hands out the statistics.
inline void SharedChannelSave(const void* args, int64_t /*begin*/, int64_t /*end*/) {
  const SharedChannels& shared = *static_cast<const SharedChannels*>(args);
  const Tile tile = {0, shared.first, shared.count};
  SaveTile(*shared.norm, tile, tile.count, tile.first, shared.norm->Rows(), shared.normalizers);
}

// Kernel of a SharedChannels: units are rows.
template <bool kCentred>
void SharedChannelWrite(const void* args, int64_t begin, int64_t end) {
  const SharedChannels& shared = *static_cast<const SharedChannels*>(args);
  WriteRows<kCentred>(*shared.norm, Tile{0, shared.first, shared.count}, begin, end, shared.normalizers);
}

template <bool kCentred>
ChannelKernels MakeChannelKernels() {
  return {NormalizeChannels<kCentred>, SharedChannelMoments<kCentred>, SharedChannelFinish<kCentred>, SharedChannelSave,
          SharedChannelWrite<kCentred>};
}

// Kernel of a ChannelNorm with given statistics: units are the rows of the first problem's first tile of channels, of its
// second, ...
inline void NormalizeRowsOfChannels(const void* args, int64_t begin, int64_t end) {
  const ChannelNorm& norm = *static_cast<const ChannelNorm*>(args);
  const int64_t tiles = norm.TilesPerOuter(), rows = norm.Rows();
  for (int64_t unit = begin; unit < end;) {
    const int64_t index = unit / rows, next = HWY_MIN(end, (index + 1) * rows), outer = index / tiles;
    const int64_t first = index % tiles * kTile;
    const Tile tile = {outer, first, HWY_MIN(kTile, norm.Channels(outer) - first)};
    Normalizers normalizers[kTileStrips];
    ZeroRaggedStrip(tile, normalizers);
    for (int64_t s = 0; s < tile.Strips(); ++s) {
      const int64_t channel = outer * norm.first_channel_stride + tile.first + s * kItems;
      const float* HWY_RESTRICT mean = norm.mean + channel;
      const float* HWY_RESTRICT variance = norm.variance + channel;
      Normalizers& strip = normalizers[s];
      for (int64_t i = 0; i < tile.Valid(s); ++i) strip.rstd[i] = GivenRstd(variance[i], norm.epsilon);
      for (int64_t i = 0; i < tile.Valid(s); ++i) {
        strip.mean_high[i] = mean[i];
        strip.offset[i] = 0;
        strip.in_double[i] = false;
      }
    }
    WriteRows<true>(norm, tile, unit - index * rows, next - index * rows, normalizers);
    unit = next;
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_CHANNELS_INL_H_
