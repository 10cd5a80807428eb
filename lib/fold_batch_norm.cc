// Batch norm (inference) folded into the weights of a layer beside it: once, when a model is loaded, so plain scalar code.
// simdnorm.h says what comes out.
#include <math.h>
#include <stdint.h>

#include "executor.h"
#include "validate.h"

namespace simdnorm {
namespace {

// What batch norm does to a channel: x * factor + term.
struct Affine {
  double factor, term;
};

Affine AffineOf(const simdnorm_fold_batch_norm_args& args, int64_t channel) {
  const double scale = args.scale ? static_cast<double>(args.scale[channel]) : 1.0;
  const double shift = args.shift ? static_cast<double>(args.shift[channel]) : 0.0;
  const double variance = static_cast<double>(args.variance[channel]) + static_cast<double>(args.epsilon);
  const double factor = scale / sqrt(variance);
  return {factor, shift - static_cast<double>(args.mean[channel]) * factor};
}

// To f32, with the one NaN that leaves this library.
float Round(double v) { return isnan(v) ? __builtin_nanf("") : static_cast<float>(v); }

// Output by output, whatever the order of memory, so that one sum is enough; each weight is read once, before it is written.
void Fold(const simdnorm_fold_batch_norm_args& args) {
  const bool preceding = args.position == SIMDNORM_FOLD_INTO_PRECEDING;
  const int64_t group_outputs = args.out_channels / args.groups, group_inputs = args.in_channels / args.groups;
  const int64_t output_stride = args.kernel * (args.transposed ? 1 : group_inputs);
  const int64_t input_stride = args.kernel * (args.transposed ? group_outputs : 1);
  for (int64_t output = 0; output < args.out_channels; ++output) {
    const int64_t group = output / group_outputs;
    const int64_t first = group * group_outputs * group_inputs * args.kernel + output % group_outputs * output_stride;
    const double bias = args.bias ? static_cast<double>(args.bias[output]) : 0.0;
    Affine affine = {};
    if (preceding) affine = AffineOf(args, output);
    double sum = 0;
    for (int64_t input = 0; input < group_inputs; ++input) {
      if (!preceding) affine = AffineOf(args, group * group_inputs + input);
      const int64_t begin = first + input * input_stride;
      for (int64_t i = begin; i < begin + args.kernel; ++i) {
        const double weight = static_cast<double>(args.weight[i]);
        args.folded_weight[i] = Round(weight * affine.factor);
        sum += weight * affine.term;
      }
    }
    args.folded_bias[output] = Round(preceding ? bias * affine.factor + affine.term : bias + sum);
  }
}

}  // namespace
}  // namespace simdnorm

simdnorm_status simdnorm_fold_batch_norm(const simdnorm_fold_batch_norm_args* given, const simdnorm_options* given_options) {
  using namespace simdnorm;
  return RunIfValid(given, given_options, [](const simdnorm_fold_batch_norm_args& args, const CallOptions& options) {
    // One unit, which runs on the calling thread: what ParallelFor is for here is its floating-point environment.
    const Kernel fold = [](const void* fold_args, int64_t, int64_t) {
      Fold(*static_cast<const simdnorm_fold_batch_norm_args*>(fold_args));
    };
    ParallelFor(options.executor, 1, 1, fold, &args);
  });
}
