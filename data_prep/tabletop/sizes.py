"""How many clips each size of Tabletop has. It imports nothing: configurations read it, too."""

SIZES = {
    "smoke": dict(train=48, val=16, test=32, unseen=16),
    "small": dict(train=400, val=60, test=240, unseen=120),
    "blend": dict(train=800, val=100, test=500, unseen=20),
    "semi": dict(train=1300, val=60, test=240, unseen=120),
    "medium": dict(train=1300, val=300, test=1500, unseen=500),
}
