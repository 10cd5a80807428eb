// Bad arguments, one at a time, for every function: the status, the message in full, nothing written, in a message buffer of
// any size. And what looks odd but is allowed, callers with structs of other versions, and what defaults are spelled out as.
#include "validate.h"

#include <doctest/doctest.h>
#include <stdint.h>
#include <string.h>

#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "executors.h"

namespace simdnorm_test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
const float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr int64_t kHuge = 4000000000000000000;  // of that many elements the address space has none

// An entry point, as a type.
template <class ArgsOfFunction, simdnorm_status (*kFunction)(const ArgsOfFunction*, const simdnorm_options*)>
struct Function {
  using Args = ArgsOfFunction;
  static simdnorm_status Call(const Args* args, const simdnorm_options* options) { return kFunction(args, options); }
};
using LayerNorm = Function<simdnorm_layer_norm_args, simdnorm_layer_norm>;
using RMSNorm = Function<simdnorm_rms_norm_args, simdnorm_rms_norm>;
using Inference = Function<simdnorm_batch_norm_inference_args, simdnorm_batch_norm_inference>;
using Training = Function<simdnorm_batch_norm_training_args, simdnorm_batch_norm_training>;
using GroupNorm = Function<simdnorm_group_norm_args, simdnorm_group_norm>;
using InstanceNorm = Function<simdnorm_group_norm_args, simdnorm_instance_norm>;
using Fold = Function<simdnorm_fold_batch_norm_args, simdnorm_fold_batch_norm>;
using All = std::tuple<LayerNorm, RMSNorm, Inference, Training, GroupNorm, InstanceNorm, Fold>;

template <class F>
constexpr bool kIsRows = std::is_same_v<F, LayerNorm> || std::is_same_v<F, RMSNorm>;
template <class F>
constexpr bool kIsGroups = std::is_same_v<F, GroupNorm> || std::is_same_v<F, InstanceNorm>;
template <class F>
constexpr bool kIsTraining = std::is_same_v<F, Training>;
template <class F>
constexpr bool kIsInference = std::is_same_v<F, Inference>;
template <class F>
constexpr bool kIsFold = std::is_same_v<F, Fold>;
template <class F>
constexpr bool kHasShift = !std::is_same_v<F, RMSNorm>;

// All that a call could touch. Rows: 3 x 5. Channels: 2 samples, 3 channels, 4 places. Folding: 4 outputs, 6 inputs, 2 groups,
// kernels of 3.
struct Memory {
  float x[128], y[128], scale[32], shift[32], mean[16], rstd[16], running_mean[16], running_variance[16];
  float residual[128], bias[16], h[128], gate[128], quant_scales[16];
  int64_t lengths[2] = {2, 3};
  uint8_t mask[8] = {1, 1, 0, 1, 0, 1, 1, 1};

  Memory() {
    static_assert(offsetof(Memory, y) == sizeof(x), "some calls below rely on it");
    for (size_t i = 0; i < offsetof(Memory, lengths) / sizeof(float); ++i) {
      reinterpret_cast<float*>(this)[i] = 0.5f + static_cast<float>(i * i % 17);
    }
  }
};

// A call that can be spoilt.
template <class F>
struct Call {
  typename F::Args args = {};
  simdnorm_options options = {};
  Memory& memory;

  simdnorm_status Run() const { return F::Call(&args, &options); }
};

simdnorm_options OptionsOf(char* message, size_t capacity) {
  simdnorm_options options = {};
  options.struct_size = sizeof(options);
  options.message = message;
  options.message_capacity = capacity;
  return options;
}

// Arguments with which a call succeeds, with every optional one that goes with the others.
template <class F>
Call<F> Good(Memory& memory, const simdnorm_options& options = OptionsOf(nullptr, 0)) {
  Call<F> call = {{}, options, memory};
  auto& args = call.args;
  args.struct_size = sizeof(args);
  args.epsilon = 1e-5f;
  args.scale = memory.scale;
  if constexpr (kHasShift<F>) args.shift = memory.shift;
  if constexpr (kHasShift<F>) args.mean = memory.mean;
  if constexpr (kIsInference<F> || kIsFold<F>) {
    args.variance = memory.rstd;
  } else {
    args.rstd = memory.rstd;
  }
  if constexpr (kIsFold<F>) {
    args.weight = memory.x;
    args.bias = memory.bias;
    args.folded_weight = memory.y;
    args.folded_bias = memory.running_mean;
    args.out_channels = 4;
    args.in_channels = 6;
    args.kernel = 3;
    args.groups = 2;
  } else {
    args.x = memory.x;
    args.y = memory.y;
    args.residual = memory.residual;
    args.lengths = memory.lengths;
    args.activation = SIMDNORM_RELU;
  }
  if constexpr (kIsRows<F>) {
    args.bias = memory.bias;
    args.h = memory.h;
    args.gate = memory.gate;
    args.rows = args.rows_per_sequence = 3;
    args.cols = 5;
  } else if constexpr (!kIsFold<F>) {
    args.batch = 2;
    args.channels = 3;
    args.spatial = 4;
  }
  if constexpr (kIsTraining<F>) {
    args.momentum = 0.1f;
    args.running_mean = memory.running_mean;
    args.running_variance = memory.running_variance;
  }
  if constexpr (std::is_same_v<F, GroupNorm>) args.groups = 3;
  return call;
}

template <class F>
using Change = void (*)(Call<F>&);

// What is changed in a good call, and what it then says: all of it; or two parts of it, where there are addresses in it or
// sizes that differ from function to function.
template <class F>
struct BadCall {
  Change<F> spoil;
  const char* words[2];
  simdnorm_status status = SIMDNORM_INVALID_ARGUMENT;
};

template <class T>
T* Misaligned(T* p) {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  return reinterpret_cast<T*>(reinterpret_cast<Byte*>(p) + 1);
}
const void* Misaligned(const void* p) { return Misaligned(static_cast<const char*>(p)); }
void* Misaligned(void* p) { return Misaligned(static_cast<char*>(p)); }

template <class F>
std::vector<BadCall<F>> BadCallsOfAll() {
  return {
      {[](auto& c) { c.args.epsilon = kNaN; }, {"epsilon is nan; it must be finite"}},
      {[](auto& c) { c.args.epsilon = kInf; }, {"epsilon is inf; it must be finite"}},
      {[](auto& c) { c.args.epsilon = -kInf; }, {"epsilon is -inf; it must be finite"}},
      {[](auto& c) { c.args.struct_size = 0; }, {"args->struct_size 0 is less than ", "; start from the _DEFAULTS macro"}},
      {[](auto& c) { c.args.struct_size = 16; }, {"args->struct_size 16 is less than ", "; start from the _DEFAULTS macro"}},
      {[](auto& c) { c.args.struct_size = 1u << 20; }, {"args->struct_size 1048576 is no size of a struct here"}},
      {[](auto& c) { c.args.scale = Misaligned(c.args.scale); }, {"scale 0x", " is not aligned to 4 bytes"}},
      {[](auto& c) { c.args.scale = c.memory.y + 14; }, {" 0x", " overlaps scale 0x"}},
  };
}

