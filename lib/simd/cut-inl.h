// Statistics of sequences of which not every position counts (Validity in kernels.h): the values that count are brought
// together in a stage, chunk by chunk, unless they lie together, and are from then on what a tensor cut to them would hold,
// with the same bits.
#if defined(SIMDNORM_LIB_SIMD_CUT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIMDNORM_LIB_SIMD_CUT_INL_H_
#undef SIMDNORM_LIB_SIMD_CUT_INL_H_
#else
#define SIMDNORM_LIB_SIMD_CUT_INL_H_
#endif

#include "compaction.h"
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

  // Whether each chunk is what counts of a plane, from its first position on; and planes are such that whole ones would go
  // together (GoesBySample in rows-inl.h). Nothing is added to x where there are lengths.
  bool IsOfPrefixes() const {
    return norm.validity.lengths && !runs_on && norm.planes > 1 && longest > 1 && longest <= kChunkElements &&
           PlanesPerChunk() == 1;
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

// Brings those of n values together that count. `to` has room for n. -> how many. (By Highway's Compress, as of 1.0.3, training
// of 32x64x56x56 took 2.5 times as long on AVX2: gcc copies its table to the stack for every vector.)
HWY_NOINLINE inline int64_t CompactSpan(const uint8_t* mask, const float* values, int64_t n, float* HWY_RESTRICT to) {
  const float* const first = to;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const Compaction& compaction = CompactionOf(mask + i);
    const hn::CappedTag<float, 8> d;
    if constexpr (!HWY_HAVE_SCALABLE && hn::MaxLanes(d) == 8) {
      const hn::Rebind<int32_t, decltype(d)> d32;
      const auto from = hn::PromoteTo(d32, hn::LoadU(hn::Rebind<uint8_t, decltype(d)>(), compaction.from));
      hn::StoreU(hn::TableLookupLanes(hn::LoadU(d, values + i), hn::IndicesFromVec(d, from)), d, to);
    } else {
      for (int64_t k = 0; k < 8; ++k) to[k] = values[i + compaction.from[k]];
    }
    to += compaction.count;
  }
  for (; i < n; ++i) {
    *to = values[i];
    to += mask[i] != 0;
  }
  return to - first;
}

// Calls visit(context, values, n) for the chunks of a cut sequence, whose values are brought together in the stage. A chunk
// that is together stays where it is. Not inline: once for f32 and double.
HWY_NOINLINE inline void ForEachCutChunk(const Cut& cut, float* stage,
                                         void (*visit)(const void* context, const float* values, int64_t n),
                                         const void* context) {
  const SequenceNorm& norm = cut.norm;
  const Validity& validity = norm.validity;
  const int64_t planes_per_chunk = cut.PlanesPerChunk();
  const bool in_place = norm.x_is_h && norm.x.dtype == SIMDNORM_F32, by_plane = !cut.runs_on && !cut.IsColumn();
  int64_t filled = 0, planes = 0;
  const auto flush = [&](const float* values) HWY_ATTR {
    if (filled != 0) visit(context, values, filled);
    filled = planes = 0;
  };
  const auto values_at = [&](int64_t plane, int64_t at) {
    return static_cast<const float*>(norm.At(norm.x, cut.sequence, plane, at));
  };
  const auto add_all = [&](int64_t plane, int64_t at, int64_t end) HWY_ATTR {
    const bool ends_plane = by_plane && planes_per_chunk == 1 && (validity.lengths || end == norm.length);
    while (at < end) {
      const int64_t n = HWY_MIN(end - at, cut.ChunkLength() - filled);
      const bool together = in_place && filled == 0 && (n == cut.ChunkLength() || (ends_plane && at + n == end));
      if (!together) FillStage(norm, cut.sequence, plane, at, n, stage + filled);
      filled += n;
      if (together || filled == cut.ChunkLength()) flush(together ? values_at(plane, at) : stage);
      at += n;
    }
  };
  const auto add_some = [&](int64_t plane, int64_t start, int64_t end, const uint8_t* mask) HWY_ATTR {
    static_assert(Validity::kMaskPiece <= kPiece, "what has gaps is one piece, here and where it is stored");
    alignas(64) float piece[kPiece];
    for (int64_t at = start, n; at < end; at += n) {
      n = HWY_MIN(HWY_MIN(kPiece, end - at), cut.ChunkLength() - filled);
      if (!in_place) FillStage(norm, cut.sequence, plane, at, n, piece);
      filled += CompactSpan(mask + at, in_place ? values_at(plane, at) : piece, n, stage + filled);
      if (filled == cut.ChunkLength()) flush(stage);
    }
  };
  for (int64_t plane = 0; plane < norm.planes; ++plane) {
    const int64_t sample = norm.Sample(cut.sequence, plane);
    bool any = false;
    for (int64_t at = 0, next; at < norm.length; at = next) {
      Validity::Counts counts;
      next = validity.StretchEnd(sample, at, norm.length, &counts);
      any |= counts != Validity::Counts::kNone;
      if (counts == Validity::Counts::kAll) add_all(plane, at, next);
      if (counts == Validity::Counts::kSome) add_some(plane, at, next, validity.MaskOf(sample));
    }
    planes += any;
    if (by_plane && planes == planes_per_chunk) flush(stage);
  }
  flush(stage);
}

// As NormalizerOfOne, for item i; without values for all items. -> the number of values
template <class T>
HWY_NOINLINE int64_t NormalizerOfCut(Cut& cut, int64_t sequence, Normalizers& normalizers, int64_t i) {
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
  const auto add_chunk = [&](const float* values, int64_t n) HWY_ATTR {
    if (cut.IsColumn()) {
      // Strips of one lane, which is a whole vector here.
      AddStrips<true, true>(hn::CappedTag<T, 1>(), values, 1, 1, 0, static_cast<size_t>(n), OnePivot<T>{pivot}, run.mean,
                            run.m2);
      of_chunk = {static_cast<double>(n), {static_cast<double>(run.mean[0])}, {static_cast<double>(run.m2[0])}};
    } else {
      RunMoments<true>(d, values, 0, n, 1, &pivot, /*own=*/false, run.mean, run.m2);
      MergeLanes<true>(n, run, 1, of_chunk);
    }
    merger.Add(of_chunk, 1, [&](int64_t /*section*/, const Moments& section) HWY_ATTR { MergeMoments(total, section, 1); });
  };
  using AddChunk = decltype(add_chunk);
  ForEachCutChunk(
      cut, stage,
      [](const void* add, const float* values, int64_t n) HWY_ATTR { (*static_cast<const AddChunk*>(add))(values, n); },
      &add_chunk);
  Finish(total, &pivot, 1, cut.norm.epsilon, normalizers, i);
  return cut.count;
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_CUT_INL_H_
