// simd/load_store-inl.h, on every target: what is loaded and stored, at page ends too, and what comes of NaN.
#include <math.h>
#include <string.h>

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
#include "target.h"

namespace simdnorm_test {
namespace {

HWY_EXPORT(CopyInFloat);
HWY_EXPORT(CopyInDouble);
HWY_EXPORT(LanesOfFirst);

using CopyFunction = size_t (*)(const float*, float*, size_t, bool);

// Calls test(copy) for each target and type of arithmetic.
template <class Test>
void ForEachCopy(const Test& test) {
  ForEachTarget([&](const char* target) {
    CAPTURE(std::string(target));
    size_t index = 0;
    REQUIRE(simdnorm::FindTarget(target, &index));
    const CopyFunction in_float = HWY_DISPATCH_TABLE(CopyInFloat)[index], in_double = HWY_DISPATCH_TABLE(CopyInDouble)[index];
    test(in_float);
    test(in_double);
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
  ForEachTarget([](const char* target) {
    CAPTURE(std::string(target));
    size_t index = 0;
    REQUIRE(simdnorm::FindTarget(target, &index));
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

}  // namespace
}  // namespace simdnorm_test
#endif  // HWY_ONCE
