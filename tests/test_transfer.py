"""What is fetched and sent, and that what was sent can be gone on from wherever that was broken off."""

import errno
import json
import os
import shutil

import bucketed
import hypothesis
import pytest
from bucketed import Bucket
from hypothesis import strategies as st

from mmvid import sending, transfer, usage
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
    return transfer.of("gs://b/runs/a", "trained")


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
    return files_of(folder)


def sent(folder):
    """What has come to a bucket of a run, without what is noted there of its machines."""
    return {p: text for p, text in files_of(folder).items() if not p.endswith((transfer.HOLDER, transfer.SENDER))}


def checkpoint(folder, step, text="x"):
    at = folder / "ce" / "checkpoints" / str(step)
    for name in ("state/manifest.ocdbt", "state/d/01", "metrics/metrics", transfer.LAST):
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_text(f"{text} {step}")


def elsewhere(copy):
    """The copy of another machine."""
    return copy._replace(top=copy.top.with_name("elsewhere"))


# ---------------------------------------------------------------------------- there and back
def test_what_is_sent_is_fetched_elsewhere(copy, bucket):
    transfer.fetch_to_train(copy)
    write(copy.here, config_JSON="{}", ce__metrics_JSONL="1\n", ce__done_JSON="{}")
    checkpoint(copy.here, 20)
    assert sending.send(copy) == 7 and sending.send(copy) == 0
    other = elsewhere(copy)
    transfer.fetch(other)
    assert shown(other.here) == shown(copy.here) == sent(bucket / "b/runs/a")


def test_nothing_of_what_is_being_written_or_of_this_machine_goes(copy, bucket):
    transfer.fetch_to_train(copy)
    write(copy.here, a="1")
    passing = ("run.lock", "run.lock.beat", "b.json.being-written", ".cache/jax/x", "rehearsal/a",
               "c.being-written/a", "ce/checkpoints/20.tmp-orbax/state",
               "ce/checkpoints/30/state")  # fmt: skip
    for name in passing:
        (copy.here / name).parent.mkdir(parents=True, exist_ok=True)
        (copy.here / name).write_text("x")
    sending.send(copy)
    assert sent(bucket) == {"b/runs/a/a": "1"}


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
    transfer.fetch_to_train(copy)
    write(copy.here, config_JSON="{}")
    events = [copy.here / f"tensorboard/ce/events.out.tfevents.{i}" for i in (1, 2)]
    events[0].parent.mkdir(parents=True)
    events[0].write_text("1")
    for step in (10, 20):
        checkpoint(copy.here, step)
    sending.send(copy)
    shutil.rmtree(copy.here / "ce/checkpoints/10")
    events[0].rename(events[1])
    (copy.here / "config.json").unlink()
    sending.send(copy)
    left = sent(bucket / "b/runs/a")
    assert {path.split("/")[2] for path in left if "checkpoints" in path} == {"20"}
    assert "config.json" in left and [path[-1] for path in left if "tfevents" in path] == ["2"]


@pytest.mark.parametrize("gone", ["", "ce", "ce/checkpoints", "ce/checkpoints/20"])
def test_a_copy_that_is_cleared_takes_nothing_with_it(copy, bucket, gone):
    transfer.fetch_to_train(copy)
    write(copy.here, ce__metrics_JSONL="1\n")
    checkpoint(copy.here, 10)
    checkpoint(copy.here, 20)
    sending.send(copy)
    shutil.rmtree(copy.here / gone)
    sending.send(copy)
    assert whole(bucket / "b/runs/a") == [10, 20] and len(sent(bucket)) == 9


@pytest.mark.parametrize("url", ["gs://b//a", "gs://b/../a", "gs://b/runs/./a"])
def test_a_path_that_would_lie_elsewhere_is_refused(url):
    with pytest.raises(usage.WrongUse, match="empty or dots"):
        transfer.of(url)


