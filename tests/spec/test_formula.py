"""The grammar, line by line; what a formula may not hold; and fuzzing."""

import builtins
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiermodels.errors import FormulaError
from hiermodels.spec.design import build_design
from hiermodels.spec.families import Family
from hiermodels.spec.formula import parse_formula


def bars(text):
    return [(bar.effects, bar.group_name, bar.correlated) for bar in parse_formula(text).bars]


# --- responses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "response", "columns"),
    [
        ("y", "y", ("y",)),
        ("log(y)", "log(y)", ("y",)),
        ("I(y > 2)", "I(y > 2)", ("y",)),
        ("a + b", "a + b", ("a", "b")),
        ("(y)", "y", ("y",)),
        ("np.log(y)", "np.log(y)", ("y",)),
        ("`odd name`", "odd name", ("odd name",)),
        ("log(`odd name`)", "log(odd name)", ("odd name",)),
        ("Sepal.Length", "Sepal.Length", ("Sepal.Length",)),
        ("I(Sepal.Length^2)", "I(Sepal.Length ** 2)", ("Sepal.Length",)),
        # names that Python reserves, would normalise, or that stand for something in expressions
        ("class", "class", ("class",)),
        ("pi", "pi", ("pi",)),
        ("µ", "µ", ("µ",)),
        ("I(µ * 2)", "I(µ * 2)", ("µ",)),
    ],
)
def test_responses(left, response, columns):
    formula = parse_formula(f"{left} ~ x")
    assert formula.response.label == response
    assert formula.response.columns == columns


@pytest.mark.parametrize(
    ("left", "additions"),
    [
        ("y | trials(n)", {"trials": ("n", False)}),
        ("y | trials(10)", {"trials": ("10", False)}),
        ("y | weights(w)", {"weights": ("w", False)}),
        ("y | precision(w)", {"precision": ("w", False)}),
        ("y | se(s)", {"se": ("s", False)}),
        ("y | se(s, sigma=True)", {"se": ("s", True)}),
        ("y | se(s, sigma = TRUE)", {"se": ("s", True)}),
        ("y | se(s, sigma=False)", {"se": ("s", False)}),
        ("y | trials(n) + weights(1 / w)", {"trials": ("n", False), "weights": ("1 / w", False)}),
        ("log(y) | weights(`a, b`)", {"weights": ("a, b", False)}),
    ],
)
def test_additions(left, additions):
    formula = parse_formula(f"{left} ~ x")
    found = {
        name: (addition.expression.label, addition.with_sigma)
        for name, addition in formula.additions.items()
    }
    assert found == additions


# --- common part ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "common"),
    [
        ("1 + x + h", "1 + `x` + `h`"),
        ("x * h", "`x`*`h`"),
        ("x:h", "`x`:`h`"),
        ("h/x", "`h`/`x`"),
        ("(x + z)**2", "(`x` + `z`)**2"),
        ("(x + z)^2", "(`x` + `z`)**2"),
        ("0 + h", "0 + `h`"),
        ("x - 1", "`x` - 1"),
        ("-1 + x", "- 1 + `x`"),
        ("x - -z", "`x` + `z`"),
        ("I(x > 2)", "`I(x > 2)`"),
        ("I(x^2)", "`I(x ** 2)`"),
        ("I(2 ** x)", "`I(2 ** x)`"),
        ("poly(x, 2)", "`poly(x, 2)`"),
        ("log(x) + log2(x) + exp(x)", "`log(x)` + `log2(x)` + `exp(x)`"),
        ("np.sqrt(x)", "`np.sqrt(x)`"),
        ("scale(x) + center(z)", "`scale(x)` + `center(z)`"),
        ("bs(x, df=5) + cr(z, df=4)", "`bs(x, df=5)` + `cr(z, df=4)`"),
        ("C(h, contr.sum)", "`C(h, contr.sum)`"),
        ("C(h, Treatment('mid'))", "`C(h, Treatment('mid'))`"),
        ("C(w, levels=[3, 1, 2])", "`C(w, levels=[3, 1, 2])`"),
        ("`odd name` * x", "`odd name`*`x`"),
        ("I(sin(2 * pi * x))", "`I(sin(2 * pi * x))`"),
        ("(1 | g)", "1"),
        ("x + (1 | g) + z", "`x` + `z`"),
    ],
)
def test_common_part(right, common):
    assert parse_formula(f"y ~ {right}").common == common


def test_offsets_are_kept_apart():
    formula = parse_formula("y ~ x + offset(log(z)) + offset(w)")
    assert [offset.label for offset in formula.offsets] == ["log(z)", "w"]
    assert formula.common == "`x`"
    assert formula.columns == ("y", "x", "z", "w")


