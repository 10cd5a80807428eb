// Kernels over runs of adjacent elements: sequences normalized by their own statistics (rows of layer and RMS norm; groups of
// group norm and channels of batch norm in NCHW), and planes normalized by given ones (batch norm inference in NCHW).
//
// A kernel reads top to bottom: moments of up to 16 sequences, their normalizers, then the writes. So the steps in which one
// sequence waits for itself (merging lanes, square root, division) run for 16 at a time, while x is still in the cache.
// Rows of f32 that the caches hold go in turn instead, where a vector or two hold a strip: one is written while the next one's
// moments are gathered.
//
// Arithmetic is in f32. What is plain is read and written where it lies, f32 or 16 bits (write_run-inl.h); anything else passes
// through small buffers (stage-inl.h).
#if defined(SIMDNORM_LIB_SIMD_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIMDNORM_LIB_SIMD_ROWS_INL_H_
#undef SIMDNORM_LIB_SIMD_ROWS_INL_H_
#else
#define SIMDNORM_LIB_SIMD_ROWS_INL_H_
#endif

#include "compaction.h"
#include "sequences.h"
#include "simd/cut-inl.h"
#include "simd/moments-inl.h"
#include "simd/source-inl.h"
#include "simd/stage-inl.h"
#include "simd/write_run-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

// ---- Statistics.

// Calls visit(plane, planes, start, length) for chunks [begin, end) of a sequence: elements [start, start + length) of `planes`
// planes from `plane` on.
template <class Visit>
HWY_INLINE void ForEachChunk(const SequenceNorm& norm, int64_t begin, int64_t end, const Visit& visit) {
  const int64_t per_plane = norm.ChunksPerPlane(), planes = norm.planes_per_chunk;
  int64_t plane = 0, start = 0;
  if (begin != 0) plane = begin / per_plane * planes, start = begin % per_plane * kChunkElements;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    visit(plane, HWY_MIN(planes, norm.planes - plane), start, HWY_MIN(kChunkElements, norm.length - start));
    start += kChunkElements;
    if (start >= norm.length) plane += planes, start = 0;
  }
}

// Calls visit(plane, first element in the plane, length) for what each plane has of these chunks.
template <class Visit>
HWY_INLINE void ForEachPlane(const SequenceNorm& norm, int64_t begin, int64_t end, const Visit& visit) {
  const int64_t per_plane = norm.ChunksPerPlane(), planes = norm.planes_per_chunk;
  int64_t plane = begin / per_plane * planes, first = begin % per_plane;
  // What is left: chunks, or planes where a chunk is one or more.
  for (int64_t left = per_plane == 1 ? HWY_MIN(end * planes, norm.planes) - plane : end - begin; left > 0; ++plane, first = 0) {
    const int64_t chunks = HWY_MIN(left, per_plane - first), start = first * kChunkElements;
    visit(plane, start, HWY_MIN(chunks * kChunkElements, norm.length - start));
    left -= chunks;
  }
}

// value(plane, start) of a sequence's first, middle and last element, and the pivot of them.
template <class T, bool kCentred, class Value>
HWY_INLINE T SequencePivot(const SequenceNorm& norm, const Value& value) {
  if constexpr (!kCentred) return 0;
  const int64_t middle = norm.Elements() / 2;
  return Pivot<T>(value(0, 0), value(middle / norm.length, middle % norm.length), value(norm.planes - 1, norm.length - 1));
}

// Moments of a run in arithmetic of type T. In double, which is rare, from f32 alone: `stage` has room for that.
template <class T, bool kCentred>
HWY_INLINE void SpanMoments(Span x, int64_t length, T pivot, float* stage, T* mean, T* m2) {
  const StripTag<T> d;
  if constexpr (sizeof(T) == sizeof(double)) {
    if (x.dtype != SIMDNORM_F32) {
      WidenSpan(x.data, x.dtype, stage, length);
      x = {stage, SIMDNORM_F32};
    }
    RunMoments<kCentred>(d, static_cast<const float*>(x.data), 0, length, 1, &pivot, /*own=*/false, mean, m2);
  } else {
    WithElementType(x.dtype, [&](auto element) HWY_ATTR {
      RunMoments<kCentred>(d, static_cast<const decltype(element)*>(x.data), 0, length, 1, &pivot, /*own=*/false, mean, m2);
    });
  }
}

// Moments of sections [begin, end) of a sequence: emit(section, moments), in their order. 16 chunks of a length at a time.
template <class T, bool kCentred, class Emit>
HWY_INLINE void SectionMoments(const SequenceNorm& norm, int64_t sequence, int64_t begin, int64_t end, T pivot,
                               const Emit& emit) {
  const Sections sections = norm.ChunkSections();
  alignas(64) float stage[kStageElements];
  LaneMoments<T, kItems> runs;
  MomentsOf<kItems> of_chunks;
  const int64_t first = begin * sections.size;
  SectionMerger<1> merger(sections, first);
  int64_t pending = 0, pending_length = 0;
  const auto flush = [&]() HWY_ATTR {
    MergeLanes<kCentred>(pending_length, runs, pending, of_chunks);
    for (int64_t i = 0; i < pending; ++i) {
      merger.Add(Moments{of_chunks.count, {of_chunks.mean[i]}, {of_chunks.m2[i]}}, 1, emit);
    }
    pending = 0;
  };
  ForEachChunk(norm, first, HWY_MIN(end * sections.size, sections.chunks),
               [&](int64_t plane, int64_t planes, int64_t start, int64_t length) HWY_ATTR {
                 const int64_t n = planes * length;
                 if (pending == kItems || (pending != 0 && n != pending_length)) flush();
                 pending_length = n;
                 const Span x = ChunkSource(norm, sequence, plane, planes, start, length, stage);
                 const int64_t lane = kItems * pending++;
                 SpanMoments<T, kCentred>(x, n, pivot, stage, runs.mean + lane, runs.m2 + lane);
               });
  flush();
}

template <class T, bool kCentred>
HWY_INLINE T PivotOf(const SequenceNorm& norm, int64_t sequence) {
  return SequencePivot<T, kCentred>(norm,
                                    [&](int64_t plane, int64_t start) { return SourceValue(norm, sequence, plane, start); });
}

// Gathers the moments of a sequence in T, for item i of the normalizers.
template <class T, bool kCentred>
HWY_NOINLINE void NormalizerOfOne(const SequenceNorm& norm, int64_t sequence, Normalizers& normalizers, int64_t i) {
  Moments total = {};
  T pivot = PivotOf<T, kCentred>(norm, sequence);
  SectionMoments<T, kCentred>(norm, sequence, 0, norm.ChunkSections().count, pivot,
                              [&](int64_t /*section*/, const Moments& moments) HWY_ATTR { MergeMoments(total, moments, 1); });
  Finish(total, &pivot, 1, norm.epsilon, normalizers, i);
}

// The lanes' moments of `count` <= 16 runs of at most a chunk, `stride` elements apart, each about its own pivot; with `own`
// pivots are the runs' and made here.
template <bool kCentred>
HWY_INLINE void LanesOfRuns(const Span& first, int64_t stride, int64_t length, int64_t count, float* pivots, bool own,
                            LaneMoments<float, kItems>& runs) {
  WithElementType(first.dtype, [&](auto element) HWY_ATTR {
    RunMoments<kCentred>(StripTag<float>(), static_cast<const decltype(element)*>(first.data), stride, length, count, pivots,
                         own, runs.mean, runs.m2);
  });
}

// Copies n elements, a short run. With calls of memcpy, training of 8x512x7x7 took 1.12 of the time, of bf16 1.02.
template <class TX>
HWY_INLINE void CopyShort(const TX* HWY_RESTRICT from, int64_t n, TX* HWY_RESTRICT to) {
  using Word = hwy::UnsignedFromSize<sizeof(TX)>;
  const hn::CappedTag<Word, 32 / sizeof(TX)> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  if (n < lanes) {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
    return;
  }
  const Word* x = reinterpret_cast<const Word*>(from);
  Word* y = reinterpret_cast<Word*>(to);
  for (int64_t i = 0; i < n - lanes; i += lanes) hn::StoreU(hn::LoadU(d, x + i), d, y + i);
  hn::StoreU(hn::LoadU(d, x + n - lanes), d, y + n - lanes);
}

