// The statistics: mean and variance in one pass, the only place where they are computed.
//
// Welford 1962, "Note on a method for calculating corrected sums of squares and products", in the blocked form of Chan, Golub &
// LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances", about a pivot. The order of all
// arithmetic is fixed in terms of 16 lanes, so that results do not depend on how wide a target's vectors are:
//
//   strip   16 elements, one for each lane (moments of runs), or 16 channels of one row (moments down the rows).
//   block   8 strips: each lane's mean, then its squared deviations about that mean, from registers. What remains of a
//           chunk goes as blocks of 4, 2 and 1 strips and one ragged strip.
//   chunk   256 strips: its blocks are merged one after the other, lane by lane, by Chan's formula
//               w = n_b / (n_a + n_b)    mean = mean_a + (mean_b - mean_a) w    m2 = m2_a + m2_b + (mean_b - mean_a)^2 n_a w
//           and along a run, the 16 lanes at its end: l with l + 8, + 4, + 2, + 1.
//   beyond  Chunks are merged in double in their order, in groups of neighbours (kernels.h).
//
// All work is on x - pivot, the pivot being the median of the first, middle and last element: exact wherever
// pivot / 2 <= x <= 2 pivot. So a constant run has variance 0, and a mean far above the spread costs no digits. (The first
// element alone would do as well but for outliers: a large one in its place costs all others their digits.)
//
// RMS norm's mean square has the same order of blocks, lanes and chunks, with pivot and means left out: Centred = false.
#if defined(SIMDNORM_LIB_SIMD_MOMENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SIMDNORM_LIB_SIMD_MOMENTS_INL_H_
#undef SIMDNORM_LIB_SIMD_MOMENTS_INL_H_
#else
#define SIMDNORM_LIB_SIMD_MOMENTS_INL_H_
#endif

#include <math.h>

#include "kernels.h"
#include "simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

constexpr size_t kBlock = 8;

// The 16 lanes' state over the strips of a chunk so far. T is the type of the arithmetic: f32, or f64 in the fallback.
template <class T>
struct LaneMoments {
  alignas(64) T pivot[kStrip];
  alignas(64) T mean[kStrip];  // of x - pivot
  alignas(64) T m2[kStrip];

  // By vectors: what is stored by element cannot be forwarded to the loads that follow at once.
  HWY_INLINE void Start(T run_pivot) {
    const StripTag<T> d;
    for (size_t l = 0; l < kStrip; l += hn::Lanes(d)) {
      hn::Store(hn::Set(d, run_pivot), d, pivot + l);
      hn::Store(hn::Zero(d), d, mean + l);
      hn::Store(hn::Zero(d), d, m2 + l);
    }
  }
};

// + 0 turns -0 into 0: which of the two a minimum of both is differs between targets.
template <class T>
HWY_INLINE T Pivot(T first, T middle, T last) {
  const T low = first < middle ? first : middle;
  const T high = first < middle ? middle : first;
  const T upper = last < high ? last : high;
  return (upper < low ? low : upper) + T(0);
}

