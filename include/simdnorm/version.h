/* simdnorm's version, for #if. meson.build reads it from here: this is its only home. */
#ifndef SIMDNORM_VERSION_H_
#define SIMDNORM_VERSION_H_

#define SIMDNORM_VERSION_MAJOR 0
#define SIMDNORM_VERSION_MINOR 1
#define SIMDNORM_VERSION_PATCH 0
#define SIMDNORM_VERSION_STRING "0.1.0"

#endif /* SIMDNORM_VERSION_H_ */
