"""Shared by all tests: one thread, one seed, and tiny models made in memory. No test reaches a hub."""

import atexit
import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache

os.environ["HF_HUB_OFFLINE"] = "1"
# Never the user's own workspace.
os.environ["NPT_VIZ_WORKSPACE"] = tempfile.mkdtemp(prefix="npt_viz-tests-")
atexit.register(shutil.rmtree, os.environ["NPT_VIZ_WORKSPACE"], ignore_errors=True)
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"

from jaxtyping import _decorator, install_import_hook


def remembered(made):
    """`made` with its answers kept: jaxtyping asks it anew for each function in a function, at every call."""
    kept = cache(made)

    def answer(*arguments, **options):
        try:
            return kept(*arguments, **options)
        except TypeError:  # A default that has no hash.
            return made(*arguments, **options)

    return answer


# Equal names and signatures have the same checks, so none is lost. These are private parts of jaxtyping: where
# another version has none, the tests are slower and no less right.
for part in ("_make_fn_with_signature", "_apply_typechecker"):
    if hasattr(_decorator, part):
        setattr(_decorator, part, remembered(getattr(_decorator, part)))

install_import_hook(
    [
        "npt_viz.next_token",
        "npt_viz.adapter",
        "npt_viz.capture",
        "npt_viz.training",
        "npt_viz.analysis",
        "npt_viz.editing",
    ],
    "beartype.beartype",
)

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from npt_viz.adapter import VARIANTS, random_adapter
from npt_viz.model.base import BaseModel

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with browser tests first, then those with other slow ones, so that both workers of `make test` end together."""
    ranks = {}
    for item in items:
        rank = next(
            (rank for rank, mark in enumerate(("browser", "slow")) if item.get_closest_marker(mark)), 2
        )
        ranks[item.path] = min(rank, ranks.get(item.path, 2))
    items.sort(key=lambda item: ranks[item.path])


@pytest.fixture(autouse=True, scope="session")
def errors_shown_to_tests():
    """.streamlit/config.toml keeps tracebacks out of browsers; AppTest reads the same file."""
    from streamlit import config

    config.set_option("client.showErrorDetails", "full")


@pytest.fixture(autouse=True, scope="session")
def components_listed_once():
    """Every AppTest looks for components in all installed packages, which do not change while tests run."""
    # A private part of Streamlit: where another version has none, the tests are slower and no less right.
    with suppress(ImportError, AttributeError):
        from streamlit.components.v2 import manifest_scanner

        manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 256 byte tokens and two special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<bos>": 0, "<eos>": 1} | {c: i + 2 for i, c in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>")


def perturbed(module: torch.nn.Module, std: float = 0.1) -> torch.nn.Module:
    """No weight is zero or one: norms too must matter."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(std * torch.randn_like(parameter))
    return module


def tiny_model(n_layers: int = 5, dtype: torch.dtype = torch.float32) -> BaseModel:
    """A random Llama with grouped-query attention: d_model 24, six heads on three, d_ffn 31."""
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=24,
        intermediate_size=31,
        num_hidden_layers=n_layers,
        num_attention_heads=6,
        num_key_value_heads=3,
        max_position_embeddings=97,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(1)
    hf = perturbed(LlamaForCausalLM(config)).eval().requires_grad_(False).to(dtype)
    return BaseModel(hf=hf, tokenizer=byte_tokenizer(), name="tiny", source="made in memory")


@pytest.fixture(scope="session")
def tiny_llama() -> BaseModel:
    """Read-only: five layers, d_model 24, d_ffn 31, 97 positions."""
    return tiny_model()


@pytest.fixture(scope="session")
def smollm2() -> BaseModel:
    """The demo base model in float32, read-only. Tests that need it are slow, and skipped where it is not."""
    from npt_viz.model.opening import open_model
    from npt_viz.model.packaged import ModelNotHereError

    try:
        return open_model("smollm2-135m", dtype="float32", device="cpu")
    except ModelNotHereError as reason:
        pytest.skip(str(reason))


def specimen(
    model: BaseModel, variant: str, layer: int = 2, *, components: int = 3, rank: int = 7, seed: int = 0
):
    """A random adapter of one variant, strong enough to matter."""
    described = VARIANTS[variant]
    adapter = random_adapter(
        layer,
        described.semantics,
        described.targets,
        d_model=model.d_model,
        d_ffn=model.d_ffn,
        rank=rank,
        components=components,
        std=0.3,
        seed=seed,
    )
    return adapter.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def on_disk(tmp_path_factory):
    """The tiny Llama and a checkpoint of two layers, in files (onpage.OnDisk)."""
    from onpage import written

    return written(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def app(on_disk):
    """app("tokens", layer="1"): a page as AppTest sees it, with what its address says."""
    from onpage import opener

    return opener(on_disk)
