"""How short an epoch of 96x96 patches could be: what must be computed, and what must be moved, at the rates a device has.

compute  3 x 2 x MAC - 2 x MAC of the first convolution, which needs no gradient of its images; at the rate of a large matrix
         product. Depthwise convolutions are left out: they move bytes. From `describe --json`.
bytes    activations and their gradients alone, each element as wide as the precision keeps it, at the rate of a copy. The ideal
         way to run a layer with A elements in and B out costs, for a convolution with batch-norm and activation, 3 A + 6 B:
         forward reads A, writes B; both backward passes read the gradient and the convolution's output to pass it through the
         batch-norm, one reads A, one writes A. Statistics come with the convolution, batch-norm and activation are applied
         where the tensor is next read, a concat costs nothing, the join of a residual one pass; a depthwise convolution's two
         gradients share one pass, and a dense block's backward pass touches each feature once.
"""

# Elements an image of that way, in millions.
ELEMENTS_AT_96 = {
    "b2": 3.1, "b6": 7.3, "inception_v3": 8.0, "vgg19": 19.1, "resnet50": 22.9, "mobilenet": 7.0,
    "densenet121": 19.6, "densenet169": 23.0, "densenet201": 28.6,
    "efficientnet_v2_b0": 8.1, "efficientnet_v2_b1": 10.9, "efficientnet_v2_b2": 11.7,
}
ELEMENT_BYTES = {"f32": 4, "tf32": 4, "bf16": 2}


def training_flop(rows):
    """Of an image, from the rows that `describe --json` lists."""
    macs = [row["macs"] for row in rows if row["macs"] > 0 and row["kind"] != "depthwise_conv2d"]
    return 6 * sum(macs) - 2 * macs[0]


def floor(net, precision, flop, roofs, images):
    """Seconds for so many images: of compute, of bytes, and the longer of the two."""
    compute = images * flop / roofs["flop_per_second"]
    moved = images * ELEMENTS_AT_96[net] * 1e6 * ELEMENT_BYTES[precision] / roofs["copy_bytes_per_second"]
    return {"compute_seconds": compute, "bytes_seconds": moved, "seconds": max(compute, moved)}
