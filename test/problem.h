// A call as data: what to normalize, how the arguments lie in memory, which of them are given. One function runs a problem on
// a target and executor, one checks it against the reference on all of them; tests are lists of problems.
#ifndef SIMDNORM_TEST_PROBLEM_H_
#define SIMDNORM_TEST_PROBLEM_H_

#include <doctest/doctest.h>
#include <float.h>
#include <stdint.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "all_targets.h"
#include "buffers.h"
#include "compare.h"
#include "executors.h"
#include "reference.h"
#include "simdnorm/simdnorm.h"

namespace simdnorm_test {

// SIMDNORM_TEST_EFFORT=small is for emulators: every target and tail length, but far fewer ways to combine them.
inline bool SmallEffort() {
  const char* const effort = getenv("SIMDNORM_TEST_EFFORT");
  return effort != nullptr && strcmp(effort, "small") == 0;
}

// What the items (rows or channels) of x hold.
enum class Data {
  kNormal,
  kMeanThousand,  // mean / std about 1e3
  kMeanMillion,   // mean / std about 1e6
  kConstant,      // another constant for each item
  kOutlierFirst,  // the first value is a million times the others
  kSorted,
  kSubnormal,
  kHuge,         // about 1e30: squares overflow
  kTiny,         // about 1e-20: squares underflow
  kFltMax,       // FLT_MAX and -FLT_MAX in turn
  kNonFinite,    // NaN or Inf in three of five items
  kOutlierEnds,  // the first and the last value are a million times the others
};
constexpr int kNumData = static_cast<int>(Data::kOutlierEnds) + 1;

struct Problem {
  Op op = Op::kLayerNorm;
  // Layer norm and RMS norm.
  int64_t rows = 1, cols = 1;
  int64_t x_gap = 0, y_gap = 0;  // elements between rows
  // Batch norm.
  int64_t batch = 1, channels = 1, spatial = 1;
  simdnorm_layout layout = SIMDNORM_NCHW;
  bool running = true;
  simdnorm_running_variance_kind running_variance_kind = SIMDNORM_UNBIASED;
  float momentum = 0.1f;

  Data data = Data::kNormal;
  int64_t first_item = 0;  // item i holds what item first_item + i of a larger problem holds
  float epsilon = 1e-5f;
  bool scale = true, shift = true, mean = true, rstd = true;
  bool in_place = false;
  Place place = {};

