"""The commands about sweeps."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from interp.cli.commands.arguments import Positional
from interp.cli.commands.costs import cost_in_words
from interp.cli.output import MOST_OF_A_LIST, say, say_lines
from interp.errors import InputError

if TYPE_CHECKING:
    from interp.runs import Run
    from interp.sweeps import GridReport, Keep, Sweep


@dataclass(frozen=True)
class SweepAxes:
    """Train a network at every combination of values of some of its fields.

    GRID.toml has a preset (by default quick), tables [task], [model] and [training] of what differs from it, and
    [axes]: "training.weight-decay" = [0.3, 1.0], seed = 5 (seeds 0 … 4), or under a name of your own a list of tables
    with a name each, whose fields are set together. Stopped, the same command goes on; with more values it adds
    runs."""

    grid: Annotated[Positional[Path], tyro.conf.arg(metavar="GRID.toml")]
    """What is varied, and along which axes."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """The folder of the runs."""
    dry_run: bool = False
    """Train nothing; say how many runs, hours and gigabytes it would be."""
    keep: Literal["all", "ends", "metrics"] | None = None
    """What is left of a run that is done: all checkpoints (the default), the first and the last, or metrics alone."""
    processes: int | None = None
    """How many networks to train at a time, one thread each; by default one per core."""
    device: str = "cpu"
    """Where to train: cpu, or cuda."""
    ray: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[ADDRESS]")] = None
    """Train on a Ray cluster (extra `ray`): the one at this address (HOST:PORT), or that of this machine; a CPU for
    each network, and with --device cuda a GPU."""
    shared_disk: bool = True
    """With --ray: every machine of the cluster sees DIR under its path. Without, runs are sent back when done."""

    def run(self) -> int:
        from interp.cli.sweep_progress import sweep_progress
        from interp.figures import as_count
        from interp.sweeps import check_can_begin, cost_of, done_runs, sweep_from_toml
        from interp.training import check_device

        if self.processes is not None and self.processes < 1:
            raise InputError(f"processes must be at least 1, got {self.processes}")
        if self.ray is not None and (self.processes is not None or len(self.ray) > 1):
            other = "--processes is of this machine" if len(self.ray) < 2 else f"got {' '.join(self.ray)}"
            raise InputError(f"--ray takes one address, or none for the cluster of this machine; {other}")
        if self.ray is None or self.dry_run or self.device != "cuda":  # the cluster may have what is not here
            check_device(self.device)
        sweep = sweep_from_toml(self.grid)
        keep = check_can_begin(self.out, sweep, self.keep)
        runs, done = sweep.runs(), done_runs(sweep.coordinates, self.out)
        lengths = " × ".join(f"{axis} {len(points)}" for axis, points in sweep.points.items())
        headline = f"{as_count(len(runs), 'run')} ({lengths}) in {self.out}, {len(done):,} of them done"
        if self.dry_run:
            say(headline)
            for line in cost_in_words(
                cost_of(runs, done, keep, self.processes, self.device),
                keep,
                self.device,
                on_cluster=self.ray is not None,
            ):
                say(line)
            return 0
        with sweep_progress(headline) as report:
            found = self._trained(sweep, keep, report)
        for line in _what_came_out(self.out, found, len(runs)):
            say(line)
        several = sum(len(points) > 1 for axis, points in sweep.points.items() if axis != "seed")
        figures = ["curves"] + ["phases"] * (several > 1)
        say(f"next: {', '.join(f'interp plot {self.out} {name}' for name in figures)}, interp collect {self.out}")
        return 0

    def _trained(self, sweep: "Sweep", keep: "Keep", report: "GridReport") -> dict[str, "Run"]:
        from interp.sweeps import RayExecutor, begin_sweep, run_grid

        begin_sweep(self.out, sweep, keep)
        how = {"keep": keep, "failures": "record", "device": self.device, "report": report}
        train = partial(run_grid, self.out, sweep.runs(), **how)
        if self.ray is None:
            return train(processes=self.processes)
        gpus = 1 if self.device.startswith("cuda") else 0
        with RayExecutor(next(iter(self.ray), None), gpus=gpus, shared_disk=self.shared_disk) as cluster:
            return train(executor=cluster)


@dataclass(frozen=True)
class Collect:
    """One table over the runs of a sweep, or of any folder: a row for each, with its place on the axes, its verdict,
    when it memorized and generalized, and its last metrics. As csv on the screen, where no file is named."""

    folder: Annotated[Positional[Path], tyro.conf.arg(metavar="DIR")]
    """The folder of the runs."""
    names: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="[NAME ...]")] = ()
    """Analyses (`interp analyses`) whose summaries follow; they are computed where they are missing."""
    csv: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the table into this file."""
    netcdf: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write an array for every column, over the axes, and every learning curve, into this file, for xarray."""

    def run(self) -> int:
        from interp.cli.progress import walk
        from interp.machine import write_atomically
        from interp.studies import collect

        table = collect(self.folder, self.names, curves=self.netcdf is not None, progress=partial(walk, what="runs"))
        frame = table.drop_dims("step", errors="ignore").to_dataframe().reset_index()
        content = frame.to_csv(index=False, lineterminator="\n")
        if self.csv is not None:
            write_atomically(self.csv, content.encode())
            say(self.csv)
        if self.netcdf is not None:
            write_atomically(self.netcdf, bytes(table.to_netcdf(engine="scipy")))
            say(self.netcdf)
        if self.csv is None and self.netcdf is None:
            say_lines(content.rstrip("\n"), most=MOST_OF_A_LIST)
        return 0


def _what_came_out(out: Path, found: Mapping[str, "Run"], n_runs: int) -> Iterator[str]:
    """How many had which verdict, diverged and failed; and why the first of those that failed did."""
    from interp.mathematics.grokking import VERDICTS
    from interp.runs import ending_of
    from interp.sweeps import read_failures

    endings = [ending_of(run) for run in found.values()]
    counts = Counter(one.verdict for one in endings)
    told = [f"{counts[verdict]:,} {verdict}" for verdict in (*VERDICTS, "diverged") if counts[verdict]]
    failures = [one for name, one in read_failures(out).items() if not one.diverged and name not in found]
    told += [f"{n_runs - len(endings):,} failed"] if n_runs > len(endings) else []
    yield f"{n_runs:,} runs: {', '.join(told)}"
    if failures:
        yield f"failed, and tried again by the same command: {failures[0]}" + (
            f" (and {len(failures) - 1:,} more: {out / 'failures.jsonl'})" if len(failures) > 1 else ""
        )
