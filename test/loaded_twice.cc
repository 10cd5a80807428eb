// The library twice in one process: linked statically into this program, which even exports it, and in the shared libraries
// given as arguments, which are opened at run time and may have been built with another version of Highway. All give the same
// bits, on every target that two of them have, also at the same time, and closing one leaves the others as they are. Usage:
// loaded_twice LIBRARY...
#include <dlfcn.h>
#include <string.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "simdnorm/simdnorm.h"

namespace {

// One of the libraries' functions.
struct Library {
  std::string name;
  void* handle = nullptr;
  decltype(&simdnorm_targets) targets = simdnorm_targets;
  decltype(&simdnorm_layer_norm) layer_norm = simdnorm_layer_norm;
  decltype(&simdnorm_batch_norm_training) batch_norm_training = simdnorm_batch_norm_training;
  decltype(&simdnorm_group_norm) group_norm = simdnorm_group_norm;
};

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);
}

template <class F>
void Find(const Library& library, const char* name, F* function) {
  *function = reinterpret_cast<F>(dlsym(library.handle, name));
  if (*function == nullptr) Fail(library.name + " has no " + name);
}

Library Open(const char* path) {
  Library library;
  library.name = path;
  library.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library.handle == nullptr) Fail(dlerror());
  const auto own = library.layer_norm;
  Find(library, "simdnorm_targets", &library.targets);
  Find(library, "simdnorm_layer_norm", &library.layer_norm);
  Find(library, "simdnorm_batch_norm_training", &library.batch_norm_training);
  Find(library, "simdnorm_group_norm", &library.group_norm);
  if (library.layer_norm == own) Fail(library.name + " is not a library of its own");
  return library;
}

bool HasTarget(const Library& library, const std::string& target) {
  for (const char* const* name = library.targets(); *name != nullptr; ++name) {
    if (target == *name) return true;
  }
  return false;
}

constexpr int64_t kBatch = 3, kChannels = 24, kSpatial = 1001, kSize = kBatch * kChannels * kSpatial;

// Results of three operations, each large enough to be split.
std::vector<float> Results(const Library& library, const char* target) {
  std::vector<float> x(kSize), results(3 * kSize);
  for (int64_t i = 0; i < kSize; ++i) x[static_cast<size_t>(i)] = static_cast<float>(i * 7919 % 10007) / 100.0f;
  simdnorm_options options = {};
  options.struct_size = sizeof(options);
  options.target = target;
  const auto check = [&](simdnorm_status status) {
    if (status != SIMDNORM_OK) Fail(library.name + ": " + simdnorm_status_name(status) + " on " + target);
  };
  float* y = results.data();
  const auto channels = [&](auto args) {
    args.struct_size = sizeof(args);
    args.epsilon = 1e-5f;
    args.x = x.data(), args.y = y;
    args.batch = kBatch, args.channels = kChannels, args.spatial = kSpatial;
    y += kSize;
    return args;
  };
  simdnorm_layer_norm_args rows = {};
  rows.struct_size = sizeof(rows);
  rows.epsilon = 1e-5f;
  rows.x = x.data(), rows.y = y;
  rows.rows = kBatch * kChannels, rows.cols = kSpatial;
  y += kSize;
  check(library.layer_norm(&rows, &options));
  const auto training = channels(simdnorm_batch_norm_training_args());
  check(library.batch_norm_training(&training, &options));
  auto group = channels(simdnorm_group_norm_args());
  group.groups = 4;
  check(library.group_norm(&group, &options));
  return results;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// All libraries at the same time, a thread each; fails unless they have this target's bits.
void RunAtOnce(const std::vector<Library>& libraries, const char* target, const std::vector<float>& expected) {
  std::vector<std::thread> threads;
  for (const Library& library : libraries) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5; ++i) {
        if (!SameBits(Results(library, target), expected)) Fail(library.name + ": other bits on " + target);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) Fail("usage: loaded_twice LIBRARY...");
  std::vector<Library> libraries(1);
  libraries[0].name = "this program";
  int compared = 0;
  for (const char* const* target = simdnorm_targets(); *target != nullptr; ++target) {
    const std::vector<float> expected = Results(libraries[0], *target);  // before any other is there, and again while they are
    std::vector<Library> having = {libraries[0]};
    for (int i = 1; i < argc; ++i) {
      const Library library = Open(argv[i]);
      if (HasTarget(library, *target)) {
        having.push_back(library);
      } else {
        dlclose(library.handle);
      }
    }
    if (having.size() > 1) ++compared;
    RunAtOnce(having, *target, expected);
    while (having.size() > 1) {
      dlclose(having.back().handle);
      having.pop_back();
    }
    RunAtOnce(having, *target, expected);
  }
  std::printf("%d targets compared\n", compared);
  return compared > 0 ? 0 : 1;
}
