"""The page: everything put into the template, and written."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2

from mmvid import files
from mmvid.data import fields
from mmvid.report import (
    auxiliary,
    blending,
    calibration,
    diagrams,
    draws,
    facts,
    figures,
    grids,
    overview,
    panels,
    points,
    pseudo,
    table,
    teachers,
    verdict,
    weighing,
)
from mmvid.report.points import Column, Line
from mmvid.report.rows import head_of
from mmvid.scores import file, temperature
from mmvid.scores import numbers as numbers_lib


class Told(NamedTuple):
    """What a page is made from: the arguments of `write`, with the numbers of all ``columns`` and the ``found``
    lines of every split counted, and the configuration's ``settings`` read."""

    workdir: pathlib.Path
    columns: Sequence[Column]
    settings: Mapping
    headline: str
    baseline: str
    how: str
    found: Mapping[str, Sequence[Line]]
    dataset: Any

    @property
    def own(self) -> Column:
        """The column that the page is about."""
        return self.columns[-1]

    @property
    def base(self) -> Column | None:
        """The column that it is compared with."""
        return next((c for c in self.columns if c.segment == self.baseline), None)

    @property
    def split(self) -> str:
        """The split that figures are of: the first."""
        return next(iter(self.own.scores))


def template(name: str) -> jinja2.Template:
    """Loads the template of a page. All templates fill the same base, base.html."""
    loader = jinja2.PackageLoader("mmvid.report", "templates")
    # Titles and class names are users' texts, hence escaped; a name that was forgotten is an error, not a gap.
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(name)


# ---------------------------------------------------------------------------- the first screen
def _opening(told: Told, few: Sequence[draws.Line]) -> dict:
    """What the page says first: the verdict, and what it is of."""
    split, lines, how = told.split, told.found[told.split], told.how
    over_draws = draws.verdict(few, told.headline, told.own.segment, split, how)
    return {
        "name": told.workdir.name,
        "title": told.own.title,
        "headline": told.headline,
        "base": told.base and told.base.title,
        "split": split,
        "head": head_of(told.own.scores[split]),
        "clips_used": len(file.labelled(told.own.scores[split]).id),
        "multi": bool(lines) and all(line.multi for line in lines),
        "verdict": over_draws
        or verdict.verdict(
            told.columns, split, headline=told.headline, baseline=told.baseline, how=how, found=lines
        ),
    }


def _first_figures(told: Told, weighed: Sequence[blending.Line], few: Sequence[draws.Line]) -> dict:
    """Draws what the page begins with, of the first split: 'lead', a list of figures a row, and 'cost'. Where a
    student has learnt from teachers, that is accuracy and calibration error of all; where losses are ``weighed``,
    accuracy of all lines of that table; of ``few`` labels, the headline's of all arms; else every output's value.
    """
    columns, split, how = told.columns, told.split, told.how
    rows = overview.rows_of(told.workdir, columns, split, told.settings)
    base = next((row for row in rows if row.segment == told.baseline), None)
    made = panels.lead(told.found[split], columns, split, told.baseline)
    lead = [[figure for figure in made.values() if figure]] if made else []
    if made and overview.taught(columns, split):
        lead = overview.figures_of(rows, split, told.headline, how, base)
    elif weighed:
        lead = [weighing.lead(weighed)]
    elif few:
        lead = [draws.lead(few, told.headline, told.own.segment, split, how)]
    cost = overview.costs(rows, split, told.headline, how) if made else ""
    return {"lead": lead, "cost": cost, "counted": diagrams.COSTS}


def _origin(told: Told) -> dict:
    """What the page says of where its numbers come from: the facts beside the verdict, what each column has cost,
    and at the end the versions that it was made with, and the configuration."""
    made = facts.made_by(told.workdir, told.columns)
    versions = {"versions": made.pop("versions")}
    known = facts.facts(told.columns, told.settings, told.dataset) | made
    known |= auxiliary.costs(told.workdir, told.columns, told.settings)
    return {
        "facts": known,
        "costs": facts.costs(told.workdir, told.columns),
        "made": versions,
        # Sorted, so that the configurations of two pages can be compared line by line.
        "config": json.dumps(told.settings, indent=1, sort_keys=True),
    }


# ---------------------------------------------------------------------------- tables
def _table(told: Told, split: str) -> dict:
    """Makes the table of a split, for the template: which clips it is of, its titles and its rows."""
    columns, lines, how = told.columns, told.found[split], told.how
    rows = table.rows(columns, split, baseline=told.baseline, how=how, found=lines, parts=True)
    return {
        "split": split,
        "about": table.denominators(told.own.scores[split]),
        "known": table.column_known(columns, split),
        "titles": [c.title for c in points.there(columns, split)],
        "rows": rows,
        "scaled": any("(T " in cell for row in rows for cell in row["cells"]),
        "taught": table.taught(columns, split, how),
        "weights": table.column_weights(columns, split),
        "joint": file.joint_head(told.own.scores[split]),
    }


def _weighed(told: Told, split: str) -> list[blending.Line]:
    """The lines of the short table of a run whose losses are weighed; [] for others."""
    return blending.lines(told.workdir, told.columns, split, told.settings, told.how)


