"""An experiment is a task, a model and a way of training: three frozen values with one stable hash. No torch here."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from interp.errors import InputError, check_choice, check_integer, check_number, unknown_name
from interp.experiment.task import Task

Family = Literal["transformer", "mlp"]
Activation = Literal["relu", "gelu", "square"]
Prompt = Literal["ab=", "ab"]
Vocabularies = Literal["one", "two"]
Inputs = Literal["sum", "concatenated"]
Embedding = Literal["none", "untied", "tied"]
Optimizer = Literal["adamw", "adam", "sgd"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Either a transformer without LayerNorm that reads the tokens of `prompt` and answers at the last position, or an
    MLP with one hidden layer and no biases (`interp.models.mlp`). `seed` draws the initial weights.

    Of the transformer alone: `d_head` is d_model / n_heads when not given; `attention_rate` α mixes attention with
    uniform weights of one: attention = α·softmax + (1 − α)·ones (Zhong et al. 2023, arXiv:2306.17844, §4). With two
    `vocabularies` b is token p + b (the authors' code has that option), with one it is token b, as a is token a.

    Of the MLP alone: what it reads, the `inputs`, is the sum of the vectors of a and b, or the two side by side. A
    vector is one-hot without `embedding`, and otherwise a row of W_E (of `d_model` entries); the neurons then answer
    through W_U, or, tied, through W_Eᵀ.
    """

    family: Family = "transformer"
    n_layers: int = 1
    d_model: int = 128
    n_heads: int = 4
    d_head: int | None = None
    d_mlp: int = 512
    activation: Activation = "relu"
    prompt: Prompt = "ab="
    causal: bool = True
    attention_rate: float = 1.0
    vocabularies: Vocabularies = "one"
    inputs: Inputs = "sum"
    embedding: Embedding = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("model.family", self.family, get_args(Family))
        for name, maximum in {"n_layers": 1000, "d_model": 1_000_000, "n_heads": 1_000_000, "d_mlp": 1_000_000}.items():
            check_integer(f"model.{flag(name)}", getattr(self, name), 1, maximum)
        check_choice("model.activation", self.activation, get_args(Activation))
        check_choice("model.prompt", self.prompt, get_args(Prompt))
        check_choice("model.vocabularies", self.vocabularies, get_args(Vocabularies))
        check_choice("model.inputs", self.inputs, get_args(Inputs))
        check_choice("model.embedding", self.embedding, get_args(Embedding))
        check_number("model.attention-rate", self.attention_rate, 0, 1)
        check_integer("model.seed", self.seed, 0, 2**32 - 1)
        if self.d_head is not None:
            check_integer("model.d-head", self.d_head, 1, 1_000_000)
        for name in FIELDS_OF_OTHERS[self.family]:
            if (value := getattr(self, name)) != (default := type(self).__dataclass_fields__[name].default):
                raise InputError(
                    f"model.family {self.family!r} has no model.{flag(name)}; leave it at {default!r} (it is {value!r})"
                )
        if self.family == "mlp" and self.embedding == "none" and self.d_model != ModelConfig.d_model:
            raise InputError(
                "model.d-model is the size of the embedding, and there is none; give model.embedding or leave "
                f"it at {ModelConfig.d_model}"
            )
        if self.family == "transformer" and self.d_head is None and self.d_model % self.n_heads:
            raise InputError(
                f"model.d-model {self.d_model} is not a multiple of model.n-heads {self.n_heads}; give model.d-head"
            )

    @property
    def head_size(self) -> int:
        return self.d_head if self.d_head is not None else self.d_model // self.n_heads

    @property
    def n_ctx(self) -> int:
        return len(self.prompt)

    def first_token_of_b(self, p: int) -> int:
        """The token of b = 0: p where b has a vocabulary of its own, and otherwise 0, which it shares with a."""
        return p if self.vocabularies == "two" else 0


# The fields that say nothing about a family, and are refused there.
FIELDS_OF_OTHERS = {
    "transformer": ("inputs", "embedding"),
    "mlp": ("n_layers", "n_heads", "d_head", "prompt", "causal", "attention_rate", "vocabularies"),
}

