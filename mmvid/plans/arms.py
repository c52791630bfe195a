"""What ``config.blend`` asks of the plan 'gblend': which networks train by which weights, and what is probed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmvid import methods
from mmvid.methods import gblend
from mmvid.network import Network
from mmvid.plans import blended, keys, segment, stills
from mmvid.plans.networks import configured
from mmvid.plans.segment import Context

METHOD = "gblend"
# Segments of the plan's own.
PROBE, ALONE, ONLINE = "probe", "alone", "online"
# What an entry of blend.arms may say beside options of the method.
_OF_ARMS = ("network", "title", "pretrained", "checkpoint")


class Arm(NamedTuple):
    """A segment that trains ``network`` from the labels: with the method's ``options``, or, where it has a single
    classifier, without. ``pretrained`` encoders begin as the trained copies; ``checkpoint`` is the one that is
    scored, 'last' or 'best'."""

    name: str
    network: Network
    title: str
    options: Mapping
    pretrained: bool = False
    checkpoint: str = ""

    @property
    def estimates(self) -> bool:
        """Whether its weights come from a probe."""
        return len(self.network.outputs) > 1 and self.options["weights"] == gblend.ESTIMATE


def of(context: Context) -> list[Arm]:
    """The arms in their order, the run's own last. Raises ValueError for what none can say."""
    config, blend = context.config, context.config.blend
    if config.method.name != METHOD:
        raise ValueError(f"plan 'gblend' blends: method.name={config.method.name!r}, set it to {METHOD!r}")
    if stills.has_stills(config):
        raise ValueError(
            "plan 'gblend' starts from scratch or from files, --config.networks.NAME.weights: stills.steps=0"
        )
    _check_splits(context)
    owners, main = configured(config), segment.headline_network(config)
    networks = {made.name: made for made in owners.values()}
    if len(networks[main].outputs) < 2 or config.headline != f"{main}.{_last_part(networks[main])}":
        raise ValueError(
            f"headline={config.headline!r} is not the joint output of a fusion with unimodal classifiers: write "
            "c.networks.av = common.fusion(..) and c.headline = 'av.joint'"
        )
    found = [_arm_of(config, networks, name, dict(spec)) for name, spec in blend.arms.items()]
    title = config.method.title or "G-Blend"
    own = _arm_of(config, networks, METHOD, {"network": main, "title": title})
    if unknown := [name for name in blend.copies if name not in networks]:
        raise ValueError(f"blend.copies.{unknown[0]}: there are the networks {sorted(networks)}")
    for arm in (*found, own):
        if arm.name in (PROBE, ALONE, ONLINE) or (arm.name == METHOD and arm is not own):
            raise ValueError(f"blend.arms.{arm.name}: that is a segment of the plan's own; choose another name")
        if arm.estimates and arm.network.name not in blend.copies:
            raise ValueError(
                f"blend.copies.{arm.network.name} is missing: its weights are estimated from its copies"
            )
    return [*found, own]


def _last_part(made: Network) -> str:
    return blended.parts_of(made)[-1]


def _arm_of(config, networks: Mapping[str, Network], name: str, spec: Mapping) -> Arm:
    known = methods.options(METHOD)
    if spec.get("network") not in networks or set(spec) - {*_OF_ARMS, *known}:
        raise ValueError(
            f"blend.arms.{name}={keys.plain(spec)}: write dict(network=NAME, title='..'), with network one of "
            f"{sorted(networks)}, and perhaps {', '.join((*_OF_ARMS[2:], *known))}"
        )
    network, changes = networks[spec["network"]], {k: v for k, v in spec.items() if k in known}
    if changes and len(network.outputs) < 2:
        raise ValueError(f"blend.arms.{name}: {network.name!r} has one classifier: there is nothing to weigh")
    options = known | dict(config.method[METHOD]) | changes
    options["weights"] = blended.resolved(options["weights"], network.outputs, blended.parts_of(network))
    if options["weights"] != gblend.ESTIMATE:
        # What an estimate follows from changes nothing here, and must not change the key.
        options = known | {name: options[name] for name in ("weights", "multi")}
    return Arm(
        name,
        network,
        spec.get("title", name),
        options,
        spec.get("pretrained", False),
        spec.get("checkpoint", ""),
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
    """{network: `copies_of` it} of the arms' networks that have copies."""
    # Copies that nobody weighs are trained as well: they are what the result is compared with.
    return {
        arm.network.name: copies_of(config, arm.network) for arm in arms if arm.network.name in config.blend.copies
    }


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


def outputs(config, parts: Mapping[str, str]) -> dict[str, str]:
    """{part: the output of its copy}. Raises ValueError for a copy of several outputs."""
    owners = configured(config)
    found = {part: [o for o, made in owners.items() if made.name == copy] for part, copy in parts.items()}
    if several := [copy for part, copy in parts.items() if len(found[part]) != 1]:
        raise ValueError(
            f"blend.copies: {several[0]!r} has several classifiers, and a copy has one: a naive joint network is "
            "common.fusion(.., unimodal='none')"
        )
    return {part: own[0] for part, own in found.items()}
