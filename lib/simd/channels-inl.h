// Kernels over channels that lie side by side, x [rows, channels]: batch norm in NHWC, and of [batch, features]. A vector's
// lanes are channels; statistics run down the rows, so lanes are never merged with each other.
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

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

static_assert(kStrip == kItems, "a strip's lanes are 16 channels");

// A tile: channels [first, first + count), in at most kTileStrips strips of 16 of which the last may be ragged.
struct Tile {
  int64_t first, count;
  int64_t Strips() const { return (count + kItems - 1) / kItems; }
  int64_t Valid(int64_t strip) const { return HWY_MIN(kItems, count - strip * kItems); }
  Tile Strip(int64_t strip) const { return {first + strip * kItems, Valid(strip)}; }
};

// The lanes of a ragged strip that are no channels are worked on and not stored: so that they are not just anything.
HWY_INLINE void ZeroRaggedStrip(const Tile& tile, Normalizers* normalizers) {
  if (tile.count % kItems != 0) normalizers[tile.Strips() - 1] = Normalizers();
}

template <class T, class TX>
HWY_INLINE T ChannelPivot(const ChannelNorm& norm, int64_t channel) {
  const TX* x = static_cast<const TX*>(norm.x) + channel;
  return Pivot<T>(LoadScalar(x), LoadScalar(x + norm.rows / 2 * norm.channels),
                  LoadScalar(x + (norm.rows - 1) * norm.channels));
}

template <class T, class TX>
HWY_INLINE void AddRows(const TX* x, int64_t stride, int64_t valid, int64_t before, int64_t count, LaneMoments<T>& state) {
  const StripTag<T> d;
  if (valid == kItems) {
    AddStrips<true, true>(d, x, stride, kStrip, static_cast<size_t>(before), static_cast<size_t>(count), state);
  } else {
    AddStrips<true, false>(d, x, stride, static_cast<size_t>(valid), static_cast<size_t>(before), static_cast<size_t>(count),
                           state);
  }
}

