// Valid calls out of a fuzzer's bytes, as the problems that the tests know (call.h, channel_problem.h), and checked as there: y
// and statistics against the reference, everything outside of them untouched, inputs not written. In addition all targets with
// fused multiply-add have to give the same bits. For call_fuzzer.cc.
#ifndef SIMDNORM_TEST_FUZZ_VALID_CALL_H_
#define SIMDNORM_TEST_FUZZ_VALID_CALL_H_

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <string>
#include <vector>

#include "channel_reference.h"
#include "mixed_problem.h"
#include "problem.h"
#include "unfused.h"

namespace simdnorm_test {

// Elements of a call at most: mostly few, to be fast; sometimes enough for calls that are shared among threads, and for rows
// and channels of several chunks.
inline int64_t MostElements(FuzzedDataProvider& bytes) { return bytes.ConsumeIntegral<uint8_t>() < 250 ? 500 : 40000; }

// A length within 1..most, mostly a short one.
inline int64_t Length(FuzzedDataProvider& bytes, int64_t most) {
  const bool is_short = bytes.ConsumeIntegral<uint8_t>() < 248;
  const int64_t length = is_short ? bytes.ConsumeIntegral<uint8_t>() % 80 : bytes.ConsumeIntegral<uint16_t>();
  return std::clamp<int64_t>(length, 1, most);
}

// Data on which the error bounds hold whatever is added to them and whatever dtype they are rounded to.
inline Data OrdinaryData(FuzzedDataProvider& bytes) {
  return bytes.PickValueInArray({Data::kNormal, Data::kMeanThousand, Data::kOutlierFirst, Data::kOutlierEnds, Data::kSorted});
}

inline float AnyEpsilon(FuzzedDataProvider& bytes) { return bytes.PickValueInArray({1e-5f, 1e-3f, 1e-12f, 2.0f}); }

// Calls run(target) -> Outputs on every target that promises the same bits.
template <class Run>
void CheckSameBitsOnTargets(const std::string& what, const Run& run) {
  std::optional<Outputs> first;
  ForEachTarget([&](const char* target) {
    if (!HasFusedMultiplyAdd(target)) return;
    const Outputs outputs = run(target);
    const std::string differences = first ? Differences(*first, outputs) : "";
    CHECK_MESSAGE(differences.empty(), differences << what << " on " << target);
    if (!first) first = outputs;
  });
}

// Layer norm and RMS norm.
inline void CheckValidRows(FuzzedDataProvider& bytes) {
  const Op op = bytes.PickValueInArray({Op::kLayerNorm, Op::kRMSNorm});
  const int64_t most = MostElements(bytes);
  int64_t cols = Length(bytes, most);
  if (bytes.ConsumeIntegral<uint8_t>() % 4 == 0 && cols * kBlock <= most) cols *= kBlock;  // for Q8_0
  const int64_t rows = Length(bytes, most / cols);
  const bool has_inner = bytes.ConsumeIntegral<uint8_t>() % 3 == 0;
  const int64_t inner = has_inner ? Length(bytes, std::max<int64_t>(1, most / cols / rows)) : 1;
  Problem p = MixedProblem(op, rows, cols, inner, bytes.ConsumeIntegral<uint32_t>());
  p.epsilon = AnyEpsilon(bytes);
  p.first_item = bytes.ConsumeIntegral<uint8_t>();
  p.data = OrdinaryData(bytes);
  if (!IsInteger(p.y_dtype)) CheckProblem(p);
  // Bits can be compared on any data.
  if (bytes.ConsumeBool()) p.data = static_cast<Data>(bytes.ConsumeIntegral<uint8_t>() % kNumData);
  CheckUnfused(p);
  CheckSameBitsOnTargets(Describe(p, "FMA"), [&](const char* target) { return RunSerial(p, target); });
}

inline ChannelShape AnyShape(FuzzedDataProvider& bytes) {
  ChannelShape shape = {1, 1, 1, 1};
  const int64_t most = MostElements(bytes);
  shape.channels = Length(bytes, most);
  shape.batch = Length(bytes, most / shape.channels);
  shape.spatial = Length(bytes, std::max<int64_t>(1, most / shape.channels / shape.batch));
  shape.groups = Length(bytes, shape.channels);
  while (shape.channels % shape.groups != 0) --shape.groups;
  return shape;
}

// Leaves out positions by lengths or a mask, or none.
inline ChannelProblem WithSomePositions(const ChannelProblem& p, FuzzedDataProvider& bytes) {
  std::vector<int64_t> lengths;
  std::vector<uint8_t> mask;
  switch (bytes.ConsumeIntegral<uint8_t>() % 4) {
    case 0:
      for (int64_t n = 0; n < p.batch; ++n) lengths.push_back(bytes.ConsumeIntegral<uint16_t>() % (p.spatial + 1));
      return WithLengths(p, lengths);
    case 1:
      for (int64_t i = 0; i < p.batch * p.spatial; ++i) mask.push_back(bytes.ConsumeIntegral<uint8_t>() & 0x55);
      return WithMask(p, mask);
    default:
      return p;
  }
}

inline ChannelProblem AnyChannelProblem(FuzzedDataProvider& bytes) {
  const ChannelOp op = bytes.PickValueInArray(kChannelOps);
  const std::vector<simdnorm_layout> layouts = LayoutsOf(op);
  const simdnorm_layout layout = layouts[bytes.ConsumeIntegral<uint8_t>() % layouts.size()];
  const ChannelShape shape = AnyShape(bytes);
  ChannelProblem p = MakeProblem(op, shape, layout, OrdinaryData(bytes));
  if (bytes.ConsumeBool()) p = WithResidual(p);
  p = WithActivation(p, bytes.PickValueInArray(kActivations));
  p.epsilon = AnyEpsilon(bytes);
  p.momentum = bytes.PickValueInArray({0.1f, 0.0f, 1.0f});
  p.padding = bytes.PickValueInArray({SIMDNORM_PADDING_ZERO, SIMDNORM_PADDING_UNTOUCHED});
  p = Vary(WithSomePositions(p, bytes), bytes.ConsumeIntegral<uint8_t>());
  if (!p.residual.empty() && bytes.ConsumeIntegral<uint8_t>() % 3 == 0) p.onto = Onto::kResidual;
  const auto dtype = [&] { return bytes.PickValueInArray(kFloatDtypes); };
  const simdnorm_dtype x = dtype(), y = dtype(), scale = dtype(), residual = dtype();
  return WithDtypes(p, {x, y, scale, residual});
}

// Batch, group and instance norm.
inline void CheckValidChannels(FuzzedDataProvider& bytes) {
  const ChannelProblem p = AnyChannelProblem(bytes);
  ChannelExpected expected = Reference(p);
  for (size_t i = 0; p.y_dtype != SIMDNORM_F32 && i < expected.y.value.size(); ++i) {
    expected.y.bound[i] += HalfUlp(p.y_dtype, std::fabs(expected.y.value[i]) + expected.y.bound[i]);
  }
  ChannelTensors tensors(p);
  ForEachTarget([&](const char* target) {
    ForExecutors(Executors::kInTurn, [&](const ExecutorCase& executor) {
      const Outputs actual = tensors.Run(executor.Options(target));
      const auto errors_of = [](const char* name, const Expectation& should_be, const std::vector<float>& is,
                                simdnorm_dtype dtype = SIMDNORM_F32) {
        return Compare(name, should_be.value, should_be.bound, is, dtype);
      };
      const std::string errors = errors_of("y", expected.y, actual.y, p.y_dtype) +
                                 errors_of("mean", expected.mean, actual.mean) + errors_of("rstd", expected.rstd, actual.rstd) +
                                 errors_of("running_mean", expected.running_mean, actual.running_mean) +
                                 errors_of("running_variance", expected.running_variance, actual.running_variance);
      CHECK_MESSAGE(errors.empty(), errors << Describe(p, target, executor.name));
    });
  });
  CheckSameBitsOnTargets(Describe(p, "FMA"),
                         [&](const char* target) { return tensors.Run(AllExecutors()[0].Options(target)); });
}

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_FUZZ_VALID_CALL_H_
