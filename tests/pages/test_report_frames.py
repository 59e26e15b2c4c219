"""What the slider moves: which steps, and what is computed for them alone, on networks whose circles and heads are
known."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import interp
from interp.analysis import analyze, steps_to_show
from interp.experiment import ModelConfig, Task
from interp.models import initial_weights
from interp.pages.frames import MOST_STEPS, circle_coordinates, frames, head_drive
from interp.testing import circuit_checkpoint, circuit_neurons


def test_few_steps_are_all_shown():
    assert steps_to_show([0, 5, 100], [7.0], 3) == [0, 5, 100]


@pytest.mark.parametrize("n", [201, 2000, 5000])
def test_of_many_steps_the_ends_and_the_transition_are_shown(n):
    steps = [10 * index for index in range(n)]
    shown = steps_to_show(steps, [333.0, 708.0, np.nan], MOST_STEPS)
    assert len(shown) <= MOST_STEPS
    assert len(shown) > MOST_STEPS - 5
    assert shown == sorted(set(shown))
    assert {0, 330, 710, steps[-1]} <= set(shown)
    assert np.diff(shown).max() <= 10 * (np.ceil(n / (MOST_STEPS - 6)) + 1)


def test_more_marks_than_places():
    assert len(steps_to_show(range(100), [float(mark) for mark in range(100)], 5)) <= 5
    assert steps_to_show(range(100), [50.0], 2) == [0, 99]


@pytest.mark.parametrize(("p", "k"), [(7, 2), (11, 3), (12, 5)])
def test_a_planted_circle_is_round_and_begins_at_zero_degrees(p, k):
    """Tokens enter a planted network as the cosine and sine of w_k a, so that residue a lies at the angle w_k a."""
    checkpoint = circuit_checkpoint(Task(p), circuit_neurons([k], per_frequency=8))
    (circle,) = circle_coordinates(checkpoint, [k])
    radius = np.hypot(*circle.T)
    assert_allclose(radius, radius[0], rtol=1e-5)
    angle = 2 * np.pi * k * np.arange(p) / p
    assert_allclose(circle / radius[0], np.stack([np.cos(angle), np.sin(angle)], 1), atol=1e-5)


def test_the_plane_is_measured_in_the_units_of_the_embedding():
    """The two directions are orthonormal: no circle is longer than its residues."""
    model = ModelConfig(d_model=16, n_heads=2, d_mlp=24)
    checkpoint = interp.Checkpoint(0, initial_weights(model, 11), Task(11), model)
    length = (checkpoint.W_E - checkpoint.W_E.mean(0)).norm(dim=1).numpy()
    for circle in circle_coordinates(checkpoint, [1, 3, 5]):
        assert (np.hypot(*circle.T) <= length + 1e-5).all()


def test_the_highest_frequency_of_an_even_modulus_has_one_direction():
    model = ModelConfig(d_model=16, n_heads=2, d_mlp=24)
    (circle,) = circle_coordinates(interp.Checkpoint(0, initial_weights(model, 8), Task(8), model), [4])
    assert np.ptp(circle[:, 0]) > 0
    assert_allclose(circle[:, 1], 0)


def test_weights_that_are_not_finite_have_no_circle():
    model = ModelConfig(d_model=16, n_heads=2, d_mlp=24)
    weights = initial_weights(model, 7)
    weights["embed.W_E"][0, 0] = torch.nan
    assert np.isnan(circle_coordinates(interp.Checkpoint(0, weights, Task(7), model), [1])).all()


def test_a_head_that_says_nothing_drives_nothing():
    model = ModelConfig(d_model=16, n_heads=2, d_mlp=24)
    weights = initial_weights(model, 11)
    shares = head_drive(interp.Checkpoint(0, weights, Task(11), model), [1, 4])
    assert shares.shape == (2, 2)
    assert_allclose(shares.sum(0), 1)
    weights["blocks.0.attn.W_O"][1] = 0
    assert_allclose(head_drive(interp.Checkpoint(0, weights, Task(11), model), [1, 4]), [[1, 1], [0, 0]])


def test_the_frames_of_the_reference_run():
    run = interp.open_run(interp.reference_path())
    data = frames(run, analyze(run))
    assert data["steps"] == run.steps
    assert data["key"] == data["circles"] == run.key_frequencies
    assert sorted(data["neurons"]) == list(range(run.model.d_mlp))
    assert len(data["lines"]) == run.model.d_mlp
    assert data["scalars"]["l2"][-1] == pytest.approx(run.result("weight_norms").total_l2.values[-1])
    n = run.task.p
    shapes = {name: block["shape"][1:] for name, block in data["arrays"].items()}
    assert shapes["share"] == [128, n // 2]
    assert shapes["circle"] == [3, n, 2]
    assert shapes["logits_of_class"] == [3, n, n]
    assert shapes["attention"] == [4, n, n]
    assert {block["shape"][0] for block in data["arrays"].values()} == {len(run.steps)}
