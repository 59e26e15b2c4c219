"""The ways in which a source can be read, and why it cannot."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from interp.errors import InputError
from interp.interchange.importing.sources import Source, check_tensor
from interp.interchange.importing.weight_norms import weight_norms, without_weight_norms
from interp.interchange.layouts.architecture import described, foreign_parts, may_be_useless
from interp.interchange.layouts.candidates import Candidate, of_layout, of_mapping, of_roles
from interp.interchange.layouts.leftovers import of_no_use
from interp.interchange.layouts.matching import Match, nearest, recognize
from interp.interchange.layouts.mlp_roles import is_mlp
from interp.interchange.layouts.roles import find_roles
from interp.interchange.layouts.tables import LAYOUTS, Layout, layout_named

if TYPE_CHECKING:
    from interp.interchange.importing.reading import Known

# The number of heads is a question, also where it is given: another may be better.
_SIZES = ("d_head", "d_model", "d_mlp")


def tensors_of(source: Source) -> dict[str, Tensor]:
    """The tensors of a source, and under the names that it only lists those that they stand for (tied weights). Where a
    matrix is stored as lengths and directions (weight norm), the matrix."""
    tensors = source.load()
    aliases = source.beside.get("aliases")
    if isinstance(aliases, Mapping):
        for name, of in aliases.items():
            if isinstance(name, str) and isinstance(of, str) and of in tensors and name not in tensors:
                tensors[name] = tensors[of]
    return without_weight_norms(tensors)


def check_family(candidates: Sequence[Candidate], known: "Known") -> None:
    """Raises InputError for what was said of an MLP where the tensors are those of a transformer."""
    inputs = known.model.get("inputs")
    if inputs is not None and all("tokens" in candidate.options for candidate in candidates):
        raise InputError(f"model.inputs {inputs!r} is of an MLP, and the tensors are of a transformer; leave it out")


def find_candidates(
    source: Source, tensors: Mapping[str, Tensor], known: "Known", model: Mapping[str, Any], p: int | None
) -> list[Candidate]:
    """The ways to read the tensors, with what was done to them before. Raises InputError, naming what stands in the
    way, where there is none."""
    found = _candidates(source, tensors, known, model, p)
    folded = [f"{whole!r} is g·v/‖v‖ of {g!r} and {v!r} (weight norm)" for g, (v, whole) in _weight_norms(source)]
    return [replace(candidate, notes=(*candidate.notes, *folded)) for candidate in found]


def _weight_norms(source: Source) -> list[tuple[str, tuple[str, str]]]:
    return (
        [*weight_norms(source.load()).items()]
        if any(one.endswith(("_g", "original0")) for one in source.shapes)
        else []
    )


def _candidates(
    source: Source, tensors: Mapping[str, Tensor], known: "Known", model: Mapping[str, Any], p: int | None
) -> list[Candidate]:
    """Every way to read the tensors: known layouts first, and where none of them takes all tensors, what names and
    shapes tell. Raises InputError, naming what stands in the way, where there is none."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    layouts = layouts_of(source, known, shapes)
    sizes = {name: model[name] for name in _SIZES if model.get(name) is not None}
    matches = recognize(shapes, layouts, sizes) or recognize(shapes, layouts)
    drop = known.mapping.drop if known.mapping else ()
    if known.mapping is not None and known.mapping.pieces is not None:
        candidate = of_mapping(known.mapping, tensors, model, p)
        why_left_over(candidate, tensors, drop, source.where)
        return [candidate]
    found, refused = [], []
    for entry in matches:
        try:
            _check_told(entry, model)
            candidate = of_layout(entry, tensors, model, p)
            why_left_over(candidate, tensors, drop, source.where)
            found.append(candidate)
        except InputError as error:
            refused.append(error)
    if found or known.layout or (known.mapping is not None and known.mapping.names_tensors):
        if not found:
            raise refused[0] if refused else _unknown_layout(source, layouts, shapes, sizes)
        return found
    rest = {name: tensor for name, tensor in tensors.items() if name not in drop}
    return [_inferred(source, rest, model, p, refused=refused, matches=matches)]


