// Runs the command line as a user does, in a folder of its own; and formulas in double for what it should write.
#ifndef SIMDNORM_TEST_CLI_H_
#define SIMDNORM_TEST_CLI_H_

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "dtypes.h"
#include "npy.h"
#include "simdnorm/simdnorm.h"

namespace simdnorm_test {

namespace fs = std::filesystem;

// What a file's elements are to the library. uint16 holds bf16 in all of these tests.
inline simdnorm_dtype LibraryDtype(npy::Dtype dtype) {
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

inline std::vector<double> Values(const npy::Array& array) {
  std::vector<double> values;
  for (int64_t i = 0; i < array.count(); ++i) {
    values.push_back(static_cast<double>(GetElement(array.data.get(), LibraryDtype(array.dtype), i)));
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
      SetElement(array.data.get(), LibraryDtype(dtype), i, static_cast<float>(values[static_cast<size_t>(i)]));
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

inline std::string Slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::vector<std::string> Split(const std::string& text) {
  std::istringstream words(text);
  return {std::istream_iterator<std::string>(words), {}};
}

// Runs in a child process before the program does, and may do only what a signal's handler may.
using InChild = std::function<void()>;

// Starts `simdnorm arguments` in the folder, with standard output and error in these files. SIMDNORM_CLI is the program, or a
// command that runs it (an emulator's, say).
inline pid_t StartCli(const Workplace& folder, const std::vector<std::string>& arguments, const std::string& out,
                      const std::string& err, const InChild& in_child = nullptr) {
  std::vector<std::string> words = {SIMDNORM_CLI};
  if (!fs::exists(words[0])) words = Split(SIMDNORM_CLI);
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  const std::string path = folder / ".";
  const pid_t pid = fork();
  REQUIRE(pid >= 0);
  if (pid > 0) return pid;
  const auto redirect = [](int fd, const char* to, int how) { return dup2(open(to, how | O_CLOEXEC, 0600), fd) == fd; };
  constexpr int kNew = O_WRONLY | O_CREAT | O_TRUNC;
  if (redirect(0, "/dev/null", O_RDONLY) && redirect(1, out.c_str(), kNew) && redirect(2, err.c_str(), kNew) &&
      chdir(path.c_str()) == 0) {
    if (in_child) in_child();
    execvp(argv[0], argv.data());
  }
  _exit(127);
}

// The exit status, or minus the signal
inline int WaitFor(pid_t pid) {
  int status;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

struct Run {
  int status;
  std::string out, err;
};

inline Run Cli(const Workplace& folder, const std::vector<std::string>& arguments, const InChild& in_child = nullptr,
               const std::string& out_path = "") {
  const std::string out = out_path.empty() ? folder.Log(".out") : out_path, err = folder.Log(".err");
  const int status = WaitFor(StartCli(folder, arguments, out, err, in_child));
  Run run{status, out_path.empty() ? Slurp(out) : "", Slurp(err)};
  if (out_path.empty()) fs::remove(out);
  fs::remove(err);
  return run;
}

// `arguments` are words without spaces.
inline Run Cli(const Workplace& folder, const std::string& arguments, const std::string& out_path = "") {
  return Cli(folder, Split(arguments), nullptr, out_path);
}

inline void CheckOk(const Workplace& folder, const std::string& arguments) {
  CAPTURE(arguments);
  const Run run = Cli(folder, arguments);
  CHECK(run.status == 0);
  CHECK(run.err == "");
}

// Fails as promised: status 2, one line with the program's name and each of `words`, and not one file more or less.
inline void CheckRefused(const Workplace& folder, const std::vector<std::string>& arguments,
                         const std::vector<std::string>& words, const InChild& in_child = nullptr) {
  const int files = folder.Files();
  const std::string x = Slurp(folder / "x.npy");
  const Run run = Cli(folder, arguments, in_child);
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

inline void CheckRefused(const Workplace& folder, const std::string& arguments, const std::vector<std::string>& words) {
  CAPTURE(arguments);
  CheckRefused(folder, Split(arguments), words);
}

// Half a unit in the last place, and what arithmetic adds to it.
inline double Tolerance(npy::Dtype dtype) { return dtype == npy::Dtype::kF16 ? 5e-4 : dtype == npy::Dtype::kU16 ? 4e-3 : 1e-5; }

inline void CheckNear(const npy::Array& got, const npy::Shape& shape, const std::vector<double>& want,
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

inline Statistics Measure(const std::vector<double>& values) {
  Statistics s;
  for (const double v : values) s.mean += v / static_cast<double>(values.size());
  for (const double v : values) {
    s.variance += (v - s.mean) * (v - s.mean) / static_cast<double>(values.size());
    s.mean_square += v * v / static_cast<double>(values.size());
  }
  return s;
}

// Elementwise.
inline std::vector<double> Map(const std::vector<double>& a, const std::function<double(double)>& f) {
  std::vector<double> out(a);
  std::transform(a.begin(), a.end(), out.begin(), f);
  return out;
}
inline std::vector<double> Map(const std::vector<double>& a, const std::vector<double>& b,
                               const std::function<double(double, double)>& f) {
  std::vector<double> out(a);
  for (size_t i = 0; i < a.size(); ++i) out[i] = f(a[i], b[i % b.size()]);  // b may be a row of a
  return out;
}
inline std::vector<double> Sum(const std::vector<double>& a, const std::vector<double>& b) {
  return Map(a, b, std::plus<double>());
}

// Over rows of `cols`, with epsilon's default.
inline std::vector<double> Normalize(const std::vector<double>& x, int64_t cols, bool rms) {
  std::vector<double> y;
  for (auto row = x.begin(); row != x.end(); row += cols) {
    const Statistics s = Measure({row, row + cols});
    const double mean = rms ? 0 : s.mean, rstd = 1 / std::sqrt((rms ? s.mean_square : s.variance) + 1e-5);
    std::transform(row, row + cols, std::back_inserter(y), [&](double value) { return (value - mean) * rstd; });
  }
  return y;
}

inline double SiLU(double v) { return v / (1 + std::exp(-v)); }

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_CLI_H_
