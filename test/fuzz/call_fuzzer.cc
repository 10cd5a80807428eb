// Fuzzes the C API's arguments. Out of an input come
//   wild calls (wild_call.h):    any values in any field of the arguments and options: a refusal has to touch nothing, a call
//                                that is accepted has to write its outputs and nothing else;
//   a valid call (valid_call.h): for a quarter of all first bytes. Any combination of what an operation can do, compared with
//                                the long-double reference on every target, in guarded memory, and with the others' bits.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <fuzzer/FuzzedDataProvider.h>

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

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  static doctest::Context context;
  context.setAsDefaultForAssertsOutOfTestCases();
  context.setAssertHandler(AbortAfterFailedCheck);
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
