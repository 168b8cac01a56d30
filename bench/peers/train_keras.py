#!/usr/bin/env python3
"""The study's training step in Keras 3: one JSON document on stdout. KERAS_BACKEND chooses tensorflow, jax or torch.

    KERAS_BACKEND=jax python train_keras.py --net b6 --batch-size 32
    KERAS_BACKEND=tensorflow python train_keras.py --net resnet50 --mode transfer --data pcam/      (--data needs h5py)

Same work as `train`: model.fit on uint8 images divided by 255 in the model, Adam 1e-3, binary cross-entropy from logits. B2 and
B6 are those of tests/nets/golden/keras_nets.py, the rest keras.applications without top and with the study's head, in one flat
model. A frozen base runs its batch-norms in inference mode and still drops, as Keras has it. images_per_second is the median
over the epochs after a warm-up one; peak_memory_bytes is the process's largest resident set, import_memory_bytes what it was
once all is imported.
"""

import argparse
import json
import math
import os
import pathlib
import platform
import resource
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "nets" / "golden"))

BASES = {
    "inception_v3": "InceptionV3", "vgg19": "VGG19", "resnet50": "ResNet50", "mobilenet": "MobileNet",
    **{f"densenet{depth}": f"DenseNet{depth}" for depth in (121, 169, 201)},
    **{f"efficientnet_v2_b{i}": f"EfficientNetV2B{i}" for i in range(3)},
}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=["b2", "b6", *BASES], default="b2")
    parser.add_argument("--mode", choices=["full", "transfer"], default="full", help="transfer: a frozen base (default: full)")
    parser.add_argument("--batch-size", type=int, default=32, help="images a step (default: 32)")
    parser.add_argument("--image", type=int, default=96, help="pixels a side of random images (default: 96)")
    parser.add_argument("--images", type=int, default=640, help="images an epoch (default: 640)")
    parser.add_argument("--epochs", type=int, default=5, help="timed epochs, after one of warm-up (default: 5)")
    parser.add_argument("--data", help="folder with PCam's HDF5 files; its first --images training patches are used")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="default: cpu")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="bf16: mixed_bfloat16 (default: f32)")
    parser.add_argument("--jit", choices=["auto", "on", "off"], default="auto",
                        help="compile the step: XLA or torch.compile; auto: as Keras decides (default: auto)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: the backend's)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.mode == "transfer" and options.net not in BASES:
        parser.error(f"{options.net} has no published base: no --mode transfer")
    return options


def confine(options):
    """What has to be set before the backend is imported."""
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ["JAX_PLATFORMS"] = "cpu"
    if options.threads:
        for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
            os.environ[name] = str(options.threads)
        if hasattr(os, "sched_setaffinity"):  # XLA's pool takes as many threads as it may use processors
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:options.threads])


def load(options):
    import numpy

    if options.data:
        import h5py

        split = f"{options.data}/camelyonpatch_level_2_split_train_"
        with h5py.File(split + "x.h5") as x, h5py.File(split + "y.h5") as y:
            return x["x"][:options.images], y["y"][:options.images].reshape(-1, 1).astype("float32")
    random = numpy.random.default_rng(options.seed)
    images = random.integers(0, 256, (options.images, options.image, options.image, 3), dtype=numpy.uint8)
    return images, random.integers(0, 2, (options.images, 1)).astype("float32")


def build(options, side):
    """One flat model from images of 0 to 255 to logits."""
    import keras
    from keras import layers

    if options.net not in BASES:
        import keras_nets

        net = keras_nets.build(options.net, side, head="logits")
        return keras.Sequential([layers.Input((side, side, 3)), layers.Rescaling(1 / 255), *net.layers])
    images = layers.Input((side, side, 3))
    base = getattr(keras.applications, BASES[options.net])(
        include_top=False, weights=None, input_tensor=layers.Rescaling(1 / 255)(images))
    base.trainable = options.mode == "full"
    features = layers.GlobalAveragePooling2D()(base.output)
    return keras.Model(images, layers.Dense(1)(layers.Dense(256, activation="relu")(features)))


def resident_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    options = parse()
    confine(options)
    import keras

    class Clock(keras.callbacks.Callback):
        seconds = []

        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds.append(time.perf_counter() - self.start)
            print(f"epoch: {self.seconds[-1]:.3f} s, loss {logs['loss']:.4f}", file=sys.stderr)

    import_memory = resident_bytes()
    keras.utils.set_random_seed(options.seed)
    if options.precision == "bf16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    images, labels = load(options)
    model = build(options, images.shape[1])
    jit = {"auto": "auto", "on": True, "off": False}[options.jit]
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=jit)
    clock = Clock()
    history = model.fit(images, labels, batch_size=options.batch_size, epochs=options.epochs + 1, verbose=0, callbacks=[clock])
    timed = clock.seconds[1:]
    backend = keras.backend.backend()
    print(json.dumps({
        "peer": f"keras {backend}" + {"auto": "", "on": " compiled", "off": " uncompiled"}[options.jit],
        "versions": {"python": platform.python_version(), "keras": keras.__version__,
                     backend: __import__(backend).__version__},
        "net": options.net, "mode": options.mode, "device": options.device, "precision": options.precision,
        "parameters": sum(math.prod(variable.shape) for variable in model.trainable_variables),
        "batch_size": options.batch_size, "image": images.shape[1], "threads": options.threads or len(os.sched_getaffinity(0)),
        "steps": options.epochs * -(-len(images) // options.batch_size),
        "images_per_second": len(images) / statistics.median(timed), "seconds": sum(timed),
        "peak_memory_bytes": resident_bytes(), "import_memory_bytes": import_memory,
        "final_loss": history.history["loss"][-1],
    }, indent=1))


if __name__ == "__main__":
    main()
