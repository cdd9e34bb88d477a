#include "aiter/version.h"

extern "C" uint32_t aiter_version(void) {
  return AITER_VERSION_MAJOR * 10000 + AITER_VERSION_MINOR * 100 + AITER_VERSION_PATCH;
}

extern "C" uint32_t aiter_abi_version(void) { return AITER_ABI_VERSION; }
