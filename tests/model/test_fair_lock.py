"""The model's lock: one at a time, reentrant, first come first served."""

import threading
import time

import pytest

from npt_viz.model.fair_lock import FairLock


def test_only_one_thread_is_inside():
    lock, inside, most = FairLock(), [], []

    def work():
        for _ in range(50):
            with lock:
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0002)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 250 and max(most) == 1


def test_the_holder_may_take_it_again_and_only_the_last_release_frees_it():
    lock, got = FairLock(), []

    def tried():
        got.append(lock.acquire(blocking=False))
        if got[-1]:
            lock.release()

    def elsewhere():
        thread = threading.Thread(target=tried)
        thread.start()
        thread.join()
        return got[-1]

    with lock:
        with lock:
            assert not elsewhere()
        assert not elsewhere()
    assert elsewhere()


def test_a_thread_that_takes_it_again_and_again_cannot_starve_another():
    lock, done, laps = FairLock(), threading.Event(), []

    def greedy():
        while not done.is_set():
            with lock:
                laps.append(1)
                time.sleep(0.002)

    thread = threading.Thread(target=greedy)
    thread.start()
    while not laps:
        time.sleep(0.001)
    before = len(laps)
    with lock:
        waited = len(laps) - before
    done.set()
    thread.join()
    assert waited <= 2


def test_threads_are_served_in_the_order_they_asked():
    lock, served = FairLock(), []

    def take(i):
        with lock:
            served.append(i)

    threads = [threading.Thread(target=take, args=[i]) for i in range(6)]
    with lock:
        for thread in threads:
            thread.start()
            time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert served == list(range(6))


def test_a_wait_that_is_interrupted_leaves_no_trace(monkeypatch):
    lock, held, free = FairLock(), threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            free.wait()

    def interrupted(self, timeout=None):
        raise KeyboardInterrupt

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(threading.Event, "wait", interrupted)
        lock.acquire()
    free.set()
    thread.join()
    assert lock.acquire(blocking=False)
    lock.release()


def test_a_thread_that_does_not_hold_it_cannot_release_it():
    with pytest.raises(RuntimeError, match="does not hold"):
        FairLock().release()
