"""Boxes of a clip: JSON as Something-Else and layout models have it, EPIC-Kitchens' pickles; their clocks."""

import json
import os
import pickle
import struct

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.readers import table
from mmvid.data.media import detections, hand_objects, json_values
from mmvid.data.media import files as files_lib
from mmvid.data.media import record as record_lib
from mmvid.data.media.item import Item

NO_FLOW = record_lib.Settings(flow="none")
# A film of 30 frames, 10 a second.
FRAMES, FPS, WIDTH, HEIGHT = 30, 10, 64, 48


def varint(number):
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def wire(field, value):
    """A field of a message of Protocol Buffers; like proto3, it leaves out what is 0."""
    if isinstance(value, bytes):
        return varint(field << 3 | 2) + varint(len(value)) + value
    if not value:
        return b""
    whole = isinstance(value, int)
    return varint(field << 3) + varint(value) if whole else varint(field << 3 | 5) + struct.pack("<f", value)


def detected(*, hands=(), objects=(), number=1):
    """The message of a frame: hands (x1, y1, x2, y2, score, side, state) and objects (x1, y1, x2, y2, score)."""
    box = lambda corners: wire(1, b"".join(wire(i, c) for i, c in enumerate(corners, 1)))  # noqa: E731
    out = wire(1, b"P01_01") + wire(2, number)
    for *corners, score, side, state in hands:
        offset = wire(4, wire(1, 0.5) + wire(2, -0.25))
        out += wire(3, box(corners) + wire(2, score) + wire(3, state) + offset + wire(5, side))
    for *corners, score in objects:
        out += wire(4, box(corners) + wire(2, score))
    return out


def annotated(name, numbers, width=WIDTH, height=HEIGHT):
    """A video of Something-Else's annotation, with the fields of the real file: a pillow and a hand a frame; the
    pillow's left side tells the frame."""
    box = lambda x1, x2, kind, std: {  # noqa: E731
        "box2d": {"y1": 12, "y2": height, "x1": x1, "x2": x2},
        "gt_annotation": "object 0", "category": kind, "standard_category": std,
    }  # fmt: skip
    return [
        {"url": f"https://x/annotated_frames/{name}/{n + 1:04d}.jpg", "split": "80perc_106",
         "gt_placeholders": ["pillow"], "name": f"{name}/{n + 1:04d}.jpg", "nr_instances": 2, "task_index": 823,
         "labels": [box(n / 2, width + 6e-14, "pillow", "0000"), box(0, width / 2, "hand", "hand")]}
        for n in numbers
    ]  # fmt: skip


def packed(numbers, **further):
    """The same, re-packed."""
    found = {
        n: [{"category": "object", "x1": n / 2, "y1": 12, "x2": WIDTH, "y2": HEIGHT, "score": 0.5}]
        for n in numbers
    }
    return {"frames": [found.get(i, []) for i in range(max(numbers) + 1)], **further}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "2.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for value in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), 4 * value, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def prepared(film, boxes, start=0.0, end=None, *, fps=None, name="a", short_side=24):
    clip = Item(name, film, "train", {}, start, end, {"boxes": boxes}, fps)
    return record_lib.prepare(clip, NO_FLOW._replace(short_side=short_side))["boxes"]


def stored(tmp_path, value, name="b.json"):
    path = tmp_path / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def lefts(boxes):
    """[(frame, what the left side of its objects tells)]."""
    return [(int(r[0]), round(float(r[1]) * WIDTH * 2)) for r in boxes if r[5] == 1]


# ---------------------------------------------------------------------------- JSON
def test_annotated_boxes_are_shares_of_the_video(tmp_path, film):
    """Of its own size, whatever it is stored at; the file lacks frames, and the clip begins within the video."""
    boxes = prepared(film, stored(tmp_path, {"2": annotated("2", [3, 12, 14, 29])}), 1.0, 2.0)
    np.testing.assert_allclose(
        boxes,
        [[2, 6 / 64, 0.25, 1, 1, 1, 1, 0, 0], [2, 0, 0.25, 0.5, 1, 2, 1, 0, 0],
         [4, 7 / 64, 0.25, 1, 1, 1, 1, 0, 0], [4, 0, 0.25, 0.5, 1, 2, 1, 0, 0]],
        atol=1e-6,
    )  # fmt: skip


def test_frames_at_a_rate_of_their_own_go_by_the_clock(tmp_path, film):
    path = stored(tmp_path, {"2": annotated("2", range(15))})
    assert lefts(prepared(film, path, 1.0, 1.6, fps=5)) == [(0, 5), (1, 6), (2, 6), (3, 7), (4, 7), (5, 8)]
    dense = stored(tmp_path, {"2": annotated("2", range(60))}, "dense.json")
    assert lefts(prepared(film, dense, 1.0, 1.3, fps=20)) == [(0, 20), (1, 22), (2, 24)]
    with pytest.raises(files_lib.DecodeError, match="0 to 59 of a video that has 30, or 15 at 5 a second"):
        prepared(film, dense, fps=5)
    with pytest.raises(files_lib.DecodeError, match="0 to 59 of a video that has 30: count from 0"):
        prepared(film, dense)


