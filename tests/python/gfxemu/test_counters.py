"""Counters of a launch: numbers that follow from the kernel by hand."""

import numpy as np
import pytest
import toolchain
from aiter.emulator import device

pytestmark = [
    pytest.mark.skipif(device.library_path() is None, reason="libaiter_gfxemu.so is not built"),
    pytest.mark.skipif(toolchain.zig() is None, reason=toolchain.MISSING),
]

BODY = """
  s_load_dwordx2 s[4:5], s[0:1], 0x0
  v_lshlrev_b32 v1, {shift}, v0
  v_lshlrev_b32 v2, 4, v0
  s_waitcnt lgkmcnt(0)
  global_load_dwordx4 v[4:7], v2, s[4:5]
  v_mov_b32 v3, 0
  ds_write_b32 v1, v3
  s_waitcnt vmcnt(0) lgkmcnt(0)
  s_barrier
  v_exp_f32 v3, v3
  v_mfma_f32_16x16x16_f16 v[8:11], v[4:5], v[6:7], 0
  s_nop 7
  global_store_dword v2, v3, s[4:5]
"""


def report(shift=2, block=128, grid=3):
    device.option(arch="gfx942", count=1)
    try:
        text = toolchain.kernel_asm(BODY.format(shift=shift), args=1, threads=block, lds=16384)
        module = device.Module(toolchain.compile_asm(text, "gfx942"))
        module.launch("k", grid, block, device.Buffer(np.zeros(4096, np.float32)))
        (launch,) = device.reports()
        return launch
    finally:
        device.option(count=0)


def test_numbers():
    r = report()
    waves = 6
    assert r["kernel"] == "k" and r["waves"] == waves and r["workgroups"] == 3
    assert r["classes"] == {
        "salu": 0,
        "branch": 0,
        "smem": waves,
        "valu": 3 * waves,
        "transcendental": waves,
        "mfma": waves,
        "lds": waves,
        "vmem": 2 * waves,
        "flat": 0,
        "other": 5 * waves,
    }
    assert r["instructions"] == sum(r["classes"].values())
    assert r["mfma_operations"] == waves * 2 * 16 * 16 * 16
    assert r["global_read_bytes"] == waves * (1024 + 8) and r["global_written_bytes"] == waves * 256
    assert (
        r["lds_written_bytes"] == waves * 256
        and r["lds_bank_conflicts"] == 0
        and r["barriers"] == waves
    )
    assert r["estimate_us"]["MI355X"] > 0 and r["estimate_us"]["MI300X"] > 0


@pytest.mark.parametrize("shift,conflicts", [(2, 0), (3, 1), (4, 3), (7, 31)])
def test_bank_conflicts(shift, conflicts):
    """A stride of 2^n dwords puts 2^n lanes of 32 on one bank."""
    assert report(shift=shift, block=64, grid=1)["lds_bank_conflicts"] == 2 * conflicts


def test_describe():
    text = toolchain.kernel_asm(BODY.format(shift=2), args=1, threads=128, lds=16384, vgprs=70)
    code = toolchain.compile_asm(text, "gfx942")
    found = device.describe(code)
    assert found["arch"] == "gfx942"
    (kernel,) = found["kernels"]
    assert (
        kernel["name"] == "k"
        and kernel["lds"] == 16384
        and kernel["max_threads"] == 128
        and kernel["vgprs"] == 72
    )
    assert [a["kind"] for a in kernel["args"]] == ["global_buffer"]
