"""Uploads that come in more than one request: the parts, what is made of them, and the protocols that bring them."""
