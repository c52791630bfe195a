"""Draws what commands have printed, for the README. By hand:

    python tests/terminal.py docs/export.png printed.txt

Lines that begin with '$ ' are what was typed. The text stands in the file, too: `test_readme.py` reads it there.
"""

import pathlib
import sys

import matplotlib
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

SIZE, MARGIN, LEADING, COLUMNS = 15, 18, 1.4, 106
PAPER, INK, TYPED = "#fbfbf9", "#22262b", "#1c6b4a"
FOLDER = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def draw(text: str) -> Image.Image:
    """Draws lines of text as a terminal shows them."""
    plain, bold = (ImageFont.truetype(FOLDER / f"DejaVuSansMono{own}.ttf", SIZE) for own in ("", "-Bold"))
    lines = [
        line[at : at + COLUMNS] for line in text.rstrip().splitlines() for at in range(0, len(line) or 1, COLUMNS)
    ]
    high = round(SIZE * LEADING)
    size = round(max(map(plain.getlength, lines))) + 2 * MARGIN, high * len(lines) + 2 * MARGIN
    picture = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(picture)
    for row, line in enumerate(lines):
        typed = line.startswith("$ ")
        pen.text((MARGIN, MARGIN + row * high), line, TYPED if typed else INK, bold if typed else plain)
    # Of so few colours a picture is a fifth of its size.
    return picture.quantize(16)


def printed(path: pathlib.Path) -> str:
    """The text that a picture was drawn from."""
    with Image.open(path) as picture:
        return picture.text["printed"]


def write(path: pathlib.Path, text: str) -> None:
    """Writes the picture of a text, with the text in it."""
    known = PngImagePlugin.PngInfo()
    known.add_itxt("printed", text, zip=True)
    draw(text).save(path, optimize=True, pnginfo=known)


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).read_text(encoding="utf-8"))
