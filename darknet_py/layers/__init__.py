"""The layers, from which `Network` is built: a file for each kind of section, which adds itself to KINDS on import."""

from darknet_py.layers import (
    activation,
    anchor_free,
    avgpool,
    batchnorm,
    connected,
    contrastive,
    conv_lstm,
    convolutional,
    cost,
    crnn,
    crop,
    deconvolutional,
    detection,
    dropout,
    empty,
    gaussian_yolo,
    gru,
    history,
    implicit,
    l2norm,
    local,
    logistic,
    lstm,
    maxpool,
    normalization,
    products,
    region,
    reorg,
    rnn,
    roi_head,
    roi_pool,
    roi_sample,
    route,
    rpn,
    shortcut,
    softmax,
    upsample,
    yolo,
)
from darknet_py.layers.head import Boxes, Candidates, Head
from darknet_py.layers.layer import KINDS, Layer, Place, Shape, Stored
from darknet_py.layers.net import NetOptions

__all__ = ["KINDS", "Boxes", "Candidates", "Head", "Layer", "NetOptions", "Place", "Shape", "Stored"]
