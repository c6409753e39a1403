"""Cross-origin requests: viewers in a browser, from the origins that a setting names.

A browser asks first (preflight) whether a page of another origin may call. The answer follows the
Fetch standard; credentials are bearer tokens that the page sends itself, never cookies.
"""

from apiflask import APIFlask
from flask import Response, request

METHODS = "GET, HEAD, POST, PUT, OPTIONS"
SENT = "Accept, Authorization, Content-Type, Idempotency-Key, If-Match, Last-Event-ID"
SEEN = "Content-Type, ETag, Location, Retry-After, Warning, WWW-Authenticate, X-Request-ID"
MAX_AGE_S = 600


def allow_origins(app: APIFlask, origins: frozenset[str]) -> None:
    """Let pages of these origins call the API; without an origin nothing changes."""
    if not origins:
        return

    def answer(response: Response) -> Response:
        response.vary.add("Origin")
        origin = request.headers.get("Origin")
        if origin not in origins:
            return response
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = SEEN
        # For a viewer whose page asks for isolation (Cross-Origin-Embedder-Policy).
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = METHODS
            response.headers["Access-Control-Allow-Headers"] = SENT
            response.headers["Access-Control-Max-Age"] = str(MAX_AGE_S)
        return response

    app.after_request(answer)
