// The calls whose bits are digested. They are the same on every machine: inputs are made of integers, as the bits of numbers,
// so that no compiler, libm or rounding mode has a part in them; and nothing depends on the machine or on an earlier run. What
// changes here changes digests, and then test/digests.txt is to be written anew.
//
// Groups of calls differ in one thing, which they are named after. Everything else about a call (which optional arguments are
// given, dtypes of the other tensors, addresses) changes from call to call.
#include "digest.h"

#include <string.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace digest {
namespace {

// --- Numbers ---

// SplitMix64 (Steele, Lea & Flood 2014).
uint64_t Mix(uint64_t v) {
  v += 0x9E3779B97F4A7C15u;
  v = (v ^ (v >> 30)) * 0xBF58476D1CE4E5B9u;
  v = (v ^ (v >> 27)) * 0x94D049BB133111EBu;
  return v ^ (v >> 31);
}

// Choices out of a number.
class Choices {
 public:
  explicit Choices(uint64_t seed) : state_(seed) {}
  int64_t Below(int64_t count) { return static_cast<int64_t>((state_ = Mix(state_)) % static_cast<uint64_t>(count)); }
  bool OneIn(int64_t count) { return Below(count) == 0; }
  simdnorm_dtype Float() { return static_cast<simdnorm_dtype>(Below(3)); }

 private:
  uint64_t state_;
};

// The bits in f32 of n * 2^exponent, for |n| < 2^24 and a product that f32 holds.
uint32_t F32Bits(int32_t n, int exponent) {
  if (n == 0) return 0;
  const uint32_t sign = n < 0 ? 0x80000000u : 0, magnitude = static_cast<uint32_t>(n < 0 ? -n : n);
  const int top = 31 - __builtin_clz(magnitude), biased = top + exponent + 127;
  if (biased <= 0) return sign | magnitude << (exponent + 149);
  return sign | static_cast<uint32_t>(biased) << 23 | (magnitude << (23 - top) & 0x7FFFFF);
}

// An f32 in f16, cut off: the next number towards zero, the largest for what is beyond.
uint16_t F16Bits(uint32_t f32) {
  const uint32_t sign = f32 >> 16 & 0x8000, magnitude = f32 & 0x7FFFFFFF, fraction = f32 & 0x7FFFFF;
  const int exponent = static_cast<int>(magnitude >> 23) - 112;
  uint32_t bits = 0;
  if (magnitude > 0x7F800000) {
    bits = 0x7E00;
  } else if (magnitude == 0x7F800000) {
    bits = 0x7C00;
  } else if (exponent >= 31) {
    bits = 0x7BFF;
  } else if (exponent > 0) {
    bits = static_cast<uint32_t>(exponent) << 10 | fraction >> 13;
  } else if (exponent >= -9) {
    bits = (fraction | 0x800000) >> (14 - exponent);
  }
  return static_cast<uint16_t>(sign | bits);
}

// What x holds. An item is what has statistics of its own.
enum class Data {
  kNormal,       // standard deviation 1
  kMillion,      // mean / std about 1e6
  kOutlier,      // the first value of an item a million times the others
  kConstant,     // the same all over an item
  kHuge,         // about 1e30: squares overflow
  kTiny,         // about 1e-20: squares underflow
  kSubnormal,    // of f32
  kLargest,      // the largest and the least number in turn
  kAnyExponent,  // of the dtype, subnormals too
  kNonFinite,    // NaN or Inf in three of five items
};

// The bits in f32 of value j of `count` of an item.
struct Values {
  Data data;
  uint64_t seed;
  simdnorm_dtype dtype;  // that they are for
  int64_t count;

  uint32_t operator()(int64_t item, int64_t j) const {
    const int64_t same_or_j = data == Data::kConstant ? 0 : j;
    const uint64_t random = Mix(Mix(seed + static_cast<uint64_t>(item)) + static_cast<uint64_t>(same_or_j));
    // Nearly normal: the sum of three uniform numbers, with standard deviation 2^20.
    constexpr uint64_t kMask = (1 << 21) - 1;
    const int32_t n = static_cast<int32_t>((random & kMask) + (random >> 21 & kMask) + (random >> 42 & kMask)) - 3 * (1 << 20);
    const uint32_t normal = F32Bits(n, -20);
    switch (data) {
      case Data::kNormal:
        return normal;
      case Data::kMillion:
        return F32Bits(16000000 + n / (1 << 16), -4);
      case Data::kOutlier:
        return j == 0 ? F32Bits(n, 0) : normal;
      case Data::kConstant: {
        constexpr int kExponents[] = {-20, 0, 80, -86, -149, 104};
        return F32Bits(n, kExponents[item % 6]);
      }
      case Data::kHuge:
        return F32Bits(n, 80);
      case Data::kTiny:
        return F32Bits(n, -86);
      case Data::kSubnormal:
        return F32Bits(n, -149);
      case Data::kLargest:
        return j % 2 == 0 ? 0x7F7FFFFF : 0xFF7FFFFF;
      case Data::kAnyExponent: {
        const bool f16 = dtype == SIMDNORM_F16;
        const uint32_t exponent = static_cast<uint32_t>(random >> 32) % (f16 ? 40 : 255) + (f16 ? 103 : 0);
        return (static_cast<uint32_t>(random) & 0x807FFFFF) | exponent << 23;
      }
      case Data::kNonFinite: {
        constexpr uint32_t kBits[] = {0, 0xFFC12345, 0x7F800000, 0, 0xFF800000};
        return item % 5 % 3 != 0 && j == item * 7 % count ? kBits[item % 5] : normal;
      }
    }
    return 0;
  }
};

// How many of `limit` count in sequence or sample i: none, all, or any number.
int64_t Length(int64_t i, int64_t limit) {
  if (i < 2) return i * limit;
  return static_cast<int64_t>(Mix(static_cast<uint64_t>(i)) % static_cast<uint64_t>(limit + 1));
}

// --- Tensors ---

constexpr simdnorm_dtype kFloats[] = {SIMDNORM_F32, SIMDNORM_BF16, SIMDNORM_F16};
constexpr const char* kFloatNames[] = {"f32", "bf16", "f16"};

size_t Bytes(simdnorm_dtype dtype, int64_t elements) {
  constexpr size_t kSizes[] = {4, 2, 2, 1, 1};
  const size_t count = static_cast<size_t>(elements);
  return dtype == SIMDNORM_Q8_0 ? count / 32 * sizeof(simdnorm_q8_0) : count * kSizes[dtype];
}

struct Tensor {
  unsigned char* data;
  simdnorm_dtype dtype;
  int64_t elements;

