"""All methods: an explicit dict. A new one is a file beside these and a line here."""

from mmvid.methods import distill, mcl, mml, single

METHODS = {
    "single": single.make,
    "mml": mml.make,
    "independent": single.make,
    "dmcl": mcl.make_dmcl,
    "smcl": mcl.make_smcl,
    "cmcl": mcl.make_cmcl,
    "random_teacher": mcl.make_random_teacher,
    "generalized_distillation": distill.make_generalized_distillation,
}
