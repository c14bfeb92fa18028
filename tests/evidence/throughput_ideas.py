"""What would make the published sizes train faster on this machine: each idea against the plain form, in turns, one process.

    python tests/evidence/throughput_ideas.py [--batch 32] [--turns 5] [--threads 1] [--json OUT] [IDEA ...]

Every variant of an idea computes the same values (`tests/evidence/test_reference_loop.py` compares them on small sizes), forward and
backward. Reported: processor seconds, median and extremes, and the ratio to the first variant inside one turn.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reference_loop import ReferenceConfig, ReferenceDecoder, ReferenceEncoder
from throughput import machine, spread
from torch import Tensor, nn
from torch.nn import functional

Variant = Callable[[], object]
WARM_UP = 1


def _backward(out: Tensor, *weights: Tensor) -> list[Tensor]:
    """Gradients of the sum of squares, so that every kernel of the backward pass runs."""
    return list(torch.autograd.grad(out.square().sum(), weights))


def decoder_calls(batch: int, config: ReferenceConfig) -> dict[str, Variant]:
    """Twelve identical calls, or one whose output is compared with all leads."""
    decoder, z = ReferenceDecoder(config), torch.randn(batch, config.latent)
    x, weights = torch.randn(batch, config.n_leads, config.n_samples), tuple(decoder.parameters())

    def calls(n: int) -> list[Tensor]:
        drawn = torch.cat([decoder(z) for _ in range(n)], 1)
        return _backward(x - drawn, *weights)

    return {"12 calls": lambda: calls(config.n_leads), "1 call": lambda: calls(1)}


def convolutions(batch: int, config: ReferenceConfig) -> dict[str, Variant]:
    """Three convolutions of twelve encoders: a loop over leads, or one grouped convolution a layer."""
    encoders = [ReferenceEncoder(ReferenceConfig(1, 8, config.channels, 1)) for _ in range(config.n_leads)]
    layers = [[getattr(encoder, f"conv{k}") for encoder in encoders] for k in (1, 2, 3)]
    x = torch.randn(batch, config.n_leads, config.n_samples)
    weights = [conv.weight for layer in layers for conv in layer]

    def per_lead(convolve: Callable[..., Tensor]) -> list[Tensor]:
        out = []
        for k in range(config.n_leads):
            h = x[:, k : k + 1]
            for layer in layers:
                h = torch.relu(convolve(h, layer[k]))
            out.append(h)
        return _backward(torch.stack(out, 1), *weights)

    def channels_last(h: Tensor, conv: nn.Conv1d) -> Tensor:
        h, weight = (t.unsqueeze(2).contiguous(memory_format=torch.channels_last) for t in (h, conv.weight))
        return functional.conv2d(h, weight, conv.bias, stride=(1, 2), padding=(0, 1)).squeeze(2)

    def grouped() -> list[Tensor]:
        h = x
        for layer in layers:
            weight, bias = torch.cat([conv.weight for conv in layer]), torch.cat([conv.bias for conv in layer])
            h = torch.relu(functional.conv1d(h, weight, bias, stride=2, padding=1, groups=config.n_leads))
        return _backward(h.unflatten(1, (config.n_leads, -1)), *weights)

    return {
        "loop over leads": lambda: per_lead(lambda h, conv: conv(h)),
        "loop, channels last": lambda: per_lead(channels_last),
        "grouped": grouped,
    }


def dense_heads(batch: int, config: ReferenceConfig) -> dict[str, Variant]:
    """Mean and log-variance of twelve leads: 24 products, 12 of double width, or one batched product."""
    n, flat, latent = config.n_leads, config.flat, config.latent
    stacked = nn.Parameter(torch.randn(n, 2 * latent, flat) / flat**0.5)
    pairs = [nn.Parameter(lead.detach().clone()) for lead in stacked]
    halves = [[nn.Parameter(half.detach().clone()) for half in pair.split(latent)] for pair in pairs]
    x = [torch.randn(batch, flat, requires_grad=True) for _ in range(n)]

    def single() -> list[Tensor]:
        out = [torch.cat([functional.linear(x[k], half) for half in halves[k]], 1) for k in range(n)]
        return _backward(torch.stack(out), *[half for pair in halves for half in pair], *x)

    def double() -> list[Tensor]:
        return _backward(torch.stack([functional.linear(x[k], pair) for k, pair in enumerate(pairs)]), *pairs, *x)

    def batched() -> list[Tensor]:
        return _backward(torch.bmm(torch.stack(x), stacked.transpose(1, 2)), stacked, *x)

    return {"24 products": single, "12 of double width": double, "one bmm": batched}


def precision(batch: int, config: ReferenceConfig) -> dict[str, Variant]:
    """One lead's two heads in fp32 and in bf16 autocast, the weight kept in fp32 as in training."""
    weight = nn.Parameter(torch.randn(2 * config.latent, config.flat) / config.flat**0.5)
    x = torch.randn(batch, config.flat, requires_grad=True)

    def run(*, half: bool) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = functional.linear(x, weight)
        return _backward(out.float(), weight, x)

    return {"fp32": lambda: run(half=False), "bf16 autocast": lambda: run(half=True)}


