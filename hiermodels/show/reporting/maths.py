"""The model as mathematics: MathML, which browsers show without help, names escaped."""

from collections.abc import Sequence
from html import escape

from hiermodels.answers.fitted import Model
from hiermodels.fitting.draws import INTERCEPT
from hiermodels.spec.design import Term
from hiermodels.spec.rowless import product_rows

#: With more terms than this the linear predictor is written with vectors.
MOST_TERMS = 6
TILDE = '<mo lspace="0.35em" rspace="0.35em">&#8764;</mo>'
GAP = '<mspace width="0.2em"/>'


def _mi(symbol: str) -> str:
    return f"<mi>{symbol}</mi>"


def _mo(operator: str) -> str:
    return f"<mo>{operator}</mo>"


def _text(name: str) -> str:
    return f"<mtext>{escape(name)}</mtext>"


def _sub(base: str, below: str) -> str:
    return f"<msub>{base}<mrow>{below}</mrow></msub>"


def _row(base: str) -> str:
    """Return something with the row's subscript i."""
    return _sub(base, _mi("i"))


def _math(content: str) -> str:
    return f'<math display="block"><mrow>{content}</mrow></math>'


def _normal(inside: str) -> str:
    return f"{TILDE}{_text('Normal')}{_mo('(')}{inside}{_mo(')')}"


_MEAN = {"bernoulli": "p", "binomial": "p"}


def likelihood(model: Model) -> str:
    """Return the response's distribution given its mean."""
    family, design = model.family, model.design
    y = _row(_text(design.response))
    mean = _row(_mi(_MEAN.get(family.name, "&#956;")))
    residual = design.residual
    if family.name == "gaussian" and residual is not None and not residual.simple:
        return _structured(model)
    if family.name == "gaussian":
        return _math(y + _normal(f"{mean}{_mo(',')}{_residual_variance(model)}"))
    if design.thresholds:
        return _ordinal(model)
    if design.by_level:
        return _by_level(model)
    name = "".join(part.capitalize() for part in family.name.split("_"))
    inside = [_row(_text("trials")), mean] if design.trials is not None else [mean]
    for own in model.resolved.parameters:
        symbol = _text(own.name)
        inside.append(_row(symbol) if own.linear else symbol)
    inside_all = _mo(",").join(inside)
    return _math(f"{y}{TILDE}{_text(name)}{_mo('(')}{inside_all}{_mo(')')}")


def _ordinal(model: Model) -> str:
    """Return the probability of each category or a lower one."""
    y = _row(_text(model.design.response))
    below = f"{_text('P')}{_mo('(')}{y}{_mo('&#8804;')}{_mi('k')}{_mo(')')}"
    cut = _sub(_text("cutpoint"), _mi("k"))
    left = f"{_text(model.family.link)}{_mo('(')}{below}{_mo(')')}"
    return _math(f"{left}{_mo('=')}{cut}{_mo('&#8722;')}{_row(_mi('&#956;'))}")


def _by_level(model: Model) -> str:
    """Return the distribution of a level, or of counts by level, given probabilities."""
    y = _row(_text(model.design.response))
    name = "".join(part.capitalize() for part in model.family.name.split("_"))
    inside = [_row(_text("trials"))] if model.design.trials is not None else []
    inside.append(_row("<mi mathvariant='bold'>p</mi>" if model.family.link == "softmax" else
                       "<mi mathvariant='bold'>&#945;</mi>"))  # fmt: skip
    return _math(f"{y}{TILDE}{_text(name)}{_mo('(')}{_mo(',').join(inside)}{_mo(')')}")


def _level_predictors(model: Model) -> str:
    """Return what the linear predictor of a level k stands for."""
    mu = _sub(_mi("&#956;"), f"{_mi('i')}{_mi('k')}")
    if model.family.link != "softmax":
        alpha = _sub(_mi("&#945;"), f"{_mi('i')}{_mi('k')}")
        return _math(f"{_text('log')}{_mo('(')}{alpha}{_mo(')')}{_mo('=')}{mu}")
    p = _sub(_mi("p"), f"{_mi('i')}{_mi('k')}")
    first = _sub(_mi("p"), f"{_mi('i')}<mn>1</mn>")
    return _math(f"{_text('log')}<mfrac>{p}{first}</mfrac>{_mo('=')}{mu}")


def _structured(model: Model) -> str:
    """Return the distribution of all rows together, whose covariance has parameters."""
    residual = model.design.residual
    names = []
    if residual is not None and residual.sigma is not None:
        names.append(_mi("&#963;"))
    if residual is not None and residual.correlation_name is not None:
        names.append(_text(residual.correlation_name))
    bold = "<mi mathvariant='bold'>{}</mi>".format
    covariance = f"{bold('R')}{_mo('(')}{_mo(',').join(names)}{_mo(')')}"
    mean = bold("&#956;")
    return _math(_text(model.design.response) + _normal(f"{mean}{_mo(',')}{covariance}"))


