"""Routes of what a served model knows: itself, its users, its items."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from .answering import Answering
from .guards import SafeJSONResponse
from .problems import PROBLEMS
from .schemas import MAX_FOUND, MAX_ID, About, Items, UserHistory, Users

Text = Annotated[str, Query(max_length=MAX_ID, description="a part of it, whatever its case; none finds all")]
Limit = Annotated[int, Query(ge=1, le=MAX_FOUND, description="how many to give at most")]


def catalogue_routes(answering: Answering) -> APIRouter:
    """Routes `/v1/about`, `/v1/users`, `/v1/items` and `/v1/users/{user_id}`.

    Args:
        answering: what answers.
    """
    routes = APIRouter(prefix="/v1", responses=PROBLEMS)

    @routes.get("/about", response_model=About)
    async def about() -> Response:
        """Say what is served: the model, and how much it knows."""
        return SafeJSONResponse(answering.model.about())

    @routes.get("/users", response_model=Users)
    async def users(query: Text = "", limit: Limit = 20) -> Response:
        """Find users by a part of their id; those that start with it come first."""
        return SafeJSONResponse(await answering.look_up(lambda model: model.catalogue.users(query, limit)))

    @routes.get("/items", response_model=Items)
    async def items(query: Text = "", limit: Limit = 20) -> Response:
        """Find items by a part of their title or id; those that start with it come first."""
        return SafeJSONResponse(await answering.look_up(lambda model: model.catalogue.items(query, limit)))

    @routes.get("/users/{user_id:path}", response_model=UserHistory)
    async def user(user_id: Annotated[str, Path(min_length=1, max_length=MAX_ID, examples=["u00000"])]) -> Response:
        """Give the items of a user's training interactions, the latest first; none where the server has no data."""
        found: dict[str, Any] = await answering.look_up(lambda model: model.history(user_id))
        return SafeJSONResponse(found)

    return routes
