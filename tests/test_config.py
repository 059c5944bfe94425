from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.config import described_schema, knob_comments
from pipeline.config import CONF, RUN_KNOBS, fixed, flatten, layers, load, restored
from pipeline.errors import UserError
from pipeline.json_schema import resolved

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
    config = load(files, ["cuts.threshold=30"], profile="crowd")
    assert (config.observe.fps, config.observe.thumbnail_px, config.cuts.threshold) == (6, 128, 30)
    assert config.observe.detector.weights == "yolo11x"
    assert load(files, ["observe.fps=7"]).observe.fps == 7
    assert (
        load(write(tmp_path, "observe: {detector: {weights: mine}}"), profile="full").observe.detector.weights == "mine"
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("observe.fsp=4", "--set observe.fsp=4: unknown key observe.fsp; did you mean observe.fps?"),
        ("fps=4", "unknown key fps; did you mean observe.fps?"),
        ("observe.detector.weight=x", "did you mean observe.detector.weights?"),
        ("observe=4", "observe must hold fps, "),
        ("observe.fps", "--set takes dotted.key=value, got 'observe.fps'"),
        ("observe.fps=-1", "--set observe.fps=-1: observe.fps must be a number of at least 0, got -1; for example"),
        (
            "crossings.lines.a=[[0, 0], [2, 0]]",
            "lines must have points in shares of the picture, 0 to 1, got a: [[0.0,",
        ),
        (
            "crossings.zones=3",
            "crossings.zones must be a mapping of names and values, got 3; for example crossings.zon",
        ),
        ("observe.detector.batch=true", "batch must be a whole number more than 0 or auto, got true; for example"),
        ("faces.batch=0", "faces.batch must be a whole number more than 0 or auto, got 0; for example"),
        ("observe.fps=true", "must be a number of at least 0, got true; for example observe.fps=8"),
        ("observe.fps=.inf", "must be a number of at least 0, got .inf"),
        ("identity.max_gap_s=.nan", "must be a number of at least 0, got .nan"),
        ("observe.body.embed=some", "observe.body.embed must be one of all, candidates, got some"),
        ("observe.body.weights=4", "observe.body.weights must be text or null, got 4"),
        ("observe.detector.image_size=641", "must be a multiple of 32, more than 0, got 641"),
        ("candidates.jpeg_quality=101", "must be a whole number from 1 to 100, got 101"),
        ("gate.max_roll_deg=181", "gate.max_roll_deg must be a number from 0 to 180, got 181"),
        ("identity.wrong_joins=.7", "identity.wrong_joins must be a number more than 0 and at most 0.5, got 0.7"),
        ("run.observe.gpus=some", "run.observe.gpus must be a number of at least 0 or auto, got some"),
        ("run.cpu_hour_price=x", "must be a number of at least 0 or null, got x; for example run.cpu_hour_price=0.05"),
        ("run.restore={workers: 1}", "run.restore.max_workers is missing; for example run.restore={workers: 1, max_w"),
        ("run.restore={workers: 1, max_workers: 1, cpus: 1, gpus: 0, cpu: 3}", "unknown key run.restore.cpu; did you"),
        ("chunk.cell_seconds=60", "chunk.max_seconds must be at least cell_seconds, 60, got 30; raise it, or lower"),
        ("licences.allow=MIT", "licences.allow must be a list of text or null, got MIT; for example licences.allow=[M"),
        ("track.options=3", "track.options must be a mapping of names and values, got 3"),
    ],
)
def test_a_wrong_key_or_value_is_refused_in_one_line_that_names_it(setting: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load(settings=[setting])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_value_names_the_layer_that_set_it(tmp_path: Path) -> None:
    files = write(tmp_path, "observe: {fps: fast}", "cuts: {threshold: 30}")
    with pytest.raises(UserError) as error:
        load(files, ["track.memory_s=3"], "full")
    rule = "observe.fps must be a number of at least 0, got fast; for example observe.fps: 8"
    assert str(error.value) == f"{files[0]}: {rule}"


def leaves(node: dict[str, Any], schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the nodes of a JSON schema that hold no others, with dotted names."""
    for choice in [resolved(node, schema), *node.get("anyOf", [])]:
        for name, below in choice.get("properties", {}).items():
            yield from leaves(below, schema, f"{path}.{name}")
        if "type" in choice and "properties" not in choice:
            yield path, choice


def test_every_number_of_the_configuration_has_a_range_that_its_schema_states() -> None:
    schema = described_schema()
    numbers = [(path, node) for path, node in leaves(schema, schema) if node.get("type") in ("integer", "number")]
    assert len(numbers) > 60
    assert [path for path, node in numbers if "minimum" not in node and "exclusiveMinimum" not in node] == []


def test_a_range_holds_where_there_is_no_configuration_too() -> None:
    with pytest.raises(ValueError, match=r"wrong_joins must be at most 0\.5, got 0\.7"):
        replace(load().identity, wrong_joins=0.7)
    with pytest.raises(ValueError, match=r"min_gender_prob must be more than 0\.5, got 0\.5"):
        replace(load().person, min_gender_prob=0.5)
    with pytest.raises(ValueError, match="margin must be at least 0, got -1"):
        replace(load().candidates, margin=-1)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "observe: {fsp: 4}"])
def test_a_wrong_file_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (path,) = write(tmp_path, text)
    with pytest.raises(UserError, match=str(path)):
        load([path])


def test_a_missing_file_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "nine.yaml").touch()
    with pytest.raises(UserError, match=r"there is no configuration file .*none\.yaml; did you mean .*nine\.yaml\?"):
        load([tmp_path / "none.yaml"])


def test_uris_of_extra_weights_are_relative_to_the_file_that_has_them(tmp_path: Path) -> None:
    files = write(tmp_path, "weights: {extra: {a: {uri: w/a.pt}, b: {uri: s3://w/b.pt}, c: {uri: /w/c.pt}}}")
    extra = load(files).weights.extra
    assert [extra[name]["uri"] for name in "abc"] == [str(tmp_path / "w" / "a.pt"), "s3://w/b.pt", "/w/c.pt"]


def test_every_knob_of_base_yaml_says_whether_it_changes_a_row_and_agrees_with_the_code() -> None:
    comments = knob_comments()
    for dotted, _ in flatten(load().plain()):
        marked = [key for key in comments if f"{dotted}.".startswith(f"{key}.")]
        assert marked, f"{dotted} has no comment that begins with result or run"
        kind, text = comments[marked[0]]
        assert kind == ("run" if is_run_knob(dotted) else "result"), dotted
        assert text, dotted


def test_result_knobs_leave_out_exactly_the_run_knobs() -> None:
    config = load()
    everything = {key for key, _ in flatten(config.plain())}
    results = {key for key in everything if not is_run_knob(key)}
    crossings = {key for key in results if key.startswith("crossings.")}
    of_cards = {"compute.card", "compute.pixels", "observe.decoder"}
    assert set(config.result_knobs()) == results - crossings - of_cards
    assert set(load(settings=["crossings.sides=true"]).result_knobs()) == results - of_cards
    on_card = load(settings=["compute.pixels=planes", "observe.decoder=auto"]).on_device("cuda")
    assert set(on_card.result_knobs()) == results - crossings
    assert config.result_knobs("observe").keys() == {
        key
        for key in everything
        if key.startswith("observe.") and key not in ("observe.decode_threads", "observe.decoder")
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
    assert "analysed frames per second" in fps["description"]
    assert schema["additionalProperties"] is False


def test_spans_that_are_auto_follow_the_device_and_shape_no_key() -> None:
    chosen = [load(settings=[f"run.observe.spans={spans}"]) for spans in ("auto", 3)]
    spans = [(each.on_device("cpu").run.observe.spans, each.on_device("cuda").run.observe.spans) for each in chosen]
    assert spans == [(1, 6), (3, 3)]
    assert chosen[0].result_knobs() == chosen[1].result_knobs()


def test_batches_that_are_auto_follow_the_device_before_they_shape_a_key() -> None:
    config = load(settings=["observe.body.batch=48"])
    here, there = config.on_device("cpu"), config.on_device("cuda", "sm_90")
    batches = [(each.observe.detector.batch, each.observe.body.batch, each.faces.batch) for each in (here, there)]
    assert batches == [(8, 48, 8), (64, 48, 64)]
    assert here.result_knobs()["observe.detector.batch"] == 8
    with pytest.raises(ValueError, match="batches and spans must be decided"):
        fixed(config.faces.batch)


def test_the_class_of_card_shapes_results_on_a_card_and_nowhere_else() -> None:
    config = load()
    assert config.on_device("cpu", "sm_90").result_knobs() == config.on_device("cpu").result_knobs()
    here, there = (config.on_device("cuda", card).result_knobs() for card in ("sm_90 132", "sm_89 58"))
    assert {key for key in here if here[key] != there[key]} == {"compute.card"}
    stored = restored(here, "recipes/x.json")
    assert stored.on_device("cuda", "sm_89 58").result_knobs() == here


def test_only_pictures_that_stay_planes_shape_keys() -> None:
    there = load(settings=["compute.pixels=planes"]).on_device("cuda", "sm_90")
    assert there.result_knobs()["compute.pixels"] == "planes"
    converted = load().on_device("cuda", "sm_90")
    assert converted.result_knobs() | {"compute.pixels": "planes"} == there.result_knobs()
    assert "compute.pixels" not in converted.result_knobs()
    assert load(settings=["compute.pixels=planes"]).on_device("cpu").result_knobs()["compute.pixels"] == "planes"
    for config in (converted, there):
        again = restored(config.result_knobs(), "recipes/x.json").on_device("cuda", "sm_90")
        assert again.result_knobs() == config.result_knobs()


def test_only_a_card_that_may_decode_shapes_keys() -> None:
    chosen = load(settings=["observe.decoder=auto"])
    there = chosen.on_device("cuda", "sm_90")
    assert there.result_knobs() == load().on_device("cuda", "sm_90").result_knobs() | {"observe.decoder": "auto"}
    assert chosen.on_device("cpu").result_knobs() == load().on_device("cpu").result_knobs()
    for config in (there, load().on_device("cuda", "sm_90")):
        again = restored(config.result_knobs(), "recipes/x.json").on_device("cuda", "sm_90")
        assert again.result_knobs() == config.result_knobs()


def test_the_keys_of_a_cpu_stay_those_of_outputs_that_are_there() -> None:
    knobs = load().on_device("cpu").result_knobs()
    assert "compute.pixels" not in knobs
    names = ("observe.detector.batch", "observe.body.batch", "faces.batch", "compute.device")
    assert [knobs[name] for name in names] == [8, 32, 8, "cpu"]
    assert "compute.card" not in knobs


def test_half_precision_is_refused_where_the_models_run_on_a_cpu() -> None:
    config = load(settings=["compute.precision=half"])
    assert config.on_device("cuda", "a card").compute.precision == "half"
    with pytest.raises(UserError, match=r"compute\.precision=half needs a GPU"):
        config.on_device("cpu")


def test_age_groups_are_checked_before_any_work() -> None:
    assert load(settings=["person.age_groups=adience"]).person.age_groups == "adience"
    with pytest.raises(UserError, match=r"person\.age_groups must be adience, or rising years"):
        load(settings=["person.age_groups=17-0"])


def test_the_profile_for_crowds_counts_people_from_a_score_of_30_percent() -> None:
    crowd = load(profile="crowd")
    assert crowd.track.min_score == crowd.candidates.min_score == crowd.track.options["new_track_thresh"] == 0.3
