"""Multimodal distillation (Radevski et al.): an RGB network taught by several.

    python -m mmvid train --config=configs/distill.py --workdir=runs/distill

The default makes the Tabletop dataset of two heads (verb and noun; an action is
right where both are) on first use. It trains a teacher for RGB, flow, sound and
boxes each, without 80 of the 400 clips; weighs them, head by head, by their
cross-entropy on those 80; and lets an RGB student learn from the weighted sum
of their logits, and the same network, to compare with, from the labels alone.
It ends with the paper's tables: baseline, every modality alone, the ensembles
of gamma 30 and 1, and the student, accuracy and calibration error (table 1), on
'test' and on 'unseen', whose objects and backgrounds nobody has seen. A variant
is given as --config=configs/distill.py:smoke.

variant      what                                              expected time
(default)    Tabletop small, four teachers                     15 min, 2 cores
smoke        the same in miniature                             3 min, 2 cores
omnivore     the default, and Omnivore: one network for RGB,   30 min, 2 cores
             flow, boxes and sound, all as pictures (table 4)
table        tables 2 to 5 in miniature: a student of every    60 min, 2 cores
             set of teachers that they print, Omnivore, and
             table 5's grid of lambda and gamma; three clips of
             each video (figure 6). Beside it stand the numbers
             of EPIC-Kitchens-100, whose labels are of the same
             kind; tables 2b and 3b, which have one of actions,
             are printed by ssv2 and something_else
epic100      EPIC-Kitchens-100: RGB, flow and sound; lambda 1, gamma 30: noun
             51.7, verb 65.4, action 39.3 (baseline 52.0 61.7 38.3); with
             --config.method.distillation.weight=0.8 and ..gamma=1: 53.5 65.4
             41.2
ssv2         Something-Something v2: RGB, flow and boxes; table 2b, student of
             all: 63.0 (baseline 60.3; 59.3 in table 1)
something_else  its compositional split; table 3b, student of all: 59.1
             (baseline 51.8)
epic100_omnivore ssv2_omnivore something_else_omnivore  the same, and Omnivore
             (table 4: action 35.9; 58.4; 58.3)
r3d18 r3d50  epic100 with a ResNet3D student of 112 pixels (figure 5; the paper
             draws these numbers, and prints none)

Over three seeds of the default the student is right in 31.7 % of the actions of
'test', the baseline in 19.0; their calibration errors are 5.3 and 19.9. On
'unseen' it gains in verbs (53.3 against 28.1) and loses in nouns (38.3, 43.9):
the RGB teacher has learnt from fewer clips than the baseline, and the other
teachers hardly know objects. docs/measured.md has all of it.

The real datasets have the paper's recipe: AdamW, 60 epochs, lambda 1, gamma 30,
tau 10. Days on several GPUs; not run by us. How to prepare them stands in
data_prep/README.md. The paper starts all networks but the one of boxes from
Kinetics: --config.networks.rgb.weights=FILE, and the same for each teacher
(Video Swin-T's own checkpoint or torchvision's; Hara's for r3d18 and r3d50).

What the paper prints (table 1, accuracy / calibration error; Video Swin-T;
EPIC-Kitchens-100, then its unseen participants; noun and verb): RGB baseline
52.0/19.9 61.7/17.1, 38.3/26.9 51.7/24.0; teachers, gamma 30, 52.3/2.0 66.8/3.4,
42.9/6.0 58.0/9.9; gamma 1, 53.9/8.9 66.9/4.2, 43.8/9.5 57.7/9.7. Its best
student (table 5, lambda 0.8, gamma 1): 53.5 65.4, action 41.2, where the
baseline's is 38.3.

Teachers of an earlier run: --config.networks.teacher_flow.weights=RUN, or
RUN/teachers/weights.safetensors#teacher_flow. The file must prove that the
teacher saw none of the clips on which it is weighed, and the run have scores of
these (python -m mmvid evaluate RUN --splits=held).
"""

