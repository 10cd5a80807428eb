/* simdnorm.h alone is valid C99, and a C program links and gets a right answer. */
#include <simdnorm/simdnorm.h>

int main(void) {
  const float x[4] = {1, 3, 5, 3};
  const float shift[2] = {10, 20};
  float y[4];
  float mean[2];
  simdnorm_layer_norm_args args = {SIMDNORM_LAYER_NORM_DEFAULTS};
  args.x = x, args.y = y, args.rows = 2, args.cols = 2;
  args.shift = shift, args.mean = mean, args.epsilon = 0;
  if (simdnorm_layer_norm(&args, NULL) != SIMDNORM_OK) return 1;
  if (mean[0] != 2 || mean[1] != 4) return 2;
  return y[0] == 9 && y[1] == 21 && y[2] == 11 && y[3] == 19 ? 0 : 3;
}
