// oneDNN's layer norm and batch norm, over its API of version 2 or 3. Primitives (its JIT code) and memory objects are made
// before the timing; a timed call is one execute. Its scale and shift are f32 in every dtype of x.
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

memory::data_type DataType(simdnorm_dtype dtype) {
  return dtype == SIMDNORM_BF16  ? memory::data_type::bf16
         : dtype == SIMDNORM_F16 ? memory::data_type::f16
                                 : memory::data_type::f32;
}

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory::desc XDesc(const cases::RowsCase& shape, const Tensors& t) {
  return {{shape.rows, shape.cols}, DataType(t.dtypes.x), memory::format_tag::ab};
}

memory::desc XDesc(const cases::ChannelsCase& shape, const Tensors& t) {
  const memory::data_type type = DataType(t.dtypes.x);
  if (!shape.HasSpatial()) return {{shape.batch, shape.channels}, type, memory::format_tag::ab};
  constexpr memory::format_tag kTags[] = {memory::format_tag::nchw, memory::format_tag::nhwc, memory::format_tag::nChw8c,
                                          memory::format_tag::nChw16c};
  return {{shape.batch, shape.channels, shape.height, shape.width}, type, kTags[shape.layout]};
}

// A layer ready to run: Forward on x and y, scale and shift of `params` elements, and statistics where given.
template <class Forward>
PeerCall MakeCall(prop_kind kind, normalization_flags more_flags, const memory::desc& x, int64_t params, const Tensors& t,
                  float* mean, float* variance) try {
  const auto flags = normalization_flags::use_scale | normalization_flags::use_shift | more_flags;
#if DNNL_VERSION_MAJOR >= 3
  const typename Forward::primitive_desc primitive_desc(Engine(), kind, x, x, kEpsilon, flags);
#else
  const typename Forward::primitive_desc primitive_desc(typename Forward::desc(kind, x, kEpsilon, flags), Engine());
#endif
  const Tensors in_f32 = Tensors::Get(cases::kF32, 0);
  const memory::desc vector({params}, memory::data_type::f32, memory::format_tag::a);
  // oneDNN takes what it only reads without const.
  std::unordered_map<int, memory> args = {{DNNL_ARG_SRC, memory(x, Engine(), const_cast<void*>(t.x.data))},
                                          {DNNL_ARG_DST, memory(x, Engine(), t.y.data)},
                                          {DNNL_ARG_SCALE, memory(vector, Engine(), const_cast<void*>(in_f32.scale.data))},
                                          {DNNL_ARG_SHIFT, memory(vector, Engine(), const_cast<void*>(in_f32.shift.data))}};
  if (mean != nullptr) args.emplace(DNNL_ARG_MEAN, memory(vector, Engine(), mean));
  if (variance != nullptr) args.emplace(DNNL_ARG_VARIANCE, memory(vector, Engine(), variance));
  return [forward = Forward(primitive_desc), args = std::move(args), stream = dnnl::stream(Engine())]() mutable {
    forward.execute(stream, args);
    stream.wait();
  };
} catch (const dnnl::error& error) {
  if (error.status == dnnl_unimplemented) return nullptr;  // in this dtype, on this machine
  throw;
}

PeerCall LayerNormCall(const cases::RowsCase& shape, const Tensors& t) {
  return MakeCall<dnnl::layer_normalization_forward>(prop_kind::forward_inference, normalization_flags::none, XDesc(shape, t),
                                                     shape.cols, t, nullptr, nullptr);
}

// The running statistics, which simdnorm's call updates too, are not part of oneDNN's.
PeerCall BatchNormTrainingCall(const cases::ChannelsCase& shape, const Tensors& t) {
  return MakeCall<dnnl::batch_normalization_forward>(prop_kind::forward_training, normalization_flags::none, XDesc(shape, t),
                                                     shape.channels, t, t.saved_mean, t.saved_rstd);
}

PeerCall BatchNormInferenceCall(const cases::ChannelsCase& shape, const Tensors& t) {
  return MakeCall<dnnl::batch_normalization_forward>(prop_kind::forward_inference, normalization_flags::use_global_stats,
                                                     XDesc(shape, t), shape.channels, t, t.mean, t.variance);
}

}  // namespace

Peer OneDnnPeer() { return {"oneDNN", LayerNormCall, nullptr, BatchNormTrainingCall, BatchNormInferenceCall}; }

}  // namespace simdnorm::bench
