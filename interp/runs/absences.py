"""What the lines of a run record and its folder lacks, and the other way round."""

from collections.abc import Sequence

from interp.runs.format import step_file
from interp.runs.lines import METRICS
from interp.runs.run import Run


def missing_steps(run: Run) -> list[int]:
    """The steps, ascending, of which a line records a checkpoint that neither is there nor was removed on purpose.

    >>> import interp
    >>> missing_steps(interp.open_run(interp.reference_path()))
    []
    """
    # In the order in which they are written: a run that grows, or is thinned meanwhile, lacks nothing.
    recorded, there = run.digests.keys(), set(run.steps)
    return sorted(recorded - there - run.thinned)


def unrecorded_steps(run: Run) -> list[int]:
    """The steps, ascending, that have a checkpoint which no line records: one that is being written or that a kill left
    so, those beyond where training goes on from, and any that somebody put there.

    >>> import interp
    >>> unrecorded_steps(interp.open_run(interp.reference_path()))
    []
    """
    there = run.steps
    return [step for step in there if step not in run.digests]


def missing_in_words(run: Run, missing: Sequence[int]) -> str:
    """One line about checkpoints that are missing, at least one, by the file of the first.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> missing_in_words(run, [100, 200, 3000]).removeprefix(f"{run.path}/")
    'steps/step_000000100.safetensors and 2 more, up to step 3000, are missing, though metrics.jsonl records them'
    """
    first = run.path / step_file(missing[0])
    if len(missing) == 1:
        return f"{first} is missing, though {METRICS} records it"
    return (
        f"{first} and {len(missing) - 1:,} more, up to step {missing[-1]}, are missing, though {METRICS} records them"
    )
