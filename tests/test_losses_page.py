"""docs/losses.md, run as a reader would: its sessions are typed, its files are written and tested."""

import doctest
import importlib
import pathlib
import re
import sys
import unittest

import hypothesis
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))


def test_the_sessions_print_what_they_show():
    # Their blocks alone: to doctest a closing fence would be output.
    sessions = "\n".join(re.findall(r"```pycon\n(.*?)```", PAGE, re.DOTALL))
    page = doctest.DocTestParser().get_doctest(sessions, {}, "docs/losses.md", "docs/losses.md", 0)
    said: list[str] = []
    failed, tried = doctest.DocTestRunner(verbose=False).run(page, out=said.append)
    assert tried > 20 and not failed, "".join(said)


def test_the_functions_it_names_are_there():
    named = re.findall(r"^\| `((?:losses|methods)\.[\w.]+)", PAGE, re.MULTILINE)
    assert len(named) == 9
    for name in named:
        room, function = f"mmvid.{name}".rsplit(".", 1)
        assert callable(getattr(importlib.import_module(room), function)), name


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes the page's two files, the loss as it is given, and imports the test of it."""

    def write(loss: str):
        (tmp_path / "focal.py").write_text(loss)
        (tmp_path / "test_focal.py").write_text(FILES["test_focal.py"])
        importlib.invalidate_caches()
        for name in ("focal", "test_focal"):
            sys.modules.pop(name, None)
        return importlib.import_module("test_focal")

    monkeypatch.syspath_prepend(tmp_path)
    # A source of the same second and size would be taken for the one that is compiled.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield write
    for name in ("focal", "test_focal"):
        sys.modules.pop(name, None)


def test_the_property_test_passes(written):
    """On twenty examples, where a reader's run draws a hundred."""
    hypothesis.settings.register_profile("page", hypothesis.settings.default, max_examples=20)
    hypothesis.settings.load_profile("page")
    room = written(FILES["focal.py"])
    hypothesis.settings.load_profile("mmvid")
    cases = unittest.defaultTestLoader.loadTestsFromTestCase(room.FocalTest)
    result = unittest.TestResult()
    cases.run(result)
    assert result.testsRun == 2 and result.wasSuccessful(), result.failures + result.errors
    properties = [value for name, value in vars(room).items() if name.startswith("test_")]
    assert len(properties) == 4
    for holds in properties:
        holds()


def test_the_property_test_catches_a_mistake(written):
    # Classes counted from the wrong end are found by their names.
    room = written(FILES["focal.py"].replace("(logits, label)\n    #", "(logits, 4 - label)\n    #"))
    with pytest.raises(AssertionError):
        room.test_names_of_classes_do_not_matter()