// LanesOfRuns of neighbouring sequences' planes [plane, plane + planes), which are short and a chunk together, about given
// pivots. They are brought together first, since their strips run on from plane to plane. Not inline: a large frame.
HWY_NOINLINE inline void LanesOfShortPlanes(const View& view, int64_t plane, int64_t planes, int64_t length, int64_t count,
                                            float* pivots, LaneMoments<float, kItems>& runs) {
  constexpr int64_t kAtOnce = 8;  // what L1 holds beside x
  const StripTag<float> d;
  const int64_t n = planes * length;
  WithElementType(view.base.dtype, [&](auto element) HWY_ATTR {
    using TX = decltype(element);
    alignas(64) TX stage[kAtOnce * kJoinedElements];
    for (int64_t first = 0; first < count; first += kAtOnce) {
      const int64_t last = HWY_MIN(count, first + kAtOnce);
      for (int64_t i = first; i < last; ++i) {
        const TX* from = static_cast<const TX*>(view.At(i, plane, 0).data);
        TX* to = stage + (i - first) * n;
        for (int64_t k = 0; k < planes; ++k, from += view.plane_stride, to += length) CopyShort(from, length, to);
      }
      RunMoments<true>(d, stage, n, n, last - first, pivots + first, /*own=*/false, runs.mean + first * kItems,
                       runs.m2 + first * kItems);
    }
  });
}

// The normalizers of `count` <= 16 rows of at most a chunk, `stride` elements apart. -> whether any is in double
template <bool kCentred>
HWY_INLINE bool NormalizersOfRuns(const Span& first, int64_t stride, int64_t length, int64_t count, float epsilon,
                                  Normalizers& normalizers) {
  float pivots[kItems];
  LaneMoments<float, kItems> runs;
  MomentsOf<kItems> moments;
  LanesOfRuns<kCentred>(first, stride, length, count, pivots, /*own=*/true, runs);
  MergeLanes<kCentred>(length, runs, count, moments);
  return Finish(moments, pivots, count, epsilon, normalizers, 0);
}

// The normalizers of `count` <= 16 neighbouring sequences from `first` on, chunk by chunk of all of them, as ForEachChunk has
// them. For sequences that are short enough to stay in the cache together. `cut`, if not null: of each plane a prefix counts
// (Cut::IsOfPrefixes). -> whether any is in double
template <bool kCentred>
HWY_INLINE bool NormalizersOfNeighbours(const SequenceNorm& norm, const View& view, int64_t first, int64_t count, Cut* cut,
                                        Normalizers& normalizers) {
  const Sections sections = cut ? Sections(cut->Chunks()) : norm.ChunkSections();
  if (HWY_LIKELY(norm.planes == 1 && sections.chunks == 1 && !cut)) {
    return NormalizersOfRuns<kCentred>(view.base, view.stride, norm.length, count, norm.epsilon, normalizers);
  }
  float pivots[kItems];
  MomentsOf<kItems> of_chunk, total;
  SectionMerger<kItems> merger(sections);
  for (int64_t i = 0; i < count; ++i) {
    if (cut) cut->Find(first + i);
    pivots[i] = cut ? cut->PivotOf<float>() : SequencePivot<float, kCentred>(norm, [&](int64_t plane, int64_t start) HWY_ATTR {
      return view.At(i, plane, start).First();
    });
  }
  const int64_t planes_per_chunk = cut ? 1 : norm.planes_per_chunk;
  for (int64_t plane = 0; plane < norm.planes; plane += planes_per_chunk) {
    const int64_t planes = HWY_MIN(planes_per_chunk, norm.planes - plane),
                  end = cut ? norm.validity.lengths[plane] : norm.length;
    for (int64_t start = 0; start < end; start += kChunkElements) {
      const int64_t length = HWY_MIN(kChunkElements, end - start);
      LaneMoments<float, kItems> runs;
      if (kCentred && planes != 1) {  // batch norm's alone are several
        LanesOfShortPlanes(view, plane, planes, length, count, pivots, runs);
      } else {
        LanesOfRuns<kCentred>(view.At(0, plane, start), view.stride, length, count, pivots, /*own=*/false, runs);
      }
      MergeLanes<kCentred>(planes * length, runs, count, of_chunk);
      merger.Add(of_chunk, count,
                 [&](int64_t /*section*/, const MomentsOf<kItems>& section) HWY_ATTR { MergeMoments(total, section, count); });
    }
  }
  return Finish(total, pivots, count, norm.epsilon, normalizers, 0);
}

// ---- Writes.
//
// What calls what, from the top:
//   WriteRuns         rows that go from x to y at a stroke, several together: WriteElements (write_run-inl.h)
//   WriteBySample     channels of a batch, several together: WritePlanes, or short planes as one run (SpelledChannels), which
//                     StageShortPlanes does where they do not go at a stroke; else WriteSpan
//   WriteCutPlanes    where not all positions count, stretches of those that do, of several channels: WriteChannels
//   WriteCutSequence  other such sequences: WriteCutSpan, which is WriteChannelsOfPlane or WriteStaged for each stretch
//   WriteSequence     anything, sequence by sequence, in f32 or double: WriteChunks, which is WritePlanes or, for each plane,
//   WriteSpan         WriteElements or WriteChannelsOfPlane where it goes at a stroke, else
//   WriteStaged       a piece at a time: source, ComputePiece (all arithmetic), StorePiece.

// Whether what is written goes from x to y without a stop, by arithmetic of type T.
template <class T>
HWY_INLINE bool GoesAtAStroke(const SequenceNorm& norm) {
  return norm.plain && WritesFrom<T>(norm.x.dtype, norm.y.dtype);
}

// Completes what normalizes `count` <= 16 channels from `channel` on, whose statistics are there.
template <class T>
HWY_INLINE void SetFactors(const SequenceNorm& norm, int64_t channel, int64_t count, ChannelFactors<T>& factors) {
  LoadScaleAndShift(norm, channel, count, factors.scale, factors.shift);
  if constexpr (sizeof(T) == sizeof(float)) {
    factors.kinds = MakeFactors(count, factors.mean, factors.low, factors.rstd, factors.scale, factors.shift, factors.factor);
  }
}

// What normalizes `count` <= 16 channels from `channel` on, all by `centre`.
template <class T>
HWY_INLINE void FactorsOf(const SequenceNorm& norm, int64_t channel, int64_t count, const Centre<T>& centre,
                          ChannelFactors<T>& factors) {
  for (int64_t i = 0; i < count; ++i) factors.SetCentre(i, centre);
  SetFactors(norm, channel, count, factors);
}

// Normalizes n elements from `start` on of a plane, from src to dst, each channel with its own scale and shift.
template <class T>
HWY_NOINLINE void WriteChannelsOfPlane(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t n,
                                       const Span& src, void* dst, simdnorm_dtype dst_dtype, const Centre<T>& centre,
                                       bool streams) {
  int64_t channel = norm.Channel(sequence, plane, start),
          left = norm.planes_are_samples ? n : norm.spatial - start % norm.spatial;
  ChannelFactors<T> factors;
  for (int64_t i = 0; i < n;) {
    // What is left of a channel, or several that are whole.
    const int64_t length = HWY_MIN(n - i, left);
    const int64_t count = left == norm.spatial ? HWY_MAX(1, HWY_MIN(kItems, (n - i) / length)) : 1;
    FactorsOf(norm, channel, count, centre, factors);
    void* to = static_cast<unsigned char*>(dst) + Bytes(dst_dtype, i);
    WithElements<T>(src.From(i), to, dst_dtype, [&](auto d, const auto* x, auto* y) HWY_ATTR {
      WriteChannels(d, x, length, y, length, length, count, factors, 0, 1, !norm.mean, streams);
    });
    i += length * count, channel += count, left = norm.spatial;
  }
}

// Normalizes `count` runs of a channel, or of neighbouring channels, that go from x to y at a stroke: from plane `plane` of a
// sequence on, x_stride and y_stride apart, by the factors from `first` on.
template <class T>
HWY_INLINE void WritePlanes(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t x_stride, int64_t y_stride,
                            int64_t count, const ChannelFactors<T>& factors, int64_t first, int64_t next) {
  const Span x = {norm.At(norm.x, sequence, plane), norm.x.dtype};
  void* y = norm.At(norm.y, sequence, plane);
  WithElements<T>(x, y, norm.y.dtype, [&](auto d, const auto* from, auto* to) HWY_ATTR {
    WriteChannels(d, from, x_stride, to, y_stride, norm.length, count, factors, first, next, !norm.mean, norm.streams);
  });
}

// Spells the channels' factors (in double their scales) and shifts out for each of n elements. -> whether a channel is split,
// and has no factor.
template <class T>
HWY_NOINLINE bool SpellOutChannels(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t n,
                                   double rstd, float* factor, float* shift) {
  int64_t channel = norm.Channel(sequence, plane, start), left = norm.spatial - start % norm.spatial;
  bool any_is_split = false;
  for (int64_t i = 0; i < n; ++channel, left = norm.spatial) {
    const float channel_scale = ParameterAt(norm.scale, norm.scale_dtype, norm.scale_offset, channel, 1);
    const float channel_shift = ParameterAt(norm.shift, norm.scale_dtype, 0, channel, 0);
    const float channel_factor = sizeof(T) == sizeof(double) ? channel_scale : ChannelFactor(rstd, channel_scale);
    any_is_split |= sizeof(T) == sizeof(float) && IsSplit(rstd, channel_scale);
    for (const int64_t end = HWY_MIN(n, i + left); i < end; ++i) factor[i] = channel_factor, shift[i] = channel_shift;
  }
  return any_is_split;
}

