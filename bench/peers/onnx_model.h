// ONNX models of a single node, as the bytes of their files: just enough of protobuf's format and of ONNX's schema (onnx.proto)
// to write them.
#ifndef SIMDNORM_BENCH_PEERS_ONNX_MODEL_H_
#define SIMDNORM_BENCH_PEERS_ONNX_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace simdnorm::bench::onnx {

// ONNX's numbers for element types.
enum ElementType : int { kFloat = 1, kFloat16 = 10 };

// A message in protobuf's format.
class Message {
 public:
  // A number: also booleans and enumerators.
  Message& Add(int field, int64_t value) {
    AddVarint(static_cast<uint64_t>(field) << 3);
    AddVarint(static_cast<uint64_t>(value));
    return *this;
  }
  Message& Add(int field, float value) {
    AddVarint(static_cast<uint64_t>(field) << 3 | 5);
    char bytes[sizeof(value)];
    std::memcpy(bytes, &value, sizeof(value));  // on little-endian machines
    bytes_.append(bytes, sizeof(bytes));
    return *this;
  }
  Message& Add(int field, const std::string& bytes) {
    AddVarint(static_cast<uint64_t>(field) << 3 | 2);
    AddVarint(bytes.size());
    bytes_ += bytes;
    return *this;
  }
  Message& Add(int field, const Message& message) { return Add(field, message.bytes_); }

  const std::string& Bytes() const { return bytes_; }

 private:
  void AddVarint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

struct Tensor {
  std::string name;
  ElementType type;
  std::vector<int64_t> sizes;
  void* data;

  size_t Bytes() const {
    size_t bytes = type == kFloat ? 4 : 2;
    for (const int64_t size : sizes) bytes *= static_cast<size_t>(size);
    return bytes;
  }
};

struct Node {
  std::string type;
  std::string domain;  // "" is ONNX's own
  // The first of its inputs come from outside, the others are in the model. Outputs without a name are left out.
  std::vector<Tensor> inputs, constants, outputs;
  std::vector<std::pair<std::string, int64_t>> numbers;
  std::vector<std::pair<std::string, float>> floats;
};

// Field numbers are those of ValueInfoProto, TensorProto, AttributeProto, NodeProto, GraphProto and ModelProto.
inline Message Describe(const Tensor& tensor) {
  Message shape;
  for (const int64_t size : tensor.sizes) shape.Add(1, Message().Add(1, size));
  const Message type = Message().Add(1, Message().Add(1, int64_t{tensor.type}).Add(2, shape));
  return Message().Add(1, tensor.name).Add(2, type);
}

inline Message Constant(const Tensor& tensor) {
  Message constant;
  for (const int64_t size : tensor.sizes) constant.Add(1, size);
  constant.Add(2, int64_t{tensor.type}).Add(8, tensor.name);
  return constant.Add(9, std::string(static_cast<const char*>(tensor.data), tensor.Bytes()));
}

// The model's inputs and outputs are the node's.
inline std::string Model(const Node& node, int64_t opset) {
  constexpr int64_t kIrVersion = 8, kFloatAttribute = 1, kIntAttribute = 2;
  Message in_graph, graph;
  for (const Tensor& input : node.inputs) {
    in_graph.Add(1, input.name);
    graph.Add(11, Describe(input));
  }
  for (const Tensor& constant : node.constants) {
    in_graph.Add(1, constant.name);
    graph.Add(5, Constant(constant));
  }
  for (const Tensor& output : node.outputs) {
    in_graph.Add(2, output.name);
    if (!output.name.empty()) graph.Add(12, Describe(output));
  }
  for (const auto& [name, value] : node.numbers) in_graph.Add(5, Message().Add(1, name).Add(3, value).Add(20, kIntAttribute));
  for (const auto& [name, value] : node.floats) in_graph.Add(5, Message().Add(1, name).Add(2, value).Add(20, kFloatAttribute));
  in_graph.Add(4, node.type).Add(7, node.domain);
  graph.Add(1, in_graph).Add(2, node.type);
  Message model = Message().Add(1, kIrVersion).Add(7, graph).Add(8, Message().Add(2, opset));
  if (!node.domain.empty()) model.Add(8, Message().Add(1, node.domain).Add(2, int64_t{1}));
  return model.Bytes();
}

}  // namespace simdnorm::bench::onnx

#endif  // SIMDNORM_BENCH_PEERS_ONNX_MODEL_H_