// Of all but folding, which uses no options and has weights for x and y.
template <class F>
std::vector<BadCall<F>> BadCallsOfKernels() {
  return {
      {[](auto& c) { c.args.x = nullptr; }, {"x is NULL"}},
      {[](auto& c) { c.args.y = nullptr; }, {"y is NULL"}},
      {[](auto& c) { c.args.x = Misaligned(c.args.x); }, {"x 0x", " is not aligned to 4 bytes"}},
      {[](auto& c) { c.args.y = Misaligned(c.args.y); }, {"y 0x", " is not aligned to 4 bytes"}},
      {[](auto& c) { c.args.x_dtype = SIMDNORM_BF16, c.args.x = Misaligned(c.args.x); },
       {"x 0x", " is not aligned to 2 bytes"}},
      {[](auto& c) { c.args.residual = Misaligned(c.args.residual); }, {"residual 0x", " is not aligned to 4 bytes"}},
      {[](auto& c) { c.args.lengths = Misaligned(c.args.lengths); }, {"lengths 0x", " is not aligned to 8 bytes"}},
      {[](auto& c) { c.args.x = reinterpret_cast<const float*>(UINTPTR_MAX - 15); },
       {"x 0xfffffffffffffff0 with ", " bytes goes beyond the end of memory"}},
      {[](auto& c) { c.args.y = c.memory.x + 1; }, {"y partly overlaps x: it begins 4 bytes from x", ", which extends over "}},
      {[](auto& c) { c.args.x = c.memory.y + 14; },
       {"y partly overlaps x: it begins -56 bytes from x", ", which extends over "}},
      {[](auto& c) { c.args.residual = c.memory.y + 1; },
       {"y partly overlaps residual: it begins -4 bytes from residual", ", which extends over "}},
      {[](auto& c) { c.args.lengths = reinterpret_cast<const int64_t*>(c.memory.y); }, {"y 0x", " overlaps lengths 0x"}},
      {[](auto& c) { c.args.x_dtype = 9; }, {"x_dtype 9 is none of 0 (f32), 1 (bf16), 2 (f16)"}},
      {[](auto& c) { c.args.x_dtype = SIMDNORM_I8; }, {"x_dtype 3 is none of 0 (f32), 1 (bf16), 2 (f16)"}},
      {[](auto& c) { c.args.y_dtype = -1; }, {"y_dtype -1 is none of ", "0 (f32), 1 (bf16), 2 (f16)"}},
      {[](auto& c) { c.args.scale_dtype = 77; }, {"scale_dtype 77 is none of 0 (f32), 1 (bf16), 2 (f16)"}},
      {[](auto& c) { c.args.residual_dtype = SIMDNORM_U8; }, {"residual_dtype 4 is none of 0 (f32), 1 (bf16), 2 (f16)"}},
      {[](auto& c) { c.args.x_dtype = SIMDNORM_F16, c.args.y = c.memory.x; },
       {"y is x, but y_dtype f32 differs in size from x_dtype f16"}},
      {[](auto& c) { c.args.y_dtype = SIMDNORM_BF16, c.args.y = c.memory.residual; },
       {"y is residual, but y_dtype bf16 differs in size from residual_dtype f32"}},
      {[](auto& c) { c.args.activation = 6; },
       {"activation 6 is none of 0 (none), 1 (ReLU), 2 (leaky ReLU), 3 (SiLU), 4 (GELU), 5 (GELU by tanh)"}},
      {[](auto& c) { c.args.activation = SIMDNORM_LEAKY_RELU, c.args.activation_slope = kNaN; },
       {"activation_slope is nan; it must be finite"}},
      {[](auto& c) { c.args.activation_slope = 0.5f; }, {"activation_slope 0.5 is for activation 2 (leaky ReLU), not for 1"}},
      {[](auto& c) { c.args.activation = SIMDNORM_NO_ACTIVATION, c.args.activation_slope = kNaN; },
       {"activation_slope nan is for activation 2 (leaky ReLU), not for 0"}},
      {[](auto& c) { c.args.padding = 2; }, {"padding 2 is none of 0 (zero), 1 (untouched)"}},
      {[](auto& c) { c.memory.lengths[0] = -1; }, {"lengths[0] -1 is not within 0..", ", which is "}},
      {[](auto& c) { c.options.target = "AVX9"; },
       {"target \"AVX9\" is not supported here (supported: ", simdnorm_targets()[0]},
       SIMDNORM_UNSUPPORTED},
      {[](auto& c) { c.options.target = ""; },
       {"target \"\" is not supported here (supported: ", simdnorm_targets()[0]},
       SIMDNORM_UNSUPPORTED},
      {[](auto& c) { c.options.max_threads = -3; }, {"max_threads -3 is negative"}},
  };
}

// Leaves out what goes with residuals and sequences alone.
template <class F>
void MakePlain(Call<F>& c) {
  c.args.residual = c.args.bias = c.args.gate = nullptr;
  c.args.h = nullptr;
  c.args.lengths = nullptr;
  c.args.rows_per_sequence = 0;
}

// [2, 3, 4] with 3 normalized.
template <class F>
void MakeInner(Call<F>& c) {
  MakePlain(c);
  c.args.rows = 2;
  c.args.cols = 3;
  c.args.inner = 4;
}

// A single position out of [2, 3, 9] or more.
template <class F>
void MakeColumn(Call<F>& c) {
  MakeInner(c);
  c.args.inner = 1;
  c.args.x_col_stride = c.args.y_col_stride = 9;
  c.args.x_row_stride = c.args.y_row_stride = 36;
}

// Two rows of one block of Q8_0 each.
template <class F>
void MakeQ8(Call<F>& c) {
  MakePlain(c);
  c.args.y_dtype = SIMDNORM_Q8_0;
  c.args.rows = 2;
  c.args.cols = 32;
}

// One value for each channel.
void MakeOneValue(Call<Training>& c) {
  c.args.batch = c.args.spatial = 1;
  c.args.lengths = nullptr;
}

