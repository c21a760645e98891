"""The studies: questions, data, the formulas that were tried, and what other programs found.

Each is one TOML file of the folder ``models``, read with the standard library.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import pandas as pd

from hiermodels.errors import DataError
from hiermodels.fitting.model import Model
from hiermodels.library.datasets import load_dataset


@dataclass(frozen=True)
class Reference:
    """What another program found for a variant.

    Attributes
    ----------
    method : str
        ``"reml"``, ``"ml"``, ``"laplace"``, ``"ols"``, or ``"agq<points>"``.
    tool : str
        Program and version.
    loglik : float or None
        Of the method; None where the program leaves constants out.
    estimates, se : dict of str to float
        By the names of the summary.
    """

    method: str
    tool: str
    loglik: float | None
    estimates: Mapping[str, float]
    se: Mapping[str, float]


@dataclass(frozen=True)
class Variant:
    """One way to model a study.

    Attributes
    ----------
    name : str
    formula : str or tuple of str
    family : str
    priors : dict of str to str
    note : str
        What the variant shows.
    keep : dict, optional
        Rows used: ``column`` is ``at_least`` a number.
    singular : tuple of str
        Methods whose estimate lies on the boundary.
    findings : tuple of str
        What lint finds in the model, by code.
    fit_findings : tuple of str
        What lint may find besides in its posterior.
    warns : str or None
        What the sampler's warning is expected to say; None where it says nothing.
    references : dict of str to Reference
        By method.
    """

    name: str
    formula: str | tuple[str, ...]
    family: str
    priors: Mapping[str, str]
    note: str
    keep: Mapping[str, Any] | None
    singular: tuple[str, ...]
    findings: tuple[str, ...]
    fit_findings: tuple[str, ...]
    warns: str | None
    references: Mapping[str, Reference]


@dataclass(frozen=True)
class Study:
    """A question, its data, and the models that were tried on it.

    Attributes
    ----------
    name, title, question, citation, origin : str
        ``origin`` says where the data come from.
    data : str
        Name of the data set, as :func:`hiermodels.load_dataset` takes it.
    main : str
        Name of the variant to begin with.
    variants : dict of str to Variant
    derive : tuple of dict
        Columns made from others before any variant is fitted.
    """

    name: str
    title: str
    question: str
    citation: str
    origin: str
    data: str
    main: str
    variants: Mapping[str, Variant]
    derive: tuple[Mapping[str, Any], ...]

    def variant(self, name: str | None = None) -> Variant:
        """Return a variant by its name, the main one by default.

        Raises
        ------
        DataError
            There is none of this name.
        """
        wanted = self.main if name is None else name
        if wanted not in self.variants:
            close = difflib.get_close_matches(str(wanted), self.variants, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise DataError(
                f"The study {self.name} has no variant {wanted!r}.{hint} Its variants are "
                f"{', '.join(self.variants)}."
            )
        return self.variants[wanted]

    def frame(self, variant: str | None = None) -> pd.DataFrame:
        """Return the data as a variant uses them: derived columns added, rows chosen.

        Raises
        ------
        DataError
            The data set does not come with the package and is not there.
        """
        chosen = self.variant(variant)
        frame = load_dataset(self.data)
        for rule in self.derive:
            frame[rule["column"]] = _derived(frame[rule["source"]], rule)
        if chosen.keep is None:
            return frame
        rows = frame[str(chosen.keep["column"])] >= chosen.keep["at_least"]
        kept: pd.DataFrame = frame.loc[rows].reset_index(drop=True)
        return kept

    def model(self, variant: str | None = None, **options: Any) -> Model:
        """Return the model of a variant.

        Parameters
        ----------
        variant : str, optional
            The main one by default.
        **options
            As :class:`hiermodels.Model` takes them.

        Examples
        --------
        >>> import hiermodels as hm
        >>> hm.load_study("dyestuff").model().design.n
        30
        """
        chosen = self.variant(variant)
        settings = {"family": chosen.family, "priors": dict(chosen.priors) or None} | options
        formula = chosen.formula if isinstance(chosen.formula, str) else list(chosen.formula)
        return Model(formula, self.frame(variant), **settings)

    def __repr__(self) -> str:
        """Return the question, the source, and the variants."""
        lines = [f"{self.name}: {self.title}", self.question, ""]
        for variant in self.variants.values():
            formula = variant.formula
            text = formula if isinstance(formula, str) else "; ".join(formula)
            note = f"  # {variant.note}" if variant.note else ""
            lines.append(f"  {variant.name}: {text}{note}")
        return "\n".join([*lines, "", self.citation])


def list_studies() -> pd.DataFrame:
    """Return the studies: name, title, data, variants, question.

    Returns
    -------
    pandas.DataFrame
        One row a study, by name.

    Examples
    --------
    >>> import hiermodels as hm
    >>> "pupils" in hm.list_studies().index
    True
    """
    studies = [load_study(name) for name in study_names()]
    return pd.DataFrame(
        {
            "title": [study.title for study in studies],
            "data": [study.data for study in studies],
            "variants": [", ".join(study.variants) for study in studies],
            "question": [study.question for study in studies],
        },
        index=pd.Index([study.name for study in studies], name="study", dtype=object),
    )


def study_names() -> tuple[str, ...]:
    """Return the names of all studies, in alphabetical order."""
    files = [entry.name for entry in _folder().iterdir()]
    return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))


def load_study(name: str) -> Study:
    """Load a study by its name.

    Parameters
    ----------
    name : str
        Such as ``"pupils"``; see :func:`hiermodels.list_studies`.

    Returns
    -------
    Study

    Raises
    ------
    DataError
        There is no such study, or its file does not hold what a study needs.

    Examples
    --------
    >>> import hiermodels as hm
    >>> study = hm.load_study("sleepstudy")
    >>> study.variant().formula
    'Reaction ~ Days + (Days | Subject)'
    """
    known = study_names()
    if name not in known:
        close = difflib.get_close_matches(str(name).lower(), known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise DataError(f"No study is called {name!r}.{hint} The studies are {', '.join(known)}.")
    file = _folder() / f"{name}.toml"
    try:
        return _study(name, tomllib.loads(file.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DataError(f"The file of the study {name!r} cannot be read: {error!r}.") from error


@cache
def _folder() -> Traversable:
    """Return the folder of the studies: installed with the package, or in the checkout."""
    installed = resources.files("hiermodels.library") / "models"
    if installed.is_dir():
        return installed
    checkout = Path(__file__).resolve().parents[2] / "models"
    if not checkout.is_dir():
        raise DataError("The studies were not installed with the package: install it again.")
    return checkout


def _study(name: str, table: Mapping[str, Any]) -> Study:
    """Return a study from its file."""
    variants = {
        key: _variant(key, entry, table["family"]) for key, entry in table["variants"].items()
    }
    return Study(
        name=name,
        title=table["title"],
        question=table["question"],
        citation=table["citation"],
        origin=table["origin"],
        data=table["data"],
        main=table["main"],
        variants=variants,
        derive=tuple(table.get("derive", ())),
    )


def _variant(name: str, entry: Mapping[str, Any], family: str) -> Variant:
    formula = entry["formula"]
    references = {
        method: Reference(
            method=method,
            tool=found["tool"],
            loglik=found.get("loglik"),
            estimates=found["estimates"],
            se=found.get("se", {}),
        )
        for method, found in entry.get("reference", {}).items()
    }
    return Variant(
        name=name,
        formula=formula if isinstance(formula, str) else tuple(formula),
        family=entry.get("family", family),
        priors=entry.get("priors", {}),
        note=entry.get("note", ""),
        keep=entry.get("keep"),
        singular=tuple(entry.get("singular", ())),
        findings=tuple(entry.get("findings", ())),
        fit_findings=tuple(entry.get("fit_findings", ())),
        warns=entry.get("warns"),
        references=references,
    )


def _derived(source: "pd.Series[Any]", rule: Mapping[str, Any]) -> "pd.Series[Any]":
    """Return a column made from another: standardised, divided, or recoded to a factor."""
    if "standardise" in rule:
        ddof = 0 if rule["standardise"] == "population" else 1
        return (source - source.mean()) / source.std(ddof=ddof)
    if "divide" in rule:
        return source / float(rule["divide"])
    recoded = source.astype(object).map(rule["recode"])
    return pd.Series(pd.Categorical(recoded, categories=rule["levels"]), index=source.index)
