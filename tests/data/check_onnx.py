#!/usr/bin/env python3
"""An ONNX model of ours scores in ONNX Runtime as its weights do in our `predict`.

    convert run/best.weights.h5 model.onnx; predict --net b6 --weights run/best.weights.h5 --data pcam/..._test_x.h5 --out scores.csv
    python check_onnx.py --model model.onnx --images pcam/..._test_x.h5 --scores scores.csv

Prints the largest difference of a score; exit code 7 where it is above --tolerance. Needs onnx, onnxruntime, h5py, numpy.
"""

import argparse
import csv
import sys

VERDICT_FAILED = 7


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", required=True, help='HDF5 file with dataset "x", uint8 N H W 3, as PCam has')
    parser.add_argument("--scores", required=True, help="id,score of these images, as predict writes them")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="largest difference of a score (default: 1e-5)")
    options = parser.parse_args()
    import h5py
    import numpy
    import onnx
    import onnxruntime

    onnx.checker.check_model(options.model, full_check=True)
    session = onnxruntime.InferenceSession(options.model, providers=["CPUExecutionProvider"])
    with h5py.File(options.images) as file:
        images = file["x"][:].astype("float32")
    scores = numpy.concatenate([session.run(["score"], {"images": images[i:i + 32]})[0] for i in range(0, len(images), 32)])
    if scores.shape != (len(images), 1):
        sys.exit(f"scores have the shape {scores.shape}")
    with open(options.scores) as file:
        ours = numpy.array([float(row["score"]) for row in csv.DictReader(file)])
    difference = numpy.abs(ours - scores[:, 0]).max()
    print(f"{len(ours)} scores from {ours.min():.6f} to {ours.max():.6f}, largest difference {difference:.3g}")
    if difference > options.tolerance:
        sys.exit(VERDICT_FAILED)


if __name__ == "__main__":
    main()
