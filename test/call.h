// A call as data: what to normalize, how the arguments lie in memory, which of them are given.
#ifndef SIMDNORM_TEST_CALL_H_
#define SIMDNORM_TEST_CALL_H_

#include <stdint.h>

#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>

#include "buffers.h"
#include "compare.h"
#include "simdnorm/simdnorm.h"
#include "values.h"

namespace simdnorm_test {

// SIMDNORM_TEST_EFFORT=small is for emulators: every target and tail length, but far fewer ways to combine them.
inline bool SmallEffort() {
  const char* const effort = getenv("SIMDNORM_TEST_EFFORT");
  return effort != nullptr && strcmp(effort, "small") == 0;
}

// How rows with inner positions lie in memory.
enum class View {
  kChannelsFirst,  // [rows, cols, inner]
  kHeads,          // [rows, inner, cols]
  kHeadsFirst,     // [inner, rows, cols]
};

// Of a tensor of rows: element (row, col, inner position) is at row * .row + col * .col + position * .inner.
struct Strides {
  int64_t row, col, inner;
};

struct Problem {
  Op op = Op::kLayerNorm;
  // Layer norm and RMS norm.
  int64_t rows = 1, cols = 1;
  int64_t x_gap = 0, y_gap = 0;  // elements between rows; where x has gaps, so have residual, h and gate
  // Batch norm.
  int64_t batch = 1, channels = 1, spatial = 1;
  simdnorm_layout layout = SIMDNORM_NCHW;
  bool running = true;
  simdnorm_running_variance_kind running_variance_kind = SIMDNORM_UNBIASED;
  float momentum = 0.1f;

  Data data = Data::kNormal;
  int64_t first_item = 0;  // item i holds what item first_item + i of a larger problem holds
  float epsilon = 1e-5f;
  bool scale = true, shift = true, mean = true, rstd = true;
  bool in_place = false;  // y is x
  Place place = {};

  // All that follows is of layer norm and RMS norm.
  simdnorm_dtype x_dtype = SIMDNORM_F32, y_dtype = SIMDNORM_F32, scale_dtype = SIMDNORM_F32;
  float scale_offset = 0;
  int64_t rows_per_scale = 0, scale_gap = 0;
  bool residual = false, bias = false, h = false, gate = false;
  simdnorm_dtype residual_dtype = SIMDNORM_F32, bias_dtype = SIMDNORM_F32, h_dtype = SIMDNORM_F32, gate_dtype = SIMDNORM_F32;
  simdnorm_residual_order residual_order = SIMDNORM_RESIDUAL_BEFORE;
  simdnorm_h_rounding h_rounding = SIMDNORM_H_UNROUNDED;
  bool y_is_residual = false, y_is_gate = false, h_is_x = false, h_is_residual = false;  // in place
  simdnorm_activation activation = SIMDNORM_NO_ACTIVATION;
  float activation_slope = 0;
  float quant_scale = 0;  // of y in i8 or u8; without it i8 has a factor for each row
  int32_t zero_point = 0;
  int64_t rows_per_sequence = 0;  // n > 0: of every n rows as many are valid as Length says; x is NaN in the others
  simdnorm_padding padding = SIMDNORM_PADDING_ZERO;
  int64_t inner = 1;
  View x_view = View::kChannelsFirst, y_view = View::kChannelsFirst;

  bool IsBatchNorm() const { return op == Op::kBatchNormInference || op == Op::kBatchNormTraining; }
  int64_t Items() const { return IsBatchNorm() ? channels : rows * inner; }
  int64_t ItemSize() const { return IsBatchNorm() ? batch * spatial : cols; }
  int64_t Elements() const { return Items() * ItemSize(); }
  Place OtherPlace() const { return {place.at_end, place.offset * 5 % 16}; }  // of everything but x
  bool HasShift() const { return shift && op != Op::kRMSNorm; }
  bool SavesMean() const { return mean && (op == Op::kLayerNorm || op == Op::kBatchNormTraining); }
  bool SavesRstd() const { return rstd && op != Op::kBatchNormInference; }
  bool HasRunning() const { return running && op == Op::kBatchNormTraining; }
  bool HasQuantScales() const { return y_dtype == SIMDNORM_I8 && quant_scale == 0; }

  Strides StridesOf(View view, int64_t gap) const {
    if (inner == 1) return {cols + gap, 1, 0};
    if (view == View::kHeads) return {inner * (cols + gap) + 2 * gap, 1, cols + gap};
    if (view == View::kHeadsFirst) return {cols + gap, 1, rows * (cols + gap) + gap};
    return {cols * (inner + gap) + gap, inner + gap, 1};
  }
  Strides XStrides() const { return StridesOf(x_view, x_gap); }
  Strides ResidualStrides() const { return StridesOf(View(), x_gap != 0 ? x_gap + 2 : 0); }
  Strides GateStrides() const { return StridesOf(View(), x_gap != 0 ? x_gap + 4 : 0); }
  Strides YStrides() const {
    if (in_place) return XStrides();
    return y_is_residual ? ResidualStrides() : y_is_gate ? GateStrides() : StridesOf(y_view, y_gap);
  }
  Strides HStrides() const {
    return h_is_x ? XStrides() : h_is_residual ? ResidualStrides() : StridesOf(View(), x_gap != 0 ? x_gap + 6 : 0);
  }
  int64_t XStride() const { return XStrides().row; }
  int64_t YStride() const { return YStrides().row; }

