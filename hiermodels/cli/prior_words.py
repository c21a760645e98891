"""Priors as words of the command line."""

from collections.abc import Sequence

from hiermodels.errors import PriorError


def parse_priors(texts: Sequence[str]) -> dict[str, str]:
    """Return key -> text of KEY=VALUE words; the split is the first = outside brackets."""
    priors: dict[str, str] = {}
    for text in texts:
        depth = 0
        at = -1
        for position, character in enumerate(text):
            depth += (character in "([") - (character in ")]")
            if character == "=" and depth == 0:
                at = position
                break
        key, value = text[:at].strip(), text[at + 1 :].strip()
        if at < 0 or not key or not value:
            raise PriorError(
                f"--prior {text!r} is not KEY=VALUE; write for instance "
                "--prior 'sd=HalfNormal(sigma=2)'."
            )
        if key in priors:
            raise PriorError(f"--prior gives {key!r} twice; give each key once.")
        priors[key] = value
    return priors
