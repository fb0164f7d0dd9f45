"""librdkafka's mock cluster, as a server of the suite: brokers on 127.0.0.1 that live in this process.

The Python client can start one (``test.mock.num.brokers``), and can then do nothing to it. So the library
is asked itself: partitions, brokers that go and come, answers that fail, a group that forms at once.
"""

from __future__ import annotations

import ctypes
import itertools
from pathlib import Path
from typing import Any

import confluent_kafka

#: Numbers of the protocol.
PRODUCE, OFFSET_COMMIT = 0, 8
#: Errors that an answer may carry.
UNKNOWN_MEMBER, REBALANCING, TOPIC_FORBIDDEN, GROUP_FORBIDDEN = 25, 27, 29, 30


def library() -> Any:
    package = Path(confluent_kafka.__file__).parent
    folders = (package.with_name("confluent_kafka.libs"), package / ".dylibs")
    (found,) = itertools.chain(*(folder.glob("librdkafka*") for folder in folders))
    return ctypes.CDLL(str(found))


class Mock:
    def __init__(self, brokers: int = 1) -> None:
        self._lib = lib = library()
        for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
            getattr(lib, name).restype = ctypes.c_void_p
        lib.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        said = ctypes.create_string_buffer(512)
        conf = ctypes.c_void_p(lib.rd_kafka_conf_new())
        handle = lib.rd_kafka_new(0, conf, said, ctypes.c_size_t(len(said)))
        assert handle, said.value
        self._handle = ctypes.c_void_p(handle)
        self._cluster = ctypes.c_void_p(lib.rd_kafka_mock_cluster_new(self._handle, brokers))
        lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, ctypes.c_int32(0))
        self.servers: str = lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def create(self, topic: str, partitions: int) -> None:
        assert self._lib.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1) == 0

    def stop(self) -> None:
        self._lib.rd_kafka_mock_broker_set_down(self._cluster, ctypes.c_int32(-1))

    def start(self) -> None:
        self._lib.rd_kafka_mock_broker_set_up(self._cluster, ctypes.c_int32(-1))

    def fail(self, request: int, *errors: int) -> None:
        """The next answers to this kind of request carry these errors."""
        array = (ctypes.c_int * len(errors))(*errors)
        self._lib.rd_kafka_mock_push_request_errors_array(
            self._cluster, ctypes.c_int16(request), ctypes.c_size_t(len(errors)), array
        )

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Forget the oldest entries, as a broker does whose retention has passed."""
        self._lib.rd_kafka_mock_partition_delete_records(
            self._cluster, topic.encode(), ctypes.c_int32(partition), ctypes.c_int64(before)
        )

    def close(self) -> None:
        self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
        self._lib.rd_kafka_destroy(self._handle)
