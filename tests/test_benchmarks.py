"""The benchmarks run, on sizes at which their numbers mean nothing; what they compare is really the same; and a few
ratios that no change may lose, never times."""

import importlib
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from interp import ModelConfig, Run, Task, reference_path
from interp.mathematics import grokking
from interp.studies import DecayDesign, conduct, verdict_networks
from interp.testing import circuit_checkpoint, circuit_neurons

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
TINY = ("--p", "11", "--d-model", "8", "--n-heads", "2", "--d-mlp", "16")


Benchmark = Callable[..., str]


@pytest.fixture
def output_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Benchmark:
    """What a benchmark prints, run in this process: that one starts in a process of its own is shown once, by
    `test_training_step`."""

    def output_of(module: str, *arguments: str) -> str:
        monkeypatch.chdir(ROOT)
        monkeypatch.syspath_prepend(ROOT)
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        importlib.import_module(module).main()
        return capsys.readouterr().out

    return output_of


def test_training_step():
    """At p = 59 on a machine that is not idle the fastest of eight steps is at least twice as fast as that of the
    others; on an idle one the median is six times as fast. A median is the neighbors' where these are many."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.training_step",
        "--p",
        "59",
        "--step-rounds",
        "4",
        "--steps-per-round",
        "2",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert text.startswith("p = 59, n = 1044, d_model 128, 4 heads, d_mlp 512; 4 rounds\n")
    assert re.search(r"^float32 GEMM peak: \d+ GFLOP/s$", text, re.MULTILINE)
    lines = re.findall(r"^(.*?)  +(\d+\.\d\d) +(\d+\.\d\d) +(\d+\.\d\d)× +\d+\.\d\d +\d+%$", text, re.MULTILINE)
    median, fastest, to_ours = ({line[0]: float(line[place]) for line in lines} for place in (1, 2, 3))
    assert list(median) == ["interp", "interp, by products", "textbook PyTorch", "TransformerLens bridge"]
    assert to_ours == pytest.approx({name: one / median["interp"] for name, one in median.items()}, rel=0.02)
    assert min(fastest["textbook PyTorch"], fastest["TransformerLens bridge"]) > 2 * fastest["interp"]


def test_the_rest_in_one_table(tmp_path: Path, output_of: Benchmark):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    sizes = (
        "--rounds",
        "1",
        "--checkpoints",
        "4",
        "--analyses",
        "weight_norms",
        "learning_curves",
        "--folder",
        str(tmp_path),
    )
    text = output_of(
        "benchmarks.__main__",
        "--only",
        "checkpointing",
        "starting",
        *TINY,
        *sizes,
        "--repeats",
        "1",
        "--write",
        str(page),
    )
    before, middle, after = re.split(f"{BEGIN}\n|\n{END}", page.read_text())
    assert (before, after) == ("before\n", "\nafter\n")
    assert middle in text
    machine, _, *lines = middle.splitlines()
    assert re.search(r"threads, torch .*, Python .*; float32 GEMM peak \d+ GFLOP/s", machine)
    assert len(lines) == 2 + 8
    assert all(line.count(" | ") == 3 for line in lines)
    assert "one tensor of 4 checkpoints" in middle
    assert list(tmp_path.iterdir()) == [page]


def test_what_a_gpu_gives_is_rehearsed_on_a_cpu_and_not_told_without_one(tmp_path: Path, output_of: Benchmark):
    """Every line is in the file as it was printed, and in the table; what says that it was only tried says so."""
    said = output_of("benchmarks.device")
    assert said.startswith("there is no GPU here that torch can use, so nothing is measured")
    assert said.count("\n") == 1
    written = tmp_path / "device.txt"
    text = output_of("benchmarks.device", "--cpu-rehearsal", "--out", str(written))
    assert written.read_text() == text
    assert text.startswith("a rehearsal on the CPU, whose numbers mean nothing; ")
    lines, _, table = text.partition("| --- |")
    rows = [line for line in table.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) == lines.count("  goal ") == 11
    assert all(row.count(" | ") == 3 for row in rows)
    for word in ("a step of 3 networks, TF32", "again the same bits", "the first two verify"):
        assert word in lines
    assert "OTHER" not in text


def test_a_seed_that_is_never_there_is_the_slowest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT)
    row_of = importlib.import_module("benchmarks.time_to_grok").row_of
    lost = (math.nan, math.nan)
    one = row_of("fastest", [(120, 8.0), lost, (140, 9.0)], 900)
    assert (one.ours, one.beside) == (
        "9.0 s",
        "2 of 3 seeds, at steps 120–140, slowest 9.0 s; published recipe through the bridge 900 s (100×)",
    )
    most = row_of("fastest", [lost, lost, (140, 9.0)], 900)
    assert (most.ours, most.beside) == ("not reached", "1 of 3 seeds, at steps 140–140, slowest 9.0 s")


def test_the_highest_memory_is_that_of_the_process_itself():
    """Linux counts in `ru_maxrss` what the parent had when the child was started."""
    filled = bytearray(b"1") * 900_000_000
    command = [sys.executable, "-c", "from benchmarks.checkpointing import own_peak_memory; print(own_peak_memory())"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 50_000_000 < int(done.stdout) < len(filled)


def test_time_to_grok(output_of: Benchmark):
    sizes = ("--presets", "reference", "--seeds", "1", "--", "--training.steps", "20", "--task.p", "7")
    text = output_of("benchmarks.time_to_grok", *sizes)
    assert re.search(r"^\| reference \| 0 \| (nan|\d+) \| (nan|\d+\.\d) \| \d+\.\d \|$", text, re.MULTILINE)


def test_a_page_without_a_place_for_the_table_is_left_alone(tmp_path: Path, output_of: Benchmark):
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(SystemExit) as ended:
        output_of("benchmarks.__main__", "--write", str(page))
    assert ended.value.code == f"{page} has no place for the table: the lines {BEGIN} and {END}"  # printed, and code 1
    assert page.read_text() == "nothing"


def test_analyses(output_of: Benchmark):
    text = output_of("benchmarks.analyses", "--analysis-rounds", "1", *TINY)
    assert text.startswith("p = 11, d_model 8, 2 heads, d_mlp 16; 1 rounds\n")
    times = dict(re.findall(r"^([a-z_ ]+?)  +(\d+\.\d)$", text, re.MULTILINE))
    assert {"forward pass", "clock_pizza", "frequency_ablation", "all analyses"} <= times.keys()
    ratios = dict(re.findall(r"^(.*?)  +\d+\.\d +\d+\.\d +(\d+\.\d)×$", text, re.MULTILINE))
    assert list(ratios) == [
        "neuron Fourier spectra",
        "key frequencies",
        "restricted and excluded loss",
        "clock or pizza",
        "all four",
    ]


def test_busy_machine(tmp_path: Path, written_run: Callable[..., Run], output_of: Benchmark):
    """Of a run with nothing to analyze, so that it is the start of Python that is measured."""
    written_run(tmp_path / "run", Task(7), ModelConfig(d_model=8, n_heads=2, d_mlp=6), [0])
    text = output_of("benchmarks.busy_machine", "--run", str(tmp_path / "run"))
    found = re.search(r"beside a busy process  (\d+\.\d)×  alone (\d+\.\d) s; beside three (\d+\.\d)×", text)
    assert found
    assert all(float(ratio) > 0 for ratio in found.groups())


def test_coverage(output_of: Benchmark):
    text = output_of("benchmarks.coverage", "--samples", "100")
    found = re.findall(r"^\| (.+?) \| (.+?) \| (\d+\.\d) % \| (\d+\.\d) % \| (\d+\.\d) % \|$", text, re.MULTILINE)
    assert len(found) == 13
    of_means = {by: float(share) for what, by, share, *_ in found if what == "mean of normal values"}
    assert of_means["percentile bootstrap"] < 85 < of_means["Student's t"]


def test_published_numbers(tmp_path: Path, output_of: Benchmark):
    """Of the packaged run, another network: its numbers are those of its analyses, and what differs is named."""
    run = tmp_path / "run"
    shutil.copytree(reference_path(), run)
    text = output_of("benchmarks.published_numbers", str(run), str(run))
    rows = {cells[0]: cells[1:] for line in text.splitlines() if len(cells := line.strip("| ").split(" | ")) > 2}
    assert rows["number of key frequencies"] == ["3 to 5", "3"]
    assert rows["sum of squared weights"] == ["942 to 955", "513", "differs"]
    assert rows["train loss at 4,000"] == ["3.2e-07", "nan", "differs"]  # it ends at 3,000
    ended = text.splitlines()[-1]
    assert ended.startswith(
        f"{sum(cells[-1] == 'differs' for cells in rows.values())} of {len(rows) - 1} rows differ: "
    )
    assert "sum of squared weights" in ended
    assert "number of key frequencies" not in ended


def test_key_frequency_errors(output_of: Benchmark, monkeypatch: pytest.MonkeyPatch):
    """Two networks of each kind, of two small moduli, and what is told of them. What the planted circuits need does
    not depend on how well the memorizers know their tables, so these are trained for a few steps."""
    monkeypatch.syspath_prepend(ROOT)
    key_frequency_errors = importlib.import_module("benchmarks.key_frequency_errors")

    monkeypatch.setattr(key_frequency_errors, "MODULI", (13, 17))
    monkeypatch.setattr(key_frequency_errors, "STEPS", 40)
    text = output_of("benchmarks.key_frequency_errors", "--networks", "2", "--seeds", "1")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    assert [row[0] for row in rows] == [
        *key_frequency_errors.CASES.values(),
        "real memorizers of random labels",
        "real memorizers of true labels",
        "untrained networks",
    ]
    assert all(re.fullmatch(r"\d+ of \d+ \(\d+\.\d to \d+\.\d %\)", row[1]) for row in rows)
    assert rows[0][3] == "100 %"
    assert "the published rules call key: embedding" in text
    assert re.search(r"true labels: mean -?\d+\.\d\d, .* With an unknown split \d+ of \d+ have a signal", text)


def test_clock_or_pizza(tmp_path: Path, output_of: Benchmark):
    """Of a pizza whose circles are of different sizes, two principal components are a circle's plane; and one network
    of each kind is planted."""
    pizza = circuit_checkpoint(Task(13), circuit_neurons([1, 3]))
    pizza.weights["embed.W_E"][:, :2] *= 2
    pizza.weights["blocks.0.attn.W_V"][0, :2] /= 2
    torch.save({name: weight.float() for name, weight in pizza.weights.items()}, tmp_path / "model_planted.pt")
    text = output_of("benchmarks.clock_or_pizza", "--networks", str(tmp_path), "--planted", "1")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()]
    first = next(row for row in rows if row[0] == "planted" and row[1] == "pizza")
    assert first[6] == first[8]
    of_clock, of_pizza = map(float, first[6].split(", "))
    assert of_clock < 82
    assert of_pizza > 99
    counts = {row[0]: row[1:4] for row in rows if len(row) == 6 and row[1] in {"0", "1"}}
    assert counts["clock, transformer"] == ["1", "0", "0"]
    assert counts["pizza, MLP of the sum"] == ["0", "1", "0"]
    assert counts["untrained"] == ["0", "0", "1"]
    assert len(counts) == 13


def test_split_evidence(output_of: Benchmark, monkeypatch: pytest.MonkeyPatch):
    """Of a few steps nothing can be told, but every claim of every network is counted."""
    monkeypatch.syspath_prepend(ROOT)
    benchmark = importlib.import_module("benchmarks.split_evidence")
    monkeypatch.setattr(benchmark, "KEPT", (0, 10, 20))
    monkeypatch.setattr(benchmark, "STEPS", 20)
    monkeypatch.setattr(benchmark, "SEEDS", range(2))
    lines = output_of("benchmarks.split_evidence", "--networks", "1").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][2:]
    assert len(rows) == 12
    assert all(sum(map(int, row[2:])) == 1 for row in rows)
    assert any("those tried: " in line for line in lines)


def test_what_judges_verdicts(tmp_path: Path, output_of: Benchmark, monkeypatch: pytest.MonkeyPatch):
    """Other constants, and cases for a person: their numbers name no run, and the answers come back by the key."""
    monkeypatch.setattr(verdict_networks, "KINDS", {"few-steps": verdict_networks.KINDS["few-steps"]})
    design = DecayDesign(p=11, sizes=(30,), seeds=2, duration=0.05, d_model=8, d_mlp=16)
    conduct("verdicts", tmp_path / "study", design, processes=1)
    lines = output_of("benchmarks.verdict_constants", str(tmp_path / "study")).splitlines()
    assert sum(" (in use) " in line for line in lines) == 8
    assert lines[0] == "| constant | value | true, of those given | unknown |"
    assert grokking.LEVEL == 0.99  # it is as before
    cases = importlib.import_module("benchmarks.blind_cases")
    drawn = {}
    monkeypatch.setattr(cases, "write_figure", lambda figure, path: drawn.update({path.name: figure.to_json()}))
    arguments = (str(tmp_path / "study"), str(tmp_path / "blind"))
    output_of("benchmarks.blind_cases", *arguments, "--n", "5")
    key = json.loads((tmp_path / "blind" / "key.json").read_text())
    assert list(drawn) == [f"{number}.png" for number in key] == [f"{n:02d}.png" for n in range(1, 6)]
    assert len(set(key.values())) == 5
    assert not any(name in figure for figure in drawn.values() for name in ("few-steps", "confusion"))
    (tmp_path / "blind" / "answers.json").write_text('{"02": "confusion"}')
    output_of("benchmarks.blind_cases", *arguments, "--read")
    assert json.loads((tmp_path / "study" / "blind.json").read_text()) == {key["02"]: "confusion"}
    result = conduct("verdicts", tmp_path / "study", design, processes=1).result
    assert result.read.values[result.folder.values == key["02"]].tolist() == ["confusion"]
