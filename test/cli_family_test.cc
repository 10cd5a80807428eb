// The command line's flags for what can go around a normalization (fusions, quantized output, padding, axes), and group norm,
// instance norm, blocked layouts and fold-batch-norm: that they reach the right argument, and what is refused.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "cli.h"

namespace simdnorm_test {
namespace {

TEST_CASE("cli: --residual, --bias and h") {
  const Workplace w;
  w.Put("r.npy", {2, 3, 4}, -0.75f, 2);
  const std::vector<double> x = Values(w.Get("x.npy")), r = Values(w.Get("r.npy")), bias = Values(w.Get("shift4.npy"));
  for (const bool rms : {false, true}) {
    const std::string op = rms ? "rms-norm " : "layer-norm ", files = op + "--input x.npy --output y.npy ";
    CheckOk(w, files + "--residual r.npy --bias shift4.npy --save-h h.npy");
    const std::vector<double> h = Sum(Sum(x, r), bias);
    CheckNear(w.Get("h.npy"), {2, 3, 4}, h);
    CheckNear(w.Get("y.npy"), {2, 3, 4}, Normalize(h, 4, rms));

    CheckOk(w, files + "--residual r.npy --residual-order after --bias shift4.npy --save-h h.npy");
    CheckNear(w.Get("h.npy"), {2, 3, 4}, Sum(x, bias));
    CheckNear(w.Get("y.npy"), {2, 3, 4}, Sum(Normalize(Sum(x, bias), 4, rms), r));

    CheckOk(w, files + "--residual r.npy --residual-order before --axis 1");
    CheckNear(w.Get("y.npy"), {2, 3, 4}, Normalize(Sum(x, r), 12, rms));
  }

  // 1/3 apart, so that f16 has to round h.
  w.Put("x16.npy", {2, 3, 4}, x, npy::Dtype::kF16);
  w.Put("thirds.npy", {2, 3, 4}, 1 / 3.0f);
  const std::vector<double> h = Sum(x, Values(w.Get("thirds.npy"))),
                            rounded = Map(
                                h, [](double v) { return static_cast<double>(Rounded(static_cast<float>(v), SIMDNORM_F16)); });
  const std::string files = "rms-norm --input x16.npy --residual thirds.npy --save-h h.npy --output y.npy --output-dtype f32";
  CheckOk(w, files);
  CheckNear(w.Get("h.npy"), {2, 3, 4}, h, npy::Dtype::kF16);
  CheckNear(w.Get("y.npy"), {2, 3, 4}, Normalize(h, 4, true));
  CheckOk(w, files + " --round-h");
  CHECK(Values(w.Get("h.npy")) == rounded);
  CheckNear(w.Get("y.npy"), {2, 3, 4}, Normalize(rounded, 4, true));
}

TEST_CASE("cli: --activation, --gate and --scale-offset") {
  const Workplace w;
  w.Put("g.npy", {2, 3, 4}, 0.25f, -3);
  const std::vector<double> x = Values(w.Get("x.npy")), gate = Values(w.Get("g.npy"));
  const std::pair<const char*, std::function<double(double)>> activations[] = {
      {"none", [](double v) { return v; }},
      {"relu", [](double v) { return std::max(v, 0.0); }},
      {"leaky-relu", [](double v) { return v >= 0 ? v : 0.01 * v; }},
      {"leaky-relu --activation-slope -0.5", [](double v) { return v >= 0 ? v : -0.5 * v; }},
      {"silu", SiLU},
      {"gelu", [](double v) { return v * (1 + std::erf(v / std::sqrt(2))) / 2; }},
      {"gelu-tanh", [](double v) { return v * (1 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v))) / 2; }},
  };
  for (const auto& activation : activations) {
    CheckOk(w, std::string("layer-norm --input x.npy --output y.npy --activation ") + activation.first);
    const std::vector<double> y = Map(Normalize(x, 4, false), activation.second);
    CheckNear(w.Get("y.npy"), {2, 3, 4}, y);
    CheckOk(w, std::string("layer-norm --input x.npy --output y.npy --gate g.npy --activation ") + activation.first);
    CheckNear(w.Get("y.npy"), {2, 3, 4}, Map(y, gate, [](double v, double g) { return v * SiLU(g); }));
  }
  CheckOk(w, "rms-norm --input x.npy --output y.npy --scale scale4.npy --scale-offset 1");
  CheckNear(w.Get("y.npy"), {2, 3, 4},
            Map(Normalize(x, 4, true), Values(w.Get("scale4.npy")), [](double v, double s) { return v * (1 + s); }));
}

