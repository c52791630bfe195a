"""Metrics against the goldens and against scikit-learn."""

import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from mmvid.scores import metrics

GOLDEN = pathlib.Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "losses.json").read_text())["cases"]
ARRAYS = np.load(GOLDEN / "losses.npz")


def value(case, name):
    return CASES[case]["outputs"][name]["value"]


def test_ece_golden():
    probs = metrics.softmax(ARRAYS["ece/in/logits"])
    found = metrics.expected_calibration_error(probs, ARRAYS["ece/in/labels"])
    assert abs(found - value("ece", "ece")) < 1e-9
    clips = metrics.softmax(ARRAYS["ece/in/clip_logits"].astype(np.float64).mean(1))
    found = metrics.expected_calibration_error(clips, ARRAYS["ece/in/clip_labels"])
    assert abs(found - value("ece", "ece_clips_f32")) < 1e-6


def test_ece_worked():
    conf, hit = np.array([0.95, 0.85, 0.85, 0.4, 0.35]), np.array([1, 1, 0, 0, 1])
    rest = (1 - conf)[:, None] / 3 * np.ones(3)
    found = metrics.expected_calibration_error(np.c_[conf, rest], np.where(hit, 0, 1))
    assert found == pytest.approx(0.2)


def test_map_and_auc_goldens():
    scores, labels = ARRAYS["map/in/scores"], ARRAYS["map/in/labels"]
    assert metrics.mean_average_precision(scores, labels) == pytest.approx(value("map", "map"), abs=1e-12)
    assert metrics.mean_auc(scores, labels) == pytest.approx(value("map", "mauc"), abs=1e-12)
    video = ARRAYS["map/in/clip_scores"].max(1)
    found = metrics.mean_average_precision(video, ARRAYS["map/in/video_labels"])
    assert found == pytest.approx(value("map", "map_video_max"), abs=1e-12)


def test_top_k_golden_and_ties():
    scores, labels = ARRAYS["topk/in/scores"], ARRAYS["topk/in/labels"]
    assert 100 * metrics.top_k_accuracy(scores, labels, 1) == value("topk", "top1")
    assert 100 * metrics.top_k_accuracy(scores, labels, 5) == value("topk", "top5")
    ties = metrics.top_k_hits(ARRAYS["topk/in/tie_scores"], ARRAYS["topk/in/tie_labels"], 5)
    np.testing.assert_array_equal(ties, ARRAYS["topk/out/tie_top5_lowest_index"])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_against_scikit_learn(seed, levels):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.normal(size=(30, 4)), levels - 1)
    labels = rng.integers(0, 2, (30, 4))
    labels[0], labels[1] = 1, 0
    want = average_precision_score(labels, scores, average="macro")
    assert metrics.mean_average_precision(scores, labels) == pytest.approx(want)
    auc = roc_auc_score(labels, scores, average="macro")
    assert metrics.mean_auc(scores, labels) == pytest.approx(auc)
    # A class that no clip has is not counted, nor, in the AUC, one that all have, of which the AP is 1.
    scores, empty = np.hstack([scores, rng.normal(size=(30, 2))]), np.zeros((30, 1), int)
    labels = np.hstack([labels, empty, empty + 1])
    assert metrics.mean_average_precision(scores, labels) == pytest.approx((4 * want + 1) / 5)
    assert metrics.mean_auc(scores, labels) == pytest.approx(auc)


def test_oracle_sum_and_confusion():
    a, b = np.eye(3), np.roll(np.eye(3), 1, axis=1)
    labels = np.array([0, 1, 2])
    assert metrics.oracle_accuracy(np.stack([a, b]), labels) == 1
    assert metrics.sum_accuracy(np.stack([a * 2, b]), labels) == 1
    assert metrics.sum_accuracy(np.stack([a, b * 2]), labels) == 0
    np.testing.assert_array_equal(metrics.confusion_matrix(b, labels), np.roll(np.eye(3, dtype=int), 1, 1))
    assert np.isnan(metrics.per_class_accuracy(a[:2], labels[:2])[2])


