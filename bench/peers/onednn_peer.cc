// oneDNN's layer norm and batch norm, over its API of version 2 or 3. Primitives (its JIT code) and memory objects are made
// before the timing; a timed call is one execute. Layouts are plain: its blocked nChw16c is no layout of ours.
#include "peers/onednn_peer.h"

#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#include <utility>

namespace simdnorm::bench {
namespace {

using dnnl::memory;
using dnnl::normalization_flags;
using dnnl::prop_kind;

constexpr float kEpsilon = 1e-5f;

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory::desc TensorDesc(const cases::RowsCase& shape) {
  return {{shape.rows, shape.cols}, memory::data_type::f32, memory::format_tag::ab};
}

memory::desc TensorDesc(const cases::ChannelsCase& shape) {
  if (!shape.HasSpatial()) return {{shape.batch, shape.channels}, memory::data_type::f32, memory::format_tag::ab};
  const auto tag = shape.layout == SIMDNORM_NCHW ? memory::format_tag::nchw : memory::format_tag::nhwc;
  return {{shape.batch, shape.channels, shape.height, shape.width}, memory::data_type::f32, tag};
}

// A layer ready to run: Forward on x and y, scale and shift of `params` elements, and statistics where given.
template <class Forward>
PeerCall MakeCall(prop_kind kind, normalization_flags more_flags, const memory::desc& tensor, int64_t params, const Buffers& b,
                  float* mean, float* variance) {
  const auto flags = normalization_flags::use_scale | normalization_flags::use_shift | more_flags;
#if DNNL_VERSION_MAJOR >= 3
  const typename Forward::primitive_desc primitive_desc(Engine(), kind, tensor, tensor, kEpsilon, flags);
#else
  const typename Forward::primitive_desc primitive_desc(typename Forward::desc(kind, tensor, kEpsilon, flags), Engine());
#endif
  const memory::desc vector({params}, memory::data_type::f32, memory::format_tag::a);
  std::unordered_map<int, memory> args = {{DNNL_ARG_SRC, memory(tensor, Engine(), b.x)},
                                          {DNNL_ARG_DST, memory(tensor, Engine(), b.y)},
                                          {DNNL_ARG_SCALE, memory(vector, Engine(), b.scale)},
                                          {DNNL_ARG_SHIFT, memory(vector, Engine(), b.shift)}};
  if (mean != nullptr) args.emplace(DNNL_ARG_MEAN, memory(vector, Engine(), mean));
  if (variance != nullptr) args.emplace(DNNL_ARG_VARIANCE, memory(vector, Engine(), variance));
  return [forward = Forward(primitive_desc), args = std::move(args), stream = dnnl::stream(Engine())]() mutable {
    forward.execute(stream, args);
    stream.wait();
  };
}

PeerCall LayerNormCall(const cases::RowsCase& shape, const Buffers& b) {
  return MakeCall<dnnl::layer_normalization_forward>(prop_kind::forward_inference, normalization_flags::none, TensorDesc(shape),
                                                     shape.cols, b, nullptr, nullptr);
}

// The running statistics, which simdnorm's call updates too, are not part of oneDNN's.
PeerCall BatchNormTrainingCall(const cases::ChannelsCase& shape, const Buffers& b) {
  return MakeCall<dnnl::batch_normalization_forward>(prop_kind::forward_training, normalization_flags::none, TensorDesc(shape),
                                                     shape.channels, b, b.saved_mean, b.saved_rstd);
}

PeerCall BatchNormInferenceCall(const cases::ChannelsCase& shape, const Buffers& b) {
  return MakeCall<dnnl::batch_normalization_forward>(prop_kind::forward_inference, normalization_flags::use_global_stats,
                                                     TensorDesc(shape), shape.channels, b, b.mean, b.variance);
}

}  // namespace

Peer OneDnnPeer() { return {"oneDNN", LayerNormCall, nullptr, BatchNormTrainingCall, BatchNormInferenceCall}; }

}  // namespace simdnorm::bench
