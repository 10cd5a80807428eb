// Layer norm and RMS norm of rows that lie in memory as they do elsewhere: channels first, heads of packed queries, keys and
// values, sequences of different lengths.
#include <initializer_list>

#include "mixed_problem.h"
#include "problem.h"
#include "simdnorm/simdnorm.hpp"
#include "unfused.h"

namespace simdnorm_test {
namespace {

void Check(const Problem& p, Executors executors = Executors::kInTurn) {
  CheckProblem(p, executors);
  CheckUnfused(p, executors);
}

TEST_CASE("columns up to 80 and inner positions in mixed calls") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (int64_t cols = 1; cols <= 80; ++cols) {
      for (uint64_t way = 0; way < (SmallEffort() ? 1 : 6); ++way) {
        const int64_t inner = 2 + static_cast<int64_t>(Mix(way + static_cast<uint64_t>(cols)) % 40);
        Check(MixedProblem(op, 1 + static_cast<int64_t>(way) % 3, cols, inner, 7000 * way + static_cast<uint64_t>(cols)));
      }
    }
  }
}

TEST_CASE("inner positions up to 300 in mixed calls") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (int64_t inner = 2; inner <= 300; inner += inner < 70 ? 1 : 19) {
      if (SmallEffort() && inner % 16 > 2) continue;
      for (uint64_t way = 0; way < 2; ++way) {
        Check(MixedProblem(op, 2, 5 + inner % 23, inner, 300 * way + static_cast<uint64_t>(inner)));
      }
    }
  }
}

TEST_CASE("large strided problems, on all executors") {
  struct Shape {
    int64_t rows, cols, inner;
  };
  constexpr Shape kShapes[] = {{2, 64, 500}, {1, 320, 100}, {60, 128, 6}, {3, 255, 33},
                               {3, 257, 33}, {1, 4100, 5},  {1, 9000, 3}};
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const Shape& shape : kShapes) {
      if (SmallEffort() && shape.rows * shape.cols * shape.inner > 30000) continue;
      for (const View view : {View::kChannelsFirst, View::kHeads, View::kHeadsFirst}) {
        Problem p = MixedProblem(op, shape.rows, shape.cols, shape.inner, static_cast<uint64_t>(shape.cols) + 11);
        p.x_view = p.y_view = view;
        Check(p, Executors::kAll);
      }
    }
  }
}

TEST_CASE("strided rows of every kind of data") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (int data = 0; data < kNumData; ++data) {
      for (const View view : {View::kChannelsFirst, View::kHeads}) {
        for (const int64_t cols : {3, 70, 600}) {
          if (SmallEffort() && cols != 70) continue;
          Problem p;
          p.op = op, p.rows = 2, p.cols = cols, p.inner = 21;
          p.data = static_cast<Data>(data);
          p.x_view = p.y_view = view;
          Check(p);
        }
      }
    }
  }
}

TEST_CASE("an inner position has the same bits among all others and among some") {
  ForEachTarget([](const char* target) {
    constexpr int64_t kRows = 2, kCols = 50, kInner = 70;
    std::vector<float> x(kRows * kCols * kInner), all(x.size());
    for (size_t i = 0; i < x.size(); ++i) x[i] = Normal(i);
    const simdnorm::Options options = {target, 1};
    simdnorm::LayerNormParams params;
    params.fusions.inner = kInner;
    REQUIRE(simdnorm::LayerNorm(x.data(), all.data(), kRows, kCols, params, options));
    params.fusions.x_col_stride = kInner;
    params.fusions.x_inner_stride = 1;
    for (const int64_t first : {0, 1, 17, 60}) {
      for (const int64_t count : {1, 2, 3, 10}) {
        std::vector<float> some(x.size()), dense(static_cast<size_t>(kRows * kCols * count)), expected;
        params.fusions.inner = count;
        const simdnorm::InputRows cut = {x.data() + first, kRows, kCols, kCols * kInner};
        params.fusions.y_col_stride = kInner;
        params.fusions.y_inner_stride = 1;
        REQUIRE(simdnorm::LayerNorm(cut, {some.data() + first, kRows, kCols, kCols * kInner}, params, options));
        params.fusions.y_col_stride = params.fusions.y_inner_stride = 0;  // no gaps
        REQUIRE(simdnorm::LayerNorm(cut, {dense.data(), kRows, kCols}, params, options));
        bool same = true;
        for (size_t i = 0; i < x.size(); ++i) {
          const int64_t position = static_cast<int64_t>(i) % kInner;
          const bool is_in = position >= first && position < first + count;
          same &= BitsOf(some[i]) == (is_in ? BitsOf(all[i]) : 0);
          if (is_in) expected.push_back(all[i]);
        }
        CHECK_MESSAGE(same, target << ", " << count << " from " << first);
        CHECK_MESSAGE(SameBits(dense, expected), target << ", " << count << " from " << first << ", dense");
      }
    }
  });
}