def _inferred(
    source: Source,
    tensors: Mapping[str, Tensor],
    model: Mapping[str, Any],
    p: int | None,
    *,
    refused: Sequence[InputError],
    matches: Sequence[Match],
) -> Candidate:
    for name, tensor in tensors.items():
        check_tensor(source.where, name, tensor)
        if not tensor.numel():
            raise InputError(
                f"{source.where} is in no layout that is known: {name!r} has shape {list(tensor.shape)}, it is empty"
            )
    roles = find_roles(tensors)
    parts = sum(len(theirs) for theirs in roles.parts.values())
    if (
        refused
        and not is_mlp(tensors)
        and ("attention rate" in str(refused[0]) or (roles.missing and len(matches[0].tensors) >= parts))
    ):
        raise refused[0]
    try:
        candidate = of_roles(tensors, model, p, roles)
        why_left_over(candidate, tensors, (), source.where)
    except InputError as error:
        if refused and str(error) == str(refused[0]):
            raise refused[0] from None
        if foreign := foreign_parts(roles, tensors):
            listed = " and ".join(f"{kind} ({name!r})" for kind, name in foreign.items())
            raise InputError(
                f"{source.where} is in no layout that is known: it holds {listed}, which our models "
                "lack; --module runs a network's own code, for what can be asked of its answers alone"
            ) from None
        raise InputError(
            f"{source.where} is in no layout that is known; it holds {described(roles, tensors)}: {error}; "
            "`interp import --dry-run` shows its tensors and a mapping file to fill in, for --mapping"
        ) from None
    return candidate


def layouts_of(source: Source, known: "Known", shapes: Mapping[str, Any] | None = None) -> list[Layout]:
    """The layouts that come into question."""
    if known.mapping is None or not known.mapping.names_tensors:
        return [layout_named(known.layout)] if known.layout else list(LAYOUTS.values())
    shapes = shapes or source.shapes
    absent = [name for name in known.mapping.layout.rules if name not in shapes]
    if absent:
        has = _names(source.shapes)
        raise InputError(f"{source.where} has no tensor {absent[0]!r}, which the mapping file speaks of; it has {has}")
    return [known.mapping.layout]


def _unknown_layout(
    source: Source, layouts: Sequence[Layout], shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int]
) -> InputError:
    miss = nearest(layouts, shapes, sizes)
    why = f"{miss.layout.name!r} does not fit: {miss.reason}" if miss and miss.found else f"it has {_names(shapes)}"
    return InputError(
        f"{source.where} is not in the layout that was given; {why}; `interp import --dry-run` shows its tensors and a "
        "mapping file to fill in, for --mapping"
    )


def _names(names: Mapping[str, Any]) -> str:
    listed = [repr(name) for name in names]
    return ", ".join(listed[:8]) + (", …" if len(listed) > 8 else "")


def _check_told(found: Match, model: Mapping[str, Any]) -> None:
    """Raises InputError, by its flag, for what neither names nor shapes tell."""
    if found.layout.name == "nanda" and found.sizes["n_ctx"] == 2 and model.get("attention_rate") is None:
        raise InputError(
            "a prompt without '=' in the layout of Zhong et al. has an attention rate (attn_coeff in their "
            "configuration file); give --model.attention-rate, 1 for plain attention"
        )


def why_left_over(
    candidate: Candidate, tensors: Mapping[str, Tensor], drop: Sequence[str], where: str
) -> dict[str, str]:
    """Why each tensor that is not read may be left out. Raises InputError for one that may matter."""
    recognized = {name: tensors[name] for name in candidate.used}
    for name, tensor in recognized.items():
        if not tensor.is_floating_point():
            raise InputError(f"{where}: tensor {name!r} is of type {tensor.dtype}; weights are floating-point numbers")
    buffers = candidate.assignment.roles.buffers if candidate.assignment is not None else ()
    reasons = {}
    for name in tensors:
        if name in recognized:
            continue
        why = "as the mapping file says" if name in drop else of_no_use(name, tensors[name], recognized)
        if why is None and name in buffers:
            why = "computed and not learned, by its name"
        if why is None:
            # Without what is called after a part, a network is another one, even if it answers.
            advice = ". Where it is, say so in a mapping file: drop" if may_be_useless(name) else ""
            raise InputError(
                f"{where} fits the layout {candidate.layout!r} but for tensor {name!r} {list(tensors[name].shape)}, "
                f"which is not known to be of no use; our models have no such part{advice}"
            )
        reasons[name] = why
    return reasons
