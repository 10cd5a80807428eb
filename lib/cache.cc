#include "cache.h"

#include <algorithm>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace simdnorm {
namespace {

// A last-level cache of hundreds of megabytes is that of many cores, of which a process has a part: measured on such a machine,
// writing and then reading an output is as fast past the cache from 32 MiB on, and writing alone twice as fast.
constexpr int64_t kMost = int64_t{32} << 20;

int64_t LastLevelCacheBytes() {
#ifdef _SC_LEVEL3_CACHE_SIZE
  const int64_t level3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (level3 > 0) return level3;
#endif
  return kMost;  // not known here
}

}  // namespace

int64_t StreamingBytes() {
  static const int64_t bytes = std::clamp(LastLevelCacheBytes(), kLeastStreamingBytes, kMost);
  return bytes;
}

}  // namespace simdnorm