from ml_collections import ConfigDict

from configs import common


def _row(what: str, noun: str, verb: str, action: str = ""):
    found = {"noun": noun, "verb": verb, "noun and verb": action}
    return what, {head: text for head, text in found.items() if text}


# Accuracy / calibration error of table 1; accuracies of tables 2a, 3a, 4 and 5. Unseen: participants P18 and P32.
EPIC = (
    _row("RGB baseline, EPIC-Kitchens-100 (T1)", "52.0 / 19.9", "61.7 / 17.1"),
    _row("teachers, gamma 30, EPIC-Kitchens-100 (T1)", "52.3 / 2.04", "66.8 / 3.4"),
    _row("teachers, gamma 1, EPIC-Kitchens-100 (T1)", "53.9 / 8.9", "66.9 / 4.2"),
    _row("RGB baseline, unseen participants (T1)", "38.3 / 26.9", "51.7 / 24.0"),
    _row("teachers, gamma 30, unseen participants (T1)", "42.9 / 6.02", "58.0 / 9.9"),
    _row("teachers, gamma 1, unseen participants (T1)", "43.8 / 9.5", "57.7 / 9.7"),
    _row("RGB baseline, EPIC-Kitchens-100 (T2a, T5)", "52.0", "61.7", "38.3"),
    _row("teacher_flow, EPIC-Kitchens-100 (T2a)", "34.1", "59.0", "25.9"),
    _row("teacher_audio, EPIC-Kitchens-100 (T2a)", "22.3", "46.5", "15.1"),
    _row("student of all three, lambda 1, gamma 30, EPIC-Kitchens-100 (T2a, T5)", "51.7", "65.4", "39.3"),
    _row("student of all three, unseen participants (T3a)", "43.7", "54.1", "29.6"),
    _row("Omnivore, EPIC-Kitchens-100 (T4)", "47.8", "62.8", "35.9"),
    _row("student, lambda 0.8, gamma 1, EPIC-Kitchens-100 (T5)", "53.5", "65.4", "41.2"),
)

