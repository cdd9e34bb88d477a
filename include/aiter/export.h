/* Symbol visibility and language linkage of the C ABI. */
#ifndef AITER_EXPORT_H_
#define AITER_EXPORT_H_

#if defined(AITER_BUILDING_LIBRARY)
#define AITER_API __attribute__((visibility("default")))
#else
#define AITER_API
#endif

#ifdef __cplusplus
#define AITER_BEGIN_DECLS extern "C" {
#define AITER_END_DECLS }
#else
#define AITER_BEGIN_DECLS
#define AITER_END_DECLS
#endif

#endif /* AITER_EXPORT_H_ */
