/* The emulator's own C functions, beside the HIP entry points. Texts that are returned belong to
 * the calling thread and live until its next call. Functions that can fail return 0 on success. */
#ifndef AITER_GFXEMU_H
#define AITER_GFXEMU_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

/* Why this thread's last call failed. */
const char* aiter_gfxemu_last_error(void);
/* Options as in AITER_EMULATE_OPTIONS (see docs/gfxemu.md), and "arch". For launches from now on.
 */
int aiter_gfxemu_set_option(const char* key, const char* value);
/* The host code path in use: avx512, avx2 or portable. */
const char* aiter_gfxemu_host_isa(void);

/* Counters of the launches with count=1 since the last call, as a JSON list. The newest 4096 are
 * kept. */
const char* aiter_gfxemu_reports(void);
/* Instructions of all launches since the library was loaded. */
uint64_t aiter_gfxemu_instructions(void);

/* One instruction at `words` (of `available` dwords) in LLVM's syntax. `size` gets its dwords, or 0
 * with the text saying why it cannot be decoded. */
const char* aiter_gfxemu_disassemble(const char* arch, const uint32_t* words, int available,
                                     int* size);
/* The instruction table: name and an encoding of row `index` of `arch` with operands chosen by
 * `seed`. Returns the encoding's dwords, 0 past the last row, -1 when the row is not in `arch`. */
int aiter_gfxemu_example(const char* arch, int index, uint32_t seed, const char** name,
                         uint32_t words[4]);
/* Decodes all code of a code object for `arch` and counts mnemonics, as JSON: instructions, unknown
 * (texts), mnemonics. Null when it is no code object. */
const char* aiter_gfxemu_sweep(const char* arch, const void* image, size_t size);
/* A code object's kernels as JSON: names, descriptors, arguments, register and spill counts. */
const char* aiter_gfxemu_describe(const void* image, size_t size);

#ifdef __cplusplus
}
#endif
#endif