# Not written at their default, so that the experiments that there were before them keep their hashes.
LATER_FIELDS = ("vocabularies",)


@dataclass(frozen=True)
class TrainingConfig:
    """How the weights are updated, and which steps are kept.

    One step is one optimizer update; `batch_size` is the whole training set when not given. Update number s (from 0)
    uses the learning rate lr·min((s+1)/warmup, 1). `weight_decay` is decoupled for "adamw" and an L2 term of the
    gradient for "adam" and "sgd"; `betas` and `eps` belong to the Adams, `momentum` to "sgd". Checkpoints are kept at
    step 0, at the last step, every `checkpoint_every` steps, at `checkpoint_log` steps spaced evenly in log(step), and
    at `checkpoint_steps`. `seed` orders the mini-batches.
    """

    steps: int = 2000
    optimizer: Optimizer = "adamw"
    lr: float = 1e-2
    weight_decay: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    momentum: float = 0.9
    warmup: int = 10
    batch_size: int | None = None
    checkpoint_every: int | None = 10
    checkpoint_log: int | None = None
    checkpoint_steps: tuple[int, ...] = ()
    log_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("training.steps", self.steps, 0, 999_999_999)
        check_choice("training.optimizer", self.optimizer, get_args(Optimizer))
        check_number("training.lr", self.lr, 0, above=True)
        check_number("training.weight-decay", self.weight_decay, 0)
        if len(self.betas) != 2:
            raise InputError(f"training.betas must be two numbers, got {self.betas!r}")
        for beta in self.betas:
            check_number("training.betas", beta, 0, 1, below=True)
        check_number("training.eps", self.eps, 0, above=True)
        check_number("training.momentum", self.momentum, 0, 1, below=True)
        check_integer("training.warmup", self.warmup, 0)
        for name, maximum in {"batch_size": None, "checkpoint_every": None, "checkpoint_log": 1_000_000}.items():
            if getattr(self, name) is not None:
                check_integer(f"training.{flag(name)}", getattr(self, name), 1, maximum)
        for step in self.checkpoint_steps:
            check_integer("training.checkpoint-steps", step, 0, self.steps)
        check_integer("training.log-every", self.log_every, 1)
        check_integer("training.seed", self.seed, 0, 2**32 - 1)

    def kept_steps(self) -> list[int]:
        """The steps at which a checkpoint is kept, ascending."""
        steps = {0, self.steps, *self.checkpoint_steps}
        if self.checkpoint_every is not None:
            steps.update(range(0, self.steps + 1, self.checkpoint_every))
        if self.checkpoint_log is not None:
            last = max(self.checkpoint_log - 1, 1)
            steps.update(round(self.steps ** (i / last)) for i in range(self.checkpoint_log) if self.steps > 0)
        return sorted(steps)


@dataclass(frozen=True)
class Experiment:
    """Everything that determines a run."""

    task: Task = field(default_factory=Task)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if not self.task.split_known:
            raise InputError(
                "task.split is unknown: a run that is trained here needs its training pairs; give task.train-fraction"
            )
        n_train = len(self.task.train_indices)
        batch_size = self.training.batch_size
        if batch_size is not None and batch_size > n_train:
            raise InputError(f"training.batch-size {batch_size} is larger than the training set of {n_train} pairs")

    def to_dict(self) -> dict[str, Any]:
        """JSON values only; what is hashed, and what run.json has (`recorded_section`)."""
        return {name: recorded_section(getattr(self, name)) for name in SECTIONS}

    @property
    def hash(self) -> str:
        """16 hex digits of the SHA-256 of the sorted JSON of `to_dict`: the same for equal experiments, on any
        machine."""
        return hash_of(self.to_dict())


