"use strict";
/* Loading of data files, making of elements, and the numbers' spelling. Data files call balmer.register. */
const balmer = (() => {
  const arrived = new Map();
  const asked = new Map();
  const KEPT = 12;

  function register(name, value) {
    arrived.set(name, value);
  }

  function addScript(source) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = source;
      script.onload = () => { script.remove(); resolve(); };
      script.onerror = () => {
        script.remove();
        reject(new Error(`${source} could not be read. Copy the whole report folder, not index.html alone.`));
      };
      document.head.append(script);
    });
  }

  /* Series of which a few files are kept: memory stays bounded while a reader walks through thousands of clusters. */
  const PASSING = new Set(["clusters", "members", "contexts", "digest", "targets", "preceding"]);

  function forgetOld(name) {
    const series = name.split("/")[0];
    if (!PASSING.has(series)) return;
    const held = [...asked.keys()].filter((other) => other.startsWith(`${series}/`));
    for (const other of held.slice(0, Math.max(0, held.length - KEPT))) asked.delete(other);
  }

  function load(name) {
    if (!asked.has(name)) {
      const answer = addScript(`data/${name}.js`).then(() => {
        const value = arrived.get(name);
        arrived.delete(name);
        return value;
      });
      answer.catch(() => asked.delete(name));
      asked.set(name, answer);
      forgetOld(name);
    }
    return asked.get(name);
  }

  let library = null;
  function plotly() {
    library ??= addScript("assets/plotly.min.js").then(() => window.Plotly);
    return library;
  }

  const chunkName = (series, index) => `${series}/${String(index).padStart(5, "0")}`;

  /* All chunks of a series, in order. */
  async function loadSeries(series, first) {
    const chunks = await Promise.all(first.map((_, index) => load(chunkName(series, index))));
    return chunks.flat();
  }

  /* The chunk whose keys start at or before the key. */
  function chunkOf(series, first, key) {
    let low = 0;
    let high = first.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (first[middle] <= key) low = middle;
      else high = middle - 1;
    }
    return chunkName(series, low);
  }

  /* All records under one key, which may go on into the next chunks. Every record begins with its key. */
  async function records(series, first, key, keyOf = (record) => record[0]) {
    const found = [];
    let index = Math.max(0, first.findIndex((start) => start >= key) - 1);
    if (first.length && first[first.length - 1] < key) index = first.length - 1;
    for (; index < first.length && first[index] <= key; index++) {
      found.push(...(await load(chunkName(series, index))).filter((record) => keyOf(record) === key));
    }
    return found;
  }

  /* make("td", {class: "n", onclick: f}, "text", node): text always becomes a text node. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return element;
  }

  const MISSING = "not measured";
  const grouped = new Intl.NumberFormat("en");
  const count = (value) => (value === null || value === undefined ? MISSING : grouped.format(value));
  const fixed = (value, digits = 3) => (value === null || value === undefined ? MISSING : value.toFixed(digits).replace("-", "−"));
  const percent = (value, digits = 1) => (value === null || value === undefined ? MISSING : `${(100 * value).toFixed(digits)}%`);
  const signed = (value, digits = 2) => (value === null || value === undefined ? "–" : (value > 0 ? "+" : "") + fixed(value, digits));
  const short = (value) => (value === null || value === undefined ? MISSING : Number(value.toPrecision(2)).toString().replace("-", "−"));

  return { register, load, loadSeries, chunkName, chunkOf, records, plotly, make, count, fixed, percent, signed, short, MISSING };
})();
