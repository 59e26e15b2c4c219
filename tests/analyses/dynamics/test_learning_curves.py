"""Learning curves against hand-made curves, closed forms, and losses computed pair by pair."""

import json
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from interp.analyses import learning_curves
from interp.analysis import analyze, find
from interp.experiment import ModelConfig, Task
from interp.models import initial_weights, weight_shapes
from interp.runs import Checkpoint, Run, RunWriter, open_run
from interp.testing import circuit_model, circuit_neurons, circuit_weights

MODEL = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
TASK = Task(7, train_fraction=0.5)
MANY = Task(31, train_fraction=0.5)  # of which more than 200 pairs are held out


def run_of(path, checkpoints=(), logged=(), *, task: Task = TASK, model: ModelConfig = MODEL) -> Run:
    """A run with these {step: weights} and {step: metrics}, in the order of the steps."""
    checkpoints, logged = dict(checkpoints), dict(logged)
    with RunWriter.create(path, task, model) as writer:
        for step in sorted(checkpoints.keys() | logged.keys()):
            if step in checkpoints:
                writer.append(step, checkpoints[step], logged.get(step))
            else:
                writer.log(step, logged[step])
    return open_run(path)


def curves(path, train, test, *, held_out=None, steps=None, task: Task = MANY) -> Run:
    """A run without weights, whose logged accuracies these are; its losses are 1 − accuracy."""
    steps = steps or range(0, 10 * len(train), 10)
    rows = {}
    for step, *accuracies in zip(steps, train, test, held_out or test, strict=True):
        of_splits = dict(zip(("train", "test", "unmirrored_test"), accuracies, strict=True))
        rows[step] = {f"{split}_accuracy": value for split, value in of_splits.items()}
        rows[step] |= {f"{split}_loss": 1 - value for split, value in of_splits.items()}
    return run_of(path, logged=rows, task=task)


def pair_by_pair(checkpoint: Checkpoint, split: str) -> tuple[float, float]:
    """Loss and accuracy over a split, one pair after the other."""
    p, losses, correct = checkpoint.task.p, [], []
    trained = {divmod(int(index), p) for index in checkpoint.task.train_indices}
    for a in range(p):
        for b in range(p):
            in_split = {
                "train": (a, b) in trained,
                "test": (a, b) not in trained,
                "unmirrored": (a, b) not in trained and (b, a) not in trained,
                "held_out": (a, b) not in trained and (b, a) not in trained,
            }
            if in_split[split]:
                logits = [float(value) for value in checkpoint.logits[a, b]]
                label = (a + b) % p
                losses.append(math.log(sum(math.exp(value) for value in logits)) - logits[label])
                correct.append(max(range(p), key=logits.__getitem__) == label)
    return float(np.mean(losses)), float(np.mean(correct))


# ---- the curves ------------------------------------------------------------------------------------------------------


def test_checkpoints_without_metrics_are_run(tmp_path):
    start = initial_weights(MODEL, 7)
    run = run_of(tmp_path / "run", {0: start, 3: {name: 2 * weight for name, weight in start.items()}})
    result = learning_curves.compute(run)
    assert_array_equal(result.step, [0, 3])
    for step in run.steps:
        for split in ("train", "test", "unmirrored", "held_out"):
            here = result.sel(step=step, split=split)
            assert_allclose([here.loss, here.accuracy], pair_by_pair(run[step], split), rtol=1e-6)
    assert_allclose(result.generalization_gap, result.loss.sel(split="test") - result.loss.sel(split="train"))


def test_weights_of_zero_have_the_loss_of_a_guess(tmp_path):
    zero = {name: torch.zeros(shape) for name, shape in weight_shapes(MODEL, 7).items()}
    result = learning_curves.compute(run_of(tmp_path / "run", {0: zero}))
    assert_allclose(result.loss, np.full((1, 4), math.log(7)), rtol=1e-12)
    assert_allclose(result.generalization_gap, [0], atol=1e-12)


def test_a_planted_circuit_is_right_everywhere(tmp_path):
    model = circuit_model(circuit_neurons([1, 2, 3]))
    weights = circuit_weights(TASK, model, circuit_neurons([1, 2, 3]))
    result = learning_curves.compute(run_of(tmp_path / "run", {0: initial_weights(model, 7), 1: weights}, model=model))
    assert_array_equal(result.accuracy[1], [1, 1, 1, 1])
    assert result.overfits[1] == 0
    assert (result.loss[1] < 1e-3).all()


@pytest.mark.parametrize(
    "logged", [{"train_loss": 0.5}, {"train_loss": 0.5, "train_accuracy": 1.0}, {"gradient_norm": 2.0}]
)
def test_what_a_loop_did_not_log_is_computed(tmp_path, logged):
    start = initial_weights(MODEL, 7)
    bare = learning_curves.compute(run_of(tmp_path / "bare", {0: start}))
    partly = learning_curves.compute(run_of(tmp_path / "partly", {0: start}, {0: logged}))
    assert partly.identical(bare)


