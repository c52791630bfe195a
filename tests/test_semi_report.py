"""Reports of runs that learn from few labels: draws brought together, figures' numbers by hand, a made-up page."""

from types import SimpleNamespace

import few
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import cmpl
from mmvid.report import arms, auxiliary, draws, pseudo
from mmvid.report.points import Column
from mmvid.run import score
from mmvid.scores import file, metrics
from mmvid.scores import numbers as numbers_lib

HOW = "probs"


def columns_of(workdir, config, **sizes):
    """The columns of a made-up run, as the report reads them."""
    shown = few.segments(workdir, config, **sizes)
    return [
        Column(own.title, own.segment, {"test": file.load(workdir / own.segment / "scores" / "test.npz")})
        for own in shown
    ]


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """Three draws of RGB alone and of RGB with flow: (workdir, configuration, columns)."""
    workdir, config = tmp_path_factory.mktemp("crossed"), cmpl.get_config("cross_modal")
    return workdir, config, columns_of(workdir, config, clips=40, steps=300)


# ---------------------------------------------------------------------------- arms and draws
def test_segments_that_differ_in_their_labels_alone_are_draws_of_one_arm(crossed):
    found = arms.arms(crossed[2], crossed[1])
    # The run's own arm comes last, and each begins with the draw of the run's own labels.
    assert [arm.title for arm in found] == ["Supervised", "FixMatch", "RGB + flow"]
    assert {tuple(arm.labelled) for arm in found} == {("labelled", "labelled_2", "labelled_3")}
    assert found[-1].outputs == found[-1].partners == ("rgb", "flow") and found[1].partners == ()
    assert found[-1].called("flow") == "RGB + flow: flow (auxiliary)" and found[1].called("rgb") == "FixMatch"


def test_arms_of_other_options_or_of_more_labels_are_others(tmp_path):
    config = cmpl.get_config("table")
    found = arms.arms(columns_of(tmp_path, config, clips=20, steps=10), config)
    # With one label and with five three draws of each, of CMPL's rivals one.
    assert [len(arm.draws) for arm in found].count(3) == 6 and len(found) == 6 + len(cmpl.RIVALS) + 2
    rules = {arm.title: arm.labels for arm in found}
    assert rules["CMPL"] == rules["FixMatch"] == rules["CMPL, average"] != rules["CMPL, 5 labels"]
    rates = next(arm for arm in found if arm.title == "FixMatch, frame rates")
    assert rates.outputs == ("rates.flow", "rates.flow_fast")


def test_other_plans_have_no_arms(crossed):
    workdir, config, columns = crossed
    other = {**config.to_dict(), "plan": "gblend"}
    assert arms.arms(columns, other) == draws.lines(workdir, columns, "test", other, "rgb", HOW) == []
    assert pseudo.panel(workdir, columns, "test", other, HOW) == auxiliary.costs(workdir, columns, other) == {}
    assert draws.table_rows([], "test", HOW) == draws.told([], "rgb", "method", "test", HOW) == []


def test_arms_are_paired_clip_by_clip_over_the_draws_that_both_have(crossed):
    workdir, config, columns = crossed
    # Of FixMatch the third draw is not there.
    kept = [column for column in columns if column.segment != "fixmatch_3"]
    found = draws.lines(workdir, kept, "test", config, "rgb", HOW)
    own = next(line for line in found if line.arm.title == "RGB + flow" and line.output == "rgb")
    scores = {column.segment: column.scores["test"] for column in kept}

    def hits(*segments):
        return np.mean([numbers_lib.hits(scores[s], "rgb", "verb", 1, HOW) for s in segments], axis=0)

    over = own.over["fixmatch"]
    pair = hits("method", "cmpl_2"), hits("fixmatch", "fixmatch_2")
    assert over.difference == metrics.paired_interval(*pair) and (over.draws, over.title) == (2, "FixMatch")
    assert own.over["single"].draws == 3 and own.value == pytest.approx(hits("method", "cmpl_2", "cmpl_3").mean())
    # The first rows are the headline's, and nothing is compared with flow.
    made = draws.table_rows(found, "test", HOW)
    assert [row[1] for row in made[1:]] == ["rgb", "rgb", "rgb", "flow"] and made[-1][-2:] == ["", ""]
    assert made[3][-1].endswith("; 2 of 2") and made[3][3].count(",") == 2


