// simdnorm for C++17: the C API with typed pointers, default arguments and results. All inline over simdnorm.h: no state, no
// exceptions, no RTTI, nothing that the library exports. It belongs to the caller's code, and lives in a namespace of its
// version, so that parts of a program that were compiled with different versions of it stay apart. simdnorm.h says what each
// operation computes and what holds for every call.
//
//     auto result = simdnorm::LayerNorm(x, y, rows, cols, {scale, shift});          // the usual call is one line
//
//     if (auto result = simdnorm::RMSNorm(x, y, rows, cols, {scale}); !result) std::puts(result.message());
//
//     auto result = simdnorm::LayerNorm({x, rows, cols, x_stride}, {y, rows, cols, y_stride});      // rows apart in memory
//
//     simdnorm::RMSNormParams params{scale};                // in one sweep: h = x + residual, written over the residual,
//     params.fusions.residual = residual;                   // and y = norm(h), written over x
//     params.fusions.h = residual;
//     auto result = simdnorm::RMSNorm(x, x, rows, cols, params);
#ifndef SIMDNORM_SIMDNORM_HPP_
#define SIMDNORM_SIMDNORM_HPP_

#include <cstddef>
#include <cstdint>

#include "simdnorm.h"

namespace simdnorm {
inline namespace v0_2 {

namespace detail {
class Call;
}

// What a call returned: true if it did its work; else a message that names the argument.
class [[nodiscard]] Result {
 public:
  explicit operator bool() const { return status_ == SIMDNORM_OK; }
  bool ok() const { return status_ == SIMDNORM_OK; }
  simdnorm_status status() const { return status_; }
  const char* message() const { return message_; }  // "" after success

  Result() { message_[0] = '\0'; }  // success

 private:
  friend class detail::Call;
  simdnorm_status status_ = SIMDNORM_OK;
  char message_[256];
};

// How a call runs; simdnorm_options without what a C++ caller does not need. {} is the best target and OpenMP.
struct Options {
  const char* target = nullptr;                  // a name out of simdnorm_targets()
  int32_t max_threads = 0;                       // 0: no cap; 1: on the calling thread
  simdnorm_parallel_for parallel_for = nullptr;  // the caller's threads
  void* pool = nullptr;                          // handed to parallel_for
};

// Elements of 16 bits, as their bits. Point these at what an engine calls uint16_t, at::BFloat16, _Float16, ...
struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

// A tensor to read, or none: a pointer that knows its dtype. Made from one by itself.
struct Input {
  const void* data = nullptr;
  simdnorm_dtype dtype = SIMDNORM_F32;

  Input(std::nullptr_t = nullptr) {}
  Input(const float* p) : data(p) {}
  Input(const bf16* p) : data(p), dtype(SIMDNORM_BF16) {}
  Input(const f16* p) : data(p), dtype(SIMDNORM_F16) {}
  Input(const void* p, simdnorm_dtype p_dtype) : data(p), dtype(p_dtype) {}  // a dtype that is known at run time
};

// A tensor to write, or none.
struct Output {
  void* data = nullptr;
  simdnorm_dtype dtype = SIMDNORM_F32;

  Output(std::nullptr_t = nullptr) {}
  Output(float* p) : data(p) {}
  Output(bf16* p) : data(p), dtype(SIMDNORM_BF16) {}
  Output(f16* p) : data(p), dtype(SIMDNORM_F16) {}
  Output(int8_t* p) : data(p), dtype(SIMDNORM_I8) {}
  Output(uint8_t* p) : data(p), dtype(SIMDNORM_U8) {}
  Output(simdnorm_q8_0* p) : data(p), dtype(SIMDNORM_Q8_0) {}
  Output(void* p, simdnorm_dtype p_dtype) : data(p), dtype(p_dtype) {}
};

// x or y as rows of `cols` adjacent elements, row_stride elements apart (0: cols).
struct InputRows {
  Input data;
  int64_t rows, cols;
  int64_t row_stride = 0;
};
struct OutputRows {
  Output data;
  int64_t rows, cols;
  int64_t row_stride = 0;
};

// A further tensor of x's rows and columns; made from a pointer by itself where its rows are not apart.
struct RowsInput {
  Input data;
  int64_t row_stride = 0;
  RowsInput(std::nullptr_t = nullptr) {}
  RowsInput(Input p, int64_t stride = 0) : data(p), row_stride(stride) {}
  template <class T, class = decltype(Input(static_cast<const T*>(nullptr)))>
  RowsInput(const T* p, int64_t stride = 0) : data(p), row_stride(stride) {}
};
struct RowsOutput {
  Output data;
  int64_t row_stride = 0;
  RowsOutput(std::nullptr_t = nullptr) {}
  RowsOutput(Output p, int64_t stride = 0) : data(p), row_stride(stride) {}
  template <class T, class = decltype(Output(static_cast<T*>(nullptr)))>
  RowsOutput(T* p, int64_t stride = 0) : data(p), row_stride(stride) {}
};

// x or y of batch, group and instance norm: [batch, channels, spatial] (NCHW), [batch, spatial, channels] (NHWC), or blocked.
struct Shape {
  int64_t batch, channels, spatial = 1;
  simdnorm_layout layout = SIMDNORM_NCHW;
};

// Layer norm and RMS norm: what can go around the normalization. simdnorm_layer_norm says what and in which order.
struct RowFusions {
  float scale_offset = 0;  // added to scale
  simdnorm_activation activation = SIMDNORM_NO_ACTIVATION;
  float activation_slope = 0;
  RowsInput residual;
  simdnorm_residual_order residual_order = SIMDNORM_RESIDUAL_BEFORE;
  Input bias;                                             // [cols]
  RowsOutput h;                                           // out
  simdnorm_h_rounding h_rounding = SIMDNORM_H_UNROUNDED;  // to h's dtype; without h: h = {Output(nullptr, SIMDNORM_BF16)}
  RowsInput gate;
  int64_t rows_per_scale = 0, scale_row_stride = 0;
  float quant_scale = 0;  // of y in int8_t or uint8_t, with zero_point; or
  int32_t zero_point = 0;
  float* quant_scales = nullptr;     // out [rows]
  const int64_t* lengths = nullptr;  // [rows / rows_per_sequence]
  int64_t rows_per_sequence = 0;
  simdnorm_padding padding = SIMDNORM_PADDING_ZERO;
  // x and y as [rows, cols, inner]
  int64_t inner = 0, x_col_stride = 0, x_inner_stride = 0, y_col_stride = 0, y_inner_stride = 0;
};

struct LayerNormParams {
  Input scale = {};  // [cols]
  Input shift = {};  // [cols]; of scale's dtype
  float epsilon = 1e-5f;
  float* mean = nullptr;  // out [rows]
  float* rstd = nullptr;  // out [rows]
  RowFusions fusions = {};
};

struct RMSNormParams {
  Input scale = {};  // [cols]
  float epsilon = 1e-5f;
  float* rstd = nullptr;  // out [rows]
  RowFusions fusions = {};
};

// Batch, group and instance norm: what can go around the normalization, y = activation(y + residual), and which positions
// count.
struct ChannelFusions {
  simdnorm_activation activation = SIMDNORM_NO_ACTIVATION;
  float activation_slope = 0;
  Input residual;                    // as x
  const int64_t* lengths = nullptr;  // [batch]
  const uint8_t* mask = nullptr;     // [batch, spatial]
  simdnorm_padding padding = SIMDNORM_PADDING_ZERO;
};

struct BatchNormInferenceParams {
  const float* mean;      // [channels]
  const float* variance;  // [channels]
  Input scale = {};       // [channels]
  Input shift = {};       // [channels]; of scale's dtype
  float epsilon = 1e-5f;
  ChannelFusions fusions = {};
};

struct BatchNormTrainingParams {
  Input scale = {};  // [channels]
  Input shift = {};  // [channels]; of scale's dtype
  float epsilon = 1e-5f;
  float* mean = nullptr;              // out [channels]
  float* rstd = nullptr;              // out [channels]
  float* running_mean = nullptr;      // in and out [channels]
  float* running_variance = nullptr;  // in and out [channels]
  float momentum = 0.1f;              // weight of the new batch
  simdnorm_running_variance_kind running_variance_kind = SIMDNORM_UNBIASED;
  ChannelFusions fusions = {};
};

struct GroupNormParams {
  Input scale = {};  // [channels]
  Input shift = {};  // [channels]; of scale's dtype
  float epsilon = 1e-5f;
  float* mean = nullptr;  // out [batch, groups]
  float* rstd = nullptr;  // out [batch, groups]
  ChannelFusions fusions = {};
};
using InstanceNormParams = GroupNormParams;

namespace detail {

// The way from these types to the C API.
class Call {
 public:
  // Sets every field but scale_dtype, shift and mean, which are there.
  template <class Args, class Params>
  static Result OnRows(simdnorm_status (*function)(const Args*, const simdnorm_options*), Args& args, const InputRows& x,
                       const OutputRows& y, const Params& params, const Options& options) {
    if (x.rows != y.rows) return Mismatch("x and y differ in rows");
    if (x.cols != y.cols) return Mismatch("x and y differ in cols");
    args.epsilon = params.epsilon;
    args.x_dtype = x.data.dtype;
    args.y_dtype = y.data.dtype;
    args.x = x.data.data;
    args.y = y.data.data;
    args.rows = x.rows;
    args.cols = x.cols;
    args.x_row_stride = x.row_stride;
    args.y_row_stride = y.row_stride;
    args.scale = params.scale.data;
    args.rstd = params.rstd;
    // Without fusions, the arguments end before them: to clear all of these, and to look at them, takes 8 ns of a row of 16's
    // 62. (Here, not in a function of its own, so that compilers see what is known of f.)
    const RowFusions& f = params.fusions;
    const bool none = f.scale_offset == 0 && f.activation == SIMDNORM_NO_ACTIVATION && f.activation_slope == 0 &&
                      f.residual.data.data == nullptr && f.residual.data.dtype == SIMDNORM_F32 && f.residual.row_stride == 0 &&
                      f.residual_order == SIMDNORM_RESIDUAL_BEFORE && f.bias.data == nullptr && f.bias.dtype == SIMDNORM_F32 &&
                      f.h.data.data == nullptr && f.h.data.dtype == SIMDNORM_F32 && f.h.row_stride == 0 &&
                      f.h_rounding == SIMDNORM_H_UNROUNDED && f.gate.data.data == nullptr &&
                      f.gate.data.dtype == SIMDNORM_F32 && f.gate.row_stride == 0 && f.rows_per_scale == 0 &&
                      f.scale_row_stride == 0 && f.quant_scale == 0 && f.zero_point == 0 && f.quant_scales == nullptr &&
                      f.lengths == nullptr && f.rows_per_sequence == 0 && f.padding == SIMDNORM_PADDING_ZERO && f.inner == 0 &&
                      f.x_col_stride == 0 && f.x_inner_stride == 0 && f.y_col_stride == 0 && f.y_inner_stride == 0;
    if (none) return Run(function, args, offsetof(Args, scale_offset), options);
    args.scale_offset = f.scale_offset;
    args.activation = f.activation;
    args.activation_slope = f.activation_slope;
    args.residual_dtype = f.residual.data.dtype;
    args.bias_dtype = f.bias.dtype;
    args.h_dtype = f.h.data.dtype;
    args.gate_dtype = f.gate.data.dtype;
    args.residual_order = f.residual_order;
    args.h_rounding = f.h_rounding;
    args.padding = f.padding;
    args.quant_scale = f.quant_scale;
    args.zero_point = f.zero_point;
    args.residual = f.residual.data.data;
    args.bias = f.bias.data;
    args.h = f.h.data.data;
    args.gate = f.gate.data.data;
    args.residual_row_stride = f.residual.row_stride;
    args.h_row_stride = f.h.row_stride;
    args.gate_row_stride = f.gate.row_stride;
    args.rows_per_scale = f.rows_per_scale;
    args.scale_row_stride = f.scale_row_stride;
    args.quant_scales = f.quant_scales;
    args.lengths = f.lengths;
    args.rows_per_sequence = f.rows_per_sequence;
    args.inner = f.inner;
    args.x_col_stride = f.x_col_stride;
    args.x_inner_stride = f.x_inner_stride;
    args.y_col_stride = f.y_col_stride;
    args.y_inner_stride = f.y_inner_stride;
    return Run(function, args, sizeof(Args), options);
  }

  template <class Args, class Params>
  static Result OnChannels(simdnorm_status (*function)(const Args*, const simdnorm_options*), Args& args, Input x, Output y,
                           const Shape& shape, const Params& params, const Options& options) {
    if (params.scale.data != nullptr && params.shift.data != nullptr && params.scale.dtype != params.shift.dtype) {
      return Mismatch("scale and shift differ in dtype");
    }
    const ChannelFusions& f = params.fusions;
    args.epsilon = params.epsilon;
    args.x_dtype = x.dtype;
    args.y_dtype = y.dtype;
    args.scale_dtype = params.scale.data != nullptr ? params.scale.dtype : params.shift.dtype;
    args.layout = shape.layout;
    args.x = x.data;
    args.y = y.data;
    args.batch = shape.batch;
    args.channels = shape.channels;
    args.spatial = shape.spatial;
    args.scale = params.scale.data;
    args.shift = params.shift.data;
    args.activation = f.activation;
    args.activation_slope = f.activation_slope;
    args.residual_dtype = f.residual.dtype;
    args.residual = f.residual.data;
    args.lengths = f.lengths;
    args.mask = f.mask;
    args.padding = f.padding;
    return Run(function, args, sizeof(Args), options);
  }

  template <class Args>
  static Result Run(simdnorm_status (*function)(const Args*, const simdnorm_options*), Args& args, size_t struct_size,
                    const Options& options) {
    Result result;
    args.struct_size = struct_size;
    simdnorm_options c_options = {};
    c_options.struct_size = sizeof(c_options);
    c_options.target = options.target;
    c_options.parallel_for = options.parallel_for;
    c_options.pool = options.pool;
    c_options.max_threads = options.max_threads;
    c_options.message = result.message_;
    c_options.message_capacity = sizeof(result.message_);
    result.status_ = function(&args, &c_options);
    return result;
  }

  static Result Mismatch(const char* message) {
    Result result;
    result.status_ = SIMDNORM_INVALID_ARGUMENT;
    for (size_t i = 0; i < sizeof(result.message_) && (result.message_[i] = message[i]) != '\0'; ++i) {
    }
    return result;
  }
};

}  // namespace detail

inline Result LayerNorm(const InputRows& x, const OutputRows& y, const LayerNormParams& params = {},
                        const Options& options = {}) {
  if (params.scale.data != nullptr && params.shift.data != nullptr && params.scale.dtype != params.shift.dtype) {
    return detail::Call::Mismatch("scale and shift differ in dtype");
  }
  simdnorm_layer_norm_args args;
  args.scale_dtype = params.scale.data != nullptr ? params.scale.dtype : params.shift.dtype;
  args.shift = params.shift.data;
  args.mean = params.mean;
  return detail::Call::OnRows(simdnorm_layer_norm, args, x, y, params, options);
}

inline Result LayerNorm(Input x, Output y, int64_t rows, int64_t cols, const LayerNormParams& params = {},
                        const Options& options = {}) {
  return LayerNorm({x, rows, cols}, {y, rows, cols}, params, options);
}

inline Result RMSNorm(const InputRows& x, const OutputRows& y, const RMSNormParams& params = {}, const Options& options = {}) {
  simdnorm_rms_norm_args args;
  args.scale_dtype = params.scale.dtype;
  return detail::Call::OnRows(simdnorm_rms_norm, args, x, y, params, options);
}

inline Result RMSNorm(Input x, Output y, int64_t rows, int64_t cols, const RMSNormParams& params = {},
                      const Options& options = {}) {
  return RMSNorm({x, rows, cols}, {y, rows, cols}, params, options);
}

inline Result BatchNormInference(Input x, Output y, const Shape& shape, const BatchNormInferenceParams& params,
                                 const Options& options = {}) {
  simdnorm_batch_norm_inference_args args = {};
  args.mean = params.mean;
  args.variance = params.variance;
  return detail::Call::OnChannels(simdnorm_batch_norm_inference, args, x, y, shape, params, options);
}

inline Result BatchNormTraining(Input x, Output y, const Shape& shape, const BatchNormTrainingParams& params = {},
                                const Options& options = {}) {
  simdnorm_batch_norm_training_args args = {};
  args.momentum = params.momentum;
  args.running_variance_kind = params.running_variance_kind;
  args.mean = params.mean;
  args.rstd = params.rstd;
  args.running_mean = params.running_mean;
  args.running_variance = params.running_variance;
  return detail::Call::OnChannels(simdnorm_batch_norm_training, args, x, y, shape, params, options);
}

inline Result GroupNorm(Input x, Output y, const Shape& shape, int64_t groups, const GroupNormParams& params = {},
                        const Options& options = {}) {
  simdnorm_group_norm_args args = {};
  args.groups = groups;
  args.mean = params.mean;
  args.rstd = params.rstd;
  return detail::Call::OnChannels(simdnorm_group_norm, args, x, y, shape, params, options);
}

inline Result InstanceNorm(Input x, Output y, const Shape& shape, const InstanceNormParams& params = {},
                           const Options& options = {}) {
  simdnorm_group_norm_args args = {};
  args.mean = params.mean;
  args.rstd = params.rstd;
  return detail::Call::OnChannels(simdnorm_instance_norm, args, x, y, shape, params, options);
}

// The layer that takes up a batch norm; simdnorm_fold_batch_norm says what weight is.
struct FoldShape {
  int64_t out_channels, in_channels;
  int64_t kernel = 1, groups = 1;
  bool transposed = false;
};

struct FoldBatchNormParams {
  const float* mean;      // [channels]
  const float* variance;  // [channels]
  const float* scale = nullptr;
  const float* shift = nullptr;
  float epsilon = 1e-5f;
  simdnorm_fold_position position = SIMDNORM_FOLD_INTO_PRECEDING;
};

// bias may be nullptr; folded_weight and folded_bias may be weight and bias.
inline Result FoldBatchNorm(const float* weight, const float* bias, float* folded_weight, float* folded_bias,
                            const FoldShape& shape, const FoldBatchNormParams& params, const Options& options = {}) {
  simdnorm_fold_batch_norm_args args = {};
  args.epsilon = params.epsilon;
  args.position = params.position;
  args.transposed = shape.transposed;
  args.mean = params.mean;
  args.variance = params.variance;
  args.scale = params.scale;
  args.shift = params.shift;
  args.weight = weight;
  args.bias = bias;
  args.folded_weight = folded_weight;
  args.folded_bias = folded_bias;
  args.out_channels = shape.out_channels;
  args.in_channels = shape.in_channels;
  args.kernel = shape.kernel;
  args.groups = shape.groups;
  return detail::Call::Run(simdnorm_fold_batch_norm, args, sizeof(args), options);
}

// The names of the supported targets, best (the default) first, ended by nullptr.
inline const char* const* Targets() { return simdnorm_targets(); }

}  // namespace v0_2
}  // namespace simdnorm

#endif  // SIMDNORM_SIMDNORM_HPP_
