"""Progress measures against closed forms, a slow second implementation over explicit waves, symmetries, and networks
without a circuit."""

import json
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from interp.analyses import progress_measures
from interp.analysis import find, measure_checkpoint
from interp.experiment import ModelConfig, Task
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.testing import circuit_checkpoint, circuit_neurons, with_logits

SPLITS = ("all", "train", "test", "held_out")
EXACT = {"rtol": 1e-9, "atol": 1e-11}  # float64 sums of a few thousand terms of order ten


def gaussian(p: int, scale: float = 3.0) -> np.ndarray:
    return scale * np.random.RandomState(p).standard_normal((p, p, p))


def cosines(p: int, k: int) -> np.ndarray:
    """cos w_k(a+b−c) over [a, b, c]."""
    a = np.arange(p)
    return np.cos(2 * np.pi * k * (a[:, None, None] + a[:, None] - a) / p)


def slow_losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.array(
        [math.log(sum(math.exp(z - row[label]) for z in row)) for row, label in zip(logits, labels, strict=True)]
    )


def slow_measures(checkpoint: Checkpoint, key: list[int]) -> dict[str, np.ndarray]:
    """All of it pair by pair: waves in s + t over the pairs in phase coordinates, and least squares for each
    projection."""
    task, phase = checkpoint.task, checkpoint.task.coordinates
    cells = [(s, t) for s in range(phase.order) for t in range(phase.order)]
    pairs = np.array([phase.rows[s] * task.p + phase.columns[t] for s, t in cells])
    logits = checkpoint.logits.double().reshape(-1, task.p).numpy()[pairs]
    total = np.array([s + t for s, t in cells])

    def projected(k: int) -> np.ndarray:
        angle = 2 * np.pi * k * total / phase.order
        waves = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return waves @ np.linalg.lstsq(waves, logits, rcond=1e-9)[0]

    labels = np.maximum(task.labels[pairs], 0)  # those without an answer are in no mask
    circuit = sum((projected(k) for k in key), np.zeros_like(logits))
    restricted = circuit + logits.mean(0)

    def mean(values: np.ndarray) -> np.ndarray:
        of_splits = (values[task.mask(split)[pairs]] for split in SPLITS)
        return np.array([of_split.mean() if len(of_split) else np.nan for of_split in of_splits])

    by_frequency = [mean(slow_losses(logits - projected(k), labels)) for k in range(1, phase.order // 2 + 1)]
    return {
        "loss": mean(slow_losses(logits, labels)),
        "restricted_loss": mean(slow_losses(restricted, labels)),
        "excluded_loss": mean(slow_losses(logits - circuit, labels)),
        "restricted_accuracy": mean(restricted.argmax(1) == labels),
        "excluded_loss_of_frequency": np.array(by_frequency).T,
        "largest_excluded_loss": np.max(by_frequency, axis=0),
    }


TASKS = [
    Task(7, train_fraction=0.5),
    Task(8, train_fraction=0.4, seed=1),
    Task(13, label_noise=0.2),
    Task(9, "subtract"),
    Task(7, "multiply", train_fraction=0.5),
    Task(11, "divide", train_fraction=0.6),
    Task(8, "divide", train_fraction=0.5),  # no phase, and pairs without an answer
    Task(10, "random", train_fraction=0.5),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.operation}{task.p}")
@pytest.mark.parametrize("key", [[], [1], [1, 3]])
def test_pair_by_pair(task: Task, key: list[int]) -> None:
    checkpoint = with_logits(task, gaussian(task.p))
    result = progress_measures.measure(checkpoint, key_frequencies=key)
    for name, expected in slow_measures(checkpoint, key).items():
        assert_allclose(result[name], expected, err_msg=name, **EXACT)
    assert_allclose(
        float(result.test_to_restricted_ratio), float(result.loss[2] / result.restricted_loss[0]), rtol=1e-12
    )
    assert np.flatnonzero(result.is_key.values).tolist() == [k - 1 for k in key]


@pytest.mark.parametrize("strength", [1.0, 25.0, 5000.0])
def test_two_cosines_in_closed_form(strength: float) -> None:
    """Without one of them the other is left, without both nothing is; also where exponentials of the logits leave
    float64."""
    p, d = 13, np.arange(13)
    waves = {k: strength * np.cos(2 * np.pi * k * d / p) for k in (2, 5)}

    def loss(table: np.ndarray) -> float:
        # The correct class has d = 0 and the largest logit.
        return math.log1p(np.exp(table[1:] - table[0]).sum())

    checkpoint = with_logits(Task(p), strength * (cosines(p, 2) + cosines(p, 5)))
    result = progress_measures.measure(checkpoint, key_frequencies=[2, 5])
    own = loss(waves[2] + waves[5])
    assert_allclose(result.restricted_loss, own, rtol=1e-6, atol=1e-11)
    assert_allclose(result.excluded_loss, math.log(p), rtol=0, atol=1e-12 * strength)
    expected = np.full(6, own)
    expected[1], expected[4] = loss(waves[5]), loss(waves[2])
    assert_allclose(result.excluded_loss_of_frequency.sel(split="train"), expected, rtol=1e-6, atol=1e-11)
    assert_allclose(result.largest_excluded_loss.sel(split="test"), expected.max(), rtol=1e-6, atol=1e-11)
    assert (result.excluded_loss_of_frequency >= 0).all()
    assert_allclose(result.restricted_accuracy, 1, rtol=0)


def test_factors_that_lead_at_different_classes_do_not_underflow() -> None:
    """What is left of 900 cos − 1350 cos 2 without the first wave is largest where exp(L) is not, nor exp(−P L)."""
    p = 8
    logits = 900 * (cosines(p, 1) - 1.5 * cosines(p, 2))
    result = progress_measures.measure(with_logits(Task(p), logits), key_frequencies=[])
    left = -1350 * np.cos(2 * np.pi * 2 * np.arange(p) / p)
    expected = left.max() + math.log(np.exp(left - left.max()).sum()) - left[0]
    assert_allclose(result.excluded_loss_of_frequency.sel(frequency=1), expected, rtol=1e-9)


def test_a_tie_is_no_answer() -> None:
    """The mean logits of an empty key set favor two classes alike."""
    logits = np.zeros((7, 7, 7))
    logits[..., :2] = 3
    for second, accuracy in ((3, 0), (2, 1 / 7)):
        logits[..., 1] = second
        result = progress_measures.measure(with_logits(Task(7), logits), key_frequencies=[])
        assert_allclose(result.restricted_accuracy.sel(split="all"), accuracy, rtol=1e-12)


def test_an_empty_key_set() -> None:
    task = Task(8)
    logits = gaussian(8) + np.arange(8)  # the mean logits favor class 7
    checkpoint = with_logits(task, logits)
    result = progress_measures.measure(checkpoint, key_frequencies=[])
    mean = np.broadcast_to(logits.mean((0, 1)), (64, 8))
    losses = slow_losses(mean, task.labels)
    assert_allclose(result.restricted_loss, [losses[task.mask(split)].mean() for split in SPLITS], **EXACT)
    assert_allclose(result.excluded_loss, [checkpoint.loss(split) for split in SPLITS], **EXACT)
    assert_allclose(result.restricted_accuracy.sel(split="all"), 1 / 8, rtol=1e-12)


@pytest.mark.parametrize("p", [11, 12])
def test_symmetries(p: int) -> None:
    """Renaming a → a + 1, c → c + 1, and a constant added to the logits of a pair, change nothing."""
    logits = gaussian(p)
    expected = progress_measures.measure(with_logits(Task(p), logits), key_frequencies=[2, 3]).sel(split="all")
    renamed = np.roll(logits, (1, 1), axis=(0, 2))
    shifted = logits + 5 * np.random.RandomState(1).standard_normal((p, p, 1))
    for changed in (renamed, shifted):
        result = progress_measures.measure(with_logits(Task(p), changed), key_frequencies=[2, 3]).sel(split="all")
        for name in ("loss", "restricted_loss", "excluded_loss", "excluded_loss_of_frequency", "restricted_accuracy"):
            assert_allclose(result[name], expected[name], err_msg=name, **EXACT)


def test_a_planted_circuit_is_all_that_is_restricted_to() -> None:
    checkpoint = circuit_checkpoint(Task(13), circuit_neurons([2, 5]), strength=2.0)
    assert checkpoint.key_frequencies == [2, 5]
    result = progress_measures.measure(checkpoint)
    assert_allclose(result.restricted_accuracy, 1, rtol=0)
    assert (result.restricted_loss < result.loss).all()  # a pizza's other terms only harm
    assert (result.excluded_loss > math.log(13)).all()
    assert result.excluded_loss_of_frequency.sel(split="all").values.argsort()[-2:].tolist() in ([1, 4], [4, 1])


def test_a_lookup_table_of_random_labels_has_no_circuit() -> None:
    """No frequency holds it: none can be taken away with effect, and any key set restricts it to chance."""
    task = Task(13, "random")
    result = progress_measures.measure(
        with_logits(task, 12 * np.eye(13)[task.labels].reshape(13, 13, 13)), key_frequencies=[2, 5]
    )
    assert result.loss.sel(split="all") < 1e-4
    assert result.largest_excluded_loss.sel(split="all") < 0.01
    assert result.restricted_loss.sel(split="all") > 0.7 * math.log(13)
    assert result.restricted_accuracy.sel(split="all") < 0.35


def test_a_checkpoint_of_other_frequencies_than_its_run_has_losses_of_its_own() -> None:
    """What the network used and gave up later: by the keys of the run it is memorized, by its own it is all there
    is."""
    checkpoint = with_logits(Task(13), 9 * cosines(13, 2) + 2 * cosines(13, 5) + gaussian(13, 0.3))
    of_run, own = (progress_measures.measure(checkpoint, key_frequencies=keys) for keys in ([5], None))
    assert own.frequency[own.is_key].values.tolist() == checkpoint.key_frequencies == [2, 5]
    assert (own.restricted_loss < 0.3).all()
    assert (of_run.restricted_loss > 1).all()
    assert_allclose(own.excluded_loss, math.log(13), rtol=0.1)


def test_untrained_weights() -> None:
    model = ModelConfig(d_model=16, n_heads=2, d_mlp=32)
    checkpoint = Checkpoint(0, initial_weights(model, 13), Task(13), model)
    result = progress_measures.measure(checkpoint)
    assert not result.is_key.any()
    assert_allclose(result.restricted_loss.sel(split="all"), math.log(13), rtol=0.1)
    assert_allclose(result.largest_excluded_loss, result.loss, rtol=0.1)


def test_what_is_not_known_is_null() -> None:
    result = measure_checkpoint(
        with_logits(Task(8, split="unknown"), gaussian(8)), "progress_measures", key_frequencies=[1]
    )
    facts = find("progress_measures").summary(result)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    for name in ("loss", "restricted_loss", "excluded_loss", "restricted_accuracy", "largest_excluded_loss"):
        assert facts[name]["train"] is facts[name]["test"] is None
        assert_allclose(facts[name]["all"], result[name].sel(split="all").item())
    assert facts["test_to_restricted_ratio"] is None
    assert facts["key_frequencies"] == [1]
    assert list(facts["excluded_loss_of_frequency"]) == ["1"]
    assert len(progress_measures.plot(result).data) > 4
