// Elements in memory <-> vectors of the arithmetic's type: all that kernels know of dtypes, tails and NaNs.
//
// Arithmetic runs in T = f32 or, where f32's range ends, f64; the tag `d` says which. The element type in memory is the
// pointer's. A new dtype is a new overload of LoadElements and StoreElements here (widen; round to nearest even once, narrow)
// and a row in the kernel choice of the operations; nothing else knows it.
//
// LoadFirst and StoreFirst touch the first n elements only: a tensor may end where its memory page ends.
#if defined(SIMDNORM_LIB_SIMD_LOAD_STORE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIMDNORM_LIB_SIMD_LOAD_STORE_INL_H_
#undef SIMDNORM_LIB_SIMD_LOAD_STORE_INL_H_
#else
#define SIMDNORM_LIB_SIMD_LOAD_STORE_INL_H_
#endif

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Lanes of the arithmetic's model: a strip is 16 lanes on every target, in as many vectors as that takes.
constexpr size_t kStrip = 16;

// The vectors that make up a strip of T.
template <class T>
using StripTag = hn::CappedTag<T, kStrip>;

// f32 elements for the vector tag d.
template <class D>
using FloatTag = hn::Rebind<float, D>;

// Whether a masked load or store leaves memory outside the mask alone. Highway's own HWY_MEM_OPS_MIGHT_FAULT also says no for
// AVX2, whose 32-bit masked moves are safe.
#if HWY_ARCH_X86
constexpr bool kMaskedMovesAreSafe = HWY_TARGET <= HWY_AVX2;
#else
constexpr bool kMaskedMovesAreSafe = HWY_MEM_OPS_MIGHT_FAULT == 0;
#endif

// The one quiet NaN that leaves the library, in bits.
constexpr uint32_t kQuietNaN = 0x7FC00000u;

// NaN is replaced by the one quiet NaN that leaves the library; which payload an operation passes on differs between targets.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V CanonicalNaN(D d, V v) {
  static_assert(sizeof(hn::TFromD<D>) == sizeof(float), "");
  const hn::RebindToUnsigned<D> du;
  return hn::IfThenElse(hn::IsNaN(v), hn::BitCast(d, hn::Set(du, kQuietNaN)), v);
}

template <class D>
constexpr bool kIsFloat = sizeof(hn::TFromD<D>) == sizeof(float);

template <class D>
HWY_INLINE hn::Vec<D> LoadElements(D d, const float* p) {
  if constexpr (kIsFloat<D>) {
    return hn::LoadU(d, p);
  } else {
    return hn::PromoteTo(d, hn::LoadU(FloatTag<D>(), p));
  }
}

// f64 to f32, as IEEE has it. Highway's own takes Inf to the largest finite value on targets without vectors.
template <class D>
HWY_INLINE hn::Vec<FloatTag<D>> Narrow(D d, hn::Vec<D> v) {
  const FloatTag<D> df;
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  alignas(64) double wide[kStrip];
  alignas(64) float narrow[kStrip];
  hn::Store(v, d, wide);
  for (size_t i = 0; i < hn::Lanes(d); ++i) narrow[i] = static_cast<float>(wide[i]);
  return hn::Load(df, narrow);
#else
  (void)d;
  return hn::DemoteTo(df, v);
#endif
}

// NaN is stored as the one quiet NaN with kCanonical; without it is for loops that look for NaN themselves.
template <bool kCanonical = true, class D>
HWY_INLINE void StoreElements(hn::Vec<D> v, D d, float* p) {
  if constexpr (kIsFloat<D>) {
    hn::StoreU(kCanonical ? CanonicalNaN(d, v) : v, d, p);
  } else {
    const FloatTag<D> df;
    const auto narrow = Narrow(d, v);
    hn::StoreU(kCanonical ? CanonicalNaN(df, narrow) : narrow, df, p);
  }
}

// The first n elements, n <= Lanes(d); the other lanes are 0.
template <class D>
HWY_INLINE hn::Vec<D> LoadFirst(D d, const float* p, size_t n) {
  if constexpr (kMaskedMovesAreSafe && kIsFloat<D>) {
    return hn::MaskedLoad(hn::FirstN(d, n), d, p);
  } else {
    alignas(64) float buffer[kStrip] = {};
    memcpy(buffer, p, n * sizeof(float));
    return LoadElements(d, buffer);
  }
}

// Stores the first n lanes, n <= Lanes(d).
template <class D>
HWY_INLINE void StoreFirst(hn::Vec<D> v, D d, float* p, size_t n) {
  if constexpr (kMaskedMovesAreSafe && kIsFloat<D>) {
    hn::BlendedStore(CanonicalNaN(d, v), hn::FirstN(d, n), d, p);
  } else {
    alignas(64) float buffer[kStrip];
    StoreElements(v, d, buffer);
    memcpy(p, buffer, n * sizeof(float));
  }
}

// One element, for parameters that hold one value for a whole run.
HWY_INLINE float LoadScalar(const float* p) { return *p; }

// A statistic on its way out.
HWY_INLINE float NarrowScalar(double value) {
  float result = static_cast<float>(value);
  if (value != value) memcpy(&result, &kQuietNaN, sizeof(result));
  return result;
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_LOAD_STORE_INL_H_
