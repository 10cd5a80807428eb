#include "channels.h"

#include <algorithm>

namespace simdnorm {

void RunChannels(const Executor& executor, const ChannelKernels& kernels, const ChannelNorm& norm) {
  const int64_t strips = (norm.channels + kChannelStrip - 1) / kChannelStrip, groups = norm.Chunks().groups;
  if (groups == 1 || strips >= NumThreads(executor)) {
    ParallelFor(executor, strips, norm.rows * kChannelStrip, kernels.normalize, &norm);
    return;
  }
  Moments moments[kMaxGroups * kSharedChannelTile];
  Normalizer normalizers[kSharedChannelTile];
  for (int64_t first = 0; first < norm.channels; first += kSharedChannelTile) {
    const int64_t count = std::min(kSharedChannelTile, norm.channels - first);
    SharedChannels shared = {&norm, first, count, moments, normalizers};
    ParallelFor(executor, groups, norm.rows / groups * count, kernels.moments, &shared);
    ParallelFor(executor, 1, groups * count, kernels.finish, &shared);
    ParallelFor(executor, norm.rows, count, kernels.write, &shared);
  }
}

}  // namespace simdnorm
