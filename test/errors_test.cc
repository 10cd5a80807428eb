// The error bounds of simdnorm.h, held against two passes in long double on random problems: every operation, dtype and layout,
// sizes 1 to 1e5, means up to 1e7 times the spread, spreads from 1e-30 to 1e30, heavy tails, outliers, sorted data, constant
// runs, subnormals. The worst error seen of every output, without its last rounding (to f32, or to 16 bits), is printed beside
// its bound, in units of what simdnorm.h multiplies.
//
// A problem is its number, and runs on the one of the machine's targets that its number chooses; a failure is run again by
//
//     SIMDNORM_TEST_FIRST_PROBLEM=4711 SIMDNORM_TEST_PROBLEMS=1 simdnorm_test --source-file='*/errors_test.cc'
//
// There are 10^4 of them, 500 where SIMDNORM_TEST_EFFORT=small; SIMDNORM_TEST_PROBLEMS=1000000 is for the record (15 minutes).
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "channel_reference.h"
#include "mixed_problem.h"

namespace simdnorm_test {
namespace {

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* const value = getenv(name);
  return value != nullptr ? strtoll(value, nullptr, 10) : otherwise;
}

// In [0, 1).
double Fraction(Choices& choices) { return static_cast<double>(choices.Below(uint64_t{1} << 32)) * 0x1p-32; }

// Between 2^low and 2^(high + 1), each power of two as often as the other; without libm, whose digits differ.
double Magnitude(Choices& choices, int low, int high) {
  const int exponent = low + static_cast<int>(choices.Below(static_cast<uint64_t>(high - low + 1)));
  return std::ldexp(1 + Fraction(choices), exponent);
}

// How many values share statistics: log-uniform, up to 1000 in 15 of 16 problems and up to 1e5 in one.
int64_t DrawSize(Choices& choices) {
  const bool large = choices.Below(16) == 0;
  return std::min<int64_t>(large ? 100000 : 1000, static_cast<int64_t>(Magnitude(choices, 0, large ? 16 : 9)));
}

enum class Shape {
  kNormal,
  kHeavyTail,         // normal over the square of a uniform number
  kOutlierFirst,      // the first value is up to 1e6 spreads off
  kOutliersAtPivots,  // as far off are all values from which the pivot is taken, and a run from the first
  kLoudStart,         // a run of large values, then so many small ones that sums of squares lose them
  kSorted,
  kConstantRuns,
  kTwoValues,
  kConstant,
};
constexpr uint64_t kNumShapes = 9;

// The values of a problem's items: mean + spread * shape.
struct Distribution {
  Shape shape;
  double mean, spread, outlier;
  int64_t run, stride;
  uint64_t seed;
  float largest;  // that x's dtype holds

  float At(int64_t item, int64_t j, int64_t count) const {
    const double value = mean + spread * Standard(item, j, count);
    return static_cast<float>(std::min(std::max(value, -static_cast<double>(largest)), static_cast<double>(largest)));
  }

