"""The page at `/`: what the API offers."""

CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>XRec: why was this recommended?</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
dt { font-family: ui-monospace, monospace; margin-top: 1rem; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid; border-radius: .4rem; }
</style>
</head>
<body>
<main>
<h1>Why was this recommended?</h1>
<p>This server explains recommendations. It offers:</p>
<dl>
<dt>POST /v1/explain</dt><dd>why an item suits a user, or a history of items; one or many, or one streamed.</dd>
<dt>GET /v1/recommend/{user_id}?k=10</dt><dd>a user's best items; with <code>explain=true</code> also why.</dd>
<dt>GET /healthz, /readyz, /metrics</dt><dd>whether it lives, whether it works, and its figures for Prometheus.</dd>
<dt><a href="/openapi.json">GET /openapi.json</a></dt><dd>all of this as OpenAPI, with examples.</dd>
</dl>
<pre>curl -s -X POST -H 'Content-Type: application/json' \\
  -d '{"pairs": [{"user_id": "U", "item_id": "I"}]}' http://127.0.0.1:8000/v1/explain</pre>
</main>
</body>
</html>
"""
