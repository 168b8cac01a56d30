"""The study's own networks in Keras 3, layer by layer as its scripts 01_CNN-2L.py and 02_CNN-6L.py build them [Bonnet2021].

build(net, size) gives the model with a sigmoid at its end, as the study trains it; head="logits" leaves the sigmoid out.
Names of layers are Keras' automatic ones, counted from nothing, as in a file that a fresh session writes.
"""

import keras
from keras import layers


def b2(head, rate):
    return [
        layers.Conv2D(32, 5, padding="same"), layers.Activation("relu"), layers.MaxPooling2D(2),
        layers.Conv2D(64, 5, padding="same"), layers.Activation("relu"), layers.MaxPooling2D(2),
        layers.Flatten(), layers.Dense(256), layers.Activation("relu"),
        layers.Dense(1, activation=head),
    ]


def b6(head, rate):
    def conv_bn_relu(filters):
        return [layers.Conv2D(filters, 3, use_bias=False), layers.BatchNormalization(), layers.Activation("relu")]

    def pool_drop():
        return [layers.MaxPooling2D(2), layers.Dropout(rate(0.3))]

    return [
        layers.Conv2D(32, 3, activation="relu"), *conv_bn_relu(32), *pool_drop(),
        *conv_bn_relu(64), *conv_bn_relu(64), *pool_drop(),
        *conv_bn_relu(128), *conv_bn_relu(128), *pool_drop(),
        layers.Flatten(), layers.Dense(256, use_bias=False), layers.BatchNormalization(), layers.Activation("relu"),
        layers.Dropout(rate(0.5)),
        layers.Dense(1, activation=head),
    ]


NETS = {"b2": b2, "b6": b6}


def build(net, size, head="sigmoid", dropout=True):
    """A Keras model of `net` for size x size RGB images. dropout=False keeps the layers and sets their rates to 0."""
    keras.utils.clear_session()
    rate = (lambda r: r) if dropout else (lambda r: 0.0)
    activation = None if head == "logits" else head
    return keras.Sequential([layers.Input((size, size, 3)), *NETS[net](activation, rate)], name=net)
