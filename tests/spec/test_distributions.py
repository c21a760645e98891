"""Priors as values: read from text, from numbers and from other packages' objects, or refused."""

from dataclasses import FrozenInstanceError
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hiermodels.errors import PriorError
from hiermodels.spec.distributions import DISTRIBUTIONS, Prior, as_prior, names_for


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("Normal(0, 5)", "Normal", {"mu": 0.0, "sigma": 5.0}),
        ("Normal(sigma=5)", "Normal", {"mu": 0.0, "sigma": 5.0}),
        (" Normal( -1.5e2 , sigma = +2 ) ", "Normal", {"mu": -150.0, "sigma": 2.0}),
        ("StudentT(3, 0, 10)", "StudentT", {"nu": 3.0, "mu": 0.0, "sigma": 10.0}),
        ("StudentT(nu=3, sigma=10)", "StudentT", {"nu": 3.0, "mu": 0.0, "sigma": 10.0}),
        ("Cauchy(beta=2)", "Cauchy", {"alpha": 0.0, "beta": 2.0}),
        ("Laplace(1, 2)", "Laplace", {"mu": 1.0, "b": 2.0}),
        ("HalfNormal(sigma=2)", "HalfNormal", {"sigma": 2.0}),
        ("HalfStudentT(nu=3, sigma=20)", "HalfStudentT", {"nu": 3.0, "sigma": 20.0}),
        ("HalfCauchy(2)", "HalfCauchy", {"beta": 2.0}),
        ("Exponential(0.1)", "Exponential", {"lam": 0.1}),
        ("Gamma(2, 0.1)", "Gamma", {"alpha": 2.0, "beta": 0.1}),
        ("InverseGamma(2, 1)", "InverseGamma", {"alpha": 2.0, "beta": 1.0}),
        ("LogNormal(sigma=1)", "LogNormal", {"mu": 0.0, "sigma": 1.0}),
        ("LKJ(2)", "LKJ", {"eta": 2.0}),
    ],
)
def test_from_text(text, name, arguments):
    prior = as_prior(text)
    assert (prior.name, dict(prior.arguments)) == (name, arguments)
    assert as_prior(prior.exact) == prior
    assert as_prior(prior) is prior


def test_supports():
    supports = {
        name: Prior(name, *[0.5 + k for k in range(len(s.arguments))])
        for name, s in DISTRIBUTIONS.items()
    }
    real = {name for name, prior in supports.items() if prior.support == "real"}
    assert real == {"Normal", "StudentT", "Cauchy", "Laplace"}
    assert names_for("correlation") == "LKJ"
    assert supports["LKJ"].support == "correlation"


def test_numpy_numbers_are_numbers():
    assert Prior("Normal", np.int64(0), np.float32(2.0)) == Prior("Normal", 0, 2)


def test_a_prior_of_another_package_is_read_by_shape():
    theirs = SimpleNamespace(name="HalfStudentT", args={"nu": 3, "sigma": np.array(2.5)})
    assert as_prior(theirs) == Prior("HalfStudentT", nu=3, sigma=2.5)
    nested = SimpleNamespace(name="Normal", args={"mu": 0, "sigma": SimpleNamespace(name="Gamma")})
    with pytest.raises(PriorError, match="sigma must be one number"):
        as_prior(nested)


def test_text_and_exact_text():
    prior = Prior("Normal", mu=1 / 3, sigma=2)
    assert str(prior) == "Normal(mu=0.3333, sigma=2)"
    assert repr(prior) == "Prior('Normal(mu=0.3333, sigma=2)')"
    assert as_prior(prior.exact).values == (1 / 3, 2.0)
    with pytest.raises(FrozenInstanceError):
        prior.name = "Cauchy"


