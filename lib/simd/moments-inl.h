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
//           and along a run, the 16 lanes at its end: l with l + 8, + 4, + 2, + 1. Planes of a batch that are short follow
//           each other in one run (kernels.h).
//   beyond  Chunks are merged in double in their order, in sections of neighbours (kernels.h).
//
// All work is on x - pivot, the pivot being the median of the first, middle and last element: exact wherever
// pivot / 2 <= x <= 2 pivot. So a constant run has variance 0, and a mean far above the spread costs no digits. (The first
// element alone would do as well but for outliers: a large one in its place costs all others their digits.)
//
// Where the bounds of simdnorm.h come from, with u = 2^-24 (one rounding) and R the largest |x - mean|, to first order in u:
//
//   m2      5 roundings in a block, then one in each merge: 34 at the most of a chunk's blocks, 4 of lanes. All terms are
//           positive, so that makes 43 u of the sum and half of it for rstd, whose division and square root are in double:
//           22.5 u with its rounding to f32. RMS norm adds 3 (x rstd s, and s itself): 25.5 u, and no data can exceed it.
//   mean    The pivot K is one of the values, so |mean - K| <= R, and Finish turns to double where it is over 8 std. A merge
//           rounds the mean so far, and of that error stays the share of the chunk seen so far: taken as independent (Higham &
//           Mary 2019, "A new approach to probabilistic rounding error analysis") 34 of them have a standard deviation of 2 u
//           |mean - K|: 16 u std at worst, for channels side by side; along a run the average over 16 lanes leaves half of it.
//           The bound, 67 u std, is 4 of those. If all roundings agreed it would be 172 u std: 17.5 for the merges and 4
//           before, 8 times.
//   y       x - mean rounds once, as the mean is two floats; then rstd, offset, scale and shift do: 5 u of |v s| (two less with
//           fused multiply-add), and u |y|. Of R rstd |s|, the standard deviations are 2 u from rstd, 2 u from the mean and
//           1.3 u from these; the bound of 25 u is 8 of all three. Where a run or a channel has one scale, rstd s is one
//           factor, rounded once, and both floats of the mean are subtracted: 3 u of |v s| instead, and u |y|. Or only the
//           first, if |mean| <= 2 std: it is off by u |mean| at the most, and R >= std, which makes 2 u of R rstd |s| more;
//           with 1 u from the 3 roundings, the bound less those 2 u is 7.7 standard deviations.
//           Given statistics leave 2 u of |v s|; 4 where f32 has no such factor (write_run-inl.h), at worst.
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
#include "merge_weights.h"
#include "simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

constexpr size_t kBlock = 8;

// The 16 lanes' state over the strips of a chunk so far, of kCount runs of elements: item i's lane l is at i * 16 + l. Means
// are of x - pivot. T is the type of the arithmetic: f32, or f64 in the fallback.
template <class T, int64_t kCount = 1>
struct LaneMoments {
  alignas(64) T mean[kCount * static_cast<int64_t>(kStrip)];
  alignas(64) T m2[kCount * static_cast<int64_t>(kStrip)];
};

