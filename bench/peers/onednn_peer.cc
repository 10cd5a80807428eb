// oneDNN's normalizations, over its API of version 2 or 3. Primitives (its JIT code) and memory objects are made before the
// timing; a timed call is one execute. Its scale and shift are f32 in every dtype of x.
//
// It also runs on tensors in its own layout, nChw16c, which it prefers for images: reordered before the timing, and back after
// it.
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "peers.h"

namespace simdnorm::bench {
namespace {

using dnnl::memory;
using dnnl::normalization_flags;
using dnnl::prop_kind;

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory::data_type DataType(simdnorm_dtype dtype) {
  return dtype == SIMDNORM_BF16  ? memory::data_type::bf16
         : dtype == SIMDNORM_F16 ? memory::data_type::f16
                                 : memory::data_type::f32;
}

memory::desc XDesc(const cases::RowsCase& shape, const Tensors& t) {
  return {{shape.rows, shape.cols}, DataType(t.dtypes.x), memory::format_tag::ab};
}

memory::format_tag Tag(const cases::ChannelsCase& shape) {
  constexpr memory::format_tag kTags[] = {memory::format_tag::nchw, memory::format_tag::nhwc, memory::format_tag::nChw8c,
                                          memory::format_tag::nChw16c};
  return shape.HasSpatial() ? kTags[shape.layout] : memory::format_tag::ab;
}

memory::desc XDesc(const cases::ChannelsCase& shape, const Tensors& t, memory::format_tag tag) {
  const memory::data_type type = DataType(t.dtypes.x);
  if (!shape.HasSpatial()) return {{shape.batch, shape.channels}, type, tag};
  return {{shape.batch, shape.channels, shape.height, shape.width}, type, tag};
}

// oneDNN takes what it only reads without const.
memory Memory(const memory::desc& desc, const void* data) { return {desc, Engine(), const_cast<void*>(data)}; }

// A layer on `scales` elements of scale and shift, and statistics where given. `make(x)` is its primitive's description for x
// as `inside` describes it; x and y lie as `outside` does, and are copied where the two differ.
template <class Forward, class Make>
ReadyLayer Ready(const memory::desc& outside, const memory::desc& inside, int64_t scales, const Tensors& t, const float* mean,
                 const float* variance, const Make& make) try {
  const Forward forward(make(inside));
  dnnl::stream stream(Engine());
  memory x = Memory(outside, t.x.data), y = Memory(outside, t.y.data);
  std::function<void()> write_y;
  if (inside != outside) {
    memory own_x(inside, Engine()), own_y(inside, Engine());
    dnnl::reorder(x, own_x).execute(stream, x, own_x);
    stream.wait();
    write_y = [reorder = dnnl::reorder(own_y, y), stream, own_y, y]() mutable {
      reorder.execute(stream, own_y, y);
      stream.wait();
    };
    x = own_x;
    y = own_y;
  }
  const Tensors in_f32 = Tensors::Get(cases::kF32, 0);
  const memory::desc vector({scales}, memory::data_type::f32, memory::format_tag::a);
  std::unordered_map<int, memory> args = {{DNNL_ARG_SRC, x},
                                          {DNNL_ARG_DST, y},
                                          {DNNL_ARG_SCALE, Memory(vector, in_f32.scale.data)},
                                          {DNNL_ARG_SHIFT, Memory(vector, in_f32.shift.data)}};
  if (mean != nullptr) args.emplace(DNNL_ARG_MEAN, Memory(vector, mean));
  if (variance != nullptr) args.emplace(DNNL_ARG_VARIANCE, Memory(vector, variance));
  const auto run = [forward, args, stream]() mutable {
    forward.execute(stream, args);
    stream.wait();
  };
  return {run, write_y};
} catch (const dnnl::error& error) {
  if (error.status == dnnl_unimplemented) return {};  // in this dtype, on this machine
  throw;
}

// The description of Forward's primitive, whose arguments after the tensors are as given.
template <class Forward, class... Arguments>
typename Forward::primitive_desc Description(prop_kind kind, const memory::desc& x, Arguments... arguments) {
#if DNNL_VERSION_MAJOR >= 3
  return {Engine(), kind, x, x, arguments...};
#else
  return {typename Forward::desc(kind, x, arguments...), Engine()};
#endif
}

const auto kScaleAndShift = normalization_flags::use_scale | normalization_flags::use_shift;

ReadyLayer ReadyRows(const cases::RowsCase& shape, const Tensors& t, normalization_flags flags) {
  using Forward = dnnl::layer_normalization_forward;
  return Ready<Forward>(XDesc(shape, t), XDesc(shape, t), shape.cols, t, nullptr, nullptr, [=](const memory::desc& x) {
    return Description<Forward>(prop_kind::forward_inference, x, kPeerEpsilon, flags);
  });
}

ReadyLayer LayerNorm(const cases::RowsCase& shape, const Tensors& t, int) { return ReadyRows(shape, t, kScaleAndShift); }

// kTag is `any` for the case's own layout, or another, for cases in NCHW.
template <memory::format_tag kTag>
ReadyLayer ReadyBatchNorm(const cases::ChannelsCase& shape, const Tensors& t, prop_kind kind, normalization_flags flags,
                          const float* mean, const float* variance) {
  using Forward = dnnl::batch_normalization_forward;
  const memory::desc outside = XDesc(shape, t, Tag(shape));
  const memory::desc inside = kTag == memory::format_tag::any ? outside : XDesc(shape, t, kTag);
  return Ready<Forward>(outside, inside, shape.channels, t, mean, variance, [=](const memory::desc& x) {
    return Description<Forward>(kind, x, kPeerEpsilon, kScaleAndShift | flags);
  });
}

// The running statistics, which simdnorm's call updates too, are not part of oneDNN's.
template <memory::format_tag kTag>
ReadyLayer BatchNormTraining(const cases::ChannelsCase& shape, const Tensors& t, int) {
  return ReadyBatchNorm<kTag>(shape, t, prop_kind::forward_training, normalization_flags::none, t.saved_mean, t.saved_rstd);
}

template <memory::format_tag kTag>
ReadyLayer BatchNormInference(const cases::ChannelsCase& shape, const Tensors& t, int) {
  return ReadyBatchNorm<kTag>(shape, t, prop_kind::forward_inference, normalization_flags::use_global_stats, t.mean,
                              t.variance);
}

#ifdef SIMDNORM_BENCH_ONEDNN_RMS_NORM
ReadyLayer RMSNorm(const cases::RowsCase& shape, const Tensors& t, int) {
  return ReadyRows(shape, t, normalization_flags::rms_norm | normalization_flags::use_scale);
}
#endif

#if DNNL_VERSION_MAJOR >= 3
ReadyLayer GroupNorm(const cases::ChannelsCase& shape, const Tensors& t, int) {
  using Forward = dnnl::group_normalization_forward;
  const memory::desc x = XDesc(shape, t, Tag(shape));
  return Ready<Forward>(x, x, shape.channels, t, nullptr, nullptr, [&](const memory::desc& x_desc) {
    return Description<Forward>(prop_kind::forward_inference, x_desc, shape.groups, kPeerEpsilon, kScaleAndShift);
  });
}
#endif

// Whether this version on this machine has the dtype at all.
bool HasDtype(simdnorm_dtype dtype) try {
  const memory::desc x({1, 16}, DataType(dtype), memory::format_tag::ab);
  Description<dnnl::layer_normalization_forward>(prop_kind::forward_inference, x, kPeerEpsilon, kScaleAndShift);
  return true;
} catch (const dnnl::error&) {
  return false;
}

}  // namespace

std::vector<Peer> OneDnnPeers() {
  const dnnl_version_t* const version = dnnl_version();
  Peer plain;
  plain.name = "oneDNN";
  plain.version = std::to_string(version->major) + "." + std::to_string(version->minor) + "." + std::to_string(version->patch);
  for (const simdnorm_dtype dtype : {SIMDNORM_F32, SIMDNORM_BF16, SIMDNORM_F16}) {
    if (HasDtype(dtype)) plain.dtypes.push_back(dtype);
  }
  plain.takes = [](const cases::ChannelsCase&, simdnorm_dtype) { return true; };
  plain.layer_norm = LayerNorm;
  plain.batch_norm_training = BatchNormTraining<memory::format_tag::any>;
  plain.batch_norm_inference = BatchNormInference<memory::format_tag::any>;
  Peer blocked;
  blocked.name = "oneDNN:nChw16c";
  blocked.version = plain.version;
  blocked.dtypes = plain.dtypes;
  blocked.takes = [](const cases::ChannelsCase& shape, simdnorm_dtype) {
    return shape.layout == SIMDNORM_NCHW && shape.HasSpatial();
  };
  blocked.batch_norm_training = BatchNormTraining<memory::format_tag::nChw16c>;
  blocked.batch_norm_inference = BatchNormInference<memory::format_tag::nChw16c>;
#ifdef SIMDNORM_BENCH_ONEDNN_RMS_NORM
  plain.rms_norm = RMSNorm;
#endif
#if DNNL_VERSION_MAJOR >= 3
  plain.group_norm = GroupNorm;
#endif
  return {plain, blocked};
}

}  // namespace simdnorm::bench
