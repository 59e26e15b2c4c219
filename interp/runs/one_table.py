"""Whether a run is about one table over Z_p, which is what circuits are told of."""

from interp.errors import InputError
from interp.experiment import Operations, Task
from interp.runs.run import Run


def check_has_phases(run: Run, what: str) -> None:
    """Raises InputError, which says that `what` is about circuits on Z_p, unless the task of the run is a table over
    Z_p.

    >>> import interp
    >>> check_has_phases(interp.open_run(interp.reference_path()), "an explanation")  # pairs over Z_43: nothing to say
    """
    if isinstance(task := run.task, Operations):
        raise InputError(
            f"{what} tells of the circuit of one operation, and {run.path} has several ({task.title}); `interp "
            f"extract {run.path} {task.operations[0]}` makes a run of one"
        )
    if not isinstance(task, Task):
        raise InputError(
            f"{what} tells of circuits on Z_p, and {run.path} was trained on vectors ({task.title}); "
            f"`interp report {run.path}` has its curves and norms"
        )
