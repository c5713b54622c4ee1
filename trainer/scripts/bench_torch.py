"""The other side of `remask-train bench --against "python bench_torch.py"`: a Llama-shaped mask predictor in PyTorch.

Eager mode, scaled_dot_product_attention, fused AdamW, bf16 by autocast where asked. Each line of its input is a step;
it answers with the seconds. The head sees the masked rows alone, as the trainer's does; --all-rows gives it all.
"""
import argparse
import json
import resource
import sys
import time

import torch
import torch.nn.functional as F

parser = argparse.ArgumentParser()
for name in ["d-model", "n-layers", "n-heads", "n-kv-heads", "mlp-hidden-size", "vocab-size"]:
    parser.add_argument(f"--{name}", type=int, required=True)
for name in ["length", "batch", "micro-batch", "threads", "tied"]:
    parser.add_argument(f"--{name}", type=int, required=True)
parser.add_argument("--device", default="cpu")
parser.add_argument("--precision", default="f32")
parser.add_argument("--all-rows", action="store_true")
a = parser.parse_args()
torch.set_num_threads(a.threads)
torch.manual_seed(0)
device, size = torch.device(a.device), a.d_model // a.n_heads


def matrix(n_out, n_in):
    return torch.nn.Linear(n_in, n_out, bias=False)


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        kv = a.n_kv_heads * size
        self.norms = torch.nn.ModuleList([torch.nn.RMSNorm(a.d_model, eps=1e-5) for _ in range(2)])
        self.q, self.k, self.v = matrix(a.d_model, a.d_model), matrix(kv, a.d_model), matrix(kv, a.d_model)
        self.o = matrix(a.d_model, a.d_model)
        self.gate, self.up = matrix(a.mlp_hidden_size, a.d_model), matrix(a.mlp_hidden_size, a.d_model)
        self.down = matrix(a.d_model, a.mlp_hidden_size)

    def forward(self, x, cos, sin):
        n, length, _ = x.shape
        h = self.norms[0](x)
        heads = lambda y: y.view(n, length, -1, size).transpose(1, 2)

        def turn(y):
            left, right = y.chunk(2, -1)
            return torch.cat([left * cos - right * sin, right * cos + left * sin], -1).to(y.dtype)

        q, k, v = turn(heads(self.q(h))), turn(heads(self.k(h))), heads(self.v(h))
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=a.n_kv_heads != a.n_heads)
        x = x + self.o(y.transpose(1, 2).reshape(n, length, -1))
        h = self.norms[1](x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(a.vocab_size, a.d_model)
        self.blocks = torch.nn.ModuleList([Block() for _ in range(a.n_layers)])
        self.norm = torch.nn.RMSNorm(a.d_model, eps=1e-5)
        self.head = matrix(a.vocab_size, a.d_model)
        if a.tied:
            self.head.weight = self.embed.weight
        angle = torch.arange(a.length)[:, None] * 10000.0 ** (-torch.arange(0, size, 2) / size)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, tokens, masked):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.head(self.norm(x if a.all_rows else x[masked]))


network = Network().to(device)
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
tokens = torch.randint(1, a.vocab_size, (a.batch, a.length), device=device)


def wait():
    if device.type == "cuda":
        torch.cuda.synchronize()


def step():
    wait()
    begin = time.perf_counter()
    t = (torch.rand(1, device=device) + torch.arange(a.batch, device=device) / a.batch) % 1.0
    p = (1 - 1e-3) * t[:, None] + 1e-3
    masked = torch.rand(tokens.shape, device=device) < p
    noised = tokens.masked_fill(masked, 0)
    for part in torch.arange(a.batch, device=device).split(a.micro_batch):
        m, x = masked[part], tokens[part]
        with torch.autocast(device.type, torch.bfloat16, enabled=a.precision == "bf16"):
            logits = network(noised[part], m)
        if a.all_rows:
            logits = logits[m]
        ce = F.cross_entropy(logits.float(), x[m], reduction="none")
        (ce / p[part].expand_as(x)[m]).sum().div(tokens.numel()).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    wait()
    return time.perf_counter() - begin


def say(**answer):
    print(json.dumps(answer), flush=True)


say(name=f"PyTorch {torch.__version__}")
for _ in sys.stdin:
    say(seconds=step())
on_gpu = device.type == "cuda"
say(peak_bytes=torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
