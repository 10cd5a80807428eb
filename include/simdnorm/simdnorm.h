/* simdnorm: normalization layers on CPUs (layer, RMS, batch, group and instance norm). The C API.
 *
 * These are the only symbols the library exports; simdnorm.hpp is the same API for C++17. The usual call:
 *
 *     simdnorm_layer_norm_args args = {SIMDNORM_LAYER_NORM_DEFAULTS};
 *     args.x = x, args.y = y, args.rows = rows, args.cols = cols;
 *     if (simdnorm_layer_norm(&args, NULL) != SIMDNORM_OK) ...
 *
 * Fields left out of an initializer are 0, and 0 is their default; the _DEFAULTS macros (C99 designated initializers) set the
 * others: struct_size, by which later versions tell which fields a caller knows, and epsilon. Another epsilon is best set
 * afterwards (args.epsilon = 1e-6f), since compilers warn of a field that is initialized twice. In C++ the wrappers of
 * simdnorm.hpp are the way, or args = {} with struct_size and epsilon set by hand.
 *
 * What holds for every function here:
 *   Units        Sizes and strides count elements, not bytes; they are 64-bit, so tensors beyond 2^31 elements work.
 *   Data         Pointers need the alignment of their element type (4 bytes for f32), no more. Buffers may end at a page's end.
 *   Dtypes       x, y, residual, h, gate, scale (with shift) and bias have a dtype each, in any combination; statistics and
 *                lists of lengths have the types they are declared with. Arithmetic is in f32 whatever the dtypes; what leaves
 *                it is rounded once, to nearest even: Inf beyond the dtype's range, subnormals kept.
 *   Aliasing     y may be x itself, with the same strides and dtype size (in place); so may y be residual or gate, and h be x
 *                or residual. No output may otherwise overlap any other buffer; rows of x and of an output may interleave in
 *                one array. Inputs may overlap each other.
 *   NULL         What is marked optional may be NULL. `options` may be NULL. Tensors without elements may have NULL pointers.
 *   Errors       Arguments are checked before anything is written: a call that does not return SIMDNORM_OK has written
 *                nothing but the message in `options`. Nothing prints, aborts, throws, or reads the environment.
 *   Memory       Nothing is allocated (OpenMP allocates what it needs itself). A thread that calls or runs a task needs at most
 *                SIMDNORM_STACK_BYTES of stack, besides what OpenMP or the caller's parallel_for use.
 *   Threads      Any number of threads may call at the same time on different outputs. There is no global state but what the
 *                library finds out of the machine, once: its targets, its number of processors and the size of its caches.
 *                After fork(), a child may call with max_threads 1, or with a parallel_for of threads that it started; GCC's
 *                OpenMP waits for ever in a child whose parent had used it.
 *   Bits         The same call gives the same bits for any number of threads, any executor, any alignment, in place or not,
 *                and on every target with fused multiply-add (AVX2, AVX3*, NEON, SVE*); a row's or channel's bits do not
 *                depend on the others. SSE2, SSSE3, SSE4, SCALAR and EMU128 differ in the last digits.
 *   Environment  The caller's rounding mode and flush-to-zero setting change nothing and are left as they were.
 *   NaN and Inf  Every NaN that comes out is the quiet NaN 0x7FC00000 (bf16 0x7FC0, f16 0x7E00). In layer, group, instance and
 *                batch norm (training) a NaN or Inf makes its own row, group or channel NaN and no other. In RMS norm NaN makes
 *                its row NaN; an Inf gives NaN in its place and 0 elsewhere in the row. Batch norm (inference) works element
 *                by element. What quantized outputs make of them stands at simdnorm_dtype.
 *   Range        Statistics are right over all of f32's range: where squares would overflow or sink below it, that row or
 *                channel is computed in double.
 */
#ifndef SIMDNORM_SIMDNORM_H_
#define SIMDNORM_SIMDNORM_H_

#include <stddef.h>
#include <stdint.h>

#include "version.h"

#if defined(_WIN32)
#define SIMDNORM_API
#else
#define SIMDNORM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The most stack that a call or a task uses of its own. */
#define SIMDNORM_STACK_BYTES 98304

typedef int32_t simdnorm_status;
enum {
  SIMDNORM_OK = 0,
  SIMDNORM_INVALID_ARGUMENT = 1, /* options->message says which one and why */
  SIMDNORM_UNSUPPORTED = 2       /* a target this machine lacks, what does not go together, or fields of a newer struct */
};

