"""[net]: the input's shape, and the training settings of the whole network (parser.c:parse_net_options)."""

from __future__ import annotations

from dataclasses import dataclass

from darknet_py.layers.augmentation import AugmentationOptions
from darknet_py.layers.image_input import ImageOptions
from darknet_py.layers.recipe import POLICIES as OWN_POLICIES
from darknet_py.layers.recipe import RecipeOptions
from darknet_py.options import option

NAMES = ("net", "network")
POLICIES = ("constant", "step", "steps", "exp", "poly", "sigmoid", "random", "sgdr", *OWN_POLICIES)


@dataclass(frozen=True, kw_only=True)
class NetOptions(RecipeOptions, AugmentationOptions, ImageOptions):
    width: int = option(0, "width of the input, pixels", minimum=0)
    height: int = option(0, "height of the input, pixels", minimum=0)
    channels: int = option(0, "channels of the input", minimum=0)
    inputs: int | None = option(None, "values of the input; default: height*width*channels", minimum=0)
    bn_eps: float = option(0.00001, "added to the variance in batch norm", minimum=0, own=True)
    letter_box: int = option(0, "1: images keep their aspect ratio and are padded with grey; 0: they are stretched")
    show_receptive_field: float = option(0.0, "1: the layer table shows the receptive field", use="load")
    batch: int = option(1, "images per weight update", use="training")
    subdivisions: int = option(1, "mini-batches per batch; their gradients are added up", use="training")
    time_steps: int = option(1, "time steps of recurrent networks", use="training")
    sequential_subdivisions: int | None = option(
        None, "mini-batches per sequence at the start; default: subdivisions", minimum=0, use="training"
    )
    max_batches: int = option(0, "iterations (weight updates) of the whole training", minimum=0, use="training")
    learning_rate: float = option(0.001, "learning rate", minimum=0, maximum=1000, use="training")
    learning_rate_min: float = option(
        0.00001, "of sgdr, cosine, linear and warmcos: minimum learning rate", minimum=0, maximum=1000, use="training"
    )
    momentum: float = option(
        0.9,
        "momentum of SGD: fraction of an update that is added to the next one",
        minimum=0,
        maximum=1,
        use="training",
    )
    decay: float = option(0.0001, "weight decay", minimum=0, maximum=1000, use="training")
    policy: str = option(
        "constant",
        "learning-rate schedule; this project's own: cosine and linear fall to learning_rate_min, once an epoch; "
        "warmcos falls in each iteration, from the end of the warm-up until close_mosaic (YOLOX)",
        choices=POLICIES,
        fallback="constant",
        use="training",
    )
    burn_in: int = option(
        0, "iterations of warm-up, in which the learning rate grows from 0", minimum=0, use="training"
    )
    power: float = option(
        4.0, "exponent of burn_in and of the policies poly and random", minimum=0, maximum=100, use="training"
    )
    step: int = option(
        1,
        "of step: iterations between two changes; of sigmoid: the iteration of half the rate",
        minimum=1,
        use="training",
    )
    scale: float = option(1.0, "of step: factor by which the rate changes", minimum=0, maximum=1e6, use="training")
    steps: tuple[int, ...] = option(
        (), "of steps: iterations at which the rate changes", use="training", hash_ends=True
    )
    scales: tuple[float, ...] = option(
        (), "of steps: factor by which the rate changes at each of them", minimum=0, maximum=1e6, use="training"
    )
    seq_scales: tuple[float, ...] = option(
        (),
        "of steps, with track=1: factor for the mini-batches per sequence at each of them",
        minimum=0,
        maximum=1e6,
        use="training",
    )
    gamma: float = option(
        1.0, "of exp: factor per iteration; of sigmoid: steepness", minimum=-1000, maximum=1000, use="training"
    )
    sgdr_cycle: int | None = option(
        None, "of sgdr: iterations of the first cycle; default: max_batches", minimum=1, use="training"
    )
    sgdr_mult: int = option(
        2, "of sgdr: each cycle is longer than the last by this factor", minimum=1, maximum=1000, use="training"
    )
    adam: int = option(0, "1: Adam instead of SGD (Darknet: on a GPU only)", use="training")
    B1: float = option(0.9, "Adam's decay of the mean", minimum=0, maximum=0.999999, use="training")
    B2: float = option(0.999, "Adam's decay of the variance", minimum=0, maximum=0.999999, use="training")
    eps: float = option(0.000001, "Adam's epsilon", minimum=0, maximum=1, use="training")
    ema_alpha: float = option(
        0.0,
        "decay of an exponential moving average of the weights, saved beside them; 0: none",
        minimum=0,
        maximum=1,
        use="training",
    )
    flip: int = option(1, "1: half of the images are mirrored", use="training")
    angle: float = option(
        0.0, "random rotation within +-angle, degrees (classifiers)", minimum=0, maximum=360, use="training"
    )
    aspect: float = option(
        1.0, "the aspect ratio changes by up to this factor (classifiers)", minimum=0, maximum=100, use="training"
    )
    saturation: float = option(1.0, "saturation changes by up to this factor", minimum=0, maximum=100, use="training")
    exposure: float = option(1.0, "exposure changes by up to this factor", minimum=0, maximum=100, use="training")
    hue: float = option(
        0.0, "hue changes by up to +- this fraction of the colour circle", minimum=0, maximum=1, use="training"
    )
    max_crop: int | None = option(
        None,
        "maximum of the short side before cropping, pixels; default: 2*width (classifiers)",
        minimum=1,
        maximum=100000,
        use="training",
    )
    min_crop: int | None = option(
        None,
        "minimum of the short side before cropping, pixels; default: width (classifiers)",
        minimum=1,
        maximum=100000,
        use="training",
    )
    max_ratio: float | None = option(
        None, "max_crop as a multiple of the network's size (pjreddie)", minimum=0.01, maximum=100, use="training"
    )
    min_ratio: float | None = option(
        None, "min_crop as a multiple of the network's size (pjreddie)", minimum=0.01, maximum=100, use="training"
    )
    center: int = option(0, "1: the crop is the largest square in the middle (pjreddie)", use="training")
    blur: int = option(
        0,
        "1: what lies outside the boxes is blurred; larger: the whole image, with this kernel size, pixels",
        minimum=0,
        maximum=999,
        use="training",
    )
    gaussian_noise: int = option(
        0, "strength of added Gaussian noise, pixel values 0..255", minimum=0, maximum=255, use="training"
    )
    mixup: int = option(0, "1: two images are blended", use="training")
    cutmix: int = option(0, "1: a patch of another image is pasted in (classifiers)", use="training")
    mosaic: int = option(0, "1: four images become one", use="training")
    mosaic_bound: int = option(0, "1: boxes are cut off at the borders of their mosaic tile", use="training")
    label_smooth_eps: float = option(
        0.0,
        "label smoothing of classifiers: 1-eps for the class, eps shared by the others",
        minimum=0,
        maximum=1,
        use="training",
    )
    resize_step: float = option(
        32.0, "random=1 chooses multiples of it as width and height, pixels", minimum=1, maximum=10000, use="training"
    )
    dynamic_minibatch: int = option(0, "1: with random=1, smaller images come in larger mini-batches", use="training")
    contrastive: int = option(0, "1: mini-batches are pairs of views of one image", use="training")
    contrastive_jit_flip: int = option(
        0, "1: with contrastive=1, the two views are cropped and mirrored differently", use="training"
    )
    contrastive_color: int = option(0, "1: with contrastive=1, the two views have different colours", use="training")
    unsupervised: int = option(
        0, "1: the labels are not used, each image is a class of its own (classifiers)", use="training"
    )
    attention: int = option(0, "1: shows a saliency map of the gradient", use="untrained")
    adversarial_lr: float = option(0.0, "strength of adversarial changes to the images", use="untrained")
    badlabels_rejection_percentage: float = option(
        0.0,
        "percent of the largest deltas that are left out in the last quarter of training",
        minimum=0,
        maximum=100,
        use="training",
    )
    num_sigmas_reject_badlabels: float = option(
        0.0,
        "deltas beyond this many standard deviations are left out in the last quarter of training",
        minimum=0,
        maximum=1000,
        use="training",
    )
    equidistant_point: int = option(
        0, "from this iteration on small deltas are left out, up to a growing limit", minimum=0, use="training"
    )
    weights_reject_freq: int = option(
        0, "iterations between two searches for similar filters, which are re-initialised", use="untrained"
    )
    clip: float = option(
        0.0,
        "limits the weights of every convolution to -clip..clip; 0: no limit (pjreddie)",
        minimum=0,
        maximum=1e6,
        use="training",
    )
    try_fix_nan: int = option(
        0, "1: weights and gradients that are not finite are replaced, and training goes on", use="training"
    )
    loss_scale: float = option(1.0, "loss scaling of Darknet's mixed precision", use="none")
    track: int = option(0, "1: training on sequences of images", use="training")
    augment_speed: int = option(
        2, "with track=1: maximum step from one image of a sequence to the next", minimum=0, use="training"
    )
    notruth: int = option(0, "read by Darknet, used nowhere (pjreddie)", use="none")
    truth: int = option(0, "number of truth values (pjreddie)", use="none")
    random: int = option(0, "1: the input size varies during training (pjreddie, classifiers)", use="training")
    max_chart_loss: float = option(
        20.0,
        "upper end of the loss chart; where it is not written, the chart chooses its own",
        minimum=0,
        maximum=1e9,
        use="training",
    )
    use_cuda_graph: int = option(0, "1: CUDA graphs", use="none")
    optimized_memory: int = option(0, "how far GPU memory is saved", use="none")
    workspace_size_limit_MB: float = option(1024.0, "maximum size of cuDNN's workspace, MB", use="none")  # noqa: N815

    @property
    def keeps_aspect(self) -> bool:
        """Whether images come into the input with their aspect ratio."""
        return bool(self.letter_box) or self.image_fit != "darknet"

    @property
    def input_count(self) -> int:
        return self.height * self.width * self.channels if self.inputs is None else self.inputs
