// The loop that normalizes a run of adjacent elements from x to y, statistics being known: the innermost of rows-inl.h, and of
// channels-inl.h where rows are runs, too.
#if defined(SIMDNORM_LIB_SIMD_WRITE_RUN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIMDNORM_LIB_SIMD_WRITE_RUN_INL_H_
#undef SIMDNORM_LIB_SIMD_WRITE_RUN_INL_H_
#else
#define SIMDNORM_LIB_SIMD_WRITE_RUN_INL_H_
#endif

#include <float.h>

#include <type_traits>

#include "kernels.h"
#include "simd/load_store-inl.h"
#include "simd/stage-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

// A whole vector, or its first n lanes; of a loop by pairs, the second.
struct Whole {};
struct SecondOfPair : Whole {};
struct Part {
  size_t n;
};
template <class D, class Element>
HWY_INLINE hn::Vec<D> LoadLanes(D d, const Element* p, Whole /*lanes*/) {
  return LoadElements(d, p);
}
template <class D, class Element>
HWY_INLINE hn::Vec<D> LoadLanes(D d, const Element* p, Part lanes) {
  return LoadFirst(d, p, lanes.n);
}

// Whether runs are written from f32 to 16 bits, or with parameters of 16 bits. Not on old processors: each takes as much code
// as all of one dtype.
constexpr bool kWritesNarrow = !HWY_ARCH_X86 || HWY_TARGET <= HWY_AVX2;

// Scale and shift as the write loop sees them: absent, or one for each element.
struct Absent {
  static constexpr bool kPresent = false;
  template <class D, class Lanes>
  HWY_INLINE hn::Vec<D> Get(D d, int64_t /*i*/, Lanes /*lanes*/) const {
    return hn::Zero(d);  // not used
  }
  HWY_INLINE Absent From(int64_t /*i*/) const { return {}; }
};

template <class Element>
struct PerElement {
  static constexpr bool kPresent = true;
  const Element* HWY_RESTRICT p;
  template <class D, class Lanes>
  HWY_INLINE hn::Vec<D> Get(D d, int64_t i, Lanes lanes) const {
    return LoadLanes(d, p + i, lanes);
  }
  HWY_INLINE PerElement From(int64_t i) const { return {p + i}; }
};

// What normalizes a run in T, two floats holding the mean: (x - mean) * rstd + offset; or, where what follows is one scale for
// all of the run, ((x - mean) - low) * rstd_in_double.
template <class T>
struct Centre {
  T mean, offset, rstd, low;
  double rstd_in_double;
};
// The second floats of items i, i + 1, ..., as many as d has lanes. 0 where the mean is within 2 std of 0: leaving it out then
// costs 2 u at the most, of what the bound counts 25 u of (moments-inl.h). Measured (AVX2), training, if none of a tile's
// channels has one, in the caches: NHWC f32 0.92 to 0.97 of the time, 16 bits 0.89 to 0.95; NCHW of 16 bits 0.94 to 0.98.
template <class D>
HWY_INLINE hn::Vec<FloatTag<D>> LowPartsOfMeans(D d, const Normalizers& normalizers, int64_t i) {
  const auto mean = hn::LoadU(d, normalizers.mean + i),
             high = hn::PromoteTo(d, hn::LoadU(FloatTag<D>(), normalizers.mean_high + i));
  const auto near = hn::Le(hn::Mul(mean, mean), hn::Mul(hn::Set(d, 4.0), hn::LoadU(d, normalizers.variance + i)));
  return ToFloat(d, hn::IfThenZeroElse(near, hn::Sub(mean, high)));
}
HWY_INLINE float LowPartOfMean(const Normalizers& normalizers, int64_t i) {
  return hn::GetLane(LowPartsOfMeans(hn::CappedTag<double, 1>(), normalizers, i));
}
template <class T>
HWY_INLINE Centre<T> CentreOf(const Normalizers& normalizers, int64_t i) {
  if constexpr (sizeof(T) == sizeof(double)) {
    return {normalizers.mean[i], 0, normalizers.rstd_double[i], 0, normalizers.rstd_double[i]};
  }
  return {normalizers.mean_high[i], normalizers.offset[i], normalizers.rstd[i], LowPartOfMean(normalizers, i),
          normalizers.rstd_double[i]};
}

