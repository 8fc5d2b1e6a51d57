"""The layers above an NPT layer, with gradients, for losses on logits."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch

from npt_viz.model.base import BaseModel, weight_of
from npt_viz.shapes import Float, Hidden, Tensor
from npt_viz.training.student import Ending


class LayersAbove:
    """The base model from some layer up, run on a given stream.

    Each module is called as the model itself called it in a recorded pass over a sequence of the same length
    (Capture.arguments): masks and position embeddings are the model's own, whatever its architecture.
    The caller holds the model's lock.
    """

    def __init__(self, model: BaseModel, arguments: Mapping[int, Mapping[str, dict]]) -> None:
        self.model, self._arguments = model, arguments

    def layer(self, layer: int, stream: Hidden) -> Hidden:
        """One whole base layer."""
        output = self.model.parts(layer).layer(stream, **self._arguments[stream.shape[1]][f"layer {layer}"])
        return output[0] if isinstance(output, tuple) else output

    def attention(self, layer: int, stream: Hidden) -> Hidden:
        """The attention output of one layer, norm included."""
        parts = self.model.parts(layer)
        arguments = self._arguments[stream.shape[1]][f"attention {layer}"]
        return parts.attention(hidden_states=parts.input_norm(stream), **arguments)[0]

    def final(self, first: int, stream: Hidden) -> Hidden:
        """State after the final norm, from the stream entering layer `first`."""
        for layer in range(first, self.model.n_layers):
            stream = self.layer(layer, stream)
        return self.model.final_norm(stream)

    def final_of_rows(
        self, first: int, rows: Float[Tensor, "token model"], lengths: Sequence[int]
    ) -> Float[Tensor, "token model"]:
        """`final` for sequences one after the other; equal lengths run as one batch."""
        pieces = list(rows.split(list(lengths)))
        for length in sorted(set(lengths)):
            members = [i for i, n in enumerate(lengths) if n == length]
            finals = self.final(first, torch.stack([pieces[i] for i in members]))
            for row, i in enumerate(members):
                pieces[i] = finals[row]
        return torch.cat(pieces)

    def ending(self, final: Float[Tensor, "token model"], final_base: Float[Tensor, "token model"]) -> Ending:
        """Inputs of the losses on logits."""
        return Ending(
            final=final.to(self._wide),
            final_base=final_base.to(final.device, self._wide),
            unembedding=self._logits,
            gram=self._gram,
            vocab=self.model.unembedding.weight.shape[0],
        )

    @property
    def _wide(self) -> torch.dtype:
        return torch.promote_types(self.model.dtype, torch.float32)

    def _logits(self, final: Tensor) -> Tensor:
        return self.model.unembedding(final.to(self.model.dtype)).to(self._wide)

    @cached_property
    def _gram(self) -> Float[Tensor, "model model"]:
        weight = weight_of(self.model.unembedding)
        gram = torch.zeros(weight.shape[1], weight.shape[1], dtype=self._wide, device=weight.device)
        for rows in weight.split(16384):
            gram += rows.to(self._wide).T @ rows.to(self._wide)
        return gram
