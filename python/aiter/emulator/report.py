"""The counters of a launch as text."""


def print_launch(r: dict) -> None:
    print(
        f"{r['kernel']}  {r['arch']}: {r['workgroups']} workgroups, {r['waves']} waves, "
        f"{r['vgprs']} VGPRs, {r['lds_bytes']} bytes of LDS"
    )
    classes = ", ".join(f"{name} {n}" for name, n in r["classes"].items() if n)
    lines = {
        "instructions": f"{r['instructions']}: {classes}",
        "global": f"read {r['global_read_bytes']} bytes, written {r['global_written_bytes']}, "
        f"{r['global_lines']} lines of 64 bytes",
        "LDS": f"read {r['lds_read_bytes']} bytes, written {r['lds_written_bytes']}, "
        f"bank conflicts {r['lds_bank_conflicts']}",
        "scratch": f"{r['scratch_bytes']} bytes",
        "MFMA": f"{r['mfma_operations']} operations",
        "atomics": f"{r['atomics']}",
        "barriers": f"{r['barriers']}",
        "cycles": f"vector {r['valu_cycles']}, matrix {r['mfma_cycles']}, LDS {r['lds_cycles']}",
        "estimate": ", ".join(f"{part} {us} us" for part, us in r["estimate_us"].items()),
    }
    for name, text in lines.items():
        if any(digit in text for digit in "123456789"):
            print(f"  {name:13}{text}")
