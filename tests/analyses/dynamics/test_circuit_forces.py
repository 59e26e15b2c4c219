"""The forces on circuits: exact where all is known (every step kept, pure decay, planted circuits), against a slow
second implementation elsewhere; symmetries, refusals, and controls with nothing to find."""

import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from interp.analyses import circuit_forces
from interp.analysis import find
from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.mathematics import forces as mechanics
from interp.mathematics import strengths
from interp.models import Snapshot, Weights, initial_weights, logits
from interp.runs import Checkpoint, phase_pairs
from interp.testing import LookupTable, circuit_checkpoint, circuit_neurons, circuit_weights
from interp.training import train

GENERALIZING, MEMORIZING, CIRCUIT = 0, 1, 2  # places among the strengths; behind them the frequencies
DECAY, LOSS, RESIDUAL = 0, 1, 2
TRAINING = TrainingConfig(steps=200, lr=0.01, weight_decay=1.0, warmup=0)
MLP = ModelConfig(family="mlp", embedding="untied", d_model=6, d_mlp=12)
TRANSFORMER = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
ADD = Task(13, train_fraction=0.4)


class Kept(SimpleNamespace):
    """A run in memory: some checkpoints of one training."""

    @property
    def steps(self) -> list[int]:
        return list(self.kept)

    def __getitem__(self, step: int) -> Checkpoint:
        return self.kept[step]

    def every(self, stride: int) -> "Kept":
        return Kept(**(vars(self) | {"kept": {step: at for step, at in self.kept.items() if step % stride == 0}}))


def kept(checkpoints: Iterable[Checkpoint], training: TrainingConfig | None = TRAINING) -> Kept:
    by_step = {checkpoint.step: checkpoint for checkpoint in checkpoints}
    first = next(iter(by_step.values()))
    return Kept(kept=by_step, task=first.task, model=first.model, training=training, path="memory")


def random_weights(model: ModelConfig, p: int, seed: int = 0) -> Weights:
    """In float64, no bias zero."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: weight.double() + torch.randn(weight.shape, generator=generator, dtype=torch.float64) / 5
        for name, weight in initial_weights(replace(model, seed=seed), p).items()
    }


def moved(weights: Weights, way: Weights, by: float = 1.0) -> Weights:
    return {name: weight + by * way[name] for name, weight in weights.items()}


def times(weights: Weights, factor: float) -> Weights:
    return {name: factor * weight for name, weight in weights.items()}


def neighbors(task: Task, model: ModelConfig, *, by: float = 0.02, first: int = 0, last: int = 5) -> list[Checkpoint]:
    """Two checkpoints of random weights, the second a little way off."""
    before, way = random_weights(model, task.p, 1), random_weights(model, task.p, 2)
    return [
        Checkpoint.from_weights(weights, task, model, step)
        for weights, step in ((before, first), (moved(times(before, 1 - by), way, by), last))
    ]


def a_walk(task: Task, model: ModelConfig, n: int = 5, by: float = 0.005) -> Kept:
    """Random weights that wander, at steps 0, 10, …"""
    weights, checkpoints = random_weights(model, task.p, 1), []
    for index in range(n):
        checkpoints.append(Checkpoint.from_weights(weights, task, model, 10 * index))
        weights = moved(times(weights, 1 - by), random_weights(model, task.p, 2 + index), by)
    return kept(checkpoints)


def trained(task: Task, model: ModelConfig, training: TrainingConfig) -> list[Snapshot]:
    return list(train(Experiment(task, model, replace(training, checkpoint_every=1, log_every=1000))))


def of_snapshots(snapshots: list[Snapshot], task: Task, model: ModelConfig, training: TrainingConfig) -> Kept:
    return kept([Checkpoint(each.step, each.weights, task, model) for each in snapshots], training)


def forces_of(result: xr.Dataset) -> np.ndarray:
    return result.force.values


# ---- a slow second implementation ------------------------------------------------------------------------------------


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
    task: Task, frequencies: list[int] | None, model: ModelConfig
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
def test_value_scaling_and_the_losses_of_the_parts(task: Task) -> None:
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


# ---- pure decay ------------------------------------------------------------------------------------------------------


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
def test_pure_decay_of_a_network_without_biases(fields: dict, degree: int) -> None:
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
def test_pure_decay_leaves_nothing_to_the_loss_in_any_network(first: int) -> None:
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


# ---- a real run, every step kept -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smooth() -> SimpleNamespace:
    """An MLP with a smooth activation that learns its training pairs in a hundred updates: the run, and what is found
    of it at each stride, with nothing refused."""
    model = ModelConfig(family="mlp", embedding="untied", activation="gelu", d_model=16, d_mlp=32)
    training = TrainingConfig(steps=100, lr=6e-3, weight_decay=1.0)
    assert ADD.n_held_out >= 20
    run = of_snapshots(trained(ADD, model, training), ADD, model, training)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mechanics, "refused", lambda found: found)
        of = {stride: circuit_forces.compute(run.every(stride), frequencies=[3]) for stride in (1, 5, 10, 20, 50)}
    return SimpleNamespace(run=run, of=of)


def summed(result: xr.Dataset, stride: int) -> np.ndarray:
    """The forces on G and M over each interval of so many updates, of a result of every step."""
    fine = forces_of(result)[:, :2]
    return fine.reshape(-1, stride, *fine.shape[1:]).sum(1)


@pytest.mark.parametrize("model", [TRANSFORMER, MLP], ids=["transformer", "mlp"])
def test_of_single_updates_decay_is_what_the_optimizer_did(model: ModelConfig) -> None:
    """From what AdamW remembers its step is replayed, −lr·m̂/(√v̂ + ε); what else the weights did is −lr·wd·w, to
    float32 rounding, and the force along the replayed step is the loss'."""
    training = TrainingConfig(steps=40, lr=0.01, weight_decay=1.0, warmup=10)
    snapshots = trained(ADD, model, training)
    ulp = 2.0**-23
    for before, after in list(pairwise(snapshots))[::6]:
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


