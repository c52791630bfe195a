"""An accelerator that JAX does not use is found and named, with what cures it; nothing is said without cause."""

import pathlib
import subprocess
import sys

import pytest

from mmvid import logs
from mmvid.run import devices, talk

ROOT = pathlib.Path(__file__).parents[1]
GPU, TPU = devices.EXTRAS
TPU_VM = {"TPU_WORKER_ID": "0"}


@pytest.fixture(autouse=True)
def linux(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")


def machine(tmp_path, *names):
    """A folder that stands for /dev with these files."""
    for name in names:
        path = tmp_path / "dev" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "dev"


@pytest.mark.parametrize("names, environ, found", [
    ((), {}, ""),
    ((), TPU_VM, ""),
    (("nvidiactl", "nvidia-uvm"), {}, ""),  # the driver without a card
    (("nvidiactl", "nvidia0"), {}, GPU),
    (("nvidia7",), {"CUDA_VISIBLE_DEVICES": "7"}, GPU),
    (("nvidia0",), {"CUDA_VISIBLE_DEVICES": ""}, ""),
    (("nvidia0",), {"CUDA_VISIBLE_DEVICES": "-1"}, ""),
    (("accel0",), {}, TPU),
    (("accel/accel0",), {}, ""),  # what Linux calls other makers' accelerators
    (("vfio/vfio", "vfio/0"), TPU_VM, TPU),
    (("vfio/vfio", "vfio/0"), {}, ""),
    (("vfio/vfio",), TPU_VM, ""),
    (("nvidia0", "accel0"), {}, GPU),
    (("nvidia0", "accel0"), {"CUDA_VISIBLE_DEVICES": "-1"}, TPU),
])  # fmt: skip
def test_what_a_machine_has(names, environ, found, tmp_path):
    assert devices.accelerator(environ, machine(tmp_path, *names)) == found


def test_only_linux_has_one_that_jax_drives(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert not devices.accelerator({}, machine(tmp_path, "nvidia0"))


@pytest.mark.parametrize("script, found", [
    ("echo 'GPU 0: Tesla T4 (UUID: GPU-1)'", GPU),
    ("echo 'No devices were found'", ""),
    ("echo 'GPU 0: Tesla T4'; exit 9", ""),
    ("echo 'NVIDIA-SMI has failed' >&2; exit 9", ""),
])  # fmt: skip
def test_nvidia_smi_is_asked_where_no_file_tells(script, found, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    assert devices.accelerator({"PATH": str(tmp_path)}, machine(tmp_path)) == found
    program.write_bytes(b"\x7fELF no program")
    assert not devices.accelerator({"PATH": str(tmp_path)}, machine(tmp_path))


@pytest.mark.parametrize("name, extra", [("nvidia0", "cuda12"), ("accel0", "tpu")])
def test_the_warning_has_the_line_that_cures(name, extra, tmp_path):
    text = devices.warning("cpu", "0.10.2", {}, machine(tmp_path, name))
    assert f'\n    pip install "jax[{extra}]==0.10.2"\n' in text and "many times slower" in text


@pytest.mark.parametrize("backend, environ, names", [
    ("gpu", {}, ("nvidia0",)), ("tpu", {}, ("accel0",)), ("cpu", {}, ()),
    ("cpu", {"JAX_PLATFORMS": "cpu"}, ("nvidia0",)),
])  # fmt: skip
def test_nothing_is_said_without_cause(backend, environ, names, tmp_path):
    assert not devices.warning(backend, "0.10.2", environ, machine(tmp_path, *names))


def test_a_run_warns_in_its_log(tmp_path, monkeypatch, capsys):
    """From JAX's own backend to the terminal and log.txt."""
    monkeypatch.setattr(devices, "accelerator", lambda *_: GPU)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    logs.setup(tmp_path)
    talk.say_idle_accelerator()
    for text in (capsys.readouterr().out, (tmp_path / "log.txt").read_text()):
        assert "has an NVIDIA GPU" in text and 'pip install "jax[cuda12]==' in text
    logs.LOG.debug("at length")
    assert "at length" in (tmp_path / "log.txt").read_text() and "at length" not in capsys.readouterr().out


@pytest.mark.parametrize("platforms, answers", [("cpu", {"jax"}), ("", {"jax", "jax[cuda12]", "jax[tpu]"})])
def test_what_to_install_is_told_without_any_package(platforms, answers):
    # -S: no site-packages, -E would hide JAX_PLATFORMS.
    done = subprocess.run([sys.executable, "-S", "-m", "mmvid.run.devices"], capture_output=True, text=True,
                          cwd=ROOT, env={"JAX_PLATFORMS": platforms})  # fmt: skip
    assert done.stdout.strip() in answers and not done.stderr, done.stderr
