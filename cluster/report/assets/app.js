"use strict";
/* Which view the address asks for, the theme, and the keyboard. */
(() => {
  const main = document.getElementById("main");
  const THEMES = ["auto", "light", "dark"];
  let view = {};
  let visit = 0;

  /* Storage may be closed to pages from the file system: then the choice lasts as long as the page. */
  function remembered() {
    try { return localStorage.getItem("balmer-theme"); } catch { return null; }
  }

  function remember(theme) {
    try { localStorage.setItem("balmer-theme", theme); } catch { /* lasts as long as the page */ }
  }

  const button = document.getElementById("theme");

  function setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    button.textContent = { auto: "◐ auto", light: "○ light", dark: "● dark" }[theme];
    button.setAttribute("aria-label", `Colours: ${theme}. Change`);
    balmer.figures.redraw();
  }

  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
    remember(next);
    setTheme(next);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => balmer.figures.redraw());

  /* "#cluster-12" is a cluster, "#map-12" the map around it, "#token-7" a token by its number, "#map" a view. */
  const VIEWS = { overview: "Overview", map: "Map", clusters: "Clusters", cluster: "Cluster", token: "Token", compare: "Compare" };
  const SHOWN = { clusters: "list" };

  function route() {
    const [, name, number] = /^#([a-z]+)(?:-(\d+))?$/.exec(location.hash) ?? [];
    if (!(name in VIEWS) || (name === "cluster" && number === undefined)) return { name: "overview", title: VIEWS.overview };
    return { name, number: number === undefined ? undefined : Number(number), title: name === "cluster" ? `Cluster ${number}` : VIEWS[name] };
  }

  async function go() {
    if (location.hash === "#main") return;
    const mine = ++visit;
    const { name, number, title } = route();
    const data = await balmer.load("overview");
    if (mine !== visit) return;
    document.getElementById("model").textContent = data.run.model ?? "";
    document.title = `${title} · Balmer${data.run.model ? ` · ${data.run.model}` : ""}`;
    for (const link of document.querySelectorAll("nav [data-view]")) {
      const current = link.dataset.view === name || (name === "cluster" && link.dataset.view === "clusters");
      if (current) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.body.dataset.view = name;
    document.querySelector("nav [data-view=compare]").hidden = data.compared === null;
    const place = document.createElement("div");
    view.leave?.();
    view = {};
    main.replaceChildren(place);
    const shown = (await balmer[SHOWN[name] ?? name].show(place, data, number)) ?? {};
    if (mine !== visit) return shown.leave?.();
    view = shown;
    document.body.dataset.shown = location.hash;
    requestAnimationFrame(() => setTimeout(() => performance.mark(`shown ${name}`)));
    if (mine > 1 && !main.contains(document.activeElement)) main.focus({ preventScroll: true });
    if (name !== "clusters") scrollTo(0, 0);
    balmer.figures.clear();
  }

  function fail(error) {
    main.replaceChildren(balmer.make("h1", {}, "The report could not be read"), balmer.make("p", {}, error.message));
    console.error(error);
  }

  const KEYS = {
    "/": () => { if (document.getElementById("filter")) document.getElementById("filter").focus(); else location.hash = "#clusters"; },
    j: () => view.step?.(1), k: () => view.step?.(-1), e: () => view.expand?.(),
    g: () => { location.hash = "#overview"; }, l: () => { location.hash = "#clusters"; }, m: () => { location.hash = "#map"; }, t: () => { location.hash = "#token"; },
  };

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target.matches("input")) return event.target.blur();
    if (event.target.matches("input, select, textarea")) return;
    const action = KEYS[event.key];
    if (action) { event.preventDefault(); action(); }
  });
  addEventListener("hashchange", () => go().catch(fail));

  setTheme(THEMES.includes(remembered()) ? remembered() : "auto");
  go().catch(fail);
})();
