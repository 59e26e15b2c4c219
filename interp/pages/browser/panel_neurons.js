// Neurons: the map of neurons and frequencies, and their responses as lines, by frequency.
(() => {
  const LINES = 12; // of one frequency, evenly chosen; the picked neuron always

  // Neurons stand in the order of their frequency at the last checkpoint, so that places keep their meaning while the slider moves.
  const groups = (run, arrays) => {
    if (run.groups) return run.groups;
    const last = arrays.dominant.row(run.steps.length - 1);
    run.groups = [];
    last.forEach((k, place) => {
      const open = run.groups.at(-1);
      if (open && open.k === k) open.end = place + 1;
      else run.groups.push({ k, start: place, end: place + 1 });
    });
    return run.groups;
  };

  // The key frequencies; without any, those that most neurons have.
  const waves = (run, arrays) => {
    if (run.waves) return run.waves;
    const byCount = groups(run, arrays).filter(({ k }) => k > 0).sort((one, other) => other.end - other.start - (one.end - one.start));
    run.waves = run.key.length ? run.circles : byCount.slice(0, 4).map(({ k }) => k).sort((one, other) => one - other);
    return run.waves;
  };

  interp.panels.push({
    name: "neuron_map",
    title: "Neurons and frequencies",
    note: (run) =>
      `Share of each neuron’s variance at each frequency. Columns: ${run.neurons.length} neurons, in the order of their frequency at step ` +
      `${interp.count(run.last_step)}. Rows: frequencies k. Gray: neurons that never fire.`,
    span: 8,
    height: (width) => (width < 500 ? 240 : 350),
    draw: (context, { run, arrays, index, now, width, height }) => {
      const share = arrays.share.row(index), [, n, K] = arrays.share.shape;
      const [left, top, right, bottom] = [30, 16, width - 34, height - 30];
      const map = interp.image(n, K, interp.VIRIDIS, (x, y) => share[x * K + (K - 1 - y)]);
      context.imageSmoothingEnabled = false;
      context.drawImage(map, left, top, right - left, bottom - top);
      const column = (right - left) / n, row = (bottom - top) / K;
      const y = (k) => bottom - (k - 0.5) * row;
      for (const k of interp.ticks(1, K, 6).filter((k) => k >= 1)) interp.write(context, k, left - 5, y(k), { align: "right", base: "middle" });
      const labels = interp.apart(run.key.map((k) => -y(k)), 13);
      run.key.forEach((k, i) => {
        interp.write(context, k, right + 5, -labels[i], { base: "middle", weight: 700, color: interp.shade(run.colors[k]) });
      });
      for (const { k, start, end } of groups(run, arrays)) {
        if (!run.key.includes(k)) continue;
        context.fillStyle = interp.shade(run.colors[k]);
        context.fillRect(left + start * column, bottom + 3, Math.max((end - start) * column - 1, 1), 4);
        if ((end - start) * column > 18) {
          const middle = left + ((start + end) / 2) * column;
          interp.write(context, `k = ${k}`, middle, bottom + 19, { align: "center" });
        }
      }
      interp.write(context, "k", left - 5, top - 5, { align: "right" });
      const mark = interp.color("mark");
      if (now.frequency) {
        context.strokeStyle = mark;
        context.lineWidth = 1.5;
        context.strokeRect(left - 1, y(now.frequency) - row / 2 - 1, right - left + 2, row + 2);
      }
      if (now.neuron !== null) {
        const place = run.neurons.indexOf(now.neuron);
        context.strokeStyle = mark;
        context.lineWidth = 1.5;
        context.strokeRect(left + place * column - 1, top - 1, Math.max(column, 1) + 2, bottom - top + 2);
      }
      return (px, py) => {
        const place = Math.floor((px - left) / column), k = K - Math.floor((py - top) / row);
        if (place < 0 || place >= n || k < 1 || k > K) return null;
        const neuron = run.neurons[place];
        const dominant = arrays.dominant.row(index)[place];
        return {
          text: `neuron ${neuron}, frequency ${k}: ${interp.percent(share[place * K + k - 1])}\nits strongest: ` +
            (dominant ? `k = ${dominant}, ${interp.percent(arrays.explained.row(index)[place])}` : "none, it is dead"),
          pick: { neuron, frequency: dominant || null },
        };
      };
    },
    says: ({ run, index }) => `${interp.count(run.scalars.periodic[index])} of ${run.neurons.length} neurons have one frequency.`,
  });

  interp.panels.push({
    name: "neuron_lines",
    title: "Neurons as waves",
    note: "Each neuron’s response to a (mean over b), scaled to the same height; residues a in the order of the angle w_k a, so that a " +
      `neuron of frequency k is one wave. Up to ${LINES} neurons of each frequency; a picked one is drawn bold.`,
    span: 12,
    height: (width, run, arrays) => (width < 560 ? 120 * Math.ceil(waves(run, arrays).length / 2) : 190),
    draw: (context, { run, arrays, index, now, width, height }) => {
      const shown = waves(run, arrays);
      const columns = width < 560 ? Math.min(2, shown.length) : shown.length;
      const rows = Math.ceil(shown.length / columns), n = run.n;
      const responses = arrays.responses.row(index), dominantNow = arrays.dominant.row(index);
      const [w, h] = [width / columns, height / rows];
      const cells = shown.map((k, place) => {
        const [x0, y0] = [(place % columns) * w + 4, Math.floor(place / columns) * h + 20];
        const [wide, high] = [w - 12, h - 28];
        const group = groups(run, arrays).find((one) => one.k === k) || { start: 0, end: 0 };
        const members = run.lines.map((at, line) => ({ at, line })).filter(({ at }) => at >= group.start && at < group.end);
        const every = Math.max(1, Math.ceil(members.length / LINES));
        const order = Array.from({ length: n }, (_, a) => a).sort((a, b) => ((k * a) % n) - ((k * b) % n) || a - b);
        const hue = interp.shade(run.colors[k] || "#8A8A8A");
        const faded = now.frequency !== null && now.frequency !== k;
        const wave = (line, color, thick, alpha) => {
          let most = 0;
          for (let a = 0; a < n; a++) most = Math.max(most, Math.abs(responses[line * n + a]) || 0);
          const points = [];
          for (let i = 0; i < n; i++) {
            points.push([x0 + (i / Math.max(n - 1, 1)) * wide, y0 + high / 2 - ((responses[line * n + order[i]] / (most || 1)) * high) / 2]);
          }
          interp.line(context, points, color, thick, alpha);
        };
        members.forEach(({ line }, i) => i % every === 0 && wave(line, hue, 1, faded ? 0.1 : 0.6));
        const picked = members.find(({ at }) => run.neurons[at] === now.neuron);
        if (picked) wave(picked.line, interp.color("ink"), 2.4, 1);
        let still = 0;
        for (let at = group.start; at < group.end; at++) still += dominantNow[at] === k;
        interp.write(context, `k = ${k}`, x0, y0 - 7, { weight: 700, size: 12, color: hue });
        if (wide > 130) interp.write(context, `${still} of ${group.end - group.start}`, x0 + wide, y0 - 7, { align: "right" });
        return { k, x0, y0, wide, high, size: group.end - group.start, still };
      });
      return (x, y) => {
        const cell = cells.find((one) => x >= one.x0 && x <= one.x0 + one.wide && y >= one.y0 - 20 && y <= one.y0 + one.high);
        if (!cell) return null;
        const text = `k = ${cell.k}: ${cell.size} neurons have it as their strongest at the last checkpoint,\n${cell.still} of them have it now; ` +
          `${arrays.periodic.row(index)[cell.k - 1]} neurons in all are periodic in it now`;
        return { text, pick: { frequency: cell.k } };
      };
    },
  });
})();
