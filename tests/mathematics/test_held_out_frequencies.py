"""The evidence for key frequencies written out slowly, its symmetries, and what only training pairs carry: lookup
tables, alone and beside a circuit."""

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.experiment.task import Operation
from interp.mathematics.key_frequencies import Evidence, centre, evidence, frequencies_of, judges_of
from interp.runs import Checkpoint
from interp.testing import circuit_checkpoint, circuit_neurons, ideal_logits, with_logits
from interp.training import train


def random_logits(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lookup(trained: Tensor, n: int) -> Tensor:
    """1 at the correct class of trained pairs, nothing elsewhere."""
    residue = torch.arange(n)
    return torch.eye(n, dtype=torch.float64)[(residue[:, None] + residue) % n] * trained[..., None]


def some_pairs(n: int, fraction: float) -> Tensor:
    return torch.rand(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64) < fraction


def by(judged: Tensor, logits: Tensor, *, held_out: bool = True) -> Evidence:
    n = len(logits)
    return evidence(centre(logits), judges_of(torch.arange(n * n).view(n, n), judged), held_out=held_out)


def observations(judged: Tensor, logits: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Centred logits and sum of every judged pair."""
    centred = (logits - logits.mean(-1, keepdim=True)).numpy()
    s, t = np.nonzero(judged.numpy())
    return centred[s, t], (s + t) % len(logits)


# ---- written out -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 6])
def test_strength_and_deviations_are_those_of_all_ways_to_deal_the_logits_out(n: int) -> None:
    logits, judged = random_logits(n, seed=1), torch.zeros(n, n, dtype=torch.bool)
    for pair in ((0, 1), (2, 2), (3, 0), (1, 4), (4, 4), (0, 0)):
        judged[pair] = True
    found = by(judged, logits)
    values, sums = observations(judged, logits)
    classes = np.arange(n)
    for k in range(1, n // 2 + 1):
        scale = (1 if 2 * k == n else 2) / n

        def strength(order: tuple[int, ...], k: int = k, scale: float = scale) -> float:
            waves = np.cos(2 * np.pi * k / n * (sums[list(order)][:, None] - classes))
            return scale * float((waves * values).sum(1).mean())

        dealt = np.array([strength(order) for order in permutations(range(6))])
        own = strength(tuple(range(6)))
        assert found.strength[k - 1].item() == pytest.approx(own, abs=1e-12)
        assert found.deviations[k - 1].item() == pytest.approx((own - dealt.mean()) / dealt.std(), rel=1e-9)


@pytest.mark.parametrize("n", [6, 7])
@pytest.mark.parametrize("scale", [0.3, 6.0])
def test_losses_are_those_without_what_least_squares_fits(n: int, scale: float) -> None:
    logits, judged = scale * (random_logits(n) + 4 * ideal_logits(n, [1], "clock")), some_pairs(n, 0.6)
    found = by(judged, logits)
    values, sums = observations(judged, logits)

    def loss(of: np.ndarray) -> float:
        return float(np.mean(np.log(np.exp(of).sum(1)) - of[np.arange(len(of)), sums]))

    assert math.exp(found.log_loss) == pytest.approx(loss(values), rel=1e-9)
    for k in range(1, n // 2 + 1):
        angle = 2 * np.pi * k * sums / n
        waves = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        waves -= waves.mean(0)
        rest = values - waves @ np.linalg.lstsq(waves, values - values.mean(0), rcond=1e-9)[0]
        assert found.log_loss_without[k - 1].exp().item() == pytest.approx(loss(rest), rel=1e-9)


def test_losses_smaller_and_larger_than_any_number_are_told_apart() -> None:
    """cos of one frequency leads by at least s·(1 − cos w) for each of 30,000 logits: e^−3000, say."""
    n, everywhere = 11, torch.ones(11, 11, dtype=torch.bool)
    for strength in (1e3, 1e4):
        both = by(everywhere, strength * ideal_logits(n, [2, 5], "clock"))
        leads = strength * np.array([sum(1 - math.cos(2 * math.pi * k * d / n) for k in (2, 5)) for d in range(1, n)])
        assert both.log_loss == pytest.approx(
            float(-leads.min() + np.log((leads < leads.min() + 1e-6).sum())), rel=1e-6
        )
        assert frequencies_of(both.is_key) == [2, 5]
    wrong = by(everywhere, -1e4 * ideal_logits(n, [2], "clock"))
    assert math.isfinite(wrong.log_loss)
    assert frequencies_of(wrong.is_key) == []


# ---- symmetries ------------------------------------------------------------------------------------------------------


def test_renaming_residues_renames_frequencies_and_scale_and_offsets_do_not_matter() -> None:
    n, judged = 13, some_pairs(13, 0.5)
    logits = random_logits(n) + 2 * ideal_logits(n, [3], "clock")
    found = by(judged, logits)
    times = 5 * torch.arange(n) % n
    renamed = by(judged[times][:, times], logits[times][:, times][:, :, times])
    place = [min(5 * k % n, -5 * k % n) - 1 for k in range(1, 7)]
    for one, other in zip(found[:2] + found[4:5], renamed[:2] + renamed[4:5], strict=True):
        assert_close(other, one[place], rtol=1e-9, atol=1e-12)
    louder = by(judged, 7 * logits + 100 * random_logits(n)[:, :, :1])
    assert_close(louder.strength, 7 * found.strength)
    assert_close(louder.deviations, found.deviations, rtol=1e-9, atol=1e-9)
    favored = by(judged, logits + 5 * random_logits(n)[0, 0])
    assert_close(favored.deviations, found.deviations, rtol=1e-9, atol=1e-9)


def test_a_mirror_image_is_no_second_observation() -> None:
    n, half = 13, torch.ones(13, 13).triu() > 0
    logits = random_logits(n) + ideal_logits(n, [3], "clock")
    symmetric = torch.where(half[..., None], logits, logits.transpose(0, 1))
    orbits = torch.from_numpy(Task(13).orbits).view(13, 13)
    once = evidence(centre(symmetric), judges_of(orbits, half), held_out=True)
    twice = evidence(centre(symmetric), judges_of(orbits, torch.ones_like(half)), held_out=True)
    for one, other in zip((*once[:2], once[4]), (*twice[:2], twice[4]), strict=True):
        assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert by(torch.ones_like(half), symmetric).deviations[2] > 1.3 * once.deviations[2]


# ---- what is key -----------------------------------------------------------------------------------------------------


def test_a_wave_that_is_late_by_a_sixth_of_a_turn_is_key_though_a_quarter_of_its_power_adds() -> None:
    n, task = 23, Task(23)
    a, b, c = torch.meshgrid(*[torch.arange(n).double()] * 3, indexing="ij")
    angle = 2 * math.pi / n * (a + b - c)
    logits = 12 * torch.cos(3 * angle) + 12 * torch.cos(7 * angle) + 8 * torch.cos(5 * angle + math.pi / 3)
    spectrum = with_logits(task, logits + 0.1 * random_logits(n)).spectrum
    assert spectrum.logit_alignments[4].item() == pytest.approx(0.25, abs=0.01)
    assert spectrum.evidence.strength[4].item() == pytest.approx(4, abs=0.05)
    assert spectrum.key_frequencies == [3, 5, 7]


def test_what_the_answers_do_not_need_has_a_signal_and_is_not_key() -> None:
    logits = 12 * ideal_logits(23, [3, 7], "clock") + 0.2 * ideal_logits(23, [6], "clock") + 0.1 * random_logits(23)
    spectrum = with_logits(Task(23), logits).spectrum
    assert frequencies_of(spectrum.evidence.has_signal) == [3, 6, 7]
    assert spectrum.key_frequencies == [3, 7]


@pytest.mark.parametrize("operation", ["add", "divide"])
def test_a_circuit_beside_a_table_is_found_by_pairs_that_the_table_does_not_know(operation: Operation) -> None:
    """A tenth as strong as the table, in noise; with an unknown split as much as the answers need: nothing."""
    task = Task(p=31, operation=operation, train_fraction=0.4)
    phase, n = task.coordinates, task.coordinates.order
    index = torch.from_numpy(phase.rows[:, None] * 31 + phase.columns)
    trained = torch.from_numpy(np.isin(task.orbits, task.orbits[task.train_indices]))[index]
    table = 10 * lookup(trained, n) + 0.5 * random_logits(n)
    for strength, split, expected in (
        (1.0, "drawn", [2]),
        (0.0, "drawn", []),
        (1.0, "unknown", []),
        (0.0, "unknown", []),
    ):
        checkpoint = circuit_checkpoint(replace(task, split=split), circuit_neurons([2, 3], circuit="clock"))
        vars(checkpoint.spectrum)["centred_logits"] = centre(strength * ideal_logits(n, [2], "clock") + table)
        assert checkpoint.key_frequencies == expected


@pytest.mark.parametrize(
    ("operation", "p", "fraction"),
    [("add", 17, 0.5), ("add", 23, 0.7), ("add", 31, 0.8), ("multiply", 31, 0.4), ("divide", 23, 0.6)],
)
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_table_of_training_pairs_and_all_their_images_has_no_key_frequency(
    operation: Operation, p: int, fraction: float, noise: float
) -> None:
    """Also where so many are trained on that most test pairs are images of these: by test pairs every frequency would
    have a signal; and where the split is unknown, by the median."""
    task = Task(p, operation, train_fraction=fraction)
    known = np.isin(task.orbits, task.orbits[task.train_indices])
    labels = np.eye(p)[task.labels.clip(min=0)] * known[:, None]
    logits = 10 * labels.reshape(p, p, p) + noise * random_logits(p).numpy()
    for of in (task, replace(task, split="unknown")):
        spectrum = with_logits(of, logits).spectrum
        assert spectrum.key_frequencies == []
        assert not spectrum.has_circuit
    n, phase = task.coordinates.order, task.coordinates
    index = phase.rows[:, None] * p + phase.columns
    if fraction >= 0.7:
        of_test = evidence(
            with_logits(task, logits).spectrum.centred_logits,
            judges_of(torch.arange(n * n).view(n, n), torch.from_numpy(task.test_mask[index])),
            held_out=True,
        )
        assert of_test.has_signal.all()


@pytest.mark.parametrize(("family", "embedding"), [("transformer", "none"), ("mlp", "untied")])
@pytest.mark.parametrize("symmetric", [True, False])
def test_networks_that_memorized_random_labels_have_no_key_frequency(
    family: str, embedding: str, symmetric: bool
) -> None:
    """By pairs that they did not see, and by all pairs."""
    for seed in range(3):
        task = Task(17, "random", train_fraction=0.4, symmetric=symmetric, seed=seed)
        inputs = "sum" if family == "transformer" or symmetric else "concatenated"
        model = ModelConfig(family=family, inputs=inputs, embedding=embedding, d_model=32, d_mlp=64, seed=seed)
        training = TrainingConfig(steps=150, lr=1e-2, checkpoint_every=None, log_every=150)
        *_, last = train(Experiment(task, model, training))
        assert last.metrics["train_accuracy"] > 0.98
        checkpoint = Checkpoint(last.step, last.weights, task, model)
        assert checkpoint.key_frequencies == []
        assert with_logits(replace(task, split="unknown"), checkpoint.logits).key_frequencies == []


def test_held_out_pairs_without_phases_do_not_judge_frequencies() -> None:
    """Of 0·b and a·0 alone is anything held out: enough pairs, and none of them among those of units, which are all
    trained on, and judge."""
    p = 43
    units = [a * p + b for a in range(1, p) for b in range(1, p)]
    task = Task(p, "multiply", split=tuple(units))
    assert task.n_held_out >= 20
    spectrum = with_logits(task, 10 * np.eye(p)[task.labels].reshape(p, p, p)).spectrum
    assert not spectrum.evidence.held_out
    assert spectrum.key_frequencies == []


def test_who_judges_nothing_finds_nothing() -> None:
    n = 7
    found = by(torch.zeros(n, n, dtype=torch.bool), ideal_logits(n, [2], "clock"))
    assert not found.has_signal.any()
    assert not found.is_key.any()
    assert math.isnan(found.log_loss)
