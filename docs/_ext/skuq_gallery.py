"""The gallery: examples sorted into sections, and pictures with alternative texts.

Examples lie side by side in ``examples/``. sphinx-gallery makes sections of folders, so the build
copies each example to the folder of its section, ``docs/_examples/SECTION/``.
"""

from __future__ import annotations

import os
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from sphinx.errors import ExtensionError

# Folder, title, text, and the names of its examples: the first section with a match takes it.
SECTIONS = [
    (
        "1_tasks",
        "Tasks",
        "The whole way, from data to an answer with its uncertainty.",
        ["digits", "two_moons"],
    ),
    (
        "8_active_learning",
        "Active and semi-supervised learning",
        "What to label or to train on next, and what to do with rows that have no label.",
        [
            "*active*",
            "*semi*",
            "*few_labels*",
            "*pseudo*",
            "*label_next*",
            "*pool*",
            "*query*",
            "*ranking*",
        ],
    ),
    (
        "9_attribution",
        "Attribution",
        "What in the input makes it unsure.",
        ["*attribution*", "*explain*", "*unsure*", "*saliency*", "*counterfactual*"],
    ),
    (
        "2_posteriors",
        "Posteriors",
        "Ways to be uncertain about the function that a network computes.",
        ["*posterior*", "*ensemble*", "*laplace*", "*dropout*", "*prior*"],
    ),
    (
        "3_calibration",
        "Calibration",
        "Probabilities and intervals that mean what they say.",
        ["calibrated_*", "*temperature*", "*conformal*"],
    ),
    ("4_no", "Saying no", "Answers with a guarantee.", ["*refusal*", "*aurc*", "*selective*"]),
    (
        "5_novelty",
        "Novelty and shift",
        "Inputs like nothing known, and worlds that change.",
        ["*novelty*", "*shift*", "*quality*"],
    ),
    (
        "6_regression",
        "Regression",
        "Noise that varies, and inputs that are measured with an error.",
        ["*regress*", "*quantile*", "*input_noise*"],
    ),
    (
        "7_segmentation",
        "Segmentation",
        "Where in the image it is unsure.",
        ["*segment*", "*dense*"],
    ),
    (
        "a_noise",
        "Noisy labels",
        "Labels that are wrong, uncertain, or softened on purpose.",
        ["*label_noise*", "*noisy*", "*smoothing*", "*uncertain_label*"],
    ),
    (
        "b_deployment",
        "Deployment",
        "Networks that are trained already, and predictions from several views.",
        ["*trained*", "*augmentation*", "*onnx*", "*save*"],
    ),
]


def section_of(name: str) -> str:
    """Return the folder of the example ``plot_NAME.py``; unknown ones are tasks."""
    matches = ((f, any(fnmatch(name, p) for p in patterns)) for f, _, _, patterns in SECTIONS)
    return next((folder for folder, found in matches if found), SECTIONS[0][0])


def stage(docs: Path) -> None:
    """Copy the examples to the folders of their sections, if they changed."""
    staged, wanted = docs / "_examples", {}
    wanted["GALLERY_HEADER.rst"] = (
        "Gallery\n=======\n\nEach page is one script of ``examples/``. It ran when this site was "
        "built; its text and\npictures are what it printed and drew. ``python "
        "examples/plot_two_moons.py picture.png`` runs one.\n"
    )
    for path in sorted((docs.parent / "examples").glob("plot_*.py")):
        folder = section_of(path.stem.removeprefix("plot_"))
        wanted[f"{folder}/{path.name}"] = path.read_text()
    for folder, title, text, _ in SECTIONS:
        if any(name.startswith(folder + "/") for name in wanted):
            header = f"{title}\n{'-' * len(title)}\n\n{text}\n"
            wanted[f"{folder}/GALLERY_HEADER.rst"] = header
    for old in staged.rglob("*") if staged.exists() else ():
        if old.is_file() and old.relative_to(staged).as_posix() not in wanted:
            old.unlink()
    for folder in staged.glob("*/"):
        if not any(folder.glob("plot_*.py")):
            shutil.rmtree(folder)
    for name, text in wanted.items():
        path = staged / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def pages_of_examples(docs: Path) -> dict[str, str]:
    """Map ``plot_x.py`` to the page of the gallery that shows it."""
    return {
        path.name: f"gallery/{path.parent.name}/{path.stem}"
        for path in (docs / "_examples").glob("*/plot_*.py")
    }


def described_figures(block: Any, variables: Any, gallery: Any, **options: Any) -> str:
    """Save the open figures for the gallery; the label of a figure is its alternative text."""
    import matplotlib.pyplot as plt
    from sphinx_gallery.scrapers import figure_rst

    texts = []
    paths = iter(variables["image_path_iterator"])
    for number in plt.get_fignums():
        figure = plt.figure(number)
        path = next(paths)
        figure.savefig(path, dpi=100, bbox_inches="tight", facecolor="white")
        title = " ".join(str(figure.get_label()).split())
        if not title:
            source = Path(variables["src_file"]).name
            raise ExtensionError(f"{source}: give figure {number} a text, by figure.set_label")
        texts.append(figure_rst([path], gallery["src_dir"], title))
    plt.close("all")
    return "\n".join(texts)


def settings(docs: Path) -> dict[str, Any]:
    """Return the settings of sphinx-gallery, after sorting the examples into sections."""
    stage(docs)
    return {
        "examples_dirs": str(docs / "_examples"),
        "gallery_dirs": "gallery",
        "filename_pattern": r"/plot_",
        "backreferences_dir": "gallery/backreferences",
        "doc_module": ("skuq",),
        "image_scrapers": ("skuq_gallery.described_figures",),
        "within_subsection_order": "FileNameSortKey",
        "capture_repr": (),
        "remove_config_comments": True,
        "download_all_examples": False,
        "show_signature": False,
        "show_memory": False,
        "min_reported_time": 1,
        "plot_gallery": os.environ.get("GALLERY") != "no",
        "parallel": 2,
        "copyfile_regex": "",
    }
