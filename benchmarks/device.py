"""Everything that one GPU can tell in 8 minutes: one command, a table for each section and one JSON.

    python -m benchmarks.device --out device.json

Sections, in order: the joint step of two networks (RGB and flow, MML) against PyTorch, its share of the
roofline, the joint step against single ones, compile times, the candidate lowerings of each convolution,
TV-L1, and bfloat16 against float32. It needs JAX, Flax, optax and NumPy; without PyTorch its columns are
`-`. float32 is each framework's default on such a device with TF32 allowed in both, but where 'highest'
is written. Times are medians. A row that fails says why and the rest goes on; a row that does not fit into
the minutes is named at the end, and the JSON is written after every row. ``--tiny`` runs all of it in
miniature, on whatever device there is.
"""

import argparse
import importlib.util
import json
import pathlib
import platform
import re
import time
from collections.abc import Callable
from typing import NamedTuple

from benchmarks import device_tables as tables
from benchmarks.workers import Worker

MODULES = {"mmvid": "benchmarks.jax_side", "torch": "benchmarks.torch_side"}
# One framework runs at a time and may have the whole device; every compilation is a cold one.
ENV = {
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
# Seconds that ending takes.
ENDING = 3
SPECS = (
    dict(model="tsm_resnet18", batch=64, frames=8, side=112, options={}),
    dict(model="tsm_resnet50", batch=32, frames=8, side=224, options={}),
    dict(model="r2plus1d_18", batch=32, frames=8, side=112, options={}),
    dict(model="csn_ir_50", batch=16, frames=8, side=224, options={}),
)
MINIATURE = dict(width=8, stages=(1,))
TINY = (
    dict(model="tsm_resnet18", batch=2, frames=2, side=32, options=MINIATURE),
    dict(model="r2plus1d_18", batch=2, frames=2, side=16, options=MINIATURE),
)


class Size(NamedTuple):
    """What is measured: the real thing or the miniature. ``seconds`` that a median takes; the convolutions
    are those of ``sources``."""

    specs: tuple[dict, ...] = SPECS
    sources: tuple[dict, ...] = SPECS
    dtypes: tuple[str, ...] = ("bfloat16", "float32")
    seconds: float = 1.5
    square: int = 8192
    copied: int = 2**30
    shapes: int = 100
    together: int = 6
    pairs: tuple[int, ...] = (8, 32, 128)
    picture: tuple[int, int] = (256, 456)
    parity_batch: int = 8


SMALL = Size(
    specs=TINY[:1],
    sources=TINY,
    seconds=0.01,
    square=64,
    copied=2**16,
    shapes=2,
    together=2,
    pairs=(1,),
    picture=(24, 32),
    parity_batch=2,
)


class Task(NamedTuple):
    """One question to a worker; ``row`` is what its rows say beside the numbers. It begins only where
    ``least`` seconds are left, and is stopped after ``most``."""

    side: str
    ask: dict
    row: dict
    least: float = 6.0
    most: float = 120.0

    @property
    def name(self) -> str:
        """For people: what is measured, where and how."""
        return " ".join([self.row["section"], self.side, *(str(v) for k, v in self.row.items() if k != "section")])


class Section(NamedTuple):
    """``until``: the share of the time after which no further row of it begins."""

    title: str
    until: float
    tasks: list[Task]
    table: Callable[[dict], list[str]]


def _joint(
    section: str, side: str, size: Size, dtype: str, how: str, names=("rgb", "flow"), *, least=15.0, most=120.0
):
    """The step of each network in one dtype. ``how``: 'mmvid', 'eager' or 'compile'."""
    own = {"names": names} if side == "mmvid" else {"compiled": how == "compile"}
    return [
        Task(
            side,
            {"do": "joint", "spec": spec, "dtype": dtype, "seconds": size.seconds} | own,
            {"section": section, "model": spec["model"], "dtype": dtype, "how": how, "names": "+".join(names)},
            least,
            most,
        )
        for spec in size.specs
    ]


def joint_tasks(size: Size, torch: bool) -> list[Task]:
    """All of bfloat16 first; a dtype's torch.compile, which takes longest, after eager PyTorch."""
    tasks = []
    for dtype in size.dtypes:
        tasks += _joint("joint", "mmvid", size, dtype, "mmvid")
        if torch:
            tasks += _joint("joint", "torch", size, dtype, "eager", least=10.0, most=60.0)
            tasks += _joint("joint", "torch", size, dtype, "compile", least=40.0, most=80.0)
    return tasks


def single_tasks(size: Size) -> list[Task]:
    """Each network alone, in bfloat16."""
    both = [_joint("single", "mmvid", size, "bfloat16", "mmvid", (name,)) for name in ("rgb", "flow")]
    return [task for pair in zip(*both) for task in pair]


def lowering_tasks(size: Size, shapes: list[dict]) -> list[Task]:
    """A few shapes at a time, those with the most work first; float32 after all of bfloat16."""
    starts = range(0, min(len(shapes), size.shapes), size.together)
    return [
        Task(
            "mmvid",
            {
                "do": "lower",
                "shapes": [s["shape"] for s in shapes[i : i + size.together]],
                "dtype": dtype,
                "seconds": min(size.seconds, 0.1),
            },
            {"section": "lowerings", "dtype": dtype, "shapes": f"{i + 1}-{min(i + size.together, len(shapes))}"},
        )
        for dtype in size.dtypes
        for i in starts
    ]


def sections(size: Size, torch: bool, shapes: list[dict]) -> list[Section]:
    """All of them, in order."""
    peaks = Task(
        "mmvid",
        {"do": "peaks", "size": size.square, "copied": size.copied, "seconds": size.seconds / 3},
        {"section": "peaks"},
    )
    height, width = size.picture
    flow = [
        Task(
            "mmvid",
            {"do": "tvl1", "pairs": n, "height": height, "width": width, "seconds": size.seconds},
            {"section": "tvl1", "pairs": n},
        )
        for n in size.pairs
    ]
    parity = [
        Task(
            "mmvid",
            {"do": "parity", "spec": spec, "batch": size.parity_batch},
            {"section": "parity", "model": spec["model"]},
        )
        for spec in size.specs
    ]
    return [
        Section("1. joint step of two networks (RGB + flow, MML)", 0.58, joint_tasks(size, torch), tables.joint),
        Section("2. share of the roofline", 0.62, [peaks], tables.roofline),
        Section("3. joint step against the sum of single ones", 0.74, single_tasks(size), tables.single),
        Section("4. compile time, cold", 0.74, [], tables.compilation),
        Section(
            "5. lowerings of each convolution, forward and both gradients",
            0.86,
            lowering_tasks(size, shapes),
            tables.lowerings,
        ),
        Section("6. TV-L1, default preset", 0.91, flow, tables.tvl1),
        Section("7. bfloat16 against float32 'highest'", 1.0, parity, tables.parity),
    ]


class Run:
    """One run of the benchmark: its workers, its clock, and the report that grows."""

    def __init__(self, minutes: float, out: pathlib.Path, only: str = ""):
        self.only = re.compile(only)
        self.began, self.total, self.out = time.perf_counter(), 60 * minutes - ENDING, out
        self.workers = {side: Worker(module, ENV) for side, module in MODULES.items()}
        self.report = {"about": {}, "rows": [], "errors": [], "not_run": []}

    def now(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.began

    def ask(self, side: str, question: dict, most: float) -> dict:
        """A worker's answer, the other worker ended first: it would hold memory."""
        for other, worker in self.workers.items():
            if other != side:
                worker.close()
        return self.workers[side].ask(question, max(min(most, self.total - self.now()), 1.0))

    def do(self, task: Task) -> None:
        """Runs a task into the report and says so."""
        began = self.now()
        answer = self.ask(task.side, task.ask, task.most)
        self.report["rows"] += [task.row | row for row in answer.get("rows", ())]
        if "error" in answer:
            self.report["errors"].append(task.row | {"error": answer["error"]})
        said = answer.get("error", "done")
        print(f"[{self.now():4.0f} s] {task.name}: {said} ({self.now() - began:.1f} s)", flush=True)
        self.save()

    def save(self) -> None:
        """Writes the JSON."""
        self.report["seconds"] = self.now()
        self.out.write_text(json.dumps(self.report, indent=1))

    def section(self, section: Section) -> list[Task]:
        """Runs and prints a section; returns the tasks that had no time."""
        late = []
        for task in filter(lambda task: self.only.search(task.name), section.tasks):
            if self.now() + task.least > section.until * self.total:
                late.append(task)
            else:
                self.do(task)
        self.show(section)
        return late

    def show(self, section: Section) -> None:
        """Prints a section's table; one that cannot be drawn does not end the run."""
        try:
            lines = section.table(self.report)
        except Exception as error:
            lines = [f"no table: {type(error).__name__}: {error}"]
        print(f"\n{section.title}", *lines, "", sep="\n", flush=True)

    def close(self) -> None:
        """Ends both workers."""
        for worker in self.workers.values():
            worker.close()


def prepare(run: Run, size: Size, torch: bool) -> list[dict]:
    """Asks both frameworks what they are, and mmvid for its convolutions (returned)."""
    about = {
        "python": platform.python_version(),
        "specs": size.specs,
        "units": "ms: milliseconds, _s: seconds, _gb: 1e9 bytes; a multiply-add is two flops",
        "float32": "the default precision, TF32 allowed in both frameworks",
    }
    if torch:
        about["torch"] = run.ask("torch", {"do": "about"}, 60).get("rows", [{}])[0]
    answer = run.ask("mmvid", {"do": "about"}, 90)
    about["mmvid"] = answer.get("rows", [answer])[0]
    run.report["about"] = about
    print(
        f"{about['mmvid'].get('device', about['mmvid'])}; jax {about['mmvid'].get('jax')}; "
        f"torch {about['torch'].get('torch') if torch else '-'}",
        flush=True,
    )
    found = run.ask("mmvid", {"do": "shapes", "specs": size.sources}, 90)
    if "error" in found:
        run.report["errors"].append({"section": "lowerings", "error": found["error"]})
    run.report["convolutions"] = found.get("rows", [])
    return run.report["convolutions"]


def measure(run: Run, size: Size, torch: bool) -> None:
    """All sections, then with the time that is left what was late."""
    late = []
    for section in sections(size, torch, prepare(run, size, torch)):
        late += [(section, task) for task in run.section(section)]
    again = []
    for section, task in late:
        if run.now() + task.least > run.total:
            run.report["not_run"].append(task.name)
            continue
        run.do(task)
        if section not in again:
            again.append(section)
    for section in again:
        run.show(section)


def main() -> None:
    """Prints the tables and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything (default 8)")
    parser.add_argument("--tiny", action="store_true", help="miniature shapes, to see that it works")
    parser.add_argument("--only", default="", help="a regular expression: only rows whose name it finds")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("device.json"))
    args = parser.parse_args()
    torch = importlib.util.find_spec("torch") is not None
    run = Run(args.minutes, args.out, args.only)
    try:
        measure(run, SMALL if args.tiny else Size(), torch)
    finally:
        run.close()
        run.save()
    for error in run.report["errors"]:
        print("failed:", " ".join(str(value) for value in error.values()))
    if run.report["not_run"]:
        print("not run for want of time:", "; ".join(run.report["not_run"]))
    print(f"{run.now():.0f} s; {args.out}")


if __name__ == "__main__":
    main()
