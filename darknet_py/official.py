"""The official weights files: where their projects publish them, and their sizes and hashes as far as known."""

from __future__ import annotations

import difflib
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from darknet_py.errors import DarknetError


class DownloadError(DarknetError):
    """A file that cannot be downloaded; the text says from where, why, and what to do."""


class Official(NamedTuple):
    """One official file. What is not known is None; nothing is guessed.

    Attributes:
        name: what the user types.
        file: its file name.
        url: where its project publishes it.
        size: in bytes.
        sha256: hexadecimal.
        cfg: the cfg of this project that it belongs to.
        note: where size and hash come from.
        cutoff: for a backbone, the `cutoff` to load it with.
        sha512: hexadecimal; where it is documented and SHA-256 is not.
        mirrors: addresses of copies, used when `url` fails; only for files whose hash is known.
    """

    name: str
    file: str
    url: str
    size: int | None = None
    sha256: str | None = None
    cfg: str = ""
    note: str = ""
    cutoff: int | None = None
    sha512: str | None = None
    mirrors: tuple[str, ...] = ()

    @property
    def hashes(self) -> list[tuple[str, str]]:
        """(algorithm, value) of the hashes that are known."""
        hashes = (("SHA-256", self.sha256), ("SHA-512", self.sha512))
        return [(algorithm, value) for algorithm, value in hashes if value is not None]


# Joseph Redmon's files. Older texts name PJREDDIE_OLD, which has led to a web page since April 2025 (pjreddie/darknet
# issue 2655); the site's own pages (pjreddie/pjreddie.github.io, _darknet/yolo/yolo.md and imagenet.md) have named
# PJREDDIE since then.
PJREDDIE = "https://data.pjreddie.com/files/"
PJREDDIE_OLD = "https://pjreddie.com/media/files/"
ALEXEYAB = "https://github.com/AlexeyAB/darknet/releases/download/"
HANK_AI = "https://github.com/hank-ai/darknet/releases/download/v2.0/"  # "the same weights" (hank-ai/darknet issue 21)

