"""`rollcall links`: reasons of pairs, their pictures, and what is covered in these."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from jobs import links
from pipeline import rows
from pipeline.arrays import Faces, Picture
from pipeline.errors import UserError
from pipeline.media.cover import FILLED
from pipeline.storage import records, tables
from pipeline.storage.output_index import OutputIndex
from pipeline.video.anonymisation import FrameFaces
from pipeline.video.pair_pictures import CROP_PX, FRAME_PX
from tests import clips
from tests.builders import configured, recipe
from tests.filmed_outputs import Passer, publish_clips

PASSERS = [Passer(x=20, speed=0, end=20), Passer(x=24, speed=0, first=30), Passer(x=120, speed=0)]


class OneFace:
    """Finds a face in the upper right corner, where there is no person."""

    def __call__(self, crops: Sequence[Picture]) -> list[Faces]:
        faces = Faces(
            np.array([[160, 10, 180, 30]], np.float32), np.ones(1, np.float32), np.zeros((1, 5, 2), np.float32)
        )
        return [faces] * len(crops)


def filmed(place: Path, *settings: str) -> Path:
    """Return an output of a clip of bright and dark squares, in which the first two passers are a pair of tracklets."""
    squares = (np.indices((128, 192)) // 4).sum(axis=0) % 2 * 250
    picture = np.repeat(squares[..., None], 3, axis=2).astype(np.uint8)
    clip = clips.write_video(place / "clip.mp4", [picture] * 50)
    store = publish_clips(str(place / "out"), {clip: PASSERS})
    (video_id,) = OutputIndex.load(store).done()
    ids = {"video_id": video_id}
    pair = {"kind": "gap", "gap_s": 0.4, "motion": 0.1, "size": 1.1, "body_similarity": 0.95, "score": 5.0}
    content = {
        "tracklets": [
            ids | {"tracklet_id": number, "person_id": number, "shot": 1, "start_s": passer.first / 25, "end_s": 0.8}
            for number, passer in enumerate(PASSERS, start=1)
        ],
        "shots": [ids | {"shot": 1, "start_s": 0.0, "end_s": 2.0}],
        "links": [ids | pair | {"tracklet_a": 1, "tracklet_b": 2, "joined": False, "why": "unsure"}],
    }
    for name, values in content.items():
        tables.write_rows(store, f"{name}/{video_id}.parquet", rows.DATASETS[name], values)
    records.write_recipe(store, "c", recipe(configured("observe.fps=0", *settings)).to_json())
    return place / "out"


def run(place: Path, *options: object) -> Result:
    return CliRunner().invoke(links.app, [str(place), *map(str, options)], catch_exceptions=False)


def shares(folder: Path) -> tuple[float, float]:
    """Return which share of the only picture there has the colour of covers, and which has edges of squares."""
    (path,) = folder.rglob("*.png")
    assert path.name == "0001-0002.png"
    with Image.open(BytesIO(path.read_bytes())) as image:
        picture = np.asarray(image).astype(int)
    assert picture.shape[0] > FRAME_PX[1] + CROP_PX[1]
    is_filled = np.abs(picture - FILLED).max(axis=2) < 12
    return float(is_filled.mean()), float((np.abs(np.diff(picture[..., 0], axis=1)) > 60).mean())


def test_a_pair_is_shown_with_its_reason(tmp_path: Path) -> None:
    shown = run(filmed(tmp_path), "--doubtful").output
    assert "clip.mp4: 1 pair of tracklets" in shown
    assert (
        "tracklet 1 (person 1) until 0.80 s, tracklet 2 (person 2) from 1.20 s: apart, unsure: bodies are .95" in shown
    )
    assert "at most 1.50 times" in " ".join(shown.split())  # the limit of tables that do not state it


def test_heads_and_faces_are_covered_unless_biometrics_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FrameFaces, "load", lambda *_: OneFace())
    results = []
    for settings in ((), ("biometrics.keep=true",)):
        (place := tmp_path / f"kept{len(settings)}").mkdir()
        done = run(filmed(place, *settings), "--draw", place / "pictures")
        assert done.exit_code == 0, done.output
        assert "1 picture -> " in done.output
        results.append(shares(place / "pictures"))
    (filled, edges), (filled_kept, edges_kept) = results
    assert filled > filled_kept + 0.005
    assert edges < 0.95 * edges_kept


def test_a_source_that_is_gone_is_named_and_the_reasons_are_still_shown(tmp_path: Path) -> None:
    place = filmed(tmp_path, "biometrics.keep=true")
    (tmp_path / "clip.mp4").unlink()
    done = run(place, "--draw", tmp_path / "new" / "pictures")
    assert done.exit_code == links.FAILED
    assert "apart, unsure" in done.output
    assert "clip.mp4: " in done.output.splitlines()[-1]
    assert not (tmp_path / "new").exists()


def test_options_of_the_face_detector_need_draw(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="add --draw"):
        run(filmed(tmp_path), "--set", "faces.min_score=0.3")
