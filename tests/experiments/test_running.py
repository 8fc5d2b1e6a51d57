"""Experiments on a tiny model: fair by construction, stoppable, resumable, and read back as they were."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import npt_viz
from npt_viz.errors import NptVizError
from npt_viz.experiments import measuring, processes, running
from npt_viz.experiments.folder import begin_folder, free_folder, read_json, tasks
from npt_viz.experiments.plan import Arm, Experiment
from npt_viz.experiments.processes import run_in_processes, share_done
from npt_viz.experiments.reading import read_experiment
from npt_viz.experiments.running import run_experiment
from npt_viz.experiments.spec_file import experiment_toml, read_experiment_spec
from npt_viz.training import log, trainer
from npt_viz.training.batches import Batches
from npt_viz.training.data import corpus_of
from npt_viz.training.losses import Objective, objective
from npt_viz.training.recipe import Recipe
from npt_viz.training.spec import AdapterSpec
from npt_viz.training.trainer import train

SPEC = AdapterSpec(layers=(1, 3), rank=5, targets=("gate", "up"))
RECIPE = Recipe(steps=4, batch_tokens=32, evaluate_every=2, warmup=2)


def arm(name: str, losses: str, **changes) -> Arm:
    return Arm(name=name, losses=objective(losses), changes=changes)


def random_texts(n=14, length=60):
    generator = torch.Generator().manual_seed(4)
    return ["".join(chr(c) for c in torch.randint(33, 120, (length,), generator=generator)) for _ in range(n)]


@pytest.fixture(scope="module")
def texts():
    return random_texts()


def experiment(*arms: Arm, **changes) -> Experiment:
    fields = {
        "name": "test",
        "arms": arms,
        "start": SPEC,
        "recipe": RECIPE,
        "prompt": "abcdefg",
        "tokens": 500,
    }
    return Experiment(**fields | changes)


@pytest.fixture(autouse=True)
def health_where_it_is_asked_for(request, monkeypatch):
    """Health is half the time of a run and has its own tests; here it is measured in tests that take with_health."""
    if "with_health" not in request.fixturenames:
        monkeypatch.setattr(measuring, "health", lambda *_, **__: SimpleNamespace(findings=()))


@pytest.fixture
def with_health():
    pass


def finished(model, plan, folder, texts):
    for _ in run_experiment(model, plan, folder, texts=texts):
        pass
    return read_experiment(folder)


def rows(folder, task) -> list[dict]:
    """Of a run's log, without the time."""
    lines = (folder / task / "seed-0" / log.FILE).read_text(encoding="utf-8").splitlines()[1:]
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_equal_arms_give_equal_numbers_and_those_of_train(tiny_llama, texts, tmp_path):
    plan = experiment(arm("one", "direct=1"), arm("other", "direct=1"), arm("kl", "kl=1"))
    result = finished(tiny_llama, plan, tmp_path / "x", texts)
    assert rows(tmp_path / "x", "one") == rows(tmp_path / "x", "other")
    assert result.run("one", 0).final["recovered"] == result.run("other", 0).final["recovered"]
    by_hand = train(
        tiny_llama, SPEC, corpus_of(tiny_llama, texts, seed=0, tokens=500), "direct=1", steps=4, seed=0,
        batch_tokens=32, evaluate_every=2, warmup=2, whole_sequences=True,
    )  # fmt: skip
    expected = [row for step in by_hand for row in step.rows()]
    for found, wanted in zip(rows(tmp_path / "x", "one"), expected, strict=True):
        assert found == {
            k: None if isinstance(v, float) and math.isnan(v) else v
            for k, v in wanted.items()
            if k != "seconds"
        }


