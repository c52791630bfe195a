"""Chooses the folder in which compiled programs are kept from one call to the next."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

import jax

from mmvid.logs import LOG


def _candidates(workdir: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folders to try, in order of preference."""
    if own := os.environ.get("XDG_CACHE_HOME"):
        yield pathlib.Path(own) / "mmvid" / "jax"
    with contextlib.suppress(RuntimeError, KeyError):  # a container's user may have no home
        yield pathlib.Path.home() / ".cache" / "mmvid" / "jax"
    # Not the system's temporary folder: whoever may write there could plant programs.
    yield workdir / ".cache" / "jax"


def _writable(folder: pathlib.Path) -> bool:
    """Whether a file can be made in ``folder``; a folder that is missing is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def choose(workdir: pathlib.Path) -> pathlib.Path | None:
    """Sets JAX's compilation cache and returns its folder: the user's own setting where there is one, else
    the first that can be written of XDG_CACHE_HOME, the home folder and the workdir.

    Returns None where none of them can be written. A line of the log says so, or that it is the workdir.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return pathlib.Path(jax.config.jax_compilation_cache_dir)
    writable = (folder for folder in _candidates(workdir) if _writable(folder))
    folder = next(writable, None)
    if folder is None:
        LOG.info("compiled programs are not kept: no folder for them can be written")
        return None
    if workdir in folder.parents:
        LOG.info("compiled programs are kept in %s: there is no home folder that can be written", folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder
