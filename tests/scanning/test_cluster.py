"""Workers on Ray come to the same bytes, also where one is killed; what cannot be is a sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import npt_viz
from npt_viz.places import ROOT
from npt_viz.scanning import cluster

PROGRAM = """
import json, os, signal, sys, threading, time, torch, psutil, npt_viz
from pathlib import Path
from npt_viz.scanning.cluster import Opened, on_ray

def kill_one(parts, told):
    busy = []
    while len(busy) < 2 or len(list(parts.glob("[0-9]*.npz"))) < 4:
        time.sleep(0.05)
        busy = [p for p in psutil.Process().children(recursive=True) if "_Worker" in " ".join(p.cmdline())]
    told.append([p.pid for p in busy])
    os.kill(busy[0].pid, signal.SIGKILL)

if __name__ == "__main__":
    torch.set_num_threads(1)
    model_folder, checkpoint, corpus, out = sys.argv[1:]
    model = npt_viz.open_model(model_folder, dtype="float32", device="cpu")
    opened = npt_viz.open_checkpoint(checkpoint, model)
    settings = dict(window=61, part_tokens=300)
    npt_viz.scan(model, opened, corpus, out=f"{out}/here", **settings)
    names = Opened(model=model_folder, checkpoint=checkpoint, dtype="float32", device="cpu")
    told, lines = [], []
    killer = threading.Thread(target=kill_one, args=(Path(out, "there", "parts"), told), daemon=True)
    killer.start()
    npt_viz.scan(
        model, opened, corpus, out=f"{out}/there", executor=on_ray(names, workers=2),
        progress=lambda line, share: lines.append(share), **settings,
    )
    killer.join(10)
    print(json.dumps({"told": told, "lines": lines}))
"""


@pytest.fixture(scope="module")
def scanned(on_disk, tmp_path_factory):
    pytest.importorskip("ray", reason="the extra cluster is not installed")
    folder = tmp_path_factory.mktemp("ray")
    random = np.random.default_rng(4)
    lines = (
        {"text": "".join(map(chr, random.integers(97, 123, random.integers(20, 90))))} for _ in range(300)
    )
    (folder / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "program.py").write_text(PROGRAM)
    arguments = [
        str(folder / "program.py"),
        on_disk.model,
        on_disk.checkpoint,
        str(folder / "corpus.jsonl"),
        str(folder),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_workers_of_which_one_is_killed_come_to_the_same_bytes(scanned):
    folder, said = scanned
    assert len(said["told"][0]) == 2, "two workers, one of which was killed"
    n_parts = npt_viz.read_scan(folder / "here").n_parts
    assert n_parts > 20 and len(said["lines"]) == n_parts and said["lines"][-1] == 1.0
    names = sorted(file.relative_to(folder / "here") for file in (folder / "here").rglob("*.npz"))
    for name in [*names, Path("scan.json"), Path("worst.parquet")]:
        assert (folder / "here" / name).read_bytes() == (folder / "there" / name).read_bytes(), name


def test_without_ray_it_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        npt_viz.NptVizError, match=r'needs ray, which is not installed: pip install "npt_viz\[cluster\]"'
    ):
        cluster._ray()


def test_no_worker_is_a_sentence():
    with pytest.raises(npt_viz.NptVizError, match="workers must be at least 1"):
        cluster.on_ray(cluster.Opened(model="m", checkpoint="c"), workers=0)


def test_a_worker_with_other_weights_says_so(on_disk):
    opened = cluster.Opened(model=on_disk.model, checkpoint=on_disk.checkpoint, device="cpu")
    worker = cluster._Worker(opened, cluster.Task(layers=(1, 3)), "another seal", 1)
    with pytest.raises(npt_viz.NptVizError, match="another model or checkpoint under the names"):
        worker.measured(None)
