"""Long clips window by window: which spans come of which windows, and of every family's runs."""

import argparse
import csv
import functools
import itertools

import blended
import labelled
import numpy as np
import pytest
import runs
import taught
import untrained
from hypothesis import given
from hypothesis import strategies as st
from test_media import pictures, write

from configs import common
from mmvid import files
from mmvid.commands import answers, predict
from mmvid.data.media import inputs, windows
from mmvid.data.media.item import Refused
from mmvid.data.media.windows import Window
from mmvid.run import predict as predict_lib
from mmvid.run import watch
from mmvid.run.watch import Asked, Cell, Span
from mmvid.streams import Head


# ---------------------------------------------------------------------------- from windows to spans
@given(st.floats(1, 60), st.floats(0.5, 20), st.floats(0.2, 30))
def test_each_moment_belongs_to_one_window(lasts, length, stride):
    """To the one whose middle is nearer, where two see it; to none in a gap."""
    found = windows.between(0, lasts, length, stride)
    own = watch.shares(found)
    assert own[0].start == 0 and own[-1].end == pytest.approx(lasts)
    for before, after, one, other in zip(own, own[1:], found, found[1:]):
        assert one.start <= before.start < before.end <= one.end + 1e-9
        if one.end >= other.start:
            assert before.end == after.start == pytest.approx((one.end + other.start) / 2)
        else:
            assert before.end == one.end and after.start == other.start


LABELS = st.dictionaries(st.sampled_from("abc"), st.floats(0, 1), max_size=3)


@given(st.lists(st.none() | LABELS, min_size=1, max_size=8))
def test_spans_are_runs_of_a_label(labels):
    """Each window of a label is in exactly one of its spans, neighbours in the same one; its probability is their
    mean."""
    cells = [None if own is None else Cell(i, i + 1, own) for i, own in enumerate(labels)]
    spans = watch.joined(cells)
    assert [s.start for s in spans] == sorted(s.start for s in spans)
    for label in "abc":
        has = [i for i, own in enumerate(labels) if own and label in own]
        own = [s for s in spans if s.label == label]
        assert [i for s in own for i in range(s.start, s.end)] == has
        assert all(before.end < after.start for before, after in itertools.pairwise(own))
        for span in own:
            values = [labels[i][label] for i in range(span.start, span.end)]
            assert span.windows == len(values) and span.probability == pytest.approx(np.mean(values))


def found(verb, noun=None, multi=None):
    fused = {"verb": verb} | ({"noun": noun} if noun else {}) | ({"many": multi} if multi else {})
    names = {head: tuple(f"{head}{i}" for i in range(len(values))) for head, values in fused.items()}
    together = ("verb", "noun") if noun else ()
    fused = {head: np.array(values) for head, values in fused.items()}
    return predict_lib.Prediction("a", names=names, fused=fused, together=together)


def test_what_counts_in_a_window():
    """Of one label the likeliest, if it reaches the threshold; of several each class; of two heads their product,
    too."""
    heads = {"verb": Head(3), "noun": Head(2), "many": Head(3, "multi")}
    one = found([0.2, 0.6, 0.2], [0.9, 0.1], [0.7, 0.4, 0.5])
    assert watch._labels(one, heads, None) == {
        "verb": {"verb1": 0.6}, "noun": {"noun0": 0.9}, "many": {"many0": 0.7, "many2": 0.5},
        "verb and noun": {"verb1, noun0": pytest.approx(0.54)},
    }  # fmt: skip
    told = watch._labels(one, heads, 0.65)
    assert told == {"verb": {}, "noun": {"noun0": 0.9}, "many": {"many0": 0.7}, "verb and noun": {}}


