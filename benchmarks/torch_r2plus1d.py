"""R(2+1)D-18 in PyTorch, only to measure against: written from the paper (Tran et al. 2018) with
torchvision's middle channels, never trained."""

from torch import nn


def factorised(inputs: int, outputs: int, middle: int, stride: int) -> list[nn.Module]:
    """1x3x3 with the spatial stride, norm, ReLU, 3x1x1 with the temporal one, norm."""
    spatial = nn.Conv3d(inputs, middle, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
    temporal = nn.Conv3d(middle, outputs, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False)
    return [spatial, nn.BatchNorm3d(middle), nn.ReLU(True), temporal, nn.BatchNorm3d(outputs)]


class Block(nn.Module):
    """A basic residual block of two factorised convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        middle = 27 * inputs * outputs // (9 * inputs + 3 * outputs)
        first = factorised(inputs, outputs, middle, stride)
        self.branch = nn.Sequential(*first, nn.ReLU(True), *factorised(outputs, outputs, middle, 1))
        self.relu, self.short = nn.ReLU(True), None
        if stride > 1 or inputs != outputs:
            self.short = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))

    def forward(self, x):
        """[B, C, T, H, W] -> the same with the block's channels."""
        return self.relu(self.branch(x) + (x if self.short is None else self.short(x)))


class R2Plus1D(nn.Module):
    """Clips in, logits out."""

    def __init__(self, channels: int, classes: int, *, width: int = 64, stages=(2, 2, 2, 2)):
        super().__init__()
        layers = [
            nn.Conv3d(channels, 45, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
            nn.BatchNorm3d(45),
            nn.ReLU(True),
            nn.Conv3d(45, width, (3, 1, 1), 1, (1, 0, 0), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(True),
        ]
        inputs = width
        for stage, count in enumerate(stages):
            for i in range(count):
                features = width * 2**stage
                layers.append(Block(inputs, features, 2 if stage and i == 0 else 1))
                inputs = features
        self.body, self.fc = nn.Sequential(*layers), nn.Linear(inputs, classes)

    def forward(self, x):
        """[B, T, H, W, C] -> [B, classes]; the channels stay last in memory."""
        return self.fc(self.body(x.permute(0, 4, 1, 2, 3)).mean((2, 3, 4)))
