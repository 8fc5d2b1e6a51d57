"""What a layer of the base model sees, by calling its own modules one by one."""

import torch

from npt_viz.checkpoint import Checkpoint

PROMPT = "the <b>cat</b> the"


def live(*adapters):
    """A checkpoint of adapters that are in memory only."""
    return Checkpoint.from_adapters({adapter.layer: adapter for adapter in adapters}, None, "specimens")


def streams(model, ids):
    """h entering every layer, from output_hidden_states (its last entry is after the final norm)."""
    with torch.no_grad():
        return model.hf(input_ids=ids, output_hidden_states=True).hidden_states


def attention_of(model, layer, hidden):
    """a by calling the layer's own modules, with causal attention and RoPE."""
    parts = model.parts(layer)
    n_tokens = hidden.shape[1]
    position_ids = torch.arange(n_tokens)[None]
    with torch.no_grad():
        embeddings = model.backbone.rotary_emb(hidden, position_ids)
        return parts.attention(parts.input_norm(hidden), position_embeddings=embeddings, attention_mask=None)[
            0
        ]


def ids_of(model, prompt=PROMPT):
    return torch.tensor([model.tokenizer(prompt)["input_ids"]])