// Moments of the tile's channels over groups [begin, end) of the row chunks: emit(group, strip, moments).
template <class T, class TX, class Emit>
HWY_INLINE void ChannelMoments(const ChannelNorm& norm, const Tile& tile, int64_t begin, int64_t end, const Emit& emit) {
  constexpr int64_t kRowBlock = 4 * kBlock;
  const Grouping grouping = norm.Chunks();
  LaneMoments<T> lanes[kTileStrips];
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    lanes[s].Start(0);
    for (int64_t l = 0; l < tile.Valid(s); ++l) lanes[s].pivot[l] = ChannelPivot<T, TX>(norm, tile.first + s * kItems + l);
  }
  for (int64_t group = begin; group < end; ++group) {
    MomentsOf<kItems> moments[kTileStrips];
    const int64_t last_chunk = HWY_MIN((group + 1) * grouping.group_size, grouping.chunks);
    for (int64_t chunk = group * grouping.group_size; chunk < last_chunk; ++chunk) {
      const int64_t rows = HWY_MIN(kChunkRows, norm.rows - chunk * kChunkRows);
      const TX* x = static_cast<const TX*>(norm.x) + chunk * kChunkRows * norm.channels + tile.first;
      for (int64_t row = 0; row < rows; row += kRowBlock) {
        for (int64_t s = 0; s < tile.Strips(); ++s) {
          AddRows(x + row * norm.channels + s * kItems, norm.channels, tile.Valid(s), row, HWY_MIN(kRowBlock, rows - row),
                  lanes[s]);
        }
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

template <class T, class TX>
HWY_INLINE void FinishStrip(const ChannelNorm& norm, const Tile& tile, int64_t s, const MomentsOf<kItems>& total,
                            Normalizers& normalizers) {
  T pivots[kItems];
  for (int64_t i = 0; i < tile.Valid(s); ++i) pivots[i] = ChannelPivot<T, TX>(norm, tile.first + s * kItems + i);
  Finish(total, pivots, tile.Valid(s), norm.epsilon, normalizers, 0);
}

// The normalizers of the tile's channels from moments gathered in T. Not inline: a large frame.
template <class T, class TX>
HWY_NOINLINE void NormalizersOfTile(const ChannelNorm& norm, const Tile& tile, Normalizers* normalizers) {
  MomentsOf<kItems> totals[kTileStrips];
  ChannelMoments<T, TX>(norm, tile, 0, norm.Chunks().groups,
                        [&](int64_t /*group*/, int64_t s, const MomentsOf<kItems>& moments)
                            HWY_ATTR { MergeMoments(totals[s], moments, tile.Valid(s)); });
  for (int64_t s = 0; s < tile.Strips(); ++s) FinishStrip<T, TX>(norm, tile, s, totals[s], normalizers[s]);
}

HWY_INLINE bool AnyInDouble(const Normalizers& normalizers, int64_t count) {
  bool any = false;
  for (int64_t i = 0; i < count; ++i) any |= normalizers.in_double[i];
  return any;
}

// Takes what was gathered again in double for those channels of a strip that asked for it; the others keep what they have.
HWY_INLINE void TakeMended(const Normalizers& mended, int64_t count, Normalizers& normalizers) {
  for (int64_t i = 0; i < count; ++i) {
    if (!normalizers.in_double[i]) continue;
    normalizers.mean[i] = mended.mean[i];
    normalizers.variance[i] = mended.variance[i];
    normalizers.rstd_double[i] = mended.rstd_double[i];
    normalizers.mean_high[i] = mended.mean_high[i];
    normalizers.offset[i] = mended.offset[i];
    normalizers.rstd[i] = mended.rstd[i];
    normalizers.in_double[i] = mended.in_double[i];
  }
}

// Gathers again in double, strip by strip, where a channel asks for it.
template <class TX>
HWY_INLINE void MendNormalizers(const ChannelNorm& norm, const Tile& tile, Normalizers* normalizers) {
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    if (HWY_LIKELY(!AnyInDouble(normalizers[s], tile.Valid(s)))) continue;
    Normalizers mended;
    NormalizersOfTile<double, TX>(norm, tile.Strip(s), &mended);
    TakeMended(mended, tile.Valid(s), normalizers[s]);
  }
}

// Scale and shift of a strip's channels, beyond the last of them 0.
struct StripParameters {
  alignas(64) float scale[kItems] = {};
  alignas(64) float shift[kItems] = {};
};

template <class TS>
HWY_INLINE void LoadParameters(const ChannelNorm& norm, const Tile& tile, StripParameters* parameters) {
  const TS* scale = static_cast<const TS*>(norm.scale);
  const TS* shift = static_cast<const TS*>(norm.shift);
  for (int64_t c = 0; c < tile.count; ++c) {
    StripParameters& strip = parameters[c / kItems];
    strip.scale[c % kItems] = scale ? LoadScalar(scale + tile.first + c) : 1.0f;
    strip.shift[c % kItems] = shift ? LoadScalar(shift + tile.first + c) : 0.0f;
  }
}

// Some rows of a strip with channels in double among its own: both ways, and each channel takes its own.
template <class TX, class TY>
HWY_NOINLINE void WriteMixedStrip(const TX* x, TY* y, int64_t stride, int64_t rows, int64_t valid, const Normalizers& norm,
                                  const StripParameters& strip) {
  const StripTag<float> d;
  const StripTag<double> dd;
  alignas(64) double scale[kItems], shift[kItems];
  for (int64_t i = 0; i < kItems; ++i) scale[i] = strip.scale[i], shift[i] = strip.shift[i];
  const auto write = [&](auto tag, const TX* from, const auto* mean, const auto* offset, const auto* rstd, const auto* scale_of,
                         const auto* shift_of, TY* out) HWY_ATTR {
    for (size_t l = 0; l < static_cast<size_t>(valid); l += hn::Lanes(tag)) {
      const size_t n = HWY_MIN(hn::Lanes(tag), static_cast<size_t>(valid) - l);
      const auto low = offset ? hn::Load(tag, offset + l) : hn::Zero(tag);
      const auto centred = hn::Sub(LoadFirst(tag, from + l, n), hn::Load(tag, mean + l));
      const auto v = hn::MulAdd(centred, hn::Load(tag, rstd + l), low);
      StoreFirst(hn::MulAdd(v, hn::Load(tag, scale_of + l), hn::Load(tag, shift_of + l)), tag, out + l, n);
    }
  };
  for (int64_t row = 0; row < rows; ++row) {
    alignas(64) TY in_float[kItems], in_double[kItems];
    const TX* from = x + row * stride;
    write(d, from, norm.mean_high, norm.offset, norm.rstd, strip.scale, strip.shift, in_float);
    write(dd, from, norm.mean, static_cast<const double*>(nullptr), norm.rstd_double, scale, shift, in_double);
    for (int64_t i = 0; i < valid; ++i) y[row * stride + i] = norm.in_double[i] ? in_double[i] : in_float[i];
  }
}

// The same rows of a strip one after the other, its normalizers and parameters in registers.
template <bool kAllLanes, class TX, class TY>
HWY_INLINE void WriteStrip(const TX* x, TY* y, int64_t stride, int64_t rows, int64_t valid, const Normalizers& norm,
                           const StripParameters& strip) {
  const StripTag<float> d;
  const size_t end = kAllLanes ? kStrip : static_cast<size_t>(valid);
  for (size_t l = 0; l < end; l += hn::Lanes(d)) {
    const size_t n = HWY_MIN(hn::Lanes(d), end - l);
    const auto mean = hn::Load(d, norm.mean_high + l), offset = hn::Load(d, norm.offset + l), rstd = hn::Load(d, norm.rstd + l);
    const auto scale = hn::Load(d, strip.scale + l), shift = hn::Load(d, strip.shift + l);
    for (int64_t row = 0; row < rows; ++row) {
      const TX* from = x + row * stride + l;
      TY* to = y + row * stride + l;
      const auto v = kAllLanes ? LoadElements(d, from) : LoadFirst(d, from, n);
      const auto result = hn::MulAdd(hn::MulAdd(hn::Sub(v, mean), rstd, offset), scale, shift);
      if constexpr (kAllLanes) {
        StoreElements(result, d, to);
      } else {
        StoreFirst(result, d, to, n);
      }
    }
  }
}

// Rows [begin, end) of the tile's channels.
template <class TX, class TY, class TS>
HWY_INLINE void WriteRows(const ChannelNorm& norm, const Tile& tile, int64_t begin, int64_t end,
                          const Normalizers* normalizers) {
  constexpr int64_t kWriteRows = 8;
  StripParameters parameters[kTileStrips];
  bool mixed[kTileStrips];
  LoadParameters<TS>(norm, tile, parameters);
  for (int64_t s = 0; s < tile.Strips(); ++s) mixed[s] = AnyInDouble(normalizers[s], tile.Valid(s));
  for (int64_t row = begin; row < end; row += kWriteRows) {
    const int64_t rows = HWY_MIN(kWriteRows, end - row);
    for (int64_t s = 0; s < tile.Strips(); ++s) {
      const int64_t at = row * norm.channels + tile.first + s * kItems, valid = tile.Valid(s);
      const TX* x = static_cast<const TX*>(norm.x) + at;
      TY* y = static_cast<TY*>(norm.y) + at;
      if (HWY_UNLIKELY(mixed[s])) {
        WriteMixedStrip(x, y, norm.channels, rows, valid, normalizers[s], parameters[s]);
      } else if (valid == kItems) {
        WriteStrip<true>(x, y, norm.channels, rows, valid, normalizers[s], parameters[s]);
      } else {
        WriteStrip<false>(x, y, norm.channels, rows, valid, normalizers[s], parameters[s]);
      }
    }
  }
}

// Calls visit(tile) for the tiles of channels [begin, end).
template <class Visit>
HWY_INLINE void ForEachTile(int64_t begin, int64_t end, const Visit& visit) {
  constexpr int64_t kTile = kTileStrips * kItems;
  for (int64_t first = begin; first < end; first += kTile) visit(Tile{first, HWY_MIN(kTile, end - first)});
}

HWY_INLINE void SaveTile(const ChannelNorm& norm, const Tile& tile, const Normalizers* normalizers) {
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    SaveStatistics(norm.outputs, tile.first + s * kItems, tile.Valid(s), norm.rows, normalizers[s]);
  }
}

// Kernel of a ChannelNorm: unit u is the strip of channels from 16 u on, all of its rows.
template <class TX, class TY, class TS>
void NormalizeChannels(const void* args, int64_t begin, int64_t end) {
  const ChannelNorm& norm = *static_cast<const ChannelNorm*>(args);
  ForEachTile(begin * kItems, HWY_MIN(end * kItems, norm.channels), [&](const Tile& tile) HWY_ATTR {
    Normalizers normalizers[kTileStrips];
    ZeroRaggedStrip(tile, normalizers);
    NormalizersOfTile<float, TX>(norm, tile, normalizers);
    MendNormalizers<TX>(norm, tile, normalizers);
    SaveTile(norm, tile, normalizers);
    WriteRows<TX, TY, TS>(norm, tile, 0, norm.rows, normalizers);
  });
}

// Kernel of a SharedChannels: unit u is group u of the row chunks.
template <class TX>
void SharedChannelMoments(const void* args, int64_t begin, int64_t end) {
  const SharedChannels& shared = *static_cast<const SharedChannels*>(args);
  const Tile tile = {shared.first, shared.count};
  if (!shared.in_double) {
    ChannelMoments<float, TX>(*shared.norm, tile, begin, end, [&](int64_t group, int64_t s, const MomentsOf<kItems>& moments) {
      shared.moments[group * kSharedTileStrips + s] = moments;
    });
    return;
  }
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    if (!AnyInDouble(shared.normalizers[s], tile.Valid(s))) continue;
    ChannelMoments<double, TX>(*shared.norm, tile.Strip(s), begin, end,
                               [&](int64_t group, int64_t /*strip*/, const MomentsOf<kItems>& moments) {
                                 shared.moments[group * kSharedTileStrips + s] = moments;
                               });
  }
}

