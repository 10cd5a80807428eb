// A call on channels (batch, group or instance norm) as data, with everything that can go around the normalization. The values
// are kept in one order, [batch, channels, spatial], and as f32, whatever layout and dtype the call has: the same problem in
// another layout or dtype, cut to a length, or one sample of it, is then a change of a field or a slice, and what two calls
// wrote can be compared element by element. Where the values lie for a call is known to ChannelTensors alone.
#ifndef SIMDNORM_TEST_CHANNEL_PROBLEM_H_
#define SIMDNORM_TEST_CHANNEL_PROBLEM_H_

#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "mixed_problem.h"
#include "problem.h"

namespace simdnorm_test {

enum class ChannelOp { kInference, kTraining, kGroup, kInstance };
constexpr ChannelOp kChannelOps[] = {ChannelOp::kInference, ChannelOp::kTraining, ChannelOp::kGroup, ChannelOp::kInstance};

inline bool IsBatchNorm(ChannelOp op) { return op == ChannelOp::kInference || op == ChannelOp::kTraining; }

inline std::vector<simdnorm_layout> LayoutsOf(ChannelOp op) {
  if (!IsBatchNorm(op)) return {SIMDNORM_NCHW, SIMDNORM_NHWC};
  return {SIMDNORM_NCHW, SIMDNORM_NHWC, SIMDNORM_NCHW8C, SIMDNORM_NCHW16C};
}

// Into which buffer y is written.
enum class Onto { kItsOwn, kX, kResidual };

struct ChannelShape {
  int64_t batch, channels, spatial, groups = 1;  // groups of group norm alone
  int64_t Elements() const { return batch * channels * spatial; }
};

struct ChannelProblem : ChannelShape {
  ChannelOp op = ChannelOp::kGroup;
  simdnorm_layout layout = SIMDNORM_NCHW;
  simdnorm_dtype x_dtype = SIMDNORM_F32, y_dtype = SIMDNORM_F32, scale_dtype = SIMDNORM_F32, residual_dtype = SIMDNORM_F32;
  float epsilon = 1e-5f, momentum = 0.1f;
  simdnorm_running_variance_kind running_variance_kind = SIMDNORM_BIASED;
  simdnorm_activation activation = SIMDNORM_NO_ACTIVATION;
  float activation_slope = 0;
  simdnorm_padding padding = SIMDNORM_PADDING_ZERO;
  bool save_mean = true, save_rstd = true;
  Onto onto = Onto::kItsOwn;
  Place place = {};

  std::vector<float> x, residual;  // [batch, channels, spatial]; an empty vector is a NULL argument
  std::vector<float> scale, shift, given_mean, given_variance;  // [channels]
  std::vector<float> running_mean, running_variance;            // [channels], as they are before the call
  std::vector<int64_t> lengths;                                 // [batch]
  std::vector<uint8_t> mask;                                    // [batch, spatial]

  // Statistics: an item is what shares them.
  int64_t Groups() const { return IsBatchNorm(op) || op == ChannelOp::kInstance ? channels : groups; }
  int64_t ChannelsPerGroup() const { return channels / Groups(); }
  int64_t Items() const { return IsBatchNorm(op) ? channels : batch * Groups(); }
  int64_t ItemOf(int64_t n, int64_t c) const { return (IsBatchNorm(op) ? 0 : n * Groups()) + c / ChannelsPerGroup(); }
  bool SavesMean() const { return save_mean && op != ChannelOp::kInference; }
  bool SavesRstd() const { return save_rstd && op != ChannelOp::kInference; }

  size_t At(int64_t n, int64_t c, int64_t s) const { return static_cast<size_t>((n * channels + c) * spatial + s); }
  bool Counts(int64_t n, int64_t s) const {
    if (!lengths.empty()) return s < lengths[static_cast<size_t>(n)];
    return mask.empty() || mask[static_cast<size_t>(n * spatial + s)] != 0;
  }
  int64_t CountedPositions() const {
    int64_t count = 0;
    for (int64_t n = 0; n < batch; ++n) {
      for (int64_t s = 0; s < spatial; ++s) count += Counts(n, s);
    }
    return count;
  }