TEST_CASE("cli: --scale and --shift of groups of rows") {
  const Workplace w;
  const std::vector<double> x = Values(w.Get("x.npy")), v = Normalize(x, 4, false), square = Normalize(x, 4, true);
  w.Put("s.npy", {2, 4}, 0.5f, 1);
  w.Put("s1.npy", {2, 1, 4}, 0.5f, 1);
  w.Put("b.npy", {2, 4}, 0.25f, -1);
  w.Put("s23.npy", {2, 3, 4}, 0.5f, 1);
  w.Put("s11.npy", {1, 1, 4}, 0.5f, 1);
  // Element i of x has element i / 12 * 4 + i % 4 of these: each sample's own.
  const auto of_samples = [](const std::vector<double>& values) {
    std::vector<double> all;
    for (size_t i = 0; i < 24; ++i) all.push_back(values[i / 12 * 4 + i % 4]);
    return all;
  };
  const std::vector<double> scale = of_samples(Values(w.Get("s.npy"))), shift = of_samples(Values(w.Get("b.npy")));
  const auto product = [](const std::vector<double>& a, const std::vector<double>& b) {
    return Map(a, b, std::multiplies<>());
  };

  for (const std::string own : {"s.npy", "s1.npy"}) {
    CheckOk(w, "layer-norm --input x.npy --output y.npy --shift b.npy --scale " + own);
    CheckNear(w.Get("y.npy"), {2, 3, 4}, Sum(product(v, scale), shift));
    CheckOk(w, "rms-norm --input x.npy --output y.npy --scale " + own);
    CheckNear(w.Get("y.npy"), {2, 3, 4}, product(square, scale));
  }
  CheckOk(w, "layer-norm --input x.npy --output y.npy --shift b.npy");
  CheckNear(w.Get("y.npy"), {2, 3, 4}, Sum(v, shift));
  CheckOk(w, "layer-norm --input x.npy --output y.npy --scale s23.npy");
  CheckNear(w.Get("y.npy"), {2, 3, 4}, product(v, Values(w.Get("s23.npy"))));
  CheckOk(w, "layer-norm --input x.npy --output y.npy --scale s11.npy --shift shift4.npy");
  CheckOk(w, "layer-norm --input x.npy --output all.npy --scale scale4.npy --shift shift4.npy");
  CHECK(Slurp(w / "y.npy") == Slurp(w / "all.npy"));

  w.Put("x22.npy", {2, 2, 3}, 1);
  w.Put("s22.npy", {2, 2}, 0.5f, 1);
  CheckOk(w, "rms-norm --input x22.npy --output y.npy --axis 1 --axes 1 --scale s22.npy");
  CheckOk(w, "rms-norm --input x22.npy --output plain.npy --axis 1 --axes 1");
  const std::vector<double> plain = Values(w.Get("plain.npy")), s22 = Values(w.Get("s22.npy"));
  std::vector<double> scaled;
  for (size_t i = 0; i < 12; ++i) scaled.push_back(plain[i] * s22[i / 3]);
  CheckNear(w.Get("y.npy"), {2, 2, 3}, scaled);
  w.Put("none.npy", {2, 0, 4}, 1);
  CheckOk(w, "rms-norm --input none.npy --output y.npy --scale s.npy");

  w.Put("s34.npy", {3, 4}, 1);
  w.Put("s134.npy", {1, 3, 4}, 1);
  w.Put("deep.npy", {1, 2, 3, 4}, 1);
  const std::string refused = "layer-norm --input x.npy --output y2.npy ";
  CheckRefused(w, refused + "--scale s34.npy", {"--scale", "(3, 4)", "(2, 4)"});
  CheckRefused(w, refused + "--shift s134.npy", {"--shift", "(1, 3, 4)", "(2, 3, 4)"});
  CheckRefused(w, refused + "--scale deep.npy", {"--scale", "(1, 2, 3, 4)", "(4,)"});
  CheckRefused(w, refused + "--axis 1 --scale s34.npy --shift b.npy", {"--shift", "(2, 4)", "(3, 4)"});
  CheckRefused(w, refused + "--scale s.npy --shift shift4.npy", {"--scale", "(2, 4)", "--shift", "(4,)"});
  CheckRefused(w, refused + "--scale s.npy --shift s23.npy", {"--scale", "(2, 4)", "--shift", "(2, 3, 4)"});
}

// q is v / factor + zero_point as rounded and clamped. Rounding in f32 may take the other side of a tie.
void CheckQuantized(double q, double v, double factor, double zero_point, double low, double high) {
  const double exact = std::min(std::max(v / factor + zero_point, low), high);
  CHECK(q == std::nearbyint(q));
  CHECK(std::abs(q - exact) <= 0.5001);
}