def test_arms_begin_alike_and_see_the_same_batches_whatever_their_losses_need(
    tiny_llama, texts, tmp_path, monkeypatch
):
    taken = []
    genuine = Batches.__next__

    def noted(self):
        batch = genuine(self)
        taken.append((batch.rows.tolist(), batch.lengths))
        return batch

    monkeypatch.setattr(Batches, "__next__", noted)
    plan = experiment(
        arm("local", "direct=1"), arm("above", "kl=1"), arm("faster", "direct=1", learning_rate=0.1)
    )
    result = finished(tiny_llama, plan, tmp_path / "x", texts)
    assert taken[:4] == taken[4:8] == taken[8:12] and len(taken) == 12
    initial = {run.fingerprints["initial"] for run in result.runs}
    assert len(initial) == 1 and result.is_fair
    assert rows(tmp_path / "x", "local")[0]["loss/direct"] == rows(tmp_path / "x", "faster")[0]["loss/direct"]
    assert (
        rows(tmp_path / "x", "local")[-1]["loss/direct"] != rows(tmp_path / "x", "faster")[-1]["loss/direct"]
    )


def test_seeds_differ_in_start_and_order_and_share_the_split(tiny_llama, texts, tmp_path):
    plan = experiment(arm("a", "direct=1"), arm("b", "direct_robust=1"), seeds=(0, 7))
    result = finished(tiny_llama, plan, tmp_path / "x", texts)
    first, second = (result.run("a", seed).fingerprints for seed in (0, 7))
    assert first["initial"] != second["initial"] and first["batches"] != second["batches"]
    assert result.is_fair and result.n_finished == result.n_runs == 4
    assert result.run("a", 0).final["recovered"] != result.run("a", 7).final["recovered"]


def test_a_fingerprint_that_differs_is_seen(tiny_llama, texts, tmp_path):
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=1"))
    finished(tiny_llama, plan, tmp_path / "x", texts)
    file = tmp_path / "x" / "b" / "seed-0" / "result.json"
    said = read_json(file)
    said["fingerprints"]["initial"] = "another"
    file.write_text(json.dumps(said), encoding="utf-8")
    assert read_experiment(tmp_path / "x").unfair_seeds == [0]
    said["fingerprints"] = ["initial"]
    file.write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(NptVizError, match="was changed by hand"):
        read_experiment(tmp_path / "x")


