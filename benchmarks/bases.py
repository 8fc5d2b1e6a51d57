"""Base models made from the real one for the validation of health: of other weights, of another basis, of other attention.

python -m benchmarks.bases      what the real model lacks for two rules: sinks that weigh, tokens with opposite attention
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

import npt_viz
from npt_viz.adapter import mlp_trace
from npt_viz.analysis.health.gathering import OPPOSITE_COSINE
from npt_viz.capture.layer_trace import BASE, attention_sinks, layer_inputs
from npt_viz.capture.probe import SEQUENCES, seen_by_base, windows
from npt_viz.capture.running import forward_pass
from npt_viz.model.base import BaseModel
from npt_viz.texts import bundled_texts


def untrained(model: BaseModel) -> BaseModel:
    """The same shape, every weight drawn anew."""
    torch.manual_seed(7)
    hf = AutoModelForCausalLM.from_config(model.config).eval().requires_grad_(False)
    return BaseModel(hf=hf, tokenizer=model.tokenizer, name="untrained", source="made in memory")


@torch.no_grad()
def renumbered(model: BaseModel) -> BaseModel:
    """The same function with the axes of the stream and the units of every MLP in another order.

    Adapters of the one mean nothing on the other, and both are good models: so is a base that another run trained.
    """
    changed = _copied(model, "renumbered")
    draw = torch.Generator().manual_seed(11)
    axes = torch.randperm(model.d_model, generator=draw)
    hf = changed.hf
    _reorder(hf.get_input_embeddings(), inputs=axes)
    if hf.get_output_embeddings().weight is not hf.get_input_embeddings().weight:
        _reorder(hf.get_output_embeddings(), inputs=axes)
    changed.backbone.norm.weight.copy_(changed.backbone.norm.weight[axes])
    for block in changed.backbone.layers:
        units = torch.randperm(model.d_ffn, generator=draw)
        attention, mlp = block.self_attn, block.mlp
        for norm in (block.input_layernorm, block.post_attention_layernorm):
            norm.weight.copy_(norm.weight[axes])
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            _reorder(projection, inputs=axes)
        _reorder(attention.o_proj, outputs=axes)
        for projection in (mlp.gate_proj, mlp.up_proj):
            _reorder(projection, inputs=axes, outputs=units)
        _reorder(mlp.down_proj, inputs=units, outputs=axes)
    return changed


@torch.no_grad()
def planar(model: BaseModel, layers: Sequence[int]) -> BaseModel:
    """The attention output of these layers keeps its two largest directions and loses what all tokens share.

    In a plane around zero most tokens have a partner with the opposite attention output, as none has in the real model.
    """
    changed = _copied(model, "planar")
    texts = [changed.tokenizer(text)["input_ids"][:256] for text in bundled_texts()[:8]]
    for layer in sorted(layers):  # What lies below has changed already.
        rows = []
        for ids in texts:
            record = forward_pass(changed, torch.tensor([ids]), record=[layer], stop_after=layer).layers[
                layer
            ]
            rows.append(record.attention[BASE][~attention_sinks(record.hidden[BASE])])
        projection = changed.backbone.layers[layer].self_attn.o_proj
        projection.weight.copy_(_onto_plane(torch.cat(rows)) @ projection.weight)
    return changed


def _onto_plane(rows: Tensor) -> Tensor:
    """Projection on the first two principal directions of what is left beside the mean direction."""
    shared = nn.functional.normalize(rows.mean(0), dim=0)
    beside = rows - torch.outer(rows @ shared, shared)
    plane = torch.linalg.svd(beside - beside.mean(0), full_matrices=False).Vh[:2]
    return plane.T @ plane


def _copied(model: BaseModel, name: str) -> BaseModel:
    return BaseModel(
        hf=copy.deepcopy(model.hf), tokenizer=model.tokenizer, name=name, source="made in memory"
    )


def _reorder(module: nn.Module, *, inputs: Tensor | None = None, outputs: Tensor | None = None) -> None:
    weight = module.weight
    assert isinstance(weight, Tensor)
    if inputs is not None:
        weight.copy_(weight[:, inputs])
    if outputs is not None:
        weight.copy_(weight[outputs])


@torch.no_grad()
def report() -> None:
    """For every layer: sinks, their weight in a mean squared error of the attention effect, tokens with an opposite partner."""
    torch.set_num_threads(1)
    model = npt_viz.open_model("smollm2-135m")
    sequences = windows(model, bundled_texts("heldout")[-SEQUENCES:], SEQUENCES)
    texts = seen_by_base(model, sequences, range(model.n_layers))["deployed"].records
    print(
        f"{model.name}, {sum(map(len, sequences))} tokens: layer, sinks, their weight, share with an opposite partner"
    )
    for layer in range(model.n_layers):
        sinks, effect, attention = [], [], []
        for text in texts:
            inputs = layer_inputs(model, layer, text[layer])
            plain = mlp_trace(model.parts(layer).mlp, inputs.z).output
            needed = inputs.attention + text[layer].mlp_output[BASE] - plain
            sinks.append(inputs.is_sink)
            effect.append(needed.square().sum(-1))
            attention.append(nn.functional.normalize(inputs.attention, dim=-1))
        is_sink, weight, unit = torch.cat(sinks), torch.cat(effect), torch.cat(attention)[~torch.cat(sinks)]
        opposite = ((unit @ unit.T) < OPPOSITE_COSINE).any(1).float().mean()
        print(
            f"{layer:3} {int(is_sink.sum())} {float(weight[is_sink].sum() / weight.sum()):.3f} {float(opposite):.3f}"
        )


if __name__ == "__main__":
    report()
