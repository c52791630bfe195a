"""The plan 'distill': a network of one modality learns from teachers of several (Radevski et al. 2023).

Each teacher learns alone from the labels, without the clips on which it is weighed. Then the student learns from
all of them, and, to compare with, the baseline from the labels: the same network from the same start, on the same
clips in the same batches, with the same updates. Frames and crops within a clip are drawn anew, as the student's
are chosen for all of its teachers' streams together. The RGB teacher is not the baseline: it has seen fewer clips.
"""

from collections.abc import Mapping

from mmvid import methods
from mmvid.data.groups import Group
from mmvid.plans import epochs, keys, omnivore, segment, stills, taught
from mmvid.plans.networks import configured
from mmvid.plans.segment import Context, Segment
from mmvid.plans.starts import Start
from mmvid.plans.taught import Teacher

METHOD = "distillation"
# Of the segments: the teachers', and that of the student which learns from labels alone.
TEACHERS, BASELINE = "teachers", "baseline"


def make(context: Context) -> list[Segment]:
    """The network of the headline is the student. All others are teachers, except for those that read several
    streams in turn: each of these is an Omnivore, to compare with. Teachers that come trained, in a file or a
    workdir under their ``weights`` (`taught.trained`), are not trained here.

    Raises ValueError for another method, for a plan without teachers, and for teachers that cannot be weighed.
    """
    config = context.config
    if config.method.name != METHOD:
        raise ValueError(f"plan 'distill' distils: method.name={config.method.name!r}, set it to {METHOD!r}")
    student = segment.headline_network(config)
    others = tuple(name for name in config.networks if name != student)
    omnivores = tuple(name for name in others if len(config.networks[name].reads) > 1)
    names = tuple(name for name in others if name not in omnivores)
    files = {name: file for name in names if (file := taught.trained(config, name, context.heads))}
    untrained = tuple(name for name in names if name not in files)
    first, starts = stills.beginnings(context, (student, *others))
    _check(context, names, untrained)
    segments = [*first]
    for name, found in _classes(config, untrained).items():
        segments.append(_teachers(context, name, found, starts))
    own = {target: start for target, start in starts.items() if target.partition(".")[0] == student}
    plain = ("single", {})
    segments.append(_student(context, BASELINE, (student,), plain, own, title="Baseline"))
    for name in omnivores:
        title = "Omnivore" if len(omnivores) == 1 else f"Omnivore {name}"
        made = omnivore.of(
            context, name, config.steps.method, starts, batches="students", name=f"omnivore_{name}", title=title,
            groups=_groups(config, _split(config)),
        )  # fmt: skip
        segments.append(made)
    owners = {output: network.name for output, network in configured(config).items() if network.name in names}
    for name, changes in {**config.students, METHOD: {}}.items():
        segments.append(_pupil(context, name, student, owners, files, own, starts, changes))
    return segments


def _check(context: Context, names: tuple[str, ...], untrained: tuple[str, ...]) -> None:
    """Raises ValueError where the splits that teachers learn from and are weighed on are not named, and for a
    segment of its own that is nobody's or says something else than steps and batch size."""
    config, scheme = context.config, context.config.method[METHOD].scheme
    for name, own in config.teachers.alone.items():
        entries = set(own) if hasattr(own, "items") else {"no dict"}
        if name not in names or entries - {"steps", "batch_size"}:
            raise ValueError(
                f"teachers.alone.{name}={keys.plain(own)}: write dict(steps='750', batch_size=64), or one of the "
                f"two, for one of the teachers {names}"
            )
    for name, changes in config.students.items():
        if not hasattr(changes, "items"):
            raise ValueError(f"students.{name}={changes!r}: write dict(weight=0.5), or other options")
    if METHOD in config.students:
        raise ValueError(
            f"students.{METHOD}: that is the run's own student, whose options are method.{METHOD}'s: choose "
            "another name"
        )
    known = {*context.clips["dataset"], *config.subsets}
    weighed = [scheme, *(changes.get("scheme", scheme) for changes in config.students.values())]
    needed = {"split": bool(untrained) or not config.teachers.student_sees_held, "held": "weighted" in weighed}
    for entry, asked in needed.items():
        if asked and config.teachers[entry] not in known:
            raise ValueError(
                f"teachers.{entry}={config.teachers[entry]!r} is no split or subset: write c.subsets.held = "
                "dict(of='train', share=.2), c.subsets.taught = dict(of='train', without='held') and "
                "c.teachers.update(dict(held='held', split='taught'))"
            )


def _split(config) -> str:
    """What the student and those that it is compared with learn from."""
    return config.split if config.teachers.student_sees_held else config.teachers.split


