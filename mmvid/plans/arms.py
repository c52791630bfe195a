"""What ``config.blend`` asks of the plan 'gblend': which networks train by which weights, and what is probed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from mmvid import methods
from mmvid.methods import gblend
from mmvid.network import Network
from mmvid.plans import blended, keys, segment, stills
from mmvid.plans.networks import configured
from mmvid.plans.segment import Context
from mmvid.plans.starts import Start
from mmvid.scores.blends import Probe
from mmvid.weights import files as weight_files
from mmvid.weights import seen

METHOD = "gblend"
# Segments of the plan's own.
PROBE, ALONE, ONLINE = "probe", "alone", "online"
# What an entry of blend.arms may say beside options of the method.
_OF_ARMS = ("network", "title", "pretrained", "checkpoint")


class Arm(NamedTuple):
    """A segment that trains ``network`` from the labels: with the method's ``options``, or, where it has a single
    classifier, without. ``pretrained`` encoders begin as the trained copies; ``checkpoint`` is the one that is
    scored, 'last' or 'best'; ``source`` says whose weights are that nothing is measured for."""

    name: str
    network: Network
    title: str
    options: Mapping
    pretrained: bool = False
    checkpoint: str = ""
    source: str = ""

    @property
    def learning(self) -> dict:
        """The options that its steps are made of: weights that do not change stand in its state alone, so that
        arms of one network share a compiled step, whatever they weigh."""
        changing = self.options["weights"] == gblend.LEARNT
        kept = ("multi", "weights") if changing else ("multi",)
        return methods.options(METHOD) | {name: self.options[name] for name in kept}

    @property
    def estimates(self) -> bool:
        """Whether its weights come from a probe."""
        return len(self.network.outputs) > 1 and self.options["weights"] == gblend.ESTIMATE


def of(context: Context) -> list[Arm]:
    """The arms in their order, the run's own last. Raises ValueError for what none can say."""
    config, blend = context.config, context.config.blend
    _check_options(config)
    _check_splits(context)
    owners, main = configured(config), segment.headline_network(config)
    networks = {made.name: made for made in owners.values()}
    if len(networks[main].outputs) < 2 or config.headline != networks[main].outputs[-1]:
        raise ValueError(
            f"headline={config.headline!r} is not the joint output of a fusion with unimodal classifiers: write "
            "c.networks.av = common.fusion(..) and c.headline = 'av.joint'"
        )
    if unknown := [name for name in blend.copies if name not in networks]:
        raise ValueError(f"blend.copies.{unknown[0]}: there are the networks {sorted(networks)}")
    if taken := [name for name in blend.arms if name in (METHOD, PROBE, ALONE, ONLINE)]:
        raise ValueError(f"blend.arms.{taken[0]}: that is a segment of the plan's own; choose another name")
    asked = {name: dict(spec) for name, spec in blend.arms.items()}
    asked[METHOD] = {"network": main, "title": config.method.title or "G-Blend"}
    *found, own = [_arm_of(config, networks, networks[main], name, spec) for name, spec in asked.items()]
    if own.estimates and blend.super_epochs and config.split != blend.split:
        raise ValueError(
            f"blend.super_epochs with split={config.split!r}: after the first of them the network has learnt from "
            f"the clips that its next weights are estimated on. Set --config.split={blend.split}, or leave "
            "super-epochs out, --config.blend.super_epochs=()"
        )
    return [*found, own]


def _check_options(config) -> None:
    if config.method.name != METHOD:
        raise ValueError(f"plan 'gblend' blends: method.name={config.method.name!r}, set it to {METHOD!r}")
    if stills.has_stills(config):
        raise ValueError(
            "plan 'gblend' starts from scratch or from files, --config.networks.NAME.weights: stills.steps=0"
        )
    if config.evaluation.checkpoint != "last":
        raise ValueError(
            f"evaluation.checkpoint={config.evaluation.checkpoint!r}: copies that are trained together have one "
            "checkpoint, the best of which would be that of a single one. Leave it at 'last', and let an arm be "
            "stopped early: c.blend.arms.early = dict(network='naive', checkpoint='best')"
        )


def _arm_of(config, networks: Mapping[str, Network], main: Network, name: str, spec: Mapping) -> Arm:
    _check_spec(config, networks, name, spec)
    known, network = methods.options(METHOD), networks[spec["network"]]
    options = known | dict(config.method[METHOD]) | {k: v for k, v in spec.items() if k in known}
    if "weights" not in spec and not _fits(options["weights"], network, main):
        options["weights"] = gblend.ESTIMATE
    told = options["weights"]
    if len(network.outputs) > 1:
        if told == gblend.ESTIMATE:
            _check_estimate(config, name, network, spec)
        options["weights"] = blended.resolved(told, network.outputs, blended.parts_of(network))
        gblend.check(network.outputs, **options)
    if options["weights"] != gblend.ESTIMATE:
        # What an estimate follows from changes nothing here, and must not change the key.
        options = known | {name: options[name] for name in ("weights", "multi")}
    title, pretrained, checkpoint = (
        spec.get("title", name),
        spec.get("pretrained", False),
        spec.get("checkpoint", ""),
    )
    return Arm(name, network, title, options, pretrained, checkpoint, _source(config, told))


