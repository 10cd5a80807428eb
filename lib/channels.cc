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

const ChannelKernels& ChannelKernelsFor(Statistics statistics) {
  return statistics == Statistics::kMeanSquare ? kChannelKernels<false> : kChannelKernels<true>;
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>

#include "validate.h"

namespace simdnorm {

HWY_EXPORT(ChannelKernelsFor);

namespace {

// Of the call's target.
const ChannelKernels& KernelsFor(const CallOptions& options, Statistics statistics) {
  return HWY_DISPATCH_TABLE(ChannelKernelsFor)[options.target_index](statistics);
}

// The bytes of a row that a thread writes, below which it better writes whole rows, in the caches: where threads take parts of
// a row, one's processor fetches what another is about to write.
constexpr int64_t kLeastRowBytes = 4096;

// Finds the normalizers of `all` by sharing the sections of the rows, some strips after the other: as many as there is room for
// when each thread has a section. Not inline: a large frame.
HWY_NOINLINE void ShareSections(const Executor& executor, const ChannelKernels& kernels, const SharedChannels& all) {
  MomentsOf<kItems> moments[kSharedMoments], totals[kSharedStrips];
  const int64_t rows = all.norm->Rows(), sections = all.norm->ChunkSections(rows).count;
  const int64_t room = std::clamp<int64_t>(kSharedMoments / NumThreads(executor), kSharedMoments / kMaxSections, kSharedStrips);
  const int64_t strips = std::min(room, CeilDiv(all.count, kItems));
  const int64_t fit = kSharedMoments / strips, most = CeilDiv(sections, CeilDiv(sections, fit));
  for (int64_t done = 0; done < all.count; done += strips * kItems) {
    const int64_t count = std::min(strips * kItems, all.count - done);
    SharedChannels shared = {all.norm, all.first + done, count, all.normalizers + done / kItems};
    shared.moments = moments, shared.totals = totals;
    const auto gather = [&] {
      for (MomentsOf<kItems>& total : totals) total.count = 0;
      for (int64_t section = 0; section < sections; section += shared.num_sections) {
        shared.first_section = section, shared.num_sections = std::min(most, sections - section);
        ParallelFor(executor, shared.num_sections, rows / sections * count, kernels.moments, &shared);
        ParallelFor(executor, 1, shared.num_sections * count, kernels.finish, &shared);
      }
    };
    gather();
    shared.in_double = AnyInDouble(shared.normalizers, count);
    if (shared.in_double) gather();
    ParallelFor(executor, 1, count, kernels.save, &shared);
  }
}

// The one problem there is, some channels after the other, kMost of them at most: threads find their normalizers, each from
// some sections of the rows or for some of the channels, and then each write some rows. (More channels at a time are fewer
// times that threads wait for each other.) Not inline: its frame is not for calls that share nothing.
template <int64_t kMost, int64_t kMostItems>
HWY_NOINLINE void RunTogether(const Executor& executor, const ChannelKernels& kernels, const ChannelNorm& norm,
                              bool by_sections) {
  Normalizers normalizers[kMostItems / kItems];  // of channels, or of the groups that they make up
  const int64_t unit = UnitChannels(norm), step = kMost / unit * unit, channels = norm.Channels(0);
  for (int64_t first = 0; first < channels; first += step) {
    const int64_t count = std::min(step, channels - first);
    SharedChannels shared = {&norm, first, count, normalizers};
    if (by_sections) {
      ShareSections(executor, kernels, shared);
    } else {
      ParallelFor(executor, CeilDiv(count, unit), norm.Rows() * unit, kernels.normalizers, &shared);
    }
    ParallelFor(executor, norm.Rows(), count, kernels.write, &shared);
  }
}

}  // namespace

void RunChannels(const CallOptions& options, Statistics statistics, const ChannelNorm& norm) {
  const ChannelKernels& kernels = KernelsFor(options, statistics);
  const int64_t units = norm.outer * UnitsPerOuter(norm), rows = norm.Rows();
  const bool one_problem = norm.outer == 1 && norm.channels_per_group <= kTile, by_channel = norm.channels_per_group == 1;
  const int64_t threads = one_problem ? NumThreads(options.executor) : 1;
  // Sections of rows are shared where channels are too few to be; and where memory is behind and all of a row can be taken at a
  // time, as it lies there (measured, in time: 0.7 to 0.8 of a half of each row for each of two threads; 1.1 in caches).
  const int64_t sections = norm.ChunkSections(rows).count;
  const bool by_sections =
      threads > 1 && by_channel && norm.validity.All() &&
      (units < threads ? sections > 1 : norm.overflows && norm.channels <= kSharedStrips * kItems && sections >= 4 * threads);
  // Whole rows are written where threads would write parts of them, and where a row is more than a tile, so that one thread
  // would. Measured (AVX2, one thread and two, 640 to 1024 channels), from memory: f32 0.67 to 1 of the time, bf16 0.65 to
  // 0.86; in L3 0.84 to 0.98, in L2 0.93 to 1.03. Threads that have more channels wait for each other more often: from memory
  // 0.82 to 0.98, in caches 1.1 to 2. Groups are taken as many as make up one tile, which has to be work for all threads
  // (measured, two threads: large groups one after the other took 1.1 to 1.7 times as long).
  const bool more_than_a_tile = one_problem && by_channel && norm.channels > kTile;
  const bool narrow = Bytes(norm.y.dtype, norm.channels) < threads * kLeastRowBytes;
  const bool enough = by_channel || kTile / UnitChannels(norm) >= std::min(units, threads);
  const bool whole_rows = (threads > 1 && narrow && enough) || (more_than_a_tile && (threads == 1 || norm.overflows));
  if (by_sections || whole_rows) {
    // As many channels as there is stack for.
    const auto run = by_sections  ? RunTogether<kTile, kTile>
                     : by_channel ? RunTogether<kWriteTile, kWriteTile>
                                  : RunTogether<kTile, kMaxGroupsOfTile>;
    run(options.executor, kernels, norm, by_sections);
  } else {
    ParallelFor(options.executor, units, rows * UnitChannels(norm), kernels.normalize, &norm);
  }
}

void RunGivenChannels(const CallOptions& options, const ChannelNorm& norm) {
  // Rows are shared, or parts of few: a processor's cache has those that it wrote, or is about to read, when the steps before
  // and after are shared alike. (With channels to share, 128 x 1024 took 1.6 to 7 times as long on two threads.)
  const int64_t tiles = norm.GivenTilesPerOuter();
  ParallelFor(options.executor, norm.outer * tiles * norm.Rows(), norm.channels / tiles,
              KernelsFor(options, Statistics::kMeanAndVariance).given, &norm);
}

}  // namespace simdnorm
#endif  // HWY_ONCE