def test_a_folder_in_a_folder_has_a_copy_of_its_own(bucket):
    """What a command fetches of one seed is not sent with the run of all."""
    whole_run, seed = transfer.of("gs://b/runs/s", "trained"), transfer.of("gs://b/runs/s/seed0")
    assert seed.here.name == "seed0" and whole_run.here not in seed.here.parents


def test_names_that_would_lie_outside_the_copy_are_left_out(copy, bucket, monkeypatch):
    base = bucket / "b/runs/a"
    names = ("/etc/passwd", "../c", "b/../../c", "", "./d", "e")
    found = {f"{base}/{name}": {"size": 1, "mtime": 1} for name in names}
    monkeypatch.setattr(Bucket, "find", lambda *given, **more: found)
    assert list(transfer.listed(copy)) == ["e"]


def test_a_run_without_its_checkpoints(copy, bucket):
    write(bucket / "b/runs/a", config_JSON="{}")
    checkpoint(bucket / "b/runs/a", 10)
    transfer.fetch(copy, transfer.without_checkpoints)
    assert shown(copy.here) == {"config.json": "{}"}
    before = transfer.here(copy)
    write(copy.here, ce__scores__val="1", ce__metrics_JSONL="a command's")
    sending.send_back(copy, before)
    assert len(files_of(bucket)) == 6 and (bucket / "b/runs/a/ce/scores/val").exists()
    transfer.fetch(copy)
    assert shown(copy.here) == files_of(bucket / "b/runs/a")


def test_weights_of_losses_are_those_of_a_run_in_a_bucket(bucket):
    write(bucket / "b/runs/a", config_JSON="{}", gblend__blend_JSON=json.dumps(
        {"weights": {"audio": 0.25, "rgb": 0.75}, "heads": {}}))  # fmt: skip
    assert blended.resolved("gs://b/runs/a", ("av.audio", "av.rgb"), ("audio", "rgb")) == "0.25,0.75"
    with pytest.raises(ValueError, match="neither numbers nor a run with weights"):
        blended.resolved("gs://b/runs/none", ("av.audio", "av.rgb"), ("audio", "rgb"))


# ---------------------------------------------------------------------------- who is right
def begun(copy):
    """A copy that has sent a part of a run, and has more of it."""
    transfer.fetch_to_train(copy)
    write(copy.here, config_JSON="{}", ce__metrics_JSONL="1\n")
    sending.send(copy)
    write(copy.here, ce__metrics_JSONL="1\n2\n")
    checkpoint(copy.here, 20)


def trained_elsewhere(copy, text="another"):
    other = elsewhere(copy)
    transfer.fetch_to_train(other)
    write(other.here, ce__metrics_JSONL=f"1\n{text}\n")
    sending.send(other)
    return other


def test_what_a_killed_run_has_not_sent_stays(copy, bucket):
    """Nobody has trained it since."""
    begun(copy)
    write(bucket / "b/runs/a", ce__scores__val="another command's")
    assert transfer.fetch_to_train(copy) is None
    assert shown(copy.here)["ce/metrics.jsonl"] == "1\n2\n" and "ce/scores/val" in shown(copy.here)
    sending.send(copy)
    assert shown(copy.here) == sent(bucket / "b/runs/a")


def test_nor_is_it_lost_where_nothing_could_be_sent_at_all(copy, bucket):
    transfer.fetch_to_train(copy)
    write(copy.here, config_JSON="{}")
    assert transfer.fetch_to_train(copy) is None and shown(copy.here) == {"config.json": "{}"}


def test_nor_where_another_machine_has_looked_and_sent_nothing(copy, bucket):
    begun(copy)
    transfer.fetch_to_train(elsewhere(copy))
    assert sending.send(elsewhere(copy)) == 0
    assert transfer.fetch_to_train(copy) is None and len(shown(copy.here)) == 6


