"""Sections of the page that are there only where somebody looked: the audit, the grounding of claims, the judges."""

AUDIT = """{% import "macros" as draw %}
<h2>The audit: does the text depend on the graph?</h2>
<div class="card">
{% for one in audit.verdicts %}
<p class="q"><b>{{ one.question }}</b><span>{{ one.text }}</span></p>
{% endfor %}
</div>
<div class="columns">
<div>
<h3>What the embeddings are worth</h3>
<div class="card">{{ draw.bars(audit.bits, "bits an explanation that the true embeddings are worth") }}</div>
<p class="note">Bits an explanation (log-likelihood of the reference) by which the true embeddings are ahead of what
stands at the
bar; whiskers: 95&nbsp;% bootstrap over {{ audit.rows }} pairs. "The average of others" is what the embedding says;
"others'" also
counts what a wrong one costs.</p>
</div>
<div>
<h3>Along the answer</h3>
<div class="card">{{ draw.curve(audit.dilution, "bits a token by its place in the answer") }}</div>
<p class="note">Bits a token of the reference gains from the true embeddings (over others'), by its place in the text: where a
template speaks, none.</p>
</div>
</div>
{% if audit.ablations %}
<h3>Which part of the injection carries it</h3>
<div class="card">{{ draw.bars(audit.ablations, "bits lost when a part of the injection is silent") }}</div>
<p class="note">Bits an explanation lost when a part is silent at test. With all layers silent, the adapted vector
still stands in
the marker's token embedding.</p>
{% endif %}
{% if audit.changes.rows %}
<h3>How the text changes</h3>
{{ draw.grid(audit.changes) }}
<p class="note">{{ audit.change_count }} pairs, explained under the true embeddings and under others. Alike: ROUGE-L
between the two
texts.</p>
{% endif %}
{% if audit.histories.rows %}
<h3>One entry of a history less</h3>
{{ draw.grid(audit.histories) }}
<p class="note">Bits an explanation lost when the user's (item's) embedding is made from its history without one
entry: the one that
carries most of the score, or any.</p>
{% endif %}
{% if audit.gates.rows %}
<h3>Which experts speak</h3>
{{ draw.grid(audit.gates) }}
<p class="note">Mean weight of each expert over the pairs, in per cent; in small print: the 5th to 95th percentile.
Equal weights
everywhere mean that the gate tells nothing apart.</p>
{% endif %}
{% if audit.map %}
<h3>The items' embeddings</h3>
<div class="columns">
<div class="card map">
<svg role="img" aria-label="map of the items' embeddings" viewBox="0 0 100 100">
{% for point in audit.map.points %}
<circle class="g{{ point.group }}" cx="{{ point.x }}" cy="{{ point.y }}" r="0.9"><title>{{ point.name }}</title></circle>
{% endfor %}
</svg>
</div>
<ul class="notes note">
{% for cluster in audit.map.clusters %}
<li><span class="key k{{ cluster.group }}"></span>{{ cluster.size }} items: {{ cluster.words|join(", ") }}</li>
{% endfor %}
</ul>
</div>
<p class="note">A map (t-SNE) of {{ audit.map.points|length }} items; colours are clusters (k-means on the
embeddings), named by words
that their titles and profiles have more often than others.</p>
{% endif %}
"""

GROUNDING = """<h2>Are the claims grounded?</h2>
<div class="card">
{% if grounding.skipped is defined %}
<p>Not looked at: {{ grounding.skipped }}.</p>
{% else %}
{% set own = grounding.model %}
{% if own.precision %}
<p><b>{{ "%.1f"|format(100 * own.precision.value) }} %</b> of a text's claims are supported by the item's texts
({{ "%.1f"|format(100 * own.precision.low) }} to {{ "%.1f"|format(100 * own.precision.high) }})
{%- if own.precision.floor %}; against another pair's texts {{ "%.1f"|format(100 * own.precision.floor.value) }} %{% endif %}
{%- if grounding.reference.precision %}; of the references' claims
{{ "%.1f"|format(100 * grounding.reference.precision.value) }} %{% endif %}.</p>
{% else %}
<p>No claim could be judged: there is nothing to look them up in.</p>
{% endif %}
{% if own.contradicted %}
<p>{{ "%.1f"|format(100 * own.contradicted.value) }} % are contradicted.</p>
{% endif %}
<p class="soft">{{ own.claims }} claims in {{ own.rows }} texts, {{ own.rows_without_claims }} of them without a claim.
{% for name, count in own.verdicts.items() %}{{ name }}: {{ count }}{{ ", " if not loop.last else "." }}{% endfor %}</p>
{% for label, found in (("Words", own.unfounded_words), ("Names", own.unfounded_names)) %}
{% if found %}
<p class="soft">{{ label }} found nowhere: {% for one in found[:20] %}{{ one.text }} ({{ one.rows }})
{{- ", " if not loop.last }}{% endfor %}.</p>
{% endif %}
{% endfor %}
{% endif %}
</div>
<p class="note">Precision rises with copying: read it beside its floor and between systems on the same rows.</p>
"""

JUDGES = """{% import "macros" as draw %}
<h2>What judges say</h2>
{% for judge in judges.each %}
<h3>{{ judge.name }}</h3>
<p>{{ judge.verdict }}</p>
{{ draw.grid(judge.table) }}
{% for line in judge.notes %}<p class="note">{{ line }}</p>{% endfor %}
{% endfor %}
{% if judges.agreement %}
<h3>Agreement between judges</h3>
<ul class="notes note">{% for line in judges.agreement %}<li>{{ line }}</li>{% endfor %}</ul>
{% endif %}
"""
