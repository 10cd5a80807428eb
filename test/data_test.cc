// Real layers, ONNX's node tests and a torture set (test/data/README.md says where each comes from): every case on every target
// through the public API, batch norm in both layouts, against the outputs and bounds that came with the case.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "npy.h"
#include "simdnorm/simdnorm.hpp"

namespace {

namespace fs = std::filesystem;

npy::Array Load(const fs::path& path) {
  std::string error;
  std::optional<npy::Array> array = npy::Read(path.string(), &error);
  CAPTURE(error);
  REQUIRE(array);
  return std::move(*array);
}

// What a result may be off by, element by element.
struct Expected {
  npy::Shape shape;
  std::vector<double> values, bounds;
};

struct Case {
  std::string op;
  float epsilon = 1e-5f, momentum = 0.1f;
  int64_t axis = -1;
  bool training = false, biased = false;
  std::map<std::string, npy::Array> inputs;
  std::map<std::string, Expected> expected;

  const float* Input(const std::string& name) const {
    const auto found = inputs.find(name);
    return found == inputs.end() ? nullptr : found->second.f32();
  }
};

Expected ReadExpected(const fs::path& path, std::istringstream& bound) {
  const npy::Array file = Load(path);
  std::vector<double> values(static_cast<size_t>(file.count()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = file.dtype == npy::Dtype::kF32 ? file.f32()[i] : file.f64()[i];
  double absolute, relative;
  if (bound >> absolute >> relative) {
    std::vector<double> bounds;
    for (const double value : values) bounds.push_back(std::isfinite(value) ? absolute + relative * std::abs(value) : 0);
    return {file.shape, values, bounds};
  }
  REQUIRE(file.shape.at(0) == 2);  // the values, then their bounds
  const auto half = values.begin() + static_cast<int64_t>(values.size() / 2);
  return {{file.shape.begin() + 1, file.shape.end()}, {values.begin(), half}, {half, values.end()}};
}

Case ReadCase(const fs::path& folder) {
  static const std::set<std::string> kInputs = {"input",    "scale",        "shift",           "mean",
                                                "variance", "running-mean", "running-variance"};
  static const std::set<std::string> kOutputs = {"output", "save-mean", "save-rstd", "save-running-mean",
                                                 "save-running-variance"};
  Case c;
  std::ifstream file(folder / "case.txt");
  for (std::string line; std::getline(file, line);) {
    CAPTURE(line);
    std::istringstream words(line);
    std::string key, value;
    words >> key >> value;
    if (kInputs.count(key) != 0) {
      c.inputs[key] = Load(folder / value);
      REQUIRE(c.inputs[key].dtype == npy::Dtype::kF32);
    } else if (kOutputs.count(key) != 0) {
      c.expected[key] = ReadExpected(folder / value, words);
    } else if (key == "op") {
      c.op = value;
    } else if (key == "epsilon") {
      c.epsilon = static_cast<float>(std::stod(value));
    } else if (key == "momentum") {
      c.momentum = static_cast<float>(std::stod(value));
    } else if (key == "axis") {
      c.axis = std::stoll(value);
    } else if (key == "training") {
      c.training = true;
    } else if (key == "running-variance-kind") {
      c.biased = value == "biased";
    } else {
      REQUIRE(key == "title");
    }
  }
  REQUIRE(c.Input("input") != nullptr);
  REQUIRE(c.expected.count("output") == 1);
  return c;
}

// How many elements are further off than their bound, and the first of them. NaN and infinity have to be where they are
// expected; a bound of infinity stands where a case says nothing.
size_t CountWrong(const Expected& expected, const std::vector<float>& got, size_t* first_wrong) {
  size_t wrong = 0;
  for (size_t i = got.size(); i-- > 0;) {
    const double want = expected.values[i], bound = expected.bounds[i], have = static_cast<double>(got[i]);
    const bool right = std::isinf(bound) || want == have || (std::isnan(want) && std::isnan(have)) ||
                       (std::isfinite(want) && std::abs(want - have) <= bound);
    if (right) continue;
    ++wrong;
    *first_wrong = i;
  }
  return wrong;
}

void Check(const Expected& expected, const std::vector<float>& got) {
  REQUIRE(got.size() == expected.values.size());
  size_t first_wrong = 0;
  const size_t wrong = CountWrong(expected, got, &first_wrong);
  CAPTURE(first_wrong);
  CAPTURE(got[first_wrong]);
  CAPTURE(expected.values[first_wrong]);
  CAPTURE(expected.bounds[first_wrong]);
  CHECK(wrong == 0);
}

// Every result that a case may ask for; `expected` says which of them are looked at.
void CheckAll(const Case& c, const std::map<std::string, std::vector<float>>& results) {
  for (const auto& output : c.expected) {  // no structured binding: clang 14 captures none in CAPTURE's lambda
    CAPTURE(output.first);
    REQUIRE(results.count(output.first) == 1);
    Check(output.second, results.at(output.first));
  }
}

void RunRows(const Case& c, const simdnorm::Options& options) {
  const npy::Array& x = c.inputs.at("input");
  const auto split = c.axis < 0 ? x.shape.end() + c.axis : x.shape.begin() + c.axis;
  const int64_t rows = npy::Count({x.shape.begin(), split}), cols = npy::Count({split, x.shape.end()});
  std::vector<float> y(static_cast<size_t>(x.count())), mean(static_cast<size_t>(rows)), rstd(mean);
  const simdnorm::Result result =
      c.op == "rms-norm"
          ? simdnorm::RMSNorm(x.f32(), y.data(), rows, cols, {c.Input("scale"), c.epsilon, rstd.data()}, options)
          : simdnorm::LayerNorm(x.f32(), y.data(), rows, cols,
                                {c.Input("scale"), c.Input("shift"), c.epsilon, mean.data(), rstd.data()}, options);
  const std::string message = result.message();
  CAPTURE(message);
  REQUIRE(result);
  CheckAll(c, {{"output", y}, {"save-mean", mean}, {"save-rstd", rstd}});
}

// [batch, a, b] -> [batch, b, a]
std::vector<float> Transpose(const std::vector<float>& x, int64_t batch, int64_t a, int64_t b) {
  std::vector<float> out(x.size());
  for (int64_t n = 0; n < batch; ++n) {
    for (int64_t i = 0; i < a; ++i) {
      for (int64_t j = 0; j < b; ++j)
        out[static_cast<size_t>((n * b + j) * a + i)] = x[static_cast<size_t>((n * a + i) * b + j)];
    }
  }
  return out;
}

void RunBatchNorm(const Case& c, simdnorm_layout layout, const simdnorm::Options& options) {
  const npy::Array& file = c.inputs.at("input");
  const int64_t batch = file.shape.at(0), channels = file.shape.at(1);
  const int64_t spatial = npy::Count({file.shape.begin() + 2, file.shape.end()});
  const size_t per_channel = static_cast<size_t>(channels);
  const bool nhwc = layout == SIMDNORM_NHWC;

  std::vector<float> x(file.f32(), file.f32() + file.count()), y(x.size()), mean(per_channel), rstd(per_channel);
  if (nhwc) x = Transpose(x, batch, channels, spatial);
  const auto copy = [&](const float* from) { return from == nullptr ? mean : std::vector<float>(from, from + channels); };
  std::vector<float> running_mean = copy(c.Input("running-mean")), running_variance = copy(c.Input("running-variance"));

  simdnorm::BatchNormTrainingParams training;
  training.scale = c.Input("scale");
  training.shift = c.Input("shift");
  training.epsilon = c.epsilon;
  training.mean = mean.data();
  training.rstd = rstd.data();
  training.running_mean = c.Input("running-mean") != nullptr ? running_mean.data() : nullptr;
  training.running_variance = c.Input("running-variance") != nullptr ? running_variance.data() : nullptr;
  training.momentum = c.momentum;
  training.running_variance_kind = c.biased ? SIMDNORM_BIASED : SIMDNORM_UNBIASED;
  const simdnorm::BatchNormInferenceParams inference = {c.Input("mean"), c.Input("variance"), c.Input("scale"),
                                                        c.Input("shift"), c.epsilon};
  const simdnorm::Shape shape = {batch, channels, spatial, layout};
  const simdnorm::Result result = c.training ? simdnorm::BatchNormTraining(x.data(), y.data(), shape, training, options)
                                             : simdnorm::BatchNormInference(x.data(), y.data(), shape, inference, options);
  const std::string message = result.message();
  CAPTURE(message);
  REQUIRE(result);
  if (nhwc) y = Transpose(y, batch, spatial, channels);
  CheckAll(c, {{"output", y},
               {"save-mean", mean},
               {"save-rstd", rstd},
               {"save-running-mean", running_mean},
               {"save-running-variance", running_variance}});
}

std::vector<fs::path> Cases() {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(SIMDNORM_TEST_DATA)) {
    if (entry.is_directory()) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

TEST_CASE("data: every case on every target") {
  std::vector<std::string> targets;
  for (const char* const* target = simdnorm::Targets(); *target != nullptr; ++target) targets.push_back(*target);
  REQUIRE(!targets.empty());
  std::map<std::string, int> runs;
  for (const fs::path& folder : Cases()) {
    const std::string name = folder.filename().string();
    CAPTURE(name);
    const Case c = ReadCase(folder);
    for (const std::string& target : targets) {
      CAPTURE(target);
      simdnorm::Options options;
      options.target = target.c_str();
      if (c.op == "batch-norm") {
        for (const simdnorm_layout layout : {SIMDNORM_NCHW, SIMDNORM_NHWC}) {
          CAPTURE(layout);
          RunBatchNorm(c, layout, options);
        }
      } else {
        RunRows(c, options);
      }
      ++runs[c.op + " " + target];
    }
  }
  for (const std::string op : {"layer-norm", "rms-norm", "batch-norm"}) {
    for (const std::string& target : targets) {
      CAPTURE(op);
      CAPTURE(target);
      CHECK(runs[op + " " + target] >= 4);
    }
  }
}

TEST_CASE("data: a result beyond its bound or out of place is noticed") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const Expected expected = {{5}, {1, -2, nan, inf, 7}, {1e-3, 1e-3, 0, 0, inf}};
  const auto wrong = [&](const std::vector<float>& got) {
    size_t first_wrong = 0;
    const size_t count = CountWrong(expected, got, &first_wrong);
    return count == 0 ? -1 : static_cast<int>(first_wrong);
  };
  CHECK(wrong({1.0009f, -2.0009f, nan, inf, nan}) == -1);
  CHECK(wrong({1.0011f, -2, nan, inf, 7}) == 0);
  CHECK(wrong({nan, -2, nan, inf, 7}) == 0);
  CHECK(wrong({1, inf, nan, inf, 7}) == 1);
  CHECK(wrong({1, -2, 0, inf, 7}) == 2);
  CHECK(wrong({1, -2, nan, -inf, 7}) == 3);
  CHECK(wrong({1, -2, nan, 3e38f, 7}) == 3);
}

}  // namespace
