"""What was read where rows stream through and are not kept."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """A source that was read in passes.

    Attributes
    ----------
    source : str
        The source in words, such as ``"12 Parquet files ('trips/*.parquet')"``.
    rows : int
        Rows read in each pass.
    parts : int
        Files or partitions.
    seconds : tuple of float
        Of each pass: levels and spreads first, then quantiles where knots are such, then
        cross-products.
    cells : int
        Combinations of groups for which cross-products are kept, or distinct rows; 0 where all
        rows are held.
    unit : str
        What these are: ``"group"`` or ``"distinct row"``.
    """

    source: str
    rows: int
    parts: int
    seconds: tuple[float, ...]
    cells: int
    unit: str = "group"

    def __str__(self) -> str:
        """Say it in a sentence, without a full stop."""
        passes = " and ".join(f"{value:.1f} s" for value in self.seconds)
        word = "pass" if len(self.seconds) == 1 else "passes"
        text = f"{self.rows:,} rows of {self.source} read in {len(self.seconds)} {word} ({passes})"
        if not self.cells:
            return f"{text} and held"
        what = f"{self.cells:,} {self.unit}{'s' * (self.cells != 1)}"
        kept = "cross-products of " if self.unit == "group" else ""
        return f"{text}, kept as {kept}{what}"