# ---------------------------------------------------------------------------- of every family's runs
@pytest.fixture(scope="module", autouse=True)
def toys():
    with runs.toys():
        yield


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A film of three seconds, its sound and its boxes, depth for a clip of one picture a frame."""
    folder = tmp_path_factory.mktemp("film")
    path = write(folder / "a.mp4", frames=pictures(36, 48, 64), sound=3.0)
    boxes = np.float32([[t, 0.1, 0.1, 0.2, 0.3, 1, 1, 0, 0] for t in range(36)])
    np.save(folder / "boxes.npy", boxes)
    return path


TOY = functools.partial(common.network, "toy")
TWO_HEADS = {
    "verb": {"classes": 3, "kind": "single", "names": ["a", "b", "c"]},
    "noun": {"classes": 2, "kind": "single", "names": ["x", "y"]},
}
MULTI = {"verb": {"classes": 3, "kind": "multi", "names": ["a", "b", "c"]}}


def _gone(config, **changes):
    config.dataset.path = "gone"
    config.update_from_flattened_dict(changes)
    return config


# {family: (its configuration, what the dataset says of itself)}
FAMILIES = {
    "single": lambda: (untrained.configured(("rgb", TOY("rgb"))), None),
    "mml": lambda: (_gone(runs.configured("gone", "reduced", "mml"), **{"steps.ce": "4", "steps.ml": "4"}), None),
    "dmcl": lambda: (_gone(runs.configured("gone", "compare", "dmcl"), compare=("independent", "dmcl")), None),
    "distill": lambda: (taught.brief("gone").copy_and_resolve_references().unlock(), None),
    "gblend": lambda: (blended.configured("gone"), None),
    "semi": lambda: (labelled.configured("gone"), None),
    "heads": lambda: (untrained.configured(("rgb", TOY("rgb"))), untrained.info(TWO_HEADS)),
    "multi": lambda: (untrained.configured(("rgb", TOY("rgb"))), untrained.info(MULTI)),
    "audio": lambda: (untrained.configured(("audio", TOY("audio"))), None),
    "boxes": lambda: (untrained.configured(("boxes", TOY("boxes"))), None),
    "heard": lambda: (
        untrained.configured(("av", common.fusion(audio="toy", rgb="toy")), headline="av.joint"),
        None,
    ),
    "omni": lambda: (untrained.configured(("omni", TOY("rgb", "flow3")), **{"headline": "omni.rgb"}), None),
}
OUTPUTS = {
    "single": {"rgb"}, "mml": {"rgb", "flow"}, "dmcl": {"rgb", "flow"}, "distill": {"rgb"}, "gblend": {"av.joint"},
    "semi": {"rgb"}, "heads": {"rgb"}, "multi": {"rgb"}, "audio": {"audio"}, "boxes": {"boxes"},
    "heard": {"av.joint"}, "omni": {"omni.rgb", "omni.flow3"},
}  # fmt: skip


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """``opened(family)``: a run of it that has ended, opened to predict."""

    @functools.cache
    def of(family):
        config, info = FAMILIES[family]()
        workdir = tmp_path_factory.mktemp(family)
        untrained.ended(config, workdir, info)
        return predict.opened(workdir, None, 4)

    return of


@pytest.mark.parametrize("family", FAMILIES)
def test_windows_are_told_as_clips_of_their_seconds_are(opened, film, family):
    """With spans of every head that the family has, by the outputs that speak for it."""
    run, segment = opened(family)
    item = inputs.item(film, hear=predict._hears(segment), boxes=film.parent / "boxes.npy")
    (told,) = watch.watcher(run, segment, Asked(1.0, 0.5, 0.0))([item])
    assert not told.reason and not told.unread and told.windows == 5 and set(told.members) == OUTPUTS[family]
    clips = [item._replace(start=own.start, end=own.end) for own in windows.of(item, 1.0, 0.5)]
    alone = list(predict_lib.predictor(run, segment)(clips))
    assert not any(one.reason for one in alone)
    middles = [(own.start + own.end) / 2 for own in watch.shares(windows.of(item, 1.0, 0.5))]
    for head in predict_lib.heads_of(alone[0]):
        for middle, one in zip(middles, alone):
            here = {own.label for own in told.spans[head] if own.start <= middle < own.end}
            labels = {label for label, _ in one.best(3, head)}
            assert here == (labels if family == "multi" else {one.best(1, head)[0][0]})
    for spans in told.spans.values():
        assert spans[0].start == 0 and max(own.end for own in spans) == pytest.approx(3)


@pytest.mark.parametrize("family, lacks", [("boxes", "boxes"), ("audio", "audio")])
def test_what_networks_need_and_a_film_lacks_is_said(opened, tmp_path, family, lacks):
    """With what can be done; of a run that needs more than one of them the rest speaks."""
    run, segment = opened(family)
    silent = inputs.item(write(tmp_path / "a.mp4", frames=pictures(24, 48, 64)), hear=predict._hears(segment))
    for ask in (predict_lib.predictor(run, segment), watch.watcher(run, segment, Asked(1, 1))):
        (told,) = ask([silent])
        hint = f"its networks read {lacks}, and it has rgb and flow: name its {lacks} in a CSV (id,path,{lacks})"
        assert told.reason == hint


def test_sound_that_ends_before_the_film_is_missing_then_alone(opened, tmp_path):
    run, segment = opened("heard")
    item = inputs.item(write(tmp_path / "a.mp4", frames=pictures(36, 48, 64), sound=1.5), hear=True)
    (told,) = watch.watcher(run, segment, Asked(1, 1))([item])
    assert not told.reason and not told.unread and sorted(told.used) == ["audio", "rgb"]
    assert sum(own.windows for own in told.spans["verb"]) == 3
    assert told.lacking == ((2, pytest.approx(3), "audio"),) and not told.missing
    assert told.spans["verb"][-1][:2] == (2, pytest.approx(3)) and told.spans["verb"][-1].missing == ("audio",)
    assert told.spans["verb"][0].missing == ()


def test_spans_break_where_other_outputs_answer():
    by = [(("av",), ()), (("av",), ()), (("av.rgb",), ("audio",)), (("av.rgb",), ("audio",))]
    cells = [Cell(i, i + 1, {"a": 0.5}, *own) for i, own in enumerate(by)]
    spans = watch.joined(cells)
    assert [(s.start, s.end, s.members, s.missing) for s in spans] == [(0, 2, *by[0]), (2, 4, *by[2])]
    told = watch.Timeline("a", members=("av",), windows=4, spans={"verb": spans}, lacking=((2, 4, "audio"),))
    said = answers.timeline_text(told)
    assert "no audio from 2.00 to 4.00" in said and said.splitlines()[-1].endswith("av.rgb")
    plain = answers.timeline_plain(told)
    assert [own["sum_of"] for own in plain["timeline"]["verb"]] == [("av",), ("av.rgb",)]
    more = {"verb": [*spans, Span(4, 5, "a", 0.5, 1)], "noun": [spans[0]._replace(members=("av", "b"))]}
    rows = list(csv.DictReader(answers.timeline_table([told._replace(spans=more)]).splitlines()))
    assert [own["output"] for own in rows] == ["av", "av.rgb", "av", "av + b"]
    assert (rows[1]["start"], rows[1]["head"], rows[1]["class"], rows[1]["reason"]) == ("2", "verb", "a", "")


def test_what_is_known_when_the_user_stops_is_kept(opened, film, tmp_path, monkeypatch, capsys):
    """Printed and in the file, with what was not looked at; no film is made of a part."""
    run, segment = opened("single")
    each = watch.clips.each

    def stopped(make, jobs, workers, cache):
        yield from itertools.islice(each(make, jobs, workers, cache), 1)
        raise KeyboardInterrupt

    def nothing():
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(watch.clips, "each", stopped)
    monkeypatch.setattr(watch.feed, "eval_batch_size", lambda run: 2)
    items = [inputs.item(film)]
    arguments = argparse.Namespace(json=str(tmp_path / "a.json"), csv=None)
    more = [*items, Refused("later", None, "why")]
    answered = zip(more, [tmp_path / "a.mp4", None], watch.watcher(run, segment, Asked(0.5, 0.5))(more))
    with pytest.raises(KeyboardInterrupt):
        predict._said(answered, arguments, {}, answers.OF_TIMELINES, set())
    (clip,) = files.read_json(tmp_path / "a.json")["clips"]
    assert clip["windows"] == 2 and clip["unread"] == [{"start": 1, "end": 3, "reason": "interrupted"}]
    assert "1.00 - 3.00: not predicted: interrupted" in capsys.readouterr().out
    assert not (tmp_path / "a.mp4").exists()
    with pytest.raises(KeyboardInterrupt):
        predict._said(nothing(), arguments, {}, answers.OF_TIMELINES, set())
    assert files.read_json(tmp_path / "a.json")["clips"] == [clip]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_clips_go_on_where_others_cannot_be_read(opened, film, tmp_path, workers):
    """A text that is called a film, a file that is none, a film shorter than a window, and what was refused."""
    (tmp_path / "text.mp4").write_text("no film")
    short = write(tmp_path / "short.mp4", frames=pictures(3, 48, 64))
    items = [
        inputs.item(tmp_path / "text.mp4"), inputs.item(film), Refused("row", None, "why"), inputs.item(short),
        inputs.item(tmp_path / "none.mp4"),
    ]  # fmt: skip
    run, segment = opened("single")
    text, told, row, brief, none = watch.watcher(run, segment, Asked(2, 1, 0.0), workers=workers)(items)
    assert "not readable as video" in text.reason and "missing file" in none.reason and row.reason == "why"
    assert told.windows == 2 and text.path.endswith("text.mp4")
    assert brief.windows == 1 and brief.spans["verb"][0][:2] == (0, pytest.approx(0.25))
    assert sum(own.windows for own in told.spans["verb"]) == 2


def test_a_threshold_leaves_out_what_is_unsure(opened, film):
    run, segment = opened("single")
    (told,) = watch.watcher(run, segment, Asked(1, 1, 1.0))([inputs.item(film)])
    assert told.spans == {"verb": []} and not told.reason and told.windows == 3


def test_the_spans_of_one_label_are_one():
    cells = [Cell(*own, {"a": share}) for own, share in zip([(0, 1), (1, 2), (2, 4)], (0.5, 0.7, 0.9))]
    assert watch.joined(cells) == [Span(0, 4, "a", pytest.approx(0.7), 3)]
    assert watch.shares([Window(0, 3)]) == [Window(0, 3)]
