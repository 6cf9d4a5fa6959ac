"""The storage service: bytes in, bytes out, and the plugins that keep them."""