  // Calls visit(n, c, s) for every element.
  template <class Visit>
  void ForEachElement(const Visit& visit) const {
    for (int64_t n = 0; n < batch; ++n) {
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t s = 0; s < spatial; ++s) visit(n, c, s);
      }
    }
  }
};

// A problem with everything of its operation given, and nothing around the normalization.
inline ChannelProblem MakeProblem(ChannelOp op, const ChannelShape& shape, simdnorm_layout layout = SIMDNORM_NCHW,
                                  Data data = Data::kNormal) {
  ChannelProblem p;
  static_cast<ChannelShape&>(p) = shape;
  p.op = op;
  p.layout = layout;
  const bool across_samples = IsBatchNorm(op);
  const int64_t channels_per_group = p.channels != 0 ? p.ChannelsPerGroup() : 1;
  const int64_t count = (across_samples ? p.batch : channels_per_group) * p.spatial;
  p.x.resize(static_cast<size_t>(p.Elements()));
  p.ForEachElement([&](int64_t n, int64_t c, int64_t s) {
    const int64_t j = (across_samples ? n : c % channels_per_group) * p.spatial + s;
    p.x[p.At(n, c, s)] = Value(data, p.ItemOf(n, c), j, count);
  });
  for (int64_t c = 0; c < p.channels; ++c) {
    p.scale.push_back(Normal(Seed(4, c, 0)));
    p.shift.push_back(Normal(Seed(5, c, 0)));
    if (op == ChannelOp::kInference) {
      p.given_mean.push_back(GivenMean(data, c, count));
      p.given_variance.push_back(GivenVariance(data, c));
    }
    if (op == ChannelOp::kTraining) {
      p.running_mean.push_back(Normal(Seed(6, c, 0)));
      p.running_variance.push_back(std::fabs(Normal(Seed(7, c, 0))));
    }
  }
  return p;
}

inline ChannelProblem WithResidual(ChannelProblem p) {
  p.residual.resize(p.x.size());
  for (size_t i = 0; i < p.x.size(); ++i) p.residual[i] = Normal(Seed(8, 0, static_cast<int64_t>(i)));
  return p;
}

inline ChannelProblem WithActivation(ChannelProblem p, simdnorm_activation activation) {
  p.activation = activation;
  p.activation_slope = activation == SIMDNORM_LEAKY_RELU ? 0.1f : 0;
  return p;
}

// Puts NaN and Inf wherever positions do not count: no result may notice. Of a single position an unbiased variance does not
// exist.
inline void LeaveOut(ChannelProblem& p) {
  p.ForEachElement([&](int64_t n, int64_t c, int64_t s) {
    if (p.Counts(n, s)) return;
    for (std::vector<float>* values : {&p.x, &p.residual}) {
      if (!values->empty()) (*values)[p.At(n, c, s)] = FloatOf(s % 3 == 1 ? 0xFF800000u : 0xFFC12345u);
    }
  });
  if (p.CountedPositions() == 1) p.running_variance_kind = SIMDNORM_BIASED;
}

inline ChannelProblem WithLengths(ChannelProblem p, const std::vector<int64_t>& lengths) {
  p.lengths = lengths;
  LeaveOut(p);
  return p;
}

inline ChannelProblem WithMask(ChannelProblem p, const std::vector<uint8_t>& mask) {
  p.mask = mask;
  LeaveOut(p);
  return p;
}