def optimizers(batch: int, config: ReferenceConfig) -> dict[str, Variant]:
    """AdamW on one lead's two heads (20.5 M weights in the published sizes), gradient given; `batch` plays no part."""
    del batch
    variants: dict[str, Variant] = {}
    for name in ("default", "foreach", "fused"):
        g = torch.Generator().manual_seed(0)
        weights = [nn.Parameter(torch.randn(config.latent, config.flat, generator=g)) for _ in range(2)]
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=g)
        optimizer = torch.optim.AdamW(
            weights,
            lr=config.lr,
            weight_decay=config.weight_decay,
            foreach=name == "foreach" or None,
            fused=name == "fused" or None,
        )

        def step(optimizer: torch.optim.AdamW = optimizer, weights: list[nn.Parameter] = weights) -> list[Tensor]:
            optimizer.step()
            return [weight.detach() for weight in weights]

        variants[name] = step
    return variants


def clipping(batch: int, config: ReferenceConfig) -> dict[str, Variant]:
    """Norm and scaling of one lead's gradients, tensor by tensor or as a list; `batch` plays no part."""
    del batch
    weights = [nn.Parameter(torch.zeros(config.latent, config.flat)) for _ in range(2)]
    g = torch.Generator().manual_seed(0)
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=g)

    def clip(*, foreach: bool) -> Tensor:
        return nn.utils.clip_grad_norm_(weights, 1e9, foreach=foreach)

    return {"tensor by tensor": lambda: clip(foreach=False), "foreach": lambda: clip(foreach=True)}


IDEAS: dict[str, Callable[[int, ReferenceConfig], dict[str, Variant]]] = {
    "decoder_calls": decoder_calls,
    "convolutions": convolutions,
    "dense_heads": dense_heads,
    "precision": precision,
    "optimizers": optimizers,
    "clipping": clipping,
}


def measure(variants: dict[str, Variant], turns: int) -> dict[str, Any]:
    """Processor seconds of each variant, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(turns + WARM_UP):
        for name, call in variants.items():
            start = time.process_time()
            call()
            if turn >= WARM_UP:
                taken[name].append(time.process_time() - start)
    first = np.array(next(iter(taken.values())))
    return {
        name: {"cpu_s": spread(np.array(values)), "speed_over_first": spread(first / np.array(values))}
        for name, values in taken.items()
    }


def main(words: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("ideas", nargs="*", metavar="IDEA", help=", ".join(IDEAS))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args(words)
    unknown = set(arguments.ideas) - set(IDEAS)
    if unknown:
        parser.error(f"found {', '.join(sorted(unknown))}, expected of {', '.join(IDEAS)}")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    data: dict[str, Any] = {
        "what": "forward and backward of parts of the published sizes, or one optimizer step on 20.5 M weights",
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "batch": arguments.batch, "turns": arguments.turns, "machine": machine("cpu"), "ideas": {},
    }  # fmt: skip
    print("| idea | variant | processor s (min to max) | / first (min to max) |\n| --- | --- | --- | --- |")
    for name in arguments.ideas or IDEAS:
        data["ideas"][name] = rows = measure(IDEAS[name](arguments.batch, ReferenceConfig()), arguments.turns)
        for variant, row in rows.items():
            s, r = row["cpu_s"], row["speed_over_first"]
            print(
                f"| {name} | {variant} | {s['median']:.3f} ({s['min']:.3f} to {s['max']:.3f}) "
                f"| {r['median']:.2f} ({r['min']:.2f} to {r['max']:.2f}) |",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
