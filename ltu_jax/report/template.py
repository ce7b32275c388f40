"""The template of `report.html`: styles and sections.

The content security policy forbids the browser to load anything from outside the file.
"""

from string import Template

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
:root {
  color-scheme: light dark;
  --page: #f6f7f8; --card: #fff; --ink: #1b1f24; --soft: #59626d; --line: #dde1e6;
  --accent: #0072b2; --inside: #00795a; --outside: #b34700; --mark: #eef6fb;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1d2125; --ink: #e7eaed; --soft: #a3acb6; --line: #353b42;
    --accent: #6cbcec; --inside: #4fcba3; --outside: #ff9a57; --mark: #1d2f3a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  overflow-wrap: break-word;
}
main { max-width: 1120px; margin: 0 auto; padding: 2.5rem 1.25rem 3rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: .2rem 0 1.25rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2.75rem 0 .75rem; }
h3 { font-size: 1rem; line-height: 1.3; margin: 1.75rem 0 .5rem; }
a { color: var(--accent); }
p, ul, dl { margin: 0 0 .75rem; }
.kicker, .soft, figcaption { color: var(--soft); font-size: .875rem; }
.kicker { margin: 0; }
.prose { max-width: 46rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.summary { padding: 1.25rem 1.5rem; margin: 0; display: grid; gap: .9rem 1.5rem;
  grid-template-columns: 7rem minmax(0, 1fr); border-left: 5px solid var(--accent); }
.summary.inside { border-left-color: var(--inside); }
.summary.outside { border-left-color: var(--outside); }
.summary dt { color: var(--soft); font-weight: 600; }
.summary dd { margin: 0; max-width: 52rem; overflow-wrap: anywhere; }
.kicker, h1, pre { overflow-wrap: anywhere; }
.summary dd p { margin: 0 0 .4rem; }
.summary dd p:last-child, .summary dd ul { margin: 0; }
.summary dd ul { padding-left: 1.1rem; }
.finding { font-weight: 650; }
dd.inside .finding { color: var(--inside); }
dd.outside .finding { color: var(--outside); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: 1rem;
  margin: 1rem 0 0; padding: 0; list-style: none; }
.tiles li { padding: .9rem 1.1rem; }
.tiles b { display: block; font-size: 1.7rem; line-height: 1.25; font-weight: 650;
  font-variant-numeric: tabular-nums; }
.tiles small { font-size: .875rem; font-weight: 400; color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; width: 100%;
  font-variant-numeric: tabular-nums; }
th, td { padding: .55rem .8rem; text-align: right; vertical-align: top;
  border-top: 1px solid var(--line); }
thead th { font-size: .875rem; color: var(--soft); border-top: 0; vertical-align: bottom;
  line-height: 1.3; }
th:first-child { text-align: left; padding-left: 1rem; }
.results th:first-child { position: sticky; left: 0; background: var(--card); }
.results th, .results td { padding-left: .5rem; padding-right: .7rem; }
.results th:first-child, .attacks th:first-child { padding-left: 1rem; }
thead th small { white-space: normal; }
.attacks td, .attackers td { min-width: 9rem; }
.attackers td:nth-child(4), .attackers td:nth-child(5) { min-width: 6rem; }
.attacks td:last-child { min-width: 16rem; }
td small, th small, .tiles small { display: block; color: var(--soft); font-weight: 400;
  font-size: .8125rem; line-height: 1.4; }
tr.method > * { background: var(--mark); }
.results tr.method th:first-child { background: var(--mark); }
tr.method th, tr.method td { font-weight: 650; }
.left td, .left th { text-align: left; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(25rem, 100%), 1fr));
  gap: 1rem; }
