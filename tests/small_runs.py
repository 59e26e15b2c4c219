"""A small run of every kind: trained to its end, stopped in the middle, thinned, imported, and recorded by somebody's
own loop."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import interp
from interp.interchange import export_run, import_run
from interp.runs import open_run, thin
from interp.sweeps import driver, run_experiment

Contents = dict[str, bytes]  # the files of a run


def trained(path: Path, stop_at: int | None = None, seed: int = 0) -> None:
    """A run of 20 steps, interrupted after a snapshot of step `stop_at`."""
    task = interp.Task(7, train_fraction=0.5, seed=seed)
    model = interp.ModelConfig(d_model=8, n_heads=2, d_mlp=8, seed=seed)
    training = interp.TrainingConfig(steps=20, checkpoint_every=5, log_every=2)

    def stop(snapshot: Any) -> None:
        if snapshot.step == stop_at:
            raise KeyboardInterrupt

    with contextlib.suppress(driver.InterruptedTrainingError):
        run_experiment(interp.Experiment(task, model, training), path, report=stop)


def finished(path: Path) -> None:
    trained(path)


def unfinished(path: Path) -> None:
    trained(path, stop_at=10)


def thinned(path: Path, seed: int = 0) -> None:
    trained(path, seed=seed)
    thin(open_run(path), keep_every=10)


def imported(path: Path) -> None:
    trained(path.with_name("source"))
    export_run(open_run(path.with_name("source")), "numpy", path.with_name("arrays"))
    import_run(path.with_name("arrays"), path, accept_unverified=True)


def module() -> torch.nn.Module:
    """A network of somebody's own, with the same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = torch.nn.Embedding(7, 4), torch.nn.Flatten(), torch.nn.Linear(8, 6), torch.nn.ReLU()
        return torch.nn.Sequential(*layers, torch.nn.Linear(6, 7))


def recorder(path: Path, net: torch.nn.Module, *, resume: bool = False, seed: int = 0) -> interp.Recorder:
    task = interp.Task(7, train_fraction=0.5, seed=seed)
    return interp.Recorder(
        path,
        task,
        net,
        neurons="3",
        embedding="0.weight",
        unembedding="4.weight",
        resume=resume,
    )


def recorded(path: Path, seed: int = 0) -> None:
    net = module()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    pairs = torch.cartesian_prod(torch.arange(7), torch.arange(7))
    with recorder(path, net, seed=seed) as kept:
        for step in range(21):
            if step % 5 == 0:
                kept.save(step, optimizer=optimizer, learning_rate=0.01)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(pairs), pairs.sum(1) % 7).backward()
            optimizer.step()


KINDS: dict[str, Callable[[Path], None]] = {
    "finished": finished,
    "unfinished": unfinished,
    "imported": imported,
    "recorded": recorded,
    "thinned": thinned,
}


def contents(path: Path) -> Contents:
    """All files of a run; of its lock there is nothing to damage."""
    files = (file for file in sorted(path.rglob("*")) if file.is_file() and file.name != ".lock")
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}
