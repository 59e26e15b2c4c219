"""Results on disk: what is computed again and what is not, what is kept, and where."""

import functools
import json
import os
import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from interp.analyses import neuron_periodicity, weight_norms
from interp.analysis import analyze, result_path, sources, stored_result
from interp.errors import InputError
from interp.experiment import ModelConfig, Task
from interp.models import Weights, initial_weights
from interp.runs import Run, RunWriter, open_run, thin
from interp.testing import circuit_model, circuit_neurons, circuit_weights

TASK = Task(7, train_fraction=0.5)
MODEL = ModelConfig(d_model=8, n_heads=2, d_mlp=6)
NAME = "neuron_periodicity"
STEPS = (0, 10, 20, 30)


def weights_at(step: int) -> Weights:
    return {name: weight * (1 + step / 10) for name, weight in initial_weights(MODEL, TASK.p).items()}


@pytest.fixture
def run(tmp_path, written_run) -> Run:
    return written_run(tmp_path / "run", TASK, MODEL, STEPS, weights=weights_at)


@pytest.fixture
def measured(monkeypatch) -> list[int]:
    """The steps at which neuron periodicity was really measured, in order."""
    steps, measure = [], neuron_periodicity.measure

    @functools.wraps(measure)
    def counting(checkpoint, **parameters):
        steps.append(checkpoint.step)
        return measure(checkpoint, **parameters)

    monkeypatch.setattr(neuron_periodicity, "measure", counting)
    return steps


def taken(measured: list[int]) -> list[int]:
    """What was measured since the last time this was asked."""
    steps = measured.copy()
    measured.clear()
    return steps


# ---- what is fresh and what is stale ---------------------------------------------------------------------------------


def test_asking_again_computes_nothing(run, measured):
    first = analyze(run, [NAME])[NAME]
    assert taken(measured) == [0, 10, 20, 30]
    assert_array_equal(first.step, [0, 10, 20, 30])
    again = analyze(open_run(run.path), [NAME])[NAME]
    assert taken(measured) == []
    assert again.identical(first)
    assert run.result(NAME).identical(first)


def test_a_fresh_result_is_left_alone_while_another_is_computed(run, measured):
    analyze(run, [NAME])
    taken(measured)
    analyze(run, [NAME, "weight_norms"])
    assert taken(measured) == []


def test_while_training_goes_on_only_new_steps_are_computed(tmp_path, run, measured):
    whole = analyze(run, [NAME])[NAME]
    taken(measured)
    with RunWriter.create(tmp_path / "growing", TASK, MODEL) as writer:
        for step in STEPS:
            writer.append(step, weights_at(step))
            growing = analyze(open_run(tmp_path / "growing"), [NAME])[NAME]
            assert taken(measured) == [step]
            assert growing.step.values[-1] == step
    assert growing.identical(whole)


def test_only_the_step_whose_weights_changed_is_computed_again(tmp_path, run, measured, written_run):
    def other_weights(step: int) -> Weights:
        return weights_at(77 if step == 20 else step)

    analyze(run, [NAME])
    taken(measured)
    kept = (run.path / "results" / f"{NAME}.nc").read_bytes()
    changed = written_run(run.path, TASK, MODEL, STEPS, weights=other_weights, overwrite=True)
    (run.path / "results").mkdir()
    (run.path / "results" / f"{NAME}.nc").write_bytes(kept)
    result = analyze(changed, [NAME])[NAME]
    assert taken(measured) == [20]
    anew = written_run(tmp_path / "anew", TASK, MODEL, STEPS, weights=other_weights)
    assert result.identical(analyze(anew, [NAME])[NAME])


def test_a_stored_number_that_changed_on_disk_is_computed_again(run, measured):
    whole = analyze(run, [NAME])[NAME]
    taken(measured)
    path = run.path / "results" / f"{NAME}.nc"
    content, value = (
        path.read_bytes(),
        whole.share.values[1].astype(">f8" if whole.share.dtype == np.float64 else ">f4").tobytes(),
    )
    assert content.count(value) == 1
    path.write_bytes(content.replace(value, value[:-1] + bytes([value[-1] ^ 1])))
    assert analyze(run, [NAME])[NAME].identical(whole)
    assert taken(measured) == [0, 10, 20, 30]


def test_steps_that_were_thinned_out_leave_the_result(run, measured):
    whole = analyze(run, [NAME])[NAME]
    taken(measured)
    thin(run, 20)
    result = analyze(run, [NAME])[NAME]
    assert taken(measured) == []
    assert_array_equal(result.step, [0, 20, 30])
    assert_array_equal(result.share, whole.share.sel(step=[0, 20, 30]))


