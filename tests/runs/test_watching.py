"""A watched loop: its steps and looks are read back as a run, and nothing in the watch can end or disturb the loop."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_model
from torch import nn

import npt_viz
from npt_viz.errors import NptVizError
from npt_viz.runs.findings import FINDINGS
from npt_viz.runs.watching import heldout_columns
from npt_viz.training.log import FILE

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [
    "Every good boy does fine, and the cat sat on the mat. " * 3,
    "A second text, with other words in it. " * 3,
]


def adapter(seed: int = 0, layer_width: int = 31) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((24, 7), (7, 24), (7, layer_width))
    return [nn.Parameter(0.3 * torch.randn(shape, generator=generator)) for shape in shapes]


def loop(watching, gate: list, steps: int) -> list[float]:
    """A training of somebody's own: random numbers, dropout, one optimiser."""
    optimiser = torch.optim.SGD(gate, lr=0.01)
    totals = []
    for _ in range(steps):
        x = torch.randn(3, 24)
        total = (
            nn.functional.dropout(x @ gate[0] @ gate[1], 0.5).square().mean() + gate[2].square().mean()
        ) / 2
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(total.item())
        watching.step(total, losses={"direct": 2 * total}, learning_rate=0.01, weight_decay=0.1)
    return totals


def test_steps_and_looks_are_a_run(tiny_llama, tmp_path):
    gate = adapter()
    with npt_viz.watch(
        tmp_path / "mine", tiny_llama, {2: {"gate": gate}}, every=3, texts=TEXTS, settings={"lr": 0.01}
    ) as watching:
        totals = loop(watching, gate, 7)
    run = npt_viz.read_run(tmp_path / "mine")
    curves = run.layers[2]
    assert run.name == "mine" and run.settings["lr"] == 0.01 and curves.steps.tolist() == list(range(1, 8))
    np.testing.assert_allclose(curves.columns["total"], totals)
    np.testing.assert_allclose(curves.columns["loss/direct"], 2 * np.array(totals), rtol=1e-6)
    assert set(curves.columns["weight_decay"]) == {0.1}
    steps, _ = curves.measured("heldout/recovered")
    assert steps.tolist() == [3, 6]
    assert any(note.startswith("Health at step 6: ") for note in run.notes)
    assert not any("step 3" in note for note in run.notes)


def test_a_look_measures_what_inspections_of_the_texts_show(tiny_llama, tmp_path):
    gate = adapter()
    watching = npt_viz.watch(tmp_path, tiny_llama, lambda: {2: {"gate": gate}}, texts=TEXTS)
    watching.step(1.0, step=40)
    watching.look()
    columns = npt_viz.read_run(tmp_path).layers[2].columns
    # The tiny model holds 97 tokens: windows of the two texts, the first of each first.
    ids = [tiny_llama.tokenizer(text)["input_ids"] for text in TEXTS]
    cut = [[each[0:97] for each in ids], [each[97:194] for each in ids]]
    runs = [npt_viz.inspect(tiny_llama, {2: {"gate": gate}}, part) for half in cut for part in half if part]
    keep = [~run.is_sink for run in runs]
    recovered = np.concatenate([run.layers[2].recovered[k] for run, k in zip(runs, keep, strict=True)])
    scalars = np.concatenate([run.layers[2].scalar[k, 0] for run, k in zip(runs, keep, strict=True)])
    assert columns["heldout/recovered"][0] == pytest.approx(np.median(recovered), rel=1e-6)
    assert columns["heldout/n_tokens"][0] == len(recovered)
    assert columns["gate/scalar_variance"][0] == pytest.approx(np.var(scalars), rel=1e-4)
    assert columns["heldout/recovered_low"][0] < np.median(recovered) < columns["heldout/recovered_high"][0]


