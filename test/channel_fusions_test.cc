// What can go around batch, group and instance norm: dtypes, residual and activation, lengths and masks, blocked layouts. Much
// of it is the same as a simpler call, and then it has to be the same bits; the rest is checked against the reference.
#include <initializer_list>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "channel_reference.h"

namespace simdnorm_test {
namespace {

constexpr ChannelDtypes kAllF32 = {SIMDNORM_F32, SIMDNORM_F32, SIMDNORM_F32, SIMDNORM_F32};

// Calls visit(op, layout) for every operation in every layout it has.
template <class Visit>
void ForEachOp(const Visit& visit) {
  for (const ChannelOp op : kChannelOps) {
    for (const simdnorm_layout layout : LayoutsOf(op)) visit(op, layout);
  }
}

simdnorm_options SerialOn(const char* target) { return AllExecutors()[0].Options(target); }

// Another executor at each call: for results that have to be the same bits with any.
const ExecutorCase& NextExecutor() {
  static size_t next = 0;
  return AllExecutors()[next++ % AllExecutors().size()];
}

// Checks on every target that `a`'s call gives the bits that `b`'s gives, after `of_a` and `of_b` made the outputs comparable.
template <class OfA, class OfB>
void CheckSameBits(const ChannelProblem& a, const OfA& of_a, const ChannelProblem& b, const OfB& of_b) {
  ChannelTensors a_tensors(a), b_tensors(b);
  ForEachTarget([&](const char* target) {
    const ExecutorCase& executor = NextExecutor();
    const Outputs actual = of_a(a_tensors.Run(executor.Options(target))), expected = of_b(b_tensors.Run(SerialOn(target)));
    const std::string differences = Differences(expected, actual);
    CHECK_MESSAGE(differences.empty(),
                  differences << Describe(a, target, executor.name) << "; compared with " << Describe(b, target));
  });
}

Outputs AsTheyAre(const Outputs& outputs) { return outputs; }

// A third are 0 on average; not the last one, so that something is left.
std::vector<int64_t> RaggedLengths(const ChannelShape& shape) {
  Choices choices(static_cast<uint64_t>(shape.Elements()));
  std::vector<int64_t> lengths;
  for (int64_t n = 0; n < shape.batch; ++n) {
    const auto length = static_cast<int64_t>(choices.Below(static_cast<uint64_t>(shape.spatial)));
    lengths.push_back(choices.Below(3) == 0 && n != shape.batch - 1 ? 0 : length + 1);
  }
  return lengths;
}

// Of eight positions `of_eight` count, on average.
std::vector<uint8_t> RandomMask(const ChannelShape& shape, uint64_t of_eight) {
  Choices choices(of_eight);
  std::vector<uint8_t> mask;
  for (int64_t i = 0; i < shape.batch * shape.spatial; ++i) {
    mask.push_back(choices.Below(8) < of_eight ? static_cast<uint8_t>(1 + choices.Below(255)) : 0);
  }
  return mask;
}

simdnorm_activation AnyActivation(Choices& choices) { return kActivations[choices.Below(kNumActivations)]; }

// Some of the calls with everything at once, others plain; y in a buffer of its own or not, padding zero or untouched.
ChannelProblem WithSomeFusions(ChannelProblem p, Choices& choices) {
  if (choices.Coin()) p = WithResidual(p);
  if (choices.Coin()) p = WithActivation(p, AnyActivation(choices));
  p.onto = choices.Of({Onto::kItsOwn, Onto::kX, p.residual.empty() ? Onto::kX : Onto::kResidual});
  p.padding = choices.Of({SIMDNORM_PADDING_ZERO, SIMDNORM_PADDING_UNTOUCHED});
  return p;
}

ChannelProblem WithSomeDtypes(const ChannelProblem& p, Choices& choices) {
  return WithDtypes(p, {choices.FloatDtype(), choices.FloatDtype(), choices.FloatDtype(), choices.FloatDtype()});
}

// --- Dtypes ---

void CheckDtypes(const ChannelProblem& problem, const ChannelDtypes& dtypes) {
  const ChannelProblem narrow = WithDtypes(problem, dtypes);
  CheckSameBits(narrow, AsTheyAre, WithDtypes(narrow, kAllF32), [&](Outputs outputs) {
    outputs.y = Rounded(outputs.y, dtypes.y);
    return outputs;
  });
}

TEST_CASE("tensors of any dtype give what f32 gives for the same values, rounded once") {
  constexpr ChannelShape kShapes[] = {{2, 18, 37, 3}, {3, 34, 1, 2}, {2, 6, 300, 2}, {1, 272, 9, 17}};
  constexpr Data kKinds[] = {Data::kNormal, Data::kNonFinite, Data::kMeanThousand, Data::kSubnormal, Data::kHuge};
  // Of scale: results within bf16's and f16's range, beyond f16's, and where both have subnormals.
  constexpr float kFactors[] = {1, 0x1p17f, 0x1p-20f, 0x1p-130f};
  Choices choices(1);
  ForEachOp([&](ChannelOp op, simdnorm_layout layout) {
    for (const simdnorm_dtype x_dtype : kFloatDtypes) {
      for (const simdnorm_dtype y_dtype : kFloatDtypes) {
        for (const ChannelShape& shape : kShapes) {
          if (SmallEffort() && (shape.Elements() > 1400 || choices.Below(4) != 0)) continue;
          ChannelProblem p = WithSomeFusions(MakeProblem(op, shape, layout, kKinds[choices.Below(5)]), choices);
          const float factor = kFactors[choices.Below(4)];
          for (float& scale : p.scale) scale *= factor;
          if (choices.Below(4) == 0) p.shift.clear();
          CheckDtypes(p, {x_dtype, y_dtype, choices.FloatDtype(), choices.FloatDtype()});
        }
      }
    }
  });
}

TEST_CASE("16 bits: every tail, at every address") {
  Choices choices(2);
  const auto check = [&](const ChannelShape& shape) {
    ForEachOp([&](ChannelOp op, simdnorm_layout layout) {
      ChannelProblem p = MakeProblem(op, shape, layout);
      p.place = {choices.Coin(), static_cast<int64_t>(choices.Below(32))};
      p.onto = choices.Of({Onto::kItsOwn, Onto::kX});
      const simdnorm_dtype dtype = choices.Of({SIMDNORM_BF16, SIMDNORM_F16});
      CheckDtypes(p, {dtype, dtype, choices.Coin() ? dtype : SIMDNORM_F32, SIMDNORM_F32});
    });
  };
  for (int64_t size = 1; size <= 70; ++size) {
    if (SmallEffort() && size > 20) continue;
    check({2, 3, size, 1});
    if (size <= 40) check({1, size, 3, size});
    if (size <= 40 && !SmallEffort()) check({5, size, 1, 1});
  }
}

TEST_CASE("16 bits across the borders of chunks and tiles") {
  for (const ChannelShape& shape : {ChannelShape{1, 2, 4099, 2}, {2, 3, 1500, 1}, {1, 18, 520, 2}, {1, 520, 10, 4}}) {
    if (SmallEffort() && shape.Elements() > 6000) continue;
    ForEachOp([&](ChannelOp op, simdnorm_layout layout) {
      for (const simdnorm_dtype dtype : {SIMDNORM_BF16, SIMDNORM_F16}) {
        CheckDtypes(WithResidual(MakeProblem(op, shape, layout)), {dtype, dtype, dtype, dtype});
      }
    });
  }
}

// --- Residual and activation ---

TEST_CASE("residuals and activations") {
  Choices choices(3);
  ForEachOp([&](ChannelOp op, simdnorm_layout layout) {
    for (const simdnorm_activation activation : kActivations) {
      for (const bool residual : {false, true}) {
        for (const ChannelShape& shape : {ChannelShape{2, 18, 37, 3}, {3, 34, 1, 2}, {2, 6, 700, 2}, {1, 5, 4100, 1}}) {
          if (SmallEffort() && shape.Elements() > 1400) continue;
          const Data data = choices.Of({Data::kNormal, Data::kNormal, Data::kOutlierEnds});
          ChannelProblem p = VaryAtRandom(WithActivation(MakeProblem(op, shape, layout, data), activation), choices);
          for (float& scale : p.scale) scale *= 8;  // into the activations' tails
          if (residual) p = WithResidual(p);
          if (residual && choices.Below(3) == 0) p.onto = Onto::kResidual;
          CheckProblem(p);
        }
      }
    }
  });
}

// Of what is exact before the activation: mean 0, variance 1 and sums without rounding leave only the activation's own error.
TEST_CASE("activations are as exact as they are alone") {
  for (const simdnorm_layout layout : LayoutsOf(ChannelOp::kInference)) {
    for (const simdnorm_activation activation : kActivations) {
      ChannelProblem p = WithActivation(WithResidual(MakeProblem(ChannelOp::kInference, {2, 18, 60}, layout)), activation);
      p.epsilon = 0;
      p.scale.clear();
      p.shift.clear();
      p.given_mean.assign(p.given_mean.size(), 0.0f);
      p.given_variance.assign(p.given_variance.size(), 1.0f);
      Expectation expected;
      for (size_t i = 0; i < p.x.size(); ++i) {
        p.x[i] = std::round(p.x[i] * 256) / 64;
        p.residual[i] = std::round(p.residual[i] * 64) / 64;
        const Real v = static_cast<Real>(p.x[i]) + static_cast<Real>(p.residual[i]);
        const Real y = Activated(activation, p.activation_slope, v);
        expected.Add(y, ActivationError(activation, p.activation_slope, y, 0));
      }
      ForEachTarget([&](const char* target) {
        const std::string errors = Compare("y", expected.value, expected.bound, RunSerial(p, target).y);
        CHECK_MESSAGE(errors.empty(), errors << Describe(p, target));
      });
    }
  }
}

TEST_CASE("leaky ReLU of any slope") {
  ForEachOp([](ChannelOp op, simdnorm_layout layout) {
    for (const float slope : {0.0f, 1.0f, -2.0f, 100.0f}) {
      ChannelProblem p = WithActivation(MakeProblem(op, {2, 18, 9, 3}, layout), SIMDNORM_LEAKY_RELU);
      p.activation_slope = slope;
      CheckProblem(p);
    }
  });
}

TEST_CASE("what is not finite in a residual concerns its own element") {
  ForEachOp([](ChannelOp op, simdnorm_layout layout) {
    for (const simdnorm_activation activation : {SIMDNORM_NO_ACTIVATION, SIMDNORM_RELU, SIMDNORM_LEAKY_RELU}) {
      ChannelProblem p = WithActivation(WithResidual(MakeProblem(op, {2, 18, 13, 3}, layout)), activation);
      p.residual[0] = FloatOf(0xFFC00001u);
      p.residual[20] = FloatOf(0x7F800001u);
      p.residual[100] = kInf;
      p.residual[467] = -kInf;
      CheckProblem(p);
    }
  });
}

TEST_CASE("statistics do not depend on what follows them") {
  for (const ChannelOp op : {ChannelOp::kTraining, ChannelOp::kGroup, ChannelOp::kInstance}) {
    for (const simdnorm_layout layout : LayoutsOf(op)) {
      for (const ChannelShape& shape : {ChannelShape{2, 18, 37, 3}, {40, 34, 1, 2}, {2, 6, 2500, 2}}) {
        const ChannelProblem plain = MakeProblem(op, shape, layout);
        const auto statistics = [](Outputs outputs) {
          outputs.y.clear();
          return outputs;
        };
        CheckSameBits(WithActivation(WithResidual(plain), SIMDNORM_GELU), statistics, plain, statistics);
      }
    }
  }
}

// --- Lengths and masks ---

// The bits of `p`'s samples [first, first + count) are those of a tensor of these alone, cut to their first `length` positions.
void CheckAgainstCut(const ChannelProblem& p, int64_t first, int64_t count, int64_t length) {
  CheckSameBits(
      p, [&](const Outputs& outputs) { return Slice(outputs, p, first, count, length); }, Slice(p, first, count, length),
      AsTheyAre);
}

constexpr ChannelShape kLengthShapes[] = {{5, 18, 37, 3},  {3, 34, 70, 2},  {3, 6, 1500, 2}, {6, 3, 300, 1},
                                          {2, 270, 20, 3}, {3, 2, 4200, 1}, {2, 2, 700, 1}};

TEST_CASE("samples of equal lengths have the bits of a tensor cut to them") {
  Choices choices(4);
  ForEachOp([&](ChannelOp op, simdnorm_layout layout) {
    for (const ChannelShape& shape : kLengthShapes) {
      if (SmallEffort() && shape.Elements() > 4000) continue;
      for (const int64_t length : {int64_t{1}, shape.spatial / 3, shape.spatial - 1, shape.spatial}) {
        ChannelProblem p = WithSomeFusions(MakeProblem(op, shape, layout), choices);
        if (choices.Coin()) p = WithSomeDtypes(p, choices);
        p.running_variance_kind = SIMDNORM_UNBIASED;
        CheckAgainstCut(WithLengths(p, std::vector<int64_t>(static_cast<size_t>(p.batch), length)), 0, p.batch, length);
      }
    }
  });
}

TEST_CASE("where samples are normalized one by one, each has the bits of itself cut to its length") {
  Choices choices(5);
  for (const ChannelOp op : {ChannelOp::kInference, ChannelOp::kGroup, ChannelOp::kInstance}) {
    for (const simdnorm_layout layout : LayoutsOf(op)) {
      for (const ChannelShape& shape : kLengthShapes) {
        if (SmallEffort() && shape.Elements() > 4000) continue;
        const ChannelProblem p = WithLengths(WithSomeFusions(MakeProblem(op, shape, layout), choices), RaggedLengths(shape));
        for (int64_t n = 0; n < p.batch; ++n) {
          const int64_t length = p.lengths[static_cast<size_t>(n)];
          if (length != 0) CheckAgainstCut(p, n, 1, length);
        }
      }
    }
  }
}

TEST_CASE("what is cut has the bits of a tensor of that size: long ones, and columns of single values") {
  struct Case {
    ChannelOp op;
    simdnorm_layout layout;
    ChannelShape shape;
    int64_t length;
  };
  constexpr Case kCases[] = {
      {ChannelOp::kGroup, SIMDNORM_NCHW, {1, 70, 4100, 1}, 4097},  // more chunks than are merged one by one
      {ChannelOp::kGroup, SIMDNORM_NHWC, {1, 2, 17000, 1}, 16700},
      {ChannelOp::kTraining, SIMDNORM_NCHW, {70, 1, 4100}, 4097},
      {ChannelOp::kTraining, SIMDNORM_NHWC, {1, 2, 17000}, 16700},
      {ChannelOp::kTraining, SIMDNORM_NCHW, {600, 3, 4}, 1},
      {ChannelOp::kTraining, SIMDNORM_NCHW8C, {600, 11, 4}, 1},
      {ChannelOp::kTraining, SIMDNORM_NCHW, {700, 3, 64}, 63},  // short planes, and more chunks of them, too
      {ChannelOp::kTraining, SIMDNORM_NCHW, {70, 18, 70}, 66},  // the same of more channels than go together
  };
  for (const Case& c : kCases) {
    if (SmallEffort() && c.shape.Elements() > 8000) continue;
    for (const Data data : {Data::kNormal, Data::kHuge}) {
      const ChannelProblem p = MakeProblem(c.op, c.shape, c.layout, data);
      const std::vector<int64_t> lengths(static_cast<size_t>(p.batch), c.length);
      CheckAgainstCut(WithLengths(p, lengths), 0, p.batch, c.length);
    }
  }
}

TEST_CASE("batch norm: a sample of length 0 is as if it were not there") {
  for (const simdnorm_layout layout : LayoutsOf(ChannelOp::kTraining)) {
    for (const ChannelShape& shape : {ChannelShape{3, 18, 40}, {3, 3, 5000}, {3, 34, 1}, {23, 5, 32}, {66, 17, 65}}) {
      if (SmallEffort() && shape.Elements() > 4000) continue;
      for (const int64_t empty : {int64_t{0}, shape.batch - 1}) {
        const ChannelProblem p = MakeProblem(ChannelOp::kTraining, shape, layout);
        std::vector<int64_t> lengths(static_cast<size_t>(p.batch), p.spatial);
        lengths[static_cast<size_t>(empty)] = 0;
        CheckAgainstCut(WithLengths(p, lengths), empty == 0 ? 1 : 0, p.batch - 1, p.spatial);
      }
    }
  }
}

TEST_CASE("batch norm in NHWC: samples of any lengths have the bits of their rows one after the other") {
  for (const ChannelShape& shape : kLengthShapes) {
    if (SmallEffort() && shape.Elements() > 4000) continue;
    const ChannelProblem p = WithLengths(MakeProblem(ChannelOp::kTraining, shape, SIMDNORM_NHWC), RaggedLengths(shape));
    // [1, channels, rows that count]
    const auto rows_that_count = [&](const std::vector<float>& values) {
      std::vector<float> rows;
      for (int64_t c = 0; c < p.channels; ++c) {
        for (int64_t n = 0; n < p.batch; ++n) {
          for (int64_t s = 0; s < p.lengths[static_cast<size_t>(n)]; ++s) rows.push_back(values[p.At(n, c, s)]);
        }
      }
      return rows;
    };
    ChannelProblem rows = p;
    rows.batch = 1;
    rows.spatial = p.CountedPositions();
    rows.x = rows_that_count(p.x);
    rows.lengths.clear();
    CheckSameBits(
        p,
        [&](Outputs outputs) {
          outputs.y = rows_that_count(outputs.y);
          return outputs;
        },
        rows, AsTheyAre);
  }
}

TEST_CASE("ragged lengths and masks of every kind") {
  Choices choices(6);
  ForEachOp([&](ChannelOp op, simdnorm_layout layout) {
    for (const ChannelShape& shape :
         {ChannelShape{5, 18, 37, 3}, {4, 34, 1, 2}, {3, 6, 500, 2}, {7, 3, 16, 1}, {2, 270, 9, 3}, {2, 2, 4300, 1}}) {
      if (SmallEffort() && shape.Elements() > 3500) continue;
      const auto plain = [&] { return WithSomeFusions(VaryAtRandom(MakeProblem(op, shape, layout), choices), choices); };
      const size_t positions = static_cast<size_t>(shape.batch * shape.spatial), spatial = static_cast<size_t>(shape.spatial);
      CheckProblem(WithLengths(plain(), RaggedLengths(shape)));
      CheckProblem(WithLengths(plain(), std::vector<int64_t>(static_cast<size_t>(shape.batch), 0)));
      for (const uint64_t of_eight : {1, 4, 7}) CheckProblem(WithMask(plain(), RandomMask(shape, of_eight)));
      CheckProblem(WithMask(plain(), std::vector<uint8_t>(positions, 0)));
      CheckProblem(WithMask(plain(), std::vector<uint8_t>(positions, 1)));
      std::vector<uint8_t> mask(positions, 1);
      std::fill(mask.begin(), mask.begin() + static_cast<int64_t>(spatial), uint8_t{0});  // none of the first sample
      CheckProblem(WithMask(plain(), mask));
      for (size_t i = 0; i < positions; ++i) mask[i] = i % spatial < spatial / 2 ? 255 : 0;  // what lengths could say
      CheckProblem(WithMask(plain(), mask));
      std::fill(mask.begin(), mask.end(), uint8_t{0});
      mask[positions - 1] = 1;  // a single position
      CheckProblem(WithMask(plain(), mask));
    }
  });
}

TEST_CASE("batch norm with lengths: some of the channels that go together need double") {
  ChannelProblem p = MakeProblem(ChannelOp::kTraining, {3, 20, 100}, SIMDNORM_NCHW);
  for (const int64_t c : {3, 17}) {
    for (int64_t n = 0; n < p.batch; ++n) {
      for (int64_t s = 0; s < p.spatial; ++s) p.x[p.At(n, c, s)] *= 1e30f;
    }
  }
  for (const simdnorm_padding padding : {SIMDNORM_PADDING_ZERO, SIMDNORM_PADDING_UNTOUCHED}) {
    p.padding = padding;
    CheckProblem(WithLengths(p, {100, 0, 64}));
    CheckAgainstCut(WithLengths(p, {70, 70, 70}), 0, p.batch, 70);
  }
}

// Runs of up to 600 positions that all count, or do not.
std::vector<uint8_t> MaskOfRuns(const ChannelShape& shape, Choices& choices) {
  std::vector<uint8_t> mask;
  const auto positions = static_cast<size_t>(shape.batch * shape.spatial);
  while (mask.size() < positions) {
    const auto counts = static_cast<uint8_t>(choices.Coin() ? 1 + choices.Below(255) : 0);
    mask.insert(mask.end(), 1 + choices.Below(600), counts);
  }
  mask.resize(positions);
  return mask;
}

TEST_CASE("masks of long runs: pieces that all count, that do not, and some of both") {
  Choices choices(8);
  ForEachOp([&](ChannelOp op, simdnorm_layout layout) {
    for (const ChannelShape& shape : {ChannelShape{3, 4, 1024, 2}, {2, 3, 1500, 1}, {9, 2, 50, 2}, {1, 2, 9000, 1}}) {
      if (SmallEffort() && shape.Elements() > 9000) continue;
      for (int i = 0; i < 4; ++i) {
        ChannelProblem p = WithMask(MakeProblem(op, shape, layout), MaskOfRuns(shape, choices));
        if (i % 2 == 1) p = WithSomeFusions(VaryAtRandom(p, choices), choices);
        CheckProblem(p);
      }
    }
  });
}

TEST_CASE("a mask that says what lengths could has their bits") {
  Choices choices(9);
  ForEachOp([&](ChannelOp op, simdnorm_layout layout) {
    for (const ChannelShape& shape : kLengthShapes) {
      if (SmallEffort() && shape.Elements() > 4000) continue;
      const std::vector<int64_t> equal(static_cast<size_t>(shape.batch), (shape.spatial * 3 + 4) / 5);
      for (const std::vector<int64_t>& lengths : {RaggedLengths(shape), equal}) {
        ChannelProblem p = WithSomeFusions(MakeProblem(op, shape, layout), choices);
        if (choices.Coin()) p = WithSomeDtypes(p, choices);
        std::vector<uint8_t> mask;
        for (const int64_t length : lengths) {
          for (int64_t i = 0; i < shape.spatial; ++i) mask.push_back(i < length ? 7 : 0);
        }
        CheckSameBits(WithMask(p, mask), AsTheyAre, WithLengths(p, lengths), AsTheyAre);
      }
    }
  });
}

TEST_CASE("masks and lengths over every kind of data") {
  Choices choices(7);
  ForEachOp([&](ChannelOp op, simdnorm_layout layout) {
    for (int data = 0; data < kNumData; ++data) {
      for (const float epsilon : {1e-5f, 0.0f}) {
        for (const ChannelShape& shape : {ChannelShape{4, 18, 17, 6}, {3, 7, 700, 7}}) {
          if (SmallEffort() && shape.Elements() > 1500) continue;
          ChannelProblem p = MakeProblem(op, shape, layout, static_cast<Data>(data));
          p.epsilon = epsilon;
          CheckProblem(choices.Coin() ? WithLengths(p, RaggedLengths(shape)) : WithMask(p, RandomMask(shape, 5)));
        }
      }
    }
  });
}

// --- Blocked layouts ---

TEST_CASE("blocked layouts give the bits of NHWC") {
  Choices choices(8);
  const auto check = [&](const ChannelShape& shape) {
    for (const ChannelOp op : {ChannelOp::kInference, ChannelOp::kTraining}) {
      for (const simdnorm_layout layout : {SIMDNORM_NCHW8C, SIMDNORM_NCHW16C}) {
        ChannelProblem p = WithSomeFusions(MakeProblem(op, shape, SIMDNORM_NHWC), choices);
        if (choices.Coin()) p = WithSomeDtypes(p, choices);
        const uint64_t left_out = choices.Below(4);
        if (left_out == 0) p = WithLengths(p, RaggedLengths(shape));
        if (left_out == 1) p = WithMask(p, RandomMask(shape, 6));
        ChannelProblem blocked = p;
        blocked.layout = layout;
        blocked.place = {choices.Coin(), static_cast<int64_t>(choices.Below(16))};
        CheckSameBits(blocked, AsTheyAre, p, AsTheyAre);
      }
    }
  };
  for (int64_t channels = 1; channels <= 40; ++channels) {
    for (const int64_t spatial : {1, 2, 9, 33}) {
      if (!SmallEffort() || channels % 4 == 1) check({2, channels, spatial});
    }
  }
  for (const ChannelShape& shape : {ChannelShape{1, 300, 20}, {1, 20, 257}, {2, 9, 5000}, {300, 17, 3}}) {
    if (!SmallEffort()) check(shape);
  }
}

// --- Bits ---

// Each operation and layout with everything around it, in a few calls.
std::vector<ChannelProblem> MixedProblems(const std::vector<ChannelShape>& shapes, Data data) {
  std::vector<ChannelProblem> problems;
  ForEachOp([&](ChannelOp op, simdnorm_layout layout) {
    for (const ChannelShape& shape : shapes) {
      const ChannelProblem plain = MakeProblem(op, shape, layout, data), added = WithResidual(plain);
      const simdnorm_activation activation =
          kActivations[1 + problems.size() / 5 % (kNumActivations - 1)];  // not the first, none
      problems.push_back(plain);
      problems.push_back(WithActivation(added, activation));
      problems.push_back(WithDtypes(added, {SIMDNORM_BF16, SIMDNORM_F16, SIMDNORM_F32, SIMDNORM_BF16}));
      problems.push_back(WithActivation(WithLengths(plain, RaggedLengths(shape)), SIMDNORM_SILU));
      problems.push_back(WithActivation(WithMask(added, RandomMask(shape, 5)), SIMDNORM_RELU));
    }
  });
  return problems;
}

// Large enough that every executor splits them: by samples, groups, channels, chunks of long ones, rows of channels.
std::vector<ChannelProblem> LargeProblems() {
  if (SmallEffort()) return MixedProblems({{2, 10, 1700, 2}}, Data::kNormal);
  std::vector<ChannelProblem> problems =
      MixedProblems({{6, 48, 170, 12}, {2, 4, 10000, 2}, {2, 700, 40, 7}, {1503, 2, 49, 1}}, Data::kNormal);
  for (ChannelProblem& p : MixedProblems({{1, 2, 40000, 1}}, Data::kHuge)) problems.push_back(std::move(p));
  return problems;
}

TEST_CASE("bits do not depend on executor or number of threads") {
#ifdef _OPENMP
  const int threads_before = omp_get_max_threads();
  omp_set_num_threads(8);
#endif
  constexpr int32_t kThreads[] = {2, 5, 3, 8};
  size_t next = 0;
  for (const ChannelProblem& p : LargeProblems()) {
    next += 2;
    if (SmallEffort() && next % 8 != 0) continue;
    ChannelTensors tensors(p);
    ForEachTarget([&](const char* target) {
      const Outputs serial = tensors.Run(SerialOn(target));
      for (const size_t way : {0, 1}) {
        const int32_t max_threads = kThreads[(next + way) % 4];
        const ExecutorCase& executor = NextExecutor();
        simdnorm_options options = executor.Options(target);
        options.max_threads = max_threads;
        const std::string differences = Differences(serial, tensors.Run(options));
        CHECK_MESSAGE(differences.empty(),
                      differences << Describe(p, target, executor.name) << ", " << max_threads << " threads");
      }
    });
  }
#ifdef _OPENMP
  omp_set_num_threads(threads_before);
#endif
}

TEST_CASE("the caller's floating-point environment changes nothing and stays") {
  ForEachTarget([](const char* target) {
    for (const Data data : {Data::kNormal, Data::kSubnormal}) {
      for (const ChannelProblem& p : MixedProblems({{3, 12, SmallEffort() ? 9 : 50, 4}}, data)) {
        ChannelTensors tensors(p);
        const Outputs expected = tensors.Run(SerialOn(target));
        bool stays = false, same = false;
        {
          const UnusualFloatEnvironment environment;
          same = SameBits(tensors.Run(SerialOn(target)), expected);
          stays = environment.IsStillSet();
        }
        CHECK_MESSAGE(same, Describe(p, target));
        CHECK_MESSAGE(stays, Describe(p, target));
      }
    }
  });
}

}  // namespace
}  // namespace simdnorm_test
