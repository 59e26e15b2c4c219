"""What is kept for exact resume, in `state/`: read with every sum that it carries."""

import re
from collections.abc import Mapping

from torch import Tensor

from interp.errors import InputError
from interp.machine import read_tensors
from interp.models import Snapshot, Weights
from interp.runs.digests import weights_digest
from interp.runs.format import FIRST_STEP, check_header, largest_step_file, step_header
from interp.runs.lines import METRICS, sum_of
from interp.runs.run import Run

MOST_WEIGHTS = 256  # that a state can hold beside what a gradient filter remembers: weights, moments of an optimizer


def read_state(run: Run, name: str, step: int | None, most: int | None = None) -> tuple[int, dict[str, Tensor]]:
    """The tensors of a file in `state/`, and their step: `step`, or, where that is None, the one that the file says.

    Raises InputError for a file that is damaged or of another run, and where the lines of metrics.jsonl that lead up to
    it are not those that it was written after.
    """
    path = run.path / "state" / name
    if most is None:
        queued = run.training.filter.remembered if run.training is not None else 0
        most = largest_step_file(run.model, run.task.sizes, MOST_WEIGHTS + queued)
    with run.folder() as folder, folder.open(f"state/{name}", most) as file:
        tensors, header = read_tensors(file)
    if step is None:
        said = str(header.get("step"))
        step = int(said) if re.fullmatch("[0-9]{9}|-[0-9]{8}", said) else FIRST_STEP - 1
    check_header(path, header, step_header(run.hash, step, run.format, lines="", tensors=""))
    before = [line for line in run.lines if line.step <= step]
    if run.format == 1:  # which has no sums
        if run.training is not None and "recorder" not in run.info and (not before or before[-1].step != step):
            raise InputError(f"{run.path / METRICS} has no line of step {step}, of which {path} is: lines are missing")
        return step, tensors
    if header["tensors"] != (digest := weights_digest(tensors)):
        raise InputError(
            f"{path} was altered: its tensors have digest {digest}, its header recorded {header['tensors']!s:.40}"
        )
    if header["lines"] != sum_of(before, run.hash):
        raise InputError(
            f"{path} was written after other lines than {run.path / METRICS} has up to step {step}: some are missing, "
            "or one of the two is of another run"
        )
    return step, tensors


def state_tensors(snapshot: Snapshot) -> dict[str, Tensor]:
    """The tensors of a state, by the names that they have in its file: `weights|NAME`, `optimizer|NAME|BUFFER` and, of
    what a gradient filter remembers, `filter|NAME|BUFFER`, as in the snapshot.

    >>> import torch
    >>> one = torch.ones(1)
    >>> list(state_tensors(Snapshot(3, {"layer": one}, {}, {"layer|exp_avg": one, "filter|layer|mean": one}, True)))
    ['weights|layer', 'optimizer|layer|exp_avg', 'filter|layer|mean']
    """
    tensors = {f"weights|{name}": weight for name, weight in snapshot.weights.items()}
    of_filter = {name: value for name, value in snapshot.state.items() if name.startswith("filter|")}
    of_optimizer = {f"optimizer|{name}": one for name, one in snapshot.state.items() if name not in of_filter}
    return tensors | of_optimizer | of_filter


def parts_of_state(tensors: Mapping[str, Tensor], *, where: str) -> tuple[Weights, dict[str, Tensor]]:
    """The weights and the state of a snapshot from the tensors of its file; raises InputError for any other name.

    >>> import torch
    >>> weights, state = parts_of_state({"weights|layer": torch.ones(1), "filter|layer|mean": torch.ones(1)}, where="")
    >>> list(weights), list(state)
    (['layer'], ['filter|layer|mean'])
    """
    weights, state = dict[str, Tensor](), dict[str, Tensor]()
    for full_name, tensor in tensors.items():
        part, _, name = full_name.partition("|")
        if part not in ("weights", "optimizer", "filter"):
            raise InputError(
                f"{where}: unexpected tensor {full_name!r:.100}; names begin with weights|, optimizer| or filter|"
            )
        if part == "weights":
            weights[name] = tensor
        else:
            state[full_name if part == "filter" else name] = tensor
    return weights, state
