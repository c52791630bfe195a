"""Compiled programs are kept where something can be written, and nothing fails where nothing can."""

import pathlib

import jax
import pytest

from mmvid.run import cache


@pytest.fixture
def homeless(monkeypatch):
    """No folder chosen, no home; what is chosen is undone."""

    def home():
        raise RuntimeError("Could not determine home directory.")

    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(pathlib.Path, "home", staticmethod(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_without_a_home_the_workdir_is_taken(homeless, tmp_path):
    assert cache.choose(tmp_path) == tmp_path / ".cache" / "jax"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / ".cache" / "jax")
    assert cache.choose(tmp_path / "other") == tmp_path / ".cache" / "jax"  # what is set stays


def test_the_users_own_folder_comes_first(homeless, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert cache.choose(tmp_path) == tmp_path / "own" / "mmvid" / "jax"


def test_a_home_that_cannot_be_written_is_passed_over(homeless, tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file: no folder can be made below")
    monkeypatch.setattr(pathlib.Path, "home", staticmethod(lambda: tmp_path / "home"))
    assert cache.choose(tmp_path) == tmp_path / ".cache" / "jax"
    jax.config.update("jax_compilation_cache_dir", None)
    assert cache.choose(tmp_path / "home") is None
