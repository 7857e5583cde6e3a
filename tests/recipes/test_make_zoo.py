"""The recipe of the zoo says what the package brings."""

from __future__ import annotations

import make_zoo
import pytest

from vm3ac_modules.runs import read_card, zoo_names


def test_every_entry_is_made_by_the_recipe():
    assert {f"zoo/{name}" for name in make_zoo.ENTRIES} == set(zoo_names())
    for name, (words, about, episodes) in make_zoo.ENTRIES.items():
        card = read_card(f"zoo/{name}")
        assert (card["about"], card["evaluation"]["episodes"]) == (about, episodes)
        said = dict(word.split("=", 1) for word in words.split() if "=" in word)
        assert int(said.get("frames", card["frame"])) == card["frame"]
        assert said["algorithm"] == card["algorithm"]
        # What changes what is learned stands in the card's command, too.
        for key, value in said.items():
            if key in ("num_envs", "batch_size", "buffer_size", "hidden") and value != "64":
                assert f"{key}={value}" in card["command"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["names=nobody"], "no entry nobody; valid: guard"), (["seed=1"], "'seed=1' is no option")],
)
def test_unknown_words(arguments, said):
    with pytest.raises(SystemExit, match=said):
        make_zoo.main(arguments)
