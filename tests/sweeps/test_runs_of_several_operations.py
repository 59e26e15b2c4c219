"""A run of several operations, from training to page: stopped and gone on with, verified, listed, thinned, collected,
told about, and one operation of it as a run of its own."""

import contextlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import interp
from interp.analysis import analyze, discover
from interp.errors import InputError
from interp.experiment import ModelConfig, Operations
from interp.explanation import compare, explain
from interp.interchange import export_run, import_run
from interp.pages import render
from interp.runs import Run, describe, extract, list_runs, open_run, thin, verify
from interp.runs.curves import columns_of
from interp.sweeps import InterruptedTrainingError, resume_run, run_experiment

TASK = Operations(7, ("add", "random"), (0.5, 0.4), seed=1)
TRAINING = interp.TrainingConfig(steps=10, checkpoint_every=5, log_every=5)
MODELS = [
    ModelConfig(d_model=8, n_heads=2, d_mlp=8, prompt="aob="),
    ModelConfig(family="mlp", d_mlp=8),
    ModelConfig(family="mlp", d_mlp=8, n_layers=2, embedding="untied", d_model=8, inputs="concatenated", biases=True),
]
SPLITS = ("train", "test", "held_out")


def experiment_of(model: ModelConfig = MODELS[0]) -> interp.Experiment:
    return interp.Experiment(TASK, model, TRAINING)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_experiment(experiment_of(), tmp_path_factory.mktemp("runs") / "both")


@pytest.mark.parametrize("model", MODELS, ids=["transformer", "mlp", "deep mlp"])
def test_it_goes_on_to_the_same_bytes_and_all_of_it_is_verified(model: ModelConfig, tmp_path: Path) -> None:
    def stop(snapshot: interp.Snapshot) -> None:
        if snapshot.step == 5:
            raise KeyboardInterrupt

    whole = run_experiment(experiment_of(model), tmp_path / "whole")
    with contextlib.suppress(InterruptedTrainingError):
        run_experiment(experiment_of(model), tmp_path / "cut", report=stop)
    assert open_run(tmp_path / "cut").steps == [0, 5]
    resume_run(tmp_path / "cut")
    assert dict(whole.digests) == dict(open_run(tmp_path / "cut").digests)
    found = verify(whole)
    assert not found.contradictions
    # Of every line: loss and accuracy of three splits, of two operations in three too, and two norms.
    assert any("20 metrics of each recomputed" in line for line in found.checked)


def test_its_metrics_are_those_of_each_operation_weighted(run: Run) -> None:
    columns = columns_of(TASK)
    for row in run.rows:
        for split in SPLITS:
            pairs = np.array([TASK.mask(f"{one}.{split}").sum() for one in TASK.operations])
            for what in ("loss", "accuracy"):
                of_each = [row[f"{one}.{split}_{what}"] for one in TASK.operations]
                assert math.isclose(np.average(of_each, weights=pairs), row[f"{columns[split]}_{what}"], rel_tol=1e-5)
    one = run.last.of_operation("add")
    for split in SPLITS:
        assert math.isclose(run.rows[-1][f"add.{split}_loss"], one.loss(split), rel_tol=1e-5)
        assert math.isclose(run.rows[-1][f"add.{split}_accuracy"], one.accuracy(split))


def test_a_false_number_of_one_operation_is_found(run: Run, tmp_path: Path) -> None:
    with interp.RunWriter.create(tmp_path / "false", TASK, run.model) as writer:
        metrics = {name: value for name, value in run.rows[-1].items() if name not in ("step", "weights")}
        writer.append(10, run.last.weights, metrics | {"random.train_accuracy": 0.9})
    (said,) = verify(open_run(tmp_path / "false")).contradictions
    assert "random.train accuracy is" in said


