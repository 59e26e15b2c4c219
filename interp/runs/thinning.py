"""Removing checkpoints from a run to save disk space."""

import contextlib
import json
import os

from interp.errors import InputError
from interp.machine import lock_folder, refusals_as, write_atomically
from interp.runs.format import step_name
from interp.runs.run import Run


def thin(run: Run, keep_every: int) -> int:
    """Remove the checkpoints whose step is not a multiple of `keep_every`; the first and the last stay. Returns how
    many were removed.

    >>> import interp
    >>> from interp.models import initial_weights
    >>> from tempfile import TemporaryDirectory
    >>> weights = initial_weights(model := interp.ModelConfig(d_model=8, d_mlp=4), 7)
    >>> with TemporaryDirectory() as folder:
    ...     with interp.RunWriter.create(f"{folder}/mine", interp.Task(7), model) as writer:
    ...         for step in range(0, 50, 10):
    ...             writer.append(step, weights)
    ...     thin(writer.run, keep_every=20), writer.run.steps
    (2, [0, 20, 40])
    """
    if keep_every < 1:
        raise InputError(f"--keep-every must be at least 1, got {keep_every}")
    with contextlib.ExitStack() as held, refusals_as(f"cannot thin {run.path}"):
        held.callback(os.close, lock_folder(run.path))
        removed = [step for step in run.steps[1:-1] if step % keep_every]
        # First the note that they are gone on purpose, then the files: a kill in between leaves a run that verifies.
        if removed:
            write_atomically(run.path / "thinned.json", json.dumps(sorted(run.thinned | set(removed))).encode() + b"\n")
        for step in removed:
            (run.path / "steps" / step_name(step)).unlink()
    return len(removed)
