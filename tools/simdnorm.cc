// The command line: normalizes tensors in .npy files through the public API. It is the way to try the library on real data, and
// to compare it with other implementations from any language.
//
// flags.h declares the arguments to CLI11; here is what is done with them. CLI11 throws, and so this program (and no other part
// of the project) uses exceptions: whatever fails ends in main as one line on stderr and exit status 2.
#include "simdnorm/simdnorm.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <clocale>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <cwchar>
#include <cwctype>
#include <functional>
#include <initializer_list>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "digest.h"
#include "flags.h"
#include "npy.h"

namespace cli {
namespace {

// What the user has to be told.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Text that may hold anything, a file's name say, on one line and without effect on a terminal: control characters and what is
// no UTF-8 become \n, \x1b and so on.
std::string Printable(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    wchar_t c;
    std::mbstate_t state = {};
    const size_t rest = text.size() - at, length = std::mbrtowc(&c, text.data() + at, rest, &state);
    const bool printable = length > 0 && length <= rest && std::iswprint(static_cast<std::wint_t>(c)) != 0;
    if (printable) {
      out.append(text, at, length);
    } else if (text[at] == '\n') {
      out += "\\n";
    } else {
      constexpr char kDigits[] = "0123456789abcdef";
      const auto byte = static_cast<unsigned char>(text[at]);
      out += {'\\', 'x', kDigits[byte / 16], kDigits[byte % 16]};
    }
    at += printable ? length : 1;
  }
  return out;
}

volatile sig_atomic_t interrupted = 0;

// While this lives, Ctrl-C and its like are only noted (Progress then stops the work), so that temporary files can be removed.
class DeferInterrupts {
 public:
  DeferInterrupts() {
    struct sigaction action = {};
    action.sa_handler = [](int signal) { interrupted = signal; };
    for (int i = 0; i < kCount; ++i) {
      sigaction(kSignals[i], nullptr, &before_[i]);
      if (before_[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &action, nullptr);
    }
  }
  ~DeferInterrupts() {
    for (int i = 0; i < kCount; ++i) sigaction(kSignals[i], &before_[i], nullptr);
  }

 private:
  static constexpr int kCount = 3;
  static constexpr int kSignals[kCount] = {SIGHUP, SIGINT, SIGTERM};
  struct sigaction before_[kCount];
};

// A line on the terminal about work on this many bytes if that takes long; gone when the work is over.
class Progress {
 public:
  Progress(const std::string& what, const Flags& flags)
      : what_(Printable(what)), wanted_(!flags.quiet && isatty(STDERR_FILENO) == 1) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() {
    if (!shown_.empty()) std::fputs("\r\033[K", stderr);
  }

  bool operator()(int64_t done, int64_t total) {
    Show(total, what_ + " " + std::to_string(done / (total / 100 + 1)) + "%");
    return interrupted == 0;
  }

  void Begin(int64_t bytes) { Show(bytes, what_); }

 private:
  static constexpr int64_t kLong = int64_t{64} << 20;

  void Show(int64_t bytes, const std::string& line) {
    if (!wanted_ || bytes < kLong || line == shown_) return;
    std::fprintf(stderr, "\r\033[K%s", line.c_str());
    std::fflush(stderr);
    shown_ = line;
  }

  std::string what_, shown_;
  bool wanted_;
};

// A tensor and what its elements are to the library; without data if its flag is not given.
struct Tensor {
  npy::Array array;
  simdnorm_dtype dtype = SIMDNORM_F32;
  const char* flag = "--input";  // whence it came, for messages about what has to fit it

