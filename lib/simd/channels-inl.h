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
#include "simd/write_run-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

static_assert(kStrip == kItems, "a strip's lanes are 16 channels");

// A tile: channels [first, first + count) of problem `outer`, in strips of 16 of which the last may be ragged. At most kTile
// where statistics are gathered, kWriteTile where rows are written with them, kGivenTile where they are given. (A group may be
// larger, and is tile after tile.)
struct Tile {
  int64_t outer, first, count;
  int64_t Strips() const { return CeilDiv(count, kItems); }
  int64_t Valid(int64_t strip) const { return HWY_MIN(kItems, count - strip * kItems); }
  Tile Strip(int64_t strip) const { return {outer, first + strip * kItems, Valid(strip)}; }
};

// Calls visit(tile) for the tiles of channels [begin, end) of problem `outer`, of `size` channels at most.
template <class Visit>
HWY_INLINE void ForEachTile(int64_t outer, int64_t begin, int64_t end, const Visit& visit, int64_t size = kTile) {
  for (int64_t first = begin; first < end; first += size) visit(Tile{outer, first, HWY_MIN(size, end - first)});
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

  // Gives back the last `rows` of a run.
  void Back(int64_t rows) { row_ -= rows; }

 private:
  const ChannelNorm& norm_;
  const Tile& tile_;
  int64_t sample_ = 0, row_ = 0;
};

