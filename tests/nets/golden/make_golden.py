#!/usr/bin/env python3
"""What Keras says of the twelve networks: outputs, gradients, moving statistics, losses of the first Adam steps.

Writes one small JSON file per network and size beside itself; tests/nets/golden_test.cpp holds the backends to them. Weights and
images are not stored but computed by rules.py on both sides. Needs numpy, Keras 3 and one of its backends; on TensorFlow and torch
float64 is float64 throughout (on JAX Keras' batch-norm computes in float32), and TensorFlow's depthwise convolution is the fast one.

    pip install keras numpy tensorflow-cpu && KERAS_BACKEND=tensorflow python make_golden.py
    KERAS_BACKEND=torch python make_golden.py --dtype float32 --compare     # how far another Keras is from the files
"""

import argparse
import json
import os
import pathlib
import sys

# Problems on which float32 can be judged.
# A preactivation that float32 rounds to the other side of relu's kink turns the gradients of all layers before it by some 1 /
# sqrt(cells of its layer). Hence rules.py keeps most of what a batch-norm yields above 0 (with gammas around 1 and betas around 0
# Keras in float32 and in float64 part by 6e-3 in MobileNet's gradients), and of a dozen batches each --pick took the one that has
# fewest cells near a kink in its small layers.
# Adam's first steps divide a gradient by its own size, so noise in a small one moves its weight by a whole step: the rate is small,
# yet without these steps the losses would be off by a tenth and more.
LEARNING_RATE = 2e-6
STEPS = 5
FIRST_IMAGES = {  # 1000 for EfficientNet, which has no kinks
    ("b2", 50): 6000, ("b2", 96): 10000,
    ("b6", 50): 3000, ("b6", 96): 1000,
    ("inception_v3", 75): 2000, ("inception_v3", 96): 11000,
    ("vgg19", 50): 12000, ("vgg19", 96): 5000,
    ("resnet50", 50): 2000, ("resnet50", 96): 5000,
    ("mobilenet", 50): 6000, ("mobilenet", 96): 1000,
    ("densenet121", 50): 7000, ("densenet121", 96): 10000,
    ("densenet169", 50): 1000, ("densenet169", 96): 9000,
    ("densenet201", 50): 9000, ("densenet201", 96): 6000,
}


def batch_size(net, size):
    """Batch-norm needs more than a few numbers a channel; some networks end on maps of 1 x 1."""
    return 8 if net == "inception_v3" or size == 50 and net.startswith(("mobilenet", "densenet")) else 4


HERE = pathlib.Path(__file__).resolve().parent


def parse():
    import keras_nets

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=keras_nets.NETS, action="append", help="default: all")
    parser.add_argument("--size", choices=["96", "small"], action="append", help="pixels; default: both")
    parser.add_argument("--dtype", choices=["float64", "float32"], default="float64", help="Keras' floatx (default: float64)")
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="folder of the files (default: this script's)")
    parser.add_argument("--compare", action="store_true", help="write nothing; print relative differences to the files in --out")
    parser.add_argument("--pick", type=int, metavar="N", help="write nothing; try N batches and print the first image of the best")
    return parser.parse_args()


def differentiate(model, loss_of):
    """A function (x, y) -> (loss, gradients) in training mode; it moves the moving statistics. Each backend has its own way."""
    import keras

    variables = model.trainable_variables
    if keras.backend.backend() == "jax":
        import jax

        def objective(trainable, others, x, y):
            logits, others = model.stateless_call(trainable, others, x, training=True)
            return loss_of(y, logits), others

        compiled = jax.jit(jax.value_and_grad(objective, has_aux=True))

        def run(x, y):
            others = model.non_trainable_variables
            (loss, moved), gradients = compiled([v.value for v in variables], [v.value for v in others], x, y)
            for variable, value in zip(others, moved):
                variable.assign(value)
            return loss, gradients

    elif keras.backend.backend() == "torch":
        def run(x, y):
            model.zero_grad()
            loss = loss_of(y, model(x, training=True))
            loss.backward()
            return loss.detach(), [v.value.grad.detach().clone() for v in variables]

    else:
        import tensorflow as tf

        def run(x, y):
            with tf.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True))
            return loss, tape.gradient(loss, [v.value for v in variables])

    return run


def as_float32(constant):
    """A constant as every float32 program sees it, so that its rounding is no difference."""
    import numpy

    return float(numpy.float32(constant))


def gains(net):
    """Of the first kernel and of all others: 1, which keeps the size of what a kernel reads; He's sqrt(2) where no batch-norm keeps
    relus from halving it. VGG19's and ResNet50's images are not scaled to 1: their first kernel does that."""
    gain = 2**0.5 if net in ("b2", "vgg19") else 1.0
    return (gain / 64 if net in ("vgg19", "resnet50") else gain), gain


def build(net, size, head="logits"):
    """The model with the weights of rules.py."""
    import keras
    import keras_nets
    import rules

    model = keras_nets.build(net, size, head, dropout=False)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon, layer.momentum = as_float32(layer.epsilon), as_float32(layer.momentum)
    first_gain, gain = gains(net)
    for p, (_, variable) in enumerate(keras_nets.variables(model)):
        variable.assign(rules.weight(p, variable.name, variable.shape, first_gain if p == 0 else gain))
    return model


def batch(net, size, first, dtype):
    import keras
    import keras_nets
    import rules

    count = batch_size(net, size)
    x = keras_nets.preprocess(net, rules.images(first, count, size).astype(dtype))
    y = rules.labels(first, count).astype(dtype)[:, None]
    return keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)