TEST_CASE("cli: --quantize") {
  const Workplace w;
  w.Put("wide.npy", {2, 3, 64}, 1);
  w.Put("r.npy", {2, 3, 64}, -0.75f, 2);
  const std::vector<double> v = Normalize(Sum(Values(w.Get("wide.npy")), Values(w.Get("r.npy"))), 64, true);
  const std::string files = "rms-norm --input wide.npy --residual r.npy --output y.npy ";

  struct Static {
    const char* arguments;
    npy::Dtype dtype;
    double zero_point, low, high;
  };
  for (const Static& c : {Static{"--quantize i8", npy::Dtype::kI8, 0, -128, 127},
                          {"--quantize i8 --zero-point -100", npy::Dtype::kI8, -100, -128, 127},
                          {"--quantize i8 --zero-point 127", npy::Dtype::kI8, 127, -128, 127},
                          {"--quantize u8 --zero-point 130", npy::Dtype::kU8, 130, 0, 255},
                          {"--quantize u8", npy::Dtype::kU8, 0, 0, 255},
                          {"--quantize u8 --zero-point 255", npy::Dtype::kU8, 255, 0, 255}}) {
    CheckOk(w, files + "--quant-scale 0.01 " + c.arguments);
    const npy::Array y = w.Get("y.npy");
    CHECK(y.shape == npy::Shape{2, 3, 64});
    REQUIRE(y.dtype == c.dtype);
    const std::vector<double> q = Values(y);
    for (size_t i = 0; i < v.size(); ++i) CheckQuantized(q[i], v[i], 0.01, c.zero_point, c.low, c.high);
  }

  const auto largest = [&](size_t begin, size_t count) {
    double out = 0;
    for (size_t i = begin; i < begin + count; ++i) out = std::max(out, std::abs(v[i]));
    return out;
  };
  CheckOk(w, files + "--quantize i8-rows --save-quant-scales q.npy");
  std::vector<double> factors;
  for (size_t row = 0; row < 6; ++row) factors.push_back(largest(64 * row, 64) / 127);
  CheckNear(w.Get("q.npy"), {2, 3, 1}, factors);
  const npy::Array rows = w.Get("y.npy");
  REQUIRE(rows.dtype == npy::Dtype::kI8);
  for (size_t i = 0; i < v.size(); ++i) CheckQuantized(rows.as<int8_t>()[i], v[i], factors[i / 64], 0, -127, 127);

  CheckOk(w, files + "--quantize q8_0");
  const npy::Array blocks = w.Get("y.npy");
  CHECK(blocks.shape == npy::Shape{2, 3, 68});
  REQUIRE(blocks.dtype == npy::Dtype::kU8);
  for (size_t b = 0; b < 12; ++b) {
    simdnorm_q8_0 block;
    std::memcpy(&block, blocks.as<uint8_t>() + 34 * b, 34);
    const double factor = largest(32 * b, 32) / 127;
    CHECK(FromF16(block.d) == doctest::Approx(factor).epsilon(5e-4));
    for (size_t i = 0; i < 32; ++i) CheckQuantized(block.q[i], v[32 * b + i], factor, 0, -127, 127);
  }

  const std::string refused = "rms-norm --input wide.npy --output y2.npy ";
  CheckRefused(w, refused + "--quantize i8", {"--quant-scale", "i8-rows"});
  CheckRefused(w, refused + "--quantize u8 --zero-point 1", {"--quant-scale"});
  CheckRefused(w, refused + "--quantize i8 --quant-scale 0", {"--quant-scale", "0"});
  CheckRefused(w, refused + "--quantize i8 --quant-scale -1", {"--quant-scale", "-1"});
  CheckRefused(w, refused + "--quantize i8 --quant-scale nan", {"quant_scale", "nan"});
  for (const std::string range : {"i8 --zero-point 128", "i8 --zero-point -129", "u8 --zero-point 256", "u8 --zero-point -1"}) {
    CheckRefused(w, refused + "--quant-scale 1 --quantize " + range, {Split(range)[2], "--zero-point", Split(range)[0]});
  }
  CheckRefused(w, refused + "--quantize i8-rows", {"--save-quant-scales"});
  CheckRefused(w, refused + "--quantize i8-rows --quant-scale 1 --save-quant-scales q2.npy", {"--quant-scale"});
  CheckRefused(w, refused + "--quantize q8_0 --zero-point 1", {"--zero-point"});
  CheckRefused(w, refused + "--quantize q8_0 --save-quant-scales q2.npy", {"--save-quant-scales"});
  CheckRefused(w, refused + "--quant-scale 1", {"--quantize"});
  CheckRefused(w, refused + "--zero-point 1", {"--quantize"});
  CheckRefused(w, refused + "--save-quant-scales q2.npy", {"--quantize"});
  CheckRefused(w, refused + "--quantize i8 --quant-scale 1 --output-dtype f16", {"--quantize", "--output-dtype"});
  CheckRefused(w, refused + "--quantize i4", {"--quantize", "i4"});
  CheckRefused(w, "rms-norm --input x.npy --output y2.npy --quantize q8_0", {"32", "(4,)"});
}

