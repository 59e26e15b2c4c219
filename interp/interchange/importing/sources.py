"""What files hold: state dicts, wherever they lie, with their steps and with what the source says of their losses."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.errors import InputError, check_integer
from interp.interchange.importing.pickles import is_pickled, load_pickled
from interp.interchange.importing.steps import UNKNOWN_STEP, is_final, step_in_name
from interp.machine import foreign_shapes, refusals_as
from interp.runs import FIRST_STEP, LAST_STEP

ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
MOST_TENSORS = 1_000
SHARED_BYTES = 1_000_000  # that many tensors may share beyond each other once, as tied weights do
_STATE_DICTS = ("model_state_dict", "state_dict", "model", "net", "network", "weights", "params")
_LISTS = ("state_dicts", "checkpoints", "model_checkpoints", "models", "model_state_dicts")
_STEPS = ("step", "steps", "global_step", "iteration", "epoch", "epochs")
_LISTS_OF_STEPS = ("checkpoint_steps", "checkpoint_epochs", "steps", "epochs", "epoch", "step")
# Names of what a source says of itself → the split and the kind it speaks of; a loss of no split is that of training.
_CLAIMS = {
    f"{prefix}{kind}": (split, measure)
    for prefix, split in {"train_": "train", "test_": "test", "val_": "test", "valid_": "test", "": "train"}.items()
    for kind, measure in {
        "loss": "loss",
        "acc": "accuracy",
        "accuracy": "accuracy",
        "losses": "loss",
        "accs": "accuracy",
    }.items()
}
_CLAIMS |= {
    "accuracies": ("train", "accuracy"),
    "train_accuracies": ("train", "accuracy"),
    "test_accuracies": ("test", "accuracy"),
}


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

    A pickled file's tensors are mapped, a safetensors file's not even that before `load`.
    """

    path: Path
    taken: str
    shapes: Mapping[str, tuple[int, ...]]
    step: int | None = None
    claims: tuple[Claim, ...] = ()
    beside: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] | None = None

    def load(self) -> dict[str, Tensor]:
        """The tensors. Raises InputError, naming file and tensor, for one that is not plain numbers."""
        from interp.machine import read_foreign_tensors

        tensors = dict(self.tensors) if self.tensors is not None else read_foreign_tensors(self.path)[0]
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
        return tensors

    @property
    def where(self) -> str:
        """The file, and what was taken from it."""
        return f"{self.path} ({self.taken})" if self.taken else str(self.path)


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


def find_sources(paths: Sequence[Path], steps: Sequence[int] = ()) -> list[Source]:
    """Every checkpoint in files and folders, in the order of their steps, which are taken from `steps`, names or
    contents.

    Raises InputError for what cannot be read, and where steps are missing, twice, or do not fit.
    """
    found = [source for path in paths for source in _read(Path(path))]
    if not found:
        raise InputError(f"{', '.join(map(str, paths))}: there are no files of weights ({', '.join(ENDINGS)})")
    if steps:
        if len(steps) != len(found):
            raise InputError(
                f"--steps gives {len(steps)} steps for {len(found)} checkpoints, in this order: {_listed(found)}"
            )
        found = [replace(source, step=step) for source, step in zip(found, steps, strict=True)]
    elif len(found) == 1 and found[0].step is None:
        found = [replace(found[0], step=UNKNOWN_STEP)]
    else:
        found = _finals_last(found)
    found.sort(key=lambda source: source.step if source.step is not None else 0)
    for source in found:
        check_integer(f"the step of {source.where}", source.step, FIRST_STEP, LAST_STEP)
    for one, other in pairwise(found):
        if one.step == other.step:
            raise InputError(
                f"{one.where} and {other.where} would both be step {one.step}; give --steps, or name fewer files"
            )
    return found


def _finals_last(found: list[Source]) -> list[Source]:
    """A checkpoint called `final` comes one step after the last one with a number."""
    numbers = [source.step for source in found if source.step is not None]
    without = [source for source in found if source.step is None]
    finals = [source for source in without if is_final(source.path)]
    if len(without) > 1 or without != finals:
        raise InputError(
            f"no step is known for {_listed([source for source in without if source not in finals] or finals)}; "
            "give --steps"
        )
    return [replace(source, step=max(numbers) + 1) if source.step is None else source for source in found]


def _listed(found: Sequence[Source]) -> str:
    names = [
        f"{source.path.name} {source.taken}" if source.taken.endswith("]") else source.path.name for source in found
    ]
    return ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")


def _read(path: Path) -> list[Source]:
    files = _files(path)
    if files == [path]:
        return read_file(path)
    try:
        return [source for file in files for source in read_file(file)]
    except InputError as error:
        raise InputError(f"{error}. Where it is no checkpoint, name the files that are, and not their folder") from None


def _files(path: Path) -> list[Path]:
    with refusals_as(f"cannot read {path}"):
        if path.is_dir():
            files = [
                file
                for file in path.iterdir()
                if file.suffix in ENDINGS and not file.name.startswith(".") and file.is_file()
            ]
            return sorted(
                files,
                key=lambda file: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)],
            )
        if not path.exists():
            raise InputError(f"there is no file or folder {path}")
        if not path.is_file():
            raise InputError(f"{path} is no file")
    return [path]


# ---- one file --------------------------------------------------------------------------------------------------------


