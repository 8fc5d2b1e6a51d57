"""Owner: one browser, with what all its tabs share and what is kept of it on disk.

A browser is known by a cookie, which server/document.js sets. Where cookies are blocked a session is its own owner, and
nothing of it outlives the session.
"""

import atexit
import json
import logging
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import streamlit as st

from npt_viz.errors import NptVizError
from npt_viz.files import plain_json
from npt_viz.workspace import place
from npt_viz.workspace.bound import make_room, room_for_history
from npt_viz.workspace.browser import BrowserFolder, is_id, new_id
from npt_viz.workspace.entry import Entry
from npt_viz.workspace.history import History
from npt_viz.workspace.place import Workspace

_log = logging.getLogger(__name__)

COOKIE = "npt_viz_browser"

CHECKPOINTS = ("safetensors", "pt", "bin")
"""Endings of checkpoint files that can be uploaded."""

LOOKS = 30.0
"""Seconds between two looks for owners that have been away too long."""

FAREWELL = 15.0
"""Seconds that a server which stops waits for work to save itself."""

Shared = TypeVar("Shared")


class Work(Protocol):
    """What goes on between clicks: a slot with a job."""

    @property
    def is_active(self) -> bool: ...

    def end(self) -> None: ...

    def wait(self, seconds: float) -> None: ...


@cache
def workspace() -> Workspace:
    """The workspace of this server, opened at its first use."""
    return place.of_environment()