// WriteChannelsOfPlane where channels are short, with factors and shifts spelled out.
template <class D, class TX, class TY>
HWY_INLINE void WriteSpelled(D d, const TX* x, TY* y, int64_t n, const Centre<float>& centre, const float* factor,
                             const float* shift, bool streams) {
  using V = hn::Vec<D>;
  const V mean = hn::Set(d, centre.mean), low = hn::Set(d, centre.low);
  WriteRun<false>(d, x, y, n, streams, [&](V v, int64_t i, auto lanes) HWY_ATTR {
    return NormalizeByChannel<true>(d, v, mean, low, LoadLanes(d, factor + i, lanes), LoadLanes(d, shift + i, lanes));
  });
}

// Parameters of a sequence's positions [start, start + n), in f32: where they are, or in the buffers, which have room for n.
HWY_INLINE Parameters ParametersOf(const SequenceNorm& norm, int64_t sequence, int64_t start, int64_t n, float* scale_buffer,
                                   float* shift_buffer) {
  const int64_t element = norm.ScaleSet(sequence) * norm.scale_stride + start;
  return {ParameterSpan(norm.scale, norm.scale_dtype, norm.scale_offset, element, n, scale_buffer),
          ParameterSpan(norm.shift, norm.scale_dtype, 0, element, n, shift_buffer), SIMDNORM_F32, false};
}

// From n <= kPiece values of h to what goes to y but for its dtype. `parameters` are null or those of the sequence from its
// first position on. With `streams` past the caches.
template <class T, bool kCentred>
HWY_NOINLINE void ComputePiece(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t n,
                               const Centre<T>& centre, const Parameters* parameters, const Span& src, void* dst,
                               simdnorm_dtype dst_dtype, bool streams) {
  alignas(64) float scale_buffer[kPiece], shift_buffer[kPiece];
  const auto write_elements = [&](const Parameters& here) HWY_ATTR {
    WithElements<T>(src, dst, dst_dtype, [&](auto d, const auto* x, auto* y) HWY_ATTR {
      WriteElements<kCentred>(d, x, 0, y, 0, n, 1, OneCentre(centre), here, streams);
    });
  };
  if (norm.by_channel) {
    if constexpr (kCentred) {
      if (norm.channel_by_channel ||
          SpellOutChannels<T>(norm, sequence, plane, start, n, centre.rstd_in_double, scale_buffer, shift_buffer)) {
        WriteChannelsOfPlane(norm, sequence, plane, start, n, src, dst, dst_dtype, centre, streams);
      } else if constexpr (sizeof(T) == sizeof(double)) {
        write_elements({scale_buffer, shift_buffer, SIMDNORM_F32, false});
      } else {
        WithElements<T>(src, dst, dst_dtype, [&](auto d, const auto* x, auto* y) HWY_ATTR {
          WriteSpelled(d, x, y, n, centre, scale_buffer, shift_buffer, streams);
        });
      }
    }
  } else if (parameters && (parameters->dtype == SIMDNORM_F32 || parameters->dtype == dst_dtype)) {
    write_elements(parameters->From(start));
  } else {
    write_elements(ParametersOf(norm, sequence, start, n, scale_buffer, shift_buffer));
  }
  if (norm.bare) return;
  const void* residual = norm.AddsAfter() ? norm.At(norm.residual, sequence, plane, start) : nullptr;
  float* results = static_cast<float*>(dst);
  ApplyEpilogue(norm.epilogue, residual, norm.residual.dtype, results, n);
  if (norm.gate) {
    // Scale has been used by now.
    WidenSpan(norm.At(norm.gate, sequence, plane, start), norm.gate.dtype, scale_buffer, n);
    MultiplyBySiLU(scale_buffer, results, n);
  }
}

// Takes n results to y where they count; the others are 0 there, or nothing is written, not even what is there.
template <class Word>
HWY_INLINE void CopyCounting(const uint8_t* mask, const void* results, int64_t n, bool zero, void* y) {
  const Word* from = static_cast<const Word*>(results);
  Word* to = static_cast<Word*>(y);
  int64_t i = 0;
  if (zero) {
    const hn::CappedTag<Word, kStrip> d;
    const hn::Rebind<uint8_t, decltype(d)> d8;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    for (; i + lanes <= n; i += lanes) {
      const auto counts = hn::Ne(hn::PromoteTo(d, hn::LoadU(d8, mask + i)), hn::Zero(d));
      hn::StoreU(hn::IfThenElseZero(counts, hn::LoadU(d, from + i)), d, to + i);
    }
    memset(to + i, 0, static_cast<size_t>(n - i) * sizeof(Word));
  }
  for (; i < n; i += 8) {
    uint8_t last[8] = {};
    if (i + 8 > n) memcpy(last, mask + i, static_cast<size_t>(n - i));
    const Compaction& compaction = CompactionOf(i + 8 > n ? last : mask + i);
    for (int64_t k = 0; k < compaction.count; ++k) {
      const int64_t at = i + compaction.from[k];
      memcpy(to + at, from + at, sizeof(Word));
    }
  }
}

// The same of results, in y's dtype, from `start` on of a plane.
HWY_NOINLINE inline void StoreCounting(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t n,
                                       const void* results) {
  const uint8_t* mask = norm.validity.MaskOf(norm.Sample(sequence, plane)) + start;
  void* y = norm.At(norm.y, sequence, plane, start);
  const bool zero = norm.validity.padding == SIMDNORM_PADDING_ZERO;
  if (norm.y.dtype == SIMDNORM_F32) return CopyCounting<uint32_t>(mask, results, n, zero, y);
  CopyCounting<uint16_t>(mask, results, n, zero, y);
}

// Stores n <= kPiece results from `start` on of a plane at y; by the mask, unless `all` of them count. `values` may be
// overwritten.
HWY_NOINLINE inline void StorePiece(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t n,
                                    bool all, float* values, float quant_scale) {
  if (HWY_LIKELY(all)) {
    return StoreSpan(norm.epilogue, values, n, norm.At(norm.y, sequence, plane, start), norm.y.dtype, quant_scale);
  }
  alignas(64) unsigned char results[kPiece * sizeof(float)];
  StoreSpan(norm.epilogue, values, n, results, norm.y.dtype, quant_scale);
  StoreCounting(norm, sequence, plane, start, n, results);
}

// Stores n values from `start` on of a plane where its h goes.
HWY_INLINE void StoreH(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, const float* values,
                       int64_t n) {
  NarrowSpan(values, norm.At(norm.h, sequence, plane, start), norm.h.dtype, n, norm.streams && norm.HIsWriteOnly());
}

// What does not go from x to y at a stroke: `length` elements from `start` on of a plane. `h` is where they are already, if
// it has data. Stores the results (`all` as in StorePiece, `quant_scale` as in StoreSpan); or with `max_abs` only takes their
// largest magnitude.
template <class T, bool kCentred>
#if HWY_COMPILER_GCC_ACTUAL
__attribute__((noclone))  // gcc would make two of it, one for masks
#endif
HWY_NOINLINE void
WriteStaged(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t length, bool all,
            const Centre<T>& centre, const Parameters* parameters, const Span& h, float quant_scale, uint32_t* max_abs) {
  alignas(64) float source[kPiece], results[kPiece];
  for (int64_t at = start; at < start + length; at += kPiece) {
    const int64_t n = HWY_MIN(kPiece, start + length - at);
    Span src = h.data ? h.From(at - start) : Source(norm, sequence, plane, at, n, source);
    // What goes to h has to be there in f32.
    const simdnorm_dtype from = norm.h ? SIMDNORM_F32 : src.dtype;
    // Results are computed where they belong, if nothing that is read later is overwritten there, and nothing left out.
    const bool at_y =
        all && norm.y_is_write_only && (norm.y.dtype == SIMDNORM_F32 || (norm.bare && WritesFrom<T>(from, norm.y.dtype)));
    void* dst = at_y ? norm.At(norm.y, sequence, plane, at) : results;
    const simdnorm_dtype dst_dtype = at_y ? norm.y.dtype : SIMDNORM_F32;
    if (src.dtype != from || !WritesFrom<T>(from, dst_dtype)) {
      WidenSpan(src.data, src.dtype, source, n);
      src = {source, SIMDNORM_F32};
    }
    const auto store_h = [&] {
      if (norm.h && !max_abs) StoreH(norm, sequence, plane, at, static_cast<const float*>(src.data), n);
    };
    // Before y, where that may lie on x; else after all is read, as h may lie on the residual.
    if (at_y) store_h();
    ComputePiece<T, kCentred>(norm, sequence, plane, at, n, centre, parameters, src, dst, dst_dtype, at_y && norm.streams);
    if (!at_y) store_h();
    if (max_abs) {
      *max_abs = MaxAbsBits(results, n, *max_abs);
    } else if (!at_y) {
      StorePiece(norm, sequence, plane, at, n, all, results, quant_scale);
    }
  }
}

