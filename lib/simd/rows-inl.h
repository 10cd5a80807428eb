// Kernels over runs of adjacent elements: sequences normalized by their own statistics (rows of layer and RMS norm, channels
// of batch norm in NCHW), and planes normalized by given ones (batch norm inference in NCHW).
//
// A kernel reads top to bottom: moments of up to 16 sequences, their normalizers, then the writes. So the steps in which one
// sequence waits for itself (merging lanes, square root, division) run for 16 at a time, while x is still in the cache.
#if defined(SIMDNORM_LIB_SIMD_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIMDNORM_LIB_SIMD_ROWS_INL_H_
#undef SIMDNORM_LIB_SIMD_ROWS_INL_H_
#else
#define SIMDNORM_LIB_SIMD_ROWS_INL_H_
#endif

#include "sequences.h"
#include "simd/moments-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

// Scale and shift as the write loop sees them: absent, one for each element of the run, or one for the whole run.
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

template <class TS>
struct PerElement {
  static constexpr bool kPresent = true;
  const TS* HWY_RESTRICT p;
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

template <class TY>
HWY_NOINLINE void MakeNaNCanonical(TY* y, int64_t length) {
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
// for each, where comparing and choosing take two operations. If the sum is NaN, results are stored again.
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
  const auto write = [&](int64_t i) HWY_ATTR {
    const V v = normalize(LoadElements(d, x + i), scale.Get(d, i), shift.Get(d, i));
    StoreElements<false>(v, d, y + i);
    return v;
  };
  const int64_t step = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  V sum0 = hn::Zero(d), sum1 = hn::Zero(d);
  for (; i + 2 * step <= length; i += 2 * step) {
    sum0 = hn::Add(sum0, write(i));
    sum1 = hn::Add(sum1, write(i + step));
  }
  if (i + step <= length) {
    sum0 = hn::Add(sum0, write(i));
    i += step;
  }
  if (HWY_UNLIKELY(!hn::AllFalse(d, hn::IsNaN(hn::Add(sum0, sum1))))) MakeNaNCanonical(y, i);
  if (i < length) {
    const size_t n = static_cast<size_t>(length - i);
    const V v = normalize(LoadFirst(d, x + i, n), scale.GetN(d, i, n), shift.GetN(d, i, n));
    StoreFirst(v, d, y + i, n);
  }
}

// Sequences as kernels see them: element types, and where scale and shift lie.
template <bool kCentred_, bool kPerElement, class TX_, class TY_, class TS_>
struct SequenceTraits {
  static constexpr bool kCentred = kCentred_;
  using TX = TX_;
  using TY = TY_;
  using TS = TS_;

  static const TX* X(const SequenceNorm& norm, int64_t sequence) {
    return static_cast<const TX*>(norm.x) + sequence * norm.x_stride;
  }
  static TY* Y(const SequenceNorm& norm, int64_t sequence) { return static_cast<TY*>(norm.y) + sequence * norm.y_stride; }

  // Calls write(scale, shift) with the parameters of a sequence from `element` of its runs on.
  template <class Write>
  static HWY_INLINE void WithParameters(const SequenceNorm& norm, int64_t sequence, int64_t element, const Write& write) {
    const TS* scale = static_cast<const TS*>(norm.scale);
    const TS* shift = static_cast<const TS*>(norm.shift);
    if constexpr (kPerElement) {
      if (scale && shift) return write(PerElement<TS>{scale + element}, PerElement<TS>{shift + element});
      if (scale) return write(PerElement<TS>{scale + element}, Absent());
      if (shift) return write(Absent(), PerElement<TS>{shift + element});
      write(Absent(), Absent());
    } else {
      write(PerRun{scale ? LoadScalar(scale + sequence) : 1.0f}, PerRun{shift ? LoadScalar(shift + sequence) : 0.0f});
    }
  }
};

template <class T, class Traits>
HWY_INLINE T SequencePivot(const SequenceNorm& norm, const typename Traits::TX* x) {
  if constexpr (!Traits::kCentred) return 0;
  return Pivot<T>(LoadScalar(x), LoadScalar(x + norm.MiddleOffset()), LoadScalar(x + norm.LastOffset()));
}

// Calls visit(first element's plane, its place in the plane, length) for chunks [begin, end) of a sequence.
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

// Moments of groups [begin, end) of a sequence's chunks: emit(group, moments), in their order. 16 chunks of a length at a time.
template <class T, class Traits, class Emit>
HWY_INLINE void GroupMoments(const SequenceNorm& norm, const typename Traits::TX* x, int64_t begin, int64_t end,
                             const Emit& emit) {
  const StripTag<T> d;
  const Grouping grouping = norm.Chunks();
  const T pivot = SequencePivot<T, Traits>(norm, x);
  LaneMoments<T> runs[kItems];
  int64_t pending = 0, pending_length = 0, chunk = begin * grouping.group_size;
  Moments group;
  const auto flush = [&]() HWY_ATTR {
    MergeLanes<Traits::kCentred>(pending_length, runs, pending);
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
                 RunMoments<Traits::kCentred>(d, x + plane * norm.plane_stride + start, length, pivot, runs[pending++]);
               });
  flush();
}

