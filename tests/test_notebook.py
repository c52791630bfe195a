"""notebooks/mmvid.ipynb is well formed, and what it would run can be run. `execute_notebook.py` runs it, in CI."""

import ast
import json
import pathlib
import re
import shlex
import tomllib

import pytest
from absl.testing import flagsaver

from data_prep import build
from mmvid import commands, configuration, main

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PATH = "notebooks/mmvid.ipynb"
NOTEBOOK = json.loads((ROOT / PATH).read_text(encoding="utf-8"))
CODE = {cell["id"]: "".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"}


def text_of(node):
    """The text of a literal; in an f-string's, {name} stands for what is filled in."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(part.value if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}"
                   for part in parts)  # fmt: skip


def shell(source):
    """The words of every command that a cell gives to the shell."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "sh":
            yield shlex.split(text_of(node.args[0]))


def programs(name):
    """The arguments of every call of the module ``name``."""
    found = [words for source in CODE.values() for words in shell(source)]
    return [words[3:] for words in found if words[:3] == ["{PYTHON}", "-m", name]]


def config_of(words):
    """The configuration of a command line of 'train'."""
    with flagsaver.flagsaver():
        _, *overrides = main._parse(["mmvid train", *words])
        return configuration.overridden(configuration.read(main._CONFIG.value), overrides)


@pytest.fixture(autouse=True)
def in_the_clone(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_it_is_a_notebook_without_outputs():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert NOTEBOOK["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch("[a-z-]{1,64}", name) for name in ids)
    for cell in NOTEBOOK["cells"]:
        assert all(isinstance(line, str) for line in cell["source"]) and cell["metadata"] == {}
        fields = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            fields |= {"outputs", "execution_count"}
        assert set(cell) == fields


@pytest.mark.parametrize("name", CODE)
def test_every_cell_is_python(name):
    compile(CODE[name], name, "exec")


def test_every_command_line_is_one_that_the_programs_take():
    runs = programs("mmvid")
    assert [words[0] for words in runs] == ["train", "train", "predict"]
    for name, *rest in runs:
        if name == "train":
            assert config_of(rest).loader.workers == 0  # no processes of its own
        else:
            commands.parsed(name, commands.of_name(name), rest)


def test_it_makes_the_data_that_its_runs_want():
    made = [build.parse(words) for words in programs("data_prep.build")]
    config = config_of(programs("mmvid")[1][1:])
    assert made == [build.parse([*spec.command[1:]]) for spec in (config.dataset, config.stills)]
    # What is kept of them is what the run opens.
    [kept] = [words for words in shell(CODE["whole"]) if words[0] == "tar"]
    assert [config.dataset.path, config.stills.path] == kept[-2:]


def test_the_badge_and_the_first_cell_know_the_repository():
    """Its address, once pyproject.toml has one (urls.Repository), stands in both; until then the badge shows the
    notebook, and the first cell asks."""
    address = PROJECT.get("urls", {}).get("Repository", "")
    colab = address.replace("https://github.com", "https://colab.research.google.com/github")
    [target] = re.findall(r"^\[!\[Open in Colab\]\(https://\S+\.svg\)\]\((\S+)\)", README, re.M)
    assert target == (f"{colab}/blob/main/{PATH}" if address else PATH)
    assert f'REPOSITORY = "{address}"  # @param' in CODE["install"]


def test_python_versions_are_the_same_everywhere():
    listed = [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if re.search(r":: Python :: 3\.\d+$", c)]
    assert listed == re.findall(r"3\.\d+", re.search(r"^Python (3\.\d+.*?)\. ", README, re.M)[1])
    assert PROJECT["requires-python"] == f">={listed[0]}"
