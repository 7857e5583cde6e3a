"""Runs that were never trained, for reports, and a reader of their pages."""

from __future__ import annotations

from html.parser import HTMLParser

from vm3ac_modules.files import write_csv, write_json
from vm3ac_modules.runs.record import write_config


def make_run(
    place, *, seed=0, lr=1e-3, task="guard", algorithm="vm3ac", last=0.5, more=None, **summary
):
    """The files of a run that was never trained."""
    place.mkdir(parents=True)
    named = {"name": algorithm, "lr": lr, "hidden": [8]}
    config = {"seed": seed, "run_dir": str(place), "frames": 100, "task": {"name": task}}
    write_config(place / "config.yaml", {**config, **(more or {}), "algorithm": named})
    rows = [
        {"frame": frame, "return_mean": value, "return_ci95": 0.1, "mi_upper_bound": "nan"}
        for frame, value in ((0, 0.1), (100, last))
    ]
    rows[1]["mi_upper_bound"] = 0.25
    write_csv(place / "eval.csv", rows)
    known = {"frames": 100, "eval_return_mean": last, "eval_return_ci95": 0.1, "notes": []}
    known |= {"versions": {"torch": "9.9"}, "git_commit": "abc", "random_return_mean": 0.05}
    write_json(place / "summary.json", {**known, **summary})
    return place


EVALUATED = {"frame": 100, "episodes": 4, "results": {}, "coordination": None}


class Reader(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())
