"""What the study of prequential codes codes, in which blocks, and the networks that do it."""

from dataclasses import dataclass
from typing import get_args

from interp.errors import InputError, check_choice, check_integer, check_number, flag
from interp.experiment import Operation, Task
from interp.studies.design import TableDesign
from interp.studies.prequential_sentences import GAINS


@dataclass(frozen=True, kw_only=True)
class PrequentialDesign(TableDesign):
    """Which labels are coded, in which blocks, and the networks that do it."""

    seeds: int = 5
    """Orders 0 … N−1 of the labels, each with initial weights and a random table of its own."""
    p: int = 31
    """The modulus."""
    operation: Operation = "add"
    """The rule."""
    partner: Operation = "subtract"
    """What the same pairs are coded under too."""
    ordered: bool = False
    """Whether (a, b) and (b, a) are both coded where they have one label."""
    prefixes: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9)
    """Where blocks end, as shares of the labels."""
    joint_prefixes: tuple[float, ...] = (0.3, 0.6)
    """The same of each of two data sets."""
    data_sets: tuple[str, ...] = tuple(GAINS)
    """Which two data sets are coded together."""
    steps: int = 1000
    """Steps of a run."""
    lr: float = 2e-2
    """The learning rate."""
    weight_decay: float = 1.0
    """The weight decay."""
    d_model: int = 32
    """Width of the residual stream (4 heads)."""
    d_mlp: int = 128
    """Number of neurons."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("operation", "partner"):
            check_choice(name, getattr(self, name), get_args(Operation))
            if getattr(self, name) == "random":
                raise InputError(f"{name} is a rule, and random has none; random labels are coded beside it anyway")
        if self.partner == self.operation:
            raise InputError(f"partner is {self.partner}, as operation is; give another one")
        for name in ("prefixes", "joint_prefixes"):
            shares = getattr(self, name)
            if not shares or len(set(shares)) < len(shares):
                raise InputError(
                    f"{flag(name)} needs one share or more, each once; got {' '.join(map(str, shares)) or 'none'}"
                )
            for share in shares:
                check_number(flag(name), share, 0, 1, above=True, below=True)
        for name in self.data_sets:
            check_choice("data-sets", name, GAINS)
        if not self.data_sets or len(set(self.data_sets)) < len(self.data_sets):
            raise InputError(f"data-sets needs one or more of {', '.join(GAINS)}, each once")
        for name in ("steps", "d_model", "d_mlp"):
            check_integer(flag(name), getattr(self, name), 1)
        check_number("lr", self.lr, 0, above=True)
        check_number("weight-decay", self.weight_decay, 0)
        _ = Task(self.p, self.operation), Task(self.p, self.partner)  # which refuse a p that is not theirs

    @property
    def unordered(self) -> bool:
        """Whether each unordered pair is coded once: the operation commutes, and nobody asked for more."""
        return Task(self.p, self.operation).commutative and not self.ordered
