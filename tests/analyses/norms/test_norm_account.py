"""The account of the norm against known weights, a slow second implementation and symmetries; its parts add up."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose

from interp.analyses import norm_account
from interp.experiment import ModelConfig, Task
from interp.models import initial_weights
from interp.runs import Checkpoint, Run, RunWriter, open_run
from interp.testing import circuit_model, circuit_neurons, circuit_weights

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
SMALL = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
MODELS = (
    SMALL,
    ModelConfig(n_layers=2, d_model=8, n_heads=2, d_mlp=12, prompt="ab"),
    ModelConfig(family="mlp", d_mlp=12),
    ModelConfig(family="mlp", n_layers=2, d_mlp=12, biases=True),
    ModelConfig(family="mlp", d_mlp=12, d_model=6, embedding="tied", inputs="concatenated"),
    ModelConfig(family="mlp", d_mlp=12, d_model=6, embedding="untied"),
)


class Steps(SimpleNamespace):
    """Checkpoints in memory, with the boundaries that `transitions` would have found."""

    @property
    def steps(self) -> list[int]:
        return [checkpoint.step for checkpoint in self.checkpoints]

    @property
    def last(self) -> Checkpoint:
        return self.checkpoints[-1]

    def __getitem__(self, step: int) -> Checkpoint:
        return self.checkpoints[self.steps.index(step)]

    def result(self, name: str) -> xr.Dataset:
        assert name == "transitions"
        values = np.array(self.boundaries, dtype=np.float64)[:, None]
        return xr.Dataset({"boundary_at": (("boundary", "boundary_value"), values)}, {"boundary_value": ["step"]})


def random_run(model: ModelConfig, task: Task, boundaries=(9.0, 20.0, 31.0), key=(1, 3)) -> Steps:
    """Five unrelated sets of weights at steps 0, 10, 20, 30, 40."""
    checkpoints = []
    for index in range(5):
        weights = initial_weights(ModelConfig(**(vars(model) | {"seed": index})), task.p)
        generator = torch.Generator().manual_seed(index)
        weights = {
            name: weight.double() + torch.randn(weight.shape, generator=generator, dtype=torch.float64) / 9
            for name, weight in weights.items()
        }
        checkpoints.append(Checkpoint(10 * index, weights, task, model))
    return Steps(checkpoints=checkpoints, boundaries=boundaries, key_frequencies=list(key))


def slow_part(rows: np.ndarray, frequencies: list[int]) -> float:
    """The squared norm of some frequencies along the first axis: complex exponentials, one after the other."""
    n = len(rows)
    waves = [f for f in range(n) if min(f, n - f) in frequencies]
    return sum((np.abs(np.exp(-2j * np.pi * f * np.arange(n) / n) @ rows) ** 2).sum() / n for f in waves)


# ---- the parts add up ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("p", "operation"), [(7, "add"), (8, "add"), (7, "multiply")])
def test_contributions_add_up_to_the_change_of_the_total(model, p, operation):
    run = random_run(model, Task(p, operation))
    result = norm_account.compute(run)
    totals = [sum(float(w.square().sum()) for w in checkpoint.weights.values()) for checkpoint in run.checkpoints]
    assert_allclose(result.squared_norm.sum("part"), totals, rtol=1e-12)
    assert_allclose(result.total, totals, rtol=1e-12)
    changes = [
        totals[1] - totals[0],
        totals[2] - totals[1],
        totals[3] - totals[2],
        totals[4] - totals[3],
        totals[4] - totals[0],
    ]
    assert_allclose(result.change.sum("part"), changes, **CLOSE)
    assert_allclose(result.change[:4].sum("phase"), result.change[4], **CLOSE)
    assert result.boundary.values.tolist() == [[0, 10], [10, 20], [20, 30], [30, 40], [0, 40]]


def test_frequencies_add_up_to_the_parts():
    result = norm_account.compute(random_run(SMALL, Task(11), key=(2, 5)))
    for symbol in ("W_E", "W_U"):
        by_frequency = result.change_by_frequency.sel(matrix=symbol)
        for group, chosen in (("key", [2, 5]), ("other", [1, 3, 4])):
            assert_allclose(
                by_frequency.sel(frequency=chosen).sum("frequency"),
                result.change.sel(part=f"{symbol} {group}"),
                **CLOSE,
            )
    for group, chosen in (("key", [2, 5]), ("other", [1, 3, 4])):
        parts = sum(result.change.sel(part=f"{tensor} {group} neurons") for tensor in ("W_in", "b_in", "W_out"))
        assert_allclose(
            result.change_by_frequency.sel(matrix="neurons", frequency=chosen).sum("frequency"), parts, **CLOSE
        )


# ---- known weights and a second implementation -----------------------------------------------------------------------


@pytest.mark.parametrize(("p", "operation"), [(7, "add"), (8, "add"), (7, "subtract"), (7, "multiply"), (7, "divide")])
def test_every_part_agrees_with_a_slow_account(p, operation):
    run = random_run(SMALL, Task(p, operation))
    result, last, phase = norm_account.compute(run), run.last, run.last.task.coordinates
    frequency = last.spectrum.neuron_frequencies.numpy()
    for step in (0, 30):
        weights = {name.rpartition(".")[2]: weight.numpy() for name, weight in run[step].weights.items()}
        parts = result.squared_norm.sel(step=step)
        for symbol, rows in (("W_E", weights["W_E"][phase.rows]), ("W_U", weights["W_U"].T[phase.classes])):
            expected = [slow_part(rows, [0]), slow_part(rows, [1, 3]), slow_part(rows, [2, 4])]
            expected.append((weights[symbol] ** 2).sum() - (rows**2).sum())
            assert_allclose(
                [parts.sel(part=f"{symbol} {name}") for name in ("constant", "key", "other", "no phase")],
                expected,
                **CLOSE,
            )
        for tensor in ("W_in", "b_in", "W_out"):
            neurons = weights[tensor] if tensor == "W_out" else weights[tensor].T
            for group, chosen in (("key", [1, 3]), ("other", [2, 4]), ("dead", [0])):
                expected = sum((neurons[j] ** 2).sum() for j in range(12) if frequency[j] in chosen)
                assert_allclose(parts.sel(part=f"{tensor} {group} neurons"), expected, **CLOSE)
        for tensor in ("W_pos", "W_Q", "W_K", "W_V", "W_O", "b_out"):
            assert_allclose(parts.sel(part=tensor), (weights[tensor] ** 2).sum(), **CLOSE)


def planted(path, scale: float) -> Run:
    """A planted circuit of frequencies 1 and 3 that ends `scale` times as large as it began."""
    task, neurons = Task(11), circuit_neurons([1, 3])
    model = circuit_model(neurons)
    weights = circuit_weights(task, model, neurons)
    with RunWriter.create(path, task, model) as writer:
        writer.append(0, {name: weight / scale for name, weight in weights.items()})
        writer.append(5, weights)
    return open_run(path)


def test_a_planted_circuit_is_all_key(tmp_path):
    """The embedding is cos and sin of two frequencies over 11 residues: a squared norm of 22, nothing elsewhere."""
    result = norm_account.compute(planted(tmp_path / "run", 2.0))
    last = result.squared_norm.isel(step=-1)
    assert_allclose(last.sel(part="W_E key"), 22, rtol=1e-6)
    for part in (
        "W_E constant",
        "W_E other",
        "W_U other",
        "W_U constant",
        "W_in other neurons",
        "W_out other neurons",
        "W_E no phase",
    ):
        assert_allclose(last.sel(part=part), 0, atol=1e-9)
    # Half as large before, a quarter of the squared norm.
    assert_allclose(result.change.sel(phase="whole run"), 0.75 * last, rtol=1e-6, atol=1e-9)
    assert result.is_key.values.tolist() == [True, False, True, False, False]


def test_without_boundaries_only_the_whole_run_is_accounted_for(tmp_path):
    result = norm_account.compute(planted(tmp_path / "run", 3.0))
    assert np.isnan(result.change[:4]).all()
    assert np.isfinite(result.change[4]).all()
    facts = norm_account.summary(result)
    assert [name for name, values in facts.items() if values is not None] == ["whole_run"]
    assert facts["whole_run"]["steps"] == [0, 5]


def test_an_unknown_boundary_leaves_the_phases_beside_it_unknown():
    result = norm_account.compute(random_run(SMALL, Task(7), boundaries=(math.nan, 20.0, 30.0)))
    assert np.isnan(result.change).all("part").values.tolist() == [True, True, False, False, False]
    assert np.isnan(result.boundary.sel(phase="memorization")).values.tolist() == [False, True]


def test_the_largest_loss_stands_first():
    result = norm_account.compute(random_run(SMALL, Task(7)))
    cleanup = norm_account.summary(result)["cleanup"]
    values = list(cleanup["contributions"].values())
    assert values == sorted(values)
    assert cleanup["change"] == pytest.approx(sum(values))
    assert cleanup["steps"] == [20, 30]


# ---- symmetries ------------------------------------------------------------------------------------------------------


def test_permuting_neurons_and_rotating_the_residual_stream_change_no_direction():
    run = random_run(SMALL, Task(7))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    permuted = []
    for checkpoint in run.checkpoints:
        weights = dict(checkpoint.weights)
        weights["blocks.0.mlp.W_in"], weights["blocks.0.mlp.b_in"] = (
            weights["blocks.0.mlp.W_in"][:, order],
            weights["blocks.0.mlp.b_in"][order],
        )
        weights["blocks.0.mlp.W_out"] = weights["blocks.0.mlp.W_out"][order]
        permuted.append(Checkpoint(checkpoint.step, weights, checkpoint.task, checkpoint.model))
    before = norm_account.compute(run)
    after = norm_account.compute(
        Steps(checkpoints=permuted, boundaries=run.boundaries, key_frequencies=run.key_frequencies)
    )
    xr.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9)


def test_shifting_the_residues_changes_no_part_of_the_embedding():
    run = random_run(SMALL, Task(7))
    shifted = []
    for checkpoint in run.checkpoints:
        W_E = checkpoint.weights["embed.W_E"]
        weights = checkpoint.weights | {"embed.W_E": torch.cat([W_E[:7].roll(2, 0), W_E[7:]])}
        shifted.append(Checkpoint(checkpoint.step, weights, checkpoint.task, checkpoint.model))
    parts = [f"W_E {direction}" for direction in norm_account.DIRECTIONS]
    after = norm_account.compute(
        Steps(checkpoints=shifted, boundaries=run.boundaries, key_frequencies=run.key_frequencies)
    )
    assert_allclose(after.squared_norm.sel(part=parts), norm_account.compute(run).squared_norm.sel(part=parts), **CLOSE)


@pytest.mark.parametrize("boundaries", [(10.0, 20.0, 30.0), (math.nan, math.nan, math.nan)])
def test_the_figure_shows_the_phases_that_are_known(boundaries):
    result = norm_account.compute(random_run(SMALL, Task(7), boundaries=boundaries))
    figure = norm_account.plot(result)
    bars = [trace for trace in figure.data if trace.name in norm_account.PHASES]
    known = math.isfinite(boundaries[0])
    assert [trace.name for trace in bars] == (list(norm_account.PHASES[:4]) if known else ["whole run"])
    assert_allclose(bars[-1].y, result.change.sel(phase=bars[-1].name, part=list(bars[-1].x)), rtol=0)
