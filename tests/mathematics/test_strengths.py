"""The strengths of circuits against a slow second implementation, planted ones, and controls; their errors against
many draws."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from interp.experiment import Task
from interp.mathematics import circuits
from interp.mathematics.held_out import FOLDS
from interp.mathematics.strengths import (
    FEWEST_OTHERS,
    circuit_weights,
    named,
    standard_errors,
    strengths,
)
from interp.runs import phase_pairs

EXACT = {"rtol": 1e-10, "atol": 1e-11}
TASKS = [
    Task(11, train_fraction=0.3),
    Task(12, train_fraction=0.4),
    Task(11, train_fraction=0.3, label_noise=0.4),
    Task(11, "subtract", train_fraction=0.5),
    Task(17, "multiply", train_fraction=0.2),
    Task(13, "multiply", train_fraction=0.1, label_noise=0.5),  # some labels become 0, which has no phase
    Task(11, "divide", train_fraction=0.3),
    Task(7, "x3+xy", train_fraction=0.4),
    Task(9, "random", train_fraction=0.5),
    Task(7, train_fraction=0.5),  # too few are held out
    Task(9, split="unknown"),
]


def by_task(tasks: list[Task]):
    return pytest.mark.parametrize("task", tasks, ids=[f"{task.operation}{task.p}" for task in tasks])


def gaussian(task: Task, seed: int = 0) -> torch.Tensor:
    """Logits of all its pairs, centred over the classes."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(phase_pairs(task).sums), task.p, generator=generator, dtype=torch.float64)
    return circuits.centred(3 * logits, task.coordinates)


def of(task: Task, centred: torch.Tensor) -> np.ndarray:
    return strengths(centred, phase_pairs(task), has_phase=task.has_phase).numpy()


def slow(task: Task, centred: np.ndarray, without_fold: int | None = None) -> np.ndarray:
    """G, M, α_1 … α_K, pair by pair, from the table of the task and its symmetries."""
    phase, pairs = task.coordinates, phase_pairs(task)
    n, K = phase.order, phase.order // 2
    place = dict(zip(pairs.row_major.tolist(), range(len(centred)), strict=True))
    class_of = {int(c): u for u, c in enumerate(phase.classes)}
    known, unseen, orbits = [], [], set()
    for s in range(n):
        for t in range(n):
            index = int(phase.rows[s]) * task.p + int(phase.columns[t])
            label = class_of.get(int(task.labels[index]))
            if index not in place or label is None:
                continue
            row = centred[place[index]]
            if task.train_mask[index]:
                known.append((s + t, label, row))
            if task.held_out_mask[index]:
                orbits.add(int(task.orbits[index]))
                if without_fold is None or int(pairs.fold[place[index]]) != without_fold:
                    unseen.append((s + t, label, row))
    if len(orbits) < 20:
        return np.full(2 + K, np.nan)
    G = np.mean([row[label] for _, label, row in unseen])
    if not task.has_phase:
        return np.r_[G, np.mean([row[label] for _, label, row in known]) - G, np.full(K, np.nan)]
    m = [np.mean([row[(total - d) % n] for total, _, row in unseen]) for d in range(n)]
    g = [(m[d] + m[-d % n]) / 2 for d in range(n)]
    M = np.mean([row[label] - g[(total - label) % n] for total, label, row in known])
    wave = [[math.cos(2 * math.pi * k * d / n) for d in range(n)] for k in range(1, K + 1)]
    return np.r_[G, M, [np.dot(g, cosine) / np.dot(cosine, cosine) for cosine in wave]]


