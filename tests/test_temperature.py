"""Temperature scaling, from logits alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_scores import made

from mmvid.report import finish, table
from mmvid.scores import file, metrics, numbers, temperature


def drawn(seed, n=400, classes=6, views=1, sharp=1.0):
    """Logits whose softmax at temperature 1 is what labels are drawn from, made ``sharp`` times as large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 1, classes))
    probs = metrics.softmax(logits[:, 0])
    labels = (probs.cumsum(1) > rng.uniform(size=(n, 1))).argmax(1)
    return np.repeat(sharp * logits, views, 1), labels


@pytest.mark.parametrize("sharp", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("views", [1, 3])
def test_logits_that_were_made_too_large_are_made_small_again(sharp, views):
    logits, labels = drawn(0, 4000, views=views, sharp=sharp)
    for how in numbers.AGGREGATES:
        found = temperature.fit(logits, labels, how)
        np.testing.assert_allclose(found, sharp, rtol=0.1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), sharp=st.floats(0.01, 100), how=st.sampled_from(numbers.AGGREGATES))
def test_it_is_never_worse_than_none_and_changes_no_guess(seed, sharp, how):
    logits, labels = drawn(seed, 20, sharp=sharp)
    found = temperature.fit(logits, labels, how)
    assert temperature.LOWEST <= found <= temperature.HIGHEST
    assert temperature.loss(logits, labels, found, how) <= temperature.loss(logits, labels, 1.0, how)
    guess = lambda t: numbers.probabilities(logits / t, how).argmax(1)  # noqa: E731
    if how == "logits":
        np.testing.assert_array_equal(guess(found), guess(1.0))


def test_who_is_never_wrong_and_who_knows_nothing_have_a_temperature():
    labels = np.arange(12) % 6
    sure = 3.0 * np.eye(6)[labels][:, None]
    assert temperature.LOWEST <= temperature.fit(sure, labels) < 0.2
    assert temperature.fit(0 * sure, labels) == 1.0
    with pytest.raises(ValueError, match="one example or more"):
        temperature.fit(sure[:0], labels[:0])


def test_a_split_is_scaled_by_what_was_fitted_on_another():
    logits, labels = drawn(1, 600, sharp=5.0)
    other, truth = drawn(2, 600, sharp=5.0)
    meta = dict(split="val", classes={"action": list("abcdef")})
    fitted = temperature.fitted(made({"rgb": logits, "flow": logits}, labels, **meta))
    assert set(fitted) == {"rgb", "flow", "fused"}
    scores = made({"rgb": other}, truth, **meta | {"split": "test"})
    found = temperature.scaled(scores, fitted)
    assert set(found) == {"rgb"}  # the others are not there
    before = numbers.summary(scores)["rgb"]["action"]["ece"]
    assert found["rgb"]["action"]["ece_scaled"] < 0.5 * before
    # An absent clip has no confidence, and a clip without a label cannot be right.
    scores.present["rgb"][:10] = False
    scores.label["action"][10:20] = -1
    kept = made({"rgb": other[20:]}, truth[20:], **meta)
    assert temperature.scaled(scores, fitted) == temperature.scaled(kept, fitted)


def test_a_temperature_at_its_bound_says_so():
    labels = np.arange(40) % 4
    nothing, everything = np.random.default_rng(0).normal(size=(40, 1, 4)), np.eye(4)[labels][:, None]
    fitted = (temperature.fit(logits, labels) for logits in (100 * nothing, everything))
    assert [*map(temperature.told, fitted)] == ["at least 20", "at most 0.05"]
    assert temperature.told(1.816) == "1.82"


def test_the_table_shows_it_on_clips_that_it_was_not_fitted_on(tmp_path):
    folder = tmp_path / "ce" / "scores"
    for seed, split in enumerate(("val", "test")):
        logits, labels = drawn(seed, 200, sharp=5.0)
        meta = dict(split=split, classes={"action": list("abcdef")}, views=1)
        scores = made({"rgb": logits}, labels, **meta)
        scores = scores._replace(id=np.char.add(f"{split} ", scores.id))
        file.save(folder / f"{split}.npz", scores)
        # Half of it lies in 'val', as the unseen kitchens of EPIC do.
        if split == "val":
            file.save(folder / "unseen.npz", file.rows(scores, np.arange(100)))
    column = finish._loaded(tmp_path, finish.Shown("CE", "ce", ("test", "val", "unseen")), "logits")
    assert set(column.temperatures) == {"test"}
    rows = {row["measure"]: row["cells"] for row in table.rows([column], "test")}
    (cell,) = rows["calibration error, temperature fitted on val"]
    error, told = cell.split(" ", 1)
    own = column.numbers["test"]["rgb"]["action"]
    assert float(error) == round(100 * own["ece_scaled"], 1) < 100 * own["ece"]
    assert told == f"(T {temperature.told(own['temperature'])})" == f"(T {own['temperature']:.2f})"
    assert not any("fitted" in row["measure"] for row in table.rows([column], "val"))