def test_the_forces_and_the_residual_are_the_change(smooth: SimpleNamespace) -> None:
    """Over each interval of every stride; with every step kept, next to nothing is left to the residual."""
    for result in smooth.of.values():
        change = np.diff(result.value, axis=0)
        told = np.delete(forces_of(result).sum(2) - change, CIRCUIT, axis=1)  # whose level may have other members
        assert_allclose(told, 0, atol=1e-9)
    every = forces_of(smooth.of[1])[:, :2]
    flow = abs(every[..., :2]).sum((0, 2))
    assert (abs(every[..., RESIDUAL]).sum(0) < 5e-5 * flow).all()
    change = np.diff(smooth.of[1].value.values[[0, -1], :2], axis=0)[0]
    assert (abs(every[..., :2].sum((0, 2)) - change) < 2e-5 * flow).all()


def test_from_coarser_checkpoints_it_comes_out_the_same(smooth: SimpleNamespace) -> None:
    """Decay and loss at each stride against their sums over every step: what they are off by, and the residuals, grow
    as the square of the stride, where the activation is smooth; at 5 they are off by a thousandth."""
    errors, residuals = {}, {}
    for stride in (5, 10, 20, 50):
        truth, found = summed(smooth.of[1], stride), forces_of(smooth.of[stride])[:, :2]
        errors[stride] = (abs(found - truth).sum(0) / abs(truth).sum(0))[:, :2]
        residuals[stride] = abs(found[..., RESIDUAL]).sum(0)
    for one, other in ((5, 10), (10, 20)):
        for of in (errors, residuals):
            assert_allclose(of[other] / of[one], 4, rtol=0.2)
    for of in (errors, residuals):
        assert_allclose(of[50] / of[10], 25, rtol=0.4)
    assert (errors[5] < 2e-3).all()
    assert (errors[20] < 2e-2).all()


@pytest.mark.parametrize("stride", [5, 10, 20])
def test_the_error_told_is_the_error(smooth: SimpleNamespace, stride: int) -> None:
    """Richardson: summed with its sign from step 40 on it is that of decay and that of loss, on G and on M, to two
    fifths; and for nearly all pairs of intervals within a factor of five."""
    result = smooth.of[stride]
    error = (forces_of(result)[:, :2] - summed(smooth.of[1], stride))[..., :2]
    told = result.force_error.values[:, :2, :2]
    late = result.start.values >= 40
    assert_allclose(told[late].sum(0) / error[late].sum(0), 1, atol=0.4)
    n = len(error) // 2 * 2
    factor = abs(told[:n:2] + told[1:n:2]) / abs(error[:n:2] + error[1:n:2])
    assert np.mean((factor > 1 / 5) & (factor < 5)) > 0.85