  // Of a floating-point dtype.
  void Set(int64_t at, uint32_t f32) const {
    const uint16_t half = dtype == SIMDNORM_F16 ? F16Bits(f32) : static_cast<uint16_t>(f32 >> 16);
    memcpy(data + Bytes(dtype, at), dtype == SIMDNORM_F32 ? static_cast<const void*>(&f32) : &half, Bytes(dtype, 1));
  }
};

// The memory of a call. Tensors begin at any address that suits their dtype.
class Memory {
 public:
  // `seed` is another for each call.
  explicit Memory(uint64_t seed) : seed_(seed) {}

  // Where inputs have gaps and where outputs are left as they were, this is what they hold.
  Tensor Make(simdnorm_dtype dtype, int64_t elements) {
    const size_t offset = (seed_ + 5 * buffers_.size()) % 16 * Bytes(dtype, dtype == SIMDNORM_Q8_0 ? 32 : 1);
    buffers_.emplace_back((offset + Bytes(dtype, elements)) / sizeof(uint64_t) + 1, 0x3B3B3B3B3B3B3B3Bu);
    return {reinterpret_cast<unsigned char*>(buffers_.back().data()) + offset, dtype, elements};
  }

  // For the tensor that is made next.
  Values ValuesFor(Data data, simdnorm_dtype dtype, int64_t count) const {
    return {data, Mix(seed_ << 8 | buffers_.size()), dtype, count};
  }

  // One value for each column or channel.
  Tensor MakeParameters(simdnorm_dtype dtype, int64_t elements, Data data = Data::kNormal) {
    const Values values = ValuesFor(data, dtype, 1);
    const Tensor tensor = Make(dtype, elements);
    for (int64_t i = 0; i < elements; ++i) tensor.Set(i, values(i, 0));
    return tensor;
  }

  // Marks what the call is to write.
  Tensor Output(const Tensor& tensor) {
    outputs_.push_back(tensor);
    return tensor;
  }
  float* MakeStatistic(int64_t count) { return Floats(Output(Make(SIMDNORM_F32, count))); }

  static float* Floats(const Tensor& tensor) { return reinterpret_cast<float*>(tensor.data); }

  void VisitOutputs(const Visit& visit) const {
    for (const Tensor& output : outputs_) visit(output.data, Bytes(output.dtype, output.elements));
  }

 private:
  const uint64_t seed_;
  std::vector<std::vector<uint64_t>> buffers_;
  std::vector<Tensor> outputs_;
};

// How a group's calls are run.
struct Runner {
  simdnorm_options options;
  const Visit& visit;
  uint64_t calls = 0;  // so far

