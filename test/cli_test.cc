// The command line, run as a user runs it: what it writes, says and returns, and that a failure leaves no file behind. That the
// numbers are right data_test.cc shows; here a formula in double on small tensors tells that the flags reach the right
// argument.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "dtypes.h"
#include "npy.h"
#include "simdnorm/simdnorm.hpp"

extern char** environ;

namespace {

namespace fs = std::filesystem;

// What a file's elements are to the library. uint16 holds bf16 in all of these tests.
simdnorm_dtype LibraryDtype(npy::Dtype dtype) {
  switch (dtype) {
    case npy::Dtype::kF32:
      return SIMDNORM_F32;
    case npy::Dtype::kF16:
      return SIMDNORM_F16;
    case npy::Dtype::kU16:
      return SIMDNORM_BF16;
    case npy::Dtype::kI8:
      return SIMDNORM_I8;
    default:
      REQUIRE(dtype == npy::Dtype::kU8);
      return SIMDNORM_U8;
  }
}

std::vector<double> Values(const npy::Array& array) {
  std::vector<double> values;
  for (int64_t i = 0; i < array.count(); ++i) {
    values.push_back(static_cast<double>(simdnorm_test::GetElement(array.data.get(), LibraryDtype(array.dtype), i)));
  }
  return values;
}

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
    Put(name, array);
  }

  void Put(const std::string& name, const npy::Shape& shape, const std::vector<double>& values, npy::Dtype dtype) const {
    npy::Array array = *npy::Array::Make(dtype, shape);
    REQUIRE(static_cast<size_t>(array.count()) == values.size());
    for (int64_t i = 0; i < array.count(); ++i) {
      simdnorm_test::SetElement(array.data.get(), LibraryDtype(dtype), i, static_cast<float>(values[static_cast<size_t>(i)]));
    }
    Put(name, array);
  }

  // Lengths and masks
  template <class Integer>
  void PutIntegers(const std::string& name, const npy::Shape& shape, npy::Dtype dtype,
                   const std::vector<Integer>& values) const {
    npy::Array array = *npy::Array::Make(dtype, shape);
    REQUIRE(static_cast<size_t>(array.bytes()) == values.size() * sizeof(Integer));
    std::copy(values.begin(), values.end(), array.as<Integer>());
    Put(name, array);
  }

  void Put(const std::string& name, const npy::Array& array) const {
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

// Half a unit in the last place, and what arithmetic adds to it.
double Tolerance(npy::Dtype dtype) { return dtype == npy::Dtype::kF16 ? 5e-4 : dtype == npy::Dtype::kU16 ? 4e-3 : 1e-5; }

void CheckNear(const npy::Array& got, const npy::Shape& shape, const std::vector<double>& want,
               npy::Dtype dtype = npy::Dtype::kF32) {
  CHECK(got.shape == shape);
  REQUIRE(got.dtype == dtype);
  const std::vector<double> values = Values(got);
  REQUIRE(values.size() == want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    CAPTURE(i);
    if (std::isnan(want[i])) {
      CHECK(std::isnan(values[i]));
    } else {
      CHECK(values[i] == doctest::Approx(want[i]).epsilon(Tolerance(dtype)));
    }
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

// Elementwise.
std::vector<double> Map(const std::vector<double>& a, const std::function<double(double)>& f) {
  std::vector<double> out(a);
  std::transform(a.begin(), a.end(), out.begin(), f);
  return out;
}
std::vector<double> Map(const std::vector<double>& a, const std::vector<double>& b,
                        const std::function<double(double, double)>& f) {
  std::vector<double> out(a);
  for (size_t i = 0; i < a.size(); ++i) out[i] = f(a[i], b[i % b.size()]);  // b may be a row of a
  return out;
}
std::vector<double> Sum(const std::vector<double>& a, const std::vector<double>& b) { return Map(a, b, std::plus<double>()); }

// Over rows of `cols`, with epsilon's default.
std::vector<double> Normalize(const std::vector<double>& x, int64_t cols, bool rms) {
  std::vector<double> y;
  for (auto row = x.begin(); row != x.end(); row += cols) {
    const Statistics s = Measure({row, row + cols});
    const double mean = rms ? 0 : s.mean, rstd = 1 / std::sqrt((rms ? s.mean_square : s.variance) + 1e-5);
    std::transform(row, row + cols, std::back_inserter(y), [&](double value) { return (value - mean) * rstd; });
  }
  return y;
}

double SiLU(double v) { return v / (1 + std::exp(-v)); }

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
  CheckRefused(w, "layer-norm --input x.npy --output-dtype i8" + to, {"--quant-scale"});
  CheckRefused(w, "batch-norm --training --input x.npy --output-dtype i8" + to, {"--output-dtype", "i8"});
}

TEST_CASE("cli: --residual, --bias and h") {
  const Workplace w;
  w.Put("r.npy", {2, 3, 4}, -0.75f, 2);
  const std::vector<double> x = Values(w.Get("x.npy")), r = Values(w.Get("r.npy")), bias = Values(w.Get("shift4.npy"));
  for (const bool rms : {false, true}) {
    const std::string op = rms ? "rms-norm " : "layer-norm ", files = op + "--input x.npy --output y.npy ";
    CheckOk(w, files + "--residual r.npy --bias shift4.npy --save-h h.npy");
    const std::vector<double> h = Sum(Sum(x, r), bias);
    CheckNear(w.Get("h.npy"), {2, 3, 4}, h);
    CheckNear(w.Get("y.npy"), {2, 3, 4}, Normalize(h, 4, rms));

    CheckOk(w, files + "--residual r.npy --residual-order after --bias shift4.npy --save-h h.npy");
    CheckNear(w.Get("h.npy"), {2, 3, 4}, Sum(x, bias));
    CheckNear(w.Get("y.npy"), {2, 3, 4}, Sum(Normalize(Sum(x, bias), 4, rms), r));

    CheckOk(w, files + "--residual r.npy --residual-order before --axis 1");
    CheckNear(w.Get("y.npy"), {2, 3, 4}, Normalize(Sum(x, r), 12, rms));
  }

  // 1/3 apart, so that f16 has to round h.
  w.Put("x16.npy", {2, 3, 4}, x, npy::Dtype::kF16);
  w.Put("thirds.npy", {2, 3, 4}, 1 / 3.0f);
  const std::vector<double> h = Sum(x, Values(w.Get("thirds.npy"))),
                            rounded = Map(h, [](double v) {
                              return static_cast<double>(simdnorm_test::Rounded(static_cast<float>(v), SIMDNORM_F16));
                            });
  const std::string files = "rms-norm --input x16.npy --residual thirds.npy --save-h h.npy --output y.npy --output-dtype f32";
  CheckOk(w, files);
  CheckNear(w.Get("h.npy"), {2, 3, 4}, h, npy::Dtype::kF16);
  CheckNear(w.Get("y.npy"), {2, 3, 4}, Normalize(h, 4, true));
  CheckOk(w, files + " --round-h");
  CHECK(Values(w.Get("h.npy")) == rounded);
  CheckNear(w.Get("y.npy"), {2, 3, 4}, Normalize(rounded, 4, true));
}

TEST_CASE("cli: --activation, --gate and --scale-offset") {
  const Workplace w;
  w.Put("g.npy", {2, 3, 4}, 0.25f, -3);
  const std::vector<double> x = Values(w.Get("x.npy")), gate = Values(w.Get("g.npy"));
  const std::pair<const char*, std::function<double(double)>> activations[] = {
      {"relu", [](double v) { return std::max(v, 0.0); }},
      {"leaky-relu", [](double v) { return v >= 0 ? v : 0.01 * v; }},
      {"leaky-relu --activation-slope -0.5", [](double v) { return v >= 0 ? v : -0.5 * v; }},
      {"silu", SiLU},
      {"gelu", [](double v) { return v * (1 + std::erf(v / std::sqrt(2))) / 2; }},
      {"gelu-tanh", [](double v) { return v * (1 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v))) / 2; }},
  };
  for (const auto& activation : activations) {
    CheckOk(w, std::string("layer-norm --input x.npy --output y.npy --activation ") + activation.first);
    const std::vector<double> y = Map(Normalize(x, 4, false), activation.second);
    CheckNear(w.Get("y.npy"), {2, 3, 4}, y);
    CheckOk(w, std::string("layer-norm --input x.npy --output y.npy --gate g.npy --activation ") + activation.first);
    CheckNear(w.Get("y.npy"), {2, 3, 4}, Map(y, gate, [](double v, double g) { return v * SiLU(g); }));
  }
  CheckOk(w, "rms-norm --input x.npy --output y.npy --scale scale4.npy --scale-offset 1");
  CheckNear(w.Get("y.npy"), {2, 3, 4},
            Map(Normalize(x, 4, true), Values(w.Get("scale4.npy")), [](double v, double s) { return v * (1 + s); }));
}

