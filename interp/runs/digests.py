"""What stands for the weights of a checkpoint: the digest that metrics.jsonl records of them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from interp.runs.format import digest_of

_TYPE_NAMES = {torch.float32: "F32", torch.int64: "I64"}


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """16 hex digits of the SHA-256 over names, shapes and bytes, in the order of the names.

    >>> from interp.models import initial_weights
    >>> weights = {"layer": torch.zeros(2, 2)}
    >>> weights_digest(weights), weights_digest({"layer": torch.zeros(2, 2), "bias": torch.zeros(2)})
    ('6271d7aad2a2b8a0', 'd3833d6440976609')
    """
    held = {name: weights[name].detach().cpu().contiguous() for name in sorted(weights)}
    kinds = {name: str(_TYPE_NAMES.get(tensor.dtype, tensor.dtype)) for name, tensor in held.items()}
    return digest_of((name, kinds[name], tensor.shape, _bytes(tensor)) for name, tensor in held.items())


def _bytes(tensor: Tensor) -> memoryview | bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b""  # numpy has no bfloat16
