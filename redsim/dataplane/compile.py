"""How the data plane is compiled: a World is one address, its arrays are found through it.

A World has some thirty arrays. Passed by value they would make every compiled call carry three hundred words, and numba would
take minutes; so compiled code gets one address, of st and cost and behind them a table of where the other arrays lie. `w.req` is
that address again, with a type that says which array is meant; `w.req[r, R_KEY]` becomes one load. It is marked with the name of
the array and, if that is a constant, of the column, so that the optimiser keeps what it knows of one array when another is
written to (numba's own arrays could be anywhere). No index is checked and none counts from the end. No reference is counted: the
World outlives every call. In plain Python a World is just the named tuple it looks like.
"""

import operator
from collections.abc import Callable
from typing import Any, TypeVar

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.codegen import CPUCodeLibrary, JITCPUCodegen
from numba.core.datamodel import models
from numba.core.imputils import lower_builtin, lower_getattr, lower_getattr_generic
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global
from numba.extending import NativeValue, intrinsic, register_model, typeof_impl, unbox

from redsim.dataplane.layout import ARRAYS, CAUSE_BLOCK, COST_SIZE, ST_SIZE, WIDTHS, World
from redsim.dataplane.plain import PLAIN

F = TypeVar("F", bound=Callable[..., Any])


class WorldType(types.Type):
    """The compiled side's type of a World, or of a plain one: whose columns in plain.PLAIN are constants, so that the optimiser
    leaves out what never happens in it."""

    def __init__(self, *, is_plain: bool = False) -> None:
        self.is_plain = is_plain
        super().__init__(name="RedsimPlainWorld" if is_plain else "RedsimWorld")


class Plain:
    """A World handed to compiled code as a plain one."""

    __slots__ = ("address",)

    def __init__(self, world: World) -> None:
        self.address = world.address


WORLD, PLAIN_WORLD = WorldType(), WorldType(is_plain=True)


@typeof_impl.register(World)
def _typeof(_value: World, _context: Any) -> WorldType:
    return WORLD


@typeof_impl.register(Plain)
def _typeof_plain(_value: Plain, _context: Any) -> WorldType:
    return PLAIN_WORLD


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


class TableType(types.Type):
    """One array of a World: `w.req`. Its value is the World's address; where the array lies is looked up at each use, which
    the optimiser does once."""

    def __init__(self, name: str, *, is_plain: bool) -> None:
        self.table, self.is_plain = name, is_plain
        self.dtype = _DTYPES.get(name, types.int64)
        self.ndim = 1 if name in _ONE else 3 if name in _THREE else 2
        super().__init__(name=f"Redsim{'Plain' * is_plain}Table({name})")


class RowType(types.Type):
    """One row of a table of two dimensions or of three: `w.req[r]`. Its value is the address of the row."""

    ndim = 1

    def __init__(self, table: TableType) -> None:
        self.table, self.dtype, self.is_plain = table.table, table.dtype, table.is_plain
        super().__init__(name=f"Redsim{'Plain' * table.is_plain}Row({table.table})")


register_model(TableType)(_Model)
register_model(RowType)(_Model)

_DTYPES = {"rng": types.uint64, "kv": types.int32, "ke": types.int32, "grown": types.int32, "heat": types.int32,
           "xhead": types.int32, "xnext": types.int32, "heads": types.int32, "nexts": types.int32}  # fmt: skip
_ONE = ["st", "cost", "held", "heldp", "ring", "batch", "pending", "tread", "tab", "ke", "kx", "grown",
        "xhead", "xnext", "expiry", "heads", "nexts", "sampled", "ages", "lanes", "aof", "child", "cow", "repl",
        "behind"]  # fmt: skip
