// Calls as data (call.h, tensors.h): one function runs a problem on a target and executor, one checks it against the reference
// on all of them; tests are lists of problems.
#ifndef SIMDNORM_TEST_PROBLEM_H_
#define SIMDNORM_TEST_PROBLEM_H_

#include <doctest/doctest.h>
#include <float.h>
#include <stdint.h>

#include <limits>
#include <string>
#include <vector>

#include "all_targets.h"
#include "buffers.h"
#include "call.h"
#include "compare.h"
#include "executors.h"
#include "reference.h"
#include "simdnorm/simdnorm.h"
#include "tensors.h"
#include "values.h"

namespace simdnorm_test {

// The C entry points under one name.
inline simdnorm_status Call(const simdnorm_layer_norm_args& args, const simdnorm_options* options) {
  return simdnorm_layer_norm(&args, options);
}
inline simdnorm_status Call(const simdnorm_rms_norm_args& args, const simdnorm_options* options) {
  return simdnorm_rms_norm(&args, options);
}
inline simdnorm_status Call(const simdnorm_batch_norm_inference_args& args, const simdnorm_options* options) {
  return simdnorm_batch_norm_inference(&args, options);
}
inline simdnorm_status Call(const simdnorm_batch_norm_training_args& args, const simdnorm_options* options) {
  return simdnorm_batch_norm_training(&args, options);
}
inline simdnorm_status Call(const Tensors& tensors, const simdnorm_options* options) {
  return tensors.WithArgs(Tensors::Inputs::kInPlace, [&](const auto& args) { return Call(args, options); });
}

// Runs a problem and gives back what it wrote.
inline Outputs Run(Tensors& tensors, simdnorm_options options) {
  char message[256] = "";
  options.message = message;
  options.message_capacity = sizeof(message);
  tensors.Reset();
  const simdnorm_status status = Call(tensors, &options);
  CHECK_MESSAGE(status == SIMDNORM_OK, std::string(message) << "; " << Describe(tensors.p, options.target, "?"));
  CHECK_MESSAGE(tensors.OnlyOutputsWritten(), Describe(tensors.p, options.target, "?"));
  return tensors.Collect();
}

inline Outputs Run(const Problem& p, const simdnorm_options& options) {
  Tensors tensors(p);
  tensors.Seal();
  return Run(tensors, options);
}

inline Outputs RunSerial(const Problem& p, const char* target) { return Run(p, AllExecutors()[0].Options(target)); }

// What matters little or not at all to a problem's result, the executor, may change from target to target and problem to
// problem instead of running them all.
enum class Executors { kAll, kInTurn };

// Calls test(executor) for all of them, or for the next.
template <class Test>
void ForExecutors(Executors executors, const Test& test) {
  static size_t next_executor = 0;
  ++next_executor;
  for (size_t e = 0; e < (executors == Executors::kAll && !SmallEffort() ? AllExecutors().size() : 1); ++e) {
    test(AllExecutors()[(next_executor + e) % AllExecutors().size()]);
  }
}

// Checks tensors filled by hand against the reference, on every target. y is of a floating-point dtype, and all rows are valid.
inline void CheckTensors(Tensors& tensors, Executors executors = Executors::kInTurn) {
  const Problem& p = tensors.p;
  tensors.Seal();
  const Expected expected = tensors.Expect();
  const Bounds bounds = BoundsOf(p.op, expected, p.y_dtype);
  ForEachTarget([&](const char* target) {
    ForExecutors(executors, [&](const ExecutorCase& executor) {
      const Outputs actual = Run(tensors, executor.Options(target));
      const std::string errors =
          Compare("y", expected.y, bounds.y, actual.y, p.y_dtype) + Compare("mean", expected.mean, bounds.mean, actual.mean) +
          Compare("rstd", expected.rstd, bounds.rstd, actual.rstd) +
          Compare("running_mean", expected.running_mean, bounds.running_mean, actual.running_mean) +
          Compare("running_variance", expected.running_variance, bounds.running_variance, actual.running_variance) +
          Compare("h", expected.h, bounds.h, actual.h, p.h_dtype);
      CHECK_MESSAGE(errors.empty(), errors << Describe(p, target, executor.name));
    });
  });
}

inline void CheckProblem(const Problem& p, Executors executors = Executors::kInTurn) {
  Tensors tensors(p);
  CheckTensors(tensors, executors);
}

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_PROBLEM_H_