def test_a_text_that_was_edited_between_two_arms_is_seen(tiny_llama, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The cat sat on the mat, and the dog did not. " * 20, encoding="utf-8")
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=1"), text=str(text))
    events = run_experiment(tiny_llama, plan, tmp_path / "x")
    assert next(event for event in events if event.kind == "finished").task.arm == "a"
    events.close()
    # Of the same length: the order of the batches is the same.
    text.write_text(text.read_text(encoding="utf-8").replace("cat", "cow"), encoding="utf-8")
    for _ in run_experiment(tiny_llama, plan, tmp_path / "x"):
        pass
    found = read_experiment(tmp_path / "x")
    assert found.n_finished == 2 and found.unfair_seeds == [0]


def test_what_is_read_back_is_what_was_trained(tiny_llama, texts, tmp_path, with_health):
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=1,orthogonality=0.1"))
    result = finished(tiny_llama, plan, tmp_path / "x", texts)
    run = result.run("b", 0)
    folder = tmp_path / "x" / "b" / "seed-0"
    lines = (folder / log.FILE).read_text(encoding="utf-8").splitlines()
    table = pd.DataFrame([json.loads(line) for line in lines[1:]])
    assert len(table) == 8, "four steps of two layers"
    for layer in SPEC.layers:
        steps, values = run.curves[layer].measured("loss/orthogonality")
        expected = table[table["layer"] == layer]
        np.testing.assert_array_equal(values, expected["loss/orthogonality"])
        np.testing.assert_array_equal(steps, expected["step"])
    checkpoint = npt_viz.open_checkpoint(run.checkpoint, tiny_llama)
    seen = npt_viz.inspect(tiny_llama, checkpoint, plan.prompt)
    np.testing.assert_allclose(run.strip.columns["3 recovered"], seen.layers[3].recovered, rtol=1e-5)
    np.testing.assert_allclose(run.strip.columns["kl"], seen.kl, rtol=1e-4, atol=1e-7)
    last = table[table["step"] == 4]["heldout/recovered"]
    assert run.final["recovered"] == pytest.approx(last.mean())
    held = corpus_of(tiny_llama, texts, seed=0, tokens=500).heldout
    nll = []
    for ids in held:
        with torch.no_grad():
            log_p = tiny_llama.hf(ids[None]).logits[0, :-1].double().log_softmax(-1)
        nll.append(-log_p[torch.arange(len(ids) - 1), ids[1:]])
    assert result.base["perplexity"] == pytest.approx(float(torch.cat(nll).mean().exp()), rel=1e-5)


def test_stopping_keeps_what_is_done_and_starting_again_does_only_the_rest(tiny_llama, texts, tmp_path):
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"), arm("c", "direct=3"))
    events = run_experiment(tiny_llama, plan, tmp_path / "x", texts=texts)
    for event in events:
        if event.task.arm == "b" and event.step and event.step.number == 2:
            break
    events.close()
    half = read_experiment(tmp_path / "x")
    assert [run.state for run in half.runs] == ["finished", "stopped", "waiting"]
    assert half.run("b", 0).done == 2 and len(half.run("b", 0).curves[1].steps) == 2
    assert half.run("b", 0).final == {} and math.isnan(half.comparisons("recovered")[1].mean)
    before = (tmp_path / "x" / "a" / "seed-0" / "result.json").stat().st_mtime_ns
    whole = finished(tiny_llama, plan, tmp_path / "x", texts)
    assert whole.n_finished == 3
    assert (tmp_path / "x" / "a" / "seed-0" / "result.json").stat().st_mtime_ns == before
    fresh = finished(tiny_llama, plan, tmp_path / "y", texts)
    assert fresh.run("b", 0).final["recovered"] == whole.run("b", 0).final["recovered"]


def test_an_arm_that_fails_is_told_and_the_others_go_on(tiny_llama, texts, tmp_path):
    plan = experiment(
        arm("cannot run", "orthogonality:as_written=1"),
        arm("works", "direct=1"),
    )
    result = finished(tiny_llama, plan, tmp_path / "x", texts)
    assert result.run("cannot run", 0).state == "failed"
    assert "orthogonality" in result.run("cannot run", 0).error
    assert result.run("works", 0).state == "finished"
    verdicts = {found.arm: found.verdict for found in result.comparisons("recovered")}
    assert verdicts["works"] == "no number", "the reference has failed"


def test_a_checkpoint_is_continued_on_clones_of_the_layers_chosen(tiny_llama, on_disk, texts, tmp_path):
    model = npt_viz.open_model(on_disk.model)
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"), start=on_disk.checkpoint, layers=(3,))
    result = finished(model, plan, tmp_path / "x", texts)
    assert result.layers == (3,) and result.n_finished == 2
    began = npt_viz.open_checkpoint(on_disk.checkpoint, model)
    ended = npt_viz.open_checkpoint(result.run("a", 0).checkpoint, model)
    weights = [found.adapter(3).modulations["gate"].W_b_up for found in (began, ended)]
    assert weights[0].shape == weights[1].shape and not torch.equal(*weights)
    with pytest.raises(NptVizError, match="layer 4 is no NPT layer"):
        finished(model, replace(plan, layers=(4,), name="other"), tmp_path / "y", texts)


def test_shares_are_disjoint_and_cover_everything(tiny_llama, texts, tmp_path):
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"), arm("c", "direct=3"))
    done = [
        [
            event.task.arm
            for event in run_experiment(tiny_llama, plan, tmp_path / "x", texts=texts, share=(i, 2))
            if event.step is None
        ]
        for i in (1, 2)
    ]
    assert done[0] == ["a", "c"] and done[1] == ["b"]
    assert read_experiment(tmp_path / "x").n_finished == 3


def test_a_folder_of_something_else_is_refused(tiny_llama, texts, tmp_path):
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(NptVizError, match="not empty and no experiment"):
        next(run_experiment(tiny_llama, plan, tmp_path / "full", texts=texts))
    next(run_experiment(tiny_llama, plan, tmp_path / "x", texts=texts))
    with pytest.raises(NptVizError, match="holds another experiment"):
        next(run_experiment(tiny_llama, replace(plan, seeds=(5,)), tmp_path / "x", texts=texts))
    with pytest.raises(NptVizError, match="is no experiment"):
        read_experiment(tmp_path / "full")


def test_a_full_disk_is_a_sentence_and_leaves_no_checkpoint(tiny_llama, texts, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise NptVizError("checkpoint: cannot be written (No space left on device); check the space")

    monkeypatch.setattr(running, "save_checkpoint", full)
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"))
    result = finished(tiny_llama, plan, tmp_path / "x", texts)
    assert {run.state for run in result.runs} == {"failed"}
    assert all("No space left" in run.error and run.checkpoint is None for run in result.runs)
    assert result.run("a", 0).done == 4, "its steps are there"


def test_a_log_that_is_being_written_is_read_up_to_its_last_whole_line(tiny_llama, texts, tmp_path):
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"))
    events = run_experiment(tiny_llama, plan, tmp_path / "x", texts=texts)
    for event in events:
        if event.step and event.step.number == 3:
            break
    file = tmp_path / "x" / "a" / "seed-0" / log.FILE
    with file.open("a", encoding="utf-8") as half:
        half.write('{"step": 4, "lay')
    found = read_experiment(tmp_path / "x").run("a", 0)
    assert found.done == 3 and found.state == "running" and log.steps_logged(file) == 3
    events.close()


@pytest.mark.slow
def test_processes_find_what_one_process_finds(on_disk, texts, tmp_path):
    model = npt_viz.open_model(on_disk.model)
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"), arm("c", "kl=1"), model=on_disk.model)
    shares = list(run_in_processes(plan, tmp_path / "two", 2, texts=texts))
    assert shares == sorted(shares) and shares[-1] == 1.0
    two = read_experiment(tmp_path / "two")
    one = finished(model, plan, tmp_path / "one", texts)
    for name in one.arms:
        assert two.run(name, 0).final["recovered"] == pytest.approx(
            one.run(name, 0).final["recovered"], rel=1e-4
        )
        assert two.run(name, 0).fingerprints["batches"] == one.run(name, 0).fingerprints["batches"]


@pytest.mark.slow
def test_closing_ends_the_processes_and_a_bad_model_is_their_sentence(on_disk, texts, tmp_path):
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"), model=str(tmp_path / "nowhere"))
    with pytest.raises(NptVizError, match="nowhere"):
        list(run_in_processes(plan, tmp_path / "x", 2, texts=texts))
    endless = replace(plan, model=on_disk.model, recipe=replace(RECIPE, steps=10_000_000), name="endless")
    work = run_in_processes(endless, tmp_path / "y", 2, texts=texts)
    while not next(work) > 0:
        pass
    work.close()
    kept = read_experiment(tmp_path / "y")
    done = sum(run.done for run in kept.runs)
    assert done > 0 and share_done(endless, tmp_path / "y") < 1
    assert sum(run.done for run in read_experiment(tmp_path / "y").runs) == done


def test_two_arms_of_one_slug_are_refused():
    with pytest.raises(NptVizError, match=r"'direct 1' and 'Direct_1' would share the folder direct-1"):
        experiment(arm("direct 1", "direct=1"), arm("Direct_1", "direct=2"))


@pytest.mark.parametrize(
    "names",
    [("日本", "中国"), ("x" * 70, "x" * 70 + "y"), ("λ = 1", "μ = 1"), ("!", "?"), ("../../a", "a b")],
)
def test_names_that_differ_have_folders_that_differ_inside_the_experiment(names, tmp_path):
    plan = experiment(*(arm(name, "direct=1") for name in names))
    folders = [task.folder for task in tasks(plan, tmp_path)]
    assert len(set(folders)) == 2
    for folder in folders:
        assert folder.parent.parent == tmp_path and len(folder.parent.name) <= 60


def test_every_task_has_its_folder(tmp_path):
    plan = experiment(arm("a b", "direct=1"), arm("c", "direct=2"), seeds=(0, 1))
    found = tasks(plan, tmp_path)
    assert len({task.folder for task in found}) == 4
    assert [(task.arm, task.seed) for task in found] == [("a b", 0), ("c", 0), ("a b", 1), ("c", 1)]
    assert isinstance(plan.arms[0].losses, Objective)


def test_a_name_that_is_taken_by_another_experiment_gets_a_number(tiny_llama, texts, tmp_path):
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"))
    assert free_folder(tmp_path / "x", plan, texts) == tmp_path / "x"
    next(run_experiment(tiny_llama, plan, tmp_path / "x", texts=texts))
    assert free_folder(tmp_path / "x", plan, texts) == tmp_path / "x", "the same goes on where it was"
    assert free_folder(tmp_path / "x", plan, texts[:-1]) == tmp_path / "x-2", "the text differs"
    assert free_folder(tmp_path / "x", replace(plan, seeds=(3,)), texts) == tmp_path / "x-2"
    with pytest.raises(NptVizError, match="holds another experiment"):
        next(run_experiment(tiny_llama, plan, tmp_path / "x", texts=texts[:-1]))


def test_a_run_that_another_process_has_is_left_to_it(tiny_llama, texts, tmp_path):
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"))
    theirs = run_experiment(tiny_llama, plan, tmp_path / "x", texts=texts)
    next(theirs)
    mine = [
        event.task.arm
        for event in run_experiment(tiny_llama, plan, tmp_path / "x", texts=texts)
        if not event.step
    ]
    assert mine == ["b"]
    assert [event.task.arm for event in theirs if not event.step] == ["a"]
    assert read_experiment(tmp_path / "x").n_finished == 2


def test_lines_that_cannot_be_read_are_counted_and_a_result_changed_by_hand_is_named(
    tiny_llama, texts, tmp_path
):
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"))
    finished(tiny_llama, plan, tmp_path / "x", texts)
    file = tmp_path / "x" / "a" / "seed-0" / log.FILE
    lines = file.read_text(encoding="utf-8").splitlines()
    lines[2] = "{]"
    lines[3] = '{"step": "x", "layer": 1}'
    lines[4] = '{"step": 2, "layer": 3, "total": {"a": 1}}'
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = read_experiment(tmp_path / "x")
    assert "a, seed 0: 3 lines of steps.jsonl could not be read" in found.notes
    assert sum(len(curves.steps) for curves in found.run("a", 0).curves.values()) == 5
    (tmp_path / "x" / "b" / "seed-0" / "result.json").write_text(
        '{"findings": [{"rule": "?"}]}', encoding="utf-8"
    )
    with pytest.raises(NptVizError, match=r"result\.json was changed by hand"):
        read_experiment(tmp_path / "x")


def test_paths_in_a_spec_are_seen_from_beside_it(tmp_path, texts):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "words.txt").write_text("words", encoding="utf-8")
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"), text="words.txt")
    (tmp_path / "deep" / "spec.toml").write_text(experiment_toml(plan), encoding="utf-8")
    assert read_experiment_spec(tmp_path / "deep" / "spec.toml").text == str(tmp_path / "deep" / "words.txt")
    other = replace(plan, text="elsewhere.txt")
    (tmp_path / "deep" / "spec.toml").write_text(experiment_toml(other), encoding="utf-8")
    assert read_experiment_spec(tmp_path / "deep" / "spec.toml").text == "elsewhere.txt"


def test_a_long_prompt_is_shown_from_its_beginning_and_an_empty_one_is_refused_at_once(
    tiny_llama, texts, tmp_path, monkeypatch
):
    monkeypatch.setattr(measuring, "STRIP", 5)
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"))
    found = finished(tiny_llama, plan, tmp_path / "x", texts)
    assert len(found.run("a", 0).strip.tokens) == 5
    assert "a, seed 0: the prompt was run up to token 5 of 7" in found.notes
    with pytest.raises(NptVizError, match="prompt is empty"):
        next(run_experiment(tiny_llama, replace(plan, prompt=""), tmp_path / "y", texts=texts))


def test_a_run_whose_process_was_killed_is_said_to_be_stopped(tiny_llama, texts, tmp_path):
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"))
    events = run_experiment(tiny_llama, plan, tmp_path, texts=texts)
    task = next(events).task
    assert read_experiment(tmp_path).run("a", 0).state == "running"
    assert [event.task.arm for event in events if event.step is None] == ["a", "b"], "a reader took the lock"
    # As kill -9 leaves it: the file says running, and nobody holds the lock.
    task.result_file.write_text('{"state": "running"}', encoding="utf-8")
    assert read_experiment(tmp_path).run("a", 0).state == "stopped"
    assert finished(tiny_llama, plan, tmp_path, texts).n_finished == 2


def test_a_spec_may_change_until_a_run_has_begun(tiny_llama, texts, tmp_path):
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"))
    with pytest.raises(NptVizError, match="is more than d_model 24"):
        finished(tiny_llama, replace(plan, start=replace(SPEC, rank=25)), tmp_path / "x", texts)
    with pytest.raises(NptVizError, match="layer 7 "):
        finished(tiny_llama, replace(plan, start=replace(SPEC, layers=(7,))), tmp_path / "x", texts)
    with pytest.raises(NptVizError, match="too short"):
        finished(tiny_llama, plan, tmp_path / "x", ["abc"])
    assert finished(tiny_llama, plan, tmp_path / "x", texts).n_finished == 2


def test_a_place_that_cannot_be_written_is_a_sentence(tiny_llama, texts, tmp_path):
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"))
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(NptVizError, match="is a file; choose a folder"):
        finished(tiny_llama, plan, tmp_path / "file", texts)
    begin_folder(tmp_path / "x", plan, texts)
    (tmp_path / "x" / "a").write_text("mine", encoding="utf-8")
    with pytest.raises(NptVizError, match="seed-0: cannot be written"):
        finished(tiny_llama, plan, tmp_path / "x", texts)


def test_a_killed_process_is_not_quoted(tmp_path, monkeypatch):
    def begun(folder, i, n):
        line = "import os, sys; print('1 of 2: a, seed 0: finished', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"
        return subprocess.Popen([sys.executable, "-c", line], stderr=subprocess.PIPE, text=True)

    monkeypatch.setattr(processes, "_begun", begun)
    plan = experiment(arm("a", "direct=1"), arm("b", "direct=2"))
    with pytest.raises(NptVizError, match="ended with status -9 before its runs were done"):
        list(run_in_processes(plan, tmp_path, 1))


def test_an_arm_that_diverges_fails_with_its_numbers_and_the_others_go_on(
    tiny_llama, texts, tmp_path, monkeypatch
):
    monkeypatch.setattr("npt_viz.training.alarms.BEGINNING", 4)
    made, trained_now = trainer.evaluated, []

    def worse(layer, batches):
        found = made(layer, batches)
        return replace(found, recovered=-0.9) if trained_now == ["lost"] else found

    monkeypatch.setattr(trainer, "evaluated", worse)
    plan = experiment(
        arm("healthy", "direct=1"),
        arm("lost", "direct_robust=1"),
        recipe=replace(RECIPE, steps=12),
    )
    begun = running._run_task

    def noted(model, of, task, *arguments):
        trained_now[:] = [task.arm]
        return begun(model, of, task, *arguments)

    monkeypatch.setattr(running, "_run_task", noted)
    result = finished(tiny_llama, plan, tmp_path / "e", texts)
    healthy, lost = result.run("healthy", 0), result.run("lost", 0)
    assert (healthy.state, healthy.done) == ("finished", 12)
    assert (lost.state, lost.done) == ("failed", 4)
    assert "layer 1 diverged: on held-out text it recovers -0.900 at its step 2" in lost.error
    assert "layer 3 diverged" in lost.error and not lost.final
