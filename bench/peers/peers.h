// Other libraries on the same cases, those that were found when the build was set up with -Dpeers=enabled.
#ifndef SIMDNORM_BENCH_PEERS_PEERS_H_
#define SIMDNORM_BENCH_PEERS_PEERS_H_

#include <vector>

#include "harness.h"

namespace simdnorm::bench {

constexpr float kPeerEpsilon = 1e-5f;  // simdnorm's default

std::vector<Peer> LoopsPeers();
std::vector<Peer> OneDnnPeers();
std::vector<Peer> TorchPeers();
std::vector<Peer> OnnxRuntimePeers();
std::vector<Peer> GgmlPeers();

// All of them.
inline std::vector<Peer> Peers() {
  std::vector<Peer> all;
  [[maybe_unused]] const auto add = [&](const std::vector<Peer>& peers) { all.insert(all.end(), peers.begin(), peers.end()); };
#ifdef SIMDNORM_BENCH_LOOPS
  add(LoopsPeers());
#endif
#ifdef SIMDNORM_BENCH_ONEDNN
  add(OneDnnPeers());
#endif
#ifdef SIMDNORM_BENCH_TORCH
  add(TorchPeers());
#endif
#ifdef SIMDNORM_BENCH_ONNXRUNTIME
  add(OnnxRuntimePeers());
#endif
#ifdef SIMDNORM_BENCH_GGML
  add(GgmlPeers());
#endif
  return all;
}

}  // namespace simdnorm::bench

#endif  // SIMDNORM_BENCH_PEERS_PEERS_H_
