"""Checkpoints of a network whose code the person brings: `--module my_code.py:build`. The code is run because its file
was named; the weights are read as safely as any others, and loaded strictly."""

import contextlib
import hashlib
import importlib.util
import inspect
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from torch import Tensor, nn

from interp.errors import InputError
from interp.experiment import ModelConfig, Task
from interp.figures import as_size
from interp.interchange.importing.configuration import configuration_of, raw_configuration
from interp.interchange.importing.proof import (
    INFERRED_ACCURACY,
    MEMORIZED,
    POOR,
    above_chance,
    check_numbers,
    compared,
    operations_to_try,
    task_with,
)
from interp.interchange.importing.sources import Source
from interp.interchange.importing.splits import split_of
from interp.interchange.plain_files import read_plain
from interp.machine import refusals_as
from interp.models import Reader, Weights, record
from interp.runs import Checkpoint

# Less than this is poor: a network that memorized, or one that was asked wrong. What is stored beside it, or the
# training pairs, can tell.
LARGEST_CODE = 10_000_000  # bytes
TRACEBACK = "interp.import_run(…, module=…) in Python shows the traceback"


class Named(NamedTuple):
    """What a layout says of itself."""

    name: str


@dataclass(frozen=True)
class ModuleReading:
    """How every checkpoint is read with the module, and the proof of it; what `Reading` is for a layout."""

    layout: Named
    module: nn.Module
    reader: Reader
    task: Task
    model: ModelConfig
    facts: Mapping[str, Any]
    notes: tuple[str, ...]
    split_from: str

    def weights_of(self, source: Source) -> Weights:
        """What a checkpoint of the run holds. Raises InputError for a source that is not like the one that was
        proved."""
        load_strictly(self.module, source.load(), source.where)
        found = record(self.module, self.task, self.reader)
        check_numbers(source.where, found.weights)
        if found.model != self.model:
            raise InputError(
                f"{source.where} gives {found.model.module.in_words}, unlike the last: {self.model.module.in_words}"
            )
        return found.weights


# ---- their code ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def module_of(named: str, config: Mapping[str, Any] | None) -> Iterator[tuple[nn.Module, str]]:
    """The module that FILE.py:NAME gives, and a line that says which code was run. NAME is a function or a class, which
    is called, with the configuration where it needs an argument, or a module. While it is open, files beside FILE.py
    can be imported.

    Raises InputError, in one line, for a file or a name that there is not, and for what goes wrong in their code.
    """
    path, _, name = named.rpartition(":")
    file = Path(path)
    if not path or not name.isidentifier():
        raise InputError(
            f"--module is FILE.py:NAME, the file and the function in it that builds the module; got {named!r}"
        )
    with refusals_as(f"cannot read {file}"):
        if not file.is_file():
            raise InputError(f"--module: there is no file {path!r}")
        digest = hashlib.sha256(read_plain(file, LARGEST_CODE, "any code")).hexdigest()[:16]
    sys.path.insert(0, str(file.resolve().parent))
    try:
        built = _built(_executed(file), file, name, config)
        yield built, f"the code of {file.name} (SHA-256 {digest}…) was run, because --module named it"
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(file.resolve().parent))


def _executed(file: Path) -> ModuleType:
    name = f"_named_by_module_option_{file.stem}"
    specification = importlib.util.spec_from_file_location(name, file)
    if specification is None or specification.loader is None:
        raise InputError(f"--module: {file} is no Python file")
    code = importlib.util.module_from_spec(specification)
    sys.modules[name] = code  # dataclasses and pickles look a class up by the name of its module
    with _theirs(f"{file} fails when it is imported"):
        specification.loader.exec_module(code)
    return code


