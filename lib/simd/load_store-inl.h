// Elements in memory <-> vectors of the arithmetic's type: all that kernels know of dtypes, tails and NaNs.
//
// Arithmetic runs in T = f32 or, where f32's range ends, f64; the tag `d` says which. The element type in memory is the
// pointer's. Where elements are not loaded and stored as they are, a span of them is widened to f32 in a small
// buffer first, or narrowed out of one (WidenSpan, NarrowSpan, AddSpan), so that a dtype can be a value. A new dtype is a type
// with its FromBits and ToBits, and a row in WithElementType.
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

#include <type_traits>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "simdnorm/simdnorm.h"
#include "target.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Lanes of the arithmetic's model: a strip is 16 lanes on every target, in as many vectors as that takes.
constexpr size_t kStrip = 16;

constexpr int64_t kLineBytes = 64;  // of a cache

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

// The same of 16 bits, which AVX2 has no masked moves of.
constexpr bool kMaskedMovesOf16AreSafe = kMaskedMovesAreSafe && !(HWY_ARCH_X86 && HWY_TARGET == HWY_AVX2);

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

// a - b as a multiply-add by 1, which rounds once as well: the same bits. AMD's processors have units of their own for
// additions and for multiply-adds, and loops that mostly add are faster where the latter help out.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V SubByMulAdd(D d, V a, V b) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
  return hn::NegMulAdd(hn::Set(d, hn::TFromD<D>(1)), b, a);
#else
  (void)d;
  return hn::Sub(a, b);
#endif
}

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
HWY_INLINE hn::Vec<FloatTag<D>> ToFloat(D d, hn::Vec<D> v) {
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
    const auto narrow = ToFloat(d, v);
    hn::StoreU(kCanonical ? CanonicalNaN(df, narrow) : narrow, df, p);
  }
}

// Elements of bf16 and f16, as bits.
struct BF16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

// Whether the target converts f16 itself. Highway's stand-in for SSE4 and less truncates, and has no Inf.
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
constexpr bool kConvertsF16 = false;
#elif HWY_ARCH_X86
constexpr bool kConvertsF16 = HWY_TARGET <= HWY_AVX2;
#else
constexpr bool kConvertsF16 = HWY_ARCH_ARM_A64 != 0;
#endif

template <class D>
using BitsTag = hn::Rebind<uint16_t, D>;

template <class D>
using Bits = hn::Vec<BitsTag<D>>;

// bf16 is the upper half of an f32. Where a shuffle can put it there, with zeros below, that takes one operation instead of
// two, widening and shifting.
template <class D>
HWY_INLINE hn::Vec<D> FromBits(D d, BF16 /*tag*/, Bits<D> bits) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
  if constexpr (std::is_same_v<D, StripTag<float>>) {
    // Highway 1.0.3 has no lookup of 16 bits.
    alignas(64) static constexpr uint16_t kFrom[] = {0, 0, 0, 1, 0, 2,  0, 3,  0, 4,  0, 5,  0, 6,  0, 7,
                                                     0, 8, 0, 9, 0, 10, 0, 11, 0, 12, 0, 13, 0, 14, 0, 15};
    constexpr __mmask32 kUpperHalves = 0xAAAAAAAAu;
    const __m512i from = hn::Load(hn::Repartition<uint16_t, D>(), kFrom).raw;
    const __m512i spread = _mm512_maskz_permutexvar_epi16(kUpperHalves, from, _mm512_castsi256_si512(bits.raw));
    return hn::BitCast(d, hn::Vec<hn::RebindToUnsigned<D>>{spread});
  }
#endif
  const hn::RebindToUnsigned<D> du;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, bits)));
}

// bf16 in the upper half of each lane: to nearest even adds half a unit (0x8000), less 1 where the upper half is even. A carry
// into the exponent is right, up to Inf.
template <class D, class DU = hn::RebindToUnsigned<D>>
HWY_INLINE hn::Vec<DU> RoundToUpperHalf(D d, hn::Vec<D> v) {
  const DU du;
  (void)d;
  const auto bits = hn::BitCast(du, v), half = hn::Add(bits, hn::Set(du, 0x7FFF));
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
  // Masks are operands here: three operations instead of four.
  return hn::IfThenElse(hn::TestBit(bits, hn::Set(du, 0x10000)), hn::Add(half, hn::Set(du, 1)), half);
#else
  return hn::Add(half, hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1)));
