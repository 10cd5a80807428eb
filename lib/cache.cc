#include "cache.h"

#include <algorithm>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace simdnorm {
namespace {

// A last-level cache of hundreds of megabytes is that of many cores, of which a process has a part: measured on such a machine,
// writing and then reading an output is as fast past the cache from 32 MiB on, and writing alone twice as fast.
constexpr int64_t kMost = int64_t{32} << 20;

#if defined(__x86_64__) || defined(__i386__)
// The level 3 cache that this processor reaches, out of a leaf of CPUID that describes a cache by subleaf; 0: not told. (The
// C library's number is, on AMD, that of all such caches of the package together.)
int64_t Level3Bytes(unsigned leaf) {
  for (unsigned cache = 0, a, b, c, d; cache < 8; ++cache) {
    if (!__get_cpuid_count(leaf, cache, &a, &b, &c, &d) || (a & 31) == 0) break;
    if ((a >> 5 & 7) != 3) continue;
    const int64_t ways = (b >> 22) + 1, partitions = (b >> 12 & 1023) + 1, line = (b & 4095) + 1;
    return ways * partitions * line * (int64_t{c} + 1);
  }
  return 0;
}
#endif

int64_t LastLevelCacheBytes() {
#if defined(__x86_64__) || defined(__i386__)
  for (const unsigned leaf : {4u, 0x8000001Du}) {  // Intel's, AMD's
    if (const int64_t level3 = Level3Bytes(leaf); level3 > 0) return level3;
  }
#endif
#ifdef _SC_LEVEL3_CACHE_SIZE
  const int64_t level3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (level3 > 0) return level3;
#endif
  return kMost;  // not known here
}

// As far as it counts.
int64_t LastLevel() {
  static const int64_t last_level = std::min(LastLevelCacheBytes(), kMost);
  return last_level;
}

}  // namespace

int64_t StreamingBytes(int64_t threads) {
  // One thread loses to itself what the input and the output have more than the cache, from half of it on. More threads share
  // memory, which then is the narrow place, and read what is still in the cache at several times its speed. Measured with
  // 32 MiB: an output written, then added up, takes as long both ways at 10 MiB (layer norm) to 20 MiB (batch norm, inference)
  // on one thread, and at 28 MiB on two.
  return std::max(threads == 1 ? LastLevel() / 2 : LastLevel(), kLeastStreamingBytes);
}

// Measured with 32 MiB: 12 MiB are the cache's, 20 MiB are not, on one thread and on two.
int64_t OverflowBytes() { return std::max(LastLevel() / 2, kLeastStreamingBytes); }

}  // namespace simdnorm
