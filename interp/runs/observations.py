"""What was observed of a run while it was trained, in `observations/`: the sketch of every step's gradient, in blocks
of BLOCK steps, each a file that is there whole or not at all. `checkpoints/README.md` is the specification."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import InputError
from interp.machine import Folder, read_tensors, tensor_bytes
from interp.mathematics.sketch import COMBINATIONS
from interp.models import BLOCK, weight_shapes
from interp.runs.digests import weights_digest
from interp.runs.format import check_header, step_header, step_name, steps_in
from interp.runs.lines import METRICS
from interp.runs.run import Run
from interp.runs.writer import OBSERVATIONS, RunWriter

GRADIENTS = f"{OBSERVATIONS}/gradients"
OBSERVED = "observed"  # what run.json has of it
_KNOWN = {"gradients": {"combinations": COMBINATIONS, "block": BLOCK}}


class ObservedGradients(NamedTuple):
    """The sketches of the gradients of the first steps of a run, `steps` 0, 1, …, for each of its `tensors`
    (`interp.mathematics.sketch.Sketch` has the combinations).

    >>> ObservedGradients(np.arange(2), ["embed.W_E"], np.zeros((2, 1, 64), np.float32)).rows.shape
    (2, 1, 64)
    """

    steps: Int[np.ndarray, " step"]
    tensors: list[str]
    rows: Float[np.ndarray, "step tensor k"]


def noted_observations(observe: str | None) -> dict[str, object]:
    """What run.json notes of a run that is to be observed, so that who goes on with it goes on observing.

    >>> noted_observations("gradients")
    {'observed': {'gradients': {'combinations': 64, 'block': 256}}}
    """
    return {} if observe is None else {OBSERVED: {observe: _KNOWN[observe]}}


def is_observed(run: Run) -> bool:
    """Whether the gradients of a run are, or were, observed. Raises InputError where they are in a way that this
    version does not know.

    >>> import interp
    >>> is_observed(interp.open_run(interp.reference_path()))
    False
    """
    noted = run.info.get(OBSERVED)
    if noted not in (None, _KNOWN):
        raise InputError(
            f"{run.path} was observed as {noted!r:.80}, which this version of interp does not know; expected {_KNOWN}"
        )
    return noted is not None


def write_observed(writer: RunWriter, observed: Mapping[str, Mapping[int, Tensor]]) -> None:
    """Write the blocks that observers completed, before the line of the snapshot that brought them.

    >>> import interp
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     task, model, noted = interp.Task(7), interp.ModelConfig(d_mlp=4), noted_observations("gradients")
    ...     with RunWriter.create(f"{folder}/mine", task, model, noted=noted) as writer:
    ...         write_observed(writer, {"gradients": {0: torch.ones(3, 11, 64)}})
    ...     found = observed_gradients(writer.run)
    >>> found.steps, found.rows.shape, found.tensors[0]
    (array([0, 1, 2], dtype=int32), (3, 11, 64), 'embed.W_E')
    """
    for name, blocks in observed.items():
        for first, rows in blocks.items():
            for folder in (OBSERVATIONS, f"{OBSERVATIONS}/{name}"):
                writer.folder.make(folder)
            tensors = {"rows": rows}
            header = _header(writer.run, first, tensors=weights_digest(tensors))
            writer.folder.write(f"{OBSERVATIONS}/{name}/{step_name(first)}", tensor_bytes(tensors, header))


def observed_gradients(run: Run) -> ObservedGradients:
    """The sketches of the gradients, of all steps whose blocks are complete. Of a run that is not at its end the last
    up to BLOCK steps are in its state.

    Raises InputError, with the command that observes, where there are none, and naming the file, for one that is
    damaged, missing, or of another run.

    >>> import interp
    >>> observed_gradients(interp.open_run(interp.reference_path()))
    Traceback (most recent call last):
        ...
    interp.errors.InputError: ... has no observed gradients; train it with `interp train --observe gradients`, and the \
