// oneDNN on the same cases; built with -Dpeers=enabled.
#ifndef SIMDNORM_BENCH_PEERS_ONEDNN_PEER_H_
#define SIMDNORM_BENCH_PEERS_ONEDNN_PEER_H_

#include "harness.h"

namespace simdnorm::bench {

Peer OneDnnPeer();

}  // namespace simdnorm::bench

#endif  // SIMDNORM_BENCH_PEERS_ONEDNN_PEER_H_
