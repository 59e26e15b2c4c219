"""What files and folders hold: every checkpoint of one run, in the order of their steps."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from interp.errors import InputError, check_integer
from interp.interchange.importing.beside import configurations_beside, pairs_beside, unread_beside
from interp.interchange.importing.configuration import seeds_in
from interp.interchange.importing.contents import read_file
from interp.interchange.importing.folders import ENDINGS
from interp.interchange.importing.hub import Downloaded
from interp.interchange.importing.series import read_folder
from interp.interchange.importing.source import Claim, Source, check_tensor
from interp.interchange.importing.steps import UNKNOWN_STEP, is_final, step_of_folder
from interp.interchange.importing.training_pairs import as_indices, check_count, pairs_in
from interp.machine import refusals_as
from interp.runs import FIRST_STEP, LAST_STEP

__all__ = ["Claim", "Source", "check_tensor", "find_sources", "unique_names", "without_diverged_end"]


def find_sources(
    paths: Sequence[Path | Downloaded],
    steps: Sequence[int] = (),
    *,
    configuration_given: bool = False,
    split_given: bool = False,
) -> list[Source]:
    """Every checkpoint in files and folders, in the order of their steps, which are taken from `steps`, names or
    contents. Of configuration and training pairs, what lies beside the weights and is damaged is an error, or where
    another was given, a note.

    Raises InputError for what cannot be read, and where steps are missing, twice, or do not fit.
    """
    found = [source for path in paths for source in _read(path)]
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
                f"{_kinds(found)}"
            )
    return [*found[:-1], _with_what_lies_beside(found[-1], configuration_given, split_given)]


def _with_what_lies_beside(source: Source, configuration_given: bool, split_given: bool) -> Source:
    """The training pairs and seeds in the files beside the weights, where the weights' own file tells none."""
    beside, notes = dict(source.beside), list(source.notes)
    for name in ("train_indices", "train_data"):
        if name in beside:
            check_count(f"{source.where}: {name!r}", beside[name])
    if not {"train_indices", "train_data"} & beside.keys():
        if (own := pairs_in(beside)) is not None:
            beside["train_indices"] = as_indices(source.where, own[1])
        else:
            try:
                found = pairs_beside(source.path, configured=configuration_given)
            except InputError as error:
                if not split_given:
                    raise
                notes.append(f"not read: {error}")
                found = None
            if found is not None:
                beside["train_indices_from"], beside["train_indices"] = found
    seeds = seeds_in(beside)
    for _, content in configurations_beside(source.path, given=configuration_given):
        seeds = {**(seeds_in(content) if isinstance(content, dict) else {}), **seeds}
    notes += unread_beside(source.path, given=configuration_given)
    return replace(source, beside={**beside, "seeds": seeds} if seeds else beside, notes=tuple(notes))


def without_diverged_end(found: Sequence[Source]) -> list[Source]:
    """The checkpoints up to the last whose numbers are numbers: training that diverged leaves NaN at its end. What was
    left out is said in the notes of the last one that is kept.

    Raises InputError where all of them hold NaN. One in the middle is an error when it is loaded.
    """
    kept = list(found)
    if len(kept) == 1:
        return kept  # whoever loads it is told
    while kept and _is_diverged(kept[-1]):
        kept.pop()
    if not kept:
        raise InputError(f"{found[0].where}: every checkpoint holds NaN or infinity; training diverged at once")
    if left := found[len(kept) :]:
        count = f"the last {len(left)} checkpoints" if len(left) > 1 else "the last checkpoint"
        note = f"{count}, from step {left[0].step:,} on, {'hold' if len(left) > 1 else 'holds'} NaN (training diverged)"
        kept[-1] = replace(
            kept[-1], notes=(*kept[-1].notes, f"{note} and {'were' if len(left) > 1 else 'was'} left out")
        )
    return kept


def _is_diverged(source: Source) -> bool:
    try:
        source.load()
    except InputError as error:
        if "holds NaN or infinity" not in str(error):
            raise
        return True
    return False


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
    twice = len({source.path.name for source in found}) < len({source.path for source in found})
    names = [f"{source.path.parent.name}/{source.path.name}" if twice else source.path.name for source in found]
    names = [
        f"{name} {source.taken}" if source.taken.endswith("]") else name
        for name, source in zip(names, found, strict=True)
    ]
    return ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")


def _kinds(found: Sequence[Source]) -> str:
    """How to name the checkpoints of one kind, where names differ by more than numbers: `ema_*.pt`, `step_*/w.pt`."""
    folders = len({source.path.parent for source in found}) > 1
    kinds = set()
    for source in found:
        parent = source.path.parent
        if folders:
            parent = Path(*parent.parts[:-1], re.sub(r"\d+", "*", parent.name))
        kinds.add(str(parent / re.sub(r"\d+", "*", source.path.name)))
    shown = sorted(kinds)
    return f", those of one kind: {' or '.join(shown[:4])}" if 1 < len(shown) <= 20 else ""


def _read(path: Path | Downloaded) -> list[Source]:
    if isinstance(path, Downloaded):
        found = read_folder(path.folder, path.files)
        if path.step is not None:
            if len(found) > 1:
                raise InputError(
                    f"{path.title} holds {len(found)} checkpoints, {_listed(found)}, and is called after one step; "
                    "name the revision, and the folder in it"
                )
            found = [replace(found[0], step=path.step)]
        return found
    with refusals_as(f"cannot read {path}"):
        if path.is_dir():
            return read_folder(path)
        if not path.exists():
            raise InputError(f"there is no file or folder {path}")
        if not path.is_file():
            raise InputError(f"{path} is no file")
    step = step_of_folder(path.parent.name)  # `step_*/model.pt`: the folder tells what the name does not
    return [replace(source, step=step) if source.step is None else source for source in read_file(path)]


def unique_names(sources: Iterable[Source]) -> list[str]:
    """The files, each once, by name; by the names of their folders too, where those tell them apart."""
    paths = list(dict.fromkeys(source.path for source in sources))
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    return [f"{path.parent.name}/{path.name}" for path in paths]