// q is v / factor + zero_point as rounded and clamped. Rounding in f32 may take the other side of a tie.
void CheckQuantized(double q, double v, double factor, double zero_point, double low, double high) {
  const double exact = std::min(std::max(v / factor + zero_point, low), high);
  CHECK(q == std::nearbyint(q));
  CHECK(std::abs(q - exact) <= 0.5001);
}

TEST_CASE("cli: --quantize") {
  const Workplace w;
  w.Put("wide.npy", {2, 3, 64}, 1);
  w.Put("r.npy", {2, 3, 64}, -0.75f, 2);
  const std::vector<double> v = Normalize(Sum(Values(w.Get("wide.npy")), Values(w.Get("r.npy"))), 64, true);
  const std::string files = "rms-norm --input wide.npy --residual r.npy --output y.npy ";

  struct Static {
    const char* arguments;
    npy::Dtype dtype;
    double zero_point, low, high;
  };
  for (const Static& c : {Static{"--quantize i8", npy::Dtype::kI8, 0, -128, 127},
                          {"--quantize i8 --zero-point -100", npy::Dtype::kI8, -100, -128, 127},
                          {"--output-dtype i8 --zero-point 3", npy::Dtype::kI8, 3, -128, 127},
                          {"--quantize u8 --zero-point 130", npy::Dtype::kU8, 130, 0, 255},
                          {"--output-dtype u8", npy::Dtype::kU8, 0, 0, 255}}) {
    CheckOk(w, files + "--quant-scale 0.01 " + c.arguments);
    const npy::Array y = w.Get("y.npy");
    CHECK(y.shape == npy::Shape{2, 3, 64});
    REQUIRE(y.dtype == c.dtype);
    const std::vector<double> q = Values(y);
    for (size_t i = 0; i < v.size(); ++i) CheckQuantized(q[i], v[i], 0.01, c.zero_point, c.low, c.high);
  }

  const auto largest = [&](size_t begin, size_t count) {
    double out = 0;
    for (size_t i = begin; i < begin + count; ++i) out = std::max(out, std::abs(v[i]));
    return out;
  };
  CheckOk(w, files + "--quantize i8-rows --save-quant-scales q.npy");
  std::vector<double> factors;
  for (size_t row = 0; row < 6; ++row) factors.push_back(largest(64 * row, 64) / 127);
  CheckNear(w.Get("q.npy"), {2, 3, 1}, factors);
  const npy::Array rows = w.Get("y.npy");
  REQUIRE(rows.dtype == npy::Dtype::kI8);
  for (size_t i = 0; i < v.size(); ++i) CheckQuantized(rows.as<int8_t>()[i], v[i], factors[i / 64], 0, -127, 127);

  CheckOk(w, files + "--quantize q8_0");
  const npy::Array blocks = w.Get("y.npy");
  CHECK(blocks.shape == npy::Shape{2, 3, 68});
  REQUIRE(blocks.dtype == npy::Dtype::kU8);
  for (size_t b = 0; b < 12; ++b) {
    simdnorm_q8_0 block;
    std::memcpy(&block, blocks.as<uint8_t>() + 34 * b, 34);
    const double factor = largest(32 * b, 32) / 127;
    CHECK(simdnorm_test::FromF16(block.d) == doctest::Approx(factor).epsilon(5e-4));
    for (size_t i = 0; i < 32; ++i) CheckQuantized(block.q[i], v[32 * b + i], factor, 0, -127, 127);
  }

  const std::string refused = "rms-norm --input wide.npy --output y2.npy ";
  CheckRefused(w, refused + "--quantize i8", {"--quant-scale"});
  CheckRefused(w, refused + "--quantize u8 --zero-point 1", {"--quant-scale"});
  CheckRefused(w, refused + "--quantize i8 --quant-scale 0", {"--quant-scale", "0"});
  CheckRefused(w, refused + "--quantize i8 --quant-scale -1", {"--quant-scale", "-1"});
  CheckRefused(w, refused + "--quantize i8 --quant-scale nan", {"quant_scale", "nan"});
  CheckRefused(w, refused + "--quantize i8 --quant-scale 1 --zero-point 200", {"zero_point", "200"});
  CheckRefused(w, refused + "--quantize i8-rows", {"--save-quant-scales"});
  CheckRefused(w, refused + "--quantize i8-rows --quant-scale 1 --save-quant-scales q2.npy", {"--quant-scale"});
  CheckRefused(w, refused + "--quantize q8_0 --zero-point 1", {"--zero-point"});
  CheckRefused(w, refused + "--quantize q8_0 --save-quant-scales q2.npy", {"--save-quant-scales"});
  CheckRefused(w, refused + "--quant-scale 1", {"--quantize"});
  CheckRefused(w, refused + "--zero-point 1", {"--quantize"});
  CheckRefused(w, refused + "--save-quant-scales q2.npy", {"--quantize"});
  CheckRefused(w, refused + "--quantize i8 --quant-scale 1 --output-dtype i8", {"--quantize", "--output-dtype"});
  CheckRefused(w, refused + "--quantize i4", {"--quantize", "i4"});
  CheckRefused(w, "rms-norm --input x.npy --output y2.npy --quantize q8_0", {"32", "(4,)"});
}

