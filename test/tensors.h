// A call's arguments in memory, and what it leaves there.
#ifndef SIMDNORM_TEST_TENSORS_H_
#define SIMDNORM_TEST_TENSORS_H_

#include <stdint.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "buffers.h"
#include "call.h"
#include "reference.h"
#include "simdnorm/simdnorm.h"
#include "values.h"

namespace simdnorm_test {

// Everything that a call wrote, as f32 with as many different values; what was not asked for is empty.
struct Outputs {
  std::vector<float> y;  // rows: item by item; batch norm: in the order of memory
  std::vector<float> mean, rstd, running_mean, running_variance;
  std::vector<float> h;             // as y
  std::vector<float> quant_scales;  // by row
  std::vector<float> block_scales;  // of Q8_0

  static constexpr const char* kNames[] = {"y", "mean",         "rstd",        "running_mean", "running_variance",
                                           "h", "quant_scales", "block_scales"};
  std::vector<const std::vector<float>*> All() const {
    return {&y, &mean, &rstd, &running_mean, &running_variance, &h, &quant_scales, &block_scales};
  }
};

inline bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

inline bool SameBits(const Outputs& a, const Outputs& b) {
  for (size_t i = 0; i < a.All().size(); ++i) {
    if (!SameBits(*a.All()[i], *b.All()[i])) return false;
  }
  return true;
}

// "" or the first bits that differ.
inline std::string Differences(const Outputs& expected, const Outputs& actual) {
  std::ostringstream s;
  for (size_t output = 0; output < expected.All().size(); ++output) {
    const std::vector<float>&a = *expected.All()[output], &b = *actual.All()[output];
    if (SameBits(a, b)) continue;
    size_t i = 0;
    while (i < a.size() && i < b.size() && BitsOf(a[i]) == BitsOf(b[i])) ++i;
    s << Outputs::kNames[output] << '[' << i << " of " << a.size() << ']';
    if (i < a.size() && i < b.size()) s << std::hexfloat << " is " << b[i] << ", should be " << a[i];
    s << "; ";
  }
  return s.str();
}

// A problem's arguments in guarded memory. Inputs are filled in, and cannot be written once the tensors are sealed.
class Tensors {
 public:
  explicit Tensors(const Problem& problem)
      : p(problem),
        x(p.IsBatchNorm() ? p.Elements() : p.Span(p.XStrides()), p.place, p.x_dtype),
        y(p.IsBatchNorm() ? p.Elements() : p.Span(p.YStrides()), p.OtherPlace(), p.y_dtype) {
    ForEachElement([&](int64_t item, int64_t j, int64_t x_at, int64_t /*dense_at*/) {
      if (p.IsValid(item / p.inner)) x.Set(x_at, Value(p.data, p.first_item + item, j, p.ItemSize()));
    });
    if (p.scale) FillParameters(scale, 4);
    if (p.HasShift()) FillParameters(shift, 5);
    if (p.op == Op::kBatchNormInference) {
      Fill(given_mean, p.channels, SIMDNORM_F32, [&](int64_t i) { return GivenMean(p.data, p.first_item + i, p.ItemSize()); });
      Fill(given_variance, p.channels, SIMDNORM_F32, [&](int64_t i) { return GivenVariance(p.data, p.first_item + i); });
    }
    if (p.residual) FillRows(residual, p.residual_dtype, p.ResidualStrides(), 8);
    if (p.gate) FillRows(gate, p.gate_dtype, p.GateStrides(), 9);
    if (p.bias) Fill(bias, p.cols, p.bias_dtype, [](int64_t i) { return Normal(Seed(10, i, 0)); });
    if (p.h) h.emplace(p.Span(p.HStrides()), p.OtherPlace(), p.h_dtype);
    if (p.HasQuantScales()) quant_scales.emplace(p.rows, p.OtherPlace());
    if (p.rows_per_sequence != 0) {
      for (int64_t s = 0; s < p.rows / p.rows_per_sequence; ++s) lengths.push_back(p.Length(s));
    }
    if (p.SavesMean()) mean.emplace(p.Items(), p.OtherPlace());
    if (p.SavesRstd()) rstd.emplace(p.Items(), p.OtherPlace());
    if (p.HasRunning()) {
      running_mean.emplace(p.Items(), p.OtherPlace());
      running_variance.emplace(p.Items(), p.OtherPlace());
      for (int64_t i = 0; i < p.Items(); ++i) {
        running_mean_before_.push_back(Normal(Seed(6, p.first_item + i, 0)));
        running_variance_before_.push_back(std::fabs(Normal(Seed(7, p.first_item + i, 0))));
      }
    }
    Reset();
  }

