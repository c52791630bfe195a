"""All methods: an explicit dict. A new one is a file beside these and a line here."""

from mmvid.methods import mml, single

METHODS = {"single": single.make, "mml": mml.make}
