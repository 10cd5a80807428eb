// The command line's flags: their values, and their declaration to CLI11, which reads the arguments: it hands a flag the word
// after it whatever that begins with (--axis -1, --epsilon -0.5), writes the help, and states which flags need or exclude each
// other where they are declared. What it has no words for is checked in the Check functions here. Inline like CLI11 itself;
// simdnorm.cc includes it.
#ifndef SIMDNORM_TOOLS_FLAGS_H_
#define SIMDNORM_TOOLS_FLAGS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "simdnorm/simdnorm.h"

namespace cli {

using File = std::optional<std::string>;

// A choice of --quantize: int8 with a factor for each row. The others are dtypes of the library.
constexpr int32_t kI8Rows = -1;

// The values of all flags; a subcommand declares those it knows.
struct Flags {
  std::string input, output;
  std::optional<simdnorm_dtype> dtype, output_dtype;
  File scale, shift, mean, variance, running_mean, running_variance;
  File save_mean, save_rstd, save_running_mean, save_running_variance;
  int64_t axis = -1;
  std::optional<int64_t> axes;
  float epsilon = 1e-5f, momentum = 0.1f;
  bool training = false;
  simdnorm_layout layout = SIMDNORM_NCHW;
  simdnorm_running_variance_kind running_variance_kind = SIMDNORM_UNBIASED;
  int64_t channels = 0, groups = 1;

  File residual, bias, save_h, gate;
  float scale_offset = 0;
  simdnorm_residual_order residual_order = SIMDNORM_RESIDUAL_BEFORE;
  bool round_h = false;
  simdnorm_activation activation = SIMDNORM_NO_ACTIVATION;
  float activation_slope = 0.01f;  // PyTorch's and ONNX's default

  std::optional<int32_t> quantize;
  float quant_scale = 0;
  int32_t zero_point = 0;
  File save_quant_scales;

  File lengths, mask;
  simdnorm_padding padding = SIMDNORM_PADDING_ZERO;

  std::string weight, output_weight, output_bias;
  simdnorm_fold_position position = SIMDNORM_FOLD_INTO_PRECEDING;
  bool transposed = false;

  std::string compare_a, compare_b;
  std::optional<double> tolerance;

