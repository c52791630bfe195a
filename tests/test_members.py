"""Ensembles from saved scores: sums, rank sums, weights, and the command."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_commands import ask

from mmvid import files
from mmvid.scores import file, members
from mmvid.scores.file import Scores
from mmvid.scores.members import Clips, Figure, Member


def some(count=3, clips=40, classes=8, seed=0):
    """Members that are right by chance and a little more, on the same clips."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, clips)
    logits = rng.normal(size=(count, clips, classes)) + 1.5 * np.eye(classes)[label]
    there = np.ones(clips, bool)
    return [Member(f"m{i}", own, there) for i, own in enumerate(logits)], Clips("verb", label)


def test_an_ensemble_is_the_sum_of_logits():
    own, clips = some()
    found = members.figure(own, clips, (0, 2))
    sums = own[0].logits + own[2].logits
    assert found.value == (sums.argmax(-1) == clips.label).mean()
    best = np.argsort(-sums, -1)[:, :5]
    assert found.five == np.mean([label in row for label, row in zip(clips.label, best)])


def test_who_lacks_a_clip_is_left_out_of_its_sum():
    own, clips = some(2)
    lacking = np.arange(40) < 10
    worse = own[1]._replace(logits=np.where(lacking[:, None], np.nan, own[1].logits), present=~lacking)
    found = members.figure([own[0], worse], clips, (0, 1))
    sums = np.where(lacking[:, None], own[0].logits, own[0].logits + own[1].logits)
    assert found.value == (sums.argmax(-1) == clips.label).mean()
    nobody = members.figure([worse], clips, (0,))
    assert nobody.value <= 30 / 40


def test_every_ensemble_once():
    own, clips = some(4)
    found = [figure.members for figure in members.combinations(own, clips)]
    assert len(found) == len(set(found)) == 4 + 6 + 4
    pairs = [figure.members for figure in members.product(own, clips, [(0, 1), (2, 3)])]
    assert pairs == [(0, 2), (0, 3), (1, 2), (1, 3)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=24, max_size=24), st.integers(0, 10**6))
def test_rank_sums_share_out_all_places(hits, seed):
    """Each part's sums add up to those of all places, as in table 13."""
    parts = ((0, 1, 2), (3, 4, 5, 6), (7, 8))
    chosen = [(a, b, c) for a in parts[0] for b in parts[1] for c in parts[2]]
    rng = np.random.default_rng(seed)
    figures = [Figure(own, hit / 5, rng.random()) for own, hit in zip(chosen, hits)]
    sums = members.rank_sums(figures)
    for part in parts:
        assert sum(sums[member] for member in part) == 24 * 23 // 2


def test_the_check_sums_of_table_13():
    """What the paper prints of RGB and of flow adds up; of Diff one number of six is misprinted, by 36."""
    from configs import mml_ensembles

    whole = 858 * 857 // 2
    sums = {part: sum(int(text) for text in own.values()) for part, own in mml_ensembles.TABLE_13.items()}
    assert sums == {"RGB": whole, "Flow": whole, "Diff": whole + 36}


def test_rank_sums_count_from_the_best():
    figures = [
        Figure((0, 2), 0.5, 0.9),
        Figure((1, 2), 0.7, 0.9),
        Figure((0, 3), 0.5, 0.95),
        Figure((1, 3), 0.1, 0.2),
    ]
    assert members.rank_sums(figures) == {1: 0 + 3, 2: 0 + 2, 0: 1 + 2, 3: 1 + 3}


def test_weights_are_found_where_they_are_looked_for():
    own, clips = some(3, clips=400)
    # The third one is wrong on purpose: it must not count.
    spoilt = [*own[:2], own[2]._replace(logits=-4 * own[2].logits)]
    weights = members.tuned(spoilt, clips, (0, 1, 2))
    assert abs(sum(weights) - 1) < 1e-9 and weights[2] == 0 and min(weights[:2]) > 0
    assert (
        members.figure(spoilt, clips, (0, 1, 2), weights).value >= members.figure(spoilt, clips, (0, 1, 2)).value
    )


def test_of_equal_weights_the_most_even_ones():
    label = np.array([0, 1, 2])
    sure = Member("a", 9 * np.eye(3), np.ones(3, bool))
    assert members.tuned([sure, sure], Clips("verb", label), (0, 1)) == (0.5, 0.5)
    with pytest.raises(ValueError, match="12 members have 352,716 ways to be weighed"):
        members.tuned([sure] * 12, Clips("verb", label), range(12))