// For what counts of `length` elements from `start` on of `count` neighbouring sequences' planes calls write(start, length,
// all): whether all of these do, or some. The others are written here.
template <class Write>
HWY_INLINE void ForEachStretch(const SequenceNorm& norm, int64_t first, int64_t count, int64_t plane, int64_t start,
                               int64_t length, const Write& write) {
  const Validity& validity = norm.validity;
  const int64_t sample = norm.Sample(first, plane);
  for (int64_t at = start, next; at < start + length; at = next) {
    Validity::Counts counts;
    next = validity.StretchEnd(sample, at, start + length, &counts);
    if (counts != Validity::Counts::kNone) {
      write(at, next - at, counts == Validity::Counts::kAll);
    } else if (validity.padding == SIMDNORM_PADDING_ZERO) {
      for (int64_t i = 0; i < count; ++i) {
        StoreZeros(norm.epilogue, next - at, norm.At(norm.y, first + i, plane, at), norm.y.dtype);
      }
    }
  }
}

// Writes what counts of such elements of a sequence.
template <class T>
HWY_NOINLINE void WriteCutSpan(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t length,
                               const Centre<T>& centre) {
  alignas(64) unsigned char results[Validity::kMaskPiece * sizeof(float)];
  ForEachStretch(norm, sequence, 1, plane, start, length, [&](int64_t at, int64_t n, bool all) HWY_ATTR {
    if (!GoesAtAStroke<T>(norm)) {
      return WriteStaged<T, true>(norm, sequence, plane, at, n, all, centre, nullptr, Span(), 0, nullptr);
    }
    const Span x = {norm.At(norm.x, sequence, plane, at), norm.x.dtype};
    void* y = all ? norm.At(norm.y, sequence, plane, at) : results;
    WriteChannelsOfPlane(norm, sequence, plane, at, n, x, y, norm.y.dtype, centre, false);
    if (!all) StoreCounting(norm, sequence, plane, at, n, results);
  });
}

// What counts of planes [plane, end) of `count` <= 16 channels from `first` on; it goes from x to y at a stroke.
HWY_NOINLINE inline void WriteCutPlanes(const SequenceNorm& norm, int64_t first, int64_t count, int64_t plane, int64_t end,
                                        const ChannelFactors<float>& factors) {
  alignas(64) unsigned char results[Validity::kMaskPiece * sizeof(float)];
  for (; plane < end; ++plane) {
    ForEachStretch(norm, first, count, plane, 0, norm.length, [&](int64_t at, int64_t n, bool all) HWY_ATTR {
      const int64_t at_once = all ? count : 1;
      for (int64_t i = 0; i < count; i += at_once) {
        const Span x = {norm.At(norm.x, first + i, plane, at), norm.x.dtype};
        void* y = all ? norm.At(norm.y, first + i, plane, at) : results;
        WithElements<float>(x, y, norm.y.dtype, [&](auto d, const auto* from, auto* to) HWY_ATTR {
          WriteChannels(d, from, norm.x.stride, to, norm.y.stride, n, at_once, factors, i, 1, !norm.mean, false);
        });
        if (!all) StoreCounting(norm, first + i, plane, at, n, results);
      }
    });
  }
}

// What counts of a sequence, whose normalizer is item i.
HWY_NOINLINE inline void WriteCutSequence(const SequenceNorm& norm, int64_t sequence, const Normalizers& normalizers,
                                          int64_t i) {
  const auto in_float = CentreOf<float>(normalizers, i);
  const auto in_double = CentreOf<double>(normalizers, i);
  for (int64_t plane = 0; plane < norm.planes; ++plane) {
    if (normalizers.in_double[i]) {
      WriteCutSpan(norm, sequence, plane, 0, norm.length, in_double);
    } else {
      WriteCutSpan(norm, sequence, plane, 0, norm.length, in_float);
    }
  }
}

// Writes `length` elements from `start` on of a plane, all of which count.
template <class T, bool kCentred>
HWY_INLINE void WriteSpan(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t length,
                          const Centre<T>& centre, const Parameters* parameters, const Span& h, float quant_scale) {
  if (HWY_UNLIKELY(!GoesAtAStroke<T>(norm) || !(norm.by_channel || parameters))) {
    return WriteStaged<T, kCentred>(norm, sequence, plane, start, length, true, centre, parameters, h, quant_scale, nullptr);
  }
  const Span x = {norm.At(norm.x, sequence, plane, start), norm.x.dtype};
  void* y = norm.At(norm.y, sequence, plane, start);
  if (norm.by_channel) {
    if constexpr (kCentred)
      WriteChannelsOfPlane(norm, sequence, plane, start, length, x, y, norm.y.dtype, centre, norm.streams);
  } else {
    WithElements<T>(x, y, norm.y.dtype, [&](auto d, const auto* from, auto* to) HWY_ATTR {
      WriteElements<kCentred>(d, from, 0, to, 0, length, 1, OneCentre(centre), parameters->From(start), norm.streams);
    });
  }
}

// Writes chunks [begin, end) of a sequence. What is known of it already: its parameters; where its h is, as item i of a view;
// or null.
template <class T, bool kCentred>
HWY_INLINE void WriteChunks(const SequenceNorm& norm, int64_t sequence, int64_t begin, int64_t end, const Centre<T>& centre,
                            const Parameters* parameters, const View* view, int64_t i) {
  if (GoesAtAStroke<T>(norm) && norm.planes_are_samples && norm.length <= kChunkElements) {
    ChannelFactors<T> factors;
    FactorsOf(norm, sequence, 1, centre, factors);
    const int64_t of_chunk = norm.planes_per_chunk, plane = begin * of_chunk,
                  planes = HWY_MIN(end * of_chunk, norm.planes) - plane;
    return WritePlanes(norm, sequence, plane, norm.x.plane_stride, norm.y.plane_stride, planes, factors, 0, 0);
  }
  float quant_scale = 0;
  if (norm.epilogue.quant_scales) {
    uint32_t max_abs = 0;
    ForEachPlane(norm, begin, end, [&](int64_t plane, int64_t start, int64_t length) HWY_ATTR {
      const Span h = view ? view->At(i, plane, start) : Span();
      WriteStaged<T, kCentred>(norm, sequence, plane, start, length, true, centre, parameters, h, 0, &max_abs);
    });
    quant_scale = norm.epilogue.quant_scales[sequence] = DynamicScale(max_abs);
  }
  ForEachPlane(norm, begin, end, [&](int64_t plane, int64_t start, int64_t length) HWY_ATTR {
    const Span h = view ? view->At(i, plane, start) : Span();
    WriteSpan<T, kCentred>(norm, sequence, plane, start, length, centre, parameters, h, quant_scale);
  });
}

template <bool kCentred>
HWY_INLINE void WriteSequence(const SequenceNorm& norm, int64_t sequence, int64_t begin, int64_t end,
                              const Normalizers& normalizers, const Parameters* parameters, const View* view, int64_t i) {
  if (HWY_UNLIKELY(normalizers.in_double[i])) {
    WriteChunks<double, kCentred>(norm, sequence, begin, end, CentreOf<double>(normalizers, i), parameters, view, i);
  } else {
    WriteChunks<float, kCentred>(norm, sequence, begin, end, CentreOf<float>(normalizers, i), parameters, view, i);
  }
}

// Scale and shift of sequences [begin, end) as they come: where they are, if they are in f32 or few sequences are written with
// them; or for short sequences in f32 buffers, which are filled when others are needed.
template <bool kCentred>
class ParametersOfSequences {
 public:
  ParametersOfSequences(const SequenceNorm& norm, int64_t begin, int64_t end) : norm_(norm) {
    const int64_t count = norm.sequences_per_scale == 0 ? end - begin : HWY_MIN(end - begin, norm.sequences_per_scale);
    many_ = count >= kManySequences;
    if (!norm.scale && !norm.shift) {
      in_place_ = true, dtype_ = SIMDNORM_F32;
    } else {
      const bool taken = norm.scale_dtype == SIMDNORM_F32 || TakesParameters<kCentred>(count, norm.y.dtype, norm);
      in_place_ = taken && norm.scale_offset == 0, dtype_ = norm.scale_dtype;
    }
  }

  // -> null if they are better looked at piece by piece
  HWY_INLINE const Parameters* Of(int64_t sequence) {
    if (norm_.by_channel) return nullptr;
    const int64_t set = norm_.ScaleSet(sequence);
    if (HWY_LIKELY(set == set_)) return &parameters_;
    if (in_place_) {
      parameters_ = Parameters{norm_.scale, norm_.shift, dtype_, false}.From(set * norm_.scale_stride);
    } else if (norm_.length <= kMostWidened) {
      parameters_ = ParametersOf(norm_, sequence, 0, norm_.length, scale_, shift_);
    } else {
      return nullptr;
    }
    // Worth it for results of 16 bits, and once for all of many rows.
    if (many_ && norm_.sequences_per_scale == 0 && norm_.length <= kMostWidened && ElementSize(norm_.y.dtype) == 2) {
      parameters_.finite = AllFinite(parameters_, norm_.length);
    }
    set_ = set;
    return &parameters_;
  }

