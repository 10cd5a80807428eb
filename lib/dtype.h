// What is known of dtypes without looking at an element. How elements are loaded, converted and stored, simd/load_store-inl.h
// says; and which of them an argument may have, validate.cc.
#ifndef SIMDNORM_LIB_DTYPE_H_
#define SIMDNORM_LIB_DTYPE_H_

#include <stddef.h>
#include <stdint.h>

#include "simdnorm/simdnorm.h"

namespace simdnorm {

constexpr bool IsFloat(simdnorm_dtype dtype) {
  return dtype == SIMDNORM_F32 || dtype == SIMDNORM_BF16 || dtype == SIMDNORM_F16;
}

// Bytes of an element; Q8_0 has blocks instead.
constexpr size_t ElementSize(simdnorm_dtype dtype) { return dtype == SIMDNORM_F32 ? 4 : IsFloat(dtype) ? 2 : 1; }
constexpr int64_t kQ8Block = 32;

// Bytes of `elements` elements.
constexpr int64_t Bytes(simdnorm_dtype dtype, int64_t elements) {
  return dtype == SIMDNORM_Q8_0 ? elements / kQ8Block * static_cast<int64_t>(sizeof(simdnorm_q8_0))
                                : elements * static_cast<int64_t>(ElementSize(dtype));
}

}  // namespace simdnorm

#endif  // SIMDNORM_LIB_DTYPE_H_
