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

// A sequence's values that count, as that tensor has them.
struct CutSequence {
  const SequenceNorm& norm;
  int64_t sequence;
  bool runs_on;         // chunks run on from plane to plane
  int64_t count = 0;    // of values
  int64_t planes = 0;   // that have any
  int64_t longest = 0;  // of the planes

  CutSequence(const SequenceNorm& norm_, int64_t sequence_)
      : norm(norm_), sequence(sequence_), runs_on(!norm_.planes_are_samples) {
    for (int64_t plane = 0; plane < norm.planes; ++plane) {
      const int64_t length = Length(plane);
      count += length;
      planes += length != 0;
      longest = HWY_MAX(longest, length);
    }
  }
  int64_t Length(int64_t plane) const { return norm.validity.Count(norm.Sample(sequence, plane)); }
  // Planes of one value each have their channels side by side when they are cut, and are reduced in that order.
  bool IsColumn() const { return !runs_on && longest == 1; }
  int64_t ChunkLength() const { return IsColumn() ? kChunkRows : kChunkElements; }
  // As where all planes are of the length of the longest.
  int64_t PlanesPerChunk() const { return simdnorm::PlanesPerChunk(planes, longest); }
  int64_t Chunks() const {
    if (runs_on || IsColumn()) return (count + ChunkLength() - 1) / ChunkLength();
    if (PlanesPerChunk() != 1) return (planes + PlanesPerChunk() - 1) / PlanesPerChunk();
    int64_t chunks = 0;
    for (int64_t plane = 0; plane < norm.planes; ++plane) chunks += (Length(plane) + kChunkElements - 1) / kChunkElements;
    return chunks;
  }
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
  float Value(int64_t k) const {
    for (int64_t plane = 0;; ++plane) {
      const int64_t length = Length(plane);
      if (k < length) {
        return SourceValue(norm, sequence, plane, norm.validity.Position(norm.Sample(sequence, plane), k));
      }
      k -= length;
    }
  }
};

// Calls visit(values, n) for the chunks of a cut sequence, whose values are brought together in the
// stage.
template <class Visit>
HWY_INLINE void ForEachCutChunk(const CutSequence& cut, float* stage, const Visit& visit) {
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
  // Every value is stored, and the next one over it if it does not count: nothing for the processor to guess.
  const auto add_masked = [&](int64_t plane, const uint8_t* mask) HWY_ATTR {
    alignas(64) float piece[kPiece];
    for (int64_t at = 0; at < norm.length; at += kPiece) {
      const int64_t n = HWY_MIN(kPiece, norm.length - at);
      FillStage(norm, cut.sequence, plane, at, n, piece);
      for (int64_t i = 0; i < n; ++i) {
        stage[filled] = piece[i];
        filled += mask[at + i] != 0;
        if (HWY_UNLIKELY(filled == cut.ChunkLength())) flush();
      }
    }
  };
  for (int64_t plane = 0; plane < norm.planes; ++plane) {
    const int64_t sample = norm.Sample(cut.sequence, plane), before = filled;
    if (norm.validity.mask) {
      add_masked(plane, norm.validity.mask + sample * norm.validity.spatial);
    } else {
      add_run(plane, norm.validity.Count(sample));
    }
    if (cut.runs_on || cut.IsColumn()) continue;
    planes += filled != before;
    if (planes == planes_per_chunk) flush();
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
  T pivot = Pivot<T>(cut.Value(0), cut.Value(cut.Middle()), cut.Value(cut.count - 1));
  GroupsOfChunks<1> groups((Grouping(cut.Chunks())));
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
    groups.Add(of_chunk, 1, [&](int64_t /*group*/, const Moments& group) HWY_ATTR { MergeMoments(total, group, 1); });
  });
  Finish(total, &pivot, 1, norm.epsilon, normalizers, i);
  return cut.count;
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_CUT_INL_H_
