// A plug-in that has simdnorm linked into it statically and lets none of it out: it is built with a version script that exports
// this one function.
#include <simdnorm/simdnorm.hpp>

extern "C" int PluginNormalize(const float* x, float* y, int64_t count) { return simdnorm::LayerNorm(x, y, 1, count) ? 0 : 1; }
