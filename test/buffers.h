// Buffers at the edge of memory: the page before and the page after cannot be touched, and every element that nobody was
// asked to write holds a canary. So a read or write outside faults at once, or is seen afterwards. Where MemorySanitizer or
// valgrind looks on, canaries are uninitialized memory to it: a result that depends on one is seen as well.
#ifndef SIMDNORM_TEST_BUFFERS_H_
#define SIMDNORM_TEST_BUFFERS_H_

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#define SIMDNORM_TEST_MSAN
#endif
#endif
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define SIMDNORM_TEST_MEMCHECK
#endif

#include "dtypes.h"

namespace simdnorm_test {

// What MemorySanitizer and valgrind are told; elsewhere nothing happens.
inline void MarkUninitialized([[maybe_unused]] const void* begin, [[maybe_unused]] size_t bytes) {
#if defined(SIMDNORM_TEST_MSAN)
  __msan_poison(begin, bytes);
#elif defined(SIMDNORM_TEST_MEMCHECK)
  (void)VALGRIND_MAKE_MEM_UNDEFINED(begin, bytes);
#endif
}
inline void MarkInitialized([[maybe_unused]] const void* begin, [[maybe_unused]] size_t bytes) {
#if defined(SIMDNORM_TEST_MSAN)
  __msan_unpoison(begin, bytes);
#elif defined(SIMDNORM_TEST_MEMCHECK)
  (void)VALGRIND_MAKE_MEM_DEFINED(begin, bytes);
#endif
}
// Reports what is not initialized.
inline void CheckInitialized([[maybe_unused]] const void* begin, [[maybe_unused]] size_t bytes) {
#if defined(SIMDNORM_TEST_MSAN)
  __msan_check_mem_is_initialized(begin, bytes);
#elif defined(SIMDNORM_TEST_MEMCHECK)
  (void)VALGRIND_CHECK_MEM_IS_DEFINED(begin, bytes);
#endif
}

// Whether somebody listens.
inline bool InitializationIsChecked() {
#if defined(SIMDNORM_TEST_MSAN)
  return true;
#elif defined(SIMDNORM_TEST_MEMCHECK)
  return RUNNING_ON_VALGRIND != 0;
#else
  return false;
#endif
}

// A signaling NaN with a payload: no operation gives it, and statistics that swallow one show it.
constexpr uint32_t kCanary = 0x7FA5CA7E;
constexpr uint16_t kHalfCanary = 0x7FA5;  // a NaN in bf16 and in f16
constexpr uint8_t kByteCanary = 0xA5;

// Which edge of the mapped pages a buffer is next to, and how many elements away from it (units of Q8_0: blocks).
struct Place {
  bool at_end = true;
  int64_t offset = 0;
};

class GuardedBuffer {
 public:
  // `size` elements, all canaries.
  GuardedBuffer(int64_t size, Place place, simdnorm_dtype dtype = SIMDNORM_F32)
      : dtype_(dtype), size_(size), bytes_(static_cast<size_t>(BytesOf(dtype, size))) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t gap = static_cast<size_t>(place.offset * UnitBytes(dtype));
    open_bytes_ = (bytes_ + gap + page - 1) / page * page;
    mapped_bytes_ = open_bytes_ + 2 * page;
    void* const mapped = mmap(nullptr, mapped_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) abort();
    mapped_ = static_cast<char*>(mapped);
    open_ = mapped_ + page;
    Protect(PROT_READ | PROT_WRITE);
    data_ = place.at_end ? open_ + open_bytes_ - gap - bytes_ : open_ + gap;
    FillWithCanaries();
  }
  ~GuardedBuffer() { munmap(mapped_, mapped_bytes_); }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  void* raw() const { return data_; }
  int64_t size() const { return size_; }
  simdnorm_dtype dtype() const { return dtype_; }

  // Of f32.
  float* data() const { return reinterpret_cast<float*>(data_); }
  float& operator[](int64_t i) const { return data()[i]; }

  float Get(int64_t i) const { return GetElement(data_, dtype_, i); }
  void Set(int64_t i, float value) const { SetElement(data_, dtype_, i, value); }
  // Of a buffer of the same size, and of a dtype of the same size.
  void CopyFrom(const GuardedBuffer& other) const { memcpy(data_, other.data_, bytes_); }

  void FillWithCanaries() {
    switch (canary_bytes()) {
      case 4:
        return Fill(kCanary);
      case 2:
        return Fill(kHalfCanary);
      default:
        return Fill(kByteCanary);
    }
  }

  void MakeReadOnly() { Protect(PROT_READ); }

  // Whether all elements but the buffer's own still are canaries.
  bool OutsideIsUntouched() const { return AllCanaries(open_, data_) && AllCanaries(data_ + bytes_, open_ + open_bytes_); }
  bool InsideIsUntouched() const { return AllCanaries(data_, data_ + bytes_); }
  // Whether elements [begin, end) are; of Q8_0 they are whole blocks.
  bool IsUntouched(int64_t begin, int64_t end) const {
    return AllCanaries(data_ + BytesOf(dtype_, begin), data_ + BytesOf(dtype_, end));
  }

 private:
  int64_t canary_bytes() const { return UnitBytes(dtype_) <= 4 ? UnitBytes(dtype_) : 2; }

  template <class Canary>
  void Fill(Canary canary) {
    for (char* p = open_; p != open_ + open_bytes_; p += sizeof(canary)) memcpy(p, &canary, sizeof(canary));
    MarkUninitialized(open_, open_bytes_);
  }

  bool AllCanaries(const char* begin, const char* end) const {
    MarkInitialized(begin, static_cast<size_t>(end - begin));
    switch (canary_bytes()) {
      case 4:
        return All(kCanary, begin, end);
      case 2:
        return All(kHalfCanary, begin, end);
      default:
        return All(kByteCanary, begin, end);
    }
  }

  template <class Canary>
  static bool All(Canary canary, const char* begin, const char* end) {
    for (; begin != end; begin += sizeof(canary)) {
      if (memcmp(begin, &canary, sizeof(canary)) != 0) return false;
    }
    return true;
  }

  void Protect(int protection) {
    if (open_bytes_ != 0 && mprotect(open_, open_bytes_, protection) != 0) abort();
  }

  simdnorm_dtype dtype_;
  int64_t size_;
  size_t bytes_, open_bytes_, mapped_bytes_;
  char* mapped_;
  char* open_;
  char* data_;
};

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_BUFFERS_H_
