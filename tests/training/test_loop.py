"""Training: what a step is, what its metrics are of, and that the same experiment ends in the same bits, interrupted or
not."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, get_args

import pytest
import torch
from torch.testing import assert_close

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.experiment.task import Operation
from interp.experiment.training import Optimizer
from interp.models import DivergedError, Snapshot, Weights, embed, initial_weights, transform
from interp.models.forward import forward
from interp.runs import Checkpoint
from interp.training import HIGHEST, METRICS, Batch, WeightUpdater, evaluate, side_by_side, train

TASK = Task(p=7, train_fraction=0.5)  # 24 training pairs
FACTORED = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
GENERAL = ModelConfig(n_layers=2, d_model=8, n_heads=2, d_mlp=12, prompt="ab")


def experiment(model: ModelConfig = FACTORED, task: Task = TASK, **training: Any) -> Experiment:
    fields = {"steps": 9, "checkpoint_every": 4, "log_every": 3} | training
    return Experiment(task, model, TrainingConfig(**fields))


def assert_same_bits(one: Snapshot, other: Snapshot) -> None:
    assert (one.step, one.kept) == (other.step, other.kept)
    assert one.metrics == pytest.approx(other.metrics, rel=0, abs=0, nan_ok=True)
    for mine, yours in ((one.weights, other.weights), (one.state, other.state)):
        assert list(mine) == list(yours)
        assert all(torch.equal(mine[name], yours[name]) for name in mine)


# ---- the schedule ----------------------------------------------------------------------------------------------------


def test_kept_and_logged_steps_are_yielded() -> None:
    snapshots = list(train(experiment(steps=13)))
    assert [snapshot.step for snapshot in snapshots] == [0, 3, 4, 6, 8, 9, 12, 13]
    assert [snapshot.step for snapshot in snapshots if snapshot.kept] == [0, 4, 8, 12, 13]
    assert all(tuple(snapshot.metrics) == METRICS + HIGHEST for snapshot in snapshots)


def test_no_steps_are_the_initialization_alone() -> None:
    (only,) = train(experiment(steps=0))
    assert (only.step, only.kept, only.state) == (0, True, {})


# ---- what the numbers are of -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("model", [FACTORED, GENERAL])
@pytest.mark.parametrize(
    "task",
    [
        TASK,
        Task(p=6, operation="divide", train_fraction=0.4),
        Task(p=7, label_noise=0.5),
        Task(7, "x2+y2", train_fraction=0.3),
        Task(7, "add", validation_fraction=0.5, augmentation="mirror"),
    ],
)
def test_metrics_of_a_step_are_of_the_weights_of_that_step(
    task: Task, model: ModelConfig, batch_size: int | None
) -> None:
    """Recomputed from the snapshot's weights alone; float32 products over other batches differ in their last digits."""
    batch_size = min(batch_size, len(task.train_indices)) if batch_size else None
    losses = []
    for snapshot in train(experiment(model, task, batch_size=batch_size, log_every=1)):
        checkpoint = Checkpoint.from_weights(snapshot.weights, task, model)
        expected = {f"{split}_loss": checkpoint.loss(split) for split in ("train", "test")}
        expected |= {f"{split}_accuracy": checkpoint.accuracy(split) for split in ("train", "test")}
        expected["unmirrored_test_loss"] = checkpoint.loss("unmirrored")
        expected["unmirrored_test_accuracy"] = checkpoint.accuracy("unmirrored")
        if "negate both" in task.symmetries:
            expected["held_out_loss"] = checkpoint.loss("held_out")
            expected["held_out_accuracy"] = checkpoint.accuracy("held_out")
        if task.validation_fraction:
            expected["validation_loss"] = checkpoint.loss("validation")
            expected["validation_accuracy"] = checkpoint.accuracy("validation")
        expected["weight_norm"] = (
            torch.cat([weight.flatten() for weight in snapshot.weights.values()]).double().norm().item()
        )
        for name, value in expected.items():
            assert snapshot.metrics[name] == pytest.approx(value, rel=2e-6), (name, snapshot.step)
        losses.append(snapshot.metrics["train_loss"])
    assert min(abs(math.log(later / earlier)) for earlier, later in pairwise(losses)) > 2e-5  # no step is its neighbor


def gradient_of(weights: Weights, model: ModelConfig, task: Task) -> Weights:
    """The gradient of the training loss by automatic differentiation of torch's own cross-entropy."""
    leaves = {name: weight.double().requires_grad_() for name, weight in weights.items()}
    batch = Batch.of(task, "train")
    outputs = transform(leaves, model, embed(leaves, model, batch.inputs)).logits
    loss = torch.nn.functional.cross_entropy(outputs, batch.labels)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


