"""The page: everything put into the template, and written."""

import json
import pathlib
from collections.abc import Sequence

import jinja2

from mmvid import files
from mmvid.data import fields
from mmvid.report import (
    blending,
    calibration,
    diagrams,
    facts,
    figures,
    overview,
    panels,
    points,
    table,
    teachers,
    verdict,
)
from mmvid.report.points import Column, Line
from mmvid.scores import file
from mmvid.scores import numbers as numbers_lib


def template(name: str) -> jinja2.Template:
    """Loads the template of a page. All templates fill the same base, base.html."""
    loader = jinja2.PackageLoader("mmvid.report", "templates")
    # Titles and class names are users' texts, hence escaped; a name that was forgotten is an error, not a gap.
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(name)


def _strips(clips: list[dict], dataset, split: str) -> None:
    """Gives each clip its ``strips``, [(modality, data URL)]; none where the dataset is not at hand."""
    for clip in clips:
        found = {} if dataset is None else fields.filmstrips(dataset.split(split)[clip["row"]], 6)
        clip["strips"] = [(name, figures.strip(pictures)) for name, pictures in found.items()]


def _printed(published: Sequence[tuple[str, dict]]) -> list[str]:
    """Lists the columns of published rows, 'sum' and 'oracle' last."""
    # Sorting is stable, so that all others keep their order before these two.
    last = {"sum": 1, "oracle": 2}
    return sorted(dict.fromkeys(o for _, row in published for o in row), key=lambda name: last.get(name, 0))


def _tables(columns: Sequence[Column], found: dict[str, Sequence[Line]], baseline: str, how: str) -> list[dict]:
    """Makes the table of each split, for the template: which clips it is of, its titles and its rows."""
    return [
        {
            "split": split,
            "about": table.denominators(columns[-1].scores[split]),
            "titles": [c.title for c in points.there(columns, split)],
            "rows": table.rows(columns, split, baseline=baseline, how=how, found=lines, parts=True),
            "taught": table.taught(columns, split, how),
            "weights": table.column_weights(columns, split),
        }
        for split, lines in found.items()
    ]


def _origin(workdir: pathlib.Path, columns: Sequence[Column], settings: dict, trained: str) -> dict:
    """What the page says of where its numbers come from: the facts beside the verdict, what each column has cost,
    and at the end the versions that it was made with."""
    made = facts.made_by(workdir, columns)
    versions = {"versions": made.pop("versions")}
    told = facts.facts(columns[-1], settings, trained) | made
    return {"facts": told, "costs": facts.costs(workdir, columns), "made": versions}


def _first_screen(workdir, columns: Sequence[Column], lines, settings: dict, headline: str, baseline: str, how):
    """Draws what the page begins with, of the first split: 'lead', a list of figures a row, and 'cost'. Where a
    student has learnt from teachers, that is accuracy and calibration error of all; else every output's value."""
    first, *_ = columns[-1].scores
    rows = overview.rows_of(workdir, columns, first, settings)
    base = next((row for row in rows if row.segment == baseline), None)
    made = panels.lead(lines, columns, first, baseline)
    lead = [[figure for figure in made.values() if figure]] if made else []
    if made and overview.taught(columns, first):
        lead = overview.figures_of(rows, first, headline, how, base)
    cost = overview.costs(rows, first, headline, how) if made else ""
    return {"lead": lead, "cost": cost, "counted": diagrams.COSTS}


def write(
    workdir: str | pathlib.Path,
    columns: Sequence[Column],
    *,
    config: str,
    headline: str,
    baseline: str = "",
    how: str = numbers_lib.HOW,
    found: dict[str, Sequence[Line]] | None = None,
    dataset=None,
    published: Sequence[tuple[str, dict]] = (),
    published_neighbours: Sequence[tuple[str, dict]] = (),
) -> pathlib.Path:
    """Writes ``workdir/report.html``, one self-contained page; returns its path.

    The last column is the method, and ``baseline`` names the segment that it is compared with ('' for none).
    ``found`` are the `points.lines` of each split, where they have been computed. Pictures of clips and counts
    of classes are made from ``dataset``, where it is given. ``published`` are rows of a paper,
    (what, {output: text}), and ``published_neighbours`` are its rows of nearest neighbours, (what, {k: text}).
    Raises ValueError where there is no column.
    """
    if not columns:
        raise ValueError("a report needs at least one column of scores")
    workdir, columns = pathlib.Path(workdir), [points.counted(column, how) for column in columns]
    own, settings = columns[-1], json.loads(config)
    first, *_ = own.scores
    base = next((c for c in columns if c.segment == baseline), None)
    found = found or points.every(columns, headline=headline, baseline=baseline, how=how)
    clips = panels.hardest(own.scores[first], headline, 8, how)
    _strips(clips, dataset, first)
    learnt = settings.get("split", "train")
    page = template("report.html").render(
        name=workdir.name,
        title=own.title,
        headline=headline,
        base=base and base.title,
        split=first,
        clips_used=len(file.labelled(own.scores[first]).id),
        multi=bool(found[first]) and all(line.multi for line in found[first]),
        verdict=verdict.verdict(columns, first, headline=headline, baseline=baseline, how=how, found=found[first]),
        **_first_screen(workdir, columns, found[first], settings, headline, baseline, how),
        clips=clips,
        **_origin(workdir, columns, settings, facts.trained_on(dataset, learnt)),
        tables=_tables(columns, found, baseline, how),
        blended={split: blending.table_rows(workdir, columns, split, settings, headline, how) for split in found},
        blending=blending.panel(workdir, columns),
        published=list(published),
        printed=_printed(published),
        neighbours=panels.neighbours(workdir),
        published_neighbours=list(published_neighbours),
        curves=panels.all_curves(workdir, columns),
        figures=panels.class_figures(own, base, headline, first, how),
        fewest=diagrams.FEWEST,
        reliability=calibration.reliabilities(columns, first, baseline, how),
        views=calibration.as_views_shrink(calibration.with_views(workdir, columns, first), first, headline, how),
        frequent=calibration.frequent(columns, first, headline, baseline, how),
        teachers=teachers.panel(workdir, columns, first, how),
        counts=[
            figures.counts(names, numbers, what) for what, names, numbers in facts.class_counts(dataset, learnt)
        ],
        # Sorted, so that the configurations of two pages can be compared line by line.
        config=json.dumps(settings, indent=1, sort_keys=True),
    )
    path = workdir / "report.html"
    files.write_text(path, page)
    return path
