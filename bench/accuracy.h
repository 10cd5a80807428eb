// How far simdnorm and its peers are from exact results, on data that is easy and data that is not: the table of --errors.
#ifndef SIMDNORM_BENCH_ACCURACY_H_
#define SIMDNORM_BENCH_ACCURACY_H_

#include <vector>

#include "harness.h"

namespace simdnorm::bench {

// Prints it as Markdown: a row for each kind of data, a column for simdnorm on its best target and for each peer, on one
// thread.
void PrintErrors(const std::vector<Peer>& peers);

}  // namespace simdnorm::bench

#endif  // SIMDNORM_BENCH_ACCURACY_H_
