"""The errors that the package raises: one base class, and one class for each stage.

Every message says what was got, what is allowed and what to do.
"""

from collections.abc import Hashable


class HierModelsError(ValueError):
    """Base class of every error that hiermodels raises on purpose.

    Examples
    --------
    >>> import hiermodels as hm
    >>> issubclass(hm.FormulaError, hm.HierModelsError)
    True
    """


class FormulaError(HierModelsError):
    """A formula that cannot be read, with the place marked."""


class DataError(HierModelsError):
    """Data that do not fit the formula or the family."""


class RepeatedTimesError(DataError):
    """Rows of one series at one time, where a residual structure needs a time for each row.

    Parameters
    ----------
    message : str
    about : tuple of str
        The time and the grouping.
    seen : str
        What was seen, with counts.
    rows : tuple of hashable
        Index labels of the rows whose time an earlier row of their series has.
    """

    def __init__(
        self,
        message: str,
        about: tuple[str, ...] = (),
        seen: str = "",
        rows: tuple[Hashable, ...] = (),
    ) -> None:
        super().__init__(message)
        self.about, self.seen, self.rows = about, seen, rows


class UnknownColumnError(FormulaError, DataError):
    """A formula that names a column which the data do not have."""


class PriorError(HierModelsError):
    """A prior that names no parameter, or a distribution that does not exist."""


class EngineError(HierModelsError):
    """A computation that the engine asked for cannot do."""


class FitError(HierModelsError):
    """A fitted model that cannot answer, be saved or be read back."""


class SamplingWarning(UserWarning):
    """The posterior draws may not be trusted as they are; the text says what to do."""


class EstimationWarning(UserWarning):
    """A maximum likelihood or REML estimate whose optimum is not certain; the text says why."""
