"""MML's tables as variants: each in a setting, that is, on Tabletop, in miniature, or at the size of the paper."""

import functools
from collections.abc import Callable

from ml_collections import ConfigDict

from configs import common, mml_paper
from configs import mml_ensembles as ensembles
from configs import mml_tables as tables

Variant = Callable[[ConfigDict], None]


def grid(setting: Variant, use: Variant) -> Variant:
    """Returns what makes a configuration the grid that ``use`` asks for, in the ``setting`` of another variant."""

    def variant(c: ConfigDict) -> None:
        setting(c)
        model, cut, pictures = c.networks.rgb.model, c.streams.rgb.sampling.to_dict(), c.streams.rgb.form
        c.streams, c.networks, c.twin, c.published = ConfigDict(), ConfigDict(), "", ()
        use(c)
        for name in tables.networks(c):
            # 'rgb2' is a second network of RGB, cut and built like the first.
            modality = name.removesuffix("2").partition("_")[0]
            form = pictures if modality == "rgb" else "stack5"
            c.streams[name] = common.stream(modality, form=form, **cut)
            c.networks[name] = common.network(model, name)

    return variant


def miniature(smoke: Variant) -> Variant:
    """Returns the setting of grids in miniature: one block a network, six steps a segment, one split, since
    almost all the time of up to twenty segments is compiling."""

    def variant(c: ConfigDict) -> None:
        smoke(c)
        c.model_options.stages = (1,)
        c.evaluation.splits = ("test",)
        c.steps.update(dict(ce="6", ml="6", method="6"))
        c.schedule.warmup, c.log_every = "2", 3

    return variant


def table_10(setting: Variant) -> Variant:
    """Returns what makes a configuration the paper's table 10 in the ``setting`` of another variant."""

    def variant(c: ConfigDict) -> None:
        grid(setting, tables.protocols)(c)
        for _, network, _, kind, _ in tables.TABLE_10:
            c.streams[network].sampling.kind = kind

    return variant


def _six(c: ConfigDict, only: str = "") -> None:
    """Table 6, or its rows of one method; it has no RGB differences."""
    tables.use(c, "table6", only, without=("diff",))


def ssv2_ensemble_r101(c: ConfigDict) -> None:
    """The best ensemble at its published size: TSM-ResNet-101, 16 frames of each modality (table 9)."""
    published = ("68.16 / 91.69", "69.07 / 92.07")
    grid(mml_paper.ssv2_r101, functools.partial(ensembles.pipeline, published=published))(c)


# {name: what asks for the grid}, of single labels; table 10 and that of several labels stand by themselves.
GRIDS = {name: functools.partial(tables.use, table=name) for name in tables.TABLES if name != "table6"}
GRIDS |= {"ensembles": ensembles.use, "ensemble": ensembles.pipeline}


def variants(tabletop: Variant, smoke: Variant, several: Variant, several_smoke: Variant) -> dict[str, Variant]:
    """Returns {name: variant} of all grids: on Tabletop, in miniature, and on the paper's datasets; ``several`` is
    Tabletop of several labels a clip."""
    settings = {"{}": tabletop, "{}_smoke": miniature(smoke), "ssv2_{}": mml_paper.ssv2}
    found = {
        form.format(name): grid(setting, use) for name, use in GRIDS.items() for form, setting in settings.items()
    }
    found |= {form.format("table10"): table_10(setting) for form, setting in settings.items()}
    of_several = {"table6": several, "table6_smoke": miniature(several_smoke), "charades": mml_paper.charades}
    found |= {name: grid(setting, _six) for name, setting in of_several.items()}
    for method in ("mars", "d3d"):
        found[f"charades_{method}"] = grid(mml_paper.charades, functools.partial(_six, only=method))
    return found | {"ssv2_ensemble_r101": ssv2_ensemble_r101}