  template <class Args>
  void Run(const Memory& memory, simdnorm_status (*entry)(const Args*, const simdnorm_options*), const Args& args) {
    char message[256] = "";
    options.message = message;
    options.message_capacity = sizeof(message);
    if (entry(&args, &options) != SIMDNORM_OK) throw std::runtime_error(message);
    memory.VisitOutputs(visit);
    ++calls;
  }
};

// Adds a group of `times` calls of each shape: make(shape, i) is call i as it would be in any group, vary(&call, i) makes it
// one of this group.
template <class Shape, class Make, class Vary>
void AddGroup(std::vector<Group>* groups, const std::string& prefix, const std::string& what, const std::vector<Shape>& shapes,
              int64_t times, const Make& make, const Vary& vary) {
  groups->push_back({prefix + what, what.rfind("large-", 0) == 0,
                     [shapes, times, make, vary](const simdnorm_options& options, const Visit& visit) {
                       Runner runner = {options, visit};
                       for (int64_t time = 0; time < times; ++time) {
                         for (size_t shape = 0; shape < shapes.size(); ++shape) {
                           const int64_t i = time + static_cast<int64_t>(shape);
                           auto call = make(shapes[shape], i);
                           vary(&call, i);
                           Run(call, &runner);
                         }
                       }
                     }});
}

template <class Args>
Args Defaults() {
  Args args = {};
  args.struct_size = sizeof(args);
  args.epsilon = 1e-5f;
  return args;
}

// Adds one of each kind of what makes statistics hard to the calls of a group, one after the other.
constexpr Data kCancellation[] = {Data::kMillion, Data::kOutlier, Data::kConstant};
constexpr Data kRange[] = {Data::kHuge, Data::kTiny, Data::kSubnormal, Data::kLargest, Data::kAnyExponent};
constexpr float kEpsilons[] = {1e-5f, 1e-12f, 0.0f};

template <class Args>
void SetActivation(int64_t activation, Args* args) {
  args->activation = static_cast<simdnorm_activation>(activation);
  args->activation_slope = args->activation == SIMDNORM_LEAKY_RELU ? 0.3f : 0;
}
constexpr int64_t kNumActivations = SIMDNORM_GELU_TANH;  // the first is none at all

// --- Layer norm and RMS norm ---

using LayerNorm = simdnorm_layer_norm_args;
using RMSNorm = simdnorm_rms_norm_args;
template <class Args>
constexpr bool kIsLayerNorm = std::is_same_v<Args, LayerNorm>;

struct RowShape {
  int64_t rows, cols, inner = 1;
};

// How rows with inner positions lie in memory.
enum class View {
  kChannelsFirst,  // [rows, cols, inner]
  kHeads,          // [rows, inner, cols]
  kHeadsFirst,     // [inner, rows, cols]
};

struct Strides {
  int64_t row, col, inner;
};
Strides StridesOf(const RowShape& shape, View view, int64_t gap) {
  if (shape.inner == 1) return {shape.cols + gap, 1, 1};
  if (view == View::kHeads) return {shape.inner * (shape.cols + gap) + gap, 1, shape.cols + gap};
  if (view == View::kHeadsFirst) return {shape.cols + gap, 1, shape.rows * (shape.cols + gap) + gap};
  return {shape.cols * (shape.inner + gap) + gap, shape.inner + gap, 1};
}
int64_t Extent(const RowShape& shape, const Strides& strides) {
  return (shape.rows - 1) * strides.row + (shape.cols - 1) * strides.col + (shape.inner - 1) * strides.inner + 1;
}

// The arguments less what lies in memory, and which of that is given. With rows_per_sequence there are lengths.
template <class Args>
struct RowCall {
  Args args = Defaults<Args>();
  Data data = Data::kNormal;
  bool scale = true, shift = true, mean = true, rstd = true;
  bool residual = false, bias = false, h = false, gate = false;
  bool in_place = false;  // if y's dtype has the size of x's
  int64_t gap = 0;        // between rows
  View x_view = View::kChannelsFirst, y_view = View::kChannelsFirst;
};

template <class Args>
void Run(const RowCall<Args>& call, Runner* runner) {
  Args args = call.args;
  Memory memory(runner->calls);
  const RowShape shape = {args.rows, args.cols, std::max<int64_t>(args.inner, 1)};
  const auto fill = [&](simdnorm_dtype dtype, const Strides& strides, Data data) {
    const Values values = memory.ValuesFor(data, dtype, shape.cols);
    const Tensor tensor = memory.Make(dtype, Extent(shape, strides));
    for (int64_t item = 0; item < shape.rows * shape.inner; ++item) {
      const int64_t begin = item / shape.inner * strides.row + item % shape.inner * strides.inner;
      for (int64_t j = 0; j < shape.cols; ++j) tensor.Set(begin + j * strides.col, values(item, j));
    }
    return tensor;
  };

  const Strides x_strides = StridesOf(shape, call.x_view, call.gap);
  const Tensor x = fill(args.x_dtype, x_strides, call.data);
  const bool in_place = call.in_place && args.y_dtype < SIMDNORM_I8 && Bytes(args.y_dtype, 1) == Bytes(args.x_dtype, 1);
  const Strides y_strides =
      in_place ? x_strides : StridesOf(shape, call.y_view, args.y_dtype == SIMDNORM_Q8_0 ? 32 * call.gap : 2 * call.gap);
  const Tensor y = memory.Output(in_place ? x : memory.Make(args.y_dtype, Extent(shape, y_strides)));
  args.x = x.data;
  args.y = y.data;
  args.x_row_stride = x_strides.row;
  args.y_row_stride = y_strides.row;
  if (shape.inner > 1) {
    args.x_col_stride = x_strides.col, args.x_inner_stride = x_strides.inner;
    args.y_col_stride = y_strides.col, args.y_inner_stride = y_strides.inner;
  }

  const Strides residual_strides = StridesOf(shape, View(), 3 * call.gap), h_strides = StridesOf(shape, View(), 4 * call.gap);
  const Strides gate_strides = StridesOf(shape, View(), 5 * call.gap);
  if (call.residual) {
    args.residual = fill(args.residual_dtype, residual_strides, Data::kNormal).data;
    args.residual_row_stride = residual_strides.row;
  }
  if (call.h) {
    args.h = memory.Output(memory.Make(args.h_dtype, Extent(shape, h_strides))).data;
    args.h_row_stride = h_strides.row;
  }
  if (call.gate) {
    args.gate = fill(args.gate_dtype, gate_strides, Data::kNormal).data;
    args.gate_row_stride = gate_strides.row;
  }
  if (call.bias) args.bias = memory.MakeParameters(args.bias_dtype, shape.cols).data;

  int64_t parameters = shape.cols;
  if (args.rows_per_scale != 0) {
    args.scale_row_stride = shape.cols + call.gap;
    parameters += (shape.rows / args.rows_per_scale - 1) * args.scale_row_stride;
  }
  if (call.scale) args.scale = memory.MakeParameters(args.scale_dtype, parameters).data;
  const int64_t items = shape.rows * shape.inner;
  if constexpr (kIsLayerNorm<Args>) {
    if (call.shift) args.shift = memory.MakeParameters(args.scale_dtype, parameters).data;
    if (call.mean) args.mean = memory.MakeStatistic(items);
  }
  if (call.rstd) args.rstd = memory.MakeStatistic(items);
  if (args.y_dtype == SIMDNORM_I8 && args.quant_scale == 0) args.quant_scales = memory.MakeStatistic(shape.rows);
  std::vector<int64_t> lengths;
  if (args.rows_per_sequence != 0) {
    for (int64_t i = 0; i < shape.rows / args.rows_per_sequence; ++i) lengths.push_back(Length(i, args.rows_per_sequence));
    args.lengths = lengths.data();
  }
  if constexpr (kIsLayerNorm<Args>) {
    runner->Run(memory, simdnorm_layer_norm, args);
  } else {
    runner->Run(memory, simdnorm_rms_norm, args);
  }
}

// Anything that goes with anything.
template <class Args>
void Mingle(Choices choices, RowCall<Args>* call) {
  Args& args = call->args;
  args.y_dtype = choices.Float();
  args.scale_dtype = choices.Float();
  call->scale = !choices.OneIn(4);
  call->shift = choices.OneIn(2);
  call->mean = choices.OneIn(2);
  call->rstd = choices.OneIn(2);
  call->gap = choices.OneIn(2) ? 3 : 0;
  call->in_place = choices.OneIn(3);
  if (call->scale && choices.OneIn(2)) args.scale_offset = 1;
  if (call->scale && choices.OneIn(3)) args.rows_per_scale = args.rows % 2 == 0 ? args.rows / 2 : 1;
  SetActivation(choices.Below(2 * kNumActivations) % (kNumActivations + 1), &args);
  if (args.inner > 1) return;
  call->residual = !choices.OneIn(3);
  call->bias = choices.OneIn(3);
  call->h = choices.OneIn(2);
  call->gate = choices.OneIn(3);
  args.residual_dtype = choices.Float();
  args.bias_dtype = choices.Float();
  args.h_dtype = choices.Float();
  args.gate_dtype = choices.Float();
  if (call->residual && choices.OneIn(2)) args.residual_order = SIMDNORM_RESIDUAL_AFTER;
  if ((call->h || call->residual || call->bias) && choices.OneIn(2)) args.h_rounding = SIMDNORM_H_ROUNDED;
  if (args.rows % 5 == 0 && choices.OneIn(2)) {
    args.rows_per_sequence = 5;
    args.padding = static_cast<simdnorm_padding>(choices.Below(2));
  }
  if (choices.OneIn(3)) {
    args.y_dtype = static_cast<simdnorm_dtype>(SIMDNORM_I8 + choices.Below(args.cols % 32 == 0 ? 3 : 2));
    if (args.y_dtype == SIMDNORM_U8 || (args.y_dtype == SIMDNORM_I8 && choices.OneIn(2))) {
      args.quant_scale = 0.1f;
      args.zero_point = static_cast<int32_t>(choices.Below(100));
    }
  }
}

// Every length up to 41, and those around what kernels go by: vectors, strips, blocks, parts of a staged row.
std::vector<RowShape> Tails() {
  constexpr int64_t kRows[] = {1, 3, 16, 17, 21, 2};
  std::vector<RowShape> shapes;
  for (int64_t cols = 1; cols <= 41; ++cols) shapes.push_back({kRows[cols % 6], cols});
  for (const int64_t border : {48, 64, 96, 128, 192, 256, 384, 512, 768, 1024}) {
    for (const int64_t cols : {border - 1, border, border + 1}) shapes.push_back({kRows[cols % 2], cols});
  }
  return shapes;
}

const std::vector<RowShape> kChunkRows = {{2, 4095}, {1, 4096}, {3, 4097}, {2, 8191}, {1, 8192}, {2, 8193}, {1, 12293}};
const std::vector<RowShape> kDataRows = {{5, 1}, {6, 2}, {6, 5}, {17, 16}, {6, 33}, {18, 100}, {6, 768}, {3, 4099}};
const std::vector<RowShape> kFusedRows = {{15, 1},  {3, 7},   {5, 16},  {16, 31}, {10, 33}, {20, 64},  {3, 100},
                                          {2, 127}, {1, 129}, {2, 257}, {5, 515}, {2, 768}, {3, 1025}, {2, 4097}};
const std::vector<RowShape> kBlockRows = {{5, 32}, {17, 64}, {3, 96}, {2, 512}, {4, 544}, {1, 1024}, {2, 4128}};
const std::vector<RowShape> kViewRows = {{3, 1, 2},   {1, 5, 15},  {2, 16, 16}, {3, 33, 17},
                                         {2, 30, 40}, {2, 100, 9}, {1, 300, 33}};
// As many tasks as eight threads take. The last two are shared by chunks, of which the first has more than are merged one by
// one.
const std::vector<RowShape> kLargeRows = {{300, 500}, {2100, 63}, {40, 4000}, {1, 300007}, {2, 100003}};
const std::vector<RowShape> kLargeFusedRows = {{300, 500}, {1, 140000}, {300, 512}};
const std::vector<RowShape> kLargeViews = {{4, 64, 600}, {150, 128, 8}};

// The groups of one operation and dtype of x.
template <class Args>
struct RowGroups {
  std::vector<Group>* groups;
  simdnorm_dtype x_dtype;