def test_the_training_is_the_same_with_and_without_the_watch(tiny_llama, tmp_path):
    class Nothing:
        def step(self, *_, **__): ...

    watched, alone = adapter(), adapter()

    def looked_at():
        torch.rand(3)  # Whatever a function of the user's takes.
        return {2: {"gate": watched}}

    torch.manual_seed(3)
    one = loop(npt_viz.watch(tmp_path, tiny_llama, looked_at, layers=2, every=1, texts=TEXTS), watched, 4)
    torch.manual_seed(3)
    other = loop(Nothing(), alone, 4)
    assert one == other
    assert all(torch.equal(a, b) and torch.equal(a.grad, b.grad) for a, b in zip(watched, alone, strict=True))


def test_what_fails_is_one_warning_and_the_steps_go_on(tiny_llama, tmp_path):
    def lost():
        raise RuntimeError("CUDA error: out of luck")

    watching = npt_viz.watch(tmp_path, tiny_llama, lost, layers=2, every=1, texts=TEXTS)
    with pytest.warns(
        RuntimeWarning, match=r"looks at the adapters are left out from step 1 .*out of luck"
    ) as told:
        for _ in range(3):
            watching.step(1.0)
    assert len(told) == 1
    assert npt_viz.read_run(tmp_path).layers[2].steps.tolist() == [1, 2, 3]


def test_a_folder_that_disappears_is_one_warning(tmp_path):
    watching = npt_viz.watch(tmp_path / "gone", layers=[2])
    (tmp_path / "gone" / FILE).unlink()
    (tmp_path / "gone").rmdir()
    with pytest.warns(RuntimeWarning, match="steps are left out from step 1") as told:
        watching.step(1.0)
        watching.step("no number")
    assert len(told) == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"losses": [0.1]}, "losses is a list; give a dict"),
        ({"step": "3"}, "step is '3'; give a whole number"),
        ({"step": 2.5}, "step is 2.5"),
        ({"step": torch.tensor([1, 2])}, "give a whole number"),
        ({"layer": torch.tensor([1, 2])}, "layer is tensor"),
        ({"layer": "2"}, "layer is '2'"),
    ],
)
def test_wrong_arguments_of_a_step_are_one_warning(tmp_path, wrong, words):
    watching = npt_viz.watch(tmp_path, layers=2)
    watching.step(1.0)
    with pytest.warns(RuntimeWarning, match=words) as told:
        watching.step(1.0, **wrong)
        watching.step(1.0, **wrong)
    assert len(told) == 1
    run = npt_viz.read_run(tmp_path)
    assert run.skipped == 0 and run.layers[2].steps.tolist() == [1]


def test_looks_go_on_at_their_steps_where_steps_are_left_out(tmp_path, tiny_llama, monkeypatch):
    watching = npt_viz.watch(tmp_path, tiny_llama, {2: {"gate": adapter()}}, every=3, texts=TEXTS)
    looks = []
    monkeypatch.setattr(watching, "_write_look", lambda: looks.append(watching._last))
    with pytest.warns(RuntimeWarning, match="steps are left out"):
        for _ in range(7):
            watching.step(1.0, step="3")
    assert looks == [3, 6]


@pytest.mark.parametrize("number", [torch.tensor(4), torch.tensor([4]), np.int64(4), np.array(4), 4.0])
def test_the_number_of_a_step_and_of_a_layer_may_be_a_tensor(tmp_path, number):
    watching = npt_viz.watch(tmp_path, layers=number)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watching.step(1.0, step=number, layer=number)
        watching.step(0.5)
    run = npt_viz.read_run(tmp_path)
    assert run.layers[4].steps.tolist() == [4, 5] and run.skipped == 0