 private:
  static constexpr int64_t kMostWidened = 4096;
  const SequenceNorm& norm_;
  bool many_, in_place_;
  simdnorm_dtype dtype_;
  int64_t set_ = -1;
  Parameters parameters_;
  alignas(64) float scale_[kMostWidened], shift_[kMostWidened];
};

// Whether rows with parameters `scale` and `shift`, null: none, are written several together, piece by piece: if both are so
// long that they push a row and each other out of L1, and come back for every row. Measured: rows of 4096 take 0.9 of the time;
// but 1.03 to 1.1 of it where they are written past the caches, which only longer ones make up for.
HWY_INLINE bool GoesByPiece(int64_t cols, const void* scale, const void* shift, bool streams) {
  return scale && shift && cols > (streams ? 4096 : 2048);
}

// Writes `count` <= 16 runs that go from x to y at a stroke, with the same parameters: what WriteSequence does for each,
// without asking at every one of many short rows what kind it is.
template <bool kCentred>
HWY_INLINE void WriteRuns(const Span& x, int64_t x_stride, void* y, int64_t y_stride, simdnorm_dtype y_dtype, int64_t length,
                          int64_t count, const Normalizers& normalizers, const Parameters& parameters, bool streams) {
  const bool by_piece = count > 1 && GoesByPiece(length, parameters.scale, parameters.shift, streams);
  const int64_t piece = by_piece ? 4096 / static_cast<int64_t>(ElementSize(y_dtype)) : length;
  WithElements<float>(x, y, y_dtype, [&](auto d, const auto* from, auto* to) HWY_ATTR {
    for (int64_t at = 0; at < length; at += piece) {
      WriteElements<kCentred>(d, from + at, x_stride, to + at, y_stride, HWY_MIN(piece, length - at), count,
                              CentresOf(normalizers), parameters.From(at), streams);
    }
  });
}

// What normalizes up to 16 channels' planes, which are short and lie side by side, spelled out for each of their elements: a
// run for every plane would take longer than its elements do. None of the channels is split.
class SpelledChannels {
 public:
  static constexpr int64_t kMaxLength = 64;  // of a plane

  SpelledChannels(const ChannelFactors<float>& of, int64_t count, int64_t length) : has_low_(of.kinds.any_low) {
    const StripTag<float> d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    for (int64_t c = 0; c < count; ++c) {
      const auto mean = hn::Set(d, of.mean[c]), low = hn::Set(d, of.low[c]);
      const auto factor = hn::Set(d, of.factor[c]), shift = hn::Set(d, of.shift[c]);
      // The last vector may reach into what is the next channel's, which comes after it; the last channel has one more, for
      // reads beyond. All but the first are aligned: stores that cross a cache line take several times as long.
      const int64_t begin = c * length, end = begin + length + (c + 1 == count ? lanes : 0);
      for (int64_t i = begin; i < end; i = (i + lanes) & -lanes) {
        if (has_low_) hn::StoreU(low, d, low_ + i);
        hn::StoreU(mean, d, mean_ + i), hn::StoreU(factor, d, factor_ + i), hn::StoreU(shift, d, shift_ + i);
      }
    }
  }

  // The planes of one sample.
  template <class TX, class TY>
  HWY_INLINE void Write(const TX* x, TY* y, int64_t elements, bool streams) const {
    const StripTag<float> d;
    if (has_low_) return WriteRunByChannel<true, false>(d, x, y, elements, mean_, low_, factor_, shift_, streams);
    WriteRunByChannel<false, false>(d, x, y, elements, mean_, low_, factor_, shift_, streams);
  }

 private:
  static constexpr int64_t kRoom = kItems * kMaxLength + 2 * kItems;
  alignas(64) float mean_[kRoom], low_[kRoom], factor_[kRoom], shift_[kRoom];
  bool has_low_;  // of given statistics none has
};

// Whether channels are better taken together, sample by sample, than one after the other: each plane by itself is little to
// read before the next lies elsewhere.
HWY_INLINE bool GoesBySample(const SequenceNorm& norm) {
  return norm.planes_are_samples && norm.length <= kChunkElements && norm.planes > 1 && norm.validity.All();
}

// Whether, besides, several planes are better written as one run, whatever happens to them on their way.
HWY_INLINE bool HasShortPlanes(const SequenceNorm& norm) {
  return GoesBySample(norm) && norm.length <= SpelledChannels::kMaxLength;
}

// Writes plane `plane` of `count` <= 16 channels, which are short, where they do not go from x to y at a stroke.
HWY_NOINLINE inline void StageShortPlanes(const SequenceNorm& norm, int64_t first, int64_t count, int64_t plane,
                                          const SpelledChannels& spelled) {
  constexpr int64_t kMost = kItems * SpelledChannels::kMaxLength;
  alignas(64) float source[kMost], results[kMost];
  const int64_t n = count * norm.length;
  const void* x = norm.At(norm.x, first, plane);
  if (norm.x.dtype != SIMDNORM_F32) {
    WidenSpan(x, norm.x.dtype, source, n);
    x = source;
  }
  spelled.Write(static_cast<const float*>(x), results, n, false);
  const void* residual = norm.residual ? norm.At(norm.residual, first, plane) : nullptr;
  ApplyEpilogue(norm.epilogue, residual, norm.residual.dtype, results, n);
  StoreSpan(norm.epilogue, results, n, norm.At(norm.y, first, plane), norm.y.dtype, 0);
}

// Normalizes `planes` planes of `count` <= 16 channels from `plane` on. Not inline: a large frame.
HWY_NOINLINE inline void WriteBySample(const SequenceNorm& norm, int64_t first, int64_t count, int64_t plane, int64_t planes,
                                       const ChannelFactors<float>& factors) {
  const int64_t end = plane + planes;
  const bool at_a_stroke = GoesAtAStroke<float>(norm);
  // Runs of f32 that fill a vector take little more than their elements do.
  const bool of_float = at_a_stroke && norm.x.dtype == SIMDNORM_F32 && norm.y.dtype == SIMDNORM_F32 && !norm.streams &&
                        norm.length >= static_cast<int64_t>(hn::Lanes(StripTag<float>()));
  if (norm.length > SpelledChannels::kMaxLength || of_float || HWY_UNLIKELY(factors.kinds.any_split)) {
    for (; plane < end; ++plane) {
      if (at_a_stroke) {
        WritePlanes(norm, first, plane, norm.x.stride, norm.y.stride, count, factors, 0, 1);
        continue;
      }
      for (int64_t i = 0; i < count; ++i) {
        WriteSpan<float, true>(norm, first + i, plane, 0, norm.length, factors.CentreAt(i), nullptr, Span(), 0);
      }
    }
    return;
  }
  const SpelledChannels spelled(factors, count, norm.length);
  if (!at_a_stroke) {
    for (; plane < end; ++plane) StageShortPlanes(norm, first, count, plane, spelled);
    return;
  }
  const Span x = {norm.At(norm.x, first, plane), norm.x.dtype};
  void* y = norm.At(norm.y, first, plane);
  WithElements<float>(x, y, norm.y.dtype, [&](auto /*d*/, const auto* from, auto* to) HWY_ATTR {
    for (int64_t i = 0; i < planes; ++i) {
      spelled.Write(from + i * norm.x.plane_stride, to + i * norm.y.plane_stride, count * norm.length, norm.streams);
    }
  });
}

// ---- Kernels.

// How many of the sequences [first, end) are padding, up to the first that is not.
HWY_INLINE int64_t PaddedFrom(const SequenceNorm& norm, int64_t first, int64_t end) {
  if (HWY_LIKELY(!norm.row_lengths)) return 0;
  const int64_t row = first % norm.rows_per_sequence;
  return row < norm.row_lengths[first / norm.rows_per_sequence] ? 0 : HWY_MIN(end - first, norm.rows_per_sequence - row);
}

HWY_NOINLINE inline void WritePadding(const SequenceNorm& norm, int64_t first, int64_t count) {
  if (norm.row_padding == SIMDNORM_PADDING_UNTOUCHED) return;
  for (int64_t sequence = first; sequence < first + count; ++sequence) {
    StoreZeros(norm.epilogue, norm.length, norm.At(norm.y, sequence, 0), norm.y.dtype);
    if (norm.h) StoreZeros({}, norm.length, norm.At(norm.h, sequence, 0), norm.h.dtype);
    for (float* statistic : {norm.outputs.mean, norm.outputs.rstd, norm.epilogue.quant_scales}) {
      if (statistic) statistic[sequence] = 0;
    }
  }
}

