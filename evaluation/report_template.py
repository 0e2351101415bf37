"""The page of `report.py` as a Jinja template: one file, no script, nothing loaded from elsewhere."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}</title>
<style>
:root {
  --page: #fbfaf8; --card: #ffffff; --ink: #1d2126; --soft: #5d6570; --line: #e2dfd9;
  --model: #0b6e99; --floor: #9a9488; --condition: #b4532a; --ceiling: #3f7d4e; --tint: #e8f2f6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15181c; --card: #1d2126; --ink: #e8e6e1; --soft: #a3a9b2; --line: #343a42;
    --model: #5bb8df; --floor: #8d8a83; --condition: #e58f63; --ceiling: #7fc08f; --tint: #1b3440;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
}
main { max-width: 1200px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 1.15rem; margin: 40px 0 10px; }
p { margin: 0 0 10px; }
.soft, caption, .note { color: var(--soft); font-size: 0.875rem; }
.verdict {
  background: var(--tint); border-left: 4px solid var(--model); border-radius: 6px;
  padding: 14px 18px; margin: 20px 0 0; font-size: 1.08rem;
}
.verdict p:last-child { margin-bottom: 0; }
.verdict p + p { font-size: 0.95rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 18px; }
.scroll { overflow-x: auto; padding: 0; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 0.9rem; }
table { font-variant-numeric: tabular-nums; }
th, td { padding: 8px 10px; text-align: right; white-space: nowrap; }
tbody th, tbody td { border-top: 1px solid var(--line); }
thead th { font-weight: 600; color: var(--soft); font-size: 0.82rem; }
th:first-child {
  text-align: left; position: sticky; left: 0; background: var(--card); white-space: normal; min-width: 118px;
}
tbody th { font-weight: 500; }
tr.model th, tr.model td { font-weight: 650; }
.range { display: block; color: var(--soft); font-size: 0.76rem; font-weight: 400; }
.dot { display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 7px; }
.model .dot { background: var(--model); } .floor .dot { background: var(--floor); }
.condition .dot { background: var(--condition); } .ceiling .dot { background: var(--ceiling); }
svg { display: block; width: 100%; overflow: visible; }
svg text { fill: var(--ink); font-size: 13px; } svg .faint { fill: var(--soft); font-size: 12px; }
svg .grid { stroke: var(--line); } svg .base { stroke: var(--soft); }
svg .bar { opacity: 0.9; } svg .whisker { stroke: var(--ink); stroke-width: 1.5; }
svg .fill-model { fill: var(--model); } svg .fill-floor { fill: var(--floor); }
svg .fill-condition { fill: var(--condition); } svg .fill-ceiling { fill: var(--ceiling); }
.notes { padding-left: 20px; margin: 8px 0 0; } .notes li { margin: 3px 0; overflow-wrap: anywhere; }
.card + .note { margin-top: 10px; }
.example { margin: 0 0 12px; }
.example header { display: flex; flex-wrap: wrap; gap: 2px 14px; justify-content: space-between; margin-bottom: 8px; }
.example h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
.example h3 span { font-weight: 400; margin-left: 6px; }
dl { display: grid; grid-template-columns: 92px 1fr; gap: 6px 14px; margin: 0; }
dt { color: var(--soft); font-size: 0.85rem; padding-top: 2px; } dd { margin: 0; overflow-wrap: anywhere; }
.aspect {
  display: inline-block; border: 1px solid var(--line); border-radius: 999px; padding: 0 10px; margin: 0 4px 4px 0;
  font-size: 0.85rem;
}
.aspect.named { border-color: var(--ceiling); } .aspect.wrong { border-color: var(--condition); }
@media (max-width: 560px) {
  main { padding: 24px 14px 48px; } h1 { font-size: 1.4rem; } .card { padding: 14px; } .scroll { padding: 0; }
  th, td { padding: 8px 9px; } dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 8px; }
}
</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
<p class="soft">{{ facts }}</p>
<div class="verdict">{% for sentence in verdict %}<p>{{ sentence }}</p>{% endfor %}</div>

<h2>{{ headline.label }} beside the floors</h2>
<div class="card">
<svg role="img" aria-label="{{ headline.label }} of each system" height="{{ plot.height }}">
{% for tick in plot.ticks %}
<line class="grid" x1="{{ tick.x }}%" x2="{{ tick.x }}%" y1="4" y2="{{ plot.height - 22 }}"/>
<text class="faint" x="{{ tick.x }}%" y="{{ plot.height - 4 }}" text-anchor="{{ tick.anchor }}">{{ tick.label }}</text>
{% endfor %}
<line class="base" x1="0%" x2="0%" y1="4" y2="{{ plot.height - 22 }}"/>
{% for bar in plot.bars %}
<text x="0" dx="6" y="{{ bar.y }}">{{ bar.name }} <tspan class="faint">{{ bar.label }}</tspan></text>
<rect class="bar fill-{{ bar.kind }}" x="0%" width="{{ bar.width }}%" y="{{ bar.y + 7 }}" height="14" rx="2"/>
{% if bar.low is not none and bar.low != bar.high %}
<line class="whisker" x1="{{ bar.low }}%" x2="{{ bar.high }}%" y1="{{ bar.y + 14 }}" y2="{{ bar.y + 14 }}"/>
<line class="whisker" x1="{{ bar.low }}%" x2="{{ bar.low }}%" y1="{{ bar.y + 10 }}" y2="{{ bar.y + 18 }}"/>
<line class="whisker" x1="{{ bar.high }}%" x2="{{ bar.high }}%" y1="{{ bar.y + 10 }}" y2="{{ bar.y + 18 }}"/>
{% endif %}
{% endfor %}
</svg>
</div>
<p class="note">{{ headline.label }}: {{ headline.meaning }}. {{ interval_note }}</p>

<h2>All figures</h2>
<div class="card scroll" tabindex="0">
<table>
<thead><tr>
<th scope="col">System</th>{% for column in columns %}<th scope="col">{{ column }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for row in table %}
<tr class="{{ row.kind }}"><th scope="row"><span class="dot"></span>{{ row.name }}</th>
{% for cell in row.cells %}
<td>{{ cell.value }}{% if cell.range %}<span class="range">{{ cell.range }}</span>{% endif %}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
<p class="note">Shares are in per cent; BLEU runs from 0 to 100. In small print: the {{ level }} interval.
On a narrow screen the table scrolls sideways.</p>
<ul class="notes note">
{% for line in notes %}<li>{{ line }}</li>{% endfor %}
</ul>

<h2>Examples</h2>
<p class="note">{{ examples_note }}</p>
{% for example in examples %}
<article class="card example">
<header>
<h3>{{ example.title }}{% if example.ids %} <span class="soft">{{ example.ids }}</span>{% endif %}</h3>
<span class="soft">{{ headline.label }} {{ example.score }}</span>
</header>
<dl>
<dt>Prediction</dt><dd>{{ example.prediction or "(empty)" }}</dd>
<dt>Reference</dt><dd>{{ example.reference or "(empty)" }}</dd>
{% if example.aspects is not none %}
<dt>Truth</dt><dd>
{% for aspect in example.aspects %}
<span class="aspect {{ aspect.state }}">{{ aspect.name }}{{ aspect.mark }}</span>
{% else %}(no shared aspect)
{% endfor %}
</dd>
{% endif %}
</dl>
</article>
{% endfor %}
</main>
</body>
</html>
"""
