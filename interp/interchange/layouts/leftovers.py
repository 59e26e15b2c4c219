"""Tensors that no rule speaks of, and why they may be left out."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# A number without axes that is called otherwise may be one that the network multiplies with, such as `logit_scale`.
_OF_TRAINING = re.compile(r"loss|step|epoch|iter|acc(uracy)?($|_)|best|(^|[._])lr($|[._])|learning_rate|seed|ema_decay")


def of_no_use(name: str, tensor: Tensor, recognized: Mapping[str, Tensor]) -> str | None:
    """Why a tensor that the layout does not know can be left out, or None when it may matter."""
    last = name.rpartition(".")[2]
    is_mask = last in ("mask", "causal_mask", "attn_mask") and tensor.ndim >= 2
    if is_mask and _hides(tensor):
        return None
    copied = next((other for other, weight in recognized.items() if _is_copy(tensor, weight)), None)
    reasons = {
        "an attention mask": is_mask,
        "the value of a masked score": last == "IGNORE" and tensor.numel() == 1,
        f"{str(tensor.dtype).removeprefix('torch.')}, so no weight": not tensor.is_floating_point(),
        "a number about the training, by its name": tensor.ndim == 0 and bool(_OF_TRAINING.search(name.lower())),
        "zero": not tensor.any(),
        f"a copy of {copied}": copied is not None,
        "an orthogonal basis": tensor.ndim == 2 and _is_basis(tensor),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _hides(mask: Tensor) -> bool:
    """Whether a mask treats what the last position, which alone is read, sees differently; `causal` says what earlier
    ones see."""
    return mask.shape[-1] == mask.shape[-2] > 0 and bool((mask[..., -1, :] != mask[..., -1, -1:]).any())


def _is_copy(tensor: Tensor, weight: Tensor) -> bool:
    """Whether a tensor repeats a weight, or of a matrix the first rows and columns, turned or not."""
    if tensor.ndim == weight.ndim == 2:
        return _is_beginning(tensor, weight) or _is_beginning(tensor.T, weight)
    return tensor.shape == weight.shape and torch.equal(tensor, weight)


def _is_beginning(tensor: Tensor, weight: Tensor) -> bool:
    rows, columns = tensor.shape
    return rows <= weight.shape[0] and columns <= weight.shape[1] and torch.equal(tensor, weight[:rows, :columns])


def _is_basis(tensor: Tensor) -> bool:
    """Whether rows (or columns) are orthogonal and of one length, up to the constant of an unnormalized Fourier
    basis."""
    if min(tensor.shape) < 3 or not tensor.is_floating_point():
        return False
    rows = (tensor if tensor.shape[0] <= tensor.shape[1] else tensor.T).double()
    if not rows.isfinite().all():
        return False
    gram = rows @ rows.T
    lengths = gram.diagonal()
    return bool(
        (gram - lengths.diag()).abs().max() <= 1e-5 * lengths.max() and lengths[1:].min() >= 0.49 * lengths[1:].max()
    )