TEST_CASE("cli: --lengths of sequences of rows") {
  const Workplace w;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> x = Values(w.Get("x.npy"));
  for (size_t i = 4; i < 12; ++i) x[i] = nan;  // padding: the last two rows of the first sequence
  w.Put("padded.npy", {2, 3, 4}, x, npy::Dtype::kF32);
  w.Put("r.npy", {2, 3, 4}, 0.5f);
  w.PutIntegers<int64_t>("lengths8.npy", {2}, npy::Dtype::kI64, {1, 3});
  w.PutIntegers<int32_t>("lengths4.npy", {2}, npy::Dtype::kI32, {1, 3});
  const std::vector<double> h = Sum(x, Values(w.Get("r.npy"))), y = Normalize(h, 4, false);
  const auto with_padding = [](std::vector<double> values, double zero, int64_t cols) {
    std::fill_n(values.begin() + cols, 2 * cols, zero);
    return values;
  };
  std::vector<double> means;
  for (size_t row = 0; row < 6; ++row) means.push_back(Measure({h.begin() + 4 * row, h.begin() + 4 * row + 4}).mean);

  const std::string files =
      "layer-norm --input padded.npy --residual r.npy --output y.npy --save-h h.npy --save-mean m.npy --lengths ";
  for (const char* zero : {"lengths8.npy", "lengths4.npy", "lengths8.npy --padding zero"}) {
    CheckOk(w, files + zero);
    CheckNear(w.Get("y.npy"), {2, 3, 4}, with_padding(y, 0, 4));
    CheckNear(w.Get("h.npy"), {2, 3, 4}, with_padding(h, 0, 4));
    CheckNear(w.Get("m.npy"), {2, 3, 1}, with_padding(means, 0, 1));
  }
  CheckOk(w, files + "lengths8.npy --padding untouched");
  CheckNear(w.Get("y.npy"), {2, 3, 4}, with_padding(y, nan, 4));
  CheckNear(w.Get("h.npy"), {2, 3, 4}, with_padding(h, nan, 4));
  CheckNear(w.Get("m.npy"), {2, 3, 1}, with_padding(means, nan, 1));

  const std::string refused = "layer-norm --input x.npy --output y2.npy ";
  w.Put("lengths_f4.npy", {2}, 1);
  w.PutIntegers<int64_t>("long.npy", {2}, npy::Dtype::kI64, {1, 4});
  w.PutIntegers<int32_t>("negative.npy", {2}, npy::Dtype::kI32, {1, -1});
  w.PutIntegers<int64_t>("three.npy", {3}, npy::Dtype::kI64, {1, 1, 1});
  CheckRefused(w, refused + "--padding zero", {"--padding", "--lengths"});
  CheckRefused(w, refused + "--lengths lengths8.npy --padding ones", {"--padding", "ones"});
  CheckRefused(w, refused + "--lengths lengths8.npy --axis 0", {"--lengths", "--axis"});
  CheckRefused(w, refused + "--lengths three.npy", {"--lengths", "(3,)", "(2,)"});
  CheckRefused(w, refused + "--lengths lengths_f4.npy", {"lengths_f4.npy", "float32", "int64"});
  CheckRefused(w, refused + "--lengths long.npy", {"lengths[1]", "4"});
  CheckRefused(w, refused + "--lengths negative.npy", {"lengths[1]", "-1"});
  CheckRefused(w, refused + "--lengths lengths8.npy --padding untouched --output-dtype f16", {"untouched", "float16"});
}

