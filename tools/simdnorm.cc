// The command line: normalizes tensors in .npy files through the public API. It is the way to try the library on real data, and
// to compare it with other implementations from any language.
//
// CLI11 reads the arguments: it hands a flag the word after it whatever that begins with (--axis -1, --epsilon -0.5), writes
// the help, and states which flags need or exclude each other where they are declared. It throws, and so this file (and no
// other of the project) uses exceptions: whatever fails ends in main as one line on stderr and exit status 2.
#include "simdnorm/simdnorm.hpp"

#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <initializer_list>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "npy.h"

namespace {

// What the user has to be told.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

using File = std::optional<std::string>;

// The values of all flags; a subcommand declares those it knows.
struct Flags {
  std::string input, output;
  File scale, shift, mean, variance, running_mean, running_variance;
  File save_mean, save_rstd, save_running_mean, save_running_variance;
  int64_t axis = -1;
  float epsilon = 1e-5f, momentum = 0.1f;
  bool training = false;
  std::string layout = "nchw", running_variance_kind = "unbiased";

  std::string compare_a, compare_b;
  std::optional<double> tolerance;

  File target;
  int32_t threads = 0;
  bool quiet = false;
};

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
  Progress(std::string what, const Flags& flags)
      : what_(std::move(what)), wanted_(!flags.quiet && isatty(STDERR_FILENO) == 1) {}
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

npy::Array Load(const std::string& path, const Flags& flags) {
  std::string error;
  Progress progress("reading " + path, flags);
  std::optional<npy::Array> array = npy::Read(path, &error, std::ref(progress));
  if (!array) throw Failure(error);
  return std::move(*array);
}

npy::Array LoadF32(const std::string& path, const Flags& flags) {
  npy::Array array = Load(path, flags);
  if (array.dtype != npy::Dtype::kF32)
    throw Failure(path + ": has dtype " + npy::DtypeName(array.dtype) + "; float32 is needed");
  return array;
}

// A tensor that has to fit --input's; without data if its flag is not given.
npy::Array LoadParameter(const char* flag, const File& path, const npy::Shape& shape, const npy::Array& x, const Flags& flags) {
  if (!path) return {};
  npy::Array array = LoadF32(*path, flags);
  if (array.shape != shape) {
    throw Failure(std::string(flag) + " " + *path + " has shape " + npy::ToString(array.shape) + ", but --input's shape " +
                  npy::ToString(x.shape) + " asks for " + npy::ToString(shape));
  }
  return array;
}

// Room for a statistic; without data if its flag is not given. NaN, the mean of nothing, is what stays if x has no elements.
npy::Array MakeStatistic(const File& path, const npy::Shape& shape) {
  if (!path) return {};
  std::optional<npy::Array> array = npy::Array::Make(npy::Dtype::kF32, shape);
  if (!array) throw Failure("there is no memory for shape " + npy::ToString(shape));
  std::fill_n(array->f32(), array->count(), std::numeric_limits<float>::quiet_NaN());
  return std::move(*array);
}

simdnorm::Options MakeOptions(const Flags& flags) {
  simdnorm::Options options;
  options.target = flags.target ? flags.target->c_str() : nullptr;
  options.max_threads = flags.threads;
  return options;
}

// -> seconds
double Run(const npy::Array& x, const Flags& flags, const std::function<simdnorm::Result()>& call) {
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

void Save(std::initializer_list<std::pair<File, const npy::Array*>> files, const Flags& flags) {
  std::string error;
  bool ok = true;
  {
    const DeferInterrupts defer;
    npy::Outputs outputs;
    for (const auto& [path, array] : files) {
      if (!ok || !path) continue;
      Progress progress("writing " + *path, flags);
      ok = outputs.Add(*path, *array, &error, std::ref(progress));
    }
    ok = ok && interrupted == 0 && outputs.Commit(&error);
  }
  if (interrupted != 0) raise(interrupted);
  if (!ok) throw Failure(error);
}

void Report(const char* op, const npy::Array& x, double seconds, const Flags& flags) {
  if (flags.quiet) return;
  const int available = simdnorm_default_threads(),
            threads = flags.threads > 0 ? std::min(flags.threads, available) : available;
  const double bytes = 2.0 * static_cast<double>(x.bytes());
  std::printf("%s %s %s: target %s, %s%d thread%s, %.3g ms, %.3g GB/s\n", op, npy::ToString(x.shape).c_str(),
              npy::DtypeName(x.dtype), flags.target ? flags.target->c_str() : simdnorm::Targets()[0],
              threads > 1 ? "up to " : "", threads, threads > 1 ? "s" : "", seconds * 1e3,
              seconds > 0 ? bytes / seconds * 1e-9 : 0);
}

// Layer norm and RMS norm work in place: one copy of the tensor in memory, and none of its pages touched first in the timed
// call.
void NormalizeRows(const Flags& flags, bool rms) {
  npy::Array x = LoadF32(flags.input, flags);
  const int64_t rank = static_cast<int64_t>(x.shape.size());
  if (flags.axis < -rank || flags.axis >= rank) {
    throw Failure("--axis " + std::to_string(flags.axis) + " does not exist in --input's shape " + npy::ToString(x.shape));
  }
  const auto split = x.shape.begin() + (flags.axis < 0 ? flags.axis + rank : flags.axis);
  const npy::Shape outer(x.shape.begin(), split), normalized(split, x.shape.end());
  npy::Shape statistic = outer;
  statistic.resize(x.shape.size(), 1);
  const int64_t rows = npy::Count(outer), cols = npy::Count(normalized);

  const npy::Array scale = LoadParameter("--scale", flags.scale, normalized, x, flags);
  const npy::Array shift = LoadParameter("--shift", flags.shift, normalized, x, flags);
  const npy::Array mean = MakeStatistic(flags.save_mean, statistic);
  const npy::Array rstd = MakeStatistic(flags.save_rstd, statistic);
  const double seconds = Run(x, flags, [&] {
    if (rms)
      return simdnorm::RMSNorm(x.f32(), x.f32(), rows, cols, {scale.f32(), flags.epsilon, rstd.f32()}, MakeOptions(flags));
    return simdnorm::LayerNorm(x.f32(), x.f32(), rows, cols, {scale.f32(), shift.f32(), flags.epsilon, mean.f32(), rstd.f32()},
                               MakeOptions(flags));
  });
  Save({{flags.output, &x}, {flags.save_mean, &mean}, {flags.save_rstd, &rstd}}, flags);
  Report(rms ? "rms-norm" : "layer-norm", x, seconds, flags);
}

void BatchNorm(const Flags& flags) {
  if (!flags.training && !flags.mean) throw Failure("batch-norm needs --mean and --variance, or --training");
  npy::Array x = LoadF32(flags.input, flags);
  if (x.shape.size() < 2) throw Failure("batch-norm needs a batch and channels; --input has shape " + npy::ToString(x.shape));
  const bool nhwc = flags.layout == "nhwc";
  const int64_t channels = nhwc ? x.shape.back() : x.shape[1];
  const npy::Shape per_channel = {channels};
  const npy::Shape spatial(x.shape.begin() + (nhwc ? 1 : 2), x.shape.end() - (nhwc ? 1 : 0));
  const simdnorm::Shape shape = {x.shape[0], channels, npy::Count(spatial), nhwc ? SIMDNORM_NHWC : SIMDNORM_NCHW};
  const auto parameter = [&](const char* flag, const File& path) { return LoadParameter(flag, path, per_channel, x, flags); };

  const npy::Array scale = parameter("--scale", flags.scale), shift = parameter("--shift", flags.shift);
  const npy::Array mean = flags.training ? MakeStatistic(flags.save_mean, per_channel) : parameter("--mean", flags.mean);
  const npy::Array variance = parameter("--variance", flags.variance);
  const npy::Array rstd = MakeStatistic(flags.save_rstd, per_channel);
  const npy::Array running_mean = parameter("--running-mean", flags.running_mean);
  const npy::Array running_variance = parameter("--running-variance", flags.running_variance);
  const double seconds = Run(x, flags, [&] {
    if (!flags.training) {
      return simdnorm::BatchNormInference(
          x.f32(), x.f32(), shape, {mean.f32(), variance.f32(), scale.f32(), shift.f32(), flags.epsilon}, MakeOptions(flags));
    }
    simdnorm::BatchNormTrainingParams params;
    params.scale = scale.f32();
    params.shift = shift.f32();
    params.epsilon = flags.epsilon;
    params.mean = mean.f32();
    params.rstd = rstd.f32();
    params.running_mean = running_mean.f32();
    params.running_variance = running_variance.f32();
    params.momentum = flags.momentum;
    params.running_variance_kind = flags.running_variance_kind == "biased" ? SIMDNORM_BIASED : SIMDNORM_UNBIASED;
    return simdnorm::BatchNormTraining(x.f32(), x.f32(), shape, params, MakeOptions(flags));
  });
  Save({{flags.output, &x},
        {flags.save_mean, &mean},
        {flags.save_rstd, &rstd},
        {flags.save_running_mean, &running_mean},
        {flags.save_running_variance, &running_variance}},
       flags);
  Report(flags.training ? "batch-norm (training)" : "batch-norm", x, seconds, flags);
}

void ListTargets() {
  for (const char* const* target = simdnorm::Targets(); *target != nullptr; ++target) {
    std::printf("%s%s\n", *target, target == simdnorm::Targets() ? " (default)" : "");
  }
}

// How far A is from B. -> whether within --tolerance; NaN and Inf have to stand in the same places whatever it is.
bool Compare(const Flags& flags) {
  const npy::Array a = Load(flags.compare_a, flags), b = Load(flags.compare_b, flags);
  if (a.shape != b.shape) {
    throw Failure(flags.compare_a + " has shape " + npy::ToString(a.shape) + ", " + flags.compare_b + " has " +
                  npy::ToString(b.shape));
  }
  const auto value = [](const npy::Array& from, int64_t i) {
    return from.dtype == npy::Dtype::kF32 ? from.f32()[i] : from.f64()[i];
  };
  double worst = 0, largest = 0;
  int64_t misplaced = 0;
  for (int64_t i = 0; i < a.count(); ++i) {
    const double va = value(a, i), vb = value(b, i);
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

// Declares the command line into `flags`, runs what it asks for, and returns the exit status.
int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Normalizes tensors in .npy files (float32) with SIMD.", "simdnorm");
  app.require_subcommand(1);

  CLI::App* layer_norm =
      app.add_subcommand("layer-norm", "y = (x - mean) / sqrt(variance + epsilon) * scale + shift, over each row");
  CLI::App* rms_norm = app.add_subcommand("rms-norm", "y = x / sqrt(mean of x^2 + epsilon) * scale, over each row");
  CLI::App* batch_norm =
      app.add_subcommand("batch-norm", "as layer-norm, per channel; the mean and variance given or the batch's own");
  CLI::App* targets = app.add_subcommand("targets", "list the targets this machine supports, best first");
  CLI::App* compare =
      app.add_subcommand("compare", "how far A is from B; exit status 1 if beyond --tolerance or in NaN or Inf");

  for (CLI::App* sub : {layer_norm, rms_norm, batch_norm}) {
    sub->add_option("--input", flags.input, "x")->type_name("FILE")->required();
    sub->add_option("--output", flags.output, "y; may be --input itself")->type_name("FILE")->required();
    sub->add_option("--epsilon", flags.epsilon, "added to the variance or mean square")->capture_default_str();
    if (sub != batch_norm) {
      sub->add_option("--axis", flags.axis, "the first normalized axis; negative counts from the end")->capture_default_str();
    }
    const char* shape = sub == batch_norm ? ", [channels]" : ", of the normalized shape";
    sub->add_option("--scale", flags.scale, std::string("gamma") + shape)->type_name("FILE");
    if (sub != rms_norm) sub->add_option("--shift", flags.shift, std::string("beta") + shape)->type_name("FILE");
    if (sub != rms_norm)
      sub->add_option("--save-mean", flags.save_mean, "out: the mean of each row or channel")->type_name("FILE");
    sub->add_option("--save-rstd", flags.save_rstd, "out: one over the root, of each row or channel")->type_name("FILE");
  }

  batch_norm->add_option("--layout", flags.layout, "channels at axis 1 (nchw) or last (nhwc)")
      ->transform(CLI::IsMember({"nchw", "nhwc"}, CLI::ignore_case))
      ->capture_default_str();
  CLI::Option* training = batch_norm->add_flag("--training", flags.training, "normalize with the batch's own statistics");
  CLI::Option* mean = batch_norm->add_option("--mean", flags.mean, "[channels]");
  CLI::Option* variance = batch_norm->add_option("--variance", flags.variance, "[channels]");
  CLI::Option* running_mean = batch_norm->add_option("--running-mean", flags.running_mean, "to update, [channels]");
  CLI::Option* running_variance = batch_norm->add_option("--running-variance", flags.running_variance, "to update, [channels]");
  CLI::Option* save_running_mean = batch_norm->add_option("--save-running-mean", flags.save_running_mean, "out: updated");
  CLI::Option* save_running_variance =
      batch_norm->add_option("--save-running-variance", flags.save_running_variance, "out: updated");
  CLI::Option* momentum =
      batch_norm->add_option("--momentum", flags.momentum, "the new batch's weight in the running statistics");
  CLI::Option* kind =
      batch_norm->add_option("--running-variance-kind", flags.running_variance_kind, "unbiased (PyTorch), biased (ONNX)");
  momentum->capture_default_str();
  kind->check(CLI::IsMember({"unbiased", "biased"}))->capture_default_str()->needs(running_variance);
  for (CLI::Option* file : {mean, variance, running_mean, running_variance, save_running_mean, save_running_variance}) {
    file->type_name("FILE");
  }
  mean->needs(variance)->excludes(training);
  variance->needs(mean)->excludes(training);
  for (const char* flag : {"--save-mean", "--save-rstd"}) batch_norm->get_option(flag)->needs(training);
  for (CLI::Option* flag : {running_mean, running_variance, momentum}) flag->needs(training);
  // An update that is not saved would be lost without a word, so each needs the other.
  running_mean->needs(save_running_mean);
  save_running_mean->needs(running_mean);
  running_variance->needs(save_running_variance);
  save_running_variance->needs(running_variance);

  compare->add_option("A", flags.compare_a)->type_name("FILE")->required();
  compare->add_option("B", flags.compare_b)->type_name("FILE")->required();
  compare->add_option("--tolerance", flags.tolerance, "the largest |A - B| that is right");

  for (CLI::App* command : {&app, layer_norm, rms_norm, batch_norm, targets, compare}) {
    command->add_option("--target", flags.target, "the instruction set to use, one of 'simdnorm targets'")->group("Common");
    command->add_option("--threads", flags.threads, "at most this many; 0: as many as there are")
        ->check(CLI::Range(0, std::numeric_limits<int32_t>::max()))
        ->group("Common")
        ->capture_default_str();
    command->add_flag("--quiet", flags.quiet, "say nothing but errors")->group("Common");
    command->set_help_flag("-h,--help", "print this")->group("Common");
    command->set_version_flag("--version", std::string("simdnorm ") + simdnorm_version(), "print the version")->group("Common");
  }

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    // A misspelt flag is the reason rather than what is missing because of it.
    const std::vector<std::string> unknown = app.remaining(true);
    throw Failure(unknown.empty() ? e.what() + std::string(" (see --help)")
                                  : "unknown argument '" + unknown[0] + "' (see --help)");
  }
  if (momentum->count() > 0 && !flags.running_mean && !flags.running_variance) {
    throw Failure("--momentum requires --running-mean or --running-variance");
  }

  bool ok = true;
  if (layer_norm->parsed()) NormalizeRows(flags, false);
  if (rms_norm->parsed()) NormalizeRows(flags, true);
  if (batch_norm->parsed()) BatchNorm(flags);
  if (targets->parsed()) ListTargets();
  if (compare->parsed()) ok = Compare(flags);
  if (std::fflush(stdout) != 0) throw Failure("cannot write to standard output");
  return ok ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  // A closed pipe and a full quota are to come back as errors of write, which leave no temporary files behind.
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  try {
    return Main(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "simdnorm: %s\n", e.what());
    return 2;
  }
}