def hash_of(values: Any) -> str:
    """16 hex digits of the SHA-256 of the sorted, compact JSON of `values`."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def flag(field_name: str) -> str:
    """The spelling of a field on the command line and in TOML: d_model → d-model."""
    return field_name.replace("_", "-")


SECTIONS: dict[str, type] = {"task": Task, "model": ModelConfig, "training": TrainingConfig}


def section_to_dict(config: Any) -> dict[str, Any]:
    """The JSON values of a configuration, every field present. A number in a float field is a float, so that lr = 1 and
    lr = 1.0 are one experiment."""
    types = get_type_hints(type(config))
    values: dict[str, Any] = {
        name: float(value) if types[name] is float else value for name, value in asdict(config).items()
    }
    if "betas" in values:
        values["betas"] = [float(beta) for beta in values["betas"]]
    return json.loads(json.dumps(values))


def recorded_section(config: Any) -> dict[str, Any]:
    """The JSON values of a configuration, without those of LATER_FIELDS that are at their default."""
    defaults = type(config).__dataclass_fields__
    values = section_to_dict(config)
    return {
        name: value for name, value in values.items() if name not in LATER_FIELDS or value != defaults[name].default
    }


def section_from_dict(section: str, values: Mapping[str, Any], base: Any = None) -> Any:
    """One of the three configurations from a mapping; names may use - or _; what is not given is taken from `base` or
    the defaults.

    Raises InputError for a name that does not exist (with the nearest that does) and for a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    kind = SECTIONS[section]
    types = get_type_hints(kind)
    given = {}
    for name, value in values.items():
        field_name = name.replace("-", "_")
        if field_name not in types:
            raise unknown_name(f"field in [{section}]", name, sorted(map(flag, types)))
        as_field = tuple(value) if isinstance(value, list) else value
        try:
            given[field_name] = TypeAdapter(types[field_name]).validate_python(as_field, strict=True)
        except ValidationError as error:
            raise InputError(
                f"{section}.{flag(field_name)}: {error.errors()[0]['msg'].lower()}, got {value!r}"
            ) from None
    return replace(base, **given) if base is not None else kind(**given)


def experiment_from_dict(values: Mapping[str, Any], base: Experiment | None = None) -> Experiment:
    """An Experiment from nested mappings (a TOML file, run.json); what is not given is taken from `base` or the
    defaults."""
    for section, content in values.items():
        if section not in SECTIONS:
            raise unknown_name("section", section, SECTIONS)
        if not isinstance(content, Mapping):
            raise InputError(f"{section} must be a table of fields, got {content!r}")
    base = base or Experiment()
    return Experiment(**{name: section_from_dict(name, values.get(name, {}), getattr(base, name)) for name in SECTIONS})


def experiment_from_toml(path: Path, base: Experiment | None = None) -> Experiment:
    """An Experiment from a TOML file with the tables [task], [model] and [training]."""
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise InputError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None
    try:
        return experiment_from_dict(values, base)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


# How they were found, and on how many seeds and moduli: docs/time-to-grok.md.
PRESETS: dict[str, tuple[str, Experiment]] = {
    "quick": (
        "the whole story in under a minute: lr 2e-2, grokking within the first 300 of 1,000 steps",
        Experiment(training=TrainingConfig(steps=1000, lr=2e-2, betas=(0.9, 0.95), checkpoint_every=20)),
    ),
    "fastest": (
        "99 % test accuracy in the fewest seconds, in 120 to 160 steps: hardly a delay, and little to watch",
        Experiment(
            training=TrainingConfig(
                steps=180, lr=2e-2, weight_decay=2.0, betas=(0.9, 0.95), checkpoint_every=5, log_every=5
            )
        ),
    ),
    "nanda": (
        "the published setup: lr 1e-3, 40,000 steps (Nanda et al. 2023, §3)",
        Experiment(training=TrainingConfig(steps=40_000, lr=1e-3, checkpoint_every=100)),
    ),
    "reference": (
        "the small run that ships with the package: p = 43, 45 % of the pairs",
        Experiment(
            Task(p=43, train_fraction=0.45),
            ModelConfig(d_model=32, d_mlp=128, seed=2),
            TrainingConfig(steps=3000, lr=5e-3, checkpoint_every=100, checkpoint_log=24, log_every=25),
        ),
    ),
}


def preset(name: str) -> Experiment:
    """The experiment of a preset, by name."""
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name][1]
