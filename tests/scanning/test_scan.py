"""A scan against `inspect`, run literally text by text and put into pandas."""

import json
import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import specimen, tiny_model

import npt_viz
from npt_viz.checkpoint import Checkpoint
from npt_viz.results.scan import GROUPS, LEVELS, RELATIVE_ERROR
from npt_viz.scanning.executor import Done, InProcess
from npt_viz.scanning.folder import ScanFolder
from npt_viz.scanning.measuring import Measurer
from npt_viz.scanning.running import scan_steps
from npt_viz.scanning.summary import to_bytes

WINDOW = 29
WORDS = ["ab", " Cd", " the", " 17", ",", "\n", " Ünd", " мир", "!?", "é", " x", " go", "ing", " 世界"]


@cache
def _literal(model, checkpoint, mode, positions) -> pd.DataFrame:
    return rows_of(model, checkpoint, texts(), mode, positions)


def texts(n: int = 13, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return ["".join(random.choice(WORDS, random.integers(1, 31))).strip() or "a b" for _ in range(n)]


@pytest.fixture(scope="module")
def opened():
    """Float64, so that how texts share a pass leaves no trace in float32."""
    model = tiny_model(dtype=torch.float64)
    with torch.no_grad():
        # "!" is a sink wherever it stands.
        model.hf.get_input_embeddings().weight[model.tokenizer("!")["input_ids"]] *= 300
    adapters = {
        layer: specimen(model, variant, layer, components=k, rank=rank).double()
        for layer, variant, k, rank in ((1, "N5", 2, 7), (3, "N4", 3, 5))
    }
    return model, Checkpoint.from_adapters(adapters, model, "specimen")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    file = tmp_path_factory.mktemp("corpus") / "lines.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts()))
    return file


def literal(model, checkpoint, mode="local", positions="deployed") -> pd.DataFrame:
    """`rows_of` the corpus, computed once."""
    return _literal(model, checkpoint, mode, positions)


def rows_of(model, checkpoint, of, mode="local", positions="deployed") -> pd.DataFrame:
    """One row a layer and token; those of the whole model stand in every layer."""
    frames, number = [], 0
    for i, text in enumerate(of):
        ids = model.tokenizer(text)["input_ids"]
        for start in range(0, len(ids), WINDOW):
            piece = ids[start : start + WINDOW]
            if len(piece) < 2:
                continue
            run = npt_viz.inspect(model, checkpoint, piece, mode=mode, positions=positions)
            frame = run.to_frame()
            n = len(run.layers)
            frame["nll_base"], frame["nll_npt"] = np.tile(run.nll_base, n), np.tile(run.nll_npt, n)
            frame["agrees"] = np.tile(run.base_top.ids[:, 0] == run.npt_top.ids[:, 0], n)
            frames.append(frame.assign(text=i, window=number))
            number += 1
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module", params=[("local", "deployed"), ("propagated", "trained")], ids="-".join)
def both(request, opened, corpus):
    mode, positions = request.param
    settings = dict(mode=mode, positions=positions, window=WINDOW)
    found = npt_viz.scan(*opened, corpus, **settings, top=3, part_tokens=83, batch_tokens=131)
    assert found.n_parts >= 3
    return found, literal(*opened, mode, positions)


def column(frame: pd.DataFrame, quantity) -> pd.DataFrame:
    """window, token, text, is_sink and value of one quantity."""
    layer = frame.layer.min() if quantity.layer is None else quantity.layer
    rows = frame[frame.layer == layer]
    return rows.assign(value=rows[quantity.column].astype(float))


def test_means_and_variances_are_those_of_every_token(both):
    found, frame = both
    counted, everything = found.counted, found.with_sinks
    for i, quantity in enumerate(found.quantities):
        rows = column(frame, quantity)
        kept = rows[~rows.is_sink].value.dropna()
        assert counted.n[i] == len(kept) > 100, quantity
        assert counted.means[i] == pytest.approx(kept.mean(), rel=1e-10, abs=1e-12), quantity
        assert counted.sds[i] ** 2 == pytest.approx(kept.var(ddof=1), rel=1e-10), quantity
        assert everything.means[i] == pytest.approx(rows.value.dropna().mean(), rel=1e-10, abs=1e-12)
        assert (found.lows[i], found.highs[i]) == (kept.min(), kept.max())
    assert found.n_sinks == column(frame, found.quantities[0]).is_sink.sum() > 0


def test_a_quantile_is_within_its_stated_error(both):
    found, frame = both
    for i, quantity in enumerate(found.quantities):
        rows = column(frame, quantity)
        kept = rows[~rows.is_sink].value.dropna()
        exact = np.quantile(kept, LEVELS, method="lower")
        np.testing.assert_allclose(found.quantiles[:, i], exact, rtol=RELATIVE_ERROR * 1.0001, atol=1e-12)


def test_the_worst_tokens_are_the_worst_the_earlier_first(both):
    found, frame = both
    ways = {"high": lambda v: -v, "low": lambda v: v, "far": lambda v: -abs(v)}
    for i, quantity in enumerate(found.quantities):
        if not quantity.worse:
            assert found.worst[i] == ()
            continue
        rows = column(frame, quantity)
        rows = rows[~rows.is_sink].dropna(subset="value")
        reference = quantity.metric.reference or 0.0 if quantity.worse == "far" else 0.0
        rows = rows.assign(bad=ways[quantity.worse](rows.value - reference))
        worst = rows.sort_values(["bad", "window", "token"]).head(3)
        assert [tuple(each) for each in found.worst[i]] == [
            (value, window, token)
            for value, window, token in zip(worst.value, worst.window, worst.token, strict=True)
        ]
        for token in found.worst[i]:
            of = frame[(frame.window == token.window) & (frame.layer == frame.layer.min())]
            context = found.contexts[token.window]
            assert context.ids == tuple(of.id)[: len(context.ids)] and len(context.ids) > token.position


def test_groups_are_means_over_their_tokens(both, opened):
    found, frame = both
    model, _ = opened
    layer = found.layers[0]
    i = found.index(f"{layer} recovered")
    rows = column(frame, found.quantities[i])
    text = rows.id.map(lambda i: model.tokenizer.decode([i]))
    by_hand = {
        ("class", "sink"): rows.is_sink,
        ("class", "number"): text.str.fullmatch(r"\d") & ~rows.is_sink,
        ("class", "punctuation"): text.str.fullmatch("[,!?]") & ~rows.is_sink,
        ("class", "white space"): text.str.isspace() & ~rows.is_sink,
        ("position", "0"): (rows.token == 0) & ~rows.is_sink,
        ("position", "4–15"): rows.token.between(4, 15) & ~rows.is_sink,
        ("script", "Latin"): text.str.fullmatch("[a-zA-Z]") & ~rows.is_sink,
    }
    for (way, name), mask in by_hand.items():
        kept = rows[mask].value.dropna()
        moments = found.group(way)
        row = GROUPS[way].index(name)
        assert moments.n[row, i] == len(kept), (way, name)
        if len(kept):
            assert moments.means[row, i] == pytest.approx(kept.mean(), rel=1e-10)
    for way in ("position", "script"):
        assert found.group(way).n[:, i].sum() == found.counted.n[i]


def test_an_interval_is_over_texts(both):
    found, frame = both
    t = {10: 2.2281, 11: 2.2010, 12: 2.1788}
    for key in ("kl", f"{found.layers[1]} recovered"):
        i = found.index(key)
        rows = column(frame, found.quantities[i])
        rows = rows[~rows.is_sink].dropna(subset="value")
        by_text = rows.groupby("text").value.agg(["sum", "count"])
        mean, n = rows.value.mean(), len(by_text)
        errors = by_text["sum"] - mean * by_text["count"]
        half = t[n - 1] * math.sqrt(n / (n - 1) * (errors**2).sum()) / len(rows)
        assert found.half_widths[i] == pytest.approx(half, rel=1e-4) and found.n_clusters[i] == n


def test_how_it_is_cut_into_parts_and_passes_changes_no_number(opened, corpus):
    one, other = (
        npt_viz.scan(*opened, corpus, window=WINDOW, part_tokens=size, batch_tokens=batch)
        for size, batch in ((67, 29), (10_000, 1000))
    )
    assert one.n_parts > 3 and other.n_parts == 1 and one.n_tokens == other.n_tokens
    np.testing.assert_allclose(one.counted.means, other.counted.means, rtol=1e-10)
    np.testing.assert_allclose(one.quantiles, other.quantiles, rtol=1e-12)


def test_without_predictions_the_layers_are_the_same(opened, corpus):
    full = npt_viz.scan(*opened, corpus, window=WINDOW)
    bare = npt_viz.scan(*opened, corpus, window=WINDOW, predict=False)
    assert not bare.has("kl") and bare.has("3 recovered")
    for quantity in bare.quantities:
        assert bare.mean(quantity.key) == pytest.approx(full.mean(quantity.key), rel=1e-12)


@pytest.mark.parametrize("variant", ["S0-pooled", "S1", "T1"])
def test_other_variants_are_scanned_as_they_are_inspected(opened, variant, tmp_path):
    model, _ = opened
    from npt_viz.adapter import VARIANTS

    name = variant if variant in VARIANTS else next(each for each in VARIANTS if each.startswith(variant))
    checkpoint = Checkpoint.from_adapters({2: specimen(model, name, 2, components=1).double()}, model, "s")
    some = texts(7, seed=3)
    file = tmp_path / "t.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in some))
    found = npt_viz.scan(model, checkpoint, file, window=WINDOW)
    frame = rows_of(model, checkpoint, some)
    kept = frame[~frame.is_sink]
    assert found.mean("2 relative_error") == pytest.approx(kept.relative_error.mean(), rel=1e-10)
    assert found.mean("kl") == pytest.approx(kept.kl.mean(), rel=1e-10)


def test_tokens_at_most_ends_in_the_middle_of_a_text(opened, corpus):
    found = npt_viz.scan(*opened, corpus, window=WINDOW, max_tokens=101, part_tokens=43)
    assert found.n_tokens == 101


class Backwards(InProcess):
    """Done in another order than asked for."""

    def run(self, parts):
        done = [Done(part, to_bytes(self._measurer.summary(part))) for part in parts]
        yield from reversed(done)


def test_the_order_in_which_parts_are_done_changes_no_bit(opened, corpus, tmp_path):
    settings = dict(window=WINDOW, part_tokens=83)
    for name, executor in (("a", InProcess), ("b", Backwards)):
        npt_viz.scan(*opened, corpus, out=tmp_path / name, executor=executor, **settings)
    for name in ("scan.json", "numbers.parquet", "groups.parquet", "worst.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_scan_is_read_back_as_it_was(opened, corpus, tmp_path):
    found = npt_viz.scan(*opened, corpus, out=tmp_path / "s", window=WINDOW)
    again = npt_viz.read_scan(tmp_path / "s")
    assert again.worst == found.worst and again.contexts == found.contexts
    for name in ("quantiles", "half_widths", "lows"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    np.testing.assert_array_equal(again.moments.mean, found.moments.mean)
    table = pd.read_parquet(tmp_path / "s" / "numbers.parquet")
    assert list(table["mean"]) == pytest.approx(list(found.counted.means))


def test_two_scans_of_the_same_tokens_are_compared_text_by_text(opened, corpus, tmp_path):
    model, checkpoint = opened
    other = Checkpoint.from_adapters(
        {1: specimen(model, "N5", 1, components=2, seed=5).double(), 3: checkpoint.adapter(3)}, model, "other"
    )
    for name, each in (("a", checkpoint), ("b", other)):
        npt_viz.scan(model, each, corpus, out=tmp_path / name, window=WINDOW, part_tokens=83)
    found = npt_viz.compare_scans(tmp_path / "a", tmp_path / "b")
    assert found.is_paired
    assert found.of("3 recovered").verdict == "the same"
    frames = [column(literal(model, each), found.of("kl").quantity) for each in (checkpoint, other)]
    difference = frames[1].value - frames[0].value
    kept = ~frames[0].is_sink
    assert found.of("kl").difference == pytest.approx(difference[kept].mean(), rel=1e-10)
    by_text = difference[kept].groupby(frames[0].text[kept]).agg(["sum", "count"])
    errors = by_text["sum"] - difference[kept].mean() * by_text["count"]
    n = len(by_text)
    half = 2.1788 * math.sqrt(n / (n - 1) * (errors**2).sum()) / kept.sum()
    assert n == 13 and found.of("kl").half_width == pytest.approx(half, rel=1e-4)


def test_it_is_measured_once_what_a_part_has(opened, corpus, tmp_path, monkeypatch):
    settings = dict(window=WINDOW, part_tokens=83)
    steps = scan_steps(*opened, corpus, tmp_path / "s", **settings)
    first = next(steps)
    steps.close()
    assert first.n_parts == 1 and first.result().n_tokens == first.n_tokens and not first.result().is_finished
    with pytest.raises(npt_viz.NptVizError, match="has not finished"):
        npt_viz.read_scan(tmp_path / "s")
    measured, real = [], Measurer.summary
    monkeypatch.setattr(
        Measurer, "summary", lambda self, part: measured.append(part.number) or real(self, part)
    )
    found = npt_viz.scan(*opened, corpus, out=tmp_path / "s", **settings)
    assert measured == list(range(1, found.n_parts))
    npt_viz.scan(*opened, corpus, out=tmp_path / "s", **settings)
    assert len(measured) == found.n_parts - 1


@pytest.mark.parametrize("part_tokens", [7, 4096])
def test_a_text_without_a_window_counts_wherever_a_part_ends(opened, tmp_path, part_tokens):
    file = tmp_path / "corpus.jsonl"
    texts = ["a first text of some tokens", "a second one that is longer", "x", "y", "z"]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    found = npt_viz.scan(*opened, file, part_tokens=part_tokens, predict=False)
    n_short = sum(len(opened[0].tokenizer(text)["input_ids"]) < 2 for text in texts)
    assert (found.n_texts, found.skipped["windows of one token"]) == (5, n_short) and n_short == 3


def test_a_scan_that_is_gone_on_with_shows_each_part_and_keeps_none_waiting(opened, corpus, tmp_path):
    whole = list(scan_steps(*opened, corpus, tmp_path / "scan", predict=False, part_tokens=60))
    for number in (3, 4):
        (tmp_path / "scan" / "parts" / f"{number:06d}.npz").unlink()
    again = list(scan_steps(*opened, corpus, tmp_path / "scan", predict=False, part_tokens=60))
    assert [step.n_parts for step in again[:3]] == [1, 2, 3]
    assert again[-1].result().digest == whole[-1].result().digest


def test_a_folder_is_sealed_by_its_first_part_and_under_its_lock(opened, tmp_path):
    file, out = tmp_path / "corpus.txt", tmp_path / "scan"
    file.write_text("x")
    with pytest.raises(npt_viz.NptVizError, match="no text of at least"):
        npt_viz.scan(*opened, file, out=out)
    file.write_text("now there is a text in it")
    with ScanFolder(out).begin({"one": 1}):
        with pytest.raises(npt_viz.NptVizError, match="is being written by another process"):
            npt_viz.scan(*opened, file, out=out)
        assert ScanFolder(out).spec()["one"] == 1, "the one that was refused left the spec as it was"
    assert npt_viz.scan(*opened, file, out=out).n_texts == 1


def test_a_folder_of_another_scan_is_refused(opened, corpus, tmp_path):
    npt_viz.scan(*opened, corpus, out=tmp_path / "s", window=WINDOW)
    with pytest.raises(npt_viz.NptVizError, match="another scan: its window is 29 and now it would be 31"):
        npt_viz.scan(*opened, corpus, out=tmp_path / "s", window=31)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(npt_viz.NptVizError, match="is not empty and no scan"):
        npt_viz.scan(*opened, corpus, out=tmp_path / "full")


def test_a_part_of_other_tokens_and_a_damaged_one_are_refused(opened, corpus, tmp_path):
    settings = dict(window=WINDOW, part_tokens=83)
    file = tmp_path / "c.jsonl"
    file.write_text(corpus.read_text())
    npt_viz.scan(*opened, file, out=tmp_path / "s", **settings)
    content = file.read_text()
    file.write_text(content.replace("the", "eht"))
    with pytest.raises(npt_viz.NptVizError, match="measured on other tokens than the corpus has now"):
        npt_viz.scan(*opened, file, out=tmp_path / "s", **settings)
    file.write_text(content)
    part = tmp_path / "s" / "parts" / "000001.npz"
    part.write_bytes(part.read_bytes()[:-31])
    with pytest.raises(npt_viz.NptVizError, match=r"000001.npz: is damaged; remove it"):
        npt_viz.scan(*opened, file, out=tmp_path / "s", **settings)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(window=98), "window is 98 tokens and tiny holds 97"),
        (dict(window=1), "window must be at least 2"),
        (dict(max_tokens=0), "max_tokens must be at least 2"),
        (dict(layers=[2]), "layer 2 is no NPT layer"),
        (dict(mode="x"), "mode 'x' does not exist"),
    ],
)
def test_settings_that_make_no_sense_are_a_sentence(opened, corpus, settings, message):
    with pytest.raises(npt_viz.NptVizError, match=message):
        npt_viz.scan(*opened, corpus, **settings)