// Mean and squared deviations, lane by lane, of kStrips strips; load(i) gives strip i less the pivot. Eight named values fit
// the 16 registers of AVX2; arrays of vectors would not compile for SVE and are slower elsewhere.
template <bool kCentred, size_t kStrips, class D, class Load, class V = hn::Vec<D>>
HWY_INLINE void BlockMoments(D d, const Load& load, V& mean, V& m2) {
  using T = hn::TFromD<D>;
  const V inverse = hn::Set(d, T(1) / T(kStrips));
  mean = hn::Zero(d);
  const V v0 = load(0);
  if constexpr (kStrips == 1) {
    if constexpr (kCentred) mean = v0;
    m2 = kCentred ? hn::Zero(d) : hn::Mul(v0, v0);
  } else if constexpr (kStrips == 2) {
    const V v1 = load(1);
    if constexpr (kCentred) mean = hn::Mul(hn::Add(v0, v1), inverse);
    const V e0 = hn::Sub(v0, mean), e1 = hn::Sub(v1, mean);
    m2 = hn::MulAdd(e1, e1, hn::Mul(e0, e0));
  } else if constexpr (kStrips == 4) {
    const V v1 = load(1), v2 = load(2), v3 = load(3);
    if constexpr (kCentred) mean = hn::Mul(hn::Add(hn::Add(v0, v1), hn::Add(v2, v3)), inverse);
    const V e0 = hn::Sub(v0, mean), e1 = hn::Sub(v1, mean), e2 = hn::Sub(v2, mean), e3 = hn::Sub(v3, mean);
    m2 = hn::Add(hn::MulAdd(e1, e1, hn::Mul(e0, e0)), hn::MulAdd(e3, e3, hn::Mul(e2, e2)));
  } else {
    static_assert(kStrips == kBlock, "blocks are of 8, 4, 2 or 1 strips");
    const V v1 = load(1), v2 = load(2), v3 = load(3), v4 = load(4), v5 = load(5), v6 = load(6), v7 = load(7);
    if constexpr (kCentred) {
      const V sum0 = hn::Add(hn::Add(v0, v1), hn::Add(v2, v3)), sum1 = hn::Add(hn::Add(v4, v5), hn::Add(v6, v7));
      mean = hn::Mul(hn::Add(sum0, sum1), inverse);
    }
    const V e0 = hn::Sub(v0, mean), e4 = hn::Sub(v4, mean);
    V m2_low = hn::Mul(e0, e0), m2_high = hn::Mul(e4, e4);
    const V e1 = hn::Sub(v1, mean), e5 = hn::Sub(v5, mean);
    m2_low = hn::MulAdd(e1, e1, m2_low), m2_high = hn::MulAdd(e5, e5, m2_high);
    const V e2 = hn::Sub(v2, mean), e6 = hn::Sub(v6, mean);
    m2_low = hn::MulAdd(e2, e2, m2_low), m2_high = hn::MulAdd(e6, e6, m2_high);
    const V e3 = hn::Sub(v3, mean), e7 = hn::Sub(v7, mean);
    m2_low = hn::MulAdd(e3, e3, m2_low), m2_high = hn::MulAdd(e7, e7, m2_high);
    m2 = hn::Add(m2_low, m2_high);
  }
}

// Chan's formula lane by lane: b into a. `weight` is n_b / (n_a + n_b), `weight_m2` n_a times that.
template <bool kCentred, class D, class V = hn::Vec<D>>
HWY_INLINE void MergeLane(D /*d*/, V weight, V weight_m2, V mean_b, V m2_b, V& mean, V& m2) {
  if constexpr (kCentred) {
    const V delta = hn::Sub(mean_b, mean);
    mean = hn::MulAdd(delta, weight, mean);
    m2_b = hn::MulAdd(hn::Mul(delta, delta), weight_m2, m2_b);
  }
  m2 = hn::Add(m2, m2_b);
}

