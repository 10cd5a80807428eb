#include "sequences.h"

#include <algorithm>

namespace simdnorm {

void RunSequences(const Executor& executor, const SequenceKernels& kernels, const SequenceNorm& norm, int64_t sequences) {
  const Grouping grouping = norm.Chunks();
  const int64_t elements = norm.planes * norm.length;
  if (grouping.groups == 1 || sequences >= NumThreads(executor)) {
    ParallelFor(executor, sequences, elements, kernels.normalize, &norm);
    return;
  }
  Moments moments[kMaxGroups];
  Normalizers normalizers;
  const int64_t batch = std::min(kItems, kMaxGroups / grouping.groups), elements_per_group = elements / grouping.groups;
  for (int64_t first = 0; first < sequences; first += batch) {
    const int64_t count = std::min(batch, sequences - first), groups = count * grouping.groups;
    SharedSequences shared = {&norm, first, count, moments, &normalizers, false};
    const auto gather = [&] {
      ParallelFor(executor, groups, elements_per_group, kernels.moments, &shared);
      ParallelFor(executor, 1, groups, kernels.finish, &shared);
    };
    gather();
    for (int64_t i = 0; i < count; ++i) shared.in_double |= normalizers.in_double[i];
    if (shared.in_double) gather();
    ParallelFor(executor, 1, count, kernels.save, &shared);
    ParallelFor(executor, groups, elements_per_group, kernels.write, &shared);
  }
}

}  // namespace simdnorm
