"""The page docs/tables.md, made from pipeline/rows.py: `python -m pipeline.tables_page > docs/tables.md`."""

import sys

from pipeline import rows

OPENING = """\
# Tables

The code makes this page: `python -m pipeline.tables_page > docs/tables.md`.

`pandas.read_parquet(f"{URI}/NAME")` opens the dataset NAME of an output. Types are Arrow types. Times are seconds from
the first displayed frame, and `end_s` is the end of a last frame. Boxes are pixels of the displayed picture, with
rotation, pixel aspect and edit lists applied. Frames, shots, tracklets and persons are numbered from 1 within each
video: join tables by `video_id` and the number.
"""
REASONS = {
    "faces": (
        "`why_not` is the first of these reasons that applies:",
        {
            "on no one": "The face is not where a detected person has the head.",
            "unsure": "The score of the face detector is below `gate.min_score`.",
            "too small": "The eyes are closer than `gate.min_eye_distance_px`.",
            "blurred": "The face is out of focus, moved or masked: `gate.min_sharpness`, `gate.min_detail`.",
            "turned away": "The head is turned towards a profile: `gate.max_yaw`.",
            "tilted": "The head is tilted or upside down: `gate.max_roll_deg`.",
            "no face": "Eyes, nose and mouth are not arranged as in a face.",
            "cut off": "The border of the picture or of the crop cuts the face: `gate.min_inside`.",
            "hidden": "A nearer person covers the face: `gate.max_occluded`.",
        },
    ),
    "persons": (
        "`age_why_not` and `gender_why_not` are the first of these reasons that applies:",
        {
            "no face judged": "No face of the person was judged, and where an estimator reads bodies, fewer "
            "than `person.min_bodies`. `faces` has the reason for each face.",
            "not asked": "There is no estimator: `estimate.estimator` is null.",
            "too few faces": "There are fewer judged faces than `person.min_faces`, or their summed quality is below "
            "`person.min_weight`.",
            "unsure": "The interval of the age is wider than `person.max_age_interval`, or neither gender reaches "
            "`person.min_gender_prob`.",
        },
    ),
    "links": (
        "`why` is one of these:",
        {
            "alike": "Joined: the evidence suffices.",
            "through others": "Joined, because both are joined with the same other tracklets.",
            "seen together": "Not joined: they, or tracklets joined with them, share a frame.",
            "too late": "Not joined: the gap is longer than `identity.max_gap_s`; or no faces can be compared, and "
            "bodies are not compared over so long a time (`identity.max_absence_s` inside a shot, "
            "`identity.shot_max_s` in different shots).",
            "other size": (
                "Not joined: the heights on both sides of the gap differ too much, also those of the tallest boxes."
            ),
            "no appearance": "Not joined: there is no embedding to compare across the gap.",
            "other face": "Not joined: the faces are clear evidence of two people.",
            "unlike": "Not joined: the appearance is evidence of two people.",
            "too far": "Not joined: the appearance would suffice, but the return is too far from the predicted place.",
            "unsure": "Not joined: the evidence does not suffice for `identity.wrong_joins`.",
            "others fit": "Not joined: the pair alone would do, but another tracklet fits one of them better or as "
            "well, or tracklets that belong to them speak against it.",
        },
    ),
    "crossings": (
        "There are rows only if `crossings` is configured. `direction` means:",
        {
            "in": "Over a line: from its left to its right, as seen from its first point towards its last. Into a "
            "zone. Into the picture over a side.",
            "out": "The other way. Every visit to a zone has a row `in` and a row `out`, also if the person appears or "
            "vanishes inside it.",
        },
    ),
}
"""The values of the columns that hold a reason: by dataset, an opening line and the meaning of each value."""


def page() -> str:
    """Return the text of docs/tables.md."""
    return "\n".join([OPENING, *(line for name in rows.PUBLISHED for line in _section(name))])


def _section(name: str) -> list[str]:
    dataset = rows.PUBLISHED[name]
    only = " The dataset exists only with `biometrics.keep: true`." if name in rows.BIOMETRIC_DATASETS else ""
    columns = [(f"`{c.name}`", f"`{c.type}`", c.unit, c.meaning, c.null_when) for c in dataset.columns]
    lines = [f"## {name}", "", f"One row is {dataset.row}.{only}", ""]
    lines += _table(("column", "type", "unit", "meaning", "null when"), columns)
    if name in REASONS:
        opening, meanings = REASONS[name]
        lines += [
            opening,
            "",
            *_table(("value", "meaning"), [(f"`{value}`", text) for value, text in meanings.items()]),
        ]
    return lines


def _table(header: tuple[str, ...], cells: list[tuple[str, ...]]) -> list[str]:
    lines = [header, ("---",) * len(header), *cells]
    return [*(" ".join(["|", *(f"{cell} |".strip() for cell in line)]) for line in lines), ""]


if __name__ == "__main__":
    sys.stdout.write(page())
