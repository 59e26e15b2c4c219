"""One file: the state dicts in it, wherever in its dictionaries they lie, with their steps and with what it says of its
losses."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.errors import InputError
from interp.interchange.importing.arrays import is_npz, read_npz
from interp.interchange.importing.claims import claims_in, claims_of_series, integer_of, step_inside, updates_inside
from interp.interchange.importing.kinds import check_kind
from interp.interchange.importing.pickles import is_pickled, load_pickled
from interp.interchange.importing.shards import INDEX, beside_of, read_shards, shard_of
from interp.interchange.importing.source import Source, n_matrices, printable
from interp.interchange.importing.steps import says_epoch, step_in_name
from interp.interchange.importing.training_pairs import NAMES as NAMES_OF_PAIRS
from interp.interchange.plain_files import check_tensors
from interp.machine import foreign_shapes

MOST_TENSORS = 1_000
MOST_CHECKPOINTS = 20_000
MOST_SAID = 8  # notes of one kind
DEEPEST = 4  # dictionaries within dictionaries
_STATE_DICTS = ("model_state_dict", "state_dict", "model", "net", "network", "weights", "params")
_LISTS = ("state_dicts", "checkpoints", "model_checkpoints", "models", "model_state_dicts")
_LISTS_OF_STEPS = ("checkpoint_steps", "checkpoint_epochs", "steps", "epochs", "epoch", "step")
_NO_NETWORK = re.compile(r"(?i).*(optim|sched|scaler|rng|random_state|callback|loops).*|amp|.*grads?")
_MEANS_OF_GRADIENTS = {"exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg", "sum"}
# What wrappers put into names: torch.compile, FSDP, activation checkpointing.
_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
# What stands before the names of a copy of the weights that is a mean over steps, beside the weights themselves.
_MEANS = re.compile(r"(ema_model|model_ema|ema|averaged_model|swa_model)\.")


def read_file(path: Path) -> list[Source]:
    """The checkpoints in a file, with the steps that its name or its content tells.

    Raises InputError for a file that is damaged, would run code, is something else than weights (and says what), or has
    no state dict.
    """
    return [_with_epochs_told(_checked(unwrapped(source))) for source in _read(path)]


def _with_epochs_told(source: Source) -> Source:
    if source.step is None or not says_epoch(source.path) or source.step != step_in_name(source.path):
        return source
    note = "steps are the epochs in the names of files, as no number of updates is told; --steps gives others"
    return replace(source, notes=(*source.notes, note))


def _read(path: Path) -> list[Source]:
    step = step_in_name(path)
    if path.name.endswith(INDEX) or shard_of(path):
        return [read_shards(path)]
    check_tensors(path)
    check_kind(path)
    if is_npz(path):
        return read_npz(path)
    if path.suffix == ".npy":
        raise InputError(f"{path} is one array; name the folder that has one for every tensor")
    if not is_pickled(path):
        shapes, metadata = foreign_shapes(path)
        number = metadata.get("step", metadata.get("global_step", metadata.get("epoch")))
        if isinstance(number, str) and re.fullmatch(r"-?\d{1,9}", number):
            step = _step_of(path, step, {key: int(number) for key in ("step", "epoch") if metadata.get(key) == number})
            step = int(number) if step is None else step
        return [Source(path, "", shapes, step, beside=beside_of(metadata, shapes))]
    content = load_pickled(path)
    if isinstance(content, torch.Tensor) or not isinstance(content, Mapping | list):
        raise InputError(f"{path} holds a {type(content).__name__}, expected a state dict")
    if isinstance(content, list):
        content = {"checkpoints": content}
    return _of_dictionary(path, content, step)


def is_optimizer(content: Any) -> bool:
    """Whether a dictionary is the state of an optimizer, which holds means of gradients by number, and no weights."""
    if not isinstance(content, Mapping) or not isinstance(state := content.get("state"), Mapping):
        return False
    if "param_groups" in content:
        return True
    return bool(state) and all(
        isinstance(key, int) and isinstance(entry, Mapping) and _MEANS_OF_GRADIENTS & set(map(str, entry))
        for key, entry in state.items()
    )


def _step_of(path: Path, named: int | None, told: Mapping[Any, Any]) -> int | None:
    """The step that a file's name gives, or its content where the name gives none, or only the epoch. A number of
    updates below that of epochs is no such number: a place within the epoch, perhaps."""
    if named is None:
        return step_inside(told)
    updates = updates_inside(told) if says_epoch(path) else None
    return updates if updates is not None and updates >= named else named


# ---- where in a dictionary -------------------------------------------------------------------------------------------


def _of_dictionary(
    path: Path,
    content: Mapping[Any, Any],
    step: int | None,
    around: tuple[str, ...] = (),
    outside: Mapping | None = None,
) -> list[Source]:
    inside = {key: value for key, value in content.items() if isinstance(key, str)}
    beside = {**(outside or {}), **inside}
    if "pytorch-lightning_version" in content and (updates := integer_of(content.get("global_step"))) is not None:
        step = updates  # the name of the file often tells the epoch alone
    if _is_state_dict(content):
        told = outside or {}
        at = _step_of(path, step, told)
        return [_source(path, around, content, at, claims=claims_in(told), beside=told)]
    for name in _LISTS:
        if _is_list_of_states(content.get(name)):
            return _of_list(path, (*around, name), content[name], beside)
    if content and all(type(key) is int and _is_state_dict(value) for key, value in content.items()):
        return [_source(path, (*around, f"[{key}]"), content[key], key, beside=outside) for key in sorted(content)]
    seen: dict[int, bool] = {}
    # An optimizer's means of gradients are matrices too.
    holding = [] if is_optimizer(content) else [k for k, value in inside.items() if _holds_weights(k, value, seen)]
    known = [name for name in _STATE_DICTS if name in holding] or holding
    if len(known) > 1 and known is holding:
        named = ", ".join(repr(printable(key)) for key in holding[:8])
        raise InputError(
            f"{path} has {len(holding)} state dicts, {named}, and none has a name that tells which one the network "
            f"is ({', '.join(_STATE_DICTS)}); save that one in a file of its own"
        )
    if known:
        rest = {key: value for key, value in beside.items() if key != known[0]}
        return _of_dictionary(path, content[known[0]], step, (*around, known[0]), rest)
    mixed = {key: value for key, value in inside.items() if isinstance(value, Tensor) and key not in NAMES_OF_PAIRS}
    if n_matrices({key: tuple(value.shape) for key, value in mixed.items() if value.is_floating_point()}) >= 2:
        # Weights and what is said of them side by side.
        told = {key: value for key, value in beside.items() if key not in mixed}
        at = _step_of(path, step, told)
        return [_source(path, around, mixed, at, claims=claims_in(told), beside=told)]
    keys = ", ".join(repr(printable(key)) for key in list(content)[:8])
    what = "holds the state of an optimizer: it" if is_optimizer(content) else "it"
    raise InputError(
        f"{path} has no state dict where one is looked for ({', '.join(_STATE_DICTS + _LISTS)}); {what} has "
        f"{keys or 'nothing'}"
    )


def _holds_weights(key: str, value: Any, seen: dict[int, bool], depth: int = 1) -> bool:
    """Whether an entry is a state dict, or a dictionary with one somewhere in it; what is an optimizer's is none."""
    if not isinstance(value, Mapping) or _NO_NETWORK.fullmatch(key) or is_optimizer(value):
        return False
    if id(value) not in seen:  # each once: a dictionary can stand in itself, or a thousand times in another
        seen[id(value)] = False
        seen[id(value)] = _is_state_dict(value) or (
            depth < DEEPEST
            and (
                any(_is_list_of_states(value.get(name)) for name in _LISTS)
                or any(_holds_weights(str(name), entry, seen, depth + 1) for name, entry in value.items())
            )
        )
    return seen[id(value)]