// The centres of several runs, by number.
template <class T>
struct Centres {
  const T *mean, *offset, *rstd;
  HWY_INLINE Centre<T> At(int64_t i) const { return {mean[i], offset[i], rstd[i], 0, 0}; }
};
HWY_INLINE Centres<float> CentresOf(const Normalizers& normalizers) {
  return {normalizers.mean_high, normalizers.offset, normalizers.rstd};
}
template <class T>
HWY_INLINE Centres<T> OneCentre(const Centre<T>& centre) {
  return {&centre.mean, &centre.offset, &centre.rstd};
}

HWY_NOINLINE inline void MakeNaNCanonical(float* y, int64_t length) {
  ForEachVector(y, length, [&](auto /*d*/, const auto& load) HWY_ATTR { return load(y); });
}

// y = normalize(x) for `length` adjacent elements, arithmetic in the type of d; with `may_stream` past the caches, where x and
// y are of one dtype. normalize(v, i, lanes) is of elements i, i + 1, ..., in a vector or a part of one.
//
// NaN needs a look at every result, and comes out so seldom that a sum over all results is looked at instead: one addition
// for each, where comparing and choosing take two operations. If the sum is NaN, results are mended. Results of 16 bits are
// looked at before they are stored, as rounding could make a number of a NaN, and x may have been overwritten. With kNumbers
// the caller knows that no result is NaN; the processor's own rounding needs its look all the same. With kAnyOrder normalize()
// does the same to all elements, and those of two vectors may come in any order.
template <bool kNumbers, bool kAnyOrder = false, class D, class TX, class TY, class Normalize>
HWY_INLINE void WriteRun(D d, const TX* x, TY* y, int64_t length, bool may_stream, const Normalize& normalize) {
  const bool streams = kCanStream && std::is_same_v<TX, TY> && may_stream;
  using V = hn::Vec<D>;
  const int64_t step = static_cast<int64_t>(hn::Lanes(d));
  const auto result = [&](int64_t i) HWY_ATTR { return normalize(LoadElements(d, x + i), i, Whole()); };
  const auto second = [&](int64_t i) HWY_ATTR { return normalize(LoadElements(d, x + i), i, SecondOfPair()); };
  const auto result_of = [&](int64_t i, size_t n) HWY_ATTR { return normalize(LoadFirst(d, x + i, n), i, Part{n}); };
  int64_t i = 0;
  if (HWY_UNLIKELY(streams)) {
    for (const int64_t line = HWY_MIN(length, ElementsToLine(y)); i < line;) {
      const size_t n = static_cast<size_t>(HWY_MIN(step, line - i));
      StoreFirst(result_of(i, n), d, y + i, n);
      i += static_cast<int64_t>(n);
    }
  }
  if constexpr (std::is_same_v<TY, float>) {
    const int64_t first = i;
    V sum0 = hn::Zero(d), sum1 = hn::Zero(d);
    for (; i + 2 * step <= length; i += 2 * step) {
      const V v0 = result(i), v1 = second(i + step);
      StorePair(v0, v1, d, y + i, streams);
      if constexpr (!kNumbers) sum0 = hn::Add(sum0, v0), sum1 = hn::Add(sum1, v1);
    }
    if (i + step <= length) {
      const V v = result(i);
      if constexpr (kIsFloat<D> && kIsLine<D>) {
        StoreOrStream(v, d, y + i, streams);
      } else {
        StoreElements<false>(v, d, y + i);
      }
      if constexpr (!kNumbers) sum0 = hn::Add(sum0, v);
      i += step;
    }
    if (!kNumbers && HWY_UNLIKELY(!hn::AllFalse(d, hn::IsNaN(hn::Add(sum0, sum1))))) MakeNaNCanonical(y + first, i - first);
  } else {
    constexpr bool kAny = kAnyOrder && std::is_same_v<TX, TY>;
    const auto write_pairs = [&](auto native) HWY_ATTR {
      constexpr bool kNative = decltype(native)::value;
      for (; i + 2 * step <= length; i += 2 * step) {
        V v0, v1;
        LoadPair<kAny>(d, x + i, v0, v1);
        v0 = normalize(v0, i, Whole()), v1 = normalize(v1, i + step, SecondOfPair());
        if constexpr (kNative || !kNumbers) {
          StoreAnyPair<kNative, kAny>(v0, v1, d, y + i, streams);
        } else {
          StorePair<false, kAny>(v0, v1, d, y + i, streams);
        }
      }
    };
    if constexpr (MayRoundNatively<D, TY>()) {
      if (rounds_to_bf16) write_pairs(std::true_type());  // then there is none left
    }
    write_pairs(std::false_type());
    if (i + step <= length) {
      StoreElements<!kNumbers>(result(i), d, y + i);
      i += step;
    }
  }
  if (i < length) {
    const size_t n = static_cast<size_t>(length - i);
    StoreFirst(result_of(i, n), d, y + i, n);
  }
}

