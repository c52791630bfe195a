"""What is fetched and sent, and that what was sent can be gone on from wherever that was broken off."""

import json
import os
import pathlib
import shutil

import bucketed
import hypothesis
import pytest
from bucketed import Bucket
from hypothesis import strategies as st

from mmvid import transfer, usage
from mmvid.plans import blended


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """The folder in which buckets lie."""
    for scheme in bucketed.SCHEMES:
        monkeypatch.setitem(bucketed._registry, scheme, Bucket)
    monkeypatch.setenv(bucketed.PLACE, str(tmp_path / "buckets"))
    monkeypatch.setenv("EPATH_USE_TF", "0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "buckets" / "b").mkdir(parents=True)
    transfer.fetched.cache_clear()
    return tmp_path / "buckets"


@pytest.fixture
def copy(bucket):
    return transfer.of("gs://b/runs/a")


def write(folder, **texts):
    """Files of a folder: a name's '__' is a '/'."""
    for name, text in texts.items():
        path = folder / name.replace("__", "/").replace("_JSONL", ".jsonl").replace("_JSON", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def files_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def shown(folder):
    """What a run sees of its copy."""
    return {path: text for path, text in files_of(folder).items() if path != transfer.NOTE}


def checkpoint(folder, step, text="x"):
    at = folder / "ce" / "checkpoints" / str(step)
    for name in ("state/manifest.ocdbt", "state/d/01", "metrics/metrics", transfer.LAST):
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_text(f"{text} {step}")


def elsewhere(copy):
    """The copy of another machine."""
    return copy._replace(here=copy.here.with_name("elsewhere"))


# ---------------------------------------------------------------------------- there and back
def test_what_is_sent_is_fetched_elsewhere(copy, bucket):
    transfer.fetch(copy)
    write(copy.here, config_JSON="{}", ce__metrics_JSONL="1\n", ce__done_JSON="{}")
    checkpoint(copy.here, 20)
    assert transfer.send(copy) == 7 and transfer.send(copy) == 0
    other = elsewhere(copy)
    transfer.fetch(other)
    assert shown(other.here) == shown(copy.here) == files_of(bucket / "b/runs/a")


def test_nothing_of_what_is_being_written_or_of_this_machine_goes(copy, bucket):
    transfer.fetch(copy)
    write(copy.here, a="1")
    passing = ("run.lock", "run.lock.beat", "b.json.being-written", ".cache/jax/x", "rehearsal/a",
               "c.being-written/a", "ce/checkpoints/20.tmp-orbax/state",
               "ce/checkpoints/30/state")  # fmt: skip
    for name in passing:
        (copy.here / name).parent.mkdir(parents=True, exist_ok=True)
        (copy.here / name).write_text("x")
    transfer.send(copy)
    assert files_of(bucket) == {"b/runs/a/a": "1"}


def test_a_checkpoint_that_was_not_sent_to_its_end_is_not_fetched(copy, bucket):
    for step in (10, 20):
        checkpoint(bucket / "b/runs/a", step)
    (bucket / "b/runs/a/ce/checkpoints/20" / transfer.LAST).unlink()
    transfer.fetch(copy)
    assert {path.name for path in (copy.here / "ce/checkpoints").iterdir()} == {"10"}


def test_what_a_killed_fetch_has_left_of_a_checkpoint_is_fetched_again(copy, bucket):
    checkpoint(bucket / "b/runs/a", 10)
    got, last = [], transfer.LAST

    def fail(act, path):
        got.append(path)
        if len(got) == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Bucket, "trouble", staticmethod(fail))
        transfer.fetch(copy)
    assert len(shown(copy.here)) == 2 and not any(path.endswith(last) for path in shown(copy.here))
    transfer.fetch(copy)
    assert shown(copy.here) == files_of(bucket / "b/runs/a")


def test_only_old_checkpoints_and_events_are_removed_there(copy, bucket):
    transfer.fetch(copy)
    write(copy.here, config_JSON="{}", tensorboard__ce__events="1")
    (copy.here / "tensorboard/ce/events").rename(copy.here / "tensorboard/ce/events.out.tfevents.1")
    for step in (10, 20):
        checkpoint(copy.here, step)
    transfer.send(copy)
    shutil.rmtree(copy.here / "ce/checkpoints/10")
    shutil.rmtree(copy.here / "tensorboard")
    (copy.here / "config.json").unlink()
    transfer.send(copy)
    left = files_of(bucket / "b/runs/a")
    assert {path.split("/")[2] for path in left if "checkpoints" in path} == {"20"}
    assert "config.json" in left and not any("tfevents" in path for path in left)


def test_a_copy_that_was_removed_takes_nothing_with_it(copy, bucket):
    transfer.fetch(copy)
    checkpoint(copy.here, 10)
    transfer.send(copy)
    shutil.rmtree(copy.here)
    with pytest.raises(ValueError, match="the copy of gs://b/runs/a was removed, in the folder gs/b/runs/a of"):
        transfer.send(copy)
    assert len(files_of(bucket)) == 4


def test_names_that_would_lie_outside_the_copy_are_left_out(copy, bucket, monkeypatch):
    base = bucket / "b/runs/a"
    names = ("/etc/passwd", "../c", "b/../../c", "", "./d", "e")
    found = {f"{base}/{name}": {"size": 1, "mtime": 1} for name in names}
    monkeypatch.setattr(Bucket, "find", lambda *given, **more: found)
    assert list(transfer.there(copy)) == ["e"]


def test_a_run_without_its_checkpoints(copy, bucket):
    write(bucket / "b/runs/a", config_JSON="{}")
    checkpoint(bucket / "b/runs/a", 10)
    transfer.fetch(copy, transfer.without_checkpoints)
    assert shown(copy.here) == {"config.json": "{}"}
    write(copy.here, ce__scores__val="1")
    assert transfer.send(copy, transfer.without_checkpoints) == 1 and len(files_of(bucket)) == 6
    transfer.fetch(copy)
    assert shown(copy.here) == files_of(bucket / "b/runs/a")


def test_weights_of_losses_are_those_of_a_run_in_a_bucket(bucket):
    write(bucket / "b/runs/a", config_JSON="{}", gblend__blend_JSON=json.dumps(
        {"weights": {"audio": 0.25, "rgb": 0.75}, "heads": {}}))  # fmt: skip
    assert blended.resolved("gs://b/runs/a", ("av.audio", "av.rgb"), ("audio", "rgb")) == "0.25,0.75"
    with pytest.raises(ValueError, match="neither numbers nor a run with weights"):
        blended.resolved("gs://b/runs/none", ("av.audio", "av.rgb"), ("audio", "rgb"))


# ---------------------------------------------------------------------------- who is right
def test_what_a_killed_run_has_not_sent_stays(copy, bucket):
    """Nobody has trained it since."""
    transfer.fetch(copy)
    write(copy.here, config_JSON="{}", ce__metrics_JSONL="1\n")
    transfer.send(copy)
    write(copy.here, ce__metrics_JSONL="1\n2\n")
    checkpoint(copy.here, 20)
    write(bucket / "b/runs/a", ce__scores__val="another command's")
    assert transfer.fetch(copy) == 0
    assert shown(copy.here)["ce/metrics.jsonl"] == "1\n2\n" and "ce/scores/val" in shown(copy.here)
    transfer.send(copy)
    assert shown(copy.here) == files_of(bucket / "b/runs/a")


def test_what_another_machine_has_trained_since_counts(copy, bucket):
    transfer.fetch(copy)
    write(copy.here, config_JSON="{}", ce__metrics_JSONL="1\n")
    transfer.send(copy)
    write(copy.here, ce__metrics_JSONL="1\n2\n")
    checkpoint(copy.here, 20)
    write(bucket / "b/runs/a", ce__metrics_JSONL="1\nanother\n", holder_JSON='{"token": "another"}')
    assert transfer.fetch(copy) == 5
    assert shown(copy.here) == {"config.json": "{}", "ce/metrics.jsonl": "1\nanother\n"}
    aside = files_of(transfer.aside(copy).here)
    assert len(aside) == 5 and aside["ce/metrics.jsonl"] == "1\n2\n"


def test_what_was_removed_in_the_bucket_is_removed_here(copy, bucket):
    """As the message on a damaged checkpoint says."""
    transfer.fetch(copy)
    write(copy.here, config_JSON="{}")
    checkpoint(copy.here, 20)
    transfer.send(copy)
    shutil.rmtree(bucket / "b/runs/a/ce")
    transfer.fetch(copy)
    assert shown(copy.here) == {"config.json": "{}"}


def test_a_note_that_is_damaged_sets_nothing_at_risk(copy, bucket):
    transfer.fetch(copy)
    write(copy.here, config_JSON="{}")
    transfer.send(copy)
    for text in ("", "[1]", '{"files": 3}', '{"files": {"config.json": 3, "b": [1]}}'):
        (copy.here / transfer.NOTE).write_text(text)
        transfer.fetch(copy)
        assert shown(copy.here) == files_of(bucket / "b/runs/a") == {"config.json": "{}"}


# ---------------------------------------------------------------------------- in which order
@st.composite
def days(draw):
    """What a run does between two times that it is sent, and at which act of the bucket it is killed."""
    acts = draw(st.lists(st.sampled_from(["step", "save", "forget", "end", "send"]), max_size=12))
    return acts, draw(st.integers(0, 40))


class Killed(BaseException):
    """As by kill -9."""


def act(folder, what, state):
    """One act of a run: its log never lags behind its checkpoints."""
    state["clock"] += 1
    if what == "step":
        state["step"] += 1
        (folder / "ce").mkdir(exist_ok=True)
        with (folder / "ce/metrics.jsonl").open("a") as log:
            log.write(json.dumps({"step": state["step"]}) + "\n")
    elif what == "save":
        checkpoint(folder, state["step"])
    elif what == "forget" and (folder / "ce/checkpoints").exists():
        for old in sorted((folder / "ce/checkpoints").iterdir(), key=lambda at: int(at.name))[:-1]:
            shutil.rmtree(old)
    elif what == "end":
        for name in ("weights.safetensors", "scores/test.npz", "done.json"):
            (folder / "ce" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "ce" / name).write_text("x")


@hypothesis.settings(max_examples=30, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(days())
def test_what_was_sent_can_be_gone_on_from(tmp_path_factory, day):
    """However far it came: whole checkpoints, none ahead of its log, an end with all that comes before it; and a
    checkpoint is there from the first one on."""
    place = tmp_path_factory.mktemp("day")
    with pytest.MonkeyPatch.context() as patch:
        for scheme in bucketed.SCHEMES:
            patch.setitem(bucketed._registry, scheme, Bucket)
        patch.setenv(bucketed.PLACE, str(place / "buckets"))
        (place / "buckets/b").mkdir(parents=True)
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        copy, (acts, limit), state = transfer.of("gs://b/a"), day, {"step": 0, "clock": 0, "sent": 0}

        def trouble(what, path):
            state["sent"] += 1
            if state["sent"] > limit:
                raise Killed

        transfer.fetch(copy)
        patch.setattr(Bucket, "trouble", staticmethod(trouble))
        had = False
        try:
            for what in [*acts, "send"]:
                act(copy.here, what, state)
                if what == "send":
                    transfer.send(copy)
                    had = had or bool(whole(place / "buckets/b/a"))
        except Killed:
            pass
        there = place / "buckets/b/a"
        log = (
            (there / "ce/metrics.jsonl").read_text().splitlines() if (there / "ce/metrics.jsonl").exists() else []
        )
        steps = whole(there)
        assert not had or steps
        assert max(steps, default=0) <= max((json.loads(line)["step"] for line in log), default=0)
        if (there / "ce/done.json").exists():
            assert (there / "ce/weights.safetensors").exists() and (there / "ce/scores/test.npz").exists()
        patch.setattr(Bucket, "trouble", staticmethod(lambda *given: None))
        other = elsewhere(copy)
        transfer.fetch(other)
        assert whole(other.here) == steps
        for step in steps:
            assert len(files_of(other.here / f"ce/checkpoints/{step}")) == 4
        # The same machine goes on with what it has, all of it.
        before = shown(copy.here)
        transfer.fetch(copy)
        assert before.items() <= shown(copy.here).items()
        transfer.send(copy)
        assert before.items() <= files_of(there).items()


def whole(folder):
    return sorted(int(path.parent.name) for path in folder.glob(f"ce/checkpoints/*/{transfer.LAST}"))


# ---------------------------------------------------------------------------- what goes wrong
def test_a_bucket_that_cannot_be_read_or_written_is_told(copy, bucket, monkeypatch):
    transfer.fetch(copy)
    write(copy.here, a="1")

    def refuse(act, path):
        raise PermissionError("403 Forbidden\nand a page of HTML")

    monkeypatch.setattr(Bucket, "trouble", staticmethod(refuse))
    with pytest.raises(ValueError, match=r"a cannot be written \(PermissionError: 403 Forbidden\): see that this"):
        transfer.send(copy)
    write(bucket / "b/runs/a", b="1")
    with pytest.raises(ValueError, match=r"runs/a/b cannot be read \(PermissionError: 403 Forbidden\)"):
        transfer.fetch(copy)


def test_a_disk_without_room_is_told_before_anything_is_fetched(copy, bucket, monkeypatch):
    write(bucket / "b/runs/a", b="12345")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 5, 4))
    with pytest.raises(OSError, match=r"gs://b/runs/a has 5e-09 GB to fetch, .* has 4e-09 GB free"):
        transfer.fetch(copy)
    assert not shown(copy.here)