  template <class Vary>
  void Add(const std::string& what, const std::vector<RowShape>& shapes, int64_t times, const Vary& vary) const {
    const simdnorm_dtype dtype = x_dtype;
    const auto make = [dtype](const RowShape& shape, int64_t i) {
      RowCall<Args> call;
      call.args.x_dtype = call.args.y_dtype = dtype;
      call.args.rows = shape.rows, call.args.cols = shape.cols;
      if (shape.inner > 1) call.args.inner = shape.inner;
      call.scale = i % 4 != 1;
      call.shift = i % 3 != 1;
      call.mean = i % 2 == 0;
      call.rstd = i % 5 != 2;
      return call;
    };
    const std::string op = kIsLayerNorm<Args> ? "layer-norm/" : "rms-norm/";
    AddGroup(groups, op + kFloatNames[dtype] + "/", what, shapes, times, make, vary);
  }

  void AddPlain() const {
    using Call = RowCall<Args>;
    const auto as_it_is = [](Call*, int64_t) {};
    Add("tails", Tails(), 1, as_it_is);
    Add("chunks", kChunkRows, 1, as_it_is);
    for (const simdnorm_dtype y_dtype : kFloats) {
      Add(std::string("to-") + kFloatNames[y_dtype], kFusedRows, 3, [y_dtype](Call* call, int64_t i) {
        call->args.y_dtype = y_dtype;
        call->args.scale_dtype = kFloats[i % 3];
      });
    }
    Add("strides", kFusedRows, 1, [](Call* call, int64_t i) { call->gap = 1 + i % 3; });
    Add("in-place", kFusedRows, 1, [](Call* call, int64_t i) { call->in_place = true, call->gap = i % 2; });
    Add("cancellation", kDataRows, 3, [](Call* call, int64_t i) { call->data = kCancellation[i % 3]; });
    Add("double", kDataRows, 15, [](Call* call, int64_t i) {
      call->data = kRange[i % 5];
      call->args.epsilon = kEpsilons[i % 3];
    });
    Add("non-finite", kDataRows, 3, [](Call* call, int64_t i) {
      call->data = Data::kNonFinite;
      call->args.y_dtype = kFloats[i % 3];
    });
    Add("negative-epsilon", kDataRows, 2, [](Call* call, int64_t i) { call->args.epsilon = i % 2 == 0 ? -1e-3f : -100.0f; });
  }