// ((v - mean) * rstd + offset) * scale + shift, of which scale and shift may be Absent.
template <bool kCentred, class Scale, class Shift, class V>
HWY_INLINE V NormalizeElements(V v, V mean, V rstd, V offset, V scale, V shift) {
  v = kCentred ? hn::MulAdd(hn::Sub(v, mean), rstd, offset) : hn::Mul(v, rstd);
  if constexpr (Scale::kPresent && Shift::kPresent) return hn::MulAdd(v, scale, shift);
  if constexpr (Scale::kPresent) return hn::Mul(v, scale);
  if constexpr (Shift::kPresent) return hn::Add(v, shift);
  return v;
}

// WriteRun of a sequence: by its centre, and by parameters for each element.
template <bool kNumbers, bool kCentred, class D, class TX, class TY, class Scale, class Shift>
HWY_INLINE void WriteRunBy(D d, const TX* x, TY* y, int64_t length, const Centre<hn::TFromD<D>>& centre, const Scale scale,
                           const Shift shift, bool may_stream) {
  using V = hn::Vec<D>;
  const V mean = hn::Set(d, centre.mean), offset = hn::Set(d, centre.offset), rstd = hn::Set(d, centre.rstd);
  WriteRun<kNumbers>(d, x, y, length, may_stream, [&](V v, int64_t i, auto lanes) HWY_ATTR {
    return NormalizeElements<kCentred, Scale, Shift>(v, mean, rstd, offset, scale.Get(d, i, lanes), shift.Get(d, i, lanes));
  });
}

// Scale and shift by position, from some position on; null: none.
struct Parameters {
  const void *scale, *shift;
  simdnorm_dtype dtype;
  bool finite;  // all of them are known to be

  HWY_INLINE Parameters From(int64_t i) const {
    const auto from = [&](const void* p) -> const void* {
      return p ? static_cast<const unsigned char*>(p) + Bytes(dtype, i) : nullptr;
    };
    return {from(scale), from(shift), dtype, finite};
  }
};

// Calls write(scale, shift) with parameters for each element, of f32; null: none.
template <class Write>
HWY_INLINE void WithParameters(const float* scale, const float* shift, const Write& write) {
  using Present = PerElement<float>;
  if (scale && shift) return write(Present{scale}, Present{shift});
  if (scale) return write(Present{scale}, Absent());
  if (shift) return write(Absent(), Present{shift});
  write(Absent(), Absent());
}

// From how many sequences on their parameters are worth preparations. Measured: to widen those of 16 bits first takes 1.7 times
// as long for one row of 4096, as long for five, and 0.93 of the time for ten.
constexpr int64_t kManySequences = 5;

// Whether `count` sequences of results of `dtype` take a norm's parameters, which are not in f32, as they lie: those of the
// same dtype, in the combination that networks have.
template <bool kCentred, class Norm>
HWY_INLINE bool TakesParameters(int64_t count, simdnorm_dtype dtype, const Norm& norm) {
  return kWritesNarrow && count < kManySequences && norm.scale_dtype == dtype && norm.scale &&
         (norm.shift != nullptr) == kCentred;
}

// Calls write(scale, shift) with parameters in f32, or in TY for sequences that take them so.
template <bool kCentred, class TY, class Write>
HWY_INLINE void WithParameters(const Parameters& parameters, const Write& write) {
  const void *scale = parameters.scale, *shift = parameters.shift;
  if constexpr (kWritesNarrow && !std::is_same_v<TY, float>) {
    if (parameters.dtype != SIMDNORM_F32) {
      const PerElement<TY> present = {static_cast<const TY*>(scale)};
      if constexpr (kCentred) return write(present, PerElement<TY>{static_cast<const TY*>(shift)});
      return write(present, Absent());
    }
  }
  WithParameters(static_cast<const float*>(scale), static_cast<const float*>(shift), write);
}

