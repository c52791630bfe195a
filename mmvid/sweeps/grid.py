"""What a sweep is asked for: grids of cells, from --grid=KEY=A,B,C and from files of TOML."""

import hashlib
import itertools
import json
import pathlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmvid import usage

# Entries of a grid in a file, and those of one of its cells that are no overrides.
ENTRIES = (
    "title", "note", "config", "seeds", "follow", "over", "split", "segment", "fixed", "product", "published",
    "cells",
)  # fmt: skip
OF_CELLS = ("title", "published", "segment")


class Cell(NamedTuple):
    """One configuration of a grid: the file that ``config`` names (FILE:VARIANT) with ``overrides`` {entry: text}.
    ``values`` are those of its overrides that tell it from other cells, ``published`` a paper's number for it, in
    percent. The entries of ``follow`` are the seed's number, too: which clips are drawn. The number of the cell is
    that of a ``segment`` of its run, '' for what its grid says; two cells may be two segments of one run."""

    title: str
    config: str
    overrides: dict[str, str]
    values: dict[str, str]
    published: float | None = None
    follow: tuple[str, ...] = ()
    segment: str = ""

    @property
    def name(self) -> str:
        """Its folder's name: the values, and a hash of everything that it is made of."""
        # Not the title: that could change with the cells beside it.
        words = "_".join(f"{key.rpartition('.')[2]}-{value}" for key, value in self.values.items())
        whole = json.dumps([self.config, sorted(self.overrides.items()), sorted(self.follow)])
        plain = re.sub(r"[^\w.=+-]+", "-", words).strip("-.")[:60]
        return f"{plain or 'cell'}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"

    def arguments(self, seed: int) -> list[str]:
        """What stands after `python -m mmvid train` for the run of a ``seed``, without its workdir."""
        own = [f"--config.{key}={value}" for key, value in self.overrides.items()]
        drawn = [f"--config.{key}={seed}" for key in (*self.follow, "seed")]
        return [f"--config={self.config}", *own, *drawn]


class Grid(NamedTuple):
    """Cells that stand in one table: their ``seeds``, the title of the cell that the others are compared with
    (``over``; '' is the first), and the ``split`` and ``segment`` whose scores count ('' is what the runs report
    themselves)."""

    title: str
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...] = (0,)
    over: str = ""
    split: str = ""
    segment: str = ""
    note: str = ""


# ---------------------------------------------------------------------------- texts
def split(text: str) -> list[str]:
    """Divides a text at its commas, but for those within quotes and brackets. Raises ValueError where one of
    these is not closed."""
    pieces, quote, depth = [""], "", 0
    for letter in text:
        if letter == "," and not quote and not depth:
            pieces.append("")
            continue
        pieces[-1] += letter
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
    if quote or depth:
        raise ValueError(f"{quote or 'a bracket'} is not closed")
    return [piece.strip() for piece in pieces]


def _bare(text: str) -> str:
    """A value without the quotes around it, where they are around all of it."""
    quoted = re.fullmatch(r"'([^']*)'|\"([^\"]*)\"", text)
    return text if not quoted else next(part for part in quoted.groups() if part is not None)


def values_of(text: str) -> list[str]:
    """The values of 'A,B,C' or '[A,B,C]'; one that holds commas stands in quotes or brackets: "'a,b',('c','d')".
    Raises ValueError for a text that has an empty value without quotes, or an open bracket."""
    pieces = split(text)
    if len(pieces) == 1 and pieces[0].startswith("[") and pieces[0].endswith("]"):
        pieces = split(pieces[0][1:-1])
    if "" in pieces:
        raise ValueError("a value is empty; an empty text is ''")
    return [_bare(piece) for piece in pieces]


def _plain(value: Any) -> Any:
    """A value of TOML as a configuration has it: tuples for lists."""
    if isinstance(value, Mapping):
        return {name: _plain(child) for name, child in value.items()}
    return tuple(map(_plain, value)) if isinstance(value, list) else value


def text_of(value: Any) -> str:
    """A value of TOML as --config.KEY=VALUE takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else str(_plain(value))


def key_of(text: str) -> str:
    """An entry's name without what a command line writes before it: 'method.name' of '--config.method.name'."""
    return re.sub(r"^(--)?config\.", "", text.strip())


def titles_of(keys: Sequence[str]) -> dict[str, str]:
    """{entry: as much of its end as tells it from the others}: 'lr' of 'schedule.lr'."""
    found = {}
    for key in keys:
        parts = key.split(".")
        for count in range(1, len(parts) + 1):
            end = ".".join(parts[-count:])
            if sum(f".{other}".endswith(f".{end}") for other in keys) == 1:
                break
        found[key] = end
    return found