#endif
}

// Of what is no NaN, or the one that leaves the library; so below.
template <class D>
HWY_INLINE Bits<D> ToBits(D d, BF16 /*tag*/, hn::Vec<D> v) {
  return hn::TruncateTo(BitsTag<D>(), hn::ShiftRight<16>(RoundToUpperHalf(d, v)));
}

template <class D>
HWY_INLINE hn::Vec<D> FromBits(D d, F16 /*tag*/, Bits<D> half) {
  if constexpr (kConvertsF16) {
    return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, D>(), half));
  } else {
    const hn::RebindToSigned<D> di;
    const auto bits = hn::PromoteTo(di, half);
    const auto magnitude = hn::And(bits, hn::Set(di, 0x7FFF));
    // The exponent's bias goes from 15 to 127; the exponent of Inf and NaN from 31 to 255.
    const auto shift =
        hn::IfThenElse(hn::Gt(magnitude, hn::Set(di, 0x7BFF)), hn::Set(di, (255 - 31) << 23), hn::Set(di, (127 - 15) << 23));
    const auto normal = hn::Add(hn::ShiftLeft<13>(magnitude), shift);
    // A subnormal is put below a leading 1 that it has not, which is then subtracted: exact, and never subnormal in f32.
    const auto leading = hn::Set(di, (127 - 14) << 23);
    const auto below = hn::BitCast(d, hn::Or(hn::ShiftLeft<13>(magnitude), leading));
    const auto subnormal = hn::BitCast(di, hn::Sub(below, hn::BitCast(d, leading)));
    const auto wide = hn::IfThenElse(hn::Lt(magnitude, hn::Set(di, 0x0400)), subnormal, normal);
    return hn::BitCast(d, hn::Or(wide, hn::ShiftLeft<16>(hn::Sub(bits, magnitude))));
  }
}

template <class D>
HWY_INLINE Bits<D> ToBits(D d, F16 /*tag*/, hn::Vec<D> v) {
  const BitsTag<D> d16;
  if constexpr (kConvertsF16) {
    (void)d;
    return hn::BitCast(d16, hn::DemoteTo(hn::Rebind<hwy::float16_t, D>(), v));
  } else {
    const hn::RebindToSigned<D> di;
    const auto bits = hn::BitCast(di, v);
    const auto magnitude = hn::And(bits, hn::Set(di, 0x7FFFFFFF));
    // As for bf16, and the exponent's bias goes from 127 to 15.
    const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(di, 1));
    const auto rounded = hn::Add(hn::Add(magnitude, hn::Set(di, 0x0FFF - ((127 - 15) << 23))), odd);
    const auto normal = hn::ShiftRight<13>(rounded);
    // Where f16 is subnormal, its unit is that of f32 numbers of [1/2, 1): adding 1/2 rounds to it.
    const auto half = hn::Set(d, 0.5f);
    const auto sum = hn::Add(hn::BitCast(d, magnitude), half);
    const auto subnormal = hn::Sub(hn::BitCast(di, sum), hn::BitCast(di, half));
    const auto finite = hn::IfThenElse(hn::Lt(magnitude, hn::Set(di, (127 - 14) << 23)), subnormal, normal);
    // From 2^16 on Inf, and NaN.
    const auto beyond = hn::IfThenElse(hn::Gt(magnitude, hn::Set(di, 0x7F800000)), hn::Set(di, 0x7E00), hn::Set(di, 0x7C00));
    const auto narrow = hn::IfThenElse(hn::Lt(magnitude, hn::Set(di, (127 + 16) << 23)), finite, beyond);
    const hn::RebindToUnsigned<D> du;
    const auto sign = hn::ShiftLeft<15>(hn::ShiftRight<31>(hn::BitCast(du, bits)));
    return hn::TruncateTo(d16, hn::Or(hn::BitCast(du, narrow), sign));
  }
}