def test_where_warnings_are_errors_the_loop_goes_on_too(tmp_path, capsys):
    watching = npt_viz.watch(tmp_path, layers=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watching.step(total="no number")
    assert "steps are left out" in capsys.readouterr().err


def test_a_training_that_diverges_is_a_finding_and_is_looked_at_again(tiny_llama, tmp_path):
    gate = adapter()
    watching = npt_viz.watch(tmp_path, tiny_llama, {2: {"gate": gate}}, every=1, texts=TEXTS)
    with torch.no_grad():
        old = gate[2].clone()
        gate[2][3, 4] = torch.nan
    watching.step(float("nan"))
    [note] = [note for note in npt_viz.read_run(tmp_path).notes if note.startswith("Health")]
    assert "error" in note and "W_b_up holds 1 NaN" in note
    with torch.no_grad():
        gate[2].copy_(old)
    watching.step(1.0)
    assert npt_viz.read_run(tmp_path).layers[2].measured("heldout/recovered")[0].tolist() == [2]


def test_a_killed_loop_leaves_whole_lines_and_is_continued(tmp_path):
    program = f"""
        import sys; sys.path.insert(0, {str(ROOT)!r})
        import npt_viz
        watching = npt_viz.watch({str(tmp_path / "run")!r}, layers=[2, 5])
        while True:
            watching.step(1.0, losses={{"direct": 2.0}})
            print(flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, cwd=ROOT
    )
    for _ in range(20):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    log = tmp_path / "run" / FILE
    assert log.read_bytes().endswith(b"\n")
    before = npt_viz.read_run(log).last_step
    with log.open("a") as file:
        file.write('{"step": 9')  # What a full disk may leave.
    watching = npt_viz.watch(tmp_path / "run", layers=[2, 5])
    watching.step(0.5)
    run = npt_viz.read_run(log)
    assert run.skipped == 0 and run.last_step == before + 1
    assert run.layers[5].columns["total"].tolist() == [1.0] * before + [0.5]
    assert [json.loads(line).get("format") is not None for line in log.read_text().splitlines()].count(
        True
    ) == 1


def test_layers_with_steps_of_their_own(tmp_path):
    watching = npt_viz.watch(tmp_path, layers=[1, 3])
    for step in (1, 2):
        for layer in (1, 3):
            watching.step(10 * layer + step, layer=layer)
    layers = npt_viz.read_run(tmp_path).layers
    assert {layer: curves.columns["total"].tolist() for layer, curves in layers.items()} == {
        1: [11.0, 12.0],
        3: [31.0, 32.0],
    }


def test_only_the_first_of_several_processes_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    npt_viz.watch(tmp_path / "second", layers=1).step(1.0)
    assert not (tmp_path / "second").exists()


def test_a_live_model_in_training_is_watched_and_left_as_it_is(tmp_path):
    made = tiny_model()
    hf = made.hf.train().requires_grad_(True)
    base = npt_viz.open_model(hf, tokenizer=made.tokenizer)
    npt_viz.watch(tmp_path, base, {2: {"gate": adapter()}}, every=1, texts=TEXTS).step(1.0)
    assert hf.training and all(p.requires_grad and p.grad is None for p in hf.parameters())
    assert (tmp_path / FINDINGS).read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": 2, "every": 0}, "every is 0"),
        ({}, "give layers=15, or model and adapters"),
        ({"layers": []}, "give layers=15, or model and adapters"),
        ({"layers": ["a", 2]}, "layers is \\['a', 2\\] .*; give a number"),
        ({"adapters": {2: {}}}, "model and adapters go together"),
    ],
)
def test_what_is_wrong_is_said_before_the_training_begins(tmp_path, options, words):
    with pytest.raises(NptVizError, match=words):
        npt_viz.watch(tmp_path, **options)


def test_a_file_in_the_place_of_the_folder_is_said_before_the_training_begins(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NptVizError, match="choose another folder"):
        npt_viz.watch(tmp_path / "file", layers=2)


def test_columns_of_no_ordinary_token_are_not_a_number(tiny_llama):
    run = npt_viz.inspect(tiny_llama, {2: {"gate": adapter()}}, [5, 7, 11])
    columns = heldout_columns([run], 2)
    assert columns["heldout/n_tokens"] == int((~run.is_sink).sum())
    assert np.isnan(columns["heldout/sink_recovered"]) == (not run.is_sink.any())