  // From here on inputs are read-only memory.
  void Seal() {
    x.MakeReadOnly();
    for (auto* input : {&scale, &shift, &given_mean, &given_variance, &residual, &bias, &gate}) {
      if (*input) (*input)->MakeReadOnly();
    }
  }

  // Outputs as they are before a call. Copies only: tests call this in floating-point environments of all sorts.
  void Reset() {
    y.FillWithCanaries();
    for (auto* output : {&mean, &rstd, &h, &quant_scales}) {
      if (*output) (*output)->FillWithCanaries();
    }
    if (p.in_place) y.CopyFrom(x);
    if (p.y_is_residual) y.CopyFrom(*residual);
    if (p.y_is_gate) y.CopyFrom(*gate);
    if (p.h_is_x) h->CopyFrom(x);
    if (p.h_is_residual) h->CopyFrom(*residual);
    if (p.HasRunning()) {
      std::copy(running_mean_before_.begin(), running_mean_before_.end(), running_mean->data());
      std::copy(running_variance_before_.begin(), running_variance_before_.end(), running_variance->data());
    }
  }

  // Calls visit(item, j, index in x, index among outputs) for every element, j being its place in the item.
  template <class Visit>
  void ForEachElement(const Visit& visit) const {
    const Strides x_strides = p.XStrides();
    for (int64_t item = 0; item < p.Items(); ++item) {
      const int64_t x_begin = p.At(x_strides, item, 0);
      for (int64_t j = 0; j < p.ItemSize(); ++j) {
        if (!p.IsBatchNorm()) {
          visit(item, j, x_begin + j * x_strides.col, item * p.cols + j);
        } else {
          const int64_t sample = j / p.spatial, place = j % p.spatial;
          const int64_t at = p.layout == SIMDNORM_NCHW ? (sample * p.channels + item) * p.spatial + place
                                                       : (sample * p.spatial + place) * p.channels + item;
          visit(item, j, at, at);
        }
      }
    }
  }

  // Where inputs come from that an output takes the place of: from buffers of their own, or from that output's.
  enum class Inputs { kOwn, kInPlace };

  // Calls call(args) with the C struct of the problem's operation.
  template <class CallWith>
  auto WithArgs(Inputs inputs, const CallWith& call) const {
    if (!p.IsBatchNorm()) return WithRowArgs(inputs, call);
    const auto channels = [&](auto args) {
      args = CommonArgs(args);
      args.x = p.in_place && inputs == Inputs::kInPlace ? y.raw() : x.raw();
      args.shift = Raw(shift);
      args.layout = p.layout;
      args.batch = p.batch;
      args.channels = p.channels;
      args.spatial = p.spatial;
      return args;
    };
    if (p.op == Op::kBatchNormInference) {
      auto args = channels(simdnorm_batch_norm_inference_args());
      args.mean = Pointer(given_mean);
      args.variance = Pointer(given_variance);
      return call(args);
    }
    auto args = channels(simdnorm_batch_norm_training_args());
    args.momentum = p.momentum;
    args.running_variance_kind = p.running_variance_kind;
    args.mean = Pointer(mean);
    args.rstd = Pointer(rstd);
    args.running_mean = Pointer(running_mean);
    args.running_variance = Pointer(running_variance);
    return call(args);
  }

  // The same of a problem of rows.
  template <class CallWith>
  auto WithRowArgs(Inputs inputs, const CallWith& call) const {
    if (p.op == Op::kRMSNorm) return call(RowArgs(inputs, simdnorm_rms_norm_args()));
    auto args = RowArgs(inputs, simdnorm_layer_norm_args());
    args.shift = Raw(shift);
    args.mean = Pointer(mean);
    return call(args);
  }

