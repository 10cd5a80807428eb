// Runs sequence kernels (simd/rows-inl.h) for any number of sequences: whole sequences as the units of parallel work where
// there are enough of them, else the sections of long ones (kernels.h). Which of the two cannot be seen in the result.
#ifndef SIMDNORM_LIB_SEQUENCES_H_
#define SIMDNORM_LIB_SEQUENCES_H_

#include "executor.h"
#include "kernels.h"

namespace simdnorm {

struct CallOptions;

// The kernels for a CPU target.
struct SequenceKernels {
  Kernel normalize;  // of a SequenceNorm; unit: a sequence
  Kernel given;      // of a SequenceNorm with given statistics; unit: a chunk of a plane. The others: of a SharedSequences
  Kernel moments;    // unit: a section
  Kernel finish;     // one unit
  Kernel save;       // one unit
  Kernel write;      // unit: a section
};

// A few long sequences whose sections are shared among threads.
struct SharedSequences {
  const SequenceNorm* norm;
  int64_t first, count;  // count <= kItems
  Moments* moments;      // [count][sections]
  Normalizers* normalizers;
  bool in_double;  // gather again in double, for those whose normalizer says so
};

// Normalizes by the sequences' own statistics.
void RunSequences(const CallOptions& options, Statistics statistics, const SequenceNorm& norm, int64_t sequences);

// Normalizes rows of which there is nothing more to say, by their own statistics.
void RunPlainRows(const CallOptions& options, Statistics statistics, const PlainRows& rows);

// Normalizes by norm.mean and norm.variance.
void RunGivenSequences(const CallOptions& options, const SequenceNorm& norm);

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_SEQUENCES_H_
