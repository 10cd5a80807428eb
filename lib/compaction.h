// Of eight neighbouring positions, which count: a table, for every way in which some of them may. So values are brought
// together of which not all count (simd/cut-inl.h), and results stored (simd/rows-inl.h), without a guess for each of them.
#ifndef SIMDNORM_LIB_COMPACTION_H_
#define SIMDNORM_LIB_COMPACTION_H_

#include <stdint.h>
#include <string.h>

namespace simdnorm {

// How many count, and which, in their order; behind those any of the eight.
struct Compaction {
  uint8_t count;
  uint8_t from[8];
};

struct Compactions {
  Compaction of[256];
};

// Bit i stands for position i.
constexpr Compactions MakeCompactions() {
  Compactions compactions = {};
  for (unsigned bits = 0; bits < 256; ++bits) {
    Compaction& compaction = compactions.of[bits];
    for (uint8_t i = 0; i < 8; ++i) {
      if ((bits >> i & 1) != 0) compaction.from[compaction.count++] = i;
    }
  }
  return compactions;
}

inline constexpr Compactions kCompactions = MakeCompactions();

// Of positions [0, 8) of a mask, those count that are not 0.
inline const Compaction& CompactionOf(const uint8_t* mask) {
  uint64_t bytes;
  memcpy(&bytes, mask, sizeof(bytes));
  // Each byte's highest bit: whether it is not 0. Then these side by side, byte i's in bit i (all targets are little-endian).
  bytes = (bytes | ((bytes & 0x7F7F7F7F7F7F7F7F) + 0x7F7F7F7F7F7F7F7F)) & 0x8080808080808080;
  return kCompactions.of[(bytes >> 7) * 0x0102040810204080 >> 56];
}

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_COMPACTION_H_