// What distinguishes calls of one shape, as bits of a number: which arguments are given, and how they lie.
constexpr unsigned kNumChannelVariants = 256;
inline ChannelProblem Vary(ChannelProblem p, unsigned variant) {
  if ((variant & 1) == 0) p.scale.clear();
  if ((variant & 2) == 0) p.shift.clear();
  if ((variant & 4) != 0) p.onto = Onto::kX;
  p.place = {(variant & 8) != 0, variant * 5 % 16};
  p.save_mean = (variant & 16) != 0;
  p.save_rstd = (variant & 32) != 0;
  if ((variant & 64) == 0) p.running_mean.clear();
  if ((variant & 64) == 0) p.running_variance.clear();
  if ((variant & 128) != 0 && p.CountedPositions() != 1) p.running_variance_kind = SIMDNORM_UNBIASED;
  return p;
}

inline ChannelProblem VaryAtRandom(const ChannelProblem& p, Choices& choices) {
  return Vary(p, static_cast<unsigned>(choices.Below(kNumChannelVariants)));
}

// Of [batch, channels, spatial] the samples [first, first + count), cut to their first `spatial` positions.
inline std::vector<float> Slice(const std::vector<float>& values, const ChannelShape& shape, int64_t first, int64_t count,
                                int64_t spatial) {
  std::vector<float> slice;
  if (values.empty()) return slice;
  for (int64_t plane = first * shape.channels; plane < (first + count) * shape.channels; ++plane) {
    const auto begin = values.begin() + plane * shape.spatial;
    slice.insert(slice.end(), begin, begin + spatial);
  }
  return slice;
}

// The same of a problem; lengths and mask are left behind.
inline ChannelProblem Slice(const ChannelProblem& p, int64_t first, int64_t count, int64_t spatial) {
  ChannelProblem slice = p;
  slice.batch = count;
  slice.spatial = spatial;
  slice.x = Slice(p.x, p, first, count, spatial);
  slice.residual = Slice(p.residual, p, first, count, spatial);
  slice.lengths.clear();
  slice.mask.clear();
  return slice;
}

// The same of what a problem's call wrote.
inline Outputs Slice(const Outputs& outputs, const ChannelProblem& p, int64_t first, int64_t count, int64_t spatial) {
  Outputs slice = outputs;
  slice.y = Slice(outputs.y, p, first, count, spatial);
  if (!IsBatchNorm(p.op)) {
    const auto samples = [&](const std::vector<float>& values) {
      return Slice(values, {p.batch, p.Groups(), 1}, first, count, values.empty() ? 0 : 1);
    };
    slice.mean = samples(outputs.mean);
    slice.rstd = samples(outputs.rstd);
  }
  return slice;
}

inline std::string Describe(const ChannelProblem& p, const char* target, const char* executor = "serial") {
  constexpr const char* kOps[] = {"batch norm inference", "batch norm training", "group norm", "instance norm"};
  constexpr const char* kLayouts[] = {"NCHW", "NHWC", "nChw8c", "nChw16c"};
  std::ostringstream s;
  s << kOps[static_cast<int>(p.op)] << ' ' << kLayouts[p.layout] << " batch " << p.batch << " channels " << p.channels
    << " spatial " << p.spatial << " groups " << p.Groups() << ' ' << DtypeName(p.x_dtype) << " to " << DtypeName(p.y_dtype)
    << " epsilon " << p.epsilon;
  if (!p.scale.empty()) s << " scale " << DtypeName(p.scale_dtype);
  if (!p.shift.empty()) s << " shift";
  if (!p.residual.empty()) s << " residual " << DtypeName(p.residual_dtype);
  if (p.activation != SIMDNORM_NO_ACTIVATION) s << " activation " << p.activation;
  if (!p.running_mean.empty()) s << " running " << (p.running_variance_kind == SIMDNORM_UNBIASED ? "unbiased" : "biased");
  s << (p.SavesMean() ? " mean" : "") << (p.SavesRstd() ? " rstd" : "");
  if (!p.lengths.empty() || !p.mask.empty()) {
    s << (p.lengths.empty() ? " mask" : " lengths") << " padding "
      << (p.padding == SIMDNORM_PADDING_ZERO ? "zero" : "untouched");
    for (size_t i = 0; i < std::min<size_t>(p.lengths.size(), 8); ++i) s << ' ' << p.lengths[i];
  }
  constexpr const char* kOnto[] = {"", " onto x", " onto residual"};
  s << kOnto[static_cast<int>(p.onto)] << (p.place.at_end ? " at end" : " at start") << " + " << p.place.offset << " on "
    << (target != nullptr ? target : "the default target") << ", " << executor;
  return s.str();
}