# Top-1 / top-5 of tables 2b, 3b and 4, accuracy / calibration error of table 1.
SSV2 = (
    ("RGB baseline, SSv2 (T2b; T1 has 59.3)", {"action": "60.3 / 86.4"}),
    ("teacher_flow, SSv2 (T2b)", {"action": "49.3 / 79.0"}),
    ("teacher_boxes, SSv2 (T2b)", {"action": "47.9 / 76.2"}),
    ("teachers RGB and flow, SSv2 (T2b)", {"action": "64.3 / 88.9"}),
    ("teachers RGB and boxes, SSv2 (T2b)", {"action": "65.3 / 89.5"}),
    ("all teachers, SSv2 (T2b)", {"action": "66.6 / 90.5"}),
    ("student of RGB and flow, SSv2 (T2b)", {"action": "62.8 / 88.9"}),
    ("student of RGB and boxes, SSv2 (T2b)", {"action": "63.2 / 88.7"}),
    ("student of all, SSv2 (T2b)", {"action": "63.0 / 88.9"}),
    ("Omnivore, SSv2 (T4)", {"action": "58.4 / 86.2"}),
    ("RGB baseline, SSv2, accuracy and calibration error (T1)", {"action": "59.3 / 21.2"}),
    ("teachers, gamma 30, SSv2, accuracy and calibration error (T1)", {"action": "66.6 / 8.1"}),
    ("teachers, gamma 1, SSv2, accuracy and calibration error (T1)", {"action": "66.7 / 9.0"}),
)
SOMETHING_ELSE = (
    ("RGB baseline, Something-Else (T3b)", {"action": "51.8 / 79.5"}),
    ("teacher_flow, Something-Else (T3b)", {"action": "49.0 / 77.4"}),
    ("teacher_boxes, Something-Else (T3b)", {"action": "41.4 / 67.3"}),
    ("teachers RGB and flow, Something-Else (T3b)", {"action": "61.0 / 86.4"}),
    ("teachers RGB and boxes, Something-Else (T3b)", {"action": "59.4 / 84.5"}),
    ("all teachers, Something-Else (T3b; T1 has 63.3)", {"action": "63.6 / 87.7"}),
    ("student of RGB and flow, Something-Else (T3b)", {"action": "58.2 / 85.1"}),
    ("student of RGB and boxes, Something-Else (T3b)", {"action": "57.5 / 84.1"}),
    ("student of all, Something-Else (T3b)", {"action": "59.1 / 86.1"}),
    ("Omnivore, Something-Else (T4)", {"action": "58.3 / 84.9"}),
    ("RGB baseline, Something-Else, accuracy and calibration error (T1)", {"action": "51.8 / 21.4"}),
    ("teachers, gamma 30, Something-Else, accuracy and calibration error (T1)", {"action": "63.3 / 6.5"}),
    ("teachers, gamma 1, Something-Else, accuracy and calibration error (T1)", {"action": "63.5 / 8.1"}),
)
# Table 5: noun, verb and action of EPIC-Kitchens-100 by (lambda, gamma); three of its rows stand in EPIC.
TABLE_5 = (
    _row("lambda 0.8, gamma 30 (T5)", "52.6", "65.1", "40.4"),
    _row("lambda 0.8, gamma 3 (T5)", "53.0", "66.9", "41.0"),
    _row("lambda 1, gamma 1 (T5)", "53.1", "65.5", "40.5"),
    _row("lambda 0.8, gamma 0.33 (T5)", "53.6", "64.7", "40.5"),
)
# Tables 2a, 3a (unseen participants) and 4: students of sets of teachers, and the teachers.
TABLES_2_TO_4 = (
    _row("teachers RGB and flow, EPIC-Kitchens-100 (T2a)", "51.9", "65.3", "39.5"),
    _row("teachers RGB and audio, EPIC-Kitchens-100 (T2a)", "52.7", "64.4", "39.8"),
    _row("all teachers, EPIC-Kitchens-100 (T2a)", "52.3", "66.8", "40.5"),
    _row("student of RGB and flow, EPIC-Kitchens-100 (T2a)", "52.2", "65.6", "39.9"),
    _row("student of RGB and audio, EPIC-Kitchens-100 (T2a)", "51.5", "62.4", "37.9"),
    _row("RGB baseline, unseen participants (T3a)", "38.3", "51.7", "25.4"),
    _row("teacher_flow, unseen participants (T3a)", "28.0", "53.2", "21.6"),
    _row("teacher_audio, unseen participants (T3a)", "15.0", "41.5", "9.1"),
    _row("teachers RGB and flow, unseen participants (T3a)", "41.0", "54.9", "28.4"),
    _row("teachers RGB and audio, unseen participants (T3a)", "41.9", "55.3", "28.5"),
    _row("all teachers, unseen participants (T3a)", "42.9", "58.0", "30.3"),
    _row("student of RGB and flow, unseen participants (T3a)", "42.5", "55.9", "30.2"),
    _row("student of RGB and audio, unseen participants (T3a)", "41.8", "51.8", "27.5"),
    _row("Omnivore, unseen participants (T4)", "38.5", "54.5", "27.9"),
)


def get_config(variant: str = "") -> ConfigDict:
    """The configuration of a variant. Raises ValueError for an unknown one."""
    return common.of_variant("configs/distill.py", VARIANTS, variant)


def plan(c: ConfigDict, *, share: float, head: str | None = None) -> None:
    """The plan: teachers learn from 'taught', and are weighed on 'held', a ``share`` of the training clips that is
    drawn by the classes of ``head``."""
    c.plan, c.method.name = "distill", "distillation"
    c.method.title = "Student"
    c.subsets.held = dict(of="train", share=share) | ({"head": head} if head else {})
    c.subsets.taught = dict(of="train", without="held")
    c.teachers.update(dict(split="taught", held="held"))


