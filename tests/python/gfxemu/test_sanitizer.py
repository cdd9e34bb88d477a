"""Every detector of the sanitizer: a kernel with the planted bug, which must be reported, and its clean
twin, which must not."""

import numpy as np
import pytest
import toolchain
from aiter.emulator import device

pytestmark = [
    pytest.mark.skipif(device.library_path() is None, reason="libaiter_gfxemu.so is not built"),
    pytest.mark.skipif(toolchain.zig() is None, reason=toolchain.MISSING),
]


@pytest.fixture(autouse=True)
def checking():
    device.option(arch="gfx942", check=1)
    yield
    device.option(check=0)


def hip(source, *arrays, grid=1, block=64, scalars=()):
    module = device.Module(toolchain.compile_hip(source, "gfx942"))
    buffers = [a if isinstance(a, device.Buffer) else device.Buffer(a) for a in arrays]
    module.launch("k", grid, block, *buffers, *scalars)
    return buffers


def asm(body, *arrays, block=64, lds=0):
    arrays = arrays or (ZEROS,)
    text = toolchain.kernel_asm(body, args=len(arrays), threads=block, lds=lds)
    module = device.Module(toolchain.compile_asm(text, "gfx942"))
    module.launch("k", 1, block, *[device.Buffer(a) for a in arrays])


def reported(match):
    return pytest.raises(
        device.EmulatorError,
        match=r"(?s)kernel k: "
        + match
        + r".*at pc 0x[0-9a-f]+, workgroup \(0,0,0\), wave \d+: [a-z]",
    )


ZEROS = np.zeros(256, np.float32)
COPY = "KERNEL void k(const f32* a, f32* c, int shift) { c[TID] = a[TID + shift]; }"


def test_out_of_bounds():
    hip(COPY, ZEROS[:64], ZEROS, scalars=[np.int32(0)])
    with reported(
        r"lane 60: out of bounds: 4 bytes at .*0 bytes past the end of an allocation of 256"
    ):
        hip(COPY, ZEROS[:64], ZEROS, scalars=[np.int32(4)])


def test_use_after_free():
    module = device.Module(toolchain.compile_hip(COPY, "gfx942"))
    a, c = device.Buffer(ZEROS), device.Buffer(ZEROS)
    module.launch("k", 1, 64, a, c, np.int32(0))
    address = np.uint64(a.address)
    a.free()
    with reported(r"lane 0: use after free: 4 bytes at .*0 bytes into a freed allocation of 1024"):
        module.launch("k", 1, 64, address, c, np.int32(0))


def test_uninitialized_memory():
    hip(COPY, ZEROS, ZEROS, scalars=[np.int32(0)])
    hip(COPY, device.Buffer(size=1024, fill=0), ZEROS, scalars=[np.int32(0)])
    with reported(
        r"lane 0: 4 bytes at .* are read but were never written \(byte 0 of an allocation of 1024\)"
    ):
        hip(COPY, device.Buffer(size=1024), ZEROS, scalars=[np.int32(0)])


def test_kernel_writes_count_as_written():
    module = device.Module(toolchain.compile_hip(COPY, "gfx942"))
    a, b, c = device.Buffer(ZEROS), device.Buffer(size=256), device.Buffer(ZEROS)
    module.launch("k", 1, 64, a, b, np.int32(0))
    module.launch("k", 1, 64, b, c, np.int32(0))
    with reported("lane 63: out of bounds"):
        module.launch("k", 1, 64, b, c, np.int32(1))


LDS = """
KERNEL void k(f32* c, int init, int barrier) {
  SHARED static volatile f32 s[256];
  if (init) s[TID] = TID;
  if (barrier) __builtin_amdgcn_s_barrier();
  c[TID] = s[(TID + 64) & 255];
}"""


def test_uninitialized_lds():
    hip(LDS, ZEROS, block=256, scalars=[np.int32(1), np.int32(1)])
    with reported(r"lane 0: LDS offset 0x100 is read but was never written"):
        hip(LDS, ZEROS, block=256, scalars=[np.int32(0), np.int32(1)])


def test_lds_race_read_after_write():
    device.option(quantum=1)
    try:
        with reported(r"lane 0: LDS race at offset .*: wave \d wrote it with no barrier between"):
            hip(LDS, ZEROS, block=256, scalars=[np.int32(1), np.int32(0)])
    finally:
        device.option(quantum=16)


