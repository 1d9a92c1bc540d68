"""`ops/nginx.conf` fits the settings: whoever must give up first does, and nothing is cut twice."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jitway.settings import load
from tests.servers.certificates import make_certificates
from tests.servers.process import PATH

NGINX = shutil.which("nginx", path=PATH)
FILE = Path(__file__).parents[2] / "ops" / "nginx.conf"
TEXT = FILE.read_text()
SETTINGS = load({"HOME": "/", "DATABASE_URL": "postgresql://h/d"}, Path("/nonexistent"))


def values(directive: str) -> list[str]:
    """What stands behind a directive, wherever it stands."""
    return re.findall(rf"^\s*{directive}\s+(.*);$", TEXT, re.MULTILINE)


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_callers_meet_the_same_limits_at_the_proxy() -> None:
    assert values("client_max_body_size") == [str(SETTINGS.body_bytes_max)]
    number, size = values("large_client_header_buffers")[0].split()
    assert int(number) * int(size.removesuffix("k")) * 1024 == SETTINGS.head_bytes_max
    assert seconds(values("client_header_timeout")[0]) == SETTINGS.head_timeout_s
    assert seconds(values("client_body_timeout")[0]) == SETTINGS.body_timeout_s
    assert seconds(values("send_timeout")[0]) == SETTINGS.write_timeout_s


def test_the_proxy_closes_idle_connections_to_jitway_before_jitway_does() -> None:
    to_jitway, to_callers = sorted(map(seconds, values("keepalive_timeout")))
    assert to_jitway < SETTINGS.keep_alive_s == to_callers


def test_jitway_gives_up_before_the_proxy_and_is_never_asked_twice() -> None:
    slowest = max(SETTINGS.decision_budget_ms / 1000, SETTINGS.query_timeout_s)
    assert seconds(values("proxy_read_timeout")[0]) > slowest
    assert values("proxy_next_upstream") == ["off"]


def test_the_proxy_has_fewer_connections_than_jitway_takes() -> None:
    most = int(re.findall(r"max_conns=(\d+)", TEXT)[0])
    assert most < SETTINGS.connections_max
    assert int(values("limit_conn")[0].split()[1]) < most
    # Many connections come from the one address of the proxy: it must be one that is trusted.
    assert most > SETTINGS.connections_per_address_max
    assert "JITWAY_TRUSTED_PROXIES" in TEXT


def test_every_setting_it_names_exists_and_every_place_says_who_asks() -> None:
    named = set(re.findall(r"JITWAY_[A-Z_]+", TEXT))
    attributes = {name.removeprefix("JITWAY_").lower() for name in named}
    assert attributes <= set(SETTINGS.__slots__)
    assert len(values("proxy_pass")) == len(values("proxy_http_version")) == 3
    forwarded = [value for value in values("proxy_set_header") if "X-Forwarded-For" in value]
    assert forwarded == ["X-Forwarded-For $proxy_add_x_forwarded_for"] * 2
    assert values("ssl_protocols") == ["TLSv1.2 TLSv1.3"]


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed here")
def test_nginx_reads_it(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    text = TEXT.replace("/etc/ssl/jitway/fullchain.pem", str(files.certificate))
    (tmp_path / "jitway.conf").write_text(text.replace("/etc/ssl/jitway/key.pem", str(files.key)))
    whole = tmp_path / "nginx.conf"
    whole.write_text(f"events {{}}\nhttp {{ include {tmp_path}/jitway.conf; }}\n")
    done = subprocess.run(
        [str(NGINX), "-t", "-q", "-p", tmp_path, "-c", whole, "-g", "error_log stderr;"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
