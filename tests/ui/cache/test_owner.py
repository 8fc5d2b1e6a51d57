"""The owner of a browser: what its tabs share, what is on disk, and what ends when nobody is there."""

import gc
import json
import sqlite3

import pytest

from npt_viz.ui.cache import owner as owners
from npt_viz.ui.cache.owner import Owner
from npt_viz.workspace.entry import Entry
from npt_viz.workspace.place import Workspace

ONE, OTHER = "1" * 32, "2" * 32


@pytest.fixture
def where(tmp_path):
    return Workspace(tmp_path / "w")


def lasting(browser, where) -> Owner:
    made = Owner(browser, where)
    made.last()
    return made


def read(where, browser) -> dict:
    owners.flush()
    return json.loads((Owner(browser, where).folder.path / "kept.json").read_text())


class Slot:
    is_active = True

    waited = None

    def end(self):
        self.is_active = False

    def wait(self, seconds):
        self.waited = seconds


def test_what_is_kept_is_there_in_a_new_process_and_not_for_another_browser(where):
    lasting(ONE, where).put("list", [{"a": 1.5}, "東京"])
    assert read(where, ONE) == {"list": [{"a": 1.5}, "東京"]}
    assert Owner(ONE, where).get("list") == [{"a": 1.5}, "東京"]
    assert Owner(OTHER, where).get("list", "nothing") == "nothing"


def test_nothing_of_a_browser_without_cookies_stays_on_disk(where):
    made = Owner(ONE, where)
    made.put("a", 1)
    made.folder.uploads.mkdir(parents=True)
    owners.flush()
    assert made.get("a") == 1 and not (made.folder.path / "kept.json").exists()
    path, slot = made.folder.path, made.shared("slot", Slot)
    del made
    gc.collect()
    assert not slot.is_active and not path.exists()


def test_what_was_kept_before_the_browser_has_its_id_is_written_then(where):
    made = Owner(ONE, where)
    made.put("a", 1)
    made.last()
    assert read(where, ONE) == {"a": 1}


def test_all_tabs_share_one_object(where):
    made = Owner(ONE, where)
    assert made.shared("slot", Slot) is made.shared("slot", Slot)
    assert made.work() == [made.shared("slot", Slot)]
    assert made.shared("other", list) is not made.shared("another", list) and len(made.work()) == 1


def test_a_new_tab_reads_what_another_server_wrote_and_work_goes_on(where):
    here, there = lasting(ONE, where), lasting(ONE, where)
    here.put("a", 1)
    owners.flush()
    there.put("a", 222)
    owners.flush()
    slot, opened = here.shared("slot", Slot), here.shared("opened", list)
    here.enter()
    assert here.get("a") == 222, "the last writer wins"
    assert here.shared("slot", Slot) is slot and slot.is_active
    assert here.shared("opened", list) is not opened, "what came from files is read anew"
    opened = here.shared("opened", list)
    here.enter()
    assert here.shared("opened", list) is opened, "and once"


