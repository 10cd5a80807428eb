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

static_assert(kStrip == kChannelStrip, "");
constexpr int64_t kTileStrips = kChannelTile / kChannelStrip;

// A tile: channels [first, first + count), count <= kChannelTile, in strips of 16 of which the last may be ragged.
struct Tile {
  int64_t first, count;
  int64_t Strips() const { return (count + kChannelStrip - 1) / kChannelStrip; }
  size_t Valid(int64_t strip) const { return static_cast<size_t>(HWY_MIN(kChannelStrip, count - strip * kChannelStrip)); }
};

template <class T, class TX>
HWY_INLINE T ChannelPivot(const ChannelNorm& norm, int64_t channel) {
  const TX* x = static_cast<const TX*>(norm.x) + channel;
  return Pivot<T>(LoadScalar(x), LoadScalar(x + norm.rows / 2 * norm.channels),
                  LoadScalar(x + (norm.rows - 1) * norm.channels));
}

template <class T, class TX>
HWY_INLINE void AddRows(const TX* x, int64_t stride, size_t valid, int64_t before, int64_t count, LaneMoments<T>& state) {
  const StripTag<T> d;
  if (valid == kStrip) {
    AddStrips<true, true>(d, x, stride, kStrip, static_cast<size_t>(before), static_cast<size_t>(count), state);
  } else {
    AddStrips<true, false>(d, x, stride, valid, static_cast<size_t>(before), static_cast<size_t>(count), state);
  }
}

// Moments of the tile's channels over groups [begin, end) of the row chunks: emit(group, channel of the tile, moments).
template <class T, class TX, class Emit>
HWY_INLINE void ChannelMoments(const ChannelNorm& norm, const Tile& tile, int64_t begin, int64_t end, const Emit& emit) {
  constexpr int64_t kRowBlock = 4 * kBlock;
  const Grouping grouping = norm.Chunks();
  LaneMoments<T> strips[kTileStrips];
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    strips[s].Start(0);
    for (size_t l = 0; l < tile.Valid(s); ++l) {
      strips[s].pivot[l] = ChannelPivot<T, TX>(norm, tile.first + s * kChannelStrip + static_cast<int64_t>(l));
    }
  }
  for (int64_t group = begin; group < end; ++group) {
    Moments moments[kChannelTile];
    const int64_t last_chunk = HWY_MIN((group + 1) * grouping.group_size, grouping.chunks);
    for (int64_t chunk = group * grouping.group_size; chunk < last_chunk; ++chunk) {
      const int64_t rows = HWY_MIN(kChunkRows, norm.rows - chunk * kChunkRows);
      const TX* x = static_cast<const TX*>(norm.x) + chunk * kChunkRows * norm.channels + tile.first;
      for (int64_t row = 0; row < rows; row += kRowBlock) {
        for (int64_t s = 0; s < tile.Strips(); ++s) {
          AddRows(x + row * norm.channels + s * kChannelStrip, norm.channels, tile.Valid(s), row,
                  HWY_MIN(kRowBlock, rows - row), strips[s]);
        }
      }
      for (int64_t c = 0; c < tile.count; ++c) {
        const LaneMoments<T>& strip = strips[c / kChannelStrip];
        MergeMoments(moments[c],
                     Moments{static_cast<double>(rows), strip.mean[c % kChannelStrip], strip.m2[c % kChannelStrip]});
      }
    }
    for (int64_t c = 0; c < tile.count; ++c) emit(group, c, moments[c]);
  }
}

// The normalizers of the tile's channels, those of channels in need of it in double. No_inline: a large frame, seldom in
// double.
template <class T, class TX>
HWY_NOINLINE void ChannelNormalizers(const ChannelNorm& norm, const Tile& tile, Normalizer* normalizers) {
  Moments totals[kChannelTile];
  ChannelMoments<T, TX>(norm, tile, 0, norm.Chunks().groups,
                        [&](int64_t /*group*/, int64_t c, const Moments& moments)
                            HWY_ATTR { MergeMoments(totals[c], moments); });
  for (int64_t c = 0; c < tile.count; ++c) {
    normalizers[c] = Finish(totals[c], ChannelPivot<T, TX>(norm, tile.first + c), norm.epsilon);
    normalizers[c].in_double |= sizeof(T) == sizeof(double);
  }
}

// Gathers again in double, strip by strip, where a channel asks for it; other channels keep what they have.
template <class TX>
HWY_INLINE void MendChannels(const ChannelNorm& norm, const Tile& tile, Normalizer* normalizers) {
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    const int64_t first = s * kChannelStrip;
    const Tile strip = {tile.first + first, static_cast<int64_t>(tile.Valid(s))};
    bool mend = false;
    for (int64_t c = 0; c < strip.count; ++c) mend |= normalizers[first + c].in_double;
    if (HWY_LIKELY(!mend)) continue;
    Normalizer mended[kChannelStrip];
    ChannelNormalizers<double, TX>(norm, strip, mended);
    for (int64_t c = 0; c < strip.count; ++c) {
      if (normalizers[first + c].in_double) normalizers[first + c] = mended[c];
    }
  }
}

