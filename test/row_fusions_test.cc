// What layer norm and RMS norm do round the normalization: residual, bias and h, weights per group of rows, activations, gate.
// All of it in any combination against the reference, and bit for bit against its steps taken one by one.
#include <algorithm>
#include <initializer_list>
#include <iterator>

#include "mixed_problem.h"
#include "problem.h"
#include "simdnorm/simdnorm.hpp"
#include "unfused.h"

namespace simdnorm_test {
namespace {

void Check(const Problem& p, Executors executors = Executors::kInTurn) {
  if (!IsInteger(p.y_dtype)) CheckProblem(p, executors);
  CheckUnfused(p, executors);
}

TEST_CASE("rows of every length up to 200 in mixed calls") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (int64_t cols = 1; cols <= 200; ++cols) {
      for (uint64_t way = 0; way < (SmallEffort() ? 1 : 12); ++way) {
        Check(MixedProblem(op, 1 + static_cast<int64_t>(way) % 4, cols, 1, way * 1000 + static_cast<uint64_t>(cols)));
      }
    }
  }
}

TEST_CASE("rows near the borders of chunks in mixed calls, on all executors") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const int64_t cols : {1024, 4095, 4096, 4097, 8192, 8192 + 5, 3 * 4096 + 32, 50000}) {
      if (SmallEffort() && cols != 4097) continue;
      for (uint64_t way = 0; way < (cols > 20000 || SmallEffort() ? 2 : 4); ++way) {
        Check(MixedProblem(op, cols > 20000 ? 1 : 2, cols, 1, way * 77 + static_cast<uint64_t>(cols)), Executors::kAll);
      }
    }
  }
}

TEST_CASE("many rows in mixed calls, on all executors") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (uint64_t way = 0; way < (SmallEffort() ? 1 : 12); ++way) {
      Check(MixedProblem(op, 16 + 5 * static_cast<int64_t>(way), 64, 1, 5000 + way), Executors::kAll);
      if (!SmallEffort() && way % 3 == 0) Check(MixedProblem(op, 70, 500, 1, 6000 + way), Executors::kAll);
    }
  }
}

// Adds of transformers: which input each output takes the place of.
TEST_CASE("residual adds in place") {
  struct Places {
    bool y_is_x, y_is_residual, h_is_x, h_is_residual;
  };
  constexpr Places kPlaces[] = {{true, false, false, true},   // vLLM's fused_add_rms_norm
                                {false, true, true, false},   //
                                {false, false, false, true},  //
                                {false, false, true, false},  //
                                {true, false, false, false},  //
                                {false, true, false, false}};
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const simdnorm_dtype dtype : kFloatDtypes) {
      for (const Places& places : kPlaces) {
        for (const int64_t cols : {5, 96, 4100}) {
          if (SmallEffort() && cols != 96) continue;
          for (const simdnorm_h_rounding rounding : {SIMDNORM_H_UNROUNDED, SIMDNORM_H_ROUNDED}) {
            for (const simdnorm_residual_order order : {SIMDNORM_RESIDUAL_BEFORE, SIMDNORM_RESIDUAL_AFTER}) {
              Problem p;
              p.op = op, p.rows = 3, p.cols = cols, p.x_gap = cols % 2 == 0 ? 3 : 0;
              p.x_dtype = p.y_dtype = p.scale_dtype = p.residual_dtype = p.h_dtype = dtype;
              p.residual = p.h = true;
              p.residual_order = order;
              p.h_rounding = rounding;
              p.in_place = places.y_is_x, p.y_is_residual = places.y_is_residual;
              p.h_is_x = places.h_is_x, p.h_is_residual = places.h_is_residual;
              Check(p);
              if (dtype != SIMDNORM_F32) continue;
              p.data = Data::kHuge;  // takes the statistics once more, in double, from what is there by then
              Check(p);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("statistics are those of the unrounded h, or of the rounded one if that is asked for") {
  ForEachTarget([](const char* target) {
    Problem p;
    p.rows = 3, p.cols = 100;
    p.x_dtype = p.residual_dtype = p.h_dtype = SIMDNORM_BF16;
    p.residual = p.h = true;
    const Outputs unrounded = RunSerial(p, target);
    p.h_rounding = SIMDNORM_H_ROUNDED;
    const Outputs rounded = RunSerial(p, target);
    CHECK(SameBits(rounded.h, unrounded.h));
    CHECK_FALSE(SameBits(rounded.y, unrounded.y));
    CHECK_FALSE(SameBits(rounded.rstd, unrounded.rstd));
    p.h = false;  // what is normalized does not depend on whether it is saved
    CHECK(SameBits(RunSerial(p, target).y, rounded.y));
  });
}

TEST_CASE("scale and shift for each group of rows") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const int64_t rows_per_scale : {1, 2, 3, 7, 42}) {
      for (const int64_t cols : {1, 33, 300, 4100}) {
        if (cols > 33 && (SmallEffort() || rows_per_scale % 7 != 0)) continue;
        for (unsigned given = 1; given < 4; ++given) {
          Problem p;
          p.op = op, p.rows = 42, p.cols = cols;
          p.rows_per_scale = rows_per_scale;
          p.scale_gap = rows_per_scale % 2 == 0 ? 9 : 0;
          p.scale = (given & 1) != 0;
          p.shift = (given & 2) != 0;
          if (!p.scale && !p.HasShift()) continue;
          p.scale_offset = p.scale && cols != 33 ? 1.0f : 0;
          p.scale_dtype = kFloatDtypes[(cols + rows_per_scale) % 3];
          Check(p, cols > 33 ? Executors::kAll : Executors::kInTurn);
        }
      }
    }
  }
}

TEST_CASE("a scale_offset of any size") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const float offset : {1.0f, -1.0f, 0.3f, 1e6f}) {
      for (const simdnorm_dtype dtype : kFloatDtypes) {
        Problem p;
        p.op = op, p.rows = 3, p.cols = 300;
        p.scale_offset = offset;
        p.scale_dtype = dtype;
        Check(p);
      }
    }
  }
}

