"""Observers see the gradient of every step once, resumed or not, and change no bit of training."""

from typing import Any

import numpy as np
import pytest
import torch

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.mathematics.sketch import Sketch
from interp.models import Snapshot, weight_shapes
from interp.runs import weights_digest
from interp.training import MOST_STEPS, Batch, GradientSketch, loss_and_gradient, together, train

MODEL = ModelConfig(d_model=8, n_heads=2, d_mlp=8)
STEPS, BLOCK = 20, 16  # more than a block, which is shorter here
SHAPES = weight_shapes(MODEL, 7)


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interp.training.observers.BLOCK", BLOCK)


def experiment(**training: Any) -> Experiment:
    fields: dict[str, Any] = {"steps": STEPS, "checkpoint_every": 10, "log_every": 3} | training
    return Experiment(Task(7, train_fraction=0.5), MODEL, TrainingConfig(**fields))


def rows_of(snapshots: list[Snapshot]) -> torch.Tensor:
    blocks = {first: rows for one in snapshots for first, rows in one.observed.get("gradients", {}).items()}
    assert list(blocks) == [0, BLOCK]
    return torch.cat(list(blocks.values()))


@pytest.mark.parametrize("batch_size", [None, 5])
def test_it_changes_no_bit_and_sees_the_gradient_of_every_step(batch_size: int | None) -> None:
    mine = experiment(batch_size=batch_size)
    plain, observed = list(train(mine)), list(train(mine, observers=[GradientSketch(SHAPES, STEPS)]))
    assert [weights_digest(one.weights) for one in plain] == [weights_digest(one.weights) for one in observed]
    assert [one.metrics for one in plain] == [one.metrics for one in observed]
    rows, of = rows_of(observed), Sketch(SHAPES)
    assert rows.shape == (STEPS + 1, len(SHAPES), 64)
    for snapshot in observed[::3]:
        batch = Batch.of(mine.task, "train", "cpu")
        batch = batch if batch_size is None else batch.minibatch(batch_size, snapshot.step, mine.training.seed)
        gradient = loss_and_gradient(snapshot.weights, MODEL, batch)[2]
        expected = of({name: values.numpy() for name, values in gradient.items()})
        np.testing.assert_allclose(rows[snapshot.step], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("stop_after", [0, 12, 15, 16, 18])
def test_a_resumed_training_gives_the_same_rows(stop_after: int) -> None:
    mine = experiment(log_every=1)
    whole = list(train(mine, observers=[GradientSketch(SHAPES, STEPS)]))
    first = whole[: stop_after + 1]
    rest = list(train(mine, resume=first[-1], observers=[GradientSketch(SHAPES, STEPS)]))
    assert torch.equal(rows_of(first + rest), rows_of(whole))
    assert weights_digest(rest[-1].weights) == weights_digest(whole[-1].weights)
    without = list(train(mine, resume=first[-1]))  # who does not observe goes on all the same
    assert weights_digest(without[-1].weights) == weights_digest(whole[-1].weights)


def test_what_cannot_be_observed_is_refused_by_name() -> None:
    mine = experiment(log_every=1, steps=3)
    with pytest.raises(InputError, match="2 are trained side by side"):
        next(together([mine, mine], observers=[GradientSketch(SHAPES, 3)]))
    with pytest.raises(InputError, match=r"at most 100,000 steps \(282 MB\), and this training has 100,001"):
        GradientSketch(dict.fromkeys(map(str, range(11)), (1,)), MOST_STEPS + 1)
    plain = list(train(mine))
    with pytest.raises(InputError, match=r"has 0 steps since step 0, and needs 2 to go on from"):
        list(train(mine, resume=plain[1], observers=[GradientSketch(SHAPES, 3)]))
    with pytest.raises(InputError, match=r"expected torch.float32 \[fewer than 16, 11, 64\]"):
        GradientSketch(SHAPES, 3).restore({"gradients": torch.zeros(2, 3, 64)})