  bool IsBatchNorm() const { return op == Op::kBatchNormInference || op == Op::kBatchNormTraining; }
  int64_t Items() const { return IsBatchNorm() ? channels : rows; }
  int64_t ItemSize() const { return IsBatchNorm() ? batch * spatial : cols; }
  int64_t Elements() const { return Items() * ItemSize(); }
  int64_t XStride() const { return cols + x_gap; }
  int64_t YStride() const { return cols + (in_place ? x_gap : y_gap); }
  Place OtherPlace() const { return {place.at_end, place.offset * 5 % 16}; }  // of everything but x
  bool HasShift() const { return shift && op != Op::kRMSNorm; }
  bool SavesMean() const { return mean && (op == Op::kLayerNorm || op == Op::kBatchNormTraining); }
  bool SavesRstd() const { return rstd && op != Op::kBatchNormInference; }
  bool HasRunning() const { return running && op == Op::kBatchNormTraining; }
};

// What distinguishes calls of one shape, as bits of a number: which arguments are given, and how they lie.
constexpr unsigned kNumVariants = 128;
inline Problem Variant(Problem p, unsigned variant) {
  p.scale = (variant & 1) != 0;
  p.in_place = (variant & 2) != 0;
  p.x_gap = (variant & 4) != 0 ? 3 : 0;
  p.y_gap = (variant & 4) != 0 ? 7 : 0;
  p.layout = (variant & 4) != 0 ? SIMDNORM_NHWC : SIMDNORM_NCHW;
  p.place = {(variant & 8) != 0, 0};
  p.rstd = (variant & 16) != 0;
  p.running = p.rstd != p.scale;
  p.running_variance_kind = p.in_place && p.ItemSize() != 1 ? SIMDNORM_UNBIASED : SIMDNORM_BIASED;
  p.shift = (variant & 32) != 0;
  p.mean = (variant & 64) != 0;
  return p;
}

inline std::string Describe(const Problem& p, const char* target, const char* executor = "serial") {
  std::ostringstream s;
  s << OpName(p.op);
  if (p.IsBatchNorm()) {
    s << " batch " << p.batch << " channels " << p.channels << " spatial " << p.spatial
      << (p.layout == SIMDNORM_NCHW ? " NCHW" : " NHWC");
    if (p.HasRunning()) {
      s << " running " << (p.running_variance_kind == SIMDNORM_UNBIASED ? "unbiased" : "biased") << " momentum " << p.momentum;
    }
  } else {
    s << ' ' << p.rows << 'x' << p.cols << " gaps " << p.x_gap << ' ' << p.y_gap;
  }
  s << " data " << static_cast<int>(p.data) << " epsilon " << p.epsilon << (p.scale ? " scale" : "")
    << (p.HasShift() ? " shift" : "") << (p.SavesMean() ? " mean" : "") << (p.SavesRstd() ? " rstd" : "")
    << (p.in_place ? " in place" : "") << (p.place.at_end ? " at end" : " at start") << " + " << p.place.offset << " on "
    << (target != nullptr ? target : "the default target") << ", " << executor;
  return s.str();
}

// Deterministic data without libm: integers, and in floating point only what comes out the same whether or not a compiler
// fuses it (products of two floats in double are exact).
inline uint64_t Mix(uint64_t v) {
  v += 0x9E3779B97F4A7C15u;
  v = (v ^ (v >> 30)) * 0xBF58476D1CE4E5B9u;
  v = (v ^ (v >> 27)) * 0x94D049BB133111EBu;
  return v ^ (v >> 31);
}

// Nearly normal with standard deviation 1: the sum of four uniform numbers, its digits filled up by a factor.
inline float Normal(uint64_t seed) {
  const uint64_t bits = Mix(seed);
  int64_t sum = -(int64_t{2} << 16);
  for (int i = 0; i < 4; ++i) sum += static_cast<int64_t>((bits >> (16 * i)) & 0xFFFF);
  return static_cast<float>(static_cast<double>(sum) * 0x1.bb67aep-16);
}

inline uint64_t Seed(int64_t stream, int64_t item, int64_t j) {
  return Mix(Mix(static_cast<uint64_t>(stream)) + static_cast<uint64_t>(item)) + static_cast<uint64_t>(j);
}

// Value j of `count` of an item.
inline float Value(Data data, int64_t item, int64_t j, int64_t count) {
  const float normal = Normal(Seed(1, item, j));
  switch (data) {
    case Data::kNormal:
      return normal;
    case Data::kMeanThousand:
      return static_cast<float>(1e3 + static_cast<double>(normal));
    case Data::kMeanMillion:
      return static_cast<float>(1e6 + static_cast<double>(normal));
    case Data::kConstant: {
      constexpr float kMagnitudes[] = {1, 1e6f, 1e-20f, 1e30f, 1e-40f, FLT_MAX / 8};
      return Normal(Seed(2, item, 0)) * kMagnitudes[item % 6];
    }
    case Data::kOutlierFirst:
      return j == 0 ? 1e6f : normal;
    case Data::kOutlierEnds:
      return j == 0 || j == count - 1 ? 1e6f : normal;
    case Data::kSorted:
      return static_cast<float>(static_cast<double>(j - count / 3) / static_cast<double>(count));
    case Data::kSubnormal:
      return normal * 1e-40f;
    case Data::kHuge:
      return normal * 1e30f;
    case Data::kTiny:
      return normal * 1e-20f;
    case Data::kFltMax:
      return j % 2 == 0 ? FLT_MAX : -FLT_MAX;
    case Data::kNonFinite: {
      constexpr uint32_t kBits[] = {0, 0xFFC12345u, 0x7F800000u, 0, 0xFF800000u};  // NaN with sign and payload, Inf, -Inf
      const bool special =
          item % 5 % 3 != 0 && j == static_cast<int64_t>(Mix(static_cast<uint64_t>(item)) % static_cast<uint64_t>(count));
      return special ? FloatOf(kBits[item % 5]) : normal;
    }
  }
  return 0;
}

// Batch norm's given mean: one of the values; 0 where x - mean would be beyond f32.
inline float GivenMean(Data data, int64_t item, int64_t count) {
  return data == Data::kFltMax ? 0.0f : Value(data, item, 0, count);
}

// Batch norm's given variance: such that y is of the size that training gives, as far as f32 goes.
inline float GivenVariance(Data data, int64_t item) {
  const bool huge = data == Data::kHuge || data == Data::kFltMax;
  const double spread = data == Data::kSubnormal ? 1e-40 : data == Data::kTiny ? 1e-20 : huge ? 1e19 : 1;
  return static_cast<float>(spread * spread * (0.25 + std::fabs(static_cast<double>(Normal(Seed(3, item, 0))))));
}

// Everything that a call wrote; what was not asked for is empty.
struct Outputs {
  std::vector<float> y;  // in the order of memory, gaps between rows left out
  std::vector<float> mean, rstd, running_mean, running_variance;
};

inline bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

inline bool SameBits(const Outputs& a, const Outputs& b) {
  return SameBits(a.y, b.y) && SameBits(a.mean, b.mean) && SameBits(a.rstd, b.rstd) &&
         SameBits(a.running_mean, b.running_mean) && SameBits(a.running_variance, b.running_variance);
}

// A problem's arguments in guarded memory. Inputs are filled in, and cannot be written once the tensors are sealed.
class Tensors {
 public:
  explicit Tensors(const Problem& problem)
      : p(problem), x(RowsSize(p.XStride()), p.place), y(RowsSize(p.YStride()), p.OtherPlace()) {
    const bool per_item = p.IsBatchNorm();
    const int64_t params = per_item ? p.channels : p.cols;
    const auto seeded = [&](int64_t stream, int64_t i) { return Normal(Seed(stream, per_item ? p.first_item + i : i, 0)); };
    ForEachElement([&](int64_t item, int64_t j, int64_t x_at, int64_t /*dense_at*/) {
      x[x_at] = Value(p.data, p.first_item + item, j, p.ItemSize());
    });
    if (p.scale) Fill(scale, params, [&](int64_t i) { return seeded(4, i); });
    if (p.HasShift()) Fill(shift, params, [&](int64_t i) { return seeded(5, i); });
    if (p.op == Op::kBatchNormInference) {
      Fill(given_mean, params, [&](int64_t i) { return GivenMean(p.data, p.first_item + i, p.ItemSize()); });
      Fill(given_variance, params, [&](int64_t i) { return GivenVariance(p.data, p.first_item + i); });
    }
    if (p.SavesMean()) mean.emplace(p.Items(), p.OtherPlace());
    if (p.SavesRstd()) rstd.emplace(p.Items(), p.OtherPlace());
    if (p.HasRunning()) {
      running_mean.emplace(p.Items(), p.OtherPlace());
      running_variance.emplace(p.Items(), p.OtherPlace());
      for (int64_t i = 0; i < p.Items(); ++i) {
        running_mean_before_.push_back(seeded(6, i));
        running_variance_before_.push_back(std::fabs(seeded(7, i)));
      }
    }
    Reset();
  }

