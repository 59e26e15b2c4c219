"""Training on other losses, and the highest loss since the line before."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.mathematics.losses import LOSSES
from interp.mathematics.stablemax import log_scale
from interp.models import DivergedError, Snapshot, embed, transform
from interp.training import Batch, check_together, groups, side_by_side, together, train

TASK = Task(p=7, train_fraction=0.5)
FACTORED = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
MLP = ModelConfig(family="mlp", d_mlp=16, embedding="untied", d_model=8)
LATER: dict[str, dict[str, Any]] = {
    "stablemax": {"loss": "stablemax"},
    "squared-error": {"loss": "squared-error"},
    "smoothed": {"label_smoothing": 0.1},
    "float32": {"loss_precision": "float32"},
    "zero-sum": {"loss_precision": "float32", "zero_sum": True},
}


def experiment(model: ModelConfig = FACTORED, **training: Any) -> Experiment:
    fields: dict[str, Any] = {"steps": 9, "checkpoint_every": 4, "log_every": 3} | training
    return Experiment(TASK, model, TrainingConfig(**fields))


def firsts(experiments: list[Experiment]) -> list[Snapshot]:
    """The snapshots of the first of some experiments that train together."""
    moments = [moment[0] for moment in together(experiments) if moment is not None and 0 in moment]
    return [one for one in moments if isinstance(one, Snapshot)]


def torchs(outputs: torch.Tensor, labels: torch.Tensor, fields: dict[str, Any]) -> torch.Tensor:
    """The mean loss by torch's own functions, of outputs [n, classes]."""
    if fields.get("loss") == "squared-error":
        return functional.mse_loss(outputs, functional.one_hot(labels, outputs.shape[1]).double())
    outputs = log_scale(outputs) if fields.get("loss") == "stablemax" else outputs
    return functional.cross_entropy(outputs, labels, label_smoothing=fields.get("label_smoothing", 0.0))


# ---- other losses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [FACTORED, MLP], ids=["transformer", "MLP"])
@pytest.mark.parametrize("fields", LATER.values(), ids=LATER)
def test_a_step_of_gradient_descent_goes_down_the_loss_that_was_chosen(
    fields: dict[str, Any], model: ModelConfig
) -> None:
    """w_{s+1} = w_s − lr ∇L(w_s), with L and ∇L of torch's own functions, and the logged loss is L."""
    plain: dict[str, Any] = {
        "optimizer": "sgd",
        "momentum": 0.0,
        "weight_decay": 0.0,
        "warmup": 0,
        "lr": 0.1,
        "log_every": 1,
    }
    batch = Batch.of(TASK, "train")
    for now, later in pairwise(train(experiment(model, **plain, **fields, steps=3, checkpoint_every=1))):
        leaves = {name: weight.double().requires_grad_() for name, weight in now.weights.items()}
        outputs = transform(leaves, model, embed(leaves, model, batch.inputs)).logits
        loss = torchs(outputs, batch.labels, fields)
        assert now.metrics["train_loss"] == pytest.approx(loss.item(), rel=3e-6)
        for (name, weight), slope in zip(
            now.weights.items(), torch.autograd.grad(loss, list(leaves.values())), strict=True
        ):
            assert_close(later.weights[name].double(), weight.double() - 0.1 * slope, rtol=0, atol=1e-6)


@pytest.mark.parametrize("fields", LATER.values(), ids=LATER)
def test_resumed_and_together_they_end_in_the_same_bits(fields: dict[str, Any]) -> None:
    one = experiment(**fields)
    whole = list(train(one))
    both = [one, replace(one, model=replace(one.model, seed=1))]
    beside = firsts(both)
    for snapshots in ([whole[0], *train(one, resume=whole[0])], [*whole[:3], *train(one, resume=whole[2])], beside):
        for mine, yours in zip(snapshots, whole, strict=True):
            assert mine.metrics == yours.metrics
            assert all(torch.equal(mine.weights[name], yours.weights[name]) for name in yours.weights)


