"""Where everything stands in the flat buffer that the compiled kernel reads.

The positions are counted in float64. Integers are held as float64 (exact to 2**53), except the
rows' positions among the effects, which are int64 with the same width.
"""

from typing import Final

# Places in the buffer's head. AT_* hold positions in the buffer, counted in float64.
(
    TOTAL, NDIM, ROWS, COEFS, BARS, FAMILY, HAS_SIGMA, CONSTANT, WEIGHT, EFFECTS, MATRICES,
    AT_OFFSET, AT_X, AT_A, AT_B, AT_C, AT_COEF_PRIORS, AT_SIGMA_PRIOR, AT_BARS,
) = range(19)  # fmt: skip
HEAD: Final = 24
# Places in the record of a bar. AT_SDS, AT_CORRELATION and AT_DRAWS count in the unconstrained
# vector, FIRST_EFFECT and FIRST_MATRIX in the kernel's scratch.
(
    SIZE, LEVELS, AT_SDS, AT_CORRELATION, AT_DRAWS, FIRST_EFFECT, FIRST_MATRIX, CENTRED, LKJ_ETA,
    AT_SD_PRIORS, AT_POSITIONS, AT_Z, SHIFTED, AT_SHIFT,
) = range(14)  # fmt: skip
BAR: Final = 14
PRIOR: Final = 4  # code and three numbers

GAUSSIAN, GAUSSIAN_ERRORS, BINOMIAL, POISSON = range(4)
NORMAL, STUDENT_T, LAPLACE, HALF_T, HALF_NORMAL, GAMMA, INVERSE_GAMMA, LOG_NORMAL = range(8)
