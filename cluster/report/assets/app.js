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

  function route() {
    const hash = location.hash.slice(1);
    const cluster = /^cluster-(\d+)$/.exec(hash);
    if (cluster) return { name: "cluster", number: Number(cluster[1]), title: `Cluster ${cluster[1]}` };
    return hash.startsWith("clusters") ? { name: "clusters", title: "Clusters" } : { name: "overview", title: "Overview" };
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
    const place = document.createElement("div");
    main.replaceChildren(place);
    view = (await balmer[name === "clusters" ? "list" : name].show(place, data, number)) ?? {};
    if (mine !== visit) return;
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
    g: () => { location.hash = "#overview"; }, l: () => { location.hash = "#clusters"; },
  };

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target.id === "filter") return event.target.blur();
    if (event.target.matches("input, select, textarea")) return;
    const action = KEYS[event.key];
    if (action) { event.preventDefault(); action(); }
  });
  addEventListener("hashchange", () => go().catch(fail));

  setTheme(THEMES.includes(remembered()) ? remembered() : "auto");
  go().catch(fail);
})();
