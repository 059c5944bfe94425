"""Every loader, on small files of the exact official layout and on the real labels where they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.io

from pipeline.corpora import adience, csv_labels, faces, fgnet, imdb_wiki, utkface
from pipeline.corpora.clean import NO_PICTURE, RULES, clean
from pipeline.corpora.loading import form_of, load_faces
from pipeline.errors import UserError
from tests.shared import SHARED, needs_shared

LABELS = SHARED / "labels"
FOLD = "user_id\toriginal_image\tface_id\tage\tgender\tx\ty\tdx\tdy\ttilt_ang\tfiducial_yaw_angle\tfiducial_score\n"
AGE = "age must be years up to 125, a range as 25-32, or unknown"


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def datenum(date: str) -> int:
    """MATLAB's serial day: 719529 is 1970-01-01 (https://www.mathworks.com/help/matlab/ref/datenum.html)."""
    return int(np.datetime64(date, "D").astype(np.int64)) + 719529


def mat(path: Path, kind: str, **changes: Any) -> Path:
    """A .mat file of three pictures, laid out as the archive's: a 1x1 struct of 1xN fields, texts in cells."""
    texts = {
        "full_path": ["01/a.jpg", "02/b.jpg", "03/c.jpg"],
        "name": ["Ada", "Bea", ""],
    }
    fields: dict[str, Any] = {
        "dob": np.array([[datenum("1980-12-31"), datenum("1981-01-01"), datenum("1900-05-05")]], np.int32),
        "photo_taken": np.array([[2000, 2000, 2010]], np.uint16),
        "gender": np.array([[1.0, 0.0, np.nan]]),
        "face_score": np.array([[4.3, -np.inf, 2.0]]),
        "second_face_score": np.array([[np.nan, np.nan, 1.5]]),
        "face_location": np.array([[np.zeros((1, 4)), np.zeros((1, 4)), np.zeros((1, 4))]], object)[:, :3, 0, 0],
    } | changes
    for name, values in texts.items():
        cells = np.empty((1, len(values)), object)
        cells[0] = values
        fields[name] = cells
    scipy.io.savemat(path, {kind: fields})
    return path


# --- UTKFace ----------------------------------------------------------------------------------------------------------


def test_utkface_labels_are_the_names(tmp_path: Path) -> None:
    names = ["1_0_4_2016.jpg.chip.jpg", "100_1_0_20170112213500903.jpg.chip.jpg", "25_0_3_20170116174525125.jpg"]
    names += ["39_1_20170116174525125.jpg.chip.jpg", "55_0_0_20170116232725357jpg.chip.jpg", "portrait.jpg"]
    touch(tmp_path, *names, "readme.txt", ".hidden/25_0_3_20170116174525125.jpg", "part2/8_1_1_20161219.png")
    table = utkface.load(tmp_path)
    assert table.columns.tolist() == list(faces.COLUMNS)
    labels = zip(table["name"], table["age"].fillna(-1), table["gender"], table["group"], strict=True)
    assert list(labels) == [
        ("100_1_0_20170112213500903.jpg.chip.jpg", 100, "F", "White"),
        ("1_0_4_2016.jpg.chip.jpg", -1, None, None),
        ("25_0_3_20170116174525125.jpg", 25, "M", "Indian"),
        ("39_1_20170116174525125.jpg.chip.jpg", 39, "F", None),
        ("55_0_0_20170116232725357jpg.chip.jpg", 55, "M", "White"),
        ("part2/8_1_1_20161219.png", 8, "F", "Black"),
        ("portrait.jpg", -1, None, None),
    ]
    assert table["path"][5] == str(tmp_path / "part2" / "8_1_1_20161219.png")


def test_no_folder_and_no_picture_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        utkface.load(tmp_path / "none")
    with pytest.raises(UserError, match="no picture"):
        utkface.load(tmp_path)


@needs_shared
def test_the_real_utkface() -> None:
    table = utkface.load(SHARED / "datasets" / "UTKFace")
    assert len(table) == 20_811
    assert table["group"].isna().sum() == 3
    assert table["age"].notna().all()
    assert set(table["gender"]) == {"M", "F"}
    assert len(clean(table)[0]) == 20_811 - (table["age"] > 100).sum()


# --- IMDB and WIKI ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "source"), [("imdb", "IMDB"), ("wiki", "WIKI")])
def test_age_is_the_year_of_the_photo_less_the_year_of_birth(tmp_path: Path, kind: str, source: str) -> None:
    table = imdb_wiki.load(mat(tmp_path / f"{kind}.mat", kind))
    assert table["age"].tolist() == [20, 19, 110]
    assert table["gender"].tolist() == ["M", "F", None]
    assert table["person"].tolist() == ["Ada", "Bea", None]
    assert table["path"].tolist() == [str(tmp_path / name) for name in ("01/a.jpg", "02/b.jpg", "03/c.jpg")]
    assert set(table["source"]) == {source}
    assert imdb_wiki.load(tmp_path / f"{kind}.mat", tmp_path / "crop")["path"][0] == str(
        tmp_path / "crop" / "01" / "a.jpg"
    )


