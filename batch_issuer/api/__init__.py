"""One request → one `Reply`. The only folder that knows aiohttp's client."""
