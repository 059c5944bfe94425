"""Subtitles that say who is in the picture, as SubRip (.srt) or WebVTT (.vtt)."""

from collections.abc import Mapping, Sequence

from pipeline.cores.presence import Cue, cues
from pipeline.cores.vote import five_year_group
from pipeline.exports.clock import srt_time, vtt_time
from pipeline.exports.people import FinishedVideo, ListedPerson, People
from pipeline.storage.store import Store

MAX_GAP_S, MIN_CUE_S = 1.0, 1.0
"""A person who is away for no longer than a second stays in the cue, and no cue of several is shorter than a second."""
FULL_LINES = 3
"""The most people who get a line each. More would cover the picture."""
MAX_NAMED = 12
"""The most people who are named."""


def write_srt(store: Store, name: str, people: People, video: FinishedVideo) -> None:
    """Write the cues of a video as SubRip."""
    blocks = [
        f"{number}\n{srt_time(cue.start_s)} --> {srt_time(cue.end_s)}\n{text}\n"
        for number, (cue, text) in enumerate(_texts(people, video), start=1)
    ]
    store.put(name, "\n".join(blocks).encode())


def write_vtt(store: Store, name: str, people: People, video: FinishedVideo) -> None:
    """Write the cues of a video as WebVTT."""
    blocks = [f"{vtt_time(cue.start_s)} --> {vtt_time(cue.end_s)}\n{text}\n" for cue, text in _texts(people, video)]
    store.put(name, "\n".join(["WEBVTT\n", *blocks]).encode())


def _texts(people: People, video: FinishedVideo) -> list[tuple[Cue, str]]:
    persons = {person.row["person_id"]: person for person in people.of(video)}
    spans = {person_id: person.spans for person_id, person in persons.items()}
    return [(cue, _text(cue.persons, persons)) for cue in cues(spans, MAX_GAP_S, MIN_CUE_S)]


def _text(ids: Sequence[int], persons: Mapping[int, ListedPerson]) -> str:
    if len(ids) <= FULL_LINES:
        return "\n".join(f"Person {person_id}{_estimates(persons[person_id])}" for person_id in ids)
    more = f", … {len(ids) - MAX_NAMED} more" if len(ids) > MAX_NAMED else ""
    return f"{len(ids)} people: {', '.join(map(str, ids[:MAX_NAMED]))}{more}"


def _estimates(person: ListedPerson) -> str:
    """Return gender, age and its interval, as far as there are any: ': F, 34 (28–41)'."""
    row = person.row
    gender = [row["gender"]] if row["gender"] != "N" else []
    age = []
    if row["age"] is not None:
        years, low, high = (five_year_group(row[name]).age_actual for name in ("age", "age_low", "age_high"))
        age = [f"{years} ({low}–{high})"]
    return f": {', '.join(gender + age)}" if gender or age else ""