/* "OK", "INVALID_ARGUMENT", "UNSUPPORTED", or "unknown status". A static string. */
SIMDNORM_API const char* simdnorm_status_name(simdnorm_status status);

/* Element type of a tensor. The integers are for y of layer norm and RMS norm only: v is what y would be in f32, and rounding
 * is to nearest even.
 *
 *   I8, U8 with quant_scale   y = clamp(round(v / quant_scale) + zero_point) to what the type holds. NaN gives zero_point,
 *                             Inf and -Inf the type's largest and smallest value.
 *   I8 with quant_scales      Each row has its own factor, which is written: quant_scales[r] = max_c |v[r,c]| / 127, and
 *                             y = clamp(round(v / quant_scales[r]), -127, 127). A row of zeros gives factor 0 and zeros; a row
 *                             with NaN or Inf in it gives factor NaN and zeros.
 *   Q8_0                      Blocks of 32 neighbours, each a factor d = max |v| / 127 and then 32 of int8, round(v / d): 34
 *                             bytes, as ggml's block_q8_0. d is stored as f16; the division is by the f32 it was before.
 *                             cols is a multiple of 32. Zeros, NaN and Inf as in rows with factors, block by block. */
typedef int32_t simdnorm_dtype;
enum {
  SIMDNORM_F32 = 0,
  SIMDNORM_BF16 = 1, /* the upper half of an f32 */
  SIMDNORM_F16 = 2,  /* IEEE 754 binary16 */
  SIMDNORM_I8 = 3,
  SIMDNORM_U8 = 4,
  SIMDNORM_Q8_0 = 5
};

/* A block of SIMDNORM_Q8_0. Strides of such a tensor count its elements, and are multiples of 32. */
typedef struct simdnorm_q8_0 {
  uint16_t d; /* f16 */
  int8_t q[32];
} simdnorm_q8_0;

/* Where the channels of a batch, group or instance norm tensor lie. `spatial` is the product of the spatial dimensions, height
 * times width, say. The blocked layouts are for batch norm; the channels that fill up their last block may hold anything in
 * inputs, and are written as zero. */
typedef int32_t simdnorm_layout;
enum {
  SIMDNORM_NCHW = 0,   /* x[batch][channels][spatial] */
  SIMDNORM_NHWC = 1,   /* x[batch][spatial][channels] */
  SIMDNORM_NCHW8C = 2, /* x[batch][ceil(channels / 8)][spatial][8]: oneDNN's nChw8c */
  SIMDNORM_NCHW16C = 3 /* x[batch][ceil(channels / 16)][spatial][16]: oneDNN's nChw16c */
};

/* What is applied to the normalized values v, in the same sweep. Error bounds are against exact results for the f32 v:
 * |error| <= 4e-7 * |result| + 2^-126 (ReLU and leaky ReLU: as rounded once); that of silu(gate) is the same. NaN stays NaN. At
 * Inf they are Inf, at -Inf 0 but for leaky ReLU. */
typedef int32_t simdnorm_activation;
enum {
  SIMDNORM_NO_ACTIVATION = 0,
  SIMDNORM_RELU = 1,       /* max(v, 0) */
  SIMDNORM_LEAKY_RELU = 2, /* v >= 0 ? v : v * activation_slope */
  SIMDNORM_SILU = 3,       /* v / (1 + exp(-v)) */
  SIMDNORM_GELU = 4,       /* v * (1 + erf(v / sqrt(2))) / 2 */
  SIMDNORM_GELU_TANH = 5   /* v * (1 + tanh(sqrt(2 / pi) * (v + 0.044715 v^3))) / 2 */
};

/* Where layer norm and RMS norm add the residual. */
typedef int32_t simdnorm_residual_order;
enum {
  SIMDNORM_RESIDUAL_BEFORE = 0, /* y = norm(x + residual): pre-norm transformers */
  SIMDNORM_RESIDUAL_AFTER = 1   /* y = residual + norm(x): post-norm */
};

/* Which h = x + residual + bias is normalized. */
typedef int32_t simdnorm_h_rounding;
enum {
  SIMDNORM_H_UNROUNDED = 0, /* the f32 sum */
  SIMDNORM_H_ROUNDED = 1 /* the sum rounded to h_dtype, as models that write h and read it again have it (vLLM, Hugging Face) */
};

/* What is written at positions that `lengths` or `mask` leave out: of y, of h, and of the statistics of rows. What x and the
 * other inputs hold there is not looked at. */