  File target;
  int32_t threads = 0;
  bool quiet = false;
};

inline bool IsBlocked(simdnorm_layout layout) { return layout == SIMDNORM_NCHW8C || layout == SIMDNORM_NCHW16C; }

// Flags are declared group by group, as --help lists them.

// A file that may be left out, or one that may not.
inline CLI::Option* AddFile(CLI::App* command, const std::string& flag, File& file, const std::string& what) {
  return command->add_option(flag, file, what)->type_name("FILE");
}
inline CLI::Option* AddFile(CLI::App* command, const std::string& flag, std::string& file, const std::string& what) {
  return command->add_option(flag, file, what)->type_name("FILE")->required();
}

using Choices = std::vector<std::pair<std::string, int32_t>>;

// A flag whose values are the names of constants. Value is int32_t or an optional one.
template <class Value>
CLI::Option* AddChoice(CLI::App* command, const std::string& flag, Value& value, const std::string& what,
                       const Choices& choices) {
  std::string names, initial;
  for (const auto& [name, constant] : choices) {
    names += (names.empty() ? "" : "|") + name;
    if (value == Value(constant)) initial = name;
  }
  const auto look_up = [choices, names](std::string& text) -> std::string {
    const std::string lower = CLI::detail::to_lower(text);
    for (const auto& [name, constant] : choices) {
      if (lower != name) continue;
      text = std::to_string(constant);
      return "";
    }
    return "'" + text + "' is none of " + names;
  };
  return command->add_option(flag, value, what)->transform(CLI::Validator(look_up, ""))->type_name(names)->default_str(initial);
}

inline const Choices kFloats = {{"f32", SIMDNORM_F32}, {"bf16", SIMDNORM_BF16}, {"f16", SIMDNORM_F16}};

inline void AddTensors(CLI::App* command, Flags& flags) {
  AddFile(command, "--input", flags.input, "x");
  AddFile(command, "--output", flags.output, "y; may be --input itself");
  AddChoice(command, "--dtype", flags.dtype, "x's dtype, for bf16: uint16 files ('<u2', 'V2') then hold its bits", kFloats);
  AddChoice(command, "--output-dtype", flags.output_dtype, "y's dtype; x's if not given", kFloats);
}

inline void AddEpsilon(CLI::App* command, Flags& flags, const std::string& what = "added to the variance") {
  command->add_option("--epsilon", flags.epsilon, what)->capture_default_str();
}

inline void AddActivation(CLI::App* command, Flags& flags) {
  CLI::Option* activation = AddChoice(command, "--activation", flags.activation,
                                      "applied to the normalized values, plus the residual if that is added to them",
                                      {{"none", SIMDNORM_NO_ACTIVATION},
                                       {"relu", SIMDNORM_RELU},
                                       {"leaky-relu", SIMDNORM_LEAKY_RELU},
                                       {"silu", SIMDNORM_SILU},
                                       {"gelu", SIMDNORM_GELU},
                                       {"gelu-tanh", SIMDNORM_GELU_TANH}});
  command->add_option("--activation-slope", flags.activation_slope, "of leaky-relu")->capture_default_str()->needs(activation);
}

inline CLI::Option* AddPadding(CLI::App* command, Flags& flags) {
  return AddChoice(command, "--padding", flags.padding, "the output there: zero, or what x holds",
                   {{"zero", SIMDNORM_PADDING_ZERO}, {"untouched", SIMDNORM_PADDING_UNTOUCHED}});
}

inline void Refuse(bool contradiction, const std::string& words) {
  if (contradiction) throw CLI::ValidationError(words);
}

// What the declarations cannot say, of the flags that every norm has.
inline void CheckFusions(const CLI::App& command, const Flags& flags) {
  Refuse(command.count("--activation-slope") > 0 && flags.activation != SIMDNORM_LEAKY_RELU,
         "--activation-slope requires --activation leaky-relu");
  Refuse(command.count("--padding") > 0 && !flags.lengths && !flags.mask, "--padding requires --lengths or --mask");
}

inline void CheckRowNorm(const CLI::App& command, const Flags& flags) {
  CheckFusions(command, flags);
  const bool adds = flags.bias || (flags.residual && flags.residual_order == SIMDNORM_RESIDUAL_BEFORE);
  for (const char* flag : {"--save-h", "--round-h"}) {
    Refuse(command.count(flag) > 0 && !adds,
           flag + std::string(" requires --bias, or --residual added before: h is x otherwise"));
  }
  const bool is_i8 = flags.quantize == SIMDNORM_I8, one_factor = is_i8 || flags.quantize == SIMDNORM_U8;
  Refuse(one_factor && command.count("--quant-scale") == 0,
         "--quantize i8 or u8 requires --quant-scale; i8-rows finds a factor for each row");
  for (const char* flag : {"--quant-scale", "--zero-point"}) {
    Refuse(command.count(flag) > 0 && !one_factor, flag + std::string(" requires --quantize i8 or u8"));
  }
  const int32_t least = is_i8 ? -128 : 0, most = is_i8 ? 127 : 255;
  Refuse(one_factor && (flags.zero_point < least || flags.zero_point > most),
         "--zero-point " + std::to_string(flags.zero_point) + " is not within " + std::to_string(least) + ".." +
             std::to_string(most) + " of --quantize " + (is_i8 ? "i8" : "u8"));
  Refuse((flags.quantize == kI8Rows) != flags.save_quant_scales.has_value(),
         "--quantize i8-rows and --save-quant-scales require each other");
}

inline void CheckBatchNorm(const CLI::App& command, const Flags& flags) {
  CheckFusions(command, flags);
  Refuse(!flags.training && !flags.mean, "batch-norm needs --mean and --variance, or --training");
  Refuse(IsBlocked(flags.layout) != (flags.channels > 0), "--layout nchw8c or nchw16c and --channels require each other");
  Refuse(command.count("--momentum") > 0 && !flags.running_mean && !flags.running_variance,
         "--momentum requires --running-mean or --running-variance");
}

inline void DeclareRowNorm(CLI::App* command, Flags& flags, bool rms) {
  AddTensors(command, flags);
  command->add_option("--axis", flags.axis, "the first normalized axis; negative counts from the end")->capture_default_str();
  command->add_option("--axes", flags.axes, "how many are normalized; all from --axis on if not given")
      ->check(CLI::PositiveNumber);
  AddEpsilon(command, flags, rms ? "added to the mean square" : "added to the variance");
  const std::string shape = "of the normalized shape; with x's first axes before that, one for each group of rows";
  CLI::Option* scale = AddFile(command, "--scale", flags.scale, "gamma, " + shape);
  command->add_option("--scale-offset", flags.scale_offset, "added to scale: 1 for Gemma")->needs(scale);
  if (!rms) {
    AddFile(command, "--shift", flags.shift, "beta, " + shape);
    AddFile(command, "--save-mean", flags.save_mean, "out: the mean of each row");
  }
  AddFile(command, "--save-rstd", flags.save_rstd, "out: one over the root, of each row");

  command->option_defaults()->group("Fused");
  CLI::Option* residual = AddFile(command, "--residual", flags.residual, "added, of x's shape");
  AddChoice(command, "--residual-order", flags.residual_order, "the residual is added before or after the normalization",
            {{"before", SIMDNORM_RESIDUAL_BEFORE}, {"after", SIMDNORM_RESIDUAL_AFTER}})
      ->needs(residual);
  AddFile(command, "--bias", flags.bias, "added before it, of the normalized shape");
  AddFile(command, "--save-h", flags.save_h, "out: the sum that is normalized, in x's dtype");
  command->add_flag("--round-h", flags.round_h, "normalize that sum as rounded to x's dtype");
  AddActivation(command, flags);
  AddFile(command, "--gate", flags.gate, "y is multiplied by silu(gate); of x's shape");

  command->option_defaults()->group("Quantized output");
  AddChoice(command, "--quantize", flags.quantize, "i8-rows: a factor for each row; q8_0: ggml's blocks of 32, as bytes",
            {{"i8", SIMDNORM_I8}, {"u8", SIMDNORM_U8}, {"i8-rows", kI8Rows}, {"q8_0", SIMDNORM_Q8_0}})
      ->excludes(command->get_option("--output-dtype"));
  command->add_option("--quant-scale", flags.quant_scale, "the factor of i8 and u8")->check(CLI::PositiveNumber);
  command->add_option("--zero-point", flags.zero_point, "of i8 and u8")->capture_default_str();
  AddFile(command, "--save-quant-scales", flags.save_quant_scales, "out: the factors of i8-rows");

  command->option_defaults()->group("Padding");
  CLI::Option* lengths =
      AddFile(command, "--lengths", flags.lengths,
              "int32 or int64, one for each of x's first axis: how many rows of the axes up to --axis count");
  AddPadding(command, flags)->needs(lengths);
  command->callback([command, &flags] { CheckRowNorm(*command, flags); });
}

// Batch, group and instance norm.
inline void DeclareChannelNorm(CLI::App* command, Flags& flags, const char* statistic_shape) {
  AddTensors(command, flags);
  AddEpsilon(command, flags);
  AddFile(command, "--scale", flags.scale, "gamma, [channels]");
  AddFile(command, "--shift", flags.shift, "beta, [channels]");
  AddFile(command, "--save-mean", flags.save_mean, std::string("out: the mean, ") + statistic_shape);
  AddFile(command, "--save-rstd", flags.save_rstd, std::string("out: one over the root, ") + statistic_shape);

  command->option_defaults()->group("Fused");
  AddFile(command, "--residual", flags.residual, "added after the normalization, of x's shape");
  AddActivation(command, flags);

  command->option_defaults()->group("Padding");
  CLI::Option* lengths =
      AddFile(command, "--lengths", flags.lengths, "int32 or int64, [batch]: how many positions count of each sample");
  AddFile(command, "--mask", flags.mask, "bool or uint8, [batch, spatial...]: which positions count")->excludes(lengths);
  AddPadding(command, flags);

  command->option_defaults()->group("Options");
  command->callback([command, &flags] { CheckFusions(*command, flags); });
}

inline const Choices kLayouts = {{"nchw", SIMDNORM_NCHW}, {"nhwc", SIMDNORM_NHWC}};

inline void DeclareBatchNorm(CLI::App* command, Flags& flags) {
  DeclareChannelNorm(command, flags, "[channels]");
  Choices layouts = kLayouts;
  layouts.insert(layouts.end(), {{"nchw8c", SIMDNORM_NCHW8C}, {"nchw16c", SIMDNORM_NCHW16C}});
  AddChoice(command, "--layout", flags.layout,
            "channels at axis 1, last, or in blocks: [batch, blocks, spatial..., 8 or 16], with --channels", layouts);
  command->add_option("--channels", flags.channels, "how many a blocked x has")->check(CLI::PositiveNumber);
  CLI::Option* mean = AddFile(command, "--mean", flags.mean, "[channels]");
  CLI::Option* variance = AddFile(command, "--variance", flags.variance, "[channels]");

  command->option_defaults()->group("Training");
  CLI::Option* training = command->add_flag("--training", flags.training, "normalize with the batch's own statistics");
  CLI::Option* running_mean = AddFile(command, "--running-mean", flags.running_mean, "to update, [channels]");
  CLI::Option* running_variance = AddFile(command, "--running-variance", flags.running_variance, "to update, [channels]");
  CLI::Option* save_running_mean = AddFile(command, "--save-running-mean", flags.save_running_mean, "out: updated");
  CLI::Option* save_running_variance = AddFile(command, "--save-running-variance", flags.save_running_variance, "out: updated");
  CLI::Option* momentum = command->add_option("--momentum", flags.momentum, "the new batch's weight in the running statistics");
  momentum->capture_default_str();
  AddChoice(command, "--running-variance-kind", flags.running_variance_kind, "unbiased (PyTorch), biased (ONNX)",
            {{"unbiased", SIMDNORM_UNBIASED}, {"biased", SIMDNORM_BIASED}})
      ->needs(running_variance);

  mean->needs(variance)->excludes(training);
  variance->needs(mean)->excludes(training);
  for (const char* flag : {"--save-mean", "--save-rstd"}) command->get_option(flag)->needs(training);
  for (CLI::Option* flag : {running_mean, running_variance, momentum}) flag->needs(training);
  // An update that is not saved would be lost without a word, so each needs the other.
  running_mean->needs(save_running_mean);
  save_running_mean->needs(running_mean);
  running_variance->needs(save_running_variance);
  save_running_variance->needs(running_variance);
  command->callback([command, &flags] { CheckBatchNorm(*command, flags); });
}

inline void DeclareGroupNorm(CLI::App* command, Flags& flags, bool instance) {
  DeclareChannelNorm(command, flags, instance ? "[batch, channels]" : "[batch, groups]");
  AddChoice(command, "--layout", flags.layout, "channels at axis 1 or last", kLayouts);
  if (instance) return;
  command->add_option("--groups", flags.groups, "of neighbouring channels")->required()->check(CLI::PositiveNumber);
}

inline void DeclareFold(CLI::App* command, Flags& flags) {
  AddFile(command, "--weight", flags.weight, "[outputs, inputs / groups, kernel...], as PyTorch has it");
  AddFile(command, "--bias", flags.bias, "[outputs]");
  AddChoice(command, "--position", flags.position, "the layer is before (preceding) or after the batch norm",
            {{"preceding", SIMDNORM_FOLD_INTO_PRECEDING}, {"following", SIMDNORM_FOLD_INTO_FOLLOWING}})
      ->default_str("")
      ->required();
  command->add_flag("--transposed", flags.transposed,
                    "a transposed convolution: weight is [inputs, outputs / groups, kernel...]");
  command->add_option("--groups", flags.groups, "of the convolution")->check(CLI::PositiveNumber)->capture_default_str();
  AddEpsilon(command, flags);
  AddFile(command, "--mean", flags.mean, "[channels]")->required();
  AddFile(command, "--variance", flags.variance, "[channels]")->required();
  AddFile(command, "--scale", flags.scale, "gamma, [channels]");
  AddFile(command, "--shift", flags.shift, "beta, [channels]");
  AddFile(command, "--output-weight", flags.output_weight, "out: the layer's weight with batch norm in it");
  AddFile(command, "--output-bias", flags.output_bias, "out: its bias, [outputs]");
}

inline void DeclareCompare(CLI::App* command, Flags& flags) {
  AddFile(command, "A", flags.compare_a, "");
  AddFile(command, "B", flags.compare_b, "");
  command->add_option("--tolerance", flags.tolerance, "the largest |A - B| that is right");
  AddChoice(command, "--dtype", flags.dtype, "bf16: uint16 files hold its bits", {{"bf16", SIMDNORM_BF16}});
}

// Declares all subcommands, which are named as here.
inline void DeclareCommands(CLI::App& app, Flags& flags) {
  app.require_subcommand(1);
  const auto add = [&](const char* name, const char* what) { return app.add_subcommand(name, what); };
  DeclareRowNorm(add("layer-norm", "y = (x - mean) / sqrt(variance + epsilon) * scale + shift, over each row"), flags, false);
  DeclareRowNorm(add("rms-norm", "y = x / sqrt(mean of x^2 + epsilon) * scale, over each row"), flags, true);
  DeclareBatchNorm(add("batch-norm", "as layer-norm, per channel; the mean and variance given or the batch's own"), flags);
  DeclareGroupNorm(add("group-norm", "as layer-norm, over each group of channels of each sample"), flags, false);
  DeclareGroupNorm(add("instance-norm", "as layer-norm, over each channel of each sample"), flags, true);
  DeclareFold(add("fold-batch-norm", "fold batch norm into the weight and bias of the layer before or after it"), flags);
  add("targets", "list the targets this machine supports, best first");
  add("digest", "digests of a fixed set of calls' result bits, to compare machines: a line each, a name and 16 hex digits");
  DeclareCompare(add("compare", "how far A is from B; exit status 1 if beyond --tolerance or in NaN or Inf"), flags);

  std::vector<CLI::App*> commands = app.get_subcommands(nullptr);
  commands.push_back(&app);
  for (CLI::App* command : commands) {
    command->option_defaults()->group("Common");
    command->add_option("--target", flags.target, "the instruction set to use, one of 'simdnorm targets'");
    command->add_option("--threads", flags.threads, "at most this many; 0: as many as there are")
        ->check(CLI::Range(0, std::numeric_limits<int32_t>::max()))
        ->capture_default_str();
    command->add_flag("--quiet", flags.quiet, "say nothing but errors");
    command->set_help_flag("-h,--help", "print this");
    command->set_version_flag("--version", std::string("simdnorm ") + simdnorm_version(), "print the version");
  }
}

}  // namespace cli

#endif  // SIMDNORM_TOOLS_FLAGS_H_