template <class F>
std::vector<BadCall<F>> BadCallsOfRows() {
  return {
      {[](auto& c) { c.args.rows = -1; }, {"rows -1 is negative"}},
      {[](auto& c) { c.args.cols = -7; }, {"cols -7 is negative"}},
      {[](auto& c) { c.args.inner = -2; }, {"inner -2 is negative"}},
      {[](auto& c) { c.args.rows = kHuge; }, {"rows 4000000000000000000 times cols 5 is more elements than memory can hold"}},
      {[](auto& c) { c.args.cols = kHuge; }, {"rows 3 times cols 4000000000000000000 is more elements than memory can hold"}},
      {[](auto& c) { c.args.rows = c.args.cols = int64_t{1} << 33; },
       {"rows 8589934592 times cols 8589934592 is more elements than memory can hold"}},
      {[](auto& c) { MakeInner(c), c.args.inner = kHuge; },
       {"rows * cols 6 times inner 4000000000000000000 is more elements than memory can hold"}},
      {[](auto& c) { MakeInner(c), c.args.rows = 0, c.args.cols = c.args.inner = int64_t{1} << 33; },
       {"cols 8589934592 times inner 8589934592 is more elements than memory can hold"}},
      {[](auto& c) { c.args.x_row_stride = kHuge; },
       {"rows 3 times x_row_stride 4000000000000000000 is more elements than memory can hold"}},
      {[](auto& c) { c.args.y_row_stride = kHuge; },
       {"rows 3 times y_row_stride 4000000000000000000 is more elements than memory can hold"}},
      {[](auto& c) { c.args.gate_row_stride = kHuge; },
       {"rows 3 times gate_row_stride 4000000000000000000 is more elements than memory can hold"}},
      {[](auto& c) { c.args.x_row_stride = 4; }, {"x_row_stride 4 is less than cols 5"}},
      {[](auto& c) { c.args.y_row_stride = 3; }, {"y_row_stride 3 is less than cols 5"}},
      {[](auto& c) { c.args.x_row_stride = -5; }, {"x_row_stride -5 is less than cols 5"}},
      {[](auto& c) { c.args.residual_row_stride = 1; }, {"residual_row_stride 1 is less than cols 5"}},
      {[](auto& c) { c.args.h_row_stride = 2; }, {"h_row_stride 2 is less than cols 5"}},
      {[](auto& c) { c.args.gate_row_stride = 4; }, {"gate_row_stride 4 is less than cols 5"}},
      {[](auto& c) { c.args.y_dtype = 6; }, {"y_dtype 6 is none of 0 (f32), 1 (bf16), 2 (f16), 3 (i8), 4 (u8), 5 (Q8_0)"}},
      {[](auto& c) { c.args.bias_dtype = -1; }, {"bias_dtype -1 is none of 0 (f32), 1 (bf16), 2 (f16)"}},
      {[](auto& c) { c.args.h_dtype = SIMDNORM_I8; }, {"h_dtype 3 is none of 0 (f32), 1 (bf16), 2 (f16)"}},
      {[](auto& c) { c.args.gate_dtype = SIMDNORM_Q8_0; }, {"gate_dtype 5 is none of 0 (f32), 1 (bf16), 2 (f16)"}},
      {[](auto& c) { c.args.residual_order = 2; }, {"residual_order 2 is none of 0 (before), 1 (after)"}},
      {[](auto& c) { c.args.h_rounding = -1; }, {"h_rounding -1 is none of 0 (unrounded), 1 (rounded)"}},
      {[](auto& c) { MakePlain(c), c.args.residual_order = SIMDNORM_RESIDUAL_AFTER; },
       {"residual_order 1 (after) needs residual, which is NULL"}},
      {[](auto& c) { MakePlain(c), c.args.h_rounding = SIMDNORM_H_ROUNDED; },
       {"h_rounding 1 (rounded) needs h, residual or bias; all are NULL"}},

      // Memory.
      {[](auto& c) { c.args.y = c.memory.x, c.args.y_row_stride = 6; }, {"y is x, but y_row_stride 6 is not x_row_stride 5"}},
      {[](auto& c) { c.args.y = c.memory.gate, c.args.gate_row_stride = 7; },
       {"y is gate, but y_row_stride 5 is not gate_row_stride 7"}},
      {[](auto& c) { c.args.h = c.memory.residual, c.args.residual_row_stride = 9; },
       {"h is residual, but h_row_stride 5 is not residual_row_stride 9"}},
      {[](auto& c) { c.args.h = c.memory.x, c.args.h_dtype = SIMDNORM_F16; },
       {"h is x, but h_dtype f16 differs in size from x_dtype f32"}},
      {[](auto& c) { c.args.gate_dtype = SIMDNORM_BF16, c.args.y = c.memory.gate; },
       {"y is gate, but y_dtype f32 differs in size from gate_dtype bf16"}},
      {[](auto& c) { c.args.h = c.memory.x + 2; }, {"h partly overlaps x: it begins 8 bytes from x, which extends over 60"}},
      {[](auto& c) { c.args.h = c.memory.gate; }, {"h 0x", " overlaps gate 0x"}},
      {[](auto& c) { c.args.h = c.memory.y; }, {"h 0x", " overlaps y 0x"}},
      {[](auto& c) { c.args.h = c.memory.x, c.args.y = c.memory.x; }, {"h 0x", " overlaps y 0x"}},
      {[](auto& c) { c.args.bias = c.memory.h + 14; }, {"h 0x", " overlaps bias 0x"}},
      {[](auto& c) { c.args.lengths = reinterpret_cast<const int64_t*>(c.memory.rstd); }, {"rstd 0x", " overlaps lengths 0x"}},
      {[](auto& c) { c.args.rstd = Misaligned(c.args.rstd); }, {"rstd 0x", " is not aligned to 4 bytes"}},
      {[](auto& c) { c.args.rstd = c.memory.x; }, {"rstd 0x", " overlaps x 0x"}},
      {[](auto& c) { c.args.rstd = c.memory.scale + 2; }, {"rstd 0x", " overlaps scale 0x"}},
      {[](auto& c) { c.args.h_dtype = SIMDNORM_BF16, c.args.h = Misaligned(c.args.h); },
       {"h 0x", " is not aligned to 2 bytes"}},
      {[](auto& c) {  // the rows of y begin before those of x end
         c.args.x_row_stride = c.args.y_row_stride = 10;
         c.args.y = c.memory.x + 4;
       },
       {"y partly overlaps x: it begins 16 bytes from x, which extends over 100"}},
      {[](auto& c) { c.args.x_row_stride = 10, c.args.y_row_stride = 11, c.args.y = c.memory.x + 5; },
       {"y partly overlaps x: it begins 20 bytes from x, which extends over 100"}},

      // Scale.
      {[](auto& c) { c.args.scale_offset = kInf; }, {"scale_offset is inf; it must be finite"}},
      {[](auto& c) { c.args.scale_offset = 1, c.args.scale = nullptr; }, {"scale_offset 1 needs scale, which is NULL"}},
      {[](auto& c) { c.args.rows_per_scale = -1; }, {"rows_per_scale -1 is negative"}},
      {[](auto& c) { c.args.rows_per_scale = 2; }, {"rows_per_scale 2 does not divide rows 3"}},
      {[](auto& c) { c.args.rows_per_scale = 1, c.args.scale_row_stride = 4; }, {"scale_row_stride 4 is less than cols 5"}},
      {[](auto& c) { c.args.scale_row_stride = 5; }, {"scale_row_stride 5 needs rows_per_scale, which is 0"}},
      {[](auto& c) {
         c.args.scale = nullptr;
         if constexpr (kHasShift<F>) c.args.shift = nullptr;
         c.args.rows_per_scale = 3;
       },
       {kHasShift<F> ? "rows_per_scale 3 needs scale or shift; both are NULL" : "rows_per_scale 3 needs scale, which is NULL"}},
      {[](auto& c) { c.args.rows_per_scale = 1, c.args.scale = c.memory.x + 114; }, {"y 0x", " overlaps scale 0x"}},

      // Quantization.
      {[](auto& c) { c.args.quant_scale = 0.5f; }, {"quant_scale 0.5 is for y_dtype i8 and u8, not for f32"}},
      {[](auto& c) { MakeQ8(c), c.args.quant_scale = 0.5f; }, {"quant_scale 0.5 is for y_dtype i8 and u8, not for Q8_0"}},
      {[](auto& c) { c.args.quant_scales = c.memory.quant_scales; }, {"quant_scales is for y_dtype i8, not for f32"}},
      {[](auto& c) { c.args.y_dtype = SIMDNORM_U8, c.args.quant_scales = c.memory.quant_scales; },
       {"quant_scales is for y_dtype i8, not for u8"}},
      {[](auto& c) { c.args.zero_point = 3; }, {"zero_point 3 needs quant_scale, which is 0"}},
      {[](auto& c) { c.args.y_dtype = SIMDNORM_I8, c.args.quant_scales = c.memory.quant_scales, c.args.zero_point = 3; },
       {"zero_point 3 needs quant_scale, which is 0"}},
      {[](auto& c) { c.args.y_dtype = SIMDNORM_I8, c.args.quant_scales = c.memory.quant_scales, c.args.quant_scale = 2; },
       {"quant_scale 2 excludes quant_scales; only one can be given"}},
      {[](auto& c) { c.args.y_dtype = SIMDNORM_I8; }, {"y_dtype i8 needs quant_scale or quant_scales"}},
      {[](auto& c) { c.args.y_dtype = SIMDNORM_U8; }, {"y_dtype u8 needs quant_scale, which is 0"}},
      {[](auto& c) { c.args.y_dtype = SIMDNORM_U8, c.args.quant_scale = -1; },
       {"quant_scale is -1; it must be finite and more than 0"}},
      {[](auto& c) { c.args.y_dtype = SIMDNORM_I8, c.args.quant_scale = kNaN; },
       {"quant_scale is nan; it must be finite and more than 0"}},
      {[](auto& c) { c.args.y_dtype = SIMDNORM_I8, c.args.quant_scale = kInf; },
       {"quant_scale is inf; it must be finite and more than 0"}},
      {[](auto& c) { c.args.y_dtype = SIMDNORM_I8, c.args.quant_scale = 1, c.args.zero_point = 128; },
       {"zero_point 128 is not within -128..127 of y_dtype i8"}},
      {[](auto& c) { c.args.y_dtype = SIMDNORM_U8, c.args.quant_scale = 1, c.args.zero_point = -1; },
       {"zero_point -1 is not within 0..255 of y_dtype u8"}},
      {[](auto& c) { c.args.y_dtype = SIMDNORM_I8, c.args.quant_scales = c.memory.rstd; },
       {"quant_scales 0x", " overlaps rstd 0x"}},
      {[](auto& c) { c.args.y_dtype = SIMDNORM_I8, c.args.quant_scale = 1, c.args.y = c.memory.x; },
       {"y is x, but y_dtype i8 differs in size from x_dtype f32"}},
      {[](auto& c) { MakeQ8(c), c.args.cols = 33; }, {"cols 33 is not a multiple of 32, which y_dtype Q8_0 needs"}},
      {[](auto& c) { MakeQ8(c), c.args.y_row_stride = 40; },
       {"y_row_stride 40 is not a multiple of 32, which y_dtype Q8_0 needs"}},
      {[](auto& c) { MakeQ8(c), c.args.y = Misaligned(c.args.y); }, {"y 0x", " is not aligned to 2 bytes"}},
      {[](auto& c) { MakeQ8(c), c.args.rstd = reinterpret_cast<float*>(c.memory.y + 16); }, {"rstd 0x", " overlaps y 0x"}},

      // Sequences.
      {[](auto& c) { c.memory.lengths[0] = 4; }, {"lengths[0] 4 is not within 0..rows_per_sequence, which is 3"}},
      {[](auto& c) { c.args.rows_per_sequence = 1, c.memory.lengths[1] = 1, c.memory.lengths[0] = 2; },
       {"lengths[0] 2 is not within 0..rows_per_sequence, which is 1"}},
      {[](auto& c) { c.args.rows_per_sequence = 0; }, {"rows_per_sequence 0 with lengths has to be more than 0"}},
      {[](auto& c) { c.args.rows_per_sequence = -3; }, {"rows_per_sequence -3 with lengths has to be more than 0"}},
      {[](auto& c) { c.args.rows_per_sequence = 2; }, {"rows_per_sequence 2 does not divide rows 3"}},
      {[](auto& c) { c.args.lengths = nullptr; }, {"rows_per_sequence 3 needs lengths, which is NULL"}},
      {[](auto& c) { MakePlain(c), c.args.rows_per_sequence = -1; }, {"rows_per_sequence -1 needs lengths, which is NULL"}},
      {[](auto& c) { MakePlain(c), c.args.padding = SIMDNORM_PADDING_UNTOUCHED; },
       {"padding 1 (untouched) needs lengths, which is NULL"}},

      // Inner positions.
      {[](auto& c) { c.args.x_inner_stride = 64; }, {"x_inner_stride 64 needs inner, which is 0"}},
      {[](auto& c) { c.args.x_col_stride = 1, c.args.x_inner_stride = 64; }, {"x_inner_stride 64 needs inner, which is 0"}},
      {[](auto& c) { c.args.y_inner_stride = -1; }, {"y_inner_stride -1 needs inner, which is 0"}},
      {[](auto& c) { c.args.x_col_stride = 2; }, {"x_col_stride 2 needs inner, which is 0"}},
      {[](auto& c) { c.args.y_col_stride = 5; }, {"y_col_stride 5 needs inner, which is 0"}},
      {[](auto& c) { MakeInner(c), c.args.residual = c.memory.residual; },
       {"residual with inner 4 is not supported; it takes inner 1"},
       SIMDNORM_UNSUPPORTED},
      {[](auto& c) { MakeInner(c), c.args.bias = c.memory.bias; },
       {"bias with inner 4 is not supported; it takes inner 1"},
       SIMDNORM_UNSUPPORTED},
      {[](auto& c) { MakeInner(c), c.args.h = c.memory.h; },
       {"h with inner 4 is not supported; it takes inner 1"},
       SIMDNORM_UNSUPPORTED},
      {[](auto& c) { MakeInner(c), c.args.gate = c.memory.gate; },
       {"gate with inner 4 is not supported; it takes inner 1"},
       SIMDNORM_UNSUPPORTED},
      {[](auto& c) { MakeInner(c), c.args.lengths = c.memory.lengths, c.args.rows_per_sequence = 1; },
       {"lengths with inner 4 is not supported; it takes inner 1"},
       SIMDNORM_UNSUPPORTED},
      {[](auto& c) { MakeInner(c), c.args.y_dtype = SIMDNORM_U8, c.args.quant_scale = 1; },
       {"y_dtype u8 with inner 4 is not supported; it takes f32, bf16, f16"},
       SIMDNORM_UNSUPPORTED},
      {[](auto& c) { MakeInner(c), c.args.y_col_stride = 1, c.args.y_inner_stride = 3; },
       {"x_col_stride 4 with y_col_stride 1 is not supported; columns are adjacent in both or in neither"},
       SIMDNORM_UNSUPPORTED},
      {[](auto& c) { MakeInner(c), c.args.x_row_stride = -12; }, {"x_row_stride -12 is negative"}},
      {[](auto& c) { MakeInner(c), c.args.x_col_stride = 2, c.args.x_inner_stride = 3; },
       {"x_col_stride 2 and x_inner_stride 3: one has to be 1, the other more than 0"}},
      {[](auto& c) { MakeInner(c), c.args.y_col_stride = 1; },
       {"y_col_stride 1 and y_inner_stride 0: one has to be 1, the other more than 0"}},
      {[](auto& c) { MakeInner(c), c.args.y_col_stride = -4, c.args.y_inner_stride = 1; },
       {"y_col_stride -4 and y_inner_stride 1: one has to be 1, the other more than 0"}},
      {[](auto& c) { MakeInner(c), c.args.y_row_stride = kHuge; },
       {"rows 2 times y_row_stride 4000000000000000000 is more elements than memory can hold"}},
      {[](auto& c) { MakeInner(c), c.args.x_inner_stride = kHuge, c.args.x_col_stride = 1; },
       {"inner 4 times x_inner_stride 4000000000000000000 is more elements than memory can hold"}},
      {[](auto& c) { MakeInner(c), c.args.x_col_stride = kHuge, c.args.x_inner_stride = 1; },
       {"cols 3 times x_col_stride 4000000000000000000 is more elements than memory can hold"}},
      {[](auto& c) { MakeInner(c), c.args.y_row_stride = 11; },
       {"y_row_stride 11, y_col_stride 4 and y_inner_stride 1 let elements of [2, 3, 4] overlap"}},
      {[](auto& c) { MakeInner(c), c.args.y_col_stride = 3, c.args.y_inner_stride = 1; },
       {"y_row_stride 12, y_col_stride 3 and y_inner_stride 1 let elements of [2, 3, 4] overlap"}},
      {[](auto& c) {
         MakeInner(c), c.args.y = c.memory.x, c.args.y_col_stride = 5, c.args.y_inner_stride = 1, c.args.y_row_stride = 15;
       },
       {"y is x, but y_row_stride 15 is not x_row_stride 12"}},
      {[](auto& c) {
         MakeInner(c), c.args.y = c.memory.x, c.args.y_col_stride = 5, c.args.y_inner_stride = 1,
                       c.args.x_row_stride = c.args.y_row_stride = 15;
       },
       {"y is x, but y_col_stride 5 is not x_col_stride 4"}},
      {[](auto& c) { MakeColumn(c), c.args.residual = c.memory.residual; },
       {"residual with x_col_stride 9 is not supported; it takes x_col_stride 1"},
       SIMDNORM_UNSUPPORTED},
      {[](auto& c) { MakeColumn(c), c.args.x_col_stride = 0, c.args.gate = c.memory.gate; },
       {"gate with y_col_stride 9 is not supported; it takes y_col_stride 1"},
       SIMDNORM_UNSUPPORTED},
      {[](auto& c) { MakeColumn(c), c.args.y_dtype = SIMDNORM_U8, c.args.quant_scale = 1; },
       {"y_dtype u8 with x_col_stride 9 is not supported; it takes f32, bf16, f16"},
       SIMDNORM_UNSUPPORTED},
      {[](auto& c) { MakeColumn(c), c.args.x_col_stride = 0; },
       {"x_col_stride 1 with y_col_stride 9 is not supported; columns are adjacent in both or in neither"},
       SIMDNORM_UNSUPPORTED},
      {[](auto& c) { MakeColumn(c), c.args.x_col_stride = -9; },
       {"x_col_stride -9 and x_inner_stride 1: one has to be 1, the other more than 0"}},
      {[](auto& c) { MakeColumn(c), c.args.x_col_stride = kHuge; },
       {"cols 3 times x_col_stride 4000000000000000000 is more elements than memory can hold"}},
      {[](auto& c) { MakeColumn(c), c.args.y_row_stride = 18; },
       {"y_row_stride 18, y_col_stride 9 and y_inner_stride 1 let elements of [2, 3, 1] overlap"}},
      {[](auto& c) { MakeColumn(c), c.args.y = c.memory.x, c.args.y_col_stride = 10, c.args.x_row_stride = 36; },
       {"y is x, but y_col_stride 10 is not x_col_stride 9"}},
      {[](auto& c) { MakeInner(c), c.args.rstd = c.memory.x + 121; }, {"rstd 0x", " overlaps y 0x"}},  // 8 of them
  };
}

