// The short way of plain calls of layer norm and RMS norm: it takes nothing that the long way refuses, and gives the same bits;
// and what is written past the caches is the same as what is not.
#include <doctest/doctest.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <initializer_list>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "all_targets.h"
#include "channel_tensor.h"
#include "channels.h"
#include "dtypes.h"
#include "sequences.h"
#include "target.h"
#include "validate.h"

namespace simdnorm_test {
namespace {

using simdnorm::CallOptions;
using simdnorm::PlainRows;
using simdnorm::Statistics;

constexpr uint16_t kUnwritten = 0xABCD;

// On the calling thread.
CallOptions OptionsFor(const char* target) {
  CallOptions options;
  REQUIRE(simdnorm::FindTarget(target, &options.target_index));
  options.executor.max_threads = 1;
  return options;
}

// Bits of a y of `dtype` with gaps, whose first element lies `shift` elements behind a cache line's begin.
std::vector<uint16_t> ResultOf(PlainRows rows, int64_t shift, bool as_sequences, const CallOptions& options,
                               Statistics statistics) {
  const int64_t words = static_cast<int64_t>(simdnorm::ElementSize(rows.dtype)) / 2;
  const int64_t size = (rows.rows * rows.y_stride + shift) * words;
  std::vector<uint16_t> y(static_cast<size_t>(size) + 32, kUnwritten);
  const auto begin = reinterpret_cast<uintptr_t>(y.data());
  rows.y = y.data() + (64 - begin % 64) % 64 / 2 + shift * words;
  if (as_sequences) {
    RunSequences(options, statistics, rows.AsSequences(), rows.rows);
  } else {
    RunPlainRows(options, statistics, rows);
  }
  const auto* first = static_cast<const uint16_t*>(rows.y);
  return {first, first + rows.rows * rows.y_stride * words};
}

TEST_CASE("plain rows: the same bits as sequences, past the caches or not, at any address") {
  std::mt19937 random(1);
  std::vector<float> x(40 * 4096), scale(4096), shift(4096);
  for (std::vector<float>* v : {&x, &scale, &shift}) {
    for (float& value : *v) value = static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
  }
  x[5] = kInf;                                                            // a row of NaN
  for (const size_t i : {631 * 2, 631 * 18, 4096 * 3 + 1}) x[i] = 1e30f;  // rows in double, for most widths
  ForEachTarget([&](const char* target) {
    const CallOptions options = OptionsFor(target);
    for (const simdnorm_dtype dtype : kFloatDtypes) {
      std::vector<uint16_t> narrow;
      const void* data = x.data();
      if (dtype != SIMDNORM_F32) {
        for (const float value : x) {
          narrow.push_back(static_cast<uint16_t>(dtype == SIMDNORM_BF16 ? BitsOf(value) >> 16 : random() % 0x7C00));
        }
        data = narrow.data();
      }
      for (const int64_t cols : {1, 7, 16, 33, 64, 129, 631, 777, 4095, 4096}) {
        const int64_t gap = cols % 3;
        for (const Statistics statistics : {Statistics::kMeanAndVariance, Statistics::kMeanSquare}) {
          const bool centred = statistics == Statistics::kMeanAndVariance;
          const PlainRows rows = {data,
                                  nullptr,
                                  19,
                                  cols,
                                  cols,
                                  cols + gap,
                                  cols % 2 == 0 ? nullptr : scale.data(),
                                  centred ? shift.data() : nullptr,
                                  nullptr,
                                  nullptr,
                                  dtype,
                                  SIMDNORM_F32,
                                  1e-5f,
                                  false,
                                  false};
          PlainRows streamed = rows;
          streamed.streams = streamed.overflows = true;
          for (const int64_t place : {0, 1, 5}) {
            CAPTURE(std::string(target));
            CAPTURE(dtype);
            CAPTURE(cols);
            CAPTURE(place);
            const std::vector<uint16_t> expected = ResultOf(rows, place, true, options, statistics);
            CHECK(ResultOf(rows, place, false, options, statistics) == expected);
            CHECK(ResultOf(streamed, place, false, options, statistics) == expected);
          }
        }
      }
    }
  });
}

TEST_CASE(
    "plain rows: short ones together give the bits of each alone, with any parameters, and NaN in its own row and column") {
  constexpr int64_t kRows = 21, kMostCols = 448, kGap = 3;
  std::mt19937 random(3);
  std::vector<float> x(kRows * (kMostCols + kGap)), scale(kMostCols), shift(kMostCols);
  for (std::vector<float>* v : {&x, &scale, &shift}) {
    for (float& value : *v) value = static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
  }
  ForEachTarget([&](const char* target) {
    const CallOptions options = OptionsFor(target);
    for (int64_t cols = 16; cols <= kMostCols; cols += 16) {
      for (unsigned variant = 0; variant < 32; ++variant) {
        const bool centred = (variant & 1) != 0, has_scale = (variant & 2) != 0, has_shift = (variant & 4) != 0;
        const int64_t stride = cols + ((variant & 8) != 0 ? kGap : 0);
        std::vector<float> values = x, shifts = shift;
        if ((variant & 16) != 0) {  // a NaN of their own, at the end of a row and in a column
          values[static_cast<size_t>(7 * stride + cols - 1)] = FloatOf(0xFFC12345u);
          shifts[stride == cols ? random() % static_cast<size_t>(cols) : static_cast<size_t>(cols - 1)] = FloatOf(0x7FC54321u);
        }
        const PlainRows all = {values.data(),
                               nullptr,
                               kRows,
                               cols,
                               stride,
                               stride,
                               has_scale ? scale.data() : nullptr,
                               has_shift ? shifts.data() : nullptr,
                               nullptr,
                               nullptr,
                               SIMDNORM_F32,
                               SIMDNORM_F32,
                               1e-5f,
                               false,
                               false};
        const Statistics statistics = centred ? Statistics::kMeanAndVariance : Statistics::kMeanSquare;
        std::vector<uint16_t> alone;
        for (int64_t row = 0; row < kRows; ++row) {
          PlainRows one = all;
          one.x = values.data() + row * stride, one.rows = 1;
          const std::vector<uint16_t> result = ResultOf(one, 0, false, options, statistics);
          alone.insert(alone.end(), result.begin(), result.end());
        }
        CAPTURE(std::string(target));
        CAPTURE(cols);
        CAPTURE(variant);
        CHECK(ResultOf(all, 0, false, options, statistics) == alone);
        if (stride != cols) continue;
        PlainRows streamed = all;
        streamed.streams = streamed.overflows = true;
        CHECK(ResultOf(streamed, 0, false, options, statistics) == alone);
      }
    }
  });
}

// Rows of `dtype` through the C API. Results: y and, with a residual, behind it h.
struct RowsOf16Bits {
  simdnorm_dtype dtype;
  const uint16_t *x, *residual;
  const void *scale, *shift;
  simdnorm_dtype scale_dtype;
  int64_t cols;