 private:
  double Standard(int64_t item, int64_t j, int64_t count) const {
    const auto normal = [&](int64_t i) {
      return static_cast<double>(Normal(Mix(seed + static_cast<uint64_t>(item)) + static_cast<uint64_t>(i)));
    };
    switch (shape) {
      case Shape::kNormal:
        return normal(j);
      case Shape::kHeavyTail: {
        const double uniform = static_cast<double>(Mix(seed ^ static_cast<uint64_t>(j)) >> 40) * 0x1p-24 + 0x1p-12;
        return normal(j) / (uniform * uniform);
      }
      case Shape::kOutlierFirst:
        return j == 0 ? outlier : normal(j);
      case Shape::kOutliersAtPivots:
        return j < run || j == count / 2 || j == count - 1 ? outlier : normal(j);
      case Shape::kLoudStart:
        return (j < run ? outlier : 1) * ((j / stride) % 2 == 0 ? 1 : -1);
      case Shape::kSorted:
        return 4 * (static_cast<double>(j) / static_cast<double>(count) - 0.3);
      case Shape::kConstantRuns:
        return normal(j / run);
      case Shape::kTwoValues:
        return normal(j) < 0 ? -1 : 1;
      case Shape::kConstant:
        return normal(0);
    }
    return 0;
  }
};

// What f16 holds is narrower; what it does not hold becomes its largest number or 0.
Distribution DrawDistribution(Choices& choices, simdnorm_dtype dtype) {
  Distribution d;
  d.shape = static_cast<Shape>(choices.Below(kNumShapes));
  const bool f16 = dtype == SIMDNORM_F16;
  switch (choices.Below(4)) {
    case 0:
      d.spread = f16 ? Magnitude(choices, -20, 8) : Magnitude(choices, -100, 99);
      break;
    case 1:  // subnormal
      d.spread = f16 ? Magnitude(choices, -22, -15) : Magnitude(choices, -146, -127);
      break;
    default:
      d.spread = Magnitude(choices, -3, 3);
      break;
  }
  const double ratio = choices.Coin() ? 0 : std::min(1e7, Magnitude(choices, -3, 23)) * (choices.Coin() ? 1 : -1);
  d.mean = ratio * d.spread;
  const bool loud = d.shape == Shape::kLoudStart;
  d.outlier = Magnitude(choices, loud ? 10 : 1, loud ? 14 : 19) * (choices.Coin() ? 1 : -1);
  d.run = static_cast<int64_t>(Magnitude(choices, 0, 8));
  d.stride = choices.Of<int64_t>({1, 16});
  d.seed = choices.Below(~uint64_t{0});
  d.largest = static_cast<float>(FormatOf(dtype).max);
  return d;
}

// Scale and shift: of size 1, or of sizes far apart.
struct Parameters {
  bool wide;
  uint64_t seed;
  float At(int64_t i, simdnorm_dtype dtype) const {
    const uint64_t s = Mix(seed) + static_cast<uint64_t>(i);
    const float value = Normal(s) * (wide ? std::ldexp(1.0f, static_cast<int>(Mix(s) % 21) - 10) : 1.0f);
    return Rounded(value, dtype);
  }
};

float DrawEpsilon(Choices& choices) { return choices.Of({0.0f, 1e-12f, 1e-5f}); }

// The worst errors so far, each as its share of the bound.
class WorstErrors {
 public:
  struct Seen {
    Real factor = 0, share = 0;
    int64_t problem = -1;
    std::string target;
  };

  // Checks one output of a problem. `bounds` are those of f32, in which `factor` is what simdnorm.h multiplies by the size of
  // the data, and last_rounding that of the result, if it has a term of its own.
  void Check(const std::string& op, simdnorm_dtype dtype, const char* output, Real factor, Real last_rounding,
             const std::vector<Real>& expected, const std::vector<Real>& bounds, const std::vector<float>& actual,
             int64_t problem, const std::string& target) {
    if (actual.empty()) return;
    Seen& worst = seen_[{op, output, dtype}];
    worst.factor = factor;
    std::vector<Real> rounded_bounds = bounds;
    for (size_t i = 0; i < actual.size(); ++i) {
      const Real half_ulp = dtype == SIMDNORM_F32 ? 0 : HalfUlp(dtype, std::fabs(expected[i]) + bounds[i]);
      rounded_bounds[i] += half_ulp;
      const Real last = last_rounding * std::fabs(expected[i]);
      const Real share = (std::fabs(expected[i] - static_cast<Real>(actual[i])) - last - half_ulp) / (bounds[i] - last);
      if (std::isfinite(share) && share > worst.share) worst.share = share, worst.problem = problem, worst.target = target;
    }
    const std::string error = Compare(output, expected, rounded_bounds, actual, dtype);
    CHECK_MESSAGE(error.empty(), "problem " << problem << ": " << error << op << " on " << target);
  }