  void AddFused() const {
    using Call = RowCall<Args>;
    const auto residual = [](simdnorm_residual_order order) {
      return [order](Call* call, int64_t i) {
        call->residual = true;
        call->args.residual_dtype = kFloats[i % 3];
        call->args.residual_order = order;
      };
    };
    Add("residual-before", kFusedRows, 3, residual(SIMDNORM_RESIDUAL_BEFORE));
    Add("residual-after", kFusedRows, 3, residual(SIMDNORM_RESIDUAL_AFTER));
    Add("bias", kFusedRows, 3, [](Call* call, int64_t i) { call->bias = true, call->args.bias_dtype = kFloats[i % 3]; });
    const auto h = [](simdnorm_h_rounding rounding) {
      return [rounding](Call* call, int64_t i) {
        call->h = i % 4 != 1;
        call->residual = true;
        call->args.residual_dtype = kFloats[i % 2];
        call->args.h_dtype = kFloats[i % 3];
        call->args.h_rounding = rounding;
      };
    };
    Add("h-unrounded", kFusedRows, 3, h(SIMDNORM_H_UNROUNDED));
    Add("h-rounded", kFusedRows, 3, h(SIMDNORM_H_ROUNDED));
    constexpr const char* kActivations[] = {"relu", "leaky-relu", "silu", "gelu", "gelu-tanh"};
    for (int64_t activation = 1; activation <= kNumActivations; ++activation) {
      Add(kActivations[activation - 1], kFusedRows, 1,
          [activation](Call* call, int64_t) { SetActivation(activation, &call->args); });
    }
    Add("gate", kFusedRows, 3, [](Call* call, int64_t i) { call->gate = true, call->args.gate_dtype = kFloats[i % 3]; });
    Add("scale-offset", kFusedRows, 3, [](Call* call, int64_t i) {
      call->scale = true;
      call->args.scale_offset = i % 2 == 0 ? 1 : 0.3f;
      call->args.scale_dtype = kFloats[i % 3];
    });
    Add("rows-per-scale", kFusedRows, 2, [](Call* call, int64_t i) {
      call->scale = true;
      call->args.rows_per_scale = call->args.rows % 2 == 0 ? call->args.rows / 2 : 1;
      call->gap = i % 2;
    });
    const auto lengths = [](simdnorm_padding padding) {
      return [padding](Call* call, int64_t i) {
        call->args.rows = 20;
        call->args.rows_per_sequence = 5;
        call->args.padding = padding;
        call->residual = call->h = i % 2 == 0;
      };
    };
    Add("lengths-zero", kFusedRows, 1, lengths(SIMDNORM_PADDING_ZERO));
    Add("lengths-untouched", kFusedRows, 1, lengths(SIMDNORM_PADDING_UNTOUCHED));
    const auto quantized = [](simdnorm_dtype y_dtype, bool one_factor) {
      return [y_dtype, one_factor](Call* call, int64_t i) {
        call->args.y_dtype = y_dtype;
        if (i % 4 == 3) call->data = Data::kNonFinite;
        if (!one_factor) return;
        call->args.quant_scale = i % 2 == 0 ? 0.015625f : 0.1f;
        call->args.zero_point = i % 3 == 0 ? 0 : 77;
      };
    };
    Add("i8", kFusedRows, 2, quantized(SIMDNORM_I8, true));
    Add("u8", kFusedRows, 2, quantized(SIMDNORM_U8, true));
    Add("i8-rows", kFusedRows, 2, quantized(SIMDNORM_I8, false));
    Add("q8_0", kBlockRows, 2, quantized(SIMDNORM_Q8_0, false));
    const auto mingle = [](Call* call, int64_t i) { Mingle(Choices(static_cast<uint64_t>(i)), call); };
    Add("mixed", kFusedRows, 12, mingle);
    Add("mixed-blocks", kBlockRows, 12, mingle);
  }

  void AddViews() const {
    using Call = RowCall<Args>;
    const auto view = [](View x_view, View y_view) {
      return [x_view, y_view](Call* call, int64_t i) {
        if (i % 3 == 2) call->data = Data::kNonFinite;
        Mingle(Choices(static_cast<uint64_t>(i)), call);
        call->x_view = x_view, call->y_view = y_view;
      };
    };
    Add("channels-first", kViewRows, 6, view(View::kChannelsFirst, View::kChannelsFirst));
    Add("heads", kViewRows, 6, view(View::kHeads, View::kHeads));
    Add("heads-to-heads-first", kViewRows, 6, view(View::kHeads, View::kHeadsFirst));
    if (x_dtype != SIMDNORM_F32) return;
    Add("large-channels-first", kLargeViews, 1, view(View::kChannelsFirst, View::kChannelsFirst));
    Add("large-heads", kLargeViews, 1, view(View::kHeads, View::kHeadsFirst));
  }