@pytest.mark.parametrize("difference, beside, said", [
    ((0.1, 0.05, 0.2), "<", "10.0 [5.0, 20.0] over FixMatch, ahead in 2 of 3 draws (test)"),
    ((0.1, -0.05, 0.2), "≈", "within noise of FixMatch (+10.0 [-5.0, +20.0]), ahead in 2 of 3 draws (test)"),
    ((-0.1, -0.2, -0.05), ">", "10.0 [5.0, 20.0] under FixMatch, ahead in 2 of 3 draws (test)"),
])  # fmt: skip
def test_a_run_says_who_is_ahead_and_what_is_within_noise(crossed, difference, beside, said):
    found = draws.lines(crossed[0], crossed[2], "test", crossed[1], "rgb", HOW)
    over = draws.Over("FixMatch", difference, 2, 3)
    found = [line._replace(over=line.over | {"fixmatch": over}) if line.over else line for line in found]
    values = [draws.percent(line.value) for line in found[:3]]
    first, *rest = draws.told(found, "rgb", "method", "test", HOW)
    assert first.startswith(f"Over 3 labelled draws, rgb top-1: Supervised {values[0]} < FixMatch {values[1]} ")
    assert first.endswith(f"{beside} RGB + flow {values[2]} (test)") and rest[-1] == f"  RGB + flow: rgb {said}"


# ---------------------------------------------------------------------------- pseudo-labels
def test_precision_is_of_all_clips_of_a_window_and_a_gap_where_nothing_is_confident():
    steps = np.arange(6)
    one = pseudo.Shares(steps, np.array([0, 0, 0, 0.5, 0, 1]), np.array([0, 0, 0, 0.5, 0, 0.25]), steps * np.nan)
    windows = pseudo._windows([one, one])
    assert windows.steps.tolist() == [1, 4]
    line = pseudo._percent(windows.steps, windows.right, windows.confident)
    # Not the mean of 100 % and 25 %: a batch counts by how much it was sure of.
    assert np.isnan(line[0][1]) and line[1] == (4, pytest.approx(50))


def test_ratios_are_of_every_output_that_gives_labels(crossed, tmp_path):
    workdir, config, columns = crossed
    found = arms.arms(columns, config)
    panels = pseudo.ratios(workdir, found)
    names = ["FixMatch", "RGB + flow: rgb (primary)", "RGB + flow: flow (auxiliary)"]
    assert list(panels) == [pseudo.CONFIDENT, pseudo.RIGHT, pseudo.PRECISION]
    assert all(list(lines) == names for lines in panels.values())
    # At first nothing was confident.
    assert all(np.isnan(line[0][1]) and line[-1][1] <= 100 for line in panels[pseudo.PRECISION].values())
    assert pseudo.ratios(tmp_path, found) == {}


def test_sources_are_compared_where_the_auxiliary_is_sure(crossed):
    workdir, config, columns = crossed
    settings = config.to_dict()
    *others, own = arms.arms(columns, settings)
    scores = file.load(workdir / "method" / "scores" / "followed.npz")
    sure = numbers_lib.probabilities(scores.logits["flow"]["verb"], HOW).max(1)
    found = pseudo.sources(workdir, [own, *others], settings, HOW)
    assert f"{(sure >= 0.9).sum()} of 40 followed clips" in found["about"]
    assert all(f"> {name}<" in found["figure"] or f">{name}<" in found["figure"]
               for name in ("flow (auxiliary)", "rgb (primary)", "FixMatch"))  # fmt: skip
    none = pseudo.sources(workdir, [own._replace(options={"threshold": 1.1}), *others], settings, HOW)
    assert none["figure"] == "" and "sure (p ≥ 1.1) of 0 of 40" in none["about"]
    assert pseudo.sources(workdir, others, settings, HOW) == {}


# ---------------------------------------------------------------------------- the auxiliary network
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-1, 1)), min_size=3, max_size=12))
def test_correlation_is_that_of_numpy_and_its_interval_lies_in_its_range(pairs):
    x, y = (np.round(np.array(values), 3) for values in zip(*pairs))
    found = auxiliary.correlation(x, y, draws=20)
    if found:
        assert found[0] == pytest.approx(np.corrcoef(x, y)[0, 1]) and -1.001 <= found[1] <= found[2] <= 1.001
    else:
        assert np.ptp(x) == 0 or np.ptp(y) == 0


