// The named shapes and dtypes that benches and peers share. They follow models in use.
#ifndef SIMDNORM_BENCH_CASES_H_
#define SIMDNORM_BENCH_CASES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "simdnorm/simdnorm.hpp"

namespace simdnorm::cases {

// What x and y hold. Further tensors that a call has, scale and shift too, are of x's dtype, as models store them.
struct Dtypes {
  simdnorm_dtype x, y;

  // "bf16", or "bf16-i8" where y's differs.
  std::string Name() const {
    constexpr const char* kNames[] = {"f32", "bf16", "f16", "i8", "u8", "q8_0"};
    return x == y ? kNames[x] : std::string(kNames[x]) + "-" + kNames[y];
  }
};

inline constexpr Dtypes kF32 = {SIMDNORM_F32, SIMDNORM_F32};
inline constexpr Dtypes kBf16 = {SIMDNORM_BF16, SIMDNORM_BF16};
inline constexpr Dtypes kF16 = {SIMDNORM_F16, SIMDNORM_F16};

inline size_t Bytes(simdnorm_dtype dtype, int64_t elements) {
  constexpr size_t kSizes[] = {4, 2, 2, 1, 1};
  const size_t count = static_cast<size_t>(elements);
  return dtype == SIMDNORM_Q8_0 ? count / 32 * sizeof(simdnorm_q8_0) : count * kSizes[dtype];
}

// The lengths of a padded batch, between a quarter and three quarters of the positions each, a half on average: every second
// one has what the one before it lacks.
inline std::vector<int64_t> HalfLengths(int64_t batch, int64_t positions) {
  std::vector<int64_t> lengths;
  for (int64_t n = 0; n < batch; ++n) {
    const int64_t shorter = positions / 4 + n / 2 % 4 * positions / 16;  // 4/16 to 7/16
    lengths.push_back(n % 2 == 0 ? shorter : positions - shorter);
  }
  return lengths;
}

// x of layer norm and RMS norm.
struct RowsCase {
  int64_t rows, cols;
  int64_t inner = 1;  // as in simdnorm_layer_norm

  int64_t Elements() const { return rows * cols * inner; }
  int64_t Params() const { return cols; }
  std::string Name() const {
    const std::string matrix = std::to_string(rows) + "x" + std::to_string(cols);
    return inner == 1 ? matrix : matrix + "x" + std::to_string(inner);
  }
};

// Between them these visit every cache: a call's fixed cost (1x16), a token of a language model (1x4096), rows too short to
// fill a pipeline (65536x64), no multiple of any vector (333x777), sequences that fit L2 (512x768), L3 (2048x1024) or only
// memory (4096x4096).
inline constexpr std::initializer_list<RowsCase> kRowsCases = {
    {1, 16},    {1, 768},    {1, 4096},    {1, 16384},   {8, 64},     {32, 768},    {128, 1024}, {333, 777},
    {512, 768}, {512, 4096}, {2048, 1024}, {4096, 4096}, {65536, 64}, {65536, 128}, {64, 65536},
};
// One for each cache.
inline constexpr std::initializer_list<RowsCase> kCacheCases = {{1, 4096}, {512, 768}, {512, 4096}, {2048, 1024}, {4096, 4096}};
// What computes more than a plain norm, while data is near.
inline constexpr std::initializer_list<RowsCase> kFusionCases = {{1, 4096}, {512, 768}, {512, 4096}};
// What has more tensors than a plain norm.
inline constexpr std::initializer_list<RowsCase> kResidualCases = {
    {1, 4096}, {512, 768}, {512, 4096}, {2048, 1024}, {4096, 4096}};
// What is read again at once, where y would stay in L2, L3, some of it or nowhere.
inline constexpr std::initializer_list<RowsCase> kSummedCases = {{512, 768},   {512, 4096},  {2048, 1024},
                                                                 {4096, 1024}, {6144, 1024}, {4096, 4096}};
// Diffusion transformers: images of 256 tokens, each image with a scale and shift of its own.
inline constexpr int64_t kTokensPerImage = 256;
inline constexpr std::initializer_list<RowsCase> kAdaptiveCases = {{256, 1152}, {2048, 1152}};
// Text classifiers: sentences padded to 128 tokens, two of them and a batch.
inline constexpr int64_t kTokensPerSentence = 128;
inline constexpr std::initializer_list<RowsCase> kPaddedCases = {{256, 768}, {4096, 768}};
// The channels of images in NCHW: rows = images, cols = channels, inner = height * width; a ConvNeXt's first to last stages.
inline constexpr std::initializer_list<RowsCase> kChannelsFirstCases = {{8, 96, 3136}, {8, 384, 196}, {1, 768, 49}};
// The query heads in packed queries, keys and values: rows = tokens, cols = head size, inner = heads.
inline constexpr std::initializer_list<RowsCase> kHeadsCases = {{1, 128, 32}, {512, 128, 32}};
// How the cost grows, from 2^10 to 2^26 elements: more rows, and longer ones; 16x1024 is in both.
inline constexpr std::initializer_list<RowsCase> kGrowingRowsCases = {
    {1, 1024}, {4, 1024}, {16, 1024}, {64, 1024},  {256, 1024}, {1024, 1024}, {4096, 1024},  {16384, 1024}, {65536, 1024},
    {16, 64},  {16, 256}, {16, 4096}, {16, 16384}, {16, 65536}, {16, 262144}, {16, 1048576}, {16, 4194304},
};

// x of batch, group and instance norm: images, or feature vectors where height = width = 1.
struct ChannelsCase {
  int64_t batch, channels, height, width;
  simdnorm_layout layout;
  int64_t groups = 0;  // of group norm

