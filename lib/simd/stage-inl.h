// What happens to f32 values between a kernel and memory that is not plain f32: the steps before the normalization
// (source-inl.h puts them together) and after it (ApplyEpilogue, StoreSpan), for a span at a time that lies in a small buffer.
// Each step is a loop of its own over the span, chosen at run time: a buffer stays in L1, and dtypes, residuals, activations
// and quantizers add up instead of multiplying.
//
// A new dtype is a row in load_store-inl.h, a new activation one in activations-inl.h. A new step is a line in ApplyEpilogue or
// StoreSpan, or in rows-inl.h's ComputePiece if rows alone have it; and in what tells that nothing has to be staged: Classify
// and Bare of kernels.h.
#if defined(SIMDNORM_LIB_SIMD_STAGE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIMDNORM_LIB_SIMD_STAGE_INL_H_
#undef SIMDNORM_LIB_SIMD_STAGE_INL_H_
#else
#define SIMDNORM_LIB_SIMD_STAGE_INL_H_
#endif

#include <string.h>

#include "kernels.h"
#include "simd/activations-inl.h"
#include "simd/load_store-inl.h"
#include "simd/quantize-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

// Elements of a span that is staged.
constexpr int64_t kPiece = 512;

// One element; f32's without a call.
HWY_INLINE float ScalarAt(const void* data, simdnorm_dtype dtype, int64_t element) {
  return HWY_LIKELY(dtype == SIMDNORM_F32) ? static_cast<const float*>(data)[element] : LoadScalar(data, dtype, element);
}

// Values where they lie, in a floating-point dtype.
struct Span {
  const void* data;
  simdnorm_dtype dtype;
  Span From(int64_t i) const {
    return {static_cast<const unsigned char*>(data) + i * static_cast<int64_t>(ElementSize(dtype)), dtype};
  }
  HWY_INLINE float First() const { return ScalarAt(data, dtype, 0); }
};

// In place: as if stored in `dtype` and loaded again.
HWY_NOINLINE inline void RoundSpan(float* v, simdnorm_dtype dtype, int64_t n) {
  if (dtype == SIMDNORM_F32) return;
  uint16_t rounded[kPiece];
  for (int64_t i = 0; i < n; i += kPiece) {
    const int64_t length = HWY_MIN(kPiece, n - i);
    NarrowSpan(v + i, rounded, dtype, length);
    WidenSpan(rounded, dtype, v + i, length);
  }
}

// Parameters [element, element + n), each plus `offset`: where they are if that is in f32, else in the buffer. Null stays null.
HWY_INLINE const float* ParameterSpan(const void* data, simdnorm_dtype dtype, float offset, int64_t element, int64_t n,
                                      float* buffer) {
  if (data == nullptr) return nullptr;
  if (dtype == SIMDNORM_F32 && offset == 0) return static_cast<const float*>(data) + element;
  WidenSpan(static_cast<const unsigned char*>(data) + Bytes(dtype, element), dtype, buffer, n);
  if (offset != 0) {
    for (int64_t i = 0; i < n; ++i) buffer[i] += offset;
  }
  return buffer;
}

// Parameters [element, element + n), each plus `offset`; or what they are if there are none.
HWY_INLINE void LoadParameters(const void* data, simdnorm_dtype dtype, float offset, int64_t element, int64_t n, float absent,
                               float* HWY_RESTRICT to) {
  const float* from = ParameterSpan(data, dtype, 0, element, n, to);
  for (int64_t i = 0; i < n; ++i) to[i] = from ? from[i] + offset : absent;
}

// Scale and shift of a norm, parameters [element, element + n).
template <class Norm>
HWY_INLINE void LoadScaleAndShift(const Norm& norm, int64_t element, int64_t n, float* scale, float* shift) {
  LoadParameters(norm.scale, norm.scale_dtype, norm.scale_offset, element, n, 1, scale);
  LoadParameters(norm.shift, norm.scale_dtype, 0, element, n, 0, shift);
}

// One parameter, or what it is if there is none.
HWY_INLINE float ParameterAt(const void* data, simdnorm_dtype dtype, float offset, int64_t element, float absent) {
  return data ? ScalarAt(data, dtype, element) + offset : absent;
}

// Adds to n normalized values in place, and activates them; `residual` points to their partners, or is null.
HWY_INLINE void ApplyEpilogue(const Epilogue& epilogue, const void* residual, simdnorm_dtype residual_dtype, float* v,
                              int64_t n) {
  if (residual) AddSpan(v, SIMDNORM_F32, residual, residual_dtype, v, n);
  Activate(epilogue.activation, epilogue.activation_slope, v, n);
}

// Stores n values at `y`; quant_scale is their row's factor, where rows have factors.
HWY_INLINE void StoreSpan(const Epilogue& epilogue, const float* v, int64_t n, void* y, simdnorm_dtype dtype,
                          float quant_scale) {
  if (dtype == SIMDNORM_Q8_0) {
    QuantizeQ8_0(v, static_cast<simdnorm_q8_0*>(y), n);
  } else if (epilogue.quant_scales) {
    QuantizeDynamic(v, static_cast<int8_t*>(y), quant_scale, n);
  } else if (dtype == SIMDNORM_I8 || dtype == SIMDNORM_U8) {
    QuantizeStatic(v, y, dtype, epilogue.quant_scale, epilogue.zero_point, n);
  } else if (v != y) {
    NarrowSpan(v, y, dtype, n);
  }
}

// What stands for 0 at n elements of padding.
HWY_INLINE void StoreZeros(const Epilogue& epilogue, int64_t n, void* y, simdnorm_dtype dtype) {
  const bool integer = dtype == SIMDNORM_I8 || dtype == SIMDNORM_U8;
  memset(y, integer ? epilogue.zero_point & 0xFF : 0, static_cast<size_t>(Bytes(dtype, n)));
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_STAGE_INL_H_
