"""Effective rank over a run: what is drawn at random, what is of known rank, and what training leaves."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import interp
from interp.analyses import effective_rank
from interp.analysis import find
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.models import initial_weights
from interp.runs import Checkpoint, Weighted
from interp.training import train


def of(**weights: torch.Tensor):
    return effective_rank.measure(Weighted(0, weights))


def test_stacks_are_told_by_their_mean_and_vectors_not_at_all() -> None:
    """Heads of rank 1 and 3."""
    heads = torch.zeros(2, 5, 4)
    heads[0], heads[1, :3, :3] = 1, torch.eye(3)
    found = of(heads=heads, bias=torch.ones(4), square=torch.eye(6))
    assert found.tensor.values.tolist() == ["heads", "square"]
    assert_allclose(found.effective_rank, [2, 6], rtol=1e-6)
    assert found.largest_rank.values.tolist() == [4, 6]
    assert found.total_entropy.item() == pytest.approx(np.log(3) / 2 + np.log(6))


def test_what_is_drawn_at_random_is_at_one() -> None:
    """The negative control: weights as they are drawn, in another seed than that of the comparison."""
    found = effective_rank.measure(Weighted(0, initial_weights(ModelConfig(d_model=64, d_mlp=128, seed=3), 31)))
    big = found.largest_rank > 8
    assert_allclose((found.effective_rank / found.random_rank)[big], 1, atol=0.05)


def test_generalizing_takes_directions_away() -> None:
    run = interp.open_run(interp.reference_path())
    start, memorized, last = (effective_rank.measure(run[step]) for step in (0, 100, 3000))
    ratio = [(one.effective_rank / one.random_rank).sel(tensor="blocks.0.mlp.W_out").item() for one in (start, last)]
    assert ratio[0] > 0.95
    assert ratio[1] < 0.5
    assert start.total_entropy > memorized.total_entropy > last.total_entropy + 5


def test_it_falls_with_weight_decay_where_nothing_generalizes() -> None:
    """The negative control: random labels. What falls is no sign of a rule; without weight decay it does not fall."""
    small, task = ModelConfig(d_model=16, n_heads=2, d_mlp=32), Task(13, "random", 0.6)
    entropy = {}
    for decay in (1.0, 0.0):
        training = TrainingConfig(lr=1e-2, log_every=400, checkpoint_every=None, steps=400, weight_decay=decay)
        last = list(train(Experiment(task, small, training)))[-1]
        at = Checkpoint(last.step, last.weights, task, small)
        assert at.accuracy("train") > 0.99
        assert at.accuracy("held_out") < 0.3
        entropy[decay] = effective_rank.measure(at).total_entropy.item()
    start = effective_rank.measure(Weighted(0, initial_weights(small, 13))).total_entropy.item()
    assert entropy[1.0] < 0.85 * start
    assert entropy[0.0] > 0.95 * start


def test_zeros_are_unknown_and_vectors_alone_are_refused() -> None:
    found = of(nothing=torch.zeros(3, 3), square=torch.eye(2))
    assert np.isnan(found.effective_rank.values).tolist() == [True, False]
    assert np.isnan(found.total_entropy)
    told = find("effective_rank").summary(found.expand_dims(step=[0]))
    assert told["highest_entropy_at"] is None
    with pytest.raises(interp.InputError, match="vectors alone"):
        of(bias=torch.ones(3))
