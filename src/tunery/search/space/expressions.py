"""Derived settings: one line of arithmetic over other keys, such as "2 * adapter.rank". Never Python's own eval."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simpleeval import InvalidExpression, SimpleEval

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    function.__name__: function for function in (min, max, round, int, math.sqrt, math.log2)
}
_LONGEST = 500  # characters: far more than a formula needs, far less than what exhausts a parser
_TERMS = (ast.Expr, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call, ast.Name, ast.Constant)
_OPERATORS = (ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context)
# Python has no attribute 0: the number of a list's entry, in data.train.0.weight, is marked until it is parsed.
_ENTRY, _MARK = re.compile(r"(?<=[A-Za-z_])\.(\d+)(?=\.[A-Za-z_])"), "entry__"
# MemoryError is how Python's parser says that brackets are nested too deeply.
_PARSER_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError)
_ARITHMETIC_ERRORS = (InvalidExpression, ArithmeticError, TypeError, ValueError, LookupError, RecursionError)


class ExpressionError(ValueError):
    """A text that is no expression, or an expression that gives no value; the text says why."""


@dataclass(frozen=True)
class Expression:
    """A parsed expression. `names` are the dotted keys that it uses, in order of appearance."""

    text: str
    names: tuple[str, ...]
    _node: ast.stmt

    def value(self, settings: Mapping[str, object]) -> Any:
        """The expression's value, given a value for each of its names.

        Raises:
            ExpressionError: If it has none, as 1 / 0 or log2(0).
        """
        try:
            evaluator = SimpleEval(functions=dict(FUNCTIONS), names={name: settings[name] for name in self.names})
            return evaluator.eval(self.text, previously_parsed=self._node)
        except _ARITHMETIC_ERRORS as error:
            raise ExpressionError(f"{self.text!r} has no value ({' '.join(str(error).split())})") from None


def parse(text: str) -> Expression:
    """Read an expression: numbers, texts, keys, + - * / // % **, comparisons, `a if b else c`, and FUNCTIONS.

    Raises:
        ExpressionError: If it is anything else.
    """
    if len(text) > _LONGEST:
        raise ExpressionError(f"an expression of at most {_LONGEST} characters")
    try:
        body = _Dotted().visit(ast.parse(_ENTRY.sub(rf".{_MARK}\1", text.strip()))).body
        if len(body) != 1:
            raise ExpressionError("one expression")
        _refuse_all_but_arithmetic(body[0])
    except ExpressionError:
        raise
    except _PARSER_ERRORS as error:
        raise ExpressionError(f"an expression ({getattr(error, 'msg', None) or type(error).__name__})") from None
    nodes = list(ast.walk(body[0]))
    functions = [node.func for node in nodes if isinstance(node, ast.Call)]
    names = dict.fromkeys(node.id for node in nodes if isinstance(node, ast.Name) and node not in functions)
    return Expression(text, tuple(names), body[0])


class _Dotted(ast.NodeTransformer):
    """Makes one name of `adapter.rank`: nothing is left whose attributes could be reached; marks are taken off."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        inner = self.visit(node.value)
        if isinstance(inner, ast.Name):
            return ast.copy_location(ast.Name(f"{inner.id}.{node.attr.removeprefix(_MARK)}", ast.Load()), node)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str):
            return ast.copy_location(ast.Constant(node.value.replace(f".{_MARK}", ".")), node)
        return node


def _refuse_all_but_arithmetic(statement: ast.stmt) -> None:
    for node in ast.walk(statement):
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS):
            raise ExpressionError(f"an expression that calls only {', '.join(FUNCTIONS)}")
        if (isinstance(node, ast.Call) and node.keywords) or not isinstance(node, _TERMS + _OPERATORS):
            raise ExpressionError("an expression of numbers, keys, operators and " + ", ".join(FUNCTIONS))
