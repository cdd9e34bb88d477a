"""The emulator's options belong to the process: every test leaves them as it found them."""

import os

import pytest
from aiter.emulator import device


@pytest.fixture(autouse=True)
def options_restored():
    yield
    if device.library_path() is not None:
        settings = {"check": 0, "count": 0, "quantum": 16, "seed": 0, "limit": 0}
        given = os.environ.get("AITER_EMULATE_OPTIONS", "")
        settings.update(item.split("=") for item in given.split(",") if item)
        settings.pop("isa", None)  # chosen once
        device.option(arch=os.environ.get("AITER_EMULATE") or "gfx942", **settings)
