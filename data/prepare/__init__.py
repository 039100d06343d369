"""From any text to token shards: `python -m data.prepare NAME|PATH --tokenizer gpt2 --out FOLDER`.

    settings.py    what can be chosen, and which of it decides the bytes
    source.py      what is read: its size, whether it is one document, a sample to train on
    work.py        a worker's part: one unit of an archive, read, split and encoded
    writer.py      shards, indexes and the record of how far they are
    run.py         the main process: hands units out, writes results in their order

The same bytes come out for any number of workers and any number of interruptions: units do not
depend on each other, results are written in the order of units, and what the record does not count
is written again.
"""