def read_file(path: Path) -> list[Source]:
    """The checkpoints in a file, with the steps that its name or its content tells."""
    step = step_in_name(path)
    if not is_pickled(path):
        shapes, metadata = foreign_shapes(path)
        _check_names(path, shapes)
        number = metadata.get("step", metadata.get("epoch"))
        if step is None and isinstance(number, str) and re.fullmatch(r"-?\d{1,9}", number):
            step = int(number)
        return [Source(path, "", shapes, step)]
    content = load_pickled(path)
    if isinstance(content, torch.Tensor) or not isinstance(content, Mapping | list):
        raise InputError(f"{path} holds a {type(content).__name__}, expected a state dict")
    if isinstance(content, list):
        content = {"checkpoints": content}
    return _of_dictionary(path, content, step)


def _of_dictionary(path: Path, content: Mapping[Any, Any], step: int | None) -> list[Source]:
    if _is_state_dict(content):
        return [_source(path, "", content, step)]
    beside = {key: value for key, value in content.items() if isinstance(key, str)}
    for name in _LISTS:
        value = content.get(name)
        if (
            isinstance(value, list)
            and value
            and all(isinstance(entry, Mapping) and _is_state_dict(entry) for entry in value)
        ):
            return _of_list(path, name, value, beside)
    if content and all(
        type(key) is int and isinstance(value, Mapping) and _is_state_dict(value) for key, value in content.items()
    ):
        return [_source(path, f"[{key}]", content[key], key) for key in sorted(content)]
    of_weights = [key for key, value in beside.items() if isinstance(value, Mapping) and _is_state_dict(value)]
    known = [name for name in _STATE_DICTS if name in of_weights] or of_weights
    if len(known) > 1 and known is of_weights:
        named = ", ".join(repr(key[:60]) for key in of_weights[:8])
        raise InputError(
            f"{path} has {len(of_weights)} state dicts, {named}, and none has a name that tells which one the network "
            f"is ({', '.join(_STATE_DICTS)}); save that one in a file of its own"
        )
    if known:
        inside = next((number for key in _STEPS if (number := _integer(content.get(key))) is not None), None)
        claims = tuple(
            Claim(key, *_CLAIMS[key], number) for key in _CLAIMS if (number := _number(beside.get(key))) is not None
        )
        state, at = content[known[0]], inside if step is None else step
        return [_source(path, known[0], state, at, claims=claims, beside=beside)]
    keys = ", ".join(repr(key) for key in list(content)[:8])
    raise InputError(
        f"{path} has no state dict where one is looked for ({', '.join(_STATE_DICTS + _LISTS)}); it has "
        f"{keys or 'nothing'}"
    )


def _of_list(path: Path, name: str, states: list[Mapping], beside: dict[str, Any]) -> list[Source]:
    key = next((key for key in _LISTS_OF_STEPS if isinstance(beside.get(key), list | tuple | Tensor)), None)
    steps: list[int | None] = [None] * len(states)
    if key is not None:
        values = beside[key].tolist() if isinstance(beside[key], Tensor) else list(beside[key])
        numbers = [_integer(value) for value in values]
        if len(numbers) != len(states) or None in numbers:
            raise InputError(
                f"{path}: {name!r} has {len(states)} state dicts, and {key!r} beside it {len(numbers)} entries; "
                "give --steps"
            )
        steps = numbers
    found = []
    for index, (state, step) in enumerate(zip(states, steps, strict=True)):
        claims = []
        for series, (split, measure) in _CLAIMS.items():
            values = beside.get(series)
            if isinstance(values, list) and values:
                # One entry per checkpoint, or one per epoch.
                place = index if len(values) == len(states) else min(step or 0, len(values) - 1)
                if (number := _number(values[place])) is not None:
                    claims.append(Claim(series, split, measure, number))
        found.append(_source(path, f"{name}[{index}]", state, step, claims=tuple(claims), beside=beside))
    return found


def _source(
    path: Path,
    taken: str,
    state: Mapping[str, Any],
    step: int | None,
    *,
    claims: tuple[Claim, ...] = (),
    beside: Mapping[str, Any] | None = None,
) -> Source:
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    _check_names(path, shapes)
    return Source(path, taken, shapes, step, claims, beside or {}, tensors)


def _check_names(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    if len(shapes) > MOST_TENSORS or any(len(name) > 500 for name in shapes):
        raise InputError(
            f"{path} has {len(shapes):,} tensors, or names of more than 500 characters; no network here has"
        )


def _is_state_dict(content: Mapping[Any, Any]) -> bool:
    """Whether a dictionary is names and tensors. PyTorch puts other things (`_extra_state`, `_metadata`) among them
    only rarely."""
    tensors = sum(isinstance(value, Tensor) and value.ndim > 0 for value in content.values())
    return tensors >= 2 and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())


def _integer(value: Any) -> int | None:
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex() and value.layout == torch.strided:
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and abs(value) <= LAST_STEP else None


def _number(value: Any) -> float | None:
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex() and value.layout == torch.strided:
        value = value.item()
    if type(value) not in (int, float):
        return None
    return float(value) if abs(value) < 1e300 and math.isfinite(value) else None


def unique_names(sources: Iterable[Source]) -> list[str]:
    """The files, each once, by name."""
    return list(dict.fromkeys(source.path.name for source in sources))
