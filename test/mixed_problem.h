// Calls of layer norm and RMS norm with all that they can do at once, in any combination that is allowed, out of a number.
#ifndef SIMDNORM_TEST_MIXED_PROBLEM_H_
#define SIMDNORM_TEST_MIXED_PROBLEM_H_

#include <initializer_list>
#include <vector>

#include "problem.h"

namespace simdnorm_test {

// Draws that depend on nothing but the seed.
class Choices {
 public:
  explicit Choices(uint64_t seed) : state_(seed) {}
  uint64_t Below(uint64_t count) { return (state_ = Mix(state_)) % count; }
  bool Coin() { return Below(2) == 0; }
  template <class T>
  T Of(std::initializer_list<T> values) {
    return values.begin()[Below(values.size())];
  }
  simdnorm_dtype FloatDtype() { return kFloatDtypes[Below(3)]; }

 private:
  uint64_t state_;
};

inline bool CanTakeThePlaceOf(simdnorm_dtype output, simdnorm_dtype input) {
  return !IsInteger(output) && UnitBytes(output) == UnitBytes(input);
}

// Whether y and h take the place of inputs, and of which.
inline void ChoosePlaces(Choices& choices, Problem& p) {
  switch (choices.Below(4)) {
    case 0:
      p.in_place = CanTakeThePlaceOf(p.y_dtype, p.x_dtype);
      break;
    case 1:
      p.y_is_residual = p.residual && CanTakeThePlaceOf(p.y_dtype, p.residual_dtype);
      break;
    case 2:
      p.y_is_gate = p.gate && CanTakeThePlaceOf(p.y_dtype, p.gate_dtype);
      break;
    default:
      break;
  }
  if (choices.Coin()) p.h_is_x = p.h && !p.in_place && CanTakeThePlaceOf(p.h_dtype, p.x_dtype);
  if (choices.Coin()) {
    p.h_is_residual = p.h && p.residual && !p.h_is_x && !p.y_is_residual && CanTakeThePlaceOf(p.h_dtype, p.residual_dtype);
  }
}

// What goes with whole rows only.
inline void ChooseWhatRowsHave(Choices& choices, Problem& p) {
  p.residual = choices.Below(3) != 0;
  p.residual_order = choices.Of({SIMDNORM_RESIDUAL_BEFORE, SIMDNORM_RESIDUAL_AFTER});
  p.bias = choices.Below(3) == 0;
  p.h = choices.Coin();
  p.h_rounding = choices.Of({SIMDNORM_H_UNROUNDED, SIMDNORM_H_ROUNDED});
  p.gate = choices.Below(3) == 0;
  if (!p.residual) p.residual_order = SIMDNORM_RESIDUAL_BEFORE;
  if (!p.h && !p.residual && !p.bias) p.h_rounding = SIMDNORM_H_UNROUNDED;
  p.residual_dtype = choices.FloatDtype();
  p.bias_dtype = choices.FloatDtype();
  p.h_dtype = choices.FloatDtype();
  p.gate_dtype = choices.FloatDtype();
  if (choices.Below(3) == 0) {
    p.y_dtype = p.cols % kBlock == 0 && choices.Coin() ? SIMDNORM_Q8_0 : choices.Of({SIMDNORM_I8, SIMDNORM_U8});
  }
  if (p.y_dtype == SIMDNORM_U8 || (p.y_dtype == SIMDNORM_I8 && choices.Coin())) {
    p.quant_scale = choices.Of({0.02f, 0.1f});
    p.zero_point = choices.Of({0, 3, 100});
  }
}

inline Problem MixedProblem(Op op, int64_t rows, int64_t cols, int64_t inner, uint64_t seed) {
  Choices choices(seed);
  Problem p;
  p.op = op;
  p.rows = rows;
  p.cols = cols;
  p.inner = inner;
  p.x_dtype = choices.FloatDtype();
  p.y_dtype = choices.FloatDtype();
  p.scale_dtype = choices.FloatDtype();
  p.scale = choices.Below(4) != 0;
  p.shift = choices.Coin();
  p.mean = choices.Coin();
  p.rstd = choices.Coin();
  if (p.scale) p.scale_offset = choices.Of({0.0f, 1.0f});
  if (p.scale || p.HasShift()) {
    p.rows_per_scale = choices.Of<int64_t>({0, 1, rows % 2 == 0 ? rows / 2 : rows});
    if (p.rows_per_scale != 0) p.scale_gap = choices.Of<int64_t>({0, 5});
  }
  p.activation = static_cast<simdnorm_activation>(choices.Below(10));
  if (p.activation > SIMDNORM_GELU_TANH) p.activation = SIMDNORM_NO_ACTIVATION;
  p.activation_slope = p.activation == SIMDNORM_LEAKY_RELU ? 0.3f : 0;
  p.x_gap = choices.Of<int64_t>({0, 3});
  if (inner != 1) {
    p.x_view = choices.Of({View::kChannelsFirst, View::kHeads, View::kHeadsFirst});
    p.y_view = p.x_view == View::kChannelsFirst ? p.x_view : choices.Of({View::kHeads, View::kHeadsFirst});
  } else {
    ChooseWhatRowsHave(choices, p);
  }
  p.y_gap = choices.Coin() ? 0 : p.y_dtype == SIMDNORM_Q8_0 ? kBlock : 7;
  ChoosePlaces(choices, p);
  p.place = {choices.Coin(), static_cast<int64_t>(choices.Below(16))};
  return p;
}

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_MIXED_PROBLEM_H_