// Elements of 16 bits.
template <class D, class Element>
HWY_INLINE hn::Vec<D> LoadElements(D d, const Element* p) {
#if HWY_TARGET == HWY_AVX2
  if constexpr (std::is_same_v<D, StripTag<float>> && std::is_same_v<Element, BF16>) {
    constexpr uint8_t k0 = 0x80;  // not an index
    alignas(32) static constexpr uint8_t kFrom[] = {k0, k0, 0, 1, k0, k0, 2,  3,  k0, k0, 4,  5,  k0, k0, 6,  7,
                                                    k0, k0, 8, 9, k0, k0, 10, 11, k0, k0, 12, 13, k0, k0, 14, 15};
    const hn::Repartition<uint8_t, D> d8;
    const auto twice = hn::LoadDup128(d8, reinterpret_cast<const uint8_t*>(p));
    return hn::BitCast(d, hn::TableLookupBytesOr0(twice, hn::Load(d8, kFrom)));
  }
#endif
  return FromBits(d, Element(), hn::LoadU(BitsTag<D>(), &p->bits));
}

template <bool kCanonical = true, class D, class Element>
HWY_INLINE void StoreElements(hn::Vec<D> v, D d, Element* p) {
  hn::StoreU(ToBits(d, Element(), kCanonical ? CanonicalNaN(d, v) : v), BitsTag<D>(), &p->bits);
}

// Elements from p on until an address that is a multiple of `bytes`: a vector's, or a cache line's, which streaming stores
// want.
template <class Element>
HWY_INLINE int64_t ElementsToMultiple(const Element* p, int64_t bytes) {
  const int64_t beyond = static_cast<int64_t>(reinterpret_cast<uintptr_t>(p)) & (bytes - 1);  // a power of two
  return (bytes - beyond) % bytes / static_cast<int64_t>(sizeof(Element));
}
template <class Element>
HWY_INLINE int64_t ElementsToLine(const Element* p) {
  return ElementsToMultiple(p, kLineBytes);
}

// Whether rows from p on, so many bytes apart, all begin with a cache line.
HWY_INLINE bool IsWholeLines(const void* p, int64_t stride_bytes) {
  return (reinterpret_cast<uintptr_t>(p) | static_cast<uintptr_t>(stride_bytes)) % kLineBytes == 0;
}

// Whether loops are there twice, with plain and with streaming stores. Where not, it is for the size of the code, or not
// measured.
constexpr bool kCanStream = HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2;

template <class D>
constexpr size_t kVectorBytes = hn::MaxLanes(D()) * sizeof(hn::TFromD<D>);

// Whether a vector is a whole line of a cache.
template <class D>
constexpr bool kIsLine = kVectorBytes<D> == kLineBytes;

// Stores a vector whose place is a multiple of its size, past the caches if `streams`.
template <class D, class V, class T>
HWY_INLINE void StoreOrStream(V v, D d, T* p, bool streams) {
  if (kCanStream && streams) {
    hn::Stream(v, d, p);
  } else {
    hn::StoreU(v, d, p);
  }
}

// Whether pairs may be rounded by the processor's own instruction, where rounds_to_bf16 (target.h). Measured, with x in the
// caches: batch norm by given statistics takes 0.71 to 0.92 of the time, RMS norm 0.78 to 0.93, layer norm 0.87 to 1.
template <class D, class Element>
constexpr bool MayRoundNatively() {
  return HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3 && kIsFloat<D> && std::is_same_v<Element, BF16>;
}

// Whether two neighbouring vectors of elements whose order does not matter, since each goes where it came from, are better
// taken as the even and the odd ones: the halves of words, which need no shuffles to be had or to be put together again.
// Measured: batch norm of planes of 14x14 and 56x56, given statistics 0.86 to 0.95 of the time, training 0.91 to 0.95.
template <class D, class Element>
constexpr bool TakesEvenAndOdd() {
  return HWY_TARGET == HWY_AVX2 && kIsFloat<D> && std::is_same_v<Element, BF16>;
}

// Two neighbouring vectors; with kAnyOrder those of StorePair with it.
template <bool kAnyOrder, class D, class Element>
HWY_INLINE void LoadPair(D d, const Element* p, hn::Vec<D>& v0, hn::Vec<D>& v1) {
  if constexpr (kAnyOrder && TakesEvenAndOdd<D, Element>()) {
    const hn::Repartition<uint16_t, D> d16;
    const hn::RebindToUnsigned<D> du;
    const auto both = hn::BitCast(du, hn::LoadU(d16, &p->bits));
    v0 = hn::BitCast(d, hn::ShiftLeft<16>(both));
    v1 = hn::BitCast(d, hn::And(both, hn::Set(du, 0xFFFF0000u)));
  } else {
    v0 = LoadElements(d, p), v1 = LoadElements(d, p + hn::Lanes(d));
  }
}

