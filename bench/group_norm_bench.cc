// Group norm and instance norm as networks call them: with scale and shift, without the statistics as outputs; group norm with
// the activation that follows it in diffusion models, and where only a part of the positions count, too.
#include <cstdint>
#include <vector>

#include "cases.h"
#include "harness.h"

namespace simdnorm::bench {
namespace {

using cases::ChannelsCase;
using cases::kBf16;
using cases::kF16;
using cases::kF32;

Result CallGroupNorm(const ChannelsCase& shape, const Tensors& t, const Options& options) {
  return GroupNorm(t.x, t.y, shape.AsShape(), shape.groups, {t.scale, t.shift}, options);
}

Result CallGroupNormSiLU(const ChannelsCase& shape, const Tensors& t, const Options& options) {
  GroupNormParams params{t.scale, t.shift};
  params.fusions.activation = SIMDNORM_SILU;
  return GroupNorm(t.x, t.y, shape.AsShape(), shape.groups, params, options);
}

// y has zeros for what does not count, here and below. The copy beside it moves all of x and y.
Result CallPaddedGroupNorm(const ChannelsCase& shape, const Tensors& t, const Options& options) {
  const std::vector<int64_t> lengths = cases::HalfLengths(shape.batch, shape.height * shape.width);
  GroupNormParams params{t.scale, t.shift};
  params.fusions.lengths = lengths.data();
  return GroupNorm(t.x, t.y, shape.AsShape(), shape.groups, params, options);
}

Result CallMaskedGroupNorm(const ChannelsCase& shape, const Tensors& t, const Options& options) {
  GroupNormParams params{t.scale, t.shift};
  params.fusions.mask = t.mask;
  return GroupNorm(t.x, t.y, shape.AsShape(), shape.groups, params, options);
}

Result CallInstanceNorm(const ChannelsCase& shape, const Tensors& t, const Options& options) {
  return InstanceNorm(t.x, t.y, shape.AsShape(), {t.scale, t.shift}, options);
}

// A group's planes, or a line of channels side by side; instance norm's groups are channels.
Units GroupUnits(const ChannelsCase& shape, size_t element_bytes) {
  constexpr size_t kLine = 64;
  const auto batch = static_cast<size_t>(shape.batch), plane = static_cast<size_t>(shape.height * shape.width);
  const size_t image = static_cast<size_t>(shape.Elements()) / batch * element_bytes;
  if (shape.layout == SIMDNORM_NHWC) return {kLine, plane, image / plane, image / plane, batch, image};
  const int64_t groups = shape.groups == 0 ? shape.channels : shape.groups;
  return {image / static_cast<size_t>(groups), 1, 0, batch * image, 1, 0};
}

}  // namespace

void RegisterGroupNorm(const Config& config) {
  constexpr Traffic kPlain = {1, 1};
  const Operation<ChannelsCase> table[] = {
      {"GroupNorm", {kF32, kBf16, kF16}, cases::kGroupCases, CallGroupNorm, kPlain, &Peer::group_norm, GroupUnits},
      {"GroupNorm+SiLU", {kF32, kBf16}, cases::kGroupCases, CallGroupNormSiLU, kPlain},
      {"PaddedGroupNorm", {kF32, kBf16}, cases::kRecordingCases, CallPaddedGroupNorm, kPlain},
      {"MaskedGroupNorm", {kF32, kBf16}, cases::kGroupCases, CallMaskedGroupNorm, kPlain},
      {"InstanceNorm", {kF32, kBf16}, cases::kInstanceCases, CallInstanceNorm, kPlain, nullptr, GroupUnits},
  };
  Register(table, config);
}

}  // namespace simdnorm::bench