// Whether it pays to find out beforehand that no result will be NaN: there is a loop for that. Where results are of 16 bits it
// takes a tenth less, where they are f32 as long.
template <class T, class TY>
constexpr bool kLooksAheadForNaN = sizeof(T) == sizeof(float) && !std::is_same_v<TY, float>;

// Whether all of n values are finite; null: there are none.
HWY_NOINLINE inline bool AllFinite(const void* data, int64_t n) {
  const float* values = static_cast<const float*>(data);
  if (values == nullptr) return true;
  const StripTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto sum = hn::Zero(d);  // of x - x, which is 0 or NaN
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = LoadElements(d, values + i);
    sum = hn::Add(sum, hn::Sub(v, v));
  }
  if (i < n) {
    const auto v = LoadFirst(d, values + i, static_cast<size_t>(n - i));
    sum = hn::Add(sum, hn::Sub(v, v));
  }
  return hn::AllFalse(d, hn::IsNaN(sum));
}

// Of n positions, in f32.
HWY_INLINE bool AllFinite(const Parameters& parameters, int64_t n) {
  return AllFinite(parameters.scale, n) && AllFinite(parameters.shift, n);
}

// Whether runs of `length` elements, `stride` apart, are worth writing past the caches: they are long, or whole cache lines.
// Lines that are written in part are waited for, otherwise: measured, rows of 392 bytes take up to 2.9 times as long as through
// the caches, of 2000 bytes 1.4 times, of 4000 bytes 0.6 to 0.9.
template <class TY>
HWY_INLINE bool StreamsWell(const TY* y, int64_t stride, int64_t length) {
  constexpr int64_t kLong = 3072, kSize = static_cast<int64_t>(sizeof(TY));
  return length * kSize >= kLong || IsWholeLines(y, (stride | length) * kSize);
}

// WriteRun for `count` runs of f32, x_stride and y_stride elements apart, that are short: four vectors of all of them at a
// time, while those vectors' parameters stay in registers. -> whether their length is such that this was done
template <bool kCentred, class D, class Scale, class Shift>
HWY_INLINE bool WriteShortRuns(D d, const float* x, int64_t x_stride, float* y, int64_t y_stride, int64_t length, int64_t count,
                               const Centres<float>& centres, const Scale scale, const Shift shift, bool streams) {
  using V = hn::Vec<D>;
  // Measured (AVX-512): runs of 64 to 384 take 0.87 to 0.92 of the time in caches, without a shift those of 64 and 128 0.9 and
  // 0.94; 0.79 to 0.98 from memory, where longer ones without a shift take 1.06 to 1.5 of it.
  constexpr int64_t kShort = Scale::kPresent && Shift::kPresent ? 384 : 128;
  const int64_t step = static_cast<int64_t>(hn::Lanes(d)), tile = 4 * step;
  if (count == 1 || length > kShort || length % tile != 0) return false;
  for (const int64_t end = length; length > 0; length -= tile, x += tile, y += tile) {
    const auto scale_of = [&](int64_t i) HWY_ATTR { return scale.Get(d, end - length + i * step, Whole()); };
    const auto shift_of = [&](int64_t i) HWY_ATTR { return shift.Get(d, end - length + i * step, Whole()); };
    const V scale0 = scale_of(0), scale1 = scale_of(1), scale2 = scale_of(2), scale3 = scale_of(3);
    const V shift0 = shift_of(0), shift1 = shift_of(1), shift2 = shift_of(2), shift3 = shift_of(3);
    V sum0 = hn::Zero(d), sum1 = hn::Zero(d);
    for (int64_t run = 0; run < count; ++run) {
      const float* from = x + run * x_stride;
      float* to = y + run * y_stride;
      const auto centre = centres.At(run);
      const V mean = hn::Set(d, centre.mean), offset = hn::Set(d, centre.offset), rstd = hn::Set(d, centre.rstd);
      const auto result = [&](int64_t i, V scale_v, V shift_v) HWY_ATTR {
        return NormalizeElements<kCentred, Scale, Shift>(LoadElements(d, from + i * step), mean, rstd, offset, scale_v,
                                                         shift_v);
      };
      const V v0 = result(0, scale0, shift0), v1 = result(1, scale1, shift1);
      StorePair(v0, v1, d, to, streams);
      sum0 = hn::Add(sum0, v0), sum1 = hn::Add(sum1, v1);
      const V v2 = result(2, scale2, shift2), v3 = result(3, scale3, shift3);
      StorePair(v2, v3, d, to + 2 * step, streams);
      sum0 = hn::Add(sum0, v2), sum1 = hn::Add(sum1, v3);
    }
    if (HWY_LIKELY(hn::AllFalse(d, hn::IsNaN(hn::Add(sum0, sum1))))) continue;
    for (int64_t run = 0; run < count; ++run) MakeNaNCanonical(y + run * y_stride, tile);
  }
  return true;
}

