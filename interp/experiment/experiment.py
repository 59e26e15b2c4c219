"""An experiment is a task, a model and a way of training: three frozen values with one stable hash. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interp.errors import InputError, unknown_name
from interp.experiment.examples import Examples
from interp.experiment.model import ModelConfig
from interp.experiment.recorded import SECTIONS, hash_of, recorded_section, section_from_dict
from interp.experiment.samples import Samples
from interp.experiment.several_operations import Operations
from interp.experiment.task import Task
from interp.experiment.toml_files import read_toml
from interp.experiment.training import TrainingConfig


@dataclass(frozen=True)
class Experiment:
    """Everything that determines a run.

    >>> experiment = Experiment(Task(p=43), training=TrainingConfig(steps=100))
    >>> experiment.task.title, experiment == Experiment(Task(p=43), training=TrainingConfig(steps=100))
    ('add modulo 43', True)
    """

    task: Examples = field(default_factory=Task)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        self._check_kinds()
        if self.model.is_recorded:
            raise InputError(
                "model.family 'module' is what was recorded of somebody's module; train it in its own loop "
                "(interp.Recorder keeps the run), or give model.family transformer or mlp"
            )
        if not self.task.split_known:
            raise InputError(
                "task.split is unknown: a run that is trained here needs its training pairs; give task.train-fraction"
            )
        if isinstance(self.task, Samples):
            self._check_reads_vectors()
        if isinstance(self.task, Operations):
            self.model.check_reads_operator()
        n_train = len(self.task.train_indices)
        batch_size = self.training.batch_size
        if batch_size is not None and batch_size > n_train:
            raise InputError(f"training.batch-size {batch_size} is larger than the training set of {n_train} pairs")
        self._check_one_pass(n_train)
        self._check_decayed_groups()

    def _check_kinds(self) -> None:
        """A model left out is the likeliest of mistakes."""
        kinds = {"task": Examples, "model": ModelConfig, "training": TrainingConfig}
        for name, kind in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                meant = next((other for other, one in kinds.items() if isinstance(value, one)), None)
                hint = f"; write {meant}=…" if meant else ""
                raise InputError(f"{name} cannot be a {type(value).__name__}{hint}")

    def _check_one_pass(self, n_train: int) -> None:
        training = self.training
        if not training.one_pass:
            return
        assert training.batch_size is not None
        needed = (training.steps + 1) * training.batch_size  # the weights after the last update are judged too
        if needed > n_train:
            more = "raise task.n-train" if isinstance(self.task, Samples) else "a table has no more than its pairs"
            raise InputError(
                f"training.one-pass of {training.steps:,} steps and one batch after them, of "
                f"{training.batch_size:,} examples each, needs {needed:,}, and there are {n_train:,} to train on: "
                f"lower training.steps or training.batch-size ({more})"
            )
        if getattr(self.task, "augmentation", "none") != "none":
            raise InputError(
                "training.one-pass sees every example once, and task.augmentation adds mirrors of what was seen; "
                "leave out one of the two"
            )

    def _check_decayed_groups(self) -> None:
        """A factor of weights that are not there would do nothing, and count as a difference between runs."""
        model, is_mlp = self.model, self.model.family == "mlp"
        is_bare = is_mlp and model.embedding == "none"
        is_tied = model.embedding == "tied" if is_mlp else model.tied
        has_last_gain = not is_mlp and model.norm.learned and model.norm.is_at("final")
        says_nothing = is_bare or (is_tied and not model.biases and not has_last_gain)
        missing = {"embedding": is_bare, "attention": is_mlp, "unembedding": says_nothing}
        for group, is_missing in missing.items():
            if is_missing and getattr(self.training.decay, group) != 1:
                raise InputError(
                    f"training.decay.{group} does nothing: this model has no weights of {group}; leave it at 1 (it is "
                    f"{getattr(self.training.decay, group):g})"
                )

    def _check_reads_vectors(self) -> None:
        for name, needed in {"family": "mlp", "embedding": "none", "inputs": "sum"}.items():
            if (value := getattr(self.model, name)) != needed:
                raise InputError(
                    f"task.kind 'samples' are vectors, and model.{name} {value!r} reads pairs of tokens; "
                    f"give model.{name} {needed!r}"
                )

    def to_dict(self) -> dict[str, Any]:
        """JSON values only; what is hashed, and what run.json has (`recorded_section`).

        >>> Experiment().to_dict()["task"]["p"], list(Experiment().to_dict())
        (113, ['task', 'model', 'training'])
        """
        return {name: recorded_section(getattr(self, name)) for name in SECTIONS}

    @property
    def hash(self) -> str:
        """16 hex digits of the SHA-256 of the sorted JSON of `to_dict`: the same for equal experiments, on any
        machine.

        >>> Experiment().hash
        '909d76fd9682baa3'
        """
        return hash_of(self.to_dict())


def experiment_from_dict(values: Mapping[str, Any], base: Experiment | None = None) -> Experiment:
    """An Experiment from nested mappings (a TOML file, run.json); what is not given is taken from `base` or the
    defaults.

    >>> experiment = experiment_from_dict({"task": {"p": 97}, "training": {"weight-decay": 2.0}})
    >>> experiment.task.p, experiment.training.weight_decay, experiment.model == ModelConfig()
    (97, 2.0, True)
    """
    for section, content in values.items():
        if section not in SECTIONS:
            raise unknown_name("section", section, SECTIONS)
        if not isinstance(content, Mapping):
            raise InputError(f"{section} must be a table of fields, got {content!r}")
    base = base or Experiment()
    return Experiment(**{name: section_from_dict(name, values.get(name, {}), getattr(base, name)) for name in SECTIONS})


def experiment_from_toml(path: Path, base: Experiment | None = None) -> Experiment:
    """An Experiment from a TOML file with the tables [task], [model] and [training].

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "mine.toml")
    ...     characters = path.write_text("task.p = 97")
    ...     experiment_from_toml(path).task.title
    'add modulo 97'
    """
    values = read_toml(path)
    try:
        return experiment_from_dict(values, base)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
