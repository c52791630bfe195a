"""What EPIC-Kitchens-55's challenge takes, from the scores of two runs."""

import json
import re
import zipfile

import numpy as np
import pytest
from test_commands import ask

from mmvid import files
from mmvid.scores import file
from mmvid.scores.file import Scores

CLASSES = {"verb": 3, "noun": 4}


def left(folder, *heads, dataset="epic55", how="probs", uids=None, absent=(), name="{}"):
    """A run as it ends, with scores of both tests in two segments, of which the last one counts."""
    stored = {"headline": "av.joint", "evaluation": {"aggregate": how}}
    files.write_json(folder.mkdir() or folder / "config.json", stored)
    found = {}
    for segment in ("naive", "gblend"):
        for test, ids in (uids or {"s1": ["1924", "7", "30"], "s2": ["8"]}).items():
            rng = np.random.default_rng(len(found))
            order = rng.permutation(len(ids))
            logits = {
                o: {h: rng.normal(size=(len(ids), 5, CLASSES[h])) for h in heads} for o in ("av.joint", "rgb")
            }
            present = {"av.joint": ~np.isin(ids, absent)[order], "rgb": np.ones(len(ids), bool)}
            meta = {"dataset": dataset, "clips_used": len(ids), "clips_expected": 3, "members": ["av.joint"]}
            label = {head: np.full(len(ids), -1) for head in heads}
            scores = Scores(np.array(ids)[order], np.arange(len(ids)), label, present, logits, meta)
            file.save(folder / segment / "scores" / f"{name.format(test)}.npz", scores)
            found[segment, test] = scores
    files.write_json(folder / "summary.json", {"naive": {}, "gblend": {}})
    return found


def test_the_archive_holds_both_tests(tmp_path, monkeypatch, capsys):
    scores = left(tmp_path / "verb", "verb", name="{}@E10-centre")
    left(tmp_path / "noun", "noun", name="{}@E10-centre")
    out = tmp_path / "new" / "submission.zip"
    runs = [tmp_path / "verb", tmp_path / "noun"]
    # By name, and as the only ones that there are.
    made = {}
    for flags in (["--splits=s1@E10-centre,s2@E10-centre"], []):
        assert ask(monkeypatch, "submit", *runs, f"--out={out}", *flags) == 0
        said = capsys.readouterr()
        with zipfile.ZipFile(out) as archive:
            made[len(flags)] = archive.read("seen.json"), archive.read("unseen.json")
    assert made[0] == made[1]
    assert "seen.json 3 segments, unseen.json 1 segments" in said.out
    assert "2 of 3 segments of s2 were rejected" in said.err
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == ["seen.json", "unseen.json"]
        seen = json.loads(archive.read("seen.json"))
    assert {name: seen[name] for name in ("version", "challenge")} == {
        "version": "0.1",
        "challenge": "action_recognition",
    }
    assert list(seen["results"]) == ["7", "30", "1924"]
    assert {head: list(own) for head, own in seen["results"]["7"].items()} == {
        "verb": ["0", "1", "2"],
        "noun": ["0", "1", "2", "3"],
    }
    # The challenge takes the softmax of what it is given: the mean of the probabilities of the views.
    own = scores["gblend", "s1"]
    logits = own.logits["av.joint"]["verb"][own.id.tolist().index("30")]
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    given = np.exp(list(seen["results"]["30"]["verb"].values()))
    np.testing.assert_allclose(given / given.sum(), probs.mean(0), rtol=1e-3)


@pytest.mark.parametrize(
    "runs, flags, code, match",
    [
        ({"a": dict(dataset="kinetics400")}, (), 1, "scores of 'kinetics400': the challenge takes those"),
        ({"a": dict()}, (), 2, "give the nouns, and none does"),
        ({"a": dict(), "b": dict()}, (), 2, "give the verbs, and .*a and .*b both do"),
        ({"a": dict(both=True)}, ("--splits=s1",), 2, "takes both tests, s1 and s2"),
        ({"a": dict(both=True)}, ("--splits=s1@E1-centre,s2",), 1, "no scores 's1@E1-centre': it has s1"),
        ({"a": dict(both=True)}, ("--output=flow",), 1, r"--output=av.joint\|rgb"),
        (
            {"a": dict(both=True, absent=("7",))},
            (),
            1,
            "1 of 3 segments have no scores of 'av.joint', as the uid 7",
        ),
        ({"a": dict(both=True, absent=("7",))}, ("--output=rgb",), 0, ""),
        ({"a": dict(), "b": dict(noun=True, uids={"s1": ["7"], "s2": ["8"]})}, (), 1, "2 uids differ"),
        ({}, (), 2, "is no run, there is no config.json"),
    ],
)
def test_what_cannot_be_submitted_is_said(tmp_path, monkeypatch, capsys, runs, flags, code, match):
    for name, own in runs.items():
        own = dict(own)
        heads = ("verb", "noun") if own.pop("both", False) else ("noun",) if own.pop("noun", False) else ("verb",)
        left(tmp_path / name, *heads, **own)
    named = [tmp_path / name for name in runs] or [tmp_path]
    assert ask(monkeypatch, "submit", *named, f"--out={tmp_path / 'x.zip'}", *flags) == code
    assert (tmp_path / "x.zip").exists() == (code == 0)
    if match:
        assert re.search(match, capsys.readouterr().err)