# --- bars -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(x | g)", [("1 + `x`", "g", True)]),
        ("(1 + x | g)", [("1 + `x`", "g", True)]),
        ("(0 + x | g)", [("0 + `x`", "g", True)]),
        ("(x - 1 | g)", [("0 + `x`", "g", True)]),
        ("(1 | a/b)", [("1", "a", True), ("1", "a:b", True)]),
        ("(1 | a/b/c)", [("1", "a", True), ("1", "a:b", True), ("1", "a:b:c", True)]),
        ("(1 | a:b)", [("1", "a:b", True)]),
        ("(1 | (a/b))", [("1", "a", True), ("1", "a:b", True)]),
        ("(h | g)", [("1 + `h`", "g", True)]),
        ("(h:k | g)", [("1 + `h`:`k`", "g", True)]),
        ("(x * z | g)", [("1 + `x` + `z` + `x`:`z`", "g", True)]),
        ("(x || g)", [("1", "g", True), ("0 + `x`", "g", True)]),
        ("(a + h || g)", [("1", "g", True), ("0 + `a`", "g", True), ("0 + `h`", "g", True)]),
        ("(0 + h || g)", [("0 + `h`", "g", True)]),
        (
            "(x * z || g)",
            [
                ("1", "g", True),
                ("0 + `x`", "g", True),
                ("0 + `z`", "g", True),
                ("0 + `x`:`z`", "g", True),
            ],
        ),
        ("(diag(h) | g)", [("1 + `h`", "g", False)]),
        ("(diag(0 + h) | g)", [("0 + `h`", "g", False)]),
        (
            "(x || a/b)",
            [
                ("1", "a", True),
                ("0 + `x`", "a", True),
                ("1", "a:b", True),
                ("0 + `x`", "a:b", True),
            ],
        ),
        ("(1 | a) + (0 + log(x) | `b c`)", [("1", "a", True), ("0 + `log(x)`", "b c", True)]),
    ],
)
def test_bars(text, expected):
    assert bars(f"y ~ x + {text}") == expected


def test_white_space_and_line_ends_mean_nothing_outside_backticks():
    formula = parse_formula("  y ~ x\n  + (1\t|  g) + `a  b` ")
    assert str(formula) == "y ~ x + (1 | g) + `a  b`"
    assert formula == parse_formula(str(formula))
    assert "a  b" in formula.columns
    bar = formula.bars[0]
    assert formula.text[bar.start : bar.end] == "(1 | g)"


