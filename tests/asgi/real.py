"""Applications of Starlette and FastAPI, as people write them."""
import asyncio
import contextlib
import os
import threading
import time

from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request, WebSocket, WebSocketDisconnect
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles


def mark(text):
    with open(os.environ["MARK"], "a") as file:
        file.write(text + "\n")


@contextlib.asynccontextmanager
async def lifespan(app):
    mark("startup")
    yield {"database": "connected"}
    mark("shutdown")


async def home(request):
    return PlainTextResponse("%s %s" % (request.url, request.state.database))


async def upload(request):
    size, parts = 0, 0
    async for part in request.stream():
        size, parts = size + len(part), parts + 1
    return JSONResponse({"size": size, "parts": parts > 1})


async def events(request):
    async def stream():
        try:
            for number in range(1000000):
                yield "data: %d\n\n" % number
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            mark("cancelled")
            raise
    return StreamingResponse(stream(), media_type="text/event-stream")


def threaded(request):
    return PlainTextResponse(threading.current_thread().name)


async def background(request):
    return PlainTextResponse("at once", background=BackgroundTask(mark, "background"))


async def file(request):
    return FileResponse(os.environ["MARK"] + ".file", filename="file.bin")


async def broken(request):
    raise ValueError("broken on purpose")


async def chat(websocket):
    await websocket.accept(subprotocol="chat")
    try:
        while True:
            message = await websocket.receive_text()
            await websocket.send_text("you said " + message)
    except WebSocketDisconnect as gone:
        mark("left %s" % gone.code)


class Timing(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        began = time.perf_counter()
        response = await call_next(request)
        response.headers["x-took"] = "%.3f" % (time.perf_counter() - began)
        return response


starlette = Starlette(
    routes=[
        Route("/", home), Route("/upload", upload, methods=["POST"]), Route("/events", events),
        Route("/threaded", threaded), Route("/background", background),
        Route("/file", file), Route("/broken", broken), WebSocketRoute("/chat", chat),
        Mount("/static", StaticFiles(directory=os.path.dirname(os.path.abspath(__file__)))),
    ],
    middleware=[Middleware(Timing)],
    lifespan=lifespan,
)

fastapi = FastAPI(lifespan=lifespan)


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


async def session():
    mark("opened")
    try:
        yield "session"
    finally:
        mark("closed")


@fastapi.get("/items/{number}")
async def read(number: int, q: str | None = None, token: str = Header(default="none")):
    if number == 404:
        raise HTTPException(404, detail="no such item")
    return {"number": number, "q": q, "token": token}


@fastapi.post("/items", status_code=201)
async def create(item: Item, tasks: BackgroundTasks, name: str = Depends(session)):
    tasks.add_task(mark, "created " + item.name)
    return {"item": item, "with": name}


@fastapi.get("/blocking")
def blocking():
    time.sleep(0.2)
    return {"thread": threading.current_thread() is not threading.main_thread()}


@fastapi.get("/waiting")
async def waiting(request: Request):
    """Ends when its client goes."""
    mark("waiting")
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    mark("disconnected")


@fastapi.websocket("/ws/{room}")
async def room(websocket: WebSocket, room: str):
    await websocket.accept()
    try:
        while True:
            data = await websocket.receive_json()
            await websocket.send_json({"room": room, "data": data})
    except WebSocketDisconnect:
        mark("left " + room)


def create_app():
    return fastapi
