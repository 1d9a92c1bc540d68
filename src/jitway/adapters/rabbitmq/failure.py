"""How RabbitMQ can fail a caller, finer than the product needs to know, and in which words.

All of them are `BrokerUnavailable` outside; inside, they tell what may be repeated and what not.
"""

import ssl

from jitway.adapters.rabbitmq.address import BrokerAddress
from jitway.errors import BrokerUnavailable, SettingsError


class Unconfirmed(BrokerUnavailable):
    """The channel or connection ended: what was under way may have happened or not."""


class Refused(BrokerUnavailable):
    """The broker answered, and the same will happen again until somebody changes something."""


class NotThere(Refused):
    """The exchange or queue does not exist."""


class ArgumentsDiffer(Refused):
    """The exchange or queue exists with other arguments."""


def unreachable(error: BaseException, address: BrokerAddress) -> BrokerUnavailable | SettingsError:
    """Why there is no connection, below AMQP, in one sentence that says what to do."""
    at = address.masked
    text = one_line(error)
    match error:
        case SettingsError():
            return error
        case ssl.SSLCertVerificationError():
            return Refused(
                f"{at}: its certificate is not accepted ({error.verify_message}): the host name "
                "must be the certificate's, and ?cafile= must name the authority that signed it"
            )
        case ssl.SSLError():
            return Refused(f"{at} does not speak TLS there ({text}): is it amqp:// and port 5672?")
        case OSError() if "Connect call failed" in text:
            return BrokerUnavailable(
                f"nothing listens at {at}: start RabbitMQ, or correct RABBITMQ_URL"
            )
        case _ if "unexpectedly closed" in text or "reset" in text:
            return BrokerUnavailable(
                f"{at} hung up: is it RabbitMQ that listens there, and not starting or stopping? "
                "Does it want TLS (amqps://)?"
            )
        case _:
            return BrokerUnavailable(
                f"{at} cannot be reached ({text or type(error).__name__}): is RabbitMQ running "
                "there, and is RABBITMQ_URL right?"
            )


def one_line(error: BaseException) -> str:
    """What an error says, without its number."""
    return " ".join(str(error.args[-1] if error.args else error).split())
