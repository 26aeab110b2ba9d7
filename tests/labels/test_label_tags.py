"""What tags say: widths, lanes, lists, converted columns, and which class they make."""

import numpy as np
import pytest

from geopipe.classes import ClassScheme, TagRule
from geopipe.labels.tags import clean, matching, parse_lanes, parse_tags, parse_width, width_of


@pytest.mark.parametrize(
    ("text", "metres"),
    [
        ("5.5", 5.5),
        ("5,5", 5.5),
        ("6", 6.0),
        ("6 m", 6.0),
        ("6m", 6.0),
        ("6.5 metres", 6.5),
        ("~7", 7.0),
        ("20 ft", 6.096),
        ("20'", 6.096),
        ("20'6\"", 6.2484),
        ("4;6", 4.0),
        (" 8 ", 8.0),
        ("0", None),
        ("-3", None),
        ("0.1", None),
        ("1000", None),
        ("5-6", None),
        ("narrow", None),
        ("", None),
        ("6 km", None),
        ("nan", None),
        ("inf", None),
        ("1e1", None),
    ],
)
def test_width_tag(text, metres):
    assert parse_width(text) == (None if metres is None else pytest.approx(metres, abs=1e-9))


@pytest.mark.parametrize(
    ("text", "lanes"),
    [("2", 2), ("2.0", 2), ("2;3", 2), ("1.5", None), ("0", None), ("many", None), ("99", None)],
)
def test_lanes_tag(text, lanes):
    assert parse_lanes(text) == lanes


def test_lanes_that_are_no_number_are_no_lanes():
    assert parse_lanes("nan") is None
    assert parse_lanes("inf") is None


def test_the_nearest_statement_of_a_width_wins():
    rule = TagRule(
        geometry="line",
        tags={"highway": ("*",)},
        width=7,
        widths={"highway": {"motorway": 12.0}},
        use_width_tag=True,
        lane_width=3.0,
    )
    assert width_of(rule, {"highway": "residential"}) == 7
    assert width_of(rule, {"highway": "motorway"}) == 12
    assert width_of(rule, {"highway": "motorway", "lanes": "5"}) == 15
    assert width_of(rule, {"highway": "motorway", "lanes": "5", "width": "20 ft"}) == 6.096
    assert width_of(rule, {"highway": "motorway", "lanes": "some", "width": "wide"}) == 12
    plain = TagRule(geometry="line", tags={"highway": ("*",)})
    assert width_of(plain, {"highway": "motorway", "lanes": "5", "width": "9"}) == 7


@pytest.mark.parametrize(
    ("cell", "tags"),
    [
        ('"highway"=>"primary","lanes"=>"2"', {"highway": "primary", "lanes": "2"}),
        ('"name"=>"a \\"b\\", c=>d","tunnel"=>"yes"', {"name": 'a "b", c=>d', "tunnel": "yes"}),
        ('{"highway": "primary", "lanes": 2, "x": null}', {"highway": "primary", "lanes": "2"}),
        ({"building": "yes"}, {"building": "yes"}),
        ([("building", "yes")], {"building": "yes"}),
        ("{broken", {}),
        (None, {}),
        (float("nan"), {}),
        ("", {}),
    ],
)
def test_cells_that_hold_many_tags(cell, tags):
    assert parse_tags(cell) == tags


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, None),
        (float("nan"), None),
        ("None", None),
        (" ", None),
        (2.0, "2"),
        (5.5, "5.5"),
        (7, "7"),
        (True, "yes"),
        (np.bool_(False), "no"),
        (" yes ", "yes"),
    ],
)
def test_cells_of_one_tag(cell, text):
    assert clean(cell) == text


@pytest.mark.parametrize(
    ("tags", "classes"),
    [
        ({"building": "yes"}, [1]),
        ({"building": "Apartments"}, [1]),
        ({"building": "no"}, []),
        ({"building": "yes;ruins"}, []),
        ({"building": "yes", "location": "underground"}, []),
        ({"highway": "residential"}, [2]),
        ({"highway": "footway; residential"}, [2]),
        ({"highway": "footway"}, []),
        ({"highway": "primary", "tunnel": "yes"}, []),
        ({"highway": "primary", "tunnel": "no", "bridge": "yes"}, [2]),
        ({"highway": "primary", "building": "yes"}, [1, 2]),
        ({}, []),
    ],
)
def test_which_tags_make_which_class(scheme, tags, classes):
    assert [i for i, _ in matching(scheme, tags)] == classes


def test_all_tags_of_a_rule_must_match():
    scheme = ClassScheme.from_dict(
        {
            "name": "x",
            "classes": [
                {"name": "other", "color": "#000000"},
                {
                    "name": "school",
                    "color": "#ffffff",
                    "rules": [
                        {"geometry": "polygon", "tags": {"building": ["*"], "amenity": ["school"]}}
                    ],
                },
            ],
        }
    )
    assert list(matching(scheme, {"building": "yes"})) == []
    assert [i for i, _ in matching(scheme, {"building": "yes", "amenity": "school"})] == [1]
