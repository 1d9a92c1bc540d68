"""RabbitMQ: publishing with confirms, consuming with retries and dead letters."""

from jitway.adapters.rabbitmq.adapter import MessageQueueManager
from jitway.adapters.rabbitmq.consumer import Consumer
from jitway.adapters.rabbitmq.delivery import DeadLetter, Delivery, Publication
from jitway.adapters.rabbitmq.topology import QueueSpec, Topology

__all__ = [
    "Consumer",
    "DeadLetter",
    "Delivery",
    "MessageQueueManager",
    "Publication",
    "QueueSpec",
    "Topology",
]
