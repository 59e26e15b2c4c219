"""A module of anybody's, run over all pairs, and what it answered kept (`interp.models.recorded_module`)."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import InputError
from interp.experiment import Examples, ModelConfig, ModuleRecord, Task
from interp.models.recorded_module import OWN, RECORDED
from interp.models.values import Weights

PAIRS_AT_ONCE = 4096
# Of the largest logit: as far as the order of sums in float32 may take two runs apart.
TOLERANCE = 1e-4

Tokens = str | Callable[[Tensor], Any]


class Recording(NamedTuple):
    """What a checkpoint of a module is made of; and for how many pairs its largest logit was of a class that is no
    residue, which is cut.

    >>> Recording._fields
    ('model', 'weights', 'n_beyond')
    """

    model: ModelConfig
    weights: Weights
    n_beyond: int = 0


@dataclass(frozen=True)
class Reader:
    """How a module is asked, and what is kept of it (`record`).

    >>> Reader(tokens="a + b =", neurons="blocks.0.mlp.act").embedding is None
    True
    """

    tokens: Tokens = "a b"
    neurons: str | None = None
    embedding: str | None = None
    unembedding: str | None = None
    source: str | None = None


def record(module: nn.Module, task: Examples, reader: Reader = Reader()) -> Recording:
    """Run a module over all pairs, twice, and keep its logits for the residues, and what `reader` names.

    It runs without gradients, in evaluation mode and in parts of 4,096 pairs, the second time in another order and in
    smaller parts; its mode and torch's random numbers are put back. Output of shape [n, T, V] is read at the last
    position, [n, V] as it is; of V classes the first p are kept. Numbers are kept as float32.

    Raises InputError for examples that are no pairs, a template that cannot be read, a module that fails or gives
    something else (probabilities, say), one whose two runs differ (dropout that stays on, say), and a name that it does
    not have.

    >>> adder = nn.Sequential(nn.Embedding(7, 8), nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 7))
    >>> found = record(adder, Task(7), Reader(neurons="3", embedding="0.weight"))
    >>> {name: list(weight.shape) for name, weight in found.weights.items() if name.startswith("recorded.")}
    {'recorded.logits': [7, 7, 7], 'recorded.neurons': [7, 7, 24], 'recorded.W_E': [7, 8]}
    """
    if not isinstance(task, Task):
        raise InputError(f"a module is asked about pairs over Z_p, and these examples are vectors: {task.title}")
    words = _words(reader.tokens, task.p) if isinstance(reader.tokens, str) else None
    pairs = torch.from_numpy(task.pairs)
    with _as_it_was(module), torch.no_grad():
        logits, neurons = _asked(module, pairs, reader, words, task.p)
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))
        parts = min(PAIRS_AT_ONCE, 1 + len(pairs) // 3)  # other ones: an answer may depend on those it is asked with
        again, _ = _asked(module, pairs[order], reader, words, task.p, at_once=parts)
    _check_repeats(logits[order], again)
    _check_no_probabilities(logits)
    named = {name: weight for name, weight in module.named_parameters() if not _is_alien(name, weight)}
    weights = {f"{OWN}{name}": weight.detach().to("cpu", torch.float32).clone() for name, weight in named.items()}
    weights[f"{RECORDED}logits"] = logits[:, : task.p].unflatten(0, task.shape).contiguous()
    if neurons is not None:
        weights[f"{RECORDED}neurons"] = neurons.unflatten(0, task.shape)
    if reader.embedding is not None:
        sizes = _vocabulary(words, task.p)
        rows = _rows_of(module, "embedding", reader.embedding, task.p, sizes)
        at_b = _offset(words, "b", task.p)
        sides = [rows[: task.p]] + ([rows[at_b : at_b + task.p]] if at_b else [])
        if sides[-1].shape != sides[0].shape:
            raise InputError(f"embedding {reader.embedding!r} has {len(rows)} rows, too few for b, token p + b")
        weights[f"{RECORDED}W_E"] = torch.cat(sides, dim=1)
    if reader.unembedding is not None:
        rows = _rows_of(module, "unembedding", reader.unembedding, task.p, [logits.shape[1], task.p])
        weights[f"{RECORDED}W_U"] = rows[: task.p].T.contiguous()

    def size(name: str, axis: int) -> int:
        return weights[f"{RECORDED}{name}"].shape[axis] if f"{RECORDED}{name}" in weights else 0

    kept = ModuleRecord(
        source=reader.source or type(module).__name__,
        parameters=tuple((name, tuple(weight.shape)) for name, weight in named.items()),
        neurons=size("neurons", 2),
        embedding=size("W_E", 1),
        unembedding=size("W_U", 0),
        classes=0 if logits.shape[1] == task.p else logits.shape[1],
    )
    n_beyond = int((logits.argmax(1) >= task.p).sum())
    return Recording(ModelConfig(family="module", module=kept), weights, n_beyond)


def _is_alien(name: str, weight: Tensor) -> bool:
    """Whether a parameter is no plain number: whole numbers are tables and not weights. Raises InputError for complex
    ones, of which no norm here is told."""
    if weight.is_complex() or isinstance(weight, nn.UninitializedParameter):
        raise InputError(
            f"the parameter {name!r} is {'complex' if weight.is_complex() else 'not initialized'}; "
            "weights are real numbers that are there"
        )
    return not weight.is_floating_point()


# ---- asking it -------------------------------------------------------------------------------------------------------


@contextmanager
def _as_it_was(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards every submodule in the mode that it had, buffers that were written to (a counter,
    a cache) with what they held, and torch's random numbers too."""
    modes = {each: each.training for each in module.modules()}
    buffers = [
        (each, name, buffer, buffer.clone())
        for each in module.modules()
        for name, buffer in each.named_buffers(recurse=False)
        if not isinstance(buffer, nn.UninitializedBuffer)
    ]
    on = [weight.device for weight in module.parameters() if weight.device.type == "cuda"]
    with torch.random.fork_rng(devices=sorted({device.index for device in on})):
        try:
            module.eval()
            yield
        finally:
            for each, mode in modes.items():
                each.training = mode
            with torch.no_grad():
                for each, name, buffer, held in buffers:
                    setattr(each, name, buffer)
                    if not torch.equal(buffer, held):
                        buffer.copy_(held)