// WriteRun for `count` runs, x_stride and y_stride elements apart. Where parameters are known to be finite, the centres are
// those of the runs themselves: a run with a finite one is of numbers, which become numbers (a mean square is Inf, and rstd 0,
// if one of them is).
template <bool kCentred, class D, class TX, class TY>
HWY_NOINLINE void WriteElements(D d, const TX* x, int64_t x_stride, TY* y, int64_t y_stride, int64_t length, int64_t count,
                                const Centres<hn::TFromD<D>> centres, const Parameters& parameters, bool may_stream) {
  const bool streams = may_stream && StreamsWell(y, y_stride, length), numbers = parameters.finite;
  WithParameters<kCentred, TY>(parameters, [=](const auto scale_of, const auto shift_of) HWY_ATTR {
    // What is captured lies in memory, where a compiler has to look again after every store to y.
    const TX* from = x;
    TY* to = y;
    const int64_t from_stride = x_stride, to_stride = y_stride, n = length, end = count;
    const auto all = centres;
    const bool past_caches = streams, all_numbers = numbers;
    constexpr bool kLooksAhead = kLooksAheadForNaN<hn::TFromD<D>, TY> && decltype(shift_of)::kPresent == kCentred &&
                                 std::is_same_v<const PerElement<float>, decltype(scale_of)>;
    if constexpr (kIsFloat<D> && std::is_same_v<TX, float> && std::is_same_v<TY, float>) {
      if (WriteShortRuns<kCentred>(d, from, from_stride, to, to_stride, n, end, all, scale_of, shift_of, past_caches)) return;
    }
    for (int64_t i = 0; i < end; ++i, from += from_stride, to += to_stride) {
      const auto centre = all.At(i);
      if constexpr (kLooksAhead) {
        if (all_numbers && centre.rstd > 0 && centre.rstd <= FLT_MAX) {
          WriteRunBy<true, kCentred>(d, from, to, n, centre, scale_of, shift_of, past_caches);
          continue;
        }
      }
      WriteRunBy<false, kCentred>(d, from, to, n, centre, scale_of, shift_of, past_caches);
    }
  });
}

// Elements of channels: ((v - mean) - low) * factor + shift; without `low`, which then is not looked at, where that is 0.
template <bool kLow, class D, class V = hn::Vec<D>>
HWY_INLINE V NormalizeByChannel(D d, V v, V mean, V low, V factor, V shift) {
  v = hn::Sub(v, mean);
  if constexpr (kLow) v = SubByMulAdd(d, v, low);
  return hn::MulAdd(v, factor, shift);
}

// WriteRun of elements of channels, each of which has its own mean, low, factor and shift.
template <bool kLow, bool kNumbers, class D, class TX, class TY>
HWY_INLINE void WriteRunByChannel(D d, const TX* x, TY* y, int64_t length, const float* mean, const float* low,
                                  const float* factor, const float* shift, bool may_stream) {
  using V = hn::Vec<D>;
  WriteRun<kNumbers>(d, x, y, length, may_stream, [&](V v, int64_t i, auto /*lanes*/) HWY_ATTR {
    const V mean_v = hn::LoadU(d, mean + i), factor_v = hn::LoadU(d, factor + i), shift_v = hn::LoadU(d, shift + i);
    return NormalizeByChannel<kLow>(d, v, mean_v, kLow ? hn::LoadU(d, low + i) : mean_v, factor_v, shift_v);
  });
}