def test_nearest_neighbours():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = rng.normal(size=(60, 8)) + 9 * np.eye(8)[labels]
    assert metrics.knn_accuracy(features, labels, features, labels, 1) == 1
    assert metrics.knn_accuracy(features, labels, features + 0.1, labels, 15) == 1
    # All of them vote alike for everybody: each class has as many, so the nearest decides.
    assert metrics.knn_accuracy(features, labels, features, labels, 500) == 1
    one = metrics.knn_accuracy([[0.0], [1], [2], [9]], [0, 1, 1, 0], [[0.0]], [1], 3)
    assert one == 1  # two of three votes beat the nearest


@pytest.mark.parametrize("k", [1, 5, 120])
def test_nearest_neighbours_against_scikit_learn(k):
    neighbors = pytest.importorskip("sklearn.neighbors", reason="scikit-learn is not installed")
    rng = np.random.default_rng(k)
    features, labels = rng.normal(size=(300, 6)) * [1, 1, 1, 1, 1, 50], rng.integers(0, 2, 300)
    asked = rng.normal(size=(300, 6)) * [1, 1, 1, 1, 1, 50]
    mean, std = features.mean(0), features.std(0)
    model = neighbors.KNeighborsClassifier(k).fit((features - mean) / std, labels)
    guesses = model.predict((asked - mean) / std)
    votes = model.predict_proba((asked - mean) / std)
    decided = votes.max(1) > 0.5  # where votes tie, the two differ on purpose
    ours = np.array([metrics.knn_accuracy(features, labels, asked[i : i + 1], guesses[i : i + 1], k)
                     for i in np.flatnonzero(decided)[:60]])  # fmt: skip
    assert ours.all()


def test_intervals():
    rng = np.random.default_rng(0)
    values = rng.random(400) < 0.6
    low, high = metrics.bootstrap_interval(values)
    assert low < values.mean() < high and 0.07 < high - low < 0.12
    mean, low, high = metrics.paired_interval(values, values)
    assert (mean, low, high) == (0, 0, 0)
    with pytest.raises(ValueError, match="same examples"):
        metrics.paired_interval(values, values[1:])


def test_bad_shapes_are_explained():
    with pytest.raises(ValueError, match=r"\[N, K\]"):
        metrics.top_k_accuracy(np.zeros((3, 2)), np.zeros(4, int), 1)
    with pytest.raises(ValueError, match="agree"):
        metrics.mean_average_precision(np.zeros((3, 2)), np.zeros((3, 3)))


