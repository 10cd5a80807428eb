// Makes one call of simdnorm whose instructions callgrind counts; `check`, beside this file, runs it and compares.
//
//     counted_call         # how it was built, then the names of the cases, one a line
//     counted_call NAME    # that case: a call that is not counted, for what happens only once, then one inside CountedCall
//
// Calls run on AVX2, the best target that valgrind knows, and on the calling thread. The names are those of the benches.
// Tensors begin with a page and hold ordinary numbers. They are so small that no cache's size decides how a call runs, or,
// once, so large.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "../cases.h"
#include "simdnorm/simdnorm.hpp"

constexpr size_t kPage = 4096;

// The name by which callgrind knows where to count. Its frame begins with a page, so that what lies above the stack, the
// environment and the program's path, does not decide how memcpy goes about the kernels' buffers there.
extern "C" [[gnu::noinline]] simdnorm_status CountedCall(const std::function<simdnorm::Result()>& call) {
  [[maybe_unused]] alignas(kPage) volatile char start_of_page = 0;
  return call().status();
}

namespace simdnorm::bench {
namespace {

using cases::ChannelsCase;
using cases::Dtypes;
using cases::kBf16;
using cases::kF32;
using cases::RowsCase;

constexpr int kUsageError = 2, kSkipped = 77;  // what Meson takes for a skipped test

constexpr int64_t kGroups = 32;
constexpr Options kOptions = {"AVX2", 1};

// Not zeroed. Held until the process ends, as all tensors are.
void* Allocate(size_t bytes) {
  void* const memory = std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
  if (memory == nullptr) std::abort();
  return memory;
}

// Spread evenly over center ± 1, in steps of 1/64, which bf16 holds below 4.
float* Filled(int64_t count, float center) {
  float* const tensor = static_cast<float*>(Allocate(cases::Bytes(SIMDNORM_F32, count)));
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t hash = static_cast<uint32_t>(i) * 2654435769u >> 25;  // multiples of the golden ratio, as good as random
    tensor[i] = center + (static_cast<float>(hash) - 64.0f) / 64.0f;
  }
  return tensor;
}

// f32, or bf16, which is its upper half.
Input FilledInput(simdnorm_dtype dtype, int64_t count, float center) {
  const float* const values = Filled(count, center);
  if (dtype == SIMDNORM_F32) return values;
  bf16* const tensor = static_cast<bf16*>(Allocate(cases::Bytes(dtype, count)));
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, values + i, sizeof(bits));
    tensor[i].bits = static_cast<uint16_t>(bits >> 16);
  }
  return tensor;
}

// What a call works on; what it does not use is there for nothing.
struct Tensors {
  Tensors(Dtypes dtypes, int64_t elements, int64_t params)
      : x(FilledInput(dtypes.x, elements, 0.25f)),
        residual(FilledInput(dtypes.x, elements, -0.5f)),
        scale(FilledInput(dtypes.x, params, 1.0f)),
        shift(FilledInput(dtypes.x, params, 0.0f)),
        y(Allocate(cases::Bytes(dtypes.y, elements)), dtypes.y),
        h(Allocate(cases::Bytes(dtypes.x, elements)), dtypes.x),
        mean(Filled(params, 0.0f)),
        variance(Filled(params, 2.0f)),
        saved_mean(Filled(params, 0.0f)),
        saved_rstd(Filled(params, 0.0f)) {}

  Input x, residual, scale, shift;
  Output y, h;
  float *mean, *variance;          // given or running statistics
  float *saved_mean, *saved_rstd;  // outputs
};

Result CallLayerNorm(const RowsCase& shape, const Tensors& t) {
  return LayerNorm(t.x, t.y, shape.rows, shape.cols, {t.scale, t.shift}, kOptions);
}

Result CallLayerNormSiLU(const RowsCase& shape, const Tensors& t) {
  LayerNormParams params{t.scale, t.shift};
  params.fusions.activation = SIMDNORM_SILU;
  return LayerNorm(t.x, t.y, shape.rows, shape.cols, params, kOptions);
}

Result CallAddRMSNorm(const RowsCase& shape, const Tensors& t) {
  RMSNormParams params{t.scale};
  params.fusions.residual = t.residual;
  params.fusions.h = t.h;
  return RMSNorm(t.x, t.y, shape.rows, shape.cols, params, kOptions);
}

