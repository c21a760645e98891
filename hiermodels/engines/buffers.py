"""Where everything stands in the flat buffer that the compiled kernel reads.

The positions are counted in float64. Integers are held as float64 (exact to 2**53), except indices
of rows, which are int64 with the same width.
"""

from typing import Final

# Places in the buffer's head. AT_* hold positions in the buffer, counted in float64. The first
# predictor is the mean's, the others are the further parameters; the first EACH_ROW of them are
# evaluated for each row.
(
    TOTAL, NDIM, ROWS, FAMILY, CONSTANT, WEIGHT, PREDICTORS, EACH_ROW, AT_PREDICTORS, BARS, AT_BARS,
    EFFECTS, MATRICES, AT_A, AT_B, AT_C, AT_D, AT_EXTRA, SPECIAL, SPECIALS, AT_SPECIAL_INDEX,
    AT_SPECIAL_Y, AT_SPECIAL_WEIGHT, CUTPOINTS,
) = range(24)  # fmt: skip
HEAD: Final = 24
# Places in the record of a predictor; AT_COORDINATES counts in the unconstrained vector.
(
    KIND, COUNT, AT_COORDINATES, AT_PRIORS, AT_X, AT_OFFSET, AT_INDEX, FIRST_BAR, LAST_BAR,
) = range(9)  # fmt: skip
PREDICTOR: Final = 9
# Places in the record of a bar; one of several subpopulations has a record for each, of which the
# first holds the rows and the others have no MEMBERS. AT_SDS, AT_CORRELATION, AT_DRAWS and AT_NU
# count in the unconstrained vector, as does AT_BETA, where the coefficients begin of which a shift
# takes SHIFTED; FIRST_EFFECT and FIRST_MATRIX count in the kernel's scratch.
(
    SIZE, LEVELS, AT_SDS, AT_CORRELATION, AT_DRAWS, FIRST_EFFECT, FIRST_MATRIX, CENTRED, LKJ_ETA,
    AT_SD_PRIORS, AT_POSITIONS, AT_Z, SHIFTED, AT_SHIFT, AT_BETA, MEMBERS,
    AT_COV, AT_NU, AT_NU_PRIOR,
) = range(19)  # fmt: skip
BAR: Final = 19
PRIOR: Final = 4  # code and three numbers

# Kinds of predictors: linear, one value for all rows, a value by stratum, increasing cutpoints.
LINEAR, ONE, STRATA, ORDERED = range(4)
# Families with their links.
(
    GAUSSIAN, GAUSSIAN_ROWS, GAUSSIAN_ERRORS, GAUSSIAN_BOUNDED, LOGIT, PROBIT, CLOGLOG, POISSON,
    STUDENT, NEGATIVE_BINOMIAL, GAMMA_LOG, BETA_LOGIT, BETA_BINOMIAL, CUMULATIVE_LOGIT,
    CUMULATIVE_PROBIT, ZERO_POISSON, ZERO_NEGATIVE_BINOMIAL, BERNOULLI,
) = range(18)  # fmt: skip
# Terms of a density that hold one parameter and no predictor: none, log of a rising factorial,
# the rest of Stirling's formula, the constant of Student's t.
NOTHING, RISING, STIRLING, STUDENT_CONSTANT = range(4)
(
    NORMAL, STUDENT_T, LAPLACE, HALF_T, HALF_NORMAL, GAMMA, INVERSE_GAMMA, LOG_NORMAL, BETA,
) = range(9)  # fmt: skip
