// The .npy reader and writer: the header's grammar, the checks that let a reader trust it, and files that appear whole or not.
#include "npy.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <utility>

namespace npy {
namespace {

constexpr char kMagic[] = "\x93NUMPY";
constexpr size_t kMagicSize = 6;
constexpr bool kLittleEndian = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;

// An array of numbers needs far less; what claims more is damaged or hostile.
constexpr size_t kMaxHeader = 65535;
constexpr size_t kMaxRank = 64;

// Big enough to run at the disk's speed, small enough that progress moves.
constexpr int64_t kSlice = int64_t{8} << 20;

bool Fail(std::string* error, const std::string& path, const std::string& what) {
  *error = path + ": " + what;
  return false;
}

bool FailErrno(std::string* error, const std::string& path, const char* what) {
  return Fail(error, path, std::string(what) + ": " + std::strerror(errno));
}

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }
  bool Close() { return close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_;
};

// Up to `size` bytes, fewer only at the end of the file; -1 on error.
int64_t ReadFully(int fd, void* to, int64_t size) {
  int64_t done = 0;
  while (done < size) {
    const ssize_t got = read(fd, static_cast<char*>(to) + done, static_cast<size_t>(std::min(size - done, kSlice)));
    if (got == 0) break;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    done += got;
  }
  return done;
}

// False: errno says why, and is EINTR if `progress` said so. That is asked after each write, whether or not a signal cut it
// short: a pipe that nobody reads would hold up the next one for ever.
bool WriteFully(int fd, const void* from, int64_t size, const Progress& progress) {
  int64_t done = 0;
  while (done < size) {
    const ssize_t put = write(fd, static_cast<const char*>(from) + done, static_cast<size_t>(std::min(size - done, kSlice)));
    if (put < 0 && errno != EINTR) return false;
    if (put > 0) done += put;
    if (progress && !progress(done, size)) {
      errno = EINTR;
      return false;
    }
  }
  return true;
}

struct Header {
  std::string descr;
  bool fortran_order = false;
  Shape shape;
};

// Reads the header's one Python literal: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }, keys in any order.
class HeaderParser {
 public:
  explicit HeaderParser(const std::string& text) : text_(text) {}

  // False: problem() says what is wrong.
  bool Parse(Header* header) {
    bool has_descr = false, has_order = false, has_shape = false;
    if (!Take('{')) return Problem("no '{'");
    while (!Take('}')) {
      std::string key;
      if (!String(&key)) return false;
      if (!Take(':')) return Problem("no ':' after a key");
      if (key == "descr" && !has_descr) {
        has_descr = true;
        Space();
        if (at_ < text_.size() && text_[at_] == '[') return Problem("it holds records; an array of numbers is needed");
        if (!String(&header->descr)) return false;
      } else if (key == "fortran_order" && !has_order) {
        has_order = true;
        if (!Bool(&header->fortran_order)) return false;
      } else if (key == "shape" && !has_shape) {
        has_shape = true;
        if (!Tuple(&header->shape)) return false;
      } else {
        return Problem("an unknown or repeated key");
      }
      if (!Take(',') && !(at_ < text_.size() && text_[at_] == '}')) return Problem("no ',' or '}' after a value");
    }
    Space();
    if (at_ != text_.size()) return Problem("text after the '}'");
    if (!has_descr || !has_order || !has_shape) return Problem("'descr', 'fortran_order' or 'shape' is missing");
    return true;
  }

  const std::string& problem() const { return problem_; }

 private:
  bool Problem(const std::string& what) {
    if (problem_.empty()) problem_ = "bad header: " + what + " (at byte " + std::to_string(at_) + " of it)";
    return false;
  }

