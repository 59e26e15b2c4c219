"""Bias and variance against closed forms, planted parts, and members whose draws are shuffled away."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from interp.mathematics.bias_variance import (
    Vote,
    cross_entropy_parts,
    intervals,
    plug_in,
    unbiased,
    vote,
)

TRUTH = {"bias": 0.25, "data": 0.7, "initialization": 0.4}


def planted(rng: np.random.Generator, draws: int, seeds: int, examples: int) -> np.ndarray:
    """f = ½ + one noise per draw + one per member: bias² ¼, V_d .7, V_s .4 at every example."""
    data = rng.normal(size=(draws, 1, examples, 1)) * math.sqrt(TRUTH["data"])
    return 0.5 + data + rng.normal(size=(draws, seeds, examples, 1)) * math.sqrt(TRUTH["initialization"])


@pytest.mark.parametrize("shape", [(2, 2, 3, 1), (5, 3, 7, 4), (3, 1, 2, 10), (1, 4, 2, 3)])
def test_the_parts_at_hand_add_up_to_the_risk(shape: tuple[int, ...]):
    rng = np.random.default_rng(1)
    predictions, targets = rng.normal(size=shape), rng.normal(size=shape[2:])
    parts = plug_in(predictions, targets)
    assert_allclose(parts.bias + parts.data + parts.initialization, parts.risk, rtol=1e-14)
    assert_allclose(parts.risk, np.mean([[((f - targets) ** 2).sum(-1) for f in draw] for draw in predictions]))


def test_at_two_draws_of_two_seeds_the_unbiased_parts_are_right_in_the_mean_and_those_at_hand_are_not():
    rng = np.random.default_rng(2)
    repetitions = [planted(rng, 2, 2, 20) for _ in range(1000)]
    target = np.zeros((20, 1))
    right, wrong = (
        np.array([[parts.bias, parts.data, parts.initialization] for parts in (how(f, target) for f in repetitions)])
        for how in (unbiased, plug_in)
    )
    truth = np.array(list(TRUTH.values()))
    error = right.std(0) / math.sqrt(1000)
    assert (np.abs(right.mean(0) - truth) < 3.5 * error).all()
    # What the formulas say the plug-in parts are off by: V_d/D + V_s/(DS), (D − 1)/D·(V_d + V_s/S), (S − 1)/S·V_s.
    assert_allclose(wrong.mean(0), [0.25 + 0.35 + 0.1, (0.7 + 0.2) / 2, 0.2], rtol=0.02)
    assert (np.abs(wrong.mean(0) - truth) > 20 * error).all()
    assert_allclose(right.sum(1), wrong.sum(1), rtol=1e-12)  # both add up to the same risk


def test_ridge_on_a_fixed_design_against_its_closed_form():
    """ŵ = (S + λ)⁻¹Xᵀy/n: bias²(x) = (λ xᵀ(S+λ)⁻¹β)², variance σ²/n·xᵀ(S+λ)⁻¹S(S+λ)⁻¹x, over the noise of y."""
    rng = np.random.default_rng(3)
    n, d, lam, sigma = 40, 6, 0.3, 0.8
    inputs, beta, test = rng.normal(size=(n, d)), rng.normal(size=d), rng.normal(size=(25, d))
    covariance = inputs.T @ inputs / n
    inverse = np.linalg.inv(covariance + lam * np.eye(d))
    bias = ((lam * test @ inverse @ beta) ** 2).mean()
    variance = sigma**2 / n * np.einsum("xi,ij,xj->x", test, inverse @ covariance @ inverse, test).mean()
    found = []
    for _ in range(400):
        noise = rng.normal(size=(5, n)) * sigma
        weights = (inputs @ beta + noise) @ inputs / n @ inverse
        parts = unbiased((weights @ test.T)[:, None, :, None], (test @ beta)[:, None])
        found.append((parts.bias, parts.data))
        assert math.isnan(parts.initialization)  # one seed: all variance is the data's
    error = np.std(found, 0) / math.sqrt(len(found))
    assert (np.abs(np.mean(found, 0) - [bias, variance]) < 3 * error).all()
    assert bias > 10 * error[0]
    assert variance > 10 * error[1]


def test_a_constant_predictor_has_no_variance():
    parts = unbiased(np.full((4, 3, 5, 2), 0.5), np.zeros((5, 2)))
    assert astuple(parts) == (0.5, 0.5, 0.0, 0.0)


def test_noise_of_its_own_in_every_member_is_the_initialization_s():
    rng = np.random.default_rng(4)
    targets = rng.normal(size=(4000, 3))
    parts = unbiased(targets + rng.normal(size=(4, 4, 4000, 3)), targets)
    assert_allclose([parts.bias, parts.data, parts.initialization], [0, 0, 3], atol=0.05)


def test_one_noise_for_all_members_of_a_draw_is_the_data_s():
    rng = np.random.default_rng(5)
    targets = rng.normal(size=(4000, 3))
    noise = np.repeat(rng.normal(size=(6, 1, 4000, 3)), 2, axis=1)
    parts = unbiased(targets + noise, targets)
    assert parts.initialization == pytest.approx(0, abs=1e-30)
    assert_allclose([parts.bias, parts.data], [0, 3], atol=0.05)


def test_members_shuffled_between_draws_keep_the_risk_and_lose_the_data_s_part():
    rng = np.random.default_rng(6)
    predictions, target = planted(rng, 10, 4, 300), np.zeros((300, 1))
    members = predictions.reshape(40, 300, 1)
    shuffled = members[rng.permutation(40)].reshape(predictions.shape)
    before, after = unbiased(predictions, target), unbiased(shuffled, target)
    assert after.risk == pytest.approx(before.risk, rel=1e-12)
    assert before.data > 0.5
    assert abs(after.data) < 0.15
    assert after.initialization == pytest.approx(before.variance, abs=0.12)
    plugged = plug_in(shuffled, target)
    assert plugged.data == pytest.approx(after.initialization / 4, abs=0.1)  # V_d → 0 + V_s/S


def test_the_mean_of_k_networks_of_one_draw():
    rng = np.random.default_rng(7)
    predictions, target = planted(rng, 400, 6, 20), np.zeros((20, 1))
    of_three = predictions.reshape(400, 2, 3, 20, 1).mean(2)
    risk = ((of_three - target) ** 2).sum(-1).mean()
    assert unbiased(predictions, target).averaged(3) == pytest.approx(risk, rel=0.01)


def test_least_norm_least_squares_has_its_peak_in_the_variance():
    """At p = n − 2 … n the variance blows up; of the bias, 0 for p ≥ 20 signals and up to n, there is none."""
    rng = np.random.default_rng(8)
    n, signal = 30, 10
    beta = np.r_[np.ones(signal), np.zeros(70)] / math.sqrt(signal)
    test = rng.normal(size=(100, 80))
    found = {}
    for p in (15, 29, 80):
        predictions = []
        for _ in range(60):
            inputs = rng.normal(size=(n, 80))
            labels = inputs @ beta + rng.normal(size=n) * 0.5
            predictions.append(test[:, :p] @ np.linalg.lstsq(inputs[:, :p], labels)[0])
        parts = unbiased(np.array(predictions)[:, None, :, None], (test @ beta)[:, None])
        found[p] = (parts.bias, parts.data)
    assert found[29][1] > 5 * max(found[15][1], found[80][1])
    assert found[15][0] == pytest.approx(0, abs=0.02)
    # E ŵ = (n/p)β beyond: bias² = (1 − n/p)²‖β‖² of a random x
    assert found[80][0] == pytest.approx((1 - n / 80) ** 2, rel=0.25)


@pytest.mark.parametrize("shape", [(2, 2, 3, 2), (5, 3, 7, 10), (3, 1, 4, 5)])
def test_cross_entropy_around_the_geometric_mean_adds_up(shape: tuple[int, ...]):
    rng = np.random.default_rng(9)
    probabilities = rng.dirichlet(np.full(shape[-1], 0.3), size=shape[:3])
    targets = rng.dirichlet(np.ones(shape[-1]), size=shape[2])
    parts = cross_entropy_parts(np.log(probabilities), targets)
    assert parts.bias + parts.data + parts.initialization == pytest.approx(parts.risk, rel=1e-12)
    entropy = stats.entropy(targets.T).mean()
    assert parts.bias > entropy
    assert parts.data > 0
    assert parts.initialization > -1e-15
    arithmetic = -(targets * np.log(probabilities.mean((0, 1)))).sum(-1).mean()
    divergence = (probabilities.mean((0, 1)) * np.log(probabilities.mean((0, 1)) / probabilities)).sum(-1).mean()
    assert abs(arithmetic + divergence - parts.risk) > 1e-3 * parts.risk  # with the arithmetic mean nothing adds up


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Of 200 samples of five draws of three seeds; a binomial 95 % ± 3.3 standard errors is 90 % and more."""
    rng = np.random.default_rng(10)
    held = dict.fromkeys((*TRUTH, "variance", "data_share"), 0)
    truth = TRUTH | {"variance": 1.1, "data_share": 0.7 / 1.1}
    for _ in range(200):
        found = intervals(planted(rng, 5, 3, 40), np.zeros((40, 1)))
        for name in held:
            low, high = found[name]
            held[name] += low <= truth[name] <= high
    assert min(held.values()) >= 180, held


