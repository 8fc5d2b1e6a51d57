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
    Raises NptVizError for a weight that is missing, sharded, quantised, of another shape or not
        announced by the config, and NotFiniteError for NaN.
    """
    config = _config(model)
    name = str(config._name_or_path or type(model).__name__)
    shared, notes = skeleton(name, config, next(model.parameters()).device)
    check_structure(shared, name)
    links = _Links(shared, model, name)
    for key, weight in links.weights.items():
        owner, _, leaf = key.rpartition(".")
        setattr(shared.get_submodule(owner), leaf, nn.Parameter(weight.detach(), requires_grad=False))
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
        lock=FollowingLock(links.follow),
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


class _Links:
    """Which live weight each of the base's is; found anew when the live model has another parameter anywhere."""

    def __init__(self, shared: PreTrainedModel, model: nn.Module, name: str) -> None:
        self._shared, self._model, self._name = shared, model, name
        first = {id(weight): key for key, weight in shared.named_parameters()}
        every = shared.named_parameters(remove_duplicate=False)
        self._tied = {key: first[id(weight)] for key, weight in every if first[id(weight)] != key}
        self._find(_parameters(model))

    def follow(self) -> None:
        """Share anew what moved: another device or dtype, an optimiser that replaces a weight's data, another weight."""
        live = _parameters(self._model)
        if len(live) != len(self._seen) or any(
            self._seen.get(name) is not each for name, each in live.items()
        ):
            self._find(live)
        self._check_tied()
        moved = None
        for key, weight in self.weights.items():
            mine = self._shared.get_parameter(key)
            if (mine.data_ptr(), mine.dtype, mine.stride()) != (
                weight.data_ptr(),
                weight.dtype,
                weight.stride(),
            ):
                mine.data, moved = weight.detach(), weight
        if moved is not None:
            self._shared.get_submodule("model.rotary_emb").to(moved.device)

    def _find(self, live: dict[str, Tensor]) -> None:
        names = dict(_paired(self._shared, live, self._name))
        weights = {key: live[other] for key, other in names.items()}
        ties = []
        for key, first in self._tied.items():
            beside = names[first].removesuffix(first) + key
            ties += [(key, other, first) for other in ([beside] if beside in live else _possible(key, live))]
        known = [*names.items(), *((key, other) for key, other, _ in ties)]
        self._check_announced(live, known)
        self.weights, self._ties = weights, [(key, live[other], weights[first]) for key, other, first in ties]
        self._check_tied()
        self._seen = live

    def _check_tied(self) -> None:
        """Refuse a weight that is its own where the config ties it to another."""
        for key, weight, first in self._ties:
            if weight.data_ptr() != first.data_ptr():
                raise NptVizError(
                    f"{self._name}: {key} is a weight of its own, but the config ties it to {self._tied[key]}; set "
                    "tie_word_embeddings=False in the model's config and open the model again"
                )

    def _check_announced(self, live: Mapping[str, Tensor], known: list[tuple[str, str]]) -> None:
        """Refuse a parameter inside a part of the base that has none of that name by the config, such as a bias.

        Parts of your own beside or around the base's are none of the base.
        """
        mine = {id(live[other]) for _, other in known}
        parts = {other.rpartition(".")[0] for _, other in known}
        for other, weight in live.items():
            modules = other.split(".")[:-1]
            inside = any(".".join(modules[:depth]) in parts for depth in range(1, len(modules) + 1))
            if id(weight) not in mine and inside:
                raise NptVizError(
                    f"{self._name}: the model has the parameter {other}, which its config does not announce, so the base "
                    "would run without it; give a model whose parts are those of its config"
                )


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters(remove_duplicate=False))


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


def _paired(shared: PreTrainedModel, live: Mapping[str, Tensor], name: str) -> Iterator[tuple[str, str]]:
    """(name in the base, name in the live model) of every weight."""
    for key, wanted in shared.named_parameters():
        other = key if key in live else _under_another_name(key, live, name)
        weight = live[other]
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
        yield key, other


def _under_another_name(key: str, live: Mapping[str, Tensor], name: str) -> str:
    """The one live weight that can be this one: its name has a prefix, or else its layer's parts lie one module deeper."""
    found = _possible(key, live)
    if len({live[other].data_ptr() for other in found}) == 1:
        return found[0]
    if found:
        raise NptVizError(
            f"{name}: {' and '.join(found[:2])} can both be the base's {key}; give the one model that is meant, "
            "not the module around both"
        )
    raise NptVizError(
        f"{name}: no weight of the model can be the base's {key}; npt_viz finds the base's weights by the names that "
        "transformers gives them: keep these names, merge LoRA adapters first, or open the base model from its folder"
    )


def _possible(key: str, live: Mapping[str, Tensor]) -> list[str]:
    """Live names that can be the base's `key`."""
    for pattern in (r"(?:\w+\.)*" + re.escape(key), _with_modules_between(key)):
        if found := [other for other in live if re.fullmatch(pattern, other)]:
            return found
    return []


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