  void Space() {
    while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_]) != nullptr && text_[at_] != '\0') ++at_;
  }

  bool Take(char c) {
    Space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  bool String(std::string* out) {
    const char quote = Take('\'') ? '\'' : Take('"') ? '"' : '\0';
    const size_t end = quote != '\0' ? text_.find(quote, at_) : std::string::npos;
    if (end == std::string::npos) return Problem("no quoted string where one is needed");
    *out = text_.substr(at_, end - at_);
    at_ = end + 1;
    return true;
  }

  bool Bool(bool* out) {
    Space();
    for (const auto& [word, value] : {std::pair("True", true), std::pair("False", false)}) {
      if (text_.compare(at_, std::strlen(word), word) == 0) {
        at_ += std::strlen(word);
        *out = value;
        return true;
      }
    }
    return Problem("'fortran_order' is neither True nor False");
  }

  bool Tuple(Shape* out) {
    if (!Take('(')) return Problem("'shape' is no tuple");
    while (!Take(')')) {
      if (Take('-')) return Problem("a negative size in 'shape'");
      int64_t size = 0;
      const size_t begin = at_;
      for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
        if (__builtin_mul_overflow(size, 10, &size) || __builtin_add_overflow(size, text_[at_] - '0', &size)) {
          return Problem("a size in 'shape' is beyond 64 bits");
        }
      }
      if (at_ == begin) return Problem("'shape' holds something other than sizes");
      if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // Python 2 wrote its long integers so
      if (out->size() == kMaxRank) return Problem("more than " + std::to_string(kMaxRank) + " dimensions");
      out->push_back(size);
      const bool comma = Take(',');
      if (!comma && (at_ >= text_.size() || text_[at_] != ')')) return Problem("no ',' or ')' after a size");
      if (!comma && out->size() == 1) return Problem("'shape' is a number in brackets, not a tuple");
    }
    return true;
  }

  const std::string& text_;
  size_t at_ = 0;
  std::string problem_;
};

// Reads magic, version and header; the file then stands at the data. *size is how long all that is.
bool ReadHeader(int fd, const std::string& path, Header* header, int64_t* size, std::string* error) {
  unsigned char start[12];
  const int64_t got = ReadFully(fd, start, kMagicSize + 2);
  if (got < 0) return FailErrno(error, path, "cannot be read");
  if (got < static_cast<int64_t>(kMagicSize) || std::memcmp(start, kMagic, kMagicSize) != 0) {
    return Fail(error, path, got == 0 ? "is empty" : "is no .npy file: it does not begin with \\x93NUMPY");
  }
  const int major = got == kMagicSize + 2 ? start[6] : 0, minor = got == kMagicSize + 2 ? start[7] : 0;
  if (got == kMagicSize + 2 && (major < 1 || major > 3 || minor != 0)) {
    return Fail(error, path,
                "is of .npy version " + std::to_string(major) + "." + std::to_string(minor) + "; 1.0 to 3.0 are known");
  }
  const int64_t length_bytes = major == 1 ? 2 : 4;
  const char kTruncated[] = "is truncated: it ends inside its header";
  if (got < static_cast<int64_t>(kMagicSize) + 2 || ReadFully(fd, start + 8, length_bytes) != length_bytes) {
    return Fail(error, path, kTruncated);
  }
  size_t length = 0;
  for (int64_t i = length_bytes; i-- > 0;) length = length << 8 | start[8 + i];
  if (length > kMaxHeader) {
    return Fail(error, path, "has a header of " + std::to_string(length) + " bytes; at most 65535 make sense");
  }
  std::string text(length, '\0');
  if (ReadFully(fd, text.data(), static_cast<int64_t>(length)) != static_cast<int64_t>(length)) {
    return Fail(error, path, kTruncated);
  }
  HeaderParser parser(text);
  if (!parser.Parse(header)) return Fail(error, path, parser.problem());
  *size = static_cast<int64_t>(kMagicSize) + 2 + length_bytes + static_cast<int64_t>(length);
  return true;
}

