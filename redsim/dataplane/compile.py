"""How the data plane is compiled: a World is one address, its arrays are found through it.

A World has some thirty arrays. Passed by value they would make every compiled call carry three hundred words, and numba would
take minutes; so compiled code gets the address of a table of (address, rows) and builds the array it names on the spot. No
reference is counted: the World outlives every call. In plain Python a World is just the named tuple it looks like.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.codegen import CPUCodeLibrary, JITCPUCodegen
from numba.core.datamodel import models
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import NativeValue, intrinsic, register_model, typeof_impl, unbox
from numba.np.arrayobj import make_array, populate_array

from redsim.dataplane.layout import WIDTHS, World

F = TypeVar("F", bound=Callable[..., Any])


class WorldType(types.Type):
    """The compiled side's type of a World."""

    def __init__(self) -> None:
        super().__init__(name="RedsimWorld")


WORLD = WorldType()


@typeof_impl.register(World)
def _typeof(_value: World, _context: Any) -> WorldType:
    return WORLD


@register_model(WorldType)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, ir.IntType(64))


@unbox(WorldType)
def _unbox(_type: Any, value: Any, context: Any) -> NativeValue:
    address = context.pyapi.object_getattr_string(value, "address")
    native = context.pyapi.long_as_longlong(address)
    context.pyapi.decref(address)
    return NativeValue(native, is_error=cgutils.is_not_null(context.builder, context.pyapi.err_occurred()))


_DTYPES = {"rng": types.uint64, "kv": types.int32, "ke": types.int32, "heat": types.int32}
_ONE = ["st", "cost", "held", "heldp", "ring", "batch", "pending", "tread", "tab", "ke", "kx", "lanes", "erefs"]
_THREE = ["heat", "blame", "smax"]
_ARRAYS = {
    name: types.Array(_DTYPES.get(name, types.int64), 1 if name in _ONE else 3 if name in _THREE else 2, "C")
    for name in World._fields
}


@infer_getattr
class _Attributes(AttributeTemplate):
    """The type of `w.req` and its like."""

    key = WorldType

    def generic_resolve(self, _world: WorldType, name: str) -> types.Array | None:
        return _ARRAYS.get(name)


@lower_getattr_generic(WorldType)
def _array(context: Any, builder: Any, _type: Any, value: Any, name: str) -> Any:
    """The array `name`, built from its four words in the table, which do not change during a call."""
    array_type = _ARRAYS[name]
    word = ir.IntType(64)
    base = builder.inttoptr(value, word.as_pointer())
    first = 4 * World._fields.index(name)

    def load(k: int) -> Any:
        found = builder.load(builder.gep(base, [word(first + k)]))
        found.set_metadata("invariant.load", builder.module.add_metadata([]))
        return found

    shape = [load(1 + k) for k in range(array_type.ndim)]
    if array_type.ndim == 2 and name in WIDTHS:
        shape[1] = word(WIDTHS[name])
    item = context.get_abi_sizeof(context.get_data_type(array_type.dtype))
    strides = [word(item)]
    for size in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], size))
    array = make_array(array_type)(context, builder)
    data = builder.inttoptr(load(0), array.data.type)
    populate_array(array, data=data, shape=shape, strides=strides, itemsize=word(item), meminfo=None)
    return array._getvalue()


@intrinsic
def prefetch(_context, table, row):
    """Ask the processor for row `row` of a two-dimensional array: it will be needed, but not now."""

    def codegen(context, builder, signature, arguments):
        array = make_array(signature.args[0])(context, builder, arguments[0])
        stride = builder.extract_value(array.strides, 0)
        byte = ir.IntType(8).as_pointer()
        where = builder.gep(builder.bitcast(array.data, byte), [builder.mul(stride, arguments[1])])
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(function, [where, word(1), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(table, types.int64), codegen


_PARTS: set[str] = set()


def _finalize(library: CPUCodeLibrary) -> None:
    """A part is linked as it is into what calls it; only an entry is optimised and turned into machine code. Numba would do
    both for every part with all it calls: a minute and a half instead of a quarter of one."""
    if library.name not in _PARTS:
        _numba_finalize(library)
        return
    for other in dict.fromkeys(library._linking_libraries):
        library._final_module.link_in(other._get_module_for_linking(), preserve=True)
    library._finalize_dynamic_globals()
    library._finalized = True


def _set_env(codegen: JITCPUCodegen, name: str, env: Any) -> None:
    """Parts have no address to put an environment at, and need none: they never call back into Python."""
    if codegen._engine.is_symbol_defined(name):
        _numba_set_env(codegen, name, env)


_numba_finalize, _numba_set_env = CPUCodeLibrary.finalize, JITCPUCodegen.set_env
CPUCodeLibrary.finalize, JITCPUCodegen.set_env = _finalize, _set_env


def _part(**options: bool) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        function.__qualname__ = f"redsim.dataplane.{function.__name__}"
        _PARTS.add(function.__qualname__)
        return njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)(function)

    return decorate


compiled = _part()  # called by compiled code only
inlined = _part(forceinline=True)  # the same, on the hot path
entry = njit(_nrt=False, cache=True)  # called from Python
