#include "validate.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <type_traits>

#include "kernels.h"
#include "target.h"

namespace simdnorm {
namespace {

// Puts a refusal into words, where the caller gave room for them.
class Words {
 public:
  void WriteTo(char* message, size_t capacity) { message_ = message, capacity_ = message ? capacity : 0; }

  simdnorm_status Invalid(const char* format, ...) const __attribute__((cold, format(printf, 2, 3))) {
    va_list values;
    va_start(values, format);
    vsnprintf(message_, capacity_, format, values);
    va_end(values);
    return SIMDNORM_INVALID_ARGUMENT;
  }

  simdnorm_status Unsupported(const char* format, ...) const __attribute__((cold, format(printf, 2, 3))) {
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
  // Not memcpy, for which gcc writes `rep movs` here: that takes longer to start than the copy itself.
  memmove(static_cast<void*>(taken), given, size < sizeof(Struct) ? size : sizeof(Struct));
  return SIMDNORM_OK;
}

// The size of a struct in the version that introduced it: the end of its last field then. A struct has to end with a field,
// not with padding that a caller leaves unset and a later version would read as a field: it grows by multiples of 8 bytes.
#define SIMDNORM_SIZE_THROUGH(Struct, field) (offsetof(Struct, field) + sizeof(Struct::field))
#define SIMDNORM_ENDS_WITH(Struct, field) \
  static_assert(sizeof(Struct) == SIMDNORM_SIZE_THROUGH(Struct, field) && sizeof(Struct) <= kMaxStructSize, "")
SIMDNORM_ENDS_WITH(simdnorm_options, message_capacity);
SIMDNORM_ENDS_WITH(simdnorm_layer_norm_args, y_inner_stride);
SIMDNORM_ENDS_WITH(simdnorm_rms_norm_args, y_inner_stride);
SIMDNORM_ENDS_WITH(simdnorm_batch_norm_inference_args, mask);
SIMDNORM_ENDS_WITH(simdnorm_batch_norm_training_args, mask);
SIMDNORM_ENDS_WITH(simdnorm_group_norm_args, mask);
SIMDNORM_ENDS_WITH(simdnorm_fold_batch_norm_args, groups);

// Takes the options and, first of all, where to put words.
simdnorm_status TakeOptions(const simdnorm_options* given, Words* words, simdnorm_options* taken) {
  constexpr size_t kFirstSize = SIMDNORM_SIZE_THROUGH(simdnorm_options, message_capacity);
  if (given->struct_size >= kFirstSize && given->struct_size <= kMaxStructSize) {
    words->WriteTo(given->message, given->message_capacity);
  }
  return Take(*words, "options", given, kFirstSize, taken);
}

simdnorm_status CheckOptions(const simdnorm_options* given, Words* words, CallOptions* options) {
  const char* target = nullptr;
  if (given != nullptr) {
    simdnorm_options taken = {};
    SIMDNORM_RETURN_IF_REFUSED(TakeOptions(given, words, &taken));
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

// Of 0, 1, ... count - 1, which `choices` lists.
simdnorm_status CheckChoice(const Words& words, const char* name, int32_t value, uint32_t count, const char* choices) {
  if (static_cast<uint32_t>(value) < count) return SIMDNORM_OK;
  return words.Invalid("%s %" PRId32 " is none of %s", name, value, choices);
}

// Of a tensor in floating point: any but y of layer norm and RMS norm.
simdnorm_status CheckDtype(const Words& words, const char* name, simdnorm_dtype dtype) {
  return CheckChoice(words, name, dtype, 3, "0 (f32), 1 (bf16), 2 (f16)");
}

// Of one that has been checked.
const char* DtypeName(simdnorm_dtype dtype) {
  constexpr const char* kNames[] = {"f32", "bf16", "f16", "i8", "u8", "Q8_0"};
  return kNames[dtype];
}

simdnorm_status CheckFinite(const Words& words, const char* name, float value) {
  if (isfinite(value)) return SIMDNORM_OK;
  return words.Invalid("%s is %g; it must be finite", name, static_cast<double>(value));
}

// Whether a value is 0, and not just taken for it where the caller's environment takes subnormals for that.
bool IsZero(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits << 1 == 0;
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

simdnorm_status CheckActivation(const Words& words, simdnorm_activation activation, float slope) {
  SIMDNORM_RETURN_IF_REFUSED(CheckChoice(words, "activation", activation, 6,
                                         "0 (none), 1 (ReLU), 2 (leaky ReLU), 3 (SiLU), 4 (GELU), 5 (GELU by tanh)"));
  if (activation == SIMDNORM_LEAKY_RELU) return CheckFinite(words, "activation_slope", slope);
  if (IsZero(slope)) return SIMDNORM_OK;
  return words.Invalid("activation_slope %g is for activation 2 (leaky ReLU), not for %" PRId32, static_cast<double>(slope),
                       activation);
}

// `needed` says what of `there_is_padding` is missing.
simdnorm_status CheckPadding(const Words& words, simdnorm_padding padding, bool there_is_padding, const char* needed) {
  SIMDNORM_RETURN_IF_REFUSED(CheckChoice(words, "padding", padding, 2, "0 (zero), 1 (untouched)"));
  if (padding == SIMDNORM_PADDING_ZERO || there_is_padding) return SIMDNORM_OK;
  return words.Invalid("padding %" PRId32 " (untouched) needs %s", padding, needed);
}

simdnorm_status CheckLengths(const Words& words, const int64_t* lengths, int64_t count, const char* limit_name, int64_t limit) {
  if (lengths == nullptr) return SIMDNORM_OK;
  for (int64_t i = 0; i < count; ++i) {
    if (lengths[i] >= 0 && lengths[i] <= limit) continue;
    return words.Invalid("lengths[%" PRId64 "] %" PRId64 " is not within 0..%s, which is %" PRId64, i, lengths[i], limit_name,
                         limit);
  }
  return SIMDNORM_OK;
}

// From one element of a tensor [rows, cols, inner] to the next, in elements.
struct Strides {
  int64_t row, col, inner;
};

// The sizes of such a tensor.
struct Sizes {
  int64_t rows, cols, inner;

  // Elements from the first to the last of a row, and of them all.
  int64_t RowExtent(const Strides& strides) const { return (cols - 1) * strides.col + (inner - 1) * strides.inner + 1; }
  int64_t Extent(const Strides& strides) const { return (rows - 1) * strides.row + RowExtent(strides); }
};

// Outputs may be inputs, by these pairings: an output may be an input that it shares a bit with.
enum InPlace : unsigned { kNever = 0, kFirst = 1, kSecond = 2, kFirstOrSecond = kFirst | kSecond };
enum Presence { kRequired, kOptional };

// Memory that a call reads or writes, gaps between rows included.
struct Buffer {
  const char* name;
  uintptr_t begin, end;
  InPlace in_place;
  simdnorm_dtype dtype;  // of those that may be in place
  Strides strides;       // of rows; else 0

  const void* Data() const { return reinterpret_cast<const void*>(begin); }
};

// How far b begins from a.
int64_t Apart(const Buffer& a, const Buffer& b) { return static_cast<int64_t>(b.begin - a.begin); }

// The buffers of a call, those that are given: inputs, then outputs. Checks each and, in the end, that no output overlaps
// anything that it must not.
class Buffers {
 public:
  // `sizes` are those of the tensors that are added by AddRows.
  explicit Buffers(const Words& words, const Sizes& sizes = {}) : words_(words), sizes_(sizes) {}

  // Elements of a dtype next to each other.
  void Add(const char* name, const void* data, simdnorm_dtype dtype, int64_t elements, Presence presence,
           InPlace in_place = kNever) {
    if (data || presence == kRequired) Append(name, data, dtype, AlignmentOf(dtype), Bytes(dtype, elements), in_place);
  }

  // Elements of a C type next to each other.
  template <class T>
  void Add(const char* name, const T* data, int64_t elements, Presence presence, InPlace in_place = kNever) {
    const int64_t bytes = elements * static_cast<int64_t>(sizeof(T));
    if (data || presence == kRequired) Append(name, data, SIMDNORM_F32, alignof(T), bytes, in_place);
  }

  void AddRows(const char* name, const void* data, simdnorm_dtype dtype, const Strides& strides, Presence presence,
               InPlace in_place) {
    if (!data && presence == kOptional) return;
    Append(name, data, dtype, AlignmentOf(dtype), Bytes(dtype, sizes_.Extent(strides)), in_place);
    if (refusal_ == SIMDNORM_OK) buffers_[count_ - 1].strides = strides;
  }

  void OutputsFollow() { first_output_ = count_; }

  simdnorm_status Check() const {
    if (refusal_ != SIMDNORM_OK) return refusal_;
    for (size_t i = first_output_; i < count_; ++i) {
      const Buffer& output = buffers_[i];
      for (size_t j = 0; j < i; ++j) {
        const Buffer& other = buffers_[j];
        if (output.begin >= other.end || other.begin >= output.end) continue;
        SIMDNORM_RETURN_IF_REFUSED(CheckOverlap(output, other));
      }
    }
    return SIMDNORM_OK;
  }

 private:
  static size_t AlignmentOf(simdnorm_dtype dtype) {
    return dtype == SIMDNORM_Q8_0 ? alignof(simdnorm_q8_0) : ElementSize(dtype);
  }

  void Append(const char* name, const void* data, simdnorm_dtype dtype, size_t alignment, int64_t bytes, InPlace in_place) {
    if (refusal_ != SIMDNORM_OK) return;
    const uintptr_t begin = reinterpret_cast<uintptr_t>(data), end = begin + static_cast<uintptr_t>(bytes);
    if (data == nullptr) {
      refusal_ = words_.Invalid("%s is NULL", name);
    } else if (begin % alignment != 0) {
      refusal_ = words_.Invalid("%s %p is not aligned to %zu bytes", name, data, alignment);
    } else if (end < begin) {
      refusal_ = words_.Invalid("%s %p with %" PRId64 " bytes goes beyond the end of memory", name, data, bytes);
    } else {
      assert(count_ < kCapacity);
      buffers_[count_++] = {name, begin, end, in_place, dtype, {}};
    }
  }

  simdnorm_status CheckOverlap(const Buffer& output, const Buffer& other) const {
    if ((output.in_place & other.in_place) == 0) {
      if (Interleave(output, other)) return SIMDNORM_OK;
      return words_.Invalid("%s %p overlaps %s %p", output.name, output.Data(), other.name, other.Data());
    }
    if (output.begin == other.begin) return CheckInPlace(output, other);
    if (Interleave(output, other)) return SIMDNORM_OK;
    return words_.Invalid("%s partly overlaps %s: it begins %" PRId64 " bytes from %s, which extends over %" PRIuPTR,
                          output.name, other.name, Apart(other, output), other.name, other.end - other.begin);
  }

  // Whether the rows of each lie in the gaps between those of the other.
  bool Interleave(const Buffer& a, const Buffer& b) const {
    const int64_t stride = Bytes(a.dtype, a.strides.row);
    if (sizes_.rows <= 1 || stride == 0 || stride != Bytes(b.dtype, b.strides.row)) return false;
    const int64_t into_row = (Apart(a, b) % stride + stride) % stride;
    return into_row >= Bytes(a.dtype, sizes_.RowExtent(a.strides)) &&
           into_row + Bytes(b.dtype, sizes_.RowExtent(b.strides)) <= stride;
  }

  simdnorm_status CheckInPlace(const Buffer& output, const Buffer& input) const {
    if (Bytes(output.dtype, kQ8Block) != Bytes(input.dtype, kQ8Block)) {
      return words_.Invalid("%s is %s, but %s_dtype %s differs in size from %s_dtype %s", output.name, input.name, output.name,
                            DtypeName(output.dtype), input.name, DtypeName(input.dtype));
    }
    SIMDNORM_RETURN_IF_REFUSED(CheckSameStride("row", output, output.strides.row, input, input.strides.row));
    SIMDNORM_RETURN_IF_REFUSED(CheckSameStride("col", output, output.strides.col, input, input.strides.col));
    return CheckSameStride("inner", output, output.strides.inner, input, input.strides.inner);
  }

  simdnorm_status CheckSameStride(const char* which, const Buffer& output, int64_t output_stride, const Buffer& input,
                                  int64_t input_stride) const {
    if (output_stride == input_stride) return SIMDNORM_OK;
    return words_.Invalid("%s is %s, but %s_%s_stride %" PRId64 " is not %s_%s_stride %" PRId64, output.name, input.name,
                          output.name, which, output_stride, input.name, which, input_stride);
  }

  static constexpr size_t kCapacity = 12;  // as many as layer norm has

  const Words& words_;
  const Sizes sizes_;
  simdnorm_status refusal_ = SIMDNORM_OK;
  size_t count_ = 0, first_output_ = 0;
  Buffer buffers_[kCapacity];
};

// A row stride as the caller gave it; 0 and, where there is no next row, anything is `cols`.
simdnorm_status CheckRowStride(const Words& words, const char* name, int64_t rows, int64_t cols, int64_t* stride) {
  if (*stride == 0 || rows <= 1) {
    *stride = cols;
  } else if (*stride < cols) {
    return words.Invalid("%s %" PRId64 " is less than cols %" PRId64, name, *stride, cols);
  }
  int64_t product;
  return Multiply(words, "rows", rows, name, *stride, &product);
}

struct StrideNames {
  const char *row, *col, *inner;
};

// The strides of x or y as the caller gave them. Columns and inner positions without any lie next to each other: the columns if
// `columns_adjacent`, else the inner positions. Strides along which there is one element, and that of rows where it is 0,
// become what they are in a tensor without gaps.
simdnorm_status CheckStrides(const Words& words, const StrideNames& names, const Sizes& sizes, bool columns_adjacent,
                             int64_t* row, int64_t* col, int64_t* inner) {
  if (sizes.inner == 1) {
    if (*col == 0 || *col == 1 || sizes.cols <= 1) {
      *col = 1, *inner = 0;
      return CheckRowStride(words, names.row, sizes.rows, sizes.cols, row);
    }
    *inner = 1;
  }
  if (*col == 0 && *inner == 0) {
    *col = columns_adjacent ? 1 : sizes.inner;
    *inner = columns_adjacent ? std::max<int64_t>(1, sizes.cols) : 1;
  }
  if (sizes.cols == 1) *col = 1;
  if (sizes.rows <= 1 || *row == 0) {  // of no rows, the product is not known to fit
    SIMDNORM_RETURN_IF_REFUSED(Multiply(words, "cols", sizes.cols, "inner", sizes.inner, row));
  }
  if (*row < 0) return words.Invalid("%s %" PRId64 " is negative", names.row, *row);
  if (*col <= 0 || *inner <= 0 || (*col != 1 && *inner != 1)) {
    return words.Invalid("%s %" PRId64 " and %s %" PRId64 ": one has to be 1, the other more than 0", names.col, *col,
                         names.inner, *inner);
  }
  int64_t product;
  SIMDNORM_RETURN_IF_REFUSED(Multiply(words, "rows", sizes.rows, names.row, *row, &product));
  SIMDNORM_RETURN_IF_REFUSED(Multiply(words, "cols", sizes.cols, names.col, *col, &product));
  return Multiply(words, "inner", sizes.inner, names.inner, *inner, &product);
}

// That no two elements of y share a place. Strides have to nest, each beyond all that the smaller ones reach: rows, columns and
// inner positions in any order, cut out of a larger tensor or not.
simdnorm_status CheckCollisions(const Words& words, const Sizes& sizes, const Strides& strides) {
  if (sizes.rows == 0 || sizes.cols == 0) return SIMDNORM_OK;
  struct Dimension {
    int64_t stride, size;
  };
  Dimension dimensions[] = {{strides.row, sizes.rows}, {strides.col, sizes.cols}, {strides.inner, sizes.inner}};
  std::sort(dimensions, dimensions + 3, [](const Dimension& a, const Dimension& b) { return a.stride < b.stride; });
  int64_t extent = 1;  // of the dimensions so far
  for (const Dimension& dimension : dimensions) {
    if (dimension.size <= 1) continue;
    if (dimension.stride < extent) {
      return words.Invalid("y_row_stride %" PRId64 ", y_col_stride %" PRId64 " and y_inner_stride %" PRId64
                           " let elements of [%" PRId64 ", %" PRId64 ", %" PRId64 "] overlap",
                           strides.row, strides.col, strides.inner, sizes.rows, sizes.cols, sizes.inner);
    }
    extent += (dimension.size - 1) * dimension.stride;
  }
  return SIMDNORM_OK;
}

// What a quantized y needs, and no other y takes.
simdnorm_status CheckQuantization(const Words& words, simdnorm_dtype y_dtype, float quant_scale, const float* quant_scales,
                                  int32_t zero_point) {
  const bool one_factor = !IsZero(quant_scale), takes_one = y_dtype == SIMDNORM_I8 || y_dtype == SIMDNORM_U8;
  const double factor = static_cast<double>(quant_scale);
  if (one_factor && !takes_one) {
    return words.Invalid("quant_scale %g is for y_dtype i8 and u8, not for %s", factor, DtypeName(y_dtype));
  }
  if (quant_scales && y_dtype != SIMDNORM_I8) {
    return words.Invalid("quant_scales is for y_dtype i8, not for %s", DtypeName(y_dtype));
  }
  if (zero_point != 0 && !one_factor) {
    return words.Invalid("zero_point %" PRId32 " needs quant_scale, which is 0", zero_point);
  }
  if (!takes_one) return SIMDNORM_OK;
  if (one_factor && quant_scales) return words.Invalid("quant_scale %g excludes quant_scales; only one can be given", factor);
  if (!one_factor && !quant_scales) {
    return words.Invalid("y_dtype %s needs quant_scale%s", DtypeName(y_dtype),
                         y_dtype == SIMDNORM_I8 ? " or quant_scales" : ", which is 0");
  }
  if (one_factor && (!isfinite(quant_scale) || signbit(quant_scale))) {
    return words.Invalid("quant_scale is %g; it must be finite and more than 0", factor);
  }
  const int32_t least = y_dtype == SIMDNORM_I8 ? INT8_MIN : 0, most = y_dtype == SIMDNORM_I8 ? INT8_MAX : UINT8_MAX;
  if (zero_point >= least && zero_point <= most) return SIMDNORM_OK;
  return words.Invalid("zero_point %" PRId32 " is not within %" PRId32 "..%" PRId32 " of y_dtype %s", zero_point, least, most,
                       DtypeName(y_dtype));
}

// Blocks of Q8_0 do not straddle rows.
simdnorm_status CheckBlocks(const Words& words, const char* name, int64_t elements) {
  if (elements % kQ8Block == 0) return SIMDNORM_OK;
  return words.Invalid("%s %" PRId64 " is not a multiple of %" PRId64 ", which y_dtype Q8_0 needs", name, elements, kQ8Block);
}

template <class Args>
bool HasScaleOrShift(const Args& args) {
  if constexpr (kIsLayerNorm<Args>) {
    return args.scale || args.shift;
  } else {
    return args.scale != nullptr;
  }
}

// Scale and shift, of which groups of rows may have their own.
template <class Args>
simdnorm_status CheckScale(const Words& words, Args* args) {
  if (!IsZero(args->scale_offset)) {
    SIMDNORM_RETURN_IF_REFUSED(CheckFinite(words, "scale_offset", args->scale_offset));
    if (!args->scale) {
      return words.Invalid("scale_offset %g needs scale, which is NULL", static_cast<double>(args->scale_offset));
    }
  }
  if (args->rows_per_scale == 0) {
    if (args->scale_row_stride != 0) {
      return words.Invalid("scale_row_stride %" PRId64 " needs rows_per_scale, which is 0", args->scale_row_stride);
    }
    args->rows_per_scale = args->rows;
    args->scale_row_stride = args->cols;
    return SIMDNORM_OK;
  }
  if (args->rows_per_scale < 0) return words.Invalid("rows_per_scale %" PRId64 " is negative", args->rows_per_scale);
  if (!HasScaleOrShift(*args)) {
    return words.Invalid("rows_per_scale %" PRId64 " needs scale%s", args->rows_per_scale,
                         kIsLayerNorm<Args> ? " or shift; both are NULL" : ", which is NULL");
  }
  if (args->rows % args->rows_per_scale != 0) {
    return words.Invalid("rows_per_scale %" PRId64 " does not divide rows %" PRId64, args->rows_per_scale, args->rows);
  }
  return CheckRowStride(words, "scale_row_stride", args->rows / args->rows_per_scale, args->cols, &args->scale_row_stride);
}

template <class Args>
simdnorm_status CheckSequences(const Words& words, Args* args) {
  if (!args->lengths) {
    if (args->rows_per_sequence != 0) {
      return words.Invalid("rows_per_sequence %" PRId64 " needs lengths, which is NULL", args->rows_per_sequence);
    }
    args->rows_per_sequence = args->rows;
    return SIMDNORM_OK;
  }
  if (args->rows_per_sequence <= 0) {
    return words.Invalid("rows_per_sequence %" PRId64 " with lengths has to be more than 0", args->rows_per_sequence);
  }
  if (args->rows % args->rows_per_sequence == 0) return SIMDNORM_OK;
  return words.Invalid("rows_per_sequence %" PRId64 " does not divide rows %" PRId64, args->rows_per_sequence, args->rows);
}

// Whether rows are more than runs of adjacent elements.
template <class Args>
bool HasInner(const Args& args) {
  return args.inner > 1 || args.x_col_stride != 1 || args.y_col_stride != 1;
}

// What such rows do not go with.
template <class Args>
simdnorm_status CheckInner(const Words& words, const Args& args, const Sizes& sizes) {
  const char* const with = args.residual  ? "residual"
                           : args.bias    ? "bias"
                           : args.h       ? "h"
                           : args.gate    ? "gate"
                           : args.lengths ? "lengths"
                                          : nullptr;
  struct {
    const char* name;
    int64_t value;
  } cause = {"inner", args.inner};
  if (args.inner == 1) cause = {"x_col_stride", args.x_col_stride};
  if (args.inner == 1 && args.x_col_stride == 1) cause = {"y_col_stride", args.y_col_stride};
  if (with) {
    return words.Unsupported("%s with %s %" PRId64 " is not supported; it takes %s 1", with, cause.name, cause.value,
                             cause.name);
  }
  if (!IsFloat(args.y_dtype)) {
    return words.Unsupported("y_dtype %s with %s %" PRId64 " is not supported; it takes f32, bf16, f16",
                             DtypeName(args.y_dtype), cause.name, cause.value);
  }
  // A single inner position is adjacent to itself: a y of adjacent columns then is of both kinds.
  const bool x_adjacent = args.x_col_stride == 1, y_adjacent = args.y_col_stride == 1;
  if (x_adjacent != y_adjacent && (args.inner > 1 || x_adjacent)) {
    return words.Unsupported("x_col_stride %" PRId64 " with y_col_stride %" PRId64
                             " is not supported; columns are adjacent in both or in neither",
                             args.x_col_stride, args.y_col_stride);
  }
  return CheckCollisions(words, sizes, {args.y_row_stride, args.y_col_stride, args.y_inner_stride});
}

// Inner positions that strides speak of have to be declared.
simdnorm_status CheckInnerGiven(const Words& words, const char* col_name, int64_t col, const char* inner_name, int64_t inner) {
  if (inner != 0) return words.Invalid("%s %" PRId64 " needs inner, which is 0", inner_name, inner);
  if (col == 0 || col == 1) return SIMDNORM_OK;
  return words.Invalid("%s %" PRId64 " needs inner, which is 0", col_name, col);
}

// Layer norm and RMS norm.
template <class Args>
simdnorm_status CheckRows(const Words& words, Args* args, bool* empty) {
  SIMDNORM_RETURN_IF_REFUSED(CheckFinite(words, "epsilon", args->epsilon));
  SIMDNORM_RETURN_IF_REFUSED(CheckDtype(words, "x_dtype", args->x_dtype));
  SIMDNORM_RETURN_IF_REFUSED(
      CheckChoice(words, "y_dtype", args->y_dtype, 6, "0 (f32), 1 (bf16), 2 (f16), 3 (i8), 4 (u8), 5 (Q8_0)"));
  SIMDNORM_RETURN_IF_REFUSED(CheckDtype(words, "scale_dtype", args->scale_dtype));
  SIMDNORM_RETURN_IF_REFUSED(CheckDtype(words, "residual_dtype", args->residual_dtype));
  SIMDNORM_RETURN_IF_REFUSED(CheckDtype(words, "bias_dtype", args->bias_dtype));
  SIMDNORM_RETURN_IF_REFUSED(CheckDtype(words, "h_dtype", args->h_dtype));
  SIMDNORM_RETURN_IF_REFUSED(CheckDtype(words, "gate_dtype", args->gate_dtype));
  SIMDNORM_RETURN_IF_REFUSED(CheckChoice(words, "residual_order", args->residual_order, 2, "0 (before), 1 (after)"));
  SIMDNORM_RETURN_IF_REFUSED(CheckChoice(words, "h_rounding", args->h_rounding, 2, "0 (unrounded), 1 (rounded)"));
  if (args->residual_order == SIMDNORM_RESIDUAL_AFTER && !args->residual) {
    return words.Invalid("residual_order 1 (after) needs residual, which is NULL");
  }
  if (args->h_rounding == SIMDNORM_H_ROUNDED && !args->h && !args->residual && !args->bias) {
    return words.Invalid("h_rounding 1 (rounded) needs h, residual or bias; all are NULL");
  }
  SIMDNORM_RETURN_IF_REFUSED(CheckActivation(words, args->activation, args->activation_slope));
  SIMDNORM_RETURN_IF_REFUSED(CheckPadding(words, args->padding, args->lengths, "lengths, which is NULL"));
  SIMDNORM_RETURN_IF_REFUSED(CheckQuantization(words, args->y_dtype, args->quant_scale, args->quant_scales, args->zero_point));

  SIMDNORM_RETURN_IF_REFUSED(CheckSize(words, "rows", args->rows));
  SIMDNORM_RETURN_IF_REFUSED(CheckSize(words, "cols", args->cols));
  SIMDNORM_RETURN_IF_REFUSED(CheckSize(words, "inner", args->inner));
  if (args->inner == 0) {
    SIMDNORM_RETURN_IF_REFUSED(
        CheckInnerGiven(words, "x_col_stride", args->x_col_stride, "x_inner_stride", args->x_inner_stride));
    SIMDNORM_RETURN_IF_REFUSED(
        CheckInnerGiven(words, "y_col_stride", args->y_col_stride, "y_inner_stride", args->y_inner_stride));
    args->inner = 1;
  }
  int64_t elements;
  SIMDNORM_RETURN_IF_REFUSED(Multiply(words, "rows", args->rows, "cols", args->cols, &elements));
  SIMDNORM_RETURN_IF_REFUSED(Multiply(words, "rows * cols", elements, "inner", args->inner, &elements));
  *empty = elements == 0;

  const Sizes sizes = {args->rows, args->cols, args->inner};
  SIMDNORM_RETURN_IF_REFUSED(CheckStrides(words, {"x_row_stride", "x_col_stride", "x_inner_stride"}, sizes, false,
                                          &args->x_row_stride, &args->x_col_stride, &args->x_inner_stride));
  SIMDNORM_RETURN_IF_REFUSED(CheckStrides(words, {"y_row_stride", "y_col_stride", "y_inner_stride"}, sizes,
                                          args->x_col_stride == 1, &args->y_row_stride, &args->y_col_stride,
                                          &args->y_inner_stride));
  if (args->residual) {
    SIMDNORM_RETURN_IF_REFUSED(
        CheckRowStride(words, "residual_row_stride", args->rows, args->cols, &args->residual_row_stride));
  }
  if (args->h) {
    SIMDNORM_RETURN_IF_REFUSED(CheckRowStride(words, "h_row_stride", args->rows, args->cols, &args->h_row_stride));
  }
  if (args->gate) {
    SIMDNORM_RETURN_IF_REFUSED(CheckRowStride(words, "gate_row_stride", args->rows, args->cols, &args->gate_row_stride));
  }
  if (args->y_dtype == SIMDNORM_Q8_0) {
    SIMDNORM_RETURN_IF_REFUSED(CheckBlocks(words, "cols", args->cols));
    SIMDNORM_RETURN_IF_REFUSED(CheckBlocks(words, "y_row_stride", args->y_row_stride));
  }
  SIMDNORM_RETURN_IF_REFUSED(CheckScale(words, args));
  SIMDNORM_RETURN_IF_REFUSED(CheckSequences(words, args));
  return HasInner(*args) ? CheckInner(words, *args, sizes) : SIMDNORM_OK;
}

// The memory of layer norm and RMS norm that is not empty.
template <class Args>
simdnorm_status CheckRowsMemory(const Words& words, const Args& args) {
  const auto as_x = [](int64_t row_stride) { return Strides{row_stride, 1, 0}; };
  // Divisions take longer than all the rest of this.
  const bool one_scale = args.rows_per_scale == args.rows;
  const int64_t parameters = args.cols + (one_scale ? 0 : (args.rows / args.rows_per_scale - 1) * args.scale_row_stride);
  const int64_t sequences = args.lengths ? args.rows / args.rows_per_sequence : 0;
  Buffers buffers(words, {args.rows, args.cols, args.inner});
  buffers.AddRows("x", args.x, args.x_dtype, {args.x_row_stride, args.x_col_stride, args.x_inner_stride}, kRequired,
                  kFirstOrSecond);
  buffers.AddRows("residual", args.residual, args.residual_dtype, as_x(args.residual_row_stride), kOptional, kFirstOrSecond);
  buffers.AddRows("gate", args.gate, args.gate_dtype, as_x(args.gate_row_stride), kOptional, kFirst);
  buffers.Add("scale", args.scale, args.scale_dtype, parameters, kOptional);
  if constexpr (kIsLayerNorm<Args>) buffers.Add("shift", args.shift, args.scale_dtype, parameters, kOptional);
  buffers.Add("bias", args.bias, args.bias_dtype, args.cols, kOptional);
  buffers.Add("lengths", args.lengths, sequences, kOptional);
  buffers.OutputsFollow();
  buffers.AddRows("y", args.y, args.y_dtype, {args.y_row_stride, args.y_col_stride, args.y_inner_stride}, kRequired, kFirst);
  buffers.AddRows("h", args.h, args.h_dtype, as_x(args.h_row_stride), kOptional, kSecond);
  if constexpr (kIsLayerNorm<Args>) buffers.Add("mean", args.mean, args.rows * args.inner, kOptional);
  buffers.Add("rstd", args.rstd, args.rows * args.inner, kOptional);
  buffers.Add("quant_scales", args.quant_scales, args.rows, kOptional);
  SIMDNORM_RETURN_IF_REFUSED(buffers.Check());
  return CheckLengths(words, args.lengths, sequences, "rows_per_sequence", args.rows_per_sequence);
}

template <class Args>
simdnorm_status ValidateRows(const Args* given, const simdnorm_options* given_options, Args* valid, CallOptions* options,
                             bool* empty) {
  Words words;
  SIMDNORM_RETURN_IF_REFUSED(CheckOptions(given_options, &words, options));
  SIMDNORM_RETURN_IF_REFUSED(Take(words, "args", given, SIMDNORM_SIZE_THROUGH(Args, rstd), valid));
  SIMDNORM_RETURN_IF_REFUSED(CheckRows(words, valid, empty));
  return *empty ? SIMDNORM_OK : CheckRowsMemory(words, *valid);
}

// Memory of a call; an absent tensor lies at 0, where no other is.
struct Extent {
  uint64_t begin, end;
  Extent(const void* data, int64_t bytes)
      : begin(reinterpret_cast<uintptr_t>(data)), end(begin + static_cast<uint64_t>(bytes)) {}
  // That it is aligned to `alignment` and so low that it cannot go beyond the end of memory.
  bool IsInOrder(int64_t alignment) const { return (begin & (uint64_t{3} << 62 | static_cast<uint64_t>(alignment - 1))) == 0; }
};

bool AreApart(const Extent& a, const Extent& b) { return a.begin >= b.end || b.begin >= a.end; }

// Where the tensors of plain rows lie, whose sizes have been looked at.
struct Places {
  explicit Places(const PlainRows& rows)
      : size(static_cast<int64_t>(ElementSize(rows.dtype))),
        x(rows.x, ((rows.rows - 1) * rows.x_stride + rows.cols) * size),
        y(rows.y, ((rows.rows - 1) * rows.y_stride + rows.cols) * size),
        scale_size(rows.scale_dtype == SIMDNORM_F32 ? kFloat : size),
        scale(rows.scale, rows.cols * scale_size),
        shift(rows.shift, rows.cols * scale_size),
        in_place(rows.x == rows.y && rows.x_stride == rows.y_stride) {}

  bool AreValid() const {
    return x.IsInOrder(size) && y.IsInOrder(size) && scale.IsInOrder(scale_size) && shift.IsInOrder(scale_size) &&
           (in_place || AreApart(x, y)) && AreApart(y, scale) && AreApart(y, shift);
  }

  static constexpr int64_t kFloat = sizeof(float);
  int64_t size;
  Extent x, y;
  int64_t scale_size;
  Extent scale, shift;
  bool in_place;
};

// Whether so are the statistics that are written. Not inline: few ask for them.
__attribute__((noinline)) bool StatisticsAreApart(const PlainRows& rows) {
  const Places places(rows);
  const int64_t bytes = rows.rows * Places::kFloat;
  const Extent mean(rows.mean, bytes), rstd(rows.rstd, bytes);
  for (const Extent* other : {&places.x, &places.y, &places.scale, &places.shift}) {
    if ((rows.mean && !AreApart(mean, *other)) || (rows.rstd && !AreApart(rstd, *other))) return false;
  }
  return mean.IsInOrder(Places::kFloat) && rstd.IsInOrder(Places::kFloat) && AreApart(mean, rstd);
}

// Whether any of the fields from `known` on is set.
template <class Args>
bool SetsMore(const Args& given, size_t known) {
  static_assert(sizeof(Args) % sizeof(uintptr_t) == 0, "whole words");
  uintptr_t word, more = 0;
  for (size_t i = known; i < sizeof(Args); i += sizeof(word)) {
    memcpy(&word, reinterpret_cast<const unsigned char*>(&given) + i, sizeof(word));
    more |= word;
  }
  return more != 0;
}

// Batch, group and instance norm. Sets *elements, those of x.
template <class Args>
simdnorm_status CheckChannels(const Words& words, const Args& args, int64_t* elements) {
  SIMDNORM_RETURN_IF_REFUSED(CheckFinite(words, "epsilon", args.epsilon));
  SIMDNORM_RETURN_IF_REFUSED(CheckDtype(words, "x_dtype", args.x_dtype));
  SIMDNORM_RETURN_IF_REFUSED(CheckDtype(words, "y_dtype", args.y_dtype));
  SIMDNORM_RETURN_IF_REFUSED(CheckDtype(words, "scale_dtype", args.scale_dtype));
  SIMDNORM_RETURN_IF_REFUSED(CheckDtype(words, "residual_dtype", args.residual_dtype));
  SIMDNORM_RETURN_IF_REFUSED(CheckChoice(words, "layout", args.layout, 4, "0 (NCHW), 1 (NHWC), 2 (nChw8c), 3 (nChw16c)"));
  SIMDNORM_RETURN_IF_REFUSED(CheckActivation(words, args.activation, args.activation_slope));
  SIMDNORM_RETURN_IF_REFUSED(CheckPadding(words, args.padding, args.lengths || args.mask, "lengths or mask; both are NULL"));
  if (args.lengths && args.mask) return words.Invalid("lengths excludes mask; only one can be given");
  SIMDNORM_RETURN_IF_REFUSED(CheckSize(words, "batch", args.batch));
  SIMDNORM_RETURN_IF_REFUSED(CheckSize(words, "channels", args.channels));
  SIMDNORM_RETURN_IF_REFUSED(CheckSize(words, "spatial", args.spatial));
  if (args.batch == 0 || args.channels == 0 || args.spatial == 0) {
    *elements = 0;
    return SIMDNORM_OK;
  }
  int64_t rows;
  SIMDNORM_RETURN_IF_REFUSED(Multiply(words, "batch", args.batch, "spatial", args.spatial, &rows));
  SIMDNORM_RETURN_IF_REFUSED(Multiply(words, "batch * spatial", rows, "channels", args.channels, elements));
  const int64_t block = std::max<int64_t>(1, BlockOf(args.layout));  // the last of them is filled up
  return Multiply(words, "batch * spatial", rows, "channels in whole blocks", CeilDiv(args.channels, block) * block, elements);
}

// The inputs of batch, group and instance norm but for a given mean and variance, and y; further outputs follow.
template <class Args>
void AddChannels(const Args& args, int64_t elements, Buffers* buffers) {
  buffers->Add("x", args.x, args.x_dtype, elements, kRequired, kFirst);
  buffers->Add("residual", args.residual, args.residual_dtype, elements, kOptional, kFirst);
  buffers->Add("scale", args.scale, args.scale_dtype, args.channels, kOptional);
  buffers->Add("shift", args.shift, args.scale_dtype, args.channels, kOptional);
  buffers->Add("lengths", args.lengths, args.batch, kOptional);
  buffers->Add("mask", args.mask, args.batch * args.spatial, kOptional);
  buffers->OutputsFollow();
  buffers->Add("y", args.y, args.y_dtype, elements, kRequired, kFirst);
}

// How many values a channel has that count, or 2 if they are more.
int64_t CountUpToTwo(const simdnorm_batch_norm_training_args& args) {
  const int64_t positions = args.batch * args.spatial;
  if (!args.lengths && !args.mask) return std::min<int64_t>(2, positions);
  int64_t count = 0;
  for (int64_t i = 0; count < 2 && i < (args.lengths ? args.batch : positions); ++i) {
    count += args.lengths ? std::min<int64_t>(2, args.lengths[i]) : args.mask[i] != 0;
  }
  return std::min<int64_t>(2, count);
}

// The unbiased variance of one value does not exist.
simdnorm_status CheckRunningVariance(const Words& words, const simdnorm_batch_norm_training_args& args) {
  if (!args.running_variance || args.running_variance_kind != SIMDNORM_UNBIASED || CountUpToTwo(args) != 1) return SIMDNORM_OK;
  return words.Invalid("running_variance_kind is unbiased, which takes 2 values per channel; batch %" PRId64
                       " and spatial %" PRId64 "%s give 1",
                       args.batch, args.spatial,
                       args.lengths ? " cut to lengths"
                       : args.mask  ? " under mask"
                                    : "");
}

// The groups of group norm, or of instance norm.
simdnorm_status CheckGroups(const Words& words, simdnorm_group_norm_args* args, bool instance) {
  if (args->layout > SIMDNORM_NHWC) {
    return words.Unsupported("layout %" PRId32 " (blocked) is for batch norm only; here it takes 0 (NCHW) and 1 (NHWC)",
                             args->layout);
  }
  if (args->reserved != 0) return words.Invalid("reserved is %" PRId32 "; it has to be 0", args->reserved);
  if (instance) {
    if (args->groups != 0 && args->groups != args->channels) {
      return words.Invalid("groups %" PRId64 " of instance norm is neither 0 nor channels %" PRId64, args->groups,
                           args->channels);
    }
    args->groups = args->channels;
    return SIMDNORM_OK;
  }
  if (args->groups <= 0) return words.Invalid("groups %" PRId64 " has to be more than 0", args->groups);
  if (args->channels % args->groups == 0) return SIMDNORM_OK;
  return words.Invalid("groups %" PRId64 " does not divide channels %" PRId64, args->groups, args->channels);
}

// Sets *weights, the elements of the layer's weight.
simdnorm_status CheckFold(const Words& words, simdnorm_fold_batch_norm_args* args, int64_t* weights) {
  SIMDNORM_RETURN_IF_REFUSED(CheckFinite(words, "epsilon", args->epsilon));
  SIMDNORM_RETURN_IF_REFUSED(CheckChoice(words, "position", args->position, 2, "0 (preceding), 1 (following)"));
  SIMDNORM_RETURN_IF_REFUSED(CheckChoice(words, "transposed", args->transposed, 2, "0, 1"));
  if (args->reserved != 0) return words.Invalid("reserved is %" PRId32 "; it has to be 0", args->reserved);
  SIMDNORM_RETURN_IF_REFUSED(CheckSize(words, "out_channels", args->out_channels));
  SIMDNORM_RETURN_IF_REFUSED(CheckSize(words, "in_channels", args->in_channels));
  SIMDNORM_RETURN_IF_REFUSED(CheckSize(words, "kernel", args->kernel));
  SIMDNORM_RETURN_IF_REFUSED(CheckSize(words, "groups", args->groups));
  if (args->kernel == 0) args->kernel = 1;
  if (args->groups == 0) args->groups = 1;
  if (args->out_channels % args->groups != 0) {
    return words.Invalid("groups %" PRId64 " does not divide out_channels %" PRId64, args->groups, args->out_channels);
  }
  if (args->in_channels % args->groups != 0) {
    return words.Invalid("groups %" PRId64 " does not divide in_channels %" PRId64, args->groups, args->in_channels);
  }
  int64_t pairs;
  SIMDNORM_RETURN_IF_REFUSED(
      Multiply(words, "out_channels", args->out_channels, "in_channels / groups", args->in_channels / args->groups, &pairs));
  return Multiply(words, "pairs of channels", pairs, "kernel", args->kernel, weights);
}

}  // namespace

// See validate.h. Buffers and the checks above say all of this too, and more, in many more instructions; what is not
// certain here is left to them.
template <class Args>
bool TakePlainRows(const Args* given, const simdnorm_options* given_options, PlainRows* rows, CallOptions* options) {
  if constexpr (sizeof(void*) < sizeof(uint64_t)) return false;
  constexpr size_t kFirstSize = offsetof(Args, scale_offset);  // of the least that Take takes
  if (given == nullptr) return false;
  if (given->struct_size != kFirstSize && (given->struct_size != sizeof(Args) || SetsMore(*given, kFirstSize))) return false;
  const char* target = nullptr;
  if (given_options != nullptr) {
    if (given_options->struct_size != sizeof(simdnorm_options) || given_options->max_threads < 0) return false;
    options->executor = {given_options->parallel_for, given_options->pool, given_options->max_threads};
    target = given_options->target;
  }
  const simdnorm_dtype dtype = given->x_dtype, scale_dtype = given->scale_dtype;
  if (dtype != given->y_dtype || static_cast<uint32_t>(dtype) > SIMDNORM_F16) return false;
  if (scale_dtype != SIMDNORM_F32 && scale_dtype != dtype) return false;
  if (!isfinite(given->epsilon) || given->x == nullptr || given->y == nullptr) return false;

  // Sizes whose products and sums with addresses cannot overflow, and rows without gaps that are not looked at.
  constexpr int64_t kMost = int64_t{1} << 28;
  const int64_t count = given->rows, cols = given->cols;
  int64_t x_stride = given->x_row_stride, y_stride = given->y_row_stride;
  if (count == 1 || x_stride == 0) x_stride = cols;
  if (count == 1 || y_stride == 0) y_stride = cols;
  const auto within = [](int64_t value, int64_t least, int64_t most) {
    return static_cast<uint64_t>(value) - static_cast<uint64_t>(least) <= static_cast<uint64_t>(most - least);
  };
  if (!within(count, 1, kMost) || !within(cols, 1, kChunkElements)) return false;
  if (!within(x_stride, cols, kMost) || !within(y_stride, cols, kMost)) return false;

  rows->x = given->x, rows->y = given->y;
  rows->rows = count, rows->cols = cols;
  rows->x_stride = x_stride, rows->y_stride = y_stride;
  rows->scale = given->scale;
  rows->shift = nullptr, rows->mean = nullptr, rows->rstd = given->rstd;
  if constexpr (kIsLayerNorm<Args>) rows->shift = given->shift, rows->mean = given->mean;
  rows->dtype = dtype;
  rows->scale_dtype = rows->scale || rows->shift ? scale_dtype : SIMDNORM_F32;
  rows->epsilon = given->epsilon;
  rows->streams = rows->overflows = false;

  const Places places(*rows);
  if (!places.AreValid() || ((rows->mean || rows->rstd) && !StatisticsAreApart(*rows))) return false;
  const int64_t bytes = 2 * count * cols * places.size;
  if (bytes >= kLeastStreamingBytes) {
    rows->streams = !places.in_place && WritesPastCaches(bytes / 2, options->executor);
    rows->overflows = OverflowsCaches(bytes);
  }
  return FindTarget(target, &options->target_index);
}

template bool TakePlainRows(const simdnorm_layer_norm_args*, const simdnorm_options*, PlainRows*, CallOptions*);
template bool TakePlainRows(const simdnorm_rms_norm_args*, const simdnorm_options*, PlainRows*, CallOptions*);

simdnorm_status Validate(const simdnorm_layer_norm_args* given, const simdnorm_options* given_options,
                         simdnorm_layer_norm_args* valid, CallOptions* options, bool* empty) {
  return ValidateRows(given, given_options, valid, options, empty);
}

simdnorm_status Validate(const simdnorm_rms_norm_args* given, const simdnorm_options* given_options,
                         simdnorm_rms_norm_args* valid, CallOptions* options, bool* empty) {
  return ValidateRows(given, given_options, valid, options, empty);
}

simdnorm_status Validate(const simdnorm_batch_norm_inference_args* given, const simdnorm_options* given_options,
                         simdnorm_batch_norm_inference_args* valid, CallOptions* options, bool* empty) {
  Words words;
  int64_t elements = 0;
  SIMDNORM_RETURN_IF_REFUSED(CheckOptions(given_options, &words, options));
  SIMDNORM_RETURN_IF_REFUSED(
      Take(words, "args", given, SIMDNORM_SIZE_THROUGH(simdnorm_batch_norm_inference_args, shift), valid));
  SIMDNORM_RETURN_IF_REFUSED(CheckChannels(words, *valid, &elements));
  *empty = elements == 0;
  if (*empty) return SIMDNORM_OK;
  Buffers buffers(words);
  buffers.Add("mean", valid->mean, valid->channels, kRequired);
  buffers.Add("variance", valid->variance, valid->channels, kRequired);
  AddChannels(*valid, elements, &buffers);
  SIMDNORM_RETURN_IF_REFUSED(buffers.Check());
  return CheckLengths(words, valid->lengths, valid->batch, "spatial", valid->spatial);
}

simdnorm_status Validate(const simdnorm_batch_norm_training_args* given, const simdnorm_options* given_options,
                         simdnorm_batch_norm_training_args* valid, CallOptions* options, bool* empty) {
  Words words;
  int64_t elements = 0;
  SIMDNORM_RETURN_IF_REFUSED(CheckOptions(given_options, &words, options));
  SIMDNORM_RETURN_IF_REFUSED(
      Take(words, "args", given, SIMDNORM_SIZE_THROUGH(simdnorm_batch_norm_training_args, running_variance), valid));
  SIMDNORM_RETURN_IF_REFUSED(CheckChannels(words, *valid, &elements));
  SIMDNORM_RETURN_IF_REFUSED(CheckFinite(words, "momentum", valid->momentum));
  SIMDNORM_RETURN_IF_REFUSED(
      CheckChoice(words, "running_variance_kind", valid->running_variance_kind, 2, "0 (unbiased), 1 (biased)"));
  *empty = elements == 0;
  if (*empty) return SIMDNORM_OK;
  Buffers buffers(words);
  AddChannels(*valid, elements, &buffers);
  buffers.Add("mean", valid->mean, valid->channels, kOptional);
  buffers.Add("rstd", valid->rstd, valid->channels, kOptional);
  buffers.Add("running_mean", valid->running_mean, valid->channels, kOptional);
  buffers.Add("running_variance", valid->running_variance, valid->channels, kOptional);
  SIMDNORM_RETURN_IF_REFUSED(buffers.Check());
  SIMDNORM_RETURN_IF_REFUSED(CheckLengths(words, valid->lengths, valid->batch, "spatial", valid->spatial));
  return CheckRunningVariance(words, *valid);
}

simdnorm_status Validate(const simdnorm_group_norm_args* given, const simdnorm_options* given_options,
                         simdnorm_group_norm_args* valid, CallOptions* options, bool* empty, bool instance) {
  Words words;
  int64_t elements = 0;
  SIMDNORM_RETURN_IF_REFUSED(CheckOptions(given_options, &words, options));
  SIMDNORM_RETURN_IF_REFUSED(Take(words, "args", given, SIMDNORM_SIZE_THROUGH(simdnorm_group_norm_args, mask), valid));
  SIMDNORM_RETURN_IF_REFUSED(CheckChannels(words, *valid, &elements));
  SIMDNORM_RETURN_IF_REFUSED(CheckGroups(words, valid, instance));
  *empty = elements == 0;
  if (*empty) return SIMDNORM_OK;
  Buffers buffers(words);
  AddChannels(*valid, elements, &buffers);
  buffers.Add("mean", valid->mean, valid->batch * valid->groups, kOptional);
  buffers.Add("rstd", valid->rstd, valid->batch * valid->groups, kOptional);
  SIMDNORM_RETURN_IF_REFUSED(buffers.Check());
  return CheckLengths(words, valid->lengths, valid->batch, "spatial", valid->spatial);
}

simdnorm_status Validate(const simdnorm_fold_batch_norm_args* given, const simdnorm_options* given_options,
                         simdnorm_fold_batch_norm_args* valid, CallOptions* options, bool* empty) {
  Words words;
  int64_t weights = 0;
  simdnorm_options message_alone;
  if (given_options != nullptr) SIMDNORM_RETURN_IF_REFUSED(TakeOptions(given_options, &words, &message_alone));
  *options = CallOptions();
  SIMDNORM_RETURN_IF_REFUSED(Take(words, "args", given, SIMDNORM_SIZE_THROUGH(simdnorm_fold_batch_norm_args, groups), valid));
  SIMDNORM_RETURN_IF_REFUSED(CheckFold(words, valid, &weights));
  *empty = weights == 0;
  if (*empty) return SIMDNORM_OK;
  const int64_t channels = valid->position == SIMDNORM_FOLD_INTO_PRECEDING ? valid->out_channels : valid->in_channels;
  Buffers buffers(words);
  buffers.Add("mean", valid->mean, channels, kRequired);
  buffers.Add("variance", valid->variance, channels, kRequired);
  buffers.Add("scale", valid->scale, channels, kOptional);
  buffers.Add("shift", valid->shift, channels, kOptional);
  buffers.Add("weight", valid->weight, weights, kRequired, kFirst);
  buffers.Add("bias", valid->bias, valid->out_channels, kOptional, kSecond);
  buffers.OutputsFollow();
  buffers.Add("folded_weight", valid->folded_weight, weights, kRequired, kFirst);
  buffers.Add("folded_bias", valid->folded_bias, valid->out_channels, kRequired, kSecond);
  return buffers.Check();
}

}  // namespace simdnorm
