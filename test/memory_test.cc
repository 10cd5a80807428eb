// Both edges of memory, for every operation, dtype and tail: each call is made twice, once with all that it reads and writes
// ending right before a page that cannot be touched, and once beginning right behind one. A step outside faults; the two calls
// have to give the same bits. What bits those should be is known to the other tests. This file is also what CI runs under
// MemorySanitizer and valgrind, to which everything that a call has no business to read is uninitialized (buffers.h).
#include <stddef.h>
#include <string.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string>
#include <vector>

#include "channel_problem.h"
#include "mixed_problem.h"

namespace simdnorm_test {
namespace {

#ifdef SIMDNORM_TEST_MSAN
// The standard library is not instrumented: what it hands on to the C library only looks uninitialized. What counts is checked
// with CheckInitialized.
[[maybe_unused]] const bool interceptors_are_quiet = (__msan_scoped_disable_interceptor_checks(), true);
#endif

constexpr Place kEdges[] = {{true, 0}, {false, 0}};

// Every tail of a vector, of a strip of 16 and of a block of strips; then around blocks, tiles of channels and chunks.
std::vector<int64_t> Sizes() {
  std::vector<int64_t> sizes;
  for (int64_t size = 1; size <= (SmallEffort() ? 34 : 70); ++size) sizes.push_back(size);
  for (const int64_t border : {127, 255, 511}) {
    for (int64_t size = border; size <= border + 3; ++size) {
      if (!SmallEffort() || size == 129) sizes.push_back(size);
    }
  }
  return sizes;
}

// Longer than a chunk.
std::vector<int64_t> LongSizes() {
  if (SmallEffort()) return {4099};
  return {4095, 4096, 4097, 4111, 8193, 12289};
}

// Runs a problem at both edges, on every target.
template <class TensorsOfProblem, class P, class RunOn>
void CheckEdges(P p, const RunOn& run_on) {
  p.place = kEdges[0];
  TensorsOfProblem at_end(p);
  p.place = kEdges[1];
  TensorsOfProblem at_start(p);
  ForEachTarget([&](const char* target) {
    INFO(Describe(p, target));
    const simdnorm_options options = AllExecutors()[0].Options(target);
    const Outputs expected = run_on(at_end, options), actual = run_on(at_start, options);
    for (const std::vector<float>* values : expected.All()) CheckInitialized(values->data(), values->size() * sizeof(float));
    CHECK_MESSAGE(SameBits(expected, actual), Differences(expected, actual));
  });
}

void CheckEdges(const Problem& p) {
  CheckEdges<Tensors>(p, [](Tensors& tensors, const simdnorm_options& options) {
    tensors.Seal();
    return Run(tensors, options);
  });
}

void CheckEdges(const ChannelProblem& p) {
  CheckEdges<ChannelTensors>(p, [](ChannelTensors& tensors, const simdnorm_options& options) { return tensors.Run(options); });
}

TEST_CASE("plain rows") {
  unsigned variant = 0;
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const simdnorm_dtype x_dtype : kFloatDtypes) {
      for (const simdnorm_dtype y_dtype : kFloatDtypes) {
        if (SmallEffort() && x_dtype != y_dtype) continue;
        for (const std::vector<int64_t>& sizes : {Sizes(), LongSizes()}) {
          for (const int64_t cols : sizes) {
            Problem p;
            p.op = op;
            p.cols = cols;
            p = Variant(p, variant += 37);
            p.x_dtype = x_dtype, p.y_dtype = y_dtype;
            p.scale_dtype = kFloatDtypes[variant % 3];
            p.in_place = p.in_place && CanTakeThePlaceOf(y_dtype, x_dtype);
            const int64_t counts[] = {1, 2, 17};  // rows are taken by sixteens
            p.rows = counts[variant / 2 % (SmallEffort() ? 2 : 3)];
            CheckEdges(p);
          }
        }
      }
    }
  }
}

TEST_CASE("rows with what can go around them") {
  uint64_t way = 0;
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const int64_t cols : Sizes()) {
      for (int i = 0; i < (SmallEffort() ? 2 : 12); ++i, ++way) CheckEdges(MixedProblem(op, 1 + way % 3, cols, 1, way));
    }
    // Whole blocks of Q8_0 are few among those.
    for (const int64_t cols : {32, 64, 96, 256}) {
      for (int i = 0; i < (SmallEffort() ? 2 : 12); ++i, ++way) CheckEdges(MixedProblem(op, 2, cols, 1, way));
    }
    for (const int64_t cols : LongSizes()) {
      for (int i = 0; i < (SmallEffort() ? 1 : 8); ++i, ++way) CheckEdges(MixedProblem(op, 1, cols, 1, way));
    }
  }
}

