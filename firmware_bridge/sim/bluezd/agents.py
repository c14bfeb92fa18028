"""``org.bluez.AgentManager1``: who agrees to pairing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbus_fast import DBusError, Message, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.annotations import DBusObjectPath, DBusStr
from dbus_fast.service import ServiceInterface, dbus_method

from firmware_bridge.sim.bluezd.names import (
    ERROR_ALREADY_EXISTS,
    ERROR_AUTHENTICATION_FAILED,
    ERROR_DOES_NOT_EXIST,
    Nothing,
)
from firmware_bridge.sim.bluezd.registrations import CURRENT_SENDER

_AGENT: Final = "org.bluez.Agent1"


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent that a client offers on the bus."""

    sender: str
    path: str
    capability: str


class Agents:
    """Agents by D-Bus sender, and who is asked when the caller has none: the last one that asked to be the default."""

    def __init__(self) -> None:
        self._by_sender: dict[str, Agent] = {}
        self._defaults: list[str] = []

    def add(self, agent: Agent) -> None:
        """Register an agent; one for each client."""
        if agent.sender in self._by_sender:
            raise DBusError(ERROR_ALREADY_EXISTS, "Already Exists")
        self._by_sender[agent.sender] = agent

    def make_default(self, sender: str) -> None:
        """Ask this client first from now on."""
        if sender not in self._by_sender:
            raise DBusError(ERROR_DOES_NOT_EXIST, "Does Not Exist")
        self._defaults = [*(name for name in self._defaults if name != sender), sender]

    def remove_sender(self, sender: str) -> bool:
        """Forget a client's agent; return whether there was one."""
        self._defaults = [name for name in self._defaults if name != sender]
        return self._by_sender.pop(sender, None) is not None

    def clear(self) -> None:
        """Forget all."""
        self._by_sender.clear()
        self._defaults.clear()

    def agent_for(self, sender: str) -> Agent | None:
        """Return the client's own agent, else the default one."""
        own = self._by_sender.get(sender)
        if own is None and self._defaults:
            return self._by_sender[self._defaults[-1]]
        return own

    async def authorize(self, bus: MessageBus, agent: Agent, *, device_path: str) -> None:
        """Ask an agent about a pairing that nobody asked for by Pair."""
        reply = await bus.call(
            Message(
                destination=agent.sender,
                path=agent.path,
                interface=_AGENT,
                member="RequestAuthorization",
                signature="o",
                body=[device_path],
            )
        )
        if reply is None or reply.message_type is MessageType.ERROR:
            raise DBusError(ERROR_AUTHENTICATION_FAILED, "Authentication Failed")


class AgentManager(ServiceInterface):
    """The D-Bus face of `Agents`."""

    def __init__(self, agents: Agents) -> None:
        super().__init__("org.bluez.AgentManager1")
        self._agents = agents

    @dbus_method()
    def RegisterAgent(self, path: DBusObjectPath, capability: DBusStr) -> Nothing:  # noqa: N802 (BlueZ's name)
        """Offer an agent."""
        self._agents.add(Agent(sender=CURRENT_SENDER.get(), path=path, capability=capability))

    @dbus_method()
    def RequestDefaultAgent(self, _path: DBusObjectPath) -> Nothing:  # noqa: N802 (BlueZ's name)
        """Be asked for clients without an agent too."""
        self._agents.make_default(CURRENT_SENDER.get())

    @dbus_method()
    def UnregisterAgent(self, _path: DBusObjectPath) -> Nothing:  # noqa: N802 (BlueZ's name)
        """Withdraw it."""
        if not self._agents.remove_sender(CURRENT_SENDER.get()):
            raise DBusError(ERROR_DOES_NOT_EXIST, "Does Not Exist")
