"""Options have the use that they declare: networks are built and trained while their options note who reads them.

An option of the forward pass, of loading or of training must be read; one without a use, or of a part of training that
is not built, must not. Every option is written in one of the cfgs below, as what is read may depend on its value.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from augmenting import NET as SQUARE
from augmenting import needs as box_needs

import darknet_py.network
from darknet_py import train
from darknet_py.cfg import parse_cfg
from darknet_py.data.augment.dice import Dice
from darknet_py.data.augment.lists import OF_DARKNET, READS, recipe_for
from darknet_py.data.augment.steps import LoadedImage
from darknet_py.data.augment.yolos import READS as READ_BY_YOLOS
from darknet_py.data.shapes import write_dataset
from darknet_py.data.truths import make_truths
from darknet_py.detector import Detector
from darknet_py.layers import KINDS, NetOptions
from darknet_py.layers.layer import LayerOptions
from darknet_py.layers.needs import BoxNeeds, ClassNeeds
from darknet_py.losses import LOSSES
from darknet_py.losses.assign import READS as ASSIGNER_READS
from darknet_py.measuring.evaluation import RULES, detect_images
from darknet_py.network import Network
from darknet_py.options import Meaning, cfg_name, meaning_of, read_options
from darknet_py.training.step import Trainer
from darknet_py.weights import load_weights

READ = ("forward", "load", "training")
COMMON = "every layer"  # the options that all layers have

# Cfgs, a section in each line. One without a [net] gets NET, one without a loss gets TAIL. A network with the [net] of
# IMAGES is trained by the command, on image files; detection heads are.
NET = "[net] batch=4 subdivisions=2 width=16 height=16 channels=4 max_batches=10"
PIXEL = NET.replace("16", "1")
TAIL = "[connected] output=3 activation=linear\n[softmax]"
IMAGES = "[net] batch=4 subdivisions=2 width=64 height=64 channels=3 max_batches=2"
STEM = "[convolutional] filters=8 size=3 stride=4 pad=1 activation=leaky"
CLASSIFIER = "[maxpool] size=4\n[convolutional] filters=6 size=1 activation=linear\n[avgpool]\n[softmax]"
YOLO = "[yolo] classes=6 num=2 anchors=10,10,20,20 jitter=.1 max=20"
DETECTOR = f"{STEM}\n[convolutional] filters=22 size=1 activation=linear\n{YOLO}"
SCHEDULE = f"{IMAGES} learning_rate=.002 momentum=.8 decay=.001 burn_in=2 power=2"
CONVOLUTION = "filters=4 size=3 stride=1 pad=1 padding=1"
YOLO_HEAD = (
    "classes=6 num=3 mask=0,2 anchors=10,10,20,20,30,30 scale_x_y=1.1 beta_nms=.7 max=20 max_delta=5 "
    "counters_per_class=1,2,3,4,5,6 label_smooth_eps=.1 objectness_smooth=1 iou_normalizer=.07 obj_normalizer=.9 "
    "cls_normalizer=.8 delta_normalizer=2 iou_thresh_kind=giou jitter=.1 resize=1.2 ignore_thresh=.6 "
    "truth_thresh=.9 iou_thresh=.3 random=1 map=classes.map nms_kind=diounms"
)
TRACKING = "embedding_layer=1 track_history_size=4 sim_thresh=.7 dets_for_track=2 dets_for_show=2 track_ciou_norm=.1"
LOGITS = f"{IMAGES}\n{STEM}\n[convolutional] filters=22 activation=linear\n[yolo] {YOLO_HEAD} loss={{loss}}"
POINTS = (
    f"{IMAGES}\n{STEM}\n[convolutional] filters=26 activation=linear\n[anchor_free] classes=6 reg_max=4 max=20 "
    "jitter=.1 resize=1.2 random=1 nms_kind=diounms beta_nms=.7 {own}\n[convolutional] filters=20 activation=linear\n"
    "[anchor_free] classes=6 aux_of=-2 anchors=10,10,20,20 {own}"
).replace("{own}", "loss={loss} iou_loss=siou box_weight=2 class_weight=3 dfl_weight=4 atss_epochs=1")
SCORED = (
    f"{IMAGES}\n{STEM}\n[convolutional] filters=11 activation=linear\n[anchor_free] classes=6 coords=xywh objectness=1 "
    "loss={loss} assigner=simota_0.3 iou_loss=giou box_weight=2 objectness_weight=3 class_weight=4"
)
TWO_STAGE = [
    f"{IMAGES}\n[convolutional] filters=8 size=16 stride=16 activation=relu\n[convolutional] filters={filters} "
    f"activation=linear\n[rpn] sizes=16,32 ratios=1 stride=16 {convention} pre_nms=40 post_nms=5 train_pre_nms=30 "
    "train_post_nms=20 nms=.6 min_size=2 thresh=.1 samples=20 positives=.4 truth_thresh=.6 ignore_thresh=.2 clobber=1\n"
    "[roi_sample] samples=16 positives=.3 truth_thresh=.4 ignore_thresh=.35 background_thresh=.01\n"
    f"[{pooling} from=0 size=3 stride=16\n[connected] output=35 activation=linear\n"
    "[roi_head] from=3 classes=6 delta_scales=5,5,2,2 nms_kind=diounms beta_nms=.7 max=20 jitter=.1 resize=1.2 random=1"
    for filters, convention, pooling in (
        (10, "border=200 positive_weight=.5", "roi_align] sampling=1 aligned=1"),
        (12, "convention=classical", "roi_pool]"),
    )
]
ALIGNED = (
    f"{IMAGES}\n{STEM}\n[convolutional] filters=26 activation=linear\n[anchor_free] classes=6 reg_max=4 loss={{loss}} "
    "assigner=task_aligned_8.4 iou_loss=giou box_weight=2 class_weight=3 dfl_weight=4"
)
BALANCED = (
    "[yolo] classes=6 num=2 anchors=10,10,20,20 jitter=.1 max=20 new_coords=1 logistic=1 loss={loss} assigner=ota "
    "anchor_t=3 objectness_balance=2 autobalance=1 sort_obj_iou=1 focal_gamma=1.5 objectness_positive_weight=2 "
    "class_positive_weight=3 label_smooth_eps=.1 box_weight=2 objectness_weight=.5 class_weight=3"
)
AIDED = (
    f"{IMAGES}\n{STEM}\n[convolutional] filters=22 activation=linear\n{BALANCED}\n[route] layers=0\n"
    f"[convolutional] filters=22 activation=linear\n{BALANCED} aux_of=-3"
)
LOSS_CASES = {"yolox": SCORED, "yolov8": ALIGNED, "yolov6": POINTS}  # the losses that LOGITS does not fit

CASES: dict[str, list[str]] = {
    COMMON: [
        "[convolutional] batch_normalize=1 filters=4 learning_rate=.5 clip=.1 dontload=1 dontloadscales=1 "
        "dontsave=1 burnin_update=1 key=stem",
        "[convolutional] filters=4\n[connected] output=3 dont_update=1 onlyforward=1 stopbackward=2 "
        "train_only_bn=1\n[cost] smooth=.1",
    ],
    "implicit_add": ["[implicit_add] filters=1 std=.1"],
    "implicit_mul": ["[implicit_mul] filters=1 std=.1"],
    "net": [
        "[net] inputs=12 batch=4 max_batches=10",
        f"{SCHEDULE} policy=step step=2 scale=.5 show_receptive_field=1 ema_alpha=.99 try_fix_nan=1 "
        f"clip=.5\n{DETECTOR}",
        f"{SCHEDULE} policy=exp gamma=.9 adam=1 B1=.8 B2=.99 eps=.001\n{DETECTOR}",
        f"{SCHEDULE} policy=sgdr sgdr_cycle=1 sgdr_mult=3 learning_rate_min=.0001\n{DETECTOR}",
        f"{SCHEDULE} policy=steps steps=1 scales=.5 seq_scales=2 track=1 augment_speed=3 "
        f"sequential_subdivisions=1\n{DETECTOR}",
        f"{IMAGES} learning_rate=.01 learning_rate_min=.001 optimizer=sgd nesterov=1 clip_norm=10 policy=cosine "
        f"policy_delay=1 epochs=2 close_mosaic=1 mosaic=1 burn_in_epochs=.5 burn_in_bias_rate=.1 burn_in_momentum=.7 "
        f"nominal_batch=8 accumulate_modulo=1 ema_alpha=.9 ema_ramp=10 bn_momentum=.03\n{DETECTOR}",
        f"{IMAGES} time_steps=2 letter_box=1 flip=0 saturation=1.5 exposure=1.5 hue=.1 blur=1 "
        f"gaussian_noise=10\n{DETECTOR}",
        f"{IMAGES} mosaic=1 mosaic_bound=1 cutmix=1 mixup=1\n{DETECTOR}",
        f"{IMAGES} mixup=1 mixup_beta=1.5\n{DETECTOR}",
        f"{IMAGES} bn_eps=.001 image_fit=yolox channel_order=bgr input_max=255 input_mean=3 "
        f"input_deviation=2 objectness_thresh=.1 class_thresh=.1 thresh=.2 nms=.5 valid_thresh=.01 "
        f"valid_nms=.65 best_class=2 agnostic=1 max_nms=1000 max_det=100\n{DETECTOR}",
        f"{IMAGES} augmentation=yolov7 mosaic=1 zoom=.1,2 shear=2 perspective=.001 translate=.2 flip_down=.5 "
        f"mosaic_probability=.9 mixup_probability=.5 copy_paste_probability=.5 paste_in_probability=.5\n{DETECTOR}",
        f"{SCHEDULE} optimizer=sgd nesterov=1 clip_norm=5 epochs=2 close_mosaic=1 burn_in_epochs=.5 "
        f"burn_in_bias_rate=.1 burn_in_momentum=.5 policy=linear nominal_batch=8 accumulate_modulo=1 "
        f"ema_alpha=.9 ema_ramp=10 bn_momentum=.03\n{DETECTOR}",
        f"{IMAGES} optimizer=adamw policy=cosine policy_delay=1 epochs=2\n{DETECTOR}",
        f"{IMAGES} dynamic_minibatch=1 resize_step=16\n{DETECTOR} random=1",
        f"{IMAGES} badlabels_rejection_percentage=1 num_sigmas_reject_badlabels=3 equidistant_point=1\n{DETECTOR}",
        f"{IMAGES} angle=7 aspect=1.2 max_crop=80 min_crop=60 label_smooth_eps=.1\n{STEM}\n{CLASSIFIER}",
        f"{IMAGES} max_ratio=1.5 min_ratio=1 center=1 random=1 unsupervised=1 mixup=2\n{STEM}\n{CLASSIFIER}",
        f"{IMAGES} contrastive=1 contrastive_jit_flip=1 contrastive_color=1\n{STEM}\n{CLASSIFIER}",
        f"{IMAGES} attention=1 adversarial_lr=.1 weights_reject_freq=2 loss_scale=128 notruth=1 truth=5 "
        f"max_chart_loss=5 use_cuda_graph=1 optimized_memory=1 workspace_size_limit_MB=100\n{DETECTOR}",
    ],
    "activation": ["[activation] activation=mish"],
    "anchor_free": [
        POINTS.format(loss="yolov6"),
        SCORED.format(loss="yolox"),
        ALIGNED.format(loss="yolov8"),
    ],
    "convolutional": [
        "[convolutional] filters=4 size=3 pad=1 dilation=2 batch_normalize=1 activation=leaky cbn=1 flipped=1 "
        "grad_centr=1 sway=1 angle=20 reverse=1 dot=.1 coordconv=1 stream=1 wait_stream=1 assisted_excitation=1",
        *(f"[convolutional] filters=4 {turn}=1" for turn in ("rotate", "stretch", "stretch_sway")),
        "[convolutional] filters=4 size=3 stride=2 stride_x=2 stride_y=1 padding=2 groups=2 antialiasing=1",
        "[convolutional] filters=4 xnor=1 bin_output=1\n[convolutional] filters=4 xnor=1",
        "[convolutional] filters=4 binary=1\n[convolutional] filters=4 share_index=0",
    ],
    "connected": ["[connected] output=5 activation=leaky batch_normalize=1"],
    "contrastive": [
        "[convolutional] filters=8\n[contrastive] classes=5 temperature=.5 cls_normalizer=.5 max_delta=.1",
        f"{IMAGES} contrastive=1\n{DETECTOR}\n[route] layers=0\n[convolutional] filters=8\n[contrastive] "
        "yolo_layer=2 temperature=.5 contrastive_neg_max=2",
    ],
    "conv_lstm": [
        f"[conv_lstm] output=4 {CONVOLUTION} groups=2 batch_normalize=1 activation=leaky peephole=1 time_normalizer=2",
        "[conv_lstm] output=4 size=1 bottleneck=1 shortcut=1 lstm_activation=leaky state_constrain=8",
        "[conv_lstm] output=4 size=5 dilation=2 pad=1 xnor=1",
        f"{PIXEL}\n[conv_lstm] output=4 size=1 stride=2",
    ],
    "cost": ["[connected] output=3\n[cost] type=smooth scale=2 ratio=.5 noobj=.5 thresh=.1"],
    "crnn": [
        "[crnn] output=4 hidden=5 size=5 pad=1 dilation=2 batch_normalize=1 activation=leaky shortcut=1 xnor=1",
        "[crnn] output_filters=4 hidden_filters=6 size=3 padding=1 groups=2",
        f"{PIXEL}\n[crnn] output=4 size=1 stride=2",
    ],
    "crop": ["[crop] crop_height=12 crop_width=10 noadjust=1 flip=1 angle=5 saturation=1.5 exposure=1.5 shift=.1"],
    "deconvolutional": [
        "[deconvolutional] filters=3 size=3 stride=2 pad=1 activation=leaky batch_normalize=1",
        "[deconvolutional] padding=1",
    ],
    "detection": [
        f"{IMAGES}\n{STEM}\n[connected] output={4 * 4 * (6 + 2 * 5)} activation=linear\n[detection] classes=6 "
        "coords=4 num=2 side=4 softmax=1 sqrt=1 rescore=1 max=20 coord_scale=5 forced=1 object_scale=2 "
        "noobject_scale=.5 class_scale=2 jitter=.1 resize=1.2 random=1 reorg=1",
    ],
    "dropout": [
        "[dropout] probability=.5 dropblock=1 dropblock_size_rel=.2",
        "[dropout] dropblock=1 dropblock_size_abs=3",
    ],
    "Gaussian_yolo": [
        f"{IMAGES}\n{STEM}\n[convolutional] filters=30 activation=linear\n[Gaussian_yolo] {YOLO_HEAD} "
        f"iou_loss={loss} uc_normalizer=.5 yolo_point=left_top"
        for loss in ("mse", "ciou")
    ],
    "gru": ["[gru] output=3 batch_normalize=1 tanh=1"],
    "history": ["[history] history_size=2"],
    "implicit": ["[implicit] mean=1 std=.1 filters=4 atoms=2"],
    "local": ["[local] filters=2 size=3 stride=2 pad=1 activation=leaky"],
    "local_avgpool": ["[local_avgpool] size=3 stride_x=2 stride_y=1 padding=1", "[local_avgpool] stride=2"],
    "lstm": ["[lstm] output=3 batch_normalize=1"],
    "maxpool": [
        "[maxpool] size=3 stride_x=2 stride_y=1 padding=1 antialiasing=1 maxpool_zero_nonmax=1",
        "[maxpool] maxpool_depth=1 out_channels=2 stride=2",
    ],
    "normalization": ["[normalization] alpha=.001 beta=.5 kappa=2 size=3"],
    "region": [
        f"{IMAGES}\n{STEM}\n[convolutional] filters=22 activation=linear\n[region] classes=6 num=2 anchors=1,1,2,2 "
        f"{extra}"
        for extra in (
            "softmax=1 classfix=-1 max=20 log=1 sqrt=1 absolute=1 focal_loss=1 jitter=.1 resize=1.2 rescore=1 "
            "thresh=.6 random=1 coord_scale=2 object_scale=5 noobject_scale=.5 mask_scale=2 class_scale=2 "
            "bias_match=1",
            "tree=classes.tree map=classes.map",
        )
    ],
    **dict.fromkeys(("rpn", "roi_sample", "roi_align", "roi_pool", "roi_head"), TWO_STAGE),
    "reorg": ["[reorg] stride=2 reverse=1", "[reorg] flatten=1", "[reorg] extra=3"],
    "reorg3d": ["[convolutional] filters=16\n[reorg3d] stride=2 reverse=1", "[reorg3d] flatten=1", "[reorg3d] extra=3"],
    "rnn": ["[rnn] output=3 hidden=4 activation=leaky batch_normalize=1 logistic=1 shortcut=1"],
    "route": ["[empty]\n[route] layers=-1 groups=2 group_id=1 stream=1 wait_stream=1"],
    "sam": ["[empty]\n[empty]\n[sam] from=-2 activation=logistic"],
    "scale_channels": ["[empty]\n[convolutional] filters=1\n[scale_channels] from=-2 scale_wh=1 activation=logistic"],
    "shortcut": [
        "[empty]\n[empty]\n[shortcut] from=-2 activation=leaky weights_type=per_channel weights_normalization=softmax",
        "[empty]\n[maxpool] stride=2\n[shortcut] from=-2 alpha=2 beta=3",
    ],
    "softmax": [
        "[connected] output=4\n[softmax] groups=2 temperature=2 noloss=1\n[cost]",
        "[convolutional] filters=6\n[avgpool]\n[softmax] tree=classes.tree",
        "[convolutional] filters=2\n[softmax] spatial=1",
    ],
    "upsample": ["[upsample] stride=3 scale=2"],
    "yolo": [
        f"{IMAGES}\n{STEM}\n[convolutional] filters=22 activation=logistic\n[yolo] {YOLO_HEAD} iou_loss={loss} "
        f"new_coords=1 focal_loss=1 show_details=0 {TRACKING}"
        for loss in ("mse", "ciou")
    ]
    + [
        LOGITS.format(loss="giou")
        + " assigner=grid min_pos_iou=.1 background_thresh=.05 box_weight=2 objectness_weight=.5 class_weight=3"
    ]
    + [AIDED.format(loss="yolov7")],
}


def kinds() -> dict[str, type]:
    """Every kind of section → its options."""
    return {COMMON: LayerOptions, "net": NetOptions} | {kind.kind: kind.Options for kind in KINDS.values()}


def own_fields(kind: str) -> list[dataclasses.Field[Any]]:
    """The options of a kind, less those that all layers have."""
    common = set() if kind == COMMON else {field.name for field in dataclasses.fields(LayerOptions)}
    return [field for field in dataclasses.fields(kinds()[kind]) if kind == "net" or field.name not in common]


def varies(meaning: Meaning) -> bool:
    """Whether another value than the default may be written."""
    return meaning.use != "refused" and (meaning.minimum is None or meaning.minimum != meaning.maximum)


def computes(frame: FrameType | None) -> bool:
    """Whether the package does something with an option that it reads here: it does not copy, list or check it."""
    if frame is None or not frame.f_globals.get("__name__", "").startswith("darknet_py"):
        return False
    while frame is not None and (module := frame.f_globals.get("__name__", "")).startswith("darknet_py"):
        if frame.f_code.co_name in ("describe", "_check_rotations") or module == "darknet_py.options":
            return False
        frame = frame.f_back
    return True


def belongs_to_a_loss(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_globals.get("__name__", "").startswith("darknet_py.losses")


def belongs_to_augmentation(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_globals.get("__name__", "").startswith("darknet_py.data.augment")


def recording(options: Any, names: set[str], counts: Callable[[FrameType | None], bool] = computes) -> Any:
    """The same options, of a class that adds to `names` what is read of them, where the reader counts."""

    class Recording(type(options)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            if name not in names and counts(sys._getframe(1)):
                names.add(name)
            return super().__getattribute__(name)

    result = object.__new__(Recording)
    vars(result).update(vars(options))
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boxes, and labels that a classifier finds in the images' names."""
    path = write_dataset(tmp_path_factory.mktemp("shapes"), train=4, valid=1)
    (path.parent / "labels.txt").write_text("".join(f"train-{number:05}\n" for number in range(6)))
    path.write_text(f"{path.read_text()}labels = labels.txt\n")
    return path


