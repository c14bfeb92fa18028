"""D-Bus types that the library does not name."""

from __future__ import annotations

from typing import Annotated

from dbus_fast.annotations import DBusSignature

StrList = Annotated[list[str], DBusSignature("as")]
PathList = Annotated[list[str], DBusSignature("ao")]
FdAndMtu = Annotated[list[int], DBusSignature("hq")]
# A plain None is not understood where annotations are evaluated late.
Nothing = Annotated[None, DBusSignature("")]
