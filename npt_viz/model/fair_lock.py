"""Reentrant lock of a base model that serves waiting threads in order.

threading.RLock lets the thread that has just released it take it again at once: a training that locks the model for
every batch would keep every page waiting until it ends.
"""

import threading
from collections import deque


class FairLock:
    """A reentrant lock that is handed to waiting threads in the order they asked."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._owner: int | None = None
        self._depth = 0

    def acquire(self, blocking: bool = True) -> bool:
        """Take the lock, after the threads that asked before; False where `blocking` is False and it is not free."""
        me = threading.get_ident()
        with self._mutex:
            if self._owner in (None, me):
                self._owner, self._depth = me, self._depth + 1
                return True
            if not blocking:
                return False
            turn = _Waiting(me)
            self._waiting.append(turn)
        try:
            turn.come.wait()
        except BaseException:
            self._give_up(turn)
            raise
        return True

    def release(self) -> None:
        """Undo one `acquire`; the last one gives the lock to the thread that has waited longest."""
        with self._mutex:
            if self._owner != threading.get_ident():
                raise RuntimeError("this thread does not hold the lock")
            self._depth -= 1
            if self._depth == 0:
                self._hand_over()

    def _hand_over(self) -> None:
        if not self._waiting:
            self._owner = None
            return
        turn = self._waiting.popleft()
        self._owner, self._depth = turn.thread, 1
        turn.come.set()

    def _give_up(self, turn: "_Waiting") -> None:
        """The wait was interrupted, perhaps just after the lock was handed over."""
        with self._mutex:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif self._owner == turn.thread:
                self._depth = 0
                self._hand_over()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exception) -> None:
        self.release()


class _Waiting:
    """One thread in the queue."""

    def __init__(self, thread: int) -> None:
        self.thread, self.come = thread, threading.Event()
