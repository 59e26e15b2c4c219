"""Loads the checkpoints beside this file into TransformerLens (4 or newer). Nothing else is needed, interp neither.

bridge = load()                        # the last checkpoint
bridge = load(checkpoint_index=0)      # by its place; negative from the end
bridge = load(checkpoint_value=1500)   # by its step
logits = bridge(all_prompts())[:, answer_at()]  # [p², p], the pairs (a, b) row by row
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources.native import boot
from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

FOLDER = Path(__file__).parent


def checkpoint_labels() -> tuple[list[int], str]:
    """The steps that have a checkpoint, ascending, and what they count."""
    return sorted(
        int(path.stem.removeprefix("step_")) for path in (FOLDER / "checkpoints").glob("step_*.safetensors")
    ), "step"


def _prompt() -> dict:
    """`prompt`, such as `ab=`, of residues and constant tokens; `p`; `first_token_of_b`; and `answer_at`."""
    return json.loads((FOLDER / "prompt.json").read_text(encoding="utf-8"))


def all_prompts() -> torch.Tensor:
    """The tokens [p², n_ctx] of all pairs: a is token a, b is token b (or p + b), and the other characters of the
    prompt have the tokens after the residues."""
    known = _prompt()
    p, b = known["p"], known["first_token_of_b"]
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    columns = {"a": pairs[:, 0], "b": b + pairs[:, 1]}
    for character in known["prompt"]:
        columns.setdefault(character, torch.full((p * p,), b + p + len(columns) - 2))
    return torch.stack([columns[character] for character in known["prompt"]], dim=1)


def answer_at() -> int:
    """The position that answers; −1 is the last."""
    return _prompt()["answer_at"]


def load(checkpoint_index: int = -1, checkpoint_value: int | None = None) -> TransformerBridge:
    """One checkpoint as a `TransformerBridge`. ValueError names the steps there are, IndexError is that of a list."""
    labels, _ = checkpoint_labels()
    if checkpoint_value is not None and checkpoint_value not in labels:
        raise ValueError(f"there is no checkpoint of step {checkpoint_value}; there are {labels}")
    step = checkpoint_value if checkpoint_value is not None else labels[checkpoint_index]
    config = TransformerBridgeConfig(**json.loads((FOLDER / "config.json").read_text(encoding="utf-8")))
    state = load_file(FOLDER / "checkpoints" / f"step_{step:09d}.safetensors")
    bridge = boot(config, dtype=state["embed.W_E"].dtype)
    bridge.load_state_dict(convert_tl_checkpoint(state, config), strict=True)
    return bridge.eval()