// Adds `count` strips to lanes [0, valid) of the state, which has seen `before` strips in each of them. Strip i's lane l is
// x[i * stride + l]. Goes column by column of a strip, as many lanes as a vector has, so that state stays in registers.
template <bool kCentred, bool kAllLanes, class D, class TX, class T = hn::TFromD<D>>
HWY_INLINE void AddStrips(D d, const TX* HWY_RESTRICT x, int64_t stride, size_t valid, size_t before, size_t count,
                          LaneMoments<T>& state) {
  using V = hn::Vec<D>;
  for (size_t l = 0; l < (kAllLanes ? kStrip : valid); l += hn::Lanes(d)) {
    const size_t lanes = HWY_MIN(hn::Lanes(d), valid - l);
    const V pivot = hn::Load(d, state.pivot + l);
    V mean = hn::Load(d, state.mean + l), m2 = hn::Load(d, state.m2 + l);
    const TX* HWY_RESTRICT column = x + l;
    size_t n = before;

    const auto load = [&](size_t i) HWY_ATTR {
      const TX* HWY_RESTRICT p = column + static_cast<int64_t>(i) * stride;
      V v;
      if constexpr (kAllLanes) {
        v = LoadElements(d, p);
      } else {
        v = LoadFirst(d, p, lanes);
      }
      return kCentred ? hn::Sub(v, pivot) : v;
    };
    const auto merge = [&](V block_mean, V block_m2, size_t strips) HWY_ATTR {
      if (n == 0) {
        mean = block_mean, m2 = block_m2;
      } else {
        const T weight = static_cast<T>(strips) / static_cast<T>(n + strips);
        MergeLane<kCentred>(d, hn::Set(d, weight), hn::Set(d, static_cast<T>(n) * weight), block_mean, block_m2, mean, m2);
      }
      n += strips;
      column += static_cast<int64_t>(strips) * stride;
    };

    V block_mean, block_m2;
    for (size_t blocks = count / kBlock; blocks != 0; --blocks) {
      BlockMoments<kCentred, 8>(d, load, block_mean, block_m2);
      merge(block_mean, block_m2, 8);
    }
    if (count & 4) {
      BlockMoments<kCentred, 4>(d, load, block_mean, block_m2);
      merge(block_mean, block_m2, 4);
    }
    if (count & 2) {
      BlockMoments<kCentred, 2>(d, load, block_mean, block_m2);
      merge(block_mean, block_m2, 2);
    }
    if (count & 1) {
      BlockMoments<kCentred, 1>(d, load, block_mean, block_m2);
      merge(block_mean, block_m2, 1);
    }
    if constexpr (!kAllLanes) {
      const auto mask = hn::FirstN(d, lanes);
      mean = hn::IfThenElse(mask, mean, hn::Load(d, state.mean + l));
      m2 = hn::IfThenElse(mask, m2, hn::Load(d, state.m2 + l));
    }
    hn::Store(mean, d, state.mean + l);
    hn::Store(m2, d, state.m2 + l);
  }
}

// The lanes' moments of a run of at most kChunkElements adjacent elements. Not inline, since many call it.
template <bool kCentred, class D, class TX, class T = hn::TFromD<D>>
HWY_NOINLINE void RunMoments(D d, const TX* HWY_RESTRICT x, int64_t length, T pivot, LaneMoments<T>& state) {
  // A pass over a column of narrow vectors covers 16 blocks, so that the next column finds them in L1.
  constexpr size_t kPass = 16 * kBlock;
  state.Start(pivot);
  const size_t strips = static_cast<size_t>(length) / kStrip, ragged = static_cast<size_t>(length) % kStrip;
  for (size_t i = 0; i < strips; i += kPass) {
    AddStrips<kCentred, true>(d, x + i * kStrip, kStrip, kStrip, i, HWY_MIN(kPass, strips - i), state);
  }
  if (ragged != 0) AddStrips<kCentred, false>(d, x + strips * kStrip, kStrip, ragged, strips, 1, state);
}

