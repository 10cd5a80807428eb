// ONNX Runtime's normalizations: models of one node, which holds scale and shift, run by sessions that were made before the
// timing, from and to tensors that lie where ours do. Sessions keep threads of their own, which spin while they wait, as they
// do by default.
//
// The library is loaded from the path that the build was given; its header is not needed: its C API is a struct of function
// pointers, which later versions only append to.
#include <dlfcn.h>

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "peers/onnx_model.h"
#include "peers/peers.h"

namespace simdnorm::bench {
namespace {

// The library's own objects, and its C enumerations as int.
struct Status;
struct Environment;
struct SessionOptions;
struct Session;
struct MemoryInfo;
struct Value;

struct ApiBase {
  void* const* (*get_api)(uint32_t version);  // null if it is older than that
  const char* (*get_version)();
};

class Api {
 public:
  // Null where the library cannot be loaded.
  static const Api* Get() {
    static const Api* const api = Load();
    return api;
  }

  const char* Version() const { return version_; }

  Session* MakeSession(const std::string& model, int threads) const {
    SessionOptions* options;
    Session* session;
    Call<SessionOptions**>(kCreateSessionOptions, &options);
    Call<SessionOptions*, int>(kSetIntraOpNumThreads, options, threads);
    Call<const Environment*, const void*, size_t, const SessionOptions*, Session**>(
        kCreateSessionFromArray, environment_, model.data(), model.size(), options, &session);
    return session;
  }

  Value* MakeValue(const onnx::Tensor& tensor) const {
    Value* value;
    Call<const MemoryInfo*, void*, size_t, const int64_t*, size_t, int, Value**>(
        kCreateTensorWithDataAsOrtValue, memory_, tensor.data, tensor.Bytes(), tensor.sizes.data(), tensor.sizes.size(),
        tensor.type, &value);
    return value;
  }

  void Run(Session* session, const std::vector<const char*>& input_names, const std::vector<const Value*>& inputs,
           const std::vector<const char*>& output_names, std::vector<Value*>& outputs) const {
    const void* const no_options = nullptr;
    Call<Session*, const void*, const char* const*, const Value* const*, size_t, const char* const*, size_t, Value**>(
        kRun, session, no_options, input_names.data(), inputs.data(), inputs.size(), output_names.data(), outputs.size(),
        outputs.data());
  }

 private:
  // The places in the struct of the functions used here.
  enum Place : size_t {
    kGetErrorMessage = 2,
    kCreateEnv = 3,
    kCreateSessionFromArray = 8,
    kRun = 9,
    kCreateSessionOptions = 10,
    kSetIntraOpNumThreads = 24,
    kCreateTensorWithDataAsOrtValue = 49,
    kCreateCpuMemoryInfo = 69,
  };

  static const Api* Load() {
    void* const library = dlopen(SIMDNORM_BENCH_ONNXRUNTIME, RTLD_NOW | RTLD_LOCAL);
    void* const get_base = library == nullptr ? nullptr : dlsym(library, "OrtGetApiBase");
    if (get_base != nullptr) return new Api(*reinterpret_cast<const ApiBase* (*)()>(get_base)());
    std::fprintf(stderr, "simdnorm_bench: no ONNX Runtime: %s\n", dlerror());
    return nullptr;
  }

  explicit Api(const ApiBase& base) : functions_(base.get_api(1)), version_(base.get_version()) {
    constexpr int kWarnings = 2, kArenaAllocator = 1, kDefaultMemory = 0;
    Call<int, const char*, Environment**>(kCreateEnv, kWarnings, "simdnorm_bench", &environment_);
    Call<int, int, MemoryInfo**>(kCreateCpuMemoryInfo, kArenaAllocator, kDefaultMemory, &memory_);
  }

  // Every function used here returns null or what went wrong.
  template <class... Parameters>
  void Call(Place place, Parameters... arguments) const {
    const Status* const status = reinterpret_cast<const Status* (*)(Parameters...)>(functions_[place])(arguments...);
    if (status == nullptr) return;
    throw std::runtime_error(reinterpret_cast<const char* (*)(const Status*)>(functions_[kGetErrorMessage])(status));
  }

