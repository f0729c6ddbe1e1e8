"use strict";
/* Many small discs on a canvas, written pixel by pixel: one image each frame, however many discs there are. */
balmer.points = (() => {
  /* Offsets and coverages of a disc's pixels, by radius in quarters of a pixel. */
  function stamp(radius, width) {
    const reach = Math.ceil(radius);
    const offsets = [];
    const covers = [];
    for (let y = -reach; y <= reach; y++) {
      for (let x = -reach; x <= reach; x++) {
        const cover = Math.max(0, Math.min(1, radius + 0.5 - Math.hypot(x, y)));
        if (cover > 0) { offsets.push(y * width + x); covers.push(Math.round(cover * 256)); }
      }
    }
    return { reach, offsets: Int32Array.from(offsets), covers: Int32Array.from(covers) };
  }

  function painter(canvas) {
    const context = canvas.getContext("2d", { alpha: false });
    let image = null;
    let pixels = null;
    let stamps = [];

    function resize(width, height) {
      canvas.width = Math.max(1, width);
      canvas.height = Math.max(1, height);
      image = context.createImageData(canvas.width, canvas.height);
      pixels = new Uint32Array(image.data.buffer);
      stamps = [];
    }

    const clear = (colour) => pixels.fill(colour);
    const show = () => context.putImageData(image, 0, 0);

    /* A disc in device pixels; colour as 0xAABBGGRR, strength from 0 to 256. Discs over the border are left out. */
    function disc(x, y, radius, colour, strength) {
      const quarter = Math.max(1, Math.round(radius * 4));
      const { reach, offsets, covers } = stamps[quarter] ??= stamp(quarter / 4, canvas.width);
      const column = x | 0, row = y | 0;
      if (column < reach || row < reach || column >= canvas.width - reach || row >= canvas.height - reach) return;
      const middle = row * canvas.width + column;
      const red = colour & 255, green = (colour >> 8) & 255, blue = (colour >> 16) & 255;
      for (let i = 0; i < offsets.length; i++) {
        const at = middle + offsets[i];
        const under = pixels[at];
        const cover = (covers[i] * strength) >> 8;
        const r = under & 255, g = (under >> 8) & 255, b = (under >> 16) & 255;
        pixels[at] = 0xff000000 | ((b + (((blue - b) * cover) >> 8)) << 16) | ((g + (((green - g) * cover) >> 8)) << 8) | (r + (((red - r) * cover) >> 8));
      }
    }

    return { resize, clear, disc, show };
  }

  /* "#rrggbb" as the canvas holds it. */
  function packed(hex) {
    const value = parseInt(hex.slice(1), 16);
    return ((255 << 24) | ((value & 255) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
  }

  /* Which points lie near a place: cells of a grid over the unit square, each a run of one array. */
  function grid(xs, ys, side = 96) {
    const cellOf = (i) => Math.min(side - 1, Math.max(0, Math.floor(ys[i] * side))) * side + Math.min(side - 1, Math.max(0, Math.floor(xs[i] * side)));
    const starts = new Int32Array(side * side + 1);
    for (let i = 0; i < xs.length; i++) starts[cellOf(i) + 1]++;
    for (let cell = 0; cell < side * side; cell++) starts[cell + 1] += starts[cell];
    const places = starts.slice();
    const members = new Int32Array(xs.length);
    for (let i = 0; i < xs.length; i++) members[places[cellOf(i)]++] = i;

    /* Call f for every point of the cells that a rectangle touches. */
    function each(left, top, right, bottom, f) {
      const clip = (value) => Math.min(side - 1, Math.max(0, Math.floor(value * side)));
      for (let row = clip(top); row <= clip(bottom); row++) {
        for (let column = clip(left); column <= clip(right); column++) {
          const cell = row * side + column;
          for (let k = starts[cell]; k < starts[cell + 1]; k++) f(members[k]);
        }
      }
    }

    return { each };
  }

  return { painter, packed, grid };
})();
