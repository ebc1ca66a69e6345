"""The peer: the same work as one would write it by hand, in Python, with the fastest libraries there are for it.

Why it is a fair one. Everything slow is done in C: librdkafka (confluent-kafka), orjson, COPY (psycopg 3, its compiled
half). The subscribers are in a dict. Work is done in batches of up to 10 000 outputs; a batch is sent to Kafka while its
one COPY runs, so that the two overlap; then everything is awaited, Postgres commits, and the offsets are committed. The
producer is idempotent, with acks=all, large batches and the same compression as the others. COPY is text: joining lines
was faster than packing binary rows from Python. Nothing is escaped, checked or counted that need not be.
What it is not is exact: a crash between the commits doubles messages and rows, and one that lingers can lose nothing
but doubles again. That is what one gets by hand without a ledger.

--way splice does not serialize each message: it cuts the campaign's JSON in two and puts the client between. Few would
write it; it is here because it is the fastest that Python can do (`python:way=splice`).

Says "ready" when partitions are assigned, then, after each batch, how many campaigns are committed so far. Ends with
the end of stdin. Run by bench/run in the virtual environment of requirements.txt.
"""

import argparse
import os
import sys
import threading
import time

import orjson
import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

BATCH = 10000
COLUMNS = ("restaurant_id", "adv_campaign_id", "adv_campaign_content", "adv_campaign_owner", "adv_campaign_owner_contact",
           "adv_campaign_datetime_start", "adv_campaign_datetime_end", "datetime_created")
COPY = f"COPY subscribers_feedback ({', '.join(COLUMNS)}, client_id, trigger_datetime_created, feedback) FROM STDIN"


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("input", "topic", "group", "compression"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--way", choices=["dumps", "splice"], default="dumps")
    return parser.parse_args()


def load_subscribers(database):
    subscribers = {}
    with database.cursor() as cursor, cursor.copy(
            "COPY (SELECT DISTINCT restaurant_id, client_id FROM subscribers_restaurants) TO STDOUT") as copy:
        copy.set_types(["text", "text"])
        for restaurant, client in copy.rows():
            subscribers.setdefault(restaurant, []).append(client)
    database.commit()
    return subscribers


def escaped(value):
    """A field of COPY's text format."""
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


class Batch:
    """Outputs that are on their way to Kafka, and their lines for Postgres."""

    def __init__(self, producer, topic, way):
        self.producer, self.topic = producer, topic
        self.add = self.dumps if way == "dumps" else self.splice
        self.lines = []

    def send(self, value, key):
        while True:
            try:
                return self.producer.produce(self.topic, value, key)
            except BufferError:
                self.producer.poll(0.01)

    def dumps(self, campaign, clients, now):
        record = {name: campaign[name] for name in COLUMNS}
        record["client_id"] = None
        record["trigger_datetime_created"] = now
        head = "\t".join(escaped(campaign[name]) for name in COLUMNS)
        for client in clients:
            record["client_id"] = client
            self.send(orjson.dumps(record), client)
            self.lines.append(f"{head}\t{client}\t{now}\t\n")

    def splice(self, campaign, clients, now):
        head = orjson.dumps({name: campaign[name] for name in COLUMNS})[:-1].decode() + ',"client_id":'
        tail = f',"trigger_datetime_created":{now}}}'
        row = "\t".join(escaped(campaign[name]) for name in COLUMNS)
        for client in clients:
            self.send(f'{head}"{client}"{tail}', client)
            self.lines.append(f"{row}\t{client}\t{now}\t\n")

    def commit(self, database):
        """In both sinks. The messages have been on their way meanwhile."""
        if self.lines:
            with database.cursor() as cursor, cursor.copy(COPY) as copy:
                copy.write("".join(self.lines).encode())
            self.lines.clear()
        if self.producer.flush(60):
            sys.exit("peer: Kafka did not take all messages")
        database.commit()


def on_delivery(error, _):
    if error is not None:
        sys.exit(f"peer: {error}")


def clients_of(kafka, args):
    producer = Producer({**kafka, "enable.idempotence": True, "acks": "all", "compression.type": args.compression,
                         "linger.ms": 5, "batch.size": 1000000, "batch.num.messages": 100000,
                         "queue.buffering.max.messages": 200000, "delivery.report.only.error": True,
                         "on_delivery": on_delivery})
    consumer = Consumer({**kafka, "group.id": args.group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
                         "isolation.level": "read_committed", "enable.partition.eof": True, "fetch.wait.max.ms": 10})
    return producer, consumer


def campaigns(consumer):
    """What is there: a wait for the first, then all that have come. [] now and then."""
    first = consumer.poll(0.05)
    if first is None:
        return []
    return [first, *consumer.consume(2000, 0)]


def run(args):
    kafka = {"bootstrap.servers": os.environ["KAFKA_BROKERS"]}
    database = psycopg.connect(os.environ["MILLRACE_PG"])
    subscribers = load_subscribers(database)
    producer, consumer = clients_of(kafka, args)
    assigned = threading.Event()
    consumer.subscribe([args.input], on_assign=lambda *_: assigned.set())
    batch = Batch(producer, args.topic, args.way)
    positions, done, ready = {}, 0, False

    def commit():
        nonlocal done
        batch.commit(database)
        if positions:
            consumer.commit(offsets=[TopicPartition(args.input, p, o + 1) for p, (o, _) in positions.items()],
                            asynchronous=False)
            done += sum(n for _, n in positions.values())
            positions.clear()
            print(done, flush=True)

    while True:
        messages = campaigns(consumer)
        if assigned.is_set() and not ready:
            ready = True
            print("ready", flush=True)
        for message in messages:
            if message.error():
                if message.error().code() == KafkaError._PARTITION_EOF:
                    continue
                raise KafkaException(message.error())
            campaign, now = orjson.loads(message.value()), int(time.time())
            if campaign["adv_campaign_datetime_start"] <= now <= campaign["adv_campaign_datetime_end"]:
                clients = subscribers.get(campaign["restaurant_id"], ())
                for at in range(0, len(clients), BATCH):
                    batch.add(campaign, clients[at:at + BATCH], now)
                    if len(batch.lines) >= BATCH:
                        batch.commit(database)
            position = message.partition()
            positions[position] = message.offset(), positions.get(position, (0, 0))[1] + 1
        if messages:
            commit()


def end_with_stdin():
    sys.stdin.buffer.read()
    os._exit(0)


threading.Thread(target=end_with_stdin, daemon=True).start()
run(arguments())