typedef int32_t simdnorm_padding;
enum {
  SIMDNORM_PADDING_ZERO = 0,     /* zeros; where y has a zero point, that */
  SIMDNORM_PADDING_UNTOUCHED = 1 /* nothing */
};

/* The variance that goes into the running variance; normalization itself always uses the biased one. */
typedef int32_t simdnorm_running_variance_kind;
enum {
  SIMDNORM_UNBIASED = 0, /* sum / (count - 1): PyTorch */
  SIMDNORM_BIASED = 1    /* sum / count: ONNX */
};

/* One of a call's independent tasks, for a thread pool to run. */
typedef void (*simdnorm_task)(void* task_context, int64_t task_index);

/* The caller's own threads. It has to do what this loop does, and may do it on any threads, in any order, with any delay;
 * it returns when every task has returned:
 *
 *     for (int64_t i = 0; i < num_tasks; ++i) task(task_context, i);
 *
 * `pool` is options->pool. A call may come here more than once, one after the other, or not at all when it is too small to
 * gain. Tasks do not block, do not wait for each other, allocate nothing and may run on a thread of any age: no start-up or
 * shut-down is needed. num_tasks >= 2. */
typedef void (*simdnorm_parallel_for)(void* pool, int64_t num_tasks, simdnorm_task task, void* task_context);

/* How a call runs. All of it has defaults: pass NULL, or start from {SIMDNORM_OPTIONS_DEFAULTS}. It changes no result bit
 * (but for targets without fused multiply-add, see above). */
typedef struct simdnorm_options {
  size_t struct_size;                 /* sizeof(simdnorm_options): lets later versions add fields */
  const char* target;                 /* a name out of simdnorm_targets(); NULL: the best */
  simdnorm_parallel_for parallel_for; /* the caller's threads; NULL: OpenMP, or none if built without it */
  void* pool;                         /* handed to parallel_for */
  int32_t max_threads;                /* at most this many tasks at a time; 1: all on the calling thread; 0: as many as
                                         OpenMP would use here (1 inside an active parallel region), and with parallel_for
                                         as many as the machine has processors */
  char* message;                      /* where a refusal is put into words, 0-terminated; optional. Untouched by a call that
                                         succeeds; calls that run at the same time need one each */
  size_t message_capacity;            /* bytes at `message`; 256 hold every message */
} simdnorm_options;
#define SIMDNORM_OPTIONS_DEFAULTS .struct_size = sizeof(simdnorm_options)

/* The names of the targets that this build has and this machine supports, best first, ended by NULL. The first is the default.
 * Names are Highway's: "AVX3" is AVX-512. A static array, made at the first call: where libhwy is a shared library, targets
 * that the process has disabled in it by then (hwy::DisableTargets) are missing for good. */
SIMDNORM_API const char* const* simdnorm_targets(void);

/* How many threads a large call without options would use from here: OpenMP's count, 1 inside an active parallel region or
 * when built without OpenMP. */
SIMDNORM_API int32_t simdnorm_default_threads(void);

/* The version of the library that runs, as SIMDNORM_VERSION_STRING was when it was built. */
SIMDNORM_API const char* simdnorm_version(void);

