"""The analysis of observed gradients: its refusals, its slopes against autograd, a small real run, an untrained one."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import interp
from interp.analyses import gradient_spectrum
from interp.analysis import analyze, find
from interp.analysis.contract import select
from interp.errors import InputError
from interp.mathematics import circuits, strengths
from interp.mathematics.sketch import Sketch
from interp.models import initial_weights, logits
from interp.runs import Checkpoint, CircuitDerivatives, observed_gradients, open_run
from interp.sweeps import run_experiment
from interp.testing import check_analysis

TASK, MODEL = interp.Task(23, train_fraction=0.45), interp.ModelConfig(d_model=16, n_heads=2, d_mlp=24)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> interp.Run:
    training = interp.TrainingConfig(steps=280, lr=1e-2, checkpoint_every=40, log_every=20)
    path = tmp_path_factory.mktemp("observed") / "run"
    return run_experiment(interp.Experiment(TASK, MODEL, training), path, observe="gradients")


@pytest.fixture(scope="module")
def result(run: interp.Run) -> xr.Dataset:
    return run.result("gradient_spectrum")


def test_it_keeps_the_contract():
    check_analysis("gradient_spectrum")


def test_a_run_that_was_not_observed_is_refused_with_the_command():
    reference = open_run(interp.reference_path())
    with pytest.raises(InputError, match="no observed gradients; train it with `interp train --observe gradients`"):
        analyze(reference, ["gradient_spectrum"])
    for words in (["all"], ["dynamics"], ["core"]):
        assert "gradient_spectrum" not in {one.name for one in select(words, TASK, MODEL)}


def test_the_numbers_of_a_real_run(run: interp.Run, result: xr.Dataset):
    rows = observed_gradients(run).rows
    assert rows.shape == (281, 11, 64)
    assert result.sizes["time"] == 1
    assert (result.power >= 0).all()
    value, low, high = (result.slow_share.sel(bound=bound) for bound in gradient_spectrum.BOUNDS)
    assert ((low <= value) & (value <= high) & (high <= 1)).all()
    # What is logged is the norm of all of the gradient; over 704 combinations it is told to 5 %.
    norms = [row["gradient_norm"] for row in run.rows]
    told = [math.sqrt(np.square(rows[row["step"]]).sum()) for row in run.rows]
    assert np.median(np.array(told) / np.array(norms)) == pytest.approx(1, abs=0.15)
    found = find("gradient_spectrum").summary(result)
    assert found["verdict"] == "not shown"
    assert found["why"]
    assert found["null_share"] == pytest.approx(0.02 / 1.98)
    json.dumps(found, allow_nan=False)
    assert len(gradient_spectrum.plot(result).data) == 11 * 5 + 4


def test_its_words_are_few_and_leave_out_what_is_unknown(result: xr.Dataset):
    analysis = find("gradient_spectrum")
    lines, shares = analysis.lines(result), analysis.summary(result)["slow_share"]
    assert len(lines) <= 10
    assert "unknown" not in "\n".join(lines)
    assert lines[0].startswith("slow = generalization, fast = overfitting: not shown, because ")
    for name, share in shares.items():  # every tensor in one of the lines, on its side of the noise
        line = next(line for line in lines if name in line)
        assert line.startswith("slow share of the gradient" if share > 0.02 / 1.98 else "at or below the noise line")


def test_the_words_of_a_run_with_a_verdict():
    """The planted numbers of a confirmed hypothesis, each in a line of its own."""
    difference = {"value": 0.31, "low": 0.22, "high": 0.43, "null_low": -0.11, "null_high": 0.12}
    on = {"circuit": {"slow": 0.41, "fast": 0.13}, "memorizing": {"slow": 0.14, "fast": 0.45}}
    shares = {"embed.W_E": 0.51, "mlp.W_in": 0.0099, "blocks.0.attn.W_Q": None}
    summary = {"verdict": "confirmed", "why": None, "plateau": {"from": 400, "to": 4000}, "checkpoints": 37}
    summary |= {"rule": difference, "memory": difference, "cosine": on, "along": on, "slow_share": shares}
    assert gradient_spectrum.in_words(summary | {"permuted_share": shares, "null_share": 0.0101}) == [
        "slow = generalization, fast = overfitting: confirmed",
        "plateau: steps 400 to 4,000, 37 checkpoints",
        "the rule: cos slow − fast 0.31, 95 % 0.22 to 0.43 (by chance -0.11 to 0.12)",
        "memory: cos fast − slow 0.31, 95 % 0.22 to 0.43 (by chance -0.11 to 0.12)",
        "mean cosines with the rule: slow 0.41, fast 0.13",
        "mean cosines with memory: slow 0.14, fast 0.45",
        "slow share of the gradient, over the plateau (noise: 0.01): embed.W_E 0.51",
        "at or below the noise line: mlp.W_in",
        "without any gradient: blocks.0.attn.W_Q",
    ]


def test_the_cosines_are_with_the_derivatives_that_autograd_gives(run: interp.Run, result: xr.Dataset):
    step = run.steps[3]
    checkpoint, asked = run[step], CircuitDerivatives(run.task)
    leaves = {name: weight.clone().requires_grad_() for name, weight in checkpoint.weights.items()}
    centred = circuits.centred(logits(leaves, MODEL, asked.inputs).double(), TASK.coordinates)
    strengths.strengths(centred, asked.pairs, has_phase=True)[0, 1].backward()
    slope = asked.slopes(checkpoint, np.zeros(11, dtype=bool))["memorizing"]
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        torch.testing.assert_close(slope[name], leaf.grad, rtol=1e-3, atol=1e-5)
    sketch = Sketch({name: weight.shape for name, weight in slope.items()})({n: v.numpy() for n, v in slope.items()})
    rows = observed_gradients(run).rows.astype(float)
    weight = 0.98 ** (step - np.arange(step + 1))
    slow = np.tensordot(weight / weight.sum(), rows[: step + 1], 1)
    expected = -(slow * sketch).sum() / np.linalg.norm(slow) / np.linalg.norm(sketch)
    assert float(result.cosine.sel(step=step, on="memorizing", part="slow")) == pytest.approx(expected, abs=1e-4)


def test_the_slope_of_the_rule_is_that_of_its_strength():
    """Along a small step, C changes by its derivative (C of fixed weights, as `circuit_forces` has it)."""
    weights, asked = initial_weights(MODEL, 23), CircuitDerivatives(TASK)
    named = np.isin(np.arange(1, 12), [2, 5])

    def alpha(of: dict[str, torch.Tensor]) -> np.ndarray:
        centred = circuits.centred(logits(of, MODEL, asked.inputs).double(), TASK.coordinates)
        return strengths.strengths(centred, asked.pairs, has_phase=True)[0, 2:].numpy()

    sums = strengths.circuit_weights(alpha(weights), named)
    slope = asked.slopes(Checkpoint(0, weights, TASK, MODEL), named)["circuit"]
    size = 1e-2 / math.sqrt(sum(value.square().sum().item() for value in slope.values()))
    ends = [{name: weights[name] + sign * size * slope[name] for name in weights} for sign in (1, -1)]
    change = float(sums @ (alpha(ends[0]) - alpha(ends[1])))
    assert change == pytest.approx(2 * size * sum(value.square().sum().item() for value in slope.values()), rel=0.02)
    assert "circuit" not in asked.slopes(Checkpoint(0, weights, TASK, MODEL), np.zeros(11, dtype=bool))


def test_an_untrained_network_shows_nothing(tmp_path: Path):
    """A rate of nothing: its gradient is all slow, and there is no plateau."""
    training = interp.TrainingConfig(steps=260, lr=1e-9, checkpoint_every=130, log_every=130)
    still = run_experiment(interp.Experiment(TASK, MODEL, training), tmp_path / "run", observe="gradients")
    found = find("gradient_spectrum").summary(still.result("gradient_spectrum"))
    assert (found["verdict"], found["plateau"]) == ("not shown", None)
    assert "there is no plateau" in found["why"]
    assert found["slow_share"]["unembed.W_U"] == pytest.approx(1, abs=1e-3)
