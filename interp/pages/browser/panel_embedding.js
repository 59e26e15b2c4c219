// The embedding: its circles, and the spectra of what comes in and what goes out.
(() => {
  const fit = (circle, at, n, k) => {
    // The share of what lies in the plane that frequency k explains.
    let total = 0;
    const parts = [0, 0, 0, 0];
    for (let a = 0; a < n; a++) {
      const [x, y] = [circle[at + 2 * a], circle[at + 2 * a + 1]];
      const angle = (2 * Math.PI * ((k * a) % n)) / n;
      total += x * x + y * y;
      parts[0] += x * Math.cos(angle);
      parts[1] += x * Math.sin(angle);
      parts[2] += y * Math.cos(angle);
      parts[3] += y * Math.sin(angle);
    }
    const scale = 2 * k === n ? 1 / n : 2 / n;
    return total > 0 ? (scale * parts.reduce((sum, part) => sum + part * part, 0)) / total : NaN;
  };

  // As many columns as the waves below have, so that a circle stands above the neurons of its frequency.
  const layout = (width, run) => {
    const columns = Math.min(run.circles.length, width < 560 ? 2 : 8);
    return { columns, size: Math.min(width / columns, 250) };
  };

  interp.panels.push({
    name: "circles",
    title: "The embedding’s circles",
    note: (run) => (run.key.length ? "" : "No frequency is key: these are the loudest. ") + "The residues in the two directions of the embedding space nearest to cosine and sine of each frequency, joined in the order " +
      "of their angle w_k a; one scale for all steps. The number is the share of what lies in this plane that frequency k explains.",
    span: 12,
    height: (width, run) => {
      const { columns, size } = layout(width, run);
      return Math.ceil(run.circles.length / columns) * (size + 20);
    },
    limits: (run, arrays) => ({ circle: [0, Math.max(...arrays.circle.limits().map(Math.abs)) || 1] }),
    draw: (context, { run, arrays, index, now, width }) => {
      const { columns, size } = layout(width, run), n = run.n;
      const circle = arrays.circle.row(index);
      const [, radius] = run.limits.circle;
      const cells = run.circles.map((k, place) => {
        const centerX = (place % columns + 0.5) * (width / columns);
        const centerY = Math.floor(place / columns) * (size + 20) + size / 2 + 20;
        const scale = (size / 2 - 10) / radius, at = place * n * 2;
        const hue = interp.shade(run.colors[k]);
        const faded = now.frequency !== null && now.frequency !== k ? 0.25 : 1;
        const spot = (a) => [centerX + circle[at + 2 * a] * scale, centerY - circle[at + 2 * a + 1] * scale];
        const order = Array.from({ length: n }, (_, a) => a).sort((a, b) => ((k * a) % n) - ((k * b) % n) || a - b);
        interp.line(context, [[centerX - size / 2 + 10, centerY], [centerX + size / 2 - 10, centerY]], interp.color("line"));
        interp.line(context, [[centerX, centerY - size / 2 + 10], [centerX, centerY + size / 2 - 10]], interp.color("line"));
        interp.line(context, [...order, order[0]].map(spot), hue, 1, 0.35 * faded);
        context.globalAlpha = faded;
        const dot = interp.dot(hue, n > 150 ? 1.6 : 2.4);
        for (let a = 0; a < n; a++) dot(context, ...spot(a));
        for (const a of n > 1 ? [0, 1] : [0]) {
          const [x, y] = spot(a);
          interp.write(context, a, x + 5, y - 4, { color: "ink", weight: 700 });
        }
        context.globalAlpha = 1;
        interp.write(context, `k = ${k}`, centerX - size / 2 + 8, centerY - size / 2 - 3, { weight: 700, size: 12, color: hue });
        const share = fit(circle, at, n, k);
        interp.write(context, interp.percent(share, 0), centerX + size / 2 - 8, centerY - size / 2 - 3, { align: "right" });
        return { k, centerX, centerY, spot, share, at };
      });
      return (x, y) => {
        const cell = cells.find((one) => Math.abs(x - one.centerX) < size / 2 && Math.abs(y - one.centerY) < size / 2);
        if (!cell) return null;
        let best = 0, distance = 1e9;
        for (let a = 0; a < n; a++) {
          const [px, py] = cell.spot(a);
          const d = (px - x) ** 2 + (py - y) ** 2;
          if (d < distance) [best, distance] = [a, d];
        }
        const where = [0, 1].map((axis) => interp.number(circle[cell.at + 2 * best + axis])).join(", ");
        return {
          text: `residue ${best}: (${where})\nk = ${cell.k} explains ${interp.percent(cell.share)} of what lies in this plane`,
          pick: { frequency: cell.k },
        };
      };
    },
    says: ({ run }) => `Frequencies ${run.circles.join(", ")}.`,
  });

  const ROWS = [
    ["embedding_norm", "norm of W_E at k", (value) => interp.number(value)],
    ["output_norm", "norm of W_L at k", (value) => interp.number(value)],
    ["logit_share", "share of logit power at k", (value) => interp.percent(value)],
  ];
  interp.panels.push({
    name: "spectra",
    title: "Spectra",
    note: "What the embedding W_E, the neurons’ map to the logits W_L and the logits themselves hold at each frequency; one scale for all steps. " +
      "Key frequencies of the last checkpoint in color.",
    span: 6,
    limits: (run, arrays) => Object.fromEntries(ROWS.map(([name]) => [name, interp.span(run, arrays[name])])),
    height: (width) => (width < 460 ? 330 : 440), // as high as the logits beside it
    draw: (context, { run, arrays, index, now, width, height }) => {
      const K = arrays.embedding_norm.shape[1], band = (height - 14) / 3;
      const [left, right] = [34, width - 6], step = (right - left) / K;
      ROWS.forEach(([name, label, said], row) => {
        const values = arrays[name].row(index);
        const [, highest] = run.limits[name];
        const [top, bottom] = [row * band + 18, (row + 1) * band - 4];
        interp.line(context, [[left, bottom + 0.5], [right, bottom + 0.5]], interp.color("line"));
        for (const tick of interp.ticks(0, highest, 2)) {
          const y = bottom - (tick / highest) * (bottom - top);
          interp.write(context, name === "logit_share" ? interp.percent(tick, highest < 0.02 ? 2 : highest < 0.1 ? 1 : 0) : interp.number(tick), left - 4, y, { align: "right", base: "middle", size: 10 });
        }
        interp.write(context, label, left, top - 6, { color: "ink" });
        for (let k = 1; k <= K; k++) {
          const high = ((values[k - 1] || 0) / highest) * (bottom - top);
          context.fillStyle = run.key.includes(k) ? interp.shade(run.colors[k]) : interp.color("gray");
          context.globalAlpha = now.frequency !== null && now.frequency !== k ? 0.3 : 1;
          context.fillRect(left + (k - 1) * step + 0.5, bottom - high, Math.max(step - 1, 0.8), high);
        }
        context.globalAlpha = 1;
      });
      const labels = interp.apart(run.key.map((k) => left + (k - 0.5) * step), 18);
      run.key.forEach((k, i) => {
        interp.write(context, k, labels[i], height - 3, { align: "center", size: 10, weight: 700, color: interp.shade(run.colors[k]) });
      });
      return (x, y) => {
        const k = Math.floor((x - left) / step) + 1;
        if (k < 1 || k > K) return null;
        return { text: [`frequency ${k}`, ...ROWS.map(([name, label, said]) => `${label}: ${said(arrays[name].row(index)[k - 1])}`)].join("\n"), pick: { frequency: k } };
      };
    },
  });
})();
