"""Checks that a model is a plain pre-norm SwiGLU decoder, which NPT layers need: by its parts, then by numbers.

Everything that npt_viz computes about a layer rests on
    out = h + a + mlp(norm(h + a)),   mlp(z) = down(silu(gate z) * up z),   logits = unembedding(final norm(...))
so a model of which this is not true is refused before anything is shown of it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from npt_viz.errors import NptVizError

KNOWN = {"llama", "mistral", "qwen2", "qwen3", "smollm3"}
"""Model types whose arithmetic the tests check; for any other type it is checked on the loaded weights."""

LAYER_PARTS = ("self_attn", "mlp", "input_layernorm", "post_attention_layernorm")
MLP_PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")


def check_structure(hf: PreTrainedModel, name: str) -> None:
    """Refuse a model without the parts NPT needs; `hf` may be on the meta device, without weights."""
    missing = next(_missing(hf), None)
    if missing:
        raise NptVizError(
            f"{name} ({hf.config.model_type}) cannot carry NPT layers: {missing}; "
            "open a model of the Llama type (Llama, Mistral, Qwen2, Qwen3, SmolLM)"
        )


def _missing(hf: PreTrainedModel) -> Iterator[str]:
    backbone = getattr(hf, "model", None)
    layers = getattr(backbone, "layers", None)
    if not isinstance(layers, nn.ModuleList) or len(layers) != hf.config.num_hidden_layers:
        yield "it has no list model.layers of decoder layers"
        return
    if not isinstance(getattr(backbone, "rotary_emb", None), nn.Module):
        yield "it has no rotary position embeddings (model.rotary_emb)"
    if hf.get_output_embeddings() is None:
        yield "it has no unembedding (lm_head)"
    for i, layer in enumerate(layers):
        yield from (f"model.layers.{i} {fault}" for fault in _layer_faults(layer, hf.config))
    if getattr(hf.config, "final_logit_softcapping", None) is not None:
        yield "it caps its logits (final_logit_softcapping)"


def _layer_faults(layer: nn.Module, config) -> Iterator[str]:
    parts = dict(layer.named_children())
    if lacking := [part for part in LAYER_PARTS if part not in parts]:
        yield f"has no {lacking[0]}"
        return
    if extra := [part for part in parts if part not in LAYER_PARTS]:
        yield f"has {extra[0]} beside the two norms, attention and MLP"
    for norm in ("input_layernorm", "post_attention_layernorm"):
        if "RMSNorm" not in type(parts[norm]).__name__:
            yield f"has {type(parts[norm]).__name__} as {norm} instead of an RMSNorm"
    mlp = dict(parts["mlp"].named_children())
    if lacking := [part for part in MLP_PARTS if part not in mlp]:
        yield f"has no mlp.{lacking[0]} (a SwiGLU MLP has gate_proj, up_proj, down_proj)"
        return
    if extra := [part for part in mlp if part not in MLP_PARTS]:
        yield f"has mlp.{extra[0]} beside the three projections"
    for projection in ("gate_proj", "up_proj", "down_proj"):
        inp, out = config.hidden_size, config.intermediate_size
        shape = (inp, out) if projection == "down_proj" else (out, inp)
        weight = mlp[projection].get_parameter("weight")
        if tuple(weight.shape) != shape:
            yield f"has mlp.{projection} of shape {tuple(weight.shape)} instead of {shape}"
    x = torch.linspace(-3, 3, 7)
    if not torch.allclose(mlp["act_fn"](x), F.silu(x), atol=1e-6):
        yield f"has the activation {config.hidden_act} instead of silu"


@torch.no_grad()
def check_arithmetic(hf: PreTrainedModel, name: str) -> None:
    """Refuse a loaded model whose layers or logits are not the formulas above (hidden multipliers, capping).

    Runs three tokens once and compares the first and last layer and the logits with the formulas, to a
    hundredth: no multiplier in use is that close to one, and the rounding of bf16 is finer.
    """
    outputs: dict[str, torch.Tensor] = {}
    handles = []

    def record(module: nn.Module, key: str) -> None:
        def keep(module, args, kwargs, output):
            outputs[f"{key} input"] = args[0] if args else kwargs["hidden_states"]
            outputs[key] = output[0] if isinstance(output, tuple) else output

        handles.append(module.register_forward_hook(keep, with_kwargs=True))

    layers = {i: hf.model.layers[i] for i in (0, len(hf.model.layers) - 1)}
    try:
        for i, layer in layers.items():
            record(layer, f"layer {i}")
            record(layer.self_attn, f"attention {i}")
            record(layer.mlp, f"mlp {i}")
        embedding, unembedding = hf.get_input_embeddings(), hf.get_output_embeddings()
        assert unembedding is not None, "check_structure refuses a model without one"
        record(unembedding, "unembedding")
        device = embedding.get_parameter("weight").device
        ids = torch.tensor([[5, 7, 11]], device="cpu" if device.type == "meta" else device)
        logits = hf(input_ids=ids % hf.config.vocab_size, use_cache=False).logits
        faults = list(_wrong_formulas(layers, outputs, logits))
    finally:
        for handle in handles:
            handle.remove()
    if faults:
        raise NptVizError(
            f"{name} ({hf.config.model_type}) cannot carry NPT layers: {faults[0]}; "
            "open a model of the Llama type (Llama, Mistral, Qwen2, Qwen3, SmolLM)"
        )


def _wrong_formulas(
    layers: Mapping[int, Any], outputs: Mapping[str, torch.Tensor], logits: torch.Tensor
) -> Iterator[str]:
    for i, layer in layers.items():
        h, a, mlp_input = outputs[f"layer {i} input"], outputs[f"attention {i}"], outputs[f"mlp {i} input"]
        mlp = layer.mlp
        swiglu = mlp.down_proj(F.silu(mlp.gate_proj(mlp_input)) * mlp.up_proj(mlp_input))
        if not _close(outputs[f"mlp {i}"], swiglu):
            yield f"the MLP of model.layers.{i} is not down(silu(gate z) * up z)"
        if not _close(mlp_input, layer.post_attention_layernorm(h + a)):
            yield f"the MLP of model.layers.{i} does not read norm(h + a) (a residual multiplier?)"
        added = (a + outputs[f"mlp {i}"]).float().norm()
        # The stream may be far larger than what a layer adds: it is rounded to its own size.
        rounding = torch.finfo(h.dtype).eps * h.float().norm()
        off = (outputs[f"layer {i}"].float() - (h + a + outputs[f"mlp {i}"]).float()).norm()
        if off > 1e-2 * added + rounding:
            yield f"model.layers.{i} does not add attention and MLP to its input as they are"
    if not _close(logits, outputs["unembedding"]):
        yield "its logits are not the unembedding's output as it is (a multiplier or soft-capping?)"


def _close(output: torch.Tensor, expected: torch.Tensor) -> bool:
    output, expected = output.float(), expected.float().to(output.device)
    return bool((output - expected).norm() <= 1e-2 * expected.norm())
