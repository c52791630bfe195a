"""What the README shows works as shown."""

import importlib
import pathlib
import re

import yaml

import mmvid

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_files_that_it_names_exist():
    """Of the reading order and the tree of rooms: files and folders, each where the page says."""
    order = re.findall(r"^\| `(mmvid/\S+\.py)` \|", README, re.M)
    assert len(order) == 10
    tree = re.search(r"```\n(configs/.*?)```", README, re.S)[1]
    top, rooms = re.findall(r"^(\w+)/", tree, re.M), re.findall(r"^  (\w+)/", tree, re.M)
    files = [name for names in re.findall(r"^  ((?:\w+, )*\w+)(?:  |$)", tree, re.M) for name in names.split(", ")]
    assert all((ROOT / "mmvid" / f"{name}.py").exists() for name in files) and len(files) >= 10
    assert all((ROOT / path).exists() for path in [*order, *top, *(f"mmvid/{room}" for room in rooms)])
    # Nothing at the top of the package is left out.
    names = {path.name.removesuffix(".py") for path in (ROOT / "mmvid").iterdir()}
    there = {name for name in names if not name.startswith(("_", "."))}
    assert there <= {*files, *rooms}, there - {*files, *rooms}


def test_the_files_that_it_links_to_exist():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "data_prep" / "README.md"):
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_zoo_tells_what_was_measured():
    """Every variant can be asked for, and every number stands where its conditions do."""
    zoo = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")
    parts = re.findall(r"--config=configs/(\w+)\.py.*?\n(\|.*?)\n\n", zoo, re.S)
    assert [name for name, _ in parts] == ["mml", "dmcl", "distill", "gblend", "cmpl"]
    told = (ROOT / "docs" / "measured.md").read_text(encoding="utf-8") + README
    for name, table in parts:
        config = importlib.import_module(f"configs.{name}")
        for variant in re.findall(r"`:(\w+)`", table):
            assert config.get_config(variant), f"configs/{name}.py:{variant}"
        for number in re.findall(r"\d+\.\d+", table):
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", told + config.__doc__), f"{name}: {number}"


def test_how_to_cite_names_this_version_and_its_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == mmvid.__version__
    papers = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8").lower()
    assert all(paper["title"].lower() in papers for paper in citation["references"])
    assert citation["license"] in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