/* Layer norm, forward (Ba, Kiros & Hinton 2016): for each row r of h = x [rows, cols]
 *
 *     mean[r] = sum_c h[r,c] / cols                    variance = sum_c (h[r,c] - mean[r])^2 / cols   (biased)
 *     rstd[r] = 1 / sqrt(variance + epsilon)           v[r,c] = (h[r,c] - mean[r]) * rstd[r] * s[c] + shift[c]
 *
 * with s[c] = scale_offset + scale[c], and y = v. A constant row gives variance exactly 0 and so, with epsilon > 0 and finite
 * scale, v exactly equal to shift (0 without). rows = 0 or cols = 0: nothing to do, nothing is written.
 *
 * Around it, in the same sweep, in this order, all of it optional and in f32:
 *
 *     h = (x + residual) + bias                        instead of h = x; written to `h` if that is given
 *     v = v + residual                                 with SIMDNORM_RESIDUAL_AFTER instead; the bias is still added to x
 *     v = activation(v)
 *     v = v * gate / (1 + exp(-gate))                  the gated form, v * silu(gate); a gate before the norm is the caller's
 *     y = v                                            in y's dtype, quantized if that is an integer
 *
 * Rows in padding: with `lengths`, rows are sequences of rows_per_sequence of them; row i of sequence s is computed where
 * i < lengths[s].
 *
 * Strides: x and y are [rows, cols, inner] with cols normalized and, for each of the inner positions, statistics of its own;
 * element (r, c, i) lies at r * row_stride + c * col_stride + i * inner_stride. Two kinds of this, the same for x and y:
 *   inner_stride = 1   The channels of NCHW: rows = batch, cols = channels, inner = height * width. All strides 0 mean this,
 *                      contiguous: col_stride = inner, row_stride = cols * inner.
 *   col_stride = 1     The heads of packed q, k, v: rows = tokens, cols = head size, inner = heads, x_inner_stride = head size,
 *                      x_row_stride = that of a token. y's strides 0 mean contiguous: inner_stride = cols.
 * With inner > 1, or a col_stride > 1, residual, bias, h, gate, integer y and lengths are not supported (SIMDNORM_UNSUPPORTED).
 *
 * Statistics are one-pass Welford (Welford 1962; Chan, Golub & LeVeque 1979) about a pivot, the mean kept to twice f32's
 * precision. Error bounds, whatever the mean, for epsilon not negative and results within f32's range:
 *   |y - exact|    <= 1.5e-6 * |s[c]| * V + 6e-8 * |y| + 2^-149    V = max(max_c |h[r,c] - mean| * rstd, 2^-125 * max(1, rstd))
 *   |mean - exact| <= 6e-8 * |mean| + 4e-6 * std + 2^-144
 *   |rstd - exact| <= 1.4e-6 * rstd
 * for y in f32 with nothing after the normalization; 2^-149 is f32's smallest number. Those of y and mean take roundings for
 * independent of each other (derived in lib/simd/moments-inl.h). A y of 16 bits is that f32 value rounded once more: half a
 * unit in its last place on top. Sums and products of the other steps round once each; activations have the bound that stands
 * at simdnorm_activation. */
typedef struct simdnorm_layer_norm_args {
  size_t struct_size;         /* sizeof(simdnorm_layer_norm_args) */
  float epsilon;              /* finite; negative is legal and gives NaN where variance + epsilon < 0 */
  simdnorm_dtype x_dtype;     /* of x */
  simdnorm_dtype y_dtype;     /* of y */
  simdnorm_dtype scale_dtype; /* of scale and shift */
  const void* x;              /* [rows, cols] */
  void* y;                    /* [rows, cols] */
  int64_t rows, cols;         /* >= 0 */
  int64_t x_row_stride;       /* elements from one row of x to the next, >= cols; 0: cols; of a single row not looked at */
  int64_t y_row_stride;       /* the same of y */
  const void* scale;          /* [cols], or NULL: 1 */
  const void* shift;          /* [cols], or NULL: 0 */
  float* mean;                /* out [rows], or NULL; [rows, inner] */
  float* rstd;                /* out [rows], or NULL; [rows, inner] */

  /* Since 0.2. 0 or NULL leaves each out. */
  float scale_offset; /* added to scale; 1: RMS norm of Gemma, adaptive layer norm. Needs scale */
  simdnorm_activation activation;
  float activation_slope; /* of SIMDNORM_LEAKY_RELU, and only with that; finite; 0.01 is usual */
  simdnorm_dtype residual_dtype;
  simdnorm_dtype bias_dtype;
  simdnorm_dtype h_dtype; /* of h, and what SIMDNORM_H_ROUNDED rounds to */
  simdnorm_dtype gate_dtype;
  simdnorm_residual_order residual_order;
  simdnorm_h_rounding h_rounding;
  simdnorm_padding padding;
  float quant_scale;           /* of a y of I8 or U8 with one factor: finite, > 0 */
  int32_t zero_point;          /* with quant_scale: within what y's dtype holds */
  const void* residual;        /* [rows, cols], or NULL */
  const void* bias;            /* [cols], or NULL */
  void* h;                     /* out [rows, cols], or NULL: x + residual + bias */
  const void* gate;            /* [rows, cols], or NULL */
  int64_t residual_row_stride; /* as x_row_stride */
  int64_t h_row_stride;        /* as x_row_stride */
  int64_t gate_row_stride;     /* as x_row_stride */
  int64_t rows_per_scale;      /* n > 0: rows [k n, (k + 1) n) have the k-th scale and shift; divides rows; 0: one for all */
  int64_t scale_row_stride;    /* with rows_per_scale: elements from one scale and shift to the next, >= cols; 0: cols */
  float* quant_scales;         /* out [rows], or NULL: each row's factor, for a y of I8 without quant_scale */
  const int64_t* lengths;      /* [rows / rows_per_sequence], or NULL; each 0..rows_per_sequence */
  int64_t rows_per_sequence;   /* with lengths: > 0, divides rows */
  int64_t inner;               /* 0: 1 */
  int64_t x_col_stride, x_inner_stride; /* both 0: inner and 1 */
  int64_t y_col_stride, y_inner_stride; /* both 0: as contiguous in x's kind */
} simdnorm_layer_norm_args;
#define SIMDNORM_LAYER_NORM_DEFAULTS .struct_size = sizeof(simdnorm_layer_norm_args), .epsilon = 1e-5f

