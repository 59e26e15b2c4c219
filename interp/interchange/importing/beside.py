"""Files that tell of weights and lie beside them, or above where their folder is one of checkpoints: configurations,
and training pairs."""

import copy
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interp.errors import InputError
from interp.interchange.importing.source import is_own_file, printable
from interp.interchange.importing.steps import is_end, is_place, step_of_folder
from interp.interchange.importing.training_pairs import as_indices, pairs_in
from interp.machine import first_line, read_bytes, read_foreign_tensors, refusals_as

LARGEST = 64_000_000  # bytes; indices of training pairs can be a million numbers
LARGEST_YAML = 1_000_000  # which is slow to read
MOST_REPEATED = 2_000_000  # bytes: a page of YAML that repeats itself can be a thousand million pages long
MOST_ABOVE = 3
CONFIGURATIONS = (
    *("config.json", "config.yaml", "config.yml", "hparams.yaml", "hparams.json", "hyperparameters.json", "args.json"),
    *("params.json", "model_config.json", "run_config.json", "experiment.json", "metadata.json"),
)
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


def configurations_beside(weights: Path) -> Iterator[tuple[Path, Any]]:
    """The configurations that there are, the nearest first, each with its content."""
    stem = weights.stem.removesuffix(".safetensors")
    own = [f"{stem}.json", re.sub(r"^[a-zA-Z]+_", "config_", stem) + ".json", f"config_{stem}.json"]
    for place, folder in enumerate(folders_of(weights)):
        names = [*(own if place == 0 else ()), *CONFIGURATIONS]
        for path in [folder / name for name in dict.fromkeys(names)]:
            if is_own_file(path) and (content := read_configuration(path, asked=False)) is not None:
                yield path, content


def unread_beside(weights: Path) -> list[str]:
    """What is to be said of YAML files there that could not be read, which is no error while nobody asked for them."""
    notes = []
    for path in (folder / name for folder in folders_of(weights) for name in CONFIGURATIONS):
        if path.suffix != ".json" and is_own_file(path):
            try:
                read_configuration(path)
            except InputError as error:
                notes.append(f"not read: {str(error).replace(str(path), path.name, 1)}")
    return notes


def read_configuration(path: Path, *, asked: bool = True) -> Any:
    """The content of a configuration, JSON or (where PyYAML is installed) YAML, whose objects of classes are not made.

    Raises InputError for a damaged one; a YAML file that cannot be read and was not asked for is None.
    """
    with refusals_as(f"cannot read {path}"):
        size = path.stat().st_size
    is_yaml = path.suffix in (".yaml", ".yml")
    if size > (LARGEST_YAML if is_yaml else LARGEST):
        raise InputError(f"{path} has {size:,} bytes, more than any configuration; give another one: --config FILE")
    if not is_yaml:
        try:
            return json.loads(read_bytes(path))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is damaged: {first_line(error)}; give another one: --config FILE") from None
    try:
        return copy.deepcopy(_yaml(read_bytes(path)))
    except ImportError:
        if not asked:
            return None
        raise InputError(f"{path} is YAML, which needs PyYAML: pip install pyyaml, or save it as JSON") from None
    except Exception as error:  # its own kinds, and whatever nests too deep
        if not asked:
            return None
        raise InputError(f"{path} is no plain YAML: {first_line(error)}; save it as JSON") from None


@functools.lru_cache(4)  # a configuration is asked for several things, and YAML is slow
def _yaml(content: bytes) -> Any:
    import yaml

    anchored: list[bool] = []  # of the lists and mappings that are open, whether they can be repeated
    aliases = 0
    for event in yaml.parse(content, yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            anchored.append(event.anchor is not None)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchored.pop()
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
            if any(anchored) or aliases * len(content) > MOST_REPEATED:
                raise ValueError("it repeats what repeats itself, or too much (*…)")
    return yaml.safe_load(content)


def pairs_beside(weights: Path) -> tuple[str, Any] | None:
    """The training pairs that lie in a file beside the weights, and the name of that file: in a configuration or
    metadata under a name such as `train_indices`, or in `train_indices.json`, `split.npy` and the like."""
    for path, content in configurations_beside(weights):
        if isinstance(content, dict) and (found := pairs_in(content)):
            return path.name, as_indices(str(path), found[1])
    for folder in folders_of(weights):
        for name in PAIRS:
            path = folder / f"{name}.json"
            if is_own_file(path):
                content = read_configuration(path)
                found = (
                    pairs_in(content) if isinstance(content, dict) else ("", content) if name[:5] == "train" else None
                )
                if found is not None:
                    return path.name, as_indices(str(path), found[1])
            path = folder / f"{name}.safetensors"
            if is_own_file(path) and (found := pairs_in(read_foreign_tensors(path)[0])) is not None:
                return path.name, as_indices(str(path), found[1])
            path = folder / f"{name}.npy"
            if name.startswith("train") and is_own_file(path) and weights.is_file():
                return path.name, as_indices(str(path), _array(path))
    return None


def _array(path: Path) -> Any:
    import numpy as np

    try:
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError) as error:
        raise InputError(f"{path} is damaged: {printable(first_line(error), 200)}") from None
