// Wild calls out of a fuzzer's bytes: a small valid call of any operation, of which some fields of the arguments and options
// are then replaced by anything. For call_fuzzer.cc.
//
// All tensors point into one arena. The call is made while the arena cannot be touched: a call that is refused has not read a
// tensor, has written nothing, and has put its reason into words that fit. A call that does touch the arena has been accepted.
// Where what it covers by simdnorm.h (Footprint) lies within the arena it is made once more, with the arena open; it then has
// to succeed, and to change no byte but those of its outputs.
#ifndef SIMDNORM_TEST_FUZZ_WILD_CALL_H_
#define SIMDNORM_TEST_FUZZ_WILD_CALL_H_

#include <fuzzer/FuzzedDataProvider.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "buffers.h"
#include "fuzz.h"
#include "simdnorm/simdnorm.h"

namespace simdnorm_test {

// Calls visit(fields...) with all fields of a struct.
template <class Visit>
void VisitFields(simdnorm_layer_norm_args& a, const Visit& visit) {
  visit(a.struct_size, a.epsilon, a.x_dtype, a.y_dtype, a.scale_dtype, a.x, a.y, a.rows, a.cols, a.x_row_stride, a.y_row_stride,
        a.scale, a.shift, a.mean, a.rstd, a.scale_offset, a.activation, a.activation_slope, a.residual_dtype, a.bias_dtype,
        a.h_dtype, a.gate_dtype, a.residual_order, a.h_rounding, a.padding, a.quant_scale, a.zero_point, a.residual, a.bias,
        a.h, a.gate, a.residual_row_stride, a.h_row_stride, a.gate_row_stride, a.rows_per_scale, a.scale_row_stride,
        a.quant_scales, a.lengths, a.rows_per_sequence, a.inner, a.x_col_stride, a.x_inner_stride, a.y_col_stride,
        a.y_inner_stride);
}
template <class Visit>
void VisitFields(simdnorm_rms_norm_args& a, const Visit& visit) {
  visit(a.struct_size, a.epsilon, a.x_dtype, a.y_dtype, a.scale_dtype, a.x, a.y, a.rows, a.cols, a.x_row_stride, a.y_row_stride,
        a.scale, a.rstd, a.scale_offset, a.activation, a.activation_slope, a.residual_dtype, a.bias_dtype, a.h_dtype,
        a.gate_dtype, a.residual_order, a.h_rounding, a.padding, a.quant_scale, a.zero_point, a.residual, a.bias, a.h, a.gate,
        a.residual_row_stride, a.h_row_stride, a.gate_row_stride, a.rows_per_scale, a.scale_row_stride, a.quant_scales,
        a.lengths, a.rows_per_sequence, a.inner, a.x_col_stride, a.x_inner_stride, a.y_col_stride, a.y_inner_stride);
}
template <class Visit>
void VisitFields(simdnorm_batch_norm_inference_args& a, const Visit& visit) {
  visit(a.struct_size, a.epsilon, a.x_dtype, a.y_dtype, a.scale_dtype, a.layout, a.x, a.y, a.batch, a.channels, a.spatial,
        a.mean, a.variance, a.scale, a.shift, a.activation, a.activation_slope, a.residual_dtype, a.padding, a.residual,
        a.lengths, a.mask);
}
template <class Visit>
void VisitFields(simdnorm_batch_norm_training_args& a, const Visit& visit) {
  visit(a.struct_size, a.epsilon, a.momentum, a.x_dtype, a.y_dtype, a.scale_dtype, a.layout, a.running_variance_kind, a.x, a.y,
        a.batch, a.channels, a.spatial, a.scale, a.shift, a.mean, a.rstd, a.running_mean, a.running_variance, a.activation,
        a.activation_slope, a.residual_dtype, a.padding, a.residual, a.lengths, a.mask);
}
template <class Visit>
void VisitFields(simdnorm_group_norm_args& a, const Visit& visit) {
  visit(a.struct_size, a.epsilon, a.x_dtype, a.y_dtype, a.scale_dtype, a.layout, a.activation, a.activation_slope,
        a.residual_dtype, a.padding, a.reserved, a.x, a.y, a.batch, a.channels, a.spatial, a.groups, a.scale, a.shift, a.mean,
        a.rstd, a.residual, a.lengths, a.mask);
}
template <class Visit>
void VisitFields(simdnorm_fold_batch_norm_args& a, const Visit& visit) {
  visit(a.struct_size, a.epsilon, a.position, a.transposed, a.reserved, a.mean, a.variance, a.scale, a.shift, a.weight, a.bias,
        a.folded_weight, a.folded_bias, a.out_channels, a.in_channels, a.kernel, a.groups);
}

// --- Memory ---

// The tensors' memory. At the same place in every process, so that a finding is found again.
class Arena {
 public:
  static constexpr size_t kSlots = 16, kSlotBytes = 4096, kBytes = kSlots * kSlotBytes;
  // The last slots hold lengths and masks, which are read before a call is accepted.
  static constexpr size_t kLengthsSlot = 14, kMaskSlot = 15;

