"""Match between a checkpoint and the open base model, and edits of the base weights stored beside the adapters."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from npt_viz.checkpoint.store import TensorStore
from npt_viz.model.base import BaseModel
from npt_viz.results.load_report import BaseMatch, PastEdits

_NAME_KEYS = ("base_model_name", "base_model", "model_name", "model_name_or_path", "_name_or_path")


def match_by_fingerprint(
    recorded: Mapping, name: str, model: BaseModel, own: Sequence[int] = ()
) -> BaseMatch:
    """Match by the fingerprint in npt_config.json, on the layers that it records. own: layers of the checkpoint."""
    layers = recorded.get("layers")
    layers = layers if isinstance(layers, dict) else {}
    known = [int(layer) for layer in layers if layer.isdigit() and int(layer) < model.n_layers]
    fingerprint = model.fingerprint(known)
    different = [str(layer) for layer in known if fingerprint["layers"][str(layer)] != layers[str(layer)]]
    digests = model.fingerprint(range(model.n_layers))["layers"] if different else {}
    number_of = {digest: number for number, digest in digests.items()}
    renamed = {layer: number_of[layers[layer]] for layer in different if layers[layer] in number_of}
    different = [layer for layer in different if layer not in renamed]
    if different:
        return BaseMatch(
            status="mismatch",
            detail="other weights",
            sentence=f"the checkpoint was made on {name}, whose weights differ from {model.name}'s in layer "
            f"{', '.join(different)}; numbers will be off: open the base model that it was trained on",
        )
    if fingerprint["config"] != recorded.get("config"):
        weights = ", though the weights of its layers are the same" if known else ""
        return BaseMatch(
            status="mismatch",
            detail="another config",
            sentence=f"the checkpoint was made on {name}, whose config differs from {model.name}'s{weights}; check rope and "
            "norm settings",
        )
    if not known:
        return BaseMatch(
            status="unknown",
            detail="config agrees",
            sentence=f"the config is that of {model.name}; of its layers the file records no weights to compare",
        )
    if renamed:
        said = ", ".join(f"what it calls layer {ours} is layer {theirs}" for ours, theirs in renamed.items())
        return BaseMatch(
            status="match",
            detail="other layer numbers",
            sentence=f"config and weights of its layers are those of {model.name}, but under other numbers: {said} of "
            f"{model.name}; look for a layer number that was changed in the file",
        )
    missing = [str(layer) for layer in own if layer not in known]
    without = f"; of layer{'s' * (len(missing) > 1)} {', '.join(missing)} it records none" if missing else ""
    return BaseMatch(
        status="match",
        detail=f"{len(own) - len(missing)} of {len(own)} layers agree"
        if missing
        else "config, weights agree",
        sentence=f"config and weights of its layers are those of {model.name}{without}",
    )


def match_by_name(claims: Mapping, model: BaseModel) -> BaseMatch:
    """Match by the base name in a config: a different name is evidence against, the same name proves nothing."""
    claimed = next((str(claims[key]) for key in _NAME_KEYS if claims.get(key)), None)
    if claimed is None:
        return BaseMatch(
            status="unknown",
            detail="dimensions fit",
            sentence=f"the file does not name its base; its dimensions fit {model.name}",
        )
    names = {model.name, str(getattr(model.config, "_name_or_path", "") or model.name)}
    if _short(claimed) in map(_short, names):
        return BaseMatch(
            status="unknown",
            detail="the name agrees",
            sentence=f"the file names {claimed}, the model that is open; it has no fingerprint to prove it",
        )
    return BaseMatch(
        status="mismatch",
        detail="another name",
        sentence=f"the file names {claimed} as its base, the open model is {model.name}; the dimensions fit, "
        "the numbers need not: open the base model that it was trained on",
    )


def match_by_weights(store: TensorStore, layers: tuple[int, ...], model: BaseModel) -> BaseMatch | None:
    """Match by the gate weights stored beside the adapters (format B); None where there are none."""
    compared, different = [], []
    for layer in layers:
        key = next((k for k in (_original(layer), _gate(layer)) if _is_weight(store, k)), None)
        open_weight = model.parts(layer).gate.weight
        if key is None or open_weight.is_meta or store.infos[key].shape != tuple(open_weight.shape):
            continue
        # bfloat16: the same model may be stored in one precision and open in another.
        stored = store.mapped(key).to(torch.bfloat16)
        compared.append(str(layer))
        if not torch.equal(stored, open_weight.detach().to("cpu", torch.bfloat16)):
            different.append(str(layer))
    if different:
        return BaseMatch(
            status="mismatch",
            detail="other gate weights",
            sentence=f"the gate weights beside the adapters differ from {model.name}'s in layer "
            f"{', '.join(different)}; open this folder itself as the base model",
        )
    if compared:
        return BaseMatch(
            status="match",
            detail="gate weights agree",
            sentence=f"the gate weights beside the adapters are {model.name}'s (layer {', '.join(compared)})",
        )
    return None


def past_edits(store: TensorStore, layer: int) -> PastEdits | None:
    """Singular values of gate_proj − original_gate_weight above rounding; None where the file has no such pair."""
    original, gate = _original(layer), _gate(layer)
    if original not in store.infos or gate not in store.infos:
        return None
    if not _is_weight(store, original) or store.infos[gate].shape != store.infos[original].shape:
        return PastEdits(layer=layer, singular_values=(), noise=0.0, note="placeholder")
    if not _is_weight(store, gate):
        return PastEdits(layer=layer, singular_values=(), noise=0.0, note="quantised")
    before = store.mapped(original).float()
    change = store.mapped(gate).float() - before
    # Rounding to the stored dtype spreads every entry evenly over one unit in the last place, and a random matrix
    # with entries of standard deviation s has its largest singular value near s (sqrt(rows) + sqrt(columns)).
    step = torch.finfo(getattr(torch, store.infos[gate].dtype)).eps
    deviation = step / math.sqrt(12) * float(before.square().mean().sqrt())
    noise = deviation * sum(math.sqrt(size) for size in change.shape)
    values = leading_singular_values(change)
    above = values[values > max(noise, 1e-5 * float(values[0]))]
    return PastEdits(layer=layer, singular_values=tuple(map(float, above)), noise=noise)


def leading_singular_values(matrix: Tensor, count: int = 32) -> Tensor:
    """The largest singular values, descending, by subspace iteration: the full decomposition of a W_g takes minutes."""
    width = min(count + 8, *matrix.shape)
    start = torch.randn(matrix.shape[1], width, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(matrix @ start).Q
    for _ in range(3):
        basis = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.T @ basis).Q).Q
    return torch.linalg.svdvals(basis.T @ matrix)[:count]


def _original(layer: int) -> str:
    return f"model.layers.{layer}.original_gate_weight"


def _gate(layer: int) -> str:
    return f"model.layers.{layer}.mlp.gate_proj.weight"


def _is_weight(store: TensorStore, key: str) -> bool:
    info = store.infos.get(key)
    return info is not None and info.is_float and len(info.shape) == 2


def _short(name: str) -> str:
    return name.rstrip("/").replace("\\", "/").rpartition("/")[2].lower()
