"""A setting as the field of a class, and the sets of values that such classes make.

Rules of this file
  1. A setting is one row: name, kind, default, a sentence. The command line, the environment, the
     configuration file and the documentation are all made from these rows.
  2. Checking is all there is here: a wrong value raises ConfigError with setting, value and rule.
     Nothing is applied.
  3. A field of the class is the row; of an instance it is the checked value, an ordinary attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar, overload

from ..errors import ConfigError
from .kinds import Function, Kind

T = TypeVar("T")


class Setting(Generic[T]):
    """One setting.

    Attributes:
        name: as in ``Server(name=...)``, ``--name`` and ``GREEN_ROUTER_NAME``: that of the field.
        kind: what its values are.
        default: what holds when nothing is said; must pass the check itself.
        doc: a sentence.
        absent: what None means, for the documentation; None where None is no value.
        flags: further names of its option: those that gunicorn's users type.
    """

    name = ""

    def __init__(
        self, default: Any, kind: Kind[Any], doc: str, absent: str | None, flags: tuple[str, ...]
    ) -> None:
        self.default, self.kind, self.doc, self.absent, self.flags = (
            default,
            kind,
            doc,
            absent,
            flags,
        )

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Setting[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is not None:  # the value is in the instance, and found there first
            raise AttributeError(f"{owner.__name__} has no {self.name} yet")
        return self

    def __repr__(self) -> str:
        return f"<Setting {self.name}: {self.rule}>"

    @property
    def optional(self) -> bool:
        """True where None is a value."""
        return self.absent is not None

    @property
    def rule(self) -> str:
        """The rule for a value, as the end of a sentence."""
        return self.kind.rule + (f", or None ({self.absent})" if self.optional else "")

    def check(self, value: Any) -> T:
        """Return the value in its final form.

        Raises:
            ConfigError: it breaks the rule. No other exception.
        """
        if value is None and self.optional:
            return None  # type: ignore[return-value]
        try:
            return self.kind.check(value, self.name)  # type: ignore[no-any-return]
        except ConfigError:
            raise
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(self.name, self.kind.told(value), self.rule) from None

    def parse(self, value: Any) -> Any:
        """Read a value from where texts are written.

        Args:
            value: a text (``10``, ``0.5``, ``64MiB``, ``fixed:2``; ``none`` where None is a value),
                or what a TOML file has in its place: a number, a truth value, a list.
        Returns:
            The value in its final form, as ``check`` returns it; for a callable the text itself.
        Raises:
            ConfigError: it is no value of that kind, or breaks the setting's rule. No other
                exception.
        """
        if self.optional and isinstance(value, str) and value.lower() == "none":
            return None
        if isinstance(self.kind, Function):
            if not isinstance(value, str):
                raise ConfigError(self.name, value, "a text, module:callable")
            return value
        try:
            found = self.kind.read(value)
        except (ValueError, KeyError):
            raise ConfigError(self.name, self.kind.told(value), self.rule) from None
        return self.check(found)

    def shown(self) -> str:
        """Show the default, as help and tables do."""
        if self.default is None:
            return f"default: {self.absent}"
        return f"default: {self.kind.show(self.default)}" + (
            f"; none: {self.absent}" if self.optional else ""
        )


@overload
def setting(
    default: Any, kind: Kind[T], doc: str, *, flags: tuple[str, ...] = ()
) -> Setting[T]: ...


@overload
def setting(
    default: Any, kind: Kind[T], doc: str, *, absent: str, flags: tuple[str, ...] = ()
) -> Setting[T | None]: ...


def setting(
    default: Any, kind: Kind[T], doc: str, *, absent: str | None = None, flags: tuple[str, ...] = ()
) -> Any:
    """Declare a setting in a class below Values; with ``absent`` None is a value, and means
    that."""
    return Setting(default, kind, doc, absent, flags)


class Values:
    """A complete and checked set of values, one attribute a setting.

    Args:
        values: those that differ from the defaults, by name.
    Raises:
        ConfigError: an unknown name, or a value that breaks its rule.
    """

    def __init__(self, **values: Any) -> None:
        rows = self.rows()
        for name in values:
            if name not in rows:
                raise ConfigError(name, values[name], f"a setting: {', '.join(rows)}")
        for name, row in rows.items():
            vars(self)[name] = row.check(values.get(name, row.default))

    @classmethod
    def rows(cls) -> Mapping[str, Setting[Any]]:
        """The settings of this set, by name, in the order of their declaration."""
        return MappingProxyType(
            {name: row for name, row in vars(cls).items() if isinstance(row, Setting)}
        )

    def __repr__(self) -> str:
        changed = (
            f"{name}={getattr(self, name)!r}"
            for name, row in self.rows().items()
            if getattr(self, name) != row.check(row.default)
        )
        return f"{type(self).__name__}({', '.join(changed)})"
