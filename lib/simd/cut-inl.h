// Statistics of sequences of which not every position counts (Validity in kernels.h): the values that count are brought
// together in a stage, chunk by chunk, and are from then on what a tensor cut to them would hold, with the same bits.
#if defined(SIMDNORM_LIB_SIMD_CUT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIMDNORM_LIB_SIMD_CUT_INL_H_
#undef SIMDNORM_LIB_SIMD_CUT_INL_H_
#else
#define SIMDNORM_LIB_SIMD_CUT_INL_H_
#endif

#include "kernels.h"
#include "simd/moments-inl.h"
#include "simd/source-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

// Where a sequence's values that count are, as that tensor has them. Channels of batch norm, and the groups of a sample, have
// them in the same places: found once for all of those.
class Cut {
 public:
  // Chunks of group norm run on from plane to plane.
  explicit Cut(const SequenceNorm& norm_) : norm(norm_), runs_on(!norm_.planes_are_samples) {}

  void Find(int64_t sequence_) {
    const int64_t of = runs_on ? norm.Sample(sequence_, 0) : 0;
    sequence = sequence_;
    if (of == found_) return;
    found_ = of;
    count = planes = longest = 0;
    for (int64_t plane = 0; plane < norm.planes; ++plane) {
      const int64_t length = Length(plane);
      count += length;
      planes += length != 0;
      longest = HWY_MAX(longest, length);
    }
    if (count == 0) return;
    first_ = PlaceOf(0), middle_ = PlaceOf(Middle()), last_ = PlaceOf(count - 1);
  }

  // Planes of one value each have their channels side by side when they are cut, and are reduced in that order.
  bool IsColumn() const { return !runs_on && longest == 1; }
  int64_t ChunkLength() const { return IsColumn() ? kChunkRows : kChunkElements; }
  // As where all planes are of the length of the longest.
  int64_t PlanesPerChunk() const { return simdnorm::PlanesPerChunk(planes, longest); }
  int64_t Chunks() const {
    if (runs_on || IsColumn()) return CeilDiv(count, ChunkLength());
    if (PlanesPerChunk() != 1) return CeilDiv(planes, PlanesPerChunk());
    int64_t chunks = 0;
    for (int64_t plane = 0; plane < norm.planes; ++plane) chunks += CeilDiv(Length(plane), kChunkElements);
    return chunks;
  }

  template <class T>
  T PivotOf() const {
    return Pivot<T>(Value(first_), Value(middle_), Value(last_));
  }

  const SequenceNorm& norm;
  const bool runs_on;
  int64_t sequence = 0;
  int64_t count = 0;    // of values
  int64_t planes = 0;   // that have any
  int64_t longest = 0;  // of the planes

 private:
  struct Place {
    int64_t plane, position;
  };

  int64_t Length(int64_t plane) const { return norm.validity.Count(norm.Sample(sequence, plane)); }
  // Which of the values is the middle one.
  int64_t Middle() const {
    if (runs_on) return count / 2;
    int64_t seen = 0, before = 0;
    for (int64_t plane = 0;; ++plane) {
      const int64_t length = Length(plane);
      if (length == 0) continue;
      if (seen++ == planes / 2) return before + (planes % 2 == 0 ? 0 : length / 2);
      before += length;
    }
  }
  Place PlaceOf(int64_t k) const {
    for (int64_t plane = 0;; ++plane) {
      const int64_t length = Length(plane);
      if (k < length) return {plane, norm.validity.Position(norm.Sample(sequence, plane), k)};
      k -= length;
    }
  }
  float Value(const Place& place) const { return SourceValue(norm, sequence, place.plane, place.position); }

  int64_t found_ = -1;
  Place first_ = {}, middle_ = {}, last_ = {};
};

// Which positions count, as many as d has lanes.
template <class D>
HWY_INLINE hn::Mask<D> LanesThatCount(D d, const uint8_t* mask) {
  const hn::Rebind<uint32_t, D> d32;
  const auto wide = hn::PromoteTo(d32, hn::LoadU(hn::Rebind<uint8_t, D>(), mask));
  return hn::RebindMask(d, hn::Ne(wide, hn::Zero(d32)));
}

// Makes those of n values 0 that do not count.
HWY_NOINLINE inline void ZeroRest(const uint8_t* mask, float* values, int64_t n) {
  const StripTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(hn::IfThenElseZero(LanesThatCount(d, mask + i), hn::LoadU(d, values + i)), d, values + i);
  }
  for (; i < n; ++i) values[i] = mask[i] != 0 ? values[i] : 0.0f;
}

