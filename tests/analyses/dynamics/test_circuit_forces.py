"""The forces on circuits against a slow second implementation, replayed updates of the optimizer, and pure decay; and
how they are computed."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from interp.analyses import circuit_forces
from interp.experiment import ModelConfig, Task, TrainingConfig
from interp.models import Weights, logits
from interp.runs import Checkpoint, phase_pairs

GENERALIZING, MEMORIZING, CIRCUIT = 0, 1, 2  # places among the strengths; behind them the frequencies
DECAY, LOSS, RESIDUAL = 0, 1, 2
TRAINING = TrainingConfig(steps=200, lr=0.01, weight_decay=1.0, warmup=0)
MLP = ModelConfig(family="mlp", embedding="untied", d_model=6, d_mlp=12)
TRANSFORMER = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
ADD = Task(13, train_fraction=0.4)


def forces_of(result: xr.Dataset) -> np.ndarray:
    return result.force.values


def slow_strengths(task: Task, table: np.ndarray) -> np.ndarray:
    """G, M, α_1 … α_K from logits [a, b, class], pair by pair."""
    phase = task.coordinates
    n, class_of = phase.order, {int(c): u for u, c in enumerate(phase.classes)}
    known, unseen = [], []
    for s in range(n):
        for t in range(n):
            a, b = int(phase.rows[s]), int(phase.columns[t])
            index = a * task.p + b
            if not task.defined[index]:
                continue
            row = table[a, b, phase.classes]
            said = (s + t, class_of[int(task.labels[index])], row - row.mean())
            if task.train_mask[index]:
                known.append(said)
            if task.held_out_mask[index]:
                unseen.append(said)
    G = np.mean([row[label] for _, label, row in unseen])
    of_train = np.mean([row[label] for _, label, row in known])
    if not task.has_phase:
        return np.r_[G, of_train - G, np.full(n // 2, np.nan)]
    m = np.array([np.mean([row[(total - d) % n] for total, _, row in unseen]) for d in range(n)])
    g = (m + m[-np.arange(n) % n]) / 2
    waves = np.cos(2 * np.pi * np.arange(1, n // 2 + 1)[:, None] * np.arange(n) / n)
    return np.r_[G, of_train - np.mean([g[(t - u) % n] for t, u, _ in known]), waves @ g / (waves**2).sum(1)]


def slow_circuit(values: np.ndarray, frequencies: list[int]) -> np.ndarray:
    """The weights of the strengths in C: the set, less as many times the mean of the middle half of the others."""
    others = sorted((k for k in range(1, len(values) - 1) if k not in frequencies), key=lambda k: values[1 + k])
    middle = others[len(others) // 4 : len(others) - len(others) // 4]
    told = np.zeros(len(values))
    for k in frequencies:
        told[1 + k] = 1
    for k in middle:
        told[1 + k] = -len(frequencies) / len(middle)
    return told


def slow_slope(checkpoint: Checkpoint, way: Weights) -> np.ndarray:
    """The derivative of every strength along a way, by central differences."""
    task, h = checkpoint.task, 1e-5
    ends = []
    for by in (h, -h):
        said = logits(moved(checkpoint.weights, way, by), checkpoint.model, torch.from_numpy(task.inputs))
        ends.append(slow_strengths(task, said.numpy().reshape(task.p, task.p, -1)))
    return (ends[0] - ends[1]) / (2 * h)


def moved(weights: Weights, way: Weights, by: float = 1.0) -> Weights:
    return {name: weight + by * way[name] for name, weight in weights.items()}


def times(weights: Weights, factor: float) -> Weights:
    return {name: factor * weight for name, weight in weights.items()}


@pytest.mark.parametrize("model", [TRANSFORMER, MLP], ids=["transformer", "mlp"])
@pytest.mark.parametrize(
    ("task", "frequencies"),
    [
        (Task(11, train_fraction=0.3), None),
        (Task(12, train_fraction=0.3), [1, 6]),
        (Task(17, "multiply", train_fraction=0.15), None),
        (Task(11, "subtract", train_fraction=0.4), [2]),
        (Task(11, "divide", train_fraction=0.3), [1]),
        (Task(11, train_fraction=0.3, label_noise=0.5), [3]),
        (Task(7, "x3+xy", train_fraction=0.4), None),
    ],
    ids=lambda value: f"{value.operation}{value.p}" if isinstance(value, Task) else "",
)
def test_central_differences_along_decay_and_along_the_rest(
    neighbors, task: Task, frequencies: list[int] | None, model: ModelConfig
) -> None:
    """D and R are written out as weights, the strengths told pair by pair, and their slopes by moving the weights."""
    before, after = neighbors(task, model, first=3, last=8)
    D = {
        name: -sum(
            0.01 * (weight + (step - 3) / 5 * (after.weights[name] - weight)) for step in range(3, 8)
        )
        for name, weight in before.weights.items()
    }  # fmt: skip
    R = {name: after.weights[name] - weight - D[name] for name, weight in before.weights.items()}
    values = [slow_strengths(task, each.logits.numpy()) for each in (before, after)]
    K = len(values[0]) - 2
    in_set = frequencies or list(np.argsort(-values[0][2:])[: min(4, K // 3)] + 1)
    told = np.insert(np.eye(K + 2), 2, slow_circuit(values[0], in_set), axis=0)
    if not task.has_phase:  # G and M, and nothing else is known
        told = np.insert(np.eye(K + 2), 2, np.nan, axis=0)
    found = circuit_forces.between(before, after, TRAINING, frequencies=frequencies)
    assert found.decay.shape == (1, 3 + K)
    for name, way in (("decay", D), ("loss", R)):
        slope = (slow_slope(before, way) + slow_slope(after, way)) / 2
        expected = told @ slope if task.has_phase else np.r_[slope[:2], np.full(K + 1, np.nan)]
        assert_allclose(getattr(found, name)[0], expected, rtol=1e-6, atol=1e-8, err_msg=name)
    change = values[1] - values[0]
    change = told @ change if task.has_phase else np.r_[change[:2], np.full(K + 1, np.nan)]
    assert_allclose(found.change[0], change, rtol=1e-9, atol=1e-10)
    assert_allclose((found.decay + found.loss + found.residual)[0], change, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("task", [Task(13, train_fraction=0.3), Task(7, "x3+xy", train_fraction=0.4)])
def test_value_scaling_and_the_losses_of_the_parts(kept, neighbors, task: Task) -> None:
    """At one checkpoint; a part alone answers with the logits that g gives it, or with what is left."""
    checkpoint = neighbors(task, TRANSFORMER)[0]
    result = circuit_forces.compute(kept([checkpoint]))
    expected, slope = slow_strengths(task, checkpoint.logits.numpy()), slow_slope(checkpoint, checkpoint.weights)
    for name, values in (("value", expected), ("scaling", slope)):
        assert_allclose(np.delete(result[name].values[0], CIRCUIT), values, rtol=1e-6, atol=1e-8)
    if not task.has_phase:
        assert np.isnan(result.loss_alone).all()
        return
    p, K = task.p, task.p // 2
    d = np.arange(p)[:, None, None] + np.arange(p)[:, None] - np.arange(p)
    part = sum(expected[1 + k] * np.cos(2 * np.pi * k * d / p) for k in range(1, K + 1))
    rows = checkpoint.logits.numpy() - checkpoint.logits.numpy().mean(-1, keepdims=True)
    for place, told in enumerate((part, rows - part)):
        said = told.reshape(p * p, p)[task.train_indices]
        right = said[np.arange(len(said)), task.labels[task.train_indices]]
        assert_allclose(result.loss_alone.values[0, place], (np.log(np.exp(said).sum(1)) - right).mean(), rtol=1e-8)


@pytest.mark.parametrize("model", [TRANSFORMER, MLP], ids=["transformer", "mlp"])
def test_of_single_updates_decay_is_what_the_optimizer_did(trained_run, model: ModelConfig) -> None:
    """From what AdamW remembers its step is replayed, −lr·m̂/(√v̂ + ε); what else the weights did is −lr·wd·w, to
    float32 rounding, and the force along the replayed step is the loss'."""
    training = TrainingConfig(steps=40, lr=0.01, weight_decay=1.0, checkpoint_every=1)
    run = trained_run(ADD, model, training)
    ulp = 2.0**-23
    for before, after in list(pairwise(run.snapshots))[::6]:
        step = before.step
        lr, (beta1, beta2) = training.learning_rate(step), training.betas
        R = {}
        for name, weight in before.weights.items():
            first, second = (after.state[f"{name}|{key}"].double() for key in ("exp_avg", "exp_avg_sq"))
            first, second = first / (1 - beta1 ** (step + 1)), second / (1 - beta2 ** (step + 1))
            R[name] = -lr * first / (second.sqrt() + training.eps)
            D = after.weights[name].double() - weight.double() - R[name]
            rounding = 2 * ulp * weight.abs().max().item() + 1e-5 * lr
            assert_allclose(D, -lr * training.weight_decay * weight.double(), rtol=0, atol=rounding)
        ends = [
            Checkpoint.from_weights({name: w.double() for name, w in each.weights.items()}, ADD, model, each.step)
            for each in (before, after)
        ]
        found = circuit_forces.between(*ends, training)
        decay, loss = (
            np.mean([slow_slope(end, way) for end in ends], axis=0)
            for way in (times(ends[0].weights, -lr * training.weight_decay), R)
        )
        assert_allclose(np.delete(found.decay[0], CIRCUIT), decay, rtol=1e-6, atol=1e-9)
        assert_allclose(np.delete(found.loss[0], CIRCUIT), loss, rtol=1e-3, atol=1e-5)


