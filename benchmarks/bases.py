"""Base models made from the real one for the validation of health: of other weights, of another basis, of other attention."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from npt_viz.capture.layer_trace import BASE, attention_sinks
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