def test_another_parameter_is_another_result(run, measured):
    default = analyze(run, [NAME])[NAME]
    other = analyze(run, [NAME], parameters={NAME: {"threshold": 0.3}})[NAME]
    assert taken(measured) == [0, 10, 20, 30] * 2
    assert json.loads(other.attrs["parameters"]) == {"threshold": 0.3}
    assert (other.periodic_neurons.sum("frequency") > default.periodic_neurons.sum("frequency")).all()
    analyze(run, [NAME], parameters={NAME: {"threshold": 0.3}})
    assert analyze(run, [NAME])[NAME].identical(default)
    assert taken(measured) == []


def test_some_steps_are_measured_and_kept_beside_the_others(run, measured):
    some = analyze(run, [NAME, "weight_norms"], steps=[20, 0, 20])
    assert taken(measured) == [0, 20]
    assert_array_equal(some["weight_norms"].step, [0, 20])
    assert_array_equal(analyze(run, [NAME], steps=[10])[NAME].step, [10])
    assert taken(measured) == [10]
    whole = analyze(run, [NAME])[NAME]
    assert taken(measured) == [30]
    assert_array_equal(whole.step, [0, 10, 20, 30])
    assert stored_result(run, NAME).identical(whole)
    again = analyze(run, [NAME], steps=[0, 20])[NAME]
    assert again.identical(some[NAME])
    assert analyze(run, [NAME])[NAME].identical(whole)  # those of the other steps are still there
    assert taken(measured) == []
    with pytest.raises(InputError, match="has no checkpoint of step 11; the nearest is 10"):
        analyze(run, [NAME], steps=[11])


def test_an_analysis_of_a_whole_run_is_not_asked_about_some_steps(run):
    with pytest.raises(InputError, match="learning_curves is an analysis of a whole run"):
        analyze(run, ["learning_curves"], steps=[0])
    results = analyze(run, steps=[0])
    assert NAME in results
    assert not {"learning_curves", "transitions"} & set(results)


def test_an_analysis_is_measured_at_as_many_steps_as_it_says(run, measured, monkeypatch):
    monkeypatch.setattr(neuron_periodicity, "MOST_STEPS", 3, raising=False)
    few = analyze(run, [NAME, "weight_norms"])
    assert taken(measured) == [0, 20, 30]
    assert_array_equal(few[NAME].step, [0, 20, 30])
    assert_array_equal(few["weight_norms"].step, [0, 10, 20, 30])
    assert stored_result(run, NAME).identical(few[NAME])
    analyze(run, [NAME])
    assert taken(measured) == []
    assert_array_equal(analyze(run, [NAME], steps=[10])[NAME].step, [10])


def test_a_result_is_stored_when_it_is_whole(run):
    assert stored_result(run, "weight_norms") is None
    analyze(run, ["weight_norms"], steps=[0, 10])
    assert stored_result(run, "weight_norms") is None
    assert analyze(run, ["weight_norms"])["weight_norms"].identical(stored_result(run, "weight_norms"))


def test_the_files_of_results_say_which_parameters_they_have(run, measured):
    for threshold in (0.3, 0.4, 0.85):
        analyze(run, [NAME], parameters={NAME: {"threshold": threshold}})
    files = sorted(path.name for path in (run.path / "results").iterdir())
    assert [re.sub(r"-[0-9a-f]{6}\.nc$", "-HASH6.nc", file) for file in files] == [f"{NAME}-HASH6.nc"] * 2 + [
        f"{NAME}.nc"
    ]
    key = {"progress_measures": {"key_frequencies": run.last.key_frequencies}}  # what it is by default
    assert analyze(run, ["progress_measures"], parameters=key)
    assert (run.path / "results" / "progress_measures.nc").is_file()


@pytest.mark.parametrize("changed", ["circuit/neuron_periodicity.py", "mathematics/fourier.py", "runs/checkpoint.py"])
def test_other_code_is_another_result(run, measured, monkeypatch, changed):
    analyze(run, [NAME])
    taken(measured)
    digest = sources._digest
    monkeypatch.setattr(sources, "_digest", lambda path: digest(path) + "'" * path.as_posix().endswith(changed))
    analyze(run, [NAME])
    assert taken(measured) == [0, 10, 20, 30]