def _groups(config, split: str) -> dict[str, Group]:
    return {name: group._replace(split=split) for name, group in epochs.default_groups(config).items()}


def _segment_of(config, network: str) -> str:
    """The segment in which a teacher is trained: that of all, or one of its own, which has its name."""
    return network if network in config.teachers.alone else TEACHERS


def _classes(config, networks: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """{segment: its teachers} of those that are trained here."""
    found: dict[str, tuple[str, ...]] = {}
    for network in networks:
        name = _segment_of(config, network)
        found[name] = (*found.get(name, ()), network)
    return found


def _teachers(context: Context, name: str, networks: tuple[str, ...], starts: Mapping[str, Start]) -> Segment:
    """The segment ``name`` of teachers, each of which learns from the labels alone; they are scored on what they
    are weighed on as well."""
    config = context.config
    own = {target: start for target, start in starts.items() if target.partition(".")[0] in networks}
    how = {"steps": config.steps.ce, "batch_size": config.batch_size, **config.teachers.alone.get(name, {})}
    groups = _groups(config, config.teachers.split)
    made = segment.make(
        context,
        name,
        networks,
        ("single", {}),
        how["steps"],
        own,
        batches=name,
        title="Teachers" if name == TEACHERS else name,
        groups={group: spec._replace(batch_size=how["batch_size"]) for group, spec in groups.items()},
    )
    held = config.teachers.held
    wanted = (held,) if held and held not in made.scored else ()
    return made._replace(also=(*made.also, *wanted))


def _student(context: Context, name: str, networks, chosen: tuple[str, dict], starts, *, title: str) -> Segment:
    """A segment in which the student's network learns: batches, updates and weights to begin with are the same for
    all of them."""
    config = context.config
    groups, steps = _groups(config, _split(config)), config.steps.method
    return segment.make(
        context, name, networks, chosen, steps, starts, batches="students", title=title, groups=groups
    )


def _pupil(
    context: Context,
    name: str,
    student: str,
    owners: Mapping[str, str],
    files: Mapping[str, str],
    own: Mapping,
    starts: Mapping,
    changes: Mapping,
) -> Segment:
    """The segment ``name``, in which ``student`` learns from teachers, whose outputs and networks are ``owners``;
    ``changes`` are options of the method, and its ``title``, that differ from the configured ones. ``own`` are
    the student's starts, ``starts`` those of all networks."""
    config = context.config
    changes, title = dict(changes), config.method.title or "Student"
    title = changes.pop("title", title if name == METHOD else name)
    options = methods.options(METHOD) | dict(config.method[METHOD]) | changes
    options["teachers"] = _chosen(name, options["teachers"], owners, student)
    teachers = [_teacher(config, output, owners[output], files) for output in options["teachers"]]
    networks = tuple(dict.fromkeys((student, *(teacher.network for teacher in teachers))))
    begin = {t.network: Start(t.segment, "" if t.file else t.network, t.file) for t in teachers}
    made = _student(context, name, networks, (METHOD, options), {**own, **begin}, title=title)
    enter = taught.weighing(made.enter, name, teachers, made.heads, options)
    if options["scheme"] != "weighted":
        return made._replace(enter=enter)
    check = taught.check(config, teachers, starts)
    return made._replace(enter=enter, check=check, spec={**made.spec, "weighed": taught.spec(config)})


def _teacher(config, output: str, network: str, files: Mapping[str, str]) -> Teacher:
    if network in files:
        return Teacher(output, network, file=files[network])
    return Teacher(output, network, segment=_segment_of(config, network))


def _chosen(name: str, teachers, owners: Mapping[str, str], student: str) -> tuple[str, ...]:
    """The teachers of segment ``name``, by default all. Raises ValueError for what cannot teach ``student``."""
    known, where = list(owners), f"method.{METHOD}" if name == METHOD else f"students.{name}"
    if not known:
        example = "c.networks.teacher_flow = common.network(MODEL, 'flow')"
        raise ValueError(f"nobody can teach {student!r}: add a network beside it, {example}")
    if not isinstance(teachers, tuple | list):
        raise ValueError(f"{where}.teachers={teachers!r}: write a tuple, as in ({known[0]!r},)")
    if unknown := [output for output in teachers if output not in known]:
        raise ValueError(
            f"{where}.teachers={teachers}: {unknown[0]!r} cannot teach {student!r}; choose among {known}"
        )
    if len(set(teachers)) < len(teachers):
        raise ValueError(f"{where}.teachers={teachers}: name each teacher once")
    return tuple(teachers) or tuple(known)
