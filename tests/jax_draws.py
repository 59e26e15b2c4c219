"""What JAX and haiku draw from a seed, in numpy: the initial weights of the networks of Pearce et al. 2023.

Threefry-2x32 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") as jax.random uses it without
`jax_threefry_partitionable`; haiku splits its key for every parameter and draws normals cut at two standard deviations.
"""

import numpy as np
from scipy.special import erf, erfinv

OF_CUT = 0.87962566103423978  # the standard deviation of a normal that is cut at two


def threefry(key: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """32 random bits for each of an even number of counts: their first half is encrypted beside their second."""
    a, b = (half.astype(np.uint32) for half in np.split(counts, 2))
    keys = [key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA)]
    a, b = a + keys[0], b + keys[1]
    for turn in range(5):
        for distance in ((13, 15, 26, 6), (17, 29, 16, 24))[turn % 2]:
            a = a + b
            b = a ^ (b << np.uint32(distance) | b >> np.uint32(32 - distance))
        a, b = a + keys[(turn + 1) % 3], b + keys[(turn + 2) % 3] + np.uint32(turn + 1)
    return np.concatenate([a, b])


def split(key: np.ndarray) -> np.ndarray:
    return threefry(key, np.arange(4)).reshape(2, 2)


def cut_normal(key: np.ndarray, shape: tuple[int, int], dtype: type) -> np.ndarray:
    """A normal of standard deviation 1, cut at two, from bits of the width of the type."""
    n, ends = shape[0] * shape[1], erf(np.array([-2, 2]) / np.sqrt(2)).astype(dtype)
    if dtype is np.float32:
        bits = threefry(key, np.arange(n)) >> np.uint32(9) | np.float32(1).view(np.uint32)
    else:
        high, low = np.split(threefry(key, np.arange(2 * n)).astype(np.uint64), 2)
        bits = (high << np.uint64(32) | low) >> np.uint64(12) | np.float64(1).view(np.uint64)
    uniform = bits.view(dtype) - dtype(1)
    return (np.sqrt(2) * erfinv(uniform * (ends[1] - ends[0]) + ends[0])).reshape(shape)


def initial_weights(seed: int, p: int, d_model: int, d_mlp: int) -> dict[str, np.ndarray]:
    """W_E of variance 2/p; W_in and W_out as `haiku.Linear` draws them, in float64, which it does because one-hot
    vectors are where `jax_enable_x64` is set."""
    key, keys = split(np.array([0, seed], np.uint32))[1], []
    for _ in range(3):
        key, own = split(key)
        keys.append(own)
    return {
        "embed.W_E": np.sqrt(2 / p) / OF_CUT * cut_normal(keys[0], (p, d_model), np.float32),
        "mlp.W_in": cut_normal(keys[1], (d_model, d_mlp), np.float64) / np.sqrt(d_model),
        "mlp.W_out": cut_normal(keys[2], (d_mlp, d_model), np.float64) / np.sqrt(d_mlp),
    }