// The heads of q and k in rows of packed q, k, v, as an engine has them: head h of a token at (h * 128).
TEST_CASE("query and key heads of packed rows, to a dense tensor and in place") {
  ForEachTarget([](const char* target) {
    constexpr int64_t kTokens = 7, kHeads = 4, kSize = 128, kRow = 3 * kHeads * kSize;
    std::vector<float> qkv(kTokens * kRow);
    for (size_t i = 0; i < qkv.size(); ++i) qkv[i] = Normal(i);
    std::vector<float> expected = qkv, expected_heads, heads(kTokens * 2 * kHeads * kSize);
    std::vector<float> scale(kSize);
    for (size_t i = 0; i < scale.size(); ++i) scale[i] = Normal(i + 99);
    const simdnorm::Options options = {target, 1};
    for (int64_t token = 0; token < kTokens; ++token) {
      for (int64_t head = 0; head < 2 * kHeads; ++head) {
        float* const at = &expected[static_cast<size_t>(token * kRow + head * kSize)];
        REQUIRE(simdnorm::RMSNorm(at, at, 1, kSize, {scale.data()}, options));
        expected_heads.insert(expected_heads.end(), at, at + kSize);
      }
    }
    simdnorm::RMSNormParams params{scale.data()};
    params.fusions.inner = 2 * kHeads;
    params.fusions.x_col_stride = 1;
    params.fusions.x_inner_stride = kSize;
    REQUIRE(simdnorm::RMSNorm({qkv.data(), kTokens, kSize, kRow}, {heads.data(), kTokens, kSize}, params, options));
    CHECK(SameBits(heads, expected_heads));
    params.fusions.y_col_stride = 1;
    params.fusions.y_inner_stride = kSize;
    REQUIRE(simdnorm::RMSNorm({qkv.data(), kTokens, kSize, kRow}, {qkv.data(), kTokens, kSize, kRow}, params, options));
    CHECK(SameBits(qkv, expected));
  });
}

// Checks that with lengths valid rows have the bits that they have without, and the others are zero or untouched.
void CheckLengths(const Problem& p, Executors executors = Executors::kInTurn) {
  Problem without = p;
  without.rows_per_sequence = 0;
  without.padding = SIMDNORM_PADDING_ZERO;
  Tensors tensors(p), all(without);
  tensors.Seal();
  const Outputs before = tensors.Collect();
  ForEachTarget([&](const char* target) {
    Outputs expected = Run(all, AllExecutors()[0].Options(target));
    // values[i] is of row i / per_row.
    const auto leave_out = [&](std::vector<float> Outputs::*output, float zero) {
      std::vector<float>& values = expected.*output;
      const int64_t per_row = static_cast<int64_t>(values.size()) / p.rows;
      for (int64_t i = 0; i < static_cast<int64_t>(values.size()); ++i) {
        if (p.IsValid(i / per_row)) continue;
        values[static_cast<size_t>(i)] = p.padding == SIMDNORM_PADDING_ZERO ? zero : (before.*output)[static_cast<size_t>(i)];
      }
    };
    leave_out(&Outputs::y, static_cast<float>(p.zero_point));  // what stands for zero
    for (const auto output : {&Outputs::mean, &Outputs::rstd, &Outputs::h, &Outputs::quant_scales, &Outputs::block_scales}) {
      leave_out(output, 0);
    }
    ForExecutors(executors, [&](const ExecutorCase& executor) {
      const std::string errors = Differences(expected, Run(tensors, executor.Options(target)));
      CHECK_MESSAGE(errors.empty(), errors << Describe(p, target, executor.name));
    });
  });
}

TEST_CASE("rows past their sequence's length are not looked at") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const simdnorm_padding padding : {SIMDNORM_PADDING_ZERO, SIMDNORM_PADDING_UNTOUCHED}) {
      for (const int64_t rows_per_sequence : {1, 2, 5, 16, 33}) {
        for (const int64_t cols : {1, 32, 100, 4128}) {
          if (cols != 32 && (SmallEffort() || (cols > 100 && rows_per_sequence > 5))) continue;
          for (uint64_t way = 0; way < 4; ++way) {
            Problem p = MixedProblem(op, rows_per_sequence * 5, cols, 1, 900 * way + static_cast<uint64_t>(cols));
            p.rows_per_sequence = rows_per_sequence;
            p.padding = padding;
            CheckLengths(p, way == 0 ? Executors::kAll : Executors::kInTurn);
          }
        }
      }
    }
  }
}

TEST_CASE("many sequences of different lengths, on all executors") {
  for (const simdnorm_padding padding : {SIMDNORM_PADDING_ZERO, SIMDNORM_PADDING_UNTOUCHED}) {
    Problem p;
    p.rows = SmallEffort() ? 40 : 400;
    p.cols = 512;
    p.rows_per_sequence = 20;
    p.padding = padding;
    CheckLengths(p, Executors::kAll);
  }
}

}  // namespace
}  // namespace simdnorm_test
