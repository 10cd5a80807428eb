// Bad arguments, one at a time, for every function: the status, a message that names the argument and the values, nothing
// written, in a message buffer of any size. And what looks odd but is allowed.
#include <doctest/doctest.h>
#include <stdint.h>
#include <string.h>

#include <functional>
#include <initializer_list>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "problem.h"

namespace simdnorm_test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
const float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

// All that a call could touch. Rows: 3 x 5. Batch norm: 2 samples, 3 channels, 4 places.
struct Memory {
  float x[64], y[64], scale[16], shift[16], mean[16], rstd[16], running_mean[16], running_variance[16];

  Memory() {
    for (size_t i = 0; i < sizeof(*this) / sizeof(float); ++i) {
      reinterpret_cast<float*>(this)[i] = 0.5f + static_cast<float>(i * i % 17);
    }
  }
};

template <class Args>
constexpr bool kIsRows = std::is_same_v<Args, simdnorm_layer_norm_args> || std::is_same_v<Args, simdnorm_rms_norm_args>;
template <class Args>
constexpr bool kIsTraining = std::is_same_v<Args, simdnorm_batch_norm_training_args>;
template <class Args>
constexpr bool kIsInference = std::is_same_v<Args, simdnorm_batch_norm_inference_args>;
template <class Args>
constexpr bool kHasShift = !std::is_same_v<Args, simdnorm_rms_norm_args>;

// Arguments with which a call succeeds, every optional one given.
template <class Args>
Args Good(Memory& memory) {
  Args args = {};
  args.struct_size = sizeof(args);
  args.epsilon = 1e-5f;
  args.x = memory.x;
  args.y = memory.y;
  args.scale = memory.scale;
  if constexpr (kHasShift<Args>) {
    args.shift = memory.shift;
    args.mean = memory.mean;
  }
  if constexpr (kIsInference<Args>) {
    args.variance = memory.rstd;
  } else {
    args.rstd = memory.rstd;
  }
  if constexpr (kIsRows<Args>) {
    args.rows = 3;
    args.cols = 5;
  } else {
    args.batch = 2;
    args.channels = 3;
    args.spatial = 4;
  }
  if constexpr (kIsTraining<Args>) {
    args.momentum = 0.1f;
    args.running_mean = memory.running_mean;
    args.running_variance = memory.running_variance;
  }
  return args;
}

template <class Args>
using Spoil = std::function<void(Args&, simdnorm_options&)>;

// What is changed in a good call, and what it then has to say.
template <class Args>
struct BadCall {
  Spoil<Args> spoil;
  std::vector<std::string> words;
  simdnorm_status status = SIMDNORM_INVALID_ARGUMENT;
};

const void* OneByteOn(const void* p) { return static_cast<const char*>(p) + 1; }

template <class T>
T* Misaligned(T* p) {
  return const_cast<T*>(static_cast<const T*>(OneByteOn(p)));
}