def test_the_frequencies_come_out_the_same_too(smooth: SimpleNamespace) -> None:
    fine, coarse = (forces_of(smooth.of[stride])[:, 3:, :2] for stride in (1, 10))
    truth = fine.reshape(-1, 10, *fine.shape[1:]).sum(1)
    assert (abs(coarse - truth).sum((0, 2)) < 0.02 * abs(truth).sum((0, 2))).all()


def test_what_the_summary_makes_of_the_forces(smooth: SimpleNamespace) -> None:
    """As if the pairs had been known from step 80 on, where C is clear: growth ratios are sums of pushes over sums of
    pulls, and the shares of the tensors are those of what went through them."""
    result = smooth.of[5].assign_attrs(known_from=80)
    facts, late = circuit_forces.summary(result), result.start.values >= 80
    assert facts["carried_from"] is facts["rest"] is None
    assert facts["plateau"] == {"from": 80, "to": 100}
    assert facts["has_decay"] is True
    for name, place in (("memorizing", MEMORIZING), ("circuit", CIRCUIT)):
        force, told = forces_of(result)[late, place], circuit_forces.pushed(result, name)
        assert np.isfinite(told.ratio[late]).all()
        expected = force[:, LOSS].sum() / -force[:, DECAY].sum()
        assert_allclose(facts["growth_ratio"][name], expected, rtol=1e-12)
        low, high = facts["growth_ratio_interval_95"][name]
        assert low < expected < high
        kappa = (result.scaling / result.value).sel(step=80).values[place]
        assert_allclose(facts["degree"][name], kappa, rtol=1e-12)
    through = result.tensor_force.sel(on="circuit", cause="loss").values[late].sum(0)
    shares = facts["pushed_through"]
    assert_allclose([shares[name] for name in result.tensor.values], through / through.sum(), rtol=1e-12)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_a_network_of_kinks_is_told_less_exactly_and_still_well() -> None:
    """relu bends at once: the residual falls with the stride, and the forces of every tenth step are those of every
    step, to two hundredths."""
    model = ModelConfig(family="mlp", embedding="untied", d_model=16, d_mlp=32)
    training = TrainingConfig(steps=40, lr=6e-3, weight_decay=1.0)
    run = of_snapshots(trained(ADD, model, training), ADD, model, training)
    fine, coarse, rough = (circuit_forces.compute(run.every(stride)) for stride in (1, 5, 10))
    truth, found = (values[..., :2] for values in (summed(fine, 10), forces_of(rough)[:, :2]))
    used = np.isfinite(found)
    assert used.mean() > 0.7
    assert abs(found - truth)[used].sum() < 0.02 * abs(truth[used]).sum()
    sizes = [abs(forces_of(result)[:, :2, RESIDUAL]).sum(0) for result in (fine, coarse, rough)]
    assert (sizes[0] < sizes[1]).all()
    assert (sizes[1] < sizes[2]).all()


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_too_far_apart_is_refused(smooth: SimpleNamespace) -> None:
    """The first fifty updates in one: decay and loss, their errors and what folds make of them are unknown; the
    residual and what goes through single tensors are there, and the next fifty are told."""
    result = circuit_forces.compute(smooth.run.every(50), frequencies=[3])
    raw, first = smooth.of[50], result.isel(interval=0)
    share = abs(raw.force.sel(cause="residual")) / abs(raw.force.sel(cause=["decay", "loss"])).sum("cause")
    assert (share[0, :2] > mechanics.MOST_RESIDUAL).all()
    assert np.isnan(first.force.sel(cause=["decay", "loss"])[:2]).all()
    assert np.isnan(first.force_error[:2]).all()
    assert np.isnan(first.force_without_fold.sel(on="memorizing")).all()
    assert_array_equal(result.force.sel(cause="residual"), raw.force.sel(cause="residual"))
    for name in ("value", "scaling", "tensor_force"):
        assert_array_equal(result[name], raw[name])
    assert np.isfinite(first.tensor_force.sel(on="memorizing", cause="loss")).all()
    assert (share[1, :2] < mechanics.MOST_RESIDUAL).all()
    assert_array_equal(result.force[1, :2], raw.force[1, :2])


