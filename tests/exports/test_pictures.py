"""Tests of pictures of persons, cut out of a made film whose frames say by their colour which they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs import export
from jobs.shared.enhancing import Enhancer
from pipeline.arrays import Picture
from pipeline.errors import UserError
from pipeline.exports import pictures
from pipeline.exports.pictures import PictureSource, find_portraits
from pipeline.media.film import write_mp4
from pipeline.media.pictures import decode_jpeg, enlarge
from pipeline.rows import DATASETS
from pipeline.storage import records, tables
from pipeline.storage.content_ids import content_id
from pipeline.storage.output_index import SOURCES_FILE, OutputIndex
from pipeline.storage.sources import Source
from pipeline.storage.store import Store
from tests import builders
from tests.builders import Film, Walker
from tests.exports.outputs import run_export
from tests.small_outputs import video_row

WIDTH, HEIGHT, FPS, NUM_FRAMES = 160, 120, 10, 40
CONFIG = "c0ffee"
KNOBS = {"observe.fps": 5, "chunk.cell_seconds": 1, "biometrics.keep": True}


def colour(frame: int) -> int:
    """Return the grey value of a frame, from 1."""
    return 40 + 4 * frame


def write_film(path: Path) -> None:
    with path.open("wb") as file:
        grey = (np.full((HEIGHT, WIDTH, 3), colour(frame), np.uint8) for frame in range(1, NUM_FRAMES + 1))
        write_mp4(file, grey, fps=FPS, keyframe_every=7)


def box(left: float, top: float, width: float, height: float) -> dict[str, float]:
    return {"bb_xmin": left, "bb_ymin": top, "bb_width": width, "bb_height": height}


def write_output(place: Path, film: Path, knobs: Mapping[str, Any] = KNOBS) -> str:
    """Write an output of one film: person 1 has a face in frames 5 and 27, person 2 has none and is largest in 15."""
    store, video_id = Store(str(place)), content_id(Source(uri=str(film), name="", named_by=""))
    tables.create(store, keep_biometrics=True)

    def write(dataset: str, table_rows: list[dict[str, Any]]) -> None:
        of_video = [{"video_id": video_id} | row for row in table_rows]
        tables.write_rows(store, f"{dataset}/{video_id}.parquet", DATASETS[dataset], of_video)

    detections = [
        {
            "frame_num": frame,
            "time_s": round((frame - 1) / FPS, 6),
            "person_id": person,
            "score": 0.9,
            "interpolated": False,
        }
        | box(20, 20, 40, 50 + (frame == 15) * 20 * (person == 2))
        for frame in range(1, NUM_FRAMES + 1, 2)
        for person in (1, 2)
    ]
    write("detections", detections)
    judged = {"person_id": 1, "judged": True}
    face = [
        {"frame_num": 5, "quality": 0.4} | judged | box(30, 24, 20, 20),
        {"frame_num": 27, "quality": 0.8} | judged | box(30, 24, 20, 20),
    ]
    write("faces", face)
    recipe = {"knobs": knobs, "keys": {"observed": "o", "enriched": "e"}, "spaces": {}, "likenesses": {}, "models": {}}
    records.write_recipe(store, CONFIG, recipe | {"reduce_revision": 1})
    size = {"width": WIDTH, "height": HEIGHT, "fps": float(FPS), "num_frames": NUM_FRAMES}
    records.write_video(store, video_row(video_id, uri=str(film), config_id=CONFIG, **size))
    source = {"uri": str(film), "video_id": video_id, "csv": "csv/a/film.mp4.csv", "status": "done", "current": True}
    tables.write_rows(store, SOURCES_FILE, DATASETS["sources"], [source])
    return str(place)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    write_film(tmp_path / "film.mp4")
    return tmp_path / "film.mp4"


def picture(place: str, name: str) -> Picture:
    return decode_jpeg(Path(place, "export/pictures/a/film.mp4", name).read_bytes())


def test_everybody_is_shown_at_the_best_moment(tmp_path: Path, film: Path) -> None:
    place = write_output(tmp_path / "out", film)
    assert run_export(place, "pictures", "--arrays").exit_code == 0
    folder = Path(place, "export/pictures/a/film.mp4")
    names = {path.name for path in folder.iterdir()}
    assert names == {"0001.jpg", "0001.npy", "0001-face.jpg", "0001-face.npy", "0002.jpg", "0002.npy"}
    for name, frame in (("0001.jpg", 27), ("0001-face.jpg", 27), ("0002.jpg", 15)):
        assert abs(picture(place, name).mean() - colour(frame)) < 2
    body, face = (np.load(folder / name) for name in ("0001.npy", "0001-face.npy"))
    assert (body.shape, face.shape, body.dtype) == ((60, 48, 3), (32, 32, 3), np.uint8)


def test_pictures_are_written_only_where_biometrics_are_kept(tmp_path: Path, film: Path) -> None:
    place = write_output(tmp_path / "out", film, KNOBS | {"biometrics.keep": False})
    with pytest.raises(
        UserError, match="pictures of persons are biometric data, and no video of it was processed with"
    ):
        run_export(place, "pictures")
    assert not Path(place, "export").exists()


def test_pictures_go_when_biometrics_are_no_longer_kept(tmp_path: Path, film: Path) -> None:
    place = write_output(tmp_path / "out", film)
    run_export(place, "pictures")
    write_output(tmp_path / "out", film, KNOBS | {"biometrics.keep": False})
    with pytest.raises(UserError):
        run_export(place, "pictures")
    assert not list(Path(place, "export/pictures").rglob("*.jpg"))


def test_pictures_of_persons_who_are_gone_are_removed(tmp_path: Path, film: Path) -> None:
    place = write_output(tmp_path / "out", film)
    run_export(place, "pictures", "--arrays")
    stray = Path(place, "export/pictures/a/film.mp4/0009.jpg")
    stray.write_bytes(b"")
    run_export(place, "pictures")
    assert sorted(path.name for path in stray.parent.iterdir()) == ["0001-face.jpg", "0001.jpg", "0002.jpg"]


def test_a_source_that_has_changed_is_not_shown_as_these_persons(tmp_path: Path, film: Path) -> None:
    place = write_output(tmp_path / "out", film)
    run_export(place, "pictures")
    for spoil, why in (
        (lambda: film.write_bytes(b"other"), "it has changed"),
        (film.unlink, "it is not there any more"),
    ):
        spoil()
        result = run_export(place, "pictures")
        assert result.exit_code == export.FAILED
        assert why in result.stdout
        assert abs(picture(place, "0001.jpg").mean() - colour(27)) < 2  # the earlier one


def test_the_landmarks_of_the_chosen_face_are_read_back(tmp_path: Path) -> None:
    place, film = str(tmp_path), Film(4.0, [Walker(0, 4, x=20, look=1, age=30, face=1), Walker(0, 4, x=300, look=2)])
    work = builders.publish(film, [2], place, "biometrics.keep=true")
    row = OutputIndex.open(place).videos["v"]
    source = PictureSource(row, [], work.config.result_knobs(), work.ledger.keys)
    portraits = find_portraits(Store(place), row)
    landmarks = pictures._read_landmarks(Store(place), source, portraits)
    assert list(landmarks) == [1]
    assert landmarks[1].tolist() == [[portraits[0].face[0]] * 2] * 5  # pyright: ignore[reportOptionalSubscript]


LANDMARKS = np.array([[60.0, 50], [84, 50], [72, 64], [62, 76], [82, 76]])


def pasted(large: Picture, faces: NDArray[np.uint8], alignments: NDArray[np.floating]) -> Picture:
    from pipeline.models.face_restorer import paste_faces

    return paste_faces(large, faces, alignments)


@pytest.mark.parametrize("factor", [1, 2])
def test_a_restored_face_is_pasted_where_the_face_is(factor: int) -> None:
    """The restorer, which stands in for GFPGAN here, paints every face red."""
    grey = np.full((120, 140, 3), 100, np.uint8)
    seen: list[tuple[int, ...]] = []

    def restorer(faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        seen.append(faces.shape)
        return np.broadcast_to(np.array([255, 0, 0], np.uint8), faces.shape).copy()

    enhance = Enhancer(restorer, (lambda picture: enlarge(picture, 2)) if factor == 2 else None, pasted)
    result = enhance(grey, LANDMARKS)
    assert seen == [(1, 512, 512, 3)]
    assert result.shape == (120 * factor, 140 * factor, 3)
    x, y = (LANDMARKS.mean(axis=0) * factor).astype(int)
    assert result[y, x].tolist() == [255, 0, 0]
    assert result[5, 5].tolist() == [100, 100, 100]
    assert (enhance(grey, None) == 100).all()  # nobody's face


def test_options_of_models_are_for_pictures(tmp_path: Path, film: Path) -> None:
    place = write_output(tmp_path / "out", film)
    for option in (["--restore"], ["--upsample", "lanczos"], ["--arrays"], ["--set", "restore.batch=1"]):
        with pytest.raises(UserError, match=f"{option[0]} is for pictures"):
            run_export(place, "mot", *option)


def test_pictures_are_enlarged_on_demand(tmp_path: Path, film: Path) -> None:
    place = write_output(tmp_path / "out", film)
    run_export(place, "pictures", "--upsample", "lanczos")
    assert picture(place, "0001.jpg").shape == (120, 96, 3)