def _asked(
    module: nn.Module,
    pairs: Int[Tensor, "n 2"],
    reader: Reader,
    words: list[tuple[str, int]] | None,
    p: int,
    *,
    at_once: int = PAIRS_AT_ONCE,
) -> tuple[Float[Tensor, "n classes"], Float[Tensor, "n neurons"] | None]:
    """The logits, and the output of the submodule that is named, of all pairs at the last position, in float32."""
    heard: list[Any] = []
    watched = None if reader.neurons is None else _submodule(module, reader.neurons)
    hook = None if watched is None else watched.register_forward_hook(lambda *given: heard.append(given[2]))
    device = next((weight.device for weight in module.parameters()), torch.device("cpu"))
    logits, neurons = [], []
    try:
        for some in pairs.split(at_once):
            heard.clear()
            output = _run(module, _input_of(some, reader.tokens, words, p), device)
            logits.append(_last_position(_logits_of(output), len(some), "the module", f"V ≥ {p} classes"))
            if logits[-1].shape[1] < p:
                raise InputError(f"the module answers {logits[-1].shape[1]} classes, and there are p = {p} residues")
            if watched is not None:
                if len(heard) != 1:
                    how = "was not run" if not heard else f"ran {len(heard)} times"
                    raise InputError(
                        f"the submodule {reader.neurons!r} {how} in one run of the module, expected once; "
                        "functions that are no submodules, and attributes of one, cannot be watched"
                    )
                output = heard[0][0] if isinstance(heard[0], tuple | list) and heard[0] else heard[0]
                neurons.append(_last_position(output, len(some), f"the submodule {reader.neurons!r}", "neurons"))
    finally:
        if hook is not None:
            hook.remove()
    return torch.cat(logits), torch.cat(neurons) if neurons else None