def _few(told: Told, split: str) -> list[draws.Line]:
    """The lines of the short table of a run that learns from few labels; [] for others."""
    return draws.lines(told.workdir, told.columns, split, told.settings, told.headline, told.how)


def _short(told: Told, weighed: Mapping[str, list], few: Mapping[str, list]) -> dict[str, list[list[str]]]:
    """The rows of the short table of every split; [] where there is none."""
    return {
        split: blending.table_rows(weighed[split]) or draws.table_rows(few[split], split, told.how)
        for split in told.found
    }


def _published(told: Told, published: Sequence[tuple[str, dict]]) -> list[tuple[str, dict]]:
    """The rows of a paper with today's name of all heads together: that of older runs was 'noun + verb'."""
    joint = file.joint_head(told.own.scores[told.split])
    older = " + ".join(file.single_heads(told.own.scores[told.split]))
    today = {older: joint} if joint else {}
    return [(what, {today.get(o, o): text for o, text in row.items()}) for what, row in published]


def _printed(published: Sequence[tuple[str, dict]]) -> list[str]:
    """Lists the columns of published rows: what a row's method has seen comes first, 'sum' and 'oracle' last."""
    # Sorting is stable, so that all others keep their order between these.
    places = {"trained on": -2, "tested on": -1, "sum": 1, "oracle": 2, "test": 3}
    return sorted(dict.fromkeys(o for _, row in published for o in row), key=lambda name: places.get(name, 0))


# ---------------------------------------------------------------------------- pictures
def _classes(told: Told) -> dict:
    """Draws what there is to see of single classes, and of the networks' confidence in them."""
    columns, split, how = told.columns, told.split, told.how
    viewed = calibration.with_views(told.workdir, columns, split)
    return {
        "figures": panels.class_figures(told.own, told.base, told.headline, split, how),
        "frequent": calibration.frequent(columns, split, told.headline, told.baseline, how),
        "reliability": calibration.reliabilities(columns, split, told.baseline, how),
        "fewest": diagrams.FEWEST,
        "views": calibration.as_views_shrink(viewed, split, told.headline, how),
    }


def _learning(told: Told) -> dict:
    """Draws how the columns have learnt, from what, and from whom."""
    own = [split for name, split in told.own.learnt if name == "dataset"] or [told.settings.get("split", "train")]
    counted = facts.class_counts(told.dataset, own[0])
    return {
        "curves": panels.all_curves(told.workdir, told.columns),
        "teachers": teachers.panel(told.workdir, told.columns, told.split, told.how),
        "neighbours": panels.neighbours(told.workdir),
        "counts": [figures.counts(names, numbers, what) for what, names, numbers in counted],
    }


def _clips(told: Told) -> list[dict]:
    """Lists the hardest clips, each with its 'strips', [(modality, data URL)]; none where the dataset is not at
    hand."""
    clips = panels.hardest(told.own.scores[told.split], told.headline, 8, told.how)
    for clip in clips:
        records = None if told.dataset is None else told.dataset.split(told.split)
        found = {} if records is None else fields.filmstrips(records[clip["row"]], 6)
        clip["strips"] = [(name, figures.strip(pictures)) for name, pictures in found.items()]
    return clips


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
    missing: Sequence[str] = (),
) -> pathlib.Path:
    """Writes ``workdir/report.html``, one self-contained page; returns its path.

    The last column is the method, and ``baseline`` names the segment that it is compared with ('' for none).
    ``found`` are the `points.lines` of each split, where they have been computed. Pictures of clips and counts
    of classes are made from ``dataset``, where it is given. ``published`` are rows of a paper,
    (what, {output: text}), and ``published_neighbours`` are its rows of nearest neighbours, (what, {k: text}).
    ``missing`` says of rows that one would expect why they are not there. Raises ValueError where there is no
    column.
    """
    if not columns:
        raise ValueError("a report needs at least one column of scores")
    columns = [points.counted(column, how) for column in columns]
    found = found or points.every(columns, headline=headline, baseline=baseline, how=how)
    told = Told(pathlib.Path(workdir), columns, json.loads(config), headline, baseline, how, found, dataset)
    published = _published(told, published)
    weighed = {split: _weighed(told, split) for split in found}
    few = {split: _few(told, split) for split in found}
    own, ours = weighed[told.split], few[told.split]
    page = template("report.html").render(
        **_opening(told, ours),
        worth=blending.said(own, told.split) + draws.said(ours, headline, told.own.segment, told.split),
        averaged=draws.about(ours),
        **_first_figures(told, own, ours),
        **_origin(told),
        tables=[_table(told, split) for split in found],
        short=_short(told, weighed, few),
        grids={s: grids.every(columns, s, told.settings, lines, told.baseline) for s, lines in found.items()},
        rows_of=grids.rows_of,
        pseudo=pseudo.panel(told.workdir, columns, told.split, told.settings, how),
        blending=weighing.panel(told.workdir, columns, own, told.split, told.settings, told.how),
        temperatures=(temperature.FITTED, temperature.LOWEST, temperature.HIGHEST),
        missing=list(missing),
        published=published,
        printed=_printed(published),
        published_neighbours=list(published_neighbours),
        **_classes(told),
        **_learning(told),
        clips=_clips(told),
    )
    path = told.workdir / "report.html"
    files.write_text(path, page)
    return path
