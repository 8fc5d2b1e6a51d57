"""Pushing to the hub, with a stand-in for its API: what is sent opens as what was pushed, and nothing else is sent."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import specimen
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from huggingface_hub.repocard import metadata_load

from npt_viz import NptVizError, open_checkpoint, push_checkpoint
from npt_viz.checkpoint import Checkpoint, pushing, save_checkpoint


class Hub:
    """What HfApi is asked for; files that are uploaded are kept in `folder`."""

    def __init__(self, folder):
        self.folder, self.made, self.commits, self.card = folder, [], [], None

    def create_repo(self, repo_id, *, private, exist_ok):
        assert exist_ok
        self.made.append((repo_id, private))

    def hf_hub_download(self, repo_id, file):
        if self.card is None:
            error = EntryNotFoundError.__new__(EntryNotFoundError)
            Exception.__init__(error, "no card")
            raise error
        return str(self.card)

    def upload_folder(self, *, repo_id, folder_path, commit_message, ignore_patterns):
        ignore = shutil.ignore_patterns(*(ignore_patterns or ()))
        shutil.copytree(folder_path, self.folder, ignore=ignore, dirs_exist_ok=True)
        self.commits.append(commit_message)
        return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/1")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    made = Hub(tmp_path / "sent")
    monkeypatch.setattr(pushing, "HfApi", lambda: made)
    monkeypatch.setattr(pushing, "get_token", lambda: "a token")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return made


def saved(tmp_path, model):
    adapters = {2: specimen(model, "N5", 2)}
    recipe = {"text": "/home/me/texts/secret.txt", "steps": 7, "from": "~/runs/a", "note": "a / b"}
    folder = save_checkpoint(tmp_path / "mine", adapters, model, recipe=recipe, figures={}, licence="MIT")
    return folder, adapters[2]


def test_what_is_pushed_opens_as_what_it_was(hub, tmp_path, tiny_llama):
    folder, adapter = saved(tmp_path, tiny_llama)
    (folder / "training_state.pt").write_bytes(b"not for others")
    before = (folder / "npt_config.json").read_bytes()
    url = push_checkpoint(folder, "me/gate-up-2")
    assert url == "https://huggingface.co/me/gate-up-2/commit/1" and hub.made == [("me/gate-up-2", True)]
    assert {file.name for file in hub.folder.iterdir()} == {
        "npt_config.json",
        "npt_weights.safetensors",
        "README.md",
    }
    opened = open_checkpoint(hub.folder, tiny_llama)
    for mine, theirs in zip(opened.adapter(2).parameters(), adapter.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert metadata_load(hub.folder / "README.md")["license"] == "mit"
    assert 'open_checkpoint("me/gate-up-2", model)' in (hub.folder / "README.md").read_text()
    assert (folder / "npt_config.json").read_bytes() == before, "what lies here is not changed"


def test_paths_of_this_machine_are_not_sent(hub, tmp_path, tiny_llama):
    push_checkpoint(saved(tmp_path, tiny_llama)[0], "me/gate-up-2")
    recipe = json.loads((hub.folder / "npt_config.json").read_text())["recipe"]
    assert recipe == {"text": "secret.txt", "steps": 7, "from": "a", "note": "a / b"}
    assert "/home/me" not in (hub.folder / "README.md").read_text()


def test_adapters_in_memory_are_pushed_with_their_recipe(hub, tiny_llama):
    adapter = specimen(tiny_llama, "N2", 3)
    live = Checkpoint.from_adapters({3: adapter}, tiny_llama, "live", recipe={"steps": 5})
    push_checkpoint(live, "me/live", private=False, message="the first")
    assert hub.made == [("me/live", False)] and hub.commits == ["the first"]
    opened = open_checkpoint(hub.folder, tiny_llama)
    assert opened.semantics(3) == adapter.semantics and opened.recipe == {"steps": 5}
    for mine, theirs in zip(opened.adapter(3).parameters(), adapter.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_card_that_somebody_wrote_stays(hub, tmp_path, tiny_llama):
    folder, _ = saved(tmp_path, tiny_llama)
    (folder / "README.md").write_text("# My words\n")
    push_checkpoint(folder, "me/gate-up-2")
    assert (hub.folder / "README.md").read_text() == "# My words\n"
    shutil.rmtree(hub.folder)
    hub.card = folder / "README.md"
    push_checkpoint(folder, "me/gate-up-2")
    assert not (hub.folder / "README.md").exists(), "that on the hub is not replaced"


@pytest.mark.parametrize("name", ["gate", "a/b/c", "a b/c", "", "../x", "me/"])
def test_a_name_that_is_no_hub_id_is_a_sentence(hub, tmp_path, tiny_llama, name):
    with pytest.raises(NptVizError, match="is no hub id; write owner/name"):
        push_checkpoint(saved(tmp_path, tiny_llama)[0], name)
    assert hub.made == []


def test_offline_and_not_logged_in_are_a_sentence_each(hub, tmp_path, tiny_llama, monkeypatch):
    folder, _ = saved(tmp_path, tiny_llama)
    monkeypatch.setattr(pushing, "get_token", lambda: None)
    with pytest.raises(NptVizError, match=r"me/x: nobody is logged in .*`hf auth login`"):
        push_checkpoint(folder, "me/x")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NptVizError, match=r"me/x: HF_HUB_OFFLINE forbids an upload; unset it"):
        push_checkpoint(folder, "me/x")
    assert hub.made == []


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "may not write there"),
        (401, "may not write there"),
        (500, "refused it .HTTP 500."),
        (None, "cannot be reached .ConnectionError."),
    ],
)
def test_what_the_hub_refuses_is_a_sentence(hub, tmp_path, tiny_llama, monkeypatch, status, said):
    def refuse(*_, **__):
        if status is None:
            raise ConnectionError("down")
        error = HfHubHTTPError.__new__(HfHubHTTPError)
        Exception.__init__(error, "no")
        error.response = SimpleNamespace(status_code=status)
        raise error

    monkeypatch.setattr(Hub, "create_repo", refuse)
    with pytest.raises(NptVizError, match=f"me/x was not pushed: .*{said}"):
        push_checkpoint(saved(tmp_path, tiny_llama)[0], "me/x")
    assert not Path(hub.folder).exists()


def test_the_command_pushes_what_the_library_pushes(hub, tmp_path, tiny_llama, capsys):
    from npt_viz.__main__ import main

    folder, adapter = saved(tmp_path, tiny_llama)
    asked = ("push", "--checkpoint", str(folder), "--to", "me/gate-up-2", "--message", "step 7")
    assert main([*asked, "--public", "--json"]) == 0
    said = {"hub_id": "me/gate-up-2", "commit": "https://huggingface.co/me/gate-up-2/commit/1"}
    assert json.loads(capsys.readouterr().out) == said
    assert hub.made == [("me/gate-up-2", False)] and hub.commits == ["step 7"]
    opened = open_checkpoint(hub.folder, tiny_llama)
    for mine, theirs in zip(opened.adapter(2).parameters(), adapter.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert main(["push", "--checkpoint", str(folder), "--to", "no-owner"]) == 1
    told = capsys.readouterr()
    assert not told.out and "is no hub id; write owner/name" in told.err
    assert len(hub.commits) == 1
