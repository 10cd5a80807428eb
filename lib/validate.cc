#include "validate.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "target.h"

namespace simdnorm {
namespace {

// Puts a refusal into words, where the caller gave room for them.
class Words {
 public:
  void WriteTo(char* message, size_t capacity) { message_ = message, capacity_ = message ? capacity : 0; }

  simdnorm_status Invalid(const char* format, ...) const __attribute__((format(printf, 2, 3))) {
    va_list values;
    va_start(values, format);
    vsnprintf(message_, capacity_, format, values);
    va_end(values);
    return SIMDNORM_INVALID_ARGUMENT;
  }

  simdnorm_status Unsupported(const char* format, ...) const __attribute__((format(printf, 2, 3))) {
    va_list values;
    va_start(values, format);
    vsnprintf(message_, capacity_, format, values);
    va_end(values);
    return SIMDNORM_UNSUPPORTED;
  }

 private:
  char* message_ = nullptr;
  size_t capacity_ = 0;
};

#define SIMDNORM_RETURN_IF_REFUSED(expression)                       \
  do {                                                               \
    const simdnorm_status status_ = (expression);                    \
    if (__builtin_expect(status_ != SIMDNORM_OK, 0)) return status_; \
  } while (0)

// No struct will ever be this large: a size beyond is memory that was never set.
constexpr size_t kMaxStructSize = 1024;

// Takes a struct of an older or newer caller: fields that it lacks are 0, fields that this library does not know must be.
template <class Struct>
simdnorm_status Take(const Words& words, const char* name, const Struct* given, size_t first_version_size, Struct* taken) {
  if (given == nullptr) return words.Invalid("%s is NULL", name);
  const size_t size = given->struct_size;
  if (size > kMaxStructSize) return words.Invalid("%s->struct_size %zu is no size of a struct here", name, size);
  if (size < first_version_size) {
    return words.Invalid("%s->struct_size %zu is less than %zu; start from the _DEFAULTS macro", name, size,
                         first_version_size);
  }
  for (size_t i = sizeof(Struct); i < size; ++i) {
    if (reinterpret_cast<const unsigned char*>(given)[i] != 0) {
      return words.Unsupported("%s->struct_size %zu is more than this library's %zu, and what is new in it is set", name, size,
                               sizeof(Struct));
    }
  }
  if (size < sizeof(Struct)) memset(static_cast<void*>(taken), 0, sizeof(Struct));
  memcpy(static_cast<void*>(taken), given, size < sizeof(Struct) ? size : sizeof(Struct));
  return SIMDNORM_OK;
}

// The size of a struct in the version that introduced it: the end of its last field then. A struct has to end with a field,
// not with padding that a caller leaves unset and a later version would read as a field: it grows by multiples of 8 bytes.
#define SIMDNORM_SIZE_THROUGH(Struct, field) (offsetof(Struct, field) + sizeof(Struct::field))
static_assert(sizeof(simdnorm_options) == SIMDNORM_SIZE_THROUGH(simdnorm_options, message_capacity), "");
static_assert(sizeof(simdnorm_layer_norm_args) == SIMDNORM_SIZE_THROUGH(simdnorm_layer_norm_args, rstd), "");
static_assert(sizeof(simdnorm_rms_norm_args) == SIMDNORM_SIZE_THROUGH(simdnorm_rms_norm_args, rstd), "");
static_assert(sizeof(simdnorm_batch_norm_inference_args) == SIMDNORM_SIZE_THROUGH(simdnorm_batch_norm_inference_args, shift),
              "");
static_assert(sizeof(simdnorm_batch_norm_training_args) ==
                  SIMDNORM_SIZE_THROUGH(simdnorm_batch_norm_training_args, running_variance),
              "");

// Takes the options and, first of all, where to put words.
simdnorm_status TakeOptions(const simdnorm_options* given, Words* words, CallOptions* options) {
  const char* target = nullptr;
  if (given != nullptr) {
    constexpr size_t kFirstSize = SIMDNORM_SIZE_THROUGH(simdnorm_options, message_capacity);
    if (given->struct_size >= kFirstSize && given->struct_size <= kMaxStructSize) {
      words->WriteTo(given->message, given->message_capacity);
    }
    simdnorm_options taken;
    SIMDNORM_RETURN_IF_REFUSED(Take(*words, "options", given, kFirstSize, &taken));
    if (taken.max_threads < 0) return words->Invalid("max_threads %" PRId32 " is negative", taken.max_threads);
    options->executor = {taken.parallel_for, taken.pool, taken.max_threads};
    target = taken.target;
  }
  if (!FindTarget(target, &options->target_index)) {
    char supported[160] = "";
    size_t length = 0;
    for (const char* const* name = simdnorm_targets(); *name != nullptr && length < sizeof(supported); ++name) {
      length +=
          static_cast<size_t>(snprintf(supported + length, sizeof(supported) - length, "%s%s", length == 0 ? "" : ", ", *name));
    }
    return words->Unsupported("target \"%.32s\" is not supported here (supported: %s)", target ? target : "", supported);
  }
  return SIMDNORM_OK;
}

simdnorm_status CheckDtype(const Words& words, const char* name, simdnorm_dtype dtype) {
  if (dtype == SIMDNORM_F32) return SIMDNORM_OK;
  return words.Invalid("%s %" PRId32 " is unknown (0 is f32)", name, dtype);
}

simdnorm_status CheckFinite(const Words& words, const char* name, float value) {
  if (isfinite(value)) return SIMDNORM_OK;
  return words.Invalid("%s is %g; it must be finite", name, static_cast<double>(value));
}

simdnorm_status CheckSize(const Words& words, const char* name, int64_t size) {
  if (size >= 0) return SIMDNORM_OK;
  return words.Invalid("%s %" PRId64 " is negative", name, size);
}

// Sets *product, the number of elements, if that many fit the address space in any dtype.
simdnorm_status Multiply(const Words& words, const char* name_a, int64_t a, const char* name_b, int64_t b, int64_t* product) {
  constexpr int64_t kMaxElements = PTRDIFF_MAX / 8;
  if (!__builtin_mul_overflow(a, b, product) && *product <= kMaxElements) return SIMDNORM_OK;
  return words.Invalid("%s %" PRId64 " times %s %" PRId64 " is more elements than memory can hold", name_a, a, name_b, b);
}

// Memory that a call reads or writes: the elements from `data` on, gaps between rows included.
struct Buffer {
  const char* name;
  const void* data;
  int64_t elements;
  bool optional;