TEST_CASE("cli: --lengths of sequences of rows") {
  const Workplace w;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> x = Values(w.Get("x.npy"));
  for (size_t i = 4; i < 12; ++i) x[i] = nan;  // padding: the last two rows of the first sequence
  w.Put("padded.npy", {2, 3, 4}, x, npy::Dtype::kF32);
  w.Put("r.npy", {2, 3, 4}, 0.5f);
  w.PutIntegers<int64_t>("lengths8.npy", {2}, npy::Dtype::kI64, {1, 3});
  w.PutIntegers<int32_t>("lengths4.npy", {2}, npy::Dtype::kI32, {1, 3});
  const std::vector<double> h = Sum(x, Values(w.Get("r.npy"))), y = Normalize(h, 4, false);
  const auto with_padding = [](std::vector<double> values, double zero, int64_t cols) {
    std::fill_n(values.begin() + cols, 2 * cols, zero);
    return values;
  };
  std::vector<double> means;
  for (size_t row = 0; row < 6; ++row) means.push_back(Measure({h.begin() + 4 * row, h.begin() + 4 * row + 4}).mean);

  const std::string files =
      "layer-norm --input padded.npy --residual r.npy --output y.npy --save-h h.npy --save-mean m.npy --lengths ";
  for (const char* zero : {"lengths8.npy", "lengths4.npy", "lengths8.npy --padding zero"}) {
    CheckOk(w, files + zero);
    CheckNear(w.Get("y.npy"), {2, 3, 4}, with_padding(y, 0, 4));
    CheckNear(w.Get("h.npy"), {2, 3, 4}, with_padding(h, 0, 4));
    CheckNear(w.Get("m.npy"), {2, 3, 1}, with_padding(means, 0, 1));
  }
  CheckOk(w, files + "lengths8.npy --padding untouched");
  CheckNear(w.Get("y.npy"), {2, 3, 4}, with_padding(y, nan, 4));
  CheckNear(w.Get("h.npy"), {2, 3, 4}, with_padding(h, nan, 4));
  CheckNear(w.Get("m.npy"), {2, 3, 1}, with_padding(means, nan, 1));

  const std::string refused = "layer-norm --input x.npy --output y2.npy ";
  w.Put("lengths_f4.npy", {2}, 1);
  w.PutIntegers<int64_t>("long.npy", {2}, npy::Dtype::kI64, {1, 4});
  w.PutIntegers<int32_t>("negative.npy", {2}, npy::Dtype::kI32, {1, -1});
  w.PutIntegers<int64_t>("three.npy", {3}, npy::Dtype::kI64, {1, 1, 1});
  CheckRefused(w, refused + "--padding zero", {"--padding", "--lengths"});
  CheckRefused(w, refused + "--lengths lengths8.npy --padding ones", {"--padding", "ones"});
  CheckRefused(w, refused + "--lengths lengths8.npy --axis 0", {"--lengths", "--axis"});
  CheckRefused(w, refused + "--lengths three.npy", {"--lengths", "(3,)", "(2,)"});
  CheckRefused(w, refused + "--lengths lengths_f4.npy", {"lengths_f4.npy", "float32", "int64"});
  CheckRefused(w, refused + "--lengths long.npy", {"lengths[1]", "4"});
  CheckRefused(w, refused + "--lengths negative.npy", {"lengths[1]", "-1"});
  CheckRefused(w, refused + "--lengths lengths8.npy --padding untouched --output-dtype f16", {"untouched", "float16"});
}

