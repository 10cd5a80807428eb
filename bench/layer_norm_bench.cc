// Layer norm and RMS norm as a network calls them: with scale (and shift), without the statistics as outputs.
#include "cases.h"
#include "harness.h"

namespace simdnorm::bench {
namespace {

Result CallLayerNorm(const cases::RowsCase& shape, const Buffers& b, const Options& options) {
  return LayerNorm(b.x, b.y, shape.rows, shape.cols, {b.scale, b.shift}, options);
}

Result CallRMSNorm(const cases::RowsCase& shape, const Buffers& b, const Options& options) {
  return RMSNorm(b.x, b.y, shape.rows, shape.cols, {b.scale}, options);
}

}  // namespace

void RegisterLayerNorm(const Config& config) {
  for (const cases::RowsCase& shape : cases::kRowsCases) {
    RegisterCase("LayerNorm", shape, config, CallLayerNorm, &Peer::layer_norm);
  }
  for (const cases::RowsCase& shape : cases::kRowsCases) {
    RegisterCase("RMSNorm", shape, config, CallRMSNorm, &Peer::rms_norm);
  }
}

}  // namespace simdnorm::bench
