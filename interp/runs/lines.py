"""metrics.jsonl: a line per logged step, each with a sum over itself and all lines before it."""

import hashlib
import json
import math
import numbers
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from interp.errors import InputError
from interp.experiment import TrainingConfig
from interp.machine import LONGEST_LINE, Folder, json_lines
from interp.runs.format import FIRST_STEP, LAST_STEP

METRICS = "metrics.jsonl"
_SUMMED = re.compile(rb'(\{.+), "sum": "([0-9a-f]{16})"\}\n', re.DOTALL)


class Line(NamedTuple):
    """One line: what it says, the sum of everything up to it ("" in the first format), and where it ends."""

    row: dict[str, Any]
    sum: str
    end: int

    @property
    def step(self) -> int:
        return self.row["step"]

    @property
    def is_divergence(self) -> bool:
        """Whether training stopped here because its loss is not finite."""
        return self.row == {"step": self.step, "train_loss": None}


def line_bytes(row: Mapping[str, Any], previous: str, version: int) -> tuple[bytes, str]:
    """A line and its sum. It is that of the bytes before `, "sum"`, after the sum of the line before, or after the hash
    of the experiment. Raises InputError for one that no reader would take.

    >>> line_bytes({"step": 0}, "00c0ffee00c0ffee", version=2)
    (b'{"step": 0, "sum": "cdad5ef7297eb18f"}\\n', 'cdad5ef7297eb18f')
    """
    content = json.dumps(row).encode()
    if len(content) > LONGEST_LINE - 64:
        longest = max(row, key=len)
        raise InputError(f"the metrics of step {row['step']} take {len(content):,} bytes: {longest[:60]!r}… is no name")
    if version == 1:
        return content + b"\n", ""
    total = _sum(previous, content[:-1])
    return content[:-1] + f', "sum": "{total}"}}\n'.encode(), total


def read_metrics(folder: Folder, experiment_hash: str, version: int, training: TrainingConfig | None) -> list[Line]:
    """The lines of metrics.jsonl; an unfinished last one is left out, and a file that is not there has none.

    Raises InputError for a line that is not of the format, or whose sum is not that of the lines up to it, and for one
    beyond the end of a `training`: no more of the file is read.
    """
    path = folder.path / METRICS
    if folder.stat(METRICS) is None:
        return []
    lines: list[Line] = []
    latest = LAST_STEP if training is None else training.steps
    last, previous, end = FIRST_STEP - 1, experiment_hash, 0
    with folder.open(METRICS) as file:
        for number, (content, row) in enumerate(json_lines(file), start=1):
            damaged = f"{path} is damaged at line {number}: "
            if version > 1:
                found = _SUMMED.fullmatch(content)
                if found is None:
                    raise InputError(f"{damaged}it does not end in a sum")
                if (total := _sum(previous, found[1])) != row.pop("sum", None) or total.encode() != found[2]:
                    raise InputError(f"{damaged}it, or a line before it, was altered or is missing: the sums differ")
                previous = total
            step = row.get("step")
            if type(step) is not int or not last < step <= LAST_STEP:
                raise InputError(f"{damaged}step {step!r:.40}, expected an integer above that of the line before")
            if step > latest:
                raise InputError(f"{damaged}step {step}, and its training ends at step {latest}")
            for name, value in row.items():
                if not (_is_digest(value) if name == "weights" else _is_number(value)):
                    expected = "a digest of 16 hex digits" if name == "weights" else "a number or null"
                    raise InputError(f"{damaged}{name!s:.100} {value!r:.100}, expected {expected}")
            last, end = step, end + len(content)
            lines.append(Line(row, previous if version > 1 else "", end))
    return lines


def finite(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Metrics as a line holds them: JSON has no NaN and no infinity, they become null. Raises InputError, naming the
    metric, for what is no number and for a name that is taken.

    >>> finite({"train_loss": 1.5, "test_loss": math.nan})
    {'train_loss': 1.5, 'test_loss': None}
    """
    for name in ("step", "weights", "sum"):
        if name in metrics:
            raise InputError(f"a metric cannot be named {name!r}: metrics.jsonl has its own")
    values = {name: _number(name, value) for name, value in metrics.items()}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _number(name: str, value: Any) -> float:
    if hasattr(value, "shape") and hasattr(value, "item"):  # an array, or a tensor: torch is not loaded to ask
        if len(value.shape) and math.prod(value.shape) != 1:
            raise InputError(f"the metric {name!r} is a tensor of shape {list(value.shape)}, expected one number")
        value = None if getattr(value, "is_meta", False) else value.item()
    if not isinstance(value, numbers.Real | np.bool_):
        raise InputError(f"the metric {name!r} is {value!r:.60}, expected a number")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def sum_of(lines: list[Line], experiment_hash: str) -> str:
    """The sum after these lines."""
    return lines[-1].sum if lines else experiment_hash


def _sum(previous: str, content: bytes) -> str:
    return hashlib.sha256(previous.encode() + content).hexdigest()[:16]


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{16}", value) is not None


def _is_number(value: Any) -> bool:
    return value is None or type(value) is float or (type(value) is int and abs(value) < 2**63)