// Merges lane l with lane l + kHalf, for l < kHalf, of each of the items; counts are the lanes' numbers of values, the same
// for all items. Item by item within a step: the steps of one item wait for each other, those of different ones do not.
template <bool kCentred, size_t kHalf, class T>
HWY_INLINE void MergeHalves(LaneMoments<T>* items, int64_t num_items, T* HWY_RESTRICT counts) {
  const hn::CappedTag<T, kHalf> d;
  using V = hn::Vec<decltype(d)>;
  for (size_t l = 0; l < kHalf; l += hn::Lanes(d)) {
    const V count = hn::LoadU(d, counts + l), count_b = hn::LoadU(d, counts + l + kHalf), sum = hn::Add(count, count_b);
    const V weight = hn::Div(count_b, hn::Max(sum, hn::Set(d, T(1))));  // lanes may be without values
    const V weight_m2 = hn::Mul(count, weight);
    hn::StoreU(sum, d, counts + l);
    for (int64_t i = 0; i < num_items; ++i) {
      T* HWY_RESTRICT item_mean = items[i].mean + l;
      T* HWY_RESTRICT item_m2 = items[i].m2 + l;
      V mean = hn::LoadU(d, item_mean), m2 = hn::LoadU(d, item_m2);
      MergeLane<kCentred>(d, weight, weight_m2, hn::LoadU(d, item_mean + kHalf), hn::LoadU(d, item_m2 + kHalf), mean, m2);
      hn::StoreU(mean, d, item_mean);
      hn::StoreU(m2, d, item_m2);
    }
  }
}

// Merges the lanes of runs of `length` elements each; their moments are then in lane 0.
template <bool kCentred, class T>
HWY_INLINE void MergeLanes(int64_t length, LaneMoments<T>* items, int64_t num_items) {
  alignas(64) T counts[kStrip];
  const hn::CappedTag<T, kStrip / 2> d;  // as wide as the first step's loads
  const T whole = static_cast<T>(length / static_cast<int64_t>(kStrip));
  const auto ragged = hn::Set(d, static_cast<T>(length % static_cast<int64_t>(kStrip)));
  for (size_t l = 0; l < kStrip; l += hn::Lanes(d)) {
    const auto longer = hn::Lt(hn::Iota(d, static_cast<T>(l)), ragged);
    hn::Store(hn::Add(hn::Set(d, whole), hn::IfThenElseZero(longer, hn::Set(d, T(1)))), d, counts + l);
  }
  MergeHalves<kCentred, 8>(items, num_items, counts);
  MergeHalves<kCentred, 4>(items, num_items, counts);
  MergeHalves<kCentred, 2>(items, num_items, counts);
  MergeHalves<kCentred, 1>(items, num_items, counts);
}

// Chan's formula in double: b, of `count` values for each of the items, into a. Where a has none yet the weight is 1, and the
// result b. Plain multiplications and additions, in this order on every target.
template <int64_t kCount, class MeanB, class M2B>
HWY_INLINE void MergeMoments(MomentsOf<kCount>& a, double count, int64_t items, const MeanB& mean_b, const M2B& m2_b) {
  const double total = a.count + count, weight = count / total, weight_m2 = a.count * weight;
  for (int64_t i = 0; i < items; ++i) {
    const double delta = mean_b(i) - a.mean[i];
    a.mean[i] = a.mean[i] + delta * weight;
    a.m2[i] = a.m2[i] + (m2_b(i) + delta * delta * weight_m2);
  }
  a.count = total;
}

template <int64_t kCount>
HWY_INLINE void MergeMoments(MomentsOf<kCount>& a, const MomentsOf<kCount>& b, int64_t items) {
  MergeMoments(
      a, b.count, items, [&](int64_t i) { return b.mean[i]; }, [&](int64_t i) { return b.m2[i]; });
}

// Whether f32 holds what comes of such a variance: deviations from the mean, and their products with rstd.
HWY_INLINE bool FitsFloat(double variance, float epsilon) {
  return variance <= 3.4e38 && variance + static_cast<double>(epsilon) >= 0x1p-120;
}

