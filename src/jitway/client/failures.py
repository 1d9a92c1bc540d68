"""`failures.py`: what a client raises.

JitwayError
├── RequestRefused     the gateway answered a problem; repeating it changes nothing, or did not help
└── NoAnswer           nobody answered in time: it may have happened; send the same call again
"""

from jitway.errors import JitwayError


class RequestRefused(JitwayError):
    """The gateway answered a problem.

    Args:
        status: of HTTP.
        code: stable, from the catalogue of the HTTP API.
        detail: one sentence.
        pointer: JSON pointer to the field to blame, or None.
        request_id: by which the gateway's log knows it.
    """

    def __init__(
        self, status: int, code: str, detail: str, pointer: str | None, request_id: str
    ) -> None:
        super().__init__(f"{code}: {detail}" + (f" ({pointer})" if pointer else ""))
        self.status = status
        self.code = code
        self.detail = detail
        self.pointer = pointer
        self.request_id = request_id


class NoAnswer(JitwayError):
    """Nobody answered in time: what was asked may have happened or not.

    Sending the same call again settles it: its idempotency key gets the first answer.
    """
