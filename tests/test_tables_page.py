from pathlib import Path

from pipeline import rows, tables_page
from pipeline.cores import gate, vote

PAGE = Path(__file__).parents[1] / "docs" / "tables.md"


def test_the_page_of_tables_is_what_the_code_says() -> None:
    assert PAGE.read_text() == tables_page.page(), "run `python -m pipeline.tables_page > docs/tables.md`"


def test_every_dataset_of_an_output_has_its_table() -> None:
    described = {name: [column.name for column in dataset.columns] for name, dataset in rows.PUBLISHED.items()}
    assert described == {name: schema.names for name, schema in (rows.DATASETS | rows.BIOMETRIC_DATASETS).items()}


def test_every_column_has_a_meaning_that_fits_into_a_table() -> None:
    for name, dataset in rows.PUBLISHED.items():
        for column in dataset.columns:
            assert column.meaning.endswith("."), f"{name}.{column.name}"
            assert "|" not in f"{column.unit}{column.meaning}{column.null_when}", f"{name}.{column.name}"


def test_every_reason_that_the_code_gives_is_explained_in_its_order() -> None:
    assert tuple(tables_page.REASONS["faces"][1]) == gate.WHY_NOT
    assert tuple(tables_page.REASONS["persons"][1]) == tuple(vote.WHY_NOT)


def test_meanings_leave_the_schemas_as_they_are() -> None:
    for schema in rows.DATASETS.values():
        assert all((field.metadata or {}).keys() <= {b"unit"} for field in schema)