@pytest.mark.parametrize("form", ["object", "array", "alone", "lists", "size", "height"])
def test_every_form_says_the_same(tmp_path, film, form):
    dicts = {"id": "2", "template": "[x]", "frames": [{"frame_objects": f} for f in packed([1, 4])["frames"]]}
    value = {
        "object": {"2": packed([1, 4]), "7": packed([2])},
        "array": [packed([2], id="7"), dicts],
        "alone": dicts,
        "lists": {"2": packed([1, 4])["frames"]},
        "size": packed([1, 4], id="2", size=[2 * WIDTH, HEIGHT]),
        "height": packed([1, 4], id="2", height=2 * HEIGHT),
    }[form]
    boxes = prepared(film, stored(tmp_path, value))
    scale = 2 if form in ("size", "height") else 1
    assert boxes[:, [0, 5, 6]].tolist() == [[1, 1, 0.5], [4, 1, 0.5]]
    np.testing.assert_allclose(boxes[:, 1], np.array([0.5, 2]) / WIDTH / scale)


def test_a_video_is_found_by_the_clips_name_or_its_own(tmp_path, film):
    many = stored(tmp_path, {str(i): annotated(str(i), [i]) for i in range(5)})
    assert lefts(prepared(film, many)) == [(2, 2)]
    assert lefts(prepared(film, many, name="3")) == [(3, 3)]
    renamed = film.rename(film.with_name("film.mp4"))
    try:
        with pytest.raises(files_lib.DecodeError, match="no boxes of 'a': it knows '0', '1', '2' and 2 more"):
            prepared(renamed, many)
        one = stored(tmp_path, {"9": annotated("9", [4])}, "one.json")
        assert lefts(prepared(renamed, one)) == [(4, 4)]
    finally:
        renamed.rename(film)


BOX = {"category": "hand", "x1": 0, "y1": 0, "x2": 9, "y2": 9}


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "empty file"),
        ("{}", "it knows no video"),
        ("[]", "it knows no video"),
        ('"boxes"', "neither an object nor an array"),
        ('{"2": [{"name": "2/0001.jpg", "lab', "it breaks off or is damaged: "),
        ('{"2": null', "damaged: the last bracket lacks"),
        ('{"2": [], "3" [}', "no JSON of boxes"),
        ('{"2": []} []', r"b.json is no JSON of boxes: it goes on behind its last bracket, with '\[\]'"),
        ('{"2": [], "3" 5}', "it is damaged: ':' is expected, before '5}'"),
        ('{"2": [] "3": []}', "',' is expected, before '\"3\""),
        ('{2: []}', "a name in quotes is expected|Expecting"),
        ('[{"id": "2", "frames": []}}', "',' is expected, before '}'"),
        ('[{"frames": []}]', "video 1 of its list has no id"),
        ('{"2": [], "2": []}', "video '2': it stands there twice"),
        ({"2": [{"name": "2/0001.jpg"}]}, "video '2': boxes not readable: frame 0 is .*, and not a list of"),
        ({"2": [{"name": "2/one.jpg"}]}, "has the name '2/one.jpg', and not one like '2/0001.jpg'"),
        ({"2": [[], [BOX, {**BOX, "x1": "left"}]]}, "x1 of box 2 of frame 1 is 'left', a number is expected"),
        ({"2": [[{k: v for k, v in BOX.items() if k != "y2"}]]}, "box 1 of frame 0 has no y2: {x1, y1, x2, y2"),
        ({"2": [[3]]}, "box 1 of frame 0 is '3'"),
        ({"2": [[{k: v for k, v in BOX.items() if k != "category"}]]}, "has no category, such as 'hand'"),
        ({"2": [[{**BOX, "score": 7}]]}, "b.json: boxes have the score 7 in frame 0: numbers from 0 to 1"),
        ({"2": [[{**BOX, "score": 0.5}, BOX]]}, "box 2 of frame 0: some boxes have a score, some none"),
        ({"2": [[{**BOX, "x2": float("nan")}]]}, "finite"),
        ({"2": [[{**BOX, "x2": 70}]]}, "a picture of 64 x 48 pixels"),
        ({"2": {"frames": [[BOX]], "size": [0, 5]}}, "pixels, more than 0"),
        ({"2": {"frames": [[BOX]], "size": 5}}, r"size is '5', and not \[width, height\]"),
        ({"2": [{"name": "2/0000.jpg", "labels": [BOX]}]}, "which counts from 1"),
        ({"2": 5}, "a list of frames is expected, not '5'"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)  # fmt: skip
