"""The sizes that the benchmarks share: the canonical ones, or smaller ones on which the tests run them."""

import argparse

from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig

CANONICAL = {"p": 113, "d-model": 128, "n-heads": 4, "d-mlp": 512}


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """One option for each size."""
    for name, value in CANONICAL.items():
        parser.add_argument(f"--{name}", type=int, default=value)


def sized(options: argparse.Namespace, **training: int) -> Experiment:
    """An experiment of these sizes."""
    model = ModelConfig(d_model=options.d_model, n_heads=options.n_heads, d_mlp=options.d_mlp)
    return Experiment(Task(p=options.p), model, TrainingConfig(**training))


def arguments(options: argparse.Namespace) -> list[str]:
    """The same options for another process."""
    return [text for name in CANONICAL for text in (f"--{name}", str(getattr(options, name.replace("-", "_"))))]
