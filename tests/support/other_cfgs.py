"""The project's cfgs with other classes and other options."""

import re


def for_classes(text: str, classes: int) -> str:
    """The cfg for other classes than COCO's 80 (or the two-stage network's 4): heads, and the layers before."""
    sections = re.split(r"(?m)^(?=\[)", text)
    anchors = 3 * (80 + 5)
    for number, section in enumerate(sections):
        section = re.sub(r"(?m)^classes=(80|4)$", f"classes={classes}", section)
        if "batch_normalize" not in section and "activation=linear" in section:
            section = re.sub(rf"(?m)^filters={anchors}$", f"filters={3 * (classes + 5)}", section)
            section = re.sub(r"(?m)^filters=80$", f"filters={classes}", section)
            section = re.sub(r"(?m)^output=5$", f"output={classes + 1}", section)
            section = re.sub(r"(?m)^output=20$", f"output={4 * (classes + 1)}", section)
        sections[number] = section
    return "".join(sections)


def with_options(text: str, section: str, options: dict[str, str]) -> str:
    """The cfg with these options of a section that it has once."""
    start = text.index(f"\n[{section}]\n") + 1
    end = text.find("\n[", start) % (len(text) + 1)
    changed = text[start:end]
    for name, value in options.items():
        changed, count = re.subn(rf"(?m)^{name} *=.*$", f"{name}={value}", changed)
        changed += "" if count else f"\n{name}={value}\n"
    return text[:start] + changed + text[end:]