@pytest.mark.parametrize("url", ["gs://b", "gs://b/", "s3://"])
def test_a_bucket_as_a_whole_is_no_run(url):
    with pytest.raises(usage.WrongUse, match="name a folder in it"):
        transfer.of(url)


def test_a_file_that_goes_while_it_is_sent_takes_its_checkpoint_with_it(copy, bucket, monkeypatch):
    """Orbax removes file by file."""
    transfer.fetch(copy)
    checkpoint(copy.here, 10)
    checkpoint(copy.here, 20)

    def remove(act, path):
        if path.endswith("10/state/d/01"):
            (copy.here / "ce/checkpoints/10/state/d/01").unlink()

    monkeypatch.setattr(Bucket, "trouble", staticmethod(remove))
    transfer.send(copy)
    assert whole(bucket / "b/runs/a") == [20]


def test_a_checkpoint_that_is_removed_is_none_from_the_first_file_on(copy, bucket, monkeypatch):
    transfer.fetch(copy)
    checkpoint(copy.here, 10)
    transfer.send(copy)
    shutil.rmtree(copy.here / "ce")
    removed = []

    def fail(act, path):
        removed.append(path)
        if len(removed) == 2:
            raise Killed

    monkeypatch.setattr(Bucket, "trouble", staticmethod(fail))
    with pytest.raises(Killed):
        transfer.send(copy)
    assert not whole(bucket / "b/runs/a") and len(files_of(bucket)) == 3


