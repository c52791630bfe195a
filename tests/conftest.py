"""Strict settings for every test; must run before JAX starts. docs/testing.md says why they are so."""

import fcntl
import importlib.metadata
import logging
import os
import pathlib
import shutil

# What a test starts inherits these; what stands in the environment comes first.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).resolve().parents[1] / ".cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("XLA_FLAGS", "")
if "device_count" not in os.environ["XLA_FLAGS"]:
    os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=8"
# LLVM's passes would be half of all that the tests compute.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# XLA's older emitters compile in a third of the time; JAX 0.10 is the last that has them.
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1" and importlib.metadata.version("jax").startswith("0.10."):
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"

import hypothesis
import jax
import pytest
from absl import flags

jax.config.update("jax_numpy_rank_promotion", "raise")
# Grain's worker processes read absl flags; nothing parses them under pytest.
flags.FLAGS.mark_as_parsed()

# How long an example takes is the machine's business: two processes share it with each other.
hypothesis.settings.register_profile(
    "mmvid", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("mmvid")

# Whole files go to one of the two processes; those that take longest begin first.
LONGEST = (
    "test_train",
    "test_configs",
    "test_goldens",
    "test_plans",
    "test_step",
    "test_models_video",
    "test_export",
)


def pytest_collection_modifyitems(items):
    """The files of LONGEST first, the rest as they are."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """``once(name, make)``: a folder that ``make(folder)`` fills in whichever process asks first.

    The other processes of pytest-xdist wait for it. It is for reading only: a test that writes takes a copy.
    """
    root = tmp_path_factory.getbasetemp()
    root = root.parent if os.environ.get("PYTEST_XDIST_WORKER") else root

    def folder_of(name, make):
        folder, whole = root / name, root / f"{name}.whole"
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)  # what failed half-way
                folder.mkdir()
                make(folder)
                whole.touch()
        return folder

    return folder_of


@pytest.fixture
def key():
    """A fixed PRNG key."""
    return jax.random.key(0)


@pytest.fixture
def serial(monkeypatch):
    """Clips are prepared in this process; the pool has its tests in test_data_prep."""
    from data_prep import clips, phases

    monkeypatch.setattr(phases, "_pool", lambda jobs, *rest: [clips.write(*j, *rest[:2]) for j in jobs])


@pytest.fixture
def elsewhere(monkeypatch):
    """Lowers as for an accelerator, and gives a list of the platforms that each choice between them was for."""
    taken = []

    def chosen(*args, default, **platforms):
        taken.append(sorted(platforms))
        return default(*args)

    monkeypatch.setattr(jax.lax, "platform_dependent", chosen)
    return taken


@pytest.fixture(autouse=True)
def the_log():
    """Takes from the log what a run in this process has set up: the next test listens by itself."""
    yield
    log = logging.getLogger("mmvid")
    log.propagate = True
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
