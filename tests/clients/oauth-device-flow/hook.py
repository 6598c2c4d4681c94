"""psycopg's own libpq 18 with a token hook: how a program brings a token that it has already.

hook.py CONNINFO TOKEN            prints what `select current_user` answers, or exits with libpq's error
"""

import ctypes
import glob
import os
import sys

import psycopg

PGCONN_AUTHDATA_OAUTH_BEARER_TOKEN = 1  # PGauthData, libpq-fe.h


class Request(ctypes.Structure):
    """PGoauthBearerRequest (libpq-fe.h, PostgreSQL 18)."""

    _fields_ = [
        ("openid_configuration", ctypes.c_char_p),
        ("scope", ctypes.c_char_p),
        ("async_", ctypes.c_void_p),
        ("cleanup", ctypes.c_void_p),
        ("token", ctypes.c_char_p),
        ("user", ctypes.c_void_p),
    ]


conninfo, token = (text.encode() for text in sys.argv[1:])
folder = os.path.join(os.path.dirname(psycopg.__file__), "..", "psycopg_binary.libs")
libpq = ctypes.CDLL(glob.glob(f"{folder}/libpq-*.so*")[0])


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Request))
def hook(kind, _connection, request):
    if kind != PGCONN_AUTHDATA_OAUTH_BEARER_TOKEN:
        return 0
    told = request.contents
    print("hook:", told.openid_configuration.decode(), told.scope.decode())
    told.token = token
    return 1


libpq.PQsetAuthDataHook(hook)
print("libpq:", psycopg.pq.version())
connection = psycopg.pq.PGconn.connect(conninfo)
if connection.status != psycopg.pq.ConnStatus.OK:
    sys.exit(connection.error_message.decode())
print("user:", connection.exec_(b"select current_user").get_value(0, 0).decode())
