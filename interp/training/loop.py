"""Training: an experiment in, an iterator of snapshots out. It touches no file.

The snapshot of step s holds the weights after exactly s updates, and its metrics are computed from those same weights.
The loss is the mean of `interp.mathematics.cross_entropy` over a batch.
"""

import math
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import InputError
from interp.experiment import Experiment, ModelConfig
from interp.machine import keep_freed_memory, one_thread
from interp.mathematics.cross_entropy import cross_entropy_and_correctness, cross_entropy_and_gradient_
from interp.models import (
    DivergedError,
    Snapshot,
    Weights,
    check_weights,
    embed,
    factored_gradient,
    initial_weights,
    is_factored,
    logits,
    transform,
    weight_shapes,
)
from interp.training.batches import Batch, unmirrored_of_test
from interp.training.optimizers import WeightUpdater

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


def train(
    experiment: Experiment,
    initial: Mapping[str, Tensor] | None = None,
    *,
    resume: Snapshot | None = None,
    device: str = "cpu",
) -> Iterator[Snapshot]:
    """Train, yielding a snapshot of every kept and every logged step; what a snapshot holds is always in the CPU's
    memory.

    Starts from the weights drawn from model.seed, or from `initial`; or continues after `resume`, whose own step is not
    yielded again. With one seed, one thread count and one machine the result is the same to the last bit, resumed or
    not; by the factored form (`method`) with any thread count. On a GPU sums are in no fixed order.

    Raises DivergedError when the loss stops being finite, and InputError for initial weights of another shape or a
    device that is not there.
    """
    for snapshot in train_stepwise(experiment, initial, resume=resume, device=device):
        if snapshot is not None:
            yield snapshot


def train_stepwise(
    experiment: Experiment,
    initial: Mapping[str, Tensor] | None = None,
    *,
    resume: Snapshot | None = None,
    device: str = "cpu",
) -> Generator[Snapshot | None]:
    """`train`, giving None after every update too, so that whoever drives it can stop there."""
    check_device(device)
    keep_freed_memory()
    task, model, config = experiment.task, experiment.model, experiment.training
    start = initial if initial is not None else initial_weights(model, task.sizes)
    if resume is not None:
        start = resume.weights
    check_weights(start, model, task.sizes, where="initial weights")
    # Contiguous copies, because fused updates read memory in order: somebody's `linear.weight.T` is not.
    weights = {
        name: start[name].detach().to(device, torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name in weight_shapes(model, task.sizes)
    }
    updater = WeightUpdater(weights, config)
    if resume is not None:
        updater.restore(resume.state)
    with worker_threads() as each:
        yield from _snapshots(experiment, weights, updater, resume, each)


def _snapshots(
    experiment: Experiment,
    weights: Weights,
    updater: WeightUpdater,
    resume: Snapshot | None,
    each: factored_gradient.Each,
) -> Iterator[Snapshot | None]:
    model, config = experiment.model, experiment.training
    kept, device = set(config.kept_steps()), next(iter(weights.values())).device
    train_set, test_set = Batch.of(experiment.task, "train", device), Batch.of(experiment.task, "test", device)
    unmirrored = unmirrored_of_test(experiment.task).to(device)
    last = resume
    for step in range(resume.step if resume else 0, config.steps + 1):
        shown = None
        with threads_of_torch(model):
            batch = (
                train_set if config.batch_size is None else train_set.minibatch(config.batch_size, step, config.seed)
            )
            loss, correct, gradient = loss_and_gradient(weights, model, batch, each)
            if not math.isfinite(loss):
                raise DivergedError(step, last)
            is_kept = step in kept
            if (is_kept or step % config.log_every == 0) and not (resume and step == resume.step):
                if batch is not train_set:
                    losses, correct = evaluate(weights, model, train_set, each)
                    loss = mean(losses)
                    if not math.isfinite(loss):
                        raise DivergedError(step, last)
                test = evaluate(weights, model, test_set, each)
                metrics = measured((loss, correct), (*test, unmirrored), gradient, weights)
                copies = {name: weight.to("cpu", copy=True) for name, weight in weights.items()}
                last = shown = Snapshot(step, copies, metrics, updater.state(), is_kept)
        if shown:
            yield shown
        if step < config.steps:
            with threads_of_torch(model):
                updater.update(step, gradient)
            yield None


def measured(
    train: tuple[float, Bool[Tensor, " n"]],
    test: tuple[Float[Tensor, " m"], Bool[Tensor, " m"], Bool[Tensor, " m"]],
    gradient: Weights,
    weights: Weights,
) -> dict[str, float]:
    """METRICS of one step, from the training loss and answers, and the test losses, answers, and which of them are
    unmirrored."""
    (loss, correct), (test_losses, test_correct, unmirrored) = train, test
    values = (
        loss,
        mean(test_losses),
        mean(test_losses[unmirrored]),
        mean(correct),
        mean(test_correct),
        mean(test_correct[unmirrored]),
        _norm(gradient),
        _norm(weights),
    )
    return dict(zip(METRICS, values, strict=True))


def loss_and_gradient(
    weights: Weights, model: ModelConfig, batch: Batch, each: factored_gradient.Each = map
) -> tuple[float, Bool[Tensor, " n"], Weights]:
    """The mean cross-entropy of a batch, which of its answers are correct, and the gradient of the loss."""
    if is_factored(model):
        with one_thread():
            losses, correct, gradient = factored_gradient.loss_and_gradient(weights, model, batch.examples, each)
            return mean(losses), correct, gradient
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    outputs = transform(leaves, model, embed(leaves, model, batch.inputs)).logits
    d_outputs = outputs.detach().T.clone()
    losses, correct = cross_entropy_and_gradient_(d_outputs, batch.labels, len(batch))
    gradients = torch.autograd.grad(outputs, list(leaves.values()), d_outputs.T)
    return mean(losses), correct, dict(zip(leaves, gradients, strict=True))


@torch.no_grad()
def evaluate(
    weights: Weights, model: ModelConfig, batch: Batch, each: factored_gradient.Each = map
) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """The cross-entropy of every example of a batch, and which of its answers are correct."""
    if is_factored(model):
        with one_thread():
            return factored_gradient.evaluate(weights, model, batch.examples, each)
    return cross_entropy_and_correctness(logits(weights, model, batch.inputs).T, batch.labels)


@contextmanager
def worker_threads() -> Iterator[factored_gradient.Each]:
    """A `map` for as many threads as torch has, each of which works alone."""
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        yield map
        return
    with ThreadPoolExecutor(n_threads, initializer=_begin_thread) as executor:
        yield executor.map


def threads_of_torch(model: ModelConfig) -> AbstractContextManager[None]:
    """One, where the parts of a batch have threads of their own (`worker_threads`): after whatever torch does with
    several, those that are done wait for more in a loop, for milliseconds, and keep a core from the parts of the next
    batch."""
    return one_thread() if is_factored(model) else nullcontext()


def _begin_thread() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)  # a thread has a switch of its own


def check_device(device: str) -> None:
    """Raises InputError for a device that this machine, or this build of torch, does not have."""
    if device not in ("cpu", "cuda"):
        raise InputError(
            f"unknown device {device!r}; known: cpu, cuda"
        )  # nothing is near to "gpu" but what is not meant
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no CUDA device here that torch can use; leave the device at cpu")


def mean(values: Tensor) -> float:
    """In float64; NaN of nothing."""
    return values.double().mean().item() if len(values) else math.nan


def _norm(weights: Weights) -> float:
    return math.sqrt(sum(weight.double().square().sum().item() for weight in weights.values()))
