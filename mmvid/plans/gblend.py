"""The plan 'gblend': Gradient-Blending and what it is compared with (Wang et al. 2020).

A probe trains copies of a network's parts, each alone: an encoder with its classifier for every modality, and all
encoders with the joint classifier (naive joint training). What each gains on held-out clips, and overfits by,
gives the weights with which the network then trains. Offline the probe is as long as the training, so that the
copies are the unimodal and the naive networks that the result is compared with. Online the two alternate in
super-epochs.
All segments see the same batches, with the same rates at the same steps, and begin with the same encoders.
"""

from collections.abc import Mapping, Sequence

from mmvid import methods, optim
from mmvid.data.groups import Group
from mmvid.methods import gblend
from mmvid.plans import arms as arms_lib
from mmvid.plans import blended, continuation, epochs, keys, learning, segment, stills, trunks
from mmvid.plans.arms import ALONE, METHOD, ONLINE, PROBE, Arm
from mmvid.plans.segment import Context, Segment
from mmvid.plans.starts import Start
from mmvid.scores import blends
from mmvid.scores.blends import Probe

# What the arm is called that others are compared with in tables.
BASELINE = "equal"


def make(context: Context) -> list[Segment]:
    """The probe, the arms of ``config.blend.arms``, and the network of the headline: offline and, where there are
    ``blend.super_epochs``, online.

    Raises ValueError for another method, for a network of one classifier, and for whatever else cannot work.
    """
    config, arms = context.config, arms_lib.of(context)
    trunks.check(config)
    copies, rejoins = arms_lib.copies(config, arms), config.split != config.blend.split
    alone = _probe(context, copies, ALONE if rejoins else PROBE, config.split, "Each alone")
    made = _arms(context, arms, alone, copies)
    wholes = {arm.network.name: made[arm.name] for arm in reversed(arms) if not arm.pretrained}
    made = {name: _as_copy(own, wholes, copies) for name, own in made.items()}
    alone = _begun(alone, wholes, copies)
    if not rejoins:
        probing, probes = _probing(context, arms, alone, copies)
        first = probing
    else:
        # What is held out is learnt from again, once it has weighed: the copies are trained once more.
        probe = _begun(_probe(context, copies, PROBE, config.blend.split, ""), wholes, copies)
        probing, probes = _probing(context, arms, probe._replace(evaluate=(), also=()), copies)
        # Where no weights are asked for, nobody needs them.
        first = [alone, *(probing if probes else [])]
    segments = [*first, *(_weighed(context, arm, made[arm.name], probes.get(arm.name)) for arm in arms)]
    return segments + (_online(context, arms[-1], made[METHOD], copies) if config.blend.super_epochs else [])


def _probing(context: Context, arms: Sequence[Arm], probe: Segment, copies: blended.Copies) -> tuple[list, dict]:
    """The segments of a ``probe``, and {arm: where its copies are measured} of the arms that it gives weights."""
    config, pieces = context.config, _measured(context, probe)
    names, weighed = tuple(piece.name for piece in pieces), [arm for arm in arms if arm.estimates]
    if not weighed:
        return pieces, {}
    probes = {arm.name: arms_lib.probe_of(config, arm, copies, names) for arm in weighed}
    asked = {arm.name: (probes[arm.name], arm.options) for arm in weighed}
    check = arms_lib.check_clips(probe.spec["starts"].values())
    last = pieces[-1]._replace(leave=blended.estimating(pieces[-1].leave, asked), check=check)
    return [*pieces[:-1], last], probes


# ---------------------------------------------------------------------------- segments
def _groups(config, split: str) -> dict[str, Group]:
    return {name: group._replace(split=split) for name, group in epochs.default_groups(config).items()}


def _described(config, names) -> dict:
    """What decides how networks are drawn, as plain data: a segment whose weights begin as theirs has it in its
    spec."""
    made = {name: config.networks[name] for name in names}
    return keys.plain(
        {
            name: {"model": n.model, "options": learning.own(config.model_options, n.options), "reads": n.reads}
            for name, n in made.items()
        }
    )


def _alone(config, outputs: Sequence[str]) -> tuple[str, dict]:
    """The method by which every one of ``outputs`` learns alone."""
    multi = config.method[METHOD].multi
    if multi == methods.options(METHOD)["multi"]:
        return "single", {}
    # The sum of all losses: of networks of one output each, that is each alone.
    return METHOD, methods.options(METHOD) | {"weights": ",".join("1" for _ in outputs), "multi": multi}


