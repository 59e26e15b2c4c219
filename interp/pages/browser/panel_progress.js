// Numbers of the whole network: losses with and without the key frequencies, the two parts of the logits, norms by tensor.
(() => {
  const LOSSES = [
    ["train_loss", "train pairs", "#0072B2"],
    ["test_loss", "test pairs", "#D55E00"],
    ["restricted_all", "key frequencies alone", "#CC79A7"],
    ["excluded_train", "without them (train)", "#009E73"],
  ];
  interp.panels.push({
    name: "progress",
    title: "Memorizing and generalizing",
    note: "Losses in nats, logarithmic (dashed: chance, ln p). Below: what the logits’ power is made of. The rest is memorization, noise, " +
      "or a circuit of another shape.",
    span: 4,
    limits: (run) => {
      const all = LOSSES.flatMap(([name]) => run.scalars[name]).filter((value) => value !== null && value > 0);
      return { loss: [Math.floor(Math.log10(Math.max(Math.min(...all, 1), 1e-12))), Math.max(1, Math.ceil(Math.log10(Math.max(...all, 1))))] };
    },
    height: () => 330,
    draw: (context, { run, index, width, height }) => {
      const [low, high] = run.limits.loss;
      const [left, right, top] = [14, width - 12, 8], end = right - 74; // the numbers have a column of their own
      const x = (value) => left + ((Math.log10(Math.max(value, 10 ** low)) - low) / (high - low)) * (end - left);
      const band = 42;
      const chance = Math.log(run.p);
      for (const power of interp.ticks(low, high, Math.floor((end - left) / 60))) {
        if (!Number.isInteger(power)) continue;
        const at = x(10 ** power);
        interp.line(context, [[at, top], [at, top + 4 * band]], interp.color("line"));
        interp.write(context, interp.powerOfTen(power), at, top + 4 * band + 13, { align: "center", size: 10 });
      }
      context.setLineDash([3, 3]);
      interp.line(context, [[x(chance), top], [x(chance), top + 4 * band]], interp.color("soft"));
      context.setLineDash([]);
      LOSSES.forEach(([name, label, hex], row) => {
        const value = run.scalars[name][index], y = top + row * band + 28;
        interp.write(context, label, left, y - 11, { color: "ink", halo: true });
        interp.write(context, value === null ? "unknown" : interp.number(value), right, y + 4, { align: "right", color: "ink", weight: 600 });
        if (value === null) return;
        interp.line(context, [[left, y], [x(value), y]], interp.shade(hex), 2.5);
        context.fillStyle = interp.shade(hex);
        context.beginPath();
        context.arc(x(value), y, 5, 0, 7);
        context.fill();
      });
      const [key, cosines] = [run.scalars.cosine_of_key[index] || 0, run.scalars.cosine_of_all[index] || 0];
      const parts = [
        ["cos w_k(a+b−c), key k", key, "#0072B2"],
        ["cos w_k(a+b−c), other k", Math.max(cosines - key, 0), "#56B4E9"],
        ["the rest", Math.max(1 - cosines, 0), "#7F7F7F"],
      ];
      let from = left;
      const y = top + 4 * band + 30;
      parts.forEach(([label, share, hex], row) => {
        context.fillStyle = interp.shade(hex);
        context.fillRect(from, y, share * (right - left), 16);
        from += share * (right - left);
        context.fillRect(left, y + 27 + row * 19, 10, 10);
        interp.write(context, label, left + 16, y + 36 + row * 19, { color: "ink" });
        interp.write(context, interp.percent(share), right, y + 36 + row * 19, { align: "right", color: "ink", weight: 600 });
      });
      return (px, py) => {
        const row = Math.floor((py - top) / band);
        if (row >= 0 && row < LOSSES.length) return { text: `loss, ${LOSSES[row][1]}: ${interp.number(run.scalars[LOSSES[row][0]][index], 6)} nats` };
        return py > y - 4 ? { text: parts.map(([label, share]) => `${label}: ${interp.percent(share, 2)} of centred logit power`).join("\n") } : null;
      };
    },
    says: ({ run, index }) => LOSSES.map(([name, label]) => `Loss, ${label}: ${interp.number(run.scalars[name][index])}.`).join(" "),
  });

  const short = (name) => name.replace(/^blocks\.(\d+)\.(attn|mlp)\./, (_, layer) => (layer === "0" ? "" : `${layer}.`)).replace(/^(embed|pos_embed|unembed|mlp)\./, "");
  const ROW = 21;
  interp.panels.push({
    name: "norms",
    title: "Weight norms",
    note: "L2 norm of every tensor; the thin mark is where it began.",
    span: 4,
    limits: (run, arrays) => ({ norms: interp.span(run, arrays.norms) }),
    height: (width, run) => Math.max(run.tensors.length * ROW + 8, 120),
    draw: (context, { run, arrays, index, width }) => {
      const norms = arrays.norms.row(index), first = arrays.norms.row(0);
      const left = 50, right = width - 50;
      const x = (value) => left + (value / run.limits.norms[1]) * (right - left);
      run.tensors.forEach((name, row) => {
        const y = row * ROW + 6;
        interp.write(context, short(name), left - 6, y + 12, { align: "right", color: "ink" });
        context.fillStyle = interp.shade("#56B4E9");
        context.fillRect(left, y + 1, Math.max(x(norms[row] || 0) - left, 1), 14);
        interp.line(context, [[x(first[row]), y - 2], [x(first[row]), y + 18]], interp.color("ink"), 1.5);
        interp.write(context, norms[row] === norms[row] ? norms[row].toFixed(2) : "unknown", width - 6, y + 12, { align: "right", color: "ink" });
      });
      return (px, py) => {
        const row = Math.floor(py / ROW);
        if (row < 0 || row >= run.tensors.length) return null;
        return { text: `${run.tensors[row]}: L2 norm ${interp.number(norms[row], 6)}; at step ${interp.count(run.steps[0])} ${interp.number(first[row], 6)}` };
      };
    },
  });
})();
