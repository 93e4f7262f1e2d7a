"""The HTTP application: its routes and the layers around them."""

from fastapi import FastAPI

from services.gateway.api import commands, keys, models, usage, views
from services.gateway.context import Gateway
from services.gateway.http import system
from services.gateway.http.api_document import install_document
from services.gateway.http.cors import Cors
from services.gateway.http.head import HeadAsGet
from services.gateway.http.instrumentation import Instrumentation
from services.gateway.http.request_guard import RequestGuard
from services.gateway.openai import chat, completions
from services.gateway.openai import models as openai_models
from services.gateway.openai.errors import install_error_handlers


def create_app(
    gateway: Gateway, max_body_bytes: int, allowed_origins: tuple[str, ...] = ()
) -> FastAPI:
    """Instrumentation is outermost: even a refusal of the guard has a request id and is counted."""
    app = FastAPI(title="HydraServe", version="1", redirect_slashes=False)
    app.state.gateway = gateway
    for module in (
        *(chat, completions, openai_models, commands, models, keys, usage, views, system),
    ):
        app.include_router(module.router)
    install_document(app)
    install_error_handlers(app)
    app.add_middleware(
        RequestGuard,
        authenticator=gateway.authenticator,
        tenant_limits=gateway.tenant_limits,
        body_pace=gateway.body_pace,
        max_body_bytes=max_body_bytes,
    )
    app.add_middleware(HeadAsGet)
    app.add_middleware(Cors, allowed_origins=allowed_origins)
    app.add_middleware(Instrumentation, metrics=gateway.metrics)
    return app
