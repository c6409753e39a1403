"""How an archive is asked over HTTP: what the API and the worker share of it; httpx alone."""
