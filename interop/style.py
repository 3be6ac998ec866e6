"""The report's style sheet."""

STYLE = """
:root { color-scheme: light dark; --text: #1c2430; --dim: #5b6675; --page: #f6f7f9;
  --card: #ffffff; --line: #dfe3e8; --passed: #1a7f45; --passed-back: #dcf3e4;
  --failed: #b3261e; --failed-back: #fbe1df; --unsupported: #5b6675; --unsupported-back: #eceff2;
  --missing: #8a6100; --missing-back: #fdf0cf; --bar: #3867d6; --bar2: #8aa4e8; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ee; --dim: #98a2b1; --page: #12161c;
  --card: #1a2029; --line: #2c3440; --passed: #6fd99a; --passed-back: #153524;
  --failed: #ff9d95; --failed-back: #47201d; --unsupported: #98a2b1; --unsupported-back: #252c36;
  --missing: #f0c766; --missing-back: #3d3012; --bar: #6f95f5; --bar2: #40599c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 78rem; padding: 2.5rem 1.25rem; background: var(--page);
  color: var(--text); font: 15px/1.55 system-ui, sans-serif; }
h1 { margin: 0 0 .5rem; font-size: 1.9rem; letter-spacing: -.02em; }
h2 { margin: 0 0 .75rem; font-size: 1.15rem; }
header p { max-width: 44rem; color: var(--dim); margin: 0 0 1.25rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.25rem; margin: 1.25rem 0; }
section p { color: var(--dim); margin: 0 0 .9rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; }
.tile { border-radius: 8px; padding: .45rem .9rem; }
.tile b { font-size: 1.15rem; margin-right: .25rem; }
.passed { color: var(--passed); background: var(--passed-back); }
.failed { color: var(--failed); background: var(--failed-back); }
.unsupported { color: var(--unsupported); background: var(--unsupported-back); }
.missing { color: var(--missing); background: var(--missing-back); }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 3px; font-variant-numeric: tabular-nums; }
th { font-weight: 600; text-align: left; white-space: nowrap; }
thead th { color: var(--dim); font-size: .82rem; font-weight: 500; }
.matrix thead th { text-align: center; } .matrix thead th:first-child { text-align: left; }
.matrix tbody th { padding-right: 1rem; }
.matrix td { width: 2.3rem; min-width: 2.3rem; height: 2.1rem; text-align: center;
  border-radius: 5px; font-weight: 700; padding: 0; }
.matrix td a { display: block; line-height: 2.1rem; color: inherit; text-decoration: none; }
.matrix td a:hover, .matrix td a:focus-visible { outline: 2px solid currentColor;
  border-radius: 5px; }
.matrix abbr { text-decoration: none; cursor: help; }
.list { border-spacing: 0; width: 100%; }
.list td, .list th { padding: .35rem .7rem; border-top: 1px solid var(--line);
  vertical-align: top; }
.list thead th { border-top: 0; }
.list td a { color: inherit; }
details { border-top: 1px solid var(--line); } summary { cursor: pointer; padding: .45rem 0;
  font-weight: 600; } details table { margin-bottom: .75rem; }
tr:target td { box-shadow: inset 0 -2px currentColor; }
.links a { margin-right: .6rem; white-space: nowrap; }
.detail { color: var(--dim); }
.read { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.list .read { position: static; width: auto; height: auto; clip-path: none; margin-left: .4rem; }
svg { width: 100%; max-width: 52rem; height: auto; display: block; }
svg text { fill: var(--text); font-size: 13px; }
svg .axis { text-anchor: middle; fill: var(--dim); font-size: 12px; }
svg .name { text-anchor: end; } svg .grid { stroke: var(--line); }
rect.goodput, .key.goodput { fill: var(--bar); background: var(--bar); }
rect.crosstraffic, .key.crosstraffic { fill: var(--bar2); background: var(--bar2); }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: 0; }
dt { font-weight: 600; } dd { margin: 0; color: var(--dim); overflow-wrap: anywhere; }
footer { color: var(--dim); font-size: .85rem; }
"""