// Two neighbouring vectors at once, NaN as it is: for bf16 that is much cheaper on x86. With `streams` past the caches, where
// that can be; p is then a multiple of their size. kNative: by the processor's own rounding.
template <bool kNative = false, bool kAnyOrder = false, class D, class Element>
HWY_INLINE void StorePair(hn::Vec<D> v0, hn::Vec<D> v1, D d, Element* p, bool streams = false) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
  if constexpr (kNative) {
    const hn::Repartition<uint16_t, D> d16;
    hn::Vec<decltype(d16)> bits;
    // Compilers have an intrinsic, but only for code that all of may use such instructions.
    __asm__("vcvtne2ps2bf16 %2, %1, %0" : "=v"(bits.raw) : "v"(v1.raw), "v"(v0.raw));
    return StoreOrStream(bits, d16, &p->bits, streams);
  }
#endif
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
  if constexpr (kIsFloat<D> && std::is_same_v<Element, BF16>) {
    const hn::Repartition<uint16_t, D> d16;
    const auto bits0 = RoundToUpperHalf(d, v0), bits1 = RoundToUpperHalf(d, v1);
    if constexpr (kAnyOrder && TakesEvenAndOdd<D, Element>()) {
      const auto even = hn::BitCast(d16, hn::ShiftRight<16>(bits0));
      return StoreOrStream(hn::OddEven(hn::BitCast(d16, bits1), even), d16, &p->bits, streams);
    }
    return StoreOrStream(hn::ConcatOdd(d16, hn::BitCast(d16, bits1), hn::BitCast(d16, bits0)), d16, &p->bits, streams);
  }
#endif
  if constexpr (kIsFloat<D> && std::is_same_v<Element, float>) {
    StoreOrStream(v0, d, p, streams);
    StoreOrStream(v1, d, p + hn::Lanes(d), streams);
  } else {
    StoreElements<false>(v0, d, p);
    StoreElements<false>(v1, d, p + hn::Lanes(d));
  }
}

// Whether there is something in two vectors that StorePair cannot do: NaN; for the processor's own rounding, which takes
// subnormal numbers for 0 whatever the floating-point environment, those as well.
template <bool kNative, class D>
HWY_INLINE bool AnySpecial(D d, hn::Vec<D> v0, hn::Vec<D> v1) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
  if constexpr (kNative) {
    constexpr int kQuietNaNs = 0x01, kSignalingNaNs = 0x80, kSubnormals = 0x20,
                  kSpecial = kQuietNaNs | kSignalingNaNs | kSubnormals;
    return !_kortestz_mask16_u8(_mm512_fpclass_ps_mask(v0.raw, kSpecial), _mm512_fpclass_ps_mask(v1.raw, kSpecial));
  }
#endif
  return !hn::AllFalse(d, hn::IsNaN(hn::Add(v0, v1)));
}

// StorePair of any values, NaN as it leaves the library.
template <bool kNative, bool kAnyOrder = false, class D, class Element>
HWY_INLINE void StoreAnyPair(hn::Vec<D> v0, hn::Vec<D> v1, D d, Element* p, bool streams) {
  if (HWY_UNLIKELY(AnySpecial<kNative>(d, v0, v1))) {
    StorePair<false, kAnyOrder>(CanonicalNaN(d, v0), CanonicalNaN(d, v1), d, p, streams);
  } else {
    StorePair<kNative, kAnyOrder>(v0, v1, d, p, streams);
  }
}

// Lets others see what was streamed, at the end of a kernel.
class StreamFence {
 public:
  explicit StreamFence(bool streams) : streams_(streams) {}
  ~StreamFence() {
    if (streams_) hwy::FlushStream();
  }

 private:
  bool streams_;
};

// How LoadFirstAsIs and StoreFirstAsIs, below, move the first elements of a vector, of 2 or 4 bytes: by mask where that is
// safe. Else, if vectors are of 8 or 16 bytes, in words of 8, 4 and 2: a buffer in between would be written in other pieces
// than it is read in, and processors wait for that. Measured: bf16 and f16 on AVX2, layer norm of rows of 20 takes 0.53 of the
// time, of 777 0.83 to 0.89, training of planes of 7x7 0.75 to 0.83; f32 on SSE4 0.65 to 0.88.
template <class D>
constexpr bool kMovesByMask = sizeof(hn::TFromD<D>) == sizeof(uint16_t) ? kMaskedMovesOf16AreSafe : kMaskedMovesAreSafe;

