"""The command that reads other people's checkpoints."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from interp.cli.commands.arguments import Positional
from interp.cli.output import MOST_OF_A_LIST, say, say_lines
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
    """Matters with two layers or more, and where another position than the last answers."""
    answer_at: int | None = None
    """The position that answers, from 0; -1 is the last."""
    prompt: str | None = None
    vocabularies: Vocabularies | None = None
    """two where b is token p + b."""
    activation: Activation | None = None
    inputs: Inputs | None = None


@dataclass(frozen=True)
class Import:
    """Turn checkpoints that were not written by interp into a run, prove by running them that they were read right, and
    say how.

    safetensors, .pt and .npz files (loaded without running any code in them), one, several, or a folder of steps."""

    sources: Annotated[
        Positional[tuple[str, ...]], tyro.conf.arg(metavar="SOURCE ...", help_behavior_hint="(required)")
    ]
    """Files of weights, or folders of them, or hf://OWNER/NAME[@REVISION][/FOLDER] on the Hugging Face Hub."""
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
    module: Annotated[str | None, tyro.conf.arg(metavar="FILE.py:NAME")] = None
    """Your own code, which is then run: the function, without arguments or with the configuration as its one, that
    gives the torch.nn.Module of these weights. What it answers to all pairs is kept."""
    module_tokens: str = "a b"
    """What the module reads, a template: "a b", "a + b =" (signs are the tokens p, p+1, …), "a 114 b 113", "a p+b"."""
    module_neurons: str | None = None
    """The submodule whose output the neurons are, after the nonlinearity (blocks.0.mlp.act)."""
    module_embedding: str | None = None
    """The matrix with a row or column for each residue, by name; NAME:rows or NAME:columns where it can be both."""
    module_unembedding: str | None = None
    """The matrix with a row or column for each class, likewise."""
    dry_run: bool = False
    """Only say what is recognized, guessed and proved, and print a mapping file; exits with 2 where nothing fits. With
    --module, what can be named in it."""
    write_mapping: Annotated[Path | None, tyro.conf.arg(metavar="FILE.toml")] = None
    """Write what was recognized, with every guess, as a mapping file."""
    accept_unverified: bool = False
    """Import also what cannot be proved."""
    overwrite: bool = False
    """Replace the run that is in the folder."""
    task: KnownTask = field(default_factory=KnownTask)
    model: KnownModel = field(default_factory=KnownModel)

    def run(self) -> int:
        from interp.errors import InputError
        from interp.interchange import describe_sources, import_run
        from interp.machine import write_atomically
        from interp.runs import describe

        if self.dry_run or self.write_mapping is not None:
            found = describe_sources(
                self.sources,
                self.steps,
                self.layout,
                self.mapping,
                task=_given(self.task),
                model=_given(self.model),
                configuration=self.config,
                say=_say,
                module=self.module,
            )
            if self.write_mapping is not None and self.module is not None:
                raise InputError("--write-mapping writes how a layout is read, and with --module their own code reads")
            if self.write_mapping is not None:
                write_atomically(self.write_mapping, found.mapping.encode())
            if self.dry_run or not found.fits:
                say_lines(found.text, most=MOST_OF_A_LIST)
                return 0 if found.fits else 2
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
            module=self.module,
            module_tokens=self.module_tokens,
            module_neurons=self.module_neurons,
            module_embedding=self.module_embedding,
            module_unembedding=self.module_unembedding,
            accept_unverified=self.accept_unverified,
            overwrite=self.overwrite,
            say=_say,
        )
        for line in describe(run):
            say(line)
        say(f"done: interp explain {self.out}")
        return 0


def _say(line: str) -> None:
    say(line, on_stderr=True)


def _given(fields: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(fields).items() if value is not None}
