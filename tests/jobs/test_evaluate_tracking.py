"""Tests of `rollcall evaluate tracking` and `rollcall export` on the output of two people who walk through a film."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from jobs import export
from jobs.evaluate import app
from pipeline.errors import UserError
from pipeline.rows import DATASETS
from pipeline.storage.output_index import SOURCES_FILE
from pipeline.storage.records import quarantined_row, write_video
from pipeline.storage.store import Store
from pipeline.storage.tables import write_rows
from pipeline.video.reduce import reduce_video
from pipeline.video.track import track_part
from tests.builders import FPS, Film, Walker, job

FRAMES = 4 * FPS
ANALYSED = 32
FILM = Film(4.0, [Walker(0, 4, x=20, look=1), Walker(0, 2, x=400, look=2)])
KEYS = ("hota", "deta", "assa", "idf1", "mota", "id_switches", "b_cubed_precision", "b_cubed_recall")


def make(place: str, film: Film = FILM, names: Sequence[str] = ("sub/film.mp4",), fps: float = 8) -> str:
    work = job(film, [], place, f"observe.fps={fps:g}")
    reduce_video(work, lambda parts: [track_part(part) for part in parts])
    store = Store(place)
    sources = [
        {"uri": f"/in/{name}", "video_id": "v", "csv": f"csv/{name}.csv", "status": "done", "current": True}
        for name in names
    ]
    write_rows(store, SOURCES_FILE, DATASETS["sources"], sources)
    store.put("run.json", json.dumps({"config_id": "c", "configuration": work.config.plain()}).encode())
    return place


def write_truth(path: Path, film: Film, num_frames: int = FRAMES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for frame in range(1, num_frames + 1):
        for name, walker in enumerate(film.walkers, start=1):
            if box := walker.box((frame - 1) / FPS):
                left, top, right, bottom = box
                lines.append(f"{frame},{name},{left},{top},{right - left},{bottom - top},1,-1,-1,-1\n")
    path.write_text("".join(lines))
    return path


ONLY_ANALYSED = ("--frames", "analysed")


@pytest.fixture
def output(tmp_path: Path) -> str:
    return make(str(tmp_path / "out"))


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return write_truth(tmp_path / "film" / "gt" / "gt.txt", FILM)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["tracking", *map(str, arguments)], catch_exceptions=False)


def evaluate(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    report = tmp_path / "figures" / "report.json"
    result = run(*arguments, "--json", report)
    assert result.exit_code == 0
    assert "pooled" in result.stdout
    return json.loads(report.read_text())


def write_mot(uri: str, *options: str) -> Result:
    return CliRunner().invoke(export.app, [uri, "--format", "mot", *options], catch_exceptions=False)


def test_an_output_against_its_truth(output: str, truth: Path, tmp_path: Path) -> None:
    figures = evaluate(tmp_path, "--result", output, "--reference", truth, *ONLY_ANALYSED)
    assert list(figures["videos"]) == ["sub/film.mp4"]
    assert figures["pooled"] == figures["videos"]["sub/film.mp4"]
    assert [figures["pooled"][name] for name in KEYS] == [1, 1, 1, 1, 1, 0, 1, 1]
    assert figures["pooled"]["num_frames"] == ANALYSED
    every = evaluate(tmp_path, "--result", output, "--reference", truth)["pooled"]
    assert every["num_frames"] == FRAMES
    assert every["idf1"] > 0.98  # the last detection at 1.92 s is not held until 1.96 s


def test_analysed_frames_without_anybody_are_judged(output: str, tmp_path: Path) -> None:
    """The truth always has a person whom nobody detected, and the film shows no other person after 2 s."""
    short = make(str(tmp_path / "short"), Film(4.0, FILM.walkers[1:]))
    truth = write_truth(tmp_path / "gt.txt", Film(4.0, [Walker(0, 4, x=20, y=250)]))
    figures = evaluate(tmp_path, "--result", short, "--reference", truth, *ONLY_ANALYSED)["pooled"]
    assert (figures["num_frames"], figures["recall"]) == (ANALYSED, 0)
    assert figures["mota"] == pytest.approx(-0.5)  # 32 missed, 16 invented


def test_a_frame_that_only_one_output_analysed_is_left_out(output: str, tmp_path: Path) -> None:
    every = make(str(tmp_path / "every"), fps=0)
    for result, reference, num_frames in ((every, every, FRAMES), (every, output, ANALYSED), (output, every, ANALYSED)):
        figures = evaluate(tmp_path, "--result", result, "--reference", reference, *ONLY_ANALYSED)["pooled"]
        assert figures["num_frames"] == num_frames


def test_a_video_without_people_is_judged_and_exported(tmp_path: Path) -> None:
    empty = make(str(tmp_path / "empty"), Film(4.0, []))
    truth = write_truth(tmp_path / "gt.txt", FILM)
    figures = evaluate(tmp_path, "--result", empty, "--reference", truth, *ONLY_ANALYSED)["pooled"]
    assert (figures["num_frames"], figures["recall"], figures["num_ids_there"]) == (ANALYSED, 0, 2)
    write_mot(empty)
    assert Path(empty, "export/mot/sub/film.mp4.txt").read_bytes() == b""


def test_without_the_run_that_analysed_a_video_its_frames_are_not_known(output: str, truth: Path) -> None:
    Store(output).put("run.json", b'{"config_id": "other"}')
    with pytest.raises(UserError, match="choose --frames all"):
        run("--result", output, "--reference", truth, *ONLY_ANALYSED)
    assert run("--result", output, "--reference", truth).exit_code == 0


def test_an_export_scores_as_the_output_that_it_was_made_of(output: str, truth: Path, tmp_path: Path) -> None:
    write_mot(output)
    text = Path(output, "export/mot/sub/film.mp4.txt")
    direct = evaluate(tmp_path, "--result", output, "--reference", truth)["pooled"]
    assert evaluate(tmp_path, "--result", text, "--reference", truth)["pooled"] == direct
    turned = evaluate(tmp_path, "--result", truth, "--reference", output)["pooled"]
    assert (direct["precision"], direct["recall"]) == (turned["recall"], turned["precision"])
    assert direct["recall"] < direct["precision"]


def test_pairs_of_one_name_stay_apart_and_are_pooled(output: str, truth: Path, tmp_path: Path) -> None:
    empty = tmp_path / "nobody.txt"
    empty.write_text("")
    figures = evaluate(tmp_path, "--result", truth, "--reference", truth, "--result", empty, "--reference", truth)
    assert list(figures["videos"]) == ["film", "2:film"]
    assert [figures["videos"][name]["recall"] for name in figures["videos"]] == [1, 0]
    assert figures["pooled"]["recall"] == 0.5


def test_a_returned_person_is_one_person_of_two_tracklets(tmp_path: Path) -> None:
    film = Film(4.0, [Walker(0, 4, x=20, look=1)], cuts=[2.0])
    output = make(str(tmp_path / "out"), film)
    truth = write_truth(tmp_path / "gt.txt", film)
    assert len(pd.read_parquet(Path(output, "persons"))) == 1
    person = evaluate(tmp_path, "--result", output, "--reference", truth)["pooled"]
    tracklet = evaluate(tmp_path, "--result", output, "--reference", truth, "--ids", "tracklet")["pooled"]
    assert [person[name] for name in ("num_ids_found", "id_switches", "b_cubed_recall")] == [1, 0, 1]
    assert [tracklet[name] for name in ("num_ids_found", "id_switches", "b_cubed_recall")] == [2, 1, 0.5]


def test_rows_of_a_truth_that_do_not_count_are_left_out_and_those_of_a_result_are_not(tmp_path: Path) -> None:
    truth, result = tmp_path / "gt.txt", tmp_path / "result.txt"
    truth.write_text("1,1,0,0,10,10,1\n1,2,50,0,10,10,0\n")
    result.write_text("1,1,0,0,10,10,0\n1,2,50,0,10,10,0.5\n")
    figures = evaluate(tmp_path, "--result", result, "--reference", truth)["pooled"]
    assert (figures["mota"], figures["precision"], figures["num_ids_there"]) == (1, 1, 1)
    result.write_text("1,1,0,0,10,10,0\n1,1,50,0,10,10,0\n")
    with pytest.raises(UserError, match=r"result\.txt has the id 1 twice in frame 1"):
        run("--result", result, "--reference", truth)


def test_an_output_of_several_videos_is_compared_with_the_one_of_the_name(output: str, truth: Path) -> None:
    write_video(Store(output), quarantined_row("w", "/in/w.mp4", "c", "", "") | {"status": "done"})
    assert "sub/film.mp4" in run("--result", output, "--reference", truth).stdout
    renamed = write_truth(truth.parent / "other.txt", FILM)
    with pytest.raises(UserError, match=r"holds 2 videos, 0 of them named other; put .*other\.txt into a folder"):
        run("--result", output, "--reference", renamed)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1,1,0,0,10,10,1\n1,1,5,5,10,10,1\n", r"gt\.txt has the id 1 twice in frame 1"),
        ("101,1,0,0,10,10,1\n", r"gt\.txt has boxes in frame 101, sub/film\.mp4 in .* only 100 frames"),
        ("1,1,0,0,10,10,0\n", r"gt\.txt has no row that counts"),
        ("", r"gt\.txt has no row that counts"),
        ("a,b\n", r"gt\.txt is not in MOT form: line 1"),
    ],
)
def test_a_truth_that_cannot_be_used_is_refused(output: str, truth: Path, text: str, reason: str) -> None:
    truth.write_text(text)
    with pytest.raises(UserError, match=reason):
        run("--result", output, "--reference", truth)


def test_wrong_usage_is_refused_with_a_reason(output: str, truth: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="got 2 --result and 1 --reference"):
        run("--result", output, "--result", output, "--reference", truth)
    with pytest.raises(UserError, match=r"gone\.txt cannot be read: No such file"):
        run("--result", output, "--reference", tmp_path / "gone.txt")
    with pytest.raises(UserError, match="there is no folder"):
        run("--result", tmp_path / "gone", "--reference", truth)
    other = make(str(tmp_path / "other"))
    Store(other).delete("videos/v.parquet")
    with pytest.raises(UserError, match="have no video in common"):
        run("--result", output, "--reference", other)


# --- export ----------------------------------------------------------------------------------------------------------


def test_every_box_is_a_line_of_mot(output: str) -> None:
    assert "1 file" in write_mot(output).stdout
    text = pd.read_csv(Path(output, "export/mot/sub/film.mp4.txt"), header=None)
    table = pd.read_parquet(Path(output, "detections"))
    columns = ["frame_num", "person_id", "bb_xmin", "bb_ymin", "bb_width", "bb_height"]
    assert text[[0, 1, 2, 3, 4, 5]].to_numpy().tolist() == table[columns].to_numpy().tolist()
    assert text[6].tolist() == table["score"].fillna(-1).tolist()
    assert table["interpolated"].any()
    assert (text[[7, 8, 9]] == -1).all(axis=None)


def test_a_tracklet_may_be_the_id(tmp_path: Path) -> None:
    output = make(str(tmp_path / "out"), Film(4.0, [Walker(0, 4, x=20, look=1)], cuts=[2.0]))
    for ids, count in (("person", 1), ("tracklet", 2)):
        write_mot(output, "--ids", ids)
        assert pd.read_csv(Path(output, "export/mot/sub/film.mp4.txt"), header=None)[1].nunique() == count


def test_the_folder_holds_what_the_output_holds(tmp_path: Path) -> None:
    output = make(str(tmp_path / "out"), names=["a.mp4", "b/a.mp4"])
    write_mot(output)
    store = Store(output)
    assert store.names("export") == ["export/mot/a.mp4.txt", "export/mot/b/a.mp4.txt"]
    write_rows(store, SOURCES_FILE, DATASETS["sources"], [])  # no source has the video any more
    write_mot(output)
    assert store.names("export") == ["export/mot/v.txt"]
    write_video(store, quarantined_row("v", "/in/v.mp4", "c", "observe", "broken"))
    assert "0 files" in write_mot(output).stdout
    assert store.names("export") == []


def test_no_half_written_file_is_visible(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mot(output)
    path = Path(output, "export/mot/sub/film.mp4.txt")
    before = path.read_bytes()
    Path(output, "detections/v.parquet").write_bytes(b"broken")
    result = write_mot(output)
    assert result.exit_code == export.FAILED
    assert "sub/film.mp4.txt: what is stored of it cannot be read" in result.stdout
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_object_store_is_a_place_like_any_other(bucket: str, tmp_path: Path) -> None:
    remote, local = make(f"{bucket}/out"), make(str(tmp_path / "out"))
    for uri in (remote, local):
        write_mot(uri)
    name = "export/mot/sub/film.mp4.txt"
    assert Store(remote).read(name) == Store(local).read(name)
    figures = evaluate(tmp_path, "--result", f"{remote}/{name}", "--reference", remote)
    assert figures["pooled"]["hota"] == 1


def test_an_export_that_is_impossible_is_refused(tmp_path: Path, output: str) -> None:
    with pytest.raises(UserError, match="is no output of rollcall"):
        write_mot(str(tmp_path))
    assert CliRunner().invoke(export.app, [output, "--format", "word"]).exit_code == 2