TEST_CASE("cli: --axes that are not the last") {
  const Workplace w;
  const std::vector<double> x = Values(w.Get("x.npy")), scale = Values(w.Get("variance3.npy"));
  std::vector<double> y(24), mean(8), rstd(8);
  for (size_t n = 0; n < 2; ++n) {
    for (size_t i = 0; i < 4; ++i) {
      const size_t first = 12 * n + i;
      const Statistics s = Measure({x[first], x[first + 4], x[first + 8]});
      mean[4 * n + i] = s.mean;
      rstd[4 * n + i] = 1 / std::sqrt(s.variance + 1e-5);
      for (size_t c = 0; c < 3; ++c) y[first + 4 * c] = (x[first + 4 * c] - s.mean) * rstd[4 * n + i] * scale[c];
    }
  }
  for (const std::string axis : {"1", "-2"}) {
    CheckOk(
        w,
        "layer-norm --input x.npy --output y.npy --scale variance3.npy --save-mean m.npy --save-rstd r.npy --axes 1 --axis " +
            axis);
    CheckNear(w.Get("y.npy"), {2, 3, 4}, y);
    CheckNear(w.Get("m.npy"), {2, 1, 4}, mean);
    CheckNear(w.Get("r.npy"), {2, 1, 4}, rstd);
  }
  CheckOk(w, "rms-norm --input x.npy --output y.npy --residual x.npy --axis 1 --axes 2");  // the last ones after all
  CheckOk(w, "rms-norm --input x.npy --output all.npy --residual x.npy --axis 1");
  CHECK(Slurp(w / "y.npy") == Slurp(w / "all.npy"));
  w.Put("none.npy", {2, 3, 0}, 1);
  CheckOk(w, "rms-norm --input none.npy --output y.npy --axis 1 --axes 1");
  CHECK(w.Get("y.npy").shape == npy::Shape{2, 3, 0});

  w.PutIntegers<int64_t>("lengths.npy", {2}, npy::Dtype::kI64, {1, 1});
  const std::string refused = "rms-norm --input x.npy --output y2.npy --axis 1 ";
  CheckRefused(w, refused + "--axes 0", {"--axes", "0"});
  CheckRefused(w, refused + "--axes 3", {"--axes 3", "--axis 1", "(2, 3, 4)"});
  CheckRefused(w, refused + "--axes 1 --scale scale4.npy", {"--scale", "(4,)", "(3,)"});
  for (const std::string flag : {"--residual x.npy", "--bias ones3.npy", "--gate x.npy", "--lengths lengths.npy"}) {
    CheckRefused(w, refused + "--axes 1 " + flag, {Split(flag)[0], "--axes"});
  }
  CheckRefused(w, refused + "--axes 1 --quantize i8 --quant-scale 1", {"quantized", "--axes"});
}

// Where element (n, c, s) of x [batch, channels, spatial] lies.
using Place = std::function<size_t(size_t n, size_t c, size_t s)>;

// Batch, group or instance norm as a formula: (n, c) -> the number of its statistics, which are over the positions that
// `counts` and normalize them; others stay as they are.
struct ChannelNorm {
  size_t batch, channels, spatial;
  std::function<size_t(size_t n, size_t c)> set;
  Place place;
  std::function<bool(size_t n, size_t s)> counts = [](size_t, size_t) { return true; };

  std::vector<Statistics> MeasureAll(const std::vector<double>& x) const {
    std::vector<std::vector<double>> sets;
    ForEach([&](size_t n, size_t c, size_t s) {
      sets.resize(std::max(sets.size(), set(n, c) + 1));
      sets[set(n, c)].push_back(x[place(n, c, s)]);
    });
    std::vector<Statistics> out;
    for (const std::vector<double>& values : sets) out.push_back(Measure(values));
    return out;
  }

  // `after` gets the normalized value and where it lies.
  std::vector<double> Apply(std::vector<double> x, const std::vector<Statistics>& statistics,
                            const std::function<double(double v, size_t c, size_t at)>& after) const {
    ForEach([&](size_t n, size_t c, size_t s) {
      const Statistics& of = statistics[set(n, c)];
      const size_t at = place(n, c, s);
      x[at] = after((x[at] - of.mean) / std::sqrt(of.variance + 1e-5), c, at);
    });
    return x;
  }

 private:
  void ForEach(const std::function<void(size_t n, size_t c, size_t s)>& f) const {
    for (size_t n = 0; n < batch; ++n) {
      for (size_t c = 0; c < channels; ++c) {
        for (size_t s = 0; s < spatial; ++s) {
          if (counts(n, s)) f(n, c, s);
        }
      }
    }
  }
};

Place NCHW(size_t channels, size_t spatial) {
  return [=](size_t n, size_t c, size_t s) { return (n * channels + c) * spatial + s; };
}
Place NHWC(size_t channels, size_t spatial) {
  return [=](size_t n, size_t c, size_t s) { return (n * spatial + s) * channels + c; };
}

