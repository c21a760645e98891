"""The bundled data against what their sources say, and the folder of the others."""

import json

import pandas as pd
import pytest

import hiermodels as hm
from hiermodels.library.datasets import SOURCES, read_dataset

BUNDLED = ["ChickWeight", "Dyestuff", "Dyestuff2", "eight_schools", "sleepstudy"]


def test_the_bundled_ones_are_the_five():
    assert sorted(name for name, source in SOURCES.items() if source.bundled) == BUNDLED


@pytest.mark.parametrize(
    ("name", "shape", "column", "total"),
    [
        # Shapes and column sums of the data frames in R.
        ("sleepstudy", (180, 3), "Reaction", 53731.42049),
        ("ChickWeight", (578, 4), "weight", 70411.0),
        ("Dyestuff", (30, 2), "Yield", 45825.0),
        ("Dyestuff2", (30, 2), "Yield", 169.968),
        ("eight_schools", (8, 3), "y", 70.0),
    ],
)
def test_bundled_values(name, shape, column, total):
    data = hm.load_dataset(name)
    assert data.shape == shape
    # The sums are known to ten digits.
    assert data[column].sum() == pytest.approx(total, rel=1e-9)


def test_labels_that_look_like_numbers_are_text():
    subject = hm.load_dataset("sleepstudy")["Subject"]
    assert list(subject.cat.categories[:3]) == ["308", "309", "310"]
    assert not subject.cat.ordered


def test_chick_is_ordered_by_final_weight_within_diet():
    data = hm.load_dataset("ChickWeight")
    chick = data["Chick"].cat
    assert chick.ordered
    assert list(chick.categories[:6]) == ["18", "16", "15", "13", "9", "20"]
    assert not data["Diet"].cat.ordered
    assert list(data["Diet"].cat.categories) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_equals_the_reference_folder(name, shared_data):
    pd.testing.assert_frame_equal(hm.load_dataset(name), shared_data(name))


def test_every_call_gives_a_new_frame():
    data = hm.load_dataset("Dyestuff")
    data["Yield"] = 0
    assert hm.load_dataset("Dyestuff")["Yield"].min() == 1440


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_data_set_is_read_from_the_reference_folder(name, reference_dir, monkeypatch):
    monkeypatch.setenv("HIERMODELS_DATA", str(reference_dir / "data"))
    levels = json.loads((reference_dir / "data" / "levels.json").read_text(encoding="utf-8"))
    data = hm.load_dataset(name)
    assert len(data) > 0
    for column, entry in levels.get(name, {}).items():
        assert list(data[column].cat.categories) == entry["levels"]
        assert data[column].cat.ordered == entry["ordered"]
        # A label that was lost on the way would be missing.
        text = pd.read_csv(
            reference_dir / "data" / f"{name}.csv", dtype=str, keep_default_na=False
        )[column]
        assert list(data[column].astype(object).fillna("")) == list(text)


def test_an_absent_data_set_says_where_it_comes_from(monkeypatch, tmp_path):
    monkeypatch.delenv("HIERMODELS_DATA", raising=False)
    with pytest.raises(hm.DataError, match=r"HIERMODELS_DATA is not set.*mixed-models-with-R.*Hox"):
        hm.load_dataset("gpa")
    monkeypatch.setenv("HIERMODELS_DATA", str(tmp_path))
    with pytest.raises(hm.DataError, match=r"which has no gpa\.csv"):
        hm.load_dataset("gpa")


def test_an_unknown_name_gets_the_closest_one_and_the_list():
    with pytest.raises(hm.DataError, match=r"Did you mean 'sleepstudy'\?.*are ChickWeight, Dye"):
        hm.load_dataset("SleepStudi")
    with pytest.raises(hm.DataError, match=r"no data set is called 'zzzz'\. The data sets are"):
        hm.load_dataset("zzzz")


def folder(tmp_path, csv, levels):
    (tmp_path / "gpa.csv").write_text(csv, encoding="utf-8")
    if levels is not None:
        (tmp_path / "levels.json").write_text(levels, encoding="utf-8")
    return tmp_path


def test_na_may_be_the_label_of_a_level(tmp_path):
    levels = '{"gpa": {"g": {"ordered": false, "levels": ["NA", "b"]}}}'
    data = read_dataset(folder(tmp_path, "y,g\n1,NA\n2,\n3,b\n", levels), "gpa")
    assert list(data["g"].cat.codes) == [0, -1, 1]


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (None, "has no levels.json"),
        ("{", "cannot be read as factor levels"),
        ('{"gpa": {"g": ["a"]}}', "cannot be read as factor levels"),
        ('{"gpa": {"h": {"ordered": false, "levels": ["a"]}}}', "'h'.*does not have"),
        ('{"gpa": {"g": {"ordered": false, "levels": ["a"]}}}', "holds 'b', which is not among"),
    ],
)
def test_levels_that_do_not_fit_are_an_error(tmp_path, levels, message):
    with pytest.raises(hm.DataError, match=message):
        read_dataset(folder(tmp_path, "y,g\n1,a\n2,b\n", levels), "gpa")
