"""Is a run what it says it is? Digests, shapes, and the stored losses recomputed from the weights."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from interp.errors import InputError
from interp.runs.checkpoint import Checkpoint
from interp.runs.run import Run

# The weights are the same; what may differ is the order in which float32 sums of the forward pass are taken.
RELATIVE_TOLERANCE = 2e-3
ABSOLUTE_TOLERANCE = 1e-9


def differences(run: Run, walk: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps) -> Iterator[str]:
    """One line for each contradiction in a run (checkpoints that are missing, altered or of steps that the schedule
    does not keep; stored losses and accuracies that the weights do not give); none for a sound run.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> list(differences(run, walk=lambda steps: steps[-1:]))  # the last checkpoint alone
    []
    """
    rows = {row["step"]: row for row in run.rows}
    steps = set(run.steps)
    for step in sorted(step for step, row in rows.items() if "weights" in row and step not in steps | run.thinned):
        yield f"{run.path}: the checkpoint of step {step} is missing, though metrics.jsonl records it"
    if run.training is not None and "recorder" not in run.info:  # another loop keeps what it likes
        for step in sorted(steps - set(run.training.kept_steps())):
            yield f"{run.path}: there is a checkpoint of step {step}, which the schedule does not keep"
    for step in walk(sorted(steps)):
        try:
            checkpoint = run[step]
        except InputError as error:
            yield str(error)
            continue
        if step in rows:
            yield from (f"{run.path}: step {step}: {line}" for line in _contradictions(checkpoint, rows[step]))


def _contradictions(checkpoint: Checkpoint, row: dict) -> Iterator[str]:
    for split in ("train", "test", "unmirrored", "held_out"):
        prefix = "unmirrored_test" if split == "unmirrored" else split
        stored_loss, stored_accuracy = row.get(f"{prefix}_loss"), row.get(f"{prefix}_accuracy")
        loss, accuracy = checkpoint.loss(split), checkpoint.accuracy(split)
        if stored_loss is not None and not math.isclose(
            loss, stored_loss, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE
        ):
            yield f"the {prefix} loss is {loss:.6g}, recorded was {stored_loss:.6g}"
        # A pair whose two largest logits agree to rounding may fall to either side.
        pairs = int(checkpoint.task.mask(split).sum())
        if stored_accuracy is not None and not abs(accuracy - stored_accuracy) * pairs <= 2.001:
            yield f"the {prefix} accuracy is {accuracy:.4f}, recorded was {stored_accuracy:.4f}"
