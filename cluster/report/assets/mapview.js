"use strict";
/* Where the reader looks on the map: the plane moved and scaled by pointer, wheel, fingers and keys. */
balmer.mapView = (() => {
  const CLOSEST = 60; /* as many clusters fill the view at the closest */

  /* `area` hears the events; `changed` is called after every move, `ends` when a drag ends without having moved. */
  function looker(area, count, { changed, pressed, lasso }) {
    const view = { x: 0.5, y: 0.5, scale: 1, width: 1, height: 1 };
    const fitting = () => Math.max(60, Math.min(view.width, view.height) - 48);
    const zoom = () => view.scale / fitting();
    const most = () => fitting() * Math.max(8, Math.sqrt(count / CLOSEST) * 12);

    function size(width, height) {
      const before = zoom();
      const first = view.width === 1;
      Object.assign(view, { width, height });
      view.scale = first ? fitting() : fitting() * before;
    }

    const toScreen = (x, y) => [(x - view.x) * view.scale + view.width / 2, (y - view.y) * view.scale + view.height / 2];
    const toPlane = (x, y) => [(x - view.width / 2) / view.scale + view.x, (y - view.height / 2) / view.scale + view.y];

    function clamp() {
      view.scale = Math.min(most(), Math.max(fitting() * 0.7, view.scale));
      view.x = Math.min(1.05, Math.max(-0.05, view.x));
      view.y = Math.min(1.05, Math.max(-0.05, view.y));
    }

    function scaleAbout(factor, x = view.width / 2, y = view.height / 2) {
      const before = toPlane(x, y);
      view.scale *= factor;
      clamp();
      const after = toPlane(x, y);
      view.x += before[0] - after[0];
      view.y += before[1] - after[1];
      clamp();
      changed();
    }

    function pan(x, y) {
      view.x -= x / view.scale;
      view.y -= y / view.scale;
      clamp();
      changed();
    }

    function go(x, y, factor = 1) {
      Object.assign(view, { x, y, scale: Math.max(view.scale, fitting() * factor) });
      clamp();
      changed();
    }

    const reset = () => { Object.assign(view, { x: 0.5, y: 0.5, scale: fitting() }); changed(); };

    const fingers = new Map();
    let travelled = 0;
    let drawing = null;
    const place = (event) => { const box = area.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };

    area.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.target.closest("button")) return;
      area.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, place(event));
      travelled = 0;
      drawing = fingers.size === 1 && (event.shiftKey || lasso.on()) ? [place(event)] : null;
    });

    area.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const now = place(event);
      const moved = Math.hypot(now[0] - before[0], now[1] - before[1]);
      travelled += moved;
      fingers.set(event.pointerId, now);
      if (drawing) { if (moved > 0) drawing.push(now); lasso.drawn(drawing); return; }
      if (fingers.size === 2) {
        const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
        const stretch = Math.hypot(now[0] - other[0], now[1] - other[1]) / Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1]));
        return scaleAbout(stretch, (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      }
      if (travelled > 3) pan(now[0] - before[0], now[1] - before[1]);
    });

    function lifted(event) {
      if (!fingers.delete(event.pointerId)) return;
      if (drawing) { lasso.done(drawing.length > 3 ? drawing.map(([x, y]) => toPlane(x, y)) : null); drawing = null; }
      else if (travelled <= 3 && event.type === "pointerup") pressed(...place(event));
    }

    area.addEventListener("pointerup", lifted);
    area.addEventListener("pointercancel", lifted);
    area.addEventListener("wheel", (event) => { event.preventDefault(); scaleAbout(Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0016)), ...place(event)); }, { passive: false });
    area.addEventListener("dblclick", (event) => { if (!event.target.closest("button")) scaleAbout(2, ...place(event)); });

    return { view, size, zoom, toScreen, toPlane, scaleAbout, pan, go, reset, place };
  }

  /* Whether a point lies inside a polygon: a ray from it crosses the border an odd number of times. */
  function inside(polygon, x, y) {
    let within = false;
    for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
      const [ax, ay] = polygon[i];
      const [bx, by] = polygon[j];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within;
    }
    return within;
  }

  return { looker, inside };
})();