  Arena() : before_(kBytes) {
    void* const at = reinterpret_cast<void*>(uintptr_t{1} << 45);
    void* const mapped = mmap(at, kBytes + 2 * kGuard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    Require(mapped != MAP_FAILED, "no memory for the arena");
    begin_ = static_cast<char*>(mapped) + kGuard;
    // Numbers that are finite and positive whatever the dtype; lengths 0, 1, 2, 3 in turn.
    for (size_t i = 0; i < kBytes; ++i) before_[i] = i % 2 == 0 ? static_cast<char>(i * 37 % 61) : '\x3f';
    for (size_t i = 0; i < kSlotBytes / sizeof(int64_t); ++i) {
      const int64_t length = static_cast<int64_t>(i % 4);
      memcpy(&before_[kLengthsSlot * kSlotBytes + i * sizeof(length)], &length, sizeof(length));
    }
    Fill();
  }

  char* begin() const { return begin_; }
  char* slot(size_t i) const { return begin_ + i * kSlotBytes; }
  bool Holds(const void* data, __int128 bytes) const {
    const __int128 begin = static_cast<__int128>(reinterpret_cast<uintptr_t>(data)) - reinterpret_cast<uintptr_t>(begin_);
    return begin >= 0 && bytes >= 0 && begin + bytes <= static_cast<__int128>(kBytes);
  }

  void Open() const { Protect(kBytes, PROT_READ | PROT_WRITE); }
  void Close() const {
    Protect(kBytes, PROT_READ);
    Protect(kLengthsSlot * kSlotBytes, PROT_NONE);
  }

  void Fill() const {
    Open();
    memcpy(begin_, before_.data(), kBytes);
  }

  // Whether every byte is as it was filled but those that are marked.
  bool IsUntouchedBut(const std::vector<bool>& marked) const {
    for (size_t slot = 0; slot < kBytes; slot += kSlotBytes) {
      if (memcmp(begin_ + slot, &before_[slot], kSlotBytes) == 0) continue;
      for (size_t i = slot; i < slot + kSlotBytes; ++i) {
        if (begin_[i] != before_[i] && !marked[i]) return false;
      }
    }
    return true;
  }

 private:
  static constexpr size_t kGuard = size_t{1} << 20;

  void Protect(size_t bytes, int protection) const {
    Require(mprotect(begin_, bytes, protection) == 0, "the arena cannot be protected");
  }

  char* begin_;
  std::vector<char> before_;
};

// Bytes that end where a page does and none follows.
class EndOfPage {
 public:
  EndOfPage() {
    void* const mapped = mmap(nullptr, 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    Require(mapped != MAP_FAILED && mprotect(mapped, kPage, PROT_READ | PROT_WRITE) == 0, "no memory for a page");
    end_ = static_cast<char*>(mapped) + kPage;
  }
  char* Last(size_t bytes) const { return end_ - bytes; }

 private:
  static constexpr size_t kPage = 4096;
  char* end_;
};

// --- Calls that may touch what they must not ---

inline sigjmp_buf touched;
inline void JumpBack(int /*signal*/) { siglongjmp(touched, 1); }

// Whether call() returned. Where it touched memory that is closed it did not.
template <class Call>
bool Returns(const Call& call) {
  struct sigaction jump = {}, before;
  jump.sa_handler = JumpBack;
  jump.sa_flags = SA_NODEFER;
  sigaction(SIGSEGV, &jump, &before);
  const bool returned = sigsetjmp(touched, 0) == 0;
  if (returned) call();
  sigaction(SIGSEGV, &before, nullptr);
  return returned;
}

// A pool for wild calls. Tasks run on this thread, where touching the arena can be caught, and the first one first: it begins
// where the tensors do. A later one of a call with a vast stride could be anywhere in this process.
inline void InOrderPool(void* /*pool*/, int64_t num_tasks, simdnorm_task task, void* task_context) {
  Require(num_tasks >= 2, "parallel_for of fewer than 2 tasks");
  for (int64_t i = 0; i < num_tasks; ++i) task(task_context, i);
}

// The same for calls without options: while this lives, OpenMP has one thread.
class OneThread {
 public:
#ifdef _OPENMP
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  int before_;
#endif
};

// --- What a valid call covers ---

// The bytes that are outputs, and whether all that a call covers lies in the arena. Two outputs that share a byte, or an output
// that shares one with an input whose place it does not take, is a call that should have been refused.
class Footprint {
 public:
  explicit Footprint(const Arena& arena) : arena_(arena), is_output_(Arena::kBytes) {}

