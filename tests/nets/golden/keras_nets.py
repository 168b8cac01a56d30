"""The study's twelve networks in Keras 3 [Bonnet2021]: its own two layer by layer as its scripts 01_CNN-2L.py and 02_CNN-6L.py
build them, the ten published ones from keras.applications with the study's head on them.

build(net, size) gives the model with a sigmoid at its end, as the study trains it; head="logits" leaves the sigmoid out, "imagenet"
is the published model with its 1000 classes. Names of layers that have none of their own are Keras' automatic ones, counted from
nothing, as in a file that a fresh session writes.
"""

import keras
from keras import applications, layers


def b2():
    return [
        layers.Conv2D(32, 5, padding="same"), layers.Activation("relu"), layers.MaxPooling2D(2),
        layers.Conv2D(64, 5, padding="same"), layers.Activation("relu"), layers.MaxPooling2D(2),
        layers.Flatten(), layers.Dense(256), layers.Activation("relu"),
    ]


def b6():
    def conv_bn_relu(filters):
        return [layers.Conv2D(filters, 3, use_bias=False), layers.BatchNormalization(), layers.Activation("relu")]

    def pool_drop():
        return [layers.MaxPooling2D(2), layers.Dropout(0.3)]

    return [
        layers.Conv2D(32, 3, activation="relu"), *conv_bn_relu(32), *pool_drop(),
        *conv_bn_relu(64), *conv_bn_relu(64), *pool_drop(),
        *conv_bn_relu(128), *conv_bn_relu(128), *pool_drop(),
        layers.Flatten(), layers.Dense(256, use_bias=False), layers.BatchNormalization(), layers.Activation("relu"),
        layers.Dropout(0.5),
    ]


OWN = {"b2": b2, "b6": b6}
PUBLISHED = {  # module of keras.applications, model
    "inception_v3": (applications.inception_v3, "InceptionV3"), "vgg19": (applications.vgg19, "VGG19"),
    "resnet50": (applications.resnet50, "ResNet50"), "mobilenet": (applications.mobilenet, "MobileNet"),
    "densenet121": (applications.densenet, "DenseNet121"), "densenet169": (applications.densenet, "DenseNet169"),
    "densenet201": (applications.densenet, "DenseNet201"),
    "efficientnet_v2_b0": (applications.efficientnet_v2, "EfficientNetV2B0"),
    "efficientnet_v2_b1": (applications.efficientnet_v2, "EfficientNetV2B1"),
    "efficientnet_v2_b2": (applications.efficientnet_v2, "EfficientNetV2B2"),
}
NETS = [*OWN, *PUBLISHED]


def smallest_size(net):
    """Sizes below it Keras refuses; the study's are 96 and 50."""
    return 75 if net == "inception_v3" else 50


def published(net, **options):
    module, model = PUBLISHED[net]
    return getattr(module, model)(weights=None, **options)


def preprocess(net, images):
    """Floating-point images of 0 .. 255 as the network expects them: x / 255 for the study's own."""
    return images / 255 if net in OWN else PUBLISHED[net][0].preprocess_input(images.copy())


def build(net, size=None, head="sigmoid", dropout=True):
    """A Keras model of `net` for size x size RGB images. dropout=False keeps the layers and sets their rates to 0."""
    keras.utils.clear_session()
    if head == "imagenet":
        return published(net)
    activation = None if head == "logits" else head
    if net in OWN:
        model = keras.Sequential([layers.Input((size, size, 3)), *OWN[net](), layers.Dense(1, activation=activation)], name=net)
    else:
        base = published(net, include_top=False, input_shape=(size, size, 3))
        x = layers.Dense(256, activation="relu")(layers.GlobalAveragePooling2D()(base.output))
        model = keras.Model(base.input, layers.Dense(1, activation=activation)(x), name=net)
    for layer in model.layers:
        if isinstance(layer, layers.Dropout) and not dropout:
            layer.rate = 0.0
    return model


def variables(model):
    """(layer, variable) in the order of Keras' weight files: layer by layer, those that are trained first."""
    return [(layer, variable) for layer in model.layers
            for variable in layer.trainable_variables + layer.non_trainable_variables if "seed" not in variable.name]