template <class Args>
std::vector<BadCall<Args>> BadCallsOfAll() {
  using Options = simdnorm_options;
  return {
      {[](Args& a, Options&) { a.x = nullptr; }, {"x", "NULL"}},
      {[](Args& a, Options&) { a.y = nullptr; }, {"y", "NULL"}},
      {[](Args& a, Options&) { a.x = OneByteOn(a.x); }, {"x", "aligned", "4"}},
      {[](Args& a, Options&) { a.y = Misaligned(a.y); }, {"y", "aligned", "4"}},
      {[](Args& a, Options&) { a.scale = OneByteOn(a.scale); }, {"scale", "aligned", "4"}},
      {[](Args& a, Options&) { a.y = static_cast<float*>(const_cast<void*>(a.x)) + 1; }, {"y", "partly overlaps", "x", "4"}},
      {[](Args& a, Options&) { a.x = static_cast<float*>(a.y) + 14; }, {"y", "partly overlaps", "x"}},
      {[](Args& a, Options&) { a.scale = static_cast<float*>(a.y) + 14; }, {"scale", "overlaps", "y"}},
      {[](Args& a, Options&) { a.epsilon = kNaN; }, {"epsilon", "nan", "finite"}},
      {[](Args& a, Options&) { a.epsilon = kInf; }, {"epsilon", "inf", "finite"}},
      {[](Args& a, Options&) { a.epsilon = -kInf; }, {"epsilon", "-inf", "finite"}},
      {[](Args& a, Options&) { a.x_dtype = 9; }, {"x_dtype", "9"}},
      {[](Args& a, Options&) { a.y_dtype = -1; }, {"y_dtype", "-1"}},
      {[](Args& a, Options&) { a.scale_dtype = 77; }, {"scale_dtype", "77"}},
      {[](Args& a, Options&) { a.struct_size = 0; }, {"struct_size", "0"}},
      {[](Args& a, Options&) { a.struct_size = 16; }, {"struct_size", "16"}},
      {[](Args&, Options& o) { o.target = "AVX9"; },
       {"target", "AVX9", "not supported", simdnorm_targets()[0]},
       SIMDNORM_UNSUPPORTED},
      {[](Args&, Options& o) { o.target = ""; }, {"target", "\"\"", simdnorm_targets()[0]}, SIMDNORM_UNSUPPORTED},
      {[](Args&, Options& o) { o.max_threads = -3; }, {"max_threads", "-3"}},
  };
}

