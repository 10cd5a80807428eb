/* A C program that uses the installed library: layer norm of a ramp on every target this machine has. */
#include <math.h>
#include <simdnorm/simdnorm.h>
#include <stdio.h>
#include <string.h>

enum { kRows = 3, kCols = 100 };

int main(void) {
  static float x[kRows * kCols], y[kRows * kCols];
  if (strcmp(simdnorm_version(), SIMDNORM_VERSION_STRING) != 0) return 1;
  for (int i = 0; i < kRows * kCols; ++i) x[i] = (float)i;

  const double std = sqrt((kCols * (double)kCols - 1) / 12); /* of kCols successive integers */
  for (const char* const* target = simdnorm_targets(); *target != NULL; ++target) {
    char message[200] = "";
    simdnorm_options options = {SIMDNORM_OPTIONS_DEFAULTS, .target = *target, .message = message};
    options.message_capacity = sizeof(message);
    simdnorm_layer_norm_args args = {SIMDNORM_LAYER_NORM_DEFAULTS, .x = x, .y = y, .rows = kRows, .cols = kCols};
    args.epsilon = 0;
    memset(y, 0, sizeof(y));
    if (simdnorm_layer_norm(&args, &options) != SIMDNORM_OK) {
      printf("%s: %s\n", *target, message);
      return 2;
    }
    for (int i = 0; i < kRows * kCols; ++i) {
      const double expected = (i % kCols - (kCols - 1) / 2.0) / std;
      if (!(fabs(y[i] - expected) < 1e-6)) {
        printf("%s: y[%d] is %.9g, not %.9g\n", *target, i, y[i], expected);
        return 3;
      }
    }
  }
  return 0;
}
