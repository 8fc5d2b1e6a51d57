"""History on disk: nothing is lost when a process is killed, two write, or the disk takes nothing."""

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from npt_viz.errors import NptVizError
from npt_viz.places import ROOT
from npt_viz.workspace import history, history_file
from npt_viz.workspace.entry import Entry, key_of
from npt_viz.workspace.history import History

HOSTILE = "<script>alert(1)</script> '; DROP TABLE entries; -- \x00 \ud800 naïve 東京 🙂 %_"


def entry(name="one", at=1.0, **values) -> Entry:
    said = {"kind": "inspection", "page": "tokens", "title": f"title {name}", "sentence": f"sentence {name}"}
    return Entry(**{"key": key_of(name), "time": at, **said, **values})


@pytest.fixture
def kept(tmp_path):
    return History(tmp_path / "browser" / "history.sqlite")


def titles(found) -> list[str]:
    return [each.title.removeprefix("title ") for each in found.entries]


def anew(kept) -> History:
    return History(kept.file)


def test_an_entry_is_found_by_another_process_with_all_it_has(kept):
    one = entry(
        prompt="naïve 東京 🙂",
        settings={"model": "m", "layer": "3"},
        choices={"edit_alpha": 1.5, "edit_several": [2]},
        tags=("a", "b c"),
        model="m",
        model_stamp="1",
        checkpoint="c/x",
        checkpoint_stamp="2",
        folder="f",
        thumbnail="<svg/>",
    )
    kept.put(one, b"numbers")
    assert not kept.file.exists(), "nothing is made before something is written"
    kept.write()
    assert anew(kept).entry(one.key) == replace(one, n_bytes=7) and anew(kept).numbers(one.key) == b"numbers"
    assert anew(kept).entry("nothing") is None and anew(kept).numbers("nothing") is None


def test_the_same_question_is_one_entry_whose_time_moves_and_whose_tags_stay(kept):
    for at, sentence in ((1.0, "first"), (9.0, "last")):
        kept.put(entry(at=at, sentence=sentence), b"x")
        kept.write()
        kept.tag(key_of("one"), ["mine", " mine ", "", "two  words"])
    found = anew(kept).found()
    assert [(e.time, e.sentence, e.tags) for e in found.entries] == [(9.0, "last", ("mine", "two words"))]
    kept.put(entry(at=10.0))
    assert kept.found().n == 1, "also before it is written"
    kept.write()
    assert kept.entry(key_of("one")).tags == ("mine", "two words") and kept.tags() == ["mine", "two words"]


@pytest.mark.parametrize("is_written", [True, False])
def test_searching(kept, is_written):
    kept.put(entry("a", 1, prompt="Der Fluß in TOKYO 東京", checkpoint="checkpoints/demo-15"))
    kept.put(entry("b", 3, kind="edit", prompt=HOSTILE))
    kept.put(entry("c", 2, tags=("paper", "fig_1")))
    if is_written:
        kept.write()
    for words, expected in {
        "": "bca",
        "tokyo fluss": "a",
        "東京": "ba",
        "title sentence": "bca",
        "title nothing": "",
        "DEMO": "a",
        "drop table": "b",
        "%": "b",
        "_": "bc",
        "paper": "c",
        "'": "b",
    }.items():
        assert "".join(titles(kept.found(words))) == expected, words
    assert titles(kept.found(kind="edit")) == ["b"] and titles(kept.found(tag="fig_1")) == ["c"]
    assert titles(kept.found(first=1, most=1)) == ["c"] and kept.found(first=1, most=1).n == 3
    assert titles(kept.found(tag="fig")) == []


def test_pages_go_over_what_waits_and_what_is_written(kept):
    for i in range(7):
        kept.put(entry(str(i), i))
        if i == 4:
            kept.write()
    everything = titles(kept.found())
    assert everything == list("6543210")
    for most in (1, 2, 3, 5):
        pages = [titles(kept.found(first=first, most=most)) for first in range(0, 7, most)]
        assert [title for page in pages for title in page] == everything


def test_a_hostile_prompt_comes_back_as_it_is(kept):
    kept.put(entry(prompt=HOSTILE, title=HOSTILE, sentence=HOSTILE, settings={HOSTILE: HOSTILE}))
    kept.write()
    back = anew(kept).entry(key_of("one"))
    assert back.prompt == HOSTILE.replace("\ud800", "?"), "half a pair is no text"
    assert back.settings == {HOSTILE: HOSTILE} and kept.found().n == 1


