"""SFTP, through asyncssh: the only package that knows it."""