TEST_CASE("cli: --axes that are not the last") {
  const Workplace w;
  const std::vector<double> x = Values(w.Get("x.npy")), scale = Values(w.Get("variance3.npy"));
  std::vector<double> y(24), mean(8), rstd(8);
  for (size_t n = 0; n < 2; ++n) {
    for (size_t i = 0; i < 4; ++i) {
      const size_t first = 12 * n + i;
      const Statistics s = Measure({x[first], x[first + 4], x[first + 8]});
      mean[4 * n + i] = s.mean;
      rstd[4 * n + i] = 1 / std::sqrt(s.variance + 1e-5);
      for (size_t c = 0; c < 3; ++c) y[first + 4 * c] = (x[first + 4 * c] - s.mean) * rstd[4 * n + i] * scale[c];
    }
  }
  for (const std::string axis : {"1", "-2"}) {
    CheckOk(
        w,
        "layer-norm --input x.npy --output y.npy --scale variance3.npy --save-mean m.npy --save-rstd r.npy --axes 1 --axis " +
            axis);
    CheckNear(w.Get("y.npy"), {2, 3, 4}, y);
    CheckNear(w.Get("m.npy"), {2, 1, 4}, mean);
    CheckNear(w.Get("r.npy"), {2, 1, 4}, rstd);
  }
  CheckOk(w, "rms-norm --input x.npy --output y.npy --residual x.npy --axis 1 --axes 2");  // the last ones after all
  CheckOk(w, "rms-norm --input x.npy --output all.npy --residual x.npy --axis 1");
  CHECK(Slurp(w / "y.npy") == Slurp(w / "all.npy"));
  w.Put("none.npy", {2, 3, 0}, 1);
  CheckOk(w, "rms-norm --input none.npy --output y.npy --axis 1 --axes 1");
  CHECK(w.Get("y.npy").shape == npy::Shape{2, 3, 0});

  w.PutIntegers<int64_t>("lengths.npy", {2}, npy::Dtype::kI64, {1, 1});
  const std::string refused = "rms-norm --input x.npy --output y2.npy --axis 1 ";
  CheckRefused(w, refused + "--axes 0", {"--axes", "0"});
  CheckRefused(w, refused + "--axes 3", {"--axes 3", "--axis 1", "(2, 3, 4)"});
  CheckRefused(w, refused + "--axes 1 --scale scale4.npy", {"--scale", "(4,)", "(3,)"});
  for (const std::string flag : {"--residual x.npy", "--bias ones3.npy", "--gate x.npy", "--lengths lengths.npy"}) {
    CheckRefused(w, refused + "--axes 1 " + flag, {Split(flag)[0], "--axes"});
  }
  CheckRefused(w, refused + "--axes 1 --quantize i8 --quant-scale 1", {"quantized", "--axes"});
}

