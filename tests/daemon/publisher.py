"""Publishes one frame within a span of its own, as an application with OpenTelemetry's Python client does.

publisher.py NATS_URL OTLP_ENDPOINT: reads the frame from standard input, prints the outcome's headers.
"""

import asyncio
import json
import sys
import urllib.request

import nats
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult


class Exporter(SpanExporter):
    """OTLP over HTTP with nothing but the standard library."""

    def __init__(self, endpoint):
        self.url = f"{endpoint}/v1/traces"

    def export(self, spans):
        body = encode_spans(spans).SerializeToString()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/x-protobuf"})
        with urllib.request.urlopen(request, timeout=30):
            return SpanExportResult.SUCCESS


async def main(url, endpoint):
    provider = TracerProvider(resource=Resource.create({"service.name": "publisher"}))
    provider.add_span_processor(SimpleSpanProcessor(Exporter(endpoint)))
    frame = sys.stdin.buffer.read()
    connection = await nats.connect(url)
    with provider.get_tracer("test").start_as_current_span("record", kind=trace.SpanKind.PRODUCER):
        headers = {}
        propagate.inject(headers)
        reply = await connection.request("iq.frames.python", frame, timeout=30, headers=headers)
    await connection.close()
    print(json.dumps(dict(reply.headers)))


asyncio.run(main(*sys.argv[1:]))
