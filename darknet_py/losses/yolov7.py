"""YOLOv7's loss of [yolo] heads (https://arxiv.org/abs/2207.02696): YOLOv5's with weights, a CIoU and an assigner of
its own (`assigner=ratio`: the loss without OTA)."""

from __future__ import annotations

from functools import partial

from darknet_py.losses.loss import Loss
from darknet_py.losses.overlaps import ciou
from darknet_py.losses.predictions import refusal
from darknet_py.losses.yolov5 import EPS, READS, System, anchor_loss, start

V7 = System(0.05, 0.7, 0.3, "ota", partial(ciou, eps=EPS, angle_eps=EPS))
START = partial(start, spare=0.99)
YOLOV7 = Loss(partial(anchor_loss, system=V7), READS, V7.assigner, refusal=refusal, start=START)