  uintptr_t Begin() const { return reinterpret_cast<uintptr_t>(data); }
  uintptr_t Bytes() const { return static_cast<uintptr_t>(elements) * sizeof(float); }
};

simdnorm_status CheckPointer(const Words& words, const Buffer& buffer) {
  if (buffer.data == nullptr) return buffer.optional ? SIMDNORM_OK : words.Invalid("%s is NULL", buffer.name);
  if (buffer.Begin() % alignof(float) != 0) {
    return words.Invalid("%s %p is not aligned to %zu bytes", buffer.name, buffer.data, alignof(float));
  }
  if (buffer.Begin() + buffer.Bytes() < buffer.Begin()) {
    return words.Invalid("%s %p with %" PRId64 " elements goes beyond the end of memory", buffer.name, buffer.data,
                         buffer.elements);
  }
  return SIMDNORM_OK;
}

bool Overlap(const Buffer& a, const Buffer& b) {
  return b.data != nullptr && a.Begin() < b.Begin() + b.Bytes() && b.Begin() < a.Begin() + a.Bytes();
}

// Pointers, and that no output overlaps anything else. x comes first, then other inputs, then from `y` on the outputs; x and y
// themselves are for CheckXAndY.
template <size_t kCount>
simdnorm_status CheckBuffers(const Words& words, const Buffer (&buffers)[kCount], size_t y) {
  for (const Buffer& buffer : buffers) SIMDNORM_RETURN_IF_REFUSED(CheckPointer(words, buffer));
  for (size_t i = y; i < kCount; ++i) {
    if (buffers[i].data == nullptr) continue;
    for (size_t j = i == y ? 1 : 0; j < i; ++j) {
      if (!Overlap(buffers[i], buffers[j])) continue;
      return words.Invalid("%s %p overlaps %s %p", buffers[i].name, buffers[i].data, buffers[j].name, buffers[j].data);
    }
  }
  return SIMDNORM_OK;
}

// y is x, or apart from it: nowhere near, or its rows in the gaps between those of x.
simdnorm_status CheckXAndY(const Words& words, const Buffer& x, const Buffer& y, int64_t rows, int64_t cols, int64_t x_stride,
                           int64_t y_stride) {
  if (x.data == y.data) {
    if (rows <= 1 || x_stride == y_stride) return SIMDNORM_OK;
    return words.Invalid("y is x, but y_row_stride %" PRId64 " is not x_row_stride %" PRId64, y_stride, x_stride);
  }
  if (!Overlap(x, y)) return SIMDNORM_OK;
  const int64_t apart = static_cast<int64_t>(y.Begin() - x.Begin());
  if (rows > 1 && x_stride == y_stride) {
    const int64_t stride_bytes = x_stride * static_cast<int64_t>(sizeof(float));
    const int64_t cols_bytes = cols * static_cast<int64_t>(sizeof(float));
    const int64_t into_row = ((apart % stride_bytes) + stride_bytes) % stride_bytes;
    if (into_row >= cols_bytes && into_row + cols_bytes <= stride_bytes) return SIMDNORM_OK;
  }
  return words.Invalid("y partly overlaps x: it begins %" PRId64 " bytes from x, which extends over %" PRIuPTR, apart,
                       x.Bytes());
}

// A row stride as the caller gave it; 0 and, where there is no next row, anything is `cols`.
simdnorm_status CheckStride(const Words& words, const char* name, int64_t rows, int64_t cols, int64_t* stride) {
  if (*stride == 0 || rows <= 1) {
    *stride = cols;
  } else if (*stride < cols) {
    return words.Invalid("%s %" PRId64 " is less than cols %" PRId64, name, *stride, cols);
  }
  return SIMDNORM_OK;
}

struct RowExtents {
  int64_t x, y;  // elements from the first to the last
};

// What layer norm and RMS norm have in common, up to the pointers.
template <class Args>
simdnorm_status CheckRows(const Words& words, Args* args, RowExtents* extents, bool* empty) {
  SIMDNORM_RETURN_IF_REFUSED(CheckFinite(words, "epsilon", args->epsilon));
  SIMDNORM_RETURN_IF_REFUSED(CheckDtype(words, "x_dtype", args->x_dtype));
  SIMDNORM_RETURN_IF_REFUSED(CheckDtype(words, "y_dtype", args->y_dtype));
  SIMDNORM_RETURN_IF_REFUSED(CheckDtype(words, "scale_dtype", args->scale_dtype));
  SIMDNORM_RETURN_IF_REFUSED(CheckSize(words, "rows", args->rows));
  SIMDNORM_RETURN_IF_REFUSED(CheckSize(words, "cols", args->cols));
  int64_t product;
  SIMDNORM_RETURN_IF_REFUSED(Multiply(words, "rows", args->rows, "cols", args->cols, &product));
  SIMDNORM_RETURN_IF_REFUSED(CheckStride(words, "x_row_stride", args->rows, args->cols, &args->x_row_stride));
  SIMDNORM_RETURN_IF_REFUSED(CheckStride(words, "y_row_stride", args->rows, args->cols, &args->y_row_stride));
  SIMDNORM_RETURN_IF_REFUSED(Multiply(words, "rows", args->rows, "x_row_stride", args->x_row_stride, &product));
  SIMDNORM_RETURN_IF_REFUSED(Multiply(words, "rows", args->rows, "y_row_stride", args->y_row_stride, &product));
  *empty = args->rows == 0 || args->cols == 0;
  extents->x = (args->rows - 1) * args->x_row_stride + args->cols;
  extents->y = (args->rows - 1) * args->y_row_stride + args->cols;
  return SIMDNORM_OK;
}

// What both modes of batch norm have in common, up to the pointers.
template <class Args>
simdnorm_status CheckBatch(const Words& words, const Args& args, int64_t* elements) {
  SIMDNORM_RETURN_IF_REFUSED(CheckFinite(words, "epsilon", args.epsilon));
  SIMDNORM_RETURN_IF_REFUSED(CheckDtype(words, "x_dtype", args.x_dtype));
  SIMDNORM_RETURN_IF_REFUSED(CheckDtype(words, "y_dtype", args.y_dtype));
  SIMDNORM_RETURN_IF_REFUSED(CheckDtype(words, "scale_dtype", args.scale_dtype));
  if (args.layout != SIMDNORM_NCHW && args.layout != SIMDNORM_NHWC) {
    return words.Invalid("layout %" PRId32 " is unknown (0 is NCHW, 1 is NHWC)", args.layout);
  }
  SIMDNORM_RETURN_IF_REFUSED(CheckSize(words, "batch", args.batch));
  SIMDNORM_RETURN_IF_REFUSED(CheckSize(words, "channels", args.channels));
  SIMDNORM_RETURN_IF_REFUSED(CheckSize(words, "spatial", args.spatial));
  if (args.batch == 0 || args.channels == 0 || args.spatial == 0) {
    *elements = 0;
    return SIMDNORM_OK;
  }
  int64_t rows;
  SIMDNORM_RETURN_IF_REFUSED(Multiply(words, "batch", args.batch, "spatial", args.spatial, &rows));
  return Multiply(words, "batch * spatial", rows, "channels", args.channels, elements);
}

}  // namespace

simdnorm_status Validate(const simdnorm_layer_norm_args* given, const simdnorm_options* given_options,
                         simdnorm_layer_norm_args* valid, CallOptions* options, bool* empty) {
  Words words;
  RowExtents extents = {};
  SIMDNORM_RETURN_IF_REFUSED(TakeOptions(given_options, &words, options));
  SIMDNORM_RETURN_IF_REFUSED(Take(words, "args", given, SIMDNORM_SIZE_THROUGH(simdnorm_layer_norm_args, rstd), valid));
  SIMDNORM_RETURN_IF_REFUSED(CheckRows(words, valid, &extents, empty));
  if (*empty) return SIMDNORM_OK;
  const Buffer buffers[] = {
      {"x", valid->x, extents.x, false}, {"scale", valid->scale, valid->cols, true}, {"shift", valid->shift, valid->cols, true},
      {"y", valid->y, extents.y, false}, {"mean", valid->mean, valid->rows, true},   {"rstd", valid->rstd, valid->rows, true},
  };
  SIMDNORM_RETURN_IF_REFUSED(CheckBuffers(words, buffers, 3));
  return CheckXAndY(words, buffers[0], buffers[3], valid->rows, valid->cols, valid->x_row_stride, valid->y_row_stride);
}

simdnorm_status Validate(const simdnorm_rms_norm_args* given, const simdnorm_options* given_options,
                         simdnorm_rms_norm_args* valid, CallOptions* options, bool* empty) {
  Words words;
  RowExtents extents = {};
  SIMDNORM_RETURN_IF_REFUSED(TakeOptions(given_options, &words, options));
  SIMDNORM_RETURN_IF_REFUSED(Take(words, "args", given, SIMDNORM_SIZE_THROUGH(simdnorm_rms_norm_args, rstd), valid));
  SIMDNORM_RETURN_IF_REFUSED(CheckRows(words, valid, &extents, empty));
  if (*empty) return SIMDNORM_OK;
  const Buffer buffers[] = {
      {"x", valid->x, extents.x, false},
      {"scale", valid->scale, valid->cols, true},
      {"y", valid->y, extents.y, false},
      {"rstd", valid->rstd, valid->rows, true},
  };
  SIMDNORM_RETURN_IF_REFUSED(CheckBuffers(words, buffers, 2));
  return CheckXAndY(words, buffers[0], buffers[2], valid->rows, valid->cols, valid->x_row_stride, valid->y_row_stride);
}

simdnorm_status Validate(const simdnorm_batch_norm_inference_args* given, const simdnorm_options* given_options,
                         simdnorm_batch_norm_inference_args* valid, CallOptions* options, bool* empty) {
  Words words;
  int64_t elements = 0;
  SIMDNORM_RETURN_IF_REFUSED(TakeOptions(given_options, &words, options));
  SIMDNORM_RETURN_IF_REFUSED(
      Take(words, "args", given, SIMDNORM_SIZE_THROUGH(simdnorm_batch_norm_inference_args, shift), valid));
  SIMDNORM_RETURN_IF_REFUSED(CheckBatch(words, *valid, &elements));
  *empty = elements == 0;
  if (*empty) return SIMDNORM_OK;
  const Buffer buffers[] = {
      {"x", valid->x, elements, false},
      {"mean", valid->mean, valid->channels, false},
      {"variance", valid->variance, valid->channels, false},
      {"scale", valid->scale, valid->channels, true},
      {"shift", valid->shift, valid->channels, true},
      {"y", valid->y, elements, false},
  };
  SIMDNORM_RETURN_IF_REFUSED(CheckBuffers(words, buffers, 5));
  return CheckXAndY(words, buffers[0], buffers[5], 1, elements, elements, elements);
}

simdnorm_status Validate(const simdnorm_batch_norm_training_args* given, const simdnorm_options* given_options,
                         simdnorm_batch_norm_training_args* valid, CallOptions* options, bool* empty) {
  Words words;
  int64_t elements = 0;
  SIMDNORM_RETURN_IF_REFUSED(TakeOptions(given_options, &words, options));
  SIMDNORM_RETURN_IF_REFUSED(
      Take(words, "args", given, SIMDNORM_SIZE_THROUGH(simdnorm_batch_norm_training_args, running_variance), valid));
  SIMDNORM_RETURN_IF_REFUSED(CheckBatch(words, *valid, &elements));
  SIMDNORM_RETURN_IF_REFUSED(CheckFinite(words, "momentum", valid->momentum));
  if (valid->running_variance_kind != SIMDNORM_UNBIASED && valid->running_variance_kind != SIMDNORM_BIASED) {
    return words.Invalid("running_variance_kind %" PRId32 " is unknown (0 is unbiased, 1 is biased)",
                         valid->running_variance_kind);
  }
  *empty = elements == 0;
  if (*empty) return SIMDNORM_OK;
  if (valid->running_variance && valid->running_variance_kind == SIMDNORM_UNBIASED && valid->batch * valid->spatial == 1) {
    return words.Invalid("running_variance_kind is unbiased, which takes 2 values per channel; batch %" PRId64
                         " and spatial %" PRId64 " give 1",
                         valid->batch, valid->spatial);
  }
  const Buffer buffers[] = {
      {"x", valid->x, elements, false},
      {"scale", valid->scale, valid->channels, true},
      {"shift", valid->shift, valid->channels, true},
      {"y", valid->y, elements, false},
      {"mean", valid->mean, valid->channels, true},
      {"rstd", valid->rstd, valid->channels, true},
      {"running_mean", valid->running_mean, valid->channels, true},
      {"running_variance", valid->running_variance, valid->channels, true},
  };
  SIMDNORM_RETURN_IF_REFUSED(CheckBuffers(words, buffers, 3));
  return CheckXAndY(words, buffers[0], buffers[3], 1, elements, elements, elements);
}

}  // namespace simdnorm