@pytest.mark.parametrize("model", [FACTORED, GENERAL])
def test_one_step_of_gradient_descent_is_one_step(model: ModelConfig) -> None:
    """w_{s+1} = w_s − lr ∇L(w_s), and the logged norm is that of ∇L(w_s)."""
    plain = experiment(
        model, optimizer="sgd", momentum=0.0, weight_decay=0.0, warmup=0, lr=0.1, steps=3, checkpoint_every=1
    )
    snapshots = list(train(plain))
    for now, later in pairwise(snapshots):
        gradient = gradient_of(now.weights, model, TASK)
        norm = math.sqrt(sum(value.square().sum().item() for value in gradient.values()))
        assert now.metrics["gradient_norm"] == pytest.approx(norm, rel=1e-5)
        for name, weight in now.weights.items():
            assert_close(later.weights[name].double(), weight.double() - 0.1 * gradient[name], rtol=0, atol=1e-6)


def test_the_losses_of_a_network_that_always_says_zero() -> None:
    """b_out alone speaks: logit m for class 0. Trained on the pairs whose sum is 0, tested on the others; everywhere in
    float64."""
    p, margin = 7, 22.0
    task = Task(p=p, split=tuple(a * p + (-a % p) for a in range(p)))
    weights = {name: torch.zeros_like(weight) for name, weight in initial_weights(FACTORED, p).items()}
    weights["blocks.0.mlp.b_out"][0] = 1
    weights["unembed.W_U"][0, 0] = margin
    right = math.log1p((p - 1) * math.exp(-margin))
    (snapshot,) = train(experiment(task=task, steps=0), initial=weights)
    assert snapshot.metrics["train_loss"] == pytest.approx(right, rel=1e-6)
    assert snapshot.metrics["test_loss"] == pytest.approx(right + margin, rel=1e-12)
    assert (snapshot.metrics["train_accuracy"], snapshot.metrics["test_accuracy"]) == (1, 0)
    assert evaluate(weights, FACTORED, Batch.of(task, "train"))[0].mean().item() == pytest.approx(right, rel=1e-6)
    checkpoint = Checkpoint.from_weights(weights, task, FACTORED)
    assert checkpoint.loss("train") == pytest.approx(right, rel=1e-6)
    assert checkpoint.loss("all") == pytest.approx(right + margin * (p - 1) / p, rel=1e-12)


def test_metrics_that_cannot_be_are_not_a_number() -> None:
    (snapshot,) = train(experiment(task=Task(p=7, train_fraction=1), steps=0))
    unknown = {name for name, value in snapshot.metrics.items() if math.isnan(value)}
    assert unknown == {"test_loss", "test_accuracy", "unmirrored_test_loss", "unmirrored_test_accuracy"}


@pytest.mark.parametrize(
    ("operation", "is_apart"),
    [
        ("add", False),
        ("subtract", True),
        ("x3+xy", False),
        ("random", False),
        ("multiply", True),
        ("divide", True),
        ("x2+y2", True),
        ("x2+xy+y2", True),
    ],
)
def test_held_out_pairs_are_told_of_where_they_are_fewer_than_the_unmirrored(
    operation: Operation, is_apart: bool
) -> None:
    """And resumed or not, the metrics are the same to the last bit."""
    task = Task(7, operation, train_fraction=0.3)
    snapshots = list(train(experiment(task=task)))
    names = (*METRICS, *(("held_out_loss", "held_out_accuracy") if is_apart else ()), *HIGHEST)
    assert {tuple(snapshot.metrics) for snapshot in snapshots} == {names}
    middle = next(snapshot for snapshot in snapshots if snapshot.step == 4)
    resumed = list(train(experiment(task=task), resume=middle))
    for one, other in zip(snapshots[-len(resumed) :], resumed, strict=True):
        assert_same_bits(one, other)
        assert tuple(other.metrics) == names


@pytest.mark.parametrize("model", [FACTORED, GENERAL])
def test_a_validation_split_changes_no_bit_of_training(model: ModelConfig) -> None:
    """And resumed or not, what is told of it is the same to the last bit."""
    task = replace(TASK, validation_fraction=0.5)
    without, snapshots = (list(train(experiment(model, one))) for one in (TASK, task))
    for one, other in zip(without, snapshots, strict=True):
        assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
        assert other.metrics.keys() - one.metrics.keys() == {"validation_loss", "validation_accuracy"}
        assert one.metrics["train_loss"] == other.metrics["train_loss"]
    middle = next(snapshot for snapshot in snapshots if snapshot.step == 4)
    resumed = list(train(experiment(model, task), resume=middle))
    for one, other in zip(snapshots[-len(resumed) :], resumed, strict=True):
        assert_same_bits(one, other)