  void AddLarge() const {
    using Call = RowCall<Args>;
    Add("large-mixed", kLargeFusedRows, 2, [](Call* call, int64_t i) { Mingle(Choices(static_cast<uint64_t>(i)), call); });
    if (x_dtype != SIMDNORM_F32) return;  // who shares the work how does not depend on it
    Add("large-rows", kLargeRows, 1, [](Call*, int64_t) {});
    Add("large-double", kLargeFusedRows, 1, [](Call* call, int64_t i) {
      call->data = i % 2 == 0 ? Data::kHuge : Data::kTiny;
      call->args.epsilon = 0;
    });
    Add("large-residual", kLargeFusedRows, 1, [](Call* call, int64_t i) {
      call->residual = true;
      call->h = i % 2 == 0;
      call->args.residual_order = i % 2 == 0 ? SIMDNORM_RESIDUAL_BEFORE : SIMDNORM_RESIDUAL_AFTER;
    });
    Add("large-i8-rows", kLargeFusedRows, 1, [](Call* call, int64_t) { call->args.y_dtype = SIMDNORM_I8; });
    Add("large-q8_0", {{1, 140000}, {300, 512}}, 1, [](Call* call, int64_t) { call->args.y_dtype = SIMDNORM_Q8_0; });
  }
};

// --- Batch norm, group norm, instance norm ---

using Inference = simdnorm_batch_norm_inference_args;
using Training = simdnorm_batch_norm_training_args;
using GroupNorm = simdnorm_group_norm_args;
template <class Args>
constexpr bool kIsGroupNorm = std::is_same_v<Args, GroupNorm>;

struct ChannelShape {
  int64_t batch, channels, spatial;
};

// A number of groups that divides the channels: of two or more channels, if there is one.
int64_t GroupsOf(int64_t channels) {
  for (const int64_t size : {4, 3, 2, 5, 7}) {
    if (channels % size == 0) return channels / size;
  }
  return 1;
}

template <class Args>
struct ChannelCall {
  Args args = Defaults<Args>();
  bool instance = false;  // of group norm
  Data data = Data::kNormal;
  bool scale = true, shift = true, mean = true, rstd = true, running = true, unbiased = true;
  bool residual = false, lengths = false, mask = false;
  bool in_place = false;  // if y's dtype has the size of x's
};

template <class Args>
void Run(const ChannelCall<Args>& call, Runner* runner) {
  Args args = call.args;
  Memory memory(runner->calls);
  const int64_t batch = args.batch, channels = args.channels, spatial = args.spatial;
  int64_t groups = channels;
  if constexpr (kIsGroupNorm<Args>) groups = args.groups = call.instance ? channels : GroupsOf(channels);

  // In every layout memory is [batch, ceil(channels / block), spatial, block].
  const int64_t all_blocks[] = {1, channels, 8, 16}, block = all_blocks[args.layout], blocks = (channels + block - 1) / block;
  const int64_t channels_per_group = channels / groups;
  const auto fill = [&](simdnorm_dtype dtype, Data data) {
    const Values values = memory.ValuesFor(data, dtype, (kIsGroupNorm<Args> ? channels_per_group : batch) * spatial);
    const Tensor tensor = memory.Make(dtype, batch * blocks * spatial * block);
    for (int64_t n = 0; n < batch; ++n) {
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t item = kIsGroupNorm<Args> ? n * groups + c / channels_per_group : c;
        const int64_t j = (kIsGroupNorm<Args> ? c % channels_per_group : n) * spatial;
        const int64_t begin = (n * blocks + c / block) * spatial * block + c % block;
        for (int64_t s = 0; s < spatial; ++s) tensor.Set(begin + s * block, values(item, j + s));
      }
    }
    return tensor;
  };

  const Tensor x = fill(args.x_dtype, call.data);
  const bool in_place = call.in_place && Bytes(args.y_dtype, 1) == Bytes(args.x_dtype, 1);
  args.x = x.data;
  args.y = memory.Output(in_place ? x : memory.Make(args.y_dtype, x.elements)).data;
  if (call.residual) args.residual = fill(args.residual_dtype, Data::kNormal).data;
  if (call.scale) args.scale = memory.MakeParameters(args.scale_dtype, channels).data;
  if (call.shift) args.shift = memory.MakeParameters(args.scale_dtype, channels).data;

  std::vector<int64_t> lengths;
  std::vector<uint8_t> mask;
  int64_t count = batch * spatial;  // of positions that count
  if (call.lengths) {
    for (int64_t n = 0; n < batch; ++n) lengths.push_back(Length(n + 1, spatial));
    args.lengths = lengths.data();
    count = 0;
    for (const int64_t length : lengths) count += length;
  } else if (call.mask) {
    for (int64_t i = 0; i < count; ++i) mask.push_back(Mix(static_cast<uint64_t>(i / 3)) % 4 != 0);
    args.mask = mask.data();
    count = std::count(mask.begin(), mask.end(), 1);
  }

  const auto positive = [&](Data data) {
    const Tensor tensor = memory.MakeParameters(SIMDNORM_F32, channels, data);
    for (int64_t c = 0; c < channels; ++c) tensor.data[4 * c + 3] &= 0x7F;
    return tensor;
  };
  if constexpr (std::is_same_v<Args, Inference>) {
    const bool in_range = call.data == Data::kNormal || call.data == Data::kMillion || call.data == Data::kNonFinite;
    args.mean = Memory::Floats(memory.MakeParameters(SIMDNORM_F32, channels, call.data));
    args.variance = Memory::Floats(positive(in_range ? Data::kNormal : Data::kAnyExponent));
    runner->Run(memory, simdnorm_batch_norm_inference, args);
  } else {
    if (call.mean) args.mean = memory.MakeStatistic(kIsGroupNorm<Args> ? batch * groups : channels);
    if (call.rstd) args.rstd = memory.MakeStatistic(kIsGroupNorm<Args> ? batch * groups : channels);
    if constexpr (std::is_same_v<Args, Training>) {
      if (call.running) {
        args.momentum = 0.1f;
        args.running_variance_kind = call.unbiased && count != 1 ? SIMDNORM_UNBIASED : SIMDNORM_BIASED;
        args.running_mean = Memory::Floats(memory.Output(memory.MakeParameters(SIMDNORM_F32, channels)));
        args.running_variance = Memory::Floats(memory.Output(positive(Data::kNormal)));
      }
      runner->Run(memory, simdnorm_batch_norm_training, args);
    } else {
      runner->Run(memory, call.instance ? simdnorm_instance_norm : simdnorm_group_norm, args);
    }
  }
}