def test_what_another_machine_has_trained_since_counts(copy, bucket):
    begun(copy)
    trained_elsewhere(copy)
    aside = transfer.fetch_to_train(copy)
    assert shown(copy.here) == {"config.json": "{}", "ce/metrics.jsonl": "1\nanother\n"}
    found = files_of(aside)
    assert len(found) == 6 and found["ce/metrics.jsonl"] == "1\n2\n"
    # And again: what was set aside before stays.
    write(copy.here, ce__metrics_JSONL="1\n3\n")
    trained_elsewhere(copy, "more")
    again = transfer.fetch_to_train(copy)
    assert again != aside and files_of(aside) == found and "3" in files_of(again)["ce/metrics.jsonl"]


def test_a_command_never_makes_old_files_count(copy, bucket):
    """Not in the copy that it reads, nor in the one that is trained here."""
    begun(copy)
    other = trained_elsewhere(copy)
    reading = transfer.of(copy.url)
    for _ in range(2):
        transfer.fetch(reading)
        sending.send_back(reading, transfer.here(reading))
        assert sent(bucket / "b/runs/a") == shown(other.here) == shown(reading.here)
    write(reading.here, report__html="a page")
    assert transfer.fetch_to_train(copy) is not None
    assert shown(copy.here) == shown(other.here)


def test_a_reading_copy_is_the_buckets_whatever_it_held(copy, bucket):
    reading = transfer.of(copy.url)
    write(bucket / "b/runs/a", config_JSON="{}", a="1")
    write(reading.here, a="older", ce__b="left by a fetch that was killed")
    transfer.fetch(reading)
    assert shown(reading.here) == {"config.json": "{}", "a": "1"} and not (reading.here / "ce").exists()


def test_a_fetch_that_was_killed_leaves_nothing_that_passes_for_trained_here(copy, bucket):
    write(bucket / "b/runs/a", a="1", b="1")

    def kill(act, path):
        if act == "get" and path.endswith("/b"):
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(transfer, "note", lambda *given, **more: None)  # kill -9 leaves no time
        patch.setattr(Bucket, "trouble", staticmethod(kill))
        transfer.fetch_to_train(copy)
    write(bucket / "b/runs/a", a="22")
    transfer.fetch_to_train(copy)
    sending.send(copy)
    assert sent(bucket / "b/runs/a") == {"a": "22", "b": "1"}


def test_nor_in_a_run_that_is_ours(copy, bucket):
    """Fetched, killed before that was noted, and changed by a command: the command's is the newer one."""
    begun(copy)
    sending.send(copy)
    write(bucket / "b/runs/a", ce__scores="old", ce__views="old")

    def kill(act, path):
        if act == "get" and path.endswith("views"):
            patch.setattr(transfer, "note", lambda *given, **more: None)
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Bucket, "trouble", staticmethod(kill))
        transfer.fetch_to_train(copy)
    assert shown(copy.here)["ce/scores"] == "old"
    write(bucket / "b/runs/a", ce__scores="a command's")
    write(copy.here, ce__metrics_JSONL="1\n2\n3\n")  # what is unsent stays
    transfer.fetch_to_train(copy)
    sending.send(copy)
    found = sent(bucket / "b/runs/a")
    assert found["ce/scores"] == "a command's" and found["ce/metrics.jsonl"] == "1\n2\n3\n"
    assert shown(copy.here) == found


def test_what_was_removed_in_the_bucket_is_removed_here(copy, bucket):
    """As the message on a damaged checkpoint says. No folder stays that Orbax would take for one."""
    transfer.fetch_to_train(copy)
    write(copy.here, config_JSON="{}")
    checkpoint(copy.here, 20)
    sending.send(copy)
    shutil.rmtree(bucket / "b/runs/a/ce")
    transfer.fetch_to_train(copy)
    assert shown(copy.here) == {"config.json": "{}"} and not (copy.here / "ce").exists()


def test_a_note_that_is_damaged_sets_nothing_at_risk(copy, bucket):
    transfer.fetch_to_train(copy)
    write(copy.here, config_JSON="{}")
    sending.send(copy)
    for text in ("", "[1]", '{"files": 3}', '{"files": {"config.json": 3, "b": [1]}}'):
        (copy.top / "bucket.json").write_text(text)
        transfer.fetch_to_train(copy)
        assert shown(copy.here) == sent(bucket / "b/runs/a") == {"config.json": "{}"}


