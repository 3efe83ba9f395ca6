"""Every option that Darknet reads is declared, with its meaning and its use; the reference page says so."""

from __future__ import annotations

import dataclasses

import pytest
from project import ROOT

from darknet_py.layers import KINDS, NetOptions
from darknet_py.layers.layer import LayerOptions
from darknet_py.options import cfg_name, meaning_of
from darknet_py.reference import option_table, options_page

# What parser.c asks for in each section, AlexeyAB's and pjreddie's together.
READ = {
    "local": "activation filters pad size stride",
    "convolutional": "activation angle antialiasing assisted_excitation batch_normalize bin_output binary cbn "
    "coordconv dilation dot filters flipped grad_centr groups pad padding reverse rotate share_index "
    "size stream stretch stretch_sway stride stride_x stride_y sway wait_stream xnor",
    "deconvolutional": "activation batch_normalize filters pad padding size stride",
    "crnn": "activation batch_normalize dilation groups hidden hidden_filters output output_filters pad "
    "padding shortcut size stride xnor",
    "rnn": "activation batch_normalize hidden logistic output shortcut",
    "gru": "batch_normalize output tanh",
    "lstm": "batch_normalize output",
    "conv_lstm": "activation batch_normalize bottleneck dilation groups lstm_activation output pad padding "
    "peephole shortcut size state_constrain stride time_normalizer xnor",
    "history": "history_size",
    "connected": "activation batch_normalize output",
    "softmax": "groups noloss spatial temperature tree",
    "contrastive": "classes cls_normalizer contrastive_neg_max max_delta temperature yolo_layer",
    "yolo": "anchors beta_nms classes cls_normalizer counters_per_class delta_normalizer dets_for_show "
    "dets_for_track embedding_layer focal_loss ignore_thresh iou_loss iou_normalizer iou_thresh "
    "iou_thresh_kind jitter label_smooth_eps map mask max max_delta new_coords nms_kind num "
    "obj_normalizer objectness_smooth random resize scale_x_y show_details sim_thresh "
    "track_ciou_norm track_history_size truth_thresh",
    "Gaussian_yolo": "anchors beta_nms classes cls_normalizer counters_per_class delta_normalizer ignore_thresh "
    "iou_loss iou_normalizer iou_thresh iou_thresh_kind jitter label_smooth_eps map mask max "
    "max_delta nms_kind num obj_normalizer objectness_smooth random resize scale_x_y truth_thresh "
    "uc_normalizer yolo_point",
    "region": "absolute anchors background bias_match class_scale classes classfix coord_scale coords "
    "focal_loss jitter log map mask_scale max noobject_scale num object_scale random rescore resize "
    "softmax sqrt thresh tree",
    "detection": "class_scale classes coord_scale coords forced jitter max noobject_scale num object_scale random "
    "reorg rescore resize side softmax sqrt",
    "cost": "noobj ratio scale thresh type",
    "crop": "angle crop_height crop_width exposure flip noadjust saturation shift",
    "reorg": "extra flatten reverse stride",
    "reorg3d": "reverse stride",
    "local_avgpool": "padding size stride stride_x stride_y",
    "maxpool": "antialiasing maxpool_depth maxpool_zero_nonmax out_channels padding size stride stride_x stride_y",
    "dropout": "dropblock dropblock_size_abs dropblock_size_rel probability",
    "normalization": "alpha beta kappa size",
    "shortcut": "activation alpha beta from weights_normalization weights_type",
    "scale_channels": "activation from scale_wh",
    "sam": "activation from",
    "implicit": "atoms filters mean std",
    "activation": "activation",
    "upsample": "scale stride",
    "route": "group_id groups layers stream wait_stream",
    "net": "B1 B2 adam adversarial_lr angle aspect attention augment_speed badlabels_rejection_percentage "
    "batch blur burn_in center channels clip contrastive contrastive_color contrastive_jit_flip "
    "cutmix decay dynamic_minibatch ema_alpha eps equidistant_point exposure flip gamma "
    "gaussian_noise height hue inputs label_smooth_eps learning_rate learning_rate_min letter_box "
    "loss_scale max_batches max_chart_loss max_crop max_ratio min_crop min_ratio mixup momentum "
    "mosaic mosaic_bound notruth num_sigmas_reject_badlabels optimized_memory policy power random "
    "resize_step saturation scale scales seq_scales sequential_subdivisions sgdr_cycle sgdr_mult "
    "show_receptive_field step steps subdivisions time_steps track try_fix_nan unsupervised "
    "use_cuda_graph weights_reject_freq width workspace_size_limit_MB",
}
EVERY_LAYER = (
    "burnin_update clip dont_update dontload dontloadscales dontsave learning_rate numload "
    "onlyforward smooth stopbackward train_only_bn"
)
ALL_KINDS: dict[str, type] = {"net": NetOptions} | {name: kind.Options for name, kind in KINDS.items()}


def names_of(kind: type) -> set[str]:
    return {cfg_name(field) for field in dataclasses.fields(kind)}


COMMON_OWN = {cfg_name(field) for field in dataclasses.fields(LayerOptions) if meaning_of(field).own}


@pytest.mark.parametrize("section", READ)
def test_every_option_that_darknet_reads_is_declared(section: str) -> None:
    assert set(READ[section].split()) <= names_of(ALL_KINDS[section])


@pytest.mark.parametrize("section", READ)
def test_options_that_darknet_does_not_read_are_marked_as_own(section: str) -> None:
    meanings = {cfg_name(field): meaning_of(field) for field in dataclasses.fields(ALL_KINDS[section])}
    own = {name for name, meaning in meanings.items() if meaning.own}
    pjreddies = {name for name, meaning in meanings.items() if "(pjreddie" in meaning.text}
    common = names_of(LayerOptions) - COMMON_OWN
    assert own == set(meanings) - set(READ[section].split()) - common - pjreddies
    marked = {
        line.split("=")[0] for line in option_table(section).splitlines() if line.endswith("[this project's own]")
    }
    assert marked == own


def test_every_layer_reads_the_common_options() -> None:
    assert names_of(LayerOptions) == set(EVERY_LAYER.split()) | COMMON_OWN
    assert all(issubclass(kind.Options, LayerOptions) for kind in KINDS.values())


def test_every_section_of_darknet_is_a_kind() -> None:
    darknets = """activation avg avgpool batchnorm connected conn contrastive conv conv_lstm convolutional cost crnn
        crop deconv deconvolutional detection dropout empty Gaussian_yolo gru history implicit l2norm local local_avg
        local_avgpool logistic lrn lstm max maxpool normalization region reorg reorg3d rnn route sam scale_channels
        shortcut silence soft softmax upsample yolo"""
    assert {name for name, kind in KINDS.items() if not kind.own} == set(darknets.split())


def test_meanings_are_written_for_readers() -> None:
    for section, kind in ALL_KINDS.items():
        for field in dataclasses.fields(kind):
            assert len(meaning_of(field).text) > 8, (section, field.name)


def test_the_reference_page_is_up_to_date() -> None:
    page = ROOT / "docs" / "OPTIONS.md"
    assert page.read_text() == options_page(), "run: python -m darknet_py.summary --options > docs/OPTIONS.md"