def test_what_nothing_defines_is_none():
    scores = np.arange(6.0).reshape(3, 2)
    assert metrics.mean_average_precision(scores, np.zeros((3, 2))) is None
    assert metrics.mean_auc(scores, np.zeros((3, 2))) is None
    # A class that every clip has: its precision is 1, and there is nothing to tell it from.
    always = np.tile([1, 0], (3, 1))
    assert metrics.mean_average_precision(scores, always) == 1 and metrics.mean_auc(scores, always) is None
    assert metrics.expected_calibration_error(np.zeros((0, 3)), np.zeros(0, int)) is None
    assert metrics.knn_accuracy(np.zeros((0, 3)), np.zeros(0, int), np.zeros((2, 3)), np.zeros(2, int), 1) is None
    assert metrics.knn_accuracy(np.zeros((2, 3)), np.zeros(2, int), np.zeros((0, 3)), np.zeros(0, int), 1) is None


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 3))
def test_a_score_that_is_not_finite_is_a_miss(seed, bad, column):
    """Wherever it stands: beside the label it lost every comparison, so that the label won."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 12)
    scores = rng.normal(size=(12, 4)) + 9 * np.eye(4)[labels]
    spoilt = scores.copy()
    spoilt[::3, column] = bad
    fine = np.arange(12) % 3 > 0
    np.testing.assert_array_equal(metrics.top_k_hits(spoilt, labels, 1), fine)
    np.testing.assert_array_equal(metrics.top_k_hits(spoilt, labels, 4), fine)
    assert metrics.oracle_accuracy(np.stack([spoilt, spoilt]), labels) == fine.mean()
    counts, right = (np.bincount(x, minlength=4) for x in (labels, labels[fine]))
    np.testing.assert_array_equal(metrics.confusion_matrix(spoilt, labels), np.diag(right))
    recall = metrics.per_class_accuracy(spoilt, labels)
    np.testing.assert_allclose((recall * counts)[counts > 0], right[counts > 0])
    probs = metrics.softmax(np.where(np.isneginf(spoilt), np.nan, spoilt))
    want = metrics.expected_calibration_error(metrics.softmax(scores[fine]), labels[fine])
    assert metrics.expected_calibration_error(probs, labels) == pytest.approx(want)
    assert metrics.reliability(probs, labels)[:, 2].sum() == fine.sum()


def test_a_reliability_diagram_has_the_bins_of_the_calibration_error():
    """Also for confidences on the very edges, which rounding puts to either side."""
    edges = np.linspace(0, 1, 16)[2:]
    sure = np.concatenate([edges, edges.astype(np.float32)])
    probs = np.concatenate([sure[:, None], np.repeat((1 - sure[:, None]) / 31, 31, 1)], 1)
    labels = np.arange(len(sure)) % 2
    confidence, accuracy, counts = metrics.reliability(probs, labels).T
    error = (np.abs(confidence - accuracy) * counts).sum() / len(sure)
    assert error == pytest.approx(metrics.expected_calibration_error(probs, labels), abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([np.nan, np.inf]))
def test_scores_that_are_not_finite_rank_last(seed, bad):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (10, 3))
    labels[0], labels[1] = 1, 0
    scores = rng.normal(size=(10, 3))
    spoilt, last = scores.copy(), scores.copy()
    spoilt[[0, 4], [1, 2]], last[[0, 4]] = bad, -99
    for form in (metrics.mean_average_precision, metrics.mean_auc):
        assert form(spoilt, labels) == pytest.approx(form(last, labels))


def test_features_that_are_not_finite_are_nobodys_neighbours():
    features, labels = np.array([[0.0], [1], [np.nan], [9]]), np.array([0, 0, 1, 1])
    assert metrics.knn_accuracy(features, labels, [[8.0], [np.nan], [0.5], [0.0]], [1, 0, 0, 0], 1) == 0.75


@pytest.mark.parametrize("seed", range(3))
def test_the_map_of_a_sample_is_that_of_its_examples(seed):
    """Ties, a class without positives, and an example that is not finite."""
    rng = np.random.default_rng(seed)
    scores, labels = np.round(rng.normal(size=(25, 4)), 1), rng.random((25, 4)) < 0.3
    labels[:, 3], scores[4] = False, np.nan
    found = metrics.sampled_map(scores, labels, seed, draws=5)
    weights = np.random.default_rng(seed).multinomial(25, np.full(25, 1 / 25), 5)
    for value, own in zip(found, weights):
        index = np.repeat(np.arange(25), own)
        assert value == pytest.approx(metrics.mean_average_precision(scores[index], labels[index]))
    # Equal seeds draw the same examples: what is equal differs by nothing.
    assert not np.any(found - metrics.sampled_map(scores, labels, seed, draws=5))
    assert np.isnan(metrics.sampled_map(scores, np.zeros((25, 4)), draws=5)).all()


def test_a_sampled_calibration_error_is_that_of_the_sample():
    rng = np.random.default_rng(3)
    confidence, hits, there = rng.uniform(size=30), rng.uniform(size=30) < 0.5, rng.uniform(size=30) < 0.8
    found = metrics.sampled_calibration_error(confidence, hits, there, 5, draws=7)
    weights = np.random.default_rng(5).multinomial(30, np.full(30, 1 / 30), 7)
    for value, own in zip(found, weights):
        chosen = np.repeat(np.arange(30), own * there)
        assert value == pytest.approx(metrics.calibration_error(confidence[chosen], hits[chosen]))
    assert np.isnan(metrics.sampled_calibration_error(confidence, hits, there & False, draws=2)).all()


@given(st.lists(st.lists(st.integers(0, 1), min_size=3, max_size=40), min_size=2, max_size=4))
@settings(deadline=None, max_examples=20)
def test_versions_that_share_no_clip_are_sampled_apart(hits):
    """Their interval holds the mean of means, and is that of one set where there is one."""
    each = [np.array(own) for own in hits]
    low, high = metrics.interval_of_means(each)
    assert low - 1e-9 <= np.mean([own.mean() for own in each]) <= high + 1e-9
    assert metrics.interval_of_means(each[:1]) == metrics.bootstrap_interval(each[0])
