"use strict";
/* The first page: what was found, the run, the figures. */
balmer.overview = (() => {
  const { make, count, fixed, percent, short, MISSING } = balmer;

  const HELP = {
    accuracy: "Correlation (Pearson) between predicted and measured susceptibility on held-out documents, by principal component, with intervals. The ceiling is what the noise of the measurement allows across independent draws; the ridge regression reads the same activations.",
    cka: "Linear CKA between the activations of each layer and the ground truth, the prediction, and a control with rows permuted. Where the prediction stands clearly above the truth, part of its structure is that of the activations.",
    jaccard: "Share of nearest neighbours in common (Jaccard) between the activations of each layer and the ground truth, the prediction, and a control with rows permuted.",
  };

  function key(name, value, note) {
    return make("div", { class: "key" }, make("dt", {}, name), make("dd", {}, value), make("dd", { class: "note" }, note));
  }

  // The calibration cannot tell smaller expectations apart (headline.py says the same).
  const FEWEST = 0.001;
  const fewOf = (value) => (value !== null && value < FEWEST ? `< ${FEWEST}` : short(value));

  const LEAKAGE = { visible: "visible", "not visible": "not visible", missing: MISSING, untested: "no verdict" };

  function keys(data) {
    const { clusters, accuracy, support, leakage, components } = data;
    const ceiling = accuracy?.of_ceiling ? `${percent(accuracy.of_ceiling, 0)} of the ceiling` : "ceiling not measured";
    return make("dl", { class: "keys" },
      key("Clusters", count(clusters.count), `${percent(clusters.clustered_share)} of tokens clustered`),
      key("Expected false", fewOf(clusters.expected_false), "clusters, by the null"),
      key("Accuracy", fixed(accuracy?.pearson), ceiling),
      key("Leakage", LEAKAGE[leakage.status], leakage.of.length ? `of ${leakage.of.join(", ")}` : leakage.status === "not visible" ? "prediction against truth" : ""),
      key("Supported", percent(support.share, 0), `${count(support.supported)} of ${count(support.tested)} tested`),
      key("Chains excluded", count(components?.excluded_chains), components ? `of ${count(components.names.length)} components` : ""));
  }

  /* 1.7·10¹⁶, 5.0·10⁻⁶ */
  function power(value) {
    const [digits, exponent] = value.toExponential(1).split("e");
    return `${digits}·10${[...exponent.replace("+", "")].map((one) => (one === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[one])).join("")}`;
  }

  function spent({ sampling, probing, operations }) {
    const whole = sampling + probing;
    return `${power(whole)} forward passes of a token, ${percent(sampling / whole, 0)} of them for the draws; ${power(whole * operations)} operations`;
  }

  function facts({ run, components, clusters, accuracy }) {
    const kinds = components ? Object.entries(components.by_kind).map(([kind, number]) => `${number} ${kind}`).join(", ") : null;
    const draws = components ? [...new Set(components.draws)].map(count).join(" to ") : null;
    const range = (values, spell) => `${spell(values[0])} to ${spell(values[2])}, median ${spell(values[1])}`;
    const rows = [
      ["Model", run.model], ["Corpus", run.corpus],
      ["Documents", count(run.documents)],
      ["Tokens", `${count(run.tokens)} in contexts of ${count(run.context_tokens)}`],
      ...Object.entries(run.tokens_by_split).map(([split, number]) => [`  ${split}`, count(number)]),
      ["Clustered rows", count(run.clustered_rows)],
      ["Components", kinds], ["Draws a component", draws], ["Compute of the ground truth", run.compute ? spent(run.compute) : null],
      ["Reliability", components && components.reliability[1] !== null ? range(components.reliability, (value) => fixed(value, 2)) : MISSING],
      ["Layers read", run.layers ? run.layers.join(", ") : null],
      ["Principal components", accuracy ? count(accuracy.pcs) : null],
      ["Cluster sizes", clusters.count ? range(clusters.sizes, count) : "none"],
      ["Conductances", clusters.count ? range(clusters.conductances, (value) => fixed(value)) : "none"],
      ["Threshold", fixed(clusters.max_conductance)],
      ["Graph", `k ${clusters.k ?? "?"}, recall ${clusters.recall === null ? MISSING : fixed(clusters.recall)}`],
      ["Walk", `α ${clusters.alpha ?? "?"}, ε ${clusters.epsilon ? power(clusters.epsilon) : "?"}`],
    ];
    return make("dl", { class: "facts" }, ...rows.flatMap(([name, value]) =>
      [make("dt", { class: name.startsWith(" ") ? "inner" : null }, name.trim()), make("dd", {}, String(value ?? "not recorded"))]));
  }

  const spread = (middle, low, high) => ({
    type: "data", symmetric: false, thickness: 1.2, width: 0,
    array: middle.map((value, i) => (high[i] === null ? null : high[i] - value)),
    arrayminus: middle.map((value, i) => (low[i] === null ? null : value - low[i])),
  });

  function accuracyFigure(table) {
    const title = "Accuracy by principal component";
    if (!table) return balmer.figures.absent(title, "Not measured in this run.");
    return balmer.figures.figure({
      name: "accuracy", title, caption: HELP.accuracy, columns: table,
      describe: (colour) => ({
        traces: [
          { name: "ceiling", x: table.pc, y: table.ceiling, mode: "lines", line: { color: colour("ink-soft"), width: 1.4, dash: "dash" } },
          { name: "auxiliary model", x: table.pc, y: table.pearson, mode: "markers", marker: { color: colour("blue"), size: 7 }, error_y: { ...spread(table.pearson, table.pearson_low, table.pearson_high), color: colour("blue") } },
          { name: "ridge", x: table.pc, y: table.ridge_pearson, mode: "markers", marker: { color: colour("orange"), size: 7, symbol: "diamond-open", line: { width: 1.6 } } },
          { name: "model, shared draws", x: table.pc, y: table.pearson_shared, mode: "markers", visible: "legendonly", marker: { color: colour("green"), size: 6, symbol: "x-thin", line: { width: 1.6, color: colour("green") } } },
        ],
        layout: { xaxis: { title: "principal component", range: [Math.min(...table.pc) - 0.6, Math.max(...table.pc) + 0.6] }, yaxis: { title: "Pearson correlation", range: [Math.min(0, ...table.pearson, ...table.ridge_pearson) - 0.02, 1.02] } },
      }),
    });
  }

  function explainedFigure(table) {
    const title = "Explained variance";
    if (!table) return balmer.figures.absent(title, "Not measured in this run.");
    let sum = 0;
    const cumulative = table.explained.map((value) => (sum += value ?? 0));
    return balmer.figures.figure({
      name: "explained", title, caption: "Share of the variance of the standardised susceptibilities on each principal component, and the sum up to it.",
      columns: { pc: table.pc, explained: table.explained, cumulative },
      describe: (colour) => ({
        traces: [
          { name: "each", type: "bar", x: table.pc, y: table.explained, marker: { color: colour("blue") } },
          { name: "sum", x: table.pc, y: cumulative, mode: "lines", line: { color: colour("ink-soft"), width: 1.4, dash: "dash" } },
        ],
        layout: { bargap: 0.3, xaxis: { title: "principal component" }, yaxis: { title: "share of variance", range: [0, 1.02] } },
      }),
    });
  }

  function chainsFigure(table) {
    const title = "Chains by component";
    if (!table?.rhat || !table.ess) return balmer.figures.absent(title, "Not recorded in this run.");
    const type = Math.max(...table.ess) > 20 * Math.min(...table.ess) ? "log" : "linear";
    return balmer.figures.figure({
      name: "chains", title, caption: "R-hat (1 where chains agree) against effective sample size, one dot for each component. Name and reliability on pointing.",
      columns: table,
      describe: (colour) => ({
        traces: [{ name: "component", x: table.ess, y: table.rhat, mode: "markers", marker: { color: colour("blue"), size: 7, opacity: 0.75 }, text: table.component, customdata: table.reliability ?? [], hovertemplate: "%{text}<br>ESS %{x:.1f}, R-hat %{y:.3f}<br>reliability %{customdata:.2f}<extra></extra>" }],
        layout: { showlegend: false, xaxis: { title: "effective sample size", type, rangemode: "tozero" }, yaxis: { title: "R-hat" } },
      }),
    });
  }

  function leakageFigure(table, metric, title) {
    const at = table ? table.metric.flatMap((name, i) => (name === metric ? [i] : [])) : [];
    if (!at.length) return balmer.figures.absent(title, "Not measured in this run.");
    const columns = Object.fromEntries(Object.entries(table).map(([name, values]) => [name, at.map((i) => values[i])]));
    const series = (versus, colour, name, symbol, shift) => {
      const own = at.filter((i) => table.versus[i] === versus);
      const pick = (column) => own.map((i) => table[column][i]);
      return {
        name, x: pick("layer").map((layer) => layer + shift), y: pick("value"), mode: "lines+markers", customdata: pick("layer"),
        line: { color: colour, width: 1.4 }, marker: { color: colour, size: 7, symbol },
        error_y: { ...spread(pick("value"), pick("low"), pick("high")), color: colour },
        hovertemplate: "layer %{customdata}: %{y:.3f}<extra>%{fullData.name}</extra>",
      };
    };
    const layers = [...new Set(columns.layer)].sort((a, b) => a - b);
    const step = layers.length > 1 ? (layers[layers.length - 1] - layers[0]) / (layers.length - 1) : 1;
    return balmer.figures.figure({
      name: `leakage-${metric}`, title, caption: HELP[metric], columns,
      describe: (colour) => ({
        traces: [
          series("truth", colour("ink"), "ground truth", "circle", -0.04 * step),
          series("prediction", colour("blue"), "prediction", "square", 0.04 * step),
          series("permuted", colour("grey"), "permuted control", "x-thin-open", 0),
        ],
        layout: { xaxis: { title: "layer", tickvals: layers.length <= 16 ? layers : undefined }, yaxis: { title: metric === "cka" ? "linear CKA" : "Jaccard", rangemode: "tozero" } },
      }),
    });
  }

  function sweepFigure(data, threshold) {
    const groups = [["null", data.null], ["rejected", data.rejected], ["cluster", data.clusters]].filter(([, group]) => group);
    const columns = { group: [], cluster: [], size: [], conductance: [] };
    for (const [name, group] of groups) {
      const { size, conductance, cluster } = group.columns;
      size.forEach((value, i) => { columns.group.push(name); columns.cluster.push(cluster ? cluster[i] : null); columns.size.push(value); columns.conductance.push(conductance[i]); });
    }
    const shown = groups.filter(([, group]) => group.of > group.columns.size.length).map(([name, group]) => `${count(group.columns.size.length)} of ${count(group.of)} (${name})`);
    const thinned = shown.length ? ` Drawn here: ${shown.join(", ")}.` : "";
    const style = {
      null: ["structureless data", "grey", "x-thin-open", 6], rejected: ["not accepted", "orange", "circle-open", 5], cluster: ["clusters", "blue", "circle", 5],
    };
    return balmer.figures.figure({
      name: "sweeps", title: "Clusters against the null",
      caption: `Size and conductance of every cluster, of the best sweeps that were not accepted, and of the best sweeps in structureless data of the same size. A cluster counts only below the threshold. Click a cluster to open it.${thinned}`,
      columns, open: (point) => { if (point.data.name === "clusters") location.hash = `#cluster-${point.customdata}`; },
      describe: (colour) => ({
        traces: groups.map(([name, group]) => {
          const [words, paint, symbol, size] = style[name];
          return {
            name: words, x: group.columns.size, y: group.columns.conductance, customdata: group.columns.cluster, mode: "markers", type: "scatter",
            marker: { color: colour(paint), symbol, size, opacity: name === "cluster" ? 0.7 : 0.85, line: { width: 1, color: colour(paint) } },
            hovertemplate: name === "cluster" ? "cluster %{customdata}<br>%{x} tokens, conductance %{y:.3f}<extra></extra>" : `${words}: %{x} tokens, conductance %{y:.3f}<extra></extra>`,
          };
        }),
        layout: {
          xaxis: { title: "size (tokens)", type: "log", dtick: 1, minor: { ticks: "outside", ticklen: 2 } }, yaxis: { title: "conductance", range: [0, 1.02] },
          shapes: threshold === null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: threshold, y1: threshold, line: { color: colour("ink"), width: 1, dash: "dot" } }],
          annotations: threshold === null ? [] : [{ xref: "paper", x: 1, xanchor: "right", y: threshold, yanchor: "bottom", showarrow: false, text: `threshold ${threshold}`, font: { size: 11, color: colour("ink") } }],
        },
      }),
    });
  }

  function starters(rows) {
    if (!rows.length) return make("p", { class: "soft" }, "No cluster was found.");
    return make("table", { class: "plain starters" },
      make("thead", {}, make("tr", {}, ...["Cluster", "Tokens it gathers", "Size", "Conductance"].map((name, i) => make("th", { scope: "col", class: i > 1 ? "n" : null }, name)))),
      make("tbody", {}, ...rows.map(([cluster, size, conductance, , , targets, preceding, sources, others]) => make("tr", {},
        make("td", {}, make("a", { href: `#cluster-${cluster}` }, String(cluster))),
        make("td", {}, balmer.text.label({ targets, preceding, sources, others })),
        make("td", { class: "n" }, count(size)), make("td", { class: "n" }, fixed(conductance))))));
  }

  async function show(main, data) {
    balmer.text.know(data.words);
    const controls = await balmer.load("controls");
    main.replaceChildren(
      make("h1", {}, data.run.model ? `Clusters of ${data.run.model}` : "Clusters of a language model"),
      keys(data),
      make("div", { class: "columns" },
        make("div", {},
          make("section", { "aria-labelledby": "found" }, make("h2", { id: "found" }, "What was found"),
            make("dl", { class: "findings" }, ...data.findings.flatMap(([topic, sentence]) => [make("dt", {}, topic), make("dd", {}, sentence)]))),
          make("section", { "aria-labelledby": "begin" }, make("h2", { id: "begin" }, "Where to begin"),
            make("p", { class: "soft" }, "The tightest clusters, one for each leading token."), starters(data.starters))),
        make("section", { "aria-labelledby": "run" }, make("h2", { id: "run" }, "The run"), facts(data))),
      balmer.controls.section(controls),
      make("section", { "aria-labelledby": "figures" }, make("h2", { id: "figures" }, "Figures"), make("div", { class: "figures" })));
    const figures = await balmer.load("figures");
    main.querySelector(".figures")?.append(
      sweepFigure(figures, data.clusters.max_conductance), accuracyFigure(figures.accuracy),
      leakageFigure(figures.leakage, "cka", "Leakage by layer: CKA"), leakageFigure(figures.leakage, "jaccard", "Leakage by layer: neighbours"),
      explainedFigure(figures.accuracy), chainsFigure(figures.chains));
  }

  return { show };
})();
