"""The store drops what was used least recently, and the two stores of results have bounds."""

from npt_viz.ui.cache.kept import Kept, duration, passes, results


def test_the_value_used_least_recently_goes_first():
    store = Kept(2)
    store.put("a", 1)
    store.put("b", 2)
    assert store.get("a") == 1
    store.put("c", 3)
    assert (store.get("a"), store.get("b"), store.get("c")) == (1, None, 3)


def test_putting_a_value_again_counts_as_use():
    store = Kept(2)
    for key in ("a", "b", "a", "c"):
        store.put(key, key)
    assert (store.get("a"), store.get("b")) == ("a", None)


def test_results_and_passes_are_bounded():
    for store, most in ((results(), 128), (passes(), 3)):
        store.clear()
        for i in range(most + 1):
            store.put(i, i)
        assert store.get(0) is None and store.get(1) == 1
        store.clear()


def test_durations_are_in_words():
    assert [duration(s) for s in (0.2, 42, 99.6, 180)] == ["1 s", "42 s", "100 s", "3 min"]
