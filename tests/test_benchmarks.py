"""The benchmarks run, on sizes at which their numbers mean nothing; what they compare is really the same; and a few ratios that no
change may lose, never times."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
TINY = ("--p", "11", "--d-model", "8", "--n-heads", "2", "--d-mlp", "16")


def output_of(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_step():
    """At p = 59 on a machine that is not idle a step is at least twice as fast as the others; on an idle one, six times."""
    text = output_of("benchmarks.training_step", "--p", "59", "--step-rounds", "4", "--steps-per-round", "2")
    assert text.startswith("p = 59, n = 1044, d_model 128, 4 heads, d_mlp 512; 4 rounds\n")
    assert re.search(r"^float32 GEMM peak: \d+ GFLOP/s$", text, re.MULTILINE)
    found = dict(re.findall(r"^(.*?)  +\d+\.\d\d +\d+\.\d\d +(\d+\.\d\d)× +\d+\.\d\d +\d+%$", text, re.MULTILINE))
    assert list(found) == ["interp", "textbook PyTorch", "TransformerLens bridge"]
    assert found["interp"] == "1.00"
    assert min(float(found["textbook PyTorch"]), float(found["TransformerLens bridge"])) > 2


def test_the_rest_in_one_table(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    sizes = ("--rounds", "1", "--checkpoints", "4", "--analyses", "weight_norms", "learning_curves", "--folder", str(tmp_path))
    text = output_of("benchmarks", "--only", "checkpointing", "starting", *TINY, *sizes, "--repeats", "1", "--write", str(page))
    before, middle, after = re.split(f"{BEGIN}\n|\n{END}", page.read_text())
    assert (before, after) == ("before\n", "\nafter\n")
    assert middle in text
    machine, _, *lines = middle.splitlines()
    assert re.search(r"threads, torch .*, Python .*; float32 GEMM peak \d+ GFLOP/s", machine)
    assert len(lines) == 2 + 8
    assert all(line.count(" | ") == 3 for line in lines)
    assert "one tensor of 4 checkpoints" in middle
    assert list(tmp_path.iterdir()) == [page]


def test_time_to_grok():
    sizes = ("--presets", "reference", "--seeds", "1", "--", "--training.steps", "20", "--task.p", "7")
    text = output_of("benchmarks.time_to_grok", *sizes)
    assert re.search(r"^\| reference \| 0 \| (nan|\d+) \| (nan|\d+\.\d) \| \d+\.\d \|$", text, re.MULTILINE)


def test_a_page_without_a_place_for_the_table_is_left_alone(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("nothing")
    command = [sys.executable, "-m", "benchmarks", "--write", str(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"{page} has no place for the table: the lines {BEGIN} and {END}\n"
    assert page.read_text() == "nothing"


def test_analyses():
    text = output_of("benchmarks.analyses", "--analysis-rounds", "1", *TINY)
    assert text.startswith("p = 11, d_model 8, 2 heads, d_mlp 16; 1 rounds\n")
    times = dict(re.findall(r"^([a-z_ ]+?)  +(\d+\.\d)$", text, re.MULTILINE))
    assert {"forward pass", "clock_pizza", "frequency_ablation", "all analyses"} <= times.keys()
    ratios = dict(re.findall(r"^(.*?)  +\d+\.\d +\d+\.\d +(\d+\.\d)×$", text, re.MULTILINE))
    assert list(ratios) == ["neuron Fourier spectra", "key frequencies", "restricted and excluded loss", "clock or pizza", "all four"]