_THREE = ["heat", "blame", "smax"]
_FIXED = {"cost", "tab", "dist", "curve", "trace", "rates", "place"}  # never written to by compiled code
_TABLES = {(name, is_plain): TableType(name, is_plain=is_plain) for name in ARRAYS for is_plain in (False, True)}
_FIRST = {"st": 0, "cost": ST_SIZE}  # words before them in the block that a World's address is the address of
_WORD = ir.IntType(64)


@infer_getattr
class _Attributes(AttributeTemplate):
    """The type of `w.req` and its like."""

    key = WorldType

    def generic_resolve(self, world: WorldType, name: str) -> TableType | None:
        return _TABLES.get((name, world.is_plain))


@infer_getattr
class _Shape(AttributeTemplate):
    """The type of `w.req.shape`."""

    key = TableType

    def resolve_shape(self, table: TableType) -> types.UniTuple:
        return types.UniTuple(types.int64, table.ndim)


@lower_getattr_generic(WorldType)
def _table(_context: Any, _builder: Any, _type: Any, value: Any, _name: str) -> Any:
    return value


def _word_of_table(builder: Any, address: Any, name: str, k: int) -> Any:
    """Word `k` of what the World's table says about the array `name`; it does not change during a call."""
    number = ST_SIZE + COST_SIZE + 4 * ARRAYS.index(name) + k
    where = builder.gep(builder.inttoptr(address, _WORD.as_pointer()), [_WORD(number)])
    found = builder.load(where)
    found.set_metadata("invariant.load", builder.module.add_metadata([]))
    return found


def _size(builder: Any, table: TableType, address: Any, axis: int) -> Any:
    if table.ndim == 2 and axis == 1 and table.table in WIDTHS:
        return _WORD(WIDTHS[table.table])
    return _word_of_table(builder, address, table.table, 1 + axis)


@lower_getattr(TableType, "shape")
def _lower_shape(context: Any, builder: Any, table: TableType, address: Any) -> Any:
    sizes = [_size(builder, table, address, axis) for axis in range(table.ndim)]
    return context.make_tuple(builder, types.UniTuple(types.int64, table.ndim), sizes)


def _item_or_row(table: Any, index: Any) -> types.Type | None:
    given = len(index) if isinstance(index, types.BaseTuple) else 1
    if given == table.ndim:
        return table.dtype
    return RowType(table) if given == table.ndim - 1 else None


@infer_global(operator.getitem)
class _GetItem(AbstractTemplate):
    """`w.req[r, R_KEY]`, `w.st[NOW]`, `row[0]`, and the row `w.req[r]`. Column numbers stay literals."""

    prefer_literal = True

    def generic(self, args: Any, _kws: Any) -> Any:
        if isinstance(args[0], TableType | RowType):
            found = _item_or_row(args[0], args[1])
            return None if found is None else signature(found, *args)
        return None


@infer_global(operator.setitem)
class _SetItem(AbstractTemplate):
    """The same, assigned to."""

    prefer_literal = True

    def generic(self, args: Any, _kws: Any) -> Any:
        if isinstance(args[0], TableType | RowType) and _item_or_row(args[0], args[1]) is args[0].dtype:
            return signature(types.none, *args)
        return None


def _where(context: Any, builder: Any, table: Any, value: Any, index_type: Any, index: Any) -> tuple[Any, str]:
    """(address of the item or row, name of the memory it lies in: its table's, and its column's if that is a literal)."""
    if isinstance(index_type, types.BaseTuple):
        kinds, words = list(index_type), cgutils.unpack_tuple(builder, index)
    else:
        kinds, words = [index_type], [index]
    words = [
        _WORD(kind.literal_value) if isinstance(kind, types.Literal) else context.cast(builder, word, kind, types.int64)
        for kind, word in zip(kinds, words, strict=True)
    ]
    if isinstance(table, RowType):
        base, number = value, words[0]
    elif table.table in _FIRST:
        base, number = value, builder.add(words[0], _WORD(_FIRST[table.table]))
    else:
        base, number = _word_of_table(builder, value, table.table, 0), words[0]
        for axis in range(1, table.ndim):
            number = builder.mul(number, _size(builder, table, value, axis))
            if axis < len(words):
                number = builder.add(number, words[axis])
    memory = table.table
    if isinstance(kinds[-1], types.Literal) and (isinstance(table, RowType) or len(words) == table.ndim):
        memory += f".{kinds[-1].literal_value}"
    item = context.get_value_type(table.dtype).as_pointer()
    return builder.gep(builder.inttoptr(base, item), [number]), memory


