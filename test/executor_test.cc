// Who does the work: large calls are split, small ones are not, caps hold, calls from many threads and from within parallel
// regions are right, nothing is allocated, and the stack suffices.
#include <dirent.h>
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <thread>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "channel_problem.h"
#include "problem.h"

// Counting allocations takes glibc's own names for the functions that are replaced here, and no sanitizer that does the same.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SIMDNORM_TEST_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SIMDNORM_TEST_SANITIZED
#endif
#if defined(__GLIBC__) && !defined(SIMDNORM_TEST_SANITIZED)
#define SIMDNORM_TEST_COUNTS_ALLOCATIONS

namespace {
std::atomic<int64_t> num_allocations;
}

extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* memory, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  ++num_allocations;
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  ++num_allocations;
  return __libc_calloc(count, size);
}
void* realloc(void* memory, size_t size) {
  ++num_allocations;
  return __libc_realloc(memory, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  ++num_allocations;
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** memory, size_t alignment, size_t size) {
  ++num_allocations;
  *memory = __libc_memalign(alignment, size);
  return *memory != nullptr ? 0 : 12;
}
}
#endif

namespace simdnorm_test {
namespace {

// Calls that are worth several threads, each by another unit of work.
struct LargeCase {
  std::string unit;
  Problem problem;
};

std::vector<LargeCase> LargeCases() {
  const auto rows = [](Op op, int64_t num_rows, int64_t cols) {
    Problem p;
    p.op = op, p.rows = num_rows, p.cols = cols;
    return p;
  };
  const auto channels = [](Op op, simdnorm_layout layout, int64_t batch, int64_t num_channels, int64_t spatial) {
    Problem p;
    p.op = op, p.layout = layout, p.batch = batch, p.channels = num_channels, p.spatial = spatial;
    return p;
  };
  constexpr Op kInference = Op::kBatchNormInference, kTraining = Op::kBatchNormTraining;
  const int64_t num_rows = SmallEffort() ? 40 : 256, line = SmallEffort() ? 40000 : 1 << 20;
  std::vector<LargeCase> cases = {
      {"rows, layer norm", rows(Op::kLayerNorm, num_rows, 1000)},
      {"chunks of one row, layer norm", rows(Op::kLayerNorm, 1, line)},
      {"chunks of one channel, NCHW", channels(kTraining, SIMDNORM_NCHW, 1, 1, line)},
      {"chunks of one channel, NHWC", channels(kTraining, SIMDNORM_NHWC, 1, 1, line)},
      {"batch x channels, NCHW inference", channels(kInference, SIMDNORM_NCHW, 8, 4, num_rows * 32)},
      {"chunks of one plane, NCHW inference", channels(kInference, SIMDNORM_NCHW, 1, 1, line)},
      {"features of one sample, inference", channels(kInference, SIMDNORM_NCHW, 1, line, 1)},
      {"rows, RMS norm", rows(Op::kRMSNorm, num_rows, 1000)},
      {"chunks of one row, RMS norm", rows(Op::kRMSNorm, 1, line + 5)},
      {"channels, NCHW", channels(kTraining, SIMDNORM_NCHW, 2, 64, num_rows * 8)},
      {"channels, NHWC", channels(kTraining, SIMDNORM_NHWC, 2, 640, num_rows)},
      {"planes of one channel, NCHW", channels(kTraining, SIMDNORM_NCHW, num_rows, 1, 1000)},
      {"rows, NHWC inference", channels(kInference, SIMDNORM_NHWC, 8, 4, num_rows * 32)},
      {"samples, [batch, features] inference", channels(kInference, SIMDNORM_NCHW, num_rows * 4, 256, 1)},
      {"parts of samples, [batch, features] inference", channels(kInference, SIMDNORM_NCHW, 3, 20011, 1)},
      {"channels of tiles, then rows", channels(kTraining, SIMDNORM_NHWC, 2, 1100, num_rows)},
  };
  if (SmallEffort()) cases.resize(5);
  cases.push_back({"chunks of several planes, NCHW", channels(kTraining, SIMDNORM_NCHW, 1503, 2, 49)});
  // More than caches hold; and in three passes, as moments of so many sections are not kept together.
  for (const Data data : {Data::kNormal, Data::kNonFinite, Data::kOutlierEnds}) {
    cases.push_back({"sections of rows, NHWC", channels(kTraining, SIMDNORM_NHWC, num_rows, 72, 153)});
    cases.back().problem.data = data;
  }
  const auto fused = [](Problem p, simdnorm_dtype y_dtype) {
    p.x_dtype = p.residual_dtype = p.h_dtype = SIMDNORM_BF16;
    p.y_dtype = y_dtype;
    p.residual = p.h = true;
    p.activation = SIMDNORM_GELU;
    return p;
  };
  Problem positions = rows(Op::kLayerNorm, 4, 64);
  positions.inner = num_rows * 4;
  Problem heads = rows(Op::kRMSNorm, num_rows, 128);
  heads.inner = 8;
  heads.x_view = heads.y_view = View::kHeads;
  cases.push_back({"rows, fused", fused(rows(Op::kRMSNorm, num_rows, 1000), SIMDNORM_BF16)});
  cases.push_back({"chunks of one row, fused", fused(rows(Op::kLayerNorm, 1, std::min<int64_t>(line, 1 << 18)), SIMDNORM_F16)});
  cases.push_back({"rows, quantized", fused(rows(Op::kLayerNorm, num_rows, 1000), SIMDNORM_I8)});
  cases.push_back({"inner positions, channels first", positions});
  cases.push_back({"heads", heads});
  return cases;
}

// Runs on a pool and checks the bits against those of the calling thread alone.
void CheckAgainstSerial(const LargeCase& large, const simdnorm_options& options) {
  Tensors tensors(large.problem);
  tensors.Seal();
  const Outputs expected = Run(tensors, AllExecutors()[0].Options(options.target));
  CHECK_MESSAGE(SameBits(Run(tensors, options), expected), large.unit);
}

TEST_CASE("a large call is split, whatever its shape offers") {
  for (const LargeCase& large : LargeCases()) {
    CountingPool pool;
    CheckAgainstSerial(large, ExecutorCase{"", CountingPool::ParallelFor, &pool, 4}.Options(nullptr));
    CHECK_MESSAGE(pool.calls >= 1, large.unit);
    CHECK_MESSAGE(pool.most_tasks >= 2, large.unit);
    CHECK_MESSAGE(pool.most_tasks <= 4, large.unit);
  }
}

TEST_CASE("a small call is not split") {
  for (Op op : kAllOps) {
    for (const int64_t items : {1, 4}) {
      CountingPool pool;
      Problem p;
      p.op = op;
      p.rows = p.channels = items;
      p.cols = p.spatial = 768;
      Run(p, ExecutorCase{"", CountingPool::ParallelFor, &pool, 8}.Options(nullptr));
      CHECK_MESSAGE(pool.calls == 0, Describe(p, nullptr, "counting pool"));
    }
  }
}

TEST_CASE("max_threads caps the tasks that run at a time") {
  for (const LargeCase& large : LargeCases()) {
    for (const int32_t max_threads : {1, 2, 3, 7}) {
      if (SmallEffort() && max_threads != 2) continue;
      EagerPool pool;
      CheckAgainstSerial(large, ExecutorCase{"", EagerPool::ParallelFor, &pool, max_threads}.Options(nullptr));
      CHECK_MESSAGE(pool.peak <= max_threads, large.unit);
      CHECK_MESSAGE((pool.peak == 0) == (max_threads == 1), large.unit);
      CHECK(pool.in_flight == 0);
    }
  }
}

TEST_CASE("tasks run right on threads with another floating-point environment, and leave it alone") {
  ForEachTarget([](const char* target) {
    for (LargeCase large : LargeCases()) {
      bool kept = true;
      large.problem.data = Data::kSubnormal;
      CheckAgainstSerial(large, ExecutorCase{"", UnusualPool, &kept, 3}.Options(target));
      CHECK_MESSAGE(kept, large.unit);
      if (SmallEffort()) break;
    }
  });
}

TEST_CASE("calls from eight threads at once") {
  ForEachTarget([](const char* target) {
    std::vector<LargeCase> cases = LargeCases();
    std::vector<Outputs> expected;
    for (const LargeCase& large : cases) expected.push_back(RunSerial(large.problem, target));
    std::atomic<int> wrong(0);
    std::vector<std::thread> threads;
    for (size_t t = 0; t < 8; ++t) {
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < (SmallEffort() ? 1 : 4); ++i) {
          const size_t c = (t + i) % cases.size();
          // All but the last, which counts in one place for all of them.
          const ExecutorCase& executor = AllExecutors()[(t / 2 + i) % (AllExecutors().size() - 1)];
          if (!SameBits(Run(cases[c].problem, executor.Options(target)), expected[c])) ++wrong;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK_MESSAGE(wrong == 0, std::string(target));
  });
}

TEST_CASE("the default number of threads is at least one") {
  CHECK(simdnorm_default_threads() >= 1);
#ifndef _OPENMP
  CHECK(simdnorm_default_threads() == 1);
#endif
}

#ifdef _OPENMP
#ifdef __linux__
int64_t NumThreadsOfProcess() {
  int64_t count = 0;
  DIR* const tasks = opendir("/proc/self/task");
  REQUIRE(tasks != nullptr);
  while (const dirent* entry = readdir(tasks)) count += entry->d_name[0] != '.';
  closedir(tasks);
  return count;
}

TEST_CASE("the default is OpenMP's threads, as many as it says and not more than max_threads") {
  const int threads_before = omp_get_max_threads();
  const int64_t process_before = NumThreadsOfProcess();
  // OpenMP keeps its threads for the next region: more of them than ever before show in the process.
  omp_set_num_threads(static_cast<int>(process_before) + 5);
  CHECK(simdnorm_default_threads() == process_before + 5);
  Problem p;
  p.rows = 64 * (process_before + 5), p.cols = 512;
  simdnorm_options options = AllExecutors()[1].Options(nullptr);
  options.max_threads = 2;
  Run(p, options);
  CHECK(NumThreadsOfProcess() <= process_before + 1);
  options.max_threads = 0;
  Run(p, options);
  CHECK(NumThreadsOfProcess() >= process_before + 4);
  omp_set_num_threads(threads_before);
}
#endif

TEST_CASE("inside a parallel region the default is the calling thread") {
  const int levels_before = omp_get_max_active_levels();
  omp_set_max_active_levels(4);  // a nested region would get threads of its own
  const LargeCase large = LargeCases()[0];
  const Outputs expected = RunSerial(large.problem, nullptr);
  std::atomic<int> wrong(0), not_one(0), threads(0);
#pragma omp parallel num_threads(3)
  {
    ++threads;
    if (simdnorm_default_threads() != 1) ++not_one;
    if (!SameBits(Run(large.problem, AllExecutors()[1].Options(nullptr)), expected)) ++wrong;
  }
  CHECK(threads == 3);
  CHECK(not_one == 0);
  CHECK(wrong == 0);
  omp_set_max_active_levels(levels_before);
}
#endif

#ifdef SIMDNORM_TEST_COUNTS_ALLOCATIONS
TEST_CASE("a call allocates nothing") {
  delete new int;  // the counter counts
  CHECK(num_allocations > 0);
  CountingPool pool;
  const ExecutorCase executors[] = {{"serial", nullptr, nullptr, 1}, {"pool", CountingPool::ParallelFor, &pool, 4}};
  ForEachTarget([&](const char* target) {
    for (const LargeCase& large : LargeCases()) {
      for (const Data data : {Data::kNormal, Data::kHuge}) {
        for (const ExecutorCase& executor : executors) {
          Problem p = large.problem;
          p.data = data;
          Tensors tensors(p);
          const simdnorm_options options = executor.Options(target);
          const int64_t before = num_allocations;
          const simdnorm_status status = Call(tensors, &options);
          CHECK_MESSAGE(num_allocations == before, Describe(p, target, executor.name));
          CHECK(status == SIMDNORM_OK);
        }
      }
      if (SmallEffort()) break;
    }
  });
}
#endif

#ifndef SIMDNORM_TEST_SANITIZED
// How much of a thread's stack a call touches, by what it leaves of a pattern.
class StackMeter {
 public:
  explicit StackMeter(const std::function<simdnorm_status()>& call) : call_(call) {}

  int64_t Bytes() {
    constexpr size_t kSize = 1 << 20;
    constexpr unsigned char kPattern = 0xA5;
    void* const stack = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    REQUIRE(stack != MAP_FAILED);
    memset(stack, kPattern, kSize);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    REQUIRE(pthread_attr_setstack(&attributes, stack, kSize) == 0);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, &attributes, Start, this) == 0);
    pthread_join(thread, nullptr);
    pthread_attr_destroy(&attributes);
    CHECK(status_ == SIMDNORM_OK);  // refused, it would need little
    const unsigned char* lowest = static_cast<const unsigned char*>(stack);
    while (*lowest == kPattern) ++lowest;
    const int64_t bytes = static_cast<const unsigned char*>(at_call_) - lowest;
    munmap(stack, kSize);
    return bytes;
  }