def test_a_checkpoint_that_goes_while_it_is_fetched_is_left_out(copy, bucket, monkeypatch):
    checkpoint(bucket / "b/runs/a", 10)

    def replace(act, path):
        if act == "get" and (bucket / "b/runs/a/ce/checkpoints/10").exists():
            checkpoint(bucket / "b/runs/a", 20)
            shutil.rmtree(bucket / "b/runs/a/ce/checkpoints/10")

    monkeypatch.setattr(Bucket, "trouble", staticmethod(replace))
    transfer.fetch(copy)
    assert whole(copy.here) == [20]


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
        copy, (acts, limit), state = transfer.of("gs://b/a", "trained"), day, {"step": 0, "clock": 0, "sent": 0}

        def trouble(what, path):
            state["sent"] += 1
            if state["sent"] > limit:
                raise Killed
            if what == "put" and state["sent"] % 5 == 0:  # the run goes on meanwhile
                for further in ("step", "save", "forget"):
                    act(copy.here, further, state)

        transfer.fetch_to_train(copy)
        patch.setattr(Bucket, "trouble", staticmethod(trouble))
        had = False
        try:
            for what in [*acts, "send"]:
                act(copy.here, what, state)
                if what == "send":
                    sending.send(copy)
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
        transfer.fetch_to_train(copy)
        assert before.items() <= shown(copy.here).items()
        sending.send(copy)
        assert before.items() <= files_of(there).items()


def whole(folder):
    return sorted(int(path.parent.name) for path in folder.glob(f"ce/checkpoints/*/{transfer.LAST}"))


# ---------------------------------------------------------------------------- what goes wrong
def test_a_bucket_that_cannot_be_read_or_written_is_told(copy, bucket, monkeypatch):
    transfer.fetch_to_train(copy)
    write(copy.here, a="1")

    def refuse(act, path):
        raise PermissionError("403 Forbidden\nand a page of HTML")

    monkeypatch.setattr(Bucket, "trouble", staticmethod(refuse))
    with pytest.raises(ValueError, match=r"a cannot be written \(PermissionError: 403 Forbidden\): see that this"):
        sending.send(copy)
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


def test_a_checkpoint_that_goes_while_it_is_sent_is_sent_nevertheless(copy, bucket, monkeypatch):
    """Where sending takes longer than a run needs for its next one, each would be torn."""
    transfer.fetch_to_train(copy)
    checkpoint(copy.here, 10)
    sending.send(copy)
    checkpoint(copy.here, 20)

    def replace(act, path):
        if act == "put" and "/20/" in path and not (copy.here / "ce/checkpoints/30").exists():
            checkpoint(copy.here, 30)
            for old in (10, 20):
                shutil.rmtree(copy.here / f"ce/checkpoints/{old}")

    monkeypatch.setattr(Bucket, "trouble", staticmethod(replace))
    sending.send(copy)
    assert whole(bucket / "b/runs/a")[-1] == 20
    sending.send(copy)
    assert whole(bucket / "b/runs/a") == [30] and len(sent(bucket)) == 4


def test_a_checkpoint_that_is_half_gone_when_it_is_staged_is_left_out(copy, bucket, monkeypatch):
    """Orbax removes file by file."""
    transfer.fetch_to_train(copy)
    checkpoint(copy.here, 10)
    checkpoint(copy.here, 20)
    keep = sending._keep

    def remove(path, target):
        if path.as_posix().endswith("10/state/d/01"):
            path.unlink()
        keep(path, target)

    monkeypatch.setattr(sending, "_keep", remove)
    sending.send(copy)
    assert whole(bucket / "b/runs/a") == [20] and not (copy.top / "staged").exists()