template <class T, class Traits>
HWY_INLINE void FinishOne(const SequenceNorm& norm, int64_t sequence, const Moments& total, Normalizers& normalizers,
                          int64_t i) {
  const T pivot = SequencePivot<T, Traits>(norm, Traits::X(norm, sequence));
  Finish(total, &pivot, 1, norm.epsilon, normalizers, i);
}

// Gathers a sequence's moments in T, for item i of the normalizers.
template <class T, class Traits>
HWY_NOINLINE void NormalizerOfOne(const SequenceNorm& norm, int64_t sequence, Normalizers& normalizers, int64_t i) {
  Moments total;
  GroupMoments<T, Traits>(norm, Traits::X(norm, sequence), 0, norm.Chunks().groups,
                          [&](int64_t /*group*/, const Moments& moments) HWY_ATTR { MergeMoments(total, moments, 1); });
  FinishOne<T, Traits>(norm, sequence, total, normalizers, i);
}

// The normalizers of `count` <= 16 neighbouring sequences, chunk by chunk of all of them. For sequences that are short enough
// to stay in the cache together.
template <class Traits>
HWY_INLINE void NormalizersOfNeighbours(const SequenceNorm& norm, int64_t first, int64_t count, Normalizers& normalizers) {
  const StripTag<float> d;
  const Grouping grouping = norm.Chunks();
  float pivots[kItems];
  LaneMoments<float> runs[kItems];
  MomentsOf<kItems> group, total;
  for (int64_t i = 0; i < count; ++i) pivots[i] = SequencePivot<float, Traits>(norm, Traits::X(norm, first + i));
  int64_t chunk = 0;
  ForEachChunk(norm, 0, grouping.chunks, [&](int64_t plane, int64_t start, int64_t length) HWY_ATTR {
    const int64_t offset = plane * norm.plane_stride + start;
    for (int64_t i = 0; i < count; ++i) {
      RunMoments<Traits::kCentred>(d, Traits::X(norm, first + i) + offset, length, pivots[i], runs[i]);
    }
    MergeLanes<Traits::kCentred>(length, runs, count);
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

// Writes chunks [begin, end) of a sequence in arithmetic of type T. Not inline: both types of it would be in each caller.
template <class T, class Traits>
HWY_NOINLINE void WriteChunks(const SequenceNorm& norm, int64_t sequence, int64_t begin, int64_t end, const Centre<T>& centre) {
  const StripTag<T> d;
  const auto* x = Traits::X(norm, sequence);
  auto* y = Traits::Y(norm, sequence);
  ForEachChunk(norm, begin, end, [&](int64_t plane, int64_t start, int64_t length) HWY_ATTR {
    const int64_t offset = plane * norm.plane_stride + start;
    Traits::WithParameters(norm, sequence, start, [&](const auto& scale, const auto& shift) HWY_ATTR {
      WriteRun<Traits::kCentred>(d, x + offset, y + offset, length, centre, scale, shift);
    });
  });
}

template <class Traits>
HWY_INLINE void WriteSequence(const SequenceNorm& norm, int64_t sequence, int64_t begin, int64_t end,
                              const Normalizers& normalizers, int64_t i) {
  if (HWY_UNLIKELY(normalizers.in_double[i])) {
    WriteChunks<double, Traits>(norm, sequence, begin, end, CentreOf(normalizers, i, 0.0));
  } else {
    WriteChunks<float, Traits>(norm, sequence, begin, end, CentreOf(normalizers, i, 0.0f));
  }
}

// Kernel: sequences [begin, end), all of each.
template <class Traits>
void NormalizeSequences(const void* args, int64_t begin, int64_t end) {
  const SequenceNorm& norm = *static_cast<const SequenceNorm*>(args);
  const int64_t chunks = norm.Chunks().chunks, elements = norm.planes * norm.length;
  // As many sequences at a time as stay in L1 between their moments and their writes.
  constexpr int64_t kBatchElements = 4096;
  const int64_t batch = HWY_MAX(1, HWY_MIN(kItems, kBatchElements / elements));

  Normalizers normalizers;
  for (int64_t first = begin; first < end; first += batch) {
    const int64_t count = HWY_MIN(batch, end - first);
    if (batch > 1 || chunks == 1) {
      NormalizersOfNeighbours<Traits>(norm, first, count, normalizers);
    } else {
      NormalizerOfOne<float, Traits>(norm, first, normalizers, 0);
    }
    for (int64_t i = 0; i < count; ++i) {
      if (HWY_UNLIKELY(normalizers.in_double[i])) NormalizerOfOne<double, Traits>(norm, first + i, normalizers, i);
    }
    SaveStatistics(norm.outputs, first, count, elements, normalizers);
    for (int64_t i = 0; i < count; ++i) WriteSequence<Traits>(norm, first + i, 0, chunks, normalizers, i);
  }
}

// Kernel of a SharedSequences: unit u is group u % groups of its sequence u / groups.
template <class Traits>
void SharedMoments(const void* args, int64_t begin, int64_t end) {
  const SharedSequences& shared = *static_cast<const SharedSequences*>(args);
  const int64_t groups = shared.norm->Chunks().groups;
  for (int64_t unit = begin; unit < end;) {
    const int64_t i = unit / groups, last = HWY_MIN(end, (i + 1) * groups);
    const auto* x = Traits::X(*shared.norm, shared.first + i);
    const auto emit = [&](int64_t group, const Moments& moments) { shared.moments[i * groups + group] = moments; };
    if (!shared.in_double) {
      GroupMoments<float, Traits>(*shared.norm, x, unit - i * groups, last - i * groups, emit);
    } else if (shared.normalizers->in_double[i]) {
      GroupMoments<double, Traits>(*shared.norm, x, unit - i * groups, last - i * groups, emit);
    }
    unit = last;
  }
}

// Kernel of a SharedSequences, one unit: moments become normalizers.
template <class Traits>
void SharedFinish(const void* args, int64_t /*begin*/, int64_t /*end*/) {
  const SharedSequences& shared = *static_cast<const SharedSequences*>(args);
  const SequenceNorm& norm = *shared.norm;
  const int64_t groups = norm.Chunks().groups;
  for (int64_t i = 0; i < shared.count; ++i) {
    if (shared.in_double && !shared.normalizers->in_double[i]) continue;
    Moments total;
    for (int64_t group = 0; group < groups; ++group) MergeMoments(total, shared.moments[i * groups + group], 1);
    if (shared.in_double) {
      FinishOne<double, Traits>(norm, shared.first + i, total, *shared.normalizers, i);
    } else {
      FinishOne<float, Traits>(norm, shared.first + i, total, *shared.normalizers, i);
    }
  }
}

// Kernel of a SharedSequences, one unit: hands out the statistics.
template <class Traits>
void SharedSave(const void* args, int64_t /*begin*/, int64_t /*end*/) {
  const SharedSequences& shared = *static_cast<const SharedSequences*>(args);
  const SequenceNorm& norm = *shared.norm;
  SaveStatistics(norm.outputs, shared.first, shared.count, norm.planes * norm.length, *shared.normalizers);
}

// Kernel of a SharedSequences: writes the same units as SharedMoments.
template <class Traits>
void SharedWrite(const void* args, int64_t begin, int64_t end) {
  const SharedSequences& shared = *static_cast<const SharedSequences*>(args);
  const Grouping grouping = shared.norm->Chunks();
  for (int64_t unit = begin; unit < end;) {
    const int64_t i = unit / grouping.groups, last = HWY_MIN(end, (i + 1) * grouping.groups);
    WriteSequence<Traits>(*shared.norm, shared.first + i, (unit - i * grouping.groups) * grouping.group_size,
                          HWY_MIN((last - i * grouping.groups) * grouping.group_size, grouping.chunks), *shared.normalizers, i);
    unit = last;
  }
}

template <class Traits>
SequenceKernels MakeSequenceKernels() {
  return {NormalizeSequences<Traits>, SharedMoments<Traits>, SharedFinish<Traits>, SharedSave<Traits>, SharedWrite<Traits>};
}

// Kernel of a PlaneNorm: units are the chunks of the planes, plane by plane.
template <class TX, class TY, class TS>
void NormalizePlanes(const void* args, int64_t begin, int64_t end) {
  const PlaneNorm& norm = *static_cast<const PlaneNorm*>(args);
  const StripTag<float> d;
  const TS* scale = static_cast<const TS*>(norm.scale);
  const TS* shift = static_cast<const TS*>(norm.shift);
  const int64_t chunks = norm.ChunksPerPlane();
  int64_t plane = begin / chunks, channel = plane % norm.channels;
  for (int64_t unit = begin; unit < end; ++plane, channel = channel + 1 == norm.channels ? 0 : channel + 1) {
    // As much of the plane at once as is in the range.
    const int64_t next = HWY_MIN(end, (plane + 1) * chunks), start = (unit - plane * chunks) * kChunkElements;
    const int64_t length = HWY_MIN((next - plane * chunks) * kChunkElements, norm.spatial) - start;
    const int64_t offset = plane * norm.spatial + start;
    const Centre<float> centre = {norm.mean[channel], 0, GivenRstd(norm.variance[channel], norm.epsilon)};
    WriteRun<true>(d, static_cast<const TX*>(norm.x) + offset, static_cast<TY*>(norm.y) + offset, length, centre,
                   PerRun{scale ? LoadScalar(scale + channel) : 1.0f}, PerRun{shift ? LoadScalar(shift + channel) : 0.0f});
    unit = next;
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_ROWS_INL_H_