 private:
  static void* Start(void* self) {
    static_cast<StackMeter*>(self)->CallOnce();
    return nullptr;
  }
  void CallOnce() {
    at_call_ = __builtin_frame_address(0);
    status_ = call_();
  }

  const std::function<simdnorm_status()> call_;
  const void* at_call_ = nullptr;
  simdnorm_status status_ = SIMDNORM_OK;
};

TEST_CASE("a call needs no more stack than SIMDNORM_STACK_BYTES") {
  ForEachTarget([](const char* target) {
    CountingPool pool;
    for (const LargeCase& large : LargeCases()) {
      for (const Data data : {Data::kNormal, Data::kHuge}) {
        for (const int32_t max_threads : {1, 4}) {
          Problem p = large.problem;
          p.data = data;
          Tensors tensors(p);
          const simdnorm_options options = ExecutorCase{"", CountingPool::ParallelFor, &pool, max_threads}.Options(target);
          const int64_t bytes = StackMeter([&] { return Call(tensors, &options); }).Bytes();
          CHECK_MESSAGE(bytes <= SIMDNORM_STACK_BYTES, Describe(p, target));
          CHECK(bytes > 0);
        }
      }
      if (SmallEffort()) break;
    }
    // Groups that are less than a tile, a tile, and more; on threads that share their rows, too.
    for (const ChannelShape& shape : {ChannelShape{1, 64, 16, 2}, {1, 512, 300, 1}, {2, 1536, 20, 2}}) {
      for (const simdnorm_layout layout : LayoutsOf(ChannelOp::kGroup)) {
        for (const Data data : {Data::kNormal, Data::kHuge}) {
          for (const int32_t max_threads : {1, 4}) {
            const ChannelTensors tensors(MakeProblem(ChannelOp::kGroup, shape, layout, data));
            const simdnorm_options options = ExecutorCase{"", CountingPool::ParallelFor, &pool, max_threads}.Options(target);
            const int64_t bytes = StackMeter([&] { return tensors.Call(options); }).Bytes();
            CHECK_MESSAGE(bytes <= SIMDNORM_STACK_BYTES, Describe(tensors.p, target, "counting pool"));
          }
        }
      }
    }
  });
}
#endif

}  // namespace
}  // namespace simdnorm_test
