"""What a segment keeps of its own making."""

import subprocess

from mmvid import files
from mmvid.run import cost


def test_time_adds_up_over_calls_and_so_does_code(tmp_path, monkeypatch):
    now = iter([10.0, 12.0, 15.0, 100.0, 101.0])
    monkeypatch.setattr(cost.time, "monotonic", lambda: next(now))
    first = cost.Meter(tmp_path)
    first.note()
    first.note()
    assert files.read_json(tmp_path / "cost.json")["seconds"] == 5.0
    second = cost.Meter(tmp_path)
    second.made["code"] = "another"
    # As an older mmvid wrote it: one machine, no versions.
    before = files.read_json(tmp_path / "cost.json")
    assert before.pop("versions") == [cost.versions()] and "cpu" in before["machine"][0]
    files.write_json(tmp_path / "cost.json", before | {"machine": "an older one"})
    second.note()
    found = files.read_json(tmp_path / "cost.json")
    assert found["seconds"] == 6.0 and found["code"] == [first.made["code"], "another"] and "T" in found["date"]
    assert found["machine"] == ["an older one", *before["machine"]]
    (versions,) = found["versions"]
    assert versions["jax"] == cost.importlib.metadata.version("jax") and "python" in versions


def test_a_damaged_note_begins_anew(tmp_path):
    (tmp_path / "cost.json").write_text("{")
    cost.Meter(tmp_path).note()
    assert files.read_json(tmp_path / "cost.json")["seconds"] >= 0


def test_the_code_is_a_commit_or_a_version(tmp_path, monkeypatch):
    def git(*arguments):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True)

    def code():
        cost.code.cache_clear()
        return cost.code()

    monkeypatch.setattr(cost, "ROOT", tmp_path)
    try:
        assert code().startswith("mmvid ")
        git("init", "-q")
        (tmp_path / "a.py").write_text("1")
        git("add", "a.py")
        git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a")
        clean = code()
        assert len(clean) == 12 and not set(clean) - set("0123456789abcdef")
        (tmp_path / "a.py").write_text("2")
        assert code() == f"{clean}+changes"
        # An environment inside a repository of somebody else's.
        (tmp_path / "venv").mkdir()
        monkeypatch.setattr(cost, "ROOT", tmp_path / "venv")
        assert code().startswith("mmvid ")
    finally:
        cost.code.cache_clear()
