#include "channels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "channels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// The above compiles this file once for every target.
#include "hwy/highway.h"
#include "simd/channels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

ChannelKernels CentredChannelKernels() { return MakeChannelKernels<true>(); }
ChannelKernels MeanSquareChannelKernels() { return MakeChannelKernels<false>(); }
Kernel GivenChannelKernel() { return NormalizeRowsOfChannels; }

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>

#include "validate.h"

namespace simdnorm {

HWY_EXPORT(CentredChannelKernels);
HWY_EXPORT(MeanSquareChannelKernels);
HWY_EXPORT(GivenChannelKernel);

namespace {

// Shares the row chunks of some channels after the other. Not inline: its frame is not for calls that share nothing.
HWY_NOINLINE void RunShared(const Executor& executor, const ChannelKernels& kernels, const ChannelNorm& norm) {
  MomentsOf<kItems> moments[kMaxGroups * kSharedTileStrips];
  Normalizers normalizers[kSharedTileStrips];
  constexpr int64_t kSharedTile = kSharedTileStrips * kItems;
  const int64_t channels = norm.Channels(0), rows = norm.Rows(), groups = norm.Chunks(rows).groups;
  for (int64_t first = 0; first < channels; first += kSharedTile) {
    const int64_t count = std::min(kSharedTile, channels - first);
    SharedChannels shared = {&norm, first, count, moments, normalizers, false};
    const auto gather = [&] {
      ParallelFor(executor, groups, rows / groups * count, kernels.moments, &shared);
      ParallelFor(executor, 1, groups * count, kernels.finish, &shared);
    };
    gather();
    for (int64_t c = 0; c < count; ++c) shared.in_double |= normalizers[c / kItems].in_double[c % kItems];
    if (shared.in_double) gather();
    ParallelFor(executor, 1, count, kernels.save, &shared);
    ParallelFor(executor, rows, count, kernels.write, &shared);
  }
}

}  // namespace

void RunChannels(const CallOptions& options, Statistics statistics, const ChannelNorm& norm) {
  const ChannelKernels kernels = statistics == Statistics::kMeanSquare
                                     ? HWY_DISPATCH_TABLE(MeanSquareChannelKernels)[options.target_index]()
                                     : HWY_DISPATCH_TABLE(CentredChannelKernels)[options.target_index]();
  const int64_t units = norm.outer * UnitsPerOuter(norm), rows = norm.Rows();
  const bool shareable = norm.outer == 1 && norm.channels_per_group == 1 && norm.validity.All();
  if (shareable && norm.Chunks(rows).groups > 1 && units < NumThreads(options.executor)) {
    RunShared(options.executor, kernels, norm);
  } else {
    ParallelFor(options.executor, units, rows * UnitChannels(norm), kernels.normalize, &norm);
  }
}

void RunGivenChannels(const CallOptions& options, const ChannelNorm& norm) {
  const int64_t tiles = norm.TilesPerOuter();
  ParallelFor(options.executor, norm.outer * tiles * norm.Rows(), norm.channels / tiles,
              HWY_DISPATCH_TABLE(GivenChannelKernel)[options.target_index](), &norm);
}

}  // namespace simdnorm
#endif  // HWY_ONCE