TEST_CASE("rows with inner positions") {
  uint64_t way = 0;
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const int64_t size : Sizes()) {
      for (int i = 0; i < (SmallEffort() ? 1 : 4); ++i, ++way) {
        CheckEdges(MixedProblem(op, 1 + way % 2, size, 2 + way % 4, way));
        CheckEdges(MixedProblem(op, 1 + way % 2, 1 + way % 6, 1 + size, way));
      }
    }
  }
}

// The list of lengths is at an edge, too; rows that do not count hold canaries.
TEST_CASE("rows of sequences with lengths") {
  uint64_t way = 0;
  for (const Op op : {Op::kLayerNorm, Op::kRMSNorm}) {
    for (const int64_t cols : Sizes()) {
      Problem p = MixedProblem(op, 12, cols, 1, ++way);
      p.in_place = p.y_is_residual = p.y_is_gate = p.h_is_x = p.h_is_residual = false;
      p.rows_per_sequence = 3;
      // Rows that stay untouched are canaries, which the comparison may not read where they count as uninitialized.
      if (way % 2 == 0 && !InitializationIsChecked()) p.padding = SIMDNORM_PADDING_UNTOUCHED;
      CheckEdges<Tensors>(p, [](Tensors& tensors, const simdnorm_options& options) {
        tensors.Seal();
        GuardedBuffer lengths(2 * static_cast<int64_t>(tensors.lengths.size()), tensors.p.place);  // of f32, half an int64_t
        memcpy(lengths.raw(), tensors.lengths.data(), tensors.lengths.size() * sizeof(int64_t));
        lengths.MakeReadOnly();
        tensors.Reset();
        const simdnorm_status status = tensors.WithRowArgs(Tensors::Inputs::kInPlace, [&](auto args) {
          args.lengths = static_cast<const int64_t*>(lengths.raw());
          return Call(args, &options);
        });
        CHECK(status == SIMDNORM_OK);
        CHECK(tensors.OnlyOutputsWritten());
        return tensors.Collect();
      });
    }
  }
}

// A draw of what can go around batch, group and instance norm.
ChannelProblem WithAnyFusions(ChannelProblem p, Choices& choices) {
  p = VaryAtRandom(p, choices);
  if (choices.Coin()) p = WithResidual(p);
  if (choices.Coin()) p = WithActivation(p, kActivations[choices.Below(kNumActivations)]);
  p = WithDtypes(p, {choices.FloatDtype(), choices.FloatDtype(), choices.FloatDtype(), choices.FloatDtype()});
  if (p.onto == Onto::kX && choices.Coin() && !p.residual.empty() && CanTakeThePlaceOf(p.y_dtype, p.residual_dtype)) {
    p.onto = Onto::kResidual;
  }
  const auto length = [&] { return static_cast<int64_t>(choices.Below(static_cast<uint64_t>(p.spatial) + 1)); };
  switch (choices.Below(3)) {
    case 0: {
      std::vector<int64_t> lengths;
      for (int64_t n = 0; n < p.batch; ++n) lengths.push_back(length());
      p = WithLengths(p, lengths);
      break;
    }
    case 1: {
      std::vector<uint8_t> mask;
      for (int64_t i = 0; i < p.batch * p.spatial; ++i) mask.push_back(choices.Below(4) != 0);
      p = WithMask(p, mask);
      break;
    }
    default:
      return p;
  }
  if (choices.Coin() && !InitializationIsChecked()) p.padding = SIMDNORM_PADDING_UNTOUCHED;
  return p;
}

// Every operation in every layout it has; `ways` draws of each.
void CheckChannelEdges(const ChannelShape& shape, int ways, Choices& choices) {
  for (const ChannelOp op : kChannelOps) {
    for (const simdnorm_layout layout : LayoutsOf(op)) {
      CheckEdges(WithDtypes(MakeProblem(op, shape, layout),
                            ChannelDtypes{choices.FloatDtype(), choices.FloatDtype(), SIMDNORM_F32, SIMDNORM_F32}));
      for (int way = 0; way < ways; ++way) CheckEdges(WithAnyFusions(MakeProblem(op, shape, layout), choices));
    }
  }
}