// The one list of what can be read and written; the first row of a dtype is how it is written.
struct DtypeRow {
  Dtype dtype;
  const char* descr;  // without the byte order
  size_t size;
  const char* name;
};
constexpr DtypeRow kDtypes[] = {
    {Dtype::kF16, "f2", 2, "float16"}, {Dtype::kF32, "f4", 4, "float32"}, {Dtype::kF64, "f8", 8, "float64"},
    {Dtype::kI8, "i1", 1, "int8"},     {Dtype::kU8, "u1", 1, "uint8"},    {Dtype::kU16, "u2", 2, "uint16"},
    {Dtype::kU16, "V2", 2, "uint16"},  {Dtype::kI32, "i4", 4, "int32"},   {Dtype::kI64, "i8", 8, "int64"},
    {Dtype::kBool, "b1", 1, "bool"},
};

const DtypeRow& Row(Dtype dtype) {
  return *std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const DtypeRow& row) { return row.dtype == dtype; });
}

bool ParseDescr(const std::string& descr, Dtype* dtype, bool* swap) {
  const bool has_order = !descr.empty() && std::strchr("<>=|", descr[0]) != nullptr;
  const std::string type = has_order ? descr.substr(1) : descr;
  *swap = has_order && descr[0] == (kLittleEndian ? '>' : '<');
  for (const DtypeRow& row : kDtypes) {
    if (type != row.descr) continue;
    *dtype = row.dtype;
    return true;
  }
  return false;
}

std::string MakeDescr(Dtype dtype) {
  const DtypeRow& row = Row(dtype);
  return (row.size == 1 ? '|' : kLittleEndian ? '<' : '>') + std::string(row.descr);
}

// "float16, float32 and so on"
std::string KnownDtypes() {
  std::string out;
  for (const DtypeRow& row : kDtypes) {
    if (&row == &Row(row.dtype)) out += (out.empty() ? "" : ", ") + std::string(row.name);
  }
  return out;
}

// A file's own text in a message: short, and no control characters for the terminal.
std::string Quote(const std::string& text) {
  std::string out = "'";
  for (const char c : text.substr(0, 40)) out += c >= ' ' && c <= '~' ? c : '?';
  return out + (text.size() > 40 ? "...'" : "'");
}

// False: the bytes do not fit 63 bits. Sizes of 0 are left out of the product, so that any part of it fits too.
bool DataBytes(const Shape& shape, Dtype dtype, int64_t* bytes) {
  int64_t product = static_cast<int64_t>(DtypeSize(dtype));
  for (const int64_t size : shape) {
    if (size != 0 && __builtin_mul_overflow(product, size, &product)) return false;
  }
  *bytes = std::count(shape.begin(), shape.end(), 0) > 0 ? 0 : product;
  return true;
}

// Memory for at least one byte, whole cache lines; what is moved over from `old` keeps its first `keep` bytes.
bool Reserve(std::unique_ptr<void, Array::Free>* data, int64_t keep, int64_t bytes) {
  constexpr size_t kAlign = 64;
  const size_t rounded = (static_cast<size_t>(std::max<int64_t>(bytes, 1)) + kAlign - 1) / kAlign * kAlign;
  std::unique_ptr<void, Array::Free> grown(std::aligned_alloc(kAlign, rounded));
  if (grown == nullptr) return false;
  if (keep > 0) std::memcpy(grown.get(), data->get(), static_cast<size_t>(keep));
  *data = std::move(grown);
  return true;
}

