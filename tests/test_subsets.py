"""Subsets follow from their rule, the ids and the labels, and stand wherever a split may stand."""

import hashlib
import json
import pickle

import fake
import numpy as np
import pytest
from fake import Source
from fake import info as fake_info
from hypothesis import given
from hypothesis import strategies as st

from mmvid.data import records, rules, subsets
from mmvid.data.augment import Augment
from mmvid.data.groups import Group
from mmvid.data.missing import Incomplete
from mmvid.data.rules import Rule
from mmvid.data.subsets import Subset
from mmvid.models.model import Needs
from mmvid.scores import evaluate
from mmvid.streams import Head, Sampling, Stream

HEADS = {"action": Head(5)}
RGB = Stream("rgb", "rgb", Sampling("uniform", 2))


class Labelled:
    """Ids and labels, nothing else."""

    split = "train"

    def __init__(self, labels, names=None):
        self.given, self.names = labels, names or [f"clip{i}" for i in range(len(labels))]

    def ids(self):
        return self.names

    def labels(self, head):
        assert head == "action"
        return [np.asarray(label) for label in self.given]


def chosen(labels, rule, classes=5, kind="single", **options):
    source = Labelled(labels)
    return subsets.choose(source, rule._replace(head="action"), Head(classes, kind), **options).tolist()


SHARES = st.floats(0.01, 0.99)
SINGLE = st.lists(st.integers(0, 4), min_size=1, max_size=60)
MULTI = st.lists(st.lists(st.integers(0, 1), min_size=5, max_size=5), min_size=1, max_size=40)


# ---------------------------------------------------------------------------- which clips
@given(SINGLE, st.integers(0, 2), SHARES, st.integers(1, 20), st.sampled_from(rules.BY), st.booleans())
def test_clips_of_one_class_each_are_drawn_as_those_of_several(labels, seed, share, many, by, shared):
    """All classes at once as one after the other, clip by clip, with some that have no class."""
    rule = Rule(by=by, seed=seed, head="action", **({"share": share} if shared else {"per_class": many}))
    label = np.asarray(labels) - (np.arange(len(labels)) % 7 == 3)
    label = label[label >= 0]
    if len(label):
        one_by_one = subsets._drawn(np.eye(5, dtype=bool)[label], rule)
        assert sorted(one_by_one) == sorted(subsets._drawn_of_one(label, 5, rule).tolist())


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, unique=True), st.integers(0, 5))
def test_the_order_of_a_seed_is_that_of_digests(names, seed):
    """As subsets of older runs have it."""
    rows = np.arange(len(names))[:: 1 + seed % 2]
    want = sorted(rows.tolist(), key=lambda row: hashlib.sha256(f"{seed}/{names[row]}".encode()).digest())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subsets, "_SOME", 3)
        assert subsets._shuffled(names, rows, seed).tolist() == want


def test_numbers_that_begin_alike_are_told_apart_by_their_ends(monkeypatch):
    ranks = np.array([[2, 9], [1, 7], [2, 3], [1, 8], [0, 5]], np.uint64)
    monkeypatch.setattr(subsets, "_ranks", lambda seed, ids: ranks)
    assert subsets._shuffled("abcde", np.arange(5), 0).tolist() == [4, 1, 3, 2, 0]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(0, 80))
def test_each_next_clip_goes_to_the_class_with_fewest(counts, total):
    """To the smaller class of equals."""
    want = [0] * len(counts)
    for _ in range(min(total, sum(counts))):
        c = min((c for c, n in enumerate(counts) if want[c] < n), key=lambda c: (want[c], counts[c], c))
        want[c] += 1
    assert subsets._evenly(np.array(counts), total).tolist() == want


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_labels_may_be_one_array(kind):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 40) if kind == "single" else rng.integers(0, 2, (40, 5))
    source = Labelled(labels.tolist())
    want = subsets.choose(source, Rule(share=0.4, head="action"), Head(5, kind))
    source.labels = lambda head: labels
    np.testing.assert_array_equal(want, subsets.choose(source, Rule(share=0.4, head="action"), Head(5, kind)))