  // From here on inputs are read-only memory.
  void Seal() {
    x.MakeReadOnly();
    for (auto* input : {&scale, &shift, &given_mean, &given_variance}) {
      if (*input) (*input)->MakeReadOnly();
    }
  }

  // Outputs as they are before a call. Copies only: tests call this in floating-point environments of all sorts.
  void Reset() {
    y.FillWithCanaries();
    if (p.in_place) std::copy(x.data(), x.data() + x.size(), y.data());
    for (auto* output : {&mean, &rstd}) {
      if (*output) (*output)->FillWithCanaries();
    }
    if (p.HasRunning()) {
      std::copy(running_mean_before_.begin(), running_mean_before_.end(), running_mean->data());
      std::copy(running_variance_before_.begin(), running_variance_before_.end(), running_variance->data());
    }
  }

  // Calls visit(item, j, index in x, index without gaps between rows) for every element, j being its place in the item.
  template <class Visit>
  void ForEachElement(const Visit& visit) const {
    for (int64_t item = 0; item < p.Items(); ++item) {
      for (int64_t j = 0; j < p.ItemSize(); ++j) {
        if (!p.IsBatchNorm()) {
          visit(item, j, item * p.XStride() + j, item * p.cols + j);
        } else {
          const int64_t sample = j / p.spatial, place = j % p.spatial;
          const int64_t at = p.layout == SIMDNORM_NCHW ? (sample * p.channels + item) * p.spatial + place
                                                       : (sample * p.spatial + place) * p.channels + item;
          visit(item, j, at, at);
        }
      }
    }
  }