@pytest.mark.parametrize("stride", [10, 20, 50])
def test_what_is_above_a_fiftieth_is_refused_and_nothing_else(smooth: SimpleNamespace, stride: int) -> None:
    raw = forces_of(smooth.of[stride])
    found = forces_of(circuit_forces.compute(smooth.run.every(stride), frequencies=[3]))
    above = abs(raw[..., RESIDUAL]) > mechanics.MOST_RESIDUAL * (abs(raw[..., DECAY]) + abs(raw[..., LOSS]))
    assert above.any()
    assert_array_equal(found, np.where(above[..., None] & [True, True, False], np.nan, raw))


@pytest.mark.parametrize("window", [(0, 50), (10, 60), (0, 40)], ids=str)
def test_a_third_of_the_spacing_told_would_do(smooth: SimpleNamespace, window: tuple[int, int]) -> None:
    """What is told is where the residual of the whole interval would be small enough; it is not spread evenly over it,
    and a third of that is enough everywhere. Half as much again is not enough."""
    (first, last), run = window, smooth.run
    whole = circuit_forces.between(run[first], run[last], run.training)
    told = mechanics.spacing_that_would_do(whole, np.array([float(last - first)]))[0]
    for place in (GENERALIZING, MEMORIZING):
        assert not whole.used[0, place]
        assert 9 < told[place] < last - first
        used = {}
        for n in (int(told[place] / 3), int(told[place] * 1.5)):
            spans = [(a, a + n) for a in range(first, max(first + 1, last - n + 1), n)]
            used[n] = [circuit_forces.between(run[a], run[b], run.training).used[0, place] for a, b in spans]
        enough, too_much = used.values()
        assert all(enough)
        assert not all(too_much)


def test_the_summary_counts_refusals_and_tells_a_spacing(smooth: SimpleNamespace) -> None:
    """As if the pairs were known from the start, and of M alone: at the spacing told, nothing of it is refused."""
    coarse = circuit_forces.compute(smooth.run.every(50)).assign_attrs(known_from=0)
    facts = circuit_forces.summary(coarse)
    assert (facts["intervals"], facts["refused_intervals"]) == (2, 1)
    told = facts["spacing_that_would_do"]
    assert 1 <= told < 50
    again = circuit_forces.compute(smooth.run.every(told))
    assert np.isfinite(forces_of(again)[:, MEMORIZING]).all()


# ---- what decay is, by optimizer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_without_weight_decay_all_is_the_loss(optimizer) -> None:
    """Also of "adam": there is nothing that it could have mixed."""
    run = a_walk(ADD, MLP)
    run.training = replace(TRAINING, weight_decay=0.0, optimizer=optimizer)
    result = circuit_forces.compute(run, frequencies=[2])
    force = forces_of(result)
    used = np.isfinite(force[..., LOSS])
    assert used.mean() > 0.9
    assert (force[used][:, DECAY] == 0).all()
    assert_array_equal(result.exposure, 0)
    assert_array_equal(result.tensor_force.sel(cause="decay", on="memorizing"), 0)
    change = np.diff(result.value, axis=0)
    assert_allclose(force[used][:, [LOSS, RESIDUAL]].sum(1), change[used], rtol=1e-9, atol=1e-10)
    for name in circuit_forces.CIRCUITS:
        assert np.isnan(circuit_forces.pushed(result, name).ratio).all()
    facts = circuit_forces.summary(result.assign_attrs(known_from=0))
    assert facts["has_decay"] is False
    assert facts["rest"] is facts["worn_from"] is None
    assert np.isnan(list(facts["growth_ratio"].values())).all()
    circuit_forces.plot(result)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_half_of_the_decay_is_half_of_the_force(optimizer) -> None:
    """Of one pair of weights, to the bit: only lr·wd is asked, and what is not decay is the loss'."""
    ends = neighbors(ADD, TRANSFORMER)
    whole, half, other = (
        circuit_forces.between(*ends, replace(TRAINING, optimizer=optimizer, lr=lr, weight_decay=wd))
        for lr, wd in ((0.5, 0.25), (0.25, 0.25), (0.5, 0.125))
    )
    assert_array_equal(half.decay, whole.decay / 2)
    assert_array_equal(other.decay, half.decay)
    assert_allclose(half.loss + half.decay, whole.loss + whole.decay, rtol=1e-10, atol=1e-13)
    assert_array_equal(half.residual, whole.residual)


def test_plain_gradient_descent_is_decoupled() -> None:
    ends = neighbors(ADD, MLP)
    sgd = circuit_forces.between(*ends, replace(TRAINING, optimizer="sgd", momentum=0.0))
    for found, expected in zip(sgd, circuit_forces.between(*ends, TRAINING), strict=True):
        assert_array_equal(found, expected)


