// Quantized outputs of layer norm and RMS norm: bit for bit what a scalar quantizer makes of the f32 output of the same call.
#include <initializer_list>

#include "mixed_problem.h"
#include "problem.h"
#include "unfused.h"

namespace simdnorm_test {
namespace {

struct Quantizer {
  simdnorm_dtype y_dtype;
  float quant_scale;  // 0: one for each row or block
  int32_t zero_point;
};
constexpr Quantizer kQuantizers[] = {{SIMDNORM_I8, 0.02f, 0},   {SIMDNORM_I8, 0.05f, -128}, {SIMDNORM_I8, 1e-3f, 127},
                                     {SIMDNORM_U8, 0.03f, 128}, {SIMDNORM_U8, 0.01f, 0},    {SIMDNORM_U8, 10.0f, 255},
                                     {SIMDNORM_I8, 0, 0},       {SIMDNORM_Q8_0, 0, 0}};

Problem QuantizeProblem(Op op, const Quantizer& quantizer, int64_t rows, int64_t cols) {
  Problem p;
  p.op = op;
  p.rows = rows;
  p.cols = quantizer.y_dtype == SIMDNORM_Q8_0 ? (cols + kBlock - 1) / kBlock * kBlock : cols;
  p.y_dtype = quantizer.y_dtype;
  p.quant_scale = quantizer.quant_scale;
  p.zero_point = quantizer.zero_point;
  return p;
}

TEST_CASE("quantized rows of every length up to 200") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const Quantizer& quantizer : kQuantizers) {
      for (int64_t cols = 1; cols <= 200; ++cols) {
        if (quantizer.y_dtype == SIMDNORM_Q8_0 && cols % 8 != 0) continue;
        Problem p = QuantizeProblem(op, quantizer, 1 + cols % 4, cols);
        p.x_dtype = kFloatDtypes[cols % 3];
        p.scale = cols % 5 != 0;
        p.residual = p.h = cols % 2 == 0;
        p.x_gap = cols % 7;
        p.y_gap = cols % 2 == 0 ? kBlock : 0;
        p.place = {cols % 3 != 0, cols % 16};
        CheckUnfused(p);
      }
    }
  }
}

TEST_CASE("long and many quantized rows, on all executors") {
  struct Shape {
    int64_t rows, cols;
  };
  for (const Quantizer& quantizer : kQuantizers) {
    for (const Shape& shape : {Shape{2, 4096}, Shape{1, 4128}, Shape{2, 10016}, Shape{1, 50016}, Shape{50, 512}}) {
      if (SmallEffort() && shape.rows * shape.cols > 10000) continue;
      CheckUnfused(QuantizeProblem(Op::kLayerNorm, quantizer, shape.rows, shape.cols), Executors::kAll);
      Problem p = QuantizeProblem(Op::kRMSNorm, quantizer, shape.rows, shape.cols);
      p.residual = p.h = true;
      p.x_dtype = p.residual_dtype = p.h_dtype = SIMDNORM_BF16;
      p.activation = SIMDNORM_SILU;
      CheckUnfused(p, Executors::kAll);
    }
  }
}

TEST_CASE("quantized rows of every kind of data") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const Quantizer& quantizer : kQuantizers) {
      for (int data = 0; data < kNumData; ++data) {
        for (const int64_t cols : {64, 4128}) {
          if (SmallEffort() && cols != 64) continue;
          Problem p = QuantizeProblem(op, quantizer, cols == 64 ? 12 : 5, cols);
          p.data = static_cast<Data>(data);
          p.shift = data % 2 == 0;  // without it a constant row is one of zeros
          CheckUnfused(p);
        }
      }
    }
  }
}

// Rows of zeros, so that what is quantized is exactly shift.
void CheckQuantized(const Quantizer& quantizer, const std::vector<float>& values) {
  Tensors tensors(QuantizeProblem(Op::kLayerNorm, quantizer, 2, static_cast<int64_t>(values.size())));
  for (int64_t i = 0; i < tensors.x.size(); ++i) tensors.x[i] = 0;
  for (int64_t i = 0; i < tensors.shift->size(); ++i) (*tensors.shift)[i] = values[static_cast<size_t>(i) % values.size()];
  CheckTensorsUnfused(tensors);
}

TEST_CASE("ties, saturation, values that are not finite, factors of any size") {
  for (const Quantizer& quantizer : kQuantizers) {
    const float step = quantizer.quant_scale != 0 ? quantizer.quant_scale : 0.25f;
    std::vector<float> values;
    for (int k = -300; k <= 300; ++k) values.push_back(static_cast<float>(k) * step / 2);
    CheckQuantized(quantizer, values);
    CheckQuantized({quantizer.y_dtype, quantizer.quant_scale != 0 ? 0.5f : 0, quantizer.zero_point}, values);
    for (const float size : {FLT_MAX, 1e30f, 1e-30f, FLT_MIN, 1e-43f, FLT_TRUE_MIN, 0.0f}) {
      CheckQuantized(quantizer, {size, -size, size / 2, size / 3, 0, -0.0f});
    }
    for (const float special : {kInf, -kInf, FloatOf(kQuietNaN)}) {
      values[70] = special;
      CheckQuantized(quantizer, values);
      CheckQuantized(quantizer, {special});
    }
  }
}

}  // namespace
}  // namespace simdnorm_test