def test_code_that_does_not_matter_leaves_the_result(run, measured, monkeypatch):
    analyze(run, [NAME])
    taken(measured)
    digest, others = sources._digest, ("norms/weight_norms.py", "figures/style.py")
    monkeypatch.setattr(sources, "_digest", lambda path: digest(path) + "'" * path.as_posix().endswith(others))
    analyze(run, [NAME])
    assert taken(measured) == []


def test_other_key_frequencies_at_the_end_make_earlier_norms_stale(tmp_path):
    task, neurons = Task(11), circuit_neurons([1, 2])
    model = circuit_model(neurons)
    with RunWriter.create(tmp_path / "run", task, model) as writer:
        writer.append(0, initial_weights(model, task.p))
        before = analyze(open_run(writer.run.path), ["weight_norms"])["weight_norms"]
        writer.append(1, circuit_weights(task, model, neurons))
        run = open_run(writer.run.path)
    after = analyze(run, ["weight_norms"])["weight_norms"]
    assert json.loads(after.attrs["parameters"]) == {"key_frequencies": [1, 2]}
    expected = weight_norms.measure(run[0], key_frequencies=[1, 2])
    assert_array_equal(after.embedding_l2[0], expected.embedding_l2)
    assert not np.array_equal(after.embedding_l2[0], before.embedding_l2[0])


def test_an_analysis_of_the_whole_run_follows_its_metrics(tmp_path):
    with RunWriter.create(tmp_path / "run", TASK, MODEL) as writer:
        writer.append(0, weights_at(0))
        run = open_run(tmp_path / "run")
        assert_array_equal(analyze(run, ["learning_curves"])["learning_curves"].step, [0])
        writer.log(5, {"train_accuracy": 0.5})
        assert_array_equal(analyze(run, ["learning_curves"])["learning_curves"].step, [0, 5])


# ---- damage and interruption -----------------------------------------------------------------------------------------


def test_what_was_computed_before_an_interruption_is_kept(tmp_path, run, measured, written_run):
    def interrupted(steps):
        yield from steps[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyze(run, [NAME], progress=interrupted)
    assert taken(measured) == [0, 10]
    result = analyze(run, [NAME])[NAME]
    assert taken(measured) == [20, 30]
    whole = written_run(tmp_path / "whole", TASK, MODEL, STEPS, weights=weights_at)
    assert result.identical(analyze(whole, [NAME])[NAME])


def test_a_damaged_checkpoint_is_named_and_the_rows_before_it_are_kept(run, measured, monkeypatch):
    monkeypatch.setattr(Run, "last_circuit", run.last)  # or all are read in search of it, and the damage is met at once
    path = run.path / "steps" / "step_000000020.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"step_000000020\.safetensors is damaged"):
        analyze(run, [NAME])
    path.write_bytes(content)
    assert taken(measured) == [0, 10]
    analyze(run, [NAME])
    assert taken(measured) == [20, 30]


def test_a_damaged_result_is_computed_again(run, measured):
    whole = analyze(run, [NAME, "weight_norms"])[NAME]
    path = result_path(run.path, run.hash, NAME)
    content = path.read_bytes()
    damaged = [content[: len(content) * part // 16] for part in range(16)]
    damaged += [b"CDF\x01" + b"\xff" * 100, b"\x89HDF\r\n\x1a\n" + bytes(100), b"not a result", bytes(len(content))]
    damaged += [
        result_path(run.path, run.hash, "weight_norms").read_bytes(),
        content.replace(whole.attrs["identity"].encode(), bytes(16)),
    ]
    for number, bad in enumerate(damaged):
        path.write_bytes(bad)
        taken(measured)
        assert analyze(run, [NAME])[NAME].identical(whole), number
        assert taken(measured) == [0, 10, 20, 30], number
        assert path.read_bytes() == content


def test_a_run_that_cannot_be_written_to_is_cached_elsewhere(tmp_path, run, measured, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    first = analyze(run, [NAME])[NAME]
    taken(measured)
    assert not (run.path / "results").exists()
    assert [path.name for path in (tmp_path / "cache").rglob("*.nc")] == [f"{NAME}.nc"]
    assert analyze(run, [NAME])[NAME].identical(first)
    assert taken(measured) == []


def test_an_analysis_of_a_whole_run_does_not_pass_over_a_missing_checkpoint(run):
    """It sees the steps that are there; one that metrics.jsonl records must be among them."""
    lost = run.steps[1]
    next((run.path / "steps").glob(f"*{lost}.safetensors")).unlink()
    with pytest.raises(InputError, match=f"{lost}.safetensors is missing, though metrics.jsonl records it"):
        analyze(run, ["circuit_forces"])
