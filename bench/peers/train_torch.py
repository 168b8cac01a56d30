#!/usr/bin/env python3
"""The study's training step in PyTorch, as fast as it goes there: one JSON document on stdout.

    python train_torch.py --net b6 --batch-size 32                          CPU, the faster of two memory layouts
    python train_torch.py --net b6 --device cuda --precision bf16 --compile GPU: autocast, fused Adam, images resident
    python train_torch.py --net resnet50 --mode transfer --data pcam/       real patches instead of noise (needs h5py)

Same work as `train`: Keras' layers, dropout and batch-norm constants, Adam 1e-3 with epsilon 1e-7, binary cross-entropy from
logits, a fresh permutation each epoch, uint8 images resident on the device and divided by 255 there. images_per_second is the
median over the epochs after a warm-up one; peak_memory_bytes is the process's largest resident set on a CPU, the allocator's
peak on a GPU; import_memory_bytes is the resident set once all is imported. The choice of a layout happens in processes of its
own.

vgg19, resnet50, inception_v3 and densenet* are torchvision's, mobilenet and efficientnet_v2_* timm's, each with the study's
head. Brought to Keras' work: ResNet50 (v1.5 here) strides in a block's first convolution and has biases; InceptionV3's gammas
are not trained, and there is no auxiliary head. `parameters` are then Keras' own, and it is an error if they are not. What
stays different: InceptionV3's gammas are multiplied by; strided convolutions of MobileNet pad both sides, Keras' the bottom and
right; EfficientNetV2 subtracts no mean from its images and spaces its drop rates by its own count of blocks. --mode transfer
runs the base in eval mode: its stochastic depth is off.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
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
    def conv_bn_relu(inputs, filters):
        return [nn.Conv2d(inputs, filters, 3, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]

    def pool_drop():
        return [nn.MaxPool2d(2), nn.Dropout(0.3)]

    last = (((side - 4) // 2 - 4) // 2 - 4) // 2
    return nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), *conv_bn_relu(32, 32), *pool_drop(),
        *conv_bn_relu(32, 64), *conv_bn_relu(64, 64), *pool_drop(),
        *conv_bn_relu(64, 128), *conv_bn_relu(128, 128), *pool_drop(),
        nn.Flatten(), nn.Linear(128 * last**2, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(),
        nn.Dropout(0.5), nn.Linear(256, 1))


# The published bases: images to pooled features, and how many of these.

def vgg19():
    import torchvision

    return nn.Sequential(torchvision.models.vgg19().features, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 512


def resnet50():
    import torchvision

    net = torchvision.models.resnet50()
    net.fc = nn.Identity()
    for stage in (net.layer2, net.layer3, net.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    return net, 2048


def inception_v3():
    import torchvision

    net = torchvision.models.inception_v3(aux_logits=False, init_weights=False)
    net.dropout, net.fc = nn.Identity(), nn.Identity()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.requires_grad_(False)
    return net, 2048


def densenet(depth):
    import torchvision

    net = getattr(torchvision.models, f"densenet{depth}")()
    features, net.classifier = net.classifier.in_features, nn.Identity()
    return net, features


def from_timm(name, drop_path_rate):
    import timm

    net = timm.create_model(name, num_classes=0, drop_path_rate=drop_path_rate)
    return net, net.num_features


BASES = {
    "inception_v3": inception_v3,
    "vgg19": vgg19,
    "resnet50": resnet50,
    "mobilenet": lambda: from_timm("mobilenetv1_100", 0.0),
    **{f"densenet{depth}": lambda depth=depth: densenet(depth) for depth in (121, 169, 201)},
    **{f"efficientnet_v2_b{i}": lambda i=i: from_timm(f"tf_efficientnetv2_b{i}", 0.2) for i in range(3)},
}
NETS = {"b2": b2, "b6": b6}

# Keras': epsilon, and the share of the new value in the moving averages. All else as in b6.
BATCH_NORM = {name: (1.001e-5, 0.01) for name in ("resnet50", "densenet121", "densenet169", "densenet201")} | {
    f"efficientnet_v2_b{i}": (1e-3, 0.1) for i in range(3)}

# Trainable parameters of Keras' network with this head, and of the head alone, where there is a base.
PARAMETERS = {
    "inception_v3": (22293153, 524801), "vgg19": (20155969, 131585), "resnet50": (24059393, 524801),
    "mobilenet": (3469633, 262657),
    "densenet121": (7216513, 262657), "densenet169": (12910977, 426497), "densenet201": (18584961, 492033),
    "efficientnet_v2_b0": (6186897, 328193), "efficientnet_v2_b1": (7188245, 328193), "efficientnet_v2_b2": (9048047, 360961),
}


def initialize(module):
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def build(name, mode, side):
    """The base, or nothing where there is none to freeze, and what comes after it."""
    if name in NETS:
        base, head = nn.Identity(), NETS[name](side)
    else:
        base, features = BASES[name]()
        head = nn.Sequential(nn.Linear(features, 256), nn.ReLU(), nn.Linear(256, 1))
    for part in (base, head):
        part.apply(initialize)
        for module in part.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.eps, module.momentum = BATCH_NORM.get(name, (1e-3, 0.01))
    if mode == "transfer":
        base.requires_grad_(False)
    trainable = sum(p.numel() for p in [*base.parameters(), *head.parameters()] if p.requires_grad)
    if name in PARAMETERS and trainable != (expected := PARAMETERS[name][mode == "transfer"]):
        sys.exit(f"{name}, {mode}: {trainable} trainable parameters, Keras' has {expected}")
    return base, head, trainable


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=[*NETS, *BASES], default="b2")
    parser.add_argument("--mode", choices=["full", "transfer"], default="full", help="transfer: a frozen base (default: full)")
    parser.add_argument("--cache-features", action="store_true",
                        help="transfer: run the base once over all images, before the clock starts")
    parser.add_argument("--batch-size", type=int, default=32, help="images a step (default: 32)")
    parser.add_argument("--image", type=int, default=96, help="pixels a side of random images (default: 96)")
    parser.add_argument("--images", type=int, default=640, help="images an epoch (default: 640)")
    parser.add_argument("--epochs", type=int, default=5, help="timed epochs, after one of warm-up (default: 5)")
    parser.add_argument("--data", help="folder with PCam's HDF5 files; its first --images training patches are used")
    parser.add_argument("--device", default="cpu", help="cpu or cuda[:N] (default: cpu)")
    parser.add_argument("--precision", choices=["f32", "tf32", "bf16"], default="f32", help="bf16: autocast (default: f32)")
    parser.add_argument("--layout", choices=["best", "channels_last", "contiguous"], default="best",
                        help="memory order; best: time two steps of each and keep the faster (default: best)")
    parser.add_argument("--compile", action="store_true", help="torch.compile the network")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.mode == "transfer" and options.net in NETS:
        parser.error(f"{options.net} has no published base: no --mode transfer")
    if options.cache_features and options.mode != "transfer":
        parser.error("--cache-features needs --mode transfer")
    return options


def faster_layout(options):
    """Trials run in processes of their own, so that their memory is not counted in the run's peak."""
    if options.cache_features:
        return "contiguous"  # features have no layout to speak of
    speed = {}
    for layout in ("channels_last", "contiguous"):
        short = ["--layout", layout, "--images", str(min(options.images, options.batch_size)), "--epochs", "2"]
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:], *short], stdout=subprocess.PIPE, text=True, check=True)
        speed[layout] = json.loads(done.stdout)["images_per_second"]
    return max(speed, key=speed.get)


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
        self.batch, self.images, self.labels = options.batch_size, images, labels
        self.device = images.device
        self.format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        self.images = images.contiguous(memory_format=self.format)
        base, head, self.parameters = build(options.net, options.mode, images.shape[-1])
        net = nn.Sequential(base, head).to(self.device, memory_format=self.format).train()
        if options.mode == "transfer":
            base.eval()
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=options.precision == "bf16")
        if options.cache_features:
            with torch.no_grad(), self.autocast:
                self.images = torch.cat([base(self.scaled(part)) for part in self.images.split(self.batch)])
            net = head
        self.forward = torch.compile(net) if options.compile else net
        trained = [p for p in net.parameters() if p.requires_grad]
        self.adam = torch.optim.Adam(trained, lr=1e-3, eps=1e-7, fused=True)
        self.loss = nn.BCEWithLogitsLoss()

    def scaled(self, images):
        return images.to(torch.float32, memory_format=self.format).div_(255) if images.dtype == torch.uint8 else images

    def epoch(self):
        """Seconds of one epoch and its last loss."""
        order = torch.randperm(len(self.images), device=self.device)
        self.synchronize()
        start = time.perf_counter()
        for index in order.split(self.batch):
            self.adam.zero_grad(set_to_none=True)
            with self.autocast:
                logits = self.forward(self.scaled(self.images[index]))
            loss = self.loss(logits.float().squeeze(1), self.labels[index])
            loss.backward()
            self.adam.step()
        self.synchronize()
        return time.perf_counter() - start, loss

    def synchronize(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def resident_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    options = parse()
    layout = faster_layout(options) if options.layout == "best" else options.layout
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    if cuda:
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.precision != "f32"
    torch.manual_seed(options.seed)
    libraries = {}
    if options.net in BASES:
        library = "timm" if options.net.startswith(("mobilenet", "efficientnet")) else "torchvision"
        libraries = {library: __import__(library).__version__}
    import_memory = resident_bytes()
    images, labels = load(options, device)
    trainer = Trainer(options, layout, images, labels)
    trainer.epoch()  # warm-up: compilation, algorithm search, first touch of memory

    seconds = []
    for _ in range(options.epochs):
        elapsed, loss = trainer.epoch()
        seconds.append(elapsed)
        print(f"epoch: {elapsed:.3f} s, loss {loss.item():.4f}", file=sys.stderr)
    print(json.dumps({
        "peer": "torch" + (" compiled" if options.compile else ""),
        "versions": {"python": platform.python_version(), "torch": torch.__version__} | libraries,
        "net": options.net, "mode": options.mode, "cached_features": options.cache_features,
        "device": torch.cuda.get_device_name(device) if cuda else "cpu", "precision": options.precision,
        "parameters": trainer.parameters,
        "batch_size": options.batch_size, "image": images.shape[-1], "threads": torch.get_num_threads(), "layout": layout,
        "steps": options.epochs * -(-len(images) // options.batch_size),
        "images_per_second": len(images) / statistics.median(seconds), "seconds": sum(seconds),
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if cuda else resident_bytes(),
        "import_memory_bytes": import_memory, "final_loss": loss.item(),
    }, indent=1))


if __name__ == "__main__":
    main()