def test_a_list_of_one_formula_is_that_formula():
    assert parse_formula(["y ~ x"]) == parse_formula("y ~ x")


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The formula is empty"),
        ("y x", "has no '~'"),
        ("y ~ x ~ z", "one '~'; this is a second"),
        ("~ x", "Nothing stands before '~'"),
        ("y ~", "Nothing stands after '~'.*'y ~ 1'"),
        ("2 ~ x", "response must name a column"),
        ("| weights(w) ~ x", "Name the response before the '\\|'"),
        ("y | ~ x", "comes one of trials, weights, precision, se"),
        ("y || weights(w) ~ x", "takes one '\\|'"),
        ("y | weights(w) | se(s) ~ x", "takes one '\\|'"),
        ("y | foo(w) ~ x", "Got 'foo\\(w\\)' as an addition.*trials\\(\\), weights\\(\\)"),
        ("y | w ~ x", "Got 'w' as an addition"),
        ("y | weights(w) + ~ x", "another addition is missing"),
        ("y | weights(w) se(s) ~ x", "Join additions by '\\+'"),
        ("y | weights() ~ x", "weights\\(\\) takes one column"),
        ("y | weights(a, b) ~ x", "weights\\(\\) takes one column"),
        ("y | weights(a) + weights(b) ~ x", "stands twice"),
        ("y | se(s, sigma=1) ~ x", "sigma=True or sigma=False"),
        ("y | se(s) + weights(w) ~ x", "leave out weights\\(\\) and precision"),
        ("y | weights(w) + precision(w) ~ x", "give one of them"),
        ("y | cens() ~ x", "write cens\\(c\\), or cens\\(c, y2\\)"),
        ("y | cens(y2=u) ~ x", "write cens\\(c\\)"),
        ("y | cens(c, u, v) ~ x", "write cens\\(c\\)"),
        ("y | trunc() ~ x", "write trunc\\(lb=..., ub=...\\)"),
        ("y | trunc(lb=0, lb=1) ~ x", "write trunc\\(lb=..., ub=...\\)"),
        ("y | trunc(lower=0) ~ x", "write trunc\\(lb=..., ub=...\\)"),
        ("y ~ x z", "Text after a complete formula"),
        ("y ~ x + (x | g) z", "Text after a complete formula"),
        ("y ~ x +", "ends where a term should stand"),
        ("y ~ x:", "ends where a term should stand"),
        ("y ~ * x", "Got '\\*' where a column or a function should stand"),
        ("y ~ (x", "'\\(' is never closed"),
        ("y ~ x)", "'\\)' closes nothing"),
        ("y ~ log(x", "'\\(' is never closed"),
        ("y ~ log(x]", "Got '\\]' where '\\)' must close"),
        ("y ~ .", "'\\.' for all columns"),
        ("y ~ x %in% g", "character '%' has no meaning"),
        ("y ~ `x", "closing backtick"),
        ("y ~ ``", "closing backtick"),
        ("y ~ C(h, 'a)", "is never closed"),
        ("y ~ 2", "number 2 is no term"),
        ("y ~ 0 * x", "no factor of a product"),
        ("y ~ x**9", "interactions up to that order, 1 to 6"),
        ("y ~ x**z", "interactions up to that order, 1 to 6"),
        ("y ~ lgo(x)", "function lgo\\(\\) is not known.*Did you mean log"),
        ("y ~ factor(w)", "function factor\\(\\) is not known.*Write C\\(x\\)"),
        ("y ~ as.factor(w)", "Write C\\(x\\)"),
        ("cbind(s, f) ~ x", "s \\| trials\\(n\\)"),
        ("y ~ poly(x, 2, raw=TRUE)", "TRUE is R's: write True"),
        ("y ~ x (1 | g)", "a \\+ is missing after x"),
        ("y ~ log(2)", "names no column"),
        ("y ~ log(x, z)", "log\\(\\) takes one argument"),
        ("y ~ log(x, out=z)", "log\\(\\) takes one argument"),
        ("y ~ scale()", "scale\\(\\) needs a column first"),
        ("y ~ scale(x, z)", "takes numbers, text and lists of them; got 'z'"),
        ("y ~ C(h, log)", "no coding 'log'; allowed are contr.treatment"),
        ("y ~ C(h, contr.custom)", "no coding 'contr.custom'"),
        ("y ~ poly(x, 1000)", "at most 100 columns; got 1000"),
        ("y ~ bs(x, df=1e9)", "at most 100 columns"),
        ("y ~ `Intercept`", "may not be called 'Intercept'"),
        ("y ~ x + (`1` | g)", "may not be called '1'"),
        ("y ~ `.`", "may not be called '\\.'"),
        ("y ~ `log(x)` + log(x)", "both a column and an expression"),
        ("y ~ log(x) + (diag(`log(x)`) | g)", "both a column and an expression"),
        ("y ~ gr(g)", "gr\\(\\) stands on the right of a bar"),
        ("y ~ diag(h)", "stands alone on the left of a bar"),
        ("y ~ x:offset(z)", "term of its own"),
        ("y ~ x - offset(z)", "An offset is added"),
        ("y ~ (offset(z) | g)", "term of its own"),
        ("y ~ offset()", "no valid expression"),
        ("y ~ x | g", "A bar needs brackets"),
        ("y ~ (x | g | h)", "one '\\|'. Write two bars"),
        ("y ~ (| g)", "The bar has no effects"),
        ("y ~ ( | )", "The bar has no effects"),
        ("y ~ (0 | g)", "The bar has no effects"),
        ("y ~ (1 - 1 | g)", "The bar has no effects"),
        ("y ~ (x |)", "names no grouping"),
        ("y ~ (x | log(g))", "not a function"),
        ("y ~ (x | gr(g)/h)", "gr\\(\\) is the whole grouping"),
        ("y ~ (x | 1)", "Got '1' where a grouping column"),
        ("y ~ (x | a + b)", "write two bars: \\(1 \\| a\\) \\+ \\(1 \\| b\\)"),
        ("y ~ (x | a * b)", "Got '\\*' in a grouping"),
        ("y ~ - (x | g)", "cannot be taken away"),
        ("y ~ (x | g) * z", "A bar is a term of its own"),
        ("y ~ ((x | g))", "cannot stand inside another term"),
        ("y ~ z:(x + (1 | g))", "cannot stand inside another term"),
        ("y ~ (diag(h) || g)", "write a single"),
        ("y ~ (diag(h | k) | g)", "inside diag"),
        ("y ~ I(class + 1)", "column called class is written in backticks"),
        ("y ~ a*b*c*d*e*f*g*h*i*j*k*l*m", "terms of 8 factors are allowed"),
        ("y ~ (a+b+c+d+e+f+g+h+i+j+k+l+m+n+o+p)**6", "at most 2,000 terms"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(FormulaError, match=f"(?s){message}"):
        parse_formula(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("y ~ x + (x | g | h)", "|"),
        ("y ~ x + lgo(x) + z", "lgo(x)"),
        ("y ~ x z", "z"),
        ("y ~ x + (x | g) z", "z"),
        ("y ~ (x", "("),
        ("y ~ x ~ z", "~"),
        ("y | foo(w) ~ x", "foo(w)"),
    ],
)
def test_the_place_is_marked(text, place):
    with pytest.raises(FormulaError) as caught:
        parse_formula(text)
    _, line, marks = str(caught.value).splitlines()
    assert line[marks.index("^") : marks.rindex("^") + 1] == place