@given(SINGLE, st.integers(0, 3), SHARES, st.sampled_from(rules.BY), st.randoms())
def test_the_order_of_the_records_does_not_matter(labels, seed, share, by, random):
    rule = Rule(share=share, by=by, seed=seed, head="action")
    source = Labelled(labels)
    order = list(range(len(labels)))
    random.shuffle(order)
    other = Labelled([labels[i] for i in order], [source.names[i] for i in order])
    ids = [{s.ids()[row] for row in subsets.choose(s, rule, Head(5))} for s in (source, other)]
    assert ids[0] == ids[1] and len(ids[0]) == min(max(round(share * len(labels)), 1), len(labels))


@given(SINGLE, SHARES)
def test_by_class_is_as_many_of_each_as_there_are(labels, share):
    rows = chosen(labels, Rule(share=share))
    counts, got = (np.bincount(np.asarray(x, int), minlength=5) for x in (labels, [labels[r] for r in rows]))
    # Whoever has fewer than another one by more than a clip gave all it has.
    assert ((got >= got.max() - 1) | (got == counts)).all()


@given(SINGLE, SHARES)
def test_by_frequency_is_in_proportion(labels, share):
    rows = chosen(labels, Rule(share=share, by="frequency"))
    counts, got = (np.bincount(np.asarray(x, int), minlength=5) for x in (labels, [labels[r] for r in rows]))
    assert (np.abs(got - counts * len(rows) / len(labels)) < 1).all()


@given(SINGLE, st.integers(1, 6))
def test_per_class(labels, k):
    counts = np.bincount(labels, minlength=5)
    got = [labels[row] for row in chosen(labels, Rule(per_class=k))]
    np.testing.assert_array_equal(np.bincount(got, minlength=5), np.minimum(counts, k))
    # In proportion it is as many clips, unless there are no more.
    spread = chosen(labels, Rule(per_class=k, by="frequency"))
    assert len(spread) == min(k * (counts > 0).sum(), len(labels))


@given(MULTI, st.integers(1, 4))
def test_clips_of_several_labels_serve_the_rarest_class_first(labels, k):
    labels = np.array(labels)
    rows, counts = chosen(labels, Rule(per_class=k), kind="multi"), labels.sum(0)
    assert (labels[rows].sum(0) >= np.minimum(counts, k)).all()
    share = chosen(labels, Rule(share=0.5), kind="multi")
    assert len(share) == max(round(0.5 * len(labels)), 1)
    if counts.any():
        rarest = np.flatnonzero(counts == counts[counts > 0].min())[0]
        assert labels[share][:, rarest].any()


def test_seeds_draw_other_clips_and_spans_are_labels():
    labels = [0] * 50
    draws = {tuple(chosen(labels, Rule(share=0.2, seed=seed))) for seed in range(5)}
    assert len(draws) == 5
    spans = [[[2, 0.0, 1.0], [4, 0.5, 2.0]], np.zeros((0, 3)), [[4, 0.0, 1.0]]]
    assert set(chosen(spans, Rule(per_class=1), kind="multi")) in ({0}, {0, 2})


def test_clips_without_a_label_are_not_drawn():
    assert chosen([-1, 0, -1, 1], Rule(share=0.9)) == [1, 3] == chosen([-1, 0, -1, 1], Rule(per_class=9))
    assert chosen([-1, -1], Rule(per_class=1)) == []


# ---------------------------------------------------------------------------- of a configuration
def dataset(monkeypatch, count=20):
    """A dataset of fake clips: 'train' of ``count``, 'test' of four."""
    monkeypatch.setattr(records, "Source", lambda root, split, info: Source(info.splits[split]))
    return records.Dataset("fake", fake_info(train=count, test=4))


def divided(data, path, **rules):
    return subsets.divided({"dataset": data}, rules, {"dataset": HEADS}, path)["dataset"]


def test_what_is_left_is_the_rest(monkeypatch, tmp_path):
    data = divided(
        dataset(monkeypatch), tmp_path / "s.json", rest=dict(without="held"), held=dict(share=0.25),
        few=dict(of="rest", per_class=1),
    )  # fmt: skip
    ids = {name: set(data.split(name).ids()) for name in ("train", "held", "rest", "few")}
    assert ids["held"] | ids["rest"] == ids["train"] and not ids["held"] & ids["rest"]
    assert ids["few"] < ids["rest"] and len(ids["few"]) == 5 == len(ids["held"])
    assert data.info.splits == {"train": 20, "test": 4, "held": 5, "rest": 15, "few": 5}
    assert data.info.expected["held"] == 5 and data.whole("few") == "train" == data.whole("train")
    # The row of a subset's subset is that of the whole split.
    few = pickle.loads(pickle.dumps(data.split("few")))
    assert [f"clip{few[i]['row']}" for i in range(5)] == few.ids() == [few[i]["id"] for i in range(5)]