// Where element (n, c, s) of x [batch, channels, spatial] lies.
using Place = std::function<size_t(size_t n, size_t c, size_t s)>;

// Batch, group or instance norm as a formula: (n, c) -> the number of its statistics, which are over the positions that
// `counts` and normalize them; others stay as they are.
struct ChannelNorm {
  size_t batch, channels, spatial;
  std::function<size_t(size_t n, size_t c)> set;
  Place place;
  std::function<bool(size_t n, size_t s)> counts = [](size_t, size_t) { return true; };

  std::vector<Statistics> MeasureAll(const std::vector<double>& x) const {
    std::vector<std::vector<double>> sets;
    ForEach([&](size_t n, size_t c, size_t s) {
      sets.resize(std::max(sets.size(), set(n, c) + 1));
      sets[set(n, c)].push_back(x[place(n, c, s)]);
    });
    std::vector<Statistics> out;
    for (const std::vector<double>& values : sets) out.push_back(Measure(values));
    return out;
  }

  // `after` gets the normalized value and where it lies.
  std::vector<double> Apply(std::vector<double> x, const std::vector<Statistics>& statistics,
                            const std::function<double(double v, size_t c, size_t at)>& after) const {
    ForEach([&](size_t n, size_t c, size_t s) {
      const Statistics& of = statistics[set(n, c)];
      const size_t at = place(n, c, s);
      x[at] = after((x[at] - of.mean) / std::sqrt(of.variance + 1e-5), c, at);
    });
    return x;
  }

 private:
  void ForEach(const std::function<void(size_t n, size_t c, size_t s)>& f) const {
    for (size_t n = 0; n < batch; ++n) {
      for (size_t c = 0; c < channels; ++c) {
        for (size_t s = 0; s < spatial; ++s) {
          if (counts(n, s)) f(n, c, s);
        }
      }
    }
  }
};

Place NCHW(size_t channels, size_t spatial) {
  return [=](size_t n, size_t c, size_t s) { return (n * channels + c) * spatial + s; };
}
Place NHWC(size_t channels, size_t spatial) {
  return [=](size_t n, size_t c, size_t s) { return (n * spatial + s) * channels + c; };
}

