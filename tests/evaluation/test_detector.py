import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from typer.testing import CliRunner

from jobs.evaluate import app
from pipeline.arrays import Detections
from pipeline.errors import UserError
from pipeline.evaluation.detector import Matches, average_precision, curve, figures, intervals, match, precision_recall
from tests.shared import SHARED, needs_shared

NONE = np.zeros((0, 4), np.float32)
LABELS = np.array([[0, 0, 10, 20], [100, 0, 110, 20]], np.float32)


def found(*rows: tuple[float, float, float, float, float]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4])


def test_each_label_is_found_once_and_the_surest_counts() -> None:
    matches = match(
        found((0, 0, 10, 20, 0.9), (0, 0, 10, 19, 0.8), (101, 0, 111, 20, 0.7), (50, 0, 60, 9, 0.6)), LABELS
    )
    assert matches.right[:, 0].tolist() == [True, False, True, False]
    assert matches.right[:, 9].tolist() == [True, False, False, False]  # IoU .95
    assert matches.num_labels == 2


def test_what_lies_on_an_ignored_box_is_neither_right_nor_wrong() -> None:
    ignored = np.array([[200, 0, 210, 20], [0, 0, 10, 20]], np.float32)
    matches = match(found((0, 0, 10, 20, 0.9), (200, 1, 210, 20, 0.8), (300, 0, 310, 20, 0.7)), LABELS, ignored)
    assert_array_equal(matches.scores, np.array([0.9, 0.7], np.float32))
    assert matches.right[:, 0].tolist() == [True, False]


def test_precision_and_recall_over_pictures_at_a_threshold() -> None:
    some = [match(found((0, 0, 10, 20, 0.9), (50, 0, 60, 20, 0.5)), LABELS), match(found((0, 0, 9, 9, 0.7)), NONE)]
    assert precision_recall(some, 0.6) == (0.5, 0.5)
    assert precision_recall(some, 0.8) == (1.0, 0.5)
    assert precision_recall(some, 0.5) == (1 / 3, 0.5)
    assert precision_recall(some, 0.95) == (1.0, 0.0)
    points = {point["threshold"]: (point["precision"], point["recall"]) for point in curve(some)}
    assert points[0.6] == (0.5, 0.5)
    assert points[0.95] == (1.0, 0.0)


def test_average_precision_is_that_of_coco(tmp_path: Path) -> None:
    """To the width of a step of COCO's 101 recalls; Ultralytics interpolates between them."""
    rng = np.random.default_rng(0)
    matches, images, annotations, results = [], [], [], []
    for image in range(60):
        corners = rng.uniform(0, 300, (rng.integers(0, 5), 2))
        labels = np.hstack([corners, corners + rng.uniform(20, 60, corners.shape)]).astype(np.float32)
        moved = labels[rng.random(len(labels)) < 0.8] + rng.normal(0, 3, 4)
        corners = rng.uniform(0, 300, (rng.integers(0, 3), 2))
        boxes = np.vstack([moved, np.hstack([corners, corners + 40])]).astype(np.float32)
        scores = (rng.permutation(1000)[: len(boxes)] / 1000).astype(np.float32)
        order = np.argsort(-scores)
        matches.append(match(Detections(boxes[order], scores[order]), labels))
        images.append({"id": image})
        for box, rows in ((labels, annotations), (boxes, results)):
            for index, (x, y, right, bottom) in enumerate(box.tolist()):
                row = {"image_id": image, "category_id": 1, "bbox": [x, y, right - x, bottom - y]}
                extra = {"id": len(rows) + 1, "iscrowd": 0, "area": (right - x) * (bottom - y)}
                rows.append(row | (extra if rows is annotations else {"score": float(scores[index])}))
    (tmp_path / "gt.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1}]})
    )
    truth = COCO(str(tmp_path / "gt.json"))
    (tmp_path / "found.json").write_text(json.dumps(results))
    coco = COCOeval(truth, truth.loadRes(str(tmp_path / "found.json")), "bbox")
    coco.evaluate()
    coco.accumulate()
    coco.summarize()
    ours = average_precision(matches)
    assert_allclose([ours[0], ours.mean()], [coco.stats[1], coco.stats[0]], atol=0.012)
    assert 0.1 < ours.mean() < ours[0] < 0.9