  bool is_inside() const { return is_inside_; }
  const std::vector<bool>& outputs() const { return is_output_; }

  // Outputs come first.
  void Output(const void* data, int64_t unit, int64_t count) { OutputRows(data, unit, 1, count, 1, {0, 1, 0}); }
  void Input(const void* data, int64_t unit, int64_t count) { InputRows(data, unit, 1, count, 1, {0, 1, 0}); }

  struct Strides {
    int64_t row, col, inner;
  };

  void OutputRows(const void* data, int64_t unit, int64_t rows, int64_t cols, int64_t inner, const Strides& strides) {
    placed_.push_back({data, unit, Normal(rows, cols, inner, strides)});
    ForEachByte(data, unit, rows, cols, inner, strides, [&](size_t at) {
      Require(!is_output_[at], "a call was accepted whose outputs overlap");
      is_output_[at] = true;
    });
  }

  void InputRows(const void* data, int64_t unit, int64_t rows, int64_t cols, int64_t inner, const Strides& strides) {
    const Placed input = {data, unit, Normal(rows, cols, inner, strides)};
    const bool in_place = std::find(placed_.begin(), placed_.end(), input) != placed_.end();
    ForEachByte(data, unit, rows, cols, inner, strides, [&](size_t at) {
      Require(!is_output_[at] || in_place, "a call was accepted of which an output overlaps an input");
    });
  }

 private:
  // An output that an input can be, element by element.
  struct Placed {
    const void* data;
    int64_t unit;
    Strides strides;
    bool operator==(const Placed& other) const {
      return data == other.data && unit == other.unit && strides.row == other.strides.row && strides.col == other.strides.col &&
             strides.inner == other.strides.inner;
    }
  };

  // Strides that lead nowhere are 0.
  static Strides Normal(int64_t rows, int64_t cols, int64_t inner, const Strides& strides) {
    return {rows > 1 ? strides.row : 0, cols > 1 ? strides.col : 0, inner > 1 ? strides.inner : 0};
  }

  template <class Visit>
  void ForEachByte(const void* data, int64_t unit, int64_t rows, int64_t cols, int64_t inner, const Strides& strides,
                   const Visit& visit) {
    if (data == nullptr) return;
    const auto last = [](int64_t size, int64_t stride) { return static_cast<__int128>(size - 1) * stride; };
    const __int128 extent = (last(rows, strides.row) + last(cols, strides.col) + last(inner, strides.inner) + 1) * unit;
    is_inside_ = is_inside_ && arena_.Holds(data, extent);
    if (!is_inside_) return;
    const size_t begin = static_cast<size_t>(static_cast<const char*>(data) - arena_.begin());
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        for (int64_t i = 0; i < inner; ++i) {
          const int64_t element = r * strides.row + c * strides.col + i * strides.inner;
          for (int64_t byte = 0; byte < unit; ++byte) visit(begin + static_cast<size_t>(element * unit + byte));
        }
      }
    }
  }

