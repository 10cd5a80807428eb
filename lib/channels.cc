#include "channels.h"

#include <algorithm>

namespace simdnorm {

void RunChannels(const Executor& executor, const ChannelKernels& kernels, const ChannelNorm& norm) {
  const int64_t strips = (norm.channels + kItems - 1) / kItems, groups = norm.Chunks().groups;
  if (groups == 1 || strips >= NumThreads(executor)) {
    ParallelFor(executor, strips, norm.rows * kItems, kernels.normalize, &norm);
    return;
  }
  MomentsOf<kItems> moments[kMaxGroups * kSharedTileStrips];
  Normalizers normalizers[kSharedTileStrips];
  constexpr int64_t kTile = kSharedTileStrips * kItems;
  for (int64_t first = 0; first < norm.channels; first += kTile) {
    const int64_t count = std::min(kTile, norm.channels - first);
    SharedChannels shared = {&norm, first, count, moments, normalizers, false};
    const auto gather = [&] {
      ParallelFor(executor, groups, norm.rows / groups * count, kernels.moments, &shared);
      ParallelFor(executor, 1, groups * count, kernels.finish, &shared);
    };
    gather();
    for (int64_t c = 0; c < count; ++c) shared.in_double |= normalizers[c / kItems].in_double[c % kItems];
    if (shared.in_double) gather();
    ParallelFor(executor, 1, count, kernels.save, &shared);
    ParallelFor(executor, norm.rows, count, kernels.write, &shared);
  }
}

}  // namespace simdnorm
