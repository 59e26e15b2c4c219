"""A checkpoint: its tables, losses and frequencies against the same computed by hand."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.testing import assert_close

from interp.analysis import measure_checkpoint
from interp.errors import InputError
from interp.experiment import ModelConfig, Task
from interp.models import forward_all, initial_weights
from interp.runs import Checkpoint
from interp.testing import circuit_checkpoint, circuit_neurons

MODELS = [
    ModelConfig(d_model=8, n_heads=2, d_mlp=12),
    ModelConfig(n_layers=2, d_model=8, n_heads=2, d_mlp=12, activation="gelu", prompt="ab"),
]
TASKS = [
    Task(p=7),
    Task(p=6, operation="divide", train_fraction=0.5),
    Task(p=7, label_noise=1.0),
    Task(p=6, split="unknown"),
    Task(p=5, train_fraction=1),
]


def fresh(task: Task, model: ModelConfig = MODELS[0]) -> Checkpoint:
    return Checkpoint.from_weights(initial_weights(model, task.p), task, model)


# ---- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_tables_are_those_of_the_forward_pass_and_computed_once(model: ModelConfig) -> None:
    checkpoint = fresh(Task(p=7), model)
    activations = forward_all(checkpoint.weights, model, checkpoint.task)
    for name in ("logits", "neurons", "attention"):
        assert torch.equal(getattr(checkpoint, name), getattr(activations, name))
        assert getattr(checkpoint, name) is getattr(checkpoint, name)
    assert not checkpoint.logits.requires_grad
    assert checkpoint.losses is checkpoint.losses


@pytest.mark.parametrize("model", MODELS)
def test_weights_that_are_asked_for_often_have_names(model: ModelConfig) -> None:
    checkpoint = fresh(Task(p=7), model)
    assert torch.equal(checkpoint.W_E, checkpoint.weights["embed.W_E"][:7])
    assert torch.equal(checkpoint.W_U, checkpoint.weights["unembed.W_U"])
    assert torch.equal(checkpoint.W_out, checkpoint.weights[f"blocks.{model.n_layers - 1}.mlp.W_out"])


def test_bare_weights_are_copied_and_checked() -> None:
    weights = {name: weight.requires_grad_() for name, weight in initial_weights(MODELS[0], 7).items()}
    checkpoint = Checkpoint.from_weights(weights, Task(p=7), MODELS[0], step=40)
    assert (checkpoint.step, fresh(Task(p=7)).step) == (40, -1)
    with torch.no_grad():
        weights["embed.W_E"].zero_()
    assert torch.equal(checkpoint.W_E, fresh(Task(p=7)).W_E)
    assert not checkpoint.W_E.requires_grad
    with pytest.raises(InputError, match=r"weights: tensor 'embed.W_E' has shape \[8, 8\], expected \[12, 8\]"):
        Checkpoint.from_weights(weights, Task(p=11), MODELS[0])
    with pytest.raises(InputError, match=r"step 3: tensor 'unembed.W_U' \[8, 7\] is missing"):
        Checkpoint(
            3, {name: weights[name] for name in weights if name != "unembed.W_U"}, Task(p=7), MODELS[0], where="step 3"
        )


def test_a_checkpoint_says_what_it_is() -> None:
    assert (
        repr(circuit_checkpoint(Task(p=13), circuit_neurons([2, 5]), step=300))
        == "Checkpoint(step=300, add modulo 13, key frequencies [2, 5])"
    )


# ---- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_losses_and_answers_pair_by_pair(task: Task) -> None:
    checkpoint = fresh(task)
    for index, (a, b) in enumerate(task.pairs.tolist()):
        logits = checkpoint.logits[a, b].tolist()
        label = task.labels[index]
        if not task.defined[index]:
            assert math.isnan(checkpoint.losses[index])
            assert not checkpoint.correct[index]
        else:
            assert checkpoint.losses[index] == pytest.approx(
                math.log(sum(map(math.exp, logits))) - logits[label], rel=1e-12
            )
            assert checkpoint.correct[index] == (logits[label] == max(logits))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", ["train", "test", "unmirrored", "all"])
def test_means_over_a_split_are_nan_where_there_are_no_pairs(task: Task, split: str) -> None:
    checkpoint = fresh(task)
    chosen = [index for index in range(task.p**2) if task.mask(split)[index]]
    if not chosen:
        assert math.isnan(checkpoint.loss(split))
        assert math.isnan(checkpoint.accuracy(split))
    else:
        assert checkpoint.loss(split) == pytest.approx(
            np.mean([checkpoint.losses[index] for index in chosen]), rel=1e-14
        )
        assert checkpoint.accuracy(split) == pytest.approx(
            np.mean([checkpoint.correct[index] for index in chosen]), rel=1e-14
        )
    assert bool(chosen) == (task.split_known or split == "all") or (
        task.train_fraction == 1 and split in ("test", "unmirrored")
    )


def test_an_unknown_split_name_is_refused() -> None:
    for mean in (fresh(Task(p=7)).loss, fresh(Task(p=7)).accuracy):
        with pytest.raises(InputError, match="unknown split 'tain'; did you mean 'train'"):
            mean("tain")


@pytest.mark.parametrize(("operation", "p"), [("add", 12), ("subtract", 13), ("multiply", 11), ("divide", 13)])
def test_a_clock_answers_every_pair_of_phases(operation: str, p: int) -> None:
    task = Task(p=p, operation=operation)
    n = task.phase.order
    checkpoint = circuit_checkpoint(task, circuit_neurons(range(1, n // 2), circuit="clock"), activation="square")
    answered = checkpoint.correct.reshape(p, p)[task.phase.rows][:, task.phase.columns]
    assert answered.all()


# ---- frequencies of neurons ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("operation", "p"), [("add", 13), ("multiply", 13), ("add", 12)])
@pytest.mark.parametrize("activation", ["relu", "square"])
def test_a_planted_neuron_has_its_frequency(operation: str, p: int, activation: str) -> None:
    """A square of cos w_k a + cos w_k b has power at k in a product, and at 2k alone, which is another frequency's
    block."""
    planted = [1, 3, 4]
    checkpoint = circuit_checkpoint(Task(p=p, operation=operation), circuit_neurons(planted), activation=activation)
    expected = [k for k in planted for _ in range(9)]
    assert checkpoint.spectrum.neuron_frequencies.tolist() == expected
    shares = checkpoint.spectrum.neuron_shares
    assert shares.shape == (checkpoint.spectrum.n_frequencies, len(expected))
    assert (shares.sum(0) < 1 + 1e-9).all()
    assert (shares.max(0).values > 0.5).all()


def test_shares_of_a_squared_wave() -> None:
    """(cos x + cos y)² = 1 + ½ cos 2x + ½ cos 2y + 2 cos x cos y: variances ⅛ + ⅛ at 2k and 1 at k."""
    checkpoint = circuit_checkpoint(Task(p=13), circuit_neurons([2], per_frequency=5), activation="square")
    expected = torch.zeros(6, 5, dtype=torch.float64)
    expected[1], expected[3] = 0.8, 0.2
    assert_close(checkpoint.spectrum.neuron_shares, expected, rtol=0, atol=1e-12)
    assert_close(checkpoint.spectrum.neuron_variance, torch.full((5,), 1.25, dtype=torch.float64), rtol=1e-12, atol=0)


def test_a_dead_neuron_has_no_frequency() -> None:
    checkpoint = circuit_checkpoint(Task(p=13), circuit_neurons([2]))
    weights = dict(checkpoint.weights)
    dead = torch.tensor([0, 4])
    weights["blocks.0.mlp.W_in"] = weights["blocks.0.mlp.W_in"].index_fill(1, dead, 0.0)
    silenced = Checkpoint.from_weights(weights, checkpoint.task, checkpoint.model)
    assert_array_equal(torch.nonzero(silenced.spectrum.neuron_frequencies == 0)[:, 0], dead)
    assert silenced.spectrum.neuron_shares[:, dead].isnan().all()
    alive = [j for j in range(9) if j not in dead.tolist()]
    assert_allclose(
        silenced.spectrum.neuron_shares[:, alive], checkpoint.spectrum.neuron_shares[:, alive], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("analysis", ["clock_pizza", "logit_structure", "progress_measures", "weight_norms"])
@pytest.mark.parametrize(("frequency", "complaint"), [(0, "at least 1"), (4, "at most 3")])
def test_frequencies_that_do_not_exist(analysis: str, frequency: int, complaint: str) -> None:
    """A frequency that no basis vector has would silently be left out of every sum."""
    with pytest.raises(InputError, match=f"key_frequencies must be {complaint}"):
        measure_checkpoint(fresh(Task(p=7)), analysis, key_frequencies=[2, frequency])
