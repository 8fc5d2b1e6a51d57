"""Transplant: one token of a prompt runs with the weight change of a token of another prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from npt_viz.adapter import LayerAdapter, Target
from npt_viz.arguments import checked
from npt_viz.capture.inspection import layers_of
from npt_viz.capture.running import Lane, forward_pass, refuse_pooled
from npt_viz.checkpoint import Checkpoint, Live, as_checkpoint
from npt_viz.editing.judging.preview import outcomes, top_rows
from npt_viz.editing.making.from_source import position
from npt_viz.editing.making.readings import layer_readings
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import encode
from npt_viz.question import Mode, Positions, check_mode, check_positions
from npt_viz.results.transplant import LayerShare, Transplant
from npt_viz.shapes import Float

OPERATIONS = {
    "replace": "the donor's ΔW in place of the token's own",
    "blend": "(1 − strength) of the token's own ΔW and strength of the donor's",
    "add": "the token's own ΔW and strength times the donor's",
    "scale": "strength times the token's own ΔW; the donor plays no part",
}


def weights_of(operation: str, strength: float) -> tuple[float, float]:
    """Factors on the token's own ΔW and on the donor's."""
    match operation:
        case "replace":
            return 0.0, strength
        case "blend":
            return 1 - strength, strength
        case "add":
            return 1.0, strength
        case "scale":
            return strength, 0.0
    raise NptVizError(f"operation {operation!r} does not exist; choose one of {', '.join(OPERATIONS)}")


@dataclass(frozen=True, eq=False)
class Grafted:
    """NPT layer in which one token also receives the weight change of another attention output.

    A modulation's change is linear in ΔW, so weighting what own and donor ΔW add to the projection is weighting the
    ΔW themselves; for the additive variants the same holds for the bias and the factor that they add.
    """

    adapter: LayerAdapter
    donor: Float[Tensor, "model"]
    """The attention output from which the donor's ΔW is made."""
    token: int
    own: float
    """Factor on the token's own ΔW."""
    given: float
    """Factor on the donor's ΔW."""

    @property
    def attention(self) -> str:
        return self.adapter.attention

    @property
    def targets(self) -> tuple[Target, ...]:
        return self.adapter.targets

    def change(
        self,
        target: Target,
        attention: Float[Tensor, "batch token model"],
        x: Float[Tensor, "batch token inp"],
        unmodulated: Float[Tensor, "batch token out"],
    ) -> Float[Tensor, "batch token out"]:
        """Change of the projection's output; only one token's row differs from the adapter's."""
        added = self.adapter.change(target, attention, x, unmodulated)
        row = slice(self.token, self.token + 1)
        donor = self.donor.to(attention).expand(x.shape[0], 1, -1)
        given = self.adapter.change(target, donor, x[:, row], unmodulated[:, row])
        added = added.clone()
        added[:, row] = self.own * added[:, row] + self.given * given
        return added


@torch.no_grad()
@checked
def transplant(
    model: BaseModel,
    checkpoint: Checkpoint | Live,
    donor: str | Sequence[int],
    prompt: str | Sequence[int],
    *,
    layers: int | Sequence[int],
    donor_token: int = -1,
    token: int = -1,
    operation: str = "replace",
    strength: int | float = 1.0,
    mode: Mode = "local",
    positions: Positions = "deployed",
    top_k: int = 10,
) -> Transplant:
    """Run `prompt` as an NPT model in which one token's ΔW comes from a token of `donor`, and compare.

    layers: the NPT layers that run and in which ΔW is transplanted. mode: whether the donor runs through the base
    model (local) or through the NPT model (propagated) to make its ΔW.
    Raises NptVizError for a layer, token, mode, positions or operation that does not exist.
    """
    checkpoint = as_checkpoint(checkpoint, model)
    check_mode(mode)
    check_positions(positions)
    if not np.isfinite(strength):
        raise NptVizError(f"strength is {strength!r}; give a finite number")
    own, given = weights_of(operation, float(strength))
    chosen = layers_of(checkpoint, [layers] if isinstance(layers, int) else list(layers))
    adapters: dict = {layer: checkpoint.adapter(layer) for layer in chosen}
    of_donor, of_prompt = encode(model, donor), encode(model, prompt)
    refuse_pooled(adapters.values(), "exchanges the weight change of a single token")
    i, j = position(donor_token, len(of_donor.ids), "donor"), position(token, len(of_prompt.ids), "prompt")
    with model.lock:
        lane: Lane = adapters if mode == "propagated" else {}
        readings = layer_readings(model, torch.tensor([of_donor.ids]), chosen, lane=lane, positions=positions)
        grafted: dict = {
            layer: Grafted(adapter, readings[layer].attention[i], j, own, given)
            for layer, adapter in adapters.items()
        }
        alone: list[Lane] = (
            [{**adapters, layer: grafted[layer]} for layer in chosen] if len(chosen) > 1 else []
        )
        lanes: list[Lane] = [adapters, grafted, {}, *alone]
        ids = torch.tensor([of_prompt.ids])
        names = ["NPT", "transplanted", "base", *(f"layer {layer} alone" for layer in chosen[: len(alone)])]
        sides = outcomes(model, ids, lanes, names, top_k, positions)
        donor_top = _donor_top(model, of_donor.ids, i, adapters, positions, top_k)
    return Transplant(
        donor_pieces=of_donor.pieces,
        pieces=of_prompt.pieces,
        donor_token=i,
        token=j,
        layers=tuple(chosen),
        operation=operation,
        strength=float(strength),
        mode=mode,
        positions=positions,
        npt=sides[0],
        transplanted=sides[1],
        base=sides[2],
        donor_top=donor_top,
        shares=tuple(
            LayerShare(layer, float(each.kl[j]), float(each.kl[-1]))
            for layer, each in zip(chosen, sides[3:] or [sides[1]], strict=True)
        ),
    )


def _donor_top(
    model: BaseModel, ids: list[int], token: int, adapters: Lane, positions: Positions, top_k: int
) -> list[tuple[str, int, float]]:
    """Prediction of the NPT model after the donor's token in its own text."""
    final = forward_pass(model, torch.tensor([ids]), [adapters], positions=positions).final[:, token]
    return top_rows(model, model.unembedding(final)[0].float().log_softmax(-1), top_k)