def _residual_variance(model: Model) -> str:
    """Return the variance of a Gaussian row."""
    design = model.design
    sigma = f"<msup>{_mi('&#963;')}<mn>2</mn></msup>"
    known = f"<msubsup>{_text('se')}{_mi('i')}<mn>2</mn></msubsup>"
    if "se" in design.formula.additions:
        return f"{known}{_mo('+')}{sigma}" if design.se_with_sigma else known
    if "precision" in design.formula.additions:
        return f"<mfrac>{sigma}{_row(_text('precision'))}</mfrac>"
    return sigma


def predictor(model: Model) -> str:
    """Return the linear predictor, in numbers of terms that fit a line, else with vectors."""
    design, family = model.design, model.family
    if design.by_level:
        return _level_predictors(model)
    mean = _row(_mi(_MEAN.get(family.name, "&#956;")))
    left = mean
    if family.link != "identity" and not design.thresholds:
        left = f"{_text(family.link)}{_mo('(')}{mean}{_mo(')')}"
    count = len(design.coefs) + sum(len(t.coefs) for t in design.terms)
    parts = _scalar_terms(model) if count <= MOST_TERMS else _vector_terms(model)
    if product_rows(design).offset.any():
        parts.append(_row(_text("offset")))
    return _math(left + _mo("=") + _mo("+").join(parts or ["<mn>0</mn>"]))


def _times(coefficient: str, name: str) -> str:
    """Return a coefficient times its column; the intercept's column is 1."""
    return coefficient if name == INTERCEPT else f"{coefficient}{GAP}{_row(_text(name))}"


def _effect(term: Term, name: str) -> str:
    """Return the group effect of the level that row i belongs to."""
    level = f"{_text(term.group)}{_mo('[')}{_mi('i')}{_mo(']')}"
    return _sub(_mi("r"), f"{level}{_mo(',')}{_text(name)}")


def _scalar_terms(model: Model) -> list[str]:
    """Return one term for each coefficient and group effect."""
    design = model.design
    common = [
        _times(_text(INTERCEPT) if c == INTERCEPT else _sub(_mi("b"), _text(c)), c)
        for c in design.coefs
    ]
    return common + [_times(_effect(t, c), c) for t in design.terms for c in t.coefs]


def _vector_terms(model: Model) -> list[str]:
    """Return one product of vectors for the common part and for each bar."""
    turned = "<msubsup><mi mathvariant='bold'>{}</mi><mi>i</mi><mo>&#8242;</mo></msubsup>"
    parts = []
    if model.design.coefs:
        parts.append(turned.format("x") + "<mi mathvariant='bold'>b</mi>")
    for term in model.design.terms:
        level = f"{_text(term.group)}{_mo('[')}{_mi('i')}{_mo(']')}"
        parts.append(turned.format("z") + _sub("<mi mathvariant='bold'>r</mi>", level))
    return parts


def effects(term: Term) -> list[str]:
    """Return the distribution of a bar's group effects, one formula or more."""
    level = f"{_text(term.group)}{_mo('[')}{_mi('j')}{_mo(']')}"
    if term.correlated:
        names = _column([_sub(_mi("r"), f"{level}{_mo(',')}{_text(c)}") for c in term.coefs])
        covariance = _sub("<mi mathvariant='bold'>&#931;</mi>", _text(term.group))
        sd = _sub(_text("sd"), _text(term.group))
        diagonal = f"{_text('diag')}{_mo('(')}{sd}{_mo(')')}"
        cor = _sub(_text("cor"), _text(term.group))
        return [
            _math(names + _normal(f"<mn>0</mn>{_mo(',')}{covariance}")),
            _math(f"{covariance}{_mo('=')}{diagonal}{GAP}{cor}{GAP}{diagonal}"),
        ]
    out = []
    for c in term.coefs:
        sd = f"<msubsup>{_text('sd')}<mrow>{_text(f'{term.group}[{c}]')}</mrow><mn>2</mn></msubsup>"
        single = _sub(_mi("r"), f"{level}{_mo(',')}{_text(c)}")
        out.append(_math(single + _normal(f"<mn>0</mn>{_mo(',')}{sd}")))
    return out


def _column(entries: Sequence[str]) -> str:
    """Return a column vector; only its ends where it is long."""
    if len(entries) > 4:
        entries = [*entries[:2], "<mo>&#8942;</mo>", entries[-1]]
    cells = "".join(f"<mtr><mtd>{e}</mtd></mtr>" for e in entries)
    return f"<mrow>{_mo('(')}<mtable>{cells}</mtable>{_mo(')')}</mrow>"


def formulas(model: Model) -> list[str]:
    """Return the whole model as MathML, one formula an entry.

    Parameters
    ----------
    model : Model

    Returns
    -------
    list of str
        Safe to insert into a page: every name is escaped.
    """
    out = [likelihood(model), predictor(model)]
    for term in model.design.terms:
        out.extend(effects(term))
    return out