FILES: tuple[Official, ...] = (
    Official(
        name="yolov1",
        file="yolov1.weights",
        url=PJREDDIE + "yolov1/yolov1.weights",
        size=789312988,
        sha256="df414df832ed10e3f2788df1e0e0ae573976573b97b5eec2c824ab9e5a8ae6d6",
        cfg="cfg/yolov1.cfg",
        note="size: computed from the cfg with the old 16-byte header, and documented so for darkflow; SHA-256: the "
        "downloader of PurdueDualityLab/TensorFlowModels (yolo/utils/file_manager.py), one source",
        mirrors=(PJREDDIE_OLD + "yolov1/yolov1.weights",),
    ),
    Official(
        name="yolov2",
        file="yolov2.weights",
        url=PJREDDIE + "yolov2.weights",
        size=203934260,
        sha256="d9945162ed6f54ce1a901e3ec537bdba4d572ecae7873087bd730e5a7942df3f",
        cfg="cfg/yolov2.cfg",
        note="size: computed from the cfg with the old 16-byte header, and logs of downloads; SHA-256: "
        "PurdueDualityLab/TensorFlowModels, a recipe of LG's for Yocto (darknet-ros) and Git LFS "
        "pointers of copies agree",
        mirrors=(PJREDDIE_OLD + "yolov2.weights", HANK_AI + "yolov2.weights"),
    ),
    Official(
        name="yolov2-voc",
        file="yolov2-voc.weights",
        url=PJREDDIE + "yolov2-voc.weights",
        size=202704264,
        cfg="cfg/yolov2-voc.cfg",
        note="size: computed from the cfg with a 20-byte header (AMD's Dockerfile for darkflow, which knows "
        "16-byte headers only, cuts 4 bytes off this file); no hash found",
    ),
    Official(
        name="yolov2-tiny",
        file="yolov2-tiny.weights",
        url=PJREDDIE + "yolov2-tiny.weights",
        size=44948600,
        cfg="cfg/yolov2-tiny.cfg",
        note="size: computed from the cfg, and documented so for darkflow; SHA-512: vcpkg's port of darknet "
        "(2020). A recipe of LG's for Yocto gives SHA-256 "
        "16f4e870f1aed83f0089cb69bfda6b53cb7b2a4a01721be56eaf5c899dfac45f for leggedrobotics' copy",
        sha512="f0857a7a02cf4322354d288c9afa0b87321b23082b719bc84ea64e2f3556cc1f"
        "afeb836ee5bf9fb6dcf448839061b93623a067dfde7afa1338636865ea88989a",
        mirrors=(PJREDDIE_OLD + "yolov2-tiny.weights",),
    ),
    Official(
        name="yolov3",
        file="yolov3.weights",
        url=PJREDDIE + "yolov3.weights",
        size=248007048,
        sha256="523e4e69e1d015393a1b0a441cef1d9c7659e3eb2d7e15f793f060a21b32f297",
        cfg="cfg/yolov3.cfg",
        note="size: computed from the cfg, and documented widely (Streamlit's demo); SHA-256: Emgu CV, AUR's "
        "zmeventnotification and Git LFS pointers of copies agree",
        mirrors=(PJREDDIE_OLD + "yolov3.weights", HANK_AI + "yolov3.weights"),
    ),
    Official(
        name="yolov3-spp",
        file="yolov3-spp.weights",
        url=PJREDDIE + "yolov3-spp.weights",
        size=252209544,
        sha256="87a1e8c85c763316f34e428f2295e1db9ed4abcec59dd9544f8052f50de327b4",
        cfg="cfg/yolov3-spp.cfg",
        note="size: computed from the cfg; SHA-256: Emgu CV and PurdueDualityLab/TensorFlowModels agree",
        mirrors=(PJREDDIE_OLD + "yolov3-spp.weights",),
    ),
    Official(
        name="yolov3-tiny",
        file="yolov3-tiny.weights",
        url=PJREDDIE + "yolov3-tiny.weights",
        size=35434956,
        sha256="dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c",
        cfg="cfg/yolov3-tiny.cfg",
        note="size: computed from the cfg, and the Git LFS pointer of Hugging Face ggml-org/models; SHA-256: "
        "that pointer, Emgu CV and AUR's zmeventnotification agree",
        mirrors=(PJREDDIE_OLD + "yolov3-tiny.weights", HANK_AI + "yolov3-tiny.weights"),
    ),
    Official(
        name="yolov4",
        file="yolov4.weights",
        url=ALEXEYAB + "darknet_yolo_v3_optimal/yolov4.weights",
        size=257717640,
        sha256="e8a4f6c62188738d86dc6898d82724ec0964d0eb9d2ae0f0a9d53d65d108d562",
        cfg="cfg/yolov4.cfg",
        note="size: computed from the cfg, and Git LFS pointers of copies; SHA-256: those pointers, AUR's "
        "zmeventnotification and PurdueDualityLab/TensorFlowModels agree",
        mirrors=(HANK_AI + "yolov4.weights",),
    ),
    Official(
        name="yolov4-csp",
        file="yolov4-csp.weights",
        url=ALEXEYAB + "darknet_yolo_v4_pre/yolov4-csp.weights",
        size=211944840,
        sha256="019496affba568f7439e54797a1772657bb01126b707fbd93407c0b20c20dca1",
        cfg="cfg/yolov4-csp.cfg",
        note="size: computed from the cfg; SHA-256: the Git LFS pointer of Hugging Face "
        "homohapiens/darknet-yolov4 and the benchmark scripts of a fork of pyCLAD agree",
    ),
    Official(
        name="yolov4-tiny",
        file="yolov4-tiny.weights",
        url=ALEXEYAB + "darknet_yolo_v4_pre/yolov4-tiny.weights",
        size=24251276,
        sha256="cf9fbfd0f6d4869b35762f56100f50ed05268084078805f0e7989efe5bb8ca87",
        cfg="cfg/yolov4-tiny.cfg",
        note="size: computed from the cfg; SHA-256: AUR's zmeventnotification, Emgu CV and Git LFS pointers "
        "of copies agree. The file of June 2020 was another one (opencv_extra pull request 1026)",
        mirrors=(HANK_AI + "yolov4-tiny.weights",),
    ),
    Official(
        name="yolov7",
        file="yolov7.weights",
        url=ALEXEYAB + "yolov4/yolov7.weights",
        size=147898248,
        sha256="4ecf7ca13ec5039ec7b79b0f25b156fda5eaf819d6c2bb6828ba55fe4f928332",
        cfg="cfg/yolov7.cfg",
        note="size: computed from the cfg; SHA-256: a script that checks hank-ai's copy by it, one source",
        mirrors=(HANK_AI + "yolov7.weights",),
    ),
    Official(
        name="yolov7-tiny",
        file="yolov7-tiny.weights",
        url=ALEXEYAB + "yolov4/yolov7-tiny.weights",
        size=24967560,
        cfg="cfg/yolov7-tiny.cfg",
        note="size: computed from the cfg; no hash found",
    ),
    Official(
        name="darknet19",
        file="darknet19.weights",
        url=PJREDDIE + "darknet19.weights",
        cfg="cfg/darknet19.cfg",
        note="classifier, ImageNet; size: 83427120 or 83427124 by the cfg, as its header is not known (its "
        "site says 80 MB); no hash found",
    ),
    Official(
        name="darknet53",
        file="darknet53.weights",
        url=PJREDDIE + "darknet53.weights",
        cfg="cfg/darknet53.cfg",
        note="classifier, ImageNet; size: 166582576 or 166582580 by the cfg, as its header is not known (its "
        "site says 159 MB); no hash found",
    ),
    Official(
        name="darknet19_448.conv.23",
        file="darknet19_448.conv.23",
        url=PJREDDIE + "darknet19_448.conv.23",
        size=79327120,
        cfg="cfg/yolov2.cfg",
        note="backbone, for yolov2-voc too; size: computed from the cfg's first 23 layers with the old 16-byte "
        "header, and programs that check it; SHA-512: vcpkg's port of darknet (2020)",
        cutoff=23,
        sha512="8016f5b7ddc15c5d7dad231592f5351eea65f608ebdb204f545034dde904e119"
        "62f693080dfeb5a4510e7b71bdda151a9121ba0f8a243018d680f01b1efdbd31",
        mirrors=(PJREDDIE_OLD + "darknet19_448.conv.23",),
    ),
    Official(
        name="darknet53.conv.74",
        file="darknet53.conv.74",
        url=PJREDDIE + "darknet53.conv.74",
        size=162482580,
        cfg="cfg/yolov3.cfg",
        note="backbone, for yolov3-spp and yolov3-voc too; size: computed from the cfg's first 75 layers, and logs "
        "of downloads; SHA-512: vcpkg's port of darknet (2020)",
        cutoff=75,
        sha512="8983e1c129e2d6e8e3da0cc0781ecb7a07813830ef5a87c24b53100df6a5f23d"
        "b6c6e6a402aec78025a93fe060b75d1958f1b8f7439a04b54a3f19c81e2ae99b",
        mirrors=(PJREDDIE_OLD + "darknet53.conv.74",),
    ),
    Official(
        name="yolov4.conv.137",
        file="yolov4.conv.137",
        url=ALEXEYAB + "darknet_yolo_v3_optimal/yolov4.conv.137",
        size=170038676,
        sha256="11c5286cfbffabc9a3059927401ab3480e9483ceafd3265779a0dc26c769bed0",
        cfg="cfg/yolov4.cfg",
        note="backbone; size: computed from the cfg's first 137 layers, and logs of downloads; SHA-256: OpenNN's "
        "review of the file and the Git LFS pointer of a copy agree",
        cutoff=137,
    ),
    Official(
        name="yolov4-csp.conv.142",
        file="yolov4-csp.conv.142",
        url=ALEXEYAB + "darknet_yolo_v4_pre/yolov4-csp.conv.142",
        cfg="cfg/yolov4-csp.cfg",
        note="backbone; neither size nor hash found",
        cutoff=142,
    ),
    Official(
        name="yolov4-tiny.conv.29",
        file="yolov4-tiny.conv.29",
        url=ALEXEYAB + "darknet_yolo_v4_pre/yolov4-tiny.conv.29",
        size=19789716,
        sha256="3c794b8420b12ed2a609daa71d075880e7bd152671323f5eb3e8d9e57e31785b",
        cfg="cfg/yolov4-tiny.cfg",
        note="backbone; size: computed from the cfg's first 29 layers; SHA-256: a training script that checks its "
        "download by it (Portcullis) and Git LFS pointers of copies agree",
        cutoff=29,
    ),
    Official(
        name="yolov7.conv.132",
        file="yolov7.conv.132",
        url=ALEXEYAB + "yolov4/yolov7.conv.132",
        cfg="cfg/yolov7.cfg",
        note="backbone; neither size nor hash found",
        cutoff=132,
    ),
)  # fmt: skip


