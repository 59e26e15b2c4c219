"""From experiments to runs on disk: one, its seeds, a grid, a sweep."""

from interp.sweeps.axes import Sweep, sweep_from_toml
from interp.sweeps.driver import (
    InterruptedTrainingError,
    check_room,
    observers_of,
    resume_run,
    run_experiment,
    size_on_disk,
)
from interp.sweeps.estimate import Cost, cost_of
from interp.sweeps.executors import RayExecutor
from interp.sweeps.failures import Failure, read_failures
from interp.sweeps.grid import GridProgress, GridReport, run_grid
from interp.sweeps.grid_run import GridRun
from interp.sweeps.record import Keep, SweepRecord, begin_sweep, check_can_begin, read_sweep, what_is_left
from interp.sweeps.seeds import run_seeds
from interp.sweeps.sweeping import done_runs, sweep
from interp.sweeps.together import run_together

__all__ = [
    "Cost",
    "Failure",
    "GridProgress",
    "GridReport",
    "GridRun",
    "InterruptedTrainingError",
    "Keep",
    "RayExecutor",
    "Sweep",
    "SweepRecord",
    "begin_sweep",
    "check_can_begin",
    "check_room",
    "cost_of",
    "done_runs",
    "observers_of",
    "read_failures",
    "read_sweep",
    "resume_run",
    "run_experiment",
    "run_grid",
    "run_seeds",
    "run_together",
    "size_on_disk",
    "sweep",
    "sweep_from_toml",
    "what_is_left",
]
