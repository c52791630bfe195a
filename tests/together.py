"""A plan that uses the contracts together: groups of two datasets and of subsets, views that the device
augments, one read of several a step, a fusion with sound, a frozen teacher, scores before the first step, segments
that go on; and with two teachers, which are weighed, a pupil of both and Omnivore (`make_taught`).

    python -m mmvid train --config=tests/together.py --workdir=RUN --config.dataset.path=DATA/main \\
        --config.datasets.more.path=DATA/more       # with tests/ in PYTHONPATH, after prepare(DATA)
"""

import functools

import jax.numpy as jnp
import numpy as np
import toy
from ml_collections import ConfigDict
from test_records import pack, record

from configs import common
from mmvid import methods
from mmvid.data.augment import Augment
from mmvid.data.groups import Group
from mmvid.methods import METHODS
from mmvid.methods import terms as terms_lib
from mmvid.methods.base import Method, Pass, Term
from mmvid.models import MODELS
from mmvid.plans import PLANS, continuation, epochs, omnivore, segment, taught
from mmvid.plans.starts import Start

TEACHER, TEACHERS = "boxes", ("boxes", "sound")
WEAK, STRONG = Augment(scales=(1.0,)), Augment(scales=(0.75,), flip=True, device=("flip", "brightness"))
GROUPS = {
    "labelled": Group("few", 16, {"weak": WEAK}),
    "unlabelled": Group("train", 16, {"weak": WEAK, "strong": STRONG}, labels=False, dataset="more"),
}
# The steps of the segments that are one, in the two plans.
ONE, CUT = {"whole": 4}, {"first": 1, "second": 3}


