"""Which checkpoints have a circuit, and that a run keeps the name of the last one that it had."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import interp
from interp import Run, RunWriter, Task
from interp.analyses import progress_measures
from interp.mathematics.held_out import standard_error
from interp.models import Weights
from interp.runs import Checkpoint, open_run, run
from interp.testing import (
    circuit_checkpoint,
    circuit_model,
    circuit_neurons,
    circuit_weights,
    ideal_logits,
    with_logits,
)

TASK = Task(13, train_fraction=0.4)
NEURONS = circuit_neurons([2, 5])
MODEL = circuit_model(NEURONS)
CIRCUIT = circuit_weights(TASK, MODEL, NEURONS)
NOTHING = {name: torch.zeros_like(weight) for name, weight in CIRCUIT.items()}
CRUSHED = {name: 0.02 * weight for name, weight in CIRCUIT.items()}
NOT_FINITE = {name: weight * math.nan for name, weight in CIRCUIT.items()}


def run_of(path: Path, *weights: Weights) -> Run:
    with RunWriter.create(path, TASK, MODEL) as writer:
        for step, one in enumerate(weights):
            writer.append(step, one)
    return open_run(path)


# ---- what is a circuit -----------------------------------------------------------------------------------------------


def gained(checkpoint: Checkpoint, split: str) -> tuple[float, float]:
    """By how much the key frequencies alone are better than guessing, and the standard error of that, where pairs of
    one sum are one observation: unordered pair by unordered pair, each answered by least squares from those of the
    other four fifths."""
    task, p = checkpoint.task, checkpoint.task.p
    logits = checkpoint.logits.double().reshape(p**2, p).numpy()
    names = np.unique(task.orbits[task.mask(split)])
    units = np.stack([logits[(task.orbits == name) & task.mask(split)].mean(0) for name in names])
    sums = task.pairs[names].sum(1) % p
    angle = 2 * np.pi * np.outer(sums, checkpoint.key_frequencies) / p
    waves = np.concatenate([np.ones((len(sums), 1)), np.cos(angle), np.sin(angle)], axis=1)
    fold, values = np.random.RandomState(0).permutation(len(units)) % 5, np.empty(len(units))
    for one in range(5):
        inside = fold == one
        fitted = waves[inside] @ np.linalg.lstsq(waves[~inside], units[~inside], rcond=1e-9)[0]
        right = fitted[np.arange(len(fitted)), sums[inside]]
        values[inside] = math.log(p) + right - np.log(np.exp(fitted).sum(1))
    return float(values.mean()), standard_error(values, sums)


@pytest.mark.parametrize("loudness", [0.05, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(6))
def test_a_circuit_is_key_frequencies_that_answer_better_than_guessing(seed: int, loudness: float) -> None:
    """Noise beside weak waves, of either sign at some of the pairs: both sides of the line are met."""
    task = Task(17, train_fraction=0.3, seed=seed)
    waves = ideal_logits(17, [3], "clock").numpy()
    random = np.random.RandomState(seed)
    logits = loudness * (waves + 0.5 * random.standard_normal((17, 17, 17)) + random.standard_normal(17))
    checkpoint = with_logits(task, logits)
    mean, error = gained(checkpoint, "held_out")
    assert checkpoint.spectrum.has_circuit == (bool(checkpoint.key_frequencies) and mean > max(3 * error, 0.1))


def test_of_an_unknown_split_all_pairs_judge() -> None:
    task = Task(17, split="unknown")
    for favored, expected in ((0.0, True), (72.0, False)):
        logits = 9 * ideal_logits(17, [3], "clock") + favored * (torch.arange(17) == 0)
        checkpoint = with_logits(task, logits)
        mean, error = gained(checkpoint, "all")
        assert checkpoint.key_frequencies == ([3] if expected else [])
        assert checkpoint.spectrum.has_circuit == (mean > max(3 * error, 0.1)) == expected


def test_a_key_set_whose_loss_is_that_of_a_guess_is_no_circuit() -> None:
    """A class that all pairs favor: the waves are there, and no answer comes of them."""
    waves = ideal_logits(13, [2], "clock")
    shouting = with_logits(TASK, waves + 8.0 * (torch.arange(13) == 0))
    assert (with_logits(TASK, waves).key_frequencies, shouting.key_frequencies) == ([2], [2])
    assert with_logits(TASK, waves).spectrum.has_circuit
    assert not shouting.spectrum.has_circuit


def test_the_memorizing_checkpoint_of_the_reference_run_has_key_frequencies_and_no_circuit() -> None:
    """What the restricted loss is better by there was memorized: it is told from all pairs."""
    reference = interp.open_run(interp.reference_path())
    memorized, last = reference[100], reference.last
    assert (memorized.key_frequencies, memorized.spectrum.has_circuit) == ([11, 12], False)
    assert (last.key_frequencies, last.spectrum.has_circuit) == ([3, 11, 12], True)
    gain = math.log(43) - float(progress_measures.measure(memorized).restricted_loss.sel(split="held_out"))
    assert gained(memorized, "held_out")[0] < 0.3 < gain


def test_a_whisper_is_no_circuit() -> None:
    """It has no noise, and what it gains is still nothing."""
    for strength, expected in ((1.0, [2]), (0.2, [2]), (0.01, [])):
        checkpoint = with_logits(TASK, strength * ideal_logits(13, [2], "clock"))
        assert checkpoint.spectrum.evidence.has_signal.tolist() == [False, True, *[False] * 4]
        assert checkpoint.key_frequencies == expected
        assert checkpoint.spectrum.has_circuit == bool(expected)


def test_the_gain_of_a_circuit_without_memory_is_that_of_its_restricted_loss() -> None:
    checkpoint = circuit_checkpoint(TASK, circuit_neurons([2, 5], per_frequency=16, circuit="clock"), strength=0.3)
    own = progress_measures.measure(checkpoint).restricted_loss
    assert checkpoint.key_frequencies == [2, 5]
    assert_allclose(math.log(13) - own.sel(split="held_out"), gained(checkpoint, "held_out")[0], rtol=1e-2)


# ---- the last one of a run -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [NOTHING, CRUSHED, NOT_FINITE], ids=["zero", "crushed", "not finite"])
def test_a_run_that_lost_its_circuit_keeps_its_key_frequencies(tmp_path: Path, end: Weights) -> None:
    lost = run_of(tmp_path / "run", NOTHING, CIRCUIT, end)
    assert lost.last_circuit is not None
    assert lost.last_circuit.step == 1
    assert lost.key_frequencies == [2, 5]
    result = lost.result("progress_measures")
    assert json.loads(result.attrs["key_frequencies"]) == [2, 5]
    assert result.attrs["key_frequencies_of_step"] == 1
    assert result.frequency[result.is_key.isel(step=-1)].values.tolist() == [2, 5]
    assert lost.result("learning_curves").attrs["key_frequencies_of_step"] == 1


def test_of_two_circuits_it_is_the_later_one(tmp_path: Path) -> None:
    other = circuit_neurons([3, 6])
    assert run_of(
        tmp_path / "run", CIRCUIT, circuit_weights(TASK, circuit_model(other), other), NOTHING
    ).key_frequencies == [3, 6]


def test_a_run_that_never_had_a_circuit_has_no_key_frequencies(tmp_path: Path) -> None:
    never = run_of(tmp_path / "run", NOTHING, CRUSHED)
    assert (never.last_circuit, never.key_frequencies) == (None, [])
    attrs = never.result("weight_norms").attrs
    assert (attrs["key_frequencies"], attrs["key_frequencies_of_step"]) == ("[]", -1)
    with RunWriter.create(tmp_path / "empty", TASK, MODEL) as writer:
        assert (writer.run.last_circuit, writer.run.key_frequencies) == (None, [])


def test_a_growing_run_is_looked_at_anew(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run", TASK, MODEL) as writer:
        writer.append(0, NOTHING)
        growing = open_run(tmp_path / "run")
        assert growing.key_frequencies == []
        writer.append(1, CIRCUIT)
        assert growing.key_frequencies == [2, 5]


@pytest.mark.parametrize("circuit_at", [0, 5, 6, 7])
def test_of_many_checkpoints_some_are_looked_at_with_the_first_and_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, circuit_at: int
) -> None:
    """Of eight steps four: 7, 5, 2 and 0."""
    monkeypatch.setattr(run, "MOST_LOOKED_AT", 4)
    many = run_of(tmp_path / "run", *(CIRCUIT if step == circuit_at else NOTHING for step in range(8)))
    assert many.key_frequencies == ([2, 5] if circuit_at in (0, 5, 7) else [])