TEST_CASE("cli: group-norm and instance-norm in both layouts") {
  const Workplace w;
  w.Put("nchw.npy", {2, 4, 3, 1}, 1);
  w.Put("nhwc.npy", {2, 3, 1, 4}, 1);
  const std::vector<double> x = Values(w.Get("nchw.npy")), scale = Values(w.Get("scale4.npy")),
                            shift = Values(w.Get("shift4.npy"));
  for (const size_t groups : {1, 2, 4}) {
    for (const bool nhwc : {false, true}) {
      const ChannelNorm norm = {2, 4, 3, [&](size_t n, size_t c) { return groups * n + c * groups / 4; },
                                nhwc ? NHWC(4, 3) : NCHW(4, 3)};
      const std::vector<Statistics> statistics = norm.MeasureAll(x);
      const std::vector<double> y =
          norm.Apply(x, statistics, [&](double v, size_t c, size_t) { return v * scale[c] + shift[c]; });
      std::vector<double> mean, rstd;
      for (const Statistics& s : statistics) {
        mean.push_back(s.mean);
        rstd.push_back(1 / std::sqrt(s.variance + 1e-5));
      }
      std::vector<std::string> ops = {"group-norm --groups " + std::to_string(groups)};
      if (groups == 4) ops.push_back("instance-norm");
      for (const std::string& op : ops) {
        CheckOk(w, op + " --output y.npy --scale scale4.npy --shift shift4.npy --save-mean m.npy --save-rstd r.npy" +
                       (nhwc ? " --layout NHWC --input nhwc.npy" : " --input nchw.npy"));
        CheckNear(w.Get("y.npy"), nhwc ? npy::Shape{2, 3, 1, 4} : npy::Shape{2, 4, 3, 1}, y);
        CheckNear(w.Get("m.npy"), {2, static_cast<int64_t>(groups)}, mean);
        CheckNear(w.Get("r.npy"), {2, static_cast<int64_t>(groups)}, rstd);
      }
    }
  }
  w.Put("none.npy", {0, 4, 3}, 1);
  CheckOk(w, "group-norm --groups 2 --input none.npy --output y.npy --save-mean m.npy");
  CHECK(w.Get("m.npy").shape == npy::Shape{0, 2});

  w.Put("flat.npy", {5}, 1);
  const std::string refused = " --input nchw.npy --output y2.npy ";
  CheckRefused(w, "group-norm" + refused, {"--groups", "required"});
  CheckRefused(w, "group-norm --groups 3" + refused, {"--groups 3", "4 channels"});
  CheckRefused(w, "group-norm --groups 8" + refused, {"--groups 8", "4 channels"});
  CheckRefused(w, "group-norm --groups 0" + refused, {"--groups", "0"});
  CheckRefused(w, "group-norm --groups -2" + refused, {"--groups", "-2"});
  CheckRefused(w, "group-norm --groups 1 --layout nchw8c" + refused, {"--layout", "nchw8c"});
  CheckRefused(w, "group-norm --groups 2 --scale ones3.npy" + refused, {"--scale", "(3,)", "(4,)"});
  CheckRefused(w, "group-norm --groups 1 --input flat.npy --output y2.npy", {"(5,)"});
  CheckRefused(w, "instance-norm --groups 1" + refused, {"--groups"});
  CheckRefused(w, "instance-norm --mean ones3.npy" + refused, {"--mean"});
  CheckRefused(w, "instance-norm --training" + refused, {"--training"});
}