def test_the_order_in_which_files_go():
    """Logs, then by time, of a checkpoint what is pointed to before what points there, and last what says that
    something has ended."""
    at = "ce/checkpoints/10"
    files = {  # {path: when it was written}
        "summary.json": 9, "ce/done.json": 4, "ce/metrics.jsonl": 8, "log.txt": 9, "report.html": 8,
        "tensorboard/ce/events.out.tfevents.1": 7, "config.json": 1, "ce/weights.safetensors": 3,
        f"{at}/{transfer.LAST}": 2, f"{at}/state/manifest.ocdbt": 5, f"{at}/state/d/01": 6,
    }  # fmt: skip
    order = transfer.ordered({path: [1, time] for path, time in files.items()})
    assert set(order[:3]) == {"ce/metrics.jsonl", "log.txt", "tensorboard/ce/events.out.tfevents.1"}
    assert order[3:] == [
        "config.json", f"{at}/state/d/01", f"{at}/state/manifest.ocdbt", f"{at}/{transfer.LAST}",
        "ce/weights.safetensors", "report.html", "ce/done.json", "summary.json",
    ]  # fmt: skip


def test_what_grows_while_it_is_sent_is_sent_again(copy, bucket, monkeypatch):
    transfer.fetch(copy)
    write(copy.here, ce__metrics_JSONL="1\n")
    path = pathlib.Path(copy.here / "ce/metrics.jsonl")
    real = transfer._seen

    def grown(at):
        seen = real(at)
        if at == path and path.read_text() == "1\n":
            path.write_text("1\n2\n")
            os.utime(path, ns=(1, 1))
        return seen

    monkeypatch.setattr(transfer, "_seen", grown)
    transfer.send(copy)
    assert transfer.send(copy) == 1
