#!/usr/bin/env python3
"""What a device can do at most, as PyTorch sees it: bytes copied and FLOP in a second. One JSON document on stdout.

    python roofs.py --device cuda:0 --precision bf16
    python roofs.py --device cpu --copy-mb 64 --side 512

The copy goes from one buffer to another, both far larger than any cache; its bytes count twice, read and written. The product
is of two square matrices, 2 side^3 FLOP. Each figure is the best of --repeats.
"""

import argparse
import json
import sys
import time

import torch


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="cpu or cuda[:N] (default: cuda:0)")
    parser.add_argument("--precision", default="bf16", choices=["f32", "tf32", "bf16"])
    parser.add_argument("--copy-mb", type=int, default=2048, help="size of a buffer (default: 2048)")
    parser.add_argument("--side", type=int, default=8192, help="of the matrices (default: 8192)")
    parser.add_argument("--repeats", type=int, default=20, help="default: 20")
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        sys.exit(f"PyTorch {torch.__version__} sees no GPU: use --device cpu")
    return options


def best_seconds(cuda, repeats, work):
    """Events on a GPU, which leave the launch out of the figure; a few first ones do not count."""
    seconds = []
    for _ in range(3 + repeats):
        if cuda:
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            work()
            end.record()
            end.synchronize()
            seconds.append(start.elapsed_time(end) * 1e-3)
        else:
            begin = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - begin)
    return min(seconds[3:])


def main():
    options = parse()
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(device.index or 0)
    torch.backends.cuda.matmul.allow_tf32 = options.precision == "tf32"
    bytes_a_buffer = options.copy_mb << 20
    source = torch.ones(bytes_a_buffer, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = best_seconds(cuda, options.repeats, lambda: target.copy_(source))
    del source, target

    kind = torch.bfloat16 if options.precision == "bf16" else torch.float32
    a, b = (torch.randn(options.side, options.side, dtype=kind, device=device) for _ in range(2))
    product = torch.empty_like(a)
    matmul = best_seconds(cuda, options.repeats, lambda: torch.mm(a, b, out=product))
    print(json.dumps({
        "device": torch.cuda.get_device_name() if cuda else "cpu", "precision": options.precision,
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda},
        "copy_bytes_per_second": 2 * bytes_a_buffer / copy,
        "flop_per_second": 2 * options.side**3 / matmul,
    }, indent=1))


if __name__ == "__main__":
    main()
