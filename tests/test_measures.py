"""What is measured of a clip without a network."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_checkup import JPEG, PNG, lively

from mmvid.data import fields


@given(st.integers(0, 255))
def test_brightness_is_that_of_the_pictures(level):
    clip = lively(0, rgb=[JPEG(np.full((16, 20, 3), level, np.uint8))] * 4)
    found = fields.measured(clip, "rgb", fields.sampled(clip, "rgb", 2))
    assert found["brightness"] == pytest.approx(level, abs=1) and found["contrast"] < 1


@given(st.integers(0, 320))
def test_flow_at_the_bound_is_the_share_of_pixels_that_were_cut_off(count):
    plane = np.full(320, 128, np.uint8)
    plane[:count] = 255
    clip = lively(0, flow_x=[PNG(plane.reshape(16, 20))] * 3, flow_y=[PNG(np.full((16, 20), 128, np.uint8))] * 3)
    found = fields.measured(clip, "flow", fields.sampled(clip, "flow", 2))
    assert found["at the bound"] == pytest.approx(100 * count / 320)
    # Half a level is what lies between the two that stand for rest.
    assert found["motion"] == pytest.approx(6 * count / 320, abs=0.05)