def cfg_text(case: str) -> str:
    case = case if case.startswith("[net]") else f"{NET}\n{case}"
    has_loss = any(f"[{kind}]" in case for kind in LOSSES)
    return (case if has_loss else f"{case}\n{TAIL}").replace(" ", "\n") + "\n"


def live(path: Path, data: Path) -> None:
    """All that happens to a network: it is built, saved and loaded, run, listed, and trained."""
    network = Network(parse_cfg(path)).initialise(0)
    network.save_weights(path.with_suffix(".weights"))
    load_weights(network, path.with_suffix(".weights"))
    network.summary()
    network.eval()
    shape = network.input_shape
    images = torch.rand(4, *(shape[:3] if shape.c else (shape.count,)))
    with torch.no_grad():
        network.features(images, range(len(network.layers)))
    if network.heads:
        detector = Detector(network)
        detector([np.zeros((50, 60, 3), np.uint8)], thresh=0.0)
        detector([np.zeros((50, 60, 3), np.uint8)], nms=0.4)
        detect_images(detector, [], RULES["darknet"])
    if network.net.width == 64:
        arguments = ["--out", str(path.parent / "out"), "--workers", "0", "--device", "cpu"]
        assert train.main([str(data), str(path), *arguments]) == 0
        return
    trainer = Trainer(network)
    needs = network.needs()
    assert needs is not None
    assert not isinstance(needs, BoxNeeds), "a detection head is trained on images: give the case the [net] of IMAGES"
    trainer.accumulate(images, torch.eye(needs.classes)[torch.arange(4) % needs.classes])
    trainer.update()


