// Ways to run a call: the library's own, and the caller's threads as unkindly as their contract allows.
#ifndef SIMDNORM_TEST_EXECUTORS_H_
#define SIMDNORM_TEST_EXECUTORS_H_

#include <stdint.h>

#if defined(__SSE2__)
#include <xmmintrin.h>
#elif !defined(__aarch64__)
#include <fenv.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "simdnorm/simdnorm.h"

namespace simdnorm_test {

// Late, last task first, never on the calling thread. `pool` is not used.
inline void LatePool(void* /*pool*/, int64_t num_tasks, simdnorm_task task, void* task_context) {
  std::atomic<int64_t> remaining(num_tasks);
  const auto work = [&] {
    for (int64_t i; (i = --remaining) >= 0;) {
      if (i % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(20));
      task(task_context, i);
    }
  };
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < std::min<int64_t>(num_tasks, 3); ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
}

// Counts what the library asks for; allocates nothing. Tasks run on the calling thread.
struct CountingPool {
  int64_t calls = 0, tasks = 0, most_tasks = 0;

  static void ParallelFor(void* pool, int64_t num_tasks, simdnorm_task task, void* task_context) {
    CountingPool& self = *static_cast<CountingPool*>(pool);
    ++self.calls;
    self.tasks += num_tasks;
    self.most_tasks = std::max(self.most_tasks, num_tasks);
    for (int64_t i = 0; i < num_tasks; ++i) task(task_context, i);
  }
};

// A thread for every task, all at the same time; counts how many there were at most.
struct EagerPool {
  std::atomic<int64_t> in_flight{0}, peak{0};

  static void ParallelFor(void* pool, int64_t num_tasks, simdnorm_task task, void* task_context) {
    EagerPool& self = *static_cast<EagerPool*>(pool);
    std::atomic<int64_t> arrived(0);
    std::vector<std::thread> threads;
    for (int64_t i = 0; i < num_tasks; ++i) {
      threads.emplace_back([&, i] {
        const int64_t now = ++self.in_flight;
        for (int64_t most = self.peak; most < now && !self.peak.compare_exchange_weak(most, now);) {
        }
        for (++arrived; arrived < num_tasks;) std::this_thread::yield();
        task(task_context, i);
        --self.in_flight;
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
};

// All tasks on one other thread, last task first. `pool` is not used.
inline void OneThreadPool(void* /*pool*/, int64_t num_tasks, simdnorm_task task, void* task_context) {
  std::thread([&] {
    for (int64_t i = num_tasks - 1; i >= 0; --i) task(task_context, i);
  }).join();
}

// A pool as engines have it: threads that live on, and one queue for all callers, newest task first. Whoever waits for tasks
// helps with any that are queued, so that a call's tasks run on threads that are in the middle of other calls.
class SharedPool {
 public:
  explicit SharedPool(int num_threads) {
    for (int i = 0; i < num_threads; ++i) {
      threads_.emplace_back([this] {
        std::unique_lock<std::mutex> lock(mutex_);
        RunQueued(lock, stopping_);
      });
    }
  }
  ~SharedPool() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  static void ParallelFor(void* pool, int64_t num_tasks, simdnorm_task task, void* task_context) {
    SharedPool& self = *static_cast<SharedPool*>(pool);
    Call call = {task, task_context, num_tasks, false};
    std::unique_lock<std::mutex> lock(self.mutex_);
    for (int64_t i = 0; i < num_tasks; ++i) self.queue_.push_back({&call, i});
    self.changed_.notify_all();
    self.RunQueued(lock, call.done);
  }

 private:
  struct Call {
    simdnorm_task task;
    void* task_context;
    int64_t remaining;
    bool done;
  };
  struct Queued {
    Call* call;
    int64_t index;
  };

  // Until `done`, which like all else here is only looked at and changed under the lock.
  void RunQueued(std::unique_lock<std::mutex>& lock, const bool& done) {
    while (!done) {
      if (queue_.empty()) {
        changed_.wait(lock);
        continue;
      }
      const Queued next = queue_.back();
      queue_.pop_back();
      lock.unlock();
      next.call->task(next.call->task_context, next.index);
      lock.lock();
      if (--next.call->remaining != 0) continue;
      next.call->done = true;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Queued> queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

// A floating-point environment that spoils results if it is used: rounding up, and subnormals flushed to zero where there is
// a way to ask for it. Ends with the object.
class UnusualFloatEnvironment {
 public:
#if defined(__SSE2__)
  UnusualFloatEnvironment() : before_(_mm_getcsr()) { _mm_setcsr(kUnusual); }
  ~UnusualFloatEnvironment() { _mm_setcsr(before_); }
  bool IsStillSet() const { return (_mm_getcsr() & ~0x3Fu) == kUnusual; }  // less the flags of what has happened

 private:
  static constexpr unsigned kUnusual = 0x1F80 | 0x4000 | 0x8040;  // exceptions masked, round up, flush results and operands
  unsigned before_;
#elif defined(__aarch64__)
  UnusualFloatEnvironment() : before_(Get()) { Set(kUnusual); }
  ~UnusualFloatEnvironment() { Set(before_); }
  bool IsStillSet() const { return Get() == kUnusual; }

 private:
  static constexpr uint64_t kUnusual = (uint64_t{1} << 24) | (uint64_t{1} << 22);  // flush, round up
  static uint64_t Get() {
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return fpcr;
  }
  static void Set(uint64_t fpcr) { __asm__ volatile("msr fpcr, %0" : : "r"(fpcr)); }
  uint64_t before_;
#else
  UnusualFloatEnvironment() : before_(fegetround()) { fesetround(FE_UPWARD); }
  ~UnusualFloatEnvironment() { fesetround(before_); }
  bool IsStillSet() const { return fegetround() == FE_UPWARD; }

 private:
  int before_;
#endif
};

// Threads with an unusual floating-point environment of their own; `pool` is a bool that turns false if a task changed it.
inline void UnusualPool(void* pool, int64_t num_tasks, simdnorm_task task, void* task_context) {
  std::atomic<bool> kept(true);
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < num_tasks; ++i) {
    threads.emplace_back([&, i] {
      const UnusualFloatEnvironment environment;
      task(task_context, i);
      if (!environment.IsStillSet()) kept = false;
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (!kept) *static_cast<bool*>(pool) = false;
}

struct ExecutorCase {
  const char* name;
  simdnorm_parallel_for parallel_for;
  void* pool;
  int32_t max_threads;

  simdnorm_options Options(const char* target) const {
    simdnorm_options options = {};
    options.struct_size = sizeof(options);
    options.target = target;
    options.parallel_for = parallel_for;
    options.pool = pool;
    options.max_threads = max_threads;
    return options;
  }
};

inline const std::vector<ExecutorCase>& AllExecutors() {
  static CountingPool counting;
  static const std::vector<ExecutorCase> executors = {
      {"serial", nullptr, nullptr, 1},
      {"default", nullptr, nullptr, 0},
      {"late pool", LatePool, nullptr, 5},
      {"counting pool", CountingPool::ParallelFor, &counting, 3},
  };
  return executors;
}

}  // namespace simdnorm_test

#endif  // SIMDNORM_TEST_EXECUTORS_H_
