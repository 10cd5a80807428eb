/* simdnorm: normalization layers on CPUs (layer norm, RMS norm, batch norm). The C API.
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
 *   Aliasing     y may be x itself, with the same strides (in place). No output may otherwise overlap any other buffer;
 *                rows of x and y may interleave in one array. Inputs may overlap each other.
 *   NULL         What is marked optional may be NULL. `options` may be NULL. Tensors without elements may have NULL pointers.
 *   Errors       Arguments are checked before anything is written: a call that does not return SIMDNORM_OK has written
 *                nothing but the message in `options`. Nothing prints, aborts, throws, or reads the environment.
 *   Memory       Nothing is allocated (OpenMP allocates what it needs itself). A thread that calls or runs a task needs at most
 *                SIMDNORM_STACK_BYTES of stack, besides what OpenMP or the caller's parallel_for use.
 *   Threads      Any number of threads may call at the same time on different outputs. There is no global state but what the
 *                first call finds out of the machine: its targets and its number of processors.
 *   Bits         The same call gives the same bits for any number of threads, any executor, any alignment, in place or not,
 *                and on every target with fused multiply-add (AVX2, AVX3*, NEON, SVE*); a row's or channel's bits do not
 *                depend on the others. SSE2, SSSE3, SSE4, SCALAR and EMU128 differ in the last digits.
 *   Environment  The caller's rounding mode and flush-to-zero setting change nothing and are left as they were.
 *   NaN and Inf  Every NaN that comes out is the quiet NaN 0x7FC00000. In layer norm and batch norm (training) a NaN or Inf
 *                makes its own row or channel NaN and no other. In RMS norm NaN makes its row NaN; an Inf gives NaN in its
 *                place and 0 elsewhere in the row. Batch norm (inference) works element by element.
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
  SIMDNORM_UNSUPPORTED = 2       /* a target this machine lacks, or a struct of a newer simdnorm that uses what is new in it */
};

/* "OK", "INVALID_ARGUMENT", "UNSUPPORTED", or "unknown status". A static string. */
SIMDNORM_API const char* simdnorm_status_name(simdnorm_status status);

/* Element type of a tensor. */
typedef int32_t simdnorm_dtype;
enum { SIMDNORM_F32 = 0 };

/* Where the channels of a batch-norm tensor lie. `spatial` is the product of the spatial dimensions (height * width, say). */
typedef int32_t simdnorm_layout;
enum {
  SIMDNORM_NCHW = 0, /* x[batch][channels][spatial] */
  SIMDNORM_NHWC = 1  /* x[batch][spatial][channels] */
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

/* Layer norm, forward (Ba, Kiros & Hinton 2016): for each row r of x [rows, cols]
 *
 *     mean[r] = sum_c x[r,c] / cols                    variance = sum_c (x[r,c] - mean[r])^2 / cols   (biased)
 *     rstd[r] = 1 / sqrt(variance + epsilon)           y[r,c] = (x[r,c] - mean[r]) * rstd[r] * scale[c] + shift[c]
 *
 * A constant row gives variance exactly 0 and so, with epsilon > 0 and finite scale, y exactly equal to shift (0 without).
 * rows = 0 or cols = 0: nothing to do, nothing is written.
 *
 * Statistics are one-pass Welford (Welford 1962; Chan, Golub & LeVeque 1979) about a pivot, the mean kept to twice f32's
 * precision. Error bounds, whatever the mean, for std >= 1e-7 * |mean| and epsilon not negative:
 *   |y - exact|    <= 4e-6 * max_c(1, |y|, |scale * rstd * (x - mean)|) over the row
 *   |mean - exact| <= 6e-8 * |mean| + 2e-6 * std, and 36 times f32's smallest subnormal
 *   |rstd - exact| <= 2e-6 * rstd */
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
  float* mean;                /* out [rows], or NULL */
  float* rstd;                /* out [rows], or NULL */
} simdnorm_layer_norm_args;
#define SIMDNORM_LAYER_NORM_DEFAULTS .struct_size = sizeof(simdnorm_layer_norm_args), .epsilon = 1e-5f

SIMDNORM_API simdnorm_status simdnorm_layer_norm(const simdnorm_layer_norm_args* args, const simdnorm_options* options);

