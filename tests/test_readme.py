"""What the README shows works as shown."""

import pathlib
import re

import jax
import numpy as np
import yaml
from test_methods import HEADS, OUTPUTS, a_batch, a_draw, terms_of

import mmvid
from mmvid.methods import METHODS
from mmvid.terms import reduce_terms

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_worked_example_is_a_method(monkeypatch):
    source = next(code for code in re.findall(r"```python\n(.*?)```", README, re.S) if "def make(" in code)
    room = {}
    exec(compile(source, "README.md", "exec"), room)
    monkeypatch.setitem(METHODS, "pull", room["make"])
    method = METHODS["pull"](OUTPUTS, HEADS)
    assert all(np.isfinite(term.values).all() for term in terms_of(method, a_draw(), a_batch()).values())
    equal = dict.fromkeys(OUTPUTS, a_draw()["a"])
    np.testing.assert_allclose(terms_of(method, equal, a_batch())["pull"].values, 0, atol=1e-5)

    def loss(values):
        return reduce_terms({"pull": terms_of(method, values, a_batch())["pull"]})[0]

    gradient = jax.grad(loss)(a_draw())
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(gradient))


def test_the_files_that_it_links_to_exist():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "data_prep" / "README.md"):
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_how_to_cite_names_this_version_and_its_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == mmvid.__version__
    papers = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8").lower()
    assert all(paper["title"].lower() in papers for paper in citation["references"])
    assert citation["license"] in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
