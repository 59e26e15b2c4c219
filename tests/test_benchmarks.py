"""The benchmarks run, on sizes at which their numbers mean nothing, and what they compare is really the same."""

import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
TINY = ("--p", "11", "--d-model", "8", "--n-heads", "2", "--d-mlp", "16")


def output_of(script: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, BENCHMARKS / script, *TINY, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_step():
    text = output_of("training_step.py", "--rounds", "1", "--steps-per-round", "2")
    assert text.startswith("p = 11, n = 36, d_model 8, 2 heads, d_mlp 16; 1 rounds\n")
    assert re.search(r"^float32 GEMM peak: \d+ GFLOP/s$", text, re.MULTILINE)
    table = dict(re.findall(r"^(.*?)  +\d+\.\d\d +\d+\.\d\d +(\d+\.\d\d)× +\d+\.\d\d +\d+%$", text, re.MULTILINE))
    assert list(table) == ["interp", "textbook PyTorch", "TransformerLens bridge"]
    assert table["interp"] == "1.00"


def test_checkpointing(tmp_path: Path):
    sizes = ("--checkpoints", "4", "--training-steps", "20", "--analyses", "weight_norms", "learning_curves", "--folder", str(tmp_path))
    text = output_of("checkpointing.py", *sizes)
    numbers = r"saving .* ms for 0\.00 MB; .*\n.*% of training .*\nwrote +4 checkpoints.*\ntrajectory  \[4, 12, 8\]: .*\n"
    assert re.fullmatch(numbers + r"analyzing   learning_curves, weight_norms\n.* s; highest memory \d+\.\d\d GB .*\n", text)
    assert list(tmp_path.iterdir()) == []


def test_time_to_grok():
    """Ten steps of a tiny network: nothing is reached, and the table says so."""
    small = ("--task.p", "11", "--model.d-model", "8", "--model.n-heads", "2", "--model.d-mlp", "16", "--training.steps", "10")
    command = [sys.executable, BENCHMARKS / "time_to_grok.py", "--presets", "fastest", "--seeds", "1", "--", *small]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\| fastest \| 0 \| nan \| nan \| \d+\.\d \|$", done.stdout, re.MULTILINE)
