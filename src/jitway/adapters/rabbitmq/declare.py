"""Makes the broker have what the topology says. Idempotent: declared at every connection."""

from jitway.adapters.rabbitmq.failure import ArgumentsDiffer
from jitway.adapters.rabbitmq.topology import QueueSpec, Topology
from jitway.adapters.rabbitmq.wire import Wire


async def declare_all(wire: Wire, topology: Topology) -> None:
    """Make sure of the exchange, and of every queue with its delays, dead letters and bindings.

    Raises:
        ArgumentsDiffer: a queue exists with other arguments; the text says what to do.
        BrokerUnavailable: the broker is away, or the user may not do this.
    """
    async with wire.throwaway() as channel:
        await channel.declare_exchange(topology.exchange)
    for queue in topology.queues:
        await declare_queue(wire, queue, exchange=topology.exchange)


async def declare_queue(wire: Wire, queue: QueueSpec, *, exchange: str) -> None:
    """Make sure of one queue with all that belongs to it, the exchange included."""
    async with wire.throwaway() as channel:
        await channel.declare_exchange(exchange)
        for declaration in queue.declarations():
            try:
                await channel.declare_queue(declaration, exchange=exchange)
            except ArgumentsDiffer as error:
                raise ArgumentsDiffer(f"queue {declaration.name}: {error}") from None
