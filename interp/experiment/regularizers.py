"""What is done in training beside lowering the loss: penalties, noise, and norms that are held."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from interp.errors import InputError, check_choice, check_number

L1Form = Literal["proximal", "subgradient"]
Held = Literal["free", "global", "tensors"]


@dataclass(frozen=True)
class Regularizers:
    """Penalties, noise, and norms that are held, beside decoupled weight decay (`training.weight-decay`). w are all
    weights, biases and gains too, g is the gradient of the loss, and lr the learning rate of the step.

    >>> Regularizers(l1=0.03, dropout=0.1).in_words
    'L1 0.03 (proximal), dropout 0.1'
    >>> Regularizers().is_used, Regularizers(norm="global").is_used
    (False, True)
    """

    l2: float = 0.0
    """λ of (λ/2)‖w‖² in the loss: the gradient is g + λw, before any filter and optimizer."""
    l1: float = 0.0
    """λ of λ‖w‖₁, in the form of l1-form."""
    l1_form: L1Form = "proximal"
    """proximal: after the update weights move lr·λ nearer to 0, or onto it; subgradient: λ·sign w is added to g."""
    dropout: float = 0.0
    """The share of neurons that the gradient of a step is computed without, drawn anew for every example and step."""
    weight_noise: float = 0.0
    """σ of the gradient at w + σξ in place of w, with ξ of a standard normal distribution."""
    gradient_noise: float = 0.0
    """σ of the gradient g + σξ, before any filter and optimizer."""
    norm: Held = "free"
    """What is brought back to its first norm after every update: the vector of all weights (global), or each tensor."""

    def __post_init__(self) -> None:
        for name in ("l2", "l1", "weight_noise", "gradient_noise"):
            check_number(f"training.regularizers.{name.replace('_', '-')}", getattr(self, name), 0)
        check_number("training.regularizers.dropout", self.dropout, 0, 1, below=True)
        check_choice("training.regularizers.l1-form", self.l1_form, get_args(L1Form))
        check_choice("training.regularizers.norm", self.norm, get_args(Held))
        if self.l1_form != "proximal" and not self.l1:
            raise InputError(
                "training.regularizers.l1-form does nothing where training.regularizers.l1 is 0; give it, or leave out "
                "the form"
            )

    @property
    def is_used(self) -> bool:
        """Whether anything is done."""
        return self != Regularizers()

    @property
    def is_noisy(self) -> bool:
        """Whether the gradient of a step is not that of the loss that is logged."""
        return bool(self.dropout or self.weight_noise)

    @property
    def is_a_force(self) -> bool:
        """Whether weights are moved by something that is neither the loss nor weight decay."""
        return bool(self.l2 or self.l1) or self.norm != "free"

    @property
    def in_words(self) -> str:
        """For a sentence."""
        parts = {
            "L2": f"{self.l2:g} in the loss" if self.l2 else "",
            "L1": f"{self.l1:g} ({self.l1_form})" if self.l1 else "",
            "dropout": f"{self.dropout:g}" if self.dropout else "",
            "weight noise": f"{self.weight_noise:g}" if self.weight_noise else "",
            "gradient noise": f"{self.gradient_noise:g}" if self.gradient_noise else "",
            "norm": {"free": "", "global": "of all weights held", "tensors": "of each tensor held"}[self.norm],
        }
        return ", ".join(f"{name} {value}" for name, value in parts.items() if value)


@dataclass(frozen=True)
class DecayFactors:
    """By what the weight decay of each group of weights is multiplied: 0 leaves a group without.

    >>> factors = DecayFactors(attention=0, mlp=0, unembedding=0)  # of the embedding alone
    >>> [factors.of(name) for name in ("pos_embed.W_pos", "blocks.0.attn.W_Q", "mlp.b_1", "unembed.W_U")]
    [1.0, 0, 0, 0]
    """

    embedding: float = 1.0
    """Of token and position embeddings."""
    attention: float = 1.0
    """Of attention, and of a norm before or after it."""
    mlp: float = 1.0
    """Of the matrices of neurons and their biases, and of a norm before or after them."""
    unembedding: float = 1.0
    """Of the unembedding, its bias and the last norm."""

    def __post_init__(self) -> None:
        for one in fields(self):
            check_number(f"training.decay.{one.name}", getattr(self, one.name), 0)

    @property
    def is_used(self) -> bool:
        """Whether any group has a weight decay of its own."""
        return self != DecayFactors()

    def of(self, weight: str) -> float:
        """The factor of a weight, by its name."""
        return getattr(self, group_of(weight))

    @property
    def in_words(self) -> str:
        """For a sentence.

        >>> DecayFactors(mlp=0.5).in_words
        'embedding × 1, attention × 1, mlp × 0.5, unembedding × 1'
        """
        return ", ".join(f"{one.name} × {getattr(self, one.name):g}" for one in fields(self))


def group_of(weight: str) -> str:
    """The group of a weight, by its name: that whose input or output a norm is.

    >>> [group_of(name) for name in ("embed.W_E", "blocks.1.ln1.w", "blocks.0.ln2.b", "ln_final.w")]
    ['embedding', 'attention', 'mlp', 'unembedding']
    """
    first, *rest = weight.split(".")
    part = rest[1] if first == "blocks" else first
    return {
        "embed": "embedding",
        "pos_embed": "embedding",
        "attn": "attention",
        "ln1": "attention",
        "mlp": "mlp",
        "ln2": "mlp",
        "ln_final": "unembedding",
        "unembed": "unembedding",
    }[part]
