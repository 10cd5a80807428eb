// See loops.h.
#include "peers/loops.h"

#include <math.h>
#include <string.h>

namespace simdnorm::bench::loops {
namespace {

float Load(float value) { return value; }

float Load(Bf16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float wide;
  memcpy(&wide, &bits, sizeof(wide));
  return wide;
}

void Store(float value, float* to) { *to = value; }

// Rounds to nearest even.
void Store(float value, Bf16* to) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  to->bits = static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// body(i) for each i < count. A single thread pays for no parallel region.
template <class Body>
void ParallelFor(int64_t count, int threads, const Body& body) {
  if (threads == 1 || count == 1) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
#pragma omp parallel for num_threads(threads)
  for (int64_t i = 0; i < count; ++i) body(i);
}

template <class T>
float Sum(const T* x, int64_t count) {
  float sum = 0.0f;
  for (int64_t i = 0; i < count; ++i) sum += Load(x[i]);
  return sum;
}

template <class T>
float SumOfSquares(const T* x, int64_t count, float mean) {
  float sum = 0.0f;
  for (int64_t i = 0; i < count; ++i) sum += (Load(x[i]) - mean) * (Load(x[i]) - mean);
  return sum;
}

template <class T>
void NormalizeRow(const T* __restrict x, T* __restrict y, int64_t cols, const T* scale, const T* shift, float mean,
                  float rstd) {
  for (int64_t j = 0; j < cols; ++j) Store((Load(x[j]) - mean) * rstd * Load(scale[j]) + Load(shift[j]), y + j);
}

// y = a x + b.
template <class T>
void NormalizePlane(const T* __restrict x, T* __restrict y, int64_t count, float a, float b) {
  for (int64_t i = 0; i < count; ++i) Store(Load(x[i]) * a + b, y + i);
}

template <class T>
void NormalizePixels(const T* x, T* y, int64_t pixels, int64_t channels, const float* a, const float* b, int threads) {
  ParallelFor(pixels, threads, [=](int64_t i) {
    const T* __restrict from = x + i * channels;
    T* __restrict to = y + i * channels;
    for (int64_t c = 0; c < channels; ++c) Store(Load(from[c]) * a[c] + b[c], to + c);
  });
}

template <class T>
void FoldStatistics(int64_t channels, const float* mean, const float* rstd, const T* scale, const T* shift, float* a,
                    float* b) {
  for (int64_t c = 0; c < channels; ++c) {
    a[c] = rstd[c] * Load(scale[c]);
    b[c] = Load(shift[c]) - mean[c] * a[c];
  }
}

// The mean and the sum of squares about it, of each channel of channels-last images.
template <class T>
void PixelStatistics(const T* x, int64_t pixels, int64_t channels, float* mean, float* squares, int threads) {
  for (int64_t c = 0; c < channels; ++c) mean[c] = squares[c] = 0.0f;
#pragma omp parallel for num_threads(threads) if (threads > 1) reduction(+ : mean[:channels])
  for (int64_t i = 0; i < pixels; ++i) {
    for (int64_t c = 0; c < channels; ++c) mean[c] += Load(x[i * channels + c]);
  }
  for (int64_t c = 0; c < channels; ++c) mean[c] /= static_cast<float>(pixels);
#pragma omp parallel for num_threads(threads) if (threads > 1) reduction(+ : squares[:channels])
  for (int64_t i = 0; i < pixels; ++i) {
    for (int64_t c = 0; c < channels; ++c) {
      const float deviation = Load(x[i * channels + c]) - mean[c];
      squares[c] += deviation * deviation;
    }
  }
}

}  // namespace

template <class T>
void LayerNorm(const T* x, const T* residual, T* h, T* y, int64_t rows, int64_t cols, const T* scale, const T* shift,
               float epsilon, int threads) {
  ParallelFor(rows, threads, [=](int64_t i) {
    const T* row = x + i * cols;
    if (residual != nullptr) {
      const T* __restrict to_add = residual + i * cols;
      T* __restrict sum = h + i * cols;
      for (int64_t j = 0; j < cols; ++j) Store(Load(row[j]) + Load(to_add[j]), sum + j);
      row = sum;
    }
    const float mean = Sum(row, cols) / static_cast<float>(cols);
    const float variance = SumOfSquares(row, cols, mean) / static_cast<float>(cols);
    NormalizeRow(row, y + i * cols, cols, scale, shift, mean, 1.0f / sqrtf(variance + epsilon));
  });
}

template <class T>
void RMSNorm(const T* x, T* y, int64_t rows, int64_t cols, const T* scale, float epsilon, int threads) {
  ParallelFor(rows, threads, [=](int64_t i) {
    const T* __restrict from = x + i * cols;
    T* __restrict to = y + i * cols;
    const float rstd = 1.0f / sqrtf(SumOfSquares(from, cols, 0.0f) / static_cast<float>(cols) + epsilon);
    for (int64_t j = 0; j < cols; ++j) Store(Load(from[j]) * rstd * Load(scale[j]), to + j);
  });
}

template <class T>
void BatchNormTraining(const T* x, T* y, const Images& shape, const T* scale, const T* shift, float epsilon, float* mean,
                       float* rstd, float* running_mean, float* running_variance, float* scratch, int threads) {
  constexpr float kMomentum = 0.1f;
  const auto [batch, channels, spatial, channels_last] = shape;
  const float count = static_cast<float>(batch * spatial);
  const auto finish = [=](int64_t c, float squares) {
    rstd[c] = 1.0f / sqrtf(squares / count + epsilon);
    running_mean[c] += kMomentum * (mean[c] - running_mean[c]);
    running_variance[c] += kMomentum * (squares / (count - 1.0f) - running_variance[c]);
  };
  if (channels_last) {
    float* const a = scratch;
    float* const b = scratch + channels;
    PixelStatistics(x, batch * spatial, channels, mean, a, threads);
    for (int64_t c = 0; c < channels; ++c) finish(c, a[c]);
    FoldStatistics(channels, mean, rstd, scale, shift, a, b);
    NormalizePixels(x, y, batch * spatial, channels, a, b, threads);
    return;
  }
  ParallelFor(shape.channels, threads, [=](int64_t c) {
    const int64_t step = shape.channels * shape.spatial, begin = c * shape.spatial;
    float sum = 0.0f;
    for (int64_t n = 0; n < shape.batch; ++n) sum += Sum(x + begin + n * step, shape.spatial);
    mean[c] = sum / count;
    float squares = 0.0f;
    for (int64_t n = 0; n < shape.batch; ++n) squares += SumOfSquares(x + begin + n * step, shape.spatial, mean[c]);
    finish(c, squares);
    const float a = rstd[c] * Load(scale[c]), b = Load(shift[c]) - mean[c] * a;
    for (int64_t n = 0; n < shape.batch; ++n) NormalizePlane(x + begin + n * step, y + begin + n * step, shape.spatial, a, b);
  });
}

template <class T>
void BatchNormInference(const T* x, T* y, const Images& shape, const T* scale, const T* shift, float epsilon, const float* mean,
                        const float* variance, float* scratch, int threads) {
  float* const a = scratch;
  float* const b = scratch + shape.channels;
  for (int64_t c = 0; c < shape.channels; ++c) {
    const float rstd = 1.0f / sqrtf(variance[c] + epsilon);
    FoldStatistics(1, mean + c, &rstd, scale + c, shift + c, a + c, b + c);
  }
  if (shape.channels_last) return NormalizePixels(x, y, shape.batch * shape.spatial, shape.channels, a, b, threads);
  ParallelFor(shape.batch * shape.channels, threads, [=](int64_t plane) {
    const int64_t c = plane % shape.channels;
    NormalizePlane(x + plane * shape.spatial, y + plane * shape.spatial, shape.spatial, a[c], b[c]);
  });
}

template <class T>
void GroupNorm(const T* x, T* y, const Images& shape, int64_t groups, const T* scale, const T* shift, float epsilon,
               int threads) {
  const int64_t group_channels = shape.channels / groups;
  const float count = static_cast<float>(group_channels * shape.spatial);
  // Channels first, a group is one run; channels last, a run in each pixel.
  const int64_t run = shape.channels_last ? group_channels : group_channels * shape.spatial;
  const int64_t runs = shape.channels_last ? shape.spatial : 1;
  ParallelFor(shape.batch * groups, threads, [=](int64_t i) {
    const int64_t begin = i / groups * shape.channels * shape.spatial + i % groups * run;
    float sum = 0.0f;
    for (int64_t r = 0; r < runs; ++r) sum += Sum(x + begin + r * shape.channels, run);
    const float mean = sum / count;
    float squares = 0.0f;
    for (int64_t r = 0; r < runs; ++r) squares += SumOfSquares(x + begin + r * shape.channels, run, mean);
    const float rstd = 1.0f / sqrtf(squares / count + epsilon);
    const T* const group_scale = scale + i % groups * group_channels;
    const T* const group_shift = shift + i % groups * group_channels;
    if (shape.channels_last) {
      for (int64_t r = 0; r < runs; ++r) {
        const int64_t pixel = begin + r * shape.channels;
        NormalizeRow(x + pixel, y + pixel, run, group_scale, group_shift, mean, rstd);
      }
      return;
    }
    for (int64_t j = 0; j < group_channels; ++j) {
      const float a = rstd * Load(group_scale[j]), b = Load(group_shift[j]) - mean * a;
      NormalizePlane(x + begin + j * shape.spatial, y + begin + j * shape.spatial, shape.spatial, a, b);
    }
  });
}

template void LayerNorm(const float*, const float*, float*, float*, int64_t, int64_t, const float*, const float*, float, int);
template void LayerNorm(const Bf16*, const Bf16*, Bf16*, Bf16*, int64_t, int64_t, const Bf16*, const Bf16*, float, int);
template void RMSNorm(const float*, float*, int64_t, int64_t, const float*, float, int);
template void RMSNorm(const Bf16*, Bf16*, int64_t, int64_t, const Bf16*, float, int);
template void BatchNormTraining(const float*, float*, const Images&, const float*, const float*, float, float*, float*, float*,
                                float*, float*, int);
template void BatchNormTraining(const Bf16*, Bf16*, const Images&, const Bf16*, const Bf16*, float, float*, float*, float*,
                                float*, float*, int);
template void BatchNormInference(const float*, float*, const Images&, const float*, const float*, float, const float*,
                                 const float*, float*, int);
template void BatchNormInference(const Bf16*, Bf16*, const Images&, const Bf16*, const Bf16*, float, const float*, const float*,
                                 float*, int);
template void GroupNorm(const float*, float*, const Images&, int64_t, const float*, const float*, float, int);
template void GroupNorm(const Bf16*, Bf16*, const Images&, int64_t, const Bf16*, const Bf16*, float, int);

}  // namespace simdnorm::bench::loops