def test_json_that_is_wrong(tmp_path, film, text, reason):
    with pytest.raises(files_lib.DecodeError, match=reason):
        prepared(film, stored(tmp_path, text))


def test_a_wrong_video_costs_the_others_nothing(tmp_path, film):
    path = stored(tmp_path, {"1": [[{**BOX, "x1": None}]], "2": annotated("2", [1])})
    assert lefts(prepared(film, path)) == [(1, 1)]
    with pytest.raises(files_lib.DecodeError, match="not readable"):
        prepared(film, path, name="1")


def test_no_boxes_at_all_and_corners_in_the_wrong_order(tmp_path, film):
    assert prepared(film, stored(tmp_path, {"2": []})).shape == (0, 9)
    turned = {"2": [[{**BOX, "x1": 32, "x2": 16, "y1": 24, "y2": 12}]]}
    assert prepared(film, stored(tmp_path, turned))[0, 1:5].tolist() == [0.25, 0.25, 0.5, 0.5]


def test_pixels_of_no_video_need_a_size(tmp_path):
    clip = Item("2", None, "train")
    path = stored(tmp_path, {"2": packed([1])})
    with pytest.raises(files_lib.DecodeError, match="add its size"):
        detections.read(path, clip, 0, 9)
    path = stored(tmp_path, {"2": packed([1], size=[WIDTH, HEIGHT])}, "sized.json")
    assert detections.read(path, clip, 0, 9).rows[0, 3] == 1


names = st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.lists(st.integers(0, 3), max_size=3))


@settings(max_examples=40)
@given(names, st.integers(1, 40), st.booleans(), st.sampled_from([None, 1]))
def test_a_video_at_a_time_is_what_json_reads(tmp_path_factory, value, chunk, ascii_only, indent):
    """However little of the file is read at once, and wherever in a text or a letter that ends."""
    path = tmp_path_factory.getbasetemp() / "chunks.json"
    whole = {f"_{name}": [numbers, name] for name, numbers in value.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "CHUNK", chunk)
        path.write_text(json.dumps(whole, ensure_ascii=ascii_only, indent=indent), encoding="utf-8")
        assert dict(detections.videos(path)) == whole
        listed = [{"id": name, "frames": frames} for name, frames in whole.items()]
        path.write_text(json.dumps(listed, indent=indent), encoding="utf-8")
        assert list(detections.videos(path)) == [(video["id"], video) for video in listed]
        # Whatever follows it is no part of it.
        path.write_text(path.read_text(encoding="utf-8") + "\n \n]", encoding="utf-8")
        with pytest.raises(files_lib.DecodeError, match="goes on behind its last bracket, with ']'"):
            list(detections.videos(path))


def test_what_is_packed_reads_the_same(tmp_path):
    value = annotated("2", [0, 3, 7])
    path = stored(tmp_path, detections.packed("2", value))
    [(name, again)] = detections.videos(path)
    assert name == "2" and len(path.read_text()) < len(json.dumps(value)) / 2
    for one, other in zip(detections.of_video(value), detections.of_video(again)):
        np.testing.assert_allclose(one, other, atol=1e-3) if isinstance(one, np.ndarray) else one == other
    assert detections.of_video(json.loads(detections.packed("2", value, 240))).height == 240
    sized = {"frames": value, "size": [64, 48]}
    assert detections.of_video(json.loads(detections.packed("2", sized, 240)))[1:] == ((64, 48), 8, False, None)
    wrong = {"x": [[{**BOX, "x1": float("nan")}]]}
    assert detections.packed("x", wrong["x"]) == json.dumps(wrong)


def test_a_csv_names_detections(tmp_path, film):
    stored(tmp_path, {"2": annotated("2", range(15))})
    kitchen(tmp_path / "b.pkl", FRAMES)
    rows = [f"{name},{film},x,{fps},{boxes}" for name, fps, boxes in (("a", 5, "b.json"), ("b", "", "b.pkl"))]
    (tmp_path / "clips.csv").write_text("\n".join(["id,path,label,fps,boxes", *rows]))
    made = [record_lib.prepare(item, NO_FLOW) for item in table.read(tmp_path / "clips.csv").items]
    assert lefts(made[0]["boxes"])[:3] == [(0, 0), (1, 1), (2, 1)] and made[1]["boxes"][-1, 0] == FRAMES - 1


