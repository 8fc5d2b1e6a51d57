"""A base model made of a model that is in memory: it shares its weights and has modules, mode and hooks of its own.

The user's model is only looked at. Their training goes on with its mode, its gradients and its hooks, and what the
optimiser does to the weights is seen by the next pass here.
"""

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel

from npt_viz.errors import NotFiniteError, NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.fair_lock import FairLock
from npt_viz.model.finite import bad_weight
from npt_viz.model.llama_type import KNOWN, check_arithmetic, check_structure
from npt_viz.model.quiet import quiet_transformers

Skeleton = Callable[[str, PreTrainedConfig, torch.device], tuple[PreTrainedModel, tuple[str, ...]]]
"""(name, config, where it will run) -> the model of that config on the meta device, and notes on it."""


def live_model(model: nn.Module, tokenizer: Any, skeleton: Skeleton) -> BaseModel:
    """The base model whose weights are those of `model`, shared with it.

    model: a transformers model, or a module with one inside (DistributedDataParallel, a compiled model, NPT layers of
        your own beside or around the base's parts): weights are found by the names that transformers gives them.
    Raises NptVizError for a weight that is missing, sharded, quantised or of another shape, and NotFiniteError for NaN.
    """
    config = _config(model)
    name = str(config._name_or_path or type(model).__name__)
    shared, notes = skeleton(name, config, next(model.parameters()).device)
    check_structure(shared, name)
    weights = dict(_paired(shared, model, name))
    for key in weights:
        owner, _, leaf = key.rpartition(".")
        setattr(shared.get_submodule(owner), leaf, nn.Parameter(weights[key].detach(), requires_grad=False))
    shared.tie_weights()
    _take_rope(shared, model, name)
    shared.eval()
    if (found := bad_weight(shared)) is not None:
        key, bad = found
        raise NotFiniteError(f"{name}: the weight {key} holds {bad}; look at the step that made it so")
    if config.model_type not in KNOWN:
        check_arithmetic(shared, name)
    return BaseModel(
        hf=shared,
        tokenizer=tokenizer if tokenizer is not None else _tokenizer(name),
        name=name,
        source="live model in memory",
        lock=FollowingLock(lambda: _follow(shared, weights)),
        notes=notes,
    )


class FollowingLock(FairLock):
    """The lock of a live model: whoever takes it finds the weights where the user's model has them now."""

    def __init__(self, follow: Callable[[], None]) -> None:
        super().__init__()
        self._follow = follow

    def acquire(self, blocking: bool = True) -> bool:
        """As FairLock's."""
        taken = super().acquire(blocking)
        if taken and self._depth == 1:
            try:
                self._follow()
            except BaseException:
                self.release()
                raise
        return taken


def _follow(shared: PreTrainedModel, weights: Mapping[str, Tensor]) -> None:
    """Share anew what moved: another device or dtype, or an optimiser that replaces a weight's data."""
    moved = None
    for key, live in weights.items():
        mine = shared.get_parameter(key)
        if mine.data_ptr() != live.data_ptr() or mine.dtype != live.dtype:
            mine.data, moved = live.detach(), live
    if moved is not None:
        shared.get_submodule("model.rotary_emb").to(moved.device)


def _config(model: nn.Module) -> PreTrainedConfig:
    """A copy of the config of the causal language model that is there, or inside."""
    for module in model.modules():
        config = getattr(module, "config", None)
        if isinstance(config, PreTrainedConfig) and getattr(config, "vocab_size", None):
            return copy.deepcopy(config)
    raise NptVizError(
        f"{type(model).__name__} has no transformers model in it, so its layers are not known; give the model that "
        "AutoModelForCausalLM made"
    )


def _paired(shared: PreTrainedModel, model: nn.Module, name: str) -> Iterator[tuple[str, Tensor]]:
    """(name in the base, live weight) of every weight."""
    live = dict(model.named_parameters(remove_duplicate=False))
    for key, wanted in shared.named_parameters():
        weight = live.get(key)
        if weight is None:
            weight = _under_another_name(key, live, name)
        if not weight.is_floating_point():
            raise NptVizError(
                f"{name}: the weight {key} is {str(weight.dtype).removeprefix('torch.')}, so it is quantised, which NPT "
                "cannot read; open the unquantised model"
            )
        if weight.is_meta or type(weight).__name__ == "DTensor" or weight.shape != wanted.shape:
            raise NptVizError(
                f"{name}: the weight {key} has shape {tuple(weight.shape)} here{' on the meta device' * weight.is_meta} and "
                f"{tuple(wanted.shape)} in the config, so it is sharded or offloaded; gather it first (in FSDP "
                "summon_full_params, in DeepSpeed GatheredParameters)"
            )
        yield key, weight


def _under_another_name(key: str, live: Mapping[str, Tensor], name: str) -> Tensor:
    """The one live weight that can be this one: its name has a prefix, or else its layer's parts lie one module deeper."""
    for pattern in (r"(?:\w+\.)*" + re.escape(key), _with_modules_between(key)):
        found = {other: weight for other, weight in live.items() if re.fullmatch(pattern, other)}
        if len({weight.data_ptr() for weight in found.values()}) == 1:
            return next(iter(found.values()))
        if found:
            raise NptVizError(
                f"{name}: {' and '.join(list(found)[:2])} can both be the base's {key}; give the one model that is meant, "
                "not the module around both"
            )
    raise NptVizError(
        f"{name}: no weight of the model can be the base's {key}; npt_viz finds the base's weights by the names that "
        "transformers gives them: keep these names, merge LoRA adapters first, or open the base model from its folder"
    )


def _with_modules_between(key: str) -> str:
    *modules, leaf = key.split(".")
    pattern = r"(?:\w+\.)*"
    for module, following in zip(modules, [*modules[1:], leaf], strict=True):
        # A number belongs to its list, and a weight to its module: nothing may stand between these.
        is_apart = not following.isdigit() and following != leaf
        pattern += re.escape(module) + r"\." + r"(?:\w+\.)*?" * is_apart
    return pattern + re.escape(leaf)


def _take_rope(shared: PreTrainedModel, model: nn.Module, name: str) -> None:
    """A copy of the live rotary embedding: its frequencies are no weights, and the skeleton has none."""
    kind = type(shared.get_submodule("model.rotary_emb"))
    live = next((module for module in model.modules() if isinstance(module, kind)), None)
    if live is None:
        raise NptVizError(
            f"{name}: there is no {kind.__name__} in the model, so its positions are not known; open the base model from its "
            "folder"
        )
    rope = copy.deepcopy(live)
    rope._forward_hooks.clear()
    rope._forward_pre_hooks.clear()
    shared.get_submodule("model").rotary_emb = rope
    left = [key for key, buffer in shared.named_buffers() if buffer.is_meta]
    if left:
        raise NptVizError(
            f"{name}: {left[0]} is neither a weight nor a frequency of the positions, and cannot be taken from the live "
            "model; open the base model from its folder"
        )


def _tokenizer(name: str) -> Any:
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except Exception:
        raise NptVizError(
            f"the live model {name} came without its tokenizer, and there is none under that name on this machine; give it: "
            "npt_viz.open_model(model, tokenizer=tokenizer)"
        ) from None