def _check_spec(config, networks: Mapping[str, Network], name: str, spec: Mapping) -> None:
    """Raises ValueError for what an entry of ``blend.arms`` cannot say."""
    known, checkpoint, blend = methods.options(METHOD), spec.get("checkpoint", "last"), config.blend
    if spec.get("network") not in networks or set(spec) - {*_OF_ARMS, *known}:
        raise ValueError(
            f"blend.arms.{name}={keys.plain(spec)}: write dict(network=NAME, title='..'), with network one of "
            f"{sorted(networks)}, and perhaps {', '.join((*_OF_ARMS[2:], *known))}"
        )
    if set(spec) & set(known) and len(networks[spec["network"]].outputs) < 2:
        raise ValueError(f"blend.arms.{name}: {spec['network']!r} has one classifier: there is nothing to weigh")
    if checkpoint not in ("last", "best"):
        raise ValueError(f"blend.arms.{name}: checkpoint={checkpoint!r}, choose 'last' or 'best'")
    if checkpoint == "best" and config.split != blend.split and config.evaluation.during == blend.held:
        raise ValueError(
            f"blend.arms.{name}: its best checkpoint would be that on {blend.held!r}, which it learns from with "
            f"split={config.split!r}: choose it on other clips, --config.evaluation.during=val"
        )


def _fits(told: str, network: Network, main: Network) -> bool:
    """Whether weights that are told for the ``main`` network are for ``network``, too: words are for all, numbers
    and folders for networks of the same parts."""
    words = (gblend.ESTIMATE, gblend.EQUAL, gblend.LEARNT)
    return told in words or set(blended.parts_of(network)) == set(blended.parts_of(main))


def _source(config, told: str) -> str:
    """Whose the weights are that the option `weights` has ``told``: of published ones their source, else what it
    says: numbers, the folder of a run, 'equal', 'learnt'."""
    return next((source for source, own in config.blend.published if ",".join(own.values()) == told), told)


def _check_estimate(config, name: str, network: Network, spec: Mapping) -> None:
    """Raises ValueError where no probe can give an arm its weights."""
    if network.name not in config.blend.copies:
        raise ValueError(f"blend.copies.{network.name} is missing: its weights are estimated from its copies")
    if spec.get("pretrained"):
        raise ValueError(
            f"blend.arms.{name} is pretrained, and the copies that weights are estimated from are not: give it "
            "weights='equal', or numbers"
        )


def _check_splits(context: Context) -> None:
    blend, known = context.config.blend, {*context.clips["dataset"], *context.config.subsets}
    for entry in ("held", "split", "fixed"):
        if blend[entry] not in known:
            raise ValueError(
                f"blend.{entry}={blend[entry]!r} is no split or subset: write c.subsets.held = dict(of='train', "
                "share=.1), c.subsets.taught = dict(of='train', without='held'), c.subsets.fixed = "
                "dict(of='taught', share=.1) and c.blend.update(dict(held='held', split='taught', fixed='fixed'))"
            )


def copies_of(config, made: Network) -> dict[str, str]:
    """{part: its copy} of a network. Raises ValueError for a part without one, and for a copy with weights of its
    own."""
    own, parts = dict(config.blend.copies[made.name]), blended.parts_of(made)
    if set(own) != set(parts) or any(name not in config.networks for name in own.values()):
        raise ValueError(
            f"blend.copies.{made.name}={own}: name a network for each of {list(parts)}, among "
            f"{sorted(config.networks)}"
        )
    if given := [copy for copy in own.values() if config.networks[copy].weights]:
        raise ValueError(
            f"networks.{given[0]}.weights: {given[0]!r} begins as the part of {made.name!r} that it copies: give "
            f"networks.{made.name}.weights"
        )
    return {part: own[part] for part in parts}


def copies(config, arms: Sequence[Arm]) -> dict[str, dict[str, str]]:
    """{network: `copies_of` it} of the arms' networks that have copies, those that begin untrained."""
    # Copies that nobody weighs are trained as well: they are what the result is compared with.
    begun = {arm.network.name: arm.network for arm in arms if not arm.pretrained}
    return {name: copies_of(config, made) for name, made in begun.items() if name in config.blend.copies}


def as_copy(copies: blended.Copies, name: str) -> dict[str, dict[str, str]]:
    """Those of ``copies`` that the network ``name`` is: {} where it is none."""
    own = {whole: {part: copy for part, copy in parts.items() if copy == name} for whole, parts in copies.items()}
    return {whole: parts for whole, parts in own.items() if parts}