template <class Args>
void Mingle(Choices choices, ChannelCall<Args>* call) {
  Args& args = call->args;
  args.y_dtype = choices.Float();
  args.scale_dtype = choices.Float();
  args.residual_dtype = choices.Float();
  call->in_place = choices.OneIn(3);
  call->residual = choices.OneIn(2);
  call->lengths = choices.OneIn(4);
  call->mask = !call->lengths && choices.OneIn(4);
  if ((call->lengths || call->mask) && choices.OneIn(2)) args.padding = SIMDNORM_PADDING_UNTOUCHED;
  SetActivation(choices.Below(2 * kNumActivations) % (kNumActivations + 1), &args);
}

// Every number of positions and of channels up to 41, and those around what kernels go by.
std::vector<ChannelShape> ChannelTails() {
  std::vector<ChannelShape> shapes;
  for (int64_t size = 1; size <= 41; ++size) {
    shapes.push_back({1 + size % 3, 1 + size % 6, size});
    shapes.push_back({1 + size % 2, size, 1 + size % 7});
  }
  for (const int64_t border : {64, 128, 256, 512}) {
    for (const int64_t size : {border - 1, border, border + 1}) {
      shapes.push_back({1 + size % 2, 2, size});
      shapes.push_back({1, size, 1 + size % 3});
    }
  }
  return shapes;
}

// Around chunks of a plane and of rows of channels, and tiles of channels.
const std::vector<ChannelShape> kChunkChannels = {{1, 2, 4095}, {1, 1, 4096}, {2, 2, 4097}, {1, 18, 255}, {1, 17, 256},
                                                  {2, 33, 257}, {300, 17, 3}, {12, 33, 1},  {70, 5, 60},  {1, 520, 12},
                                                  {1, 1030, 5}, {600, 2, 1},  {2, 6, 1366}, {2, 4, 2049}, {1, 3, 8193}};
const std::vector<ChannelShape> kDataChannels = {{1, 3, 1}, {3, 6, 7}, {2, 34, 19}, {12, 33, 1}, {1, 2, 4200}, {2, 40, 9}};
const std::vector<ChannelShape> kFusedChannels = {{3, 6, 7},   {2, 34, 19}, {12, 33, 1}, {1, 2, 4200},
                                                  {4, 20, 33}, {5, 16, 64}, {3, 48, 300}};
// By samples, groups, channels, chunks of a channel, rows of channels, chunks that are several planes.
const std::vector<ChannelShape> kLargeChannels = {{6, 48, 500},  {2, 4, 20000},  {2, 700, 100}, {1, 1, 300007},
                                                  {3, 2, 30001}, {150, 1000, 1}, {1500, 2, 49}};
const std::vector<ChannelShape> kLargeFusedChannels = {{6, 48, 500}, {1, 2, 70000}, {1500, 2, 49}};

// The groups of one operation, layout and dtype of x.
template <class Args>
struct ChannelGroups {
  std::vector<Group>* groups;
  bool instance;
  simdnorm_dtype x_dtype;
  simdnorm_layout layout;

  template <class Vary>
  void Add(const std::string& what, const std::vector<ChannelShape>& shapes, int64_t times, const Vary& vary) const {
    constexpr const char* kLayoutNames[] = {"nchw", "nhwc", "nchw8c", "nchw16c"};
    const std::string op = std::is_same_v<Args, Inference>  ? "batch-norm-inference/"
                           : std::is_same_v<Args, Training> ? "batch-norm-training/"
                           : instance                       ? "instance-norm/"
                                                            : "group-norm/";
    const ChannelGroups self = *this;
    const auto make = [self](const ChannelShape& shape, int64_t i) {
      ChannelCall<Args> call;
      call.instance = self.instance;
      call.args.x_dtype = call.args.y_dtype = self.x_dtype;
      call.args.layout = self.layout;
      call.args.batch = shape.batch, call.args.channels = shape.channels, call.args.spatial = shape.spatial;
      call.scale = i % 4 != 1;
      call.shift = i % 3 != 1;
      call.mean = i % 2 == 0;
      call.rstd = i % 5 != 2;
      call.running = i % 7 != 3;
      call.unbiased = i % 2 == 1;
      return call;
    };
    AddGroup(groups, op + kFloatNames[x_dtype] + "/" + kLayoutNames[layout] + "/", what, shapes, times, make, vary);
  }

  void AddAll() const {
    using Call = ChannelCall<Args>;
    const auto as_it_is = [](Call*, int64_t) {};
    const auto mingle = [](Call* call, int64_t i) { Mingle(Choices(static_cast<uint64_t>(i)), call); };
    Add("tails", ChannelTails(), 1, as_it_is);
    Add("double", kDataChannels, 15, [](Call* call, int64_t i) {
      call->data = kRange[i % 5];
      call->args.epsilon = kEpsilons[i % 3];
    });
    Add("mixed", kFusedChannels, 12, mingle);
    Add("large-mixed", kLargeFusedChannels, 1, mingle);
    if (layout > SIMDNORM_NHWC) return;  // blocks are channels side by side, too
    Add("chunks", kChunkChannels, 1, as_it_is);
    Add("dtypes", kFusedChannels, 9, [](Call* call, int64_t i) {
      call->args.y_dtype = kFloats[i % 3];
      call->args.scale_dtype = kFloats[i / 3 % 3];
      call->in_place = i % 2 == 0;
    });
    Add("non-finite", kDataChannels, 3, [](Call* call, int64_t i) {
      call->data = Data::kNonFinite;
      call->args.y_dtype = kFloats[i % 3];
    });
    if (x_dtype != SIMDNORM_F32) return;  // what follows does not depend on it, and is part of what is mixed
    Add("cancellation", kDataChannels, 3, [](Call* call, int64_t i) { call->data = kCancellation[i % 3]; });
    Add("residual", kFusedChannels, 3, [](Call* call, int64_t i) {
      call->residual = true;
      call->args.residual_dtype = kFloats[i % 3];
    });
    Add("activations", kFusedChannels, kNumActivations,
        [](Call* call, int64_t i) { SetActivation(1 + i % kNumActivations, &call->args); });
    Add("lengths", kFusedChannels, 2, [](Call* call, int64_t i) {
      call->lengths = true;
      call->args.padding = i % 2 == 0 ? SIMDNORM_PADDING_ZERO : SIMDNORM_PADDING_UNTOUCHED;
    });
    Add("mask", kFusedChannels, 2, [](Call* call, int64_t i) {
      call->mask = true;
      call->args.padding = i % 2 == 0 ? SIMDNORM_PADDING_ZERO : SIMDNORM_PADDING_UNTOUCHED;
    });
    Add("large-plain", kLargeChannels, 1, as_it_is);
    Add("large-double", kLargeFusedChannels, 1, [](Call* call, int64_t i) {
      call->data = i % 2 == 0 ? Data::kHuge : Data::kTiny;
      call->args.epsilon = 0;
    });
  }
};

