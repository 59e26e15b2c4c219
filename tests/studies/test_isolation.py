"""Isolation on closed truths: the loss and its gradient by differences, least norms that are known, rest, symmetry, and
a checkpoint whose two circuits are planted."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import interp
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.models import Weights, initial_weights
from interp.runs import Checkpoint
from interp.studies.isolation import (
    Parts,
    held_profile,
    isolate,
    least_separation,
    memory_share,
    norm,
    parts_of,
    separation_loss,
    separations,
    until_rest,
    with_both_circuits,
)
from interp.sweeps import run_experiment
from interp.testing import ideal_logits, with_logits


def wanted_of(p: int, strength: float, frequency: int) -> torch.Tensor:
    """The separations of a circuit of one frequency."""
    d = torch.arange(p, dtype=torch.float64)
    return separations(torch.cos(2 * math.pi * frequency * d / p), strength)


def test_the_gradient_is_that_of_the_loss_by_central_differences():
    generator = torch.Generator().manual_seed(0)
    wanted, labels = wanted_of(7, 3.0, 2), torch.tensor([0, 3, 6, 3])
    logits = 2 * torch.randn(7, 4, generator=generator, dtype=torch.float64)
    loss = separation_loss(wanted)
    written = logits.clone()
    losses, _ = loss.judge_with_gradient_(written, labels, 4)
    assert torch.equal(losses, loss.judge(logits, labels)[0])
    for index in torch.cartesian_prod(torch.arange(7), torch.arange(4)):
        step = torch.zeros_like(logits)
        step[tuple(index)] = 1e-6
        above, below = (loss.judge(logits + sign * step, labels)[0].mean() for sign in (1, -1))
        assert float(written[tuple(index)]) == pytest.approx(float(above - below) / 2e-6, abs=1e-7)


def test_more_than_is_wanted_costs_nothing_and_all_classes_may_be_shifted_together():
    wanted, labels = wanted_of(7, 3.0, 2), torch.arange(7)
    circuit = ideal_logits(7, [2], "clock")[0].T.double()  # of the pairs (0, b), whose labels are b
    for strength, least, most in ((3.0, 0.0, 1e-12), (6.0, 0.0, 1e-12), (1.5, 0.25 - 1e-9, 0.25 + 1e-9)):
        logits = strength * circuit + 5.0
        losses, correct = separation_loss(wanted).judge(logits, labels)
        assert bool(correct.all())
        assert bool(((losses >= least) & (losses <= most)).all())
    silent, _ = separation_loss(wanted).judge(torch.zeros(7, 7), labels)
    assert silent.tolist() == pytest.approx([1.0] * 7)


@pytest.mark.parametrize("factor", [0.15, 0.25])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_least_norm_of_a_product_is_that_of_equal_factors(layers: int, factor: float):
    """Of all with w₁·w₂·… = s the shortest has equal factors: √n·s^(1/n), from weights that lie far apart."""
    strength = factor**layers

    def pull(weights: Weights) -> tuple[float, Weights]:
        product = math.prod(map(float, weights.values()))
        short = max(0.0, 1 - product / strength)
        slopes = {name: -2 * short * product / strength / weight for name, weight in weights.items()}
        return short**2, slopes

    start = {f"w{place}": torch.tensor(0.5 / (place + 1)) for place in range(layers)}
    config = TrainingConfig(steps=4000, lr=0.002, weight_decay=1, eps=0.01, warmup=0)
    rested, loss, norm_range = until_rest(start, pull, config)
    assert norm(rested) == pytest.approx(math.sqrt(layers) * factor, rel=0.02)
    assert loss < 1e-3
    assert norm_range < 0.01
    assert float(start["w0"]) == pytest.approx(0.5)  # what was given is left alone


def test_more_strength_takes_more_norm():
    task, model = Task(5, train_pairs=25), ModelConfig(d_model=16, n_heads=2, d_mlp=32)
    config = TrainingConfig(steps=400, lr=0.01, weight_decay=1.0, eps=1e-4)
    norms = []
    for strength in (2.0, 6.0):
        wanted = separations(torch.tensor([1.0, -0.25, -0.25, -0.25, -0.25]), strength)
        weights, loss, _ = isolate(initial_weights(model, 5), model, task, wanted, config)
        assert loss < 0.01
        found = Checkpoint.from_weights(weights, task, model)
        assert bool(found.correct.all())
        norms.append(norm(weights))
    assert norms[1] > 1.05 * norms[0]


def test_residues_may_be_renamed():
    """Multiplying both residues and the classes by 3 makes the circuit of frequency 1 that of frequency 1/3."""
    p, strength = 7, 2.0
    losses = []
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(p, p, generator=generator), torch.arange(p)
    renamed = torch.empty_like(logits)
    renamed[(3 * torch.arange(p)) % p] = logits
    for of, names, frequency in ((logits, labels, 3), (renamed, (3 * labels) % p, 1)):
        losses.append(separation_loss(wanted_of(p, strength, frequency)).judge(of, names)[0])
    assert torch.allclose(*losses)


def planted(circuit: float, memory: float) -> Checkpoint:
    """A checkpoint that has a circuit of one frequency, and a memory of its training pairs."""
    task = Task(13, train_fraction=0.4)
    known = torch.from_numpy(task.train_mask.reshape(13, 13))
    labels = torch.from_numpy(task.true_labels.reshape(13, 13))
    memorized = torch.eye(13)[labels] * known[..., None]
    logits = circuit * ideal_logits(13, [3], "clock") + memory * memorized
    return with_logits(task, logits.float())


def test_planted_parts_are_found():
    d = torch.arange(13, dtype=torch.float64)
    parts = parts_of(planted(4.0, 6.0))
    assert torch.allclose(parts.circuit, 4 * torch.cos(6 * math.pi * d / 13), atol=1e-5)
    assert torch.allclose(parts.memory, 6 * ((d == 0).double() - 1 / 13), atol=1e-5)
    assert parts.clearness() == pytest.approx(4 * (1 - math.cos(2 * math.pi / 13)), abs=1e-5)
    assert memory_share(planted(4.0, 6.0)) == pytest.approx(6 * 12 / 13 / (4 + 6 * 12 / 13), abs=1e-5)
    assert memory_share(planted(4.0, 0.0)) == pytest.approx(0.0, abs=1e-6)
    assert memory_share(planted(0.0, 6.0)) == pytest.approx(1.0, abs=1e-6)


def test_memory_is_even():
    """What training pairs give the class one above, and not that one below, counts for both by half."""
    task = Task(13, train_fraction=0.4)
    known = torch.from_numpy(task.train_mask.reshape(13, 13))[..., None]
    labels = torch.from_numpy(task.true_labels.reshape(13, 13))
    memorized = 6 * torch.eye(13)[labels] + 2 * torch.eye(13)[(labels + 1) % 13]
    memory = parts_of(with_logits(task, (memorized * known).float())).memory
    even = torch.zeros(13, dtype=torch.float64)
    even[[0, 1, -1]] = torch.tensor([6.0, 1.0, 1.0], dtype=torch.float64)
    assert torch.allclose(memory, even - 8 / 13, atol=1e-5)


def test_a_norm_that_is_thrown_and_comes_back_is_no_rest():
    """Pushed up for three of the last steps and down again for three: the last norm is that of ten steps before."""
    done = list[int]()

    def throw(weights: Weights) -> tuple[float, Weights]:
        done.append(1)
        push = {range(92, 95): -1.0, range(95, 98): 1.0}
        slope = next((value for steps, value in push.items() if len(done) in steps), 0.0)
        return 0.0, {"a": torch.full_like(weights["a"], slope)}

    config = TrainingConfig(steps=100, lr=20.0, eps=1e3, weight_decay=1e-9, warmup=0, betas=(0.0, 0.999))
    rested, _, norm_range = until_rest({"a": torch.tensor(1.0)}, throw, config)
    assert norm(rested) == pytest.approx(1.0, abs=0.01)
    assert norm_range > 0.05


def test_the_profile_of_what_is_held_is_that_of_the_circuit():
    d = torch.arange(13, dtype=torch.float64)
    profile = held_profile(planted(4.0, 0.0))
    assert torch.allclose(profile, 4 * torch.cos(6 * math.pi * d / 13), atol=1e-5)
    assert least_separation(profile) == pytest.approx(1 - math.cos(2 * math.pi / 13), abs=1e-5)


def test_an_untrained_network_has_no_two_circuits_to_isolate():
    run = interp.open_run(interp.reference_path())
    assert parts_of(run[0]).clearness() < 0
    found = with_both_circuits(run)
    assert found is not None
    checkpoint, parts = found
    every = [parts_of(run[step]).clearness() for step in run.steps]
    assert parts.clearness() == max(every)
    assert 0 < checkpoint.step < run.steps[-1]
    assert isinstance(parts, Parts)


def test_a_network_that_memorized_random_labels_has_no_circuit_to_isolate(tmp_path: Path):
    task = Task(13, train_fraction=0.4, label_noise=1.0)
    training = TrainingConfig(steps=100, lr=0.01, weight_decay=1.0, checkpoint_every=20)
    run = run_experiment(Experiment(task, ModelConfig(d_model=16, n_heads=2, d_mlp=32), training), tmp_path / "run")
    assert run.last.accuracy("train") == 1.0
    assert with_both_circuits(run) is None


def test_a_split_without_held_out_pairs_tells_nothing_of_memory():
    checkpoint = planted(4.0, 0.0)
    whole = Checkpoint.from_weights(checkpoint.weights, replace(checkpoint.task, train_pairs=169), checkpoint.model)
    assert math.isnan(memory_share(whole))
