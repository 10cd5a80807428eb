// Kernels over runs of adjacent elements: sequences normalized by their own statistics (rows of layer and RMS norm; groups of
// group norm and channels of batch norm in NCHW), and planes normalized by given ones (batch norm inference in NCHW).
//
// A kernel reads top to bottom: moments of up to 16 sequences, their normalizers, then the writes. So the steps in which one
// sequence waits for itself (merging lanes, square root, division) run for 16 at a time, while x is still in the cache.
//
// Statistics and normalization see f32 only. Plain f32 tensors are read and written where they lie; anything else passes
// through small buffers (stage-inl.h).
#if defined(SIMDNORM_LIB_SIMD_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIMDNORM_LIB_SIMD_ROWS_INL_H_
#undef SIMDNORM_LIB_SIMD_ROWS_INL_H_
#else
#define SIMDNORM_LIB_SIMD_ROWS_INL_H_
#endif

#include "sequences.h"
#include "simd/moments-inl.h"
#include "simd/stage-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

// Scale and shift as the write loop sees them: absent, one for each element, or one for all.
struct Absent {
  static constexpr bool kPresent = false;
  template <class D>
  HWY_INLINE hn::Vec<D> Get(D d, int64_t /*i*/) const {
    return hn::Zero(d);  // not used
  }
  template <class D>
  HWY_INLINE hn::Vec<D> GetN(D d, int64_t i, size_t /*n*/) const {
    return Get(d, i);
  }
};

struct PerElement {
  static constexpr bool kPresent = true;
  const float* HWY_RESTRICT p;
  template <class D>
  HWY_INLINE hn::Vec<D> Get(D d, int64_t i) const {
    return LoadElements(d, p + i);
  }
  template <class D>
  HWY_INLINE hn::Vec<D> GetN(D d, int64_t i, size_t n) const {
    return LoadFirst(d, p + i, n);
  }
};

struct PerRun {
  static constexpr bool kPresent = true;
  float value;
  template <class D>
  HWY_INLINE hn::Vec<D> Get(D d, int64_t /*i*/) const {
    return hn::Set(d, static_cast<hn::TFromD<D>>(value));
  }
  template <class D>
  HWY_INLINE hn::Vec<D> GetN(D d, int64_t i, size_t /*n*/) const {
    return Get(d, i);
  }
};

// What normalizes a run to vectors of T: two floats for the mean, or a double.
template <class T>
struct Centre {
  T mean, offset, rstd;
};
HWY_INLINE Centre<float> CentreOf(const Normalizers& norm, int64_t i, float /*tag*/) {
  return {norm.mean_high[i], norm.offset[i], norm.rstd[i]};
}
HWY_INLINE Centre<double> CentreOf(const Normalizers& norm, int64_t i, double /*tag*/) {
  return {norm.mean[i], 0, norm.rstd_double[i]};
}

HWY_NOINLINE inline void MakeNaNCanonical(float* y, int64_t length) {
  const StripTag<float> d;
  const int64_t step = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < length; i += step) {
    const size_t n = static_cast<size_t>(HWY_MIN(step, length - i));
    StoreFirst(LoadFirst(d, y + i, n), d, y + i, n);
  }
}

// y = ((x - mean) * rstd + offset) * scale + shift for `length` adjacent elements, arithmetic in the type of d.
//
// NaN needs a look at every result, and comes out so seldom that a sum over all results is looked at instead: one addition
// for each, where comparing and choosing take two operations. If the sum is NaN, results are mended. Results of 16 bits are
// looked at before they are stored, as rounding could make a number of a NaN, and x may have been overwritten.
template <bool kCentred, class D, class TX, class TY, class Scale, class Shift>
HWY_INLINE void WriteRun(D d, const TX* x, TY* y, int64_t length, const Centre<hn::TFromD<D>>& centre, const Scale& scale,
                         const Shift& shift) {
  using V = hn::Vec<D>;
  const V mean = hn::Set(d, centre.mean), offset = hn::Set(d, centre.offset), rstd = hn::Set(d, centre.rstd);
  const auto normalize = [&](V v, V scale_v, V shift_v) HWY_ATTR {
    v = kCentred ? hn::MulAdd(hn::Sub(v, mean), rstd, offset) : hn::Mul(v, rstd);
    if constexpr (Scale::kPresent && Shift::kPresent) return hn::MulAdd(v, scale_v, shift_v);
    if constexpr (Scale::kPresent) return hn::Mul(v, scale_v);
    if constexpr (Shift::kPresent) return hn::Add(v, shift_v);
    return v;
  };
  const auto result = [&](int64_t i) HWY_ATTR { return normalize(LoadElements(d, x + i), scale.Get(d, i), shift.Get(d, i)); };
  const int64_t step = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  if constexpr (std::is_same_v<TY, float>) {
    V sum0 = hn::Zero(d), sum1 = hn::Zero(d);
    for (; i + 2 * step <= length; i += 2 * step) {
      const V v0 = result(i), v1 = result(i + step);
      StoreElements<false>(v0, d, y + i);
      StoreElements<false>(v1, d, y + i + step);
      sum0 = hn::Add(sum0, v0);
      sum1 = hn::Add(sum1, v1);
    }
    if (HWY_UNLIKELY(!hn::AllFalse(d, hn::IsNaN(hn::Add(sum0, sum1))))) MakeNaNCanonical(y, i);
  } else {
    for (; i + 4 * step <= length; i += 4 * step) {
      const V v0 = result(i), v1 = result(i + step), v2 = result(i + 2 * step), v3 = result(i + 3 * step);
      if (HWY_UNLIKELY(!hn::AllFalse(d, hn::IsNaN(hn::Add(hn::Add(v0, v1), hn::Add(v2, v3)))))) {
        for (int64_t j = i; j < i + 4 * step; j += step) StoreElements(result(j), d, y + j);
      } else {
        StorePair(v0, v1, d, y + i);
        StorePair(v2, v3, d, y + i + 2 * step);
      }
    }
  }
  for (; i + step <= length; i += step) StoreElements(result(i), d, y + i);
  if (i < length) {
    const size_t n = static_cast<size_t>(length - i);
    const V v = normalize(LoadFirst(d, x + i, n), scale.GetN(d, i, n), shift.GetN(d, i, n));
    StoreFirst(v, d, y + i, n);
  }
}