def _is_list_of_states(value: Any) -> bool:
    # Each once: a list can hold one network a million times.
    return (
        isinstance(value, list) and bool(value) and all(map(_is_state_dict, {id(one): one for one in value}.values()))
    )


def _of_list(path: Path, around: tuple[str, ...], states: list[Mapping], beside: dict[str, Any]) -> list[Source]:
    if len(states) > MOST_CHECKPOINTS:
        raise InputError(f"{path} has {len(states):,} state dicts in one list; no series here is so long")
    key = next((key for key in _LISTS_OF_STEPS if isinstance(beside.get(key), list | tuple | Tensor)), None)
    steps: list[int | None] = [None] * len(states)
    if key is not None:
        listed = beside[key]
        if isinstance(listed, Tensor):
            listed = listed.tolist() if listed.ndim == 1 and listed.numel() == len(states) else []
        numbers = [integer_of(value) for value in listed]
        if len(numbers) != len(states) or None in numbers:
            raise InputError(
                f"{path}: {around[-1]!r} has {len(states)} state dicts, and {key!r} beside it {len(numbers)} entries; "
                "give --steps"
            )
        steps = numbers
    found = []
    for index, (state, step) in enumerate(zip(states, steps, strict=True)):
        claims = tuple(claims_of_series(beside, index, len(states), step))
        place = (*around[:-1], f"{around[-1]}[{index}]")
        found.append(_source(path, place, state, step, claims=claims, beside=beside))
    return found


