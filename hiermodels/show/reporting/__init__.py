"""The report of a fit: one HTML file with nothing outside it."""

from hiermodels.show.reporting.stressing import write_sensitivity
from hiermodels.show.reporting.writing import report_html, write_report

__all__ = ["report_html", "write_report", "write_sensitivity"]
