#!/usr/bin/env python3
"""The study's training step in PyTorch, as fast as it goes there: one JSON document on stdout.

    python train_torch.py --net b6 --batch-size 32                           CPU, the faster of two memory layouts
    python train_torch.py --net b6 --device cuda --precision bf16 --compile  GPU, compiled, in CUDA graphs
    python train_torch.py --net b6 --device cuda --precision bf16            GPU, eager
    python train_torch.py --net resnet50 --mode transfer --data pcam/        real patches instead of noise (needs h5py)

Same work as `train`: Keras' layers, dropout and batch-norm constants, Adam 1e-3 with epsilon 1e-7, binary cross-entropy from
logits, a fresh permutation each epoch, uint8 images resident on the device, gathered and divided by 255 there.
images_per_second is the median over the epochs after a warm-up one; the clock stops at an epoch's end, nothing waits for the
device before. peak_memory_bytes is the process's largest resident set on a CPU; on a GPU, after the warm-up, which searches
through workspaces, the allocator's peak, or with recorded graphs what it cannot give back. held_memory_bytes is all that the
device lost to the process after its context; import_memory_bytes the resident set once all is imported.

On a GPU: channels_last, autocast with float32 master weights (bf16), TF32 products (tf32) or none (f32), cuDNN's benchmark, a
fused Adam. --compile compiles network and loss with Inductor; --graphs says who records CUDA graphs: `inductor` its forward and
backward passes, `step` this script all of a step from gather to Adam; `best` tries both and keeps the faster. Trials, of graphs
and of layouts, happen in processes of their own.

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
LAYOUTS = ["channels_last", "contiguous"]
GRAPHS = ["step", "inductor"]

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
                module.num_batches_tracked = None  # counted for nobody, a kernel each
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
    parser.add_argument("--layout", choices=["best", *LAYOUTS], default="best",
                        help="memory order; best: the faster in a trial on a CPU, channels_last on a GPU (default: best)")
    parser.add_argument("--compile", nargs="?", const="default", choices=["default", "max-autotune"],
                        help="torch.compile network and loss; max-autotune: search for minutes")
    parser.add_argument("--graphs", choices=["best", *GRAPHS, "off"],
                        help="GPU: who records CUDA graphs (default: best with --compile, off without)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        sys.exit(f"PyTorch {torch.__version__} sees no GPU: use --device cpu")
    if options.mode == "transfer" and options.net in NETS:
        parser.error(f"{options.net} has no published base: no --mode transfer")
    if options.graphs is None:
        options.graphs = "best" if options.compile and options.device != "cpu" else "off"
    if options.graphs != "off" and options.device == "cpu":
        parser.error("--graphs needs --device cuda")
    if options.graphs == "inductor" and not options.compile:
        parser.error("--graphs inductor needs --compile")
    if options.cache_features and options.mode != "transfer":
        parser.error("--cache-features needs --mode transfer")
    return options


def fastest(options, flag, choices):
    """Trials run in processes of their own, so that their memory is not counted in the run's peak. A choice may fail."""
    speed = {}
    for choice in choices:
        images = min(options.images, options.batch_size * (1 if options.device == "cpu" else 64))
        command = [sys.executable, __file__, *sys.argv[1:], flag, choice, "--images", str(images), "--epochs", "2"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode == 0:
            speed[choice] = json.loads(done.stdout)["images_per_second"]
            print(f"trial: {flag} {choice}, {speed[choice]:.1f} images/s", file=sys.stderr)
        else:
            print(f"trial: {flag} {choice} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
    if not speed:
        sys.exit(f"no {flag} works for {options.net}")
    return max(speed, key=speed.get)


def decide(options):
    """Every `best` replaced by what is."""
    if options.layout == "best":
        if options.cache_features:
            options.layout = "contiguous"  # features have no layout to speak of
        else:
            options.layout = fastest(options, "--layout", LAYOUTS) if options.device == "cpu" else "channels_last"
    if options.graphs == "best":
        options.graphs = fastest(options, "--graphs", GRAPHS if options.compile else ["step", "off"])


def load(options, device):
    """Pixels as N H W 3, labels as N 1."""
    if options.data:
        import h5py

        split = f"{options.data}/camelyonpatch_level_2_split_train_"
        with h5py.File(split + "x.h5") as x, h5py.File(split + "y.h5") as y:
            images = torch.from_numpy(x["x"][:options.images])
            labels = torch.from_numpy(y["y"][:options.images].reshape(-1, 1))
    else:
        images = torch.randint(0, 256, (options.images, options.image, options.image, 3), dtype=torch.uint8)
        labels = torch.randint(0, 2, (options.images, 1))
    return images.to(device), labels.float().to(device)


class Loss(nn.Module):
    """From a batch, pixels as N H W 3 or features, and its labels."""

    def __init__(self, net, dtype, memory_format):
        super().__init__()
        self.net, self.dtype, self.memory_format = net, dtype, memory_format

    def scaled(self, x):
        """Pixels are channels last already, and 0 to 255 are exact in bfloat16 too."""
        return x.permute(0, 3, 1, 2).to(self.dtype, memory_format=self.memory_format).div_(255) if x.dtype == torch.uint8 else x

    def forward(self, x, y):
        return nn.functional.binary_cross_entropy_with_logits(self.net(self.scaled(x)).float(), y)


# Who records graphs decides what Inductor does.
MODES = {
    "default": {"inductor": "reduce-overhead", "step": "default", "off": "default"},
    "max-autotune": {"inductor": "max-autotune", "step": "max-autotune-no-cudagraphs", "off": "max-autotune-no-cudagraphs"},
}


class Trainer:
    def __init__(self, options, images, labels):
        self.batch, self.images, self.labels = options.batch_size, images, labels
        self.device, self.graphs = images.device, options.graphs
        memory_format = torch.channels_last if options.layout == "channels_last" else torch.contiguous_format
        base, head, self.parameters = build(options.net, options.mode, images.shape[1])
        net = nn.Sequential(base, head).to(self.device, memory_format=memory_format).train()
        if options.mode == "transfer":
            base.eval()
        # A recorded step casts each weight where it is used: a cache of casts would outlive the recording.
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=options.precision == "bf16",
                                       cache_enabled=self.graphs != "step")
        narrow = torch.bfloat16 if options.precision == "bf16" and self.device.type == "cuda" else torch.float32
        self.loss = Loss(net, narrow, memory_format)
        if options.cache_features:
            with torch.no_grad(), self.autocast:
                self.images = torch.cat([base(self.loss.scaled(part)) for part in images.split(self.batch)])
            self.loss.net = head
        self.compiled = torch.compile(self.loss, mode=MODES[options.compile][self.graphs]) if options.compile else self.loss
        trained = [p for p in self.loss.parameters() if p.requires_grad]
        self.adam = torch.optim.Adam(trained, lr=1e-3, eps=1e-7, fused=True, capturable=self.graphs == "step")

        # A batch lies where the one before did, so that recorded graphs find it.
        self.index = torch.zeros(self.batch, dtype=torch.int64, device=self.device)
        self.x = self.images.new_empty(self.batch, *self.images.shape[1:])
        self.y = self.labels.new_empty(self.batch, 1)
        if self.graphs == "inductor":
            for tensor in (self.x, self.y):
                torch._dynamo.mark_static_address(tensor)
        self.recorded = None

    def learn(self, loss_of, x, y):
        self.adam.zero_grad(set_to_none=True)
        with self.autocast:
            loss = loss_of(x, y)
        loss.backward()
        self.adam.step()
        return loss.detach()

    def whole_step(self):
        torch.index_select(self.images, 0, self.index, out=self.x)
        torch.index_select(self.labels, 0, self.index, out=self.y)
        return self.learn(self.compiled, self.x, self.y)

    def record(self):
        """One CUDA graph of the whole step, after a few on a side stream that compile, search and allocate."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.whole_step()
        torch.cuda.current_stream().wait_stream(side)
        self.adam.zero_grad(set_to_none=True)
        self.recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.recorded):
            self.recorded_loss = self.whole_step()

    def step(self, index):
        if len(index) < self.batch:  # the last of an epoch: its shape is neither compiled nor recorded
            return self.learn(self.loss, self.images[index], self.labels[index])
        self.index.copy_(index)
        if self.graphs == "step":
            if self.recorded is None:
                self.record()
            self.recorded.replay()
            return self.recorded_loss
        if self.graphs == "inductor":
            torch.compiler.cudagraph_mark_step_begin()
        return self.whole_step()

    def epoch(self):
        """Seconds of one epoch and its last loss."""
        self.synchronize()
        start = time.perf_counter()
        for index in torch.randperm(len(self.images), device=self.device).split(self.batch):
            loss = self.step(index)
        self.synchronize()
        return time.perf_counter() - start, loss.item()

    def synchronize(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def resident_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory(device, graphs, free_at_start):
    if device.type == "cpu":
        return {"peak_memory_bytes": resident_bytes()}
    held = free_at_start - torch.cuda.mem_get_info(device)[0]
    peak, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    if graphs != "off":  # a recorded graph's memory counts as free to reuse, by itself alone
        torch.cuda.empty_cache()
        peak = torch.cuda.memory_reserved(device)
    return {"peak_memory_bytes": peak, "reserved_memory_bytes": reserved, "held_memory_bytes": held}


def main():
    options = parse()
    decide(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    device, free_at_start = torch.device(options.device), 0
    cuda = device.type == "cuda"
    if cuda:
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
        free_at_start = torch.cuda.mem_get_info(device)[0]
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.precision != "f32"
    torch.manual_seed(options.seed)
    libraries = {}
    if options.net in BASES:
        library = "timm" if options.net.startswith(("mobilenet", "efficientnet")) else "torchvision"
        libraries = {library: __import__(library).__version__}
    if cuda:
        libraries |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
    import_memory = resident_bytes()
    images, labels = load(options, device)
    trainer = Trainer(options, images, labels)
    trainer.epoch()  # warm-up: compilation, algorithm search, first touch of memory
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)

    seconds = []
    for _ in range(options.epochs):
        elapsed, loss = trainer.epoch()
        seconds.append(elapsed)
        print(f"epoch: {elapsed:.3f} s, loss {loss:.4f}", file=sys.stderr)
    print(json.dumps({
        "peer": "torch" + (" compiled" if options.compile else ""),
        "versions": {"python": platform.python_version(), "torch": torch.__version__} | libraries,
        "net": options.net, "mode": options.mode, "cached_features": options.cache_features,
        "device": torch.cuda.get_device_name(device) if cuda else "cpu", "precision": options.precision,
        "parameters": trainer.parameters,
        "batch_size": options.batch_size, "image": images.shape[1], "threads": torch.get_num_threads(),
        "layout": options.layout, "compile": options.compile, "graphs": options.graphs,
        "steps": options.epochs * -(-len(images) // options.batch_size),
        "images_per_second": len(images) / statistics.median(seconds), "seconds": sum(seconds),
        **memory(device, options.graphs, free_at_start),
        "import_memory_bytes": import_memory, "final_loss": loss,
    }, indent=1))


if __name__ == "__main__":
    main()