  const Arena& arena_;
  bool is_inside_ = true;
  std::vector<bool> is_output_;
  std::vector<Placed> placed_;
};

// For each operation: `Elements`, 0 if there is nothing to do, and `Cover`, for arguments that were accepted. Enums have to be
// what simdnorm.h lists by then, sizes not negative, epsilon finite.
inline void RequireRange(int64_t value, int64_t least, int64_t most, const char* name) {
  if (value < least || value > most) Found(std::string("accepted: ") + name + " " + std::to_string(value));
}
inline void RequireDtypes(std::initializer_list<simdnorm_dtype> dtypes) {
  for (const simdnorm_dtype dtype : dtypes) RequireRange(dtype, SIMDNORM_F32, SIMDNORM_F16, "dtype");
}

template <class Args>
constexpr bool kIsRows = std::is_same_v<Args, simdnorm_layer_norm_args> || std::is_same_v<Args, simdnorm_rms_norm_args>;

template <class Args>
bool IsEmpty(const Args& a) {
  if constexpr (kIsRows<Args>) {
    return a.rows == 0 || a.cols == 0;
  } else if constexpr (std::is_same_v<Args, simdnorm_fold_batch_norm_args>) {
    return a.out_channels == 0 || a.in_channels == 0;
  } else {
    return a.batch == 0 || a.channels == 0 || a.spatial == 0;
  }
}

// Strides of x or y as simdnorm.h says what 0 stands for.
inline Footprint::Strides WithDefaults(Footprint::Strides s, int64_t cols, int64_t inner, bool columns_adjacent) {
  if (s.col == 0 && (s.inner == 0 || inner == 1)) {
    s.col = columns_adjacent ? 1 : inner;
    s.inner = columns_adjacent ? cols : 1;
  }
  if (s.row == 0) s.row = cols * inner;
  return s;
}

template <class Args>
void Cover(const Args& a, Footprint& footprint, std::enable_if_t<kIsRows<Args>>* /*rows*/ = nullptr) {
  RequireDtypes({a.x_dtype, a.scale_dtype, a.residual_dtype, a.bias_dtype, a.h_dtype, a.gate_dtype});
  RequireRange(a.y_dtype, SIMDNORM_F32, SIMDNORM_Q8_0, "y_dtype");
  RequireRange(a.activation, 0, SIMDNORM_GELU_TANH, "activation");
  RequireRange(std::min({a.rows, a.cols, a.inner, a.rows_per_scale}), 0, INT64_MAX, "size");
  const int64_t inner = std::max<int64_t>(a.inner, 1), items = a.rows * inner;
  const Footprint::Strides x = WithDefaults({a.x_row_stride, a.x_col_stride, a.x_inner_stride}, a.cols, inner, false);
  const Footprint::Strides y = WithDefaults({a.y_row_stride, a.y_col_stride, a.y_inner_stride}, a.cols, inner, x.col == 1);
  const auto as_x = [&](int64_t row_stride) { return Footprint::Strides{row_stride != 0 ? row_stride : a.cols, 1, 0}; };
  const int64_t block = UnitElements(a.y_dtype);
  footprint.OutputRows(a.y, UnitBytes(a.y_dtype), a.rows, a.cols / block, inner, {y.row / block, y.col, y.inner});
  footprint.OutputRows(a.h, UnitBytes(a.h_dtype), a.rows, a.cols, 1, as_x(a.h_row_stride));
  if constexpr (std::is_same_v<Args, simdnorm_layer_norm_args>) footprint.Output(a.mean, 4, items);
  footprint.Output(a.rstd, 4, items);
  footprint.Output(a.quant_scales, 4, a.rows);
  footprint.InputRows(a.x, UnitBytes(a.x_dtype), a.rows, a.cols, inner, x);
  footprint.InputRows(a.residual, UnitBytes(a.residual_dtype), a.rows, a.cols, 1, as_x(a.residual_row_stride));
  footprint.InputRows(a.gate, UnitBytes(a.gate_dtype), a.rows, a.cols, 1, as_x(a.gate_row_stride));
  const int64_t scales = a.rows_per_scale != 0 ? a.rows / a.rows_per_scale : 1;
  footprint.InputRows(a.scale, UnitBytes(a.scale_dtype), scales, a.cols, 1, as_x(a.scale_row_stride));
  if constexpr (std::is_same_v<Args, simdnorm_layer_norm_args>) {
    footprint.InputRows(a.shift, UnitBytes(a.scale_dtype), scales, a.cols, 1, as_x(a.scale_row_stride));
  }
  footprint.Input(a.bias, UnitBytes(a.bias_dtype), a.cols);
  if (a.lengths != nullptr) footprint.Input(a.lengths, 8, a.rows / std::max<int64_t>(a.rows_per_sequence, 1));
}

// What batch, group and instance norm have in common; the other outputs are there already.
template <class Args>
void CoverChannels(const Args& a, Footprint& footprint) {
  RequireDtypes({a.x_dtype, a.y_dtype, a.scale_dtype, a.residual_dtype});
  RequireRange(a.layout, SIMDNORM_NCHW, SIMDNORM_NCHW16C, "layout");
  RequireRange(a.activation, 0, SIMDNORM_GELU_TANH, "activation");
  RequireRange(std::min({a.batch, a.channels, a.spatial}), 0, INT64_MAX, "size");
  const int64_t block = a.layout == SIMDNORM_NCHW8C ? 8 : a.layout == SIMDNORM_NCHW16C ? 16 : 1;
  const int64_t elements = a.batch * a.spatial * ((a.channels + block - 1) / block * block);
  footprint.Output(a.y, UnitBytes(a.y_dtype), elements);
  footprint.Input(a.x, UnitBytes(a.x_dtype), elements);
  footprint.Input(a.residual, UnitBytes(a.residual_dtype), elements);
  footprint.Input(a.scale, UnitBytes(a.scale_dtype), a.channels);
  footprint.Input(a.shift, UnitBytes(a.scale_dtype), a.channels);
  footprint.Input(a.lengths, 8, a.batch);
  footprint.Input(a.mask, 1, a.batch * a.spatial);
}

inline void Cover(const simdnorm_batch_norm_inference_args& a, Footprint& footprint) {
  CoverChannels(a, footprint);
  footprint.Input(a.mean, 4, a.channels);
  footprint.Input(a.variance, 4, a.channels);
}

inline void Cover(const simdnorm_batch_norm_training_args& a, Footprint& footprint) {
  for (const float* statistic : {a.mean, a.rstd, a.running_mean, a.running_variance}) {
    footprint.Output(statistic, 4, a.channels);
  }
  CoverChannels(a, footprint);
}

inline void Cover(const simdnorm_group_norm_args& a, Footprint& footprint) {
  const int64_t groups = a.groups != 0 ? a.groups : a.channels;
  RequireRange(groups, 1, a.channels, "groups");
  for (const float* statistic : {a.mean, a.rstd}) footprint.Output(statistic, 4, a.batch * groups);
  CoverChannels(a, footprint);
}

inline void Cover(const simdnorm_fold_batch_norm_args& a, Footprint& footprint) {
  RequireRange(a.position, 0, 1, "position");
  RequireRange(std::min({a.out_channels, a.in_channels, a.kernel, a.groups}), 0, INT64_MAX, "size");
  const int64_t weights = a.out_channels * (a.in_channels / std::max<int64_t>(a.groups, 1)) * std::max<int64_t>(a.kernel, 1);
  const int64_t channels = a.position == SIMDNORM_FOLD_INTO_PRECEDING ? a.out_channels : a.in_channels;
  footprint.Output(a.folded_weight, 4, weights);
  footprint.Output(a.folded_bias, 4, a.out_channels);
  for (const float* parameter : {a.mean, a.variance, a.scale, a.shift}) footprint.Input(parameter, 4, channels);
  footprint.Input(a.weight, 4, weights);
  footprint.Input(a.bias, 4, a.out_channels);
}

template <class Args>
bool HasLengthsOrMask(const Args& a) {
  if constexpr (std::is_same_v<Args, simdnorm_fold_batch_norm_args>) {
    return false;
  } else if constexpr (kIsRows<Args>) {
    return a.lengths != nullptr;
  } else {
    return a.lengths != nullptr || a.mask != nullptr;
  }
}

// --- The calls ---

// Values of fields, of each type those that matter, or any.
class Wild {
 public:
  Wild(FuzzedDataProvider& bytes, const Arena& arena) : bytes_(bytes), arena_(arena) {}