#if HWY_TARGET == HWY_SCALAR || HWY_HAVE_SCALABLE
template <class D>
constexpr bool kMovesByWords = false;
#else
template <class D>
constexpr bool kMovesByWords = kVectorBytes<D> == 8 || kVectorBytes<D> == 16;

// Not inline, nor the next: many loops end so.
template <class D, class T = hn::TFromD<D>>
HWY_NOINLINE hn::Vec<D> LoadFirstByWords(D d, const T* p, size_t n) {
  constexpr size_t kOfWord = sizeof(uint64_t) / sizeof(T);
  const auto word_of = [](const T* from, size_t count) {  // of `count` <= kOfWord elements; the rest of it is 0
    uint64_t word = 0;
    uint32_t half = 0;
    uint16_t quarter = 0;
    const unsigned char* bytes = reinterpret_cast<const unsigned char*>(from);
    if (count == kOfWord) {
      memcpy(&word, bytes, sizeof(word));
      return word;
    }
    const bool has_half = (count * sizeof(T) & sizeof(half)) != 0;
    if (has_half) memcpy(&half, bytes, sizeof(half)), bytes += sizeof(half);
    if (count * sizeof(T) & sizeof(quarter)) memcpy(&quarter, bytes, sizeof(quarter));
    return half | static_cast<uint64_t>(quarter) << (has_half ? 32 : 0);
  };
  const hn::Repartition<uint64_t, D> d64;
  if constexpr (hn::MaxLanes(d) == kOfWord) {
    return hn::BitCast(d, hn::Set(d64, word_of(p, n)));
  } else {
    const size_t low = HWY_MIN(n, kOfWord);
    const auto of_low = hn::Set(d64, word_of(p, low)), of_high = hn::Set(d64, word_of(p + low, n - low));
    return hn::BitCast(d, hn::InterleaveLower(d64, of_low, of_high));
  }
}

template <class D, class T = hn::TFromD<D>>
HWY_NOINLINE void StoreFirstByWords(hn::Vec<D> v, D d, T* p, size_t n) {
  if (n == hn::MaxLanes(d)) return hn::StoreU(v, d, p);
  const hn::Repartition<uint64_t, D> d64;
  const auto words = hn::BitCast(d64, v);
  uint64_t word = hn::GetLane(words);
  unsigned char* bytes = reinterpret_cast<unsigned char*>(p);
  if constexpr (hn::MaxLanes(d64) == 2) {
    if (n * sizeof(T) & sizeof(word)) {
      memcpy(bytes, &word, sizeof(word));
      word = hn::GetLane(hn::UpperHalf(hn::Half<decltype(d64)>(), words)), bytes += sizeof(word);
    }
  }
  if (n * sizeof(T) & sizeof(uint32_t)) {
    const uint32_t half = static_cast<uint32_t>(word);
    memcpy(bytes, &half, sizeof(half));
    word >>= 32, bytes += sizeof(half);
  }
  if (n * sizeof(T) & sizeof(uint16_t)) {
    const uint16_t quarter = static_cast<uint16_t>(word);
    memcpy(bytes, &quarter, sizeof(quarter));
  }
}
#endif

template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> LoadFirstAsIs(D d, const T* p, size_t n) {
  if constexpr (kMovesByMask<D>) {
    return hn::MaskedLoad(hn::FirstN(d, n), d, p);
  } else if constexpr (kMovesByWords<D>) {
    return LoadFirstByWords(d, p, n);
  } else {
    alignas(64) T buffer[kStrip] = {};
    memcpy(buffer, p, n * sizeof(T));
    return hn::Load(d, buffer);
  }
}

template <class D, class T = hn::TFromD<D>>
HWY_INLINE void StoreFirstAsIs(hn::Vec<D> v, D d, T* p, size_t n) {
  if constexpr (kMovesByMask<D>) {
    hn::BlendedStore(v, hn::FirstN(d, n), d, p);
  } else if constexpr (kMovesByWords<D>) {
    StoreFirstByWords(v, d, p, n);
  } else {
    alignas(64) T buffer[kStrip];
    hn::Store(v, d, buffer);
    memcpy(p, buffer, n * sizeof(T));
  }
}