TEST_CASE("cli: --residual, --activation, --lengths and --mask of batch, group and instance norm") {
  const Workplace w;
  w.PutIntegers<int32_t>("lengths.npy", {2}, npy::Dtype::kI32, {4, 2});
  w.PutIntegers<uint8_t>("mask.npy", {2, 4}, npy::Dtype::kBool, {0, 1, 1, 0, 1, 1, 0, 1});
  w.PutIntegers<uint8_t>("bytes.npy", {2, 4}, npy::Dtype::kU8, {0, 2, 255, 0, 1, 7, 0, 1});
  w.Put("r.npy", {2, 3, 4}, -0.25f, 1);
  const std::vector<double> x = Values(w.Get("x.npy")), r = Values(w.Get("r.npy"));
  const auto by_length = [](size_t n, size_t s) { return s < (n == 0 ? 4u : 2u); };
  const auto by_mask = [](size_t n, size_t s) { return n == 0 ? s == 1 || s == 2 : s != 2; };
  const auto by_channel = [](size_t, size_t c) { return c; };
  const auto by_sample = [](size_t n, size_t) { return n; };
  const auto by_both = [](size_t n, size_t c) { return 3 * n + c; };

  for (const auto& op : {std::pair<const char*, std::function<size_t(size_t, size_t)>>{"batch-norm --training", by_channel},
                         {"group-norm --groups 1", by_sample},
                         {"instance-norm", by_both}}) {
    for (const auto& part : {std::pair<const char*, std::function<bool(size_t, size_t)>>{"--lengths lengths.npy", by_length},
                             {"--mask mask.npy", by_mask},
                             {"--mask bytes.npy", by_mask}}) {
      const ChannelNorm norm = {2, 3, 4, op.second, NCHW(3, 4), part.second};
      const std::vector<double> untouched =
          norm.Apply(x, norm.MeasureAll(x), [&](double v, size_t, size_t at) { return std::max(v + r[at], 0.0); });
      std::vector<double> zero = untouched;
      for (size_t i = 0; i < 24; ++i) zero[i] = part.second(i / 12, i % 4) ? zero[i] : 0;
      const std::string command =
          std::string(op.first) + " --input x.npy --output y.npy --residual r.npy --activation relu " + part.first;
      CheckOk(w, command);
      CheckNear(w.Get("y.npy"), {2, 3, 4}, zero);
      CheckOk(w, command + " --padding untouched");
      CheckNear(w.Get("y.npy"), {2, 3, 4}, untouched);
    }
    const std::string refused = std::string(op.first) + " --input x.npy --output y2.npy ";
    w.PutIntegers<int64_t>("long.npy", {2}, npy::Dtype::kI64, {1, 5});
    CheckRefused(w, refused + "--lengths long.npy", {"lengths[1]", "5"});
    CheckRefused(w, refused + "--lengths ones3.npy", {"ones3.npy", "float32"});
    CheckRefused(w, refused + "--lengths lengths.npy --mask mask.npy", {"--lengths", "--mask"});
    CheckRefused(w, refused + "--mask lengths.npy", {"lengths.npy", "int32", "bool"});
    CheckRefused(w, refused + "--padding zero", {"--padding", "--lengths", "--mask"});
    CheckRefused(w, refused + "--mask mask.npy --padding untouched --output-dtype bf16", {"untouched", "bfloat16"});
    CheckRefused(w, refused + "--activation tanh", {"--activation", "tanh"});
    CheckRefused(w, refused + "--activation-slope 1", {"--activation"});
    CheckRefused(w, refused + "--activation relu --activation-slope 1", {"--activation-slope", "leaky-relu"});
    CheckRefused(w, refused + "--residual ones3.npy", {"--residual", "(3,)", "(2, 3, 4)"});
    CheckRefused(w, refused + "--gate x.npy", {"--gate"});
  }
  w.PutIntegers<uint8_t>("mask3.npy", {2, 3}, npy::Dtype::kU8, {1, 1, 1, 1, 1, 1});
  CheckRefused(w, "instance-norm --input x.npy --output y2.npy --mask mask3.npy", {"--mask", "(2, 3)", "(2, 4)"});

  // Given statistics
  const npy::Array mean = w.Get("mean3.npy"), variance = w.Get("variance3.npy");
  const ChannelNorm norm = {2, 3, 4, by_channel, NCHW(3, 4), by_length};
  std::vector<Statistics> given;
  for (int c = 0; c < 3; ++c) given.push_back({mean.f32()[c], variance.f32()[c], 0});
  CheckOk(
      w,
      "batch-norm --input x.npy --output y.npy --mean mean3.npy --variance variance3.npy --residual r.npy --activation silu "
      "--lengths lengths.npy --padding untouched");
  CheckNear(w.Get("y.npy"), {2, 3, 4}, norm.Apply(x, given, [&](double v, size_t, size_t at) { return SiLU(v + r[at]); }));
}

TEST_CASE("cli: batch-norm in blocked layouts") {
  const Workplace w;
  const std::string given = "--mean mean3.npy --variance variance3.npy ";
  CheckOk(w, "batch-norm --input x.npy --output y.npy " + given);
  CheckOk(w, "batch-norm --training --input x.npy --output t.npy --save-mean m.npy");
  const std::vector<double> x = Values(w.Get("x.npy"));
  for (const size_t block : {8, 16}) {
    const auto blocked = [&](const std::vector<double>& values, double padding) {
      std::vector<double> out(2 * 4 * block, padding);
      for (size_t i = 0; i < 24; ++i) out[(i / 12 * 4 + i % 4) * block + i / 4 % 3] = values[i];
      return out;
    };
    const npy::Shape shape = {2, 1, 2, 2, static_cast<int64_t>(block)};
    w.Put("blocked.npy", shape, blocked(x, 99), npy::Dtype::kF32);
    const std::string layout = "batch-norm --channels 3 --input blocked.npy --layout nchw" + std::to_string(block) + "c ";
    CheckOk(w, layout + "--output yb.npy " + given);
    CheckNear(w.Get("yb.npy"), shape, blocked(Values(w.Get("y.npy")), 0));
    CheckOk(w, layout + "--output yb.npy --training --save-mean mb.npy");
    CheckNear(w.Get("yb.npy"), shape, blocked(Values(w.Get("t.npy")), 0));
    CheckNear(w.Get("mb.npy"), {3}, Values(w.Get("m.npy")));
  }
  const std::string refused = "batch-norm --training --output y2.npy ";  // blocked.npy has blocks of 16 now
  CheckRefused(w, refused + "--input blocked.npy --layout nchw16c", {"--channels", "nchw16c"});
  CheckRefused(w, refused + "--input x.npy --channels 3", {"--channels", "nchw16c"});
  CheckRefused(w, refused + "--input blocked.npy --layout nchw8c --channels 3", {"3 channels", "(2, 1, 2, 2, 16)", "8]"});
  CheckRefused(w, refused + "--input blocked.npy --layout nchw16c --channels 17", {"17 channels", "(2, 1, 2, 2, 16)"});
  CheckRefused(w, refused + "--input blocked.npy --layout nchw16c --channels 0", {"--channels", "0"});
  CheckRefused(w, refused + "--input scale4.npy --layout nchw8c --channels 4", {"(4,)"});
}

