"""The import rules of the house plan, and that importing mmvid brings no foreign framework."""

import ast
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "mmvid").rglob("*.py"))
# From top to bottom: a room imports only from rooms on a lower line.
LEVELS = [
    {"main"},
    {"train"},
    {"rehearsal", "neighbours"},
    {"talk", "resume", "score"},
    {"feed"},
    {"build"},
    {"plan", "starts", "networks", "evaluate", "step", "report"},
    {"figures", "methods", "models", "optim", "cache", "checkpoint", "data", "weights", "terms"},
    {"losses", "metrics", "streams", "sharding", "lock", "logs", "signals", "usage", "weight_names"},
]
# Inside a line the order of the names decides.
INSIDE = {("plan", "starts"), ("plan", "networks"), ("plan", "step"), ("starts", "step"), ("networks", "step"),
          ("report", "evaluate"), ("report", "figures")}  # fmt: skip


def room(path):
    return path.relative_to(ROOT / "mmvid").parts[0].removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            yield from ((node.module, alias.name) for alias in node.names)


def level(name):
    return next(i for i, names in enumerate(LEVELS) if name in names)


def test_every_room_has_a_level():
    rooms = {room(path) for path in FILES} - {"__init__"}
    assert rooms == set().union(*LEVELS)


def test_imports_run_downwards():
    for path in FILES:
        for module, name in imports(path):
            parts = module.split(".")
            if parts[0] != "mmvid" or room(path) == "__init__":
                continue
            target = parts[1] if len(parts) > 1 else name
            own = room(path)
            if target == own or (own, target) in INSIDE:
                continue
            assert level(target) > level(own), f"{path}: {own} imports {target}"


def test_each_library_has_its_room():
    for path in FILES:
        inside = path.relative_to(ROOT / "mmvid").as_posix()
        for module, _ in imports(path):
            library = module.split(".")[0]
            assert library != "flax" or inside.startswith("models/"), inside
            assert library != "orbax" or inside == "checkpoint.py", inside
            assert library not in ("grain", "av", "cv2") or inside.startswith("data/"), inside
            assert library not in ("data_prep", "configs"), inside
            assert library not in ("tensorflow", "clu"), inside


def test_no_foreign_framework_is_loaded():
    code = (
        "import sys, mmvid.main, mmvid.train, data_prep.build; "
        "print([m for m in ('torch', 'tensorflow', 'clu') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_reading_needs_no_jax():
    code = "import sys; from mmvid.data import augment, example, records, sampling; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "False", done.stderr