OVERWRITE = """
KERNEL void k(f32* c, int barrier) {
  SHARED static volatile f32 s[256];
  s[TID] = TID;
  __builtin_amdgcn_s_barrier();
  f32 x = s[(TID + 64) & 255];
  if (barrier) __builtin_amdgcn_s_barrier();
  s[TID] = x;
  c[TID] = x;
}"""


def test_lds_race_write_after_read():
    hip(OVERWRITE, ZEROS, block=256, scalars=[np.int32(1)])
    with reported(r"lane 0: LDS race at offset .*: wave \d read it with no barrier between"):
        hip(OVERWRITE, ZEROS, block=256, scalars=[np.int32(0)])


def test_lds_out_of_bounds():
    body = "v_lshlrev_b32 v1, 2, v0\n v_mov_b32 v2, 0\n ds_write_b32 v1, v2 offset:{}\n s_waitcnt lgkmcnt(0)"
    asm(body.format(0), lds=256)
    with reported(r"lane 63: out of bounds: 4 bytes at LDS offset 0x100, the workgroup has 256"):
        asm(body.format(4), lds=256)


BARRIER = """
  v_readfirstlane_b32 s8, v0
  s_cmp_lg_u32 s8, {value}
  s_cbranch_scc1 other
  s_barrier
  s_branch done
other:
  s_barrier
done:
"""


def test_divergent_barrier():
    asm(BARRIER.format(value=0), block=128)  # waves with different parts may do that
    device.option(check=2)
    asm(BARRIER.format(value=1000), block=128)
    with reported(r"divergent barrier: wave 0 waits at pc 0x"):
        asm(BARRIER.format(value=0), block=128)


def test_uninitialized_registers():
    asm("v_mov_b32 v5, 1\n v_add_u32 v6, v5, v0")
    with reported(r"lane 0: v5 is read but was never written"):
        asm("v_add_u32 v6, v5, v0")
    asm("s_mov_b32 s20, 1\n s_add_u32 s21, s20, 1")
    with reported(r"s20 is read but was never written"):
        asm("s_add_u32 s21, s20, 1")
    # Sums of 64 bits whose high half nobody uses.
    mad = "v_mov_b32 v4, 1\n v_mad_u64_u32 v[6:7], s[4:5], v0, v4, v[4:5]\n v_add_u32 v8, {}, v0"
    asm(mad.format("v6"))
    with reported(r"lane 0: v7 is read but was never written"):
        asm(mad.format("v7"))
    # Only the lanes that are on count.
    half = "s_mov_b64 s[4:5], 0xff\n s_mov_b64 exec, s[4:5]\n v_mov_b32 v5, 1\n {}\n v_add_u32 v6, v5, v0"
    asm(half.format(""))
    with reported(r"lane 8: v5 is read but was never written"):
        asm(half.format("s_mov_b64 exec, -1"))


def test_misaligned():
    body = """
  s_load_dwordx2 s[4:5], s[0:1], 0x0
  v_lshlrev_b32 v1, 2, v0
  s_waitcnt lgkmcnt(0)
  global_load_dword v2, v1, s[4:5] offset:{}
  s_waitcnt vmcnt(0)"""
    asm(body.format(4), ZEROS)
    with reported(r"lane 0: misaligned global access: 4 bytes"):
        asm(body.format(2), ZEROS)
    body = "v_lshlrev_b32 v1, 3, v0\n v_mov_b32 v2, 0\n v_mov_b32 v3, 0\n ds_write_b64 v1, v[2:3] offset:{}\n s_waitcnt lgkmcnt(0)"
    asm(body.format(8), lds=1024)
    with reported(r"lane 0: misaligned LDS access: 8 bytes at 0x1"):
        asm(body.format(1), lds=1024)


WAIT = """
  s_load_dwordx2 s[4:5], s[0:1], 0x0
  v_lshlrev_b32 v1, 2, v0
  {scalar}
  global_load_dword v2, v1, s[4:5]
  global_load_dword v3, v1, s[4:5] offset:256
  {vector}
  v_add_u32 v4, {register}, v0
  s_waitcnt vmcnt(0)"""


