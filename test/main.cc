// The test executable's main. It differs from doctest's own in two things: a filter that matches no test case is a failure, so
// that a renamed file cannot turn its tests into a run of nothing; and so is a target that tests left out.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <set>
#include <string>

#include "all_targets.h"

namespace {

int num_cases_run = 0;

struct CaseCounter : doctest::IReporter {
  explicit CaseCounter(const doctest::ContextOptions&) {}
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats& stats) override {
    num_cases_run = static_cast<int>(stats.numTestCasesPassingFilters);
  }
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};

REGISTER_LISTENER("case_counter", 0, CaseCounter);

}  // namespace

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  const int failed = context.run();
  if (context.shouldExit()) return failed;  // --help, --list-test-cases and the like
  if (num_cases_run == 0) {
    std::fprintf(stderr, "no test case matches\n");
    return 1;
  }
  // Tests that go through targets go through all of them.
  const std::set<std::string>& run = simdnorm_test::TargetsRun();
  for (const char* const* name = simdnorm_targets(); !run.empty() && *name != nullptr; ++name) {
    if (run.count(*name) == 1) continue;
    std::fprintf(stderr, "target %s was not run\n", *name);
    return 1;
  }
  return failed;
}
