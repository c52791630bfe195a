"""The pages in a real browser: no error, nothing fetched, nothing wider than the window, no text cut off.

One headless Chromium opens them all, each in frames of a telephone's and of a desk's width.
"""

import functools
import http.server
import json
import os
import queue
import shutil
import subprocess
import threading

import fake
import numpy as np
import pytest
from test_commands import left
from test_report import NASTY, column, multi_columns
from test_report_teachers import TEACHERS
from test_report_teachers import scores as taught_scores
from test_scores import made

from mmvid import files
from mmvid.commands import compare
from mmvid.data.augment import Augment
from mmvid.data.groups import Group
from mmvid.report import browse, comparison, overview, page
from mmvid.report.points import Column
from mmvid.scores import effort, metrics
from mmvid.streams import Head, Sampling, Stream

WIDTHS = 420, 1200
BROWSERS = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"

# What is asked of each page. A text may be cut off by its own box, or by the edge of a drawing. Of films, those in
# sight have a picture; of filters, an id leaves its clip, and a class the clips that it counts.
PROBE = """
async function films(page, found) {
  const all = [...page.querySelectorAll("video")], ready = film => film.error || film.readyState > 1;
  for (let i = 0; i < 300 && all.length; i++) {
    const shown = all.filter(film => film.src);
    if (shown.length && shown.every(ready)) break;
    await new Promise(done => setTimeout(done, 100));
  }
  if (all.length && !all.some(film => film.src)) found.push("no film in sight");
  for (const film of all) if (film.error || film.src && !ready(film)) found.push("no film: " + film.ariaLabel);
}
function filters(page, window, found) {
  const words = page.getElementById("words"), choice = page.querySelector("select.class");
  if (!words) return;
  const clips = [...page.querySelectorAll(".clip")], shown = () => clips.filter(clip => !clip.hidden).length;
  const ask = (field, value, count, what) => {
    field.value = value;
    field.dispatchEvent(new window.Event("input", {bubbles: true}));
    if (shown() !== count) found.push("filter: " + what + " leaves " + shown() + " of " + count + " clips");
  };
  ask(words, "clip3 ", 1, "an id");
  ask(words, "", clips.length, "nothing");
  const option = choice.options[1];
  ask(choice, option.value, Number(/[(]([0-9]+)[)]$/.exec(option.text)[1]), "a class");
  ask(choice, "", clips.length, "every class");
}
async function probe(name, width) {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 900; frame.src = name;
  const loaded = new Promise(done => frame.onload = done);
  document.body.append(frame);
  await loaded;
  const page = frame.contentDocument, root = page.documentElement, found = [];
  const say = (what, element) => found.push(what + ": " + element.textContent.trim().slice(0, 60));
  if (root.scrollWidth > width) found.push("the page is " + root.scrollWidth + " wide");
  for (const element of page.querySelectorAll("body *:not(svg *)")) {
    const style = frame.contentWindow.getComputedStyle(element);
    if (["hidden", "clip"].includes(style.overflowX) && element.scrollWidth > element.clientWidth + 1)
      say("cut off", element);
    const box = element.getBoundingClientRect();
    if (box.right > width + 1 && !element.closest(".wide, figure, .multiples, pre")) say("outside", element);
  }
  for (const drawing of page.querySelectorAll("svg")) {
    const edge = drawing.getBoundingClientRect();
    for (const text of drawing.querySelectorAll("text")) {
      const box = text.getBoundingClientRect();
      if (box.width && (box.left < edge.left - 2 || box.right > edge.right + 2 || box.top < edge.top - 2
          || box.bottom > edge.bottom + 2)) say("outside its drawing", text);
    }
  }
  await films(page, found);
  filters(page, frame.contentWindow, found);
  for (const image of page.images) if (!image.naturalWidth) found.push("no picture: " + image.alt);
  frame.remove();
  return found;
}
"""