def test_over_an_interval_the_level_is_that_of_its_first_checkpoint(kept, neighbors) -> None:
    """Where other frequencies are in the middle half at the end, what C became by them is no force."""
    before, after = neighbors(ADD, MLP, by=0.9, last=1)
    result = circuit_forces.compute(kept([before, after]), frequencies=[2, 5])
    told = [slow_circuit(each, [2, 5]) for each in np.delete(result.value.values, CIRCUIT, axis=1)]
    assert (told[0] != told[1]).any()
    change = np.delete(np.diff(result.value.values, axis=0)[0], CIRCUIT)
    found = circuit_forces.between(before, after, TRAINING, frequencies=[2, 5])
    assert_allclose(found.change[0, CIRCUIT], told[0] @ change, rtol=1e-9)
    assert_allclose((found.decay + found.loss + found.residual)[0, CIRCUIT], told[0] @ change, rtol=1e-9)
    assert_allclose(forces_of(result)[0, CIRCUIT, RESIDUAL], found.residual[0, CIRCUIT], rtol=1e-9)
    assert abs((told[1] - told[0]) @ change) > 1e-3


def test_without_a_fold(a_walk) -> None:
    """What is told without a fold is what a task tells that has the rest of its held-out pairs alone."""
    run = a_walk(ADD, MLP, 2)
    result = circuit_forces.compute(run, frequencies=[2])
    pairs = phase_pairs(ADD)
    seen = []
    for fold in range(5):
        fewer = Task(13, train_fraction=0.4)
        fewer.__dict__["held_out_mask"] = ADD.held_out_mask.copy()
        fewer.held_out_mask[pairs.row_major[pairs.fold == fold].numpy()] = False
        at = [slow_strengths(fewer, checkpoint.logits.numpy()) for checkpoint in run.kept.values()]
        told = result.force_without_fold.isel(interval=0, fold=fold).sel(on="memorizing").values
        assert abs(told[:2].sum() - (at[1][1] - at[0][1])) < 0.01 * abs(told[:2]).sum()
        assert np.isnan(told[RESIDUAL])
        seen.append(told[LOSS])
    assert np.ptp(seen) > 0.01 * abs(np.mean(seen))


