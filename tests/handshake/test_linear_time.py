"""No field of a request costs more than linear time, whatever its value repeats.

No time is measured: the values are so long that quadratic work for one of them would take minutes, and a process has a
minute for all of them. In this process, a pattern that backtracks could not be interrupted.
"""

import subprocess
import sys

from helpers.processes import python_environment
from helpers.programs import SECONDS

FIELDS = {
    "Host": "a",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "Origin": "http://a",
    "Sec-WebSocket-Protocol": "a",
    "Sec-WebSocket-Extensions": "permessage-deflate",
    "Cookie": "a=b",
}
REPEATED = [" ", "\t", ",", "a, ", '"', "\\", ";", "a;", "[", ":", "."]

PROGRAM = """
import itertools
from streamws.errors import HandshakeRefused
from streamws.handshake.request_reader import RequestReader
from streamws.handshake.server import Policy, accept_request
from streamws.options import Compression, Limits

FIELDS, REPEATED = %r, %r
SIZE = 200_000
limits = Limits(max_request_line=1 << 30, max_header_line=1 << 30, max_head=1 << 30)
policy = Policy(compression=Compression(), subprotocols=["b"])
for name, repeated in itertools.product(FIELDS, REPEATED):
    for begin, end in (("", ""), ("", "@"), ("a", "b")):
        fields = FIELDS | {name: begin + repeated * (SIZE // len(repeated)) + end}
        head = "GET / HTTP/1.1\\r\\n" + "".join(f"{name}:{value}\\r\\n" for name, value in fields.items()) + "\\r\\n"
        try:
            reader = RequestReader(limits)
            request = reader.feed(head.encode())
            accept_request(request, reader.fields, policy)
        except HandshakeRefused as error:
            assert len(error.reason) < 1000
"""


def test_server_reads_any_value_of_any_field_in_linear_time() -> None:
    program = PROGRAM % (FIELDS, REPEATED)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=2 * SECONDS, env=python_environment())
