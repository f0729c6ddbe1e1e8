"use strict";
/* Figures: drawn by Plotly in the page's own colours, each to be saved as PNG and as CSV. */
balmer.figures = (() => {
  const { make } = balmer;
  const drawn = new Set();

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  /* A spreadsheet would run a cell that starts like a formula: text is kept text by an apostrophe. */
  function cell(value) {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function csv(columns) {
    const names = Object.keys(columns);
    const rows = names.length ? columns[names[0]].map((_, i) => names.map((name) => cell(columns[name][i])).join(",")) : [];
    return [names.map(cell).join(","), ...rows].join("\r\n") + "\r\n";
  }

  function save(name, text) {
    const link = make("a", { download: name, href: URL.createObjectURL(new Blob([text], { type: "text/csv" })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function axis(extra = {}) {
    return {
      gridcolor: colour("rule"), linecolor: colour("rule-strong"), zeroline: false, ticks: "outside", ticklen: 4,
      tickcolor: colour("rule-strong"), showline: true, automargin: true, ...extra,
      title: { text: extra.title ?? "", standoff: 8, font: { size: 12 } },
    };
  }

  function layout(extra = {}) {
    const axes = Object.fromEntries(Object.entries(extra).map(([key, value]) => [key, /^[xy]axis/.test(key) ? axis(value) : value]));
    return {
      paper_bgcolor: colour("paper"), plot_bgcolor: colour("paper"), hovermode: "closest",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink-soft") },
      margin: { l: 52, r: 12, t: 12, b: 44 }, showlegend: true,
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
      hoverlabel: { bgcolor: colour("paper"), bordercolor: colour("rule-strong"), font: { color: colour("ink"), size: 12 } },
      ...axes,
    };
  }

  async function draw(one) {
    const Plotly = await balmer.plotly();
    if (!one.plot.isConnected) return;
    const { traces, layout: wanted } = one.describe(colour);
    const options = {
      responsive: true, displaylogo: false, modeBarButtons: [["toImage", "resetScale2d"]],
      toImageButtonOptions: { format: "png", scale: 2, filename: one.name },
    };
    await Plotly.react(one.plot, traces, layout(wanted), options);
    one.plot.removeAttribute("data-waiting");
    if (one.open && !one.bound) one.plot.on("plotly_click", (event) => one.open(event.points[0]));
    one.bound = true;
  }

  async function saveImage(one) {
    const Plotly = await balmer.plotly();
    await Plotly.downloadImage(one.plot, { format: "png", scale: 2, filename: one.name, width: one.plot.clientWidth, height: one.plot.clientHeight });
  }

  /* A figure; `columns` are its numbers, `describe(colour)` gives traces and layout, `open` answers a click on a point. */
  function figure({ name, title, caption, columns, describe, open = null, kind = "" }) {
    const plot = make("div", { class: `plot ${kind}`, role: "img", "aria-label": `${title}. ${caption}`, "data-waiting": "drawing…" });
    const one = { name, plot, describe, open, bound: false };
    const tools = make("span", { class: "tools" },
      make("button", { type: "button", class: "quiet", onclick: () => saveImage(one), "aria-label": `Save figure ${title} as PNG` }, "PNG"),
      make("button", { type: "button", class: "quiet", onclick: () => save(`${name}.csv`, csv(columns)), "aria-label": `Save the numbers of ${title} as CSV` }, "CSV"));
    const heading = make("div", { class: "figure-head" }, make("h3", {}, title), tools);
    drawn.add(one);
    requestAnimationFrame(() => setTimeout(() => draw(one), 30)); /* after the words are on the screen */
    return make("figure", {}, heading, plot, make("figcaption", {}, caption));
  }

  const absent = (title, why) => make("figure", { class: "absent" }, make("div", { class: "figure-head" }, make("h3", {}, title)), make("p", {}, why));

  function redraw() {
    for (const one of drawn) {
      if (one.plot.isConnected) draw(one);
      else drawn.delete(one);
    }
  }

  async function clear() {
    if (drawn.size === 0) return;
    const Plotly = await balmer.plotly();
    for (const one of drawn) if (!one.plot.isConnected) { Plotly.purge(one.plot); drawn.delete(one); }
  }

  /* Expression (negative) and suppression (positive) in blue and orange, which the colour-blind tell apart. */
  const diverging = () => [[0, colour("express")], [0.5, colour("level")], [1, colour("suppress")]];

  function grid(components, profile) {
    const layers = [...new Set(components.layers.filter((layer) => layer !== null))].sort((a, b) => a - b);
    const rows = [...components.kinds.includes("embed") ? ["embed"] : [], ...layers.map(String), ...components.kinds.includes("unembed") ? ["unembed"] : []];
    const heads = [...new Set(components.heads.filter((head) => head !== null))].sort((a, b) => a - b).map(String);
    const empty = (columns) => rows.map(() => columns.map(() => null));
    const head = { z: empty(heads), text: empty(heads) };
    const block = { z: empty(["mlp"]), text: empty(["mlp"]) };
    components.names.forEach((name, i) => {
      const row = rows.indexOf(components.layers[i] === null ? components.kinds[i] : String(components.layers[i]));
      const [side, column] = components.heads[i] === null ? [block, 0] : [head, heads.indexOf(String(components.heads[i]))];
      side.z[row][column] = profile[i];
      side.text[row][column] = name;
    });
    return { rows, heads, head, block };
  }

  function heatMap(components, profile, name) {
    const { rows, heads, head, block } = grid(components, profile);
    const limit = Math.max(...profile.map((value) => Math.abs(value ?? 0)), 0.1);
    const labelled = components.names.length <= 60;
    const trace = (side, x, at) => ({
      type: "heatmap", x, y: rows, z: side.z, text: side.text, zmin: -limit, zmax: limit, xgap: 1, ygap: 1, ...at,
      colorscale: diverging(), hoverongaps: false, hovertemplate: "%{text}: %{z:+.2f}<extra></extra>",
      texttemplate: labelled ? "%{z:.1f}" : "", textfont: { size: 10 },
      colorbar: { thickness: 8, len: 0.9, outlinewidth: 0, x: 1.01, tickfont: { size: 11 } },
    });
    return figure({
      name, title: "Components", kind: rows.length > 14 ? "tall" : "map",
      caption: "Mean standardised susceptibility of the cluster's tokens. Blue, negative: the component helps these tokens more than average (expression). Orange, positive: less (suppression).",
      columns: { component: components.names, mean_standardised_susceptibility: profile },
      describe: () => ({
        traces: [trace(head, heads, { showscale: false }), trace(block, ["MLP"], { xaxis: "x2" })],
        layout: {
          showlegend: false, margin: { l: 60, r: 8, t: 6, b: 40 },
          xaxis: { domain: [0, 0.8], title: "head", type: "category", showline: false, ticks: "", showgrid: false },
          xaxis2: { domain: [0.83, 1], type: "category", showline: false, ticks: "", showgrid: false },
          yaxis: { title: "layer", type: "category", showline: false, ticks: "", showgrid: false },
        },
      }),
    });
  }

  return { figure, absent, redraw, clear, heatMap, colour };
})();