template <class F>
std::vector<BadCall<F>> BadCallsOfChannels() {
  return {
      {[](auto& c) { c.args.batch = -1; }, {"batch -1 is negative"}},
      {[](auto& c) { c.args.channels = -2; }, {"channels -2 is negative"}},
      {[](auto& c) { c.args.spatial = -3; }, {"spatial -3 is negative"}},
      {[](auto& c) { c.args.batch = 0, c.args.spatial = -3; }, {"spatial -3 is negative"}},
      {[](auto& c) { c.args.layout = 7; }, {"layout 7 is none of 0 (NCHW), 1 (NHWC), 2 (nChw8c), 3 (nChw16c)"}},
      {[](auto& c) { c.args.layout = -1; }, {"layout -1 is none of 0 (NCHW), 1 (NHWC), 2 (nChw8c), 3 (nChw16c)"}},
      {[](auto& c) { c.args.batch = kHuge; },
       {"batch 4000000000000000000 times spatial 4 is more elements than memory can hold"}},
      {[](auto& c) { c.args.spatial = kHuge; },
       {"batch 2 times spatial 4000000000000000000 is more elements than memory can hold"}},
      {[](auto& c) { c.args.channels = kHuge; },
       {"batch * spatial 8 times channels 4000000000000000000 is more elements than memory can hold"}},
      {[](auto& c) { c.args.y_dtype = SIMDNORM_I8; }, {"y_dtype 3 is none of 0 (f32), 1 (bf16), 2 (f16)"}},
      {[](auto& c) { c.args.mask = c.memory.mask; }, {"lengths excludes mask; only one can be given"}},
      {[](auto& c) { c.args.lengths = nullptr, c.args.padding = SIMDNORM_PADDING_UNTOUCHED; },
       {"padding 1 (untouched) needs lengths or mask; both are NULL"}},
      {[](auto& c) { c.memory.lengths[1] = 5; }, {"lengths[1] 5 is not within 0..spatial, which is 4"}},
      {[](auto& c) { c.args.lengths = nullptr, c.args.mask = reinterpret_cast<uint8_t*>(c.memory.x + 127); },
       {"y 0x", " overlaps mask 0x"}},
      {[](auto& c) { c.args.shift = Misaligned(c.args.shift); }, {"shift 0x", " is not aligned to 4 bytes"}},
      {[](auto& c) { c.args.shift = c.args.y; }, {"y 0x", " overlaps shift 0x"}},
      {[](auto& c) { c.args.mean = Misaligned(c.args.mean); }, {"mean 0x", " is not aligned to 4 bytes"}},
  };
}

