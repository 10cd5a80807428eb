// `simdnorm digest`: the lines of digests.txt on every target with fused multiply-add, for any number of threads.
#include "all_targets.h"
#include "call.h"
#include "cli.h"

namespace simdnorm_test {
namespace {

TEST_CASE("cli: digest prints the stored lines, on the default target and on another with threads") {
  const Workplace w;
  const std::string stored = Slurp(SIMDNORM_TEST_DIGESTS);
  std::vector<std::string> targets;
  for (const char* const* target = simdnorm_targets(); *target != nullptr; ++target) {
    if (HasFusedMultiplyAdd(*target)) targets.push_back(*target);
  }
  if (targets.empty()) return;
  for (const std::string& arguments : {std::string("digest"), "digest --threads 3 --target " + targets.back()}) {
    CAPTURE(arguments);
    const Run run = Cli(w, arguments);
    CHECK(run.status == 0);
    CHECK(run.err == "");
    CHECK((run.out == stored));  // nobody wants to read both
    if (SmallEffort()) break;
  }
}

TEST_CASE("cli: digest says that a target without fused multiply-add is outside the promise, and stops when nobody reads it") {
  const Workplace w;
  for (const char* const* target = simdnorm_targets(); *target != nullptr; ++target) {
    if (HasFusedMultiplyAdd(*target)) continue;
    CAPTURE(std::string(*target));
    const Run run = Cli(w, "digest --threads 1 --target " + std::string(*target), "/dev/full");
    CHECK(run.status == 2);
    CHECK(run.err == "simdnorm: note: " + std::string(*target) +
                         " has no fused multiply-add: its digests are not those of other targets\n"
                         "simdnorm: cannot write to standard output\n");
    break;
  }
}

TEST_CASE("cli: digest refuses what is no target, and files") {
  const Workplace w;
  CheckRefused(w, "digest --target NO_SUCH", {"NO_SUCH", "not supported"});
  CheckRefused(w, "digest --threads -1", {"threads"});
  CheckRefused(w, "digest x.npy", {"x.npy"});
  CHECK(Cli(w, "digest --help").out.find("--threads") != std::string::npos);
}

}  // namespace
}  // namespace simdnorm_test
