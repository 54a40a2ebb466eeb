"""Structured fuzzers: files that are nearly right, of each format that a stranger may hand over.

A kind (`kinds.py`) makes case SEED from that number alone: a sound file with one or a few changes of its structure, as
protocol buffer, JSON, .zip, TOML or instructions, or of its bytes. `worker.py` reads and runs it, in a process of its
own with little memory; `campaign.py` starts workers, and counts what they find. What must hold: one line of refusal, or
a right result; no other exception, no death, no hang, no gigabyte.
"""