SIMDNORM_API simdnorm_status simdnorm_layer_norm(const simdnorm_layer_norm_args* args, const simdnorm_options* options);

/* RMS norm, forward (Zhang & Sennrich 2019): for each row r of h = x [rows, cols]
 *
 *     rstd[r] = 1 / sqrt(sum_c h[r,c]^2 / cols + epsilon)           v[r,c] = h[r,c] * rstd[r] * (scale_offset + scale[c])
 *
 * and y = v; all that can go around it, rows in padding and strides are as in simdnorm_layer_norm. rows = 0 or cols = 0:
 * nothing to do, nothing is written. Error bounds for epsilon not negative, y as in simdnorm_layer_norm:
 *   |y - exact|    <= 1.6e-6 * |y| + (1 + |scale_offset + scale[c]|) * 2^-149
 *   |rstd - exact| <= 1.4e-6 * rstd */
typedef struct simdnorm_rms_norm_args {
  size_t struct_size;         /* sizeof(simdnorm_rms_norm_args) */
  float epsilon;              /* finite; negative is legal and gives NaN where the mean square + epsilon < 0 */
  simdnorm_dtype x_dtype;     /* of x */
  simdnorm_dtype y_dtype;     /* of y */
  simdnorm_dtype scale_dtype; /* of scale */
  const void* x;              /* [rows, cols] */
  void* y;                    /* [rows, cols] */
  int64_t rows, cols;         /* >= 0 */
  int64_t x_row_stride;       /* elements from one row of x to the next, >= cols; 0: cols */
  int64_t y_row_stride;       /* the same of y */
  const void* scale;          /* [cols], or NULL: 1 */
  float* rstd;                /* out [rows], or NULL; [rows, inner] */

  /* Since 0.2. 0 or NULL leaves each out. */
  float scale_offset; /* added to scale; 1: RMS norm of Gemma, adaptive layer norm. Needs scale */
  simdnorm_activation activation;
  float activation_slope; /* of SIMDNORM_LEAKY_RELU, and only with that; finite; 0.01 is usual */
  simdnorm_dtype residual_dtype;
  simdnorm_dtype bias_dtype;
  simdnorm_dtype h_dtype; /* of h, and what SIMDNORM_H_ROUNDED rounds to */
  simdnorm_dtype gate_dtype;
  simdnorm_residual_order residual_order;
  simdnorm_h_rounding h_rounding;
  simdnorm_padding padding;
  float quant_scale;                    /* of a y of I8 or U8 with one factor: finite, > 0 */
  int32_t zero_point;                   /* with quant_scale: within what y's dtype holds */
  const void* residual;                 /* [rows, cols], or NULL */
  const void* bias;                     /* [cols], or NULL */
  void* h;                              /* out [rows, cols], or NULL: x + residual + bias */
  const void* gate;                     /* [rows, cols], or NULL */
  int64_t residual_row_stride;          /* as x_row_stride */
  int64_t h_row_stride;                 /* as x_row_stride */
  int64_t gate_row_stride;              /* as x_row_stride */
  int64_t rows_per_scale;               /* n > 0: rows [k n, (k + 1) n) have the k-th scale; divides rows; 0: one for all */
  int64_t scale_row_stride;             /* with rows_per_scale: elements from one scale to the next, >= cols; 0: cols */
  float* quant_scales;                  /* out [rows], or NULL: each row's factor, for a y of I8 without quant_scale */
  const int64_t* lengths;               /* [rows / rows_per_sequence], or NULL; each 0..rows_per_sequence */
  int64_t rows_per_sequence;            /* with lengths: > 0, divides rows */
  int64_t inner;                        /* 0: 1 */
  int64_t x_col_stride, x_inner_stride; /* both 0: inner and 1 */
  int64_t y_col_stride, y_inner_stride; /* both 0: as contiguous in x's kind */
} simdnorm_rms_norm_args;
#define SIMDNORM_RMS_NORM_DEFAULTS .struct_size = sizeof(simdnorm_rms_norm_args), .epsilon = 1e-5f

