"""The base of messages: named, typed fields that travel as a JSON object.

A subclass of `Structure` declares its fields like a dataclass. Standard dataclasses would take a
tenth of an agent's start; these take almost no time. They also read messages: an unknown field is
ignored, and a missing field gets its default.
Standard library only: this module travels to hosts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, ClassVar, Dict, Mapping, Type, TypeVar

if TYPE_CHECKING:
    from typing import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Callable[[Any], Any]:
        return lambda cls: cls


S = TypeVar("S", bound="Structure")

_KINDS: Dict[str, Any] = {
    "str": str,
    "bool": bool,
    "int": int,
    "float": (int, float),
    "Sequence": (list, tuple),
    "Mapping": dict,
}
_REQUIRED = object()


class FieldError(Exception):
    """A message is not this structure. The error names the field."""


@dataclass_transform(kw_only_default=True)
class Structure:
    """Fields by name. Annotations are ``str``, ``bool``, ``int``, ``float``, another structure,
    ``Sequence`` or ``Mapping`` of something, or Optional of one of these. The items of a
    Sequence or Mapping are checked only if they are structures.
    """

    #: Name, default or _REQUIRED, and the annotation.
    _fields: ClassVar[Dict[str, Any]] = {}
    _named: ClassVar[Dict[str, Type[Structure]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        fields = dict(cls._fields)
        for name, kind in vars(cls).get("__annotations__", {}).items():
            if not kind.startswith("ClassVar"):
                fields[name] = (vars(cls).get(name, _REQUIRED), kind)
        cls._fields = fields
        Structure._named[cls.__name__] = cls

    def __init__(self, **values: Any) -> None:
        for name, (default, _) in self._fields.items():
            value = values.pop(name, default)
            if value is _REQUIRED:
                raise TypeError("{} needs {}".format(type(self).__name__, name))
            setattr(self, name, dict(value) if value is default and type(value) is dict else value)
        if values:
            raise TypeError("{} has no {}".format(type(self).__name__, ", ".join(values)))

    def __repr__(self) -> str:
        # Leave out the values, because some are keys.
        return "<{} {}>".format(type(self).__name__, getattr(self, "kernel_id", ""))

    @classmethod
    def read(cls: Type[S], message: Any) -> S:
        """Read the structure from a message. Raises FieldError."""
        if not isinstance(message, Mapping):
            raise FieldError("{} is no object".format(cls.__name__))
        values = {}
        for name, (default, kind) in cls._fields.items():
            if name in message:
                values[name] = _value(message[name], kind, cls, name)
            elif default is _REQUIRED:
                raise FieldError("{} has no {}".format(cls.__name__, name))
        return cls(**values)

    def fields(self) -> Dict[str, Any]:
        """The fields for a message."""
        return {name: _plain(getattr(self, name)) for name in self._fields}


def _value(value: Any, kind: str, cls: Type[Structure], name: str) -> Any:
    """Read a field's value, including structures. Raises FieldError."""
    outer, _, inner = kind.rstrip("]").partition("[")
    if outer == "Optional":
        return None if value is None else _value(value, kind[len("Optional[") : -1], cls, name)
    structure = Structure._named.get(outer)
    if structure is not None:
        return structure.read(value)
    wanted = _KINDS[outer]
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise FieldError("{}: {} is {!r}".format(cls.__name__, name, type(value).__name__))
    structure = Structure._named.get(inner) if outer == "Sequence" else None
    return value if structure is None else _readable(value, structure)


def _readable(items: Any, structure: Type[S]) -> Any:
    """The readable items. An unreadable item must not affect the others."""
    found = []
    for item in items:
        try:
            found.append(structure.read(item))
        except FieldError:
            continue
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Structure):
        return value.fields()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
