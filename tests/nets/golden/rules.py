"""Weights, images, labels and projections that numpy and the test in C++ compute alike, so that no file has to hold them.

All come from Philox4x32-10 [Salmon2011] as in engine/random.h: unit(seed, stream, i) is the upper 24 bits of word i of the
stream, over 2^24, which a float32 holds exactly. Parameter p is the p-th in Keras' order: layer by layer, trainable ones first.
"""

import numpy as np

WEIGHTS, PROJECTIONS, TINTS, BLOBS, NOISE = range(1, 6)  # seeds


def words(seed, stream, count):
    """The first `count` words of (seed, stream), uint32: word i is lane i % 4 of counter i // 4."""
    low = np.uint64(0xFFFFFFFF)
    thirty_two = np.uint64(32)
    index = np.arange((count + 3) // 4, dtype=np.uint64)
    c0, c1 = index & low, index >> thirty_two
    c2, c3 = np.full_like(index, stream & 0xFFFFFFFF), np.full_like(index, stream >> 32)
    key0, key1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1 = (product1 >> thirty_two) ^ c1 ^ np.uint64(key0), product1 & low
        c2, c3 = (product0 >> thirty_two) ^ c3 ^ np.uint64(key1), product0 & low
        key0, key1 = (key0 + 0x9E3779B9) & 0xFFFFFFFF, (key1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).reshape(-1)[:count].astype(np.uint32)


def unit(seed, stream, count):
    return (words(seed, stream, count) >> np.uint32(8)).astype(np.float64) / 2**24


# Where a parameter's values lie; a kernel's interval is that of its gain. Batch-norms leave most of what they normalise above 0: see
# make_golden.py.
INTERVALS = {"bias": (-0.1, 0.1), "gamma": (0.5, 1.5), "beta": (1.2, 3.7), "moving_mean": (-0.5, 0.5), "moving_variance": (0.7, 1.5)}


def weight(p, name, shape, gain):
    """Parameter p, float32, in Keras' order and shape. A kernel's variance is gain^2 over the cells that one output sums."""
    if name == "kernel":
        depthwise = len(shape) == 4 and shape[-1] == 1
        cells = int(np.prod(shape[:2] if depthwise else shape[:-1]))
        high = gain * np.sqrt(3 / cells)
        low = -high
    else:
        low, high = INTERVALS[name]
    values = low + (high - low) * unit(WEIGHTS, p, int(np.prod(shape)))
    return values.astype(np.float32).reshape(shape)


def tint(number):
    """A colour for each image: 0 .. 127 in red, green and blue."""
    return words(TINTS, number, 3) % 128


def image(number, size):
    """uint8 H W 3: the image's tint, blobs of 8 x 8 pixels and noise on it."""
    side = (size + 7) // 8
    blobs = (words(BLOBS, number, side * side * 3) % 64).reshape(side, side, 3)
    blobs = blobs.repeat(8, axis=0).repeat(8, axis=1)[:size, :size]
    noise = (words(NOISE, number, size * size * 3) % 64).reshape(size, size, 3)
    return (tint(number) + blobs + noise).astype(np.uint8)


def images(first, count, size):
    return np.stack([image(first + i, size) for i in range(count)])


def labels(first, count):
    """uint8: 1 where an image's tint is more red than blue."""
    return np.array([tint(first + i)[0] > tint(first + i)[2] for i in range(count)], np.uint8)


def summary(p, values):
    """Norm of a tensor of parameter p, and its products with two fixed vectors of U(-1, 1): a sign or an order shows."""
    flat = np.asarray(values, np.float64).reshape(-1)
    products = [float(flat @ (2 * unit(PROJECTIONS, 2 * p + k, flat.size) - 1)) for k in range(2)]
    return [float(f"{number:.9g}") for number in (np.linalg.norm(flat), *products)]
