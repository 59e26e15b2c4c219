"""Training: an experiment in, an iterator of snapshots out. It touches no file.

The snapshot of step s holds the weights after exactly s updates, and its metrics are computed from those same weights. The loss is
the mean of `interp.loss` over a batch.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp import factored
from interp.experiment import Experiment, ModelConfig
from interp.loss import cross_entropy, is_correct, mean_cross_entropy_and_gradient
from interp.memory import keep_freed_memory
from interp.model import embed, is_factored, logits, transform
from interp.optimizers import WeightUpdater
from interp.task import Task
from interp.weights import Weights, check_weights, initial_weights, weight_shapes

METRICS = (
    "train_loss",
    "test_loss",
    "unmirrored_test_loss",
    "train_accuracy",
    "test_accuracy",
    "unmirrored_test_accuracy",
    "gradient_norm",
    "weight_norm",
)


@dataclass(frozen=True)
class Snapshot:
    """One moment of training. `kept` says whether the schedule wants a checkpoint of it; the others are there for their metrics.
    `state` and `weights` together are what exact resume needs. A metric that cannot be (the test loss without test pairs) is NaN."""

    step: int
    weights: Weights
    metrics: dict[str, float]
    state: dict[str, Tensor]
    kept: bool


class DivergedError(RuntimeError):
    """The loss is no longer finite. Everything before `step` is sound."""

    def __init__(self, step: int, last: Snapshot | None) -> None:
        self.step, self.last = step, last
        super().__init__(f"training diverged: the loss of step {step} is not finite; try a lower training.lr")


def train(experiment: Experiment, initial: Mapping[str, Tensor] | None = None, *, resume: Snapshot | None = None) -> Iterator[Snapshot]:
    """Train, yielding a snapshot of every kept and every logged step.

    Starts from the weights drawn from model.seed, or from `initial`; or continues after `resume`, whose own step is not yielded again.
    With one seed, one thread count and one machine the result is the same to the last bit, resumed or not.

    Raises DivergedError when the loss stops being finite, and InputError for initial weights of another shape.
    """
    keep_freed_memory()
    task, model, config = experiment.task, experiment.model, experiment.training
    start = initial if initial is not None else initial_weights(model, task.p)
    if resume is not None:
        start = resume.weights
    check_weights(start, model, task.p, where="initial weights")
    # Contiguous copies, because fused updates read memory in order: somebody's `linear.weight.T` is not.
    weights = {
        name: start[name].detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name in weight_shapes(model, task.p)
    }
    updater = WeightUpdater(weights, config)
    if resume is not None:
        updater.restore(resume.state)
    kept = set(config.kept_steps())
    train_set, test_set = Batch.of(task, "train"), Batch.of(task, "test")
    unmirrored = torch.from_numpy(task.unmirrored_test_mask[task.test_mask])
    last = resume
    for step in range(resume.step if resume else 0, config.steps + 1):
        batch = train_set if config.batch_size is None else train_set.minibatch(config.batch_size, step, config.seed)
        loss, batch_logits, gradient = loss_and_gradient(weights, model, batch)
        if not math.isfinite(loss):
            raise DivergedError(step, last)
        is_kept = step in kept
        if (is_kept or step % config.log_every == 0) and not (resume and step == resume.step):
            if batch is train_set:
                train_loss, train_correct = loss, is_correct(batch_logits, batch.labels)
            else:
                losses, train_correct = evaluate(weights, model, train_set)
                train_loss = _mean(losses)
            if not math.isfinite(train_loss):
                raise DivergedError(step, last)
            test_losses, test_correct = evaluate(weights, model, test_set)
            metrics = {
                "train_loss": train_loss,
                "test_loss": _mean(test_losses),
                "unmirrored_test_loss": _mean(test_losses[unmirrored]),
                "train_accuracy": _mean(train_correct),
                "test_accuracy": _mean(test_correct),
                "unmirrored_test_accuracy": _mean(test_correct[unmirrored]),
                "gradient_norm": _norm(gradient),
                "weight_norm": _norm(weights),
            }
            copies = {name: weight.clone() for name, weight in weights.items()}
            last = Snapshot(step, copies, metrics, updater.state(), is_kept)
            yield last
        if step < config.steps:
            updater.update(step, gradient)


@dataclass(frozen=True)
class Batch:
    """Pairs and the labels they are trained or tested on."""

    pairs: Int[Tensor, "n 2"]
    labels: Int[Tensor, " n"]

    @classmethod
    def of(cls, task: Task, split: str) -> "Batch":
        """All pairs of a split, in row-major order."""
        index = np.flatnonzero(task.mask(split))
        return cls(torch.from_numpy(task.pairs[index]), torch.from_numpy(task.labels[index]))

    def minibatch(self, size: int, step: int, seed: int) -> "Batch":
        """The batch of update number `step`. Each epoch is a permutation of its own, a function of the seed and the epoch alone, so
        resuming needs no generator state; what is left over at the end of an epoch is dropped."""
        epoch, position = divmod(step, len(self) // size)
        order = np.random.RandomState([seed, epoch]).permutation(len(self))
        chosen = torch.from_numpy(order[position * size : (position + 1) * size])
        return Batch(self.pairs[chosen], self.labels[chosen])

    def __len__(self) -> int:
        return len(self.labels)


def loss_and_gradient(weights: Weights, model: ModelConfig, batch: Batch) -> tuple[float, Float[Tensor, "classes n"], Weights]:
    """The mean cross-entropy of a batch, its logits, and the gradient of the loss."""
    if is_factored(model):
        with torch.no_grad():
            at = factored.forward(weights, model, batch.pairs[:, 0], batch.pairs[:, 1])
            loss, d_logits = mean_cross_entropy_and_gradient(at.logits, batch.labels)
            return loss, at.logits, factored.gradient(weights, model, at, d_logits)
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    outputs = transform(leaves, model, embed(leaves, model, batch.pairs)).logits
    loss, d_logits = mean_cross_entropy_and_gradient(outputs.detach().T, batch.labels)
    gradients = torch.autograd.grad(outputs, list(leaves.values()), d_logits.T)
    return loss, outputs.detach().T, dict(zip(leaves, gradients, strict=True))


@torch.no_grad()
def evaluate(weights: Weights, model: ModelConfig, batch: Batch) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """The cross-entropy of every example of a batch, and which of its answers are correct."""
    outputs = logits(weights, model, batch.pairs).T
    return cross_entropy(outputs, batch.labels), is_correct(outputs, batch.labels)


def _mean(values: Tensor) -> float:
    return values.double().mean().item() if len(values) else math.nan


def _norm(weights: Weights) -> float:
    return math.sqrt(sum(weight.double().square().sum().item() for weight in weights.values()))
