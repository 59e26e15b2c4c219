"""Files that tell of weights and lie beside them, or above where their folder is one of checkpoints: configurations,
and training pairs."""

import copy
import functools
import importlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interp.errors import InputError
from interp.interchange.importing.arrays import load_array
from interp.interchange.importing.source import is_own_file
from interp.interchange.importing.steps import is_end, is_place, step_of_folder
from interp.interchange.importing.training_pairs import LARGEST_ARRAY, as_indices, pairs_in
from interp.interchange.plain_files import LARGEST_JSON, LARGEST_SETTINGS, check_tensors, read_plain, what_else
from interp.machine import first_line, read_foreign_tensors

MOST_REPEATED = 2_000_000  # bytes: a page of YAML that repeats itself can be a thousand million pages long
DEEPEST_YAML = 50
MOST_ABOVE = 3
_LISTS = "any list of pairs"
CONFIGURATIONS = (
    *("config.json", "config.yaml", "config.yml", "hparams.yaml", "hparams.json", "hyperparameters.json", "args.json"),
    *("params.json", "model_config.json", "run_config.json", "experiment.json", "metadata.json"),
)
_ARRAYS = (".npy", ".safetensors")
OTHERS = ("trainer_state.json", "metrics.jsonl", "steps.npy")  # that other files here look for beside weights
PAIRS = ("train_indices", "train_idx", "train_pairs", "split", "splits", "data_split")


def folders_of(weights: Path) -> list[Path]:
    """The folder of a file of weights, or of arrays, and those above it as long as their names say only that
    checkpoints are in them, or of which step."""
    found = [weights if weights.is_dir() else weights.parent]
    real = found[0].resolve()
    while len(found) <= MOST_ABOVE and (
        is_place(real.name) or is_end(real.name) or step_of_folder(real.name) is not None
    ):
        real = real.parent
        found.append(real)
    return found


def configurations_beside(weights: Path, *, given: bool = False) -> Iterator[tuple[Path, Any]]:
    """The configurations that there are, the nearest first, each with its content; one that is damaged is an error,
    unless another was `given`."""
    for path in _configurations(weights):
        if is_own_file(path):
            try:
                content = read_configuration(path, asked=False)
            except InputError:
                if not given:
                    raise
                continue
            if content is not None:
                yield path, content


def _configurations(weights: Path) -> Iterator[Path]:
    """Where configurations are looked for."""
    stem = weights.stem.removesuffix(".safetensors")
    own = [f"{stem}.json", re.sub(r"^[a-zA-Z]+_", "config_", stem) + ".json", f"config_{stem}.json"]
    for place, folder in enumerate(folders_of(weights)):
        for name in dict.fromkeys([*(own if place == 0 else ()), *CONFIGURATIONS]):
            yield folder / name


def unread_beside(weights: Path, *, given: bool = False) -> list[str]:
    """What is to be said of files there that were not read: YAML that could not be, which is no error while nobody
    asked for it, a damaged configuration where another was `given`, and what is no plain file of that folder."""
    notes = []
    for path in _configurations(weights):
        if is_own_file(path) and (given or path.suffix != ".json"):
            try:
                read_configuration(path)
            except InputError as error:
                notes.append(f"not read: {str(error).replace(str(path), path.name, 1)}")
    folders = folders_of(weights)
    pairs = (folder / f"{name}{ending}" for folder in folders for name in PAIRS for ending in (".json", *_ARRAYS))
    others = (folders[0] / name for name in OTHERS)
    for path in (*_configurations(weights), *pairs, *others):
        if os.path.lexists(path) and not is_own_file(path):
            what = what_else(path) or "a link that leads out of its folder"
            notes.append(f"{path.name!r} beside the weights was not read: it is {what}, and no plain file there")
    return list(dict.fromkeys(notes))


def read_configuration(path: Path, *, asked: bool = True, instead: str = "--config FILE") -> Any:
    """The content of a configuration, JSON or (where PyYAML is installed) YAML, whose objects of classes are not made;
    it is not to be changed.

    Raises InputError for a damaged one, with what can be given `instead`; a YAML file that cannot be read and was not
    asked for is None.
    """
    is_yaml = path.suffix in (".yaml", ".yml")
    what = f"any such file; give another one: {instead}"
    try:
        content = read_plain(path, LARGEST_SETTINGS if is_yaml else LARGEST_JSON, what)
    except InputError:
        if is_yaml and not asked:
            return None
        raise
    if not is_yaml:
        try:
            return _json(content)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is damaged: {first_line(error)}; give another one: {instead}") from None
    try:
        importlib.import_module("yaml")  # also where the content is remembered
        found = _yaml(content)
        if isinstance(found, Exception):
            raise found
        return copy.deepcopy(found)
    except ImportError:
        if not asked:
            return None
        raise InputError(f"{path} is YAML, which needs PyYAML: pip install pyyaml, or save it as JSON") from None
    except Exception as error:  # its own kinds, and whatever nests too deep
        if not asked:
            return None
        raise InputError(f"{path} is no plain YAML: {first_line(error)}; save it as JSON") from None


# A configuration is asked for several things, and the larger ones take seconds to read.
@functools.lru_cache(2)
def _json(content: bytes) -> Any:
    return json.loads(content)


@functools.lru_cache(4)
def _yaml(content: bytes) -> Any:
    """The content of YAML, or what is wrong with it, which is to be found once."""
    import yaml

    try:
        return _plain_yaml(content)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        return error


def _plain_yaml(content: bytes) -> Any:
    import yaml

    anchored: list[bool] = []  # of the lists and mappings that are open, whether they can be repeated
    aliases = 0
    for event in yaml.parse(content, yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            anchored.append(event.anchor is not None)
            if len(anchored) > DEEPEST_YAML:  # its reader takes the longer the deeper it is
                raise ValueError(f"it nests deeper than {DEEPEST_YAML}")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchored.pop()
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
            if any(anchored) or aliases * len(content) > MOST_REPEATED:
                raise ValueError("it repeats what repeats itself, or too much (*…)")
    return yaml.safe_load(content)


def pairs_beside(weights: Path, *, configured: bool = False) -> tuple[str, Any] | None:
    """The training pairs that lie in a file beside the weights, and the name of that file: in a configuration or
    metadata under a name such as `train_indices`, or in `train_indices.json`, `split.npy` and the like. A damaged
    configuration is an error, unless another one is `configured`."""
    for path, content in configurations_beside(weights, given=configured):
        if isinstance(content, dict) and (found := pairs_in(content)):
            return path.name, as_indices(str(path), found[1])
    for folder in folders_of(weights):
        for name in PAIRS:
            path = folder / f"{name}.json"
            if is_own_file(path):
                content = read_configuration(path, instead="--split file:FILE")
                found = (
                    pairs_in(content) if isinstance(content, dict) else ("", content) if name[:5] == "train" else None
                )
                if found is not None:
                    return path.name, as_indices(str(path), found[1])
            path = folder / f"{name}.safetensors"
            if is_own_file(path):
                check_tensors(path, LARGEST_ARRAY, _LISTS)
                if (found := pairs_in(read_foreign_tensors(path)[0])) is not None:
                    return path.name, as_indices(str(path), found[1])
            path = folder / f"{name}.npy"
            if name.startswith("train") and is_own_file(path) and weights.is_file():
                return path.name, as_indices(str(path), load_array(path, LARGEST_ARRAY, _LISTS))
    return None