# ---------------------------------------------------------------------------- cells
def _cell(config: str, fixed: Mapping, values: Mapping, title: str = "", published=None) -> Cell:
    """A cell of the ``values`` that it alone has; 'config' among them is its file."""
    names = titles_of(list(values))
    title = title or ", ".join(f"{names[key]}={value}" for key, value in values.items())
    own = {key: value for key, value in (fixed | values).items() if key != "config"}
    return Cell(title, values.get("config", config), own, dict(values), published)


def product(keys: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every combination of the values of ``keys``, the last key changing first; [{}] of no keys."""
    return [dict(zip(keys, chosen)) for chosen in itertools.product(*keys.values())]


def crossed(grid: Grid, keys: Mapping[str, Sequence[str]]) -> Grid:
    """A grid with each of its cells once for every combination of the values of ``keys``. They are compared with
    the first one that the former cell has become."""
    if not keys:
        return grid
    names, cells, over = titles_of(list(keys)), [], ""
    for cell in grid.cells:
        for values in product(keys):
            said = ", ".join(f"{names[key]}={value}" for key, value in values.items())
            title = f"{cell.title}, {said}" if cell.title else said
            over = over or (title if cell.title == grid.over else "")
            own = {key: value for key, value in values.items() if key != "config"}
            config = values.get("config", cell.config)
            own, values = cell.overrides | own, cell.values | values
            cells.append(Cell(title, config, own, values, follow=cell.follow, segment=cell.segment))
    return grid._replace(cells=tuple(cells), over=over if grid.over else "")


def checked(grid: Grid) -> Grid:
    """The grid, where its cells can be told apart. Raises ValueError where two are one or have one title, where
    there is none, or not the one that it compares with."""
    numbers_of = [(cell.name, cell.segment) for cell in grid.cells]
    for what, known in (("cell", numbers_of), ("title", [cell.title for cell in grid.cells])):
        for place, own in enumerate(known):
            if own in known[:place]:
                raise ValueError(f"{grid.cells[place].title!r} is given twice: each {what} of a grid is its own")
    if grid.over and grid.over not in [cell.title for cell in grid.cells]:
        titles = "; ".join(cell.title for cell in grid.cells)
        raise ValueError(f"over={grid.over!r} names no cell; the cells are {titles}")
    if not grid.cells:
        raise ValueError("it has no cells: give product or cells")
    if not grid.seeds or len(set(grid.seeds)) < len(grid.seeds):
        raise ValueError(f"its seeds {list(grid.seeds)} are none, or one is given twice")
    return grid


# ---------------------------------------------------------------------------- files
def _of_product(table: Mapping, config: str, fixed: Mapping) -> list[Cell]:
    keys = {key_of(key): [text_of(value) for value in values] for key, values in table.get("product", {}).items()}
    published = dict(table.get("published", {}))
    cells = []
    for values in product(keys) if keys else ():
        known = published.pop(", ".join(values.values()), None)
        cells.append(_cell(config, fixed, values, published=known))
    if published:
        raise ValueError(
            f"published has {next(iter(published))!r}, which no cell of product is called: 'VALUE, VALUE' in the "
            "order of its keys"
        )
    return cells


def _of_cells(table: Mapping, config: str, fixed: Mapping) -> list[Cell]:
    found = []
    for own in table.get("cells", ()):
        values = {key_of(key): text_of(value) for key, value in own.items() if key not in OF_CELLS}
        cell = _cell(config, fixed, values, own.get("title", ""), own.get("published"))
        found.append(cell._replace(segment=own.get("segment", "")))
    return found


def _of_table(name: str, table: Mapping, config: str) -> Grid:
    """The grid that a table of TOML describes. ``config`` goes before the table's own."""
    if unknown := [entry for entry in table if entry not in ENTRIES]:
        raise ValueError(f"there is no entry {unknown[0]!r}; there are {', '.join(ENTRIES)}")
    config = config or table.get("config", "")
    if not config:
        raise ValueError("it names no config: give --config=FILE")
    fixed = {key_of(key): text_of(value) for key, value in table.get("fixed", {}).items()}
    follow = tuple(map(key_of, table.get("follow", ())))
    cells = [*_of_cells(table, config, fixed), *_of_product(table, config, fixed)]
    cells = [cell._replace(follow=follow) for cell in cells]
    own = {entry: table[entry] for entry in ("over", "split", "segment", "note") if entry in table}
    return Grid(table.get("title", name), tuple(cells), tuple(table.get("seeds", (0,))), **own)


def tables(path: pathlib.Path) -> dict[str, dict]:
    """{name: table} of the grids in a file. Raises WrongUse where there is no such file, or it is no TOML."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise usage.WrongUse(
            f"--grid={path}: it cannot be read ({error.strerror}); a grid is a file of TOML, or KEY=A,B,C"
        ) from None
    except ValueError as error:
        raise usage.WrongUse(f"--grid={path} is no TOML: {error}") from None
    known = {name: table for name, table in found.items() if isinstance(table, dict)}
    if lone := sorted(set(found) - set(known)):
        raise usage.WrongUse(f"--grid={path}: {lone[0]!r} stands in no table; begin a grid with a line [NAME]")
    return known


def of_file(text: str, config: str) -> Grid:
    """The grid that FILE#NAME names; of a file with one grid, FILE does. Raises WrongUse."""
    file, _, name = text.partition("#")
    known = tables(pathlib.Path(file))
    name = name or (next(iter(known)) if len(known) == 1 else "")
    if name not in known:
        listed = "".join(f"\n  {file}#{own}  {table.get('title', '')}" for own, table in known.items())
        raise usage.WrongUse(f"--grid={text}: name one of its grids{listed or ': it has none'}")
    try:
        return _of_table(name, known[name], config)
    except (AttributeError, TypeError, ValueError) as error:
        raise usage.WrongUse(f"--grid={file}#{name}: {error}") from None


# ---------------------------------------------------------------------------- a command line
def _is_file(text: str) -> bool:
    file = text.partition("#")[0]
    return file.endswith(".toml") or "=" not in text


def _keys(texts: Sequence[str]) -> dict[str, list[str]]:
    """{entry: values} of the arguments KEY=A,B,C. Raises WrongUse."""
    found: dict[str, list[str]] = {}
    for text in texts:
        key, _, values = text.partition("=")
        key = key_of(key)
        if not key:
            raise usage.WrongUse(f"--grid={text}: the entry's name before '=' is empty; write --grid KEY=A,B,C")
        if key in found:
            raise usage.WrongUse(f"--grid={text}: {key} is given twice; name all of its values in one --grid")
        try:
            found[key] = values_of(values)
        except ValueError as error:
            raise usage.WrongUse(
                f"--grid={text}: {error}. Write --grid {key}=A,B,C, and quotes around a value with commas"
            ) from None
    return found


def numbers(text: str) -> tuple[int, ...]:
    """The seeds of '0,1,2'. Raises WrongUse for what is no whole number."""
    try:
        return tuple(int(one) for one in usage.listed(text))
    except ValueError:
        raise usage.WrongUse(f"--seeds={text}: whole numbers with commas between are expected") from None


def _together(grid: Grid, keys: Mapping, overrides: Mapping, seeds: str | None) -> Grid:
    """One grid of a command line: crossed with the ``keys``, with the ``overrides`` and ``seeds`` of all."""
    keys, seeds = dict(keys), seeds if seeds is not None else ",".join(keys.get("seed", ())) or None
    keys.pop("seed", None)
    grid = crossed(grid, keys)
    for cell in grid.cells:
        if both := set(overrides) & set(cell.values):
            raise usage.WrongUse(f"--config.{min(both)} is one of the values that the grid goes through")
        if "seed" in cell.overrides or "seed" in overrides:
            raise usage.WrongUse("the seed is none of a cell's overrides: give --seeds=0,1,2")
    cells = tuple(cell._replace(overrides=cell.overrides | overrides) for cell in grid.cells)
    grid = grid._replace(cells=cells)
    return grid if seeds is None else grid._replace(seeds=numbers(seeds))


def asked(
    texts: Sequence[str], config: str, overrides: Mapping[str, str], seeds: str | None, follow: Sequence[str] = ()
) -> list[Grid]:  # fmt: skip
    """The grids of the arguments of --grid: one for each file, with its cells once for every combination of the
    keys; one of the keys alone where there is no file. The entries ``follow`` have the number of the seed. Raises
    WrongUse."""
    keys = _keys([text for text in texts if not _is_file(text)])
    grids = [of_file(text, config) for text in texts if _is_file(text)]
    if not grids:
        if not keys or not config:
            lacking = "--config=FILE" if keys else "--grid KEY=A,B,C or --grid FILE#NAME"
            raise usage.WrongUse(f"{lacking} must be given; more: python -m mmvid sweep --help")
        names = titles_of([key for key in keys if key != "seed"])
        grids = [Grid(", ".join(names.values()) or "seeds", (Cell("", config, {}, {}),))]
    made = []
    for grid in grids:
        own = _together(grid, keys, overrides, seeds)
        # Of seeds alone there is one cell, which is the configuration as it stands.
        cells = [c if c.title else c._replace(title="as configured") for c in own.cells]
        more = tuple(map(key_of, follow))
        cells = [c._replace(follow=tuple(dict.fromkeys((*c.follow, *more)))) for c in cells]
        try:
            made.append(checked(own._replace(cells=tuple(cells))))
        except ValueError as error:
            raise usage.WrongUse(f"the grid {grid.title!r}: {error}") from None
    return made
