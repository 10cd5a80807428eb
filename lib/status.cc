// Names of statuses, and the version.
#include "simdnorm/simdnorm.h"

const char* simdnorm_status_name(simdnorm_status status) {
  switch (status) {
    case SIMDNORM_OK:
      return "OK";
    case SIMDNORM_INVALID_ARGUMENT:
      return "INVALID_ARGUMENT";
    case SIMDNORM_UNSUPPORTED:
      return "UNSUPPORTED";
    default:
      return "unknown status";
  }
}

const char* simdnorm_version(void) { return SIMDNORM_VERSION_STRING; }
