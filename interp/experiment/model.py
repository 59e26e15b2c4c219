"""The network of an experiment."""

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Literal, get_args

from interp.errors import InputError, check_choice, check_integer, check_number, flag
from interp.experiment.module_record import ModuleRecord

Family = Literal["transformer", "mlp", "module"]
Activation = Literal["relu", "gelu", "square", "gelu-tanh", "silu", "tanh"]
Initialization = Literal["normal", "uniform"]
Vocabularies = Literal["one", "two"]
Inputs = Literal["sum", "concatenated"]
Embedding = Literal["none", "untied", "tied"]
NormPlace = Literal["attention", "mlp", "final"]
LONGEST_PROMPT = 16


@dataclass(frozen=True, kw_only=True)
class Norm:
    """The norm layers of a transformer, x ↦ (x − mean x)/√(var x + ε)·w + b (`layer`; Ba et al. 2016,
    arXiv:1607.06450) or x/√(mean x² + ε)·w (`rms`; Zhang and Sennrich 2019, arXiv:1910.07467); w and b are weights
    where they are `learned`, and 1 and 0 otherwise.

    `at` says where: for `attention` and `mlp` before what these read (order `pre`: x ← x + f(norm x)) or after they are
    added (order `post`: x ← norm(x + f x)); `final` is before the unembedding.

    >>> Norm(kind="layer").at, Norm() == Norm(kind="none")
    (('attention', 'mlp', 'final'), True)
    """

    kind: Literal["none", "layer", "rms"] = "none"
    order: Literal["pre", "post"] = "pre"
    at: tuple[NormPlace, ...] = ("attention", "mlp", "final")
    learned: bool = True
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check_choice("model.norm.kind", self.kind, ("none", "layer", "rms"))
        check_choice("model.norm.order", self.order, ("pre", "post"))
        for place in self.at:
            check_choice("model.norm.at", place, get_args(NormPlace))
        # One order and each once, so that one network has one hash.
        object.__setattr__(self, "at", tuple(place for place in get_args(NormPlace) if place in self.at))
        check_number("model.norm.epsilon", self.epsilon, 0, 1)
        others = [one for one in fields(self) if one.name != "kind" and getattr(self, one.name) != one.default]
        if self.kind == "none" and others:
            raise InputError(
                f"model.norm.{flag(others[0].name)} is that of a norm, and model.norm.kind is none; give "
                "model.norm.kind layer or rms"
            )
        if self.kind != "none" and not self.at:
            raise InputError("model.norm.at names no place; give attention, mlp or final, or model.norm.kind none")

    def is_at(self, place: NormPlace) -> bool:
        """Whether there is a norm at that place.

        >>> Norm(kind="rms", at=("final",)).is_at("final"), Norm().is_at("final")
        (True, False)
        """
        return self.kind != "none" and place in self.at