def test_training_memorizes() -> None:
    first, *_, last = train(experiment(steps=150))
    assert last.metrics["train_accuracy"] == 1
    assert last.metrics["train_loss"] < first.metrics["train_loss"] / 5


# ---- where it starts -------------------------------------------------------------------------------------------------


def test_training_starts_from_the_seed_or_from_what_it_is_given() -> None:
    drawn = initial_weights(FACTORED, 7)
    given = {name: torch.full_like(weight, 0.01).double() for name, weight in reversed(drawn.items())}
    for start, initial in ((drawn, None), (given, given)):
        first = next(train(experiment(), initial))
        assert list(first.weights) == list(drawn)
        assert all(torch.equal(first.weights[name], start[name].float()) for name in drawn)
        assert all(weight.dtype == torch.float32 for weight in first.weights.values())


def test_given_weights_may_lie_in_memory_as_they_like_and_are_left_alone() -> None:
    drawn = initial_weights(FACTORED, 7)
    transposed = {
        name: weight.mT.contiguous().mT if weight.ndim > 1 else weight.clone() for name, weight in drawn.items()
    }
    for one, other in zip(train(experiment()), train(experiment(), transposed), strict=True):
        assert_same_bits(one, other)
    assert not transposed["embed.W_E"].is_contiguous()
    assert all(torch.equal(transposed[name], drawn[name]) for name in drawn)


def test_initial_weights_of_another_model_are_refused() -> None:
    with pytest.raises(InputError, match=r"initial weights: tensor 'embed.W_E' has shape \[12, 8\], expected \[8, 8\]"):
        next(train(experiment(), initial_weights(FACTORED, 11)))


# ---- mini-batches ----------------------------------------------------------------------------------------------------


def test_an_epoch_of_minibatches_covers_each_pair_once_in_an_order_of_its_own() -> None:
    everything = Batch.of(TASK, "train")
    labels = dict(zip(map(tuple, TASK.pairs.tolist()), TASK.labels.tolist(), strict=True))
    orders = []
    for epoch in range(3):
        batches = [everything.minibatch(6, 4 * epoch + i, seed=1) for i in range(4)]
        seen = [tuple(pair) for batch in batches for pair in batch.inputs.tolist()]
        assert [len(batch) for batch in batches] == [6] * 4
        assert sorted(seen) == sorted(map(tuple, everything.inputs.tolist()))
        assert [label for batch in batches for label in batch.labels.tolist()] == [labels[pair] for pair in seen]
        orders.append(tuple(seen))
    assert len(set(orders)) == 3
    assert everything.minibatch(6, 0, seed=2).inputs.tolist() != everything.minibatch(6, 0, seed=1).inputs.tolist()


def test_what_is_left_over_at_the_end_of_an_epoch_is_dropped() -> None:
    everything = Batch.of(TASK, "train")
    batches = [everything.minibatch(7, step, seed=0) for step in range(3)]
    assert len({tuple(pair) for batch in batches for pair in batch.inputs.tolist()}) == 21
    assert len(everything.minibatch(7, 3, seed=0)) == 7  # of the next epoch


# ---- bits ------------------------------------------------------------------------------------------------------------

EVERY_WAY = [
    (model, optimizer, size) for model in (FACTORED, GENERAL) for optimizer in get_args(Optimizer) for size in (None, 7)
]


@pytest.mark.parametrize(("model", "optimizer", "batch_size"), EVERY_WAY)
def test_equal_experiments_and_resumed_ones_end_in_equal_bits(
    model: ModelConfig, optimizer: str, batch_size: int | None
) -> None:
    """Resumed from every snapshot: the first, kept ones, those that are there for their metrics, and the last."""
    run = experiment(model, optimizer=optimizer, batch_size=batch_size)
    whole = list(train(run))
    for one, other in zip(whole, train(run), strict=True):
        assert_same_bits(one, other)
    for index, snapshot in enumerate(whole):
        continued = list(train(run, resume=snapshot))
        assert len(continued) == len(whole) - index - 1
        for one, other in zip(continued, whole[index + 1 :], strict=True):
            assert_same_bits(one, other)


def test_other_seeds_end_elsewhere() -> None:
    def end(run: Experiment) -> torch.Tensor:
        return list(train(run))[-1].weights["embed.W_E"]

    base = experiment(batch_size=6)
    for other in (
        replace(base, task=replace(TASK, seed=1)),
        replace(base, model=replace(FACTORED, seed=1)),
        replace(base, training=replace(base.training, seed=1)),
    ):
        assert not torch.equal(end(other), end(base))