class Owner:
    """What the tabs of one browser share. Sayings, kept values and work are safe between threads."""

    def __init__(self, browser: str, where: Workspace) -> None:
        self.folder = BrowserFolder(where, browser)
        self.lock = threading.RLock()
        self._tabs = 0
        self._left = time.monotonic()
        self._shared: dict[str, Any] = {}
        self._sayings: list[str] = []
        self._cannot_write: set[str] = set()
        self.history = History(self.folder.history)
        self._read()
        self._known_again = [False]
        # These objects and not the owner: a reference to it would keep it alive.
        new = None if self.folder.path.exists() else self.folder.path
        weakref.finalize(self, _finish, self._shared, new, self._known_again)

    @property
    def lasts(self) -> bool:
        """Whether the browser keeps its id, so that it will be known again."""
        return self._known_again[0]

    def get(self, name: str, otherwise: Any = None) -> Any:
        """Value that is kept under a name."""
        with self.lock:
            return self._kept.get(name, otherwise)

    def put(self, name: str, value: Any) -> None:
        """Keep a value that JSON has; written soon where it is another one than before."""
        value = plain_json(value)
        with self.lock:
            if name in self._kept and self._kept[name] == value:
                return
            self._kept[name] = value
        self._save()

    def shared(self, name: str, make: Callable[[], Shared]) -> Shared:
        """Object that all tabs share under a name; made where it is missing."""
        with self.lock:
            if name not in self._shared:
                self._shared[name] = make()
            return self._shared[name]

    def work(self) -> list[Work]:
        """The slots of jobs, whether or not something runs in them."""
        with self.lock:
            return [each for each in self._shared.values() if hasattr(each, "is_active")]

    def checkpoints(self) -> list[Path]:
        """Checkpoints of this browser in the workspace: results of trainings and uploads, the newest first."""
        folders = [file.parent for file in self.folder.trainings.glob("*/*/npt_config.json")]
        files = [file for file in self.folder.uploads.glob("*/*") if file.suffix.lstrip(".") in CHECKPOINTS]
        return sorted([*folders, *files], key=lambda path: -path.stat().st_mtime)

    def say(self, sentence: str) -> None:
        """Leave a sentence for the next page that this browser draws; once, however often it is left."""
        with self.lock:
            if sentence not in self._sayings:
                self._sayings.append(sentence)

    def sayings(self) -> list[str]:
        """Take the sentences that were left."""
        with self.lock:
            taken, self._sayings = [*self._sayings, *self.history.sayings()], []
        return taken

    def record(self, entry: Entry, numbers: bytes | None = None) -> None:
        """Take an entry into the history; written soon."""
        self.history.put(entry, numbers)
        self._save()

    def room_for(self, n_bytes: int, *, spare: Iterable[Path] = ()) -> None:
        """Make room in the workspace and leave a sentence about what went; NptVizError where there is too little."""
        gone = make_room(self.folder.workspace, needs_bytes=n_bytes, spare=[*spare, *in_use()])
        if gone:
            labels = list(dict.fromkeys(item.label for item in gone))
            more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
            names = ", ".join(labels[:5]) + more
            self.say(
                f"The workspace is full: the oldest of its uploads, trainings and kept numbers went: {names}. "
                "What you saved under a name of yours elsewhere stays; --workspace-gb raises the bound."
            )

    def last(self) -> None:
        """The browser keeps its id: what it does is written from now on."""
        if not self.lasts:
            self._known_again[0] = True
            self._save()

    def enter(self) -> None:
        """One more tab is open. What another server wrote in the meantime is read."""
        with self.lock:
            self._tabs += 1
            if self.lasts and self.folder.mark() != self._mark and not _saver.has(self):
                self._read()
                # Whatever was read from files is read anew; work goes on.
                for name in [name for name, each in self._shared.items() if not hasattr(each, "is_active")]:
                    del self._shared[name]

    def leave(self) -> None:
        """A tab was closed, or its connection was lost."""
        with self.lock:
            self._tabs -= 1
            self._left = time.monotonic()

    @property
    def seconds_away(self) -> float:
        """Since the last tab was closed; 0 while one is open."""
        with self.lock:
            return 0.0 if self._tabs > 0 else time.monotonic() - self._left

    def end_work(self) -> None:
        """Stop what runs; a training saves itself as it stops."""
        for each in self.work():
            each.end()

    def write(self) -> None:
        """Write what is kept; the saver's call. Says once where the disk does not take it."""
        self._try("Nothing more is kept on disk for now.", self._write_kept)
        if self.history.waits:
            self._try("The history is not kept on disk for now.", self._write_history)

    def _write_kept(self) -> None:
        with self.lock:
            text = json.dumps(self._kept)
        try:
            self.folder.write(text)
        finally:
            with self.lock:
                self._mark = self.folder.mark()

    def _write_history(self) -> None:
        room = room_for_history(self.folder.workspace, self.history.file)
        self.history.write(most_bytes=room)

    def _try(self, otherwise: str, writing: Callable[[], None]) -> None:
        """Write; where that fails say so, once until it works again."""
        try:
            writing()
            self._cannot_write.discard(otherwise)
        except Exception as error:
            if otherwise not in self._cannot_write:
                self._cannot_write.add(otherwise)
                if isinstance(error, NptVizError):
                    self.say(f"{otherwise} {error}")
                else:
                    _log.exception(otherwise)
                    self.say(f"{otherwise} {type(error).__name__}: the server's log has more.")

    def _read(self) -> None:
        self._kept, problem = self.folder.kept()
        self._mark = self.folder.mark()
        if problem:
            self.say(problem[:1].upper() + problem[1:] + ".")

    def _save(self) -> None:
        if self.lasts and not self.folder.workspace.is_temporary:
            _saver.put(self)


def _finish(shared: dict[str, Any], new: Path | None, known_again: list[bool]) -> None:
    """End what belonged to an owner that is gone; a new folder of one that nobody can be again goes too."""
    for each in shared.values():
        if hasattr(each, "is_active"):
            each.end()
    if new is not None and not known_again[0]:
        shutil.rmtree(new, ignore_errors=True)


class _Saver:
    """Writes what owners keep in a thread of its own, because a disk may be slow and a page must not be."""

    def __init__(self) -> None:
        self._wanted: dict[int, Owner] = {}
        self._changed = threading.Condition()
        self._is_writing = False
        self._thread: threading.Thread | None = None

    def put(self, owner: Owner) -> None:
        with self._changed:
            self._wanted[id(owner)] = owner
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="npt_viz saver", daemon=True)
                self._thread.start()
                atexit.register(self.flush)
            self._changed.notify_all()

    def has(self, owner: Owner) -> bool:
        with self._changed:
            return id(owner) in self._wanted or self._is_writing

    def flush(self, seconds: float = 10.0) -> None:
        """Wait until everything is written."""
        with self._changed:
            self._changed.wait_for(lambda: not self._wanted and not self._is_writing, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted)
                _, owner = self._wanted.popitem()
                self._is_writing = True
            try:
                owner.write()
            except Exception:  # Of one owner; the others go on.
                _log.exception("What a browser keeps could not be written")
            finally:
                del owner
                with self._changed:
                    self._is_writing = False
                    self._changed.notify_all()