def _run(module: nn.Module, given: Any, device: torch.device) -> Any:
    given = given if isinstance(given, tuple) else (given,)
    given = tuple(value.to(device) if isinstance(value, Tensor) else value for value in given)
    try:
        return module(*given)
    except InputError:
        raise
    except Exception as error:
        shapes = ", ".join(str(list(value.shape)) for value in given if isinstance(value, Tensor))
        what = (str(error).strip().splitlines() or [""])[0][:300]
        raise InputError(
            f"the module failed on its input {shapes}: {type(error).__name__}: {what}; is this how it is to be asked? "
            '`tokens` (--module-tokens) is a template such as "a b =", or in Python a function from pairs [n, 2] to '
            "its input"
        ) from error


def _logits_of(output: Any) -> Any:
    """The tensor itself, `.logits` or ["logits"] of something that has them, or the first of several."""
    if isinstance(output, Mapping):
        return output.get("logits")
    if isinstance(output, tuple | list):
        return output[0] if output else None
    return getattr(output, "logits", output)


def _last_position(output: Any, n: int, who: str, last: str) -> Float[Tensor, "n columns"]:
    fits = isinstance(output, Tensor) and output.ndim in (2, 3) and len(output) == n and output.numel()
    if not fits or not output.is_floating_point():
        seen = f"{output.dtype} {list(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise InputError(
            f"{who} gives {seen} for {n} pairs, expected floating-point numbers [{n}, {last}] or [{n}, positions, "
            f"{last}], which are read at the last position"
        )
    return (output[:, -1] if output.ndim == 3 else output).detach().to("cpu", torch.float32).clone()


def _check_repeats(one: Float[Tensor, "n classes"], other: Float[Tensor, "n classes"]) -> None:
    """Raises InputError unless two runs agree."""
    largest = one.nan_to_num(0, 0, 0).abs().max()
    if not torch.allclose(one, other, rtol=0, atol=float(TOLERANCE * largest), equal_nan=True):
        apart = float((one - other).nan_to_num(0, 0, 0).abs().max())
        raise InputError(
            f"two runs of the module differ by {apart:.2g} (its largest logit is {float(largest):.2g}): it draws "
            "random numbers (dropout that model.eval() does not turn off?), or its answer depends on the other pairs "
            "of a batch"
        )


def _check_no_probabilities(logits: Float[Tensor, "n classes"]) -> None:
    """Raises InputError where every answer is a distribution over the classes: as logits they would be nearly flat."""
    sums = logits.double().sum(1)
    ones = torch.allclose(sums, torch.ones_like(sums), atol=1e-4) and bool((logits >= 0).all())
    if ones and not torch.equal(logits, logits.round()):  # a table of zeros and ones is one, and no softmax
        raise InputError(
            "the module answers probabilities (none is negative, and those of each pair sum to 1), expected logits: "
            "leave the softmax at its end out, or return their logarithm"
        )


# ---- templates of tokens ---------------------------------------------------------------------------------------------


def _words(template: str, p: int) -> list[tuple[str, int]]:
    """A template as ("a" or "b", offset) and ("", token): words with spaces between them, or else characters.

    >>> _words("a b", 7), _words("ab=", 7), _words("a + b =", 7)
    ([('a', 0), ('b', 0)], [('a', 0), ('b', 0), ('', 7)], [('a', 0), ('', 7), ('b', 0), ('', 8)])
    >>> _words("p+1 a 12 p+b p", 7)
    [('', 8), ('a', 0), ('', 12), ('b', 7), ('', 7)]
    """
    words = template.split() if len(template.split()) > 1 else list(template.strip())
    constants: dict[str, int] = {}
    found = []
    for word in words:
        if word in ("a", "b"):
            found.append((word, 0))
        elif word in ("p+a", "p+b"):
            found.append((word[2], p))
        elif re.fullmatch(r"\d{1,9}", word):
            found.append(("", int(word)))
        elif match := re.fullmatch(r"p(?:\+(\d{1,9}))?", word):
            found.append(("", p + int(match[1] or 0)))
        else:
            found.append(("", constants.setdefault(word, p + len(constants))))
    if sorted(word for word, _ in found if word) != ["a", "b"]:
        raise InputError(
            f"the template {template!r} must have a and b once each; other words are tokens: a number, p, p+1, or a "
            'sign such as + or =, numbered p, p+1, … in order ("a b", "a+b=", "a 114 b 113", "a p+b")'
        )
    return found


