"""What the README shows works as shown."""

import importlib
import pathlib
import re
import shlex

import pytest
import terminal
import yaml
from absl.testing import flagsaver
from PIL import Image

import mmvid
from data_prep import build
from mmvid import commands, configuration, main

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
    parts = re.findall(r"--config=configs/(\w+)\.py.*?\n(\|.*?)\n\n", ZOO, re.S)
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


# ---------------------------------------------------------------------------- command lines
PAINS = (ROOT / "docs" / "pains.md").read_text(encoding="utf-8")
ZOO = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")


def lines_of(text):
    """Every command line of mmvid and data_prep on a page, each once, without comments."""
    found = re.findall(r"python3? -m ((?:mmvid|data_prep\.build) [^`\n&]*)", text)
    lines = dict.fromkeys(re.split(r"\s#\s", line)[0].strip() for line in found)
    return [line for line in lines if "..." not in line and "COMMAND" not in line]


def parsed(line):
    """Parses a command line as its program does, with what it says of a configuration."""
    program, *argv = shlex.split(line)
    if program == "data_prep.build":
        build.parse(argv)
        return
    name, *argv = argv
    assert name in commands.COMMANDS
    own, overrides = configuration.apart(argv)
    if name == "train":
        main._parse(["mmvid", *argv])
        config = next(word.partition("=")[2] for word in own if word.startswith("--config="))
    else:
        config = getattr(commands.parsed(name, commands.of_name(name), argv), "config", None)
    if config:
        configuration.overridden(configuration.read(config), overrides)


LINES = list(dict.fromkeys([*lines_of(README), *lines_of(PAINS), *lines_of(ZOO)]))


@pytest.mark.parametrize("line", LINES)
def test_every_command_line_parses(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    with flagsaver.flagsaver():
        parsed(line)


def test_what_is_no_command_line_does_not_parse(monkeypatch):
    monkeypatch.chdir(ROOT)
    for line in ("mmvid doctor", "mmvid browse data/mine --clip=3", "data_prep.build --folder x", "mmvid nope x"):
        with flagsaver.flagsaver(), pytest.raises((AssertionError, SystemExit)):
            parsed(line)
    with flagsaver.flagsaver(), pytest.raises(ValueError, match="no variant 'nope'"):
        parsed("mmvid train --config=configs/mml.py:nope --workdir=runs/x")


def test_twenty_pains_have_an_answer_and_a_command_each():
    rows = [line.strip("|").split(" | ") for line in PAINS.splitlines() if re.match(r"\| \d", line)]
    assert [int(row[0]) for row in rows] == [*range(1, 21)] and {len(row) for row in rows} == {4}
    for _, pain, answer, command in rows:
        assert re.search(r"\w#\d+", pain) and answer.strip()
        [line] = re.findall("`(.*?)`", command)
        # Of what is no command of ours, the file that it names.
        if not lines_of(line):
            assert [word for word in shlex.split(line) if (ROOT / word).is_file()]


def test_every_command_has_a_line():
    shown = {line.split()[1] for line in lines_of(README) if line.startswith("mmvid ")}
    assert shown == set(commands.COMMANDS)


# ---------------------------------------------------------------------------- pictures
def test_what_pictures_of_a_terminal_show_can_be_typed(monkeypatch):
    monkeypatch.chdir(ROOT)
    texts = {path.stem: terminal.printed(path) for path in (ROOT / "docs").glob("*.png")}
    assert set(texts) == {"doctor", "export", "share"}
    for name, text in texts.items():
        line, *more = lines_of(text)
        assert text.startswith(f"$ python -m {line}\n") and line.startswith(f"mmvid {name} ")
        for typed in (line, *more):
            with flagsaver.flagsaver():
                parsed(typed)


def test_a_terminal_is_drawn_with_its_text_in_it(tmp_path):
    path, text = tmp_path / "x.png", "$ python -m mmvid doctor data/mine\n" + "ü" * 250 + "\n\nend\n"
    terminal.write(path, text)
    with Image.open(path) as picture:
        # Of six lines, since a long one goes on below.
        assert terminal.printed(path) == text and picture.height == 6 * 21 + 2 * terminal.MARGIN
        assert len(picture.convert("RGB").getcolors()) > 2


def test_pictures_of_the_pages_are_small():
    pictures = [path for path in (ROOT / "docs").iterdir() if path.suffix != ".md"]
    assert pictures and all(path.suffix in (".png", ".jpg") for path in pictures)
    assert all(path.stat().st_size < 150_000 for path in pictures)
    assert all(f"(docs/{path.name})" in README for path in pictures)
