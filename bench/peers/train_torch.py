#!/usr/bin/env python3
"""The study's training step in PyTorch, as fast as it goes there: one JSON document on stdout.

    python train_torch.py --net b6 --batch-size 32                          CPU, the faster of two memory layouts
    python train_torch.py --net b6 --device cuda --precision bf16 --compile GPU: autocast, fused Adam, images resident
    python train_torch.py --net b2 --data pcam/                             real patches instead of noise (needs h5py)

Same work as `train`: Keras' layers, dropout and batch-norm constants, Adam 1e-3 with epsilon 1e-7, binary cross-entropy from logits,
a fresh permutation each epoch, uint8 images resident on the device and divided by 255 there. images_per_second is the median over
the epochs after a warm-up one; peak_memory_bytes is the process's largest resident set on a CPU, the allocator's peak on a GPU.
"""

import argparse
import json
import platform
import resource
import statistics
import sys
import time

import torch
from torch import nn


def b2(side):
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * (side // 4) ** 2, 256), nn.ReLU(), nn.Linear(256, 1))


def b6(side):
    def conv_bn_relu(inputs, filters):  # momentum is the share of the new value: Keras' 0.99 keeps
        return [nn.Conv2d(inputs, filters, 3, bias=False), nn.BatchNorm2d(filters, eps=1e-3, momentum=0.01), nn.ReLU()]

    def pool_drop():
        return [nn.MaxPool2d(2), nn.Dropout(0.3)]

    last = (((side - 4) // 2 - 4) // 2 - 4) // 2
    return nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), *conv_bn_relu(32, 32), *pool_drop(),
        *conv_bn_relu(32, 64), *conv_bn_relu(64, 64), *pool_drop(),
        *conv_bn_relu(64, 128), *conv_bn_relu(128, 128), *pool_drop(),
        nn.Flatten(), nn.Linear(128 * last**2, 256, bias=False), nn.BatchNorm1d(256, eps=1e-3, momentum=0.01), nn.ReLU(),
        nn.Dropout(0.5), nn.Linear(256, 1))


NETS = {"b2": b2, "b6": b6}


def initialize(module):
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=NETS, default="b2")
    parser.add_argument("--batch-size", type=int, default=32, help="images a step (default: 32)")
    parser.add_argument("--image", type=int, default=96, help="pixels a side of random images (default: 96)")
    parser.add_argument("--images", type=int, default=640, help="images an epoch (default: 640)")
    parser.add_argument("--epochs", type=int, default=5, help="timed epochs, after one of warm-up (default: 5)")
    parser.add_argument("--data", help="folder with PCam's HDF5 files; its first --images training patches are used")
    parser.add_argument("--device", default="cpu", help="cpu or cuda[:N] (default: cpu)")
    parser.add_argument("--precision", choices=["f32", "tf32", "bf16"], default="f32", help="bf16: autocast (default: f32)")
    parser.add_argument("--layout", choices=["best", "channels_last", "contiguous"], default="best",
                        help="memory order; best: time an epoch of each and keep the faster (default: best)")
    parser.add_argument("--compile", action="store_true", help="torch.compile the network")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def load(options, device):
    if options.data:
        import h5py

        split = f"{options.data}/camelyonpatch_level_2_split_train_"
        with h5py.File(split + "x.h5") as x, h5py.File(split + "y.h5") as y:
            images = torch.from_numpy(x["x"][:options.images])
            labels = torch.from_numpy(y["y"][:options.images].reshape(-1))
    else:
        images = torch.randint(0, 256, (options.images, options.image, options.image, 3), dtype=torch.uint8)
        labels = torch.randint(0, 2, (options.images,))
    return images.permute(0, 3, 1, 2).to(device), labels.float().to(device)


class Trainer:
    def __init__(self, options, layout, images, labels):
        torch.manual_seed(options.seed)
        self.batch, self.images, self.labels = options.batch_size, images, labels
        self.device = images.device
        self.format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        self.images = images.contiguous(memory_format=self.format)
        net = NETS[options.net](images.shape[-1])
        net.apply(initialize)
        self.net = net.to(self.device, memory_format=self.format).train()
        self.forward = torch.compile(self.net) if options.compile else self.net
        self.adam = torch.optim.Adam(self.net.parameters(), lr=1e-3, eps=1e-7, fused=True)
        self.loss = nn.BCEWithLogitsLoss()
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=options.precision == "bf16")

    def epoch(self):
        """Seconds of one epoch and its last loss."""
        order = torch.randperm(len(self.images), device=self.device)
        self.synchronize()
        start = time.perf_counter()
        for index in order.split(self.batch):
            x = self.images[index].to(torch.float32, memory_format=self.format).div_(255)
            self.adam.zero_grad(set_to_none=True)
            with self.autocast:
                logits = self.forward(x)
            loss = self.loss(logits.float().squeeze(1), self.labels[index])
            loss.backward()
            self.adam.step()
        self.synchronize()
        return time.perf_counter() - start, loss

    def synchronize(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def main():
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.precision != "f32"
    torch.manual_seed(options.seed)
    images, labels = load(options, device)

    layouts = ["channels_last", "contiguous"] if options.layout == "best" else [options.layout]
    trials = []
    for layout in layouts:
        trainer = Trainer(options, layout, images, labels)
        trainer.epoch()  # warm-up: compilation, algorithm search, first touch of memory
        trials.append((trainer.epoch()[0] if len(layouts) > 1 else 0, layout, trainer))
    _, layout, trainer = min(trials, key=lambda trial: trial[0])
    trials.clear()

    seconds = []
    for _ in range(options.epochs):
        elapsed, loss = trainer.epoch()
        seconds.append(elapsed)
        print(f"epoch: {elapsed:.3f} s, loss {loss.item():.4f}", file=sys.stderr)
    cuda = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({
        "peer": "torch" + (" compiled" if options.compile else ""),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "net": options.net, "device": torch.cuda.get_device_name(device) if cuda else "cpu", "precision": options.precision,
        "batch_size": options.batch_size, "image": images.shape[-1], "threads": torch.get_num_threads(), "layout": layout,
        "steps": options.epochs * -(-len(images) // options.batch_size),
        "images_per_second": len(images) / statistics.median(seconds), "seconds": sum(seconds),
        "peak_memory_bytes": peak, "final_loss": loss.item(),
    }, indent=1))


if __name__ == "__main__":
    main()
