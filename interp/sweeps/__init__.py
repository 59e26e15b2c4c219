"""From experiments to runs on disk: one, its seeds, a grid, a sweep."""

from interp.sweeps.driver import (
    InterruptedTrainingError,
    check_room,
    megabytes,
    resume_run,
    run_experiment,
    size_on_disk,
)
from interp.sweeps.grid import GridProgress, GridReport, GridRun, run_grid
from interp.sweeps.seeds import run_seeds
from interp.sweeps.sweep import Sweep

__all__ = [
    "GridProgress",
    "GridReport",
    "GridRun",
    "InterruptedTrainingError",
    "Sweep",
    "check_room",
    "megabytes",
    "resume_run",
    "run_experiment",
    "run_grid",
    "run_seeds",
    "size_on_disk",
]
