"""Calibrated rules: their false positives on networks that know no frequency, planted circuits found, and renaming done
the slow way."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom

from interp.analyses import calibration
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.mathematics import fourier
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.testing import circuit_checkpoint, circuit_neurons
from interp.training import train

RATE = 0.01
SHAPES = (
    (7, 8, 24, "relu", "ab="),
    (8, 8, 32, "relu", "ab"),
    (11, 16, 16, "gelu", "ab="),
    (13, 8, 48, "square", "ab"),
    (17, 16, 64, "relu", "ab="),
)


def untrained(shape: tuple[int, int, int, str, str], seed: int) -> Checkpoint:
    p, d_model, d_mlp, activation, prompt = shape
    model = ModelConfig(d_model=d_model, n_heads=2, d_mlp=d_mlp, activation=activation, prompt=prompt, seed=seed)
    return Checkpoint(0, initial_weights(model, p), Task(p, split="unknown"), model)


def calibrated_periodic_neurons(checkpoint: Checkpoint) -> int:
    return int(calibration.measure(checkpoint).periodic_neurons.sel(rule="calibrated"))


def test_false_positives_on_untrained_networks_are_at_most_as_stated():
    networks = [untrained(shape, seed) for shape in SHAPES for seed in range(40)]
    rates = np.array([calibrated_periodic_neurons(network) / network.model.d_mlp for network in networks])
    # Neurons of one network share their inputs and are not independent, networks are: three standard errors of the mean
    # over networks.
    assert rates.mean() <= RATE + 3 * rates.std() / math.sqrt(len(networks))
    assert rates.mean() > RATE / 4  # and it is no rule that finds nothing


@pytest.mark.parametrize(
    ("p", "circuit", "per_frequency"), [(11, "pizza", 9), (13, "pizza", 5), (12, "clock", 16), (31, "pizza", 9)]
)
def test_planted_neurons_are_all_found(p, circuit, per_frequency):
    task = Task(p)
    planted = [1, p // 2 - 1]
    checkpoint = circuit_checkpoint(task, circuit_neurons(planted, per_frequency=per_frequency, circuit=circuit))
    assert calibrated_periodic_neurons(checkpoint) == checkpoint.model.d_mlp


@pytest.mark.parametrize("seed", range(3))
def test_networks_trained_on_random_labels_have_hardly_a_periodic_neuron(seed):
    model = ModelConfig(d_model=16, n_heads=2, d_mlp=32, seed=seed)
    training = TrainingConfig(steps=200, checkpoint_every=None, log_every=200)
    task = Task(13, "random", train_fraction=0.8, seed=seed)
    *_, last = train(Experiment(task, model, training))
    assert last.metrics["train_accuracy"] > 0.9
    checkpoint = Checkpoint(last.step, last.weights, task, model)
    # By chance 0.32 of the 32 neurons: six or more happen once in a million.
    assert calibrated_periodic_neurons(checkpoint) <= 5


def test_null_of_the_neurons_is_that_of_renamed_neurons():
    p = 9
    checkpoint = untrained((p, 8, 5, "gelu", "ab="), seed=2)  # none is dead
    drawn = calibration.null_fractions_explained(checkpoint, rate=0.5, shuffles=1, seed=4)
    generator = torch.Generator().manual_seed(4)
    order = torch.randperm(5, generator=generator)
    renamed = calibration._renaming(p, generator).tolist()
    waves = fourier.basis(p).numpy()
    for value, neuron in zip(drawn, order, strict=True):
        grid = np.array([[float(checkpoint.neurons[a, b, neuron]) for b in renamed] for a in renamed])
        power = (waves @ (grid - grid.mean()) @ waves.T) ** 2
        shares = []
        for k in range(1, p // 2 + 1):
            rows = [0, 2 * k - 1, 2 * k]
            shares.append(power[np.ix_(rows, rows)].sum() / power.sum())
        np.testing.assert_allclose(float(value), max(shares), rtol=1e-4)


def test_renamings_carry_no_frequency_over():
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        renamed = calibration._renaming(5, generator)
        assert sorted(renamed.tolist()) == list(range(5))
        assert any((renamed[t] - renamed[0] - t * (renamed[1] - renamed[0])) % 5 for t in range(5))


def test_the_quantile_is_one_that_the_next_draw_passes_at_the_rate():
    drawn = torch.arange(1.0, 100.0)  # of 99 draws and one more, one in a hundred is the largest
    assert calibration.upper_quantile(drawn, 0.01) == 99
    assert calibration.upper_quantile(drawn, 0.1) == 90
    assert calibration.upper_quantile(drawn[:5], 0.01) == 5
    assert math.isnan(calibration.upper_quantile(drawn[:0], 0.01))


def test_what_has_no_null_has_no_threshold():
    three = untrained((3, 8, 8, "relu", "ab="), seed=0)
    assert math.isnan(float(calibration.measure(three).calibrated_threshold))
    assert calibrated_periodic_neurons(three) == 0


def test_random_networks_have_their_own_null():
    model = ModelConfig(d_model=8, n_heads=2, d_mlp=200)
    limit = calibration.random_network_threshold(model, Task(13))
    explained = untrained((13, 8, 200, "relu", "ab="), seed=1).spectrum.neuron_shares.max(0).values
    assert 0 <= int((explained > limit).sum()) <= binom.isf(1e-4, 200, 3 * RATE)
    assert limit < 0.85


def test_the_analysis_counts_by_both_rules():
    checkpoint = circuit_checkpoint(Task(11), circuit_neurons([2, 5]), step=7)
    facts = calibration.summary(calibration.measure(checkpoint).expand_dims(step=[7]))
    assert facts["calibrated_periodic_neurons"] == facts["periodic_neurons"] == facts["neurons"] == 18
    assert facts["calibrated_threshold"] < 0.962