// The same, with parameters for each element; null: none.
template <bool kCentred, class D, class TX, class TY>
HWY_NOINLINE void WriteElements(D d, const TX* x, TY* y, int64_t length, const Centre<hn::TFromD<D>>& centre,
                                const float* scale, const float* shift) {
  if (scale && shift) return WriteRun<kCentred>(d, x, y, length, centre, PerElement{scale}, PerElement{shift});
  if (scale) return WriteRun<kCentred>(d, x, y, length, centre, PerElement{scale}, Absent());
  if (shift) return WriteRun<kCentred>(d, x, y, length, centre, Absent(), PerElement{shift});
  WriteRun<kCentred>(d, x, y, length, centre, Absent(), Absent());
}

template <class D, class TX, class TY>
HWY_NOINLINE void WriteChannel(D d, const TX* x, TY* y, int64_t length, const Centre<hn::TFromD<D>>& centre, float scale,
                               float shift) {
  WriteRun<true>(d, x, y, length, centre, PerRun{scale}, PerRun{shift});
}

// Whether WriteRun goes from one dtype to the other by itself, with arithmetic in T. In double, which is rare, all is staged;
// so is 16 bits to others, which is less common.
template <class T>
HWY_INLINE bool WritesFrom(simdnorm_dtype x, simdnorm_dtype y) {
  if (sizeof(T) == sizeof(double)) return x == SIMDNORM_F32 && y == SIMDNORM_F32;
  return y <= SIMDNORM_F16 && (x == y || x == SIMDNORM_F32);
}

// Calls write(d, x, y) with pointers to elements of those dtypes.
template <class T, class Write>
HWY_INLINE void WithElements(const Span& x, void* y, simdnorm_dtype y_dtype, const Write& write) {
  const StripTag<T> d;
  if constexpr (sizeof(T) == sizeof(double)) {
    write(d, static_cast<const float*>(x.data), static_cast<float*>(y));
  } else {
    WithElementType(y_dtype, [&](auto element) HWY_ATTR {
      using TY = decltype(element);
      if (x.dtype == y_dtype) {
        write(d, static_cast<const TY*>(x.data), static_cast<TY*>(y));
      } else if constexpr (!std::is_same_v<TY, float>) {
        write(d, static_cast<const float*>(x.data), static_cast<TY*>(y));
      }
    });
  }
}

// ---- What is normalized, as f32.

// h = x + residual + bias for n elements from `start` on of a plane.
HWY_NOINLINE inline void FillStage(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t n,
                                   float* stage) {
  const void* x = norm.x.At(norm.Offset(norm.x, sequence, plane) + start);
  const float* sum = stage;
  if (norm.x.dtype == SIMDNORM_F32) {
    sum = static_cast<const float*>(x);
  } else {
    WidenSpan(x, norm.x.dtype, stage, n);
  }
  if (norm.residual_before) {
    AddSpan(sum, norm.residual.At(norm.Offset(norm.residual, sequence, plane) + start), norm.residual.dtype, stage, n);
    sum = stage;
  }
  if (norm.bias) {
    AddSpan(sum, static_cast<const unsigned char*>(norm.bias) + Bytes(norm.bias_dtype, start), norm.bias_dtype, stage, n);
    sum = stage;
  }
  if (sum != stage) memcpy(stage, sum, static_cast<size_t>(n) * sizeof(float));
  if (norm.round_h) RoundSpan(stage, norm.h.dtype, n);
}

// The same where it lies, if x is that, in x's dtype; else in `stage`.
HWY_INLINE Span Source(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t n, float* stage) {
  if (HWY_LIKELY(norm.x_is_h)) return {norm.x.At(norm.Offset(norm.x, sequence, plane) + start), norm.x.dtype};
  FillStage(norm, sequence, plane, start, n, stage);
  return {stage, SIMDNORM_F32};
}

HWY_INLINE float SourceValue(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start) {
  float value;
  return Source(norm, sequence, plane, start, 1, &value).First();
}

// Neighbouring sequences that lie together: where they are, or all of them in a stage.
struct View {
  Span base;
  int64_t stride, plane_stride;
  Span At(int64_t i, int64_t plane, int64_t start) const { return base.From(i * stride + plane * plane_stride + start); }
};