SIMDNORM_API simdnorm_status simdnorm_rms_norm(const simdnorm_rms_norm_args* args, const simdnorm_options* options);

/* Batch norm, inference (Ioffe & Szegedy 2015): for every element of channel c, with the mean and variance that training left
 *
 *     y = (x - mean[c]) * rstd * scale[c] + shift[c]           rstd = 1 / sqrt(variance[c] + epsilon)
 *
 * always in this centred form, so that x == mean[c] gives exactly shift[c] (for finite scale and variance + epsilon > 0).
 * A size of 0: nothing to do, nothing is written. After it, as in training: y = activation(y + residual). Positions that
 * lengths or mask leave out are only not written, or written as zero. Error bound, where x - mean[c], its product with rstd
 * and rstd itself do not overflow, for y in f32 with nothing after (of 16 bits: half a unit in its last place on top):
 *   |y - exact|    <= 2.4e-7 * |y - shift[c]| + 6e-8 * |y| + (1 + |scale[c]|) * 2^-149 */
typedef struct simdnorm_batch_norm_inference_args {
  size_t struct_size;               /* sizeof(simdnorm_batch_norm_inference_args) */
  float epsilon;                    /* finite; negative is legal and gives NaN where variance + epsilon < 0 */
  simdnorm_dtype x_dtype;           /* of x */
  simdnorm_dtype y_dtype;           /* of y */
  simdnorm_dtype scale_dtype;       /* of scale and shift */
  simdnorm_layout layout;           /* of x and y; the same for both when spatial = 1 */
  const void* x;                    /* as `layout` says, contiguous */
  void* y;                          /* as x */
  int64_t batch, channels, spatial; /* >= 0; spatial = 1 is the tensor [batch, features] */
  const float* mean;                /* [channels] */
  const float* variance;            /* [channels] */
  const void* scale;                /* [channels], or NULL: 1 */
  const void* shift;                /* [channels], or NULL: 0 */

  /* Since 0.2. 0 or NULL leaves each out. */
  simdnorm_activation activation;
  float activation_slope; /* of SIMDNORM_LEAKY_RELU, and only with that; finite; 0.01 is usual */
  simdnorm_dtype residual_dtype;
  simdnorm_padding padding;
  const void* residual;   /* as x, or NULL: added before the activation */
  const int64_t* lengths; /* [batch], or NULL: only the first lengths[n] positions of sample n count; each 0..spatial */
  const uint8_t* mask;    /* [batch, spatial], or NULL: only positions with a value other than 0 count. Not with lengths */
} simdnorm_batch_norm_inference_args;
#define SIMDNORM_BATCH_NORM_INFERENCE_DEFAULTS .struct_size = sizeof(simdnorm_batch_norm_inference_args), .epsilon = 1e-5f

SIMDNORM_API simdnorm_status simdnorm_batch_norm_inference(const simdnorm_batch_norm_inference_args* args,
                                                           const simdnorm_options* options);

/* Batch norm, training, forward (Ioffe & Szegedy 2015): with statistics over all count = batch * spatial values of channel c
 *
 *     mean[c] = sum x / count                          variance = sum (x - mean[c])^2 / count   (biased)
 *     rstd[c] = 1 / sqrt(variance + epsilon)           y = (x - mean[c]) * rstd[c] * scale[c] + shift[c]
 *     running_mean[c]     = (1 - momentum) * running_mean[c]     + momentum * mean[c]
 *     running_variance[c] = (1 - momentum) * running_variance[c] + momentum * variance'
 *
 * where variance' is the unbiased or the biased variance, as running_variance_kind says. `momentum` weighs the new batch, as
 * in PyTorch; it is one minus ONNX's. One value per channel gives y = shift; its unbiased variance does not exist, and
 * asking for it is an error. A size of 0: nothing to do, nothing is written.
 *
 * After the normalization, in the same sweep: y = activation(y + residual), each optional. With lengths or a mask, statistics
 * and count are those of the positions that count; lengths give the bits that the data cut to them would. If no position
 * counts, mean and rstd are NaN and the running statistics stay as they are.
 *
 * Statistics as in simdnorm_layer_norm, and the same error bounds with a channel for a row. Running statistics:
 *   |running_mean - exact|     <= 6e-8 * |running_mean|     + |momentum| * (4e-6 * std + 2^-144) + 2^-149
 *   |running_variance - exact| <= 6e-8 * |running_variance| + |momentum| * 2.8e-6 * variance' + 2^-149 */
