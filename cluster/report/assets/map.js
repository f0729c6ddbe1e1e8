"use strict";
/* The map: every cluster a point, tokens behind them as dust, names that come as one looks closer. */
balmer.map = (() => {
  const { make, count, catalogue, mapLabels, mapSide } = balmer;
  const { AT } = catalogue;
  const GRID = 1e4;
  const kept = { colour: "region", place: null, chosen: null };
  const frames = [];
  let stop = () => {};

  function points(rows) {
    const [xs, ys, radii] = [0, 1, 2].map(() => new Float32Array(rows.length));
    const crowd = Math.min(2.4, Math.max(0.85, (2500 / Math.max(1, rows.length)) ** 0.22));
    rows.forEach((row, i) => {
      xs[i] = row[AT.x] / GRID;
      ys[i] = row[AT.y] / GRID;
      radii[i] = crowd * (1.1 + 0.75 * Math.log10(Math.max(1, row[AT.size] / 15)));
    });
    return { xs, ys, radii };
  }

  async function show(main, data, wanted) {
    const rows = await catalogue.load(data);
    const [levels, fine] = await Promise.all([balmer.load("levels"), balmer.loadSeries("dust", data.directory.dust)]);
    if (!rows.length) { main.replaceChildren(make("h1", {}, "Map"), make("p", {}, "No cluster was found, so there is nothing to map.")); return {}; }
    const { xs, ys, radii } = points(rows);
    const near = balmer.points.grid(xs, ys);
    const canvas = make("canvas", { class: "dots" });
    const lines = make("canvas", { class: "overlay" });
    const names = make("div", { class: "names" });
    const tip = make("div", { class: "tip", hidden: true });
    const area = make("div", { class: "area", tabindex: 0, role: "application", "aria-label": `Map of ${count(rows.length)} clusters. Arrow keys move, plus and minus zoom, j and k step through the clusters from the middle outwards, Enter opens one, 0 shows all.` }, canvas, names, lines, tip);
    const painter = balmer.points.painter(canvas);
    const dust = Float32Array.from(fine.flat(), (value) => value / GRID);
    const look = balmer.mapView.looker(area, rows.length, { changed: ask, pressed, lasso: { on: () => lassoing, drawn: drawLasso, done: choose } });
    let colours = new Uint32Array(rows.length);
    let [hovered, lassoing, waiting, around] = [-1, false, false, []];
    let ratio = 1;
    const legend = make("ul", { class: "legend" });
    const picked = make("div", { class: "picked" });
    const live = make("p", { class: "unseen", "aria-live": "polite" });
    const toNames = (factor) => (x, y) => look.go(x, y, look.zoom() * factor);
    const regions = mapLabels.group("region", levels.regions, toNames(2.6));
    const neighbourhoods = mapLabels.group("neighbourhood", levels.neighbourhoods, toNames(2.6));
    const named = new Map();

    function recolour() {
      const { of, legend: entries } = balmer.mapColours.colours(kept.colour);
      colours = Uint32Array.from(rows, (row) => balmer.points.packed(of(row)));
      legend.replaceChildren(...mapSide.legend(entries));
      legend.hidden = entries.length === 0;
      ask();
    }

    function ask() {
      if (!waiting) requestAnimationFrame(paint);
      waiting = true;
    }

    const span = () => [...look.toPlane(-20, -20), ...look.toPlane(look.view.width + 20, look.view.height + 20)];

    function paint() {
      waiting = false;
      if (!area.isConnected) return;
      const began = performance.now();
      const grown = Math.min(3.2, look.zoom() ** 0.42) * ratio;
      const { x, y, scale, width, height } = look.view;
      const [sx, sy] = [scale * ratio, scale * ratio];
      const [ox, oy] = [(width / 2 - x * scale) * ratio, (height / 2 - y * scale) * ratio];
      painter.clear(balmer.points.packed(balmer.figures.colour("paper")));
      const grey = balmer.points.packed(balmer.figures.colour("grey"));
      for (let i = 0; i < dust.length; i += 2) painter.disc(dust[i] * sx + ox, dust[i + 1] * sy + oy, 0.6 * ratio, grey, 90);
      const dim = kept.chosen === null ? null : kept.chosen;
      const seen = [];
      near.each(...span(), (i) => {
        painter.disc(xs[i] * sx + ox, ys[i] * sy + oy, radii[i] * grown, colours[i], dim && !dim.has(i) ? 36 : 220);
        if (seen.length <= mapLabels.MOST.cluster) seen.push(i);
      });
      painter.show();
      label(seen, grown / ratio);
      drawHovered(grown / ratio);
      area.dataset.drawn = "yes";
      frames.push(performance.now() - began);
      if (frames.length > 500) frames.shift();
    }

    function label(seen, grown) {
      const [a, b, c, d] = span();
      const inView = (one) => one.x > a && one.x < c && one.y > b && one.y < d;
      const close = seen.length <= mapLabels.MOST.cluster;
      const middle = neighbourhoods.filter(inView).length <= mapLabels.MOST.neighbourhood;
      const clusters = close ? seen.map((i) => {
        if (!named.has(i)) named.set(i, mapLabels.cluster(rows[i], { x: xs[i], y: ys[i] }));
        return Object.assign(named.get(i), { below: radii[i] * grown + 3 });
      }).sort((a, b) => b.weight - a.weight) : [];
      mapLabels.put(names, close ? clusters : middle ? neighbourhoods : regions, look);
    }

    function drawHovered(grown) {
      const pen = lines.getContext("2d");
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, look.view.width, look.view.height);
      if (hovered < 0) return;
      const [x, y] = look.toScreen(xs[hovered], ys[hovered]);
      pen.strokeStyle = balmer.figures.colour("ink");
      pen.lineWidth = 1.5;
      pen.beginPath();
      pen.arc(x, y, radii[hovered] * grown + 2.5, 0, 2 * Math.PI);
      pen.stroke();
      const left = x > look.view.width - 400;
      tip.style.setProperty("transform", `translate(${Math.round(left ? Math.max(4, x - tip.offsetWidth - 14) : x + 14)}px, ${Math.round(Math.min(look.view.height - tip.offsetHeight - 6, Math.max(6, y - 20)))}px)`);
    }

    function drawLasso(path) {
      const pen = lines.getContext("2d");
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, look.view.width, look.view.height);
      pen.beginPath();
      path.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      pen.closePath();
      pen.strokeStyle = balmer.figures.colour("ink");
      pen.fillStyle = balmer.figures.colour("wash");
      pen.fill();
      pen.stroke();
    }

    function closest(px, py, reach = 14) {
      const [x, y] = look.toPlane(px, py);
      const far = reach / look.view.scale;
      let [best, least] = [-1, far * far];
      near.each(x - far, y - far, x + far, y + far, (i) => {
        const away = (xs[i] - x) ** 2 + (ys[i] - y) ** 2;
        if (away < least) [best, least] = [i, away];
      });
      return best;
    }

    function hover(i, spoken = false) {
      if (i === hovered) return;
      hovered = i;
      tip.hidden = i < 0;
      if (i >= 0) {
        tip.replaceChildren(...mapSide.card(rows[i], data));
        if (spoken) live.textContent = `Cluster ${rows[i][0]}, ${catalogue.words(rows[i])}, ${count(rows[i][AT.size])} tokens`;
      }
      area.classList.toggle("pointing", i >= 0);
      ask();
    }

    function pressed(px, py) {
      const i = closest(px, py);
      if (i >= 0) location.hash = `#cluster-${rows[i][0]}`;
    }

    function choose(polygon) {
      const chosen = polygon === null ? null : new Set(rows.flatMap((_, i) => (balmer.mapView.inside(polygon, xs[i], ys[i]) ? [i] : [])));
      kept.chosen = chosen?.size ? chosen : null;
      setLasso(false);
      listChosen();
      ask();
    }

    function listChosen() {
      const letGo = () => { kept.chosen = null; listChosen(); ask(); };
      picked.replaceChildren(...(kept.chosen === null ? [] : mapSide.chosen([...kept.chosen].map((i) => rows[i]), letGo)));
    }

    const lassoButton = make("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: () => setLasso(!lassoing) }, "Lasso");
    function setLasso(on) {
      lassoing = on;
      lassoButton.setAttribute("aria-pressed", String(on));
      area.classList.toggle("lassoing", on);
    }

    area.addEventListener("pointermove", (event) => { if (event.buttons === 0 && !event.target.closest("button, a")) hover(closest(...look.place(event))); });
    area.addEventListener("pointerleave", () => { if (document.activeElement !== area) hover(-1); });
    const search = make("input", { type: "search", id: "filter", placeholder: "find a token", "aria-label": "Mark clusters that predict a token", spellcheck: "false", autocomplete: "off", oninput: find });
    let latest = 0;
    async function find() {
      const mine = ++latest;
      const found = search.value === "" ? null : await balmer.search.clustersOf("targets", data.directory.targets, balmer.search.tokens(search.value));
      if (mine !== latest) return;
      kept.chosen = found === null ? null : new Set(found.keys());
      listChosen();
      ask();
    }

    main.replaceChildren(make("h1", { class: "unseen" }, "Map"),
      make("div", { class: "map-place" },
        make("div", { class: "map-main" }, area,
          make("div", { class: "map-tools" },
            mapSide.button("+", () => look.scaleAbout(1.6), "Zoom in"), mapSide.button("−", () => look.scaleAbout(1 / 1.6), "Zoom out"),
            mapSide.button("All", look.reset), lassoButton,
            mapSide.button("PNG", () => mapSide.savePng(area, canvas, names, ratio), "Save the map as PNG"),
            mapSide.button("CSV", () => mapSide.saveCsv(rows), "Save the map's numbers as CSV"))),
        make("aside", { class: "map-side", "aria-label": "Legend and choice" },
          search, mapSide.colourBy(data, kept.colour, (value) => { kept.colour = value; recolour(); }), legend, picked,
          make("p", { class: "soft map-note" }, `${count(rows.length)} clusters; near one another where their tokens' susceptibilities are alike. The fine dots are a sample of ${count(dust.length / 2)} tokens, clustered or not. Drag to move, scroll to zoom, Shift-drag to choose. Keys: arrows, + and −, 0 for all, j and k from cluster to cluster, Enter.`), live)));

    function fit() {
      ratio = Math.min(2, devicePixelRatio || 1);
      const { width, height } = area.getBoundingClientRect();
      look.size(width, height);
      painter.resize(Math.round(width * ratio), Math.round(height * ratio));
      Object.assign(lines, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
      ask();
    }

    fit();
    if (kept.place) Object.assign(look.view, kept.place);
    if (wanted !== undefined && catalogue.get(wanted)) { look.go(xs[wanted], ys[wanted], Math.max(1.4, Math.sqrt(rows.length / 80))); hover(wanted, true); }
    const watcher = new ResizeObserver(fit);
    watcher.observe(area);
    balmer.figures.onRedraw(stop = () => { if (area.isConnected) recolour(); });
    recolour();
    listChosen();

    /* Clusters from the middle of the view outwards, for the keyboard. */
    function step(by) {
      if (!around.length || hovered < 0) {
        const { x, y } = look.view;
        around = Array.from(rows.keys()).sort((a, b) => (xs[a] - x) ** 2 + (ys[a] - y) ** 2 - (xs[b] - x) ** 2 - (ys[b] - y) ** 2).slice(0, 400);
      }
      const at = Math.min(around.length - 1, Math.max(0, around.indexOf(hovered) + by));
      hover(around[at], true);
    }

    const keys = {
      ArrowLeft: () => look.pan(60, 0), ArrowRight: () => look.pan(-60, 0), ArrowUp: () => look.pan(0, 60), ArrowDown: () => look.pan(0, -60),
      "+": () => look.scaleAbout(1.4), "=": () => look.scaleAbout(1.4), "-": () => look.scaleAbout(1 / 1.4), 0: look.reset, Escape: () => { hover(-1); around = []; choose(null); },
      Enter: () => { if (hovered >= 0) location.hash = `#cluster-${rows[hovered][0]}`; },
    };
    area.addEventListener("keydown", (event) => { if (event.target === area && keys[event.key]) { event.preventDefault(); keys[event.key](); } });
    return { step, leave: () => { kept.place = { ...look.view }; watcher.disconnect(); balmer.figures.offRedraw(stop); } };
  }

  return { show, frames };
})();
