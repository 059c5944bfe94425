"""Tests of subtitles that say who is in the picture."""

import re
from fractions import Fraction
from pathlib import Path

from tests.builders import Film, Walker
from tests.exports.outputs import publish, run_export


def written(place: str, kind: str) -> str:
    assert run_export(place, kind).exit_code == 0
    return Path(place, f"export/{kind}/v.mp4.{kind}").read_text(encoding="utf-8")


def test_srt_names_who_is_in_the_picture(tmp_path: Path) -> None:
    film = Film(12.0, [Walker(0, 6, x=20, look=1, age=30), Walker(4, 11, x=300, y=260, look=2)])
    text = written(publish(str(tmp_path), {"v.mp4": film}), "srt")
    assert re.sub(r"\(\d+–\d+\)", "(…)", text) == (
        "1\n00:00:00,000 --> 00:00:04,160\nPerson 1: F, 30 (…)\n\n"
        "2\n00:00:04,160 --> 00:00:05,920\nPerson 1: F, 30 (…)\nPerson 2\n\n"
        "3\n00:00:05,920 --> 00:00:10,920\nPerson 2\n"
    )


def test_vtt_has_the_same_cues(tmp_path: Path) -> None:
    place = publish(str(tmp_path), {"v.mp4": Film(3.0, [Walker(0, 3, x=20, look=1)])})
    assert written(place, "vtt").startswith("WEBVTT\n\n00:00:00.000 --> 00:00:03.000\nPerson 1\n")


def test_a_detector_that_loses_somebody_for_a_moment_makes_no_flicker(tmp_path: Path) -> None:
    hidden = tuple((start + 0.5, start + 1.2) for start in range(1, 9))
    place = publish(str(tmp_path), {"v.mp4": Film(10.0, [Walker(0, 10, x=20, speed=5, look=1, hidden=hidden)])})
    assert written(place, "srt").count("-->") == 1


def test_cues_keep_in_step_at_29_97_frames_a_second(tmp_path: Path) -> None:
    fps = Fraction(30000, 1001)
    film = Film(62.0, [Walker(60, 62, x=20, look=1)], fps=fps)
    text = written(publish(str(tmp_path), {"v.mp4": film}), "srt")
    assert text.startswith("1\n00:01:00,127 --> 00:01:0")  # frame 1802 of 30000/1001 a second, from 0


def test_many_people_do_not_cover_the_picture(tmp_path: Path) -> None:
    walkers = [Walker(0, 3, x=40.0 * number, y=4.0 * number, speed=0, look=number) for number in range(14)]
    text = written(publish(str(tmp_path), {"v.mp4": Film(3.0, walkers)}, "track.tracker=bytetrack"), "srt")
    longest = max(text.splitlines(), key=len)
    assert len(text.splitlines()) <= 4
    assert "people: 1, 2, 3" in longest


def test_nobody_makes_an_empty_but_valid_file(tmp_path: Path) -> None:
    place = publish(str(tmp_path), {"v.mp4": Film(2.0, [])})
    assert written(place, "srt") == ""
    assert written(place, "vtt") == "WEBVTT\n"