  void Print() const {
    for (const auto& [key, worst] : seen_) {
      const auto& [op, output, dtype] = key;
      char name[60], figures[120] = "no more than the last rounding";
      std::snprintf(name, sizeof(name), "%-18s %-16s %-4s  ", op.c_str(), output.c_str(), DtypeName(dtype));
      if (worst.problem >= 0) {
        std::snprintf(figures, sizeof(figures), "%.1Le of %.1Le (%.0Lf %%), problem %lld on %s", worst.share * worst.factor,
                      worst.factor, 100 * worst.share, static_cast<long long>(worst.problem), worst.target.c_str());
      }
      MESSAGE(name << figures);
    }
  }

 private:
  using Key = std::tuple<std::string, std::string, simdnorm_dtype>;
  std::map<Key, Seen> seen_;
};

// Executors matter little to errors; the one that splits work most is among them.
simdnorm_options DrawOptions(Choices& choices, const char* target) {
  return AllExecutors()[choices.Below(4) == 0 ? 3 : 0].Options(target);
}

void CheckRows(Op op, Choices& choices, int64_t number, const char* target, WorstErrors& worst) {
  Problem p;
  p.op = op;
  p.cols = DrawSize(choices);
  p.rows = 1 + static_cast<int64_t>(choices.Below(p.cols < 100 ? 5 : 2));
  if (p.cols < 1000 && choices.Below(4) == 0) {
    p.inner = 1 + static_cast<int64_t>(choices.Below(20));
    p.x_view = p.y_view = choices.Of({View::kChannelsFirst, View::kHeads});
  }
  p.x_dtype = choices.FloatDtype();
  p.y_dtype = choices.FloatDtype();
  p.epsilon = DrawEpsilon(choices);
  p.scale = choices.Coin();
  p.shift = choices.Coin();
  const Distribution values = DrawDistribution(choices, p.x_dtype);
  const Parameters scale = {choices.Coin(), choices.Below(~uint64_t{0})}, shift = {choices.Coin(), choices.Below(~uint64_t{0})};
  Tensors tensors(p);
  tensors.ForEachElement([&](int64_t item, int64_t j, int64_t at, int64_t) { tensors.x.Set(at, values.At(item, j, p.cols)); });
  for (int64_t c = 0; c < p.cols; ++c) {
    if (p.scale) tensors.scale->Set(c, scale.At(c, p.scale_dtype));
    if (p.HasShift()) tensors.shift->Set(c, shift.At(c, p.scale_dtype));
  }
  const Expected expected = tensors.Expect();
  const Bounds bounds = BoundsOf(op, expected);
  const Outputs actual = Run(tensors, DrawOptions(choices, target));
  const std::string name = OpName(op);
  const bool rms = op == Op::kRMSNorm;
  worst.Check(name, p.y_dtype, "y", rms ? kRMSNormBound : kItemBound, rms ? 0 : kRounding, expected.y, bounds.y, actual.y,
              number, target);
  worst.Check(name, SIMDNORM_F32, "mean", kMeanBound, kRounding, expected.mean, bounds.mean, actual.mean, number, target);
  worst.Check(name, SIMDNORM_F32, "rstd", kRstdBound, 0, expected.rstd, bounds.rstd, actual.rstd, number, target);
}

ChannelShape DrawChannelShape(ChannelOp op, Choices& choices) {
  const int64_t size = DrawSize(choices), few = 1 + static_cast<int64_t>(choices.Below(size < 200 ? 40 : 3));
  const auto part_of = [&](int64_t whole) {
    return 1 + static_cast<int64_t>(choices.Below(static_cast<uint64_t>(std::min<int64_t>(whole, 64))));
  };
  const int64_t part = part_of(size), rest = (size + part - 1) / part;
  if (IsBatchNorm(op)) return choices.Coin() ? ChannelShape{part, few, rest} : ChannelShape{rest, few, part};
  if (op == ChannelOp::kInstance) return {1 + static_cast<int64_t>(choices.Below(2)), few, size};
  const int64_t groups = 1 + static_cast<int64_t>(choices.Below(size < 200 ? 10 : 2));
  return {1 + static_cast<int64_t>(choices.Below(2)), groups * part, rest, groups};
}

void CheckChannels(ChannelOp op, Choices& choices, int64_t number, const char* target, WorstErrors& worst) {
  ChannelProblem p;
  static_cast<ChannelShape&>(p) = DrawChannelShape(op, choices);
  p.op = op;
  const std::vector<simdnorm_layout> layouts = LayoutsOf(op);
  p.layout = layouts[choices.Below(layouts.size())];
  p.x_dtype = choices.FloatDtype();
  p.y_dtype = choices.FloatDtype();
  p.epsilon = DrawEpsilon(choices);
  const Distribution values = DrawDistribution(choices, p.x_dtype);
  const int64_t count = p.Elements() / p.Items(), per_item = IsBatchNorm(op) ? p.spatial : count;
  p.x.resize(static_cast<size_t>(p.Elements()));
  p.ForEachElement([&](int64_t n, int64_t c, int64_t s) {
    const int64_t j = IsBatchNorm(op) ? n * per_item + s : c % p.ChannelsPerGroup() * p.spatial + s;
    p.x[p.At(n, c, s)] = Rounded(values.At(p.ItemOf(n, c), j, count), p.x_dtype);
  });
  const bool has_scale = choices.Coin(), has_shift = choices.Coin();
  const Parameters scale = {choices.Coin(), choices.Below(~uint64_t{0})}, shift = {choices.Coin(), choices.Below(~uint64_t{0})};
  for (int64_t c = 0; c < p.channels; ++c) {
    if (has_scale) p.scale.push_back(scale.At(c, p.scale_dtype));
    if (has_shift) p.shift.push_back(shift.At(c, p.scale_dtype));
    if (op == ChannelOp::kTraining) {
      p.running_mean.push_back(Normal(Seed(6, c, number)));
      p.running_variance.push_back(std::fabs(Normal(Seed(7, c, number))));
    }
    if (op == ChannelOp::kInference) {  // near the data's, where x - mean cancels
      p.given_mean.push_back(values.At(c, choices.Below(2), count));
      const double spread = std::min(std::max(values.spread, 0x1p-70), 0x1p62);
      p.given_variance.push_back(static_cast<float>(spread * spread * (0.5 + Fraction(choices))));
    }
  }
  if (op == ChannelOp::kTraining && count != 1) p.running_variance_kind = choices.Of({SIMDNORM_UNBIASED, SIMDNORM_BIASED});
  const ChannelExpected expected = Reference(p);
  const Outputs actual = Run(p, DrawOptions(choices, target));
  constexpr const char* kNames[] = {"BatchNormInference", "BatchNormTraining", "GroupNorm", "InstanceNorm"};
  const auto check = [&](simdnorm_dtype dtype, const char* output, Real factor, Real last_rounding,
                         const Expectation& should_be, const std::vector<float>& is) {
    worst.Check(kNames[static_cast<int>(op)], dtype, output, factor, last_rounding, should_be.value, should_be.bound, is,
                number, target);
  };
  check(p.y_dtype, "y", op == ChannelOp::kInference ? kInferenceBound : kItemBound, kRounding, expected.y, actual.y);
  check(SIMDNORM_F32, "mean", kMeanBound, kRounding, expected.mean, actual.mean);
  check(SIMDNORM_F32, "rstd", kRstdBound, 0, expected.rstd, actual.rstd);
  check(SIMDNORM_F32, "running_mean", kMeanBound, kRounding, expected.running_mean, actual.running_mean);
  check(SIMDNORM_F32, "running_variance", kVarianceBound, kRounding, expected.running_variance, actual.running_variance);
}

// Folding has no target.
void CheckFold(Choices& choices, int64_t number, WorstErrors& worst) {
  simdnorm_fold_batch_norm_args args = {};
  args.struct_size = sizeof(args);
  args.epsilon = DrawEpsilon(choices);
  args.position = choices.Of({SIMDNORM_FOLD_INTO_PRECEDING, SIMDNORM_FOLD_INTO_FOLLOWING});
  args.transposed = choices.Coin() ? 1 : 0;
  args.groups = 1 + static_cast<int64_t>(choices.Below(3));
  args.out_channels = args.groups * (1 + static_cast<int64_t>(choices.Below(10)));
  args.in_channels = args.groups * (1 + static_cast<int64_t>(choices.Below(10)));
  args.kernel = choices.Of<int64_t>({1, 3, 9, 49});
  const int64_t channels = args.position == SIMDNORM_FOLD_INTO_PRECEDING ? args.out_channels : args.in_channels;
  // Means and shifts of sizes far apart, so that sums cancel.
  const auto draw = [&](int64_t count) {
    const Parameters parameters = {choices.Coin(), choices.Below(~uint64_t{0})};
    std::vector<float> values;
    for (int64_t i = 0; i < count; ++i) values.push_back(parameters.At(i, SIMDNORM_F32));
    return values;
  };
  const std::vector<float> mean = draw(channels), scale = draw(channels), shift = draw(channels),
                           bias = draw(args.out_channels);
  const std::vector<float> weight = draw(args.out_channels * args.in_channels / args.groups * args.kernel);
  std::vector<float> variance = draw(channels), folded_weight(weight.size()), folded_bias(bias.size());
  for (float& v : variance) v = std::fabs(v) + 0x1p-30f;
  args.mean = mean.data();
  args.variance = variance.data();
  if (choices.Coin()) args.scale = scale.data();
  if (choices.Coin()) args.shift = shift.data();
  if (choices.Coin()) args.bias = bias.data();
  args.weight = weight.data();
  args.folded_weight = folded_weight.data();
  args.folded_bias = folded_bias.data();
  CHECK(simdnorm_fold_batch_norm(&args, nullptr) == SIMDNORM_OK);
  const ExpectedFold expected = Reference(args);
  std::vector<Real> weight_bounds, bias_bounds;
  for (const Real w : expected.weight) weight_bounds.push_back(kRounding * std::fabs(w) + kSmallest);
  for (size_t o = 0; o < expected.bias.size(); ++o) {
    bias_bounds.push_back(FoldedBiasBound(expected.bias[o], expected.terms[o], expected.num_terms));
  }
  const std::string name = "FoldBatchNorm";
  worst.Check(name, SIMDNORM_F32, "weight", kRounding, 0, expected.weight, weight_bounds, folded_weight, number, "any target");
  worst.Check(name, SIMDNORM_F32, "bias", kRounding, 0, expected.bias, bias_bounds, folded_bias, number, "any target");
}

void CheckNumber(int64_t number, const char* target, WorstErrors& worst) {
  Choices choices(Mix(static_cast<uint64_t>(number)));
  switch (choices.Below(7)) {
    case 0:
      return CheckRows(Op::kLayerNorm, choices, number, target, worst);
    case 1:
      return CheckRows(Op::kRMSNorm, choices, number, target, worst);
    case 2:
      return CheckFold(choices, number, worst);
    default:
      return CheckChannels(kChannelOps[choices.Below(4)], choices, number, target, worst);
  }
}

TEST_CASE("random problems are within the stated bounds") {
  const int64_t first = FromEnvironment("SIMDNORM_TEST_FIRST_PROBLEM", 0);
  const int64_t count = FromEnvironment("SIMDNORM_TEST_PROBLEMS", SmallEffort() ? 500 : 10000);
  REQUIRE(count > 0);
  std::vector<const char*> targets;
  ForEachTarget([&](const char* target) { targets.push_back(target); });
  WorstErrors worst;
  for (int64_t number = first; number < first + count; ++number) {
    CheckNumber(number, targets[static_cast<size_t>(number) % targets.size()], worst);
  }
  MESSAGE(count << " problems from " << first);
  worst.Print();
}

// 2^24 + 3 numbers within 1/4 of `offset`: more than f32 can count, and a float's running sum of them is off by a tenth.
constexpr int64_t kMany = (int64_t{1} << 24) + 3;
float NearOffset(float offset, int64_t i) {
  const auto mixed = static_cast<uint32_t>(static_cast<uint64_t>(i) * 2654435761u);
  return offset + (static_cast<float>(mixed >> 8) * 0x1p-24f - 0.5f) * 0.5f;
}

// One row or channel of many, in place, on every target; `channels` lie side by side and hold the same numbers from different
// first ones on.
template <class Args, class CallWith>
void CheckMany(Args args, int64_t channels, float offset, const CallWith& call) {
  struct Statistics {
    Real mean = 0, variance = 0, rstd = 0, largest = 0;
  };
  std::vector<Statistics> of(static_cast<size_t>(channels));
  const auto value = [&](int64_t c, int64_t j) { return NearOffset(offset, j + 1000 * c); };
  for (int64_t c = 0; c < channels; ++c) {
    auto& [mean, variance, rstd, largest] = of[static_cast<size_t>(c)];
    for (int64_t j = 0; j < kMany; ++j) mean += static_cast<Real>(value(c, j));
    mean /= kMany;
    for (int64_t j = 0; j < kMany; ++j) {
      const Real deviation = static_cast<Real>(value(c, j)) - mean;
      variance += deviation * deviation;
      largest = std::max(largest, std::fabs(deviation));
    }
    variance /= kMany;
    rstd = 1 / std::sqrt(variance + static_cast<Real>(args.epsilon));
    largest *= rstd;
  }
  std::vector<float> y(static_cast<size_t>(kMany * channels)), mean(of.size()), rstd(of.size());
  args.x = args.y = y.data();
  args.mean = mean.data();
  args.rstd = rstd.data();
  ForEachTarget([&](const char* target) {
    for (size_t i = 0; i < y.size(); ++i) y[i] = value(static_cast<int64_t>(i) % channels, static_cast<int64_t>(i) / channels);
    const simdnorm_options options = AllExecutors()[1].Options(target);
    CHECK(call(&args, &options) == SIMDNORM_OK);
    int64_t beyond = 0;
    for (size_t i = 0; i < y.size(); ++i) {
      const int64_t c = static_cast<int64_t>(i) % channels;
      const Statistics& channel = of[static_cast<size_t>(c)];
      const Real exact = (static_cast<Real>(value(c, static_cast<int64_t>(i) / channels)) - channel.mean) * channel.rstd;
      beyond += !IsWithin(exact, y[i], ItemError(channel.largest, channel.rstd, 1) + LastError(exact));
    }
    CHECK_MESSAGE(beyond == 0, beyond << " of y beyond their bounds on " << std::string(target));
    for (size_t c = 0; c < of.size(); ++c) {
      CHECK(IsWithin(of[c].mean, mean[c], MeanBound(of[c].mean, std::sqrt(of[c].variance))));
      CHECK(IsWithin(of[c].rstd, rstd[c], kRstdBound * of[c].rstd));
    }
  });
}

TEST_CASE("a row and channels of 2^24 + 3 values around -1e4") {
  if (SmallEffort()) return;
  simdnorm_layer_norm_args row = {};
  row.struct_size = sizeof(row);
  row.epsilon = 1e-5f;
  row.rows = 1;
  row.cols = kMany;
  for (const float offset : {-1e4f, 3.0f}) CheckMany(row, 1, offset, simdnorm_layer_norm);
  simdnorm_batch_norm_training_args channels = {};
  channels.struct_size = sizeof(channels);
  channels.epsilon = 1e-5f;
  channels.batch = 1;
  channels.spatial = kMany;
  channels.channels = 1;
  CheckMany(channels, 1, -1e4f, simdnorm_batch_norm_training);
  channels.layout = SIMDNORM_NHWC;
  channels.channels = 2;
  CheckMany(channels, 2, -1e4f, simdnorm_batch_norm_training);
}

}  // namespace
}  // namespace simdnorm_test