template <class F>
std::vector<BadCall<F>> BadCallsOfBatchNorm() {
  return {
      // The last block's room reaches beyond the 24 values that there are.
      {[](auto& c) { c.args.layout = SIMDNORM_NCHW8C, c.args.y = c.memory.x + 60; },
       {"y partly overlaps x: it begins 240 bytes from x, which extends over 256"}},
      {[](auto& c) { c.args.layout = SIMDNORM_NCHW16C, c.args.y = c.memory.x + 100; },
       {"y partly overlaps x: it begins 400 bytes from x, which extends over 512"}},
  };
}

template <class F>
std::vector<BadCall<F>> BadCallsOfOne() {
  std::vector<BadCall<F>> calls;
  const auto add = [&](const BadCall<F>& call) { calls.push_back(call); };
  if constexpr (kIsInference<F>) {
    add({[](auto& c) { c.args.mean = nullptr; }, {"mean is NULL"}});
    add({[](auto& c) { c.args.variance = nullptr; }, {"variance is NULL"}});
    add({[](auto& c) { c.args.variance = Misaligned(c.args.variance); }, {"variance 0x", " is not aligned to 4 bytes"}});
    add({[](auto& c) { c.args.variance = c.memory.y + 1; }, {"y 0x", " overlaps variance 0x"}});
  }
  if constexpr (kIsTraining<F> || kIsGroups<F> || std::is_same_v<F, LayerNorm>) {
    add({[](auto& c) { c.args.mean = static_cast<float*>(c.args.y); }, {"mean 0x", " overlaps y 0x"}});
    add({[](auto& c) { c.args.mean = c.args.rstd; }, {"rstd 0x", " overlaps mean 0x"}});
  }
  if constexpr (kIsTraining<F>) {
    add({[](auto& c) { c.args.momentum = kNaN; }, {"momentum is nan; it must be finite"}});
    add({[](auto& c) { c.args.momentum = -kInf; }, {"momentum is -inf; it must be finite"}});
    add({[](auto& c) { c.args.running_variance_kind = 2; }, {"running_variance_kind 2 is none of 0 (unbiased), 1 (biased)"}});
    add({[](auto& c) { MakeOneValue(c); },
         {"running_variance_kind is unbiased, which takes 2 values per channel; batch 1 and spatial 1 give 1"}});
    add({[](auto& c) { c.memory.lengths[0] = 1, c.memory.lengths[1] = 0; },
         {"running_variance_kind is unbiased, which takes 2 values per channel; batch 2 and spatial 4 cut to lengths give 1"}});
    add({[](auto& c) {
           memset(c.memory.mask, 0, sizeof(c.memory.mask));
           c.memory.mask[7] = 200;
           c.args.lengths = nullptr, c.args.mask = c.memory.mask;
         },
         {"running_variance_kind is unbiased, which takes 2 values per channel; batch 2 and spatial 4 under mask give 1"}});
    add({[](auto& c) { c.args.running_mean = Misaligned(c.args.running_mean); },
         {"running_mean 0x", " is not aligned to 4 bytes"}});
    add({[](auto& c) { c.args.running_variance = Misaligned(c.args.running_variance); },
         {"running_variance 0x", " is not aligned to 4 bytes"}});
    add({[](auto& c) { c.args.running_mean = c.args.mean; }, {"running_mean 0x", " overlaps mean 0x"}});
    add({[](auto& c) { c.args.running_variance = c.args.running_mean + 2; },
         {"running_variance 0x", " overlaps running_mean 0x"}});
  }
  if constexpr (kIsGroups<F>) {
    add({[](auto& c) { c.args.layout = SIMDNORM_NCHW8C; },
         {"layout 2 (blocked) is for batch norm only; here it takes 0 (NCHW) and 1 (NHWC)"},
         SIMDNORM_UNSUPPORTED});
    add({[](auto& c) { c.args.reserved = 8; }, {"reserved is 8; it has to be 0"}});
    add({[](auto& c) { c.args.mean = c.memory.x + 123; }, {"mean 0x", " overlaps y 0x"}});  // 6 of them
  }
  if constexpr (std::is_same_v<F, GroupNorm>) {
    add({[](auto& c) { c.args.groups = 0; }, {"groups 0 has to be more than 0"}});
    add({[](auto& c) { c.args.groups = -3; }, {"groups -3 has to be more than 0"}});
    add({[](auto& c) { c.args.groups = 2; }, {"groups 2 does not divide channels 3"}});
    add({[](auto& c) { c.args.groups = 6; }, {"groups 6 does not divide channels 3"}});
  }
  if constexpr (std::is_same_v<F, InstanceNorm>) {
    add({[](auto& c) { c.args.groups = 1; }, {"groups 1 of instance norm is neither 0 nor channels 3"}});
    add({[](auto& c) { c.args.groups = -3; }, {"groups -3 of instance norm is neither 0 nor channels 3"}});
  }
  return calls;
}

std::vector<BadCall<Fold>> BadCallsOfFold() {
  return {
      {[](auto& c) { c.args.position = 2; }, {"position 2 is none of 0 (preceding), 1 (following)"}},
      {[](auto& c) { c.args.transposed = -1; }, {"transposed -1 is none of 0, 1"}},
      {[](auto& c) { c.args.reserved = 1; }, {"reserved is 1; it has to be 0"}},
      {[](auto& c) { c.args.out_channels = -4; }, {"out_channels -4 is negative"}},
      {[](auto& c) { c.args.in_channels = -6; }, {"in_channels -6 is negative"}},
      {[](auto& c) { c.args.kernel = -1; }, {"kernel -1 is negative"}},
      {[](auto& c) { c.args.groups = -2; }, {"groups -2 is negative"}},
      {[](auto& c) { c.args.groups = 3; }, {"groups 3 does not divide out_channels 4"}},
      {[](auto& c) { c.args.groups = 4; }, {"groups 4 does not divide in_channels 6"}},
      {[](auto& c) { c.args.groups = 3, c.args.in_channels = 0; }, {"groups 3 does not divide out_channels 4"}},
      {[](auto& c) { c.args.in_channels = int64_t{1} << 62; },
       {"out_channels 4 times in_channels / groups 2305843009213693952 is more elements than memory can hold"}},
      {[](auto& c) { c.args.kernel = kHuge; },
       {"pairs of channels 12 times kernel 4000000000000000000 is more elements than memory can hold"}},
      {[](auto& c) { c.args.mean = nullptr; }, {"mean is NULL"}},
      {[](auto& c) { c.args.variance = nullptr; }, {"variance is NULL"}},
      {[](auto& c) { c.args.weight = nullptr; }, {"weight is NULL"}},
      {[](auto& c) { c.args.folded_weight = nullptr; }, {"folded_weight is NULL"}},
      {[](auto& c) { c.args.folded_bias = nullptr; }, {"folded_bias is NULL"}},
      {[](auto& c) { c.args.weight = Misaligned(c.args.weight); }, {"weight 0x", " is not aligned to 4 bytes"}},
      {[](auto& c) { c.args.folded_weight = c.memory.x + 1; },
       {"folded_weight partly overlaps weight: it begins 4 bytes from weight, which extends over 144"}},
      {[](auto& c) { c.args.folded_bias = c.memory.bias + 3; },
       {"folded_bias partly overlaps bias: it begins 12 bytes from bias, which extends over 16"}},
      {[](auto& c) { c.args.folded_bias = c.memory.shift; }, {"folded_bias 0x", " overlaps shift 0x"}},
      {[](auto& c) { c.args.folded_bias = c.memory.y + 35; }, {"folded_bias 0x", " overlaps folded_weight 0x"}},
      {[](auto& c) { c.args.folded_bias = c.memory.mean + 4, c.args.position = SIMDNORM_FOLD_INTO_FOLLOWING; },
       {"folded_bias 0x", " overlaps mean 0x"}},  // which are 6 then, not 4
  };
}

template <class F>
std::vector<BadCall<F>> BadCalls() {
  std::vector<BadCall<F>> calls = BadCallsOfAll<F>();
  const auto add = [&](const std::vector<BadCall<F>>& more) { calls.insert(calls.end(), more.begin(), more.end()); };
  if constexpr (kIsFold<F>) {
    add(BadCallsOfFold());
  } else {
    add(BadCallsOfKernels<F>());
    if constexpr (kIsRows<F>) {
      add(BadCallsOfRows<F>());
    } else {
      add(BadCallsOfChannels<F>());
    }
    if constexpr (kIsTraining<F> || kIsInference<F>) add(BadCallsOfBatchNorm<F>());
    add(BadCallsOfOne<F>());
  }
  return calls;
}