def test_ids_are_kept_and_labels_read_once(monkeypatch, tmp_path):
    path, rules = tmp_path / "subsets.json", dict(held=dict(share=0.25), rest=dict(without="held"))
    data = divided(dataset(monkeypatch), path, **rules)
    subsets.write(path, {"dataset": data})
    kept = json.loads(path.read_text())
    assert kept["ids"]["held"] == data.split("held").ids()
    assert kept["fingerprints"] == {"dataset": data.info.fingerprint}
    read = []
    monkeypatch.setattr(Source, "labels", lambda self, head: read.append(head) or [np.int32(0)] * len(self))
    again = divided(dataset(monkeypatch), path, **rules)
    assert again.split("held").rows.tolist() == data.split("held").rows.tolist() and not read
    # Another rule is read anew, and so is a damaged file.
    divided(dataset(monkeypatch), path, held=dict(share=0.5))
    path.write_text("{")
    divided(dataset(monkeypatch), path, **rules)
    assert read == ["action", "action"]
    subsets.write(tmp_path / "none.json", {"dataset": dataset(monkeypatch)})
    assert not (tmp_path / "none.json").exists()


@pytest.mark.parametrize("by", rules.BY)
@pytest.mark.parametrize("per_class", [1, 10])
def test_few_labels_and_the_rest(monkeypatch, tmp_path, per_class, by):
    """CMPL's 1 and 10 %: three draws, of which each has its rest, and the ids of all are written."""
    draws = {}
    for seed in range(3):
        path, few = tmp_path / f"{seed}.json", dict(per_class=per_class, by=by, seed=seed)
        data = divided(dataset(monkeypatch, 200), path, labelled=few, rest=dict(without="labelled"))
        subsets.write(path, {"dataset": data})
        ids = {name: set(own) for name, own in json.loads(path.read_text())["ids"].items()}
        assert ids["labelled"] | ids["rest"] == set(data.split("train").ids())
        assert not ids["labelled"] & ids["rest"]
        counts = np.bincount([int(label) for label in data.split("labelled").labels("action")], minlength=5)
        # The classes have forty clips each, so that both rules take as many of each.
        assert counts.tolist() == [per_class] * 5
        draws[seed] = frozenset(ids["labelled"])
    assert len(set(draws.values())) == 3


def test_labels_of_one_dataset_and_clips_of_another(monkeypatch, tmp_path):
    """UCF-101's labels, Kinetics without: a group without labels shows clips whose label spaces are others."""
    main, more = dataset(monkeypatch), dataset(monkeypatch, 40)
    heads = {"dataset": HEADS, "kinetics": {"kind": Head(3)}}
    configured = dict(labelled=dict(per_class=1), some=dict(without="few", dataset="kinetics"),
                      few=dict(share=0.25, dataset="kinetics", head="kind"))  # fmt: skip
    monkeypatch.setattr(Source, "labels", lambda self, head: [np.int32(i % 3) for i in range(len(self))])
    made = subsets.divided({"dataset": main, "kinetics": more}, configured, heads, tmp_path / "s.json")
    assert made["kinetics"].info.splits["some"] == 30 and made["dataset"].info.splits["labelled"] == 3
    both = {"weak": Augment(), "strong": Augment()}
    groups = {"labelled": Group("labelled", 3, {"train": Augment()}),
              "unlabelled": Group("some", 6, both, False, "kinetics")}  # fmt: skip
    sources = {name: made[group.dataset].split(group.split) for name, group in groups.items()}
    (batch,) = fake.trained(sources, groups, (RGB,), heads=HEADS, size=32, seed=0, start=0, stop=1)
    assert "label" not in batch["unlabelled"] and "audit" not in batch["unlabelled"]
    assert set(batch["unlabelled"]["inputs"]) == {"weak", "strong"} and len(batch["unlabelled"]["id"]) == 6
    assert batch["labelled"]["label"]["action"].shape == (3,)


