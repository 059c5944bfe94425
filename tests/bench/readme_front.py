"""The picture and the table on the first screen of the README, made from the output of the demo:
`python -m tests.bench.readme_front out/demo`.

The picture has the two shots of the astronaut, because that photograph is in the public domain.
"""

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

import rollcall
from jobs.demo import FPS, SECONDS_PER_SHOT, STORY
from jobs.shared.demo_clip import ASTRONAUT, WIDTH, clip_frames
from pipeline.arrays import Picture
from pipeline.media.draw import draw_people
from pipeline.media.pictures import resize_to_long_side

ROOT = Path(__file__).parents[2]
README, PICTURE = ROOT / "README.md", ROOT / "docs" / "demo.webp"
BEGIN, END = "<!-- persons of the demo -->\n", "<!-- end -->"
COLUMNS = ["file", "person_id", "start_s", "end_s", "age", "age_low", "age_high", "gender"]
SHOT_PX, GAP_PX = 640, 12


def table(persons: pd.DataFrame) -> str:
    """Return the persons of the demo as a table of Markdown."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *persons[COLUMNS].astype(str).to_numpy().tolist()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def table_in(readme: str) -> str:
    """Return the table that the README shows."""
    return readme.partition(BEGIN)[2].partition(END)[0]


def picture(run: rollcall.Output) -> Picture:
    """Draw the middle frame of each shot of the astronaut, with the persons in it, side by side."""
    shots = [index for index, shot in enumerate(STORY) if shot.people == (ASTRONAUT,)]
    middles = {round((index + 0.5) * SECONDS_PER_SHOT * FPS) for index in shots}
    persons = run.persons().set_index("person_id")
    boxes = run.detections()
    pages: list[Picture] = []
    for number, frame in enumerate(clip_frames()):
        if number not in middles:
            continue
        rows = boxes[boxes["frame_num"] == number + 1]
        corners = np.stack([rows["bb_xmin"], rows["bb_ymin"], *_far_corners(rows)], axis=1) * (SHOT_PX / WIDTH)
        labels = [_label(number, persons.loc[number]) for number in rows["person_id"]]
        pages.append(draw_people(resize_to_long_side(frame, SHOT_PX), corners, list(rows["person_id"]), labels))
        pages.append(np.full((pages[0].shape[0], GAP_PX, 3), 255, np.uint8))
    return np.concatenate(pages[:-1], axis=1)


def _far_corners(rows: pd.DataFrame) -> list[pd.Series]:
    return [rows["bb_xmin"] + rows["bb_width"], rows["bb_ymin"] + rows["bb_height"]]


def _label(person_id: int, person: pd.Series) -> str:
    return f"person {person_id} · {person['gender']} · {person['age_low']:.0f} to {person['age_high']:.0f} years"


def main(output: str) -> None:
    run = rollcall.read(output)
    before, _, rest = README.read_text().partition(BEGIN)
    README.write_text(f"{before}{BEGIN}{table(run.persons())}{END}{rest.partition(END)[2]}")
    file = BytesIO()
    Image.fromarray(picture(run)).save(file, format="webp", quality=80, method=6)
    PICTURE.write_bytes(file.getvalue())
    sys.stdout.write(f"{README}: the table\n{PICTURE}: {len(file.getvalue()) / 1000:.0f} kB\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