// rstd * scale of a channel, rounded once.
HWY_INLINE float ChannelFactor(double rstd, float scale) { return static_cast<float>(rstd * static_cast<double>(scale)); }

// Whether rstd * scale of a channel is a number, but none that f32 has all digits of: then the two are to be multiplied by one
// after the other.
HWY_INLINE bool IsSplit(double rstd, float scale) {
  const double product = rstd * static_cast<double>(scale), magnitude = product < 0 ? -product : product;
  return magnitude > 0 && magnitude <= DBL_MAX && !(magnitude >= FLT_MIN && magnitude <= FLT_MAX);
}

// What is known of the factors of some channels: whether any of them is split; whether in any the mean has a low part; and
// whether all are plain, which is normal numbers that make no NaN of any number.
struct FactorKinds {
  bool any_split = false, any_low = false, all_plain = true;
};

// Sets the factors of `count` channels. Not inline: compilers make much of these loops, some 30 KiB for each target.
HWY_NOINLINE inline FactorKinds MakeFactors(int64_t count, const float* mean, const float* low, const double* rstd,
                                            const float* scale, const float* shift, float* HWY_RESTRICT factor) {
  FactorKinds kinds;
  int any_low = 0, any_special = 0;
  for (int64_t i = 0; i < count; ++i) factor[i] = ChannelFactor(rstd[i], scale[i]);
  for (int64_t i = 0; i < count; ++i) {
    const float magnitude = factor[i] < 0 ? -factor[i] : factor[i];
    any_low |= low[i] != 0;
    any_special |= !(magnitude >= FLT_MIN) | !(magnitude <= FLT_MAX) | !(mean[i] - mean[i] == 0) | !(shift[i] - shift[i] == 0);
  }
  kinds.any_low = any_low != 0;
  if (HWY_UNLIKELY(any_special != 0)) {
    kinds.all_plain = false;
    for (int64_t i = 0; i < count; ++i) kinds.any_split |= IsSplit(rstd[i], scale[i]);
  }
  return kinds;
}

// What normalizes up to 16 channels, each with one scale and one shift: ((x - mean) - low) * factor + shift. In double, which
// has no need of it, without the factor.
template <class T>
struct ChannelFactors {
  alignas(64) T mean[kItems], low[kItems];
  alignas(64) float factor[kItems];
  alignas(64) double rstd[kItems];
  alignas(64) float scale[kItems], shift[kItems];
  FactorKinds kinds;

  HWY_INLINE void SetCentre(int64_t i, const Centre<T>& centre) {
    mean[i] = centre.mean, low[i] = centre.low, rstd[i] = centre.rstd_in_double;
  }
  HWY_INLINE Centre<T> CentreAt(int64_t i) const { return {mean[i], 0, static_cast<T>(rstd[i]), low[i], rstd[i]}; }
};

// Runs of f32 by factors of which none is split, run i by those of channel first + i * next; `length` fills a vector at least.
// The last vector ends where the run does, and overlaps the one before it: for short runs that is cheaper than a part of a
// vector, and so is one look for NaN at all of them. kLow: some of the means have a low part.
template <bool kLow, class D>
HWY_NOINLINE void WriteFloatChannels(D d, const float* x, int64_t x_stride, float* y, int64_t y_stride, int64_t length,
                                     int64_t count, const ChannelFactors<float>& factors, int64_t first, int64_t next) {
  using V = hn::Vec<D>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), last = length - lanes;
  V sum0 = hn::Zero(d), sum1 = hn::Zero(d);
  for (int64_t run = 0; run < count; ++run, first += next) {
    const float* from = x + run * x_stride;
    float* to = y + run * y_stride;
    const V mean = hn::Set(d, factors.mean[first]), low = hn::Set(d, factors.low[first]);
    const V factor = hn::Set(d, factors.factor[first]), shift = hn::Set(d, factors.shift[first]);
    const auto result = [&](int64_t i)
                            HWY_ATTR { return NormalizeByChannel<kLow>(d, hn::LoadU(d, from + i), mean, low, factor, shift); };
    const V v_last = result(last);
    int64_t i = 0;
    for (; i + lanes < last; i += 2 * lanes) {
      const V v0 = result(i), v1 = result(i + lanes);
      hn::StoreU(v0, d, to + i), hn::StoreU(v1, d, to + i + lanes);
      sum0 = hn::Add(sum0, v0), sum1 = hn::Add(sum1, v1);
    }
    if (i < last) {
      const V v = result(i);
      hn::StoreU(v, d, to + i);
      sum0 = hn::Add(sum0, v);
    }
    hn::StoreU(v_last, d, to + last);
    sum1 = hn::Add(sum1, v_last);
  }
  if (HWY_LIKELY(hn::AllFalse(d, hn::IsNaN(hn::Add(sum0, sum1))))) return;
  for (int64_t run = 0; run < count; ++run) MakeNaNCanonical(y + run * y_stride, length);
}