@pytest.mark.parametrize("model", MODELS, ids=["transformer", "mlp", "deep mlp"])
def test_one_operation_as_a_run_of_its_own(model: ModelConfig, tmp_path: Path) -> None:
    whole = run_experiment(experiment_of(model), tmp_path / "both")
    one = extract(whole, "add", tmp_path / "add")
    assert one.steps == whole.steps
    assert one.task == TASK.task_of("add")
    assert not verify(one).contradictions
    for step in one.steps:
        assert torch.equal(one[step].logits, whole[step].of_operation("add").logits)
    for row, of_both in zip(one.rows, whole.rows, strict=True):
        assert row["train_loss"] == of_both["add.train_loss"]
        assert row["test_accuracy"] == of_both["add.test_accuracy"]
    said = "\n".join(describe(one))
    assert f"add of a network of add, random: run {whole.hash}" in said
    assert "add modulo 7" in explain(one).long or explain(one).headline
    assert set(analyze(one, ["all"])) >= {"neuron_periodicity", "learning_curves", "progress_measures"}
    with pytest.raises(InputError, match="is of one task, add modulo 7"):
        extract(one, "add", tmp_path / "again")
    with pytest.raises(InputError, match="and not 'multiply'"):
        extract(whole, "multiply", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_an_extracted_operation_can_be_exported_and_all_of_them_as_arrays_alone(run: Run, tmp_path: Path) -> None:
    one = extract(run, "add", tmp_path / "add")
    export_run(one, "transformer-lens", tmp_path / "lens")
    assert (tmp_path / "lens" / "load_checkpoint.py").exists()
    for target in ("transformer-lens", "huggingface"):
        with pytest.raises(InputError, match=r"`interp extract .* add` makes a run of one, which can be"):
            export_run(run, target, tmp_path / "refused")
    export_run(run, "numpy", tmp_path / "arrays")
    assert np.load(tmp_path / "arrays" / "embed.W_E.npy").shape == (3, 10, 8)
    with pytest.raises(InputError):
        import_run(tmp_path / "arrays", tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_it_is_listed_by_each_operation_and_described(run: Run) -> None:
    (line,) = list_runs(run.path)
    assert "add, random modulo 7" in line
    assert "; add: " in line
    assert "; random: " in line
    (asked,) = list_runs(run.path, where=["random.train-accuracy>=0"])
    assert asked.startswith(f"{line}; random.train-accuracy 0.")
    (sorted_,) = list_runs(run.path, where=["random.verdict!=grokking"], sort="add.test-loss")
    assert sorted_.startswith(line)
    assert "; add.test-loss " in sorted_
    (task,) = [said for said in describe(run) if said.startswith("task")]
    assert "43 of 98 examples trained on" in task


def test_analyses_of_one_table_say_how_to_ask_them(run: Run, tmp_path: Path) -> None:
    for name, analysis in discover().items():
        if analysis.asks == "phases" and not analysis.observes:
            with pytest.raises(InputError, match="`interp extract RUN add` makes a run of one"):
                analyze(run, [name])
    assert set(analyze(run, ["all"])) == {
        name for name, one in discover().items() if one.asks != "phases" and not (one.observes or one.on_request)
    }
    with pytest.raises(InputError, match="a comparison tells of the circuit of one operation"):
        compare(run, run)
    alone = run_experiment(
        interp.Experiment(interp.Task(7), ModelConfig(d_model=8, d_mlp=8), TRAINING), tmp_path / "one"
    )
    with pytest.raises(InputError, match="operations is about several operations in one network"):
        analyze(alone, ["operations"])


def test_the_page_and_the_explanation_tell_of_each_operation(run: Run) -> None:
    told = explain(run)
    assert {fact.label for fact in told.facts} >= {"random: held-out pairs known from step"}
    assert "Its table is random, so that there is nothing to generalize" in " ".join(told.long.split())
    assert json.dumps(told.numbers, allow_nan=False)
    assert told.numbers["checkpoint"]["operations"].keys() == {"add", "random"}
    page = render(run, analyze(run))
    for words in ("Several operations", "add: training pairs known from step", "What this cannot say"):
        assert words in page
    assert "Findings beside chance" not in page
    assert ">None<" not in page


def test_a_checkpoint_within_can_be_explained(run: Run) -> None:
    told = explain(run, 5)
    assert told.numbers["checkpoint"]["step"] == 5
    assert math.isclose(
        told.numbers["checkpoint"]["operations"]["add"]["accuracy"]["train"], run[5].accuracy("add.train")
    )
    assert "At step 5 it knows" in told.long


def test_it_can_be_thinned(tmp_path: Path) -> None:
    whole = run_experiment(experiment_of(), tmp_path / "run")
    assert thin(whole, 10) == 1
    assert open_run(whole.path).steps == [0, 10]
    assert not verify(open_run(whole.path)).contradictions


def test_runs_of_several_operations_make_a_table_with_columns_of_each(run: Run) -> None:
    table = interp.collect(run.path.parent)
    assert table["add.verdict"].values.tolist() == ["unknown"]  # so few pairs are held out
    assert table["final_random.train_accuracy"].values.tolist() == [run.rows[-1]["random.train_accuracy"]]