@pytest.mark.parametrize(("model", "inside"), [(FACTORED, 1), (GENERAL, 2)])
def test_nothing_of_a_step_is_left_to_threads_of_torch(
    model: ModelConfig, inside: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would wait in a loop, with a core that the parts of the next batch need; whoever reads the snapshots has
    them as before."""
    seen: dict[str, set[int]] = {"loss_and_gradient": set(), "evaluate": set(), "measured": set(), "update": set()}

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            seen[name].add(torch.get_num_threads())
            return function(*arguments, **named)

        return call

    for module, name in ((side_by_side, "loss_and_gradient"), (side_by_side, "evaluate"), (side_by_side, "measured")):
        monkeypatch.setattr(module, name, watched(name, getattr(module, name)))
    monkeypatch.setattr(WeightUpdater, "update", watched("update", WeightUpdater.update))
    torch.set_num_threads(2)
    try:
        assert [torch.get_num_threads() for _ in train(experiment(model, steps=4, log_every=2))] == [2, 2, 2]
    finally:
        torch.set_num_threads(1)
    assert all(numbers == {inside} for numbers in seen.values())


def test_a_snapshot_is_not_written_to_later() -> None:
    snapshots, copies = [], []
    for snapshot in train(experiment()):
        snapshots.append(snapshot)
        copies.append({name: value.clone() for name, value in (snapshot.weights | snapshot.state).items()})
    for snapshot, copy in zip(snapshots, copies, strict=True):
        assert all(torch.equal(value, copy[name]) for name, value in (snapshot.weights | snapshot.state).items())


def test_writing_to_a_snapshot_does_not_disturb_training() -> None:
    undisturbed = list(train(experiment()))
    for snapshot, expected in zip(train(experiment()), undisturbed, strict=True):
        assert_same_bits(snapshot, expected)
        for value in (*snapshot.weights.values(), *snapshot.state.values()):
            value.zero_()


def test_who_watches_sees_every_step_and_changes_nothing() -> None:
    seen = {}
    watched = list(train(experiment(), watch=lambda step, weights: seen.update({step: weights["embed.W_E"].clone()})))
    every = {snapshot.step: snapshot for snapshot in train(experiment(log_every=1))}
    assert list(seen) == list(every) == list(range(10))
    assert all(torch.equal(seen[step], snapshot.weights["embed.W_E"]) for step, snapshot in every.items())
    for snapshot, expected in zip(watched, train(experiment()), strict=True):
        assert_same_bits(snapshot, expected)


# ---- divergence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 6])
@pytest.mark.parametrize("model", [replace(FACTORED, activation="square"), replace(GENERAL, activation="square")])
def test_divergence_stops_with_a_message_and_keeps_what_came_before(model: ModelConfig, batch_size: int | None) -> None:
    snapshots: list[Snapshot] = []
    diverging = experiment(model, optimizer="sgd", lr=1e4, steps=100, log_every=1, batch_size=batch_size)
    with pytest.raises(
        DivergedError, match=r"training diverged: the loss of step \d+ is not finite; try a lower training.lr"
    ) as caught:
        snapshots.extend(train(diverging))  # takes what is yielded before the error
    assert [snapshot.step for snapshot in snapshots] == list(range(caught.value.step))
    assert caught.value.last is snapshots[-1]
    for snapshot in snapshots:
        assert math.isfinite(snapshot.metrics["train_loss"])
        logits = forward(snapshot.weights, model, Batch.of(TASK, "train").inputs).logits
        assert logits.isfinite().all()


def test_divergence_is_noticed_at_once_also_between_logged_steps() -> None:
    model = replace(FACTORED, activation="square")
    noticed = []
    for log_every in (1, 1000):
        run = experiment(model, optimizer="sgd", lr=1e4, steps=2000, log_every=log_every, checkpoint_every=None)
        with pytest.raises(DivergedError) as caught:
            list(train(run))
        noticed.append(caught.value.step)
    assert noticed[0] == noticed[1] < 1000


def test_a_loss_that_is_finite_on_the_minibatch_alone_is_divergence_too() -> None:
    """The embedding of 6 is infinite; the first batch is the pair (0, 1), the training set has (6, 6) as well."""
    task = Task(p=7, split=(1, 48))
    seed = next(seed for seed in range(20) if Batch.of(task, "train").minibatch(1, 0, seed).inputs.tolist() == [[0, 1]])
    initial = initial_weights(FACTORED, 7)
    initial["embed.W_E"][6] = math.inf
    with pytest.raises(DivergedError, match="the loss of step 0 is not finite") as caught:
        next(train(experiment(task=task, batch_size=1, seed=seed), initial))
    assert caught.value.last is None
