"""Training: experiments in, an iterator of snapshots out. It touches no file.

The snapshot of step s holds the weights after exactly s updates, and its metrics are computed from those same weights.
There is one loop: for one experiment, and for several side by side that differ in their seeds.
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import InputError
from interp.experiment import Experiment
from interp.machine import keep_freed_memory
from interp.mathematics.losses import LOSSES
from interp.models import DivergedError, Snapshot, Weights, check_weights, initial_weights, weight_shapes
from interp.training.batches import Batch, parts_of_test
from interp.training.loss import (
    evaluate_each,
    losses_and_gradients,
    mean,
    threads_of_torch,
    unstacked,
    worker_threads,
)
from interp.training.optimizers import WeightUpdater

# Of every run; where fewer pairs are held out than are unmirrored, with `held_out_loss` and `held_out_accuracy`.
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
# By the place of the experiment; one that diverged is told of once, and then no more.
Moment = dict[int, Snapshot | DivergedError]


def train(
    experiment: Experiment,
    initial: Mapping[str, Tensor] | None = None,
    *,
    resume: Snapshot | None = None,
    device: str = "cpu",
    watch: Callable[[int, Weights], None] | None = None,
) -> Iterator[Snapshot]:
    """Train, yielding a snapshot of every kept and every logged step; what a snapshot holds is always in the CPU's
    memory. `watch` is shown the weights of every step, which the next update overwrites.

    Starts from the weights drawn from model.seed, or from `initial`; or continues after `resume`, whose own step is not
    yielded again. With one seed, one thread count and one machine the result is the same to the last bit, resumed or
    not; by the factored form (`method`) with any thread count. On a GPU sums are in no fixed order.

    Raises DivergedError when the loss stops being finite, and InputError for initial weights of another shape or a
    device that is not there.

    >>> from interp.experiment import ModelConfig, Task, TrainingConfig
    >>> training = TrainingConfig(steps=5, checkpoint_every=5, log_every=1)
    >>> experiment = Experiment(Task(7), ModelConfig(d_model=16, n_heads=2, d_mlp=32), training)
    >>> snapshots = list(train(experiment))
    >>> [(snapshot.step, snapshot.kept) for snapshot in snapshots]
    [(0, True), (1, False), (2, False), (3, False), (4, False), (5, True)]
    >>> snapshots[5].metrics["train_loss"] < snapshots[0].metrics["train_loss"]
    True
    """
    own, after = None if initial is None else [initial], None if resume is None else [resume]
    watch_all = None if watch is None else lambda step, weights: watch(step, weights[0])
    for moment in together([experiment], initial=own, resume=after, device=device, watch=watch_all):
        if moment is not None:
            if isinstance(snapshot := moment[0], DivergedError):
                raise snapshot
            yield snapshot


def together(
    experiments: Sequence[Experiment],
    *,
    initial: Sequence[Mapping[str, Tensor]] | None = None,
    resume: Sequence[Snapshot] | None = None,
    device: str = "cpu",
    watch: Callable[[int, Sequence[Weights]], None] | None = None,
) -> Generator[Moment | None]:
    """`train` for experiments that differ in their seeds alone, side by side: the snapshots of a step, by the place of
    their experiment, and None after every update, so that whoever drives it can stop there.

    `initial` has weights for each of them, and `resume` a snapshot of one step for each. One whose loss is no longer
    finite leaves with its DivergedError, and the others go on.

    >>> from interp.experiment import ModelConfig, Task, TrainingConfig
    >>> models = [ModelConfig(d_model=16, n_heads=2, d_mlp=32, seed=seed) for seed in (0, 1)]
    >>> seeds = [Experiment(Task(7), model, TrainingConfig(steps=5)) for model in models]
    >>> moments = [moment for moment in together(seeds) if moment is not None]
    >>> [(place, snapshot.step) for moment in moments for place, snapshot in moment.items()]
    [(0, 0), (1, 0), (0, 5), (1, 5)]
    """
    check_device(device)
    keep_freed_memory()
    model, config, sizes = experiments[0].model, experiments[0].training, experiments[0].task.sizes
    starts = initial if initial is not None else [initial_weights(one.model, sizes) for one in experiments]
    if resume is not None:
        starts = [one.weights for one in resume]
    for start in starts:
        check_weights(start, model, sizes, where="initial weights")
    # Copies, each in one piece, because fused updates read memory in order: somebody's `linear.weight.T` is not.
    stacked = {
        name: torch.stack([start[name].detach().to(device, torch.float32) for start in starts])
        for name in weight_shapes(model, sizes)
    }
    weights, loss = unstacked(stacked), LOSSES["cross-entropy"]
    updater = WeightUpdater(weights, config)
    if resume is not None:
        updater.restore([one.state for one in resume])
    train_sets, test_sets = ([Batch.of(one.task, split, device) for one in experiments] for split in ("train", "test"))
    parts = [{part: which.to(device) for part, which in parts_of_test(one.task).items()} for one in experiments]
    kept, first = set(config.kept_steps()), resume[0].step if resume is not None else 0
    living, last = list(range(len(experiments))), dict(enumerate(resume or ()))
    with worker_threads() as each:
        for step in range(first, config.steps + 1):
            is_shown = (step in kept or step % config.log_every == 0) and not (resume is not None and step == first)
            with threads_of_torch(model):
                batches = train_sets
                if (size := config.batch_size) is not None:
                    pairs = zip(train_sets, experiments, strict=True)
                    batches = [every.minibatch(size, step, one.training.seed) for every, one in pairs]
                losses, answers, gradients = losses_and_gradients(stacked, model, batches, each, loss)
                of_train = list(zip(losses, answers, strict=True))
                if is_shown and batches is not train_sets:
                    judged = evaluate_each(stacked, model, train_sets, each, loss)
                    of_train = [(mean(of_all), correct) for of_all, correct in judged]
                lost = [place for place in living if not math.isfinite(losses[place] + of_train[place][0])]
            if lost:
                yield {place: DivergedError(step, last.get(place)) for place in lost}
                living = [place for place in living if place not in lost]
            if not living:
                return
            if watch is not None:
                watch(step, weights)
            if is_shown:
                with threads_of_torch(model):
                    of_test = evaluate_each(stacked, model, test_sets, each, loss)
                    for place in living:
                        test = (*of_test[place], parts[place])
                        metrics = measured(of_train[place], test, gradients[place], weights[place])
                        copies = {name: weight.to("cpu", copy=True) for name, weight in weights[place].items()}
                        last[place] = Snapshot(step, copies, metrics, updater.state(place), step in kept)
                yield {place: last[place] for place in living}
            if step < config.steps:
                with threads_of_torch(model):
                    updater.update(step, gradients)
                yield None


def measured(
    train: tuple[float, Bool[Tensor, " n"]],
    test: tuple[Float[Tensor, " m"], Bool[Tensor, " m"], Mapping[str, Bool[Tensor, " m"]]],
    gradient: Weights,
    weights: Weights,
) -> dict[str, float]:
    """METRICS of one step, from the training loss and answers, and the test losses, answers, and which of them belong
    to each part (`parts_of_test`); of held-out pairs too, where they are a part of their own.

    >>> right, weights = torch.tensor([True, False]), {"layer": torch.tensor([3.0, 4.0])}
    >>> of_test = torch.tensor([2.0, 4.0]), right, {"unmirrored_test": torch.tensor([True, False])}
    >>> found = measured((1.5, right), of_test, weights, weights)
    >>> found["test_loss"], found["unmirrored_test_loss"], found["train_accuracy"], found["weight_norm"]
    (3.0, 2.0, 0.5, 5.0)
    """
    (loss, correct), (test_losses, test_correct, parts) = train, test
    of_splits = {
        "train": (loss, mean(correct)),
        "test": (mean(test_losses), mean(test_correct)),
        **{part: (mean(test_losses[which]), mean(test_correct[which])) for part, which in parts.items()},
    }
    values = {f"{split}_loss": value for split, (value, _) in of_splits.items()}
    values |= {f"{split}_accuracy": value for split, (_, value) in of_splits.items()}
    values |= {"gradient_norm": _norm(gradient), "weight_norm": _norm(weights)}
    return {name: values.pop(name) for name in METRICS} | values


def check_device(device: str) -> None:
    """Raises InputError for a device that this machine, or this build of torch, does not have.

    >>> check_device("cpu")
    >>> check_device("gpu")
    Traceback (most recent call last):
        ...
    interp.errors.InputError: unknown device 'gpu'; known: cpu, cuda
    """
    if device not in ("cpu", "cuda"):
        # Nothing is near to "gpu" but what is not meant.
        raise InputError(f"unknown device {device!r}; known: cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no CUDA device here that torch can use; leave the device at cpu")


def _norm(weights: Weights) -> float:
    return math.sqrt(sum(weight.double().square().sum().item() for weight in weights.values()))
