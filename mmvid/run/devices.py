"""Finds this machine's accelerator, and the JAX that drives it.

    python -m mmvid.run.devices

prints what to install here: jax[cuda12], jax[tpu] or jax. It needs nothing but Python, since it is asked before
anything is installed.
"""

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Mapping

# CUDA 12's JAX runs with the drivers of CUDA 13, too; not the other way round.
EXTRAS = {"an NVIDIA GPU": "cuda12", "a TPU": "tpu"}
DEV = pathlib.Path("/dev")


def _listed(path: str) -> bool:
    """Whether nvidia-smi, where the search ``path`` has one, lists a GPU."""
    if not (program := shutil.which("nvidia-smi", path=path)):
        return False
    try:
        # A container may have the program without a GPU: it then lists none, or fails.
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.startswith("GPU ")


def _has_gpu(environ: Mapping[str, str], dev: pathlib.Path) -> bool:
    if environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):  # hidden on purpose
        return False
    # Linux inside Windows has the program, but no such file.
    return any(dev.glob("nvidia[0-9]*")) or _listed(environ.get("PATH", ""))


def gpus(environ: Mapping[str, str] = os.environ, dev: pathlib.Path = DEV) -> int:
    """Returns how many NVIDIA GPUs this process sees, by its environment and the files of their driver."""
    if (shown := environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len([own for own in shown.split(",") if own.strip() not in ("", "-1")])
    return len(list(dev.glob("nvidia[0-9]*")))


def has_tpu(environ: Mapping[str, str], dev: pathlib.Path = DEV) -> bool:
    """Returns whether this machine has a TPU."""
    # Newer TPUs stand in vfio, as may anything else that is handed to a virtual machine.
    handed = any(dev.glob("vfio/[0-9]*")) and any(name.startswith("TPU_") for name in environ)
    return handed or any(dev.glob("accel[0-9]*"))


def accelerator(environ: Mapping[str, str] = os.environ, dev: pathlib.Path = DEV) -> str:
    """Returns which of `EXTRAS` this machine has for this process; '' where it has none that JAX could drive."""
    if sys.platform != "linux":  # JAX drives them on Linux alone
        return ""
    if _has_gpu(environ, dev):
        return "an NVIDIA GPU"
    return "a TPU" if has_tpu(environ, dev) else ""


def requirement(found: str) -> str:
    """Returns what pip is to install for an accelerator: 'jax[cuda12]', or 'jax' for ''."""
    return f"jax[{EXTRAS[found]}]" if found else "jax"


def warning(backend: str, version: str, environ: Mapping[str, str] = os.environ, dev: pathlib.Path = DEV) -> str:
    """Returns what is to be said where JAX of this ``version`` computes on the ``backend`` 'cpu' beside an
    accelerator: the line that cures it. It is '' where all is well, or JAX_PLATFORMS says that it is meant."""
    if backend != "cpu" or environ.get("JAX_PLATFORMS"):
        return ""
    if not (found := accelerator(environ, dev)):
        return ""
    return "\n".join(
        [
            "!" * 80,
            f"This machine has {found}, but JAX computes on the CPU, many times slower. To use it:",
            "",
            # Of the same version: plugin and JAX fit each other or do not work at all.
            f'    pip install "{requirement(found)}=={version}"',
            "",
            "With JAX_PLATFORMS=cpu in front of the command, the CPU is meant and nothing is said.",
            "!" * 80,
        ]
    )


if __name__ == "__main__":
    print(requirement("" if os.environ.get("JAX_PLATFORMS") == "cpu" else accelerator()))
