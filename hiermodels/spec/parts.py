"""What kernels are compiled of: parts, which are intermediate code until a kernel is machine code.

numba optimises a function and writes its machine code wherever it is compiled, and again within
each function that calls it: what lies five calls deep is optimised six times. A part is typed and
written as intermediate code, and left there; the kernel that calls it, directly or not, is
optimised with all its parts in one go. Called from Python a part is compiled as numba's are.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Final, TypeVar, cast

import numba
from llvmlite import binding
from numba.core.codegen import CPUCodeLibrary, JITCodeLibrary
from numba.core.compiler import Compiler, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.registry import CPUDispatcher
from numba.core.typed_passes import NativeLowering

# numba carries no types, and its classes are the bases of ours.
# mypy: disallow-subclassing-any=False, disallow-untyped-calls=False

_Function = TypeVar("_Function", bound=Callable[..., Any])

_OPTIONS: Final = {"nopython": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
# How the names begin of what Python and C call.
_ENTRIES: Final = ("_ZN7cpython", "cfunc.")


class _PartLibrary(CPUCodeLibrary):
    """A function's intermediate code, to be linked into a kernel's."""

    def finalize(self) -> None:
        """Link what the function calls, and leave the rest to the kernel."""
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(NativeLowering):
    """Writes a part's intermediate code, and tells numba how compiled functions call it."""

    _name = "part_lowering"

    def run_pass(self, state: Any) -> bool:
        """Lower into a library of our own, which nothing executes."""
        state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]
        # numba keeps what it knows of a function under whatever would be called from Python
        key = object()
        state.targetctx.insert_user_function(key, lowered.fndesc, [state.library])
        state["cr"] = lowered._replace(cfunc=key)
        return True


class _PartCompiler(Compiler):
    """numba's passes with a part's lowering."""

    def define_pipelines(self) -> list[Any]:
        """Return the one pipeline."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state, "part")
        passes.passes = [
            (_PartLowering, text) if step is NativeLowering else (step, text)
            for step, text in passes.passes
        ]
        passes.finalize()
        return [passes]


class _Part(CPUDispatcher):
    """A function that kernels call."""

    def __init__(
        self,
        py_func: Callable[..., Any],
        locals: Any = None,
        targetoptions: Any = None,
        pipeline_class: type = _PartCompiler,
    ) -> None:
        super().__init__(py_func, locals, targetoptions, pipeline_class)

    def add_overload(self, cres: Any) -> None:
        """Keep what was compiled, away from what Python may call."""
        self.overloads[tuple(cres.signature.args)] = cres

    @cached_property
    def _whole(self) -> Any:
        """The same function compiled to be called from Python."""
        own = {k: v for k, v in self.targetoptions.items() if k not in _OPTIONS}
        return numba.njit(**own)(self.py_func)

    def _compile_for_args(self, *args: Any, **kws: Any) -> Any:
        """Return what Python calls."""
        return self._whole._compile_for_args(*args, **kws)


def part(**options: Any) -> Callable[[_Function], _Function]:
    """Return a decorator of functions that compiled kernels call.

    Parameters
    ----------
    **options
        As `numba.njit` takes them.

    Examples
    --------
    >>> @part(error_model="numpy")
    ... def half(x):
    ...     return x / 2.0
    >>> numba.njit(lambda x: half(x) + 1.0)(3.0)
    2.5
    >>> half(3.0)
    1.5
    """

    def decorate(function: _Function) -> _Function:
        if getattr(numba.config, "DISABLE_JIT", False):
            return function
        found: Any = _Part(function, targetoptions={**options, **_OPTIONS})
        return cast("_Function", found)

    return decorate


class _KernelLibrary(JITCodeLibrary):
    """A kernel's machine code, kept without the intermediate code, which is half of it."""

    def serialize_using_object_code(self) -> Any:
        """Return machine code, and the names by which it is found."""
        self._ensure_finalized()
        names = [found.name for found in self.get_defined_functions()]
        entries = [name for name in names if name.startswith(_ENTRIES)]
        if not entries:
            return super().serialize_using_object_code()
        stubs = "\n".join(f'define void @"{name}"() {{\n ret void\n}}' for name in entries)
        return self.name, "object", (self._get_compiled_object(), _bitcode(stubs))


def _bitcode(assembly: str) -> Any:
    return binding.parse_assembly(assembly).as_bitcode()


class KernelCompiler(Compiler):
    """numba's passes for what Python or C calls: parts are optimised here."""

    def define_pipelines(self) -> list[Any]:
        """Return the one pipeline."""
        state = self.state
        state.library = _KernelLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return [DefaultPassBuilder.define_nopython_pipeline(state, "kernel")]
