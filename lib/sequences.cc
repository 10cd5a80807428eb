#include "sequences.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sequences.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// The above compiles this file once for every target.
#include "hwy/highway.h"
#include "simd/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

const SequenceKernels& SequenceKernelsFor(Statistics statistics) {
  return statistics == Statistics::kMeanSquare ? kSequenceKernels<false> : kSequenceKernels<true>;
}
void NormalizePlainRowsCentred(const void* args, int64_t begin, int64_t end) { NormalizePlainRows<true>(args, begin, end); }
void NormalizePlainRowsByMeanSquare(const void* args, int64_t begin, int64_t end) {
  NormalizePlainRows<false>(args, begin, end);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>

#include "validate.h"

namespace simdnorm {

HWY_EXPORT(SequenceKernelsFor);
HWY_EXPORT(NormalizePlainRowsCentred);
HWY_EXPORT(NormalizePlainRowsByMeanSquare);

namespace {

// Of the call's target.
const SequenceKernels& KernelsFor(const CallOptions& options, Statistics statistics) {
  return HWY_DISPATCH_TABLE(SequenceKernelsFor)[options.target_index](statistics);
}

}  // namespace

void RunSequences(const CallOptions& options, Statistics statistics, const SequenceNorm& norm, int64_t sequences) {
  const SequenceKernels& kernels = KernelsFor(options, statistics);
  const Executor& executor = options.executor;
  const Sections sections = norm.ChunkSections();
  const int64_t elements = norm.Elements();
  // A factor of a whole row, and what lies in no regular chunks, is not for sharing.
  const bool shareable = norm.validity.All() && !norm.row_lengths && !norm.epilogue.quant_scales;
  if (!shareable || sections.count == 1 || sequences >= NumThreads(executor)) {
    ParallelFor(executor, sequences, elements, kernels.normalize, &norm);
    return;
  }
  Moments moments[kMaxSections];
  Normalizers normalizers;
  const int64_t batch = std::min(kItems, kMaxSections / sections.count), elements_per_section = elements / sections.count;
  for (int64_t first = 0; first < sequences; first += batch) {
    const int64_t count = std::min(batch, sequences - first), units = count * sections.count;
    SharedSequences shared = {&norm, first, count, moments, &normalizers, false};
    const auto gather = [&] {
      ParallelFor(executor, units, elements_per_section, kernels.moments, &shared);
      ParallelFor(executor, 1, units, kernels.finish, &shared);
    };
    gather();
    shared.in_double = normalizers.AnyInDouble(count);
    if (shared.in_double) gather();
    ParallelFor(executor, 1, count, kernels.save, &shared);
    ParallelFor(executor, units, elements_per_section, kernels.write, &shared);
  }
}

void RunPlainRows(const CallOptions& options, Statistics statistics, const PlainRows& rows) {
  const Kernel kernel = statistics == Statistics::kMeanSquare
                            ? HWY_DISPATCH_TABLE(NormalizePlainRowsByMeanSquare)[options.target_index]
                            : HWY_DISPATCH_TABLE(NormalizePlainRowsCentred)[options.target_index];
  ParallelFor(options.executor, rows.rows, rows.cols, kernel, &rows);
}

void RunGivenSequences(const CallOptions& options, const SequenceNorm& norm) {
  const int64_t chunks = norm.ChunksPerPlane();
  ParallelFor(options.executor, norm.planes * norm.sequences_per_sample * chunks, norm.length / chunks,
              KernelsFor(options, Statistics::kMeanAndVariance).given, &norm);
}

}  // namespace simdnorm
#endif  // HWY_ONCE