def test_what_two_draws_cannot_tell():
    found = intervals(np.random.default_rng(0).normal(size=(2, 2, 3, 1)), np.zeros((3, 1)))
    assert all(math.isnan(end) for ends in found.values() for end in ends)


def test_a_vote_of_members_that_err_apart_errs_never():
    """Three members, each wrong at another third: the vote is right, the members err and disagree at one third."""
    answers = np.zeros((3, 1, 3), dtype=int)
    answers[[0, 1, 2], 0, [0, 1, 2]] = 1
    assert vote(answers, np.zeros(3, dtype=int)) == Vote(1 / 3, 0.0, 1 / 3)
    # Where all err alike, the vote errs too and nobody disagrees.
    assert vote(np.ones((3, 2, 4), dtype=int), np.zeros(4, dtype=int)) == Vote(1.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 3, 4, 1), "1 draws of 3 seeds and 4 examples; at least 2 draws, one seed and one example are needed"),
        ((3, 0, 4, 1), "3 draws of 0 seeds"),
    ],
)
def test_what_cannot_be_told_is_refused(shape: tuple[int, ...], said: str):
    with pytest.raises(ValueError, match=said):
        unbiased(np.zeros(shape), np.zeros(shape[2:]))


def test_probabilities_are_no_logarithms():
    with pytest.raises(ValueError, match="log probabilities are above 0"):
        cross_entropy_parts(np.full((2, 2, 3, 2), 0.5), np.full((3, 2), 0.5))