def find_official(name: str) -> Official:
    """The official file of this name (`yolov3` or `yolov3.weights`); for an http(s) address, a record of that alone.

    Raises:
        DownloadError: there is no such file, or the address is malformed; the text names the closest.
    """
    if "://" in name:
        return _from_address(name)
    for official in FILES:
        if name.lower() in (official.name, official.file):
            return official
    names = [official.name for official in FILES]
    closest = difflib.get_close_matches(name.lower().removesuffix(".weights"), names, n=1)
    hint = f"did you mean '{closest[0]}'?" if closest else "--list shows them all"
    raise DownloadError(f"'{name}' is not an official file; {hint}")


def _from_address(address: str) -> Official:
    check_address(address)
    file = unquote(urlsplit(address).path).rpartition("/")[2]
    if file in ("", ".", "..") or not file.isprintable() or set(file) & set('\\:*?"<>|'):
        raise DownloadError(f"{address}: this address does not end in a file name")
    return Official(file, file, address)


def check_address(address: str) -> None:
    """Refuses what is not an http(s) address.

    Raises:
        DownloadError: it is not one.
    """
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise DownloadError(f"{address}: this is not a web address; write http://… or https://…")


def official_table() -> str:
    """The official files as text: name, size, kind of hash, cfg."""
    rows = [("name", "bytes", "hash", "for")]
    for official in FILES:
        size = "not known" if official.size is None else f"{official.size:,}"
        algorithm = official.hashes[0][0] if official.hashes else "-"
        cutoff = f", cutoff={official.cutoff}" if official.cutoff else ""
        rows.append((official.name, size, algorithm, official.cfg + cutoff))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(f"{a:{widths[0]}}  {b:>{widths[1]}}  {c:{widths[2]}}  {d}" for a, b, c, d in rows)
