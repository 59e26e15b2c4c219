"""Running experiments: training on one side, runs on disk on the other, with progress, interruption and exact
resume."""

import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor

from interp.errors import FullDiskError, InputError, unknown_name
from interp.experiment import Experiment
from interp.figures import as_size
from interp.machine import computed_ahead
from interp.models import BLOCK, DivergedError, Snapshot, check_weights, weight_shapes
from interp.printable import one_line
from interp.runs import (
    ON_GPU,
    ON_GPU_TF32,
    TOKEN_TABLES,
    Run,
    RunWriter,
    check_observations_before,
    is_observed,
    missing_in_words,
    missing_steps,
    noted_observations,
    open_run,
    remedy,
    weights_digest,
    write_observed,
)
from interp.training import (
    GRADIENTS,
    OBSERVERS,
    GradientSketch,
    Moment,
    Observer,
    check_device,
    check_observable,
    check_regularizable,
    observed_bytes,
    tables_are_faster,
    together,
)

# The state of training is saved this often, so a kill costs at most this much training, and saving it costs nothing
# that shows.
STATE_INTERVAL_SECONDS = 5.0
STATES_IN_NO_TIME = 16  # of so many networks; of more, every so much longer

Report = Callable[[Snapshot], None]


class InterruptedTrainingError(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or SIGTERM; the run is whole and can be resumed."""


class DivergedTrainingError(InputError):
    """The loss of a run is no longer finite: this is how it ends. The run keeps what came before."""


def size_on_disk(experiment: Experiment, observe: str | None = None) -> int:
    """About how many bytes the run's checkpoints will take, and what is observed; counted, not listed: a slip of the
    finger can ask for a thousand million."""
    training = experiment.training
    n_kept = 2 + training.steps // (training.checkpoint_every or training.steps + 1)
    n_kept += min(training.checkpoint_log or 0, training.steps) + len(training.checkpoint_steps)
    per_checkpoint = _weight_bytes(experiment) + 2048
    observed = observed_bytes(len(weight_shapes(experiment.model, experiment.task.sizes)), training.steps)
    # And the state, twice while it is replaced: weights, two moments, and what a filter remembers.
    checkpoints = per_checkpoint * (n_kept + 3 + 2 * training.filter.remembered)
    return checkpoints + (observed if observe is not None else 0)


def run_experiment(
    experiment: Experiment,
    out: str | Path,
    *,
    initial: Mapping[str, Tensor] | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    tf32: bool = False,
    observe: str | None = None,
    report: Report = lambda snapshot: None,
) -> Run:
    """Train into a new run in the folder `out`, on `device`, where a GPU rounds what it multiplies if `tf32`; `report`
    sees every snapshot after it was written. With `observe` "gradients" a sketch of every step's gradient is kept
    beside it (`interp.training.GradientSketch`), which changes no other bit of the run.

    Training starts from the weights drawn from model.seed, or from `initial`, whose digest run.json then notes. Raises
    InputError when the folder is taken, the disk too small or the loss no longer finite, and InterruptedTrainingError
    after Ctrl-C or SIGTERM; in the last two cases everything up to then is kept.
    """
    out = Path(out)
    check_device(device, tf32=tf32)
    check_regularizable(experiment.training, device)
    observers = observers_of(experiment, observe)
    check_observable(1, device, observers)
    check_room(out, experiment, observe=observe)
    if initial is not None:
        check_weights(initial, experiment.model, experiment.task.sizes, where="initial weights")
        # As they are trained and stored.
        initial = {name: weight.detach().to("cpu", torch.float32) for name, weight in initial.items()}
    with new_writer(
        experiment, out, initial=initial, overwrite=overwrite, device=device, tf32=tf32, observe=observe
    ) as writer:
        return _drive_one(writer, experiment, report, device, initial=initial, observers=observers)


def observers_of(experiment: Experiment, observe: str | None) -> list[Observer]:
    """The observers of a training by name. Raises InputError for another name, and for a training too long."""
    if observe is None:
        return []
    if observe not in OBSERVERS:
        raise unknown_name("what to observe", observe, OBSERVERS)
    shapes = weight_shapes(experiment.model, experiment.task.sizes)
    return [GradientSketch(shapes, experiment.training.steps)]


def new_writer(
    experiment: Experiment,
    out: Path,
    *,
    initial: Mapping[str, Tensor] | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    tf32: bool = False,
    observe: str | None = None,
) -> RunWriter:
    """The writer of a new run that is to be trained; run.json notes by which arithmetic, or resuming would not be
    exact, and what is observed."""
    noted = noted_observations(observe)
    if device != "cpu":
        noted |= {"arithmetic": ON_GPU_TF32 if tf32 else ON_GPU}
    elif tables_are_faster(experiment, device):
        noted |= {"arithmetic": TOKEN_TABLES}
    task, model, training = experiment.task, experiment.model, experiment.training
    return RunWriter.create(out, task, model, training, initial=initial, overwrite=overwrite, noted=noted)


def resume_run(
    path: str | Path, *, device: str = "cpu", force: bool = False, report: Report = lambda snapshot: None
) -> Run:
    """Go on with an interrupted run to its end; the result is the same, to the last bit, as without the interruption,
    where all of it is trained on the CPU.

    Raises InputError where there is nothing to go on with; so has a run that diverged, unless by `force`: the same
    steps end in the same divergence, but perhaps on another device.
    """
    check_device(device)
    with RunWriter.reopen(path) as writer:
        run = writer.run
        if "recorder" in run.info:
            raise InputError(
                f"{path} was recorded by a training loop of its own, which alone can go on with it: "
                "interp.Recorder(…, resume=True)"
            )
        experiment = run.experiment
        if experiment is None:
            raise InputError(f"{path} was not trained by interp, so there is nothing to resume")
        if run.is_complete:
            if "end" not in run.info:  # a kill came between the last line and the note that it is the last
                writer.finish()
            complete = f"{path} is complete: it has reached step {experiment.training.steps}"
            if missing := missing_steps(run):
                raise InputError(f"{complete}. But {missing_in_words(run, missing)}; {remedy(run)}")
            raise InputError(complete)
        if run.diverged_at is not None and not force:
            raise InputError(
                f"{path} diverged at step {run.diverged_at:,}, and the same steps lead there again; train a new run, "
                f"with a training.lr below {experiment.training.lr:g} (with --force it is trained again as it is)"
            )
        state = state_of(writer)
        check_observations_before(run, -1 if run.state_step is None else run.state_step)
        observers = observers_of(experiment, GRADIENTS if is_observed(run) else None)
        check_observable(1, device, observers)
        # The order in which threads add up is part of the result.
        torch.set_num_threads(int(run.info["host"]["threads"]))
        initial = _initial_weights(run) if state is None and "initial_weights" in run.info else None
        return _drive_one(writer, experiment, report, device, initial=initial, resume=state, observers=observers)


def state_of(writer: RunWriter) -> Snapshot | None:
    """What a run goes on from; None where no state was saved. Raises InputError where checkpoints before it are gone:
    only what lies beyond it is written again."""
    run = writer.run
    at = -1 if run.state_step is None else run.state_step
    if missing := [step for step in missing_steps(run) if step <= at]:
        raise InputError(f"{missing_in_words(run, missing)}; {remedy(run)}")
    return writer.load_state()


def arithmetic_of(run: Run) -> str | None:
    """By which arithmetic a run was begun, as it must go on. Raises InputError for one that a later version wrote
    down."""
    arithmetic = run.info.get("arithmetic")
    if arithmetic not in (None, TOKEN_TABLES, ON_GPU, ON_GPU_TF32):
        raise InputError(
            f"{run.path} was trained by {one_line(repr(arithmetic))}, which this version of interp does not know; "
            "go on with the version that began it"
        )
    return arithmetic


def _initial_weights(run: Run) -> Mapping[str, Tensor]:
    """The weights that a run was given to start from: those of its first checkpoint."""
    if 0 not in run.steps:
        raise InputError(
            f"{run.path} was stopped before the weights it was to start from were saved; train it anew, with "
            "--overwrite"
        )
    initial = open_run(run.path)[0].weights
    if (digest := weights_digest(initial)) != (noted := run.info["initial_weights"]):
        raise InputError(
            f"{run.path} began with weights of digest {noted}, and its checkpoint of step 0 has {digest}; it was "
            "altered"
        )
    return initial


def _drive_one(
    writer: RunWriter,
    experiment: Experiment,
    report: Report,
    device: str,
    *,
    initial: Mapping[str, Tensor] | None = None,
    resume: Snapshot | None = None,
    observers: Sequence[Observer] = (),
) -> Run:
    path = writer.run.path
    diverged = drive(
        [experiment],
        [writer],
        report,
        device,
        arithmetic=arithmetic_of(writer.run),
        initial=[initial] if initial is not None else None,
        resume=[resume] if resume is not None else None,
        observers=observers,
        at_the_end=f"its last step; {path} is complete",
        before=f"go on with: interp resume {path}",
    )
    for error in diverged.values():
        raise DivergedTrainingError(f"{error}; the checkpoints before it are in {path}")
    return writer.run


def drive(
    experiments: Sequence[Experiment],
    writers: Sequence[RunWriter],
    report: Report,
    device: str,
    *,
    arithmetic: str | None,
    at_the_end: str,
    before: str,
    initial: Sequence[Mapping[str, Tensor]] | None = None,
    resume: Sequence[Snapshot] | None = None,
    observers: Sequence[Observer] = (),
) -> dict[int, DivergedError]:
    """Train experiments that may train together (`interp.training.groups`), each into its run; `report` sees the mean
    of their metrics. Returns why which of them did not come to the end. On a GPU a run goes on in TF32 if it was begun
    so, and on a CPU by tables if it was.

    After Ctrl-C or SIGTERM every state is saved, and InterruptedTrainingError says `at_the_end` or `before`; on a full
    disk every one that there is room for, and the InputError ends in `before`.
    """
    n_steps, diverged = experiments[0].training.steps, dict[int, DivergedError]()
    # The states of many take as long to write as their checkpoints.
    interval = STATE_INTERVAL_SECONDS * max(1.0, len(experiments) / STATES_IN_NO_TIME)
    last = dict(enumerate(resume or ()))
    saved, saved_at = dict(last), time.monotonic()

    def save() -> None:
        for place, snapshot in last.items():
            if snapshot is not saved.get(place):
                writers[place].save_state(snapshot)
                saved[place] = snapshot

    tf32, by_tables = arithmetic == ON_GPU_TF32 and device != "cpu", arithmetic == TOKEN_TABLES
    how = {"device": device, "tf32": tf32, "by_tables": by_tables, "observers": observers}
    moments = together(experiments, initial=initial, resume=resume, **how)
    try:
        # Training goes on while a snapshot is written: a disk can take as long to answer as ten steps.
        with signals_interrupt(), computed_ahead(moments) as ready:
            for moment in ready:
                _write(moment, writers, last, diverged)
                shown = [snapshot for snapshot in moment.values() if isinstance(snapshot, Snapshot)]
                if shown:
                    if time.monotonic() - saved_at > interval or shown[0].step == n_steps:
                        save()
                        saved_at = time.monotonic()
                    if shown[0].step == n_steps:
                        for place in last:
                            writers[place].finish()
                    report(_mean(shown))
    except KeyboardInterrupt:
        save()
        for place, snapshot in last.items():  # it came between the last line and the note that it is the last
            if snapshot.step == n_steps and "end" not in writers[place].run.info:
                writers[place].finish()
        steps = {snapshot.step for snapshot in last.values()}
        if steps == {n_steps} and not diverged:
            raise InterruptedTrainingError(f"interrupted after {at_the_end}") from None
        at = f"at step {max(steps)}" if steps else "before its first checkpoint"
        raise InterruptedTrainingError(f"interrupted {at}; {before}") from None
    except InputError as error:
        if not str(error).startswith("cannot write"):
            raise
        with suppress(InputError):  # where there is still room for it
            save()
        raise InputError(f"{error}; {before}") from None
    return diverged


def _write(
    moment: Moment, writers: Sequence[RunWriter], last: dict[int, Snapshot], diverged: dict[int, DivergedError]
) -> None:
    for place, snapshot in moment.items():
        if isinstance(snapshot, DivergedError):
            write_observed(writers[place], _unfinished(last.get(place)))
            writers[place].log_divergence(snapshot.step)
            diverged[place] = snapshot
            last.pop(place, None)
        else:
            write_observed(writers[place], snapshot.observed)  # first: where there is a line, there is what led to it
            writers[place].write(snapshot)
            if snapshot.weights:  # on a GPU some have metrics alone
                last[place] = snapshot


def _unfinished(last: Snapshot | None) -> dict[str, dict[int, Tensor]]:
    """What observers had seen since their last block when training came to its end too early: up to its last line."""
    if last is None or (rows := last.state.get(f"observer|{GRADIENTS}")) is None:
        return {}
    return {GRADIENTS: {last.step - last.step % BLOCK: rows}}


def _mean(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Of one snapshot itself; of several the mean of every metric, for a person to watch."""
    if len(snapshots) == 1:
        return snapshots[0]
    metrics = {
        name: math.fsum(one.metrics[name] for one in snapshots) / len(snapshots) for name in snapshots[0].metrics
    }
    return Snapshot(snapshots[0].step, {}, metrics, {}, kept=False)


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM (a cluster's way to say stop) acts like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check_room(
    out: Path, experiment: Experiment, n_runs: int = 1, at_once: int | None = None, *, observe: str | None = None
) -> None:
    """Raises InputError, before anything is written, for what this machine cannot hold of so many runs, of which so
    many (all) are trained at once."""
    folder = next(parent for parent in (out, *out.absolute().parents) if os.path.exists(parent))
    if not os.path.isdir(folder):
        raise InputError(f"cannot write to {out}: {folder} is a file")
    needed, free = n_runs * size_on_disk(experiment, observe), shutil.disk_usage(folder).free
    if needed > free:
        raise FullDiskError(
            f"the checkpoints need about {as_size(needed)} and {folder} has {as_size(free)} left; "
            "raise training.checkpoint-every, or choose another --out"
        )
    needed, memory = (
        (at_once or n_runs) * _least_memory(experiment),
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )
    if needed > memory:
        raise InputError(
            f"training needs more than {as_size(needed)} of memory and this machine has {as_size(memory)}; "
            "use a smaller model"
        )
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise InputError(f"cannot write to {folder}: Permission denied")


def _least_memory(experiment: Experiment) -> int:
    """Bytes that training cannot do without: weights and gradient, what a filter remembers of gradients, and the
    neurons and float64 logits of a batch."""
    model, n_examples = experiment.model, experiment.training.batch_size or len(experiment.task.train_indices)
    n_weights = 2 + experiment.training.filter.remembered
    return n_weights * _weight_bytes(experiment) + n_examples * (4 * model.d_mlp + 8 * experiment.task.n_classes)


def _weight_bytes(experiment: Experiment) -> int:
    return 4 * sum(map(math.prod, weight_shapes(experiment.model, experiment.task.sizes).values()))