  // Calls call(args) with the C struct of the problem's operation. `reads` is where x comes from: x itself, or y in place.
  template <class CallWith>
  auto WithArgs(const float* reads, const CallWith& call) const {
    const auto common = [&](auto args) {
      args.struct_size = sizeof(args);
      args.epsilon = p.epsilon;
      args.x = reads;
      args.y = y.data();
      args.scale = Pointer(scale);
      return args;
    };
    const auto rows = [&](auto args) {
      args = common(args);
      args.rows = p.rows;
      args.cols = p.cols;
      args.x_row_stride = p.x_gap != 0 ? p.XStride() : 0;
      args.y_row_stride = p.YStride() != p.cols ? p.YStride() : 0;
      args.rstd = Pointer(rstd);
      return args;
    };
    const auto channels = [&](auto args) {
      args = common(args);
      args.layout = p.layout;
      args.batch = p.batch;
      args.channels = p.channels;
      args.spatial = p.spatial;
      args.shift = Pointer(shift);
      return args;
    };
    if (p.op == Op::kLayerNorm) {
      auto args = rows(simdnorm_layer_norm_args());
      args.shift = Pointer(shift);
      args.mean = Pointer(mean);
      return call(args);
    }
    if (p.op == Op::kRMSNorm) return call(rows(simdnorm_rms_norm_args()));
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

  Expected Expect() const {
    return WithArgs(x.data(), [](const auto& args) { return Reference(args); });
  }

  // What the last call left.
  Outputs Collect() const {
    Outputs outputs;
    const int64_t runs = p.IsBatchNorm() ? 1 : p.rows, stride = p.IsBatchNorm() ? 0 : p.YStride();
    const int64_t length = p.IsBatchNorm() ? p.Elements() : p.cols;
    for (int64_t run = 0; run < runs; ++run) {
      const float* const begin = y.data() + run * stride;
      outputs.y.insert(outputs.y.end(), begin, begin + length);
    }
    const auto copy = [](const std::optional<GuardedBuffer>& buffer, std::vector<float>& to) {
      if (buffer) to.assign(buffer->data(), buffer->data() + buffer->size());
    };
    copy(mean, outputs.mean);
    copy(rstd, outputs.rstd);
    copy(running_mean, outputs.running_mean);
    copy(running_variance, outputs.running_variance);
    return outputs;
  }

  // Whether no call wrote anything but outputs.
  bool OnlyOutputsWritten() const {
    for (const auto* output : {&mean, &rstd, &running_mean, &running_variance}) {
      if (*output && !(*output)->OutsideIsUntouched()) return false;
    }
    if (!p.IsBatchNorm()) {
      for (int64_t row = 0; row + 1 < p.rows; ++row) {
        const float* const row_end = y.data() + row * p.YStride() + p.cols;
        if (!GuardedBuffer::AllCanaries(row_end, row_end + p.YStride() - p.cols)) return false;
      }
    }
    return y.OutsideIsUntouched();
  }

  const Problem p;
  GuardedBuffer x, y;
  std::optional<GuardedBuffer> scale, shift, given_mean, given_variance, mean, rstd, running_mean, running_variance;

 private:
  int64_t RowsSize(int64_t row_stride) const {
    return p.IsBatchNorm() ? p.Elements() : p.rows == 0 ? 0 : (p.rows - 1) * row_stride + p.cols;
  }

  template <class At>
  void Fill(std::optional<GuardedBuffer>& buffer, int64_t size, const At& at) {
    buffer.emplace(size, p.OtherPlace());
    for (int64_t i = 0; i < size; ++i) (*buffer)[i] = at(i);
  }

  static float* Pointer(const std::optional<GuardedBuffer>& buffer) { return buffer ? buffer->data() : nullptr; }

  std::vector<float> running_mean_before_, running_variance_before_;
};

// The C entry points under one name.
inline simdnorm_status Call(const simdnorm_layer_norm_args& args, const simdnorm_options* options) {
  return simdnorm_layer_norm(&args, options);
}
inline simdnorm_status Call(const simdnorm_rms_norm_args& args, const simdnorm_options* options) {
  return simdnorm_rms_norm(&args, options);
}
inline simdnorm_status Call(const simdnorm_batch_norm_inference_args& args, const simdnorm_options* options) {
  return simdnorm_batch_norm_inference(&args, options);
}
inline simdnorm_status Call(const simdnorm_batch_norm_training_args& args, const simdnorm_options* options) {
  return simdnorm_batch_norm_training(&args, options);
}

// Runs a problem and gives back what it wrote.
inline Outputs Run(Tensors& tensors, simdnorm_options options) {
  char message[256] = "";
  options.message = message;
  options.message_capacity = sizeof(message);
  tensors.Reset();
  const float* const reads = tensors.p.in_place ? tensors.y.data() : tensors.x.data();
  const simdnorm_status status = tensors.WithArgs(reads, [&](const auto& args) { return Call(args, &options); });
  CHECK_MESSAGE(status == SIMDNORM_OK, std::string(message));
  CHECK_MESSAGE(tensors.OnlyOutputsWritten(), Describe(tensors.p, options.target, "?"));
  return tensors.Collect();
}

inline Outputs Run(const Problem& p, const simdnorm_options& options) {
  Tensors tensors(p);
  tensors.Seal();
  return Run(tensors, options);
}

inline Outputs RunSerial(const Problem& p, const char* target) { return Run(p, AllExecutors()[0].Options(target)); }

enum class Executors { kAll, kInTurn };

// Checks tensors filled by hand against the reference, on every target. What matters little or not at all to a problem's
// result, the executor, may change from target to target and problem to problem instead of running them all.
inline void CheckTensors(Tensors& tensors, Executors executors = Executors::kInTurn) {
  static size_t next_executor = 0;
  const Problem& p = tensors.p;
  tensors.Seal();
  const Expected expected = tensors.Expect();
  const Bounds bounds = BoundsOf(p.op, expected);
  ForEachTarget([&](const char* target) {
    ++next_executor;
    for (size_t e = 0; e < (executors == Executors::kAll && !SmallEffort() ? AllExecutors().size() : 1); ++e) {
      const ExecutorCase& executor = AllExecutors()[(next_executor + e) % AllExecutors().size()];
      const Outputs actual = Run(tensors, executor.Options(target));
      const std::string errors =
          Compare("y", expected.y, bounds.y, actual.y) + Compare("mean", expected.mean, bounds.mean, actual.mean) +
          Compare("rstd", expected.rstd, bounds.rstd, actual.rstd) +
          Compare("running_mean", expected.running_mean, bounds.running_mean, actual.running_mean) +
          Compare("running_variance", expected.running_variance, bounds.running_variance, actual.running_variance);
      CHECK_MESSAGE(errors.empty(), errors << Describe(p, target, executor.name));
    }
  });
}

inline void CheckProblem(const Problem& p, Executors executors = Executors::kInTurn) {
  Tensors tensors(p);
  CheckTensors(tensors, executors);
}

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_PROBLEM_H_
