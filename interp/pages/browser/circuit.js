// The circuit as a diagram, with what was measured at this step on its nodes and edges.
(() => {
  const NS = "http://www.w3.org/2000/svg";
  const WIDE = 1000, ROW = 104, TOP = 54;

  const make = (parent, name, attributes = {}, text = null) => {
    const made = parent.appendChild(document.createElementNS(NS, name));
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    return made;
  };
  const curve = (x0, y0, x1, y1) => `M${x0},${y0} C${(x0 + x1) / 2},${y0} ${(x0 + x1) / 2},${y1} ${x1},${y1}`;

  const values = (run, arrays, index) => {
    const squares = Array.from(arrays.embedding_norm.row(index), (norm) => norm * norm);
    const total = squares.reduce((sum, square) => sum + square, 0) || 1;
    const heads = arrays.head_explained ? arrays.head_explained.shape[1] : 0;
    const K = squares.length;
    const explained = heads ? arrays.head_explained.row(index) : null;
    const drive = arrays.head_drive ? arrays.head_drive.row(index) : null;
    return run.circles.map((k, place) => ({
      k,
      embedded: squares[k - 1] / total,
      seen: Array.from({ length: heads }, (_, head) => explained[head * K + k - 1]),
      drive: drive ? Array.from({ length: heads }, (_, head) => drive[head * run.circles.length + place]) : null,
      neurons: arrays.periodic.row(index)[k - 1],
      wave: arrays.wave_explained.row(index)[k - 1],
      share: arrays.logit_share.row(index)[k - 1],
      without: arrays.without.row(index)[k - 1],
    }));
  };

  const ring = (run, arrays, index, place, centerX, centerY, radius) => {
    const circle = arrays.circle.row(index), n = run.n;
    // As large as the node for the last step; what lies further out before is drawn on the rim.
    if (!run.ringRadius) {
      run.ringRadius = 1e-12;
      for (const value of arrays.circle.row(run.steps.length - 1)) if (Math.abs(value) > run.ringRadius) run.ringRadius = Math.abs(value);
    }
    const rim = (value) => Math.max(-radius, Math.min(radius, (value / run.ringRadius) * radius));
    let path = "";
    for (let a = 0; a < n; a++) {
      const [x, y] = [circle[(place * n + a) * 2], circle[(place * n + a) * 2 + 1]];
      if (x === x) path += `M${(centerX + rim(x)).toFixed(1)},${(centerY - rim(y)).toFixed(1)}h0`;
    }
    return path;
  };

  // Everything of the drawing is made anew at every step: some hundred elements, about two milliseconds.
  const draw = (svg, run, arrays, state) => {
    const { index, frequency, head: picked } = state.now;
    const rows = values(run, arrays, index);
    const heads = rows[0]?.seen.length ?? 0;
    const high = TOP + Math.max(rows.length, 1) * ROW + 34;
    svg.setAttribute("viewBox", `0 0 ${WIDE} ${high}`);
    svg.replaceChildren();
    const at = heads ? { token: 18, circle: 150, head: 400, neurons: 640, logits: 850 } : { token: 18, circle: 180, head: 0, neurons: 540, logits: 850 };
    const y = (row) => TOP + (row + 0.5) * ROW;
    const headY = (head) => TOP + ((head + 0.5) * rows.length * ROW) / heads;
    const titles = [[at.circle, "embedding W_E"], [at.neurons, "neurons"], [at.logits, "logits"]];
    if (heads) titles.splice(1, 0, [at.head, "attention heads"]);
    for (const [x, title] of titles) make(svg, "text", { x, y: 20, class: "title", "text-anchor": "middle" }, title);
    const middle = TOP + (rows.length * ROW) / 2;
    make(svg, "text", { x: at.token, y: middle, class: "title", "text-anchor": "middle" }, "a, b");
    const says = [];
    rows.forEach((one, row) => {
      const hue = interp.shade(run.colors[one.k]);
      const group = make(svg, "g", { class: "row", opacity: frequency !== null && frequency !== one.k ? 0.25 : 1, "data-frequency": one.k });
      group.addEventListener("click", () => state.pick({ frequency: one.k }));
      const edge = (path, share, title) => {
        const width = share > 0 ? 0.8 + 13 * Math.min(share, 1) : 0.8;
        const made = make(group, "path", { d: path, stroke: hue, "stroke-width": width.toFixed(1), class: "edge", opacity: share > 0.02 ? 0.55 : 0.15 });
        make(made, "title", {}, title);
      };
      const label = (x, dy, text, kind = "value") => make(group, "text", { x, y: y(row) + dy, class: kind, "text-anchor": "middle" }, text);
      edge(curve(at.token + 22, middle, at.circle - 46, y(row)), one.embedded, `k = ${one.k}: ${interp.percent(one.embedded)} of the squared norm of W_E`);
      make(group, "circle", { cx: at.circle, cy: y(row), r: 42, class: "node" });
      make(group, "path", { d: ring(run, arrays, index, row, at.circle, y(row), 38), stroke: hue, class: "dots" });
      label(at.circle, 4, `k = ${one.k}`, "key");
      make(group, "text", { x: at.circle - 50, y: y(row) - 22, class: "value", "text-anchor": "end" }, interp.percent(one.embedded, 0));
      const strongest = one.drive ? one.drive.indexOf(Math.max(...one.drive)) : -1;
      for (let head = 0; head < heads; head++) {
        const drive = one.drive ? one.drive[head] : NaN;
        const share = (drive || 0) * one.embedded * (picked !== null && picked !== head ? 0.1 : 1);
        const said = `head ${head} carries ${interp.percent(drive)} of frequency ${one.k} to the neurons`;
        edge(curve(at.circle + 44, y(row), at.head - 46, headY(head)), 2.5 * share, said);
        edge(curve(at.head + 46, headY(head), at.neurons - 68, y(row)), 2.5 * share, said);
        if (head !== strongest) continue;
        const [x, height] = [at.circle + 44 + 0.24 * (at.head - at.circle - 90), y(row) + 0.15 * (headY(head) - y(row))];
        make(group, "text", { x, y: height - 6, class: "value small", "text-anchor": "middle" }, interp.percent(drive, 0));
      }
      if (!heads) edge(curve(at.circle + 44, y(row), at.neurons - 68, y(row)), one.embedded, `frequency ${one.k}`);
      make(group, "rect", { x: at.neurons - 68, y: y(row) - 29, width: 136, height: 58, rx: 8, class: "node" });
      label(at.neurons, -8, `${one.neurons} of ${run.neurons.length}`, "key");
      label(at.neurons, 9, "periodic neurons", "small");
      label(at.neurons, 23, one.wave === one.wave ? `wave of a + b: ${interp.percent(one.wave, 0)}` : "", "small");
      edge(`M${at.neurons + 68},${y(row)} H${at.logits - 76}`, one.share, `k = ${one.k} carries ${interp.percent(one.share)} of the logits’ power`);
      make(group, "text", { x: (at.neurons + at.logits) / 2 - 3, y: y(row) - 12, class: "value", "text-anchor": "middle" }, interp.percent(one.share));
      make(group, "rect", { x: at.logits - 76, y: y(row) - 29, width: 152, height: 58, rx: 8, class: "node" });
      label(at.logits, -6, `cos w_${one.k}(a+b−c)`, "key");
      label(at.logits, 13, one.without === one.without ? `loss without it ${interp.number(one.without, 2)}` : "", "small");
      says.push(`k = ${one.k}: ${interp.percent(one.embedded)} of the embedding, ${one.neurons} neurons, ${interp.percent(one.share)} of the logits.`);
    });
    for (let head = 0; head < heads; head++) {
      const group = make(svg, "g", { class: "row", opacity: picked !== null && picked !== head ? 0.35 : 1 });
      group.addEventListener("click", () => state.pick({ head }));
      make(group, "rect", { x: at.head - 46, y: headY(head) - 25, width: 92, height: 50, rx: 8, class: "node" });
      make(group, "text", { x: at.head, y: headY(head) - 4, class: "key", "text-anchor": "middle" }, `head ${head}`);
      let best = -1;
      rows.forEach((one, row) => (best = one.seen[head] === one.seen[head] && (best < 0 || one.seen[head] > rows[best].seen[head]) ? row : best));
      const words = best < 0 ? "" : `turns with k = ${rows[best].k}: ${interp.percent(rows[best].seen[head], 0)}`;
      make(group, "text", { x: at.head, y: headY(head) + 40, class: "small", "text-anchor": "middle" }, words);
    }
    const loss = run.scalars.all_loss[index];
    make(svg, "text", { x: at.logits, y: high - 12, class: "small", "text-anchor": "middle" }, `loss of the whole network ${interp.number(loss, 2)}`);
    svg.setAttribute("aria-label", `The circuit at step ${interp.count(run.steps[index])}. ${says.join(" ")}`);
  };

  interp.circuit = (root, run, arrays, state) => {
    const svg = root.querySelector(".circuit svg");
    let inSight = false, outOfDate = true;
    const redraw = (anyhow) => {
      outOfDate = !inSight && anyhow !== true;
      if (outOfDate) return;
      draw(svg, run, arrays, state);
      root.querySelector(".circuit .when").textContent = `step ${interp.count(run.steps[state.now.index])}`;
    };
    state.listen(redraw);
    new IntersectionObserver(([entry]) => {
      inSight = entry.isIntersecting;
      if (inSight && outOfDate) redraw();
    }, { rootMargin: "150px" }).observe(svg);
    return { draw: redraw };
  };
})();