// Values of a tile, row by row.
struct RowValues {
  Span first;
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

// Whether elements of a tile are loaded and stored where they lie: f32, and 16 bits but where parts of vectors cost more than
// to stage them. (In double, which is rare, only f32.)
HWY_INLINE bool MovesUnstaged(const Tile& tile, simdnorm_dtype dtype) {
  return dtype == SIMDNORM_F32 || (IsFloat(dtype) && (kMaskedMovesOf16AreSafe || tile.count % (kItems / 2) == 0));
}
template <class T>
HWY_INLINE bool LoadsFrom(const Tile& tile, simdnorm_dtype dtype) {
  return sizeof(T) == sizeof(float) ? MovesUnstaged(tile, dtype) : dtype == SIMDNORM_F32;
}

// Rows that a stage has room for, of a tile of `count` channels: whole blocks.
constexpr int64_t kBlockRows = static_cast<int64_t>(kBlock), kTileStage = kBlockRows * kTile;
HWY_INLINE int64_t RowsOfStage(int64_t count) { return kTileStage / count / kBlockRows * kBlockRows; }

// The cursor's next rows, at most `rows`: where they are, if T loads them and they are in regular distance, or whole blocks of
// them are; else in the stage. Sets `rows` to how many.
template <class T>
HWY_INLINE RowValues SourceRows(const ChannelNorm& norm, const Tile& tile, RowCursor& cursor, int64_t& rows, float* stage) {
  // Measured: 48 rows of 64 bytes take 0.88 of the time where they are, of 32 bytes as long, of 16 bytes 1.1.
  constexpr int64_t kEnoughBytes = 2048;
  int64_t sample, row, n = cursor.Next(rows, &sample, &row);
  int64_t offset = RowOffset(norm.x, tile, sample, row);
  const int64_t whole = n == rows ? n : n / kBlockRows * kBlockRows;
  if (HWY_LIKELY(LoadsFrom<T>(tile, norm.x.dtype) && (n == rows || Bytes(norm.x.dtype, whole * tile.count) >= kEnoughBytes))) {
    cursor.Back(n - whole);
    rows = whole;
    return {{norm.x.At(offset), norm.x.dtype}, norm.x.stride};
  }
  rows = HWY_MIN(rows, RowsOfStage(tile.count));  // not less than n, which is few here, or of what T does not load
  float* end = stage;
  for (int64_t left = rows;;) {
    end = StageRows(norm.x, offset, tile.count, n, end);
    if ((left -= n) == 0) return {{stage, SIMDNORM_F32}, tile.count};
    n = cursor.Next(left, &sample, &row);
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

// Asks for a line of memory to be in L2. (Highway's Prefetch is into L1.)
HWY_INLINE void PrefetchLine(const void* line) { __builtin_prefetch(line, /*to write*/ 0, /*locality*/ 2); }

// Asks for rows that lie `stride` bytes apart before they are read, some lines at a time, in their order: many at once would be
// more than a processor waits for. Not inline, as there are many kinds of loops that read them.
class RowsAhead {
 public:
  RowsAhead(int64_t stride, int64_t row_bytes) : stride_(stride), row_bytes_(row_bytes) {}

  // From now on for `rows` rows from `row` on, in `parts` parts.
  HWY_NOINLINE void Begin(const void* row, int64_t rows, int64_t parts) {
    row_ = static_cast<const unsigned char*>(row), at_ = 0, rows_ = rows, bytes_ = row_bytes_;
    if (stride_ == row_bytes_) bytes_ *= rows_, rows_ = HWY_MIN(rows_, 1);  // one long row
    lines_of_part_ = CeilDiv(rows_ * CeilDiv(bytes_, kLineBytes), parts);
  }

  // The next part.
  HWY_NOINLINE void Ask() {
    for (int64_t left = lines_of_part_ * kLineBytes; left > 0 && rows_ != 0;) {
      const int64_t end = HWY_MIN(at_ + left, bytes_);
      int64_t at = at_;
      for (; at < end; at += kLineBytes) PrefetchLine(row_ + at);
      left -= at - at_, at_ = at;
      if (at >= bytes_) at_ = 0, row_ += stride_, --rows_;
    }
  }

 private:
  int64_t stride_, row_bytes_;
  const unsigned char* row_ = nullptr;
  int64_t at_ = 0, bytes_ = 0, rows_ = 0, lines_of_part_ = 0;  // at_ and bytes_: in a row, or all of them
};

// Asks for a row at once. Not inline, for the same reason.
HWY_NOINLINE inline void PrefetchRow(const void* row, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += kLineBytes) PrefetchLine(static_cast<const unsigned char*>(row) + i);
  // A compiler that sees nothing but prefetches takes calls for such as do nothing, and leaves them out.
  __asm__ volatile("");
}

// Adds rows to the moments of the tile's strips, and asks for what is ahead, if that is not null, with every whole one. Not
// inline, since there is one for each dtype.
template <bool kCentred, class TX, class T>
HWY_NOINLINE void AddRows(const TX* x, int64_t stride, const Tile& tile, int64_t before, int64_t count,
                          const TilePivots<T>& pivots, LaneMoments<T>* strips, RowsAhead* ahead) {
  const StripTag<T> d;
  const size_t seen = static_cast<size_t>(before), rows = static_cast<size_t>(count);
  int64_t s = 0;
  for (; s < tile.count / kItems; ++s, x += kItems) {
    if (HWY_UNLIKELY(ahead)) ahead->Ask();
    const PivotsOfLanes<T> of_strip = {pivots.of + s * kItems};
    AddStrips<kCentred, true>(d, x, stride, kStrip, seen, rows, of_strip, strips[s].mean, strips[s].m2);
  }
  if (s == tile.Strips()) return;
  const PivotsOfLanes<T> of_strip = {pivots.of + s * kItems};
  const size_t valid = static_cast<size_t>(tile.Valid(s));
  const auto add = [&](auto whole, auto tag) HWY_ATTR {
    AddStrips<kCentred, decltype(whole)::value>(tag, x, stride, valid, seen, rows, of_strip, strips[s].mean, strips[s].m2);
  };
  if (valid % hn::Lanes(d) == 0) return add(std::true_type(), d);
  // Blocks of 8 channels: whole vectors again, which a cache line holds two of.
  constexpr size_t kHalf = kStrip / 2;
  if constexpr (hn::MaxLanes(d) > kHalf) {
    const hn::CappedTag<T, kHalf> half;
    if (valid == hn::Lanes(half)) return add(std::true_type(), half);
  }
  add(std::false_type(), d);
}

// How a tile's rows are read for their moments: so many at a time; and whether those that follow are asked for beforehand.
struct RowReading {
  int64_t block;
  bool asks_ahead;
};

template <class T>
HWY_INLINE RowReading HowToRead(const ChannelNorm& norm, const Tile& tile) {
  // Few rows at a time, for all strips, so that memory is read in its order; but a page of it, and two blocks at least. Or as
  // many as fit the stage.
  constexpr int64_t kPage = 4096;
  const bool staged = !LoadsFrom<T>(tile, norm.x.dtype), regular = norm.validity.All() && norm.samples == 1;
  // A processor does not see that a page whose lines are read strip by strip is followed by the next: what comes from memory is
  // asked for beforehand, and two pages at least are taken at a time. Measured (AVX2, one thread; two), whole rows: of 256 and
  // 512 bytes 0.53 to 0.57 of the time; 0.6 to 0.65, of 1024 to 1536 bytes 0.49 to 0.71; 0.65 to 0.85, of 2048 bytes 0.69 to
  // 0.79; 0.81 to 0.94. Parts of 1024 bytes 0.85 to 1.04, larger ones would take 0.88 to 1.08, rows of 64 bytes 1.2. Where the
  // caches just do not hold x and y any more (17 to 26 MB, of 32 MiB) 0.6 to 1.2, by what else is in them.
  const int64_t row_bytes = Bytes(norm.x.dtype, tile.count);
  const bool whole_rows = norm.x.stride == tile.count, narrow = row_bytes <= 1024;
  const bool pays = norm.overflows && (narrow || whole_rows);
  const bool asks_ahead = pays && !staged && regular && row_bytes > 2 * kLineBytes;
  // Rows a page apart lie in the same places of L1, which has eight or twelve of them: no more where a line is read in parts.
  // Measured (AVX2): rows of 4096 and 8192 bytes take 0.8 to 0.94 of the time then.
  const bool collide = hn::Lanes(StripTag<T>()) < kStrip && Bytes(norm.x.dtype, norm.x.stride) % kPage == 0;
  const int64_t fit = (asks_ahead ? 2 * kPage : kPage) / row_bytes / kBlockRows * kBlockRows;
  const int64_t block = staged ? RowsOfStage(tile.count) : collide ? kBlockRows : HWY_MAX(2 * kBlockRows, fit);
  return {HWY_MIN(kChunkRows, block), asks_ahead};
}

// Moments of the tile's channels over sections [begin, end) of `count` rows: those of section i and strip s are merged into
// to[(i - begin) * next_section + s], all sections into one if that is 0. Not inline: a large frame.
template <class T, bool kCentred>
HWY_NOINLINE void ChannelMoments(const ChannelNorm& norm, const Tile& tile, int64_t count, const TilePivots<T>& pivots,
                                 int64_t begin, int64_t end, MomentsOf<kItems>* to, int64_t next_section) {
  const RowReading reading = HowToRead<T>(norm, tile);
  RowsAhead rows_ahead(Bytes(norm.x.dtype, norm.x.stride), Bytes(norm.x.dtype, tile.count));
  RowsAhead* const ahead = reading.asks_ahead ? &rows_ahead : nullptr;
  const Sections sections = norm.ChunkSections(count);
  alignas(64) float stage[kTileStage];
  LaneMoments<T> lanes[kTileStrips];
  RowCursor cursor(norm, tile, begin * sections.size * kChunkRows);
  for (int64_t section = begin; section < end; ++section) {
    MomentsOf<kItems> moments[kTileStrips];
    MomentsOf<kItems>* const of_this = to + (section - begin) * next_section;
    MomentsOf<kItems>* const into = sections.size == 1 ? of_this : moments;  // most chunks are a section by themselves
    const int64_t last_chunk = HWY_MIN((section + 1) * sections.size, sections.chunks);
    for (int64_t chunk = section * sections.size; chunk < last_chunk; ++chunk) {
      const int64_t rows = HWY_MIN(kChunkRows, count - chunk * kChunkRows);
      for (int64_t row = 0, n; row < rows; row += n) {
        n = HWY_MIN(reading.block, rows - row);
        const RowValues x = SourceRows<T>(norm, tile, cursor, n, stage);
        if (ahead) {
          const int64_t left = count - chunk * kChunkRows - row - n;
          ahead->Begin(x.first.From(n * x.stride).data, HWY_MIN(reading.block, left), tile.count / kItems);
        }
        if constexpr (sizeof(T) == sizeof(double)) {
          AddRows<kCentred>(static_cast<const float*>(x.first.data), x.stride, tile, row, n, pivots, lanes, ahead);
        } else {
          WithElementType(x.first.dtype, [&](auto element) HWY_ATTR {
            AddRows<kCentred>(static_cast<const decltype(element)*>(x.first.data), x.stride, tile, row, n, pivots, lanes,
                              ahead);
          });
        }
      }
      for (int64_t s = 0; s < tile.Strips(); ++s) {
        MergeMoments(
            into[s], static_cast<double>(rows), tile.Valid(s), [&](int64_t i) { return lanes[s].mean[i]; },
            [&](int64_t i) { return lanes[s].m2[i]; });
      }
    }
    for (int64_t s = 0; into == moments && s < tile.Strips(); ++s) MergeMoments(of_this[s], moments[s], tile.Valid(s));
  }
}

// Gathers moments of the tile's channels, which begin as none, in T; and finds their pivots.
template <class T, bool kCentred>
HWY_INLINE void MomentsOfTile(const ChannelNorm& norm, const Tile& tile, int64_t count, MomentsOf<kItems>* totals,
                              TilePivots<T>& pivots) {
  FindPivots<T, kCentred>(norm, tile, count, pivots);
  ChannelMoments<T, kCentred>(norm, tile, count, pivots, 0, norm.ChunkSections(count).count, totals, 0);
}

// The normalizers of the tile's channels, each by its own statistics, gathered in T. Not inline, for its frame.
template <class T, bool kCentred>
HWY_NOINLINE void NormalizersOfTile(const ChannelNorm& norm, const Tile& tile, int64_t count, Normalizers* normalizers) {
  MomentsOf<kItems> totals[kTileStrips];
  TilePivots<T> pivots;
  MomentsOfTile<T, kCentred>(norm, tile, count, totals, pivots);
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    Finish(totals[s], pivots.of + s * kItems, tile.Valid(s), norm.epsilon, normalizers[s], 0);
  }
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

// The first n items to items first, first + 1, ...
HWY_INLINE void CopyNormalizers(const Normalizers* from, int64_t n, Normalizers* to, int64_t first) {
  for (int64_t i = 0; i < n; ++i) CopyNormalizer(from[i / kItems], i % kItems, to[(first + i) / kItems], (first + i) % kItems);
}

// Takes what was gathered again in double for those channels of a strip that asked for it; the others keep what they have.
HWY_INLINE void TakeMended(const Normalizers& mended, int64_t count, Normalizers& normalizers) {
  for (int64_t i = 0; i < count; ++i) {
    if (normalizers.in_double[i]) CopyNormalizer(mended, i, normalizers, i);
  }
}

// NormalizersOfTile; again in double, strip by strip, where a channel asks for it.
template <bool kCentred>
HWY_NOINLINE void NormalizersOfChannels(const ChannelNorm& norm, const Tile& tile, int64_t count, Normalizers* normalizers) {
  NormalizersOfTile<float, kCentred>(norm, tile, count, normalizers);
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    if (HWY_LIKELY(!normalizers[s].AnyInDouble(tile.Valid(s)))) continue;
    Normalizers mended;
    NormalizersOfTile<double, kCentred>(norm, tile.Strip(s), count, &mended);
    TakeMended(mended, tile.Valid(s), normalizers[s]);
  }
}

// The normalizers of the groups of channels [first, end) of a problem, at most kTile channels or one group, from moments
// gathered in T: those of each group's channels, merged in double in their order. It is to be trusted if those of all its
// channels are, and f32 holds its own.
template <class T>
HWY_NOINLINE void GatherGroups(const ChannelNorm& norm, int64_t outer, int64_t first, int64_t end, int64_t count,
                               Normalizers* normalizers) {
  MomentsOf<kMaxGroupsOfTile> groups;
  bool trusted[kMaxGroupsOfTile];
  const int64_t num_groups = (end - first) / norm.channels_per_group;
  for (int64_t g = 0; g < num_groups; ++g) trusted[g] = true;
  ForEachTile(outer, first, end, [&](const Tile& tile) HWY_ATTR {
    MomentsOf<kItems> totals[kTileStrips];
    TilePivots<T> pivots;
    MomentsOfTile<T, true>(norm, tile, count, totals, pivots);
    double mean[kTile], m2[kTile];
    bool in_double[kTile], any_in_double = false;
    for (int64_t s = 0; s < tile.Strips(); ++s) {
      if (sizeof(T) == sizeof(float)) {
        any_in_double |= FindInDouble(totals[s], tile.Valid(s), norm.epsilon, in_double + s * kItems);
      }
      // Lanes of a ragged strip that are no channels come along, and are not used.
      const double* HWY_RESTRICT of_strip = totals[s].mean;
      for (int64_t i = 0; i < kItems; ++i) {
        mean[s * kItems + i] = static_cast<double>(pivots.of[s * kItems + i]) + of_strip[i];  // from here on without pivot
      }
      memcpy(m2 + s * kItems, totals[s].m2, sizeof(totals[s].m2));
    }
    // All groups' first channels, then all groups' second, ...: those of one group wait for each other. (A group that is larger
    // than a tile is there by itself.)
    const int64_t of_group = HWY_MIN(norm.channels_per_group, tile.count);
    for (int64_t k = 0; k < of_group; ++k) {
      const auto channel = [&](int64_t g) { return g * of_group + k; };
      MergeMoments(
          groups, totals[0].count, num_groups, [&](int64_t g) { return mean[channel(g)]; },
          [&](int64_t g) { return m2[channel(g)]; });
      for (int64_t g = 0; any_in_double && g < num_groups; ++g) trusted[g] &= !in_double[channel(g)];
    }
  });
  for (int64_t g = 0; g < num_groups; ++g) {
    const double pivot = 0;
    const Moments group = {groups.count, {groups.mean[g]}, {groups.m2[g]}};
    Normalizers& strip = normalizers[g / kItems];
    Finish(group, &pivot, 1, norm.epsilon, strip, g % kItems);
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
    Normalizers mended[kMaxGroupsOfTile / kItems];
    GatherGroups<double>(norm, outer, first + g * size, first + next * size, count, mended);
    CopyNormalizers(mended, next - g, normalizers, g);
  }
}

// ---- Writes.

constexpr int64_t kStagedRows = 4;  // of a whole tile, that are staged at a time
static_assert(kStagedRows * kTile >= HWY_MAX(kWriteTile, kGivenTile), "a row of any tile fits the stage");
constexpr int64_t kScaledRows = 8;  // with parameters of their own, at a time

// What becomes of a tile's channels, value by value: ((x - mean) - low) * factor + shift; or, where parameters are by row,
// ((x - mean) * factor + low) * row_scale + row_shift, with the normalizers' rstd and offset in the two. Lanes of a ragged
// strip that are no channels are worked on and not stored: they are 0, so that they are not just anything.
struct TileFactors {
  float *mean, *low, *factor, *scale, *shift;            // of each channel
  float row_scale[kScaledRows], row_shift[kScaledRows];  // of some rows
  bool any_low, all_plain;                               // FactorKinds of all
  bool mixed[kGivenTile / kItems], any_mixed;            // strips where channels are in double or split
};

// Those of a tile of at most kChannels channels, with room for them.
static_assert(kWriteTile <= kGivenTile, "no tile has more channels than `mixed` has room for");
template <int64_t kChannels>
struct FactorsOfTile : TileFactors {
  FactorsOfTile() { mean = of[0], low = of[1], factor = of[2], scale = of[3], shift = of[4]; }
  FactorsOfTile(const FactorsOfTile&) = delete;
  FactorsOfTile& operator=(const FactorsOfTile&) = delete;

