"""Opens a table that `sferic watch --parquet` wrote, in DuckDB and in pandas; tests/daemon/sinks.rs runs it.

parquet_file.py FILE N    N predictions f0 … of tests/daemon/sinks.rs, and one failure
"""

import json
import struct
import sys

import duckdb
import pandas
import pyarrow.parquet


def main():
    path, count = sys.argv[1], int(sys.argv[2])
    counted = "count(*), count(distinct frame_id), sum(seq), count(distinct source), sum(cache_hit::int)"
    [(rows, ids, seqs, sources, hits)] = duckdb.sql(f"select {counted} from '{path}'").fetchall()
    assert (rows, ids, seqs, sources) == (count + 1, count + 1, count * (count - 1) // 2, 8), (
        rows,
        ids,
        seqs,
        sources,
    )
    assert hits == (count + 1) // 2, hits
    types = dict(
        duckdb.sql(f"select column_name, column_type from (describe select * from '{path}')").fetchall()
    )
    expected = {
        "timestamp": "TIMESTAMP WITH TIME ZONE",
        "seq": "UBIGINT",
        "position_latitude": "DOUBLE",
        "cache_hit": "BOOLEAN",
    }
    assert {name: types[name] for name in expected} == expected, types

    table = pandas.read_parquet(path)
    row = table[table.frame_id == "f12345"].iloc[0]
    assert row.source == f"north.rx{12345 % 7}" and row.position_latitude == 45 + 12345e-6
    assert row.timestamp == pandas.Timestamp("2026-11-28T00:00:12.000345Z"), row.timestamp
    failure = table[table.code.notna()]
    assert len(failure) == 1 and failure.iloc[0].source == '=x,\n"' and failure.iloc[0].retryable
    assert failure.iloc[0].geometry is None

    geo = json.loads(pyarrow.parquet.read_schema(path).metadata[b"geo"])
    assert geo["version"] == "1.1.0" and geo["columns"][geo["primary_column"]]["encoding"] == "WKB"
    order, kind, longitude, latitude = struct.unpack("<BIdd", row.geometry)
    assert (order, kind, longitude, latitude) == (1, 1, row.position_longitude, row.position_latitude)


if __name__ == "__main__":
    main()