  void* const* functions_;
  const char* version_;
  Environment* environment_;
  MemoryInfo* memory_;
};

// Sessions and values are never given back: the benchmarks are there until the process ends.
ReadyLayer Ready(const onnx::Node& node, int64_t opset, int threads) {
  struct Call {
    onnx::Node node;  // keeps the names
    Session* session;
    std::vector<const char*> input_names, output_names;
    std::vector<const Value*> inputs;
    std::vector<Value*> outputs;
  };
  const Api& api = *Api::Get();
  const auto call = std::make_shared<Call>();
  call->node = node;
  call->session = api.MakeSession(onnx::Model(node, opset), threads);
  for (const onnx::Tensor& input : call->node.inputs) {
    call->input_names.push_back(input.name.c_str());
    call->inputs.push_back(api.MakeValue(input));
  }
  for (const onnx::Tensor& output : call->node.outputs) {
    if (output.name.empty()) continue;
    call->output_names.push_back(output.name.c_str());
    call->outputs.push_back(api.MakeValue(output));
  }
  return {[call, &api] { api.Run(call->session, call->input_names, call->inputs, call->output_names, call->outputs); }};
}

onnx::ElementType Type(const Tensors& t) { return t.dtypes.x == SIMDNORM_F16 ? onnx::kFloat16 : onnx::kFloat; }

std::vector<int64_t> Sizes(const cases::RowsCase& shape) { return {shape.rows, shape.cols}; }

std::vector<int64_t> Sizes(const cases::ChannelsCase& shape) {
  if (!shape.HasSpatial()) return {shape.batch, shape.channels};
  return {shape.batch, shape.channels, shape.height, shape.width};
}

template <class Case>
onnx::Tensor Whole(const char* name, const Case& shape, const Tensors& t, const void* data) {
  return {name, Type(t), Sizes(shape), const_cast<void*>(data)};
}

template <class Case>
onnx::Tensor Vector(const char* name, const Case& shape, onnx::ElementType type, const void* data) {
  return {name, type, {shape.Params()}, const_cast<void*>(data)};
}

// What all have: x to y with scale and, but for RMS norm, shift.
template <class Case>
onnx::Node NodeOf(const char* type, const Case& shape, const Tensors& t) {
  onnx::Node node;
  node.type = type;
  node.inputs = {Whole("x", shape, t, t.x.data)};
  node.constants = {Vector("scale", shape, Type(t), t.scale.data), Vector("shift", shape, Type(t), t.shift.data)};
  node.outputs = {Whole("y", shape, t, t.y.data)};
  node.floats = {{"epsilon", kPeerEpsilon}};
  return node;
}

ReadyLayer LayerNorm(const cases::RowsCase& shape, const Tensors& t, int threads) {
  return Ready(NodeOf("LayerNormalization", shape, t), 17, threads);
}

ReadyLayer AddLayerNorm(const cases::RowsCase& shape, const Tensors& t, int threads) {
  onnx::Node node = NodeOf("SkipLayerNormalization", shape, t);
  node.domain = "com.microsoft";
  node.inputs.push_back(Whole("residual", shape, t, t.other.data));
  node.outputs.resize(3);  // without mean and rstd
  node.outputs.push_back(Whole("h", shape, t, t.h.data));
  return Ready(node, 17, threads);
}

ReadyLayer RMSNorm(const cases::RowsCase& shape, const Tensors& t, int threads) {
  onnx::Node node = NodeOf("SimplifiedLayerNormalization", shape, t);
  node.constants.pop_back();
  return Ready(node, 17, threads);
}

ReadyLayer BatchNormTraining(const cases::ChannelsCase& shape, const Tensors& t, int threads) {
  onnx::Node node = NodeOf("BatchNormalization", shape, t);
  node.constants.push_back(Vector("mean", shape, onnx::kFloat, t.mean));
  node.constants.push_back(Vector("variance", shape, onnx::kFloat, t.variance));
  node.outputs.push_back(Vector("running_mean", shape, onnx::kFloat, t.running_mean));
  node.outputs.push_back(Vector("running_variance", shape, onnx::kFloat, t.running_variance));
  node.numbers = {{"training_mode", 1}};
  return Ready(node, 15, threads);
}

ReadyLayer BatchNormInference(const cases::ChannelsCase& shape, const Tensors& t, int threads) {
  onnx::Node node = NodeOf("BatchNormalization", shape, t);
  node.constants.push_back(Vector("mean", shape, onnx::kFloat, t.mean));
  node.constants.push_back(Vector("variance", shape, onnx::kFloat, t.variance));
  return Ready(node, 15, threads);
}

ReadyLayer GroupNorm(const cases::ChannelsCase& shape, const Tensors& t, int threads) {
  onnx::Node node = NodeOf("GroupNormalization", shape, t);
  node.numbers = {{"num_groups", shape.groups}};
  return Ready(node, 21, threads);
}

}  // namespace

std::vector<Peer> OnnxRuntimePeers() {
  if (Api::Get() == nullptr) return {};
  Peer peer;
  peer.name = "ONNXRuntime";
  peer.version = Api::Get()->Version();
  peer.dtypes = {SIMDNORM_F32, SIMDNORM_F16};
  peer.takes = [](const cases::ChannelsCase& shape, simdnorm_dtype dtype) {
    return shape.layout == SIMDNORM_NCHW && dtype == SIMDNORM_F32;
  };
  peer.layer_norm = LayerNorm;
  peer.add_layer_norm = AddLayerNorm;
  peer.rms_norm = RMSNorm;
  peer.batch_norm_training = BatchNormTraining;
  peer.batch_norm_inference = BatchNormInference;
  peer.group_norm = GroupNorm;
  peer.own_threads = true;
  return {peer};
}

}  // namespace simdnorm::bench