def test_deleting_is_undone_and_the_one_before_it_is_gone_for_good(kept):
    for name in "abc":
        kept.put(entry(name, prompt=f"secret-{name}"), b"numbers")
    kept.write()
    kept.delete(key_of("a"))
    assert sorted(titles(kept.found())) == ["b", "c"] and kept.deleted() == 1
    assert kept.entry(key_of("a")) is None
    kept.bring_back()
    assert kept.found().n == 3 and kept.numbers(key_of("a")) == b"numbers" and kept.deleted() == 0
    kept.delete(key_of("a"))
    kept.delete(key_of("b"))
    kept.bring_back()
    assert sorted(titles(kept.found())) == ["b", "c"]
    assert b"secret-a" not in kept.file.read_bytes() and b"secret-b" in kept.file.read_bytes()
    kept.delete()
    assert kept.found().n == 0 and kept.deleted() == 2


def test_what_waits_is_deleted_and_brought_back_too(kept):
    kept.put(entry("a"))
    kept.put(entry("b"), b"n")
    kept.delete(key_of("b"))
    assert titles(kept.found()) == ["a"] and kept.deleted() == 1
    kept.bring_back()
    assert kept.found().n == 2 and kept.numbers(key_of("b")) == b"n" and not kept.file.exists()


def test_a_deletion_is_final_after_its_time(kept, monkeypatch):
    kept.put(entry("a", prompt="secret-a"))
    kept.write()
    kept.delete(key_of("a"))
    now = time.time() + history.UNDO_SECONDS + 1
    monkeypatch.setattr(history.time, "time", lambda: now)
    assert kept.deleted() == 0
    kept.bring_back()
    assert kept.found().n == 0, "also while it is in the file"
    kept.put(entry("b"))
    kept.write()
    assert b"secret-a" not in kept.file.read_bytes()


def test_a_deletion_of_what_waits_is_final_after_its_time(kept, monkeypatch):
    kept.put(entry("a"))
    kept.delete()
    assert kept.deleted() == 1
    now = time.time() + history.UNDO_SECONDS + 1
    monkeypatch.setattr(history.time, "time", lambda: now)
    assert kept.deleted() == 0
    kept.bring_back()
    assert kept.found().n == 0


def test_the_newest_stay_and_those_with_tags(tmp_path):
    kept = History(tmp_path / "h", most=3)
    for i in range(6):
        kept.put(entry(str(i), i, tags=("mine",) if i == 1 else ()))
        kept.write()
    assert titles(kept.found()) == ["5", "4", "1"]


def test_numbers_go_before_entries_the_oldest_first(kept):
    for i in range(4):
        kept.put(entry(str(i), i), bytes(10_000))
    kept.write(most_bytes=25_000)
    assert [each.n_bytes for each in kept.found().entries] == [10_000, 10_000, 0, 0]
    assert [kept.numbers(key_of(str(i))) is None for i in range(4)] == [True, True, False, False]
    kept.put(entry("4", 4))
    kept.write(most_bytes=0)
    assert kept.found().n == 0


def test_the_file_shrinks_when_numbers_go(kept):
    for i in range(4):
        kept.put(entry(str(i), i), bytes(200_000))
    kept.write()
    large = kept.file.stat().st_size
    history_file.free_numbers(kept.file, [key_of("0"), key_of("1"), key_of("2")])
    assert large > 800_000 and kept.file.stat().st_size < 0.4 * large
    assert [key for key, _, _ in history_file.kept_numbers(kept.file)] == [key_of("3")]


def test_numbers_that_are_too_large_are_left_out(kept, monkeypatch):
    monkeypatch.setattr(history, "LONGEST_NUMBERS", 10)
    kept.put(entry(), bytes(11))
    kept.write()
    assert kept.found().entries[0].n_bytes == 0 and kept.numbers(key_of("one")) is None


PROGRAM = """
import sys, time
from pathlib import Path
from npt_viz.workspace.entry import Entry, key_of
from npt_viz.workspace.history import History
kept = History(Path(sys.argv[1]))
for i in range(100_000):
    name = f"{sys.argv[2]} {i}"
    kept.put(Entry(key=key_of(name), time=float(i), kind="inspection", page="tokens", title=name, sentence="s"), name.encode() * 5000)
    kept.write()
    print(i, flush=True)
"""


def writer(kept, name="w"):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(kept.file), name], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_a_writer_that_is_killed_at_any_moment_loses_nothing_that_it_said_was_written(kept):
    """Six kills, at moments that differ by a part of a writing."""
    said = 0
    for turn in range(6):
        name, process = f"turn {turn}", writer(kept, f"turn {turn}")
        for _ in range(3):
            process.stdout.readline()
        time.sleep(0.0007 * turn)
        process.send_signal(signal.SIGKILL)
        written = 3 + len(process.communicate()[0].split())
        said += written
        found = anew(kept).found(most=None)
        assert said <= found.n <= said + turn + 1, "at most the one it was killed in, besides"
        said = found.n
        for each in found.entries:
            assert anew(kept).numbers(each.key) == each.title.encode() * 5000
        assert any(each.title == f"{name} {written - 1}" for each in found.entries)
    with sqlite3.connect(kept.file) as base:
        assert base.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


