// What the fuzzers share: how one says that it found something, and the folder that its files are in.
#ifndef SIMDNORM_TEST_FUZZ_FUZZ_H_
#define SIMDNORM_TEST_FUZZ_FUZZ_H_

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace simdnorm_test {

// libFuzzer keeps the input of a run that aborts.
[[noreturn]] inline void Found(const std::string& what) {
  std::fprintf(stderr, "FOUND: %s\n", what.c_str());
  std::abort();
}

inline void Require(bool holds, const char* what) {
  if (!holds) Found(what);
}

// Removed when the process ends by itself; `run` removes those of a process that crashed.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const char* const parent = std::getenv("TMPDIR");
    path_ = std::string(parent != nullptr ? parent : "/tmp") + "/simdnorm-fuzz-XXXXXX";
    Require(mkdtemp(path_.data()) != nullptr, "no folder for the fuzzer's files");
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_FUZZ_FUZZ_H_
