// The API's rims: names, versions, the list of targets, and that the C++ wrappers are the C functions.
#include <stddef.h>
#include <string.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <set>
#include <sstream>
#include <string>

#include "mixed_problem.h"
#include "problem.h"
#include "simdnorm/simdnorm.hpp"

namespace simdnorm_test {
namespace {

TEST_CASE("names of statuses") {
  CHECK(std::string(simdnorm_status_name(SIMDNORM_OK)) == "OK");
  CHECK(std::string(simdnorm_status_name(SIMDNORM_INVALID_ARGUMENT)) == "INVALID_ARGUMENT");
  CHECK(std::string(simdnorm_status_name(SIMDNORM_UNSUPPORTED)) == "UNSUPPORTED");
  for (const simdnorm_status status : {-1, 3, 1 << 30}) CHECK(std::string(simdnorm_status_name(status)) == "unknown status");
}

TEST_CASE("the library's version is the headers'") {
  std::ostringstream version;
  version << SIMDNORM_VERSION_MAJOR << '.' << SIMDNORM_VERSION_MINOR << '.' << SIMDNORM_VERSION_PATCH;
  CHECK(version.str() == SIMDNORM_VERSION_STRING);
  CHECK(std::string(simdnorm_version()) == SIMDNORM_VERSION_STRING);
}

TEST_CASE("targets have different names, and the first is the default") {
  std::set<std::string> names;
  for (const char* const* name = simdnorm_targets(); *name != nullptr; ++name) CHECK(names.insert(*name).second);
  REQUIRE(!names.empty());
  CHECK(simdnorm_targets() == simdnorm_targets());
  CHECK(simdnorm::Targets() == simdnorm_targets());

  Problem p;
  p.rows = 9, p.cols = 333;
  CHECK(SameBits(RunSerial(p, nullptr), RunSerial(p, simdnorm_targets()[0])));
}

TEST_CASE("targets are told apart: one without fused multiply-add gives other last digits") {
  std::vector<std::string> with, without;
  ForEachTarget([&](const char* target) { (HasFusedMultiplyAdd(target) ? with : without).push_back(target); });
  if (with.empty() || without.empty()) {
    MESSAGE("this machine has one sort of target only");
    return;
  }
  Problem p;
  p.rows = 9, p.cols = 333;
  CHECK_FALSE(SameBits(RunSerial(p, with[0].c_str()), RunSerial(p, without[0].c_str())));
}

TEST_CASE("every target that this machine is meant to have was run") {
  ForEachTarget([](const char* target) {
    for (const Op op : kAllOps) {
      Problem p;
      p.op = op;
      p.rows = p.channels = 3;
      p.cols = p.spatial = 50;
      CheckProblem(p);
      Run(p, AllExecutors()[0].Options(target));
    }
  });
  const char* const required = getenv("SIMDNORM_REQUIRE_TARGETS");
  std::istringstream names(required != nullptr ? required : "");
  for (std::string name; names >> name;) {
    CHECK_MESSAGE(TargetsRun().count(name) == 1, name << " is in SIMDNORM_REQUIRE_TARGETS but was not run");
  }
}

// The C++ wrappers with the arguments of a C call.
template <class Args>
simdnorm::RowFusions RowFusionsOf(const Args& args) {
  simdnorm::RowFusions f;
  f.scale_offset = args.scale_offset;
  f.activation = args.activation;
  f.activation_slope = args.activation_slope;
  f.residual = {simdnorm::Input(args.residual, args.residual_dtype), args.residual_row_stride};
  f.residual_order = args.residual_order;
  f.bias = {args.bias, args.bias_dtype};
  f.h = {simdnorm::Output(args.h, args.h_dtype), args.h_row_stride};
  f.h_rounding = args.h_rounding;
  f.gate = {simdnorm::Input(args.gate, args.gate_dtype), args.gate_row_stride};
  f.rows_per_scale = args.rows_per_scale;
  f.scale_row_stride = args.scale_row_stride;
  f.quant_scale = args.quant_scale;
  f.zero_point = args.zero_point;
  f.quant_scales = args.quant_scales;
  f.lengths = args.lengths;
  f.rows_per_sequence = args.rows_per_sequence;
  f.padding = args.padding;
  f.inner = args.inner;
  f.x_col_stride = args.x_col_stride;
  f.x_inner_stride = args.x_inner_stride;
  f.y_col_stride = args.y_col_stride;
  f.y_inner_stride = args.y_inner_stride;
  return f;
}

template <class Args>
simdnorm::ChannelFusions ChannelFusionsOf(const Args& args) {
  simdnorm::ChannelFusions f;
  f.activation = args.activation;
  f.activation_slope = args.activation_slope;
  f.residual = {args.residual, args.residual_dtype};
  f.lengths = args.lengths;
  f.mask = args.mask;
  f.padding = args.padding;
  return f;
}

template <class Args>
simdnorm::InputRows XOf(const Args& args) {
  return {{args.x, args.x_dtype}, args.rows, args.cols, args.x_row_stride};
}
template <class Args>
simdnorm::OutputRows YOf(const Args& args) {
  return {{args.y, args.y_dtype}, args.rows, args.cols, args.y_row_stride};
}
template <class Args>
simdnorm::Shape ShapeOf(const Args& args) {
  return {args.batch, args.channels, args.spatial, args.layout};
}

simdnorm::Result Wrap(const simdnorm_layer_norm_args& a, const simdnorm::Options& options) {
  return simdnorm::LayerNorm(XOf(a), YOf(a),
                             {{a.scale, a.scale_dtype}, {a.shift, a.scale_dtype}, a.epsilon, a.mean, a.rstd, RowFusionsOf(a)},
                             options);
}
simdnorm::Result Wrap(const simdnorm_rms_norm_args& a, const simdnorm::Options& options) {
  return simdnorm::RMSNorm(XOf(a), YOf(a), {{a.scale, a.scale_dtype}, a.epsilon, a.rstd, RowFusionsOf(a)}, options);
}
simdnorm::Result Wrap(const simdnorm_batch_norm_inference_args& a, const simdnorm::Options& options) {
  return simdnorm::BatchNormInference(
      {a.x, a.x_dtype}, {a.y, a.y_dtype}, ShapeOf(a),
      {a.mean, a.variance, {a.scale, a.scale_dtype}, {a.shift, a.scale_dtype}, a.epsilon, ChannelFusionsOf(a)}, options);
}
simdnorm::Result Wrap(const simdnorm_batch_norm_training_args& a, const simdnorm::Options& options) {
  simdnorm::BatchNormTrainingParams params = {{a.scale, a.scale_dtype}, {a.shift, a.scale_dtype}, a.epsilon, a.mean, a.rstd};
  params.running_mean = a.running_mean;
  params.running_variance = a.running_variance;
  params.momentum = a.momentum;
  params.running_variance_kind = a.running_variance_kind;
  params.fusions = ChannelFusionsOf(a);
  return simdnorm::BatchNormTraining({a.x, a.x_dtype}, {a.y, a.y_dtype}, ShapeOf(a), params, options);
}
simdnorm::GroupNormParams ParamsOf(const simdnorm_group_norm_args& a) {
  return {{a.scale, a.scale_dtype}, {a.shift, a.scale_dtype}, a.epsilon, a.mean, a.rstd, ChannelFusionsOf(a)};
}

void CheckSuccess(const simdnorm::Result& result) {
  CHECK_MESSAGE(result, std::string(result.message()));
  CHECK(result.ok());
  CHECK(result.status() == SIMDNORM_OK);
  CHECK(std::string(result.message()).empty());
}

// By the wrapper, and by C.
void CheckWrapper(const Problem& p, const char* target) {
  Tensors tensors(p);
  tensors.Seal();
  CountingPool pool;
  const Outputs expected = Run(tensors, AllExecutors()[0].Options(target));
  tensors.Reset();
  tensors.WithArgs(Tensors::Inputs::kInPlace, [&](const auto& args) {
    CheckSuccess(Wrap(args, {target, 2, CountingPool::ParallelFor, &pool}));
    return SIMDNORM_OK;
  });
  const std::string differences = Differences(expected, tensors.Collect());
  CHECK_MESSAGE(differences.empty(), differences << Describe(p, target));
}

TEST_CASE("the C++ wrappers hand on every argument") {
  ForEachTarget([](const char* target) {
    for (const Op op : kAllOps) {
      for (unsigned variant = 0; variant < kNumVariants; ++variant) {
        Problem p;
        p.op = op;
        p.rows = 3, p.cols = 21;
        p.batch = 2, p.channels = 5, p.spatial = 7;
        p = Variant(p, variant);
        p.in_place = false;
        p.epsilon = 0.25f;
        p.momentum = 0.75f;
        CheckWrapper(p, target);
      }
    }
  });
}

TEST_CASE("the C++ wrappers hand on all that goes with rows") {
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (uint64_t seed = 0; seed < 100; ++seed) {
      const int64_t inner = seed % 4 == 0 ? 3 : 1;
      Problem p = MixedProblem(op, 6, 32, inner, seed);
      if (inner == 1 && seed % 3 == 0) {
        p.rows_per_sequence = 2;
        p.padding = seed % 2 == 0 ? SIMDNORM_PADDING_ZERO : SIMDNORM_PADDING_UNTOUCHED;
      }
      CheckWrapper(p, nullptr);
    }
  }
}

// The C call and the wrapper refuse or do the same where any 4 bytes of what goes with rows are not 0, or a pointer is not
// null.
template <class Args>
void CheckEveryWord() {
  constexpr size_t kPointers[] = {offsetof(Args, residual), offsetof(Args, bias),         offsetof(Args, h),
                                  offsetof(Args, gate),     offsetof(Args, quant_scales), offsetof(Args, lengths)};
  const uint32_t word = 0x3F800001;  // as a float just above 1; no dtype or choice
  for (size_t at = offsetof(Args, scale_offset); at < sizeof(Args); at += sizeof(word)) {
    float x[8] = {3, 1, 4, 1, 5, 9, 2, 6}, y[8] = {}, y_of_wrapper[8] = {};
    float memory[16], expected[16];  // for whatever the pointer is to
    std::fill(std::begin(memory), std::end(memory), 2.0f);
    const void* const pointer = memory;
    Args args = {};
    args.struct_size = sizeof(args);
    args.x = x, args.y = y;
    args.rows = 2, args.cols = 4;
    unsigned char* const field = reinterpret_cast<unsigned char*>(&args) + at;
    if (std::count(std::begin(kPointers), std::end(kPointers), at) != 0) {
      memcpy(field, &pointer, sizeof(pointer));
      at += sizeof(pointer) - sizeof(word);
    } else {
      memcpy(field, &word, sizeof(word));
    }
    const simdnorm_status status = Call(args, nullptr);
    std::copy(std::begin(memory), std::end(memory), expected);
    std::fill(std::begin(memory), std::end(memory), 2.0f);
    args.y = y_of_wrapper;
    CAPTURE(at);
    CHECK(Wrap(args, {}).status() == status);
    CHECK(memcmp(y_of_wrapper, y, sizeof(y)) == 0);
    CHECK(memcmp(memory, expected, sizeof(expected)) == 0);
  }
}

TEST_CASE("the C++ wrappers hand on every field that goes with rows, by itself") {
  CheckEveryWord<simdnorm_layer_norm_args>();
  CheckEveryWord<simdnorm_rms_norm_args>();
}

// What calls on channels touch; whole blocks of 16 channels.
struct ChannelMemory {
  static constexpr int64_t kBatch = 2, kChannels = 6, kSpatial = 5;
  float x[160], residual[160], scale[16], shift[16], given_mean[16], given_variance[16];
  float y[160], mean[16], rstd[16], running_mean[16], running_variance[16];
  int64_t lengths[2] = {5, 3};
  uint8_t mask[kBatch * kSpatial] = {1, 0, 1, 1, 1, 0, 0, 1, 1, 0};

