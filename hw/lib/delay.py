"""Shift register in one signal: skews lanes and delays control."""

from amaranth.hdl import Cat, Module, Signal, Value, ValueLike

__all__ = ["delayed"]


def delayed(m: Module, value: ValueLike, cycles: int, name: str, reset_less: bool = False) -> Value:
    """`value` as it was `cycles` ago. One wide signal, so that generating and simulating it costs one statement.

    `reset_less` leaves data out of the reset tree; what marks it as valid must not be.
    """
    value = Value.cast(value)
    if cycles == 0:
        return value
    line = Signal(len(value) * cycles, name=name, reset_less=reset_less)
    m.d.sync += line.eq(Cat(value, line))
    return line[-len(value) :]