 private:
  // With a line between them: else they would lie whole pages apart, in the same places of L1, as rows of 1024 channels do.
  // Measured (AVX2), those: in L2 0.96 to 1 of the time, in L3 0.81 to 0.9.
  alignas(64) float of[5][kChannels + kLineBytes / sizeof(float)];
};

// The number, among all channels, of the tile's first one.
HWY_INLINE int64_t FirstChannel(const ChannelNorm& norm, const Tile& tile) {
  return tile.outer * norm.first_channel_stride + tile.first;
}

// The means, as two floats, and rstd of channels [first, first + n) of the tile: given, or of their items. There is room for
// whole strips; what comes to be behind n is not to be used.
HWY_INLINE void LoadCentres(const ChannelNorm& norm, const Tile& tile, const Normalizers* items, int64_t first, int64_t n,
                            float* HWY_RESTRICT mean, float* HWY_RESTRICT low, double* HWY_RESTRICT rstd) {
  const int64_t of_group = norm.channels_per_group;
  if (!items) {
    const int64_t channel = FirstChannel(norm, tile) + first;
    const float *given_mean = norm.mean + channel, *variance = norm.variance + channel;
    for (int64_t i = 0; i < n; ++i) mean[i] = given_mean[i], low[i] = 0, rstd[i] = GivenRstd(variance[i], norm.epsilon);
  } else if (of_group == 1) {
    const hn::CappedTag<double, kItems> d;
    const FloatTag<decltype(d)> df;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    for (int64_t i = 0; i < n; i += kItems) {
      const Normalizers& strip = items[(first + i) / kItems];
      memcpy(mean + i, strip.mean_high, sizeof(strip.mean_high));
      memcpy(rstd + i, strip.rstd_double, sizeof(strip.rstd_double));
      const int64_t valid = HWY_MIN(kItems, n - i);
      int64_t j = 0;
      for (; j + lanes <= valid; j += lanes) hn::StoreU(LowPartsOfMeans(d, strip, j), df, low + i + j);
      for (; j < valid; ++j) low[i + j] = LowPartOfMean(strip, j);
    }
  } else {
    for (int64_t i = 0; i < n;) {
      const int64_t item = (first + i) / of_group, end = HWY_MIN(n, (item + 1) * of_group - first);
      const Normalizers& of = items[item / kItems];
      const float high_i = of.mean_high[item % kItems], low_i = LowPartOfMean(of, item % kItems);
      const double rstd_i = of.rstd_double[item % kItems];
      for (; i < end; ++i) mean[i] = high_i, low[i] = low_i, rstd[i] = rstd_i;
    }
  }
}

// What normalizes each channel of a strip: `items`' own, or set in `strip`, all of it that WriteMixedStrip uses.
HWY_NOINLINE inline const Normalizers& NormalizersOfStrip(const ChannelNorm& norm, const Tile& tile, const Normalizers* items,
                                                          int64_t s, Normalizers& strip) {
  const int64_t of_group = norm.channels_per_group, first = s * kItems, valid = tile.Valid(s);
  if (items && of_group == 1) return items[s];
  if (!items) {
    const int64_t channel = FirstChannel(norm, tile) + first;
    for (int64_t i = 0; i < valid; ++i) {
      strip.mean[i] = static_cast<double>(norm.mean[channel + i]), strip.in_double[i] = false;
      strip.rstd_double[i] = GivenRstd(norm.variance[channel + i], norm.epsilon);
    }
  }
  for (int64_t i = 0; items && i < valid;) {
    const int64_t item = (first + i) / of_group, j = item % kItems, end = HWY_MIN(valid, (item + 1) * of_group - first);
    const Normalizers& of = items[item / kItems];
    for (; i < end; ++i) {
      strip.mean[i] = of.mean[j], strip.rstd_double[i] = of.rstd_double[j], strip.in_double[i] = of.in_double[j];
    }
  }
  return strip;
}

// By channel. `items` are the normalizers of the tile's channels, or of the groups that they are of, from its first one's on;
// null where statistics are given.
HWY_INLINE void LoadFactorsByChannel(const ChannelNorm& norm, const Tile& tile, const Normalizers* items,
                                     TileFactors& factors) {
  LoadScaleAndShift(norm, FirstChannel(norm, tile), tile.count, factors.scale, factors.shift);
  const bool any_in_double = items && AnyInDouble(items, CeilDiv(tile.count, norm.channels_per_group));
  // Many channels at a time: a strip at a time takes 1.5 times as long.
  constexpr int64_t kAtOnce = kTile;
  alignas(64) double rstd[kAtOnce];
  for (int64_t first = 0; first < tile.count; first += kAtOnce) {
    const int64_t n = HWY_MIN(kAtOnce, tile.count - first);
    float *mean = factors.mean + first, *low = factors.low + first;
    const float* scale = factors.scale + first;
    LoadCentres(norm, tile, items, first, n, mean, low, rstd);
    const FactorKinds kinds = MakeFactors(n, mean, low, rstd, scale, factors.shift + first, factors.factor + first);
    factors.any_low |= kinds.any_low;
    factors.all_plain &= kinds.all_plain;
    factors.any_mixed |= kinds.any_split || any_in_double;
    for (int64_t i = 0; i < n; i += kItems) {
      bool& mixed = factors.mixed[(first + i) / kItems] = false;
      if (HWY_LIKELY(!kinds.any_split && !any_in_double)) continue;
      for (int64_t j = i; j < HWY_MIN(i + kItems, n); ++j) {
        const int64_t item = (first + j) / norm.channels_per_group;
        mixed |= IsSplit(rstd[j], scale[j]) || (any_in_double && items[item / kItems].in_double[item % kItems]);
      }
    }
  }
}

// Where scale and shift are by row; there are no groups then.
HWY_INLINE void LoadFactorsByRow(const Tile& tile, const Normalizers* normalizers, TileFactors& factors) {
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    const int64_t first = s * kItems;
    const Normalizers& strip = normalizers[s];
    memcpy(factors.mean + first, strip.mean_high, sizeof(strip.mean_high));
    memcpy(factors.factor + first, strip.rstd, sizeof(strip.rstd));
    memcpy(factors.low + first, strip.offset, sizeof(strip.offset));
    factors.mixed[s] = strip.AnyInDouble(tile.Valid(s));
    factors.any_mixed |= factors.mixed[s];
  }
}

