"""The report's style sheet: readable in light and dark, on a phone and on paper."""

STYLE = """:root {
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

.q b { display: block; }
details { margin: 0 0 10px; } summary { cursor: pointer; font-weight: 550; padding: 8px 0; }
summary:focus-visible { outline: 2px solid var(--model); outline-offset: 2px; border-radius: 4px; }
h3 { font-size: 1rem; margin: 22px 0 8px; }
svg .line { stroke: var(--model); stroke-width: 2; } svg .point { fill: var(--model); }
svg .g0 { fill: #4e79a7; } svg .g1 { fill: #f28e2b; } svg .g2 { fill: #59a14f; } svg .g3 { fill: #e15759; }
svg .g4 { fill: #9c755f; } svg .g5 { fill: #b07aa1; } svg .g6 { fill: #76b7b2; } svg .g7 { fill: #b8a037; }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 6px; }
.k0 { background: #4e79a7; } .k1 { background: #f28e2b; } .k2 { background: #59a14f; } .k3 { background: #e15759; }
.k4 { background: #9c755f; } .k5 { background: #b07aa1; } .k6 { background: #76b7b2; } .k7 { background: #b8a037; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 16px; }
.map { max-width: 560px; } .map svg { aspect-ratio: 1; height: auto; }
.claim { margin: 0 0 6px; } .claim .soft { display: block; }
.claim b { font-weight: 550; } .claim.supported b { color: var(--ceiling); }
.claim.contradicted b, .claim.unsupported b { color: var(--condition); }
"""
