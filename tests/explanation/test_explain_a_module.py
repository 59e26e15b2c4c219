"""The story of a recorded module: what the native run's says of curves and circuit, and in place of the rest that it is
not told. Nothing of it is guessed, and nothing fails."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import interp
from interp.cli import main
from interp.cli.watching import _spectrum
from interp.errors import InputError
from interp.explanation import Explanation, compare, evidence_of, explain
from interp.models import Weights, embed, transform
from interp.runs import Run, RunWriter

STEPS = (0, 46, 100, 300, 500, 700, 900, 1000, 2000, 3000)


class Ours(nn.Module):
    """One of our networks, its neurons as the output of a submodule."""

    def __init__(self, weights: Weights, model: interp.ModelConfig) -> None:
        super().__init__()
        self.names, self.model, self.neurons = list(weights), model, nn.Identity()
        self.all = nn.ParameterList(weights.values())

    def forward(self, tokens: Tensor) -> Tensor:
        weights = dict(zip(self.names, self.all, strict=True))
        found = transform(weights, self.model, embed(weights, self.model, tokens))
        self.neurons(found.neurons)
        return found.logits


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The reference run at STEPS: natively, as a module with all its parts, and as one with logits alone."""
    folder, original = tmp_path_factory.mktemp("runs"), interp.open_run(interp.reference_path())
    rows = {row["step"]: row for row in original.rows}
    logged = {step: {k: v for k, v in rows[step].items() if k not in ("step", "weights")} for step in STEPS}
    parts = {"neurons": "neurons", "embedding": "all.0", "unembedding": f"all.{len(original[0].weights) - 1}"}
    found = {}
    for name, given in {"native": None, "module": parts, "bare": {}}.items():
        writer = None
        for step in STEPS:
            checkpoint = original[step]
            if given is not None:
                module = Ours(checkpoint.weights, original.model)
                checkpoint = interp.Checkpoint.from_module(module, original.task, tokens="ab", step=step, **given)
            writer = writer or RunWriter.create(folder / name, original.task, checkpoint.model)
            writer.append(step, checkpoint.weights, logged[step])
        assert writer is not None
        writer.close()
        found[name] = writer.run
    return found


@pytest.fixture(scope="module")
def told(runs: dict[str, Run]) -> dict[str, Explanation]:
    return {name: explain(run) for name, run in runs.items()}


@pytest.mark.parametrize("name", ["module", "bare"])
def test_curves_and_circuit_are_told_as_of_the_native_run(name: str, told: dict[str, Explanation]):
    native, other = told["native"], told[name]
    assert other.headline == native.headline
    of_run = {key: value for key, value in native.numbers["run"].items() if key not in ("forces", "phases")}
    assert {key: other.numbers["run"][key] for key in of_run} == of_run
    one, two = native.numbers["checkpoint"], other.numbers["checkpoint"]
    assert [key["frequency"] for key in two["key_frequencies"]] == [3, 11, 12]
    for key in ("state", "has_circuit", "accuracy"):
        assert two[key] == one[key]
    for key in ("loss", "restricted_loss", "strength", "gain_alone"):
        assert two[key] == pytest.approx(one[key], rel=1e-3, nan_ok=True), key
    assert two["l2_norm"] == pytest.approx(one["l2_norm"], rel=1e-6)


def test_with_its_parts_neurons_and_embedding_are_told_too(told: dict[str, Explanation]):
    one, two = (told[name].numbers["checkpoint"] for name in ("native", "module"))
    for key in ("periodic_neurons", "neurons", "calibrated_periodic_neurons"):
        assert two[key] == one[key]
    assert two["gini_embedding"] == pytest.approx(one["gini_embedding"], rel=1e-5)
    assert "121 of 128 neurons follow one frequency each" in " ".join(told["module"].long.split())


@pytest.mark.parametrize("name", ["module", "bare"])
def test_what_is_not_there_is_unknown_and_said(name: str, told: dict[str, Explanation]):
    numbers = told[name].numbers
    assert numbers["checkpoint"]["circuit"] is None
    assert numbers["checkpoint"]["ablation"] is None
    assert set(numbers["run"]["forces"].values()) == {None}
    words = " ".join(told[name].long.split())
    assert "only its answers were recorded" in words
    assert "Recorded of a module were its logits" in str(told[name])
    assert len(str(told[name]).splitlines()) <= 12
    for never in ("it is neither", "a pizza.", "Why: from", "Check: without"):
        assert never not in words


def test_without_neurons_none_are_spoken_of(told: dict[str, Explanation]):
    assert told["bare"].numbers["checkpoint"]["periodic_neurons"] is None
    words = " ".join(told["bare"].long.split())
    assert "its neurons were not recorded" in words
    assert "strongest frequency" not in words
    assert "periodic neurons" not in words


def test_a_single_step_is_told(runs: dict[str, Run]):
    assert explain(runs["bare"], 300).numbers["checkpoint"]["step"] == 300


def test_the_evidence_is_what_can_be_asked(runs: dict[str, Run]):
    missing = {"circuit_forces", "clock_pizza", "frequency_ablation"}
    assert {*evidence_of(runs["native"])} - {*evidence_of(runs["module"])} == missing
    assert {*evidence_of(runs["module"])} - {*evidence_of(runs["bare"])} == {"neuron_periodicity", "calibration"}


@pytest.mark.parametrize("name", ["module", "bare"])
def test_every_command_reads_it(name: str, runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = str(runs[name].path)
    for command in (
        ["info", path],
        ["explain", path, "--json"],
        ["analyze", path, "all", "--json"],
        ["report", path, "-o", str(tmp_path / "page.html")],
        ["plot", path, "embedding_spectrum", "-o", str(tmp_path / "figure.html")],
        ["plot", path, "frequency_evidence", "-o", str(tmp_path / "figure.html")],
        ["verify", path],
        ["watch", path],
        ["export", path, "--to", "numpy", "--out", str(tmp_path / "arrays")],
    ):
        assert main(command) == 0, (command, capsys.readouterr().err)
    page = (tmp_path / "page.html").read_text()
    assert "It grokked" in page
    assert "only its answers were recorded" in page
    assert "need the module itself, and are left out" in page
    for command, why in (
        (["analyze", path, "clock_pizza"], "clock_pizza reads the network itself"),
        (["export", path, "--to", "transformer-lens", "--out", str(tmp_path / "tl")], "cannot express model.family"),
        (["export", path, "--to", "huggingface", "--out", str(tmp_path / "hf")], "only the recorded answers"),
        (["resume", path], "nothing to resume"),
        (["compare", f"{path}@0", path], "only the recorded answers of a module"),
    ):
        assert main(command) == 2
        assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "shown"), [("native", ["W_E", "W_L"]), ("module", ["W_E", "logits"]), ("bare", ["logits"])]
)
def test_the_spectrum_that_is_watched(name: str, shown: list[str], runs: dict[str, Run]):
    lines = [str(line) for line in _spectrum(runs[name], 100)]
    assert [line.split()[0] for line in lines[1:]] == shown
    assert all("loudest: 1" in line or "loudest: 3" in line or "loudest: 12" in line for line in lines[1:])


def test_a_comparison_says_why_not(runs: dict[str, Run]):
    with pytest.raises(InputError, match="has only the recorded answers of a module"):
        compare(runs["native"], runs["module"])
    with pytest.raises(InputError, match=r"TransformerLens cannot express model\.family 'module'"):
        runs["module"].bridge()
    assert torch.equal(runs["module"].trajectory("recorded.W_E")[0], runs["native"][0].W_E)
