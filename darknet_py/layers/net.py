"""[net]: the input's shape, and everything about training that is not one layer's (Darknet: parser.c:parse_net_options)."""

from __future__ import annotations

from dataclasses import dataclass

from darknet_py.options import LARGEST_INT, option

NAMES = ("net", "network")
POLICIES = ("constant", "step", "steps", "exp", "poly", "sigmoid", "random", "sgdr")


@dataclass(frozen=True, kw_only=True)
class NetOptions:
    width: int = option(0, "width of the input, pixels", least=0)
    height: int = option(0, "height of the input, pixels", least=0)
    channels: int = option(0, "channels of the input", least=0)
    inputs: int | None = option(None, "values of the input; default: height*width*channels", least=0)
    letter_box: int = option(0, "1: pictures keep their proportions, grey fills the rest; 0: they are stretched")
    show_receptive_field: float = option(0.0, "1: the layer table shows the receptive field", use="load")
    batch: int = option(1, "pictures of one update of the weights", least=1, most=LARGEST_INT, use="training")
    subdivisions: int = option(1, "parts that a batch is worked through in", least=1, use="training")
    time_steps: int = option(1, "steps in time of recurrent networks", least=1, use="training")
    sequential_subdivisions: int | None = option(
        None, "parts of a sequence at the start; default: subdivisions", use="training"
    )
    max_batches: int = option(0, "updates in all", use="training")
    learning_rate: float = option(0.001, "step of an update", use="training")
    learning_rate_min: float = option(0.00001, "lowest rate of sgdr", use="training")
    momentum: float = option(0.9, "part of an update that the next one repeats", use="training")
    decay: float = option(0.0001, "weight decay", use="training")
    policy: str = option("constant", "how the rate falls", choices=POLICIES, otherwise="constant", use="training")
    burn_in: int = option(0, "updates in which the rate grows from 0", use="training")
    power: float = option(4.0, "exponent of burn_in and of poly", use="training")
    step: int = option(1, "of step and sigmoid: updates", use="training")
    scale: float = option(1.0, "of step: multiplies the rate", use="training")
    steps: tuple[int, ...] = option((), "of steps: when the rate changes, updates", use="training")
    scales: tuple[float, ...] = option((), "of steps: what multiplies the rate then", use="training")
    seq_scales: tuple[float, ...] = option((), "of steps: what multiplies the sequence's length then", use="training")
    gamma: float = option(1.0, "of exp and sigmoid", use="training")
    sgdr_cycle: int | None = option(None, "updates of the first cycle of sgdr; default: max_batches", use="training")
    sgdr_mult: int = option(2, "each cycle of sgdr is so many times longer", use="training")
    adam: int = option(0, "1: Adam in place of SGD (GPU)", use="training")
    B1: float = option(0.9, "Adam's decay of the mean", use="training")
    B2: float = option(0.999, "Adam's decay of the variance", use="training")
    eps: float = option(0.000001, "Adam's epsilon", use="training")
    ema_alpha: float = option(
        0.0, "a running average of the weights is kept, each update with 1-ema_alpha", use="training"
    )
    flip: int = option(1, "1: half of the pictures are mirrored", use="training")
    angle: float = option(0.0, "rotation within +-angle, degrees (classifiers)", use="training")
    aspect: float = option(1.0, "proportions change by up to this factor (classifiers)", use="training")
    saturation: float = option(1.0, "saturation changes by up to this factor", use="training")
    exposure: float = option(1.0, "exposure changes by up to this factor", use="training")
    hue: float = option(0.0, "hue changes within +- this part of the circle", use="training")
    max_crop: int | None = option(
        None, "longest side before cropping, pixels; default: 2*width (classifiers)", use="training"
    )
    min_crop: int | None = option(
        None, "shortest side before cropping, pixels; default: width (classifiers)", use="training"
    )
    max_ratio: float | None = option(None, "largest max_crop relative to width (pjreddie)", use="training")
    min_ratio: float | None = option(None, "smallest min_crop relative to width (pjreddie)", use="training")
    center: int = option(0, "1: the crop is the middle (pjreddie)", use="training")
    blur: int = option(0, "1: the background is blurred; more: the size of a blur of all", use="training")
    gaussian_noise: int = option(0, "strength of added noise", use="training")
    mixup: int = option(0, "1: two pictures are blended", use="training")
    cutmix: int = option(0, "1: a part of another picture is pasted in (classifiers)", use="training")
    mosaic: int = option(0, "1: four pictures become one", use="training")
    mosaic_bound: int = option(0, "1: the pictures of a mosaic do not shrink below their tile", use="training")
    label_smooth_eps: float = option(0.0, "classes of classifiers: 1-eps, and eps shared by the others", use="training")
    resize_step: float = option(32.0, "sizes of random=1 are multiples of it, pixels", use="training")
    dynamic_minibatch: int = option(0, "1: with random=1, smaller pictures come in larger mini-batches", use="training")
    contrastive: int = option(0, "1: pairs of views of one picture", use="training")
    contrastive_jit_flip: int = option(0, "1: the views differ in place", use="training")
    contrastive_color: int = option(0, "1: the views differ in colour", use="training")
    unsupervised: int = option(0, "1: classes are not known (classifiers)", use="training")
    attention: int = option(0, "1: shows what the gradient attends to", use="untrained")
    adversarial_lr: float = option(0.0, "strength of adversarial pictures", use="untrained")
    badlabels_rejection_percentage: float = option(
        0.0, "in the last quarter, so many of the largest deltas are left out: percent", use="training"
    )
    num_sigmas_reject_badlabels: float = option(
        0.0, "in the last quarter, deltas beyond this many deviations are left out", use="training"
    )
    equidistant_point: int = option(0, "from this update on, small deltas are left out, more and more", use="training")
    weights_reject_freq: int = option(
        0, "filters that resemble others start anew, every so many updates", use="untrained"
    )
    clip: float = option(0.0, "the clip of all layers (pjreddie)", use="training")
    try_fix_nan: int = option(0, "1: what is not finite is set to other numbers, and training goes on", use="training")
    loss_scale: float = option(1.0, "of mixed precision", use="none")
    track: int = option(0, "1: training on sequences of pictures", use="training")
    augment_speed: int = option(2, "frames skipped in sequences", use="training")
    notruth: int = option(0, "read by Darknet, used nowhere (pjreddie)", use="none")
    truth: int = option(0, "number of truth values (pjreddie)", use="none")
    random: int = option(0, "1: the network's size varies while training (pjreddie, classifiers)", use="training")
    max_chart_loss: float = option(20.0, "upper end of the loss chart", use="none")
    use_cuda_graph: int = option(0, "1: CUDA graphs", use="none")
    optimized_memory: int = option(0, "how far GPU memory is saved", use="none")
    workspace_size_limit_MB: float = option(1024.0, "limit of cuDNN's workspace, MB", use="none")  # noqa: N815

    @property
    def input_count(self) -> int:
        return self.height * self.width * self.channels if self.inputs is None else self.inputs