def test_momentum_goes_on_with_the_decay_of_earlier_steps() -> None:
    """A weight at rest, from step to step: 1 + μ + … + μ^s times the decay of one step, in the end ten times it."""
    weights = random_weights(MLP, 13)
    training = replace(TRAINING, optimizer="sgd", momentum=0.9, steps=2000)
    for step, factor in ((0, 1.0), (1, 1.9), (2, 2.71), (1500, 10.0)):
        ends = [Checkpoint.from_weights(weights, ADD, MLP, at) for at in (step, step + 1)]
        found, plain = (circuit_forces.between(*ends, each) for each in (training, TRAINING))
        assert_allclose(found.decay, factor * plain.decay, rtol=1e-9)


@pytest.mark.parametrize("training", [None, replace(TRAINING, optimizer="adam")], ids=["imported", "adam"])
def test_where_decay_is_not_known_neither_is_the_loss(training: TrainingConfig | None) -> None:
    run = a_walk(ADD, MLP)
    known = circuit_forces.compute(run, frequencies=[2])
    run.training = training
    result = circuit_forces.compute(run, frequencies=[2])
    for name in ("value", "standard_error", "scaling", "loss_alone"):
        assert_array_equal(result[name], known[name])
        assert np.isfinite(result[name]).all()
    assert_array_equal(result.force.sel(cause="residual"), known.force.sel(cause="residual"))
    for name in ("force", "force_error", "tensor_force", "force_without_fold"):
        assert np.isnan(result[name].sel(cause=["decay", "loss"])).all()
        assert result[name].shape == known[name].shape
    assert np.isnan(result.exposure).all()
    facts = circuit_forces.summary(result.assign_attrs(known_from=0))
    assert facts["has_decay"] is None
    assert (facts["refused_intervals"], facts["spacing_that_would_do"]) == (0, None)
    circuit_forces.plot(result)


# ---- controls --------------------------------------------------------------------------------------------------------


def test_random_labels_have_no_circuit() -> None:
    """Learned by heart: a memory that loss and decay push and pull, and nothing that generalizes, no frequency named,
    none born."""
    task = Task(9, "random", train_fraction=0.5)
    model = ModelConfig(family="mlp", embedding="untied", inputs="concatenated", d_model=16, d_mlp=48)
    training = TrainingConfig(steps=160, lr=0.01, weight_decay=0.5, checkpoint_every=8, log_every=1000)
    snapshots = [each for each in train(Experiment(task, model, training)) if each.kept]
    result = circuit_forces.compute(of_snapshots(snapshots, task, model, training))
    assert result.attrs["known_from"] > 0
    facts = circuit_forces.summary(result)
    assert (facts["named"], facts["frequencies"], facts["carried_from"]) == ([], [], None)
    assert np.isnan(result.value[:, CIRCUIT:]).all()
    assert np.isnan(result.force[:, CIRCUIT:]).all()
    at_end = mechanics.is_clear(result.value.values[-1], result.standard_error.values[-1])
    assert at_end[[GENERALIZING, MEMORIZING]].tolist() == [False, True]
    assert np.isfinite(facts["growth_ratio"]["memorizing"])
    assert np.isnan(facts["growth_ratio"]["circuit"])
    circuit_forces.plot(result)


@pytest.mark.parametrize("leakage", [0.0, 0.2, -0.3])
def test_a_table_is_no_circuit(leakage: float) -> None:
    """What it says of held-out pairs is a spike at d = 0, the same in every frequency: 2 · leakage · s/p."""
    table = circuit_checkpoint(ADD, [], family="mlp", lookup=LookupTable(6.0, leakage), step=0)
    for frequencies in ([2], [1, 4]):
        at = circuit_forces.compute(kept([table]), frequencies=frequencies).value.values[0]
        assert_allclose(at[3:], 2 * leakage * 6 / 13, atol=1e-12)
        assert_allclose(at[CIRCUIT], 0, atol=1e-12)
        assert_allclose(at[GENERALIZING], leakage * 6 * 12 / 13, atol=1e-12)
        assert_allclose(at[MEMORIZING], (1 - leakage) * 6 * 12 / 13, rtol=1e-12)