  ChannelMemory() {
    float* const begin = reinterpret_cast<float*>(this);
    for (size_t i = 0; i < offsetof(ChannelMemory, lengths) / sizeof(float); ++i) {
      begin[i] = 0.5f + std::fabs(Normal(Seed(1, static_cast<int64_t>(i), 0)));
    }
  }
};

// Every argument with a value that is not its default, as far as they go together.
template <class Args>
Args ChannelArgs(ChannelMemory& m, unsigned variant) {
  Args args = {};
  args.struct_size = sizeof(args);
  args.epsilon = 0.25f;
  args.x = m.x;
  args.y = m.y;
  args.batch = m.kBatch;
  args.channels = m.kChannels;
  args.spatial = m.kSpatial;
  args.layout = SIMDNORM_NHWC;
  args.scale = m.scale;
  args.shift = m.shift;
  if ((variant & 1) != 0) args.x_dtype = SIMDNORM_BF16, args.scale_dtype = SIMDNORM_BF16;
  if ((variant & 2) != 0) args.y_dtype = SIMDNORM_BF16, args.residual_dtype = SIMDNORM_BF16;
  if ((variant & 4) != 0) args.residual = m.residual;
  if ((variant & 8) != 0) args.activation = SIMDNORM_LEAKY_RELU, args.activation_slope = 0.5f;
  if ((variant & 32) != 0) args.lengths = m.lengths;
  if ((variant & 96) == 64) args.mask = m.mask;
  if ((variant & 16) != 0 && (variant & 96) != 0) args.padding = SIMDNORM_PADDING_UNTOUCHED;
  return args;
}
constexpr unsigned kNumChannelArgs = 128;

// Runs both calls on memory that is the same before, and compares it after.
template <class CallC, class CallCpp>
void CheckSameMemory(const CallC& call_c, const CallCpp& call_cpp) {
  const auto before = std::make_unique<ChannelMemory>(), memory = std::make_unique<ChannelMemory>();
  CHECK(call_c(*memory) == SIMDNORM_OK);
  const ChannelMemory expected = *memory;
  *memory = *before;
  CheckSuccess(call_cpp(*memory));
  CHECK(memcmp(memory.get(), &expected, sizeof(expected)) == 0);
  CHECK(memcmp(memory.get(), before.get(), sizeof(expected)) != 0);
}

TEST_CASE("the C++ wrappers hand on all that goes with channels") {
  for (unsigned variant = 0; variant < kNumChannelArgs; ++variant) {
    CAPTURE(variant);
    const auto inference = [=](ChannelMemory& m) {
      auto args = ChannelArgs<simdnorm_batch_norm_inference_args>(m, variant);
      args.mean = m.given_mean;
      args.variance = m.given_variance;
      return args;
    };
    const auto training = [=](ChannelMemory& m) {
      auto args = ChannelArgs<simdnorm_batch_norm_training_args>(m, variant);
      args.layout = SIMDNORM_NCHW16C;
      args.momentum = 0.75f;
      args.running_variance_kind = SIMDNORM_BIASED;
      args.mean = m.mean;
      args.rstd = m.rstd;
      args.running_mean = m.running_mean;
      args.running_variance = m.running_variance;
      return args;
    };
    const auto groups = [=](ChannelMemory& m) {
      auto args = ChannelArgs<simdnorm_group_norm_args>(m, variant);
      args.mean = m.mean;
      args.rstd = m.rstd;
      args.groups = 3;
      return args;
    };
    const auto instances = [=](ChannelMemory& m) {
      auto args = groups(m);
      args.groups = 0;
      return args;
    };
    CheckSameMemory([&](auto& m) { return Call(inference(m), nullptr); }, [&](auto& m) { return Wrap(inference(m), {}); });
    CheckSameMemory([&](auto& m) { return Call(training(m), nullptr); }, [&](auto& m) { return Wrap(training(m), {}); });
    CheckSameMemory(
        [&](auto& m) {
          const auto args = groups(m);
          return simdnorm_group_norm(&args, nullptr);
        },
        [&](auto& m) {
          const auto args = groups(m);
          return simdnorm::GroupNorm({args.x, args.x_dtype}, {args.y, args.y_dtype}, ShapeOf(args), 3, ParamsOf(args));
        });
    CheckSameMemory(
        [&](auto& m) {
          const auto args = instances(m);
          return simdnorm_instance_norm(&args, nullptr);
        },
        [&](auto& m) {
          const auto args = instances(m);
          return simdnorm::InstanceNorm({args.x, args.x_dtype}, {args.y, args.y_dtype}, ShapeOf(args), ParamsOf(args));
        });
  }
}

TEST_CASE("the C++ wrapper folds") {
  const auto args_of = [](ChannelMemory& m) {
    simdnorm_fold_batch_norm_args args = {};
    args.epsilon = 0.25f;
    args.position = SIMDNORM_FOLD_INTO_FOLLOWING;
    args.mean = m.given_mean, args.variance = m.given_variance, args.scale = m.scale, args.shift = m.shift;
    args.weight = m.x, args.folded_weight = m.y, args.folded_bias = m.mean;
    args.out_channels = args.in_channels = 6;
    args.kernel = 4;
    args.groups = 2;
    return args;
  };
  CheckSameMemory(
      [&](auto& m) {
        auto args = args_of(m);
        args.struct_size = sizeof(args);
        return simdnorm_fold_batch_norm(&args, nullptr);
      },
      [&](auto& m) {
        return simdnorm::FoldBatchNorm(m.x, nullptr, m.y, m.mean, {6, 6, 4, 2},
                                       {m.given_mean, m.given_variance, m.scale, m.shift, 0.25f, SIMDNORM_FOLD_INTO_FOLLOWING});
      });
  const auto refused = simdnorm::FoldBatchNorm(nullptr, nullptr, nullptr, nullptr, {1, 1, -1}, {nullptr, nullptr});
  CHECK(std::string(refused.message()) == "kernel -1 is negative");
}

TEST_CASE("pointers know their dtype") {
  void* const p = nullptr;
  const void* const const_p = nullptr;
  CHECK(simdnorm::Input(static_cast<const float*>(const_p)).dtype == SIMDNORM_F32);
  CHECK(simdnorm::Input(static_cast<const simdnorm::bf16*>(const_p)).dtype == SIMDNORM_BF16);
  CHECK(simdnorm::Input(static_cast<const simdnorm::f16*>(const_p)).dtype == SIMDNORM_F16);
  CHECK(simdnorm::Input(const_p, SIMDNORM_F16).dtype == SIMDNORM_F16);
  CHECK(simdnorm::Input(nullptr).dtype == SIMDNORM_F32);
  CHECK(simdnorm::Output(static_cast<float*>(p)).dtype == SIMDNORM_F32);
  CHECK(simdnorm::Output(static_cast<simdnorm::bf16*>(p)).dtype == SIMDNORM_BF16);
  CHECK(simdnorm::Output(static_cast<simdnorm::f16*>(p)).dtype == SIMDNORM_F16);
  CHECK(simdnorm::Output(static_cast<int8_t*>(p)).dtype == SIMDNORM_I8);
  CHECK(simdnorm::Output(static_cast<uint8_t*>(p)).dtype == SIMDNORM_U8);
  CHECK(simdnorm::Output(static_cast<simdnorm_q8_0*>(p)).dtype == SIMDNORM_Q8_0);
  CHECK(simdnorm::Output(p, SIMDNORM_BF16).dtype == SIMDNORM_BF16);
}

TEST_CASE("calls in C++ as they are usually written") {
  simdnorm::bf16 x[2 * 32] = {}, residual[2 * 32] = {}, y[2 * 32] = {};
  float scale[32] = {}, quant_scales[2] = {};
  int8_t quantized[2 * 32];
  simdnorm_q8_0 blocks[2];
  const auto bf16_of = [](float value) { return simdnorm::bf16{static_cast<uint16_t>(BitsOf(value) >> 16)}; };
  for (int i = 0; i < 64; ++i) x[i] = bf16_of(i % 2 == 0 ? 1.0f : -1.0f), residual[i] = bf16_of(i % 2 == 0 ? 2.0f : -2.0f);
  for (float& s : scale) s = 1;

  // h = x + residual over the residual, y = norm(h): 1 and -1 in turn.
  simdnorm::RMSNormParams add{scale, 0.0f};
  add.fusions.residual = residual;
  add.fusions.h = residual;
  CheckSuccess(simdnorm::RMSNorm(x, y, 2, 32, add));
  CHECK(residual[0].bits == bf16_of(3).bits);
  CHECK(y[0].bits == bf16_of(1).bits);
  CHECK(y[1].bits == bf16_of(-1).bits);

  // Quantized: the largest value is 127, by rows and by blocks.
  simdnorm::RMSNormParams by_rows{scale, 0.0f};
  by_rows.fusions.quant_scales = quant_scales;
  by_rows.fusions.scale_offset = 1;
  CheckSuccess(simdnorm::RMSNorm(x, quantized, 2, 32, by_rows));
  CHECK(static_cast<int>(quantized[0]) == 127);
  CHECK(quant_scales[1] == 2.0f / 127);
  CheckSuccess(simdnorm::RMSNorm(x, blocks, 2, 32, {scale}));
  CHECK(static_cast<int>(blocks[1].q[31]) == -127);

  // Channels first, one head of two, and a sequence of which the second row is padding.
  float image[2 * 3] = {1, 10, 2, 20, 3, 30}, normalized[2 * 3];
  simdnorm::LayerNormParams channels_first;
  channels_first.fusions.inner = 2;
  CheckSuccess(simdnorm::LayerNorm(image, normalized, 1, 3, channels_first));
  for (int i = 0; i < 6; ++i) CHECK(std::fabs(normalized[i] - static_cast<float>(i / 2 - 1) * 1.2247f) < 1e-4f);
  simdnorm::LayerNormParams padded;
  const int64_t one = 1;
  padded.fusions.lengths = &one;
  padded.fusions.rows_per_sequence = 2;
  CheckSuccess(simdnorm::LayerNorm({image, 2, 3}, {normalized, 2, 3}, padded));
  CHECK(normalized[1] > 0);
  CHECK(normalized[4] == 0);

  // Group norm of two groups with ReLU, instance norm of the same.
  simdnorm::GroupNormParams relu;
  relu.fusions.activation = SIMDNORM_RELU;
  float channels[2 * 2] = {1, 3, 5, 9};
  CheckSuccess(simdnorm::GroupNorm(channels, channels, {1, 2, 2}, 2, relu));
  CHECK(channels[0] == 0);
  CHECK(channels[3] > 0.99f);
  CheckSuccess(simdnorm::InstanceNorm(channels, channels, {1, 2, 2}));
  CHECK(channels[0] < 0);
}

TEST_CASE("the C++ wrappers hand on threads and defaults") {
  Problem p;
  p.rows = 500, p.cols = 1000;
  p.scale = p.shift = p.mean = p.rstd = false;
  Tensors tensors(p);
  const Outputs expected = RunSerial(p, nullptr);
  CountingPool pool;
  const simdnorm::Options options = {nullptr, 4, CountingPool::ParallelFor, &pool};
  CHECK(simdnorm::LayerNorm(tensors.x.data(), tensors.y.data(), p.rows, p.cols, {}, options));
  CHECK(pool.most_tasks >= 2);
  CHECK(pool.most_tasks <= 4);
  CHECK(SameBits(tensors.Collect(), expected));

  tensors.Reset();
  CHECK(simdnorm::LayerNorm(tensors.x.data(), tensors.y.data(), p.rows, p.cols));
  CHECK(SameBits(tensors.Collect(), expected));
}

TEST_CASE("the C++ wrappers say what is wrong") {
  float x[12] = {}, y[12] = {};
  const simdnorm::Result strides = simdnorm::LayerNorm({x, 2, 5, 3}, {y, 2, 5});
  CHECK_FALSE(strides);
  CHECK(strides.status() == SIMDNORM_INVALID_ARGUMENT);
  CHECK(std::string(strides.message()).find("x_row_stride 3") != std::string::npos);

  const simdnorm::Result target = simdnorm::RMSNorm(x, y, 2, 5, {}, {"AVX9"});
  CHECK(target.status() == SIMDNORM_UNSUPPORTED);
  CHECK(std::string(target.message()).find("AVX9") != std::string::npos);

  for (const simdnorm::Result& mismatch : {simdnorm::LayerNorm({x, 2, 5}, {y, 1, 5}), simdnorm::LayerNorm({x, 2, 5}, {y, 2, 4}),
                                           simdnorm::RMSNorm({x, 2, 5}, {y, 1, 5}), simdnorm::RMSNorm({x, 2, 5}, {y, 2, 4})}) {
    CHECK(mismatch.status() == SIMDNORM_INVALID_ARGUMENT);
    CHECK(std::string(mismatch.message()).find("x and y differ in") == 0);
  }
}

}  // namespace
}  // namespace simdnorm_test