// The first n elements, n <= Lanes(d); the other lanes are 0.
template <class D>
HWY_INLINE hn::Vec<D> LoadFirst(D d, const float* p, size_t n) {
  if constexpr (kIsFloat<D>) {
    return LoadFirstAsIs(d, p, n);
  } else {
    return hn::PromoteTo(d, LoadFirstAsIs(FloatTag<D>(), p, n));
  }
}
template <class D, class Element>
HWY_INLINE hn::Vec<D> LoadFirst(D d, const Element* p, size_t n) {
  return FromBits(d, Element(), LoadFirstAsIs(BitsTag<D>(), &p->bits, n));
}

// Stores the first n lanes, n <= Lanes(d).
template <bool kCanonical = true, class D>
HWY_INLINE void StoreFirst(hn::Vec<D> v, D d, float* p, size_t n) {
  if constexpr (kIsFloat<D>) {
    StoreFirstAsIs(kCanonical ? CanonicalNaN(d, v) : v, d, p, n);
  } else {
    StoreFirst<kCanonical>(ToFloat(d, v), FloatTag<D>(), p, n);
  }
}
template <bool kCanonical = true, class D, class Element>
HWY_INLINE void StoreFirst(hn::Vec<D> v, D d, Element* p, size_t n) {
  StoreFirstAsIs(ToBits(d, Element(), kCanonical ? CanonicalNaN(d, v) : v), BitsTag<D>(), &p->bits, n);
}

// A statistic on its way out.
HWY_INLINE float NarrowScalar(double value) {
  float result = static_cast<float>(value);
  if (value != value) memcpy(&result, &kQuietNaN, sizeof(result));
  return result;
}

// Calls visit with an element of the type that `dtype`, one of the floating-point ones, stands for: here a dtype that is a
// value becomes a type.
template <class Visit>
HWY_INLINE auto WithElementType(simdnorm_dtype dtype, const Visit& visit) {
  switch (dtype) {
    case SIMDNORM_BF16:
      return visit(BF16());
    case SIMDNORM_F16:
      return visit(F16());
    default:
      return visit(float());
  }
}

// A span's last vector ends where the span does, and so overlaps the one before it: much cheaper than a part of a vector. (In
// place, from f32 to f32, it converts what has been converted, and changes nothing.)
template <bool kCanonical, class From, class To>
HWY_INLINE void ConvertSpan(const From* from, To* to, int64_t n) {
  const StripTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), last = n - lanes;
  if (last < 0) {
    const size_t count = static_cast<size_t>(n);
    StoreFirst<kCanonical>(LoadFirst(d, from, count), d, to, count);
    return;
  }
  for (int64_t i = 0; i < last; i += lanes) StoreElements<kCanonical>(LoadElements(d, from + i), d, to + i);
  StoreElements<kCanonical>(LoadElements(d, from + last), d, to + last);
}

// to[i] = from[i], i < n. NaN stays NaN. The spans do not overlap.
HWY_NOINLINE inline void WidenSpan(const void* from, simdnorm_dtype dtype, float* to, int64_t n) {
  WithElementType(dtype,
                  [&](auto element) HWY_ATTR { ConvertSpan<false>(static_cast<const decltype(element)*>(from), to, n); });
}

// NaN would take a comparison and a choice for each vector, and is so seldom that a sum over all of them is looked at instead.
// If the sum is NaN, the span is narrowed again with care.
template <class To>
HWY_INLINE void NarrowSpanTo(const float* from, To* to, int64_t n, bool streams) {
  const StripTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto sum0 = hn::Zero(d), sum1 = hn::Zero(d);
  int64_t done = 0;
  if constexpr (MayRoundNatively<decltype(d), To>()) {
    for (; rounds_to_bf16 && done + 2 * lanes <= n; done += 2 * lanes) {
      StoreAnyPair<true>(LoadElements(d, from + done), LoadElements(d, from + done + lanes), d, to + done, streams);
    }
  }
  for (; done + 2 * lanes <= n; done += 2 * lanes) {
    const auto v0 = LoadElements(d, from + done), v1 = LoadElements(d, from + done + lanes);
    StorePair(v0, v1, d, to + done, streams);
    sum0 = hn::Add(sum0, v0);
    sum1 = hn::Add(sum1, v1);
  }
  const bool has_nan = !hn::AllFalse(d, hn::IsNaN(hn::Add(sum0, sum1)));
  // What is left, and at least a vector of it if there is one.
  const int64_t again = HWY_UNLIKELY(has_nan) ? 0 : done == n ? n : HWY_MIN(done, HWY_MAX(n - lanes, 0));
  if (again < n) ConvertSpan<true>(from + again, to + again, n - again);
}