// The pivots of a strip's lanes: one for all, or each its own.
template <class T>
struct OnePivot {
  T pivot;
  template <class D>
  HWY_INLINE hn::Vec<D> Get(D d, size_t /*l*/) const {
    return hn::Set(d, pivot);
  }
};
template <class T>
struct PivotsOfLanes {
  const T* pivots;
  template <class D>
  HWY_INLINE hn::Vec<D> Get(D d, size_t l) const {
    return hn::Load(d, pivots + l);
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

// Of the first, middle and last element of a run.
template <bool kCentred, class T, class TX>
HWY_INLINE T PivotOfRun(const TX* x, int64_t length) {
  if constexpr (!kCentred) return 0;
  return Pivot<T>(FirstElement(x), FirstElement(x + length / 2), FirstElement(x + length - 1));
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

template <size_t kCount>
using Strips = std::integral_constant<size_t, kCount>;

// Adds a block, whose strips load(i) gives less the pivot, to lanes that have seen `seen` strips; of none it is the first.
template <bool kCentred, size_t kStrips, class D, class Load, class V = hn::Vec<D>>
HWY_INLINE void AddBlock(D d, const Load& load, size_t seen, V& mean, V& m2) {
  V block_mean, block_m2;
  BlockMoments<kCentred, kStrips>(d, load, block_mean, block_m2);
  if (seen == 0) {
    mean = block_mean, m2 = block_m2;
  } else {
    const auto& weights = kMergeWeights<hn::TFromD<D>, kStrips>.at[seen / kStrips];
    MergeLane<kCentred>(d, hn::Set(d, weights.weight), hn::Set(d, weights.weight_m2), block_mean, block_m2, mean, m2);
  }
}

// Calls add(Strips<n>()) for the blocks that `count` strips are, in their order.
template <class Add>
HWY_INLINE void ForEachBlock(size_t count, const Add& add) {
  for (size_t blocks = count / kBlock; blocks != 0; --blocks) add(Strips<kBlock>());
  if (count & 4) add(Strips<4>());
  if (count & 2) add(Strips<2>());
  if (count & 1) add(Strips<1>());
}

// Adds a block to a strip's lanes, in two vectors, as AddBlock does to those of one. Strip i's lane l is x[i * stride + l].
template <bool kCentred, size_t kStrips, class D, class TX, class V = hn::Vec<D>>
HWY_INLINE void AddBlockByHalves(D d, const TX* HWY_RESTRICT x, int64_t stride, V low_pivot, V high_pivot, size_t seen,
                                 V& low_mean, V& low_m2, V& high_mean, V& high_m2) {
  const auto load = [&](size_t i, size_t l, V pivot) HWY_ATTR {
    const V v = LoadElements(d, x + static_cast<int64_t>(i) * stride + l);
    return kCentred ? SubByMulAdd(d, v, pivot) : v;
  };
  AddBlock<kCentred, kStrips>(
      d, [&](size_t i) HWY_ATTR { return load(i, 0, low_pivot); }, seen, low_mean, low_m2);
  AddBlock<kCentred, kStrips>(
      d, [&](size_t i) HWY_ATTR { return load(i, kStrip / 2, high_pivot); }, seen, high_mean, high_m2);
}

// Whether two vectors hold a strip, of elements that fill a cache line. Then both go along, block by block, and a line is read
// once. Measured (AVX2, beside one after the other): rows take 0.91 to 0.98 of the time, channels side by side 0.94 to 1.02.
// Strips of 16 bits, half a line, would take up to 1.03.
template <class D, class TX>
constexpr bool kGoesByHalves =
    !HWY_HAVE_SCALABLE && 2 * hn::MaxLanes(D()) == kStrip && std::is_same_v<TX, float> && std::is_same_v<hn::TFromD<D>, float>;

// AddStrips of whole strips by halves.
template <bool kCentred, class D, class TX, class Pivots, class T = hn::TFromD<D>>
HWY_INLINE void AddStripsByHalves(D d, const TX* HWY_RESTRICT x, int64_t stride, size_t before, size_t count,
                                  const Pivots& pivots, T* HWY_RESTRICT state_mean, T* HWY_RESTRICT state_m2) {
  using V = hn::Vec<D>;
  constexpr size_t kHalf = kStrip / 2;
  const V low_pivot = pivots.Get(d, 0), high_pivot = pivots.Get(d, kHalf);
  V low_mean = hn::Zero(d), low_m2 = hn::Zero(d), high_mean = hn::Zero(d), high_m2 = hn::Zero(d);
  if (before != 0) {
    low_mean = hn::Load(d, state_mean), high_mean = hn::Load(d, state_mean + kHalf);
    low_m2 = hn::Load(d, state_m2), high_m2 = hn::Load(d, state_m2 + kHalf);
  }
  // gcc takes two blocks for too much to be inlined; called, they would find all of this in memory.
  const auto add = [&](auto strips) HWY_ATTR __attribute__((always_inline)) {
    AddBlockByHalves<kCentred, decltype(strips)::value>(d, x, stride, low_pivot, high_pivot, before, low_mean, low_m2,
                                                        high_mean, high_m2);
    before += strips;
    x += static_cast<int64_t>(decltype(strips)::value) * stride;
  };
  ForEachBlock(count, add);
  hn::Store(low_mean, d, state_mean), hn::Store(high_mean, d, state_mean + kHalf);
  hn::Store(low_m2, d, state_m2), hn::Store(high_m2, d, state_m2 + kHalf);
}

// Adds `count` strips to lanes [0, valid) of a state, which has seen `before` strips in each of them, or begins with them; the
// other lanes then have 0. Strip i's lane l is x[i * stride + l]. Goes column by column of a strip, as many lanes as a vector
// has, so that state stays in registers; or by two of them, see kGoesByHalves. kWhole: `valid` is a multiple of that.
template <bool kCentred, bool kWhole, class D, class TX, class Pivots, class T = hn::TFromD<D>>
HWY_INLINE void AddStrips(D d, const TX* HWY_RESTRICT x, int64_t stride, size_t valid, size_t before, size_t count,
                          const Pivots& pivots, T* HWY_RESTRICT state_mean, T* HWY_RESTRICT state_m2) {
  using V = hn::Vec<D>;
  if constexpr (kWhole && kGoesByHalves<D, TX>) {
    if (valid == kStrip) return AddStripsByHalves<kCentred>(d, x, stride, before, count, pivots, state_mean, state_m2);
  }
  for (size_t l = 0; l < valid; l += hn::Lanes(d)) {
    const size_t lanes = HWY_MIN(hn::Lanes(d), valid - l);
    const V pivot = pivots.Get(d, l);
    V mean = hn::Zero(d), m2 = hn::Zero(d);
    if (before != 0) mean = hn::Load(d, state_mean + l), m2 = hn::Load(d, state_m2 + l);
    const V mean_before = mean, m2_before = m2;
    const TX* HWY_RESTRICT column = x + l;
    size_t n = before;

    const auto load = [&](size_t i) HWY_ATTR {
      const TX* HWY_RESTRICT p = column + static_cast<int64_t>(i) * stride;
      V v;
      if constexpr (kWhole) {
        v = LoadElements(d, p);
      } else {
        v = LoadFirst(d, p, lanes);
      }
      return kCentred ? SubByMulAdd(d, v, pivot) : v;
    };
    ForEachBlock(count, [&](auto strips) HWY_ATTR {
      AddBlock<kCentred, decltype(strips)::value>(d, load, n, mean, m2);
      n += strips;
      column += static_cast<int64_t>(decltype(strips)::value) * stride;
    });
    if constexpr (!kWhole) {
      const auto mask = hn::FirstN(d, lanes);
      mean = hn::IfThenElse(mask, mean, mean_before);
      m2 = hn::IfThenElse(mask, m2, m2_before);
    }
    hn::Store(mean, d, state_mean + l);
    hn::Store(m2, d, state_m2 + l);
  }
}

// The lanes' moments of a run of at most kChunkElements adjacent elements.
template <bool kCentred, class D, class TX, class T = hn::TFromD<D>>
HWY_INLINE void MomentsOfRun(D d, const TX* HWY_RESTRICT x, int64_t length, T pivot_of_run, T* HWY_RESTRICT mean,
                             T* HWY_RESTRICT m2) {
  // A pass over a column of narrow vectors covers 16 blocks, so that the next column finds them in L1. Both halves are one
  // pass.
  constexpr size_t kPass = 16 * kBlock;
  const size_t strips = static_cast<size_t>(length) / kStrip, ragged = static_cast<size_t>(length) % kStrip;
  const OnePivot<T> pivot = {pivot_of_run};
  if (hn::Lanes(d) == kStrip || kGoesByHalves<D, TX>) {
    if (strips != 0) AddStrips<kCentred, true>(d, x, kStrip, kStrip, 0, strips, pivot, mean, m2);
  } else {
    for (size_t i = 0; i < strips; i += kPass) {
      AddStrips<kCentred, true>(d, x + i * kStrip, kStrip, kStrip, i, HWY_MIN(kPass, strips - i), pivot, mean, m2);
    }
  }
  if (strips == 0) {  // lanes that the ragged strip does not reach
    for (size_t l = 0; l < kStrip; l += hn::Lanes(d)) hn::Store(hn::Zero(d), d, mean + l), hn::Store(hn::Zero(d), d, m2 + l);
  }
  if (ragged == 0) return;
  AddStrips<kCentred, false>(d, x + strips * kStrip, kStrip, ragged, strips, 1, pivot, mean, m2);
}

// MomentsOfRun of a run that is one block. Means that are 0, where moments are not centred, are not stored.
template <bool kCentred, size_t kStrips, class D, class TX, class T = hn::TFromD<D>>
HWY_INLINE void MomentsOfBlock(D d, const TX* HWY_RESTRICT x, T pivot_of_run, T* HWY_RESTRICT mean, T* HWY_RESTRICT m2) {
  using V = hn::Vec<D>;
  const V pivot = hn::Set(d, pivot_of_run);
  for (size_t l = 0; l < kStrip; l += hn::Lanes(d)) {
    const auto load = [&](size_t i) HWY_ATTR {
      const V v = LoadElements(d, x + i * kStrip + l);
      return kCentred ? SubByMulAdd(d, v, pivot) : v;
    };
    V block_mean, block_m2;
    BlockMoments<kCentred, kStrips>(d, load, block_mean, block_m2);
    if constexpr (kCentred) hn::Store(block_mean, d, mean + l);
    hn::Store(block_m2, d, m2 + l);
  }
}

// MomentsOfRun of `count` runs, `stride` apart, each about its own pivot: items 0, 1, ... of a state. With `own` the pivots are
// the runs' and made here; else they are given. Many call it: not inline.
template <bool kCentred, class D, class TX, class T = hn::TFromD<D>>
HWY_NOINLINE void RunMoments(D d, const TX* HWY_RESTRICT x, int64_t stride, int64_t length, int64_t count, T* pivots, bool own,
                             T* HWY_RESTRICT mean, T* HWY_RESTRICT m2) {
  // A pivot is made along with its run: all of them beforehand would wait for memory by themselves. Measured, f32: from memory
  // 0.78 to 1 of the time, for few rows in the caches up to 1.05. But runs of 128 from memory take 1.02 to 1.2 (AVX-512), 1.4
  // to 1.5 (AVX2) of it.
  const bool beforehand = own && length == 128, along = own && !beforehand;
  for (int64_t item = 0; beforehand && item < count; ++item) pivots[item] = PivotOfRun<kCentred, T>(x + item * stride, length);
  const auto for_each = [&](const auto& moments_of_run) HWY_ATTR {
    const TX* HWY_RESTRICT run = x;
    for (int64_t item = 0; item < count; ++item, run += stride) {
      if (along) pivots[item] = PivotOfRun<kCentred, T>(run, length);
      moments_of_run(run, pivots[item], mean + item * kStrip, m2 + item * kStrip);
    }
  };
  // Attention heads are of 64 or 128 elements; counting what there is of them takes longer than their moments.
  if (length == 64) {
    for_each([&](const TX* run, T pivot, T* to_mean, T* to_m2)
                 HWY_ATTR { MomentsOfBlock<kCentred, 4>(d, run, pivot, to_mean, to_m2); });
  } else if (length == 128) {
    for_each([&](const TX* run, T pivot, T* to_mean, T* to_m2)
                 HWY_ATTR { MomentsOfBlock<kCentred, 8>(d, run, pivot, to_mean, to_m2); });
  } else {
    for_each([&](const TX* run, T pivot, T* to_mean, T* to_m2)
                 HWY_ATTR { MomentsOfRun<kCentred>(d, run, length, pivot, to_mean, to_m2); });
  }
}

// What merges lane l, for l % kHalf in a vector from `lane` on, with lane l + kHalf of runs of `length` elements: the weights
// of MergeLane. Lane l of 2 * kHalf stands for the elements i with i % (2 * kHalf) = l.
template <size_t kHalf, class D, class V = hn::Vec<D>>
HWY_INLINE void LaneWeights(D d, int64_t length, size_t lane, V& weight, V& weight_m2) {
  using T = hn::TFromD<D>;
  constexpr int64_t kLanes = 2 * static_cast<int64_t>(kHalf);
  if (length % kLanes == 0) {
    weight = hn::Set(d, T(0.5)), weight_m2 = hn::Set(d, static_cast<T>(length) * (T(0.5) / T(kLanes)));
    return;
  }
  const T whole = static_cast<T>(length / kLanes);
  alignas(64) T index[kStrip];
  for (size_t l = 0; l < kStrip; ++l) index[l] = static_cast<T>(l % kHalf);
  const V lower = hn::Load(d, index + lane), ragged = hn::Set(d, static_cast<T>(length % kLanes));
  const V one = hn::Set(d, T(1)), upper = hn::Add(lower, hn::Set(d, static_cast<T>(kHalf)));
  const V count = hn::Add(hn::Set(d, whole), hn::IfThenElseZero(hn::Lt(lower, ragged), one));
  const V count_b = hn::Add(hn::Set(d, whole), hn::IfThenElseZero(hn::Lt(upper, ragged), one));
  weight = hn::Div(count_b, hn::Max(hn::Add(count, count_b), one));  // lanes may be without values
  weight_m2 = hn::Mul(count, weight);
}

#if HWY_TARGET != HWY_SCALAR
// Of the items in p and those in q, 2 * kHalf lanes each: their lower and their upper halves. The order of items that results
// is undone by InOrder.
template <size_t kHalf, class D, class V = hn::Vec<D>>
HWY_INLINE void SplitItems(D d, V p, V q, V& lower, V& upper) {
  constexpr size_t kBytes = kHalf * sizeof(hn::TFromD<D>);
  if constexpr (kBytes == 32) {
    lower = hn::ConcatLowerLower(d, q, p);
    upper = hn::ConcatUpperUpper(d, q, p);
  } else if constexpr (kBytes == 16) {
    lower = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(q), p);
    upper = hn::OddEvenBlocks(q, hn::SwapAdjacentBlocks(p));
  } else if constexpr (kBytes == 8) {
    const hn::Repartition<uint64_t, D> d64;
    lower = hn::BitCast(d, hn::InterleaveLower(d64, hn::BitCast(d64, p), hn::BitCast(d64, q)));
    upper = hn::BitCast(d, hn::InterleaveUpper(d64, hn::BitCast(d64, p), hn::BitCast(d64, q)));
  } else if constexpr (kBytes == 4) {
    lower = hn::OddEven(hn::DupEven(q), p);
    upper = hn::OddEven(q, hn::DupOdd(p));
  }
}
#endif

// Puts items in order, a lane each, whose lanes were merged: every merge of neighbours that share a vector goes by the next bit
// of an item's number, so that among those the bits are in reverse.
template <class T>
HWY_INLINE void InOrder(size_t num_items, T* HWY_RESTRICT values) {
  constexpr hwy::MakeSigned<T> kReversed[kItems] = {0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15};
  const StripTag<T> d;
  const size_t lanes = hn::Lanes(d);
  alignas(64) hwy::MakeSigned<T> place[kItems];
  for (size_t i = 0; i < lanes; ++i) place[i] = kReversed[i] * static_cast<hwy::MakeSigned<T>>(lanes) / kItems;
  const auto places = hn::SetTableIndices(d, place);
  for (size_t i = 0; i < num_items; i += lanes) hn::Store(hn::TableLookupLanes(hn::Load(d, values + i), places), d, values + i);
}

// Merges lane l with lane l + kHalf, for l < kHalf, of each of the items, and moves them together. Where an item has less lanes
// than a vector, two vectors of items become one.
template <bool kCentred, size_t kHalf, class T>
HWY_INLINE void MergeHalves(int64_t length, size_t& num_items, T* HWY_RESTRICT mean, T* HWY_RESTRICT m2) {
  const StripTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const size_t lanes = hn::Lanes(d);
  V weight, weight_m2;
  if (kHalf >= lanes) {
    for (size_t l = 0; l < kHalf; l += lanes) {
      LaneWeights<kHalf>(d, length, l, weight, weight_m2);
      for (size_t i = 0; i < num_items; ++i) {
        const size_t a = 2 * kHalf * i + l, b = a + kHalf, to = kHalf * i + l;
        V mean_a = hn::Zero(d), mean_b = hn::Zero(d), m2_a = hn::Load(d, m2 + a);
        if constexpr (kCentred) mean_a = hn::Load(d, mean + a), mean_b = hn::Load(d, mean + b);
        MergeLane<kCentred>(d, weight, weight_m2, mean_b, hn::Load(d, m2 + b), mean_a, m2_a);
        if constexpr (kCentred) hn::Store(mean_a, d, mean + to);
        hn::Store(m2_a, d, m2 + to);
      }
    }
    return;
  }
#if HWY_TARGET != HWY_SCALAR
  // From here on num_items counts vectors.
  LaneWeights<kHalf>(d, length, 0, weight, weight_m2);
  for (size_t i = 0; i < num_items; i += 2) {
    const size_t p = i * lanes, q = HWY_MIN(i + 1, num_items - 1) * lanes, to = i / 2 * lanes;
    V mean_a = hn::Zero(d), mean_b = hn::Zero(d), m2_a, m2_b;
    if constexpr (kCentred) SplitItems<kHalf>(d, hn::Load(d, mean + p), hn::Load(d, mean + q), mean_a, mean_b);
    SplitItems<kHalf>(d, hn::Load(d, m2 + p), hn::Load(d, m2 + q), m2_a, m2_b);
    MergeLane<kCentred>(d, weight, weight_m2, mean_b, m2_b, mean_a, m2_a);
    if constexpr (kCentred) hn::Store(mean_a, d, mean + to);
    hn::Store(m2_a, d, m2 + to);
  }
  num_items = (num_items + 1) / 2;
#endif
}

#if HWY_TARGET != HWY_SCALAR && !HWY_HAVE_SCALABLE
// Merges the lanes of a vector, from which those of a run before have been merged into these, in registers.
template <bool kCentred, class D, class V = hn::Vec<D>>
HWY_INLINE void MergeVector(D d, int64_t length, V mean, V m2, double& mean_of_run, double& m2_of_run) {
  constexpr size_t kHalf = hn::MaxLanes(d) / 2;
  if constexpr (kHalf == 0) {
    if constexpr (kCentred) mean_of_run = static_cast<double>(hn::GetLane(mean));
    m2_of_run = static_cast<double>(hn::GetLane(m2));
  } else {
    const hn::Half<D> half;
    auto mean_a = hn::LowerHalf(half, mean), m2_a = hn::LowerHalf(half, m2);
    auto weight = hn::Zero(half), weight_m2 = weight;
    if constexpr (kCentred) LaneWeights<kHalf>(half, length, 0, weight, weight_m2);
    MergeLane<kCentred>(half, weight, weight_m2, hn::UpperHalf(half, mean), hn::UpperHalf(half, m2), mean_a, m2_a);
    MergeVector<kCentred>(half, length, mean_a, m2_a, mean_of_run, m2_of_run);
  }
}
#endif

// Merges the lanes of items, runs of `length` elements each: `moments` has room for their number and becomes theirs. Steps are
// taken for all items in turn: those of one wait for each other. But one by itself is sooner done in registers; and so are mean
// squares, whose steps are single additions.
template <bool kCentred, class T, int64_t kCount, int64_t kMoments>
HWY_INLINE void MergeLanes(int64_t length, LaneMoments<T, kCount>& runs, int64_t num_items, MomentsOf<kMoments>& moments) {
  moments.count = static_cast<double>(length);
#if HWY_TARGET != HWY_SCALAR && !HWY_HAVE_SCALABLE
  if (!kCentred || num_items == 1) {
    const StripTag<T> d;
    T *mean = runs.mean, *m2 = runs.m2;
    for (int64_t i = 0; i < num_items; ++i, mean += kStrip, m2 += kStrip) {
      size_t one = 1;
      if constexpr (hn::MaxLanes(d) <= 8) MergeHalves<kCentred, 8>(length, one, mean, m2);
      if constexpr (hn::MaxLanes(d) <= 4) MergeHalves<kCentred, 4>(length, one, mean, m2);
      if constexpr (hn::MaxLanes(d) <= 2) MergeHalves<kCentred, 2>(length, one, mean, m2);
      moments.mean[i] = 0;
      const auto means = kCentred ? hn::Load(d, mean) : hn::Zero(d);
      MergeVector<kCentred>(d, length, means, hn::Load(d, m2), moments.mean[i], moments.m2[i]);
    }
    return;
  }
#endif
  size_t vectors = static_cast<size_t>(num_items);
  MergeHalves<kCentred, 8>(length, vectors, runs.mean, runs.m2);
  MergeHalves<kCentred, 4>(length, vectors, runs.mean, runs.m2);
  MergeHalves<kCentred, 2>(length, vectors, runs.mean, runs.m2);
  MergeHalves<kCentred, 1>(length, vectors, runs.mean, runs.m2);
  if (kCentred && num_items > 1) InOrder(static_cast<size_t>(num_items), runs.mean);
  if (num_items > 1) InOrder(static_cast<size_t>(num_items), runs.m2);
  for (int64_t i = 0; i < num_items; ++i) {
    moments.mean[i] = kCentred ? static_cast<double>(runs.mean[i]) : 0;
    moments.m2[i] = static_cast<double>(runs.m2[i]);
  }
}

// Chan's formula in double: b, of `count` values for each of the items, into a. Plain multiplications and additions, in this
// order on every target.
template <int64_t kCount, class MeanB, class M2B>
HWY_INLINE void MergeMoments(MomentsOf<kCount>& a, double count, int64_t items, const MeanB& mean_b, const M2B& m2_b) {
  if (a.count == 0) {
    for (int64_t i = 0; i < items; ++i) a.mean[i] = mean_b(i), a.m2[i] = m2_b(i);
    a.count = count;
    return;
  }
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

// Merges chunks of some items into sections (kernels.h), as they come: in their order, from chunk `first` on, with which a
// section begins.
template <int64_t kCount>
class SectionMerger {
 public:
  explicit SectionMerger(const Sections& sections, int64_t first = 0) : sections_(sections), seen_(first) {}

  // The next chunk. Calls emit(section, moments) if it is the last of a section.
  template <class Emit>
  HWY_INLINE void Add(const MomentsOf<kCount>& chunk, int64_t items, const Emit& emit) {
    const bool by_itself = sections_.size == 1;  // most are
    if (!by_itself) MergeMoments(section_, chunk, items);
    if (!sections_.EndsAfter(++seen_)) return;
    emit((seen_ - 1) / sections_.size, by_itself ? chunk : section_);
    section_.count = 0;
  }

 private:
  const Sections sections_;
  int64_t seen_;
  MomentsOf<kCount> section_;
};

// f32 holds what comes of a variance up to the first, and of a variance + epsilon from the second on: deviations from the mean,
// and their products with rstd.
constexpr double kLargestVariance = 3.4e38, kLeastVariance = 0x1p-120;
HWY_INLINE bool FitsFloat(double variance, float epsilon) {
  return (variance <= kLargestVariance) & (variance + static_cast<double>(epsilon) >= kLeastVariance);
}

// Items' values of double or float in a vector; lanes from `items` on are 0.
template <class D, class T>
HWY_INLINE hn::Vec<D> LoadItems(D d, const T* from, size_t items) {
  // Set, not loaded: x86's LoadU of a lane is 0 beyond it, and clang clears that of a register by a form of vmovq that valgrind
  // 3.19 does not know. (MaxLanes of a tag of halves is 1 for two lanes in SVE of 128 bits.)
  if constexpr (hn::MaxLanes(hn::Rebind<double, D>()) == 1) return hn::Set(d, *from);
  return hn::IfThenElseZero(hn::FirstN(d, items), hn::LoadU(d, from));
}

// The variance of items from their moments about a pivot; and with epsilon added, which is not variance + epsilon, though the
// same: the longest way through here is one addition shorter. not_finite is 0, or NaN if the mean is no finite number: which
// statistics are NaN and which Inf then depends on where an Inf stood among the values.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void VarianceOf(D d, double count, V mean, V m2, float epsilon, V& not_finite, V& variance, V& with_epsilon) {
  not_finite = hn::Sub(mean, mean);
  // By a power of two a product is the same as a quotient, and sooner there.
  const int64_t whole = static_cast<int64_t>(count);
  const V quotient = (whole & (whole - 1)) == 0 ? hn::Mul(m2, hn::Set(d, 1 / count)) : hn::Div(m2, hn::Set(d, count));
  variance = hn::Add(quotient, not_finite);
  with_epsilon = hn::Add(quotient, hn::Add(hn::Set(d, static_cast<double>(epsilon)), not_finite));
}

// Which items' statistics f32 has gathered well; see Finish. Means are about the pivot.
template <class D, class V = hn::Vec<D>>
HWY_INLINE auto FloatHolds(D d, V mean, V variance, V with_epsilon) {
  const auto fits = hn::And(hn::Le(variance, hn::Set(d, kLargestVariance)), hn::Ge(with_epsilon, hn::Set(d, kLeastVariance)));
  const auto digits = hn::Or(hn::Ge(variance, hn::Set(d, 0x1p-126)), hn::Eq(mean, hn::Zero(d)));
  const auto near = hn::Le(hn::Mul(mean, mean), hn::Mul(hn::Set(d, 64.0), variance));
  return hn::And(hn::And(fits, digits), near);
}

// From moments about the pivots, of type T, to what normalizes: for as many items as d has lanes, of which `items` exist (the
// others are 0 here, and what is stored for them means nothing). -> which of them ask for double; see Finish.
template <class D, class T, class V = hn::Vec<D>>
HWY_INLINE auto FinishItems(D d, double count, const double* moments_mean, const double* moments_m2, const T* pivots,
                            size_t items, float epsilon, Normalizers& normalizers, int64_t first) {
  const FloatTag<D> df;
  const V mean_of_d = LoadItems(d, moments_mean, items), m2 = LoadItems(d, moments_m2, items);
  V pivot;
  if constexpr (sizeof(T) == sizeof(double)) {
    pivot = LoadItems(d, pivots, items);
  } else {
    pivot = hn::PromoteTo(d, LoadItems(df, pivots, items));
  }
  V not_finite, variance, with_epsilon;
  VarianceOf(d, count, mean_of_d, m2, epsilon, not_finite, variance, with_epsilon);
  const V mean = hn::Add(hn::Add(pivot, mean_of_d), not_finite);
  const V rstd = hn::Div(hn::Set(d, 1.0), hn::Sqrt(with_epsilon));
  const auto high = ToFloat(d, mean);
  const V excess = hn::Sub(hn::PromoteTo(d, high), mean);
  const V offset = hn::Mul(excess, hn::IfThenZeroElse(hn::Eq(excess, hn::Zero(d)), rstd));  // no 0 * Inf
  hn::StoreU(mean, d, normalizers.mean + first);
  hn::StoreU(variance, d, normalizers.variance + first);
  hn::StoreU(rstd, d, normalizers.rstd_double + first);
  hn::StoreU(high, df, normalizers.mean_high + first);
  hn::StoreU(ToFloat(d, offset), df, normalizers.offset + first);
  hn::StoreU(ToFloat(d, rstd), df, normalizers.rstd + first);
  const auto exists = hn::FirstN(d, items);
  if constexpr (sizeof(T) == sizeof(double)) return hn::And(exists, hn::Eq(rstd, rstd));
  return hn::AndNot(FloatHolds(d, mean_of_d, variance, with_epsilon), exists);
}

// From a mask to n flags, which are not more than it has lanes.
template <class D, class Mask>
HWY_INLINE void StoreFlags(D d, Mask mask, int64_t n, bool* flags) {
  alignas(64) double set[kItems];
  hn::Store(hn::IfThenElseZero(mask, hn::Set(d, 1.0)), d, set);
  for (int64_t i = 0; i < n; ++i) flags[i] = set[i] != 0;
}

// Sets a flag for each item by asks(i, n), a mask of items i, i + 1, ..., of which n are left. -> whether any is set
template <class D, class Asks>
HWY_INLINE bool SetFlags(D d, int64_t items, bool* flags, const Asks& asks) {
  bool any = false;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < items; ++i) flags[i] = false;
  for (int64_t i = 0; i < items; i += lanes) {
    const auto mask = asks(i, static_cast<size_t>(items - i));
    if (HWY_LIKELY(hn::AllFalse(d, mask))) continue;
    any = true;
    StoreFlags(d, mask, HWY_MIN(lanes, items - i), flags + i);
  }
  return any;
}

// Finish by as many items at a time as d has lanes.
template <class D, int64_t kCount, class T>
HWY_INLINE bool FinishBy(D d, const MomentsOf<kCount>& moments, const T* pivots, int64_t items, float epsilon,
                         Normalizers& normalizers, int64_t first) {
  return SetFlags(d, items, normalizers.in_double + first, [&](int64_t i, size_t n) HWY_ATTR {
    return FinishItems(d, moments.count, moments.mean + i, moments.m2 + i, pivots + i, n, epsilon, normalizers, first + i);
  });
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
// -> whether any is in double.
template <int64_t kCount, class T>
HWY_INLINE bool Finish(const MomentsOf<kCount>& moments, const T* pivots, int64_t items, float epsilon,
                       Normalizers& normalizers, int64_t first) {
  static_assert(kCount == 1 || kCount == kItems, "one by itself, or 16 from 0 on");
  // Whole vectors where there is room for them; divisions and square roots of fewer lanes take less time.
  if (kCount == 1 || items == 1) {
    return FinishBy(hn::CappedTag<double, 1>(), moments, pivots, items, epsilon, normalizers, first);
  }
  return FinishBy(hn::CappedTag<double, 8>(), moments, pivots, items, epsilon, normalizers, first);
}

// What Finish would set in_double to, in f32, of 16 items from 0 on. -> whether any
HWY_INLINE bool FindInDouble(const MomentsOf<kItems>& moments, int64_t items, float epsilon, bool* in_double) {
  const hn::CappedTag<double, 8> d;
  using V = hn::Vec<decltype(d)>;
  return SetFlags(d, items, in_double, [&](int64_t i, size_t n) HWY_ATTR {
    const V mean = LoadItems(d, moments.mean + i, n), m2 = LoadItems(d, moments.m2 + i, n);
    V not_finite, variance, with_epsilon;
    VarianceOf(d, moments.count, mean, m2, epsilon, not_finite, variance, with_epsilon);
    return hn::AndNot(FloatHolds(d, mean, variance, with_epsilon), hn::FirstN(d, n));
  });
}

// The normalizers of items without values.
HWY_NOINLINE inline Normalizers NoValues() {
  Normalizers none = {};
  for (int64_t i = 0; i < kItems; ++i) none.mean[i] = none.rstd_double[i] = static_cast<double>(NAN);
  return none;
}

// 1 / sqrt(variance + epsilon) of a given variance (batch norm, inference); the given mean needs no second float.
HWY_INLINE double GivenRstd(float variance, float epsilon) {
  return 1.0 / sqrt(static_cast<double>(variance) + static_cast<double>(epsilon));
}

// Writes the statistics of items [first, first + items), each of `count` values, where the caller wants them; those of no
// values are NaN, and change no running ones. Not inline, and a loop for each output: compilers make far too much of this
// otherwise.
HWY_NOINLINE inline void SaveStatistics(const StatisticsOutputs& out, int64_t first, int64_t items, int64_t count,
                                        const Normalizers& normalizers) {
  const double momentum = out.momentum, n = static_cast<double>(count), unbiased = out.unbiased_running ? n / (n - 1) : 1.0;
  if (out.mean) {
    for (int64_t i = 0; i < items; ++i) out.mean[first + i] = NarrowScalar(normalizers.mean[i]);
  }
  if (out.rstd) {
    for (int64_t i = 0; i < items; ++i) out.rstd[first + i] = NarrowScalar(normalizers.rstd_double[i]);
  }
  if (out.running_mean && count > 0) {
    for (int64_t i = 0; i < items; ++i) {
      float& running = out.running_mean[first + i];
      running = NarrowScalar((1 - momentum) * running + momentum * normalizers.mean[i]);
    }
  }
  if (out.running_variance && count > 0) {
    for (int64_t i = 0; i < items; ++i) {
      float& running = out.running_variance[first + i];
      running = NarrowScalar((1 - momentum) * running + momentum * (normalizers.variance[i] * unbiased));
    }
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#endif  // SIMDNORM_LIB_SIMD_MOMENTS_INL_H_