  explicit operator bool() const { return array.data != nullptr; }
  simdnorm::Input input() const { return {array.data.get(), dtype}; }
  simdnorm::Output output() const { return {array.data.get(), dtype}; }
  int64_t bytes() const { return *this ? array.bytes() : 0; }
};

const char* DtypeName(simdnorm_dtype dtype) {
  constexpr const char* kNames[] = {"float32", "bfloat16", "float16", "int8", "uint8", "Q8_0"};
  return kNames[dtype];
}

// How a file holds them: bf16 as its bits, Q8_0 as its bytes.
npy::Dtype FileDtype(simdnorm_dtype dtype) {
  constexpr npy::Dtype kDtypes[] = {npy::Dtype::kF32, npy::Dtype::kU16, npy::Dtype::kF16,
                                    npy::Dtype::kI8,  npy::Dtype::kU8,  npy::Dtype::kU8};
  return kDtypes[dtype];
}

// An array of one of these dtypes. uint16 holds bfloat16, and is taken only where the user says that it does.
npy::Array Load(const std::string& path, std::initializer_list<npy::Dtype> dtypes, const Flags& flags) {
  std::string error;
  Progress progress("reading " + path, flags);
  std::optional<npy::Array> array = npy::Read(path, &error, std::ref(progress));
  if (!array) throw Failure(error);
  if (std::find(dtypes.begin(), dtypes.end(), array->dtype) == dtypes.end()) {
    std::string needed;
    for (const npy::Dtype dtype : dtypes) needed += (needed.empty() ? "" : " or ") + std::string(npy::DtypeName(dtype));
    throw Failure(path + ": has dtype " + npy::DtypeName(array->dtype) + "; " + needed + " is needed");
  }
  if (array->dtype == npy::Dtype::kU16 && flags.dtype != SIMDNORM_BF16) {
    throw Failure(path + ": has dtype uint16; if these are the bits of bfloat16, --dtype bf16 has to say so");
  }
  return std::move(*array);
}

Tensor LoadTensor(const char* flag, const std::string& path, const Flags& flags) {
  npy::Array array = Load(path, {npy::Dtype::kF32, npy::Dtype::kF16, npy::Dtype::kU16}, flags);
  const simdnorm_dtype dtype = array.dtype == npy::Dtype::kF32   ? SIMDNORM_F32
                               : array.dtype == npy::Dtype::kF16 ? SIMDNORM_F16
                                                                 : SIMDNORM_BF16;
  return {std::move(array), dtype, flag};
}

Tensor LoadX(const Flags& flags) {
  Tensor x = LoadTensor("--input", flags.input, flags);
  if (flags.dtype && x.dtype != *flags.dtype) {
    throw Failure(flags.input + ": has dtype " + DtypeName(x.dtype) + ", but --dtype says " + DtypeName(*flags.dtype));
  }
  return x;
}

void CheckShape(const char* flag, const File& path, const npy::Array& array, const npy::Shape& shape, const Tensor& x) {
  if (array.shape == shape) return;
  throw Failure(std::string(flag) + " " + *path + " has shape " + npy::ToString(array.shape) + ", but " + x.flag + "'s shape " +
                npy::ToString(x.array.shape) + " asks for " + npy::ToString(shape));
}

// A tensor of a dtype of its own that has to fit x; without data if its flag is not given.
Tensor LoadOptional(const char* flag, const File& path, const npy::Shape& shape, const Tensor& x, const Flags& flags) {
  if (!path) return {};
  Tensor tensor = LoadTensor(flag, *path, flags);
  CheckShape(flag, path, tensor.array, shape, x);
  return tensor;
}

// The same of what comes in certain dtypes only: statistics, lengths, masks.
npy::Array LoadOptional(const char* flag, const File& path, const npy::Shape& shape, const Tensor& x,
                        std::initializer_list<npy::Dtype> dtypes, const Flags& flags) {
  if (!path) return {};
  npy::Array array = Load(*path, dtypes, flags);
  CheckShape(flag, path, array, shape, x);
  return array;
}

npy::Array LoadF32(const char* flag, const File& path, const npy::Shape& shape, const Tensor& x, const Flags& flags) {
  return LoadOptional(flag, path, shape, x, {npy::Dtype::kF32}, flags);
}

npy::Array Make(npy::Dtype dtype, const npy::Shape& shape) {
  std::optional<npy::Array> array = npy::Array::Make(dtype, shape);
  if (!array) throw Failure("there is no memory for shape " + npy::ToString(shape));
  return std::move(*array);
}

// One for each of x's first axis.
npy::Array LoadLengths(const Tensor& x, const Flags& flags) {
  const npy::Shape shape = {x.array.shape[0]};
  npy::Array array = LoadOptional("--lengths", flags.lengths, shape, x, {npy::Dtype::kI64, npy::Dtype::kI32}, flags);
  if (array.dtype != npy::Dtype::kI32) return array;
  npy::Array wide = Make(npy::Dtype::kI64, shape);
  std::copy_n(array.as<int32_t>(), array.count(), wide.as<int64_t>());
  return wide;
}

// Room for a statistic of x; without data if its flag is not given. NaN, the mean of nothing, is what stays if x has no
// elements, or where padding is left untouched. Such an x may say that it has any number of rows; no data stand behind them, so
// that there is room for some only.
npy::Array MakeStatistic(const File& path, const npy::Shape& shape, const Tensor& x, const Flags& flags) {
  if (!path) return {};
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (__builtin_mul_overflow(count, size, &count) || count > std::max(x.array.count(), int64_t{1} << 20)) {
      throw Failure(flags.input + ": has shape " + npy::ToString(x.array.shape) +
                    ", too large for an array without elements, of which " + npy::ToString(shape) +
                    " statistics are asked for");
    }
  }
  npy::Array array = Make(npy::Dtype::kF32, shape);
  std::fill_n(array.f32(), array.count(), std::numeric_limits<float>::quiet_NaN());
  return array;
}

// Room for y; without data if it goes over x. That is where it goes if it has x's dtype: one copy of the tensor in memory,
// padding holds what x does, and no page is touched first in the timed call; which is why this touches them.
Tensor MakeY(const Tensor& x, simdnorm_dtype dtype, const npy::Shape& shape, const Flags& flags) {
  if (dtype == x.dtype) return {};
  if (flags.padding == SIMDNORM_PADDING_UNTOUCHED) {
    throw Failure("--padding untouched leaves what x holds there, which is " + std::string(DtypeName(x.dtype)) +
                  "; the output is to be " + DtypeName(dtype));
  }
  Tensor y = {Make(FileDtype(dtype), shape), dtype};
  std::memset(y.array.data.get(), 0, static_cast<size_t>(y.array.bytes()));
  return y;
}

// Room for h, which begins as x: that is what padding holds if it is left untouched.
Tensor MakeH(const Tensor& x, const Flags& flags) {
  if (!flags.save_h) return {};
  Tensor h = {Make(x.array.dtype, x.array.shape), x.dtype};
  std::memcpy(h.array.data.get(), x.array.data.get(), static_cast<size_t>(x.bytes()));
  return h;
}

simdnorm::Options MakeOptions(const Flags& flags) {
  simdnorm::Options options;
  options.target = flags.target ? flags.target->c_str() : nullptr;
  options.max_threads = flags.threads;
  return options;
}

// -> seconds
double Run(const Tensor& x, const Flags& flags, const std::function<simdnorm::Result()>& call) {
  // A process's first call asks the CPU what it can do, which would be most of the time of a small tensor.
  float warm_up = 0;
  if (const simdnorm::Result result = simdnorm::RMSNorm(&warm_up, &warm_up, 1, 1, {}, MakeOptions(flags)); !result) {
    throw Failure(result.message());
  }
  Progress progress("computing", flags);
  progress.Begin(x.bytes());
  const auto start = std::chrono::steady_clock::now();
  const simdnorm::Result result = call();
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  if (!result) throw Failure(result.message());
  return time.count();
}

// -> where words about them may go: standard output, unless one of the files went there.
std::FILE* Save(std::initializer_list<std::pair<File, const npy::Array*>> files, const Flags& flags) {
  std::string error;
  bool ok = true, to_stdout = false;
  {
    const DeferInterrupts defer;
    npy::Outputs outputs;
    for (const auto& [path, array] : files) {
      if (!ok || !path) continue;
      Progress progress("writing " + *path, flags);
      to_stdout |= npy::IsStandardOutput(*path);
      ok = outputs.Add(*path, *array, &error, std::ref(progress));
    }
    ok = ok && interrupted == 0 && outputs.Commit(&error);
  }
  if (interrupted != 0) raise(interrupted);
  if (!ok) throw Failure(error);
  return to_stdout ? stderr : stdout;
}

// `others` are the tensors of x's size that are read or written besides x and y.
void Report(std::FILE* log, const char* op, const Tensor& x, const Tensor& y, std::initializer_list<const Tensor*> others,
            double seconds, const Flags& flags) {
  if (flags.quiet) return;
  const int available = simdnorm_default_threads(),
            threads = flags.threads > 0 ? std::min(flags.threads, available) : available;
  double bytes = static_cast<double>(x.bytes() + y.bytes());
  for (const Tensor* other : others) bytes += static_cast<double>(other->bytes());
  const std::string to = y.dtype == x.dtype ? "" : std::string(" to ") + DtypeName(y.dtype);
  std::fprintf(log, "%s %s %s%s: target %s, %s%d thread%s, %.3g ms, %.3g GB/s\n", op, npy::ToString(x.array.shape).c_str(),
               DtypeName(x.dtype), to.c_str(), flags.target ? flags.target->c_str() : simdnorm::Targets()[0],
               threads > 1 ? "up to " : "", threads, threads > 1 ? "s" : "", seconds * 1e3,
               seconds > 0 ? bytes / seconds * 1e-9 : 0);
}

// The default of --activation-slope is for leaky ReLU only; the library takes none with others.
float ActivationSlope(const Flags& flags) { return flags.activation == SIMDNORM_LEAKY_RELU ? flags.activation_slope : 0; }

simdnorm_dtype YDtype(const Tensor& x, const Flags& flags) {
  if (flags.quantize) return *flags.quantize == kI8Rows ? SIMDNORM_I8 : *flags.quantize;
  return flags.output_dtype.value_or(x.dtype);
}

// x's shape as layer norm and RMS norm see it: [outer..., normalized..., inner...].
struct Axes {
  npy::Shape outer, normalized, inner;
  npy::Shape statistic;  // x's rank, 1 for each normalized axis
};

Axes SplitAxes(const npy::Shape& shape, const Flags& flags) {
  const int64_t rank = static_cast<int64_t>(shape.size());
  const auto failure = [&](const std::string& what) { return Failure(what + " --input's shape " + npy::ToString(shape)); };
  if (flags.axis < -rank || flags.axis >= rank) {
    throw failure("--axis " + std::to_string(flags.axis) + " does not exist in");
  }
  const int64_t first = flags.axis < 0 ? flags.axis + rank : flags.axis;
  if (flags.axes && *flags.axes > rank - first) {
    throw failure("--axes " + std::to_string(*flags.axes) + " from --axis " + std::to_string(flags.axis) + " are not in");
  }
  const auto begin = shape.begin() + first, end = flags.axes ? begin + *flags.axes : shape.end();
  Axes axes = {{shape.begin(), begin}, {begin, end}, {end, shape.end()}, shape};
  std::fill_n(axes.statistic.begin() + first, axes.normalized.size(), 1);
  return axes;
}

// Scale or shift: of the normalized shape, before which the first of x's axes may stand, each group of rows then having its
// own. Of these axes the last may be 1, (4, 1, 64) for (4, 64), as what is to be broadcast has it.
Tensor LoadScale(const char* flag, const File& path, const Tensor& x, const Axes& axes, const Flags& flags) {
  if (!path) return {};
  Tensor tensor = LoadTensor(flag, *path, flags);
  const npy::Shape& shape = tensor.array.shape;
  size_t leading = shape.size() > axes.normalized.size() ? shape.size() - axes.normalized.size() : 0;
  if (leading > axes.outer.size()) leading = 0;
  npy::Shape fit(axes.outer.begin(), axes.outer.begin() + static_cast<int64_t>(leading));
  for (size_t i = leading; i > 0 && shape[i - 1] == 1; --i) fit[i - 1] = 1;
  fit.insert(fit.end(), axes.normalized.begin(), axes.normalized.end());
  CheckShape(flag, path, tensor.array, fit, x);
  return tensor;
}

// How many rows share a scale and shift; 0 if all do.
int64_t RowsPerScale(const Tensor& scale, const Tensor& shift, int64_t rows, int64_t cols) {
  const Tensor& first = scale ? scale : shift;
  if (!first || rows == 0 || cols == 0) return 0;
  if (shift && shift.array.count() != first.array.count()) {
    throw Failure("--scale has shape " + npy::ToString(scale.array.shape) + ", --shift has " +
                  npy::ToString(shift.array.shape) + "; there have to be as many of one as of the other");
  }
  const int64_t scales = first.array.count() / cols;
  return scales > 1 ? rows / scales : 0;
}

// What the library has for rows whose elements are adjacent only.
void CheckInner(const Tensor& x, const Axes& axes, const Flags& flags) {
  if (npy::Count(axes.inner) == 1) return;
  for (const auto& [flag, given] : {std::pair("--residual", flags.residual.has_value()),
                                    {"--bias", flags.bias.has_value()},
                                    {"--gate", flags.gate.has_value()},
                                    {"--lengths", flags.lengths.has_value()},
                                    {"a quantized output", YDtype(x, flags) >= SIMDNORM_I8}}) {
    if (given) throw Failure(std::string(flag) + " requires the normalized axes to be the last; --axes leaves some after them");
  }
}

npy::Shape YShape(const Tensor& x, const Axes& axes, const Flags& flags) {
  if (YDtype(x, flags) != SIMDNORM_Q8_0) return x.array.shape;
  const int64_t cols = npy::Count(axes.normalized);
  constexpr int64_t kBlock = sizeof(simdnorm_q8_0::q);
  if (cols % kBlock != 0) {
    throw Failure("--quantize q8_0 makes blocks of 32, and the normalized shape " + npy::ToString(axes.normalized) + " has " +
                  std::to_string(cols) + " elements");
  }
  npy::Shape shape = axes.outer;
  shape.push_back(cols / kBlock * static_cast<int64_t>(sizeof(simdnorm_q8_0)));
  return shape;
}

void NormalizeRows(const Flags& flags, bool rms) {
  const Tensor x = LoadX(flags);
  const Axes axes = SplitAxes(x.array.shape, flags);
  CheckInner(x, axes, flags);
  if (flags.lengths && axes.outer.empty()) throw Failure("--lengths are of x's first axis, which --axis normalizes");

  const auto load = [&](const char* flag, const File& path, const npy::Shape& shape) {
    return LoadOptional(flag, path, shape, x, flags);
  };
  const Tensor scale = LoadScale("--scale", flags.scale, x, axes, flags);
  const Tensor shift = LoadScale("--shift", flags.shift, x, axes, flags);
  const Tensor bias = load("--bias", flags.bias, axes.normalized);
  const Tensor residual = load("--residual", flags.residual, x.array.shape), gate = load("--gate", flags.gate, x.array.shape);
  const npy::Array lengths = flags.lengths ? LoadLengths(x, flags) : npy::Array();
  const Tensor apart = MakeY(x, YDtype(x, flags), YShape(x, axes, flags), flags), &y = apart ? apart : x;
  const Tensor h = MakeH(x, flags);
  const npy::Array mean = MakeStatistic(flags.save_mean, axes.statistic, x, flags);
  const npy::Array rstd = MakeStatistic(flags.save_rstd, axes.statistic, x, flags);
  const npy::Array quant_scales = MakeStatistic(flags.save_quant_scales, axes.statistic, x, flags);

  simdnorm::RowFusions fusions;
  fusions.scale_offset = flags.scale_offset;
  fusions.activation = flags.activation;
  fusions.activation_slope = ActivationSlope(flags);
  fusions.residual = residual.input();
  fusions.residual_order = flags.residual_order;
  fusions.bias = bias.input();
  fusions.h = simdnorm::Output(h.array.data.get(), x.dtype);
  fusions.h_rounding = flags.round_h ? SIMDNORM_H_ROUNDED : SIMDNORM_H_UNROUNDED;
  fusions.gate = gate.input();
  fusions.quant_scale = flags.quant_scale;
  fusions.zero_point = flags.zero_point;
  fusions.quant_scales = quant_scales.f32();
  fusions.lengths = lengths.as<int64_t>();
  fusions.padding = flags.padding;
  if (lengths.data) fusions.rows_per_sequence = std::max<int64_t>(1, npy::Count({axes.outer.begin() + 1, axes.outer.end()}));
  fusions.inner = npy::Count(axes.inner);
  // No inner elements are no rows; the library takes inner = 0 for 1.
  const int64_t rows = fusions.inner > 0 ? npy::Count(axes.outer) : 0, cols = npy::Count(axes.normalized);
  fusions.rows_per_scale = RowsPerScale(scale, shift, rows, cols);

  const double seconds = Run(x, flags, [&] {
    if (rms) {
      return simdnorm::RMSNorm(x.input(), y.output(), rows, cols, {scale.input(), flags.epsilon, rstd.f32(), fusions},
                               MakeOptions(flags));
    }
    return simdnorm::LayerNorm(x.input(), y.output(), rows, cols,
                               {scale.input(), shift.input(), flags.epsilon, mean.f32(), rstd.f32(), fusions},
                               MakeOptions(flags));
  });
  std::FILE* const log = Save({{flags.output, &y.array},
                               {flags.save_mean, &mean},
                               {flags.save_rstd, &rstd},
                               {flags.save_h, &h.array},
                               {flags.save_quant_scales, &quant_scales}},
                              flags);
  Report(log, rms ? "rms-norm" : "layer-norm", x, y, {&residual, &gate, &h}, seconds, flags);
}

// What batch, group and instance norm have in common: x, all that fits it, and what the library is told of both.
struct ChannelTensors {
  Tensor x, apart, scale, shift, residual;
  npy::Array lengths, mask;
  npy::Shape per_channel;
  simdnorm::Shape shape;
  simdnorm::ChannelFusions fusions;

