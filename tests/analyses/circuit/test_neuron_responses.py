"""Neuron responses against the mean of the neurons, planted waves, symmetries, and networks with nothing to draw."""

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from interp.analyses import neuron_periodicity, neuron_responses
from interp.analysis import analyze, measure_checkpoint
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.mathematics.key_frequencies import in_phase
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.sweeps import run_experiment
from interp.testing import circuit_checkpoint, circuit_neurons

CLOSE = {"rtol": 2e-6, "atol": 2e-6}


def untrained(p: int, operation: str = "add", activation: str = "gelu") -> Checkpoint:
    task, model = Task(p, operation), ModelConfig(d_model=16, n_heads=2, d_mlp=24, activation=activation)
    return Checkpoint(0, {name: weight.double() for name, weight in initial_weights(model, p).items()}, task, model)


@pytest.mark.parametrize("operation", ["add", "subtract", "multiply", "x2+y2"])
def test_it_is_the_mean_over_the_second_input_in_phase(operation):
    checkpoint = untrained(7, operation)
    grid = in_phase(checkpoint.neurons, checkpoint.task.coordinates)
    found = neuron_responses.measure(checkpoint)
    assert_allclose(found.mean_over_b, grid.mean(1).T, **CLOSE)
    of_all = neuron_periodicity.measure(checkpoint)
    for name in ("dominant_frequency", "fraction_explained"):
        assert_array_equal(found[name], of_all[name])


def test_neurons_of_one_frequency_are_waves_of_one_period():
    result = measure_checkpoint(circuit_checkpoint(Task(13), circuit_neurons([5], circuit="clock")), "neuron_responses")
    (trace,) = neuron_responses.plot(result).data
    line = np.asarray(trace.y).reshape(-1, 14)[:, :13]  # the gaps between the lines cut off
    spectrum = np.abs(np.fft.rfft(line, axis=1)) ** 2  # over the turns of its frequency
    assert (spectrum[:, 1] > 0.9 * spectrum[:, 1:].sum(1)).all()


def test_shifting_the_first_input_shifts_the_responses():
    checkpoint = untrained(7)
    weights = dict(checkpoint.weights)
    weights["embed.W_E"] = torch.cat([weights["embed.W_E"][:7].roll(2, 0), weights["embed.W_E"][7:]])
    shifted = neuron_responses.measure(Checkpoint(0, weights, checkpoint.task, checkpoint.model))
    assert_allclose(shifted.mean_over_b, np.roll(neuron_responses.measure(checkpoint).mean_over_b, 2, 1), **CLOSE)


def test_a_dense_run_keeps_twenty_of_its_checkpoints(tmp_path):
    model = ModelConfig(d_model=8, n_heads=1, d_mlp=6)
    training = TrainingConfig(steps=48, checkpoint_every=1, log_every=48)
    run = run_experiment(Experiment(Task(7), model, training), tmp_path / "run")
    result = analyze(run, ["neuron_responses"])["neuron_responses"]
    assert result.sizes["step"] == 20
    assert [int(step) for step in result.step.values[[0, -1]]] == [0, 48]
    assert neuron_responses.summary(result)["steps_kept"] == result.step.values.tolist()


def test_an_untrained_network_has_no_group():
    result = measure_checkpoint(untrained(23, activation="relu"), "neuron_responses")
    assert neuron_responses.summary(result)["frequencies_with_periodic_neurons"] == []
    figure = neuron_responses.plot(result)
    assert len(figure.data) == 1
    assert "none is periodic: 24 of all neurons" in [annotation.text for annotation in figure.layout.annotations]


def test_the_figure_has_a_panel_for_every_group():
    neurons = circuit_neurons([5], per_frequency=5) + circuit_neurons([2])
    result = measure_checkpoint(circuit_checkpoint(Task(13), neurons, step=40), "neuron_responses")
    figure = neuron_responses.plot(result)
    titles = [annotation.text for annotation in figure.layout.annotations]
    assert "k = 2: 9 neurons" in titles
    assert "k = 5: 5 neurons" in titles
    # One broken line per group: every neuron's p values and a gap, scaled to the neuron's largest deviation.
    assert [len(line.x) for line in figure.data] == [9 * 14, 5 * 14]
    assert np.nanmax(np.abs(figure.data[0].y)) == 1.0
    facts = neuron_responses.summary(result)
    assert (facts["step"], facts["neurons"], facts["frequencies_with_periodic_neurons"]) == (40, 14, [2, 5])
    assert json.loads(json.dumps(facts)) == facts