@dataclass(frozen=True, kw_only=True)
class Attention:
    """What a transformer's attention has besides `ModelConfig.n_heads`, `d_head`, `causal` and `attention_rate`.

    With a `rotary_base` B, queries and keys are turned by their position t before they meet: the entries i and
    i + d_head/2 of each, as a plane, by the angle t·B^(−2i/d_head) (Su et al. 2021, arXiv:2104.09864, in halves).

    >>> Attention(rotary_base=10_000.0).rotary_base
    10000.0
    """

    rotary_base: float | None = None

    def __post_init__(self) -> None:
        if self.rotary_base is not None:
            check_number("model.attention.rotary-base", self.rotary_base, 1, 1e9)


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """What a transformer's MLP has besides `ModelConfig.d_mlp` and `activation`: where it is `gated`, its neurons are
    act(x W_gate)·(x W_in + b_in) in place of act(x W_in + b_in) (Shazeer 2020, arXiv:2002.05202).

    >>> Mlp(gated=True).gated
    True
    """

    gated: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Either a transformer that reads the tokens of `prompt` and answers at one position, the last one
    (`interp.models.transformer`), or an MLP (`interp.models.mlp`), or what was recorded of a module of anybody's
    (`ModuleRecord`), which is never trained or run here. `n_layers` is the number of layers, of an MLP of hidden ones,
    each of `d_mlp` neurons; `seed` draws the initial weights, all of which, gains of norms too, are multiplied by
    `initialization_scale` (α of Liu et al. 2022, arXiv:2210.01117); with `biases` every matrix has one.

    Of the transformer alone: `prompt` is a template in which a and b stand for the residues and every other character
    for a token that is always the same, such as `ab=` or `a+b=`; `answer_at` is the position that is read, −1 the last.
    `d_head` is d_model / n_heads when not given; `attention_rate` α mixes attention with uniform weights of one:
    attention = α·softmax + (1 − α)·ones (Zhong et al. 2023, arXiv:2306.17844, §4). With two `vocabularies` b is token
    p + b (the authors' code has that option), with one it is token b, as a is token a. Where it is `tied`, the
    unembedding is the embedding of the residues. `norm`, `attention` and `mlp` say what else there is.

    Of the MLP alone: what it reads, the `inputs`, is the sum of the vectors of a and b, or the two side by side. A
    vector is one-hot without `embedding`, and otherwise a row of W_E (of `d_model` entries); the neurons then answer
    through W_U, or, tied, through W_Eᵀ. `initialization` is how its first weights are drawn: every matrix normal, with
    variance 1/rows, and biases zero; or matrices and biases uniform between ±1/√rows, as torch.nn.Linear draws them.

    >>> model = ModelConfig(d_model=32, n_heads=4)
    >>> model.head_size, model.n_ctx
    (8, 3)
    """

    family: Family = "transformer"
    n_layers: int = 1
    d_model: int = 128
    n_heads: int = 4
    d_head: int | None = None
    d_mlp: int = 512
    activation: Activation = "relu"
    prompt: str = "ab="
    causal: bool = True
    attention_rate: float = 1.0
    vocabularies: Vocabularies = field(default="one", metadata={"later": True})
    inputs: Inputs = "sum"
    embedding: Embedding = "none"
    answer_at: int = field(default=-1, metadata={"later": True})
    biases: bool = field(default=False, metadata={"later": True})
    initialization: Initialization = field(default="normal", metadata={"later": True})
    initialization_scale: float = field(default=1.0, metadata={"later": True})
    tied: bool = field(default=False, metadata={"later": True})
    norm: Norm = field(default=Norm(), metadata={"later": True})
    attention: Attention = field(default=Attention(), metadata={"later": True})
    mlp: Mlp = field(default=Mlp(), metadata={"later": True})
    seed: int = 0
    module: ModuleRecord = field(default=ModuleRecord(), metadata={"later": True, "option": False})

    def __post_init__(self) -> None:
        check_choice("model.family", self.family, get_args(Family))
        for name, maximum in {"n_layers": 1000, "d_model": 1_000_000, "n_heads": 1_000_000, "d_mlp": 1_000_000}.items():
            check_integer(f"model.{flag(name)}", getattr(self, name), 1, maximum)
        check_choice("model.activation", self.activation, get_args(Activation))
        _check_prompt(self.prompt)
        for name, kind in {"norm": Norm, "attention": Attention, "mlp": Mlp}.items():
            if not isinstance(value := getattr(self, name), kind):
                raise InputError(f"model.{name} must be an interp.{kind.__name__}, got {value!r}")
        check_integer("model.answer-at", self.answer_at, -1, len(self.prompt) - 1)
        if self.answer_at == len(self.prompt) - 1:  # one network has one hash
            object.__setattr__(self, "answer_at", -1)
        if self.family == "transformer" and self.causal and max(self.inputs_at) > self.answer_at % len(self.prompt):
            raise InputError(
                f"position {self.answer_at} of the prompt {self.prompt!r} answers and, as it is causal, sees no "
                "position after it: a or b is there; give a later model.answer-at or model.causal False"
            )
        check_choice("model.vocabularies", self.vocabularies, get_args(Vocabularies))
        check_choice("model.inputs", self.inputs, get_args(Inputs))
        check_choice("model.embedding", self.embedding, get_args(Embedding))
        check_choice("model.initialization", self.initialization, get_args(Initialization))
        check_number("model.initialization-scale", self.initialization_scale, 0, 1000, above=True)
        check_number("model.attention-rate", self.attention_rate, 0, 1)
        check_integer("model.seed", self.seed, 0, 2**32 - 1)
        if self.d_head is not None:
            check_integer("model.d-head", self.d_head, 1, 1_000_000)
        for name in FIELDS_OF_OTHERS[self.family]:
            if (value := getattr(self, name)) != (default := type(self).__dataclass_fields__[name].default):
                if is_dataclass(value):
                    raise InputError(f"model.family {self.family!r} has no model.{flag(name)}; leave it out")
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
        if self.attention.rotary_base is not None and self.head_size % 2:
            raise InputError(
                f"model.attention.rotary-base turns planes of two entries, and a head has {self.head_size}; give an "
                "even model.d-head"
            )

    @property
    def is_recorded(self) -> bool:
        """Whether there are only recorded answers: of a module of anybody's, which cannot be run again here.

        >>> ModelConfig().is_recorded, ModelConfig(family="module").is_recorded
        (False, True)
        """
        return self.family == "module"

    @property
    def head_size(self) -> int:
        return self.d_head if self.d_head is not None else self.d_model // self.n_heads

    @property
    def n_ctx(self) -> int:
        return len(self.prompt)

    @property
    def inputs_at(self) -> tuple[int, int]:
        """The positions of a and b in the prompt; of an MLP, its two inputs.

        >>> ModelConfig(prompt="^a+b=").inputs_at
        (1, 3)
        """
        return (0, 1) if self.family == "mlp" else (self.prompt.index("a"), self.prompt.index("b"))

    @property
    def positions(self) -> tuple[str, ...]:
        """A name for each position of the prompt: its token, and where that is there again, which one it is.

        >>> ModelConfig().positions, ModelConfig(prompt="=a=b").positions
        (('a', 'b', '='), ('=1', 'a', '=2', 'b'))
        """
        seen = [self.prompt[: place + 1].count(token) for place, token in enumerate(self.prompt)]
        return tuple(
            token if self.prompt.count(token) == 1 else f"{token}{number}"
            for token, number in zip(self.prompt, seen, strict=True)
        )

    @property
    def constants(self) -> str:
        """The tokens of the prompt that are always the same, each once, in the order of their numbers after the
        residues.

        >>> ModelConfig(prompt="^a+b=").constants, ModelConfig(prompt="ab").constants
        ('^+=', '')
        """
        return "".join(dict.fromkeys(token for token in self.prompt if token not in "ab"))

    def d_vocab(self, p: int) -> int:
        """The number of tokens: the residues, those of b where it has a vocabulary of its own, and the constants.

        >>> ModelConfig().d_vocab(113), ModelConfig(prompt="a+b=", vocabularies="two").d_vocab(113)
        (114, 228)
        """
        return self.first_token_of_b(p) + p + len(self.constants)

    @property
    def is_plain(self) -> bool:
        """Whether it is a transformer without norms, tied unembedding, gates, rotary positions and biases beyond those
        of the MLP, and answers at the last position: the network of Nanda et al., of any depth and prompt.

        >>> ModelConfig().is_plain, ModelConfig(norm=Norm(kind="layer")).is_plain
        (True, False)
        """
        later = (self.answer_at, self.biases, self.tied, self.norm, self.attention, self.mlp)
        return self.family == "transformer" and later == (-1, False, False, Norm(), Attention(), Mlp())

    def first_token_of_b(self, p: int) -> int:
        """The token of b = 0: p where b has a vocabulary of its own, and otherwise 0, which it shares with a."""
        return p if self.vocabularies == "two" else 0

    @property
    def inputs_enter_as_sum(self) -> bool:
        """Whether a and b enter by one linear map and nothing tells them apart, whatever is learned: an MLP of their
        sum; one layer of uniform attention, read at `=`.

        >>> ModelConfig(family="mlp").inputs_enter_as_sum, ModelConfig(attention_rate=0.0).inputs_enter_as_sum
        (True, True)
        >>> ModelConfig(attention_rate=0.0, prompt="ab").inputs_enter_as_sum  # b is also what the last position holds
        False
        """
        if self.family == "mlp":
            return self.inputs == "sum"
        uniform = self.n_layers == 1 and self.prompt == "ab=" and self.answer_at == -1 and self.attention_rate == 0
        one_map = self.vocabularies == "one" and not (self.norm.is_at("attention") and self.norm.order == "pre")
        return uniform and one_map


# The fields that say nothing about a family, and are refused there.
FIELDS_OF_OTHERS = {
    "transformer": ("inputs", "embedding", "initialization", "module"),
    "mlp": (
        *("n_heads", "d_head", "prompt", "causal", "attention_rate", "vocabularies", "answer_at", "tied"),
        *("norm", "attention", "mlp", "module"),
    ),
    "module": tuple(each.name for each in fields(ModelConfig) if each.name not in ("family", "module")),
}


def _check_prompt(prompt: str) -> None:
    if not isinstance(prompt, str) or prompt.count("a") != 1 or prompt.count("b") != 1:
        raise InputError(f"model.prompt must have a and b, each once, as in 'ab=' or 'a+b=', got {prompt!r}")
    if not all(token.isascii() and token.isprintable() and not token.isspace() for token in prompt):
        raise InputError(f"model.prompt is one printable character for each token, without spaces, got {prompt!r}")
    if len(prompt) > LONGEST_PROMPT:
        raise InputError(f"model.prompt has {len(prompt)} tokens; at most {LONGEST_PROMPT}")
