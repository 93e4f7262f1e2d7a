"""The HTTP application: its routes and the layers around them."""

from fastapi import FastAPI

from services.gateway.api import keys, models, views
from services.gateway.context import Gateway
from services.gateway.http import system
from services.gateway.http.cors import Cors
from services.gateway.http.head import Head
from services.gateway.http.instrumentation import Observing
from services.gateway.http.request_guard import Door
from services.gateway.openai import chat
from services.gateway.openai import models as openai_models
from services.gateway.openai.errors import install_error_handlers


def create_app(
    gateway: Gateway, max_body_bytes: int, allowed_origins: tuple[str, ...] = ()
) -> FastAPI:
    """Observing is outermost: even a refusal at the door has a request id and is counted."""
    app = FastAPI(title="HydraServe", version="1", redirect_slashes=False)
    app.state.gateway = gateway
    for module in (chat, openai_models, models, keys, views, system):
        app.include_router(module.router)
    install_error_handlers(app)
    app.add_middleware(Door, authenticator=gateway.authenticator, max_body_bytes=max_body_bytes)
    app.add_middleware(Head)
    app.add_middleware(Cors, allowed_origins=allowed_origins)
    app.add_middleware(Observing, metrics=gateway.metrics)
    return app
