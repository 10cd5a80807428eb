// The ceilings that benches are measured against: how fast this machine moves the same bytes, now.
//
// All run on the threads that OpenMP's parallel regions had when they were made, again and again on the same buffers, as a
// layer is when it is timed. Sizes and distances are in bytes. What is written must be 64-byte aligned.
#ifndef SIMDNORM_BENCH_MEMORY_BENCH_H_
#define SIMDNORM_BENCH_MEMORY_BENCH_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace simdnorm::bench {

// One pass over memory, by all threads.
using MemoryLoop = std::function<void()>;

// How often to repeat a call so that the clock's own cost is lost in it: for about 0.1 ms, or once if that takes longer.
int64_t RepeatsToTime(const std::function<void()>& call);

// Seconds that each of so many repeats takes.
double SecondsEach(const std::function<void()>& call, int64_t repeats);

// Changes their order.
double Median(std::vector<double>& values);

// Loops with the same result; which is the fastest depends on where the buffers lie.
class FastestLoop {
 public:
  explicit FastestLoop(std::vector<MemoryLoop> loops);

  // Seconds that a pass of the fastest takes now. The loops are timed one by one, each for about 0.5 ms, or 5 passes if that is
  // longer; those that the first time found far behind are not tried again.
  double Seconds();

  // The fastest when last timed.
  const MemoryLoop& Get() const { return contestants_.front().loop; }

 private:
  struct Contestant {
    MemoryLoop loop;
    int64_t repeats;  // RepeatsToTime
    double seconds;   // of a pass, when last timed
  };
  std::vector<Contestant> contestants_;
};

// What loops read and write; residual and h only where one adds. Bytes, whatever they stand for: an addition takes as long in
// any dtype that vectors can add, and conversions are no part of a ceiling.
struct Arrays {
  const uint8_t* x;
  const uint8_t* residual;
  uint8_t* y;
  uint8_t* h;
  const uint8_t* scale = nullptr;
  const uint8_t* shift = nullptr;
};

// x to y, each of `bytes` bytes: memcpy, a loop over the widest vectors, the same with streaming stores.
std::vector<MemoryLoop> CopyLoops(const Arrays& arrays, size_t bytes);

// The same, each followed by SumLoop over y.
std::vector<MemoryLoop> CopyAndSumLoops(const Arrays& arrays, size_t bytes);

// The sum of y's f32 numbers, which goes nowhere: the next one to read y.
MemoryLoop SumLoop(const uint8_t* y, size_t bytes);

// h = x + residual and y = h, each of `bytes` bytes: with plain and with streaming stores.
std::vector<MemoryLoop> AddCopyLoops(const Arrays& arrays, size_t bytes);

// Where the elements that share their statistics lie: `runs` runs of `run` bytes each, `stride` apart. Such units lie side by
// side, `width` bytes of them in all, and that again `outer` times, `outer_stride` apart.
struct Units {
  size_t run, runs, stride, width, outer, outer_stride;
  // How many arrays of parameters (scale; scale and shift) are read beside x, position by position, and from the beginning
  // after so many bytes of x; 0 where a unit has one of each. They are in f32, kParameterBytes for each element_bytes of x.
  size_t parameters = 0, parameter_run = 0, element_bytes = 0;
  bool read_once = false;  // statistics are given

  static constexpr size_t kParameterBytes = 4;
};

// What an operation does that normalizes each unit by its own statistics, less the arithmetic: a unit of x is read, then read
// again, with its parameters, and written to y. Where it adds, the first reading is of x and residual, and writes h, which is
// what the second reads. One unit at a time, as many side by side as fit half of L2, and all at once; with plain or with
// streaming stores.
std::vector<MemoryLoop> CeilingLoops(const Arrays& arrays, const Units& units, bool streams);

}  // namespace simdnorm::bench

#endif  // SIMDNORM_BENCH_MEMORY_BENCH_H_