# ---------------------------------------------------------------------------- runs
def a_run(folder, seed, *, ids=20, fingerprint="f", splits=("test", "val"), outputs=("rgb", "flow")):
    """A run's folder with the scores that `ensemble` reads."""
    rng = np.random.default_rng(seed)
    for place, split in enumerate(splits):
        label = np.random.default_rng(place).integers(0, 6, ids)
        logits = {o: {"verb": rng.normal(size=(ids, 2, 6)) + 2 * np.eye(6)[label][:, None]} for o in outputs}
        meta = dict(split=split, protocol="D1", crops="centre", views=2, dataset="d", fingerprint=fingerprint)
        meta |= dict(clips_used=ids, clips_expected=ids, members=list(outputs), title="MML", segment="mml")
        names = np.array([f"{split}{i}" for i in range(ids)])
        # Rows in another order in every run: clips are matched by their ids.
        order = rng.permutation(ids)
        present = {o: np.ones(ids, bool) for o in outputs}
        whole = Scores(names, np.arange(ids), {"verb": label}, present, logits, meta)
        file.save(folder / "mml" / "scores" / f"{split}.npz", file.rows(whole, order))
    files.write_json(folder / "summary.json", {"mml": {split: {} for split in splits}})
    files.write_text(folder / "config.json", json.dumps({"headline": "rgb", "seed": seed, "plan": "reduced"}))
    return folder


def test_the_command_scores_every_pair_and_triple(tmp_path, monkeypatch, capsys):
    one, other = a_run(tmp_path / "one", 1), a_run(tmp_path / "other", 2)
    assert ask(monkeypatch, "ensemble", f"{one}:all", f"{other}/mml:flow", f"--out={tmp_path}", "--tune=val") == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "ensemble.json").read_text())
    assert [len(own["members"]) for own in found["ensembles"]] == [1, 1, 1, 2, 2, 2, 3]
    assert set(found["members"]) == {"one MML: rgb", "one MML: flow", "other MML: flow"}
    # By hand: the mean over views of each, matched by id, added up.
    a, b = (file.load(run / "mml" / "scores" / "test.npz") for run in (one, other))
    row = {name: i for i, name in enumerate(b.id.tolist())}
    order = [row[name] for name in a.id.tolist()]
    sums = a.logits["rgb"]["verb"].mean(1) + b.logits["flow"]["verb"].mean(1)[order]
    want = (sums.argmax(-1) == a.label["verb"]).mean()
    mixed = sorted(found["members"].index(title) for title in ("one MML: rgb", "other MML: flow"))
    pair = next(own for own in found["ensembles"] if own["members"] == mixed)
    assert pair["value"] == pytest.approx(want)
    assert "weights tuned on val" in said and found["tuned_on"] == "val"
    assert all(abs(sum(own["weights"]) - 1) < 1e-9 for own in found["weights"])
    page = (tmp_path / "ensemble.html").read_text()
    assert "one MML: rgb" in page and "<svg" in page


def test_ensembles_of_parts_have_one_member_of_each(tmp_path, monkeypatch, capsys):
    """In the form of tables 11 (all sums, by rows and columns) and 13 (sums of places), with any runs' scores."""
    one, other = a_run(tmp_path / "one", 1), a_run(tmp_path / "other", 2)
    asked = (f"{one}:rgb", f"{other}:rgb", "+", f"{one}:flow", f"{other}:flow", f"--out={tmp_path}")
    assert ask(monkeypatch, "ensemble", *asked) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "ensemble.json").read_text())
    assert found["parts"] == [[0, 1], [2, 3]]
    sums = {tuple(own["members"]): own for own in found["ensembles"] if len(own["members"]) > 1}
    assert set(sums) == {(0, 2), (0, 3), (1, 2), (1, 3)}
    table = said[said.index("sums (test") :].splitlines()
    titles = found["members"]
    assert all(title in table[1] for title in titles[2:])
    for row, member in zip(table[3:5], (0, 1)):
        assert row.startswith(titles[member])
        for column in (2, 3):
            own = sums[member, column]
            assert f"{100 * own['value']:.1f} / {100 * own['top5']:.1f}" in row
    # Places 0 to 3: each part shares them out.
    ranks = said[said.index("sums of places") :].splitlines()
    assert "in 4 ensembles of 2" in ranks[0]
    places = [[int(text) for text in re.findall(r" (\d+)(?= |$)", line)] for line in ranks[3:5]]
    assert [sum(column) for column in zip(*places)] == [6, 6]
    page = (tmp_path / "ensemble.html").read_text()
    assert "<h2>sums of places, from 0, in 4 ensembles of 2</h2>" in page


def test_seeds_and_runs_of_one_name_are_told_apart(tmp_path, monkeypatch, capsys):
    runs = [a_run(tmp_path / name / "seed0", i) for i, name in enumerate(("a", "b"))]
    assert ask(monkeypatch, "ensemble", *runs, f"--out={tmp_path}") == 0
    assert json.loads((tmp_path / "ensemble.json").read_text())["members"] == [
        "a/seed0 MML: rgb",
        "b/seed0 MML: rgb",
    ]
    runs = [a_run(tmp_path / name / "mine", i) for i, name in enumerate(("a", "b"))]
    assert ask(monkeypatch, "ensemble", *runs, f"--out={tmp_path}") == 0
    capsys.readouterr()
    assert ask(monkeypatch, "ensemble", tmp_path / "a", runs[0], f"--out={tmp_path}") == 2
    assert "seed0" in capsys.readouterr().err


