"""A folder of checkpoints as the series that it is: files of steps in it, or one folder per step, of one run; what is
no network is passed over, and said."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from interp.errors import InputError
from interp.interchange.importing.arrays import has_no_network, read_array_folder
from interp.interchange.importing.contents import is_optimizer, read_file
from interp.interchange.importing.folders import ENDINGS, Passed, Place, places_in
from interp.interchange.importing.kinds import OTHER_ENDINGS, is_plain_data
from interp.interchange.importing.pickles import holds_floats, is_pickled, load_pickled
from interp.interchange.importing.shards import INDEX, shard_of
from interp.interchange.importing.source import Source, is_own_file, n_matrices
from interp.interchange.importing.steps import is_best, is_end, is_final, is_place, step_in_name, step_of_folder
from interp.interchange.plain_files import LARGEST_JSON, check_plain
from interp.machine import read_json

MOST_RUNS_NAMED = 8
# What trainers write beside weights; told by what they hold, and where that cannot be read, by these names.
_OF_TRAINERS = re.compile(
    r"(?i)(.*_)?(optimizer|optim|optim_states|scheduler|lr_scheduler|rng_state\w*|random_states?_\w+|training_args|scaler"
    r"|grad_scaler|sampler)(_\d+)?\.(pt|pth|bin|ckpt)"
)


def read_folder(folder: Path, only: Collection[Path] | None = None) -> list[Source]:
    """Every checkpoint of the one run in a folder, with steps from the names of files, else of folders; of `only` these
    files, where they are given.

    Raises InputError where nothing is found (saying what is there), for what cannot be read, and for several runs,
    which are named.
    """
    passed = Passed(folder)
    places = list(places_in(folder, passed, only))
    found = [(place, source) for place in places for source in _networks(place, passed)]
    if not found:
        raise _nothing(folder, places, passed)
    sources = [_with_step(place, source) for place, source in _one_run(folder, found, passed)]
    sources = _without_copies(sources, passed)
    return [replace(sources[0], notes=(*sources[0].notes, *passed.said())), *sources[1:]]


# ---- which files are networks ----------------------------------------------------------------------------------------


def _networks(place: Place, passed: Passed) -> Iterator[Source]:
    """The networks in one folder. A file that cannot be read is an error, unless it is known to hold none."""
    for unit in _units(place):
        try:
            sources = read_file(unit)
        except InputError as error:
            if why := _no_network(unit):
                passed.over(unit, why)
                passed.refusals.append(error)
                continue
            raise InputError(
                f"{error}. Where it is no checkpoint, name the files that are, and not their folder"
            ) from None
        if sources and all(n_matrices(source.shapes) < 2 for source in sources):
            passed.over(unit, "it holds fewer than two matrices, and so no network")
        else:
            yield from sources
    if place.arrays and not place.files:
        if place.odd:
            raise InputError(
                f"{place.folder} is arrays, one for each tensor, and {place.odd[0].name!r} is no plain file of that "
                "folder; put the array there, or take the name away"
            )
        sources = read_array_folder(place.folder, place.arrays)
        if all(n_matrices(source.shapes) >= 2 for source in sources):
            yield from sources
        else:
            passed.over(place.folder / "*.npy", "fewer than two of them are matrices, and so they are no network")


def _units(place: Place) -> list[Path]:
    """The files, those that are parts of one state dict once."""
    indexed = {file.name.removesuffix(INDEX) for file in place.files if file.name.endswith(INDEX)}
    units, sets = [], set()
    for file in place.files:
        part = shard_of(file)
        if part is None:
            units.append(file)
        elif part[0] not in indexed and part[0] not in sets:
            sets.add(part[0])
            units.append(file)
    return units


def _no_network(path: Path) -> str | None:
    """Why a file that was refused is known to hold no network: by what is in it, or what its trainer calls it."""
    if path.suffix == ".npz" and has_no_network(path):
        return "fewer than two of its arrays are matrices of numbers, and so it is no network"
    if path.suffix in ENDINGS and is_pickled(path) and (why := _no_network_pickled(path)):
        return why
    if path.suffix == ".bin" and "model" not in path.name.lower() and is_plain_data(path):
        return "it begins like no file of weights"
    return "by its name it belongs to the trainer, and holds no network" if belongs_to_trainer(path.name) else None


def _no_network_pickled(path: Path) -> str | None:
    if holds_floats(path) is False:
        return "it holds no floating-point tensors, and so no network"
    try:
        content = load_pickled(path)
    except InputError:
        return None
    if is_optimizer(content):
        return "it holds the state of an optimizer, and no network"
    return "it holds one tensor, and no network" if isinstance(content, torch.Tensor) else None


def belongs_to_trainer(name: str) -> bool:
    """Whether a file is called as trainers call what they keep beside weights.

    >>> belongs_to_trainer("optimizer.pt"), belongs_to_trainer("model.pt")
    (True, False)
    """
    return _OF_TRAINERS.fullmatch(name) is not None


def _nothing(root: Path, places: Sequence[Place], passed: Passed) -> InputError:
    """The refusal of a folder without weights, with what it does have."""
    if passed.refusals:
        return passed.refusals[0]  # it says more than that the file holds no network
    others = sorted({ending for place in places for ending in place.others if ending in OTHER_ENDINGS})
    said = [f"its {ending} is {OTHER_ENDINGS[ending][0]}: {OTHER_ENDINGS[ending][1]}" for ending in others[:2]]
    return InputError(
        "; ".join(
            [
                f"{root}: there are no files of weights ({', '.join(ENDINGS)}, .npy) in it, nor in its folders",
                *said,
                *passed.said()[:3],
            ]
        )
    )


# ---- one run, in order -----------------------------------------------------------------------------------------------

Found = tuple[Place, Source]


def _one_run(root: Path, found: list[Found], passed: Passed) -> list[Found]:
    """The checkpoints of one run. What lies directly in the folder comes first; a lone network there without a step,
    above a series, is what its trainer saved at the end, or thought best, and is left out unless it is called final."""
    runs: dict[tuple[str, ...], list[Found]] = {}
    for place, source in found:
        # Of numbered folders with a final network in each, a number is that of a run.
        named_end = is_end(source.path.name) and source.step is None
        runs.setdefault(run_of(place.parts, numbered=not named_end), []).append((place, source))
    if () in runs:
        for name in runs:
            if name:
                passed.over(root.joinpath(*name), "it has weights too, of another run")
        runs = {(): runs[()]}
    if len(runs) > 1:
        names = [str(root.joinpath(*name)) for name in runs]
        more = f" and {len(names) - MOST_RUNS_NAMED} more" if len(names) > MOST_RUNS_NAMED else ""
        raise InputError(
            f"{root} holds {len(runs)} runs: {', '.join(names[:MOST_RUNS_NAMED])}{more}; name one of them, each is "
            "imported by itself"
        )
    [run] = runs.values()
    direct = [entry for entry in run if not entry[0].parts]
    below = [entry for entry in run if entry[0].parts]
    if not direct or not below:
        return run
    if any(source.step for _, source in direct) or len(direct) > 1:
        for place, _ in below:
            passed.over(place.folder, "the files beside it are the run")
        return direct
    [(place, source)] = direct
    if source.step is not None or is_final(source.path):
        return run
    same = next((other for _, other in reversed(below) if _equal(source, other)), None)
    why = f"it is the same network as {passed.shown(same.path)!r}" if same else "nothing tells which step it is of"
    passed.over(source.path, why)
    return below


def run_of(parts: tuple[str, ...], *, numbered: bool) -> tuple[str, ...]:
    """The folder of the run that a folder of weights belongs to: what is left without steps and places for weights."""
    while parts and (is_place(parts[-1]) or is_end(parts[-1]) or (numbered and step_of_folder(parts[-1]) is not None)):
        parts = parts[:-1]
    return parts


def _with_step(place: Place, source: Source) -> Source:
    """A step that the name of the file does not tell is that of its folder, or what the trainer wrote there."""
    is_part = source.path.name.endswith(INDEX) or shard_of(source.path) is not None
    if source.taken.endswith("]") or (source.path.is_file() and not is_part and step_in_name(source.path) is not None):
        return source
    for name in reversed(place.parts):
        if (step := step_of_folder(name)) is not None:
            return replace(source, step=step)
    state = place.folder / "trainer_state.json"
    if is_own_file(state):
        try:
            check_plain(state, LARGEST_JSON, "any trainer's state")
        except InputError as error:
            return replace(source, notes=(*source.notes, f"not read: {error}"))
        content = read_json(state)
        step = content.get("global_step") if isinstance(content, dict) else None
        if type(step) is int:
            return replace(source, step=step)
    return source


def _without_copies(sources: list[Source], passed: Passed) -> list[Source]:
    """One network in two formats, and one called best or final that is one of the numbered, once."""
    kept: dict[int, Source] = {}  # by their place in the order of files
    # safetensors come first: of two formats they are the one that is taken; and a number before `last`
    order = sorted(
        enumerate(sources), key=lambda entry: (entry[1].path.suffix != ".safetensors", is_end(entry[1].path.name))
    )
    by_step: dict[int, Source] = {}
    for place, source in order:
        if source.step is None:
            continue
        twin = by_step.setdefault(source.step, source)
        named_end = twin is not source and is_end(source.path.name) and _equal(source, twin)
        if named_end or _is_other_format(source, twin):
            passed.over(source.path, f"it is the same network as {twin.path.name!r}")
        else:
            kept[place] = source
    numbered = sorted(kept.values(), key=lambda source: source.step or 0, reverse=True)
    others: list[Source] = []
    for place, source in order:
        if source.step is not None:
            continue
        end = source.path.name if is_end(source.path.name) else source.path.parent.name
        same = next((other for other in numbered if _equal(source, other)), None) if is_end(end) else None
        twin = next((other for other in others if _is_other_format(source, other)), None)
        if is_end(end):
            twin = twin or next((other for other in others if _equal(source, other)), None)
        if same is not None:
            passed.over(source.path, f"it is the same network as {passed.shown(same.path)!r}")
        elif twin is not None:
            passed.over(source.path, f"it is the same network as {twin.path.name!r}")
        elif numbered and is_best(end):
            passed.over(source.path, "nothing tells which step it is of")
        else:
            is_last = numbered and is_final(Path(end)) and not others
            kept[place] = replace(source, step=(numbered[0].step or 0) + 1) if is_last else source
            others.append(source)
    return [kept[place] for place in sorted(kept)]


def _is_other_format(one: Source, other: Source) -> bool:
    """Whether two files of one folder are one network, as safetensors and as something else."""
    beside = one.path.parent == other.path.parent and one.path.suffix != other.path.suffix
    return beside and _equal(one, other)


def _equal(one: Source, other: Source) -> bool:
    """Whether two sources hold the same numbers under the same names."""
    if dict(one.shapes) != dict(other.shapes):
        return False
    try:
        first, second = one.load(), other.load()
    except InputError:
        return False
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())
