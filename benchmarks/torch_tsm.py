"""TSM ResNets in PyTorch, only to measure against: written from TSM's paper, never trained."""

import torch
from torch import nn

STAGES = {"tsm_resnet18": ((2, 2, 2, 2), False), "tsm_resnet50": ((3, 4, 6, 3), True)}


def shift(x: torch.Tensor, frames: int) -> torch.Tensor:
    """One eighth of the channels from the next frame, one eighth from the previous."""
    fold = x.shape[1] // 8
    x = x.view(-1, frames, *x.shape[1:])
    out = torch.zeros_like(x)
    out[:, :-1, :fold] = x[:, 1:, :fold]
    out[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
    out[:, :, 2 * fold :] = x[:, :, 2 * fold :]
    return out.view(-1, *out.shape[2:])


class Block(nn.Module):
    """A basic or bottleneck block whose branch is shifted."""

    def __init__(self, inputs: int, width: int, stride: int, deep: bool, frames: int):
        super().__init__()
        out = width * (4 if deep else 1)
        sizes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
        sizes = sizes if deep else [(inputs, width, 3, stride), (width, out, 3, 1)]
        layers = []
        for i, o, size, s in sizes:
            layers += [nn.Conv2d(i, o, size, s, size // 2, bias=False), nn.BatchNorm2d(o), nn.ReLU(True)]
        self.branch, self.frames, self.relu = nn.Sequential(*layers[:-1]), frames, nn.ReLU(True)
        self.short = None
        if stride > 1 or inputs != out:
            self.short = nn.Sequential(nn.Conv2d(inputs, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        """[B*T, C, H, W] -> the same with the block's channels."""
        return self.relu(self.branch(shift(x, self.frames)) + (x if self.short is None else self.short(x)))


class TSM(nn.Module):
    """Frames in, clip logits out."""

    def __init__(self, name: str, channels: int, frames: int, classes: int, *, width: int = 64, stages=()):
        super().__init__()
        counts, deep = STAGES[name]
        layers = [
            nn.Conv2d(channels, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(True),
            nn.MaxPool2d(3, 2, 1),
        ]
        inputs = width
        for stage, count in enumerate(stages or counts):
            features = width * 2**stage
            for i in range(count):
                layers.append(Block(inputs, features, 2 if stage and i == 0 else 1, deep, frames))
                inputs = features * (4 if deep else 1)
        self.body, self.fc, self.frames = nn.Sequential(*layers), nn.Linear(inputs, classes), frames

    def forward(self, x):
        """[B, T, H, W, C] -> [B, classes]; the channels stay last in memory."""
        x = x.flatten(0, 1).permute(0, 3, 1, 2)
        return self.fc(self.body(x).mean((2, 3))).view(-1, self.frames, self.fc.out_features).mean(1)