TEST_CASE("cli: group-norm and instance-norm in both layouts") {
  const Workplace w;
  w.Put("nchw.npy", {2, 4, 3, 1}, 1);
  w.Put("nhwc.npy", {2, 3, 1, 4}, 1);
  const std::vector<double> x = Values(w.Get("nchw.npy")), scale = Values(w.Get("scale4.npy")),
                            shift = Values(w.Get("shift4.npy"));
  for (const size_t groups : {1, 2, 4}) {
    for (const bool nhwc : {false, true}) {
      const ChannelNorm norm = {2, 4, 3, [&](size_t n, size_t c) { return groups * n + c * groups / 4; },
                                nhwc ? NHWC(4, 3) : NCHW(4, 3)};
      const std::vector<Statistics> statistics = norm.MeasureAll(x);
      const std::vector<double> y =
          norm.Apply(x, statistics, [&](double v, size_t c, size_t) { return v * scale[c] + shift[c]; });
      std::vector<double> mean, rstd;
      for (const Statistics& s : statistics) {
        mean.push_back(s.mean);
        rstd.push_back(1 / std::sqrt(s.variance + 1e-5));
      }
      std::vector<std::string> ops = {"group-norm --groups " + std::to_string(groups)};
      if (groups == 4) ops.push_back("instance-norm");
      for (const std::string& op : ops) {
        CheckOk(w, op + " --output y.npy --scale scale4.npy --shift shift4.npy --save-mean m.npy --save-rstd r.npy" +
                       (nhwc ? " --layout NHWC --input nhwc.npy" : " --input nchw.npy"));
        CheckNear(w.Get("y.npy"), nhwc ? npy::Shape{2, 3, 1, 4} : npy::Shape{2, 4, 3, 1}, y);
        CheckNear(w.Get("m.npy"), {2, static_cast<int64_t>(groups)}, mean);
        CheckNear(w.Get("r.npy"), {2, static_cast<int64_t>(groups)}, rstd);
      }
    }
  }
  w.Put("none.npy", {0, 4, 3}, 1);
  CheckOk(w, "group-norm --groups 2 --input none.npy --output y.npy --save-mean m.npy");
  CHECK(w.Get("m.npy").shape == npy::Shape{0, 2});

  w.Put("flat.npy", {5}, 1);
  const std::string refused = " --input nchw.npy --output y2.npy ";
  CheckRefused(w, "group-norm" + refused, {"--groups", "required"});
  CheckRefused(w, "group-norm --groups 3" + refused, {"--groups 3", "4 channels"});
  CheckRefused(w, "group-norm --groups 8" + refused, {"--groups 8", "4 channels"});
  CheckRefused(w, "group-norm --groups 0" + refused, {"--groups", "0"});
  CheckRefused(w, "group-norm --groups -2" + refused, {"--groups", "-2"});
  CheckRefused(w, "group-norm --groups 1 --layout nchw8c" + refused, {"--layout", "nchw8c"});
  CheckRefused(w, "group-norm --groups 2 --scale ones3.npy" + refused, {"--scale", "(3,)", "(4,)"});
  CheckRefused(w, "group-norm --groups 1 --input flat.npy --output y2.npy", {"(5,)"});
  CheckRefused(w, "instance-norm --groups 1" + refused, {"--groups"});
  CheckRefused(w, "instance-norm --mean ones3.npy" + refused, {"--mean"});
  CheckRefused(w, "instance-norm --training" + refused, {"--training"});
}

TEST_CASE("cli: --residual, --activation, --lengths and --mask of batch, group and instance norm") {
  const Workplace w;
  w.PutIntegers<int32_t>("lengths.npy", {2}, npy::Dtype::kI32, {4, 2});
  w.PutIntegers<uint8_t>("mask.npy", {2, 4}, npy::Dtype::kBool, {0, 1, 1, 0, 1, 1, 0, 1});
  w.PutIntegers<uint8_t>("bytes.npy", {2, 4}, npy::Dtype::kU8, {0, 2, 255, 0, 1, 7, 0, 1});
  w.Put("r.npy", {2, 3, 4}, -0.25f, 1);
  const std::vector<double> x = Values(w.Get("x.npy")), r = Values(w.Get("r.npy"));
  const auto by_length = [](size_t n, size_t s) { return s < (n == 0 ? 4u : 2u); };
  const auto by_mask = [](size_t n, size_t s) { return n == 0 ? s == 1 || s == 2 : s != 2; };
  const auto by_channel = [](size_t, size_t c) { return c; };
  const auto by_sample = [](size_t n, size_t) { return n; };
  const auto by_both = [](size_t n, size_t c) { return 3 * n + c; };

  for (const auto& op : {std::pair<const char*, std::function<size_t(size_t, size_t)>>{"batch-norm --training", by_channel},
                         {"group-norm --groups 1", by_sample},
                         {"instance-norm", by_both}}) {
    for (const auto& part : {std::pair<const char*, std::function<bool(size_t, size_t)>>{"--lengths lengths.npy", by_length},
                             {"--mask mask.npy", by_mask},
                             {"--mask bytes.npy", by_mask}}) {
      const ChannelNorm norm = {2, 3, 4, op.second, NCHW(3, 4), part.second};
      const std::vector<double> untouched =
          norm.Apply(x, norm.MeasureAll(x), [&](double v, size_t, size_t at) { return std::max(v + r[at], 0.0); });
      std::vector<double> zero = untouched;
      for (size_t i = 0; i < 24; ++i) zero[i] = part.second(i / 12, i % 4) ? zero[i] : 0;
      const std::string command =
          std::string(op.first) + " --input x.npy --output y.npy --residual r.npy --activation relu " + part.first;
      CheckOk(w, command);
      CheckNear(w.Get("y.npy"), {2, 3, 4}, zero);
      CheckOk(w, command + " --padding untouched");
      CheckNear(w.Get("y.npy"), {2, 3, 4}, untouched);
    }
    const std::string refused = std::string(op.first) + " --input x.npy --output y2.npy ";
    w.PutIntegers<int64_t>("long.npy", {2}, npy::Dtype::kI64, {1, 5});
    CheckRefused(w, refused + "--lengths long.npy", {"lengths[1]", "5"});
    CheckRefused(w, refused + "--lengths ones3.npy", {"ones3.npy", "float32"});
    CheckRefused(w, refused + "--lengths lengths.npy --mask mask.npy", {"--lengths", "--mask"});
    CheckRefused(w, refused + "--mask lengths.npy", {"lengths.npy", "int32", "bool"});
    CheckRefused(w, refused + "--padding zero", {"--padding", "--lengths", "--mask"});
    CheckRefused(w, refused + "--mask mask.npy --padding untouched --output-dtype bf16", {"untouched", "bfloat16"});
    CheckRefused(w, refused + "--activation tanh", {"--activation", "tanh"});
    CheckRefused(w, refused + "--activation-slope 1", {"--activation"});
    CheckRefused(w, refused + "--activation relu --activation-slope 1", {"--activation-slope", "leaky-relu"});
    CheckRefused(w, refused + "--residual ones3.npy", {"--residual", "(3,)", "(2, 3, 4)"});
    CheckRefused(w, refused + "--gate x.npy", {"--gate"});
  }
  w.PutIntegers<uint8_t>("mask3.npy", {2, 3}, npy::Dtype::kU8, {1, 1, 1, 1, 1, 1});
  CheckRefused(w, "instance-norm --input x.npy --output y2.npy --mask mask3.npy", {"--mask", "(2, 3)", "(2, 4)"});

  // Given statistics
  const npy::Array mean = w.Get("mean3.npy"), variance = w.Get("variance3.npy");
  const ChannelNorm norm = {2, 3, 4, by_channel, NCHW(3, 4), by_length};
  std::vector<Statistics> given;
  for (int c = 0; c < 3; ++c) given.push_back({mean.f32()[c], variance.f32()[c], 0});
  CheckOk(
      w,
      "batch-norm --input x.npy --output y.npy --mean mean3.npy --variance variance3.npy --residual r.npy --activation silu "
      "--lengths lengths.npy --padding untouched");
  CheckNear(w.Get("y.npy"), {2, 3, 4}, norm.Apply(x, given, [&](double v, size_t, size_t at) { return SiLU(v + r[at]); }));
}