HALF = """
import os, signal, sys
from pathlib import Path
from npt_viz.workspace.history_file import connected
base = connected(Path(sys.argv[1]), "rw")
base.execute("PRAGMA cache_size = 2")
base.execute("BEGIN IMMEDIATE")
base.execute("UPDATE entries SET title = 'half', thumbnail = hex(randomblob(1000000))")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_half_done_is_undone_by_whoever_reads_first(kept):
    for name in "abc":
        kept.put(entry(name))
    kept.write()
    subprocess.run([sys.executable, "-c", HALF, str(kept.file)], cwd=ROOT)
    assert kept.file.with_name("history.sqlite-journal").stat().st_size and b"half" in kept.file.read_bytes()
    assert sorted(titles(kept.found())) == ["a", "b", "c"]


def test_two_servers_and_two_tabs_write_at_once(kept):
    here, there = kept, anew(kept)

    def write(into, name):
        for i in range(15):
            into.put(entry(f"{name} {i}", i), b"n")
            into.write()

    names = (("tab one", here), ("tab two", here), ("server two", there))
    threads = [threading.Thread(target=write, args=(into, name)) for name, into in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert anew(kept).found().n == 45 and not here.waits and not there.waits


def test_a_file_of_a_newer_version_is_refused_in_a_sentence_and_untouched(kept):
    kept.put(entry())
    kept.write()
    with sqlite3.connect(kept.file) as base:
        base.execute("PRAGMA user_version = 2")
    base.close()
    before, files = kept.file.read_bytes(), sorted(kept.file.parent.iterdir())
    later = anew(kept)
    later.put(entry("two"), b"n")
    for touch in (
        later.write,
        later.found,
        later.deleted,
        lambda: later.delete("x"),
        lambda: later.numbers("x"),
    ):
        with pytest.raises(
            NptVizError, match=r"history\.sqlite: the history has version 2 and this npt_viz reads 1"
        ):
            touch()
    assert later.waits and later.numbers(key_of("two")) == b"n"
    assert history_file.kept_numbers(kept.file) == []
    assert kept.file.read_bytes() == before and sorted(kept.file.parent.iterdir()) == files


@pytest.mark.parametrize("content", [b"no database at all" * 99, b"SQLite format 3\0" + bytes(4000)])
def test_a_damaged_file_is_set_aside_and_the_history_goes_on(kept, content):
    kept.file.parent.mkdir()
    kept.file.write_bytes(content)
    kept.put(entry())
    for _ in range(2):  # What the header does not show is found in the first writing.
        try:
            kept.write()
        except NptVizError:
            continue
    assert anew(kept).found().n == 1
    (aside,) = kept.file.parent.glob("*.damaged-*")
    assert aside.read_bytes() == content
    (sentence,) = kept.sayings()
    assert aside.name in sentence and "begins anew" in sentence and kept.sayings() == []


def test_another_programs_database_is_not_written_into(kept):
    kept.file.parent.mkdir()
    with sqlite3.connect(kept.file) as base:
        base.execute("PRAGMA application_id = 99")
        base.execute("CREATE TABLE x (y)")
    base.close()
    before = kept.file.read_bytes()
    kept.put(entry())
    kept.write()
    (aside,) = kept.file.parent.glob("*.damaged-*")
    assert aside.read_bytes() == before and kept.found().n == 1


def change(kept, *statements):
    base = sqlite3.connect(kept.file)
    with base:
        for statement in statements:
            base.execute(statement)
    base.close()


@pytest.mark.parametrize("touch", [History.found, History.write, History.deleted, History.tags])
@pytest.mark.parametrize(
    "name",
    [b"CREATE TABLE entries", b"checkpoint_stamp TEXT", b"deleted REAL", b"by_time ON", b"PRIMARY KEY"],
)
def test_a_file_with_damaged_tables_is_set_aside(kept, touch, name):
    kept.put(entry("a"), b"numbers")
    kept.write()
    content = bytearray(kept.file.read_bytes())
    content[content.index(name) + 3] = 0xFF
    kept.file.write_bytes(content)
    kept = anew(kept)
    kept.put(entry("b"))
    try:
        touch(kept)
    except NptVizError as error:
        assert "history.sqlite: the history cannot be" in str(error)
    (aside,) = kept.file.parent.glob("*.damaged-*")
    assert aside.read_bytes() == content and aside.name in kept.sayings()[0]
    kept.write()
    assert titles(anew(kept).found()) == ["b"]


DAMAGES = (
    "prompt = CAST(x'61FF62' AS TEXT)",
    "key = CAST(x'61FF62' AS TEXT)",
    "tags = CAST(x'5BFF5D' AS TEXT)",
    "kind = 'dream'",
    "time = 'yesterday'",
    "settings = x'FF'",
    "n_bytes = 'many'",
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_row_is_left_out_in_a_sentence_and_the_others_stay(kept, damage):
    for name in "abc":
        kept.put(entry(name, tags=("mine",)))
    kept.write()
    change(kept, f"UPDATE entries SET {damage} WHERE title = 'title b'")
    kept = anew(kept)
    for _ in range(2):
        assert sorted(titles(kept.found())) == ["a", "c"]
    assert sorted(titles(kept.found(tag="mine"))) == ["a", "c"] and kept.tags() == ["mine"]
    assert kept.entry(key_of("b")) is None and kept.numbers(key_of("b")) is None
    assert kept.sayings() == ["Entries of the history that are damaged are left out."]
    for key, asked, n_bytes in history_file.kept_numbers(kept.file):
        assert key.encode() and asked + n_bytes >= 0
    kept.put(entry("d"))
    kept.write(most_bytes=0)
    assert kept.found().n == 0, "what is damaged is removed as the others are"
    assert not list(kept.file.parent.glob("*.damaged-*"))


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("table", ["x (y)", "entries (key, time)"])
def test_another_programs_tables_are_not_written_into(kept, version, table):
    kept.file.parent.mkdir()
    change(kept, f"CREATE TABLE {table}", f"PRAGMA user_version = {version}")
    before = kept.file.read_bytes()
    assert kept.found().n == 0
    (aside,) = kept.file.parent.glob("*.damaged-*")
    assert aside.read_bytes() == before and aside.name in kept.sayings()[0]
    kept.put(entry())
    kept.write()
    assert anew(kept).found().n == 1


def test_on_a_full_disk_nothing_is_lost(kept, monkeypatch):
    kept.put(entry("a"), bytes(50_000))
    kept.write()
    connected = history.connected

    def full(file, mode):
        base = connected(file, mode)
        base.execute(f"PRAGMA max_page_count = {base.execute('PRAGMA page_count').fetchone()[0] + 3}")
        return base

    monkeypatch.setattr(history, "connected", full)
    kept.put(entry("b", 2), bytes(50_000))
    for _ in range(2):
        with pytest.raises(NptVizError, match=r"cannot be written \(database or disk is full\)"):
            kept.write()
    assert titles(kept.found()) == ["b", "a"] and titles(anew(kept).found()) == ["a"]
    monkeypatch.undo()
    kept.write()
    assert titles(anew(kept).found()) == ["b", "a"] and not kept.waits


def test_where_no_folder_can_be_made_it_waits(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    kept = History(tmp_path / "browser" / "history.sqlite")
    monkeypatch.setattr("pathlib.Path.mkdir", full)
    kept.put(entry())
    with pytest.raises(NptVizError, match="No space left on device"):
        kept.write()
    assert kept.found().n == 1 and kept.entry(key_of("one")).title == "title one"


def test_a_read_only_history_is_read_and_every_change_refused(kept, monkeypatch):
    kept.put(entry())
    kept.write()
    connected = history.connected
    monkeypatch.setattr(history, "connected", lambda file, mode: connected(file, "ro"))
    for change in (
        lambda: kept.delete(key_of("one")),
        lambda: kept.tag(key_of("one"), ["x"]),
        kept.bring_back,
    ):
        with pytest.raises(NptVizError, match=r"cannot be written \(attempt to write a readonly database\)"):
            change()
    assert kept.found().n == 1 and kept.entry(key_of("one")).tags == ()


def test_what_waits_is_bounded(kept, monkeypatch):
    monkeypatch.setattr(history, "MOST_WAITING", 3)
    for i in range(9):
        kept.put(entry(str(i), i))
    assert titles(kept.found()) == ["8", "7", "6"]


def test_numbers_that_wait_are_bounded_and_the_entries_stay(kept, monkeypatch):
    monkeypatch.setattr(history, "MOST_WAITING_BYTES", 25)
    for i in range(4):
        kept.put(entry(str(i), i), bytes(10))
    assert [each.n_bytes for each in kept.found().entries] == [10, 10, 0, 0]
    assert [kept.numbers(key_of(str(i))) is None for i in range(4)] == [True, True, False, False]


def test_an_entry_is_of_a_known_kind_and_its_thumbnail_is_small():
    with pytest.raises(ValueError, match="kind 'x'"):
        entry(kind="x")
    with pytest.raises(ValueError, match="4000 characters, not 4001"):
        entry(thumbnail="x" * 4001)


def test_a_key_is_the_same_in_every_process():
    program = "from npt_viz.workspace.entry import key_of; print(key_of('a', (1, None), 0.5))"
    there = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == key_of("a", (1, None), 0.5) != key_of("a", (1, None), 0.25)
