"""The output of `status` when sources have changed."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobs.status import status
from pipeline import rows
from pipeline.storage import tombstones
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.records import write_video
from pipeline.storage.store import Store


def write_output(folder: Path, sources: dict[str, tuple[str, bool]]) -> str:
    """Write an output with a video for every content.

    sources: by name, the content and whether the source is still there.
    """
    index = OutputIndex(Store(str(folder)))
    for name, (video_id, current) in sources.items():
        row: dict[str, Any] = dict.fromkeys(rows.DATASETS["sources"].names)
        uri = f"/in/{name}"
        row |= {"uri": uri, "video_id": video_id, "current": current, "named_by": "/in", "csv": f"csv/{name}.csv"}
        index.sources[uri] = row | {"status": "done"}
    for video_id in {video_id for video_id, _ in sources.values()}:
        row = dict.fromkeys(rows.DATASETS["videos"].names)
        row |= {"video_id": video_id, "uri": "/in/x", "status": "done", "config_id": "c", "num_persons": 1}
        row |= {"num_frames": 10, "fps": 25.0, "duration_s": 0.4, "processed_at": datetime.now(UTC)}
        write_video(index.store, {name: row.get(name) for name in rows.DATASETS["videos"].names})
    index.save_sources()
    return str(folder)


@pytest.mark.parametrize(
    ("sources", "said_of_vanished", "counts"),
    [
        ({"a.mp4": ("v", True)}, None, ([], 0)),
        # The file is gone, and its content lives on under another name.
        (
            {"a.mp4": ("v", False), "b.mp4": ("v", True)},
            "1 source is gone (a.mp4); process --prune removes what is known of them",
            (["/in/a.mp4"], 0),
        ),
        (
            {"a.mp4": ("v", False), "b.mp4": ("w", False), "c.mp4": ("u", True)},
            "2 sources are gone (a.mp4, b.mp4) and 2 videos have no source any more; process --prune removes",
            (["/in/a.mp4", "/in/b.mp4"], 2),
        ),
        (
            {f"{letter}.mp4": ("v", False) for letter in "abcdefg"},
            "7 sources are gone (a.mp4, b.mp4, c.mp4, d.mp4, e.mp4 and 2 more) and 1 video has no source any more",
            ([f"/in/{letter}.mp4" for letter in "abcdefg"], 1),
        ),
    ],
)
def test_vanished_sources_and_videos_without_one_are_one_line(
    sources: dict[str, tuple[str, bool]],
    said_of_vanished: str | None,
    counts: tuple[list[str], int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri = write_output(tmp_path / "out", sources)
    status(uri)
    lines = [line for line in capsys.readouterr().out.splitlines() if "gone" in line or "--prune" in line]
    assert len(lines) == (said_of_vanished is not None)
    assert not lines or (said_of_vanished is not None and said_of_vanished in lines[0])
    status(uri, as_json=True)
    vanished = json.loads(capsys.readouterr().out)["vanished"]
    assert (vanished["sources"], vanished["videos"]) == counts


def test_forgotten_videos_and_persons_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = write_output(tmp_path / "out", {"a.mp4": ("v", True)})
    status(uri)
    assert "tombstones" not in capsys.readouterr().out
    for folder, name in ((tombstones.VIDEOS, "x"), (tombstones.VIDEOS, "y"), (tombstones.PERSONS, "v")):
        Store(uri).put(f"{folder}/{name}.json", b"{}")
    status(uri)
    said = "2 videos are forgotten and persons of 1 video are forgotten: tombstones keep them out"
    assert said in capsys.readouterr().out.replace("\n", " ")
    status(uri, as_json=True)
    assert json.loads(capsys.readouterr().out)["videos"]["forgotten"] == 2
