"""The stage of the fault tests: one database, topics, proxies, daemons and what is fed to them.

Used inside tests/support/services (see tests/fault/run). Everything that is started here has
MILLRACE_RUN in its environment, so that the reaper ends it whatever happens. The daemons reach the
broker and Postgres only through the proxies; the feeder and the checker go there directly.
"""

import json
import os
import pathlib
import signal
import subprocess
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN = pathlib.Path(os.environ["MILLRACE_RUN"])
LOGS = RUN / "logs"
DAEMON = os.environ["MILLRACE_FAULT_BIN"]
PROXY = os.environ["MILLRACE_FAULT_PROXY"]
BROKER = os.environ["KAFKA_BROKERS"]

# Who subscribes to what. "big" is more than a unit holds; of "moving" the clients m1.. come and go.
SMALL, CLIENTS, BIG, STEADY, MOVING = 6, 20, 3000, 150, 150

# What a campaign's name begins with, and what becomes of it. Where a class stands, it is a dead
# letter of that class.
KINDS = {
    "s": "small",
    "b": "larger than a unit",
    "v": "subscribers come and go meanwhile",
    "x": "dropped: expired",
    "n": "dropped: nobody subscribes",
    "j": "decode",
    "p": "rejected",
    "q": "rejected",
    "t": "too_large",
}
CLASSES = {"decode", "rejected", "too_large"}

CONFIG = """
local kafka = {{ ["bootstrap.servers"] = "{kafka}", ["topic.metadata.refresh.interval.ms"] = "5000",
                ["reconnect.backoff.max.ms"] = "500" }}
local source = {{ ["session.timeout.ms"] = "{session}", ["heartbeat.interval.ms"] = "300" }}
for name, value in pairs(kafka) do source[name] = value end
return {{
  admin = {{ listen = "off" }},
  lookups = {{
    subscribers = {{ dsn = "{pg_direct}", table = "subscribers_restaurants", key = "restaurant_id",
                    columns = {{ "client_id" }}, refresh = "reload 1s" }},
  }},
  pipelines = {{
    promo = {{
      source = {{ topics = {{ "{topic_in}" }}, group = "{group}", kafka = source,
                 static_membership = {static} }},
      lookup = "subscribers",
      script = "{root}/scripts/promo.lua",
      workers = env("MILLRACE_WORKERS", 1),
      unit = {{ outputs = {unit} }},
      limits = {{ output = "4KB" }},
      sinks = {{ {sinks} }},
      delivery = env("MILLRACE_DELIVERY", "{delivery}"),
      dead_letters = {{ {dead} }},
    }},
  }},
}}
"""


SINKS = {"kafka": 'kafka = {{ topic = "{topic_out}", kafka = kafka }}',
         "postgres": 'postgres = {{ dsn = "{pg}", table = "subscribers_feedback" }}'}


class Failure(Exception):
    """The run is not as it must be; the text says how."""


