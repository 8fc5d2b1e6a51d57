"""Teacher activations: captured once from the base model, then trained on many times."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from npt_viz.adapter import mlp_trace
from npt_viz.capture.running import Positions, forward_pass
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.shapes import Float, Int, Tensor

WINDOW = 256
"""Tokens of one training sequence; longer texts are cut."""

MIN_TOKENS = 8
"""A shorter sequence says nothing about attention."""

SINK_FACTOR = 10.0


@dataclass(frozen=True)
class Corpus:
    """Token sequences, split by sequence so that no text is on both sides."""

    train: list[Int[Tensor, "_"]]
    heldout: list[Int[Tensor, "_"]]

    @property
    def n_train(self) -> int:
        return sum(map(len, self.train))

    @property
    def n_heldout(self) -> int:
        return sum(map(len, self.heldout))


def corpus_of(
    model: BaseModel, texts: Sequence[str], *, window: int = WINDOW, heldout: float = 0.12, seed: int = 0
) -> Corpus:
    """Tokenise, cut into windows and split; the split depends on the seed alone."""
    window = min(window, model.context_length)
    if isinstance(texts, str):
        texts = [texts]
    sequences = [
        torch.tensor(ids[start : start + window])
        for text in texts
        for ids in [model.tokenizer(text)["input_ids"]]
        for start in range(0, len(ids), window)
    ]
    sequences = [ids for ids in sequences if len(ids) >= min(MIN_TOKENS, window)]
    if len(sequences) < 2:
        n_tokens = sum(map(len, sequences))
        raise NptVizError(
            f"the text has {n_tokens} tokens in {len(sequences)} sequences of at least {MIN_TOKENS}: too short to "
            f"hold some back for testing; give at least two texts, or one of more than {window} tokens"
        )
    order = torch.randperm(len(sequences), generator=torch.Generator().manual_seed(seed)).tolist()
    n_heldout = max(1, round(heldout * len(sequences)))
    shuffled = [sequences[i] for i in order]
    return Corpus(train=shuffled[n_heldout:], heldout=shuffled[:n_heldout])


@dataclass(frozen=True)
class LayerTokens:
    """What one layer of the base model saw at every token; float32."""

    hidden: Float[Tensor, "token model"]
    """h"""
    attention: Float[Tensor, "token model"]
    """a"""
    mlp_with_attention: Float[Tensor, "token model"]
    """MLP(z_C), what the base's MLP wrote"""
    is_sink: Tensor
    """(token,) bool: residual norm above ten times the median"""

    def __len__(self) -> int:
        return self.hidden.shape[0]

    def rows(self, index) -> "LayerTokens":
        return LayerTokens(
            self.hidden[index], self.attention[index], self.mlp_with_attention[index], self.is_sink[index]
        )


def captured(
    model: BaseModel,
    sequences: Sequence[Int[Tensor, "_"]],
    layers: Sequence[int],
    *,
    positions: Positions = "deployed",
) -> dict[int, LayerTokens]:
    """One pass over the text; all sequences' tokens one after the other. Layers above the last are not run."""
    kept: dict[int, list[LayerTokens]] = {layer: [] for layer in layers}
    for ids in sequences:
        seen = forward_pass(model, ids[None], record=layers, positions=positions, stop_after=max(layers))
        for layer, record in seen.layers.items():
            parts = (record.hidden, record.attention, record.mlp_output)
            h, a, y = (part[0].float() for part in parts)
            norm = h.norm(dim=-1)
            kept[layer].append(LayerTokens(h, a, y, norm > SINK_FACTOR * norm.median()))
    return {
        layer: LayerTokens(
            *(
                torch.cat([getattr(part, name) for part in parts])
                for name in ("hidden", "attention", "mlp_with_attention", "is_sink")
            )
        )
        for layer, parts in kept.items()
    }


@dataclass(frozen=True)
class Student:
    """One batch of one layer with the adapter's output: what a loss may look at."""

    adapter: object
    """The LayerAdapter in training."""
    mlp: object
    """The base layer's SwiGLU module, only called."""
    hidden: Float[Tensor, "token model"]
    attention: Float[Tensor, "token model"]
    mlp_input: Float[Tensor, "token model"]
    """z, or z_C where the attention path is standard"""
    target: Float[Tensor, "token model"]
    """a + MLP(z_C), or MLP(z_C) where attention stays in the stream"""
    unmodulated: Float[Tensor, "token model"]
    """MLP(z): the output with the modulation off"""
    output: Float[Tensor, "token model"]
    """ŷ"""
    gate: Float[Tensor, "token ffn"]
    """W_g z, without modulation"""


def student(model: BaseModel, adapter, tokens: LayerTokens) -> Student:
    """Run one layer's modulated MLP on captured activations; only the adapter gets gradients."""
    parts = model.parts(adapter.layer)
    dtype, device = parts.mlp_norm.weight.dtype, adapter_device(adapter)
    hidden, attention, taught = (
        t.to(device, dtype) for t in (tokens.hidden, tokens.attention, tokens.mlp_with_attention)
    )
    with torch.no_grad():
        mlp_input = parts.mlp_norm(hidden + attention if adapter.attention == "standard" else hidden)
        plain = mlp_trace(parts.mlp, mlp_input)
        target = taught + attention if adapter.attention == "withheld" else taught
    output = adapter.mlp(parts.mlp, attention, mlp_input, plain).output
    return Student(
        adapter=adapter,
        mlp=parts.mlp,
        hidden=hidden.float(),
        attention=attention.float(),
        mlp_input=mlp_input.float(),
        target=target.float(),
        unmodulated=plain.output.float(),
        output=output.float(),
        gate=plain.gate.float(),
    )


def adapter_device(adapter) -> torch.device:
    return next(adapter.parameters()).device


def token_batches(n_tokens: int, size: int, seed: int) -> Iterator[Int[Tensor, "token"]]:
    """Indices of random tokens for ever: every token once before any comes again."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    while True:
        while len(order) < size:
            order = torch.cat([order, torch.randperm(n_tokens, generator=generator)])
        yield order[:size]
        order = order[size:]