  bool HasSpatial() const { return height * width != 1; }
  // How many channels are padded to a multiple of.
  int64_t Block() const { return layout == SIMDNORM_NCHW8C ? 8 : layout == SIMDNORM_NCHW16C ? 16 : 1; }
  int64_t Elements() const { return batch * ((channels + Block() - 1) / Block() * Block()) * height * width; }
  int64_t Params() const { return channels; }
  Shape AsShape() const { return {batch, channels, height * width, layout}; }
  std::string Name() const {
    constexpr const char* kLayoutNames[] = {"nchw", "nhwc", "nchw8c", "nchw16c"};
    const std::string features = std::to_string(batch) + "x" + std::to_string(channels);
    if (!HasSpatial()) return features + ":nc";
    return features + "x" + std::to_string(height) + "x" + std::to_string(width) + ":" +
           (groups == 0 ? "" : "g" + std::to_string(groups) + ":") + kLayoutNames[layout];
  }
};

// One layer each of a convolution network's early, middle and late stages, a single large image, and feature vectors; and from
// memory rows of an odd number of vectors (40 channels), and of more channels than a tile has.
inline constexpr std::initializer_list<ChannelsCase> kChannelsCases = {
    {32, 64, 56, 56, SIMDNORM_NCHW},   {32, 256, 14, 14, SIMDNORM_NCHW}, {8, 512, 7, 7, SIMDNORM_NCHW},
    {1, 64, 112, 112, SIMDNORM_NCHW},  {32, 64, 56, 56, SIMDNORM_NHWC},  {32, 256, 14, 14, SIMDNORM_NHWC},
    {8, 512, 7, 7, SIMDNORM_NHWC},     {1, 64, 112, 112, SIMDNORM_NHWC}, {64, 40, 56, 56, SIMDNORM_NHWC},
    {32, 1024, 14, 14, SIMDNORM_NHWC}, {128, 1024, 1, 1, SIMDNORM_NCHW},
};
// How the cost grows with the batch, up to 2^26 elements.
inline constexpr std::initializer_list<ChannelsCase> kGrowingBatchCases = {
    {1, 64, 16, 16, SIMDNORM_NCHW},    {4, 64, 16, 16, SIMDNORM_NCHW},   {16, 64, 16, 16, SIMDNORM_NCHW},
    {64, 64, 16, 16, SIMDNORM_NCHW},   {256, 64, 16, 16, SIMDNORM_NCHW}, {1024, 64, 16, 16, SIMDNORM_NCHW},
    {4096, 64, 16, 16, SIMDNORM_NCHW},
};
// What is read again at once, where only some of y would stay in L3.
inline constexpr std::initializer_list<ChannelsCase> kSummedStageCases = {{32, 64, 56, 56, SIMDNORM_NCHW},
                                                                          {32, 64, 56, 56, SIMDNORM_NHWC}};
// The early and the late stage.
inline constexpr std::initializer_list<ChannelsCase> kStageCases = {{32, 64, 56, 56, SIMDNORM_NCHW},
                                                                    {8, 512, 7, 7, SIMDNORM_NCHW},
                                                                    {32, 64, 56, 56, SIMDNORM_NHWC},
                                                                    {8, 512, 7, 7, SIMDNORM_NHWC}};
// The same, and once channels that do not fill their last block.
inline constexpr std::initializer_list<ChannelsCase> kBlockedCases = {{32, 64, 56, 56, SIMDNORM_NCHW8C},
                                                                      {8, 512, 7, 7, SIMDNORM_NCHW8C},
                                                                      {32, 64, 56, 56, SIMDNORM_NCHW16C},
                                                                      {8, 512, 7, 7, SIMDNORM_NCHW16C},
                                                                      {8, 500, 7, 7, SIMDNORM_NCHW16C}};
// The outermost and the innermost stage of Stable Diffusion's U-Net, and a batch of middling images.
inline constexpr std::initializer_list<ChannelsCase> kGroupCases = {
    {2, 320, 64, 64, SIMDNORM_NCHW, 32}, {2, 1280, 8, 8, SIMDNORM_NCHW, 32}, {8, 512, 28, 28, SIMDNORM_NCHW, 32},
    {2, 320, 64, 64, SIMDNORM_NHWC, 32}, {2, 1280, 8, 8, SIMDNORM_NHWC, 32}, {8, 512, 28, 28, SIMDNORM_NHWC, 32},
};
// Recordings padded to one length (height 1, width = frames), a small one and a batch; a speech encoder's convolution layers.
inline constexpr std::initializer_list<ChannelsCase> kRecordingCases = {
    {2, 256, 1, 128, SIMDNORM_NCHW, 32},
    {16, 512, 1, 400, SIMDNORM_NCHW, 32},
    {2, 256, 1, 128, SIMDNORM_NHWC, 32},
    {16, 512, 1, 400, SIMDNORM_NHWC, 32},
};
// The same for batch norm.
inline constexpr std::initializer_list<ChannelsCase> kRecordingStageCases = {
    {2, 256, 1, 128, SIMDNORM_NCHW},
    {16, 512, 1, 400, SIMDNORM_NCHW},
    {2, 256, 1, 128, SIMDNORM_NHWC},
    {16, 512, 1, 400, SIMDNORM_NHWC},
};
// A style transfer network's first and innermost layers.
inline constexpr std::initializer_list<ChannelsCase> kInstanceCases = {
    {1, 32, 256, 256, SIMDNORM_NCHW}, {4, 128, 64, 64, SIMDNORM_NCHW}, {1, 128, 32, 32, SIMDNORM_NCHW},
    {1, 32, 256, 256, SIMDNORM_NHWC}, {4, 128, 64, 64, SIMDNORM_NHWC}, {1, 128, 32, 32, SIMDNORM_NHWC},
};

// The weight of a convolution whose outputs (preceding) or inputs (following) are batch norm's channels.
struct FoldCase {
  int64_t out_channels, in_channels, height, width;
  simdnorm_fold_position position;

  int64_t Elements() const { return out_channels * in_channels * height * width; }
  int64_t Params() const { return std::max(out_channels, in_channels); }
  std::string Name() const {
    return std::to_string(out_channels) + "x" + std::to_string(in_channels) + "x" + std::to_string(height) + "x" +
           std::to_string(width) + (position == SIMDNORM_FOLD_INTO_PRECEDING ? ":preceding" : ":following");
  }
};

// A convolution network's largest.
inline constexpr std::initializer_list<FoldCase> kFoldCases = {{512, 512, 3, 3, SIMDNORM_FOLD_INTO_PRECEDING},
                                                               {512, 512, 3, 3, SIMDNORM_FOLD_INTO_FOLLOWING}};

}  // namespace simdnorm::cases

#endif  // SIMDNORM_BENCH_CASES_H_
