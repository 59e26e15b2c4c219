"""Logit structure against ordinary least squares on explicit cubes, ideal clocks and pizzas, symmetries, and logits
without waves."""

import json
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from interp.analyses import logit_structure
from interp.analysis import find, measure_checkpoint
from interp.experiment import ModelConfig, Task
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.testing import circuit_checkpoint, circuit_neurons, with_logits

SPLITS = ("all", "train", "test")
EXACT = {"rtol": 1e-9, "atol": 1e-12}


def gaussian(p: int) -> np.ndarray:
    return 3 * np.random.RandomState(p).standard_normal((p, p, p))


def difference(n: int) -> np.ndarray:
    """a + b − c over [a, b, c]."""
    a = np.arange(n)
    return a[:, None, None] + a[:, None] - a


def cube(n: int, k: int) -> np.ndarray:
    return np.cos(2 * np.pi * k * difference(n) / n)


TASKS = [
    Task(7, train_fraction=0.5),
    Task(8, train_fraction=0.5),
    Task(13, label_noise=0.3),
    Task(9, "subtract"),
    Task(7, "multiply", train_fraction=0.5, label_noise=0.5),  # some labels become 0, which has no phase
    Task(8, "divide", train_fraction=0.5),  # no phase, and pairs without an answer
    Task(11, "divide", train_fraction=0.5),
    Task(10, "random", train_fraction=0.5),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.operation}{task.p}")
