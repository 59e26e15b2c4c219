"""One checkpoint of somebody else's: where it lies, what its tensors are called, and its numbers when they are asked
for."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.errors import InputError

SHARED_BYTES = 1_000_000  # that many tensors may share beyond each other once, as tied weights do


@dataclass(frozen=True)
class Claim:
    """A number that the source says of one of its checkpoints."""

    name: str
    split: str
    measure: str
    value: float


@dataclass(frozen=True)
class Source:
    """One state dict: the file it is in, where in it, its step if that is known, and how.

    A pickled file's tensors are mapped, those of other files not even that before `load`: `read` is what reads them
    then (a safetensors file needs none). `beside` is what the file says besides weights, as its author calls it; of
    ours in it are `aliases` (a name that is not stored → the name of the tensor that it is, as `save_model` of
    safetensors writes for tied weights), `seeds` (what a configuration calls a seed → its number) and
    `train_indices_from` (the file that training pairs were found in). `names` turns stored names into those that are
    handed on, and leaves out what it does not know. `notes` is what a person should be told of the reading.
    """

    path: Path
    taken: str
    shapes: Mapping[str, tuple[int, ...]]
    step: int | None = None
    claims: tuple[Claim, ...] = ()
    beside: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] | None = None
    read: Callable[[], dict[str, Tensor]] | None = None
    names: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()

    def load(self) -> dict[str, Tensor]:
        """The tensors. Raises InputError, naming file and tensor, for one that is not plain numbers, or holds NaN."""
        from interp.machine import read_foreign_tensors

        if self.tensors is not None:
            tensors = dict(self.tensors)
        else:
            tensors = self.read() if self.read is not None else read_foreign_tensors(self.path)[0]
        if self.names is not None:
            tensors = {self.names[name]: tensor for name, tensor in tensors.items() if name in self.names}
        for name, tensor in tensors.items():
            check_tensor(self.where, name, tensor)
        claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        memories = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()
        }
        stored = sum(memories.values())
        if claimed > 2 * stored + SHARED_BYTES:
            raise InputError(
                f"{self.where}: its tensors claim {claimed:,} bytes and share {stored:,}; is the file meant to "
                "fill the memory?"
            )
        if name := diverged(tensors):
            raise InputError(
                f"{self.where}: {printable(name)} holds NaN or infinity, as after training has diverged; leave this "
                "checkpoint out: move it elsewhere, or name the others"
            )
        return tensors

    @property
    def where(self) -> str:
        """The file, and what was taken from it."""
        return f"{self.path} ({self.taken})" if self.taken else str(self.path)


def diverged(tensors: Mapping[str, Tensor]) -> str | None:
    """The first tensor that holds NaN, if one does; infinity stands in attention masks too, and is judged where it is
    known what a tensor is.

    >>> diverged({"W": torch.ones(2), "b": torch.tensor([0.0, float("nan")])})
    'b'
    """
    floats = ((name, tensor) for name, tensor in tensors.items() if tensor.is_floating_point())
    return next((name for name, tensor in floats if bool(tensor.isnan().any())), None)


def check_tensor(where: str, name: str, tensor: Tensor) -> None:
    """Raises InputError unless a tensor is plain numbers that are all there."""
    if (
        tensor.is_sparse
        or tensor.is_quantized
        or tensor.is_nested
        or tensor.layout != torch.strided
        or tensor.device.type != "cpu"
    ):
        raise InputError(
            f"{where}: tensor {name!r} is sparse, quantized, nested or without numbers; weights are plain tensors"
        )
    if tensor.is_complex():
        raise InputError(f"{where}: tensor {name!r} is complex; weights are real")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise InputError(
            f"{where}: tensor {name!r} claims {tensor.numel():,} numbers, and fewer are stored; is the file "
            "meant to fill the memory?"
        )


def is_own_file(path: Path) -> bool:
    """Whether there is such a file in its folder, and not a link to somewhere else; the Hub's cache is links to its
    blobs."""
    if not path.is_file() or not path.is_symlink():
        return path.is_file()
    target = path.resolve().parent
    return target == path.parent.resolve() or target.name == "blobs"


def printable(text: object, most: int = 60) -> str:
    r"""A name from a file as it may be shown: in one line, not too long.

    >>> printable("a\nb")
    'a?b'
    """
    shown = "".join(character if character.isprintable() else "?" for character in str(text))
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def n_matrices(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many of the tensors are matrices or larger: a network has two at least."""
    return sum(len(shape) >= 2 and math.prod(shape) > 0 for shape in shapes.values())