// The same of channels from `first` on whose runs lie side by side, as one run of all of them: a vector holds elements of one
// channel or of two, and then has factors of both. So all vectors but the first and the last are aligned, and can be streamed.
// Measured, for runs of f32 that are no whole vectors: 0.92 to 1 of the time in the caches, 0.55 to 0.65 from memory.
template <bool kLow, class D>
HWY_NOINLINE void WriteAdjacentChannels(D d, const float* x, float* y, int64_t length, int64_t count,
                                        const ChannelFactors<float>& factors, int64_t first, bool streams) {
  using V = hn::Vec<D>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), all = count * length;
  V sum0 = hn::Zero(d), sum1 = hn::Zero(d);
  V mean = hn::Zero(d), low = mean, factor = mean, shift = mean;
  const auto result_of = [&](V v) HWY_ATTR { return NormalizeByChannel<kLow>(d, v, mean, low, factor, shift); };
  const auto part = [&](int64_t i, int64_t n) HWY_ATTR {
    const size_t valid = static_cast<size_t>(n);
    StoreFirst(result_of(LoadFirst(d, x + i, valid)), d, y + i, valid);
  };
  int64_t i = 0, end = 0;
  for (int64_t c = first; c < first + count; ++c) {
    const V mean_c = hn::Set(d, factors.mean[c]), low_c = hn::Set(d, factors.low[c]);
    const V factor_c = hn::Set(d, factors.factor[c]), shift_c = hn::Set(d, factors.shift[c]);
    if (i < end) {
      const auto before = hn::FirstN(d, static_cast<size_t>(end - i));
      mean = hn::IfThenElse(before, mean, mean_c), factor = hn::IfThenElse(before, factor, factor_c);
      shift = hn::IfThenElse(before, shift, shift_c);
      if constexpr (kLow) low = hn::IfThenElse(before, low, low_c);
      const V v = result_of(hn::LoadU(d, x + i));
      StoreOrStream(v, d, y + i, streams);
      sum0 = hn::Add(sum0, v);
      i += lanes;
    }
    mean = mean_c, low = low_c, factor = factor_c, shift = shift_c;
    end += length;
    if (c == first) {
      const int64_t begin = HWY_MIN(ElementsToMultiple(y, lanes * static_cast<int64_t>(sizeof(float))), end);
      if (begin != 0) part(0, begin);
      i = begin;
    }
    for (; i + 2 * lanes <= end; i += 2 * lanes) {
      const V v0 = result_of(hn::LoadU(d, x + i)), v1 = result_of(hn::LoadU(d, x + i + lanes));
      StorePair(v0, v1, d, y + i, streams);
      sum0 = hn::Add(sum0, v0), sum1 = hn::Add(sum1, v1);
    }
    if (i + lanes <= end) {
      const V v = result_of(hn::LoadU(d, x + i));
      StoreOrStream(v, d, y + i, streams);
      sum0 = hn::Add(sum0, v);
      i += lanes;
    }
  }
  if (i < all) part(i, all - i);
  if (HWY_UNLIKELY(!hn::AllFalse(d, hn::IsNaN(hn::Add(sum0, sum1))))) MakeNaNCanonical(y, all);
}

