// Group norm and instance norm against the reference: shapes in both layouts, every kind of data, on every target; and against
// what they are the same as: each other, layer norm, one sample alone. What can go around them is in channel_fusions_test.cc.
#include <initializer_list>

#include "channel_reference.h"

namespace simdnorm_test {
namespace {

constexpr simdnorm_layout kLayouts[] = {SIMDNORM_NCHW, SIMDNORM_NHWC};

ChannelProblem GroupProblem(const ChannelShape& shape, simdnorm_layout layout, Data data = Data::kNormal) {
  return MakeProblem(ChannelOp::kGroup, shape, layout, data);
}

// Both layouts, each in one of the ways to call; or instance norm, where it is the same.
void CheckShape(const ChannelShape& shape, Executors executors = Executors::kInTurn) {
  static Choices choices(0);
  for (const simdnorm_layout layout : kLayouts) {
    ChannelProblem p = VaryAtRandom(GroupProblem(shape, layout), choices);
    if (p.groups == p.channels && choices.Coin()) p.op = ChannelOp::kInstance;
    CheckProblem(p, executors);
  }
}

TEST_CASE("numbers of channels and groups by spatial sizes") {
  struct Channels {
    int64_t channels, groups;
  };
  constexpr Channels kChannels[] = {{1, 1},   {3, 1},    {3, 3},     {6, 2},    {16, 4},  {17, 17}, {24, 3},   {33, 11},
                                    {48, 3},  {51, 3},   {64, 32},   {64, 1},   {90, 30}, {256, 1}, {257, 1},  {260, 2},
                                    {264, 3}, {300, 50}, {300, 300}, {512, 64}, {514, 2}, {600, 2}, {600, 300}};
  for (const Channels& c : kChannels) {
    for (const int64_t spatial : {1, 2, 3, 7, 16, 49, 64}) {
      if (SmallEffort() && (c.channels > 64 || spatial > 16)) continue;
      CheckShape({1 + (c.channels + spatial) % 3, c.channels, spatial, c.groups});
    }
  }
}

TEST_CASE("spatial sizes one to 70") {
  for (int64_t spatial = 1; spatial <= 70; ++spatial) {
    CheckShape({2, 6, spatial, 2});
    CheckShape({2, 2, spatial, 2});
    if (!SmallEffort()) CheckShape({1, 34, spatial, 2});
  }
}

TEST_CASE("one to 70 channels in one group, and each in its own") {
  for (int64_t channels = 1; channels <= 70; ++channels) {
    if (SmallEffort() && channels > 40) continue;
    CheckShape({3, channels, 5, 1});
    CheckShape({2, channels, 3, channels});
  }
}

// A group of NCHW is a run, in chunks of 4096 elements; down the rows of NHWC chunks are of 256, and channels come in tiles of
// 512. Where there are more than 64, chunks are merged section by section.
TEST_CASE("groups that end near a border of chunks or tiles") {
  constexpr ChannelShape kShapes[] = {
      {1, 2, 4095, 2},  {2, 1, 4096, 1},  {1, 2, 4097, 2},   {1, 2, 2048, 1},  {2, 4, 2049, 2}, {1, 3, 1365, 1},
      {1, 3, 1366, 1},  {1, 6, 8191, 2},  {1, 2, 8193, 1},   {2, 5, 255, 1},   {1, 18, 256, 2}, {1, 18, 257, 2},
      {1, 4, 511, 2},   {1, 17, 513, 1},  {2, 255, 3, 1},    {1, 256, 17, 2},  {1, 258, 16, 3}, {1, 512, 8, 2},
      {1, 513, 8, 3},   {1, 768, 5, 2},   {1, 1025, 4, 1},   {1, 300, 300, 2}, {3, 32, 784, 8}, {1, 1, 16384, 1},
      {1, 2, 16640, 1}, {1, 4, 70000, 2}, {1, 2, 140000, 1}, {1, 5, 20000, 5},
  };
  for (const ChannelShape& shape : kShapes) {
    if (SmallEffort() && shape.Elements() > 9000) continue;
    CheckShape(shape, Executors::kAll);
  }
}

TEST_CASE("tensors at every address and at either edge of memory") {
  for (const simdnorm_layout layout : kLayouts) {
    for (const bool at_end : {false, true}) {
      for (int64_t offset = 0; offset < 16; ++offset) {
        ChannelProblem p = GroupProblem({2, 38, 11, 2}, layout);
        if (offset % 4 == 3) p.onto = Onto::kX;
        p.place = {at_end, offset};
        CheckProblem(p);
      }
    }
  }
}

TEST_CASE("groups of every kind of data") {
  constexpr ChannelShape kShapes[] = {{2, 46, 1, 23}, {2, 23, 19, 23}, {3, 14, 350, 7}, {1, 300, 5, 10}, {2, 6, 2500, 3}};
  for (const simdnorm_layout layout : kLayouts) {
    for (int data = 0; data < kNumData; ++data) {
      for (const float epsilon : {1e-5f, 1e-12f, 0.0f}) {
        for (const ChannelShape& shape : kShapes) {
          if (SmallEffort() && shape.Elements() > 1000) continue;
          ChannelProblem p = GroupProblem(shape, layout, static_cast<Data>(data));
          p.epsilon = epsilon;
          CheckProblem(p);
        }
      }
    }
  }
}

TEST_CASE("a negative epsilon") {
  for (const simdnorm_layout layout : kLayouts) {
    for (const float epsilon : {-1e-3f, -100.0f}) {
      ChannelProblem p = GroupProblem({3, 20, 50, 4}, layout);
      p.epsilon = epsilon;
      CheckProblem(p);
    }
  }
}

TEST_CASE("a scale or shift that is not finite concerns its own channel") {
  for (const simdnorm_layout layout : kLayouts) {
    for (const int64_t spatial : {1, 5, 90}) {
      ChannelProblem p = GroupProblem({2, 21, spatial, 3}, layout);
      p.scale[0] = kInf;
      p.scale[17] = FloatOf(0xFFC00001u);
      p.shift[3] = FloatOf(0x7F800001u);
      p.shift[20] = -kInf;
      CheckProblem(p);
    }
  }
}

TEST_CASE("constant groups give exactly shift") {
  ForEachTarget([](const char* target) {
    for (const simdnorm_layout layout : kLayouts) {
      for (const ChannelShape& shape : {ChannelShape{2, 36, 107, 12}, {2, 34, 1, 2}, {3, 19, 1, 19}, {1, 280, 20, 2}}) {
        const ChannelProblem p = GroupProblem(shape, layout, Data::kConstant);
        const Outputs outputs = RunSerial(p, target);
        bool exact = true;
        p.ForEachElement([&](int64_t n, int64_t c, int64_t s) {
          exact &= BitsOf(outputs.y[p.At(n, c, s)]) == BitsOf(p.shift[static_cast<size_t>(c)]);
        });
        CHECK_MESSAGE(exact, Describe(p, target));
      }
    }
  });
}

TEST_CASE("NaN and Inf change no other group") {
  ForEachTarget([](const char* target) {
    for (const simdnorm_layout layout : kLayouts) {
      for (const ChannelShape& shape : {ChannelShape{3, 74, 1, 37}, {3, 37, 20, 37}, {2, 36, 400, 12}, {1, 540, 9, 5}}) {
        const Outputs clean = RunSerial(GroupProblem(shape, layout), target);
        const ChannelProblem p = GroupProblem(shape, layout, Data::kNonFinite);
        const Outputs mixed = RunSerial(p, target);
        bool as_expected = true;
        p.ForEachElement([&](int64_t n, int64_t c, int64_t s) {
          const bool finite = p.ItemOf(n, c) % 5 % 3 == 0;
          const uint32_t expected = finite ? BitsOf(clean.y[p.At(n, c, s)]) : kQuietNaN;
          as_expected &= BitsOf(mixed.y[p.At(n, c, s)]) == expected;
        });
        CHECK_MESSAGE(as_expected, Describe(p, target));
      }
    }
  });
}

TEST_CASE("instance norm is group norm with a group for each channel") {
  ForEachTarget([](const char* target) {
    for (const simdnorm_layout layout : kLayouts) {
      for (const Data data : {Data::kNormal, Data::kHuge, Data::kNonFinite}) {
        for (const ChannelShape& shape : {ChannelShape{2, 35, 1, 35}, {3, 19, 49, 19}, {2, 3, 5000, 3}, {1, 270, 6, 270}}) {
          if (SmallEffort() && shape.Elements() > 3000) continue;
          ChannelProblem p = GroupProblem(shape, layout, data);
          const Outputs as_groups = RunSerial(p, target);
          p.op = ChannelOp::kInstance;
          CHECK_MESSAGE(SameBits(RunSerial(p, target), as_groups), Describe(p, target));
        }
      }
    }
  });
}

TEST_CASE("a group of NCHW has the statistics of the same memory as a row of layer norm") {
  ForEachTarget([](const char* target) {
    for (const Data data : {Data::kNormal, Data::kMeanMillion, Data::kHuge, Data::kOutlierEnds}) {
      for (const ChannelShape& shape : {ChannelShape{2, 6, 2, 2}, {3, 34, 49, 2}, {2, 9, 1500, 3}, {1, 5, 9000, 1}}) {
        if (SmallEffort() && shape.Elements() > 4000) continue;
        ChannelProblem p = GroupProblem(shape, SIMDNORM_NCHW, data);
        p.scale.clear();
        p.shift.clear();
        const Outputs groups = RunSerial(p, target);
        Outputs rows;
        rows.y.resize(p.x.size());
        rows.mean.resize(static_cast<size_t>(p.Items()));
        rows.rstd.resize(static_cast<size_t>(p.Items()));
        simdnorm_layer_norm_args args = {};
        args.struct_size = sizeof(args);
        args.epsilon = p.epsilon;
        args.x = p.x.data();
        args.y = rows.y.data();
        args.rows = p.Items();
        args.cols = p.ChannelsPerGroup() * p.spatial;
        args.mean = rows.mean.data();
        args.rstd = rows.rstd.data();
        const simdnorm_options options = AllExecutors()[0].Options(target);
        REQUIRE(simdnorm_layer_norm(&args, &options) == SIMDNORM_OK);
        CHECK_MESSAGE(SameBits(rows.mean, groups.mean), Describe(p, target));
        CHECK_MESSAGE(SameBits(rows.rstd, groups.rstd), Describe(p, target));
      }
    }
  });
}

TEST_CASE("a sample alone has the bits it has in a batch") {
  ForEachTarget([](const char* target) {
    for (const simdnorm_layout layout : kLayouts) {
      for (const Data data : {Data::kNormal, Data::kHuge, Data::kNonFinite}) {
        for (const ChannelShape& shape : {ChannelShape{5, 34, 1, 17}, {3, 40, 49, 4}, {20, 3, 7, 3}, {3, 6, 1700, 2}}) {
          if (SmallEffort() && shape.Elements() > 6000) continue;
          const ChannelProblem p = GroupProblem(shape, layout, data);
          const Outputs together = RunSerial(p, target);
          for (int64_t n = 0; n < p.batch; ++n) {
            const Outputs alone = RunSerial(Slice(p, n, 1, p.spatial), target);
            CHECK_MESSAGE(SameBits(alone, Slice(together, p, n, 1, p.spatial)), Describe(p, target) << ", sample " << n);
          }
        }
      }
    }
  });
}

TEST_CASE("outputs that are left out, addresses and working in place change no bit") {
  ForEachTarget([](const char* target) {
    for (const simdnorm_layout layout : kLayouts) {
      for (const ChannelShape& shape : {ChannelShape{2, 34, 9, 2}, {3, 5, 1, 5}, {1, 270, 30, 3}, {1, 6, 4200, 2}}) {
        if (SmallEffort() && shape.Elements() > 1000) continue;
        const ChannelProblem p = GroupProblem(shape, layout);
        const Outputs expected = RunSerial(p, target);
        for (const unsigned variant : {3u | 4 | 8, 3u | 16 | 64, 3u | 4 | 128}) {
          const ChannelProblem varied = Vary(p, variant);
          CHECK_MESSAGE(SameBits(RunSerial(varied, target).y, expected.y), Describe(varied, target));
        }
      }
    }
  });
}

TEST_CASE("channels that are constant, and f32 does not hold their distances") {
  ForEachTarget([](const char* target) {
    for (const simdnorm_layout layout : kLayouts) {
      for (const int64_t spatial : {1, 20}) {
        std::vector<float> x, y(static_cast<size_t>(4 * spatial));
        for (int64_t i = 0; i < 4 * spatial; ++i) {
          x.push_back((layout == SIMDNORM_NCHW ? i / spatial : i % 4) == 0 ? 3e38f : -3e38f);
        }
        simdnorm_group_norm_args args = {};
        args.struct_size = sizeof(args);
        args.layout = layout;
        args.x = x.data(), args.y = y.data();
        args.batch = args.groups = 1, args.channels = 4, args.spatial = spatial;
        simdnorm_options options = {};
        options.struct_size = sizeof(options);
        options.target = target;
        REQUIRE(simdnorm_group_norm(&args, &options) == SIMDNORM_OK);
        for (size_t i = 0; i < x.size(); ++i) {
          CHECK(static_cast<double>(y[i]) == doctest::Approx(x[i] > 0 ? std::sqrt(3.0) : -std::sqrt(1.0 / 3)).epsilon(1e-6));
        }
      }
    }
  });
}

TEST_CASE("a size of zero: nothing is written") {
  for (const ChannelOp op : {ChannelOp::kGroup, ChannelOp::kInstance}) {
    for (const ChannelShape& shape : {ChannelShape{0, 6, 5, 2}, {5, 0, 5, 2}, {5, 6, 0, 2}}) {
      for (const simdnorm_layout layout : kLayouts) {
        const Outputs outputs = RunSerial(MakeProblem(op, shape, layout), nullptr);
        for (const auto* statistics : {&outputs.mean, &outputs.rstd}) {
          for (const float value : *statistics) CHECK(BitsOf(value) == kCanary);
        }
      }
    }
  }
}

}  // namespace
}  // namespace simdnorm_test
