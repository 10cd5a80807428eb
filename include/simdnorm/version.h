/* simdnorm's version, for #if. meson.build says it too and checks that the two agree. */
#ifndef SIMDNORM_VERSION_H_
#define SIMDNORM_VERSION_H_

#define SIMDNORM_VERSION_MAJOR 0
#define SIMDNORM_VERSION_MINOR 2
#define SIMDNORM_VERSION_PATCH 0
#define SIMDNORM_VERSION_STRING "0.2.0"

#endif /* SIMDNORM_VERSION_H_ */