// Kernel of a SharedChannels, one unit: moments become normalizers.
template <class TX>
void SharedChannelFinish(const void* args, int64_t /*begin*/, int64_t /*end*/) {
  const SharedChannels& shared = *static_cast<const SharedChannels*>(args);
  const ChannelNorm& norm = *shared.norm;
  const Tile tile = {shared.first, shared.count};
  if (!shared.in_double) ZeroRaggedStrip(tile, shared.normalizers);
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    if (shared.in_double && !AnyInDouble(shared.normalizers[s], tile.Valid(s))) continue;
    MomentsOf<kItems> total;
    for (int64_t group = 0; group < norm.Chunks().groups; ++group) {
      MergeMoments(total, shared.moments[group * kSharedTileStrips + s], tile.Valid(s));
    }
    if (!shared.in_double) {
      FinishStrip<float, TX>(norm, tile, s, total, shared.normalizers[s]);
    } else {
      Normalizers mended;
      FinishStrip<double, TX>(norm, tile, s, total, mended);
      TakeMended(mended, tile.Valid(s), shared.normalizers[s]);
    }
  }
}

// Kernel of a SharedChannels, one unit: hands out the statistics.
template <class TX>
void SharedChannelSave(const void* args, int64_t /*begin*/, int64_t /*end*/) {
  const SharedChannels& shared = *static_cast<const SharedChannels*>(args);
  SaveTile(*shared.norm, Tile{shared.first, shared.count}, shared.normalizers);
}

