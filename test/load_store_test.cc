// simd/load_store-inl.h, on every target: what is loaded and stored, at page ends too, what comes of NaN, and every conversion
// of bf16 and f16 against dtypes.h, which works in double.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "load_store_test.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm_test {
namespace HWY_NAMESPACE {
using namespace simdnorm::HWY_NAMESPACE;

// from -> vectors of T -> to: the first `count` of a vector's worth or, with whole = true, all of it. Returns the lanes.
template <class T>
size_t Copy(const float* from, float* to, size_t count, bool whole) {
  const StripTag<T> d;
  if (whole) {
    StoreElements(LoadElements(d, from), d, to);
  } else {
    StoreFirst(LoadFirst(d, from, count), d, to, count);
  }
  return hn::Lanes(d);
}

size_t CopyInFloat(const float* from, float* to, size_t count, bool whole) { return Copy<float>(from, to, count, whole); }
size_t CopyInDouble(const float* from, float* to, size_t count, bool whole) { return Copy<double>(from, to, count, whole); }

// The lanes of a vector loaded from `count` elements, all of them.
size_t LanesOfFirst(const float* from, float* lanes, size_t count) {
  const StripTag<float> d;
  alignas(64) float all[kStrip];
  hn::Store(LoadFirst(d, from, count), d, all);
  memcpy(lanes, all, hn::Lanes(d) * sizeof(float));
  return hn::Lanes(d);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm_test
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "all_targets.h"
#include "buffers.h"
#include "doctest/doctest.h"
#include "dtypes.h"
#include "kernels.h"
#include "problem.h"
#include "target.h"
#include "values.h"

namespace simdnorm_test {
namespace {

HWY_EXPORT(CopyInFloat);
HWY_EXPORT(CopyInDouble);
HWY_EXPORT(LanesOfFirst);
HWY_EXPORT(WidenSpan);
HWY_EXPORT(NarrowSpan);
HWY_EXPORT(AddSpan);
HWY_EXPORT(LoadScalar);

// Calls test(index) for each target, index being its place in the tables.
template <class Test>
void ForEachIndex(const Test& test) {
  ForEachTarget([&](const char* target) {
    CAPTURE(std::string(target));
    size_t index = 0;
    REQUIRE(simdnorm::FindTarget(target, &index));
    test(index);
  });
}

using CopyFunction = size_t (*)(const float*, float*, size_t, bool);

// Calls test(copy) for each target and type of arithmetic.
template <class Test>
void ForEachCopy(const Test& test) {
  ForEachIndex([&](size_t index) {
    test(HWY_DISPATCH_TABLE(CopyInFloat)[index]);
    test(HWY_DISPATCH_TABLE(CopyInDouble)[index]);
  });
}

TEST_CASE("elements come back as they were, and no others are touched") {
  ForEachCopy([](CopyFunction copy) {
    for (size_t lanes = 0, count = 0; count <= 16; ++count) {
      for (const bool at_end : {true, false}) {
        GuardedBuffer from(static_cast<int64_t>(count), {at_end, 0}), to(static_cast<int64_t>(count), {at_end, 0});
        for (int64_t i = 0; i < from.size(); ++i) from[i] = 1.5f * static_cast<float>(i) - 3.25f;
        if (count != 0 && lanes != 0 && count > lanes) break;
        lanes = copy(from.data(), to.data(), count, false);
        CAPTURE(count);
        for (int64_t i = 0; i < from.size() && count <= lanes; ++i) CHECK(BitsOf(to[i]) == BitsOf(from[i]));
        CHECK(to.OutsideIsUntouched());
        if (count == lanes) {
          to.FillWithCanaries();
          copy(from.data(), to.data(), count, true);
          for (int64_t i = 0; i < from.size(); ++i) CHECK(BitsOf(to[i]) == BitsOf(from[i]));
          CHECK(to.OutsideIsUntouched());
        }
      }
    }
  });
}

TEST_CASE("lanes past the first elements are 0") {
  ForEachIndex([](size_t index) {
    const std::vector<float> from(16, 7.0f);
    std::vector<float> lanes(16);
    const size_t count_of_lanes = HWY_DISPATCH_TABLE(LanesOfFirst)[index](from.data(), lanes.data(), 0);
    for (size_t count = 0; count <= count_of_lanes; ++count) {
      HWY_DISPATCH_TABLE(LanesOfFirst)[index](from.data(), lanes.data(), count);
      for (size_t i = 0; i < count_of_lanes; ++i) CHECK(lanes[i] == (i < count ? 7.0f : 0.0f));
    }
  });
}

TEST_CASE("every NaN is stored as the one quiet NaN, and nothing else is changed") {
  const uint32_t kept[] = {0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000,
                           0x3F800000, 0x7F7FFFFF, 0x7F800000, 0xFF800000};
  const uint32_t nans[] = {0x7FC00000, 0xFFC00000, 0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FA5CA7E};
  ForEachCopy([&](CopyFunction copy) {
    std::vector<float> from(16), to(16);
    for (const bool whole : {true, false}) {
      for (const uint32_t bits : kept) {
        for (float& value : from) value = FloatOf(bits);
        const size_t lanes = copy(from.data(), to.data(), 1, whole);
        for (size_t i = 0; i < (whole ? lanes : 1); ++i) CHECK(BitsOf(to[i]) == bits);
      }
      for (const uint32_t bits : nans) {
        for (float& value : from) memcpy(&value, &bits, sizeof(value));
        const size_t lanes = copy(from.data(), to.data(), 1, whole);
        for (size_t i = 0; i < (whole ? lanes : 1); ++i) CHECK(BitsOf(to[i]) == 0x7FC00000u);
      }
    }
  });
}

// Elements of a dtype, as bits: those of f16 and bf16 in the lower half.
uint32_t ElementBits(const void* array, simdnorm_dtype dtype, int64_t i) {
  uint32_t bits = 0;
  const size_t size = simdnorm::ElementSize(dtype);
  memcpy(&bits, static_cast<const char*>(array) + static_cast<size_t>(i) * size, size);
  return bits;
}

// What `value` is to be narrowed to.
uint32_t NarrowBits(float value, simdnorm_dtype dtype) {
  if (isnan(value)) return dtype == SIMDNORM_F32 ? 0x7FC00000u : dtype == SIMDNORM_BF16 ? 0x7FC0u : 0x7E00u;
  uint32_t element = 0;
  SetElement(&element, dtype, 0, value);
  return ElementBits(&element, dtype, 0);
}

bool SameOrBothNaN(float a, float b) { return isnan(a) ? isnan(b) : BitsOf(a) == BitsOf(b); }

TEST_CASE("all of bf16 and f16 is widened exactly, and narrowed to what it was") {
  std::vector<uint16_t> all(65536), again(all.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  const int64_t size = static_cast<int64_t>(all.size());
  std::vector<float> wide(all.size());
  for (const simdnorm_dtype dtype : {SIMDNORM_BF16, SIMDNORM_F16}) {
    CAPTURE(DtypeName(dtype));
    ForEachIndex([&](size_t index) {
      HWY_DISPATCH_TABLE(WidenSpan)[index](all.data(), dtype, wide.data(), size);
      // Spans as short as kernels have them: one NaN has its whole span narrowed another way.
      constexpr int64_t kSpan = 512;
      for (int64_t i = 0; i < size; i += kSpan) {
        HWY_DISPATCH_TABLE(NarrowSpan)[index](wide.data() + i, again.data() + i, dtype, kSpan, false);
      }
      size_t wrong_wide = 0, wrong_scalars = 0, wrong_again = 0;
      for (int64_t i = 0; i < size; ++i) {
        const float expected = GetElement(all.data(), dtype, i);
        wrong_wide += !SameOrBothNaN(wide[static_cast<size_t>(i)], expected);
        wrong_scalars += !SameOrBothNaN(HWY_DISPATCH_TABLE(LoadScalar)[index](all.data(), dtype, i), expected);
        const uint32_t bits = isnan(expected) ? NarrowBits(expected, dtype) : static_cast<uint32_t>(i);
        wrong_again += again[static_cast<size_t>(i)] != bits;
      }
      CHECK(wrong_wide == 0);
      CHECK(wrong_scalars == 0);
      CHECK(wrong_again == 0);
    });
  }
}

// All signs and exponents with the fractions at which rounding to any number of bits changes: 0, and just below, at and above
// half a unit over an even, an odd and the largest number.
std::vector<float> RoundingEdges() {
  std::vector<uint32_t> fractions;
  for (int bit = 0; bit < 23; ++bit) {
    const uint32_t half = 1u << bit;
    for (const uint32_t middle : {half, half | half << 1, 0u - half}) {
      for (const uint32_t fraction : {middle - 1, middle, middle + 1}) fractions.push_back(fraction & 0x7FFFFF);
    }
  }
  std::sort(fractions.begin(), fractions.end());
  fractions.erase(std::unique(fractions.begin(), fractions.end()), fractions.end());
  std::vector<float> edges;
  for (uint32_t sign_and_exponent = 0; sign_and_exponent < 512; ++sign_and_exponent) {
    for (const uint32_t fraction : fractions) edges.push_back(FloatOf(sign_and_exponent << 23 | fraction));
  }
  return edges;
}

// Any bits; every other number is near f16's range.
std::vector<float> AnyBits(size_t count) {
  std::vector<float> result(count);
  for (size_t i = 0; i < count; ++i) {
    uint32_t bits = static_cast<uint32_t>(Mix(i));
    if (i % 2 != 0) bits = (bits & 0x807FFFFF) | (95 + (bits >> 23) % 52) << 23;
    result[i] = FloatOf(bits);
  }
  return result;
}

// Narrows `values` in spans, each as it is and with a NaN for its first element, since one NaN has its span narrowed another
// way.
void CheckNarrow(const std::vector<float>& values) {
  constexpr size_t kSpan = 1000;
  std::vector<float> span;
  std::vector<uint32_t> narrow(kSpan);
  for (const simdnorm_dtype dtype : kFloatDtypes) {
    CAPTURE(DtypeName(dtype));
    std::vector<uint32_t> expected;
    for (const float value : values) expected.push_back(NarrowBits(value, dtype));
    ForEachIndex([&](size_t index) {
      size_t wrong = 0;
      uint32_t first_wrong = 0;
      for (size_t begin = 0; begin < values.size(); begin += kSpan) {
        const size_t size = std::min(kSpan, values.size() - begin);
        const float* const from = values.data() + begin;
        for (const bool with_nan : {false, true}) {
          span.assign(from, from + size);
          if (with_nan) span[0] = FloatOf(0xFF800001u);
          HWY_DISPATCH_TABLE(NarrowSpan)[index](span.data(), narrow.data(), dtype, static_cast<int64_t>(size), false);
          for (size_t i = 0; i < size; ++i) {
            const uint32_t bits = with_nan && i == 0 ? NarrowBits(NAN, dtype) : expected[begin + i];
            if (ElementBits(narrow.data(), dtype, static_cast<int64_t>(i)) == bits) continue;
            if (wrong++ == 0) first_wrong = BitsOf(span[i]);
          }
        }
      }
      CAPTURE(first_wrong);
      CHECK(wrong == 0);
    });
  }
}

TEST_CASE("f32 is rounded to nearest even, with Inf beyond the range, subnormals, and one NaN") {
  CheckNarrow(RoundingEdges());
  CheckNarrow(AnyBits(SmallEffort() ? 20000 : 2000000));
}

TEST_CASE("numbers are narrowed to what is written here") {
  const struct {
    uint32_t from, bf16, f16;
  } kRows[] = {
      {0x00000000, 0x0000, 0x0000}, {0x80000000, 0x8000, 0x8000},
      {0x3F800000, 0x3F80, 0x3C00}, {0xC0490FDB, 0xC049, 0xC248},  // -pi
      {0x3F808000, 0x3F80, 0x3C04},                                // half of bf16's unit above 1: to even
      {0x3F818000, 0x3F82, 0x3C0C},                                // above an odd one
      {0x3F801000, 0x3F80, 0x3C00},                                // half of f16's unit above 1
      {0x3F803000, 0x3F80, 0x3C02},                                // above an odd one
      {0x7F7F7FFF, 0x7F7F, 0x7C00},                                // the last that rounds to bf16's largest
      {0x7F7F8000, 0x7F80, 0x7C00}, {0x7F7FFFFF, 0x7F80, 0x7C00},
      {0x477FEFFF, 0x4780, 0x7BFF},  // the last that rounds to f16's largest, 65504
      {0x477FF000, 0x4780, 0x7C00},  // 65520
      {0xFF800000, 0xFF80, 0xFC00}, {0x38800000, 0x3880, 0x0400},
      {0x387FE000, 0x3880, 0x0400}, {0x387FC000, 0x3880, 0x03FF},  // f16's largest subnormal
      {0x33800000, 0x3380, 0x0001},                                // f16's smallest
      {0x33000000, 0x3300, 0x0000}, {0x33000001, 0x3300, 0x0001},  // half of it, and just above
      {0x00008000, 0x0000, 0x0000}, {0x00008001, 0x0001, 0x0000},  // the same of bf16
      {0x80018000, 0x8002, 0x8000}, {0x7F800001, 0x7FC0, 0x7E00},
      {0xFFFFFFFF, 0x7FC0, 0x7E00},
  };
  ForEachIndex([&](size_t index) {
    for (const auto& row : kRows) {
      float from[20];
      std::fill(std::begin(from), std::end(from), FloatOf(row.from));
      CAPTURE(row.from);
      uint16_t to[20];
      HWY_DISPATCH_TABLE(NarrowSpan)[index](from, to, SIMDNORM_BF16, 20, false);
      for (const uint16_t bits : to) CHECK(bits == row.bf16);
      HWY_DISPATCH_TABLE(NarrowSpan)[index](from, to, SIMDNORM_F16, 20, false);
      for (const uint16_t bits : to) CHECK(bits == row.f16);
    }
  });
}

// Values that f32 holds exactly, and others not.
float SpanValue(int64_t i) { return 0.1f * static_cast<float>(i) - 3.0f; }

TEST_CASE("spans of any length are converted and added, and nothing around them is touched") {
  ForEachIndex([](size_t index) {
    for (const simdnorm_dtype dtype : kFloatDtypes) {
      CAPTURE(DtypeName(dtype));
      for (int64_t n = 0; n <= 70; ++n) {
        for (const Place place : {Place{true, 0}, Place{true, 1}, Place{false, 0}, Place{false, 1}}) {
          CAPTURE(n);
          CAPTURE(place.at_end);
          CAPTURE(place.offset);
          const GuardedBuffer narrow(n, place, dtype), wide(n, place), a(n, place), sum(n, place);
          for (int64_t i = 0; i < n; ++i) narrow.Set(i, SpanValue(i));
          HWY_DISPATCH_TABLE(WidenSpan)[index](narrow.raw(), dtype, wide.data(), n);
          CHECK(narrow.OutsideIsUntouched());
          CHECK(wide.OutsideIsUntouched());
          for (int64_t i = 0; i < n; ++i) {
            CHECK(BitsOf(wide[i]) == BitsOf(narrow.Get(i)));
            CHECK(BitsOf(HWY_DISPATCH_TABLE(LoadScalar)[index](narrow.raw(), dtype, i)) == BitsOf(narrow.Get(i)));
          }

          for (int64_t i = 0; i < n; ++i) a[i] = SpanValue(n - i) * 1.7f;
          HWY_DISPATCH_TABLE(AddSpan)[index](a.data(), SIMDNORM_F32, narrow.raw(), dtype, sum.data(), n, false);
          for (int64_t i = 0; i < n; ++i) CHECK(BitsOf(sum[i]) == BitsOf(a[i] + narrow.Get(i)));
          for (const simdnorm_dtype a_dtype : kFloatDtypes) {
            const GuardedBuffer other(n, place, a_dtype), sum_of_other(n, place);
            for (int64_t i = 0; i < n; ++i) other.Set(i, a[i]);
            const bool from_afar = n % 2 != 0;
            HWY_DISPATCH_TABLE(AddSpan)[index](other.raw(), a_dtype, narrow.raw(), dtype, sum_of_other.data(), n, from_afar);
            for (int64_t i = 0; i < n; ++i) CHECK(BitsOf(sum_of_other[i]) == BitsOf(other.Get(i) + narrow.Get(i)));
            CHECK(sum_of_other.OutsideIsUntouched());
          }
          HWY_DISPATCH_TABLE(AddSpan)[index](a.data(), SIMDNORM_F32, narrow.raw(), dtype, a.data(), n, false);
          for (int64_t i = 0; i < n; ++i) CHECK(BitsOf(a[i]) == BitsOf(sum[i]));
          CHECK(sum.OutsideIsUntouched());
          CHECK(a.OutsideIsUntouched());

          for (const bool streams : {false, true}) {
            const GuardedBuffer again(n, place, dtype);
            HWY_DISPATCH_TABLE(NarrowSpan)[index](sum.data(), again.raw(), dtype, n, streams);
            for (int64_t i = 0; i < n; ++i) CHECK(ElementBits(again.raw(), dtype, i) == NarrowBits(sum[i], dtype));
            CHECK(again.OutsideIsUntouched());
          }
        }
      }
    }
  });
}

TEST_CASE("a NaN or Inf anywhere in a span changes no other element") {
  ForEachIndex([](size_t index) {
    for (const simdnorm_dtype dtype : kFloatDtypes) {
      CAPTURE(DtypeName(dtype));
      for (const int64_t n : {1, 15, 16, 17, 70}) {
        for (int64_t at = 0; at < n; ++at) {
          for (const uint32_t special : {0x7F800001u, 0xFFC00000u, 0x7F800000u}) {
            CAPTURE(n);
            CAPTURE(at);
            CAPTURE(special);
            float from[70], sum[70];
            for (int64_t i = 0; i < n; ++i) from[i] = SpanValue(i);
            memcpy(from + at, &special, sizeof(special));
            uint32_t narrow[70];
            HWY_DISPATCH_TABLE(NarrowSpan)[index](from, narrow, dtype, n, false);
            for (int64_t i = 0; i < n; ++i) CHECK(ElementBits(narrow, dtype, i) == NarrowBits(from[i], dtype));
            HWY_DISPATCH_TABLE(AddSpan)[index](from, SIMDNORM_F32, narrow, dtype, sum, n, false);
            for (int64_t i = 0; i < n; ++i) CHECK(SameOrBothNaN(sum[i], from[i] + GetElement(narrow, dtype, i)));
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace simdnorm_test
#endif  // HWY_ONCE
