// simd/moments-inl.h, on every target: lanes, blocks, chunks and their merges against two passes in long double, and the
// decision to fall back to double.
#include <math.h>
#include <stdint.h>

#include <string>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "moments_test.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "simd/moments-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm_test {
namespace HWY_NAMESPACE {
using namespace simdnorm::HWY_NAMESPACE;
using simdnorm::Moments;
using simdnorm::Normalizers;

template <bool kCentred, class T>
Moments MomentsOfRun(const float* x, int64_t length, double pivot) {
  LaneMoments<T> run;
  Moments moments;
  T pivots[] = {static_cast<T>(pivot)};
  RunMoments<kCentred>(StripTag<T>(), x, 0, length, 1, pivots, /*own=*/false, run.mean, run.m2);
  MergeLanes<kCentred>(length, run, 1, moments);
  return moments;
}

Moments CentredInFloat(const float* x, int64_t length, double pivot) { return MomentsOfRun<true, float>(x, length, pivot); }
Moments CentredInDouble(const float* x, int64_t length, double pivot) { return MomentsOfRun<true, double>(x, length, pivot); }
Moments SquaresInFloat(const float* x, int64_t length, double pivot) { return MomentsOfRun<false, float>(x, length, pivot); }

// The moments of the middle channel of `valid` side by side, in chunk steps of 32 rows.
Moments OfChannel(const float* x, int64_t rows, int64_t channels, int64_t valid) {
  const StripTag<float> d;
  LaneMoments<float> strip;
  const OnePivot<float> pivot = {0};
  for (int64_t row = 0; row < rows; row += 32) {
    const size_t count = static_cast<size_t>(HWY_MIN(rows - row, 32));
    if (valid == 16) {
      AddStrips<true, true>(d, x + row * channels, channels, 16, static_cast<size_t>(row), count, pivot, strip.mean, strip.m2);
    } else {
      AddStrips<true, false>(d, x + row * channels, channels, static_cast<size_t>(valid), static_cast<size_t>(row), count,
                             pivot, strip.mean, strip.m2);
    }
  }
  return Moments{static_cast<double>(rows), {strip.mean[valid / 2]}, {strip.m2[valid / 2]}};
}

float PivotOf(float first, float middle, float last) { return Pivot(first, middle, last); }
Moments Merged(const Moments& a, const Moments& b) {
  Moments result = a;
  MergeMoments(result, b, 1);
  return result;
}
// As item 3 of 16.
Normalizers Finished(const Moments& moments, double pivot, float epsilon) {
  Normalizers norm = {};
  const float pivots[] = {static_cast<float>(pivot)};
  Finish(moments, pivots, 1, epsilon, norm, 3);
  return norm;
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

HWY_EXPORT(CentredInFloat);
HWY_EXPORT(CentredInDouble);
HWY_EXPORT(SquaresInFloat);
HWY_EXPORT(OfChannel);
HWY_EXPORT(PivotOf);
HWY_EXPORT(Merged);
HWY_EXPORT(Finished);

size_t Index(const char* target) {
  size_t index = 0;
  REQUIRE(simdnorm::FindTarget(target, &index));
  return index;
}

std::vector<float> Values(int64_t count, float mean) {
  std::vector<float> values(static_cast<size_t>(count));
  uint32_t state = 12345;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = mean + static_cast<float>(static_cast<int32_t>(state) >> 8) * (1.0f / 4194304);
  }
  return values;
}

struct Exact {
  long double mean = 0, m2 = 0, squares = 0;
  explicit Exact(const std::vector<float>& values) {
    for (const float value : values) mean += value, squares += static_cast<long double>(value) * value;
    mean /= static_cast<long double>(values.size());
    for (const float value : values) m2 += (value - mean) * (value - mean);
  }
};

// f32 rounds each value's deviation, squares it and adds in 32 blocks and 4 merges: 2^-24 each, at the very worst all one way.
constexpr double kFloatBound = 36 * 0x1p-24;
constexpr double kDoubleBound = 1e-14;

const std::vector<int64_t>& Lengths() {
  static const std::vector<int64_t> lengths = [] {
    std::vector<int64_t> all = {255, 256, 257, 777, 1023, 2047, 2048, 2049, 4079, 4080, 4095, 4096};
    for (int64_t length = 1; length <= 200; ++length) all.push_back(length);
    return all;
  }();
  return lengths;
}

TEST_CASE("moments of runs of every length agree with two passes in long double") {
  ForEachTarget([](const char* target) {
    CAPTURE(std::string(target));
    const size_t index = Index(target);
    for (const int64_t length : Lengths()) {
      for (const float mean : {0.0f, 1000.0f}) {
        CAPTURE(length);
        const std::vector<float> values = Values(length, mean);
        const Exact exact(values);
        const double pivot = values[static_cast<size_t>(length) / 2], std = static_cast<double>(sqrtl(exact.m2 / length));
        const auto check = [&](const simdnorm::Moments& moments, double bound) {
          CHECK(moments.count == static_cast<double>(length));
          CHECK(fabsl(static_cast<long double>(pivot) + moments.mean[0] - exact.mean) <=
                bound * (std + fabs(pivot - static_cast<double>(exact.mean))));
          CHECK(fabsl(moments.m2[0] - exact.m2) <= 2 * bound * static_cast<double>(exact.m2));
        };
        check(HWY_DISPATCH_TABLE(CentredInFloat)[index](values.data(), length, pivot), kFloatBound);
        check(HWY_DISPATCH_TABLE(CentredInDouble)[index](values.data(), length, pivot), kDoubleBound);
        const double squares = HWY_DISPATCH_TABLE(SquaresInFloat)[index](values.data(), length, 0).m2[0];
        CHECK(fabsl(squares - exact.squares) <= kFloatBound * static_cast<double>(exact.squares));
      }
    }
  });
}

TEST_CASE("a constant run has exactly its mean, and variance 0") {
  ForEachTarget([](const char* target) {
    CAPTURE(std::string(target));
    for (const int64_t length : Lengths()) {
      for (const float value : {0.1f, -1.0f / 3, 1e10f, 3.4028235e38f, 1e-45f}) {
        const std::vector<float> values(static_cast<size_t>(length), value);
        const simdnorm::Moments moments =
            HWY_DISPATCH_TABLE(CentredInFloat)[Index(target)](values.data(), length, static_cast<double>(value));
        CHECK(moments.mean[0] == 0);
        CHECK(moments.m2[0] == 0);
      }
    }
  });
}

TEST_CASE("runs are read to their end and no further") {
  ForEachTarget([](const char* target) {
    CAPTURE(std::string(target));
    for (int64_t length = 1; length <= 200; ++length) {
      CAPTURE(length);
      GuardedBuffer buffer(length, {true, 0});
      const std::vector<float> values = Values(length, 3);
      for (int64_t i = 0; i < length; ++i) buffer[i] = values[static_cast<size_t>(i)];
      const auto run = HWY_DISPATCH_TABLE(CentredInFloat)[Index(target)];
      const simdnorm::Moments moments = run(buffer.data(), length, 3);
      CHECK(moments.mean[0] == run(values.data(), length, 3).mean[0]);
      buffer[length - 1] += 100;  // the last one counts
      CHECK(moments.mean[0] != run(buffer.data(), length, 3).mean[0]);
    }
  });
}

TEST_CASE("moments down the rows of channels agree with two passes in long double") {
  ForEachTarget([](const char* target) {
    CAPTURE(std::string(target));
    for (const int64_t channels : {1, 2, 3, 7, 8, 9, 15, 16, 40}) {
      for (const int64_t rows : {1, 2, 3, 7, 8, 9, 15, 31, 32, 33, 63, 100, 255, 256}) {
        const int64_t valid = HWY_MIN(channels, 16);
        CAPTURE(channels);
        CAPTURE(rows);
        const std::vector<float> values = Values(rows * channels, 0.5f);
        std::vector<float> channel;
        for (int64_t row = 0; row < rows; ++row) channel.push_back(values[static_cast<size_t>(row * channels + valid / 2)]);
        const Exact exact(channel);
        GuardedBuffer buffer(rows * channels, {true, 0});
        for (int64_t i = 0; i < buffer.size(); ++i) buffer[i] = values[static_cast<size_t>(i)];
        const simdnorm::Moments moments = HWY_DISPATCH_TABLE(OfChannel)[Index(target)](buffer.data(), rows, channels, valid);
        CHECK(fabsl(moments.mean[0] - exact.mean) <= kFloatBound * static_cast<double>(sqrtl(exact.squares / rows)));
        CHECK(fabsl(moments.m2[0] - exact.m2) <= 2 * kFloatBound * static_cast<double>(exact.squares));
      }
    }
  });
}

TEST_CASE("the pivot is the median of three, and never -0") {
  ForEachTarget([](const char* target) {
    const auto pivot = HWY_DISPATCH_TABLE(PivotOf)[Index(target)];
    const float orders[6][3] = {{1, 2, 3}, {1, 3, 2}, {2, 1, 3}, {2, 3, 1}, {3, 1, 2}, {3, 2, 1}};
    for (const auto& order : orders) CHECK(pivot(order[0], order[1], order[2]) == 2);
    CHECK(pivot(1, 1, 3) == 1);
    CHECK(pivot(3, 1, 3) == 3);
    CHECK(BitsOf(pivot(-0.0f, -0.0f, -0.0f)) == 0);
    CHECK(BitsOf(pivot(-0.0f, 0.0f, 1)) == 0);
    CHECK(BitsOf(pivot(-1, 0.0f, -0.0f)) == 0);
  });
}

TEST_CASE("merged moments are those of all values") {
  ForEachTarget([](const char* target) {
    const auto merged = HWY_DISPATCH_TABLE(Merged)[Index(target)];
    // {1, 3} and {5, 6, 10}
    const simdnorm::Moments moments = merged({2, {2}, {2}}, {3, {7}, {14}});
    CHECK(moments.count == 5);
    CHECK(moments.mean[0] == doctest::Approx(5));
    CHECK(moments.m2[0] == doctest::Approx(46));
    const simdnorm::Moments first = merged({}, {3, {7}, {14}});
    CHECK(first.count == 3);
    CHECK(first.mean[0] == 7);
    CHECK(first.m2[0] == 14);
  });
}

TEST_CASE("the mean is kept as two floats") {
  ForEachTarget([](const char* target) {
    const auto finished = HWY_DISPATCH_TABLE(Finished)[Index(target)];
    const simdnorm::Normalizers norm = finished({4, {0.01}, {4}}, 1e6, 0.0f);
    CHECK(norm.mean_high[3] == 1e6f);
    CHECK(norm.rstd[3] == 1);
    CHECK(norm.offset[3] == static_cast<float>(-(1e6 + 0.01 - 1e6)));
    CHECK(finished({4, {0}, {0}}, 3, 0.0f).offset[3] == 0);  // not 0 * Inf
  });
}

TEST_CASE("statistics fall back to double where f32's range ends, and only there") {
  const double infinity = HUGE_VAL;
  ForEachTarget([&](const char* target) {
    CAPTURE(std::string(target));
    const auto falls_back = [&](double variance, float epsilon, double mean = 0) {
      return HWY_DISPATCH_TABLE(Finished)[Index(target)]({1, {mean}, {variance}}, 0, epsilon).in_double[3];
    };
    CHECK(!falls_back(1, 1e-5f));
    CHECK(!falls_back(0, 1e-5f));      // a constant row
    CHECK(!falls_back(1e-40, 1e-5f));  // epsilon hides what is lost
    CHECK(!falls_back(1e-40, 1e-12f));
    CHECK(!falls_back(1e-30, 0));
    CHECK(falls_back(1e-40, 0));
    CHECK(falls_back(0, 0));
    CHECK(falls_back(infinity, 1e-5f));
    CHECK(falls_back(-infinity, 1e-5f));
    CHECK(falls_back(static_cast<double>(NAN), 1e-5f));
    CHECK(!falls_back(1e38, 1e-5f));
    CHECK(falls_back(0, 1e-5f, 1e-42));  // a mean among subnormals
    CHECK(!falls_back(1e-30, 1e-5f, 1e-15));
  });
}

}  // namespace
}  // namespace simdnorm_test
#endif  // HWY_ONCE
