// Colors: two themes, one palette in both, maps for heat. All of them told apart with every common form of color blindness.
(() => {
  const root = document.documentElement;
  // Asked for some hundred times in one drawing; asking the browser each time would make it lay out the page each time.
  const kept = new Map();
  const color = (name) => {
    if (!kept.has(name)) kept.set(name, getComputedStyle(root).getPropertyValue(`--${name}`).trim());
    return kept.get(name);
  };
  const isDark = () => root.dataset.theme === "dark";

  // The palette of interp.figures on white, and the same hues, lighter, on black.
  const ON_BLACK = {
    "#0072B2": "#4FA8E0", "#D55E00": "#F08A3C", "#009E73": "#2FC79B", "#CC79A7": "#E29CC3", "#E69F00": "#F2B63C",
    "#56B4E9": "#8CCBF2", "#7F7F7F": "#A0A0A0", "#B8A800": "#D6C733", "#8A8A8A": "#8F949B", "#222": "#E8E6E1",
    "#332288": "#9A8CF5", "#999933": "#C9C84F", "#AA4499": "#E07FD0", "#117733": "#4FBF78", "#CC6677": "#F2A0AC", "#2E9C8F": "#74DCCB",
    "#882255": "#D0578F",
  };
  const shade = (hex) => (isDark() && ON_BLACK[hex]) || hex;

  const ramp = (stops) => {
    const table = new Uint32Array(256);
    for (let i = 0; i < 256; i++) {
      const at = (i / 255) * (stops.length - 1);
      const left = Math.min(Math.floor(at), stops.length - 2);
      const mix = [0, 1, 2].map((c) => Math.round(stops[left][c] + (at - left) * (stops[left + 1][c] - stops[left][c])));
      table[i] = (255 << 24) | (mix[2] << 16) | (mix[1] << 8) | mix[0];
    }
    return table;
  };
  const VIRIDIS = ramp([
    [68, 1, 84], [72, 36, 117], [65, 68, 135], [53, 95, 141], [42, 120, 142], [33, 145, 140], [34, 168, 132], [68, 191, 112],
    [122, 209, 81], [189, 223, 38], [253, 231, 37],
  ]);
  const BLUE_RED = ramp([[5, 64, 126], [67, 147, 195], [190, 218, 235], [247, 247, 247], [251, 205, 181], [214, 96, 77], [127, 8, 34]]);
  const css = (table, share) => {
    const word = table[Math.round(Math.min(Math.max(share, 0), 1) * 255)];
    return `rgb(${word & 255},${(word >> 8) & 255},${(word >> 16) & 255})`;
  };

  // A map as an image of its own, one pixel per value: value(x, y) → 0 … 1, NaN gray.
  const image = (width, height, table, value) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    const words = new Uint32Array(pixels.data.buffer);
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        const share = value(x, y);
        words[at] = share === share ? table[Math.min(255, Math.max(0, Math.round(share * 255)))] : 0xff808080;
      }
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  };

  const follow = (listener) => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const set = (theme) => {
      root.dataset.theme = theme;
      kept.clear();
      listener();
    };
    root.dataset.theme = query.matches ? "dark" : "light";
    query.addEventListener("change", () => set(query.matches ? "dark" : "light"));
    for (const button of document.querySelectorAll(".theme")) {
      button.addEventListener("click", () => set(isDark() ? "light" : "dark"));
    }
    // Paper is white.
    let before = null;
    addEventListener("beforeprint", () => {
      before = root.dataset.theme;
      set("light");
    });
    addEventListener("afterprint", () => set(before));
  };

  Object.assign(interp, { color, shade, isDark, image, css, VIRIDIS, BLUE_RED, followTheme: follow });
})();
