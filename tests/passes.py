"""LLVM's passes, without which tests compile: for what computes for longer than it compiles."""

import contextlib

import jax


@contextlib.contextmanager
def llvm():
    """What is compiled inside is compiled as users do."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