def _input_of(pairs: Int[Tensor, "n 2"], tokens: Tokens, words: list[tuple[str, int]] | None, p: int) -> Any:
    if words is None:
        assert callable(tokens)
        try:
            return tokens(pairs)
        except Exception as error:
            what = (str(error).strip().splitlines() or [""])[0][:300]
            raise InputError(
                f"the function `tokens` failed on pairs {list(pairs.shape)}: {type(error).__name__}: {what}"
            ) from error
    columns = {"a": pairs[:, 0], "b": pairs[:, 1], "": torch.zeros_like(pairs[:, 0])}
    return torch.stack([columns[word] + offset for word, offset in words], dim=1)


def _offset(words: list[tuple[str, int]] | None, of: str, p: int) -> int:
    return next((offset for word, offset in words or () if word == of), 0)


def _vocabulary(words: list[tuple[str, int]] | None, p: int) -> list[int]:
    """How many rows an embedding of the tokens may have, the likeliest first."""
    largest = max((offset + (p - 1 if word else 0) for word, offset in words or ()), default=p - 1)
    return list(dict.fromkeys((largest + 1, p)))


# ---- what is named ---------------------------------------------------------------------------------------------------


def _submodule(module: nn.Module, name: str) -> nn.Module:
    known = {path: each for path, each in module.named_modules(remove_duplicate=False) if path}
    if name not in known:
        raise _unknown("submodule", name, list(known))
    return known[name]


def _unknown(what: str, name: str, known: list[str]) -> InputError:
    wrapped = [each for each in known if each.endswith(f".{name}")]  # _orig_mod.3, of a module that was compiled
    near = wrapped or get_close_matches(name, known, n=1, cutoff=0.5)
    listed = ", ".join(map(repr, known[:20])) + (", …" if len(known) > 20 else "")
    hint = f"did you mean {near[0]!r}? " if near else ""
    return InputError(f"the module has no {what} {name!r}; {hint}it has {listed or 'none'}")


def _rows_of(module: nn.Module, what: str, name: str, p: int, sizes: list[int]) -> Float[Tensor, "rows columns"]:
    """A matrix by name, its rows what there are p or more of: turned by its shape, or as NAME:rows or NAME:columns
    says."""
    path, _, said = name.rpartition(":") if name.endswith((":rows", ":columns")) else (name, "", "")
    known = {
        key: value
        for key, value in (*module.named_parameters(remove_duplicate=False), *module.named_buffers())
        if value.ndim == 2 and value.is_floating_point()
    }
    if path not in known:
        raise _unknown("matrix", path, list(known))
    matrix = known[path].detach().to("cpu", torch.float32).clone()
    axes = [axis for axis in (0, 1) if matrix.shape[axis] >= p]
    exact = next(
        ([axis for axis in axes if matrix.shape[axis] == size] for size in sizes if size in matrix.shape), axes
    )
    if said:
        axis = 0 if said == "rows" else 1
        if axis not in axes:
            raise InputError(f"{what} {path!r} {list(matrix.shape)} has fewer than p = {p} {said}")
    elif not axes:
        raise InputError(
            f"{what} {path!r} {list(matrix.shape)} has no axis of p = {p} or more: is it the right matrix?"
        )
    elif len(exact) != 1:
        raise InputError(
            f"{what} {path!r} {list(matrix.shape)} can be read both ways: say {path}:rows where each row is a residue, "
            f"{path}:columns where each column is"
        )
    else:
        axis = exact[0]
    return (matrix if axis == 0 else matrix.T).contiguous()