template <class Args>
std::vector<BadCall<Args>> BadCalls() {
  using Options = simdnorm_options;
  std::vector<BadCall<Args>> calls = BadCallsOfAll<Args>();
  const auto add = [&](Spoil<Args> spoil, std::vector<std::string> words) { calls.push_back({spoil, words}); };
  if constexpr (kIsRows<Args>) {
    add([](Args& a, Options&) { a.rows = -1; }, {"rows", "-1", "negative"});
    add([](Args& a, Options&) { a.cols = -7; }, {"cols", "-7", "negative"});
    add([](Args& a, Options&) { a.x_row_stride = 4; }, {"x_row_stride", "4", "less than", "cols", "5"});
    add([](Args& a, Options&) { a.y_row_stride = 3; }, {"y_row_stride", "3", "less than", "cols", "5"});
    add([](Args& a, Options&) { a.x_row_stride = -5; }, {"x_row_stride", "-5", "cols", "5"});
    add([](Args& a, Options&) { a.y = const_cast<void*>(a.x), a.y_row_stride = 6; },
        {"y_row_stride", "6", "x_row_stride", "5"});
    add([](Args& a, Options&) { a.rows = kMax / 2; }, {"rows", std::to_string(kMax / 2), "5"});
    add([](Args& a, Options&) { a.cols = kMax; }, {"cols", std::to_string(kMax)});
    add([](Args& a, Options&) { a.rows = int64_t{1} << 33, a.cols = int64_t{1} << 33; }, {"8589934592"});
    add([](Args& a, Options&) { a.x_row_stride = kMax / 2; }, {"x_row_stride", std::to_string(kMax / 2), "3"});
    add([](Args& a, Options&) { a.y_row_stride = kMax - 1; }, {"y_row_stride", std::to_string(kMax - 1), "3"});
  } else {
    add([](Args& a, Options&) { a.batch = -1; }, {"batch", "-1", "negative"});
    add([](Args& a, Options&) { a.channels = -2; }, {"channels", "-2", "negative"});
    add([](Args& a, Options&) { a.spatial = -3; }, {"spatial", "-3", "negative"});
    add([](Args& a, Options&) { a.batch = 0, a.spatial = -3; }, {"spatial", "-3", "negative"});
    add([](Args& a, Options&) { a.layout = 7; }, {"layout", "7"});
    add([](Args& a, Options&) { a.layout = -1; }, {"layout", "-1"});
    add([](Args& a, Options&) { a.batch = kMax; }, {"batch", std::to_string(kMax), "4"});
    add([](Args& a, Options&) { a.spatial = kMax / 2; }, {"spatial", std::to_string(kMax / 2), "2"});
    add([](Args& a, Options&) { a.channels = kMax / 4; }, {"channels", std::to_string(kMax / 4), "8"});
  }
  if constexpr (kHasShift<Args>) {
    add([](Args& a, Options&) { a.shift = OneByteOn(a.shift); }, {"shift", "aligned", "4"});
    add([](Args& a, Options&) { a.shift = a.y; }, {"shift", "overlaps", "y"});
    add([](Args& a, Options&) { a.mean = Misaligned(a.mean); }, {"mean", "aligned", "4"});
    add([](Args& a, Options&) { a.mean = static_cast<float*>(a.y); }, {"mean", "overlaps", "y"});
  }
  if constexpr (kIsInference<Args>) {
    add([](Args& a, Options&) { a.mean = nullptr; }, {"mean", "NULL"});
    add([](Args& a, Options&) { a.variance = nullptr; }, {"variance", "NULL"});
    add([](Args& a, Options&) { a.variance = Misaligned(a.variance); }, {"variance", "aligned", "4"});
    add([](Args& a, Options&) { a.variance = static_cast<float*>(a.y) + 1; }, {"variance", "overlaps", "y"});
  } else {
    add([](Args& a, Options&) { a.rstd = Misaligned(a.rstd); }, {"rstd", "aligned", "4"});
    add([](Args& a, Options&) { a.rstd = static_cast<float*>(const_cast<void*>(a.x)); }, {"rstd", "overlaps", "x"});
    add([](Args& a, Options&) { a.rstd = static_cast<float*>(const_cast<void*>(a.scale)) + 2; }, {"rstd", "overlaps", "scale"});
  }
  if constexpr (kIsTraining<Args>) {
    add([](Args& a, Options&) { a.momentum = kNaN; }, {"momentum", "nan", "finite"});
    add([](Args& a, Options&) { a.momentum = -kInf; }, {"momentum", "-inf", "finite"});
    add([](Args& a, Options&) { a.running_variance_kind = 2; }, {"running_variance_kind", "2"});
    add([](Args& a, Options&) { a.batch = a.spatial = 1; }, {"running_variance", "unbiased"});
    add([](Args& a, Options&) { a.running_mean = Misaligned(a.running_mean); }, {"running_mean", "aligned", "4"});
    add([](Args& a, Options&) { a.running_variance = Misaligned(a.running_variance); }, {"running_variance", "aligned", "4"});
    add([](Args& a, Options&) { a.running_mean = a.mean; }, {"running_mean", "overlaps", "mean"});
    add([](Args& a, Options&) { a.running_variance = a.running_mean + 2; }, {"running_variance", "overlaps", "running_mean"});
    add([](Args& a, Options&) { a.mean = a.rstd; }, {"mean", "overlaps", "rstd"});
  }
  return calls;
}

simdnorm_options OptionsOf(char* message, size_t capacity) {
  simdnorm_options options = {};
  options.struct_size = sizeof(options);
  options.message = message;
  options.message_capacity = capacity;
  return options;
}

// Arguments that a caller is not even able to pass by reference.
simdnorm_status CallNull(const simdnorm_layer_norm_args*, const simdnorm_options* options) {
  return simdnorm_layer_norm(nullptr, options);
}
simdnorm_status CallNull(const simdnorm_rms_norm_args*, const simdnorm_options* options) {
  return simdnorm_rms_norm(nullptr, options);
}
simdnorm_status CallNull(const simdnorm_batch_norm_inference_args*, const simdnorm_options* options) {
  return simdnorm_batch_norm_inference(nullptr, options);
}
simdnorm_status CallNull(const simdnorm_batch_norm_training_args*, const simdnorm_options* options) {
  return simdnorm_batch_norm_training(nullptr, options);
}