// How many sequences from `first` on, at most `most`, lie in regular distance, have the same scale and shift, and count.
HWY_INLINE int64_t Neighbours(const SequenceNorm& norm, int64_t first, int64_t most) {
  if (HWY_UNLIKELY(norm.inner != 1)) most = HWY_MIN(most, norm.inner - first % norm.inner);
  if (HWY_UNLIKELY(norm.sequences_per_scale != 0)) {
    most = HWY_MIN(most, norm.sequences_per_scale - first % norm.sequences_per_scale);
  }
  if (HWY_UNLIKELY(norm.row_lengths)) {
    const int64_t row = first % norm.rows_per_sequence;
    most = HWY_MIN(most, norm.row_lengths[first / norm.rows_per_sequence] - row);
  }
  return most;
}

// How many neighbouring sequences of `elements` elements to take at a time: they should stay in L1 between their moments and
// their writes. Measured on L1s of 32 and 48 KiB: 16 KiB are best for f32, 32 KiB for 16 bits. But with memory behind 4 KiB
// are, if sequences are no longer than that: a processor can have as many stores wait for memory, and reads what comes next
// meanwhile. (Asking for that beforehand gains nothing on top.)
HWY_INLINE int64_t SequencesAtOnce(simdnorm_dtype dtype, int64_t elements, bool overflows) {
  int64_t most = dtype == SIMDNORM_F32 ? kStageElements : 4 * kStageElements;
  if (overflows && Bytes(dtype, elements) <= 4096) most = 4096 / static_cast<int64_t>(ElementSize(dtype));
  return elements * kItems <= most ? kItems : HWY_MAX(1, most / elements);
}

// Kernel: sequences [begin, end), all of each.
template <bool kCentred>
void NormalizeSequences(const void* args, int64_t begin, int64_t end) {
  const SequenceNorm& given = *static_cast<const SequenceNorm*>(args);
  const int64_t chunks = given.ChunkSections().chunks, elements = given.Elements();
  const bool whole = given.validity.All();
  const bool short_enough = whole && elements <= kStageElements;
  const bool through_h = short_enough && given.AddsIntoH();
  SequenceNorm of_h;
  if (through_h) of_h = given.OfH();
  const SequenceNorm& norm = through_h ? of_h : given;

  const StreamFence fence(norm.streams);
  const simdnorm_dtype read = norm.x_is_h ? norm.x.dtype : SIMDNORM_F32;
  const bool runs_of_plain = GoesAtAStroke<float>(norm) && !norm.by_channel;
  // What was added up in the stage goes on from there as plain runs do.
  const bool as_runs = runs_of_plain || (short_enough && norm.bare && norm.y_is_write_only && !norm.by_channel &&
                                         (!norm.h || read == SIMDNORM_F32) && WritesFrom<float>(read, norm.y.dtype));
  const bool by_sample = GoesBySample(norm);
  const bool together = short_enough || by_sample || runs_of_plain;
  // Rows of f32 that are added up first are better taken many at a time from memory, too. Measured: 0.72 to 0.95 of the time.
  const bool few = given.overflows && (given.x_is_h || given.x.dtype != SIMDNORM_F32);
  int64_t batch = short_enough ? SequencesAtOnce(read, elements, few) : 1;
  if (runs_of_plain && GoesByPiece(elements, norm.scale, norm.shift, norm.streams)) batch = HWY_MAX(2, batch);
  if (by_sample) batch = kItems;

  alignas(64) float stage[kStageElements];
  ParametersOfSequences<kCentred> parameters(norm, begin, end);
  Normalizers normalizers;
  Cut cut(norm);
  const bool by_cut_planes = !whole && norm.planes_are_samples && GoesAtAStroke<float>(norm);
  bool of_prefixes = false;
  if (kCentred && HWY_UNLIKELY(!whole)) {
    cut.Find(begin);
    of_prefixes = cut.IsOfPrefixes();
    if (of_prefixes) batch = kItems;
  }
  for (int64_t first = begin, count; first < end; first += count) {
    count = PaddedFrom(norm, first, end);
    if (HWY_UNLIKELY(count != 0)) {
      WritePadding(given, first, count);
      continue;
    }
    count = Neighbours(norm, first, HWY_MIN(batch, end - first));
    if (through_h) AddIntoH(given, first, count);
    int64_t values = elements;
    View view;
    bool any_in_double = true;  // as far as is known
    if (together || of_prefixes) {
      view = ViewOf(norm, first, count, stage);
      any_in_double = NormalizersOfNeighbours<kCentred>(norm, view, first, count, of_prefixes ? &cut : nullptr, normalizers);
      if (of_prefixes) values = cut.count;
    } else if (whole) {
      NormalizerOfOne<float, kCentred>(norm, first, normalizers, 0);
    } else if constexpr (kCentred) {
      values = NormalizerOfCut<float>(cut, first, normalizers, 0);
    }
    for (int64_t i = 0; any_in_double && i < count; ++i) {
      if (HWY_LIKELY(!normalizers.in_double[i])) continue;
      if (whole) {
        NormalizerOfOne<double, kCentred>(norm, first + i, normalizers, i);
        const double rstd = normalizers.rstd_double[i];
        if (through_h && rstd != rstd) MakeNaNCanonical(HOf(given, first + i), norm.length);  // as h may have NaN
      } else if constexpr (kCentred) {
        NormalizerOfCut<double>(cut, first + i, normalizers, i);
      }
    }
    if (!whole) any_in_double = normalizers.AnyInDouble(count);
    SaveStatistics(norm.outputs, first, count, values, normalizers);
    const Parameters* of_first = parameters.Of(first);
    if (HWY_LIKELY(as_runs && of_first && !any_in_double)) {
      for (int64_t i = 0; norm.h && i < count; ++i) {
        StoreH(norm, first + i, 0, 0, static_cast<const float*>(view.At(i, 0, 0).data), elements);
      }
      WriteRuns<kCentred>(view.base, view.stride, norm.At(norm.y, first, 0), norm.y.stride, norm.y.dtype, norm.length, count,
                          normalizers, *of_first, norm.streams);
      continue;
    }
    if (kCentred && (by_sample || by_cut_planes) && !any_in_double) {
      ChannelFactors<float> factors;
      for (int64_t i = 0; i < count; ++i) factors.SetCentre(i, CentreOf<float>(normalizers, i));
      SetFactors(norm, first, count, factors);
      by_sample ? WriteBySample(norm, first, count, 0, norm.planes, factors)
                : WriteCutPlanes(norm, first, count, 0, norm.planes, factors);
      continue;
    }
    if (kCentred && HWY_UNLIKELY(!whole)) {
      for (int64_t i = 0; i < count; ++i) WriteCutSequence(norm, first + i, normalizers, i);
      continue;
    }
    for (int64_t i = 0; i < count; ++i) {
      WriteSequence<kCentred>(norm, first + i, 0, chunks, normalizers, of_first, together ? &view : nullptr, i);
    }
  }
}

// What rows [first, first + count) need beside their values: false if some need double, which then are done.
template <bool kCentred>
HWY_INLINE bool SettleRows(const PlainRows& rows, int64_t first, int64_t count, bool any_in_double,
                           const Normalizers& normalizers) {
  if (HWY_UNLIKELY(any_in_double)) {
    const SequenceNorm norm = rows.AsSequences();
    NormalizeSequences<kCentred>(&norm, first, first + count);
    return false;
  }
  if (rows.mean || rows.rstd) {
    SaveStatistics({rows.mean, rows.rstd, nullptr, nullptr, 0, false}, first, count, rows.cols, normalizers);
  }
  return true;
}

// Normalizes `count` <= 16 rows from `first` on, which stay in L1 between their moments and their writes, with the rows'
// parameters.
template <bool kCentred>
HWY_INLINE void NormalizeRows(const PlainRows& rows, const Parameters& parameters, int64_t first, int64_t count) {
  Normalizers normalizers;
  const Span x = Span{rows.x, rows.dtype}.From(first * rows.x_stride);
  const bool any_in_double = NormalizersOfRuns<kCentred>(x, rows.x_stride, rows.cols, count, rows.epsilon, normalizers);
  if (!SettleRows<kCentred>(rows, first, count, any_in_double, normalizers)) return;
  void* y = static_cast<unsigned char*>(rows.y) + Bytes(rows.dtype, first * rows.y_stride);
  WriteRuns<kCentred>(x, rows.x_stride, y, rows.y_stride, rows.dtype, rows.cols, count, normalizers, parameters, rows.streams);
}