def test_least_squares_on_cubes(task: Task) -> None:
    phase, logits = task.coordinates, gaussian(task.p)
    n, key = phase.order, [1, 3]
    result = logit_structure.measure(with_logits(task, logits), key_frequencies=key)
    centred = logits[np.ix_(phase.rows, phase.columns, phase.classes)]
    centred = centred - centred.mean(-1, keepdims=True)
    design = np.stack([cube(n, k).reshape(-1) for k in range(1, n // 2 + 1)], axis=1)
    alpha = np.linalg.lstsq(design, centred.reshape(-1), rcond=None)[0]
    assert_allclose(result.coefficient, alpha, **EXACT)

    pairs = phase.rows[:, None] * task.p + phase.columns
    phase_of = {int(residue): t for t, residue in enumerate(phase.classes)}
    for terms, chosen in (("key", key), ("all", range(1, n // 2 + 1))):
        columns = [k - 1 for k in chosen]
        # A fit of its own for each set of frequencies, with the residual written out.
        own = np.linalg.lstsq(design[:, columns], centred.reshape(-1), rcond=None)[0]
        fit = (design[:, columns] @ own).reshape(n, n, n)
        r_squared = 1 - np.square(centred - fit).sum() / np.square(centred).sum()
        assert_allclose(result.r_squared.sel(terms=terms), r_squared, **EXACT)
        fraction = np.linalg.norm(fit) / np.linalg.norm(centred)
        assert_allclose(result.trigonometric_fraction.sel(terms=terms), fraction, **EXACT)
        losses = {split: [] for split in SPLITS}
        for s in range(n):
            for t in range(n):
                label = int(task.labels[pairs[s, t]])
                if label in phase_of:
                    loss = math.log(np.exp(fit[s, t]).sum()) - fit[s, t, phase_of[label]]
                    for split in SPLITS:
                        losses[split] += [loss] * int(task.mask(split)[pairs[s, t]])
        assert_allclose(result.loss.sel(terms=terms), [np.mean(losses[split]) for split in SPLITS], **EXACT)


@pytest.mark.parametrize("p", [13, 14])
def test_an_ideal_clock(p: int) -> None:
    planted = {2: 5.0, 3: 2.5, p // 2: 1.0}
    logits = sum(alpha * cube(p, k) for k, alpha in planted.items())
    result = logit_structure.measure(with_logits(Task(p), logits), key_frequencies=[2, 3])
    expected = np.array([planted.get(k, 0.0) for k in range(1, p // 2 + 1)])
    assert_allclose(result.coefficient, expected, rtol=0, atol=1e-12)
    power = expected**2 * np.array([1 if 2 * k == p else 0.5 for k in range(1, p // 2 + 1)])
    assert_allclose(result.cosine_share, power / power.sum(), rtol=0, atol=1e-12)
    assert_allclose(result.logit_share, power / power.sum(), rtol=0, atol=1e-12)
    assert_allclose(result.r_squared, [power[1:3].sum() / power.sum(), 1], rtol=1e-12)
    assert_allclose(result.loss.sel(terms="all"), result.network_loss, rtol=1e-6)
    table = sum(alpha * np.cos(2 * np.pi * k * np.arange(p) / p) for k, alpha in planted.items())
    assert_allclose(result.network_loss, math.log(np.exp(table - table[0]).sum()), rtol=1e-6)


def test_an_ideal_pizza_leaves_a_rest() -> None:
    """cos w(a+b−c) times m(a−b) = |cos w(a−b)/2| has the coefficient mean m, and R² = (mean m)²/mean m², near 8/π²."""
    p, k = 59, 7
    a = np.arange(p)
    m = np.abs(np.cos(np.pi * k * (a[:, None] - a) / p))
    result = logit_structure.measure(with_logits(Task(p), m[..., None] * cube(p, k)), key_frequencies=[k])
    assert_allclose(result.coefficient.sel(frequency=k), m.mean(), rtol=1e-12)
    assert_allclose(result.r_squared, m.mean() ** 2 / np.square(m).mean(), rtol=1e-10)
    assert_allclose(result.r_squared, 8 / np.pi**2, rtol=1e-3)


def test_a_sine_has_logit_power_but_no_cosine() -> None:
    result = logit_structure.measure(
        with_logits(Task(13), np.sin(2 * np.pi * 4 * difference(13) / 13)), key_frequencies=[4]
    )
    assert_allclose(result.logit_share.sel(frequency=4), 1, rtol=1e-12)
    assert_allclose(result.cosine_share, 0, rtol=0, atol=1e-20)
    assert_allclose(result.coefficient, 0, rtol=0, atol=1e-12)
    assert_allclose(result.loss, math.log(13), rtol=1e-12)


@pytest.mark.parametrize("p", [11, 12])
def test_symmetries(p: int) -> None:
    """Renaming a → a + 1, c → c + 1, constants per pair, and for the shares a factor, change nothing."""
    logits = gaussian(p) + 2 * cube(p, 3)
    shifted = logits + np.random.RandomState(0).standard_normal((p, p, 1))
    before = logit_structure.measure(with_logits(Task(p), logits), key_frequencies=[3])
    for changed, factor in ((np.roll(logits, (1, 1), axis=(0, 2)), 1), (shifted, 1), (3 * logits, 3)):
        after = logit_structure.measure(with_logits(Task(p), changed), key_frequencies=[3])
        assert_allclose(after.coefficient, factor * before.coefficient, **EXACT)
        for name in ("cosine_share", "logit_share", "r_squared", "trigonometric_fraction"):
            assert_allclose(after[name], before[name], err_msg=name, **EXACT)


def test_logits_without_waves() -> None:
    """Gaussian logits put K of their p³ − p² dimensions in the subspace; a table of random labels little more; equal
    logits nothing."""
    p, task = 13, Task(13, "random")
    chance = 6 / (p**3 - p**2)
    noise = logit_structure.measure(with_logits(task, gaussian(p)))
    assert noise.r_squared.sel(terms="all") < 5 * chance
    table = logit_structure.measure(with_logits(task, 10 * np.eye(p)[task.labels].reshape(p, p, p)))
    assert table.r_squared.sel(terms="all") < 5 * chance
    assert table.loss.sel(terms="all", split="all") > 0.9 * math.log(p)
    assert not noise.is_key.any()
    flat = logit_structure.measure(with_logits(task, np.full((p, p, p), 0.3)))
    for name in ("r_squared", "cosine_share", "logit_share", "trigonometric_fraction"):
        assert_allclose(flat[name], 0, rtol=0, atol=0, err_msg=name)
    assert_allclose(flat.loss, math.log(p), rtol=1e-12)


def test_a_planted_circuit_and_untrained_weights() -> None:
    planted = circuit_checkpoint(
        Task(13), circuit_neurons([2, 5], per_frequency=8, circuit="clock"), activation="square"
    )
    result = logit_structure.measure(planted)
    assert np.flatnonzero(result.is_key).tolist() == [1, 4]
    assert (result.r_squared > 0.6).all()
    assert_allclose(result.coefficient.sel(frequency=2), result.coefficient.sel(frequency=5), rtol=1e-9)
    model = ModelConfig(d_model=16, n_heads=2, d_mlp=32)
    untrained = logit_structure.measure(Checkpoint(0, initial_weights(model, 13), Task(13), model))
    assert untrained.r_squared.sel(terms="all") < 0.1


def test_what_is_not_known_is_null() -> None:
    result = measure_checkpoint(
        with_logits(Task(8, split="unknown"), gaussian(8)), "logit_structure", key_frequencies=[1, 4]
    )
    facts = find("logit_structure").summary(result)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["network_loss"]["train"] is facts["loss"]["key"]["test"] is None
    assert list(facts["coefficients"]) == list(facts["cosine_shares"]) == list(facts["logit_shares"]) == ["1", "4"]
    assert_allclose(facts["trigonometric_fraction"]["all"] ** 2, facts["r_squared"]["all"], rtol=1e-12)
    assert len(logit_structure.plot(result).data) > 8
