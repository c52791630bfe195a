"""docs/extending.md, walked through in a copy of the tree: files are made, rows added, commands run."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
import test_methods
from test_methods import HEADS, OUTPUTS, a_batch, a_draw, terms_of
from test_train import environment

from mmvid.methods import METHODS
from mmvid.terms import reduce_terms

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
# (file, table or '', code)
BLOCKS = re.findall(r"```python\n# (\S+?)(?:, in (\w+))?\n(.*?)```", PAGE, re.S)
COMMANDS = re.search(r"```sh\n(.*?)```", PAGE, re.S)[1].splitlines()
FILMS = [("wave", 1), ("wave", 2), ("clap", 1), ("clap", 2), ("wave", 3), ("clap", 3), ("wave", 4), ("clap", 4)]


def add_row(path, table, code):
    """What stands before the last blank line goes above the table, the rest is its first row."""
    above, _, row = f"\n\n{code.strip()}".rpartition("\n\n")
    text, head = path.read_text(encoding="utf-8"), f"\n{table} = {{\n"
    assert text.count(head) == 1, f"{path} has no table {table}"
    path.write_text(text.replace(head, f"\n{above}\n\n{head}    {row}\n"), encoding="utf-8")


def film(path):
    """Four frames in which a square moves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 12, (48, 48))
    for t in range(6):
        frame = np.full((48, 48, 3), 30, np.uint8)
        frame[10:30, 4 * t : 4 * t + 20] = 220
        writer.write(frame)
    writer.release()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The copy, extended, with films to read."""
    tree = tmp_path_factory.mktemp("walk")
    for name in ("mmvid", "data_prep", "configs", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    for name, table, code in BLOCKS:
        if table:
            add_row(tree / name, table, code)
        else:
            assert not (tree / name).exists(), name
            (tree / name).write_text(code, encoding="utf-8")
    for label, subject in FILMS:
        film(tree / "films" / label / f"S{subject}_R1.mp4")
    return tree


def command(tree, *words):
    """What a command prints, which must succeed; on one device, as a user has."""
    words = [sys.executable if word == "python" else word for word in words]
    own = {"PYTHONPATH": os.pathsep.join([str(tree), str(tree / "tests")]), "TQDM_DISABLE": "1"}
    done = subprocess.run(words, cwd=tree, env=environment() | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_the_blocks_are_the_three():
    assert {name for name, table, _ in BLOCKS if table} == {
        "mmvid/methods/__init__.py",
        "mmvid/data/fields.py",
        "mmvid/streams.py",
        "mmvid/models/__init__.py",
        "data_prep/readers/__init__.py",
    }
    assert all(len(code.splitlines()) <= 60 for _, _, code in BLOCKS)


# ---------------------------------------------------------------------------- the method
@pytest.fixture
def pull(monkeypatch):
    """The page's method among METHODS, as the last of the property tests' cases: its number."""
    room = {}
    code = next(code for name, _, code in BLOCKS if name == "mmvid/methods/pull.py")
    exec(compile(code, "docs/extending.md", "exec"), room)
    monkeypatch.setitem(METHODS, "pull", room["make"])
    monkeypatch.setattr(test_methods, "CASES", [*test_methods.CASES, ("pull", {})])
    return len(test_methods.CASES) - 1


def test_the_method_pulls(pull):
    method = METHODS["pull"](OUTPUTS, HEADS)
    equal = dict.fromkeys(OUTPUTS, a_draw()["a"])
    np.testing.assert_allclose(terms_of(method, equal, a_batch())["pull"].values, 0, atol=1e-5)

    def loss(values):
        return reduce_terms({"pull": terms_of(method, values, a_batch())["pull"]})[0]

    gradient = jax.jit(jax.grad(loss))(a_draw())
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(gradient))
    wider = METHODS["pull"](OUTPUTS, HEADS, strength=3.0)
    assert set(terms_of(wider, equal, a_batch())["pull"].weight.tolist()) == {3.0}


def test_the_method_has_the_properties_of_all(pull):
    """Each property on one example; `pytest tests/test_methods.py -k pull` in the tree draws many."""
    rows = np.array([True, False, True, True, False, True])
    test_methods.test_shapes_and_flags(pull)
    test_methods.test_masked_is_sliced.hypothesis.inner_test(pull, seed=3, mask=rows)
    test_methods.test_the_absent_lose_nothing_and_teach_nobody.hypothesis.inner_test(pull, seed=4, absent=rows)
    test_methods.test_no_gradient_into_peers.hypothesis.inner_test(pull, seed=5, scale=2.0)


# ---------------------------------------------------------------------------- modality, model, dataset
SEEN = """
import jax, numpy as np
from data_prep import build, clips, phases

def serial(jobs, settings, directory, workers):  # no pool for eight films
    for job in jobs:
        clips.write(*job, settings, directory)

phases._pool = serial
flags = "--dataset gestures --videos films --out data/seen --flow none --workers 1".split()
assert build.main(flags) == 0

from mmvid.data import fields, records
from mmvid.models import build_model
from mmvid.prepare import prepare
from mmvid.streams import Sampling, Stream, in_channels

opened = records.open_dataset("data/seen")
assert opened.info.splits == {"test": 2, "train": 4, "val": 2}, opened.info.splits
assert opened.info.heads["action"]["names"] == ["clap", "wave"]
record = opened.split("train")[0]
assert fields.count_frames(record, "edges") == record["num_frames"]
edges = fields.decode_bytes(record, "edges", [0, 3])
assert set(np.unique(edges)) == {0, 255} and (edges[0] != edges[1]).any()
stream = Stream("edges", "edges", Sampling(frames=2))
x = prepare(stream, edges[None])
model = build_model("sketch", num_classes=2, in_channels=in_channels(stream))
params, stats = model.init(jax.random.key(0), x)
result, _ = model.apply(params, stats, x, train=False, key=None)
assert result["logits"]["action"].shape == (1, 2) and result["features"].shape == (1, 64)
"""


def test_the_dataset_is_built_and_the_modality_reaches_the_model(tree):
    command(tree, "python", "-c", SEEN)


@pytest.mark.slow
def test_all_three_train_together(tree):
    """The page's own commands, and all properties of the method."""
    for line in COMMANDS:
        said = command(tree, *line.split())
    assert "Independent" in said and "PULL" in said and "edges" in said
    assert (tree / "runs" / "gestures" / "report.html").exists()
    said = command(tree, "python", "-m", "pytest", "-q", "-n0", "tests/test_methods.py", "-k", "pull")
    assert "passed" in said