  Expected Expect() const {
    return WithArgs(Inputs::kOwn, [](const auto& args) { return Reference(args); });
  }

  // What the last call left.
  Outputs Collect() const {
    Outputs outputs;
    const auto rows = [&](const GuardedBuffer& from, const Strides& strides, std::vector<float>& to) {
      to.reserve(static_cast<size_t>(p.Elements()));
      for (int64_t item = 0; item < p.Items(); ++item) {
        const int64_t begin = p.At(strides, item, 0);
        for (int64_t j = 0; j < p.cols; ++j) to.push_back(from.Get(begin + j * strides.col));
      }
    };
    const auto copy = [](const std::optional<GuardedBuffer>& buffer, std::vector<float>& to) {
      if (buffer) to.assign(buffer->data(), buffer->data() + buffer->size());
    };
    if (p.IsBatchNorm()) {
      outputs.y.assign(y.data(), y.data() + y.size());
    } else {
      rows(y, p.YStrides(), outputs.y);
    }
    if (h) rows(*h, p.HStrides(), outputs.h);
    if (p.y_dtype == SIMDNORM_Q8_0) {
      const auto* const blocks = static_cast<const simdnorm_q8_0*>(y.raw());
      for (int64_t row = 0; row < p.rows; ++row) {
        for (int64_t j = 0; j < p.cols; j += kBlock) {
          outputs.block_scales.push_back(FromF16(blocks[(row * p.YStride() + j) / kBlock].d));
        }
      }
    }
    copy(mean, outputs.mean);
    copy(rstd, outputs.rstd);
    copy(running_mean, outputs.running_mean);
    copy(running_variance, outputs.running_variance);
    copy(quant_scales, outputs.quant_scales);
    return outputs;
  }

  // Whether no call wrote anything but outputs.
  bool OnlyOutputsWritten() const {
    for (const auto* output : {&mean, &rstd, &running_mean, &running_variance, &quant_scales}) {
      if (*output && !(*output)->OutsideIsUntouched()) return false;
    }
    return y.OutsideIsUntouched() && (p.IsBatchNorm() || GapsAreUntouched(y, p.YStrides())) &&
           (!h || (h->OutsideIsUntouched() && GapsAreUntouched(*h, p.HStrides())));
  }

  const Problem p;
  GuardedBuffer x, y;
  std::optional<GuardedBuffer> scale, shift, given_mean, given_variance, mean, rstd, running_mean, running_variance;
  std::optional<GuardedBuffer> residual, bias, gate, h, quant_scales;
  std::vector<int64_t> lengths;

 private:
  template <class At>
  void Fill(std::optional<GuardedBuffer>& buffer, int64_t size, simdnorm_dtype dtype, const At& at) {
    buffer.emplace(size, p.OtherPlace(), dtype);
    for (int64_t i = 0; i < size; ++i) buffer->Set(i, at(i));
  }

  // Scale or shift: of channels, or of columns, several rows of them if rows_per_scale says so.
  void FillParameters(std::optional<GuardedBuffer>& buffer, int64_t stream) {
    if (p.IsBatchNorm()) {
      Fill(buffer, p.channels, p.scale_dtype, [&](int64_t i) { return Normal(Seed(stream, p.first_item + i, 0)); });
      return;
    }
    const int64_t sets = p.rows_per_scale == 0 ? 1 : p.rows / p.rows_per_scale, stride = p.cols + p.scale_gap;
    buffer.emplace((sets - 1) * stride + p.cols, p.OtherPlace(), p.scale_dtype);
    for (int64_t set = 0; set < sets; ++set) {
      for (int64_t c = 0; c < p.cols; ++c) buffer->Set(set * stride + c, Normal(Seed(stream, c, set)));
    }
  }

  // A tensor of x's rows.
  void FillRows(std::optional<GuardedBuffer>& buffer, simdnorm_dtype dtype, const Strides& strides, int64_t stream) {
    buffer.emplace(p.Span(strides), p.OtherPlace(), dtype);
    ForEachElement([&](int64_t item, int64_t j, int64_t /*x_at*/, int64_t /*dense_at*/) {
      if (p.IsValid(item)) buffer->Set(p.At(strides, item, j), 3 * Normal(Seed(stream, p.first_item + item, j)));
    });
  }

