"""What ``import hiermodels`` costs, and that every public name is really there."""

import subprocess
import sys

import pytest

import hiermodels as hm
from hiermodels import errors


def python(code: str) -> str:
    """Run code in a new interpreter and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def seconds(module: str) -> float:
    return float(
        python(
            f"import time; start = time.perf_counter(); import {module}; "
            "print(time.perf_counter() - start)"
        )
    )


def test_only_the_standard_library_is_imported_eagerly():
    added = python(
        "import sys; before = set(sys.modules); import hiermodels; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    ).split()
    assert "hiermodels" in added
    assert set(added) - {"hiermodels"} <= sys.stdlib_module_names


def test_import_takes_at_most_a_third_of_pandas():
    # The best of five, taken in turns, so that a busy machine slows both down alike.
    pairs = [(seconds("hiermodels"), seconds("pandas")) for _ in range(5)]
    ours, theirs = (min(column) for column in zip(*pairs, strict=True))
    assert ours <= 0.3 * theirs


@pytest.mark.parametrize("name", hm.__all__)
def test_every_public_name_can_be_had(name):
    assert name in dir(hm)
    assert getattr(hm, name) is not None


def test_lazy_names_are_the_objects_of_their_modules():
    from hiermodels.library.datasets import load_dataset

    assert hm.load_dataset is load_dataset
    assert hm.DataError is errors.DataError


def test_a_misspelt_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'hiermodels' has no attribute 'Modell'"):
        _ = hm.Modell
