// .npy, NumPy's file of one array (versions 1 to 3; https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html),
// for the command line and the tests. Files are not trusted: what a header claims is checked against the size of the file
// before memory is taken for it. Nothing here throws but for std::bad_alloc out of a string; errors are words that name the
// file.
#ifndef SIMDNORM_TOOLS_NPY_H_
#define SIMDNORM_TOOLS_NPY_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace npy {

// Numbers as NumPy has them, which knows no bfloat16: programs write that as '<u2' or as '|V2' (two bytes of anything), and
// both read as kU16.
enum class Dtype { kF16, kF32, kF64, kI8, kU8, kU16, kI32, kI64, kBool };

size_t DtypeSize(Dtype dtype);
const char* DtypeName(Dtype dtype);  // "float32"

using Shape = std::vector<int64_t>;

int64_t Count(const Shape& shape);         // elements: 1 for rank 0
std::string ToString(const Shape& shape);  // as Python writes it: "(2, 3)", "(4,)", "()"

// An array in C order and the machine's byte order.
struct Array {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };

  // Its elements are not set; sizes are not negative. Without value: there is not that much memory.
  static std::optional<Array> Make(Dtype dtype, const Shape& shape);

  int64_t count() const { return Count(shape); }
  int64_t bytes() const { return count() * static_cast<int64_t>(DtypeSize(dtype)); }
  // Its elements as what they are, which is the caller's to know; float16's as uint16_t.
  template <class T>
  T* as() const {
    return static_cast<T*>(data.get());
  }
  float* f32() const { return as<float>(); }
  double* f64() const { return as<double>(); }

  Dtype dtype = Dtype::kF32;
  Shape shape;
  std::unique_ptr<void, Free> data;
};

// Told from time to time, and when a signal's handler has run, how many bytes of the data are through; false stops the work,
// which then is an error.
using Progress = std::function<bool(int64_t done, int64_t total)>;

// Reads an array of any Dtype; big-endian and Fortran-order files are converted. Without value: *error says why.
std::optional<Array> Read(const std::string& path, std::string* error, const Progress& progress = nullptr);

// Whether the path is another name of what standard output goes to, as /dev/stdout is: a file, a pipe or a socket.
bool IsStandardOutput(const std::string& path);

// The output files of one command, all or none: Add writes a temporary file beside its target, and Commit renames them, or
// undoes what it did if one cannot be. What Commit has not renamed the destructor removes. A target may be a symbolic link (the
// file it leads to is replaced) and keeps its permissions; a pipe, a device or standard output has nothing to rename and is
// written at once.
class Outputs {
 public:
  Outputs() = default;
  Outputs(const Outputs&) = delete;
  Outputs& operator=(const Outputs&) = delete;
  ~Outputs();

  [[nodiscard]] bool Add(const std::string& path, const Array& array, std::string* error, const Progress& progress = nullptr);
  [[nodiscard]] bool Commit(std::string* error);

 private:
  struct Pending {
    std::string target, temporary, backup;
    enum { kNothing, kBackup, kLost } before = kNothing;  // what there is to undo with
  };
  std::vector<Pending> pending_;
};

}  // namespace npy

#endif  // SIMDNORM_TOOLS_NPY_H_
