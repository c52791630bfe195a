"""ir-CSN-50 in PyTorch, only to measure against: written from the paper (Tran et al. 2019), never trained."""

from torch import nn


class Block(nn.Module):
    """A bottleneck whose 3x3x3 convolves each channel by itself."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        out = 4 * width
        self.branch = nn.Sequential(
            nn.Conv3d(inputs, width, 1, bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(True),
            nn.Conv3d(width, width, 3, stride, 1, groups=width, bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(True),
            nn.Conv3d(width, out, 1, bias=False),
            nn.BatchNorm3d(out),
        )
        self.relu, self.short = nn.ReLU(True), None
        if stride > 1 or inputs != out:
            self.short = nn.Sequential(nn.Conv3d(inputs, out, 1, stride, bias=False), nn.BatchNorm3d(out))

    def forward(self, x):
        """[B, C, T, H, W] -> the same with the block's channels."""
        return self.relu(self.branch(x) + (x if self.short is None else self.short(x)))


class Csn(nn.Module):
    """Clips in, logits out."""

    def __init__(self, channels: int, classes: int, *, width: int = 64, stages=(3, 4, 6, 3)):
        super().__init__()
        layers = [
            nn.Conv3d(channels, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(True),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ]
        inputs = width
        for stage, count in enumerate(stages):
            for i in range(count):
                layers.append(Block(inputs, width * 2**stage, 2 if stage and i == 0 else 1))
                inputs = 4 * width * 2**stage
        self.body, self.fc = nn.Sequential(*layers), nn.Linear(inputs, classes)

    def forward(self, x):
        """[B, T, H, W, C] -> [B, classes]; the channels stay last in memory."""
        return self.fc(self.body(x.permute(0, 4, 1, 2, 3)).mean((2, 3, 4)))