// Reads the data. A pipe does not say how long it is: there memory grows with what has come, not with what was claimed.
bool ReadData(int fd, const std::string& path, bool trust_size, int64_t bytes, Array* array, std::string* error,
              const Progress& progress) {
  int64_t capacity = trust_size ? bytes : std::min(bytes, kSlice), done = 0;
  if (!Reserve(&array->data, 0, capacity)) return Fail(error, path, "needs " + std::to_string(bytes) + " bytes of memory");
  while (done < bytes) {
    if (done == capacity) {
      capacity = capacity < bytes / 2 ? 2 * capacity : bytes;
      if (!Reserve(&array->data, done, capacity))
        return Fail(error, path, "needs " + std::to_string(bytes) + " bytes of memory");
    }
    const int64_t want = std::min(capacity - done, kSlice);
    const int64_t got = ReadFully(fd, static_cast<char*>(array->data.get()) + done, want);
    if (got < 0) return FailErrno(error, path, "cannot be read");
    done += got;
    if (got < want) {
      return Fail(error, path,
                  "is truncated: shape " + ToString(array->shape) + " takes " + std::to_string(bytes) +
                      " bytes of data, the file has " + std::to_string(done));
    }
    if (progress && !progress(done, bytes)) return Fail(error, path, "reading was interrupted");
  }
  char more;
  if (ReadFully(fd, &more, 1) == 1) {
    return Fail(
        error, path,
        "goes on after the " + std::to_string(bytes) + " bytes of data that its shape " + ToString(array->shape) + " takes");
  }
  return true;
}

template <class Word>
void SwapBytes(Word* data, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if constexpr (sizeof(Word) == 2) data[i] = __builtin_bswap16(data[i]);
    if constexpr (sizeof(Word) == 4) data[i] = __builtin_bswap32(data[i]);
    if constexpr (sizeof(Word) == 8) data[i] = __builtin_bswap64(data[i]);
  }
}

