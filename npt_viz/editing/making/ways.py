"""Ways in which a tool may have run the source text of an injection; the published one first."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from npt_viz.adapter import LayerAdapter
from npt_viz.capture.running import LayerChange
from npt_viz.model.base import BaseModel
from npt_viz.question import Positions

Below = Literal["npt", "other path", "base"]
BELOW: dict[Below, str] = {
    "npt": "the NPT layers below as NPT layers",
    "other path": "the NPT layers below with attention added beside them where this reading withholds it, and the reverse",
    "base": "all layers below as in the base",
}


@dataclass(frozen=True)
class Way:
    """How the layers below the edited one ran."""

    below: Below = "npt"
    positions: Positions = "trained"
    causal: bool = True
    """Whether attention was masked: eager attention without a mask is not."""

    def said(self, has_below: bool) -> str:
        """The way in words. has_below: whether there are NPT layers below the edited one."""
        layers = f" with {BELOW[self.below]}" if has_below else ""
        rope = "without RoPE" if self.positions == "trained" else "with RoPE"
        return f"{rope}{'' if self.causal else ' and without a causal mask'}{layers}"

    def lane(self, adapters: Mapping[int, LayerAdapter]) -> dict[int, LayerChange]:
        """What the NPT layers below do. adapters: theirs."""
        if self.below == "base":
            return {}
        return dict(adapters) if self.below == "npt" else {k: _OtherPath(v) for k, v in adapters.items()}


PUBLISHED = Way()


def other_ways(has_below: bool) -> list[Way]:
    """The ways to try where the published one does not give what was recorded."""
    belows: tuple[Below, ...] = ("npt", "other path", "base") if has_below else ("npt",)
    return [
        way
        for positions in ("trained", "deployed")
        for causal in (True, False)
        for below in belows
        if (way := Way(below, positions, causal)) != PUBLISHED
    ]


class _OtherPath:
    """An adapter whose layer withholds attention where its reading adds it beside, and the reverse."""

    def __init__(self, adapter: LayerAdapter) -> None:
        self.targets, self.change = adapter.targets, adapter.change
        self.attention = "beside" if adapter.attention == "withheld" else "withheld"


@contextmanager
def without_mask(model: BaseModel, n_tokens: int, active: bool) -> Iterator[None]:
    """Inside the block every token attends to all tokens, where `active`; holds the model's lock."""

    def unmasked(module, args, kwargs):
        hidden = args[0] if args else kwargs["hidden_states"]
        mask = torch.zeros(1, 1, n_tokens, n_tokens, dtype=hidden.dtype, device=hidden.device)
        return args, {**kwargs, "attention_mask": mask}

    with model.lock, ExitStack() as stack:
        for layer in range(model.n_layers) if active else ():
            handle = model.parts(layer).attention.register_forward_pre_hook(unmasked, with_kwargs=True)
            stack.callback(handle.remove)
        yield
