// Threads as engines use them: many callers at once, pools of every kind, calls from within tasks and from within parallel
// regions, and children of fork(). Whatever runs a call, its bits are those of the calling thread alone. CI also runs this file
// under ThreadSanitizer.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SIMDNORM_TEST_TSAN
#endif
#endif

#include "channel_problem.h"
#include "mixed_problem.h"

namespace simdnorm_test {
namespace {

// A call of any operation, on tensors of its own each time, and what it gives on the calling thread alone.
struct Work {
  std::string name;
  std::function<Outputs(const simdnorm_options&)> run;
  Outputs expected;
};

template <class P>
Work WorkOf(const P& p) {
  return {Describe(p, nullptr), [p](const simdnorm_options& options) { return Run(p, options); }, RunSerial(p, nullptr)};
}

// Large enough to be split, each by another unit of work or kind of kernel; and one that is not.
std::vector<Work> AllWork() {
  const auto rows = [](Op op, int64_t num_rows, int64_t cols, Data data) {
    Problem p;
    p.op = op, p.rows = num_rows, p.cols = cols, p.data = data;
    return p;
  };
  const auto channels = [](ChannelOp op, simdnorm_layout layout, const ChannelShape& shape) {
    return MakeProblem(op, shape, layout);
  };
  const int64_t n = SmallEffort() ? 1 : 4;
  Problem fused = rows(Op::kRMSNorm, 45 * n, 1000, Data::kNormal);
  fused.x_dtype = fused.residual_dtype = fused.h_dtype = SIMDNORM_BF16;
  fused.y_dtype = SIMDNORM_I8;
  fused.residual = fused.h = true;
  fused.h_is_x = true;
  std::vector<Work> work = {
      WorkOf(rows(Op::kLayerNorm, 45 * n, 1000, Data::kNormal)),
      WorkOf(channels(ChannelOp::kTraining, SIMDNORM_NHWC, {2, 96, 250 * n})),
      WorkOf(channels(ChannelOp::kGroup, SIMDNORM_NCHW, {2, 6, 4001 * n, 3})),
      WorkOf(rows(Op::kLayerNorm, 1, 45000 * n, Data::kNormal)),
      WorkOf(fused),
      WorkOf(rows(Op::kLayerNorm, 3, 100, Data::kNormal)),
  };
  if (SmallEffort()) return work;
  work.push_back(WorkOf(rows(Op::kLayerNorm, 2, 90001, Data::kHuge)));  // in double
  work.push_back(WorkOf(channels(ChannelOp::kTraining, SIMDNORM_NCHW, {3, 2, 30001})));
  work.push_back(WorkOf(channels(ChannelOp::kInference, SIMDNORM_NCHW16C, {2, 40, 2000})));
  work.push_back(WorkOf(WithResidual(channels(ChannelOp::kInstance, SIMDNORM_NHWC, {2, 33, 2000, 1}))));
  Problem inner = rows(Op::kLayerNorm, 4, 64, Data::kNormal);
  inner.inner = 700;
  work.push_back(WorkOf(inner));
  return work;
}

void CheckWork(const std::vector<Work>& all_work, const ExecutorCase& executor) {
  for (const Work& work : all_work) {
    const Outputs actual = work.run(executor.Options(nullptr));
    CHECK_MESSAGE(SameBits(work.expected, actual), Differences(work.expected, actual) << work.name << ", " << executor.name);
  }
}

TEST_CASE("sixteen threads at once, each with executors of its own") {
  const std::vector<Work> all_work = AllWork();
  SharedPool common(3);
  std::atomic<int> wrong(0), started(0);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 16; ++t) {
    threads.emplace_back([&, t] {
      SharedPool own(1 + static_cast<int>(t % 3));
      EagerPool eager;
      const ExecutorCase executors[] = {{"serial", nullptr, nullptr, 1},
                                        {"default", nullptr, nullptr, 0},
                                        {"own pool", SharedPool::ParallelFor, &own, 3},
                                        {"common pool", SharedPool::ParallelFor, &common, 4},
                                        {"late pool", LatePool, nullptr, 5},
                                        {"thread for each task", EagerPool::ParallelFor, &eager, 2}};
      for (++started; started < 16;) std::this_thread::yield();
      for (size_t i = 0; i < (SmallEffort() ? 1 : 12); ++i) {
        const Work& work = all_work[(t * 5 + i) % all_work.size()];
        const ExecutorCase& executor = executors[(t + i) % std::size(executors)];
        if (!SameBits(work.run(executor.Options(nullptr)), work.expected)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("pools of every kind") {
  const std::vector<Work> all_work = AllWork();
  SharedPool small(1), large(24);
  EagerPool eager;
  for (const int32_t tasks : {2, 40}) {
    CheckWork(all_work, {"late and out of order", LatePool, nullptr, tasks});
    CheckWork(all_work, {"all on one other thread", OneThreadPool, nullptr, tasks});
    CheckWork(all_work, {"a new thread for each task", EagerPool::ParallelFor, &eager, tasks});
    CheckWork(all_work, {"one thread that lives on", SharedPool::ParallelFor, &small, tasks});
    CheckWork(all_work, {"more threads than asked", SharedPool::ParallelFor, &large, tasks});
  }
}

// Its threads make a call of their own before each task.
struct CallingPool {
  std::function<void()> call;

  static void ParallelFor(void* pool, int64_t num_tasks, simdnorm_task task, void* task_context) {
    const CallingPool& self = *static_cast<CallingPool*>(pool);
    std::vector<std::thread> threads;
    for (int64_t i = 0; i < num_tasks; ++i) {
      threads.emplace_back([&, i] {
        self.call();
        task(task_context, i);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
};

TEST_CASE("calls from a pool's threads, between the tasks of another call") {
  const std::vector<Work> all_work = AllWork();
  SharedPool shared(2);
  for (const ExecutorCase& inner :
       {ExecutorCase{"", nullptr, nullptr, 1}, {"", nullptr, nullptr, 0}, {"", SharedPool::ParallelFor, &shared, 3}}) {
    std::atomic<int> wrong(0);
    std::atomic<size_t> next(0);
    CallingPool pool{[&] {
      const Work& work = all_work[next++ % all_work.size()];
      if (!SameBits(work.run(inner.Options(nullptr)), work.expected)) ++wrong;
    }};
    CheckWork(all_work, {"calls within", CallingPool::ParallelFor, &pool, 3});
    CHECK(wrong == 0);
    CHECK(next >= 2 * (all_work.size() - 1));
  }
}

#ifdef _OPENMP
// The caller's pool is OpenMP itself; counts the threads of its largest team.
struct OpenMPPool {
  std::atomic<int> most_threads{0};

  static void ParallelFor(void* pool, int64_t num_tasks, simdnorm_task task, void* task_context) {
    OpenMPPool& self = *static_cast<OpenMPPool*>(pool);
#pragma omp parallel num_threads(2)
    {
      const int threads = omp_get_num_threads();
      for (int most = self.most_threads; most < threads && !self.most_threads.compare_exchange_weak(most, threads);) {
      }
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < num_tasks; ++i) task(task_context, i);
    }
  }
};

TEST_CASE("calls within parallel regions, nested ones too") {
  const std::vector<Work> all_work = AllWork();
  const int levels_before = omp_get_max_active_levels();
  for (const int levels : {1, 2}) {
    omp_set_max_active_levels(levels);
    OpenMPPool nested;
    SharedPool shared(2);
    const ExecutorCase executors[] = {{"default", nullptr, nullptr, 0},
                                      {"nested region", OpenMPPool::ParallelFor, &nested, 4},
                                      {"pool", SharedPool::ParallelFor, &shared, 3}};
    std::atomic<int> wrong(0), not_one(0), threads(0);
#pragma omp parallel num_threads(3)
    {
      ++threads;
      if (simdnorm_default_threads() != 1) ++not_one;
      const size_t first = static_cast<size_t>(omp_get_thread_num());
      for (size_t i = 0; i < (SmallEffort() ? 3 : 2 * all_work.size()); ++i) {
        const Work& work = all_work[(first * 3 + i) % all_work.size()];
        const ExecutorCase& executor = executors[(first + i) % std::size(executors)];
        if (!SameBits(work.run(executor.Options(nullptr)), work.expected)) ++wrong;
      }
    }
    CHECK(threads == 3);
    CHECK(not_one == 0);
    CHECK(wrong == 0);
    CHECK(nested.most_threads == levels);
  }
  omp_set_max_active_levels(levels_before);
}
#endif

#ifndef SIMDNORM_TEST_TSAN  // which refuses to start threads in a child
// Runs `work` in a child of fork() and says how it ended: 0 for true, 1 for false, minus the signal that killed it. SIGALRM is
// what a child gets that hangs.
int StatusOfChild(const std::function<bool()>& work) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(120);
    _exit(work() ? 0 : 1);
  }
  REQUIRE(child > 0);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// In a child, which has none of its parent's threads.
bool RunsRight(const std::vector<Work>& all_work, const ExecutorCase& executor) {
  return std::all_of(all_work.begin(), all_work.end(),
                     [&](const Work& work) { return SameBits(work.run(executor.Options(nullptr)), work.expected); });
}

TEST_CASE("children of fork() call on their own thread and on pools of their own") {
  const std::vector<Work> all_work = AllWork();
  CheckWork(all_work, {"default", nullptr, nullptr, 0});  // the parent has OpenMP's threads
  // And others that are in the middle of calls, which leave nothing locked.
  std::atomic<bool> stop(false);
  std::vector<std::thread> callers;
  for (size_t t = 0; t < (SmallEffort() ? 0 : 2); ++t) {
    callers.emplace_back([&] {
      Problem p;
      p.rows = 50, p.cols = 1000;
      Tensors tensors(p);
      const simdnorm_options options = ExecutorCase{"", LatePool, nullptr, 2}.Options(nullptr);
      while (!stop) Call(tensors, &options);
    });
  }
  CHECK(StatusOfChild([] { return false; }) == 1);
  CHECK(StatusOfChild([&] { return RunsRight(all_work, {"serial", nullptr, nullptr, 1}); }) == 0);
  CHECK(StatusOfChild([&] {
          SharedPool pool(2);
          return RunsRight(all_work, {"pool", SharedPool::ParallelFor, &pool, 3});
        }) == 0);
  CHECK(StatusOfChild([&] { return RunsRight(all_work, {"late pool", LatePool, nullptr, 5}); }) == 0);
#if !defined(_OPENMP) || defined(__clang__)
  // As they do by default without OpenMP, and with LLVM's. GCC's waits for ever for threads that only the parent has.
  CHECK(StatusOfChild([&] { return RunsRight(all_work, {"default", nullptr, nullptr, 0}); }) == 0);
#endif
  stop = true;
  for (std::thread& caller : callers) caller.join();
}
#endif

}  // namespace
}  // namespace simdnorm_test