constexpr int64_t kStageElements = 4096;

HWY_INLINE View ViewOf(const SequenceNorm& norm, int64_t first, int64_t count, float* stage) {
  if (HWY_LIKELY(norm.x_is_h)) {
    return {{norm.x.At(norm.Offset(norm.x, first, 0)), norm.x.dtype}, norm.x.stride, norm.x.plane_stride};
  }
  const int64_t elements = norm.Elements();
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t plane = 0; plane < norm.planes; ++plane) {
      FillStage(norm, first + i, plane, 0, norm.length, stage + i * elements + plane * norm.length);
    }
  }
  return {{stage, SIMDNORM_F32}, elements, norm.length};
}

// ---- Statistics.

// Calls visit(plane, first element in the plane, length) for chunks [begin, end) of a sequence.
template <class Visit>
HWY_INLINE void ForEachChunk(const SequenceNorm& norm, int64_t begin, int64_t end, const Visit& visit) {
  const int64_t per_plane = norm.ChunksPerPlane();
  int64_t plane = 0, start = 0;
  if (begin != 0) plane = begin / per_plane, start = begin % per_plane * kChunkElements;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    visit(plane, start, HWY_MIN(kChunkElements, norm.length - start));
    start += kChunkElements;
    if (start >= norm.length) ++plane, start = 0;
  }
}

// value(plane, start) of a sequence's first, middle and last element, and the pivot of them.
template <class T, bool kCentred, class Value>
HWY_INLINE T SequencePivot(const SequenceNorm& norm, const Value& value) {
  if constexpr (!kCentred) return 0;
  return Pivot<T>(value(0, 0), value(norm.planes / 2, norm.planes % 2 == 0 ? 0 : norm.length / 2),
                  value(norm.planes - 1, norm.length - 1));
}

// Moments of a run in arithmetic of type T. In double, which is rare, from f32 alone: `stage` has room for that.
template <class T, bool kCentred>
HWY_INLINE void SpanMoments(Span x, int64_t length, T pivot, float* stage, LaneMoments<T>& state) {
  const StripTag<T> d;
  if constexpr (sizeof(T) == sizeof(double)) {
    if (x.dtype != SIMDNORM_F32) {
      WidenSpan(x.data, x.dtype, stage, length);
      x = {stage, SIMDNORM_F32};
    }
    RunMoments<kCentred>(d, static_cast<const float*>(x.data), length, pivot, state);
  } else {
    WithElementType(x.dtype, [&](auto element) HWY_ATTR {
      RunMoments<kCentred>(d, static_cast<const decltype(element)*>(x.data), length, pivot, state);
    });
  }
}