def test_missing_waitcnt():
    asm(
        WAIT.format(scalar="s_waitcnt lgkmcnt(0)", vector="s_waitcnt vmcnt(0)", register="v3"),
        ZEROS,
    )
    asm(
        WAIT.format(scalar="s_waitcnt lgkmcnt(0)", vector="s_waitcnt vmcnt(1)", register="v2"),
        ZEROS,
    )
    with reported(r"v3 is read before the s_waitcnt vmcnt that covers its load"):
        asm(
            WAIT.format(scalar="s_waitcnt lgkmcnt(0)", vector="s_waitcnt vmcnt(1)", register="v3"),
            ZEROS,
        )
    with reported(r"s4 is read before the s_waitcnt lgkmcnt that covers its load"):
        asm(WAIT.format(scalar="", vector="s_waitcnt vmcnt(0)", register="v3"), ZEROS)
    lds = "v_lshlrev_b32 v1, 2, v0\n ds_write_b32 v1, v0\n ds_read_b32 v2, v1\n {}\n v_add_u32 v3, v2, v2\n s_waitcnt lgkmcnt(0)"
    asm(lds.format("s_waitcnt lgkmcnt(0)"), lds=256)
    with reported(r"v2 is read before the s_waitcnt lgkmcnt that covers its load"):
        asm(lds.format("s_waitcnt lgkmcnt(1)"), lds=256)
    with reported(r"v2 is written while a load into it is under way"):
        asm(
            "v_lshlrev_b32 v1, 2, v0\n ds_write_b32 v1, v0\n ds_read_b32 v2, v1\n v_mov_b32 v2, 0\n s_waitcnt lgkmcnt(0)",
            lds=256,
        )


BETWEEN_WAVES = """
  v_lshlrev_b32 v1, 2, v0
  v_xor_b32 v2, 0x100, v1
  ds_write_b32 v1, v0
  {}
  s_barrier
  ds_read_b32 v3, v2
  s_waitcnt lgkmcnt(0)"""
INTO_LDS = """
  s_load_dwordx2 s[4:5], s[0:1], 0x0
  v_lshlrev_b32 v1, 2, v0
  s_mov_b32 m0, 0
  s_waitcnt lgkmcnt(0)
  global_load_lds_dword v1, s[4:5]
  {}
  ds_read_b32 v3, v1
  s_waitcnt lgkmcnt(0) vmcnt(0)"""


def test_lds_writes_under_way():
    asm(BETWEEN_WAVES.format(""), block=128, lds=512)  # the LDS's order makes it good
    device.option(check=2)
    asm(BETWEEN_WAVES.format("s_waitcnt lgkmcnt(0)"), block=128, lds=512)
    with reported(
        r"lane 0: LDS offset 0x100 is read, but wave 1 did not wait \(s_waitcnt lgkmcnt\)"
    ):
        asm(BETWEEN_WAVES.format(""), block=128, lds=512)
    device.option(check=1)
    asm(INTO_LDS.format("s_waitcnt vmcnt(0)"), lds=256)
    with reported(r"lane 0: LDS offset 0 is read, but wave 0 did not wait \(s_waitcnt vmcnt\)"):
        asm(INTO_LDS.format(""), lds=256)


MFMA = (
    "\n".join(f"v_mov_b32 v{i}, 0" for i in range(4, 28))
    + """
  v_mfma_f32_32x32x8_f16 v[8:23], v[4:5], v[6:7], 0
  {}
  v_add_f32 v24, v8, v9"""
)


def test_mfma_read_too_early():
    asm(MFMA.format("s_nop 10"))
    with reported(r"v8 is read 1 wait states too early after the MFMA that writes it"):
        asm(MFMA.format("s_nop 9"))
    # Accumulating on is forwarded by the hardware.
    asm(MFMA.format("v_mfma_f32_32x32x8_f16 v[8:23], v[4:5], v[6:7], v[8:23]\n s_nop 15"))


def test_missing_nop():
    dpp = "v_mov_b32 v1, 1\n {}\n v_mov_b32_dpp v2, v1 row_shr:1 row_mask:0xf bank_mask:0xf"
    asm(dpp.format("s_nop 1"))
    with reported(
        r"v1 is read through DPP 1 wait states after a vector instruction wrote it, 2 are needed"
    ):
        asm(dpp.format(""))
    vmem = """
  s_load_dwordx2 s[4:5], s[0:1], 0x0
  v_mov_b32 v1, 0
  s_waitcnt lgkmcnt(0)
  v_mov_b32 v2, s4
  v_readfirstlane_b32 s4, v2
  {}
  global_load_dword v3, v1, s[4:5]
  s_waitcnt vmcnt(0)"""
    asm(vmem.format("s_nop 4"), ZEROS)
    with reported(r"s4 is read by a memory instruction 1 wait states after"):
        asm(vmem.format(""), ZEROS)


def test_fast_mode_runs_the_same_kernels():
    device.option(check=0)
    hip(LDS, ZEROS, block=256, scalars=[np.int32(0), np.int32(1)])
    asm("v_add_u32 v6, v5, v0")