def pick(net, size, candidates, dtype):
    """The first image of the batch on which rounding turns gradients least, and by how much: the root of the sum over layers of the
    share of living cells that are nearer to a kink than float32 is sure of."""
    import keras
    import numpy

    unsure = 5e-6  # of the layer's standard deviation
    model = build(net, size)
    seen = []

    def watched(function):
        def call(x):
            seen.append(keras.ops.convert_to_numpy(x))
            return function(x)
        return call

    for layer in model.layers:
        if isinstance(layer, keras.layers.ReLU):
            layer.call = watched(layer.call)
        elif getattr(getattr(layer, "activation", None), "__name__", "") == "relu":
            layer.activation = watched(layer.activation)
    best = (numpy.inf, None)
    for candidate in range(1, candidates + 1):
        seen.clear()
        model(batch(net, size, 1000 * candidate, dtype)[0], training=True)
        turned = sum(numpy.sum(numpy.abs(x) < unsure * x.std()) / numpy.sum(x > 0) for x in seen)
        best = min(best, (float(turned) ** 0.5, 1000 * candidate))
    return best


def golden(net, size, options):
    import keras
    import keras_nets
    import rules

    to_numpy = keras.ops.convert_to_numpy
    model = build(net, size)
    parameters = keras_nets.variables(model)
    first = FIRST_IMAGES.get((net, size), 1000)
    count = batch_size(net, size)

    x, y = batch(net, size, first, options.dtype)
    logits = model(x, training=False)
    loss_of = keras.losses.BinaryCrossentropy(from_logits=True)
    evaluation_loss = float(to_numpy(loss_of(y, logits)))

    defaults = keras.optimizers.Adam()
    optimizer = keras.optimizers.Adam(as_float32(LEARNING_RATE), as_float32(defaults.beta_1), as_float32(defaults.beta_2),
                                      as_float32(defaults.epsilon))
    index = {id(variable): p for p, (_, variable) in enumerate(parameters)}
    rows = [{"name": f"{layer.name}/{variable.name}", "shape": list(variable.shape)} for layer, variable in parameters]
    run = differentiate(model, loss_of)
    losses = []
    for step in range(STEPS):
        loss, gradients = run(*batch(net, size, first + step * count, options.dtype))
        losses.append(float(to_numpy(loss)))
        if step == 0:
            for variable, gradient in zip(model.trainable_variables, gradients):
                p = index[id(variable)]
                rows[p]["gradient"] = rules.summary(p, to_numpy(gradient))
            for p, (_, variable) in enumerate(parameters):
                if "gradient" not in rows[p]:
                    rows[p]["moved"] = rules.summary(p, to_numpy(variable.value))
        optimizer.apply(gradients, model.trainable_variables)
    return {
        "net": net, "size": size, "made_by": f"Keras {keras.__version__}, {keras.backend.backend()}, {options.dtype}",
        "batch": count, "first_image": first, "learning_rate": LEARNING_RATE, "gains": gains(net),
        "evaluate": {"logits": [float(f"{z:.12g}") for z in to_numpy(logits).reshape(-1)], "loss": evaluation_loss},
        "losses": losses, "parameters": rows,
    }


def differences(found, expected):
    """The largest relative difference of each kind; products count relative to their tensor's norm. A gradient that is nothing in
    float64 (a bias before a batch-norm) counts relative to the largest."""
    largest = max(row["gradient"][0] for row in expected["parameters"] if "gradient" in row)

    def of_summaries(key, count):
        worst = (0.0, "")
        for a, b in zip(found["parameters"], expected["parameters"]):
            if key in b:
                scale = largest if key == "gradient" and b[key][0] < 1e-12 * largest else b[key][0]
                worst = max(worst, (max(abs(u - v) for u, v in zip(a[key][:count], b[key])) / scale, b["name"]))
        return worst

    logits, truth = found["evaluate"]["logits"], expected["evaluate"]["logits"]
    return {
        "logits": max(abs(a - b) for a, b in zip(logits, truth)) / max(map(abs, truth)),
        "losses": max(abs(a - b) / b for a, b in zip(found["losses"], expected["losses"])),
        "norms of gradients": of_summaries("gradient", 1), "their products too": of_summaries("gradient", 3),
        "moving statistics": of_summaries("moved", 3),
    }


def write(path, content):
    """Compact, but a parameter a line."""
    compact = {"separators": (",", ":")}
    rows = ",\n".join(json.dumps(row, **compact) for row in content["parameters"])
    head = json.dumps({key: value for key, value in content.items() if key != "parameters"}, **compact)
    path.write_text(head[:-1] + ',"parameters":[\n' + rows + "\n]}\n")


def main():
    sys.path.insert(0, str(HERE))
    options = parse()
    if options.dtype == "float64":
        os.environ["JAX_ENABLE_X64"] = "1"
    import keras
    import keras_nets

    keras.config.set_floatx(options.dtype)
    for net in options.net or keras_nets.NETS:
        for which in options.size or ["small", "96"]:
            size = 96 if which == "96" else keras_nets.smallest_size(net)
            if options.pick:
                print(net, size, *pick(net, size, options.pick, options.dtype), flush=True)
                continue
            made = golden(net, size, options)
            path = options.out / f"{net}_{size}.json"
            if options.compare:
                print(path.name, made["made_by"], differences(made, json.loads(path.read_text())), flush=True)
            else:
                write(path, made)
                print(path, path.stat().st_size, "bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