figure { margin: 0; padding: 1rem; max-width: 42rem; }
figure img { display: block; width: 100%; height: auto; background: #fff; border-radius: 6px; }
figcaption { padding-top: .7rem; line-height: 1.45; }
.pairs { margin-top: 1rem; columns: 21rem; column-gap: 1rem; }
.pairs > div { padding: 1rem 1.25rem; margin-bottom: 1rem; break-inside: avoid; }
.pairs h3 { font-size: 1rem; margin: 0 0 .5rem; }
.pairs dl { display: grid; gap: .15rem 1rem;
  grid-template-columns: minmax(0, 5fr) minmax(0, 6fr);
  margin: 0; font-size: .875rem; }
.pairs dt { color: var(--soft); overflow-wrap: anywhere; }
.pairs dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
pre { margin: 0; padding: .9rem 1.1rem; white-space: pre-wrap; overflow-wrap: anywhere;
  font: .875rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
li { margin-bottom: .35rem; }
@media (max-width: 640px) {
  main { padding: 1.5rem .9rem 2rem; }
  h1 { font-size: 1.4rem; }
  .summary { grid-template-columns: minmax(0, 1fr); gap: .15rem; padding: 1rem 1.1rem; }
  .summary dd { margin-bottom: .8rem; }
  .tiles { grid-template-columns: 1fr 1fr; gap: .6rem; }
  .tiles b { font-size: 1.35rem; }
  .tiles li { margin: 0; padding: .7rem .8rem; }
  th, td { padding: .5rem .6rem; }
  figure { padding: .6rem; }
}
@media print {
  :root { color-scheme: light; --page: #fff; --card: #fff; --ink: #000; --soft: #444;
    --line: #bbb; --accent: #0072b2; --inside: #00644b; --outside: #9a3d00; --mark: #eef6fb; }
  body { font-size: 10.5pt; print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  .tiles { grid-template-columns: repeat(4, 1fr); }
  .tiles b { font-size: 1.2rem; }
  .figures { grid-template-columns: 1fr 1fr; }
  .scroll { overflow: visible; }
  th, td { padding: .3rem .4rem; }
  .results { font-size: .7rem; }
  .results small, .results thead th { font-size: .65rem; overflow-wrap: anywhere; }
  .results th, .results td { padding-left: .15rem; padding-right: .2rem; }
  h1 { font-size: 1.35rem; margin-bottom: .7rem; }
  .first, .answers { break-after: page; }
  .answers .summary { gap: .4rem 1rem; padding: .7rem 1rem; font-size: 9.25pt; line-height: 1.33; }
  .answers table { font-size: 8.5pt; line-height: 1.3; }
  .attackers td { min-width: 0; }
  .first .summary { gap: .5rem 1rem; padding: .7rem 1rem; font-size: 9.25pt; line-height: 1.33; }
  .first li, .first dd p { margin-bottom: .2rem; }
  h2, h3 { break-after: avoid; }
  figure, tr, .tiles, .pairs > div { break-inside: avoid; }
}
</style>
</head>
<body>
<main>
<p class="kicker">Unlearning report. $record</p>
<section class="first" aria-labelledby="title">
<h1 id="title">$title</h1>
<dl class="card summary $worst">
<dt>Request</dt><dd>$request</dd>
$warnings
<dt>Actions</dt><dd>$actions</dd>
$origins
<dt>You can claim</dt><dd class="$level">$claims</dd>
$headline
<dt>You cannot claim</dt><dd><ul>$limits</ul></dd>
<dt>Confidence</dt><dd>$confidence</dd>
$identity
<dt>Terms</dt><dd>$terms</dd>
</dl>
<ul class="tiles">$tiles</ul>
</section>

$answers

<h2>Results</h2>
<p class="soft">$units</p>
<div class="card scroll" role="region" aria-label="Results" tabindex="0">$results</div>

<h2>How to read the table</h2>
<div class="prose">$reading</div>

$audit

<h2>Figures</h2>
<div class="figures">$figures</div>

<h2>Data of the attacks</h2>
<div class="card scroll left" role="region" aria-label="Attacks" tabindex="0">$attacks</div>

<h2>How to repeat this run</h2>
<p class="soft">$reproduction</p>
<pre class="card">$command</pre>
<div class="pairs">$details</div>
</main>
</body>
</html>
""")