// What the write loop needs of a strip's channels.
struct StripParameters {
  alignas(64) float mean[kStrip], offset[kStrip], rstd[kStrip], scale[kStrip], shift[kStrip];
  alignas(64) double mean_double[kStrip], rstd_double[kStrip];
  bool in_double[kStrip];
  bool any_in_double;
};

// Scale and shift of the tile; all that is not set stays 0.
template <class TS>
HWY_INLINE void LoadParameters(const ChannelNorm& norm, const Tile& tile, StripParameters* strips) {
  const TS* scale = static_cast<const TS*>(norm.scale);
  const TS* shift = static_cast<const TS*>(norm.shift);
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    const int64_t first = tile.first + s * kChannelStrip;
    for (size_t l = 0; l < tile.Valid(s); ++l) {
      strips[s].scale[l] = scale ? LoadScalar(scale + first + static_cast<int64_t>(l)) : 1.0f;
      strips[s].shift[l] = shift ? LoadScalar(shift + first + static_cast<int64_t>(l)) : 0.0f;
    }
  }
}

HWY_INLINE void LoadNormalizers(const Tile& tile, const Normalizer* normalizers, StripParameters* strips) {
  for (int64_t c = 0; c < tile.count; ++c) {
    StripParameters& strip = strips[c / kChannelStrip];
    const int64_t l = c % kChannelStrip;
    strip.mean[l] = normalizers[c].mean_high;
    strip.offset[l] = normalizers[c].offset;
    strip.rstd[l] = normalizers[c].rstd_float;
    strip.mean_double[l] = normalizers[c].mean;
    strip.rstd_double[l] = normalizers[c].rstd;
    strip.in_double[l] = normalizers[c].in_double;
    strip.any_in_double |= normalizers[c].in_double;
  }
}

// One row of a strip with channels in double among its own: both ways, and each channel takes its own.
template <class TX, class TY>
HWY_NOINLINE void WriteMixedStrip(const TX* x, TY* y, size_t valid, const StripParameters& strip) {
  const auto write = [&](auto d, const auto* mean, const auto* offset, const auto* rstd, TY* out) HWY_ATTR {
    for (size_t l = 0; l < valid; l += hn::Lanes(d)) {
      using T = hn::TFromD<decltype(d)>;
      alignas(64) T scale[kStrip], shift[kStrip];
      for (size_t i = 0; i < kStrip; ++i) scale[i] = strip.scale[i], shift[i] = strip.shift[i];
      const size_t n = HWY_MIN(hn::Lanes(d), valid - l);
      const auto low = offset ? hn::Load(d, offset + l) : hn::Zero(d);
      const auto v = hn::MulAdd(hn::Sub(LoadFirst(d, x + l, n), hn::Load(d, mean + l)), hn::Load(d, rstd + l), low);
      StoreFirst(hn::MulAdd(v, hn::Load(d, scale + l), hn::Load(d, shift + l)), d, out + l, n);
    }
  };
  alignas(64) TY in_float[kStrip], in_double[kStrip];
  write(StripTag<float>(), strip.mean, strip.offset, strip.rstd, in_float);
  write(StripTag<double>(), strip.mean_double, static_cast<const double*>(nullptr), strip.rstd_double, in_double);
  for (size_t l = 0; l < valid; ++l) y[l] = strip.in_double[l] ? in_double[l] : in_float[l];
}

// Rows [begin, end) of a strip, at most kWriteRows: parameters stay in registers over them.
constexpr int64_t kWriteRows = 8;

