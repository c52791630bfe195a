"""The import rules of the house plan, and that importing mmvid brings no foreign framework."""

import ast
import graphlib
import os
import pathlib
import subprocess
import sys

from mmvid import streams
from mmvid.data import fields, stored

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "mmvid").rglob("*.py"))

# From top to bottom: a room (a file of mmvid/, or a folder) imports only from rooms on a lower line.
LEVELS = [
    {"__main__"},
    {"main"},
    {"commands"},
    {"sweeps"},
    {"train", "configuration"},
    {"run"},
    {"plans", "step", "infer", "report"},
    {"passes"},
    {"network", "terms", "scores"},
    {"methods", "models", "optim", "checkpoint", "data", "prepare"},
    {"weights", "losses", "operations"},
    {"randaugment"},
    {"streams", "sharding", "logs", "sending"},
    {"transfer"},
    {"buckets", "lock"},
    {"files", "flops", "lowering", "names", "strong"},
    {"usage"},
]


def room(path):
    return path.relative_to(ROOT / "mmvid").parts[0].removesuffix(".py")


def name_of(path):
    """mmvid/data/fields.py -> mmvid.data.fields"""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            yield from ((node.module, alias.name) for alias in node.names)


def imported(path, modules):
    """The files of ours that a file imports, wherever in it."""
    for module, name in imports(path):
        found = [m for m in (f"{module}.{name}", module) if m in modules]
        yield from found[:1]


def level(name):
    return next(i for i, names in enumerate(LEVELS) if name in names)


def test_every_room_has_a_level():
    rooms = {room(path) for path in FILES} - {"__init__"}
    assert rooms == set().union(*LEVELS)


def test_imports_run_downwards():
    modules = {name_of(path): room(path) for path in FILES}
    for path in FILES:
        own = room(path)
        for module in imported(path, modules):
            target = modules[module]
            if target not in (own, "__init__"):
                assert level(target) > level(own), f"{path}: {own} imports {target}"


def test_no_file_imports_itself_by_way_of_others():
    modules = {name_of(path): path for folder in ("mmvid", "data_prep") for path in (ROOT / folder).rglob("*.py")}
    graph = {name: set(imported(path, modules)) for name, path in modules.items()}
    graphlib.TopologicalSorter(graph).prepare()  # names the circle, where there is one


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


def texts(path):
    """The strings of a file that are no docstrings."""
    tree = ast.parse(path.read_text())
    told = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    return {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in told}


def test_models_alone_know_what_their_layers_are_called():
    for path in FILES:
        inside = path.relative_to(ROOT / "mmvid").as_posix()
        if not inside.startswith(("models/", "weights/names_")):
            assert not texts(path) & {"conv1", "classifier", "downsample_conv", "bn1"}, inside


def test_no_foreign_framework_is_loaded():
    code = (
        "import sys, mmvid.main, mmvid.train, data_prep.build; "
        "print([m for m in ('torch', 'tensorflow', 'clu') if m in sys.modules])"
    )
    # As a notebook starts it, whose own environment has this backend.
    environ = os.environ | {"MPLBACKEND": "module://of_the_notebook"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environ)
    assert done.stdout.strip() == "[]", done.stderr


def test_data_and_streams_load_no_jax():
    """Worker processes read these; `data/flow.py` computes with JAX and is imported by whoever wants flow."""
    names = ["mmvid", "mmvid.streams", *(name_of(p) for p in (ROOT / "mmvid" / "data").rglob("*.py"))]
    names = sorted(set(names) - {"mmvid.data.flow"})
    code = f"import importlib, sys; [importlib.import_module(n) for n in {names}]; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "False", done.stderr


# Columns of a record that only one modality has, or that are the clip's clock.
OF_RECORDS = set(stored.COLUMNS) - {"id", "split", "num_frames", "height", "width"} | {"depth_range"}
TABLES = {"streams.py", "data/sound.py", *(f"data/{n}.py" for n in ("fields", "stored", "filmstrips", "measures"))}


def spelt(path):
    """(line, text) of the string literals of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_modalities_and_fields_are_named_in_their_tables_alone():
    names = OF_RECORDS | set(streams.MODALITIES) | set(fields.FIELDS)
    for path in FILES:
        inside = path.relative_to(ROOT / "mmvid").as_posix()
        if inside not in TABLES and not inside.startswith("data/media/"):
            found = [(line, text) for line, text in spelt(path) if text in names]
            assert not found, f"{inside}: what depends on a modality is a column of a table: {found}"
