"""Scores files: exact on ragged batches, kept views, fusion, denominators."""

import json
import logging

import fake
import numpy as np
import pytest
from fake import Source

from mmvid.models.model import Needs
from mmvid.scores import combine as combine_lib
from mmvid.scores import evaluate as evaluate_lib
from mmvid.scores import file, metrics
from mmvid.scores import numbers as numbers_lib
from mmvid.scores.file import Scores
from mmvid.streams import Head, Sampling, Stream

STREAMS = (Stream("rgb", "rgb", Sampling("uniform", 4)), Stream("flow", "flow", Sampling("uniform", 4), "stack5"))
HEADS = {"action": Head(5)}
META = {"split": "test", "clips_expected": 9, "classes": {"action": list("abcde")}}


def predict(batch):
    """Logits that depend on the view's pixels, so that a mixed-up row or view would show."""
    inputs = batch["main"]["inputs"]["test"]
    mean = {n: x.astype(np.float32).mean((2, 3, 4, 5)) for n, x in inputs.items()}
    return {n: {"action": np.stack([m * k for k in range(5)], -1)} for n, m in mean.items()}


def scores(batch_size=4, absent=(), n=7):
    source = Source(n, absent=absent)
    batches = fake.tested(source, STREAMS, heads=HEADS, size=32, protocol="D0U2", batch_size=batch_size)
    needs = {"rgb": Needs(("rgb",)), "flow": Needs(("flow",))}
    dataset = (batches[i] for i in range(len(batches)))
    return evaluate_lib.predict_split(predict, dataset, needs=needs, ids=source.ids(), meta=META)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 7, 16])
def test_ragged_batches_change_nothing(batch_size):
    whole, other = scores(7), scores(batch_size)
    assert other.id.tolist() == [f"clip{i}" for i in range(7)]
    assert other.logits["rgb"]["action"].shape == (7, 2, 5)
    np.testing.assert_allclose(whole.logits["rgb"]["action"], other.logits["rgb"]["action"], rtol=1e-6)


def test_rows_come_in_the_splits_order_whoever_read_them():
    """Several processes gather the rows of a batch one process after another."""
    rng, rows = np.random.default_rng(0), np.array([[4, 1], [0, 3], [2, 2]])
    logits = rng.normal(size=(5, 1, 3)).astype(np.float32)
    mask = np.array([[True, True], [True, True], [True, False]])
    batches = [{"main": {"label": {"action": r % 3}, "present": {"rgb": r > 0}, "id": r, "mask": m}}
               for r, m in zip(rows, mask)]  # fmt: skip
    ask = lambda batch: {"rgb": {"action": logits[batch["main"]["id"]]}}  # noqa: E731
    found = evaluate_lib.predict_split(ask, batches, needs={"rgb": Needs(("rgb",))}, ids=list("abcde"), meta=META)
    np.testing.assert_array_equal(found.logits["rgb"]["action"], logits)
    assert found.row.tolist() == list(range(5)) and found.label["action"].tolist() == [0, 1, 2, 0, 1]
    assert found.present["rgb"].tolist() == [False, True, True, True, True]


