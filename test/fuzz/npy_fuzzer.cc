// Fuzzes the .npy reader (tools/npy.h). The input is a file, which is read as a regular file and out of a pipe. Both have to
// say the same of it; memory has to stay within what the bytes that are there ask for, whatever the header claims; a refusal
// is one printable line that names the file; and an array that is accepted has the bytes that follow the header, and comes back
// as it is when it is written and read again.
#include <fcntl.h>
#include <sanitizer/allocator_interface.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

#include "fuzz.h"
#include "npy.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace simdnorm_test {
namespace {

// Memory that is in use beyond what was when it was set to 0, and the most of it.
int64_t memory_in_use = 0, memory_peak = 0;

void NoteAllocation(const volatile void* /*data*/, size_t size) {
  memory_in_use += static_cast<int64_t>(size);
  memory_peak = std::max(memory_peak, memory_in_use);
}

void NoteRelease(const volatile void* data) {
  if (data != nullptr) memory_in_use -= static_cast<int64_t>(__sanitizer_get_allocated_size(const_cast<const void*>(data)));
}

// What the reader takes at most besides the data: a header of 64 KiB, words, and of a pipe the first piece of 8 MiB.
constexpr int64_t kSmallThings = int64_t{256} << 10, kFirstPiece = int64_t{8} << 20;

std::optional<npy::Array> Read(const std::string& path, int64_t memory_allowed) {
  std::string error;
  memory_in_use = memory_peak = 0;
  std::optional<npy::Array> array = npy::Read(path, &error);
  if (memory_peak > memory_allowed) Found("reading took " + std::to_string(memory_peak) + " bytes of memory");
  Require(array.has_value() == error.empty(), "an array and an error, or neither");
  if (array) return array;
  if (error.compare(0, path.size() + 2, path + ": ") != 0) Found("an error that does not name the file: " + error);
  const auto printable = [](char c) { return c >= ' ' && c <= '~'; };
  if (!std::all_of(error.begin(), error.end(), printable)) Found("control characters in an error: " + error);
  return array;
}

bool Same(const npy::Array& a, const npy::Array& b) {
  return a.dtype == b.dtype && a.shape == b.shape &&
         std::memcmp(a.data.get(), b.data.get(), static_cast<size_t>(a.bytes())) == 0;
}

void WriteFully(int fd, const uint8_t* data, size_t size) {
  Require(write(fd, data, size) == static_cast<ssize_t>(size), "the fuzzer cannot write its file");
}

std::string PathOf(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

std::optional<npy::Array> ReadAsFile(const uint8_t* data, size_t size) {
  static const int fd = memfd_create("input", 0);
  Require(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0, "the fuzzer cannot rewrite its file");
  WriteFully(fd, data, size);
  // Fortran order is converted from one copy to another.
  return Read(PathOf(fd), 2 * static_cast<int64_t>(size) + kSmallThings);
}

constexpr size_t kPipeCapacity = 65536;

std::optional<npy::Array> ReadAsPipe(const uint8_t* data, size_t size) {
  int ends[2];
  Require(pipe(ends) == 0, "the fuzzer cannot make a pipe");
  WriteFully(ends[1], data, size);
  // The reader opens the pipe for itself, and it ends when nobody has it open for writing.
  const std::string path = PathOf(ends[0]);
  close(ends[1]);
  std::optional<npy::Array> array = Read(path, 4 * static_cast<int64_t>(size) + kSmallThings + kFirstPiece);
  close(ends[0]);
  return array;
}

using Histogram = std::array<int64_t, 256>;
Histogram HistogramOf(const uint8_t* data, size_t size) {
  Histogram histogram = {};
  for (size_t i = 0; i < size; ++i) ++histogram[data[i]];
  return histogram;
}

// Where the data begin in a file that was accepted.
size_t HeaderSize(const uint8_t* file) {
  if (file[6] == 1) return 10 + (file[8] | size_t{file[9]} << 8);
  return 12 + (file[8] | size_t{file[9]} << 8 | size_t{file[10]} << 16 | size_t{file[11]} << 24);
}

void CheckArray(const npy::Array& array, const uint8_t* file, size_t size) {
  int64_t bytes = static_cast<int64_t>(npy::DtypeSize(array.dtype));
  for (const int64_t length : array.shape) bytes *= length;
  Require(bytes == array.bytes(), "an array of another size than its shape's");
  const size_t header = HeaderSize(file);
  Require(header + static_cast<size_t>(bytes) == size, "an array of another size than the file's data");
  // Byte order and Fortran order only move bytes.
  Require(HistogramOf(file + header, size - header) == HistogramOf(array.as<uint8_t>(), static_cast<size_t>(bytes)),
          "an array of other bytes than the file's");

  static const TemporaryFolder folder;
  const std::string path = folder.path() + "/written.npy";
  std::string error;
  npy::Outputs outputs;
  if (!outputs.Add(path, array, &error) || !outputs.Commit(&error)) Found("what was read cannot be written: " + error);
  const std::optional<npy::Array> again = Read(path, bytes + kSmallThings);
  Require(again && Same(*again, array), "what was written is not read as it was");
}

// A header's length as it is: that of the Python literal, and of spaces and the newline after it.
void RepairHeaderLength(uint8_t* file, size_t size) {
  if (size < 12) return;
  const size_t text = file[6] == 1 ? 10 : 12;
  const uint8_t* end = std::find(file + text, file + size, '}');
  if (end == file + size) return;
  const uint8_t* const line_end = std::find(end, const_cast<const uint8_t*>(file) + size, '\n');
  end = line_end != file + size && std::all_of(end + 1, line_end, [](uint8_t c) { return c == ' '; }) ? line_end + 1 : end + 1;
  const size_t length = static_cast<size_t>(end - file) - text;
  for (size_t i = 8; i < text; ++i) file[i] = static_cast<uint8_t>(length >> (8 * (i - 8)));
}

}  // namespace
}  // namespace simdnorm_test

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  __sanitizer_install_malloc_and_free_hooks(simdnorm_test::NoteAllocation, simdnorm_test::NoteRelease);
  return 0;
}

// Most mutants of a header have another length than they say, and would all be refused for that.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (seed % 4 != 0) simdnorm_test::RepairHeaderLength(data, size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace simdnorm_test;
  const std::optional<npy::Array> array = ReadAsFile(data, size);
  if (size <= kPipeCapacity) {
    const std::optional<npy::Array> piped = ReadAsPipe(data, size);
    Require(array.has_value() == piped.has_value(), "a file that is read, but not out of a pipe, or the other way round");
    Require(!array || Same(*array, *piped), "a file that is read out of a pipe as something else");
  }
  if (array) CheckArray(*array, data, size);
  return 0;
}
