#!/usr/bin/env bash
# Kernels built on first use: a package without prebuilt ones, an empty cache, one cold process and
# then eight at once. After tests/gpu/build.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
cp -r build/python/aiter "$folder/aiter"
rm -rf "$folder/aiter/lib/aiter_kernels"
cat > "$folder/first.py" <<'PY'
import time, sys
import torch, aiter
x = torch.randn(4, 4096, device="cuda", dtype=torch.bfloat16)
torch.cuda.synchronize()
start = time.perf_counter()
y = aiter.rms_norm(x)
torch.cuda.synchronize()
first = time.perf_counter() - start
want = torch.nn.functional.rms_norm(x.float(), (4096,), eps=1e-6)
assert (y.float() - want).abs().max() < 0.05
print(f"{sys.argv[1]}: first call {first * 1e3:.0f} ms")
PY
run() { PYTHONPATH=$folder AITER_CACHE_DIR=$folder/$1 python3 "$folder/first.py" "$2"; }
run one "cold cache"
run one "warm cache"
for i in 1 2 3 4 5 6 7 8; do run eight "one of eight" & done
wait
ls "$folder/eight"
PYTHONPATH=$folder AITER_CACHE_DIR=$folder/nvcc AITER_NVRTC_LIBRARY=/none python3 "$folder/first.py" "nvcc"
env -u HOME PYTHONPATH=$folder python3 "$folder/first.py" "no HOME, no cache" || true
PYTHONPATH=$folder AITER_CACHE_DIR=$folder/all python3 -c "
import time, aiter
start = time.perf_counter()
aiter.prepare('cuda:0')
print(f'prepare of all operators: {time.perf_counter() - start:.1f} s')"
rm -rf "$folder"
