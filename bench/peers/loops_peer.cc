// The hand-written loops of loops.h as a peer.
#include <memory>

#include "peers/loops.h"
#include "peers/peers.h"

namespace simdnorm::bench {
namespace {

using loops::Bf16;
using loops::Images;

// f32 or bf16, as the case has it.
template <class Function>
ReadyLayer WithElement(const Tensors& t, const Function& ready) {
  return t.dtypes.x == SIMDNORM_BF16 ? ready(Bf16()) : ready(float());
}

template <class T>
const T* As(Input input) {
  return static_cast<const T*>(input.data);
}

template <class T>
T* As(Output output) {
  return static_cast<T*>(output.data);
}

Images ImagesOf(const cases::ChannelsCase& shape) {
  return {shape.batch, shape.channels, shape.height * shape.width, shape.layout == SIMDNORM_NHWC || !shape.HasSpatial()};
}

// On the heap, so that it stays where it is as the layer moves.
std::shared_ptr<float[]> Scratch(const cases::ChannelsCase& shape) {
  return std::shared_ptr<float[]>(new float[static_cast<size_t>(2 * shape.channels)]);
}

ReadyLayer LayerNorm(const cases::RowsCase& shape, const Tensors& t, int threads) {
  return WithElement(t, [&](auto element) -> ReadyLayer {
    using T = decltype(element);
    return {[=] {
      loops::LayerNorm<T>(As<T>(t.x), nullptr, nullptr, As<T>(t.y), shape.rows, shape.cols, As<T>(t.scale), As<T>(t.shift),
                          kPeerEpsilon, threads);
    }};
  });
}

ReadyLayer AddLayerNorm(const cases::RowsCase& shape, const Tensors& t, int threads) {
  return WithElement(t, [&](auto element) -> ReadyLayer {
    using T = decltype(element);
    return {[=] {
      loops::LayerNorm(As<T>(t.x), As<T>(t.other), As<T>(t.h), As<T>(t.y), shape.rows, shape.cols, As<T>(t.scale),
                       As<T>(t.shift), kPeerEpsilon, threads);
    }};
  });
}

ReadyLayer RMSNorm(const cases::RowsCase& shape, const Tensors& t, int threads) {
  return WithElement(t, [&](auto element) -> ReadyLayer {
    using T = decltype(element);
    return {[=] { loops::RMSNorm(As<T>(t.x), As<T>(t.y), shape.rows, shape.cols, As<T>(t.scale), kPeerEpsilon, threads); }};
  });
}

ReadyLayer BatchNormTraining(const cases::ChannelsCase& shape, const Tensors& t, int threads) {
  return WithElement(t, [&](auto element) -> ReadyLayer {
    using T = decltype(element);
    return {[=, scratch = Scratch(shape)] {
      loops::BatchNormTraining(As<T>(t.x), As<T>(t.y), ImagesOf(shape), As<T>(t.scale), As<T>(t.shift), kPeerEpsilon,
                               t.saved_mean, t.saved_rstd, t.running_mean, t.running_variance, scratch.get(), threads);
    }};
  });
}

ReadyLayer BatchNormInference(const cases::ChannelsCase& shape, const Tensors& t, int threads) {
  return WithElement(t, [&](auto element) -> ReadyLayer {
    using T = decltype(element);
    return {[=, scratch = Scratch(shape)] {
      loops::BatchNormInference(As<T>(t.x), As<T>(t.y), ImagesOf(shape), As<T>(t.scale), As<T>(t.shift), kPeerEpsilon, t.mean,
                                t.variance, scratch.get(), threads);
    }};
  });
}

ReadyLayer GroupNorm(const cases::ChannelsCase& shape, const Tensors& t, int threads) {
  return WithElement(t, [&](auto element) -> ReadyLayer {
    using T = decltype(element);
    return {[=] {
      loops::GroupNorm(As<T>(t.x), As<T>(t.y), ImagesOf(shape), shape.groups, As<T>(t.scale), As<T>(t.shift), kPeerEpsilon,
                       threads);
    }};
  });
}

}  // namespace

std::vector<Peer> LoopsPeers() {
  Peer peer;
  peer.name = "loops";
#ifdef __clang__
  peer.version = "clang " __clang_version__;
#else
  peer.version = "gcc " __VERSION__;
#endif
  peer.dtypes = {SIMDNORM_F32, SIMDNORM_BF16};
  peer.takes = [](const cases::ChannelsCase& shape, simdnorm_dtype) { return shape.Block() == 1; };
  peer.layer_norm = LayerNorm;
  peer.add_layer_norm = AddLayerNorm;
  peer.rms_norm = RMSNorm;
  peer.batch_norm_training = BatchNormTraining;
  peer.batch_norm_inference = BatchNormInference;
  peer.group_norm = GroupNorm;
  return {peer};
}

}  // namespace simdnorm::bench
