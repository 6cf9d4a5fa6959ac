"""Bytes in a bucket of an S3 store: AWS, Ceph, MinIO, OpenStack Swift (s3api) and others."""

from pyvospace.storage.backends.s3.backend import S3Backend

__all__ = ["S3Backend"]
