"""The table of what records hold: counting, reading, hiding; the clip's clock."""

import numpy as np
import pytest
from fake import Source
from hypothesis import given
from hypothesis import strategies as st

from mmvid.data import fields, pictures, stored
from mmvid.streams import FIELDS as NAMES

RECORD = Source(1, frames=30)[0]
BOXES = RECORD["boxes"]


def test_both_tables_have_the_same_rows():
    assert set(fields.FIELDS) == set(NAMES)
    assert {column for row in fields.FIELDS.values() for column in row.columns} <= set(RECORD)


@pytest.mark.parametrize("name", fields.FIELDS)
def test_a_hidden_field_is_absent_and_the_others_are_as_they_were(name):
    whole = RECORD | {"depth": RECORD["flow_x"]}
    without = fields.without(whole, [name])
    assert not fields.present(without, name) and fields.count_frames(without, name) == 0
    for other in set(fields.FIELDS) - {name}:
        assert fields.present(without, other) and fields.count_frames(without, other) >= 29


@pytest.mark.parametrize("changes", [{"boxes": BOXES[:12]}, {"audio": RECORD["audio"][:200]}])
def test_little_of_sound_or_boxes_lasts_as_long_as_the_clip(changes):
    record = RECORD | changes
    assert fields.count_frames(record, "boxes") == fields.count_frames(record, "audio") == 30


def test_frames_of_pictures_end_with_what_is_stored():
    record = RECORD | {"depth": RECORD["flow_x"][:8]}
    assert [fields.count_frames(record, f) for f in ("rgb", "flow", "depth")] == [30, 29, 8]


# ---------------------------------------------------------------------------- boxes
def test_layouts_of_frames():
    layouts = fields.decode_bytes(RECORD, "boxes", [2, 5])
    assert layouts.shape == (2, 14, 8) and layouts.dtype == np.float32
    np.testing.assert_array_equal(
        layouts[0, :2], np.float32([[0.05, 0.25, 0.3, 0.5, 1, 0.9, 0, 1], [0.5, 0.5, 1, 1, 2, 0.8, 1, 1]])
    )
    np.testing.assert_array_equal(layouts[1, 0], BOXES[6 if BOXES[5, 0] == 2 else 5, 1:])
    assert not layouts[0, 2:].any() and not layouts[1, 1:].any()


def test_a_frame_without_rows_is_an_empty_layout():
    record = RECORD | {"boxes": BOXES[BOXES[:, 0] == 3]}
    layouts = fields.decode_bytes(record, "boxes", np.arange(30))
    assert layouts[3].any() and not np.delete(layouts, 3, 0).any()


@given(st.permutations(range(20)))
def test_the_best_fourteen_boxes_stay_in_their_order(scores):
    rows = np.zeros((20, 9), np.float32)
    rows[:, 1], rows[:, 6] = np.arange(20), scores
    kept = fields.decode_bytes({"boxes": rows}, "boxes", [0])[0]
    np.testing.assert_array_equal(kept[:, 0], [i for i in range(20) if scores[i] >= 6])


def test_the_clock_is_the_records():
    times = np.float32(np.arange(30) / 12 + (np.arange(30) > 9))  # a second without pictures
    np.testing.assert_allclose(stored.seconds(RECORD | {"times": times}, [9, 10]), [0.75, 10 / 12 + 1], rtol=1e-6)
    np.testing.assert_allclose(stored.seconds(RECORD, [9, 10]), [0.75, 10 / 12])


# ---------------------------------------------------------------------------- for people
def test_every_field_is_shown_as_pictures_of_one_shape():
    whole = RECORD | {"depth": RECORD["flow_x"]}
    found = fields.filmstrips(whole, 4)
    assert set(found) == set(fields.FIELDS)
    for name, film in found.items():
        assert film.dtype == np.uint8 and film.shape[0] == 4 and film.shape[3] == 3, name
        height, width = film.shape[1:3]
        assert width / height == pytest.approx(48 / 40, abs=0.02), name
    assert fields.filmstrips(fields.without(RECORD, ["rgb", "flow", "audio", "boxes"]), 4) == {}


def test_a_damaged_field_costs_its_own_pictures_alone():
    found = fields.filmstrips(RECORD | {"flow_x": [b"x"] * 29}, 3)
    assert set(found) == {"rgb", "audio", "boxes"}


def test_flow_is_coloured_by_its_direction():
    flow = np.zeros((1, 4, 8, 2), np.float32)
    flow[0, :, :4, 0], flow[0, :, 6:, 0] = 1, -1
    right, rest, left = pictures.wheel(flow)[0, 0, [0, 5, 7]].tolist()
    assert right == [255, 0, 0] and rest == [255, 255, 255] and left == [0, 255, 255]


def test_boxes_are_drawn_where_they_are():
    drawn = fields.filmstrips(fields.without(RECORD, ["rgb"]), 30)["boxes"]
    left = [np.flatnonzero(frame[10:20].any((0, 2)))[0] for frame in drawn]
    assert left[0] == 0 and left[20] == round(20 / 40 * 47) and not drawn[:, :9].any()


def test_a_bang_is_seen_when_it_is_heard():
    sound = np.zeros(40000, np.int16)
    sound[20000:20400] = np.random.default_rng(0).integers(-9000, 9000, 400)
    film = np.concatenate(list(fields.filmstrips(RECORD | {"audio": sound.tobytes()}, 5)["audio"]), 1)
    loud = film.sum((0, 2)).argmax() / film.shape[1]
    assert loud == pytest.approx(0.5, abs=0.02)