def test_logged_steps_are_taken_as_they_are_and_need_no_weights(tmp_path):
    metrics = dict.fromkeys(
        [f"{split}_{name}" for split in ("train", "test", "unmirrored_test") for name in ("loss", "accuracy")], 0.25
    )
    run = run_of(
        tmp_path / "run", {10: initial_weights(MODEL, 7)}, {0: metrics, 10: metrics | {"test_loss": 0.75}, 20: metrics}
    )
    result = learning_curves.compute(run)
    assert_array_equal(result.step, [0, 10, 20])
    assert_array_equal(result.loss.sel(split="test"), [0.25, 0.75, 0.25])
    assert_array_equal(result.generalization_gap, [0, 0.5, 0])


def test_louder_logits_keep_every_accuracy(tmp_path):
    start = initial_weights(MODEL, 7)
    result = learning_curves.compute(
        run_of(tmp_path / "run", {0: start, 1: start | {"unembed.W_U": 8 * start["unembed.W_U"]}})
    )
    assert_array_equal(result.accuracy[1], result.accuracy[0])
    assert (result.loss[1] != result.loss[0]).all()


def test_all_pairs_in_training_leave_no_test_loss(tmp_path):
    task = Task(7, train_fraction=1.0)
    result = analyze(run_of(tmp_path / "run", {0: initial_weights(MODEL, 7)}, task=task), ["learning_curves"])[
        "learning_curves"
    ]
    assert np.isfinite(result.sel(split="train").loss).all()
    assert np.isnan(result.sel(split=["test", "unmirrored", "held_out"]).accuracy).all()
    assert np.isnan(result.overfits).all()


def test_an_unknown_split_is_nan_and_null(tmp_path):
    run = run_of(tmp_path / "run", {0: initial_weights(MODEL, 7)}, task=Task(7, split="unknown"))
    result = analyze(run, ["learning_curves"])["learning_curves"]
    for name in result.data_vars:
        assert np.isnan(result[name]).all()
    facts = find("learning_curves").summary(result)
    assert {name for name, value in facts.items() if value is not None} == {"last_step", "falls", "spikes"}
    assert facts["falls"] == []
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


# ---- the diagnosis ---------------------------------------------------------------------------------------------------


def test_overfitting_is_more_than_five_points(tmp_path):
    run = curves(tmp_path / "run", [1.0, 1.0, 1.0, 0.5, 0.2], [0.94, 0.95, 0.96, 0.4, 0.9])
    assert_array_equal(learning_curves.compute(run).overfits, [1, 0, 0, 1, 0])
    assert_array_equal(learning_curves.compute(run, overfitting_gap=0.045).overfits, [1, 1, 0, 1, 0])
    assert find("learning_curves").summary(learning_curves.compute(run))["overfits_at_the_end"] is False


def test_the_times_of_a_run_that_crosses_falls_back_and_stays(tmp_path):
    """At 50 it is known, and of the four points that are left one misses; at 80 of two none. Test accuracy, with its
    mirrors, decides nothing."""
    train = [0.1, 0.5, 0.99, 1.0, 1.0, 1.0, 1.0]
    held_out = [0.1, 0.1, 0.2, 0.99, 0.6, 0.995, 0.99]
    test = [0.1, 0.6, 0.995, 1.0, 1.0, 1.0, 1.0]
    run = curves(tmp_path / "run", train, test, held_out=held_out, steps=[0, 10, 20, 50, 60, 80, 90])
    facts = find("learning_curves").summary(learning_curves.compute(run))
    assert facts.pop("spikes") == []
    assert facts.pop("falls") == [{"step": 60, "lowest_accuracy": 0.6, "recovered_at": 80}]
    assert facts == pytest.approx(
        {
            "memorized_at": 20,
            "memorized_after": 10,
            "memorized_seen_for": None,
            "generalized_at": 80,
            "generalized_after": 60,
            "generalized_seen_for": 10,
            "held_out_accuracy": 0.99,
            "held_out_accuracy_at": 80,
            "last_step": 90,
            "final_train_loss": 0.0,
            "final_test_loss": 0.0,
            "final_train_accuracy": 1.0,
            "final_test_accuracy": 1.0,
            "final_held_out_accuracy": 0.99,
            "highest_test_loss": 0.9,
            "highest_test_loss_at": 0,
            "overfits_at_the_end": False,
        }
    )


def test_a_run_that_only_memorizes_never_generalized(tmp_path):
    facts = find("learning_curves").summary(
        learning_curves.compute(curves(tmp_path / "run", [0.2, 1.0, 1.0], [0.1, 0.1, 0.05]))
    )
    assert (facts["memorized_at"], facts["memorized_seen_for"]) == (10, 10)
    assert facts["generalized_at"] is facts["generalized_after"] is facts["generalized_seen_for"] is None
    assert (facts["held_out_accuracy"], facts["held_out_accuracy_at"]) == (0.05, 0)
    assert facts["highest_test_loss_at"] == 20
    assert facts["overfits_at_the_end"] is True


