"""Rescaled weights: exact powers where the network is homogeneous, a slow second implementation, and controls without a
shell."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import interp
from interp.analyses import norm_landscape
from interp.analysis import measure_checkpoint
from interp.experiment import Activation, ModelConfig, Task
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.testing import LookupTable, circuit_checkpoint, circuit_neurons

FACTORS = 2.0 ** (np.arange(-4, 5) / 4)
SMALL = ModelConfig(d_model=8, n_heads=2, d_mlp=12)


def untrained(task: Task, model: ModelConfig = SMALL, scale: float = 1.0) -> Checkpoint:
    weights = {name: scale * weight.double() for name, weight in initial_weights(model, task.p).items()}
    return Checkpoint(0, weights, task, model)


def losses(logits: torch.Tensor, task: Task, split: str) -> float:
    """The mean cross-entropy over all pairs of a split, of logits [pairs, p]."""
    log_probabilities = logits.double().log_softmax(1).numpy()
    chosen = np.flatnonzero(task.mask(split))
    return float(np.mean([-log_probabilities[index, task.labels[index]] for index in chosen]))


# ---- closed forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("embedding", "activation", "degree"),
    [("none", "relu", 2), ("untied", "relu", 4), ("tied", "relu", 4), ("none", "square", 3), ("untied", "square", 6)],
)
def test_logits_of_an_mlp_scale_as_a_power(embedding, activation: Activation, degree):
    """A ReLU network has the degree of its layers; a square doubles what lies before it. So losses follow from the
    logits at 1."""
    size = {} if embedding == "none" else {"d_model": 6}
    task, model = (
        Task(7, train_fraction=0.5),
        ModelConfig(family="mlp", d_mlp=12, embedding=embedding, activation=activation, **size),
    )
    checkpoint = untrained(task, model, scale=1.5)
    logits = checkpoint.logits.reshape(-1, 7)
    result = norm_landscape.measure(checkpoint)
    assert_allclose(result.factor, FACTORS, rtol=1e-12)
    for split in ("train", "held_out"):
        expected = [losses(factor**degree * logits, task, split) for factor in FACTORS]
        assert_allclose(result.loss.sel(split=split), expected, rtol=1e-9)
        assert_allclose(result.accuracy.sel(split=split), checkpoint.accuracy(split), rtol=1e-12)


def test_the_shell_of_a_lookup_table_with_a_circuit_has_a_closed_form():
    """In a homogeneous network the least test loss lies where d ℓ/d log α = 0; found here on a grid a hundred times as
    fine."""
    task = Task(13, train_fraction=0.4)
    checkpoint = circuit_checkpoint(task, circuit_neurons([1, 2, 5], per_frequency=5), strength=1.0, family="mlp")
    noise = torch.randn(169, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model, weights = checkpoint.model, dict(checkpoint.weights)
    weights["mlp.W_out"] = weights["mlp.W_out"] + 0.35 * noise[: len(weights["mlp.W_out"])]
    noisy = Checkpoint(0, weights, task, model)
    fine = 2.0 ** np.linspace(-3, 3, 1201)
    test = np.array([losses(factor**2 * noisy.logits.reshape(-1, 13), task, "test") for factor in fine])
    best = fine[test.argmin()]
    centred = Checkpoint(0, {name: best / 1.1 * weight for name, weight in weights.items()}, task, model)
    result = norm_landscape.measure(centred)
    assert test.min() < 0.9 * math.log(13)
    assert_allclose(result.shell_factor, 1.1, rtol=0.03)
    assert_allclose(result.shell_norm, best * norm_landscape.measure(noisy).l2, rtol=0.03)


def test_the_parabola_is_exact_for_a_parabola():
    logs = np.log(FACTORS)
    for center in (-0.3, 0.05, 0.2):
        loss = np.exp(3 * (logs - center) ** 2 - 4)
        assert norm_landscape._shell(FACTORS, loss, math.log(7)) == pytest.approx(math.exp(center), rel=1e-9)
    assert math.isnan(norm_landscape._shell(FACTORS, np.exp(-logs), math.log(7)))  # still falling at the end
    # No better than a guess.
    assert math.isnan(norm_landscape._shell(FACTORS, 0.95 * math.log(7) + logs**2, math.log(7)))


# ---- a second implementation, samples --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", [SMALL, ModelConfig(n_layers=2, d_model=8, n_heads=2, d_mlp=12, prompt="ab", attention_rate=0.5)]
)
def test_losses_are_those_of_rescaled_checkpoints(model):
    task = Task(11, train_fraction=0.5)
    checkpoint = untrained(task, model, scale=1.7)
    result = norm_landscape.measure(checkpoint)
    for factor in (0.5, 1.0, 2.0**0.25, 2.0):
        scaled = Checkpoint(0, {name: factor * weight for name, weight in checkpoint.weights.items()}, task, model)
        for split in ("train", "held_out"):
            at = result.sel(split=split).sel(factor=factor, method="nearest")
            assert_allclose(at.loss, scaled.loss(split), rtol=1e-9)
            assert_allclose(at.accuracy, scaled.accuracy(split), rtol=1e-12)
    assert_allclose(
        result.l2, math.sqrt(sum(float(weight.square().sum()) for weight in checkpoint.weights.values())), rtol=1e-12
    )


def test_a_sample_is_of_its_split_and_always_the_same():
    checkpoint = untrained(Task(23, train_fraction=0.3))
    few, again = (norm_landscape.measure(checkpoint, pairs=20) for _ in range(2))
    assert few.identical(again)
    for column, split in enumerate(("train", "held_out")):
        sample = norm_landscape._sample(checkpoint, split, 20, 0)
        assert len(set(sample)) == 20
        assert checkpoint.task.mask(split)[sample].all()
        assert_allclose(few.loss.sel(factor=1.0)[column], checkpoint.losses[sample].mean(), rtol=1e-9)
    other = norm_landscape.measure(checkpoint, pairs=20, seed=1)
    assert abs(float((other.loss - few.loss).sel(factor=1.0, split="held_out"))) > 1e-6


def test_an_unknown_split_and_a_split_without_pairs_are_unknown():
    for task in (Task(7, split="unknown"), Task(7, train_fraction=1.0)):
        result = norm_landscape.measure(untrained(task))
        assert np.isnan(result.loss.sel(split="held_out")).all()
        assert np.isnan(result.shell_norm)
        assert np.isfinite(result.l2)
        assert np.isnan(result.loss.sel(split="train")).all() == (not task.split_known)


# ---- invariances -----------------------------------------------------------------------------------------------------


def test_rescaling_beforehand_only_shifts_the_landscape():
    checkpoint = untrained(Task(11, train_fraction=0.5), scale=1.5)
    half = Checkpoint(
        0, {name: weight / math.sqrt(2) for name, weight in checkpoint.weights.items()}, checkpoint.task, SMALL
    )
    one, other = norm_landscape.measure(checkpoint), norm_landscape.measure(half)
    assert_allclose(other.loss[2:], one.loss[:-2], rtol=1e-9)
    assert_allclose(float(other.l2) * other.factor.values[2:], float(one.l2) * one.factor.values[:-2], rtol=1e-9)


def test_permuting_neurons_changes_nothing():
    checkpoint = untrained(Task(7, train_fraction=0.5))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    weights = dict(checkpoint.weights)
    weights["blocks.0.mlp.W_in"], weights["blocks.0.mlp.W_out"] = (
        weights["blocks.0.mlp.W_in"][:, order],
        weights["blocks.0.mlp.W_out"][order],
    )
    permuted = norm_landscape.measure(Checkpoint(0, weights, checkpoint.task, SMALL))
    assert_allclose(permuted.loss, norm_landscape.measure(checkpoint).loss, rtol=1e-9)


# ---- controls --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["add", "random"])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_an_untrained_network_has_no_shell(operation, scale):
    result = norm_landscape.measure(
        untrained(Task(23, operation, train_fraction=0.4), ModelConfig(d_model=16, n_heads=2, d_mlp=32), scale)
    )
    assert np.isnan(result.shell_norm)
    assert float(result.loss.sel(split="held_out").min()) > 0.9 * math.log(23)


def test_a_lookup_table_alone_has_no_shell():
    """It knows the training pairs by heart and nothing of the others: no norm makes it generalize."""
    task = Task(11, train_fraction=0.5)
    lookup = circuit_checkpoint(task, [], lookup=LookupTable(strength=8.0), family="mlp")
    result = norm_landscape.measure(lookup)
    assert float(result.loss.sel(split="train", factor=1.0)) < 0.01
    assert np.isnan(result.shell_norm)
    assert_allclose(result.loss.sel(split="held_out"), math.log(11), rtol=1e-9)


def test_the_reference_run_falls_into_its_shell():
    """Before it generalizes its norm lies far above the shell; at the end it does not, and loss there is low."""
    run = interp.open_run(interp.reference_path())
    early, late = (norm_landscape.measure(run[step]) for step in (131, 3000))
    assert np.isnan(early.shell_factor) or early.shell_factor < 0.9
    assert late.shell_factor > 0.95
    assert late.shell_loss < 0.01
    facts = norm_landscape.summary(measure_checkpoint(run[3000], "norm_landscape"))
    assert facts["first_step_with_shell"] == facts["first_step_within_shell"] == facts["step"] == 3000
    assert facts["shell_norm"] == pytest.approx(facts["l2"] * facts["shell_factor"])


def test_the_figure_shows_losses_against_the_norm():
    result = measure_checkpoint(untrained(Task(7, train_fraction=0.5)), "norm_landscape")
    figure = norm_landscape.plot(result)
    first = figure.data[0]
    assert_allclose(first.x, float(result.l2[0]) * FACTORS, rtol=1e-12)
    assert_allclose(first.y, result.loss[0].sel(split="train"), rtol=0)