def _probe(context: Context, copies: blended.Copies, name: str, split: str, title: str) -> Segment:
    """The segment ``name`` that trains all copies, each alone, and together as one tree."""
    config = context.config
    networks = tuple(dict.fromkeys(copy for parts in copies.values() for copy in parts.values()))
    if not networks:
        raise ValueError("blend.copies is empty: name the copies of the headline's network there")
    made = segment.make(
        context, name, networks, _alone(config, networks), config.steps.method, {}, batches=METHOD, title=title,
        groups=_groups(config, split),
    )  # fmt: skip
    return made._replace(titles=arms_lib.titles(copies))


def _begun(probe: Segment, wholes: Mapping[str, Segment], copies: blended.Copies) -> Segment:
    """A segment that trains ``copies``, as it begins with the parts of the networks that begin as in ``wholes``;
    its own starts come after."""
    known = {name: wholes[name].spec for name in copies}
    began = {name: [own["program"]["networks"], own["starts"], own["drawn"]] for name, own in known.items()}
    starts = {f"{name} {target}": start for name, own in known.items() for target, start in own["starts"].items()}
    starts |= probe.spec["starts"]
    spec = {**probe.spec, "starts": starts, "copied": {"copies": keys.plain(copies), "networks": began}}
    return probe._replace(enter=blended.copying(wholes, copies, probe.enter), spec=spec)


def _measured(context: Context, probe: Segment) -> list[Segment]:
    """The probe in ``blend.measures`` pieces, before and after each of which the held-out clips and the fixed
    training clips are scored. The last one is called as the whole."""
    blend = context.config.blend
    count = min(max(blend.measures, 1), probe.steps)
    ends = [round(i * probe.steps / count) for i in range(count + 1)]
    names = [*(f"{probe.name}_{i}" for i in range(1, count)), probe.name]
    splits = (blend.held, blend.fixed)
    pieces = continuation.cut(probe, {name: b - a for name, a, b in zip(names, ends, ends[1:])})
    pieces = [piece._replace(measure=splits) for piece in pieces]
    alone = [piece._replace(title="", evaluate=(), also=()) for piece in pieces[:-1]]
    last = pieces[-1]
    # A probe that is not shown is scored on these alone.
    last = last._replace(also=(*last.also, *splits)) if last.evaluate else last._replace(evaluate=splits, also=())
    return [*alone, last]


def _arms(context: Context, arms: Sequence[Arm], probe: Segment, copies: blended.Copies) -> dict[str, Segment]:
    """{arm: its segment} before anything is weighed: encoders begin as those of the ``probe``'s copies."""
    singles = arms_lib.singles(copies)
    alone = probe._replace(networks=tuple(n for n in probe.networks if n.name in singles.values()))
    drawn, made = blended.drawing(alone), {}
    for arm in arms:
        own = _arm(context, arm, arms_lib.trained_encoders(arm, probe.name, singles))
        # A copy begins as what it copies (`_as_copy`).
        encoders = {} if arms_lib.as_copy(copies, arm.network.name) else arm.network.model.encoders
        drawings = {stream: singles[stream] for stream in encoders if stream in singles}
        spec = {**own.spec, "drawn": _described(context.config, sorted(drawings.values()))}
        made[arm.name] = blended.alike(own, alone, drawn, drawings)._replace(spec=spec)
    return made


def _as_copy(made: Segment, wholes: Mapping[str, Segment], copies: blended.Copies) -> Segment:
    """The segment of an arm whose network is a copy, which begins as in the probe; any other one as it is."""
    own = arms_lib.as_copy(copies, made.networks[0].name)
    return _begun(made, wholes, own) if own else made


def _arm(context: Context, arm: Arm, encoders: Mapping[str, Start]) -> Segment:
    """The segment that trains an arm's network from what the configuration gives it; ``encoders`` have starts of
    their own."""
    config, network = context.config, arm.network.name
    if arm.checkpoint:
        config = config.copy_and_resolve_references().unlock()
        config.evaluation.checkpoint = arm.checkpoint
        context = context._replace(config=config.lock())
    _, starts = stills.beginnings(context, (network,))
    outputs = arm.network.outputs
    chosen = (METHOD, arm.learning) if len(outputs) > 1 else _alone(config, outputs)
    return segment.make(
        context, arm.name, (network,), chosen, config.steps.method, {**starts, **encoders}, batches=METHOD,
        title=arm.title, groups=_groups(config, config.split),
    )  # fmt: skip


