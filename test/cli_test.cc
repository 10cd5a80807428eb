// The command line, run as a user runs it: what it writes, says and returns, and that a failure leaves no file behind. That the
// numbers are right data_test.cc shows; here a formula in double on small tensors tells that the flags reach the right
// argument.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "npy.h"
#include "simdnorm/simdnorm.hpp"

extern char** environ;

namespace {

namespace fs = std::filesystem;

// A folder with the tensors that the tests use, gone at the end of the test. Programs run in it, so that names are short.
class Workplace {
 public:
  Workplace() {
    std::string name = (fs::temp_directory_path() / "simdnorm-cli-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
    Put("x.npy", {2, 3, 4}, 1);
    Put("ones3.npy", {3}, 0, 1);
    Put("scale4.npy", {4}, 0.5f, 1);
    Put("shift4.npy", {4}, 0.25f, -1);
    Put("mean3.npy", {3}, 0.125f, 2);
    Put("variance3.npy", {3}, 0.5f, 1);
  }
  ~Workplace() { fs::remove_all(path_); }

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

  // Element i is first + step * i, every third one doubled.
  void Put(const std::string& name, const npy::Shape& shape, float step, float first = 0) const {
    npy::Array array = *npy::Array::Make(npy::Dtype::kF32, shape);
    for (int64_t i = 0; i < array.count(); ++i) {
      array.f32()[i] = (first + step * static_cast<float>(i)) * (step != 0 && i % 3 == 2 ? 2.0f : 1.0f);
    }
    npy::Outputs outputs;
    std::string error;
    REQUIRE(outputs.Add(*this / name, array, &error));
    REQUIRE(outputs.Commit(&error));
  }

  npy::Array Get(const std::string& name) const {
    std::string error;
    std::optional<npy::Array> array = npy::Read(*this / name, &error);
    CAPTURE(error);
    REQUIRE(array);
    return std::move(*array);
  }

  // A file beside the folder, so that the count of its files tells what the program left.
  std::string Log(const std::string& suffix) const { return path_.string() + suffix; }

  int Files() const { return static_cast<int>(std::distance(fs::directory_iterator(path_), fs::directory_iterator())); }

 private:
  fs::path path_;
};

std::string Slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> Split(const std::string& text) {
  std::istringstream words(text);
  return {std::istream_iterator<std::string>(words), {}};
}

struct Run {
  int status;  // the exit status, or minus the signal
  std::string out, err;
};

// Runs `simdnorm arguments` in the folder; `arguments` are words without spaces. SIMDNORM_CLI is the program, or a command that
// runs it (an emulator's, say).
Run Cli(const Workplace& folder, const std::string& arguments, const std::string& out_path = "") {
  std::vector<std::string> words = {SIMDNORM_CLI};
  if (!fs::exists(words[0])) words = Split(SIMDNORM_CLI);
  for (const std::string& word : Split(arguments)) words.push_back(word);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  const std::string out = out_path.empty() ? folder.Log(".out") : out_path, err = folder.Log(".err");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addchdir_np(&actions, (folder / ".").c_str());
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t pid;
  const int failed = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  REQUIRE(failed == 0);
  int status;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  Run run{WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), out_path.empty() ? Slurp(out) : "", Slurp(err)};
  if (out_path.empty()) fs::remove(out);
  fs::remove(err);
  return run;
}

void CheckOk(const Workplace& folder, const std::string& arguments) {
  CAPTURE(arguments);
  const Run run = Cli(folder, arguments);
  CHECK(run.status == 0);
  CHECK(run.err == "");
}

// Fails as promised: status 2, one line with the program's name and each of `words`, and not one file more or less.
void CheckRefused(const Workplace& folder, const std::string& arguments, const std::vector<std::string>& words) {
  CAPTURE(arguments);
  const int files = folder.Files();
  const std::string x = Slurp(folder / "x.npy");
  const Run run = Cli(folder, arguments);
  CAPTURE(run.err);
  CHECK(run.status == 2);
  CHECK(run.out == "");
  CHECK(run.err.rfind("simdnorm: ", 0) == 0);
  CHECK(run.err.find('\n') == run.err.size() - 1);
  for (const std::string& word : words) {
    CAPTURE(word);
    CHECK(run.err.find(word) != std::string::npos);
  }
  CHECK(folder.Files() == files);
  CHECK(Slurp(folder / "x.npy") == x);
}

void CheckNear(const npy::Array& got, const npy::Shape& shape, const std::vector<double>& want) {
  CHECK(got.shape == shape);
  REQUIRE(static_cast<size_t>(got.count()) == want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    CAPTURE(i);
    CHECK(got.f32()[i] == doctest::Approx(want[i]).epsilon(1e-5));
  }
}

struct Statistics {
  double mean = 0, variance = 0, mean_square = 0;
};

Statistics Measure(const std::vector<double>& values) {
  Statistics s;
  for (const double v : values) s.mean += v / static_cast<double>(values.size());
  for (const double v : values) {
    s.variance += (v - s.mean) * (v - s.mean) / static_cast<double>(values.size());
    s.mean_square += v * v / static_cast<double>(values.size());
  }
  return s;
}

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
  npy::Outputs outputs;
  std::string error;
  REQUIRE(outputs.Add(w / "nhwc.npy", nhwc, &error));
  REQUIRE(outputs.Commit(&error));
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
  CheckRefused(w, "no-such-norm", {"no-such-norm"});
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
}

}  // namespace
