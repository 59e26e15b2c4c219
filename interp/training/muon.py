"""Muon: momentum of which every matrix is made nearly orthogonal (Jordan et al. 2024,
kellerjordan.github.io/posts/muon).

Of each matrix W with gradient G, heads one by one,

    M ← μM + (1 − μ)G,   N = μM + (1 − μ)G,   W ← (1 − lr·wd)W − lr·0.2√max(rows, columns)·NewtonSchulz(N)

N is Nesterov's momentum. The factor 0.2√max(rows, columns) gives an update about the root mean square that AdamW's has
(Liu et al. 2025, arXiv:2502.16982), so that learning rate and weight decay mean what they mean for AdamW. It is
torch.optim.Muon with "match_rms_adamw", but in the type that the weights have, where torch rounds to bfloat16: float32
is within 1e-5 of the exact polynomial (`interp.mathematics.orthogonalization`), bfloat16 1 % from it for a Gaussian
matrix, and 8 to 17 % where singular values decay over four decades.

The size of the gradient has no part in the update until it is below 1e-7: a loss that is nearly 0 does not end it.
"""

import math

from torch import Tensor

from interp.mathematics.orthogonalization import newton_schulz
from interp.models import is_vector

# What reads tokens and positions, and what answers: tables with a row or column for each, which AdamW updates.
TABLES = ("W_E", "W_pos", "W_U")
Number = float | Tensor  # of one network, or of every one that is stacked, so shaped that it multiplies


def is_hidden(name: str, n_axes: int) -> bool:
    """Whether a weight is a matrix between activations, or one for each head: all that is neither a vector nor a table
    of tokens, positions or answers.

    >>> [is_hidden(name, 2) for name in ("mlp.W_in", "embed.W_E", "blocks.0.attn.b_Q")]
    [True, False, False]
    """
    return not is_vector(name, n_axes) and name.rpartition(".")[2] not in TABLES


def update_matrices(
    weight: Tensor, gradient: Tensor, average: Tensor, *, momentum: Number, new: Number, kept: Number, lr: Number
) -> None:
    """One update, in place, of a matrix or of several along first axes: `new` is 1 − μ, `kept` 1 − lr·wd, and `average`
    M."""
    average.lerp_(gradient, new)
    nesterov = gradient.lerp(average, momentum)
    matched = 0.2 * math.sqrt(max(weight.shape[-2:]))
    weight.mul_(kept).sub_(newton_schulz(nesterov).mul_(lr * matched))