@pytest.mark.parametrize("model", [FACTORED, MLP], ids=["transformer", "MLP"])
@pytest.mark.parametrize("fields", LATER.values(), ids=LATER)
def test_as_one_batch_each_is_the_same_up_to_rounding(
    fields: dict[str, Any], model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiments = [experiment(replace(model, seed=seed), eps=1e-4, **fields) for seed in (0, 1)]
    alone = [list(train(one)) for one in experiments]
    monkeypatch.setattr(side_by_side, "_has_cores", lambda device: False)
    for place, moment in enumerate(moment for moment in together(experiments) if moment is not None):
        for network, snapshot in moment.items():
            assert not isinstance(snapshot, DivergedError)
            expected = alone[network][place]
            assert snapshot.metrics == pytest.approx(expected.metrics, rel=2e-3, nan_ok=True)
            for name, weight in snapshot.weights.items():
                assert_close(weight, expected.weights[name], rtol=1e-4, atol=1e-5)


def test_networks_of_two_losses_do_not_train_as_one() -> None:
    two = [experiment(), experiment(loss="stablemax")]
    assert groups(two) == [[0], [1]]
    with pytest.raises(InputError, match=r"one training.loss, and these have 'cross-entropy' and 'stablemax'"):
        check_together(two)


def test_squared_error_learns_the_labels_themselves() -> None:
    """Outputs come near the one-hot label, where a cross-entropy lets them grow."""
    *_, last = train(experiment(MLP, loss="squared-error", steps=400, weight_decay=0.0, warmup=0))
    batch = Batch.of(TASK, "train")
    outputs = transform(last.weights, MLP, embed(last.weights, MLP, batch.inputs)).logits
    assert last.metrics["train_accuracy"] == 1
    assert_close(outputs, functional.one_hot(batch.labels, 7).float(), rtol=0, atol=0.1)
    assert last.metrics["train_loss"] < LOSSES["squared-error"].of_guessing(7) / 100


# ---- the highest loss ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 7])
def test_the_highest_loss_since_the_line_before(batch_size: int | None) -> None:
    """Of runs whose loss goes up and down: what every step had, logged in lines of three and two steps."""
    bumpy: dict[str, Any] = {"lr": 0.3, "weight_decay": 0.0, "warmup": 0, "steps": 30, "batch_size": batch_size}
    every = {one.step: one for one in train(experiment(**bumpy, log_every=1, checkpoint_every=None))}
    of_step = {step: one.metrics["train_loss_max"] for step, one in every.items()}
    assert all(one.metrics["train_loss_max_step"] == step for step, one in every.items())
    if batch_size is None:
        assert of_step == {step: one.metrics["train_loss"] for step, one in every.items()}
    lines, n_between = list(train(experiment(**bumpy))), 0
    for before, line in zip([None, *lines], lines, strict=False):
        since = [step for step in of_step if (-1 if before is None else before.step) < step <= line.step]
        highest = max(since, key=lambda step: (of_step[step], -step))
        assert line.metrics["train_loss_max"] == of_step[highest]
        assert line.metrics["train_loss_max_step"] == highest
        n_between += highest < line.step
    assert n_between > 0  # how often, the last bits of such a run decide


@pytest.mark.parametrize("batch_size", [None, 7])
def test_a_spike_between_two_lines_is_seen_and_so_by_who_goes_on(batch_size: int | None) -> None:
    """Whoever goes on after a line sees what came since, and not what that line told."""
    spiky = experiment(lr=0.3, weight_decay=0.0, warmup=0, steps=30, batch_size=batch_size)
    whole = list(train(spiky))
    for place, snapshot in enumerate(whole):
        assert [one.metrics for one in train(spiky, resume=snapshot)] == [one.metrics for one in whole[place + 1 :]]


def test_of_equal_losses_the_first_step_is_told() -> None:
    """A rate too small to change a weight."""
    *_, last = train(experiment(lr=1e-30, steps=9, log_every=9, checkpoint_every=None, weight_decay=0.0))
    assert last.metrics["train_loss_max"] == last.metrics["train_loss"]
    assert last.metrics["train_loss_max_step"] == 1


def test_a_network_that_diverges_leaves_the_others_their_highest_loss() -> None:
    wild = replace(FACTORED, activation="square")
    experiments = [experiment(wild, optimizer="sgd", lr=lr, log_every=1, warmup=0) for lr in (1e-3, 1e4)]
    moments = [moment for moment in together(experiments) if moment is not None]
    assert any(isinstance(moment.get(1), DivergedError) for moment in moments)
    told = [one.metrics["train_loss_max"] for one in firsts(experiments)]
    assert told == [one.metrics["train_loss_max"] for one in train(experiments[0])]
    assert all(math.isfinite(value) for value in told)
