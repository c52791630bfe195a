"""What commands may write over, and what is written to and never replaced."""

import os
import pathlib
import stat
import threading

import pytest

from mmvid import files, usage

FOLDERS = {
    "a run": {"config.json": '{"headline": "rgb"}', "mml/weights.safetensors": "w"},
    "a run, which": {"config.json": "{", "data.json": "{}", "mml/weights.safetensors": "w"},
    "a dataset": {
        "metadata.json": "{}",
        "index.json": "{}",
        "clips/1.0.0/dataset_info.json": "{}",
        "labels.npz": "",
    },
    "a shared network": {"config.json": "{}", "model.safetensors": "w"},
}


def made(root, texts):
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize("what", FOLDERS)
def test_what_is_kept_is_not_written_over(tmp_path, monkeypatch, what):
    root = made(tmp_path / "kept", FOLDERS[what])
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in FOLDERS[what]:
        (tmp_path / "here" / "to.json").unlink(missing_ok=True)
        (tmp_path / "here" / "to.json").symlink_to(root / name)
        for way in (root / name, tmp_path / "link" / name, pathlib.Path("../kept", name), "to.json"):
            with pytest.raises(usage.WrongUse, match=f"--json=.*folder of {what.split(',')[0]} .*another one"):
                files.check_target("--json", pathlib.Path(way))
    # New files harm nothing, nor what the command writes there by itself.
    files.check_target("--json", root / "new.json")
    (root / "browse.html").touch()
    files.check_target("--out", root / "browse.html", [root], root / "browse.html")
    with pytest.raises(usage.WrongUse, match="or remove it"):
        files.check_target("--out", root / "browse.html", [root])


def test_files_of_nobody_are_written_over_but_for_inputs(tmp_path):
    root = made(tmp_path, {"config.json": '{"mine": 1}', "metadata.json": "{}", "a/said.json": "", "in.mp4": ""})
    files.check_target("--json", root / "a" / "said.json")
    with pytest.raises(usage.WrongUse, match="over an input"):
        files.check_target("--json", root / "a" / ".." / "in.mp4", [root / "in.mp4"])
    with pytest.raises(usage.WrongUse, match="is a folder: name a file in it"):
        files.check_target("--json", root / "a")
    with pytest.raises(usage.WrongUse, match=r"in\.mp4 is a file"):
        files.check_target("--json", root / "in.mp4" / "x.json")


def test_a_pipe_is_written_to_and_stays(tmp_path):
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    (tmp_path / "link").symlink_to(path)
    for own in (path, tmp_path / "link"):
        files.check_target("--json", own)
        reader = threading.Thread(target=lambda: read.append(path.read_text()), daemon=True)
        reader.start()
        files.write_json(own, {"a": 1})
        reader.join(10)
    assert read == ['{\n "a": 1\n}'] * 2
    assert stat.S_ISFIFO(path.lstat().st_mode) and (tmp_path / "link").is_symlink()
    assert sorted(own.name for own in tmp_path.iterdir()) == ["link", "pipe"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="only Linux lists what a process has open")
def test_what_a_process_has_open_is_added_to(tmp_path):
    """As /dev/stdout, a link to /proc/self/fd/1, where the terminal is a file."""
    with (tmp_path / "out.txt").open("w") as file:
        file.write("said\n")
        file.flush()
        (tmp_path / "stdout").symlink_to(f"/proc/self/fd/{file.fileno()}")
        files.write_text(tmp_path / "stdout", "{}")
        files.write_text(pathlib.Path(f"/proc/self/fd/{file.fileno()}"), "\n")
    assert (tmp_path / "out.txt").read_text() == "said\n{}\n" and (tmp_path / "stdout").is_symlink()


def test_a_device_that_fails_says_so_and_stays(tmp_path):
    """A node of its own: none of the machine's is risked."""
    path = tmp_path / "full"
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 7))
        path.open("ab").close()
    except OSError:
        pytest.skip("this user may make no device")
    with pytest.raises(OSError) as error:
        files.write_text(path, "x")
    assert "disk is full" in usage.explained(error.value) and stat.S_ISCHR(path.lstat().st_mode)