TEST_CASE_TEMPLATE_DEFINE("each bad argument is refused in words, and nothing is written", F, bad_arguments) {
  constexpr char kFill = '#';
  const std::vector<BadCall<F>> calls = BadCalls<F>();
  for (size_t i = 0; i < calls.size(); ++i) {
    const BadCall<F>& bad = calls[i];
    CAPTURE(i);
    std::string whole;
    for (const size_t capacity : {400, 256, 20, 2, 1, 0}) {
      char message[401];
      memset(message, kFill, sizeof(message));
      Memory memory;
      Call<F> call = Good<F>(memory, OptionsOf(message, capacity));
      bad.spoil(call);
      const Memory before = memory;
      CHECK_MESSAGE(call.Run() == bad.status, std::string(message, capacity));
      CHECK_MESSAGE(memcmp(&memory, &before, sizeof(memory)) == 0, std::string(message, capacity));
      if (capacity == 0) {
        CHECK(message[0] == kFill);
        continue;
      }
      const std::string said(message, strnlen(message, capacity));
      CHECK_MESSAGE(said.size() < capacity, "not terminated");
      CHECK_MESSAGE(message[capacity] == kFill, "written beyond the buffer");
      if (capacity == 400) {
        whole = said;
        if (bad.words[1] == nullptr) {
          CHECK(said == bad.words[0]);
        } else {
          for (const char* part : bad.words) CHECK_MESSAGE(said.find(part) != std::string::npos, said << " lacks " << part);
        }
        CHECK_MESSAGE(said.size() < 256, said << " does not fit 256 bytes");
      } else {
        CHECK(said == whole.substr(0, capacity - 1));
      }
    }
    // Without a buffer, whatever capacity says, and without options, if the fault is not in them.
    Memory memory;
    Call<F> call = Good<F>(memory, OptionsOf(nullptr, 400));
    bad.spoil(call);
    const Memory before = memory;
    CHECK(call.Run() == bad.status);
    const bool options_are_good = call.options.target == nullptr && call.options.max_threads == 0;
    if (options_are_good) CHECK(F::Call(&call.args, nullptr) == bad.status);
    CHECK(memcmp(&memory, &before, sizeof(memory)) == 0);
  }
}
TEST_CASE_TEMPLATE_APPLY(bad_arguments, All);

TEST_CASE_TEMPLATE_DEFINE("args is NULL", F, args_is_null) {
  char message[256];
  const simdnorm_options options = OptionsOf(message, sizeof(message));
  CHECK(F::Call(nullptr, &options) == SIMDNORM_INVALID_ARGUMENT);
  CHECK(std::string(message) == "args is NULL");
  CHECK(F::Call(nullptr, nullptr) == SIMDNORM_INVALID_ARGUMENT);
}
TEST_CASE_TEMPLATE_APPLY(args_is_null, All);

TEST_CASE_TEMPLATE_DEFINE("options of a strange size are refused, and their message is not trusted", F, strange_options) {
  for (const size_t size : {size_t{0}, size_t{8}, sizeof(simdnorm_options) - 1, size_t{1} << 20}) {
    Memory memory;
    char message[] = "unchanged";
    Call<F> call = Good<F>(memory, OptionsOf(message, sizeof(message)));
    call.options.struct_size = size;
    const Memory before = memory;
    CHECK(call.Run() == SIMDNORM_INVALID_ARGUMENT);
    CHECK(std::string(message) == "unchanged");
    CHECK(memcmp(&memory, &before, sizeof(memory)) == 0);
  }
}
TEST_CASE_TEMPLATE_APPLY(strange_options, All);

TEST_CASE("subnormal arguments are what they are where the caller's floating-point environment has them be 0") {
  constexpr float kSubnormal = 1e-40f;
  Memory memory;
  const auto status_of = [&](const auto& spoil) {
    auto call = Good<RMSNorm>(memory);
    call.args.residual = nullptr;
    spoil(call.args);
    const UnusualFloatEnvironment environment;
    return call.Run();
  };
  CHECK(status_of([](auto& args) { args.y_dtype = SIMDNORM_I8, args.quant_scale = kSubnormal; }) == SIMDNORM_OK);
  CHECK(status_of([](auto& args) { args.y_dtype = SIMDNORM_I8, args.quant_scale = -kSubnormal; }) == SIMDNORM_INVALID_ARGUMENT);
  CHECK(status_of([](auto& args) { args.quant_scale = kSubnormal; }) == SIMDNORM_INVALID_ARGUMENT);
  CHECK(status_of([](auto& args) { args.activation_slope = kSubnormal; }) == SIMDNORM_INVALID_ARGUMENT);
  CHECK(status_of([](auto& args) { args.scale = nullptr, args.scale_offset = kSubnormal; }) == SIMDNORM_INVALID_ARGUMENT);
}

TEST_CASE("the longest words fit") {
  Memory memory;
  char message[257];
  Call<LayerNorm> call = Good<LayerNorm>(memory, OptionsOf(message, sizeof(message)));
  MakePlain(call);
  constexpr int64_t kFar = std::numeric_limits<int64_t>::max() / 64;
  call.args.rows = call.args.inner = 2;
  call.args.cols = kFar / 4;
  call.args.y_row_stride = kFar;
  call.args.y_col_stride = 1;
  call.args.x_col_stride = 1;
  call.args.x_inner_stride = call.args.y_inner_stride = kFar / 4 - 1;
  CHECK(call.Run() == SIMDNORM_INVALID_ARGUMENT);
  CHECK(std::string(message).find("let elements of") != std::string::npos);
  CHECK(strlen(message) < 256);
}

// ---- Other versions.

// A struct as a later version may have it.
template <class Struct>
struct Later {
  Struct known;
  char added[40];
};

TEST_CASE_TEMPLATE_DEFINE("structs of a later version pass as long as what is new in them is 0", F, later_structs) {
  Memory memory;
  char message[400];
  const Call<F> call = Good<F>(memory, OptionsOf(message, sizeof(message)));
  Later<typename F::Args> args = {call.args, {}};
  Later<simdnorm_options> options = {call.options, {}};
  args.known.struct_size = sizeof(args);
  options.known.struct_size = sizeof(options);
  CHECK(F::Call(&args.known, &options.known) == SIMDNORM_OK);

  const Memory before = memory;
  for (const size_t added : {size_t{0}, sizeof(args.added) - 1}) {
    args.added[added] = 1;
    CHECK(F::Call(&args.known, &options.known) == SIMDNORM_UNSUPPORTED);
    CHECK(std::string(message) == "args->struct_size " + std::to_string(sizeof(args)) + " is more than this library's " +
                                      std::to_string(sizeof(args.known)) + ", and what is new in it is set");
    args.added[added] = 0;
    options.added[added] = 1;
    CHECK(F::Call(&args.known, &options.known) == SIMDNORM_UNSUPPORTED);
    options.added[added] = 0;
  }
  CHECK(memcmp(&memory, &before, sizeof(memory)) == 0);
}
TEST_CASE_TEMPLATE_APPLY(later_structs, All);

// The size that a function's arguments had in the version that introduced it, on machines with 64-bit pointers: the ABI.
template <class F>
constexpr size_t kFirstSize = std::is_same_v<F, LayerNorm>   ? 104
                              : std::is_same_v<F, RMSNorm>   ? 88
                              : std::is_same_v<F, Inference> ? 104
                              : std::is_same_v<F, Training>  ? 128
                              : kIsGroups<F>                 ? 152
                                                             : 120;

TEST_CASE_TEMPLATE_DEFINE("structs of an earlier version end where theirs did", F, earlier_structs) {
  using Args = typename F::Args;
  // A call as version 0.1 could make it has nothing of what came later.
  const auto run = [](size_t struct_size, int after) {
    Memory memory;
    char message[256] = "";
    Call<F> call = Good<F>(memory, OptionsOf(message, sizeof(message)));
    call.args.struct_size = struct_size;
    unsigned char* const bytes = reinterpret_cast<unsigned char*>(&call.args);
    memset(bytes + kFirstSize<F>, 0, sizeof(Args) - kFirstSize<F>);
    if (struct_size < sizeof(Args)) memset(bytes + struct_size, after, sizeof(Args) - struct_size);
    CHECK_MESSAGE(call.Run() == SIMDNORM_OK, std::string(message));
    return memory;
  };
  const Memory expected = run(sizeof(Args), 0);
  for (size_t size = kFirstSize<F>; size < sizeof(Args); size += 4) {
    CAPTURE(size);
    const Memory actual = run(size, 0xA5);
    CHECK(memcmp(&actual, &expected, sizeof(actual)) == 0);
  }

  Memory memory;
  char message[256] = "";
  Call<F> call = Good<F>(memory, OptionsOf(message, sizeof(message)));
  call.args.struct_size = kFirstSize<F> - 1;
  const Memory before = memory;
  CHECK(call.Run() == SIMDNORM_INVALID_ARGUMENT);
  CHECK(std::string(message) == "args->struct_size " + std::to_string(kFirstSize<F> - 1) + " is less than " +
                                    std::to_string(kFirstSize<F>) + "; start from the _DEFAULTS macro");
  CHECK(memcmp(&memory, &before, sizeof(memory)) == 0);
}
TEST_CASE_TEMPLATE_APPLY(earlier_structs, All);

