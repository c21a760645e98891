"""Files that are tables, and files that are not."""

import numpy as np
import pandas as pd
import pytest

from hiermodels.errors import DataError
from hiermodels.spec.sources import read_table


def write(tmp_path, text, name="data.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_csv_file_with_types_and_missing_values(tmp_path):
    path = write(tmp_path, 'y, x,g\n1.5,1,"a, b"\nNA,2,None\n\n,3,\n')
    data = read_table(path)
    assert list(data.columns) == ["y", "x", "g"]
    assert data["y"].tolist()[0] == 1.5
    assert data["y"].isna().tolist() == [False, True, True]
    assert data["x"].tolist() == [1, 2, 3]
    # "None" is a label like any other; only the empty field is missing.
    assert data["g"].tolist()[:2] == ["a, b", "None"]
    assert data["g"].isna().tolist() == [False, False, True]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    assert list(read_table(write(tmp_path, b"\xef\xbb\xbfy,x\n1,2\n")).columns) == ["y", "x"]


def test_numbers_are_read_exactly(tmp_path):
    values = np.random.default_rng(1).normal(size=200)
    path = write(tmp_path, "y\n" + "\n".join(map(repr, values.tolist())) + "\n")
    assert read_table(path)["y"].tolist() == values.tolist()


def test_parquet_keeps_categories_and_drops_unnamed_row_labels(tmp_path):
    frame = pd.DataFrame(
        {"y": [1.0, 2.0, 3.0], "g": pd.Categorical(["b", "a", "b"], ["b", "a"], ordered=True)},
        index=[7, 3, 5],
    )
    frame.to_parquet(tmp_path / "data.parquet")
    pd.testing.assert_frame_equal(
        read_table(tmp_path / "data.parquet"), frame.reset_index(drop=True)
    )


def test_a_named_index_of_a_parquet_file_is_a_column(tmp_path):
    frame = pd.DataFrame({"y": [1.0, 2.0]}, index=pd.Index(["a", "b"], name="g"))
    frame.to_parquet(tmp_path / "data.pq")
    assert sorted(read_table(tmp_path / "data.pq").columns) == ["g", "y"]


def test_a_header_alone_is_a_table_without_rows(tmp_path):
    assert read_table(write(tmp_path, "y,x\n")).shape == (0, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("y,x\n1,2,3\n", r"line 2 of .* has 3 fields, its header has 2"),
        ("y,x\n1,2\n3,4,5\n", "is not a comma separated table .*line 3, saw 3"),
        ("y,x\n1,2\n3\n", r"line 3 of .* has 1 field, its header has 2.*cut off"),
        ('y,x\n1,2\n3,"4\n', "is not a comma separated table"),
        ("y;x\n1,5;2\n", "seems to be separated by semicolons"),
        ("y\tx\n1\t2\n", "seems to be separated by tabs"),
        ("y,x,y\n1,2,3\n", "more than one column named 'y'"),
        (b"\xef\xbb\xbfy,x,y\n1,2,3\n", "more than one column named 'y'"),
        (b"y,g\n1,\xe9t\xe9\n", "is not UTF-8 text .byte 0xe9"),
        (b"y,\xe9\n1,2\n", "is not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "holds zero bytes"),
    ],
)
def test_what_is_no_csv_table(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, content))


def test_a_truncated_parquet_file(tmp_path):
    pd.DataFrame({"y": np.arange(1000.0)}).to_parquet(tmp_path / "whole.parquet")
    content = (tmp_path / "whole.parquet").read_bytes()
    for length in (0, 3, len(content) // 2, len(content) - 1):
        with pytest.raises(DataError, match="is not a readable Parquet file"):
            read_table(write(tmp_path, content[:length], "cut.parquet"))


def test_a_damaged_parquet_file(tmp_path):
    pd.DataFrame({"y": np.arange(1000.0)}).to_parquet(tmp_path / "whole.parquet")
    content = bytearray((tmp_path / "whole.parquet").read_bytes())
    content[4:3000] = bytes(2996)
    with pytest.raises(DataError, match=r"cut\.parquet"):
        read_table(write(tmp_path, bytes(content), "cut.parquet"))


def test_a_parquet_file_with_a_name_twice(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["y", "y"])
    pq.write_table(table, tmp_path / "twice.parquet")
    with pytest.raises(DataError, match="more than one column named 'y'"):
        read_table(tmp_path / "twice.parquet")


def test_what_is_no_file(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path)
    with pytest.raises(
        DataError, match=r"has the suffix '\.xlsx'; files ending in \.csv, .*\.parq"
    ):
        read_table(write(tmp_path, "y\n1\n", "data.xlsx"))


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = write(tmp_path, "y\n1\n")

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        read_table(path)
