"""Checkpoints by hub id, from a cache that is made here; nothing reaches a network."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import specimen
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from npt_viz import NptVizError, open_checkpoint
from npt_viz.checkpoint import save_checkpoint
from npt_viz.checkpoint.hub import FILES, NEVER_READ, is_hub_id, name_on_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub, and offline mode."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def put(cache, folder, hub_id="someone/gate-2", commit=COMMIT, ref="main"):
    """A folder's files as the hub's cache has them: links to blobs in a snapshot."""
    home = cache / f"models--{hub_id.replace('/', '--')}"
    snapshot = home / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir(exist_ok=True)
    for file in folder.iterdir():
        shutil.copy(file, home / "blobs" / f"{commit[:4]}-{file.name}")
        (snapshot / file.name).symlink_to(Path("../../blobs") / f"{commit[:4]}-{file.name}")
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / ref).write_text(commit)
    return snapshot


def saved(folder, model, seed=0):
    adapters = {2: specimen(model, "N4", 2, seed=seed)}
    return save_checkpoint(folder, adapters, model, recipe={}, figures={}, licence="MIT"), adapters[2]


def assert_same(one, other):
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_hub_id_opens_from_the_cache_under_its_name(cache, tmp_path, tiny_llama):
    folder, adapter = saved(tmp_path / "local", tiny_llama)
    put(cache, folder)
    opened = open_checkpoint("someone/gate-2", tiny_llama)
    assert_same(opened.adapter(2), adapter)
    assert opened.name == "someone/gate-2" and opened.format == "native"
    assert open_checkpoint(Path("someone/gate-2"), tiny_llama).report == opened.report


def test_each_revision_is_its_own(cache, tmp_path, tiny_llama):
    adapters = {}
    for number, ref in enumerate(("main", "v2")):
        folder, adapters[ref] = saved(tmp_path / ref, tiny_llama, seed=number)
        put(cache, folder, commit=f"{number}{COMMIT[1:]}", ref=ref)
    assert_same(open_checkpoint("someone/gate-2", tiny_llama).adapter(2), adapters["main"])
    for name in ("someone/gate-2@v2", f"someone/gate-2@1{COMMIT[1:]}", f"someone/gate-2@1{COMMIT[1:7]}"):
        assert_same(open_checkpoint(name, tiny_llama).adapter(2), adapters["v2"])
    with pytest.raises(NptVizError, match=r"in another revision than v3: main, v2; open someone/gate-2@main"):
        open_checkpoint("someone/gate-2@v3", tiny_llama)


def test_a_pickle_of_the_field_opens_from_the_hub_too(cache, tmp_path, tiny_llama):
    (tmp_path / "local").mkdir()
    torch.save(
        {
            "layer_2_np.W_down": torch.ones(24, 3),
            "layer_2_np.W_a_up": torch.ones(3, 24),
            "layer_2_np.W_b_up": torch.ones(3, 31),
        },
        tmp_path / "local/npt_weights.pt",
    )
    put(cache, tmp_path / "local", "field/surgeon")
    opened = open_checkpoint("field/surgeon", tiny_llama)
    assert opened.layers == (2,) and opened.name == "field/surgeon"


def test_what_is_not_in_the_cache_is_a_sentence_offline(cache, tmp_path, tiny_llama):
    with pytest.raises(NptVizError) as error:
        open_checkpoint("someone/else", tiny_llama)
    for said in (
        "someone/else: no such file or folder",
        "not in the hub's cache",
        "HF_HUB_OFFLINE forbids a download",
    ):
        assert said in str(error.value)
    folder, _ = saved(tmp_path / "local", tiny_llama)
    snapshot = put(cache, folder)
    (snapshot / "npt_weights.safetensors").unlink()
    with pytest.raises(NptVizError, match=r"npt_weights.safetensors is missing.*HF_HUB_OFFLINE") as error:
        open_checkpoint("someone/gate-2", tiny_llama)
    assert str(cache) not in str(error.value)


def test_a_path_that_is_mistyped_is_no_hub_id(cache, tmp_path):
    (tmp_path / "runs").mkdir()
    for path in ("runs/typo", "./a", "../a", "a", "a/b/c", "/a/b", "~/a", "a/", "a b/c"):
        assert not is_hub_id(Path(path)), path
    with pytest.raises(NptVizError, match=r"runs/typo: no such file or folder; give a checkpoint file"):
        open_checkpoint("runs/typo")
    assert is_hub_id(Path("owner/name")) and is_hub_id(Path("owner/name@refs/pr/1"))
    assert name_on_hub(tmp_path / "runs") is None
    with pytest.raises(NptVizError, match="no revision stands behind the @"):
        open_checkpoint("owner/name@")


def test_a_folder_of_that_name_goes_before_the_hub(cache, tmp_path, tiny_llama):
    _, adapter = saved(tmp_path / "someone" / "gate-2", tiny_llama, seed=1)
    put(cache, saved(tmp_path / "other", tiny_llama, seed=2)[0])
    assert_same(open_checkpoint("someone/gate-2", tiny_llama).adapter(2), adapter)


def test_a_download_asks_for_weights_and_configs_and_no_code(cache, tmp_path, tiny_llama, monkeypatch):
    folder, adapter = saved(tmp_path / "local", tiny_llama)
    asked = {}

    def download(hub_id, **options):
        asked.update(options, hub_id=hub_id)
        return str(put(cache, folder))

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("npt_viz.model.hub.snapshot_download", download)
    assert_same(open_checkpoint("someone/gate-2@main", tiny_llama).adapter(2), adapter)
    assert (asked["hub_id"], asked["revision"]) == ("someone/gate-2", "main")
    assert asked["allow_patterns"] == FILES and asked["ignore_patterns"] == NEVER_READ
    assert not any("py" in pattern for pattern in FILES)
    asked.clear()
    open_checkpoint("someone/gate-2", tiny_llama)
    assert asked == {}, "what is whole in the cache is not fetched again"


def _http(kind):
    error = kind.__new__(kind)
    Exception.__init__(error, "no")
    return error


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (_http(RepositoryNotFoundError), "the hub has no such model, or it is private"),
        (_http(GatedRepoError), "accept terms first"),
        (_http(RevisionNotFoundError), "it has no revision main"),
        (ConnectionError("down"), r"the hub cannot be reached \(ConnectionError\); check the network"),
    ],
)
def test_each_way_in_which_a_download_fails_is_a_sentence(cache, monkeypatch, raised, said):
    def download(*_, **__):
        raise raised

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("npt_viz.model.hub.snapshot_download", download)
    with pytest.raises(NptVizError, match=f"someone/gate-2 cannot be opened: .*{said}"):
        open_checkpoint("someone/gate-2")


def test_a_repository_without_a_checkpoint_is_a_sentence(cache, tmp_path, monkeypatch):
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "config.json").write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        "npt_viz.model.hub.snapshot_download", lambda *_, **__: str(put(cache, tmp_path / "local"))
    )
    with pytest.raises(NptVizError, match=r"its repository holds no NPT checkpoint \(no checkpoint in it"):
        open_checkpoint("someone/gate-2")
