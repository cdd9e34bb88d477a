/* Version of the headers, and of the library found at run time. */
#ifndef AITER_VERSION_H_
#define AITER_VERSION_H_

#include <stdint.h>

#include "aiter/export.h"

/* The build reads these lines; they are the only place that holds the version. */
#define AITER_VERSION_MAJOR 0
#define AITER_VERSION_MINOR 1
#define AITER_VERSION_PATCH 0

/* Number of the binary interface, and of the soname (libaiter.so.<ABI>). Raised only on a break. */
#define AITER_ABI_VERSION 1

AITER_BEGIN_DECLS

/* major * 10000 + minor * 100 + patch of the library in use. @since 0.1 stable */
AITER_API uint32_t aiter_version(void);

/* AITER_ABI_VERSION of the library in use; compare it with the header's. @since 0.1 stable */
AITER_API uint32_t aiter_abi_version(void);

AITER_END_DECLS

#endif /* AITER_VERSION_H_ */