@given(st.floats(-1e300, 1e300), st.floats(1e-300, 1e300))
def test_exact_text_reads_back_to_the_same_numbers(mu, sigma):
    prior = Prior("Normal", mu, sigma)
    assert as_prior(prior.exact).values == (mu, sigma)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("Norml(0, 1)", "'Norml' is not known; allowed are Normal, .*Did you mean Normal"),
        ("normal(0, 1)", "'normal' is not known"),
        ("Normal(0, 1, 2)", "takes 2 arguments; got 3"),
        ("Normal(5)", "give all arguments, or give them by name"),
        ("Normal(mu=1)", "misses sigma"),
        ("Normal(mean=0, sigma=1)", "no argument 'mean'; it takes mu, sigma"),
        ("HalfNormal(sigma=1, sigma=2)", "gives 'sigma' twice"),
        ("Normal(0, 1, sigma=2)", "got 'sigma' twice"),
        ("HalfNormal(0)", "sigma must be finite and above 0; got 0.0"),
        ("HalfNormal(-1)", "sigma must be finite and above 0; got -1.0"),
        ("Normal(1e999, 1)", "mu must be finite; got inf"),
        ("Normal(0, 1" + "0" * 400 + ")", "finite and above 0; got inf"),
        ("Normal(0, True)", "argument that is no number"),
        ("Normal(0, x)", "argument that is no number"),
        ("Normal(0, 10**5)", "argument that is no number"),
        ("Normal(0, __import__('os'))", "argument that is no number"),
        ("Normal(*[0, 1])", "argument that is no number"),
        ("Normal(**{'mu': 0})", "cannot be read"),
        ("Normal", "is not a distribution with arguments"),
        ("pm.Normal(0, 1)", "is not a distribution with arguments"),
        ("Normal(0, 1", "cannot be read.*such as 'HalfNormal"),
        ("Normal(0, 1if 2 else 3)", "no number"),
        ("(" * 500 + ")" * 500, "cannot be read"),
        ("", "cannot be read"),
        ("\x00", "cannot be read"),
        (3, "A prior is text such as.*got int"),
        (None, "got NoneType"),
        ({"name": "Normal"}, "names its distribution by dist"),
        ({"dist": "Normal", "mu": 0}, "misses sigma"),
        ({"dist": "HalfNormal", "sigma": "wide"}, "sigma must be one number"),
        ("PC(u=0, alpha=0.1)", "u must be finite and above 0; got 0.0"),
        ("PC(u=1, alpha=1)", "between 0 and 1; got 1.0"),
        ("PC(u=1, alpha=0)", "between 0 and 1; got 0.0"),
        ("PC(u=1)", "misses alpha"),
        ("LKJ(eta=0)", "eta must be finite and above 0"),
    ],
)
def test_refusals(value, message):
    with pytest.raises(PriorError, match=f"(?s){message}"):
        as_prior(value)


@pytest.mark.parametrize(
    ("name", "values", "arguments", "message"),
    [
        (["Normal"], (), {}, "is not known"),
        ("Normal", (0, "1"), {}, "sigma must be a number; got '1'"),
        ("Normal", (0, True), {}, "sigma must be a number; got True"),
        ("Normal", (0, None), {}, "sigma must be a number"),
        ("Normal", (0, float("nan")), {}, "sigma must be finite and above 0"),
        ("Normal", (10**400, 1), {}, "mu must be finite"),
        ("LKJ", (), {"eta": 0}, "eta must be finite and above 0"),
    ],
)
def test_refusals_of_values(name, values, arguments, message):
    with pytest.raises(PriorError, match=message):
        Prior(name, *values, **arguments)


def test_a_penalised_complexity_prior_is_an_exponential_one():
    prior = as_prior("PC(u=2, alpha=0.05)")
    # P(sd > u) = alpha
    assert 1 - stats.expon(scale=1 / prior.values[0]).cdf(2.0) == pytest.approx(0.05, rel=1e-12)
    assert prior == as_prior(prior.exact) == Prior("Exponential", lam=-np.log(0.05) / 2)
    assert str(prior) == "PC(u=2, alpha=0.05) = Exponential(lam=1.498)"
    assert repr(prior) == "Prior('PC(u=2, alpha=0.05)')"
    assert hash(prior) == hash(as_prior(prior.exact))
    assert "PC" in names_for("positive")


def test_a_dictionary_is_read():
    assert as_prior({"dist": "Normal", "mu": 1, "sigma": 2}) == Prior("Normal", 1, 2)
    assert as_prior({"dist": "PC", "u": 1, "alpha": 0.5}) == Prior("PC", 1, 0.5)


def preliz(name, **values):
    """Return what a distribution of PreliZ looks like."""
    names = {"param_names": tuple(values), "params": tuple(values.values())}
    return type(name, (), {**values, **names})()


def test_a_distribution_of_preliz_is_read_by_shape():
    theirs = preliz("HalfStudentT", nu=np.float64(3), sigma=np.float64(2), lam=np.float64(0.25))
    assert as_prior(theirs) == Prior("HalfStudentT", 3, 2)
    # maxent(..., plot=True) returns the axes too
    assert as_prior((theirs, object())) == Prior("HalfStudentT", 3, 2)
    with pytest.raises(PriorError, match=r"no value for sigma.*preliz.maxent\(HalfNormal"):
        as_prior(preliz("HalfNormal", sigma=None))
    with pytest.raises(PriorError, match="'Kumaraswamy' is not known"):
        as_prior(preliz("Kumaraswamy", a=1.0, b=2.0))
