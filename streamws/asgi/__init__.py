"""ASGI: `asgi.uvicorn` serves WebSockets under uvicorn. It is imported only when it is used."""
