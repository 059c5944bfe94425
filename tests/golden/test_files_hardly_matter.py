"""A clip cut into three files, given as a sequence, has the persons of the whole clip.

    python -m tests.golden.test_files_hardly_matter [CLIP …]        # the figures

Every whole clip is encoded once, with a keyframe every second. Its files are copies of its packets, cut at
keyframes, and therefore have pixel for pixel the same frames.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linear_sum_assignment

from pipeline.boxes import pairwise_iou
from pipeline.evaluation.tracking import matched
from pipeline.storage.output_index import OutputIndex
from pipeline.storage.sources import Listing, Source
from pipeline.storage.store import Store
from pipeline.video.sequence_link import link_sequence
from pipeline.video.sequences import find_work
from tests import clips
from tests.golden.by_hand import process
from tests.shared import SHARED, needs_shared

CLIPS = {
    "one-by-one": SHARED / "clips" / "one-by-one.mp4",
    "meeting": SHARED / "clips" / "meeting.mp4",
    "PETS09-S2L1": SHARED / "gt" / "mot" / "PETS09-S2L1" / "PETS09-S2L1.mp4",
}
LEAST = 0.95

pytestmark = [needs_shared, pytest.mark.slow]


def make(name: str, folder: Path, *settings: str) -> None:
    """Publish a clip at `folder`/whole, and its three files, linked, at `folder`/parts."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = clips.re_encode(CLIPS[name], folder / f"{name}.mp4", b_frames=0)
    process(whole, folder / "whole", *settings)
    parts = clips.cut_into(whole, folder, 3)
    sources = []
    for number, part in enumerate(parts):
        process(part, folder / "parts", *settings, video_id=f"v{number}", in_sequence=True)
        sources.append(Source(uri=part.name, name=part.name, named_by="list", sequence="camera", place=number))
    index = OutputIndex.load(Store(str(folder / "parts")))
    index.name_sources(Listing(tuple(sources), 0, ("list",)))
    for number, part in enumerate(parts):
        index.set_source(part.name, video_id=f"v{number}")
    (job,) = find_work(index)
    link_sequence(job)


def compare(folder: Path) -> dict[str, float]:
    """Compare the two outputs of `make`.

    Rows are matched by box in every frame. Persons are matched so that most rows agree. In the result, `ids` is the
    share of rows of the whole clip that have the same person in the sequence. `boxes` is the share of rows that have
    a box at all.
    """
    truth = pd.read_parquet(folder / "whole" / "detections")
    found = pd.read_parquet(folder / "parts" / "detections").merge(
        pd.read_parquet(folder / "parts" / "sequences"), on=["video_id", "person_id"], validate="many_to_one"
    )
    videos = pd.read_parquet(folder / "parts" / "videos").set_index("video_id").sort_index()
    assert videos.num_frames.sum() == pd.read_parquet(folder / "whole" / "videos").num_frames[0]
    before = videos.num_frames.cumsum() - videos.num_frames
    found["frame_num"] += found.video_id.map(before)
    common = np.zeros((truth.person_id.max(), found.sequence_person_id.max()))
    for frame, there in truth.groupby("frame_num"):
        here = found[found.frame_num == frame]
        rows, columns = matched(pairwise_iou(_boxes(there), _boxes(here)))
        np.add.at(common, (there.person_id.to_numpy()[rows] - 1, here.sequence_person_id.to_numpy()[columns] - 1), 1)
    same = common[linear_sum_assignment(common, maximize=True)].sum()
    return {
        "ids": same / len(truth),
        "boxes": common.sum() / len(truth),
        "idf1": 2 * same / (len(truth) + len(found)),
        "rows": len(truth),
        "persons": truth.person_id.nunique(),
        "of the sequence": found.sequence_person_id.nunique(),
        "of its files": len(found.groupby(["video_id", "person_id"])),
    }


def _boxes(rows: pd.DataFrame) -> np.ndarray:
    left, top, width, height = (rows[f"bb_{name}"].to_numpy() for name in ("xmin", "ymin", "width", "height"))
    return np.stack([left, top, left + width, top + height], axis=1).astype(np.float32)


@pytest.mark.parametrize("name", CLIPS)
def test_three_files_have_the_persons_of_the_whole(name: str, tmp_path: Path) -> None:
    make(name, tmp_path)
    found = compare(tmp_path)
    assert found["ids"] >= LEAST, found


if __name__ == "__main__":
    for clip in sys.argv[1:] or CLIPS:
        with tempfile.TemporaryDirectory() as place:
            make(clip, Path(place))
            print(clip, {key: round(float(value), 4) for key, value in compare(Path(place)).items()}, flush=True)
