// The command line where files, folders and pipes are not as they should be: what fails ends in one line that names the file
// and in exit status 2, and leaves no part of an output, nor changes a file that was there. What the reader makes of files
// whose contents are wrong: npy_test.cc.
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "cli.h"

namespace simdnorm_test {
namespace {

using Words = std::vector<std::string>;

void Spill(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

// A file of this header, and of `data`.
std::string NpyFile(const std::string& descr, const std::string& shape, const std::string& data) {
  const std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }\n";
  return "\x93NUMPY\x01" + std::string(1, '\0') + static_cast<char>(header.size()) + std::string(1, '\0') + header + data;
}

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

void Limit(int resource, rlim_t limit) {
  const struct rlimit both = {limit, limit};
  setrlimit(resource, &both);
}

// y.npy as it is with this input.
std::string Expected(const Workplace& w, const std::string& input) {
  CheckOk(w, "layer-norm --quiet --input " + input + " --output expected.npy");
  const std::string bytes = Slurp(w / "expected.npy");
  fs::remove(w / "expected.npy");
  return bytes;
}

TEST_CASE("files: a disk that becomes full leaves what was there, and nothing else") {
  const Workplace w;
  w.Put("big.npy", {5, 200}, 1);  // 4000 bytes of data
  Spill(w / "y.npy", "before");
  const auto small = [] { Limit(RLIMIT_FSIZE, 3000); };
  CheckRefused(w, Words{"layer-norm", "--input", "big.npy", "--output", "y.npy"}, {"y.npy: cannot be written: File too large"},
               small);
  // The first output fits, the second does not.
  CheckRefused(w,
               Words{"layer-norm", "--input", "big.npy", "--residual", "big.npy", "--output", "y.npy", "--output-dtype", "f16",
                     "--save-h", "h.npy"},
               {"h.npy: cannot be written: File too large"}, small);
  CHECK(Slurp(w / "y.npy") == "before");
  CheckRefused(w, "layer-norm --input big.npy --output y.npy --save-mean /dev/full",
               {"/dev/full: cannot be written: No space"});
  CHECK(Slurp(w / "y.npy") == "before");
}

TEST_CASE("files: a file system that is full") {
  const Workplace w;
  w.Put("big.npy", {64, 1024}, 1);
  REQUIRE(fs::create_directory(w / "small"));
  const std::string small = w / "small";
  constexpr int kMayNot = 77;
  // Seen by this one process, and gone with it.
  const auto mount_small = [&] {
    const bool ok = unshare(CLONE_NEWNS) == 0 && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                    mount("none", small.c_str(), "tmpfs", 0, "size=64k") == 0;
    if (!ok) _exit(kMayNot);
  };
  const Run run = Cli(w, Words{"layer-norm", "--input", "big.npy", "--output", "small/y.npy"}, mount_small);
  if (run.status == kMayNot) {
    MESSAGE("skipped: mounting is not allowed here");
    return;
  }
  CHECK(run.status == 2);
  CHECK(run.err == "simdnorm: small/y.npy: cannot be written: No space left on device\n");
}

TEST_CASE("files: what permissions forbid") {
  const Workplace w;
  // Root may do all this by capabilities that it can give up.
  const auto as_user = [] {
    for (const int capability : {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH}) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  };
  const auto refused = [&](const std::string& input, const std::string& output, const char* words) {
    CheckRefused(w, Words{"layer-norm", "--input", input, "--output", output}, {words}, as_user);
  };
  w.Put("secret.npy", {4}, 1);
  Spill(w / "old.npy", "before");
  REQUIRE(chmod((w / "secret.npy").c_str(), 0) == 0);
  REQUIRE(chmod((w / "old.npy").c_str(), 0444) == 0);
  refused("secret.npy", "y.npy", "secret.npy: cannot be opened: Permission denied");
  refused("x.npy", "old.npy", "old.npy: cannot be written: Permission denied");

  REQUIRE(fs::create_directory(w / "closed"));
  Spill(w / "closed/old.npy", "before");
  REQUIRE(chmod((w / "closed").c_str(), 0555) == 0);
  refused("x.npy", "closed/y.npy", "closed/y.npy: cannot be created: Permission denied");
  refused("x.npy", "closed/old.npy", "closed/old.npy: cannot be created: Permission denied");
  refused("x.npy", "/proc/y.npy", "/proc/y.npy: cannot be created: ");
  REQUIRE(chmod((w / "closed").c_str(), 0) == 0);
  refused("closed/x.npy", "y.npy", "closed/x.npy: cannot be opened: Permission denied");
  refused("x.npy", "closed/y.npy", "closed/y.npy: cannot be created: Permission denied");
  REQUIRE(chmod((w / "closed").c_str(), 0755) == 0);
  CHECK(Slurp(w / "old.npy") == "before");
  CHECK(Slurp(w / "closed/old.npy") == "before");
}

TEST_CASE("files: paths that lead nowhere") {
  const Workplace w;
  fs::create_symlink("loop.npy", w / "loop.npy");
  CheckRefused(w, "layer-norm --input loop.npy --output y.npy", {"loop.npy: cannot be opened: Too many levels"});
  CheckRefused(w, "layer-norm --input x.npy --output loop.npy", {"loop.npy: cannot be created: Too many levels"});
  CheckRefused(w, "layer-norm --input x.npy --output x.npy/y.npy", {"x.npy/y.npy: cannot be created: Not a directory"});
  const std::string name = std::string(300, 'n');
  CheckRefused(w, "layer-norm --input x.npy --output " + name, {name + ": cannot be created: File name too long"});
  CHECK(fs::is_symlink(w / "loop.npy"));
}

// Names that a shell, a terminal, printf or the flags' parser might take for something else, and how messages write them.
const struct {
  const char *name, *printed;
} kNames[] = {
    {" a b .npy", " a b .npy"},
    {"a\nsimdnorm: b.npy", "a\\nsimdnorm: b.npy"},
    {"'q\"`$x.npy", "'q\"`$x.npy"},
    {"-x.npy", "-x.npy"},
    {"--quiet", "--quiet"},
    {"--", "--"},
    {"[a,b].npy", "[a,b].npy"},
    {"%s%n.npy", "%s%n.npy"},
    {"\x1b[2J\r\t\x7f.npy", "\\x1b[2J\\x0d\\x09\\x7f.npy"},
    {"gr\xc3\xb6\xc3\x9f"
     "e.npy",
     "gr\xc3\xb6\xc3\x9f"
     "e.npy"},
    {"\xff\xc3.npy", "\\xff\\xc3.npy"},
    {"\xc2\x9b"
     "2J.npy",
     "\\xc2\\x9b"
     "2J.npy"},  // U+009B: ESC [ in one character
};

TEST_CASE("files: any name") {
  const Workplace w;
  const std::string expected = Expected(w, "x.npy");
  for (const auto& c : kNames) {
    const std::string name = c.name, printed = c.printed;
    CAPTURE(printed);
    CheckRefused(w, Words{"layer-norm", "--input", name, "--output", "y.npy"},
                 {"simdnorm: " + printed + ": cannot be opened: No such file"});
    CheckRefused(w, Words{"layer-norm", "--input", "x.npy", "--output", "gone/" + name},
                 {"simdnorm: gone/" + printed + ": cannot be created: No such file"});
    const Run out = Cli(w, Words{"layer-norm", "--input", "x.npy", "--output", name, "--save-mean", "m.npy"});
    CHECK(out.err == "");
    CHECK(out.status == 0);
    CHECK(Slurp(w / name) == expected);
    CHECK(Cli(w, Words{"layer-norm", "--input", "x.npy", "--output", "y.npy", "--residual", name}).status == 0);
    CheckRefused(w, Words{"layer-norm", "--input", "x.npy", "--output", "y2.npy", "--bias", name},
                 {"--bias " + printed + " has shape (2, 3, 4)"});
    fs::remove(w / name);
  }
}

TEST_CASE("files: a name that is no file is refused in one line, too") {
  const Workplace w;
  for (const std::string word : {"no\nsuch", "-\n", "--no\n", "\xff"}) {
    CheckRefused(w, Words{word}, {});
    CheckRefused(w, Words{"layer-norm", "--input", "x.npy", "--output", "y.npy", "--axis", word}, {"--axis"});
    CheckRefused(w, Words{"layer-norm", "--input", "x.npy", "--output", "y.npy", "--target", word}, {"target"});
  }
}

TEST_CASE("files: standard output that nobody reads") {
  const Workplace w;
  const std::string expected = Expected(w, "x.npy");
  int pipe_ends[2];
  REQUIRE(pipe(pipe_ends) == 0);
  close(pipe_ends[0]);
  const auto to_closed_pipe = [&] { dup2(pipe_ends[1], 1); };
  const auto without_descriptors = [] {
    for (const int fd : {0, 1, 2}) close(fd);
  };
  for (const char* word : {"targets", "--help", "--version"}) {
    CheckRefused(w, Words{word}, {"cannot write to standard output"}, to_closed_pipe);
  }
  CheckRefused(w, Words{"layer-norm", "--quiet", "--input", "x.npy", "--output", "/dev/stdout"},
               {"/dev/stdout: cannot be written: Broken pipe"}, to_closed_pipe);
  close(pipe_ends[1]);
  CHECK(Cli(w, "--help", "/dev/full").status == 2);

  // Files are opened where standard output was, and must get nothing else.
  CHECK(Cli(w, Words{"layer-norm", "--quiet", "--input", "x.npy", "--output", "y.npy"}, without_descriptors).status == 0);
  CHECK(Slurp(w / "y.npy") == expected);
  CHECK(Cli(w, Words{"layer-norm", "--input", "x.npy", "--output", "y2.npy"}, without_descriptors).status == 2);
  CHECK(Slurp(w / "y2.npy") == expected);
}

TEST_CASE("files: standard input and output by name hold the array and nothing else") {
  const Workplace w;
  const std::string expected = Expected(w, "x.npy");
  const std::string x = w / "x.npy";
  const auto from_x = [&] { dup2(open(x.c_str(), O_RDONLY), 0); };
  const Words through = {"layer-norm", "--input", "/dev/stdin", "--output", "/dev/stdout"};
  const Run to_pipe_or_file = Cli(w, through, from_x);
  CHECK(to_pipe_or_file.status == 0);
  CHECK(to_pipe_or_file.out == expected);
  CHECK(to_pipe_or_file.err.find("layer-norm (2, 3, 4)") == 0);  // what is otherwise said on standard output

  // After what is there already; into a file without a name.
  const int log = open((w / "log").c_str(), O_RDWR | O_CREAT, 0600);
  REQUIRE(write(log, "header ", 7) == 7);
  REQUIRE(unlink((w / "log").c_str()) == 0);
  const auto to_log = [&] { dup2(log, 1); };
  const int files = w.Files();
  CHECK(Cli(w, Words{"layer-norm", "--quiet", "--input", "x.npy", "--output", "/dev/stdout"}, to_log).status == 0);
  std::string written(7 + expected.size() + 1, '\0');
  CHECK(pread(log, written.data(), written.size(), 0) == static_cast<ssize_t>(written.size()) - 1);
  CHECK(written.substr(0, written.size() - 1) == "header " + expected);
  CHECK(w.Files() == files);
  close(log);
}

// Stopped where no machine is fast enough to be past it: the second output goes to a pipe that nobody reads.
int StopWhileWriting(const Workplace& w, int number) {
  w.Put("big.npy", {8, 100000}, 1);
  if (!fs::exists(w / "pipe")) REQUIRE(mkfifo((w / "pipe").c_str(), 0600) == 0);
  const int pipe = open((w / "pipe").c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(pipe >= 0);
  const pid_t pid =
      StartCli(w, Words{"layer-norm", "--input", "big.npy", "--residual", "big.npy", "--output", "y.npy", "--save-h", "pipe"},
               w.Log(".out"), w.Log(".err"), [number] { signal(number, SIG_DFL); });  // nohup, say, has it ignored
  const auto start = std::chrono::steady_clock::now();
  const auto in_time = [&] { return std::chrono::steady_clock::now() - start < std::chrono::seconds(60); };
  const auto wait = [] { std::this_thread::sleep_for(std::chrono::milliseconds(5)); };
  const auto full = [&] {
    struct pollfd out = {pipe, POLLOUT, 0};
    return poll(&out, 1, 0) == 0;
  };
  int status = 0;
  while (in_time() && !full()) wait();
  CHECK(full());
  kill(pid, number);
  while (in_time() && waitpid(pid, &status, WNOHANG) == 0) wait();
  if (!in_time()) {
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
  }
  close(pipe);
  fs::remove(w.Log(".out"));
  fs::remove(w.Log(".err"));
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST_CASE("files: a signal while outputs are written") {
  const Workplace w;
  Spill(w / "y.npy", "before");
  StopWhileWriting(w, SIGTERM);  // puts its own files there
  const int files = w.Files();
  for (const int signal : {SIGHUP, SIGINT, SIGTERM}) {
    CAPTURE(signal);
    CHECK(StopWhileWriting(w, signal) == signal);
    CHECK(Slurp(w / "y.npy") == "before");
    CHECK(w.Files() == files);
  }
  // This one no program can clean up after; what is there is under another name.
  CHECK(StopWhileWriting(w, SIGKILL) == SIGKILL);
  CHECK(Slurp(w / "y.npy") == "before");
}

TEST_CASE("files: memory is taken for what a file holds, not for what it claims") {
  const Workplace w;
  const std::string kilobyte(1024, 'x'), one(1, '\0');
  Spill(w / "20GB.npy", NpyFile("<f4", "(5000000000,)", kilobyte));
  Spill(w / "rows.npy", NpyFile("<f4", "(5000000000, 0)", ""));
  Spill(w / "header.npy", "\x93NUMPY\x02" + one + "\xff\xff\xff\x7f{'descr': " + kilobyte);
  Spill(w / "nested.npy", NpyFile("<f4", std::string(60, '('), kilobyte));
  // Room for the program. Sanitizers and emulators need more than can be limited.
  const rlim_t room = kSanitized || !fs::exists(SIMDNORM_CLI) ? RLIM_INFINITY : rlim_t{512} << 20;
  const auto limited = [&] { Limit(RLIMIT_AS, room); };
  const auto refused = [&](const char* input, const Words& words) {
    CheckRefused(w, Words{"layer-norm", "--input", input, "--output", "y.npy", "--save-rstd", "r.npy"}, words, limited);
  };
  refused("20GB.npy", {"20GB.npy: is truncated", "20000000000 bytes", "has 1024"});
  refused("rows.npy", {"rows.npy: has shape (5000000000, 0), too large"});
  refused("header.npy", {"header.npy: has a header of 2147483647 bytes"});
  refused("nested.npy", {"nested.npy: bad header: 'shape'"});
  Spill(w / "channels.npy", NpyFile("<f4", "(2, 0, 4)", ""));
  CheckRefused(w,
               Words{"group-norm", "--groups", "9000000000000000000", "--input", "channels.npy", "--output", "y.npy",
                     "--save-mean", "m.npy"},
               {"channels.npy: has shape (2, 0, 4), too large"}, limited);

  REQUIRE(mkfifo((w / "pipe").c_str(), 0600) == 0);
  std::thread writer([&] { Spill(w / "pipe", Slurp(w / "20GB.npy")); });
  refused("pipe", {"pipe: is truncated", "has 1024"});
  writer.join();
}

}  // namespace
}  // namespace simdnorm_test