@pytest.mark.parametrize("spike", [0.0, -0.5, 0.4])
def test_a_planted_circuit_behind_a_spike(spike: float) -> None:
    """Two clocks of real neurons and a table that leaks: C is that of the clocks alone, whatever held-out labels are
    pushed by; G is not. The neurons bend, so that the clocks have overtones: told of the clocks alone."""
    neurons = circuit_neurons([2, 5], per_frequency=32, circuit="clock")

    def told(lookup: LookupTable | None) -> np.ndarray:
        planted = circuit_checkpoint(ADD, neurons, family="mlp", strength=1.0, lookup=lookup, step=0)
        return circuit_forces.compute(kept([planted]), frequencies=[2, 5]).value.values[0]

    alone, both = told(None), told(LookupTable(4.0, spike))
    assert_allclose(both[CIRCUIT], alone[CIRCUIT], rtol=1e-9)
    assert_allclose(alone[CIRCUIT], alone[[3 + 1, 3 + 4]].sum(), rtol=0.02)
    assert_allclose(both[GENERALIZING] - alone[GENERALIZING], 4 * spike * 12 / 13, atol=1e-9)
    assert_allclose(both[3:] - alone[3:], 2 * 4 * spike / 13, atol=1e-9)


def test_an_exact_clock_is_the_sum_of_its_frequencies() -> None:
    """N square neurons make N/2 cos w_k(a + b − c): α_k is N/2, C and G are the sum, and nothing is memorized."""
    clock = circuit_checkpoint(
        ADD, circuit_neurons([2, 5], per_frequency=8, circuit="clock"), activation="square", strength=1.0, step=0
    )
    at = circuit_forces.compute(kept([clock]), frequencies=[2, 5]).value.values[0]
    assert_allclose(at[3:], [0, 4, 0, 0, 4, 0], atol=1e-9)
    assert_allclose(at[:3], [8, 0, 8], atol=1e-9)


def test_the_clock_is_named_when_the_pairs_are_known_and_not_before() -> None:
    """A table turns into a table and a clock; C is told from the first checkpoint that answers, of what stands out
    there, though another frequency stands out later."""
    model = ModelConfig(family="mlp", inputs="concatenated", d_mlp=32 + len(ADD.train_indices))
    clocks = [circuit_neurons([k], per_frequency=32, circuit="clock") for k in (2, 5)]

    def planted(step: int, neurons, strength: float) -> Checkpoint:
        weights = circuit_weights(ADD, model, neurons, strength=strength, lookup=LookupTable(9.0))
        return Checkpoint(step, weights, ADD, model)

    nothing = Checkpoint(0, times(initial_weights(model, 13), 0.01), ADD, model)
    nothing.weights = {name: weight.double() for name, weight in nothing.weights.items()}
    run = kept([nothing, planted(10, clocks[0], 0.5), planted(20, clocks[1], 1.0), planted(30, clocks[1], 1.0)])
    result = circuit_forces.compute(run)
    assert result.attrs["known_from"] == 10
    named = json.loads(result.attrs["named"])
    assert len(named) == 2
    assert 2 in named
    assert_array_equal(np.isnan(result.value[:, CIRCUIT]), [True, False, False, False])
    assert_array_equal(np.isnan(result.standard_error[:, CIRCUIT]), [True, False, False, False])
    assert_array_equal(np.isnan(result.force.sel(strength="circuit", cause="residual")), [True, False, False])
    one = circuit_forces.compute(run, n_named=1)
    assert json.loads(one.attrs["named"]) == [2]
    assert float(one.value[1, CIRCUIT]) > 1
    assert abs(float(one.value[3, CIRCUIT])) < 0.5


@pytest.mark.parametrize("frequencies", [[0], [7], [2, -1]])
def test_a_frequency_that_there_is_not(frequencies: list[int]) -> None:
    run = a_walk(ADD, MLP, 2)
    with pytest.raises(InputError, match="frequencies"):
        circuit_forces.compute(run, frequencies=frequencies)
    with pytest.raises(InputError, match="frequencies"):
        circuit_forces.between(run[0], run[10], TRAINING, frequencies=frequencies)