def test_classes_gain_where_the_auxiliary_is_good(tmp_path):
    config = cmpl.get_config().unlock()
    del config.semi.arms["supervised_fast"]
    columns = columns_of(tmp_path, config, clips=100, steps=10)
    *others, own = arms.arms(columns, config)
    both = [auxiliary.by_class(own, output, "test", "verb", HOW) for output in own.partners]
    hits = numbers_lib.hits(columns[-1].scores["test"], "flow", "verb", 1, HOW)
    np.testing.assert_allclose(both[0], hits.reshape(5, 20).mean(0))
    drawn = auxiliary.gap([own, *others], "test", HOW)
    better = (both[1] > both[0]).sum()
    assert drawn["about"].startswith(f"flow_fast is better than flow in {better} of 20 classes")
    assert drawn["about"].endswith("both as CMPL has trained them")
    # The made-up auxiliary knows what FixMatch lacks.
    assert auxiliary.gain([own, *others], "test", HOW)["about"].startswith("classes gain more the better")
    alone = others[0]._replace(outputs=("flow_fast",), draws=own.draws)
    assert auxiliary.gap([own, *others, alone], "test", HOW)["about"].endswith("both from the labels alone")
    assert auxiliary.gain([own], "test", HOW) == {}


def test_accuracy_with_fewer_frames_is_of_clips_that_were_cut_alike(tmp_path):
    config = cmpl.get_config()
    columns = columns_of(tmp_path, config, clips=40, steps=10)
    own = arms.arms(columns, config)[-1]
    path = tmp_path / "method" / "scores" / "test@E2t2-centre.npz"
    lines = auxiliary._lines(tmp_path, own, "test", HOW)
    assert list(lines) == ["CMPL: flow (primary)", "CMPL: flow_fast (auxiliary)"]
    assert {*map(tuple, lines.values())} == {(1, *config.semi.thinned)}
    right = numbers_lib.hits(file.load(path), "flow", "verb", 1, HOW)
    assert lines["CMPL: flow (primary)"][2] == right.mean()
    # Of other weights, or with other clips: that is no curve.
    for changed in (dict(step=1), dict(protocol="E1t2")):
        scores = file.load(path)
        file.save(path, scores._replace(meta=scores.meta | changed))
        assert {*map(tuple, auxiliary._lines(tmp_path, own, "test", HOW).values())} == {(1, 4)}
        file.save(path, scores)


def test_an_arm_is_scored_with_fewer_frames_where_the_report_looks(tmp_path, monkeypatch):
    config = cmpl.get_config()
    made = few.scored(config, ["flow"], 1.0, 0, 20)
    ask = lambda weights, *asked: made._replace(meta=dict(asked=asked))  # noqa: E731
    monkeypatch.setattr(score, "scorer", lambda run, segment, before: ask)
    monkeypatch.setattr(score.network, "final_weights", lambda state: {})
    run, segment = SimpleNamespace(workdir=tmp_path, config=config), SimpleNamespace(name="method")
    score.evaluator(run, segment)(None, "test", 9, thinned=2)
    assert [path.name for path in (tmp_path / "method" / "scores").iterdir()] == ["test@E2t2-centre.npz"]
    found = file.load(tmp_path / "method" / "scores" / "test@E2t2-centre.npz")
    assert found.meta["asked"] == ["test", 9, "E2t2", "centre"]


def test_what_an_auxiliary_network_costs(crossed):
    workdir, config, columns = crossed
    said = auxiliary.costs(workdir, columns, config)["auxiliary"]
    assert "0.025 GFLOPs a view, 33.3 % of both" in said and "2.00 times as long as FixMatch" in said
    # Where nobody has counted, or there is no auxiliary network.
    assert auxiliary.costs(workdir / "none", columns, config) == {}
    alone = config.copy_and_resolve_references().unlock()
    alone.method.name, alone.semi.networks = "fixmatch", ("rgb",)
    assert auxiliary.costs(workdir, columns, alone) == {}


# ---------------------------------------------------------------------------- the page
@pytest.mark.slow
def test_a_page_shows_the_draws_first_and_then_every_figure(tmp_path):
    config = cmpl.get_config().unlock()
    cmpl.arm(config, "fixmatch_2", "fixmatch", "flow", title="FixMatch, draw 2", labelled="labelled_2")
    config.subsets.labelled_2 = dict(config.subsets.labelled, seed=1)
    text = few.ended(tmp_path, config, clips=40, steps=300)
    assert text.index("Of one labelled draw, flow top-1") < text.index("<svg")
    order = ["<h2>Scores", "How many pseudo-labels", "Whose labels", "Where the auxiliary helps", "Fewer frames"]
    places = [text.index(title) for title in order]
    assert places == sorted(places) and "GFLOPs a view" in text and "nan" not in text.lower()
    assert "FixMatch, draw 2" in text
