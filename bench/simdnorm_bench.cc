// The program simdnorm_bench: every case on every CPU target and number of threads, and on every peer, timed beside a copy of
// the same bytes.
//
//     simdnorm_bench --target AVX3 --target AVX2 --threads 1 --benchmark_filter='LayerNorm/.*/512x768'
//     simdnorm_bench --target AVX3 --peer oneDNN --benchmark_repetitions=7 --benchmark_enable_random_interleaving=true
//
// bytes_per_second counts each tensor of x's size read or written once. copy_ratio is the time of a call (call_s, a median)
// over that of the fastest copy (copy_s) that reads and writes as many bytes on as many threads: 1 is what memory allows. Both
// include about 3 ns for the call through a std::function. add_copy_ratio, for calls that add a residual and write the sum, is
// the same over the faster loop that only does that: reads x and residual, writes h and y. Calls repeat on the same buffers,
// and so do those loops: what fits a cache is in it. The runner `ceiling` is a loop with the loads and stores of a
// normalization, which reads everything twice, and none of its arithmetic.
#include <benchmark/benchmark.h>
#include <getopt.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "accuracy.h"
#include "harness.h"
#include "peers/peers.h"
#include "simdnorm/simdnorm.hpp"

namespace simdnorm::bench {
namespace {

constexpr int kUsageError = 2;

std::vector<const char*> SupportedTargets() {
  std::vector<const char*> names;
  for (const char* const* target = Targets(); *target != nullptr; ++target) names.push_back(*target);
  return names;
}

template <class Word>
std::string Join(const std::vector<Word>& words) {
  std::string joined;
  for (const Word& word : words) joined += std::string(joined.empty() ? "" : " ") + word;
  return joined;
}

std::vector<std::string> Names(const std::vector<Peer>& peers) {
  std::vector<std::string> names;
  for (const Peer& peer : peers) names.push_back(peer.name);
  return names;
}

// Of "oneDNN:nChw16c", oneDNN in a layout of its own, "oneDNN".
std::string Library(const Peer& peer) { return peer.name.substr(0, peer.name.find(':')); }

void PrintHelp() {
  std::printf(
      "simdnorm_bench [--target NAME]... [--peer NAME]... [--threads LIST] [--scaling | --errors] [Google Benchmark's flags]\n"
      "Names are OP/DTYPE/SHAPE/RUNNER/threads:N. DTYPE is x's, as in bf16, or x's and y's, as in bf16-i8. RUNNER is a CPU\n"
      "target, a peer, or the ceiling: the same loads and stores without the arithmetic. call_s is the median time of a call,\n"
      "copy_s that of the fastest copy of the same bytes, copy_ratio the first over the second, add_copy_ratio over a loop's\n"
      "that only adds a residual.\n\n"
      "  --target NAME    only this CPU target (may be repeated); default: all that are supported: %s\n"
      "  --peer NAME      only this peer (may be repeated), or none; default: all that were built in: %s\n"
      "  --list-peers     names and versions of the peers, and no bench\n"
      "  --threads LIST   numbers of threads, as in 1,2,4; default: 1 and the machine's\n"
      "  --scaling        how the cost grows with the size, instead of the usual cases\n"
      "  --errors         a table of errors on data easy and hard, and no bench\n\n"
      "Google Benchmark's:\n\n",
      Join(SupportedTargets()).c_str(), Join(Names(Peers())).c_str());
  benchmark::PrintDefaultHelp();
}

[[noreturn]] void UsageError(const std::string& message) {
  std::fprintf(stderr, "simdnorm_bench: %s\n", message.c_str());
  std::exit(kUsageError);
}

std::vector<int> DefaultThreads() {
#ifdef _OPENMP
  if (const int all = static_cast<int>(std::thread::hardware_concurrency()); all > 1) return {1, all};
#endif
  return {1};
}

std::vector<int> ParseThreads(const char* list) {
  constexpr long kMost = 4096;
  std::vector<int> threads;
  const char* rest = list;
  while (true) {
    char* end;
    const long count = std::strtol(rest, &end, 10);
    if (end == rest || count < 1 || count > kMost || (*end != ',' && *end != '\0')) {
      UsageError(std::string("--threads wants numbers from 1 to 4096 with commas between, not \"") + list + "\"");
    }
#ifndef _OPENMP
    if (count != 1) UsageError("built without OpenMP: --threads can only be 1");
#endif
    threads.push_back(static_cast<int>(count));
    if (*end == '\0') return threads;
    rest = end + 1;
  }
}

struct Flags {
  Config config;
  bool scaling = false, errors = false;
};

// What Google Benchmark has left of the command line.
Flags ParseFlags(int argc, char** argv) {
  enum : int { kTarget, kPeer, kListPeers, kThreads, kScaling, kErrors };
  const option options[] = {
      {"target", required_argument, nullptr, kTarget},
      {"peer", required_argument, nullptr, kPeer},
      {"list-peers", no_argument, nullptr, kListPeers},
      {"threads", required_argument, nullptr, kThreads},
      {"scaling", no_argument, nullptr, kScaling},
      {"errors", no_argument, nullptr, kErrors},
      {nullptr, 0, nullptr, 0},
  };
  const std::vector<const char*> targets = SupportedTargets();
  const std::vector<Peer> peers = Peers();
  Flags flags;
  Config& config = flags.config;
  bool all_peers = true;
  for (int flag; (flag = getopt_long(argc, argv, "", options, nullptr)) != -1;) {
    switch (flag) {
      case kTarget: {
        const auto named = [](const char* name) { return std::strcmp(name, optarg) == 0; };
        const auto target = std::find_if(targets.begin(), targets.end(), named);
        if (target == targets.end()) {
          UsageError(std::string("target \"") + optarg + "\" is not supported here; supported: " + Join(targets));
        }
        config.targets.push_back(*target);
        break;
      }
      case kPeer: {
        all_peers = false;
        if (std::strcmp(optarg, "none") == 0) break;
        const size_t before = config.peers.size();
        for (const Peer& peer : peers) {
          if (peer.name == optarg || Library(peer) == optarg) config.peers.push_back(peer);
        }
        if (config.peers.size() == before) {
          UsageError(std::string("peer \"") + optarg + "\" was not built in; there are: none " + Join(Names(peers)));
        }
        break;
      }
      case kListPeers:
        for (const Peer& peer : peers) std::printf("%s %s\n", peer.name.c_str(), peer.version.c_str());
        std::exit(EXIT_SUCCESS);
      case kThreads:
        config.threads = ParseThreads(optarg);
        break;
      case kScaling:
        flags.scaling = true;
        break;
      case kErrors:
        flags.errors = true;
        break;
      default:
        std::exit(kUsageError);  // getopt_long has said why
    }
  }
  if (optind < argc) UsageError(std::string("unexpected argument \"") + argv[optind] + "\"");
  if (config.targets.empty()) config.targets = targets;
  if (config.threads.empty()) config.threads = DefaultThreads();
  if (all_peers) config.peers = peers;
  return flags;
}

std::string CpuName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(std::min(line.size(), line.find(':') + 2));
  }
  return "unknown";
}

int Main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv, PrintHelp);
  const auto [config, scaling, errors] = ParseFlags(argc, argv);
  if (errors) {
    PrintErrors(config.peers);
    return EXIT_SUCCESS;
  }
  benchmark::AddCustomContext("simdnorm", simdnorm_version());
  benchmark::AddCustomContext("targets", Join(SupportedTargets()));
  benchmark::AddCustomContext("cpu", CpuName());
  std::string library;
  for (const Peer& peer : config.peers) {
    if (Library(peer) != library) benchmark::AddCustomContext("peer_" + Library(peer), peer.version);
    library = Library(peer);
  }
  if (scaling) {
    RegisterLayerNormScaling(config);
    RegisterBatchNormScaling(config);
  } else {
    RegisterLayerNorm(config);
    RegisterBatchNorm(config);
    RegisterGroupNorm(config);
  }
  const size_t matched = benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return matched == 0 || AnyFailed() ? EXIT_FAILURE : EXIT_SUCCESS;
}

}  // namespace
}  // namespace simdnorm::bench

int main(int argc, char** argv) { return simdnorm::bench::Main(argc, argv); }
