"""Makes the Parquet files beside it (pyarrow 26.0.1): python make_parquet.py FOLDER"""
import sys

import pyarrow as pa
import pyarrow.parquet as pq


def write(name, rows, **options):
    pq.write_table(pa.Table.from_pylist(rows), f"{sys.argv[1]}/{name}.parquet", **options)


texts = [{"id": i, "text": f"The {i}th hen sat on the pen, and the pen was old. Ünïcode — {i}"} for i in range(40)]
write("texts", texts, compression="snappy", row_group_size=16)
pairs = [{"prompt": f"Who sat {i}?", "response": f"Hen {i}."} for i in range(10)]
write("pairs", pairs, compression="zstd")
chat = [
    {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": f"Hello {i}"},
            {"role": "user", "content": "Bye"},
            {"role": "assistant", "content": "So long"},
        ]
    }
    for i in range(3)
]
write("chat", chat, compression="gzip")
write("other", [{"words": "x"}])
