"""The pages of `report.py` as Jinja templates: one file in the end, no script, nothing loaded from elsewhere."""

from .report_sections import AUDIT, GROUNDING, JUDGES

MACROS = """{% macro bars(chart, label) %}
<svg role="img" aria-label="{{ label }}" height="{{ chart.height }}">
{% for tick in chart.ticks %}
<line class="grid" x1="{{ tick.x }}%" x2="{{ tick.x }}%" y1="4" y2="{{ chart.height - 22 }}"/>
<text class="faint" x="{{ tick.x }}%" y="{{ chart.height - 4 }}" text-anchor="{{ tick.anchor }}">{{ tick.label }}</text>
{% endfor %}
<line class="base" x1="{{ chart.zero }}%" x2="{{ chart.zero }}%" y1="4" y2="{{ chart.height - 22 }}"/>
{% for bar in chart.bars %}
<text x="0" dx="6" y="{{ bar.y }}">{{ bar.name }} <tspan class="faint">{{ bar.label }}</tspan></text>
<rect class="bar fill-{{ bar.kind }}" x="{{ bar.x }}%" width="{{ bar.width }}%" y="{{ bar.y + 7 }}" height="14" rx="2"/>
{% if bar.low is not none and bar.low != bar.high %}
<line class="whisker" x1="{{ bar.low }}%" x2="{{ bar.high }}%" y1="{{ bar.y + 14 }}" y2="{{ bar.y + 14 }}"/>
<line class="whisker" x1="{{ bar.low }}%" x2="{{ bar.low }}%" y1="{{ bar.y + 10 }}" y2="{{ bar.y + 18 }}"/>
<line class="whisker" x1="{{ bar.high }}%" x2="{{ bar.high }}%" y1="{{ bar.y + 10 }}" y2="{{ bar.y + 18 }}"/>
{% endif %}
{% endfor %}
</svg>
{% endmacro %}
{% macro curve(chart, label) %}
<svg role="img" aria-label="{{ label }}" height="{{ chart.height }}">
{% for tick in chart.ticks %}
<line class="grid" x1="0%" x2="100%" y1="{{ tick.y }}" y2="{{ tick.y }}"/>
<text class="faint" x="0" y="{{ tick.y - 3 }}">{{ tick.label }}</text>
{% endfor %}
<line class="base" x1="0%" x2="100%" y1="{{ chart.zero }}" y2="{{ chart.zero }}"/>
{% for line in chart.lines %}
<line class="line" x1="{{ line.x1 }}%" x2="{{ line.x2 }}%" y1="{{ line.y1 }}" y2="{{ line.y2 }}"/>
{% endfor %}
{% for point in chart.points %}
{% if point.low is not none %}
<line class="whisker" x1="{{ point.x }}%" x2="{{ point.x }}%" y1="{{ point.low }}" y2="{{ point.high }}"/>
{% endif %}
<circle class="point" cx="{{ point.x }}%" cy="{{ point.y }}" r="4"/>
<text class="faint" x="{{ point.x }}%" y="{{ chart.height - 4 }}" text-anchor="middle">{{ point.label }}</text>
{% endfor %}
</svg>
{% endmacro %}
{% macro grid(table) %}
<div class="card scroll" tabindex="0">
<table>
<thead><tr>
<th scope="col">{{ table.first|default("System") }}</th>
{% for column in table.columns %}<th scope="col">{{ column }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for row in table.rows %}
<tr class="{{ row.kind }}"><th scope="row"><span class="dot"></span>{{ row.name }}</th>
{% for cell in row.cells %}
<td>{{ cell.value }}{% if cell.range %}<span class="range">{{ cell.range }}</span>{% endif %}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
"""

SCORES = """{% import "macros" as draw %}
<h2>{{ scores.headline.label }} beside the floors</h2>
<div class="card">{{ draw.bars(scores.plot, scores.headline.label ~ " of each system") }}</div>
<p class="note">{{ scores.headline.label }}: {{ scores.headline.meaning }}. {{ scores.interval_note }}</p>

<h2>All figures</h2>
{% for table in scores.tables %}
<details{% if loop.index <= 2 %} open{% endif %}>
<summary>{{ table.name }}</summary>
{{ draw.grid(table) }}
</details>
{% endfor %}
<p class="note">Shares are in per cent; BLEU runs from 0 to 100. In small print: the {{ scores.level }} interval. An arrow says
which way is better. On a narrow screen the tables scroll sideways.</p>
<ul class="notes note">
{% for line in scores.notes %}<li>{{ line }}</li>{% endfor %}
</ul>
"""

EXAMPLES = """<h2>Examples</h2>
<p class="note">{{ scores.examples_note }}</p>
{% for example in scores.examples %}
<article class="card example">
<header>
<h3>{{ example.title }}{% if example.ids %} <span class="soft">{{ example.ids }}</span>{% endif %}</h3>
<span class="soft">{{ scores.headline.label }} {{ example.score }}</span>
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
{% if example.claims %}
<dt>Claims</dt><dd>
{% for claim in example.claims %}
<p class="claim {{ claim.verdict }}"><b>{{ claim.verdict }}:</b> {{ claim.claim }}
{% if claim.evidence %}<span class="soft">{{ claim.source|replace("_", " ") }}: {{ claim.evidence }}</span>{% endif %}</p>
{% endfor %}
</dd>
{% endif %}
{% if example.unfounded %}
<dt>Found nowhere</dt><dd>{{ example.unfounded|join(", ") }}</dd>
{% endif %}
</dl>
</article>
{% endfor %}
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}</title>
<style>
{{ style|safe }}</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
<p class="soft">{{ facts }}</p>
<div class="verdict">{% for sentence in verdict %}<p>{{ sentence }}</p>{% endfor %}</div>
{% if scores is not none %}{% include "scores" %}{% endif %}
{% if audit is not none %}{% include "audit" %}{% endif %}
{% if grounding is not none %}{% include "grounding" %}{% endif %}
{% if judges is not none %}{% include "judges" %}{% endif %}
{% if scores is not none %}{% include "examples" %}{% endif %}
</main>
</body>
</html>
"""

TEMPLATES = {
    "page": PAGE,
    "macros": MACROS,
    "scores": SCORES,
    "examples": EXAMPLES,
    "audit": AUDIT,
    "grounding": GROUNDING,
    "judges": JUDGES,
}
