"""Comparisons: what two checkpoints say side by side is what each says alone, and differences are what they are defined
to be."""

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import interp
from interp import InputError, Run
from interp.analyses import transitions
from interp.analysis import analyze, discover, measure_checkpoint, results_at, stored_result
from interp.cli import main
from interp.explanation import Comparison, compare, plain, tables
from interp.explanation.quantities import CIRCUIT_MEASURES, MEASURES
from interp.models import initial_weights
from interp.pages import render_comparison
from interp.testing import circuit_model, circuit_neurons, circuit_weights

SIDE = {
    "label",
    "run",
    "hash",
    "step",
    "verdict",
    "memorized_at",
    "generalized_at",
    "state",
    "key_frequencies",
}


@pytest.fixture(scope="module")
def reference() -> Run:
    return interp.open_run(interp.reference_path())


@pytest.fixture(scope="module")
def grokking(reference) -> Comparison:
    return compare((reference, 100), reference)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that differ in p, family, split and weights, without metrics."""
    folder = tmp_path_factory.mktemp("runs")
    neurons = circuit_neurons([1, 2])
    for name, task, family in (
        ("seven", interp.Task(7, train_fraction=0.5), "transformer"),
        ("eleven", interp.Task(11, train_fraction=0.5), "transformer"),
        ("perceptron", interp.Task(7, train_fraction=0.5), "mlp"),
        ("imported", interp.Task(7, split="unknown"), "transformer"),
    ):
        model = circuit_model(neurons, family=family)
        with interp.RunWriter.create(folder / name, task, model) as writer:
            writer.append(0, initial_weights(model, task.p))
            writer.append(10, circuit_weights(task, model, neurons))
    return folder


# ---- before and after grokking ---------------------------------------------------------------------------------------


def test_the_numbers_are_strict_json_of_the_documented_form(grokking):
    numbers = json.loads(json.dumps(grokking.numbers, allow_nan=False))
    assert set(numbers) == {"sides", "same_run", "configuration", "numbers", "ranking", "left_out"}
    assert all(set(side) == SIDE for side in numbers["sides"])
    assert all(set(row) == {"label", "values", "scale", "difference"} for row in numbers["numbers"].values())
    assert (numbers["same_run"], numbers["configuration"], numbers["left_out"]) == (True, [], [])
    apart = [numbers["numbers"][name]["difference"] for name in numbers["ranking"]]
    assert apart == sorted(apart, reverse=True)
    assert min(apart) > 0


def test_every_side_says_what_it_says_alone(reference, grokking):
    happened = transitions.summary(transitions.compute(reference))
    for index, step in enumerate((100, 3000)):
        checkpoint, side = reference[step], grokking.numbers["sides"][index]
        assert side["step"] == step
        assert side["key_frequencies"] == checkpoint.key_frequencies
        for name in ("verdict", "memorized_at", "generalized_at"):
            assert side[name] == happened[name]
        numbers = {name: row["values"][index] for name, row in grokking.numbers["numbers"].items()}
        norm = torch.cat([weight.flatten() for weight in checkpoint.weights.values()]).double().norm()
        assert numbers["l2.total"] == pytest.approx(norm.item(), rel=1e-9)
        progress = measure_checkpoint(checkpoint, "progress_measures", key_frequencies=[3, 11, 12])
        assert numbers["excluded_loss.train"] == pytest.approx(
            progress.excluded_loss.sel(split="train").item(), rel=1e-9
        )
        for split in ("train", "test", "held_out", "unmirrored", "all"):
            assert numbers[f"loss.{split}"] == pytest.approx(checkpoint.loss(split), rel=1e-9)
            assert numbers[f"accuracy.{split}"] == checkpoint.accuracy(split)
    assert [side["state"] for side in grokking.numbers["sides"]] == ["memorizing", "generalizing"]


def test_what_grokking_changed_is_what_differs_most(grokking):
    first = grokking.numbers["ranking"][:6]
    assert {"loss.held_out", "restricted_loss.held_out"} <= set(first)
    repeated = {"loss.all", "loss.test", "loss.unmirrored", "accuracy.unmirrored"}
    assert not repeated & set(grokking.numbers["ranking"])  # they repeat those of held-out pairs
    held_out = grokking.numbers["numbers"]["accuracy.held_out"]
    assert held_out["difference"] == pytest.approx(held_out["values"][1] - held_out["values"][0])


def test_exchanging_the_sides_exchanges_the_values_and_keeps_the_differences(reference, grokking):
    other = compare(reference, (reference, 100))
    assert [side["step"] for side in other.numbers["sides"]] == [3000, 100]
    assert other.numbers["ranking"] == grokking.numbers["ranking"]
    for name, row in grokking.numbers["numbers"].items():
        assert other.numbers["numbers"][name] == row | {"values": row["values"][::-1]}


def test_a_copy_of_a_run_does_not_differ_from_it(reference, tmp_path):
    shutil.copytree(
        reference.path, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__", "__init__.py", "results")
    )
    found = compare((reference, 400), f"{tmp_path / 'copy'}@400")
    assert (found.numbers["ranking"], found.configuration, found.same_run) == ([], {}, False)
    assert "Nothing differs." in plain(found)
    assert "Task, model and training are the same." in plain(found)
    # A side is measured where nothing is stored, and the rest of its run is not.
    assert [path.name for path in (tmp_path / "copy" / "results").iterdir()] == ["learning_curves.nc"]


# ---- stored and measured results -------------------------------------------------------------------------------------


def test_stored_rows_are_those_that_would_be_measured(folder, monkeypatch):
    run = interp.open_run(folder / "seven")
    measured = results_at(run, run[10], ["weight_norms", "logit_structure"])
    stored = analyze(run, ["weight_norms", "logit_structure"])
    monkeypatch.setattr("interp.analysis.walk.measure_checkpoint", lambda *_, **__: pytest.fail("it is stored"))
    again = results_at(run, run[10], ["weight_norms", "logit_structure"])
    for name, result in measured.items():
        assert again[name].equals(stored[name].sel(step=[10]))
        for variable in result.data_vars:
            np.testing.assert_array_equal(again[name][variable], result[variable])


def test_a_whole_run_is_no_side(folder):
    run = interp.open_run(folder / "seven")
    with pytest.raises(InputError, match="analysis of a whole run"):
        results_at(run, run[10], ["learning_curves"])
    assert stored_result(run, "learning_curves") is None
    result = run.result("learning_curves")
    assert result.identical(stored_result(run, "learning_curves"))


def test_the_circuit_analyses_are_asked_where_they_are(grokking):
    asked = {name for name in CIRCUIT_MEASURES if name in discover()}
    for side in grokking.sides:
        assert set(side.results) == {*MEASURES, *asked}
    assert {name.partition(".")[0] for name in grokking.numbers["numbers"]} & set(CIRCUIT_MEASURES) == asked


# ---- sides that are not alike ----------------------------------------------------------------------------------------


def test_runs_of_different_moduli(folder):
    found = compare(folder / "seven", folder / "eleven")
    assert found.configuration == {"task.p": [7, 11]}
    assert any("moduli differ (7, 11)" in line for line in found.left_out)
    rows = found.numbers["numbers"]
    assert rows["l2.embed.W_E"]["difference"] is None  # 8 rows beside 12
    assert None not in rows["l2.embed.W_E"]["values"]
    assert rows["l2.blocks.0.mlp.W_in"]["difference"] is not None


def test_a_transformer_beside_an_mlp(folder):
    found = compare(folder / "seven", folder / "perceptron")
    assert found.configuration["model.family"] == ["transformer", "mlp"]
    assert found.configuration["model.inputs"] == [None, "sum"]
    assert found.numbers["numbers"]["l2.mlp.W_in"]["values"][0] is None
    assert found.numbers["numbers"]["l2.blocks.0.attn.W_Q"]["values"][1] is None
    assert any("families" in line for line in found.left_out)
    assert "<h2>What cannot be compared</h2>" in render_comparison(found)


def test_an_unknown_split_leaves_out_what_needs_it(folder):
    found = compare(folder / "seven", folder / "imported")
    assert any("split of imported is unknown" in line for line in found.left_out)
    assert found.numbers["sides"][1]["verdict"] == "unknown"
    rows = found.numbers["numbers"]
    assert [
        rows[name]["values"][1] for name in ("loss.train", "loss.test", "accuracy.test", "restricted_loss.test")
    ] == 4 * [None]
    assert rows["accuracy.all"]["values"] == [1.0, 1.0]
    assert rows["loss.test"]["difference"] is None
    rendered = render_comparison(compare(f"{folder / 'imported'}@0", folder / "imported"))
    assert "NaN" not in rendered.partition("<script")[0]


def test_repeating_numbers_are_ranked_where_the_first_is_unknown(folder):
    found = compare(f"{folder / 'imported'}@0", folder / "imported")
    assert {"loss.all", "accuracy.all", "restricted_loss.all"} <= set(found.numbers["ranking"])


def test_curves_that_are_not_recorded_are_not_computed_for_one_step(folder, tmp_path):
    shutil.copytree(folder / "eleven", tmp_path / "eleven")
    found = compare(f"{tmp_path / 'eleven'}@0", tmp_path / "eleven")
    assert [side["verdict"] for side in found.numbers["sides"]] == ["unknown", "unknown"]
    assert any("interp analyze" in line and "learning_curves" in line for line in found.left_out)
    interp.open_run(tmp_path / "eleven").result("learning_curves")
    found = compare(f"{tmp_path / 'eleven'}@0", tmp_path / "eleven")
    assert found.sides[0].curves is not None
    assert found.left_out == ()


def test_given_pairs_of_a_split_are_named_in_short(folder, tmp_path):
    task = interp.Task(7, split=(3, 1, 2))
    model = circuit_model(circuit_neurons([1, 2]))
    for name, each in (("one", task), ("other", replace(task, split=(1, 2, 4)))):
        with interp.RunWriter.create(tmp_path / name, each, model) as writer:
            writer.append(0, initial_weights(model, 7))
    values = compare(tmp_path / "one", tmp_path / "other").configuration["task.split"]
    assert values[0] != values[1]
    assert all(re.fullmatch(r"3 listed pairs \([0-9a-f]{6}\)", value) for value in values)


def test_names_that_are_the_same_are_told_apart(folder, tmp_path):
    shutil.copytree(folder / "seven", tmp_path / "seven")
    labels = [side.label for side in compare(folder / "seven", tmp_path / "seven").sides]
    assert labels == [f"{folder / 'seven'}, step 10", f"{tmp_path / 'seven'}, step 10"]


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sides", "complaint"),
    [
        (["seven"], "a comparison needs 2 to 6 sides, as in `interp compare RUN@100 RUN@2000`; got 1"),
        (["seven", "seven@10"], "step 10 of seven is on both sides; it has steps 0 to 10: name one by @STEP"),
        (["seven", "eleven/../seven"], "step 10 of seven is on both sides; it has steps 0 to 10: name one by @STEP"),
        (["seven@3", "seven"], "seven has no checkpoint of step 3; the nearest is 0"),
        (["seven@x", "seven"], "the step in 'seven@x' must be an integer, got 'x'; write RUN@STEP, as in seven@100"),
        (["nowhere@3", "seven"], "there is no run at nowhere; `interp list` shows those under a folder"),
        (["seven", "seven@0", "-o", "page.pdf"], "the page of a comparison is a .html file, not page.pdf"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(sides, complaint, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    assert main(["compare", *sides]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.splitlines()) == ("", [f"interp: {complaint}"])
    assert sorted(folder.rglob("*")) == before


def test_a_folder_with_an_at_sign_is_a_folder(folder, tmp_path):
    shutil.copytree(folder / "seven", tmp_path / "a@5")
    assert [side.step for side in compare(tmp_path / "a@5", f"{tmp_path / 'a@5'}@0").sides] == [10, 0]


# ---- how it is shown -------------------------------------------------------------------------------------------------


def test_the_command_prints_what_the_function_finds(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["compare", "seven@0", "seven", "imported", "--json"]) == 0
    expected = compare("seven@0", "seven", "imported")
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(expected.numbers))
    assert main(["compare", "seven@0", "seven", "imported"]) == 0
    assert capsys.readouterr().out == plain(expected) + "\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["compare", "seven@0", "seven"]) == 0
    assert "What differs most" in capsys.readouterr().out


def test_every_number_stands_in_the_tables(grokking):
    found = {table.title: table for table in tables(grokking)}
    assert list(found)[:3] == ["Sides", "Set differently", "What differs most"]
    shown = [row[0] for table in list(found.values())[3:] for row in table.rows]
    assert shown == [row.label for row in grokking.rows]
    assert dict(row[::2] for row in found["Sides"].rows)["its key frequencies"] == "k = 3, 11, 12"
    for row in found["What differs most"].rows:
        assert math.isfinite(float(row[-2]))