def wait(seconds, what, condition):
    """Calls `condition` until it gives something true, which is returned."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.03)  # poll


def support(*words):
    """A command of tests/support that must succeed."""
    done = subprocess.run([ROOT / "tests/support" / words[0], *words[1:]], capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"{' '.join(words)}: status {done.returncode}: {done.stdout}{done.stderr}")


class Proxy:
    def __init__(self, kind, listen, upstream):
        self.path = LOGS / f"proxy-{kind}.log"
        self.process = subprocess.Popen(
            [PROXY, kind, str(listen), str(upstream)],
            stdin=subprocess.PIPE, stdout=open(self.path, "ab"), stderr=subprocess.STDOUT)
        wait(10, f"the proxy of {kind} to listen: {self.log()}", lambda: "port " in self.log() or self.process.poll())
        if self.process.poll() is not None:
            raise Failure(f"the proxy of {kind} ended: {self.log()}")
        self.port = int(self.log().split()[1])

    def log(self):
        return self.path.read_text()

    def order(self, line):
        self.process.stdin.write((line + "\n").encode())
        self.process.stdin.flush()

    def struck(self, text):
        return sum(line.startswith("struck " + text) for line in self.log().splitlines())


class Daemon:
    """One instance name; started again and again under it, with one log."""

    def __init__(self, stage, name, workers=1):
        self.stage, self.name, self.workers = stage, name, workers
        self.path = LOGS / f"{name}.log"
        self.path.touch()
        self.process = None
        self.lives = 0

    def start(self, fault=None, seed=None, mutant=None, delivery=None):
        env = dict(os.environ, MILLRACE_INSTANCE=self.name, MILLRACE_WORKERS=str(self.workers))
        for name, value in (("MILLRACE_FAULT", fault), ("MILLRACE_FAULT_SEED", seed), ("MILLRACE_MUTANT", mutant),
                            ("MILLRACE_DELIVERY", delivery)):
            env.pop(name, None)
            if value is not None:
                env[name] = str(value)
        self.lives += 1
        self.born_at = self.path.stat().st_size
        with open(self.path, "ab") as log:
            log.write(f"--- life {self.lives} at {time.strftime('%H:%M:%S')} fault={fault} "
                      f"{delivery or ''}\n".encode())
            log.flush()
            self.process = subprocess.Popen([DAEMON, "run", "-c", self.stage.config], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=env, start_new_session=True)
        return self

    def log(self, of_this_life=True):
        with open(self.path, "rb") as log:
            log.seek(self.born_at if of_this_life else 0)
            return log.read().decode(errors="replace")

    def tail(self, n=12):
        return "\n".join(self.log(False).splitlines()[-n:])

    def status(self):
        """None while it lives; negative: the signal that ended it."""
        return self.process.poll()

    def is_stopped(self):
        try:
            return pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False

    def signal(self, number):
        if self.process and self.status() is None:
            self.process.send_signal(number)

    def wait_log(self, text, seconds=40):
        def seen():
            status = self.status()  # first: what it says before it ends is then in the log
            if text in self.log():
                return True
            if status is not None:
                raise Failure(f"{self.name} ended with {status} before its log said '{text}':\n{self.tail()}")
            return False

        wait(seconds, lambda: f"the log of {self.name} to say '{text}'; it ends with\n{self.tail()}", seen)
        return self

    def wait_end(self, seconds=40):
        wait(seconds, lambda: f"{self.name} to end; its log ends with\n{self.tail()}",
             lambda: self.status() is not None)
        return self.status()

    def keeps_signals(self):
        """Whether a SIGTERM is the daemon's to handle: before its first steps any process dies of one."""
        try:
            kept = pathlib.Path(f"/proc/{self.process.pid}/status").read_text().partition("SigBlk:")[2].split()
        except OSError:
            kept = []
        return self.status() is not None or kept and int(kept[0], 16) & 1 << signal.SIGTERM - 1

    def stop(self):
        """SIGTERM; it must end in peace."""
        if self.process is None or self.status() is not None:
            return
        self.signal(signal.SIGCONT)
        wait(40, f"{self.name} to keep the signals that it serves", self.keeps_signals)
        self.signal(signal.SIGTERM)
        if self.wait_end() != 0:
            raise Failure(f"{self.name} ended with {self.status()} after SIGTERM:\n{self.tail()}")

    def kill(self):
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.wait()