TEST_CASE_TEMPLATE("each bad argument is refused in words, and nothing is written", Args, simdnorm_layer_norm_args,
                   simdnorm_rms_norm_args, simdnorm_batch_norm_inference_args, simdnorm_batch_norm_training_args) {
  constexpr char kFill = '#';
  const std::vector<BadCall<Args>> calls = BadCalls<Args>();
  for (size_t i = 0; i < calls.size(); ++i) {
    const BadCall<Args>& bad = calls[i];
    Memory memory;
    const Memory before = memory;
    std::string whole;
    for (const size_t capacity : {400, 160, 20, 2, 1, 0}) {
      char message[401];
      memset(message, kFill, sizeof(message));
      simdnorm_options options = OptionsOf(message, capacity);
      Args args = Good<Args>(memory);
      bad.spoil(args, options);
      CHECK_MESSAGE(Call(args, &options) == bad.status, "bad call " << i << ": " << std::string(message));
      CHECK_MESSAGE(memcmp(&memory, &before, sizeof(memory)) == 0, "bad call " << i << ": " << std::string(message));
      if (capacity == 0) {
        CHECK(message[0] == kFill);
        continue;
      }
      const std::string said(message, strnlen(message, capacity));
      CHECK_MESSAGE(said.size() < capacity, "bad call " << i << ": not terminated");
      CHECK_MESSAGE(message[capacity] == kFill, "bad call " << i << ": written beyond the buffer");
      if (capacity == 400) {
        whole = said;
        for (const std::string& word : bad.words)
          CHECK_MESSAGE(said.find(word) != std::string::npos, said << " lacks " << word);
        CHECK_MESSAGE((bad.status != SIMDNORM_INVALID_ARGUMENT || said.size() < 160), said << " does not fit 160 bytes");
      } else {
        CHECK(said == whole.substr(0, capacity - 1));
      }
    }
    // Without a buffer, whatever capacity says, and without options, if the fault is not in them.
    simdnorm_options options = OptionsOf(nullptr, 400);
    Args args = Good<Args>(memory);
    bad.spoil(args, options);
    CHECK(Call(args, &options) == bad.status);
    if (options.target == nullptr && options.max_threads == 0) CHECK(Call(args, nullptr) == bad.status);
    CHECK(memcmp(&memory, &before, sizeof(memory)) == 0);
  }
}

TEST_CASE_TEMPLATE("args is NULL", Args, simdnorm_layer_norm_args, simdnorm_rms_norm_args, simdnorm_batch_norm_inference_args,
                   simdnorm_batch_norm_training_args) {
  char message[160];
  const simdnorm_options options = OptionsOf(message, sizeof(message));
  CHECK(CallNull(static_cast<Args*>(nullptr), &options) == SIMDNORM_INVALID_ARGUMENT);
  CHECK(std::string(message).find("args is NULL") != std::string::npos);
  CHECK(CallNull(static_cast<Args*>(nullptr), nullptr) == SIMDNORM_INVALID_ARGUMENT);
}

// A struct as a later version may have it.
template <class Struct>
struct Later {
  Struct known;
  char added[40];
};

TEST_CASE_TEMPLATE("structs of a later version pass as long as what is new in them is 0", Args, simdnorm_layer_norm_args,
                   simdnorm_rms_norm_args, simdnorm_batch_norm_inference_args, simdnorm_batch_norm_training_args) {
  Memory memory;
  char message[400];
  Later<Args> args = {Good<Args>(memory), {}};
  Later<simdnorm_options> options = {OptionsOf(message, sizeof(message)), {}};
  args.known.struct_size = sizeof(args);
  options.known.struct_size = sizeof(options);
  CHECK(Call(args.known, &options.known) == SIMDNORM_OK);

  const Memory before = memory;
  for (const size_t added : {size_t{0}, sizeof(args.added) - 1}) {
    args.added[added] = 1;
    CHECK(Call(args.known, &options.known) == SIMDNORM_UNSUPPORTED);
    CHECK_MESSAGE(std::string(message).find("args->struct_size") != std::string::npos, std::string(message));
    args.added[added] = 0;
    options.added[added] = 1;
    CHECK(Call(args.known, &options.known) == SIMDNORM_UNSUPPORTED);
    options.added[added] = 0;
  }
  for (const size_t size : {size_t{0}, sizeof(size_t)}) {
    options.known.struct_size = size;
    CHECK(Call(args.known, &options.known) == SIMDNORM_INVALID_ARGUMENT);
  }
  CHECK(memcmp(&memory, &before, sizeof(memory)) == 0);
}

