"""The picture and the table on the first screen of the README, made from the output of the demo:
`python -m tests.bench.readme_front out/demo`.

The picture has a frame of each shot of the astronaut from the annotated clip, because that photograph is in the public
domain.
"""

import sys
from io import BytesIO
from pathlib import Path

import av
import pandas as pd
from PIL import Image

import rollcall
from jobs.shared.demo_clip import ASTRONAUT, CLIP, FPS, SECONDS_PER_SHOT, STORY

ROOT = Path(__file__).parents[2]
README, PICTURE = ROOT / "README.md", ROOT / "docs" / "demo.webp"
BEGIN, END = "<!-- persons of the demo -->\n", "<!-- end -->"
COLUMNS = ["file", "person_id", "start_s", "end_s", "age", "age_low", "age_high", "gender"]
FRAME_PX, GAP_PX = 640, 12


def table(persons: pd.DataFrame) -> str:
    """Return the persons of the demo as a table of Markdown."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *persons[COLUMNS].astype(str).to_numpy().tolist()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def table_in(readme: str) -> str:
    """Return the table that the README shows."""
    return readme.partition(BEGIN)[2].partition(END)[0]


def picture(annotated: Path) -> Image.Image:
    """Return the middle frames of the shots of the astronaut, side by side."""
    shots = [index for index, shot in enumerate(STORY) if shot.people == (ASTRONAUT,)]
    middles = {round((index + 0.5) * SECONDS_PER_SHOT * FPS) for index in shots}
    with av.open(str(annotated)) as clip:
        frames = [frame.to_image() for number, frame in enumerate(clip.decode(video=0)) if number in middles]
    height = round(FRAME_PX * frames[0].height / frames[0].width)
    page = Image.new("RGB", (len(frames) * (FRAME_PX + GAP_PX) - GAP_PX, height), "white")
    for place, frame in enumerate(frames):
        page.paste(frame.resize((FRAME_PX, height), Image.Resampling.LANCZOS), (place * (FRAME_PX + GAP_PX), 0))
    return page


def main(output: str) -> None:
    before, _, rest = README.read_text().partition(BEGIN)
    persons = rollcall.read(output).persons()
    README.write_text(f"{before}{BEGIN}{table(persons)}{END}{rest.partition(END)[2]}")
    file = BytesIO()
    picture(Path(output, "annotated", CLIP)).save(file, format="webp", quality=80, method=6)
    PICTURE.write_bytes(file.getvalue())
    sys.stdout.write(f"{README}: the table\n{PICTURE}: {len(file.getvalue()) / 1000:.0f} kB\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