def test_the_place_is_marked_in_a_long_formula():
    text = "y ~ " + " + ".join(f"x{i}" for i in range(300)) + " + lgo(x) + " + "z + " * 200 + "z"
    with pytest.raises(FormulaError) as caught:
        parse_formula(text)
    _, line, marks = str(caught.value).splitlines()
    assert len(line) < 200
    assert line[marks.index("^") : marks.rindex("^") + 1] == "lgo(x)"


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (3, "got int"),
        (None, "got NoneType"),
        (["y ~ x", "shape + 1 ~ z"], "Got a second formula, for 'shape \\+ 1'"),
        ([], "formula is empty"),
        (b"y ~ x", "got bytes"),
    ],
)
def test_a_formula_is_text(formula, message):
    with pytest.raises(FormulaError, match=message):
        parse_formula(formula)


# --- no formula runs code -------------------------------------------------------------------

ATTACKS = [
    # attribute access and dunder names
    "x.__class__",
    "I(x.__class__)",
    "I(x.values)",
    "log(x).real",
    "I(log(x).real)",
    "I(().__class__)",
    "I(''.join)",
    "__import__('os')",
    "I(__import__('os'))",
    "__builtins__",
    "I(__builtins__)",
    "I(`__class__`)",
    "`x.__class__`",
    "np.__loader__",
    "I(np.__dict__)",
    "np.lib.os.system('touch evil')",
    "np.load('file')",
    "np.fromfile(x)",
    "contr.__class__",
    # lambdas, comprehensions, generators, f-strings, walrus, subscripts, conditionals, stars
    "I(lambda: x)",
    "I((lambda: x)())",
    "I([v for v in x])",
    "I({v for v in x})",
    "I({v: v for v in x})",
    "I(sum(v for v in x))",
    "I(f'{x}')",
    "C(h, f'{x}')",
    "I((x := 3))",
    "I(x[0])",
    "x[0]",
    "I(x if x else x)",
    "I(*x)",
    "log(**x)",
    "I(x and x)",
    "I(not x)",
    "I(x in x)",
    "I(x is x)",
    "I(await_(x))",
    "I((yield x))",
    "I(...)",
    "I(b'x')",
    "I(1j * x)",
    "I({'a': x})",
    # names outside the list
    "eval('1')",
    "I(eval('1'))",
    "exec(x)",
    "open('file')",
    "I(getattr(x, 'y'))",
    "log(open(x))",
    "I(print(x))",
    "scale(x, eval('1'))",
    "scale(x, _state={})",
    "poly(x, degree=2, degree=3)",
    "C(h, Treatment(base='low', base='mid'))",
    "poly(x, _state=1)",
    "C(h, contr.custom(x))",
    "C(h, levels=[eval('1')])",
    "I(I(I(breakpoint())))",
    "log(log)(x)",
    "import os",
    "I(import os)",
    "x; import os",
    "I(x); import os",
    # text that would end the string or the name it stands in, in code built around it
    "C(h, levels=[\"`', evil(), '`\"])",
    "C(h, levels=['`', evil(), '`'])",
    'scale(x, ") or evil() #")',
    'scale(x, "\'] or evil() #")',
    "C(h, levels=['a\\' + evil() + \\'b'])",
    "C(h, levels=['''a''' 'b\"c'])",
    "I(x + `'` + evil() + `'`)",
    "I(`x) + evil(` + x)",
    "I(_quoted_0_ + `x`)",
    # cost without bound
    "I(9**9**9 * x)",
    "I(x**1000000)",
    "I(x**(10**10))",
    "I('a' * 1000000000)",
    "I('%1000000000d' % x)",
    "I(1 << 1000000)",
    "poly(x, 1000000000)",
    "cr(x, df=100000)",
    "I(x * " + "9" * 5000 + ")",
    "(" * 200 + "x" + ")" * 200,
    "I(" * 200 + "x" + ")" * 200,
    "I(x + " + "[" * 200 + "]" * 200 + ")",
    "I(" + "-" * 9000 + "x)",
    "I(" + "+".join(["x"] * 4000) + ")",
    "*".join(f"v{i}" for i in range(200)),
    ":".join(f"v{i}" for i in range(200)),
    "/".join(f"v{i}" for i in range(200)),
    "((" + "+".join(f"v{i}" for i in range(100)) + ")**6)**6",
    "x" * 1_000_000,
    "+x" * 500_000,
    "(" * 1_000_000,
    " " * 1_000_000 + "x.",
    "a." * 4_900 + "(",
    "`" * 9_999,
    "'" * 9_999,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda text: text[:40])
