"""The examples run as the plain scripts that they are, and write what they say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hiermodels as hm

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_study_of_sensitivity_writes_its_pictures(tmp_path):
    script = ROOT / "examples" / "prior_sensitivity.py"
    if not script.is_file():
        pytest.skip("examples are part of the checkout alone")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "out")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(hm.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    pictures = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert pictures == {
        "prior_implied.png", "estimates.png", "sensitivity.png", "calibration.png",
    }  # fmt: skip
    assert "consistent with uniform" in done.stdout
    assert "sd_Batch[Intercept]" in (tmp_path / "out" / "sensitivity.csv").read_text()
    assert len(script.read_text().splitlines()) <= 30
