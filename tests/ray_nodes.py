"""Train grids on a Ray cluster of several nodes on this machine, of which again and again one is killed and another
joins: every run is there once, and has the bytes of one that was trained in peace.

    python -m tests.ray_nodes --kills 10

In turns over a disk that all share and with runs that are sent back. A node is killed with all its processes, without
a word, in the middle of a run, at a random moment after another run came to its end; then another node joins. At first
a grid is interrupted as by Ctrl-C, and goes on. Whatever is wrong ends the script with 1.
"""

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."

import psutil
import ray
from ray.cluster_utils import Cluster

from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.runs import open_run
from interp.sweeps import GridProgress, GridRun, InterruptedTrainingError, read_failures, run_grid
from interp.sweeps.executors import RayExecutor
from interp.sweeps.grid_run import train_in_place
from interp.sweeps.sending import trained_elsewhere

TASKS = (train_in_place, trained_elsewhere)
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20}  # bytes; Ray takes no less


def grid(n_runs: int, steps: int) -> list[GridRun]:
    """Small runs, of which the last starts from the first."""
    training = TrainingConfig(steps=steps, checkpoint_every=steps // 4, log_every=steps // 8)
    base = Experiment(Task(p=7, train_fraction=0.5), ModelConfig(d_model=8, n_heads=2, d_mlp=8), training)
    seeds = [replace(base, task=replace(base.task, seed=seed)) for seed in range(n_runs)]
    return [GridRun(f"seed{at}", one, "seed0" if at == n_runs - 1 else None) for at, one in enumerate(seeds)]


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder of runs, but locks, and what says when and where a run was made."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("run.json", ".lock"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class Nodes:
    """A cluster: a head that runs nothing, and nodes with one processor each."""

    def __init__(self, n: int) -> None:
        head = {**NODE, "num_cpus": 0, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.living = []
        for _ in range(n):
            self.add()
        ray.init(address=self.cluster.address, log_to_driver=False, logging_level="ERROR")

    def kill(self) -> bool:
        """Kill a node on which a run is trained at this moment, if there is one, with all its processes at once: its
        workers would live on until they notice, and could end their runs meanwhile."""
        busy = next((node for node in self.living if any(map(_trains, _processes(node)))), None)
        if busy is None:
            return False
        processes = _processes(busy)
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.suspend()
        self.living.remove(busy)
        self.cluster.remove_node(busy, allow_graceful=False)
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        return True

    def add(self) -> None:
        """Ray gives a node thirty seconds to begin, and beside other work that can be too few: then another one."""
        for tries_left in (2, 1, 0):
            try:
                self.living.append(self.cluster.add_node(**NODE))
                return
            except Exception:
                if not tries_left:
                    raise

    def close(self) -> None:
        ray.shutdown()
        self.cluster.shutdown()


def _processes(node: Any) -> list[psutil.Process]:
    (raylet,) = node.all_processes["raylet"]
    return psutil.Process(raylet.process.pid).children()


def _trains(process: psutil.Process) -> bool:
    """Whether a process trains a run: Ray gives it the name of its task as a title meanwhile."""
    with contextlib.suppress(psutil.Error):
        return any(task.__name__ in title for title in process.cmdline()[:1] for task in TASKS)
    return False


def killed_grid(
    nodes: Nodes, folder: Path, runs: list[GridRun], moments: list[tuple[int, float]], *, shared_disk: bool
) -> tuple[Counter[str], int]:
    """Train a grid and kill a node so many seconds after so many runs are done, or when next a node trains, for each of
    the moments; how often each run was begun, and how many nodes were killed."""
    begun, waiting = Counter[str](), sorted(moments)

    def report(progress: GridProgress) -> None:
        if progress.name in progress.running:
            begun[progress.name] += 1
        elif waiting and progress.done >= waiting[0][0]:
            time.sleep(waiting[0][1])
            if nodes.kill():
                waiting.pop(0)
                nodes.add()

    with RayExecutor(shared_disk=shared_disk) as executor:
        run_grid(folder, runs, executor=executor, failures="record", tries=20, report=report)
    return begun, len(moments) - len(waiting)


def interrupted_grid(folder: Path, runs: list[GridRun]) -> list[str]:
    """Interrupt a grid after its first run; what is wrong with the others then."""

    def report(progress: GridProgress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    with contextlib.suppress(InterruptedTrainingError), RayExecutor() as executor:
        run_grid(folder, runs, executor=executor, report=report)
        return ["a grid was not interrupted"]
    unfinished = [open_run(path.parent) for path in folder.glob("unfinished/*/run.json")]
    found = [f"{run.path.name} has no state" for run in unfinished if run.steps and run.state_step is None]
    for run in unfinished:
        with run.folder() as held:
            found += [f"{run.path.name} is still being written"] * held.is_locked()
    return found


def faults(folder: Path, runs: list[GridRun], expected: dict[str, bytes]) -> list[str]:
    """What is wrong with a grid at its end."""
    there, names = {path.name for path in folder.iterdir()} - {".lock"}, {run.name for run in runs}
    found = [f"{name} is {'missing' if name in names else 'too much'}" for name in sorted(there ^ names)]
    found += [str(failure) for failure in read_failures(folder).values()]
    now = contents(folder)
    return found + [f"{name} differs" for name in sorted(now.keys() | expected) if now.get(name) != expected.get(name)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=10, help="how many nodes are killed (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--runs", type=int, default=8, help="of a grid, for a kill each four (default: 8)")
    parser.add_argument("--steps", type=int, default=4000, help="of a run (default: 4000)")
    parser.add_argument("--short", action="store_true", help="without the interrupted grid: what the suite does")
    options = parser.parse_args()
    chance, done, again, began = random.Random(options.seed), 0, 0, time.monotonic()
    runs, nodes, found = grid(options.runs, options.steps), Nodes(2), list[str]()
    with tempfile.TemporaryDirectory() as temporary:
        run_grid(Path(temporary, "peace"), runs, processes=1 if options.short else 2)
        expected = contents(Path(temporary, "peace"))
        if not options.short:
            cut = Path(temporary, "cut")
            found += interrupted_grid(cut, runs)
            with RayExecutor() as executor:
                run_grid(cut, runs, executor=executor)
            found += faults(cut, runs, expected)
            print(f"interrupted and gone on: {'; '.join(found) or 'as in peace'}", flush=True)
        for number in count():
            shared_disk = number % 2 == 0
            moments = [(after, chance.uniform(0, options.steps / 5000)) for after in range(1, options.runs - 2, 4)]
            folder = Path(temporary, f"killed-{number}")
            begun, n_killed = killed_grid(nodes, folder, runs, moments, shared_disk=shared_disk)
            done, n_again = done + n_killed, begun.total() - len(runs)
            again += n_again
            wrong = faults(folder, runs, expected)
            found += wrong
            way = "a shared disk" if shared_disk else "runs sent back"
            told = "; ".join(wrong) or f"{len(runs)} runs once each, bytes as in peace"
            print(f"{done:3} nodes killed  {way:<14}  {n_again} runs begun again: {told}", flush=True)
            if done >= options.kills and not shared_disk:
                break
    nodes.close()
    print(f"{done} nodes killed in {time.monotonic() - began:.0f} s, {again} runs begun again, {len(found)} faults")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
