"""Which request goes where: the routes of the API, as API Gateway names them. Pure."""

from __future__ import annotations

from decoupled.core.problem import Problem


def route(method: str, path: str) -> tuple[str, dict[str, str]]:
    """The route key and the path parameters, as API Gateway gives them. Raises Problem 404 or 405."""
    if path == "/health":
        return _allowed(method, "GET", "GET /health"), {}
    parts = path.split("/")[1:]
    if all(parts):
        if len(parts) == 1:
            return _allowed(method, "POST", "POST /{workload}"), {"workload": parts[0]}
        if len(parts) == 2:
            return _allowed(method, "GET", "GET /{workload}/{id}"), {"workload": parts[0], "id": parts[1]}
        if len(parts) == 3:
            path_parameters = {"workload": parts[0], "collection": parts[1], "key": parts[2]}
            return _allowed(method, "GET", "GET /{workload}/{collection}/{key}"), path_parameters
    raise Problem(404, "There is nothing here. POST /{workload} sends; GET /{workload}/{id} asks what became of it.")


def _allowed(method: str, wanted: str, key: str) -> str:
    if method == wanted or (method == "HEAD" and wanted == "GET"):  # the connection leaves out the body for HEAD
        return key
    allow = "GET, HEAD" if wanted == "GET" else wanted
    raise Problem(405, f"This takes {wanted}, not {method[:20]}.", headers={"allow": allow})
