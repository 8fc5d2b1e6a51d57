"""What a new session of a browser looks at: what its address says, then what it looked at last, then the defaults."""

import pytest
from onpage import opener

OWN = "A prompt of mine, which is private."


@pytest.fixture
def again(on_disk):
    """again(page, prompt=…): a new session of the browser of `page`, with what its address says."""

    def opened(page, **address):
        new = opener(on_disk)("home")
        new = type(new).from_file(new._script_path, default_timeout=60)
        for name, text in address.items():
            new.query_params[name] = text
        new.session_state["_owner"] = page.session_state["_owner"]
        return new.run()

    return opened


def values(page, *names) -> list:
    return [page.session_state[name] for name in names]


def test_an_address_that_says_nothing_shows_what_was_looked_at_last(app, again, on_disk):
    page = app("home", prompt=OWN, mode="propagated", on="3", layer="3")
    found = again(page)
    assert not found.exception
    assert values(found, "prompt", "mode", "on", "layer") == [OWN, "propagated", [3], 3]
    assert values(found, "model", "checkpoint") == [on_disk.model, on_disk.checkpoint]


def test_a_whole_address_shows_the_same_in_every_browser(app, again, on_disk):
    page = app("home", prompt=OWN, mode="propagated", layer="3")
    found = again(page, model=on_disk.model, checkpoint=on_disk.checkpoint, layer="1")
    assert values(found, "mode", "layer", "on") == ["local", 1, []]
    assert found.session_state["prompt"] != OWN


def test_a_prompt_that_an_address_only_refers_to_is_found_after_a_restart(app, again, monkeypatch):
    page = app("home", prompt=OWN)
    page.session_state["private"] = True
    page.run()
    address = {name: values[0] for name, values in page.query_params.items()}
    assert "p" in address and OWN not in str(address)
    # A server that starts anew has another secret and remembers no prompt.
    from npt_viz.ui.cache.kept import Kept
    from npt_viz.ui.shell import address as addresses

    monkeypatch.setattr(addresses, "_by_reference", Kept(5))
    monkeypatch.setattr(addresses, "_SECRET", b"another")
    assert again(page, **address).session_state["prompt"] == OWN
    stranger = again(app("home"), **address)
    assert stranger.session_state["prompt"] != OWN and len(stranger.toast) == 1


def test_what_a_browser_uploaded_is_offered_to_it_alone(app):
    page = app("home")
    upload = page.session_state["_owner"].folder.uploads / "ab" / "mine.safetensors"
    upload.parent.mkdir(parents=True)
    upload.write_bytes(b"x")
    assert "mine.safetensors" in page.run().selectbox(key="checkpoint").options
    assert "mine.safetensors" not in app("home").selectbox(key="checkpoint").options