def student(c: ConfigDict, model: str, **sampling) -> None:
    """The student's network, and the RGB stream that it shares with its RGB teacher, frame by frame."""
    c.streams.rgb = common.stream("rgb", **sampling)
    c.networks.rgb = common.network(model, "rgb")


def teacher(c: ConfigDict, model: str, modality: str, form: str, *, learning=(), options=(), **sampling) -> None:
    """A teacher of another modality and its stream; ``learning`` are the entries of its own optimiser and schedule
    that differ from the run's, {'optimizer': {..}, 'schedule': {..}}, ``options`` those of its model."""
    c.streams[modality] = common.stream(modality, form=form, **sampling)
    c.networks[f"teacher_{modality}"] = common.network(model, modality, **dict(options))
    for part, changes in dict(learning).items():
        c.networks[f"teacher_{modality}"][part].update(changes)


def teachers(c: ConfigDict) -> None:
    """Tabletop's small teachers."""
    c.networks.teacher_rgb = common.network("tsm_tiny", "rgb")
    # Chosen on 'val' among 0.05, 0.1 and 0.2: two heads in so few steps want a high rate. Flow's teacher keeps the
    # run's 0.05, which was not tuned.
    for name in ("rgb", "teacher_rgb"):
        c.networks[name].schedule.lr = 0.2
    teacher(c, "tsm_tiny", "flow", "stack5", kind="ranges")
    adamw = dict(name="adamw", weight_decay=0.05, clip=5.0, groups="all")
    sound = dict(optimizer=adamw, schedule=dict(lr=2e-3, warmup="5%", kind="linear"))
    teacher(c, "audio_tiny", "audio", "logmel", learning=sound, kind="ranges")
    layout = dict(optimizer=adamw | {"weight_decay": 0.01}, schedule=dict(lr=2e-3, warmup="5%", kind="linear"))
    # MMD's eps of 0.1 hides how little a box moves from frame to frame here.
    teacher(c, "stlt_tiny", "boxes", "layout", learning=layout, options=dict(eps=0.01, dropout=0.0), kind="ranges")
    # As in MMD's code, boxes are learnt from larger batches: in those of 16 they learn next to nothing.
    c.teachers.alone.teacher_boxes = dict(steps="300", batch_size=64)


def tabletop(c: ConfigDict, size: str = "small") -> None:
    """Tabletop, an RGB student and four teachers; the RGB networks and flow's start from stills."""
    common.use_tabletop(c, size, "epic")
    c.stills.path = "data/tabletop-stills"
    c.stills.command = ("data_prep.build", "--out", c.stills.path, "--dataset", "tabletop_stills")
    c.stills.steps = "200"
    plan(c, share=0.2, head="verb")
    student(c, "tsm_tiny", kind="ranges")
    teachers(c)
    # One clip of the middles of the ranges that training draws from.
    c.evaluation.protocol = "C1"
    c.method.distillation.update(dict(weight=0.8, gamma=1.0))
    c.steps.update(dict(ce="750", method="750"))
    c.published = EPIC


def smoke(c: ConfigDict) -> None:
    """Everything once, in miniature."""
    tabletop(c, "smoke")
    c.stills.steps = "10"
    c.steps.update(dict(ce="20", method="20"))
    c.teachers.alone.teacher_boxes = dict(steps="20", batch_size=16)
    c.schedule.warmup = c.stills.schedule.warmup = "5"
    c.log_every = 5