class _Owners:
    """All owners of this server. One whose browser will be known again is held while it is not away too long."""

    def __init__(self) -> None:
        self._all: weakref.WeakValueDictionary[str, Owner] = weakref.WeakValueDictionary()
        self._held: dict[str, Owner] = {}
        self._lock = threading.RLock()
        self._is_watched = False

    def of(self, browser: str) -> Owner:
        """Owner of a browser that sent this id."""
        where = workspace()
        name = BrowserFolder(where, browser).path.name
        with self._lock:
            owner = self._all.get(name)
            if owner is None:
                owner = self._all[name] = Owner(browser, where)
        return owner

    def hold(self, owner: Owner) -> None:
        """Its browser will be known again."""
        owner.last()
        with self._lock:
            self._held[owner.folder.path.name] = owner
            if not self._is_watched:
                self._is_watched = True
                atexit.register(self.close)
                threading.Thread(target=self._watch, name="npt_viz owners", daemon=True).start()

    def drop_idle(self) -> None:
        """End the work of owners that have been away too long, and forget them; their folders stay."""
        most = place.idle_hours() * 3600
        with self._lock:
            for name, owner in list(self._held.items()):
                if owner.seconds_away > most:
                    owner.end_work()
                    del self._held[name]

    def close(self, seconds: float = FAREWELL) -> None:
        """End all work and wait until it has saved itself: the server stops."""
        until = time.monotonic() + seconds
        work = [each for owner in list(self._held.values()) for each in owner.work() if each.is_active]
        for each in work:
            each.end()
        for each in work:
            each.wait(max(0.0, until - time.monotonic()))

    def _watch(self) -> None:
        while True:
            time.sleep(LOOKS)
            self.drop_idle()


_saver = _Saver()
_owners = _Owners()


def farewell() -> None:
    """End all work, wait until everything is on the disk, and remove what goes with this server."""
    _owners.close()
    _saver.flush()
    if workspace.cache_info().currsize:
        workspace().close()


def flush() -> None:
    """Wait until everything that is kept is on the disk."""
    _saver.flush()


def owner() -> Owner:
    """Owner of this session's browser."""
    session = st.session_state
    if "_owner" not in session:
        sent = st.context.cookies.get(COOKIE)
        if is_id(sent):
            session["_owner"] = _owners.of(sent)
            _owners.hold(session["_owner"])
        else:
            session["_owner"] = _owners.of(new_id())
        if problem := session["_owner"].folder.workspace.problem:
            session["_owner"].say(problem)
    return session["_owner"]


class _Tab:
    """A tab, as long as it is connected."""

    def __init__(self, owner: Owner) -> None:
        self._owner = weakref.ref(owner)
        self.uses: Path | None = None
        """Checkpoint that it shows."""
        owner.enter()
        _tabs.add(self)

    def close(self) -> None:
        _tabs.discard(self)
        if (owner := self._owner()) is not None:
            owner.leave()


@st.cache_resource(scope="session", on_release=lambda tab: tab.close(), show_spinner=False)
def _tab() -> _Tab:
    return _Tab(owner())


_tabs: weakref.WeakSet[_Tab] = weakref.WeakSet()


def attend() -> Owner:
    """Owner of this session's browser, which has a tab open: the frame's first call."""
    _tab()
    return owner()


def show(checkpoint: str) -> None:
    """This session's tab shows a checkpoint, which then is not removed to make room."""
    _tab().uses = Path(checkpoint).absolute() if checkpoint else None


def in_use() -> list[Path]:
    """Checkpoints that tabs show."""
    return [tab.uses for tab in list(_tabs) if tab.uses is not None]
