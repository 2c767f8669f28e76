"""How many bytes a method may spend, and what it makes of them.

A budget is a share of the table in float32: ``budget * 4 V D`` bytes, for everything that a row
needs (codes, scales, code books, indices, projections). It is never exceeded.
"""

from __future__ import annotations

from collections.abc import Callable

from tokenspace.errors import ConfigError

__all__ = ["allowed", "largest", "unreachable"]


def allowed(budget: float, size: int, width: int) -> int:
    """Return the bytes that ``budget`` allows for a table of (size, width)."""
    return int(budget * 4 * size * width)


def largest(
    cost: Callable[[int], int], low: int, high: int, budget: float, size: int, width: int, name: str
) -> int:
    """Return the largest number in [low, high] whose ``cost`` in bytes is within the budget.

    ``cost`` must not fall as its argument grows. Raises :class:`ConfigError`, with the smallest
    budget that can be reached, where even ``low`` costs more.
    """
    limit = allowed(budget, size, width)
    if cost(low) > limit:
        raise unreachable(name, budget, cost(low), size, width)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= limit else (low, middle - 1)
    return low


def unreachable(name: str, budget: float, least: int, size: int, width: int) -> ConfigError:
    """Build the error of a method that needs at least ``least`` bytes for (size, width)."""
    share = least / (4 * size * width)
    return ConfigError(
        f"{name}: budget={budget:g} allows {allowed(budget, size, width):,} bytes for"
        f" {size:,} rows of {width}, and the least it can do is {least:,} ({share:.4g})",
        hint=f"give --budget {min(1.0, share * 1.001):.4g} or more, or choose another method",
    )