TEST_CASE("cli: batch-norm in blocked layouts") {
  const Workplace w;
  const std::string given = "--mean mean3.npy --variance variance3.npy ";
  CheckOk(w, "batch-norm --input x.npy --output y.npy " + given);
  CheckOk(w, "batch-norm --training --input x.npy --output t.npy --save-mean m.npy");
  const std::vector<double> x = Values(w.Get("x.npy"));
  for (const size_t block : {8, 16}) {
    const auto blocked = [&](const std::vector<double>& values, double padding) {
      std::vector<double> out(2 * 4 * block, padding);
      for (size_t i = 0; i < 24; ++i) out[(i / 12 * 4 + i % 4) * block + i / 4 % 3] = values[i];
      return out;
    };
    const npy::Shape shape = {2, 1, 2, 2, static_cast<int64_t>(block)};
    w.Put("blocked.npy", shape, blocked(x, 99), npy::Dtype::kF32);
    const std::string layout = "batch-norm --channels 3 --input blocked.npy --layout nchw" + std::to_string(block) + "c ";
    CheckOk(w, layout + "--output yb.npy " + given);
    CheckNear(w.Get("yb.npy"), shape, blocked(Values(w.Get("y.npy")), 0));
    CheckOk(w, layout + "--output yb.npy --training --save-mean mb.npy");
    CheckNear(w.Get("yb.npy"), shape, blocked(Values(w.Get("t.npy")), 0));
    CheckNear(w.Get("mb.npy"), {3}, Values(w.Get("m.npy")));
  }
  const std::string refused = "batch-norm --training --output y2.npy ";  // blocked.npy has blocks of 16 now
  CheckRefused(w, refused + "--input blocked.npy --layout nchw16c", {"--channels", "nchw16c"});
  CheckRefused(w, refused + "--input x.npy --channels 3", {"--channels", "nchw16c"});
  CheckRefused(w, refused + "--input blocked.npy --layout nchw8c --channels 3", {"3 channels", "(2, 1, 2, 2, 16)", "8]"});
  CheckRefused(w, refused + "--input blocked.npy --layout nchw16c --channels 17", {"17 channels", "(2, 1, 2, 2, 16)"});
  CheckRefused(w, refused + "--input blocked.npy --layout nchw16c --channels 0", {"--channels", "0"});
  CheckRefused(w, refused + "--input scale4.npy --layout nchw8c --channels 4", {"(4,)"});
}

