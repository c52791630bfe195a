"""Writes what EPIC-Kitchens-55's challenge takes, seen.json and unseen.json in
one archive, from the scores that ended runs have left; nothing is run again.

    python -m mmvid evaluate runs/epic55_verb --splits=s1,s2 --protocol=E10
    python -m mmvid evaluate runs/epic55_noun --splits=s1,s2 --protocol=E10
    python -m mmvid submit runs/epic55_verb runs/epic55_noun --out=submission.zip

One run gives the verbs and another the nouns, or one gives both. Runs on other
datasets are refused. Each run's headline output speaks, in the last segment
that has such scores, unless --output and --segment say otherwise; where the
tests were scored in several ways, --splits=s1@E10-centre,s2@E10-centre says which.
"""

import argparse
import json
import pathlib
import sys
import zipfile
from typing import NamedTuple

from mmvid import files, usage
from mmvid.run import build
from mmvid.scores import challenge, file
from mmvid.scores.file import Scores

CONFIG = False


class Spoken(NamedTuple):
    """What a run says of a test: its scores, the output that speaks, and how views are put together."""

    run: pathlib.Path
    scores: Scores
    output: str
    how: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which runs speak, and where the archive goes."""
    parser.add_argument("runs", type=usage.a_run, nargs="+", metavar="RUN", help="workdirs of ended runs")
    parser.add_argument("--out", type=usage.on_disk, required=True, metavar="FILE.zip", help="the archive")
    parser.add_argument(
        "--splits",
        default=",".join(challenge.FILES),
        metavar="A,B",
        help="s1 and s2, or s1@E10-centre as `evaluate` scored it",
    )
    parser.add_argument("--segment", metavar="NAME", help="the segment whose scores count; default the last one")
    parser.add_argument("--output", metavar="NAME", help="the output that speaks; default the run's headline")


def _tests(text: str) -> dict[str, str]:
    """Reads --splits as {test: its file of scores}. Raises WrongUse for other splits than the two tests."""
    names = usage.listed(text)
    found = {name.partition("@")[0]: name for name in names}
    if set(found) != set(challenge.FILES) or len(names) != len(found):
        raise usage.WrongUse(f"--splits={text}: the challenge takes both tests, {' and '.join(challenge.FILES)}")
    return found


def _path(run: pathlib.Path, name: str, segment: str | None) -> pathlib.Path:
    """Finds the scores ``name`` of the last segment that has them; the name of a test alone may also mean those of
    the only protocol that `evaluate` scored it by. Raises WrongUse for what is no run, ValueError where there are
    none."""
    numbers = files.read_json(run / "summary.json")
    if not numbers:
        raise usage.WrongUse(f"{run} is no run that has ended: name the --workdir of one")
    folders = [run / own / "scores" for own in ([segment] if segment else numbers)]
    test = name.partition("@")[0]
    scored = sorted({path.stem for folder in folders for path in folder.glob(f"{test}*.npz")})
    chosen = scored[0] if name == test and len(scored) == 1 else name
    if found := [path for folder in folders if (path := folder / f"{chosen}.npz").exists()]:
        return found[-1]
    hint = f"it has {', '.join(scored)}" if scored else f"python -m mmvid evaluate {run} --splits=s1,s2 makes them"
    raise ValueError(f"{run} has no scores {name!r}: {hint}")


def _spoken(run: pathlib.Path, name: str, segment: str | None, output: str | None) -> Spoken:
    """Reads what a run says. Raises ValueError where it is of another dataset, or has no such output."""
    config = build.stored(run)
    scores = file.load(_path(run, name, segment))
    challenge.check(str(run), scores)
    chosen = output or config["headline"]
    if chosen not in scores.logits:
        raise ValueError(f"{run} has no output {chosen!r}: choose one with --output={'|'.join(scores.logits)}")
    used, expected = scores.meta["clips_used"], scores.meta["clips_expected"]
    if used < expected:
        print(
            f"note: {run}: {expected - used} of {expected} segments of {name} were rejected when the dataset was "
            "built, and the challenge wants all",
            file=sys.stderr,
        )
    return Spoken(run, scores, chosen, config["evaluation"]["aggregate"])


def _head(spoken: list[Spoken], head: str) -> dict:
    """Returns what is said of a head. Raises WrongUse where no run says anything, or two do."""
    said = [own for own in spoken if head in own.scores.label]
    if len(said) != 1:
        many = f"{said[0].run} and {said[1].run} both do" if said else "none does"
        raise usage.WrongUse(f"one run must give the {head}s, and {many}: name one of verbs and one of nouns")
    return challenge.of_head(said[0].scores, said[0].output, head, said[0].how)


def execute(arguments: argparse.Namespace) -> None:
    """Reads the scores of both tests, and writes the archive."""
    files.check_target("--out", arguments.out, arguments.runs)
    made = {}
    for test, name in _tests(arguments.splits).items():
        spoken = [_spoken(run, name, arguments.segment, arguments.output) for run in arguments.runs]
        made[test] = challenge.submission({head: _head(spoken, head) for head in challenge.HEADS})
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with (
        files.whole(arguments.out) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for test, content in made.items():
            archive.writestr(challenge.FILES[test], json.dumps(content))
    counts = ", ".join(f"{challenge.FILES[test]} {len(own['results'])} segments" for test, own in made.items())
    print(f"{arguments.out}: {counts}")