  template <class Args>
  Args CommonArgs(Args args) const {
    args.struct_size = sizeof(args);
    args.epsilon = p.epsilon;
    args.x_dtype = p.x_dtype;
    args.y_dtype = p.y_dtype;
    args.scale_dtype = p.scale_dtype;
    args.y = y.raw();
    args.scale = Raw(scale);
    return args;
  }

  template <class Args>
  Args RowArgs(Inputs inputs, Args args) const {
    args = CommonArgs(args);
    const bool in_place = inputs == Inputs::kInPlace;
    args.x = in_place && p.in_place ? y.raw() : in_place && p.h_is_x ? h->raw() : x.raw();
    const auto row_stride = [&](const Strides& strides) { return strides.row != p.cols * p.inner ? strides.row : 0; };
    args.rows = p.rows;
    args.cols = p.cols;
    args.x_row_stride = row_stride(p.XStrides());
    args.y_row_stride = row_stride(p.YStrides());
    args.rstd = Pointer(rstd);
    args.scale_offset = p.scale_offset;
    args.activation = p.activation;
    args.activation_slope = p.activation_slope;
    args.residual_dtype = p.residual_dtype;
    args.bias_dtype = p.bias_dtype;
    args.h_dtype = p.h_dtype;
    args.gate_dtype = p.gate_dtype;
    args.residual_order = p.residual_order;
    args.h_rounding = p.h_rounding;
    args.padding = p.padding;
    args.quant_scale = p.quant_scale;
    args.zero_point = p.zero_point;
    args.residual = in_place && p.y_is_residual ? y.raw() : in_place && p.h_is_residual ? h->raw() : Raw(residual);
    args.bias = Raw(bias);
    args.h = Raw(h);
    args.gate = in_place && p.y_is_gate ? y.raw() : Raw(gate);
    args.residual_row_stride = residual ? row_stride(p.ResidualStrides()) : 0;
    args.h_row_stride = h ? row_stride(p.HStrides()) : 0;
    args.gate_row_stride = gate ? row_stride(p.GateStrides()) : 0;
    args.rows_per_scale = p.rows_per_scale;
    args.scale_row_stride = p.scale_gap != 0 ? p.cols + p.scale_gap : 0;
    args.quant_scales = Pointer(quant_scales);
    args.lengths = lengths.empty() ? nullptr : lengths.data();
    args.rows_per_sequence = p.rows_per_sequence;
    if (p.inner != 1) {
      const auto spell_out = [&](const Strides& strides, int64_t* col_stride, int64_t* inner_stride) {
        if (strides.col != p.inner) *col_stride = strides.col, *inner_stride = strides.inner;
      };
      args.inner = p.inner;
      spell_out(p.XStrides(), &args.x_col_stride, &args.x_inner_stride);
      spell_out(p.YStrides(), &args.y_col_stride, &args.y_inner_stride);
    }
    return args;
  }

  // Whether what lies between the elements of rows holds canaries.
  bool GapsAreUntouched(const GuardedBuffer& rows, const Strides& strides) const {
    if (rows.size() == p.Elements()) return true;
    std::vector<bool> is_gap(static_cast<size_t>(rows.size()), true);
    for (int64_t item = 0; item < p.Items(); ++item) {
      for (int64_t j = 0; j < p.cols; ++j) is_gap[static_cast<size_t>(p.At(strides, item, j))] = false;
    }
    const int64_t unit = UnitElements(rows.dtype());
    for (int64_t i = 0; i < rows.size(); i += unit) {
      if (is_gap[static_cast<size_t>(i)] && !rows.IsUntouched(i, i + unit)) return false;
    }
    return true;
  }

  static float* Pointer(const std::optional<GuardedBuffer>& buffer) { return buffer ? buffer->data() : nullptr; }
  static void* Raw(const std::optional<GuardedBuffer>& buffer) { return buffer ? buffer->raw() : nullptr; }

  std::vector<float> running_mean_before_, running_variance_before_;
};

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_TENSORS_H_
