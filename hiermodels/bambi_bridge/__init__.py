"""To and from Bambi: the same model, data and priors, where both can express it.

Bambi is loaded when a model is handed over, not when this package is imported.
"""

from hiermodels.bambi_bridge.handing_over import to_bambi
from hiermodels.bambi_bridge.taking_over import from_bambi

__all__ = ["from_bambi", "to_bambi"]