TEST_CASE("cli: fold-batch-norm") {
  const Workplace w;
  w.Put("w.npy", {4, 2, 3}, 0.5f, -2);
  w.Put("bias.npy", {4}, 1, 3);
  w.Put("mean.npy", {4}, 0.5f, -1);
  w.Put("variance.npy", {4}, 0.25f, 1);
  w.Put("gamma.npy", {4}, -1, 2);
  const std::vector<double> weight = Values(w.Get("w.npy")), bias = Values(w.Get("bias.npy")), mean = Values(w.Get("mean.npy")),
                            variance = Values(w.Get("variance.npy")), gamma = Values(w.Get("gamma.npy")),
                            beta = Values(w.Get("shift4.npy"));
  const std::string files =
      "fold-batch-norm --weight w.npy --mean mean.npy --variance variance.npy --output-weight fw.npy --output-bias fb.npy "
      "--groups 2 --epsilon 0.5 ";
  std::vector<double> a, b;
  for (size_t c = 0; c < 4; ++c) {
    a.push_back(gamma[c] / std::sqrt(variance[c] + 0.5));
    b.push_back(beta[c] - mean[c] * a[c]);
  }
  for (const bool transposed : {false, true}) {
    // Element i of weight is of the pair (first, second) of channels, the second counted through all groups.
    const auto first = [](size_t i) { return i / 6; };
    const auto second = [&](size_t i) { return first(i) / 2 * 2 + i / 3 % 2; };
    const auto output = [&](size_t i) { return transposed ? second(i) : first(i); };
    const auto input = [&](size_t i) { return transposed ? first(i) : second(i); };
    for (const bool following : {false, true}) {
      std::vector<double> folded(weight), folded_bias(bias);
      for (size_t o = 0; o < 4 && !following; ++o) folded_bias[o] = a[o] * bias[o] + b[o];
      for (size_t i = 0; i < weight.size(); ++i) {
        folded[i] *= a[following ? input(i) : output(i)];
        if (following) folded_bias[output(i)] += weight[i] * b[input(i)];
      }
      CheckOk(w, files + "--scale gamma.npy --shift shift4.npy --bias bias.npy --position " +
                     (following ? "following" : "preceding") + (transposed ? " --transposed" : ""));
      CheckNear(w.Get("fw.npy"), {4, 2, 3}, folded);
      CheckNear(w.Get("fb.npy"), {4}, folded_bias);
    }
  }
  CheckOk(w, files + "--position preceding");  // neither scale, shift nor bias
  CheckNear(w.Get("fb.npy"), {4}, Map(mean, variance, [](double m, double v) { return -m / std::sqrt(v + 0.5); }));

  w.Put("w16.npy", {4, 2}, {1, 1, 1, 1, 1, 1, 1, 1}, npy::Dtype::kF16);
  const std::string statistics = " --mean mean.npy --variance variance.npy --output-weight fw2.npy --output-bias fb2.npy ";
  CheckRefused(w, "fold-batch-norm --weight w.npy" + statistics, {"--position", "required"});
  CheckRefused(w, "fold-batch-norm --weight w.npy --position beside" + statistics, {"--position", "beside"});
  CheckRefused(w, "fold-batch-norm --weight mean.npy --position preceding" + statistics, {"--weight", "(4,)"});
  // Without an element there is nothing to fold, and nothing that would set the bias.
  w.Put("no_kernel.npy", {4, 2, 3, 0}, 1);
  CheckRefused(w, "fold-batch-norm --weight no_kernel.npy --position preceding" + statistics, {"--weight", "(4, 2, 3, 0)"});
  w.Put("no_inputs.npy", {4, 0}, 1);
  CheckRefused(w, "fold-batch-norm --weight no_inputs.npy --position preceding" + statistics, {"--weight", "(4, 0)"});
  // Of memory for 800 million outputs, which nothing in the files speaks of.
  CheckRefused(w, "fold-batch-norm --weight w.npy --position following --transposed --groups 400000000" + statistics,
               {"--groups 400000000", "4 inputs"});
  CheckRefused(w, "fold-batch-norm --weight w16.npy --position preceding" + statistics, {"w16.npy", "float16", "float32"});
  CheckRefused(w, "fold-batch-norm --weight w.npy --position following" + statistics, {"--mean", "--weight", "(4,)", "(2,)"});
  CheckRefused(w, "fold-batch-norm --weight w.npy --position preceding --groups 3" + statistics, {"groups"});
  CheckRefused(w, "fold-batch-norm --weight w.npy --position preceding --bias ones3.npy" + statistics,
               {"--bias", "(3,)", "(4,)"});
  CheckRefused(w, "fold-batch-norm --weight w.npy --position preceding --groups 9223372036854775807" + statistics,
               {"--groups"});
  CheckRefused(w, "fold-batch-norm --weight w.npy --position preceding --input x.npy" + statistics, {"--input"});
}

}  // namespace
}  // namespace simdnorm_test
