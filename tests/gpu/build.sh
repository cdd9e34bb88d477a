#!/usr/bin/env bash
# Builds the library with kernels for this machine's GPUs and stages the package in build/python/aiter:
#   bash tests/gpu/build.sh && PYTHONPATH=build/python python3 -m pytest -q tests/python
set -euo pipefail
cd "$(dirname "$0")/../.."
cmake -S . -B build -G Ninja -DAITER_BUILD_PYTHON=ON -DAITER_BUILD_TESTS=ON \
  -DAITER_BUILD_EMULATOR=OFF -DGPU_ARCHS="${GPU_ARCHS:-native}" -DPython_EXECUTABLE="$(command -v python3)"
cmake --build build
cmake --install build --prefix build/python/aiter > /dev/null