// Of lists that many tests go through: what is new in the library is to be tested at once.
TEST_CASE("kActivations and kFloatDtypes hold all that the library takes") {
  const auto holds = [](const auto& list, int32_t value) {
    return std::find(std::begin(list), std::end(list), value) != std::end(list);
  };
  for (int32_t value = -1; value < 100; ++value) {
    CAPTURE(value);
    const float x = 1;
    float y;
    simdnorm::RMSNormParams params;
    params.fusions.activation = value;
    CHECK(simdnorm::RMSNorm(&x, &y, 1, 1, params).ok() == holds(kActivations, value));
    CHECK(simdnorm::RMSNorm({&x, value}, &y, 1, 1, {}).ok() == holds(kFloatDtypes, value));
  }
}

TEST_CASE("activations and gate of given values") {
  // Rows of zeros, so that what is activated is exactly shift.
  std::vector<float> values = {
      0.0f, -0.0f, FLT_MIN, -FLT_MIN, 1e-40f, -1e-40f, FLT_MAX, -FLT_MAX, kInf, -kInf, FloatOf(0xFFC00001u)};
  for (float v = -200; v < 200; v += 0.37f) values.push_back(v);
  for (float v = 1e-6f; v < 1e6f; v *= 1.9f) values.insert(values.end(), {v, -v});
  for (const simdnorm_activation activation : kActivations) {
    for (const bool gated : {false, true}) {
      for (const float slope : {0.0f, 0.01f, -2.5f}) {
        if (activation != SIMDNORM_LEAKY_RELU && slope != 0) continue;
        Problem p;
        p.rows = 2, p.cols = static_cast<int64_t>(values.size());
        p.scale = false;
        p.gate = gated;
        p.activation = activation;
        p.activation_slope = slope;
        Tensors tensors(p);
        for (int64_t i = 0; i < p.cols; ++i) {
          for (int64_t row = 0; row < p.rows; ++row) tensors.x[row * p.cols + i] = 0;
          (*tensors.shift)[i] = values[static_cast<size_t>(i)];
          // The second row's gates are the values from the last to the first. Not with Inf: what 0 times it is depends on
          // where a tiny product is rounded to 0.
          const float other = values[static_cast<size_t>(p.cols - 1 - i)];
          const bool both_finite = std::isfinite(other) && std::isfinite(values[static_cast<size_t>(i)]);
          if (gated) (*tensors.gate)[i] = 1, (*tensors.gate)[p.cols + i] = both_finite ? other : 1;
        }
        CheckTensorsUnfused(tensors);
      }
    }
  }
}

TEST_CASE("activations with every kind of data and dtype") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const simdnorm_activation activation : kActivations) {
      for (const simdnorm_dtype dtype : kFloatDtypes) {
        for (const bool gated : {false, true}) {
          for (const Data data : {Data::kNormal, Data::kNonFinite, Data::kHuge, Data::kOutlierFirst}) {
            if (SmallEffort() && data != Data::kNonFinite) continue;
            Problem p;
            p.op = op, p.rows = 6, p.cols = 77;
            p.data = data;
            p.activation = activation;
            p.activation_slope = activation == SIMDNORM_LEAKY_RELU ? 0.125f : 0;
            p.gate = gated;
            p.x_dtype = p.y_dtype = p.gate_dtype = dtype;
            Check(p);
          }
        }
      }
    }
  }
}

TEST_CASE("every kind of data plus a residual") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (int data = 0; data < kNumData; ++data) {
      for (const simdnorm_residual_order order : {SIMDNORM_RESIDUAL_BEFORE, SIMDNORM_RESIDUAL_AFTER}) {
        for (const int64_t cols : {33, 4100}) {
          if (SmallEffort() && cols != 33) continue;
          Problem p;
          p.op = op, p.rows = cols == 33 ? 12 : 5, p.cols = cols;
          p.data = static_cast<Data>(data);
          p.residual = p.bias = p.h = true;
          p.residual_order = order;
          p.h_dtype = kFloatDtypes[data % 3];
          Check(p);
        }
      }
    }
  }
}

TEST_CASE("NaN and Inf in residual, bias and gate") {
  std::vector<float> values = {kInf, -kInf};
  for (const uint32_t bits : kNaNs) values.push_back(FloatOf(bits));
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const simdnorm_residual_order order : {SIMDNORM_RESIDUAL_BEFORE, SIMDNORM_RESIDUAL_AFTER}) {
      for (const float value : values) {
        for (const simdnorm_dtype dtype : kFloatDtypes) {
          Problem p;
          p.op = op, p.rows = 5, p.cols = 100;
          p.residual = p.gate = p.h = true;
          p.residual_order = order;
          p.residual_dtype = p.gate_dtype = p.h_dtype = p.bias_dtype = p.y_dtype = dtype;
          Tensors tensors(p);
          tensors.residual->Set(130, value);
          tensors.gate->Set(321, value);
          CheckTensorsUnfused(tensors);
          p.bias = true;
          Tensors with_bias(p);
          with_bias.bias->Set(50, value);
          CheckTensorsUnfused(with_bias);
        }
      }
    }
  }
}

}  // namespace
}  // namespace simdnorm_test
