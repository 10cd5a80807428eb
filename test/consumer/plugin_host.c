/* Calls the plug-in; knows nothing of simdnorm. */
#include <stdint.h>

int PluginNormalize(const float* x, float* y, int64_t count);

int main(void) {
  const float x[2] = {-1000, 1000};
  float y[2] = {0, 0};
  if (PluginNormalize(x, y, 2) != 0) return 1;
  return y[0] == -1 && y[1] == 1 ? 0 : 2;
}
