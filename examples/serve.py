"""A web service that recommends: `FLR_BUNDLE=bundle uvicorn examples.serve:app`, then POST {"items": ["item1"]}.

Needs the extras `cpu` (or `gpu`) and `serve`.
"""

import os
from functools import lru_cache
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

import flr

app = FastAPI(title="Recommendations")


class Question(BaseModel):
    """A user's history, oldest first, and what is wanted."""

    items: list[str] = Field(min_length=1, max_length=1000)
    k: int = Field(10, ge=1, le=100)
    because: bool = False
    exclude: list[str] = []


@lru_cache
def bundle() -> flr.Recommender:
    """Open the bundle once."""
    return flr.load(os.environ["FLR_BUNDLE"])


@app.post("/recommend")
def recommend(asked: Question) -> list[dict[str, Any]]:
    """Recommend items for a history; items of it that are not known do not count."""
    try:
        recs = bundle().recommend(asked.items, k=asked.k, because=asked.because, exclude=asked.exclude, unknown="drop")
    except flr.DataError as error:
        raise HTTPException(422, str(error)) from None
    return recs.to_dict("records")