HWY_INLINE void LoadFactors(const ChannelNorm& norm, const Tile& tile, const Normalizers* items, TileFactors& factors) {
  factors.any_mixed = factors.any_low = false;
  factors.all_plain = !norm.parameters_by_row;
  if (norm.parameters_by_row) {
    LoadFactorsByRow(tile, items, factors);
  } else {
    LoadFactorsByChannel(norm, tile, items, factors);
  }
  for (int64_t c = tile.count; c < tile.Strips() * kItems; ++c) {
    factors.mean[c] = factors.low[c] = factors.factor[c] = factors.shift[c] = 0;
  }
}

// Channels [first, end) of a tile in `rows` rows, from x to y, where those channels begin. Goes along the rows, as they lie in
// memory, and whole cache lines are stored at once. kLow: some of the means have a low part. kNumbers: no result is NaN. With
// `asks_ahead` asks for the next row: where tiles are parts of rows that come from memory. (Measured: training, 768 to 2048
// channels, f32 0.71 to 0.94 of the time, bf16 0.85 to 0.97. In the loop over a row it would cost rows in the caches 5 to
// 12 %.)
template <bool kLow, bool kNumbers, class TX, class TY>
HWY_NOINLINE void WriteChannelRowsOf(const TX* x, int64_t x_stride, TY* y, int64_t y_stride, int64_t rows, int64_t first,
                                     int64_t end, const TileFactors& factors, bool streams, bool asks_ahead) {
  const StripTag<float> d;
  const float *mean = factors.mean + first, *low = factors.low + first;
  const float *factor = factors.factor + first, *shift = factors.shift + first;
  for (int64_t row = 0; row < rows; ++row, x += x_stride, y += y_stride) {
    if (kWritesNarrow && HWY_UNLIKELY(asks_ahead)) PrefetchRow(x + x_stride, static_cast<int64_t>(sizeof(*x)) * (end - first));
    WriteRunByChannel<kLow, kNumbers>(d, x, y, end - first, mean, low, factor, shift, streams);
  }
}