def trained_encoders(arm: Arm, probe: str, singles: Mapping[str, str]) -> dict[str, Start]:
    """{encoder: its start} of a ``pretrained`` arm: the trained copies of the segment ``probe``. Raises ValueError
    where one of its encoders has none."""
    own, encoders = arm.network.name, arm.network.model.encoders
    if arm.pretrained and (not encoders or set(encoders) - set(singles)):
        raise ValueError(
            f"blend.arms.{arm.name} is pretrained: of the encoders of {own!r}, {sorted(encoders)}, those of "
            f"{sorted(singles)} are trained alone. Name a fusion of these, or its copies in blend.copies"
        )
    return {f"{own}.{stream}": Start(probe, singles[stream]) for stream in encoders} if arm.pretrained else {}


def singles(copies: blended.Copies) -> dict[str, str]:
    """{stream: the network that is the copy of every encoder of it}. Raises ValueError where there are two."""
    found: dict[str, str] = {}
    for parts in copies.values():
        for part, copy in [*parts.items()][:-1]:
            if found.setdefault(part, copy) != copy:
                raise ValueError(
                    f"blend.copies: {found[part]!r} and {copy!r} both copy encoders of {part!r}; name one"
                )
    return found


def titles(copies: blended.Copies) -> dict[str, str]:
    """{copy: what readers call it}: 'RGB alone', and 'Naive joint', by what it reads where there are several."""
    found, naive = {}, {}
    for parts in copies.values():
        *streams, joint = parts
        found |= {parts[stream]: f"{_spoken(stream[:1].upper() + stream[1:])} alone" for stream in streams}
        naive[parts[joint]] = " + ".join(map(_spoken, streams))
    for copy, read in naive.items():
        alike = [*naive.values()].count(read) > 1
        found[copy] = "Naive joint" + (f", {read}" if len(naive) > 1 else "") + (f" ({copy})" if alike else "")
    return found


def _spoken(stream: str) -> str:
    """What readers call a stream: one whose name nobody can pronounce is an abbreviation."""
    return stream if set(stream.lower()) & set("aeiouy") else stream.upper()


def probe_of(config, arm: Arm, copies: blended.Copies, segments: tuple[str, ...]) -> Probe:
    """Where the copies of an arm's network are measured: ``segments`` train them. Raises ValueError for a copy of
    several outputs."""
    owners, found = configured(config), {}
    for part, copy in copies[arm.network.name].items():
        own = [output for output, made in owners.items() if made.name == copy]
        if len(own) != 1:
            raise ValueError(
                f"blend.copies: {copy!r} has several classifiers, and a copy has one: a naive joint network is "
                "common.fusion(.., unimodal='none')"
            )
        found[part] = own[0]
    return Probe(segments, found, config.blend.held, config.blend.fixed)


# ---------------------------------------------------------------------------- clips
def check_clips(starts: Iterable[Mapping]) -> Callable:
    """Returns a ``check(run)`` of a probe that begins with ``starts``. It raises ValueError where the probe's
    networks learn, or have learnt, from clips that are held out for it, where the run is tested on these, or where
    the fixed ones are none that it learns from."""

    def check(run) -> None:
        blend, dataset = run.config.blend, run.datasets["dataset"]
        ids = lambda split: set(dataset.split(split).ids())  # noqa: E731
        held, taught, fixed = map(ids, (blend.held, blend.split, blend.fixed))
        if held & taught or fixed - taught:
            raise ValueError(
                f"blend.held={blend.held!r} must hold no clip of blend.split={blend.split!r}, and there are "
                f"{len(held & taught)}; blend.fixed={blend.fixed!r} no other ones, and there are "
                f"{len(fixed - taught)}: "
                f"write c.subsets.{blend.split} = dict(of='train', without={blend.held!r}) and "
                f"c.subsets.{blend.fixed} = dict(of={blend.split!r}, share=.1)"
            )
        if strange := ids(run.config.split) - held - taught:
            raise ValueError(
                f"split={run.config.split!r} has {len(strange)} clips that are neither of "
                f"blend.split={blend.split!r} nor of blend.held={blend.held!r}: a network would learn from clips "
                "that no probe has seen. Name the split that both are taken from, or give weights as numbers, "
                "--config.method.gblend.weights"
            )
        for split in run.config.evaluation.splits:
            if both := held & ids(split):
                raise ValueError(
                    f"blend.held={blend.held!r} has {len(both)} clips of {split!r}, on which the run "
                    "is scored (evaluation.splits): weights would be chosen by what they are judged by. Hold out "
                    "clips of training: c.subsets.held = dict(of='train', share=.1)"
                )
        _check_seen(starts, blend.held, held)

    return check


def _check_seen(starts: Iterable[Mapping], name: str, held: set[str]) -> None:
    """Raises ValueError for a file of ours that has seen the held clips, or cannot prove that it has not. What
    nobody of ours has trained is taken to have seen none."""
    for file in dict.fromkeys(start["file"] for start in starts if start["file"]):
        path, _ = weight_files.split(file)
        if str(path) not in seen.of_file(file)["published"] and seen.saw(file, name, held, published=True):
            raise ValueError(
                f"{path} was trained on clips of blend.held={name!r}, or started from weights that were: heads "
                "would seem to overfit less. Train it without them, or give weights as numbers, "
                "--config.method.gblend.weights"
            )
