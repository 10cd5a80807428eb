/* Opens the shared library, calls it on two threads at once, one with OpenMP and one with a pool, and closes it; again and
 * again. Nothing crashes, results stay the same, the library is gone each time or, with OpenMP, stays for good, and the process
 * does not grow. This program is in C and links neither the library nor what that needs, so that all of it can come and go.
 * Usage: load_and_unload LIBRARY goes|stays */
#include <dlfcn.h>
#include <pthread.h>
#include <simdnorm/simdnorm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kLoads = 200, kWarmUp = 50, kRows = 100, kCols = 1000 };

typedef simdnorm_status (*LayerNorm)(const simdnorm_layer_norm_args* args, const simdnorm_options* options);

static void Fail(const char* what, const char* why) {
  fprintf(stderr, "%s: %s\n", what, why != NULL ? why : "failed");
  exit(1);
}

/* Resident and mapped bytes of this process. */
static long ResidentBytes(long* mapped) {
  long mapped_pages = 0, resident_pages = 0;
  FILE* const file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%ld %ld", &mapped_pages, &resident_pages) != 2) Fail("/proc/self/statm", NULL);
  fclose(file);
  *mapped = mapped_pages * sysconf(_SC_PAGESIZE);
  return resident_pages * sysconf(_SC_PAGESIZE);
}

static void RunBackwards(void* pool, int64_t num_tasks, simdnorm_task task, void* task_context) {
  (void)pool;
  while (num_tasks-- > 0) task(task_context, num_tasks);
}

static float x[kRows * kCols];

struct Call {
  LayerNorm layer_norm;
  simdnorm_parallel_for parallel_for;
  simdnorm_status status;
  float y[kRows * kCols];
};

static void* Run(void* context) {
  struct Call* const call = context;
  simdnorm_layer_norm_args args = {SIMDNORM_LAYER_NORM_DEFAULTS};
  simdnorm_options options = {SIMDNORM_OPTIONS_DEFAULTS};
  args.x = x, args.y = call->y;
  args.rows = kRows, args.cols = kCols;
  options.parallel_for = call->parallel_for;
  memset(call->y, 0, sizeof(call->y));
  call->status = call->layer_norm(&args, &options);
  return NULL;
}

static void LoadCallUnload(const char* path, int stays, struct Call* here, struct Call* there) {
  void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) Fail("dlopen", dlerror());
  void* const symbol = dlsym(library, "simdnorm_layer_norm");
  if (symbol == NULL) Fail("dlsym", dlerror());
  memcpy(&here->layer_norm, &symbol, sizeof(symbol));
  there->layer_norm = here->layer_norm;

  pthread_t thread;
  if (pthread_create(&thread, NULL, Run, there) != 0) Fail("pthread_create", NULL);
  Run(here);
  if (pthread_join(thread, NULL) != 0) Fail("pthread_join", NULL);
  if (here->status != SIMDNORM_OK || there->status != SIMDNORM_OK) Fail("a call", NULL);

  if (dlclose(library) != 0) Fail("dlclose", dlerror());
  void* const left = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
  if (stays && left == NULL) Fail("dlclose", "the library is gone, and what OpenMP's threads run may be as well");
  if (!stays && left != NULL) Fail("dlclose", "the library is still there");
  if (left != NULL && dlclose(left) != 0) Fail("dlclose", dlerror());
}

int main(int argc, char** argv) {
  if (argc != 3) Fail("usage", "load_and_unload LIBRARY goes|stays");
  const int stays = strcmp(argv[2], "stays") == 0;
  static struct Call here, there;
  static float first[kRows * kCols];
  there.parallel_for = RunBackwards;
  for (int i = 0; i < kRows * kCols; ++i) x[i] = (float)(i * 37 % 1001);

  long mapped_after_warm_up = 0, resident_after_warm_up = 0, mapped = 0, resident = 0;
  for (int load = 1; load <= kLoads; ++load) {
    LoadCallUnload(argv[1], stays, &here, &there);
    if (load == 1) memcpy(first, here.y, sizeof(first));
    if (memcmp(here.y, first, sizeof(first)) != 0 || memcmp(there.y, first, sizeof(first)) != 0) Fail("results", "differ");
    if (load == kWarmUp) resident_after_warm_up = ResidentBytes(&mapped_after_warm_up);
  }
  resident = ResidentBytes(&mapped);
  printf("after %d loads %ld KiB mapped, %ld KiB resident; after %d loads %ld and %ld\n", kWarmUp, mapped_after_warm_up / 1024,
         resident_after_warm_up / 1024, kLoads, mapped / 1024, resident / 1024);
  /* Two pages lost in each load would be more. */
  const long allowed = 256 * 1024;
  if (mapped > mapped_after_warm_up + allowed || resident > resident_after_warm_up + allowed) Fail("memory", "grows");
  return 0;
}
