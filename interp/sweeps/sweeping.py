"""Training the runs of a sweep into a folder, which then says by itself what it is a sweep of."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from interp.experiment import Experiment, preset
from interp.runs import Run, open_run
from interp.sweeps.axes import Sweep
from interp.sweeps.grid import GridReport, run_grid
from interp.sweeps.grid_run import is_settled
from interp.sweeps.record import Keep, begin_sweep
from interp.training import check_device


def sweep(
    base: Experiment | str,
    axes: Mapping[str, Any],
    out: str | Path,
    *,
    keep: Keep | None = None,
    executor: Executor | None = None,
    processes: int | None = None,
    device: str = "cpu",
    report: GridReport = lambda progress: None,
) -> dict[str, Run]:
    """Train an experiment (or the preset of a name) at every combination of places on `axes` (`interp.sweeps.Sweep`)
    into `out`/KEY, and return the runs by key. `interp.collect(out)` makes one table of them.

    Stopped, the same call goes on; with more values, or more axes that contain what was there, it trains what is
    missing. `keep` says what is left of a run that is done: all checkpoints, those at its ends, or its metrics alone.
    A run that diverges or fails is noted (`interp.sweeps.read_failures`) and the others go on; of those that failed
    nothing is returned.

    Raises InputError for axes that cannot be, and for a folder that holds a sweep of which this one leaves something
    out; InterruptedTrainingError after Ctrl-C or SIGTERM.

    >>> import interp
    >>> from tempfile import TemporaryDirectory
    >>> small = interp.Experiment(interp.Task(7), interp.ModelConfig(d_model=8, d_mlp=8), interp.TrainingConfig(4))
    >>> with TemporaryDirectory() as folder:
    ...     runs = sweep(small, {"training.weight-decay": [0.3, 1.0], "seed": 2}, folder, processes=1)
    >>> [run.training.weight_decay for run in runs.values()]
    [0.3, 0.3, 1.0, 1.0]
    """
    if executor is None or device != "cuda":  # others may have what is not here
        check_device(device)
    varied = Sweep(preset(base) if isinstance(base, str) else base, axes)
    return run_grid(
        Path(out),
        varied.runs(),  # all of it can be, before anything is written
        executor=executor,
        processes=processes,
        keep=begin_sweep(Path(out), varied, keep),
        failures="record",
        device=device,
        report=report,
    )


def done_runs(names: Iterable[str], out: Path) -> set[str]:
    """Those of some runs that came to their end in a folder: complete, or diverged."""
    there = (name for name in names if (out / name / "run.json").exists())
    return {name for name in there if is_settled(open_run(out / name))}