TEST_CASE("cli: fold-batch-norm") {
  const Workplace w;
  w.Put("w.npy", {4, 2, 3}, 0.5f, -2);
  w.Put("bias.npy", {4}, 1, 3);
  w.Put("mean.npy", {4}, 0.5f, -1);
  w.Put("variance.npy", {4}, 0.25f, 1);
  w.Put("gamma.npy", {4}, -1, 2);
  const std::vector<double> weight = Values(w.Get("w.npy")), bias = Values(w.Get("bias.npy")), mean = Values(w.Get("mean.npy")),
                            variance = Values(w.Get("variance.npy")), gamma = Values(w.Get("gamma.npy")),
                            beta = Values(w.Get("shift4.npy"));
  const std::string files =
      "fold-batch-norm --weight w.npy --mean mean.npy --variance variance.npy --output-weight fw.npy --output-bias fb.npy "
      "--groups 2 --epsilon 0.5 ";
  std::vector<double> a, b;
  for (size_t c = 0; c < 4; ++c) {
    a.push_back(gamma[c] / std::sqrt(variance[c] + 0.5));
    b.push_back(beta[c] - mean[c] * a[c]);
  }
  for (const bool transposed : {false, true}) {
    // Element i of weight is of the pair (first, second) of channels, the second counted through all groups.
    const auto first = [](size_t i) { return i / 6; };
    const auto second = [&](size_t i) { return first(i) / 2 * 2 + i / 3 % 2; };
    const auto output = [&](size_t i) { return transposed ? second(i) : first(i); };
    const auto input = [&](size_t i) { return transposed ? first(i) : second(i); };
    for (const bool following : {false, true}) {
      std::vector<double> folded(weight), folded_bias(bias);
      for (size_t o = 0; o < 4 && !following; ++o) folded_bias[o] = a[o] * bias[o] + b[o];
      for (size_t i = 0; i < weight.size(); ++i) {
        folded[i] *= a[following ? input(i) : output(i)];
        if (following) folded_bias[output(i)] += weight[i] * b[input(i)];
      }
      CheckOk(w, files + "--scale gamma.npy --shift shift4.npy --bias bias.npy --position " +
                     (following ? "following" : "preceding") + (transposed ? " --transposed" : ""));
      CheckNear(w.Get("fw.npy"), {4, 2, 3}, folded);
      CheckNear(w.Get("fb.npy"), {4}, folded_bias);
    }
  }
  CheckOk(w, files + "--position preceding");  // neither scale, shift nor bias
  CheckNear(w.Get("fb.npy"), {4}, Map(mean, variance, [](double m, double v) { return -m / std::sqrt(v + 0.5); }));

  w.Put("w16.npy", {4, 2}, {1, 1, 1, 1, 1, 1, 1, 1}, npy::Dtype::kF16);
  const std::string statistics = " --mean mean.npy --variance variance.npy --output-weight fw2.npy --output-bias fb2.npy ";
  CheckRefused(w, "fold-batch-norm --weight w.npy" + statistics, {"--position", "required"});
  CheckRefused(w, "fold-batch-norm --weight w.npy --position beside" + statistics, {"--position", "beside"});
  CheckRefused(w, "fold-batch-norm --weight mean.npy --position preceding" + statistics, {"--weight", "(4,)"});
  CheckRefused(w, "fold-batch-norm --weight w16.npy --position preceding" + statistics, {"w16.npy", "float16", "float32"});
  CheckRefused(w, "fold-batch-norm --weight w.npy --position following" + statistics, {"--mean", "--weight", "(4,)", "(2,)"});
  CheckRefused(w, "fold-batch-norm --weight w.npy --position preceding --groups 3" + statistics, {"groups"});
  CheckRefused(w, "fold-batch-norm --weight w.npy --position preceding --bias ones3.npy" + statistics,
               {"--bias", "(3,)", "(4,)"});
  CheckRefused(w, "fold-batch-norm --weight w.npy --position preceding --groups 9223372036854775807" + statistics,
               {"--groups"});
  CheckRefused(w, "fold-batch-norm --weight w.npy --position preceding --input x.npy" + statistics, {"--input"});
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
    for (const char* part : {"\nFused:", "\nPadding:", "\nCommon:", "relu|leaky-relu|silu|gelu|gelu-tanh"}) {
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