  template <class Args, class Call>
  std::vector<uint16_t> Results(Args args, int64_t rows, const char* target, const Call& call) const {
    std::vector<uint16_t> results(static_cast<size_t>((residual ? 2 : 1) * rows * cols));
    args.struct_size = sizeof(args);
    args.epsilon = 1e-5f;
    args.x = x, args.y = results.data();
    args.x_dtype = args.y_dtype = dtype;
    args.rows = rows, args.cols = cols;
    args.scale = scale, args.scale_dtype = scale_dtype;
    if (residual) {
      args.residual = residual, args.h = results.data() + rows * cols;
      args.residual_dtype = args.h_dtype = dtype;
    }
    simdnorm_options options = {};
    options.struct_size = sizeof(options);
    options.target = target;
    options.max_threads = 1;
    REQUIRE(call(&args, &options) == SIMDNORM_OK);
    return results;
  }
  std::vector<uint16_t> Results(bool centred, int64_t rows, const char* target) const {
    if (!centred) return Results(simdnorm_rms_norm_args(), rows, target, simdnorm_rms_norm);
    simdnorm_layer_norm_args args = {};
    args.shift = shift;
    return Results(args, rows, target, simdnorm_layer_norm);
  }
};

TEST_CASE("rows of 16 bits: scale and shift of 16 bits, as they lie or widened before, give the bits of the same in f32") {
  constexpr int64_t kRows[] = {1, 4, 5, 19}, kMostCols = 4200;
  std::mt19937 random(11);
  for (const simdnorm_dtype dtype : {SIMDNORM_BF16, SIMDNORM_F16}) {
    // Numbers of about 1 in either dtype.
    const auto fill = [&](int64_t n) {
      std::vector<uint16_t> bits(static_cast<size_t>(n));
      const unsigned one = dtype == SIMDNORM_BF16 ? 0x3F80 : 0x3C00;
      for (uint16_t& b : bits) b = static_cast<uint16_t>((one ^ (random() & 0x8000u)) + random() % 128);
      return bits;
    };
    const std::vector<uint16_t> x = fill(19 * kMostCols), residual = fill(19 * kMostCols);
    std::vector<uint16_t> scale = fill(kMostCols), shift = fill(kMostCols);
    shift[3] = dtype == SIMDNORM_BF16 ? 0xFFC1 : 0xFE01;  // NaN of its own
    std::vector<float> wide_scale, wide_shift;
    for (const uint16_t& bits : scale) wide_scale.push_back(GetElement(&bits, dtype, 0));
    for (const uint16_t& bits : shift) wide_shift.push_back(GetElement(&bits, dtype, 0));
    ForEachTarget([&](const char* target) {
      for (const int64_t cols : {1, 7, 16, 33, 129, 777, 2100, 4200}) {
        for (int combination = 0; combination < 16; ++combination) {
          const bool centred = combination % 2 == 0, adds = combination / 2 % 2 != 0;
          const bool has_scale = combination / 8 == 0, has_shift = combination / 4 % 2 == 0;
          const auto given = [&](const auto& scales, const auto& shifts, simdnorm_dtype parameters) {
            return RowsOf16Bits{dtype,
                                x.data(),
                                adds ? residual.data() : nullptr,
                                has_scale ? scales.data() : nullptr,
                                has_shift ? shifts.data() : nullptr,
                                parameters,
                                cols};
          };
          const RowsOf16Bits wide = given(wide_scale, wide_shift, SIMDNORM_F32), narrow = given(scale, shift, dtype);
          for (const int64_t rows : kRows) {
            CAPTURE(std::string(target));
            CAPTURE(DtypeName(dtype));
            CAPTURE(cols);
            CAPTURE(combination);
            CAPTURE(rows);
            CHECK(narrow.Results(centred, rows, target) == wide.Results(centred, rows, target));
          }
        }
      }
    });
  }
}

// y, `offset` elements behind the beginning of a line, and behind it h of sequences, each with gaps that nobody writes to, as
// nobody writes before and after them.
std::vector<uint32_t> OutputsOf(simdnorm::SequenceNorm norm, int64_t sequences, int64_t size, int64_t offset, bool streams,
                                const CallOptions& options) {
  constexpr int64_t kLine = 16;
  std::vector<uint32_t> outputs(static_cast<size_t>(2 * size + 4 * kLine), 0xABCDABCDu);
  const int64_t line = static_cast<int64_t>((64 - reinterpret_cast<uintptr_t>(outputs.data()) % 64) % 64 / 4);
  uint32_t* const y = outputs.data() + line + kLine + offset;
  norm.y.data = y;
  if (norm.residual_before) norm.h.data = y + size;
  norm.Classify();
  norm.streams = norm.overflows = streams;
  if (norm.mean) {
    RunGivenSequences(options, norm);
  } else {
    RunSequences(options, Statistics::kMeanAndVariance, norm, sequences);
  }
  return {outputs.begin() + line, outputs.begin() + line + 2 * size + 3 * kLine};
}

TEST_CASE("sequences: the same bits past the caches or not, at any address") {
  std::mt19937 random(3);
  std::vector<float> x(120000), residual(120000), scale(9000), shift(9000), mean(16), variance(16, 1.5f);
  for (std::vector<float>* v : {&x, &residual, &scale, &shift, &mean}) {
    for (float& value : *v) value = static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
  }
  x[7] = kInf;  // a sequence of NaN, where statistics are its own
  const auto check = [&](const simdnorm::SequenceNorm& norm, int64_t sequences, int64_t size) {
    ForEachTarget([&](const char* target) {
      CAPTURE(std::string(target));
      const CallOptions options = OptionsFor(target);
      for (const int64_t offset : {0, 1, 8}) {
        CAPTURE(offset);
        CHECK(OutputsOf(norm, sequences, size, offset, true, options) ==
              OutputsOf(norm, sequences, size, offset, false, options));
      }
    });
  };
  for (const int64_t cols : {5, 48, 700, 8500}) {
    CAPTURE(cols);
    for (const int64_t stride : {cols, (cols + 15) / 16 * 16, cols + 1}) {
      PlainRows rows = {x.data(), nullptr, 13,           cols,         cols,  stride, scale.data(), shift.data(),
                        nullptr,  nullptr, SIMDNORM_F32, SIMDNORM_F32, 1e-5f, false,  false};
      simdnorm::SequenceNorm norm = rows.AsSequences();
      check(norm, rows.rows, rows.rows * stride);
      norm.residual = {residual.data(), SIMDNORM_F32, cols, 0, 0};
      norm.h = {nullptr, SIMDNORM_F32, stride, 0, 0};
      norm.residual_before = true;
      check(norm, rows.rows, rows.rows * stride);
    }
  }
  for (const int64_t spatial : {1, 31, 49, 64, 600}) {
    for (const bool of_each_sample : {false, true}) {
      CAPTURE(spatial);
      CAPTURE(of_each_sample);
      simdnorm_group_norm_args args = {};
      args.x = x.data();
      args.epsilon = 1e-5f;
      args.batch = 5, args.channels = 12, args.spatial = spatial;
      args.scale = scale.data();
      args.shift = shift.data();
      simdnorm::SequenceNorm norm = simdnorm::PlanesOf(simdnorm::Executor(), args, of_each_sample ? 3 : 1, of_each_sample);
      const int64_t sequences = of_each_sample ? args.batch * norm.sequences_per_sample : args.channels, size = 60 * spatial;
      check(norm, sequences, size);
      if (of_each_sample) continue;
      norm.mean = mean.data();
      norm.variance = variance.data();
      check(norm, sequences, size);
    }
  }
}

// Rows that lie side by side are written as runs or as rows of more channels; only where they begin with a line past the
// caches.
TEST_CASE("channels: the same bits past the caches or not, at any address") {
  std::mt19937 random(4);
  std::vector<float> x(20000), scale(40), shift(40), mean(40), variance(40);
  for (std::vector<float>* v : {&x, &scale, &shift, &mean, &variance}) {
    for (float& value : *v) value = 0.001f + static_cast<float>(random() % 2001) / 1000.0f;
  }
  const auto check = [&](simdnorm_layout layout, int64_t channels) {
    simdnorm_batch_norm_inference_args args = {};
    args.x = x.data();
    args.epsilon = 1e-5f;
    args.batch = 3, args.channels = channels, args.spatial = 49, args.layout = layout;
    args.scale = scale.data(), args.shift = shift.data();
    simdnorm::ChannelNorm norm = simdnorm::RowsOf(simdnorm::Executor(), args, false);
    norm.mean = mean.data(), norm.variance = variance.data();
    const int64_t block = std::max<int64_t>(1, simdnorm::BlockOf(layout));
    const int64_t size = 3 * simdnorm::CeilDiv(channels, block) * block * 49;
    ForEachTarget([&](const char* target) {
      std::vector<float> results[2];
      for (const int64_t offset : {0, 1, 4, 8, 15}) {
        for (const bool streams : {false, true}) {
          INFO(std::string(target), ": layout ", layout, ", ", channels, " channels, ", offset, " behind a line, ", streams);
          std::vector<float> y(static_cast<size_t>(size) + 64, 0.5f);
          const int64_t line = static_cast<int64_t>((64 - reinterpret_cast<uintptr_t>(y.data()) % 64) % 64 / 4);
          norm.y.data = y.data() + line + offset;
          norm.streams = streams;
          RunGivenChannels(OptionsFor(target), norm);
          const auto first = y.begin() + line + offset;
          results[streams].assign(first, first + size);
          CHECK(std::all_of(y.begin(), first, [](float v) { return v == 0.5f; }));
          CHECK(std::all_of(first + size, y.end(), [](float v) { return v == 0.5f; }));
        }
        CHECK(results[0] == results[1]);
      }
    });
  };
  for (const int64_t channels : {1, 2, 3, 4, 8, 16, 20, 32}) check(SIMDNORM_NHWC, channels);
  for (const simdnorm_layout layout : {SIMDNORM_NCHW8C, SIMDNORM_NCHW16C}) {
    for (const int64_t channels : {8, 16, 30}) check(layout, channels);
  }
}

// What Validate says, which is the authority.
template <class Args>
bool IsValid(const Args& args, const simdnorm_options* options) {
  Args valid;
  CallOptions call;
  bool empty = false;
  return Validate(&args, options, &valid, &call, &empty) == SIMDNORM_OK && !empty;
}

template <class Args>
void CheckTaken(Args args) {
  constexpr int64_t kRows = 5, kCols = 24;
  alignas(64) static float memory[4096];
  std::mt19937 random(7);
  int taken = 0;
  const auto pick = [&](std::initializer_list<int64_t> values) { return *(values.begin() + random() % values.size()); };
  for (int i = 0; i < 200000; ++i) {
    args = {};
    args.struct_size = sizeof(args);
    args.epsilon = 1e-5f;
    // Mostly apart, at times anywhere; a call is valid in most of its fields, and so it is each that decides.
    const auto place = [&](int64_t usual, bool optional) -> float* {
      if (optional && random() % 2 == 0) return nullptr;
      if (random() % 8 != 0) return memory + usual;
      if (random() % 16 == 0) return reinterpret_cast<float*>(~uintptr_t{63});
      return reinterpret_cast<float*>(reinterpret_cast<unsigned char*>(memory) + random() % 4096);
    };
    args.x = place(0, false);
    args.y = random() % 4 == 0 ? const_cast<void*>(args.x) : place(1024, false);
    args.rows = random() % 8 == 0 ? pick({-1, 0, 1, int64_t{1} << 40}) : kRows;
    args.cols = random() % 8 == 0 ? pick({-1, 0, 1, 4097, int64_t{1} << 40}) : kCols;
    args.x_row_stride = random() % 4 == 0 ? pick({-1, 1, 24, 25, int64_t{1} << 40}) : 0;
    args.y_row_stride = random() % 4 == 0 ? pick({-1, 1, 24, 25, int64_t{1} << 40}) : 0;
    args.scale = place(2048, true);
    args.rstd = place(3072, true);
    if constexpr (std::is_same_v<Args, simdnorm_layer_norm_args>) {
      args.shift = place(2560, true);
      args.mean = random() % 16 == 0 ? args.rstd : place(3584, true);
    }
    if (random() % 4 == 0) args.x_dtype = args.y_dtype = static_cast<simdnorm_dtype>(pick({0, 1, 2, 3, -1}));
    if (random() % 32 == 0) args.y_dtype = SIMDNORM_BF16;
    if (random() % 32 == 0) args.scale_dtype = SIMDNORM_F16;
    if (random() % 32 == 0) args.epsilon = static_cast<float>(pick({-1, 0, 1})) * kInf;
    if (random() % 32 == 0) args.struct_size -= 8;
    if (random() % 4 == 0) {  // what such a struct does not have is not looked at
      args.struct_size = offsetof(Args, scale_offset);
      memset(reinterpret_cast<unsigned char*>(&args) + args.struct_size, 0x5A, sizeof(args) - args.struct_size);
    }
    if (random() % 16 == 0) reinterpret_cast<unsigned char*>(&args)[random() % sizeof(args)] ^= 1;
    simdnorm_options options = {};
    options.struct_size = sizeof(options);
    if (random() % 32 == 0) options.max_threads = -1;
    if (random() % 32 == 0) options.target = "none";
    if (random() % 32 == 0) options.struct_size = 8;
    PlainRows rows;
    CallOptions call;
    const simdnorm_options* given = random() % 2 == 0 ? &options : nullptr;
    if (!TakePlainRows(&args, given, &rows, &call)) continue;
    ++taken;
    const bool valid = IsValid(args, given);
    CHECK(valid);
    if (!valid) return;
  }
  CHECK(taken > 10000);
}

TEST_CASE("plain rows: nothing is taken that is not valid") {
  CheckTaken(simdnorm_layer_norm_args());
  CheckTaken(simdnorm_rms_norm_args());
}

}  // namespace
}  // namespace simdnorm_test