// Row `row`, of f32: the same steps in one piece. Calls from one to the next would take longer than a short row's steps do.
template <bool kCentred>
HWY_NOINLINE void NormalizeRow(const PlainRows& rows, int64_t row) {
  const StripTag<float> d;
  const float* x = static_cast<const float*>(rows.x) + row * rows.x_stride;
  float* y = static_cast<float*>(rows.y) + row * rows.y_stride;
  const float pivot = PivotOfRun<kCentred, float>(x, rows.cols);
  LaneMoments<float> lanes;
  Moments moments;
  Normalizers normalizers;
  MomentsOfRun<kCentred>(d, x, rows.cols, pivot, lanes.mean, lanes.m2);
  MergeLanes<kCentred>(rows.cols, lanes, 1, moments);
  const bool in_double = Finish(moments, &pivot, 1, rows.epsilon, normalizers, 0);
  if (!SettleRows<kCentred>(rows, row, 1, in_double, normalizers)) return;
  const Centre<float> centre = CentreOf<float>(normalizers, 0);
  const auto *of_scale = static_cast<const float*>(rows.scale), *of_shift = static_cast<const float*>(rows.shift);
  WithParameters(of_scale, of_shift, [&](const auto scale, const auto shift) HWY_ATTR {
    WriteRunBy<false, kCentred>(d, x, y, rows.cols, centre, scale, shift, false);
  });
}

// Where a vector or two hold a strip, there are registers enough to write a row while the next one's moments are gathered,
// block by block.
constexpr bool kStripIsVector = !HWY_HAVE_SCALABLE && hn::MaxLanes(StripTag<float>()) == kStrip;
constexpr bool kCanGoInTurn = kStripIsVector || kGoesByHalves<StripTag<float>, float>;

// Whether that is better than rows in batches. Shorter rows are too few blocks, longer ones leave L1 before their turn comes.
// Measured (Zen 4): rows of 768 and 1024 take 0.9 and 0.84 of the time, up to a quarter more than the caches are said to hold;
// rows of 16 bits would take 1.1 of it. Where two vectors hold a strip (AVX2), rows of 768 take 0.94 to 0.96 of it, of 1024
// 0.94 to 0.81; but their last strip has to be whole, and mean squares gain nothing below 1024.
template <bool kCentred>
HWY_INLINE bool GoesInTurn(const PlainRows& rows) {
  constexpr int64_t kLeast = kStripIsVector ? (kCentred ? 512 : 384) : (kCentred ? 640 : 1024);
  const int64_t bytes = 2 * Bytes(rows.dtype, rows.rows * rows.cols);
  return rows.dtype == SIMDNORM_F32 && rows.scale && (rows.shift != nullptr) == kCentred && !rows.streams &&
         !OverflowsCaches(bytes - bytes / 5) && rows.cols >= kLeast && rows.cols <= 2048 &&
         (kStripIsVector || rows.cols % kItems == 0);
}

// Normalizes a row while the lanes' moments of the next are gathered.
template <bool kCentred, class Scale, class Shift>
HWY_INLINE void WriteAndGather(const float* x, float* y, int64_t cols, const Centre<float>& centre, const Scale scale,
                               const Shift shift, const float* HWY_RESTRICT next, float pivot_of_next,
                               LaneMoments<float>& lanes) {
  const StripTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const V mean = hn::Set(d, centre.mean), offset = hn::Set(d, centre.offset), rstd = hn::Set(d, centre.rstd);
  const V pivot = hn::Set(d, pivot_of_next);
  V next_mean = hn::Zero(d), next_m2 = hn::Zero(d), sum = hn::Zero(d);
  V high_mean = hn::Zero(d), high_m2 = hn::Zero(d);  // where the others are of the lower half
  const size_t strips = static_cast<size_t>(cols) / kStrip, ragged = static_cast<size_t>(cols) % kStrip;
  size_t seen = 0;
  const auto step = [&](auto block) HWY_ATTR __attribute__((always_inline)) {  // see AddStripsByHalves
    size_t i = seen * kStrip;
    if constexpr (kStripIsVector) {
      const auto load = [&](size_t s) HWY_ATTR {
        const V v = hn::LoadU(d, next + i + s * kStrip);
        return kCentred ? SubByMulAdd(d, v, pivot) : v;
      };
      AddBlock<kCentred, decltype(block)::value>(d, load, seen, next_mean, next_m2);
    } else {
      AddBlockByHalves<kCentred, decltype(block)::value>(d, next + i, kStrip, pivot, pivot, seen, next_mean, next_m2, high_mean,
                                                         high_m2);
    }
    seen += block;
    for (; i < seen * kStrip; i += hn::Lanes(d)) {
      const V v = hn::LoadU(d, x + i);
      const V scale_v = scale.Get(d, static_cast<int64_t>(i), Whole()),
              shift_v = shift.Get(d, static_cast<int64_t>(i), Whole());
      const V result = NormalizeElements<kCentred, Scale, Shift>(v, mean, rstd, offset, scale_v, shift_v);
      hn::StoreU(result, d, y + i);
      sum = hn::Add(sum, result);
    }
  };
  ForEachBlock(strips, step);
  hn::Store(next_mean, d, lanes.mean), hn::Store(next_m2, d, lanes.m2);
  if constexpr (!kStripIsVector) hn::Store(high_mean, d, lanes.mean + kStrip / 2), hn::Store(high_m2, d, lanes.m2 + kStrip / 2);
  const int64_t done = cols - static_cast<int64_t>(ragged);
  if (HWY_UNLIKELY(!hn::AllFalse(d, hn::IsNaN(sum)))) MakeNaNCanonical(y, done);
  if (ragged == 0) return;
  AddStrips<kCentred, false>(d, next + done, kStrip, ragged, strips, 1, OnePivot<float>{pivot_of_next}, lanes.mean, lanes.m2);
  WriteRunBy<false, kCentred>(d, x + done, y + done, cols - done, centre, scale.From(done), shift.From(done), false);
}

// Normalizes rows [begin, end) in turn.
template <bool kCentred, class Scale, class Shift>
HWY_NOINLINE void NormalizeRowsInTurn(const PlainRows& rows, int64_t begin, int64_t end, const Scale scale, const Shift shift) {
  const StripTag<float> d;
  const float* x = static_cast<const float*>(rows.x) + begin * rows.x_stride;
  float* y = static_cast<float*>(rows.y) + begin * rows.y_stride;
  LaneMoments<float> lanes;
  float pivot;
  const auto gather = [&](const float* row) HWY_ATTR {
    RunMoments<kCentred>(d, row, 0, rows.cols, 1, &pivot, /*own=*/true, lanes.mean, lanes.m2);
  };
  gather(x);
  for (int64_t row = begin; row < end; ++row, x += rows.x_stride, y += rows.y_stride) {
    Moments moments;
    Normalizers normalizers;
    MergeLanes<kCentred>(rows.cols, lanes, 1, moments);
    const bool in_double = Finish(moments, &pivot, 1, rows.epsilon, normalizers, 0);
    const bool settled = SettleRows<kCentred>(rows, row, 1, in_double, normalizers), is_last = row + 1 == end;
    const Centre<float> centre = CentreOf<float>(normalizers, 0);
    const float* next = x + rows.x_stride;
    if (HWY_LIKELY(settled && !is_last)) {
      pivot = PivotOfRun<kCentred, float>(next, rows.cols);
      WriteAndGather<kCentred>(x, y, rows.cols, centre, scale, shift, next, pivot, lanes);
      continue;
    }
    if (settled) WriteRunBy<false, kCentred>(d, x, y, rows.cols, centre, scale, shift, false);
    if (!is_last) gather(next);
  }
}

// Normalizes rows [begin, end) some at a time.
template <bool kCentred>
HWY_NOINLINE void NormalizeRowsInBatches(const PlainRows& rows, int64_t begin, int64_t end) {
  const StreamFence fence(rows.streams);
  int64_t batch = SequencesAtOnce(rows.dtype, rows.cols, rows.overflows);
  if (GoesByPiece(rows.cols, rows.scale, rows.shift, rows.streams)) batch = HWY_MAX(2, batch);
  // Worth it for results of 16 bits, and some rows.
  Parameters parameters = {rows.scale, rows.shift, rows.scale_dtype, false};
  if (rows.dtype != SIMDNORM_F32 && end - begin >= kManySequences) parameters.finite = AllFinite(parameters, rows.cols);
  for (int64_t first = begin, next; first < end; first = next) {
    next = HWY_MIN(first + batch, end);
    NormalizeRows<kCentred>(rows, parameters, first, next - first);
  }
}

