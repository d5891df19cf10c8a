"""Addresses as people write them: `host:port`, with an IPv6 address in brackets."""

from lockstep.base.errors import ConfigurationError


def parse_address(text: str) -> tuple[str, int]:
    """(host, port); raises `ConfigurationError`."""
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigurationError(f"{text!r} is not an address: write host:port, or [host]:port for IPv6")
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """The text of an address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