def _source(path: Path, around: tuple[str, ...], state: Mapping[str, Any], step: int | None, **told: Any) -> Source:
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    # One number can claim to be a million million times itself: what lies beside weights is as large as it is stored.
    beside = told.get("beside") or {}
    told["beside"] = {key: value for key, value in beside.items() if not isinstance(value, Tensor) or _is_whole(value)}
    notes = tuple(
        f"{printable(key)!r} beside the weights was left out: it claims {value.numel():,} numbers, and fewer are stored"
        for key, value in beside.items()
        if key not in told["beside"] and isinstance(value, Tensor)
    )
    return Source(
        path, ".".join(map(printable, around)), shapes, step, tensors=tensors, notes=notes[:MOST_SAID], **told
    )


def _is_whole(tensor: Tensor) -> bool:
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return plain and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _is_state_dict(content: Any) -> bool:
    """Whether a dictionary is names and tensors. PyTorch puts other things (`_extra_state`, `_metadata`) among them
    only rarely; curves are tensors too, and no matrices."""
    if not isinstance(content, Mapping):
        return False
    tensors = sum(isinstance(value, Tensor) and value.ndim > 0 for value in content.values())
    plain = tensors >= 2 and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    return plain and any(value.ndim >= 2 for value in content.values())


# ---- names -----------------------------------------------------------------------------------------------------------


def unwrapped(source: Source) -> Source:
    """A source without what wrappers put into its names, and without the mean over steps of its weights (EMA, SWA)
    where both are there.

    >>> compiled = Source(Path("a.pt"), "", {"_orig_mod.W_E": (5, 4), "_orig_mod.W_U": (4, 5)})
    >>> unwrapped(compiled).shapes
    {'W_E': (5, 4), 'W_U': (4, 5)}
    """
    names, notes = {}, []
    for name in source.shapes:
        shorter = name
        for wrapper in _WRAPPERS:
            shorter = shorter.replace(wrapper, "")
        names[name] = shorter
    wrapped = [wrapper for wrapper in _WRAPPERS if any(wrapper in name for name in source.shapes)]
    if len(set(names.values())) < len(names) or "" in names.values():
        return source  # two of one name: whoever recognizes layouts is to see what is there
    if wrapped:
        notes.append(f"{' and '.join(map(repr, wrapped))} in the names of tensors was left out")
    if "n_averaged" in names and source.shapes["n_averaged"] == ():
        names.pop("n_averaged")
        notes.append("'n_averaged', with which torch counts the steps of a mean of weights, was left out")
    means = {name for name in names if _MEANS.match(name)}
    live = names.keys() - means
    of_network = {name for name in live if source.shapes[name]}
    if means and sorted(source.shapes[name] for name in means if source.shapes[name]) == sorted(
        source.shapes[name] for name in of_network
    ):
        prefix = sorted(name.partition(".")[0] for name in means)[0]
        names = {name: shown for name, shown in names.items() if name in of_network}
        notes.append(f"{prefix!r}, a mean of the weights over steps, was left out: the weights themselves were taken")
    if not notes:
        return source
    shapes = {names[name]: shape for name, shape in source.shapes.items() if name in names}
    return replace(source, shapes=shapes, names=names, notes=(*source.notes, *notes))


def _checked(source: Source) -> Source:
    if len(source.shapes) > MOST_TENSORS or any(len(name) > 500 for name in source.shapes):
        raise InputError(
            f"{source.path} has {len(source.shapes):,} tensors, or names of more than 500 characters; no network here "
            "has"
        )
    return source
