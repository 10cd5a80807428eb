// Layer norm and RMS norm: entry points. The mathematics is in simdnorm.h, the kernels are in simd/rows-inl.h.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "layer_norm.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// The above compiles this file once for every target.
#include "hwy/highway.h"
#include "simd/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace simdnorm {
namespace HWY_NAMESPACE {

SequenceKernels LayerNormKernels() { return MakeSequenceKernels<SequenceTraits<true, true, float, float, float>>(); }
SequenceKernels RMSNormKernels() { return MakeSequenceKernels<SequenceTraits<false, true, float, float, float>>(); }

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace simdnorm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "validate.h"

namespace simdnorm {
namespace {

HWY_EXPORT(LayerNormKernels);
HWY_EXPORT(RMSNormKernels);

template <class Args>
SequenceNorm RowNorm(const Args& args) {
  SequenceNorm norm = {};
  norm.x = args.x;
  norm.y = args.y;
  norm.x_stride = args.x_row_stride;
  norm.y_stride = args.y_row_stride;
  norm.planes = 1;
  norm.length = args.cols;
  norm.scale = args.scale;
  norm.epsilon = args.epsilon;
  norm.outputs.rstd = args.rstd;
  return norm;
}

}  // namespace
}  // namespace simdnorm

simdnorm_status simdnorm_layer_norm(const simdnorm_layer_norm_args* given, const simdnorm_options* given_options) {
  using namespace simdnorm;
  return RunIfValid(given, given_options, [](const simdnorm_layer_norm_args& args, const CallOptions& options) {
    SequenceNorm norm = RowNorm(args);
    norm.shift = args.shift;
    norm.outputs.mean = args.mean;
    RunSequences(options.executor, HWY_DISPATCH_TABLE(LayerNormKernels)[options.target_index](), norm, args.rows);
  });
}

simdnorm_status simdnorm_rms_norm(const simdnorm_rms_norm_args* given, const simdnorm_options* given_options) {
  using namespace simdnorm;
  return RunIfValid(given, given_options, [](const simdnorm_rms_norm_args& args, const CallOptions& options) {
    RunSequences(options.executor, HWY_DISPATCH_TABLE(RMSNormKernels)[options.target_index](), RowNorm(args), args.rows);
  });
}
#endif  // HWY_ONCE
