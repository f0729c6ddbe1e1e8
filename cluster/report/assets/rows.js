"use strict";
/* A long table of which only what is looked at exists: sorted by its headings, walked by keyboard. */
balmer.rows = (() => {
  const { make } = balmer;
  const BEYOND = 8;

  /* columns: {name, by, falling, class}; state: {by, falling, scroll, focus} outlives the view; line(row): cells. */
  function table({ label, columns, state, line, href, onSort }) {
    let order = [];
    const space = make("div", { class: "space", role: "rowgroup" });
    const top = make("div", { role: "rowgroup", class: "head-place" });
    const view = make("div", { class: "rows" }, top, space);
    const element = make("div", { class: "grid", role: "table", "aria-label": label }, view);
    const height = () => parseFloat(getComputedStyle(view).getPropertyValue("--row"));

    function header() {
      return make("div", { class: "row head", role: "row", "aria-rowindex": 1 }, ...columns.map(({ name, by, falling, class: kind, title }) => {
        if (by === null) return make("span", { role: "columnheader", class: kind, title }, name);
        const current = state.by === by;
        const turn = () => {
          if (state.by === by) state.falling = !state.falling;
          else Object.assign(state, { by, falling });
          onSort();
          top.querySelector("[aria-sort$=ending] button")?.focus();
        };
        return make("span", { role: "columnheader", class: kind, title, "aria-sort": current ? (state.falling ? "descending" : "ascending") : "none" },
          make("button", { type: "button", class: "sort", onclick: turn }, make("span", { class: "arrow", "aria-hidden": "true" }, current ? (state.falling ? "↓" : "↑") : ""), name));
      }));
    }

    function drawn(row, index) {
      const cells = line(row).map((content, i) => make("span", { role: "cell", class: columns[i].class }, ...[content].flat()));
      const link = make("a", { href: href(row), class: "row", role: "row", "aria-rowindex": index + 2, "data-index": index }, ...cells);
      link.style.setProperty("top", `calc(${index} * var(--row))`);
      return link;
    }

    function paint() {
      const each = height();
      const first = Math.max(0, Math.floor(view.scrollTop / each) - BEYOND);
      const last = Math.min(order.length, Math.ceil((view.scrollTop + view.clientHeight) / each) + BEYOND);
      const active = document.activeElement?.dataset?.index;
      space.replaceChildren(...order.slice(first, last).map((row, i) => drawn(row, first + i)));
      if (active !== undefined) space.querySelector(`[data-index="${active}"]`)?.focus({ preventScroll: true });
      if (order.length === 0) space.append(make("p", { class: "soft none" }, "Nothing matches."));
    }

    function show(rows, { keep = false } = {}) {
      order = rows;
      top.replaceChildren(header());
      element.setAttribute("aria-rowcount", order.length + 1);
      space.style.setProperty("height", `calc(${order.length} * var(--row))`);
      view.scrollTop = keep ? state.scroll : 0;
      paint();
    }

    /* Move the keyboard's place by some rows, scrolling as needed. */
    function step(by) {
      if (order.length === 0) return;
      const inside = space.contains(document.activeElement);
      const index = Math.min(order.length - 1, Math.max(0, inside ? state.focus + by : state.focus));
      const each = height();
      if (index * each < view.scrollTop) view.scrollTop = index * each;
      if ((index + 2) * each > view.scrollTop + view.clientHeight) view.scrollTop = (index + 2) * each - view.clientHeight;
      state.focus = index;
      requestAnimationFrame(() => requestAnimationFrame(() => space.querySelector(`[data-index="${index}"]`)?.focus({ preventScroll: true })));
    }

    let waiting = false;
    view.addEventListener("scroll", () => {
      state.scroll = view.scrollTop;
      if (!waiting) requestAnimationFrame(() => { waiting = false; paint(); });
      waiting = true;
    });
    new ResizeObserver(paint).observe(view);
    view.addEventListener("focusin", (event) => { const index = event.target.closest("[data-index]")?.dataset.index; if (index !== undefined) state.focus = Number(index); });
    return { element, show, step };
  }

  return { table };
})();
