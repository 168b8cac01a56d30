#!/usr/bin/env python3
"""Weights go round: a `.weights.h5` of ours scores in Keras as in our `predict`, and one of Keras' in ours.

    train --net b6 --data pcam --out run ...; predict --net b6 --weights run/best.weights.h5 --data pcam/..._test_x.h5 --out scores.csv
    python check_weights.py --net b6 --weights run/best.weights.h5 --images pcam/..._test_x.h5 --scores scores.csv

    python check_weights.py --net b6 --make keras.weights.h5 --images pcam/..._test_x.h5 --write expected.csv
    predict --net b6 --weights keras.weights.h5 --data pcam/..._test_x.h5 --out scores.csv        then: compare with the first form

Prints the largest difference of a score; exit code 7 where it is above --tolerance. Needs Keras 3, one of its backends, h5py, numpy.
"""

import argparse
import csv
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

VERDICT_FAILED = 7


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=["b2", "b6"], required=True)
    parser.add_argument("--images", required=True, help='HDF5 file with dataset "x", uint8 N H W 3, as PCam has')
    parser.add_argument("--weights", help="a .weights.h5 to load")
    parser.add_argument("--make", help="a .weights.h5 to write: weights by rules.py, moving statistics too")
    parser.add_argument("--scores", help="id,score of these images, as predict writes them: to compare")
    parser.add_argument("--write", help="write Keras' scores there in the same form")
    # A float32 logit of these networks is good to 1e-5 of the largest one, and a score moves by a quarter of its logit.
    parser.add_argument("--tolerance", type=float, default=1e-5, help="largest difference of a score (default: 1e-5)")
    options = parser.parse_args()
    if bool(options.weights) == bool(options.make):
        parser.error("either --weights or --make")
    return options


def main():
    options = parse()
    import h5py
    import keras_nets
    import rules

    with h5py.File(options.images) as file:
        images = file["x"][:]
    model = keras_nets.build(options.net, images.shape[1])
    if options.make:
        variables = [v for layer in model.layers for v in layer.trainable_variables + layer.non_trainable_variables
                     if "seed" not in v.name]
        for p, variable in enumerate(variables):
            variable.assign(rules.weight(p, variable.name, variable.shape))
        model.save_weights(options.make)
    else:
        model.load_weights(options.weights)
    scores = model.predict(images.astype("float32") / 255, batch_size=32, verbose=0).reshape(-1)

    if options.write:
        with open(options.write, "w") as file:
            file.write("id,score\n")
            file.writelines(f"{i},{score:.9g}\n" for i, score in enumerate(scores))
    print(f"{len(scores)} scores of Keras from {scores.min():.6f} to {scores.max():.6f}")
    if not options.scores:
        return
    with open(options.scores) as file:
        ours = {int(row["id"]): float(row["score"]) for row in csv.DictReader(file)}
    if sorted(ours) != list(range(len(scores))):
        sys.exit(f"{options.scores} has {len(ours)} scores, not one for each of {len(scores)} images")
    difference, worst = max((abs(ours[i] - float(score)), i) for i, score in enumerate(scores))
    print(f"largest difference {difference:.3g}, at image {worst}: {ours[worst]:.9g} against Keras' {scores[worst]:.9g}")
    if difference > options.tolerance:
        sys.exit(VERDICT_FAILED)


if __name__ == "__main__":
    main()
