"""The options that several commands share, and the readers of options that hold lists."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Literal

import typer

Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="M",
        help="Base model: smollm2-135m, a hub id, a folder or a .gguf file.",
        show_default=False,
    ),
]
Checkpoint = Annotated[
    str,
    typer.Option("--checkpoint", metavar="C", help="NPT checkpoint: a file or a folder.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option("--dtype", help="Of the base model; auto is float32 on the CPU, else the model's own."),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", help="auto, cpu, cuda, cuda:1, mps, or map to spread the model over all of them."
    ),
]
Semantics = Annotated[
    str | None,
    typer.Option(
        "--semantics",
        help="Read the weights as N1 … T1 (S0, S0-pooled and S0-residual share key names), or attention as withheld, beside, "
        "standard or mlp_only; probe asks the weights.",
    ),
]
Positions = Annotated[
    Literal["deployed", "trained"],
    typer.Option("--positions", help="deployed has RoPE; trained has none, as in the public training code."),
]
AllLayers = Annotated[
    str | None,
    typer.Option("--layers", metavar="3,15", help="NPT layers that run; all of them by default."),
]

Prompt = Annotated[str, typer.Option("--prompt", help="The text, taken as it is.", show_default=False)]
Mode = Annotated[
    Literal["local", "propagated"],
    typer.Option(
        "--mode", help="local feeds every layer the base model's h and a; propagated runs the NPT model."
    ),
]
Chat = Annotated[bool, typer.Option("--chat", help="Put the prompt into the chat template.")]
Bos = Annotated[
    Literal["auto", "yes", "no"],
    typer.Option("--bos", help="Beginning-of-sequence token; auto is what the tokenizer does."),
]
KeepSinks = Annotated[
    bool, typer.Option("--keep-sinks", help="Let attention sinks count in medians and comparisons.")
]
Layer = Annotated[
    int | None,
    typer.Option("--layer", help="The layer that figures and details are of; the highest by default."),
]
Token = Annotated[
    int | None,
    typer.Option(
        "--token",
        help="Position of the pinned token, negative from the end; where the prediction moves most by default.",
    ),
]
Target = Annotated[
    str | None,
    typer.Option("--target", help="gate, up or down; the first that a layer modulates by default."),
]
TopK = Annotated[int, typer.Option("--top-k", min=1, help="Rows of the next-token tables.")]
Html = Annotated[
    str | None,
    typer.Option(
        "--html", metavar="FILE", help="Write sentence and figures as one file that needs nothing else."
    ),
]
Notebook = Annotated[
    str | None,
    typer.Option(
        "--notebook",
        metavar="FILE",
        help="Write a notebook (.ipynb) or script (.py) that comes to the same numbers.",
    ),
]


def with_shared_options(run: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter, annotated with a dataclass, is replaced by the fields of it.

    Typer makes the options from the signature: those that must be given come first, then the command's own, then the
    rest of the fields.
    """
    first, *own = signature(run).parameters.values()
    shared = signature(first.annotation).parameters

    @wraps(run)
    def command(**options: Any) -> None:
        run(first.annotation(**{name: options.pop(name) for name in shared}), **options)

    needed = [each for each in shared.values() if each.default is Parameter.empty]
    rest = [each for each in shared.values() if each.default is not Parameter.empty]
    listed = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in (*needed, *own, *rest)]
    command.__signature__ = Signature(listed)  # pyright: ignore[reportAttributeAccessIssue]
    command.__annotations__ = {each.name: each.annotation for each in listed}
    return command


def numbers(option: str, text: str) -> list[int]:
    """List of the whole numbers in "3,15"."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no list of whole numbers such as 3,15", param_hint=option
        ) from None


def words(text: str) -> list[str]:
    """List of the words in "gate,up"."""
    return [part.strip() for part in text.split(",") if part.strip()]
