// What sequence kernels normalize: h = x + residual + bias, where x lies if it is x alone, else in a stage.
#if defined(SIMDNORM_LIB_SIMD_SOURCE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIMDNORM_LIB_SIMD_SOURCE_INL_H_
#undef SIMDNORM_LIB_SIMD_SOURCE_INL_H_
#else
#define SIMDNORM_LIB_SIMD_SOURCE_INL_H_
#endif

#include <string.h>

#include "kernels.h"
#include "simd/stage-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

// h = x + residual + bias for n elements from `start` on of a plane.
HWY_NOINLINE inline void FillStage(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t n,
                                   float* stage) {
  const void* x = norm.At(norm.x, sequence, plane, start);
  const float* sum = stage;
  if (norm.residual_before) {
    const void* residual = norm.At(norm.residual, sequence, plane, start);
    AddSpan(x, norm.x.dtype, residual, norm.residual.dtype, stage, n, norm.overflows);
  } else if (norm.x.dtype == SIMDNORM_F32) {
    sum = static_cast<const float*>(x);
  } else {
    WidenSpan(x, norm.x.dtype, stage, n);
  }
  if (norm.bias) {
    const void* bias = static_cast<const unsigned char*>(norm.bias) + Bytes(norm.bias_dtype, start);
    AddSpan(sum, SIMDNORM_F32, bias, norm.bias_dtype, stage, n);
    sum = stage;
  }
  if (sum != stage) memcpy(stage, sum, static_cast<size_t>(n) * sizeof(float));
  if (norm.round_h) RoundSpan(stage, norm.h.dtype, n);
}

// The same where it lies, if x is that, in x's dtype; else in `stage`.
HWY_INLINE Span Source(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start, int64_t n, float* stage) {
  if (HWY_LIKELY(norm.x_is_h)) return {norm.At(norm.x, sequence, plane, start), norm.x.dtype};
  FillStage(norm, sequence, plane, start, n, stage);
  return {stage, SIMDNORM_F32};
}

// The same of a chunk, which may be several planes: these one after the other.
HWY_INLINE Span ChunkSource(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t planes, int64_t start, int64_t n,
                            float* stage) {
  if (HWY_LIKELY(planes == 1)) return Source(norm, sequence, plane, start, n, stage);
  for (int64_t i = 0; i < planes; ++i) FillStage(norm, sequence, plane + i, start, n, stage + i * n);
  return {stage, SIMDNORM_F32};
}

HWY_INLINE float SourceValue(const SequenceNorm& norm, int64_t sequence, int64_t plane, int64_t start) {
  float value;
  return Source(norm, sequence, plane, start, 1, &value).First();
}

// Where a row's h goes, in f32.
HWY_INLINE float* HOf(const SequenceNorm& norm, int64_t row) { return static_cast<float*>(norm.At(norm.h, row, 0)); }

// Adds rows [first, first + count) up where their h goes. NaN is left as it comes.
HWY_INLINE void AddIntoH(const SequenceNorm& norm, int64_t first, int64_t count) {
  for (int64_t row = first; row < first + count; ++row) FillStage(norm, row, 0, 0, norm.length, HOf(norm, row));
}

// Neighbouring sequences that lie together: where they are, or all of them in a stage.
struct View {
  Span base;
  int64_t stride, plane_stride;
  Span At(int64_t i, int64_t plane, int64_t start) const { return base.From(i * stride + plane * plane_stride + start); }
};

// Of some sequences, or of a chunk.
constexpr int64_t kStageElements = 4096;
static_assert(kStageElements >= kChunkElements, "a stage has room for a chunk");

HWY_INLINE View ViewOf(const SequenceNorm& norm, int64_t first, int64_t count, float* stage) {
  if (HWY_LIKELY(norm.x_is_h)) {
    return {{norm.At(norm.x, first, 0), norm.x.dtype}, norm.x.stride, norm.x.plane_stride};
  }
  const int64_t elements = norm.Elements();
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t plane = 0; plane < norm.planes; ++plane) {
      FillStage(norm, first + i, plane, 0, norm.length, stage + i * elements + plane * norm.length);
    }
  }
  return {{stage, SIMDNORM_F32}, elements, norm.length};
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_SOURCE_INL_H_