inline std::vector<float> Rounded(std::vector<float> values, simdnorm_dtype dtype) {
  for (float& value : values) value = Rounded(value, dtype);
  return values;
}

struct ChannelDtypes {
  simdnorm_dtype x, y, scale, residual;
};

// The problem with other dtypes, its values rounded to what those hold: as an f32 problem it then is the same one. y goes to a
// buffer of its own where it fits no other's place any more.
inline ChannelProblem WithDtypes(ChannelProblem p, const ChannelDtypes& dtypes) {
  p.x_dtype = dtypes.x;
  p.y_dtype = dtypes.y;
  p.scale_dtype = dtypes.scale;
  p.residual_dtype = dtypes.residual;
  p.x = Rounded(p.x, p.x_dtype);
  p.scale = Rounded(p.scale, p.scale_dtype);
  p.shift = Rounded(p.shift, p.scale_dtype);
  p.residual = Rounded(p.residual, p.residual_dtype);
  const simdnorm_dtype under_y = p.onto == Onto::kX ? p.x_dtype : p.residual_dtype;
  if (p.onto != Onto::kItsOwn && !CanTakeThePlaceOf(p.y_dtype, under_y)) p.onto = Onto::kItsOwn;
  return p;
}

// A problem's arguments in guarded memory: where its values lie in which layout, and in which dtype.
class ChannelTensors {
 public:
  explicit ChannelTensors(const ChannelProblem& problem)
      : p(problem), block_(Block(problem)), y_(Size(), YPlace(), p.y_dtype), y_before_(Size(), YPlace(), p.y_dtype) {
    FillTensor(x_, p.x, p.x_dtype, p.place);
    FillTensor(residual_, p.residual, p.residual_dtype, OtherPlace());
    FillVector(scale_, p.scale, p.scale_dtype);
    FillVector(shift_, p.shift, p.scale_dtype);
    FillVector(given_mean_, p.given_mean, SIMDNORM_F32);
    FillVector(given_variance_, p.given_variance, SIMDNORM_F32);
    FillBytes(lengths_, p.lengths, SIMDNORM_F32);
    FillBytes(mask_, p.mask, SIMDNORM_U8);
    for (auto* input : {&x_, &residual_, &scale_, &shift_, &given_mean_, &given_variance_, &lengths_, &mask_}) {
      if (*input) (*input)->MakeReadOnly();
    }
    if (p.onto != Onto::kItsOwn) y_before_.CopyFrom(p.onto == Onto::kX ? *x_ : *residual_);
    if (p.SavesMean()) mean_.emplace(p.Items(), OtherPlace());
    if (p.SavesRstd()) rstd_.emplace(p.Items(), OtherPlace());
    if (!p.running_mean.empty()) running_mean_.emplace(p.channels, OtherPlace());
    if (!p.running_variance.empty()) running_variance_.emplace(p.channels, OtherPlace());
  }

  const ChannelProblem p;

  // Runs the problem and gives back what it wrote, y in the problem's order, 0 at positions that do not count.
  Outputs Run(simdnorm_options options) {
    char message[256] = "";
    options.message = message;
    options.message_capacity = sizeof(message);
    Reset();
    const simdnorm_status status = Call(options);
    CHECK_MESSAGE(status == SIMDNORM_OK, std::string(message) << "; " << Describe(p, options.target, "?"));
    const std::string strays = StrayWrites();
    CHECK_MESSAGE(strays.empty(), strays << "; " << Describe(p, options.target, "?"));
    return Collect();
  }