// Walks `to` in order while `index` counts like an odometer, and fetches each element from where Fortran order has it.
template <class Word>
void FortranToC(const Word* from, Word* to, const Shape& shape) {
  const size_t rank = shape.size();
  std::vector<int64_t> stride(rank, 1), index(rank, 0);
  for (size_t i = 1; i < rank; ++i) stride[i] = stride[i - 1] * shape[i - 1];
  const int64_t count = Count(shape), last = shape[rank - 1], last_stride = stride[rank - 1];
  int64_t offset = 0;
  for (int64_t done = 0; done < count; done += last) {
    for (int64_t i = 0; i < last; ++i) to[done + i] = from[offset + i * last_stride];
    for (size_t axis = rank - 1; axis-- > 0;) {
      offset += stride[axis];
      if (++index[axis] < shape[axis]) break;
      offset -= stride[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

template <class Word>
bool WordsToNative(Array* array, bool swap, bool fortran_order) {
  if (swap) SwapBytes(static_cast<Word*>(array->data.get()), array->count());
  const auto longer_than_one = [](int64_t size) { return size > 1; };
  if (!fortran_order || std::count_if(array->shape.begin(), array->shape.end(), longer_than_one) < 2 || array->count() == 0)
    return true;
  std::unique_ptr<void, Array::Free> converted;
  if (!Reserve(&converted, 0, array->bytes())) return false;
  FortranToC(static_cast<const Word*>(array->data.get()), static_cast<Word*>(converted.get()), array->shape);
  array->data = std::move(converted);
  return true;
}

bool ToNative(Array* array, bool swap, bool fortran_order) {
  switch (DtypeSize(array->dtype)) {
    case 1:
      return WordsToNative<uint8_t>(array, swap, fortran_order);
    case 2:
      return WordsToNative<uint16_t>(array, swap, fortran_order);
    case 4:
      return WordsToNative<uint32_t>(array, swap, fortran_order);
    default:
      return WordsToNative<uint64_t>(array, swap, fortran_order);
  }
}

std::string MakeHeader(const Array& array) {
  std::string text =
      "{'descr': '" + MakeDescr(array.dtype) + "', 'fortran_order': False, 'shape': " + ToString(array.shape) + ", }";
  const size_t before = kMagicSize + 4;
  while ((before + text.size() + 1) % 64 != 0) text += ' ';  // the data then begin on a cache line, for who maps the file
  text += '\n';
  std::string header(kMagic, kMagicSize);
  header += {'\1', '\0', static_cast<char>(text.size() & 0xff), static_cast<char>(text.size() >> 8)};
  return header + text;
}

bool WriteArray(int fd, const std::string& path, const Array& array, std::string* error, const Progress& progress) {
  const std::string header = MakeHeader(array);
  const auto begun = [&](int64_t, int64_t) { return !progress || progress(0, array.bytes()); };
  if (WriteFully(fd, header.data(), static_cast<int64_t>(header.size()), begun) &&
      WriteFully(fd, array.data.get(), array.bytes(), progress)) {
    return true;
  }
  return errno == EINTR ? Fail(error, path, "writing was interrupted") : FailErrno(error, path, "cannot be written");
}

std::string Folder(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "./" : path.substr(0, slash + 1);
}

// Where a link leads in the end, which need not exist. Its folder without links, so that equal targets have equal names.
std::string Resolve(std::string path) {
  char buffer[PATH_MAX];
  for (int links = 0; links < 40; ++links) {
    const ssize_t length = readlink(path.c_str(), buffer, sizeof(buffer));
    if (length < 0 || length == sizeof(buffer)) break;
    const std::string to(buffer, static_cast<size_t>(length));
    path = to[0] == '/' ? to : Folder(path) + to;
  }
  if (realpath(Folder(path).c_str(), buffer) == nullptr) return path;
  return std::string(buffer) + "/" + path.substr(path.rfind('/') + 1);
}

}  // namespace

size_t DtypeSize(Dtype dtype) { return Row(dtype).size; }

const char* DtypeName(Dtype dtype) { return Row(dtype).name; }

int64_t Count(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size == 0) return 0;
    count *= size;
  }
  return count;
}

std::string ToString(const Shape& shape) {
  std::string out = "(";
  for (size_t i = 0; i < shape.size(); ++i) out += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return out + (shape.size() == 1 ? ",)" : ")");
}

std::optional<Array> Array::Make(Dtype dtype, const Shape& shape) {
  Array array;
  array.dtype = dtype;
  array.shape = shape;
  int64_t bytes;
  if (!DataBytes(shape, dtype, &bytes) || !Reserve(&array.data, 0, bytes)) return std::nullopt;
  return array;
}

std::optional<Array> Read(const std::string& path, std::string* error, const Progress& progress) {
  File file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status;
  if (file.fd() < 0 || fstat(file.fd(), &status) != 0) {
    FailErrno(error, path, "cannot be opened");
    return std::nullopt;
  }
  if (S_ISDIR(status.st_mode)) {
    Fail(error, path, "is a folder");
    return std::nullopt;
  }
  Header header;
  Array array;
  int64_t header_size = 0, bytes = 0;
  bool swap = false;
  if (!ReadHeader(file.fd(), path, &header, &header_size, error)) return std::nullopt;
  if (!ParseDescr(header.descr, &array.dtype, &swap)) {
    Fail(error, path, "has dtype " + Quote(header.descr) + ", which is none of " + KnownDtypes());
    return std::nullopt;
  }
  array.shape = header.shape;
  if (!DataBytes(array.shape, array.dtype, &bytes)) {
    Fail(error, path, "has shape " + ToString(array.shape) + ", which is more bytes than 64 bits can count");
    return std::nullopt;
  }
  const bool regular = S_ISREG(status.st_mode);
  const int64_t left = std::max<int64_t>(status.st_size - header_size, 0);
  if (regular && left < bytes) {
    Fail(error, path,
         "is truncated: shape " + ToString(array.shape) + " takes " + std::to_string(bytes) + " bytes of data, the file has " +
             std::to_string(left));
    return std::nullopt;
  }
  if (!ReadData(file.fd(), path, regular, bytes, &array, error, progress)) return std::nullopt;
  if (!ToNative(&array, swap, header.fortran_order)) {
    Fail(error, path, "is in Fortran order, and there is no memory to convert " + std::to_string(bytes) + " bytes");
    return std::nullopt;
  }
  return array;
}

bool IsStandardOutput(const std::string& path) {
  struct stat file, out;
  return stat(path.c_str(), &file) == 0 && fstat(STDOUT_FILENO, &out) == 0 && file.st_dev == out.st_dev &&
         file.st_ino == out.st_ino && !S_ISCHR(file.st_mode);  // terminals and /dev/null have room for many
}

Outputs::~Outputs() {
  for (const Pending& output : pending_) unlink(output.temporary.c_str());
}

bool Outputs::Add(const std::string& path, const Array& array, std::string* error, const Progress& progress) {
  struct stat status;
  const bool exists = stat(path.c_str(), &status) == 0;
  if (!exists && errno != ENOENT) return FailErrno(error, path, "cannot be created");
  if (exists && S_ISDIR(status.st_mode)) return Fail(error, path, "is a folder");
  const auto write_and_close = [&](File* file) {
    if (!WriteArray(file->fd(), path, array, error, progress)) return false;
    return file->Close() || FailErrno(error, path, "cannot be written");
  };
  // Standard output as it stands: it may be a file without a name, or one that others write to before and after.
  const bool is_stdout = IsStandardOutput(path);
  if (is_stdout || (exists && !S_ISREG(status.st_mode))) {
    File stream(is_stdout ? dup(STDOUT_FILENO) : open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (stream.fd() < 0) return FailErrno(error, path, "cannot be opened");
    return write_and_close(&stream);
  }
  // A rename asks the folder alone; a file that is closed to writing should stay as it is.
  if (exists && access(path.c_str(), W_OK) != 0) return FailErrno(error, path, "cannot be written");
  const std::string target = Resolve(path);
  for (const Pending& other : pending_) {
    if (other.target == target) return Fail(error, path, "is named for two outputs");
  }
  const std::string folder = Folder(target);
  if (target.size() == folder.size()) return Fail(error, path.empty() ? "an empty file name" : path, "names no file");
  for (int attempt = 0;; ++attempt) {
    const std::string name = folder + ".simdnorm-" + std::to_string(getpid()) + "-" + std::to_string(attempt);
    const std::string temporary = name + ".tmp", backup = name + ".old";
    File file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, exists ? 0600 : 0666));
    if (file.fd() < 0 && errno == EEXIST && attempt < 1000) continue;
    if (file.fd() < 0) return FailErrno(error, path, "cannot be created");
    pending_.push_back({target, temporary, backup});
    // Set-user-ID and its like are left out: the new file may have another owner.
    if (exists && fchmod(file.fd(), status.st_mode & 0777) != 0)
      return FailErrno(error, path, "cannot be given its permissions");
    return write_and_close(&file);
  }
}

bool Outputs::Commit(std::string* error) {
  const auto last = pending_.end();
  auto failed = pending_.begin();
  for (; failed != last; ++failed) {
    // A second name for what is replaced, while there is something after it that may fail.
    if (failed + 1 != last) {
      failed->before = link(failed->target.c_str(), failed->backup.c_str()) == 0 ? Pending::kBackup
                       : errno == ENOENT                                         ? Pending::kNothing
                                                                                 : Pending::kLost;
    }
    if (std::rename(failed->temporary.c_str(), failed->target.c_str()) != 0) break;
  }
  const bool ok = failed == last || FailErrno(error, failed->target, "cannot be replaced");
  for (auto output = pending_.begin(); output != failed && !ok; ++output) {
    if (output->before == Pending::kBackup) std::rename(output->backup.c_str(), output->target.c_str());
    if (output->before == Pending::kNothing) unlink(output->target.c_str());
  }
  for (const Pending& output : pending_) {
    if (output.before == Pending::kBackup) unlink(output.backup.c_str());
  }
  if (ok) pending_.clear();
  return ok;
}

}  // namespace npy
