"""Other people's checkpoints become an ordinary run: read safely, recognized, proved by running, written whole or not
at all."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from interp.errors import InputError
from interp.interchange.importing.describing import Description, describe
from interp.interchange.importing.hub import Downloaded, download, is_on_the_hub, provenance
from interp.interchange.importing.modules import ModuleReading, describe_module, read_with_module
from interp.interchange.importing.proved_split import with_proved_split
from interp.interchange.importing.reading import Known, Reading, read, unverified
from interp.interchange.importing.sources import Source, find_sources, unique_names, without_diverged_end
from interp.interchange.importing.splits import check_list
from interp.interchange.layouts.mapping import read_mapping
from interp.models import Reader
from interp.runs import Run, RunWriter, begin_run, new_run, open_run

MOST_NAMES = 20  # of files, in run.json
AnyReading = Reading | ModuleReading


def import_run(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    task: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    split: str | None = None,
    train_fraction: float | None = None,
    steps: Sequence[int] = (),
    layout: str | None = None,
    mapping: str | Path | None = None,
    configuration: str | Path | None = None,
    module: str | None = None,
    module_tokens: str = "a b",
    module_neurons: str | None = None,
    module_embedding: str | None = None,
    module_unembedding: str | None = None,
    accept_unverified: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] | None = None,
) -> Run:
    """Turn checkpoints in files or folders, or on the Hugging Face Hub (`hf://OWNER/NAME[@REVISION][/FOLDER]`), into
    the run `out`.

    `task` and `model` are fields of Task and ModelConfig that names and shapes do not tell: `{"operation": "add"}`,
    `{"attention_rate": 0.8}`. `split` is `torch-randperm:SEED`, `python-shuffle:SEED` (with `train_fraction`),
    `file:PATH`, `infer` (from the losses of a network that memorizes) or `none`. A lone checkpoint whose step is not
    known is step −1. The last checkpoint is run over all pairs, a split is held against up to twelve checkpoints, and
    what was checked is in `run.info["imported"]`. It cannot show that the earlier checkpoints are of the same network.
    `say` is told, line by line, what is downloaded.

    With `module="my_code.py:build"` the code of that file is run: `build()` (or `build(configuration)`) gives a
    `torch.nn.Module`, into which every checkpoint is loaded and which is run over all pairs; the run holds what it
    answered, and opens without the code. The other `module_…` are those of `Checkpoint.from_module`.

    Raises InputError, having written nothing, for files that are damaged or would run code, a layout that is not known,
    something that must be given, and a reading that cannot be proved, unless `accept_unverified`.

    >>> import interp
    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> pizza = circuit_checkpoint(interp.Task(11), circuit_neurons([1, 2]))
    >>> with TemporaryDirectory() as folder:
    ...     torch.save({name: weight.float() for name, weight in pizza.weights.items()}, f"{folder}/theirs.pt")
    ...     run = import_run(f"{folder}/theirs.pt", f"{folder}/run", split="none")
    ...     run.task.title, run.key_frequencies, run.info["imported"]["proof"]["accuracy"]
    ('add modulo 11', [1, 2], 1.0)
    """
    places = _paths(sources, say)
    if split is not None and split.startswith("file:"):
        check_list(Path(split.removeprefix("file:")))
    given = {"configuration_given": configuration is not None, "split_given": split is not None}
    found = without_diverged_end(find_sources(places, steps, **given))
    from_hub = [place for place in places if isinstance(place, Downloaded)]
    if module is not None:
        _check_no_layout(layout, mapping, model)
        with read_with_module(
            found,
            module,
            Reader(module_tokens, module_neurons, module_embedding, module_unembedding),
            task=task or {},
            split=split,
            train_fraction=train_fraction,
            configuration=Path(configuration) if configuration is not None else None,
        ) as by_module:
            if not by_module.facts["verified"] and not accept_unverified:
                raise unverified(by_module.facts)
            return _write(Path(out), found, by_module, from_hub, overwrite=overwrite)
    if parts := [name for name in (module_neurons, module_embedding, module_unembedding) if name]:
        raise InputError(f"{parts[0]!r} is named as a part of a module, and no --module FILE.py:NAME is given")
    known = Known(
        dict(task or {}),
        dict(model or {}),
        split,
        train_fraction,
        layout,
        read_mapping(Path(mapping)) if mapping is not None else None,
        Path(configuration) if configuration is not None else None,
    )
    reading = with_proved_split(read(found, known), found, split)
    if not reading.facts["verified"] and not accept_unverified:
        raise unverified(reading.facts)
    return _write(Path(out), found, reading, from_hub, overwrite=overwrite)


def _check_no_layout(layout: str | None, mapping: str | Path | None, model: Mapping[str, Any] | None) -> None:
    """Raises InputError for what says how tensors are to be read, where their own code reads them."""
    for option, given in {"--layout": layout, "--mapping": mapping, "--model.…": model}.items():
        if given:
            raise InputError(f"{option} says how tensors are read, and with --module their own code does; leave it out")


def _paths(sources: str | Path | Sequence[str | Path], say: Callable[[str], None] | None) -> list[Path | Downloaded]:
    """The files and folders that are named; what is on the Hub is downloaded."""
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    if not given:
        raise InputError("there is nothing to import: name a file or a folder")
    places: list[Path | Downloaded] = []
    for source in given:
        places += download(str(source), say) if is_on_the_hub(source) else [Path(source)]
    return places


def _write(
    out: Path,
    sources: Sequence[Source],
    reading: AnyReading,
    from_hub: Sequence[Downloaded],
    *,
    overwrite: bool,
) -> Run:
    """The run, built beside its place and moved there when it is whole."""
    target = Path(os.path.realpath(out))
    with new_run(out, overwrite) as fresh:
        begin_run(fresh, reading.task, reading.model)
        with RunWriter(open_run(fresh.path), fresh.twin()) as writer:
            for source in sources:
                writer.append(source.step if source.step is not None else -1, reading.weights_of(source))
            writer.finish(imported=_provenance(sources, reading, from_hub))
    return open_run(out if (out / "run.json").exists() else target)


def _provenance(sources: Sequence[Source], reading: AnyReading, from_hub: Sequence[Downloaded]) -> dict[str, Any]:
    """What run.json says of an import: where it is from, how it was read, what was checked."""
    names = unique_names(sources)
    notes = [f"from {place.title}" for place in from_hub[-1:]]
    notes += [*reading.notes, *(note for source in sources for note in source.notes)]
    return {
        "files": names if len(names) <= MOST_NAMES else [*names[: MOST_NAMES - 1], names[-1]],  # the last was proved
        **({"n_files": len(names)} if len(names) > MOST_NAMES else {}),
        "taken": sources[-1].taken or "the whole file",
        "layout": reading.layout if isinstance(reading.layout, str) else reading.layout.name,
        "split": reading.split_from,
        "notes": list(dict.fromkeys(notes)),
        "proof": dict(reading.facts),
        **({"hub": provenance(from_hub)} if from_hub else {}),
    }


def describe_sources(
    sources: str | Path | Sequence[str | Path],
    steps: Sequence[int] = (),
    layout: str | None = None,
    mapping: str | Path | None = None,
    *,
    task: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    configuration: str | Path | None = None,
    say: Callable[[str], None] | None = None,
    module: str | None = None,
) -> Description:
    """What would be imported: every tensor of the last checkpoint and what it is recognized as, every guess, what
    running the network proves, and a mapping file that says all that; with a module, what can be named in it. Nothing
    is written.

    >>> from interp.testing import circuit_checkpoint, circuit_neurons
    >>> from tempfile import TemporaryDirectory
    >>> import interp, torch
    >>> pizza = circuit_checkpoint(interp.Task(11), circuit_neurons([1, 2]))
    >>> with TemporaryDirectory() as folder:
    ...     torch.save({name: weight.float() for name, weight in pizza.weights.items()}, f"{folder}/theirs.pt")
    ...     found = describe_sources(f"{folder}/theirs.pt")
    >>> found.fits, "proved: accuracy 1" in found.text, found.mapping.splitlines()[0]
    (True, True, 'family = "transformer"')
    """
    given = {"configuration_given": configuration is not None, "split_given": True}  # which is not looked at here
    found = find_sources(_paths(sources, say), steps, **given)
    if module is not None:
        text = describe_module(module, found[-1], Path(configuration) if configuration is not None else None)
        return Description(text, "", True)
    known = Known(
        dict(task or {}),
        dict(model or {}),
        "none",
        None,
        layout,
        read_mapping(Path(mapping)) if mapping is not None else None,
        Path(configuration) if configuration is not None else None,
    )
    return describe(without_diverged_end(found), known)
