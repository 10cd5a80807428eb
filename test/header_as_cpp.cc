// simdnorm.h alone is valid C++, and its functions link as C's.
#include <simdnorm/simdnorm.h>

int main() {
  const float x[3] = {2, 2, 2};
  float y[3];
  simdnorm_rms_norm_args args = {};
  args.struct_size = sizeof(args);
  args.x = x;
  args.y = y;
  args.rows = 1;
  args.cols = 3;
  if (simdnorm_rms_norm(&args, nullptr) != SIMDNORM_OK) return 1;
  return y[0] == 1 && y[1] == 1 && y[2] == 1 ? 0 : 2;
}
