#!/usr/bin/env python3
"""What Keras says of every layer of the ten published networks: writes layers.json beside itself, for tests/nets/nets_test.cpp.

A layer is [name, class in snake case, activation, output at 96, output at the smaller size, weights], in the order of model.layers;
`layers` are those of the model with the study's head, `top` those that the published model has behind its base, at its own size.

    pip install keras numpy jax && KERAS_BACKEND=jax python make_layers.py
"""

import json
import pathlib

import keras
import keras_nets

HERE = pathlib.Path(__file__).resolve().parent


def kind(layer):
    return keras.src.utils.naming.to_snake_case(type(layer).__name__)


def activation(layer):
    if isinstance(layer, keras.layers.ReLU):
        return f"relu{layer.max_value:g}"
    name = layer.activation.__name__ if hasattr(layer, "activation") else "linear"
    return "" if name == "linear" else name


def output(layer):
    """H W C; a vector is 1 1 C."""
    shape = list(layer.output.shape[1:])
    return [1] * (3 - len(shape)) + shape


def described(*models):
    rows = []
    for layers in zip(*(model.layers for model in models), strict=True):
        layer = layers[0]
        weights = [[v.name, list(v.shape)] for v in layer.trainable_variables + layer.non_trainable_variables
                   if "seed" not in v.name]
        rows.append([layer.name, kind(layer), activation(layer), *map(output, layers), weights])
    return rows


def main():
    nets = {}
    for net in keras_nets.PUBLISHED:
        small = keras_nets.smallest_size(net)
        whole = keras_nets.build(net, 96)
        published = keras_nets.build(net, head="imagenet")
        base = len(whole.layers) - 3
        nets[net] = {"small": small, "layers": described(whole, keras_nets.build(net, small)),
                     "size": published.input_shape[1], "top": described(published)[base:]}

    compact = {"separators": (",", ":")}
    lines = [f'"made_by":"Keras {keras.__version__}"']
    for net, content in nets.items():
        parts = [f'"small":{content["small"]}', f'"size":{content["size"]}']
        parts += ['"%s":[\n%s\n]' % (key, ",\n".join(json.dumps(row, **compact) for row in content[key])) for key in ("layers", "top")]
        lines.append(f'"{net}":{{' + ",".join(parts) + "}")
    path = HERE / "layers.json"
    path.write_text("{" + ",\n".join(lines) + "}\n")
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
