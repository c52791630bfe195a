"""All methods: an explicit dict. A new one is a file beside these and a line here."""

import inspect

from mmvid.methods import distill, gblend, mcl, mimic, mml, omnivore, semi, single

METHODS = {
    "single": single.make,
    "mml": mml.make,
    "mars": mimic.make_mars,
    "d3d": mimic.make_d3d,
    "kd": mimic.make_kd,
    "independent": single.make,
    "omnivore": omnivore.make,
    "dmcl": mcl.make_dmcl,
    "smcl": mcl.make_smcl,
    "cmcl": mcl.make_cmcl,
    "random_teacher": mcl.make_random_teacher,
    "generalized_distillation": distill.make_generalized_distillation,
    "distillation": distill.make_distillation,
    "gblend": gblend.make,
    "fixmatch": semi.make_fixmatch,
    "cmpl": semi.make_cmpl,
}


def options(name: str) -> dict:
    """Returns the options of METHODS[name], its keyword-only arguments, as {option: default}."""
    arguments = inspect.signature(METHODS[name]).parameters.values()
    return {argument.name: argument.default for argument in arguments if argument.kind is argument.KEYWORD_ONLY}
