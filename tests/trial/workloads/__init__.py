"""Workloads for tests only. With this directory's parent on PYTHONPATH, they are found beside the product's."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