def test_a_fall_after_it_generalized_is_told(tmp_path):
    held_out = [0.1, *[1.0] * 6, 0.7, 0.8, 1.0, 1.0, 0.9]
    run = curves(tmp_path / "run", [1.0] * 12, held_out)
    facts = find("learning_curves").summary(learning_curves.compute(run))
    assert (facts["generalized_after"], facts["generalized_at"], facts["held_out_accuracy"]) == (0, 10, 1.0)
    assert facts["falls"] == [
        {"step": 70, "lowest_accuracy": 0.7, "recovered_at": 90},
        {"step": 110, "lowest_accuracy": 0.9, "recovered_at": None},
    ]


def test_a_run_that_began_generalized_was_so_after_no_step(tmp_path):
    facts = find("learning_curves").summary(learning_curves.compute(curves(tmp_path / "run", [1.0, 1.0], [1.0, 1.0])))
    assert (facts["generalized_at"], facts["generalized_after"]) == (0, None)


def test_held_out_pairs_of_an_operation_with_more_symmetries_are_computed_and_logged_apart(tmp_path):
    """Of x² + y² fewer are held out than are unmirrored: a run that logged them has them at every step, one of before
    at its checkpoints."""
    task, start = Task(7, "x2+y2", train_fraction=0.2), initial_weights(MODEL, 7)
    assert 0 < task.held_out_mask.sum() < task.unmirrored_test_mask.sum()
    both = run_of(tmp_path / "both", {0: start}, {5: {"held_out_loss": 1.0, "held_out_accuracy": 0.5}}, task=task)
    result = learning_curves.compute(both)
    logits = both[0].logits.reshape(49, 7)[torch.from_numpy(task.held_out_mask)].double()
    labels = torch.from_numpy(task.labels[task.held_out_mask])
    expected = torch.nn.functional.cross_entropy(logits, labels).item()
    found = result.loss.sel(split="held_out")
    assert_allclose(found, [expected, 1.0], rtol=1e-6)
    assert found[0] != result.loss.sel(step=0, split="unmirrored")
    assert (result.train_pairs, result.held_out_pairs) == (9, int(task.held_out_mask.sum()))
    assert result.attrs["independent_held_out_pairs"] == task.n_held_out


# ---- the figure ------------------------------------------------------------------------------------------------------


def test_the_figure_shows_each_known_split_once_per_panel(tmp_path):
    result = learning_curves.compute(curves(tmp_path / "run", [0.1, 1.0, 1.0], [0.1, 0.2, 1.0]))
    figure = learning_curves.plot(result)
    seen = [(trace.name, trace.yaxis) for trace in figure.data]
    names = ("train", "test", "held out: no mirror trained on")
    assert seen == [*((name, "y") for name in names), *((name, "y2") for name in names)]
    assert_array_equal(figure.data[4].y, [0.1, 0.2, 1.0])
    assert figure.layout.yaxis.type == "log"
    marks = [annotation.text for annotation in figure.layout.annotations]
    assert {"memorized 10", "generalized 20"} <= set(marks)
    assert sorted({shape.x0 for shape in figure.layout.shapes}) == [10, 20]


def test_spikes_of_the_training_loss_are_told_and_drawn(tmp_path):
    """Known from step 50 on, for 200 steps at step 250; the loss jumps at 300 and 700, at 303 and 706 between lines."""
    steps = range(0, 1001, 50)
    jumps = {300: (303.0, 2.0), 700: (706.0, 0.5)}

    def metrics(step: int) -> dict[str, float]:
        at, highest = jumps.get(step - 50, (float(step), 1e-5))
        loss = 0.2 if step in jumps else 3.0 if step == 0 else 1e-5
        logged = {f"{split}_loss": loss for split in ("train", "test", "unmirrored_test")}
        logged |= {f"{split}_accuracy": 0.9 if step in (0, *jumps) else 1.0 for split in ("train", "test")}
        return logged | {"unmirrored_test_accuracy": 1.0, "train_loss_max": highest, "train_loss_max_step": at}

    weights = initial_weights(MODEL, 7)
    run = run_of(tmp_path / "run", dict.fromkeys(steps, weights), {step: metrics(step) for step in steps})
    result = learning_curves.compute(run)
    spikes = find("learning_curves").summary(result)["spikes"]
    assert [(spike["step"], spike["loss"], spike["train_accuracy"]) for spike in spikes] == [
        (303, 2.0, 0.9),
        (706, 0.5, 0.9),
    ]
    marks = [trace for trace in learning_curves.plot(result).data if trace.name == "spike"]
    assert [(trace.x[0], trace.showlegend) for trace in marks] == [(303, True), (706, False)]