// Moments of groups [begin, end) of a sequence's chunks: emit(group, moments), in their order. 16 chunks of a length at a time.
template <class T, bool kCentred, class Emit>
HWY_INLINE void GroupMoments(const SequenceNorm& norm, int64_t sequence, int64_t begin, int64_t end, T pivot,
                             const Emit& emit) {
  const Grouping grouping = norm.Chunks();
  alignas(64) float stage[kStageElements];
  LaneMoments<T> runs[kItems];
  int64_t pending = 0, pending_length = 0, chunk = begin * grouping.group_size;
  Moments group;
  const auto flush = [&]() HWY_ATTR {
    MergeLanes<kCentred>(pending_length, runs, pending);
    for (int64_t i = 0; i < pending; ++i) {
      MergeMoments(
          group, static_cast<double>(pending_length), 1, [&](int64_t /*item*/) { return runs[i].mean[0]; },
          [&](int64_t /*item*/) { return runs[i].m2[0]; });
      if (grouping.EndsGroup(++chunk)) {
        emit((chunk - 1) / grouping.group_size, group);
        group = Moments();
      }
    }
    pending = 0;
  };
  ForEachChunk(norm, chunk, HWY_MIN(end * grouping.group_size, grouping.chunks),
               [&](int64_t plane, int64_t start, int64_t length) HWY_ATTR {
                 if (pending == kItems || (pending != 0 && length != pending_length)) flush();
                 pending_length = length;
                 const Span x = Source(norm, sequence, plane, start, length, stage);
                 SpanMoments<T, kCentred>(x, length, pivot, stage, runs[pending++]);
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
  Moments total;
  const T pivot = PivotOf<T, kCentred>(norm, sequence);
  GroupMoments<T, kCentred>(norm, sequence, 0, norm.Chunks().groups, pivot,
                            [&](int64_t /*group*/, const Moments& moments) HWY_ATTR { MergeMoments(total, moments, 1); });
  Finish(total, &pivot, 1, norm.epsilon, normalizers, i);
}

// The normalizers of `count` <= 16 neighbouring sequences, chunk by chunk of all of them. For sequences that are short enough
// to stay in the cache together.
template <bool kCentred>
HWY_INLINE void NormalizersOfNeighbours(const SequenceNorm& norm, const View& view, int64_t count, Normalizers& normalizers) {
  const Grouping grouping = norm.Chunks();
  float pivots[kItems];
  LaneMoments<float> runs[kItems];
  MomentsOf<kItems> group, total;
  for (int64_t i = 0; i < count; ++i) {
    pivots[i] = SequencePivot<float, kCentred>(
        norm, [&](int64_t plane, int64_t start) HWY_ATTR { return view.At(i, plane, start).First(); });
  }
  int64_t chunk = 0;
  ForEachChunk(norm, 0, grouping.chunks, [&](int64_t plane, int64_t start, int64_t length) HWY_ATTR {
    WithElementType(view.base.dtype, [&](auto element) HWY_ATTR {
      const auto* x = static_cast<const decltype(element)*>(view.At(0, plane, start).data);
      for (int64_t i = 0; i < count; ++i)
        RunMoments<kCentred>(StripTag<float>(), x + i * view.stride, length, pivots[i], runs[i]);
    });
    MergeLanes<kCentred>(length, runs, count);
    MergeMoments(
        group, static_cast<double>(length), count, [&](int64_t i) { return runs[i].mean[0]; },
        [&](int64_t i) { return runs[i].m2[0]; });
    if (grouping.EndsGroup(++chunk)) {
      MergeMoments(total, group, count);
      group = MomentsOf<kItems>();
    }
  });
  Finish(total, pivots, count, norm.epsilon, normalizers, 0);
}

// ---- Sequences of which not every position counts: their values are brought together, and are from then on what a tensor cut
// to them would hold.

// A sequence's values that count, as that tensor has them.
struct CutSequence {
  const SequenceNorm& norm;
  int64_t sequence;
  bool joined;          // chunks run on from plane to plane
  int64_t count = 0;    // of values
  int64_t planes = 0;   // that have any
  int64_t longest = 0;  // of the planes

  CutSequence(const SequenceNorm& norm_, int64_t sequence_)
      : norm(norm_), sequence(sequence_), joined(!norm_.planes_are_samples) {
    for (int64_t plane = 0; plane < norm.planes; ++plane) {
      const int64_t length = Length(plane);
      count += length;
      planes += length != 0;
      longest = HWY_MAX(longest, length);
    }
  }
  int64_t Length(int64_t plane) const { return norm.validity.Count(norm.Sample(sequence, plane)); }
  // Planes of one value each have their channels side by side when they are cut, and are reduced in that order.
  bool IsColumn() const { return !joined && longest == 1; }
  int64_t ChunkLength() const { return IsColumn() ? kChunkRows : kChunkElements; }
  int64_t Chunks() const {
    if (joined || IsColumn()) return (count + ChunkLength() - 1) / ChunkLength();
    int64_t chunks = 0;
    for (int64_t plane = 0; plane < norm.planes; ++plane) chunks += (Length(plane) + kChunkElements - 1) / kChunkElements;
    return chunks;
  }
  // Where the middle one of the values is, counted from the first.
  int64_t Middle() const {
    if (joined) return count / 2;
    int64_t seen = 0, before = 0;
    for (int64_t plane = 0;; ++plane) {
      const int64_t length = Length(plane);
      if (length == 0) continue;
      if (seen++ == planes / 2) return before + (planes % 2 == 0 ? 0 : length / 2);
      before += length;
    }
  }
};

// Calls visit(values, n, how many there were before) for the chunks of a cut sequence, whose values are brought together in the
// stage.
template <class Visit>
HWY_INLINE void ForEachCutChunk(const CutSequence& cut, float* stage, const Visit& visit) {
  const SequenceNorm& norm = cut.norm;
  int64_t filled = 0, before = 0;
  const auto flush = [&]() HWY_ATTR {
    if (filled == 0) return;
    visit(stage, filled, before);
    before += filled;
    filled = 0;
  };
  for (int64_t plane = 0; plane < norm.planes; ++plane) {
    bool valid;
    for (int64_t position = 0, end; position < norm.length; position = end) {
      end = norm.validity.RunEnd(norm.Sample(cut.sequence, plane), position, norm.length, &valid);
      for (int64_t at = position; valid && at < end;) {
        const int64_t n = HWY_MIN(end - at, cut.ChunkLength() - filled);
        FillStage(norm, cut.sequence, plane, at, n, stage + filled);
        at += n, filled += n;
        if (filled == cut.ChunkLength()) flush();
      }
    }
    if (!cut.joined && !cut.IsColumn()) flush();
  }
  flush();
}

// As NormalizerOfOne. -> the number of values
template <class T>
HWY_NOINLINE int64_t NormalizerOfCut(const SequenceNorm& norm, int64_t sequence, Normalizers& normalizers, int64_t i) {
  const StripTag<T> d;
  const CutSequence cut(norm, sequence);
  if (cut.count == 0) {
    normalizers = NoValues();
    return 0;
  }
  alignas(64) float stage[kStageElements];
  float first = 0, middle = 0, last = 0;
  const int64_t middle_at = cut.Middle();
  ForEachCutChunk(cut, stage, [&](const float* values, int64_t n, int64_t before) {
    if (before == 0) first = values[0];
    if (middle_at >= before && middle_at < before + n) middle = values[middle_at - before];
    last = values[n - 1];
  });
  const T pivot = Pivot<T>(first, middle, last);
  const Grouping grouping(cut.Chunks());
  LaneMoments<T> run;
  Moments group, total;
  int64_t chunk = 0;
  ForEachCutChunk(cut, stage, [&](const float* values, int64_t n, int64_t /*before*/) HWY_ATTR {
    if (cut.IsColumn()) {
      run.Start(pivot);
      AddStrips<true, false>(d, values, 1, 1, 0, static_cast<size_t>(n), run);
    } else {
      RunMoments<true>(d, values, n, pivot, run);
      MergeLanes<true>(n, &run, 1);
    }
    MergeMoments(
        group, static_cast<double>(n), 1, [&](int64_t /*item*/) { return run.mean[0]; },
        [&](int64_t /*item*/) { return run.m2[0]; });
    if (grouping.EndsGroup(++chunk)) {
      MergeMoments(total, group, 1);
      group = Moments();
    }
  });
  Finish(total, &pivot, 1, norm.epsilon, normalizers, i);
  return cut.count;
}

// ---- Writes.

// Normalizes n elements from `start` on of a plane, from src to dst, each channel with its own scale and shift.
template <class T>
HWY_INLINE void WriteChannels(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t n,
                              const Span& src, void* dst, simdnorm_dtype dst_dtype, const Centre<T>& centre) {
  if (norm.planes_are_samples) {
    return WithElements<T>(src, dst, dst_dtype, [&](auto d, const auto* x, auto* y) HWY_ATTR {
      WriteChannel(d, x, y, n, centre, ParameterAt(norm.scale, norm.scale_dtype, norm.scale_offset, sequence, 1),
                   ParameterAt(norm.shift, norm.scale_dtype, 0, sequence, 0));
    });
  }
  const int64_t first = norm.Channel(sequence, plane, start);
  const int64_t in_first = HWY_MIN(n, norm.spatial - start % norm.spatial);
  WithElements<T>(src, dst, dst_dtype, [&](auto d, const auto* x, auto* y) HWY_ATTR {
    int64_t channel = first, length = in_first;
    for (int64_t i = 0; i < n; i += length, length = HWY_MIN(n - i, norm.spatial), ++channel) {
      WriteChannel(d, x + i, y + i, length, centre, ParameterAt(norm.scale, norm.scale_dtype, norm.scale_offset, channel, 1),
                   ParameterAt(norm.shift, norm.scale_dtype, 0, channel, 0));
    }
  });
}

// Spells scale and shift out for each of n elements.
HWY_NOINLINE inline void SpellOutChannels(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t n,
                                          float* scale, float* shift) {
  int64_t channel = norm.Channel(sequence, plane, start), left = norm.spatial - start % norm.spatial;
  for (int64_t i = 0; i < n; ++channel, left = norm.spatial) {
    const float channel_scale = ParameterAt(norm.scale, norm.scale_dtype, norm.scale_offset, channel, 1);
    const float channel_shift = ParameterAt(norm.shift, norm.scale_dtype, 0, channel, 0);
    for (const int64_t end = HWY_MIN(n, i + left); i < end; ++i) scale[i] = channel_scale, shift[i] = channel_shift;
  }
}

// Scale and shift by position, from some position on, in f32; null: none.
struct Parameters {
  const float* scale;
  const float* shift;
};

// Those of a sequence's positions [start, start + n): where they are, or in the buffers, which have room for n.
HWY_INLINE Parameters ParametersOf(const SequenceNorm& norm, int64_t sequence, int64_t start, int64_t n, float* scale_buffer,
                                   float* shift_buffer) {
  const int64_t set = norm.sequences_per_scale == 0 ? 0 : sequence / norm.sequences_per_scale;
  const int64_t element = set * norm.scale_stride + start;
  return {ParameterSpan(norm.scale, norm.scale_dtype, norm.scale_offset, element, n, scale_buffer),
          ParameterSpan(norm.shift, norm.scale_dtype, 0, element, n, shift_buffer)};
}

// From n <= kPiece values of h to what goes to y but for its dtype. `parameters` are null or those of the sequence from its
// first position on.
template <class T, bool kCentred>
HWY_NOINLINE void ComputePiece(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t n,
                               const Centre<T>& centre, const Parameters* parameters, const Span& src, void* dst,
                               simdnorm_dtype dst_dtype) {
  alignas(64) float scale_buffer[kPiece], shift_buffer[kPiece];
  if (norm.channel_by_channel) {
    if constexpr (kCentred) WriteChannels(norm, sequence, plane, start, n, src, dst, dst_dtype, centre);
  } else {
    Parameters here = {scale_buffer, shift_buffer};
    if (norm.by_channel) {
      SpellOutChannels(norm, sequence, plane, start, n, scale_buffer, shift_buffer);
    } else if (parameters) {
      here = {parameters->scale ? parameters->scale + start : nullptr, parameters->shift ? parameters->shift + start : nullptr};
    } else {
      here = ParametersOf(norm, sequence, start, n, scale_buffer, shift_buffer);
    }
    WithElements<T>(src, dst, dst_dtype, [&](auto d, const auto* x, auto* y) HWY_ATTR {
      WriteElements<kCentred>(d, x, y, n, centre, here.scale, here.shift);
    });
  }
  if (norm.bare) return;
  const bool after = norm.residual && !norm.residual_before;
  const void* residual = after ? norm.residual.At(norm.Offset(norm.residual, sequence, plane) + start) : nullptr;
  const void* gate = norm.gate ? norm.gate.At(norm.Offset(norm.gate, sequence, plane) + start) : nullptr;
  ApplyEpilogue(norm.epilogue, residual, norm.residual.dtype, gate, norm.gate.dtype, static_cast<float*>(dst), n);
}

// Stores n results from `start` on of a plane at y; where some positions do not count, run by run.
HWY_NOINLINE inline void StorePiece(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t n,
                                    const float* values, float quant_scale) {
  const int64_t offset = norm.Offset(norm.y, sequence, plane);
  if (HWY_LIKELY(norm.validity.All())) {
    return StoreSpan(norm.epilogue, values, n, norm.y.At(offset + start), norm.y.dtype, quant_scale);
  }
  bool valid;
  for (int64_t at = start, end; at < start + n; at = end) {
    end = norm.validity.RunEnd(norm.Sample(sequence, plane), at, start + n, &valid);
    void* y = norm.y.At(offset + at);
    if (valid) {
      StoreSpan(norm.epilogue, values + (at - start), end - at, y, norm.y.dtype, quant_scale);
    } else if (norm.validity.padding == SIMDNORM_PADDING_ZERO) {
      StoreZeros(norm.epilogue, end - at, y, norm.y.dtype);
    }
  }
}

// What does not go from x to y at a stroke: `length` elements from `start` on of a plane. `h` is where they are already, or
// null. Stores the results (`quant_scale` as in StoreSpan); or with `max_abs` only takes their largest magnitude.
template <class T, bool kCentred>
HWY_NOINLINE void WriteStaged(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t length,
                              const Centre<T>& centre, const Parameters* parameters, const Span* h, float quant_scale,
                              uint32_t* max_abs) {
  alignas(64) float source[kPiece], results[kPiece];
  for (int64_t at = start; at < start + length; at += kPiece) {
    const int64_t n = HWY_MIN(kPiece, start + length - at);
    Span src = h ? h->From(at - start) : Source(norm, sequence, plane, at, n, source);
    // Results are computed where they belong, if nothing that is read later is overwritten there, and nothing left out.
    const bool at_y = norm.y.dtype == SIMDNORM_F32
                          ? norm.y_is_write_only
                          : norm.y_is_write_only && norm.bare && WritesFrom<T>(src.dtype, norm.y.dtype);
    void* dst = at_y ? norm.y.At(norm.Offset(norm.y, sequence, plane) + at) : results;
    const simdnorm_dtype dst_dtype = at_y ? norm.y.dtype : SIMDNORM_F32;
    if (src.dtype != SIMDNORM_F32 && (norm.h || !WritesFrom<T>(src.dtype, dst_dtype))) {
      WidenSpan(src.data, src.dtype, source, n);
      src = {source, SIMDNORM_F32};
    }
    const auto store_h = [&] {
      if (!norm.h || max_abs) return;
      NarrowSpan(static_cast<const float*>(src.data), norm.h.At(norm.Offset(norm.h, sequence, plane) + at), norm.h.dtype, n);
    };
    // Before y, where that may lie on x; else after all is read, as h may lie on the residual.
    if (at_y) store_h();
    ComputePiece<T, kCentred>(norm, sequence, plane, at, n, centre, parameters, src, dst, dst_dtype);
    if (!at_y) store_h();
    if (max_abs) {
      *max_abs = MaxAbsBits(results, n, *max_abs);
    } else if (!at_y) {
      StorePiece(norm, sequence, plane, at, n, results, quant_scale);
    }
  }
}

// Writes `length` elements from `start` on of a plane.
template <class T, bool kCentred>
HWY_INLINE void WriteSpan(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t length,
                          const Centre<T>& centre, const Parameters* parameters, const Span* h, float quant_scale) {
  const bool plain = norm.plain && WritesFrom<T>(norm.x.dtype, norm.y.dtype) && (norm.by_channel || parameters);
  if (HWY_UNLIKELY(!plain)) {
    return WriteStaged<T, kCentred>(norm, sequence, plane, start, length, centre, parameters, h, quant_scale, nullptr);
  }
  const Span x = {norm.x.At(norm.Offset(norm.x, sequence, plane) + start), norm.x.dtype};
  void* y = norm.y.At(norm.Offset(norm.y, sequence, plane) + start);
  if (norm.by_channel) {
    if constexpr (kCentred) WriteChannels(norm, sequence, plane, start, length, x, y, norm.y.dtype, centre);
  } else {
    const float* scale = parameters->scale ? parameters->scale + start : nullptr;
    const float* shift = parameters->shift ? parameters->shift + start : nullptr;
    WithElements<T>(x, y, norm.y.dtype, [&](auto d, const auto* from, auto* to) HWY_ATTR {
      WriteElements<kCentred>(d, from, to, length, centre, scale, shift);
    });
  }
}

// Writes chunks [begin, end) of a sequence. What is known of it already: its parameters; where its h is, as item i of a view;
// or null.
template <class T, bool kCentred>
HWY_INLINE void WriteChunks(const SequenceNorm& norm, int64_t sequence, int64_t begin, int64_t end, const Centre<T>& centre,
                            const Parameters* parameters, const View* view, int64_t i) {
  float quant_scale = 0;
  if (norm.epilogue.quant_scales) {
    uint32_t max_abs = 0;
    ForEachChunk(norm, begin, end, [&](int64_t plane, int64_t start, int64_t length) HWY_ATTR {
      const Span h = view ? view->At(i, plane, start) : Span();
      WriteStaged<T, kCentred>(norm, sequence, plane, start, length, centre, parameters, view ? &h : nullptr, 0, &max_abs);
    });
    quant_scale = norm.epilogue.quant_scales[sequence] = DynamicScale(max_abs);
  }
  ForEachChunk(norm, begin, end, [&](int64_t plane, int64_t start, int64_t length) HWY_ATTR {
    const Span h = view ? view->At(i, plane, start) : Span();
    WriteSpan<T, kCentred>(norm, sequence, plane, start, length, centre, parameters, view ? &h : nullptr, quant_scale);
  });
}

template <bool kCentred>
HWY_INLINE void WriteSequence(const SequenceNorm& norm, int64_t sequence, int64_t begin, int64_t end,
                              const Normalizers& normalizers, const Parameters* parameters, const View* view, int64_t i) {
  if (HWY_UNLIKELY(normalizers.in_double[i])) {
    WriteChunks<double, kCentred>(norm, sequence, begin, end, CentreOf(normalizers, i, 0.0), parameters, view, i);
  } else {
    WriteChunks<float, kCentred>(norm, sequence, begin, end, CentreOf(normalizers, i, 0.0f), parameters, view, i);
  }
}

// Scale and shift of sequences as they come, in f32: where they are; or for short sequences in buffers, which are filled when
// others are needed.
class ParametersInFloat {
 public:
  explicit ParametersInFloat(const SequenceNorm& norm) : norm_(norm) {}

  // -> null if they are better looked at piece by piece
  HWY_INLINE const Parameters* Of(int64_t sequence) {
    if (norm_.by_channel) return nullptr;
    const int64_t set = norm_.sequences_per_scale == 0 ? 0 : sequence / norm_.sequences_per_scale;
    if (HWY_LIKELY(set == set_)) return &parameters_;
    const bool in_place = (!norm_.scale && !norm_.shift) || (norm_.scale_dtype == SIMDNORM_F32 && norm_.scale_offset == 0);
    if (!in_place && norm_.length > kMaxLength) return nullptr;
    parameters_ = ParametersOf(norm_, sequence, 0, norm_.length, scale_, shift_);
    set_ = set;
    return &parameters_;
  }

 private:
  static constexpr int64_t kMaxLength = 4096;
  const SequenceNorm& norm_;
  int64_t set_ = -1;
  Parameters parameters_;
  alignas(64) float scale_[kMaxLength], shift_[kMaxLength];
};

// Writes neighbours that go from x to y at a stroke, each a run with the same parameters: what WriteSequence does for each,
// without asking at every one of many short rows what kind it is.
template <bool kCentred>
HWY_NOINLINE void WriteNeighbours(const SequenceNorm& norm, const View& view, int64_t first, int64_t count,
                                  const Normalizers& normalizers, const Parameters& parameters) {
  WithElements<float>(view.base, norm.y.At(norm.Offset(norm.y, first, 0)), norm.y.dtype,
                      [&](auto d, const auto* x, auto* y) HWY_ATTR {
                        for (int64_t i = 0; i < count; ++i) {
                          WriteElements<kCentred>(d, x + i * view.stride, y + i * norm.y.stride, norm.length,
                                                  CentreOf(normalizers, i, 0.0f), parameters.scale, parameters.shift);
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
    StoreZeros(norm.epilogue, norm.length, norm.y.At(norm.Offset(norm.y, sequence, 0)), norm.y.dtype);
    if (norm.h) StoreZeros({}, norm.length, norm.h.At(norm.Offset(norm.h, sequence, 0)), norm.h.dtype);
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

// How many elements of neighbouring sequences to take at a time: they should stay in L1 between their moments and their writes.
// Measured on a 48 KiB L1: 16 KiB are best for f32, 32 KiB for 16 bits.
HWY_INLINE int64_t BatchElements(const SequenceNorm& norm) {
  return norm.x_is_h && norm.x.dtype != SIMDNORM_F32 ? 4 * kStageElements : kStageElements;
}

// Kernel: sequences [begin, end), all of each.
template <bool kCentred>
void NormalizeSequences(const void* args, int64_t begin, int64_t end) {
  const SequenceNorm& norm = *static_cast<const SequenceNorm*>(args);
  const int64_t chunks = norm.Chunks().chunks, elements = norm.Elements();
  const bool whole = norm.validity.All();
  const bool short_enough = whole && elements <= kStageElements;
  const int64_t batch = short_enough ? HWY_MIN(kItems, BatchElements(norm) / elements) : 1;

  const bool runs_of_plain = norm.plain && !norm.by_channel && WritesFrom<float>(norm.x.dtype, norm.y.dtype);

  alignas(64) float stage[kStageElements];
  ParametersInFloat parameters(norm);
  Normalizers normalizers;
  for (int64_t first = begin, count; first < end; first += count) {
    count = PaddedFrom(norm, first, end);
    if (HWY_UNLIKELY(count != 0)) {
      WritePadding(norm, first, count);
      continue;
    }
    count = Neighbours(norm, first, HWY_MIN(batch, end - first));
    int64_t values = elements;
    View view;
    if (short_enough) {
      view = ViewOf(norm, first, count, stage);
      NormalizersOfNeighbours<kCentred>(norm, view, count, normalizers);
    } else if (whole) {
      NormalizerOfOne<float, kCentred>(norm, first, normalizers, 0);
    } else if constexpr (kCentred) {
      values = NormalizerOfCut<float>(norm, first, normalizers, 0);
    }
    bool any_in_double = false;
    for (int64_t i = 0; i < count; ++i) {
      if (HWY_LIKELY(!normalizers.in_double[i])) continue;
      any_in_double = true;
      if (whole) {
        NormalizerOfOne<double, kCentred>(norm, first + i, normalizers, i);
      } else if constexpr (kCentred) {
        NormalizerOfCut<double>(norm, first + i, normalizers, i);
      }
    }
    SaveStatistics(norm.outputs, first, count, values, normalizers);
    const Parameters* of_first = parameters.Of(first);
    if (HWY_LIKELY(runs_of_plain && short_enough && of_first && !any_in_double)) {
      WriteNeighbours<kCentred>(norm, view, first, count, normalizers, *of_first);
      continue;
    }
    for (int64_t i = 0; i < count; ++i) {
      WriteSequence<kCentred>(norm, first + i, 0, chunks, normalizers, of_first, short_enough ? &view : nullptr, i);
    }
  }
}

// Kernel of a SharedSequences: unit u is group u % groups of its sequence u / groups.
template <bool kCentred>
void SharedMoments(const void* args, int64_t begin, int64_t end) {
  const SharedSequences& shared = *static_cast<const SharedSequences*>(args);
  const SequenceNorm& norm = *shared.norm;
  const int64_t groups = norm.Chunks().groups;
  for (int64_t unit = begin; unit < end;) {
    const int64_t i = unit / groups, last = HWY_MIN(end, (i + 1) * groups), sequence = shared.first + i;
    const auto emit = [&](int64_t group, const Moments& moments) { shared.moments[i * groups + group] = moments; };
    if (!shared.in_double) {
      GroupMoments<float, kCentred>(norm, sequence, unit - i * groups, last - i * groups,
                                    PivotOf<float, kCentred>(norm, sequence), emit);
    } else if (shared.normalizers->in_double[i]) {
      GroupMoments<double, kCentred>(norm, sequence, unit - i * groups, last - i * groups,
                                     PivotOf<double, kCentred>(norm, sequence), emit);
    }
    unit = last;
  }
}

// Kernel of a SharedSequences, one unit: moments become normalizers.
template <bool kCentred>
void SharedFinish(const void* args, int64_t /*begin*/, int64_t /*end*/) {
  const SharedSequences& shared = *static_cast<const SharedSequences*>(args);
  const SequenceNorm& norm = *shared.norm;
  const int64_t groups = norm.Chunks().groups;
  for (int64_t i = 0; i < shared.count; ++i) {
    if (shared.in_double && !shared.normalizers->in_double[i]) continue;
    Moments total;
    for (int64_t group = 0; group < groups; ++group) MergeMoments(total, shared.moments[i * groups + group], 1);
    const float pivot = PivotOf<float, kCentred>(norm, shared.first + i);
    const double pivot_in_double = static_cast<double>(pivot);
    if (shared.in_double) {
      Finish(total, &pivot_in_double, 1, norm.epsilon, *shared.normalizers, i);
    } else {
      Finish(total, &pivot, 1, norm.epsilon, *shared.normalizers, i);
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
  const Grouping grouping = shared.norm->Chunks();
  ParametersInFloat parameters(*shared.norm);
  for (int64_t unit = begin; unit < end;) {
    const int64_t i = unit / grouping.groups, last = HWY_MIN(end, (i + 1) * grouping.groups);
    WriteSequence<kCentred>(*shared.norm, shared.first + i, (unit - i * grouping.groups) * grouping.group_size,
                            HWY_MIN((last - i * grouping.groups) * grouping.group_size, grouping.chunks), *shared.normalizers,
                            parameters.Of(shared.first + i), nullptr, i);
    unit = last;
  }
}

template <bool kCentred>
SequenceKernels MakeSequenceKernels() {
  return {NormalizeSequences<kCentred>, SharedMoments<kCentred>, SharedFinish<kCentred>, SharedSave, SharedWrite<kCentred>};
}

// Kernel of a SequenceNorm with given statistics: units are the chunks of its planes, sample by sample.
inline void NormalizePlanes(const void* args, int64_t begin, int64_t end) {
  const SequenceNorm& norm = *static_cast<const SequenceNorm*>(args);
  const int64_t chunks = norm.ChunksPerPlane();
  int64_t sample = begin / chunks / norm.groups, channel = begin / chunks % norm.groups;
  for (int64_t unit = begin; unit < end;) {
    // As much of the plane at once as is in the range.
    const int64_t first = (sample * norm.groups + channel) * chunks, next = HWY_MIN(end, first + chunks);
    const int64_t start = (unit - first) * kChunkElements;
    const int64_t length = HWY_MIN((next - first) * kChunkElements, norm.length) - start;
    const Centre<float> centre = {norm.mean[channel], 0, GivenRstd(norm.variance[channel], norm.epsilon)};
    WriteSpan<float, true>(norm, channel, sample, start, length, centre, nullptr, nullptr, 0);
    unit = next;
    if (++channel == norm.groups) channel = 0, ++sample;
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_ROWS_INL_H_
