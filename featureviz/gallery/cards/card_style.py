"""The CSS of a gate's page, in addition to that of all pages."""

STYLE = """
nav{font-size:13.5px;color:var(--soft);margin-bottom:14px}
h1.gate{font:600 clamp(19px,2.6vw,28px)/1.25 ui-monospace,SFMono-Regular,Menlo,monospace;
overflow-wrap:anywhere;letter-spacing:-.01em}
.part{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:clamp(16px,2.2vw,26px);
margin-top:clamp(14px,2vw,22px)}
.part h3{font-size:18px;line-height:1.3;letter-spacing:-.01em;margin:0 0 4px}
.part>p,.why{max-width:72ch;color:var(--soft);font-size:14.5px;margin:0 0 14px}
.why strong{color:var(--ink);font-weight:600}
h4{font-size:14px;margin:0 0 8px}
h4.open{color:var(--open)}h4.shut{color:var(--shut)}
.two{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:clamp(16px,2.6vw,32px)}
.top{display:grid;grid-template-columns:minmax(0,9fr) minmax(0,11fr);gap:clamp(14px,2vw,22px)}
.top .part{margin-top:clamp(14px,2vw,22px)}
.tiles{display:grid;gap:12px 10px;grid-template-columns:repeat(auto-fill,minmax(min(44%,118px),1fr))}
.pair.corners{grid-template-columns:repeat(2,minmax(0,1fr));gap:16px 12px}
.yes{color:var(--ink)}.no{color:var(--shut);font-weight:600}
.dist{font-size:13.5px;font-variant-numeric:tabular-nums}
.dist>div{display:grid;grid-template-columns:84px minmax(0,1fr) 52px 36px;gap:0 12px;align-items:center}
.dist svg{margin:0}
.dist .n{text-align:right;white-space:nowrap}.dist .n.both{grid-column:span 2}
.dist .head{color:var(--soft);font-size:12.5px}
.dist b{font-weight:600;white-space:nowrap}
svg.row{height:22px}
svg.bars{align-self:end}
svg.axis .value{fill:var(--soft);opacity:.85}
svg.axis text{fill:var(--ink)}
.said{margin:14px 0 0;padding:0;list-style:none;font-size:14.5px;max-width:72ch}
.said li{margin-top:6px;padding-left:14px;border-left:3px solid var(--band)}
.said li.open{border-color:var(--open)}.said li.shut{border-color:var(--shut)}
.plot{display:flex;flex-direction:column}
svg.scatter{flex:1;min-height:330px;border:1px solid var(--line);border-radius:9px;margin:0;overflow:hidden}
svg.scatter text{font-size:12px;fill:var(--ink);paint-order:stroke;stroke:var(--card);stroke-width:4px;
stroke-linejoin:round}
.axes{display:flex;justify-content:space-between;font-size:12.5px;color:var(--soft);margin:6px 0 0}
table{border-collapse:collapse;font-size:14.5px;font-variant-numeric:tabular-nums;width:100%;max-width:760px}
th,td{text-align:right;padding:7px 0 7px 14px;border-top:1px solid var(--line);font-weight:400}
thead th{border:0;color:var(--soft);font-size:13px;vertical-align:bottom}
th:first-child{text-align:left;padding-left:0}
@media(max-width:860px){.two,.top{grid-template-columns:minmax(0,1fr)}.top{gap:0}}
@media(max-width:560px){.dist>div{grid-template-columns:minmax(0,1fr) 52px 36px;margin-top:4px}
.dist .line{grid-column:1/-1;grid-row:2}}
"""
