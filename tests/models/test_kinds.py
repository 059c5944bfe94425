"""The table of kinds agrees with the models and with the roles of a configuration."""

import inspect
from pkgutil import resolve_name
from typing import get_args

import pytest

from pipeline.config import Track, load
from pipeline.models.tracker_options import TRACKERS
from pipeline.weights.kinds import KINDS
from pipeline.weights.roles import roles_of

LOADED = sorted(name for name, kind in KINDS.items() if kind.loader)
PARTS = {part for kind in KINDS.values() for kinds in kind.parts.values() for part in kinds}
DETECTOR = {"min_score"}
SETTINGS = {
    "detector": {"image_size", "nms_iou", "max_per_frame", *DETECTOR},
    "look": {"input_px", *DETECTOR},
    "face_detector": {"input_px", *DETECTOR},
}
"""The settings that models.loading passes to each role, beside batch, device and half."""


@pytest.mark.parametrize("name", LOADED)
def test_the_loader_of_a_kind_takes_its_files_and_the_settings_of_its_roles(name: str) -> None:
    loader = resolve_name(f"pipeline.models.{KINDS[name].loader}")
    for role in KINDS[name].roles:
        files = dict.fromkeys(KINDS[name].parts or ["path"])
        settings = dict.fromkeys({"batch", "device", "half", *SETTINGS.get(role, set())})
        if KINDS[name].check_options or any(KINDS[part].check_options for part in _parts(name)):
            settings["options"] = None
        inspect.signature(loader).bind(**files, **settings)


def _parts(name: str) -> list[str]:
    return [kind for kinds in KINDS[name].parts.values() for kind in kinds]


def test_every_kind_has_a_loader_or_is_a_part() -> None:
    assert {name for name, kind in KINDS.items() if kind.loader is None} <= PARTS <= KINDS.keys()


def test_a_detector_for_crops_has_all_parts_of_the_one_for_pictures() -> None:
    stand_ins = {name: kind.in_pictures for name, kind in KINDS.items() if kind.in_pictures}
    assert stand_ins
    for name, stand_in in stand_ins.items():
        assert KINDS[stand_in].parts.items() <= KINDS[name].parts.items()
        assert set(KINDS[name].roles) <= set(KINDS[stand_in].roles)


def test_every_role_can_be_filled_and_no_kind_fills_an_unknown_one() -> None:
    assert {role for kind in KINDS.values() for role in kind.roles} == roles_of(load()).keys()


def test_the_configuration_lists_the_trackers_of_the_table() -> None:
    assert set(get_args(Track.model_fields["tracker"].annotation)) == TRACKERS.keys()