def test_a_mat_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a struct named imdb or wiki"):
        imdb_wiki.load(mat(tmp_path / "a.mat", "faces"))
    scipy.io.savemat(tmp_path / "b.mat", {"wiki": {"dob": [1]}})
    with pytest.raises(UserError, match="there is no photo_taken"):
        imdb_wiki.load(tmp_path / "b.mat")
    (tmp_path / "c.mat").write_bytes(b"text")
    with pytest.raises(UserError, match=r"c\.mat cannot be read"):
        imdb_wiki.load(tmp_path / "c.mat")
    with pytest.raises(UserError, match="there is no file"):
        imdb_wiki.load(tmp_path / "d.mat")


@needs_shared
def test_wiki_keeps_39399_of_62328() -> None:
    table = imdb_wiki.load(LABELS / "wiki.mat")
    left, removed = clean(table)
    assert (len(table), len(left)) == (62_328, 39_399)
    assert sum(removed.values()) == 62_328 - 39_399


# --- FG-NET -----------------------------------------------------------------------------------------------------------


def test_fgnet_names_say_who_and_how_old(tmp_path: Path) -> None:
    table = fgnet.load(touch(tmp_path, "001A02.JPG", "001A43a.JPG", "082A18.jpg"))
    assert table["age"].tolist() == [2, 43, 18]
    assert table["person"].tolist() == ["001", "001", "082"]
    assert table["gender"].isna().all()


def test_fgnet_has_no_other_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"me\.jpg is not named"):
        fgnet.load(touch(tmp_path, "001A02.JPG", "me.jpg"))


