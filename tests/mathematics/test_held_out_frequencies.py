"""What only training pairs carry is not key: lookup tables, alone and beside a circuit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from interp.experiment import Task
from interp.experiment.task import Operation
from interp.mathematics import key_frequencies
from interp.mathematics.key_frequencies import centre, held_out, is_key, logit_measures
from interp.testing import circuit_checkpoint, circuit_neurons, ideal_logits, with_logits


def random_logits(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lookup(trained: Tensor, n: int) -> Tensor:
    """1 at the correct class of trained pairs, nothing elsewhere."""
    residue = torch.arange(n)
    return torch.eye(n, dtype=torch.float64)[(residue[:, None] + residue) % n] * trained[..., None]


def some_pairs(n: int, fraction: float) -> Tensor:
    return torch.rand(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64) < fraction


def test_a_lookup_table_on_many_pairs_of_a_small_modulus_has_shares_above_two_percent_and_none_is_key() -> None:
    n, trained = 43, some_pairs(43, 0.45)
    measures = logit_measures(centre(lookup(trained, n)))
    assert measures[0].mean().item() == pytest.approx(2 * trained.double().mean().item() / (n - 1), rel=0.1)
    assert is_key(torch.ones(21, dtype=torch.float64), *measures, n).any()
    assert not (held_out(centre(lookup(trained, n)), ~trained) >= key_frequencies.HELD_OUT_THRESHOLD).any()


@pytest.mark.parametrize("n", [12, 13])
@pytest.mark.parametrize("strength", [0.05, 1.0, -0.2])
def test_what_test_pairs_hold_of_a_circuit_beside_a_lookup_table(n: int, strength: float) -> None:
    """α is strength·n/2 of the circuit (strength·n at k = n/2), on all pairs, and memorized of the table, on the
    trained ones."""
    trained, memorized = some_pairs(n, 0.3), 2.0
    of_circuit = torch.full((n // 2,), strength * n / 2, dtype=torch.float64)
    of_circuit[-1] *= 2 if n % 2 == 0 else 1
    logits = strength * ideal_logits(n, range(1, n // 2 + 1), "clock") + memorized * lookup(trained, n)
    ratio = of_circuit / (of_circuit + memorized * trained.double().mean())
    assert_close(held_out(centre(logits), ~trained), ratio.square() * ratio.sign(), rtol=1e-9, atol=1e-12)


def test_held_out_is_the_mean_written_out_and_unknown_without_test_pairs() -> None:
    n, logits, test = 7, random_logits(7), some_pairs(7, 0.5)
    for k in (1, 2, 3):
        projections = (ideal_logits(n, [k], "clock") * logits).sum(-1)
        ratio = projections[test].mean() / projections.mean()
        assert_close(held_out(centre(logits), test)[k - 1], ratio.square() * ratio.sign(), rtol=1e-9, atol=0)
    assert held_out(centre(logits), torch.zeros(n, n, dtype=torch.bool)).isnan().all()


@pytest.mark.parametrize("operation", ["add", "divide"])
def test_a_checkpoint_counts_no_frequency_that_training_pairs_alone_carry(operation: str) -> None:
    """The same logits, said to be trained on all pairs, on those of the table, or with an unknown split."""
    task = Task(p=13, operation=operation, train_fraction=0.4)
    phase, n = task.coordinates, task.coordinates.order
    index = torch.from_numpy(phase.rows[:, None] * 13 + phase.columns)
    trained = torch.from_numpy(task.train_mask)[index]
    logits = 0.1 * ideal_logits(n, [2], "clock") + 4 * lookup(trained, n)
    found = {}
    for split in (0.4, 1.0):
        checkpoint = circuit_checkpoint(replace(task, train_fraction=split), circuit_neurons([2, 3], circuit="clock"))
        vars(checkpoint.spectrum)["centred_logits"] = centre(logits)
        found[split] = checkpoint.key_frequencies
    assert found[0.4] == []
    assert found[1.0] == [2, 3]


@pytest.mark.parametrize(
    ("operation", "p", "fraction"),
    [("add", 17, 0.5), ("add", 23, 0.7), ("add", 31, 0.8), ("multiply", 31, 0.4), ("divide", 23, 0.6)],
)
def test_a_table_of_training_pairs_and_all_their_images_has_no_key_frequency(
    operation: Operation, p: int, fraction: float
) -> None:
    """Also where so many are trained on that most test pairs are images of these: by test pairs every frequency would
    be key."""
    task = Task(p, operation, train_fraction=fraction)
    known = np.isin(task.orbits, task.orbits[task.train_indices])
    labels = np.eye(p)[task.labels.clip(min=0)] * known[:, None]
    spectrum = with_logits(task, 10 * labels.reshape(p, p, p)).spectrum
    n = task.coordinates.order
    assert is_key(torch.ones(n // 2), spectrum.logit_shares, spectrum.logit_alignments, n).all()
    assert spectrum.key_frequencies == []
    assert not spectrum.has_circuit
    if fraction >= 0.7:
        test = torch.from_numpy(task.test_mask).view(p, p)
        assert (held_out(spectrum.centred_logits, test) >= key_frequencies.HELD_OUT_THRESHOLD).all()


def test_held_out_pairs_without_phases_do_not_judge_frequencies() -> None:
    """Of 0·b and a·0 alone is anything held out: enough pairs, and none of them among those of units, which are all
    trained on."""
    p = 43
    units = [a * p + b for a in range(1, p) for b in range(1, p)]
    task = Task(p, "multiply", split=tuple(units))
    assert task.n_held_out >= 20
    labels = 10 * np.eye(p)[task.labels].reshape(p, p, p)
    spectrum = with_logits(task, labels).spectrum
    assert spectrum.key_mask.any()  # as where the split is unknown
    assert spectrum.has_circuit
