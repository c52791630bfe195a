"""Ten million clips: one small file of records under ten thousand names, read by the loader itself; and a part of
them is chosen."""

import json
import os
import pathlib
import resource
import subprocess
import sys

import numpy as np
import pytest
from test_records import HEADS, pack, record

from mmvid.data import labels, records

ROOT = pathlib.Path(__file__).parents[1]
SHARDS, EACH = 10_000, 1000
CLIPS = SHARDS * EACH

# What a run does before its first step, in a process of its own: seconds of a processor, which other work on the
# machine does not change by much, and megabytes at the most.
START = r"""
import json, re, sys, time
begun = time.process_time()
import numpy as np
from mmvid.data import pipeline, records
from mmvid.data.augment import Augment
from mmvid.data.example import Train
from mmvid.data.groups import Group
from mmvid.streams import Head, Sampling, Stream

dataset = records.open_dataset(sys.argv[1])
source = dataset.split("train")
spec = Train({"main": source}, {"main": Group("train", 32, {"train": Augment()})},
             (Stream("rgb", "rgb", Sampling("uniform", 2)),), {"verb": Head(2)}, 8, seed=0)
batches = pipeline.train_dataset(spec, 0, 10**6)
first = batches[0]["main"]
told = {"start": time.process_time() - begun}
ids = [int(row) for step in range(100) for row in batches[step]["main"]["id"]]
told |= {"ids": ids, "right": all(int(v) == row % 1000 % 2 for v, row in zip(first["label"]["verb"], first["id"]))}
# Of this process: ru_maxrss begins with that of whoever has started it.
told["memory"] = int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1]) / 1e3
print(json.dumps(told))
"""

# What a run with a subset does once: which clips it takes, and what it has seen; and what it does when it goes on.
SUBSET = r"""
import json, re, sys, time
from mmvid.data import records, subsets
from mmvid.data.rules import Rule
from mmvid.streams import Head
from mmvid.weights import seen

dataset, begun, told = records.open_dataset(sys.argv[1]), time.process_time(), {}
source, rule = dataset.split("train"), Rule(share=0.1, head="verb")
rows = subsets.choose(source, rule, Head(2))
told["choose"], begun = time.process_time() - begun, time.process_time()
told |= {"rows": len(rows), "rising": bool((rows[1:] > rows[:-1]).all())}
told["clips"] = seen.clips(source.ids()).count
told["seen"] = time.process_time() - begun
kept = subsets.Subset(source, rows, "few", rule).ids()
begun = time.process_time()
told["same"] = subsets._rows("few", rule, dataset, {"verb": Head(2)}, kept) == rows.tolist()
told["again"] = time.process_time() - begun
# Of this process: ru_maxrss begins with that of whoever has started it.
told["memory"] = int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1]) / 1e3
print(json.dumps(told))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def millions(tmp_path_factory):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < SHARDS + records.SPARE:
        pytest.skip(f"a process may open {hard} files here")
    root = tmp_path_factory.mktemp("millions")
    pack(root, [record(i, frames=1) for i in range(EACH)], HEADS)
    folder = root / "clips" / "1.0.0"
    (one,) = folder.glob("*array_record*")
    for i in range(SHARDS):
        os.link(one, folder / f"clips-train.array_record-{i:05d}-of-{SHARDS:05d}")
    one.unlink()
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    info["splits"][0]["shardLengths"] = [str(EACH)] * SHARDS
    path.write_text(json.dumps(info))
    path = root / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"splits": {"train": CLIPS}}))
    return root


def told(code, root):
    environ = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_loader_starts_at_once(millions):
    found = told(START, millions)
    print({name: found[name] for name in ("start", "memory")})
    assert found["start"] < 10 and found["memory"] < 2000, found
    ids = found["ids"]
    assert found["right"] and len(set(ids)) == len(ids) == 3200
    # They are from everywhere, not from the first files.
    assert sum(row < CLIPS / 2 for row in ids) == pytest.approx(1600, abs=150) and max(ids) > 0.99 * CLIPS


def test_a_tenth_of_them_is_chosen_once(millions):
    """Without a look at the records; and a run that goes on starts at once."""
    names = {"train": [f"some_class/clip_{i:08d}" for i in range(CLIPS)]}
    (millions / "index.json").write_text(json.dumps(names))
    labels.save(millions, "0" * 12, {"verb": "single"}, {"train": {"verb": np.arange(CLIPS) % 2}})
    del names
    found = told(SUBSET, millions)
    print(found)
    assert found["rows"] == CLIPS // 10 and found["rising"] and found["clips"] == CLIPS and found["same"]
    assert found["again"] < 10 and found["memory"] < 2000, found
    # A clip is hashed: some 20 s of all, where nothing else runs.
    assert found["choose"] + found["seen"] < 60, found
