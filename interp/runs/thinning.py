"""Removing checkpoints from a run to save disk space."""

import errno
import os
import shlex
from collections.abc import Collection

from interp.errors import InputError
from interp.machine import Folder
from interp.runs.absences import missing_in_words, missing_steps, unrecorded_steps
from interp.runs.format import note_of_thinned, step_file, step_name, steps_in
from interp.runs.lines import METRICS
from interp.runs.run import THINNED, Run


def thin(run: Run, keep_every: int) -> int:
    """Remove the checkpoints whose step is not a multiple of `keep_every`; the first and the last stay. Returns how
    many were removed.

    Raises InputError, and removes nothing, unless the checkpoints that are there are those that the lines record: what
    is left of a damaged run is not made less.

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
    steps = run.steps
    return keep_only(run, {step for step in steps if step in (steps[0], steps[-1]) or not step % keep_every})


def keep_only(run: Run, steps: Collection[int]) -> int:
    """Remove the checkpoints of all other steps; `steps` may be empty: what training logged stays, and such a run opens
    and verifies. Returns how many were removed.

    >>> import interp
    >>> from interp.models import initial_weights
    >>> from tempfile import TemporaryDirectory
    >>> weights = initial_weights(model := interp.ModelConfig(d_model=8, d_mlp=4), 7)
    >>> with TemporaryDirectory() as folder:
    ...     with interp.RunWriter.create(f"{folder}/mine", interp.Task(7), model) as writer:
    ...         writer.append(0, weights)
    ...         writer.append(10, weights)
    ...     keep_only(writer.run, []), writer.run.steps, len(writer.run.rows)
    (2, [], 2)
    """
    with run.folder() as folder:
        folder.lock()
        folder.remove_leftovers(of=THINNED)  # of one that was killed in the middle of this
        _check_is_whole(run)
        removed = [step for step in run.steps if step not in steps]
        # First the note that they are gone on purpose, then the files: a kill in between leaves a run that verifies.
        if removed:
            # Without those that are there: thinning by another number was killed before it had removed them.
            noted = run.thinned - set(run.steps) | set(removed)
            _write_note(run, folder, note_of_thinned(noted, run.format))
        for step in removed:
            folder.remove(step_file(step))
    return len(removed)


def remove_states(run: Run) -> None:
    """Remove what going on would need, of a run that has come to its end: three times as much as a checkpoint.

    >>> import interp
    >>> from tempfile import TemporaryDirectory
    >>> training = interp.TrainingConfig(steps=2)
    >>> mine = interp.Experiment(interp.Task(7), interp.ModelConfig(d_model=8, d_mlp=4), training)
    >>> start, end = interp.train(mine)
    >>> with TemporaryDirectory() as folder:
    ...     with interp.RunWriter.create(f"{folder}/mine", mine.task, mine.model, training) as writer:
    ...         writer.save_state(end)
    ...     before = writer.run.state_step
    ...     remove_states(writer.run)
    ...     before, writer.run.state_step
    (2, None)
    """
    with run.folder() as folder:
        folder.lock()
        for step in steps_in(folder, "state"):
            folder.remove(f"state/{step_name(step)}")


def correct_note(run: Run, folder: Folder) -> None:
    """Take out of thinned.json the steps that no line records, for they are written again, and those that are there:
    an earlier version left them in when it wrote them again. Otherwise a checkpoint that is lost later would pass for
    one that was removed on purpose.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> with run.folder() as folder:
    ...     correct_note(run, folder)  # it has none
    """
    noted = run.thinned
    correct = noted & run.digests.keys() - set(run.steps)
    if correct != noted:
        folder.write(THINNED, note_of_thinned(correct, run.format))


def _write_note(run: Run, folder: Folder, content: bytes) -> None:
    """Thinning is what one does about a full disk, on which there may be no room for its note."""
    try:
        folder.write(THINNED, content)
    except InputError as error:
        if os.strerror(errno.ENOSPC) not in str(error) or not folder.names("results"):
            raise
        results = shlex.quote(str(run.path / "results"))
        raise InputError(
            f"{error}; make room first by rm -r {results}, which is computed again when asked for"
        ) from None


def _check_is_whole(run: Run) -> None:
    nothing = f"nothing was removed; `interp verify {run.path}` tells more"
    if missing := missing_steps(run):
        raise InputError(f"{missing_in_words(run, missing)}; {nothing}")
    if unrecorded := unrecorded_steps(run):
        one_or_more = f"{len(unrecorded):,} checkpoint{'s' * (len(unrecorded) > 1)}"
        ended = run.is_complete or run.diverged_at is not None
        interrupted = run.training is not None and "recorder" not in run.info and not ended
        hint = f"finish it first with `interp resume {run.path}`" if interrupted else nothing
        raise InputError(
            f"{run.path / METRICS} has no line of {one_or_more}, the first of step {unrecorded[0]}: it is damaged, "
            f"or was interrupted; {hint}"
        )
