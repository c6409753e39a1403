"""OpenAPI document, and interactive documentation that needs no internet.

Swagger UI comes from an installed package: in a hospital there is no content network to load it
from, and the page forbids the browser to try.
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

from apiflask import APIBlueprint, APIFlask
from flask import Response, request, send_from_directory

from halfscan_api.auth import SECURITY_SCHEMES, public
from halfscan_api.errors import PROBLEM_JSON, PROBLEM_SCHEMA

# The package is used as a folder of files; none of its Python code is imported.
ASSETS = Path(str(files("flask_openapi_swagger"))) / "templates" / "swagger"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
DESCRIPTION = """\
Halfscan finds accelerated MR series in a DICOM archive, has them reconstructed and keeps account.

Every route under `/api/v1` needs `Authorization: Bearer TOKEN`; `halfscan token create` makes one.
Errors are `application/problem+json` (RFC 9457). Times are UTC in ISO 8601.
"""

_BODY_ERRORS = {
    "400": "The body is no JSON object",
    "413": "The body is too large",
    "415": "Content-Type is not application/json",
}

blueprint = APIBlueprint("documentation", __name__, enable_openapi=False)


@blueprint.get("/docs/assets/<path:name>")
@public
def asset(name: str) -> Response:
    """Give a file of Swagger UI."""
    return send_from_directory(ASSETS, name, max_age=86400)


def configure_documentation(app: APIFlask) -> None:
    """Describe the API, take Swagger UI from this server, document errors as they are sent."""
    app.config.update(
        # Otherwise the address in the first request that comes in would stay in the document.
        AUTO_SERVERS=False,
        AUTO_OPERATION_ID=True,
        DESCRIPTION=DESCRIPTION,
        LICENSE={
            "name": "AGPL-3.0-or-later",
            "url": "https://www.gnu.org/licenses/agpl-3.0.html",
        },
        SECURITY_SCHEMES=SECURITY_SCHEMES,
        HTTP_ERROR_SCHEMA=PROBLEM_SCHEMA,
        VALIDATION_ERROR_SCHEMA=PROBLEM_SCHEMA,
        # Relative to /docs, so that they hold behind a proxy with a path of its own.
        SWAGGER_UI_CSS="docs/assets/css/swagger-ui.css",
        SWAGGER_UI_BUNDLE_JS="docs/assets/js/swagger-ui-bundle.js",
        SWAGGER_UI_STANDALONE_PRESET_JS="docs/assets/js/swagger-ui-standalone-preset.js",
        SWAGGER_UI_CONFIG={"validatorUrl": None, "displayRequestDuration": True},
        DOCS_FAVICON="data:,",
    )
    app.register_blueprint(blueprint)
    for endpoint in ("openapi.spec", "openapi.docs"):
        public(app.view_functions[endpoint])
    app.spec_processor(_errors_are_problems)
    app.after_request(_protect)


def _protect(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    if request.endpoint == "openapi.docs":
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    elif request.path.startswith("/api/"):
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def _errors_are_problems(specification: Any) -> Any:
    """Give the error answers their media type, which APIFlask documents as plain JSON.

    And name those that any body can get.
    """
    for operations in specification["paths"].values():
        for operation in operations.values():
            answers = operation["responses"]
            for status, answer in answers.items():
                if status[0] in "45" and "application/json" in answer.get("content", {}):
                    content = answer["content"]
                    content[PROBLEM_JSON] = content.pop("application/json")
            if "requestBody" in operation:
                content = answers["422"]["content"]
                for status, text in _BODY_ERRORS.items():
                    answers.setdefault(status, {"description": text, "content": content})
    return specification
