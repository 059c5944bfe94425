"""Made outputs of archives: people, faces and shots by chance, without any video."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from pipeline import rows
from pipeline.storage import tables
from pipeline.storage.output_index import SOURCES_FILE
from pipeline.storage.store import Store
from tests.small_outputs import encode, video_row

BEGINS_AT = datetime(2026, 5, 4, 8, 30, tzinfo=UTC)
VIDEOS_PER_DAY = 12
CARD_SHA256 = "95e926db681d8988047cedf8301de18b4ef5c97ab9ebaab5636097395b7bc614"
"""The starter estimator, whose card is in weights/."""


def write_archive(store: Store, num_videos: int, *, people_per_video: int = 20, name: str = "shop {:04d}.mp4") -> Store:
    """Write an output of `num_videos` videos of about five minutes, every ninth without a time of recording, and two
    sources that could not be processed."""
    tables.create(store, keep_biometrics=False)
    chance = np.random.default_rng(0)
    files: dict[str, bytes] = {}
    source_rows: list[dict[str, Any]] = []
    run_rows: list[dict[str, Any]] = []
    for number in range(num_videos):
        video_id = f"{number * 2654435761 % (1 << 80):020x}"[::-1]
        uri = f"/archive/{name.format(number)}"
        recorded_at = (
            None
            if number % 9 == 8
            else BEGINS_AT + timedelta(days=number // VIDEOS_PER_DAY, minutes=50 * (number % VIDEOS_PER_DAY))
        )
        datasets = _video_rows(video_id, people_per_video, chance)
        row = video_row(video_id, uri=uri, duration_s=300.0, num_shots=3, recorded_at=recorded_at)
        row |= {"num_frames": 7500, "num_analysed": 2400, "num_persons": len(datasets["persons"])}
        for dataset in rows.VIDEO_TABLES:
            files[f"{dataset}/{video_id}.parquet"] = encode(dataset, datasets.get(dataset, []))
        files[f"videos/{video_id}.parquet"] = encode("videos", [row])
        source_rows.append(
            _source(uri, video_id=video_id, status="done", csv=f"csv/{uri.removeprefix('/archive/')}.csv")
        )
        stages = [
            {"stage": stage, "seconds": 10.0, "gpu_seconds": 2.0, "cost": 0.001} for stage in ("observe", "reduce")
        ]
        spent = {
            "seconds": 20.0,
            "gpu_seconds": 4.0,
            "cost": 0.002,
            "attempts": 1,
            "num_chunks": 10,
            "chunks_reused": 0,
        }
        run_rows.append({"run_id": "r", "video_id": video_id, "started_at": BEGINS_AT, "stages": stages} | spent)
    source_rows += [
        _source("/archive/broken.mp4", status="quarantined", stage="probe", reason="it holds no video"),
        _source("/archive/far.mp4", status="pending", stage="identify", reason="deferred: the store did not answer"),
    ]
    files[SOURCES_FILE] = encode("sources", source_rows)
    files["runs/r.parquet"] = encode("runs", run_rows)
    files["run.json"] = json.dumps(run_facts(num_videos)).encode()
    for place, content in files.items():
        store.put(place, content)
    return store


def run_facts(num_videos: int) -> dict[str, Any]:
    """Return a run.json as a run leaves it."""
    models = {"detector": "starter-person", "body": "starter-body", "estimator": "starter-attributes"}
    return {
        "run_id": "20260601T000000-beef",
        "status": "done",
        "started_at": "2026-06-01T00:00:00+00:00",
        "seconds": 4000.0,
        "config_id": "c",
        "versions": {"rollcall": "0.1.0", "python": "3.11.7"},
        "models": {
            role: {
                "name": model,
                "sha256": CARD_SHA256 if role == "estimator" else "0" * 64,
                "licence": "research-only",
            }
            for role, model in models.items()
        },
        "videos": {"done": num_videos, "quarantined": 0},
        "stages": {"observe": {"seconds": 3000.0, "gpu_seconds": 200.0, "cost": 0.5}},
    }


def _source(uri: str, **values: Any) -> dict[str, Any]:
    return dict.fromkeys(rows.DATASETS["sources"].names) | {"uri": uri, "current": True} | values


def _video_rows(video_id: str, num_people: int, chance: np.random.Generator) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a video by dataset. Of ten people, two show no face, one is unsure."""
    shots = [{"shot": shot, "start_s": 100.0 * (shot - 1), "end_s": 100.0 * shot} for shot in (1, 2, 3)]
    persons, tracklets, faces = [], [], []
    starts = np.sort(chance.uniform(0, 290, num_people)).round(3).tolist()
    for person_id, start_s in enumerate(starts, start=1):
        end_s = min(300.0, round(start_s + float(chance.exponential(20)) + 0.5, 3))
        age, width = float(chance.uniform(1, 85)), float(chance.uniform(6, 30))
        female_prob = float(chance.beta(0.4, 0.4))
        kind = chance.integers(10)
        num_faces = 0 if kind < 2 else int(chance.integers(2, 6))
        why_not = "no face judged" if kind < 2 else "unsure" if kind == 2 else None
        has_age = why_not is None
        gender = "N" if why_not else "F" if female_prob >= 0.5 else "M"
        persons.append(
            {"person_id": person_id, "start_s": start_s, "end_s": end_s, "num_frames": int((end_s - start_s) * 25)}
            | {"num_tracklets": 1, "num_faces": num_faces, "gender": gender, "age_why_not": why_not}
            | {"age": round(age, 1) if has_age else None, "gender_why_not": why_not}
            | {"age_low": round(max(0.0, age - width / 2), 1) if has_age else None}
            | {"age_high": round(age + width / 2, 1) if has_age else None}
            | {"female_prob": round(female_prob, 3) if num_faces else None}
        )
        ids = {"person_id": person_id, "tracklet_id": person_id}
        for shot in range(int(start_s // 100) + 1, int(min(end_s, 299.9) // 100) + 2):
            tracklets.append(
                ids
                | {"shot": shot, "start_s": max(start_s, 100.0 * (shot - 1)), "end_s": min(end_s, 100.0 * shot)}
                | {"tracklet_id": len(tracklets) + 1, "num_frames": 10, "num_faces": num_faces}
            )
        for face in range(num_faces + 1):
            judged = face < num_faces
            faces.append(
                ids
                | {"frame_num": face + 1, "quality": round(float(chance.uniform(0.2, 1)), 3), "judged": judged}
                | {"score": 0.9, "why_not": None if judged else "blurred", "restored": False}
                | {"bb_xmin": 1.0, "bb_ymin": 2.0, "bb_height": 30.0, "bb_width": 24.0}
                | {"age": round(age, 1) if judged else None, "age_std": 8.0 if judged else None}
                | {"female_prob": round(female_prob, 3) if judged else None}
            )
    datasets = {"shots": shots, "persons": persons, "tracklets": tracklets, "faces": faces}
    return {name: [{"video_id": video_id} | row for row in records] for name, records in datasets.items()}
