"""`compose.yaml`, `Dockerfile` and `.env.example`, as far as a machine without an engine can tell.

The form by a schema of the parts that are used, what the services say to each other, and every
command that builds the image, run in a clean directory.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from jitway.cli.main import main
from jitway.settings import TABLE, load

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
STORES = ("postgres", "mongodb", "redis", "rabbitmq")
OURS = ("migrate", "gateway", "worker")
GUIDE = {"DATABASE_URL", "MONGODB_URI", "MONGODB_DB", "REDIS_URL", "RABBITMQ_URL"}

_WORDS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_DURATION = {"type": "string", "pattern": r"^(\d+(ms|s|m|h))+$"}
# The parts of the compose specification that this file uses; anything else is refused, a typing
# error included.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["services", "volumes"],
    "additionalProperties": False,
    "patternProperties": {"^x-": {}},
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "volumes": {"type": "object", "additionalProperties": {"type": "null"}},
        "services": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["image", "healthcheck", "restart"],
                "additionalProperties": False,
                "properties": {
                    "build": {"type": "string"},
                    "image": {"type": "string", "pattern": r"^[a-z]+(:[\w.-]+)?$"},
                    "command": _WORDS,
                    "hostname": {"type": "string"},
                    "init": {"type": "boolean"},
                    "read_only": {"type": "boolean"},
                    "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
                    "stop_grace_period": _DURATION,
                    "tmpfs": _WORDS,
                    "cap_drop": _WORDS,
                    "security_opt": _WORDS,
                    "ports": {
                        "type": "array",
                        "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"},
                    },
                    "volumes": {
                        "type": "array",
                        "items": {"type": "string", "pattern": r"^[a-z-]+:/[\w/]+$"},
                    },
                    "environment": {
                        "type": "object",
                        "additionalProperties": {"type": "string"},
                    },
                    "env_file": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["path"],
                            "additionalProperties": False,
                            "properties": {
                                "path": {"type": "string"},
                                "required": {"type": "boolean"},
                            },
                        },
                    },
                    "depends_on": {
                        "type": "object",
                        "additionalProperties": {
                            "type": "object",
                            "required": ["condition"],
                            "additionalProperties": False,
                            "properties": {
                                "condition": {
                                    "enum": [
                                        "service_started",
                                        "service_healthy",
                                        "service_completed_successfully",
                                    ]
                                }
                            },
                        },
                    },
                    "healthcheck": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "disable": {"const": True},
                            "test": {
                                **_WORDS,
                                "prefixItems": [{"enum": ["CMD", "CMD-SHELL"]}],
                                "minItems": 2,
                            },
                            "interval": _DURATION,
                            "timeout": _DURATION,
                            "start_period": _DURATION,
                            "retries": {"type": "integer", "minimum": 1},
                        },
                    },
                },
            },
        },
    },
}


def test_the_file_has_the_form_of_a_compose_file() -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(COMPOSE)
    # Compose would take a dollar as the beginning of a variable.
    assert "$" not in (ROOT / "compose.yaml").read_text()


def test_a_typing_error_in_it_would_be_found() -> None:
    broken = json.loads(json.dumps(COMPOSE))
    broken["services"]["redis"]["healthchek"] = broken["services"]["redis"]["healthcheck"]
    with pytest.raises(jsonschema.ValidationError, match="healthchek"):
        jsonschema.Draft202012Validator(SCHEMA).validate(broken)


def test_names_that_it_uses_are_its_own() -> None:
    assert set(SERVICES) == {*STORES, *OURS}
    mounted = [volume for one in SERVICES.values() for volume in one.get("volumes", [])]
    used = [volume.partition(":")[0] for volume in mounted]
    assert sorted(used) == sorted(COMPOSE["volumes"])
    for service in SERVICES.values():
        for name, waited in service.get("depends_on", {}).items():
            if waited["condition"] == "service_healthy":
                assert "test" in SERVICES[name]["healthcheck"]
            assert name in SERVICES


def test_each_store_is_on_its_usual_port_and_keeps_its_data() -> None:
    ports = [port for name in STORES for port in SERVICES[name]["ports"]]
    assert [port.rpartition(":")[2] for port in ports] == ["5432", "27017", "6379", "5672", "15672"]
    assert all(port.split(":")[1] == port.split(":")[2] for port in ports)
    assert SERVICES["gateway"]["ports"] == ["127.0.0.1:3000:3000"]
    kept = {name: [v.partition(":")[2] for v in SERVICES[name]["volumes"]] for name in STORES}
    assert kept == {
        "postgres": ["/var/lib/postgresql"],  # not .../data: since 18 that is another volume
        "mongodb": ["/data/db", "/data/configdb"],
        "redis": ["/data"],
        "rabbitmq": ["/var/lib/rabbitmq"],
    }
    # RabbitMQ's data lies under its host's name.
    assert SERVICES["rabbitmq"]["hostname"]


def test_each_store_has_the_version_that_is_promised() -> None:
    images = {name: SERVICES[name]["image"] for name in STORES}
    assert images == {
        "postgres": "postgres:18",
        "mongodb": "mongo:8",
        "redis": "redis:8",
        "rabbitmq": "rabbitmq:4-management",
    }


def test_redis_is_capped() -> None:
    command = SERVICES["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--maxmemory"] == "500mb"
    assert options["--maxmemory-policy"] == "volatile-lfu"


def test_whatever_serves_is_looked_after() -> None:
    for name in (*STORES, "gateway"):
        health = SERVICES[name]["healthcheck"]
        assert health["test"][0] == "CMD"
        assert set(health) >= {"interval", "timeout", "retries"}, name
    assert "/ready" in SERVICES["gateway"]["healthcheck"]["test"][-1]
    waited = SERVICES["gateway"]["depends_on"]
    assert waited["migrate"] == {"condition": "service_completed_successfully"}
    assert SERVICES["migrate"]["depends_on"]["postgres"] == {"condition": "service_healthy"}
    # Money needs PostgreSQL alone.
    optional = {waited[name]["condition"] for name in ("mongodb", "redis", "rabbitmq")}
    assert optional == {"service_started"}


@pytest.mark.parametrize("name", OURS)
def test_ours_may_do_nothing_but_their_work(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]
    assert service["build"] == "."


@pytest.mark.parametrize("name", OURS)
def test_the_commands_of_ours_exist(name: str) -> None:
    (command,) = SERVICES[name]["command"]
    assert command in main.commands


@pytest.mark.parametrize("name", OURS)
def test_its_environment_is_that_of_the_example(name: str, tmp_path: Path) -> None:
    """The same users, passwords, ports and databases; only the hosts are the services' names."""
    example = load({"HOME": "/home/ada", "JITWAY_ENV_FILE": str(ROOT / ".env.example")}, tmp_path)
    environment = SERVICES[name]["environment"]
    assert set(example.sources) == {*GUIDE, "JITWAY_ENV_FILE"}
    assert set(environment) >= GUIDE
    inside = load({"HOME": "/home/ada", **environment}, tmp_path)
    assert inside.mongodb_db == example.mongodb_db
    for variable, service in zip(
        ("database_url", "mongodb_uri", "redis_url", "rabbitmq_url"), STORES, strict=True
    ):
        here, there = urlsplit(getattr(example, variable)), urlsplit(getattr(inside, variable))
        assert there.hostname == service
        assert here.hostname == "127.0.0.1"
        assert f"127.0.0.1:{here.port}:{here.port}" in SERVICES[service]["ports"]
        same = (here.scheme, here.username, here.password, here.port, here.path)
        assert (there.scheme, there.username, there.password, there.port, there.path) == same