def reads_of(kind: str, folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], set[str]]:
    """The options of a kind that are read in its cases, and those that a case gives another value than the default."""
    read: dict[str, set[str]] = defaultdict(set)
    written: dict[str, set[str]] = defaultdict(set)

    def read_recording(options_class: type, cfg: Any, section: Any, **own: bool) -> Any:
        options = read_options(options_class, cfg, section, **own)
        names = ["net" if options_class is NetOptions else KINDS[section.name].kind]
        names += [COMMON] if isinstance(options, LayerOptions) else []
        for name in names:
            written[name] |= {
                field.name
                for field in dataclasses.fields(options)
                if section.get(cfg_name(field)) is not None and getattr(options, field.name) != field.default
            }
        return recording(options, read[names[0]])

    monkeypatch.setattr(darknet_py.network, "read_options", read_recording)
    (folder / "classes.map").write_text("1\n0\n2\n3\n4\n5\n")
    (folder / "classes.tree").write_text("a -1\nb -1\nc -1\nd 0\ne 0\nf 0\n")
    for number, case in enumerate(CASES.get(kind, [f"[{kind}]"])):
        path = folder / f"case{number}.cfg"
        path.write_text(cfg_text(case))
        live(path, data)
    if kind == COMMON:
        return set().union(*read.values()), written[kind]
    return read[kind], written[kind]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", kinds())
