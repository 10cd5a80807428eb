// The API's rims: names, versions, the list of targets, and that the C++ wrappers are the C functions.
#include <cstdlib>
#include <initializer_list>
#include <set>
#include <sstream>
#include <string>

#include "problem.h"
#include "simdnorm/simdnorm.hpp"

namespace simdnorm_test {
namespace {

TEST_CASE("names of statuses") {
  CHECK(std::string(simdnorm_status_name(SIMDNORM_OK)) == "OK");
  CHECK(std::string(simdnorm_status_name(SIMDNORM_INVALID_ARGUMENT)) == "INVALID_ARGUMENT");
  CHECK(std::string(simdnorm_status_name(SIMDNORM_UNSUPPORTED)) == "UNSUPPORTED");
  for (const simdnorm_status status : {-1, 3, 1 << 30}) CHECK(std::string(simdnorm_status_name(status)) == "unknown status");
}

TEST_CASE("the library's version is the headers'") {
  std::ostringstream version;
  version << SIMDNORM_VERSION_MAJOR << '.' << SIMDNORM_VERSION_MINOR << '.' << SIMDNORM_VERSION_PATCH;
  CHECK(version.str() == SIMDNORM_VERSION_STRING);
  CHECK(std::string(simdnorm_version()) == SIMDNORM_VERSION_STRING);
}

TEST_CASE("targets have different names, and the first is the default") {
  std::set<std::string> names;
  for (const char* const* name = simdnorm_targets(); *name != nullptr; ++name) CHECK(names.insert(*name).second);
  REQUIRE(!names.empty());
  CHECK(simdnorm_targets() == simdnorm_targets());
  CHECK(simdnorm::Targets() == simdnorm_targets());

  Problem p;
  p.rows = 9, p.cols = 333;
  CHECK(SameBits(RunSerial(p, nullptr), RunSerial(p, simdnorm_targets()[0])));
}

TEST_CASE("targets are told apart: one without fused multiply-add gives other last digits") {
  std::vector<std::string> with, without;
  ForEachTarget([&](const char* target) { (HasFusedMultiplyAdd(target) ? with : without).push_back(target); });
  if (with.empty() || without.empty()) {
    MESSAGE("this machine has one sort of target only");
    return;
  }
  Problem p;
  p.rows = 9, p.cols = 333;
  CHECK_FALSE(SameBits(RunSerial(p, with[0].c_str()), RunSerial(p, without[0].c_str())));
}

TEST_CASE("every target that this machine is meant to have was run") {
  ForEachTarget([](const char* target) {
    for (const Op op : kAllOps) {
      Problem p;
      p.op = op;
      p.rows = p.channels = 3;
      p.cols = p.spatial = 50;
      CheckProblem(p);
      Run(p, AllExecutors()[0].Options(target));
    }
  });
  const char* const required = getenv("SIMDNORM_REQUIRE_TARGETS");
  std::istringstream names(required != nullptr ? required : "");
  for (std::string name; names >> name;) {
    CHECK_MESSAGE(TargetsRun().count(name) == 1, name << " is in SIMDNORM_REQUIRE_TARGETS but was not run");
  }
}

// The four operations by the C++ wrappers, with the arguments of `tensors`.
simdnorm::Result RunWrapper(Tensors& tensors, const simdnorm::Options& options) {
  const Problem& p = tensors.p;
  float* const x = tensors.x.data();
  float* const y = tensors.y.data();
  const auto pointer = [](const std::optional<GuardedBuffer>& buffer) { return buffer ? buffer->data() : nullptr; };
  const simdnorm::Shape shape = {p.batch, p.channels, p.spatial, p.layout};
  switch (p.op) {
    case Op::kLayerNorm:
      return simdnorm::LayerNorm(
          {x, p.rows, p.cols, p.XStride()}, {y, p.rows, p.cols, p.YStride()},
          {pointer(tensors.scale), pointer(tensors.shift), p.epsilon, pointer(tensors.mean), pointer(tensors.rstd)}, options);
    case Op::kRMSNorm:
      return simdnorm::RMSNorm({x, p.rows, p.cols, p.XStride()}, {y, p.rows, p.cols, p.YStride()},
                               {pointer(tensors.scale), p.epsilon, pointer(tensors.rstd)}, options);
    case Op::kBatchNormInference:
      return simdnorm::BatchNormInference(x, y, shape,
                                          {pointer(tensors.given_mean), pointer(tensors.given_variance), pointer(tensors.scale),
                                           pointer(tensors.shift), p.epsilon},
                                          options);
    case Op::kBatchNormTraining:
      break;
  }
  simdnorm::BatchNormTrainingParams params = {pointer(tensors.scale), pointer(tensors.shift), p.epsilon, pointer(tensors.mean),
                                              pointer(tensors.rstd)};
  params.running_mean = pointer(tensors.running_mean);
  params.running_variance = pointer(tensors.running_variance);
  params.momentum = p.momentum;
  params.running_variance_kind = p.running_variance_kind;
  return simdnorm::BatchNormTraining(x, y, shape, params, options);
}

TEST_CASE("the C++ wrappers hand on every argument") {
  ForEachTarget([](const char* target) {
    for (const Op op : kAllOps) {
      for (unsigned variant = 0; variant < kNumVariants; ++variant) {
        Problem p;
        p.op = op;
        p.rows = 3, p.cols = 21;
        p.batch = 2, p.channels = 5, p.spatial = 7;
        p = Variant(p, variant);
        p.in_place = false;
        p.epsilon = 0.25f;
        p.momentum = 0.75f;
        Tensors tensors(p);
        const Outputs expected = RunSerial(p, target);
        CountingPool pool;
        const simdnorm::Result result = RunWrapper(tensors, {target, 2, CountingPool::ParallelFor, &pool});
        CHECK(result);
        CHECK(result.ok());
        CHECK(result.status() == SIMDNORM_OK);
        CHECK(std::string(result.message()).empty());
        CHECK_MESSAGE(SameBits(tensors.Collect(), expected), Describe(p, target));
      }
    }
  });
}

TEST_CASE("the C++ wrappers hand on threads and defaults") {
  Problem p;
  p.rows = 500, p.cols = 1000;
  p.scale = p.shift = p.mean = p.rstd = false;
  Tensors tensors(p);
  const Outputs expected = RunSerial(p, nullptr);
  CountingPool pool;
  CHECK(RunWrapper(tensors, {nullptr, 4, CountingPool::ParallelFor, &pool}));
  CHECK(pool.most_tasks >= 2);
  CHECK(pool.most_tasks <= 4);
  CHECK(SameBits(tensors.Collect(), expected));

  tensors.Reset();
  CHECK(simdnorm::LayerNorm(tensors.x.data(), tensors.y.data(), p.rows, p.cols));
  CHECK(SameBits(tensors.Collect(), expected));
}

TEST_CASE("the C++ wrappers say what is wrong") {
  float x[12] = {}, y[12] = {};
  const simdnorm::Result strides = simdnorm::LayerNorm({x, 2, 5, 3}, {y, 2, 5});
  CHECK_FALSE(strides);
  CHECK(strides.status() == SIMDNORM_INVALID_ARGUMENT);
  CHECK(std::string(strides.message()).find("x_row_stride 3") != std::string::npos);

  const simdnorm::Result target = simdnorm::RMSNorm(x, y, 2, 5, {}, {"AVX9"});
  CHECK(target.status() == SIMDNORM_UNSUPPORTED);
  CHECK(std::string(target.message()).find("AVX9") != std::string::npos);

  for (const simdnorm::Result& mismatch : {simdnorm::LayerNorm({x, 2, 5}, {y, 1, 5}), simdnorm::LayerNorm({x, 2, 5}, {y, 2, 4}),
                                           simdnorm::RMSNorm({x, 2, 5}, {y, 1, 5}), simdnorm::RMSNorm({x, 2, 5}, {y, 2, 4})}) {
    CHECK(mismatch.status() == SIMDNORM_INVALID_ARGUMENT);
    CHECK(std::string(mismatch.message()).find("x and y differ in") == 0);
  }
}

}  // namespace
}  // namespace simdnorm_test