// to[i] = from[i] rounded to nearest even, NaN the quiet NaN 0x7FC00000, 0x7FC0 or 0x7E00. The spans do not overlap, or
// those of f32 are the same. With `streams` past the caches, if `to` begins with a cache line.
HWY_NOINLINE inline void NarrowSpan(const float* from, void* to, simdnorm_dtype dtype, int64_t n, bool streams = false) {
  WithElementType(dtype, [&](auto element) HWY_ATTR {
    auto* elements = static_cast<decltype(element)*>(to);
    NarrowSpanTo(from, elements, n, streams && ElementsToLine(elements) == 0);
  });
}

// sum[i] = a[i] + b[i]; sum may be a or b, and so the last vector, which overlaps the one before it, is added up first. With
// `asks_ahead` asks for as many elements that follow.
template <class A, class B>
HWY_INLINE void AddElements(const A* a, const B* b, float* sum, int64_t n, bool asks_ahead) {
  const StripTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), last = n - lanes;
  if (last < 0) {
    const size_t count = static_cast<size_t>(n);
    StoreFirst<false>(hn::Add(LoadFirst(d, a, count), LoadFirst(d, b, count)), d, sum, count);
    return;
  }
  const auto last_sum = hn::Add(LoadElements(d, a + last), LoadElements(d, b + last));
  for (int64_t i = 0; i < last; i += lanes) {
    if (asks_ahead) hwy::Prefetch(a + n + i), hwy::Prefetch(b + n + i);
    StoreElements<false>(hn::Add(LoadElements(d, a + i), LoadElements(d, b + i)), d, sum + i);
  }
  StoreElements<false>(last_sum, d, sum + last);
}

// The same of two dtypes; sum may be a of f32, or b if both are. With `from_afar`, a call's tensors do not fit the caches:
// where both are of 16 bits, what follows is asked for. (Measured, rows of bf16: 0.82 to 0.96 of the time. Rows of f32 would
// take up to 1.04 there.)
HWY_NOINLINE inline void AddSpan(const void* a, simdnorm_dtype a_dtype, const void* b, simdnorm_dtype b_dtype, float* sum,
                                 int64_t n, bool from_afar = false) {
  if (a_dtype != SIMDNORM_F32 && a_dtype != b_dtype) {
    WidenSpan(a, a_dtype, sum, n);
    a = sum, a_dtype = SIMDNORM_F32;
  }
  WithElementType(b_dtype, [&](auto element) HWY_ATTR {
    using B = decltype(element);
    const auto* addends = static_cast<const B*>(b);
    if (std::is_same_v<B, float> || a_dtype == SIMDNORM_F32) {
      AddElements(static_cast<const float*>(a), addends, sum, n, false);
    } else {
      AddElements(static_cast<const B*>(a), addends, sum, n, from_afar);
    }
  });
}

// The element at p, in f32.
template <class Element>
HWY_INLINE float FirstElement(const Element* p) {
  return hn::GetLane(LoadElements(hn::CappedTag<float, 1>(), p));
}
HWY_INLINE float FirstElement(const float* p) { return *p; }

// One element, for parameters that hold one value for a whole run.
HWY_NOINLINE inline float LoadScalar(const void* p, simdnorm_dtype dtype, int64_t index) {
  return WithElementType(dtype,
                         [&](auto element) HWY_ATTR { return FirstElement(static_cast<const decltype(element)*>(p) + index); });
}

// Replaces each of v's n elements by f(d, load) of it: load(span) is the vector of that span's elements in the same places.
// Every NaN becomes the one quiet NaN.
template <class F>
HWY_INLINE void ForEachVector(float* v, int64_t n, const F& f) {
  const StripTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto load = [&](const float* span) HWY_ATTR { return LoadElements(d, span + i); };
    StoreElements(f(d, load), d, v + i);
  }
  if (i < n) {
    const size_t rest = static_cast<size_t>(n - i);
    const auto load = [&](const float* span) HWY_ATTR { return LoadFirst(d, span + i, rest); };
    StoreFirst(f(d, load), d, v + i, rest);
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_LOAD_STORE_INL_H_
