// Fuzzes the command line: tools/simdnorm.cc's main, called in this process in a folder of small files. The input is the words
// after the program's name, one a line. Whatever they are, the exit status is 0, 1 (`compare` alone) or 2; 2 comes with one
// complaint on standard error, and 0 and 1 with none; a call that fails leaves the folder as it was, and none leaves temporary
// files. Mutants are made word by word out of what the program declares to CLI11, so that new flags are fuzzed as well.
//
// Words cannot lead out of the folder: '/' in them becomes '_'.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "digest.h"
#include "flags.h"
#include "fuzz.h"
#include "npy.h"

// Digests take seconds, which cli_digest_test.cc has: here there are none.
namespace digest {
const std::vector<Group>& Groups() {
  static const std::vector<Group> none;
  return none;
}
std::string Line(const Group& /*group*/, const simdnorm_options& /*options*/) { return ""; }
}  // namespace digest

int SimdnormMain(int argc, char** argv);
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace simdnorm_test {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

// --- The folder ---

// Tensors that fit each other in all of the commands, and some files that fit nothing.
struct NamedArray {
  const char* name;
  npy::Dtype dtype;
  npy::Shape shape;
};
const NamedArray kArrays[] = {
    {"x.npy", npy::Dtype::kF32, {4, 3, 8}},           // rows or [batch, channels, spatial]
    {"half.npy", npy::Dtype::kF16, {4, 3, 8}},        //
    {"bits.npy", npy::Dtype::kU16, {4, 3, 8}},        // of bf16
    {"rows.npy", npy::Dtype::kF32, {4, 64}},          // blocks of Q8_0
    {"blocked.npy", npy::Dtype::kF32, {2, 2, 3, 8}},  // nChw8c
    {"per8.npy", npy::Dtype::kF32, {8}},              // of x's last axis
    {"per3.npy", npy::Dtype::kF32, {3}},              // of x's channels
    {"per4.npy", npy::Dtype::kF32, {4}},              // of x's batch, and weight's outputs
    {"per12.npy", npy::Dtype::kF32, {12}},            // of blocked's channels
    {"scales.npy", npy::Dtype::kF32, {4, 1, 8}},      // one for each of x's first axis
    {"lengths.npy", npy::Dtype::kI64, {4}},           //
    {"lengths32.npy", npy::Dtype::kI32, {4}},         //
    {"mask.npy", npy::Dtype::kBool, {4, 8}},          // of x's positions
    {"weight.npy", npy::Dtype::kF32, {4, 3, 2}},      //
    {"double.npy", npy::Dtype::kF64, {4, 3, 8}},      //
    {"i8.npy", npy::Dtype::kI8, {4, 3, 8}},           //
    {"empty.npy", npy::Dtype::kF32, {0, 3, 8}},       //
    {"empty-axis.npy", npy::Dtype::kF32, {4, 0}},     //
    {"number.npy", npy::Dtype::kF32, {}},             //
};

std::string HeaderOf(const char* descr, const std::string& shape) {
  const std::string text = "{'descr': '" + std::string(descr) + "', 'fortran_order': True, 'shape': " + shape + "}\n";
  return std::string("\x93NUMPY\1\0", 8) + static_cast<char>(text.size()) + '\0' + text;
}

// Files by name, and "folder", a folder.
std::map<std::string, std::string> FilesOfTheFolder() {
  std::map<std::string, std::string> files;
  const TemporaryFolder folder;
  for (const auto& [name, dtype, shape] : kArrays) {
    const npy::Array array = std::move(*npy::Array::Make(dtype, shape));
    for (int64_t i = 0; i < array.bytes(); ++i) array.as<uint8_t>()[i] = 0;
    for (int64_t i = 0; i < array.count(); ++i) {
      if (dtype == npy::Dtype::kF32) array.f32()[i] = static_cast<float>(i * i % 17) * 0.25f + 0.5f;
      if (npy::DtypeSize(dtype) == 2) array.as<uint16_t>()[i] = static_cast<uint16_t>(0x3C00 + i);
      if (npy::DtypeSize(dtype) == 1) array.as<uint8_t>()[i] = static_cast<uint8_t>(i % 3 != 0);
      if (dtype == npy::Dtype::kI64) array.as<int64_t>()[i] = i % 4;
      if (dtype == npy::Dtype::kI32) array.as<int32_t>()[i] = static_cast<int32_t>(i % 4);
    }
    npy::Outputs outputs;
    std::string error;
    const std::string path = folder.path() + "/" + name;
    if (!outputs.Add(path, array, &error) || !outputs.Commit(&error)) Found(error);
    std::ostringstream bytes;
    bytes << std::ifstream(path).rdbuf();
    files[name] = bytes.str();
  }
  files["fortran.npy"] = HeaderOf("<f4", "(4, 3, 8)") + std::string(4 * 96, '\x3f');
  files["big-endian.npy"] = HeaderOf(">f4", "(4, 3, 8)") + std::string(4 * 96, '\x3f');
  files["claims.npy"] = HeaderOf("<f4", "(1000000000000, 3)") + "short";
  files["claims-nothing.npy"] = HeaderOf("<f4", "(900000000, 3, 0)");
  files["truncated.npy"] = files["x.npy"].substr(0, 200);
  files["text.npy"] = "not an array";
  files["folder"] = "";
  return files;
}

class Folder {
 public:
  Folder() : contents_(FilesOfTheFolder()) {
    for (const auto& [name, contents] : contents_) Write(name);
  }

  const std::map<std::string, std::string>& contents() const { return contents_; }
  const std::string& path() const { return folder_.path(); }

  // Makes all as it was, and says by name what was not.
  Words Restore() {
    Words changed;
    for (const fs::directory_entry& entry : fs::directory_iterator(path())) {
      const std::string name = entry.path().filename();
      if (contents_.count(name) != 0) continue;
      changed.push_back(name);
      fs::remove_all(entry.path());
    }
    for (const auto& [name, contents] : contents_) {
      if (IdentityOf(name) == identities_[name]) continue;
      changed.push_back(name);
      fs::remove_all(path() + "/" + name);
      Write(name);
    }
    return changed;
  }

 private:
  using Identity = std::pair<ino_t, int64_t>;  // and the time of the last change, which tells an inode's next file from it
  Identity IdentityOf(const std::string& name) const {
    struct stat status;
    if (lstat((path() + "/" + name).c_str(), &status) != 0) return {};
    // Temporary files come and go in the folder's own.
    return {status.st_ino, S_ISDIR(status.st_mode) ? 1 : status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec};
  }

  void Write(const std::string& name) {
    if (name == "folder") {
      fs::create_directory(path() + "/" + name);
    } else {
      std::ofstream(path() + "/" + name) << contents_.at(name);
    }
    identities_[name] = IdentityOf(name);
  }

  TemporaryFolder folder_;
  const std::map<std::string, std::string> contents_;
  std::map<std::string, Identity> identities_;
};

Folder& TheFolder() {
  static Folder folder;
  return folder;
}

// --- A call ---

// What the program prints, instead of on the terminal. Of stdout and stderr only these variables change: what sanitizers and
// libFuzzer write does not come here.
class Printed {
 public:
  Printed() {
    stdout = open_memstream(&out_, &out_size_);
    stderr = open_memstream(&error_, &error_size_);
    std::cout.rdbuf(cout_.rdbuf());
    std::cerr.rdbuf(cerr_.rdbuf());
  }
  ~Printed() {
    Finish();
    std::free(out_);
    std::free(error_);
  }

  // -> what was printed on standard error
  std::string Finish() {
    if (stderr != before_error_) {
      std::fclose(std::exchange(stdout, before_out_));
      std::fclose(std::exchange(stderr, before_error_));
      std::cout.rdbuf(before_cout_);
      std::cerr.rdbuf(before_cerr_);
    }
    return std::string(error_, error_size_) + cerr_.str();
  }

 private:
  char *out_ = nullptr, *error_ = nullptr;
  size_t out_size_ = 0, error_size_ = 0;
  std::ostringstream cout_, cerr_;
  FILE* const before_out_ = stdout;
  FILE* const before_error_ = stderr;
  std::streambuf* const before_cout_ = std::cout.rdbuf();
  std::streambuf* const before_cerr_ = std::cerr.rdbuf();
};

struct Result {
  int status;
  std::string error;
};

Result Call(Words words) {
  words.insert(words.begin(), "simdnorm");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  static const int before = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  Require(chdir(TheFolder().path().c_str()) == 0, "the fuzzer cannot go to its folder");
  Result result;
  {
    Printed printed;
    result.status = SimdnormMain(static_cast<int>(words.size()), argv.data());
    result.error = printed.Finish();
  }
  Require(fchdir(before) == 0, "the fuzzer cannot go back");
  return result;
}

bool Contains(const Words& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

void Check(const Words& words) {
  const auto [status, error] = Call(words);
  const Words changed = TheFolder().Restore();
  if (status != 0 && status != 2 && !(status == 1 && Contains(words, "compare"))) {
    Found("exit status " + std::to_string(status));
  }
  const auto begins = [&error = error](const std::string& with) { return error.compare(0, with.size(), with) == 0; };
  if (status == 2) {
    if (!begins("simdnorm: ") || error.size() < 12 || error.back() != '\n') Found("a complaint is: " + error);
  } else {
    if (!error.empty() && !begins("simdnorm: note: ")) Found("a call that succeeds complains: " + error);
  }
  if (status != 0 && !changed.empty()) Found("a call that fails changes a file: " + changed[0]);
  for (const std::string& name : changed) {
    // --output=y.npy is one word.
    const auto names_it = [&](const std::string& word) {
      return word.size() >= name.size() && word.compare(word.size() - name.size(), name.size(), name) == 0;
    };
    if (!std::any_of(words.begin(), words.end(), names_it)) Found("a file that nobody asked for: " + name);
  }
}

// --- Words ---

Words Split(const uint8_t* data, size_t size) {
  constexpr size_t kMostWords = 60;
  Words words;
  std::istringstream lines(std::string(reinterpret_cast<const char*>(data), size));
  for (std::string line; words.size() < kMostWords && std::getline(lines, line);) {
    std::replace(line.begin(), line.end(), '/', '_');
    words.push_back(line.c_str());  // arguments end at a NUL
  }
  return words;
}

size_t Join(const Words& words, uint8_t* data, size_t max_size) {
  std::string text;
  for (const std::string& word : words) text += word + '\n';
  const size_t size = std::min(text.size(), max_size);
  std::memcpy(data, text.data(), size);
  return size;
}

// A command's name, and its flags with values that may suit them.
struct Flag {
  std::string name;
  Words values;  // empty: it takes none
};
using Commands = std::map<std::string, std::vector<Flag>>;

Words ValuesOf(const CLI::Option& option) {
  if (option.get_items_expected_max() == 0) return {};
  const std::string type = option.get_type_name();
  if (type == "FILE") {
    Words names = {"y.npy", "z.npy", "a b.npy", "", "."};
    for (const auto& [name, contents] : TheFolder().contents()) names.push_back(name);
    return names;
  }
  if (type.find('|') != std::string::npos) return CLI::detail::split(type, '|');
  return {"0",
          "1",
          "2",
          "3",
          "4",
          "8",
          "12",
          "-1",
          "-3",
          "0.5",
          "1e-5",
          "1e30",
          "nan",
          "-inf",
          "AVX2",
          "NEON",
          "0x10",
          "1e999",
          "2147483647",
          "2147483648",
          "1000000000000",
          "9223372036854775807",
          "-9223372036854775808",
          "9223372036854775808"};
}

Commands DeclaredCommands() {
  CLI::App app;
  cli::Flags flags;
  cli::DeclareCommands(app, flags);
  Commands commands;
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    for (const CLI::Option* option : command->get_options()) {
      const bool is_word = option->get_positional();
      commands[command->get_name()].push_back({is_word ? "" : option->get_name(), ValuesOf(*option)});
    }
  }
  return commands;
}

using Random = std::minstd_rand;
template <class List>
auto& OneOf(List& list, Random& random) {
  return *std::next(list.begin(), static_cast<int64_t>(random() % list.size()));
}

// A flag of the command that the words begin with, and a value for it.
Words SomeFlag(const Words& words, Random& random) {
  static const Commands commands = DeclaredCommands();
  const auto command = words.empty() ? commands.end() : commands.find(words[0]);
  const auto& [name, flags] = command != commands.end() ? *command : OneOf(commands, random);
  if (command == commands.end()) return {name};
  const Flag& flag = OneOf(flags, random);
  Words flag_words;
  if (!flag.name.empty()) flag_words.push_back(flag.name);
  if (!flag.values.empty()) flag_words.push_back(OneOf(flag.values, random));
  return flag_words;
}

void Mutate(Words& words, Random& random) {
  const Words flag = SomeFlag(words, random);
  const auto at = [&](size_t size) { return words.begin() + static_cast<int64_t>(random() % size); };
  switch (random() % 8) {
    case 0:  // another command, or something before it
      if (!words.empty() && random() % 2 == 0) words.erase(words.begin());
      words.insert(words.begin(), SomeFlag({}, random)[0]);
      break;
    case 1:
      if (!words.empty()) words.erase(at(words.size()));
      break;
    case 2:
      if (!words.empty()) *at(words.size()) = flag.back();
      break;
    case 3:
      if (words.size() > 1) std::swap(*at(words.size()), *at(words.size()));
      break;
    default: {
      // A flag that is there gets another value: twice would be refused.
      const auto there = std::find(words.begin(), words.end(), flag[0]);
      if (there != words.end() && there + 1 != words.end() && flag.size() == 2) {
        *(there + 1) = flag[1];
      } else {
        words.insert(words.end(), flag.begin(), flag.end());
      }
    }
  }
}

}  // namespace
}  // namespace simdnorm_test

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  using namespace simdnorm_test;
  Random random(seed + 1);
  if (random() % 8 == 0) return LLVMFuzzerMutate(data, size, max_size);
  Words words = Split(data, size);
  for (uint64_t times = 1 + random() % 3; times > 0; --times) Mutate(words, random);
  return Join(words, data, max_size);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  simdnorm_test::Check(simdnorm_test::Split(data, size));
  return 0;
}