def test_an_fgnet_csv_must_agree_with_its_names(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text(",db_name,full_path,age\n0,FGNET,011A14.JPG,14\n1,FGNET,030A10.JPG,11\n")
    with pytest.raises(UserError, match=r"f\.csv, line 3: 030A10\.JPG is named for another age than 11"):
        fgnet.load(tmp_path / "f.csv")
    (tmp_path / "g.csv").write_text("path,age\na,1\n")
    with pytest.raises(UserError, match="must have the columns full_path"):
        fgnet.load(tmp_path / "g.csv")


@needs_shared
def test_the_real_fgnet_csv() -> None:
    table = load_faces(LABELS / "FGNET.csv", pictures=LABELS)
    assert (len(table), table["person"].nunique()) == (1002, 82)
    assert (table["age"].min(), table["age"].max()) == (0, 69)


# --- Adience ----------------------------------------------------------------------------------------------------------


def test_adience_keeps_ranges_and_exact_ages(tmp_path: Path) -> None:
    rest = "\t0\t0\t1\t1\t0\t0\t0\n"
    rows = [
        "7@N1\ta.jpg\t2\t(25, 32)\tf",
        "7@N1\tb.jpg\t3\t35\tm",
        "8@N1\tc.jpg\t2\tNone\tu",
        "8@N1\td.jpg\t2\t(0, 2)\t",
    ]
    (tmp_path / "fold_3_data.txt").write_text(FOLD + "".join(row + rest for row in rows))
    table = adience.load(tmp_path)
    assert table[["age_low", "age_high", "age"]].to_numpy()[[0, 1, 3]].tolist() == [
        [25, 32, 28.5],
        [35, 35, 35],
        [0, 2, 1],
    ]
    assert np.isnan(table["age"][2])
    assert table["gender"].tolist() == ["F", "M", None, None]
    assert table["person"].tolist() == ["7@N1/2", "7@N1/3", "8@N1/2", "8@N1/2"]
    assert set(table["fold"]) == {3}
    assert table["path"][0] == str(tmp_path / "aligned" / "7@N1" / "landmark_aligned_face.2.a.jpg")
    loose = adience.load(tmp_path / "fold_3_data.txt", tmp_path / "faces")
    assert loose["path"][0] == str(tmp_path / "faces" / "7@N1" / "coarse_tilt_aligned_face.2.a.jpg")


def test_an_unreadable_adience_row_is_named(tmp_path: Path) -> None:
    fold = tmp_path / "fold_0_data.txt"
    fold.write_text(FOLD + "7\ta.jpg\t1\t25\tf" + "\t0" * 7 + "\n7\tb.jpg\t1\told\tf" + "\t0" * 7 + "\n")
    with pytest.raises(UserError, match=r"fold_0_data\.txt, line 3: age must be .* got 'old'"):
        adience.load(fold)
    fold.write_text("user_id\tage\n1\t2\n")
    with pytest.raises(UserError, match="there is no original_image, face_id, gender"):
        adience.load(fold)


@needs_shared
def test_adience_keeps_17452_of_19370() -> None:
    table = adience.load(LABELS / "adience_fold")
    left, removed = clean(table)
    assert (len(table), len(left)) == (19_370, 17_452)
    assert (removed["no age"], removed["no gender"]) == (748, 1170)
    assert table["person"].nunique() == 2284  # https://talhassner.github.io/home/projects/Adience


# --- any CSV ----------------------------------------------------------------------------------------------------------


def test_a_csv_of_path_age_gender(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b/c.png", "d.jpg", "e.jpg")
    text = (
        f'gender,path,age,person\nMale,a.jpg,25,p\nf,b/c.png,25-32,\n,{tmp_path / "d.jpg"},,\nN,e.jpg,"(60, 100)",p\n'
    )
    (tmp_path / "mine.csv").write_text(text)
    table = csv_labels.load(tmp_path / "mine.csv")
    assert table["age"].tolist()[:2] == [25, 28.5]
    assert table["age_high"].tolist()[1::2] == [32, 100]
    assert np.isnan(table["age"][2])
    assert table["gender"].tolist() == ["M", "F", None, None]
    assert table["person"].tolist() == ["p", None, None, "p"]
    assert table["path"][2] == str(tmp_path / "d.jpg")
    assert set(table["source"]) == {"mine"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,age\na.jpg,3\n", "must have the columns path, age, gender; there is no gender"),
        ("path,age,gender\na.jpg,3,M\na.jpg,3,M\n", "line 3: a.jpg is named a second time"),
        ("path,age,gender\na.jpg,3,M\nb.jpg,3,M\n", "line 3: there is no picture"),
        (
            "path,age,gender\na.jpg,young,M\n",
            f"line 2: {AGE}, got 'young'",
        ),
        (
            "path,age,gender\na.jpg,200,M\n",
            f"line 2: {AGE}, got '200'",
        ),
        (
            "path,age,gender\na.jpg,40-20,M\n",
            f"line 2: {AGE}, got '40-20'",
        ),
        ("path,age,gender\na.jpg,32-25,M\n", "line 2: age must be"),
        ("path,age,gender\na.jpg,-3,M\n", "line 2: age must be"),
        ("path,age,gender\na.jpg,3,0\n", "line 2: gender must be M, F, male, female, or empty, got '0'"),
        ("path,age,gender\n\na.jpg,3,M\n", "line 2: there is no picture"),
        ("path,age,gender\n", "has no row"),
        ("", "x.csv is empty"),
    ],
)
def test_a_faulty_csv_says_what_is_wrong_and_where(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UserError) as error:
        load_faces(tmp_path / "x.csv")
    assert message in str(error.value)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    before = faces.table(
        tmp_path,
        ["a.jpg", "b.jpg", "c.jpg"],
        age=[25.5, 28.5, None],
        age_low=[25.5, 25, None],
        age_high=[25.5, 32, None],
        gender=["F", "M", None],
        group=["x", None, None],
        source="labels",
    )
    csv_labels.write(before, tmp_path / "labels.csv")
    pd.testing.assert_frame_equal(csv_labels.load(tmp_path / "labels.csv"), before, check_dtype=False)
    csv_labels.write(before, tmp_path / "else" / "labels.csv")
    assert csv_labels.load(tmp_path / "else" / "labels.csv")["path"].tolist() == before["path"].tolist()


# --- which form -------------------------------------------------------------------------------------------------------


def test_each_form_is_known_by_what_it_is(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "utk/1_0_0_20170112.jpg",
        "utk/odd.jpg",
        "utk/2_1_0_20170112.jpg",
        "fg/001A02.JPG",
        "adience/fold_0_data.txt",
    )
    touch(tmp_path, "x/a.jpg", "y.mat", "fold_0_data.txt", "z.xlsx")
    (tmp_path / "fg.csv").write_text("db_name,full_path,age\n")
    (tmp_path / "own.csv").write_text("path,age,gender\n")
    for name, form in {
        "utk": "utkface",
        "fg": "fgnet",
        "adience": "adience",
        "y.mat": "imdb-wiki",
        "fold_0_data.txt": "adience",
        "fg.csv": "fgnet",
        "own.csv": "csv",
    }.items():
        assert form_of(tmp_path / name) == form
    with pytest.raises(UserError, match="name a CSV with the columns path, age, gender"):
        form_of(tmp_path / "x")
    with pytest.raises(UserError, match="there is no data set"):
        form_of(tmp_path / "z.xlsx")


# --- cleaning ---------------------------------------------------------------------------------------------------------


def test_each_rule_takes_out_what_it_says_and_counts_once(tmp_path: Path) -> None:
    scores, nan = [1.0, 1.0, -np.inf, 1.0, 1.0, 1.0, -np.inf], np.nan
    table = faces.table(
        tmp_path,
        list("abcdefg"),
        age=[None, 101, 100, 0, 5, 7, -1],
        gender=["M", "M", "M", "M", None, "F", None],
        source="x",
    ).assign(face_score=scores, second_face_score=[nan, nan, nan, 2.0, nan, nan, 2.0])
    left, removed = clean(table)
    assert left["name"].tolist() == ["f"]
    assert removed == {"no age": 1, "age outside 0..100": 2, "no face score": 1, "a second face": 1, "no gender": 1}
    assert clean(table, ["no gender"])[1] == {"no gender": 2}


def test_a_picture_that_is_not_there_is_a_rule_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    table = faces.table(tmp_path, ["a.jpg", "b.jpg"], age=[1, 1], gender=["M", "M"], source="x")
    assert len(clean(table)[0]) == 2
    assert clean(table, list(RULES))[1][NO_PICTURE] == 1
