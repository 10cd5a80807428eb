// Fuzzes the C API's arguments. Out of an input come
//   wild calls (wild_call.h):    any values in any field of the arguments and options: a refusal has to touch nothing, a call
//                                that is accepted has to write its outputs and nothing else;
//   a valid call (valid_call.h): for a quarter of all first bytes. Any combination of what an operation can do, compared with
//                                the long-double reference on every target, in guarded memory, and with the others' bits.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <fuzzer/FuzzedDataProvider.h>
#include <sanitizer/asan_interface.h>

#include <cstdlib>
#include <iostream>

#include "valid_call.h"
#include "wild_call.h"

namespace {

// The tests' own checks are used here as well, outside of doctest's runner.
void AbortAfterFailedCheck(const doctest::AssertData& data) {
  std::cerr << "FOUND: " << data.m_file << ':' << data.m_line << ": " << data.m_expr << '\n';
  for (int i = 0; i < doctest::IReporter::get_num_active_contexts(); ++i) {
    doctest::IReporter::get_active_contexts()[i]->stringify(&std::cerr);
    std::cerr << '\n';
  }
  std::abort();
}

// A vector that is read where no process has memory, as wild calls may ask for, is an error for the sanitizer before it is one
// for the processor. The first is no finding, and the second comes next: the signal that wild_call.h waits for.
void AbortAfterError(const char* /*report*/) {
  const bool is_nowhere = reinterpret_cast<uintptr_t>(__asan_get_report_address()) >> 63 != 0;
  if (!is_nowhere) std::abort();
}

}  // namespace

// NOLINTNEXTLINE(bugprone-reserved-identifier): the sanitizer's name
extern "C" const char* __asan_default_options() { return "halt_on_error=0:suppress_equal_pcs=0"; }

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  static doctest::Context context;
  context.setAsDefaultForAssertsOutOfTestCases();
  context.setAssertHandler(AbortAfterFailedCheck);
  __asan_set_error_report_callback(AbortAfterError);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  // Wild calls take a hundredth of the time that valid ones do.
  FuzzedDataProvider wild_bytes(data + 1, size - 1), bytes(data + 1, size - 1);
  while (wild_bytes.remaining_bytes() > 0) simdnorm_test::CheckWildCall(wild_bytes);
  if (data[0] % 8 == 0) simdnorm_test::CheckValidRows(bytes);
  if (data[0] % 8 == 1) simdnorm_test::CheckValidChannels(bytes);
  return 0;
}
