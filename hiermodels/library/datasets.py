"""The data sets: five that are bundled, nine that are read from a folder of the user's.

Factors have the levels, their order and the orderedness of the source. Labels such as ``"308"``
are text, because a number would make a grouping factor look like a measurement.
"""

import difflib
import json
import os
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import pandas as pd

from hiermodels.errors import DataError

FOLDER_VARIABLE = "HIERMODELS_DATA"
"""Environment variable that names the folder of the data sets that are not bundled."""


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Parameters
    ----------
    title
        What the data are.
    origin
        Where the file is to be had.
    citation
        What to cite.
    bundled
        Whether the file comes with the package.
    """

    title: str
    origin: str
    citation: str
    bundled: bool = False


_CLARK = (
    "GitHub repository m-clark/mixed-models-with-R (Michael Clark, 'Mixed Models with R'), "
    "file data/{}.RData"
)
_HOX = (
    "Hox, J. J., Moerbeek, M. and van de Schoot, R. (2018) Multilevel Analysis: Techniques and "
    "Applications, 3rd ed., Routledge"
)

SOURCES = {
    "ChickWeight": Source(
        "Weights of 50 chicks on four diets",
        "R package datasets (R 4.2.2)",
        "Crowder, M. and Hand, D. (1990) Analysis of Repeated Measures, Chapman and Hall, "
        "example 5.3",
        bundled=True,
    ),
    "Dyestuff": Source(
        "Yield of dyestuff in six batches",
        "R package lme4 1.1-31",
        "Davies, O. L. and Goldsmith, P. L. (eds.) (1972) Statistical Methods in Research and "
        "Production, 4th ed., Oliver and Boyd, section 6.4",
        bundled=True,
    ),
    "Dyestuff2": Source(
        "Constructed yields of six batches whose variance is estimated at zero",
        "R package lme4 1.1-31",
        "Box, G. E. P. and Tiao, G. C. (1973) Bayesian Inference in Statistical Analysis, "
        "Addison-Wesley, section 5.1.2",
        bundled=True,
    ),
    "bounce": Source(
        "Bounce times of visitors of a web site",
        "the file bounce.csv of the GitHub repository Mcbeth-Ahortor/MEM-Project, "
        "without its column Sex",
        "Watson, O. J., 'Mixed models' notebook, Kaggle",
    ),
    "eight_schools": Source(
        "Effects of coaching in eight schools, with known standard errors",
        "typed from the literature",
        "Rubin, D. B. (1981) Estimation in parallel randomized experiments, Journal of "
        "Educational Statistics 6, 377-401, doi:10.3102/10769986006004377",
        bundled=True,
    ),
    "gpa": Source(
        "Grade point averages of 200 students over six semesters", _CLARK.format("gpa"), _HOX
    ),
    "nurses": Source(
        "Stress of 1000 nurses in the wards of 25 hospitals", _CLARK.format("nurses"), _HOX
    ),
    "patents": Source(
        "Citations of 4809 European patents",
        _CLARK.format("patents"),
        "Fahrmeir, L., Kneib, T., Lang, S. and Marx, B. (2013) Regression: Models, Methods and "
        "Applications, Springer",
    ),
    "pupils": Source(
        "Achievement of 1000 pupils in primary and secondary schools",
        _CLARK.format("pupils"),
        _HOX,
    ),
    "random_slopes_simulated": Source(
        "Simulated data with random slopes, 50 groups of 3",
        "the R code of the exercise 'Simulation revisited' in the chapter 'More Random Effects', "
        "run with R 4.2.2 and set.seed(1234)",
        "Clark, M., Mixed Models with R",
    ),
    "science": Source(
        "Attitudes to science of 1385 Australian school students",
        "R package DAAG 1.25.6",
        "Maindonald, J. H. and Braun, W. J. (2010) Data Analysis and Graphics Using R, 3rd ed., "
        "Cambridge University Press",
    ),
    "sleepstudy": Source(
        "Reaction times of 18 subjects over ten days of sleep restriction",
        "R package lme4 1.1-31",
        "Belenky, G. et al. (2003) Patterns of performance degradation and restoration during "
        "sleep restriction and subsequent recovery: a sleep dose-response study, Journal of "
        "Sleep Research 12, 1-12, doi:10.1046/j.1365-2869.2003.00337.x",
        bundled=True,
    ),
    "sociometric": Source(
        "Children in 20 small groups rate each other", _CLARK.format("sociometric"), _HOX
    ),
    "speed_dating": Source(
        "Decisions in a speed dating experiment",
        _CLARK.format("speed_dating"),
        "Fisman, R., Iyengar, S. S., Kamenica, E. and Simonson, I. (2006) Gender differences in "
        "mate selection: evidence from a speed dating experiment, Quarterly Journal of Economics "
        "121(2), 673-697, doi:10.1162/qjec.2006.121.2.673",
    ),
}
"""Every data set by name, in alphabetical order."""


def load_dataset(name: str) -> pd.DataFrame:
    """Load a data set by its name.

    ``sleepstudy``, ``ChickWeight``, ``Dyestuff``, ``Dyestuff2`` and ``eight_schools`` come with
    the package. The others are read from the folder that the environment variable
    ``HIERMODELS_DATA`` names: ``<name>.csv``, and ``levels.json`` with the factors of every data
    set there, ``{name: {column: {"ordered": bool, "levels": [str, ...]}}}``.

    Parameters
    ----------
    name
        Name of the data set, for instance ``"sleepstudy"``.

    Returns
    -------
    pandas.DataFrame
        A new frame; factors are categorical, with the levels in the order of the source.

    Raises
    ------
    DataError
        For an unknown name; for a data set that is neither bundled nor in the folder (the
        message says where the data come from); for a file that does not fit ``levels.json``.

    Examples
    --------
    >>> import hiermodels as hm
    >>> data = hm.load_dataset("sleepstudy")
    >>> list(data.columns)
    ['Reaction', 'Days', 'Subject']
    >>> list(data["Subject"].cat.categories[:3])
    ['308', '309', '310']
    """
    if name not in SOURCES:
        raise DataError(_unknown(name))
    if SOURCES[name].bundled:
        return read_dataset(resources.files("hiermodels.library") / "data", name)
    folder = os.environ.get(FOLDER_VARIABLE, "")
    if not folder:
        raise DataError(_absent(name, f"{FOLDER_VARIABLE} is not set"))
    if not (Path(folder) / f"{name}.csv").is_file():
        raise DataError(_absent(name, f"{FOLDER_VARIABLE} is {folder!r}, which has no {name}.csv"))
    return read_dataset(Path(folder), name)


def read_dataset(folder: Traversable, name: str) -> pd.DataFrame:
    """Read ``<name>.csv`` of a folder and give its factors the levels of ``levels.json`` there.

    Parameters
    ----------
    folder
        A folder, as a path or as a package resource.
    name
        Name of the data set: the file name without ``.csv``.

    Returns
    -------
    pandas.DataFrame
        The data; the columns named in ``levels.json`` are categorical.

    Raises
    ------
    DataError
        If ``levels.json`` is missing, is not JSON or does not know the data set, or if the data
        hold a label that it does not list.

    Examples
    --------
    >>> from importlib import resources
    >>> from hiermodels.library.datasets import read_dataset
    >>> read_dataset(resources.files("hiermodels.library") / "data", "Dyestuff").shape
    (30, 2)
    """
    factors = _factors(folder, name)
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        # An empty field is the only missing value: "NA" may be the label of a level.
        frame = pd.read_csv(
            file,
            dtype=dict.fromkeys(factors, str),
            keep_default_na=False,
            na_values=[""],
        )
    for column, (levels, ordered) in factors.items():
        if column not in frame:
            raise DataError(
                f"levels.json gives levels for column {column!r} of {name!r}, which {name}.csv "
                f"does not have; its columns are {', '.join(frame.columns)}."
            )
        unknown = sorted(set(frame[column].dropna()) - set(levels))
        if unknown:
            raise DataError(
                f"column {column!r} of {name}.csv holds {unknown[0]!r}, which is not among its "
                f"levels in levels.json; the two files do not belong together."
            )
        frame[column] = pd.Categorical(frame[column], categories=levels, ordered=ordered)
    return frame


def _factors(folder: Traversable, name: str) -> dict[str, tuple[list[str], bool]]:
    """Return (levels, ordered) of every factor of a data set."""
    path = folder / "levels.json"
    if not path.is_file():
        raise DataError(
            f"{folder} has no levels.json, which gives the order of the factor levels of "
            f"{name}.csv; put it beside the data."
        )
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        found = table.get(name, {})
        return {
            column: ([str(level) for level in entry["levels"]], bool(entry["ordered"]))
            for column, entry in found.items()
        }
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} cannot be read as factor levels ({error!r}); wanted is "
            '{name: {column: {"ordered": bool, "levels": [text, ...]}}}.'
        ) from error


def _unknown(name: object) -> str:
    """Return the message for a name that is no data set."""
    text = str(name)
    folded = {known.lower(): known for known in SOURCES}
    close = difflib.get_close_matches(text.lower(), folded, n=1)
    hint = f" Did you mean {folded[close[0]]!r}?" if close else ""
    return f"no data set is called {text!r}.{hint} The data sets are {', '.join(SOURCES)}."


def _absent(name: str, reason: str) -> str:
    """Return the message for a data set that is known but not here."""
    source = SOURCES[name]
    return (
        f"the data set {name!r} ({source.title}) does not come with the package, and {reason}. "
        f"It comes from {source.origin} [{source.citation}]. Save it as {name}.csv, with "
        f"levels.json beside it, and set {FOLDER_VARIABLE} to that folder."
    )