  simdnorm_status Call(const simdnorm_options& options) const {
    if (p.op == ChannelOp::kInference) {
      auto args = CommonArgs<simdnorm_batch_norm_inference_args>();
      args.mean = Pointer<float>(given_mean_);
      args.variance = Pointer<float>(given_variance_);
      return simdnorm_batch_norm_inference(&args, &options);
    }
    if (p.op == ChannelOp::kTraining) {
      auto args = CommonArgs<simdnorm_batch_norm_training_args>();
      args.momentum = p.momentum;
      args.running_variance_kind = p.running_variance_kind;
      args.mean = Pointer<float>(mean_);
      args.rstd = Pointer<float>(rstd_);
      args.running_mean = Pointer<float>(running_mean_);
      args.running_variance = Pointer<float>(running_variance_);
      return simdnorm_batch_norm_training(&args, &options);
    }
    auto args = CommonArgs<simdnorm_group_norm_args>();
    args.mean = Pointer<float>(mean_);
    args.rstd = Pointer<float>(rstd_);
    if (p.op == ChannelOp::kInstance) return simdnorm_instance_norm(&args, &options);
    args.groups = p.groups;
    return simdnorm_group_norm(&args, &options);
  }

 private:
  // Channels that lie side by side: memory is [batch, ceil(channels / block), spatial, block] in every layout.
  static int64_t Block(const ChannelProblem& p) {
    const int64_t blocks[] = {1, std::max<int64_t>(p.channels, 1), 8, 16};
    return blocks[p.layout];
  }
  int64_t Blocks() const { return (p.channels + block_ - 1) / block_; }
  int64_t Size() const { return p.batch * Blocks() * p.spatial * block_; }
  int64_t At(int64_t n, int64_t c, int64_t s) const {
    return ((n * Blocks() + c / block_) * p.spatial + s) * block_ + c % block_;
  }
  Place OtherPlace() const { return {p.place.at_end, p.place.offset * 5 % 16}; }  // of everything but x
  Place YPlace() const { return p.onto == Onto::kX ? p.place : OtherPlace(); }

  void FillTensor(std::optional<GuardedBuffer>& tensor, const std::vector<float>& values, simdnorm_dtype dtype, Place place) {
    if (values.empty()) return;
    tensor.emplace(Size(), place, dtype);  // channels that fill up a block are left as canaries, which are NaN
    p.ForEachElement([&](int64_t n, int64_t c, int64_t s) { tensor->Set(At(n, c, s), values[p.At(n, c, s)]); });
  }

  void FillVector(std::optional<GuardedBuffer>& vector, const std::vector<float>& values, simdnorm_dtype dtype) {
    if (values.empty()) return;
    vector.emplace(p.channels, OtherPlace(), dtype);
    for (int64_t c = 0; c < p.channels; ++c) vector->Set(c, values[static_cast<size_t>(c)]);
  }

  // `unit` is a dtype of whose size the values are, or a multiple. At the very edge, where they are aligned whatever their
  // size.
  template <class T>
  void FillBytes(std::optional<GuardedBuffer>& buffer, const std::vector<T>& values, simdnorm_dtype unit) {
    if (values.empty()) return;
    const size_t bytes = values.size() * sizeof(T);
    buffer.emplace(static_cast<int64_t>(bytes) / UnitBytes(unit), Place{p.place.at_end, 0}, unit);
    memcpy(buffer->raw(), values.data(), bytes);
  }

  void Reset() {
    y_.CopyFrom(y_before_);
    for (auto* output : {&mean_, &rstd_}) {
      if (*output) (*output)->FillWithCanaries();
    }
    if (running_mean_) std::copy(p.running_mean.begin(), p.running_mean.end(), running_mean_->data());
    if (running_variance_) std::copy(p.running_variance.begin(), p.running_variance.end(), running_variance_->data());
  }