def _constant(table: Any, index: Any) -> int | None:
    """What the item of a plain World is for good, None: it is not known."""
    last = list(index)[-1] if isinstance(index, types.BaseTuple) else index
    is_item = _item_or_row(table, index) is table.dtype
    if not table.is_plain or not is_item or not isinstance(last, types.Literal):
        return None
    return PLAIN.get(table.table, {}).get(last.literal_value)


def _mark(builder: Any, access: Any, memory: str) -> Any:
    """Tell the optimiser that this access touches one table only, or one column of it: stores to others leave it alone."""
    module = builder.module
    table, _, column = memory.partition(".")
    if table in _FIXED:
        access.set_metadata("invariant.load", module.add_metadata([]))
    node = module.add_metadata([ir.MetaDataString(module, "redsim")])
    for name in [table, memory] if column else [table]:
        node = module.add_metadata([ir.MetaDataString(module, name), node, _WORD(0)])
    access.set_metadata("tbaa", module.add_metadata([node, node, _WORD(0)]))
    return access


@lower_builtin(operator.getitem, TableType, types.Any)
@lower_builtin(operator.getitem, RowType, types.Any)
def _getitem(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    constant = _constant(*sig.args)
    if constant is not None:
        return _WORD(constant)
    where, memory = _where(context, builder, sig.args[0], args[0], sig.args[1], args[1])
    if isinstance(sig.return_type, RowType):
        return builder.ptrtoint(where, _WORD)
    return _mark(builder, builder.load(where), memory)


@lower_builtin(operator.setitem, TableType, types.Any, types.Any)
@lower_builtin(operator.setitem, RowType, types.Any, types.Any)
def _setitem(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    where, memory = _where(context, builder, sig.args[0], args[0], sig.args[1], args[1])
    value = context.cast(builder, args[2], sig.args[2], sig.args[0].dtype)
    _mark(builder, builder.store(value, where), memory)
    return context.get_dummy_value()


@intrinsic
def world_at(_context, address):
    """The World whose address this is: compiled code that sees to several of them."""
    return WORLD(types.int64), lambda _context, _builder, _sig, arguments: arguments[0]


@intrinsic
def prefetch(_context, table, row):
    """Ask the processor for row `row` of a two-dimensional array: it will be needed, but not now."""

    def codegen(context, builder, sig, arguments):
        byte = ir.IntType(8).as_pointer()
        where, _ = _where(context, builder, sig.args[0], arguments[0], sig.args[1], arguments[1])
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(function, [builder.bitcast(where, byte), word(1), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(table, types.int64), codegen


def _by_blocks(result: Callable[..., Any]) -> Callable[..., Any]:
    """Code that stores `result` of the blocks of its arguments, arrays with a column per cause, into the first of them. Written
    with vectors because the optimiser cannot know that rows consist of whole blocks."""

    def codegen(context, builder, sig, arguments):
        vector = ir.VectorType(_WORD, CAUSE_BLOCK).as_pointer()
        zero = _WORD(0)
        starts = [
            _where(context, builder, kind, value, types.int64, zero)
            for kind, value in zip(sig.args[1:], arguments[1:], strict=True)
        ]
        columns = _word_of_table(builder, arguments[0], "held", 1)
        with cgutils.for_range_slice(builder, zero, columns, _WORD(CAUSE_BLOCK)) as (column, _):
            at = [(builder.bitcast(builder.gep(start, [column]), vector), memory) for start, memory in starts]
            blocks = [_mark(builder, builder.load(where, align=8), memory) for where, memory in at]
            _mark(builder, builder.store(result(builder, *blocks), at[0][0], align=8), at[0][1])
        return context.get_dummy_value()

    return codegen


@intrinsic
def copy_causes(_context, world, into, source):
    """into[:] = source, arrays with a column per cause."""
    return types.void(world, into, source), _by_blocks(lambda _builder, _into, source: source)


@intrinsic
def add_causes(_context, world, into, source):
    """into[:] += source, arrays with a column per cause."""
    return types.void(world, into, source), _by_blocks(lambda builder, into, source: builder.add(into, source))


@intrinsic
def add_grown_causes(_context, world, into, now, before):
    """into[:] += now - before, arrays with a column per cause."""
    return types.void(world, into, now, before), _by_blocks(
        lambda builder, into, now, before: builder.add(into, builder.sub(now, before))
    )


_PARTS: dict[str, bool] = {}  # by name: is it called where it is used, or its code put there?


def _finalize(library: CPUCodeLibrary) -> None:
    """A part is linked as it is into what calls it; only an entry is optimised and turned into machine code. Numba would do
    both for every part with all it calls: a minute and a half instead of a quarter of one. Which calls remain calls is decided
    here and not by the optimiser, which would put the rare paths into the hot loop and several copies of each."""
    if library.name not in _PARTS:
        _numba_finalize(library)
        return
    if _PARTS[library.name]:
        function = library.name.rpartition(".")[2]
        for defined in library._final_module.functions:
            if f"{len(function)}{function}B" in defined.name and not defined.is_declaration:
                defined.add_function_attribute("noinline")
    for other in dict.fromkeys(library._linking_libraries):
        library._final_module.link_in(other._get_module_for_linking(), preserve=True)
    library._finalize_dynamic_globals()
    library._finalized = True


def _set_env(codegen: JITCPUCodegen, name: str, env: Any) -> None:
    """Parts have no address to put an environment at, and need none: they never call back into Python."""
    if codegen._engine.is_symbol_defined(name):
        _numba_set_env(codegen, name, env)


def _add_ir_module(library: CPUCodeLibrary, module: ir.Module) -> None:
    """Numba clears the places for a call's result and its error before the call, even for one on a rare path, where the optimiser
    must leave it. A called part fills them itself."""
    if library.name in _PARTS:
        for function in module.functions:
            called = [one for block in function.blocks for one in block.instructions if isinstance(one, ir.CallInstr)]
            filled = {id(place) for call in called for place in call.args[:2] if isinstance(place, ir.AllocaInstr)}
            for block in function.blocks:
                block.instructions = [one for one in block.instructions if not _clears(one, filled)]
    _numba_add_ir_module(library, module)


def _clears(one: ir.Instruction, places: set[int]) -> bool:
    """Is this a constant stored in one of `places`?"""
    return isinstance(one, ir.StoreInstr) and isinstance(one.operands[0], ir.Constant) and id(one.operands[1]) in places


_numba_finalize, _numba_set_env = CPUCodeLibrary.finalize, JITCPUCodegen.set_env
_numba_add_ir_module = CPUCodeLibrary.add_ir_module
CPUCodeLibrary.finalize, JITCPUCodegen.set_env = _finalize, _set_env
CPUCodeLibrary.add_ir_module = _add_ir_module


def _part(*, is_inlined: bool) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        function.__qualname__ = f"redsim.dataplane.{function.__name__}"
        _PARTS[function.__qualname__] = not is_inlined
        return njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=is_inlined)(function)

    return decorate


compiled = _part(is_inlined=False)  # called by compiled code only
inlined = _part(is_inlined=True)  # the same, on the hot path
entry = njit(_nrt=False, cache=True)  # called from Python
