/* GPUs for programs that bring no GPU framework: devices, code that is ready before the first call,
 * memory, streams, time, graphs. Operators need none of this; they take anyone's memory and streams.
 *
 * The driver (libamdhip64.so or libcuda.so.1) is opened on the first call that names a GPU. The
 * calling thread's current device or context is the same after each call as before. After a fork,
 * calls on GPUs opened before it fail with DEVICE. */
#ifndef AITER_GPU_H_
#define AITER_GPU_H_

#include <stddef.h>
#include <stdint.h>

#include "aiter/device.h"
#include "aiter/export.h"
#include "aiter/status.h"
#include "aiter/tensor.h"

AITER_BEGIN_DECLS

/* The number of devices of a type; 0 for GPUs when there is no driver. @since 0.1 unstable */
AITER_API aiter_status aiter_device_count(int32_t type, int32_t* count);

typedef struct aiter_device_info {
  uint32_t struct_size;
  int32_t multiprocessors; /* compute units */
  int32_t wave_size;       /* threads of a warp or wavefront */
  int32_t shared_bytes;    /* shared memory (LDS) that one block may use */
  int64_t cache_bytes;     /* L2 */
  int64_t memory_bytes;
  char arch[64]; /* "sm_90", "gfx942:sramecc+:xnack-" */
  char name[128];
} aiter_device_info;

/* Fills in what fits in info->struct_size, which the caller sets. GPUs only. @since 0.1 unstable */
AITER_API aiter_status aiter_get_device_info(aiter_device device, aiter_device_info* info);

/* Loads the kernels of these operators ("rmsnorm,rotary_embedding"; NULL = all) for the device, and
 * builds those that were not built ahead of time. After it, their calls may be captured in a graph.
 * @since 0.1 unstable */
AITER_API aiter_status aiter_prepare(aiter_device device, const char* ops);

/* Memory, aligned to 256 bytes on a GPU and 64 on the CPU. 0 bytes give NULL. @since 0.1 unstable */
AITER_API aiter_status aiter_malloc(aiter_device device, size_t bytes, void** memory);
AITER_API aiter_status aiter_free(aiter_device device, void* memory);

/* In the stream's order; the direction follows from the addresses. A copy from or to host memory may
 * return before it is done. @since 0.1 unstable */
AITER_API aiter_status aiter_copy(aiter_device device, void* to, const void* from, size_t bytes,
                                  aiter_stream stream);
AITER_API aiter_status aiter_fill(aiter_device device, void* memory, uint8_t value, size_t bytes,
                                  aiter_stream stream);

/* A stream that does not wait for the default stream (NULL), nor it for this. @since 0.1 unstable */
AITER_API aiter_status aiter_stream_create(aiter_device device, aiter_stream* stream);
AITER_API aiter_status aiter_stream_destroy(aiter_device device, aiter_stream stream);
AITER_API aiter_status aiter_stream_synchronize(aiter_device device, aiter_stream stream);

/* Points in a stream, for timing and for ordering streams. @since 0.1 unstable */
typedef void* aiter_event;
AITER_API aiter_status aiter_event_create(aiter_device device, aiter_event* event);
AITER_API aiter_status aiter_event_destroy(aiter_device device, aiter_event event);
AITER_API aiter_status aiter_event_record(aiter_device device, aiter_event event,
                                          aiter_stream stream);
AITER_API aiter_status aiter_stream_wait(aiter_device device, aiter_event event,
                                         aiter_stream stream);
/* Waits for both. */
AITER_API aiter_status aiter_event_elapsed_ms(aiter_device device, aiter_event start,
                                              aiter_event end, float* milliseconds);

/* Calls on the stream between begin and end are recorded, not run; the graph runs them as often as
 * it is launched, with whatever their memory holds then. @since 0.1 unstable */
typedef void* aiter_graph;
AITER_API aiter_status aiter_capture_begin(aiter_device device, aiter_stream stream);
AITER_API aiter_status aiter_capture_end(aiter_device device, aiter_graph* graph,
                                         aiter_stream stream);
AITER_API aiter_status aiter_graph_launch(aiter_device device, aiter_graph graph,
                                          aiter_stream stream);
AITER_API aiter_status aiter_graph_destroy(aiter_device device, aiter_graph graph);

AITER_END_DECLS

#endif /* AITER_GPU_H_ */
