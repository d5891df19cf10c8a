"""What crosses a wire or reaches a disk: canonical encodings, checked on arrival.

Decoding then encoding gives the same bytes, or the message is refused. Numbers in fixed records are
little-endian. Every signature covers a domain string first, so that no signed thing can be taken for another.
"""
