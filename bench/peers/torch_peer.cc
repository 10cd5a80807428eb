// PyTorch's normalizations without autograd. They allocate their outputs in each call (those variants that are given one copy
// to it), so the allocator is told to keep memory for the next. scale and shift are of x's dtype.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <torch/csrc/api/include/torch/version.h>

#include <stdexcept>

#include "peers/peers.h"

namespace simdnorm::bench {
namespace {

// What is as large as y lies there.
class OutputAllocator final : public c10::Allocator {
 public:
  void PlaceAt(void* y, size_t bytes) {
    y_ = y;
    bytes_ = bytes;
  }

  c10::DataPtr allocate(size_t bytes) const override {
    return bytes == bytes_ ? c10::DataPtr(y_, c10::kCPU) : c10::GetDefaultCPUAllocator()->allocate(bytes);
  }

  static OutputAllocator& Get() {
    static OutputAllocator allocator;
    return allocator;
  }

 private:
  void* y_ = nullptr;
  size_t bytes_ = 0;
};

at::ScalarType ScalarType(simdnorm_dtype dtype) { return dtype == SIMDNORM_BF16 ? at::kBFloat16 : at::kFloat; }

// A tensor over memory that is somebody else's. PyTorch takes what it only reads without const.
at::Tensor Over(const void* data, at::IntArrayRef sizes, at::IntArrayRef strides, simdnorm_dtype dtype) {
  return at::from_blob(const_cast<void*>(data), sizes, strides, ScalarType(dtype));
}

at::Tensor Vector(const void* data, int64_t count, simdnorm_dtype dtype) { return Over(data, {count}, {1}, dtype); }

at::Tensor Whole(const void* data, const cases::RowsCase& shape, simdnorm_dtype dtype) {
  return Over(data, {shape.rows, shape.cols}, {shape.cols, 1}, dtype);
}

at::Tensor Whole(const void* data, const cases::ChannelsCase& shape, simdnorm_dtype dtype) {
  const auto [batch, channels, height, width, layout, groups] = shape;
  if (!shape.HasSpatial()) return Over(data, {batch, channels}, {channels, 1}, dtype);
  const int64_t image = channels * height * width;
  if (layout == SIMDNORM_NHWC) {
    return Over(data, {batch, channels, height, width}, {image, 1, width * channels, channels}, dtype);
  }
  return Over(data, {batch, channels, height, width}, {image, height * width, width, 1}, dtype);
}

// normalize(x, scale, shift) is the call.
template <class Case, class Normalize>
ReadyLayer Ready(const Case& shape, const Tensors& t, int threads, const Normalize& normalize) {
  static const c10::InferenceMode without_autograd;
  c10::SetCPUAllocator(&OutputAllocator::Get());
  // Once it has been told and asked, PyTorch runs on as many threads as OpenMP has.
  at::set_num_threads(threads);
  at::get_num_threads();
  const simdnorm_dtype dtype = t.dtypes.x;
  return {[=, y = t.y.data, y_bytes = t.y_bytes, x = Whole(t.x.data, shape, dtype),
           scale = Vector(t.scale.data, shape.Params(), dtype), shift = Vector(t.shift.data, shape.Params(), dtype)] {
    OutputAllocator::Get().PlaceAt(y, y_bytes);
    try {
      normalize(x, scale, shift);
    } catch (const c10::Error& error) {
      throw std::runtime_error(error.what_without_backtrace());  // what() has 30 lines
    }
  }};
}

ReadyLayer LayerNorm(const cases::RowsCase& shape, const Tensors& t, int threads) {
  return Ready(shape, t, threads, [cols = shape.cols](const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift) {
    return at::native_layer_norm(x, {cols}, scale, shift, kPeerEpsilon);
  });
}

ReadyLayer GroupNorm(const cases::ChannelsCase& shape, const Tensors& t, int threads) {
  return Ready(shape, t, threads, [shape](const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift) {
    return at::native_group_norm(x, scale, shift, shape.batch, shape.channels, shape.height * shape.width, shape.groups,
                                 kPeerEpsilon);
  });
}

template <bool kTraining>
ReadyLayer BatchNorm(const cases::ChannelsCase& shape, const Tensors& t, int threads) {
  // These too have to be of x's dtype.
  const auto statistic = [&](const float* values) {
    return Vector(values, shape.channels, SIMDNORM_F32).to(ScalarType(t.dtypes.x), false, true);
  };
  const at::Tensor mean = statistic(kTraining ? t.running_mean : t.mean);
  const at::Tensor variance = statistic(kTraining ? t.running_variance : t.variance);
  return Ready(shape, t, threads, [=](const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift) {
    constexpr double kMomentum = 0.1;
    return at::native_batch_norm(x, scale, shift, mean, variance, kTraining, kMomentum, kPeerEpsilon);
  });
}

}  // namespace

std::vector<Peer> TorchPeers() {
  Peer peer;
  peer.name = "PyTorch";
  peer.version = TORCH_VERSION;
  peer.dtypes = {SIMDNORM_F32, SIMDNORM_BF16};
  peer.takes = [](const cases::ChannelsCase& shape, simdnorm_dtype) { return shape.Block() == 1; };
  peer.layer_norm = LayerNorm;
  peer.batch_norm_training = BatchNorm<true>;
  peer.batch_norm_inference = BatchNorm<false>;
  peer.group_norm = GroupNorm;
  return {peer};
}

}  // namespace simdnorm::bench
