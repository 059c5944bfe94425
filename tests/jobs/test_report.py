"""Tests of `rollcall report`, from the tables of an output to its page."""

import base64
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.report import app
from jobs.report import report as command
from jobs.shared.reporting import DEFAULTS, read_output, write_report
from pipeline.cores.groups import MIN_GROUP
from pipeline.errors import UserError
from pipeline.media.pictures import decode_jpeg, encode_jpeg
from pipeline.report.figures import figures_of
from pipeline.report.videos import VideoFigures
from pipeline.storage import video_rows
from pipeline.storage.compaction import compact_output
from pipeline.storage.store import Store
from tests.archives import write_archive
from tests.commands import rollcall_here
from tests.s3_proxy import S3Proxy


def report(*arguments: str) -> None:
    CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.fixture
def archive(tmp_path: Path) -> Store:
    return write_archive(Store(str(tmp_path / "out")), 4, people_per_video=6)


def test_the_page_is_in_the_output_and_its_place_is_printed(archive: Store, tmp_path: Path) -> None:
    place = tmp_path / "out" / "report" / "index.html"
    assert rollcall_here("report", archive.uri).stdout.splitlines() == [str(place)]
    page = place.read_text(encoding="utf-8")
    assert "shop 0002.mp4" in page
    assert "/archive/broken.mp4" in page
    assert "window.vegaEmbed" in page


def test_another_place_and_other_groups_can_be_named(archive: Store, tmp_path: Path) -> None:
    options = ["--output", str(tmp_path / "web"), "--age-groups", "0-17,18-64,65+", "--time-zone", "Asia/Tokyo"]
    report(archive.uri, *options, "--min-group", "1", "--summary-only")
    page = (tmp_path / "web" / "index.html").read_text(encoding="utf-8")
    assert "18–64" in page
    assert "Asia/Tokyo" in page
    assert not (tmp_path / "out" / "report").exists()


def test_the_smallest_group_that_is_shown_is_that_of_all_summaries() -> None:
    assert signature(command).parameters["min_group"].default == MIN_GROUP


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--time-zone", "Mars"), "there is no time zone 'Mars'"),
        (("--age-groups", "young"), "age groups must be rising years such as 0-12"),
    ],
)
def test_a_wrong_option_is_an_error_with_an_example(archive: Store, option: tuple[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        report(archive.uri, *option)


def test_a_folder_that_is_no_output_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no output of rollcall"):
        write_report(str(tmp_path))


def test_the_figures_of_a_snapshot_are_those_of_the_files(archive: Store) -> None:
    before, _ = read_output(archive.uri)
    compact_output(archive)
    after, _ = read_output(archive.uri)
    for name, table in before.tables.items():
        assert after.tables[name].sort_by("video_id").equals(table.sort_by("video_id")), name


def test_the_report_of_a_compacted_output_in_an_object_store_takes_few_requests(s3_proxy: S3Proxy) -> None:
    store = write_archive(Store(f"{s3_proxy.bucket}/out"), 20, people_per_video=2)
    video_rows.refresh(store)
    compact_output(store)
    s3_proxy.requests.clear()
    place = write_report(store.uri)
    assert sum(s3_proxy.requests.values()) <= 30
    assert "shop 0002.mp4" in store.read(place.removeprefix(f"{store.uri}/")).decode()


def test_pictures_that_the_output_keeps_are_in_the_page_but_not_those_of_earlier_tables(archive: Store) -> None:
    picture = encode_jpeg(np.full((200, 100, 3), 90, np.uint8), 95)
    for name in (
        "shop 0000.mp4/0001.jpg",
        "shop 0000.mp4/0001-face.jpg",
        "shop 0001.mp4/0002.jpg",
        "else.mp4/0001.jpg",
    ):
        archive.put(f"export/pictures/{name}", picture)
    os.utime(archive.full("export/pictures/shop 0001.mp4/0002.jpg"), (0, 0))
    (persons,) = [video.persons for video in videos_of(archive) if video.name == "shop 0000.mp4"]
    assert persons is not None
    encoded = base64.b64decode(persons[0][-1].removeprefix("data:image/jpeg;base64,"))
    assert decode_jpeg(encoded).shape == (96, 48, 3)
    others = [video.persons or [] for video in videos_of(archive) if video.name != "shop 0000.mp4"]
    assert not [person for people in others for person in people if isinstance(person[-1], str)]
    write_report(archive.uri, replace(DEFAULTS, summary_only=True))
    assert "data:image/jpeg" not in archive.read("report/index.html").decode()


def videos_of(store: Store) -> Sequence[VideoFigures]:
    tables, _ = read_output(store.uri, with_pictures=True)
    return figures_of(tables, DEFAULTS, None, 1000).videos


def test_a_video_whose_tables_are_damaged_is_left_out_and_named(archive: Store, tmp_path: Path) -> None:
    broken = sorted((tmp_path / "out" / "persons").glob("0*.parquet"))[0]
    broken.write_bytes(b"no table")
    write_report(archive.uri)
    page = (tmp_path / "out" / "report" / "index.html").read_text(encoding="utf-8")
    assert "Left out of this report" in page
    assert re.search(r"<dt>Videos</dt><dd>3</dd>", page)
