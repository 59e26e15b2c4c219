"""Training: experiments in, an iterator of snapshots out. It touches no file.

The snapshot of step s holds the weights after exactly s updates, and its metrics are computed from those same weights.
There is one loop: for one experiment, and for several side by side that differ in seeds and numbers.
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from interp.errors import InputError
from interp.experiment import Experiment, TrainingConfig
from interp.machine import keep_freed_memory
from interp.models import DivergedError, Snapshot, Weights, check_weights, initial_weights
from interp.training.groups import check_together
from interp.training.loss import tables_are_faster, worker_threads
from interp.training.observers import Observer, restore_observers, states_of
from interp.training.prequential import Prequential
from interp.training.side_by_side import AsOneBatch, OnCores, networks

# What a line adds to METRICS, of the steps after the line before it up to its own: the highest loss of a batch that an
# update was made from, and the first step that had it. A loss that is high between two lines shows here alone.
HIGHEST = ("train_loss_max", "train_loss_max_step")

# By the place of the experiment; one that diverged is told of once, and then no more.
Moment = dict[int, Snapshot | DivergedError]


def train(
    experiment: Experiment,
    initial: Mapping[str, Tensor] | None = None,
    *,
    resume: Snapshot | None = None,
    device: str = "cpu",
    tf32: bool = False,
    by_tables: bool | None = None,
    watch: Callable[[int, Weights], None] | None = None,
    observers: Sequence[Observer] = (),
) -> Iterator[Snapshot]:
    """Train, yielding a snapshot of every kept and every logged step; what a snapshot holds is always in the CPU's
    memory. `watch` is shown the weights of every step, which the next update overwrites, and `observers`
    (`interp.training.observers`) the gradient too, once a step, resumed or not; they change no bit of training.

    Starts from the weights drawn from model.seed, or from `initial`; or continues after `resume`, whose own step is not
    yielded again. With one seed, one thread count and one machine the result is the same to the last bit, resumed or
    not; by the factored form (`method`) with any thread count. That form is computed `by_tables` or not, which is the
    same but for rounding: by default where that is faster (`tables_are_faster`). On a GPU sums have a fixed order by
    the factored form alone, and another one beside other networks.

    Raises DivergedError when the loss stops being finite, and InputError for initial weights of another shape, for a
    device that is not there, and, before the first step, for a path: `interp.run` trains into a folder.

    >>> from interp.experiment import ModelConfig, Task, TrainingConfig
    >>> training = TrainingConfig(steps=5, checkpoint_every=5, log_every=1)
    >>> experiment = Experiment(Task(7), ModelConfig(d_model=16, n_heads=2, d_mlp=32), training)
    >>> snapshots = list(train(experiment))
    >>> [(snapshot.step, snapshot.kept) for snapshot in snapshots]
    [(0, True), (1, False), (2, False), (3, False), (4, False), (5, True)]
    >>> snapshots[5].metrics["train_loss"] < snapshots[0].metrics["train_loss"]
    True
    """
    if isinstance(experiment, str):
        raise InputError(f"expected an Experiment, got {experiment!r}: interp.preset({experiment!r}) makes one")
    if isinstance(initial, str | Path):
        raise InputError(
            f"training starts from weights by name, and {str(initial)!r} is a path, which is none: "
            f"interp.run(experiment, {str(initial)!r}) trains into a folder, and this keeps nothing"
        )
    return _trained(
        experiment,
        initial,
        resume=resume,
        device=device,
        tf32=tf32,
        by_tables=by_tables,
        watch=watch,
        observers=observers,
    )


def _trained(
    experiment: Experiment,
    initial: Mapping[str, Tensor] | None,
    *,
    resume: Snapshot | None,
    device: str,
    tf32: bool,
    by_tables: bool | None,
    watch: Callable[[int, Weights], None] | None,
    observers: Sequence[Observer],
) -> Iterator[Snapshot]:
    own, after = None if initial is None else [initial], None if resume is None else [resume]
    watch_all = None if watch is None else lambda step, weights: watch(step, weights[0])
    for moment in together(
        [experiment],
        initial=own,
        resume=after,
        device=device,
        tf32=tf32,
        by_tables=by_tables,
        watch=watch_all,
        observers=observers,
    ):
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
    tf32: bool = False,
    by_tables: bool | None = None,
    watch: Callable[[int, Sequence[Weights]], None] | None = None,
    observers: Sequence[Observer] = (),
) -> Generator[Moment | None]:
    """`train` for experiments that differ in seeds and numbers alone (`interp.training.groups`), side by side: the
    snapshots of a step, by the place of their experiment, and None after every update, so that whoever drives it can
    stop there.

    `initial` has weights for each of them, and `resume` a snapshot of one step for each. One whose loss is no longer
    finite leaves with its DivergedError, and the others go on. On a CPU each has a core and is the same to the last bit
    as alone (a model without the factored form: as alone with one thread). On a GPU all are one batch, each the same as
    alone up to rounding; there the products are of float32, or with `tf32` of inputs rounded to TF32, and of several
    the snapshots of steps that are not kept have metrics, and no weights. `observers` see one network on a CPU; raises
    InputError for more, and for a GPU.

    >>> from interp.experiment import ModelConfig, Task, TrainingConfig
    >>> rates = [TrainingConfig(steps=5, lr=lr) for lr in (0.01, 0.02)]
    >>> both = [Experiment(Task(7), ModelConfig(d_model=16, n_heads=2, d_mlp=32), training) for training in rates]
    >>> moments = [moment for moment in together(both) if moment is not None]
    >>> [(place, snapshot.step) for moment in moments for place, snapshot in moment.items()]
    [(0, 0), (1, 0), (0, 5), (1, 5)]
    """
    check_device(device, tf32=tf32)
    check_together(experiments)
    check_observable(len(experiments), device, observers)
    check_regularizable(experiments[0].training, device)
    keep_freed_memory()
    tabled = tables_are_faster(experiments[0], device) if by_tables is None else by_tables and device == "cpu"
    model, config, sizes = experiments[0].model, experiments[0].training, experiments[0].task.sizes
    starts = initial if initial is not None else [initial_weights(one.model, sizes) for one in experiments]
    if resume is not None:
        starts = [one.weights for one in resume]
    for start in starts:
        check_weights(start, model, sizes, where="initial weights")
    kept, first = set(config.kept_steps()), resume[0].step if resume is not None else 0
    living, last = list(range(len(experiments))), dict(enumerate(resume or ()))
    online = Prequential(len(experiments), is_used=config.one_pass)
    between = _BetweenLines(len(experiments), observers, online)
    with worker_threads() as each:
        trained = networks(experiments, starts, device, each, tf32=tf32, by_tables=tabled)
        if resume is not None:
            states = online.restore([restore_observers(observers, one.state) for one in resume])
            trained.restore(states, first)
        for step in range(first, config.steps + 1):
            # Its line is written already, and with it what led up to it.
            is_told = resume is not None and step == first
            is_shown = (step in kept or step % config.log_every == 0) and not is_told
            with trained.arithmetic():
                losses = trained.losses(step)
                of_train = trained.train_losses() if is_shown else losses
            lost = [place for place in living if not math.isfinite(losses[place] + of_train[place])]
            if lost:
                yield {place: DivergedError(step, last.get(place)) for place in lost}
                living = [place for place in living if place not in lost]
            if not living:
                return
            if watch is not None:
                watch(step, trained.weights)
            if not is_told:
                between.see(step, losses, trained)
            if is_shown:
                with trained.arithmetic():
                    metrics = trained.metrics()
                    # Of a thousand networks it takes longer to bring all weights and moments here than to train a step.
                    is_whole = step in kept or len(experiments) == 1 or isinstance(trained, OnCores)
                    copies = trained.copies() if is_whole else [({}, {})] * len(experiments)
                for place in living:
                    weights, state = copies[place]
                    told = metrics[place] | between.of_line(place)
                    state = state | states_of(observers) | online.state(place)
                    last[place] = Snapshot(step, weights, told, state, step in kept, between.observed())
                between.begin()
                yield {place: last[place] for place in living}
            if step < config.steps:
                with trained.arithmetic():
                    trained.update(step)
                yield None


class _BetweenLines:
    """What is seen of every step, also of those between two logged lines: the highest loss of every network since the
    last line, of one pass the losses before the updates, and what observers keep of the one that they see."""

    def __init__(self, n_networks: int, observers: Sequence[Observer], online: Prequential) -> None:
        self._n_networks, self._observers, self._online = n_networks, observers, online
        self.begin()

    def begin(self) -> None:
        """A line is written."""
        self._highest: list[tuple[float, int]] = [(-math.inf, -1)] * self._n_networks  # a loss, and its step
        self._online.begin()

    def see(self, step: int, losses: Sequence[float], trained: OnCores | AsOneBatch) -> None:
        self._online.see(step, losses)
        for place, loss in enumerate(losses):
            if loss > self._highest[place][0]:
                self._highest[place] = loss, step
        if isinstance(trained, OnCores):
            for one in self._observers:
                one.see(step, trained.gradients[0], trained.weights[0])

    def of_line(self, place: int) -> dict[str, float]:
        """HIGHEST of a network, and of one pass ONLINE."""
        return dict(zip(HIGHEST, map(float, self._highest[place]), strict=True)) | self._online.metrics(place)

    def observed(self) -> dict[str, dict[int, Tensor]]:
        """What every observer has completed."""
        return {one.name: one.finished() for one in self._observers}


def check_observable(n_networks: int, device: str, observers: Sequence[object]) -> None:
    """Raises InputError where observers are to see what they cannot: several networks side by side, or a GPU.

    >>> check_observable(3, "cpu", [])
    >>> check_observable(3, "cpu", ["gradients"])
    Traceback (most recent call last):
        ...
    interp.errors.InputError: the gradients of one network are observed, and 3 are trained side by side; \
train them one by one, or leave out --observe
    """
    if observers and n_networks > 1:
        raise InputError(
            f"the gradients of one network are observed, and {n_networks} are trained side by side; train them one by "
            "one, or leave out --observe"
        )
    if observers and device != "cpu":
        raise InputError(
            f"gradients are observed on the cpu, and the device is {device}; leave out one of --observe and --device"
        )


def check_regularizable(config: TrainingConfig, device: str) -> None:
    """Raises InputError where regularizers, or weight decays by group, are asked for on a GPU.

    >>> check_regularizable(TrainingConfig(), "cuda")
    """
    if device != "cpu" and (config.regularizers.is_used or config.decay.is_used):
        asked = "training.regularizers" if config.regularizers.is_used else "training.decay"
        raise InputError(f"{asked} is computed on the cpu, and the device is {device}; leave out one of the two")


def check_device(device: str, *, tf32: bool = False) -> None:
    """Raises InputError for a device that this machine, or this build of torch, does not have, and for `tf32` on one
    that is no GPU.

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
    if tf32 and device == "cpu":
        raise InputError(
            "TF32 is how a GPU can multiply, and the device here is cpu; leave out tf32, or give device cuda"
        )
