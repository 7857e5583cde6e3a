"""Options: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm3ac_modules.algorithms import presets
from vm3ac_modules.options import Options, OptionsError, option
from vm3ac_modules.runs import BattleTraining, StepTraining


@dataclass(frozen=True, kw_only=True)
class Sample(Options):
    """One option of every kind."""

    whole: int = option(3, "a count", unit="steps", least=1, most=9, source="Table 1")
    rate: float = option(0.5, "a rate", above=0, most=1)
    any_number: float = option(0.0, "any number at all")
    maybe: float | None = option(None, "a norm", above=0)
    switch: bool = option(False, "a switch")
    word: str = option("one", "a word", choices=("one", "two"))
    text: str = option("", "free text")
    maybe_word: str | None = option(None, "a word, or none", choices=("one", "two"))
    widths: tuple[int, ...] = option((8, 8), "widths", least=1)
    each: float | tuple[float, ...] = option(0.1, "one for all or one each", least=0)
    count: int | str = option(0, "how many, or a word", least=0, choices=("all",))


DEFAULTS = Sample()
NUMBERS = ["whole", "rate", "any_number", "maybe", "widths", "each", "count"]
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.one_of(st.integers(), st.floats(), st.booleans(), st.text(max_size=2)), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.binary(max_size=3),
    st.complex_numbers(),
)


@given(st.integers(1, 9), st.booleans())
def test_whole_numbers_in_their_range(value, as_float):
    kept = replace(DEFAULTS, whole=float(value) if as_float else value).whole
    assert kept == value
    assert type(kept) is int


@given(st.integers().filter(lambda x: not 1 <= x <= 9))
def test_whole_numbers_out_of_their_range(value):
    with pytest.raises(OptionsError, match=f"whole must be an integer >= 1 and <= 9, got {value}"):
        replace(DEFAULTS, whole=value)


@given(FINITE.filter(lambda x: not x.is_integer()))
def test_a_fraction_is_no_whole_number(value):
    with pytest.raises(OptionsError, match="whole must be an integer"):
        replace(DEFAULTS, whole=value)


@given(st.floats(0, 1, exclude_min=True))
def test_numbers_up_to_a_limit(value):
    assert replace(DEFAULTS, rate=value).rate == value


@given(FINITE.filter(lambda x: not 0 < x <= 1))
def test_numbers_beyond_a_limit(value):
    with pytest.raises(OptionsError, match="rate must be a number > 0 and <= 1, got "):
        replace(DEFAULTS, rate=value)


@given(FINITE)
def test_any_finite_number(value):
    assert replace(DEFAULTS, any_number=value).any_number == value


@pytest.mark.parametrize("name", ["rate", "maybe"])
@pytest.mark.parametrize("value", [0, 0.0, -0.0])
def test_zero_is_not_above_zero(name, value):
    with pytest.raises(OptionsError, match=f"{name} must be a number > 0"):
        replace(DEFAULTS, **{name: value})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [True, False, math.nan, math.inf, -math.inf])
def test_a_switch_is_no_number_and_neither_is_what_is_not_finite(name, value):
    for given_value in (value, [value]):
        with pytest.raises(OptionsError, match=f"{name} must be "):
            replace(DEFAULTS, **{name: given_value})


@pytest.mark.parametrize("value", [0, 1, 1.0, "true", None, []])
def test_only_true_and_false_switch(value):
    with pytest.raises(OptionsError, match="switch must be true or false"):
        replace(DEFAULTS, switch=value)
    assert replace(DEFAULTS, switch=True).switch is True


@given(st.text())
def test_words(value):
    assert replace(DEFAULTS, text=value).text == value
    if value in ("one", "two"):
        assert replace(DEFAULTS, word=value).word == value
    else:
        with pytest.raises(OptionsError, match="word must be one or two, got"):
            replace(DEFAULTS, word=value)


def test_nothing_only_where_it_is_allowed():
    for name in DEFAULTS.names():
        if name.startswith("maybe"):
            assert getattr(replace(DEFAULTS, **{name: None}), name) is None
        else:
            with pytest.raises(OptionsError, match=f"{name} must be .*, got None"):
                replace(DEFAULTS, **{name: None})


@given(st.lists(st.integers(1, 500), min_size=1, max_size=4), st.booleans())
def test_tuples_from_lists(values, as_tuple):
    kept = replace(DEFAULTS, widths=tuple(values) if as_tuple else values)
    assert kept.widths == tuple(values)
    assert all(type(width) is int for width in kept.widths)
    assert kept.to_dict()["widths"] == values


@pytest.mark.parametrize("values", [[], [0], [8, -1], [1.5], ["8"], 8, "8,8", [None], [[8]]])
def test_what_is_no_list_of_widths(values):
    with pytest.raises(OptionsError, match="widths must be a list of integers >= 1, got"):
        replace(DEFAULTS, widths=values)


@given(st.one_of(st.floats(0, 1e9), st.lists(st.floats(0, 1e9), min_size=1, max_size=3)))
def test_one_number_or_one_each(value):
    kept = replace(DEFAULTS, each=value).each
    assert kept == (tuple(value) if isinstance(value, list) else value)


def test_a_number_or_a_word():
    assert replace(DEFAULTS, count="all").count == "all"
    assert replace(DEFAULTS, count=4).count == 4
    for bad in ("none", -1, "4"):
        with pytest.raises(OptionsError, match="count must be an integer >= 0 or all, got"):
            replace(DEFAULTS, count=bad)


@given(st.sampled_from(DEFAULTS.names()), JUNK)
def test_anything_is_taken_or_refused_in_a_sentence(name, value):
    """No value ends in another error, and what is taken is taken again."""
    try:
        kept = replace(DEFAULTS, **{name: value})
    except OptionsError as error:
        said = str(error)
    else:
        said = f"{name} must be what it is."
        assert DEFAULTS.changed(kept.to_dict()) == kept
    assert said.startswith(f"{name} must be ")
    assert said.endswith(".")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "whole": st.integers(1, 9),
            "rate": st.floats(0, 1, exclude_min=True),
            "maybe": st.one_of(st.none(), st.floats(0, exclude_min=True, allow_infinity=False)),
            "switch": st.booleans(),
            "word": st.sampled_from(["one", "two"]),
            "text": st.text(),
            "widths": st.lists(st.integers(1, 99), min_size=1, max_size=3),
        },
    )
)
def test_json_round_trip(values):
    kept = DEFAULTS.changed(values)
    assert DEFAULTS.changed(json.loads(json.dumps(kept.to_dict()))) == kept


def test_an_unknown_name_is_answered_with_what_may_be_meant():
    with pytest.raises(OptionsError) as raised:
        DEFAULTS.changed({"rato": 1}, "sample")
    assert str(raised.value).startswith(
        "unknown option 'rato' of sample (did you mean 'rate'?); valid"
    )
    assert "whole, rate, any_number" in str(raised.value)
    with pytest.raises(OptionsError) as raised:
        DEFAULTS.changed({"zzzzzz": 1})
    assert "did you mean" not in str(raised.value)
    with pytest.raises(OptionsError, match="did you mean 'task'"):
        DEFAULTS.changed({"tesk": 1}, also=["task"])
    assert issubclass(OptionsError, ValueError)


def test_a_variant_is_checked_and_the_original_stays():
    assert replace(DEFAULTS, whole=9) == Sample(whole=9)
    assert DEFAULTS.whole == 3
    with pytest.raises(OptionsError, match="whole"):
        replace(DEFAULTS, whole=10)
    with pytest.raises(AttributeError):
        DEFAULTS.whole = 4
    with pytest.raises(TypeError):
        Sample(3)


def test_a_default_that_is_not_allowed_is_found():
    @dataclass(frozen=True, kw_only=True)
    class Wrong(Options):
        rate: float = option(2.0, "a rate", most=1)

    with pytest.raises(OptionsError, match="rate must be a number <= 1, got 2"):
        Wrong()


def test_the_table_says_what_is_allowed():
    rows = {row.name: row for row in replace(DEFAULTS, widths=(4,)).table()}
    assert list(rows) == DEFAULTS.names()
    said = ("an integer >= 1 and <= 9", "steps", "a count", "Table 1", ())
    assert rows["whole"] == ("whole", 3, *said)
    assert rows["widths"].default == [4]
    assert rows["maybe"].allowed == "a number > 0 or null"
    assert rows["each"].allowed == "a list of numbers >= 0 or a number >= 0"
    assert rows["count"].allowed == "an integer >= 0 or all"
    assert rows["text"].allowed == "text"


def test_a_subclass_that_changes_a_default_keeps_what_is_said():
    @dataclass(frozen=True, kw_only=True)
    class Other(type(DEFAULTS)):
        whole: int = 5

    own, base = ({row.name: row for row in options.table()} for options in (Other(), DEFAULTS))
    assert own["whole"] == base["whole"]._replace(default=5)
    with pytest.raises(OptionsError, match="whole must be an integer >= 1 and <= 9, got 10"):
        Other(whole=10)


GROUPS = {
    **{f"{k}/{n}": p.options for k in ("continuous", "discrete") for n, p in presets(k).items()},
    "train": StepTraining(),
    "battle": BattleTraining(),
}


@pytest.mark.parametrize("name", sorted(GROUPS))
def test_every_preset_round_trips(name):
    options = GROUPS[name]
    written = json.loads(json.dumps(options.to_dict()))
    assert options.changed(written) == options
    assert type(options)().changed(written) == options
    for row in options.table():
        assert row.meaning
        assert "\n" not in row.meaning
        assert row.allowed


@pytest.mark.parametrize("name", sorted(GROUPS))
def test_every_number_of_every_preset_refuses_what_is_none(name):
    options = GROUPS[name]
    for option_name, value in options.to_dict().items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            for bad in (math.nan, math.inf, True, "much"):
                with pytest.raises(OptionsError, match=f"^{option_name} must be "):
                    options.changed({option_name: bad})
