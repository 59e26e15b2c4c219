"""Numbers in words, the same everywhere."""

import math

from interp.experiment import ModelConfig


def as_step(step: int | None) -> str:
    """A step for a reader."""
    return f"{step:,}" if step is not None else "not seen"


def named_step(step: int) -> str:
    """A checkpoint by its step, for a heading; one that has none (−1) is "this checkpoint"."""
    return f"step {step:,}" if step >= 0 else "this checkpoint"


def short_name(tensor: str) -> str:
    """A tensor by the last word of its name, of a norm by two: `W_Q`, `ln1.w`."""
    words = tensor.split(".")
    return ".".join(words[-2:]) if words[-1] in ("w", "b") else words[-1]


def of_last_layer(model: ModelConfig) -> str:
    """Whose the neurons are that analyses tell of, after the word neurons; nothing where there is one layer.

    >>> of_last_layer(ModelConfig()), of_last_layer(ModelConfig(family="mlp", n_layers=3))
    ('', ' of the last hidden layer')
    """
    if model.n_layers == 1:
        return ""
    return " of the last hidden layer" if model.family == "mlp" else " of the last layer"


def as_number(value: float | None) -> str:
    """A number of two digits for a reader."""
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if 99.5 <= abs(value) < 1e5 else f"{value:.2g}"


def as_norm(value: float) -> str:
    """A norm for a reader."""
    return f"{value:.1f}" if value < 1e4 else f"{value:.2g}"


def as_count(number: int, of: str) -> str:
    """So many of something."""
    return f"{number:,} {of}" + ("" if number == 1 else "s")


def as_size(n_bytes: int) -> str:
    """A size for a reader, in the unit of thousands of bytes that fits; any size, also one that no float holds.

    >>> as_size(410_000), as_size(12_345_678), as_size(46 * 10**9)
    ('410.0 kB', '12.3 MB', '46.0 GB')
    """
    from rich import filesize

    return filesize.decimal(min(n_bytes, 10**30))


def as_percent(value: float | None, digits: int = 1) -> str:
    """A share for a reader."""
    return f"{100 * value:.{digits}f} %" if value is not None and math.isfinite(value) else "unknown"


def as_accuracy(value: float | None) -> str:
    """A share of answers for a reader: 100 % only where it is all of them, 0 % where it is none."""
    if value is None or not math.isfinite(value):
        return "unknown"
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    return "> 99.9 %" if value > 0.9995 else "< 0.1 %" if value < 0.0005 else f"{100 * value:.1f} %"


def readable(value: object) -> str:
    """A value of a summary in words."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "unknown"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {readable(entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(readable, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