// ---- What is allowed.

template <class F>
void AddAllowedRows(std::vector<Change<F>>* calls) {
  const auto add = [&](Change<F> change) { calls->push_back(change); };
  add([](auto& c) { c.args.rows = c.args.rows_per_sequence = 1, c.memory.lengths[0] = 1, c.args.x_row_stride = 2; });
  add([](auto& c) { c.args.x_row_stride = c.args.y_row_stride = 5; });
  add([](auto& c) {  // the rows of y in the gaps of x
    c.args.x_row_stride = c.args.y_row_stride = 10;
    c.args.y = c.memory.x + 5;
  });
  add([](auto& c) {  // in bf16, beside f32
    c.args.x_row_stride = 8, c.args.y_row_stride = 16, c.args.y_dtype = SIMDNORM_BF16;
    c.args.y = c.memory.x + 5;
  });
  add([](auto& c) {  // y and h side by side
    c.args.h_row_stride = c.args.y_row_stride = 10;
    c.args.h = c.memory.y + 5;
  });

  // In place.
  add([](auto& c) { c.args.y = c.memory.gate; });
  add([](auto& c) { c.args.y = c.memory.residual, c.args.residual_order = SIMDNORM_RESIDUAL_AFTER; });
  add([](auto& c) { c.args.h = c.memory.x; });
  add([](auto& c) { c.args.h = c.memory.residual, c.args.y = c.memory.x; });
  add([](auto& c) { c.args.x_dtype = SIMDNORM_BF16, c.args.y_dtype = SIMDNORM_F16, c.args.y = c.memory.x; });
  add([](auto& c) { c.args.residual = c.memory.x, c.args.y = c.memory.x; });
  add([](auto& c) { c.args.gate = c.args.residual = c.memory.x; });

  // Absent or beside the point.
  add([](auto& c) { MakePlain(c); });
  add([](auto& c) { MakePlain(c), c.args.residual_row_stride = c.args.gate_row_stride = 1; });
  add([](auto& c) { MakePlain(c), c.args.h = c.memory.h; });
  add([](auto& c) { MakePlain(c), c.args.h = c.memory.h, c.args.h_rounding = SIMDNORM_H_ROUNDED; });
  add([](auto& c) { MakePlain(c), c.args.bias = c.memory.bias, c.args.h_rounding = SIMDNORM_H_ROUNDED; });
  add([](auto& c) { MakePlain(c), c.args.residual = c.memory.residual, c.args.h_rounding = SIMDNORM_H_ROUNDED; });
  add([](auto& c) { c.args.activation = SIMDNORM_LEAKY_RELU, c.args.activation_slope = -2; });
  add([](auto& c) { c.memory.lengths[0] = 0; });
  add([](auto& c) { c.args.padding = SIMDNORM_PADDING_UNTOUCHED; });
  add([](auto& c) { c.args.rows_per_sequence = 1, c.args.rows = 2, c.memory.lengths[0] = c.memory.lengths[1] = 1; });

  // Scale.
  add([](auto& c) { c.args.scale_offset = 1; });
  add([](auto& c) { c.args.rows_per_scale = 3, c.args.scale_row_stride = 1; });
  add([](auto& c) { c.args.rows_per_scale = 1; });
  add([](auto& c) { c.args.rows_per_scale = 1, c.args.scale_row_stride = 5; });

  // Dtypes, at addresses that suit them.
  add([](auto& c) {
    c.args.x_dtype = c.args.scale_dtype = c.args.bias_dtype = SIMDNORM_BF16;
    c.args.x = c.memory.x + 1, c.args.scale = reinterpret_cast<const char*>(c.memory.scale) + 2;
  });
  add([](auto& c) { c.args.y_dtype = SIMDNORM_I8, c.args.quant_scale = 0.25f, c.args.zero_point = -128; });
  add([](auto& c) { c.args.y_dtype = SIMDNORM_U8, c.args.quant_scale = 0.25f, c.args.zero_point = 255; });
  add([](auto& c) { c.args.y_dtype = SIMDNORM_U8, c.args.quant_scale = 1, c.args.y = Misaligned(c.args.y); });
  add([](auto& c) { c.args.y_dtype = SIMDNORM_I8, c.args.quant_scales = c.memory.quant_scales; });
  add([](auto& c) { MakeQ8(c), c.args.y = reinterpret_cast<char*>(c.memory.y) + 2; });
  add([](auto& c) { MakeQ8(c), c.args.y_row_stride = 64; });
  add([](auto& c) { MakeQ8(c), c.args.rstd = c.memory.y + 17; });  // two blocks of 34 bytes before it

  // Inner positions.
  add([](auto& c) { MakeInner(c); });
  add([](auto& c) { MakeInner(c), c.args.y = c.memory.x; });
  add([](auto& c) { MakeInner(c), c.args.rows_per_scale = 1; });
  add([](auto& c) { c.args.x_col_stride = c.args.y_col_stride = 1; });
  add([](auto& c) { MakePlain(c), c.args.inner = c.args.x_col_stride = 1, c.args.x_inner_stride = 77; });
  add([](auto& c) { MakeColumn(c); });
  add([](auto& c) { MakeColumn(c), c.args.y = c.memory.x; });
  add([](auto& c) { MakeColumn(c), c.args.y_col_stride = c.args.y_row_stride = 0; });
  add([](auto& c) { MakeInner(c), c.args.cols = 1, c.args.x_col_stride = 9, c.args.x_inner_stride = 2; });
  add([](auto& c) {  // heads of packed q, k, v; then tokens within heads
    MakeInner(c);
    c.args.x_col_stride = 1, c.args.x_inner_stride = 3, c.args.x_row_stride = 36;
    c.args.y_col_stride = 1, c.args.y_inner_stride = 6, c.args.y_row_stride = 3;
  });
  add([](auto& c) { MakeInner(c), c.args.rows = 1, c.args.y_col_stride = 9, c.args.y_inner_stride = 1; });
  add([](auto& c) {  // a part of a larger tensor, in its place
    MakeInner(c);
    c.args.x_col_stride = c.args.y_col_stride = 9;
    c.args.x_inner_stride = c.args.y_inner_stride = 1;
    c.args.x_row_stride = c.args.y_row_stride = 27;
    c.args.y = c.memory.x;
  });
  add([](auto& c) {  // k beside q
    MakeInner(c);
    c.args.x_col_stride = c.args.y_col_stride = 1;
    c.args.x_inner_stride = c.args.y_inner_stride = 3;
    c.args.x_row_stride = c.args.y_row_stride = 24;
    c.args.y = c.memory.x + 12;
  });
  add([](auto& c) {  // x may repeat itself
    MakeInner(c);
    c.args.x_col_stride = c.args.x_inner_stride = c.args.x_row_stride = 1;
    c.args.y_col_stride = 1, c.args.y_inner_stride = 3;
  });
}

template <class F>
void AddAllowedChannels(std::vector<Change<F>>* calls) {
  const auto add = [&](Change<F> change) { calls->push_back(change); };
  add([](auto& c) { c.args.shift = c.memory.scale; });
  add([](auto& c) { c.args.layout = SIMDNORM_NHWC; });
  add([](auto& c) { c.args.y = c.memory.residual; });
  add([](auto& c) { c.args.residual = c.memory.x, c.args.y = c.memory.x; });
  add([](auto& c) { c.args.x_dtype = c.args.y_dtype = SIMDNORM_F16, c.args.y = c.memory.x; });
  add([](auto& c) { c.args.lengths = nullptr; });
  add([](auto& c) { c.args.lengths = nullptr, c.args.mask = c.memory.mask; });
  add([](auto& c) { c.args.lengths = nullptr, c.args.mask = c.memory.mask, memset(c.memory.mask, 0, 8); });
  add([](auto& c) { c.memory.lengths[0] = c.memory.lengths[1] = 0; });
  add([](auto& c) { c.memory.lengths[0] = 4; });
  add([](auto& c) { c.args.padding = SIMDNORM_PADDING_UNTOUCHED; });
  add([](auto& c) {
    c.args.padding = SIMDNORM_PADDING_UNTOUCHED;
    c.args.lengths = nullptr, c.args.mask = c.memory.mask;
  });
  if constexpr (kIsTraining<F> || kIsInference<F>) {
    add([](auto& c) { c.args.layout = SIMDNORM_NCHW8C, c.args.y = c.memory.x + 64; });
    add([](auto& c) { c.args.layout = SIMDNORM_NCHW16C; });
  }
  if constexpr (kIsTraining<F>) {
    add([](auto& c) { c.args.running_mean = nullptr, c.args.running_variance = nullptr; });
    add([](auto& c) { c.args.running_mean = nullptr; });
    add([](auto& c) { MakeOneValue(c), c.args.running_variance = nullptr; });
    add([](auto& c) { MakeOneValue(c), c.args.running_variance_kind = SIMDNORM_BIASED; });
    add([](auto& c) { c.memory.lengths[0] = c.memory.lengths[1] = 1; });
    add([](auto& c) { c.args.momentum = -7; });
  }
  if constexpr (std::is_same_v<F, GroupNorm>) add([](auto& c) { c.args.groups = 1; });
  if constexpr (std::is_same_v<F, InstanceNorm>) add([](auto& c) { c.args.groups = 3; });
}