Result CallTraining(const ChannelsCase& shape, const Tensors& t) {
  BatchNormTrainingParams params;
  params.scale = t.scale;
  params.shift = t.shift;
  params.mean = t.saved_mean;
  params.rstd = t.saved_rstd;
  params.running_mean = t.mean;
  params.running_variance = t.variance;
  return BatchNormTraining(t.x, t.y, shape.AsShape(), params, kOptions);
}

Result CallInference(const ChannelsCase& shape, const Tensors& t) {
  return BatchNormInference(t.x, t.y, shape.AsShape(), {t.mean, t.variance, t.scale, t.shift}, kOptions);
}

Result CallGroupNorm(const ChannelsCase& shape, const Tensors& t) {
  return GroupNorm(t.x, t.y, shape.AsShape(), shape.groups, {t.scale, t.shift}, kOptions);
}

struct CountedCase {
  std::string name;
  std::function<simdnorm_status()> run;  // both calls
};

template <class Shape>
CountedCase Make(const char* operation, Dtypes dtypes, const Shape& shape, Result (*call)(const Shape&, const Tensors&)) {
  const auto run = [=] {
    const Tensors tensors(dtypes, shape.Elements(), shape.Params());
    const std::function<Result()> bound = [&] { return call(shape, tensors); };
    const Result first = bound();
    if (!first) {
      std::fprintf(stderr, "%s\n", first.message());
      return first.status();
    }
    return CountedCall(bound);
  };
  return {std::string(operation) + "/" + dtypes.Name() + "/" + shape.Name(), run};
}

std::vector<CountedCase> Cases() {
  constexpr ChannelsCase kNchw = {8, 512, 7, 7, SIMDNORM_NCHW}, kNhwc = {8, 512, 7, 7, SIMDNORM_NHWC};
  constexpr ChannelsCase kBlocked = {8, 512, 7, 7, SIMDNORM_NCHW8C};
  constexpr ChannelsCase kNchwGroups = {8, 512, 7, 7, SIMDNORM_NCHW, kGroups};
  constexpr ChannelsCase kNhwcGroups = {8, 512, 7, 7, SIMDNORM_NHWC, kGroups};
  return {
      Make<RowsCase>("LayerNorm", kF32, {1, 16}, CallLayerNorm),       // what a call costs before it computes
      Make<RowsCase>("LayerNorm", kF32, {1, 768}, CallLayerNorm),      // one row
      Make<RowsCase>("LayerNorm", kF32, {1, 4096}, CallLayerNorm),     // a chunk
      Make<RowsCase>("LayerNorm", kF32, {64, 64}, CallLayerNorm),      // short rows
      Make<RowsCase>("LayerNorm", kF32, {333, 777}, CallLayerNorm),    // no multiple of a vector
      Make<RowsCase>("LayerNorm", kF32, {4096, 4096}, CallLayerNorm),  // written past the caches
      Make<RowsCase>("LayerNorm", kBf16, {1, 4096}, CallLayerNorm),    // with scale and shift as they lie
      Make<RowsCase>("LayerNorm", kBf16, {32, 4096}, CallLayerNorm),
      Make<RowsCase>("LayerNorm+SiLU", kF32, {32, 768}, CallLayerNormSiLU),
      Make<RowsCase>("AddRMSNorm", kF32, {32, 768}, CallAddRMSNorm),
      Make("BatchNormTraining", kF32, kNchw, CallTraining),
      Make("BatchNormTraining", kF32, kNhwc, CallTraining),
      Make("BatchNormTraining", kF32, kBlocked, CallTraining),  // many tiles of few channels
      Make("BatchNormInference", kF32, kNchw, CallInference),
      Make("BatchNormInference", kF32, kNhwc, CallInference),
      Make("GroupNorm", kF32, kNchwGroups, CallGroupNorm),
      Make("GroupNorm", kF32, kNhwcGroups, CallGroupNorm),
  };
}

int Main(int argc, char** argv) {
  const std::vector<CountedCase> counted_cases = Cases();
  if (argc == 1) {
    std::puts(SIMDNORM_BUILD);
    for (const CountedCase& counted : counted_cases) std::puts(counted.name.c_str());
    return 0;
  }
  for (const CountedCase& counted : counted_cases) {
    if (counted.name != argv[1]) continue;
    const simdnorm_status status = counted.run();
    return status == SIMDNORM_UNSUPPORTED ? kSkipped : status != SIMDNORM_OK;
  }
  std::fprintf(stderr, "counted_call: no case is called %s\n", argv[1]);
  return kUsageError;
}

}  // namespace
}  // namespace simdnorm::bench

int main(int argc, char** argv) { return simdnorm::bench::Main(argc, argv); }
