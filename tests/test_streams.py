"""The table of modalities: shapes, channels, what a dataset must tell."""

import pytest

from mmvid import streams
from mmvid.streams import Sampling, Stream

RGB, FLOW = Stream("rgb", "rgb"), Stream("flow", "flow", form="stack5")
DIFF = Stream("diff", "diff", form="stack5")


@pytest.mark.parametrize("stream, raw, channels, stack", [(RGB, 3, 3, 1), (FLOW, 10, 10, 5), (DIFF, 18, 15, 6)])
def test_channels(stream, raw, channels, stack):
    found = (streams.form_of(stream).raw, streams.in_channels(stream), streams.stack_length(stream))
    assert found == (raw, channels, stack)
    assert streams.host_shape(stream, 6) == (8, 6, 6, raw) and streams.shape(stream, 6) == (8, 6, 6, channels)


def test_shapes_of_what_is_no_picture():
    audio, boxes = Stream("a", "audio", form="logmel"), Stream("b", "boxes", Sampling(frames=5), "layout")
    assert (streams.host_shape(audio, 48), streams.shape(audio, 48)) == ((100, 256), (100, 40, 1))
    assert streams.host_shape(boxes, 48) == streams.shape(boxes, 48) == (5, 14, 8)
    around = audio._replace(form="logmel_windows", sampling=Sampling(frames=5))
    assert (streams.host_shape(around, 48), streams.shape(around, 48)) == ((5, 48, 160), (5, 48, 48, 3))
    assert streams.host_bytes(audio, 48) == 100 * 256 * 2 and streams.host_bytes(boxes, 48) == 5 * 14 * 8 * 4


def test_a_dataset_must_tell_what_a_modality_needs():
    depth, audio = Stream("d", "depth"), Stream("a", "audio", form="logmel")
    assert "depth_range" in streams.unfit(depth, {}) and not streams.unfit(depth, {"depth_range": (0, 1)})
    assert not streams.unfit(audio, {}) and not streams.unfit(audio, {"audio_rate": 16_000})
    for form in streams.MODALITIES["audio"].forms:
        assert "8000 Hz" in streams.unfit(audio._replace(form=form), {"audio_rate": 8000})


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match="flow"):
        streams.form_of(Stream("x", "thermal"))
    with pytest.raises(ValueError, match="stack5"):
        streams.form_of(Stream("x", "flow", form="stack7"))


def test_a_flip_negates_planes_of_flow_alone():
    """DMCL's code forgets it, and colour pictures have no channel of horizontal motion."""
    found = {
        (modality, form, stored)
        for modality, row in streams.MODALITIES.items()
        for form in row.forms
        for stored in (1, 2, 3)
        if streams.negated(Stream("x", modality, form=form), stored)
    }
    assert found == {("flow", form, 2) for form in ("stack5", "frames", "image3", "image05")}
