"""FastAPI and SQLAlchemy (async) with a commit per request: a durable message as the products store it, without
streams.

Unlike the products, it authenticates nobody, reads no session and inserts one row. `DATABASE_URL` names the PostgreSQL.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import DateTime, Index
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=16, max_overflow=0)
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class Event(Base):
    __tablename__ = "events"
    __table_args__ = (Index("events_room", "room_id", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    room_id: Mapped[str]
    type: Mapped[str]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    text: Mapped[str]


class Message(BaseModel):
    text: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/readyz")
async def ready() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/rooms/{room_id}/messages")
async def send(room_id: str, message: Message) -> dict[str, object]:
    event = Event(room_id=room_id, type="chat_message", at=datetime.now(UTC), text=message.text)
    async with sessions() as session:
        session.add(event)
        await session.commit()
    return {"seq": event.id, "type": event.type, "at": event.at, "text": event.text}