class Stage:
    def __init__(self, name, delivery, partitions=4, unit=1000, session=3000, static=False,
                 sinks=("kafka", "postgres")):
        self.name, self.delivery, self.partitions = name, delivery, partitions
        self.sinks = sinks
        self.topic_in, self.topic_out, self.topic_dead = f"{name}_in", f"{name}_out", f"{name}_dead"
        self.dsn = os.environ["MILLRACE_PG"].replace("/promo?", f"/{name}?")
        direct = os.environ["MILLRACE_PG_TCP"].replace("/promo?", f"/{name}?") + "&gssencmode=disable"
        pg_port = int(direct.partition("127.0.0.1:")[2].partition("/")[0])
        port_of = lambda variable: int(os.environ[variable].rpartition(":")[2])
        with lock:  # databases are made one at a time, since each is a copy of the same
            self.kafka = shared_proxy("kafka", port_of("KAFKA_PROXY"), port_of("KAFKA_BEHIND_PROXY"))
            self.pg = shared_proxy("postgres", 0, pg_port)
            self.psql("create database " + name + " template promo",
                      os.environ["MILLRACE_PG"].replace("/promo?", "/postgres?"))
        support("topics", f"{self.topic_in}:{partitions}", f"{self.topic_out}:2", f"{self.topic_dead}:2")
        self.config = str(RUN / f"{name}.lua")
        parts = ", ".join(SINKS[sink].format(topic_out=self.topic_out, pg=direct.replace(f":{pg_port}/", f":{self.pg.port}/"))
                          for sink in sinks)
        dead = 'table = "millrace_dead"' if "postgres" in sinks else f'topic = "{self.topic_dead}"'
        pathlib.Path(self.config).write_text(CONFIG.format(
            kafka=os.environ["KAFKA_PROXY"], pg_direct=direct, sinks=parts, dead=dead, topic_in=self.topic_in,
            group=name, root=ROOT, unit=unit, delivery=delivery, session=session,
            static=str(static).lower()))
        done = subprocess.run([DAEMON, "init", "-c", self.config], capture_output=True, text=True)
        if done.returncode and "postgres" in sinks:
            raise Failure(f"millrace init: status {done.returncode}: {done.stdout}{done.stderr}")
        self.psql("alter table subscribers_feedback add constraint no_poison check (adv_campaign_content <> 'poison'); "
                  "truncate subscribers_restaurants; insert into subscribers_restaurants (client_id, restaurant_id) "
                  f"select 'c' || c, 'r' || r from generate_series(1, {SMALL}) r, generate_series(1, {CLIENTS}) c "
                  f"union all select 'c' || c, 'big' from generate_series(1, {BIG}) c "
                  f"union all select 'c' || c, 'moving' from generate_series(1, {STEADY}) c")
        self.serial = 0
        self.producer = Producer({"bootstrap.servers": BROKER, "enable.idempotence": True, "linger.ms": 5,
                                  "message.timeout.ms": 0, "log_level": 2})
        self.reader = None
        self.sent, self.outputs = 0, 0

    def psql(self, query, dsn=None, check=True):
        done = subprocess.run(["psql", "-qXAt", "-v", "ON_ERROR_STOP=1", dsn or self.dsn, "-c", query],
                              capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode and check:
            raise Failure(f"psql: {query}: {done.stderr}")
        return None if done.returncode else done.stdout.strip()

    def feed(self, kind, partition=None):
        """Sends one campaign of that kind; gives its name."""
        self.serial += 1
        name, now = f"{kind}{self.serial}", int(time.time())
        restaurant = {"b": "big", "q": "big", "v": "moving", "n": "nobody"}.get(kind, f"r{self.serial % SMALL + 1}")
        content = {"p": "poison", "q": "poison", "t": "long " * 2000}.get(kind, "come and eat")
        value = "{ broken " + name if kind == "j" else json.dumps({
            "restaurant_id": restaurant, "adv_campaign_id": name, "adv_campaign_content": content,
            "adv_campaign_owner": "Ivanov Ivan Ivanovich", "adv_campaign_owner_contact": "ivanov@example.com",
            "adv_campaign_datetime_start": now - 1000,
            "adv_campaign_datetime_end": now - 500 if kind == "x" else now + 100000, "datetime_created": now - 2000})
        if partition is None:
            partition = self.serial % self.partitions
        self.producer.produce(self.topic_in, value, key=name, partition=partition)
        self.producer.poll(0)
        self.sent += 1
        self.outputs += {"s": CLIENTS, "b": BIG, "v": STEADY}.get(kind, 0)
        return name

    def flush(self):
        left = self.producer.flush(60)
        if left:
            raise Failure(f"the feeder could not send {left} messages within 60 s")

    def move(self, choice):
        """Some of the clients that come and go, come or go."""
        first = choice.randrange(MOVING)
        self.psql("delete from subscribers_restaurants where restaurant_id = 'moving' and client_id like 'm%'; "
                  "insert into subscribers_restaurants (client_id, restaurant_id) "
                  f"select 'm' || c, 'moving' from generate_series({first}, {choice.randrange(first, MOVING)}) c",
                  check=False)

    def done(self):
        """How many messages are settled, how many fan-outs are in progress, how many units there were; None: what
        knows is away."""
        if "postgres" not in self.sinks:
            return self.done_in_kafka()
        text = self.psql("select coalesce(sum(greatest(next_offset, 0)), 0), count(job_keys), coalesce(sum(unit), 0) "
                         f"from millrace_ledger where grp = '{self.name}'", check=False)
        return tuple(int(word) for word in text.split("|")) if text else None

    def done_in_kafka(self):
        if not self.reader:
            self.reader = Consumer({"bootstrap.servers": BROKER, "group.id": self.name, "log_level": 2})
        try:
            marks = self.reader.committed([TopicPartition(self.topic_in, i) for i in range(self.partitions)], timeout=5)
        except KafkaException:
            return None
        return sum(max(mark.offset, 0) for mark in marks), 0, 0

    def is_done(self):
        done = self.done()
        return done is not None and done[:2] == (self.sent, 0)

    def wait_done(self, daemons=(), idle=60):
        """Waits until all that was fed is settled; no progress for `idle` seconds is a failure. A daemon that
        ends meanwhile is one, too."""
        last, since = None, time.monotonic()
        while True:
            done = self.done()
            if done is not None and done[:2] == (self.sent, 0):
                return
            if done != last:
                last, since = done, time.monotonic()
            for daemon in daemons:
                if daemon.status() is not None:
                    raise Failure(f"{daemon.name} ended with {daemon.status()}:\n{daemon.tail()}")
            if time.monotonic() - since > idle:
                tails = "\n".join(f"{daemon.name}:\n{daemon.tail()}" for daemon in daemons)
                raise Failure(f"no progress for {idle} s: settled, jobs, units = {last} of {self.sent} messages\n{tails}")
            time.sleep(0.1)  # poll


proxies, lock = {}, threading.Lock()


def shared_proxy(kind, listen, upstream):
    if kind not in proxies:
        proxies[kind] = Proxy(kind, listen, upstream)
    return proxies[kind]