@pytest.mark.parametrize(
    ("fields", "degree"),
    [
        ({"embedding": "untied", "d_model": 6}, 4),  # W_E, W_in, W_out, W_U
        ({"embedding": "tied", "d_model": 6}, 4),  # W_E at both ends
        ({"embedding": "none"}, 2),
        ({"embedding": "none", "activation": "square"}, 3),  # W_in counts twice
        ({"embedding": "untied", "d_model": 6, "inputs": "concatenated", "activation": "square"}, 6),
    ],
    ids=str,
)
def test_pure_decay_of_a_network_without_biases(kept, random_weights, fields: dict, degree: int) -> None:
    """w₁ = (1 − λ) w₀, and S ~ λ^κ with κ the matrices in a row: w·∇S/S is κ, all the force is decay's, −λκ S₀
    (1 + (1 − λ)^(κ−1))/2, and it is the change but for the residual."""
    model, shrink = ModelConfig(family="mlp", d_mlp=12, **fields), 0.01
    weights = random_weights(model, 13)
    start, ahead = (
        Checkpoint.from_weights(times(weights, factor), ADD, model, step) for step, factor in ((0, 1), (1, 1 - shrink))
    )
    doubled = Checkpoint.from_weights(times(weights, 2), ADD, model, 0)
    assert_allclose(doubled.logits, 2**degree * start.logits, rtol=1e-12)
    result = circuit_forces.compute(kept([start, ahead]), frequencies=[2])
    value, force = result.value.values, forces_of(result)[0]
    assert_allclose(result.scaling / result.value, degree, rtol=1e-10)
    expected = -shrink * degree * value[0] * (1 + (1 - shrink) ** (degree - 1)) / 2
    assert_allclose(force[:, DECAY], expected, rtol=1e-10)
    assert_allclose(force[:, LOSS] / abs(expected), 0, atol=1e-10)
    assert_allclose(force[:, DECAY] + force[:, RESIDUAL], value[1] - value[0], rtol=1e-9)
    assert (abs(force[:, RESIDUAL]) < 2e-3 * abs(force[:, DECAY])).all()
    told = circuit_forces.between(start, ahead, TRAINING, frequencies=[2])
    assert_array_equal(told.decay[0], force[:, DECAY])