def _weighed(context: Context, arm: Arm, made: Segment, probe: Probe | None) -> Segment:
    """The segment of an arm with the weights that its probe gives, or with those that it is given."""
    config = context.config
    if len(arm.network.outputs) < 2:
        return made
    if not arm.estimates:
        return _given(arm, made)
    starts = {**made.spec["starts"], blends.WEIGHING: {"segment": probe.segments[-1]}}
    # On which clips the copies were scored, and how: the weights follow from that, too.
    scored = {name: config.evaluation[name] for name in ("protocol", "variant", "crops", "resize")}
    splits = {"held": probe.held, "fixed": probe.fixed, "rules": config.subsets, "scored": scored}
    if further := keys.further(config.subsets):
        splits["fingerprints"] = {name: context.fingerprints.get(name, "") for name in further}
    measured = keys.plain(splits | {"segments": len(probe.segments), "options": blends.how(arm.options)})
    return made._replace(
        enter=blended.weighing(made.enter, made.name, probe, arm.options),
        spec={**made.spec, "starts": starts, "measured": measured},
    )


def _given(arm: Arm, made: Segment) -> Segment:
    """The segment of an arm whose weights nothing is measured for."""
    outputs, told = arm.network.outputs, arm.options["weights"]
    made = made._replace(leave=blended.keeping(made.leave, outputs, blended.parts_of(arm.network), arm.source))
    if told == gblend.LEARNT:
        return made
    weights = gblend.given(told, outputs)
    return made._replace(enter=blended.given(made.enter, weights), spec={**made.spec, "weights": weights})


# ---------------------------------------------------------------------------- online
def super_epochs(durations, *, steps: int, steps_per_epoch: float) -> list[int]:
    """Reads the lengths of super-epochs, of which the last one repeats: ('10 epochs', '5 epochs') -> steps, in all
    ``steps``. Raises ValueError for one without a step."""
    lengths = [optim.steps_of(d, steps_per_epoch=steps_per_epoch, total=steps) for d in durations]
    if not lengths or min(lengths) < 1:
        raise ValueError(
            f"blend.super_epochs={tuple(durations)}: each has 1 step or more, here they are {lengths}"
        )
    found: list[int] = []
    while sum(found) < steps:
        length = lengths[min(len(found), len(lengths) - 1)]
        found.append(min(length, steps - sum(found)))
    return found


def _online(context: Context, arm: Arm, whole: Segment, copies: blended.Copies) -> list[Segment]:
    """Super-epochs of the run's own network: in each a probe from its weights at that moment, then as many steps
    of its own. Schedule, batches, momentum and statistics go on from one to the next."""
    config, blend = context.config, context.config.blend
    lengths = super_epochs(blend.super_epochs, steps=whole.steps, steps_per_epoch=whole.steps_per_epoch)
    names = [*(f"{ONLINE}_{i}" for i in range(1, len(lengths))), ONLINE]
    pieces = continuation.cut(whole._replace(title=f"{arm.title}, online"), dict(zip(names, lengths)))
    # Only the last piece is shown.
    during = dict(title="", evaluate=(config.evaluation.during,), also=())
    shown = [*(piece._replace(**during) for piece in pieces[:-1]), pieces[-1]]
    if not arm.estimates:
        return [_weighed(context, arm, piece, None) for piece in shown]
    own = {arm.network.name: copies[arm.network.name]}
    model = _probe(context, own, PROBE, blend.split, "")
    epochs_of = (_super_epoch(context, arm, model, *three, own) for three in zip(["", *names], pieces, shown))
    return [segment for segments in epochs_of for segment in segments]


def _super_epoch(
    context: Context, arm: Arm, model: Segment, previous: str, piece: Segment, shown: Segment, own: blended.Copies
) -> list[Segment]:
    """A super-epoch: a probe as ``model`` of the ``own`` copies, the ``piece`` as it is ``shown``, and what it has
    made of the encoders, where that is asked for; ``previous`` is the piece before it."""
    config, (parts,) = context.config, own.values()
    probe = arms_lib.probe_of(config, arm, own, (f"{PROBE}_{piece.name}",))
    window = _window(model, probe, piece, own, previous)
    window = window._replace(leave=blended.estimating(window.leave, {piece.name: (probe, arm.options)}))
    segments = [window, _weighed(context, arm, shown, probe)]
    if trunks.asked(config):
        method, groups = _alone(config, ("naive", "blended")), _groups(config, config.blend.split)
        segments.append(trunks.compared(context, piece, window.name, parts, method, groups))
    return segments


def _window(model: Segment, probe: Probe, piece: Segment, copies: blended.Copies, previous: str) -> Segment:
    """The segment of a super-epoch's ``probe``: the steps of ``piece``, from what that begins with; ``previous``
    is the piece before it."""
    found = _begun(model, dict.fromkeys(copies, piece), copies)
    starts = {"copied": {"segment": previous}} if previous else found.spec["starts"]
    spec = {**found.spec, "steps": piece.steps, "first_step": piece.first_step, "starts": starts}
    splits = (probe.held, probe.fixed)
    return found._replace(
        name=probe.segments[0], steps=piece.steps, first_step=piece.first_step, spec=spec, evaluate=splits,
        also=(), measure=splits,
    )  # fmt: skip