@contextlib.contextmanager
def _theirs(what: str) -> Iterator[None]:
    """What goes wrong in somebody's code, in one line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        first = (str(error).strip().splitlines() or [""])[0][:300]
        raise InputError(f"{what}: {type(error).__name__}: {first} ({TRACEBACK})") from error


def _built(code: ModuleType, file: Path, name: str, config: Mapping[str, Any] | None) -> nn.Module:
    if not hasattr(code, name):
        known = [key for key, value in vars(code).items() if callable(value) and not key.startswith("_")]
        near = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, known[:20])) or 'none'}"
        raise InputError(f"--module: {file} has no function {name!r}; {hint}")
    builder = getattr(code, name)
    if not isinstance(builder, nn.Module):
        if not callable(builder):
            raise InputError(
                f"--module: {name} in {file} is of type {type(builder).__name__}, expected a function or a class"
            )
        arguments = _arguments(builder, name, file, config)
        with _theirs(f"{name} in {file} fails"):
            builder = builder(*arguments)
    if not isinstance(builder, nn.Module):
        raise InputError(f"--module: {name} in {file} gives a {type(builder).__name__}, expected a torch.nn.Module")
    return builder


def _arguments(builder: Any, name: str, file: Path, config: Mapping[str, Any] | None) -> tuple[Any, ...]:
    """The configuration, where the builder has an argument without a default."""
    try:
        parameters = inspect.signature(builder).parameters.values()
    except (TypeError, ValueError):
        return ()
    needed = [each.name for each in parameters if each.default is each.empty and each.kind in (0, 1, 3)]
    if not needed:
        return ()
    if len(needed) > 1:
        raise InputError(
            f"--module: {name} in {file} needs {', '.join(needed)}; write a function without arguments, or with one, "
            "which is given the configuration as a dictionary"
        )
    if config is None:
        raise InputError(
            f"--module: {name} in {file} needs {needed[0]!r}, which would be the configuration, and there is none "
            "beside the weights; give --config, or write a function without arguments"
        )
    return (dict(config),)


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load a state dict, whole and nothing else; a prefix that all its names share (`module.`, `_orig_mod.`) is cut.

    Raises InputError, naming what is missing, left over, or of another shape.
    """
    expected = module.state_dict()
    ways = [dict(tensors)]
    while len({name.partition(".")[0] for name in ways[-1]}) == 1 and all("." in name for name in ways[-1]):
        ways.append({name.partition(".")[2]: tensor for name, tensor in ways[-1].items()})
    found = max(ways, key=lambda way: len(way.keys() & expected.keys()))
    missing, left_over = ([n for n in one if n not in other] for one, other in ((expected, found), (found, expected)))
    if missing or left_over:
        told = [f"it lacks {_listed(missing)}"] if missing else []
        told += [f"it has {_listed(left_over)} beside"] if left_over else []
        raise InputError(f"{where} is no state dict of the module: {'; '.join(told)}")
    for name, tensor in found.items():
        own = expected[name]
        if isinstance(own, Tensor) and tensor.shape != own.shape:
            raise InputError(
                f"{where}: tensor {name!r} has shape {list(tensor.shape)}, and in the module {list(own.shape)}"
            )
    with _theirs(f"{where} cannot be loaded into the module"):
        module.load_state_dict(found, strict=True)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


