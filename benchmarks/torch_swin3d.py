"""Video Swin-T in PyTorch, only to measure against: written from the paper (Liu et al. 2022), in the plain
operations of the released code, never trained."""

import torch
from torch import nn
from torch.nn import functional as F

WINDOW = (8, 7, 7)


def cut(x, window):
    """[B, T, H, W, C] -> [B * windows, tokens, C]."""
    b, t, h, w, c = x.shape
    i, j, k = window
    x = x.view(b, t // i, i, h // j, j, w // k, k, c)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, i * j * k, c)


def joined(x, window, grid):
    """Inverts ``cut``."""
    (t, h, w), (i, j, k) = grid, window
    x = x.view(-1, t // i, h // j, w // k, i, j, k, x.shape[-1])
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, t, h, w, x.shape[-1])


def pairs(window):
    """Where each pair of tokens finds its bias: [N, N]."""
    axes = torch.meshgrid(*(torch.arange(n) for n in window), indexing="ij")
    place = torch.stack(axes).flatten(1)
    t, h, w = (place[i][:, None] - place[i] + window[i] - 1 for i in range(3))
    return (t * (2 * window[1] - 1) + h) * (2 * window[2] - 1) + w


class Attention(nn.Module):
    """Attention within (shifted) windows."""

    def __init__(self, dim: int, heads: int, shifted: bool):
        super().__init__()
        self.heads, self.shifted, self.masks = heads, shifted, {}
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.table = nn.Parameter(0.02 * torch.randn(15 * 13 * 13, heads))
        self.register_buffer("index", pairs(WINDOW))

    def mask(self, grid, window, shift, device):
        """-100 between tokens that the shift alone brought together; made once a grid."""
        if grid not in self.masks:
            number = torch.zeros(1, *grid, 1)
            for axis, (n, w, s) in enumerate(zip(grid, window, shift), 1):
                part = torch.zeros(n)
                if s:
                    part[n - w :], part[n - s :] = 1, 2
                number = 3 * number + part.view([-1 if a == axis else 1 for a in range(5)])
            number = cut(number, window)[..., 0]
            self.masks[grid] = ((number[:, None] != number[:, :, None]) * -100.0).to(device)
        return self.masks[grid]

    def forward(self, x):
        """[B, T, H, W, C] -> the same."""
        batch, *grid, dim = x.shape
        window = [min(n, w) for n, w in zip(grid, WINDOW)]
        shift = [w // 2 if self.shifted and n > w else 0 for n, w in zip(grid, WINDOW)]
        pad = [-n % w for n, w in zip(grid, window)]
        x = F.pad(x, (0, 0, 0, pad[2], 0, pad[1], 0, pad[0]))
        whole = tuple(x.shape[1:4])
        x = torch.roll(x, [-s for s in shift], (1, 2, 3)) if any(shift) else x
        x = cut(x, window)
        n = x.shape[1]
        q, k, v = self.qkv(x).view(-1, n, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        scores = (q * (dim // self.heads) ** -0.5) @ k.transpose(-2, -1)
        bias = self.table[self.index[:n, :n].reshape(-1)].view(n, n, -1).permute(2, 0, 1)
        scores = scores + bias
        if any(shift):
            mask = self.mask(whole, window, shift, x.device)
            scores = scores.view(batch, -1, self.heads, n, n) + mask[:, None]
            scores = scores.view(-1, self.heads, n, n)
        x = (scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, n, dim)
        x = joined(self.proj(x), window, whole)
        x = torch.roll(x, shift, (1, 2, 3)) if any(shift) else x
        return x[:, : grid[0], : grid[1], : grid[2]]


class Block(nn.Module):
    """Attention and MLP, each after a norm; a branch is left out with probability ``drop``."""

    def __init__(self, dim: int, heads: int, shifted: bool, drop: float):
        super().__init__()
        self.drop, self.attention = drop, Attention(dim, heads, shifted)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def kept(self, x):
        """Stochastic depth, an example at a time."""
        if not self.training or not self.drop:
            return x
        keep = 1 - self.drop
        return x * torch.empty(x.shape[0], 1, 1, 1, 1, device=x.device).bernoulli_(keep).div_(keep)

    def forward(self, x):
        """[B, T, H, W, C] -> the same."""
        x = x + self.kept(self.attention(self.norm1(x)))
        return x + self.kept(self.mlp(self.norm2(x)))


class Merging(nn.Module):
    """Four neighbours into one token of twice the channels."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x):
        """[B, T, H, W, C] -> [B, T, H/2, W/2, 2C]."""
        x = F.pad(x, (0, 0, 0, x.shape[3] % 2, 0, x.shape[2] % 2))
        parts = [x[:, :, i::2, j::2] for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
        return self.reduction(self.norm(torch.cat(parts, -1)))


class Swin3D(nn.Module):
    """Clips in, logits out."""

    def __init__(self, channels: int, classes: int, *, width: int = 96, stages=(2, 2, 6, 2), drop_path=0.2):
        super().__init__()
        self.embed = nn.Conv3d(channels, width, (2, 4, 4), (2, 4, 4))
        self.embed_norm = nn.LayerNorm(width)
        drops = iter(torch.linspace(0, drop_path, sum(stages)).tolist())
        layers = []
        for stage, count in enumerate(stages):
            layers += [Merging(width * 2 ** (stage - 1))] if stage else []
            dim, heads = width * 2**stage, 3 * 2**stage
            layers += [Block(dim, heads, i % 2 == 1, next(drops)) for i in range(count)]
        self.body, self.norm, self.fc = nn.Sequential(*layers), nn.LayerNorm(dim), nn.Linear(dim, classes)

    def forward(self, x):
        """[B, T, H, W, C] -> [B, classes]; frames and sides that patches divide."""
        x = self.embed(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
        return self.fc(self.norm(self.body(self.embed_norm(x))).mean((1, 2, 3)))