TEST_CASE("channels: every tail of positions") {
  Choices choices(1);
  for (const int64_t spatial : Sizes()) {
    if (SmallEffort() && spatial % 2 == 0) continue;
    CheckChannelEdges({1 + spatial % 2, 4, spatial, 2}, SmallEffort() ? 1 : 2, choices);
  }
  if (SmallEffort()) return;
  for (const int64_t spatial : LongSizes()) CheckChannelEdges({1, 2, spatial, 2}, 1, choices);
}

TEST_CASE("channels: every tail of channels") {
  Choices choices(2);
  for (const int64_t channels : Sizes()) {
    if (SmallEffort() && channels % 2 == 0) continue;
    CheckChannelEdges({2, channels, 1 + channels % 3, channels % 3 == 0 ? 3 : 1}, SmallEffort() ? 1 : 2, choices);
  }
}

// Calls call(x, y, options) for tensors of `size` elements at both edges, on every target.
template <class CallOn>
void CheckLarge(int64_t size, simdnorm_dtype dtype, const CallOn& call) {
  const GuardedBuffer x_at_end(size, kEdges[0], dtype), y_at_end(size, kEdges[0], dtype);
  const GuardedBuffer x_at_start(size, kEdges[1], dtype);
  GuardedBuffer y_at_start(size, kEdges[1], dtype);
  for (int64_t i = 0; i < size; ++i) x_at_end.Set(i, static_cast<float>(i * 7 % 251));
  x_at_start.CopyFrom(x_at_end);
  ForEachTarget([&](const char* target) {
    CAPTURE(std::string(target));
    const simdnorm_options options = AllExecutors()[0].Options(target);
    y_at_start.FillWithCanaries();
    CHECK(call(x_at_end.raw(), y_at_end.raw(), options) == SIMDNORM_OK);
    CHECK(call(x_at_start.raw(), y_at_start.raw(), options) == SIMDNORM_OK);
    CHECK(memcmp(y_at_end.raw(), y_at_start.raw(), static_cast<size_t>(BytesOf(dtype, size))) == 0);
    CHECK(y_at_end.OutsideIsUntouched());
    CHECK(y_at_start.OutsideIsUntouched());
  });
}

// Written past the caches, which only large outputs are: whole lines that way, and what is before and after them not.
TEST_CASE("outputs larger than the caches") {
  if (SmallEffort()) return;  // all that is large enough for it takes 33 MiB
  constexpr int64_t kBytes = 33 << 20;
  for (const simdnorm_dtype dtype : {SIMDNORM_F32, SIMDNORM_BF16}) {
    for (const int64_t cols : {999, 4101}) {
      const int64_t rows = kBytes / UnitBytes(dtype) / cols + 1;
      CAPTURE(cols);
      CheckLarge(rows * cols, dtype, [&](const void* x, void* y, const simdnorm_options& options) {
        simdnorm_layer_norm_args args = {};
        args.struct_size = sizeof(args);
        args.epsilon = 1e-5f;
        args.x_dtype = args.y_dtype = dtype;
        args.x = x, args.y = y;
        args.rows = rows, args.cols = cols;
        return simdnorm_layer_norm(&args, &options);
      });
    }
  }
  constexpr int64_t kBatch = 3, kChannels = 128, kSpatial = kBytes / 4 / (kBatch * kChannels) + 1;
  const std::vector<float> parameters(kChannels, 1.5f);
  for (const simdnorm_layout layout : {SIMDNORM_NCHW, SIMDNORM_NHWC}) {
    CAPTURE(layout);
    const auto check = [&](auto args, const auto& function) {
      args.struct_size = sizeof(args);
      args.epsilon = 1e-5f;
      args.layout = layout;
      args.batch = kBatch, args.channels = kChannels, args.spatial = kSpatial;
      CheckLarge(kBatch * kChannels * kSpatial, SIMDNORM_F32, [&](const void* x, void* y, const simdnorm_options& options) {
        args.x = x, args.y = y;
        return function(&args, &options);
      });
    };
    simdnorm_batch_norm_inference_args inference = {};
    inference.mean = inference.variance = parameters.data();
    check(inference, simdnorm_batch_norm_inference);
    simdnorm_group_norm_args group = {};
    group.groups = 2;
    check(group, simdnorm_group_norm);
  }
}

