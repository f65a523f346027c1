"""Writes the golden values of the model tests: a small encoder-decoder in plain PyTorch, in float64.

Written from the papers and independently of the C++ sources: every sequence runs alone (no packing, no padding, no
masks but the causal one), gradients come from autograd, the optimizer is torch.optim.Adam. The same weights are then
loaded into Hugging Face's MarianMTModel (post-norm) and PegasusForConditionalGeneration (pre-norm), whose logits have
to agree: that is what makes the saved models readable by `transformers`.

    python make_golden.py            writes the .json files beside this script; see README.md
"""

import json
import math
import pathlib

import torch
import torch.nn.functional as F

WIDTH, HEADS, HIDDEN, VOCABULARY, LAYERS = 16, 2, 32, 37, 2
SMOOTHING = 0.1
BETAS, EPSILON, WARMUP_STEPS, STEPS = (0.9, 0.98), 1e-9, 100, 10
NORM_EPSILON = 1e-5

SOURCES = [[5, 9, 17, 2], [30, 4, 4, 11, 23, 8, 36, 19, 2], [7, 2], [12, 33, 21, 6, 14, 2]]
TARGETS = [[1, 8, 25, 13], [1, 20], [1, 36, 15, 9, 9, 28, 3], [1, 16, 10, 31, 22]]
LABELS = [[8, 25, 13, 2], [20, 2], [36, 15, 9, 9, 28, 3, -1], [16, 10, 31, 22, 2]]  # -1: not counted


