"""What every family of models speaks in: named weights, sizes, the matrices that analyses read, and activations."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

Weights = dict[str, Tensor]
Drop = Callable[[Tensor], Tensor]  # what is done to the neurons of each layer in turn, after the nonlinearity


def keep(neurons: Tensor) -> Tensor:
    """Nothing is done to them."""
    return neurons


class Sizes(NamedTuple):
    """The sizes that the examples give a model: how many different inputs a token has, or numbers an example has, and
    how many classes. Both are p for a table over Z_p.

    >>> Sizes.of(113) == Sizes(113, 113), Sizes.of((64, 10)).classes
    (True, 10)
    """

    inputs: int
    classes: int

    @classmethod
    def of(cls, sizes: int | tuple[int, int]) -> "Sizes":
        """The modulus p stands for (p, p)."""
        return cls(*sizes) if isinstance(sizes, tuple) else cls(sizes, sizes)


class Matrices(NamedTuple):
    """The matrices at both ends of a network and around its last neurons, under one name whatever the family."""

    W_E: Float[Tensor, "d_vocab features"]  # the vector by which each token enters; one-hot where there is no embedding
    W_in: Float[Tensor, "inputs d_mlp"]
    W_out: Float[Tensor, "d_mlp features"]
    W_U: Float[Tensor, "features classes"] | None  # None where the neurons speak to the classes themselves
    # What the neurons' writing is read by where that is not W_U: two norms stand between, and both are folded in.
    through: Float[Tensor, "features classes"] | None = None

    @property
    def last(self) -> Float[Tensor, "features classes"]:
        """The last matrix before the logits: W_U, or W_out where nothing comes after it."""
        return self.W_out if self.W_U is None else self.W_U

    @property
    def W_L(self) -> Float[Tensor, "d_mlp classes"]:
        """The neurons' map to the logits, W_out W_U; behind a norm up to its length, which every example has for
        itself."""
        read_by = self.W_U if self.through is None else self.through
        return self.W_out if read_by is None else self.W_out @ read_by


class Activations(NamedTuple):
    """What one forward pass computed at the last position of the last layer, per example.

    >>> import interp
    >>> Activations._fields, interp.open_run(interp.reference_path()).last.activations.attention.shape
    (('logits', 'neurons', 'attention', 'residual_mid', 'residual_post'), torch.Size([43, 43, 4, 3]))
    """

    logits: Float[Tensor, "*examples classes"]
    neurons: Float[Tensor, "*examples d_mlp"]  # after the nonlinearity
    # From the last position to each, with the rate applied; an MLP has 0 heads.
    attention: Float[Tensor, "*examples heads positions"]
    residual_mid: Float[Tensor, "*examples inputs"]  # what W_in reads, before the norm that may stand there
    residual_post: Float[Tensor, "*examples features"]  # what the last matrix before the logits reads (`Matrices`)
