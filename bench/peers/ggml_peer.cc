// ggml's normalizations: graphs of the normalization and the multiplication and addition that follow it, made before the
// timing; what lies between them is in y already. f32 only.
#include <ggml-backend.h>
#include <ggml.h>

#include <memory>
#include <stdexcept>

#include "peers/peers.h"

namespace simdnorm::bench {
namespace {

struct Freer {
  void operator()(ggml_context* context) const { ggml_free(context); }
  void operator()(ggml_backend* backend) const { ggml_backend_free(backend); }
};

// A graph, built node by node, whose tensors lie in memory that is somebody else's. ggml's notes of that memory are never
// freed.
class Graph {
 public:
  explicit Graph(int threads)
      : context_(ggml_init({kBytes, nullptr, true})),
        backend_(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr)) {
    ggml_backend_reg* const registry = ggml_backend_dev_backend_reg(ggml_backend_get_device(backend_.get()));
    const auto set_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(
        ggml_backend_reg_get_proc_address(registry, "ggml_backend_set_n_threads"));
    if (set_threads != nullptr) set_threads(backend_.get(), threads);
  }

  ggml_context* Context() const { return context_.get(); }

  // ggml takes what it only reads without const.
  ggml_tensor* At(const void* data, ggml_tensor* tensor) const {
    void* const memory = const_cast<void*>(data);
    ggml_backend_tensor_alloc(ggml_backend_cpu_buffer_from_ptr(memory, ggml_nbytes(tensor)), tensor, memory);
    return tensor;
  }

  // Sizes are in ggml's order, from the innermost.
  ggml_tensor* Input(const void* data, int64_t a, int64_t b = 1, int64_t c = 1, int64_t d = 1) const {
    return At(data, ggml_new_tensor_4d(Context(), GGML_TYPE_F32, a, b, c, d));
  }

  void Finish(ggml_tensor* output) {
    graph_ = ggml_new_graph_custom(Context(), kNodes, false);
    ggml_build_forward_expand(graph_, output);
  }

  void Run() const {
    if (ggml_backend_graph_compute(backend_.get(), graph_) != GGML_STATUS_SUCCESS) throw std::runtime_error("ggml failed");
  }

 private:
  static constexpr size_t kNodes = 16;
  static constexpr size_t kBytes = 1 << 16;  // of descriptions of tensors and graph

  std::unique_ptr<ggml_context, Freer> context_;
  std::unique_ptr<ggml_backend, Freer> backend_;
  ggml_cgraph* graph_ = nullptr;
};

// y = normalized * scale, + shift where there is one.
ReadyLayer Ready(const std::shared_ptr<Graph>& graph, void* y, ggml_tensor* normalized, ggml_tensor* scale,
                 ggml_tensor* shift) {
  ggml_tensor* output = graph->At(y, ggml_mul(graph->Context(), graph->At(y, normalized), scale));
  if (shift != nullptr) output = graph->At(y, ggml_add(graph->Context(), output, shift));
  graph->Finish(output);
  return {[graph] { graph->Run(); }};
}

ReadyLayer LayerNorm(const cases::RowsCase& shape, const Tensors& t, int threads) {
  const auto graph = std::make_shared<Graph>(threads);
  ggml_tensor* const x = graph->Input(t.x.data, shape.cols, shape.rows);
  return Ready(graph, t.y.data, ggml_norm(graph->Context(), x, kPeerEpsilon), graph->Input(t.scale.data, shape.cols),
               graph->Input(t.shift.data, shape.cols));
}

ReadyLayer RMSNorm(const cases::RowsCase& shape, const Tensors& t, int threads) {
  const auto graph = std::make_shared<Graph>(threads);
  ggml_tensor* const x = graph->Input(t.x.data, shape.cols, shape.rows);
  return Ready(graph, t.y.data, ggml_rms_norm(graph->Context(), x, kPeerEpsilon), graph->Input(t.scale.data, shape.cols),
               nullptr);
}

ReadyLayer GroupNorm(const cases::ChannelsCase& shape, const Tensors& t, int threads) {
  const auto graph = std::make_shared<Graph>(threads);
  ggml_tensor* const x = graph->Input(t.x.data, shape.width, shape.height, shape.channels, shape.batch);
  ggml_tensor* const normalized = ggml_group_norm(graph->Context(), x, static_cast<int>(shape.groups), kPeerEpsilon);
  return Ready(graph, t.y.data, normalized, graph->Input(t.scale.data, 1, 1, shape.channels),
               graph->Input(t.shift.data, 1, 1, shape.channels));
}

}  // namespace

std::vector<Peer> GgmlPeers() {
  ggml_backend_load_all();  // where backends are libraries of their own
  if (ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU) == nullptr) return {};
  Peer peer;
  peer.name = "ggml";
  peer.version = ggml_version();
  peer.dtypes = {SIMDNORM_F32};
  peer.takes = [](const cases::ChannelsCase& shape, simdnorm_dtype) { return shape.layout == SIMDNORM_NCHW; };
  peer.layer_norm = LayerNorm;
  peer.rms_norm = RMSNorm;
  peer.group_norm = GroupNorm;
  peer.own_threads = true;  // unless it was built with OpenMP
  return {peer};
}

}  // namespace simdnorm::bench
