"""A real broker, on one machine and in KRaft mode: 127.0.0.1, a folder of its own, gone with the block."""

from __future__ import annotations

import base64
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.servers import free_port, until
from tests.sources import jars

USER, PASSWORD = "tower", "p@ss:word/1"
STORE_PASSWORD = "changeit"
SMALL = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars.FOLDER}/*"]

SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{secure}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL
inter.broker.listener.name=PLAINTEXT
ssl.keystore.type=PKCS12
ssl.keystore.location={home}/server.p12
ssl.keystore.password={store_password}
sasl.enabled.mechanisms=SCRAM-SHA-256,PLAIN
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
log.dirs={home}/data
num.partitions=3
auto.create.topics.enable=true
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
"""


class Broker:
    def __init__(self, *, heap: str = "-Xmx256m") -> None:
        self._home = Path(tempfile.mkdtemp(prefix="kafka-"))
        plain, secure, controller = free_port(), free_port(), free_port()
        self.servers = f"127.0.0.1:{plain}"
        self.secure_servers = f"127.0.0.1:{secure}"
        self.ca = str(self._home / "ca.pem")
        self._settings = self._home / "server.properties"
        self._settings.write_text(
            SETTINGS.format(
                plain=plain, secure=secure, controller=controller, home=self._home, user=USER,
                password=PASSWORD, store_password=STORE_PASSWORD,
            )
        )  # fmt: skip
        self._java = ["java", heap, *SMALL[1:]]
        self._process: subprocess.Popen[bytes] | None = None
        self._log = (self._home / "log").open("ab")
        try:
            self._certificate()
            self._format()
        except BaseException:
            self.close()
            raise

    def _certificate(self) -> None:
        store = [
            "-keystore",
            str(self._home / "server.p12"),
            "-storepass",
            STORE_PASSWORD,
            "-alias",
            "server",
        ]
        name = ["-dname", "CN=127.0.0.1", "-ext", "SAN=IP:127.0.0.1", "-validity", "30"]
        self._run(["keytool", "-genkeypair", "-keyalg", "EC", "-storetype", "PKCS12", *store, *name])
        self._run(["keytool", "-exportcert", "-rfc", "-file", self.ca, *store])

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        scram = f"SCRAM-SHA-256=[name={USER},password={PASSWORD}]"
        words = ["format", "-t", cluster, "-c", str(self._settings), "--add-scram", scram]
        self._run([*self._java, "kafka.tools.StorageTool", *words])

    def _run(self, words: list[str]) -> None:
        done = subprocess.run(words, stdout=self._log, stderr=self._log, timeout=120)
        assert done.returncode == 0, (self._home / "log").read_text(errors="replace")[-3000:]

    def start(self) -> None:
        if self._process is None:
            words = [*self._java, "kafka.Kafka", str(self._settings)]
            self._process = subprocess.Popen(words, stdout=self._log, stderr=self._log)
        admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 2})
        until(lambda: self._answers(admin), "the broker answers", seconds=120, every=0.2)

    def _answers(self, admin: Any) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._home / "log").read_text(errors="replace")[-3000:]
        try:
            return bool(admin.list_topics(timeout=2).brokers)
        except Exception:
            return False

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """As by kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def create(self, topic: str, partitions: int) -> None:
        admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 2})
        for made in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
            made.result(30)

    def close(self) -> None:
        self.stop()
        self._log.close()
        shutil.rmtree(self._home, ignore_errors=True)

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
