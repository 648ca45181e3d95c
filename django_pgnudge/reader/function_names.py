"""The name under which a function's results are kept, the same in every process.

Only a function of a module has a name of its own. All lambdas of a module have one name, and a
function that closes over a value exists once for each value. Both are refused, unless ``key=`` says
what tells their results apart. A second function with the same name is refused if its code differs;
a module that is loaded again defines the same code again.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Callable
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final, NoReturn

from django_pgnudge.errors import ConfigError

_defined: dict[str, tuple[str, str]] = {}
"""By name the digest of the code and where it stands: as many as the source has functions."""

_MODULE_LEVEL: Final = "Write a function that calls it, with def at module level."


def name_of(function: Callable[..., Any], key: Callable[..., object] | None = None) -> str:
    """Raises ConfigError for a function that has no name of its own."""
    bare = function.__func__ if isinstance(function, MethodType) else function
    if not isinstance(bare, FunctionType):
        return _name_of_other(function)
    closed_over = _closed_over(function)
    if key is None and bare.__name__ == "<lambda>":
        _refuse(function, "is a lambda, and all lambdas of a module have one name")
    if key is None and closed_over:
        _refuse(
            function,
            f"closes over {', '.join(closed_over)}, so that one name stands for many functions",
        )
    name, code = qualified_name(bare), bare.__code__
    code_digest = _code_digest(code, getattr(key, "__code__", key))
    if bare.__name__ == "<lambda>" or not _is_of_module(bare):
        return f"{name} {code_digest}"
    where = f"{code.co_filename}:{code.co_firstlineno}"
    first_code, first_where = _defined.setdefault(name, (code_digest, where))
    if first_code != code_digest:
        raise ConfigError(
            f"nudged: {name} ({where}) is defined a second time with other code or another key="
            f" (the first: {first_where}), and would return the other's results. Give one of them"
            " another name. Restart the process if the module was changed and loaded again."
        )
    return name


def qualified_name(named: Any) -> str:
    """Module and qualified name."""
    qualname = getattr(named, "__qualname__", None) or repr(named)
    return f"{getattr(named, '__module__', None)}.{qualname}"


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The function's own signature, not that of a function it wraps.

    A function written in C without one takes any arguments, by position and by name.
    """
    try:
        return inspect.signature(function, follow_wrapped=False)
    except ValueError:
        return inspect.signature(lambda *args, **kwargs: None)


def _name_of_other(function: Callable[..., Any]) -> str:
    """The name of a function that is not written in Python: it is never defined twice."""
    if hasattr(function, "refresh") and hasattr(function, "__wrapped__"):
        raise ConfigError(f"nudged: {qualified_name(function)} is nudged already.")
    if isinstance(function, BuiltinFunctionType):
        if not isinstance(function.__self__, ModuleType | None):
            _refuse(function, f"belongs to {function.__self__!r:.40}", _MODULE_LEVEL)
    elif isinstance(function, functools.partial):
        _refuse(function, "is a partial, and has no name of its own", _MODULE_LEVEL)
    elif isinstance(function, type):
        if function.__module__ != "builtins":
            _refuse(function, "is a class", _MODULE_LEVEL)
    elif not isinstance(function, MethodDescriptorType | WrapperDescriptorType):
        kind = qualified_name(type(function))
        _refuse(function, f"is a {kind}, which has no name of its own", _MODULE_LEVEL)
    return qualified_name(function)


def _refuse(function: Callable[..., Any], why: str, way_out: str | None = None) -> NoReturn:
    raise ConfigError(
        f"nudged: {qualified_name(function)} {why}. "
        + (
            way_out
            or "Make what differs an argument, write it with def at module level and @nudged below"
            " its other decorators, or pass key=, a function of the same arguments that returns"
            " what tells its results apart."
        )
    )


def _closed_over(function: Callable[..., Any]) -> list[str]:
    """Names of the values that a function closes over."""
    if isinstance(function, MethodType):
        return ["self", *_closed_over(function.__func__)]
    assert isinstance(function, FunctionType)
    # `super()` needs the class, which is one as long as the class is a module's.
    is_one = "<locals>" not in function.__qualname__
    return [name for name in function.__code__.co_freevars if not (name == "__class__" and is_one)]


def _is_of_module(function: FunctionType) -> bool:
    """Whether it is defined in a module that is imported by name: no script, shell or exec."""
    module = sys.modules.get(function.__module__ or "")
    is_imported = module is not None and vars(module) is function.__globals__
    return is_imported and function.__module__ != "__main__"


def _code_digest(*codes: object) -> str:
    text = "".join(map(code_text, codes))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def code_text(constant: object) -> str:
    """Code and its constants as one text, without line numbers."""
    if isinstance(constant, CodeType):
        inside: tuple[object, ...] = (
            constant.co_name, constant.co_argcount, constant.co_posonlyargcount,
            constant.co_kwonlyargcount, constant.co_flags, constant.co_code, constant.co_names,
            constant.co_varnames, constant.co_freevars, constant.co_cellvars,
            constant.co_exceptiontable, constant.co_consts,
        )  # fmt: skip
        return f"code({','.join(map(code_text, inside))})"
    if isinstance(constant, tuple):
        return f"tuple({','.join(map(code_text, constant))})"
    if isinstance(constant, frozenset):
        return f"frozenset({','.join(sorted(map(code_text, constant)))})"
    if isinstance(constant, str | bytes | int | float | complex | None):
        return f"{type(constant).__name__} {constant!r}"
    return f"{type(constant).__name__} {qualified_name(constant)}"
