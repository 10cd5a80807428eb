// Arguments at the door: every check there is, and the words for what is wrong. What passes needs no check further in.
#ifndef SIMDNORM_LIB_VALIDATE_H_
#define SIMDNORM_LIB_VALIDATE_H_

#include <stddef.h>

#include <type_traits>

#include "executor.h"
#include "simdnorm/simdnorm.h"

namespace simdnorm {

struct PlainRows;  // kernels.h

// How a call runs, out of its simdnorm_options.
struct CallOptions {
  Executor executor;
  size_t target_index = 0;  // into a table of HWY_EXPORT
};

// Of the two operations on rows, which have the same kernels and checks, but for shift and mean.
template <class Args>
constexpr bool kIsLayerNorm = std::is_same<Args, simdnorm_layer_norm_args>::value;

// Each takes what the caller gave and, if it is OK, leaves it in `valid` (fields of older or newer callers as they default, and
// what 0 stands for spelled out: strides, inner, rows_per_scale, rows_per_sequence, groups, kernel) and `options`. A tensor
// without elements is OK, and then `empty` is set and nothing else to be used.
simdnorm_status Validate(const simdnorm_layer_norm_args* given, const simdnorm_options* given_options,
                         simdnorm_layer_norm_args* valid, CallOptions* options, bool* empty);
simdnorm_status Validate(const simdnorm_rms_norm_args* given, const simdnorm_options* given_options,
                         simdnorm_rms_norm_args* valid, CallOptions* options, bool* empty);
simdnorm_status Validate(const simdnorm_batch_norm_inference_args* given, const simdnorm_options* given_options,
                         simdnorm_batch_norm_inference_args* valid, CallOptions* options, bool* empty);
simdnorm_status Validate(const simdnorm_batch_norm_training_args* given, const simdnorm_options* given_options,
                         simdnorm_batch_norm_training_args* valid, CallOptions* options, bool* empty);
// `instance`: for instance norm, which has a group for each channel.
simdnorm_status Validate(const simdnorm_group_norm_args* given, const simdnorm_options* given_options,
                         simdnorm_group_norm_args* valid, CallOptions* options, bool* empty, bool instance);
// Of the options it takes the message alone, and leaves `options` as they default.
simdnorm_status Validate(const simdnorm_fold_batch_norm_args* given, const simdnorm_options* given_options,
                         simdnorm_fold_batch_norm_args* valid, CallOptions* options, bool* empty);

// Takes a call that is as most are, at a glance: of both structs as they are in this version, valid, and nothing but what
// PlainRows has. False if not, or not at a glance; then Validate has the say, which finds the same calls valid.
template <class Args>
bool TakePlainRows(const Args* given, const simdnorm_options* given_options, PlainRows* rows, CallOptions* options);

// An entry point: checks the arguments and, where there is anything to do, calls run(args, options). `which` is what else
// Validate asks for: RunIfValid(given, given_options, run, /*instance=*/true). Not inline: TakePlainRows goes before it.
template <class Args, class Run, class... Which>
__attribute__((noinline)) simdnorm_status RunIfValid(const Args* given, const simdnorm_options* given_options, const Run& run,
                                                     Which... which) {
  Args args;
  CallOptions options;
  bool empty = false;
  const simdnorm_status status = Validate(given, given_options, &args, &options, &empty, which...);
  if (status == SIMDNORM_OK && !empty) run(args, options);
  return status;
}

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_VALIDATE_H_