  template <class Args>
  Args CommonArgs() const {
    Args args = {};
    args.struct_size = sizeof(args);
    args.epsilon = p.epsilon;
    args.x_dtype = p.x_dtype;
    args.y_dtype = p.y_dtype;
    args.scale_dtype = p.scale_dtype;
    args.layout = p.layout;
    args.x = p.onto == Onto::kX ? y_.raw() : Pointer<void>(x_);
    args.y = y_.raw();
    args.batch = p.batch;
    args.channels = p.channels;
    args.spatial = p.spatial;
    args.scale = Pointer<void>(scale_);
    args.shift = Pointer<void>(shift_);
    args.activation = p.activation;
    args.activation_slope = p.activation_slope;
    args.residual_dtype = p.residual_dtype;
    args.lengths = Pointer<int64_t>(lengths_);
    args.mask = Pointer<uint8_t>(mask_);
    if (args.lengths || args.mask) args.padding = p.padding;  // refused where nothing is left out
    args.residual = p.onto == Onto::kResidual ? y_.raw() : Pointer<void>(residual_);
    return args;
  }

  // "", or what was written besides the outputs, or into padding other than it should be.
  std::string StrayWrites() const {
    for (const auto* output : {&mean_, &rstd_, &running_mean_, &running_variance_}) {
      if (*output && !(*output)->OutsideIsUntouched()) return "wrote outside of statistics";
    }
    if (!y_.OutsideIsUntouched()) return "wrote outside of y";
    if (p.lengths.empty() && p.mask.empty() && Blocks() * block_ == p.channels) return "";
    for (int64_t n = 0; n < p.batch; ++n) {
      for (int64_t c = 0; c < Blocks() * block_; ++c) {
        for (int64_t s = 0; s < p.spatial; ++s) {
          if (c < p.channels && p.Counts(n, s)) continue;
          const bool untouched = !p.Counts(n, s) && p.padding == SIMDNORM_PADDING_UNTOUCHED;
          const int64_t at = At(n, c, s);
          if (BitsOf(y_.Get(at)) == (untouched ? BitsOf(y_before_.Get(at)) : 0)) continue;
          std::ostringstream stray;
          stray << "y of sample " << n << " channel " << c << " position " << s << " should be "
                << (untouched ? "untouched" : "zero");
          return stray.str();
        }
      }
    }
    return "";
  }

  Outputs Collect() const {
    Outputs outputs;
    outputs.y.resize(p.x.size());
    p.ForEachElement([&](int64_t n, int64_t c, int64_t s) {
      if (p.Counts(n, s)) outputs.y[p.At(n, c, s)] = y_.Get(At(n, c, s));
    });
    const auto copy = [](const std::optional<GuardedBuffer>& buffer, std::vector<float>& to) {
      if (buffer) to.assign(buffer->data(), buffer->data() + buffer->size());
    };
    copy(mean_, outputs.mean);
    copy(rstd_, outputs.rstd);
    copy(running_mean_, outputs.running_mean);
    copy(running_variance_, outputs.running_variance);
    return outputs;
  }

  template <class T>
  static T* Pointer(const std::optional<GuardedBuffer>& buffer) {
    return buffer ? static_cast<T*>(buffer->raw()) : nullptr;
  }

  const int64_t block_;
  GuardedBuffer y_, y_before_;
  std::optional<GuardedBuffer> x_, residual_, scale_, shift_, given_mean_, given_variance_, lengths_, mask_;
  std::optional<GuardedBuffer> mean_, rstd_, running_mean_, running_variance_;
};

inline Outputs Run(const ChannelProblem& p, const simdnorm_options& options) { return ChannelTensors(p).Run(options); }

inline Outputs RunSerial(const ChannelProblem& p, const char* target) { return Run(p, AllExecutors()[0].Options(target)); }

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_CHANNEL_PROBLEM_H_