// Calls write(low, numbers), two constants: for WriteChannelRowsOf and WriteRecurringOf, to elements of type TY.
template <class TY, class Write>
HWY_INLINE void WithKinds(const TileFactors& factors, bool numbers, const Write& write) {
  using LooksAhead = std::bool_constant<kLooksAheadForNaN<float, TY>>;
  if (LooksAhead::value && numbers) {
    return factors.any_low ? write(std::true_type(), LooksAhead()) : write(std::false_type(), LooksAhead());
  }
  factors.any_low ? write(std::true_type(), std::false_type()) : write(std::false_type(), std::false_type());
}

template <class TX, class TY>
HWY_INLINE void WriteChannelRows(const TX* x, int64_t x_stride, TY* y, int64_t y_stride, int64_t rows, int64_t first,
                                 int64_t end, const TileFactors& factors, bool numbers, bool streams, bool asks_ahead) {
  WithKinds<TY>(factors, numbers, [=, &factors](auto low, auto all_numbers) HWY_ATTR {
    WriteChannelRowsOf<decltype(low)::value, decltype(all_numbers)::value>(x, x_stride, y, y_stride, rows, first, end, factors,
                                                                           streams, asks_ahead);
  });
}

// The same with parameters by row.
template <bool kCentred>
HWY_NOINLINE void WriteRowsByRow(const float* x, int64_t x_stride, float* y, int64_t y_stride, int64_t rows, int64_t first,
                                 int64_t end, const TileFactors& factors, const float* row_scale, const float* row_shift) {
  const StripTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const float *mean = factors.mean + first, *rstd = factors.factor + first, *offset = factors.low + first;
  for (int64_t row = 0; row < rows; ++row, x += x_stride, y += y_stride) {
    const V scale = hn::Set(d, row_scale[row]), shift = hn::Set(d, row_shift[row]);
    WriteRun<false>(d, x, y, end - first, false, [&](V v, int64_t i, auto /*lanes*/) HWY_ATTR {
      const V rstd_v = hn::LoadU(d, rstd + i);
      if constexpr (kCentred) {
        v = hn::MulAdd(hn::Sub(v, hn::LoadU(d, mean + i)), rstd_v, hn::LoadU(d, offset + i));
      } else {
        v = hn::Mul(v, rstd_v);
      }
      return hn::MulAdd(v, scale, shift);
    });
  }
}

// Channels [first, end) of `rows` rows, from x to y, where those channels begin. Parameters by row are those of the tile's rows
// from `row` on.
template <bool kCentred>
HWY_INLINE void WriteRowsInFloat(const float* x, int64_t x_stride, float* y, int64_t y_stride, int64_t row, int64_t rows,
                                 int64_t first, int64_t end, const TileFactors& factors, bool by_row) {
  if (by_row) {
    WriteRowsByRow<kCentred>(x, x_stride, y, y_stride, rows, first, end, factors, factors.row_scale + row,
                             factors.row_shift + row);
  } else if constexpr (kCentred) {  // mean squares come with parameters by row
    WriteChannelRows(x, x_stride, y, y_stride, rows, first, end, factors, false, false, false);
  }
}