TEST_CASE_TEMPLATE("what is allowed", Args, simdnorm_layer_norm_args, simdnorm_rms_norm_args,
                   simdnorm_batch_norm_inference_args, simdnorm_batch_norm_training_args) {
  using Options = simdnorm_options;
  std::vector<Spoil<Args>> calls = {
      [](Args&, Options&) {},
      [](Args& a, Options&) { a.scale = nullptr; },
      [](Args& a, Options&) { a.epsilon = -1; },
      [](Args& a, Options&) { a.epsilon = 0; },
      [](Args& a, Options&) { a.y = const_cast<void*>(a.x); },
      [](Args&, Options& o) { o.max_threads = 1000; },
      [](Args&, Options& o) { o.target = simdnorm_targets()[0]; },
  };
  if constexpr (kHasShift<Args>) {
    calls.push_back([](Args& a, Options&) { a.shift = a.scale; });  // inputs may overlap
    if constexpr (!kIsInference<Args>) calls.push_back([](Args& a, Options&) { a.mean = nullptr, a.rstd = nullptr; });
  }
  if constexpr (kIsRows<Args>) {
    calls.push_back([](Args& a, Options&) { a.rows = 1, a.x_row_stride = 2, a.y_row_stride = 1; });
    calls.push_back([](Args& a, Options&) { a.x_row_stride = a.y_row_stride = 5; });
    calls.push_back([](Args& a, Options&) {  // the rows of y in the gaps of x
      a.x_row_stride = a.y_row_stride = 10;
      a.y = static_cast<float*>(const_cast<void*>(a.x)) + 5;
    });
  }
  if constexpr (kIsTraining<Args>) {
    calls.push_back([](Args& a, Options&) { a.running_mean = nullptr, a.running_variance = nullptr; });
    calls.push_back([](Args& a, Options&) { a.running_mean = nullptr; });
    calls.push_back([](Args& a, Options&) { a.running_variance = nullptr, a.batch = a.spatial = 1; });
    calls.push_back([](Args& a, Options&) { a.running_variance_kind = SIMDNORM_BIASED, a.batch = a.spatial = 1; });
    calls.push_back([](Args& a, Options&) { a.momentum = -7; });
  }
  for (size_t i = 0; i < calls.size(); ++i) {
    Memory memory;
    const Memory before = memory;
    char message[160] = "unchanged or empty";
    simdnorm_options options = OptionsOf(message, sizeof(message));
    Args args = Good<Args>(memory);
    calls[i](args, options);
    CHECK_MESSAGE(Call(args, &options) == SIMDNORM_OK, "call " << i << ": " << std::string(message));
    CHECK_MESSAGE(memcmp(&memory, &before, sizeof(memory)) != 0, "call " << i << " wrote nothing");
  }
}

TEST_CASE_TEMPLATE("tensors without elements need no pointers", Args, simdnorm_layer_norm_args, simdnorm_rms_norm_args,
                   simdnorm_batch_norm_inference_args, simdnorm_batch_norm_training_args) {
  Args args = {};
  args.struct_size = sizeof(args);
  CHECK(Call(args, nullptr) == SIMDNORM_OK);
  if constexpr (kIsRows<Args>) {
    args.rows = 5;
    CHECK(Call(args, nullptr) == SIMDNORM_OK);
    args.rows = 0, args.cols = 5;
    CHECK(Call(args, nullptr) == SIMDNORM_OK);
  } else {
    args.batch = args.spatial = 5;
    CHECK(Call(args, nullptr) == SIMDNORM_OK);
    args.batch = 0, args.channels = 5;
    CHECK(Call(args, nullptr) == SIMDNORM_OK);
  }
  args.epsilon = kNaN;  // the other checks hold all the same
  CHECK(Call(args, nullptr) == SIMDNORM_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace simdnorm_test