// WriteRun for `count` runs, x_stride and y_stride elements apart: run i by the factors of channel first + i * next. With `own`
// by statistics of its own, which are finite only if all of x are numbers that their arithmetic in f32 does not make Inf of.
template <class D, class TX, class TY, class T = hn::TFromD<D>>
HWY_NOINLINE void WriteChannels(D d, const TX* x, int64_t x_stride, TY* y, int64_t y_stride, int64_t length, int64_t count,
                                const ChannelFactors<T>& factors, int64_t first, int64_t next, bool own, bool may_stream) {
  using V = hn::Vec<D>;
  const bool streams = may_stream && StreamsWell(y, y_stride, length);
  const bool numbers = own && factors.kinds.all_plain, any_split = sizeof(T) == sizeof(double) || factors.kinds.any_split;
  if constexpr (std::is_same_v<T, float> && std::is_same_v<TX, float> && std::is_same_v<TY, float>) {
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    const bool adjacent = kWritesNarrow && x_stride == length && y_stride == length && next == 1 && count > 1;
    if (adjacent && !any_split && length >= lanes && length % lanes != 0) {
      const bool streams_all = may_stream && StreamsWell(y, 0, count * length);
      if (factors.kinds.any_low) return WriteAdjacentChannels<true>(d, x, y, length, count, factors, first, streams_all);
      return WriteAdjacentChannels<false>(d, x, y, length, count, factors, first, streams_all);
    }
    if (HWY_LIKELY(!streams && !any_split && length >= lanes)) {
      if (factors.kinds.any_low) {
        return WriteFloatChannels<true>(d, x, x_stride, y, y_stride, length, count, factors, first, next);
      }
      return WriteFloatChannels<false>(d, x, x_stride, y, y_stride, length, count, factors, first, next);
    }
  }
  for (int64_t i = 0, c = first; i < count; ++i, c += next, x += x_stride, y += y_stride) {
    const V mean = hn::Set(d, factors.mean[c]), low = hn::Set(d, factors.low[c]);
    const V shift = hn::Set(d, static_cast<T>(factors.shift[c]));
    if (HWY_UNLIKELY(any_split) && (sizeof(T) == sizeof(double) || IsSplit(factors.rstd[c], factors.scale[c]))) {
      const V rstd = hn::Set(d, static_cast<T>(factors.rstd[c])), scale = hn::Set(d, static_cast<T>(factors.scale[c]));
      WriteRun<false>(d, x, y, length, false, [&](V v, int64_t /*i*/, auto /*lanes*/) HWY_ATTR {
        return hn::MulAdd(hn::MulAdd(hn::Sub(hn::Sub(v, mean), low), rstd, hn::Zero(d)), scale, shift);
      });
    } else if constexpr (sizeof(T) == sizeof(float)) {
      constexpr bool kLooksAhead = kLooksAheadForNaN<T, TY>;
      const V factor = hn::Set(d, factors.factor[c]);
      const auto normalize = [&](V v, int64_t /*i*/, auto /*lanes*/)
                                 HWY_ATTR { return NormalizeByChannel<true>(d, v, mean, low, factor, shift); };
      const auto without_low = [&](V v, int64_t /*i*/, auto /*lanes*/)
                                   HWY_ATTR { return NormalizeByChannel<false>(d, v, mean, low, factor, shift); };
      const bool looked = kLooksAhead && numbers;
      if (!kLooksAhead || factors.kinds.any_low) {  // f32 that comes here waits for memory, or is little
        looked ? WriteRun<kLooksAhead, true>(d, x, y, length, streams, normalize)
               : WriteRun<false, true>(d, x, y, length, streams, normalize);
      } else {
        looked ? WriteRun<kLooksAhead, true>(d, x, y, length, streams, without_low)
               : WriteRun<false, true>(d, x, y, length, streams, without_low);
      }
    }
  }
}

// Whether WriteRun goes from one dtype to the other by itself, with arithmetic in T. In double, which is rare, all is staged;
// so is 16 bits to others, which is less common.
template <class T>
HWY_INLINE bool WritesFrom(simdnorm_dtype x, simdnorm_dtype y) {
  if (sizeof(T) == sizeof(double)) return x == SIMDNORM_F32 && y == SIMDNORM_F32;
  return IsFloat(y) && (x == y || (kWritesNarrow && x == SIMDNORM_F32));
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
      } else if constexpr (kWritesNarrow && !std::is_same_v<TY, float>) {
        write(d, static_cast<const float*>(x.data), static_cast<TY*>(y));
      }
    });
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_WRITE_RUN_INL_H_
