/* How every call answers: a status, and a message kept for the calling thread. */
#ifndef AITER_STATUS_H_
#define AITER_STATUS_H_

#include "aiter/export.h"

AITER_BEGIN_DECLS

typedef enum aiter_status {
  AITER_OK = 0,
  AITER_INVALID_ARGUMENT = 1, /* the caller's mistake: a wrong shape, dtype, stride, NULL, enum */
  AITER_UNSUPPORTED = 2,      /* a valid request that no row serves; the message has the reasons */
  AITER_WORKSPACE_TOO_SMALL = 3, /* opts.workspace is absent, too small or misaligned */
  AITER_NOT_PREPARED = 4,        /* code would have to be built or loaded during graph capture */
  AITER_NO_CODE_OBJECT = 5,      /* no kernel was built for the device's architecture */
  AITER_OUT_OF_MEMORY = 6,
  AITER_DEVICE = 7,   /* the device or its driver reported an error */
  AITER_INTERNAL = 8, /* a bug of this library */
  AITER_STATUS_MAX_ENUM = 0x7fffffff
} aiter_status;

/* "INVALID_ARGUMENT" etc.; "UNKNOWN" for any other number. Never NULL. @since 0.1 stable */
AITER_API const char* aiter_status_string(aiter_status status);

/* What the last failing call of this thread complained about: operator, argument, what came and
 * what was expected. Empty when no call has failed. Valid until the next failing call of the same
 * thread. A call that succeeds leaves it unchanged. @since 0.1 stable */
AITER_API const char* aiter_last_error(void);

AITER_END_DECLS

#endif /* AITER_STATUS_H_ */
