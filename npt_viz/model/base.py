"""Base model: its parts by name, its lock, its fingerprint and greedy or sampled decoding. Never changed."""

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from npt_viz.errors import NotFiniteError, NptVizError
from npt_viz.model.fair_lock import FairLock
from npt_viz.model.finite import REMEDY, non_finite
from npt_viz.shapes import Int, TokenIds

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


class LayerParts(NamedTuple):
    """Modules of one decoder layer that npt_viz reads or hooks; none is replaced."""

    layer: nn.Module
    input_norm: nn.Module
    attention: nn.Module
    mlp_norm: nn.Module
    mlp: nn.Module
    gate: nn.Linear
    up: nn.Linear
    down: nn.Linear

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the layer's weights."""
        return self.norm_weight.dtype

    @property
    def norm_weight(self) -> nn.Parameter:
        """Weight of the norm before the MLP."""
        return next(self.mlp_norm.parameters())


@dataclass(eq=False, repr=False)
class BaseModel:
    """A causal language model of the Llama type with its tokenizer.

    Everything that runs the model or hooks it holds `lock`: hooks are visible to every thread.
    """

    hf: "PreTrainedModel"
    """The Hugging Face model, in eval mode and without gradients."""

    tokenizer: Any
    """Its fast tokenizer. Any: transformers types the answer of every call as a union of all its forms."""

    name: str
    """What the user asked for: an alias, hub id, or path."""

    source: str
    """Where the weights came from, in words: 'hub cache', 'packaged GGUF', a folder."""

    lock: FairLock = field(default_factory=FairLock)

    notes: tuple[str, ...] = ()
    """What was opened otherwise than its files say, a sentence each."""

    closed: bool = False

    def __repr__(self) -> str:
        return f"BaseModel({self.name!r}, {self.source})"

    @property
    def config(self) -> "PreTrainedConfig":
        """Hugging Face config."""
        return self.hf.config

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return self.config.num_hidden_layers

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.config.hidden_size

    @property
    def d_ffn(self) -> int:
        """Width inside the MLP."""
        return self.config.intermediate_size

    @property
    def context_length(self) -> int:
        """Largest number of tokens of a prompt."""
        return self.config.max_position_embeddings

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding; the tokenizer may have fewer tokens."""
        embedding: Any = self.hf.get_input_embeddings()
        return embedding.num_embeddings

    @property
    def size(self) -> str:
        """Layers and widths in words."""
        return f"{self.n_layers} layers, d_model {self.d_model:,}, d_ffn {self.d_ffn:,}"

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return self.hf.dtype

    @property
    def device(self) -> torch.device:
        """Device of the embedding, where token ids go."""
        embedding: Any = self.hf.get_input_embeddings()
        if embedding.weight.is_meta:  # Offloaded: accelerate brings it here when it runs.
            return torch.device(embedding._hf_hook.execution_device)
        return embedding.weight.device

    @property
    def backbone(self) -> nn.Module:
        """The model without its unembedding."""
        return self.hf.model

    @property
    def final_norm(self) -> nn.Module:
        """Norm between the last layer and the unembedding."""
        return self.backbone.get_submodule("norm")

    @property
    def unembedding(self) -> nn.Linear:
        """Output head, from the final norm's output to logits."""
        head: Any = self.hf.get_output_embeddings()
        return head

    def parts(self, layer: int) -> LayerParts:
        """The modules of one decoder layer."""
        if not 0 <= layer < self.n_layers:
            raise NptVizError(
                f"layer {layer} does not exist: {self.name} has layers 0 to {self.n_layers - 1}; "
                "choose one of these"
            )
        backbone: Any = self.backbone
        block = backbone.layers[layer]
        mlp = block.mlp
        return LayerParts(
            block,
            block.input_layernorm,
            block.self_attn,
            block.post_attention_layernorm,
            mlp,
            mlp.gate_proj,
            mlp.up_proj,
            mlp.down_proj,
        )

    @property
    def end_tokens(self) -> frozenset[int]:
        """End-of-text ids of the generation config."""
        ends = getattr(self.hf.generation_config, "eos_token_id", None)
        return frozenset([] if ends is None else ends if isinstance(ends, list) else [ends])

    @torch.no_grad()
    def decode(
        self,
        token_ids: TokenIds,
        n_tokens: int,
        choose: Callable[[Tensor], Tensor],
        *,
        stop_at_end: bool = False,
    ) -> Int[Tensor, "batch new"]:
        """Continue every row by `n_tokens` tokens with the key-value cache; the new ids, on the CPU.

        Inside `capture.running.changed` the rows follow their lanes.

        choose: takes the float32 logits (batch, vocab) after the last token and returns the next ids (batch,);
            `greedy` is one such function.
        stop_at_end: stop after the step in which every row has reached one of `end_tokens`; a row that reached one
            earlier goes on until then.
        Raises NotFiniteError for logits that are NaN or infinite.
        """
        ends = torch.tensor(sorted(self.end_tokens), dtype=torch.long)
        fresh, cache, chosen = token_ids.to(self.device), None, []
        ended = torch.zeros(len(token_ids), dtype=torch.bool)
        with self.lock:
            name = _cache_argument(self.hf)
            for _ in range(n_tokens):
                output = self.hf(input_ids=fresh, use_cache=True, logits_to_keep=1, **{name: cache})
                cache = getattr(output, name)
                logits = output.logits[:, -1].float()
                self._refuse_non_finite(logits, len(chosen))
                ids = choose(logits).cpu()
                chosen.append(ids)
                ended |= torch.isin(ids, ends)
                if stop_at_end and bool(ended.all()):
                    break
                fresh = ids[:, None].to(self.device)
        return torch.stack(chosen, dim=1) if chosen else torch.zeros(len(token_ids), 0, dtype=torch.long)

    def _refuse_non_finite(self, logits: Tensor, n_written: int) -> None:
        if non_finite(logits) is not None:
            remedy = REMEDY.get(self.dtype, "choose a smaller change of its layers")
            raise NotFiniteError(
                f"{self.name}: the logits are not finite after {n_written} tokens that it wrote; inspect the prompt to see "
                f"which layer overflows, or {remedy}"
            )

    def fingerprint(self, layers: Sequence[int]) -> dict:
        """Hashes that identify the base model: one of the config, one of each layer's weights.

        Weights are rounded to bfloat16 before hashing, so that a bf16 model opened in float32 is the same model.
        """
        return {
            "config": _config_hash(self.config),
            "layers": {str(layer): self._layer_hash(layer) for layer in sorted(set(layers))},
        }

    def _layer_hash(self, layer: int) -> str:
        digest = hashlib.sha256()
        block = self.parts(layer).layer
        for name, tensor in sorted(block.state_dict().items()):
            if tensor.is_meta:
                tensor = _offloaded(block, name)
            digest.update(name.encode())
            digest.update(
                tensor.detach().to("cpu", torch.bfloat16).contiguous().view(torch.uint8).numpy().data
            )
        return digest.hexdigest()[:16]

    def memory_bytes(self) -> int:
        """Bytes of the weights, counted once where they are tied."""
        return sum(p.numel() * p.element_size() for p in self.hf.parameters())

    def close(self) -> None:
        """Drop the weights and give GPU memory back; safe from any thread, and twice."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            self.hf = None
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def greedy(logits: Tensor) -> Tensor:
    """The most probable next token of every row: a `choose` of `BaseModel.decode`."""
    return logits.argmax(-1)


def _cache_argument(hf: nn.Module) -> str:
    """Name of the key-value cache argument of `forward`: transformers renamed `past_key_values` to `cache` in 5.24.

    `forward` swallows keywords it does not know, so a wrong name would give wrong tokens and no error.
    """
    known = inspect.signature(hf.forward).parameters
    for name in ("cache", "past_key_values"):
        if name in known:
            return name
    raise NptVizError(
        f"{type(hf).__name__} takes no key-value cache under a name that npt_viz knows (cache, past_key_values); "
        "install a transformers version within the range of npt_viz"
    )


CONFIG_KEYS = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "rms_norm_eps",
    "hidden_act",
    "rope_parameters",
)
"""The settings that change what the layers compute; not paths and library versions."""


def _config_hash(config) -> str:
    settings = {key: _rounded(getattr(config, key, None)) for key in CONFIG_KEYS}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _rounded(value):
    """1e-5 is 9.99999974e-06 in a file that keeps it in float32."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def weight_of(module: nn.Linear) -> Tensor:
    """The module's weight, also where accelerate keeps it on the CPU or on disk. Read it, never write to it."""
    return _offloaded(module, "weight") if module.weight.is_meta else module.weight.detach()


def _offloaded(block: nn.Module, name: str) -> Tensor:
    """A weight that accelerate keeps on the CPU or on disk."""
    owner, _, leaf = name.rpartition(".")
    weights = getattr(getattr(block.get_submodule(owner), "_hf_hook", None), "weights_map", None)
    if weights is None:
        raise NptVizError(
            f"the weight {name} is not in memory and cannot be read; load the model without offloading"
        )
    return weights[leaf]