@pytest.mark.parametrize("first", [0, 3])
def test_pure_decay_leaves_nothing_to_the_loss_in_any_network(random_weights, first: int) -> None:
    """With biases and attention there is no degree; R is zero all the same. Through warm-up, where lr·wd is less."""
    training = replace(TRAINING, warmup=10)
    shrink = 0.01 * (first + 1) / 10
    before = random_weights(TRANSFORMER, 13)
    found = circuit_forces.between(
        Checkpoint.from_weights(before, ADD, TRANSFORMER, first),
        Checkpoint.from_weights(times(before, 1 - shrink), ADD, TRANSFORMER, first + 1),
        training,
    )
    assert (abs(found.loss) < 1e-10 * abs(found.decay)).all()
    assert (abs(found.decay) > 1e-6).all()


def test_every_step_is_told_of_once(a_walk) -> None:
    run, told = a_walk(ADD, MLP, 4), []

    def progress(steps):
        for step in steps:
            told.append(step)
            yield step

    with_progress = circuit_forces.compute(run, progress=progress)
    assert told == run.steps
    assert with_progress.identical(circuit_forces.compute(run))


def test_the_number_of_threads_changes_no_bit(a_walk) -> None:
    run, n_threads = a_walk(ADD, TRANSFORMER, 6), torch.get_num_threads()
    results = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            results.append(circuit_forces.compute(run))
    finally:
        torch.set_num_threads(n_threads)
    assert results[0].identical(results[1])


def test_who_stops_it_stops_it(a_walk) -> None:
    def stop(steps):
        yield next(iter(steps))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        circuit_forces.compute(a_walk(ADD, MLP, 5), progress=stop)
