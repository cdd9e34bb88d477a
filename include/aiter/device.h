/* Streams, CPU threads and instruction sets, call flags, and what dispatch decided. */
#ifndef AITER_DEVICE_H_
#define AITER_DEVICE_H_

#include <stdint.h>

#include "aiter/export.h"
#include "aiter/status.h"

AITER_BEGIN_DECLS

/* The stream (hipStream_t, cudaStream_t) that work is enqueued on. The CPU ignores it: CPU calls
 * have finished when they return. */
typedef void* aiter_stream;

/* Bits of the `flags` field of every *_opts struct. Unknown bits are refused. */
enum {
  /* All checks and the selection, but nothing is launched or written: the answer to "is this
   * supported, and if not, why". aiter_last_explanation() has the selection. */
  AITER_DRY_RUN = 1u
};

/* Threads used by the calls on CPU tensors, the caller's included. The default is AITER_NUM_THREADS
 * or else the CPUs that the process may run on. n = 0 restores it. @since 0.1 stable */
AITER_API aiter_status aiter_set_num_threads(int32_t n);
AITER_API int32_t aiter_get_num_threads(void);

/* The instruction set that CPU rows use: "avx512" (with bf16 and VNNI), "avx2" or "portable".
 * The default is the best that the machine has. Setting one that the machine lacks is an
 * UNSUPPORTED error; NULL restores the default. @since 0.1 unstable */
AITER_API aiter_status aiter_set_cpu_isa(const char* name);
AITER_API const char* aiter_get_cpu_isa(void);

/* Force rows by name, as AITER_FORCE does: "rmsnorm:cpu_ref,flash_attn_varlen:cpu_ref". A forced
 * row that does not accept a problem is an UNSUPPORTED error. NULL or "" forces nothing.
 * The setting is process-wide. @since 0.1 unstable */
AITER_API aiter_status aiter_set_force(const char* rows);

/* The selection made by this thread's last dry run: a line for the row taken, then one for each
 * better row with the reason why it was refused. Empty before the first. @since 0.1 unstable */
AITER_API const char* aiter_last_explanation(void);

/* Every operator and row of this build, a line each: "family op row target condition", separated by
 * tabs, rows best first. @since 0.1 unstable */
AITER_API const char* aiter_dispatch_table(void);

AITER_END_DECLS

#endif /* AITER_DEVICE_H_ */
