"""The command that reads other people's checkpoints."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from interp.cli.commands.arguments import Positional
from interp.experiment import Activation, Inputs, Operation, Vocabularies


@dataclass(frozen=True)
class KnownTask:
    """What you know of the task; the rest is read off the tensors."""

    p: int | None = None
    """The modulus."""
    operation: Operation | None = None
    """By default the one that the network's answers fit."""


@dataclass(frozen=True)
class KnownModel:
    """What you know of the model; the rest is read off the tensors."""

    n_heads: int | None = None
    attention_rate: float | None = None
    """α of attention = α·softmax + (1 − α)·ones."""
    causal: bool | None = None
    """Matters with two layers or more."""
    prompt: str | None = None
    vocabularies: Vocabularies | None = None
    """two where b is token p + b."""
    activation: Activation | None = None
    inputs: Inputs | None = None


@dataclass(frozen=True)
class Import:
    """Turn checkpoints that were not written by interp into a run, prove by running them that they were read right, and
    say how.

    safetensors and .pt files (loaded without running any code in them), one, several, or a folder of steps."""

    sources: Annotated[
        Positional[tuple[Path, ...]], tyro.conf.arg(metavar="SOURCE ...", help_behavior_hint="(required)")
    ]
    """Files of weights, or folders of them."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """The folder of the run; only a dry run needs none."""
    split: str | None = None
    """The training pairs: torch-randperm:SEED, python-shuffle:SEED, file:PATH, none, or infer, from losses."""
    train_fraction: float | None = None
    """The share of pairs trained on."""
    steps: tuple[int, ...] = ()
    """The steps, in the order of the files; by default from their names or contents."""
    layout: str | None = None
    """The layout, where it is not to be recognized (docs/bring-your-own-checkpoints.md has them)."""
    mapping: Annotated[Path | None, tyro.conf.arg(metavar="FILE.toml")] = None
    """A layout of your own: foreign name → our name, with a pattern."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The authors' configuration, JSON or TOML; by default one beside the weights."""
    dry_run: bool = False
    """Only say what is recognized, and print a mapping file to fill in."""
    accept_unverified: bool = False
    """Import also what cannot be proved."""
    overwrite: bool = False
    """Replace the run that is in the folder."""
    task: KnownTask = field(default_factory=KnownTask)
    model: KnownModel = field(default_factory=KnownModel)

    def run(self) -> int:
        from interp.errors import InputError
        from interp.interchange import describe_sources, import_run
        from interp.runs import describe

        if self.dry_run:
            print(describe_sources(self.sources, self.steps, self.layout, self.mapping))
            return 0
        if self.out is None:
            raise InputError("interp import needs --out RUN (or --dry-run); see interp import --help")
        run = import_run(
            self.sources,
            self.out,
            task=_given(self.task),
            model=_given(self.model),
            split=self.split,
            train_fraction=self.train_fraction,
            steps=self.steps,
            layout=self.layout,
            mapping=self.mapping,
            configuration=self.config,
            accept_unverified=self.accept_unverified,
            overwrite=self.overwrite,
        )
        print("\n".join(describe(run)))
        print(f"done: interp explain {self.out}")
        return 0


def _given(fields: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(fields).items() if value is not None}
