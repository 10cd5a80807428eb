// The loops that a good engineer writes by hand: two passes for the statistics and one to write, left to the compiler to
// vectorize. loops.cc alone is compiled with -O3 -march=native -ffast-math, so it shares no inline function with other files.
#ifndef SIMDNORM_BENCH_PEERS_LOOPS_H_
#define SIMDNORM_BENCH_PEERS_LOOPS_H_

#include <cstdint>

namespace simdnorm::bench::loops {

struct Bf16 {
  uint16_t bits;
};

// [batch, channels, spatial], or [batch, spatial, channels] where channels_last.
struct Images {
  int64_t batch, channels, spatial;
  bool channels_last;
};

// T is float or Bf16. Rows, channels or groups are shared among the threads, where there are several.

// Where there is a residual: of h = x + residual.
template <class T>
void LayerNorm(const T* x, const T* residual, T* h, T* y, int64_t rows, int64_t cols, const T* scale, const T* shift,
               float epsilon, int threads);

template <class T>
void RMSNorm(const T* x, T* y, int64_t rows, int64_t cols, const T* scale, float epsilon, int threads);

// Updates the running statistics with a momentum of 0.1. `scratch` has room for 2 numbers for each channel, here and below.
template <class T>
void BatchNormTraining(const T* x, T* y, const Images& shape, const T* scale, const T* shift, float epsilon, float* mean,
                       float* rstd, float* running_mean, float* running_variance, float* scratch, int threads);

template <class T>
void BatchNormInference(const T* x, T* y, const Images& shape, const T* scale, const T* shift, float epsilon, const float* mean,
                        const float* variance, float* scratch, int threads);

template <class T>
void GroupNorm(const T* x, T* y, const Images& shape, int64_t groups, const T* scale, const T* shift, float epsilon,
               int threads);

}  // namespace simdnorm::bench::loops

#endif  // SIMDNORM_BENCH_PEERS_LOOPS_H_
