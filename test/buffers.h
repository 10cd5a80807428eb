// Buffers at the edge of memory: the page before and the page after cannot be touched, and every element that nobody was
// asked to write holds a canary. So a read or write outside faults at once, or is seen afterwards.
#ifndef SIMDNORM_TEST_BUFFERS_H_
#define SIMDNORM_TEST_BUFFERS_H_

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

namespace simdnorm_test {

// A signaling NaN with a payload: no operation gives it, and statistics that swallow one show it.
constexpr uint32_t kCanary = 0x7FA5CA7E;

inline uint32_t BitsOf(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float FloatOf(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// Which edge of the mapped pages a buffer is next to, and how many elements away from it.
struct Place {
  bool at_end = true;
  int64_t offset = 0;
};

class GuardedBuffer {
 public:
  // `size` elements, all canaries.
  GuardedBuffer(int64_t size, Place place) : size_(size) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t bytes = static_cast<size_t>(size + place.offset) * sizeof(float);
    open_bytes_ = (bytes + page - 1) / page * page;
    mapped_bytes_ = open_bytes_ + 2 * page;
    void* const mapped = mmap(nullptr, mapped_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) abort();
    mapped_ = static_cast<char*>(mapped);
    open_ = mapped_ + page;
    Protect(PROT_READ | PROT_WRITE);
    data_ = reinterpret_cast<float*>(place.at_end ? open_ + open_bytes_ - bytes : open_) + (place.at_end ? 0 : place.offset);
    FillWithCanaries();
  }
  ~GuardedBuffer() { munmap(mapped_, mapped_bytes_); }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  float* data() const { return data_; }
  int64_t size() const { return size_; }
  float& operator[](int64_t i) const { return data_[i]; }

  void FillWithCanaries() {
    for (float* p = first(); p != end(); ++p) memcpy(p, &kCanary, sizeof(kCanary));
  }

  void MakeReadOnly() { Protect(PROT_READ); }

  // Whether all elements but the buffer's own still are canaries.
  bool OutsideIsUntouched() const { return AllCanaries(first(), data_) && AllCanaries(data_ + size_, end()); }
  bool InsideIsUntouched() const { return AllCanaries(data_, data_ + size_); }

  static bool AllCanaries(const float* begin, const float* end) {
    for (; begin != end; ++begin) {
      if (BitsOf(*begin) != kCanary) return false;
    }
    return true;
  }

 private:
  float* first() const { return reinterpret_cast<float*>(open_); }
  float* end() const { return reinterpret_cast<float*>(open_ + open_bytes_); }
  void Protect(int protection) {
    if (open_bytes_ != 0 && mprotect(open_, open_bytes_, protection) != 0) abort();
  }

  int64_t size_;
  size_t open_bytes_, mapped_bytes_;
  char* mapped_;
  char* open_;
  float* data_;
};

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_BUFFERS_H_