/* RMS norm, forward (Zhang & Sennrich 2019): for each row r of x [rows, cols]
 *
 *     rstd[r] = 1 / sqrt(sum_c x[r,c]^2 / cols + epsilon)           y[r,c] = x[r,c] * rstd[r] * scale[c]
 *
 * rows = 0 or cols = 0: nothing to do, nothing is written. Error bounds for epsilon not negative: |y - exact| <= 2e-6 * |y|,
 * plus f32's smallest subnormal; |rstd - exact| <= 2e-6 * rstd. */
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
  float* rstd;                /* out [rows], or NULL */
} simdnorm_rms_norm_args;
#define SIMDNORM_RMS_NORM_DEFAULTS .struct_size = sizeof(simdnorm_rms_norm_args), .epsilon = 1e-5f

SIMDNORM_API simdnorm_status simdnorm_rms_norm(const simdnorm_rms_norm_args* args, const simdnorm_options* options);

/* Batch norm, inference (Ioffe & Szegedy 2015): for every element of channel c, with the mean and variance that training left
 *
 *     y = (x - mean[c]) * rstd * scale[c] + shift[c]           rstd = 1 / sqrt(variance[c] + epsilon)
 *
 * always in this centred form, so that x == mean[c] gives exactly shift[c] (for finite scale and variance + epsilon > 0).
 * A size of 0: nothing to do, nothing is written. Error bound, where x - mean[c] and its product with rstd
 * are within f32's range: |y - exact| <= 4e-7 * (|y - shift| + |y|), plus f32's smallest subnormal. */
typedef struct simdnorm_batch_norm_inference_args {
  size_t struct_size;               /* sizeof(simdnorm_batch_norm_inference_args) */
  float epsilon;                    /* finite; negative is legal and gives NaN where variance + epsilon < 0 */
  simdnorm_dtype x_dtype;           /* of x */
  simdnorm_dtype y_dtype;           /* of y */
  simdnorm_dtype scale_dtype;       /* of scale and shift */
  simdnorm_layout layout;           /* of x and y; the same for both when spatial = 1 */
  const void* x;                    /* [batch, channels, spatial] or [batch, spatial, channels], contiguous */
  void* y;                          /* as x */
  int64_t batch, channels, spatial; /* >= 0; spatial = 1 is the tensor [batch, features] */
  const float* mean;                /* [channels] */
  const float* variance;            /* [channels] */
  const void* scale;                /* [channels], or NULL: 1 */
  const void* shift;                /* [channels], or NULL: 0 */
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
 * Statistics as in simdnorm_layer_norm, and the same error bounds with a channel for a row; what a running statistic adds to
 * its old value is as exact: 2e-6 * std for the mean, 4e-6 * variance for the variance, and one rounding. */
typedef struct simdnorm_batch_norm_training_args {
  size_t struct_size;         /* sizeof(simdnorm_batch_norm_training_args) */
  float epsilon;              /* finite; negative is legal and gives NaN where variance + epsilon < 0 */
  float momentum;             /* finite; used only with running statistics */
  simdnorm_dtype x_dtype;     /* of x */
  simdnorm_dtype y_dtype;     /* of y */
  simdnorm_dtype scale_dtype; /* of scale and shift */
  simdnorm_layout layout;     /* of x and y; the same for both when spatial = 1 */
  simdnorm_running_variance_kind running_variance_kind;
  const void* x;                    /* [batch, channels, spatial] or [batch, spatial, channels], contiguous */
  void* y;                          /* as x */
  int64_t batch, channels, spatial; /* >= 0; spatial = 1 is the tensor [batch, features] */
  const void* scale;                /* [channels], or NULL: 1 */
  const void* shift;                /* [channels], or NULL: 0 */
  float* mean;                      /* out [channels], or NULL: the batch's mean, for the backward pass */
  float* rstd;                      /* out [channels], or NULL: the batch's rstd, for the backward pass */
  float* running_mean;              /* in and out [channels], or NULL */
  float* running_variance;          /* in and out [channels], or NULL */
} simdnorm_batch_norm_training_args;
#define SIMDNORM_BATCH_NORM_TRAINING_DEFAULTS \
  .struct_size = sizeof(simdnorm_batch_norm_training_args), .epsilon = 1e-5f, .momentum = 0.1f

SIMDNORM_API simdnorm_status simdnorm_batch_norm_training(const simdnorm_batch_norm_training_args* args,
                                                          const simdnorm_options* options);

#ifdef __cplusplus
}
#endif

#endif /* SIMDNORM_SIMDNORM_H_ */