  const Tensor& y() const { return apart ? apart : x; }
};

// `spatial` is x's shape without batch, channels and blocks.
simdnorm::Shape ChannelShape(const npy::Shape& shape, npy::Shape* spatial, const Flags& flags) {
  const auto failure = [&](const std::string& what) { return Failure(what + "; --input has shape " + npy::ToString(shape)); };
  const bool blocked = IsBlocked(flags.layout);
  // Channels, or their blocks, are x's second axis; channels, or those of a block, are its last.
  const bool second = flags.layout != SIMDNORM_NHWC, last = flags.layout != SIMDNORM_NCHW;
  if (shape.size() < (blocked ? 3 : 2)) throw failure("a batch and channels are needed");
  if (blocked) {
    const int64_t block = flags.layout == SIMDNORM_NCHW8C ? 8 : 16, blocks = (flags.channels - 1) / block + 1;
    if (shape[1] != blocks || shape.back() != block) {
      throw failure(std::to_string(flags.channels) + " channels in this layout are [batch, " + std::to_string(blocks) +
                    ", spatial..., " + std::to_string(block) + "]");
    }
  }
  spatial->assign(shape.begin() + 1 + second, shape.end() - last);
  const int64_t channels = blocked ? flags.channels : last ? shape.back() : shape[1];
  return {shape[0], channels, npy::Count(*spatial), flags.layout};
}

ChannelTensors LoadChannels(const Flags& flags) {
  ChannelTensors t;
  t.x = LoadX(flags);
  npy::Shape spatial;
  t.shape = ChannelShape(t.x.array.shape, &spatial, flags);
  t.per_channel = {t.shape.channels};
  npy::Shape per_position = {t.shape.batch};
  per_position.insert(per_position.end(), spatial.begin(), spatial.end());

  t.scale = LoadOptional("--scale", flags.scale, t.per_channel, t.x, flags);
  t.shift = LoadOptional("--shift", flags.shift, t.per_channel, t.x, flags);
  t.residual = LoadOptional("--residual", flags.residual, t.x.array.shape, t.x, flags);
  if (flags.lengths) t.lengths = LoadLengths(t.x, flags);
  t.mask = LoadOptional("--mask", flags.mask, per_position, t.x, {npy::Dtype::kBool, npy::Dtype::kU8}, flags);
  t.apart = MakeY(t.x, flags.output_dtype.value_or(t.x.dtype), t.x.array.shape, flags);

  t.fusions.activation = flags.activation;
  t.fusions.activation_slope = ActivationSlope(flags);
  t.fusions.residual = t.residual.input();
  t.fusions.lengths = t.lengths.as<int64_t>();
  t.fusions.mask = t.mask.as<uint8_t>();
  t.fusions.padding = flags.padding;
  return t;
}

void BatchNorm(const Flags& flags) {
  const ChannelTensors t = LoadChannels(flags);
  const auto parameter = [&](const char* flag, const File& path) { return LoadF32(flag, path, t.per_channel, t.x, flags); };
  const npy::Array mean =
      flags.training ? MakeStatistic(flags.save_mean, t.per_channel, t.x, flags) : parameter("--mean", flags.mean);
  const npy::Array variance = parameter("--variance", flags.variance);
  const npy::Array rstd = MakeStatistic(flags.save_rstd, t.per_channel, t.x, flags);
  const npy::Array running_mean = parameter("--running-mean", flags.running_mean);
  const npy::Array running_variance = parameter("--running-variance", flags.running_variance);
  const double seconds = Run(t.x, flags, [&] {
    if (!flags.training) {
      return simdnorm::BatchNormInference(
          t.x.input(), t.y().output(), t.shape,
          {mean.f32(), variance.f32(), t.scale.input(), t.shift.input(), flags.epsilon, t.fusions}, MakeOptions(flags));
    }
    simdnorm::BatchNormTrainingParams params;
    params.scale = t.scale.input();
    params.shift = t.shift.input();
    params.epsilon = flags.epsilon;
    params.mean = mean.f32();
    params.rstd = rstd.f32();
    params.running_mean = running_mean.f32();
    params.running_variance = running_variance.f32();
    params.momentum = flags.momentum;
    params.running_variance_kind = flags.running_variance_kind;
    params.fusions = t.fusions;
    return simdnorm::BatchNormTraining(t.x.input(), t.y().output(), t.shape, params, MakeOptions(flags));
  });
  std::FILE* const log = Save({{flags.output, &t.y().array},
                               {flags.save_mean, &mean},
                               {flags.save_rstd, &rstd},
                               {flags.save_running_mean, &running_mean},
                               {flags.save_running_variance, &running_variance}},
                              flags);
  Report(log, flags.training ? "batch-norm (training)" : "batch-norm", t.x, t.y(), {&t.residual}, seconds, flags);
}

void GroupNorm(const Flags& flags, bool instance) {
  const ChannelTensors t = LoadChannels(flags);
  const int64_t groups = instance ? t.shape.channels : flags.groups;
  if (!instance && t.shape.channels % groups != 0) {
    throw Failure("--groups " + std::to_string(groups) + " does not divide the " + std::to_string(t.shape.channels) +
                  " channels of --input");
  }
  const npy::Array mean = MakeStatistic(flags.save_mean, {t.shape.batch, groups}, t.x, flags);
  const npy::Array rstd = MakeStatistic(flags.save_rstd, {t.shape.batch, groups}, t.x, flags);
  const simdnorm::GroupNormParams params = {t.scale.input(), t.shift.input(), flags.epsilon, mean.f32(), rstd.f32(), t.fusions};
  const double seconds = Run(t.x, flags, [&] {
    if (instance) return simdnorm::InstanceNorm(t.x.input(), t.y().output(), t.shape, params, MakeOptions(flags));
    return simdnorm::GroupNorm(t.x.input(), t.y().output(), t.shape, groups, params, MakeOptions(flags));
  });
  std::FILE* const log = Save({{flags.output, &t.y().array}, {flags.save_mean, &mean}, {flags.save_rstd, &rstd}}, flags);
  Report(log, instance ? "instance-norm" : "group-norm", t.x, t.y(), {&t.residual}, seconds, flags);
}

void FoldBatchNorm(const Flags& flags) {
  const Tensor weight = {Load(flags.weight, {npy::Dtype::kF32}, flags), SIMDNORM_F32, "--weight"};
  const npy::Shape& shape = weight.array.shape;
  if (shape.size() < 2) {
    throw Failure("--weight needs an axis of outputs and one of inputs; it has shape " + npy::ToString(shape));
  }
  const int64_t kernel = npy::Count({shape.begin() + 2, shape.end()});
  // The library writes nothing then, and there would be a bias to save.
  if (weight.array.count() == 0) throw Failure("--weight has shape " + npy::ToString(shape) + ", which has no elements");
  // With this all sizes, and the memory for the bias, are within what the file has.
  if (shape[0] % flags.groups != 0) {
    throw Failure("--groups " + std::to_string(flags.groups) + " does not divide the " + std::to_string(shape[0]) +
                  (flags.transposed ? " inputs" : " outputs") + " of --weight");
  }
  const int64_t all_of_groups = shape[1] * flags.groups;
  const int64_t out_channels = flags.transposed ? all_of_groups : shape[0];
  const int64_t in_channels = flags.transposed ? shape[0] : all_of_groups;
  const npy::Shape per_channel = {flags.position == SIMDNORM_FOLD_INTO_PRECEDING ? out_channels : in_channels};
  const auto load = [&](const char* flag, const File& path, const npy::Shape& fit) {
    return LoadF32(flag, path, fit, weight, flags);
  };

  const npy::Array mean = load("--mean", flags.mean, per_channel), variance = load("--variance", flags.variance, per_channel);
  const npy::Array scale = load("--scale", flags.scale, per_channel), shift = load("--shift", flags.shift, per_channel);
  const npy::Array bias = load("--bias", flags.bias, {out_channels});
  const npy::Array folded_bias = Make(npy::Dtype::kF32, {out_channels});
  const simdnorm::FoldShape fold_shape = {out_channels, in_channels, kernel, flags.groups, flags.transposed};
  const simdnorm::FoldBatchNormParams params = {mean.f32(),  variance.f32(), scale.f32(),
                                                shift.f32(), flags.epsilon,  flags.position};
  const double seconds = Run(weight, flags, [&] {
    return simdnorm::FoldBatchNorm(weight.array.f32(), bias.f32(), weight.array.f32(), folded_bias.f32(), fold_shape, params,
                                   MakeOptions(flags));
  });
  std::FILE* const log = Save({{flags.output_weight, &weight.array}, {flags.output_bias, &folded_bias}}, flags);
  if (!flags.quiet) std::fprintf(log, "fold-batch-norm %s: %.3g ms\n", npy::ToString(shape).c_str(), seconds * 1e3);
}

void ListTargets() {
  for (const char* const* target = simdnorm::Targets(); *target != nullptr; ++target) {
    std::printf("%s%s\n", *target, target == simdnorm::Targets() ? " (default)" : "");
  }
}

// The lines that other machines, compilers, targets and numbers of threads are to give as well.
void PrintDigests(const Flags& flags) {
  simdnorm_options options = {};
  options.struct_size = sizeof(options);
  options.target = flags.target ? flags.target->c_str() : simdnorm::Targets()[0];
  options.max_threads = flags.threads;
  if (!digest::HasFusedMultiplyAdd(options.target) && !flags.quiet) {
    std::fprintf(stderr, "simdnorm: note: %s has no fused multiply-add: its digests are not those of other targets\n",
                 options.target);
  }
  for (const digest::Group& group : digest::Groups()) {
    if (std::printf("%s\n", digest::Line(group, options).c_str()) < 0) return;  // for whom, then? FinishOutput says so
  }
}

double FromF16(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double special = fraction == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  const double magnitude = exponent == 31  ? special
                           : exponent == 0 ? std::ldexp(fraction, -24)
                                           : std::ldexp(1024 + fraction, exponent - 25);
  return bits >> 15 != 0 ? -magnitude : magnitude;
}

double FromBF16(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return static_cast<double>(value);
}

double ValueAt(const npy::Array& array, int64_t i) {
  switch (array.dtype) {
    case npy::Dtype::kF16:
      return FromF16(array.as<uint16_t>()[i]);
    case npy::Dtype::kF32:
      return static_cast<double>(array.f32()[i]);
    case npy::Dtype::kF64:
      return array.f64()[i];
    case npy::Dtype::kI8:
      return array.as<int8_t>()[i];
    case npy::Dtype::kU8:
    case npy::Dtype::kBool:
      return array.as<uint8_t>()[i];
    case npy::Dtype::kU16:
      return FromBF16(array.as<uint16_t>()[i]);
    case npy::Dtype::kI32:
      return array.as<int32_t>()[i];
    case npy::Dtype::kI64:
      return static_cast<double>(array.as<int64_t>()[i]);
  }
  return std::numeric_limits<double>::quiet_NaN();
}

// How far A is from B. -> whether within --tolerance; NaN and Inf have to stand in the same places whatever it is.
bool Compare(const Flags& flags) {
  const auto load = [&](const std::string& path) {
    return Load(path,
                {npy::Dtype::kF32, npy::Dtype::kF64, npy::Dtype::kF16, npy::Dtype::kU16, npy::Dtype::kI8, npy::Dtype::kU8},
                flags);
  };
  const npy::Array a = load(flags.compare_a), b = load(flags.compare_b);
  if (a.shape != b.shape) {
    throw Failure(flags.compare_a + " has shape " + npy::ToString(a.shape) + ", " + flags.compare_b + " has " +
                  npy::ToString(b.shape));
  }
  double worst = 0, largest = 0;
  int64_t misplaced = 0;
  for (int64_t i = 0; i < a.count(); ++i) {
    const double va = ValueAt(a, i), vb = ValueAt(b, i);
    if (std::isfinite(va) && std::isfinite(vb)) {
      worst = std::max(worst, std::abs(va - vb));
      largest = std::max(largest, std::abs(vb));
    } else {
      misplaced += !(va == vb || (std::isnan(va) && std::isnan(vb)));
    }
  }
  const bool ok = misplaced == 0 && worst <= flags.tolerance.value_or(std::numeric_limits<double>::infinity());
  if (!flags.quiet) {
    std::printf("error %.3g, %.3g of the largest value", worst, largest > 0 ? worst / largest : 0);
    if (misplaced != 0) std::printf(", %lld NaN or Inf differ", static_cast<long long>(misplaced));
    if (flags.tolerance) std::printf(", bound %.3g", *flags.tolerance);
    std::printf(": %s\n", ok ? "ok" : "NOT OK");
  }
  return ok;
}

// Runs what the command line asks for, and returns the exit status.
int Main(int argc, char** argv) {
  Flags flags;
  bool ok = true;
  CLI::App app("Normalizes tensors in .npy files (float32, float16, bfloat16) with SIMD.", "simdnorm");
  DeclareCommands(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    // A misspelt flag is the reason rather than what is missing because of it.
    const std::vector<std::string> unknown = app.remaining(true);
    if (unknown.empty()) throw Failure(e.what() + std::string(" (see --help)"));
    const bool is_subcommand = app.get_subcommands().empty() && unknown[0][0] != '-';
    if (!is_subcommand) throw Failure("unknown argument '" + unknown[0] + "' (see --help)");
    std::string names;
    for (const CLI::App* command : app.get_subcommands(nullptr)) names += (names.empty() ? "" : ", ") + command->get_name();
    throw Failure("unknown subcommand '" + unknown[0] + "'; there are " + names);
  }
  if (app.got_subcommand("layer-norm")) NormalizeRows(flags, false);
  if (app.got_subcommand("rms-norm")) NormalizeRows(flags, true);
  if (app.got_subcommand("batch-norm")) BatchNorm(flags);
  if (app.got_subcommand("group-norm")) GroupNorm(flags, false);
  if (app.got_subcommand("instance-norm")) GroupNorm(flags, true);
  if (app.got_subcommand("fold-batch-norm")) FoldBatchNorm(flags);
  if (app.got_subcommand("targets")) ListTargets();
  if (app.got_subcommand("digest")) PrintDigests(flags);
  if (app.got_subcommand("compare")) ok = Compare(flags);
  return ok ? 0 : 1;
}

// What has been printed has to have arrived.
void FinishOutput() {
  if (std::ferror(stdout) != 0 || std::fflush(stdout) != 0) throw Failure("cannot write to standard output");
}

}  // namespace
}  // namespace cli

int main(int argc, char** argv) {
  // A closed pipe and a full quota are to come back as errors of write, which leave no temporary files behind.
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  std::setlocale(LC_CTYPE, "C.UTF-8");  // which names and messages are taken to be in, whatever the terminal's
  try {
    const int status = cli::Main(argc, argv);
    cli::FinishOutput();
    return status;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "simdnorm: %s\n", cli::Printable(e.what()).c_str());
    return 2;
  }
}