# ---- what cannot be known --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [Task(9, split="unknown"), Task(7, train_fraction=0.5), Task(9, train_fraction=1.0)])
def test_without_held_out_pairs_nothing_is_known(task: Task) -> None:
    """The shapes are those of a run that has them."""
    result, known = (
        circuit_forces.compute(a_walk(each, MLP, 3)) for each in (task, Task(task.p, "subtract", train_fraction=0.4))
    )
    assert {name: values.shape for name, values in result.items()} == {n: v.shape for n, v in known.items()}
    for name, values in result.items():
        assert np.isnan(values).all(), name
    assert np.isfinite(result.exposure).all()
    facts = circuit_forces.summary(result)
    assert (facts["named"], facts["frequencies"], facts["plateau"]) == ([], [], None)
    assert find("circuit_forces").summary(result) is not None
    circuit_forces.plot(result)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_checkpoints(n: int) -> None:
    """From one no force is told, from two no error."""
    result = circuit_forces.compute(a_walk(ADD, TRANSFORMER, n), frequencies=[1])
    assert result.force.shape == (n - 1, 3 + 6, 3)
    assert result.tensor_force.shape == (n - 1, 2, 3, 11)
    assert result.force_without_fold.shape == (n - 1, 2, 3, 5)
    assert np.isfinite(result.value).all()
    assert np.isfinite(result.force[:, GENERALIZING]).all()
    assert np.isnan(result.force_error).all() == (n < 3)
    for known_from in (-1, 0):
        facts = find("circuit_forces").summary(result.assign_attrs(known_from=known_from))
        assert facts["intervals"] == (n - 1 if known_from == 0 else 0)
        json.dumps(facts, allow_nan=False)
    circuit_forces.plot(result)


def test_a_run_that_diverged_is_told_until_it_did() -> None:
    run = a_walk(ADD, MLP, 4)
    expected = circuit_forces.compute(run, frequencies=[1])
    lost = {name: weight * torch.nan for name, weight in run[0].weights.items()}
    for step in (40, 50):
        run.kept[step] = Checkpoint(step, lost, ADD, MLP)
    assert circuit_forces.compute(run, frequencies=[1]).identical(expected)
    with pytest.raises(InputError, match="diverged at once"):
        circuit_forces.compute(kept([Checkpoint(0, lost, ADD, MLP)]))


def test_a_run_on_disk_without_a_training(tmp_path, written_run) -> None:
    run = written_run(tmp_path / "mine", ADD, MLP, (0, 10, 20))
    result = run.result("circuit_forces")
    assert np.isnan(result.force.sel(cause=["decay", "loss"])).all()
    assert np.isfinite(result.value[:, :2]).all()
    assert find("circuit_forces").summary(result)["has_decay"] is None


# ---- symmetries ------------------------------------------------------------------------------------------------------