# ---- the proof -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def read_with_module(
    sources: Sequence[Source],
    named: str,
    reader: Reader,
    *,
    task: Mapping[str, Any],
    split: str | None,
    train_fraction: float | None,
    configuration: Path | None,
) -> Iterator[ModuleReading]:
    """Build the module, load the last checkpoint, run it over all pairs, twice, and prove that it answers; where the
    last answers nothing, one before it is tried.

    Raises InputError for what cannot be loaded or run, and where p or the operation must be given.
    """
    last = sources[-1]
    told, _, configured = configuration_of(last, configuration)
    known = {**told, **task}
    if "p" not in known:
        raise InputError("what the residues are is not told by a module; give --task.p")
    fraction = train_fraction if train_fraction is not None else known.get("train_fraction")
    stored = next((one for one in (last, *sources) if {"train_indices", "train_data"} & one.beside.keys()), last)
    indices, split_from = split_of(split, known["p"], fraction, stored.beside, stored.where)
    reader = replace(
        reader, source=reader.source or f"{Path(named.rpartition(':')[0]).name}:{named.rpartition(':')[2]}"
    )
    _check_memory(known["p"])
    with module_of(named, raw_configuration(last, configuration)) as (module, ran):
        n_beyond, refused = 0, []
        outcome: tuple[Task, ModelConfig, dict[str, Any]] | None = None
        for place in dict.fromkeys((len(sources) - 1, 3 * len(sources) // 4, len(sources) // 2)):
            source = sources[place]
            load_strictly(module, source.load(), source.where)
            tasks = [
                task_with(known["p"], operation, indices, fraction)
                for operation in operations_to_try(known.get("operation"))
                if _is_defined(known["p"], operation, indices, fraction)
            ]
            if not tasks:
                task_with(known["p"], operations_to_try(known.get("operation"))[0], indices, fraction)  # says why not
            found = record(module, tasks[0], reader)
            try:
                check_numbers(source.where, found.weights)
                facts, chosen = _proof(source, tasks, found.weights, found.model, given="operation" in known)
            except InputError as error:
                refused.append(error)
                continue
            if outcome is None or facts["verified"]:
                outcome, n_beyond = (chosen, found.model, facts), found.n_beyond
            if facts["verified"] or facts["claims"]:
                break
        if outcome is None:
            raise refused[0]
        chosen, model, facts = outcome
        notes = [ran] + ([f"{configured} was read"] if configured and told else [])
        if model.module.classes:
            notes.append(f"of {model.module.classes} classes the first {known['p']} are kept, as residues")
        if n_beyond:
            notes.append(f"for {n_beyond:,} pairs the largest logit is of a class that was cut")
        buffers = [name for name, _ in module.named_buffers()]
        if buffers:
            notes.append(f"buffers are no weights, and are not kept: {_listed(buffers)}")
        yield ModuleReading(
            Named(f"module {reader.source}"), module, reader, chosen, model, facts, tuple(notes), split_from
        )


def _is_defined(p: int, operation: str, indices: tuple[int, ...] | None, fraction: float | None) -> bool:
    try:
        task_with(p, operation, indices, fraction)
    except InputError:
        return False
    return True


def _proof(
    source: Source, tasks: Sequence[Task], weights: Weights, model: ModelConfig, *, given: bool
) -> tuple[dict[str, Any], Task]:
    """What was checked, in JSON values, and the task that the answers fit best."""
    tried = [Checkpoint(-1, weights, task, model) for task in tasks]
    accuracies = {each.task.operation: each.accuracy("all") for each in tried}
    best = max(tried, key=lambda each: accuracies[each.task.operation])
    others = [value for operation, value in accuracies.items() if operation != best.task.operation]
    accuracy, (least, chance) = accuracies[best.task.operation], above_chance(best.task)
    listed = ", ".join(f"{operation} {value:.1%}" for operation, value in accuracies.items())
    if not given and (accuracy < max(INFERRED_ACCURACY, least) or 2 * max(others, default=0) > accuracy):
        raise InputError(
            f"{source.where}: which operation this is cannot be told from the module's answers ({listed} right); give "
            "--task.operation, and look at --module-tokens"
        )
    claims = compared(best, source.claims)
    doubts = [
        f"its source says {entry['name']} {entry['stored']:.4g}, and the module has another"
        + (f", {entry['found']:.4g}" if entry["found"] is not None else ", whatever the split")
        for entry in claims
        if entry["agrees"] is False
    ]
    agrees = [entry["agrees"] for entry in claims if entry["agrees"] is not None]
    is_told = bool(agrees) and all(agrees)
    knows_training_pairs = best.task.mask("train").any() and best.accuracy("train") >= MEMORIZED
    if accuracy <= least and not is_told:
        doubts.insert(0, f"it answers {accuracy:.1%} of the pairs right, and chance is {chance:.1%}")
    elif accuracy < POOR and not is_told and not knows_training_pairs:
        doubts.insert(
            0,
            f"it answers {accuracy:.1%} of the pairs right, which is more than chance ({chance:.1%}) and too poor to "
            "show that it was asked as it should be",
        )
    loss = best.loss("all")
    facts = {
        "verified": not doubts,
        "accuracy": accuracy,
        "loss": loss if math.isfinite(loss) else None,
        "operation": f"{best.task.operation}, {'given or configured' if given else 'inferred from the answers'}",
        "activation": "run by its own code, twice, with the same answers",
        "tried": accuracies,
        "claims": claims,
        "doubts": doubts,
        "likely_causes": (
            "the likely causes: --module-tokens, --task.operation, --task.p, --split, or weights of another module"
        ),
        "step": source.step,
    }
    return facts, best.task


def _check_memory(p: int) -> None:
    """Raises InputError where the answers to all pairs are more than this machine holds."""
    needed, memory = 16 * p**3, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise InputError(
            f"p = {p}: the answers to all {p**2:,} pairs need more than {as_size(needed)} of memory, and this "
            f"machine has {as_size(memory)}"
        )


def describe_module(named: str, source: Source, configuration: Path | None) -> str:
    """The submodules whose output can be recorded as neurons, the matrices that can be the embedding or the
    unembedding, and whether the weights fit."""
    with module_of(named, raw_configuration(source, configuration)) as (module, ran):
        load_strictly(module, source.load(), source.where)
        lines = [f"{source.where} fits the module {type(module).__name__}; {ran}", "submodules (--module-neurons):"]
        lines += [
            f"  {path!r} {type(each).__name__}" for path, each in module.named_modules(remove_duplicate=False) if path
        ]
        lines.append("matrices (--module-embedding, --module-unembedding):")
        lines += [f"  {n!r} {list(weight.shape)}" for n, weight in module.named_parameters() if weight.ndim == 2]
    return "\n".join(lines)