@by_task(TASKS)
def test_a_slow_second_implementation(task: Task) -> None:
    """Of all held-out pairs, and without each fold in turn; the pairs in any order."""
    centred, pairs = gaussian(task), phase_pairs(task)
    found = of(task, centred)
    assert found.shape == (1 + FOLDS, 2 + task.coordinates.order // 2)
    for row, fold in enumerate((None, *range(FOLDS))):
        assert_allclose(found[row], slow(task, centred.numpy(), fold), **EXACT)
    order = torch.randperm(len(centred), generator=torch.Generator().manual_seed(1))
    shuffled = strengths(centred[order], pairs.some(order), has_phase=task.has_phase)
    assert_allclose(shuffled, found, **EXACT)


@by_task(TASKS)
def test_linear_in_the_logits(task: Task) -> None:
    one, other = gaussian(task, 1), gaussian(task, 2)
    assert_allclose(of(task, 3 * one - 0.5 * other), 3 * of(task, one) - 0.5 * of(task, other), **EXACT)


@by_task([task for task in TASKS if task.has_phase])
def test_the_generalizing_circuit_is_the_sum_of_its_frequencies(task: Task) -> None:
    """g(0) = Σ_k α_k, as Σ_d g(d) = 0."""
    found = of(task, gaussian(task))
    assert_allclose(found[:, 0], found[:, 2:].sum(1), **EXACT)


@pytest.mark.parametrize("p", [13, 14])
def test_planted(p: int) -> None:
    """Two waves, a table of the training pairs, and labels of held-out pairs that are pushed down: each is in its own
    numbers, the spike in every α_k alike, and C sees the waves alone."""
    task = Task(p, train_fraction=0.4)
    pairs = phase_pairs(task)
    d = pairs.sums[:, None] - torch.arange(p)
    waves = 3 * torch.cos(2 * math.pi * 2 * d / p) + 2 * torch.cos(2 * math.pi * 5 * d / p)
    labels = (torch.eye(p) - 1 / p).double()[pairs.label]
    table, spike = 7 * labels * pairs.is_train[:, None], -1.5 * labels * pairs.is_held_out[:, None]
    centred = waves.double() + table + spike
    found = of(task, centred)[0]
    common = -1.5 * np.where(2 * np.arange(1, p // 2 + 1) == p, 1, 2) / p  # δ_d in cosines
    expected = np.zeros(p // 2)
    expected[[1, 4]] = 3, 2
    assert_allclose(found[2:], expected + common, rtol=1e-6, atol=1e-6)
    assert_allclose(found[0], 5 - 1.5 * (1 - 1 / p), rtol=1e-6)
    assert_allclose(found[1], (7 + 1.5) * (1 - 1 / p), rtol=1e-6)
    in_set = named(found[2:], 2)
    assert (np.flatnonzero(in_set) + 1).tolist() == [2, 5]
    assert_allclose(circuit_weights(found[2:], in_set) @ found[2:], 5, rtol=1e-6)


def test_a_table_that_knows_mirrors_says_nothing_of_held_out_pairs() -> None:
    task = Task(13, train_fraction=0.3)
    pairs = phase_pairs(task)
    known = ~pairs.is_held_out
    labels = (torch.eye(13) - 1 / 13).double()[pairs.label]
    found = of(task, 7 * labels * known[:, None])[0]
    assert int(known.sum()) > int(pairs.is_train.sum()) + 20
    assert_allclose(np.delete(found, 1), 0, atol=1e-12)
    assert_allclose(found[1], 7 * (1 - 1 / 13), rtol=1e-6)


@by_task(
    [
        Task(7, train_fraction=0.5),
        Task(9, split="unknown"),
        Task(13, train_fraction=1.0),
        Task(9, "x2+y2", train_pairs=2),  # dozens of pairs, and fewer than twenty that no symmetry makes of each other
    ]
)
def test_too_few_held_out_pairs_tell_nothing(task: Task) -> None:
    assert task.n_held_out < 20
    assert np.isnan(of(task, gaussian(task))).all()
    K = task.p // 2
    errors = standard_errors(gaussian(task), phase_pairs(task), np.zeros(K), has_phase=task.has_phase)
    assert errors.shape == (3 + K,)
    assert errors.isnan().all()


def test_twenty_are_enough() -> None:
    """x³ + xy has no symmetries: as many independent pairs as test pairs."""
    for n_held_out, is_told in ((19, False), (20, True)):
        task = Task(7, "x3+xy", train_pairs=49 - n_held_out)
        assert task.n_held_out == n_held_out
        assert np.isfinite(of(task, gaussian(task))[0, :2]).all() == is_told


# ---- standard errors -------------------------------------------------------------------------------------------------


@by_task([Task(13, train_fraction=0.4), Task(11, "subtract", train_fraction=0.4), Task(7, "x3+xy", train_fraction=0.4)])
def test_standard_errors_against_many_draws(task: Task) -> None:
    """Noise that pairs of one orbit have in common: how far G, M, C and each α_k scatter from draw to draw. Of M, half
    of whose pairs are known to it, the mean of g over training pairs is held-out noise too."""
    pairs, generator = phase_pairs(task), torch.Generator().manual_seed(4)
    n, K = task.p, task.p // 2
    circuit = np.zeros(K)
    circuit[:2] = 1.0, -0.5
    # What pair (s, t) says of s + t − d is what (t, s) says of it.
    orbits, place = pairs.orbit.unique(return_inverse=True)
    seen, told = [], []
    for _ in range(400):
        noise = torch.randn(len(orbits), n, generator=generator, dtype=torch.float64)[place]
        centred = circuits.centred(noise, task.coordinates)
        found = of(task, centred)[0]
        seen.append(np.r_[found[:2], found[2:] @ circuit, found[2:]])
        if len(told) < 100:
            told.append(standard_errors(centred, pairs, circuit, has_phase=task.has_phase).numpy() ** 2)
    scatter, expected = np.std(seen, axis=0), np.sqrt(np.mean(told, axis=0))
    known = slice(None) if task.has_phase else slice(2)
    assert_allclose(expected[known], scatter[known], rtol=0.15)
    assert np.isnan(expected[2:]).all() != task.has_phase


def test_what_is_the_same_for_every_pair_has_no_error() -> None:
    task = Task(13, train_fraction=0.3)
    pairs = phase_pairs(task)
    wave = 3 * torch.cos(2 * math.pi * 2 * (pairs.sums[:, None] - torch.arange(13)) / 13).double()
    assert_allclose(standard_errors(wave, pairs, np.eye(6)[1], has_phase=True), 0, atol=1e-6)


# ---- the set, and C --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("K", "asked", "expected"), [(6, 4, 2), (5, 4, 1), (4, 4, 0), (20, 4, 4), (20, 9, 6), (1, 4, 0)]
)
def test_how_many_are_named(K: int, asked: int, expected: int) -> None:
    """The largest; a third of all at most, and none where fewer than four others are left."""
    alpha = np.random.RandomState(K).standard_normal(K)
    chosen = named(alpha, asked)
    assert chosen.sum() == expected
    if expected:
        assert K - expected >= FEWEST_OTHERS
        assert alpha[chosen].min() > alpha[~chosen].max()


def test_none_is_named_of_what_is_not_known() -> None:
    assert not named(np.full(20, np.nan)).any()
    assert not named(np.r_[np.nan, np.arange(19.0)]).any()


@pytest.mark.parametrize(("K", "n_named"), [(6, 1), (6, 2), (9, 3), (11, 2), (20, 4)])
def test_the_level_is_the_mean_of_the_middle_half_of_the_others(K: int, n_named: int) -> None:
    """Sorted by hand; what is common to all cancels; the outer quarters may be anything."""
    random = np.random.RandomState(K)
    coefficients = random.standard_normal((3, K))
    in_set = np.zeros(K, dtype=bool)
    in_set[random.permutation(K)[:n_named]] = True
    weights = circuit_weights(coefficients, in_set)
    assert_allclose(weights.sum(1), 0, atol=1e-12)
    for alpha, c in zip(coefficients, weights, strict=True):
        others = sorted(alpha[~in_set])
        cut = len(others) // 4
        level = np.mean(others[cut : len(others) - cut])
        assert_allclose(c @ alpha, (alpha[in_set] - level).sum(), rtol=1e-12)
        outer = np.flatnonzero(~in_set & (alpha == others[-1]))
        louder = alpha + 100 * np.eye(K)[outer[0]]
        assert cut == 0 or abs(circuit_weights(louder, in_set) @ louder - c @ alpha) < 1e-9
    assert_allclose(circuit_weights(coefficients + 7, in_set), weights, rtol=0, atol=0)


@pytest.mark.parametrize("n_named", [0, 6])
def test_without_a_set_or_without_others_there_is_no_circuit(n_named: int) -> None:
    assert np.isnan(circuit_weights(np.ones((2, 6)), np.arange(6) < n_named)).all()


def test_a_change_of_the_coefficients_changes_the_circuit_by_its_weights() -> None:
    """C is a sum of the α_k as long as the middle half has the same members."""
    alpha, in_set = np.array([5.0, 4.0, 0.3, 0.1, -0.2, 0.5, 1.2, -0.9]), np.arange(8) < 2
    weights, change = circuit_weights(alpha, in_set), 1e-3 * np.random.RandomState(0).standard_normal(8)
    assert_array_equal(circuit_weights(alpha + change, in_set), weights)
    assert_allclose(weights @ (alpha + change) - weights @ alpha, weights @ change, rtol=1e-9)
