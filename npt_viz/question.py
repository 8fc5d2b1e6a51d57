"""Prompt, layers, mode, positions, chat template and BOS of an inspection, checked when they are set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from npt_viz.arguments import checked_fields
from npt_viz.errors import NptVizError

Mode = Literal["local", "propagated"]
"""local: every NPT layer is fed the base model's own h and a. propagated: the NPT model runs and errors add up."""

Positions = Literal["deployed", "trained"]
"""deployed: RoPE and causal attention. trained: identity position embeddings, as the public training code ran."""

Prompt = str | Sequence[int]
"""Text, or token ids."""

Bos = bool | Literal["auto"]
"""auto: the beginning-of-sequence token as the tokenizer adds it by itself; True or False forces it."""

MODES: tuple[Mode, ...] = get_args(Mode)
POSITIONS: tuple[Positions, ...] = get_args(Positions)


def check_mode(mode: str) -> Mode:
    """The mode; raises NptVizError for one that does not exist."""
    if mode not in MODES:
        raise NptVizError(f"mode {mode!r} does not exist; choose {' or '.join(MODES)}")
    return mode


def check_positions(positions: str) -> Positions:
    """The positions; raises NptVizError for those that do not exist."""
    if positions not in POSITIONS:
        raise NptVizError(f"positions {positions!r} do not exist; choose {' or '.join(POSITIONS)}")
    return positions


@checked_fields
@dataclass(frozen=True, kw_only=True)
class Question:
    """One prompt, the NPT layers that run on it, and how."""

    prompt: str | tuple[int, ...]
    """Text, never trimmed, or token ids."""

    layers: tuple[int, ...] | None = None
    """The NPT layers that run; the checkpoint's others stay standard. None: all of the checkpoint."""

    mode: Mode = "local"
    positions: Positions = "deployed"

    chat: bool = False
    """Put the text into the tokenizer's chat template."""

    bos: Bos = "auto"

    def __post_init__(self) -> None:
        check_mode(self.mode)
        check_positions(self.positions)
        if isinstance(self.prompt, bytes):
            raise NptVizError("the prompt is bytes; give text or token ids")
        if not isinstance(self.prompt, str):
            object.__setattr__(self, "prompt", tuple(self.prompt))
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))
            if not self.layers:
                raise NptVizError("no layer was chosen; name at least one NPT layer")
        if self.bos != "auto" and not isinstance(self.bos, bool):
            raise NptVizError(f"bos {self.bos!r} does not exist; choose True, False or auto")
        if self.bos != "auto" and (self.chat or not isinstance(self.prompt, str)):
            raise NptVizError(
                f"bos={self.bos} does not go with {'the chat template' if self.chat else 'token ids'}, which already "
                "decides how the prompt begins; leave bos at auto"
            )
        if self.chat and not isinstance(self.prompt, str):
            raise NptVizError(
                "the chat template takes text and got token ids; give the text, or leave chat off"
            )


def as_question(prompt: "Prompt | Question", **settings) -> Question:
    """The question itself, or one made of a prompt and settings; beside a question only defaults are accepted."""
    if not isinstance(prompt, Question):
        return Question(prompt=prompt if isinstance(prompt, str) else tuple(prompt), **settings)
    defaults = Question(prompt="-")
    for name, value in settings.items():
        if value != getattr(defaults, name):
            raise NptVizError(f"{name}={value!r} is given beside a Question, which has its own; set it there")
    return prompt