// Kernel of a SharedChannels: units are rows.
template <class TX, class TY, class TS>
void SharedChannelWrite(const void* args, int64_t begin, int64_t end) {
  const SharedChannels& shared = *static_cast<const SharedChannels*>(args);
  WriteRows<TX, TY, TS>(*shared.norm, Tile{shared.first, shared.count}, begin, end, shared.normalizers);
}

// Kernel of a ChannelNorm with given statistics: units are the rows of the first tile of channels, then of the second, ...
template <class TX, class TY, class TS>
void NormalizeRowsOfChannels(const void* args, int64_t begin, int64_t end) {
  const ChannelNorm& norm = *static_cast<const ChannelNorm*>(args);
  constexpr int64_t kTile = kTileStrips * kItems;
  for (int64_t unit = begin; unit < end;) {
    const int64_t index = unit / norm.rows, next = HWY_MIN(end, (index + 1) * norm.rows);
    const Tile tile = {index * kTile, HWY_MIN(kTile, norm.channels - index * kTile)};
    Normalizers normalizers[kTileStrips];
    ZeroRaggedStrip(tile, normalizers);
    for (int64_t s = 0; s < tile.Strips(); ++s) {
      const float* HWY_RESTRICT mean = norm.mean + tile.first + s * kItems;
      const float* HWY_RESTRICT variance = norm.variance + tile.first + s * kItems;
      Normalizers& strip = normalizers[s];
      for (int64_t i = 0; i < tile.Valid(s); ++i) strip.rstd[i] = GivenRstd(variance[i], norm.epsilon);
      for (int64_t i = 0; i < tile.Valid(s); ++i) {
        strip.mean_high[i] = mean[i];
        strip.offset[i] = 0;
        strip.in_double[i] = false;
      }
    }
    WriteRows<TX, TY, TS>(norm, tile, unit - index * norm.rows, next - index * norm.rows, normalizers);
    unit = next;
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_CHANNELS_INL_H_
