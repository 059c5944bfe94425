"""Persons as a user names them on a command line: VIDEO_ID:PERSON_ID."""

import re

from pipeline.errors import UserError

PERSON = re.compile(r"(?P<video_id>[^:/\s]+):(?P<person_id>[1-9]\d*)")


def parse_person(option: str, text: str) -> tuple[str, int]:
    """Return the video_id and person_id in VIDEO_ID:PERSON_ID. Raises UserError for another text."""
    match = PERSON.fullmatch(text)
    if match is None:
        raise UserError(f"{option} must be VIDEO_ID:PERSON_ID, as `persons` has them, got {text}")
    return match["video_id"], int(match["person_id"])