@pytest.mark.parametrize("place", ["y ~ {}", "{} ~ x", "y ~ ({} | g)", "y | weights({}) ~ x"])
def test_no_formula_runs_code(attack, place, frame, monkeypatch):
    ran = []
    monkeypatch.setattr(builtins, "evil", lambda: ran.append(1), raising=False)
    monkeypatch.setattr(builtins, "breakpoint", lambda: ran.append(1))
    start = time.perf_counter()
    with pytest.raises(FormulaError):
        build_design(parse_formula(place.format(attack)), frame, Family("gaussian"))
    assert not ran
    # Each takes milliseconds; what is guarded against takes minutes or all memory.
    assert time.perf_counter() - start < 5.0


def test_a_string_constant_is_data_only(build):
    """Harmless text still works in the places that need it."""
    design = build("y ~ C(h, Treatment('mid')) + I(k == 'p')")
    assert design.coefs == (
        "Intercept",
        "C(h, Treatment('mid'))[T.low]",
        "C(h, Treatment('mid'))[T.high]",
        "I(k == 'p')[T.True]",
    )


# --- fuzzing --------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *("y x z h g n w `odd name` a.b _v é pi np C I log".split(" ")),
        *("0 1 2 2.5 1e3 .5 1e999".split()),
        *("~ | || + - * : / ** ^ ( ) [ ] , = == > & % . ` ' \" \\ # ; { } @ $ ~".split()),
        *"log( I( C( poly( scale( offset( trials( weights( se( diag( gr( np.exp( contr.sum".split(),
        *(" ", "\n", "\t", "\x00", "sigma=True", "df=3", "lambda", "x.__class__", "'p'"),
    ]
)


@settings(max_examples=400)
@given(st.lists(PIECES, max_size=25).map("".join))
def test_text_over_the_alphabet_gives_a_formula_or_a_formula_error(text):
    for formula in (text, f"y ~ {text}", f"y ~ x + ({text} | g)"):
        try:
            parse_formula(formula)
        except FormulaError as error:
            assert str(error)  # noqa: PT017 (an error is one of two right answers)


@settings(max_examples=300)
@given(st.text(st.characters(), max_size=60))
def test_arbitrary_text_gives_a_formula_or_a_formula_error(text):
    for formula in (text, f"y ~ {text}", f"y ~ I({text})", f"y ~ `{text}`"):
        try:
            parsed = parse_formula(formula)
        except FormulaError as error:
            assert str(error)  # noqa: PT017 (an error is one of two right answers)
        else:
            assert parse_formula(parsed.text) == parsed


ATOMS = st.sampled_from(["x", "z", "h", "k", "log(z)", "I(x**2)", "scale(x)", "C(w)", "flag"])
SUMS = st.recursive(
    ATOMS,
    lambda inner: st.tuples(inner, st.sampled_from(["+", "*", ":", "/", "-"]), inner).map(
        lambda t: f"({t[0]} {t[1]} {t[2]})"
    ),
    max_leaves=4,
)


@settings(max_examples=200)
@given(SUMS, SUMS, st.sampled_from(["|", "||"]))
def test_formulas_of_the_grammar_are_read_and_read_back(common, effects, split):
    text = f"y ~ {common} + ({effects} {split} g)"
    try:
        parsed = parse_formula(text)
    except FormulaError as error:
        # x - x leaves a bar without effects; that is all that can go wrong
        assert "no effects" in str(error)  # noqa: PT017
    else:
        assert parse_formula(str(parsed)) == parsed
        assert {bar.group_name for bar in parsed.bars} == {"g"}
