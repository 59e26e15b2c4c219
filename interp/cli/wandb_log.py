"""Training also shown in Weights & Biases. What `metrics.jsonl` says stays the truth: nothing is read back from
there."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from interp.errors import InputError
from interp.experiment import Experiment
from interp.models import Snapshot


@contextlib.contextmanager
def wandb_log(experiment: Experiment, out: Path) -> Iterator[Callable[[Snapshot], None]]:
    """Something to call with every snapshot: its metrics go to a W&B run named after the folder `out`, at the step they
    are of.

    Project, account and whether anything leaves this machine (WANDB_MODE=offline) are W&B's own settings, in its
    environment variables. Raises InputError when W&B is not installed or cannot begin.
    """
    try:
        import wandb
    except ImportError:
        raise InputError("--log wandb needs wandb; install it with: pip install 'interp[wandb]'") from None
    try:
        settings = wandb.Settings(console="off", silent=True, disable_git=True, save_code=False)
        logged = wandb.init(name=out.name, config=experiment.to_dict() | {"hash": experiment.hash}, settings=settings)
    except Exception as error:  # its own kinds and those of its transport
        raise InputError(
            f"W&B cannot begin ({(str(error).splitlines() or [''])[0]}); WANDB_MODE=offline needs no account"
        ) from None

    def log(snapshot: Snapshot) -> None:
        logged.log(dict(snapshot.metrics), step=snapshot.step)

    try:
        yield log
    finally:
        logged.finish()
