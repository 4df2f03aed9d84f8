"""Tests of whole asyncio programs in virtual time, on a simulated network, from one seed.

`SimEventLoop` is oxloop's event loop on a simulated kernel: servers and clients connect over
simulated TCP between simulated hosts, `sleep` and timeouts take no real time, faults of the
network are switched on by name, and a run is repeated exactly by its seed. See docs/testing.md.

Facts: the simulated kernel stands below the driver, so streams, transports, timers and tasks are
those that programs run on. What the kernel cannot simulate would make a run depend on the machine.
Decision: such operations raise NotImplementedError here, and functions for executors run in the
loop's own thread.
What can still go wrong: a program that asks the clock of the machine, its random numbers, or the
order of a set of strings does not repeat itself, whatever loop it runs on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

from . import _native_simulation
from ._loop import EventLoop

__all__ = ["SimEventLoop", "run"]

_T = TypeVar("_T")

_LOOPBACK = "127.0.0.1"
_OWN_ADDRESS = frozenset({None, "", "localhost", _LOOPBACK, "0.0.0.0"})
_NS_PER_S = 1_000_000_000

# The address of the host on which the running code is.
_here: ContextVar[str] = ContextVar("oxloop_simulated_host", default=_LOOPBACK)


def _refuse(name: str, why: str) -> Any:
    """A method of a loop that raises NotImplementedError, saying why."""

    def refused(self: SimEventLoop, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{name}() cannot be simulated: {why}")

    refused.__name__ = name
    refused.__doc__ = f"NotImplementedError: {why}."
    return refused


class SimEventLoop(EventLoop):
    """An event loop on a simulated kernel, in virtual time.

    `seed` decides everything that chance decides; `latency_s` seconds and `bytes_per_s` bytes a
    second (0: without bounds) are those of every link; `faults` maps names of faults to times in
    ten thousand (see docs/testing.md).
    """

    def __new__(
        cls,
        seed: int = 0,
        *,
        latency_s: float = 0.0001,
        bytes_per_s: int = 0,
        faults: Mapping[str, int] | None = None,
    ) -> SimEventLoop:
        simulation = _native_simulation._Simulation(seed, round(latency_s * _NS_PER_S), bytes_per_s)
        loop: SimEventLoop = super().__new__(cls, _simulation=simulation)  # type: ignore[call-arg]
        loop._simulation = simulation
        loop._hosts = {}
        return loop

    def __init__(
        self,
        seed: int = 0,
        *,
        latency_s: float = 0.0001,
        bytes_per_s: int = 0,
        faults: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        for name, rate in (faults or {}).items():
            self.set_fault(name, rate)

    _simulation: _native_simulation._Simulation
    _hosts: dict[str, str]

    # The simulation

    def add_host(self, name: str) -> str:
        """The address of the host called `name`, which exists from now on."""
        if name not in self._hosts:
            number = len(self._hosts) + 1
            self._hosts[name] = f"10.0.{number >> 8}.{number & 255}"
        return self._hosts[name]

    @contextlib.contextmanager
    def host(self, name: str) -> Iterator[str]:
        """Code within, and the tasks and servers that it starts, are on the host `name`."""
        token = _here.set(self.add_host(name))
        try:
            yield _here.get()
        finally:
            _here.reset(token)

    def set_link(self, one: str, other: str, *, latency_s: float, bytes_per_s: int = 0) -> None:
        """Set the link between two hosts, both ways, for connections made from now on."""
        ends = [self._address_of(one), self._address_of(other)]
        for from_, to in (ends, reversed(ends)):
            self._simulation.set_link(from_, to, round(latency_s * _NS_PER_S), bytes_per_s)

    def set_fault(self, name: str, rate: int) -> None:
        """Let a fault occur `rate` times in ten thousand opportunities; 0 is never.

        ValueError for a name that no fault has; it lists those that there are.
        """
        if not 0 <= rate <= 10_000:
            raise ValueError(f"a rate is from 0 to 10000 times in ten thousand, not {rate}")
        self._simulation.set_fault(name, rate)

    def draw_faults(self, seed: int) -> dict[str, int]:
        """Switch faults on and off, and draw their rates, as `seed` decides; returns those on."""
        self._simulation.draw_faults(seed)
        return self.faults()

    def faults(self) -> dict[str, int]:
        """The faults that are on, and how often they occur in ten thousand opportunities."""
        return dict(self._simulation.faults())

    def calm(self) -> None:
        """End all faults; connections that are gone for good are found out within a second."""
        self._simulation.calm()

    def trace(self) -> int:
        """A number that stands for all that the kernel did so far: equal runs have equal ones."""
        return self._simulation.trace()

    # The network

    def _address_of(self, host: Any) -> str:
        """The address of a host given by name or address; gaierror if there is none."""
        if isinstance(host, bytes):
            host = host.decode("idna")
        if host in _OWN_ADDRESS:
            return _here.get()
        if host in self._hosts:
            return self._hosts[host]
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise socket.gaierror(
                socket.EAI_NONAME, f"no simulated host is called {host!r}"
            ) from None

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """The address of a simulated host: its only one."""
        address = (self._address_of(host), int(port or 0))
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]

    async def create_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: Any = None,
        port: Any = None,
        *,
        ssl: Any = None,
        sock: Any = None,
        local_addr: Any = None,
        **options: Any,
    ) -> Any:
        """Connect to a simulated server. As `loop.create_connection`, without TLS and `sock`."""
        if ssl:
            raise NotImplementedError("TLS cannot be simulated: it draws its own random numbers")
        if sock is not None:
            raise NotImplementedError("a real socket cannot be simulated")
        if port is None:
            raise ValueError("host and port was not specified and no sock specified")
        address = (self._address_of(host), int(port))
        from_ = _here.get() if local_addr is None else self._address_of(local_addr[0])
        connected: Any = self._simulation.connect(from_, *address)
        try:
            await self._until_connected(connected, address)
            return await super().create_connection(protocol_factory, sock=connected)
        except BaseException:
            connected.close()
            raise

    async def _until_connected(self, sock: _native_simulation._SimSocket, address: Any) -> None:
        decided: asyncio.Future[None] = self.create_future()
        number = sock.fileno()

        def decide() -> None:
            if not decided.done():
                decided.set_result(None)

        self._add_writer(number, decide)
        try:
            await decided
        finally:
            self._remove_writer(number)
        if code := sock.take_error():
            raise OSError(code, f"Connect call failed {address}")

    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: Any = None,
        port: Any = None,
        *,
        ssl: Any = None,
        sock: Any = None,
        backlog: int = 100,
        start_serving: bool = True,
        **options: Any,
    ) -> Any:
        """Serve on simulated hosts. As `loop.create_server`, without TLS and `sock`."""
        if ssl:
            raise NotImplementedError("TLS cannot be simulated: it draws its own random numbers")
        if sock is not None:
            raise NotImplementedError("a real socket cannot be simulated")
        if port is None and host is None:
            raise ValueError("Neither host/port nor sock were specified")
        names = [host] if isinstance(host, str) or not isinstance(host, Iterable) else [*host]
        sockets: list[Any] = []
        try:
            for address in dict.fromkeys(map(self._address_of, names)):
                sockets.append(self._simulation.listen(address, int(port or 0), backlog))
        except BaseException:
            for made in sockets:
                made.close()
            raise
        return await self._serve(
            sockets, protocol_factory, None, backlog, None, None, start_serving
        )

    # Threads

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        """Run `func(*args)` soon, in the loop's own thread, so that runs repeat themselves."""
        self._check_closed()
        future: asyncio.Future[_T] = self.create_future()

        def work() -> None:
            if future.done():
                return
            try:
                result = func(*args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_soon(work)
        return future

    # What would leave the simulation

    _REAL = "it concerns a descriptor of the machine"
    add_reader = _refuse("add_reader", _REAL)
    remove_reader = _refuse("remove_reader", _REAL)
    add_writer = _refuse("add_writer", _REAL)
    remove_writer = _refuse("remove_writer", _REAL)
    sock_recv = _refuse("sock_recv", _REAL)
    sock_recv_into = _refuse("sock_recv_into", _REAL)
    sock_recvfrom = _refuse("sock_recvfrom", _REAL)
    sock_recvfrom_into = _refuse("sock_recvfrom_into", _REAL)
    sock_sendall = _refuse("sock_sendall", _REAL)
    sock_sendto = _refuse("sock_sendto", _REAL)
    sock_connect = _refuse("sock_connect", _REAL)
    sock_accept = _refuse("sock_accept", _REAL)
    sock_sendfile = _refuse("sock_sendfile", _REAL)
    sendfile = _refuse("sendfile", _REAL)
    connect_accepted_socket = _refuse("connect_accepted_socket", _REAL)
    connect_read_pipe = _refuse("connect_read_pipe", _REAL)
    connect_write_pipe = _refuse("connect_write_pipe", _REAL)
    create_datagram_endpoint = _refuse("create_datagram_endpoint", "only TCP is simulated")
    create_unix_connection = _refuse("create_unix_connection", "only TCP is simulated")
    create_unix_server = _refuse("create_unix_server", "only TCP is simulated")
    start_tls = _refuse("start_tls", "TLS draws its own random numbers")
    subprocess_exec = _refuse("subprocess_exec", "it starts a process of the machine")
    subprocess_shell = _refuse("subprocess_shell", "it starts a process of the machine")
    add_signal_handler = _refuse("add_signal_handler", "signals come from the machine")
    remove_signal_handler = _refuse("remove_signal_handler", "signals come from the machine")
    getnameinfo = _refuse("getnameinfo", "simulated addresses have no registered services")
    del _REAL


def run(
    main: Coroutine[Any, Any, _T],
    *,
    seed: int = 0,
    latency_s: float = 0.0001,
    bytes_per_s: int = 0,
    faults: Mapping[str, int] | None = None,
) -> _T:
    """Run the coroutine `main` on a `SimEventLoop` of these settings; returns its result."""

    def new_loop() -> SimEventLoop:
        return SimEventLoop(seed, latency_s=latency_s, bytes_per_s=bytes_per_s, faults=faults)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)