def test_a_full_disk_is_said_once_and_the_values_stay(where, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    made = lasting(ONE, where)
    made.put("a", 0)
    owners.flush()
    monkeypatch.setattr("npt_viz.files.os.replace", full)
    for value in (1, 2, 3):
        made.put("a", value)
        owners.flush()
    (sentence,) = made.sayings()
    assert "No space left on device" in sentence and "Nothing more is kept on disk for now" in sentence
    assert made.get("a") == 3 and made.sayings() == []
    monkeypatch.undo()
    made.put("a", 4)
    assert read(where, ONE) == {"a": 4} and made.sayings() == []


def asked(name) -> Entry:
    return Entry(key=name, time=1.0, kind="inspection", page="tokens", title=name, sentence="s")


def test_the_history_is_read_by_a_new_server_and_by_no_other_browser(where):
    lasting(ONE, where).record(asked("a"), b"numbers")
    owners.flush()
    assert Owner(ONE, where).history.numbers("a") == b"numbers"
    assert Owner(OTHER, where).history.found().n == 0


def test_the_history_of_a_browser_without_cookies_stays_in_memory_until_it_has_its_id(where):
    made = Owner(ONE, where)
    made.record(asked("a"))
    owners.flush()
    assert made.history.found().n == 1 and not made.folder.history.exists()
    made.last()
    owners.flush()
    assert Owner(ONE, where).history.found().n == 1


def test_a_new_tab_keeps_what_the_history_could_not_write(where, monkeypatch):
    here, there = lasting(ONE, where), lasting(ONE, where)
    here.record(asked("a"))
    owners.flush()
    monkeypatch.setattr("npt_viz.workspace.history.insert", refused)
    here.record(asked("b"))
    here.record(asked("c"))
    owners.flush()
    (sentence,) = here.sayings()
    assert sentence.startswith("The history is not kept on disk for now.") and "disk is full" in sentence
    there.put("x", 1)
    owners.flush()
    here.enter()
    assert here.history.found().n == 3


def refused(*_):
    raise sqlite3.OperationalError("database or disk is full")


@pytest.mark.parametrize(
    "place", ["npt_viz.workspace.browser.write_whole", "npt_viz.workspace.history.insert"]
)
def test_any_error_of_one_browser_is_said_and_logged_once_and_the_others_are_written(
    where, monkeypatch, caplog, place
):
    def wrong(*_, **__):
        raise RuntimeError("secret")

    here, there = lasting(ONE, where), lasting(OTHER, where)
    owners.flush()
    monkeypatch.setattr(place, wrong)
    for name in "abc":
        here.put(name, 1)
        here.record(asked(name))
        owners.flush()
    (sentence,) = here.sayings()
    assert sentence.endswith("on disk for now. RuntimeError: the server's log has more.")
    assert len(caplog.records) == 1 and here.history.found().n == 3
    monkeypatch.undo()
    there.put("a", 1)
    assert read(where, OTHER) == {"a": 1}
    here.put("d", 1)
    assert read(where, ONE) == dict.fromkeys("abcd", 1) and here.sayings() == []
    assert Owner(ONE, where).history.found().n == 3


def test_the_saver_survives_a_browser_that_cannot_even_say_what_is_wrong(where, monkeypatch):
    here, there = lasting(ONE, where), lasting(OTHER, where)
    owners.flush()
    monkeypatch.setattr(here, "write", refused)
    here.put("a", 1)
    owners.flush()
    there.put("a", 1)
    assert read(where, OTHER) == {"a": 1}


def test_a_damaged_history_stops_no_browser(where):
    lasting(ONE, where).record(asked("a"))
    owners.flush()
    file = Owner(ONE, where).folder.history
    content = bytearray(file.read_bytes())
    content[content.index(b"checkpoint_stamp")] = 0xFF
    file.write_bytes(content)
    here = lasting(ONE, where)
    here.record(asked("b"))
    owners.flush()
    here.record(asked("c"))
    owners.flush()
    assert any("was set aside" in sentence for sentence in here.sayings())
    assert Owner(ONE, where).history.found().n == 2


def test_time_away_counts_from_the_last_tab(where, monkeypatch):
    now = 100.0
    monkeypatch.setattr(owners.time, "monotonic", lambda: now)
    made = Owner(ONE, where)
    made.enter()
    made.enter()
    now = 500.0
    made.leave()
    assert made.seconds_away == 0
    made.leave()
    now = 503.0
    assert made.seconds_away == 3


def test_an_owner_that_is_away_too_long_ends_its_work_and_is_forgotten(where, monkeypatch):
    monkeypatch.setenv("NPT_VIZ_IDLE_HOURS", "2")
    monkeypatch.setattr(owners, "workspace", lambda: where)
    now = 0.0
    monkeypatch.setattr(owners.time, "monotonic", lambda: now)
    all_owners = owners._Owners()
    here, away = all_owners.of(ONE), all_owners.of(OTHER)
    for each in (here, away):
        all_owners.hold(each)
        each.shared("slot", Slot)
    here.enter()
    now = 7199.0
    all_owners.drop_idle()
    assert all_owners.of(OTHER) is away and away.work()[0].is_active
    now = 7201.0
    all_owners.drop_idle()
    assert here.work()[0].is_active and not away.work()[0].is_active
    assert all_owners.of(ONE) is here
    away.put("b", 1)
    del away
    owners.flush()
    gc.collect()
    assert all_owners.of(OTHER).get("b") == 1, "its folder stays"


def test_a_server_that_stops_ends_all_work_and_waits_for_it(where, monkeypatch):
    monkeypatch.setattr(owners, "workspace", lambda: where)
    all_owners = owners._Owners()
    slots = []
    for browser in (ONE, OTHER):
        each = all_owners.of(browser)
        all_owners.hold(each)
        slots.append(each.shared("slot", Slot))
    all_owners.close(7.0)
    assert all(not slot.is_active and 6 < slot.waited <= 7 for slot in slots)


def test_checkpoints_of_a_browser_are_its_results_and_uploads(where):
    made = Owner(ONE, where)
    assert made.checkpoints() == []
    result = made.folder.trainings / "20260101" / "tiny-gate-2-step-9"
    for path in (
        result / "npt_config.json",
        made.folder.uploads / "ab" / "npt.pt",
        made.folder.uploads / "cd" / "text.txt",
    ):
        path.parent.mkdir(parents=True)
        path.write_text("x")
    assert sorted(made.checkpoints()) == sorted([result, made.folder.uploads / "ab" / "npt.pt"])


def test_the_same_id_is_the_same_owner_and_the_folder_is_no_path_of_the_browser(where, monkeypatch):
    monkeypatch.setattr(owners, "workspace", lambda: where)
    all_owners = owners._Owners()
    assert all_owners.of(ONE) is all_owners.of(ONE) and all_owners.of(ONE) is not all_owners.of(OTHER)
    with pytest.raises(ValueError, match="no id"):
        all_owners.of("../../etc")


def test_sessions_without_cookies_have_owners_of_their_own(app):
    first, second = app("home"), app("home")
    assert first.session_state["_owner"] is not second.session_state["_owner"]
    assert not first.session_state["_owner"].lasts and not first.exception