  void operator()(float& value) const {
    value = bytes_.ConsumeBool() ? bytes_.PickValueInArray({0.0f, 1.0f, -1.0f, 1e-5f, std::nanf(""), kInf, -kInf, FLT_MAX})
                                 : FloatOf(bytes_.ConsumeIntegral<uint32_t>());
  }
  void operator()(int32_t& value) const {
    value = bytes_.ConsumeBool() ? bytes_.ConsumeIntegral<int8_t>() % 8
                                 : bytes_.PickValueInArray({-1, 100, 127, 128, 255, 256, INT32_MAX, INT32_MIN});
  }
  void operator()(int64_t& value) const {
    switch (bytes_.ConsumeIntegral<uint8_t>() % 4) {
      case 0:
        value = bytes_.ConsumeIntegral<uint8_t>() % 70;
        break;
      case 1:
        value = static_cast<int64_t>(static_cast<uint64_t>(value) + bytes_.ConsumeIntegral<uint8_t>() % 8 - 4);
        break;
      case 2:
        value = (int64_t{1} << (bytes_.ConsumeIntegral<uint8_t>() % 63)) + bytes_.ConsumeIntegral<int8_t>() % 2;
        break;
      default:
        value = bytes_.PickValueInArray({INT64_MAX, INT64_MIN, int64_t{-1}, INT64_MAX / 4, INT64_MAX / 8 + 1});
    }
  }
  void operator()(size_t& struct_size) const {
    struct_size = bytes_.ConsumeBool() ? bytes_.ConsumeIntegral<uint8_t>() * size_t{4}
                                       : bytes_.PickValueInArray<size_t>({0, 1, 8, 1016, 1024, 1025, 1032, SIZE_MAX});
  }
  template <class T>
  void operator()(T*& pointer) const {
    uintptr_t at = reinterpret_cast<uintptr_t>(pointer);
    switch (bytes_.ConsumeIntegral<uint8_t>() % 6) {
      case 0:
        at = 0;
        break;
      case 1:  // nearby, perhaps not aligned
        at += static_cast<uintptr_t>(static_cast<intptr_t>(bytes_.ConsumeIntegral<int8_t>()));
        break;
      case 2:  // where another tensor is
        at = reinterpret_cast<uintptr_t>(arena_.slot(bytes_.ConsumeIntegral<uint8_t>() % Arena::kSlots));
        break;
      case 3:  // anywhere, with a few of its elements in the next slot
        at = reinterpret_cast<uintptr_t>(arena_.begin()) + bytes_.ConsumeIntegral<uint16_t>() * size_t{4};
        break;
      case 4:  // near the arena's end
        at = reinterpret_cast<uintptr_t>(arena_.begin()) + Arena::kBytes - bytes_.ConsumeIntegral<uint8_t>();
        break;
      default:  // near the end of all memory
        at = UINTPTR_MAX - bytes_.ConsumeIntegral<uint8_t>();
    }
    pointer = reinterpret_cast<T*>(at);
  }