def test_the_stores_let_that_user_in() -> None:
    postgres = urlsplit(SERVICES["gateway"]["environment"]["DATABASE_URL"])
    assert SERVICES["postgres"]["environment"] == {
        "POSTGRES_USER": postgres.username,
        "POSTGRES_PASSWORD": postgres.password,
        "POSTGRES_DB": postgres.path.removeprefix("/"),
    }
    rabbitmq = urlsplit(SERVICES["gateway"]["environment"]["RABBITMQ_URL"])
    assert SERVICES["rabbitmq"]["environment"] == {
        "RABBITMQ_DEFAULT_USER": rabbitmq.username,
        "RABBITMQ_DEFAULT_PASS": rabbitmq.password,
    }


def test_every_setting_of_env_example_reaches_the_containers() -> None:
    for name in OURS:
        assert SERVICES[name]["env_file"] == [{"path": ".env", "required": False}]
        known = {row.name for row in TABLE}
        assert set(SERVICES[name]["environment"]) <= known


# The image ---------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile with the rest of its line, continuations joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, " ".join(rest.split())) for word, _, rest in (x.partition(" ") for x in lines)]


def last(word: str) -> str:
    return [rest for found, rest in instructions() if found == word][-1]


def test_the_image_is_slim_pinned_and_nobody_special() -> None:
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert set(bases) == {"python:3.11-slim-bookworm"}
    assert last("USER") == "10001:10001"
    assert last("VOLUME") == "/var/lib/jitway"
    assert json.loads(last("ENTRYPOINT")) == ["jitway"]
    assert json.loads(last("CMD")) == ["serve"]
    assert "/live" in last("HEALTHCHECK")
    install = [rest for word, rest in instructions() if word == "RUN" and "runtime.txt" in rest]
    assert "--require-hashes" in install[0]


