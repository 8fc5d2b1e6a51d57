"""Fields of npt_config.json, the config of the native format."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import get_args

import torch
from torch import Tensor

from npt_viz.adapter import Semantics, Target
from npt_viz.adapter.semantics import Provenance
from npt_viz.checkpoint.layout import LayerPlan
from npt_viz.checkpoint.meaning import from_fields
from npt_viz.errors import NptVizError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class NativeLayers:
    """Semantics in npt_config.json, by layer."""

    semantics: Mapping[int, Semantics]
    provenance: Mapping[int, Provenance]
    """How the semantics was known when the file was written."""


def read_layers(config: Mapping, plans: Mapping[int, LayerPlan], where: str) -> NativeLayers:
    """Semantics of every layer of a native file.

    plans: the layers whose tensors are in npt_weights.safetensors.
    Raises NptVizError for another format version, and layers that only one of the two files has.
    """
    version = config.get("format_version")
    if version != FORMAT_VERSION:
        raise NptVizError(
            f"{where}: format_version is {version!r}; this npt_viz reads {FORMAT_VERSION}: update it or convert the file"
        )
    layers = config.get("layers")
    if not isinstance(layers, dict) or set(layers) != set(map(str, plans)):
        named = sorted(layers) if isinstance(layers, dict) else layers
        raise NptVizError(
            f"{where}: the config has layers {named}, the weights have {sorted(map(str, plans))}; "
            "both describe one checkpoint: copy the whole folder again"
        )
    semantics, provenance = {}, {}
    for layer in plans:
        described = layers[str(layer)]
        place = f"{where} (layer {layer})"
        if not isinstance(described, dict):
            raise NptVizError(f"{place}: is {described!r}, not an object; correct the config")
        semantics[layer] = from_fields(described.get("semantics"), place)
        if semantics[layer].rule not in plans[layer].rules:
            raise NptVizError(
                f"{place}: the rule is {semantics[layer].rule}, but the tensors are those of {plans[layer].rule}; "
                "copy the whole folder again"
            )
        known = described.get("provenance", "from the file")
        provenance[layer] = known if known in get_args(Provenance) else "from the file"
    return NativeLayers(semantics, provenance)


def layer_fields(
    semantics: Semantics, provenance: Provenance, sizes: Mapping[Target, tuple[int, int]]
) -> dict:
    """One layer's entry in npt_config.json. sizes: target -> (rank, components)."""
    return {
        "semantics": asdict(semantics),
        "provenance": provenance,
        "targets": {target: {"rank": rank, "components": k} for target, (rank, k) in sizes.items()},
    }


def tensor_hash(tensor: Tensor) -> str:
    """Sixteen hex digits of the tensor's bytes as stored."""
    data = tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data
    return hashlib.sha256(data).hexdigest()[:16]
