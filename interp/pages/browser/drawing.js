// Small drawings on a canvas: sharp on every screen, with the axes and words that all panels share.
(() => {
  const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

  // The drawing context of a canvas of this size in CSS pixels, cleared.
  const prepare = (canvas, width, height) => {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== h) {
      [canvas.width, canvas.height] = [w, h];
      canvas.style.height = `${height}px`;
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.lineJoin = "bevel"; // round joins take most of the time of a jagged line
    return context;
  };

  const write = (context, text, x, y, { align = "left", base = "alphabetic", size = 11, weight = 400, color = "soft", turn = 0, halo = false } = {}) => {
    context.save();
    context.translate(x, y);
    context.rotate(turn);
    context.font = `${weight} ${size}px ${FONT}`;
    context.textAlign = align;
    context.textBaseline = base;
    context.fillStyle = color.startsWith("#") || color.startsWith("rgb") ? color : interp.color(color);
    if (halo) {
      Object.assign(context, { strokeStyle: interp.color("paper"), lineWidth: 5, lineJoin: "round" });
      context.strokeText(text, 0, 0);
    }
    context.fillText(text, 0, 0);
    context.restore();
  };

  const line = (context, points, color, width = 1, alpha = 1) => {
    context.save();
    context.globalAlpha = alpha;
    context.strokeStyle = color;
    context.lineWidth = width;
    context.beginPath();
    let open = false;
    for (const [x, y] of points) {
      if (!(Number.isFinite(x) && Number.isFinite(y))) open = false;
      else if (open) context.lineTo(x, y);
      else {
        context.moveTo(x, y);
        open = true;
      }
    }
    context.stroke();
    context.restore();
  };

  // A dot as a picture of its own: putting down hundreds of them costs a tenth of drawing as many circles.
  const dots = new Map();
  const dot = (color, radius) => {
    const name = `${color} ${radius}`;
    if (!dots.has(name)) {
      const sharp = 3, made = document.createElement("canvas");
      made.width = made.height = Math.ceil(2 * radius * sharp);
      const context = made.getContext("2d");
      context.fillStyle = color;
      context.arc(made.width / 2, made.width / 2, radius * sharp, 0, 2 * Math.PI);
      context.fill();
      dots.set(name, made);
    }
    const picture = dots.get(name);
    return (context, x, y) => context.drawImage(picture, x - radius, y - radius, 2 * radius, 2 * radius);
  };

  // About `count` round numbers from low to high.
  const ticks = (low, high, count = 5) => {
    const rough = (high - low) / Math.max(count, 1);
    if (!(rough > 0)) return [low];
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) found.push(Math.round(value / step) * step);
    return found;
  };

  // Numbers as people write them.
  const number = (value, digits = 3) => {
    if (value === null || value === undefined || Number.isNaN(value)) return "unknown";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1000) return Math.round(value).toLocaleString("en-US");
    if (size < 0.001) return value.toExponential(digits - 1).replace(/e-(\d)$/, "e-0$1");
    return String(Number(value.toPrecision(digits)));
  };
  const SUPERSCRIPT = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
  const powerOfTen = (power) => (power === 0 ? "1" : power === 1 ? "10" : `10${[...String(power)].map((digit) => SUPERSCRIPT[digit]).join("")}`);
  const percent = (value, digits = 1) =>
    value === null || value === undefined || Number.isNaN(value) ? "unknown" : `${(100 * value).toFixed(digits)} %`;
  const count = (value) => Math.round(value).toLocaleString("en-US");

  // Places of labels, ascending, moved so that neighbors stand at least `gap` apart.
  const apart = (places, gap) => {
    const moved = [...places];
    for (let round = 0; round < 8; round++) {
      for (let i = 1; i < moved.length; i++) {
        const lack = gap - (moved[i] - moved[i - 1]);
        if (lack > 0) [moved[i - 1], moved[i]] = [moved[i - 1] - lack / 2, moved[i] + lack / 2];
      }
    }
    return moved;
  };

  Object.assign(interp, { prepare, write, line, ticks, number, powerOfTen, percent, count, apart, dot });
})();