def test_nothing_found_and_nothing_there() -> None:
    empty = match(found(), NONE)
    assert average_precision([empty]).tolist() == [0.0] * 10
    assert average_precision([match(found(), LABELS)])[0] == 0.0
    assert figures([empty], 0.5).precision == 1.0


def test_intervals_hold_the_figure_and_shrink_with_more_pictures() -> None:
    def some(count: int) -> list[Matches]:
        half = found((0, 0, 10, 20, 0.9), (50, 0, 60, 20, 0.8))
        return [match(half if index % 3 else found(), LABELS) for index in range(count)]

    few, many = (intervals(some(count), 0.5, resamples=200, seed=1)["recall"] for count in (12, 300))
    recall = precision_recall(some(300), 0.5)[1]
    assert few[0] <= recall <= few[1]
    assert many[0] <= recall <= many[1]
    assert many[1] - many[0] < few[1] - few[0]
    assert intervals(some(12), 0.5, resamples=200, seed=1)["recall"] == few


def evaluate(*arguments: str | Path) -> None:
    CliRunner().invoke(app, ["detector", *map(str, arguments)], catch_exceptions=False)


def write(path: Path, height: int = 48, width: int = 64) -> None:
    cv2.imwrite(str(path), np.full((height, width, 3), 99, np.uint8))


@pytest.mark.parametrize(
    ("images", "gt", "reason"),
    [
        ("absent", "gt.csv", "there is no file or folder .*absent.*; correct --images"),
        ("pictures", "absent.csv", r"there is no file or folder .*absent\.csv.*"),
        ("pictures/a.png", "gt.csv", "must be a folder of pictures if --gt is a CSV"),
        ("pictures", "gt.txt", "has boxes in frame 7, .* only 1 frames"),
        ("pictures", "gt.csv", r"names z\.png, which is not in --images"),
    ],
)
def test_a_mistake_is_refused_with_a_reason(tmp_path: Path, images: str, gt: str, reason: str) -> None:
    (tmp_path / "pictures").mkdir()
    write(tmp_path / "pictures" / "a.png")
    (tmp_path / "gt.csv").write_text("image,xmin,ymin,xmax,ymax\nz.png,1,2,3,4\n")
    (tmp_path / "gt.txt").write_text("7,1,1,2,3,4,1\n")
    with pytest.raises(UserError, match=reason):
        evaluate("--images", tmp_path / images, "--gt", tmp_path / gt, "--detector", "yolov8n")


CONFIG = Path(__file__).parents[1] / "conf" / "shared-weights.yaml"


def test_an_entry_that_finds_neither_people_nor_faces_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    (tmp_path / "gt.csv").write_text("image,xmin,ymin,xmax,ymax\n")
    with pytest.raises(UserError, match="must be of kind yolo, or of a kind that detects faces"):
        evaluate("--images", tmp_path, "--gt", tmp_path / "gt.csv", "--detector", "ssrnet", "--config", CONFIG)


def test_a_box_outside_of_its_picture_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    (tmp_path / "gt.csv").write_text("image,xmin,ymin,xmax,ymax\na.png,64,2,80,40\n")
    with pytest.raises(UserError, match=r"a box outside of the picture a\.png, which has 64x48 px; correct"):
        evaluate("--images", tmp_path, "--gt", tmp_path / "gt.csv", "--detector", "starter")


@needs_shared
def test_detectors_of_people_and_of_faces(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = (SHARED / "datasets" / "faces" / "gt.csv").read_text().splitlines()
    names = sorted({row.split(",")[0] for row in rows[1:]})[:4]
    for name in names:
        (folder / name).symlink_to(next((SHARED / "datasets" / "faces").glob(f"**/{name}")))
    (tmp_path / "gt.csv").write_text("\n".join([rows[0], *(row for row in rows if row.split(",")[0] in names)]))
    common = ("--images", folder, "--gt", tmp_path / "gt.csv", "--config", CONFIG, "--resamples", "20")
    evaluate(*common, "--detector", "yunet", "--detector", "yolov8n", "--json", tmp_path / "told.json")
    figures = json.loads((tmp_path / "told.json").read_text())
    assert set(figures["pooled"]) == {"ap50", "ap", "precision", "recall", "frames_per_s"}
    assert figures["detector"] == "yunet"
    assert figures["pictures"] == 4
    assert figures["pooled"]["ap50"] > 0.7
    assert figures["pooled"]["recall"] > 0.7
    assert figures["others"]["yolov8n"]["pooled"]["ap50"] < 0.5  # people are no faces