// From moments about the pivots to what normalizes, for items [first, first + items). In f32 (pivots of type float), sets
// in_double where statistics are not to be trusted:
// - overflow made them infinite or NaN;
// - squared deviations sank below f32's range, and epsilon is too small to hide it: each square is off by 2^-150 at the most,
//   so where variance + epsilon >= 2^-120 the error stays under 2^-30 of it;
// - deviations are so small that their mean may have lost digits to subnormals (in a constant run it is 0);
// - the pivot is an outlier, over 8 standard deviations from the mean (first and last element may both be): x - pivot then
//   costs all other elements digits.
// In double what is NaN needs no double: f32 can write it.
// Loops over the items for one kind of step each, which compilers turn into vectors.
template <int64_t kCount, class T>
HWY_INLINE void Finish(const MomentsOf<kCount>& moments, const T* pivots, int64_t items, float epsilon, Normalizers& norm,
                       int64_t first) {
  double* HWY_RESTRICT mean = norm.mean + first;
  double* HWY_RESTRICT variance = norm.variance + first;
  double* HWY_RESTRICT rstd = norm.rstd_double + first;
  for (int64_t i = 0; i < items; ++i) {
    // An Inf among the values, or overflow: which statistics are NaN and which Inf by now depends on where it stood.
    const double not_finite = moments.mean[i] - moments.mean[i];  // else 0
    mean[i] = static_cast<double>(pivots[i]) + moments.mean[i] + not_finite;
    variance[i] = moments.m2[i] / moments.count + not_finite;
    rstd[i] = 1.0 / sqrt(variance[i] + static_cast<double>(epsilon));
  }
  for (int64_t i = 0; i < items; ++i) {
    const float high = static_cast<float>(mean[i]);
    const double low = mean[i] - static_cast<double>(high);
    norm.mean_high[first + i] = high;
    norm.offset[first + i] = low == 0 ? 0.0f : static_cast<float>(-low * rstd[i]);  // no 0 * Inf
    norm.rstd[first + i] = static_cast<float>(rstd[i]);
  }
  for (int64_t i = 0; i < items; ++i) {
    const bool trusted = FitsFloat(variance[i], epsilon) && (variance[i] >= 0x1p-126 || moments.mean[i] == 0) &&
                         moments.mean[i] * moments.mean[i] <= 64 * variance[i];
    norm.in_double[first + i] = sizeof(T) == sizeof(double) ? rstd[i] == rstd[i] : !trusted;
  }
}

// The normalizers of items without values.
HWY_NOINLINE inline Normalizers NoValues() {
  Normalizers none = {};
  for (int64_t i = 0; i < kItems; ++i) none.mean[i] = none.rstd_double[i] = static_cast<double>(NAN);
  return none;
}

// 1 / sqrt(variance + epsilon) of a given variance (batch norm, inference); the given mean needs no second float.
HWY_INLINE float GivenRstd(float variance, float epsilon) {
  return static_cast<float>(1.0 / sqrt(static_cast<double>(variance) + static_cast<double>(epsilon)));
}

// Writes the statistics of items [first, first + items), each of `count` values, where the caller wants them; those of no
// values are NaN, and change no running ones. Not inline, and a loop for each output: compilers make far too much of this
// otherwise.
HWY_NOINLINE inline void SaveStatistics(const StatisticsOutputs& out, int64_t first, int64_t items, int64_t count,
                                        const Normalizers& norm) {
  const double momentum = out.momentum, n = static_cast<double>(count), unbiased = out.unbiased_running ? n / (n - 1) : 1.0;
  if (out.mean) {
    for (int64_t i = 0; i < items; ++i) out.mean[first + i] = NarrowScalar(norm.mean[i]);
  }
  if (out.rstd) {
    for (int64_t i = 0; i < items; ++i) out.rstd[first + i] = NarrowScalar(norm.rstd_double[i]);
  }
  if (out.running_mean && count > 0) {
    for (int64_t i = 0; i < items; ++i) {
      float& running = out.running_mean[first + i];
      running = NarrowScalar((1 - momentum) * running + momentum * norm.mean[i]);
    }
  }
  if (out.running_variance && count > 0) {
    for (int64_t i = 0; i < items; ++i) {
      float& running = out.running_variance[first + i];
      running = NarrowScalar((1 - momentum) * running + momentum * (norm.variance[i] * unbiased));
    }
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_MOMENTS_INL_H_
