"""Who asked for which notifications, by D-Bus sender: the rule of bluetoothd that makes unclosed clients expensive."""

from __future__ import annotations

from contextvars import ContextVar

from dbus_fast import Message

# The D-Bus library does not hand the caller to a method; a message handler puts it here, and the method's task inherits
# it.
CURRENT_SENDER: ContextVar[str] = ContextVar("CURRENT_SENDER", default="")


def remember_sender(message: Message) -> None:
    """Message handler: note who calls."""
    CURRENT_SENDER.set(message.sender or "")


class Registrations:
    """Senders by object path; they outlive a lost link and end with StopNotify or with the sender's bus connection."""

    def __init__(self) -> None:
        self._senders: dict[str, list[str]] = {}

    def add(self, path: str, sender: str) -> None:
        """Register `sender`, once."""
        senders = self._senders.setdefault(path, [])
        if sender not in senders:
            senders.append(sender)

    def remove(self, path: str, sender: str) -> None:
        """Forget `sender` at one path."""
        senders = self._senders.get(path, [])
        if sender in senders:
            senders.remove(sender)

    def remove_sender(self, sender: str) -> list[str]:
        """Forget a sender that left the bus; returns the paths at which nobody is left."""
        touched = [path for path, senders in self._senders.items() if sender in senders]
        for path in touched:
            self.remove(path, sender)
        return [path for path in touched if not self._senders[path]]

    def clear(self) -> None:
        """Forget everybody."""
        self._senders.clear()

    def count(self, path: str) -> int:
        """Return how often each notification at `path` is delivered."""
        return len(self._senders.get(path, ()))
