"use strict";
/* A cluster's numbers as figures: its principal components, and the walk that found it against the null. */
balmer.clusterFigures = (() => {
  const { figures } = balmer;

  function pcs(page) {
    const numbers = page.pcs.map((_, i) => i);
    return figures.figure({
      name: `cluster-${page.cluster}-pcs`, title: "Principal components", kind: "low",
      caption: "Mean coordinate of the members on each principal component of the susceptibilities, in standard deviations over all tokens.",
      columns: { pc: numbers, mean: page.pcs },
      describe: (colour) => ({
        traces: [{ type: "bar", x: numbers, y: page.pcs, marker: { color: page.pcs.map((value) => colour(value < 0 ? "express" : "suppress")) }, hovertemplate: "PC %{x}: %{y:+.2f}<extra></extra>" }],
        layout: { showlegend: false, margin: { l: 40, r: 8, t: 6, b: 36 }, bargap: 0.3, xaxis: { title: "principal component", showgrid: false }, yaxis: { title: "", zeroline: true, zerolinecolor: colour("rule-strong") } },
      }),
    });
  }

  function sweep(page, nullGroup, threshold) {
    const title = "Sweep";
    if (!page.sweep) return figures.absent(title, "The graph of the search was not kept in this run.");
    const { size, conductance } = page.sweep;
    const away = nullGroup?.columns ?? { size: [], conductance: [] };
    return figures.figure({
      name: `cluster-${page.cluster}-sweep`, title, kind: "low",
      caption: "Conductance of the members as the walk took them in, most visited first. Crosses: the best sweeps in structureless data. The dotted line is the threshold.",
      columns: { size, conductance },
      describe: (colour) => ({
        traces: [
          { name: "structureless data", x: away.size, y: away.conductance, mode: "markers", marker: { color: colour("grey"), symbol: "x-thin-open", size: 4, opacity: 0.6 }, hovertemplate: "null: %{x} tokens, %{y:.3f}<extra></extra>" },
          { name: "this cluster", x: size, y: conductance, mode: "lines", line: { color: colour("blue"), width: 2 }, hovertemplate: "%{x} tokens: %{y:.3f}<extra></extra>" },
        ],
        layout: {
          showlegend: false, margin: { l: 40, r: 8, t: 6, b: 36 }, xaxis: { title: "tokens", type: "log", dtick: 1 }, yaxis: { title: "", range: [0, 1.03] },
          shapes: threshold === null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: threshold, y1: threshold, line: { color: colour("ink"), width: 1, dash: "dot" } }],
        },
      }),
    });
  }

  return { pcs, sweep };
})();
