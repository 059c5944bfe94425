from pathlib import Path

import pytest
import yaml

from jobs.config import described_schema, knob_comments
from pipeline.config import CONF, RUN_KNOBS, flatten, layers, load
from pipeline.errors import UserError

SHARED_WEIGHTS = Path(__file__).parent / "conf" / "shared-weights.yaml"


def write(tmp_path: Path, *texts: str) -> list[Path]:
    paths = [tmp_path / f"{index}.yaml" for index in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


def is_run_knob(dotted: str) -> bool:
    return any(dotted == knob or dotted.startswith(f"{knob}.") for knob in RUN_KNOBS)


def test_later_layers_win_key_by_key(tmp_path: Path) -> None:
    files = write(tmp_path, "observe: {fps: 5, thumbnail_px: 128}", "observe: {fps: 6}")
    config = load(files, ["cuts.threshold=30"], profile="full")
    assert (config.observe.fps, config.observe.thumbnail_px, config.cuts.threshold) == (6, 128, 30)
    assert config.observe.detector.weights == "yolo11x"
    assert load(files, ["observe.fps=7"]).observe.fps == 7
    assert (
        load(write(tmp_path, "observe: {detector: {weights: mine}}"), profile="full").observe.detector.weights == "mine"
    )


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("observe.fsp=4", "--set observe.fsp=4: unknown key observe.fsp; did you mean observe.fps?"),
        ("fps=4", "unknown key fps; did you mean observe.fps?"),
        ("observe.detector.weight=x", "did you mean observe.detector.weights?"),
        ("observe=4", "observe must hold fps, "),
        ("observe.fps", "--set takes dotted.key=value, got 'observe.fps'"),
        ("observe.fps=-1", "configuration: observe.fps: "),
        ("observe.body.embed=some", "configuration: observe.body.embed: "),
        ("observe.detector.image_size=641", "got 641"),
    ],
)
def test_a_wrong_key_or_value_is_refused_in_one_line_that_names_it(setting: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        load(settings=[setting])
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "observe: {fsp: 4}"])
def test_a_wrong_file_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (path,) = write(tmp_path, text)
    with pytest.raises(UserError, match=str(path)):
        load([path])


def test_a_missing_file_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: No such file"):
        load([tmp_path / "none.yaml"])


def test_uris_of_extra_weights_are_relative_to_the_file_that_has_them(tmp_path: Path) -> None:
    files = write(tmp_path, "weights: {extra: {a: {uri: w/a.pt}, b: {uri: s3://w/b.pt}, c: {uri: /w/c.pt}}}")
    extra = load(files).weights.extra
    assert [extra[name]["uri"] for name in "abc"] == [str(tmp_path / "w" / "a.pt"), "s3://w/b.pt", "/w/c.pt"]


def test_every_knob_of_base_yaml_says_whether_it_changes_a_row_and_agrees_with_the_code() -> None:
    comments = knob_comments()
    for dotted, _ in flatten(load().plain()):
        told = [key for key in comments if f"{dotted}.".startswith(f"{key}.")]
        assert told, f"{dotted} has no comment that begins with result or run"
        kind, text = comments[told[0]]
        assert kind == ("run" if is_run_knob(dotted) else "result"), dotted
        assert text, dotted


def test_result_knobs_leave_out_exactly_the_run_knobs() -> None:
    config = load()
    everything = {key for key, _ in flatten(config.plain())}
    assert set(config.result_knobs()) == {key for key in everything if not is_run_knob(key)}
    assert config.result_knobs("observe").keys() == {
        key for key in everything if key.startswith("observe.") and key != "observe.decode_threads"
    }
    assert config.result_knobs() == load(settings=["chunk.max_seconds=7", "run.observe.workers=3"]).result_knobs()
    assert config.result_knobs() != load(settings=["observe.fps=7"]).result_knobs()


def test_a_bare_off_means_off_although_yaml_reads_it_as_false(tmp_path: Path) -> None:
    assert load(settings=["restore.mode=off"], profile="full").restore.mode == "off"
    assert load(write(tmp_path, "restore: {mode: off}"), profile="full").restore.mode == "off"


def test_the_profiles_are_valid() -> None:
    assert load(profile="full").restore.mode == "auto"
    assert load(profile="starter").estimate.estimator == "starter-attributes"
    assert load([SHARED_WEIGHTS]).observe.detector.weights == "yolov8n"


def test_what_lies_over_the_starter_profile_says_all_that_it_says() -> None:
    starter, over = (yaml.safe_load(path.read_text()) for path in (CONF / "starter.yaml", SHARED_WEIGHTS))
    assert {key for key, _ in flatten(starter)} <= {key for key, _ in flatten(over)}


def test_layers_come_in_order_of_precedence(tmp_path: Path) -> None:
    (path,) = write(tmp_path, "observe: {fps: 5}")
    names = [where for where, _ in layers([path], ["observe.fps=6"], "full")]
    assert names == ["conf/base.yaml", str(CONF / "full.yaml"), str(path), "--set observe.fps=6"]


def test_the_schema_tells_meaning_unit_and_default_of_a_knob() -> None:
    schema = described_schema()
    fps = schema["$defs"]["Observe"]["properties"]["fps"]
    assert fps["default"] == load().observe.fps
    assert "analysed frames a second" in fps["description"]
    assert schema["additionalProperties"] is False