  // A field by number.
  template <class Struct>
  void Replace(Struct& fields) const {
    const uint8_t choice = bytes_.ConsumeIntegral<uint8_t>();
    VisitFields(fields, [&](auto&... field) {
      static_assert(sizeof(Struct) - (sizeof(field) + ...) < 8, "VisitFields lacks a field");  // some structs have a gap
      size_t i = 0;
      ((i++ == choice % sizeof...(field) ? (*this)(field) : void()), ...);
    });
  }

 private:
  FuzzedDataProvider& bytes_;
  const Arena& arena_;
};

// A small valid call: required tensors and some of the optional ones, each in a slot of its own.
template <class Args>
Args SmallCall(FuzzedDataProvider& bytes, const Arena& arena) {
  Args args = {};
  size_t slot = 0;
  VisitFields(args, [&](auto&... field) {
    const auto place = [&](auto& f) {
      if constexpr (std::is_pointer_v<std::remove_reference_t<decltype(f)>>) {
        if (bytes.ConsumeBool()) f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(arena.slot(slot));
        ++slot;
      }
    };
    (place(field), ...);
  });
  args.struct_size = sizeof(args);
  args.epsilon = 1e-5f;
  const auto size = [&](int64_t most) { return int64_t{1} + bytes.ConsumeIntegral<uint8_t>() % most; };
  if constexpr (std::is_same_v<Args, simdnorm_fold_batch_norm_args>) {
    args.groups = size(3);
    args.out_channels = args.groups * size(4);
    args.in_channels = args.groups * size(4);
    args.kernel = size(9);
    args.transposed = bytes.ConsumeBool();
    const float** const required[] = {&args.mean, &args.variance, &args.weight};
    for (size_t i = 0; i < 3; ++i) *required[i] = reinterpret_cast<const float*>(arena.slot(8 + i));
    args.folded_weight = reinterpret_cast<float*>(arena.slot(11));
    args.folded_bias = reinterpret_cast<float*>(arena.slot(12));
    return args;
  } else {
    // Slots that no optional tensor can have.
    args.x = arena.slot(13);
    args.y = bytes.ConsumeIntegral<uint8_t>() % 3 == 0 ? const_cast<void*>(args.x) : arena.slot(1);
    if (args.lengths != nullptr) args.lengths = reinterpret_cast<const int64_t*>(arena.slot(Arena::kLengthsSlot));
    if constexpr (kIsRows<Args>) {
      args.rows = size(5);
      args.cols = size(70);
      args.rows_per_sequence = args.lengths != nullptr ? args.rows : 0;
      if (args.quant_scales != nullptr && args.y != args.x) args.y_dtype = SIMDNORM_I8;
      if (args.y_dtype != SIMDNORM_I8) args.quant_scales = nullptr;
    } else {
      args.batch = size(3);
      args.channels = size(20);
      args.spatial = size(7);
      if (args.mask != nullptr) args.mask = reinterpret_cast<const uint8_t*>(arena.slot(Arena::kMaskSlot));
      if (args.lengths != nullptr) args.mask = nullptr;
      if constexpr (std::is_same_v<Args, simdnorm_group_norm_args>) args.groups = args.channels;
      if constexpr (std::is_same_v<Args, simdnorm_batch_norm_inference_args>) {
        args.mean = reinterpret_cast<const float*>(arena.slot(11));
        args.variance = reinterpret_cast<const float*>(arena.slot(12));
      }
    }
    return args;
  }
}

// A struct in as many bytes as it says that it has, as far as the library may look: what is beyond the known fields is 0, or
// not.
template <class Struct>
const Struct* Placed(const Struct& fields, bool rest_is_set, const EndOfPage& page) {
  constexpr size_t kMostThatIsLookedAt = 1024;
  size_t readable = fields.struct_size > kMostThatIsLookedAt ? 0 : (fields.struct_size + 7) / 8 * 8;
  readable = std::max(readable, sizeof(fields.struct_size));
  char* const at = page.Last(readable);
  memset(at, rest_is_set ? 0x11 : 0, readable);
  memcpy(at, &fields, std::min(readable, sizeof(fields)));
  return reinterpret_cast<const Struct*>(at);
}

// What the library sees of it.
template <class Struct>
Struct Seen(const Struct& fields) {
  Struct seen = {};
  memcpy(&seen, &fields, std::min(fields.struct_size, sizeof(fields)));
  return seen;
}

constexpr size_t kMessageBytes = 256;  // hold every message
constexpr char kMessageCanary = '\x5a';

inline simdnorm_options WildOptions(FuzzedDataProvider& bytes, char* message) {
  simdnorm_options options = {};
  options.struct_size = sizeof(options);
  const uint8_t target = bytes.ConsumeIntegral<uint8_t>();
  static const std::string long_name(300, 'A');
  const char* const odd[] = {nullptr, nullptr, "", "avx2", "AVX", "SVE2", "EMU128 ", long_name.c_str()};
  size_t num_targets = 0;
  while (simdnorm_targets()[num_targets] != nullptr) ++num_targets;
  options.target = target % 16 < 8 ? odd[target % 8] : simdnorm_targets()[target / 16 % num_targets];
  options.max_threads = bytes.PickValueInArray({1, 1, 0, 2, 3, INT32_MAX, -1, INT32_MIN});
  // OpenMP's threads could not be caught touching the arena.
  if (options.max_threads != 1 || bytes.ConsumeBool()) options.parallel_for = InOrderPool;
  options.message = bytes.ConsumeIntegral<uint8_t>() % 8 != 0 ? message : nullptr;
  options.message_capacity = bytes.PickValueInArray<size_t>({kMessageBytes, kMessageBytes, 0, 1, 2, 20, 255, SIZE_MAX});
  if (bytes.ConsumeIntegral<uint8_t>() % 8 == 0) options.struct_size = bytes.ConsumeIntegral<uint8_t>() * size_t{8};
  return options;
}

inline void CheckMessage(const simdnorm_options* options, simdnorm_status status, const char* buffer) {
  const auto is_canary = [](char c) { return c == kMessageCanary; };
  const bool has_place = options != nullptr && options->struct_size >= sizeof(*options) && options->struct_size <= 1024 &&
                         options->message != nullptr && options->message_capacity > 0;
  if (status == SIMDNORM_OK || !has_place) {
    Require(std::all_of(buffer, buffer + kMessageBytes, is_canary), "a message where none should be");
    return;
  }
  const size_t capacity = std::min(options->message_capacity, kMessageBytes), length = strnlen(buffer, capacity);
  Require(length < capacity, "a message without an end");
  Require(length > 0 || capacity == 1, "an empty message");
  Require(std::all_of(buffer + length + 1, buffer + kMessageBytes, is_canary), "a message writes beyond its end");
  // simdnorm.h: 256 bytes hold every message, so that none is cut there.
  Require(length < kMessageBytes - 1, buffer);
}

template <class Args>
void CheckWildCallOf(FuzzedDataProvider& bytes, simdnorm_status (*function)(const Args*, const simdnorm_options*)) {
  static Arena arena;
  static const EndOfPage args_page, options_page, message_page;
  char* const message = message_page.Last(kMessageBytes);

  Args fields = SmallCall<Args>(bytes, arena);
  const simdnorm_options option_fields = WildOptions(bytes, message);
  const uint8_t which = bytes.ConsumeIntegral<uint8_t>();
  const Wild wild(bytes, arena);
  for (int times = bytes.ConsumeIntegral<uint8_t>() % 5; times > 0; --times) wild.Replace(fields);

  const Args* const args = which % 64 == 1 ? nullptr : Placed(fields, (which & 2) != 0, args_page);
  const simdnorm_options* const options = which % 4 == 0 ? nullptr : Placed(option_fields, (which & 4) != 0, options_page);
  simdnorm_status status = -1;
  const auto call = [&] { status = function(args, options); };
  const auto check_status = [&] {
    RequireRange(status, SIMDNORM_OK, SIMDNORM_UNSUPPORTED, "status");
    CheckMessage(options != nullptr ? &option_fields : nullptr, status, message);
  };

  memset(message, kMessageCanary, kMessageBytes);
  arena.Close();
  const bool returned = Returns(call);
  const Args seen = Seen(fields);
  if (returned) {
    check_status();
    Require(status != SIMDNORM_OK || IsEmpty(seen), "a call with something to do did nothing");
    return;
  }

  // Accepted, or its lengths or mask have yet to be read.
  Require(args != nullptr && std::isfinite(seen.epsilon), "accepted: no arguments, or an epsilon that is not finite");
  Footprint footprint(arena);
  Cover(seen, footprint);
  if (!footprint.is_inside()) return;
  arena.Fill();
  memset(message, kMessageCanary, kMessageBytes);
  call();
  check_status();
  Require(status == SIMDNORM_OK || HasLengthsOrMask(seen), "a call that was refused read its tensors");
  const std::vector<bool> nothing(Arena::kBytes);
  Require(arena.IsUntouchedBut(status == SIMDNORM_OK ? footprint.outputs() : nothing), "a call wrote outside of its outputs");
}

inline void CheckWildCall(FuzzedDataProvider& bytes) {
  [[maybe_unused]] OneThread one_thread;
  switch (bytes.ConsumeIntegral<uint8_t>() % 7) {
    case 0:
      return CheckWildCallOf(bytes, simdnorm_layer_norm);
    case 1:
      return CheckWildCallOf(bytes, simdnorm_rms_norm);
    case 2:
      return CheckWildCallOf(bytes, simdnorm_batch_norm_inference);
    case 3:
      return CheckWildCallOf(bytes, simdnorm_batch_norm_training);
    case 4:
      return CheckWildCallOf(bytes, simdnorm_group_norm);
    case 5:
      return CheckWildCallOf(bytes, simdnorm_instance_norm);
    default:
      return CheckWildCallOf(bytes, simdnorm_fold_batch_norm);
  }
}

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_FUZZ_WILD_CALL_H_
