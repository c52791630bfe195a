"""What takes long says so, and how long it has taken."""

import time
import types

import pytest

from mmvid.run import patience, programs


def test_a_block_that_lasts_says_what_it_does_and_no_other(monkeypatch):
    said = []
    with patience.saying("compiling", said.append):
        pass
    monkeypatch.setattr(patience, "UNSAID", 0.0)
    monkeypatch.setattr(patience, "AGAIN", 0.01)
    with pytest.raises(ValueError, match="out"), patience.saying("compiling", said.append):
        while len(said) < 3:
            time.sleep(0.01)
        raise ValueError("out")
    count = len(said)
    assert said[:2] == ["compiling ...", "compiling: 0 s so far"]
    time.sleep(0.03)
    assert len(said) == count


def test_a_program_is_announced_once(monkeypatch):
    """For the segment that compiles it, not for those that share it."""
    said = []
    monkeypatch.setattr(patience, "saying", lambda what: said.append(what) or patience.contextlib.nullcontext())
    run = types.SimpleNamespace(programs={})
    one, two = (types.SimpleNamespace(name=name, spec={"program": {"x": 1}}) for name in ("teachers", "student"))
    made = [programs.shared(run, "step", segment, lambda: lambda x: x + 1) for segment in (one, two)]
    assert made[0] is made[1] and [program(1) for program in (*made, *made)] == [2] * 4
    assert said == ["teachers: compiling its step"]
