"""The curves of each of several operations: against hand-made ones, and against the network of each one."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from interp.analyses import operations
from interp.analysis import find
from interp.experiment import ModelConfig, Operations
from interp.explanation import explain
from interp.models import initial_weights
from interp.runs import Run, RunWriter, ending_of, open_run

MODEL = ModelConfig(family="mlp", d_mlp=8)
TASK = Operations(23, ("add", "random", "subtract"), (0.3, 0.5, 0.4))
STEPS = range(0, 310, 10)


def rising(at: int, low: float = 0.04) -> list[float]:
    """An accuracy that is low, and from a step on one."""
    return [1.0 if step >= at else low for step in STEPS]


def run_of(path, curves: dict[str, list[float]]) -> Run:
    """A run with these accuracies, by operation and split; the losses are 1 − accuracy, which decide nothing. It has
    one checkpoint, of step 300, that nothing is told from."""
    weights = initial_weights(MODEL, TASK.sizes)
    with RunWriter.create(path, TASK, MODEL) as writer:
        for place, step in enumerate(STEPS):
            of_step = {name: values[place] for name, values in curves.items()}
            row = {f"{name}_accuracy": value for name, value in of_step.items()}
            row |= {f"{name}_loss": 1 - value for name, value in of_step.items()}
            if step == 300:
                writer.append(step, weights, row)
            else:
                writer.log(step, row)
    return open_run(path)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """add is memorized at step 20 and generalized at step 150; random is memorized at step 30; of subtract both come at
    once, at step 50."""
    curves = {
        "add.train": rising(20),
        "add.test": rising(150, 0.3),
        "add.held_out": rising(150),
        "random.train": rising(30),
        "random.test": [0.05] * len(STEPS),
        "random.held_out": [0.05] * len(STEPS),
        "subtract.train": rising(50),
        "subtract.test": rising(50),
        "subtract.held_out": rising(50),
    }
    return run_of(tmp_path_factory.mktemp("runs") / "planted", curves)


def test_planted_events_are_told_of_each_operation(planted: Run) -> None:
    told = operations.summary(operations.compute(planted))
    assert list(told) == ["add", "random", "subtract"]
    verdicts = {name: of["verdict"] for name, of in told.items()}
    assert verdicts == {"add": "grokking", "random": "memorization", "subtract": "comprehension"}
    assert [of["memorized_at"] for of in told.values()] == [20, 30, 50]
    assert [of["generalized_at"] for of in told.values()] == [150, None, 50]
    assert [of["has_a_rule"] for of in told.values()] == [True, False, True]
    assert told["random"]["held_out_accuracy"] == 0.05


def test_the_list_of_runs_tells_the_same(planted: Run) -> None:
    ending = ending_of(planted)
    assert {name: one.verdict for name, one in ending.of_each.items()} == {
        "add": "grokking",
        "random": "memorization",
        "subtract": "comprehension",
    }
    assert ending.in_words == (
        "add: grokking, generalized at step 150; random: memorization, from step 30 on; "
        "subtract: comprehension, generalized at step 50"
    )
    # Of the network: it knew all training pairs when it knew the last of them, and never generalized all.
    assert (ending.verdict, ending.memorized_at) == ("unknown", 50.0)
    assert math.isnan(ending.generalized_at)


def test_what_is_said_of_it(planted: Run) -> None:
    told = explain(planted)
    assert told.headline == (
        "It grokked add from step 150 on, and memorized random, which has no rule, and generalized subtract while it "
        "learned, from step 50 on, in 300 steps"
    )
    text = " ".join(told.long.split())
    for sentence in (
        "99 % of its 264 training pairs were known from step 30 on (not at 20). Its table is random, so that there is "
        "nothing to generalize: of its 265 test pairs never more than 5.0 % were held",
        "add (a, b) = subtract (a, −b)",
        "add: all but two of its 158 training pairs were known from step 20 on (not at 10).",
    ):
        assert sentence in text


def test_a_checkpoint_that_was_not_logged_is_run(tmp_path) -> None:
    with RunWriter.create(tmp_path / "run", TASK, MODEL) as writer:
        writer.append(0, initial_weights(MODEL, TASK.sizes))
        writer.log(10, {"add.train_accuracy": 0.5})
    run = open_run(tmp_path / "run")
    found = operations.compute(run)
    for operation in TASK.operations:
        one = run[0].of_operation(operation)
        for split in operations.SPLITS:
            at = found.sel(step=0, operation=operation, split=split)
            assert_allclose(at.accuracy, one.accuracy(split))
            assert_allclose(at.loss, one.loss(split), rtol=1e-6)
    assert float(found.accuracy.sel(step=10, operation="add", split="train")) == 0.5
    assert np.isnan(found.accuracy.sel(step=10, operation="random")).all()


def test_how_many_pairs_there_are_and_how_many_of_them_are_independent(planted: Run) -> None:
    found = operations.compute(planted)
    for operation in TASK.operations:
        one, of = TASK.task_of(operation), found.sel(operation=operation)
        counts = [int(one.mask(split).sum()) for split in operations.SPLITS]
        assert of.pairs.values.tolist() == counts
        assert int(of.independent_held_out_pairs) == one.n_held_out
        assert float(of.guessing_accuracy) == one.guessing_accuracy
    assert found.pairs.sel(operation="random", split="train") == 264


def test_its_figure_shows_both_splits_of_each(planted: Run) -> None:
    figure = operations.plot(operations.compute(planted))
    names = {trace.name for trace in figure.data}
    assert names == {f"{one}, {split}" for one in TASK.operations for split in ("train", "held out")}
    assert find("operations").core
