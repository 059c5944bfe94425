"""Tests of boxes as COCO has them, read by COCO's own reader."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pycocotools.coco import COCO

from tests.builders import Film, Walker
from tests.exports.outputs import FILM, WALKERS, publish, run_export, set_columns


def exported(place: str, *options: str) -> Any:
    assert run_export(place, "coco", *options).exit_code == 0
    return COCO(str(Path(place, "export/coco/a/v.mp4.json")))


@pytest.fixture
def place(tmp_path: Path) -> str:
    return publish(str(tmp_path), {"a/v.mp4": Film(6.0, WALKERS)})


def test_images_are_the_analysed_frames_and_annotations_the_detected_boxes(place: str) -> None:
    coco = exported(place)
    table = pd.read_parquet(Path(place, "detections"))
    detected = table[~table["interpolated"]]
    assert len(coco.getImgIds()) == pd.read_parquet(Path(place, "videos"))["num_analysed"].item() == 48  # 16 of nobody
    people = coco.loadAnns(coco.getAnnIds(catIds=coco.getCatIds(catNms=["person"])))
    assert [item["image_id"] for item in people] == detected["frame_num"].tolist()
    assert [item["track_id"] for item in people] == detected["person_id"].tolist()
    columns = ["bb_xmin", "bb_ymin", "bb_width", "bb_height"]
    assert [item["bbox"] for item in people] == detected[columns].to_numpy().round(1).tolist()
    first = coco.loadImgs(coco.getImgIds())[1]
    assert (first["file_name"], first["frame_num"], first["time_s"]) == ("a/v.mp4/00000005.jpg", 5, 0.16)
    assert (first["width"], first["height"]) == (640, 480)


def test_faces_are_annotations_of_their_own_category(place: str) -> None:
    coco = exported(place)
    faces = coco.loadAnns(coco.getAnnIds(catIds=coco.getCatIds(catNms=["face"])))
    stored = pd.read_parquet(Path(place, "faces"))
    assert [item["person_id"] for item in faces] == stored["person_id"].tolist()
    assert {item["image_id"] for item in faces} <= set(coco.getImgIds())


def test_a_tracklet_may_be_the_track(tmp_path: Path) -> None:
    place = publish(str(tmp_path), {"a/v.mp4": Film(4.0, [Walker(0, 4, x=20, look=1)], cuts=[2.0])})
    for ids, count in (("person", 1), ("tracklet", 2)):
        coco = exported(place, "--ids", ids)
        assert len({item["track_id"] for item in coco.loadAnns(coco.getAnnIds())}) == count


def test_ids_of_frames_do_not_drift_at_29_97_frames_a_second(tmp_path: Path) -> None:
    """With int(fps), a second later the time of a frame is a frame off."""
    fps = Fraction(30000, 1001)
    place = publish(str(tmp_path), {"a/v.mp4": Film(40.0, [Walker(0, 40, x=0, speed=10, look=1)], fps=fps)})
    images = exported(place).loadImgs(exported(place).getImgIds())
    assert max(abs(image["time_s"] - float((image["frame_num"] - 1) / fps)) for image in images) < 1e-6
    assert images[-1]["frame_num"] > 1190


def test_frames_of_nobody_are_left_out_if_they_are_not_certain(place: str) -> None:
    (video_id,) = (path.stem for path in Path(place, "persons").glob("*0.parquet"))
    set_columns(place, "videos", video_id, [{"num_analysed": 40}])
    assert len(exported(place).getImgIds()) == 32


def test_the_same_output_gives_the_same_bytes(place: str) -> None:
    exported(place)
    path = Path(place, "export/coco/a/v.mp4.json")
    before = path.read_bytes()
    exported(place)
    assert path.read_bytes() == before
    assert json.loads(before)["categories"] == [{"id": 1, "name": "person"}, {"id": 2, "name": "face"}]


def test_a_video_without_people_is_valid(tmp_path: Path) -> None:
    coco = exported(publish(str(tmp_path), {"a/v.mp4": Film(2.0, [])}))
    assert (len(coco.getImgIds()), len(coco.getAnnIds())) == (16, 0)
    assert FILM.duration_s == 4
