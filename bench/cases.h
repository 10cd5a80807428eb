// The named shapes that benches and peers share. They follow models in use, and between them visit every cache: a
// token of a language model (1x4096), rows too short to fill a pipeline (65536x64), no multiple of any vector (333x777),
// sequences that fit L2 (512x768), L3 (2048x1024) or only memory (4096x4096), one layer each of a convolution network's
// early, middle and late stages.
#ifndef SIMDNORM_BENCH_CASES_H_
#define SIMDNORM_BENCH_CASES_H_

#include <cstdint>
#include <string>

#include "simdnorm/simdnorm.hpp"

namespace simdnorm::cases {

// x of layer norm and RMS norm.
struct RowsCase {
  int64_t rows, cols;

  int64_t Elements() const { return rows * cols; }
  std::string Name() const { return std::to_string(rows) + "x" + std::to_string(cols); }
};

inline constexpr RowsCase kRowsCases[] = {
    {1, 768},   {1, 4096},   {1, 16384},   {8, 64},      {32, 768},   {128, 1024}, {333, 777},
    {512, 768}, {512, 4096}, {2048, 1024}, {4096, 4096}, {65536, 64}, {64, 65536},
};

// x of batch norm: images, or feature vectors where height = width = 1.
struct ChannelsCase {
  int64_t batch, channels, height, width;
  simdnorm_layout layout;

  bool HasSpatial() const { return height * width != 1; }
  int64_t Elements() const { return batch * channels * height * width; }
  Shape AsShape() const { return {batch, channels, height * width, layout}; }
  std::string Name() const {
    const std::string features = std::to_string(batch) + "x" + std::to_string(channels);
    if (!HasSpatial()) return features + ":nc";
    return features + "x" + std::to_string(height) + "x" + std::to_string(width) +
           (layout == SIMDNORM_NCHW ? ":nchw" : ":nhwc");
  }
};

inline constexpr ChannelsCase kChannelsCases[] = {
    {32, 64, 56, 56, SIMDNORM_NCHW},  {32, 256, 14, 14, SIMDNORM_NCHW}, {8, 512, 7, 7, SIMDNORM_NCHW},
    {1, 64, 112, 112, SIMDNORM_NCHW}, {32, 64, 56, 56, SIMDNORM_NHWC},  {32, 256, 14, 14, SIMDNORM_NHWC},
    {8, 512, 7, 7, SIMDNORM_NHWC},    {1, 64, 112, 112, SIMDNORM_NHWC}, {128, 1024, 1, 1, SIMDNORM_NCHW},
};

}  // namespace simdnorm::cases

#endif  // SIMDNORM_BENCH_CASES_H_
