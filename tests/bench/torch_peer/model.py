# The encoder-decoder Transformer of "Attention Is All You Need" as a PyTorch user writes it today: padded batches, SDPA.
import math

import torch
import torch.nn.functional as F
from torch import nn


def sinusoids(length, width):
    """Sines in the first half of the channels, cosines in the second, with the paper's frequencies."""
    position = torch.arange(length, dtype=torch.float64)[:, None]
    frequency = torch.exp(torch.arange(width // 2, dtype=torch.float64) * (-math.log(10000.0) * 2.0 / width))
    angle = position * frequency[None, :]
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


class Attention(nn.Module):
    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x, memory, mask=None, causal=False):
        key, value = self.key_value(memory).chunk(2, dim=-1)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(
            self.split(self.query(x)), self.split(key), self.split(value), mask, dropout, is_causal=causal
        )
        return self.out(y.transpose(1, 2).reshape(x.shape))


class FeedForward(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        return self.down(F.relu(self.up(x)))


class EncoderBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention = Attention(config.width, config.heads, config.attention_dropout)
        self.feed_forward = FeedForward(config.width, config.hidden)
        self.norm1, self.norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x, mask):
        x = self.norm1(x + self.drop(self.attention(x, x, mask)))
        return self.norm2(x + self.drop(self.feed_forward(x)))


class DecoderBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention = Attention(config.width, config.heads, config.attention_dropout)
        self.cross = Attention(config.width, config.heads, config.attention_dropout)
        self.feed_forward = FeedForward(config.width, config.hidden)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(config.width) for _ in range(3))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x, memory, mask):
        # Padding stands at the end, so that the causal mask alone keeps real queries from seeing it.
        x = self.norm1(x + self.drop(self.attention(x, x, causal=True)))
        x = self.norm2(x + self.drop(self.cross(x, memory, mask)))
        return self.norm3(x + self.drop(self.feed_forward(x)))


class Seq2Seq(nn.Module):
    def __init__(self, config, vocabulary_size, max_length):
        super().__init__()
        self.scale = math.sqrt(config.width)
        self.embedding = nn.Embedding(vocabulary_size, config.width)
        self.register_buffer("positions", sinusoids(max_length, config.width))
        self.encoder = nn.ModuleList(EncoderBlock(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderBlock(config) for _ in range(config.decoder_layers))
        self.drop = nn.Dropout(config.dropout)
        for name, parameter in self.named_parameters():
            if name == "embedding.weight":
                nn.init.normal_(parameter, std=config.width**-0.5)
            elif name.endswith("key_value.weight"):
                for half in parameter.data.chunk(2):
                    nn.init.xavier_uniform_(half)
            elif parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def embed(self, tokens):
        return self.drop(self.embedding(tokens) * self.scale + self.positions[: tokens.shape[1]])

    def forward(self, source, source_mask, target, label_rows, labels, smoothing):
        """Sum of the losses of the rows `label_rows` of the flattened target; `source_mask` bool [B,1,1,Ls]."""
        memory = self.embed(source)
        for block in self.encoder:
            memory = block(memory, source_mask)
        x = self.embed(target)
        for block in self.decoder:
            x = block(x, memory, source_mask)
        x = x.reshape(-1, x.shape[-1]).index_select(0, label_rows)
        logits = F.linear(x, self.embedding.weight)
        return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing, reduction="sum")