def test_options_are_read_as_declared(kind: str, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, written = reads_of(kind, tmp_path, data, monkeypatch)
    fields = {field.name: meaning_of(field).use for field in own_fields(kind) if varies(meaning_of(field))}
    missing = [name for name in fields if name not in written]
    assert not missing, (
        f"[{kind}] {missing}: write them with another value than the default in a cfg of CASES[{kind!r}]"
    )
    unread = {name: use for name, use in fields.items() if use in READ and name not in read}
    assert not unread, f"[{kind}] {unread}: nobody reads them; build them, or declare them untrained or none"
    misread = {name: use for name, use in fields.items() if use in ("untrained", "none") and name in read}
    assert not misread, f"[{kind}] {misread}: they are read; declare what they bear on"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, losses in LOSSES.items() for name in losses])
def test_a_loss_reads_what_it_declares(
    kind: str, name: str, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which options a loss has no use for is computed from `Loss.reads`."""
    names: set[str] = set()

    def read_recording(options_class: type, cfg: Any, section: Any, **own: bool) -> Any:
        options = read_options(options_class, cfg, section, **own)
        is_kind = options_class is not NetOptions and KINDS[section.name].kind == kind
        return recording(options, names, belongs_to_a_loss) if is_kind else options

    monkeypatch.setattr(darknet_py.network, "read_options", read_recording)
    (tmp_path / "classes.map").write_text("1\n0\n2\n3\n4\n5\n")
    (tmp_path / "classes.tree").write_text("a -1\nb -1\nc -1\nd 0\ne 0\nf 0\n")
    cases = CASES[kind][:2] if name in ("darknet", "faster_rcnn") else [LOSS_CASES.get(name, LOGITS).format(loss=name)]
    for number, case in enumerate(cases):
        path = tmp_path / f"case{number}.cfg"
        path.write_text(cfg_text(case))
        live(path, data)
    loss = LOSSES[kind][name]
    declared = loss.reads | ASSIGNER_READS.get(loss.assigner, frozenset())
    training = {field.name for field in dataclasses.fields(kinds()[kind]) if meaning_of(field).use == "training"}
    assert names & training == declared & training


def words_read(augmentation: str, **options: Any) -> set[str]:
    """The options that a recipe reads, of [net] and of a head, while it is built and makes a sample."""
    names: set[str] = set()
    of_classes = augmentation == "darknet_classifier"
    head = ClassNeeds(2) if of_classes else dataclasses.replace(box_needs(), augmentation=augmentation)
    truths = np.ones(2, np.float32) if of_classes else make_truths([0], [(0.5, 0.5, 0.2, 0.2)])
    net = recording(dataclasses.replace(SQUARE, **options), names, belongs_to_augmentation)
    recipe = recipe_for(net, recording(head, names, belongs_to_augmentation))
    rng = np.random.default_rng(0)
    image = LoadedImage(np.zeros((50, 50, 3), np.uint8), truths, "", "", Dice.of(rng))
    recipe(itertools.repeat(image), (64, 64), rng)
    return names & TRAINED


TRAINED = {field.name for field in dataclasses.fields(NetOptions) if meaning_of(field).use == "training"}
TRAINED = TRAINED - {"augmentation"} | {"jitter", "resize"}


@pytest.mark.parametrize("name", READ_BY_YOLOS)
def test_an_augmentation_reads_what_it_declares(name: str) -> None:
    assert words_read(name, mosaic=1) == READS[name]


@pytest.mark.filterwarnings("ignore")
def test_darknets_augmentations_read_what_they_declare() -> None:
    names = set(READS) - set(READ_BY_YOLOS)
    mixes: list[dict[str, Any]] = [{}, {"mixup": 1}, {"mosaic": 1}, {"min_ratio": 1.0, "max_ratio": 2.0}]
    assert set().union(*(words_read(name, **mix) for name in names for mix in mixes)) == OF_DARKNET