def test_weights_are_not_tuned_on_what_is_reported(tmp_path, monkeypatch, capsys):
    """By whatever name these clips go."""
    run = a_run(tmp_path / "one", 1, splits=("test", "val"))
    scores = run / "mml" / "scores"
    (scores / "val@D1U2-centre.npz").write_bytes((scores / "val.npz").read_bytes())
    code = ask(monkeypatch, "ensemble", f"{run}:all", "--split=val@D1U2-centre", "--tune=val", f"--out={tmp_path}")
    assert code == 2 and "--tune=val has 20 clips" in capsys.readouterr().err


def test_absent_clips_of_several_labels_rank_last():
    label = np.float32([[1], [0], [0], [1]]).repeat(6, 1)
    logits = np.float64([[-1], [-2], [-3], [0]]).repeat(6, 1)
    there = np.array([True, True, True, False])
    figure = members.figure([Member("a", logits, there)], Clips("tags", label, "multi"), (0,))
    assert figure.multi and figure.value == pytest.approx((1 + 2 / 4) / 2)


def test_no_label_at_all_is_said():
    own = Scores(np.array(["a"]), np.zeros(1, int), {"verb": np.array([-1])}, {"rgb": np.ones(1, bool)},
                 {"rgb": {"verb": np.zeros((1, 1, 6))}}, {"fingerprint": "f", "split": "test"})  # fmt: skip
    with pytest.raises(ValueError, match="no clip has a label"):
        members.gathered({"a": (own, "rgb")})


def test_what_something_somethings_test_takes(tmp_path, monkeypatch, capsys):
    """Clips without labels, five classes each, the likeliest first."""
    run = a_run(tmp_path / "one", 1)
    path = run / "mml" / "scores" / "test.npz"
    scores = file.load(path)
    file.save(path, scores._replace(label={"verb": np.full(20, -1)}))
    out = tmp_path / "sub" / "ssv2.csv"
    assert ask(monkeypatch, "ensemble", f"{run}:all", "--split=test", f"--submit={out}", "--tune=val") == 0
    assert "20 clips, the sum of 2, weights " in capsys.readouterr().out
    lines = [line.split(";") for line in out.read_text().splitlines()]
    assert [line[0] for line in lines] == scores.id.tolist() and all(len(set(line[1:])) == 5 for line in lines)
    assert ask(monkeypatch, "ensemble", f"{run}:rgb", "--split=test", f"--submit={out}") == 0
    best = scores.logits["rgb"]["verb"].mean(1).argmax(-1)
    assert [int(line.split(";")[1]) for line in out.read_text().splitlines()] == best.tolist()


def test_a_submission_lacks_no_clip():
    own, clips = some(1)
    clips = clips._replace(id=np.arange(40).astype(str))
    lacking = own[0]._replace(present=np.arange(40) > 0)
    with pytest.raises(ValueError, match="1 clips have no scores of any member, '0' among them"):
        members.submission([lacking], clips, (0,))
    few = own[0]._replace(logits=own[0].logits[:, :4])
    with pytest.raises(ValueError, match="five classes or more"):
        members.submission([few], clips, (0,))


@pytest.mark.parametrize(
    "asked, code, words",
    [
        (("{one}",), 2, "two members or more"),
        (("{one}", "{one}:rgb"), 2, "a member already"),
        (("{one}:sound", "{one}"), 2, "is no output"),
        (("{one}/ce", "{one}"), 2, "no scores of a segment"),
        (("{tmp}/none", "{one}"), 2, "no run that has ended"),
        (("{one}", "{one}:flow", "--tune=test"), 2, "prove nothing"),
        (("{one}", "{one}:flow", "--sizes=two"), 2, "--sizes=two"),
        (("{one}", "{one}:flow", "--top=0"), 2, "--top=0"),
        (("{one}", "+"), 2, "no member before or behind a +"),
        (("+", "{one}"), 2, "no member before or behind a +"),
        (("+",), 2, "stands between members"),
        (("{one}", "+", "{one}:flow", "--submit={tmp}/x.csv"), 2, "leave out the +"),
        (("{one}", "{twin}", "{twin}"), 2, "a member already"),
        (("{one}", "+", "{one}:flow", "--sizes=2"), 2, "one member of each part"),
        (("{one}", "{one}:flow", "--split=unseen"), 1, "no scores at"),
        (("{one}", "{elsewhere}"), 1, "not of the same data"),
    ],
)
def test_what_the_command_refuses(asked, code, words, tmp_path, monkeypatch, capsys):
    places = {"one": a_run(tmp_path / "one", 1), "elsewhere": a_run(tmp_path / "two", 2, fingerprint="g")}
    places["twin"] = a_run(tmp_path / "other" / "one", 3)
    argv = [text.format(tmp=tmp_path, **places) for text in asked]
    assert ask(monkeypatch, "ensemble", *argv, f"--out={tmp_path}") == code
    assert words in capsys.readouterr().err