// --- Folding ---

struct FoldShape {
  int64_t out_channels, in_channels, kernel, groups;
};
const std::vector<FoldShape> kFolds = {{1, 1, 1, 1},  {3, 5, 1, 1},    {17, 16, 9, 1},  {33, 20, 4, 1},
                                       {8, 12, 9, 4}, {40, 40, 3, 40}, {64, 100, 1, 2}, {6, 9, 25, 3}};

void AddFolds(std::vector<Group>* groups, simdnorm_fold_position position, bool transposed) {
  const std::string what = position == SIMDNORM_FOLD_INTO_PRECEDING ? "preceding" : "following";
  groups->push_back({"fold-batch-norm/f32/" + what + (transposed ? "-transposed" : ""), false,
                     [position, transposed](const simdnorm_options& options, const Visit& visit) {
                       Runner runner = {options, visit};
                       for (const Data data : {Data::kNormal, Data::kAnyExponent}) {
                         for (const FoldShape& shape : kFolds) {
                           Memory memory(runner.calls);
                           const auto make = [&](int64_t count) { return memory.MakeParameters(SIMDNORM_F32, count, data); };
                           const uint64_t i = runner.calls;
                           const int64_t channels =
                               position == SIMDNORM_FOLD_INTO_PRECEDING ? shape.out_channels : shape.in_channels;
                           const int64_t weights = shape.out_channels * (shape.in_channels / shape.groups) * shape.kernel;
                           auto args = Defaults<simdnorm_fold_batch_norm_args>();
                           args.position = position;
                           args.transposed = transposed;
                           args.out_channels = shape.out_channels;
                           args.in_channels = shape.in_channels;
                           args.kernel = shape.kernel;
                           args.groups = shape.groups;
                           const Tensor variance = make(channels);
                           for (int64_t c = 0; c < channels; ++c) variance.data[4 * c + 3] &= 0x7F;
                           args.mean = Memory::Floats(make(channels));
                           args.variance = Memory::Floats(variance);
                           if (i % 3 != 1) args.scale = Memory::Floats(make(channels));
                           if (i % 4 != 1) args.shift = Memory::Floats(make(channels));
                           if (i % 5 != 1) args.bias = Memory::Floats(make(shape.out_channels));
                           args.weight = Memory::Floats(make(weights));
                           args.folded_weight = memory.MakeStatistic(weights);
                           args.folded_bias = memory.MakeStatistic(shape.out_channels);
                           runner.Run(memory, simdnorm_fold_batch_norm, args);
                         }
                       }
                     }});
}

// --- All of it ---

template <class Args>
void AddRows(std::vector<Group>* groups) {
  for (const simdnorm_dtype dtype : kFloats) {
    const RowGroups<Args> rows = {groups, dtype};
    rows.AddPlain();
    rows.AddFused();
    rows.AddViews();
    rows.AddLarge();
  }
}

template <class Args>
void AddChannels(std::vector<Group>* groups, bool instance = false) {
  for (const simdnorm_dtype dtype : kFloats) {
    for (const simdnorm_layout layout : {SIMDNORM_NCHW, SIMDNORM_NHWC, SIMDNORM_NCHW8C, SIMDNORM_NCHW16C}) {
      if (kIsGroupNorm<Args> && layout > SIMDNORM_NHWC) continue;
      ChannelGroups<Args>{groups, instance, dtype, layout}.AddAll();
    }
  }
}

std::vector<Group> MakeGroups() {
  std::vector<Group> groups;
  AddRows<LayerNorm>(&groups);
  AddRows<RMSNorm>(&groups);
  AddChannels<Inference>(&groups);
  AddChannels<Training>(&groups);
  AddChannels<GroupNorm>(&groups);
  AddChannels<GroupNorm>(&groups, true);
  for (const simdnorm_fold_position position : {SIMDNORM_FOLD_INTO_PRECEDING, SIMDNORM_FOLD_INTO_FOLLOWING}) {
    for (const bool transposed : {false, true}) AddFolds(&groups, position, transposed);
  }
  return groups;
}

}  // namespace

const std::vector<Group>& Groups() {
  static const std::vector<Group> groups = MakeGroups();
  return groups;
}

std::string Line(const Group& group, const Hash& hash) {
  char digits[17];
  std::snprintf(digits, sizeof(digits), "%016llx", static_cast<unsigned long long>(hash.value()));
  return group.name + " " + digits;
}

std::string Line(const Group& group, const simdnorm_options& options) {
  Hash hash;
  group.run(options, [&](const void* output, size_t bytes) { hash.Add(output, bytes); });
  return Line(group, hash);
}

}  // namespace digest