@pytest.fixture(scope="module")
def browser():
    known = [os.environ.get("CHROME", ""), *BROWSERS]
    path = next((found for name in known if name and (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser is installed (asked for {', '.join(BROWSERS)}, and $CHROME)")
    return path


def taught(folder):
    """A student of three teachers, with what all of them take: its report, and its comparison with the others."""
    taken = {"reads": ["rgb"], "parameters": 1}
    columns, note = [], {"scheme": "equal", "weights": {}}
    for i, (name, outputs) in enumerate((("teachers", TEACHERS), ("baseline", ("rgb",)), ("student", ("rgb",)))):
        own = {o: taken | {"network": o, "flops": 10**9 * (1 + i + j)} for j, o in enumerate(outputs)}
        files.write_json((folder / name).mkdir(parents=True) or folder / name / effort.NAME, own)
        scores = taught_scores(outputs, 0)
        meta = scores.meta | ({"teachers": note} if name == "student" else {})
        columns.append(Column(name.title(), name, {"test": scores._replace(meta=meta)}))
    page.write(folder, columns, config="{}", headline="rgb", baseline="baseline")
    rows = overview.rows_of(folder, columns, "test", {})
    table = comparison.compared(rows, "test", "rgb", "logits", rows[1])
    comparison.write(folder / "compare.html", [table], rows, "rgb", "logits", base=rows[1])


def pages(folder):
    """Reports of several kinds, a comparison and a dataset, in ``folder``: their names."""
    columns = [column("CE", "ce", 0, 0.6), column("CE continued", "ce_continued", 1, 0.8),
               column("MML", "mml", 2, 1.6)]  # fmt: skip
    lines = [{"step": s, "train/rgb/ce": 1 / s, "val/flow/top1": 0.4, "lr": 0.1} for s in (1, 2, 3)]
    (folder / "plain" / "mml").mkdir(parents=True)
    (folder / "plain" / "mml" / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    files.write_json(folder / "plain" / "neighbours.json", {"rgb": {"1": 0.1, "5": 0.2}})
    paper = [("Mutual Modality Learning, table 3", {"rgb": "58.10 / 84.61", "sum": "61.3"})]
    page.write(folder / "plain", columns, config="{}", headline="rgb", baseline="ce_continued",
               dataset=fake.dataset(60), published=paper,
               published_neighbours=[("figure 3", {"1": "23.2"})])  # fmt: skip
    # As many classes, outputs and columns as somebody may have, with the names that people give.
    names, labels = NASTY * 2, np.arange(64) % 32
    draw = {f"a network with a long name {i}": np.eye(32)[(labels + i) % 32][:, None] for i in range(4)}
    meta = columns[0].scores["test"].meta | {"classes": {"action": names}}
    many = [Column(f"method number {i} of them", f"m{i}", {"test": made(draw, labels, **meta)}) for i in range(6)]
    (folder / "many").mkdir()
    page.write(folder / "many", many, config="{}", headline=next(iter(draw)), baseline="m0")
    (folder / "multi").mkdir()
    page.write(folder / "multi", multi_columns(np.tile([1, 0, 1, 0], (8, 1))), config="{}", headline="rgb")
    taught(folder / "taught")
    dataset, source = fake.dataset(40), fake.Source(40, absent=(2,), silent=(3,))
    clips = [("train", row, functools.partial(source.__getitem__, row)) for row in range(40)]
    heads = {"action": Head(5, "single", ("a", "b", *NASTY[:3]))}
    lost = [{"id": name, "split": "test", "path": f"videos/{name}.mp4", "reason": name} for name in NASTY]
    browse.write(folder / "browse.html", dataset, clips, heads, lost)
    # As networks see them in training, in two draws; one clip cannot be read.
    clips[1] = "test", 1, functools.partial(source.__getitem__, "torn")
    views = {"weak": Augment(flip=True, flip_labels=((0, 1),)), "strong": Augment(device=("strong",))}
    streams = Stream("rgb", "rgb", Sampling(frames=4)), Stream("flow", "flow", Sampling(frames=4), "stack5")
    how = browse.Trained({"main": Group("train", 2, views)}, streams, heads, 32, 0, 2)
    browse.write(folder / "views.html", dataset, clips[:6], heads, [], how, f"configs/{NASTY[0]}.py")
    runs = [left(folder / f"mml-seed{seed}", seed) for seed in (0, 1)]
    compare.compare([*runs, left(folder / "dmcl", 0, title="DMCL", plan="compare")], folder / "out")
    return [
        *(f"{name}/report.html" for name in ("plain", "many", "multi", "taught")),
        *(f"{name}/compare.html" for name in ("out", "taught")),
        "browse.html",
        "views.html",
    ]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, says nothing, and hands on what it is told."""

    def log_message(self, *args):
        pass

    def do_POST(self):
        self.server.told.put(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()


@pytest.fixture
def served(tmp_path):
    """A folder and its server: frames of files may not look into each other."""
    handler = functools.partial(Handler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.told = queue.Queue()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path, server
        server.shutdown()


def looked_at(browser, served, names):
    """What a browser finds on each page at each width, {(name, width): texts}, and what it printed."""
    folder, server = served
    asked = [[name, width] for name in names for width in WIDTHS]
    (folder / "look.html").write_text(
        f"<!doctype html><link rel=icon href='data:,'><body><script>{PROBE}\n(async () => {{ const found = [];"
        f"for (const ask of {json.dumps(asked)}) found.push(await probe(...ask).catch(error => [String(error)]));"
        "fetch('found', {method: 'POST', body: JSON.stringify(found)}); })();</script>"
    )
    argv = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", "--window-size=1300,1000",
            f"http://127.0.0.1:{server.server_port}/look.html"]  # fmt: skip
    printed = folder / "printed.txt"
    with printed.open("w") as file, subprocess.Popen(argv, stdout=file, stderr=file) as program:
        try:
            # In real time: decoders do not keep up with --virtual-time-budget.
            found = json.loads(server.told.get(timeout=240))
        except queue.Empty:
            pytest.fail(f"the browser has found nothing in four minutes: {printed.read_text()[-2000:]}")
        finally:
            program.terminate()
    said = [line for line in printed.read_text().splitlines() if "CONSOLE" in line]
    return {tuple(ask): own for ask, own in zip(asked, found)}, said


@pytest.mark.slow
def test_pages_are_whole_at_both_widths(browser, served, monkeypatch):
    # Intervals of a few samples look like those of many, and take no time.
    resample = metrics._resample
    monkeypatch.setattr(metrics, "_resample", lambda values, seed, draws: resample(values, seed, 20))
    # A page that is wrong in every way that the others are asked about: what finds nothing there proves nothing.
    wrong = served[0] / "wrong.html"
    wrong.write_text(
        "<!doctype html><body><div style='width: 2000px'>wide</div><p style='width: 2rem; overflow: hidden; "
        "white-space: nowrap'>a long text</p><svg width='20' height='20'><text x='90' y='10'>far</text></svg>"
        "<img src='data:,' alt='none'><video src='data:video/mp4;base64,AAAA' aria-label='torn'></video>"
        "<input id='words'><select class='class'><option></option><option>a (2)</option></select>"
        "<p class='clip'>clip3 </p><p class='clip'>clip4 </p><script>console.error('an error')</script>"
    )
    found, said = looked_at(browser, served, [*pages(served[0]), "wrong.html"])
    for width in WIDTHS:
        told = " ".join(found.pop(("wrong.html", width)))
        for what in (
            "the page is 20",
            "outside: wide",
            "cut off: a long text",
            "its drawing: far",
            "picture: none",
            "no film: torn",
            "filter: an id leaves 2 of 1 clips",
        ):
            assert what in told
    assert not any(found.values()), {ask: own for ask, own in found.items() if own}
    assert len(said) == len(WIDTHS) and all("an error" in line for line in said), said