def test_a_file_holds_everything(tmp_path):
    found = scores(absent=(3,))
    file.save(tmp_path / "scores" / "test.npz", found)
    back = file.load(tmp_path / "scores" / "test.npz")
    assert back.meta == found.meta and back.present["flow"].tolist() == [True] * 3 + [False] + [True] * 3
    for output in ("rgb", "flow"):
        np.testing.assert_array_equal(back.logits[output]["action"], found.logits[output]["action"])
    assert [p.name for p in (tmp_path / "scores").iterdir()] == ["test.npz"]


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="not evaluated"):
        file.load(tmp_path / "test.npz")
    file.save(tmp_path / "whole.npz", scores())
    whole = (tmp_path / "whole.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for damaged in (b"", b"PK not a zip", whole[: len(whole) // 2], whole[:-4], bytes(flipped)):
        (tmp_path / "test.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            file.load(tmp_path / "test.npz")


def made(logits, labels, present=None, **meta):
    """Scores from arrays {output: [N, V, K]}."""
    n = len(labels)
    present = present or {o: np.ones(n, bool) for o in logits}
    wrapped = {o: {"action": np.asarray(v, np.float32)} for o, v in logits.items()}
    return Scores(
        np.array([f"c{i}" for i in range(n)]), np.arange(n), {"action": np.asarray(labels)}, present, wrapped,
        {"clips_used": n, "clips_expected": n} | meta,
    )  # fmt: skip


def test_clip_and_video_accuracy_differ():
    # Two views: one right and sure, one wrong and unsure.
    views = np.array([[[4.0, 0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, 0]]] * 4)
    numbers = numbers_lib.summary(made({"rgb": views}, [0] * 4))["rgb"]["action"]
    assert numbers["clip_top1"] == 0.5 and numbers["top1"] == 1.0 and numbers["n"] == 4
    missing = numbers_lib.summary(made({"rgb": views}, [0] * 4, clips_expected=8))["rgb"]["action"]
    assert missing["top1_of_expected"] == 0.5


def test_aggregation():
    logits = np.random.default_rng(0).normal(size=(3, 2, 4))
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(numbers_lib.aggregate(logits, "logits"), logits.mean(1))
    np.testing.assert_allclose(numbers_lib.aggregate(logits, "probs"), probs.mean(1))
    np.testing.assert_allclose(numbers_lib.aggregate(logits, "max"), probs.max(1))
    sigmoid = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(numbers_lib.aggregate(logits, "max", kind="multi"), sigmoid.max(1))
    with pytest.raises(ValueError, match="probs"):
        numbers_lib.aggregate(logits, "mean")


@pytest.mark.parametrize("how", numbers_lib.AGGREGATES)
def test_several_labels_are_ranked_by_what_they_were_learnt_by(how):
    """A softmax against the multi-hot vector: a clip whose logits are all large says nothing of any class."""
    rng = np.random.default_rng(0)
    labels, shift = rng.integers(0, 2, (40, 4)), 8 * rng.normal(size=(40, 1, 1))
    views = 2 * labels[:, None] + rng.normal(size=(40, 2, 4)) + shift
    found = {
        multi: numbers_lib.mean_ap(made({"rgb": views}, labels, multi=multi), "rgb", "action", how)
        for multi in ("sigmoid", "softmax")
    }
    probs = metrics.softmax(views.mean(1, keepdims=True) if how == "logits" else views)
    want = metrics.mean_average_precision(probs.max(1) if how == "max" else probs.mean(1), labels)
    assert found["softmax"] == pytest.approx(want, abs=1e-4) and found["softmax"] > found["sigmoid"] + 0.1


def test_fusion_leaves_absent_outputs_out():
    right, wrong = np.eye(6)[[0]][:, None], 5 * np.eye(6)[[1]][:, None]
    present = {"rgb": np.array([True]), "flow": np.array([False])}
    found = numbers_lib.summary(made({"rgb": right, "flow": wrong}, [0], present))
    assert found["fused"]["action"]["top1"] == 1 and found["flow"]["action"]["top1"] == 0
    both = numbers_lib.summary(made({"rgb": right, "flow": wrong}, [0]))
    assert both["fused"]["action"]["top1"] == 0 and both["oracle"]["action"] == 1


def test_every_subset_of_the_modalities():
    """From one scores file: sums of whatever is there; what nobody has is a miss."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 40)
    logits = {o: rng.normal(size=(40, 2, 6)) + np.eye(6)[labels][:, None] for o in ("depth", "flow", "rgb")}
    present = {o: rng.random(40) < 0.7 for o in logits}
    scores = made(logits, labels, present)
    found = numbers_lib.subsets(scores)
    assert list(found) == ["depth", "flow", "rgb", "depth + flow", "depth + rgb", "flow + rgb",
                           "depth + flow + rgb"]  # fmt: skip
    whole = numbers_lib.summary(scores)
    for name in ("depth", "flow", "rgb"):
        assert found[name]["action"]["top1"] == whole[name]["action"]["top1"]
    assert found["depth + flow + rgb"]["action"]["top1"] == whole["fused"]["action"]["top1"]
    total = sum(np.where(present[o][:, None], np.float32(logits[o]).mean(1), 0) for o in ("depth", "rgb"))
    there = present["depth"] | present["rgb"]
    numbers = found["depth + rgb"]["action"]
    assert numbers["top1"] == pytest.approx(np.mean((total.argmax(1) == labels) & there))
    assert numbers["covered"] == there.mean()
    stacked = np.stack([np.where(present[o][:, None], logits[o].mean(1), np.nan) for o in logits])
    assert whole["oracle"]["action"] == metrics.oracle_accuracy(stacked, labels)
    assert numbers_lib.headline_values(scores)["oracle/top1"] == whole["oracle"]["action"]


def test_all_there_is_the_papers_sum():
    rng = np.random.default_rng(1)
    logits, labels = {o: rng.normal(size=(30, 1, 6)) for o in "ab"}, rng.integers(0, 6, 30)
    found = numbers_lib.subsets(made(logits, labels))["a + b"]["action"]["top1"]
    assert found == metrics.sum_accuracy(np.stack([logits["a"][:, 0], logits["b"][:, 0]]), labels)


def test_absent_outputs_are_wrong_everywhere():
    labels = np.array([0, 1, 0, 1])
    right = np.eye(6)[labels][:, None] * 9
    present = {"rgb": np.array([1, 1, 0, 0], bool), "flow": np.array([0, 1, 0, 1], bool)}
    found = numbers_lib.summary(made({"rgb": right, "flow": right}, labels, present))
    for output, share in (("rgb", 0.5), ("flow", 0.5), ("fused", 0.75)):
        numbers = found[output]["action"]
        assert numbers["top1"] == numbers["clip_top1"] == numbers["top5"] == share
        assert numbers["ece"] < 0.01
    assert found["rgb"]["action"]["per_class"][:3] == [0.5, 0.5, None]
    assert found["oracle"]["action"] == 0.75
    nowhere = numbers_lib.summary(made({"rgb": right}, labels, {"rgb": np.zeros(4, bool)}))["rgb"]["action"]
    assert nowhere["top1"] == 0 and nowhere["ece"] is None


def test_numbers_are_those_of_metrics():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 1, 6)), rng.integers(0, 6, 50)
    numbers = numbers_lib.summary(made({"rgb": logits}, labels))["rgb"]["action"]
    probs = metrics.softmax(logits[:, 0])
    assert numbers["ece"] == pytest.approx(metrics.expected_calibration_error(probs, labels), abs=1e-6)
    np.testing.assert_allclose(numbers["per_class"], metrics.per_class_accuracy(probs, labels))
    assert numbers["top5"] == metrics.top_k_accuracy(probs, labels, 5)


def test_an_action_is_right_where_all_its_heads_are():
    eye = np.eye(6, dtype=np.float32)[:, None]
    scores = made({"rgb": eye[[0, 1, 2, 3]]}, [0, 1, 2, 5])
    scores.logits["rgb"]["noun"], scores.label["noun"] = eye[[0, 1, 2, 3]], np.array([0, 4, 2, 3])
    found = numbers_lib.summary(scores)["rgb"]
    assert [found[h]["top1"] for h in ("action", "noun", "action and noun")] == [0.75, 0.75, 0.5]
    assert numbers_lib.headline_values(scores)["rgb/top1_action_and_noun"] == 0.5


def test_without_any_label_there_is_nothing_to_count():
    assert numbers_lib.summary(made({"rgb": np.eye(6)[[0, 1]][:, None]}, [-1, -1])) == {}


def test_multilabel_and_unlabelled():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (20, 4))
    multi = made({"rgb": (labels * 2.0 - 1)[:, None]}, labels)
    numbers = numbers_lib.summary(multi)["rgb"]["action"]
    assert numbers["map"] == 1 and numbers["mauc"] == 1
    assert numbers_lib.headline_values(multi) == {"rgb/map": 1.0}
    half = made({"rgb": np.eye(6)[[0, 1, 2]][:, None]}, [0, -1, 2])
    assert numbers_lib.summary(half)["rgb"]["action"]["n"] == 2


def strict(value):
    """``value`` as JSON that any reader takes: NaN is not."""
    return json.dumps(value, allow_nan=False)


@pytest.mark.parametrize(
    "labels, mean_ap, mean_auc",
    [(np.zeros((4, 3)), False, False), (np.tile([1, 0, 1], (4, 1)), True, False), (np.eye(4)[:, :3], True, True)],
    ids=["no positive", "in every clip", "both"],
)
@pytest.mark.parametrize("how", numbers_lib.AGGREGATES)
def test_undefined_numbers_of_several_labels_are_none(labels, mean_ap, mean_auc, how):
    rng = np.random.default_rng(0)
    scores = made({o: rng.normal(size=(4, 2, 3)) for o in ("flow", "rgb")}, labels.astype(np.float32))
    found, subsets = numbers_lib.summary(scores, how), numbers_lib.subsets(scores, how)
    for output in ("flow", "rgb", "fused"):
        numbers = found[output]["action"]
        assert (numbers["map"] is not None, numbers["mauc"] is not None) == (mean_ap, mean_auc)
    assert set(numbers_lib.headline_values(scores, how)) == ({f"{o}/map" for o in found} if mean_ap else set())
    assert all((n["action"]["map"] is not None) == mean_ap for n in subsets.values())
    strict([found, subsets])


def test_no_class_is_an_answer_and_no_label_is_none():
    logits = {"rgb": np.array([[[2.0, -1]], [[-3.0, -2]], [[1.0, 5]]])}
    labels = np.array([[1, 0], [0, 0], [0, 1]], np.float32)
    assert numbers_lib.summary(made(logits, labels))["rgb"]["action"]["n"] == 3
    labels[1] = -1
    numbers = numbers_lib.summary(made(logits, labels))["rgb"]["action"]
    assert numbers["n"] == 2 and numbers["map"] == 1


@pytest.mark.parametrize("how", numbers_lib.AGGREGATES)
def test_probabilities_are_those_of_what_is_counted(how):
    rng = np.random.default_rng(3)
    labels, logits = rng.integers(0, 6, 80), 4 * rng.normal(size=(80, 3, 6))
    probs = numbers_lib.probabilities(np.float32(logits), how)
    np.testing.assert_allclose(probs.sum(1), 1)
    scores = made({"rgb": logits}, labels)
    numbers = numbers_lib.summary(scores, how)["rgb"]["action"]
    assert numbers["top1"] == np.mean(probs.argmax(1) == labels)
    assert numbers["ece"] == metrics.expected_calibration_error(probs, labels)
    assert numbers_lib.headline_values(scores, how) == {"rgb/top1": numbers["top1"]}


def test_what_is_best_depends_on_the_aggregate():
    """Two views of three are right by a little, one is torn between four others."""
    views = np.array([[[1.0, 0, 0, 0, 0, 0], [0, 9.0, 9.0, 9.0, 9.0, 0], [1.0, 0, 0, 0, 0, 0]]] * 2)
    values = [numbers_lib.headline_values(made({"rgb": views}, [0, 0]), how) for how in numbers_lib.AGGREGATES]
    assert values == [{"rgb/top1": 0}, {"rgb/top1": 1}, {"rgb/top1": 1}]


def test_a_clip_with_a_score_that_is_not_finite_is_a_miss_everywhere():
    labels = np.array([0, 1, 2, 3])
    right = 9 * np.eye(6)[labels][:, None].repeat(2, 1)
    for bad in (np.nan, np.inf, -np.inf):
        spoilt = right.copy()
        spoilt[1, 1, 5] = bad  # one logit of one view
        scores = made({"flow": right, "rgb": spoilt}, labels)
        for how in numbers_lib.AGGREGATES:
            found = numbers_lib.summary(scores, how)
            for output in ("rgb", "fused"):
                numbers = found[output]["action"]
                assert (numbers["top1"], numbers["top5"], numbers["not_finite"]) == (0.75, 0.75, 1)
                assert numbers["clip_top1"] == 0.875 and numbers["per_class"][1] == 0 and numbers["ece"] < 0.01
            assert found["oracle"]["action"] == 1 and found["flow"]["action"]["not_finite"] == 0
            strict([found, numbers_lib.subsets(scores, how)])


def test_several_labels_rank_what_is_absent_or_not_finite_last():
    labels = np.eye(4, dtype=np.float32)
    logits = 9 * np.eye(4)[:, None]
    logits[0, 0, 1], present = np.nan, {"rgb": np.array([1, 1, 1, 0], bool)}
    numbers = numbers_lib.summary(made({"rgb": logits}, labels, present))["rgb"]["action"]
    # Classes 0 and 3 find their clip among the two last of four.
    assert numbers["map"] == pytest.approx((0.25 + 1 + 1 + 0.25) / 4) and numbers["not_finite"] == 1


def test_scores_that_are_not_finite_are_said(caplog, monkeypatch):
    monkeypatch.setattr(file.LOG, "propagate", True)

    def spoilt(batch):
        found = predict(batch)
        found["flow"]["action"][batch["main"]["id"] == 2] = np.nan
        return found

    source = Source(7)
    batches = fake.tested(source, STREAMS, heads=HEADS, size=32, protocol="D0U2", batch_size=4)
    needs = {"rgb": Needs(("rgb",)), "flow": Needs(("flow",))}
    with caplog.at_level(logging.WARNING):
        seen = (batches[i] for i in range(2))
        evaluate_lib.predict_split(spoilt, seen, needs=needs, ids=source.ids(), meta=META)
    assert [r.getMessage() for r in caplog.records] == [
        "test: 1 of 7 clips have scores of 'flow' that are not finite; they count as misses"
    ]


def test_the_five_best_of_five_classes_are_no_score():
    numbers = numbers_lib.summary(made({"rgb": np.eye(5)[[0, 1]][:, None]}, [0, 2]))["rgb"]["action"]
    assert numbers["top5"] is numbers["clip_top5"] is numbers["top5_interval"] is None
    assert numbers_lib.summary(made({"rgb": np.eye(6)[[0, 1]][:, None]}, [0, 5]))["rgb"]["action"]["top5"] == 0.5


def test_of_the_expected_clips_those_without_a_label_are_none():
    """Ten were listed, two were lost, four of the others have no label: six could have been right."""
    labels = [0, 1, 2, 3, -1, -1, -1, -1]
    scores = made({"rgb": np.eye(6)[np.maximum(labels, 0)][:, None]}, labels, clips_expected=10)
    assert numbers_lib.summary(scores)["rgb"]["action"]["top1_of_expected"] == pytest.approx(4 / 6)
    unknown = made({"rgb": np.eye(6)[[0, 1]][:, None]}, [0, 2], clips_expected=0)
    assert numbers_lib.summary(unknown)["rgb"]["action"]["top1_of_expected"] == 0.5


def test_sums_and_oracles_take_the_members_alone():
    """A fusion's joint output, never with its own parts; a file that names no members sums all."""
    eye = np.eye(6)[:, None]
    parts = {"av.audio": 9 * eye[[1, 1]], "av.rgb": 9 * eye[[1, 0]]}
    logits = {**parts, "av.joint": eye[[0, 0]], "flow": 2 * eye[[0, 1]]}
    scores = made(logits, [0, 0], members=["av.joint", "flow"])
    found = numbers_lib.summary(scores)
    assert list(found) == [*logits, "fused", "oracle"]
    assert found["fused"]["action"]["top1"] == 0.5 and found["oracle"]["action"] == 1
    assert list(numbers_lib.subsets(scores)) == ["av.joint", "flow", "av.joint + flow"]
    assert numbers_lib.summary(made(logits, [0, 0]))["fused"]["action"]["top1"] == 0
    alone = numbers_lib.summary(made(logits, [0, 0], members=["av.joint"]))
    assert list(alone) == list(logits)


def pair(seed=0, n=12):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, n)
    return [made({o: rng.normal(size=(n, v, 6)) for o in ("flow", "rgb")}, labels, fingerprint="abc")
            for v in (2, 3)]  # fmt: skip


def test_combined_scores_are_weighted_sums_matched_by_id():
    one, other = pair()
    shuffled = file.rows(other, np.random.default_rng(1).permutation(12))
    found = combine_lib.combine({"a": one, "b": shuffled}, {"a": 2.0, "b": 0.5}, output="rgb")
    want = 2 * one.logits["rgb"]["action"].mean(1) + 0.5 * other.logits["rgb"]["action"].mean(1)
    np.testing.assert_allclose(found.logits["combined"]["action"][:, 0], want, atol=1e-6)
    assert found.id.tolist() == one.id.tolist() and found.label["action"].tolist() == one.label["action"].tolist()
    logs = combine_lib.combine({"a": one, "b": shuffled}, form="log_probs").logits["combined"]["action"][:, 0]
    sums = [np.log(metrics.softmax(numbers_lib.aggregate(file.fused(s)["action"]))) for s in (one, other)]
    np.testing.assert_allclose(logs, sums[0] + sums[1], atol=1e-6)


def test_a_sum_of_a_runs_own_outputs_is_what_fused_is():
    one, _ = pair()
    one.present["flow"][::3] = one.present["rgb"][::6] = False
    parts = {o: one._replace(logits={o: one.logits[o]}, present={o: one.present[o]}) for o in one.logits}
    found = combine_lib.combine(parts)
    assert numbers_lib.summary(found)["combined"]["action"] == {
        **numbers_lib.summary(one)["fused"]["action"],
        # One view is left, so a view alone is a clip.
        **{f"clip_{k}": numbers_lib.summary(found)["combined"]["action"][k] for k in ("top1", "top5")},
    }
    assert not found.present["combined"][0] and found.present["combined"][3]


def test_log_probabilities_of_several_labels_are_each_classs_own():
    found = combine_lib.log_probabilities(np.array([[-800.0, 0, 3]]), "multi")
    np.testing.assert_allclose(found, [[-800, -np.log(2), -np.log1p(np.exp(-3))]], rtol=1e-6)


@pytest.mark.parametrize(
    "change, match",
    [
        (dict(meta={"fingerprint": "xyz"}), "a and b.*fingerprint 'abc' and 'xyz'"),
        (dict(id=np.array([f"d{i}" for i in range(12)])), "24 clips that only one has, 'c0'"),
        (dict(label={"verb": np.zeros(12, int)}, logits={"rgb": {"verb": np.zeros((12, 1, 6))}}), "label spaces"),
        (dict(label={"action": np.arange(12) % 6 + 6}), "labels 'action' of 12 clips, 'c0' among them"),
        (dict(logits={"depth": {"action": np.zeros((12, 1, 6))}}), "b has no output 'rgb'; it has .'depth'"),
    ],
    ids=["fingerprint", "ids", "heads", "labels", "output"],
)
def test_other_data_are_not_combined(change, match):
    one, other = pair()
    with pytest.raises(ValueError, match=match):
        combine_lib.combine({"a": one, "b": other._replace(**change)}, output="rgb")


@pytest.mark.parametrize("options, match", [
    (dict(name="x/y"), "rename it"), (dict(name="fused"), "rename it"), (dict(output="rgb + rgb"), "one twice"),
])  # fmt: skip
def test_what_no_file_of_scores_can_hold_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        combine_lib.combine(dict(zip("ab", pair())), **options)


def test_a_sum_says_what_all_of_it_have_in_common():
    one, other = (
        own._replace(meta=own.meta | more | {"dataset": "x", "protocol": "D1U2"})
        for own, more in zip(pair(), (dict(title="CE", step=1), dict(title="MML", step=2)))
    )
    meta = combine_lib.combine({"a": one, "b": other}).meta
    assert meta["title"] == "CE + MML" and "step" not in meta
    assert (meta["dataset"], meta["protocol"], meta["fingerprint"]) == ("x", "D1U2", "abc")


@pytest.mark.parametrize("weights", [
    {"a": 1.0}, {"a": 1.0, "b": np.nan}, {"a": 1.0, "b": 1.0, "c": 1.0},
    {"a": 1.0, "b": None}, {"a": 1.0, "b": "x"},
])  # fmt: skip
def test_weights_are_numbers_of_all(weights):
    with pytest.raises(ValueError, match="give each of"):
        combine_lib.combine(dict(zip("ab", pair())), weights)
