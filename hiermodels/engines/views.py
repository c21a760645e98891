"""Views of numbers that stand in an array, for compiled functions: no slices, no counting.

A slice checks its ends, and numba counts who holds the array. These views do neither: the array
must outlive them, as an argument of a function does, and so does what `hold` is given at its end.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

# numba carries no types: mypy cannot see through its functions.
# mypy: disallow-untyped-calls=False


def _write(context: Any, builder: Any, view: Any, source: Any, kind: Any, sizes: Any) -> Any:
    """Return the array structure of a view: numbers from a place on, by rows."""
    array, at = source
    size = context.get_constant(types.intp, 8)
    strides = [size] if len(sizes) == 1 else [builder.mul(sizes[1], size), size]
    data = builder.gep(make_array(kind)(context, builder, array).data, [at])
    out = make_array(view)(context, builder)
    data = builder.bitcast(data, out.data.type)
    populate_array(out, data=data, shape=sizes, strides=strides, itemsize=size, meminfo=None)
    return out._getvalue()


def _flat(dtype: Any) -> Any:
    """Return how to see n numbers of a type from a place on."""
    view = types.Array(dtype, 1, "C")

    def typed(_typing: Any, x: Any, at: Any, n: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _write(context, builder, view, args[:2], signature.args[0], [args[2]])

        return view(x, types.intp, types.intp), code

    return typed


def _block(_typing: Any, x: Any, at: Any, rows: Any, columns: Any) -> Any:
    """Return how to see (rows, columns) numbers from a place on."""
    view = types.Array(types.float64, 2, "C")

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _write(context, builder, view, args[:2], signature.args[0], args[2:])

    return view(x, types.intp, types.intp, types.intp), code


def _hold(_typing: Any, x: Any) -> Any:
    """Return how to do nothing with an array."""

    def code(context: Any, _builder: Any, _signature: Any, _args: Any) -> ir.Constant:
        return context.get_dummy_value()

    return types.void(x), code


# (array, place, size), of numbers or of the whole numbers that they are the bits of
part_of: Any = intrinsic(_flat(types.float64))
index_of: Any = intrinsic(_flat(types.int64))
# (array, place, rows, columns)
block_of: Any = intrinsic(_block)
# (array): called last, it keeps the array until then
hold: Any = intrinsic(_hold)