def test_its_health_check_asks_whether_it_lives() -> None:
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert command[:2] == ["python3", "-c"]
    compile(command[2], "HEALTHCHECK", "exec")
    command = SERVICES["gateway"]["healthcheck"]["test"]
    assert command[:3] == ["CMD", "python3", "-c"]
    compile(command[3], "healthcheck", "exec")


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    for sources, _ in copies():
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source in allowed, source
    assert allowed == {source for sources, _ in copies() for source in sources}


def copies() -> list[tuple[list[str], str]]:
    """What COPY takes from the checkout, and where to."""
    found = [rest.split() for word, rest in instructions() if word == "COPY"]
    return [(words[:-1], words[-1]) for words in found if not words[0].startswith("--from")]


@pytest.mark.timeout(300)
def test_every_command_that_builds_the_image_runs_in_a_clean_directory(tmp_path: Path) -> None:
    """The build stage with this directory for its root; then what it made is used."""
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            copy(sources, tmp_path / target)
        elif word == "RUN":
            assert not re.search(r"(^|\s)/(?!usr/sbin/nologin)", rest), "its paths are relative"
            run(["/bin/sh", "-ec", rest], cwd=tmp_path)
    jitway = tmp_path / "opt/jitway/bin/jitway"
    (tmp_path / "empty").mkdir()
    environment = {"JITWAY_ENV_FILE": os.devnull, **SERVICES["gateway"]["environment"]}
    assert "jitway, version" in run([jitway, "--version"], cwd=tmp_path / "empty")
    shown = run([jitway, "settings", "--json"], cwd=tmp_path / "empty", **environment)
    assert json.loads(shown)["HOST"]["value"] == "0.0.0.0"
    # Not the checkout's: the code and its SQL lie in the image.
    installed = next((tmp_path / "opt/jitway/lib").glob("python*/site-packages/jitway"))
    assert sorted(installed.rglob("*.sql"))
    assert names_below(installed, "*.sql") == names_below(ROOT / "src/jitway", "*.sql")
    assert "jitway:x:10001:10001:" in (tmp_path / "etc/passwd").read_text()
    assert (tmp_path / "var/lib/jitway").is_dir()


def copy(sources: list[str], target: Path) -> None:
    """As COPY does: a directory's content, a file under its name."""
    for source in sources:
        if (ROOT / source).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, target, dirs_exist_ok=True, ignore=ignore)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, target / PurePosixPath(source).name)


def run(command: list[str | Path], *, cwd: Path, **environ: str) -> str:
    """Standard output of a command that succeeds; of our environment only where pip looks."""
    ours = {k: v for k, v in os.environ.items() if k.startswith("PIP_") or k.endswith("_proxy")}
    path = "/usr/local/bin:/usr/bin:/bin"
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": path, "HOME": os.environ.get("HOME", str(cwd)), **ours, **environ},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def names_below(directory: Path, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob(pattern))