  // Where value j of an item is in such a tensor, and how large that is.
  int64_t At(const Strides& strides, int64_t item, int64_t j) const {
    return item / inner * strides.row + j * strides.col + item % inner * strides.inner;
  }
  int64_t Span(const Strides& strides) const { return Elements() == 0 ? 0 : At(strides, Items() - 1, cols - 1) + 1; }

  // How many of a sequence's rows are valid: none of the first's, all of the second's.
  int64_t Length(int64_t sequence) const {
    if (sequence < 2) return sequence * rows_per_sequence;
    return static_cast<int64_t>(Mix(static_cast<uint64_t>(sequence)) % static_cast<uint64_t>(rows_per_sequence + 1));
  }
  bool IsValid(int64_t row) const {
    return rows_per_sequence == 0 || row % rows_per_sequence < Length(row / rows_per_sequence);
  }
};

// What distinguishes calls of one shape, as bits of a number: which arguments are given, and how they lie.
constexpr unsigned kNumVariants = 128;
inline Problem Variant(Problem p, unsigned variant) {
  p.scale = (variant & 1) != 0;
  p.in_place = (variant & 2) != 0;
  p.x_gap = (variant & 4) != 0 ? 3 : 0;
  p.y_gap = (variant & 4) != 0 ? 7 : 0;
  p.layout = (variant & 4) != 0 ? SIMDNORM_NHWC : SIMDNORM_NCHW;
  p.place = {(variant & 8) != 0, 0};
  p.rstd = (variant & 16) != 0;
  p.running = p.rstd != p.scale;
  p.running_variance_kind = p.in_place && p.ItemSize() != 1 ? SIMDNORM_UNBIASED : SIMDNORM_BIASED;
  p.shift = (variant & 32) != 0;
  p.mean = (variant & 64) != 0;
  return p;
}

// What a problem of rows has besides a plain call: " name value" for each.
inline std::string DescribeFusions(const Problem& p) {
  std::ostringstream s;
  s << ' ' << DtypeName(p.x_dtype) << " to " << DtypeName(p.y_dtype) << ", scale " << DtypeName(p.scale_dtype);
  if (p.scale_offset != 0) s << " + " << p.scale_offset;
  if (p.rows_per_scale != 0) s << " for " << p.rows_per_scale << " rows, gap " << p.scale_gap;
  if (p.residual) s << ", residual " << DtypeName(p.residual_dtype) << (p.residual_order == 0 ? " before" : " after");
  if (p.bias) s << ", bias " << DtypeName(p.bias_dtype);
  if (p.h || p.h_rounding != 0)
    s << ", h " << DtypeName(p.h_dtype) << (p.h_rounding == 0 ? "" : " rounded") << (p.h ? "" : " unsaved");
  if (p.gate) s << ", gate " << DtypeName(p.gate_dtype);
  if (p.y_is_residual || p.y_is_gate) s << ", y is " << (p.y_is_gate ? "gate" : "residual");
  if (p.h_is_x || p.h_is_residual) s << ", h is " << (p.h_is_x ? "x" : "residual");
  if (p.activation != SIMDNORM_NO_ACTIVATION) s << ", activation " << p.activation << " slope " << p.activation_slope;
  if (p.quant_scale != 0) s << ", quant_scale " << p.quant_scale << " zero_point " << p.zero_point;
  if (p.rows_per_sequence != 0) s << ", sequences of " << p.rows_per_sequence << " padding " << p.padding;
  if (p.inner != 1) {
    s << ", inner " << p.inner << " views " << static_cast<int>(p.x_view) << ' ' << static_cast<int>(p.y_view);
  }
  return s.str();
}

inline std::string Describe(const Problem& p, const char* target, const char* executor = "serial") {
  std::ostringstream s;
  s << OpName(p.op);
  if (p.IsBatchNorm()) {
    s << " batch " << p.batch << " channels " << p.channels << " spatial " << p.spatial
      << (p.layout == SIMDNORM_NCHW ? " NCHW" : " NHWC");
    if (p.HasRunning()) {
      s << " running " << (p.running_variance_kind == SIMDNORM_UNBIASED ? "unbiased" : "biased") << " momentum " << p.momentum;
    }
  } else {
    s << ' ' << p.rows << 'x' << p.cols << " gaps " << p.x_gap << ' ' << p.y_gap << DescribeFusions(p);
  }
  s << " data " << static_cast<int>(p.data) << " epsilon " << p.epsilon << (p.scale ? " scale" : "")
    << (p.HasShift() ? " shift" : "") << (p.SavesMean() ? " mean" : "") << (p.SavesRstd() ? " rstd" : "")
    << (p.in_place ? " in place" : "") << (p.place.at_end ? " at end" : " at start") << " + " << p.place.offset << " on "
    << (target != nullptr ? target : "the default target") << ", " << executor;
  return s.str();
}

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_CALL_H_