// Calls visit(values, n) for the chunks of a cut sequence, whose values are brought together in the
// stage.
template <class Visit>
HWY_INLINE void ForEachCutChunk(const Cut& cut, float* stage, const Visit& visit) {
  const SequenceNorm& norm = cut.norm;
  const int64_t planes_per_chunk = cut.PlanesPerChunk();
  int64_t filled = 0, planes = 0;
  const auto flush = [&]() HWY_ATTR {
    if (filled == 0) return;
    visit(stage, filled);
    filled = planes = 0;
  };
  const auto add_run = [&](int64_t plane, int64_t length) HWY_ATTR {
    for (int64_t at = 0; at < length;) {
      const int64_t n = HWY_MIN(length - at, cut.ChunkLength() - filled);
      FillStage(norm, cut.sequence, plane, at, n, stage + filled);
      at += n, filled += n;
      if (filled == cut.ChunkLength()) flush();
    }
  };
  const bool in_place = norm.x_is_h && norm.x.dtype == SIMDNORM_F32;
  const auto add_masked = [&](int64_t plane, const uint8_t* mask) HWY_ATTR {
    alignas(64) float piece[kPiece];
    for (int64_t at = 0; at < norm.length; at += kPiece) {
      const int64_t n = HWY_MIN(kPiece, norm.length - at);
      const float* values = piece;
      if (in_place) {
        values = static_cast<const float*>(norm.At(norm.x, cut.sequence, plane, at));
      } else {
        FillStage(norm, cut.sequence, plane, at, n, piece);
      }
      for (int64_t i = 0; i < n;) {
        // Every value is stored, and the next one over it if it does not count: nothing for the processor to guess. (By
        // Highway's Compress, as of 1.0.3, training of 32x64x56x56 took 2.5 times as long on AVX2: gcc copies its table to the
        // stack for every vector.)
        const int64_t end = i + HWY_MIN(n - i, cut.ChunkLength() - filled);
        float* to = stage + filled;
        for (; i < end; ++i) {
          *to = values[i];
          to += mask[at + i] != 0;
        }
        filled = to - stage;
        if (filled == cut.ChunkLength()) flush();
      }
    }
  };
  for (int64_t plane = 0; plane < norm.planes; ++plane) {
    const int64_t sample = norm.Sample(cut.sequence, plane), before = filled;
    if (norm.validity.mask) {
      add_masked(plane, norm.validity.MaskOf(sample));
    } else {
      add_run(plane, norm.validity.Count(sample));
    }
    if (cut.runs_on || cut.IsColumn()) continue;
    planes += filled != before;
    if (planes == planes_per_chunk) flush();
  }
  flush();
}

// As NormalizerOfOne, for item 0. -> the number of values
template <class T>
HWY_NOINLINE int64_t NormalizerOfCut(Cut& cut, int64_t sequence, Normalizers& normalizers) {
  const StripTag<T> d;
  cut.Find(sequence);
  if (cut.count == 0) {
    normalizers = NoValues();
    return 0;
  }
  alignas(64) float stage[kStageElements];
  T pivot = cut.PivotOf<T>();
  SectionMerger<1> merger((Sections(cut.Chunks())));
  LaneMoments<T> run;
  Moments of_chunk = {}, total = {};
  ForEachCutChunk(cut, stage, [&](const float* values, int64_t n) HWY_ATTR {
    if (cut.IsColumn()) {
      AddStrips<true, false>(d, values, 1, 1, 0, static_cast<size_t>(n), OnePivot<T>{pivot}, run.mean, run.m2);
      of_chunk = {static_cast<double>(n), {static_cast<double>(run.mean[0])}, {static_cast<double>(run.m2[0])}};
    } else {
      RunMoments<true>(d, values, 0, n, 1, &pivot, /*own=*/false, run.mean, run.m2);
      MergeLanes<true>(n, run, 1, of_chunk);
    }
    merger.Add(of_chunk, 1, [&](int64_t /*section*/, const Moments& section) HWY_ATTR { MergeMoments(total, section, 1); });
  });
  Finish(total, &pivot, 1, cut.norm.epsilon, normalizers, 0);
  return cut.count;
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_CUT_INL_H_
