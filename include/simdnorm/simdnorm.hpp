// simdnorm for C++17: the C API with views, default arguments and results. All inline over simdnorm.h: no state, no exceptions,
// no RTTI, nothing that the library exports. It belongs to the caller's code, and lives in a namespace of its version, so that
// parts of a program that were compiled with different versions of it stay apart. simdnorm.h says what each operation computes
// and what holds for every call.
//
//     auto result = simdnorm::LayerNorm(x, y, rows, cols, {scale, shift});          // the usual call is one line
//
//     if (auto result = simdnorm::RMSNorm(x, y, rows, cols, {scale}); !result) std::puts(result.message());
//
//     auto result = simdnorm::LayerNorm({x, rows, cols, x_row_stride}, {y, rows, cols, y_row_stride});   // rows apart in
//     memory
#ifndef SIMDNORM_SIMDNORM_HPP_
#define SIMDNORM_SIMDNORM_HPP_

#include <cstddef>
#include <cstdint>

#include "simdnorm.h"

namespace simdnorm {
inline namespace v0_1 {

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

// x or y as rows of `cols` adjacent elements, row_stride elements apart (0: cols).
template <class T>
struct Rows {
  T* data;
  int64_t rows, cols;
  int64_t row_stride = 0;
};

// x or y of batch norm: [batch, channels, spatial] (NCHW) or [batch, spatial, channels] (NHWC).
struct Shape {
  int64_t batch, channels, spatial = 1;
  simdnorm_layout layout = SIMDNORM_NCHW;
};

struct LayerNormParams {
  const float* scale = nullptr;  // [cols]
  const float* shift = nullptr;  // [cols]
  float epsilon = 1e-5f;
  float* mean = nullptr;  // out [rows]
  float* rstd = nullptr;  // out [rows]
};

struct RMSNormParams {
  const float* scale = nullptr;  // [cols]
  float epsilon = 1e-5f;
  float* rstd = nullptr;  // out [rows]
};

struct BatchNormInferenceParams {
  const float* mean;             // [channels]
  const float* variance;         // [channels]
  const float* scale = nullptr;  // [channels]
  const float* shift = nullptr;  // [channels]
  float epsilon = 1e-5f;
};

struct BatchNormTrainingParams {
  const float* scale = nullptr;  // [channels]
  const float* shift = nullptr;  // [channels]
  float epsilon = 1e-5f;
  float* mean = nullptr;              // out [channels]
  float* rstd = nullptr;              // out [channels]
  float* running_mean = nullptr;      // in and out [channels]
  float* running_variance = nullptr;  // in and out [channels]
  float momentum = 0.1f;              // weight of the new batch
  simdnorm_running_variance_kind running_variance_kind = SIMDNORM_UNBIASED;
};

namespace detail {

// The way from these types to the C API.
class Call {
 public:
  template <class Args, class Params>
  static Result OnRows(simdnorm_status (*function)(const Args*, const simdnorm_options*), Args args, Rows<const float> x,
                       Rows<float> y, const Params& params, const Options& options) {
    if (x.rows != y.rows) return Mismatch("x and y differ in rows");
    if (x.cols != y.cols) return Mismatch("x and y differ in cols");
    args.epsilon = params.epsilon;
    args.x = x.data;
    args.y = y.data;
    args.rows = x.rows;
    args.cols = x.cols;
    args.x_row_stride = x.row_stride;
    args.y_row_stride = y.row_stride;
    args.scale = params.scale;
    args.rstd = params.rstd;
    return Run(function, args, options);
  }

  template <class Args, class Params>
  static Result OnChannels(simdnorm_status (*function)(const Args*, const simdnorm_options*), Args args, const float* x,
                           float* y, const Shape& shape, const Params& params, const Options& options) {
    args.epsilon = params.epsilon;
    args.layout = shape.layout;
    args.x = x;
    args.y = y;
    args.batch = shape.batch;
    args.channels = shape.channels;
    args.spatial = shape.spatial;
    args.scale = params.scale;
    args.shift = params.shift;
    return Run(function, args, options);
  }

 private:
  template <class Args>
  static Result Run(simdnorm_status (*function)(const Args*, const simdnorm_options*), Args& args, const Options& options) {
    Result result;
    args.struct_size = sizeof(Args);
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

inline Result LayerNorm(Rows<const float> x, Rows<float> y, const LayerNormParams& params = {}, const Options& options = {}) {
  simdnorm_layer_norm_args args = {};
  args.shift = params.shift;
  args.mean = params.mean;
  return detail::Call::OnRows(simdnorm_layer_norm, args, x, y, params, options);
}

inline Result LayerNorm(const float* x, float* y, int64_t rows, int64_t cols, const LayerNormParams& params = {},
                        const Options& options = {}) {
  return LayerNorm({x, rows, cols}, {y, rows, cols}, params, options);
}

inline Result RMSNorm(Rows<const float> x, Rows<float> y, const RMSNormParams& params = {}, const Options& options = {}) {
  return detail::Call::OnRows(simdnorm_rms_norm, simdnorm_rms_norm_args{}, x, y, params, options);
}

inline Result RMSNorm(const float* x, float* y, int64_t rows, int64_t cols, const RMSNormParams& params = {},
                      const Options& options = {}) {
  return RMSNorm({x, rows, cols}, {y, rows, cols}, params, options);
}

inline Result BatchNormInference(const float* x, float* y, const Shape& shape, const BatchNormInferenceParams& params,
                                 const Options& options = {}) {
  simdnorm_batch_norm_inference_args args = {};
  args.mean = params.mean;
  args.variance = params.variance;
  return detail::Call::OnChannels(simdnorm_batch_norm_inference, args, x, y, shape, params, options);
}

inline Result BatchNormTraining(const float* x, float* y, const Shape& shape, const BatchNormTrainingParams& params = {},
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

// The names of the supported targets, best (the default) first, ended by nullptr.
inline const char* const* Targets() { return simdnorm_targets(); }

}  // namespace v0_1
}  // namespace simdnorm

#endif  // SIMDNORM_SIMDNORM_HPP_
