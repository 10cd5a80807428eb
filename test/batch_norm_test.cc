// Batch norm, inference and training, against the reference: shapes in both layouts, every kind of data, on every target.
#include <initializer_list>

#include "problem.h"

namespace simdnorm_test {
namespace {

constexpr Op kBatchOps[] = {Op::kBatchNormInference, Op::kBatchNormTraining};

Problem BatchProblem(Op op, int64_t batch, int64_t channels, int64_t spatial, simdnorm_layout layout = SIMDNORM_NCHW) {
  Problem p;
  p.op = op;
  p.batch = batch;
  p.channels = channels;
  p.spatial = spatial;
  p.layout = layout;
  return p;
}

// Both operations in both layouts, in `ways` of the ways to call.
void CheckShape(int64_t batch, int64_t channels, int64_t spatial, unsigned ways, Executors executors = Executors::kInTurn) {
  static unsigned next_variant = 0;
  for (const Op op : kBatchOps) {
    for (unsigned way = 0; way < (SmallEffort() ? 1 : ways); ++way) {
      next_variant = (next_variant + 29) % kNumVariants;
      for (const unsigned layout_bit : {0u, 4u}) {
        CheckProblem(Variant(BatchProblem(op, batch, channels, spatial), (next_variant & ~4u) | layout_bit), executors);
      }
    }
  }
}

TEST_CASE("numbers of channels by spatial sizes") {
  for (const int64_t channels : {1, 3, 15, 16, 17, 31, 33, 64, 100, 300}) {
    for (const int64_t spatial : {1, 2, 3, 5, 49, 63, 64, 65, 200}) {
      if (SmallEffort() && (channels > 33 || spatial > 65)) continue;
      CheckShape(1 + (channels + spatial) % 4, channels, spatial, 3);
    }
  }
}

TEST_CASE("channels one to 70") {
  for (int64_t channels = 1; channels <= 70; ++channels) {
    CheckShape(3, channels, 7, 2);
    if (!SmallEffort()) CheckShape(9, channels, 1, 2);
  }
}

TEST_CASE("spatial sizes one to 200") {
  for (int64_t spatial = 1; spatial <= 200; ++spatial) CheckShape(2, 2, spatial, 2);
}

TEST_CASE("one to 40 samples") {
  for (int64_t batch = 1; batch <= 40; ++batch) {
    if (SmallEffort() && batch % 8 != 1) continue;
    CheckShape(batch, 5, 3, 3);
    CheckShape(batch, 19, 1, 3);
  }
}

TEST_CASE("large planes and many rows") {
  struct Shape {
    int64_t batch, channels, spatial;
  };
  constexpr Shape kShapes[] = {
      {2, 3, 3136},  {1, 2, 4096},  {3, 2, 5000}, {1, 17, 4097}, {8, 3, 3136},  // 25088 rows in NHWC
      {1, 1, 20000}, {6, 300, 100}, {257, 33, 1}, {512, 16, 1},  {17000, 17, 1}, {20000, 1, 1}, {2, 1, 300000}, {16, 40, 1100},
  };
  for (const Shape& shape : kShapes) {
    if (SmallEffort() && shape.batch * shape.channels * shape.spatial > 15000) continue;
    CheckShape(shape.batch, shape.channels, shape.spatial, 2, Executors::kAll);
  }
}

TEST_CASE("tensors at every address and at either edge of memory") {
  for (const Op op : kBatchOps) {
    for (const simdnorm_layout layout : {SIMDNORM_NCHW, SIMDNORM_NHWC}) {
      for (const bool at_end : {false, true}) {
        for (int64_t offset = 0; offset < 16; ++offset) {
          Problem p = BatchProblem(op, 3, 19, 11, layout);
          p.in_place = offset % 4 == 3;
          p.place = {at_end, offset};
          CheckProblem(p);
        }
      }
    }
  }
}

TEST_CASE("channels of every kind of data") {
  struct Shape {
    int64_t batch, channels, spatial;
  };
  for (const Op op : kBatchOps) {
    for (const simdnorm_layout layout : {SIMDNORM_NCHW, SIMDNORM_NHWC}) {
      for (int data = 0; data < kNumData; ++data) {
        for (const float epsilon : {1e-5f, 1e-12f, 0.0f}) {
          for (const Shape& shape :
               {Shape{2, 23, 1}, Shape{4, 23, 37}, Shape{3, 7, 700}, Shape{1, 300, 5}, Shape{2, 6, 5000}}) {
            if (SmallEffort() && shape.batch * shape.channels * shape.spatial > 4000) continue;
            Problem p = BatchProblem(op, shape.batch, shape.channels, shape.spatial, layout);
            p.data = static_cast<Data>(data);
            p.epsilon = epsilon;
            CheckProblem(p);
          }
        }
      }
    }
  }
}

TEST_CASE("a negative epsilon, momentum of any size") {
  for (const simdnorm_layout layout : {SIMDNORM_NCHW, SIMDNORM_NHWC}) {
    for (const Op op : kBatchOps) {
      for (const float epsilon : {-1e-3f, -100.0f}) {
        Problem p = BatchProblem(op, 3, 20, 50, layout);
        p.epsilon = epsilon;
        CheckProblem(p);
      }
    }
    for (const float momentum : {0.0f, 1.0f, 0.01f, -0.5f, 3.0f}) {
      for (const simdnorm_running_variance_kind kind : {SIMDNORM_UNBIASED, SIMDNORM_BIASED}) {
        Problem p = BatchProblem(Op::kBatchNormTraining, 2, 20, 5, layout);
        p.momentum = momentum;
        p.running_variance_kind = kind;
        CheckProblem(p);
      }
    }
  }
}

TEST_CASE("a parameter that is not finite concerns its own channel") {
  for (const Op op : kBatchOps) {
    for (const simdnorm_layout layout : {SIMDNORM_NCHW, SIMDNORM_NHWC}) {
      for (const int64_t spatial : {1, 5, 90}) {
        Tensors tensors(BatchProblem(op, 3, 21, spatial, layout));
        (*tensors.scale)[0] = std::numeric_limits<float>::infinity();
        (*tensors.scale)[17] = FloatOf(0xFFC00001u);
        (*tensors.shift)[3] = FloatOf(0x7F800001u);
        (*tensors.shift)[20] = -std::numeric_limits<float>::infinity();
        if (op == Op::kBatchNormInference) {
          (*tensors.given_mean)[5] = FloatOf(0xFFC00001u);
          (*tensors.given_mean)[6] = std::numeric_limits<float>::infinity();
          (*tensors.given_variance)[7] = FloatOf(0x7F800001u);
          (*tensors.given_variance)[8] = std::numeric_limits<float>::infinity();
          (*tensors.given_variance)[9] = -2;
        }
        CheckTensors(tensors);
      }
    }
  }
}

// rstd * scale, which kernels have as one number, is below and beyond f32's range in channels 3 and 7 of 21. Their results are
// within it, and right; and all other channels have the bits that they have among ordinary ones.
TEST_CASE("a channel whose rstd * scale is no f32 is right, and alone in that") {
  for (const Op op : kBatchOps) {
    for (const simdnorm_layout layout : {SIMDNORM_NCHW, SIMDNORM_NHWC}) {
      for (const int64_t spatial : {1, 5, 49, 90}) {
        Problem p = BatchProblem(op, 6, 21, spatial, layout);
        p.epsilon = 0;
        const auto spread = [](int64_t channel) { return channel == 3 ? 0x1p60f : channel == 7 ? 0x1p-60f : 1.0f; };
        Tensors ordinary(p), extreme(p);
        extreme.ForEachElement([&](int64_t c, int64_t, int64_t at, int64_t) { extreme.x[at] *= spread(c); });
        for (const int64_t c : {3, 7}) {
          (*extreme.scale)[c] = c == 3 ? 0x1p-90f : 0x1p90f;  // with rstd 2^-60 and 2^60
          if (op == Op::kBatchNormInference) {
            (*extreme.given_mean)[c] *= spread(c);
            (*extreme.given_variance)[c] *= spread(c) * spread(c);
          }
        }
        CheckTensors(extreme);
        ordinary.Seal();
        ForEachTarget([&](const char* target) {
          const simdnorm_options options = AllExecutors()[0].Options(target);
          const Outputs without = Run(ordinary, options), with = Run(extreme, options);
          bool unchanged = true;
          ordinary.ForEachElement([&](int64_t c, int64_t, int64_t, int64_t dense) {
            const size_t at = static_cast<size_t>(dense);
            unchanged &= c == 3 || c == 7 || BitsOf(with.y[at]) == BitsOf(without.y[at]);
          });
          CHECK_MESSAGE(unchanged, Describe(p, target));
        });
      }
    }
  }
}

TEST_CASE("one value for each channel gives exactly shift") {
  ForEachTarget([](const char* target) {
    for (const simdnorm_layout layout : {SIMDNORM_NCHW, SIMDNORM_NHWC}) {
      for (const bool running : {false, true}) {
        Problem p = BatchProblem(Op::kBatchNormTraining, 1, 100, 1, layout);
        p.running = running;
        p.running_variance_kind = SIMDNORM_BIASED;
        Tensors tensors(p);
        tensors.Seal();
        const Outputs outputs = Run(tensors, AllExecutors()[0].Options(target));
        CHECK(memcmp(outputs.y.data(), tensors.shift->data(), outputs.y.size() * sizeof(float)) == 0);
      }
    }
  });
}

TEST_CASE("constant channels, and values equal to the given mean, give exactly shift") {
  ForEachTarget([](const char* target) {
    for (const Op op : kBatchOps) {
      for (const simdnorm_layout layout : {SIMDNORM_NCHW, SIMDNORM_NHWC}) {
        Problem p = BatchProblem(op, 3, 35, 107, layout);
        p.data = Data::kConstant;
        Tensors tensors(p);
        tensors.Seal();
        const Outputs outputs = Run(tensors, AllExecutors()[0].Options(target));
        bool exact = true;
        tensors.ForEachElement([&](int64_t item, int64_t, int64_t, int64_t at) {
          exact &= BitsOf(outputs.y[static_cast<size_t>(at)]) == BitsOf((*tensors.shift)[item]);
        });
        CHECK_MESSAGE(exact, Describe(p, target));
      }
    }
  });
}

TEST_CASE("NaN and Inf change no other channel") {
  ForEachTarget([](const char* target) {
    for (const simdnorm_layout layout : {SIMDNORM_NCHW, SIMDNORM_NHWC}) {
      for (const int64_t spatial : {1, 40, 3000}) {
        Problem p = BatchProblem(Op::kBatchNormTraining, 3, 37, SmallEffort() ? spatial / 10 + 1 : spatial, layout);
        Tensors tensors(p);
        const Outputs clean = RunSerial(p, target);
        p.data = Data::kNonFinite;
        const Outputs mixed = RunSerial(p, target);
        bool unchanged = true;
        tensors.ForEachElement([&](int64_t item, int64_t, int64_t, int64_t dense) {
          const size_t at = static_cast<size_t>(dense);
          unchanged &= (BitsOf(clean.y[at]) == BitsOf(mixed.y[at])) == (item % 5 % 3 == 0);
        });
        CHECK_MESSAGE(unchanged, Describe(p, target));
      }
    }
  });
}

TEST_CASE("a size of zero: nothing is written") {
  for (const Op op : kBatchOps) {
    for (const Problem& p : {BatchProblem(op, 0, 5, 5), BatchProblem(op, 5, 0, 5), BatchProblem(op, 5, 5, 0, SIMDNORM_NHWC)}) {
      Tensors tensors(p);
      const Outputs before = tensors.Collect();
      CHECK(SameBits(Run(tensors, AllExecutors()[0].Options(nullptr)), before));
    }
  }
}

// Wide rows of given statistics go by large tiles; some channels' rstd * scale is no f32 and takes a way of its own, far behind
// the first 512 as well.
TEST_CASE("batch norm inference: many channels side by side have the bits that each has alone") {
  constexpr int64_t kRows = 5, kChannels = 3000;
  std::vector<float> x(kRows * kChannels), y(x.size()), scale(kChannels), shift(kChannels), mean(kChannels),
      variance(kChannels);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 37 % 101) * 0.125f;
  for (size_t c = 0; c < kChannels; ++c) {
    scale[c] = 1.5f, shift[c] = 0.25f, mean[c] = static_cast<float>(c % 7), variance[c] = 1 + static_cast<float>(c % 5);
    if (c % 450 == 449) scale[c] = 3e38f, variance[c] = 1e-4f, mean[c] = x[c] + 1e-6f * (x[c] + 1);
  }
  simdnorm_batch_norm_inference_args args = {};
  args.struct_size = sizeof(args);
  args.epsilon = 1e-6f, args.layout = SIMDNORM_NHWC, args.batch = kRows, args.channels = kChannels, args.spatial = 1;
  args.x = x.data(), args.y = y.data(), args.scale = scale.data(), args.shift = shift.data();
  args.mean = mean.data(), args.variance = variance.data();
  ForEachTarget([&](const char* target) {
    CAPTURE(std::string(target));
    const simdnorm_options options = AllExecutors()[0].Options(target);
    REQUIRE(simdnorm_batch_norm_inference(&args, &options) == SIMDNORM_OK);
    size_t huge = 0, different = 0;
    for (size_t c = 0; c < kChannels; ++c) {
      float of_x[kRows], of_y[kRows];
      for (size_t row = 0; row < kRows; ++row) of_x[row] = x[row * kChannels + c];
      simdnorm_batch_norm_inference_args alone = args;
      alone.channels = 1, alone.x = of_x, alone.y = of_y;
      alone.scale = &scale[c], alone.shift = &shift[c], alone.mean = &mean[c], alone.variance = &variance[c];
      REQUIRE(simdnorm_batch_norm_inference(&alone, &options) == SIMDNORM_OK);
      for (size_t row = 0; row < kRows; ++row) {
        different += memcmp(&of_y[row], &y[row * kChannels + c], sizeof(float)) != 0;
        huge += std::fabs(of_y[row]) > 1e30f && std::isfinite(of_y[row]);
      }
    }
    CHECK(different == 0);
    CHECK(huge > 0);  // the way of their own was taken, and mattered
  });
}

}  // namespace
}  // namespace simdnorm_test