options that it had
    """
    if not is_observed(run):
        raise InputError(
            f"{run.path} has no observed gradients; train it with `interp train --observe gradients`, and the options "
            "that it had"
        )
    tensors, due = list(weight_shapes(run.model, run.task.sizes)), _due(run)
    with run.folder() as folder:
        firsts = steps_in(folder, GRADIENTS)
        if not firsts and not due:
            raise InputError(
                f"{run.path} has no observed gradients yet: they are written every {BLOCK} steps, and at the end"
            )
        blocks = list[Float[np.ndarray, "n tensor k"]]()
        for first in range(0, max([*firsts, *due]) + 1, BLOCK):
            blocks.append(_read(run, folder, first, due.get(first)))
            if len(blocks[-1]) < BLOCK:
                break
    rows = np.concatenate(blocks)
    return ObservedGradients(np.arange(len(rows), dtype=np.int32), tensors, rows)


def contradictions_of_observations(run: Run) -> Iterator[str]:
    """What is wrong with what was observed of a run, a line each: damaged, missing and surplus files.

    >>> import interp
    >>> list(contradictions_of_observations(interp.open_run(interp.reference_path())))
    []
    """
    try:
        if not is_observed(run):
            return
    except InputError as error:
        yield str(error)
        return
    with run.folder() as folder:
        due = _due(run)
        for first in sorted({*steps_in(folder, GRADIENTS), *due}):
            try:
                _read(run, folder, first, due.get(first))
            except InputError as error:
                yield str(error)


def check_observations_before(run: Run, step: int) -> None:
    """Raises InputError, with what mends it, where blocks of an observed run are gone that end at a step or before: who
    goes on from there does not see them again.

    >>> import interp
    >>> check_observations_before(interp.open_run(interp.reference_path()), 1000)  # which is not observed
    """
    if not is_observed(run):
        return
    with run.folder() as folder:
        there = set(steps_in(folder, GRADIENTS))
    gone = [first for first in range(0, step + 2 - BLOCK, BLOCK) if first not in there]
    if gone:
        raise InputError(
            f"{run.path}: the observed gradients of step {gone[0]:,} to {gone[0] + BLOCK - 1:,} are missing; "
            f"{remedy_of_observations(run)}"
        )


def remedy_of_observations(run: Run) -> str:
    """What helps where nothing but what was observed is damaged.

    >>> import interp
    >>> remedy_of_observations(interp.open_run(interp.reference_path()))
    'put a copy back, or train it again with the same options, --observe gradients and --overwrite'
    """
    return "put a copy back, or train it again with the same options, --observe gradients and --overwrite"


# ---- a block ---------------------------------------------------------------------------------------------------------


def _due(run: Run) -> dict[int, int]:
    """How many steps the blocks have that must be there, by their first: those that came with a line, or before."""
    if run.training is None or not run.lines:
        return {}
    # Where training diverged, no gradient is seen, and the line before it brought what had been.
    seen = [line.step for line in run.lines if not line.is_divergence]
    last = seen[-1] if seen else -1
    is_at_end = last == run.training.steps or run.diverged_at is not None
    due = {first: min(BLOCK, last + 1 - first) for first in range(0, last + 1, BLOCK)}
    return {first: n for first, n in due.items() if is_at_end or n == BLOCK}


def _read(run: Run, folder: Folder, first: int, n_steps: int | None) -> Float[np.ndarray, "n tensor k"]:
    """A block, of `n_steps` where that is known."""
    name, n_tensors = f"{GRADIENTS}/{step_name(first)}", len(weight_shapes(run.model, run.task.sizes))
    path = run.path / name
    if folder.stat(name) is None:
        raise InputError(f"{path} is missing, though training has gone beyond it")
    with folder.open(name, most=BLOCK * n_tensors * COMBINATIONS * 4 + 65_536) as file:
        tensors, header = read_tensors(file)
    check_header(path, header, _header(run, first, tensors=""))
    if (digest := weights_digest(tensors)) != header.get("tensors", digest):
        raise InputError(
            f"{path} was altered: its tensors have digest {digest}, its header recorded {header['tensors']!s:.40}"
        )
    rows = tensors.get("rows", torch.empty(0))
    shape = list(rows.shape)
    is_block = shape[1:] == [n_tensors, COMBINATIONS] and 1 <= len(rows) <= BLOCK and first % BLOCK == 0
    if len(tensors) != 1 or not is_block or rows.dtype != torch.float32 or not rows.isfinite().all():
        raise InputError(
            f"{path} holds {rows.dtype} {shape} of {', '.join(sorted(tensors))!r:.60}, expected finite torch.float32 "
            f"[1 to {BLOCK}, {n_tensors}, {COMBINATIONS}] of 'rows'"
        )
    if n_steps is not None and len(rows) != n_steps:
        raise InputError(f"{path} has {len(rows)} steps, and the lines of {METRICS} lead to {n_steps}")
    return rows.numpy()


def _header(run: Run, first: int, **sums: str) -> dict[str, object]:
    return step_header(run.hash, first, run.format, **sums)