TEST_CASE("folded weights and biases") {
  for (const simdnorm_fold_position position : {SIMDNORM_FOLD_INTO_PRECEDING, SIMDNORM_FOLD_INTO_FOLLOWING}) {
    for (const int32_t transposed : {0, 1}) {
      for (int64_t size = 1; size <= 40; ++size) {
        // Layers with that many outputs, inputs and taps in turn, two groups where the numbers are even.
        const int64_t sizes[] = {size, 6, 4};
        const int64_t outputs = sizes[size % 3], inputs = sizes[(size + 1) % 3], kernel = sizes[(size + 2) % 3];
        const int64_t groups = outputs % 2 == 0 && inputs % 2 == 0 ? 2 : 1;
        std::vector<float> results[2];
        for (const Place edge : kEdges) {
          INFO("fold ", position, ' ', transposed, ": ", outputs, " outputs, ", inputs, " inputs, kernel ", kernel);
          const int64_t channels = position == SIMDNORM_FOLD_INTO_PRECEDING ? outputs : inputs;
          const int64_t weights = outputs * inputs / groups * kernel;
          GuardedBuffer mean(channels, edge), variance(channels, edge), scale(channels, edge), shift(channels, edge);
          GuardedBuffer weight(weights, edge), bias(outputs, edge);
          const GuardedBuffer folded_weight(weights, edge), folded_bias(outputs, edge);
          for (GuardedBuffer* input : {&mean, &variance, &scale, &shift, &weight, &bias}) {
            for (int64_t i = 0; i < input->size(); ++i) (*input)[i] = 0.5f + std::fabs(Normal(Seed(input->size(), i, 0)));
            input->MakeReadOnly();
          }
          simdnorm_fold_batch_norm_args args = {};
          args.struct_size = sizeof(args);
          args.epsilon = 1e-5f;
          args.position = position;
          args.transposed = transposed;
          args.mean = mean.data(), args.variance = variance.data();
          args.scale = scale.data(), args.shift = shift.data();
          args.weight = weight.data(), args.bias = bias.data();
          args.folded_weight = folded_weight.data(), args.folded_bias = folded_bias.data();
          args.out_channels = outputs, args.in_channels = inputs;
          args.kernel = kernel, args.groups = groups;
          CHECK(simdnorm_fold_batch_norm(&args, nullptr) == SIMDNORM_OK);
          CHECK(folded_weight.OutsideIsUntouched());
          CHECK(folded_bias.OutsideIsUntouched());
          std::vector<float>& result = results[edge.at_end ? 0 : 1];
          result.assign(folded_weight.data(), folded_weight.data() + weights);
          result.insert(result.end(), folded_bias.data(), folded_bias.data() + outputs);
        }
        CHECK(SameBits(results[0], results[1]));
      }
    }
  }
}

// A struct at an edge, or the first bytes of it.
template <class T>
class StructAtEdge {
 public:
  StructAtEdge(const T& value, size_t bytes, Place edge) : buffer_(static_cast<int64_t>(bytes), edge, SIMDNORM_U8) {
    memcpy(buffer_.raw(), &value, bytes);
  }
  const T* get() const { return static_cast<const T*>(buffer_.raw()); }

 private:
  GuardedBuffer buffer_;
};

// A caller that was built with an earlier version has shorter structs.
TEST_CASE("the arguments' structs, of this version and of the first") {
  const float x[] = {1, 2, 4};
  for (const size_t size : {sizeof(simdnorm_layer_norm_args), offsetof(simdnorm_layer_norm_args, scale_offset)}) {
    for (const Place edge : kEdges) {
      float y[3] = {};
      simdnorm_layer_norm_args args = {};
      args.struct_size = size;
      args.x = x, args.y = y;
      args.rows = 1, args.cols = 3;
      const simdnorm_options options = AllExecutors()[0].Options(nullptr);
      const StructAtEdge args_at_edge(args, size, edge);
      const StructAtEdge options_at_edge(options, sizeof(options), edge);
      CHECK(simdnorm_layer_norm(args_at_edge.get(), options_at_edge.get()) == SIMDNORM_OK);
      CHECK(y[2] > 1);
    }
  }
}

TEST_CASE("a message fills no more than its capacity") {
  for (const Place edge : kEdges) {
    for (int64_t capacity = 0; capacity <= 256; ++capacity) {
      const GuardedBuffer message(capacity, edge, SIMDNORM_U8);
      simdnorm_layer_norm_args args = {};
      args.struct_size = sizeof(args);
      args.rows = args.cols = -1;
      simdnorm_options options = AllExecutors()[0].Options(nullptr);
      options.message = static_cast<char*>(message.raw());
      options.message_capacity = static_cast<size_t>(capacity);
      CHECK(simdnorm_layer_norm(&args, &options) == SIMDNORM_INVALID_ARGUMENT);
      CHECK(message.OutsideIsUntouched());
      if (capacity != 0) CHECK(strlen(options.message) < static_cast<size_t>(capacity));
    }
  }
}

}  // namespace
}  // namespace simdnorm_test
