"""Running analyses: one walk for all of them, one checkpoint in memory, provenance, and what a person can get wrong."""

import json
import weakref

import pytest
import torch
from numpy.testing import assert_array_equal

import interp.runs.checkpoint
from interp.analyses import neuron_periodicity
from interp.analysis import analyze, find, measure_checkpoint
from interp.errors import InputError
from interp.experiment import ModelConfig, Task
from interp.models import initial_weights
from interp.runs import Checkpoint, Run, RunWriter, open_run

TASK = Task(7, train_fraction=0.5)
MODEL = ModelConfig(d_model=8, n_heads=2, d_mlp=6)
NAME = "neuron_periodicity"


@pytest.fixture
def run(tmp_path, written_run) -> Run:
    return written_run(tmp_path / "run", TASK, MODEL, (0, 10, 20, 30))


# ---- one walk --------------------------------------------------------------------------------------------------------


def test_all_analyses_share_one_walk_one_pass_and_no_checkpoint_stays(run, monkeypatch):
    passes, walks, alive = [], [], weakref.WeakSet()
    forward_all, getitem = interp.runs.checkpoint.forward_all, Run.__getitem__
    monkeypatch.setattr(interp.runs.checkpoint, "forward_all", lambda *given: passes.append(1) or forward_all(*given))

    def watched(self, step):
        checkpoint = getitem(self, step)
        alive.add(checkpoint)
        return checkpoint

    monkeypatch.setattr(Run, "__getitem__", watched)

    def progress(steps):
        walks.append(list(steps))
        for step in steps:
            yield step
            assert len(alive) <= 2  # this one, and the last of the run, which has the key frequencies

    names = ["embedding_spectrum", NAME, "weight_norms"]
    results = analyze(run, names, progress=progress)
    assert list(results) == names
    assert walks == [[0, 10, 20, 30]]
    assert len(passes) == 4 + 4  # none has a circuit, whose key frequencies are asked for: all are looked at


def test_only_what_is_missing_is_walked(run):
    analyze(run, [NAME])
    walks = []
    analyze(run, [NAME, "weight_norms"], progress=lambda steps: walks.append(list(steps)) or steps)
    analyze(run, [NAME, "weight_norms"], progress=lambda steps: walks.append(list(steps)) or steps)
    assert walks == [[0, 10, 20, 30]]


# ---- one checkpoint in memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["embedding_spectrum", NAME, "weight_norms"])
def test_a_checkpoint_in_memory_gives_the_row_of_its_step(run, name):
    given = {"key_frequencies": [1, 2]} if name == "weight_norms" else {}
    result = analyze(run, [name], parameters={name: given})[name]
    for step in run.steps:
        one = measure_checkpoint(run[step], name, **given)
        row = result.sel(step=[step])
        assert one.assign_attrs(row.attrs).identical(row)
        assert {
            key: one.attrs[key] for key in ("analysis", "reference", "version", "parameters")
        }.items() <= row.attrs.items()


def test_a_checkpoint_of_unknown_step_says_so():
    checkpoint = Checkpoint.from_weights(initial_weights(MODEL, 7), TASK, MODEL)
    assert_array_equal(measure_checkpoint(checkpoint, NAME).step, [-1])


def test_weights_that_need_a_gradient_are_measured_all_the_same():
    weights = {name: weight.requires_grad_() for name, weight in initial_weights(MODEL, 7).items()}
    checkpoint = Checkpoint.from_weights(weights, TASK, MODEL)
    for name in ("embedding_spectrum", NAME, "weight_norms"):
        measure_checkpoint(checkpoint, name)
    assert all(torch.equal(weights[name].detach(), weight) for name, weight in initial_weights(MODEL, 7).items())


# ---- what a result says of itself ------------------------------------------------------------------------------------


def test_a_result_carries_its_provenance(run):
    attrs = analyze(run, [NAME])[NAME].attrs
    assert attrs["analysis"] == NAME
    assert attrs["reference"] == neuron_periodicity.REFERENCE
    assert attrs["title"].startswith("Neuron periodicity")
    assert attrs["version"] == find(NAME).version
    assert attrs["run"] == run.hash
    assert attrs["interp"] == interp.__version__
    assert json.loads(attrs["parameters"]) == {"threshold": 0.85}


# ---- what a person can get wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "parameters", "complaint"),
    [
        (["neuron_periodicty"], {}, r"unknown analysis 'neuron_periodicty'; did you mean 'neuron_periodicity'\?"),
        (
            [NAME],
            {NAME: {"treshold": 0.5}},
            r"unknown parameter of neuron_periodicity 'treshold'; did you mean 'threshold'\?",
        ),
        (
            [NAME],
            {"neuron_periodicty": {"threshold": 0.5}},
            r"unknown analysis 'neuron_periodicty'; did you mean 'neuron_periodicity'\?",
        ),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest(run, names, parameters, complaint):
    with pytest.raises(InputError, match=complaint):
        analyze(run, names, parameters=parameters)
    assert not (run.path / "results").exists()


def test_a_checkpoint_refuses_what_a_run_would():
    checkpoint = Checkpoint.from_weights(initial_weights(MODEL, 7), TASK, MODEL)
    with pytest.raises(InputError, match=r"did you mean 'threshold'\?"):
        measure_checkpoint(checkpoint, NAME, treshold=0.5)
    with pytest.raises(InputError, match="learning_curves is an analysis of a whole run"):
        measure_checkpoint(checkpoint, "learning_curves")


def test_a_run_without_checkpoints_cannot_be_analyzed(tmp_path, written_run):
    with pytest.raises(InputError, match="no checkpoints to analyze"):
        analyze(written_run(tmp_path / "run", TASK, MODEL, steps=()), [NAME])


# ---- training that diverged ------------------------------------------------------------------------------------------


def diverging(folder, finite_steps, broken_steps) -> Run:
    with RunWriter.create(folder, TASK, MODEL) as writer:
        for step in (*finite_steps, *broken_steps):
            factor = 1.0 if step in finite_steps else float("nan")
            writer.append(step, {name: weight * factor for name, weight in initial_weights(MODEL, TASK.p).items()})
    return open_run(folder)


def test_checkpoints_that_diverged_have_no_row(tmp_path):
    run = diverging(tmp_path / "run", (0, 10), (20, 30))
    for _ in range(2):  # computed, and read again
        results = analyze(run, [NAME, "progress_measures", "transitions"])
        assert results[NAME].step.values.tolist() == [0, 10]
        assert results["progress_measures"].step.values.tolist() == [0, 10]
        assert results["transitions"].step.values.tolist() == [0, 10, 20, 30]
    sound = diverging(tmp_path / "sound", (0, 10), ())
    assert_array_equal(
        results["progress_measures"].loss, analyze(sound, ["progress_measures"])["progress_measures"].loss
    )


@pytest.mark.parametrize("name", [NAME, "progress_measures"])
def test_nothing_but_diverged_checkpoints_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"every checkpoint of .* holds NaN or infinity"):
        analyze(diverging(tmp_path / "run", (), (0, 10)), [name])
