"""Django's PostgreSQL, which notices that the server has gone before a statement has to fail of it.

Health checks would ask the server before each request, and after its death the pool
would wait 1, 2, 4 s between the dead connections that it finds. A look at the socket
costs a microsecond: a server that is not asked says nothing unless it leaves.
"""

from __future__ import annotations

import select
from typing import Any

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: Any) -> Any:
        given = super().get_new_connection(conn_params)
        pool: Any = self.pool
        while pool is not None and has_left(given):
            # Closed before it is given back, so that the pool hands it to nobody else.
            given.close()
            pool.putconn(given)
            # Those beside it died with it.
            pool.drain()
            given = super().get_new_connection(conn_params)
        return given

    def ensure_connection(self) -> None:
        # A thread that keeps its connection (the writer, the sweeper) would find out by a failed transaction.
        if self.connection is not None and not self.in_atomic_block and has_left(self.connection):
            self.close()
        super().ensure_connection()


def has_left(connection: Any) -> bool:
    """The server's end is closed, or it has said why it is closing it."""
    if connection.closed:
        return True
    ear = select.poll()
    ear.register(connection.fileno(), select.POLLIN)
    return bool(ear.poll(0))
