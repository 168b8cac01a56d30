#!/usr/bin/env python3
"""Weights go round for every network: files of Keras score here as in Keras, and files of ours, made of them by `convert`, load in
Keras to the same weights and scores. Keras writes its `.weights.h5` and its legacy `.h5`; so do we.

    python check_weights.py --programs build/tools

Prints the largest difference of a score for each file; exit code 7 where one is above --tolerance or a weight is not the same.
Needs Keras 3, one of its backends, h5py, numpy.
"""

import argparse
import csv
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

VERDICT_FAILED = 7


def parse():
    import keras_nets

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=pathlib.Path, required=True, help="folder of predict and convert")
    parser.add_argument("--net", choices=keras_nets.NETS, action="append", help="default: all")
    parser.add_argument("--size", type=int, default=96, help="side of the images in pixels (default: 96)")
    parser.add_argument("--images", type=int, default=16, help="how many (default: 16)")
    parser.add_argument("--device", default="cpu", help="of predict (default: cpu)")
    # A float32 logit of these networks is good to 1e-5 of the largest one, and a score moves by a quarter of its logit.
    parser.add_argument("--tolerance", type=float, default=1e-5, help="largest difference of a score (default: 1e-5)")
    return parser.parse_args()


def weights_of(model):
    import keras
    import keras_nets

    return [keras.ops.convert_to_numpy(variable.value) for _, variable in keras_nets.variables(model)]


def check(net, options, folder):
    """Yields (what, largest difference of a score, number of weight tensors that differ)."""
    import h5py
    import keras_nets
    import make_golden
    import numpy
    import rules

    pixels = rules.images(1, options.images, options.size)
    with h5py.File(folder / "images.h5", "w") as file:
        file["x"] = pixels
    x = keras_nets.preprocess(net, pixels.astype("float32"))

    def scores_of(model):
        return model.predict(x, verbose=0).reshape(-1)

    def ours(weights):
        out = folder / "scores.csv"
        run = [options.programs / "predict", "--net", net, "--weights", weights, "--data", folder / "images.h5", "--preprocess",
               "native", "--device", options.device, "--out", out, "--quiet"]
        subprocess.run(run, check=True)
        with open(out) as file:
            return numpy.array([float(row["score"]) for row in csv.DictReader(file)])

    # Logits between -1 and 1: a score of 0 or 1 would hide any difference.
    largest = abs(make_golden.build(net, options.size).predict(x, verbose=0)).max()
    model = make_golden.build(net, options.size, head="sigmoid")
    for variable in model.layers[-1].variables:
        variable.assign(variable.value / largest)
    expected, truth = scores_of(model), weights_of(model)
    model.save_weights(folder / "keras.weights.h5")
    model.save(folder / "keras.h5")
    for name in ("keras.weights.h5", "keras.h5"):
        yield f"Keras' {name.removeprefix('keras')} here", abs(ours(folder / name) - expected).max(), 0

    for name in ("ours.weights.h5", "ours.h5"):
        subprocess.run([options.programs / "convert", folder / "keras.weights.h5", folder / name, "--net", net, "--size",
                        str(options.size)], check=True, stdout=subprocess.DEVNULL)
        fresh = keras_nets.build(net, options.size)
        fresh.load_weights(folder / name)
        changed = sum(not numpy.array_equal(a, b) for a, b in zip(weights_of(fresh), truth, strict=True))
        yield f"our {name.removeprefix('ours')} in Keras", abs(scores_of(fresh) - expected).max(), changed


def main():
    options = parse()
    import keras_nets

    failed = False
    for net in options.net or keras_nets.NETS:
        with tempfile.TemporaryDirectory() as folder:
            for what, difference, changed in check(net, options, pathlib.Path(folder)):
                failed = failed or difference > options.tolerance or changed > 0
                print(f"{net}: {what}: scores differ by at most {difference:.1e}, weight tensors that differ: {changed}", flush=True)
    if failed:
        sys.exit(VERDICT_FAILED)


if __name__ == "__main__":
    main()
