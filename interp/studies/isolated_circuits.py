"""Both circuits of one checkpoint of every seed, isolated at several strengths, memory at several D
(`interp.studies.isolation`): one file per network, so that whoever is interrupted goes on."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from interp.analysis import keeper, load_result
from interp.experiment import Task, TrainingConfig, hash_of
from interp.machine import first_done, n_cores, refusals_as, worker_processes
from interp.runs import Checkpoint, Run, open_run
from interp.studies.circuit_efficiency import KINDS, correct_logit, trigonometric_fraction
from interp.studies.isolation import (
    LARGEST_OTHER,
    LARGEST_RANGE,
    held_profile,
    isolate,
    least_separation,
    memory_share,
    norm,
    separations,
    with_both_circuits,
)
from interp.sweeps import GridProgress, GridReport

NUMBERS = {
    "correct_logit": "mean centred logit of the label",
    "weight_norm": "L2 norm of all weights",
    "norm_range": "range of the norm over the last quarter, relative",
    "shortfall": "root of the loss: how far labels fall short of being ahead, relative",
    "accuracy": "accuracy on the pairs that it is to hold",
    "least_separation": "how far the label is ahead of the next class, over its logit",
    "other_share": "share of the label's logit that is of the other circuit; unknown where all pairs are held",
    "trigonometric_fraction": "norm of the logits in the trigonometric subspace / norm of the logits",
}


@dataclass(frozen=True)
class Isolated:
    """One network: which circuit, of how many pairs, how strong, out of which checkpoint, how far labels are to be
    ahead, and how it is trained."""

    name: str
    kind: str
    size: int
    strength: float
    run: Path
    run_hash: str
    step: int
    wanted: tuple[float, ...]
    config: TrainingConfig

    @property
    def key(self) -> str:
        """The same for what is the same network, wherever its run lies; `wanted` follows from the checkpoint."""
        return hash_of([self.kind, self.size, self.strength, self.run_hash, self.step, asdict(self.config)])

    def numbers(self) -> dict[str, float]:
        """Train it, and measure NUMBERS."""
        run = open_run(self.run)
        task = Task(run.task.p, train_pairs=self.size, seed=run.task.seed)
        start = run[self.step] if self.kind == "generalizing" else run[run.steps[0]]
        weights, loss, norm_range = isolate(start.weights, run.model, task, torch.tensor(self.wanted), self.config)
        found = Checkpoint.from_weights(weights, task, run.model)
        of_memory = memory_share(found)
        return {
            "correct_logit": correct_logit(found),
            "weight_norm": norm(weights),
            "norm_range": norm_range,
            "shortfall": math.sqrt(loss),
            "accuracy": float(found.correct[task.train_mask].mean()),
            "least_separation": least_separation(held_profile(found)),
            "other_share": of_memory if self.kind == "generalizing" else 1 - of_memory,
            "trigonometric_fraction": trigonometric_fraction(found),
        }


def nothing_isolated(sizes: Sequence[int], p: int, strengths: Sequence[float], n_seeds: int) -> xr.Dataset:
    """The numbers of networks that are not there: NaN, and not kept [kind, isolated_size, strength, seed];
    `checkpoint_step` [seed], `checkpoint_strength` and `checkpoint_separation` [kind, seed] of the checkpoints."""
    axes, rows = ("kind", "isolated_size", "strength", "seed"), [*sizes, p**2]
    shape = (len(KINDS), len(rows), len(strengths), n_seeds)
    data = {
        f"isolated_{name}": (axes, np.full(shape, np.nan), {"long_name": f"isolated: {words}", "units": "1"})
        for name, words in NUMBERS.items()
    }
    data["isolated_kept"] = (
        axes,
        np.zeros(shape, dtype=bool),
        {"long_name": "isolated: at rest, and of its kind", "units": "1"},
    )
    of_step = {"long_name": "step of the checkpoint with both circuits", "units": "updates"}
    of_strength = {"long_name": "mean logit of the label in that circuit of it", "units": "logits"}
    of_separation = {"long_name": "how far its label is ahead of the next class, over its logit", "units": "1"}
    return xr.Dataset(
        data
        | {
            "checkpoint_step": ("seed", np.full(n_seeds, np.nan), of_step),
            "checkpoint_strength": (("kind", "seed"), np.full((len(KINDS), n_seeds), np.nan), of_strength),
            "checkpoint_separation": (("kind", "seed"), np.full((len(KINDS), n_seeds), np.nan), of_separation),
        },
        coords={
            "isolated_size": (
                "isolated_size",
                np.array(rows, dtype=np.int32),
                {"long_name": "pairs held", "units": "pairs"},
            ),
            "strength": (
                "strength",
                np.array(strengths, dtype=np.float64),
                {"long_name": "strength s that is demanded", "units": "logits"},
            ),
        },
    )


def isolate_circuits(
    runs: Sequence[Run],
    sizes: Sequence[int],
    strengths: Sequence[float],
    config: TrainingConfig,
    folder: Path,
    *,
    processes: int | None = None,
    report: GridReport = lambda progress: None,
) -> xr.Dataset:
    """`nothing_isolated`, filled in: out of the checkpoint of each run (one per seed) in which both circuits are
    clearest, the circuit on all pairs and memory on the first D of the run's training pairs. NaN where a run has no
    such checkpoint.

    What this user trained and left in the folder is not trained again.
    """
    table = nothing_isolated(sizes, runs[0].task.p, strengths, len(runs))
    every = list[tuple[tuple[int, int, int, int], Isolated]]()
    for seed, run in enumerate(runs):
        if (found := with_both_circuits(run)) is not None:
            checkpoint, parts = found
            table.checkpoint_step[seed] = checkpoint.step
            table.checkpoint_strength[:, seed] = [float(parts.memory[0]), float(parts.circuit[0])]
            table.checkpoint_separation[:, seed] = [least_separation(parts.memory), least_separation(parts.circuit)]
            for row, (kind, part) in enumerate(zip(KINDS, (parts.memory, parts.circuit), strict=True)):
                held = range(len(sizes)) if kind == "memorizing" else [len(sizes)]
                for column in held:
                    size = int(table.isolated_size[column])
                    for place, strength in enumerate(strengths):
                        name = f"{kind}-D{size}-strength{strength:g}-seed{run.task.seed}"
                        wanted = tuple(separations(part, strength).tolist())
                        one = Isolated(name, kind, size, strength, run.path, run.hash, checkpoint.step, wanted, config)
                        every.append(((row, column, place, seed), one))
    found = _train([one for _, one in every], folder, processes, report)
    for index, one in every:
        numbers = found[one.name]
        for name, value in numbers.items():
            table[f"isolated_{name}"].values[index] = value
        table.isolated_kept.values[index] = _is_kept(numbers)
    return table


def _is_kept(of: Mapping[str, float]) -> bool:
    """Whether a network is at rest, holds its pairs, and is one circuit."""
    one_circuit = not of["other_share"] > LARGEST_OTHER
    return of["norm_range"] <= LARGEST_RANGE and of["accuracy"] == 1 and one_circuit


def _train(
    networks: Sequence[Isolated], folder: Path, processes: int | None, report: GridReport
) -> dict[str, dict[str, float]]:
    """The numbers of all of them by name; what is missing is trained, several at a time."""
    with refusals_as(f"cannot write to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    found = {one.name: there for one in networks if (there := _there(folder, one)) is not None}
    missing = [one for one in networks if one.name not in found]
    with keeper() as kept:
        for one, numbers in _as_they_end(missing, min(processes or n_cores(), len(missing))):
            found[one.name] = numbers
            kept.save(one.name, _place(folder, one), xr.Dataset(numbers, attrs={"identity": one.key}))
            counts = len(found), 0, (), len(networks), len(found), len(networks)
            report(GridProgress(f"isolated {one.name}", *counts))
    return found


def _as_they_end(missing: Sequence[Isolated], n_workers: int) -> Iterator[tuple[Isolated, dict[str, float]]]:
    with worker_processes(n_workers) if n_workers > 1 else nullcontext() as pool:
        if pool is None:
            yield from ((one, one.numbers()) for one in missing)
            return
        running = {pool.submit(Isolated.numbers, one): one for one in missing}
        while running:
            for future in first_done(running):
                one = running.pop(future)
                yield one, future.result()


def _there(folder: Path, one: Isolated) -> dict[str, float] | None:
    """The numbers of a network that was trained before, by this user: what somebody else wrote there is nothing."""
    kept = load_result(_place(folder, one), one.key)
    return None if kept is None or {*kept} != {*NUMBERS} else {str(name): float(value) for name, value in kept.items()}


def _place(folder: Path, one: Isolated) -> Path:
    """Every network has a file of its own, also those of another design."""
    return folder / f"{one.name}-{one.key[:6]}.nc"