@pytest.mark.parametrize(
    "rules, match",
    [
        (dict(test=dict(share=0.5)), "has a split of that name"),
        (dict(a=dict(part=0.5)), r"'part'; its options: \['of', 'share'"),
        (dict(a=dict(share=1.5)), "between 0 and 1"),
        (dict(a=dict(share=0.5, per_class=3)), "both share and per_class"),
        (dict(a=dict()), r"no without, so it is all: write for instance"),
        (dict(a=dict(per_class=0.5)), "whole number"),
        (dict(a=dict(share=0.5, by="name")), "'frequency'"),
        (dict(a=dict(share=0.5, of="tain")), r"'tain'.*\['test', 'train'\]"),
        (dict(a=dict(without="train")), r"'train' is no subset; there are \['a'\]"),
        (dict(a=dict(share=0.5, head="noun")), r"'noun'.*\['action'\]"),
        (dict(a=dict(without="b"), b=dict(without="a")), "made from each other: . <- . <- ."),
        (dict(a=dict(share=0.999), b=dict(without="a")), "no clip of 'train' is left"),
        (dict(a=dict(share=0.5, dataset="mroe")), r"'mroe': choose one of \['dataset'\].*datasets\.mroe ="),
    ],
    ids=str,
)
def test_rules_that_cannot_be_say_what_to_write(monkeypatch, tmp_path, rules, match):
    with pytest.raises(ValueError, match=match):
        divided(dataset(monkeypatch), tmp_path / "s.json", **rules)


def test_of_several_heads_one_is_named(monkeypatch):
    heads = {"dataset": {"verb": Head(2), "noun": Head(3)}, "more": {"noun": Head(3)}}
    infos = {"dataset": fake_info(train=9), "more": fake_info(all=5)}

    def made(**configured):
        return rules.rules(configured, infos, heads)

    with pytest.raises(ValueError, match=r"head=None.*\['noun', 'verb'\].*head='noun'"):
        made(a=dict(share=0.5))
    assert made(a=dict(share=0.5, head="verb"))["a"].head == "verb"
    rest = made(a=dict(share=0.5, head="verb"), b=dict(without="a"))
    assert list(rest) == ["a", "b"] and rest["b"].head is None
    # Of a further dataset: its splits, its label spaces, its subsets.
    assert made(a=dict(share=0.5, of="all", dataset="more"))["a"].head == "noun"
    for a, match in (
        (dict(share=0.5, dataset="more"), r"of='train': choose one of the splits \['all'\] of 'more'"),
        (dict(without="b", of="all", dataset="more"), r"without='b' is no subset of 'more'; there are \['a'\]"),
    ):
        with pytest.raises(ValueError, match=match):
            made(a=a, b=dict(share=0.5, head="noun"))
    with pytest.raises(ValueError, match=r"subsets\.train: .* has a split of that name"):
        made(train=dict(share=0.5, of="all", dataset="more"))


# ---------------------------------------------------------------------------- in place of a split
def test_training_logs_the_rows_of_the_whole_split():
    held = Subset(Source(7), [5, 2, 6], "held", Rule())
    for source in (held, Incomplete(held, {"rgb": 0.5}, 0)):
        made = fake.trained(
            {"main": source}, {"main": Group("held", 3, {"train": Augment()})}, (RGB,), heads=HEADS,
            size=32, seed=0, start=0, stop=4,
        )  # fmt: skip
        for i in range(4):
            batch = made[i]["main"]
            assert sorted(batch["id"]) == [2, 5, 6]
            np.testing.assert_array_equal(batch["label"]["action"], batch["id"] % 5)


def test_a_subset_is_evaluated_clip_by_clip():
    held = Subset(Source(7), [2, 5, 6], "held", Rule())
    batches = fake.tested(held, (RGB,), heads=HEADS, size=32, batch_size=2)
    scores = evaluate.predict_split(
        lambda batch: {"rgb": {"action": np.zeros((2, 1, 5), np.float32)}}, map(batches.__getitem__, range(2)),
        needs={"rgb": Needs(("rgb",))}, ids=held.ids(), meta={},
    )  # fmt: skip
    assert scores.id.tolist() == ["clip2", "clip5", "clip6"] and scores.row.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(scores.label["action"], [2, 0, 1])