// Kernel of a PlainRows: unit is a row. Each way has its own frame: a large one would cost a single row 5 ns.
template <bool kCentred>
void NormalizePlainRows(const void* args, int64_t begin, int64_t end) {
  const PlainRows& rows = *static_cast<const PlainRows*>(args);
  if (end - begin == 1 && rows.dtype == SIMDNORM_F32) return NormalizeRow<kCentred>(rows, begin);
  if (rows.scale_dtype != SIMDNORM_F32 && !TakesParameters<kCentred>(end - begin, rows.dtype, rows)) {
    const SequenceNorm norm = rows.AsSequences();
    return NormalizeSequences<kCentred>(&norm, begin, end);
  }
  if constexpr (kCanGoInTurn) {
    if (GoesInTurn<kCentred>(rows)) {
      const PerElement<float> scale = {static_cast<const float*>(rows.scale)};
      if constexpr (kCentred) {
        return NormalizeRowsInTurn<kCentred>(rows, begin, end, scale, PerElement<float>{static_cast<const float*>(rows.shift)});
      }
      return NormalizeRowsInTurn<kCentred>(rows, begin, end, scale, Absent());
    }
  }
  NormalizeRowsInBatches<kCentred>(rows, begin, end);
}

// Calls visit(i, first, last) with the sections [first, last) of sequence i that units [begin, end) are. Unit u is section
// u % num_sections of sequence u / num_sections.
template <class Visit>
HWY_INLINE void ForEachShared(int64_t begin, int64_t end, int64_t num_sections, const Visit& visit) {
  for (int64_t unit = begin, next; unit < end; unit = next) {
    const int64_t i = unit / num_sections, before = i * num_sections;
    next = HWY_MIN(end, before + num_sections);
    visit(i, unit - before, next - before);
  }
}

// Kernel of a SharedSequences.
template <bool kCentred>
void SharedMoments(const void* args, int64_t begin, int64_t end) {
  const SharedSequences& shared = *static_cast<const SharedSequences*>(args);
  const SequenceNorm& norm = *shared.norm;
  const int64_t num_sections = norm.ChunkSections().count;
  ForEachShared(begin, end, num_sections, [&](int64_t i, int64_t first, int64_t last) HWY_ATTR {
    const int64_t sequence = shared.first + i;
    const auto gather = [&](auto zero) HWY_ATTR {
      using T = decltype(zero);
      SectionMoments<T, kCentred>(
          norm, sequence, first, last, PivotOf<T, kCentred>(norm, sequence),
          [&](int64_t section, const Moments& moments) { shared.moments[i * num_sections + section] = moments; });
    };
    if (!shared.in_double) {
      gather(0.0f);
    } else if (shared.normalizers->in_double[i]) {
      gather(0.0);
    }
  });
}

// Kernel of a SharedSequences, one unit: moments become normalizers.
template <bool kCentred>
void SharedFinish(const void* args, int64_t /*begin*/, int64_t /*end*/) {
  const SharedSequences& shared = *static_cast<const SharedSequences*>(args);
  const SequenceNorm& norm = *shared.norm;
  const int64_t num_sections = norm.ChunkSections().count;
  for (int64_t i = 0; i < shared.count; ++i) {
    if (shared.in_double && !shared.normalizers->in_double[i]) continue;
    Moments total = {};
    for (int64_t s = 0; s < num_sections; ++s) MergeMoments(total, shared.moments[i * num_sections + s], 1);
    const float pivot = PivotOf<float, kCentred>(norm, shared.first + i);
    const auto finish = [&](auto pivot_in_t) HWY_ATTR { Finish(total, &pivot_in_t, 1, norm.epsilon, *shared.normalizers, i); };
    if (shared.in_double) {
      finish(static_cast<double>(pivot));
    } else {
      finish(pivot);
    }
  }
}

// Kernel of a SharedSequences, one unit: hands out the statistics.
inline void SharedSave(const void* args, int64_t /*begin*/, int64_t /*end*/) {
  const SharedSequences& shared = *static_cast<const SharedSequences*>(args);
  SaveStatistics(shared.norm->outputs, shared.first, shared.count, shared.norm->Elements(), *shared.normalizers);
}

// Kernel of a SharedSequences: writes the same units as SharedMoments.
template <bool kCentred>
void SharedWrite(const void* args, int64_t begin, int64_t end) {
  const SharedSequences& shared = *static_cast<const SharedSequences*>(args);
  const Sections sections = shared.norm->ChunkSections();
  const StreamFence fence(shared.norm->streams);
  ParametersOfSequences<kCentred> parameters(*shared.norm, shared.first + begin / sections.count,
                                             shared.first + (end - 1) / sections.count + 1);
  ForEachShared(begin, end, sections.count, [&](int64_t i, int64_t first, int64_t last) HWY_ATTR {
    WriteSequence<kCentred>(*shared.norm, shared.first + i, first * sections.size,
                            HWY_MIN(last * sections.size, sections.chunks), *shared.normalizers,
                            parameters.Of(shared.first + i), nullptr, i);
  });
}

// What normalizes channels [first, first + count), count <= 16, by given statistics.
HWY_INLINE void GivenFactors(const SequenceNorm& norm, int64_t first, int64_t count, ChannelFactors<float>& factors) {
  for (int64_t i = 0; i < count; ++i) factors.rstd[i] = GivenRstd(norm.variance[first + i], norm.epsilon);
  for (int64_t i = 0; i < count; ++i) factors.mean[i] = norm.mean[first + i], factors.low[i] = 0;
  SetFactors(norm, first, count, factors);
}

// Planes [begin, end) of all samples, which are short, by given statistics. Channels are the outer loop.
HWY_NOINLINE inline void NormalizeShortPlanes(const SequenceNorm& norm, int64_t begin, int64_t end) {
  const int64_t num_channels = norm.sequences_per_sample;
  for (int64_t channel = 0; channel < num_channels; channel += kItems) {
    const int64_t count = HWY_MIN(kItems, num_channels - channel);
    // The first sample with planes of these channels in the range.
    int64_t sample = begin / num_channels;
    if (sample * num_channels + channel + count <= begin) ++sample;
    if (sample * num_channels + channel >= end) continue;
    ChannelFactors<float> factors;
    GivenFactors(norm, channel, count, factors);
    for (int64_t samples; sample * num_channels + channel < end; sample += samples) {
      const int64_t plane = sample * num_channels + channel;
      if (begin <= plane && plane + count <= end) {
        samples = (end - (plane + count)) / num_channels + 1;  // all that have all of these planes in the range
        WriteBySample(norm, channel, count, sample, samples, factors);
      } else {
        samples = 1;
        const int64_t first = HWY_MAX(begin, plane), n = HWY_MIN(end, plane + count) - first;
        ChannelFactors<float> of_some;
        GivenFactors(norm, first - sample * num_channels, n, of_some);
        WriteBySample(norm, first - sample * num_channels, n, sample, 1, of_some);
      }
    }
  }
}

// Kernel of a SequenceNorm with given statistics: units are the chunks of its planes, sample by sample.
inline void NormalizePlanes(const void* args, int64_t begin, int64_t end) {
  const SequenceNorm& norm = *static_cast<const SequenceNorm*>(args);
  const int64_t chunks = norm.ChunksPerPlane();
  const StreamFence fence(norm.streams);
  if (HasShortPlanes(norm)) return NormalizeShortPlanes(norm, begin, end);
  const bool whole_planes = GoesAtAStroke<float>(norm) && chunks == 1, whole = norm.validity.All();
  int64_t sample = begin / chunks / norm.sequences_per_sample, channel = begin / chunks % norm.sequences_per_sample;
  for (int64_t unit = begin; unit < end;) {
    // Up to 16 channels of a sample.
    const int64_t first = (sample * norm.sequences_per_sample + channel) * chunks;
    const int64_t count = HWY_MIN(HWY_MIN(kItems, norm.sequences_per_sample - channel), CeilDiv(end - first, chunks));
    ChannelFactors<float> factors;
    GivenFactors(norm, channel, count, factors);
    if (HWY_LIKELY(whole_planes)) {
      if (HWY_LIKELY(whole)) {
        WritePlanes(norm, channel, sample, norm.x.stride, norm.y.stride, count, factors, 0, 1);
      } else {
        WriteCutPlanes(norm, channel, count, sample, sample + 1, factors);
      }
      unit += count;
    }
    for (int64_t i = 0; !whole_planes && i < count; ++i) {
      // As much of the plane at once as is in the range.
      const int64_t plane = first + i * chunks, next = HWY_MIN(end, plane + chunks), start = (unit - plane) * kChunkElements;
      const int64_t length = HWY_MIN((next - plane) * kChunkElements, norm.length) - start;
      if (HWY_LIKELY(whole)) {
        WriteSpan<float, true>(norm, channel + i, sample, start, length, factors.CentreAt(i), nullptr, Span(), 0);
      } else {
        WriteCutSpan(norm, channel + i, sample, start, length, factors.CentreAt(i));
      }
      unit = next;
    }
    channel += count;
    if (channel == norm.sequences_per_sample) channel = 0, ++sample;
  }
}

template <bool kCentred>
constexpr SequenceKernels kSequenceKernels = {NormalizeSequences<kCentred>, NormalizePlanes, SharedMoments<kCentred>,
                                              SharedFinish<kCentred>,       SharedSave,      SharedWrite<kCentred>};

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_ROWS_INL_H_