typedef struct simdnorm_batch_norm_training_args {
  size_t struct_size;         /* sizeof(simdnorm_batch_norm_training_args) */
  float epsilon;              /* finite; negative is legal and gives NaN where variance + epsilon < 0 */
  float momentum;             /* finite; used only with running statistics */
  simdnorm_dtype x_dtype;     /* of x */
  simdnorm_dtype y_dtype;     /* of y */
  simdnorm_dtype scale_dtype; /* of scale and shift */
  simdnorm_layout layout;     /* of x and y; the same for both when spatial = 1 */
  simdnorm_running_variance_kind running_variance_kind;
  const void* x;                    /* as `layout` says, contiguous */
  void* y;                          /* as x */
  int64_t batch, channels, spatial; /* >= 0; spatial = 1 is the tensor [batch, features] */
  const void* scale;                /* [channels], or NULL: 1 */
  const void* shift;                /* [channels], or NULL: 0 */
  float* mean;                      /* out [channels], or NULL: the batch's mean, for the backward pass */
  float* rstd;                      /* out [channels], or NULL: the batch's rstd, for the backward pass */
  float* running_mean;              /* in and out [channels], or NULL */
  float* running_variance;          /* in and out [channels], or NULL */

  /* Since 0.2. 0 or NULL leaves each out. */
  simdnorm_activation activation;
  float activation_slope; /* of SIMDNORM_LEAKY_RELU, and only with that; finite; 0.01 is usual */
  simdnorm_dtype residual_dtype;
  simdnorm_padding padding;
  const void* residual;   /* as x, or NULL: added before the activation */
  const int64_t* lengths; /* [batch], or NULL: only the first lengths[n] positions of sample n count; each 0..spatial */
  const uint8_t* mask;    /* [batch, spatial], or NULL: only positions with a value other than 0 count. Not with lengths */
} simdnorm_batch_norm_training_args;
#define SIMDNORM_BATCH_NORM_TRAINING_DEFAULTS \
  .struct_size = sizeof(simdnorm_batch_norm_training_args), .epsilon = 1e-5f, .momentum = 0.1f

SIMDNORM_API simdnorm_status simdnorm_batch_norm_training(const simdnorm_batch_norm_training_args* args,
                                                          const simdnorm_options* options);

/* Group norm, forward (Wu & He 2018): the channels of each sample n fall into `groups` groups of channels / groups neighbours,
 * and with statistics over all values of group g of sample n (channels / groups * spatial of them)
 *
 *     mean[n,g], variance, rstd[n,g] as in simdnorm_layer_norm       y = (x - mean[n,g]) * rstd[n,g] * scale[c] + shift[c]
 *
 * and then y = activation(y + residual), each optional. With lengths or a mask only the positions that count are in the
 * statistics; lengths give the bits that the data cut to them would; a sample without any has mean and rstd NaN. A size of 0:
 * nothing to do, nothing is written. Error bounds as in simdnorm_layer_norm, with a group for a row. */
typedef struct simdnorm_group_norm_args {
  size_t struct_size;         /* sizeof(simdnorm_group_norm_args) */
  float epsilon;              /* finite; negative is legal and gives NaN where variance + epsilon < 0 */
  simdnorm_dtype x_dtype;     /* of x */
  simdnorm_dtype y_dtype;     /* of y */
  simdnorm_dtype scale_dtype; /* of scale and shift */
  simdnorm_layout layout;     /* of x, y and residual: NCHW or NHWC */
  simdnorm_activation activation;
  float activation_slope; /* of SIMDNORM_LEAKY_RELU, and only with that; finite; 0.01 is usual */
  simdnorm_dtype residual_dtype;
  simdnorm_padding padding;
  int32_t reserved;                 /* 0 */
  const void* x;                    /* as `layout` says, contiguous */
  void* y;                          /* as x */
  int64_t batch, channels, spatial; /* >= 0; spatial = 1 is the tensor [batch, features] */
  int64_t groups;                   /* > 0, divides channels; simdnorm_instance_norm: 0 or channels */
  const void* scale;                /* [channels], or NULL: 1 */
  const void* shift;                /* [channels], or NULL: 0 */
  float* mean;                      /* out [batch, groups], or NULL */
  float* rstd;                      /* out [batch, groups], or NULL */
  const void* residual;             /* as x, or NULL: added before the activation */
  const int64_t* lengths; /* [batch], or NULL: only the first lengths[n] positions of sample n count; each 0..spatial */
  const uint8_t* mask;    /* [batch, spatial], or NULL: only positions with a value other than 0 count. Not with lengths */
} simdnorm_group_norm_args;
#define SIMDNORM_GROUP_NORM_DEFAULTS .struct_size = sizeof(simdnorm_group_norm_args), .epsilon = 1e-5f

