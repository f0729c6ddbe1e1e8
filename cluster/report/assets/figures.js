"use strict";
/* Figures: drawn by Plotly in the page's own colours, each to be saved as PNG and as CSV. */
balmer.figures = (() => {
  const { make } = balmer;
  const drawn = new Set();

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

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
      make("button", { type: "button", class: "quiet", onclick: () => balmer.save.csv(`${name}.csv`, columns), "aria-label": `Save the numbers of ${title} as CSV` }, "CSV"));
    const heading = make("div", { class: "figure-head" }, make("h3", {}, title), tools);
    drawn.add(one);
    requestAnimationFrame(() => setTimeout(() => draw(one), 30)); /* after the words are on the screen */
    return make("figure", {}, heading, plot, make("figcaption", {}, caption));
  }

  const absent = (title, why) => make("figure", { class: "absent" }, make("div", { class: "figure-head" }, make("h3", {}, title)), make("p", {}, why));

  const watchers = new Set(); /* drawings of other kinds that follow the theme */

  function redraw() {
    for (const watcher of watchers) watcher();
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

  /* Left of the map are heads, right of it what a block has beside them: rows are blocks, columns what they have in common. */
  const COLUMNS = { mlp: "MLP", embed: "MLP", unembed: "MLP", attn: "attention", layer: "block" };

  function place({ names, kinds, layers }, i) {
    const row = layers[i] === null ? (kinds[i] in COLUMNS ? kinds[i] : "other") : String(layers[i]);
    const within = names[i].replaceAll(new RegExp(`\\bl${layers[i]}(?=[a-z])`, "g"), "").split(`.${layers[i]}.`).pop();
    return [row, COLUMNS[kinds[i]] ?? within];
  }

  function grid(components, profile) {
    const { names, kinds } = components;
    const layers = [...new Set(components.layers.filter((layer) => layer !== null))].sort((a, b) => a - b);
    const places = names.map((_, i) => place(components, i));
    const present = (row) => places.some((where) => where[0] === row) ? [row] : [];
    const rows = [...present("embed"), ...layers.map(String), ...present("unembed"), ...present("other")];
    const heads = [...new Set(components.heads.filter((head) => head !== null))].sort((a, b) => a - b).map(String);
    const columns = [...new Set(places.filter((_, i) => kinds[i] !== "head").map((where) => where[1]))];
    const empty = (across) => rows.map(() => across.map(() => null));
    const head = { z: empty(heads), text: empty(heads) };
    const block = { z: empty(columns), text: empty(columns) };
    names.forEach((name, i) => {
      const [row, column] = places[i];
      const [side, at] = kinds[i] === "head" ? [head, heads.indexOf(String(components.heads[i]))] : [block, columns.indexOf(column)];
      side.z[rows.indexOf(row)][at] = profile[i];
      side.text[rows.indexOf(row)][at] = name;
    });
    return { rows, heads, head, columns, block };
  }

  function heatMap(components, profile, name) {
    const { rows, heads, head, columns, block } = grid(components, profile);
    const split = Math.min(0.8, Math.max(0.02, heads.length / (heads.length + columns.length)));
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
        traces: [trace(head, heads, { showscale: false }), trace(block, columns, { xaxis: "x2" })],
        layout: {
          showlegend: false, margin: { l: 60, r: 8, t: 6, b: 40 },
          xaxis: { domain: [0, split], title: "head", type: "category", showline: false, ticks: "", showgrid: false },
          xaxis2: { domain: [split + 0.03, 1], type: "category", showline: false, ticks: "", showgrid: false },
          yaxis: { title: "layer", type: "category", showline: false, ticks: "", showgrid: false },
        },
      }),
    });
  }

  return { figure, absent, redraw, onRedraw: (one) => watchers.add(one), offRedraw: (one) => watchers.delete(one), clear, heatMap, colour };
})();