// Rows of a strip that is mixed, which begins at x and y: both ways, and each channel takes its own.
template <bool kCentred>
HWY_NOINLINE void WriteMixedStrip(const float* x, int64_t x_stride, float* y, int64_t y_stride, int64_t rows, int64_t first,
                                  int64_t valid, const Normalizers& normalizers, const TileFactors& factors, bool by_row) {
  const StripTag<double> d;
  using V = hn::Vec<decltype(d)>;
  bool in_double[kItems], any_in_float = false;
  for (int64_t i = 0; i < valid; ++i) {
    in_double[i] = normalizers.in_double[i] || (!by_row && IsSplit(normalizers.rstd_double[i], factors.scale[first + i]));
    any_in_float |= !in_double[i];
  }
  alignas(64) float in_float[kItems] = {};
  alignas(64) double scale[kItems] = {}, shift[kItems] = {};
  for (int64_t row = 0; row < rows; ++row, x += x_stride, y += y_stride) {
    // f32's arithmetic on what it cannot hold may be slow as well as wrong.
    if (any_in_float) WriteRowsInFloat<kCentred>(x, 0, in_float, 0, row, 1, first, first + valid, factors, by_row);
    for (int64_t i = 0; i < valid; ++i) {
      scale[i] = static_cast<double>(by_row ? factors.row_scale[row] : factors.scale[first + i]);
      shift[i] = static_cast<double>(by_row ? factors.row_shift[row] : factors.shift[first + i]);
    }
    alignas(64) float wide[kStrip];
    for (size_t l = 0; l < static_cast<size_t>(valid); l += hn::Lanes(d)) {
      const size_t n = HWY_MIN(hn::Lanes(d), static_cast<size_t>(valid) - l);
      V v = LoadFirst(d, x + l, n);
      if constexpr (kCentred) v = hn::Sub(v, hn::Load(d, normalizers.mean + l));
      v = hn::MulAdd(v, hn::Load(d, normalizers.rstd_double + l), hn::Zero(d));
      StoreFirst(hn::MulAdd(v, hn::Load(d, scale + l), hn::Load(d, shift + l)), d, wide + l, n);
    }
    for (int64_t i = 0; i < valid; ++i) y[i] = in_double[i] ? wide[i] : in_float[i];
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

// Rows of the tile where something comes between x and y: what is not f32, channels in double, parameters by row, or what
// FinishRows does.
template <bool kCentred>
HWY_NOINLINE void WriteStagedRows(const ChannelNorm& norm, const Tile& tile, int64_t sample, int64_t row, int64_t rows,
                                  const Normalizers* items, TileFactors& factors) {
  alignas(64) float source[kStagedRows * kTile], results[kStagedRows * kTile];
  const bool by_row = norm.parameters_by_row, at_x = norm.x.dtype == SIMDNORM_F32;
  const bool at_y = norm.y.dtype == SIMDNORM_F32 && !norm.residual;
  const int64_t x_stride = at_x ? norm.x.stride : tile.count, y_stride = at_y ? norm.y.stride : tile.count;
  const int64_t first_of_rows = norm.rows_per_scale == 0 ? 0 : tile.outer / norm.rows_per_scale * norm.scale_stride;
  const int64_t fit = kStagedRows * kTile / tile.count, scaled = at_x && at_y ? kScaledRows : HWY_MIN(fit, kScaledRows);
  const int64_t rows_at_once = by_row ? scaled : fit;
  for (const int64_t end = row + rows; row < end; row += rows_at_once) {
    const int64_t n = HWY_MIN(rows_at_once, end - row), x_offset = RowOffset(norm.x, tile, sample, row);
    if (!at_x) StageRows(norm.x, x_offset, tile.count, n, source);
    const float* x = at_x ? static_cast<const float*>(norm.x.data) + x_offset : source;
    float* y = at_y ? static_cast<float*>(norm.y.data) + RowOffset(norm.y, tile, sample, row) : results;
    const auto write = [&](int64_t first, int64_t last) {
      WriteRowsInFloat<kCentred>(x + first, x_stride, y + first, y_stride, 0, n, first, last, factors, by_row);
    };
    if (by_row) LoadScaleAndShift(norm, first_of_rows + row, n, factors.row_scale, factors.row_shift);
    if (HWY_LIKELY(!factors.any_mixed)) {
      write(0, tile.count);
    } else {
      for (int64_t s = 0; s < tile.Strips(); ++s) {
        const int64_t first = s * kItems, valid = tile.Valid(s);
        if (factors.mixed[s]) {
          Normalizers room = {};
          WriteMixedStrip<kCentred>(x + first, x_stride, y + first, y_stride, n, first, valid,
                                    NormalizersOfStrip(norm, tile, items, s, room), factors, by_row);
        } else {
          write(first, first + valid);
        }
      }
    }
    if (!at_y || !norm.Bare()) FinishRows(norm, tile, sample, row, n, y, y_stride);
  }
}

// Where a tile's channels are all that a row has, rows lie side by side.
HWY_INLINE bool RowsAreAdjacent(const ChannelNorm& norm, const Tile& tile) {
  return norm.x.stride == tile.count && norm.y.stride == tile.count;
}

// Such rows are taken as rows of more channels. -> how many: to whole strips, and to some 256 channels, since every row has its
// beginning and its end; from memory to 64, where that does not count. Measured (AVX2), in the caches: rows of 24 to 64
// channels 0.82 to 0.98 of the time that they take by 64; a few rows 1.02.
HWY_INLINE int64_t RowsSideBySide(const ChannelNorm& norm, const Tile& tile) {
  const int64_t enough = norm.overflows ? 64 : 256;
  if (!RowsAreAdjacent(norm, tile)) return 1;
  int64_t rows = 1;
  while (rows * tile.count % kItems != 0 || rows * tile.count < enough) rows *= 2;
  return rows * tile.count <= kTile ? rows : 1;
}

// If a vector or two hold whole rows, they are a run of elements instead, and every two vectors have the same factors.
HWY_INLINE bool FactorsRecur(const ChannelNorm& norm, const Tile& tile) {
  return RowsAreAdjacent(norm, tile) && 2 * static_cast<int64_t>(hn::Lanes(StripTag<float>())) % tile.count == 0;
}

// Writes such a run, of `rows` rows of `count` channels: by the factors at the beginning of the tile, and where two vectors
// hold a row, so that the run is whole pairs of them, by the next for the second. With `streams` past the caches, where y
// begins with a cache line.
template <bool kLow, bool kNumbers, class D, class TX, class TY>
HWY_NOINLINE void WriteRecurringOf(D d, const TX* x, TY* y, int64_t rows, int64_t count, const TileFactors& factors,
                                   bool streams) {
  using V = hn::Vec<D>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), next = count > lanes ? lanes : 0;
  const V mean0 = hn::Load(d, factors.mean), mean1 = hn::Load(d, factors.mean + next);
  const V low0 = hn::Load(d, factors.low), low1 = hn::Load(d, factors.low + next);
  const V factor0 = hn::Load(d, factors.factor), factor1 = hn::Load(d, factors.factor + next);
  const V shift0 = hn::Load(d, factors.shift), shift1 = hn::Load(d, factors.shift + next);
  streams &= ElementsToLine(y) == 0;
  WriteRun<kNumbers>(d, x, y, rows * count, streams, [&](V v, int64_t /*i*/, auto place) HWY_ATTR {
    constexpr bool kSecond = std::is_same_v<decltype(place), SecondOfPair>;
    return NormalizeByChannel<kLow>(d, v, kSecond ? mean1 : mean0, kSecond ? low1 : low0, kSecond ? factor1 : factor0,
                                    kSecond ? shift1 : shift0);
  });
}
template <class D, class TX, class TY>
HWY_INLINE void WriteRecurring(D d, const TX* x, TY* y, int64_t rows, int64_t count, const TileFactors& factors, bool numbers,
                               bool streams) {
  // Worth their code for 16 bits alone, and not on old processors.
  constexpr bool kOneKind = !kWritesNarrow || !std::is_same_v<TX, TY> || std::is_same_v<TY, float>;
  if constexpr (kOneKind) return WriteRecurringOf<true, false>(d, x, y, rows, count, factors, streams);
  WithKinds<TY>(factors, numbers, [=, &factors](auto low, auto all_numbers) HWY_ATTR {
    WriteRecurringOf<decltype(low)::value, decltype(all_numbers)::value>(d, x, y, rows, count, factors, streams);
  });
}

// Factors of `rows` rows side by side, a power of two.
HWY_INLINE void RepeatFactors(int64_t count, int64_t rows, TileFactors& factors) {
  for (float* factor : {factors.mean, factors.low, factors.factor, factors.shift}) {
    for (int64_t n = count; n < count * rows; n *= 2) memcpy(factor + n, factor, static_cast<size_t>(n) * sizeof(float));
  }
}

// Rows [begin, end) of the tile's channels, counted through all samples. `factors` has room for the tile's.
template <bool kCentred>
HWY_NOINLINE void WriteRows(const ChannelNorm& norm, const Tile& tile, int64_t begin, int64_t end, const Normalizers* items,
                            TileFactors& factors) {
  LoadFactors(norm, tile, items, factors);
  const bool plain = !norm.parameters_by_row && norm.Bare() && !factors.any_mixed &&
                     WritesFrom<float>(norm.x.dtype, norm.y.dtype) && MovesUnstaged(tile, norm.x.dtype) &&
                     MovesUnstaged(tile, norm.y.dtype);
  // Statistics of their own are finite only if all values are numbers that their arithmetic in f32 does not make Inf of.
  const bool numbers = norm.mean == nullptr && factors.all_plain;
  const bool recur = plain && FactorsRecur(norm, tile);
  const int64_t of_vector = HWY_MAX(1, static_cast<int64_t>(hn::Lanes(StripTag<float>())) / tile.count);
  const int64_t side_by_side = recur ? of_vector : plain ? RowsSideBySide(norm, tile) : 1;
  if (side_by_side != 1) RepeatFactors(tile.count, side_by_side, factors);
  // The channels that fill up a block are its last tile's.
  const int64_t filling = tile.first + tile.count == norm.Channels(tile.outer) ? norm.channels - (tile.first + tile.count) : 0;

  int64_t sample = begin / norm.rows, row = begin % norm.rows, left = end - begin;
  for (int64_t n; left > 0; left -= n, row += n) {
    if (row == norm.rows) row = 0, ++sample;
    bool valid;
    n = norm.validity.RunEnd(SampleOf(norm, tile, sample), row, HWY_MIN(norm.rows, row + left), &valid) - row;
    if (!valid) {
      if (norm.validity.padding == SIMDNORM_PADDING_ZERO) ZeroRows(norm, tile, 0, tile.count + filling, sample, row, n);
      continue;
    }
    if (HWY_LIKELY(kCentred && plain)) {
      const Span x = {norm.x.At(RowOffset(norm.x, tile, sample, row)), norm.x.dtype};
      void* y = norm.y.At(RowOffset(norm.y, tile, sample, row));
      WithElements<float>(x, y, norm.y.dtype, [&](auto d, const auto* from, auto* to) HWY_ATTR {
        if (recur) return WriteRecurring(d, from, to, n, tile.count, factors, numbers, norm.streams);
        const auto write = [&](int64_t first, int64_t rows, int64_t together) {
          const int64_t x_stride = together * norm.x.stride, y_stride = together * norm.y.stride;
          auto* const first_to = to + first * norm.y.stride;
          const bool streams = norm.streams && IsWholeLines(first_to, y_stride * static_cast<int64_t>(sizeof(*to)));
          WriteChannelRows(from + first * norm.x.stride, x_stride, first_to, y_stride, rows, 0, together * tile.count, factors,
                           numbers, streams, norm.overflows && tile.count < norm.x.stride);
        };
        const int64_t left_over = n % side_by_side;
        if (n != left_over) write(0, n / side_by_side, side_by_side);
        if (left_over != 0) write(n - left_over, 1, left_over);
      });
    } else {
      WriteStagedRows<kCentred>(norm, tile, sample, row, n, items, factors);
    }
    if (filling != 0) ZeroRows(norm, tile, tile.count, filling, sample, row, n);
  }
}

// All rows of a tile with statistics of its own. Not inline: a large frame.
HWY_NOINLINE inline void WriteOwnRows(const ChannelNorm& norm, const Tile& tile, const Normalizers* items) {
  FactorsOfTile<kTile> factors;
  WriteRows<true>(norm, tile, 0, norm.Rows(), items, factors);
}

HWY_INLINE void SaveTile(const ChannelNorm& norm, const Tile& tile, int64_t items, int64_t first, int64_t count,
                         const Normalizers* normalizers) {
  first += tile.outer * norm.first_statistic_stride;
  for (int64_t i = 0; i < items; i += kItems) {
    SaveStatistics(norm.outputs, first + i, HWY_MIN(kItems, items - i), count, normalizers[i / kItems]);
  }
}

// ---- Kernels.

// The normalizers of a tile's channels, by statistics of their own; and hands these out.
template <bool kCentred>
HWY_INLINE void OwnNormalizers(const ChannelNorm& norm, const Tile& tile, Normalizers* normalizers) {
  const int64_t count = CountRows(norm, tile);
  if (count == 0) {
    for (int64_t s = 0; s < tile.Strips(); ++s) normalizers[s] = NoValues();
  } else {
    NormalizersOfChannels<kCentred>(norm, tile, count, normalizers);
  }
  SaveTile(norm, tile, tile.count, tile.first, count, normalizers);
}

// The normalizers of the groups of channels [first, end), at most kTile channels or one group; and hands out their statistics.
HWY_INLINE void GroupNormalizers(const ChannelNorm& norm, int64_t outer, int64_t first, int64_t end, Normalizers* of_groups) {
  const Tile all = {outer, first, end - first};
  const int64_t count = CountRows(norm, all), num_groups = all.count / norm.channels_per_group;
  if (count == 0) {
    for (int64_t g = 0; g < num_groups; g += kItems) of_groups[g / kItems] = NoValues();
  } else {
    NormalizersOfGroups(norm, outer, first, end, count, of_groups);
  }
  SaveTile(norm, all, num_groups, first / norm.channels_per_group, count * norm.channels_per_group, of_groups);
}

// Calls visit(outer, first, last) with the channels of units [begin, end), problem by problem. Units are UnitChannels(norm)
// channels, all of their rows; those of the first problem, of the second, ...
template <class Visit>
HWY_INLINE void ForEachProblem(const ChannelNorm& norm, int64_t begin, int64_t end, const Visit& visit) {
  const int64_t unit_channels = UnitChannels(norm), units = UnitsPerOuter(norm);
  for (int64_t unit = begin, next; unit < end; unit = next) {
    const int64_t outer = unit / units, first_unit = outer * units;
    next = HWY_MIN(end, first_unit + units);
    visit(outer, (unit - first_unit) * unit_channels, HWY_MIN((next - first_unit) * unit_channels, norm.Channels(outer)));
  }
}

// Units [begin, end), channels by statistics of their own. Not inline, nor the next: clang adds up frames. Problems may be many
// and small, and frames of many pages take their time: there is one for all of them.
template <bool kCentred>
HWY_NOINLINE void NormalizeTiles(const ChannelNorm& norm, int64_t begin, int64_t end) {
  Normalizers normalizers[kTileStrips];
  FactorsOfTile<kTile> factors;
  ForEachProblem(norm, begin, end, [&](int64_t outer, int64_t first, int64_t last) HWY_ATTR {
    ForEachTile(outer, first, last, [&](const Tile& tile) HWY_ATTR {
      OwnNormalizers<kCentred>(norm, tile, normalizers);
      WriteRows<kCentred>(norm, tile, 0, norm.Rows(), normalizers, factors);
    });
  });
}

// Channels [first, end) of a problem, whole groups, by statistics of their groups.
HWY_NOINLINE inline void NormalizeGroups(const ChannelNorm& norm, int64_t outer, int64_t first, int64_t end) {
  // Whole groups that fit a tile, or a group of more than one.
  const int64_t step = HWY_MAX(1, kTile / norm.channels_per_group) * norm.channels_per_group;
  for (int64_t begin = first; begin < end; begin += step) {
    const int64_t last = HWY_MIN(end, begin + step);
    Normalizers of_groups[kMaxGroupsOfTile / kItems];
    GroupNormalizers(norm, outer, begin, last, of_groups);
    ForEachTile(outer, begin, last, [&](const Tile& tile) HWY_ATTR { WriteOwnRows(norm, tile, of_groups); });
  }
}

// Kernel of a ChannelNorm.
template <bool kCentred>
void NormalizeChannels(const void* args, int64_t begin, int64_t end) {
  const ChannelNorm& norm = *static_cast<const ChannelNorm*>(args);
  const StreamFence fence(norm.streams);
  if (norm.channels_per_group == 1) {
    NormalizeTiles<kCentred>(norm, begin, end);
  } else if constexpr (kCentred) {
    ForEachProblem(norm, begin, end,
                   [&](int64_t outer, int64_t first, int64_t last) HWY_ATTR { NormalizeGroups(norm, outer, first, last); });
  }
}

HWY_INLINE Tile TileOf(const SharedChannels& shared) { return {0, shared.first, shared.count}; }

// Gathers sections [begin, end) of the rows of a tile that begins at a strip of those that are shared.
template <class T, bool kCentred>
HWY_INLINE void GatherShared(const SharedChannels& shared, const Tile& tile, int64_t first_strip, int64_t begin, int64_t end) {
  const ChannelNorm& norm = *shared.norm;
  const int64_t strips = TileOf(shared).Strips();
  TilePivots<T> pivots;
  FindPivots<T, kCentred>(norm, tile, norm.Rows(), pivots);
  MomentsOf<kItems>* const to = shared.moments + (begin - shared.first_section) * strips + first_strip;
  for (int64_t section = 0; section < end - begin; ++section) {
    for (int64_t s = 0; s < tile.Strips(); ++s) to[section * strips + s].count = 0;
  }
  ChannelMoments<T, kCentred>(norm, tile, norm.Rows(), pivots, begin, end, to, strips);
}

// Kernel of a SharedChannels: unit u is section first_section + u of the rows.
template <bool kCentred>
void SharedChannelMoments(const void* args, int64_t begin, int64_t end) {
  const SharedChannels& shared = *static_cast<const SharedChannels*>(args);
  const Tile tile = TileOf(shared);
  begin += shared.first_section, end += shared.first_section;
  if (!shared.in_double) return GatherShared<float, kCentred>(shared, tile, 0, begin, end);
  for (int64_t s = 0; s < tile.Strips(); ++s) {
    if (shared.normalizers[s].AnyInDouble(tile.Valid(s))) GatherShared<double, kCentred>(shared, tile.Strip(s), s, begin, end);
  }
}

// Kernel of a SharedChannels, one unit: moments become totals and, after the last section, normalizers.
template <bool kCentred>
void SharedChannelFinish(const void* args, int64_t /*begin*/, int64_t /*end*/) {
  const SharedChannels& shared = *static_cast<const SharedChannels*>(args);
  const ChannelNorm& norm = *shared.norm;
  const Tile tile = TileOf(shared);
  const int64_t strips = tile.Strips();
  const bool last = shared.first_section + shared.num_sections == norm.ChunkSections(norm.Rows()).count;
  TilePivots<float> pivots;
  if (last) FindPivots<float, kCentred>(norm, tile, norm.Rows(), pivots);
  for (int64_t s = 0; s < strips; ++s) {
    if (shared.in_double && !shared.normalizers[s].AnyInDouble(tile.Valid(s))) continue;
    MomentsOf<kItems>& total = shared.totals[s];
    for (int64_t i = 0; i < shared.num_sections; ++i) MergeMoments(total, shared.moments[i * strips + s], tile.Valid(s));
    if (!last) continue;
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
  const Tile tile = TileOf(shared);
  SaveTile(*shared.norm, tile, tile.count, tile.first, shared.norm->Rows(), shared.normalizers);
}

// The normalizers of whole groups of channels [first, end) among those that are shared; and hands out their statistics. Not
// inline: a large frame.
HWY_NOINLINE inline void NormalizersOfSharedGroups(const SharedChannels& shared, int64_t first, int64_t end) {
  const ChannelNorm& norm = *shared.norm;
  Normalizers of_groups[kMaxGroupsOfTile / kItems];
  GroupNormalizers(norm, 0, first, end, of_groups);
  const int64_t of_group = norm.channels_per_group;
  CopyNormalizers(of_groups, (end - first) / of_group, shared.normalizers, (first - shared.first) / of_group);
}

// Kernel of a SharedChannels: units are UnitChannels(norm) channels; finds their normalizers and hands out their statistics.
template <bool kCentred>
void SharedChannelNormalizers(const void* args, int64_t begin, int64_t end) {
  const SharedChannels& shared = *static_cast<const SharedChannels*>(args);
  const ChannelNorm& norm = *shared.norm;
  const int64_t unit = UnitChannels(norm), first = shared.first + begin * unit;
  const int64_t last = shared.first + HWY_MIN(end * unit, shared.count);
  if (norm.channels_per_group == 1) {
    ForEachTile(0, first, last, [&](const Tile& tile) HWY_ATTR {
      OwnNormalizers<kCentred>(norm, tile, shared.normalizers + (tile.first - shared.first) / kItems);
    });
  } else if constexpr (kCentred) {
    NormalizersOfSharedGroups(shared, first, last);  // which are a tile at the most
  }
}

// Kernel of a SharedChannels: units are rows.
template <bool kCentred>
void SharedChannelWrite(const void* args, int64_t begin, int64_t end) {
  const SharedChannels& shared = *static_cast<const SharedChannels*>(args);
  const StreamFence fence(shared.norm->streams);
  const Tile tile = TileOf(shared);
  FactorsOfTile<kWriteTile> factors;
  WriteRows<kCentred>(*shared.norm, tile, begin, end, shared.normalizers, factors);
}

// Kernel of a ChannelNorm with given statistics: units are the tiles of the first problem's first row, of its second, ...
inline void NormalizeRowsOfChannels(const void* args, int64_t begin, int64_t end) {
  const ChannelNorm& norm = *static_cast<const ChannelNorm*>(args);
  const StreamFence fence(norm.streams);
  const int64_t tiles = norm.GivenTilesPerOuter(), size = norm.GivenTile(), rows = norm.Rows();
  FactorsOfTile<kGivenTile> factors;
  for (int64_t unit = begin; unit < end;) {
    const int64_t outer = unit / tiles / rows, row = unit / tiles % rows, first = unit % tiles;
    // As many rows as are whole in the range; or what there is of one.
    int64_t count = first == 0 ? HWY_MIN((end - unit) / tiles, rows - row) : 0, last = tiles;
    if (count == 0) count = 1, last = HWY_MIN(tiles, first + end - unit);
    ForEachTile(
        outer, first * size, HWY_MIN(last * size, norm.Channels(outer)),
        [&](const Tile& tile) HWY_ATTR { WriteRows<true>(norm, tile, row, row + count, nullptr, factors); }, size);
    unit += count * (last - first);
  }
}

template <bool kCentred>
constexpr ChannelKernels kChannelKernels = {
    NormalizeChannels<kCentred>,   NormalizeRowsOfChannels, SharedChannelNormalizers<kCentred>, SharedChannelMoments<kCentred>,
    SharedChannelFinish<kCentred>, SharedChannelSave,       SharedChannelWrite<kCentred>};

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_CHANNELS_INL_H_
