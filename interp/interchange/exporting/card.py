"""The model card of a run: what it is and what was found in it, in the Hub's form (YAML between dashes, then
Markdown)."""

from collections.abc import Sequence

from interp.explanation import explain
from interp.printable import one_line
from interp.runs import Run, describe

TAGS = ("grokking", "mechanistic-interpretability", "modular-arithmetic", "interp")
_KEPT = ("task", "model", "training", "imported", "proof", "doubt", "checkpoints")


def model_card(run: Run, figures: Sequence[str] = ()) -> str:
    """The card's text. What comes from files stands in code blocks, out of which nothing in it can break."""
    facts = [line for line in describe(run) if line.split(maxsplit=1)[0] in _KEPT]
    front = "\n".join(["---", "library_name: interp", "tags:", *(f"- {tag}" for tag in TAGS), "---"])
    pictures = [f"![{name.replace('_', ' ')}](figures/{name}.png)" for name in figures]
    parts = [
        front,
        f"# {run.task.title}",
        _code("\n".join(map(one_line, facts))),
        "## What was found",
        _code("\n".join(map(one_line, str(explain(run)).split("\n")))),
        *pictures,
        "## Files",
        "`model.safetensors` holds the last checkpoint under TransformerLens' classic names, "
        "`checkpoints/step_*.safetensors` all of\n"
        "them by their step, `metrics.jsonl` what was logged, `config.json` the experiment.",
    ]
    return "\n\n".join(parts) + "\n"


def _code(text: str) -> str:
    return f"```text\n{text.replace('```', 'ʼʼʼ')}\n```"
