"""One operation of a network of several, as a run of its own."""

from pathlib import Path

from interp.errors import InputError
from interp.experiment import Operations, splits_of_each
from interp.models import of_operation
from interp.runs.curves import columns_of
from interp.runs.run import Run, open_run
from interp.runs.writer import RunWriter

EXTRACTED = "extracted"  # what run.json notes: of which run, and which operation


def extract(run: Run, operation: str, out: str | Path, *, overwrite: bool = False) -> Run:
    """Write what a network of several operations is to one of them, `Checkpoint.of_operation`, at every checkpoint of a
    run, as a new run, and give it: of that one table over Z_p, about which everything can be asked.

    Its curves are those of that operation. Losses are left out where they are no cross-entropies. It was not trained by
    itself: what asks how it was trained (the forces on the weights, norms against the learning rate) is left out of
    what can be asked about it.

    Raises InputError where the run has no several operations, or not this one.

    >>> import interp
    >>> from interp.models import initial_weights
    >>> from tempfile import TemporaryDirectory
    >>> task, model = interp.Operations(7, ("add", "random")), interp.ModelConfig(d_model=8, d_mlp=4, prompt="aob=")
    >>> with TemporaryDirectory() as folder:
    ...     with RunWriter.create(f"{folder}/both", task, model) as writer:
    ...         writer.append(0, initial_weights(model, task.sizes))
    ...     one = extract(open_run(f"{folder}/both"), "add", f"{folder}/add")
    ...     one.task.title, one.steps
    ('add modulo 7', [0])
    """
    if not isinstance(task := run.task, Operations):
        raise InputError(f"{run.path} is of one task, {run.task.title}; there are no several operations to take one of")
    place, of_one = task.place(operation), task.task_of(operation)
    if not run.steps:
        raise InputError(f"{run.path} has no checkpoints; there is no network to take an operation of")
    _, model = of_operation(run.last.weights, run.model, place, task.sizes)
    noted = {EXTRACTED: {"operation": operation, "operations": list(task.operations), "of_run": run.hash}}
    # What it is called there, and here.
    columns = columns_of(of_one)
    names = {name: columns[name.rpartition(".")[2]] for name in splits_of_each(task, ("train", "test", "held_out"))}
    names = {name: here for name, here in names.items() if name.startswith(f"{operation}.")}
    told = ("loss", "accuracy") if run.training is None or run.training.loss_is_cross_entropy else ("accuracy",)
    with RunWriter.create(out, of_one, model, noted=noted, overwrite=overwrite) as writer:
        kept = set(run.steps)
        rows = {row["step"]: row for row in run.rows}
        for step in sorted(kept | rows.keys()):
            row = rows.get(step, {})
            metrics = {
                f"{here}_{of}": row[f"{name}_{of}"]
                for name, here in names.items()
                for of in told
                if f"{name}_{of}" in row
            }
            if step in kept:
                writer.append(step, of_operation(run[step].weights, run.model, place, task.sizes)[0], metrics)
            elif metrics:
                writer.log(step, metrics)
    return open_run(out)
