"""The page: everything put into the template, and written."""

import importlib.metadata
import json
import pathlib
import platform
from collections.abc import Callable, Sequence

import jax
import jinja2
import numpy as np

from mmvid import files
from mmvid.report import figures, table
from mmvid.report import panels as panels_lib
from mmvid.report.table import Column

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "av",
            "opencv-contrib-python-headless")  # fmt: skip


def versions() -> dict[str, str]:
    """Returns the versions of Python, of the platform and of the packages that numbers depend on, and the
    devices."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    found["devices"] = f"{len(jax.devices())} x {jax.devices()[0].device_kind}"
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a package that is not here cannot have changed a number
    return found


def template(name: str) -> jinja2.Template:
    """Loads the template of a page. All templates fill the same base, base.html."""
    loader = jinja2.PackageLoader("mmvid.report", "templates")
    # Titles and class names are users' texts, hence escaped; a name that was forgotten is an error, not a gap.
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(name)


def write(
    workdir: str | pathlib.Path,
    columns: Sequence[Column],
    *,
    config: str,
    headline: str,
    baseline: str = "",
    how: str = "logits",
    thumbnails: Callable[[str, int], np.ndarray] | None = None,
    published: Sequence[tuple[str, dict]] = (),
    published_neighbours: Sequence[tuple[str, dict]] = (),
) -> pathlib.Path:
    """Writes ``workdir/report.html``, one self-contained page; returns its path.

    The last column is the method, and ``baseline`` names the segment that it is compared with ('' for none).
    ``thumbnails(split, row)`` gives pictures of a clip, uint8 [T, H, W, 3]. ``published`` are rows of a paper,
    (what, {output: text}), and ``published_neighbours`` are its rows of nearest neighbours, (what, {k: text}).
    Raises ValueError where there is no column.
    """
    if not columns:
        raise ValueError("a report needs at least one column of scores")
    workdir, own = pathlib.Path(workdir), columns[-1]
    splits = list(own.scores)
    base = next((c for c in columns if c.segment == baseline), None)
    clips = panels_lib.hardest(own.scores[splits[0]], headline, 8, how)
    for clip in clips if thumbnails else ():
        pictures = thumbnails(splits[0], clip["row"])
        # A clip of sound or boxes alone has no pictures.
        clip["strip"] = figures.strip(pictures) if len(pictures) else ""
    tables = [
        {"split": split, "about": table.denominators(own.scores[split]),
         "titles": [c.title for c in columns if split in c.scores],
         "rows": table.rows(columns, split, baseline=baseline, how=how)}
        for split in splits
    ]  # fmt: skip
    page = template("report.html").render(
        name=workdir.name, title=own.title, headline=headline, baseline=base and base.title,
        overviews=[(s, table.overview(columns, s, headline, how)) for s in splits],
        outputs=table.published_outputs(columns, splits[0], headline, published),
        missing=[(s, found) for s in splits if (found := panels_lib.missing_modalities(columns, s, how))],
        neighbours=panels_lib.neighbours(workdir), published_neighbours=list(published_neighbours),
        tables=tables, published=list(published), clips=clips, versions=versions(),
        curves=panels_lib.all_curves(workdir, columns),
        figures=panels_lib.class_figures(own, base, headline, splits[0], how),
        # Sorted, so that the configurations of two pages can be compared line by line.
        config=json.dumps(json.loads(config), indent=1, sort_keys=True),
    )  # fmt: skip
    path = workdir / "report.html"
    files.write_text(path, page)
    return path
