"""The original: a small network in PyTorch. Its weights lie as (out, in)."""

import torch
from torch import nn

torch.manual_seed(0)


class Classifier(nn.Module):
    """A dense layer with layer norm and GELU, and a dense layer for the logits."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(4, 16)
        self.norm = nn.LayerNorm(16)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(16, 3)

    def forward(self, inputs):
        """Return the logits, (N, 3), of inputs (N, 4)."""
        return self.fc2(self.act(self.norm(self.fc1(inputs))))


model = Classifier()