# ---------------------------------------------------------------------------- data
def a_clip(i, split):
    """Four frames of one class of two, whose colour, loudness and boxes follow it; every fourth clip is silent,
    every fifth has no boxes."""
    rng, verb, frames = np.random.default_rng([i, len(split)]), i % 2, 4
    sound = np.int16(rng.normal(0, 500 + 3000 * verb, 16000 * frames // 12))
    boxes = [[t, 0.1 * verb, 0.2, 0.3 + 0.1 * t, 0.7, 1 + verb, 0.9, 1, 0] for t in range(frames)]
    return record(i, split, frames, audio=b"" if i % 4 == 3 else sound.tobytes(),
                  boxes=np.float32(boxes)[: 0 if i % 5 == 4 else frames])  # fmt: skip


def prepare(folder):
    """Writes the two datasets: 'main', and 'more', whose clips have neither sound nor boxes."""
    counts = {"train": 40, "val": 5, "test": 5}
    clips = [a_clip(i, split) for split, count in counts.items() for i in range(count)]
    silent = [record(i, frames=4, audio=b"", boxes=np.zeros((0, 9), np.float32)) for i in range(50, 74)]
    for name, made in (("main", clips), ("more", silent)):
        (folder / name).mkdir()
        pack(folder / name, made, ["verb"])


# ---------------------------------------------------------------------------- method and plan
def make_method(outputs, heads):
    """Labels, pseudo-labels whose weight rises with the steps, and the labelled clips' teacher."""
    students = tuple(output for output in outputs if output != TEACHER)
    pseudo = toy.make_pseudo(students, heads)
    (joint,) = pseudo.passes
    (head,) = heads

    def terms(results, batch, state, key):
        found = pseudo.terms(results, batch, state, key)
        own, group = results["labelled", "weak"], batch["labelled"]
        logits = terms_lib.stack(own, students, head)
        values = terms_lib.soft_cross_entropy(own[TEACHER]["logits"][head], logits)
        there = terms_lib.presence(students, group) & terms_lib.presence((TEACHER,), group)
        rising = found["pseudo"].weight * (1 - 0.5 ** state["steps"])
        distill = Term(students, values, there, jnp.ones(len(students)))
        return found | {"pseudo": found["pseudo"]._replace(weight=rising), "distill": distill}

    return Method(
        terms,
        (joint._replace(one_of=True), Pass((("labelled", "weak"),), weights="frozen", train=False)),
        init=lambda: {"steps": jnp.zeros(())},
        update=lambda state, *seen: {"steps": state["steps"] + 1},
        symmetric=False, reason="one output is the teacher", teachers=(TEACHER,),
    )  # fmt: skip


def make_plan(context, pieces, teachers=(TEACHER,)):
    """The teachers, and then one stretch of training in ``pieces`` {segment: steps}; each is measured first."""
    few = {name: group._replace(split="few") for name, group in epochs.default_groups(context.config).items()}
    teacher = segment.make(
        context, "teacher", teachers, ("single", {}), "2", {}, batches="teacher", title="", groups=few
    )._replace(also=("val", "held"))  # fmt: skip
    students = ("av", "omni")
    whole = segment.make(
        context, "whole", (*students, TEACHER), ("together", {}), str(sum(pieces.values())),
        {TEACHER: Start("teacher", TEACHER)}, batches="together", title="Together", groups=GROUPS,
        epoch_of="unlabelled",
    )  # fmt: skip
    return [teacher, *continuation.cut(whole._replace(measure=("val",)), pieces)]


def make_taught(context):
    """The plan in two pieces, with a teacher more; then a pupil of both, as they are weighed on clips that neither
    has seen, and Omnivore."""
    segments = make_plan(context, CUT, TEACHERS)
    teachers = [taught.Teacher(name, name, segment="teacher") for name in TEACHERS]
    options = methods.options("distillation") | {"teachers": TEACHERS, "gamma": 0.1}
    pupil = segment.make(
        context, "pupil", ("pupil", *TEACHERS), ("distillation", options), "1",
        {name: Start("teacher", name) for name in TEACHERS}, batches="pupil", title="Pupil",
    )  # fmt: skip
    pupil = pupil._replace(
        enter=taught.weighing(pupil.enter, "pupil", teachers, pupil.heads, options),
        check=taught.check(context.config, teachers, {}),
        spec={**pupil.spec, "weighed": taught.spec(context.config)},
    )
    return [*segments, pupil, omnivore.of(context, "omni", "1", {}, batches="pupil")]


# What a user adds to the tables: (table, name, row).
ROWS = (
    (MODELS, "toy", toy.MODEL),
    (METHODS, "together", make_method),
    (PLANS, "together", functools.partial(make_plan, pieces=CUT)),
    (PLANS, "taught", make_taught),
    (PLANS, "in_one", functools.partial(make_plan, pieces=ONE)),
)


# ---------------------------------------------------------------------------- configuration
def configured():
    """The configuration, but for where the data are; ROWS must stand in their tables."""
    c = common.get_config().unlock()
    c.plan, c.headline, c.method.name = "together", "av.joint", "together"
    c.datasets.more = ConfigDict(dict(path="", command=()))
    c.subsets.few = ConfigDict(dict(of="train", per_class=8))
    c.subsets.held = ConfigDict(dict(of="train", without="few", share=0.5))
    for name in ("rgb", "rgb2"):
        c.streams[name] = common.stream("rgb", frames=2)
    c.streams.audio = common.stream("audio", form="logmel")
    c.streams.boxes = common.stream("boxes", form="layout", frames=2)
    c.networks.omni = common.network("toy", "rgb", "rgb2")
    # Slow: Adam makes as large a step of a gradient that is all rounding.
    c.networks.omni.optimizer.name, c.networks.omni.schedule.lr = "adam", 0.001
    c.networks.av = common.fusion(audio="toy", rgb="toy")
    for name, stream in (("boxes", "boxes"), ("sound", "audio"), ("pupil", "rgb")):
        c.networks[name] = common.network("toy", stream)
    c.teachers.update(dict(split="few", held="held"))
    c.model_options.dropout, c.missing.audio = 0.3, 0.2
    c.size, c.batch_size, c.accumulate, c.ema = 8, 8, 2, 0.5
    c.schedule, c.optimizer.groups = common.schedule(0.01, warmup="2"), "uniform"
    c.evaluation.splits, c.evaluation.during = ("val", "test"), "held"
    c.evaluation.batch_size, c.loader.workers, c.loader.threads, c.log_every = 4, 0, 1, 1
    return c


def get_config():
    """The same as a configuration file gives it, with its method, models and plans."""
    for table, name, row in ROWS:
        table[name] = row
    return configured().lock()