SIMDNORM_API simdnorm_status simdnorm_group_norm(const simdnorm_group_norm_args* args, const simdnorm_options* options);

/* Instance norm, forward (Ulyanov, Vedaldi & Lempitsky 2016): group norm with a group for each channel. */
SIMDNORM_API simdnorm_status simdnorm_instance_norm(const simdnorm_group_norm_args* args, const simdnorm_options* options);

/* Which side of the batch norm the layer is on whose weights take it up. */
typedef int32_t simdnorm_fold_position;
enum {
  SIMDNORM_FOLD_INTO_PRECEDING = 0, /* norm(layer(x)): channels are the layer's outputs */
  SIMDNORM_FOLD_INTO_FOLLOWING = 1  /* layer(norm(x)): channels are its inputs. Not for convolutions that pad with zeros, which
                                       would have to pad with what becomes zero; nor transposed ones with a stride,
                                       whose outputs do not all see the whole kernel */
};

/* Folds batch norm (inference) into the weights and bias of the linear layer or convolution before or after it, so that the
 * layer alone gives what both gave. With a[c] = scale[c] / sqrt(variance[c] + epsilon) and b[c] = shift[c] - mean[c] * a[c]:
 *
 *     preceding    folded_weight[o,i,k] = a[o] * weight[o,i,k]        folded_bias[o] = a[o] * bias[o] + b[o]
 *     following    folded_weight[o,i,k] = weight[o,i,k] * a[i]        folded_bias[o] = bias[o] + sum_{i,k} weight[o,i,k] * b[i]
 *
 * All in double, rounded once to f32; the sum in the order of memory. Outputs o and inputs i of different groups are not
 * connected. folded_weight may be weight, folded_bias may be bias. Runs on the calling thread; of `options` only the message is
 * used. out_channels or in_channels = 0: nothing to do, nothing is written. Error bounds, n being the number of products in a
 * sum (preceding: 1) and S the sum of the magnitudes of its terms |bias * a|, |w * shift|, |w * mean * a|:
 *   |folded_weight - exact| <= 6e-8 * |folded_weight| + 2^-149
 *   |folded_bias - exact|   <= 6e-8 * |folded_bias| + 1.2e-16 * (n + 6) * S + 2^-149 */
typedef struct simdnorm_fold_batch_norm_args {
  size_t struct_size; /* sizeof(simdnorm_fold_batch_norm_args) */
  float epsilon;      /* finite */
  simdnorm_fold_position position;
  int32_t transposed;                /* 1: a transposed convolution's weight; 0: not */
  int32_t reserved;                  /* 0 */
  const float* mean;                 /* [channels]: out_channels (preceding) or in_channels (following) */
  const float* variance;             /* [channels] */
  const float* scale;                /* [channels], or NULL: 1 */
  const float* shift;                /* [channels], or NULL: 0 */
  const float* weight;               /* [out, in / groups, kernel] channels; transposed: [in, out / groups, kernel] */
  const float* bias;                 /* [out_channels], or NULL: 0 */
  float* folded_weight;              /* out, as weight */
  float* folded_bias;                /* out [out_channels] */
  int64_t out_channels, in_channels; /* >= 0, multiples of groups */
  int64_t kernel;                    /* elements for each pair of channels: 9 for 3 x 3; 0: 1, a linear layer */
  int64_t groups;                    /* >= 1; 0: 1 */
} simdnorm_fold_batch_norm_args;
#define SIMDNORM_FOLD_BATCH_NORM_DEFAULTS .struct_size = sizeof(simdnorm_fold_batch_norm_args), .epsilon = 1e-5f

SIMDNORM_API simdnorm_status simdnorm_fold_batch_norm(const simdnorm_fold_batch_norm_args* args,
                                                      const simdnorm_options* options);

#ifdef __cplusplus
}
#endif

#endif /* SIMDNORM_SIMDNORM_H_ */