# ---------------------------------------------------------------------------- the paper's tables on Tabletop
def with_omnivore(c: ConfigDict, model: str, *modalities: str, **sampling) -> None:
    """Omnivore (table 4): one network for RGB and ``modalities``, all as pictures, one of them in a batch."""
    forms = dict(flow="image3", boxes="outlines", audio="logmel_windows")
    # Streams of their own: teachers may read other forms of the same frames.
    streams = {f"{modality}_picture": modality for modality in modalities}
    for name, modality in streams.items():
        c.streams[name] = common.stream(modality, form=forms[modality], **sampling)
    c.networks.omni = common.network(model, "rgb", *streams)
    # What is compared learns at one rate.
    c.networks.omni.schedule.lr = c.networks.rgb.schedule.lr


def omnivore(c: ConfigDict) -> None:
    """The default, and Omnivore."""
    tabletop(c)
    with_omnivore(c, "tsm_tiny", "flow", "boxes", "audio", kind="ranges")


def table(c: ConfigDict) -> None:
    """Tables 2 to 5: students of every set of teachers that the paper prints and of all, table 5's grid of
    (lambda, gamma), Omnivore. Teachers have the default's 750 updates (boxes 300), baseline and students 300."""
    omnivore(c)
    c.steps.method = "300"
    # Several views at test, so that figure 6 can leave some out; 'val' while training has one, whatever this says.
    c.evaluation.protocol = "C3"
    main = dict(weight=1.0, gamma=30.0)
    sets = dict(flow="rgb flow", audio="rgb audio", boxes="rgb boxes", flow_audio="rgb flow audio",
                flow_boxes="rgb flow boxes")  # fmt: skip
    for name, modalities in sets.items():
        names = modalities.split()
        teachers = tuple(f"teacher_{modality}" for modality in names)
        c.students[f"of_{name}"] = dict(main, teachers=teachers, title="Student of " + ", ".join(names))
    for weight, gamma in ((1.0, 30.0), (0.8, 30.0), (0.8, 3.0), (1.0, 1.0), (0.8, 0.33)):
        name = f"lambda{weight:g}_gamma{gamma:g}".replace(".", "")
        title = f"Student, lambda {weight:g}, gamma {gamma:g}"
        c.students[name] = dict(weight=weight, gamma=gamma, title=title)
    c.method.title = "Student, lambda 0.8, gamma 1"
    c.published = EPIC + TABLES_2_TO_4 + TABLE_5


# ---------------------------------------------------------------------------- the paper's datasets
# Clips of training and validation (of which 'unseen' is a part); the paper weighs teachers on 1,000 of the former.
CLIPS = {
    "epic100": dict(train=67_217, val=9_668, unseen=1_065),
    "ssv2": dict(train=168_913, val=24_777),
    "something_else": dict(train=54_919, val=57_876),
}
HELD = 1000
STRIDED = dict(kind="strided", frames=32, dense_length=64)
RANGES = dict(kind="ranges", frames=16)


def _published(c: ConfigDict, name: str) -> None:
    """The recipe of the paper: AdamW, 60 epochs, lambda 1, gamma 30, tau 10; Video Swin-T on 224 pixels."""
    c.dataset.path = f"data/{name}"
    c.dataset.clips.update(CLIPS[name])
    c.optimizer.update(dict(name="adamw", weight_decay=0.05, clip=5.0, groups="all"))
    c.schedule = common.schedule(1e-4, kind="linear", warmup="5%")
    c.size, c.batch_size = 224, 16
    c.steps.update(dict(ce="60 epochs", method="60 epochs"))
    c.augment.update(dict(crop="resized", scales=(1.15, 1.43), colour=1.0, distortion="jitter"))
    c.model_options.drop_path = 0.2
    head = next(iter(c.heads))
    plan(c, share=HELD / CLIPS[name]["train"], head=head)
    # Random clips, as in the paper: each class in proportion to its clips.
    c.subsets.held.by = "frequency"
    c.evaluation.update(dict(protocol="C1", resize=224, every="1 epoch"))
    c.save_every = "1 epoch"
    c.loader.workers = 8


