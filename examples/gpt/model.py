"""GPT-2 in its plain form: learned positions, pre-norm blocks, tied embeddings."""

import math

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.norm_2 = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        batch, length, width = x.shape
        qkv = self.qkv(self.norm_1(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mix(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(functional.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class GPT(nn.Module):
    """Tokens (batch, length) to scores (batch, length, vocabulary)."""

    def __init__(self, vocabulary, length, layers, heads, width):
        super().__init__()
        self.length = length
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=False)
        self.scores = nn.Linear(width, vocabulary, bias=False)
        self.scores.weight = self.tokens.weight
        self.apply(self._initialise)
        for block in self.blocks:
            for layer in (block.mix, block.down):
                nn.init.normal_(layer.weight, std=0.02 / math.sqrt(2 * layers))

    @staticmethod
    def _initialise(module):
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.scores(self.norm(x))

    def parameter_count(self):
        """Without the positions, which do no arithmetic worth counting."""
        return sum(p.numel() for p in self.parameters()) - self.positions.weight.numel()

    @torch.inference_mode()
    def generate(self, tokens, count, temperature=1.0, generator=None):
        """Yield `count` tokens (ints) that go on after `tokens`, a list of ints."""
        device = self.tokens.weight.device
        context = torch.tensor([tokens], device=device)
        for _ in range(count):
            scores = self(context[:, -self.length :])[0, -1] / temperature
            token = torch.multinomial(scores.softmax(-1), 1, generator=generator)
            context = torch.cat([context, token[None]], dim=1)
            yield int(token)
