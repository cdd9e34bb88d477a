"""llama.cpp as the peer of the model benchmark: a worker under a Python with llama-cpp-python.

It reads one JSON request a line and answers each with one JSON line, so that a benchmark can
interleave its own measurements with these on the same machine:

    {"op": "prefill", "tokens": [...]}             -> {"seconds": s}
    {"op": "decode", "tokens": [...], "count": n}  -> {"seconds": s, "ids": [...]}
    {"op": "logits", "tokens": [...], "out": path} -> {"shape": [...]}

decode prefills tokens, then times n greedy steps; logits writes float32 .npy of all positions.

`Peer` is the client.  The peer is to be built from source for the machine it runs on
(``pip install --no-binary llama-cpp-python llama-cpp-python``): its wheels know no AVX-512.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time


class Peer:
    """Starts the worker under the Python that has llama-cpp-python."""

    def __init__(self, python: str, model: str, threads: int, context: int = 2048):
        command = [python, __file__, str(model), str(threads), str(context)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.info = self._read()

    def ask(self, op: str, **request):
        self._process.stdin.write(json.dumps({"op": op, **request}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _read(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended with status {self._process.wait()}")
        return json.loads(line)


def _serve(model: str, threads: int, context: int) -> None:
    import llama_cpp
    import numpy as np

    llm = llama_cpp.Llama(
        model, n_ctx=context, n_batch=512, n_threads=threads, n_threads_batch=threads,
        logits_all=True, verbose=False,
    )  # fmt: skip
    context = llm._ctx.ctx
    memory = llama_cpp.llama_get_memory(context)

    def run(tokens) -> None:
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        batch = llama_cpp.llama_batch_get_one(array, len(tokens))  # logits of the last token only
        if llama_cpp.llama_decode(context, batch) != 0:
            raise RuntimeError("llama_decode failed")

    def greedy() -> int:
        logits = llama_cpp.llama_get_logits_ith(context, -1)
        return int(np.ctypeslib.as_array(logits, (llm.n_vocab(),)).argmax())

    def prefill(tokens):
        llama_cpp.llama_memory_clear(memory, True)
        start = time.perf_counter()
        run(tokens)
        llama_cpp.llama_synchronize(context)
        return {"seconds": time.perf_counter() - start}

    def decode(tokens, count):
        prefill(tokens)
        token, ids = greedy(), []
        start = time.perf_counter()
        for _ in range(count):
            ids.append(token)
            run([token])
            token = greedy()
        return {"seconds": time.perf_counter() - start, "ids": ids}

    def logits(tokens, out):
        llm.reset()
        llama_cpp.llama_memory_clear(memory, True)
        llm.eval(tokens)
        np.save(out, llm.scores[: len(tokens)])
        return {"shape": [len(tokens), llm.n_vocab()]}

    def answer(value) -> None:
        print(json.dumps(value), flush=True)

    system = llama_cpp.llama_print_system_info().decode()
    answer({"version": llama_cpp.__version__, "system": system})
    operations = {"prefill": prefill, "decode": decode, "logits": logits}
    for line in sys.stdin:
        request = json.loads(line)
        answer(operations[request.pop("op")](**request))


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
