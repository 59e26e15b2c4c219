"""Loss barriers: where they are 0 by convexity, where symmetry makes one, and those of a run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import interp
from interp.analyses import loss_barrier
from interp.analysis import find
from interp.experiment import ModelConfig, Task
from interp.mathematics.loss_barrier import barrier
from interp.models import Weights, initial_weights
from interp.runs import Run, RunWriter

MODEL = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
TASK = Task(7, train_fraction=0.5)


def run_of(path: Path, *weights: Weights, task: Task = TASK) -> Run:
    with RunWriter.create(path, task, MODEL) as writer:
        for step, some in enumerate(weights):
            writer.append(step, some)
        return writer.run


def drawn(seed: int) -> Weights:
    return initial_weights(ModelConfig(d_model=8, n_heads=2, d_mlp=12, seed=seed), 7)


def reordered(weights: Weights) -> Weights:
    order = torch.arange(12).roll(1)
    axes = {"W_in": 1, "b_in": 0, "W_out": 0}
    return weights | {
        (full := f"blocks.0.mlp.{name}"): weights[full].index_select(axis, order) for name, axis in axes.items()
    }


def test_a_quadratic_has_none_and_a_hill_has_its_height() -> None:
    t = np.linspace(-1, 2, 13)
    assert barrier(3 * t**2 - t) == 0
    assert barrier(np.array([1.0, 4.0, 3.5, 2.0])) == 2
    assert np.isnan(barrier(np.array([1.0, np.nan, 0.0])))


def test_where_the_loss_is_convex_there_is_none(tmp_path: Path) -> None:
    """Of W_U alone the logits are linear, and the cross-entropy convex."""
    one = drawn(0)
    other = one | {"unembed.W_U": 30 * drawn(1)["unembed.W_U"]}
    found = loss_barrier.compute(run_of(tmp_path / "run", one, other)).sel(step=0, to="last")
    assert found.barrier.values.tolist() == [0, 0]
    assert (found.loss.isel(place=-1) > 2 * found.loss.isel(place=0)).all()
    second = np.diff(found.loss.values, 2)
    assert (second > 0).all()


def test_to_itself_there_is_none_to_the_last_bit(tmp_path: Path) -> None:
    found = loss_barrier.compute(run_of(tmp_path / "run", drawn(0), drawn(0)))
    assert (found.barrier.sel(to="last") == 0).all()
    assert (found.loss.sel(to="last") == found.loss.sel(to="last").isel(place=0)).all()


def test_neurons_in_another_order_are_the_same_function_at_both_ends_with_a_barrier_between() -> None:
    run = interp.open_run(interp.reference_path())
    found = loss_barrier.compute(run, checkpoints=2, points=5)
    line = found.loss.sel(step=3000, to="reordered")
    assert_allclose(line.isel(place=-1), line.isel(place=0), rtol=1e-3)
    assert (found.barrier.sel(step=3000, to="reordered") > 0.5).all()
    assert (found.barrier.sel(step=3000, to="last") == 0).all()


def test_the_same_from_either_end(tmp_path: Path) -> None:
    one = {name: 4 * weight for name, weight in drawn(0).items()}
    other = reordered(one)
    there, back = (
        loss_barrier.compute(run_of(tmp_path / name, *ends)).sel(step=0, to="next")
        for name, ends in {"there": (one, other), "back": (other, one)}.items()
    )
    assert (there.barrier > 0).any()
    assert_allclose(there.barrier, back.barrier, rtol=1e-4)
    assert_allclose(there.loss, back.loss.values[:, ::-1], rtol=1e-4)


def test_a_copy_with_its_neurons_reordered_by_hand(tmp_path: Path) -> None:
    weights = {name: 4 * weight for name, weight in drawn(0).items()}
    found = loss_barrier.compute(run_of(tmp_path / "run", weights, reordered(weights))).sel(step=0)
    ends = found.loss.sel(to="last").isel(place=[0, -1]).values
    assert_allclose(ends[:, 0], ends[:, 1], rtol=1e-5)
    assert (found.barrier.sel(to="last") > 0).any()


def test_the_reference_run_walks_around_what_it_would_climb() -> None:
    """From memorized to the end there is a barrier for training pairs, between neighbors there is none, and none from
    the generalized network on."""
    run = interp.open_run(interp.reference_path())
    found = loss_barrier.compute(run, checkpoints=24, points=5)
    train = found.barrier.sel(split="train")
    assert 1 < train.sel(to="last", step=100) < train.sel(to="reordered", step=100)
    assert np.nanmax(train.sel(to="next")) < 0.05
    assert train.sel(to="last", step=1200) < 0.01
    told = find("loss_barrier").summary(found)
    assert [told[name]["step"] for name in ("memorized", "generalized", "last")] == [100, 1000, 3000]


def test_what_is_not_there_is_unknown(tmp_path: Path) -> None:
    broken = drawn(0) | {"unembed.W_U": torch.full((8, 7), torch.nan)}
    found = loss_barrier.compute(run_of(tmp_path / "run", drawn(0), broken, drawn(1)))
    assert np.isnan(found.barrier.sel(step=1)).all()
    assert np.isnan(found.barrier.sel(step=0, to="next")).all()
    assert np.isfinite(found.barrier.sel(step=0, to="last")).all()
    told = find("loss_barrier").summary(found)
    assert told["memorized"] is None
    unknown = loss_barrier.compute(run_of(tmp_path / "unknown", drawn(0), drawn(1), task=Task(7, split="unknown")))
    assert np.isnan(unknown.barrier).all()
    assert find("loss_barrier").lines(unknown)


@pytest.mark.parametrize("wrong", [{"checkpoints": 1}, {"points": 2}, {"seed": -1}])
def test_numbers_that_cannot_be_are_refused(wrong) -> None:
    with pytest.raises(interp.InputError):
        loss_barrier.compute(interp.open_run(interp.reference_path()), **wrong)
