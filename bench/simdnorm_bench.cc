// The program simdnorm_bench: every case on every CPU target and number of threads, timed beside a copy of the same bytes.
//
//     simdnorm_bench --target AVX3 --target AVX2 --threads 1 --benchmark_filter='LayerNorm/.*/512x768'
//
// bytes_per_second counts each tensor of x's size read or written once. copy_ratio is the time of a call over the time of the
// fastest copy that reads and writes as many bytes on as many threads: 1 is what memory allows. add_copy_ratio, for calls that
// add a residual and write the sum, is the same over the faster loop that only does that: reads x and residual, writes h and
// y. Calls repeat on the same buffers, and so do those loops: what fits a cache is in it.
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

#include "harness.h"
#ifdef SIMDNORM_BENCH_ONEDNN
#include "peers/onednn_peer.h"
#endif
#include "simdnorm/simdnorm.hpp"

namespace simdnorm::bench {
namespace {

constexpr int kUsageError = 2;

std::vector<const char*> SupportedTargets() {
  std::vector<const char*> names;
  for (const char* const* target = Targets(); *target != nullptr; ++target) names.push_back(*target);
  return names;
}

std::string Join(const std::vector<const char*>& words) {
  std::string joined;
  for (const char* const word : words) joined += std::string(joined.empty() ? "" : " ") + word;
  return joined;
}

void PrintHelp() {
  std::printf(
      "simdnorm_bench [--target NAME]... [--threads LIST] [Google Benchmark's flags]\n"
      "Names are OP/DTYPE/SHAPE/TARGET/threads:N; DTYPE is x's, as in bf16, or x's and y's, as in bf16-i8. copy_ratio is the\n"
      "time over that of the fastest copy of the same bytes, add_copy_ratio over a loop's that only adds a residual.\n\n"
      "  --target NAME    only this CPU target (may be repeated); default: all that are supported: %s\n"
      "  --threads LIST   numbers of threads, as in 1,2,4; default: 1 and the machine's\n\n"
      "Google Benchmark's:\n\n",
      Join(SupportedTargets()).c_str());
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

// What Google Benchmark has left of the command line.
Config ParseFlags(int argc, char** argv) {
  const option options[] = {
      {"target", required_argument, nullptr, 't'}, {"threads", required_argument, nullptr, 'n'}, {nullptr, 0, nullptr, 0}};
  const std::vector<const char*> supported = SupportedTargets();
  Config config;
  for (int flag; (flag = getopt_long(argc, argv, "", options, nullptr)) != -1;) {
    switch (flag) {
      case 't': {
        const auto named = [](const char* name) { return std::strcmp(name, optarg) == 0; };
        const auto target = std::find_if(supported.begin(), supported.end(), named);
        if (target == supported.end()) {
          UsageError(std::string("target \"") + optarg + "\" is not supported here; supported: " + Join(supported));
        }
        config.targets.push_back(*target);
        break;
      }
      case 'n':
        config.threads = ParseThreads(optarg);
        break;
      default:
        std::exit(kUsageError);  // getopt_long has said why
    }
  }
  if (optind < argc) UsageError(std::string("unexpected argument \"") + argv[optind] + "\"");
  if (config.targets.empty()) config.targets = supported;
  if (config.threads.empty()) config.threads = DefaultThreads();
  return config;
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
  Config config = ParseFlags(argc, argv);
#ifdef SIMDNORM_BENCH_ONEDNN
  config.peers.push_back(OneDnnPeer());
#endif
  benchmark::AddCustomContext("simdnorm", simdnorm_version());
  benchmark::AddCustomContext("targets", Join(SupportedTargets()));
  benchmark::AddCustomContext("cpu", CpuName());
  RegisterLayerNorm(config);
  RegisterBatchNorm(config);
  RegisterGroupNorm(config);
  const size_t matched = benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return matched == 0 || AnyFailed() ? EXIT_FAILURE : EXIT_SUCCESS;
}

}  // namespace
}  // namespace simdnorm::bench

int main(int argc, char** argv) { return simdnorm::bench::Main(argc, argv); }