def test_what_another_machine_had_half_sent_of_a_checkpoint_goes(copy, bucket):
    checkpoint(bucket / "b/runs/a", 10)
    write(bucket / "b/runs/a/ce/checkpoints/20", state__d__77="half")
    transfer.fetch_to_train(copy)
    checkpoint(copy.here, 20)
    sending.send(copy)
    assert not (bucket / "b/runs/a/ce/checkpoints/20/state/d/77").exists() and whole(bucket / "b/runs/a") == [
        10,
        20,
    ]


def test_what_came_before_a_file_that_cannot_be_sent_is_not_sent_again(copy, bucket, monkeypatch):
    transfer.fetch_to_train(copy)
    write(copy.here, a="1", b="1", c="1")
    put = []

    def refuse(act, path):
        if act == "put":
            put.append(path[-1])
            if path.endswith("/b"):
                raise PermissionError("403 Forbidden")

    monkeypatch.setattr(Bucket, "trouble", staticmethod(refuse))
    for name in "abc":
        os.utime(copy.here / name, ns=(ord(name), ord(name)))
    for _ in range(2):
        with pytest.raises(ValueError, match="403"):
            sending.send(copy)
    assert put == ["a", "b", "b"]


def test_a_full_disk_of_this_machine_is_no_matter_of_rights(copy, bucket, monkeypatch):
    def full(act, path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write(bucket / "b/runs/a", a="1")
    monkeypatch.setattr(Bucket, "trouble", staticmethod(full))
    with pytest.raises(OSError, match="No space left") as error:
        transfer.fetch(copy)
    assert "gcloud" not in str(error.value)


def test_a_checkpoint_that_is_removed_is_none_from_the_first_file_on(copy, bucket, monkeypatch):
    transfer.fetch_to_train(copy)
    checkpoint(copy.here, 10)
    checkpoint(copy.here, 20)
    sending.send(copy)
    shutil.rmtree(copy.here / "ce/checkpoints/10")
    removed = []

    def fail(act, path):
        if act == "rm":
            removed.append(path)
        if len(removed) == 2:
            raise Killed

    monkeypatch.setattr(Bucket, "trouble", staticmethod(fail))
    with pytest.raises(Killed):
        sending.send(copy)
    assert whole(bucket / "b/runs/a") == [20] and len(sent(bucket)) == 7


def test_the_order_in_which_files_go():
    """Logs, then by time, of a checkpoint what is pointed to before what points there, and last what says that
    something has ended."""
    at = "ce/checkpoints/10"
    files = {  # {path: when it was written}
        "summary.json": 9, "ce/done.json": 4, "ce/metrics.jsonl": 8, "log.txt": 9, "report.html": 8,
        "tensorboard/ce/events.out.tfevents.1": 7, "config.json": 1, "ce/weights.safetensors": 3,
        f"{at}/{transfer.LAST}": 2, f"{at}/state/manifest.ocdbt": 5, f"{at}/state/d/01": 6,
    }  # fmt: skip
    order = sending.ordered({path: [1, time] for path, time in files.items()})
    assert set(order[:3]) == {"ce/metrics.jsonl", "log.txt", "tensorboard/ce/events.out.tfevents.1"}
    assert order[3:] == [
        "config.json", f"{at}/state/d/01", f"{at}/state/manifest.ocdbt", f"{at}/{transfer.LAST}",
        "ce/weights.safetensors", "report.html", "ce/done.json", "summary.json",
    ]  # fmt: skip


def test_what_grows_while_it_is_sent_is_sent_again(copy, bucket, monkeypatch):
    transfer.fetch_to_train(copy)
    write(copy.here, ce__metrics_JSONL="1\n")
    path, keep = copy.here / "ce/metrics.jsonl", sending._keep

    def grown(at, target):
        keep(at, target)
        path.write_text("1\n2\n")

    monkeypatch.setattr(sending, "_keep", grown)
    sending.send(copy)
    assert (bucket / "b/runs/a/ce/metrics.jsonl").read_text() == "1\n"
    assert sending.send(copy) == 1 and sent(bucket / "b/runs/a") == shown(copy.here)
