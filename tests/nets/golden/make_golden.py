#!/usr/bin/env python3
"""What Keras says of B2 and B6: outputs, gradients, losses of the first Adam steps, moving statistics.

Writes one small JSON file per network and size beside itself; tests/nets/golden_test.cpp holds the backends to them. Weights and
images are not stored but computed by rules.py on both sides. Needs numpy, Keras 3 and one of its backends:

    pip install keras numpy jax && KERAS_BACKEND=jax python make_golden.py
    KERAS_BACKEND=torch python make_golden.py --dtype float32 --compare     # how far another Keras is from the files
"""

import argparse
import json
import os
import pathlib
import sys

# Batch, number of the first image and Adam's rate of each file: problems on which float32 can be judged at 1e-4.
# Images: a preactivation that float32 rounds to the other side of 0, or two equal neighbours under a max pooling, change a gradient
# of a bias by up to 1e-2. These batches were picked, of three to twelve tried each, because two float32 programs that round
# differently keep within 1e-5 of float64 on them.
# Rates: Adam's first steps divide a gradient by its own size, so noise in a small one moves its weight by a whole step. At the
# study's 1e-3 Keras in float32 and in float64 part by 19% in twenty steps of b6.
CASES = {("b2", 50): (16, 1000, 1e-5), ("b6", 50): (16, 1000, 2e-6), ("b2", 96): (16, 1000, 1e-5), ("b6", 96): (4, 14000, 2e-6)}

HERE = pathlib.Path(__file__).resolve().parent


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=["b2", "b6"], action="append", help="default: both")
    parser.add_argument("--size", type=int, choices=[50, 96], action="append", help="pixels; default: both")
    parser.add_argument("--steps", type=int, default=20, help="Adam steps, each on new images (default: 20)")
    parser.add_argument("--dtype", choices=["float64", "float32"], default="float64", help="Keras' floatx (default: float64)")
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="folder of the files (default: this script's)")
    parser.add_argument("--compare", action="store_true", help="write nothing; print relative differences to the files in --out")
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


def golden(net, size, options):
    import keras
    import keras_nets
    import rules

    to_numpy = keras.ops.convert_to_numpy
    count, first_image, learning_rate = CASES[net, size]
    model = keras_nets.build(net, size, head="logits", dropout=False)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon, layer.momentum = as_float32(layer.epsilon), as_float32(layer.momentum)
    parameters = [(layer, variable) for layer in model.layers
                  for variable in layer.trainable_variables + layer.non_trainable_variables]
    for p, (_, variable) in enumerate(parameters):
        variable.assign(rules.weight(p, variable.name, variable.shape))

    def batch(step):
        first = first_image + step * count
        x = rules.images(first, count, size).astype(options.dtype) / 255
        y = rules.labels(first, count).astype(options.dtype)[:, None]
        return keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)

    x, y = batch(0)
    logits = to_numpy(model(x, training=False)).reshape(-1)
    loss_of = keras.losses.BinaryCrossentropy(from_logits=True)
    evaluation_loss = float(to_numpy(loss_of(y, model(x, training=False))))

    defaults = keras.optimizers.Adam()
    optimizer = keras.optimizers.Adam(as_float32(learning_rate), as_float32(defaults.beta_1), as_float32(defaults.beta_2),
                                      as_float32(defaults.epsilon))
    run = differentiate(model, loss_of)
    losses = []
    for step in range(options.steps):
        loss, gradients = run(*batch(step))
        losses.append(float(to_numpy(loss)))
        if step == 0:
            first_gradients = {id(v): to_numpy(g) for v, g in zip(model.trainable_variables, gradients)}
        optimizer.apply(gradients, model.trainable_variables)

    rows = []
    for p, (layer, variable) in enumerate(parameters):
        row = {"name": f"{layer.name}/{variable.name}", "shape": list(variable.shape)}
        if id(variable) in first_gradients:
            row["gradient"] = rules.summary(p, first_gradients[id(variable)])
        row["after"] = rules.summary(p, to_numpy(variable.value))
        rows.append(row)
    return {
        "net": net, "size": size, "batch": count, "first_image": first_image, "learning_rate": learning_rate,
        "made_by": f"Keras {keras.__version__}, {keras.backend.backend()}, {options.dtype}",
        "evaluate": {"logits": [float(z) for z in logits], "loss": evaluation_loss},
        "train": {"losses": losses},
        "parameters": rows,
    }


def differences(found, expected):
    """The largest relative difference of each kind; products count relative to their tensor's norm."""
    def of_summaries(key):
        worst = (0.0, "")
        for a, b in zip(found["parameters"], expected["parameters"]):
            if key not in b:
                continue
            pairs = [(a[key]["norm"], b[key]["norm"]), *zip(a[key]["products"], b[key]["products"])]
            worst = max(worst, *((abs(u - v) / b[key]["norm"], b["name"]) for u, v in pairs))
        return worst

    logits, truth = found["evaluate"]["logits"], expected["evaluate"]["logits"]
    losses = [abs(a - b) / b for a, b in zip(found["train"]["losses"], expected["train"]["losses"])]
    return {
        "logits": max(abs(a - b) for a, b in zip(logits, truth)) / max(map(abs, truth)),
        "first loss": losses[0], "losses": (max(losses), losses.index(max(losses))),
        "gradients": of_summaries("gradient"), "after the steps": of_summaries("after"),
    }


def main():
    options = parse()
    if options.dtype == "float64":
        os.environ["JAX_ENABLE_X64"] = "1"
    sys.path.insert(0, str(HERE))
    import keras

    keras.config.set_floatx(options.dtype)
    for net in options.net or ["b2", "b6"]:
        for size in options.size or [50, 96]:
            made = golden(net, size, options)
            path = options.out / f"{net}_{size}.json"
            if options.compare:
                print(path.name, made["made_by"], differences(made, json.loads(path.read_text())))
            else:
                path.write_text(json.dumps(made, indent=1) + "\n")
                print(path, path.stat().st_size, "bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
