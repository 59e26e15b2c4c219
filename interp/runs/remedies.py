"""What mends a run that contradicts itself."""

import shlex

from interp.runs.run import Run


def is_trained_here(run: Run) -> bool:
    """Whether `interp train` and `interp resume` can write the run, and no import and no loop of somebody's own.

    >>> import interp
    >>> is_trained_here(interp.open_run(interp.reference_path()))
    True
    """
    return run.training is not None and "recorder" not in run.info


def remedy(run: Run) -> str:
    """What gives a run again whose lines, checkpoints or notes are damaged. Nothing brings back what was in them: it is
    computed anew, or comes from a copy.

    >>> import interp
    >>> remedy(interp.open_run(interp.reference_path()))
    'put a copy back, or train it again with the same options and --overwrite'
    """
    if not is_trained_here(run):
        again = "let its loop record it again with overwrite=True" if "recorder" in run.info else "write it again"
        again = "import it again with --overwrite" if "imported" in run.info else again
        return f"put a copy back, or {again}"
    # Whether it was complete its lines cannot be asked, which may be damaged: run.json notes the end.
    if "end" in run.info or run.format == 1 or "initial_weights" in run.info:
        return "put a copy back, or train it again with the same options and --overwrite"
    parts = " ".join(shlex.quote(str(run.path / name)) for name in ("state", "steps", "metrics.jsonl", "thinned.json"))
    return f"put a copy back, or train all of it anew: rm -rf {parts} && interp resume {shlex.quote(str(run.path))}"


def remedy_of_state(run: Run) -> str:
    """What helps where nothing but the state to go on from is damaged.

    >>> import interp
    >>> remedy_of_state(interp.open_run(interp.reference_path())).split(": rm")[0]
    'a run that is complete needs no state, which may be removed'
    """
    state = shlex.quote(str(run.path / "state"))
    if is_trained_here(run) and (run.is_complete or run.diverged_at is not None):
        what = "is complete" if run.is_complete else "diverged"
        return f"a run that {what} needs no state, which may be removed: rm -rf {state}"
    if not is_trained_here(run):
        return f"what is recorded stands; its loop goes on without its state after: rm -rf {state}"
    if "initial_weights" in run.info:
        return f"without it, training begins anew from the checkpoint of step 0: rm -rf {state}"
    resumption = f"interp resume {shlex.quote(str(run.path))}"
    return f"without it, training begins anew, with the same steps: rm -rf {state} && {resumption}"
