"""Strict settings for every test; must run before JAX starts."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    ).strip()

import jax
import pytest
from absl import flags

CACHE = pathlib.Path(__file__).resolve().parents[1] / ".cache" / "jax"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Grain's worker processes read absl flags; nothing parses them under pytest.
flags.FLAGS.mark_as_parsed()


@pytest.fixture
def key():
    """A fixed PRNG key."""
    return jax.random.key(0)
