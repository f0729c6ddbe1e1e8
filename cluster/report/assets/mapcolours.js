"use strict";
/* What the colours of the map mean: for each choice, a colour of every cluster and a legend. */
balmer.mapColours = (() => {
  const { catalogue } = balmer;
  const { AT } = catalogue;
  /* Told apart by the colour-blind (after Tol and Okabe and Ito), on light and on dark paper. */
  const LIGHT = ["#3367b0", "#d0731f", "#2f8a6b", "#b23a56", "#7d5bb5", "#a8891c", "#3f9ec2", "#8a5a3c", "#c76ba6", "#5f7f2e"];
  const DARK = ["#6c9fe8", "#f0a050", "#5fc3a0", "#ea7f95", "#b79af0", "#d9bd57", "#74cbe8", "#c99877", "#ec9fd0", "#a3c465"];
  const RAMP = { light: ["#c9d7e6", "#7ea3cc", "#2f62a3", "#0d2748"], dark: ["#2b3a4d", "#3f6ea6", "#7fb2ec", "#e4f0ff"] };

  const dark = () => getComputedStyle(document.documentElement).colorScheme.startsWith("dark");
  const palette = () => (dark() ? DARK : LIGHT);

  function between(a, b, share) {
    const part = (at) => Math.round(parseInt(a.slice(at, at + 2), 16) * (1 - share) + parseInt(b.slice(at, at + 2), 16) * share).toString(16).padStart(2, "0");
    return `#${part(1)}${part(3)}${part(5)}`;
  }

  function ramp(share) {
    const stops = RAMP[dark() ? "dark" : "light"];
    const at = Math.min(0.9999, Math.max(0, share)) * (stops.length - 1);
    return between(stops[Math.floor(at)], stops[Math.floor(at) + 1], at % 1);
  }

  /* The most frequent values in the palette's colours, all others grey. */
  function kinds(value, spell, rest) {
    const own = palette();
    const known = catalogue.common(value, own.length).map(([name, number], i) => ({ name, number, colour: own[i] }));
    const colours = new Map(known.map(({ name, colour }) => [name, colour]));
    const grey = balmer.figures.colour("grey");
    const shown = known.reduce((sum, { number }) => sum + number, 0);
    const legend = known.map(({ name, number, colour }) => ({ colour, text: spell(name), note: balmer.count(number) }));
    const left = catalogue.all().length - shown;
    if (left > 0) legend.push({ colour: grey, text: rest, note: balmer.count(left) });
    return { of: (row) => colours.get(value(row)) ?? grey, legend };
  }

  function scale(value, spell, logarithmic) {
    const values = catalogue.all().map(value).filter((one) => one !== null).sort((a, b) => a - b);
    const turned = (one) => (logarithmic ? Math.log(Math.max(one, 1e-12)) : one);
    const [low, high] = [turned(values[0] ?? 0), turned(values[values.length - 1] ?? 1)];
    const share = (one) => (high > low ? (turned(one) - low) / (high - low) : 0.5);
    const ticks = [0, 0.25, 0.5, 0.75, 1].map((at) => low + at * (high - low)).map((one) => (logarithmic ? Math.exp(one) : one));
    return { of: (row) => (value(row) === null ? balmer.figures.colour("grey") : ramp(share(value(row)))), legend: ticks.map((one) => ({ colour: ramp(share(one)), text: spell(one), note: "" })) };
  }

  /* Regions take turns with the palette: their labels tell them apart. */
  function regions() {
    const own = palette();
    return { of: (row) => own[row[AT.region] % own.length], legend: [] };
  }

  function support() {
    const own = { supported: palette()[2], "not supported": palette()[1], "not tested": balmer.figures.colour("grey") };
    const kind = (row) => (row[AT.p] === null ? "not tested" : catalogue.supported(row) ? "supported" : "not supported");
    const counts = new Map(catalogue.common(kind, 3));
    return { of: (row) => own[kind(row)], legend: Object.entries(own).map(([text, colour]) => ({ colour, text, note: balmer.count(counts.get(text) ?? 0) })) };
  }

  const CHOICES = {
    region: ["region", regions],
    size: ["size", () => scale((row) => row[AT.size], (one) => balmer.count(Math.round(one)), true)],
    conductance: ["conductance", () => scale((row) => row[AT.conductance], (one) => balmer.fixed(one, 2), false)],
    support: ["support", support],
    stability: ["stability", () => scale((row) => row[AT.stability], (one) => balmer.fixed(one, 2), false)],
    component: ["dominant component", () => kinds(catalogue.componentName, (name) => name, "others")],
    layer: ["dominant layer", () => kinds(catalogue.layerOf, (layer) => (typeof layer === "number" ? `layer ${layer}` : layer), "others")],
    source: ["leading source", () => kinds((row) => row[AT.source], (name) => name, "other sources")],
    detection: ["label score", () => scale((row) => row[AT.detection], (one) => balmer.fixed(one, 2), false)],
  };

  return { CHOICES, colours: (name) => CHOICES[name][1]() };
})();