template <bool kAllLanes, class TX, class TY>
HWY_INLINE void WriteStrip(const TX* x, TY* y, int64_t stride, int64_t rows, size_t valid, const StripParameters& strip) {
  const StripTag<float> d;
  for (size_t l = 0; l < (kAllLanes ? kStrip : valid); l += hn::Lanes(d)) {
    const size_t n = HWY_MIN(hn::Lanes(d), valid - l);
    const auto mean = hn::Load(d, strip.mean + l), offset = hn::Load(d, strip.offset + l), rstd = hn::Load(d, strip.rstd + l);
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

template <class TX, class TY>
HWY_INLINE void WriteRows(const ChannelNorm& norm, const Tile& tile, int64_t begin, int64_t end,
                          const StripParameters* strips) {
  for (int64_t row = begin; row < end; row += kWriteRows) {
    const int64_t rows = HWY_MIN(kWriteRows, end - row);
    for (int64_t s = 0; s < tile.Strips(); ++s) {
      const int64_t at = row * norm.channels + tile.first + s * kChannelStrip;
      const TX* x = static_cast<const TX*>(norm.x) + at;
      TY* y = static_cast<TY*>(norm.y) + at;
      if (HWY_UNLIKELY(strips[s].any_in_double)) {
        for (int64_t r = 0; r < rows; ++r) {
          WriteMixedStrip(x + r * norm.channels, y + r * norm.channels, tile.Valid(s), strips[s]);
        }
      } else if (tile.Valid(s) == kStrip) {
        WriteStrip<true>(x, y, norm.channels, rows, kStrip, strips[s]);
      } else {
        WriteStrip<false>(x, y, norm.channels, rows, tile.Valid(s), strips[s]);
      }
    }
  }
}

// Calls visit(tile) for the tiles of channels [begin, end).
template <class Visit>
HWY_INLINE void ForEachTile(int64_t begin, int64_t end, const Visit& visit) {
  for (int64_t first = begin; first < end; first += kChannelTile) visit(Tile{first, HWY_MIN(kChannelTile, end - first)});
}

// Kernel of a ChannelNorm: unit u is the strip of channels from 16 u on, all of its rows.
template <class TX, class TY, class TS>
void NormalizeChannels(const void* args, int64_t begin, int64_t end) {
  const ChannelNorm& norm = *static_cast<const ChannelNorm*>(args);
  ForEachTile(begin * kChannelStrip, HWY_MIN(end * kChannelStrip, norm.channels), [&](const Tile& tile) HWY_ATTR {
    Normalizer normalizers[kChannelTile];
    StripParameters strips[kTileStrips] = {};
    ChannelNormalizers<float, TX>(norm, tile, normalizers);
    MendChannels<TX>(norm, tile, normalizers);
    for (int64_t c = 0; c < tile.count; ++c) SaveStatistics(norm.outputs, tile.first + c, norm.rows, normalizers[c]);
    LoadParameters<TS>(norm, tile, strips);
    LoadNormalizers(tile, normalizers, strips);
    WriteRows<TX, TY>(norm, tile, 0, norm.rows, strips);
  });
}

// Kernel of a SharedChannels: unit u is group u of the row chunks.
template <class TX>
void SharedChannelMoments(const void* args, int64_t begin, int64_t end) {
  const SharedChannels& shared = *static_cast<const SharedChannels*>(args);
  const auto emit = [&](int64_t group, int64_t c, const Moments& moments) {
    shared.moments[group * kSharedChannelTile + c] = moments;
  };
  const Tile tile = {shared.first, shared.count};
  ChannelMoments<float, TX>(*shared.norm, tile, begin, end, emit);
}

// Kernel of a SharedChannels: one unit. Moments become normalizers, and statistics are handed out.
template <class TX>
void SharedChannelFinish(const void* args, int64_t /*begin*/, int64_t /*end*/) {
  const SharedChannels& shared = *static_cast<const SharedChannels*>(args);
  const ChannelNorm& norm = *shared.norm;
  const Tile tile = {shared.first, shared.count};
  for (int64_t c = 0; c < tile.count; ++c) {
    Moments total;
    for (int64_t group = 0; group < norm.Chunks().groups; ++group) {
      MergeMoments(total, shared.moments[group * kSharedChannelTile + c]);
    }
    shared.normalizers[c] = Finish(total, ChannelPivot<float, TX>(norm, tile.first + c), norm.epsilon);
  }
  MendChannels<TX>(norm, tile, shared.normalizers);
  for (int64_t c = 0; c < tile.count; ++c) SaveStatistics(norm.outputs, tile.first + c, norm.rows, shared.normalizers[c]);
}

// Kernel of a SharedChannels: units are rows.
template <class TX, class TY, class TS>
void SharedChannelWrite(const void* args, int64_t begin, int64_t end) {
  const SharedChannels& shared = *static_cast<const SharedChannels*>(args);
  const Tile tile = {shared.first, shared.count};
  StripParameters strips[kTileStrips] = {};
  LoadParameters<TS>(*shared.norm, tile, strips);
  LoadNormalizers(tile, shared.normalizers, strips);
  WriteRows<TX, TY>(*shared.norm, tile, begin, end, strips);
}

// Kernel of a ChannelNorm with given statistics: units are rows.
template <class TX, class TY, class TS>
void NormalizeRowsOfChannels(const void* args, int64_t begin, int64_t end) {
  const ChannelNorm& norm = *static_cast<const ChannelNorm*>(args);
  ForEachTile(0, norm.channels, [&](const Tile& tile) HWY_ATTR {
    StripParameters strips[kTileStrips] = {};
    LoadParameters<TS>(norm, tile, strips);
    for (int64_t s = 0; s < tile.Strips(); ++s) {
      const int64_t first = tile.first + s * kChannelStrip;
      for (size_t l = 0; l < tile.Valid(s); ++l) {
        strips[s].mean[l] = norm.mean[first + static_cast<int64_t>(l)];
        strips[s].rstd[l] = GivenNormalizer(0, norm.variance[first + static_cast<int64_t>(l)], norm.epsilon).rstd_float;
      }
    }
    WriteRows<TX, TY>(norm, tile, begin, end, strips);
  });
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_CHANNELS_INL_H_