# ---------------------------------------------------------------------------- hand-object detections
def kitchen(path, count, protocol=pickle.DEFAULT_PROTOCOL):
    """The file of a video: frame n has an object at x1 = n / 1000, and a hand where n is even."""
    made = [
        detected(
            objects=[(n / 1000, 0.25, 0.5, 1.0, 0.5)],
            hands=[(0.0, 0.5, 0.125, 0.75, 0.875, 1, 3)] if n % 2 == 0 else (),
            number=n + 1,
        )
        for n in range(count)
    ]
    path.write_bytes(pickle.dumps(made, protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_hands_and_objects(tmp_path, film, protocol):
    boxes = prepared(film, kitchen(tmp_path / "P01_01.pkl", FRAMES, protocol), 1.0, 1.2)
    np.testing.assert_allclose(
        boxes,
        [[0, 0, 0.5, 0.125, 0.75, 2, 0.875, 2, 4], [0, 0.01, 0.25, 0.5, 1, 1, 0.5, 0, 0],
         [1, 0.011, 0.25, 0.5, 1, 1, 0.5, 0, 0]],
        atol=1e-6,
    )  # fmt: skip


def test_hands_and_objects_by_the_clock(tmp_path, film):
    """EPIC-Kitchens counts 60 frames a second of films that have 59.94, or any other rate."""
    boxes = prepared(film, kitchen(tmp_path / "b.pkl", 180), 1.0, 1.3, fps=60)
    assert [(int(r[0]), round(1000 * float(r[1]))) for r in boxes if r[5] == 1] == [(0, 60), (1, 66), (2, 72)]
    with pytest.raises(files_lib.DecodeError, match="0 to 179 of a video that has 30, or 150 at 50 a second"):
        prepared(film, kitchen(tmp_path / "b.pkl", 180), fps=50)
    with pytest.raises(files_lib.DecodeError, match="0 to 129 of"):  # one a frame: fewer are another video's
        prepared(film, kitchen(tmp_path / "c.pkl", 130), fps=60)


def test_only_the_segments_messages_are_read(tmp_path):
    path = kitchen(tmp_path / "b.pkl", 50)
    made = pickle.loads(path.read_bytes())
    made[30] = b"\xff"
    path.write_bytes(pickle.dumps(made))
    clip = Item("a", None)
    assert len(detections.read(path, clip, 0, 30).rows) == 45
    with pytest.raises(files_lib.DecodeError, match=r"boxes of frame 30 are .*: the message breaks off or is of"):
        detections.read(path, clip, 30, 31)


def test_a_broken_message_names_its_file_and_costs_its_own_segment_alone(tmp_path, film):
    path = kitchen(tmp_path / "P01_01.pkl", FRAMES)
    made = pickle.loads(path.read_bytes())
    made[20] = detected(hands=[(0.0, 0.5, 0.125, 0.75, 7.0, 1, 3)])
    path.write_bytes(pickle.dumps(made))
    assert len(prepared(film, path, 0.0, 1.0))
    with pytest.raises(files_lib.DecodeError, match=r"^P01_01\.pkl: boxes have the score 7 in frame 20"):
        prepared(film, path, 1.0, 3.0)


@pytest.mark.parametrize("side, state", [(0, 0), (1, 4), (2, 0), (0, 5)])
def test_sides_and_states_count_from_one(side, state):
    """As STLT's embeddings do, where 0 is unknown; the file leaves out what is 0."""
    message = detected(hands=[(0.0, 0.5, 0.125, 0.75, 0.875, side, state)])
    if side < 2 and state < 5:
        assert hand_objects.rows([message], 0, 1)[0, 7:].tolist() == [side + 1, state + 1]
    else:
        with pytest.raises(files_lib.DecodeError, match=f"side {side} and state {state} of a hand"):
            hand_objects.rows([message], 0, 1)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty file"),
        (b"not a pickle", "no pickle of a list of bytes"),
        (pickle.dumps([b"x"])[:-3], "no pickle of a list of bytes"),
        (pickle.dumps({"a": b""}), "no pickle of a list of bytes"),
        (pickle.dumps(["text"]), "no pickle of a list of bytes"),
        (pickle.dumps([Evil()]), r"it asks for (posix|nt)\.mkdir"),
        (pickle.dumps([np.zeros(2)]), "it asks for numpy"),
    ],
)  # fmt: skip
def test_pickles_that_are_refused(tmp_path, monkeypatch, data, reason):
    """A pickle may run anything: nothing but lists and bytes is let through."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.pkl").write_bytes(data)
    with pytest.raises(files_lib.DecodeError, match=reason):
        hand_objects.messages(tmp_path / "b.pkl")
    assert not (tmp_path / "evil").exists()


@given(st.binary(max_size=40))
def test_any_bytes_are_a_message_or_a_reason(data):
    try:
        rows = hand_objects.rows([data], 0, 1)
    except files_lib.DecodeError as error:
        assert "frame 0" in str(error)
    else:
        assert rows.shape[1] == 9