TEST_CASE_TEMPLATE_DEFINE("what is allowed", F, allowed) {
  std::vector<Change<F>> calls = {
      [](auto&) {},
      [](auto& c) { c.args.scale = nullptr; },
      [](auto& c) { c.args.epsilon = -1; },
      [](auto& c) { c.args.epsilon = 0; },
      [](auto& c) { c.options.max_threads = 1000; },
      [](auto& c) { c.options.target = simdnorm_targets()[0]; },
  };
  const auto add = [&](Change<F> change) { calls.push_back(change); };
  if constexpr (kHasShift<F>) add([](auto& c) { c.args.shift = c.args.scale; });  // inputs may overlap
  if constexpr (!kIsFold<F>) add([](auto& c) { c.args.y = c.memory.x; });
  if constexpr (kIsRows<F>) AddAllowedRows(&calls);
  if constexpr (!kIsRows<F> && !kIsFold<F>) AddAllowedChannels(&calls);
  if constexpr (kIsFold<F>) {
    add([](auto& c) { c.args.folded_weight = c.memory.x, c.args.folded_bias = c.memory.bias; });
    add([](auto& c) { c.args.bias = nullptr; });
    add([](auto& c) { c.args.groups = c.args.kernel = 0; });
    add([](auto& c) { c.args.position = SIMDNORM_FOLD_INTO_FOLLOWING, c.args.transposed = 1; });
    add([](auto& c) { c.options.target = "AVX9", c.options.max_threads = -1; });  // only the message is used
  }
  if constexpr (kIsTraining<F> || kIsGroups<F> || std::is_same_v<F, LayerNorm>) {
    add([](auto& c) { c.args.mean = c.args.rstd = nullptr; });
  }
  for (size_t i = 0; i < calls.size(); ++i) {
    Memory memory;
    char message[256] = "unchanged";
    Call<F> call = Good<F>(memory, OptionsOf(message, sizeof(message)));
    calls[i](call);
    const Memory before = memory;
    CHECK_MESSAGE(call.Run() == SIMDNORM_OK, "call " << i << ": " << std::string(message));
    CHECK(std::string(message) == "unchanged");
    CHECK_MESSAGE(memcmp(&memory, &before, sizeof(memory)) != 0, "call " << i << " wrote nothing");
  }
}
TEST_CASE_TEMPLATE_APPLY(allowed, All);

TEST_CASE_TEMPLATE_DEFINE("tensors without elements need no pointers", F, no_elements) {
  typename F::Args args = {};
  args.struct_size = sizeof(args);
  if constexpr (std::is_same_v<F, GroupNorm>) args.groups = 1;
  CHECK(F::Call(&args, nullptr) == SIMDNORM_OK);
  if constexpr (kIsRows<F>) {
    args.rows = 5;
    CHECK(F::Call(&args, nullptr) == SIMDNORM_OK);
    args.rows = 0, args.cols = 5;
    CHECK(F::Call(&args, nullptr) == SIMDNORM_OK);
    args.rows = 5, args.inner = 7, args.cols = 0;
    CHECK(F::Call(&args, nullptr) == SIMDNORM_OK);
    args.x_col_stride = 1, args.x_inner_stride = 8;
    CHECK(F::Call(&args, nullptr) == SIMDNORM_OK);
  } else if constexpr (kIsFold<F>) {
    args.out_channels = args.kernel = 5;
    CHECK(F::Call(&args, nullptr) == SIMDNORM_OK);
    args.out_channels = 0, args.in_channels = 5;
    CHECK(F::Call(&args, nullptr) == SIMDNORM_OK);
  } else {
    args.batch = args.spatial = 5;
    CHECK(F::Call(&args, nullptr) == SIMDNORM_OK);
    args.batch = args.spatial = kHuge;
    CHECK(F::Call(&args, nullptr) == SIMDNORM_OK);
    args.batch = 0, args.channels = 5;
    CHECK(F::Call(&args, nullptr) == SIMDNORM_OK);
  }
  args.epsilon = kNaN;  // the other checks hold all the same
  CHECK(F::Call(&args, nullptr) == SIMDNORM_INVALID_ARGUMENT);
}
TEST_CASE_TEMPLATE_APPLY(no_elements, All);

// ---- What the entry points get.

// A good call's arguments after validation.
template <class F, class... Which>
typename F::Args Spelled(const Change<F>& change, Which... which) {
  Memory memory;
  Call<F> call = Good<F>(memory);
  change(call);
  typename F::Args valid;
  simdnorm::CallOptions options;
  bool empty = false;
  CHECK(simdnorm::Validate(&call.args, &call.options, &valid, &options, &empty, which...) == SIMDNORM_OK);
  CHECK_FALSE(empty);
  return valid;
}

TEST_CASE_TEMPLATE("defaults of rows are spelled out", F, LayerNorm, RMSNorm) {
  const auto rows = Spelled<F>([](auto&) {});
  for (const int64_t stride :
       {rows.x_row_stride, rows.y_row_stride, rows.residual_row_stride, rows.h_row_stride, rows.gate_row_stride}) {
    CHECK(stride == 5);
  }
  CHECK(rows.inner == 1);
  for (const int64_t stride : {rows.x_col_stride, rows.y_col_stride}) CHECK(stride == 1);
  for (const int64_t stride : {rows.x_inner_stride, rows.y_inner_stride}) CHECK(stride == 0);
  CHECK(rows.rows_per_scale == 3);
  CHECK(rows.scale_row_stride == 5);
  CHECK(Spelled<F>([](auto& c) { c.args.rows_per_scale = 1; }).scale_row_stride == 5);
  CHECK(Spelled<F>([](auto& c) { MakePlain(c); }).rows_per_sequence == 3);

  const auto given = Spelled<F>([](auto& c) { c.args.x_row_stride = 6, c.args.gate_row_stride = 7; });
  CHECK(given.x_row_stride == 6);
  CHECK(given.gate_row_stride == 7);
  const auto one = Spelled<F>([](auto& c) { MakePlain(c), c.args.rows = 1, c.args.x_row_stride = 1; });
  CHECK(one.x_row_stride == 5);

  const auto inner =
      Spelled<F>([](auto& c) { MakeInner(c), c.args.y_col_stride = 5, c.args.y_inner_stride = 1, c.args.y_row_stride = 20; });
  CHECK(inner.x_row_stride == 12);
  CHECK(inner.x_col_stride == 4);
  CHECK(inner.x_inner_stride == 1);
  CHECK(inner.y_row_stride == 20);
  CHECK(inner.y_col_stride == 5);
  CHECK(inner.y_inner_stride == 1);

  const auto column = Spelled<F>([](auto& c) { MakeColumn(c); });
  for (const int64_t stride : {column.x_row_stride, column.y_row_stride}) CHECK(stride == 36);
  for (const int64_t stride : {column.x_col_stride, column.y_col_stride}) CHECK(stride == 9);
  for (const int64_t stride : {column.x_inner_stride, column.y_inner_stride}) CHECK(stride == 1);

  // y without strides is dense, in the order of x.
  const auto to_dense = Spelled<F>([](auto& c) { MakeColumn(c), c.args.y_row_stride = c.args.y_col_stride = 0; });
  CHECK(to_dense.x_col_stride == 9);
  CHECK(to_dense.y_row_stride == 3);
  CHECK(to_dense.y_col_stride == 1);
  const auto heads =
      Spelled<F>([](auto& c) { MakeInner(c), c.args.x_col_stride = 1, c.args.x_inner_stride = 5, c.args.x_row_stride = 24; });
  CHECK(heads.x_row_stride == 24);
  CHECK(heads.x_inner_stride == 5);
  CHECK(heads.y_row_stride == 12);
  CHECK(heads.y_col_stride == 1);
  CHECK(heads.y_inner_stride == 3);
}

TEST_CASE("defaults of groups and of folding are spelled out") {
  CHECK(Spelled<InstanceNorm>([](auto&) {}, true).groups == 3);
  CHECK(Spelled<GroupNorm>([](auto&) {}, false).groups == 3);
  CHECK(Spelled<Fold>([](auto& c) { c.args.groups = 0; }).groups == 1);
  CHECK(Spelled<Fold>([](auto& c) { c.args.kernel = 0; }).kernel == 1);
}

}  // namespace
}  // namespace simdnorm_test