def fnv1a(name):
    value = 0x811C9DC5
    for byte in name.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def formula(name, shape):
    """The initial value of every parameter, a function of name and index that the C++ test repeats: at most 8
    significant bits, so that it is the same number in bfloat16, float32 and float64."""
    seed = fnv1a(name)
    values = []
    for index in range(math.prod(shape)):
        word = (index * 2654435761 + seed) & 0xFFFFFFFF
        word ^= word >> 15
        word = (word * 0x2C1B3C6D) & 0xFFFFFFFF
        word ^= word >> 12
        word = (word * 0x297A2D39) & 0xFFFFFFFF
        word ^= word >> 15
        step = (word >> 25) - 64  # -64 .. 63
        if "norm.weight" in name:
            values.append(1 + (step // 2) / 128)
        elif name == "embedding.weight" or "norm.bias" in name:
            values.append(step / 256)
        else:
            values.append(step / 128 if name.endswith("weight") else step / 512)
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def stack_shapes(stack, norm):
    """Names and shapes of one stack's parameters."""
    shapes = {}
    for layer in range(LAYERS):
        prefix = f"{stack}.layers.{layer}."
        parts = ["self_attention", "feed_forward"] + (["cross_attention"] if stack == "decoder" else [])
        for part in parts:
            shapes[f"{prefix}{part}_norm.weight"] = shapes[f"{prefix}{part}_norm.bias"] = (WIDTH,)
        matrices = {"self_attention.qkv": (3 * WIDTH, WIDTH), "self_attention.out": (WIDTH, WIDTH),
                    "feed_forward.fc1": (HIDDEN, WIDTH), "feed_forward.fc2": (WIDTH, HIDDEN)}
        if stack == "decoder":
            matrices |= {"cross_attention.q": (WIDTH, WIDTH), "cross_attention.kv": (2 * WIDTH, WIDTH),
                         "cross_attention.out": (WIDTH, WIDTH)}
        for name, shape in matrices.items():
            shapes[f"{prefix}{name}.weight"] = shape
            shapes[f"{prefix}{name}.bias"] = (shape[0],)
    if norm == "pre":
        shapes[f"{stack}.norm.weight"] = shapes[f"{stack}.norm.bias"] = (WIDTH,)
    return shapes


def initial_parameters(norm):
    shapes = {"embedding.weight": (VOCABULARY, WIDTH)} | stack_shapes("encoder", norm) | stack_shapes("decoder", norm)
    return {name: formula(name, shape).requires_grad_() for name, shape in sorted(shapes.items())}


class Model:
    """Vaswani et al. 2017 for one pair of sequences at a time."""

    def __init__(self, parameters, norm, activation, heads):
        self.p, self.norm, self.activation, self.heads = parameters, norm, activation, heads

    def linear(self, name, x):
        return F.linear(x, self.p[name + ".weight"], self.p[name + ".bias"])

    def layer_norm(self, name, x):
        return F.layer_norm(x, (WIDTH,), self.p[name + ".weight"], self.p[name + ".bias"], NORM_EPSILON)

    def embed(self, tokens):
        half = torch.arange(WIDTH // 2, dtype=torch.float64)
        angles = torch.outer(torch.arange(len(tokens), dtype=torch.float64), 10000.0 ** (-2 * half / WIDTH))
        positions = torch.cat([angles.sin(), angles.cos()], dim=1)
        return self.p["embedding.weight"][torch.tensor(tokens)] * math.sqrt(WIDTH) + positions

    def attend(self, q, k, v, causal):
        def split(x):
            return x.reshape(len(x), self.heads, WIDTH // self.heads).transpose(0, 1)

        scores = split(q) @ split(k).transpose(1, 2) / math.sqrt(WIDTH // self.heads)
        if causal:
            scores = scores + torch.full(scores.shape[1:], -math.inf, dtype=torch.float64).triu(1)
        return (scores.softmax(-1) @ split(v)).transpose(0, 1).reshape(len(q), WIDTH)

    def self_attention(self, name, x, causal):
        q, k, v = self.linear(name + ".qkv", x).chunk(3, dim=1)
        return self.linear(name + ".out", self.attend(q, k, v, causal))

    def cross_attention(self, name, x, memory):
        k, v = self.linear(name + ".kv", memory).chunk(2, dim=1)
        return self.linear(name + ".out", self.attend(self.linear(name + ".q", x), k, v, False))

    def feed_forward(self, name, x):
        hidden = self.linear(name + ".fc1", x)
        hidden = F.relu(hidden) if self.activation == "relu" else F.gelu(hidden, approximate="tanh")
        return self.linear(name + ".fc2", hidden)

    def part(self, name, x, function):
        if self.norm == "post":
            return self.layer_norm(name + "_norm", x + function(x))
        return x + function(self.layer_norm(name + "_norm", x))

    def stack(self, stack, x, memory):
        for layer in range(LAYERS):
            prefix = f"{stack}.layers.{layer}."
            x = self.part(prefix + "self_attention", x,
                          lambda u: self.self_attention(prefix + "self_attention", u, stack == "decoder"))
            if stack == "decoder":
                x = self.part(prefix + "cross_attention", x,
                              lambda u: self.cross_attention(prefix + "cross_attention", u, memory))
            x = self.part(prefix + "feed_forward", x, lambda u: self.feed_forward(prefix + "feed_forward", u))
        return self.layer_norm(stack + ".norm", x) if self.norm == "pre" else x

    def logits(self, source, target):
        memory = self.stack("encoder", self.embed(source), None)
        return self.stack("decoder", self.embed(target), memory) @ self.p["embedding.weight"].T


def logits_and_losses(model):
    logits = torch.cat([model.logits(source, target) for source, target in zip(SOURCES, TARGETS)])
    labels = torch.tensor(sum(LABELS, []))
    losses = F.cross_entropy(logits, labels, ignore_index=-1, reduction="none", label_smoothing=SMOOTHING)
    return logits, losses


def hugging_face_name(name):
    """Our name -> Marian's and Pegasus's, for everything that is not a stacked projection."""
    name = name.replace("self_attention_norm", "self_attn_layer_norm")
    name = name.replace("cross_attention_norm", "encoder_attn_layer_norm")
    name = name.replace("feed_forward_norm", "final_layer_norm").replace("feed_forward.fc", "fc")
    name = name.replace("self_attention.", "self_attn.").replace("cross_attention.", "encoder_attn.")
    name = name.replace(".norm.", ".layer_norm.").replace(".out.", ".out_proj.")
    return "model.shared.weight" if name == "embedding.weight" else "model." + name


def hugging_face_state(parameters):
    state = {"final_logits_bias": torch.zeros(1, VOCABULARY, dtype=torch.float64)}
    for name, value in parameters.items():
        value, target = value.detach().clone(), hugging_face_name(name)
        for stacked, parts in ((".qkv.", "qkv"), (".kv.", "kv"), (".q.", "q")):
            if stacked in target:
                for part, rows in zip(parts, value.chunk(len(parts))):
                    state[target.replace(stacked, f".{part}_proj.")] = rows.clone()
                break
        else:
            state[target] = value
    for tied in ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"):
        state[tied] = state["model.shared.weight"]
    return state


def check_against_hugging_face(parameters, norm, activation, heads, logits):
    import transformers

    config_class, model_class = {
        "post": (transformers.MarianConfig, transformers.MarianMTModel),
        "pre": (transformers.PegasusConfig, transformers.PegasusForConditionalGeneration)}[norm]
    config = config_class(
        vocab_size=VOCABULARY, d_model=WIDTH, encoder_layers=LAYERS, decoder_layers=LAYERS,
        encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_ffn_dim=HIDDEN, decoder_ffn_dim=HIDDEN,
        activation_function={"relu": "relu", "gelu": "gelu_pytorch_tanh"}[activation], scale_embedding=True,
        max_position_embeddings=64, pad_token_id=0, eos_token_id=2, decoder_start_token_id=1, forced_eos_token_id=2,
        attn_implementation="eager")
    model = model_class(config).double().eval()
    missing, unexpected = model.load_state_dict(hugging_face_state(parameters), strict=False)
    missing = [name for name in missing if "embed_positions" not in name]
    assert not missing and not unexpected, (missing, unexpected)
    theirs = torch.cat([
        model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([target])).logits[0]
        for source, target in zip(SOURCES, TARGETS)])
    difference = (theirs - logits).abs().max().item()
    assert difference < 1e-6, f"{model_class.__name__} differs by {difference}"  # its position table is float32
    return difference


def rounded(values):
    return [float(f"{value:.9g}") for value in values.detach().reshape(-1).tolist()]


def optimizer_steps(parameters, model):
    adam = torch.optim.Adam(parameters.values(), lr=0.0, betas=BETAS, eps=EPSILON)
    rates, means = [], []
    for step in range(1, STEPS + 1):
        rates.append(WIDTH**-0.5 * min(step**-0.5, step * WARMUP_STEPS**-1.5))
        adam.param_groups[0]["lr"] = rates[-1]
        adam.zero_grad()
        mean = logits_and_losses(model)[1].sum() / sum(label != -1 for label in sum(LABELS, []))
        means.append(mean.item())
        mean.backward()
        adam.step()
    return rates, means


def write_golden(name, norm, activation, heads):
    parameters = initial_parameters(norm)
    model = Model(parameters, norm, activation, heads)
    logits, losses = logits_and_losses(model)
    difference = check_against_hugging_face(parameters, norm, activation, heads, logits.detach())
    losses.sum().backward()
    values = {
        "norm": norm, "activation": activation, "width": WIDTH, "heads": heads, "hidden": HIDDEN,
        "vocabulary": VOCABULARY, "layers": LAYERS, "smoothing": SMOOTHING, "beta1": BETAS[0], "beta2": BETAS[1],
        "epsilon": EPSILON, "sources": SOURCES, "targets": TARGETS, "labels": LABELS,
        "logits": rounded(logits), "losses": rounded(losses),
        "gradients": {name: rounded(value.grad) for name, value in parameters.items()},
    }
    values["learning_rates"], values["mean_losses"] = optimizer_steps(parameters, model)
    values["final_parameters"] = {name: rounded(value) for name, value in parameters.items()}
    path = pathlib.Path(__file__).parent / f"{name}.json"
    path.write_text(json.dumps(values, separators=(",", ":")).replace('],"', '],\n"') + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes; Hugging Face agrees to {difference:.1e}; "
          f"mean loss {values['mean_losses'][0]:.6f} -> {values['mean_losses'][-1]:.6f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    for placement, function in (("post", "relu"), ("post", "gelu"), ("pre", "relu"), ("pre", "gelu")):
        write_golden(f"{placement}_{function}", placement, function, HEADS)
    write_golden("pre_relu_one_head", "pre", "relu", 1)
