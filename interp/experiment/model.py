"""The network of an experiment."""

from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from interp.errors import InputError, check_choice, check_integer, check_number, flag
from interp.experiment.module_record import ModuleRecord

Family = Literal["transformer", "mlp", "module"]
Activation = Literal["relu", "gelu", "square"]
Prompt = Literal["ab=", "ab"]
Vocabularies = Literal["one", "two"]
Inputs = Literal["sum", "concatenated"]
Embedding = Literal["none", "untied", "tied"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Either a transformer without LayerNorm that reads the tokens of `prompt` and answers at the last position, or an
    MLP with one hidden layer and no biases (`interp.models.mlp`), or what was recorded of a module of anybody's
    (`ModuleRecord`), which is never trained or run here. `seed` draws the initial weights.

    Of the transformer alone: `d_head` is d_model / n_heads when not given; `attention_rate` α mixes attention with
    uniform weights of one: attention = α·softmax + (1 − α)·ones (Zhong et al. 2023, arXiv:2306.17844, §4). With two
    `vocabularies` b is token p + b (the authors' code has that option), with one it is token b, as a is token a.

    Of the MLP alone: what it reads, the `inputs`, is the sum of the vectors of a and b, or the two side by side. A
    vector is one-hot without `embedding`, and otherwise a row of W_E (of `d_model` entries); the neurons then answer
    through W_U, or, tied, through W_Eᵀ.

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
    prompt: Prompt = "ab="
    causal: bool = True
    attention_rate: float = 1.0
    vocabularies: Vocabularies = field(default="one", metadata={"later": True})
    inputs: Inputs = "sum"
    embedding: Embedding = "none"
    seed: int = 0
    module: ModuleRecord = field(default=ModuleRecord(), metadata={"later": True, "option": False})

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
        return self.n_layers == 1 and self.prompt == "ab=" and self.attention_rate == 0


# The fields that say nothing about a family, and are refused there.
FIELDS_OF_OTHERS = {
    "transformer": ("inputs", "embedding", "module"),
    "mlp": ("n_layers", "n_heads", "d_head", "prompt", "causal", "attention_rate", "vocabularies", "module"),
    "module": tuple(each.name for each in fields(ModelConfig) if each.name not in ("family", "module")),
}