def test_generalizing_is_the_sum_of_all_frequencies() -> None:
    result = circuit_forces.compute(a_walk(ADD, TRANSFORMER, 3), frequencies=[1])
    residual = result.force.sel(cause="residual")
    found = circuit_forces.between(*neighbors(ADD, TRANSFORMER), TRAINING)
    told = (each.values for each in (result.value, result.scaling, residual))
    for values in (*told, found.change, found.decay, found.loss, found.residual):
        assert_allclose(values[:, 3:].sum(1), values[:, GENERALIZING], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("model", [TRANSFORMER, MLP], ids=["transformer", "mlp"])
def test_through_the_tensors_goes_all_of_the_force(model: ModelConfig) -> None:
    """On M exactly; on C where its level has the same members at both ends of the interval."""
    run = a_walk(ADD, model, 6)
    result = circuit_forces.compute(run, frequencies=[2, 4])
    through = result.tensor_force.sum("tensor", skipna=False).values
    force = np.stack(
        [
            [each.decay[0], each.loss[0]]
            for each in (
                circuit_forces.between(run[a], run[b], TRAINING, frequencies=[2, 4]) for a, b in pairwise(run.steps)
            )
        ]
    )
    assert_allclose(through[:, 0, :2], force[:, :, MEMORIZING], rtol=1e-9, atol=1e-11)
    in_set = np.array([False, True, False, True, False, False])
    sums = strengths.circuit_weights(result.value.values[:, 3:], in_set)
    same = (sums[1:] == sums[:-1]).all(1)
    assert same.any()
    assert_allclose(through[same, 1, :2], force[same][:, :, CIRCUIT], rtol=1e-9, atol=1e-11)
    assert np.isnan(through[..., RESIDUAL]).all()


def renamed(checkpoint: Checkpoint, unit: int, task: Task) -> Checkpoint:
    """Every residue r is called unit·r."""
    p = task.p
    to = torch.arange(p) * unit % p
    weights = {name: weight.clone() for name, weight in checkpoint.weights.items()}
    weights["embed.W_E"][to] = checkpoint.weights["embed.W_E"][:p]
    weights["unembed.W_U"][:, to] = checkpoint.weights["unembed.W_U"]
    return Checkpoint.from_weights(weights, task, checkpoint.model, checkpoint.step)


@pytest.mark.parametrize("model", [TRANSFORMER, MLP], ids=["transformer", "mlp"])
@pytest.mark.parametrize("unit", [3, 12])
def test_other_names_for_the_residues(unit: int, model: ModelConfig) -> None:
    """a → u a: what was cos w_k d is cos w_k u⁻¹d. G, M and C are the same, with all their forces."""
    p, run = ADD.p, a_walk(ADD, model, 3)
    task = Task(p, split=tuple((ADD.pairs[ADD.train_indices] * unit % p @ [p, 1]).tolist()))
    inverse = pow(unit, -1, p)

    def called(k: int) -> int:
        return min(k * inverse % p, -k * inverse % p)

    before = circuit_forces.compute(run, frequencies=[1, 4])
    after = circuit_forces.compute(
        kept([renamed(each, unit, task) for each in run.kept.values()]), frequencies=[called(1), called(4)]
    )
    order = [0, 1, 2, *(2 + called(k) for k in range(1, 7))]
    for name in ("value", "scaling", "force", "standard_error"):
        assert_allclose(after[name].isel(strength=order), before[name], rtol=1e-8, atol=1e-9, err_msg=name)
    assert_allclose(after.loss_alone, before.loss_alone, rtol=1e-8)


def test_a_louder_network_is_pushed_and_pulled_harder() -> None:
    """S(λw) = λ^κ S(w), so ∇S·w and all forces are λ^κ times what they were; κ = 4."""
    run = a_walk(ADD, MLP, 4)
    louder = kept([Checkpoint.from_weights(times(c.weights, 1.5), ADD, MLP, c.step) for c in run.kept.values()])
    before, after = (circuit_forces.compute(each, frequencies=[2]) for each in (run, louder))
    for name in ("value", "scaling", "standard_error", "force", "force_error", "tensor_force", "force_without_fold"):
        assert_allclose(after[name], 1.5**4 * before[name], rtol=1e-8, atol=1e-9, err_msg=name)


def test_the_order_of_two_vocabularies() -> None:
    """Who trades a for b, in the tokens, the positions and the split, changes nothing: a + b = b + a."""
    model = replace(TRANSFORMER, vocabularies="two")
    p, run = ADD.p, a_walk(ADD, replace(TRANSFORMER, vocabularies="two"), 3)
    task = Task(p, split=tuple((ADD.pairs[ADD.train_indices][:, ::-1] @ [p, 1]).tolist()))

    def traded(checkpoint: Checkpoint) -> Checkpoint:
        weights = dict(checkpoint.weights)
        W_E, W_pos = weights["embed.W_E"], weights["pos_embed.W_pos"]
        weights["embed.W_E"] = torch.cat([W_E[p : 2 * p], W_E[:p], W_E[2 * p :]])
        weights["pos_embed.W_pos"] = W_pos[[1, 0, 2]]
        return Checkpoint.from_weights(weights, task, model, checkpoint.step)

    before = circuit_forces.compute(run, frequencies=[2])
    after = circuit_forces.compute(kept(map(traded, run.kept.values())), frequencies=[2])
    for name in ("value", "scaling", "standard_error", "force", "force_error", "force_without_fold", "loss_alone"):
        assert_allclose(after[name], before[name], rtol=1e-8, atol=1e-9, err_msg=name)


def test_without_a_fold() -> None:
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


# ---- how it is computed ----------------------------------------------------------------------------------------------


def test_every_step_is_told_of_once() -> None:
    run, told = a_walk(ADD, MLP, 4), []

    def progress(steps):
        for step in steps:
            told.append(step)
            yield step

    with_progress = circuit_forces.compute(run, progress=progress)
    assert told == run.steps
    assert with_progress.identical(circuit_forces.compute(run))


def test_the_number_of_threads_changes_no_bit() -> None:
    run, n_threads = a_walk(ADD, TRANSFORMER, 6), torch.get_num_threads()
    results = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            results.append(circuit_forces.compute(run))
    finally:
        torch.set_num_threads(n_threads)
    assert results[0].identical(results[1])


def test_who_stops_it_stops_it() -> None:
    def stop(steps):
        yield next(iter(steps))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        circuit_forces.compute(a_walk(ADD, MLP, 5), progress=stop)
