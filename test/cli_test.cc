// The command line, run as a user runs it: what it writes, says and returns, and that a failure leaves no file behind. That the
// numbers are right data_test.cc shows; here a formula in double on small tensors tells that the flags reach the right
// argument. What can go around a normalization, and the norms other than layer, RMS and batch norm: cli_family_test.cc.
#include "cli.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "simdnorm/simdnorm.hpp"

namespace simdnorm_test {
namespace {

std::vector<double> Row(const npy::Array& x, int64_t begin, int64_t count) {
  return {x.f32() + begin, x.f32() + begin + count};
}

// Channel c of x [2, 3, 4]
std::vector<double> Channel(const npy::Array& x, int64_t c) {
  std::vector<double> out = Row(x, 4 * c, 4), second = Row(x, 12 + 4 * c, 4);
  out.insert(out.end(), second.begin(), second.end());
  return out;
}

TEST_CASE("cli: layer-norm") {
  const Workplace w;
  CheckOk(w,
          "layer-norm --input x.npy --output y.npy --epsilon 0.5 --scale scale4.npy --shift shift4.npy --save-mean m.npy "
          "--save-rstd r.npy");
  const npy::Array x = w.Get("x.npy"), scale = w.Get("scale4.npy"), shift = w.Get("shift4.npy");
  std::vector<double> y, mean, rstd;
  for (int64_t row = 0; row < 6; ++row) {
    const Statistics s = Measure(Row(x, 4 * row, 4));
    mean.push_back(s.mean);
    rstd.push_back(1 / std::sqrt(s.variance + 0.5));
    for (int64_t i = 0; i < 4; ++i)
      y.push_back((x.f32()[4 * row + i] - s.mean) * rstd.back() * scale.f32()[i] + shift.f32()[i]);
  }
  CheckNear(w.Get("y.npy"), {2, 3, 4}, y);
  CheckNear(w.Get("m.npy"), {2, 3, 1}, mean);
  CheckNear(w.Get("r.npy"), {2, 3, 1}, rstd);
}

TEST_CASE("cli: --axis is the first normalized axis") {
  const Workplace w;
  w.Put("scale34.npy", {3, 4}, 1);
  for (const std::string axis : {"1", "-2"}) {
    CheckOk(w, "rms-norm --input x.npy --output y.npy --save-rstd r.npy --scale scale34.npy --axis " + axis);
    const npy::Array x = w.Get("x.npy"), scale = w.Get("scale34.npy");
    std::vector<double> y, rstd;
    for (int64_t row = 0; row < 2; ++row) {
      rstd.push_back(1 / std::sqrt(Measure(Row(x, 12 * row, 12)).mean_square + 1e-5));
      for (int64_t i = 0; i < 12; ++i) y.push_back(x.f32()[12 * row + i] * rstd.back() * scale.f32()[i]);
    }
    CheckNear(w.Get("y.npy"), {2, 3, 4}, y);
    CheckNear(w.Get("r.npy"), {2, 1, 1}, rstd);
  }
}

TEST_CASE("cli: batch-norm with given statistics, in both layouts") {
  const Workplace w;
  const npy::Array x = w.Get("x.npy");
  const std::string parameters =
      " --mean mean3.npy --variance variance3.npy --scale variance3.npy --shift mean3.npy --epsilon 0.25";
  const npy::Array mean = w.Get("mean3.npy"), variance = w.Get("variance3.npy");
  const auto expected = [&](const auto& channel_of) {
    std::vector<double> y;
    for (int64_t i = 0; i < 24; ++i) {
      const int64_t c = channel_of(i);
      const double m = mean.f32()[c], v = variance.f32()[c];
      y.push_back((x.f32()[i] - m) / std::sqrt(v + 0.25) * v + m);
    }
    return y;
  };
  CheckOk(w, "batch-norm --input x.npy --output y.npy" + parameters);
  CheckNear(w.Get("y.npy"), {2, 3, 4}, expected([](int64_t i) { return i / 4 % 3; }));

  npy::Array nhwc = w.Get("x.npy");
  nhwc.shape = {2, 2, 2, 3};
  w.Put("nhwc.npy", nhwc);
  CheckOk(w, "batch-norm --layout nhwc --input nhwc.npy --output y.npy" + parameters);
  CheckNear(w.Get("y.npy"), {2, 2, 2, 3}, expected([](int64_t i) { return i % 3; }));
}

TEST_CASE("cli: batch-norm --training updates running statistics") {
  const Workplace w;
  const npy::Array x = w.Get("x.npy"), old_mean = w.Get("mean3.npy"), old_variance = w.Get("variance3.npy");
  for (const std::string kind : {"unbiased", "biased"}) {
    CheckOk(w,
            "batch-norm --training --input x.npy --output y.npy --save-mean m.npy --save-rstd r.npy --running-mean mean3.npy "
            "--running-variance variance3.npy --save-running-mean rm.npy --save-running-variance rv.npy --momentum 0.25 "
            "--running-variance-kind " +
                kind);
    std::vector<double> y(24), mean, rstd, running_mean, running_variance;
    for (int64_t c = 0; c < 3; ++c) {
      const Statistics s = Measure(Channel(x, c));
      mean.push_back(s.mean);
      rstd.push_back(1 / std::sqrt(s.variance + 1e-5));
      running_mean.push_back(0.75 * old_mean.f32()[c] + 0.25 * s.mean);
      running_variance.push_back(0.75 * old_variance.f32()[c] + 0.25 * s.variance * (kind == "biased" ? 1 : 8.0 / 7));
      for (const int64_t first : {4 * c, 12 + 4 * c}) {
        for (int64_t i = first; i < first + 4; ++i) y[static_cast<size_t>(i)] = (x.f32()[i] - s.mean) * rstd.back();
      }
    }
    CheckNear(w.Get("y.npy"), {2, 3, 4}, y);
    CheckNear(w.Get("m.npy"), {3}, mean);
    CheckNear(w.Get("r.npy"), {3}, rstd);
    CheckNear(w.Get("rm.npy"), {3}, running_mean);
    CheckNear(w.Get("rv.npy"), {3}, running_variance);
  }
}

TEST_CASE("cli: the dtypes of x, of the output and of parameters") {
  const Workplace w;
  const std::vector<double> x = Values(w.Get("x.npy")), scale = Values(w.Get("scale4.npy"));
  const std::vector<double> y = Map(Normalize(x, 4, false), scale, std::multiplies<double>());
  w.Put("x16.npy", {2, 3, 4}, x, npy::Dtype::kF16);
  w.Put("xb.npy", {2, 3, 4}, x, npy::Dtype::kU16);
  w.Put("scale16.npy", {4}, scale, npy::Dtype::kF16);
  w.Put("scaleb.npy", {4}, scale, npy::Dtype::kU16);
  std::string void2 = Slurp(w / "xb.npy");
  void2.replace(void2.find("<u2"), 3, "|V2");
  std::ofstream(w / "xv.npy", std::ios::binary) << void2;

  const std::pair<const char*, npy::Dtype> cases[] = {
      {"--input x16.npy --scale scale4.npy", npy::Dtype::kF16},
      {"--input x16.npy --dtype f16 --scale scale16.npy", npy::Dtype::kF16},
      {"--input x16.npy --output-dtype f32 --scale scale16.npy", npy::Dtype::kF32},
      {"--input x16.npy --output-dtype bf16 --scale scale4.npy", npy::Dtype::kU16},
      {"--input xb.npy --dtype bf16 --scale scale4.npy", npy::Dtype::kU16},
      {"--input xb.npy --dtype BF16 --scale scaleb.npy --output-dtype f16", npy::Dtype::kF16},
      {"--input xv.npy --dtype bf16 --scale scale16.npy", npy::Dtype::kU16},
      {"--input x.npy --dtype f32 --scale scale16.npy --output-dtype bf16", npy::Dtype::kU16},
  };
  for (const auto& c : cases) {
    CheckOk(w, std::string("layer-norm --output y.npy ") + c.first);
    CheckNear(w.Get("y.npy"), {2, 3, 4}, y, c.second);
  }
  CHECK(Cli(w, "rms-norm --input xb.npy --dtype bf16 --output y.npy --output-dtype f32").out.find("bfloat16 to float32") !=
        std::string::npos);

  const std::string to = " --output y2.npy ";
  w.PutIntegers<int32_t>("x_i4.npy", {4}, npy::Dtype::kI32, {1, 2, 3, 4});
  CheckRefused(w, "layer-norm --input xb.npy" + to, {"xb.npy", "uint16", "--dtype bf16"});
  CheckRefused(w, "layer-norm --input xb.npy --dtype f16" + to, {"xb.npy", "uint16", "--dtype bf16"});
  CheckRefused(w, "layer-norm --input x16.npy --dtype f32" + to, {"x16.npy", "float16", "float32", "--dtype"});
  CheckRefused(w, "layer-norm --input x.npy --dtype bf16" + to, {"x.npy", "float32", "bfloat16", "--dtype"});
  CheckRefused(w, "layer-norm --input x.npy --scale scaleb.npy" + to, {"scaleb.npy", "uint16", "--dtype bf16"});
  CheckRefused(w, "layer-norm --input x_i4.npy" + to, {"x_i4.npy", "int32", "float32"});
  CheckRefused(w, "layer-norm --input x.npy --scale scale4.npy --shift scale16.npy" + to, {"scale", "shift", "dtype"});
  CheckRefused(w, "layer-norm --input x.npy --output-dtype f64" + to, {"--output-dtype", "f64"});
  CheckRefused(w, "layer-norm --input x.npy --quant-scale 1 --output-dtype i8" + to, {"--output-dtype", "i8"});
  CheckRefused(w, "batch-norm --training --input x.npy --output-dtype i8" + to, {"--output-dtype", "i8"});
}

TEST_CASE("cli: a value may begin with a minus") {
  const Workplace w;
  CheckOk(w, "layer-norm --input x.npy --output -weird.npy --epsilon -0.5 --axis -1");
  CHECK(fs::exists(w / "-weird.npy"));
  CheckOk(w, "layer-norm --output --quiet --input -weird.npy");
  CHECK(fs::exists(w / "--quiet"));
  CheckOk(
      w,
      "batch-norm --training --input x.npy --output y.npy --running-mean ones3.npy --save-running-mean m.npy --momentum -1.2");
  CheckRefused(w, "rms-norm --input x.npy --output z.npy --epsilon -inf", {"epsilon", "inf"});
  CheckRefused(w, "rms-norm --input x.npy --output z.npy --epsilon nan", {"epsilon", "nan"});
}

TEST_CASE("cli: one line says what was done, --quiet keeps it") {
  const Workplace w;
  const Run run = Cli(w, "layer-norm --input x.npy --output y.npy --threads 1");
  for (const char* word : {"layer-norm", "(2, 3, 4)", "float32", simdnorm::Targets()[0], "1 thread", " ms", "GB/s"}) {
    CAPTURE(word);
    CHECK(run.out.find(word) != std::string::npos);
  }
  CHECK(run.out.find('\n') == run.out.size() - 1);
  for (const std::string arguments :
       {"layer-norm --input x.npy --output y.npy --quiet", "--quiet layer-norm --input x.npy --output y.npy"}) {
    const Run quiet = Cli(w, arguments);
    CHECK(quiet.status == 0);
    CHECK(quiet.out == "");
  }
}

TEST_CASE("cli: targets, and each of them gives the same tensor but for rounding") {
  const Workplace w;
  std::string expected;
  for (const char* const* target = simdnorm::Targets(); *target != nullptr; ++target) {
    expected += *target + std::string(target == simdnorm::Targets() ? " (default)\n" : "\n");
    CheckOk(w, std::string("layer-norm --input x.npy --output y.npy --target ") + *target);
    CheckOk(w, std::string("layer-norm --input x.npy --output default.npy"));
    CHECK(Cli(w, "compare y.npy default.npy --tolerance 1e-6").status == 0);
  }
  CHECK(Cli(w, "targets").out == expected);
  CheckRefused(w, "layer-norm --input x.npy --output y2.npy --target NO_SUCH", {"NO_SUCH"});
}

TEST_CASE("cli: help and version, before and after the subcommand") {
  const Workplace w;
  const std::string version = std::string("simdnorm ") + simdnorm_version() + "\n";
  CHECK(Cli(w, "--version").out == version);
  CHECK(Cli(w, "rms-norm --version").out == version);
  const Run help = Cli(w, "--help"), sub_help = Cli(w, "batch-norm --help");
  CHECK(help.status == 0);
  CHECK(help.out.find("rms-norm") != std::string::npos);
  CHECK(sub_help.status == 0);
  CHECK(sub_help.out.find("--running-variance-kind") != std::string::npos);
  for (const std::string op : {"layer-norm", "rms-norm", "batch-norm", "group-norm", "instance-norm"}) {
    const std::string text = Cli(w, op + " --help").out;
    for (const char* part : {"\nFused:", "\nPadding:", "\nCommon:", "none|relu|leaky-relu|silu|gelu|gelu-tanh"}) {
      CAPTURE(op);
      CAPTURE(part);
      CHECK(text.find(part) != std::string::npos);
    }
  }
}

TEST_CASE("cli: in place, and an output that replaces a parameter") {
  const Workplace w;
  CheckOk(w, "layer-norm --input x.npy --output y.npy --scale scale4.npy");
  CheckOk(w, "layer-norm --input x.npy --output x.npy --scale scale4.npy --save-mean scale4.npy");
  CHECK(Slurp(w / "x.npy") == Slurp(w / "y.npy"));
  CHECK(w.Get("scale4.npy").shape == npy::Shape{2, 3, 1});
}

TEST_CASE("cli: tensors without elements, and NaN, are no errors") {
  const Workplace w;
  w.Put("none.npy", {0, 3}, 1);
  w.Put("narrow.npy", {3, 0}, 1);
  CheckOk(w, "layer-norm --input none.npy --output y.npy --save-mean m.npy");
  CHECK(w.Get("y.npy").shape == npy::Shape{0, 3});
  CHECK(w.Get("m.npy").shape == npy::Shape{0, 1});
  CheckOk(w, "rms-norm --input narrow.npy --output y.npy --save-rstd r.npy");
  CHECK(w.Get("r.npy").shape == npy::Shape{3, 1});
  for (int i = 0; i < 3; ++i) CHECK(std::isnan(w.Get("r.npy").f32()[i]));
  CheckOk(w, "batch-norm --training --input none.npy --output y.npy --running-mean ones3.npy --save-running-mean m.npy");
  CHECK(Slurp(w / "m.npy") == Slurp(w / "ones3.npy"));
  w.Put("nan.npy", {2, 2}, NAN);
  CheckOk(w, "layer-norm --input nan.npy --output y.npy");
  // 400 MB of means, for a file of 128 bytes.
  w.Put("vast.npy", {100000000, 0}, 1);
  CheckRefused(w, "layer-norm --input vast.npy --output y.npy --save-mean m.npy", {"vast.npy", "(100000000, 0)", "elements"});
}

TEST_CASE("cli: a file that does not fit is refused, with both shapes") {
  const Workplace w;
  w.Put("scale12.npy", {12}, 1);
  w.Put("flat.npy", {5}, 1);
  w.Put("scalar.npy", {}, 1);
  const std::string files = " --input x.npy --output y.npy ";
  CheckRefused(w, "layer-norm" + files + "--scale ones3.npy", {"--scale", "(3,)", "(2, 3, 4)", "(4,)"});
  CheckRefused(w, "layer-norm" + files + "--axis 1 --shift scale12.npy", {"--shift", "(12,)", "(3, 4)"});
  CheckRefused(w, "layer-norm" + files + "--axis 3", {"--axis 3", "(2, 3, 4)"});
  CheckRefused(w, "layer-norm" + files + "--axis -4", {"--axis -4", "(2, 3, 4)"});
  CheckRefused(w, "layer-norm --input scalar.npy --output y.npy", {"()"});
  CheckRefused(w, "batch-norm" + files + "--mean scale4.npy --variance ones3.npy", {"--mean", "(4,)", "(3,)"});
  CheckRefused(w, "batch-norm --layout nhwc" + files + "--mean ones3.npy --variance ones3.npy", {"--mean", "(4,)", "(3,)"});
  CheckRefused(w, "batch-norm --training --input flat.npy --output y.npy", {"(5,)"});
  w.Put("single.npy", {1, 3}, 1);
  CheckRefused(
      w, "batch-norm --training --input single.npy --output y.npy --running-variance ones3.npy --save-running-variance v.npy",
      {"unbiased"});
}

TEST_CASE("cli: a file that cannot be read or written is refused") {
  const Workplace w;
  std::ofstream(w / "text.npy") << "not numbers";
  const std::string whole = Slurp(w / "x.npy");
  std::ofstream(w / "short.npy", std::ios::binary) << whole.substr(0, whole.size() - 1);
  CheckRefused(w, "rms-norm --input gone.npy --output y.npy", {"gone.npy", "No such file"});
  CheckRefused(w, "rms-norm --input text.npy --output y.npy", {"text.npy", "no .npy file"});
  CheckRefused(w, "rms-norm --input short.npy --output y.npy", {"short.npy", "truncated"});
  CheckRefused(w, "rms-norm --input . --output y.npy", {"folder"});
  CheckRefused(w, "rms-norm --input x.npy --output .", {"folder"});
  CheckRefused(w, "rms-norm --input x.npy --output gone/y.npy", {"gone/y.npy", "No such file"});
  CheckRefused(w, "rms-norm --input x.npy --output /dev/full", {"/dev/full", "No space"});
  CheckRefused(w, "rms-norm --input x.npy --output y.npy --save-rstd gone/r.npy", {"gone/r.npy"});
  CheckRefused(w, "rms-norm --input x.npy --output y.npy --save-rstd y.npy", {"two outputs"});
  CheckOk(w, "rms-norm --input x.npy --output /dev/null --quiet");
}

TEST_CASE("cli: flags that are wrong or make no sense together are refused") {
  const Workplace w;
  const std::string files = " --input x.npy --output y.npy ", given = "--mean mean3.npy --variance variance3.npy ";
  CheckRefused(w, "", {"subcommand"});
  CheckRefused(w, "no-such-norm", {"no-such-norm", "layer-norm", "fold-batch-norm", "compare"});
  CheckRefused(w, "no-such-norm --input x.npy", {"no-such-norm", "layer-norm"});
  CheckRefused(w, "layer-norm --output y.npy", {"--input", "required"});
  CheckRefused(w, "layer-norm --input x.npy", {"--output", "required"});
  CheckRefused(w, "layer-norm --inptu x.npy --output y.npy", {"--inptu"});
  CheckRefused(w, "layer-norm" + files + "--output z.npy", {"--output"});
  CheckRefused(w, "layer-norm" + files + "stray", {"stray"});
  CheckRefused(w, "layer-norm" + files + "--epsilon 1e-5x", {"--epsilon"});
  CheckRefused(w, "layer-norm" + files + "--epsilon", {"--epsilon"});
  CheckRefused(w, "layer-norm" + files + "--axis 1.5", {"--axis"});
  CheckRefused(w, "layer-norm" + files + "--threads -1", {"threads", "-1"});
  CheckRefused(w, "layer-norm" + files + "--layout nhwc", {"--layout"});
  CheckRefused(w, "rms-norm" + files + "--shift shift4.npy", {"--shift"});
  CheckRefused(w, "rms-norm" + files + "--save-mean m.npy", {"--save-mean"});
  CheckRefused(w, "rms-norm" + files + "--scale-offset 1", {"--scale-offset", "--scale"});
  CheckRefused(w, "rms-norm" + files + "--residual-order after", {"--residual-order", "--residual"});
  CheckRefused(w, "rms-norm" + files + "--residual x.npy --residual-order between", {"--residual-order", "between"});
  CheckRefused(w, "rms-norm" + files + "--save-h h.npy", {"--save-h", "--bias", "--residual"});
  CheckRefused(w, "rms-norm" + files + "--round-h", {"--round-h", "--bias", "--residual"});
  CheckRefused(w, "rms-norm" + files + "--residual x.npy --residual-order after --save-h h.npy", {"--save-h", "--bias"});
  CheckRefused(w, "rms-norm" + files + "--residual scale4.npy", {"--residual", "(4,)", "(2, 3, 4)"});
  CheckRefused(w, "rms-norm" + files + "--bias ones3.npy", {"--bias", "(3,)", "(4,)"});
  CheckRefused(w, "rms-norm" + files + "--gate ones3.npy", {"--gate", "(3,)", "(2, 3, 4)"});
  CheckRefused(w, "rms-norm" + files + "--activation 3", {"--activation", "'3'"});
  CheckRefused(w, "rms-norm" + files + "--activation relu --activation-slope 1", {"--activation-slope", "leaky-relu"});
  CheckRefused(w, "rms-norm" + files + "--activation leaky-relu --activation-slope inf", {"activation_slope", "inf"});
  CheckRefused(w, "rms-norm" + files + "--mask x.npy", {"--mask"});
  CheckRefused(w, "rms-norm" + files + "--groups 2", {"--groups"});
  CheckRefused(w, "batch-norm" + files, {"--mean", "--training"});
  CheckRefused(w, "batch-norm" + files + "--mean mean3.npy", {"--variance"});
  CheckRefused(w, "batch-norm" + files + given + "--training", {"--mean", "--training"});
  CheckRefused(w, "batch-norm" + files + given + "--save-mean m.npy", {"--save-mean", "--training"});
  CheckRefused(w, "batch-norm" + files + given + "--momentum 0.5", {"--momentum", "--training"});
  CheckRefused(w, "batch-norm --training" + files + "--momentum 0.5", {"--momentum", "--running-mean"});
  CheckRefused(w, "batch-norm --training" + files + "--save-running-mean m.npy", {"--running-mean"});
  CheckRefused(w, "batch-norm --training" + files + "--running-variance ones3.npy", {"--save-running-variance"});
  CheckRefused(w, "batch-norm --training" + files + "--running-variance-kind biased", {"--running-variance"});
  CheckRefused(w, "batch-norm --training" + files + "--layout hwc", {"hwc"});
}

TEST_CASE("cli: a standard output that takes nothing is an error") {
  const Workplace w;
  const Run run = Cli(w, "targets", "/dev/full");
  CHECK(run.status == 2);
  CHECK(run.err == "simdnorm: cannot write to standard output\n");
}

TEST_CASE("cli: compare") {
  const Workplace w;
  w.Put("a.npy", {4}, 1, 1);
  w.Put("b.npy", {4}, 1, 1.5f);
  CHECK(Cli(w, "compare a.npy a.npy --tolerance 0").status == 0);
  const Run beyond = Cli(w, "compare a.npy b.npy --tolerance 0.999"), within = Cli(w, "compare a.npy b.npy --tolerance 1");
  CHECK(beyond.status == 1);
  CHECK(beyond.out == "error 1, 0.143 of the largest value, bound 0.999: NOT OK\n");
  CHECK(within.status == 0);
  CHECK(within.out == "error 1, 0.143 of the largest value, bound 1: ok\n");
  w.Put("nan.npy", {4}, NAN);
  CHECK(Cli(w, "compare nan.npy nan.npy --tolerance 0").status == 0);
  CHECK(Cli(w, "compare nan.npy a.npy --tolerance 1e30").status == 1);
  CHECK(Cli(w, "compare a.npy nan.npy").status == 1);
  CheckRefused(w, "compare a.npy x.npy", {"(4,)", "(2, 3, 4)"});

  w.Put("f4.npy", {4}, {0, -2, 1.5, 4}, npy::Dtype::kF32);
  w.Put("f2.npy", {4}, {0, -2, 1.5, 4.5}, npy::Dtype::kF16);
  w.Put("u2.npy", {4}, {0, -2, 1.25, 4}, npy::Dtype::kU16);
  w.PutIntegers<int8_t>("i1.npy", {4}, npy::Dtype::kI8, {0, -2, 1, 4});
  w.PutIntegers<uint8_t>("u1.npy", {4}, npy::Dtype::kU8, {0, 0, 1, 4});
  for (const std::string equal : {"f2.npy f2.npy", "i1.npy i1.npy", "u1.npy u1.npy", "u2.npy u2.npy --dtype bf16"}) {
    CHECK(Cli(w, "compare --tolerance 0 " + equal).status == 0);
  }
  CHECK(Cli(w, "compare f2.npy f4.npy").out.find("error 0.5,") == 0);
  CHECK(Cli(w, "compare u2.npy f4.npy --dtype bf16").out.find("error 0.25,") == 0);
  CHECK(Cli(w, "compare i1.npy f4.npy").out.find("error 0.5,") == 0);
  CHECK(Cli(w, "compare u1.npy f4.npy").out.find("error 2,") == 0);
  CheckRefused(w, "compare u2.npy u2.npy", {"u2.npy", "uint16", "--dtype bf16"});
  CheckRefused(w, "compare f2.npy f2.npy --dtype f16", {"--dtype", "f16"});
}

}  // namespace
}  // namespace simdnorm_test