def epic100(c: ConfigDict) -> None:
    """EPIC-Kitchens-100: RGB, flow and sound, 32 frames at stride 2; scored on 'val' and on its unseen cooks.

    The paper strides frames of 60 a second; here they are the films' own, unless these were converted to 60 before
    (data_prep/README.md).
    """
    c.heads.update(dict(noun=(300, "single"), verb=(97, "single")))
    _published(c, "epic100")
    c.augment.flip = True
    student(c, "swin3d_tiny", **STRIDED)
    c.networks.teacher_rgb = common.network("swin3d_tiny", "rgb")
    teacher(c, "swin3d_tiny", "flow", "image3", **STRIDED)
    teacher(c, "swin3d_tiny", "audio", "logmel_windows", **STRIDED)
    c.evaluation.splits = ("val", "unseen")
    c.published = EPIC + TABLES_2_TO_4 + TABLE_5


def _something(c: ConfigDict, name: str) -> None:
    """RGB, flow and boxes, 16 frames evenly over the clip; never mirrored, as labels have a side."""
    c.heads.action = (174, "single")
    _published(c, name)
    student(c, "swin3d_tiny", **RANGES)
    c.networks.teacher_rgb = common.network("swin3d_tiny", "rgb")
    teacher(c, "swin3d_tiny", "flow", "image3", **RANGES)
    teacher(c, "stlt", "boxes", "layout", **RANGES)
    # STLT's, in the paper's code.
    c.teachers.alone.teacher_boxes = dict(batch_size=128)
    # Boxes neither cropped nor mirrored.
    c.streams.boxes.geometry = ""
    c.evaluation.splits = ("val",)


def ssv2(c: ConfigDict) -> None:
    """Something-Something v2."""
    _something(c, "ssv2")
    c.published = SSV2


def something_else(c: ConfigDict) -> None:
    """Something-Else, its compositional split: objects at test that were never seen in training."""
    _something(c, "something_else")
    c.published = SOMETHING_ELSE


def epic100_omnivore(c: ConfigDict) -> None:
    """EPIC-Kitchens-100, and Omnivore."""
    epic100(c)
    with_omnivore(c, "swin3d_tiny", "flow", "audio", **STRIDED)


def ssv2_omnivore(c: ConfigDict) -> None:
    """Something-Something v2, and Omnivore."""
    ssv2(c)
    with_omnivore(c, "swin3d_tiny", "flow", "boxes", **RANGES)


def something_else_omnivore(c: ConfigDict) -> None:
    """Something-Else, and Omnivore."""
    something_else(c)
    with_omnivore(c, "swin3d_tiny", "flow", "boxes", **RANGES)


def _r3d(c: ConfigDict, model: str, **options) -> None:
    """EPIC-Kitchens-100 with a student of 112 pixels (figure 5, lambda 0.8, gamma 1): one of Hara's networks.

    It wants weights from Kinetics-700, as its batch norms stay as they come.
    """
    epic100(c)
    # The frames, crops and colours of the RGB teacher, normalised as the student wants them.
    c.streams.rgb05 = common.stream("rgb", form="image05", **STRIDED)
    c.networks.rgb = common.network(model, "rgb05", resize=112, frozen_bn="all", **options)
    c.method.distillation.update(dict(weight=0.8, gamma=1.0))


def r3d18(c: ConfigDict) -> None:
    """A ResNet3D-18 student."""
    _r3d(c, "hara_r3d_18", hidden=2048)


def r3d50(c: ConfigDict) -> None:
    """A ResNet3D-50 student."""
    _r3d(c, "hara_r3d_50")


VARIANTS = {
    "": tabletop,
    "smoke": smoke,
    "table": table,
    "omnivore": omnivore,
    "epic100": epic100,
    "ssv2": ssv2,
    "something_else": something_else,
    "epic100_omnivore": epic100_omnivore,
    "ssv2_omnivore": ssv2_omnivore,
    "something_else_omnivore": something_else_omnivore,
    "r3d18": r3d18,
    "r3d50": r3d50,
}
